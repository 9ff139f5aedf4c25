/*
 * Delivery against a receiver that misbehaves (tests/fake_receiver.py): what is
 * dropped, kept, counted and told. Every wait is for a condition, with a
 * deadline.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/delivery.h"

#define DEADLINE_US 20000000
#define OK(call) assert_int_equal((call), MAYDAY_OK)

typedef struct {
    char dir[64];
    char path[96];
    char dsn[2][128];
    pid_t receiver;
    unsigned port;
    mayday_store_t *store;
    mayday_delivery_t *delivery;
    mayday_settings_t settings;
    mayday_destination_setting_t destination;
    unsigned added;
} fixture_t;

static char error[512];

/* ---- the receiver ---- */

static pid_t
receiver_start(const char *certificate, const char *key, unsigned *port)
{
    char line[32] = {0};
    int out[2];
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test itself be killed */
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        if (certificate != NULL) {
            execlp("python3", "python3", "tests/fake_receiver.py", "--certificate", certificate,
                   "--key", key, (char *) NULL);
        }
        execlp("python3", "python3", "tests/fake_receiver.py", (char *) NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof(line) - 1 && strchr(line, '\n') == NULL; n++) {
        assert_int_equal(read(out[0], line + n, 1), 1);
    }
    close(out[0]);
    *port = (unsigned) strtoul(line, NULL, 10);
    assert_true(*port > 0);
    return pid;
}

static void
receiver_stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* One request; the body of its answer, from malloc. */
static char *
ask(unsigned port, const char *method, const char *path, const char *body)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
    size_t size = 1 << 22, len = 0;
    char *answer = malloc(size), *content;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ssize_t n;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    dprintf(fd, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
            method, path, strlen(body), body);
    while ((n = read(fd, answer + len, size - len - 1)) > 0) {
        len += (size_t) n;
    }
    close(fd);
    answer[len] = '\0';
    content = strstr(answer, "\r\n\r\n");
    assert_non_null(content);
    memmove(answer, content + 4, strlen(content + 4) + 1);
    return answer;
}

static void
behave(const fixture_t *f, const char *rules)
{
    free(ask(f->port, "POST", "/_control", rules));
}

/* What the receiver recorded; cJSON_Delete it. */
static cJSON *
records(const fixture_t *f)
{
    char *text = ask(f->port, "GET", "/_records", "");
    cJSON *list = cJSON_Parse(text);

    assert_true(cJSON_IsArray(list));
    free(text);
    return list;
}

static cJSON *
path_get(cJSON *node, const char *const *names)
{
    for (; *names != NULL && node != NULL; names++) {
        node = cJSON_IsArray(node) ? cJSON_GetArrayItem(node, atoi(*names))
                                   : cJSON_GetObjectItemCaseSensitive(node, *names);
    }
    return node;
}

#define GET(node, ...) path_get(node, (const char *const[]){__VA_ARGS__, NULL})
#define TEXT(node, ...) cJSON_GetStringValue(GET(node, __VA_ARGS__))

/* How many records of that status carry an item of that type. */
static unsigned
recorded(const fixture_t *f, const char *type, int status)
{
    cJSON *list = records(f), *record;
    unsigned n = 0;

    cJSON_ArrayForEach(record, list) {
        const char *found = TEXT(record, "envelope", "items", "0", "header", "type");

        assert_non_null(found);
        n += strcmp(found, type) == 0 && GET(record, "status")->valueint == status;
    }
    cJSON_Delete(list);
    return n;
}

/* ---- fixture ---- */

