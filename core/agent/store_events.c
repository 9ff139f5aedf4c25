/*
 * Issues and events in the store.
 *
 * Runs in the agent, in the thread that owns the connection; blocks on the disk.
 */
#include "core/agent/store_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENT_ID_DIGITS_MIN 4
#define ROW_OVERHEAD_BYTES 256 /* indexes, numbers, short texts: about */
#define ROWS_MAX 1000

mayday_rc_t
mayday_store_issue_seen(mayday_store_t *store, const uint8_t issue[MAYDAY_HASH_BYTES],
                        uint64_t time_us, uint64_t seen, uint64_t suppressed)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_ISSUE_SEEN);

    assert(store->writing);
    mayday_bind_blob(statement, 1, issue, MAYDAY_HASH_BYTES);
    mayday_bind_u64(statement, 2, time_us);
    mayday_bind_u64(statement, 3, seen);
    mayday_bind_u64(statement, 4, suppressed);
    return mayday_store_run(store, statement);
}

/* The numbers of the DSNs, each once. */
static mayday_rc_t
dsn_numbers(mayday_store_t *store, const char *const *dsns, size_t dsn_count, int64_t *numbers,
            size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < dsn_count; i++) {
        size_t known = 0;
        int64_t dsn;
        mayday_rc_t rc = mayday_store_dsn_id(store, dsns[i], &dsn);

        if (rc != MAYDAY_OK) {
            return rc;
        }
        while (known < *count && numbers[known] != dsn) {
            known++;
        }
        if (known == *count) {
            numbers[(*count)++] = dsn;
        }
    }
    return MAYDAY_OK;
}

static mayday_rc_t
issue_title(mayday_store_t *store, const mayday_store_event_t *event)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_ISSUE_TITLE);

    mayday_bind_blob(statement, 1, event->issue, sizeof(event->issue));
    mayday_bind_u64(statement, 2, event->time_us);
    mayday_bind_text(statement, 3, event->title);
    return mayday_store_run(store, statement);
}

static mayday_rc_t
event_insert(mayday_store_t *store, const mayday_store_event_t *event, const uint8_t *id,
             size_t pending)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_EVENT_ADD);

    mayday_bind_blob(statement, 1, id, MAYDAY_STORE_EVENT_ID_BYTES);
    mayday_bind_blob(statement, 2, event->issue, sizeof(event->issue));
    mayday_bind_u64(statement, 3, event->time_us);
    mayday_bind_text(statement, 4, mayday_slice_str(event->kind));
    mayday_bind_text(statement, 5, mayday_slice_str(event->level));
    mayday_bind_u64(statement, 6, event->status);
    mayday_bind_text(statement, 7, event->title);
    mayday_bind_text(statement, 8, event->transaction);
    mayday_bind_u64(statement, 9,
                    event->json.len + event->trace.len + event->title.len + event->transaction.len +
                        ROW_OVERHEAD_BYTES);
    mayday_bind_u64(statement, 10, pending);
    return mayday_store_run(store, statement);
}

static mayday_rc_t
payload_insert(mayday_store_t *store, const mayday_store_event_t *event, sqlite3_int64 row)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_PAYLOAD_ADD);

    sqlite3_bind_int64(statement, 1, row);
    mayday_bind_text(statement, 2, event->json);
    mayday_bind_text(statement, 3, event->trace);
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_event_add(mayday_store_t *store, const mayday_store_event_t *event,
                       const char *const *dsns, size_t dsn_count)
{
    uint8_t id[MAYDAY_STORE_EVENT_ID_BYTES];
    sqlite3_stmt *statement;
    mayday_rc_t rc;
    size_t count;

    assert(store->writing && dsn_count <= MAYDAY_SETTINGS_DSN_MAX);
    store->queued_count = 0;
    if (mayday_unhex(id, sizeof(id), event->event_id) != MAYDAY_OK) {
        snprintf(store->error, sizeof(store->error), "an event id is not 32 hex digits");
        return MAYDAY_INVALID;
    }
    rc = dsn_numbers(store, dsns, dsn_count, store->queued_dsns, &count);
    if (rc != MAYDAY_OK || (rc = issue_title(store, event)) != MAYDAY_OK ||
        (rc = event_insert(store, event, id, count)) != MAYDAY_OK) {
        return rc;
    }
    if (sqlite3_changes(store->db) == 0) {
        return MAYDAY_OK; /* it is here already */
    }
    store->queued_row = sqlite3_last_insert_rowid(store->db);
    rc = payload_insert(store, event, store->queued_row);
    for (size_t i = 0; rc == MAYDAY_OK && i < count; i++) {
        statement = mayday_store_statement(store, MAYDAY_SQL_QUEUE_ADD);
        sqlite3_bind_int64(statement, 1, store->queued_dsns[i]);
        sqlite3_bind_int64(statement, 2, store->queued_row);
        rc = mayday_store_run(store, statement);
    }
    store->queued_count = rc == MAYDAY_OK ? count : 0;
    return rc;
}

mayday_store_queued_t
mayday_store_queued(const mayday_store_t *store)
{
    return (mayday_store_queued_t){store->queued_row, store->queued_dsns, store->queued_count};
}

/* ---- reading ---- */

