/* Ids: unlike each other, between processes and threads too. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/capture/ids.h"

#define IDS_PER_THREAD 2000
#define THREADS 4

typedef struct {
    uint8_t bytes[16];
} drawn_id_t;

static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(drawn_id_t));
}

static void
assert_all_unlike(drawn_id_t *ids, size_t count)
{
    qsort(ids, count, sizeof(*ids), compare);
    for (size_t i = 1; i < count; i++) {
        assert_int_not_equal(memcmp(&ids[i - 1], &ids[i], sizeof(*ids)), 0);
    }
}

typedef struct {
    mayday_ids_t *source;
    drawn_id_t *out;
} task_t;

static void *
draw(void *arg)
{
    task_t *task = arg;

    for (size_t i = 0; i < IDS_PER_THREAD; i++) {
        mayday_ids_next(task->source, task->out[i].bytes);
    }
    return NULL;
}

static void
test_next__threads_never_get_the_same(void **state)
{
    static drawn_id_t ids[THREADS * IDS_PER_THREAD];
    pthread_t threads[THREADS];
    task_t tasks[THREADS];
    mayday_ids_t source;

    (void) state;
    mayday_ids_init(&source);
    for (size_t i = 0; i < THREADS; i++) {
        tasks[i] = (task_t){&source, ids + i * IDS_PER_THREAD};
        assert_int_equal(pthread_create(&threads[i], NULL, draw, &tasks[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_all_unlike(ids, MAYDAY_COUNT(ids));
}

static void
test_init__each_process_has_its_own(void **state)
{
    drawn_id_t ids[8];
    int fds[2];

    (void) state;
    assert_int_equal(pipe(fds), 0);
    for (size_t i = 0; i < MAYDAY_COUNT(ids); i++) {
        if (fork() == 0) {
            mayday_ids_t source;
            drawn_id_t id;
            mayday_ids_init(&source);
            mayday_ids_next(&source, id.bytes);
            _exit(write(fds[1], &id, sizeof(id)) == sizeof(id) ? 0 : 1);
        }
    }
    for (size_t i = 0; i < MAYDAY_COUNT(ids); i++) {
        assert_int_equal(read(fds[0], &ids[i], sizeof(ids[i])), sizeof(ids[i]));
        wait(NULL);
    }
    assert_all_unlike(ids, MAYDAY_COUNT(ids));
    close(fds[0]);
    close(fds[1]);
}

static void
test_next__neighbours_differ_in_about_half_of_their_bits(void **state)
{
    uint8_t last[16] = {0}, id[16];
    mayday_ids_t source;
    unsigned bits = 0;

    (void) state;
    mayday_ids_init(&source);
    mayday_ids_next(&source, last);
    for (int i = 0; i < 1000; i++) {
        mayday_ids_next(&source, id);
        for (int j = 0; j < 16; j++) {
            bits += (unsigned) __builtin_popcount(last[j] ^ id[j]);
        }
        memcpy(last, id, sizeof(last));
    }
    assert_in_range(bits / 1000, 60, 68);
}

/* What a trace is given comes from one number: its parts must not repeat one another. */
static void
test_next_trace__every_part_is_new(void **state)
{
    static uint8_t parts[3000][8];
    mayday_ids_t source;

    (void) state;
    mayday_ids_init(&source);
    for (size_t i = 0; i < MAYDAY_COUNT(parts); i += 3) {
        uint8_t trace_id[16];

        mayday_ids_next_trace(&source, trace_id, parts[i]);
        memcpy(parts[i + 1], trace_id, 8);
        memcpy(parts[i + 2], trace_id + 8, 8);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(parts); i++) {
        for (size_t j = i + 1; j < MAYDAY_COUNT(parts); j++) {
            assert_memory_not_equal(parts[i], parts[j], 8);
        }
    }
}

static void
test_next_span__is_new(void **state)
{
    uint8_t trace_id[16], span_id[8], next[8];
    mayday_ids_t source;

    (void) state;
    mayday_ids_init(&source);
    mayday_ids_next_trace(&source, trace_id, span_id);
    mayday_ids_next_span(&source, next);
    assert_memory_not_equal(span_id, next, 8);
    mayday_ids_next_span(&source, span_id);
    assert_memory_not_equal(span_id, next, 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next__threads_never_get_the_same),
        cmocka_unit_test(test_init__each_process_has_its_own),
        cmocka_unit_test(test_next__neighbours_differ_in_about_half_of_their_bits),
        cmocka_unit_test(test_next_trace__every_part_is_new),
        cmocka_unit_test(test_next_span__is_new),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