static int
setup(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    f->receiver = receiver_start(NULL, NULL, &f->port);
    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-delivery-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/store.sqlite", f->dir);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    snprintf(f->dsn[0], sizeof(f->dsn[0]), "http://sesame:open@127.0.0.1:%u/42", f->port);
    snprintf(f->dsn[1], sizeof(f->dsn[1]), "http://other@127.0.0.1:%u/prefix/43", f->port);
    f->destination.dsn_count = 1;
    f->destination.dsns[0] = f->dsn[0];
    f->destination.dsns[1] = f->dsn[1];
    f->settings.server = "nginx";
    f->settings.proxy = "";
    f->settings.trusted_certificate = "";
    f->settings.destinations = &f->destination;
    f->settings.destination_count = 1;
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture_t *f = *state;
    struct dirent *entry;
    DIR *d;

    mayday_delivery_free(f->delivery, 0);
    mayday_store_free(f->store);
    receiver_stop(f->receiver);
    d = opendir(f->dir);
    while ((entry = readdir(d)) != NULL) {
        (void) unlinkat(dirfd(d), entry->d_name, 0);
    }
    closedir(d);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void
start(fixture_t *f)
{
    f->delivery = mayday_delivery_new(f->path, &f->settings, error, sizeof(error));
    assert_non_null(f->delivery);
}

static void
add_to(fixture_t *f, unsigned count, const char *const *dsns, size_t dsn_count)
{
    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < count; i++) {
        mayday_store_event_t event = {.kind = "limited", .level = "error"};
        char id[33], json[128];

        snprintf(id, sizeof(id), "%032x", ++f->added);
        snprintf(json, sizeof(json), "{\"event_id\":\"%s\",\"platform\":\"other\"}", id);
        event.event_id = mayday_slice_str(id);
        event.time_us = mayday_clock_us();
        event.json = mayday_slice_str(json);
        event.trace = MAYDAY_SLICE("{\"trace_id\":\"0123\"}");
        OK(mayday_store_event_add(f->store, &event, dsns, dsn_count));
    }
    OK(mayday_store_commit(f->store));
    if (f->delivery != NULL) {
        mayday_delivery_wake(f->delivery);
    }
}

static void
add(fixture_t *f, unsigned count)
{
    add_to(f, count, f->destination.dsns, f->destination.dsn_count);
}

/* ---- observing ---- */

typedef struct {
    const char *name, *reason;
    uint64_t n;
} count_t;

static void
see_count(void *ctx, const char *name, const char *reason, uint64_t n)
{
    count_t *count = ctx;

    if (strcmp(name, count->name) == 0 && strcmp(reason, count->reason) == 0) {
        count->n = n;
    }
}

static uint64_t
count_of(const fixture_t *f, const char *name, const char *reason)
{
    count_t count = {name, reason, 0};

    OK(mayday_store_counts(f->store, see_count, &count));
    return count.n;
}

static void
see_dsn(void *ctx, int64_t dsn, const char *text, uint64_t n)
{
    (void) dsn;
    (void) text;
    *(uint64_t *) ctx += n;
}

static uint64_t
queued(const fixture_t *f)
{
    uint64_t n = 0;

    OK(mayday_store_dsns(f->store, see_dsn, &n));
    return n;
}

static void
see_discarded(void *ctx, const char *reason, uint64_t n)
{
    (void) reason;
    *(uint64_t *) ctx += n;
}

static uint64_t
discarded(const fixture_t *f)
{
    uint64_t n = 0;

    OK(mayday_store_discarded(f->store, 1, see_discarded, &n));
    return n;
}

typedef struct {
    unsigned count;
    mayday_delivery_info_t info[8];
} infos_t;

static void
see_info(void *ctx, const mayday_delivery_info_t *info)
{
    infos_t *infos = ctx;

    infos->info[infos->count++] = *info;
}

static infos_t
infos(const fixture_t *f)
{
    infos_t all = {0};

    mayday_delivery_visit(f->delivery, see_info, &all);
    return all;
}

/* Waits until the condition holds; fails at the deadline. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t until_us_ = mayday_clock_monotonic_us() + DEADLINE_US;                            \
        while (!(condition)) {                                                                     \
            if (mayday_clock_monotonic_us() > until_us_) {                                         \
                fail_msg("still not: %s", #condition);                                             \
            }                                                                                      \
            usleep(2000);                                                                          \
        }                                                                                          \
    } while (0)

/* ---- answers ---- */

