/*
 * mayday.bots: is_bot, classify, add and is_probe, as functions of Lua over
 * core/filter/bots.h and bots_probe.h.
 *
 * What these allocate belongs to one userdata, the functions' upvalue, which
 * frees it when the state is closed; it is made when it is first needed. An error
 * may leave any of the functions at any point, so nothing else is held here.
 *
 * Runs in the agent's pipeline thread.
 */
#include "core/agent/rules_internal.h"
#include "core/filter/bots.h"
#include "core/filter/bots_probe.h"

#define LISTS_META "mayday.bots"

typedef struct {
    mayday_bots_t *bots;     /* NULL: not needed yet */
    mayday_probes_t *probes; /* the same             */
} lists_t;

static lists_t *
lists_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static mayday_bots_t *
bots_of(lua_State *L)
{
    lists_t *lists = lists_of(L);

    if (lists->bots == NULL) {
        lists->bots = mayday_bots_new();
        if (lists->bots == NULL) {
            mayday_rules_raise(L, "no memory for the list of bots");
        }
    }
    return lists->bots;
}

static const mayday_probes_t *
probes_of(lua_State *L)
{
    lists_t *lists = lists_of(L);

    if (lists->probes == NULL) {
        lists->probes = mayday_probes_new();
        if (lists->probes == NULL) {
            mayday_rules_raise(L, "no memory for the list of probes");
        }
    }
    return lists->probes;
}

static int
lists_free(lua_State *L)
{
    lists_t *lists = lua_touserdata(L, 1);

    mayday_bots_free(lists->bots);
    mayday_probes_free(lists->probes);
    lists->bots = NULL;
    lists->probes = NULL;
    return 0;
}

/* The string at index, which the stack keeps. */
static mayday_slice_t
slice_at(lua_State *L, int index)
{
    size_t len;
    const char *data = lua_tolstring(L, index, &len);

    return mayday_slice(data, data == NULL ? 0 : len);
}

static void
push_slice(lua_State *L, mayday_slice_t s)
{
    lua_pushlstring(L, s.data == NULL ? "" : s.data, s.len);
}

/* ---- classes ---- */

/* The names of all classes, as "monitor, search, …". */
static const char *
push_classes(lua_State *L)
{
    luaL_Buffer list;

    luaL_buffinit(L, &list);
    for (int i = MAYDAY_BOT_NONE + 1; i < MAYDAY_BOT_CLASS_MAX; i++) {
        luaL_addstring(&list, i == MAYDAY_BOT_NONE + 1 ? "" : ", ");
        luaL_addstring(&list, mayday_bot_class_name((mayday_bot_class_t) i));
    }
    luaL_pushresult(&list);
    return lua_tostring(L, -1);
}

/* The class named at index. Names are constants of the rules, so a wrong one is a mistake. */
static mayday_bot_class_t
class_at(lua_State *L, int index)
{
    mayday_bot_class_t class = MAYDAY_BOT_NONE;

    if (lua_type(L, index) == LUA_TSTRING) {
        class = mayday_bot_class_find(slice_at(L, index));
    }
    if (class == MAYDAY_BOT_NONE) {
        const char *name =
            lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : luaL_typename(L, index);

        mayday_rules_raise(L, "there is no class of bots '%s'; there are %s", name,
                           push_classes(L));
    }
    return class;
}

/* The classes in the list on top. */
static uint32_t
classes_in_list(lua_State *L, const char *option)
{
    uint32_t classes = 0;

    if (!lua_istable(L, -1)) {
        mayday_rules_raise(L, "%s must be a list of classes, such as {\"monitor\"}", option);
    }
    for (int i = 1; i <= (int) lua_objlen(L, -1) && i <= MAYDAY_BOT_CLASS_MAX; i++) {
        lua_rawgeti(L, -1, i);
        classes |= 1u << class_at(L, -1);
        lua_pop(L, 1);
    }
    return classes;
}

/* What counts as a bot, by the options at index: also = {…}, except = {…}. */
static uint32_t
classes_by_options(lua_State *L, int index)
{
    uint32_t classes = mayday_bot_classes_default(), except = 0;

    if (lua_isnoneornil(L, index)) {
        return classes;
    }
    luaL_checktype(L, index, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";

        if (strcmp(name, "also") == 0) {
            classes |= classes_in_list(L, name);
        } else if (strcmp(name, "except") == 0) {
            except = classes_in_list(L, name);
        } else {
            mayday_rules_raise(L, "is_bot has the options also and except");
        }
        lua_pop(L, 1);
    }
    return classes & ~except;
}

