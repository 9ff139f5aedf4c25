/*
 * The memory of an event: a thread's own list of chunks, from which cJSON's
 * allocations are cut one after the other. Freeing a piece does nothing; the end
 * of the event takes all of it back at once and keeps the chunks for the next.
 *
 *   first ─► [####____] ─► [________]        current: where the next piece is cut
 *
 * Runs in the agent; each thread has its own arena, so nothing is locked. What
 * an event may take is bounded, for rules can make it as big as they like.
 */
#include <pthread.h>
#include <stdlib.h>

#include "core/event/event_build.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n) ((void) (p), (void) (n))
#define UNPOISON(p, n) ((void) (p), (void) (n))
#endif

#define CHUNK_SIZE ((size_t) 128 * 1024)
#define ARENA_SIZE_MAX ((size_t) 16 * 1024 * 1024)
#define ARENA_SIZE_KEPT ((size_t) 512 * 1024)
#define ALIGNMENT ((size_t) 16)

typedef struct chunk chunk_t;
struct chunk {
    chunk_t *next;
    size_t size; /* of data */
    size_t used;
    _Alignas(16) char data[];
};

typedef struct {
    chunk_t *first;
    chunk_t *current; /* the chunks behind it are empty */
    size_t total;     /* sum of the chunks' sizes        */
    bool bound;
} arena_t;

static _Thread_local arena_t arena;
static pthread_key_t arena_key; /* frees a thread's chunks when it ends */

static void
chunks_free(arena_t *a, chunk_t *chunk)
{
    while (chunk != NULL) {
        chunk_t *next = chunk->next;
        a->total -= chunk->size;
        UNPOISON(chunk->data, chunk->size);
        free(chunk);
        chunk = next;
    }
}

static void
arena_thread_end(void *p)
{
    arena_t *a = p;

    chunks_free(a, a->first);
    *a = (arena_t){0};
}

static bool
arena_grow(arena_t *a, size_t size)
{
    size_t chunk_size = size > CHUNK_SIZE ? size : CHUNK_SIZE;
    chunk_t *chunk;

    if (a->current != NULL && a->current->next != NULL && a->current->next->size >= size) {
        a->current = a->current->next;
        return true;
    }
    if (chunk_size > ARENA_SIZE_MAX - a->total) {
        return false;
    }
    chunk = malloc(sizeof(*chunk) + chunk_size);
    if (chunk == NULL) {
        return false;
    }
    chunk->size = chunk_size;
    chunk->used = 0;
    chunk->next = NULL;
    POISON(chunk->data, chunk->size);
    if (a->current == NULL) {
        (void) pthread_setspecific(arena_key, a);
        a->first = chunk;
    } else {
        chunk->next = a->current->next;
        a->current->next = chunk;
    }
    a->current = chunk;
    a->total += chunk_size;
    return true;
}

static void *
memory_alloc(size_t size)
{
    arena_t *a = &arena;
    void *p;

    if (!a->bound) {
        return malloc(size);
    }
    if (size > ARENA_SIZE_MAX) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if ((a->current == NULL || a->current->size - a->current->used < size) &&
        !arena_grow(a, size)) {
        return NULL;
    }
    p = a->current->data + a->current->used;
    a->current->used += size;
    UNPOISON(p, size);
    return p;
}

static void
memory_free(void *p)
{
    const chunk_t *chunk;

    for (chunk = arena.first; chunk != NULL; chunk = chunk->next) {
        if ((uintptr_t) p - (uintptr_t) chunk->data < chunk->size) {
            return;
        }
    }
    free(p);
}

static void
arena_reset(arena_t *a)
{
    chunk_t *chunk;

    if (a->total > ARENA_SIZE_KEPT) {
        chunks_free(a, a->first->next);
        a->first->next = NULL;
    }
    if (a->total > ARENA_SIZE_KEPT) { /* the first one alone is that big */
        chunks_free(a, a->first);
        a->first = NULL;
    }
    for (chunk = a->first; chunk != NULL; chunk = chunk->next) {
        POISON(chunk->data, chunk->used);
        chunk->used = 0;
    }
    a->current = a->first;
}

void
mayday_event_memory_setup(void)
{
    cJSON_Hooks hooks = {memory_alloc, memory_free};

    (void) pthread_key_create(&arena_key, arena_thread_end);
    cJSON_InitHooks(&hooks);
}

void
mayday_event_memory_begin(void)
{
    arena_reset(&arena);
    arena.bound = true;
}

void
mayday_event_memory_end(void)
{
    arena.bound = false;
    arena_reset(&arena);
}
