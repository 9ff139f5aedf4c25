/*
 * What the files of the rules room share: rules.c (the API, the `mayday` module
 * and the run), rules_event.c (events as Lua tables), rules_collect.c (and back);
 * and of the sandbox rules_sandbox.c (time, memory and stack), rules_library.c (what
 * a rule can reach) and rules_load.c (where its code comes from). Nobody else
 * includes this.
 *
 * One lua_State per rules file, used by the pipeline thread only. Errors inside
 * it travel as Lua errors and end in mayday_sandbox_call.
 */
#ifndef MAYDAY_RULES_INTERNAL_H
#define MAYDAY_RULES_INTERNAL_H

#include <limits.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/agent/rules.h"

#define MAYDAY_RULES_PROCESSORS_MAX 64
#define MAYDAY_RULES_EVENT_MS_MAX 50  /* CPU time of all rules over one event */
#define MAYDAY_RULES_LOAD_MS_MAX 1000 /* CPU time of loading the rules        */
#define MAYDAY_RULES_MEMORY_MAX ((size_t) 16 * 1024 * 1024)
#define MAYDAY_RULES_BLOCK_MAX ((size_t) 4 * 1024 * 1024) /* one string, one table's slots */
#define MAYDAY_RULES_FILE_SIZE_MAX ((size_t) 1024 * 1024)
#define MAYDAY_RULES_ORIGINALS 6
#define MAYDAY_RULES_REASON_MAX 64                   /* characters */
#define MAYDAY_RULES_DEPTH_MAX 32                    /* tables within tables, in an event    */
#define MAYDAY_RULES_NODES_MAX 20000                 /* values in the parts that rules touched */
#define MAYDAY_RULES_BYTES_MAX ((size_t) 512 * 1024) /* text in them */

/* A file as it was read when the rules were loaded. */
typedef struct mayday_source {
    struct mayday_source *next;
    char path[PATH_MAX];
    size_t len;
    char bytes[];
} mayday_source_t;

typedef struct {
    lua_State *lua;
    size_t memory_used, memory_max; /* bytes */
    size_t memory_peak;             /* of memory_used, since it was last settled    */
    size_t memory_loaded;           /* of memory_used, once the rules were loaded   */
    bool refused;                   /* memory, in this call                         */
    bool refused_block;             /* because one block of it was too big          */
    unsigned memory_failures;       /* calls in a row that failed for want of memory */
    int hook_every;                 /* instructions between two looks at the clock  */
    uint64_t time_max_us;
    uint64_t started_us;     /* of this call, monotonic                    */
    uint64_t started_cpu_us; /* the thread's, soon after; 0: not asked yet */
    uintptr_t stack_start;   /* where the thread's stack was then          */
    bool expired;            /* sticks until the call is over              */
    int environment;         /* registry references                        */
    int modules;
    lua_CFunction originals[MAYDAY_RULES_ORIGINALS]; /* of rules_library.c */
    uint32_t get_global, set_global;                 /* opcodes of LuaJIT's bytecode */
    char rules_dir[PATH_MAX];
    char lua_dir[PATH_MAX];
    mayday_source_t *sources; /* every file that was loaded       */
    size_t sources_size;      /* bytes of them                    */
    bool sources_only;        /* there are no other files         */
} mayday_sandbox_t;

typedef struct {
    int function;     /* registry reference */
    const char *kind; /* "event_processor" or "before_send" */
    char where[128];  /* "rules.lua:12" */
} mayday_hook_t;

struct mayday_rules {
    mayday_sandbox_t sandbox; /* first: the allocator's context leads back here */
    mayday_hook_t processors[MAYDAY_RULES_PROCESSORS_MAX]; /* in order */
    size_t processor_count;
    mayday_hook_t before_send; /* kind NULL: none */
    bool loaded;
    char file[PATH_MAX];
    uint8_t hash_key[16];
    bool has_hash_key;
    struct mayday_rules_routes *routes;  /* of mayday.routes, in the state */
    struct mayday_re_cache *expressions; /* of mayday.re; NULL: not used yet */
    uint64_t restart_not_before_us;      /* monotonic */
    size_t memory_settled;               /* bytes, see mayday_rules_settle */

    /* Of the run under way. */
    mayday_event_t *event;
    const void *event_table; /* identity of the Lua table that stands for it */
    const void *hint_table;
    uint32_t touched; /* mask of parts that Lua has, or has set       */
    const mayday_hook_t *running;
    mayday_rules_result_t *result;
};

static inline mayday_rules_t *
mayday_rules_of(lua_State *L)
{
    void *context;

    (void) lua_getallocf(L, &context);
    return context;
}

static inline mayday_sandbox_t *
mayday_sandbox_of(lua_State *L)
{
    return &mayday_rules_of(L)->sandbox;
}

/* ---- rules_sandbox.c ---- */

/* luaL_error, as a function that compiler and linters know not to return. */
__attribute__((noreturn)) void mayday_rules_raise(lua_State *L, const char *fmt, ...)
    MAYDAY_PRINTF(2, 3);

