/* Lanes, the reading side: order, loss, hostile segments, sleep, recovery. */
#include "tests/unit/lane_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "core/agent/lane_reader.h"

#define LANE_SIZE MAYDAY_LANE_SIZE_MIN

/* ---- what the store would remember ---- */

typedef struct {
    bool known;
    uint64_t position, records_read;
    int asked;
} memory_t;

static bool
resume(void *ctx, const mayday_lane_key_t *key, uint64_t *position, uint64_t *records_read)
{
    memory_t *memory = ctx;

    memory->asked++;
    (void) key;
    *position = memory->position;
    *records_read = memory->records_read;
    return memory->known;
}

static mayday_lanes_t *
reader_open(lane_fixture_t *f, memory_t *memory)
{
    mayday_lanes_t *lanes = mayday_lanes_new(f->run_dir, resume, memory);

    assert_non_null(lanes);
    mayday_lanes_scan(lanes, f->map.name);
    return lanes;
}

/* The number of a record of write_numbered; the test fails if it is torn. */
static uint64_t
check_record(const mayday_lane_record_t *record)
{
    uint64_t number = mayday_view_u64(&record->view, TIME_US);
    mayday_slice_t text = mayday_view_text(&record->view, PATH);

    assert_int_equal(mayday_view_u64(&record->view, KIND), number % MAYDAY_KIND_MAX);
    assert_int_equal(mayday_view_u64(&record->view, STATUS), 502);
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] != (char) ('a' + (int) (number % 26))) {
            fail_msg("record %llu is torn at byte %zu", (unsigned long long) number, i);
        }
    }
    return number;
}

/* Reads all that is there; returns how many, adds up what was lost. */
static uint64_t
drain(mayday_lanes_t *lanes, uint64_t *lost)
{
    static mayday_lane_record_t record;
    uint64_t read = 0, n;

    do {
        for (n = 0; mayday_lanes_next(lanes, &record) == MAYDAY_OK; n++) {
            *lost += record.lost;
        }
        mayday_lanes_release(lanes);
        read += n;
    } while (n > 0);
    return read;
}

static uint64_t
reclaim_all(mayday_lanes_t *lanes, uint64_t *lost)
{
    mayday_lane_info_t info;
    uint64_t n = 0;

    while (mayday_lanes_next_dead(lanes, &info) == MAYDAY_OK) {
        *lost += info.records - info.records_read;
        mayday_lanes_reclaim(lanes);
        n++;
    }
    return n;
}

/* ---- order and loss ---- */

static void
test_next__no_segment_no_records(void **state)
{
    static mayday_lane_record_t record;
    mayday_lane_info_t info;
    memory_t memory = {0};
    mayday_lanes_t *lanes = mayday_lanes_new("/nonexistent", resume, &memory);

    (void) state;
    mayday_lanes_scan(lanes, "");
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_END);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_END);
    assert_false(mayday_lanes_any_alive(lanes));
    mayday_lanes_release(lanes);
    mayday_lanes_wait(lanes, 1);
    mayday_lanes_free(lanes);
}

typedef struct {
    uint64_t records;
    uint64_t first_position; /* 0: as claimed */
    size_t len_max;
} hammer_t;

static void
body_hammer(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    const hammer_t *hammer = arg;

    if (hammer->first_position != 0) {
        mayday_slot_t *slot = fixture_slot(f, lane->index);
        lane->tail = hammer->first_position;
        lane->offset = (uint32_t) (lane->tail % lane->lane_size);
        atomic_store(&slot->head, lane->tail);
        atomic_store(&slot->tail, lane->tail);
    }
    for (uint64_t i = 0; i < hammer->records; i++) {
        while (commit_numbered(lane, i, i * 31 % hammer->len_max) != MAYDAY_OK) {
            sched_yield();
        }
    }
}

static void
hammer(uint64_t records, uint64_t first_position, size_t len_max, uint32_t lane_size)
{
    static mayday_lane_record_t record;
    hammer_t arg = {records, first_position, len_max};
    memory_t memory = {0};
    lane_fixture_t f;
    uint64_t read = 0;

    fixture_open(&f, 1, lane_size);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    owner_t owner = owner_start(&f, body_hammer, &arg);
    while (read < records) {
        mayday_lanes_wait(lanes, 1000);
        while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
            assert_int_equal(check_record(&record), read);
            assert_int_equal(record.view.sequence, read);
            assert_int_equal(record.lost, 0);
            assert_memory_equal(record.settings, fixture_settings, MAYDAY_HASH_BYTES);
            read++;
            assert_int_equal(record.records_read, read);
        }
        mayday_lanes_release(lanes);
    }
    assert_int_equal(owner_wait(&owner), '.');
    owner_end(&owner);
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->records), records);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__two_processes_hammer_a_lane(void **state)
{
    (void) state;
    hammer(50000, 0, 3000, LANE_SIZE);
}

