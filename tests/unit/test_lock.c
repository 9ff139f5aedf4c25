/* Locks between threads: nobody is in twice, nobody waits for ever. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/lock.h"

#define THREADS 8
#define ROUNDS 20000

static mayday_lock_t lock;
static unsigned long long counted;

static void *
count(void *arg)
{
    (void) arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        mayday_lock(&lock);
        counted++;
        mayday_unlock(&lock);
    }
    return NULL;
}

static void
test_lock__one_thread_at_a_time(void **state)
{
    pthread_t threads[THREADS];

    (void) state;
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(counted, THREADS * ROUNDS);
    assert_int_equal(lock.state, 0);
}

/* Servers log with the errno of what they were just doing. */
static void
test_wake__leaves_errno_alone(void **state)
{
    mayday_lock_t waited_for = {2};

    (void) state;
    errno = ECONNREFUSED;
    mayday_unlock(&waited_for);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(waited_for.state, 0);
    mayday_lock_wait(&waited_for);
    assert_int_equal(errno, ECONNREFUSED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lock__one_thread_at_a_time),
        cmocka_unit_test(test_wake__leaves_errno_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
