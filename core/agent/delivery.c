/*
 * Delivery's thread and what other threads may call.
 *
 * Runs in the agent. The thread blocks in curl's poll, which ends when a socket
 * is ready, a timer is due, or somebody wakes it; and on the store, whose write
 * lock it takes for a batch of results at a time.
 */
#include <apr_general.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/delivery_private.h"
#include "core/agent/log.h"

#define REFRESH_US 5000000 /* should a wake-up ever be missed */
#define CONNECTIONS_KEPT 64
#define POLL_MS_MAX 60000

/* ---- the thread ---- */

static void
configuration_take(mayday_delivery_t *delivery)
{
    delivery_config_t *latest;

    apr_thread_mutex_lock(delivery->lock);
    latest = delivery->config_latest;
    if (latest == delivery->config) {
        apr_thread_mutex_unlock(delivery->lock);
        return;
    }
    atomic_fetch_add(&latest->references, 1);
    apr_thread_mutex_unlock(delivery->lock);
    mayday_delivery_config_free(delivery->config);
    delivery->config = latest;
    delivery->config_generation++;
    mayday_delivery_targets_configure(delivery);
    delivery->refresh_at_us = 0;
}

static void
refresh(mayday_delivery_t *delivery, uint64_t now_us)
{
    uint64_t purges = mayday_store_purges();

    if (purges != delivery->purges) {
        delivery->purges = purges;
        delivery->refresh_at_us = 0;
        mayday_delivery_targets_forget(delivery);
    }
    if (atomic_exchange(&delivery->woken, false) || now_us >= delivery->refresh_at_us) {
        mayday_delivery_targets_refresh(delivery, now_us);
        delivery->refresh_at_us = now_us + REFRESH_US;
    }
}

static void
transfers_run(mayday_delivery_t *delivery)
{
    delivery_transfer_t *transfer;
    uint64_t now_us;
    CURLMsg *message;
    CURLcode code;
    int count;

    curl_multi_perform(delivery->multi, &count);
    now_us = mayday_clock_monotonic_us();
    while ((message = curl_multi_info_read(delivery->multi, &count)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            code = message->data.result; /* the message goes with the handle */
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
            mayday_delivery_target_end(delivery, transfer, code, now_us);
        }
    }
}

static void
settle(mayday_delivery_t *delivery, uint64_t now_us)
{
    bool wait = delivery->unsettled_count >= DELIVERY_SETTLE_LATEST;

    if (delivery->store_retry_at_us > now_us) {
        return;
    }
    if (delivery->settle_at_us <= now_us || delivery->in_flight == 0 ||
        delivery->unsettled_count >= DELIVERY_SETTLE_MAX) {
        mayday_delivery_ledger_settle(delivery, wait, now_us);
    }
}

static uint64_t
wall_us(uint64_t at_us, uint64_t now_us, uint64_t wall_now_us)
{
    return at_us <= now_us ? 0 : wall_now_us + (at_us - now_us);
}

/* What other threads may read. */
static void
publish(mayday_delivery_t *delivery, uint64_t now_us)
{
    uint64_t wall_now_us = mayday_clock_us();

    apr_thread_mutex_lock(delivery->lock);
    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        mayday_delivery_info_t *info = &target->info;

        info->queued = target->queued;
        info->sent = target->sent;
        info->in_flight = target->in_flight;
        info->limited_until_us =
            wall_us(target->limits.until_us[MAYDAY_LIMIT_ERROR], now_us, wall_now_us);
        info->retry_at_us = wall_us(target->retry_at_us, now_us, wall_now_us);
        target->shown = target->configured || target->queued > 0 || target->in_flight > 0;
    }
    apr_thread_mutex_unlock(delivery->lock);
}

