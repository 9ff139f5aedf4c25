/*
 * Delivery against a receiver that misbehaves: what is dropped, kept, counted and
 * told.
 */
#include "tests/unit/delivery_fixture.h"

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
    cJSON_ArrayForEach(record, list)
    {
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
    mayday_store_purged_t purged;

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
    cJSON_ArrayForEach(record, list)
    {
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
