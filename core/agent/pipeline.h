/*
 * The pipeline: records from the lanes, through event, rules and issue, into the
 * store, in one thread.
 *
 * A batch's events, issues, counts and positions are one transaction. Only after
 * it the lanes get their space back, so whenever this process dies, a record is
 * either wholly stored or still in its lane, and counts stay exact. While the
 * store fails nothing is read: the lanes fill, drop and count.
 */
#ifndef MAYDAY_PIPELINE_H
#define MAYDAY_PIPELINE_H

#include "core/agent/delivery.h"
#include "core/agent/instance.h"
#include "core/agent/lane_reader.h"

typedef struct mayday_pipeline mayday_pipeline_t;

/* For status; a snapshot. */
typedef struct {
    char rules_file[512]; /* "": none                                        */
    bool rules_observe;
    uint64_t rules_loaded_us; /* 0: none in force                               */
    char rules_error[512];    /* of the last load; "": it went well             */
    char rules_failure[512];  /* of the last event that they failed on          */
    uint64_t rules_failed_us; /* when; 0: on none since they were loaded        */
    bool rules_failing;       /* on each event since                            */
    char store_error[256];    /* while the store fails; "": it does not         */
} mayday_pipeline_info_t;

/*
 * Opens the store (the process's first connection) and the lanes. run_dir,
 * store_path and lua_dir are kept by reference. NULL: error says why.
 */
mayday_pipeline_t *mayday_pipeline_new(const char *run_dir, const char *store_path,
                                       const char *lua_dir, mayday_buf_t *error);

/*
 * What holds now: its settings and rules come into force before the next batch.
 * Once before start, then from any thread.
 */
void mayday_pipeline_configure(mayday_pipeline_t *pipeline, const mayday_current_t *current);

/* delivery is told of new events; it must outlive the thread. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_pipeline_start(mayday_pipeline_t *pipeline,
                                                    mayday_delivery_t *delivery);

/*
 * Ends the thread after the lanes are drained; wait_for_owners: and nobody alive
 * writes to one; but at most after timeout_ms.
 */
void mayday_pipeline_stop(mayday_pipeline_t *pipeline, bool wait_for_owners, uint32_t timeout_ms);
void mayday_pipeline_free(mayday_pipeline_t *pipeline);

/* Whether the thread gave up for a reason that only a new process can mend. */
bool mayday_pipeline_has_failed(mayday_pipeline_t *pipeline);

/* Any thread. */
void mayday_pipeline_info(mayday_pipeline_t *pipeline, mayday_pipeline_info_t *info);

/*
 * The numbers of every lane, with those of the store: visit gets each lane, then
 * count each of the store's counts, and what a lane's end moves from one to the
 * other is seen exactly once. Any thread, with its own connection; store NULL:
 * the lanes alone.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_pipeline_numbers(
    mayday_pipeline_t *pipeline, mayday_store_t *store, mayday_lane_visit_pt visit,
    mayday_count_visit_pt count, void *ctx, uint64_t *dropped_no_slot, uint64_t *lost_records);

#endif
