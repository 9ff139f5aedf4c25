/*
 * The reading side of lanes: which segments there are and who is alive in them,
 * sleeping and waking, numbers (contract: lane_reader.h). Reading itself is in
 * lane_reader.c.
 *
 * Runs in the agent, on the pipeline's thread; mayday_lanes_visit and
 * mayday_lanes_wake on any.
 */
#include <dirent.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/lane_reader_private.h"
#include "core/agent/log.h"

/* Only one segment's writers can wake a sleeper; the others' are looked at this often. */
#define OLD_SEGMENT_POLL_MS 20

/* ---- segments ---- */

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

void
mayday_lanes_drop_segment(mayday_lanes_t *lanes, size_t index)
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
            mayday_lanes_drop_segment(lanes, i);
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
    lanes->batch = malloc(MAYDAY_BATCH_SIZE);
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
        mayday_lanes_drop_segment(lanes, lanes->segment_count - 1);
    }
    pthread_mutex_destroy(&lanes->mutex);
    free(lanes->batch);
    free(lanes);
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
    _Atomic uint32_t *asleep =
        waking == NULL ? &lanes->asleep : &waking->file.shared->reader_asleep;
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
