/*
 * Events of a DSN in memory, not yet begun: read from the store's queue, or
 * handed over by the pipeline right after it stored them.
 *
 * The queue on disk is the truth, and memory a copy of its end that spares
 * reading it back. So a fresh event is taken on only where nothing older waits
 * on disk and it may go at once; any other is dropped here, and its target told
 * that the store holds more. Rows ascend in order of arrival, which settles what
 * came both ways.
 *
 *   pipeline: commit, hand      fresh       delivery: fresh_take     rows of a target
 *        (any thread) ------> [ list ] ------------------------> [ oldest … newest ] -> transfers
 *                                             rows_load: from the store, a few at a time
 *
 * mayday_delivery_hand runs in the pipeline, all else in the delivery thread;
 * reading blocks on the store. Allocates rows within the bounds of
 * delivery_private.h.
 */
#include <assert.h>
#include <stdlib.h>

#include "core/agent/delivery_private.h"
#include "core/agent/log.h"

/* ---- one row ---- */

static size_t
row_bytes(const delivery_row_t *row)
{
    return row->json.len + row->trace.len;
}

/* NULL: no memory. */
static delivery_row_t *
row_new(int64_t number, mayday_slice_t event_id, mayday_slice_t json, mayday_slice_t trace)
{
    delivery_row_t *row = malloc(sizeof(*row) + json.len + trace.len);
    char *texts;

    assert(event_id.len < sizeof(row->event_id));
    if (row == NULL) {
        return NULL;
    }
    texts = (char *) (row + 1);
    *row = (delivery_row_t){.row = number};
    memcpy(row->event_id, event_id.data, event_id.len);
    row->json = mayday_slice(texts, json.len);
    memcpy(texts, json.data == NULL ? "" : json.data, json.len);
    row->trace = mayday_slice(texts + json.len, trace.len);
    memcpy(texts + json.len, trace.data == NULL ? "" : trace.data, trace.len);
    return row;
}

void
mayday_delivery_row_free(mayday_delivery_t *delivery, delivery_row_t *row)
{
    if (row->fresh) {
        atomic_fetch_sub(&delivery->fresh_bytes, row_bytes(row));
    }
    free(row);
}

static void
row_append(delivery_target_t *target, delivery_row_t *row)
{
    row->next = NULL;
    *target->rows_end = row;
    target->rows_end = &row->next;
    target->row_count++;
    target->held_bytes += row_bytes(row);
    target->loaded_row = row->row;
}

delivery_row_t *
mayday_delivery_row_take(delivery_target_t *target)
{
    delivery_row_t *row = target->rows;

    target->rows = row->next;
    if (target->rows == NULL) {
        target->rows_end = &target->rows;
    }
    target->row_count--;
    target->held_bytes -= row_bytes(row);
    return row;
}

void
mayday_delivery_rows_forget(mayday_delivery_t *delivery, delivery_target_t *target)
{
    while (target->rows != NULL) {
        mayday_delivery_row_free(delivery, mayday_delivery_row_take(target));
    }
    target->rewind = true;
}

/* ---- from the store ---- */

typedef struct {
    mayday_delivery_t *delivery;
    delivery_target_t *target;
    uint64_t now_us;
    unsigned count;
    bool stopped;
} load_t;

static bool
load_row(void *ctx, const mayday_store_due_t *due)
{
    load_t *load = ctx;
    delivery_target_t *target = load->target;
    size_t len = due->json.len + due->trace.len;
    delivery_row_t *row;

    load->stopped = true;
    if (!mayday_delivery_ledger_has_room(load->delivery) ||
        (target->row_count > 0 && target->held_bytes + len > DELIVERY_HELD_BYTES_MAX)) {
        return false;
    }
    if (len > DELIVERY_EVENT_BYTES_MAX) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0207", "an event of %zu bytes is too large to be sent",
                   len);
        mayday_delivery_ledger_add(load->delivery, target, due->row, RESULT_TOO_LARGE,
                                   load->now_us);
        target->loaded_row = due->row;
    } else {
        row = row_new(due->row, mayday_slice_str(due->event_id), due->json, due->trace);
        if (row == NULL) {
            return false;
        }
        row_append(target, row);
    }
    load->stopped = false;
    load->count++;
    return true;
}

void
mayday_delivery_rows_load(mayday_delivery_t *delivery, delivery_target_t *target, unsigned limit,
                          uint64_t now_us)
{
    load_t load = {.delivery = delivery, .target = target, .now_us = now_us};

    if (mayday_store_due(delivery->store, target->number, target->loaded_row, limit, load_row,
                         &load) != MAYDAY_OK) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0206", "the delivery queue cannot be read: %s",
                   mayday_store_error(delivery->store));
        delivery->store_retry_at_us = now_us + 1000000;
        return;
    }
    target->more = load.stopped || load.count == limit;
}

