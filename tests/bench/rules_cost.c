/*
 * What the rules take, in microseconds of CPU time, the least of many runs, for
 * other programs on the machine only add to it:
 *
 *   rules_cost [--mdwe] [CASE …]
 *
 * Prints a line of JSON for each case. --mdwe: memory may not be writable and
 * executable, as under systemd's MemoryDenyWriteExecute, so no JIT. A case is one
 * line in the table below.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/rules.h"
#include "core/filter/bots.h"
#include "core/filter/bots_probe.h"

enum { BATCH_NS_MIN = 1000000, BATCHES = 300 };

typedef struct {
    mayday_bots_t *bots;
    mayday_probes_t *probes;
    mayday_slice_t agent;
    mayday_record_view_t view;
    mayday_settings_t settings;
    mayday_rules_t *rules;
    size_t found; /* so that nothing is left out as useless */
} bench_t;

/* ---- an event as a server captures it: about 3 KB of JSON ---- */

#define BROWSER                                                                                    \
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "            \
    "Chrome/140.0.0.0 Safari/537.36"

static void
set_text(mayday_record_view_t *view, mayday_field_t field, const char *text, size_t len)
{
    view->text[field] = mayday_slice(text, len);
    view->present |= (uint64_t) 1 << field;
}

static void
set_u64(mayday_record_view_t *view, mayday_field_t field, uint64_t number)
{
    view->u64[field] = number;
    view->present |= (uint64_t) 1 << field;
}

#define SET_TEXT(view, ID, text) set_text(view, MAYDAY_FIELD_##ID, text, sizeof(text) - 1)
#define SET_U64(view, ID, number) set_u64(view, MAYDAY_FIELD_##ID, number)

