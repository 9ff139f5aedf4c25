/* Lanes, the writing side: segments, claims, publication, loss. */
#include "tests/unit/lane_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#define LANE_SIZE MAYDAY_LANE_SIZE_MIN

static uint64_t
counter(mayday_slot_t *slot, mayday_counter_t c)
{
    return atomic_load(&slot->counters[c]);
}

/* ---- segments ---- */

static mayday_rc_t
reopen(lane_fixture_t *f, const char *name, uint32_t slots, uint32_t lane_size)
{
    mayday_segment_map_t map;
    mayday_rc_t rc =
        mayday_segment_open(&map, f->dirfd, name, slots, lane_size, (uid_t) -1, (gid_t) -1);

    if (rc != MAYDAY_OK) {
        assert_int_equal(map.fd, -1);
        assert_null(map.shared);
        return rc;
    }
    mayday_segment_close(&map);
    return rc;
}

static void
test_segment_open__missing_is_an_error_with_errno(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 4, LANE_SIZE);
    assert_int_equal(reopen(&f, "lanes-none", 4, LANE_SIZE), MAYDAY_ERROR);
    assert_int_equal(errno, ENOENT);
    fixture_close(&f);
}

static void
test_segment_open__other_sizes_are_invalid(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 4, LANE_SIZE);
    assert_int_equal(reopen(&f, f.map.name, 5, LANE_SIZE), MAYDAY_INVALID);
    assert_int_equal(reopen(&f, f.map.name, 4, 2 * LANE_SIZE), MAYDAY_INVALID);
    assert_int_equal(reopen(&f, f.map.name, 4, LANE_SIZE), MAYDAY_OK);
    fixture_close(&f);
}

static void
test_segment_open__other_version_is_invalid_and_left_alone(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 4, LANE_SIZE);
    f.map.shared->magic[7]++;
    assert_int_equal(reopen(&f, f.map.name, 4, LANE_SIZE), MAYDAY_INVALID);
    assert_int_equal(faccessat(f.dirfd, f.map.name, F_OK, 0), 0);
    fixture_close(&f);
}

static void
test_segment_open__shortened_is_invalid(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 4, LANE_SIZE);
    assert_int_equal(ftruncate(f.map.fd, (off_t) f.map.segment_size - 4096), 0);
    assert_int_equal(reopen(&f, f.map.name, 4, LANE_SIZE), MAYDAY_INVALID);
    assert_int_equal(ftruncate(f.map.fd, 0), 0);
    assert_int_equal(reopen(&f, f.map.name, 4, LANE_SIZE), MAYDAY_INVALID);
    fixture_close(&f);
}

static void
test_segment_open__symbolic_link_is_refused(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 4, LANE_SIZE);
    assert_int_equal(symlinkat(f.map.name, f.dirfd, "lanes-link"), 0);
    assert_int_equal(reopen(&f, "lanes-link", 4, LANE_SIZE), MAYDAY_ERROR);
    unlinkat(f.dirfd, "lanes-link", 0);
    fixture_close(&f);
}

static void
test_segment_open__new_one_is_private_and_rings_are_not_allocated(void **state)
{
    lane_fixture_t f;
    struct stat st;

    (void) state;
    fixture_open(&f, 3, LANE_SIZE + 1);
    assert_int_equal(fstat(f.map.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(f.map.lane_size % (uint32_t) sysconf(_SC_PAGESIZE), 0);
    assert_true(f.map.lane_size > LANE_SIZE);
    assert_true(mayday_segment_is_sane(f.map.shared, (uint64_t) st.st_size));
    assert_true((uint64_t) st.st_blocks * 512 <= f.map.data_offset);
    assert_true((uint64_t) st.st_blocks * 512 >= f.map.data_offset);
    fixture_close(&f);
}

static void
test_segment_open__bounds_are_kept(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 0, 0);
    assert_int_equal(f.map.slot_count, 1);
    assert_int_equal(f.map.lane_size, MAYDAY_LANE_SIZE_MIN);
    fixture_close(&f);
}

/* ---- claims ---- */

static void
test_lane__without_segment_counts_and_never_fails(void **state)
{
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    mayday_lane_init(&lane, NULL, fixture_settings, false);
    mayday_lane_count(&lane, MAYDAY_COUNTER_REQUESTS);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_FULL);
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_FULL);
    assert_int_equal(counter(&lane.no_slot, MAYDAY_COUNTER_DROPPED_NO_LANE), 1);
    mayday_lane_release(&lane);
    assert_int_equal(counter(&lane.no_slot, MAYDAY_COUNTER_REQUESTS), 1);
}

