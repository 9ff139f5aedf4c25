/*
 * memcpy and memcmp for what is mostly short: names, methods, hosts. Up to 32
 * bytes are two loads and two stores in place, a third of what a call into libc
 * takes.
 *
 * Runs anywhere, also on the request path; allocates nothing.
 */
#ifndef MAYDAY_BYTES_H
#define MAYDAY_BYTES_H

#include "core/base/base.h"

static inline uint32_t
mayday_load32(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint64_t
mayday_load64(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* Both halves of a value of N to 2 * N bytes; they overlap in the middle. */
#define MAYDAY_COPY_HALVES(out, data, len, N)                                                      \
    do {                                                                                           \
        char first_[N], last_[N];                                                                  \
        memcpy(first_, (data), (N));                                                               \
        memcpy(last_, (const char *) (data) + ((len) - (N)), (N));                                 \
        memcpy((out), first_, (N));                                                                \
        memcpy((char *) (out) + ((len) - (N)), last_, (N));                                        \
    } while (0)

#define MAYDAY_COPY_SHORT_MAX 32u

/*
 * out and data do not overlap; data may be NULL where len is 0. The order is
 * that of how often a length occurs; each range takes one comparison.
 */
static inline void
mayday_copy(void *out, const void *data, size_t len)
{
    if (len >= 8 && len <= 16) {
        MAYDAY_COPY_HALVES(out, data, len, 8);
    } else if (len > 16 && len <= MAYDAY_COPY_SHORT_MAX) {
        /* cppcheck-suppress pointerOutOfBoundsCond ; it mixes the lengths of two callers */
        MAYDAY_COPY_HALVES(out, data, len, 16);
    } else if (len >= 4 && len < 8) {
        MAYDAY_COPY_HALVES(out, data, len, 4);
    } else if (len >= 4) {
        memcpy(out, data, len);
    } else if (len > 0) { /* of 1 to 3 bytes the first, the middle and the last are all */
        const char *in = data;
        char first = in[0], middle = in[len / 2], last = in[len - 1];

        ((char *) out)[0] = first;
        ((char *) out)[len / 2] = middle;
        ((char *) out)[len - 1] = last;
    }
}

/* Whether a and b agree in all of len bytes, at least 8. */
static inline bool
mayday_same(const char *a, const char *b, size_t len)
{
    return mayday_load64(a) == mayday_load64(b) &&
           mayday_load64(a + len - 8) == mayday_load64(b + len - 8) &&
           (len <= 16 || memcmp(a + 8, b + 8, len - 16) == 0);
}

#endif