static void
test_delivery__refused_event_is_dropped_and_reported(void **state)
{
    fixture_t *f = *state;
    cJSON *list, *item;

    behave(f, "[{\"status\":413,\"headers\":{\"X-Sentry-Error\":\"too\\tbig\"}},"
              "{\"status\":400},{\"status\":500},{\"status\":302}]");
    start(f);
    add(f, 5);
    WAIT_FOR(queued(f) == 0);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    assert_int_equal(count_of(f, "dropped", "send_error"), 4);
    assert_int_equal(discarded(f), 4);
    mayday_delivery_free(f->delivery, 5000); /* the report goes at the end */
    f->delivery = NULL;
    assert_int_equal(discarded(f), 0);
    list = records(f);
    assert_int_equal(cJSON_GetArraySize(list), 6);
    item = GET(list, "5", "envelope", "items", "0");
    assert_string_equal(TEXT(item, "header", "type"), "client_report");
    assert_string_equal(TEXT(item, "payload", "discarded_events", "0", "reason"), "send_error");
    assert_string_equal(TEXT(item, "payload", "discarded_events", "0", "category"), "error");
    assert_int_equal(GET(item, "payload", "discarded_events", "0", "quantity")->valueint, 4);
    cJSON_Delete(list);
}

static void
test_delivery__limited_event_is_dropped_unreported_and_the_queue_waits(void **state)
{
    fixture_t *f = *state;
    infos_t all;

    behave(f, "[{\"status\":429,\"headers\":{\"Retry-After\":\"2\"}}]");
    start(f);
    add(f, 1);
    WAIT_FOR(count_of(f, "dropped", "ratelimit_backoff") == 1);
    add(f, 3);
    WAIT_FOR(infos(f).info[0].limited_until_us > mayday_clock_us());
    usleep(300000); /* that nothing happens has no condition to wait for */
    assert_int_equal(queued(f), 3);
    assert_int_equal(discarded(f), 0);
    all = infos(f);
    assert_int_equal(strncmp(all.info[0].last_error, "429: ", 5), 0);
    WAIT_FOR(count_of(f, "sent", "") == 3);
    assert_int_equal(recorded(f, "event", 429), 1);
    assert_int_equal(recorded(f, "event", 200), 3);
}

static void
test_delivery__bare_429_is_a_minute(void **state)
{
    fixture_t *f = *state;

    behave(f, "[{\"status\":429}]");
    start(f);
    add(f, 1);
    WAIT_FOR(count_of(f, "dropped", "ratelimit_backoff") == 1);
    assert_in_range(infos(f).info[0].limited_until_us, mayday_clock_us() + 50000000,
                    mayday_clock_us() + 60000000);
}

static void
test_delivery__limit_on_a_200_holds_for_its_category_only(void **state)
{
    fixture_t *f = *state;

    behave(f, "[{\"headers\":{\"X-Sentry-Rate-Limits\":\"3600:transaction;span:organization\"}},"
              "{\"headers\":{\"X-Sentry-Rate-Limits\":\"3600:error:organization\"}}]");
    start(f);
    add(f, 1);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    assert_int_equal(infos(f).info[0].limited_until_us, 0);
    add(f, 1);
    WAIT_FOR(infos(f).info[0].limited_until_us > mayday_clock_us());
    add(f, 1);
    usleep(300000);
    assert_int_equal(queued(f), 1);
}

static void
test_delivery__half_an_answer_counts_by_its_status(void **state)
{
    fixture_t *f = *state;

    behave(f, "[{\"half\":true},{\"half\":true,\"status\":500}]");
    start(f);
    add(f, 2);
    WAIT_FOR(queued(f) == 0);
    assert_int_equal(count_of(f, "sent", ""), 1);
    assert_int_equal(count_of(f, "dropped", "send_error"), 1);
}

