/*
 * Losses inside the server, and lanes whose owner has gone. Runs in the
 * pipeline's thread.
 *
 * A lane counts its losses for as long as it lives, which may be weeks, so they
 * are put down as they grow. How many were put down must survive this process:
 * it stands in the store under the lane's key, with a mark in the slot number and
 * with the life since which its counters count (they go on in the next life of a
 * slot that had to be taken), as position (lost because the lane was full) and
 * records_read (internal), and changes in the transaction that counts them.
 */
#include "core/agent/log.h"
#include "core/agent/pipeline_private.h"

#define LOSSES_MARK 0x80000000u /* no slot has such a number: MAYDAY_SLOT_COUNT_MAX */
#define LANES_AT_ONCE 64u
#define DEAD_AT_ONCE 64u

_Static_assert(MAYDAY_SLOT_COUNT_MAX < LOSSES_MARK, "the mark is no slot's");
_Static_assert((MAYDAY_SLOT_COUNT_MAX | LOSSES_MARK) < MAYDAY_LANE_SEGMENT_SLOT, "nor a segment's");

typedef struct {
    mayday_lane_info_t lanes[LANES_AT_ONCE];
    size_t count;
    size_t skip; /* those with losses that were looked at before */
} found_t;

static mayday_lane_key_t
losses_key(const mayday_lane_info_t *lane)
{
    mayday_lane_key_t key = lane->key;

    key.slot |= LOSSES_MARK;
    key.generation = lane->counters_generation;
    return key;
}

/* What the lane lost that was not put down yet. */
static void
new_losses(mayday_store_t *store, const mayday_lane_info_t *lane, uint64_t *full,
           uint64_t *internal)
{
    mayday_lane_key_t key = losses_key(lane);
    uint64_t full_told = 0, internal_told = 0;

    *full = lane->counters[MAYDAY_COUNTER_DROPPED_LANE_FULL];
    *internal = lane->counters[MAYDAY_COUNTER_DROPPED_INTERNAL];
    if (*full == 0 && *internal == 0) {
        return;
    }
    if (mayday_store_position_get(store, &key, &full_told, &internal_told) == MAYDAY_OK) {
        /* shared memory is not to be trusted to only count up */
        *full -= full_told < *full ? full_told : *full;
        *internal -= internal_told < *internal ? internal_told : *internal;
    }
}

static void
visit(void *ctx, const mayday_lane_info_t *info)
{
    found_t *found = ctx;

    if (info->counters[MAYDAY_COUNTER_DROPPED_LANE_FULL] == 0 &&
        info->counters[MAYDAY_COUNTER_DROPPED_INTERNAL] == 0) {
        return;
    }
    if (found->skip > 0) {
        found->skip--;
    } else if (found->count < LANES_AT_ONCE) {
        found->lanes[found->count++] = *info;
    }
}

/*
 * Nobody knows which events were lost, so a DSN can be told only where there is
 * no choice: one destination that has any.
 */
static mayday_rc_t
tell_dsns(mayday_pipeline_t *p, const char *reason, uint64_t n)
{
    const mayday_settings_t *settings = p->settings;
    const mayday_destination_setting_t *only = NULL;
    mayday_rc_t rc = MAYDAY_OK;
    int64_t dsn;

    for (size_t i = 0; i < settings->destination_count; i++) {
        if (settings->destinations[i].dsn_count == 0) {
            continue;
        }
        if (only != NULL) {
            return MAYDAY_OK;
        }
        only = &settings->destinations[i];
    }
    for (uint32_t i = 0; only != NULL && i < only->dsn_count && rc == MAYDAY_OK; i++) {
        rc = mayday_store_dsn_id(p->store, only->dsns[i], &dsn);
        if (rc == MAYDAY_OK) {
            rc = mayday_store_discarded_add(p->store, dsn, reason, n);
        }
    }
    return rc;
}

static mayday_rc_t
put_down(mayday_pipeline_t *p, const char *reason, const char *client_reason, uint64_t n)
{
    mayday_rc_t rc;

    if (n == 0) {
        return MAYDAY_OK;
    }
    mayday_log(MAYDAY_LOG_WARN, "MD0134", "%llu failures were not captured: %s",
               (unsigned long long) n, reason);
    rc = mayday_store_count(p->store, "dropped", reason, n);
    return rc == MAYDAY_OK ? tell_dsns(p, client_reason, n) : rc;
}

/* Within a transaction. */
static mayday_rc_t
put_down_losses(mayday_pipeline_t *p, const mayday_lane_info_t *lane)
{
    mayday_lane_key_t key = losses_key(lane);
    uint64_t full, internal;
    mayday_rc_t rc;

    new_losses(p->store, lane, &full, &internal);
    if (full == 0 && internal == 0) {
        return MAYDAY_OK;
    }
    rc = put_down(p, "lane_full", "buffer_overflow", full);
    if (rc == MAYDAY_OK) {
        rc = put_down(p, "internal", "internal_sdk_error", internal);
    }
    if (rc == MAYDAY_OK) {
        rc = mayday_store_position_set(p->store, &key,
                                       lane->counters[MAYDAY_COUNTER_DROPPED_LANE_FULL],
                                       lane->counters[MAYDAY_COUNTER_DROPPED_INTERNAL]);
    }
    return rc;
}