/* ---- from the pipeline ---- */

/*
 * Room is taken before the row exists and given back when it goes, so the bound
 * holds for all that is fresh, on the list and with the targets. The first that
 * finds none closes the list until delivery has looked: behind a gap nothing may
 * follow.
 */
void
mayday_delivery_hand(mayday_delivery_t *delivery, const mayday_fresh_t *fresh)
{
    size_t len = fresh->json.len + fresh->trace.len;
    delivery_row_t *row = NULL;
    bool first;

    if (len <= DELIVERY_EVENT_BYTES_MAX &&
        atomic_fetch_add(&delivery->fresh_bytes, len) + len <= DELIVERY_FRESH_BYTES_MAX) {
        row = row_new(fresh->row, fresh->event_id, fresh->json, fresh->trace);
    }
    if (row != NULL) {
        row->fresh = true;
        row->dsn = fresh->dsn;
        row->purges = fresh->purges;
    } else if (len <= DELIVERY_EVENT_BYTES_MAX) {
        atomic_fetch_sub(&delivery->fresh_bytes, len);
    }
    apr_thread_mutex_lock(delivery->fresh_lock);
    first = delivery->fresh == NULL && !delivery->fresh_gap;
    if (row == NULL) {
        delivery->fresh_gap = true;
    }
    if (!delivery->fresh_gap) {
        *delivery->fresh_end = row;
        delivery->fresh_end = &row->next;
        row = NULL;
    }
    apr_thread_mutex_unlock(delivery->fresh_lock);
    if (row != NULL) {
        mayday_delivery_row_free(delivery, row);
    }
    if (first) {
        curl_multi_wakeup(delivery->multi);
    }
}

static delivery_target_t *
target_find(const mayday_delivery_t *delivery, int64_t number)
{
    delivery_target_t *target = delivery->targets;

    while (target != NULL && target->number != number) {
        target = target->next;
    }
    return target;
}

/* Whether nothing older waits on disk, and the row may go as soon as there is room. */
static bool
may_take_on(const mayday_delivery_t *delivery, const delivery_target_t *target,
            const delivery_row_t *row, uint64_t now_us)
{
    const mayday_rate_setting_t *rate = &delivery->config->send_rate;

    if (!target->valid || target->more || target->rewind || target->failures > 0 ||
        target->limits.until_us[MAYDAY_LIMIT_ERROR] > now_us || row->purges != delivery->purges ||
        target->held_bytes + row_bytes(row) > DELIVERY_FRESH_BYTES_OF_DSN) {
        return false;
    }
    /* Under a rate rows wait in the store, where bounds and purges find them. */
    return rate->events == 0 || (target->row_count == 0 &&
                                 mayday_bucket_next_us(&target->bucket, rate, now_us) <= now_us);
}

static void
fresh_sort(mayday_delivery_t *delivery, delivery_row_t *row, uint64_t now_us)
{
    delivery_target_t *target = target_find(delivery, row->dsn);

    if (target == NULL) {
        delivery->refresh_at_us = 0; /* a DSN that is new in the store */
        mayday_delivery_row_free(delivery, row);
        return;
    }
    target->queued += row->row > delivery->counted_row;
    if (!target->rewind && row->row <= target->loaded_row) {
        mayday_delivery_row_free(delivery, row); /* it was read meanwhile */
    } else if (may_take_on(delivery, target, row, now_us)) {
        row_append(target, row);
    } else {
        target->more = true;
        mayday_delivery_row_free(delivery, row);
    }
}

void
mayday_delivery_fresh_take(mayday_delivery_t *delivery, uint64_t now_us)
{
    delivery_row_t *row, *next;
    bool gap;

    apr_thread_mutex_lock(delivery->fresh_lock);
    row = delivery->fresh;
    gap = delivery->fresh_gap;
    delivery->fresh = NULL;
    delivery->fresh_end = &delivery->fresh;
    delivery->fresh_gap = false;
    apr_thread_mutex_unlock(delivery->fresh_lock);
    for (; row != NULL; row = next) {
        next = row->next;
        fresh_sort(delivery, row, now_us);
    }
    if (!gap) {
        return;
    }
    delivery->refresh_at_us = 0; /* who has how many is known to the store alone */
    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        target->more = true;
    }
}

void
mayday_delivery_fresh_free(mayday_delivery_t *delivery)
{
    delivery_row_t *row, *next;

    for (row = delivery->fresh; row != NULL; row = next) {
        next = row->next;
        mayday_delivery_row_free(delivery, row);
    }
    delivery->fresh = NULL;
}
