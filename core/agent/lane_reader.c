/*
 * The reading side of lanes (contract: lane_reader.h; layout and protocol:
 * core/capture/lane_format.h; the writing side is core/capture/lane.c).
 *
 * Runs in the agent, on the pipeline's thread; visit and wake on any. The mutex
 * guards the list of segments against these two; only the pipeline's thread
 * changes it, so that thread reads it freely.
 *
 * A lane is read in chunks: up to 64 KiB are copied into the batch's buffer and
 * decoded there, then it is the next lane's turn. Of a dead lane the reader holds
 * the lock from the first such copy until release, so that nobody can take the
 * slot and count as lost what is being read.
 */
#include "core/agent/lane_reader.h"

#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/lane_segment.h"
#include "core/agent/log.h"

#define CHUNK_SIZE MAYDAY_RECORD_SIZE_MAX /* so any record fits whole */
#define BATCH_SIZE (2u * 1024 * 1024)
/* Only one segment's writers can wake a sleeper; the others' are looked at this often. */
#define OLD_SEGMENT_POLL_MS 20
#define HEAD_TRIES_MAX 8

/* One life of a slot, as far as it was read. */
typedef struct lane {
    uint64_t generation; /* of the life that the rest is about; 0: none seen yet */
    uint64_t head;       /* as stored in the slot                                */
    uint64_t position;   /* next byte to read                                    */
    uint64_t skipped;    /* bytes skipped since the last record                  */
    bool is_adrift;      /* the next record may have any sequence number          */
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
    lane_t *lanes; /* file.slot_count */
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

    uint8_t *batch; /* BATCH_SIZE bytes */
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

static mayday_slot_t *
slot_of(const lane_t *lane)
{
    return mayday_segment_slot(lane->segment->file.shared, lane->slot);
}

/* Records lie at multiples of 8; a tail that does not is not where one ends. */
static uint64_t
tail_of(const lane_t *lane)
{
    return atomic_load_explicit(&slot_of(lane)->tail, memory_order_acquire) & ~UINT64_C(7);
}

static uint64_t
generation_of(const lane_t *lane)
{
    return atomic_load_explicit(&slot_of(lane)->generation, memory_order_acquire);
}

static bool
is_free(const lane_t *lane)
{
    return atomic_load_explicit(&slot_of(lane)->state, memory_order_acquire) == MAYDAY_SLOT_FREE;
}

static void
lane_key(const lane_t *lane, mayday_lane_key_t *key)
{
    memset(key, 0, sizeof(*key));
    memcpy(key->segment, lane->segment->file.id, sizeof(key->segment));
    key->slot = lane->slot;
    key->generation = lane->generation;
}

/* ---- segments ---- */

static void
end_chunk(mayday_lanes_t *lanes)
{
    lanes->batch_len += lanes->chunk_pos;
    lanes->lane = NULL;
}

/* Forgets what the batch has of a segment; its records stay readable. */
static void
forget_touched(mayday_lanes_t *lanes, const segment_t *segment)
{
    lane_t **link = &lanes->touched;

    if (lanes->lane != NULL && lanes->lane->segment == segment) {
        end_chunk(lanes);
    }
    if (lanes->dead != NULL && lanes->dead->segment == segment) {
        lanes->dead = NULL;
    }
    if (lanes->dead_segment == segment) {
        lanes->dead_segment = NULL;
    }
    while (*link != NULL) {
        if ((*link)->segment == segment) {
            *link = (*link)->next_touched;
        } else {
            link = &(*link)->next_touched;
        }
    }
}

static void
drop_segment(mayday_lanes_t *lanes, size_t index)
{
    segment_t *segment = lanes->segments[index];

    forget_touched(lanes, segment);
    pthread_mutex_lock(&lanes->mutex);
    lanes->segments[index] = lanes->segments[--lanes->segment_count];
    pthread_mutex_unlock(&lanes->mutex);
    mayday_segment_file_close(&segment->file);
    free(segment->lanes);
    free(segment);
}

static segment_t *
segment_new(const char *run_dir, const char *name)
{
    segment_t *segment = calloc(1, sizeof(*segment));

    if (segment == NULL) {
        return NULL;
    }
    if (mayday_segment_file_open(&segment->file, run_dir, name) != MAYDAY_OK) {
        free(segment);
        return NULL;
    }
    segment->lanes = calloc(segment->file.slot_count, sizeof(*segment->lanes));
    if (segment->lanes == NULL) {
        mayday_segment_file_close(&segment->file);
        free(segment);
        return NULL;
    }
    for (uint32_t i = 0; i < segment->file.slot_count; i++) {
        segment->lanes[i].segment = segment;
        segment->lanes[i].slot = i;
    }
    return segment;
}

static void
scan_name(mayday_lanes_t *lanes, const char *name, bool is_current)
{
    for (size_t i = 0; i < lanes->segment_count; i++) {
        if (strcmp(lanes->segments[i]->file.name, name) == 0) {
            return;
        }
    }
    if (lanes->segment_count == MAYDAY_SEGMENTS_MAX) {
        return;
    }
    segment_t *segment = segment_new(lanes->run_dir, name);
    if (segment == NULL) {
        if (!is_current && mayday_segment_name_is_abandoned(lanes->run_dir, name)) {
            mayday_log(MAYDAY_LOG_WARN, "MD0301", "%s is not a segment of this version, removed",
                       name);
            mayday_segment_name_remove(lanes->run_dir, name);
        }
        return;
    }
    pthread_mutex_lock(&lanes->mutex);
    lanes->segments[lanes->segment_count++] = segment;
    pthread_mutex_unlock(&lanes->mutex);
}

static void
drop_broken(mayday_lanes_t *lanes)
{
    for (size_t i = lanes->segment_count; i-- > 0;) {
        if (mayday_segment_file_is_broken(&lanes->segments[i]->file)) {
            mayday_log(MAYDAY_LOG_ERROR, "MD0302", "%s was cut short; what was in it is lost",
                       lanes->segments[i]->file.name);
            drop_segment(lanes, i);
        }
    }
}

static void
check_owners(segment_t *segment)
{
    segment->alive_count = 0;
    for (uint32_t i = 0; i < segment->file.slot_count; i++) {
        lane_t *lane = &segment->lanes[i];
        bool alive = !is_free(lane) && mayday_segment_file_is_owned(&segment->file, i);
        atomic_store_explicit(&lane->alive, alive, memory_order_relaxed);
        segment->alive_count += alive;
    }
}

void
mayday_lanes_scan(mayday_lanes_t *lanes, const char *current_segment)
{
    drop_broken(lanes);

    DIR *dir = opendir(lanes->run_dir);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, MAYDAY_SEGMENT_PREFIX, strlen(MAYDAY_SEGMENT_PREFIX)) == 0) {
            scan_name(lanes, entry->d_name, strcmp(entry->d_name, current_segment) == 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    for (size_t i = 0; i < lanes->segment_count; i++) {
        segment_t *segment = lanes->segments[i];
        segment->is_current = strcmp(segment->file.name, current_segment) == 0;
        check_owners(segment);
    }
}

mayday_lanes_t *
mayday_lanes_new(const char *run_dir, mayday_lane_resume_pt resume, void *ctx)
{
    mayday_lanes_t *lanes = calloc(1, sizeof(*lanes));

    if (lanes == NULL) {
        return NULL;
    }
    lanes->batch = malloc(BATCH_SIZE);
    if (lanes->batch == NULL) {
        free(lanes);
        return NULL;
    }
    lanes->run_dir = run_dir;
    lanes->resume = resume;
    lanes->resume_ctx = ctx;
    pthread_mutex_init(&lanes->mutex, NULL);
    return lanes;
}

void
mayday_lanes_free(mayday_lanes_t *lanes)
{
    if (lanes == NULL) {
        return;
    }
    while (lanes->segment_count > 0) {
        drop_segment(lanes, lanes->segment_count - 1);
    }
    pthread_mutex_destroy(&lanes->mutex);
    free(lanes->batch);
    free(lanes);
}

/* ---- reading ---- */

static void
touch(mayday_lanes_t *lanes, lane_t *lane)
{
    if (!lane->is_touched) {
        lane->is_touched = true;
        lane->next_touched = lanes->touched;
        lanes->touched = lane;
    }
}

/* More than a ring cannot have been lost, whatever the positions say. */
static void
add_skipped(lane_t *lane, uint64_t bytes)
{
    uint64_t lane_size = lane->segment->file.lane_size;

    lane->skipped += bytes < lane_size ? bytes : lane_size;
    lane->is_adrift = true;
}

static void
skip_to(lane_t *lane, uint64_t position)
{
    add_skipped(lane, position - lane->position);
    lane->position = position;
}

/* Where the store says that reading goes on, as far as that can be. */
static void
resume_lane(mayday_lanes_t *lanes, lane_t *lane, uint64_t tail)
{
    mayday_lane_key_t key;
    uint64_t position, records_read;

    lane_key(lane, &key);
    if (!lanes->resume(lanes->resume_ctx, &key, &position, &records_read)) {
        return;
    }
    if (position % 8 == 0 && position - lane->position <= tail - lane->position) {
        lane->position = position; /* stored, but not yet released when we stopped */
    } else if (position < lane->position) {
        add_skipped(lane, lane->position - position); /* released: no longer there */
    } else {
        lane->is_adrift = true;
        return;
    }
    lane->records_read = records_read;
    lane->records_released = records_read;
}

/* A life of the slot that was not seen before: finds where to begin. */
static void
adopt(mayday_lanes_t *lanes, lane_t *lane, uint64_t generation)
{
    mayday_slot_t *slot = slot_of(lane);
    uint64_t tail = tail_of(lane);

    lane->generation = generation;
    lane->skipped = 0;
    lane->is_adrift = false;
    memcpy(lane->settings, slot->settings, sizeof(lane->settings));
    lane->head = atomic_load_explicit(&slot->head, memory_order_acquire);
    lane->position = lane->head;
    lane->records_read = atomic_load_explicit(&slot->records_read, memory_order_relaxed);
    lane->records_released = lane->records_read;
    if (lane->head % 8 != 0 || tail - lane->head > lane->segment->file.lane_size) {
        /* Somebody wrote over our head, and no writer writes with such a one. */
        skip_to(lane, tail);
    }
    resume_lane(lanes, lane, tail);
    if (lane->head != lane->position) {
        touch(lanes, lane);
    }
}

/* Makes sure that `lane` is about the slot's present life; false: the slot is free. */
static bool
follow(mayday_lanes_t *lanes, lane_t *lane)
{
    if (is_free(lane)) {
        return false;
    }
    uint64_t generation = generation_of(lane);
    if (MAYDAY_UNLIKELY(generation != lane->generation)) {
        adopt(lanes, lane, generation);
        atomic_thread_fence(memory_order_acquire);
        if (is_free(lane) || generation_of(lane) != generation) {
            lane->generation = 0;
            return false;
        }
    }
    return true;
}

/* Copies the lane's next bytes into the batch. False: there are none to read. */
static bool
load_chunk(mayday_lanes_t *lanes, lane_t *lane)
{
    const mayday_segment_file_t *file = &lane->segment->file;

    if (!follow(lanes, lane) || tail_of(lane) == lane->position) {
        return false;
    }
    if (!lane->is_locked && mayday_segment_file_lock(file, lane->slot)) {
        lane->is_locked = true;
    }
    touch(lanes, lane);

    uint64_t tail = tail_of(lane);
    uint64_t unread = tail - lane->position;
    if (MAYDAY_UNLIKELY(unread > file->lane_size)) {
        /* Not its writer's tail. That one comes with the next record, if ever. */
        if (lane->is_locked) {
            skip_to(lane, tail);
        }
        return false;
    }
    size_t len = unread < CHUNK_SIZE ? (size_t) unread : CHUNK_SIZE;
    uint8_t *chunk = lanes->batch + lanes->batch_len;
    mayday_rc_t rc = mayday_segment_file_read(file, lane->slot, lane->position, chunk, len);

    /* All of this must be of one life, and of a file that is still whole. */
    atomic_thread_fence(memory_order_acquire);
    if (rc != MAYDAY_OK || is_free(lane) || generation_of(lane) != lane->generation) {
        lane->generation = 0;
        return false;
    }
    lanes->lane = lane;
    lanes->chunk = chunk;
    lanes->chunk_len = len;
    lanes->chunk_pos = 0;
    lanes->chunk_tail = tail;
    return true;
}

/*
 * The next lane in turn that has something, into the chunk. MAYDAY_END: none
 * has, or the batch is full.
 */
static mayday_rc_t
next_chunk(mayday_lanes_t *lanes)
{
    if (BATCH_SIZE - lanes->batch_len < CHUNK_SIZE) {
        return MAYDAY_END;
    }
    for (size_t i = 0; i <= lanes->segment_count; i++) {
        size_t index = lanes->turn_segment < lanes->segment_count ? lanes->turn_segment : 0;
        if (index >= lanes->segment_count) {
            break;
        }
        segment_t *segment = lanes->segments[index];
        lanes->turn_segment = index;
        while (lanes->turn_slot < segment->file.slot_count) {
            if (load_chunk(lanes, &segment->lanes[lanes->turn_slot++])) {
                return MAYDAY_OK;
            }
        }
        lanes->turn_slot = 0;
        lanes->turn_segment++;
    }
    return MAYDAY_END;
}

/*
 * Whether the sequence number can be that of the next record; how many were
 * lost in *lost. Behind a gap any number is accepted, or a single wrong one
 * would make all that follow unreadable, but not any loss is believed.
 */
static bool
check_sequence(const lane_t *lane, uint64_t sequence, uint64_t *lost)
{
    uint64_t lost_max = lane->skipped / sizeof(mayday_record_header_t);

    *lost = 0;
    if (!lane->is_adrift) {
        return sequence == lane->records_read;
    }
    if (sequence > lane->records_read) {
        *lost = sequence - lane->records_read < lost_max ? sequence - lane->records_read : lost_max;
    }
    return true;
}

/* The next record of the chunk. MAYDAY_END: the chunk is used up. */
static mayday_rc_t
next_in_chunk(mayday_lanes_t *lanes, mayday_lane_record_t *record)
{
    lane_t *lane = lanes->lane;
    mayday_record_header_t header;
    uint32_t size;

    while (lanes->chunk_len - lanes->chunk_pos >= sizeof(header)) {
        size_t left = lanes->chunk_len - lanes->chunk_pos;
        const uint8_t *bytes = lanes->chunk + lanes->chunk_pos;

        memcpy(&header, bytes, sizeof(header));
        if (header.magic != MAYDAY_RECORD_MAGIC || header.size < sizeof(header) ||
            header.size > MAYDAY_RECORD_SIZE_MAX || header.size % 8 != 0 ||
            header.size > lanes->chunk_tail - lane->position ||
            !check_sequence(lane, header.sequence, &record->lost)) {
            skip_to(lane, lanes->chunk_tail);
            return MAYDAY_END;
        }
        if (header.size > left) {
            return MAYDAY_END; /* the rest of it comes with the lane's next chunk */
        }
        lanes->chunk_pos += header.size;
        if (mayday_record_read(&record->view, bytes, left, &size) != MAYDAY_OK) {
            skip_to(lane, lane->position + header.size);
            continue;
        }
        lane->position += size;
        lane->skipped = 0;
        lane->is_adrift = false;
        lane->records_read = header.sequence + 1;
        lane_key(lane, &record->key);
        memcpy(record->settings, lane->settings, sizeof(record->settings));
        record->position = lane->position;
        record->records_read = lane->records_read;
        return MAYDAY_OK;
    }
    if (lane->position + (lanes->chunk_len - lanes->chunk_pos) == lanes->chunk_tail) {
        skip_to(lane, lanes->chunk_tail); /* too little for a record, and all there is */
    }
    return MAYDAY_END;
}

mayday_rc_t
mayday_lanes_next(mayday_lanes_t *lanes, mayday_lane_record_t *record)
{
    for (;;) {
        if (lanes->lane != NULL) {
            if (next_in_chunk(lanes, record) == MAYDAY_OK) {
                return MAYDAY_OK;
            }
            end_chunk(lanes);
        }
        if (next_chunk(lanes) != MAYDAY_OK) {
            return MAYDAY_END;
        }
    }
}

/* ---- giving back ---- */

/* Moves the slot's head up to what was read, unless it is a later life's head. */
static void
release_lane(lane_t *lane)
{
    mayday_slot_t *slot = slot_of(lane);
    uint64_t seen = lane->head;

    for (int tries = 0; tries < HEAD_TRIES_MAX && generation_of(lane) == lane->generation;
         tries++) {
        if (atomic_compare_exchange_strong_explicit(&slot->head, &seen, lane->position,
                                                    memory_order_release, memory_order_relaxed)) {
            atomic_store_explicit(&slot->records_read, lane->records_read, memory_order_relaxed);
            lane->head = lane->position;
            lane->records_released = lane->records_read;
            return;
        }
    }
}

void
mayday_lanes_release(mayday_lanes_t *lanes)
{
    if (lanes->lane != NULL) {
        end_chunk(lanes);
    }
    for (lane_t *lane = lanes->touched; lane != NULL; lane = lane->next_touched) {
        lane->is_touched = false;
        if (lane->generation != 0 && lane->head != lane->position) {
            release_lane(lane);
        }
        if (lane->is_locked) {
            mayday_segment_file_unlock(&lane->segment->file, lane->slot);
            lane->is_locked = false;
        }
    }
    lanes->touched = NULL;
    lanes->batch_len = 0;
    if (lanes->dead != NULL) {
        mayday_segment_file_unlock(&lanes->dead->segment->file, lanes->dead->slot);
        lanes->dead = NULL;
    }
    lanes->dead_segment = NULL;
}

/* ---- dead lanes and segments ---- */

static void
fill_counters(mayday_lane_info_t *info, const mayday_slot_t *slot)
{
    for (size_t i = 0; i < MAYDAY_COUNTER_MAX; i++) {
        info->counters[i] = atomic_load_explicit(&slot->counters[i], memory_order_relaxed);
    }
    for (size_t i = 0; i < MAYDAY_KIND_MAX; i++) {
        info->ignored[i] = atomic_load_explicit(&slot->ignored[i], memory_order_relaxed);
    }
}

static void
fill_dead(mayday_lane_info_t *info, const lane_t *lane)
{
    const mayday_slot_t *slot = slot_of(lane);
    /* One more than fits into what was skipped may have been counted, not published. */
    uint64_t lost_max = lane->skipped / sizeof(mayday_record_header_t) + 1;
    uint64_t records = atomic_load_explicit(&slot->records, memory_order_relaxed);
    uint64_t lost = records > lane->records_released ? records - lane->records_released : 0;

    memset(info, 0, sizeof(*info));
    lane_key(lane, &info->key);
    info->pid = slot->pid;
    info->size = lane->segment->file.lane_size;
    info->records_read = lane->records_released;
    info->records = lane->records_released + (lost < lost_max ? lost : lost_max);
    fill_counters(info, slot);
}

static bool
is_drained(const lane_t *lane)
{
    return lane->head == lane->position && lane->position == tail_of(lane);
}

static bool
next_dead_lane(mayday_lanes_t *lanes, segment_t *segment, mayday_lane_info_t *info)
{
    for (uint32_t i = 0; i < segment->file.slot_count; i++) {
        lane_t *lane = &segment->lanes[i];
        if (!follow(lanes, lane) || lane->is_touched || !is_drained(lane) ||
            !mayday_segment_file_lock(&segment->file, i)) {
            continue;
        }
        /* Its owner may have published once more, or another have had the slot, till now. */
        if (!is_free(lane) && generation_of(lane) == lane->generation && is_drained(lane)) {
            fill_dead(info, lane);
            lanes->dead = lane;
            return true;
        }
        mayday_segment_file_unlock(&segment->file, i);
    }
    return false;
}

static bool
is_done(const segment_t *segment)
{
    if (segment->is_current || !mayday_segment_file_is_abandoned(&segment->file)) {
        return false;
    }
    for (uint32_t i = 0; i < segment->file.slot_count; i++) {
        if (!is_free(&segment->lanes[i])) {
            return false;
        }
    }
    return true;
}

static void
fill_segment(mayday_lane_info_t *info, const segment_t *segment)
{
    mayday_segment_t *shared = segment->file.shared;

    memset(info, 0, sizeof(*info));
    memcpy(info->key.segment, segment->file.id, sizeof(info->key.segment));
    info->key.slot = MAYDAY_LANE_SEGMENT_SLOT;
    info->records = atomic_load(&shared->lost_records);
    info->counters[MAYDAY_COUNTER_DROPPED_NO_LANE] = atomic_load(&shared->dropped_no_slot);
}

mayday_rc_t
mayday_lanes_next_dead(mayday_lanes_t *lanes, mayday_lane_info_t *info)
{
    if (lanes->dead != NULL) {
        mayday_segment_file_unlock(&lanes->dead->segment->file, lanes->dead->slot);
        lanes->dead = NULL;
    }
    lanes->dead_segment = NULL;
    for (size_t i = 0; i < lanes->segment_count; i++) {
        if (next_dead_lane(lanes, lanes->segments[i], info)) {
            return MAYDAY_OK;
        }
    }
    for (size_t i = 0; i < lanes->segment_count; i++) {
        if (is_done(lanes->segments[i])) {
            fill_segment(info, lanes->segments[i]);
            lanes->dead_segment = lanes->segments[i];
            return MAYDAY_OK;
        }
    }
    return MAYDAY_END;
}

void
mayday_lanes_reclaim(mayday_lanes_t *lanes)
{
    if (lanes->dead != NULL) {
        const mayday_segment_file_t *file = &lanes->dead->segment->file;
        mayday_slot_t *slot = slot_of(lanes->dead);
        mayday_segment_file_punch(file, lanes->dead->slot);
        atomic_store_explicit(&lanes->dead->alive, false, memory_order_relaxed);
        atomic_store_explicit(&slot->state, MAYDAY_SLOT_FREE, memory_order_release);
        mayday_segment_file_unlock(file, lanes->dead->slot);
        lanes->dead = NULL;
    }
    for (size_t i = 0; i < lanes->segment_count; i++) {
        if (lanes->segments[i] == lanes->dead_segment) {
            mayday_segment_name_remove(lanes->run_dir, lanes->dead_segment->file.name);
            drop_segment(lanes, i);
            return;
        }
    }
}

/* ---- sleeping and waking ---- */

static bool
has_unread(const mayday_lanes_t *lanes)
{
    for (size_t i = 0; i < lanes->segment_count; i++) {
        const segment_t *segment = lanes->segments[i];
        for (uint32_t j = 0; j < segment->file.slot_count; j++) {
            const lane_t *lane = &segment->lanes[j];
            if (is_free(lane)) {
                continue;
            }
            uint64_t generation = generation_of(lane);
            uint64_t position = generation == lane->generation
                                    ? lane->position
                                    : mayday_lane_first_position(generation);
            uint64_t unread = tail_of(lane) - position;
            if (unread != 0 && (unread <= segment->file.lane_size || lane->is_locked)) {
                return true;
            }
        }
    }
    return false;
}

static void
futex_wait(_Atomic uint32_t *futex, uint32_t ms)
{
    struct timespec timeout = {.tv_sec = ms / 1000, .tv_nsec = (long) (ms % 1000) * 1000000};

    syscall(SYS_futex, futex, FUTEX_WAIT, 1, &timeout, NULL, 0);
}

static void
futex_wake(_Atomic uint32_t *futex)
{
    if (atomic_exchange(futex, 0) != 0) {
        syscall(SYS_futex, futex, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

/* The segment whose writers will wake us: the current one, if it is there. */
static const segment_t *
waking_segment(const mayday_lanes_t *lanes)
{
    const segment_t *found = lanes->segment_count > 0 ? lanes->segments[0] : NULL;

    for (size_t i = 0; i < lanes->segment_count; i++) {
        if (lanes->segments[i]->is_current) {
            found = lanes->segments[i];
        }
    }
    return found;
}

void
mayday_lanes_wait(mayday_lanes_t *lanes, uint32_t timeout_ms)
{
    uint64_t end_us = mayday_clock_monotonic_us() + (uint64_t) timeout_ms * 1000;
    const segment_t *waking = waking_segment(lanes);
    _Atomic uint32_t *asleep = waking == NULL ? &lanes->asleep
                                              : &waking->file.shared->reader_asleep;
    bool polls = false;

    for (size_t i = 0; i < lanes->segment_count; i++) {
        polls = polls || (lanes->segments[i] != waking && lanes->segments[i]->alive_count > 0);
    }
    for (;;) {
        atomic_store(asleep, 1);
        /* Our flag before the tails, as writers store their tail before they see the flag. */
        atomic_thread_fence(memory_order_seq_cst);
        uint64_t now_us = mayday_clock_monotonic_us();
        if (atomic_exchange(&lanes->woken, 0) != 0 || now_us >= end_us || has_unread(lanes)) {
            break;
        }
        uint32_t left_ms = (uint32_t) ((end_us - now_us + 999) / 1000);
        if (polls && left_ms > OLD_SEGMENT_POLL_MS) {
            left_ms = OLD_SEGMENT_POLL_MS;
        }
        futex_wait(asleep, left_ms);
    }
    atomic_store(asleep, 0);
}

void
mayday_lanes_wake(mayday_lanes_t *lanes)
{
    atomic_store(&lanes->woken, 1);
    pthread_mutex_lock(&lanes->mutex);
    for (size_t i = 0; i < lanes->segment_count; i++) {
        futex_wake(&lanes->segments[i]->file.shared->reader_asleep);
    }
    futex_wake(&lanes->asleep);
    pthread_mutex_unlock(&lanes->mutex);
}

/* ---- numbers ---- */

bool
mayday_lanes_any_alive(mayday_lanes_t *lanes)
{
    for (size_t i = 0; i < lanes->segment_count; i++) {
        if (mayday_segment_file_any_owned(&lanes->segments[i]->file)) {
            return true;
        }
    }
    return false;
}

static void
visit_lane(const lane_t *lane, mayday_lane_visit_pt visit, void *ctx)
{
    mayday_slot_t *slot = slot_of(lane);
    mayday_lane_info_t info;

    memset(&info, 0, sizeof(info));
    memcpy(info.key.segment, lane->segment->file.id, sizeof(info.key.segment));
    info.key.slot = lane->slot;
    info.key.generation = generation_of(lane);
    info.pid = slot->pid;
    info.alive = atomic_load_explicit(&lane->alive, memory_order_relaxed);
    info.size = lane->segment->file.lane_size;
    info.unread_bytes = tail_of(lane) - atomic_load_explicit(&slot->head, memory_order_relaxed);
    if (info.unread_bytes > info.size) {
        info.unread_bytes = info.size;
    }
    info.records = atomic_load_explicit(&slot->records, memory_order_relaxed);
    info.records_read = atomic_load_explicit(&slot->records_read, memory_order_relaxed);
    fill_counters(&info, slot);
    visit(ctx, &info);
}

void
mayday_lanes_visit(mayday_lanes_t *lanes, mayday_lane_visit_pt visit, void *ctx,
                   uint64_t *dropped_no_slot, uint64_t *lost_records)
{
    *dropped_no_slot = 0;
    *lost_records = 0;
    pthread_mutex_lock(&lanes->mutex);
    for (size_t i = 0; i < lanes->segment_count; i++) {
        const segment_t *segment = lanes->segments[i];
        *dropped_no_slot += atomic_load(&segment->file.shared->dropped_no_slot);
        *lost_records += atomic_load(&segment->file.shared->lost_records);
        for (uint32_t j = 0; j < segment->file.slot_count; j++) {
            if (!is_free(&segment->lanes[j])) {
                visit_lane(&segment->lanes[j], visit, ctx);
            }
        }
    }
    pthread_mutex_unlock(&lanes->mutex);
}
