/*
 * What a rule can reach: allow-listed functions of Lua's library, some of them
 * replaced by ones that keep the bounds. There is no way to compile code, reach
 * files or processes, or see bytecode.
 *
 * Functions that call back into Lua, or that may take long, pass the guard of
 * rules_sandbox.c first. pcall, xpcall and tostring are our own: LuaJIT's forget
 * to check the stack, or call themselves for ever, where a table's metatable has
 * them (__call, __tostring).
 *
 * Runs in the agent's pipeline thread.
 */
#include <luajit.h>
#include <lualib.h>
#include <math.h>

#include "core/agent/rules_internal.h"

/*
 * Taken from Lua, beside make_environment's own: the library ("" for functions
 * without one) and names in it.
 */
static const struct {
    const char *library;
    const char *names[24];
} allowed[] = {
    {"",
     {"assert", "error", "getmetatable", "ipairs", "rawequal", "select", "setmetatable", "tonumber",
      "type", "unpack", "_VERSION"}},
    {"bit",
     {"arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit",
      "tohex"}},
    {"coroutine", {"create", "resume", "running", "status", "wrap", "yield"}},
    {"math", {"abs", "ceil", "cos",  "deg", "exp", "floor", "fmod",   "huge", "log",  "log10",
              "max", "min",  "modf", "pi",  "pow", "rad",   "random", "sin",  "sqrt", "tan"}},
    {"os", {"clock", "date", "difftime", "time"}},
    {"string",
     {"byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse",
      "sub", "upper"}},
    {"table", {"concat", "insert", "maxn", "remove", "sort"}},
};

static char fill_key; /* its address is the key of a lazy metatable's fill function */

/* ---- functions of the library behind the guard ---- */

/* Of mayday_sandbox_t.originals. */
enum { CONCAT, FORMAT, INSERT, MAXN, REP, SORT };

_Static_assert(SORT + 1 == MAYDAY_RULES_ORIGINALS, "room for every original");

/* In the same frame, so that its errors name the rule's line. */
static int
original(lua_State *L, int n)
{
    mayday_sandbox_guard(L);
    return mayday_sandbox_of(L)->originals[n](L);
}

static int
sandbox_concat(lua_State *L)
{
    return original(L, CONCAT);
}

/* Reading text as a number takes as long as the text is, for each argument. */
static int
sandbox_format(lua_State *L)
{
    size_t len = 0;

    for (int i = 1; i <= lua_gettop(L); i++) {
        len += lua_type(L, i) == LUA_TSTRING ? lua_objlen(L, i) : 0;
    }
    if (len > MAYDAY_RULES_BLOCK_MAX) {
        mayday_rules_raise(L, "string.format takes at most %d MiB of text",
                           (int) (MAYDAY_RULES_BLOCK_MAX >> 20));
    }
    return original(L, FORMAT);
}

/* Lua's own would move items for as long as it takes to reach any position. */
static int
sandbox_insert(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_gettop(L) == 3) {
        lua_Number position = luaL_checknumber(L, 2);

        if (!(position >= 1 && position <= (lua_Number) lua_objlen(L, 1) + 1)) {
            return luaL_argerror(L, 2, "position out of bounds");
        }
    }
    return original(L, INSERT);
}

static int
sandbox_maxn(lua_State *L)
{
    return original(L, MAXN);
}

static int
sandbox_rep(lua_State *L)
{
    return original(L, REP);
}

static int
is_less(lua_State *L)
{
    mayday_sandbox_guard(L);
    lua_pushboolean(L, lua_lessthan(L, 1, 2));
    return 1;
}

/* Sorts by a function that can be interrupted: what is compared may be megabytes of text. */
static int
sandbox_sort(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushcfunction(L, is_less);
        lua_replace(L, 2);
    } else if (lua_iscfunction(L, 2)) {
        mayday_rules_raise(L, "sorting takes a comparison written in Lua");
    }
    return original(L, SORT);
}

/* ---- functions of any number of arguments ---- */

/*
 * LuaJIT's own read what is text as numbers, one long text after the other, without
 * a look at the clock.
 */
static lua_Number
number_at(lua_State *L, int i)
{
    if (lua_type(L, i) == LUA_TSTRING) {
        mayday_sandbox_guard(L);
    }
    return luaL_checknumber(L, i);
}

static int
sandbox_max(lua_State *L)
{
    lua_Number max = number_at(L, 1);

    for (int i = 2; i <= lua_gettop(L); i++) {
        lua_Number number = number_at(L, i);

        max = number > max ? number : max;
    }
    lua_pushnumber(L, max);
    return 1;
}

static int
sandbox_min(lua_State *L)
{
    lua_Number min = number_at(L, 1);

    for (int i = 2; i <= lua_gettop(L); i++) {
        lua_Number number = number_at(L, i);

        min = number < min ? number : min;
    }
    lua_pushnumber(L, min);
    return 1;
}

