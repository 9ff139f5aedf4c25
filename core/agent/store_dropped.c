/*
 * What rules did: the last events that they dropped, for people to see what is
 * hidden from them, and how often each place of the rules dropped or failed.
 *
 * Runs in the agent, in the thread that owns the connection; blocks on the disk.
 */
#include "core/agent/store_private.h"

#include <assert.h>
#include <stdio.h>

#define ROW_OVERHEAD_BYTES 256 /* indexes, numbers, short texts: about */
#define ROWS_MAX 1000
/* Lines move when rules are edited: what none was counted for so long is of old rules. */
#define RULES_KEPT_US (30ULL * 86400 * 1000000)

/* ---- dropped events ---- */

static mayday_rc_t
insert(mayday_store_t *store, const mayday_store_dropped_t *dropped, const uint8_t *id)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_DROPPED_ADD);

    mayday_bind_blob(statement, 1, id, MAYDAY_STORE_EVENT_ID_BYTES);
    mayday_bind_u64(statement, 2, dropped->time_us);
    mayday_bind_text(statement, 3, mayday_slice_str(dropped->kind));
    mayday_bind_text(statement, 4, mayday_slice_str(dropped->level));
    mayday_bind_u64(statement, 5, dropped->status);
    mayday_bind_text(statement, 6, dropped->title);
    mayday_bind_text(statement, 7, dropped->transaction);
    mayday_bind_text(statement, 8, mayday_slice_str(dropped->reason));
    mayday_bind_text(statement, 9, mayday_slice_str(dropped->hook));
    mayday_bind_text(statement, 10, mayday_slice_str(dropped->where));
    mayday_bind_u64(statement, 11, dropped->observed);
    mayday_bind_u64(statement, 12,
                    dropped->json.len + dropped->title.len + dropped->transaction.len +
                        ROW_OVERHEAD_BYTES);
    mayday_bind_text(statement, 13, dropped->json);
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_dropped_add(mayday_store_t *store, const mayday_store_dropped_t *dropped)
{
    uint8_t id[MAYDAY_STORE_EVENT_ID_BYTES];
    sqlite3_stmt *statement;
    mayday_rc_t rc;

    assert(store->writing);
    if (mayday_unhex(id, sizeof(id), dropped->event_id) != MAYDAY_OK ||
        dropped->json.len > MAYDAY_STORE_DROPPED_JSON_MAX) {
        snprintf(store->error, sizeof(store->error), "this is no event to be kept as dropped");
        return MAYDAY_INVALID;
    }
    rc = insert(store, dropped, id);
    if (rc == MAYDAY_OK) {
        statement = mayday_store_statement(store, MAYDAY_SQL_DROPPED_TRIM_REASON);
        mayday_bind_text(statement, 1, mayday_slice_str(dropped->reason));
        mayday_bind_u64(statement, 2, MAYDAY_STORE_DROPPED_MAX);
        rc = mayday_store_run(store, statement);
    }
    do {
        if (rc == MAYDAY_OK) {
            statement = mayday_store_statement(store, MAYDAY_SQL_DROPPED_TRIM_SIZE);
            mayday_bind_u64(statement, 1, MAYDAY_STORE_DROPPED_BYTES_MAX);
            rc = mayday_store_run(store, statement);
        }
    } while (rc == MAYDAY_OK && sqlite3_changes(store->db) > 0);
    return rc;
}

mayday_rc_t
mayday_store_dropped(mayday_store_t *store, const mayday_store_dropped_query_t *query,
                     mayday_dropped_visit_pt visit, void *ctx)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_DROPPED);
    char event_id[2 * MAYDAY_STORE_EVENT_ID_BYTES + 1];
    mayday_store_dropped_t dropped = {0};
    mayday_rc_t rc;

    if (query->reason != NULL) {
        mayday_bind_text(statement, 1, mayday_slice_str(query->reason));
    }
    if (query->kind != NULL) {
        mayday_bind_text(statement, 2, mayday_slice_str(query->kind));
    }
    mayday_bind_u64(statement, 3, query->since_us);
    mayday_bind_u64(statement, 4, query->limit < ROWS_MAX ? query->limit : ROWS_MAX);
    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        mayday_column_hex(event_id, statement, 0, MAYDAY_STORE_EVENT_ID_BYTES);
        dropped.event_id = mayday_slice_str(event_id);
        dropped.time_us = (uint64_t) sqlite3_column_int64(statement, 1);
        dropped.kind = mayday_column_text(statement, 2);
        dropped.level = mayday_column_text(statement, 3);
        dropped.status = (unsigned) sqlite3_column_int(statement, 4);
        dropped.title = mayday_slice_str(mayday_column_text(statement, 5));
        dropped.transaction = mayday_slice_str(mayday_column_text(statement, 6));
        dropped.reason = mayday_column_text(statement, 7);
        dropped.hook = mayday_column_text(statement, 8);
        dropped.where = mayday_column_text(statement, 9);
        dropped.observed = sqlite3_column_int(statement, 10) != 0;
        visit(ctx, &dropped);
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}

