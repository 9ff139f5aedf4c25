/*
 * Lanes, the writing side (layout and protocol: lane_format.h; contract:
 * lane.h). The counterpart is core/agent/lane_reader.c.
 *
 * Runs inside a web server. begin, commit and abort are on the request path of
 * failed requests: no system call but the wake-up, no lock but one between the
 * process's own threads. Claiming allocates shared memory and makes
 * a few dozen system calls at most; none of them waits for another process.
 */
#include "core/capture/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CLAIM_RETRY_US 1000000u
#define CLAIM_NEVER UINT64_MAX
#define FALLOCATE_TRIES_MAX 16 /* each interrupted by a signal */
#define SLOT_NONE UINT32_MAX
/* commit ends the fields with one 8-byte store, wherever they end. */
#define RECORD_PADDING 8u

_Static_assert(sizeof(off_t) == 8, "locks lie behind 2^40: large file offsets are needed");

/* ---- the segment: master ---- */

static mayday_rc_t
allocate(int fd, off_t offset, off_t len)
{
    for (int tries = 0; tries < FALLOCATE_TRIES_MAX; tries++) {
        int error = posix_fallocate(fd, offset, len);
        if (error == 0) {
            return MAYDAY_OK;
        }
        errno = error;
        if (error != EINTR) {
            break;
        }
    }
    return MAYDAY_ERROR;
}

static mayday_segment_t
segment_plan(uint32_t slot_count, uint32_t lane_size)
{
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
    mayday_segment_t plan;

    memset(&plan, 0, sizeof(plan));
    plan.slot_count = slot_count < 1 ? 1 : slot_count;
    if (plan.slot_count > MAYDAY_SLOT_COUNT_MAX) {
        plan.slot_count = MAYDAY_SLOT_COUNT_MAX;
    }
    if (lane_size < MAYDAY_LANE_SIZE_MIN) {
        lane_size = MAYDAY_LANE_SIZE_MIN;
    }
    if (lane_size > MAYDAY_LANE_SIZE_MAX) {
        lane_size = MAYDAY_LANE_SIZE_MAX;
    }
    plan.lane_size = (uint32_t) ((lane_size + page - 1) / page * page);
    plan.data_offset = MAYDAY_SEGMENT_HEADER_SIZE + (uint64_t) plan.slot_count * MAYDAY_SLOT_SIZE;
    plan.data_offset = (plan.data_offset + page - 1) / page * page;
    plan.segment_size = plan.data_offset + (uint64_t) plan.slot_count * plan.lane_size;
    return plan;
}

static mayday_rc_t
map_header(mayday_segment_map_t *map, const mayday_segment_t *plan)
{
    void *address = mmap(NULL, plan->data_offset, PROT_READ | PROT_WRITE, MAP_SHARED, map->fd, 0);

    if (address == MAP_FAILED) {
        return MAYDAY_ERROR;
    }
    map->shared = address;
    map->header_size = plan->data_offset;
    map->segment_size = plan->segment_size;
    map->data_offset = plan->data_offset;
    map->slot_count = plan->slot_count;
    map->lane_size = plan->lane_size;
    return MAYDAY_OK;
}

static mayday_rc_t
segment_make(mayday_segment_map_t *map, const mayday_segment_t *plan, uid_t uid, gid_t gid)
{
    if (fchown(map->fd, uid, gid) != 0 || ftruncate(map->fd, (off_t) plan->segment_size) != 0 ||
        allocate(map->fd, 0, (off_t) plan->data_offset) != MAYDAY_OK ||
        map_header(map, plan) != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }

    mayday_segment_t *shared = map->shared;
    shared->segment_size = plan->segment_size;
    shared->slot_count = plan->slot_count;
    shared->lane_size = plan->lane_size;
    shared->data_offset = plan->data_offset;
    memcpy(shared->id, plan->id, sizeof(shared->id));
    shared->created_us = mayday_clock_us();
    /* A reader that looks now must not take a half-made segment for a whole one. */
    atomic_thread_fence(memory_order_release);
    memcpy(shared->magic, MAYDAY_SEGMENT_MAGIC, sizeof(shared->magic));
    return MAYDAY_OK;
}

