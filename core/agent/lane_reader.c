/*
 * The reading side of lanes: records, and what happens to lanes when they were
 * read (contract: lane_reader.h; layout and protocol:
 * core/capture/lane_format.h; the writing side is core/capture/lane.c).
 *
 * Runs in the agent, on the pipeline's thread.
 *
 * A lane is read in chunks: up to 64 KiB are copied into the batch's buffer and
 * decoded there, then it is the next lane's turn. Of a dead lane the reader holds
 * the lock from the first such copy until release, so that nobody can take the
 * slot and count as lost what is being read. (An owner that dies while a batch
 * has records of it may be counted as lost by a new owner and delivered as well:
 * never the other way round.)
 */
#include "core/agent/lane_reader_private.h"

#define CHUNK_SIZE MAYDAY_RECORD_SIZE_MAX /* so any record fits whole */
#define HEAD_TRIES_MAX 8

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
    if (MAYDAY_BATCH_SIZE - lanes->batch_len < CHUNK_SIZE) {
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
            mayday_lanes_drop_segment(lanes, i);
            return;
        }
    }
}
