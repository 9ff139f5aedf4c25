/*
 * The reading side of lanes (layout and protocol: core/capture/lane_format.h).
 *
 * One reader per run directory, used by the pipeline thread only (counts may be
 * read by any thread through mayday_lanes_visit). Reads all segments that are
 * there: the current one and those of earlier starts until they are drained and
 * nobody alive has a lane in them.
 *
 * Everything in a segment is hostile. Records are copied out of the lanes before
 * they are looked at (lane_segment.h says why). What cannot be a record ends the
 * reading of a lane up to its tail, where the writer's next record will lie, and
 * the sequence numbers tell how many were lost; they are believed only as far as
 * so many records fit into the bytes that were skipped. A tail that cannot be
 * is not followed: the writer stores the true one with its next record.
 */
#ifndef MAYDAY_LANE_READER_H
#define MAYDAY_LANE_READER_H

#include "core/capture/lane_format.h"
#include "core/event/record_read.h"

typedef struct mayday_lanes mayday_lanes_t;

/* Names a lane's life: stored positions are kept under it. */
typedef struct {
    uint8_t segment[16];
    uint32_t slot;
    uint64_t generation;
} mayday_lane_key_t;

typedef struct {
    mayday_lane_key_t key;
    uint8_t settings[MAYDAY_HASH_BYTES]; /* that its records were written under    */
    uint64_t position;                   /* behind this record, to be stored       */
    uint64_t records_read;               /* its sequence + 1                       */
    uint64_t lost;                       /* records skipped just before this one as unreadable */
    mayday_record_view_t view;           /* gone after release                     */
} mayday_lane_record_t;

/*
 * A lane's numbers; of a dead lane whose end was read they are final, and
 * records - records_read of them were lost as unreadable.
 *
 * A segment that is done with is shown in the same way before it goes, as the
 * lane MAYDAY_LANE_SEGMENT_SLOT of generation 0: its records are those lost in
 * lanes that had to be taken, and its counter DROPPED_NO_LANE is that of the
 * processes which never had a lane.
 */
#define MAYDAY_LANE_SEGMENT_SLOT UINT32_MAX
typedef struct {
    mayday_lane_key_t key;
    uint32_t pid;
    bool alive;
    uint64_t unread_bytes, size;
    uint64_t records, records_read;
    uint64_t counters_generation; /* of the slot's life since which it counts */
    uint64_t counters[MAYDAY_COUNTER_MAX];
    uint64_t ignored[MAYDAY_KIND_MAX];
} mayday_lane_info_t;

/*
 * Where reading of a lane goes on after a restart: position and records read;
 * false: not known, so begin where the lane says. Called when a life of a lane
 * is first seen, from next, next_dead or release.
 */
typedef bool (*mayday_lane_resume_pt)(void *ctx, const mayday_lane_key_t *key, uint64_t *position,
                                      uint64_t *records_read);

/* NULL: no memory. run_dir is kept by reference. */
mayday_lanes_t *mayday_lanes_new(const char *run_dir, mayday_lane_resume_pt resume, void *ctx);
void mayday_lanes_free(mayday_lanes_t *lanes);

/*
 * Looks for new segments and at who is alive; drops broken segments. Every tick.
 * current_segment: the name of the one that is never removed; "": none known.
 */
void mayday_lanes_scan(mayday_lanes_t *lanes, const char *current_segment);

/*
 * The next record of any lane, lanes taking turns of up to 64 KiB. Skips what is
 * unreadable and tells how much in `lost`. The record stays valid until
 * mayday_lanes_release. MAYDAY_END: all read, or a batch of 2 MiB is full: then
 * there is more after mayday_lanes_release, and mayday_lanes_wait does not wait.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_lanes_next(mayday_lanes_t *lanes,
                                                mayday_lane_record_t *record);

/*
 * After the positions were stored: gives the space of all records read so far
 * back to the writers.
 */
void mayday_lanes_release(mayday_lanes_t *lanes);

/*
 * Dead, drained lanes (read and released to their end), one a call, to be folded
 * into the store and then freed. MAYDAY_END: none. mayday_lanes_reclaim frees the
 * one last returned; without it, that one is returned again.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_lanes_next_dead(mayday_lanes_t *lanes,
                                                     mayday_lane_info_t *info);
void mayday_lanes_reclaim(mayday_lanes_t *lanes);

/* Sleeps until a writer publishes, at most timeout_ms. From another thread, mayday_lanes_wake. */
void mayday_lanes_wait(mayday_lanes_t *lanes, uint32_t timeout_ms);
void mayday_lanes_wake(mayday_lanes_t *lanes);

/* Whether some living process owns a lane. */
bool mayday_lanes_any_alive(mayday_lanes_t *lanes);

/* Numbers of every lane and of the segments; any thread. */
typedef void (*mayday_lane_visit_pt)(void *ctx, const mayday_lane_info_t *info);
void mayday_lanes_visit(mayday_lanes_t *lanes, mayday_lane_visit_pt visit, void *ctx,
                        uint64_t *dropped_no_slot, uint64_t *lost_records);

#endif