static void
test_next__positions_pass_2_to_the_32(void **state)
{
    (void) state;
    hammer(2000, (UINT64_C(1) << 32) - 100000, 500, LANE_SIZE);
    hammer(2000, (UINT64_C(1) << 63) - 100000, 500, LANE_SIZE + 4096);
}

static void
test_next__lanes_take_turns(void **state)
{
    static mayday_lane_record_t record;
    uint64_t count = 200, seen[3] = {0};
    memory_t memory = {0};
    lane_fixture_t f;
    owner_t owners[3];

    (void) state;
    fixture_open(&f, 3, 4 * LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    for (int i = 0; i < 3; i++) {
        owners[i] = owner_start(&f, body_write, &count);
        owner_wait(&owners[i]);
    }
    while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
        assert_int_equal(check_record(&record), seen[record.key.slot]++);
    }
    assert_true(seen[0] == count && seen[1] == count && seen[2] == count);
    assert_int_equal(memory.asked, 3);
    for (int i = 0; i < 3; i++) {
        owner_end(&owners[i]);
    }
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__a_full_batch_ends_and_goes_on_after_release(void **state)
{
    static mayday_lane_record_t record;
    hammer_t arg = {600, 0, MAYDAY_FIELD_MAX_PATH};
    uint64_t count = 0, lost = 0;
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    /* Nearly 5 MiB in four lanes of 2 MiB. */
    fixture_open(&f, 4, 32 * LANE_SIZE);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(owner_run(&f, body_hammer, &arg), '.');
    }
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
        count++;
    }
    assert_true(count < 2400);
    uint64_t start_us = mayday_clock_monotonic_us();
    mayday_lanes_wait(lanes, 5000);
    assert_true(mayday_clock_monotonic_us() - start_us < 1000000);
    mayday_lanes_release(lanes);
    count += drain(lanes, &lost);
    assert_int_equal(count, 2400);
    assert_int_equal(lost, 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

/* ---- death ---- */

static void
body_die_in_the_middle(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    mayday_record_t record;

    (void) f;
    (void) arg;
    if (commit_numbered(lane, 0, 100) != MAYDAY_OK ||
        mayday_lane_begin(lane, &record) != MAYDAY_OK) {
        _exit(3);
    }
    write_numbered(&record, 1, 100);
}

static void
test_next__killed_in_the_middle_leaves_nothing_visible(void **state)
{
    static mayday_lane_record_t record;
    mayday_lane_info_t info;
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    assert_int_equal(owner_run(&f, body_die_in_the_middle, NULL), '.');
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(check_record(&record), 0);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_END);
    mayday_lanes_release(lanes);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_OK);
    assert_int_equal(info.records, 1);
    assert_int_equal(info.records_read, 1);
    assert_int_equal(info.counters[MAYDAY_COUNTER_CAPTURED], 1);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next_dead__living_and_undrained_lanes_are_not_dead(void **state)
{
    static mayday_lane_record_t record;
    mayday_lane_info_t info;
    memory_t memory = {0};
    uint64_t count = 2;
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    owner_t alive = owner_start(&f, body_nothing, NULL);
    owner_wait(&alive);
    owner_run(&f, body_write, &count);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    assert_true(mayday_lanes_any_alive(lanes));
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_END);
    while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
    }
    /* Read, but not given back: it may not be stored yet. */
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_END);
    mayday_lanes_release(lanes);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_OK);
    assert_int_equal(info.key.slot, 1);
    /* Not reclaimed: it comes again. */
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_OK);
    assert_int_equal(info.key.slot, 1);
    mayday_lanes_reclaim(lanes);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_END);
    assert_int_equal(atomic_load(&fixture_slot(&f, 1)->state), MAYDAY_SLOT_FREE);
    owner_end(&alive);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_OK);
    assert_int_equal(info.key.slot, 0);
    mayday_lanes_reclaim(lanes);
    assert_false(mayday_lanes_any_alive(lanes));
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_reclaim__gives_memory_back_and_the_slot_lives_again(void **state)
{
    memory_t memory = {0};
    uint64_t count = 100, lost = 0;
    struct stat before, after;
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, 16 * LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    for (uint64_t life = 1; life <= 5; life++) {
        assert_int_equal(owner_run(&f, body_write, &count), '.');
        assert_int_equal(fstat(f.map.fd, &before), 0);
        assert_int_equal(drain(lanes, &lost), count);
        assert_int_equal(reclaim_all(lanes, &lost), 1);
        assert_int_equal(fstat(f.map.fd, &after), 0);
        assert_true(before.st_blocks - after.st_blocks >= 16 * LANE_SIZE / 512);
        assert_int_equal(atomic_load(&fixture_slot(&f, 0)->generation), life);
    }
    assert_int_equal(lost, 0);
    assert_int_equal(atomic_load(&f.map.shared->lost_records), 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__dead_lane_taken_by_another_process(void **state)
{
    static mayday_lane_record_t record;
    uint64_t ten = 10, three = 3, lost = 0;
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    owner_run(&f, body_write, &ten);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(record.key.generation, 1);

    /* While it is being read nobody can have it. */
    assert_int_equal(owner_run(&f, body_nothing, NULL), 'F');
    mayday_lanes_release(lanes);
    assert_int_equal(owner_run(&f, body_write, &three), '.');
    assert_int_equal(atomic_load(&f.map.shared->lost_records), 9);

    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(record.key.generation, 2);
    assert_int_equal(check_record(&record), 0);
    assert_int_equal(drain(lanes, &lost), 2);
    assert_int_equal(lost, 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_release__never_moves_the_head_of_a_later_life(void **state)
{
    static mayday_lane_record_t record;
    uint64_t ten = 10, three = 3, lost = 0;
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    owner_t first = owner_start(&f, body_write, &ten);
    owner_wait(&first);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    }
    /* Alive when the batch began, so its lock was not ours; now it dies and is taken. */
    owner_kill(&first);
    assert_int_equal(owner_run(&f, body_write, &three), '.');
    mayday_lanes_release(lanes);
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->head), mayday_lane_first_position(2));
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->records_read), 0);
    assert_int_equal(drain(lanes, &lost), 3);
    assert_int_equal(lost, 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

/* ---- restarts ---- */

static void
test_next__after_a_restart_goes_on_where_the_store_says(void **state)
{
    static mayday_lane_record_t record;
    uint64_t ten = 10, lost = 0;
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    owner_run(&f, body_write, &ten);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    }
    mayday_lanes_free(lanes);

    /* Nothing stored, nothing released: all over again. */
    lanes = reader_open(&f, &memory);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(check_record(&record), 0);
    mayday_lanes_free(lanes);

    memory.known = true;
    memory.position = record.position;
    memory.records_read = record.records_read;
    lanes = reader_open(&f, &memory);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(check_record(&record), 1);
    assert_int_equal(record.lost, 0);
    assert_int_equal(drain(lanes, &lost), 8);
    mayday_lanes_free(lanes);

    /* Stored to the end, but not released: the lane is dead all the same. */
    memory.position = atomic_load(&fixture_slot(&f, 0)->tail);
    memory.records_read = 10;
    atomic_store(&fixture_slot(&f, 0)->head, mayday_lane_first_position(1));
    lanes = reader_open(&f, &memory);
    assert_int_equal(drain(lanes, &lost), 0);
    assert_int_equal(reclaim_all(lanes, &lost), 1);
    assert_int_equal(lost, 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__a_store_that_is_behind_counts_what_is_gone(void **state)
{
    uint64_t ten = 10, lost = 0;
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    owner_run(&f, body_write, &ten);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    static mayday_lane_record_t record;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    }
    mayday_lanes_release(lanes);
    mayday_lanes_free(lanes);

    memory.known = true;
    memory.position = mayday_lane_first_position(1);
    memory.records_read = 0;
    lanes = reader_open(&f, &memory);
    assert_int_equal(drain(lanes, &lost), 6);
    assert_int_equal(lost, 4);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__a_store_that_lies_does_no_harm(void **state)
{
    const uint64_t positions[] = {0, 1, 7, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 41};
    uint64_t ten = 10, lost = 0;
    memory_t memory = {.known = true};
    lane_fixture_t f;

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(positions); i++) {
        fixture_open(&f, 1, LANE_SIZE);
        owner_run(&f, body_write, &ten);
        memory.position = positions[i];
        memory.records_read = UINT64_MAX - 3;
        mayday_lanes_t *lanes = reader_open(&f, &memory);
        drain(lanes, &lost);
        assert_int_equal(drain(lanes, &lost), 0);
        assert_int_equal(reclaim_all(lanes, &lost), 1);
        mayday_lanes_free(lanes);
        fixture_close(&f);
    }
    assert_true(lost <= MAYDAY_COUNT(positions) * LANE_SIZE / 24);
}

/* ---- hostile lanes ---- */

/* Numbers 0 to 4, then 5 to 7, then 8 and 9, each when it is told to. */
static void
body_write_in_steps(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    const uint64_t ends[] = {5, 8, 10};
    _Atomic int *steps_done = arg, *steps_wanted = steps_done + 1;
    uint64_t n = 0;

    (void) f;
    for (int step = 0; step < 3; step++) {
        while (atomic_load(steps_wanted) <= step) {
            sched_yield();
        }
        for (; n < ends[step]; n++) {
            (void) commit_numbered(lane, n, 100);
        }
        atomic_store(steps_done, step + 1);
    }
}

static void
do_step(_Atomic int *steps, int step)
{
    atomic_store(&steps[1], step);
    while (atomic_load(&steps[0]) != step) {
        sched_yield();
    }
}

typedef void (*spoil_pt)(uint8_t *record, mayday_slot_t *slot);

static void
spoil_magic(uint8_t *record, mayday_slot_t *slot)
{
    (void) slot;
    record[0] ^= 1;
}

static void
spoil_size_zero(uint8_t *record, mayday_slot_t *slot)
{
    uint32_t size = 0;

    (void) slot;
    memcpy(record + 4, &size, sizeof(size));
}

static void
spoil_size_odd(uint8_t *record, mayday_slot_t *slot)
{
    (void) slot;
    record[4] += 4;
}

static void
spoil_size_huge(uint8_t *record, mayday_slot_t *slot)
{
    uint32_t size = UINT32_MAX - 7;

    (void) slot;
    memcpy(record + 4, &size, sizeof(size));
}

static void
spoil_size_behind_tail(uint8_t *record, mayday_slot_t *slot)
{
    uint32_t size = 60000;

    (void) slot;
    memcpy(record + 4, &size, sizeof(size));
}

static void
spoil_sequence(uint8_t *record, mayday_slot_t *slot)
{
    (void) slot;
    record[8 + 7] = 0xff;
}

static void
spoil_tail_far(uint8_t *record, mayday_slot_t *slot)
{
    (void) record;
    atomic_fetch_add(&slot->tail, UINT64_C(1) << 40);
}

static void
spoil_tail_back(uint8_t *record, mayday_slot_t *slot)
{
    (void) record;
    atomic_fetch_sub(&slot->tail, UINT64_C(1) << 33);
}

/*
 * Two records are read, the third is spoilt, the writer goes on behind the
 * fifth. What is read and what is counted as lost are all that was written.
 */
static void
resynchronise(spoil_pt spoil, uint64_t read_min)
{
    static mayday_lane_record_t record;
    memory_t memory = {0};
    lane_fixture_t f;
    uint64_t lost = 0, read = 0;
    _Atomic int *steps =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    fixture_open(&f, 1, LANE_SIZE);
    owner_t owner = owner_start(&f, body_write_in_steps, steps);
    do_step(steps, 1);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    }
    mayday_lanes_release(lanes);

    uint8_t *ring = mmap(NULL, LANE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.map.fd,
                         (off_t) f.map.data_offset);
    spoil(ring + record.position % LANE_SIZE, fixture_slot(&f, 0));
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_END);
    mayday_lanes_release(lanes);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_END);

    for (int step = 2; step <= 3; step++) {
        do_step(steps, step);
        while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
            lost += record.lost;
            read++;
        }
        mayday_lanes_release(lanes);
    }
    assert_int_equal(lost + read, 8);
    assert_true(read >= read_min);
    assert_int_equal(check_record(&record), 9);
    assert_int_equal(record.records_read, 10);
    /* And the lane is sound again for its writer, too. */
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->head),
                     atomic_load(&fixture_slot(&f, 0)->tail));
    assert_int_equal(owner_wait(&owner), '.');
    owner_end(&owner);
    munmap(ring, LANE_SIZE);
    munmap(steps, 4096);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__spoilt_record_resynchronises_at_the_tail(void **state)
{
    (void) state;
    resynchronise(spoil_magic, 5);
    resynchronise(spoil_size_zero, 5);
    resynchronise(spoil_size_odd, 5);
    resynchronise(spoil_size_huge, 5);
    resynchronise(spoil_size_behind_tail, 5);
    resynchronise(spoil_sequence, 5);
}