/* As the library's: modulo 2^32, the nearest whole number. */
static uint32_t
bits_at(lua_State *L, int i)
{
    lua_Number number = remainder(nearbyint(number_at(L, i)), 4294967296.0);

    return isnan(number) ? 0 : (uint32_t) (int64_t) number;
}

static int
push_bits(lua_State *L, uint32_t bits)
{
    lua_pushnumber(L, (int32_t) bits);
    return 1;
}

static int
sandbox_band(lua_State *L)
{
    uint32_t bits = bits_at(L, 1);

    for (int i = 2; i <= lua_gettop(L); i++) {
        bits &= bits_at(L, i);
    }
    return push_bits(L, bits);
}

static int
sandbox_bor(lua_State *L)
{
    uint32_t bits = bits_at(L, 1);

    for (int i = 2; i <= lua_gettop(L); i++) {
        bits |= bits_at(L, i);
    }
    return push_bits(L, bits);
}

static int
sandbox_bxor(lua_State *L)
{
    uint32_t bits = bits_at(L, 1);

    for (int i = 2; i <= lua_gettop(L); i++) {
        bits ^= bits_at(L, i);
    }
    return push_bits(L, bits);
}

static int
sandbox_char(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer b;

    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        lua_Number byte = number_at(L, i);
        char c;

        luaL_argcheck(L, byte >= 0 && byte < 256, i, "invalid value");
        c = (char) (unsigned char) byte;
        luaL_addlstring(&b, &c, 1);
    }
    luaL_pushresult(&b);
    return 1;
}

/* ---- both, in the place of Lua's ---- */

static const struct {
    const char *library, *name;
    lua_CFunction function;
} guarded[MAYDAY_RULES_ORIGINALS] = {
    [CONCAT] = {LUA_TABLIBNAME, "concat", sandbox_concat},
    [FORMAT] = {LUA_STRLIBNAME, "format", sandbox_format},
    [INSERT] = {LUA_TABLIBNAME, "insert", sandbox_insert},
    [MAXN] = {LUA_TABLIBNAME, "maxn", sandbox_maxn},
    [REP] = {LUA_STRLIBNAME, "rep", sandbox_rep},
    [SORT] = {LUA_TABLIBNAME, "sort", sandbox_sort},
};

/* In the libraries themselves, for methods of strings are looked up there. */
static void
replace_functions(lua_State *L)
{
    static const struct {
        const char *library, *name;
        lua_CFunction function;
    } own[] = {
        {LUA_BITLIBNAME, "band", sandbox_band},
        {LUA_BITLIBNAME, "bor", sandbox_bor},
        {LUA_BITLIBNAME, "bxor", sandbox_bxor},
        {LUA_MATHLIBNAME, "max", sandbox_max},
        {LUA_MATHLIBNAME, "min", sandbox_min},
        {LUA_STRLIBNAME, "char", sandbox_char},
        {LUA_STRLIBNAME, "find", mayday_rules_find},
        {LUA_STRLIBNAME, "gmatch", mayday_rules_gmatch},
        {LUA_STRLIBNAME, "gsub", mayday_rules_gsub},
        {LUA_STRLIBNAME, "match", mayday_rules_match},
    };
    mayday_sandbox_t *box = mayday_sandbox_of(L);

    for (size_t i = 0; i < MAYDAY_COUNT(own); i++) {
        lua_getglobal(L, own[i].library);
        lua_pushcfunction(L, own[i].function);
        lua_setfield(L, -2, own[i].name);
        lua_pop(L, 1);
    }

    for (size_t i = 0; i < MAYDAY_COUNT(guarded); i++) {
        lua_getglobal(L, guarded[i].library);
        lua_getfield(L, -1, guarded[i].name);
        box->originals[i] = lua_tocfunction(L, -1);
        if (box->originals[i] == NULL) {
            mayday_rules_raise(L, "this LuaJIT has no %s.%s in C", guarded[i].library,
                               guarded[i].name);
        }
        lua_pushcfunction(L, guarded[i].function);
        lua_setfield(L, -3, guarded[i].name);
        lua_pop(L, 2);
    }
}

/* ---- functions that differ from Lua's own ---- */

static int
sandbox_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    mayday_sandbox_guard(L);
    lua_pushboolean(L, lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0) == 0);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* xpcall(function, handler, …) */
static int
sandbox_xpcall(lua_State *L)
{
    luaL_checkany(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    mayday_sandbox_guard(L);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_replace(L, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1) == 0);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static int
sandbox_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    mayday_sandbox_guard(L);
    if (luaL_callmeta(L, 1, "__tostring")) {
        return 1;
    }
    switch (lua_type(L, 1)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
        lua_pushvalue(L, 1);
        (void) lua_tostring(L, -1);
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, 1) ? "true" : "false");
        break;
    case LUA_TNIL:
        lua_pushliteral(L, "nil");
        break;
    default:
        (void) lua_pushfstring(L, "%s: %p", luaL_typename(L, 1), lua_topointer(L, 1));
    }
    return 1;
}

