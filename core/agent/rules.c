/*
 * The rules: loading a file, the `mayday` module, and the run over an event.
 * How events look in Lua is in rules_event.c, how they come back in
 * rules_collect.c, what bounds Lua in rules_sandbox.c and its neighbours.
 *
 * Runs in the agent's pipeline thread. Allocates one object per rules file;
 * a run allocates in the Lua state and in the event's arena only.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/log.h"
#include "core/agent/rules_internal.h"
#include "core/event/utf8.h"

/* ---- the mayday module ---- */

/* Puts the function at index 1 at hooks[at]. */
static void
set_hook(lua_State *L, mayday_hook_t *hook, const char *kind)
{
    lua_Debug info;

    lua_pushvalue(L, 1);
    (void) lua_getinfo(L, ">S", &info);
    snprintf(hook->where, sizeof(hook->where), "%s:%d", info.short_src, info.linedefined);
    hook->kind = kind;
    lua_pushvalue(L, 1);
    hook->function = luaL_ref(L, LUA_REGISTRYINDEX);
}

static mayday_rules_t *
rules_being_loaded(lua_State *L, const char *name)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    if (lua_istable(L, 1) && lua_isfunction(L, 2)) {
        mayday_rules_raise(L, "write mayday.%s with a dot, not with a colon", name);
    }
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (rules->loaded) {
        mayday_rules_raise(L, "mayday.%s may only be called while the rules are loaded", name);
    }
    return rules;
}

/* mayday.add_event_processor(function(event, hint)): runs before before_send, in order. */
static int
add_event_processor(lua_State *L)
{
    mayday_rules_t *rules = rules_being_loaded(L, "add_event_processor");

    if (rules->processor_count == MAYDAY_RULES_PROCESSORS_MAX) {
        mayday_rules_raise(L, "there are already %d event processors", MAYDAY_RULES_PROCESSORS_MAX);
    }
    set_hook(L, &rules->processors[rules->processor_count], "event_processor");
    rules->processor_count++;
    return 0;
}

/* mayday.before_send(function(event, hint)): one, runs last. */
static int
before_send(lua_State *L)
{
    mayday_rules_t *rules = rules_being_loaded(L, "before_send");

    if (rules->before_send.kind != NULL) {
        mayday_rules_raise(L, "before_send is already set in %s", rules->before_send.where);
    }
    set_hook(L, &rules->before_send, "before_send");
    return 0;
}

/* mayday.log(level, text): into the server's error log. */
static int
log_text(lua_State *L)
{
    static const char *const names[] = {"error", "warn", "notice", "debug", NULL};
    static const mayday_log_level_t levels[] = {MAYDAY_LOG_ERROR, MAYDAY_LOG_WARN,
                                                MAYDAY_LOG_NOTICE, MAYDAY_LOG_DEBUG};
    mayday_log_level_t level = levels[luaL_checkoption(L, 1, NULL, names)];
    const char *text = luaL_checkstring(L, 2);

    luaL_where(L, 1);
    mayday_log(level, "MD0601", "%s%.512s", lua_tostring(L, -1), text);
    return 0;
}

/*
 * mayday.hmac(text): the same keyed hash as that of mayday_user's hash:, so that
 * what both hide can still be compared.
 */
static int
hmac(lua_State *L)
{
    const mayday_rules_t *rules = mayday_rules_of(L);
    uint8_t hash[MAYDAY_HASH_BYTES];
    char hex[MAYDAY_HASH_HEX_SIZE];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    if (!rules->has_hash_key) {
        mayday_rules_raise(L, "mayday.hmac has no key: none was found in mayday_directory");
    }
    mayday_siphash(hash, rules->hash_key, text, len);
    mayday_hex(hex, hash, sizeof(hash));
    lua_pushlstring(L, hex, sizeof(hex) - 1);
    return 1;
}

/* What a rules file finds in `require "mayday"`: a new function is one line here. */
static const luaL_Reg functions[] = {
    {"add_event_processor", add_event_processor},
    {"array", mayday_rules_array},
    {"before_send", before_send},
    {"hmac", hmac},
    {"log", log_text},
};

