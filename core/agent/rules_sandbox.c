/*
 * Everything that bounds Lua lives here: what a rule can reach, how long it may
 * run, how much memory it may take, and where its code comes from.
 *
 *   reach   A chunk's environment is a table of allow-listed functions. A global
 *           that is not in it is found in the bytecode and refused at load, with
 *           file and line, so nothing undeclared is ever looked up. There is no
 *           way to compile code, reach files or processes, or see bytecode.
 *   time    The JIT is off, for compiled loops cannot be interrupted. A count
 *           hook looks at the thread's CPU time (a busy host fails no rule). Once
 *           over, the hook fires at every instruction until the call has ended,
 *           so neither pcall nor a coroutine outlives it.
 *   memory  The state's allocator refuses beyond the cap; Lua raises an error.
 *
 * A C function of Lua's library that runs long by itself (a backtracking
 * string.find) is not interrupted.
 *
 * Runs in the agent's pipeline thread; allocates from the heap, reads files
 * while rules are loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <luajit.h>
#include <lualib.h>

#include "core/agent/rules_internal.h"

#define HOOK_INSTRUCTIONS 1000 /* the clock is looked at every so many */
#define MODULE_NAME_LEN_MAX 128
#define MIB ((size_t) 1024 * 1024)

/* What a rule can reach: the library ("" for functions without one) and names in it. */
static const struct {
    const char *library;
    const char *names[24];
} allowed[] = {
    {"",
     {"assert", "error", "getmetatable", "ipairs", "pcall", "rawequal", "select", "setmetatable",
      "tonumber", "tostring", "type", "unpack", "xpcall", "_VERSION"}},
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

/* Names that people will try, and what to use instead. */
static const struct {
    const char *name, *instead;
} advice[] = {
    {"print", "use mayday.log(\"notice\", text)"},
    {"mayday", "write: local mayday = require \"mayday\""},
    {"io", "rules have no files"},
    {"ngx", "rules run in the agent, not in nginx; the request is in event.request"},
    {"rawget", "tables of an event are filled when touched"},
    {"rawset", "tables of an event are filled when touched"},
};

static char fill_key; /* its address is the key of a lazy metatable's fill function */

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

static mayday_sandbox_t *
box_of(lua_State *L)
{
    return &mayday_rules_of(L)->sandbox;
}

/* ---- bounds ---- */

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
    if (size > old_size && size - old_size > box->memory_max - box->memory_used) {
        return NULL;
    }
    p = realloc(old, size);
    if (p != NULL) {
        box->memory_used += size - old_size;
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

static void
count_hook(lua_State *L, lua_Debug *ar)
{
    mayday_sandbox_t *box = box_of(L);

    if (!box->expired) {
        uint64_t now_us = thread_cpu_us();

        if (box->started_us == 0) {
            box->started_us = now_us;
            return;
        }
        if (now_us - box->started_us <= box->time_max_us) {
            return;
        }
        box->expired = true;
        (void) lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
    }
    (void) lua_getinfo(L, "Sl", ar);
    mayday_rules_raise(L, "%s:%d: ran for more than %d ms", ar->short_src, ar->currentline,
                       (int) (box->time_max_us / 1000));
}

/* The message of the error on top, which may be any value. */
static void
error_message(lua_State *L, int rc, const mayday_sandbox_t *box, char *error, size_t error_size)
{
    if (rc == 0) {
        snprintf(error, error_size, "ran out of time");
    } else if (rc == LUA_ERRMEM) {
        snprintf(error, error_size, "needed more than %zu MiB of memory", box->memory_max / MIB);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        snprintf(error, error_size, "%s", lua_tostring(L, -1));
    } else {
        snprintf(error, error_size, "an error of type %s was raised", luaL_typename(L, -1));
    }
}

bool
mayday_sandbox_call(mayday_sandbox_t *box, lua_CFunction function, void *context,
                    uint32_t time_ms_max, char *error, size_t error_size)
{
    lua_State *L = box->lua;
    int rc;

    box->time_max_us = (uint64_t) time_ms_max * 1000;
    box->started_us = 0;
    rc = lua_cpcall(L, function, context);
    if (rc == 0 && !box->expired) {
        return true;
    }
    error_message(L, rc, box, error, error_size);
    lua_settop(L, 0);
    if (box->expired) {
        box->expired = false;
        (void) lua_sethook(L, count_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    }
    (void) lua_gc(L, LUA_GCCOLLECT, 0);
    return false;
}

/* ---- globals, checked in the bytecode ---- */

/*
 * Pushes function jit.util.<name>. LuaJIT keeps the library's loader in
 * _PRELOAD, where require would find it.
 */
static void
push_jit_util(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "jit.util");
    }
    if (!lua_isfunction(L, -1)) {
        mayday_rules_raise(L, "this LuaJIT has no jit.util");
    }
    lua_call(L, 0, 1);
    lua_remove(L, -2);
}

/* Instruction pc of the function at index; false behind the last. util: jit.util's index. */
static bool
instruction(lua_State *L, int util, int function, int pc, uint32_t *ins)
{
    bool found;

    lua_getfield(L, util, "funcbc");
    lua_pushvalue(L, function);
    lua_pushinteger(L, pc);
    lua_call(L, 2, 1);
    found = lua_isnumber(L, -1);
    *ins = (uint32_t) (int64_t) lua_tonumber(L, -1);
    lua_pop(L, 1);
    return found;
}

/* Pushes collectable constant number n (0 …) of the function at index, or nil. */
static void
push_constant(lua_State *L, int util, int function, int n)
{
    lua_getfield(L, util, "funck");
    lua_pushvalue(L, function);
    lua_pushinteger(L, -n - 1);
    lua_call(L, 2, 1);
}

static int
instruction_line(lua_State *L, int util, int function, int pc)
{
    int line;

    lua_getfield(L, util, "funcinfo");
    lua_pushvalue(L, function);
    lua_pushinteger(L, pc);
    lua_call(L, 2, 1);
    lua_getfield(L, -1, "currentline");
    line = (int) lua_tointeger(L, -1);
    lua_pop(L, 2);
    return line;
}

static void
refuse_global(lua_State *L, const char *chunk, int line, const char *name, bool set)
{
    const char *instead = NULL;

    for (size_t i = 0; i < MAYDAY_COUNT(advice); i++) {
        if (strcmp(advice[i].name, name) == 0) {
            instead = advice[i].instead;
        }
    }
    if (set) {
        mayday_rules_raise(L, "%s:%d: assignment to global '%s'; declare it with local", chunk,
                           line, name);
    } else {
        mayday_rules_raise(L, "%s:%d: undeclared global '%s'%s%s", chunk, line, name,
                           instead == NULL ? "" : "; ", instead == NULL ? "" : instead);
    }
}

/* Checks the function (or prototype) at index, and those within it. */
static void
check_globals(lua_State *L, int util, int environment, int function, const char *chunk)
{
    const mayday_sandbox_t *box = box_of(L);
    uint32_t ins;

    luaL_checkstack(L, 8, "functions are nested too deep");
    for (int pc = 1; instruction(L, util, function, pc, &ins); pc++) {
        uint32_t op = ins & 0xff;

        if (op != box->get_global && op != box->set_global) {
            continue;
        }
        push_constant(L, util, function, (int) (ins >> 16));
        lua_pushvalue(L, -1);
        lua_rawget(L, environment);
        if (op == box->set_global || lua_isnil(L, -1)) {
            refuse_global(L, chunk, instruction_line(L, util, function, pc), lua_tostring(L, -2),
                          op == box->set_global);
        }
        lua_pop(L, 2);
    }
    for (int n = 0;; n++) {
        push_constant(L, util, function, n);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            return;
        }
        if (strcmp(luaL_typename(L, -1), "proto") == 0) {
            check_globals(L, util, environment, lua_gettop(L), chunk);
        }
        lua_pop(L, 1);
    }
}