static void
test_delivery__endless_answer_is_cut_and_counts_by_its_status(void **state)
{
    fixture_t *f = *state;
    char *rules = malloc(300000);

    snprintf(rules, 300000, "[{\"body\":\"%0200000d\"}]", 0);
    behave(f, rules);
    free(rules);
    start(f);
    add(f, 1);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    assert_int_equal(recorded(f, "event", 200), 1);
}

/* ---- no answer ---- */

static void
test_delivery__network_error_keeps_the_event(void **state)
{
    fixture_t *f = *state;

    behave(f, "[{\"refuse\":true},{\"reset\":true}]");
    start(f);
    add(f, 1);
    WAIT_FOR(infos(f).count > 0 && infos(f).info[0].retry_at_us > 0);
    assert_int_not_equal(infos(f).info[0].last_error[0], '\0');
    assert_int_equal(queued(f), 1);
    WAIT_FOR(queued(f) == 0);
    assert_int_equal(count_of(f, "sent", ""), 1);
    assert_int_equal(discarded(f), 0);
    assert_int_equal(infos(f).info[0].retry_at_us, 0);
}

static void
test_delivery__dead_receiver_is_probed_by_one_event_at_a_time(void **state)
{
    fixture_t *f = *state;
    unsigned connections;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    uint64_t until_us;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 64), 0);
    getsockname(listener, (struct sockaddr *) &address, &len);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    snprintf(f->dsn[0], sizeof(f->dsn[0]), "http://k@127.0.0.1:%u/1", ntohs(address.sin_port));
    add(f, 100);
    start(f);

    connections = 0; /* accepts and hangs up, for 2.5 s: first 16 at once, then one after 1 s */
    until_us = mayday_clock_monotonic_us() + 2500000;
    while (mayday_clock_monotonic_us() < until_us) {
        client = accept(listener, NULL, NULL);
        if (client >= 0) {
            connections++;
            close(client);
        }
        usleep(500);
    }
    close(listener);
    assert_in_range(connections, 2, 16 * 2 + 4); /* curl itself tries a dead connection twice */
    assert_int_equal(queued(f), 100);
    assert_int_equal(count_of(f, "sent", ""), 0);
}

static void
test_delivery__slow_dsn_does_not_hold_up_another(void **state)
{
    fixture_t *f = *state;
    unsigned n = 0;

    behave(f, "[{\"path\":\"/42/\",\"times\":0,\"stall\":15}]");
    f->destination.dsn_count = 2;
    start(f);
    add(f, 200);
    WAIT_FOR(count_of(f, "sent", "") == 200);
    assert_int_equal(queued(f), 200);
    infos_t all = infos(f);
    for (unsigned i = 0; i < all.count; i++) {
        n += all.info[i].queued == 200 && all.info[i].in_flight == 16;
    }
    assert_int_equal(n, 1);
}

/* ---- what goes over the wire ---- */

static void
test_delivery__envelope_headers_and_order(void **state)
{
    fixture_t *f = *state;
    cJSON *list, *first;
    char id[33];

    add(f, 3);
    start(f);
    WAIT_FOR(count_of(f, "sent", "") == 3);
    list = records(f);
    assert_int_equal(cJSON_GetArraySize(list), 3);
    first = cJSON_GetArrayItem(list, 0);
    assert_string_equal(TEXT(first, "path"), "/api/42/envelope/");
    assert_string_equal(TEXT(first, "headers", "x-sentry-auth"),
                        "Sentry sentry_version=7, sentry_client=mayday.nginx/" MAYDAY_VERSION
                        ", sentry_key=sesame, sentry_secret=open");
    assert_string_equal(TEXT(first, "headers", "user-agent"), "mayday.nginx/" MAYDAY_VERSION);
    assert_string_equal(TEXT(first, "headers", "content-type"), "application/x-sentry-envelope");
    assert_string_equal(TEXT(first, "headers", "content-encoding"), "gzip");
    assert_null(GET(first, "headers", "authorization"));
    assert_null(GET(first, "headers", "expect"));
    assert_string_equal(TEXT(first, "envelope", "header", "trace", "trace_id"), "0123");
    assert_non_null(TEXT(first, "envelope", "header", "sent_at"));
    snprintf(id, sizeof(id), "%032x", 1);
    /* With connections of their own three may arrive in any order; all must be there. */
    for (int i = 0; i < 3; i++) {
        cJSON *record = cJSON_GetArrayItem(list, i);

        assert_string_equal(TEXT(record, "envelope", "header", "event_id"),
                            TEXT(record, "envelope", "items", "0", "payload", "event_id"));
    }
    cJSON_Delete(list);
}

