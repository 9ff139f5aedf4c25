/*
 * The store's connections, transactions and statements, its counts and the
 * positions of lanes.
 *
 * Runs in the agent, in the thread that owns the connection; blocks on the disk
 * and, in mayday_store_begin, on the process's write lock. Allocates through
 * SQLite. The file itself: store_schema.c.
 */
#include "core/agent/store_private.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * One writer at a time in the process: SQLite would make the others poll, and
 * whoever polls longest starves. Also guards connections.
 */
static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned connections;

static const char *const statement_texts[MAYDAY_SQL_MAX] = {
#define MAYDAY_STATEMENT(id, sql) [MAYDAY_SQL_##id] = (sql),
#include "core/agent/store_statements.def"
#undef MAYDAY_STATEMENT
};

/* ---- statements ---- */

mayday_rc_t
mayday_store_fail(mayday_store_t *store)
{
    int code = sqlite3_errcode(store->db) & 0xff;

    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
        store->corrupt = true;
    }
    snprintf(store->error, sizeof(store->error), "%s", sqlite3_errmsg(store->db));
    return MAYDAY_ERROR;
}

sqlite3_stmt *
mayday_store_statement(mayday_store_t *store, mayday_sql_t id)
{
    sqlite3_stmt **statement = &store->statements[id];

    if (*statement == NULL &&
        sqlite3_prepare_v3(store->db, statement_texts[id], -1, SQLITE_PREPARE_PERSISTENT, statement,
                           NULL) != SQLITE_OK) {
        (void) mayday_store_fail(store);
        return NULL;
    }
    return *statement;
}

mayday_rc_t
mayday_store_step(mayday_store_t *store, sqlite3_stmt *statement)
{
    mayday_rc_t rc = MAYDAY_ERROR;
    int code;

    if (statement == NULL) {
        return MAYDAY_ERROR;
    }
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        return MAYDAY_OK;
    }
    if (code == SQLITE_DONE) {
        rc = MAYDAY_END;
    } else {
        (void) mayday_store_fail(store);
    }
    mayday_store_done(statement);
    return rc;
}

mayday_rc_t
mayday_store_run(mayday_store_t *store, sqlite3_stmt *statement)
{
    mayday_rc_t rc = mayday_store_step(store, statement);

    assert(rc != MAYDAY_OK);
    return rc == MAYDAY_END ? MAYDAY_OK : MAYDAY_ERROR;
}

void
mayday_store_done(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    /* Bound memory is the caller's and will be gone by the next use. */
    sqlite3_clear_bindings(statement);
}

void
mayday_bind_u64(sqlite3_stmt *statement, int place, uint64_t value)
{
    sqlite3_bind_int64(statement, place, (sqlite3_int64) value);
}

void
mayday_bind_blob(sqlite3_stmt *statement, int place, const void *data, size_t len)
{
    sqlite3_bind_blob64(statement, place, data, len, SQLITE_STATIC);
}

void
mayday_bind_text(sqlite3_stmt *statement, int place, mayday_slice_t text)
{
    sqlite3_bind_text64(statement, place, text.data == NULL ? "" : text.data, text.len,
                        SQLITE_STATIC, SQLITE_UTF8);
}

const char *
mayday_column_text(sqlite3_stmt *statement, int column)
{
    const char *text = (const char *) sqlite3_column_text(statement, column);

    return text == NULL ? "" : text;
}

mayday_slice_t
mayday_column_slice(sqlite3_stmt *statement, int column)
{
    const void *data = sqlite3_column_blob(statement, column);

    return mayday_slice(data, (size_t) sqlite3_column_bytes(statement, column));
}

void
mayday_column_hex(char *out, sqlite3_stmt *statement, int column, size_t n)
{
    mayday_slice_t bytes = mayday_column_slice(statement, column);

    out[0] = '\0';
    if (bytes.len == n) {
        mayday_hex(out, (const uint8_t *) bytes.data, n);
    }
}

/* ---- connections ---- */

