/*
 * The agent's messages, in the style of the server whose error log they go to.
 *
 * Any thread. One write() per line, so that lines of several processes do not
 * mix. A message's id has a slot of its own in a small table that limits it to
 * one line a second.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/log.h"

#define LINE_SIZE 2048
#define IDS_MAX 128
#define SECOND_US UINT64_C(1000000)
#define PATIENCE_US UINT64_C(10000000)

typedef struct {
    char id[8];
    uint64_t written_us; /* of the last line that was written */
    unsigned suppressed;
} slot_t;

/* All of it under `lock`. */
static struct {
    pthread_mutex_t lock;
    char path[1024];
    int fd;
    bool debug;
    bool httpd_style;
    bool begun;
    uint64_t patient_until_us; /* as long nobody is told that the file is lost */
    slot_t slots[IDS_MAX];
    mayday_log_sink_pt sink; /* NULL: lines go to the log */
    void *sink_ctx;
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

static const char *const level_names[] = {"error", "warn", "notice", "debug"};

/* The file of that name, opened to append; -1: not ours to open. */
static int
open_log(const char *path)
{
    return path[0] == '\0' ? -1 : open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
}

static void
replace_fd(int fd)
{
    if (logger.fd != STDERR_FILENO) {
        close(logger.fd);
    }
    logger.fd = fd;
}

/*
 * Whether the descriptor's file no longer has the name that it was opened by. Its
 * directory may be closed to us, hence not by stat().
 */
static bool
was_rotated(void)
{
    char link[32], target[sizeof(logger.path)];
    struct stat st;
    ssize_t len;

    if (logger.path[0] == '\0' || fstat(logger.fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", logger.fd);
    len = readlink(link, target, sizeof(target) - 1);
    if (len <= 0) {
        return false;
    }
    target[len] = '\0';
    /* "error.log.1", "error.log (deleted)"; any other name was no rotation */
    return (size_t) len > strlen(logger.path) &&
           strncmp(target, logger.path, strlen(logger.path)) == 0;
}

void
mayday_log_init(const char *path, bool httpd_style, bool debug)
{
    int fd;

    pthread_mutex_lock(&logger.lock);
    snprintf(logger.path, sizeof(logger.path), "%s", path);
    logger.httpd_style = httpd_style;
    logger.debug = debug;
    fd = open_log(logger.path);
    replace_fd(fd < 0 ? STDERR_FILENO : fd);
    logger.patient_until_us = 0;
    if (!logger.begun && was_rotated()) {
        /* the server was not told yet, so the next agent would begin the same way */
        logger.patient_until_us = mayday_clock_monotonic_us() + PATIENCE_US;
    }
    logger.begun = true;
    pthread_mutex_unlock(&logger.lock);
}

bool
mayday_log_tick(void)
{
    bool lost = false;

    pthread_mutex_lock(&logger.lock);
    if (was_rotated()) {
        int fd = open_log(logger.path);

        if (fd >= 0) {
            replace_fd(fd);
        } else {
            /* the server makes it when it is told to reopen its logs */
            lost = errno == EACCES && mayday_clock_monotonic_us() >= logger.patient_until_us;
        }
    }
    pthread_mutex_unlock(&logger.lock);
    return lost;
}

/* Under the lock. False: this line is not to be written. */
static bool
admit(const char *id, unsigned *suppressed)
{
    uint64_t now = mayday_clock_monotonic_us();
    slot_t *slot = NULL;

    *suppressed = 0;
    for (size_t i = 0; i < IDS_MAX && slot == NULL; i++) {
        if (logger.slots[i].id[0] == '\0') {
            snprintf(logger.slots[i].id, sizeof(logger.slots[i].id), "%s", id);
        }
        if (strcmp(logger.slots[i].id, id) == 0) {
            slot = &logger.slots[i];
        }
    }
    if (slot == NULL) {
        return true;
    }
    if (slot->written_us != 0 && now < slot->written_us + SECOND_US) {
        slot->suppressed++;
        return false;
    }
    slot->written_us = now;
    *suppressed = slot->suppressed;
    slot->suppressed = 0;
    return true;
}

/* Nobody shall forge a line, or move a terminal's cursor, by what he requests. */
static void
make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char) *text < 0x20 || *text == 0x7f) {
            *text = ' ';
        }
    }
}

static int
format_prefix(char *line, size_t size, mayday_log_level_t level, const char *id)
{
    struct timespec now;
    struct tm tm;
    char date[64], year[8];

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    if (logger.httpd_style) {
        strftime(date, sizeof(date), "%a %b %d %H:%M:%S", &tm);
        strftime(year, sizeof(year), "%Y", &tm);
        return snprintf(line, size, "[%s.%06ld %s] [mayday:%s] [pid %ld] %s: ", date,
                        now.tv_nsec / 1000, year, level_names[level], (long) getpid(), id);
    }
    strftime(date, sizeof(date), "%Y/%m/%d %H:%M:%S", &tm);
    return snprintf(line, size, "%s [%s] %ld#%ld: mayday: %s ", date, level_names[level],
                    (long) getpid(), (long) getpid(), id);
}

static void
write_line(const char *line, size_t len)
{
    ssize_t n;

    do {
        n = write(logger.fd, line, len);
    } while (n < 0 && errno == EINTR);
    /* a full disk is no reason to do anything else: there is nowhere to tell it */
}

const char *
mayday_log_level_name(mayday_log_level_t level)
{
    return level_names[level];
}

void
mayday_log_divert(mayday_log_sink_pt sink, void *ctx)
{
    pthread_mutex_lock(&logger.lock);
    logger.sink = sink;
    logger.sink_ctx = ctx;
    pthread_mutex_unlock(&logger.lock);
}

void
mayday_log(mayday_log_level_t level, const char *id, const char *fmt, ...)
{
    char text[LINE_SIZE], line[LINE_SIZE + 256];
    unsigned suppressed;
    va_list args;
    int len;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    make_printable(text);

    pthread_mutex_lock(&logger.lock);
    if (logger.sink != NULL) {
        logger.sink(logger.sink_ctx, level, text);
    } else if ((level != MAYDAY_LOG_DEBUG || logger.debug) && admit(id, &suppressed)) {
        len = format_prefix(line, sizeof(line), level, id);
        if (suppressed > 0) {
            len += snprintf(line + len, sizeof(line) - (size_t) len,
                            "%s (and %u more of these before)\n", text, suppressed);
        } else {
            len += snprintf(line + len, sizeof(line) - (size_t) len, "%s\n", text);
        }
        if ((size_t) len >= sizeof(line)) {
            len = (int) sizeof(line) - 1;
            line[len - 1] = '\n';
        }
        write_line(line, (size_t) len);
    }
    pthread_mutex_unlock(&logger.lock);
}
