/*
 * The agent as a whole: records written by a child process through the capture
 * side, read by a real agent process, looked at in the store. This program is
 * the agent itself when it is started as "… agent …".
 */
#include "tests/unit/instance_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "core/agent/agent.h"
#include "core/agent/store.h"
#include "core/capture/record.h"

#define DEADLINE_US UINT64_C(20000000)

typedef struct {
    uint64_t captured, filtered, suppressed, dropped, observed, rule_errors, requests, ignored;
    size_t events;
    unsigned undelivered;              /* rows of the queue */
    char last_title[512], last_id[33]; /* of the newest event */
} seen_t;

static void
pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* ---- a library that hangs ---- */

#define HANGING_PATH "/please-hang"

int pcre2_match_8(const void *code, const unsigned char *subject, size_t len, size_t start,
                  uint32_t options, void *data, void *context);

/* In the place of PCRE2's, in the agent too, which is this very program. */
int
pcre2_match_8(const void *code, const unsigned char *subject, size_t len, size_t start,
              uint32_t options, void *data, void *context)
{
    (void) code, (void) start, (void) options, (void) data, (void) context;
    for (volatile unsigned n = 0; memmem(subject, len, HANGING_PATH, 12) != NULL; n++) {
    }
    return -1; /* no match */
}

/* ---- the serving process ---- */

static void
write_record(mayday_lane_t *lane, unsigned n, const char *path)
{
    mayday_record_t record;
    uint8_t id[16] = {0};

    memcpy(id, &n, sizeof(n));
    id[15] = (uint8_t) getpid();
    id[14] = (uint8_t) (getpid() >> 8);
    mayday_lane_count(lane, MAYDAY_COUNTER_REQUESTS);
    if (mayday_lane_begin(lane, &record) != MAYDAY_OK) {
        return;
    }
    mayday_record_u64(&record, MAYDAY_FIELD_TIME_US, mayday_clock_us());
    mayday_record_u64(&record, MAYDAY_FIELD_KIND, MAYDAY_KIND_UPSTREAM_READ_TIMEOUT);
    mayday_record_u64(&record, MAYDAY_FIELD_STATUS, 504);
    mayday_record_text(&record, EVENT_ID, mayday_slice(id, sizeof(id)));
    mayday_record_u64(&record, MAYDAY_FIELD_DESTINATION, 1);
    mayday_record_text(&record, METHOD, MAYDAY_SLICE("GET"));
    mayday_record_text(&record, HOST, MAYDAY_SLICE("shop.example.com"));
    mayday_record_text(&record, PATH, mayday_slice_str(path));
    mayday_record_text(&record, UPSTREAM, MAYDAY_SLICE("shop_backend"));
    mayday_lane_commit(&record);
}

/* Forks a server process that writes count records, slowly if pause_every. */
static pid_t
serve(fixture_t *f, unsigned count, unsigned pause_every, const char *path)
{
    static mayday_lane_t lane;
    pid_t pid = fork();

    if (pid != 0) {
        return pid;
    }
    mayday_instance_after_fork(&f->supervisor, false);
    mayday_lane_init(&lane, &f->supervisor.segment, f->supervisor.settings, false);
    if (mayday_lane_claim(&lane) != MAYDAY_OK) {
        _exit(1);
    }
    for (unsigned i = 0; i < count; i++) {
        write_record(&lane, i, path);
        if (pause_every != 0 && i % pause_every == 0) {
            pause_ms(1);
        }
    }
    mayday_lane_count_ignored(&lane, MAYDAY_KIND_LIMITED);
    mayday_lane_release(&lane);
    _exit(0);
}

