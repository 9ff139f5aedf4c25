/*
 * What bounds Lua while it runs; what a rule can reach is in rules_library.c, where
 * its code comes from in rules_load.c.
 *
 *   time    The JIT is off, for compiled loops cannot be interrupted. A count
 *           hook looks at the thread's CPU time (a busy host fails no rule), and
 *           so does the guard before C functions that may take long. Once over,
 *           the hook fires at every instruction until the call has ended, so
 *           neither pcall nor a coroutine outlives it.
 *           One instruction can take long where values are big ("..", comparing),
 *           so from the first big block on the hook comes much more often.
 *   memory  The state's allocator refuses beyond the cap; Lua raises an error.
 *   stack   Lua bounds its own. Functions of its library that call back use the
 *           thread's, which the same guard bounds.
 *
 * No C function within a rule's reach runs long by itself: those of Lua's library
 * that could are replaced. Should one do so all the same, watchdog.c ends the agent.
 *
 * Runs in the agent's pipeline thread; allocates from the heap.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/agent/rules_internal.h"

#define HOOK_INSTRUCTIONS 1000   /* the clock is looked at every so many */
#define HOOK_INSTRUCTIONS_BIG 10 /* where there is a big block           */
#define BIG_BLOCK ((size_t) 65536)
#define MEMORY_FAILURES_MAX 8
#define QUICK_US 1000 /* until then CPU time, a system call, is not asked for */
#define STACK_MAX ((size_t) 256 * 1024)
#define MIB ((size_t) 1024 * 1024)

void
mayday_rules_raise(lua_State *L, const char *fmt, ...)
{
    va_list args;

    luaL_where(L, 1);
    va_start(args, fmt);
    (void) lua_pushvfstring(L, fmt, args);
    va_end(args);
    lua_concat(L, 2);
    (void) lua_error(L);
    abort(); /* not reached */
}

static void count_hook(lua_State *L, lua_Debug *ar);

static bool
is_refused(mayday_sandbox_t *box, size_t old_size, size_t size)
{
    if (size <= old_size) {
        return false;
    }
    box->refused_block = size > MAYDAY_RULES_BLOCK_MAX;
    return box->refused_block || box->memory_used > box->memory_max ||
           size - old_size > box->memory_max - box->memory_used;
}

static void *
allocate(void *context, void *old, size_t old_size, size_t size)
{
    mayday_sandbox_t *box = context;
    void *p;

    if (size == 0) {
        free(old);
        box->memory_used -= old_size;
        return NULL;
    }
    if (is_refused(box, old_size, size)) {
        box->refused = true;
        return NULL;
    }
    if (size >= BIG_BLOCK && box->hook_every == HOOK_INSTRUCTIONS && box->lua != NULL) {
        box->hook_every = HOOK_INSTRUCTIONS_BIG;
        if (!box->expired) {
            (void) lua_sethook(box->lua, count_hook, LUA_MASKCOUNT, box->hook_every);
        }
    }
    p = realloc(old, size);
    if (p != NULL) {
        box->memory_used += size - old_size;
        if (box->memory_used > box->memory_peak) {
            box->memory_peak = box->memory_used;
        }
    }
    return p;
}

static uint64_t
thread_cpu_us(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000 + 1;
}

/* Whether the call is over its time: of the clock first, which is cheap, then of the CPU. */
static bool
look_at_clock(mayday_sandbox_t *box)
{
    uint64_t elapsed_us = mayday_clock_monotonic_us() - box->started_us, cpu_us;

    if (box->expired || elapsed_us < QUICK_US) {
        return box->expired;
    }
    if (box->started_cpu_us == 0) {
        box->started_cpu_us = thread_cpu_us();
        return false;
    }
    if (elapsed_us <= box->time_max_us) {
        return false;
    }
    cpu_us = thread_cpu_us() - box->started_cpu_us;
    return cpu_us > box->time_max_us;
}

/* Sticks until the call is over. */
static void
expire(lua_State *L, mayday_sandbox_t *box)
{
    if (!box->expired) {
        box->expired = true;
        (void) lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
    }
}

static void
count_hook(lua_State *L, lua_Debug *ar)
{
    mayday_sandbox_t *box = mayday_sandbox_of(L);

    if (look_at_clock(box)) {
        expire(L, box);
        (void) lua_getinfo(L, "Sl", ar);
        (void) lua_pushfstring(L, "%s:%d: ran for more than %d ms", ar->short_src, ar->currentline,
                               (int) (box->time_max_us / 1000));
        (void) lua_error(L);
    }
}

void
mayday_sandbox_guard(lua_State *L)
{
    mayday_sandbox_t *box = mayday_sandbox_of(L);
    uintptr_t here = (uintptr_t) __builtin_frame_address(0);

    /* Stacks grow downwards on some machines and upwards on others. */
    if ((here < box->stack_start ? box->stack_start - here : here - box->stack_start) > STACK_MAX) {
        mayday_rules_raise(L, "functions call each other too deep");
    }
    if (look_at_clock(box)) {
        expire(L, box);
        mayday_rules_raise(L, "ran for more than %d ms", (int) (box->time_max_us / 1000));
    }
}