static int
wait_ms(const mayday_delivery_t *delivery, uint64_t now_us)
{
    uint64_t at_us = delivery->refresh_at_us, next_us, stop_at_us;

    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        next_us = mayday_delivery_target_next_us(delivery, target, now_us);
        at_us = next_us < at_us ? next_us : at_us;
    }
    if (delivery->settle_at_us != 0 && delivery->settle_at_us < at_us) {
        at_us = delivery->settle_at_us;
    }
    stop_at_us = atomic_load(&delivery->stop_at_us);
    if (atomic_load(&delivery->stopping) && stop_at_us < at_us) {
        at_us = stop_at_us;
    }
    if (at_us <= now_us) {
        return 0;
    }
    return at_us - now_us > POLL_MS_MAX * 1000ULL ? POLL_MS_MAX
                                                  : (int) ((at_us - now_us + 999) / 1000);
}

/* In the last round nothing is begun that must wait. */
static bool
is_over(const mayday_delivery_t *delivery, uint64_t now_us)
{
    return now_us >= atomic_load(&delivery->stop_at_us) ||
           (delivery->in_flight == 0 && delivery->unsettled_count == 0 &&
            delivery->reports_answered == 0);
}

static void
run_loop(mayday_delivery_t *delivery)
{
    bool last_round = false;
    uint64_t now_us;

    for (;;) {
        configuration_take(delivery);
        now_us = mayday_clock_monotonic_us();
        if (atomic_load(&delivery->stopping) && !last_round) {
            last_round = true;
            delivery->refresh_at_us = 0;
            refresh(delivery, now_us);
            mayday_delivery_targets_report(delivery);
        }
        mayday_delivery_fresh_take(delivery, now_us);
        refresh(delivery, now_us);
        transfers_run(delivery);
        now_us = mayday_clock_monotonic_us();
        settle(delivery, now_us);
        for (delivery_target_t *t = delivery->targets; t != NULL; t = t->next) {
            mayday_delivery_target_begin(delivery, t, now_us);
        }
        publish(delivery, now_us);
        if (last_round && is_over(delivery, now_us)) {
            return;
        }
        curl_multi_poll(delivery->multi, NULL, 0, wait_ms(delivery, now_us), NULL);
    }
}

/* What is still in flight stays queued. */
static void
run_end(mayday_delivery_t *delivery)
{
    delivery_transfer_t *transfer, *next;

    delivery->store_retry_at_us = 0;
    mayday_delivery_ledger_settle(delivery, true, mayday_clock_monotonic_us());
    for (transfer = delivery->transfers; transfer != NULL; transfer = next) {
        next = transfer->next;
        if (transfer->running) {
            curl_multi_remove_handle(delivery->multi, transfer->easy);
        }
        curl_easy_cleanup(transfer->easy);
        free(transfer->body);
        free(transfer);
    }
    delivery->transfers = NULL;
}

static void *APR_THREAD_FUNC
run(apr_thread_t *thread, void *ctx)
{
    mayday_delivery_t *delivery = ctx;

    (void) thread; /* its memory goes with the pool */
    pthread_setname_np(pthread_self(), "mayday-delivery");
    run_loop(delivery);
    run_end(delivery);
    return NULL;
}

/* ---- other threads ---- */

static void
destroy(mayday_delivery_t *delivery)
{
    mayday_delivery_fresh_free(delivery);
    mayday_delivery_targets_free(delivery);
    mayday_delivery_config_free(delivery->config);
    mayday_delivery_config_free(delivery->config_latest);
    mayday_delivery_press_fini(&delivery->press);
    if (delivery->multi != NULL) {
        curl_multi_cleanup(delivery->multi);
    }
    mayday_store_free(delivery->store);
    if (delivery->pool != NULL) {
        apr_pool_destroy(delivery->pool);
    }
    free(delivery);
    curl_global_cleanup();
    apr_terminate();
}