static void
add_headers(mayday_record_view_t *view)
{
    static const char *const headers[][2] = {
        {"Host", "shop.example.com"},
        {"User-Agent", BROWSER},
        {"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
        {"Accept-Language", "en-US,en;q=0.5"},
        {"Accept-Encoding", "gzip, deflate, br"},
        {"Referer", "https://shop.example.com/cart?page=2&coupon=SPRING"},
        {"Authorization", "[Filtered]"},
        {"Cookie", "[Filtered]"},
        {"X-Request-Id", "0af7651916cd43dd8448eb211c80319c"},
        {"Cache-Control", "no-cache"},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(headers); i++) {
        view->headers[view->header_count++] =
            (mayday_pair_t){mayday_slice_str(headers[i][0]), mayday_slice_str(headers[i][1])};
    }
}

static void
make_view(mayday_record_view_t *view)
{
    memset(view, 0, sizeof(*view));
    SET_U64(view, TIME_US, 1795352400123456u);
    SET_U64(view, KIND, MAYDAY_KIND_UPSTREAM_REFUSED);
    SET_U64(view, STATUS, 502);
    SET_U64(view, DURATION_US, 1234567);
    SET_U64(view, ERRNO, 111);
    SET_TEXT(view, EVENT_ID, "\xfc\x6d\x8c\x0c\x43\xfc\x46\x30\xad\x85\x0e\xe5\x18\xf1\xb9\xd0");
    SET_TEXT(view, METHOD, "GET");
    SET_TEXT(view, SCHEME, "https");
    SET_TEXT(view, HOST, "shop.example.com");
    SET_TEXT(view, PATH, "/orders/1234/items");
    SET_TEXT(view, QUERY, "page=2&token=[Filtered]&q=caf%C3%A9+noir");
    SET_TEXT(view, PROTOCOL, "HTTP/2.0");
    SET_TEXT(view, VIRTUAL_HOST, "shop.example.com");
    SET_U64(view, SERVER_PORT, 443);
    SET_TEXT(view, LOCATION, "/orders/");
    SET_TEXT(view, TLS_PROTOCOL, "TLSv1.3");
    SET_TEXT(view, TLS_CIPHER, "TLS_AES_256_GCM_SHA384");
    SET_U64(view, REQUEST_BYTES, 842);
    SET_U64(view, RESPONSE_BYTES, 512);
    SET_TEXT(view, TRACE_ID, "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c");
    SET_TEXT(view, SPAN_ID, "\xb7\xad\x6b\x71\x69\x20\x33\x31");
    SET_U64(view, CONNECTION, 4711);
    SET_TEXT(view, UPSTREAM, "shop_backend");
    add_headers(view);
    for (size_t i = 0; i < 2; i++) {
        view->attempts[i].peer =
            i == 0 ? MAYDAY_SLICE("10.0.0.4:8080") : MAYDAY_SLICE("10.0.0.5:8080");
        view->attempts[i].timing = (mayday_record_attempt_t){0, -1, -1, 0, 0};
    }
    view->attempt_count = 2;
    view->log_lines[0].info = (mayday_record_log_line_t){3, 0, 1795352400122956u};
    view->log_lines[0].text =
        MAYDAY_SLICE("connect() failed (111: Connection refused) while connecting to upstream");
    view->log_line_count = 1;
}

/* ---- what is measured ---- */

static void
decide(bench_t *b)
{
    b->found += mayday_bots_classify(b->bots, b->agent).class;
}

static void
prepare_browser(bench_t *b)
{
    b->agent = MAYDAY_SLICE(BROWSER);
}

static void
prepare_bot(bench_t *b)
{
    b->agent =
        MAYDAY_SLICE("Mozilla/5.0 (compatible; Googlebot/2.1; +http://google.test/bot.html)");
}

static void
prepare_long(bench_t *b)
{
    static char agent[1024];

    for (size_t i = 0; i < sizeof(agent); i++) {
        agent[i] = BROWSER[i % (sizeof(BROWSER) - 1)];
    }
    b->agent = mayday_slice(agent, sizeof(agent));
}

/* Beginnings of words without their ends, each another way through the table. */
static void
prepare_hostile(bench_t *b)
{
    static const char *const words[] = {
#define MAYDAY_BOT(class, word) word,
#define MAYDAY_BOT_WORD(class, where, word)
#define MAYDAY_BOT_GUESS(class, where, word)
#define MAYDAY_BOT_NOT(word)
#define MAYDAY_BOT_NO_GUESS(word)
#define MAYDAY_BOT_DEVICE(word)
#define MAYDAY_BOT_SIGN(word)
#include "core/filter/bots.def"
    };
    static char agent[8192];
    size_t len = 0;

    for (size_t i = 0; len < sizeof(agent); i = (i + 331) % MAYDAY_COUNT(words)) {
        for (const char *c = words[i]; c[0] != '\0' && c[1] != '\0' && len < sizeof(agent); c++) {
            agent[len++] = *c;
        }
    }
    b->agent = mayday_slice(agent, sizeof(agent));
}

static void
probe(bench_t *b)
{
    const mayday_record_view_t *view = &b->view;

    b->found += mayday_probe_path(b->probes, mayday_view_text(view, PATH), 0) != NULL;
    b->found += mayday_probe_method(mayday_view_text(view, METHOD)) != NULL;
    b->found += mayday_probe_text(b->probes, mayday_view_text(view, QUERY)) != NULL;
    for (size_t i = 0; i < view->header_count; i++) {
        b->found += mayday_probe_text(b->probes, view->headers[i].value) != NULL;
    }
}

static void
load(bench_t *b, const char *text)
{
    static const uint8_t hash_key[16] = {1};
    char file[] = "/tmp/mayday-bench-XXXXXX", error[512];
    int fd = mkstemp(file);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text)) {
        perror(file);
        exit(2);
    }
    close(fd);
    b->rules = mayday_rules_new(file, "lua", hash_key, error, sizeof(error));
    unlink(file);
    if (b->rules == NULL) {
        fprintf(stderr, "%s\n", error);
        exit(2);
    }
}

/* One event from its record through the rules. */
static void
run_rules(bench_t *b)
{
    mayday_event_t event;
    mayday_rules_result_t result;

    mayday_event_memory_begin();
    mayday_event_init(&event, &b->view, &b->settings);
    mayday_rules_run(b->rules, &event, &result);
    if (result.verdict == MAYDAY_RULES_FAILED) {
        fprintf(stderr, "%s\n", result.error);
        exit(2);
    }
    b->found += result.verdict;
    mayday_event_memory_end();
}

#define RULE(require, body)                                                                        \
    "local mayday = require 'mayday'\n" require                                                    \
    "\nmayday.before_send(function(event, hint)\n" body "\nreturn event\nend)\n"

static void
prepare_empty_rule(bench_t *b)
{
    load(b, RULE("", ""));
}

