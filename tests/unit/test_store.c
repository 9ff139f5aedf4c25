/*
 * The store: what it refuses, what it keeps over a crash, and what it gives back.
 */
#include "tests/unit/store_fixture.h"

/* ---- opening ---- */

static void
test_new__missing_directory_is_told(void **state)
{
    (void) state;
    assert_null(mayday_store_new("/nonexistent/store.sqlite", error, sizeof(error)));
    assert_non_null(strstr(error, "/nonexistent/store.sqlite"));
    assert_non_null(strstr(error, "No such file"));
}

static void
test_new__link_is_refused(void **state)
{
    fixture_t *f = *state;
    char path[160];

    snprintf(path, sizeof(path), "%s/link", f->dir);
    assert_int_equal(symlink(f->path, path), 0);
    assert_null(mayday_store_new(path, error, sizeof(error)));
}

static void
test_new__newer_schema_is_refused_and_untouched(void **state)
{
    fixture_t *f = *state;

    mayday_store_free(f->store);
    execute(f, "PRAGMA user_version = 999");
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_null(f->store);
    assert_non_null(strstr(error, "version 999"));
    assert_int_equal(query(f, "PRAGMA user_version"), 999);
    assert_int_equal(files(f, "store.sqlite.corrupt-"), 0);
    execute(f, "PRAGMA user_version = 3");
    reopen(f);
    assert_non_null(f->store);
}

/* Back to version 1. */
static const char schema_of_version_1[] =
    "DROP TRIGGER event_gone; DROP TRIGGER queue_gone;"
    "CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN"
    "  UPDATE sizes SET"
    "    pending_bytes = pending_bytes - CASE WHEN old.pending > 0 THEN old.bytes ELSE 0 END,"
    "    done_bytes = done_bytes - CASE WHEN old.pending = 0 THEN old.bytes ELSE 0 END;"
    "  DELETE FROM payloads WHERE event = old.row;"
    "  DELETE FROM queue WHERE event = old.row; END;"
    "CREATE TRIGGER queue_gone AFTER DELETE ON queue BEGIN"
    "  UPDATE dsns SET queued = queued - 1 WHERE id = old.dsn;"
    "  UPDATE events SET pending = pending - 1 WHERE row = old.event; END;"
    "DROP TABLE dropped; DROP TABLE rules; ALTER TABLE sizes DROP COLUMN dropped_bytes;"
    "PRAGMA user_version = 1";

static void
test_new__older_schema_is_migrated_with_what_it_holds(void **state)
{
    fixture_t *f = *state;
    seen_t seen = {0};

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A, DSN_B}});
    add_now(f->store, &(sample_t){.number = 2, .dsns = {DSN_A}});
    mayday_store_free(f->store);
    f->store = NULL;
    execute(f, schema_of_version_1);
    reopen(f);
    assert_non_null(f->store);
    assert_int_equal(query(f, "PRAGMA user_version"), 3);
    assert_int_equal(query(f, "SELECT count(*) FROM sqlite_master WHERE name IN ('event_gone', "
                              "'queue_gone') AND sql LIKE '%UPDATE OR FAIL%'"),
                     2);
    assert_int_equal(query(f, "SELECT dropped_bytes FROM sizes"), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM dropped"), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM rules"), 0);
    OK(mayday_store_due(f->store, 1, 0, 10, see_due, &seen));
    assert_int_equal(seen.count, 2);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_queue_remove(f->store, 1, 1));
    OK(mayday_store_queue_remove(f->store, 1, 2));
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT count(*) FROM queue"), 1);
    assert_sums_hold(f);
}

static void
test_new__other_programs_database_is_refused(void **state)
{
    fixture_t *f = *state;

    mayday_store_free(f->store);
    execute(f, "PRAGMA application_id = 7");
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_null(f->store);
    assert_non_null(strstr(error, "another program"));
    assert_int_equal(files(f, "store.sqlite.corrupt-"), 0);
}