static mayday_rc_t
segment_create(mayday_segment_map_t *map, int dirfd, mayday_segment_t *plan, uid_t uid, gid_t gid)
{
    char hex[2 * sizeof(plan->id) + 1];

    if (mayday_random(plan->id, sizeof(plan->id)) != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    mayday_hex(hex, plan->id, sizeof(plan->id));
    snprintf(map->name, sizeof(map->name), "%s%s", MAYDAY_SEGMENT_PREFIX, hex);

    map->fd = openat(dirfd, map->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (map->fd == -1) {
        return MAYDAY_ERROR;
    }
    if (segment_make(map, plan, uid, gid) != MAYDAY_OK) {
        int error = errno;
        unlinkat(dirfd, map->name, 0);
        errno = error;
        return MAYDAY_ERROR;
    }
    return MAYDAY_OK;
}

static mayday_rc_t
segment_open_existing(mayday_segment_map_t *map, int dirfd, const char *name,
                      const mayday_segment_t *plan)
{
    mayday_segment_t found;
    struct stat st;

    if (strlen(name) >= sizeof(map->name)) {
        errno = ENAMETOOLONG;
        return MAYDAY_ERROR;
    }
    memcpy(map->name, name, strlen(name) + 1);
    map->fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (map->fd == -1 || fstat(map->fd, &st) != 0) {
        return MAYDAY_ERROR;
    }
    if (!S_ISREG(st.st_mode) ||
        pread(map->fd, &found, sizeof(found), 0) != (ssize_t) sizeof(found) ||
        !mayday_segment_is_sane(&found, (uint64_t) st.st_size) ||
        found.slot_count != plan->slot_count || found.lane_size != plan->lane_size ||
        found.data_offset != plan->data_offset) {
        return MAYDAY_INVALID;
    }
    return map_header(map, plan);
}

mayday_rc_t
mayday_segment_open(mayday_segment_map_t *map, int dirfd, const char *name, uint32_t slot_count,
                    uint32_t lane_size, uid_t uid, gid_t gid)
{
    mayday_segment_t plan = segment_plan(slot_count, lane_size);
    mayday_rc_t rc;

    memset(map, 0, sizeof(*map));
    map->fd = -1;
    if (name[0] == '\0') {
        rc = segment_create(map, dirfd, &plan, uid, gid);
    } else {
        rc = segment_open_existing(map, dirfd, name, &plan);
    }
    if (rc != MAYDAY_OK) {
        int error = errno;
        mayday_segment_close(map);
        errno = error;
    }
    return rc;
}

void
mayday_segment_close(mayday_segment_map_t *map)
{
    if (map->shared != NULL) {
        munmap(map->shared, map->header_size);
    }
    if (map->fd != -1) {
        close(map->fd);
    }
    memset(map, 0, sizeof(*map));
    map->fd = -1;
}

/* ---- slots: locks and claims ---- */

static int
slot_lock_op(int fd, int command, short type, uint32_t index)
{
    struct flock lock = {.l_type = type,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t) MAYDAY_SLOT_LOCK_OFFSET + index,
                         .l_len = 1};

    if (fcntl(fd, command, &lock) != 0) {
        return -1;
    }
    return lock.l_type;
}

static bool
slot_try_lock(int fd, uint32_t index)
{
    return slot_lock_op(fd, F_SETLK, F_WRLCK, index) != -1;
}

static void
slot_unlock(int fd, uint32_t index)
{
    slot_lock_op(fd, F_SETLK, F_UNLCK, index);
}

static uint32_t
slot_state(const mayday_segment_map_t *map, uint32_t index)
{
    return atomic_load_explicit(&mayday_segment_slot(map->shared, index)->state,
                                memory_order_acquire);
}

/* Locks a free slot, or SLOT_NONE. */
static uint32_t
lock_free_slot(const mayday_segment_map_t *map)
{
    for (uint32_t i = 0; i < map->slot_count; i++) {
        if (slot_state(map, i) != MAYDAY_SLOT_FREE || !slot_try_lock(map->fd, i)) {
            continue;
        }
        if (slot_state(map, i) == MAYDAY_SLOT_FREE) {
            return i;
        }
        slot_unlock(map->fd, i);
    }
    return SLOT_NONE;
}

/* Locks the slot of the owner that died longest ago by its claim, or SLOT_NONE. */
static uint32_t
lock_dead_slot(const mayday_segment_map_t *map)
{
    uint64_t after_us = 0;
    uint32_t after_index = SLOT_NONE;

    /* From the oldest to the newest; one that somebody else takes first is passed over. */
    for (uint32_t tries = 0; tries < map->slot_count; tries++) {
        uint64_t oldest_us = UINT64_MAX;
        uint32_t oldest = SLOT_NONE;
        for (uint32_t i = 0; i < map->slot_count; i++) {
            uint64_t us = mayday_segment_slot(map->shared, i)->claimed_us;
            bool is_after =
                after_index == SLOT_NONE || us > after_us || (us == after_us && i > after_index);
            if (is_after && us < oldest_us &&
                slot_lock_op(map->fd, F_GETLK, F_WRLCK, i) == F_UNLCK) {
                oldest_us = us;
                oldest = i;
            }
        }
        if (oldest == SLOT_NONE || slot_try_lock(map->fd, oldest)) {
            return oldest;
        }
        after_us = oldest_us;
        after_index = oldest;
    }
    return SLOT_NONE;
}

/*
 * Allocates and maps the ring twice in a row; NULL: no memory. Touching tmpfs
 * pages that were never allocated is a SIGBUS when the file system is full.
 */
static uint8_t *
ring_map(const mayday_segment_map_t *map, uint32_t index)
{
    size_t size = map->lane_size;
    off_t offset = (off_t) (map->data_offset + (uint64_t) index * size);

    if (allocate(map->fd, offset, (off_t) size) != MAYDAY_OK) {
        return NULL;
    }
    uint8_t *ring = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED) {
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        if (mmap(ring + (size_t) i * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 map->fd, offset) == MAP_FAILED) {
            munmap(ring, 2 * size);
            return NULL;
        }
    }
    return ring;
}

