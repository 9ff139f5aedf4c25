/*
 * SipHash-2-4 with 128 bits of output, after the paper (Aumasson and Bernstein,
 * "SipHash: a fast short-input PRF", 2012) and its 128-bit variant: v1 starts
 * with 0xee, the first finalisation uses 0xee, the second 0xdd.
 *
 * Runs anywhere, also on the request path; allocates nothing.
 */
#include "core/base/base.h"

typedef struct {
    uint64_t v0, v1, v2, v3;
} state_t;

static inline uint64_t
rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

/* Byte by byte: the bytes may lie anywhere, and compilers make one load of it. */
static inline uint64_t
load(const uint8_t *p)
{
    return (uint64_t) p[0] | (uint64_t) p[1] << 8 | (uint64_t) p[2] << 16 | (uint64_t) p[3] << 24 |
           (uint64_t) p[4] << 32 | (uint64_t) p[5] << 40 | (uint64_t) p[6] << 48 |
           (uint64_t) p[7] << 56;
}

static inline void
store(uint8_t *p, uint64_t x)
{
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t) (x >> (8 * i));
    }
}

static inline void
rounds(state_t *s, unsigned count)
{
    while (count-- > 0) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 = rotate(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 = rotate(s->v2, 32);
    }
}

static inline void
absorb(state_t *s, uint64_t word)
{
    s->v3 ^= word;
    rounds(s, 2);
    s->v0 ^= word;
}

void
mayday_siphash(uint8_t out[MAYDAY_HASH_BYTES], const uint8_t key[16], const void *data, size_t len)
{
    const uint8_t *at = data;
    uint64_t k0 = load(key), k1 = load(key + 8);
    uint64_t last = (uint64_t) len << 56;
    state_t s = {
        .v0 = k0 ^ 0x736f6d6570736575u,
        .v1 = k1 ^ 0x646f72616e646f6du ^ 0xee,
        .v2 = k0 ^ 0x6c7967656e657261u,
        .v3 = k1 ^ 0x7465646279746573u,
    };
    size_t left = len;

    for (; left >= 8; left -= 8, at += 8) {
        absorb(&s, load(at));
    }
    for (size_t i = 0; i < left; i++) {
        last |= (uint64_t) at[i] << (8 * i);
    }
    absorb(&s, last);

    s.v2 ^= 0xee;
    rounds(&s, 4);
    store(out, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
    s.v1 ^= 0xdd;
    rounds(&s, 4);
    store(out + 8, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}