static void
test_delivery__connections_are_kept(void **state)
{
    fixture_t *f = *state;
    cJSON *list, *record;
    int highest = 0;

    add(f, 300);
    start(f);
    WAIT_FOR(count_of(f, "sent", "") == 300);
    list = records(f);
    cJSON_ArrayForEach(record, list) {
        int n = GET(record, "connection")->valueint;

        highest = n > highest ? n : highest;
    }
    cJSON_Delete(list);
    assert_in_range(highest, 1, 20);
}

static void
test_delivery__send_rate_holds(void **state)
{
    fixture_t *f = *state;
    uint64_t started_us, took_us;

    f->settings.send_rate = (mayday_rate_setting_t){.events = 10, .period_s = 1, .burst = 5};
    add(f, 15);
    started_us = mayday_clock_monotonic_us();
    start(f);
    WAIT_FOR(count_of(f, "sent", "") == 15);
    took_us = mayday_clock_monotonic_us() - started_us;
    assert_in_range(took_us, 950000, 5000000);
}

static void
test_delivery__proxy_of_the_settings_environment(void **state)
{
    static const char no_proxy[] = "no_proxy=127.0.0.1";
    fixture_t *f = *state;
    char variable[64];
    cJSON *list;

    /* The receiver stands for the proxy: it sees the whole URL. */
    snprintf(variable, sizeof(variable), "http_proxy=http://127.0.0.1:%u", f->port);
    snprintf(f->dsn[0], sizeof(f->dsn[0]), "http://k@sentry.invalid/7");
    f->settings.environ[0] = variable;
    f->settings.environ[1] = no_proxy;
    f->settings.environ_count = 2;
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* this process's own must not count */
    add(f, 1);
    start(f);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    list = records(f);
    assert_string_equal(TEXT(list, "0", "path"), "http://sentry.invalid/api/7/envelope/");
    cJSON_Delete(list);

    f->settings.proxy = "off";
    mayday_delivery_configure(f->delivery, &f->settings);
    add(f, 1);
    WAIT_FOR(infos(f).info[0].retry_at_us > 0);
    assert_string_equal(infos(f).info[0].last_error, "sentry.invalid cannot be resolved");
    unsetenv("http_proxy");
}

/* ---- the queue ---- */

static void
test_delivery__unreadable_dsn_is_given_up_and_counted(void **state)
{
    fixture_t *f = *state;
    const char *dsns[] = {"not a DSN"};

    add_to(f, 200, dsns, 1);
    start(f);
    WAIT_FOR(queued(f) == 0);
    assert_int_equal(count_of(f, "dropped", "invalid_dsn"), 200);
    assert_int_equal(count_of(f, "sent", ""), 0);
}

static void
test_delivery__dsn_that_left_the_settings_is_still_served(void **state)
{
    fixture_t *f = *state;

    add(f, 2);
    f->settings.destination_count = 0;
    start(f);
    WAIT_FOR(count_of(f, "sent", "") == 2);
    WAIT_FOR(infos(f).count == 0); /* and not shown once it is empty */
}

static void
test_delivery__too_large_event_does_not_block_the_queue(void **state)
{
    fixture_t *f = *state;
    mayday_store_event_t event = {.kind = "limited", .level = "error"};
    size_t size = 5 << 20;
    char *json = malloc(size);

    memset(json, ' ', size);
    event.event_id = MAYDAY_SLICE("ffffffffffffffffffffffffffffffff");
    event.time_us = mayday_clock_us();
    event.json = mayday_slice(json, size);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_event_add(f->store, &event, f->destination.dsns, 1));
    OK(mayday_store_commit(f->store));
    free(json);
    add(f, 2);
    start(f);
    WAIT_FOR(queued(f) == 0);
    assert_int_equal(count_of(f, "sent", ""), 2);
    assert_int_equal(count_of(f, "dropped", "too_large"), 1);
    assert_int_equal(discarded(f), 1);
}

