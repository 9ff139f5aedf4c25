/*
 * Random-looking ids without a system call (contract: ids.h).
 *
 * Runs inside a web server; allocates nothing. Only mayday_ids_init asks the
 * kernel, once per process.
 */
#include "core/capture/ids.h"

#include <unistd.h>

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

    mayday_siphash(out, ids->key, &n, sizeof(n));
}