static void
wait_for(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- the store ---- */

static void
visit_count(void *ctx, const char *name, const char *reason, uint64_t n)
{
    seen_t *seen = ctx;

    (void) reason;
    if (strcmp(name, "captured") == 0) {
        seen->captured += n;
    } else if (strcmp(name, "filtered") == 0) {
        seen->filtered += n;
    } else if (strcmp(name, "suppressed") == 0) {
        seen->suppressed += n;
    } else if (strcmp(name, "dropped") == 0) {
        seen->dropped += n;
    } else if (strcmp(name, "observed") == 0) {
        seen->observed += n;
    } else if (strcmp(name, "rule_errors") == 0) {
        seen->rule_errors += n;
    } else if (strcmp(name, "requests") == 0) {
        seen->requests += n;
    } else if (strcmp(name, "ignored") == 0) {
        seen->ignored += n;
    }
}

static void
visit_row(void *ctx, const mayday_store_row_t *row)
{
    seen_t *seen = ctx;

    seen->undelivered += row->undelivered;
    if (seen->events++ == 0) {
        snprintf(seen->last_title, sizeof(seen->last_title), "%s", row->title);
        snprintf(seen->last_id, sizeof(seen->last_id), "%s", row->event_id);
    }
}

static void
look(fixture_t *f, seen_t *seen)
{
    char path[256], error[256];
    mayday_store_query_t query = {.limit = 1000};
    mayday_store_t *store;

    memset(seen, 0, sizeof(*seen));
    snprintf(path, sizeof(path), "%s/store.sqlite", f->state);
    if (access(path, R_OK) != 0) {
        return;
    }
    store = mayday_store_new(path, error, sizeof(error));
    if (store == NULL) {
        return;
    }
    assert_int_equal(mayday_store_counts(store, visit_count, seen), MAYDAY_OK);
    assert_int_equal(mayday_store_events(store, &query, visit_row, seen), MAYDAY_OK);
    mayday_store_free(store);
}

static char *
newest_json(fixture_t *f, const seen_t *seen)
{
    char path[256], error[256], *json = NULL;
    size_t len;
    mayday_store_t *store;

    snprintf(path, sizeof(path), "%s/store.sqlite", f->state);
    store = mayday_store_new(path, error, sizeof(error));
    assert_non_null(store);
    assert_int_equal(mayday_store_event_json(store, mayday_slice_str(seen->last_id), &json, &len),
                     MAYDAY_OK);
    mayday_store_free(store);
    return json;
}

typedef struct {
    uint64_t count;
    int64_t last_row;
} pages_t;

static void
visit_any(void *ctx, const mayday_store_row_t *row)
{
    pages_t *pages = ctx;

    pages->count++;
    pages->last_row = row->row;
}

/* All events, page by page; no two have one id, the store sees to that. */
static uint64_t
count_events(fixture_t *f)
{
    char path[256], error[256];
    pages_t pages = {1, 1}; /* after_row cannot ask for the first row */
    uint64_t before;
    mayday_store_t *store;

    snprintf(path, sizeof(path), "%s/store.sqlite", f->state);
    store = mayday_store_new(path, error, sizeof(error));
    assert_non_null(store);
    do {
        mayday_store_query_t page = {.limit = 1000, .after_row = pages.last_row};

        before = pages.count;
        assert_int_equal(mayday_store_events(store, &page, visit_any, &pages), MAYDAY_OK);
    } while (pages.count != before);
    mayday_store_free(store);
    return pages.count;
}

/* Looks until so many were captured and their lanes folded. */
static void
look_for(fixture_t *f, seen_t *seen, uint64_t captured, uint64_t requests)
{
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;

    do {
        mayday_supervise(&f->supervisor, fixture_say, f);
        look(f, seen);
        if (seen->captured >= captured && seen->requests >= requests) {
            break;
        }
        pause_ms(20);
    } while (mayday_clock_monotonic_us() < until);
    assert_int_equal(seen->captured, captured);
    assert_int_equal(seen->requests, requests);
}

/* What rules did, as the store has it. */
typedef struct {
    unsigned dropped; /* events kept */
    bool observed;    /* of the newest */
    char last[256];   /* the newest, in words */
    char last_id[33];
    uint64_t counted; /* sum of the counts per rule */
    char rule[256];   /* the last of them, in words */
} ruled_t;

static void
visit_dropped(void *ctx, const mayday_store_dropped_t *dropped)
{
    ruled_t *ruled = ctx;

    if (ruled->dropped++ == 0) {
        ruled->observed = dropped->observed;
        snprintf(ruled->last, sizeof(ruled->last), "%s %s %s %s %u %.*s", dropped->reason,
                 dropped->hook, dropped->where, dropped->kind, dropped->status,
                 (int) dropped->transaction.len, dropped->transaction.data);
        snprintf(ruled->last_id, sizeof(ruled->last_id), "%.32s", dropped->event_id.data);
    }
}

static void
visit_rule(void *ctx, const mayday_store_rule_t *rule)
{
    ruled_t *ruled = ctx;

    ruled->counted += rule->n;
    snprintf(ruled->rule, sizeof(ruled->rule), "%s %s %s %s %d", rule->where, rule->hook,
             rule->outcome, rule->reason, rule->observed);
}

static void
look_at_rules(fixture_t *f, ruled_t *ruled)
{
    const mayday_store_dropped_query_t query = {.limit = 1000};
    char path[256], error[256];
    mayday_store_t *store;

    memset(ruled, 0, sizeof(*ruled));
    snprintf(path, sizeof(path), "%s/store.sqlite", f->state);
    store = mayday_store_new(path, error, sizeof(error));
    assert_non_null(store);
    assert_int_equal(mayday_store_dropped(store, &query, visit_dropped, ruled), MAYDAY_OK);
    assert_int_equal(mayday_store_rules(store, visit_rule, ruled), MAYDAY_OK);
    mayday_store_free(store);
}

/* Whether a file of the store holds the text. */
static bool
store_holds(const fixture_t *f, const char *text)
{
    static const char *const names[] = {"store.sqlite", "store.sqlite-wal"};
    static char data[8 << 20];
    char path[256];
    bool found = false;

    for (size_t i = 0; i < MAYDAY_COUNT(names) && !found; i++) {
        FILE *file;
        size_t len;

        snprintf(path, sizeof(path), "%s/%s", f->state, names[i]);
        file = fopen(path, "r");
        len = file == NULL ? 0 : fread(data, 1, sizeof(data), file);
        found = memmem(data, len, text, strlen(text)) != NULL;
        if (file != NULL) {
            fclose(file);
        }
    }
    return found;
}

static int
setup(void **state)
{
    static fixture_t fixture;
    static char self[512];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(len > 0);
    self[len] = '\0';
    fixture_init(&fixture);
    fixture.instance.agent_path = mayday_slice_str(self);
    *state = &fixture;
    return 0;
}

static int
teardown(void **state)
{
    fixture_fini(*state);
    return 0;
}

static void
write_rules(fixture_t *f, const char *text)
{
    FILE *file = fopen(f->rules, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    f->instance.rules_file = mayday_slice_str(f->rules);
}

/* ---- tests ---- */

static void
test_pipeline__counts_every_record_once(void **state)
{
    fixture_t *f = *state;
    seen_t seen;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    wait_for(serve(f, 500, 50, "/cart/7"));
    look_for(f, &seen, 500, 500);
    assert_int_equal(seen.suppressed + seen.events, 500);
    assert_in_range(seen.events, 60, 70);
    assert_int_equal(seen.ignored, 1);
    assert_int_equal(seen.dropped, 0);
    assert_string_equal(seen.last_title,
                        "UpstreamReadTimeout: shop_backend did not answer in time");
}

static void
test_pipeline__reads_what_was_written_before_it_lived(void **state)
{
    fixture_t *f = *state;
    seen_t seen;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 20, 0, "/a"));
    wait_for(serve(f, 30, 0, "/b"));
    look_for(f, &seen, 50, 50);
    assert_int_equal(seen.events, 50);
}

