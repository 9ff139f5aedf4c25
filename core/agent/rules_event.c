/*
 * An event as Lua tables; the way back is in rules_collect.c.
 *
 * The event's table begins empty. Reading a part (event.request) makes the part
 * as JSON, turns it into ordinary tables and puts them there; the table has
 * metamethods for that, which no longer matter once the part is in place.
 *
 * headers, cookies and query_string are lists of pairs on the wire and tables
 * name -> value here, at whatever depth they stand. Names of headers ignore
 * case: a metatable finds the spelling that is there.
 *
 * Runs in the agent's pipeline thread, with the event's arena bound. Errors are
 * Lua errors.
 */
#include "core/agent/rules_internal.h"

/* Keys of the metatables in the registry. */
#define EVENT_META "mayday.event"
#define HINT_META "mayday.hint"
#define LIST_META "mayday.array"
#define HEADERS_META "mayday.headers"

/* ---- JSON to Lua ---- */

static void push_json(lua_State *L, const cJSON *json, int depth);

/* Which keys hold pairs, and of them which ignore case. */
bool
mayday_rules_key_of_pairs(const char *key)
{
    return key != NULL && (strcmp(key, "headers") == 0 || strcmp(key, "cookies") == 0 ||
                           strcmp(key, "query_string") == 0);
}

bool
mayday_rules_key_ignores_case(const char *key)
{
    return strcmp(key, "headers") == 0;
}

bool
mayday_rules_same_name(const char *a, const char *b, bool ignore_case)
{
    return ignore_case ? mayday_slice_ieq(mayday_slice_str(a), mayday_slice_str(b))
                       : strcmp(a, b) == 0;
}

/* A list of [name, value], both text; the empty list too. */
bool
mayday_rules_is_pairs(const cJSON *json)
{
    if (!cJSON_IsArray(json)) {
        return false;
    }
    for (const cJSON *pair = json->child; pair != NULL; pair = pair->next) {
        const cJSON *name = pair->child;

        if (!cJSON_IsArray(pair) || !cJSON_IsString(name) || !cJSON_IsString(name->next) ||
            name->next->next != NULL) {
            return false;
        }
    }
    return true;
}

/* The first pair of list with that name; the pair itself if there is none before it. */
const cJSON *
mayday_rules_first_of_name(const cJSON *list, const cJSON *pair, bool ignore_case)
{
    const cJSON *p = list->child;

    while (p != pair && !mayday_rules_same_name(mayday_rules_pair_name(p),
                                                mayday_rules_pair_name(pair), ignore_case)) {
        p = p->next;
    }
    return p;
}