bool
mayday_sandbox_is_late(lua_State *L)
{
    return look_at_clock(mayday_sandbox_of(L));
}

/* The message of the error on top, which may be any value. */
static void
error_message(lua_State *L, int rc, const mayday_sandbox_t *box, char *error, size_t error_size)
{
    if (rc == 0) {
        snprintf(error, error_size, "ran for more than %d ms", (int) (box->time_max_us / 1000));
    } else if (rc == LUA_ERRMEM && box->refused_block) {
        snprintf(error, error_size, "a single value needed more than %zu MiB of memory",
                 MAYDAY_RULES_BLOCK_MAX / MIB);
    } else if (rc == LUA_ERRMEM) {
        snprintf(error, error_size, "needed more than %zu MiB of memory", box->memory_max / MIB);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        snprintf(error, error_size, "%s", lua_tostring(L, -1));
    } else {
        snprintf(error, error_size, "an error of type %s was raised", luaL_typename(L, -1));
    }
}

/*
 * Nobody catches an error here, so it gets room: the collector needs memory where
 * it makes the table of strings smaller.
 */
static void
collect_garbage(mayday_sandbox_t *box)
{
    size_t memory_max = box->memory_max;

    box->memory_max = 2 * memory_max;
    (void) lua_gc(box->lua, LUA_GCCOLLECT, 0);
    box->memory_max = memory_max;
}

bool
mayday_sandbox_call(mayday_sandbox_t *box, lua_CFunction function, void *context,
                    uint32_t time_ms_max, char *error, size_t error_size)
{
    lua_State *L = box->lua;
    int rc;

    box->time_max_us = (uint64_t) time_ms_max * 1000;
    box->started_us = mayday_clock_monotonic_us();
    box->started_cpu_us = 0;
    box->stack_start = (uintptr_t) __builtin_frame_address(0);
    box->refused = false;
    rc = lua_cpcall(L, function, context);
    if (rc == 0 && !box->expired) {
        box->memory_failures = 0;
        return true;
    }
    box->memory_failures = box->refused ? box->memory_failures + 1 : 0;
    error_message(L, rc, box, error, error_size);
    lua_settop(L, 0);
    if (box->expired) {
        box->expired = false;
        (void) lua_sethook(L, count_hook, LUA_MASKCOUNT, box->hook_every);
    }
    collect_garbage(box);
    return false;
}

bool
mayday_sandbox_is_exhausted(const mayday_sandbox_t *box)
{
    size_t kept = box->memory_used > box->memory_loaded ? box->memory_used - box->memory_loaded : 0;

    return kept > (box->memory_max - box->memory_loaded) / 2 ||
           box->memory_failures >= MEMORY_FAILURES_MAX;
}

size_t
mayday_sandbox_settle(mayday_sandbox_t *box)
{
    collect_garbage(box);
    box->memory_peak = box->memory_used;
    return box->memory_used;
}

/* ---- the state ---- */

static int
set_up(lua_State *L)
{
    mayday_sandbox_t *box = lua_touserdata(L, 1);

    mayday_sandbox_open_libraries(L);
    mayday_sandbox_learn_opcodes(L, box);
    mayday_sandbox_make_environment(L, box);
    return 0;
}

mayday_rc_t
mayday_sandbox_init(mayday_sandbox_t *box, const char *rules_file, const char *lua_dir, char *error,
                    size_t error_size)
{
    const char *slash = strrchr(rules_file, '/');
    const char *dir = slash == NULL ? "." : rules_file;
    size_t len = slash == NULL ? 1 : (size_t) (slash - rules_file);

    memset(box, 0, sizeof(*box));
    if (len >= sizeof(box->rules_dir) || strlen(lua_dir) >= sizeof(box->lua_dir)) {
        snprintf(error, error_size, "the path is too long");
        return MAYDAY_INVALID;
    }
    memcpy(box->rules_dir, dir, len);
    memcpy(box->lua_dir, lua_dir, strlen(lua_dir));
    box->memory_max = MAYDAY_RULES_MEMORY_MAX;
    box->hook_every = HOOK_INSTRUCTIONS;
    box->lua = lua_newstate(allocate, box);
    if (box->lua == NULL) {
        snprintf(error, error_size, "LuaJIT has no memory, or was built without GC64");
        return MAYDAY_NO_MEMORY;
    }
    if (!mayday_sandbox_call(box, set_up, box, MAYDAY_RULES_LOAD_MS_MAX, error, error_size)) {
        mayday_sandbox_fini(box);
        return MAYDAY_INVALID;
    }
    (void) lua_sethook(box->lua, count_hook, LUA_MASKCOUNT, box->hook_every);
    return MAYDAY_OK;
}

void
mayday_sandbox_fini(mayday_sandbox_t *box)
{
    if (box->lua != NULL) {
        lua_close(box->lua);
        box->lua = NULL;
    }
    while (box->sources != NULL) {
        mayday_source_t *source = box->sources;

        box->sources = source->next;
        free(source);
    }
}

void
mayday_sandbox_move(mayday_sandbox_t *box, mayday_sandbox_t *from)
{
    *box = *from;
    lua_setallocf(box->lua, allocate, box);
    memset(from, 0, sizeof(*from));
}