static void
prepare_headers_rule(bench_t *b)
{
    load(b, RULE("", "local agent = event.request.headers['User-Agent']"));
}

static void
prepare_bots_rule(bench_t *b)
{
    load(b, RULE("local bots = require 'mayday.bots'",
                 "if bots.is_bot(event.request.headers['User-Agent']) then return nil, 'bot' end"));
}

static void
prepare_scrub_rule(bench_t *b)
{
    load(b, RULE("local pii = require 'mayday.pii'", "pii.scrub(event)"));
}

/* The default rules: no bots, no personal data. */
static void
prepare_default_rules(bench_t *b)
{
    load(b, RULE("local bots, pii = require 'mayday.bots', require 'mayday.pii'",
                 "if bots.is_bot(event.request.headers['User-Agent']) then return nil, 'bot' end\n"
                 "pii.scrub(event)"));
}

/* One event from its record, through the rules if there are any, to JSON. */
static void
send_event(bench_t *b)
{
    mayday_event_t event;
    mayday_rules_result_t result;

    mayday_event_memory_begin();
    mayday_event_init(&event, &b->view, &b->settings);
    if (b->rules != NULL) {
        mayday_rules_run(b->rules, &event, &result);
    }
    b->found += mayday_event_serialise(&event).len;
    mayday_event_memory_end();
}

/* prepare may be NULL. */
static const struct {
    const char *name;
    void (*prepare)(bench_t *b);
    void (*run)(bench_t *b);
} cases[] = {
    {"bots_browser", prepare_browser, decide},
    {"bots_bot", prepare_bot, decide},
    {"bots_1k", prepare_long, decide},
    {"bots_hostile_8k", prepare_hostile, decide},
    {"probe", NULL, probe},
    {"rule_empty", prepare_empty_rule, run_rules},
    {"rule_headers", prepare_headers_rule, run_rules},
    {"rule_is_bot", prepare_bots_rule, run_rules},
    {"rule_scrub", prepare_scrub_rule, run_rules},
    {"sent", NULL, send_event},
    {"sent_scrubbed", prepare_scrub_rule, send_event},
    {"sent_by_default_rules", prepare_default_rules, send_event},
};

/* ---- measuring ---- */

static uint64_t
cpu_ns(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

static uint64_t
batch_ns(bench_t *b, void (*run)(bench_t *b), size_t count)
{
    uint64_t start = cpu_ns();

    for (size_t i = 0; i < count; i++) {
        run(b);
    }
    return cpu_ns() - start;
}

static double
least_us(bench_t *b, void (*run)(bench_t *b))
{
    size_t count = 1;
    uint64_t least = UINT64_MAX, ns;

    while (batch_ns(b, run, count) < BATCH_NS_MIN) {
        count *= 2;
    }
    for (int i = 0; i < BATCHES; i++) {
        ns = batch_ns(b, run, count);
        least = ns < least ? ns : least;
    }
    return (double) least / (double) count / 1000;
}

static bool
is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return true;
        }
    }
    return argc == 1;
}

int
main(int argc, char **argv)
{
    static bench_t b;

    if (argc > 1 && strcmp(argv[1], "--mdwe") == 0) {
        if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) != 0) {
            perror("PR_SET_MDWE");
            return 3;
        }
        argc--;
        argv++;
    }
    mayday_event_setup();
    make_view(&b.view);
    b.settings.server = "nginx";
    b.settings.server_version = "nginx/1.22.1";
    b.settings.server_name = "web-1";
    b.settings.environment = "production";
    b.settings.release = "shop@1.4.2";
    b.bots = mayday_bots_new();
    b.probes = mayday_probes_new();
    if (b.bots == NULL || b.probes == NULL) {
        return 2;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        if (!is_wanted(cases[i].name, argc, argv)) {
            continue;
        }
        if (cases[i].prepare != NULL) {
            cases[i].prepare(&b);
        }
        printf("{\"case\": \"%s\", \"us\": %.3f}\n", cases[i].name, least_us(&b, cases[i].run));
        fflush(stdout);
        mayday_rules_free(b.rules);
        b.rules = NULL;
    }
    mayday_bots_free(b.bots);
    mayday_probes_free(b.probes);
    return b.found == SIZE_MAX;
}
