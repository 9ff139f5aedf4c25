/*
 * One DSN: what is due, whether it may go, and what an answer means.
 *
 * Fresh events come from the pipeline in memory; others are read from the store
 * when they may be sent, a few at a time. Whenever sending stops (no network, a
 * limit, a purge), what is in memory is forgotten and read again later, so the
 * store alone says what waits.
 *
 * Runs in the delivery thread; blocks on the store. Allocates rows and transfers,
 * within the bounds of delivery_private.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/delivery_private.h"
#include "core/agent/log.h"
#include "core/event/envelope.h"

#define STATUS_TOO_MANY 429
#define ENVELOPE_ROOM 4096 /* what an envelope is longer than event and trace */
#define BODY_KEPT_MAX ((size_t) 64 << 10)

/* ---- what stops sending ---- */

static void
error_set(mayday_delivery_t *delivery, delivery_target_t *target, const char *text)
{
    apr_thread_mutex_lock(delivery->lock);
    target->info.last_error_us = mayday_clock_us();
    snprintf(target->info.last_error, sizeof(target->info.last_error), "%s", text);
    apr_thread_mutex_unlock(delivery->lock);
}

static uint64_t
backoff_us(unsigned failures)
{
    uint64_t wait_us = DELIVERY_BACKOFF_MAX_US;
    uint32_t random = 0;

    if (failures < 10) {
        wait_us = DELIVERY_BACKOFF_MIN_US << (failures - 1);
    }
    if (wait_us > DELIVERY_BACKOFF_MAX_US) {
        wait_us = DELIVERY_BACKOFF_MAX_US;
    }
    /* A fifth of jitter; without a random number just none. */
    if (mayday_random(&random, sizeof(random)) != MAYDAY_OK) {
        random = 0;
    }
    return wait_us - (uint64_t) ((double) wait_us * 0.2 * random / UINT32_MAX);
}

/* The transfers of one moment that fail together are one failure. */
static void
failed(mayday_delivery_t *delivery, delivery_target_t *target, const char *why, uint64_t now_us)
{
    mayday_delivery_rows_forget(delivery, target);
    error_set(delivery, target, why);
    if (target->retry_at_us > now_us) {
        return;
    }
    target->failures++;
    target->retry_at_us = now_us + backoff_us(target->failures);
    mayday_log(MAYDAY_LOG_WARN, "MD0203",
               "cannot deliver to %s: %s; %llu events wait, next try in %llu s", target->info.dsn,
               why, (unsigned long long) target->queued,
               (unsigned long long) ((target->retry_at_us - now_us + 999999) / 1000000));
}

static void
works(delivery_target_t *target)
{
    if (target->failures == 0) {
        return;
    }
    mayday_log(MAYDAY_LOG_NOTICE, "MD0208", "delivery to %s works again", target->info.dsn);
    target->failures = 0;
    target->retry_at_us = 0;
}

/* ---- beginning ---- */

static delivery_transfer_t *
transfer_new(mayday_delivery_t *delivery)
{
    delivery_transfer_t *transfer = calloc(1, sizeof(*transfer));

    if (transfer == NULL || (transfer->easy = curl_easy_init()) == NULL) {
        free(transfer);
        return NULL;
    }
    transfer->next = delivery->transfers;
    delivery->transfers = transfer;
    return transfer;
}

/* One whose handle knows the address already, else any. NULL: no memory. */
static delivery_transfer_t *
transfer_get(mayday_delivery_t *delivery, delivery_target_t *target)
{
    delivery_transfer_t *found = NULL, *transfer;
    delivery_address_t address = {&target->dsn, target->url, target->headers};

    for (transfer = delivery->transfers; transfer != NULL; transfer = transfer->next) {
        if (!transfer->running) {
            found = transfer;
            if (transfer->target == target &&
                transfer->config_generation == delivery->config_generation) {
                return transfer;
            }
        }
    }
    if (found == NULL) {
        found = transfer_new(delivery);
    }
    if (found != NULL) {
        curl_easy_reset(found->easy);
        mayday_delivery_easy_setup(found->easy, delivery->config, &address, &found->answer,
                                   found->error);
        curl_easy_setopt(found->easy, CURLOPT_PRIVATE, found);
        found->target = target;
        found->config_generation = delivery->config_generation;
    }
    return found;
}