static mayday_store_t *
new_connection(const char *path, bool reader, char *error, size_t error_size)
{
    mayday_store_t *store = calloc(1, sizeof(*store));
    mayday_rc_t rc = MAYDAY_INVALID;

    if (store == NULL) {
        snprintf(error, error_size, "no memory for a connection to the store");
        return NULL;
    }
    if (strlen(path) + sizeof(MAYDAY_STORE_CORRUPT_INFIX) + 32 > sizeof(store->path)) {
        snprintf(store->error, sizeof(store->error), "the path is too long");
    } else {
        memcpy(store->path, path, strlen(path) + 1);
        pthread_mutex_lock(&write_lock);
        rc = reader ? mayday_store_open_reader(store) : mayday_store_open(store, connections == 0);
        if (rc == MAYDAY_OK) {
            connections++;
        }
        pthread_mutex_unlock(&write_lock);
    }
    if (rc != MAYDAY_OK) {
        snprintf(error, error_size, "cannot open the store %s: %s", path, store->error);
        free(store);
        return NULL;
    }
    return store;
}

mayday_store_t *
mayday_store_new(const char *path, char *error, size_t error_size)
{
    return new_connection(path, false, error, error_size);
}

mayday_store_t *
mayday_store_new_reader(const char *path, char *error, size_t error_size)
{
    return new_connection(path, true, error, error_size);
}

static void
dsn_cache_clear(mayday_store_t *store)
{
    for (size_t i = 0; i < MAYDAY_STORE_DSN_CACHE; i++) {
        free(store->dsns[i].text);
        store->dsns[i].text = NULL;
    }
}

void
mayday_store_free(mayday_store_t *store)
{
    if (store == NULL) {
        return;
    }
    mayday_store_rollback(store);
    for (size_t i = 0; i < MAYDAY_SQL_MAX; i++) {
        sqlite3_finalize(store->statements[i]);
    }
    dsn_cache_clear(store);
    pthread_mutex_lock(&write_lock);
    sqlite3_close(store->db);
    connections--;
    pthread_mutex_unlock(&write_lock);
    free(store);
}

const char *
mayday_store_error(const mayday_store_t *store)
{
    return store->error;
}

bool
mayday_store_is_corrupt(const mayday_store_t *store)
{
    return store->corrupt;
}

/* ---- transactions ---- */

/* Holds the write lock. */
static mayday_rc_t
begin_locked(mayday_store_t *store)
{
    if (mayday_store_run(store, mayday_store_statement(store, MAYDAY_SQL_BEGIN)) != MAYDAY_OK) {
        pthread_mutex_unlock(&write_lock);
        return MAYDAY_ERROR;
    }
    store->writing = true;
    return MAYDAY_OK;
}

mayday_rc_t
mayday_store_begin(mayday_store_t *store)
{
    assert(!store->writing);
    pthread_mutex_lock(&write_lock);
    return begin_locked(store);
}

mayday_rc_t
mayday_store_try_begin(mayday_store_t *store)
{
    assert(!store->writing);
    return pthread_mutex_trylock(&write_lock) == 0 ? begin_locked(store) : MAYDAY_BUSY;
}

mayday_rc_t
mayday_store_commit(mayday_store_t *store)
{
    assert(store->writing);
    if (mayday_store_run(store, mayday_store_statement(store, MAYDAY_SQL_COMMIT)) != MAYDAY_OK) {
        mayday_store_rollback(store);
        return MAYDAY_ERROR;
    }
    store->given_up = store->giving_up;
    store->writing = false;
    pthread_mutex_unlock(&write_lock);
    return MAYDAY_OK;
}

void
mayday_store_rollback(mayday_store_t *store)
{
    char kept[sizeof(store->error)];

    if (!store->writing) {
        return;
    }
    /* A full disk has rolled back by itself already. */
    if (!sqlite3_get_autocommit(store->db)) {
        memcpy(kept, store->error, sizeof(kept));
        if (mayday_store_run(store, mayday_store_statement(store, MAYDAY_SQL_ROLLBACK)) !=
            MAYDAY_OK) {
            memcpy(store->error, kept, sizeof(kept)); /* the cause is of more use */
        }
    }
    dsn_cache_clear(store);
    store->giving_up = store->given_up;
    store->writing = false;
    pthread_mutex_unlock(&write_lock);
}

