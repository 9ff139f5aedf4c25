/*
 * The ledger: what became of rows, gathered and written to the store in one
 * transaction, so that a row leaves the queue in the same moment as it is
 * counted. After a crash, rows whose result was not yet written are sent again
 * with the same event id: at most DELIVERY_IN_FLIGHT_MAX of each DSN and
 * DELIVERY_SETTLE_MAX, unless the store is busy. While the pipeline writes,
 * delivery goes on sending, up to DELIVERY_SETTLE_LATEST results; else the two
 * threads would only take turns.
 *
 * Runs in the delivery thread; blocks on the store. Allocates nothing.
 */
#include <assert.h>

#include "core/agent/delivery_private.h"
#include "core/agent/log.h"

#define STORE_RETRY_US 1000000
#define BUSY_RETRY_US 1000 /* a batch of the pipeline takes some milliseconds */

static const struct {
    const char *name; /* of the count */
    const char *reason;
    const char *discarded; /* the client report's reason, or NULL */
} results[RESULT_MAX] = {
    [RESULT_SENT] = {"sent", "", NULL},
    [RESULT_REFUSED] = {"dropped", "send_error", "send_error"},
    [RESULT_LIMITED] = {"dropped", "ratelimit_backoff", NULL},
    [RESULT_TOO_LARGE] = {"dropped", "too_large", "send_error"},
    [RESULT_INVALID_DSN] = {"dropped", "invalid_dsn", NULL},
};

static void
due(mayday_delivery_t *delivery, uint64_t now_us)
{
    if (delivery->settle_at_us == 0) {
        delivery->settle_at_us = now_us + DELIVERY_SETTLE_US;
    }
}

void
mayday_delivery_ledger_add(mayday_delivery_t *delivery, delivery_target_t *target, int64_t row,
                           delivery_result_t result, uint64_t now_us)
{
    assert(delivery->unsettled_count < DELIVERY_UNSETTLED_MAX);
    delivery->unsettled[delivery->unsettled_count++] = (delivery_entry_t){target, row, result};
    target->unsettled++;
    due(delivery, now_us);
}

bool
mayday_delivery_ledger_has_room(const mayday_delivery_t *delivery)
{
    return delivery->unsettled_count + delivery->in_flight < DELIVERY_UNSETTLED_MAX;
}

void
mayday_delivery_ledger_add_report(mayday_delivery_t *delivery, delivery_target_t *target,
                                  uint64_t now_us)
{
    target->report_answered = true;
    delivery->reports_answered++;
    due(delivery, now_us);
}

/* A row that has gone meanwhile was counted by whoever took it away. */
static mayday_rc_t
settle_entry(mayday_store_t *store, const delivery_entry_t *entry, uint64_t *sums)
{
    const char *discarded = results[entry->result].discarded;
    mayday_rc_t rc = mayday_store_queue_remove(store, entry->target->number, entry->row);

    if (rc != MAYDAY_OK) {
        return rc == MAYDAY_NOT_FOUND ? MAYDAY_OK : rc;
    }
    sums[entry->result]++;
    return discarded == NULL
               ? MAYDAY_OK
               : mayday_store_discarded_add(store, entry->target->number, discarded, 1);
}

static mayday_rc_t
settle_report(mayday_store_t *store, const delivery_target_t *target)
{
    for (size_t i = 0; i < target->loss_count; i++) {
        mayday_rc_t rc = mayday_store_discarded_sub(store, target->number, target->losses[i].reason,
                                                    target->losses[i].n);
        if (rc != MAYDAY_OK && rc != MAYDAY_NOT_FOUND) {
            return rc;
        }
    }
    return MAYDAY_OK;
}

static mayday_rc_t
settle_all(mayday_delivery_t *delivery)
{
    uint64_t sums[RESULT_MAX] = {0};
    mayday_rc_t rc = MAYDAY_OK;

    for (size_t i = 0; rc == MAYDAY_OK && i < delivery->unsettled_count; i++) {
        rc = settle_entry(delivery->store, &delivery->unsettled[i], sums);
    }
    for (int result = 0; rc == MAYDAY_OK && result < RESULT_MAX; result++) {
        rc = mayday_store_count(delivery->store, results[result].name, results[result].reason,
                                sums[result]);
    }
    if (delivery->reports_answered == 0) {
        return rc;
    }
    for (delivery_target_t *t = delivery->targets; rc == MAYDAY_OK && t != NULL; t = t->next) {
        rc = t->report_answered ? settle_report(delivery->store, t) : MAYDAY_OK;
    }
    return rc;
}

/* After the commit. */
static void
forget_all(mayday_delivery_t *delivery)
{
    for (size_t i = 0; i < delivery->unsettled_count; i++) {
        delivery_entry_t *entry = &delivery->unsettled[i];

        entry->target->unsettled--;
        entry->target->queued -= entry->target->queued > 0;
        entry->target->sent += entry->result == RESULT_SENT;
    }
    for (delivery_target_t *t = delivery->targets; delivery->reports_answered > 0 && t != NULL;
         t = t->next) {
        if (t->report_answered) {
            t->report_answered = false;
            t->loss_count = 0;
            delivery->reports_answered--;
        }
    }
    delivery->unsettled_count = 0;
    delivery->settle_at_us = 0;
    delivery->store_retry_at_us = 0;
}

void
mayday_delivery_ledger_settle(mayday_delivery_t *delivery, bool wait, uint64_t now_us)
{
    mayday_rc_t rc;

    if (delivery->settle_at_us == 0) {
        return;
    }
    rc = wait ? mayday_store_begin(delivery->store) : mayday_store_try_begin(delivery->store);
    if (rc == MAYDAY_BUSY) {
        delivery->settle_at_us = now_us + BUSY_RETRY_US;
        return;
    }
    if (rc == MAYDAY_OK) {
        rc = settle_all(delivery);
        if (rc == MAYDAY_OK) {
            rc = mayday_store_commit(delivery->store);
        } else {
            mayday_store_rollback(delivery->store);
        }
    }
    if (rc == MAYDAY_OK) {
        forget_all(delivery);
        return;
    }
    mayday_log(MAYDAY_LOG_ERROR, "MD0201",
               "the store does not take what was delivered, so delivery waits: %s",
               mayday_store_error(delivery->store));
    delivery->settle_at_us = now_us + STORE_RETRY_US;
    delivery->store_retry_at_us = now_us + STORE_RETRY_US;
}
