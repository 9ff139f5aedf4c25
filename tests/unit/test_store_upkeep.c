/*
 * The store's bounds, and that a purge leaves nothing behind.
 */
#include "tests/unit/store_fixture.h"

/* ---- trim ---- */

static void
trim(fixture_t *f, uint64_t queue_size, uint64_t retention_s, uint64_t now_us)
{
    mayday_store_bounds_t bounds = {queue_size, retention_s};

    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &bounds, now_us));
    OK(mayday_store_commit(f->store));
}

static void
test_trim__what_was_rolled_back_is_not_given_up(void **state)
{
    fixture_t *f = *state;
    mayday_store_bounds_t nothing = {.queue_size = 1}, all = {.queue_size = 1 << 20};

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}});
    add_now(f->store, &(sample_t){.number = 2, .dsns = {DSN_A}});
    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &nothing, NOW_US));
    mayday_store_rollback(f->store);
    assert_int_equal(mayday_store_given_up(f->store), 0);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &all, NOW_US));
    OK(mayday_store_commit(f->store));
    assert_int_equal(mayday_store_given_up(f->store), 0);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &nothing, NOW_US));
    OK(mayday_store_commit(f->store));
    assert_int_equal(mayday_store_given_up(f->store), 2);
}

static void
test_trim__within_bounds_nothing_goes(void **state)
{
    fixture_t *f = *state;

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}});
    add_now(f->store, &(sample_t){.number = 2});
    trim(f, 1 << 20, 7 * 86400, NOW_US + DAY_US);
    trim(f, 1 << 20, 0, NOW_US + 1000 * DAY_US); /* no retention: for ever */
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 2);
    assert_int_equal(count_of(f->store, "dropped", "queue_overflow"), 0);
}

static void
test_trim__overflow_gives_up_the_oldest_and_counts_each_dsn(void **state)
{
    fixture_t *f = *state;
    int64_t bytes;
    seen_t seen = {0};

    for (unsigned i = 1; i <= 10; i++) {
        add_now(f->store, &(sample_t){.number = i, .dsns = {DSN_A, i == 1 ? DSN_B : NULL}});
    }
    bytes = query(f, "SELECT pending_bytes FROM sizes") / 10;
    trim(f, (uint64_t) bytes * 7, 7 * 86400, NOW_US);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 7);
    assert_int_equal(query(f, "SELECT min(row) FROM events"), 4);
    assert_int_equal(count_of(f->store, "dropped", "queue_overflow"), 4);
    OK(mayday_store_discarded(f->store, 1, see_reason, &seen));
    assert_string_equal(seen.texts[0], "queue_overflow");
    assert_int_equal(seen.numbers[0], 3);
    assert_sums_hold(f);
}

static void
test_trim__delivered_events_go_without_a_loss(void **state)
{
    fixture_t *f = *state;
    int64_t bytes;

    for (unsigned i = 1; i <= 10; i++) {
        add_now(f->store, &(sample_t){.number = i});
    }
    bytes = query(f, "SELECT done_bytes FROM sizes") / 10;
    trim(f, (uint64_t) bytes * 4, 7 * 86400, NOW_US);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 4);
    assert_int_equal(query(f, "SELECT min(row) FROM events"), 7);
    trim(f, 1 << 20, 7 * 86400, NOW_US + 8 * DAY_US);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM counts"), 0);
    assert_sums_hold(f);
}

static void
test_trim__nothing_stays_beyond_retention(void **state)
{
    fixture_t *f = *state;

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}});
    add_now(f->store, &(sample_t){.number = 2, .time_us = NOW_US + 5 * DAY_US, .dsns = {DSN_A}});
    trim(f, 1 << 20, 7 * 86400, NOW_US + 8 * DAY_US);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 1);
    assert_int_equal(count_of(f->store, "dropped", "cache_overflow"), 1);
    trim(f, 1 << 20, 7 * 86400, NOW_US + 20 * DAY_US);
    trim(f, 1 << 20, 7 * 86400, NOW_US + 20 * DAY_US);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM issues"), 0);
    assert_sums_hold(f);
}

static void
test_trim__is_bounded_a_call_and_arrives(void **state)
{
    fixture_t *f = *state;

    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < 2000; i++) {
        OK(add(f->store, &(sample_t){.number = i}));
    }
    OK(mayday_store_commit(f->store));
    trim(f, 1, 0, NOW_US);
    assert_in_range(query(f, "SELECT count(*) FROM events"), 1, 1999);
    for (int i = 0; i < 10; i++) {
        trim(f, 1, 0, NOW_US);
    }
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 0);
}

static void
test_purge__nothing_asked_is_invalid(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t what = {0};
    mayday_store_purged_t purged;
    uint64_t purges = mayday_store_purges();

    add_now(f->store, &(sample_t){.number = 1});
    assert_int_equal(mayday_store_purge(f->store, &what, &purged), MAYDAY_INVALID);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 1);
    assert_int_equal(mayday_store_purges(), purges);
}