static mayday_rc_t
transfer_start(mayday_delivery_t *delivery, delivery_target_t *target, transfer_kind_t kind,
               int64_t row, mayday_slice_t envelope)
{
    delivery_transfer_t *transfer = transfer_get(delivery, target);

    if (transfer == NULL ||
        mayday_delivery_press_run(&delivery->press, envelope, &transfer->body, &transfer->body_size,
                                  &transfer->body_len) != MAYDAY_OK) {
        return MAYDAY_NO_MEMORY;
    }
    transfer->kind = kind;
    transfer->row = row;
    transfer->answer = (delivery_answer_t){0};
    transfer->error[0] = '\0';
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, (char *) transfer->body);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE, (long) transfer->body_len);
    if (curl_multi_add_handle(delivery->multi, transfer->easy) != CURLM_OK) {
        return MAYDAY_NO_MEMORY;
    }
    transfer->running = true;
    transfer->held_bytes = transfer->body_size;
    target->held_bytes += transfer->held_bytes;
    target->in_flight++;
    delivery->in_flight++;
    return MAYDAY_OK;
}

static mayday_rc_t
event_start(mayday_delivery_t *delivery, delivery_target_t *target, const delivery_row_t *row)
{
    mayday_buf_t room = mayday_delivery_press_room(&delivery->press,
                                                   row->json.len + row->trace.len + ENVELOPE_ROOM);

    if (room.data == NULL) {
        return MAYDAY_NO_MEMORY;
    }
    mayday_envelope_event(&room, row->event_id, row->json, row->trace, target->dsn.public_key,
                          delivery->config->sdk_name, mayday_clock_us());
    return room.truncated ? MAYDAY_NO_MEMORY
                          : transfer_start(delivery, target, TRANSFER_EVENT, row->row,
                                           mayday_buf_slice(&room));
}

/* Whether the network, the server and our own bounds allow one more transfer. */
static bool
may_begin(const mayday_delivery_t *delivery, const delivery_target_t *target,
          mayday_limit_category_t category, uint64_t now_us)
{
    if (target->limits.until_us[category] > now_us || target->retry_at_us > now_us ||
        delivery->store_retry_at_us > now_us || !mayday_delivery_ledger_has_room(delivery)) {
        return false;
    }
    return target->in_flight == 0 ||
           (target->failures == 0 && target->in_flight < DELIVERY_IN_FLIGHT_MAX &&
            target->held_bytes < DELIVERY_HELD_BYTES_MAX &&
            delivery->in_flight < DELIVERY_IN_FLIGHT_ALL);
}

static bool
event_begin(mayday_delivery_t *delivery, delivery_target_t *target, uint64_t now_us)
{
    const mayday_rate_setting_t *rate = &delivery->config->send_rate;
    delivery_row_t *row;
    mayday_rc_t rc;

    if (target->rewind) {
        if (target->in_flight > 0 || target->unsettled > 0) {
            return false;
        }
        target->rewind = false;
        target->loaded_row = 0;
        target->more = true;
    }
    if (mayday_store_purges() != delivery->purges) {
        delivery->refresh_at_us = 0; /* what is in memory may have been erased: forget it first */
        return false;
    }
    if (!may_begin(delivery, target, MAYDAY_LIMIT_ERROR, now_us) ||
        mayday_bucket_next_us(&target->bucket, rate, now_us) > now_us) {
        return false;
    }
    if (target->row_count == 0 && target->more) {
        /* Under a rate rows wait in the store, where bounds and purges find them. */
        mayday_delivery_rows_load(
            delivery, target, rate->events > 0 || target->failures > 0 ? 1 : DELIVERY_LOADED_MAX,
            now_us);
    }
    if (target->row_count == 0) {
        return false;
    }
    row = mayday_delivery_row_take(target);
    if (row->row <= atomic_load(&delivery->given_up)) {
        mayday_delivery_row_free(delivery, row);
        return true; /* on to the next */
    }
    rc = event_start(delivery, target, row);
    mayday_delivery_row_free(delivery, row);
    if (rc != MAYDAY_OK) {
        failed(delivery, target, "no memory", now_us);
        return false;
    }
    (void) mayday_bucket_take(&target->bucket, rate, now_us);
    return true;
}