static void
test_lane_claim__counts_from_before_move_into_the_slot(void **state)
{
    lane_fixture_t f;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    mayday_lane_count(&lane, MAYDAY_COUNTER_REQUESTS);
    mayday_lane_count_ignored(&lane, MAYDAY_KIND_LIMITED);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    mayday_lane_count(&lane, MAYDAY_COUNTER_REQUESTS);

    mayday_slot_t *slot = fixture_slot(&f, 0);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_REQUESTS), 2);
    assert_int_equal(atomic_load(&slot->ignored[MAYDAY_KIND_LIMITED]), 1);
    assert_int_equal(atomic_load(&slot->state), MAYDAY_SLOT_ACTIVE);
    assert_int_equal(atomic_load(&slot->generation), 1);
    assert_int_equal(slot->pid, getpid());
    assert_memory_equal(slot->settings, fixture_settings, MAYDAY_HASH_BYTES);

    mayday_lane_release(&lane);
    assert_int_equal(atomic_load(&slot->state), MAYDAY_SLOT_CLOSED);
    fixture_close(&f);
}

static void
test_lane_claim__the_living_keep_their_slots(void **state)
{
    lane_fixture_t f;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    owner_t a = owner_start(&f, body_nothing, NULL);
    owner_t b = owner_start(&f, body_nothing, NULL);
    assert_int_equal(owner_wait(&a), '.');
    assert_int_equal(owner_wait(&b), '.');
    owner_t c = owner_start(&f, body_nothing, NULL);
    assert_int_equal(owner_wait(&c), 'F');
    owner_end(&a);
    owner_end(&b);
    owner_end(&c);
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->generation), 1);
    assert_int_equal(atomic_load(&fixture_slot(&f, 1)->generation), 1);
    fixture_close(&f);
}

static void
test_lane_claim__free_slots_before_dead_ones(void **state)
{
    lane_fixture_t f;
    uint64_t count = 3;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    assert_int_equal(owner_run(&f, body_write, &count), '.');
    assert_int_equal(owner_run(&f, body_write, &count), '.');
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->generation), 1);
    assert_int_equal(atomic_load(&fixture_slot(&f, 1)->generation), 1);
    assert_int_equal(atomic_load(&f.map.shared->lost_records), 0);
    fixture_close(&f);
}

static void
test_lane_claim__takes_the_oldest_dead_slot_and_counts_its_loss(void **state)
{
    lane_fixture_t f;
    uint64_t counts[] = {3, 5, 1};

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    owner_run(&f, body_write, &counts[0]);
    owner_run(&f, body_write, &counts[1]);
    /* The second slot's owner came first. */
    fixture_slot(&f, 1)->claimed_us = 1;
    assert_int_equal(owner_run(&f, body_write, &counts[2]), '.');

    mayday_slot_t *taken = fixture_slot(&f, 1);
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->generation), 1);
    assert_int_equal(atomic_load(&taken->generation), 2);
    assert_int_equal(atomic_load(&f.map.shared->lost_records), 5);
    assert_int_equal(atomic_load(&taken->records), 1);
    assert_int_equal(atomic_load(&taken->head), mayday_lane_first_position(2));
    /* What the dead one counted is not lost. */
    assert_int_equal(counter(taken, MAYDAY_COUNTER_CAPTURED), 6);
    assert_int_equal(atomic_load(&taken->counters_generation), 1);
    fixture_close(&f);
}

static void
test_lane_claim__loss_of_a_lying_slot_is_bounded(void **state)
{
    lane_fixture_t f;
    uint64_t count = 1;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    owner_run(&f, body_write, &count);
    atomic_store(&fixture_slot(&f, 0)->records, UINT64_MAX);
    owner_run(&f, body_write, &count);
    assert_true(atomic_load(&f.map.shared->lost_records) <= LANE_SIZE / 24);
    atomic_store(&f.map.shared->lost_records, 0);
    atomic_store(&fixture_slot(&f, 0)->records_read, UINT64_MAX);
    owner_run(&f, body_write, &count);
    assert_int_equal(atomic_load(&f.map.shared->lost_records), 0);
    fixture_close(&f);
}

