/*
 * Slices, clocks, hex, random bytes.
 *
 * Runs anywhere, allocates nothing. Only mayday_random may block, and that only
 * in a machine's first seconds, before the kernel's generator is seeded.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif

#include "core/base/base.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

bool
mayday_slice_ieq(mayday_slice_t a, mayday_slice_t b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (mayday_lower(a.data[i]) != mayday_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

mayday_slice_t
mayday_slice_trim(mayday_slice_t s)
{
    while (s.len > 0 && is_blank(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

size_t
mayday_slice_find(mayday_slice_t s, mayday_slice_t needle, size_t from)
{
    const char *found;

    if (from > s.len || needle.len > s.len - from) {
        return SIZE_MAX;
    }
    if (needle.len == 0) {
        return from;
    }
    found = memmem(s.data + from, s.len - from, needle.data, needle.len);
    return found == NULL ? SIZE_MAX : (size_t) (found - s.data);
}

static uint64_t
clock_us(clockid_t id)
{
    struct timespec t = {0};

    (void) clock_gettime(id, &t);
    return (uint64_t) t.tv_sec * 1000000u + (uint64_t) t.tv_nsec / 1000u;
}

uint64_t
mayday_clock_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

uint64_t
mayday_clock_monotonic_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

void
mayday_hex(char *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
}

mayday_rc_t
mayday_unhex(uint8_t *out, size_t n, mayday_slice_t s)
{
    if (s.len % 2 != 0 || s.len / 2 != n) {
        return MAYDAY_INVALID;
    }
    for (size_t i = 0; i < n; i++) {
        int high = mayday_hex_digit(s.data[2 * i]);
        int low = mayday_hex_digit(s.data[2 * i + 1]);

        if (high < 0 || low < 0) {
            return MAYDAY_INVALID;
        }
        out[i] = (uint8_t) (high << 4 | low);
    }
    return MAYDAY_OK;
}

mayday_rc_t
mayday_random(void *out, size_t n)
{
    uint8_t *at = out;

    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);

        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return MAYDAY_ERROR;
        }
        at += got;
        n -= (size_t) got;
    }
    return MAYDAY_OK;
}