/* Bytecode differs between versions of LuaJIT: learn the two opcodes from a sample. */
static void
learn_opcodes(lua_State *L, mayday_sandbox_t *box)
{
    uint32_t get, set;
    int util, function;

    push_jit_util(L);
    util = lua_gettop(L);
    if (luaL_loadstring(L, "a = b") != 0) {
        lua_error(L);
    }
    function = lua_gettop(L);
    if (!instruction(L, util, function, 1, &get) || !instruction(L, util, function, 2, &set) ||
        (get & 0xff) == (set & 0xff)) {
        mayday_rules_raise(L, "this LuaJIT's bytecode is not understood");
    }
    box->get_global = get & 0xff;
    box->set_global = set & 0xff;
    lua_pop(L, 2);
}

/* ---- loading ---- */

/* Pushes the file's content as a string; false: there is no such file. */
static bool
push_file(lua_State *L, const char *path)
{
    struct stat st;
    ssize_t n = 0;
    size_t len = 0;
    char *bytes;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return false;
        }
        mayday_rules_raise(L, "cannot open %s: %s", path, strerror(errno));
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
        (size_t) st.st_size > MAYDAY_RULES_FILE_SIZE_MAX) {
        (void) close(fd);
        mayday_rules_raise(L, "%s is not a regular file of at most %d bytes", path,
                           (int) MAYDAY_RULES_FILE_SIZE_MAX);
    }
    /* On the heap, not in Lua: lua_newuserdata could raise and leak the descriptor. */
    bytes = malloc((size_t) st.st_size + 1);
    while (bytes != NULL && len < (size_t) st.st_size &&
           (n = read(fd, bytes + len, (size_t) st.st_size - len)) > 0) {
        len += (size_t) n;
    }
    (void) close(fd);
    if (bytes == NULL || n < 0) {
        free(bytes);
        mayday_rules_raise(L, "cannot read %s", path);
    }
    if (box_of(L)->memory_max - box_of(L)->memory_used < len * 2) {
        free(bytes);
        mayday_rules_raise(L, "no memory for %s", path);
    }
    lua_pushlstring(L, bytes, len);
    free(bytes);
    return true;
}