/* ---- counts ---- */

/* Reasons come from rules too: their number must be bounded by us. */
static bool
counts_have_room(mayday_store_t *store)
{
    sqlite3_stmt *statement;

    if (!store->counts_full) {
        statement = mayday_store_statement(store, MAYDAY_SQL_COUNT_ROWS);
        if (mayday_store_step(store, statement) == MAYDAY_OK) {
            store->counts_full = sqlite3_column_int64(statement, 0) >= MAYDAY_STORE_COUNTS_MAX;
            mayday_store_done(statement);
        }
    }
    return !store->counts_full;
}

static mayday_rc_t
count_write(mayday_store_t *store, mayday_sql_t id, const char *name, const char *reason,
            uint64_t n)
{
    sqlite3_stmt *statement = mayday_store_statement(store, id);

    mayday_bind_text(statement, 1, mayday_slice_str(name));
    mayday_bind_text(statement, 2, mayday_slice_str(reason));
    mayday_bind_u64(statement, 3, n);
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_count(mayday_store_t *store, const char *name, const char *reason, uint64_t n)
{
    mayday_rc_t rc;

    assert(store->writing);
    if (n == 0) {
        return MAYDAY_OK;
    }
    rc = count_write(store, MAYDAY_SQL_COUNT_ADD, name, reason, n);
    if (rc != MAYDAY_OK || sqlite3_changes(store->db) > 0) {
        return rc;
    }
    if (!counts_have_room(store)) {
        reason = "other";
    }
    return count_write(store, MAYDAY_SQL_COUNT_INSERT, name, reason, n);
}

mayday_rc_t
mayday_store_counts(mayday_store_t *store, mayday_count_visit_pt visit, void *ctx)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_COUNTS);
    mayday_rc_t rc;

    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        visit(ctx, mayday_column_text(statement, 0), mayday_column_text(statement, 1),
              (uint64_t) sqlite3_column_int64(statement, 2));
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

/* ---- positions ---- */

static sqlite3_stmt *
position_statement(mayday_store_t *store, mayday_sql_t id, const mayday_lane_key_t *key)
{
    sqlite3_stmt *statement = mayday_store_statement(store, id);

    mayday_bind_blob(statement, 1, key->segment, sizeof(key->segment));
    mayday_bind_u64(statement, 2, key->slot);
    mayday_bind_u64(statement, 3, key->generation);
    return statement;
}

mayday_rc_t
mayday_store_position_set(mayday_store_t *store, const mayday_lane_key_t *key, uint64_t position,
                          uint64_t records_read)
{
    sqlite3_stmt *statement = position_statement(store, MAYDAY_SQL_POSITION_SET, key);

    assert(store->writing);
    mayday_bind_u64(statement, 4, position);
    mayday_bind_u64(statement, 5, records_read);
    mayday_bind_u64(statement, 6, mayday_clock_us());
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_position_get(mayday_store_t *store, const mayday_lane_key_t *key, uint64_t *position,
                          uint64_t *records_read)
{
    sqlite3_stmt *statement = position_statement(store, MAYDAY_SQL_POSITION_GET, key);
    mayday_rc_t rc = mayday_store_step(store, statement);

    if (rc == MAYDAY_OK) {
        *position = (uint64_t) sqlite3_column_int64(statement, 0);
        *records_read = (uint64_t) sqlite3_column_int64(statement, 1);
        mayday_store_done(statement);
    }
    return rc == MAYDAY_END ? MAYDAY_NOT_FOUND : rc;
}

mayday_rc_t
mayday_store_position_fold(mayday_store_t *store, const mayday_lane_key_t *key)
{
    sqlite3_stmt *statement = position_statement(store, MAYDAY_SQL_POSITION_FOLD, key);
    mayday_rc_t rc;

    assert(store->writing);
    mayday_bind_u64(statement, 4, mayday_clock_us());
    rc = mayday_store_run(store, statement);
    if (rc == MAYDAY_OK && sqlite3_changes(store->db) == 0) {
        return MAYDAY_NOT_FOUND;
    }
    return rc;
}