static void
test_lane_claim__closed_lane_is_reused_only_when_none_is_free(void **state)
{
    lane_fixture_t f;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    for (int i = 0; i < 3; i++) {
        mayday_lane_init(&lane, &f.map, fixture_settings, false);
        assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
        assert_int_equal(lane.index, i == 1 ? 1 : 0);
        mayday_lane_release(&lane);
    }
    fixture_close(&f);
}

static void
test_lane_claim__shortened_or_removed_file_is_not_touched(void **state)
{
    lane_fixture_t f;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 2, LANE_SIZE);
    assert_int_equal(ftruncate(f.map.fd, (off_t) f.map.data_offset), 0);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_FULL);
    assert_int_equal(ftruncate(f.map.fd, (off_t) f.map.segment_size), 0);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    mayday_lane_release(&lane);

    unlinkat(f.dirfd, f.map.name, 0);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_FULL);
    fixture_close(&f);
}

/* In a file system that is too small for a second ring. */
static int
claim_without_space(void)
{
    const char *dir = "/dev/shm";
    mayday_segment_map_t map;
    mayday_record_t record;
    mayday_lane_t lane;
    char options[64];

    snprintf(options, sizeof(options), "size=%u", 8192 + LANE_SIZE + LANE_SIZE / 2);
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        return 77;
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, options) != 0) {
        return 77;
    }
    int dirfd = open(dir, O_RDONLY | O_DIRECTORY);
    if (mayday_segment_open(&map, dirfd, "", 2, LANE_SIZE, (uid_t) -1, (gid_t) -1) != MAYDAY_OK) {
        return 1;
    }
    mayday_lane_init(&lane, &map, fixture_settings, false);
    if (mayday_lane_claim(&lane) != MAYDAY_OK) {
        return 2;
    }
    if (fork() == 0) {
        mayday_lane_init(&lane, &map, fixture_settings, false);
        if (mayday_lane_claim(&lane) != MAYDAY_FULL) {
            _exit(3);
        }
        if (mayday_lane_begin(&lane, &record) != MAYDAY_FULL) {
            _exit(4);
        }
        _exit(atomic_load(&map.shared->dropped_no_slot) == 1 ? 0 : 5);
    }
    int status;
    wait(&status);
    /* The ring that was allocated can be filled to its end all the same. */
    while (commit_numbered(&lane, 1, 1000) == MAYDAY_OK) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 6;
}

static void
test_lane_claim__no_space_is_no_lane_and_no_signal(void **state)
{
    int status;

    (void) state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(claim_without_space());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
test_lane_begin__tries_again_for_a_lane_once_a_second(void **state)
{
    lane_fixture_t f;
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    owner_t other = owner_start(&f, body_nothing, NULL);
    assert_int_equal(owner_wait(&other), '.');
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_FULL);
    owner_end(&other);
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_FULL);
    assert_int_equal(atomic_load(&f.map.shared->dropped_no_slot), 2);
    lane.retry_us = mayday_clock_monotonic_us();
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_OK);
    mayday_lane_abort(&record);
    mayday_lane_release(&lane);
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_FULL);
    assert_int_equal(atomic_load(&f.map.shared->dropped_no_slot), 3);
    fixture_close(&f);
}

static void
test_lane_begin__lets_go_of_a_slot_that_another_process_has(void **state)
{
    lane_fixture_t f;
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    /* Closing any descriptor of the file drops the lock, whoever's fault that is. */
    close(dup(f.map.fd));
    uint64_t count = 2;
    owner_t thief = owner_start(&f, body_write, &count);
    assert_int_equal(owner_wait(&thief), '.');
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_FULL);
    assert_null(lane.ring);
    owner_end(&thief);
    assert_int_equal(atomic_load(&fixture_slot(&f, 0)->records), 2);
    fixture_close(&f);
}

/* ---- records ---- */

static void
test_lane_commit__publishes_once_and_whole(void **state)
{
    lane_fixture_t f;
    mayday_record_header_t header;
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    mayday_slot_t *slot = fixture_slot(&f, 0);
    uint64_t first = mayday_lane_first_position(1);

    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_OK);
    write_numbered(&record, 7, 5);
    assert_int_equal(atomic_load(&slot->tail), first);
    assert_int_equal(atomic_load(&slot->records), 0);
    mayday_lane_commit(&record);

    memcpy(&header, lane.ring + first % LANE_SIZE, sizeof(header));
    assert_int_equal(header.magic, MAYDAY_RECORD_MAGIC);
    assert_int_equal(header.size % 8, 0);
    assert_int_equal(header.sequence, 0);
    assert_int_equal(atomic_load(&slot->tail), first + header.size);
    assert_int_equal(atomic_load(&slot->records), 1);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_CAPTURED), 1);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_TRUNCATED), 0);
    mayday_lane_release(&lane);
    fixture_close(&f);
}

