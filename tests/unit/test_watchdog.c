/* The watchdog: where a process hangs or crashes, it ends, and its successor knows where. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/agent/watchdog.h"

typedef struct {
    char dir[64];
    char file[128];
} fixture_t;

static int
set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-watchdog-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->file, sizeof(f->file), "%s/rules.hung", f->dir);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture_t *f = *state;

    (void) unlink(f->file);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static mayday_lane_record_t
record_at(uint8_t segment, uint32_t slot, uint64_t position)
{
    mayday_lane_record_t record = {.position = position};

    memset(record.key.segment, segment, sizeof(record.key.segment));
    record.key.slot = slot;
    record.key.generation = 3;
    return record;
}

/* A process that hangs in the record; returns how it ended. */
static int
hang_in(const fixture_t *f, const mayday_lane_record_t *record)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        mayday_watchdog_t *w = mayday_watchdog_new(f->dir);

        alarm(30);
        if (w == NULL || mayday_watchdog_start(w) != MAYDAY_OK) {
            _exit(99);
        }
        (void) mayday_watchdog_begin(w, record);
        for (volatile unsigned n = 0;; n++) {
        }
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void
test_watchdog__ends_what_hangs_and_marks_it_once(void **state)
{
    fixture_t *f = *state;
    mayday_lane_record_t first = record_at(0xab, 7, 4096), second = record_at(0xab, 8, 512);
    mayday_watchdog_t *w;
    int status = hang_in(f, &first);

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), MAYDAY_WATCHDOG_EXIT);
    assert_true(WIFEXITED(hang_in(f, &second)));

    w = mayday_watchdog_new(f->dir);
    assert_non_null(w);
    for (unsigned i = 0; i < 3; i++) { /* what is read again before it is stored */
        assert_true(mayday_watchdog_begin(w, &first));
        mayday_watchdog_end(w);
    }
    mayday_watchdog_stored(w);
    assert_false(mayday_watchdog_begin(w, &first));
    mayday_watchdog_end(w);
    mayday_watchdog_free(w);

    w = mayday_watchdog_new(f->dir);
    assert_false(mayday_watchdog_begin(w, &first));
    mayday_watchdog_end(w);
    assert_true(mayday_watchdog_begin(w, &second));
    mayday_watchdog_end(w);
    mayday_watchdog_stored(w);
    mayday_watchdog_free(w);
    assert_int_equal(access(f->file, F_OK), -1);
}

static unsigned
overflow(unsigned depth)
{
    volatile unsigned room[1024];

    room[0] = depth;
    return depth == 0 ? 0 : overflow(depth - 1) + room[0];
}

/* A process that crashes, within the record or behind it; returns how it ended. */
static int
crash_in(const fixture_t *f, const mayday_lane_record_t *record, unsigned how, bool within)
{
    static const int signals[] = {SIGSEGV, SIGABRT, SIGFPE};
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        mayday_watchdog_t *w = mayday_watchdog_new(f->dir);
        volatile char *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        alarm(30);
        for (size_t i = 0; i < MAYDAY_COUNT(signals); i++) { /* cmocka's catch them */
            (void) signal(signals[i], SIG_DFL);
        }
        if (w == NULL || mayday_watchdog_start(w) != MAYDAY_OK) {
            _exit(99);
        }
        (void) mayday_watchdog_begin(w, record);
        if (!within) {
            mayday_watchdog_end(w);
        }
        switch (how) {
        case 0:
            *nowhere = 1;
            break;
        case 1:
            abort();
        case 2:
            (void) raise(SIGFPE);
            break;
        default:
            _exit(overflow(1u << 30) == 1 ? 99 : 98);
        }
        _exit(98);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void
test_watchdog__marks_what_crashes(void **state)
{
    fixture_t *f = *state;

    static const int signals[] = {SIGSEGV, SIGABRT, SIGFPE, SIGSEGV};

    for (unsigned how = 0; how < MAYDAY_COUNT(signals); how++) {
        mayday_lane_record_t record = record_at(0xcd, how, 4096);
        mayday_watchdog_t *w;
        int status = crash_in(f, &record, how, false);

        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[how]);
        assert_int_equal(access(f->file, F_OK), -1);
        status = crash_in(f, &record, how, true);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[how]);
        w = mayday_watchdog_new(f->dir);
        assert_non_null(w);
        assert_true(mayday_watchdog_begin(w, &record));
        mayday_watchdog_end(w);
        mayday_watchdog_stored(w);
        mayday_watchdog_free(w);
    }
}

static void
test_watchdog__leaves_alone_what_goes_on(void **state)
{
    fixture_t *f = *state;
    mayday_watchdog_t *w = mayday_watchdog_new(f->dir);
    mayday_lane_record_t record = record_at(1, 1, 1);
    uint64_t until_us;

    assert_int_equal(mayday_watchdog_start(w), MAYDAY_OK);
    /* Busy beyond the limit, but with many records; then waiting in one. */
    until_us = mayday_clock_monotonic_us() + MAYDAY_WATCHDOG_CPU_MS_MAX * UINT64_C(1300);
    while (mayday_clock_monotonic_us() < until_us) {
        record.position++;
        assert_false(mayday_watchdog_begin(w, &record));
        mayday_watchdog_end(w);
    }
    assert_false(mayday_watchdog_begin(w, &record));
    usleep(600000);
    mayday_watchdog_end(w);
    mayday_watchdog_free(w);
    assert_int_equal(access(f->file, F_OK), -1);
}

static void
test_watchdog_new__hostile_files(void **state)
{
    fixture_t *f = *state;
    static const char *const texts[] = {"",
                                        "\n\n",
                                        "zz",
                                        "abababababababababababababababab",
                                        "abababababababababababababababab 7 3\n",
                                        "abababababababababababababababab -1 x 4096\n",
                                        "abababababababababababababababab 7 3 4096 more\n"};
    mayday_lane_record_t record = record_at(0xab, 7, 4096);

    for (size_t i = 0; i <= MAYDAY_COUNT(texts); i++) {
        FILE *out = fopen(f->file, "w");
        mayday_watchdog_t *w;

        assert_non_null(out);
        for (unsigned n = 0; i == MAYDAY_COUNT(texts) && n < 100000; n++) {
            fputs("abababababababababababababababab 1 2 3\n", out);
        }
        fputs(i < MAYDAY_COUNT(texts) ? texts[i] : "", out);
        fclose(out);
        w = mayday_watchdog_new(f->dir);
        assert_non_null(w);
        assert_false(mayday_watchdog_begin(w, &record));
        mayday_watchdog_end(w);
        mayday_watchdog_free(w);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_watchdog__ends_what_hangs_and_marks_it_once),
        TEST(test_watchdog__marks_what_crashes),
        TEST(test_watchdog__leaves_alone_what_goes_on),
        TEST(test_watchdog_new__hostile_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