/* MAYDAY_NO_MEMORY, MAYDAY_INVALID (a path is too long, or not LuaJIT as expected): error says. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_sandbox_init(mayday_sandbox_t *box, const char *rules_file,
                                                  const char *lua_dir, char *error,
                                                  size_t error_size);
void mayday_sandbox_fini(mayday_sandbox_t *box);

/* Gives what is in from to box, which is empty and was the same but for its address. */
void mayday_sandbox_move(mayday_sandbox_t *box, mayday_sandbox_t *from);

/*
 * Whether the rules keep so much memory, or failed so often for want of it, that
 * only a new state helps. After a call that failed.
 */
bool mayday_sandbox_is_exhausted(const mayday_sandbox_t *box);

/*
 * Collects garbage and forgets memory_peak, for measuring the next call. Returns
 * what is in use.
 */
size_t mayday_sandbox_settle(mayday_sandbox_t *box);

/*
 * Calls function(context) with the bounds armed. On failure (false) error has
 * the message. The Lua stack is left as it was.
 */
bool mayday_sandbox_call(mayday_sandbox_t *box, lua_CFunction function, void *context,
                         uint32_t time_ms_max, char *error, size_t error_size);

/*
 * To be called by C functions that may call back into Lua or take long: raises an
 * error where the call is over its time or too deep in the thread's stack.
 */
void mayday_sandbox_guard(lua_State *L);

/* Whether the call is over its time, for C functions that must clean up first. */
bool mayday_sandbox_is_late(lua_State *L);

/* ---- rules_library.c: called once per state, may raise Lua errors ---- */

void mayday_sandbox_open_libraries(lua_State *L);
void mayday_sandbox_make_environment(lua_State *L, mayday_sandbox_t *box);

/*
 * Marks the metatable on top as that of lazy tables: fill(table) is called, once
 * for each use, before pairs and next look at such a table.
 */
void mayday_sandbox_lazy(lua_State *L, lua_CFunction fill);

/* Fills the table on top if it is such a one. */
void mayday_sandbox_fill(lua_State *L);

/* ---- rules_pattern.c: functions of Lua ---- */

int mayday_rules_find(lua_State *L);
int mayday_rules_gmatch(lua_State *L);
int mayday_rules_gsub(lua_State *L);
int mayday_rules_match(lua_State *L);

/* ---- rules_load.c ---- */

/* Sets the opcodes that the check for undeclared globals knows. Raises Lua errors. */
void mayday_sandbox_learn_opcodes(lua_State *L, mayday_sandbox_t *box);

/* Makes a module that require(name) returns: takes the value on top. */
void mayday_sandbox_provide(lua_State *L, const char *name);

/*
 * Pushes the function of a file, compiled, checked for undeclared globals and
 * bound to the environment. chunk is its name in messages. Raises Lua errors.
 */
void mayday_sandbox_load(lua_State *L, const char *path, const char *chunk);

/* require(name), as a function of Lua. */
int mayday_sandbox_require(lua_State *L);

/* ---- rules_event.c ---- */

/* Creates the metatables; once per state. */
void mayday_rules_event_open(lua_State *L);

/* Push the tables that stand for the event and the hint of the run under way. */
void mayday_rules_event_push(lua_State *L);
void mayday_rules_hint_push(lua_State *L);

/*
 * The event, where the value at index is the table that stands for it in the run
 * under way; else NULL. What a rule changed stands in that table, not in the event.
 */
mayday_event_t *mayday_rules_event_at(lua_State *L, int index);

/* Whether the table on top came from a list or was marked as one. */
bool mayday_rules_is_list(lua_State *L);

/*
 * Pairs: under which keys lists of [name, value] are tables name -> value in
 * Lua, and which of these ignore the case of names. A first_of_name is the first
 * pair of the list with that pair's name, be it the pair itself.
 */
bool mayday_rules_key_of_pairs(const char *key);
bool mayday_rules_key_ignores_case(const char *key);
bool mayday_rules_same_name(const char *a, const char *b, bool ignore_case);
bool mayday_rules_is_pairs(const cJSON *json);
const cJSON *mayday_rules_first_of_name(const cJSON *list, const cJSON *pair, bool ignore_case);

static inline const char *
mayday_rules_pair_name(const cJSON *pair)
{
    return pair->child->valuestring;
}

static inline const char *
mayday_rules_pair_value(const cJSON *pair)
{
    return pair->child->next->valuestring;
}

/* ---- rules_bots.c: mayday.bots, as a module's open ---- */

void mayday_rules_bots_open(lua_State *L);

/* ---- rules_re.c: mayday.re ---- */

void mayday_rules_re_open(lua_State *L);

/* After each call into Lua, and at the end of the state. */
void mayday_rules_re_run_over(mayday_rules_t *rules);
void mayday_rules_re_close(mayday_rules_t *rules);

/* ---- rules_pii.c: mayday.pii, as a module's open ---- */

void mayday_rules_pii_open(lua_State *L);

/* ---- rules_routes.c: mayday.routes, as a module's open ---- */

void mayday_rules_routes_open(lua_State *L);

/* ---- rules_collect.c ---- */

/* Takes what the rules changed in the event's table at index back into the event. */
void mayday_rules_collect(lua_State *L, int index);

/* mayday.array(table): marks a table as a list. */
int mayday_rules_array(lua_State *L);

#endif