static void
losses_visit(void *ctx, const char *reason, uint64_t n)
{
    delivery_target_t *target = ctx;
    delivery_loss_t *loss = &target->losses[target->loss_count];

    if (target->loss_count < DELIVERY_REPORT_REASONS_MAX && strlen(reason) < sizeof(loss->reason)) {
        memcpy(loss->reason, reason, strlen(reason) + 1);
        loss->n = n;
        target->loss_count++;
    }
}

static void
report_begin(mayday_delivery_t *delivery, delivery_target_t *target, uint64_t now_us)
{
    mayday_discarded_t discarded[DELIVERY_REPORT_REASONS_MAX];
    mayday_buf_t room;

    if (now_us < target->report_at_us || target->loss_count > 0 ||
        !may_begin(delivery, target, MAYDAY_LIMIT_INTERNAL, now_us)) {
        return;
    }
    target->report_at_us = now_us + DELIVERY_REPORT_US;
    if (mayday_store_discarded(delivery->store, target->number, losses_visit, target) !=
        MAYDAY_OK) {
        target->loss_count = 0;
    }
    if (target->loss_count == 0) {
        return;
    }
    for (size_t i = 0; i < target->loss_count; i++) {
        discarded[i] = (mayday_discarded_t){target->losses[i].reason, "error", target->losses[i].n};
    }
    room = mayday_delivery_press_room(&delivery->press, ENVELOPE_ROOM);
    if (room.data != NULL) {
        mayday_envelope_client_report(&room, discarded, target->loss_count,
                                      delivery->config->sdk_name, mayday_clock_us());
    }
    if (room.data == NULL || room.truncated ||
        transfer_start(delivery, target, TRANSFER_REPORT, 0, mayday_buf_slice(&room)) !=
            MAYDAY_OK) {
        target->loss_count = 0; /* it stays in the store for the next minute */
    }
}

/* A DSN that does not parse can never be sent to: its rows are given up. */
static void
give_up(mayday_delivery_t *delivery, delivery_target_t *target, uint64_t now_us)
{
    delivery_row_t *row;
    unsigned count = 0;

    while (target->more && delivery->store_retry_at_us <= now_us &&
           mayday_delivery_ledger_has_room(delivery)) {
        mayday_delivery_rows_load(delivery, target, 1, now_us);
        if (target->row_count == 0) {
            break;
        }
        row = mayday_delivery_row_take(target);
        mayday_delivery_ledger_add(delivery, target, row->row, RESULT_INVALID_DSN, now_us);
        mayday_delivery_row_free(delivery, row);
        count++;
    }
    if (count > 0) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0202",
                   "DSN %lld of the store cannot be read; %u events for it are given up",
                   (long long) target->number, count);
        error_set(delivery, target, "the DSN cannot be read; its events were given up");
    }
}

void
mayday_delivery_target_begin(mayday_delivery_t *delivery, delivery_target_t *target,
                             uint64_t now_us)
{
    if (!target->valid) {
        give_up(delivery, target, now_us);
        return;
    }
    report_begin(delivery, target, now_us);
    while (event_begin(delivery, target, now_us)) {
        continue;
    }
}

uint64_t
mayday_delivery_target_next_us(const mayday_delivery_t *delivery, const delivery_target_t *target,
                               uint64_t now_us)
{
    uint64_t event_us = UINT64_MAX, report_us = target->report_at_us, start_us = now_us;

    if (!target->valid) {
        return UINT64_MAX; /* only a settled ledger or the store's return lets it go on */
    }
    if (start_us < target->retry_at_us) {
        start_us = target->retry_at_us;
    }
    if (start_us < delivery->store_retry_at_us) {
        start_us = delivery->store_retry_at_us;
    }
    if (target->rows != NULL || target->more || target->rewind) {
        event_us = mayday_bucket_next_us(&target->bucket, &delivery->config->send_rate, start_us);
        if (event_us < target->limits.until_us[MAYDAY_LIMIT_ERROR]) {
            event_us = target->limits.until_us[MAYDAY_LIMIT_ERROR];
        }
        /* What could begin and did not waits for something else to end. */
        event_us = event_us <= now_us ? UINT64_MAX : event_us;
    }
    if (report_us < start_us) {
        report_us = start_us;
    }
    if (report_us < target->limits.until_us[MAYDAY_LIMIT_INTERNAL]) {
        report_us = target->limits.until_us[MAYDAY_LIMIT_INTERNAL];
    }
    report_us = target->loss_count > 0 || report_us <= now_us ? UINT64_MAX : report_us;
    return event_us < report_us ? event_us : report_us;
}

