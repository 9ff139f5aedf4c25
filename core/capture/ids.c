/*
 * Random-looking ids without a system call (contract: ids.h).
 *
 * Runs inside a web server; allocates nothing. Only mayday_ids_init asks the
 * kernel, once per process.
 *
 * A failed request takes three ids (event, trace, span), so this is no whole
 * SipHash but its state and rounds as a generator: one round takes in the number
 * of the id, three rounds come before each 128 bits that are given out, and the
 * other half of the state stays hidden. 70 instructions instead of the 390 of
 * mayday_siphash. It has to keep the next id from being guessed from those
 * before, no more.
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
mix(state_t *s)
{
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

void
mayday_ids_init(mayday_ids_t *ids)
{
    uint64_t key[2];

    memset(ids, 0, sizeof(*ids));
    atomic_init(&ids->counter, 0);
    if (mayday_random(key, sizeof(key)) != MAYDAY_OK) {
        uint64_t seed[] = {mayday_clock_us(), mayday_clock_monotonic_us(), (uint64_t) getpid(),
                           (uint64_t) (uintptr_t) ids};
        const uint8_t no_key[16] = {0};
        mayday_siphash((uint8_t *) key, no_key, seed, sizeof(seed));
    }
    ids->key[0] = key[0] ^ 0x736f6d6570736575u;
    ids->key[1] = key[1] ^ 0x646f72616e646f6du ^ 0xee;
    ids->key[2] = key[0] ^ 0x6c7967656e657261u;
    ids->key[3] = key[1] ^ 0x7465646279746573u;
}

/* Takes in the next number. */
static inline state_t
begin(mayday_ids_t *ids)
{
    uint64_t n = atomic_fetch_add_explicit(&ids->counter, 1, memory_order_relaxed);
    state_t s = {ids->key[0], ids->key[1], ids->key[2], ids->key[3] ^ n};

    mix(&s);
    s.v0 ^= n;
    s.v2 ^= 0xee;
    return s;
}

/* The next 16 bytes; of these, as many as are wanted. */
static inline void
give(state_t *s, void *out, size_t len)
{
    uint64_t words[2];

    mix(s);
    mix(s);
    mix(s);
    words[0] = s->v0 ^ s->v1;
    words[1] = s->v2 ^ s->v3;
    memcpy(out, words, len);
}

void
mayday_ids_next(mayday_ids_t *ids, uint8_t out[16])
{
    state_t s = begin(ids);

    give(&s, out, 16);
}

void
mayday_ids_next_trace(mayday_ids_t *ids, uint8_t trace_id[16], uint8_t span_id[8])
{
    state_t s = begin(ids);

    give(&s, trace_id, 16);
    s.v1 ^= 0xdd;
    give(&s, span_id, 8);
}

void
mayday_ids_next_span(mayday_ids_t *ids, uint8_t span_id[8])
{
    state_t s = begin(ids);

    give(&s, span_id, 8);
}