mayday_rc_t
mayday_store_dropped_trim(mayday_store_t *store, uint64_t before_us, uint64_t now_us)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_DROPPED_TRIM_AGE);
    mayday_rc_t rc;

    mayday_bind_u64(statement, 1, before_us);
    rc = mayday_store_run(store, statement);
    if (rc == MAYDAY_OK && now_us > RULES_KEPT_US) {
        statement = mayday_store_statement(store, MAYDAY_SQL_RULE_TRIM);
        mayday_bind_u64(statement, 1, now_us - RULES_KEPT_US);
        rc = mayday_store_run(store, statement);
    }
    return rc;
}

mayday_rc_t
mayday_store_dropped_purge(mayday_store_t *store, const mayday_store_purge_t *what,
                           mayday_store_purged_t *purged)
{
    sqlite3_stmt *statement;
    uint64_t count;
    mayday_rc_t rc = mayday_store_begin(store);

    if (rc != MAYDAY_OK) {
        return rc;
    }
    statement = mayday_store_statement(store, MAYDAY_SQL_DROPPED_PURGE);
    mayday_bind_u64(statement, 1, what->all ? 0 : what->before_us);
    if (!what->all && what->user.len > 0) {
        mayday_bind_text(statement, 2, what->user);
    }
    rc = mayday_store_run(store, statement);
    count = rc == MAYDAY_OK ? (uint64_t) sqlite3_changes(store->db) : 0;
    if (rc == MAYDAY_OK) {
        rc = mayday_store_commit(store);
    }
    if (rc != MAYDAY_OK) {
        mayday_store_rollback(store);
        return rc;
    }
    purged->events += count;
    purged->dropped += count;
    return MAYDAY_OK;
}

/* ---- counts per rule ---- */

static mayday_rc_t
rule_write(mayday_store_t *store, mayday_sql_t id, const mayday_store_rule_t *rule, uint64_t now_us)
{
    sqlite3_stmt *statement = mayday_store_statement(store, id);

    mayday_bind_text(statement, 1, mayday_slice_str(rule->where));
    mayday_bind_text(statement, 2, mayday_slice_str(rule->hook));
    mayday_bind_text(statement, 3, mayday_slice_str(rule->outcome));
    mayday_bind_text(statement, 4, mayday_slice_str(rule->reason));
    mayday_bind_u64(statement, 5, rule->observed);
    mayday_bind_u64(statement, 6, rule->n);
    mayday_bind_u64(statement, 7, now_us);
    return mayday_store_run(store, statement);
}

mayday_rc_t
mayday_store_rule_count(mayday_store_t *store, const mayday_store_rule_t *rule, uint64_t now_us)
{
    mayday_store_rule_t other = *rule;
    sqlite3_stmt *statement;
    mayday_rc_t rc;
    bool full;

    assert(store->writing);
    rc = rule_write(store, MAYDAY_SQL_RULE_ADD, rule, now_us);
    if (rc != MAYDAY_OK || sqlite3_changes(store->db) > 0) {
        return rc;
    }
    statement = mayday_store_statement(store, MAYDAY_SQL_RULE_ROWS);
    if (mayday_store_step(store, statement) != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    full = sqlite3_column_int64(statement, 0) >= MAYDAY_STORE_RULES_MAX;
    mayday_store_done(statement);
    if (full) {
        other.where = other.reason = "other";
    }
    return rule_write(store, MAYDAY_SQL_RULE_INSERT, &other, now_us);
}

mayday_rc_t
mayday_store_rules(mayday_store_t *store, mayday_rule_visit_pt visit, void *ctx)
{
    sqlite3_stmt *statement = mayday_store_statement(store, MAYDAY_SQL_RULES);
    mayday_store_rule_t rule;
    mayday_rc_t rc;

    while ((rc = mayday_store_step(store, statement)) == MAYDAY_OK) {
        rule.where = mayday_column_text(statement, 0);
        rule.hook = mayday_column_text(statement, 1);
        rule.outcome = mayday_column_text(statement, 2);
        rule.reason = mayday_column_text(statement, 3);
        rule.observed = sqlite3_column_int(statement, 4) != 0;
        rule.n = (uint64_t) sqlite3_column_int64(statement, 5);
        visit(ctx, &rule);
    }
    return rc == MAYDAY_END ? MAYDAY_OK : rc;
}