/* The parts that need no store; false: no memory. */
static bool
prepare(mayday_delivery_t *delivery, const mayday_settings_t *settings)
{
    if (mayday_delivery_press_init(&delivery->press) != MAYDAY_OK ||
        apr_pool_create(&delivery->pool, NULL) != APR_SUCCESS ||
        apr_thread_mutex_create(&delivery->lock, APR_THREAD_MUTEX_DEFAULT, delivery->pool) !=
            APR_SUCCESS ||
        apr_thread_mutex_create(&delivery->fresh_lock, APR_THREAD_MUTEX_DEFAULT, delivery->pool) !=
            APR_SUCCESS) {
        return false;
    }
    delivery->fresh_end = &delivery->fresh;
    delivery->config_latest = mayday_delivery_config_new(settings);
    delivery->multi = curl_multi_init();
    if (delivery->config_latest == NULL || delivery->multi == NULL) {
        return false;
    }
    curl_multi_setopt(delivery->multi, CURLMOPT_MAXCONNECTS, (long) CONNECTIONS_KEPT);
    curl_multi_setopt(delivery->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                      (long) DELIVERY_IN_FLIGHT_MAX * 2);
    return true;
}

mayday_delivery_t *
mayday_delivery_new(const char *store_path, const mayday_settings_t *settings, char *error,
                    size_t error_size)
{
    mayday_delivery_t *delivery = calloc(1, sizeof(*delivery));

    if (delivery == NULL) {
        snprintf(error, error_size, "no memory for delivery");
        return NULL;
    }
    apr_initialize();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!prepare(delivery, settings)) {
        snprintf(error, error_size, "no memory for delivery");
        destroy(delivery);
        return NULL;
    }
    delivery->purges = mayday_store_purges();
    delivery->store = mayday_store_new(store_path, error, error_size);
    if (delivery->store == NULL) {
        destroy(delivery);
        return NULL;
    }
    if (apr_thread_create(&delivery->thread, NULL, run, delivery, delivery->pool) != APR_SUCCESS) {
        snprintf(error, error_size, "no thread for delivery");
        destroy(delivery);
        return NULL;
    }
    return delivery;
}

void
mayday_delivery_configure(mayday_delivery_t *delivery, const mayday_settings_t *settings)
{
    delivery_config_t *config = mayday_delivery_config_new(settings), *old;

    if (config == NULL) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0209",
                   "no memory for delivery's new settings; the old ones stay");
        return;
    }
    apr_thread_mutex_lock(delivery->lock);
    old = delivery->config_latest;
    delivery->config_latest = config;
    apr_thread_mutex_unlock(delivery->lock);
    mayday_delivery_config_free(old);
    mayday_delivery_wake(delivery);
}

void
mayday_delivery_wake(mayday_delivery_t *delivery)
{
    if (!atomic_exchange(&delivery->woken, true)) {
        curl_multi_wakeup(delivery->multi);
    }
}

void
mayday_delivery_give_up(mayday_delivery_t *delivery, int64_t row)
{
    if (atomic_exchange(&delivery->given_up, row) < row) {
        mayday_delivery_wake(delivery);
    }
}

void
mayday_delivery_free(mayday_delivery_t *delivery, uint32_t timeout_ms)
{
    apr_status_t status;

    if (delivery == NULL) {
        return;
    }
    atomic_store(&delivery->stop_at_us, mayday_clock_monotonic_us() + timeout_ms * 1000ULL);
    atomic_store(&delivery->stopping, true);
    curl_multi_wakeup(delivery->multi);
    apr_thread_join(&status, delivery->thread);
    destroy(delivery);
}

void
mayday_delivery_visit(mayday_delivery_t *delivery, mayday_delivery_visit_pt visit, void *ctx)
{
    apr_thread_mutex_lock(delivery->lock);
    for (delivery_target_t *target = delivery->targets; target != NULL; target = target->next) {
        if (target->shown) {
            visit(ctx, &target->info);
        }
    }
    apr_thread_mutex_unlock(delivery->lock);
}
