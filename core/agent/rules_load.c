/*
 * Where the code of rules comes from: files, beside the rules file and among the
 * standard rules, compiled and checked.
 *
 * A chunk's environment is a table of allow-listed functions. A global that is
 * not in it is found in the bytecode and refused at load, with file and line, so
 * nothing undeclared is ever looked up.
 *
 * Files are kept as they were read: where a state has to be made anew while the
 * rules are in force, what somebody is just editing must not come into force.
 *
 * Runs in the agent's pipeline thread while rules are loaded; reads files. The
 * counterpart, what the environment holds, is rules_library.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/agent/rules_internal.h"

#define MODULE_NAME_LEN_MAX 128
#define SOURCES_SIZE_MAX ((size_t) 4 * 1024 * 1024) /* all files of one rules file */

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
    const mayday_sandbox_t *box = mayday_sandbox_of(L);
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

/* Bytecode differs between versions of LuaJIT, so a sample is compiled and looked at. */
void
mayday_sandbox_learn_opcodes(lua_State *L, mayday_sandbox_t *box)
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

/* The whole of a regular file, put before the sources; NULL: there is no such file. */
static mayday_source_t *
read_source(lua_State *L, const char *path)
{
    mayday_sandbox_t *box = mayday_sandbox_of(L);
    mayday_source_t *source;
    struct stat st;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return NULL;
        }
        mayday_rules_raise(L, "cannot open %s: %s", path, strerror(errno));
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
        (size_t) st.st_size > MAYDAY_RULES_FILE_SIZE_MAX) {
        (void) close(fd);
        mayday_rules_raise(L, "%s is not a regular file of at most %d bytes", path,
                           (int) MAYDAY_RULES_FILE_SIZE_MAX);
    }
    source = malloc(sizeof(*source) + (size_t) st.st_size + 1);
    if (source != NULL) {
        source->len = 0;
        while (source->len < (size_t) st.st_size &&
               (n = read(fd, source->bytes + source->len, (size_t) st.st_size - source->len)) > 0) {
            source->len += (size_t) n;
        }
    }
    (void) close(fd);
    if (source == NULL || n < 0) {
        free(source);
        mayday_rules_raise(L, "cannot read %s", path);
    }
    if (source->len > SOURCES_SIZE_MAX - box->sources_size) {
        free(source);
        mayday_rules_raise(L, "the rules are more than %d bytes in all", (int) SOURCES_SIZE_MAX);
    }
    box->sources_size += source->len;
    (void) snprintf(source->path, sizeof(source->path), "%s", path);
    source->next = box->sources;
    box->sources = source;
    return source;
}

/* NULL: there is no such file. */
static const mayday_source_t *
source_of(lua_State *L, const char *path)
{
    const mayday_sandbox_t *box = mayday_sandbox_of(L);
    const mayday_source_t *source = box->sources;

    while (source != NULL && strcmp(source->path, path) != 0) {
        source = source->next;
    }
    return source != NULL || box->sources_only ? source : read_source(L, path);
}

/* Pushes the source as a function, checked. */
static void
compile(lua_State *L, const mayday_source_t *source, const char *chunk)
{
    int name, environment, util;

    lua_pushfstring(L, "@%s", chunk);
    name = lua_gettop(L);
    if (luaL_loadbufferx(L, source->bytes, source->len, lua_tostring(L, name), "t") != 0) {
        lua_error(L);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, mayday_sandbox_of(L)->environment);
    environment = lua_gettop(L);
    push_jit_util(L);
    util = lua_gettop(L);
    check_globals(L, util, environment, environment - 1, chunk);
    lua_pop(L, 1);
    (void) lua_setfenv(L, environment - 1);
    lua_remove(L, name);
}

void
mayday_sandbox_load(lua_State *L, const char *path, const char *chunk)
{
    const mayday_source_t *source = source_of(L, path);

    if (source == NULL) {
        mayday_rules_raise(L, "there is no file %s", path);
    }
    compile(L, source, chunk);
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
        bool word = mayday_is_alnum(c) || c == '_' || c == '-';

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
    const mayday_sandbox_t *box = mayday_sandbox_of(L);
    const char *file = luaL_gsub(L, name, ".", "/");
    const char *chunk = lua_pushfstring(L, "%s.lua", file);
    const char *dirs[] = {box->rules_dir, box->lua_dir};

    for (size_t i = 0; i < MAYDAY_COUNT(dirs); i++) {
        const char *path = lua_pushfstring(L, "%s/%s", dirs[i], chunk);
        const mayday_source_t *source = source_of(L, path);

        if (source != NULL) {
            compile(L, source, chunk);
            return;
        }
        lua_pop(L, 1);
    }
    mayday_rules_raise(L, "module '%s' not found: neither %s/%s nor %s/%s is there", name, dirs[0],
                       chunk, dirs[1], chunk);
}

int
mayday_sandbox_require(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);

    if (!module_name_ok(name, len)) {
        mayday_rules_raise(L, "'%s' is not a module's name", name);
    }
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, mayday_sandbox_of(L)->modules);
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
    push_module_file(L, name);
    lua_pushboolean(L, 0);
    lua_setfield(L, 2, name);
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 1, 0) != 0) {
        /* Whoever catches this and tries again shall hear the same. */
        lua_pushnil(L);
        lua_setfield(L, 2, name);
        (void) lua_error(L);
    }
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
    lua_rawgeti(L, LUA_REGISTRYINDEX, mayday_sandbox_of(L)->modules);
    lua_insert(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}