static void
test_pipeline__the_next_event_tells_how_many_were_held_back(void **state)
{
    fixture_t *f = *state;
    seen_t seen;
    char *json;

    f->instance.issue_rate = (mayday_rate_t){1, 1, 1};
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 6, 0, "/a"));
    look_for(f, &seen, 6, 6);
    assert_int_equal(seen.events, 1);
    assert_int_equal(seen.suppressed, 5);
    pause_ms(1100);
    wait_for(serve(f, 1, 0, "/a"));
    look_for(f, &seen, 7, 7);
    assert_int_equal(seen.events, 2);
    json = newest_json(f, &seen);
    assert_non_null(strstr(json, "\"suppressed\":5"));
    free(json);
}

static void
test_pipeline__rule_drops_are_counted_and_leave_no_event(void **state)
{
    fixture_t *f = *state;
    seen_t seen;
    ruled_t ruled;
    char *json;

    write_rules(f, "local mayday = require 'mayday'\n"
                   "mayday.before_send(function(event, hint) return nil, 'noise' end)\n");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 25, 0, "/a"));
    look_for(f, &seen, 25, 25);
    assert_int_equal(seen.filtered, 25);
    assert_int_equal(seen.events, 0);
    look_at_rules(f, &ruled);
    assert_in_range(ruled.dropped, 5, 25);
    assert_false(ruled.observed);
    assert_string_equal(ruled.last,
                        "noise before_send rules.lua:2 upstream_read_timeout 504 GET /a");
    assert_int_equal(ruled.counted, 25);
    assert_string_equal(ruled.rule, "rules.lua:2 before_send dropped noise 0");
    memcpy(seen.last_id, ruled.last_id, sizeof(seen.last_id));
    json = newest_json(f, &seen);
    assert_non_null(strstr(json, "\"dropped\":{\"reason\":\"noise\",\"hook\":\"before_send\","
                                 "\"where\":\"rules.lua:2\"}"));
    free(json);
}

