/*
 * The store: what it refuses, what it keeps over a crash, its bounds, and that a
 * purge leaves nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/store.h"
#include "core/event/settings_read.h"

#define DAY_US (86400ULL * 1000000)
#define NOW_US (1800000000ULL * 1000000)
#define DSN_A "https://aaaa@sentry.example.com/1"
#define DSN_B "https://bbbb@sentry.example.com/2"

#define OK(call) assert_int_equal((call), MAYDAY_OK)

typedef struct {
    char dir[64];
    char path[96];
    mayday_store_t *store;
} fixture_t;

static char error[256];

static int
setup(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/store.sqlite", f->dir);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture_t *f = *state;
    struct dirent *entry;
    DIR *d;

    mayday_store_free(f->store);
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
reopen(fixture_t *f)
{
    mayday_store_free(f->store);
    f->store = mayday_store_new(f->path, error, sizeof(error));
}

/* How many files in the directory have names that begin so. */
static unsigned
files(const fixture_t *f, const char *prefix)
{
    struct dirent *entry;
    unsigned n = 0;
    DIR *d = opendir(f->dir);

    while ((entry = readdir(d)) != NULL) {
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    closedir(d);
    return n;
}

/* Whether any file of the directory holds the text. */
static bool
bytes_hold(const fixture_t *f, const char *text)
{
    char path[400];
    struct dirent *entry;
    bool found = false;
    DIR *d = opendir(f->dir);

    while ((entry = readdir(d)) != NULL && !found) {
        struct stat st;
        char *data;
        int fd;

        snprintf(path, sizeof(path), "%s/%s", f->dir, entry->d_name);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
            continue;
        }
        data = malloc((size_t) st.st_size + 1);
        fd = open(path, O_RDONLY);
        if (read(fd, data, (size_t) st.st_size) == st.st_size) {
            found = memmem(data, (size_t) st.st_size, text, strlen(text)) != NULL;
        }
        close(fd);
        free(data);
    }
    closedir(d);
    return found;
}

/* One number, by a connection of the test's own. */
static int64_t
query(const fixture_t *f, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t number = -1;
    sqlite3 *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        number = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

static void
execute(const fixture_t *f, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* The incremental sums against a scan. */
static void
assert_sums_hold(const fixture_t *f)
{
    assert_int_equal(query(f, "SELECT pending_bytes FROM sizes"),
                     query(f, "SELECT ifnull(sum(bytes), 0) FROM events WHERE pending > 0"));
    assert_int_equal(query(f, "SELECT done_bytes FROM sizes"),
                     query(f, "SELECT ifnull(sum(bytes), 0) FROM events WHERE pending = 0"));
    assert_int_equal(query(f, "SELECT issues FROM sizes"), query(f, "SELECT count(*) FROM issues"));
    assert_int_equal(query(f, "SELECT ifnull(sum(queued), 0) FROM dsns"),
                     query(f, "SELECT count(*) FROM queue"));
    assert_int_equal(query(f, "SELECT ifnull(sum(pending), 0) FROM events"),
                     query(f, "SELECT count(*) FROM queue"));
    assert_int_equal(query(f, "SELECT count(*) FROM payloads"),
                     query(f, "SELECT count(*) FROM events"));
}

/* ---- events for tests ---- */

typedef struct {
    unsigned number; /* makes the event id                  */
    uint64_t time_us;
    const char *kind;
    const char *json;
    uint8_t issue;
    const char *dsns[2];
} sample_t;

static mayday_rc_t
add(mayday_store_t *store, const sample_t *sample)
{
    mayday_store_event_t event = {0};
    char id[33];

    snprintf(id, sizeof(id), "%08x%024x", sample->number, 0);
    event.issue[0] = sample->issue;
    event.event_id = mayday_slice_str(id);
    event.time_us = sample->time_us == 0 ? NOW_US + sample->number : sample->time_us;
    event.kind = sample->kind == NULL ? "upstream_refused" : sample->kind;
    event.level = "error";
    event.status = 502;
    event.title = MAYDAY_SLICE("UpstreamRefused: shop refused connections");
    event.transaction = MAYDAY_SLICE("GET /shop/*");
    event.json = mayday_slice_str(sample->json == NULL ? "{\"a\":1}" : sample->json);
    event.trace = MAYDAY_SLICE("{}");
    return mayday_store_event_add(store, &event, sample->dsns,
                                  (sample->dsns[0] != NULL) + (sample->dsns[1] != NULL));
}

static void
add_now(mayday_store_t *store, const sample_t *sample)
{
    OK(mayday_store_begin(store));
    OK(add(store, sample));
    OK(mayday_store_commit(store));
}

typedef struct {
    unsigned count;
    int64_t rows[64];
    char ids[64][33];
    uint64_t numbers[64];
    char texts[64][64];
    unsigned stop_after;
} seen_t;

static void
see_row(void *ctx, const mayday_store_row_t *row)
{
    seen_t *seen = ctx;

    seen->rows[seen->count] = row->row;
    snprintf(seen->ids[seen->count], 33, "%s", row->event_id);
    seen->numbers[seen->count] = row->undelivered;
    seen->count++;
}

static bool
see_due(void *ctx, const mayday_store_due_t *due)
{
    seen_t *seen = ctx;

    seen->rows[seen->count] = due->row;
    snprintf(seen->ids[seen->count], 33, "%s", due->event_id);
    snprintf(seen->texts[seen->count], 64, "%.*s", (int) due->json.len, due->json.data);
    seen->count++;
    return seen->stop_after == 0 || seen->count < seen->stop_after;
}

static void
see_dsn(void *ctx, int64_t dsn, const char *text, uint64_t queued)
{
    seen_t *seen = ctx;

    seen->rows[seen->count] = dsn;
    snprintf(seen->texts[seen->count], 64, "%s", text);
    seen->numbers[seen->count++] = queued;
}

static void
see_reason(void *ctx, const char *reason, uint64_t n)
{
    seen_t *seen = ctx;

    snprintf(seen->texts[seen->count], 64, "%s", reason);
    seen->numbers[seen->count++] = n;
}

typedef struct {
    const char *name, *reason;
    uint64_t n;
    unsigned rows;
} count_t;

static void
see_count(void *ctx, const char *name, const char *reason, uint64_t n)
{
    count_t *count = ctx;

    count->rows++;
    if (strcmp(name, count->name) == 0 && strcmp(reason, count->reason) == 0) {
        count->n = n;
    }
}

static uint64_t
count_of(mayday_store_t *store, const char *name, const char *reason)
{
    count_t count = {.name = name, .reason = reason};

    OK(mayday_store_counts(store, see_count, &count));
    return count.n;
}

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
    execute(f, "PRAGMA user_version = 1");
    reopen(f);
    assert_non_null(f->store);
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

    OK(mayday_store_begin(f->store));
    OK(mayday_store_count(f->store, "sent", "", 1));
    OK(add(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}}));
    mayday_store_rollback(f->store);
    mayday_store_rollback(f->store);
    assert_int_equal(count_of(f->store, "sent", ""), 0);
    assert_int_equal(query(f, "SELECT count(*) FROM dsns"), 0);

    add_now(f->store, &(sample_t){.number = 1, .dsns = {DSN_A}});
    OK(mayday_store_dsns(f->store, see_dsn, &seen));
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.numbers[0], 1);
    assert_sums_hold(f);
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
        OK(add(f->store, &(sample_t){
                             .number = 100 - i, .json = json, .dsns = {i % 3 ? DSN_A : DSN_B}}));
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
    assert_int_equal(mayday_store_discarded_sub(f->store, dsn, "send_error", 8),
                     MAYDAY_NOT_FOUND);
    OK(mayday_store_discarded_sub(f->store, dsn, "send_error", 5));
    OK(mayday_store_discarded_sub(f->store, dsn, "queue_overflow", 1));
    OK(mayday_store_commit(f->store));
    OK(mayday_store_discarded(f->store, dsn, see_reason, &seen));
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.texts[0], "send_error");
    assert_int_equal(seen.numbers[0], 2);
}