static void
test_new__garbage_is_moved_aside(void **state)
{
    fixture_t *f = *state;
    FILE *file;

    mayday_store_free(f->store);
    file = fopen(f->path, "w");
    for (int i = 0; i < 5000; i++) {
        fputs("garbage ", file);
    }
    fclose(file);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    assert_int_equal(files(f, "store.sqlite.corrupt-"), 1);
    add_now(f->store, &(sample_t){.number = 1});
}

static void
test_new__damaged_page_is_moved_aside(void **state)
{
    fixture_t *f = *state;
    char garbage[4096];
    struct stat st;
    int fd;

    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < 500; i++) {
        OK(add(f->store, &(sample_t){.number = i, .dsns = {DSN_A}}));
    }
    OK(mayday_store_commit(f->store));
    mayday_store_free(f->store);
    f->store = NULL;
    memset(garbage, 0xa5, sizeof(garbage));
    fd = open(f->path, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 8192 * 3; at + 4096 < st.st_size; at += 8192 * 2) {
        assert_int_equal(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
    }
    close(fd);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    assert_int_equal(files(f, "store.sqlite.corrupt-"), 1);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 0);
}

static void
test_new__files_are_the_owners_only(void **state)
{
    fixture_t *f = *state;
    char path[128];
    struct stat st;
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    mayday_store_free(f->store);
    assert_int_equal(chmod(f->path, 0644), 0);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    add_now(f->store, &(sample_t){.number = 1});
    for (size_t i = 0; i < MAYDAY_COUNT(suffixes); i++) {
        snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
}

/* ---- transactions ---- */

static void
test_rollback__undoes_all_and_forgets_dsns(void **state)
{
    fixture_t *f = *state;
    seen_t seen = {0};
    int64_t newest = 0;

    OK(mayday_store_begin(f->store));
    OK(mayday_store_count(f->store, "sent", "", 1));
    OK(add(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}}));
    mayday_store_rollback(f->store);
    mayday_store_rollback(f->store);
    assert_int_equal(count_of(f->store, "sent", ""), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM dsns"), 0);

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}});
    OK(mayday_store_dsns(f->store, see_dsn, &seen, &newest));
    assert_int_equal(newest, 1);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.numbers[0], 1);
    assert_sums_hold(f);
}

static void
test_try_begin__is_busy_while_another_connection_writes(void **state)
{
    fixture_t *f = *state;
    mayday_store_t *other = mayday_store_new(f->path, error, sizeof(error));

    assert_non_null(other);
    OK(mayday_store_begin(f->store));
    assert_int_equal(mayday_store_try_begin(other), MAYDAY_BUSY);
    mayday_store_rollback(other); /* harmless: it has not begun */
    OK(mayday_store_commit(f->store));
    OK(mayday_store_try_begin(other));
    OK(mayday_store_count(other, "sent", "", 1));
    OK(mayday_store_commit(other));
    assert_int_equal(count_of(f->store, "sent", ""), 1);
    mayday_store_free(other);
}

static void
test_queued__names_what_the_last_event_waits_for(void **state)
{
    fixture_t *f = *state;
    mayday_store_queued_t queued;

    OK(mayday_store_begin(f->store));
    OK(add(f->store, &(sample_t){.number = 1}));
    assert_int_equal(mayday_store_queued(f->store).dsn_count, 0);
    OK(add(f->store, &(sample_t){.number = 2, .dsns = {DSN_B, DSN_A}}));
    queued = mayday_store_queued(f->store);
    assert_int_equal(queued.row, 2);
    assert_int_equal(queued.dsn_count, 2);
    assert_int_equal(queued.dsns[0], 1);
    assert_int_equal(queued.dsns[1], 2);
    OK(add(f->store, &(sample_t){.number = 2, .dsns = {DSN_A}})); /* it is here already */
    assert_int_equal(mayday_store_queued(f->store).dsn_count, 0);
    OK(mayday_store_commit(f->store));
}