/* However many there are, a few a second are kept, and all are counted. */
static void
test_pipeline__a_storm_of_drops_is_counted(void **state)
{
    fixture_t *f = *state;
    uint64_t started_us = mayday_clock_monotonic_us();
    seen_t seen;
    ruled_t ruled;

    write_rules(f, "local mayday = require 'mayday'\nlocal n = 0\n"
                   "mayday.add_event_processor(function(event, hint)\n"
                   "  n = n + 1\n  return nil, 'reason ' .. n % 50\nend)\n");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    wait_for(serve(f, 4000, 200, "/a"));
    look_for(f, &seen, 4000, 4000);
    assert_int_equal(seen.filtered, 4000);
    look_at_rules(f, &ruled);
    assert_int_equal(ruled.counted, 4000);
    assert_in_range(ruled.dropped, 20,
                    20 * ((mayday_clock_monotonic_us() - started_us) / 1000000 + 2));
}

/* What a rule behind the one that drops would have removed must not be kept. */
static void
test_pipeline__dropped_events_are_kept_scrubbed(void **state)
{
    fixture_t *f = *state;
    seen_t seen;
    ruled_t ruled;

    write_rules(f, "local mayday = require 'mayday'\n"
                   "local pii = require 'mayday.pii'\n"
                   "mayday.add_event_processor(function(event) return nil, 'noise' end)\n"
                   "mayday.before_send(function(event, hint) return pii.scrub(event) end)\n");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 3, 0, "/mail/jane.roe@example.com/4111111111111111"));
    look_for(f, &seen, 3, 3);
    look_at_rules(f, &ruled);
    assert_int_equal(ruled.dropped, 3);
    assert_false(store_holds(f, "jane.roe"));
    assert_false(store_holds(f, "4111111111111111"));
    assert_true(store_holds(f, "shop_backend"));
}