static void
push_pairs(lua_State *L, const cJSON *list, const char *key)
{
    bool ignore_case = mayday_rules_key_ignores_case(key);

    lua_createtable(L, 0, list == NULL ? 0 : cJSON_GetArraySize(list));
    for (const cJSON *pair = list == NULL ? NULL : list->child; pair != NULL; pair = pair->next) {
        const cJSON *first = mayday_rules_first_of_name(list, pair, ignore_case);

        lua_pushstring(L, mayday_rules_pair_name(first));
        if (first == pair) {
            lua_pushstring(L, mayday_rules_pair_value(pair));
        } else {
            lua_pushvalue(L, -1);
            lua_rawget(L, -3);
            lua_pushliteral(L, ", ");
            lua_pushstring(L, mayday_rules_pair_value(pair));
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
    if (ignore_case) {
        luaL_getmetatable(L, HEADERS_META);
        (void) lua_setmetatable(L, -2);
    }
}

static void
push_object(lua_State *L, const cJSON *object, int depth)
{
    lua_createtable(L, 0, cJSON_GetArraySize(object));
    for (const cJSON *child = object->child; child != NULL; child = child->next) {
        if (cJSON_IsNull(child)) {
            continue;
        }
        lua_pushstring(L, child->string);
        if (mayday_rules_key_of_pairs(child->string) && mayday_rules_is_pairs(child)) {
            push_pairs(L, child, child->string);
        } else {
            push_json(L, child, depth + 1);
        }
        lua_rawset(L, -3);
    }
}

/* Pushes a table that is a list even where it is empty. */
static void
push_list(lua_State *L, int size)
{
    lua_createtable(L, size, 0);
    luaL_getmetatable(L, LIST_META);
    (void) lua_setmetatable(L, -2);
}

static void
push_array(lua_State *L, const cJSON *array, int depth)
{
    int i = 0;

    push_list(L, cJSON_GetArraySize(array));
    for (const cJSON *child = array->child; child != NULL; child = child->next) {
        push_json(L, child, depth + 1);
        lua_rawseti(L, -2, ++i);
    }
}

static void
push_json(lua_State *L, const cJSON *json, int depth)
{
    if (depth > MAYDAY_RULES_DEPTH_MAX) {
        mayday_rules_raise(L, "the event is nested deeper than %d", MAYDAY_RULES_DEPTH_MAX);
    }
    luaL_checkstack(L, 6, "the event is nested too deep");
    switch (json == NULL ? cJSON_NULL : json->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        lua_pushboolean(L, cJSON_IsTrue(json));
        break;
    case cJSON_Number:
        lua_pushnumber(L, json->valuedouble);
        break;
    case cJSON_String:
        lua_pushstring(L, json->valuestring);
        break;
    case cJSON_Array:
        push_array(L, json, depth);
        break;
    case cJSON_Object:
        push_object(L, json, depth);
        break;
    default:
        lua_pushnil(L);
    }
}

/* ---- the event's table ---- */

static mayday_part_t
part_of_key(lua_State *L, int index)
{
    size_t len;
    const char *key;

    if (lua_type(L, index) != LUA_TSTRING) {
        return MAYDAY_PART_MAX;
    }
    key = lua_tolstring(L, index, &len);
    return mayday_event_part_find(mayday_slice(key, len));
}

/*
 * Fills event[key], once. What a rule keeps beyond its run is a table like any
 * other: it does not show the next event.
 */
static void
fill_part(lua_State *L, int table, mayday_part_t part)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    if (part == MAYDAY_PART_MAX || lua_topointer(L, table) != rules->event_table ||
        (rules->touched >> part & 1) != 0) {
        return;
    }
    rules->touched |= 1u << part;
    push_json(L, mayday_event_part(rules->event, part), 1);
    if (part == MAYDAY_PART_REQUEST && lua_istable(L, -1)) {
        static const char *const always[] = {"headers", "cookies", "query_string"};

        /* So that looking up a header needs no test whether headers are collected. */
        for (size_t i = 0; i < MAYDAY_COUNT(always); i++) {
            lua_pushstring(L, always[i]);
            lua_rawget(L, -2);
            if (lua_isnil(L, -1)) {
                lua_pushstring(L, always[i]);
                push_pairs(L, NULL, always[i]);
                lua_rawset(L, -4);
            }
            lua_pop(L, 1);
        }
    }
    lua_pushstring(L, mayday_event_part_key(part));
    lua_insert(L, -2);
    lua_rawset(L, table);
}

static int
event_index(lua_State *L)
{
    fill_part(L, 1, part_of_key(L, 2));
    lua_settop(L, 2);
    lua_rawget(L, 1);
    return 1;
}

static int
event_newindex(lua_State *L)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    if (lua_topointer(L, 1) == rules->event_table) {
        mayday_part_t part = part_of_key(L, 2);

        if (part == MAYDAY_PART_MAX) {
            mayday_rules_raise(L, "event.%s: an event has no such part",
                               lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2)
                                                             : luaL_typename(L, 2));
        }
        rules->touched |= 1u << part;
    }
    lua_rawset(L, 1);
    return 0;
}

static int
event_fill(lua_State *L)
{
    for (int part = 0; part < MAYDAY_PART_MAX; part++) {
        fill_part(L, 1, (mayday_part_t) part);
    }
    return 0;
}

/* ---- the hint ---- */