/* Resumes what upvalue 1, coroutine.resume or a wrapped coroutine, resumes. */
static int
sandbox_resume(lua_State *L)
{
    mayday_sandbox_guard(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* Upvalue 1: coroutine.wrap */
static int
sandbox_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    lua_pushcclosure(L, sandbox_resume, 1);
    return 1;
}

/* Puts function, with what it replaces as upvalue, into the library on top. */
static void
wrap_field(lua_State *L, const char *name, lua_CFunction function)
{
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

void
mayday_sandbox_lazy(lua_State *L, lua_CFunction fill)
{
    lua_pushlightuserdata(L, &fill_key);
    lua_pushcfunction(L, fill);
    lua_rawset(L, -3);
}

void
mayday_sandbox_fill(lua_State *L)
{
    if (!lua_getmetatable(L, -1)) {
        return;
    }
    lua_pushlightuserdata(L, &fill_key);
    lua_rawget(L, -2);
    if (lua_iscfunction(L, -1)) {
        lua_pushvalue(L, -3);
        lua_call(L, 1, 0);
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

/* Returns Lua's own next, on which LuaJIT's fast path for loops depends. */
static int
sandbox_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    mayday_sandbox_fill(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int
sandbox_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    mayday_sandbox_guard(L);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pop(L, 1);
        mayday_sandbox_fill(L);
        lua_pushnil(L);
    }
    if (lua_next(L, 1)) {
        return 2;
    }
    lua_pushnil(L);
    return 1;
}

/* Only tells: a rule that stops the collector would end at the memory cap. */
static int
sandbox_collectgarbage(lua_State *L)
{
    static const char *const options[] = {"count", NULL};

    (void) luaL_checkoption(L, 1, "count", options);
    lua_pushnumber(L, (lua_Number) mayday_sandbox_of(L)->memory_used / 1024);
    return 1;
}

/* ---- the state ---- */

void
mayday_sandbox_open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {"", luaopen_base},
        {LUA_TABLIBNAME, luaopen_table},
        {LUA_OSLIBNAME, luaopen_os},
        {LUA_STRLIBNAME, luaopen_string},
        {LUA_MATHLIBNAME, luaopen_math},
        {LUA_BITLIBNAME, luaopen_bit},
        {LUA_JITLIBNAME, luaopen_jit},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(libraries); i++) {
        lua_pushcfunction(L, libraries[i].func);
        lua_pushstring(L, libraries[i].name);
        lua_call(L, 1, 0);
    }
    (void) luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    /* Methods of strings are looked up in the library itself, so it loses what is not allowed. */
    lua_getglobal(L, LUA_STRLIBNAME);
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_pushliteral(L, "");
    (void) lua_getmetatable(L, -1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    replace_functions(L);
    lua_getglobal(L, LUA_COLIBNAME);
    wrap_field(L, "resume", sandbox_resume);
    wrap_field(L, "wrap", sandbox_wrap);
    lua_settop(L, 0);
}

/* Copies the allowed names of one library at the top into the table below it. */
static void
copy_allowed(lua_State *L, const char *const *names, size_t max)
{
    for (size_t i = 0; i < max && names[i] != NULL; i++) {
        lua_getfield(L, -1, names[i]);
        if (lua_isnil(L, -1)) {
            mayday_rules_raise(L, "this LuaJIT has no %s", names[i]);
        }
        lua_setfield(L, -3, names[i]);
    }
}

void
mayday_sandbox_make_environment(lua_State *L, mayday_sandbox_t *box)
{
    static const luaL_Reg own[] = {
        {"collectgarbage", sandbox_collectgarbage},
        {"next", sandbox_next},
        {"pcall", sandbox_pcall},
        {"require", mayday_sandbox_require},
        {"tostring", sandbox_tostring},
        {"xpcall", sandbox_xpcall},
    };

    lua_newtable(L);
    for (size_t i = 0; i < MAYDAY_COUNT(allowed); i++) {
        bool base = allowed[i].library[0] == '\0';

        if (base) {
            lua_pushvalue(L, LUA_GLOBALSINDEX);
        } else {
            lua_newtable(L);
            lua_getglobal(L, allowed[i].library);
        }
        copy_allowed(L, allowed[i].names, MAYDAY_COUNT(allowed[i].names));
        lua_pop(L, 1);
        if (!base) {
            lua_setfield(L, -2, allowed[i].library);
        }
    }
    for (size_t i = 0; i < MAYDAY_COUNT(own); i++) {
        lua_pushcfunction(L, own[i].func);
        lua_setfield(L, -2, own[i].name);
    }
    lua_getglobal(L, "next");
    lua_pushcclosure(L, sandbox_pairs, 1);
    lua_setfield(L, -2, "pairs");
    box->environment = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    box->modules = luaL_ref(L, LUA_REGISTRYINDEX);
}
