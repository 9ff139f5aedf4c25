/*
 * The pipeline's thread. Its only locks are short: configuration and numbers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/agent/log.h"
#include "core/agent/pipeline_private.h"

#define BATCH_US 20000  /* a record waits no longer for others to come */
#define GATHER_US 10000 /* and in a stream of records at least so long */
#define BATCH_CLOCK_EVERY 16
#define TICK_MS 250
#define STOPPING_TICK_MS 10 /* the server waits for us */
#define TRIM_US UINT64_C(1000000)
#define TRIM_IDLE_US UINT64_C(60000000)
#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000
#define RETRIES_BEFORE_LEAVING_OUT 5
#define MISSING_US UINT64_C(5000000)

/* ---- settings by hash ---- */

static mayday_cached_settings_t *
cache_place(mayday_pipeline_t *p)
{
    mayday_cached_settings_t *place = &p->cache[0];

    for (size_t i = 0; i < MAYDAY_SETTINGS_CACHE; i++) {
        if (p->cache[i].settings == NULL) {
            return &p->cache[i];
        }
        if (p->cache[i].used < place->used) {
            place = &p->cache[i];
        }
    }
    p->retired[p->retired_count++] = place->settings;
    place->settings = NULL;
    return place;
}

const mayday_settings_t *
mayday_pipeline_settings(mayday_pipeline_t *p, const uint8_t hash[MAYDAY_HASH_BYTES])
{
    char storage[256];
    mayday_cached_settings_t *place;
    mayday_buf_t error;
    uint64_t now;

    if (memcmp(p->settings->hash, hash, MAYDAY_HASH_BYTES) == 0) {
        return p->settings;
    }
    p->uses++;
    for (size_t i = 0; i < MAYDAY_SETTINGS_CACHE; i++) {
        place = &p->cache[i];
        if (place->settings != NULL &&
            memcmp(place->settings->hash, hash, MAYDAY_HASH_BYTES) == 0) {
            place->used = p->uses;
            return place->settings;
        }
    }
    now = mayday_clock_monotonic_us();
    if (now >= p->missing_until_us || memcmp(p->missing, hash, MAYDAY_HASH_BYTES) != 0) {
        mayday_settings_t *settings;

        mayday_buf_init(&error, storage, sizeof(storage));
        settings = mayday_instance_settings(p->run_dir, hash, &error);
        if (settings != NULL) {
            place = cache_place(p);
            place->settings = settings;
            place->used = p->uses;
            return settings;
        }
        mayday_log(MAYDAY_LOG_WARN, "MD0135",
                   "settings of a record are gone, it is read with "
                   "those that hold now: %s",
                   storage);
        memcpy(p->missing, hash, MAYDAY_HASH_BYTES);
        p->missing_until_us = now + MISSING_US;
    }
    mayday_batch_count(p->batch, "settings_missing", "", 1);
    return p->settings;
}

/* Nothing refers to them any longer once the batch is cleared. */
static void
free_retired(mayday_pipeline_t *p)
{
    while (p->retired_count > 0) {
        mayday_settings_free(p->retired[--p->retired_count]);
    }
}

/* ---- what holds now ---- */

static void
set_rules_error(mayday_pipeline_t *p, const char *error)
{
    pthread_mutex_lock(&p->lock);
    snprintf(p->info.rules_error, sizeof(p->info.rules_error), "%s", error);
    pthread_mutex_unlock(&p->lock);
}

static void
publish_rules(mayday_pipeline_t *p, const char *file, uint64_t loaded_us)
{
    pthread_mutex_lock(&p->lock);
    snprintf(p->info.rules_file, sizeof(p->info.rules_file), "%s", file);
    p->info.rules_observe = p->rules_observe;
    p->info.rules_loaded_us = loaded_us;
    p->info.rules_error[0] = '\0';
    p->info.rules_failed_us = 0;
    p->info.rules_failing = p->rules_failing = false;
    pthread_mutex_unlock(&p->lock);
}

