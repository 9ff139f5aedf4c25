/*
 * The vocabulary of all rooms: result codes, slices, small macros.
 *
 * Runs anywhere, allocates nothing, blocks on nothing; libc only.
 */
#ifndef MAYDAY_BASE_H
#define MAYDAY_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MAYDAY_VERSION "0.1.0"

/*
 * Every function that can fail returns one of these, and 0 is success. A
 * function that returns a pointer fails as NULL only.
 */
typedef enum {
    MAYDAY_OK = 0,
    MAYDAY_ERROR,     /* the system refused; errno says why */
    MAYDAY_INVALID,   /* the input is not what it should be */
    MAYDAY_FULL,      /* no room; nothing was changed */
    MAYDAY_TRUNCATED, /* done, but cut to the limit */
    MAYDAY_NOT_FOUND, /* there is no such thing */
    MAYDAY_END,       /* nothing more to read */
    MAYDAY_BUSY,      /* somebody else holds it; try again later */
    MAYDAY_NO_MEMORY, /* the caller's allocator gave none */
    MAYDAY_DENIED     /* refused by policy or by the other side */
} mayday_rc_t;

#if defined(__GNUC__)
#define MAYDAY_MUST_CHECK __attribute__((warn_unused_result))
#define MAYDAY_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MAYDAY_LIKELY(x) __builtin_expect(!!(x), 1)
#define MAYDAY_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define MAYDAY_MUST_CHECK
#define MAYDAY_PRINTF(fmt, args)
#define MAYDAY_LIKELY(x) (x)
#define MAYDAY_UNLIKELY(x) (x)
#endif

#define MAYDAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Borrowed bytes: not terminated, not owned, may be empty with data NULL. */
typedef struct {
    const char *data;
    size_t len;
} mayday_slice_t;

#define MAYDAY_SLICE(literal) ((mayday_slice_t){("" literal), sizeof(literal) - 1})

static inline mayday_slice_t
mayday_slice(const void *data, size_t len)
{
    mayday_slice_t s = {(const char *) data, len};
    return s;
}

static inline mayday_slice_t
mayday_slice_str(const char *s)
{
    return mayday_slice(s, s == NULL ? 0 : strlen(s));
}

static inline bool
mayday_slice_eq(mayday_slice_t a, mayday_slice_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
mayday_slice_starts(mayday_slice_t s, mayday_slice_t prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* Characters: ASCII only, whatever the locale. */

static inline bool
mayday_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool
mayday_is_alnum(char c)
{
    return mayday_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline char
mayday_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c | 0x20) : c;
}

/* 0 to 15; -1: no hex digit. */
static inline int
mayday_hex_digit(char c)
{
    char l = mayday_lower(c);

    if (mayday_is_digit(l)) {
        return l - '0';
    }
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

bool mayday_slice_ieq(mayday_slice_t a, mayday_slice_t b);

/* Without the spaces, tabs and line ends at either end. */
mayday_slice_t mayday_slice_trim(mayday_slice_t s);

/* The offset of needle in s from offset from on, or SIZE_MAX. */
size_t mayday_slice_find(mayday_slice_t s, mayday_slice_t needle, size_t from);

/* Microseconds since 1970 (realtime) and since some past moment (monotonic). */
uint64_t mayday_clock_us(void);
uint64_t mayday_clock_monotonic_us(void);

/* Lower-case hex of n bytes; out holds 2 * n + 1 bytes and ends with NUL. */
void mayday_hex(char *out, const uint8_t *bytes, size_t n);

/* The reverse; MAYDAY_INVALID unless s is exactly 2 * n hex digits. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_unhex(uint8_t *out, size_t n, mayday_slice_t s);

/*
 * SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012; the
 * reference implementation's 128-bit variant). A keyed hash: without the key
 * nobody can tell what was hashed. Also names settings files and issues,
 * there with an all-zero key.
 */
#define MAYDAY_HASH_BYTES 16
#define MAYDAY_HASH_HEX_SIZE (2 * MAYDAY_HASH_BYTES + 1) /* with the NUL */
void mayday_siphash(uint8_t out[MAYDAY_HASH_BYTES], const uint8_t key[16], const void *data,
                    size_t len);

/* n bytes from the kernel's generator; MAYDAY_ERROR leaves out unspecified. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_random(void *out, size_t n);

#endif