/* A misspelt name would be nil, and nothing would say so where it is not called. */
static int
no_such_name(lua_State *L)
{
    mayday_rules_raise(L, "there is no mayday.%s",
                       lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2));
}

static void
open_mayday(lua_State *L)
{
    lua_createtable(L, 0, (int) MAYDAY_COUNT(functions) + 2);
    for (size_t i = 0; i < MAYDAY_COUNT(functions); i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
    lua_pushliteral(L, MAYDAY_VERSION);
    lua_setfield(L, -2, "version");
    mayday_rules_re_open(L);
    lua_setfield(L, -2, "re");
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, no_such_name);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    (void) lua_setmetatable(L, -2);
}

/*
 * What rules can require beside files, made in C: a new module is one line here.
 * open pushes what require returns; it is called once per state, before the rules
 * file is loaded, and may raise Lua errors.
 */
static const struct {
    const char *name;
    void (*open)(lua_State *L);
} modules[] = {
    {"mayday", open_mayday},
    {"mayday.bots", mayday_rules_bots_open},
    {"mayday.pii", mayday_rules_pii_open},
    {"mayday.routes", mayday_rules_routes_open},
};

static void
provide_modules(lua_State *L)
{
    for (size_t i = 0; i < MAYDAY_COUNT(modules); i++) {
        modules[i].open(L);
        mayday_sandbox_provide(L, modules[i].name);
    }
}

/* ---- loading ---- */

/*
 * Errors are shown in logs, terminals and JSON, and may quote what a client sent:
 * without control characters and broken UTF-8.
 */
static void
make_printable(char *text)
{
    size_t len = strlen(text), n;
    uint32_t code;

    for (size_t i = 0; i < len; i += n) {
        n = mayday_utf8_decode(mayday_slice(text + i, len - i), &code);
        if (n == 0) {
            n = 1;
            text[i] = '?';
        } else if (code < ' ' || (code >= 0x7f && code < 0xa0)) {
            memset(text + i, ' ', n);
        }
    }
}

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static int
load(lua_State *L)
{
    const char *file = *(const char **) lua_touserdata(L, 1);

    mayday_rules_event_open(L);
    provide_modules(L);
    mayday_sandbox_load(L, file, base_name(file));
    lua_call(L, 0, 0);
    return 0;
}

/*
 * Loads what rules->file names into rules, empty but for what says how. sources:
 * files read before, to be used instead of those on disk; taken on success only.
 */
static bool
open_rules(mayday_rules_t *rules, const char *lua_dir, mayday_source_t *sources, char *error,
           size_t error_size)
{
    const char *file = rules->file, *name = base_name(file);
    char why[512];

    if (mayday_sandbox_init(&rules->sandbox, file, lua_dir, error, error_size) != MAYDAY_OK) {
        return false;
    }
    rules->sandbox.sources = sources;
    rules->sandbox.sources_only = sources != NULL;
    if (mayday_sandbox_call(&rules->sandbox, load, &file, MAYDAY_RULES_LOAD_MS_MAX, why,
                            sizeof(why))) {
        mayday_rules_re_run_over(rules);
        rules->sandbox.memory_loaded = rules->sandbox.memory_used;
        rules->loaded = true;
        return true;
    }
    /* Lua knows files by their base name; who reads the message needs the whole. */
    if (strncmp(why, name, strlen(name)) == 0 && why[strlen(name)] == ':') {
        snprintf(error, error_size, "%.*s%s", (int) (name - file), file, why);
    } else {
        snprintf(error, error_size, "%s: %s", file, why);
    }
    make_printable(error);
    if (sources != NULL) {
        rules->sandbox.sources = NULL;
    }
    return false;
}

static void
close_rules(mayday_rules_t *rules)
{
    mayday_sandbox_fini(&rules->sandbox);
    mayday_rules_re_close(rules);
}