static void
load_rules(mayday_pipeline_t *p, const mayday_settings_t *settings)
{
    char error[512];
    uint8_t hash_key[MAYDAY_HASH_KEY_BYTES];
    mayday_rules_t *rules;
    bool has_key;

    if (settings->rules_file[0] == '\0') {
        mayday_rules_free(p->rules);
        p->rules = NULL;
        p->rules_observe = p->rules_failed = false;
        publish_rules(p, "", 0);
        return;
    }
    has_key = mayday_instance_hash_key(settings->directory, hash_key) == MAYDAY_OK;
    rules = mayday_rules_new(settings->rules_file, p->lua_dir, has_key ? hash_key : NULL, error,
                             sizeof(error));
    if (rules != NULL) {
        mayday_rules_free(p->rules);
        p->rules = rules;
        p->rules_observe = settings->rules_observe;
        p->rules_failed = false;
        publish_rules(p, settings->rules_file, mayday_clock_us());
        mayday_log(MAYDAY_LOG_NOTICE, "MD0151", "rules loaded from %s", settings->rules_file);
        return;
    }
    if (p->rules != NULL) { /* and their mode: what was only observed shall not decide now */
        mayday_log(MAYDAY_LOG_ERROR, "MD0152",
                   "rules cannot be loaded, the old ones stay in "
                   "force: %s",
                   error);
    } else {
        mayday_log(MAYDAY_LOG_ERROR, "MD0153",
                   "rules cannot be loaded, events go out without "
                   "details: %s",
                   error);
        p->rules_observe = settings->rules_observe;
        p->rules_failed = true;
        snprintf(p->rules_failure, sizeof(p->rules_failure), "rules cannot be loaded: %s", error);
        publish_rules(p, settings->rules_file, 0);
    }
    set_rules_error(p, error);
}

/* The batch is empty: nothing refers to the old settings. */
static void
reconfigure(mayday_pipeline_t *p)
{
    char storage[512];
    mayday_current_t wanted;
    mayday_settings_t *settings;
    mayday_buf_t error;

    pthread_mutex_lock(&p->lock);
    wanted = p->wanted;
    p->reconfigure = false;
    pthread_mutex_unlock(&p->lock);

    mayday_buf_init(&error, storage, sizeof(storage));
    settings = mayday_instance_settings(p->run_dir, wanted.settings, &error);
    if (settings == NULL) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0158", "the new settings cannot be used: %s", storage);
        return;
    }
    mayday_settings_free(p->settings);
    p->settings = settings;
    snprintf(p->segment, sizeof(p->segment), "%s", wanted.segment);
    load_rules(p, settings);
    mayday_rules_learner(p->rules_observe ? NULL : p->rules, p->learner, settings->directory);
}

void
mayday_pipeline_configure(mayday_pipeline_t *p, const mayday_current_t *current)
{
    bool started = p->thread != NULL;

    pthread_mutex_lock(&p->lock);
    p->wanted = *current;
    p->reconfigure = true;
    pthread_mutex_unlock(&p->lock);
    if (started) {
        mayday_lanes_wake(p->lanes);
    } else {
        reconfigure(p);
    }
}

/* ---- storing ---- */

static void
set_store_error(mayday_pipeline_t *p, const char *error)
{
    pthread_mutex_lock(&p->lock);
    snprintf(p->info.store_error, sizeof(p->info.store_error), "%s", error);
    pthread_mutex_unlock(&p->lock);
}

/* Sleeps between two tries. False: the end has come, the batch stays in its lanes. */
static bool
sleep_before_retry(mayday_pipeline_t *p, uint32_t delay_ms)
{
    uint64_t until_us = mayday_clock_monotonic_us() + delay_ms * UINT64_C(1000);
    struct timespec until;
    bool go_on, was_stopping;

    pthread_mutex_lock(&p->lock);
    was_stopping = p->stopping;
    if (was_stopping && p->stop_by_us < until_us) {
        until_us = p->stop_by_us;
    }
    until.tv_sec = (time_t) (until_us / 1000000);
    until.tv_nsec = (long) (until_us % 1000000) * 1000;
    while (p->stopping == was_stopping &&
           pthread_cond_timedwait(&p->changed, &p->lock, &until) == 0) {
    }
    go_on = !p->stopping || mayday_clock_monotonic_us() < p->stop_by_us;
    pthread_mutex_unlock(&p->lock);
    return go_on;
}