static void
test_commit__survives_a_kill_and_nothing_else_does(void **state)
{
    fixture_t *f = *state;
    int status;
    pid_t pid;

    mayday_store_free(f->store);
    f->store = NULL;
    pid = fork();
    if (pid == 0) {
        mayday_store_t *store = mayday_store_new(f->path, error, sizeof(error));

        if (mayday_store_begin(store) != MAYDAY_OK ||
            add(store, &(sample_t){.number = 1}) != MAYDAY_OK ||
            mayday_store_commit(store) != MAYDAY_OK || mayday_store_begin(store) != MAYDAY_OK ||
            add(store, &(sample_t){.number = 2}) != MAYDAY_OK) {
            _exit(1);
        }
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 1);
    assert_sums_hold(f);
}

static void *
write_much(void *ctx)
{
    const char *path = ctx;
    char text[256];
    mayday_store_t *store = mayday_store_new(path, text, sizeof(text));
    uintptr_t failed = store == NULL;

    for (int i = 0; i < 200 && failed == 0; i++) {
        failed += mayday_store_begin(store) != MAYDAY_OK;
        failed += mayday_store_count(store, "sent", "", 1) != MAYDAY_OK;
        failed += mayday_store_commit(store) != MAYDAY_OK;
    }
    mayday_store_free(store);
    return (void *) failed;
}

static void
test_begin__threads_take_turns(void **state)
{
    fixture_t *f = *state;
    pthread_t threads[4];
    void *failed;

    for (size_t i = 0; i < MAYDAY_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_much, f->path), 0);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(threads); i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(count_of(f->store, "sent", ""), 800);
}

/* ---- counts and positions ---- */

static void
test_count__names_are_bounded_and_the_sum_is_exact(void **state)
{
    fixture_t *f = *state;
    count_t count = {.name = "filtered", .reason = "other"};
    char reason[32];

    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < MAYDAY_STORE_COUNTS_MAX + 100; i++) {
        snprintf(reason, sizeof(reason), "before_send:%u", i);
        OK(mayday_store_count(f->store, "filtered", reason, 1));
    }
    OK(mayday_store_count(f->store, "filtered", "before_send:7", 1));
    OK(mayday_store_commit(f->store));
    OK(mayday_store_counts(f->store, see_count, &count));
    assert_int_equal(count.rows, MAYDAY_STORE_COUNTS_MAX + 1);
    assert_int_equal(count.n, 100);
    assert_int_equal(query(f, "SELECT sum(n) FROM counts"), MAYDAY_STORE_COUNTS_MAX + 101);
    assert_int_equal(count_of(f->store, "filtered", "before_send:7"), 2);
}

static void
test_count__adds_up_over_reopening(void **state)
{
    fixture_t *f = *state;

    for (int i = 0; i < 3; i++) {
        OK(mayday_store_begin(f->store));
        OK(mayday_store_count(f->store, "captured", "retried", 5));
        OK(mayday_store_count(f->store, "captured", "limited", 0));
        OK(mayday_store_commit(f->store));
        reopen(f);
    }
    assert_int_equal(count_of(f->store, "captured", "retried"), 15);
    assert_int_equal(query(f, "SELECT count(*) FROM counts"), 1);
}

static void
test_position__unknown_life_is_not_found(void **state)
{
    fixture_t *f = *state;
    mayday_lane_key_t key = {.segment = {1}, .slot = 2, .generation = 3}, other;
    uint64_t position = 0, records = 0;

    OK(mayday_store_begin(f->store));
    OK(mayday_store_position_set(f->store, &key, 4096, 7));
    OK(mayday_store_position_set(f->store, &key, UINT64_MAX, 8));
    OK(mayday_store_commit(f->store));
    other = key;
    other.generation++;
    assert_int_equal(mayday_store_position_get(f->store, &other, &position, &records),
                     MAYDAY_NOT_FOUND);
    other = key;
    other.segment[15] = 9;
    assert_int_equal(mayday_store_position_get(f->store, &other, &position, &records),
                     MAYDAY_NOT_FOUND);
    OK(mayday_store_position_get(f->store, &key, &position, &records));
    assert_true(position == UINT64_MAX && records == 8);
}

