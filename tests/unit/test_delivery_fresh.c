/*
 * Events handed over in memory: what must not go out of it, what falls back to
 * the queue on disk, and that each goes out once. In the store an event says
 * "from":"store", in memory "from":"memory", so that the receiver tells which of
 * the two was sent.
 */
#include "tests/unit/delivery_fixture.h"

#define IN_FLIGHT 16

static mayday_fresh_t kept[4096]; /* event ids and rows of what was added last */
static char kept_ids[4096][33];
static size_t kept_count;

/* Stores events for all DSNs of the fixture and keeps their queue rows, to be handed over. */
static void
add_kept(fixture_t *f, unsigned count, mayday_slice_t filler)
{
    uint64_t purges = mayday_store_purges();
    size_t size = filler.len + 128;
    char *json = malloc(size);

    kept_count = 0;
    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < count; i++) {
        mayday_store_event_t event = {.kind = "limited", .level = "error"};
        mayday_store_queued_t queued;

        snprintf(kept_ids[i], sizeof(kept_ids[i]), "%032x", ++f->added);
        event.event_id = mayday_slice_str(kept_ids[i]);
        snprintf(json, size, "{\"event_id\":\"%s\",\"from\":\"store\",\"x\":\"%.*s\"}", kept_ids[i],
                 (int) filler.len, filler.data);
        event.time_us = mayday_clock_us();
        event.json = mayday_slice_str(json);
        OK(mayday_store_event_add(f->store, &event, f->destination.dsns, f->destination.dsn_count));
        queued = mayday_store_queued(f->store);
        for (size_t j = 0; j < queued.dsn_count; j++) {
            kept[kept_count++] = (mayday_fresh_t){.row = queued.row,
                                                  .dsn = queued.dsns[j],
                                                  .event_id = event.event_id,
                                                  .purges = purges};
        }
    }
    OK(mayday_store_commit(f->store));
    free(json);
}

static void
hand_kept(fixture_t *f, mayday_slice_t filler)
{
    size_t size = filler.len + 128;
    char *json = malloc(size);

    for (size_t i = 0; i < kept_count; i++) {
        snprintf(json, size, "{\"event_id\":\"%s\",\"from\":\"memory\",\"x\":\"%.*s\"}",
                 kept[i].event_id.data, (int) filler.len, filler.data);
        kept[i].json = mayday_slice_str(json);
        mayday_delivery_hand(f->delivery, &kept[i]);
    }
    free(json);
}

static void
hand(fixture_t *f, unsigned count)
{
    add_kept(f, count, MAYDAY_SLICE(""));
    hand_kept(f, MAYDAY_SLICE(""));
}

typedef struct {
    unsigned events, distinct, from_memory;
    bool ascending; /* in order of event ids, repeats aside */
} arrived_t;

/* What was answered with 200. */
static arrived_t
arrived(const fixture_t *f)
{
    cJSON *list = records(f), *record, *seen = cJSON_CreateObject();
    arrived_t all = {.ascending = true};
    char last[33] = "";

    cJSON_ArrayForEach(record, list)
    {
        const char *id = TEXT(record, "envelope", "header", "event_id");
        const char *from = TEXT(record, "envelope", "items", "0", "payload", "from");

        if (id == NULL || from == NULL || GET(record, "status")->valueint != 200) {
            continue;
        }
        all.events++;
        all.from_memory += strcmp(from, "memory") == 0;
        all.ascending = all.ascending && strcmp(last, id) < 0;
        snprintf(last, sizeof(last), "%s", id);
        if (!cJSON_HasObjectItem(seen, id)) {
            all.distinct++;
            cJSON_AddItemToObject(seen, id, cJSON_CreateTrue());
        }
    }
    cJSON_Delete(seen);
    cJSON_Delete(list);
    return all;
}

/* A delivery that knows its DSNs and is idle: else the first events come from the store. */
static void
start_idle(fixture_t *f)
{
    start(f);
    WAIT_FOR(infos(f).count == f->destination.dsn_count);
}

/* ---- what must not go out of memory ---- */

static void
test_hand__purged_event_is_not_sent(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t all = {.all = true};
    mayday_store_purged_t purged;
    arrived_t got;

    behave(f, "[{\"times\":16,\"delay\":1}]");
    start_idle(f);
    hand(f, 100);
    WAIT_FOR(infos(f).info[0].in_flight == IN_FLIGHT);
    OK(mayday_store_purge(f->store, &all, &purged));
    assert_int_equal(purged.events, 100);
    WAIT_FOR(infos(f).info[0].queued == 0 && infos(f).info[0].in_flight == 0);
    hand(f, 1);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    got = arrived(f);
    assert_int_equal(got.events, IN_FLIGHT + 1); /* what was on its way, and the one behind */
}

static void
test_hand__event_purged_between_commit_and_hand_is_not_sent(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t all = {.all = true};
    mayday_store_purged_t purged;

    start_idle(f);
    add_kept(f, 10, MAYDAY_SLICE(""));
    OK(mayday_store_purge(f->store, &all, &purged));
    assert_int_equal(purged.events, 10);
    hand_kept(f, MAYDAY_SLICE(""));
    hand(f, 1);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    WAIT_FOR(infos(f).info[0].queued == 0);
    assert_int_equal(arrived(f).events, 1);
}