/* ---- ending ---- */

static void
report_end(mayday_delivery_t *delivery, delivery_target_t *target, long status, uint64_t now_us)
{
    if (status == 0 || status == STATUS_TOO_MANY) {
        target->loss_count = 0; /* next time */
    } else {
        /* A server that does not want reports is not asked again with the same one. */
        mayday_delivery_ledger_add_report(delivery, target, now_us);
    }
}

static void
event_end(mayday_delivery_t *delivery, delivery_transfer_t *transfer, long status,
          const char *meaning, uint64_t now_us)
{
    delivery_target_t *target = transfer->target;
    delivery_result_t result = RESULT_SENT;

    if (status < 300) {
        apr_thread_mutex_lock(delivery->lock);
        target->info.last_sent_us = mayday_clock_us();
        apr_thread_mutex_unlock(delivery->lock);
    } else if (status == STATUS_TOO_MANY) {
        result = RESULT_LIMITED;
        mayday_log(MAYDAY_LOG_WARN, "MD0205", "%s limits us, an event was dropped: %s",
                   target->info.dsn, meaning);
    } else {
        result = RESULT_REFUSED;
        mayday_log(MAYDAY_LOG_ERROR, "MD0204", "%s did not take an event, it was dropped: %s",
                   target->info.dsn, meaning);
    }
    mayday_delivery_ledger_add(delivery, target, transfer->row, result, now_us);
}

static void
answered(mayday_delivery_t *delivery, delivery_transfer_t *transfer, long status, uint64_t now_us)
{
    delivery_target_t *target = transfer->target;
    const delivery_answer_t *answer = &transfer->answer;
    char text[sizeof(target->info.last_error)];
    mayday_buf_t meaning;

    works(target);
    mayday_limits_apply(&target->limits, status, mayday_slice_str(answer->rate_limits),
                        mayday_slice_str(answer->retry_after), now_us);
    if (target->limits.until_us[MAYDAY_LIMIT_ERROR] > now_us) {
        mayday_delivery_rows_forget(delivery, target);
    }
    mayday_buf_init(&meaning, text, sizeof(text));
    if (status >= 300) {
        mayday_delivery_explain_status(&meaning, status, answer);
        mayday_dsn_hide_keys(&target->dsn, text, sizeof(text));
        error_set(delivery, target, text);
    }
    if (transfer->kind == TRANSFER_REPORT) {
        report_end(delivery, target, status, now_us);
        return;
    }
    event_end(delivery, transfer, status, text, now_us);
}

void
mayday_delivery_target_end(mayday_delivery_t *delivery, delivery_transfer_t *transfer,
                           CURLcode code, uint64_t now_us)
{
    delivery_target_t *target = transfer->target;
    long status = mayday_delivery_easy_status(transfer->easy);
    char text[sizeof(target->info.last_error)];
    mayday_buf_t why;

    curl_multi_remove_handle(delivery->multi, transfer->easy);
    transfer->running = false;
    delivery->in_flight--;
    target->in_flight--;
    target->held_bytes -= transfer->held_bytes;
    if (status > 0) {
        answered(delivery, transfer, status, now_us);
    } else {
        mayday_buf_init(&why, text, sizeof(text));
        mayday_delivery_explain_failure(&why, transfer->easy, code, transfer->error, &target->dsn,
                                        delivery->config);
        if (transfer->kind == TRANSFER_REPORT) {
            report_end(delivery, target, 0, now_us);
        }
        failed(delivery, target, text, now_us);
    }
    if (transfer->body_size > BODY_KEPT_MAX) {
        free(transfer->body);
        transfer->body = NULL;
        transfer->body_size = 0;
    }
}

/* ---- all targets ---- */

static void
target_free(mayday_delivery_t *delivery, delivery_target_t *target)
{
    mayday_delivery_rows_forget(delivery, target);
    curl_slist_free_all(target->headers);
    free(target->text);
    free(target);
}