static void
test_position_fold__only_once(void **state)
{
    fixture_t *f = *state;
    mayday_lane_key_t read = {.segment = {1}, .generation = 1};
    mayday_lane_key_t unread = {.segment = {1}, .generation = 2};

    OK(mayday_store_begin(f->store));
    OK(mayday_store_position_set(f->store, &read, 64, 1));
    OK(mayday_store_position_fold(f->store, &read));
    OK(mayday_store_position_fold(f->store, &unread));
    OK(mayday_store_commit(f->store));
    reopen(f);
    OK(mayday_store_begin(f->store));
    assert_int_equal(mayday_store_position_fold(f->store, &read), MAYDAY_NOT_FOUND);
    assert_int_equal(mayday_store_position_fold(f->store, &unread), MAYDAY_NOT_FOUND);
    OK(mayday_store_commit(f->store));
}

/* ---- events ---- */

static void
test_event_add__bad_id_is_invalid(void **state)
{
    fixture_t *f = *state;
    mayday_store_event_t event = {.event_id = MAYDAY_SLICE("0123"), .kind = "", .level = ""};

    OK(mayday_store_begin(f->store));
    assert_int_equal(mayday_store_event_add(f->store, &event, NULL, 0), MAYDAY_INVALID);
    mayday_store_rollback(f->store);
}

static void
test_event_add__second_time_changes_nothing(void **state)
{
    fixture_t *f = *state;
    sample_t sample = {.number = 1, .dsns = {DSN_A}};

    add_now(f->store, &sample);
    sample.dsns[1] = DSN_B;
    add_now(f->store, &sample);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 1);
    assert_int_equal(query(f, "SELECT count(*) FROM queue"), 1);
    assert_sums_hold(f);
}

static void
test_event_add__dsn_given_twice_is_one_row(void **state)
{
    fixture_t *f = *state;

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A, DSN_A}});
    assert_int_equal(query(f, "SELECT count(*) FROM queue"), 1);
    assert_sums_hold(f);
}

static void
test_event_json__needs_an_id_that_is_one(void **state)
{
    fixture_t *f = *state;
    char *json;
    size_t len;

    add_now(f->store, &(sample_t){.number = 0xabcd1234, .json = "{\"n\":1}"});
    add_now(f->store, &(sample_t){.number = 0xabcd5678, .json = "{\"n\":2}"});
    assert_int_equal(mayday_store_event_json(f->store, MAYDAY_SLICE(""), &json, &len),
                     MAYDAY_NOT_FOUND);
    assert_int_equal(mayday_store_event_json(f->store, MAYDAY_SLICE("abc"), &json, &len),
                     MAYDAY_NOT_FOUND);
    assert_int_equal(mayday_store_event_json(f->store, MAYDAY_SLICE("zzzz"), &json, &len),
                     MAYDAY_NOT_FOUND);
    assert_int_equal(mayday_store_event_json(f->store, MAYDAY_SLICE("abce"), &json, &len),
                     MAYDAY_NOT_FOUND);
    assert_int_equal(mayday_store_event_json(f->store, MAYDAY_SLICE("abcd"), &json, &len),
                     MAYDAY_INVALID);
    assert_null(json);
    OK(mayday_store_event_json(f->store, MAYDAY_SLICE("abcd5"), &json, &len));
    assert_string_equal(json, "{\"n\":2}");
    assert_int_equal(len, 7);
    free(json);
    OK(mayday_store_event_json(f->store, MAYDAY_SLICE("abcd1234000000000000000000000000"), &json,
                               &len));
    free(json);
}

