/*
 * DSNs, the delivery queue, and losses that client reports will tell.
 *
 * Runs in the agent, in the thread that owns the connection; blocks on the disk.
 */
#include "core/agent/store_private.h"

#include <assert.h>
#include <stdlib.h>

/* ---- DSNs ---- */

static bool
dsn_cached(const mayday_store_t *store, const char *text, int64_t *dsn)
{
    for (size_t i = 0; i < MAYDAY_STORE_DSN_CACHE; i++) {
        if (store->dsns[i].text != NULL && strcmp(store->dsns[i].text, text) == 0) {
            *dsn = store->dsns[i].dsn;
            return true;
        }
    }
    return false;
}

/* Without memory it is just not remembered. */
static void
dsn_remember(mayday_store_t *store, const char *text, int64_t dsn)
{
    size_t place = store->dsn_next++ % MAYDAY_STORE_DSN_CACHE;

    free(store->dsns[place].text);
    store->dsns[place].text = strdup(text);
    store->dsns[place].dsn = dsn;
}

mayday_rc_t
mayday_store_dsn_id(mayday_store_t *store, const char *text, int64_t *dsn)
{
    sqlite3_stmt *statement;
    mayday_rc_t rc;

    assert(store->writing);
    if (dsn_cached(store, text, dsn)) {
        return MAYDAY_OK;
    }
    statement = mayday_store_statement(store, MAYDAY_SQL_DSN_ADD);
    mayday_bind_text(statement, 1, mayday_slice_str(text));
    if (mayday_store_run(store, statement) != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    statement = mayday_store_statement(store, MAYDAY_SQL_DSN_ID);
    mayday_bind_text(statement, 1, mayday_slice_str(text));
    rc = mayday_store_step(store, statement);
    if (rc != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    *dsn = sqlite3_column_int64(statement, 0);
    mayday_store_done(statement);
    dsn_remember(store, text, *dsn);
    return MAYDAY_OK;
}

mayday_rc_t
mayday_store_dsns(mayday_store_t *store, mayday_dsn_visit_pt visit, void *ctx, int64_t *newest_row)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_DSNS);
    mayday_rc_t rc;

    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        visit(ctx, sqlite3_column_int64(statement, 0), mayday_column_text(statement, 1),
              (uint64_t) sqlite3_column_int64(statement, 2));
        *newest_row = sqlite3_column_int64(statement, 3);
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

/* ---- the queue ---- */

mayday_rc_t
mayday_store_due(mayday_store_t *store, int64_t dsn, int64_t after_row, unsigned limit,
                 mayday_due_visit_pt visit, void *ctx)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_DUE);
    mayday_store_due_t due;
    mayday_slice_t id;
    mayday_rc_t rc;

    sqlite3_bind_int64(statement, 1, dsn);
    sqlite3_bind_int64(statement, 2, after_row);
    mayday_bind_u64(statement, 3, limit);
    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        id = mayday_column_slice(statement, 1);
        due.row = sqlite3_column_int64(statement, 0);
        due.event_id[0] = '\0';
        if (id.len == (sizeof(due.event_id) - 1) / 2) {
            mayday_hex(due.event_id, (const uint8_t *) id.data, id.len);
        }
        due.json = mayday_column_slice(statement, 2);
        due.trace = mayday_column_slice(statement, 3);
        if (!visit(ctx, &due)) {
            mayday_store_done(statement);
            return MAYDAY_OK;
        }
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

mayday_rc_t
mayday_store_queue_remove(mayday_store_t *store, int64_t dsn, int64_t row)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_QUEUE_REMOVE);
    mayday_rc_t rc;

    assert(store->writing);
    sqlite3_bind_int64(statement, 1, dsn);
    sqlite3_bind_int64(statement, 2, row);
    rc = mayday_store_run(store, statement);
    if (rc == MAYDAY_OK && sqlite3_changes(store->db) == 0) {
        return MAYDAY_NOT_FOUND;
    }
    return rc;
}

/* ---- losses ---- */

static sqlite3_stmt *
discarded_statement(mayday_store_t *store, mayday_sql_t id, int64_t dsn, const char *reason)
{
    sqlite3_stmt *statement = mayday_store_statement(store, id);

    assert(store->writing);
    sqlite3_bind_int64(statement, 1, dsn);
    mayday_bind_text(statement, 2, mayday_slice_str(reason));
    return statement;
}

mayday_rc_t
mayday_store_discarded_add(mayday_store_t *store, int64_t dsn, const char *reason, uint64_t n)
{
    sqlite3_stmt *statement = discarded_statement(store, MAYDAY_SQL_DISCARDED_ADD, dsn, reason);

    mayday_bind_u64(statement, 3, n);
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_discarded(mayday_store_t *store, int64_t dsn, mayday_discarded_visit_pt visit,
                       void *ctx)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_DISCARDED);
    mayday_rc_t rc;

    sqlite3_bind_int64(statement, 1, dsn);
    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        visit(ctx, mayday_column_text(statement, 0), (uint64_t) sqlite3_column_int64(statement, 1));
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

mayday_rc_t
mayday_store_discarded_sub(mayday_store_t *store, int64_t dsn, const char *reason, uint64_t n)
{
    sqlite3_stmt *statement = discarded_statement(store, MAYDAY_SQL_DISCARDED_SUB, dsn, reason);
    mayday_rc_t rc;

    mayday_bind_u64(statement, 3, n);
    rc = mayday_store_run(store, statement);
    if (rc != MAYDAY_OK) {
        return rc;
    }
    if (sqlite3_changes(store->db) == 0) {
        return MAYDAY_NOT_FOUND;
    }
    return mayday_store_run(store,
                            discarded_statement(store, MAYDAY_SQL_DISCARDED_CLEAR, dsn, reason));
}