/* What is unread in the slot of a dead owner; no more than its ring can hold. */
static uint64_t
slot_unread(mayday_slot_t *slot, uint32_t lane_size)
{
    uint64_t records = atomic_load_explicit(&slot->records, memory_order_relaxed);
    uint64_t records_read = atomic_load_explicit(&slot->records_read, memory_order_relaxed);
    uint64_t unread_max = lane_size / sizeof(mayday_record_header_t);

    if (records_read >= records) {
        return 0;
    }
    return records - records_read < unread_max ? records - records_read : unread_max;
}

/* The slot's lock is held; its next life begins. Order: see lane_format.h. */
static void
slot_begin_life(mayday_lane_t *lane, mayday_slot_t *slot)
{
    bool was_free = atomic_load_explicit(&slot->state, memory_order_relaxed) == MAYDAY_SLOT_FREE;
    uint64_t generation = atomic_load_explicit(&slot->generation, memory_order_relaxed) + 1;
    uint64_t first = mayday_lane_first_position(generation);

    if (!was_free) {
        atomic_fetch_add_explicit(&lane->segment->shared->lost_records,
                                  slot_unread(slot, lane->lane_size), memory_order_relaxed);
    }
    atomic_store_explicit(&slot->generation, generation, memory_order_release);
    atomic_store_explicit(&slot->state, MAYDAY_SLOT_FREE, memory_order_release);
    if (was_free) {
        atomic_store_explicit(&slot->counters_generation, generation, memory_order_release);
        for (size_t i = 0; i < MAYDAY_COUNTER_MAX; i++) {
            atomic_store_explicit(&slot->counters[i], 0, memory_order_release);
        }
        for (size_t i = 0; i < MAYDAY_KIND_MAX; i++) {
            atomic_store_explicit(&slot->ignored[i], 0, memory_order_release);
        }
    }
    atomic_store_explicit(&slot->head, first, memory_order_release);
    atomic_store_explicit(&slot->tail, first, memory_order_release);
    atomic_store_explicit(&slot->records, 0, memory_order_release);
    atomic_store_explicit(&slot->records_read, 0, memory_order_release);
    slot->pid = (uint32_t) getpid();
    slot->claimed_us = mayday_clock_us();
    memcpy(slot->settings, lane->settings, sizeof(slot->settings));
    atomic_store_explicit(&slot->state, MAYDAY_SLOT_ACTIVE, memory_order_release);

    lane->generation = generation;
    lane->tail = first;
    lane->offset = (uint32_t) (first % lane->lane_size);
    lane->records = 0;
}