static void
test_events__filters_and_order(void **state)
{
    fixture_t *f = *state;
    mayday_store_query_t q = {.limit = 2};
    seen_t seen = {0};

    OK(mayday_store_begin(f->store));
    for (unsigned i = 1; i <= 5; i++) {
        OK(add(f->store, &(sample_t){.number = i,
                                     .kind = i % 2 ? "limited" : "retried",
                                     .issue = (uint8_t) (i == 5),
                                     .dsns = {i == 5 ? DSN_A : NULL}}));
    }
    OK(mayday_store_commit(f->store));

    OK(mayday_store_events(f->store, &q, see_row, &seen)); /* newest first */
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.ids[0], "00000005000000000000000000000000");
    assert_int_equal(seen.numbers[0], 1);
    assert_int_equal(seen.numbers[1], 0);

    q = (mayday_store_query_t){.limit = 60, .after_row = seen.rows[1] - 1};
    seen = (seen_t){0};
    OK(mayday_store_events(f->store, &q, see_row, &seen)); /* oldest first */
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.ids[0], "00000004000000000000000000000000");

    q = (mayday_store_query_t){.limit = 60, .kind = "retried"};
    seen = (seen_t){0};
    OK(mayday_store_events(f->store, &q, see_row, &seen));
    assert_int_equal(seen.count, 2);

    q = (mayday_store_query_t){.limit = 60, .issue = "01000000000000000000000000000000"};
    seen = (seen_t){0};
    OK(mayday_store_events(f->store, &q, see_row, &seen));
    assert_int_equal(seen.count, 1);

    q = (mayday_store_query_t){.limit = 60, .issue = "nonsense"};
    seen = (seen_t){0};
    OK(mayday_store_events(f->store, &q, see_row, &seen));
    assert_int_equal(seen.count, 0);

    q = (mayday_store_query_t){.limit = 60, .since_us = NOW_US + 4};
    seen = (seen_t){0};
    OK(mayday_store_events(f->store, &q, see_row, &seen));
    assert_int_equal(seen.count, 2);
}

static void
test_issue_seen__adds_up(void **state)
{
    fixture_t *f = *state;
    uint8_t issue[MAYDAY_HASH_BYTES] = {0};

    OK(mayday_store_begin(f->store));
    OK(mayday_store_issue_seen(f->store, issue, NOW_US, 3, 0));
    OK(mayday_store_issue_seen(f->store, issue, NOW_US - 5, 4, 2));
    OK(add(f->store, &(sample_t){.number = 1}));
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT seen FROM issues"), 7);
    assert_int_equal(query(f, "SELECT suppressed FROM issues"), 2);
    assert_int_equal(query(f, "SELECT first_seen_us FROM issues"), NOW_US - 5);
    assert_int_equal(query(f, "SELECT last_seen_us FROM issues"), NOW_US);
    assert_int_equal(query(f, "SELECT length(title) > 0 FROM issues"), 1);
    assert_sums_hold(f);
}

/* ---- the queue ---- */

static void
test_queue_remove__row_that_has_gone_is_not_found(void **state)
{
    fixture_t *f = *state;
    seen_t seen = {0};

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A, DSN_B}});
    OK(mayday_store_due(f->store, 1, 0, 10, see_due, &seen));
    assert_int_equal(seen.count, 1);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_queue_remove(f->store, 1, seen.rows[0]));
    assert_int_equal(mayday_store_queue_remove(f->store, 1, seen.rows[0]), MAYDAY_NOT_FOUND);
    assert_int_equal(mayday_store_queue_remove(f->store, 99, seen.rows[0]), MAYDAY_NOT_FOUND);
    OK(mayday_store_commit(f->store));
    assert_sums_hold(f);

    seen = (seen_t){0}; /* the other DSN still waits */
    OK(mayday_store_due(f->store, 2, 0, 10, see_due, &seen));
    assert_int_equal(seen.count, 1);
    assert_true(query(f, "SELECT pending_bytes FROM sizes") > 0);
    OK(mayday_store_begin(f->store));
    OK(mayday_store_queue_remove(f->store, 2, seen.rows[0]));
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT pending_bytes FROM sizes"), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM events"), 1);
    assert_sums_hold(f);
}