static void
test_purge__user_by_any_of_its_names(void **state)
{
    static const char *const theirs[] = {
        "{\"user\":{\"id\":4711}}",
        "{\"user\":{\"id\":\"4711\"}}",
        "{\"user\":{\"email\":\"4711\"}}",
        "{\"user\":{\"username\":\"4711\"}}",
        "{\"user\":{\"ip_address\":\"4711\"}}",
        "{\"request\":{\"env\":{\"REMOTE_ADDR\":\"4711\"}}}",
    };
    static const char *const others[] = {
        "{\"user\":{\"id\":\"47110\"}}",
        "{\"user\":{\"id\":\"471\"}}",
        "{\"id\":\"4711\"}",
        "{\"user\":\"4711\"}",
        "{\"user\":{\"id\":[4711]}}",
        "not JSON 4711",
        "",
    };
    fixture_t *f = *state;
    mayday_store_purge_t what = {.user = MAYDAY_SLICE("4711")};
    mayday_store_purged_t purged;
    uint64_t purges = mayday_store_purges();
    unsigned number = 0;

    for (size_t i = 0; i < MAYDAY_COUNT(theirs); i++) {
        add_now(f->store, &(sample_t){.number = number++, .json = theirs[i], .dsns = {DSN_A}});
    }
    for (size_t i = 0; i < MAYDAY_COUNT(others); i++) {
        add_now(f->store, &(sample_t){.number = number++, .json = others[i], .dsns = {DSN_A}});
    }
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged.events, MAYDAY_COUNT(theirs));
    assert_int_equal(query(f, "SELECT count(*) FROM queue"), MAYDAY_COUNT(others));
    assert_int_equal(mayday_store_purges(), purges + 1);
    assert_sums_hold(f);
}

static void
test_purge__leaves_no_byte_behind(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t what = {.user = MAYDAY_SLICE("bob@example.com")};
    char json[4000], path[128];
    mayday_store_purged_t purged;
    FILE *file;

    snprintf(json, sizeof(json), "{\"user\":{\"email\":\"bob@example.com\"},\"pad\":\"%03000d\"}",
             0);
    for (unsigned i = 0; i < 50; i++) {
        add_now(f->store, &(sample_t){.number = i, .json = json, .dsns = {DSN_A}});
    }
    add_now(f->store, &(sample_t){.number = 50, .json = "{\"keep\":\"me\"}", .dsns = {DSN_A}});
    snprintf(path, sizeof(path), "%s.corrupt-1700000000", f->path);
    file = fopen(path, "w");
    fputs("bob@example.com", file);
    fclose(file);
    assert_true(bytes_hold(f, "bob@example.com"));
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged.events, 50);
    assert_false(bytes_hold(f, "bob@example.com"));
    assert_true(bytes_hold(f, "keep"));
    assert_int_equal(files(f, "store.sqlite.corrupt-"), 0);
    assert_sums_hold(f);
}

static void
test_purge__all_keeps_counts_and_goes_on_counting_rows(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t what = {.all = true};
    mayday_store_query_t q = {.limit = 10};
    seen_t before = {0}, after = {0};
    struct stat st;
    mayday_store_purged_t purged;

    OK(mayday_store_begin(f->store));
    OK(mayday_store_count(f->store, "sent", "", 3));
    for (unsigned i = 0; i < 1000; i++) {
        OK(add(f->store, &(sample_t){.number = i, .dsns = {DSN_A}}));
    }
    OK(mayday_store_commit(f->store));
    OK(mayday_store_events(f->store, &q, see_row, &before));
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged.events, 1000);
    assert_int_equal(query(f, "SELECT count(*) FROM issues"), 0);
    assert_int_equal(count_of(f->store, "sent", ""), 3);
    assert_int_equal(stat(f->path, &st), 0);
    assert_in_range(st.st_size, 8192, 400000);
    add_now(f->store, &(sample_t){.number = 1});
    OK(mayday_store_events(f->store, &q, see_row, &after));
    assert_true(after.rows[0] > before.rows[0]);
    assert_sums_hold(f);
}

static void
test_purge__before_a_time(void **state)
{
    fixture_t *f = *state;
    mayday_store_purge_t what = {.before_us = NOW_US + 3};
    mayday_store_purged_t purged;

    for (unsigned i = 1; i <= 5; i++) {
        add_now(f->store, &(sample_t){.number = i, .issue = (uint8_t) i});
    }
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged.events, 2);
    assert_int_equal(query(f, "SELECT count(*) FROM issues"), 3);
    assert_sums_hold(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_trim__what_was_rolled_back_is_not_given_up),
        TEST(test_trim__within_bounds_nothing_goes),
        TEST(test_trim__overflow_gives_up_the_oldest_and_counts_each_dsn),
        TEST(test_trim__delivered_events_go_without_a_loss),
        TEST(test_trim__nothing_stays_beyond_retention),
        TEST(test_trim__is_bounded_a_call_and_arrives),
        TEST(test_purge__nothing_asked_is_invalid),
        TEST(test_purge__user_by_any_of_its_names),
        TEST(test_purge__leaves_no_byte_behind),
        TEST(test_purge__all_keeps_counts_and_goes_on_counting_rows),
        TEST(test_purge__before_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