static void
test_pipeline__observed_rules_change_nothing(void **state)
{
    fixture_t *f = *state;
    seen_t seen;
    ruled_t ruled;

    write_rules(f, "local mayday = require 'mayday'\n"
                   "mayday.before_send(function(event, hint) return nil, 'noise' end)\n");
    f->instance.rules_mode = MAYDAY_RULES_OBSERVE;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 25, 0, "/a"));
    look_for(f, &seen, 25, 25);
    assert_int_equal(seen.observed, 25);
    assert_int_equal(seen.filtered, 0);
    assert_int_equal(seen.events, 25);
    look_at_rules(f, &ruled);
    assert_true(ruled.dropped >= 5 && ruled.observed);
    assert_string_equal(ruled.rule, "rules.lua:2 before_send dropped noise 1");
    assert_int_equal(ruled.counted, 25);
}

/* Counted where the rule failed, which is not where the function begins. */
static void
test_pipeline__failures_are_counted_by_their_line(void **state)
{
    fixture_t *f = *state;
    seen_t seen;
    ruled_t ruled;

    write_rules(f, "local mayday = require 'mayday'\n"
                   "mayday.before_send(function(event, hint)\n"
                   "  local x = event.request.nothing.at_all\n"
                   "  return event\nend)\n");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 7, 0, "/a"));
    look_for(f, &seen, 7, 7);
    look_at_rules(f, &ruled);
    assert_int_equal(ruled.dropped, 0);
    assert_string_equal(ruled.rule, "rules.lua:3 before_send failed  0");
    assert_int_equal(ruled.counted, 7);
}

static void
test_pipeline__rules_that_cannot_be_loaded_degrade_events(void **state)
{
    fixture_t *f = *state;
    seen_t seen;

    write_rules(f, "this is no Lua");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 5, 0, "/a"));
    look_for(f, &seen, 5, 5);
    assert_int_equal(seen.rule_errors, 5);
    assert_int_equal(seen.events, 5);
}

/* What a rule could do at worst: a function in C that does not return. */
static void
test_pipeline__an_event_that_hangs_the_agent_does_so_once(void **state)
{
    fixture_t *f = *state;
    seen_t seen;

    write_rules(f, "local mayday = require 'mayday'\n"
                   "mayday.before_send(function(event)\n"
                   "  mayday.re.match(event.request.url, '/hang')\n"
                   "  return nil, 'seen'\n"
                   "end)\n");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 20, 0, "/a"));
    wait_for(serve(f, 2, 0, HANGING_PATH));
    wait_for(serve(f, 20, 0, "/a"));
    look_for(f, &seen, 42, 42);
    assert_int_equal(seen.filtered, 40);
    assert_int_equal(seen.rule_errors, 2);
    assert_int_equal(seen.events, 2);
    char *json = newest_json(f, &seen);
    assert_non_null(strstr(json, "\"mayday.rule_error\":\"the agent had to be ended\""));
    assert_null(strstr(json, "\"url\""));
    free(json);
}

static void
test_pipeline__broken_rules_at_a_reload_leave_the_old_ones_in_force(void **state)
{
    fixture_t *f = *state;
    seen_t seen;

    write_rules(f, "local mayday = require 'mayday'\n"
                   "mayday.before_send(function(event, hint) return nil, 'noise' end)\n");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 5, 0, "/a"));
    look_for(f, &seen, 5, 5);
    write_rules(f, "this is no Lua");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    pause_ms(600);
    wait_for(serve(f, 5, 0, "/a"));
    look_for(f, &seen, 10, 10);
    assert_int_equal(seen.filtered, 10);
    assert_int_equal(seen.events, 0);
}

/* Writes under settings that are gone when the agent reads, with `count` destinations. */
static void
lose_settings(fixture_t *f, uint32_t count, seen_t *seen)
{
    char path[400], hex[2 * MAYDAY_HASH_BYTES + 1];

    if (count > 2) {
        f->destinations[1].next = &f->destinations[2];
        f->destinations[2].index = 2;
        f->destinations[2].dsn_count = 1;
        f->destinations[2].dsns[0] = MAYDAY_SLICE("http://key@127.0.0.1:9/43");
    }
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    wait_for(serve(f, 1, 0, "/a"));
    mayday_hex(hex, f->supervisor.settings, MAYDAY_HASH_BYTES);
    snprintf(path, sizeof(path), "%s/" MAYDAY_SETTINGS_PREFIX "%s", f->supervisor.run_dir, hex);
    assert_int_equal(unlink(path), 0);
    f->instance.server_name = MAYDAY_SLICE("another");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    look_for(f, seen, 1, 1);
    assert_int_equal(seen->events, 1);
}