static void
test_due__oldest_first_behind_a_row_until_stopped(void **state)
{
    fixture_t *f = *state;
    char json[32];
    seen_t seen = {0};

    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < 9; i++) {
        snprintf(json, sizeof(json), "{\"n\":%u}", i);
        OK(add(f->store,
               &(sample_t){.number = 100 - i, .json = json, .dsns = {i % 3 ? DSN_A : DSN_B}}));
    }
    OK(mayday_store_commit(f->store));
    OK(mayday_store_due(f->store, 2, 0, 10, see_due, &seen));
    assert_int_equal(seen.count, 6);
    assert_string_equal(seen.texts[0], "{\"n\":1}");
    assert_string_equal(seen.texts[5], "{\"n\":8}");

    seen = (seen_t){.stop_after = 2};
    OK(mayday_store_due(f->store, 2, 2, 10, see_due, &seen));
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.texts[0], "{\"n\":2}");

    seen = (seen_t){0};
    OK(mayday_store_due(f->store, 2, 0, 3, see_due, &seen));
    assert_int_equal(seen.count, 3);
}

static void
test_discarded__what_was_told_is_subtracted(void **state)
{
    fixture_t *f = *state;
    seen_t seen = {0};
    int64_t dsn;

    OK(mayday_store_begin(f->store));
    OK(mayday_store_dsn_id(f->store, DSN_A, &dsn));
    OK(mayday_store_discarded_add(f->store, dsn, "send_error", 3));
    OK(mayday_store_discarded_add(f->store, dsn, "send_error", 4));
    OK(mayday_store_discarded_add(f->store, dsn, "queue_overflow", 1));
    assert_int_equal(mayday_store_discarded_sub(f->store, dsn, "send_error", 8), MAYDAY_NOT_FOUND);
    OK(mayday_store_discarded_sub(f->store, dsn, "send_error", 5));
    OK(mayday_store_discarded_sub(f->store, dsn, "queue_overflow", 1));
    OK(mayday_store_commit(f->store));
    OK(mayday_store_discarded(f->store, dsn, see_reason, &seen));
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.texts[0], "send_error");
    assert_int_equal(seen.numbers[0], 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new__missing_directory_is_told),
        TEST(test_new__link_is_refused),
        TEST(test_new__newer_schema_is_refused_and_untouched),
        TEST(test_new__older_schema_is_migrated_with_what_it_holds),
        TEST(test_new__other_programs_database_is_refused),
        TEST(test_new__garbage_is_moved_aside),
        TEST(test_new__damaged_page_is_moved_aside),
        TEST(test_new__files_are_the_owners_only),
        TEST(test_rollback__undoes_all_and_forgets_dsns),
        TEST(test_try_begin__is_busy_while_another_connection_writes),
        TEST(test_queued__names_what_the_last_event_waits_for),
        TEST(test_commit__survives_a_kill_and_nothing_else_does),
        TEST(test_begin__threads_take_turns),
        TEST(test_count__names_are_bounded_and_the_sum_is_exact),
        TEST(test_count__adds_up_over_reopening),
        TEST(test_position__unknown_life_is_not_found),
        TEST(test_position_fold__only_once),
        TEST(test_event_add__bad_id_is_invalid),
        TEST(test_event_add__second_time_changes_nothing),
        TEST(test_event_add__dsn_given_twice_is_one_row),
        TEST(test_event_json__needs_an_id_that_is_one),
        TEST(test_events__filters_and_order),
        TEST(test_issue_seen__adds_up),
        TEST(test_queue_remove__row_that_has_gone_is_not_found),
        TEST(test_due__oldest_first_behind_a_row_until_stopped),
        TEST(test_discarded__what_was_told_is_subtracted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
