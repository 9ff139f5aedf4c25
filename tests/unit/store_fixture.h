/*
 * What the tests of the store share: a store in a directory of its own, events for
 * it, and what it shows.
 */
#ifndef MAYDAY_TEST_STORE_FIXTURE_H
#define MAYDAY_TEST_STORE_FIXTURE_H

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

static inline int
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

static inline int
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

static inline void
reopen(fixture_t *f)
{
    mayday_store_free(f->store);
    f->store = mayday_store_new(f->path, error, sizeof(error));
}

/* How many files in the directory have names that begin so. */
static inline unsigned
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
static inline bool
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
static inline int64_t
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

static inline void
execute(const fixture_t *f, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* The incremental sums against a scan. */
static inline void
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

static inline mayday_rc_t
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

static inline void
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

static inline void
see_row(void *ctx, const mayday_store_row_t *row)
{
    seen_t *seen = ctx;

    seen->rows[seen->count] = row->row;
    snprintf(seen->ids[seen->count], 33, "%s", row->event_id);
    seen->numbers[seen->count] = row->undelivered;
    seen->count++;
}

static inline bool
see_due(void *ctx, const mayday_store_due_t *due)
{
    seen_t *seen = ctx;

    seen->rows[seen->count] = due->row;
    snprintf(seen->ids[seen->count], 33, "%s", due->event_id);
    snprintf(seen->texts[seen->count], 64, "%.*s", (int) due->json.len, due->json.data);
    seen->count++;
    return seen->stop_after == 0 || seen->count < seen->stop_after;
}

static inline void
see_dsn(void *ctx, int64_t dsn, const char *text, uint64_t queued)
{
    seen_t *seen = ctx;

    seen->rows[seen->count] = dsn;
    snprintf(seen->texts[seen->count], 64, "%s", text);
    seen->numbers[seen->count++] = queued;
}

static inline void
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

static inline void
see_count(void *ctx, const char *name, const char *reason, uint64_t n)
{
    count_t *count = ctx;

    count->rows++;
    if (strcmp(name, count->name) == 0 && strcmp(reason, count->reason) == 0) {
        count->n = n;
    }
}

static inline uint64_t
count_of(mayday_store_t *store, const char *name, const char *reason)
{
    count_t count = {.name = name, .reason = reason};

    OK(mayday_store_counts(store, see_count, &count));
    return count.n;
}

#endif