static void
set_ms(lua_State *L, const char *name, int32_t ms)
{
    if (ms >= 0) {
        lua_pushinteger(L, ms);
        lua_setfield(L, -2, name);
    }
}

/* As in event.contexts.mayday.attempts, but all of them. */
static void
push_attempts(lua_State *L, const mayday_record_view_t *view)
{
    push_list(L, (int) view->attempt_count);
    for (size_t i = 0; i < view->attempt_count; i++) {
        const mayday_attempt_view_t *a = &view->attempts[i];

        lua_createtable(L, 0, 5);
        lua_pushlstring(L, a->peer.data == NULL ? "" : a->peer.data, a->peer.len);
        lua_setfield(L, -2, "peer");
        if (a->timing.status > 0) {
            lua_pushinteger(L, a->timing.status);
            lua_setfield(L, -2, "status_code");
        }
        set_ms(L, "connect_ms", a->timing.connect_ms);
        set_ms(L, "header_ms", a->timing.header_ms);
        set_ms(L, "response_ms", a->timing.response_ms);
        if (a->timing.bytes_received > 0) {
            lua_pushnumber(L, (lua_Number) a->timing.bytes_received);
            lua_setfield(L, -2, "bytes_received");
        }
        lua_rawseti(L, -2, (int) i + 1);
    }
}

static void
push_log_lines(lua_State *L, const mayday_record_view_t *view)
{
    static const char *const levels[] = {"emerg", "alert",  "crit", "error",
                                         "warn",  "notice", "info", "debug"};

    push_list(L, (int) view->log_line_count);
    for (size_t i = 0; i < view->log_line_count; i++) {
        const mayday_log_line_view_t *line = &view->log_lines[i];
        uint32_t level = line->info.level < MAYDAY_COUNT(levels) ? line->info.level : 7;

        lua_createtable(L, 0, 2);
        lua_pushstring(L, levels[level]);
        lua_setfield(L, -2, "level");
        lua_pushlstring(L, line->text.data == NULL ? "" : line->text.data, line->text.len);
        lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, (int) i + 1);
    }
}

/* The text, or nil. */
static void
push_text(lua_State *L, bool there, mayday_slice_t text)
{
    if (there) {
        lua_pushlstring(L, text.data == NULL ? "" : text.data, text.len);
    } else {
        lua_pushnil(L);
    }
}

static void
push_hint_field(lua_State *L, const mayday_event_t *event, const char *key)
{
    static const char *const kinds[] = {
#define MAYDAY_KIND(id, name, type, level, family, says, meaning) name,
#include "core/capture/kinds.def"
#undef MAYDAY_KIND
    };
    const mayday_record_view_t *view = event->view;

    if (strcmp(key, "kind") == 0) {
        uint64_t kind = mayday_view_u64(view, KIND);

        lua_pushstring(L, kind < MAYDAY_COUNT(kinds) ? kinds[kind] : "unknown");
    } else if (strcmp(key, "attempts") == 0) {
        push_attempts(L, view);
    } else if (strcmp(key, "log_lines") == 0) {
        push_log_lines(L, view);
    } else if (strcmp(key, "client_ip") == 0) {
        push_text(L, mayday_view_has(view, CLIENT_ADDRESS), mayday_view_text(view, CLIENT_ADDRESS));
    } else if (strcmp(key, "duration") == 0) {
        lua_pushnumber(L, (lua_Number) mayday_view_u64(view, DURATION_US) / 1e6);
    } else if (strcmp(key, "sampled") == 0 && mayday_view_has(view, SAMPLED)) {
        lua_pushboolean(L, mayday_view_u64(view, SAMPLED) != 0);
    } else if (strcmp(key, "baggage") == 0) {
        push_text(L, mayday_view_has(view, BAGGAGE), mayday_view_text(view, BAGGAGE));
    } else if (strcmp(key, "suppressed") == 0) {
        lua_pushnumber(L, (lua_Number) event->suppressed);
    } else {
        lua_pushnil(L);
    }
}