static void
test_pipeline__without_its_settings_an_event_goes_to_the_only_receiver(void **state)
{
    seen_t seen;

    lose_settings(*state, 2, &seen);
    assert_int_equal(seen.undelivered, 1);
}

static void
test_pipeline__without_its_settings_an_event_goes_to_no_other_receiver(void **state)
{
    seen_t seen;

    lose_settings(*state, 3, &seen);
    assert_int_equal(seen.undelivered, 0);
}

static void
kill_agent(fixture_t *f)
{
    char path[300], text[32] = "";
    FILE *file;
    long pid;

    snprintf(path, sizeof(path), "%s/agent.lock", f->supervisor.run_dir);
    file = fopen(path, "r");
    if (file == NULL) {
        return;
    }
    if (mayday_agent_is_alive(&f->supervisor) && fgets(text, sizeof(text), file) != NULL) {
        pid = strtol(text, NULL, 10);
        if (pid > 1) {
            kill((pid_t) pid, SIGKILL);
        }
    }
    fclose(file);
}

static void
test_pipeline__counts_are_exact_though_the_agent_is_killed_again_and_again(void **state)
{
    fixture_t *f = *state;
    seen_t seen;
    pid_t children[3];

    f->instance.issue_rate.events = 0;
    f->instance.lane_size = 8 * 1024 * 1024;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    for (unsigned i = 0; i < MAYDAY_COUNT(children); i++) {
        children[i] = serve(f, 2000, 2, "/cart");
    }
    srand(1);
    for (unsigned i = 0; i < 25; i++) {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(20 + rand() % 100);
        kill_agent(f);
        /* what is tested is the store, not the back-off */
        f->supervisor.failures = 0;
        f->supervisor.child = 0;
    }
    for (unsigned i = 0; i < MAYDAY_COUNT(children); i++) {
        wait_for(children[i]);
    }
    look_for(f, &seen, 6000, 6000);
    assert_int_equal(count_events(f), 6000);
    assert_int_equal(seen.dropped, 0);
    assert_int_equal(seen.suppressed, 0);
    assert_int_equal(seen.ignored, 3);
}

static void
test_agent__ends_with_its_server(void **state)
{
    fixture_t *f = *state;
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US, closed;
    mayday_supervisor_t copy;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    while (!mayday_agent_is_alive(&f->supervisor) && mayday_clock_monotonic_us() < until) {
        pause_ms(10);
    }
    assert_true(mayday_agent_is_alive(&f->supervisor));
    copy = f->supervisor;
    closed = mayday_clock_monotonic_us();
    mayday_instance_close(&f->supervisor);
    assert_false(mayday_agent_is_alive(&copy));
    assert_true(mayday_clock_monotonic_us() - closed < 2000000);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pipeline__counts_every_record_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__reads_what_was_written_before_it_lived,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__the_next_event_tells_how_many_were_held_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__rule_drops_are_counted_and_leave_no_event,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__a_storm_of_drops_is_counted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__dropped_events_are_kept_scrubbed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__failures_are_counted_by_their_line, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__observed_rules_change_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__rules_that_cannot_be_loaded_degrade_events,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline__an_event_that_hangs_the_agent_does_so_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_pipeline__broken_rules_at_a_reload_leave_the_old_ones_in_force, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_pipeline__without_its_settings_an_event_goes_to_the_only_receiver, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            test_pipeline__without_its_settings_an_event_goes_to_no_other_receiver, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            test_pipeline__counts_are_exact_though_the_agent_is_killed_again_and_again, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_agent__ends_with_its_server, setup, teardown),
    };

    if (argc > 1 && strcmp(argv[1], "agent") == 0) {
        return mayday_agent_main(argc - 1, argv + 1);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
