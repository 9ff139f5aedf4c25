/*
 * Small things that several commands need; see cli.h.
 */
#include "core/cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#define SECOND_US ((uint64_t) 1000000)
#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (60 * MINUTE_US)
#define DAY_US (24 * HOUR_US)

void
mayday_cli_error(const char *fmt, ...)
{
    va_list args;

    fflush(stdout); /* in their order, also where both go to one file */
    fputs("mayday: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

void
mayday_cli_error_text(const char *prefix, const char *text)
{
    mayday_term_t term;

    fflush(stdout);
    mayday_term_init(&term, stderr);
    fprintf(stderr, "mayday: %s", prefix);
    (void) mayday_term_text(&term, MAYDAY_STYLE_PLAIN, mayday_slice_str(text), 0);
    fputc('\n', stderr);
}

int
mayday_cli_usage(const mayday_cli_t *cli, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "mayday %s: ", cli->command->name);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nSee: mayday %s --help\n", cli->command->name);
    return MAYDAY_EXIT_USAGE;
}

/* ---- time ---- */

static mayday_rc_t
parse_age(const char *text, uint64_t *age_us)
{
    static const struct {
        char letter;
        uint64_t us;
    } units[] = {
        {'s', SECOND_US}, {'m', MINUTE_US}, {'h', HOUR_US}, {'d', DAY_US}, {'w', 7 * DAY_US}};
    char *rest;
    unsigned long long n;

    if (!isdigit((unsigned char) text[0])) {
        return MAYDAY_INVALID;
    }
    errno = 0;
    n = strtoull(text, &rest, 10);
    for (size_t i = 0; i < MAYDAY_COUNT(units); i++) {
        if (rest[0] == units[i].letter && rest[1] == '\0' && errno == 0 &&
            n <= UINT64_MAX / units[i].us) {
            *age_us = n * units[i].us;
            return MAYDAY_OK;
        }
    }
    return MAYDAY_INVALID;
}

/* mktime mends "2026-02-31" silently; a date for erasing must be meant as written. */
static bool
same_date(const struct tm *a, const struct tm *b)
{
    return a->tm_year == b->tm_year && a->tm_mon == b->tm_mon && a->tm_mday == b->tm_mday &&
           a->tm_min == b->tm_min;
}

static mayday_rc_t
parse_date(const char *text, uint64_t *time_us)
{
    static const char *const formats[] = {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S",
                                          "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"};

    for (size_t i = 0; i < MAYDAY_COUNT(formats); i++) {
        struct tm tm = {.tm_isdst = -1}, mended;
        const char *rest = strptime(text, formats[i], &tm);
        bool utc = rest != NULL && strcmp(rest, "Z") == 0;
        time_t t;

        if (rest == NULL || (!utc && rest[0] != '\0')) {
            continue;
        }
        mended = tm;
        t = utc ? timegm(&mended) : mktime(&mended);
        if (t < 0 || !same_date(&tm, &mended)) {
            return MAYDAY_INVALID;
        }
        *time_us = (uint64_t) t * SECOND_US;
        return MAYDAY_OK;
    }
    return MAYDAY_INVALID;
}

mayday_rc_t
mayday_cli_time(const char *text, uint64_t now_us, uint64_t *time_us)
{
    uint64_t age_us;

    if (parse_age(text, &age_us) == MAYDAY_OK) {
        *time_us = age_us < now_us ? now_us - age_us : 0;
        return MAYDAY_OK;
    }
    return parse_date(text, time_us);
}

void
mayday_cli_duration(char *out, size_t size, uint64_t duration_us)
{
    unsigned long long us = duration_us;

    if (us < SECOND_US) {
        snprintf(out, size, "less than 1 s");
    } else if (us < 2 * MINUTE_US) {
        snprintf(out, size, "%llu s", us / SECOND_US);
    } else if (us < 2 * HOUR_US) {
        snprintf(out, size, "%llu min", us / MINUTE_US);
    } else if (us < 2 * DAY_US) {
        snprintf(out, size, "%llu h", us / HOUR_US);
    } else {
        snprintf(out, size, "%llu days", us / DAY_US);
    }
}

/* ---- numbers ---- */

void
mayday_cli_number(char *out, size_t size, double number)
{
    char digits[32];
    size_t len, at = 0;

    snprintf(digits, sizeof(digits), "%.0f", number >= 0 && number < 1e18 ? number : 0);
    len = strlen(digits);
    for (size_t i = 0; i < len && at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
}

void
mayday_cli_bytes(char *out, size_t size, double bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    while (bytes >= 1024 && unit + 1 < MAYDAY_COUNT(units)) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, size, "%.*f %s", unit == 0 || bytes >= 100 ? 0 : 1, bytes, units[unit]);
}

mayday_style_t
mayday_cli_level_style(const char *level)
{
    return strcmp(level, "fatal") == 0     ? MAYDAY_STYLE_FATAL
           : strcmp(level, "error") == 0   ? MAYDAY_STYLE_ERROR
           : strcmp(level, "warning") == 0 ? MAYDAY_STYLE_WARNING
                                           : MAYDAY_STYLE_ACCENT;
}