static void
test_next__tail_out_of_bounds_resynchronises(void **state)
{
    (void) state;
    resynchronise(spoil_tail_far, 2);
    resynchronise(spoil_tail_back, 2);
}

static void
test_next__unreadable_contents_cost_that_record_only(void **state)
{
    static mayday_lane_record_t record;
    memory_t memory = {0};
    uint64_t five = 5;
    lane_fixture_t f;
    uint64_t kind = MAYDAY_KIND_MAX;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    owner_run(&f, body_write, &five);
    uint8_t *ring = mmap(NULL, LANE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.map.fd,
                         (off_t) f.map.data_offset);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    mayday_lanes_release(lanes);
    /* TIME_US, then KIND, is how write_numbered begins. */
    uint8_t *payload = ring + record.position % LANE_SIZE + 24 + 12 + 4;
    memcpy(payload, &kind, sizeof(kind));
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(check_record(&record), 2);
    assert_int_equal(record.lost, 1);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    assert_int_equal(record.lost, 0);
    munmap(ring, LANE_SIZE);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next_dead__unreadable_end_is_lost(void **state)
{
    static mayday_lane_record_t record;
    memory_t memory = {0};
    uint64_t five = 5, lost = 0;
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    owner_run(&f, body_write, &five);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
    mayday_lanes_release(lanes);
    assert_int_equal(fallocate(f.map.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t) f.map.data_offset, LANE_SIZE),
                     0);
    assert_int_equal(drain(lanes, &lost), 0);
    assert_int_equal(reclaim_all(lanes, &lost), 1);
    assert_int_equal(lost, 4);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_next__shortened_file_is_no_signal(void **state)
{
    static mayday_lane_record_t record;
    mayday_lane_info_t info;
    memory_t memory = {0};
    uint64_t five = 5;
    lane_fixture_t f;

    (void) state;
    for (int i = 0; i < 3; i++) {
        fixture_open(&f, 2, LANE_SIZE);
        owner_run(&f, body_write, &five);
        mayday_lanes_t *lanes = reader_open(&f, &memory);
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_OK);
        /* In the rings; behind the header; to nothing. */
        off_t sizes[] = {(off_t) f.map.data_offset + 40, 4096, 0};
        assert_int_equal(ftruncate(f.map.fd, sizes[i]), 0);
        mayday_lanes_wait(lanes, 1);
        while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
        }
        mayday_lanes_release(lanes);
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_END);
        while (mayday_lanes_next_dead(lanes, &info) == MAYDAY_OK) {
            mayday_lanes_reclaim(lanes);
        }
        mayday_lanes_wake(lanes);
        mayday_lanes_scan(lanes, f.map.name);
        assert_int_equal(mayday_lanes_next(lanes, &record), MAYDAY_END);
        mayday_lanes_release(lanes);
        mayday_lanes_free(lanes);
        fixture_close(&f);
    }
}

