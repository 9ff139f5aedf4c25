/*
 * Keeps the store within its bounds, and erases on demand.
 *
 * Runs in the agent: trim in the pipeline's thread, within its transaction;
 * purge in an API thread, in short transactions of its own, so that ingest only
 * waits for a batch.
 */
#include "core/agent/store_private.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TRIM_EVENTS_MAX 512 /* a call */
#define TRIM_ISSUES_MAX 256 /* a call */
#define PURGE_BATCH 256
#define VACUUM_PAGES 1024
/* A lane that has published nothing for so long starts again at its own head. */
#define POSITION_KEPT_US (90ULL * 86400 * 1000000)

static _Atomic uint64_t purges, purges_all;

typedef struct {
    sqlite3_int64 row;
    uint64_t time_us;
    uint64_t bytes;
} oldest_t;

static mayday_rc_t
oldest_get(mayday_store_t *store, mayday_sql_t id, oldest_t *oldest)
{
    sqlite3_stmt *statement = mayday_store_statement(store, id);
    mayday_rc_t rc = mayday_store_step(store, statement);

    if (rc == MAYDAY_OK) {
        oldest->row = sqlite3_column_int64(statement, 0);
        oldest->time_us = (uint64_t) sqlite3_column_int64(statement, 1);
        oldest->bytes = (uint64_t) sqlite3_column_int64(statement, 2);
        mayday_store_done(statement);
    }
    return rc;
}

/* Payload and queue rows go with it. */
static mayday_rc_t
event_erase(mayday_store_t *store, sqlite3_int64 row)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_EVENT_ERASE);

    sqlite3_bind_int64(statement, 1, row);
    return mayday_store_run(store, statement);
}

static mayday_rc_t
event_give_up(mayday_store_t *store, sqlite3_int64 row, const char *reason)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_EVENT_DISCARD);
    mayday_rc_t rc;

    sqlite3_bind_int64(statement, 1, row);
    mayday_bind_text(statement, 2, mayday_slice_str(reason));
    rc = mayday_store_run(store, statement);
    if (rc == MAYDAY_OK) {
        rc = mayday_store_count(store, "dropped", reason, (uint64_t) sqlite3_changes(store->db));
    }
    store->giving_up = row;
    return rc == MAYDAY_OK ? event_erase(store, row) : rc;
}

int64_t
mayday_store_given_up(const mayday_store_t *store)
{
    return store->given_up;
}