static void
visit_row(sqlite3_stmt *statement, mayday_row_visit_pt visit, void *ctx)
{
    char event_id[2 * MAYDAY_STORE_EVENT_ID_BYTES + 1], issue[MAYDAY_HASH_HEX_SIZE];
    mayday_store_row_t row;

    mayday_column_hex(event_id, statement, 1, MAYDAY_STORE_EVENT_ID_BYTES);
    mayday_column_hex(issue, statement, 2, MAYDAY_HASH_BYTES);
    row.row = sqlite3_column_int64(statement, 0);
    row.event_id = event_id;
    row.issue = issue;
    row.time_us = (uint64_t) sqlite3_column_int64(statement, 3);
    row.kind = mayday_column_text(statement, 4);
    row.level = mayday_column_text(statement, 5);
    row.status = (unsigned) sqlite3_column_int(statement, 6);
    row.title = mayday_column_text(statement, 7);
    row.transaction = mayday_column_text(statement, 8);
    row.issue_seen = (uint64_t) sqlite3_column_int64(statement, 9);
    row.undelivered = (unsigned) sqlite3_column_int(statement, 10);
    visit(ctx, &row);
}

mayday_rc_t
mayday_store_events(mayday_store_t *store, const mayday_store_query_t *query,
                    mayday_row_visit_pt visit, void *ctx)
{
    uint8_t issue[MAYDAY_HASH_BYTES];
    sqlite3_stmt *statement;
    mayday_rc_t rc;

    if (query->issue != NULL &&
        mayday_unhex(issue, sizeof(issue), mayday_slice_str(query->issue)) != MAYDAY_OK) {
        return MAYDAY_OK; /* no issue has such a name */
    }
    statement = mayday_store_statement(store, query->after_row > 0 ? MAYDAY_SQL_EVENTS_NEWER
                                                                   : MAYDAY_SQL_EVENTS_LATEST);
    sqlite3_bind_int64(statement, 1, query->after_row);
    if (query->kind != NULL) {
        mayday_bind_text(statement, 2, mayday_slice_str(query->kind));
    }
    if (query->issue != NULL) {
        mayday_bind_blob(statement, 3, issue, sizeof(issue));
    }
    mayday_bind_u64(statement, 4, query->since_us);
    mayday_bind_u64(statement, 5, query->limit < ROWS_MAX ? query->limit : ROWS_MAX);
    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        visit_row(statement, visit, ctx);
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

/* The first and last id that begin with the given digits. */
static mayday_rc_t
id_range(mayday_slice_t digits, uint8_t *first, uint8_t *last)
{
    char text[2 * MAYDAY_STORE_EVENT_ID_BYTES];

    if (digits.len < EVENT_ID_DIGITS_MIN || digits.len > sizeof(text)) {
        return MAYDAY_INVALID;
    }
    memset(text, '0', sizeof(text));
    memcpy(text, digits.data, digits.len);
    if (mayday_unhex(first, MAYDAY_STORE_EVENT_ID_BYTES, mayday_slice(text, sizeof(text))) !=
        MAYDAY_OK) {
        return MAYDAY_INVALID;
    }
    memset(text + digits.len, 'f', sizeof(text) - digits.len);
    return mayday_unhex(last, MAYDAY_STORE_EVENT_ID_BYTES, mayday_slice(text, sizeof(text)));
}

/* The JSON of the one row of a statement that takes a range of ids. */
static mayday_rc_t
json_get(mayday_store_t *store, mayday_sql_t id, const uint8_t *first, const uint8_t *last,
         char **out, size_t *out_len)
{
    sqlite3_stmt *statement = mayday_store_statement(store, id);
    mayday_slice_t json;
    mayday_rc_t rc;

    mayday_bind_blob(statement, 1, first, MAYDAY_STORE_EVENT_ID_BYTES);
    mayday_bind_blob(statement, 2, last, MAYDAY_STORE_EVENT_ID_BYTES);
    rc = mayday_store_step(store, statement);
    if (rc != MAYDAY_OK) {
        return rc == MAYDAY_END ? MAYDAY_NOT_FOUND : rc;
    }
    json = mayday_column_slice(statement, 0);
    *out = malloc(json.len + 1);
    if (*out == NULL) {
        mayday_store_done(statement);
        return MAYDAY_NO_MEMORY;
    }
    memcpy(*out, json.data == NULL ? "" : json.data, json.len);
    (*out)[json.len] = '\0';
    *out_len = json.len;
    rc = mayday_store_step(store, statement);
    if (rc == MAYDAY_END) {
        return MAYDAY_OK;
    }
    if (rc == MAYDAY_OK) {
        mayday_store_done(statement);
        rc = MAYDAY_INVALID; /* a second one begins with the same digits */
    }
    free(*out);
    *out = NULL;
    return rc;
}

mayday_rc_t
mayday_store_event_json(mayday_store_t *store, mayday_slice_t id, char **out, size_t *out_len)
{
    uint8_t first[MAYDAY_STORE_EVENT_ID_BYTES], last[MAYDAY_STORE_EVENT_ID_BYTES];
    mayday_rc_t rc;

    *out = NULL;
    if (id_range(id, first, last) != MAYDAY_OK) {
        return MAYDAY_NOT_FOUND;
    }
    rc = json_get(store, MAYDAY_SQL_EVENT_JSON, first, last, out, out_len);
    return rc == MAYDAY_NOT_FOUND
               ? json_get(store, MAYDAY_SQL_DROPPED_JSON, first, last, out, out_len)
               : rc;
}