static void
test_lane_abort__leaves_nothing_and_is_counted(void **state)
{
    lane_fixture_t f;
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, true);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_OK);
    mayday_lane_abort(&record);
    /* The mutex is free again. */
    assert_int_equal(commit_numbered(&lane, 1, 10), MAYDAY_OK);
    mayday_slot_t *slot = fixture_slot(&f, 0);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_DROPPED_INTERNAL), 1);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_CAPTURED), 1);
    assert_int_equal(atomic_load(&slot->records), 1);
    mayday_lane_release(&lane);
    fixture_close(&f);
}

static void
test_lane_begin__full_lane_counts_exactly(void **state)
{
    lane_fixture_t f;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    mayday_slot_t *slot = fixture_slot(&f, 0);
    uint64_t written = 0, refused = 0;

    for (int i = 0; i < 1000; i++) {
        if (commit_numbered(&lane, (uint64_t) i, 1000) == MAYDAY_OK) {
            assert_int_equal(refused, 0);
            written++;
        } else {
            refused++;
        }
    }
    uint64_t used = atomic_load(&slot->tail) - atomic_load(&slot->head);
    assert_true(used <= LANE_SIZE && used > LANE_SIZE - MAYDAY_RECORD_SIZE_MIN);
    assert_int_equal(written + refused, 1000);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_CAPTURED), written);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_DROPPED_LANE_FULL), refused);

    /* As much as the reader gives back can be written again. */
    atomic_store(&slot->head, atomic_load(&slot->tail) - MAYDAY_RECORD_SIZE_MIN);
    assert_int_equal(commit_numbered(&lane, 0, 1000), MAYDAY_OK);
    mayday_lane_release(&lane);
    fixture_close(&f);
}

static void
test_lane_begin__record_is_at_most_a_quarter_of_the_lane(void **state)
{
    lane_fixture_t f;
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_OK);
    for (int i = 0; i < 100; i++) {
        write_numbered(&record, 1, 4000);
    }
    assert_true((record.flags & MAYDAY_RECORD_TRUNCATED) != 0);
    mayday_lane_commit(&record);
    mayday_slot_t *slot = fixture_slot(&f, 0);
    assert_true(atomic_load(&slot->tail) - atomic_load(&slot->head) <= LANE_SIZE / 4);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_TRUNCATED), 1);
    mayday_lane_release(&lane);
    fixture_close(&f);
}

static void
test_lane_begin__hostile_head_loses_records_and_nothing_else(void **state)
{
    lane_fixture_t f;
    mayday_record_t record;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    assert_int_equal(commit_numbered(&lane, 1, 10), MAYDAY_OK);
    mayday_slot_t *slot = fixture_slot(&f, 0);
    uint64_t tail = atomic_load(&slot->tail);
    const uint64_t heads[] = {tail + 8, tail - LANE_SIZE - 8, tail - 4,      tail - 1,
                              0,        UINT64_MAX,           UINT64_MAX / 2};

    for (size_t i = 0; i < MAYDAY_COUNT(heads); i++) {
        atomic_store(&slot->head, heads[i]);
        assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_FULL);
        assert_int_equal(counter(slot, MAYDAY_COUNTER_DROPPED_INTERNAL), i + 1);
    }
    /* Nor does the writer believe what the slot says of its own tail. */
    atomic_store(&slot->tail, UINT64_MAX);
    atomic_store(&slot->head, tail);
    assert_int_equal(commit_numbered(&lane, 2, 10), MAYDAY_OK);
    assert_true(atomic_load(&slot->tail) - tail <= 100);
    mayday_lane_release(&lane);
    fixture_close(&f);
}

static void
test_lane_commit__runs_over_the_end_of_the_ring(void **state)
{
    lane_fixture_t f;
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, false);
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    mayday_slot_t *slot = fixture_slot(&f, 0);

    for (uint64_t i = 0; i < 500; i++) {
        uint64_t position = atomic_load(&slot->tail);
        mayday_record_header_t header;
        assert_int_equal(commit_numbered(&lane, i, 1 + i * 7 % 3000), MAYDAY_OK);
        memcpy(&header, lane.ring + position % LANE_SIZE, sizeof(header));
        assert_int_equal(header.sequence, i);
        assert_int_equal(position + header.size, atomic_load(&slot->tail));
        assert_int_equal(lane.offset, atomic_load(&slot->tail) % LANE_SIZE);
        atomic_store(&slot->head, atomic_load(&slot->tail));
    }
    mayday_lane_release(&lane);
    fixture_close(&f);
}