static void
test_delivery__purged_events_are_not_sent(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t all = {.all = true};
    uint64_t purged;

    behave(f, "[{\"times\":0,\"delay\":0.3}]");
    add(f, 100);
    start(f);
    WAIT_FOR(infos(f).count == 1 && infos(f).info[0].in_flight == 16);
    OK(mayday_store_purge(f->store, &all, &purged));
    mayday_delivery_wake(f->delivery);
    behave(f, "[]");
    add(f, 1);
    WAIT_FOR(queued(f) == 0);
    /* What was on its way when the purge ended, and the one behind it. */
    assert_in_range(recorded(f, "event", 200), 1, 40);
}

static void
test_free__sends_what_is_due_and_keeps_the_rest(void **state)
{
    fixture_t *f = *state;
    uint64_t started_us;

    behave(f, "[{\"times\":20},{\"times\":0,\"stall\":10}]");
    add(f, 100);
    start(f);
    started_us = mayday_clock_monotonic_us();
    mayday_delivery_free(f->delivery, 700);
    f->delivery = NULL;
    assert_in_range(mayday_clock_monotonic_us() - started_us, 0, 3000000);
    assert_int_equal(count_of(f, "sent", ""), 20);
    assert_int_equal(queued(f), 80);
}

/* ---- after a crash ---- */

static void
test_delivery__kill_repeats_at_most_what_was_not_written(void **state)
{
    fixture_t *f = *state;
    cJSON *list, *record, *seen = cJSON_CreateObject();
    unsigned repeated = 0;
    pid_t pid;

    add(f, 3000);
    mayday_store_free(f->store);
    f->store = NULL;
    pid = fork();
    if (pid == 0) {
        start(f);
        pause();
    }
    usleep(700000); /* in the middle of it, wherever that is */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    start(f);
    WAIT_FOR(queued(f) == 0);
    assert_int_equal(count_of(f, "sent", ""), 3000);
    list = records(f);
    cJSON_ArrayForEach(record, list) {
        const char *id = TEXT(record, "envelope", "header", "event_id");

        if (cJSON_HasObjectItem(seen, id)) {
            repeated++;
        } else {
            cJSON_AddItemToObject(seen, id, cJSON_CreateTrue());
        }
    }
    assert_int_equal(cJSON_GetArraySize(seen), 3000);
    assert_in_range(repeated, 0, 16 + 32);
    print_message("repeated after the kill: %u\n", repeated);
    cJSON_Delete(seen);
    cJSON_Delete(list);
}

/* ---- at once ---- */

static long
send_now(fixture_t *f, const char *dsn, char *answer, char *why)
{
    return mayday_delivery_send_now(f->delivery, dsn,
                                    MAYDAY_SLICE("{\"event_id\":\"00\"}\n{\"type\":\"event\"}\n{}\n"),
                                    answer, 256, why, 256);
}

