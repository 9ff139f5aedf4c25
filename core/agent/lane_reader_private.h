/*
 * What the two halves of the reading side of lanes share: lane_reader.c, which
 * reads the lanes, and lane_list.c, which knows the segments, sleeps and shows
 * numbers. Nobody else includes this.
 *
 * All belongs to the pipeline's thread but for the list of segments, which visit
 * and wake read on any: the mutex guards it against these two. Only the
 * pipeline's thread changes it, so that thread reads it freely.
 */
#ifndef MAYDAY_LANE_READER_PRIVATE_H
#define MAYDAY_LANE_READER_PRIVATE_H

#include <pthread.h>

#include "core/agent/lane_reader.h"
#include "core/agent/lane_segment.h"

#define MAYDAY_BATCH_SIZE ((size_t) 2 << 20)

/* One life of a slot, as far as it was read. */
typedef struct lane {
    uint64_t generation;       /* of the life that the rest is about; 0: none seen yet */
    uint64_t head;             /* as stored in the slot                                */
    uint64_t position;         /* next byte to read                                    */
    uint64_t skipped;          /* bytes skipped since the last record                  */
    bool is_adrift;            /* the next record may have any sequence number          */
    uint64_t records_read;     /* sequence of the last record + 1                 */
    uint64_t records_released; /* the same, at head                               */
    uint8_t settings[MAYDAY_HASH_BYTES];
    uint32_t slot;
    bool is_locked;  /* dead, and its lock is ours               */
    bool is_touched; /* in the list of the batch                 */
    struct segment *segment;
    struct lane *next_touched;
    _Atomic bool alive; /* for visit: as of the last scan */
} lane_t;

typedef struct segment {
    mayday_segment_file_t file;
    lane_t *lanes;        /* file.slot_count */
    uint32_t alive_count; /* as of the last scan */
    bool is_current;
} segment_t;

struct mayday_lanes {
    const char *run_dir;
    mayday_lane_resume_pt resume;
    void *resume_ctx;

    pthread_mutex_t mutex;
    segment_t *segments[MAYDAY_SEGMENTS_MAX];
    size_t segment_count;

    uint8_t *batch; /* MAYDAY_BATCH_SIZE bytes */
    size_t batch_len;
    lane_t *touched;
    /* The chunk that is being decoded; lane NULL: none. */
    lane_t *lane;
    const uint8_t *chunk;
    size_t chunk_len, chunk_pos;
    uint64_t chunk_tail; /* the lane's tail when the chunk was copied */
    /* Whose turn it is next. */
    size_t turn_segment;
    uint32_t turn_slot;

    /* What next_dead returned last. */
    lane_t *dead;
    segment_t *dead_segment;

    _Atomic uint32_t asleep; /* the futex while there is no segment */
    _Atomic uint32_t woken;
};

static inline mayday_slot_t *
slot_of(const lane_t *lane)
{
    return mayday_segment_slot(lane->segment->file.shared, lane->slot);
}

/* Records lie at multiples of 8; a tail that does not is not where one ends. */
static inline uint64_t
tail_of(const lane_t *lane)
{
    return atomic_load_explicit(&slot_of(lane)->tail, memory_order_acquire) & ~UINT64_C(7);
}

static inline uint64_t
generation_of(const lane_t *lane)
{
    return atomic_load_explicit(&slot_of(lane)->generation, memory_order_acquire);
}

static inline bool
is_free(const lane_t *lane)
{
    return atomic_load_explicit(&slot_of(lane)->state, memory_order_acquire) == MAYDAY_SLOT_FREE;
}

static inline void
lane_key(const lane_t *lane, mayday_lane_key_t *key)
{
    memset(key, 0, sizeof(*key));
    memcpy(key->segment, lane->segment->file.id, sizeof(key->segment));
    key->slot = lane->slot;
    key->generation = lane->generation;
}

static inline void
fill_counters(mayday_lane_info_t *info, const mayday_slot_t *slot)
{
    info->counters_generation =
        atomic_load_explicit(&slot->counters_generation, memory_order_relaxed);
    for (size_t i = 0; i < MAYDAY_COUNTER_MAX; i++) {
        info->counters[i] = atomic_load_explicit(&slot->counters[i], memory_order_relaxed);
    }
    for (size_t i = 0; i < MAYDAY_KIND_MAX; i++) {
        info->ignored[i] = atomic_load_explicit(&slot->ignored[i], memory_order_relaxed);
    }
}

static inline void
end_chunk(mayday_lanes_t *lanes)
{
    lanes->batch_len += lanes->chunk_pos;
    lanes->lane = NULL;
}

/* Takes a segment off the list and closes it; records of it stay readable. */
void mayday_lanes_drop_segment(mayday_lanes_t *lanes, size_t index);

#endif