static delivery_target_t *
target_new(int64_t number, const char *text, const char *sdk_name)
{
    delivery_target_t *target = calloc(1, sizeof(*target));
    mayday_buf_t shown, url;
    const char *expected;

    if (target == NULL || (target->text = strdup(text)) == NULL) {
        free(target);
        return NULL;
    }
    target->number = number;
    target->rows_end = &target->rows;
    mayday_buf_init(&shown, target->info.dsn, sizeof(target->info.dsn));
    target->valid =
        mayday_dsn_parse(&target->dsn, mayday_slice_str(target->text), &expected) == MAYDAY_OK;
    if (!target->valid) {
        mayday_buf_addf(&shown, "unreadable DSN %lld", (long long) number);
        return target;
    }
    mayday_dsn_redacted(&target->dsn, &shown);
    mayday_buf_init(&url, target->url, sizeof(target->url));
    mayday_dsn_envelope_url(&target->dsn, &url);
    target->headers = mayday_delivery_headers(&target->dsn, sdk_name);
    if (target->headers == NULL) {
        free(target->text);
        free(target);
        return NULL;
    }
    return target;
}

static bool
is_configured(const delivery_config_t *config, const char *text)
{
    size_t low = 0, high = config->dsn_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(config->dsns[middle], text);

        if (order == 0) {
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

typedef struct {
    mayday_delivery_t *delivery;
    delivery_target_t **at; /* the store and the list are in the same order */
    uint64_t now_us;
} refresh_t;

static void
refresh_dsn(void *ctx, int64_t number, const char *text, uint64_t queued)
{
    refresh_t *refresh = ctx;
    delivery_target_t *target;

    while (*refresh->at != NULL && (*refresh->at)->number < number) {
        refresh->at = &(*refresh->at)->next;
    }
    target = *refresh->at;
    if (target == NULL || target->number != number) {
        delivery_target_t *made = target_new(number, text, refresh->delivery->config->sdk_name);

        if (made == NULL) {
            return; /* the next refresh tries again */
        }
        made->configured = is_configured(refresh->delivery->config, text);
        made->report_at_us = refresh->now_us + DELIVERY_REPORT_US;
        made->next = target;
        apr_thread_mutex_lock(refresh->delivery->lock);
        *refresh->at = made;
        apr_thread_mutex_unlock(refresh->delivery->lock);
        target = made;
    }
    if (queued > (uint64_t) target->row_count + target->in_flight + target->unsettled) {
        target->more = true;
    }
    target->queued = queued;
}

void
mayday_delivery_targets_refresh(mayday_delivery_t *delivery, uint64_t now_us)
{
    refresh_t refresh = {delivery, &delivery->targets, now_us};

    if (mayday_store_dsns(delivery->store, refresh_dsn, &refresh, &delivery->counted_row) !=
        MAYDAY_OK) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0206", "the delivery queue cannot be read: %s",
                   mayday_store_error(delivery->store));
    }
}

/* Makes the DSNs of the settings known, so that status shows them before their first event. */
static void
configured_dsns_add(mayday_delivery_t *delivery)
{
    mayday_rc_t rc = mayday_store_begin(delivery->store);
    int64_t number;

    for (size_t i = 0; rc == MAYDAY_OK && i < delivery->config->dsn_count; i++) {
        rc = mayday_store_dsn_id(delivery->store, delivery->config->dsns[i], &number);
    }
    if (rc != MAYDAY_OK || mayday_store_commit(delivery->store) != MAYDAY_OK) {
        mayday_store_rollback(delivery->store);
        mayday_log(MAYDAY_LOG_ERROR, "MD0201", "the store does not take the DSNs: %s",
                   mayday_store_error(delivery->store));
    }
}

void
mayday_delivery_targets_configure(mayday_delivery_t *delivery)
{
    configured_dsns_add(delivery);
    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        target->configured = is_configured(delivery->config, target->text);
        target->retry_at_us = 0; /* what was wrong may be mended: probe now */
    }
}

void
mayday_delivery_targets_forget(mayday_delivery_t *delivery)
{
    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        mayday_delivery_rows_forget(delivery, target);
    }
}

void
mayday_delivery_targets_report(mayday_delivery_t *delivery)
{
    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        target->report_at_us = 0;
    }
}

void
mayday_delivery_targets_free(mayday_delivery_t *delivery)
{
    delivery_target_t *target, *next;

    for (target = delivery->targets; target != NULL; target = next) {
        next = target->next;
        target_free(delivery, target);
    }
    delivery->targets = NULL;
}