/*
 * Within a transaction: all that a lane counted, when it will count no more. A
 * segment that is done with comes as a lane, too (lane_reader.h).
 */
static mayday_rc_t
fold(mayday_pipeline_t *p, const mayday_lane_info_t *lane)
{
    static const struct {
        mayday_counter_t counter;
        const char *name, *reason;
    } plain[] = {
        {MAYDAY_COUNTER_REQUESTS, "requests", ""},
        {MAYDAY_COUNTER_DROPPED_NO_LANE, "dropped", "no_lane"},
        {MAYDAY_COUNTER_TRUNCATED, "truncated", ""},
        {MAYDAY_COUNTER_LINES_LOST, "log_lines_lost", ""},
    };
    bool is_segment = lane->key.slot == MAYDAY_LANE_SEGMENT_SLOT;
    uint64_t lost = lane->records > lane->records_read ? lane->records - lane->records_read : 0;
    mayday_rc_t rc = is_segment ? MAYDAY_OK : put_down_losses(p, lane);

    if (rc == MAYDAY_OK) {
        rc = put_down(p, is_segment ? "lane_taken" : "unreadable", "buffer_overflow", lost);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(plain) && rc == MAYDAY_OK; i++) {
        uint64_t n = lane->counters[plain[i].counter];
        if (n > 0) {
            rc = mayday_store_count(p->store, plain[i].name, plain[i].reason, n);
        }
    }
    for (size_t i = 0; i < MAYDAY_KIND_MAX && rc == MAYDAY_OK; i++) {
        if (lane->ignored[i] > 0) {
            rc = mayday_store_count(p->store, "ignored", mayday_kind_name((mayday_kind_t) i),
                                    lane->ignored[i]);
        }
    }
    return rc;
}

static mayday_rc_t
fold_once(mayday_pipeline_t *p, const mayday_lane_info_t *lane)
{
    mayday_rc_t rc = mayday_store_begin(p->store);

    if (rc != MAYDAY_OK) {
        return rc;
    }
    rc = mayday_store_position_fold(p->store, &lane->key);
    if (rc == MAYDAY_OK) {
        rc = fold(p, lane);
    } else if (rc == MAYDAY_NOT_FOUND) {
        rc = MAYDAY_OK;
    }
    if (rc == MAYDAY_OK) {
        rc = mayday_store_commit(p->store);
    }
    if (rc != MAYDAY_OK) {
        mayday_store_rollback(p->store);
    }
    return rc;
}

static mayday_rc_t
fold_dead(mayday_pipeline_t *p)
{
    mayday_lane_info_t lane;
    mayday_rc_t rc = MAYDAY_OK;

    for (unsigned i = 0; i < DEAD_AT_ONCE && rc == MAYDAY_OK; i++) {
        pthread_mutex_lock(&p->numbers_lock);
        rc = mayday_lanes_next_dead(p->lanes, &lane);
        if (rc == MAYDAY_OK) {
            rc = fold_once(p, &lane);
            if (rc == MAYDAY_OK) {
                mayday_lanes_reclaim(p->lanes);
            }
        } else {
            i = DEAD_AT_ONCE;
            rc = MAYDAY_OK;
        }
        pthread_mutex_unlock(&p->numbers_lock);
    }
    return rc;
}

static mayday_rc_t
report_found(mayday_pipeline_t *p, const found_t *found)
{
    uint64_t full, internal;
    bool any = false;
    mayday_rc_t rc;

    for (size_t i = 0; i < found->count && !any; i++) {
        new_losses(p->store, &found->lanes[i], &full, &internal);
        any = full > 0 || internal > 0;
    }
    if (!any) {
        return MAYDAY_OK;
    }
    rc = mayday_store_begin(p->store);
    if (rc != MAYDAY_OK) {
        return rc;
    }
    for (size_t i = 0; i < found->count && rc == MAYDAY_OK; i++) {
        rc = put_down_losses(p, &found->lanes[i]);
    }
    if (rc == MAYDAY_OK) {
        rc = mayday_store_commit(p->store);
    }
    if (rc != MAYDAY_OK) {
        mayday_store_rollback(p->store);
    }
    return rc;
}

static mayday_rc_t
report_living(mayday_pipeline_t *p)
{
    uint64_t no_slot, lost;
    size_t reported = 0;
    found_t found;
    mayday_rc_t rc = MAYDAY_OK;

    do {
        found.count = 0;
        found.skip = reported;
        mayday_lanes_visit(p->lanes, visit, &found, &no_slot, &lost);
        rc = report_found(p, &found);
        reported += found.count;
    } while (rc == MAYDAY_OK && found.count == LANES_AT_ONCE);
    return rc;
}

mayday_rc_t
mayday_pipeline_lanes_upkeep(mayday_pipeline_t *p)
{
    mayday_rc_t rc = report_living(p);

    return rc == MAYDAY_OK ? fold_dead(p) : rc;
}
