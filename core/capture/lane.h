/*
 * Lanes, the writing side: what the server's master and its serving processes
 * do with a segment (layout and protocol: lane_format.h).
 *
 * Runs inside a web server. Never blocks on another process, allocates nothing
 * on the heap, and makes no system call on the request path but the wake-up.
 */
#ifndef MAYDAY_LANE_H
#define MAYDAY_LANE_H

#include <sys/types.h>

#include "core/base/lock.h"
#include "core/capture/lane_format.h"
#include "core/capture/record_format.h"

/* A mapped segment. Made by the master before it forks; children inherit it. */
typedef struct {
    int fd; /* -1: none. The only descriptor of the file in this process. */
    mayday_segment_t *shared;
    size_t header_size; /* bytes mapped: header and slots            */
    /* As they were when the segment was opened and checked: */
    uint64_t segment_size;
    uint64_t data_offset;
    uint32_t slot_count;
    uint32_t lane_size;
    char name[64]; /* file name in the run directory            */
} mayday_segment_map_t;

/*
 * This process's lane. One per process; with threads, every write holds lock
 * from begin to commit. Counting never fails: without a slot the counters are
 * the process's own (no_slot); they move into the slot when one is claimed and
 * are lost with a process that never gets one.
 */
typedef struct {
    _Atomic(mayday_slot_t *) slot; /* never NULL after mayday_lane_init   */
    uint8_t *ring;                 /* mapped twice in a row; NULL: no lane */
    /* The producer's own truth; the slot only shows it to the reader. */
    uint64_t tail;
    uint64_t records;
    uint64_t generation;
    uint32_t offset; /* tail % lane_size */
    uint32_t lane_size;
    uint32_t record_size_max;
    uint32_t index; /* of the slot */
    bool threaded;
    mayday_lock_t lock;            /* guards all above but the slot's counters */
    mayday_segment_map_t *segment; /* borrowed */
    uint8_t settings[MAYDAY_HASH_BYTES];
    uint64_t retry_us; /* without a lane: when to try to claim again (monotonic) */
    mayday_slot_t no_slot;
} mayday_lane_t;

/*
 * Opens the segment named `name` in dirfd, or, with name empty, makes a new one
 * of the given size, really allocated up to the slots (the rings are when
 * claimed). slot_count and lane_size are brought into their bounds, lane_size
 * up to whole pages. uid, gid: the user and group that the agent runs as;
 * (uid_t) -1 leaves them. MAYDAY_INVALID: it exists but has another version,
 * size or layout, and is left alone. MAYDAY_ERROR: errno says why. Failure
 * leaves map closed and makes no file.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_segment_open(mayday_segment_map_t *map, int dirfd,
                                                  const char *name, uint32_t slot_count,
                                                  uint32_t lane_size, uid_t uid, gid_t gid);

/* Drops this process's locks with the descriptor: release the lane first. */
void mayday_segment_close(mayday_segment_map_t *map);

/*
 * Caller's storage; usable at once, with no lane. Call after fork, and again
 * after mayday_lane_release before the next claim. segment may be NULL.
 */
void mayday_lane_init(mayday_lane_t *lane, mayday_segment_map_t *segment,
                      const uint8_t settings[MAYDAY_HASH_BYTES], bool threaded);

/*
 * Takes a slot: a free one, else the oldest of a dead owner. MAYDAY_FULL: none
 * left, or no memory for the ring; the lane goes on without, counting, and
 * mayday_lane_begin tries again once a second. With a lane: nothing to do.
 */
mayday_rc_t mayday_lane_claim(mayday_lane_t *lane);

/* Orderly end of the process: marks the lane closed and unmaps it, for good. */
void mayday_lane_release(mayday_lane_t *lane);

static inline void
mayday_counter_add(_Atomic uint64_t *counter, uint64_t n, bool threaded)
{
    if (threaded) {
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
    } else {
        atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                              memory_order_relaxed);
    }
}

static inline void
mayday_lane_count(mayday_lane_t *lane, mayday_counter_t counter)
{
    mayday_slot_t *slot = atomic_load_explicit(&lane->slot, memory_order_acquire);

    mayday_counter_add(&slot->counters[counter], 1, lane->threaded);
}

static inline void
mayday_lane_count_ignored(mayday_lane_t *lane, mayday_kind_t kind)
{
    mayday_slot_t *slot = atomic_load_explicit(&lane->slot, memory_order_acquire);

    mayday_counter_add(&slot->ignored[kind], 1, lane->threaded);
}

/*
 * A record being written, straight into the ring. Fields go in by
 * mayday_record_*() of record.h.
 */
typedef struct {
    mayday_lane_t *lane;
    uint8_t *start; /* of the record's header                      */
    uint8_t *pos;   /* next byte                                   */
    uint8_t *end;   /* one behind the last byte that fields may use */
    uint32_t flags; /* mayday_record_flag_t                        */
} mayday_record_t;

/*
 * Starts a record. MAYDAY_FULL: no room or no lane; the loss is counted and the
 * caller forgets this failure. After MAYDAY_OK exactly one of commit and abort
 * follows, on the same thread, which meanwhile must not touch the lane.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_lane_begin(mayday_lane_t *lane, mayday_record_t *record);
void mayday_lane_commit(mayday_record_t *record); /* counted as captured, if cut as truncated */
void mayday_lane_abort(mayday_record_t *record);  /* counted as dropped_internal */

#endif
