/*
 * See watchdog.h. Two threads: the watched one writes the place that it is at, the
 * watching one looks at it and at the other's CPU clock. A crash is dealt with in
 * the watched one itself, by a signal handler. CPU time, for on a busy
 * or suspended host wall time says nothing about the rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/log.h"
#include "core/agent/watchdog.h"
#include "core/base/buf.h"

#define LOOK_MS 250
#define MARKS_MAX 16
#define LINE_SIZE 128
#define FILE_NAME "rules.hung"
#define CRASH_STACK_SIZE ((size_t) 64 * 1024) /* a crash may be for want of stack */

/* What a fault in a library raises. SIGBUS is that of shared memory, see lane_segment.c. */
static const int crash_signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGABRT};

typedef struct {
    mayday_lane_key_t key;
    uint64_t position; /* behind the record */
    bool met;          /* by this process; to be forgotten once that is stored */
} mark_t;

struct mayday_watchdog {
    const char *run_dir;
    pthread_t thread, watched;
    struct sigaction before[MAYDAY_COUNT(crash_signals)]; /* of crash_signals */
    stack_t stack_before;                                 /* of the watched thread */
    char crash_stack[CRASH_STACK_SIZE];
    clockid_t clock; /* CPU time of the watched thread */
    bool started;

    pthread_mutex_t lock; /* guards stopping, and marks and their file where said below */
    pthread_cond_t changed;
    bool stopping;

    /*
     * Where the watched thread is. Odd: within a record. The words are changed only
     * while it is even, so they are of one record where it was the same before and
     * after they were read.
     */
    _Atomic uint64_t turn;
    _Atomic uint64_t place[5]; /* segment (2), slot, generation, position */

    /* The watched thread's own; it changes them under the lock, for the other reads them. */
    mark_t marks[MARKS_MAX];
    size_t mark_count;
    bool met_one;
};

static mayday_watchdog_t *_Atomic in_charge; /* of the process's crashes */

/* ---- the file ---- */

static void
marks_path(const mayday_watchdog_t *w, char path[512], const char *suffix)
{
    (void) snprintf(path, 512, "%s/" FILE_NAME "%s", w->run_dir, suffix);
}

static bool
parse_mark(const char *line, mark_t *mark)
{
    const size_t hex = 2 * sizeof(mark->key.segment);
    uint64_t numbers[3];
    const char *at = line + hex;

    memset(mark, 0, sizeof(*mark));
    if (strlen(line) < hex || mayday_unhex(mark->key.segment, sizeof(mark->key.segment),
                                           mayday_slice(line, hex)) != MAYDAY_OK) {
        return false;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(numbers); i++) {
        char *end;

        if (at[0] != ' ' || !mayday_is_digit(at[1])) {
            return false;
        }
        numbers[i] = strtoull(at + 1, &end, 10);
        at = end;
    }
    mark->key.slot = (uint32_t) numbers[0];
    mark->key.generation = numbers[1];
    mark->position = numbers[2];
    return *at == '\0';
}