/* Writes nonsense over slot and ring for as long as it lives. */
static void
body_scribble(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    uint8_t *slot = (uint8_t *) fixture_slot(f, 0);
    uint8_t *ring = mmap(NULL, LANE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->map.fd,
                         (off_t) f->map.data_offset);
    uint64_t random = 88172645463325252u;

    (void) arg;
    for (uint64_t i = 0; i < 300000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        switch (random % 8) {
        case 0:
            memcpy(slot + random / 8 % (sizeof(mayday_slot_t) - 8), &random, 1 + random % 8);
            break;
        case 1:
            memcpy(ring + random / 8 % (LANE_SIZE - 8), &random, 1 + random % 8);
            break;
        case 2:
            atomic_store(&fixture_slot(f, 0)->tail, random / 8 % (4 * LANE_SIZE));
            break;
        case 3:
            atomic_store(&fixture_slot(f, 0)->state, (uint32_t) (random / 8 % 4));
            break;
        default:
            (void) commit_numbered(lane, i, 50);
            break;
        }
    }
}

static void
test_next__survives_a_process_that_writes_nonsense(void **state)
{
    static mayday_lane_record_t record;
    mayday_lane_info_t info;
    memory_t memory = {0};
    lane_fixture_t f;
    uint64_t rounds = 0;
    siginfo_t ended;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    owner_t scribbler = owner_start(&f, body_scribble, NULL);
    char c;
    fcntl(scribbler.ready_fd, F_SETFL, O_NONBLOCK);
    while (read(scribbler.ready_fd, &c, 1) != 1) {
        ended.si_pid = 0;
        assert_int_equal(waitid(P_PID, (id_t) scribbler.pid, &ended, WEXITED | WNOHANG | WNOWAIT),
                         0);
        assert_int_equal(ended.si_pid, 0);
        for (int i = 0; i < 1000 && mayday_lanes_next(lanes, &record) == MAYDAY_OK; i++) {
            assert_true(record.lost <= LANE_SIZE / 24);
            assert_true(mayday_view_u64(&record.view, KIND) < MAYDAY_KIND_MAX);
        }
        mayday_lanes_release(lanes);
        if (rounds++ % 16 == 0) {
            mayday_lanes_scan(lanes, f.map.name);
            if (mayday_lanes_next_dead(lanes, &info) == MAYDAY_OK) {
                mayday_lanes_reclaim(lanes);
            }
        }
    }
    owner_kill(&scribbler);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

/* ---- sleep ---- */

static void
body_ping(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    _Atomic uint64_t *read = arg;

    (void) f;
    /* One record at a time, each as soon as the last was read, after some spinning:
     * so that it meets the reader at every point on its way to sleep. */
    for (uint64_t i = 0; i < 20000; i++) {
        while (atomic_load(read) != i) {
            if (i % 64 == 0) {
                sched_yield();
            }
        }
        for (volatile uint64_t spin = 0; spin < i * 7919 % 3000; spin++) {
        }
        mayday_record_t record;
        if (mayday_lane_begin(lane, &record) != MAYDAY_OK) {
            _exit(3);
        }
        mayday_record_u64(&record, MAYDAY_FIELD_TIME_US, mayday_clock_monotonic_us());
        mayday_record_u64(&record, MAYDAY_FIELD_KIND, 1);
        mayday_lane_commit(&record);
    }
}

static void
test_wait__no_wakeup_is_lost(void **state)
{
    static mayday_lane_record_t record;
    memory_t memory = {0};
    lane_fixture_t f;
    uint64_t count = 0, worst_us = 0;
    _Atomic uint64_t *read_so_far =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    owner_t owner = owner_start(&f, body_ping, read_so_far);
    while (count < 20000) {
        mayday_lanes_wait(lanes, 10000);
        while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
            uint64_t us = mayday_clock_monotonic_us() - mayday_view_u64(&record.view, TIME_US);
            worst_us = us > worst_us ? us : worst_us;
            count++;
            mayday_lanes_release(lanes);
            atomic_store(read_so_far, count);
        }
    }
    /* A lost wake-up would show as 10 s; a busy machine may take some of its own. */
    print_message("worst latency %llu us\n", (unsigned long long) worst_us);
    assert_true(worst_us < 1000000);
    assert_int_equal(owner_wait(&owner), '.');
    owner_end(&owner);
    munmap(read_so_far, 4096);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
body_write_late(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    mayday_record_t record;

    (void) f;
    (void) arg;
    for (int i = 0; i < 10; i++) {
        usleep(20000);
        if (mayday_lane_begin(lane, &record) != MAYDAY_OK) {
            _exit(3);
        }
        mayday_record_u64(&record, MAYDAY_FIELD_TIME_US, mayday_clock_monotonic_us());
        mayday_record_u64(&record, MAYDAY_FIELD_KIND, 1);
        mayday_lane_commit(&record);
    }
}

static void
test_wait__a_single_record_wakes_the_sleeper_at_once(void **state)
{
    static mayday_lane_record_t record;
    memory_t memory = {0};
    lane_fixture_t f;
    uint64_t best_us = UINT64_MAX;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    owner_t owner = owner_start(&f, body_write_late, NULL);
    for (int count = 0; count < 10;) {
        mayday_lanes_wait(lanes, 10000);
        while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
            uint64_t us = mayday_clock_monotonic_us() - mayday_view_u64(&record.view, TIME_US);
            best_us = us < best_us ? us : best_us;
            count++;
        }
        mayday_lanes_release(lanes);
    }
    assert_true(best_us < 50000);
    owner_wait(&owner);
    owner_end(&owner);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void *
wake_later(void *arg)
{
    usleep(20000);
    mayday_lanes_wake(arg);
    return NULL;
}

static void
test_wake__from_another_thread_before_and_while_sleeping(void **state)
{
    memory_t memory = {0};
    lane_fixture_t f;
    pthread_t thread;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *with = reader_open(&f, &memory);
    mayday_lanes_t *without = mayday_lanes_new("/nonexistent", resume, &memory);
    mayday_lanes_t *all[] = {with, without};
    for (size_t i = 0; i < MAYDAY_COUNT(all); i++) {
        uint64_t start_us = mayday_clock_monotonic_us();
        mayday_lanes_wake(all[i]);
        mayday_lanes_wait(all[i], 10000);
        assert_int_equal(pthread_create(&thread, NULL, wake_later, all[i]), 0);
        mayday_lanes_wait(all[i], 10000);
        pthread_join(thread, NULL);
        assert_true(mayday_clock_monotonic_us() - start_us < 5000000);
        mayday_lanes_free(all[i]);
    }
    fixture_close(&f);
}

static void
test_wait__ends_after_its_time(void **state)
{
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    uint64_t start_us = mayday_clock_monotonic_us();
    mayday_lanes_wait(lanes, 30);
    assert_true(mayday_clock_monotonic_us() - start_us >= 30000);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

/* ---- segments that come and go ---- */

static void
make_old(lane_fixture_t *f, const char *name)
{
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

    assert_int_equal(utimensat(f->dirfd, name, times, 0), 0);
}

static void
test_scan__old_segment_is_read_folded_and_removed(void **state)
{
    memory_t memory = {0};
    lane_fixture_t f;
    mayday_segment_map_t next;
    mayday_lane_info_t info;
    uint64_t five = 5, lost = 0;
    char old_name[64];

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    memcpy(old_name, f.map.name, sizeof(old_name));
    owner_run(&f, body_write, &five);
    owner_t without_lane = owner_start(&f, body_nothing, NULL);
    owner_wait(&without_lane); /* takes the dead lane: five are lost */
    owner_end(&without_lane);
    atomic_store(&f.map.shared->dropped_no_slot, 2);

    assert_int_equal(mayday_segment_open(&next, f.dirfd, "", 2, LANE_SIZE, (uid_t) -1, (gid_t) -1),
                     MAYDAY_OK);
    mayday_segment_close(&f.map);
    f.map = next;
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    assert_int_equal(drain(lanes, &lost), 0);
    assert_int_equal(reclaim_all(lanes, &lost), 1);

    /* Empty, but not long enough; then it is. */
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_END);
    make_old(&f, old_name);
    make_old(&f, f.map.name);
    mayday_lanes_scan(lanes, f.map.name);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_OK);
    assert_int_equal(info.key.slot, MAYDAY_LANE_SEGMENT_SLOT);
    assert_int_equal(info.records - info.records_read, 5);
    assert_int_equal(info.counters[MAYDAY_COUNTER_DROPPED_NO_LANE], 2);
    mayday_lanes_reclaim(lanes);
    assert_int_not_equal(faccessat(f.dirfd, old_name, F_OK, 0), 0);
    assert_int_equal(mayday_lanes_next_dead(lanes, &info), MAYDAY_END);
    assert_int_equal(faccessat(f.dirfd, f.map.name, F_OK, 0), 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_scan__foreign_files_are_left_until_they_are_old(void **state)
{
    memory_t memory = {0};
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    int fd = openat(f.dirfd, "lanes-foreign", O_RDWR | O_CREAT, 0600);
    assert_true(write(fd, "MAYDAY\0\2", 8) == 8);
    close(fd);
    assert_int_equal(mkdirat(f.dirfd, "lanes-directory", 0700), 0);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    assert_int_equal(faccessat(f.dirfd, "lanes-foreign", F_OK, 0), 0);
    make_old(&f, "lanes-foreign");
    make_old(&f, "lanes-directory");
    mayday_lanes_scan(lanes, f.map.name);
    assert_int_not_equal(faccessat(f.dirfd, "lanes-foreign", F_OK, 0), 0);
    assert_int_equal(unlinkat(f.dirfd, "lanes-directory", AT_REMOVEDIR), 0);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

static void
test_wait__writers_of_an_old_segment_are_heard(void **state)
{
    static mayday_lane_record_t record;
    memory_t memory = {0};
    lane_fixture_t f;
    mayday_segment_map_t next;
    char old_name[64];
    uint64_t count = 0;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    memcpy(old_name, f.map.name, sizeof(old_name));
    assert_int_equal(mayday_segment_open(&next, f.dirfd, "", 1, LANE_SIZE, (uid_t) -1, (gid_t) -1),
                     MAYDAY_OK);
    owner_t owner = owner_start(&f, body_write_late, NULL);
    while (atomic_load(&fixture_slot(&f, 0)->state) != MAYDAY_SLOT_ACTIVE) {
        sched_yield();
    }
    mayday_lanes_t *lanes = mayday_lanes_new(f.run_dir, resume, &memory);
    mayday_lanes_scan(lanes, next.name);
    uint64_t start_us = mayday_clock_monotonic_us();
    while (count < 10) {
        mayday_lanes_wait(lanes, 10000);
        while (mayday_lanes_next(lanes, &record) == MAYDAY_OK) {
            count++;
        }
        mayday_lanes_release(lanes);
    }
    assert_true(mayday_clock_monotonic_us() - start_us < 5000000);
    owner_wait(&owner);
    owner_end(&owner);
    mayday_lanes_free(lanes);
    mayday_segment_close(&f.map);
    unlinkat(f.dirfd, old_name, 0);
    f.map = next;
    fixture_close(&f);
}

/* ---- numbers ---- */

static void
add_up(void *ctx, const mayday_lane_info_t *info)
{
    mayday_lane_info_t *sum = ctx;

    sum->records += info->records;
    sum->unread_bytes += info->unread_bytes;
    sum->counters[MAYDAY_COUNTER_CAPTURED] += info->counters[MAYDAY_COUNTER_CAPTURED];
    sum->alive = info->alive;
}

static void
test_visit__shows_what_the_lanes_say(void **state)
{
    memory_t memory = {0};
    uint64_t five = 5, no_slot, lost;
    mayday_lane_info_t sum;
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    atomic_store(&f.map.shared->dropped_no_slot, 3);
    owner_t owner = owner_start(&f, body_write, &five);
    owner_wait(&owner);
    mayday_lanes_t *lanes = reader_open(&f, &memory);
    memset(&sum, 0, sizeof(sum));
    mayday_lanes_visit(lanes, add_up, &sum, &no_slot, &lost);
    assert_int_equal(sum.records, 5);
    assert_int_equal(sum.counters[MAYDAY_COUNTER_CAPTURED], 5);
    assert_true(sum.unread_bytes > 500 && sum.unread_bytes < 5000);
    assert_true(sum.alive);
    assert_int_equal(no_slot, 3);
    assert_int_equal(lost, 0);
    owner_end(&owner);
    mayday_lanes_scan(lanes, f.map.name);
    mayday_lanes_visit(lanes, add_up, &sum, &no_slot, &lost);
    assert_false(sum.alive);
    mayday_lanes_free(lanes);
    fixture_close(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next__no_segment_no_records),
        cmocka_unit_test(test_next__two_processes_hammer_a_lane),
        cmocka_unit_test(test_next__positions_pass_2_to_the_32),
        cmocka_unit_test(test_next__lanes_take_turns),
        cmocka_unit_test(test_next__a_full_batch_ends_and_goes_on_after_release),
        cmocka_unit_test(test_next__killed_in_the_middle_leaves_nothing_visible),
        cmocka_unit_test(test_next_dead__living_and_undrained_lanes_are_not_dead),
        cmocka_unit_test(test_reclaim__gives_memory_back_and_the_slot_lives_again),
        cmocka_unit_test(test_next__dead_lane_taken_by_another_process),
        cmocka_unit_test(test_release__never_moves_the_head_of_a_later_life),
        cmocka_unit_test(test_next__after_a_restart_goes_on_where_the_store_says),
        cmocka_unit_test(test_next__a_store_that_is_behind_counts_what_is_gone),
        cmocka_unit_test(test_next__a_store_that_lies_does_no_harm),
        cmocka_unit_test(test_next__spoilt_record_resynchronises_at_the_tail),
        cmocka_unit_test(test_next__tail_out_of_bounds_resynchronises),
        cmocka_unit_test(test_next__unreadable_contents_cost_that_record_only),
        cmocka_unit_test(test_next_dead__unreadable_end_is_lost),
        cmocka_unit_test(test_next__shortened_file_is_no_signal),
        cmocka_unit_test(test_next__survives_a_process_that_writes_nonsense),
        cmocka_unit_test(test_wait__no_wakeup_is_lost),
        cmocka_unit_test(test_wait__a_single_record_wakes_the_sleeper_at_once),
        cmocka_unit_test(test_wake__from_another_thread_before_and_while_sleeping),
        cmocka_unit_test(test_wait__ends_after_its_time),
        cmocka_unit_test(test_scan__old_segment_is_read_folded_and_removed),
        cmocka_unit_test(test_scan__foreign_files_are_left_until_they_are_old),
        cmocka_unit_test(test_wait__writers_of_an_old_segment_are_heard),
        cmocka_unit_test(test_visit__shows_what_the_lanes_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