static mayday_rc_t
trim_pending(mayday_store_t *store, uint64_t bytes, const mayday_store_bounds_t *bounds,
             uint64_t before_us, unsigned *left)
{
    oldest_t oldest;
    mayday_rc_t rc = MAYDAY_OK;

    for (; *left > 0; (*left)--) {
        bool over;

        rc = oldest_get(store, MAYDAY_SQL_OLDEST_PENDING, &oldest);
        if (rc != MAYDAY_OK) {
            break;
        }
        over = bytes > bounds->queue_size;
        if (!over && oldest.time_us >= before_us) {
            break;
        }
        rc = event_give_up(store, oldest.row, over ? "queue_overflow" : "cache_overflow");
        if (rc != MAYDAY_OK) {
            break;
        }
        bytes -= oldest.bytes < bytes ? oldest.bytes : bytes;
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

static mayday_rc_t
trim_done(mayday_store_t *store, uint64_t bytes, const mayday_store_bounds_t *bounds,
          uint64_t before_us, unsigned *left)
{
    oldest_t oldest;
    mayday_rc_t rc = MAYDAY_OK;

    for (; *left > 0; (*left)--) {
        rc = oldest_get(store, MAYDAY_SQL_OLDEST_DONE, &oldest);
        if (rc != MAYDAY_OK || (bytes <= bounds->queue_size && oldest.time_us >= before_us)) {
            break;
        }
        rc = event_erase(store, oldest.row);
        if (rc != MAYDAY_OK) {
            break;
        }
        bytes -= oldest.bytes < bytes ? oldest.bytes : bytes;
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

static mayday_rc_t
trim_issues(mayday_store_t *store, uint64_t issues, uint64_t before_us)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_ISSUE_TRIM_AGE);
    mayday_rc_t rc;

    mayday_bind_u64(statement, 1, before_us);
    mayday_bind_u64(statement, 2, TRIM_ISSUES_MAX);
    rc = mayday_store_run(store, statement);
    if (rc != MAYDAY_OK || issues <= MAYDAY_STORE_ISSUES_MAX) {
        return rc;
    }
    issues -= MAYDAY_STORE_ISSUES_MAX;
    statement = mayday_store_statement(store, MAYDAY_SQL_ISSUE_TRIM_COUNT);
    mayday_bind_u64(statement, 1, issues < TRIM_ISSUES_MAX ? issues : TRIM_ISSUES_MAX);
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_trim(mayday_store_t *store, const mayday_store_bounds_t *bounds, uint64_t now_us)
{
    uint64_t kept_us = bounds->retention_s * 1000000;
    uint64_t before_us = kept_us > 0 && kept_us < now_us ? now_us - kept_us : 0;
    uint64_t pending_bytes, done_bytes, issues;
    unsigned left = TRIM_EVENTS_MAX;
    sqlite3_stmt *statement;
    mayday_rc_t rc;

    assert(store->writing);
    statement = mayday_store_statement(store, MAYDAY_SQL_SIZES);
    rc = mayday_store_step(store, statement);
    if (rc != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    pending_bytes = (uint64_t) sqlite3_column_int64(statement, 0);
    done_bytes = (uint64_t) sqlite3_column_int64(statement, 1);
    issues = (uint64_t) sqlite3_column_int64(statement, 2);
    mayday_store_done(statement);

    rc = trim_pending(store, pending_bytes, bounds, before_us, &left);
    if (rc == MAYDAY_OK) {
        rc = trim_done(store, done_bytes, bounds, before_us, &left);
    }
    if (rc == MAYDAY_OK) {
        rc = trim_issues(store, issues, before_us);
    }
    if (rc == MAYDAY_OK) {
        rc = mayday_store_dropped_trim(store, before_us, now_us);
    }
    if (rc == MAYDAY_OK && now_us > POSITION_KEPT_US) {
        statement = mayday_store_statement(store, MAYDAY_SQL_POSITION_TRIM);
        mayday_bind_u64(statement, 1, now_us - POSITION_KEPT_US);
        rc = mayday_store_run(store, statement);
    }
    return rc;
}

/* ---- purge ---- */

uint64_t
mayday_store_purges(void)
{
    return atomic_load(&purges);
}

uint64_t
mayday_store_purges_all(void)
{
    return atomic_load(&purges_all);
}

/* Finds the next rows to go behind after_row. */
static mayday_rc_t
purge_find(mayday_store_t *store, const mayday_store_purge_t *what, sqlite3_int64 after_row,
           sqlite3_int64 *rows, size_t *count)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_PURGE_FIND);
    mayday_rc_t rc;

    *count = 0;
    sqlite3_bind_int64(statement, 1, after_row);
    mayday_bind_u64(statement, 2, what->all ? 0 : what->before_us);
    if (!what->all && what->user.len > 0) {
        mayday_bind_text(statement, 3, what->user);
    }
    mayday_bind_u64(statement, 4, PURGE_BATCH);
    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        rows[(*count)++] = sqlite3_column_int64(statement, 0);
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

/* One transaction; *count 0: nothing is left. */
static mayday_rc_t
purge_batch(mayday_store_t *store, const mayday_store_purge_t *what, sqlite3_int64 *after_row,
            size_t *count)
{
    sqlite3_int64 rows[PURGE_BATCH];
    mayday_rc_t rc = purge_find(store, what, *after_row, rows, count);

    if (rc != MAYDAY_OK || *count == 0 || (rc = mayday_store_begin(store)) != MAYDAY_OK) {
        return rc;
    }
    for (size_t i = 0; rc == MAYDAY_OK && i < *count; i++) {
        rc = event_erase(store, rows[i]);
    }
    if (rc != MAYDAY_OK) {
        mayday_store_rollback(store);
        return rc;
    }
    *after_row = rows[*count - 1];
    return mayday_store_commit(store);
}

/* What the events leave behind in their issues. */
static mayday_rc_t
purge_issues(mayday_store_t *store, const mayday_store_purge_t *what)
{
    sqlite3_stmt *statement;
    mayday_rc_t rc = mayday_store_begin(store);

    if (rc != MAYDAY_OK) {
        return rc;
    }
    if (!what->all && what->user.len > 0) {
        statement = mayday_store_statement(store, MAYDAY_SQL_PURGE_TITLES);
        mayday_bind_text(statement, 1, what->user);
    } else {
        statement = mayday_store_statement(store, MAYDAY_SQL_PURGE_ISSUES);
        mayday_bind_u64(statement, 1, what->all ? 0 : what->before_us);
    }
    rc = mayday_store_run(store, statement);
    if (rc != MAYDAY_OK) {
        mayday_store_rollback(store);
        return rc;
    }
    return mayday_store_commit(store);
}

/* Gives free pages back, some at a time, and empties the write-ahead log, which holds old pages. */
static mayday_rc_t
compact(mayday_store_t *store)
{
    char sql[64];
    int before, after = INT32_MAX;
    mayday_rc_t rc = MAYDAY_OK;
    sqlite3_stmt *count;

    snprintf(sql, sizeof(sql), "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
    if (sqlite3_prepare_v2(store->db, "PRAGMA freelist_count", -1, &count, NULL) != SQLITE_OK) {
        return mayday_store_fail(store);
    }
    do {
        before = after;
        rc = mayday_store_step(store, count);
        if (rc != MAYDAY_OK) {
            break;
        }
        after = sqlite3_column_int(count, 0);
        mayday_store_done(count);
        if (after == 0 || (rc = mayday_store_begin(store)) != MAYDAY_OK) {
            break;
        }
        if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
            rc = mayday_store_fail(store);
            mayday_store_rollback(store);
            break;
        }
        rc = mayday_store_commit(store);
    } while (rc == MAYDAY_OK && after < before);
    sqlite3_finalize(count);
    if (rc == MAYDAY_OK && sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE,
                                                     NULL, NULL) != SQLITE_OK) {
        rc = mayday_store_fail(store);
    }
    return rc == MAYDAY_END ? MAYDAY_ERROR : rc;
}

mayday_rc_t
mayday_store_purge(mayday_store_t *store, const mayday_store_purge_t *what,
                   mayday_store_purged_t *purged)
{
    sqlite3_int64 after_row = 0;
    mayday_rc_t rc;
    size_t count;

    assert(!store->writing);
    *purged = (mayday_store_purged_t){0};
    if (!what->all && what->before_us == 0 && what->user.len == 0) {
        snprintf(store->error, sizeof(store->error), "nothing was said to be purged");
        return MAYDAY_INVALID;
    }
    do {
        rc = purge_batch(store, what, &after_row, &count);
        if (rc == MAYDAY_OK) {
            purged->events += count;
        }
    } while (rc == MAYDAY_OK && count > 0);
    if (rc == MAYDAY_OK) {
        rc = mayday_store_dropped_purge(store, what, purged);
    }
    atomic_fetch_add(&purges, 1);
    atomic_fetch_add(&purges_all, what->all);
    mayday_store_corrupt_unlink(store, NULL);
    if (rc == MAYDAY_OK) {
        rc = purge_issues(store, what);
    }
    return rc == MAYDAY_OK ? compact(store) : rc;
}