/* ---- upkeep ---- */

static void
trim(fixture_t *f, uint64_t queue_size, uint64_t retention_s, uint64_t now_us)
{
    mayday_store_bounds_t bounds = {queue_size, retention_s};

    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &bounds, now_us));
    OK(mayday_store_commit(f->store));
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
    uint64_t purged, purges = mayday_store_purges();

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
        "{\"user\":{\"id\":\"47110\"}}", "{\"user\":{\"id\":\"471\"}}", "{\"id\":\"4711\"}",
        "{\"user\":\"4711\"}",           "{\"user\":{\"id\":[4711]}}",  "not JSON 4711",
        "",
    };
    fixture_t *f = *state;
    mayday_store_purge_t what = {.user = MAYDAY_SLICE("4711")};
    uint64_t purged, purges = mayday_store_purges();
    unsigned number = 0;

    for (size_t i = 0; i < MAYDAY_COUNT(theirs); i++) {
        add_now(f->store, &(sample_t){.number = number++, .json = theirs[i], .dsns = {DSN_A}});
    }
    for (size_t i = 0; i < MAYDAY_COUNT(others); i++) {
        add_now(f->store, &(sample_t){.number = number++, .json = others[i], .dsns = {DSN_A}});
    }
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged, MAYDAY_COUNT(theirs));
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
    uint64_t purged;
    FILE *file;

    snprintf(json, sizeof(json), "{\"user\":{\"email\":\"bob@example.com\"},\"pad\":\"%03000d\"}", 0);
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
    assert_int_equal(purged, 50);
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
    uint64_t purged;

    OK(mayday_store_begin(f->store));
    OK(mayday_store_count(f->store, "sent", "", 3));
    for (unsigned i = 0; i < 1000; i++) {
        OK(add(f->store, &(sample_t){.number = i, .dsns = {DSN_A}}));
    }
    OK(mayday_store_commit(f->store));
    OK(mayday_store_events(f->store, &q, see_row, &before));
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged, 1000);
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
    uint64_t purged;

    for (unsigned i = 1; i <= 5; i++) {
        add_now(f->store, &(sample_t){.number = i, .issue = (uint8_t) i});
    }
    OK(mayday_store_purge(f->store, &what, &purged));
    assert_int_equal(purged, 2);
    assert_int_equal(query(f, "SELECT count(*) FROM issues"), 3);
    assert_sums_hold(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new__missing_directory_is_told),
        TEST(test_new__link_is_refused),
        TEST(test_new__newer_schema_is_refused_and_untouched),
        TEST(test_new__other_programs_database_is_refused),
        TEST(test_new__garbage_is_moved_aside),
        TEST(test_new__damaged_page_is_moved_aside),
        TEST(test_new__files_are_the_owners_only),
        TEST(test_rollback__undoes_all_and_forgets_dsns),
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