static int
hint_index(lua_State *L)
{
    const mayday_rules_t *rules = mayday_rules_of(L);

    if (lua_topointer(L, 1) != rules->hint_table || lua_type(L, 2) != LUA_TSTRING) {
        return 0;
    }
    push_hint_field(L, rules->event, lua_tostring(L, 2));
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

static int
hint_fill(lua_State *L)
{
    static const char *const fields[] = {"kind",     "attempts",   "log_lines", "client_ip",
                                         "duration", "suppressed", "sampled",   "baggage"};

    for (size_t i = 0; i < MAYDAY_COUNT(fields); i++) {
        lua_getfield(L, 1, fields[i]);
        lua_pop(L, 1);
    }
    return 0;
}

/* ---- headers: names that ignore case ---- */

/* Pushes the key of the table at 1 that is the name at 2 in another case, or nil. */
static void
push_spelling(lua_State *L)
{
    size_t len;
    const char *text = lua_tolstring(L, 2, &len);
    mayday_slice_t name = mayday_slice(text, len);

    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            text = lua_tolstring(L, -1, &len);
            if (mayday_slice_ieq(mayday_slice(text, len), name)) {
                return;
            }
        }
    }
    lua_pushnil(L);
}

static int
headers_index(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING) {
        return 0;
    }
    push_spelling(L);
    if (!lua_isnil(L, -1)) {
        lua_rawget(L, 1);
    }
    return 1;
}

static int
headers_newindex(lua_State *L)
{
    if (lua_type(L, 2) == LUA_TSTRING) {
        push_spelling(L);
        if (!lua_isnil(L, -1)) {
            lua_replace(L, 2);
        }
        lua_settop(L, 3);
    }
    lua_rawset(L, 1);
    return 0;
}

/* ---- metatables ---- */

bool
mayday_rules_is_list(lua_State *L)
{
    bool marked = false;

    if (lua_getmetatable(L, -1)) {
        luaL_getmetatable(L, LIST_META);
        marked = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    return marked;
}

int
mayday_rules_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1)) {
        lua_settop(L, 1);
        if (mayday_rules_is_list(L)) {
            return 1;
        }
        return luaL_argerror(L, 1, "has a metatable");
    }
    luaL_getmetatable(L, LIST_META);
    (void) lua_setmetatable(L, 1);
    return 1;
}

static void
make_metatable(lua_State *L, const char *name, lua_CFunction index, lua_CFunction newindex,
               lua_CFunction fill)
{
    (void) luaL_newmetatable(L, name);
    if (index != NULL) {
        lua_pushcfunction(L, index);
        lua_setfield(L, -2, "__index");
    }
    if (newindex != NULL) {
        lua_pushcfunction(L, newindex);
        lua_setfield(L, -2, "__newindex");
    }
    if (fill != NULL) {
        mayday_sandbox_lazy(L, fill);
    }
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void
mayday_rules_event_open(lua_State *L)
{
    make_metatable(L, EVENT_META, event_index, event_newindex, event_fill);
    make_metatable(L, HINT_META, hint_index, NULL, hint_fill);
    make_metatable(L, HEADERS_META, headers_index, headers_newindex, NULL);
    make_metatable(L, LIST_META, NULL, NULL, NULL);
}

void
mayday_rules_event_push(lua_State *L)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    lua_createtable(L, 0, 4);
    luaL_getmetatable(L, EVENT_META);
    (void) lua_setmetatable(L, -2);
    rules->event_table = lua_topointer(L, -1);
}

mayday_event_t *
mayday_rules_event_at(lua_State *L, int index)
{
    const mayday_rules_t *rules = mayday_rules_of(L);

    return rules->event_table != NULL && lua_topointer(L, index) == rules->event_table
               ? rules->event
               : NULL;
}

void
mayday_rules_hint_push(lua_State *L)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    lua_newtable(L);
    luaL_getmetatable(L, HINT_META);
    (void) lua_setmetatable(L, -2);
    rules->hint_table = lua_topointer(L, -1);
}