static void
fail(mayday_pipeline_t *p)
{
    pthread_mutex_lock(&p->lock);
    p->failed = true;
    pthread_mutex_unlock(&p->lock);
}

/* False: the batch is not stored and will not be by this process. */
static bool
store_batch(mayday_pipeline_t *p)
{
    uint32_t delay_ms = RETRY_MS_MIN;

    for (unsigned tries = 1;; tries++) {
        bool leave_out = tries > RETRIES_BEFORE_LEAVING_OUT;
        mayday_rc_t rc = mayday_batch_store(p->batch, p->store, leave_out);

        if (rc == MAYDAY_OK) {
            mayday_watchdog_stored(p->watchdog);
            if (tries > 1) {
                set_store_error(p, "");
                mayday_log(MAYDAY_LOG_NOTICE, "MD0155", "the store works again");
            }
            return true;
        }
        if (rc == MAYDAY_INVALID) {
            continue; /* one event less at a time */
        }
        set_store_error(p, mayday_store_error(p->store));
        mayday_log(MAYDAY_LOG_ERROR, "MD0154",
                   "the store cannot be written, events wait in "
                   "memory: %s",
                   mayday_store_error(p->store));
        if (mayday_store_is_corrupt(p->store)) {
            fail(p);
            return false;
        }
        if (!sleep_before_retry(p, delay_ms)) {
            return false;
        }
        delay_ms = delay_ms * 2 > RETRY_MS_MAX ? RETRY_MS_MAX : delay_ms * 2;
    }
}

static void
trim(mayday_pipeline_t *p, uint64_t now_us)
{
    mayday_store_bounds_t bounds = {p->settings->queue_size, p->settings->retention_s};
    mayday_rc_t rc;

    p->trim_us = now_us + TRIM_IDLE_US;
    p->stored_since_trim = false;
    rc = mayday_store_begin(p->store);
    if (rc == MAYDAY_OK) {
        rc = mayday_store_trim(p->store, &bounds, mayday_clock_us());
        if (rc == MAYDAY_OK) {
            rc = mayday_store_commit(p->store);
        }
        if (rc != MAYDAY_OK) {
            mayday_store_rollback(p->store);
        }
    }
    if (rc == MAYDAY_OK) {
        mayday_delivery_give_up(p->delivery, mayday_store_given_up(p->store));
    } else {
        mayday_log(MAYDAY_LOG_WARN, "MD0156", "the store cannot be trimmed: %s",
                   mayday_store_error(p->store));
    }
}

/* ---- the thread ---- */

/* A record may retire settings that earlier ones of the batch refer to. */
static bool
batch_is_full(const mayday_pipeline_t *p)
{
    return mayday_batch_is_full(p->batch) || p->retired_count == MAYDAY_COUNT(p->retired);
}

/* Fills the batch. True: the lanes have no more for it. */
static bool
fill_batch(mayday_pipeline_t *p)
{
    mayday_lane_record_t record;
    uint64_t until_us = 0;

    for (unsigned i = 0; !batch_is_full(p); i++) {
        if (i % BATCH_CLOCK_EVERY == 0) {
            uint64_t now_us = mayday_clock_monotonic_us();

            if (until_us == 0) {
                until_us = now_us + BATCH_US;
            } else if (now_us >= until_us) {
                return false;
            }
        }
        if (mayday_lanes_next(p->lanes, &record) != MAYDAY_OK) {
            return true;
        }
        if (!mayday_pipeline_record(p, &record)) {
            return false;
        }
    }
    return false;
}

/*
 * In a stream of failures each would find us asleep: a wake-up, paid by the
 * server, and a transaction for every one. So the next batch begins some time
 * after the last one. A failure that comes alone is read at once.
 */
static void
gather(const mayday_pipeline_t *p)
{
    uint64_t now_us = mayday_clock_monotonic_us();

    if (now_us < p->gather_us) {
        usleep((useconds_t) (p->gather_us - now_us));
    }
}