/* Moves what was counted without a slot into the slot. */
static void
fold_no_slot(mayday_lane_t *lane, mayday_slot_t *slot)
{
    for (size_t i = 0; i < MAYDAY_COUNTER_MAX; i++) {
        mayday_counter_add(&slot->counters[i], atomic_exchange(&lane->no_slot.counters[i], 0),
                           lane->threaded);
    }
    for (size_t i = 0; i < MAYDAY_KIND_MAX; i++) {
        mayday_counter_add(&slot->ignored[i], atomic_exchange(&lane->no_slot.ignored[i], 0),
                           lane->threaded);
    }
}

/* A shrunken file would be a SIGBUS, and one without a name has no reader. */
static bool
segment_is_usable(const mayday_segment_map_t *map)
{
    struct stat st;

    return map != NULL && map->fd != -1 && fstat(map->fd, &st) == 0 && st.st_nlink > 0 &&
           (uint64_t) st.st_size == map->segment_size;
}

static mayday_rc_t
claim(mayday_lane_t *lane)
{
    const mayday_segment_map_t *map = lane->segment;

    if (lane->ring != NULL) {
        return MAYDAY_OK;
    }
    lane->retry_us = mayday_clock_monotonic_us() + CLAIM_RETRY_US;
    if (!segment_is_usable(map)) {
        return MAYDAY_FULL;
    }
    uint32_t index = lock_free_slot(map);
    if (index == SLOT_NONE) {
        index = lock_dead_slot(map);
    }
    if (index == SLOT_NONE) {
        return MAYDAY_FULL;
    }
    uint8_t *ring = ring_map(map, index);
    if (ring == NULL) {
        slot_unlock(map->fd, index);
        return MAYDAY_FULL;
    }

    mayday_slot_t *slot = mayday_segment_slot(map->shared, index);
    lane->lane_size = map->lane_size;
    lane->record_size_max =
        map->lane_size / 4 < MAYDAY_RECORD_SIZE_MAX ? map->lane_size / 4 : MAYDAY_RECORD_SIZE_MAX;
    lane->index = index;
    lane->ring = ring;
    slot_begin_life(lane, slot);
    atomic_store_explicit(&lane->slot, slot, memory_order_release);
    fold_no_slot(lane, slot);
    return MAYDAY_OK;
}

/* ---- the lane: serving processes ---- */

void
mayday_lane_init(mayday_lane_t *lane, mayday_segment_map_t *segment,
                 const uint8_t settings[MAYDAY_HASH_BYTES], bool threaded)
{
    memset(lane, 0, sizeof(*lane));
    atomic_init(&lane->slot, &lane->no_slot);
    lane->segment = segment;
    lane->threaded = threaded;
    memcpy(lane->settings, settings, sizeof(lane->settings));
}

static void
lock(mayday_lane_t *lane)
{
    if (lane->threaded) {
        mayday_lock(&lane->lock);
    }
}

static void
unlock(mayday_lane_t *lane)
{
    if (lane->threaded) {
        mayday_unlock(&lane->lock);
    }
}

mayday_rc_t
mayday_lane_claim(mayday_lane_t *lane)
{
    lock(lane);
    mayday_rc_t rc = claim(lane);
    unlock(lane);
    return rc;
}

/* Goes on without a lane; the slot itself is not touched. */
static void
detach(mayday_lane_t *lane)
{
    atomic_store_explicit(&lane->slot, &lane->no_slot, memory_order_release);
    munmap(lane->ring, 2 * (size_t) lane->lane_size);
    lane->ring = NULL;
}

void
mayday_lane_release(mayday_lane_t *lane)
{
    lock(lane);
    if (lane->ring != NULL) {
        mayday_slot_t *slot = atomic_load_explicit(&lane->slot, memory_order_relaxed);
        detach(lane);
        fold_no_slot(lane, slot);
        atomic_store_explicit(&slot->state, MAYDAY_SLOT_CLOSED, memory_order_release);
        slot_unlock(lane->segment->fd, lane->index);
    }
    lane->retry_us = CLAIM_NEVER;
    unlock(lane);
}

/* No lane: tries to get one if it is time; what stays without is counted. */
static mayday_rc_t
begin_without_lane(mayday_lane_t *lane)
{
    if (lane->retry_us != CLAIM_NEVER && mayday_clock_monotonic_us() >= lane->retry_us &&
        claim(lane) == MAYDAY_OK) {
        return MAYDAY_OK;
    }
    if (lane->segment != NULL && lane->segment->fd != -1) {
        atomic_fetch_add_explicit(&lane->segment->shared->dropped_no_slot, 1, memory_order_relaxed);
    } else {
        mayday_lane_count(lane, MAYDAY_COUNTER_DROPPED_NO_LANE);
    }
    return MAYDAY_FULL;
}