static void
test_send_now__says_exactly_what_is_wrong(void **state)
{
    fixture_t *f = *state;
    char answer[256], why[256], dsn[128], expected[128];
    unsigned dead_port;

    start(f);
    assert_int_equal(send_now(f, "ftp://x", answer, why), 0);
    assert_string_equal(why, "the DSN is not valid, expected a scheme of http or https");

    assert_int_equal(send_now(f, "http://k@sentry.invalid/1", answer, why), 0);
    assert_string_equal(why, "sentry.invalid cannot be resolved");

    receiver_stop(receiver_start(NULL, NULL, &dead_port));
    snprintf(dsn, sizeof(dsn), "http://k@127.0.0.1:%u/1", dead_port);
    snprintf(expected, sizeof(expected), "connection refused by 127.0.0.1:%u", dead_port);
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_string_equal(why, expected);

    behave(f, "[{\"status\":403,\"body\":\"{\\\"detail\\\":\\\"bad \\\\u0041 key\\\"}\"},"
              "{\"status\":200,\"body\":\"{\\\"id\\\":\\\"7\\\"}\"},{\"reset\":true},"
              "{\"stall\":0.1},{\"status\":301}]");
    assert_int_equal(send_now(f, f->dsn[0], answer, why), 403);
    assert_string_equal(why, "403: the key is not known to the project (bad \\u0041 key)");
    assert_string_equal(answer, "bad \\u0041 key");

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 200);
    assert_string_equal(why, "");
    assert_string_equal(answer, "{\"id\":\"7\"}");

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 0);
    assert_int_equal(strncmp(why, "the connection to 127.0.0.1:", 28), 0);

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u closed the connection without an answer",
             f->port);
    assert_string_equal(why, expected);

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 301);
    assert_non_null(strstr(why, "redirects are not followed"));
}

static void
test_send_now__certificate_must_be_trusted(void **state)
{
    fixture_t *f = *state;
    char command[512], certificate[128], key[128], dsn[128], answer[256], why[256];
    unsigned port;
    pid_t pid;

    snprintf(certificate, sizeof(certificate), "%s/cert.pem", f->dir);
    snprintf(key, sizeof(key), "%s/key.pem", f->dir);
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
             "-addext subjectAltName=DNS:localhost -out %s -keyout %s 2>/dev/null",
             certificate, key);
    assert_int_equal(system(command), 0);
    pid = receiver_start(certificate, key, &port);
    start(f);

    snprintf(dsn, sizeof(dsn), "https://k@localhost:%u/1", port);
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_int_equal(strncmp(why, "certificate of localhost is not trusted: self", 45), 0);

    f->settings.trusted_certificate = certificate;
    mayday_delivery_configure(f->delivery, &f->settings);
    assert_int_equal(send_now(f, dsn, answer, why), 200);

    snprintf(dsn, sizeof(dsn), "https://k@127.0.0.1:%u/1", port); /* another name than its own */
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_int_equal(strncmp(why, "certificate of 127.0.0.1 is not trusted: ", 41), 0);

    f->settings.trusted_certificate = "/nonexistent.pem";
    mayday_delivery_configure(f->delivery, &f->settings);
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_non_null(strstr(why, "the trusted certificates cannot be read"));
    receiver_stop(pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_delivery__refused_event_is_dropped_and_reported),
        TEST(test_delivery__limited_event_is_dropped_unreported_and_the_queue_waits),
        TEST(test_delivery__bare_429_is_a_minute),
        TEST(test_delivery__limit_on_a_200_holds_for_its_category_only),
        TEST(test_delivery__half_an_answer_counts_by_its_status),
        TEST(test_delivery__endless_answer_is_cut_and_counts_by_its_status),
        TEST(test_delivery__network_error_keeps_the_event),
        TEST(test_delivery__dead_receiver_is_probed_by_one_event_at_a_time),
        TEST(test_delivery__slow_dsn_does_not_hold_up_another),
        TEST(test_delivery__envelope_headers_and_order),
        TEST(test_delivery__connections_are_kept),
        TEST(test_delivery__send_rate_holds),
        TEST(test_delivery__proxy_of_the_settings_environment),
        TEST(test_delivery__unreadable_dsn_is_given_up_and_counted),
        TEST(test_delivery__dsn_that_left_the_settings_is_still_served),
        TEST(test_delivery__too_large_event_does_not_block_the_queue),
        TEST(test_delivery__purged_events_are_not_sent),
        TEST(test_free__sends_what_is_due_and_keeps_the_rest),
        TEST(test_delivery__kill_repeats_at_most_what_was_not_written),
        TEST(test_send_now__says_exactly_what_is_wrong),
        TEST(test_send_now__certificate_must_be_trusted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
