/*
 * What the files of the store share; nobody else includes this.
 *
 *   store.c         connections, transactions, statements, counts, positions
 *   store_schema.c  the file: creating, checking, moving aside, migrating
 *   store_events.c  issues and events
 *   store_dropped.c what rules did: dropped events, counts per rule
 *   store_queue.c   DSNs, the delivery queue, losses to be reported
 *   store_upkeep.c  trimming and purging
 */
#ifndef MAYDAY_STORE_PRIVATE_H
#define MAYDAY_STORE_PRIVATE_H

#include <sqlite3.h>

#include "core/agent/store.h"
#include "core/event/settings_read.h"

#define MAYDAY_STORE_PATH_SIZE 512
#define MAYDAY_STORE_CORRUPT_INFIX ".corrupt-"
#define MAYDAY_STORE_DSN_CACHE 16

typedef enum {
#define MAYDAY_STATEMENT(id, sql) MAYDAY_SQL_##id,
#include "core/agent/store_statements.def"
#undef MAYDAY_STATEMENT
    MAYDAY_SQL_MAX
} mayday_sql_t;

/* Made, used and freed by one thread. */
struct mayday_store {
    sqlite3 *db;
    sqlite3_stmt *statements[MAYDAY_SQL_MAX]; /* NULL: not used yet                  */
    bool writing;                             /* in a transaction, with the write lock */
    bool corrupt;
    bool counts_full; /* no new rows in counts                                      */
    /* Numbers of DSNs lately used; forgotten with a rollback, which may undo them. */
    struct {
        char *text;
        int64_t dsn;
    } dsns[MAYDAY_STORE_DSN_CACHE];
    size_t dsn_next; /* place of the cache to be used next */
    int64_t queued_row, queued_dsns[MAYDAY_SETTINGS_DSN_MAX]; /* of the last event added */
    size_t queued_count;
    int64_t giving_up, given_up; /* the last row that trim gave up; committed */
    char path[MAYDAY_STORE_PATH_SIZE];
    char error[256];
};

/* ---- statements (store.c) ---- */

/* The statement, ready to be bound; NULL: the error is set. */
sqlite3_stmt *mayday_store_statement(mayday_store_t *store, mayday_sql_t id);

/*
 * Runs a statement that returns no rows and makes it ready for the next use.
 * statement may be NULL, so that its making need not be checked.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_run(mayday_store_t *store, sqlite3_stmt *statement);

/*
 * MAYDAY_OK: the statement has a row; MAYDAY_END: none, and it was reset. Who
 * stops before the end resets it with mayday_store_done.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_step(mayday_store_t *store, sqlite3_stmt *statement);
void mayday_store_done(sqlite3_stmt *statement);

/* Takes over SQLite's error; returns MAYDAY_ERROR. */
mayday_rc_t mayday_store_fail(mayday_store_t *store);

/* Binding, the store's way: what must outlive the statement's run is not copied. */
void mayday_bind_u64(sqlite3_stmt *statement, int place, uint64_t value);
void mayday_bind_blob(sqlite3_stmt *statement, int place, const void *data, size_t len);
void mayday_bind_text(sqlite3_stmt *statement, int place, mayday_slice_t text); /* data NULL: "" */

/* Never NULL. */
const char *mayday_column_text(sqlite3_stmt *statement, int column);
mayday_slice_t mayday_column_slice(sqlite3_stmt *statement, int column);

/* Hex of a column that should hold n bytes, else ""; out holds 2 * n + 1. */
void mayday_column_hex(char *out, sqlite3_stmt *statement, int column, size_t n);

#define MAYDAY_STORE_EVENT_ID_BYTES 16

/* ---- what rules did (store_dropped.c) ---- */

MAYDAY_MUST_CHECK mayday_rc_t mayday_store_dropped_trim(mayday_store_t *store, uint64_t before_us,
                                                        uint64_t now_us);

/* Takes a transaction of its own; adds to *purged. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_dropped_purge(mayday_store_t *store,
                                                         const mayday_store_purge_t *what,
                                                         mayday_store_purged_t *purged);

/* ---- the file (store_schema.c) ---- */

/*
 * Makes store->db an open connection to store->path with the newest schema.
 * check: verify the file and move a corrupt one aside. On an error db is NULL.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_open(mayday_store_t *store, bool check);

/* The same, for reading: an older schema stays as it is. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_open_reader(mayday_store_t *store);

/* Deletes what was moved aside, but for `keep` (a whole path, or NULL). */
void mayday_store_corrupt_unlink(const mayday_store_t *store, const char *keep);

#endif