/* Bytes that may be written, or 0; the loss is counted. head is hostile. */
static uint32_t
room(mayday_lane_t *lane, mayday_slot_t *slot)
{
    uint64_t used = lane->tail - atomic_load_explicit(&slot->head, memory_order_acquire);

    if (MAYDAY_UNLIKELY(used > lane->lane_size || used % 8 != 0)) {
        mayday_lane_count(lane, MAYDAY_COUNTER_DROPPED_INTERNAL);
        return 0;
    }
    uint32_t left = lane->lane_size - (uint32_t) used;
    if (MAYDAY_UNLIKELY(left < MAYDAY_RECORD_SIZE_MIN)) {
        mayday_lane_count(lane, MAYDAY_COUNTER_DROPPED_LANE_FULL);
        return 0;
    }
    return left < lane->record_size_max ? left : lane->record_size_max;
}

mayday_rc_t
mayday_lane_begin(mayday_lane_t *lane, mayday_record_t *record)
{
    lock(lane);
    mayday_slot_t *slot = atomic_load_explicit(&lane->slot, memory_order_relaxed);
    if (MAYDAY_UNLIKELY(lane->ring != NULL &&
                        atomic_load_explicit(&slot->generation, memory_order_relaxed) !=
                            lane->generation)) {
        /* Something closed the file, our lock went, and another has the slot now. */
        detach(lane);
    }
    if (MAYDAY_UNLIKELY(lane->ring == NULL)) {
        if (begin_without_lane(lane) != MAYDAY_OK) {
            unlock(lane);
            return MAYDAY_FULL;
        }
        slot = atomic_load_explicit(&lane->slot, memory_order_relaxed);
    }
    uint32_t size = room(lane, slot);
    if (size == 0) {
        unlock(lane);
        return MAYDAY_FULL;
    }
    record->lane = lane;
    record->start = lane->ring + lane->offset;
    record->pos = record->start + sizeof(mayday_record_header_t);
    record->end = record->start + size - RECORD_PADDING;
    record->flags = 0;
    return MAYDAY_OK;
}

/* At most one writer wakes the reader for each time that it sleeps. */
static void
wake_reader(mayday_segment_t *segment)
{
    if (atomic_exchange_explicit(&segment->reader_asleep, 0, memory_order_relaxed) != 0) {
        syscall(SYS_futex, &segment->reader_asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

void
mayday_lane_commit(mayday_record_t *record)
{
    static const uint8_t zeroes[RECORD_PADDING];
    mayday_lane_t *lane = record->lane;
    mayday_slot_t *slot = atomic_load_explicit(&lane->slot, memory_order_relaxed);
    mayday_segment_t *segment = lane->segment->shared;
    uint32_t size = ((uint32_t) (record->pos - record->start) + 7u) & ~7u;
    mayday_record_header_t header = {MAYDAY_RECORD_MAGIC, size, lane->records, record->flags, 0};

    memcpy(record->pos, zeroes, sizeof(zeroes));
    memcpy(record->start, &header, sizeof(header));
    lane->records++;
    lane->tail += size;
    lane->offset += size;
    if (lane->offset >= lane->lane_size) {
        lane->offset -= lane->lane_size;
    }

    mayday_lane_count(lane, MAYDAY_COUNTER_CAPTURED);
    if ((record->flags & MAYDAY_RECORD_TRUNCATED) != 0) {
        mayday_lane_count(lane, MAYDAY_COUNTER_TRUNCATED);
    }
    atomic_store_explicit(&slot->records, lane->records, memory_order_relaxed);
    atomic_store_explicit(&slot->tail, lane->tail, memory_order_release);
    /* Our tail before the reader's flag, as it sets its flag before it looks at tails. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&segment->reader_asleep, memory_order_relaxed) != 0) {
        wake_reader(segment);
    }
    unlock(lane);
}

void
mayday_lane_abort(mayday_record_t *record)
{
    mayday_lane_count(record->lane, MAYDAY_COUNTER_DROPPED_INTERNAL);
    unlock(record->lane);
}
