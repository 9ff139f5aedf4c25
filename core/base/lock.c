/*
 * Waiting for a lock that another thread holds (contract: lock.h).
 *
 * Runs on the request path, where it may block for as long as a record takes to
 * write. Allocates nothing.
 */
#include "core/base/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void
mayday_lock_wait(mayday_lock_t *lock)
{
    int error = errno;

    while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0) {
        syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    }
    errno = error;
}

void
mayday_lock_wake(mayday_lock_t *lock)
{
    int error = errno;

    syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = error;
}