/* Classifies the agent at 1 and pushes class and name, nil where there is none. */
static mayday_bot_class_t
push_bot(lua_State *L)
{
    mayday_bot_t bot;

    if (!lua_isnoneornil(L, 1)) {
        luaL_checktype(L, 1, LUA_TSTRING);
    }
    bot = mayday_bots_classify(bots_of(L), slice_at(L, 1));
    if (bot.class == MAYDAY_BOT_NONE) {
        lua_pushnil(L);
    } else {
        lua_pushstring(L, mayday_bot_class_name(bot.class));
    }
    if (bot.name.len == 0) {
        lua_pushnil(L);
    } else {
        push_slice(L, bot.name);
    }
    return bot.class;
}

/* bots.classify(agent): class, name */
static int
bots_classify(lua_State *L)
{
    (void) push_bot(L);
    return 2;
}

/* bots.is_bot(agent [, options]): whether it is, class, name */
static int
bots_is_bot(lua_State *L)
{
    uint32_t classes = classes_by_options(L, 2);
    mayday_bot_class_t class = push_bot(L);

    lua_pushboolean(L, (classes >> class & 1) != 0);
    lua_insert(L, -3);
    return 3;
}

/* ---- adding ---- */

/* bots.add{class =, pattern =, name =} */
static int
bots_add(lua_State *L)
{
    static const char *const fields[] = {"class", "pattern", "name"};
    mayday_slice_t pattern, name;
    mayday_bot_class_t class;

    luaL_checktype(L, 1, LUA_TTABLE);
    if (mayday_rules_of(L)->loaded) {
        mayday_rules_raise(L, "bots.add may only be called while the rules are loaded");
    }
    lua_settop(L, 1);
    for (size_t i = 0; i < MAYDAY_COUNT(fields); i++) {
        lua_pushstring(L, fields[i]);
        lua_rawget(L, 1);
    }
    if (lua_type(L, 3) != LUA_TSTRING || (!lua_isnil(L, 4) && lua_type(L, 4) != LUA_TSTRING)) {
        mayday_rules_raise(L, "bots.add takes {class = …, pattern = …, name = …}, all strings");
    }
    class = class_at(L, 2);
    pattern = slice_at(L, 3);
    name = slice_at(L, 4);
    switch (mayday_bots_add(bots_of(L), class, name, pattern)) {
    case MAYDAY_OK:
        return 0;
    case MAYDAY_FULL:
        mayday_rules_raise(L, "there are already %d patterns of bots", MAYDAY_BOTS_ADDED_MAX);
    case MAYDAY_INVALID:
        mayday_rules_raise(L,
                           "a pattern of bots is 2 to 64 letters, digits and common signs, "
                           "its name at most %d bytes",
                           MAYDAY_BOT_NAME_MAX);
    default:
        mayday_rules_raise(L, "no memory for the list of bots");
    }
}

/* ---- probes ---- */

/* The mask of sites by the options at index, php = true and the like. */
static unsigned
site_by_options(lua_State *L, int index)
{
    static const struct {
        const char *name;
        unsigned yes, no;
    } options[] = {
        {"php", MAYDAY_SITE_PHP, MAYDAY_SITE_NO_PHP},
        {"java", MAYDAY_SITE_JAVA, 0},
        {"exchange", MAYDAY_SITE_EXCHANGE, 0},
    };
    unsigned site = 0;

    if (lua_isnoneornil(L, index)) {
        return site;
    }
    luaL_checktype(L, index, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        size_t i = 0;

        while (i < MAYDAY_COUNT(options) && strcmp(name, options[i].name) != 0) {
            i++;
        }
        if (i == MAYDAY_COUNT(options) || !lua_isboolean(L, -1)) {
            mayday_rules_raise(L, "is_probe has the options php, java and exchange, each true or "
                                  "false");
        }
        site |= lua_toboolean(L, -1) ? options[i].yes : options[i].no;
        lua_pop(L, 1);
    }
    return site;
}

/* Whether the record shows that PHP runs here: nobody has to say so. */
static bool
runs_php(const mayday_record_view_t *view)
{
    const mayday_slice_t php = MAYDAY_SLICE("php");

    if (mayday_slice_find(mayday_view_text(view, LOCATION), php, 0) != SIZE_MAX ||
        mayday_slice_find(mayday_view_text(view, UPSTREAM), php, 0) != SIZE_MAX) {
        return true;
    }
    for (size_t i = 0; i < view->attempt_count; i++) {
        if (mayday_slice_find(view->attempts[i].peer, php, 0) != SIZE_MAX) {
            return true;
        }
    }
    for (size_t i = 0; i < view->log_line_count; i++) {
        if (mayday_slice_find(view->log_lines[i].text, MAYDAY_SLICE("PHP message:"), 0) !=
            SIZE_MAX) {
            return true;
        }
    }
    return false;
}