static void
test_hand__event_given_up_is_not_sent(void **state)
{
    fixture_t *f = *state;
    mayday_store_bounds_t bounds = {.queue_size = 1};

    behave(f, "[{\"times\":16,\"delay\":1}]");
    start_idle(f);
    hand(f, 100);
    WAIT_FOR(infos(f).info[0].in_flight == IN_FLIGHT);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &bounds, mayday_clock_us()));
    OK(mayday_store_commit(f->store));
    assert_int_equal(mayday_store_given_up(f->store), 100);
    mayday_delivery_give_up(f->delivery, mayday_store_given_up(f->store));
    WAIT_FOR(infos(f).info[0].queued == 0 && infos(f).info[0].in_flight == 0);
    hand(f, 1);
    WAIT_FOR(count_of(f, "sent", "") == 1);
    assert_int_equal(arrived(f).events, IN_FLIGHT + 1);
    assert_int_equal(count_of(f, "dropped", "queue_overflow"), 100);
}

static void
test_hand__event_of_an_unreadable_dsn_is_given_up(void **state)
{
    fixture_t *f = *state;

    snprintf(f->dsn[0], sizeof(f->dsn[0]), "not a DSN");
    start_idle(f);
    hand(f, 20);
    WAIT_FOR(count_of(f, "dropped", "invalid_dsn") == 20);
    assert_int_equal(queued(f), 0);
}

/* ---- back to the queue on disk ---- */

static void
test_hand__failing_receiver_gets_all_once_it_is_back(void **state)
{
    fixture_t *f = *state;
    arrived_t got;

    behave(f, "[{\"times\":40,\"refuse\":true}]");
    start_idle(f);
    hand(f, 30);
    WAIT_FOR(infos(f).info[0].retry_at_us > 0);
    hand(f, 30); /* stay on disk */
    assert_int_equal(queued(f), 60);
    behave(f, "[]");
    WAIT_FOR(count_of(f, "sent", "") == 60);
    WAIT_FOR(infos(f).info[0].queued == 0); /* and it has seen that nothing is left there */
    hand(f, 30);                            /* so these need not be read back */
    WAIT_FOR(count_of(f, "sent", "") == 90);
    got = arrived(f);
    assert_int_equal(got.events, 90);
    assert_int_equal(got.distinct, 90);
    assert_int_equal(got.from_memory, 30);
    assert_int_equal(queued(f), 0);
}

static void
test_hand__limited_receiver_finds_events_on_disk(void **state)
{
    fixture_t *f = *state;
    arrived_t got;

    behave(f, "[{\"headers\":{\"X-Sentry-Rate-Limits\":\"1:error:organization\"}}]");
    start_idle(f);
    hand(f, 1);
    WAIT_FOR(infos(f).info[0].limited_until_us > 0);
    hand(f, 20);
    WAIT_FOR(count_of(f, "sent", "") == 21);
    got = arrived(f);
    assert_int_equal(got.distinct, 21);
    assert_int_equal(got.from_memory, 1);
}

static void
test_hand__more_than_memory_takes_goes_by_the_disk_and_arrives_once(void **state)
{
    static char filler[8192];
    fixture_t *f = *state;
    arrived_t got;

    memset(filler, 'x', sizeof(filler));
    behave(f, "[{\"times\":16,\"delay\":1}]");
    start_idle(f);
    /* 1,000 of 8 KiB: twice of what may be in memory at all, four times of one DSN's part */
    for (unsigned i = 0; i < 10; i++) {
        add_kept(f, 100, mayday_slice(filler, sizeof(filler)));
        hand_kept(f, mayday_slice(filler, sizeof(filler)));
    }
    WAIT_FOR(infos(f).info[0].queued == 1000);
    WAIT_FOR(count_of(f, "sent", "") == 1000);
    hand(f, 10);
    WAIT_FOR(count_of(f, "sent", "") == 1010);
    got = arrived(f);
    assert_int_equal(got.events, 1010);
    assert_int_equal(got.distinct, 1010);
    assert_in_range(got.from_memory, 200 + 10, 400 + 10);
    assert_int_equal(queued(f), 0);
    assert_int_equal(infos(f).info[0].queued, 0);
}

static void
test_hand__slow_dsn_leaves_memory_for_another(void **state)
{
    static char filler[8192];
    fixture_t *f = *state;

    memset(filler, 'x', sizeof(filler));
    behave(f, "[{\"path\":\"/42/\",\"times\":0,\"stall\":15}]");
    f->destination.dsn_count = 2;
    start_idle(f);
    for (unsigned i = 0; i < 6; i++) {
        add_kept(f, 100, mayday_slice(filler, sizeof(filler)));
        hand_kept(f, mayday_slice(filler, sizeof(filler)));
        WAIT_FOR(count_of(f, "sent", "") == (i + 1) * 100);
    }
    assert_int_equal(queued(f), 600);
    assert_int_equal(arrived(f).from_memory, 600 + IN_FLIGHT); /* the slow one's first, too */
}