/* False: the thread must end. */
static bool
work(mayday_pipeline_t *p, bool *drained)
{
    bool end;

    gather(p);
    end = fill_batch(p);

    *drained = end && mayday_batch_is_empty(p->batch);
    if (mayday_batch_is_empty(p->batch)) {
        /* what a predecessor stored but had no time to give back */
        mayday_lanes_release(p->lanes);
        return true;
    }
    if (!store_batch(p)) {
        return false;
    }
    mayday_batch_hand(p->batch, p->delivery);
    mayday_batch_clear(p->batch);
    free_retired(p);
    mayday_lanes_release(p->lanes);
    p->gather_us = end ? mayday_clock_monotonic_us() + GATHER_US : 0;
    if (!p->stored_since_trim) {
        p->stored_since_trim = true;
        p->trim_us = mayday_clock_monotonic_us() + TRIM_US;
    }
    return true;
}

static void
upkeep(mayday_pipeline_t *p, uint64_t now_us)
{
    p->upkeep_us = now_us + TICK_MS * UINT64_C(1000);
    mayday_lanes_scan(p->lanes, p->segment);
    if (p->settings != NULL && mayday_store_purges_all() != p->purges_all) {
        p->purges_all = mayday_store_purges_all();
        mayday_rules_forget_routes(p->learner, p->settings->directory);
    }
    if (mayday_pipeline_lanes_upkeep(p) != MAYDAY_OK) {
        mayday_log(MAYDAY_LOG_WARN, "MD0157", "counts of the server cannot be stored: %s",
                   mayday_store_error(p->store));
    }
    if (now_us >= p->trim_us) {
        trim(p, now_us);
    }
}

static bool
is_over(mayday_pipeline_t *p, bool drained, uint32_t *tick_ms)
{
    uint64_t stop_by_us;
    bool stopping, wait_for_owners;

    pthread_mutex_lock(&p->lock);
    stopping = p->stopping;
    stop_by_us = p->stop_by_us;
    wait_for_owners = p->wait_for_owners;
    pthread_mutex_unlock(&p->lock);
    *tick_ms = stopping ? STOPPING_TICK_MS : TICK_MS;
    if (!stopping) {
        return false;
    }
    return (drained && !(wait_for_owners && mayday_lanes_any_alive(p->lanes))) ||
           mayday_clock_monotonic_us() >= stop_by_us;
}

static void *APR_THREAD_FUNC
run(apr_thread_t *thread, void *ctx)
{
    mayday_pipeline_t *p = ctx;
    bool drained = false, wanted;
    uint32_t tick_ms;

    (void) thread;
    pthread_setname_np(pthread_self(), "mayday-pipeline");
    if (mayday_watchdog_start(p->watchdog) != MAYDAY_OK) {
        mayday_log(MAYDAY_LOG_WARN, "MD0159", "no thread can be made that watches the rules");
    }
    while (work(p, &drained)) {
        uint64_t now_us = mayday_clock_monotonic_us();
        bool due = now_us >= p->upkeep_us;

        pthread_mutex_lock(&p->lock);
        wanted = p->reconfigure;
        pthread_mutex_unlock(&p->lock);
        if (wanted) {
            reconfigure(p);
            due = true;
        }
        if (due) {
            upkeep(p, now_us);
        }
        if (is_over(p, drained && !due, &tick_ms)) {
            upkeep(p, now_us);
            break;
        }
        if (drained && !due) {
            mayday_lanes_wait(p->lanes, tick_ms);
        }
    }
    mayday_watchdog_stop(p->watchdog);
    return NULL;
}

/* ---- its life ---- */

static bool
resume(void *ctx, const mayday_lane_key_t *key, uint64_t *position, uint64_t *records_read)
{
    mayday_pipeline_t *p = ctx;

    return mayday_store_position_get(p->store, key, position, records_read) == MAYDAY_OK;
}