mayday_rules_t *
mayday_rules_new(const char *file, const char *lua_dir, const uint8_t *hash_key, char *error,
                 size_t error_size)
{
    mayday_rules_t *rules = calloc(1, sizeof(*rules));

    if (rules == NULL) {
        snprintf(error, error_size, "no memory");
        return NULL;
    }
    if (strlen(file) >= sizeof(rules->file)) {
        snprintf(error, error_size, "the path of the rules file is too long");
        free(rules);
        return NULL;
    }
    memcpy(rules->file, file, strlen(file) + 1);
    rules->has_hash_key = hash_key != NULL;
    if (hash_key != NULL) {
        memcpy(rules->hash_key, hash_key, sizeof(rules->hash_key));
    }
    if (!open_rules(rules, lua_dir, NULL, error, error_size)) {
        mayday_rules_free(rules);
        return NULL;
    }
    return rules;
}

void
mayday_rules_free(mayday_rules_t *rules)
{
    if (rules != NULL) {
        close_rules(rules);
        free(rules);
    }
}

/*
 * Replaces a state that rules have filled up by a new one of the same files. At
 * most a twentieth of the time goes into that, however often rules fill it.
 */
static bool
restart(mayday_rules_t *rules)
{
    uint64_t start_us = mayday_clock_monotonic_us();
    mayday_rules_t *fresh;
    char error[512] = "no memory";
    bool done = false;

    if (start_us < rules->restart_not_before_us) {
        return false;
    }
    fresh = calloc(1, sizeof(*fresh));
    if (fresh != NULL) {
        memcpy(fresh->file, rules->file, sizeof(fresh->file));
        memcpy(fresh->hash_key, rules->hash_key, sizeof(fresh->hash_key));
        fresh->has_hash_key = rules->has_hash_key;
        done =
            open_rules(fresh, rules->sandbox.lua_dir, rules->sandbox.sources, error, sizeof(error));
    }
    if (done) {
        rules->sandbox.sources = NULL;
        close_rules(rules);
        *rules = *fresh;
        mayday_sandbox_move(&rules->sandbox, &fresh->sandbox);
        fresh->expressions = NULL;
        mayday_log(MAYDAY_LOG_ERROR, "MD0602",
                   "rules kept too much memory and were loaded anew, what they had kept is gone: "
                   "%s",
                   rules->file);
    } else {
        mayday_log(MAYDAY_LOG_ERROR, "MD0603",
                   "rules keep too much memory and cannot be loaded anew: %s", error);
    }
    mayday_rules_free(fresh);
    rules->restart_not_before_us =
        mayday_clock_monotonic_us() + 20 * (mayday_clock_monotonic_us() - start_us);
    return done;
}

/* ---- the run ---- */

/* Reasons name counts, also for machines: they are short and plain. */
static bool
reason_is_plain(const char *reason, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (reason[i] < ' ' || reason[i] > '~') {
            return false;
        }
    }
    return len > 0 && len <= MAYDAY_RULES_REASON_MAX;
}

/* The values on top are nil and what should be a reason, or a mistake. */
static void
take_reason(lua_State *L, mayday_rules_result_t *result, const mayday_hook_t *hook)
{
    size_t len;
    const char *reason;

    if (!lua_isnil(L, -2) || lua_type(L, -1) != LUA_TSTRING) {
        mayday_rules_raise(L, "%s: %s must return the event, or nil and a reason; it returned %s",
                           hook->where, hook->kind,
                           lua_isnil(L, -2) ? "nil without a reason (is `return event` missing?)"
                           : lua_istable(L, -2) ? "another table"
                                                : luaL_typename(L, -2));
    }
    reason = lua_tolstring(L, -1, &len);
    if (!reason_is_plain(reason, len)) {
        mayday_rules_raise(
            L, "%s: the reason that %s returned is not 1 to %d printable ASCII characters",
            hook->where, hook->kind, MAYDAY_RULES_REASON_MAX);
    }
    result->verdict = MAYDAY_RULES_DROP;
    snprintf(result->reason, sizeof(result->reason), "%s", reason);
}

/*
 * Calls a hook with the event at 1 and the hint at 2. True: the event goes on.
 * A forgotten `return event` must not drop events, so only nil with a reason does.
 */
static bool
run_hook(lua_State *L, mayday_rules_t *rules, const mayday_hook_t *hook)
{
    bool keep;

    rules->running = hook;
    lua_rawgeti(L, LUA_REGISTRYINDEX, hook->function);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 2);
    keep = lua_rawequal(L, -2, 1) != 0;
    if (!keep) {
        take_reason(L, rules->result, hook);
    }
    lua_settop(L, 2);
    return keep;
}