/* Compiles the content on top into a checked function in its place. */
static void
compile(lua_State *L, const char *chunk)
{
    int content = lua_gettop(L), environment, util;
    size_t len;
    const char *text = lua_tolstring(L, content, &len);

    lua_pushfstring(L, "@%s", chunk);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, -1), "t") != 0) {
        lua_error(L);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, box_of(L)->environment);
    environment = lua_gettop(L);
    push_jit_util(L);
    util = lua_gettop(L);
    check_globals(L, util, environment, environment - 1, chunk);
    lua_pop(L, 1);
    (void) lua_setfenv(L, environment - 1);
    lua_replace(L, content);
    lua_settop(L, content);
}

void
mayday_sandbox_load(lua_State *L, const char *path, const char *chunk)
{
    if (!push_file(L, path)) {
        mayday_rules_raise(L, "there is no file %s", path);
    }
    compile(L, chunk);
}

/* Letters, digits, "_" and "-", in parts joined by single dots: no way out of a directory. */
static bool
module_name_ok(const char *name, size_t len)
{
    char before = '.';

    if (len == 0 || len > MODULE_NAME_LEN_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-';

        if (!word && (c != '.' || before == '.')) {
            return false;
        }
        before = c;
    }
    return before != '.';
}

/* Pushes the module's function, from beside the rules file or from the standard rules. */
static void
push_module_file(lua_State *L, const char *name)
{
    const mayday_sandbox_t *box = box_of(L);
    const char *file = luaL_gsub(L, name, ".", "/");
    const char *chunk = lua_pushfstring(L, "%s.lua", file);
    const char *dirs[] = {box->rules_dir, box->lua_dir};

    for (size_t i = 0; i < MAYDAY_COUNT(dirs); i++) {
        const char *path = lua_pushfstring(L, "%s/%s", dirs[i], chunk);

        if (push_file(L, path)) {
            compile(L, chunk);
            return;
        }
        lua_pop(L, 1);
    }
    mayday_rules_raise(L, "module '%s' not found: neither %s/%s nor %s/%s is there", name, dirs[0],
                       chunk, dirs[1], chunk);
}

static int
require(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);

    if (!module_name_ok(name, len)) {
        mayday_rules_raise(L, "'%s' is not a module's name", name);
    }
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, box_of(L)->modules);
    lua_getfield(L, 2, name);
    if (!lua_isnil(L, 3)) {
        if (lua_isboolean(L, 3) && !lua_toboolean(L, 3)) {
            mayday_rules_raise(L, "module '%s' requires itself", name);
        }
        return 1;
    }
    if (mayday_rules_of(L)->loaded) {
        mayday_rules_raise(L, "require('%s'): modules are loaded while the rules are loaded", name);
    }
    lua_pushboolean(L, 0);
    lua_setfield(L, 2, name);
    push_module_file(L, name);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1) || (lua_isboolean(L, -1) && !lua_toboolean(L, -1))) {
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

void
mayday_sandbox_provide(lua_State *L, const char *name)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, box_of(L)->modules);
    lua_insert(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* ---- functions that differ from Lua's own ---- */

void
mayday_sandbox_lazy(lua_State *L, lua_CFunction fill)
{
    lua_pushlightuserdata(L, &fill_key);
    lua_pushcfunction(L, fill);
    lua_rawset(L, -3);
}

/* Fills the table at index 1 if it is one that is filled when touched. */
static void
fill_lazy(lua_State *L)
{
    if (!lua_getmetatable(L, 1)) {
        return;
    }
    lua_pushlightuserdata(L, &fill_key);
    lua_rawget(L, -2);
    if (lua_iscfunction(L, -1)) {
        lua_pushvalue(L, 1);
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
    fill_lazy(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int
sandbox_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pop(L, 1);
        fill_lazy(L);
        lua_settop(L, 1);
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
    lua_pushnumber(L, (lua_Number) box_of(L)->memory_used / 1024);
    return 1;
}

/* ---- the state ---- */

static void
open_libraries(lua_State *L)
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

static void
make_environment(lua_State *L, mayday_sandbox_t *box)
{
    static const luaL_Reg own[] = {
        {"next", sandbox_next}, {"collectgarbage", sandbox_collectgarbage}, {"require", require}};

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

static int
set_up(lua_State *L)
{
    mayday_sandbox_t *box = lua_touserdata(L, 1);

    open_libraries(L);
    learn_opcodes(L, box);
    make_environment(L, box);
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
    box->lua = lua_newstate(allocate, box);
    if (box->lua == NULL) {
        snprintf(error, error_size, "LuaJIT has no memory, or was built without GC64");
        return MAYDAY_NO_MEMORY;
    }
    if (!mayday_sandbox_call(box, set_up, box, MAYDAY_RULES_LOAD_MS_MAX, error, error_size)) {
        mayday_sandbox_fini(box);
        return MAYDAY_INVALID;
    }
    (void) lua_sethook(box->lua, count_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    return MAYDAY_OK;
}

void
mayday_sandbox_fini(mayday_sandbox_t *box)
{
    if (box->lua != NULL) {
        lua_close(box->lua);
        box->lua = NULL;
    }
}