mayday_pipeline_t *
mayday_pipeline_new(const char *run_dir, const char *store_path, const char *lua_dir,
                    mayday_buf_t *error)
{
    char problem[512];
    pthread_condattr_t monotonic;
    mayday_pipeline_t *p = calloc(1, sizeof(*p));

    if (p == NULL || apr_pool_create(&p->pool, NULL) != APR_SUCCESS) {
        mayday_buf_adds(error, "no memory");
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->numbers_lock, NULL);
    /* the clock may be set back, and nobody waits an hour then */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    p->run_dir = run_dir;
    p->lua_dir = lua_dir;
    p->batch = mayday_batch_new();
    p->issues = mayday_issues_new();
    p->learner = mayday_learner_new();
    p->purges_all = mayday_store_purges_all();
    p->lanes = mayday_lanes_new(run_dir, resume, p);
    p->watchdog = mayday_watchdog_new(run_dir);
    if (p->batch == NULL || p->issues == NULL || p->learner == NULL || p->lanes == NULL ||
        p->watchdog == NULL) {
        mayday_buf_adds(error, "no memory");
        mayday_pipeline_free(p);
        return NULL;
    }
    p->store = mayday_store_new(store_path, problem, sizeof(problem));
    if (p->store == NULL) {
        mayday_buf_adds(error, problem);
        mayday_pipeline_free(p);
        return NULL;
    }
    return p;
}

mayday_rc_t
mayday_pipeline_start(mayday_pipeline_t *p, mayday_delivery_t *delivery)
{
    p->delivery = delivery;
    if (p->settings == NULL) {
        return MAYDAY_INVALID;
    }
    return apr_thread_create(&p->thread, NULL, run, p, p->pool) == APR_SUCCESS ? MAYDAY_OK
                                                                               : MAYDAY_ERROR;
}

void
mayday_pipeline_stop(mayday_pipeline_t *p, bool wait_for_owners, uint32_t timeout_ms)
{
    apr_status_t status;

    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    p->wait_for_owners = wait_for_owners;
    p->stop_by_us = mayday_clock_monotonic_us() + timeout_ms * UINT64_C(1000);
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (p->thread != NULL) {
        mayday_lanes_wake(p->lanes);
        apr_thread_join(&status, p->thread);
        p->thread = NULL;
    }
}

void
mayday_pipeline_free(mayday_pipeline_t *p)
{
    if (p == NULL) {
        return;
    }
    free_retired(p);
    for (size_t i = 0; i < MAYDAY_SETTINGS_CACHE; i++) {
        mayday_settings_free(p->cache[i].settings);
    }
    mayday_settings_free(p->settings);
    mayday_watchdog_free(p->watchdog);
    mayday_rules_free(p->rules);
    mayday_learner_free(p->learner);
    mayday_lanes_free(p->lanes);
    mayday_store_free(p->store);
    mayday_issues_free(p->issues);
    mayday_batch_free(p->batch);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->numbers_lock);
    pthread_mutex_destroy(&p->lock);
    apr_pool_destroy(p->pool);
    free(p);
}

bool
mayday_pipeline_has_failed(mayday_pipeline_t *p)
{
    bool failed;

    pthread_mutex_lock(&p->lock);
    failed = p->failed;
    pthread_mutex_unlock(&p->lock);
    return failed;
}

void
mayday_pipeline_info(mayday_pipeline_t *p, mayday_pipeline_info_t *info)
{
    pthread_mutex_lock(&p->lock);
    *info = p->info;
    pthread_mutex_unlock(&p->lock);
}

mayday_rc_t
mayday_pipeline_numbers(mayday_pipeline_t *p, mayday_store_t *store, mayday_lane_visit_pt visit,
                        mayday_count_visit_pt count, void *ctx, uint64_t *dropped_no_slot,
                        uint64_t *lost_records)
{
    mayday_rc_t rc = MAYDAY_OK;

    pthread_mutex_lock(&p->numbers_lock);
    mayday_lanes_visit(p->lanes, visit, ctx, dropped_no_slot, lost_records);
    if (store != NULL) {
        rc = mayday_store_counts(store, count, ctx);
    }
    pthread_mutex_unlock(&p->numbers_lock);
    return rc;
}