static void
test_hand__under_a_rate_all_go_once_and_in_order(void **state)
{
    fixture_t *f = *state;
    arrived_t got;

    f->settings.send_rate = (mayday_rate_setting_t){.events = 50, .period_s = 1, .burst = 1};
    start_idle(f);
    hand(f, 20);
    hand(f, 10);
    WAIT_FOR(count_of(f, "sent", "") == 30);
    got = arrived(f);
    assert_int_equal(got.events, 30);
    assert_true(got.ascending);
    assert_in_range(got.from_memory, 1, 3); /* only what had a token at once */
}

static void
test_hand__what_was_read_from_the_queue_already_is_not_sent_twice(void **state)
{
    fixture_t *f = *state;
    arrived_t got;

    start_idle(f);
    for (unsigned i = 0; i < 20; i++) {
        add_kept(f, 20, MAYDAY_SLICE(""));
        mayday_delivery_wake(f->delivery);
        usleep(i * 200); /* before, while and after delivery reads */
        hand_kept(f, MAYDAY_SLICE(""));
    }
    WAIT_FOR(count_of(f, "sent", "") == 400);
    WAIT_FOR(infos(f).info[0].queued == 0);
    got = arrived(f);
    assert_int_equal(got.events, 400);
    assert_int_equal(got.distinct, 400);
}

/* ---- the way it is meant ---- */

static void
test_hand__event_is_sent_without_being_read_back(void **state)
{
    fixture_t *f = *state;
    arrived_t got;

    f->destination.dsn_count = 2;
    start_idle(f);
    for (unsigned i = 0; i < 5; i++) {
        hand(f, 50);
        WAIT_FOR(count_of(f, "sent", "") == (i + 1) * 100);
    }
    got = arrived(f);
    assert_int_equal(got.events, 500);
    assert_int_equal(got.distinct, 250);
    assert_int_equal(got.from_memory, 500);
    assert_int_equal(queued(f), 0);
    WAIT_FOR(infos(f).info[0].queued == 0 && infos(f).info[1].queued == 0);
}

static void
test_hand__dsn_that_is_new_in_the_store_is_found(void **state)
{
    fixture_t *f = *state;

    start_idle(f);
    f->destination.dsns[0] = f->dsn[1];
    hand(f, 20);
    WAIT_FOR(count_of(f, "sent", "") == 20);
    assert_int_equal(arrived(f).distinct, 20);
}

static void
test_free__what_was_handed_over_stays_queued(void **state)
{
    fixture_t *f = *state;

    behave(f, "[{\"times\":0,\"stall\":10}]");
    start_idle(f);
    hand(f, 200);
    mayday_delivery_free(f->delivery, 0);
    f->delivery = NULL;
    assert_int_equal(queued(f), 200);
    behave(f, "[]");
    start(f);
    WAIT_FOR(count_of(f, "sent", "") == 200);
}

/* ---- after a crash ---- */

static void
hand_until_killed(fixture_t *f)
{
    f->store = mayday_store_new(f->path, error, sizeof(error));
    start_idle(f);
    for (unsigned i = 0; i < 30; i++) {
        hand(f, 100);
        usleep(20000);
    }
    pause();
}

static void
test_hand__kill_loses_nothing_and_repeats_little(void **state)
{
    fixture_t *f = *state;
    arrived_t got;
    uint64_t stored;
    pid_t pid;

    mayday_store_free(f->store);
    f->store = NULL;
    pid = fork();
    if (pid == 0) {
        hand_until_killed(f);
    }
    usleep(500000); /* in the middle of it, wherever that is */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    stored = queued(f) + count_of(f, "sent", "");
    assert_in_range(stored, 1, 3000);
    start(f);
    WAIT_FOR(queued(f) == 0);
    assert_int_equal(count_of(f, "sent", ""), stored);
    got = arrived(f);
    assert_int_equal(got.distinct, stored);
    print_message("repeated after the kill: %u of %u\n", got.events - got.distinct, got.events);
    /* in flight, and results that waited for the writer of the events */
    assert_in_range(got.events - got.distinct, 0, IN_FLIGHT + 192);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hand__purged_event_is_not_sent),
        TEST(test_hand__event_purged_between_commit_and_hand_is_not_sent),
        TEST(test_hand__event_given_up_is_not_sent),
        TEST(test_hand__event_of_an_unreadable_dsn_is_given_up),
        TEST(test_hand__failing_receiver_gets_all_once_it_is_back),
        TEST(test_hand__limited_receiver_finds_events_on_disk),
        TEST(test_hand__more_than_memory_takes_goes_by_the_disk_and_arrives_once),
        TEST(test_hand__slow_dsn_leaves_memory_for_another),
        TEST(test_hand__under_a_rate_all_go_once_and_in_order),
        TEST(test_hand__what_was_read_from_the_queue_already_is_not_sent_twice),
        TEST(test_hand__event_is_sent_without_being_read_back),
        TEST(test_hand__dsn_that_is_new_in_the_store_is_found),
        TEST(test_free__what_was_handed_over_stays_queued),
        TEST(test_hand__kill_loses_nothing_and_repeats_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