static int
run(lua_State *L)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    lua_settop(L, 0);
    mayday_rules_event_push(L);
    mayday_rules_hint_push(L);
    for (size_t i = 0; i < rules->processor_count; i++) {
        if (!run_hook(L, rules, &rules->processors[i])) {
            return 0;
        }
    }
    if (rules->before_send.kind != NULL && !run_hook(L, rules, &rules->before_send)) {
        return 0;
    }
    rules->running = NULL;
    mayday_rules_collect(L, 1);
    return 0;
}

/*
 * "rules.lua:12: …", as most errors begin: with the name of a file that was loaded.
 * The place is sent in a tag, so what only looks like one, a rule's own text with
 * who knows what in it, is none.
 */
static bool
has_position(const mayday_rules_t *rules, const char *error)
{
    const char *colon = strchr(error, ':');
    size_t digits = colon == NULL ? 0 : strspn(colon + 1, "0123456789");
    size_t len = colon == NULL ? 0 : (size_t) (colon - error);

    if (digits == 0 || strncmp(colon + 1 + digits, ": ", 2) != 0) {
        return false;
    }
    for (const mayday_source_t *source = rules->sandbox.sources; source != NULL;
         source = source->next) {
        size_t path_len = strlen(source->path);

        if (path_len >= len && strncmp(source->path + path_len - len, error, len) == 0 &&
            (path_len == len || source->path[path_len - len - 1] == '/')) {
            return true;
        }
    }
    return false;
}

/*
 * Says where to look for the cause of an error that has no position of its own:
 * in the hook that ran, or, where the whole event was found unfit afterwards, in
 * all of them.
 */
static void
add_position(const mayday_rules_t *rules, mayday_rules_result_t *result)
{
    const mayday_hook_t *last = rules->running, *first = rules->running;
    char error[sizeof(result->error)];

    if (has_position(rules, result->error)) {
        return;
    }
    if (last == NULL) {
        last = rules->before_send.kind != NULL ? &rules->before_send
                                               : &rules->processors[rules->processor_count - 1];
        first = rules->processor_count > 0 ? &rules->processors[0] : last;
    }
    memcpy(error, result->error, sizeof(error));
    if (first == last) {
        snprintf(result->error, sizeof(result->error), "%s: %.380s", last->where, error);
    } else {
        snprintf(result->error, sizeof(result->error), "%.60s to %.60s: %.380s", first->where,
                 last->where, error);
    }
}

void
mayday_rules_run(mayday_rules_t *rules, mayday_event_t *event, mayday_rules_result_t *result)
{
    memset(result, 0, sizeof(*result));
    result->verdict = MAYDAY_RULES_KEEP;
    if (rules->processor_count == 0 && rules->before_send.kind == NULL) {
        return;
    }
    rules->event = event;
    rules->result = result;
    rules->touched = 0;
    if (!mayday_sandbox_call(&rules->sandbox, run, NULL, MAYDAY_RULES_EVENT_MS_MAX, result->error,
                             sizeof(result->error))) {
        result->verdict = MAYDAY_RULES_FAILED;
        add_position(rules, result);
        make_printable(result->error);
    }
    if (result->verdict != MAYDAY_RULES_KEEP && rules->running != NULL) {
        snprintf(result->hook, sizeof(result->hook), "%s", rules->running->kind);
        snprintf(result->where, sizeof(result->where), "%s", rules->running->where);
    }
    mayday_rules_re_run_over(rules);
    rules->event = NULL;
    rules->event_table = NULL;
    rules->hint_table = NULL;
    rules->running = NULL;
    rules->result = NULL;
    if (result->verdict == MAYDAY_RULES_FAILED && mayday_sandbox_is_exhausted(&rules->sandbox)) {
        result->restarted = restart(rules);
    }
}

void
mayday_rules_settle(mayday_rules_t *rules)
{
    rules->memory_settled = mayday_sandbox_settle(&rules->sandbox);
}

size_t
mayday_rules_memory(const mayday_rules_t *rules)
{
    size_t peak = rules->sandbox.memory_peak, settled = rules->memory_settled;

    return peak > settled ? peak - settled : 0;
}