static void
read_marks(mayday_watchdog_t *w)
{
    char path[512], line[LINE_SIZE];
    FILE *in;
    int fd;

    marks_path(w, path, "");
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    in = fdopen(fd, "r");
    if (in == NULL) {
        (void) close(fd);
        return;
    }
    while (w->mark_count < MARKS_MAX && fgets(line, sizeof(line), in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (parse_mark(line, &w->marks[w->mark_count])) {
            w->mark_count++;
        }
    }
    (void) fclose(in);
}

/* Also called where the process is about to end, with a thread stuck anywhere: no heap. */
static bool
write_marks(const mayday_watchdog_t *w, const mark_t *marks, size_t count)
{
    char path[512], temporary[512], text[MARKS_MAX * LINE_SIZE];
    mayday_buf_t out;
    int fd;
    bool done;

    marks_path(w, path, "");
    if (count == 0) {
        return unlink(path) == 0 || errno == ENOENT;
    }
    mayday_buf_init(&out, text, sizeof(text));
    for (size_t i = 0; i < count; i++) {
        const mark_t *mark = &marks[i];
        char hex[2 * sizeof(mark->key.segment) + 1];

        mayday_hex(hex, mark->key.segment, sizeof(mark->key.segment));
        mayday_buf_addf(&out, "%s %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", hex, mark->key.slot,
                        mark->key.generation, mark->position);
    }
    marks_path(w, temporary, ".new");
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    done = write(fd, out.data, out.len) == (ssize_t) out.len;
    done = close(fd) == 0 && done;
    return done && rename(temporary, path) == 0;
}

/* Adds the mark of where the watched thread is. The oldest makes room where there is none. */
static bool
leave_mark(const mayday_watchdog_t *w, const uint64_t place[5])
{
    mark_t marks[MARKS_MAX], *mark;
    size_t count = w->mark_count, first = count == MARKS_MAX ? 1 : 0;

    count -= first;
    memcpy(marks, w->marks + first, count * sizeof(marks[0]));
    mark = &marks[count++];
    memset(mark, 0, sizeof(*mark));
    memcpy(mark->key.segment, place, sizeof(mark->key.segment));
    mark->key.slot = (uint32_t) place[2];
    mark->key.generation = place[3];
    mark->position = place[4];
    return write_marks(w, marks, count);
}

/* ---- a crash ---- */

static void
restore_signals(const mayday_watchdog_t *w)
{
    for (size_t i = 0; i < MAYDAY_COUNT(crash_signals); i++) {
        (void) sigaction(crash_signals[i], &w->before[i], NULL);
    }
}

/*
 * Leaves the mark where the watched thread crashed within a record. The process ends
 * as it would have: a fault comes again when this returns, what was sent is sent again.
 */
static void
on_crash(int number, siginfo_t *info, void *context)
{
    mayday_watchdog_t *w = atomic_load_explicit(&in_charge, memory_order_acquire);
    uint64_t place[5];

    (void) context;
    if (w == NULL) {
        return;
    }
    restore_signals(w);
    if (pthread_equal(pthread_self(), w->watched) != 0 && w->turn % 2 == 1) {
        for (size_t i = 0; i < MAYDAY_COUNT(place); i++) {
            place[i] = atomic_load_explicit(&w->place[i], memory_order_relaxed);
        }
        (void) leave_mark(w, place);
    }
    if (info->si_code <= 0) {
        (void) raise(number);
    }
}

static void
catch_crashes(mayday_watchdog_t *w)
{
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t stack = {.ss_sp = w->crash_stack, .ss_size = sizeof(w->crash_stack)};
    mayday_watchdog_t *none = NULL;

    if (!atomic_compare_exchange_strong(&in_charge, &none, w)) {
        return;
    }
    (void) sigaltstack(&stack, &w->stack_before);
    for (size_t i = 0; i < MAYDAY_COUNT(crash_signals); i++) {
        (void) sigaction(crash_signals[i], &action, &w->before[i]);
    }
}

static void
catch_no_crashes(mayday_watchdog_t *w)
{
    if (atomic_load(&in_charge) == w) {
        restore_signals(w);
        (void) sigaltstack(&w->stack_before, NULL);
        atomic_store(&in_charge, NULL);
    }
}

/* ---- the watching thread ---- */

static uint64_t
cpu_ms(clockid_t clock)
{
    struct timespec t = {0};

    (void) clock_gettime(clock, &t);
    return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

/* Leaves the mark and ends the process, unless the record of that turn is done after all. */
static void
end_process(mayday_watchdog_t *w, uint64_t turn)
{
    uint64_t place[5];
    bool written;

    for (size_t i = 0; i < MAYDAY_COUNT(place); i++) {
        place[i] = atomic_load_explicit(&w->place[i], memory_order_acquire);
    }
    if (atomic_load_explicit(&w->turn, memory_order_relaxed) != turn) {
        return;
    }
    written = leave_mark(w, place);
    mayday_log(MAYDAY_LOG_ERROR, "MD0604",
               "an event took more than %d ms of CPU time and cannot be interrupted; the agent "
               "ends, its successor sends that event without details%s",
               MAYDAY_WATCHDOG_CPU_MS_MAX,
               written ? "" : "; but it cannot be told which, for no file can be written");
    _exit(MAYDAY_WATCHDOG_EXIT);
}

static void *
watch(void *ctx)
{
    mayday_watchdog_t *w = ctx;
    uint64_t seen_turn = 0, seen_cpu_ms = 0;
    struct timespec until;

    (void) clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        uint64_t turn = atomic_load_explicit(&w->turn, memory_order_acquire);

        if (turn != seen_turn) {
            seen_turn = turn;
            seen_cpu_ms = cpu_ms(w->clock);
        } else if (turn % 2 == 1 && cpu_ms(w->clock) - seen_cpu_ms > MAYDAY_WATCHDOG_CPU_MS_MAX) {
            end_process(w, turn);
        }
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        (void) pthread_cond_timedwait(&w->changed, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- the watched thread ---- */

bool
mayday_watchdog_begin(mayday_watchdog_t *w, const mayday_lane_record_t *record)
{
    uint64_t words[5] = {0, 0, record->key.slot, record->key.generation, record->position};
    uint64_t turn = atomic_load_explicit(&w->turn, memory_order_relaxed);
    bool marked = false;

    _Static_assert(sizeof(record->key.segment) == 2 * sizeof(words[0]), "two words");
    memcpy(words, record->key.segment, sizeof(record->key.segment));
    for (size_t i = 0; i < w->mark_count; i++) {
        mark_t *mark = &w->marks[i];

        if (mark->position == record->position && mark->key.slot == record->key.slot &&
            mark->key.generation == record->key.generation &&
            memcmp(mark->key.segment, record->key.segment, sizeof(mark->key.segment)) == 0) {
            pthread_mutex_lock(&w->lock);
            marked = mark->met = w->met_one = true;
            pthread_mutex_unlock(&w->lock);
        }
    }
    for (size_t i = 0; i < MAYDAY_COUNT(words); i++) {
        atomic_store_explicit(&w->place[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&w->turn, turn + 1, memory_order_release);
    return marked;
}

void
mayday_watchdog_end(mayday_watchdog_t *w)
{
    uint64_t turn = atomic_load_explicit(&w->turn, memory_order_relaxed);

    atomic_store_explicit(&w->turn, turn + 1, memory_order_release);
}

void
mayday_watchdog_stored(mayday_watchdog_t *w)
{
    size_t kept = 0;

    if (!w->met_one) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->mark_count; i++) {
        if (!w->marks[i].met) {
            w->marks[kept++] = w->marks[i];
        }
    }
    w->mark_count = kept;
    w->met_one = false;
    if (!write_marks(w, w->marks, w->mark_count)) {
        mayday_log(MAYDAY_LOG_WARN, "MD0605", "cannot write %s/" FILE_NAME ": %s", w->run_dir,
                   strerror(errno));
    }
    pthread_mutex_unlock(&w->lock);
}

/* ---- its life ---- */

mayday_watchdog_t *
mayday_watchdog_new(const char *run_dir)
{
    mayday_watchdog_t *w = calloc(1, sizeof(*w));
    pthread_condattr_t monotonic;

    if (w == NULL) {
        return NULL;
    }
    w->run_dir = run_dir;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    read_marks(w);
    return w;
}

mayday_rc_t
mayday_watchdog_start(mayday_watchdog_t *w)
{
    if (pthread_getcpuclockid(pthread_self(), &w->clock) != 0 ||
        pthread_create(&w->thread, NULL, watch, w) != 0) {
        return MAYDAY_ERROR;
    }
    (void) pthread_setname_np(w->thread, "mayday-watchdog");
    w->watched = pthread_self();
    catch_crashes(w);
    w->started = true;
    return MAYDAY_OK;
}

void
mayday_watchdog_stop(mayday_watchdog_t *w)
{
    if (!w->started) {
        return;
    }
    catch_no_crashes(w);
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    (void) pthread_join(w->thread, NULL);
    w->started = false;
}

void
mayday_watchdog_free(mayday_watchdog_t *w)
{
    if (w != NULL) {
        mayday_watchdog_stop(w);
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(w);
    }
}