/* Pushes the field of the table at index; nil where either is not there. */
static void
push_field(lua_State *L, int index, const char *name)
{
    if (lua_istable(L, index)) {
        lua_getfield(L, index, name);
    } else {
        lua_pushnil(L);
    }
}

/* The path in the URL at index. */
static mayday_slice_t
path_of_url(lua_State *L, int index)
{
    mayday_slice_t url =
        lua_type(L, index) == LUA_TSTRING ? slice_at(L, index) : mayday_slice(NULL, 0);
    const mayday_slice_t marks = MAYDAY_SLICE("://");
    size_t scheme = mayday_slice_find(url, marks, 0), begin, end;

    if (scheme == SIZE_MAX) {
        return url;
    }
    begin = mayday_slice_find(url, MAYDAY_SLICE("/"), scheme + marks.len);
    if (begin == SIZE_MAX) {
        return mayday_slice(NULL, 0);
    }
    end = mayday_slice_find(url, MAYDAY_SLICE("?"), begin);
    return mayday_slice(url.data + begin, (end == SIZE_MAX ? url.len : end) - begin);
}

/*
 * Looks at "name=value" of each pair in the table at index, or at the string
 * there. May leave values on the stack, which has to keep what is looked at.
 */
static const char *
probe_pairs(lua_State *L, int index, const mayday_probes_t *probes)
{
    const char *reason = NULL;

    if (lua_type(L, index) == LUA_TSTRING) {
        return mayday_probe_text(probes, slice_at(L, index));
    }
    if (!lua_istable(L, index)) {
        return NULL;
    }
    lua_pushnil(L);
    while (reason == NULL && lua_next(L, index)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_pushliteral(L, "=");
            lua_insert(L, -2);
            lua_concat(L, 3);
            reason = mayday_probe_text(probes, slice_at(L, -1));
        }
        lua_pop(L, 1);
        mayday_sandbox_guard(L);
    }
    return reason;
}

/*
 * bots.is_probe(event [, options]): whether it is, why. Of the event under way the
 * path and the method are those of the record: the event's own are cut, or absent
 * where they are too odd to be sent.
 */
static int
bots_is_probe(lua_State *L)
{
    enum { EVENT = 1, REQUEST = 3, URL, METHOD, QUERY, HEADERS };
    unsigned site = site_by_options(L, 2);
    const mayday_probes_t *probes = probes_of(L);
    const mayday_event_t *event = mayday_rules_event_at(L, EVENT);
    mayday_slice_t path, method;
    const char *reason;

    luaL_checktype(L, EVENT, LUA_TTABLE);
    lua_settop(L, 2);
    push_field(L, EVENT, "request");
    push_field(L, REQUEST, "url");
    push_field(L, REQUEST, "method");
    push_field(L, REQUEST, "query_string");
    push_field(L, REQUEST, "headers");
    path = path_of_url(L, URL);
    method = lua_type(L, METHOD) == LUA_TSTRING ? slice_at(L, METHOD) : mayday_slice(NULL, 0);
    if (event != NULL && (site & MAYDAY_SITE_NO_PHP) == 0 && runs_php(event->view)) {
        site |= MAYDAY_SITE_PHP;
    }
    if (event != NULL && mayday_view_has(event->view, PATH)) {
        path = mayday_view_text(event->view, PATH);
        method = mayday_view_text(event->view, METHOD);
    }
    reason = mayday_probe_path(probes, path, site);
    reason = reason != NULL ? reason : mayday_probe_method(method);
    reason = reason != NULL ? reason : probe_pairs(L, QUERY, probes);
    reason = reason != NULL ? reason : probe_pairs(L, HEADERS, probes);
    lua_pushboolean(L, reason != NULL);
    lua_pushstring(L, reason);
    return 2;
}

/* ---- the module ---- */

void
mayday_rules_bots_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"add", bots_add},
        {"classify", bots_classify},
        {"is_bot", bots_is_bot},
        {"is_probe", bots_is_probe},
    };
    lists_t *lists;

    lua_createtable(L, 0, (int) MAYDAY_COUNT(functions));
    lists = lua_newuserdata(L, sizeof(*lists));
    memset(lists, 0, sizeof(*lists));
    (void) luaL_newmetatable(L, LISTS_META);
    lua_pushcfunction(L, lists_free);
    lua_setfield(L, -2, "__gc");
    (void) lua_setmetatable(L, -2);
    for (size_t i = 0; i < MAYDAY_COUNT(functions); i++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, functions[i].func, 1);
        lua_setfield(L, -3, functions[i].name);
    }
    lua_pop(L, 1);
}
