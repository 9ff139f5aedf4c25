/*
 * Random-looking ids without a system call (contract: ids.h).
 *
 * Runs inside a web server; allocates nothing. Only mayday_ids_init asks the
 * kernel, once per process.
 *
 * A failed request takes up to three ids (event, trace, span), so the hash is
 * SipHash-1-3 for exactly one word (SipHash's rounds and constants, one round
 * for the word, three for each half of the result): 110 instructions instead of
 * the 390 of mayday_siphash. It has to keep the next id from being guessed from
 * those before, no more.
 */
#include "core/capture/ids.h"

#include <unistd.h>

typedef struct {
    uint64_t v0, v1, v2, v3;
} state_t;

static inline uint64_t
rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void
rounds(state_t *s, int count)
{
    while (count-- > 0) {
        s->v0 += s->v1;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v0 = rotate(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v2 = rotate(s->v2, 32);
    }
}

void
mayday_ids_init(mayday_ids_t *ids)
{
    memset(ids, 0, sizeof(*ids));
    atomic_init(&ids->counter, 0);
    if (mayday_random(ids->key, sizeof(ids->key)) != MAYDAY_OK) {
        uint64_t seed[] = {mayday_clock_us(), mayday_clock_monotonic_us(), (uint64_t) getpid(),
                           (uint64_t) (uintptr_t) ids};
        const uint8_t no_key[16] = {0};
        mayday_siphash(ids->key, no_key, seed, sizeof(seed));
    }
}

void
mayday_ids_next(mayday_ids_t *ids, uint8_t out[16])
{
    uint64_t n = atomic_fetch_add_explicit(&ids->counter, 1, memory_order_relaxed);
    uint64_t key[2], halves[2];

    memcpy(key, ids->key, sizeof(key));
    state_t s = {
        .v0 = key[0] ^ 0x736f6d6570736575u,
        .v1 = key[1] ^ 0x646f72616e646f6du ^ 0xee,
        .v2 = key[0] ^ 0x6c7967656e657261u,
        .v3 = key[1] ^ 0x7465646279746573u,
    };
    s.v3 ^= n;
    rounds(&s, 1);
    s.v0 ^= n;
    s.v2 ^= 0xee;
    rounds(&s, 3);
    halves[0] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    s.v1 ^= 0xdd;
    rounds(&s, 3);
    halves[1] = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    memcpy(out, halves, sizeof(halves));
}