/* ---- threads ---- */

#define THREADS 4
#define RECORDS_PER_THREAD 300

static void *
write_in_thread(void *arg)
{
    mayday_lane_t *lane = arg;

    for (uint64_t i = 0; i < RECORDS_PER_THREAD; i++) {
        mayday_lane_count(lane, MAYDAY_COUNTER_REQUESTS);
        (void) commit_numbered(lane, i, 20 + i % 50);
    }
    return NULL;
}

static void
test_lane__threads_write_whole_records(void **state)
{
    lane_fixture_t f;
    pthread_t threads[THREADS];
    mayday_lane_t lane;

    (void) state;
    fixture_open(&f, 1, 4 * LANE_SIZE);
    mayday_lane_init(&lane, &f.map, fixture_settings, true);
    mayday_lane_count(&lane, MAYDAY_COUNTER_REQUESTS);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_in_thread, &lane), 0);
    }
    /* As in a child that gets its lane while it serves. */
    assert_int_equal(mayday_lane_claim(&lane), MAYDAY_OK);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    mayday_slot_t *slot = fixture_slot(&f, 0);
    uint64_t records = atomic_load(&slot->records);
    uint64_t position = atomic_load(&slot->head);
    for (uint64_t i = 0; i < records; i++) {
        mayday_record_header_t header;
        memcpy(&header, lane.ring + position % lane.lane_size, sizeof(header));
        assert_int_equal(header.magic, MAYDAY_RECORD_MAGIC);
        assert_int_equal(header.sequence, i);
        position += header.size;
    }
    assert_int_equal(position, atomic_load(&slot->tail));
    mayday_lane_release(&lane);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_REQUESTS), THREADS * RECORDS_PER_THREAD + 1);
    assert_int_equal(counter(slot, MAYDAY_COUNTER_CAPTURED) +
                         atomic_load(&f.map.shared->dropped_no_slot),
                     THREADS * RECORDS_PER_THREAD);
    fixture_close(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_open__missing_is_an_error_with_errno),
        cmocka_unit_test(test_segment_open__other_sizes_are_invalid),
        cmocka_unit_test(test_segment_open__other_version_is_invalid_and_left_alone),
        cmocka_unit_test(test_segment_open__shortened_is_invalid),
        cmocka_unit_test(test_segment_open__symbolic_link_is_refused),
        cmocka_unit_test(test_segment_open__new_one_is_private_and_rings_are_not_allocated),
        cmocka_unit_test(test_segment_open__bounds_are_kept),
        cmocka_unit_test(test_lane__without_segment_counts_and_never_fails),
        cmocka_unit_test(test_lane_claim__counts_from_before_move_into_the_slot),
        cmocka_unit_test(test_lane_claim__the_living_keep_their_slots),
        cmocka_unit_test(test_lane_claim__free_slots_before_dead_ones),
        cmocka_unit_test(test_lane_claim__takes_the_oldest_dead_slot_and_counts_its_loss),
        cmocka_unit_test(test_lane_claim__loss_of_a_lying_slot_is_bounded),
        cmocka_unit_test(test_lane_claim__closed_lane_is_reused_only_when_none_is_free),
        cmocka_unit_test(test_lane_claim__shortened_or_removed_file_is_not_touched),
        cmocka_unit_test(test_lane_claim__no_space_is_no_lane_and_no_signal),
        cmocka_unit_test(test_lane_begin__tries_again_for_a_lane_once_a_second),
        cmocka_unit_test(test_lane_begin__lets_go_of_a_slot_that_another_process_has),
        cmocka_unit_test(test_lane_commit__publishes_once_and_whole),
        cmocka_unit_test(test_lane_abort__leaves_nothing_and_is_counted),
        cmocka_unit_test(test_lane_begin__full_lane_counts_exactly),
        cmocka_unit_test(test_lane_begin__record_is_at_most_a_quarter_of_the_lane),
        cmocka_unit_test(test_lane_begin__hostile_head_loses_records_and_nothing_else),
        cmocka_unit_test(test_lane_commit__runs_over_the_end_of_the_ring),
        cmocka_unit_test(test_lane__threads_write_whole_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
