/*
 * A mutex between the threads of one process, for the request path: a free one is
 * taken and given back in place, a fifth of what pthread's takes.
 *
 * Never in shared memory: a thread that dies in here is not noticed. Blocks only
 * where two threads meet (Ulrich Drepper, "Futexes are tricky", mutex 2).
 */
#ifndef MAYDAY_LOCK_H
#define MAYDAY_LOCK_H

#include <stdatomic.h>

#include "core/base/base.h"

/* Free when zeroed. */
typedef struct {
    _Atomic uint32_t state; /* 0: free, 1: held, 2: held, and waited for */
} mayday_lock_t;

/* lock.c: the rest of the way where two meet; errno is left alone. */
void mayday_lock_wait(mayday_lock_t *lock);
void mayday_lock_wake(mayday_lock_t *lock);

/* Whether it was free; then it is held. */
static inline bool
mayday_trylock(mayday_lock_t *lock)
{
    uint32_t expected = 0;

    return atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static inline void
mayday_lock(mayday_lock_t *lock)
{
    if (MAYDAY_UNLIKELY(!mayday_trylock(lock))) {
        mayday_lock_wait(lock);
    }
}

static inline void
mayday_unlock(mayday_lock_t *lock)
{
    if (MAYDAY_UNLIKELY(atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)) {
        mayday_lock_wake(lock);
    }
}

#endif
