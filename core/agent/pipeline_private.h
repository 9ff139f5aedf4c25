/*
 * What the pipeline's files share; nobody else includes this.
 *
 *   pipeline.c         the thread: batches, storing, upkeep
 *   pipeline_record.c  one record's way from the lane into the batch
 *   pipeline_dropped.c events that rules dropped, kept for people to see
 *   pipeline_lanes.c   what the lanes lost, and lanes whose owner has gone
 */
#ifndef MAYDAY_PIPELINE_PRIVATE_H
#define MAYDAY_PIPELINE_PRIVATE_H

#include <apr_thread_proc.h>
#include <pthread.h>

#include "core/agent/batch.h"
#include "core/agent/pipeline.h"
#include "core/agent/rules.h"
#include "core/agent/watchdog.h"

#define MAYDAY_SETTINGS_CACHE 8
#define MAYDAY_SAMPLED_REASONS 32

/* Settings by hash, as records name them. */
typedef struct {
    mayday_settings_t *settings; /* NULL: free                          */
    uint64_t used;               /* by the pipeline's counter of uses   */
} mayday_cached_settings_t;

/* How many dropped events of a reason were kept in this second. */
typedef struct {
    char reason[sizeof(((mayday_rules_result_t *) 0)->reason)];
    uint64_t second;
    unsigned count;
} mayday_sampled_t;

struct mayday_pipeline {
    const char *run_dir;
    const char *lua_dir;
    apr_pool_t *pool;
    apr_thread_t *thread;

    /* The thread's own. */
    mayday_store_t *store;
    mayday_lanes_t *lanes; /* numbers: any thread */
    mayday_delivery_t *delivery;
    mayday_batch_t *batch;
    mayday_issues_t *issues;
    mayday_watchdog_t *watchdog;
    mayday_rules_t *rules;
    mayday_learner_t *learner; /* off in observe mode */
    bool rules_failed;         /* no rules in force though there should be some */
    char rules_failure[600];
    bool rules_observe;
    bool rules_failing;          /* as in info */
    mayday_settings_t *settings; /* that hold now; also in no cache     */
    mayday_cached_settings_t cache[MAYDAY_SETTINGS_CACHE];
    mayday_settings_t *retired[MAYDAY_SETTINGS_CACHE]; /* a batch may refer to them */
    size_t retired_count;
    uint64_t uses;
    uint8_t missing[MAYDAY_HASH_BYTES]; /* settings that were not found lately */
    uint64_t missing_until_us;
    mayday_event_t event, scratch;
    mayday_sampled_t sampled_all, sampled[MAYDAY_SAMPLED_REASONS];
    char segment[64];
    uint64_t upkeep_us, trim_us; /* when they are due */
    uint64_t purges_all;         /* mayday_store_purges_all, as of the last one that was obeyed */
    uint64_t gather_us;          /* when the next batch may begin */
    bool stored_since_trim;

    /* Folding a lane is seen whole, see mayday_pipeline_numbers. */
    pthread_mutex_t numbers_lock;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    mayday_current_t wanted;
    bool reconfigure;
    bool stopping, wait_for_owners, failed;
    uint64_t stop_by_us; /* monotonic */
    mayday_pipeline_info_t info;
};

/* The settings of that hash; never NULL. Valid until the batch is cleared. */
const mayday_settings_t *mayday_pipeline_settings(mayday_pipeline_t *pipeline,
                                                  const uint8_t hash[MAYDAY_HASH_BYTES]);

/* ---- pipeline_record.c ---- */

/*
 * Everything that becomes of the record goes into the batch. False: it hung an
 * agent before, and the batch is to be stored before anything else is read.
 */
bool mayday_pipeline_record(mayday_pipeline_t *pipeline, const mayday_lane_record_t *record);

/* ---- pipeline_dropped.c ---- */

/*
 * Keeps the event of that record as one that the rules dropped, or would have
 * (observed), if it is one of the first of its reason in this second. What the
 * rules made of it is not looked at: it is built anew, and scrubbed. Uses
 * pipeline->scratch.
 */
void mayday_pipeline_dropped(mayday_pipeline_t *pipeline, const mayday_record_view_t *view,
                             const mayday_settings_t *settings,
                             const mayday_rules_result_t *result);

/* ---- pipeline_lanes.c ---- */

/* Puts down, once, what living lanes lost, and folds dead ones into the store. */
mayday_rc_t mayday_pipeline_lanes_upkeep(mayday_pipeline_t *pipeline);

#endif
