/*
 * mayday.pii: personal data and secrets, scrubbed by a rule. What is known of them
 * is in core/filter/pii.h.
 *
 * Parts of the event that Lua does not have yet are scrubbed when they are built;
 * those that it has are walked here, in their tables, at once. The result is the
 * same: places and names are judged by the same functions.
 *
 * Runs in the agent's pipeline thread. What a run makes is in the event's arena,
 * beyond it in Lua's memory, so that errors lose nothing.
 */
#include <time.h>

#include "core/agent/rules_internal.h"
#include "core/filter/pii.h"
#include "core/filter/re.h"

#define OWN_META "mayday.pii.own"

/* A team's patterns: one userdata a state, in the registry; its metatable frees the cache. */
typedef struct {
    mayday_pii_owns_t owns;
    mayday_re_cache_t *cache;
    uint64_t late_us; /* of the thread's CPU time: when searching ends */
} own_t;

/* A scrubbing under way. */
typedef struct {
    lua_State *L;
    mayday_pii_t pii;
    mayday_event_t *event; /* NULL: none is; then there is no arena */
    bool is_event;         /* the table is the event's, not one of its values or any other */
    size_t values;         /* looked at so far, to be bounded       */
    int depth;
    const void *tables[MAYDAY_RULES_DEPTH_MAX]; /* on the way to here, to find cycles */
} walk_t;

/* ---- a team's own patterns ---- */

static own_t *
own_of(lua_State *L)
{
    own_t *own;

    lua_getfield(L, LUA_REGISTRYINDEX, OWN_META ".items");
    own = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return own;
}

static int
own_gc(lua_State *L)
{
    own_t *own = lua_touserdata(L, 1);

    mayday_re_cache_free(own->cache);
    own->cache = NULL;
    return 0;
}

typedef struct {
    own_t *own;
    const mayday_re_t *re;
} own_pattern_t;

static uint64_t
thread_cpu_us(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* Parts are scrubbed beyond the rules' run, too, so that bound is not enough. */
static bool
is_late(void *ctx)
{
    const own_t *own = ctx;

    return thread_cpu_us() > own->late_us;
}

/* What an expression cannot be tried on within its bounds must not go out: all of it matches. */
static bool
own_find(void *pattern, mayday_slice_t text, size_t from, size_t *begin, size_t *end)
{
    const own_pattern_t *p = pattern;
    mayday_re_match_t match;
    mayday_re_result_t result = MAYDAY_RE_MATCH;

    while (from < text.len && result == MAYDAY_RE_MATCH) {
        result = text.len > MAYDAY_RE_SUBJECT_MAX
                     ? MAYDAY_RE_TOO_MUCH
                     : mayday_re_match(p->own->cache, p->re, text, from, is_late, p->own, &match);
        if (result == MAYDAY_RE_MATCH && match.groups[0].end > match.groups[0].begin) {
            *begin = match.groups[0].begin;
            *end = match.groups[0].end;
            return true;
        }
        if (result == MAYDAY_RE_MATCH) {
            from = mayday_re_next(p->re, text, match.groups[0].end);
        }
    }
    *begin = from;
    *end = text.len;
    return from < text.len && result != MAYDAY_RE_NONE;
}

/* The string under a key of the table at 1. */
static mayday_slice_t
field(lua_State *L, const char *key, bool needed)
{
    size_t len = 0;
    const char *text;

    lua_getfield(L, 1, key);
    if (lua_isnil(L, -1) && !needed) {
        return MAYDAY_SLICE("");
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        mayday_rules_raise(L, "pii.add: %s must be a string", key);
    }
    text = lua_tolstring(L, -1, &len);
    return mayday_slice(text, len);
}

/* As they stand in _meta and in the placeholder: letters, digits and "_". */
static void
check_name(lua_State *L, mayday_slice_t name, const mayday_pii_owns_t *owns)
{
    bool good = name.len > 0 && name.len <= MAYDAY_PII_NAME_MAX;

    for (size_t i = 0; i < name.len && good; i++) {
        good = mayday_is_alnum(name.data[i]) || name.data[i] == '_';
    }
    if (!good) {
        mayday_rules_raise(L, "pii.add: a name is 1 to %d letters, digits and _",
                           MAYDAY_PII_NAME_MAX);
    }
    for (unsigned kind = 0; mayday_pii_name(owns, kind) != NULL; kind++) {
        if (mayday_slice_eq(name, mayday_slice_str(mayday_pii_name(owns, kind)))) {
            mayday_rules_raise(L, "pii.add: there is already a kind %s", name.data);
        }
    }
}

/* pii.add{name=…, pattern=…, options=…}: only while the rules are loaded. */
static int
add(lua_State *L)
{
    own_t *own = own_of(L);
    mayday_slice_t name, pattern, options;
    mayday_pii_own_t *item = &own->owns.items[own->owns.count];
    own_pattern_t *compiled;
    char error[256];

    luaL_checktype(L, 1, LUA_TTABLE);
    if (mayday_rules_of(L)->loaded) {
        mayday_rules_raise(L, "pii.add may only be called while the rules are loaded");
    }
    if (own->owns.count == MAYDAY_PII_OWN_MAX) {
        mayday_rules_raise(L, "there are already %d patterns", MAYDAY_PII_OWN_MAX);
    }
    name = field(L, "name", true);
    pattern = field(L, "pattern", true);
    options = field(L, "options", false);
    check_name(L, name, &own->owns);
    if (own->cache == NULL && (own->cache = mayday_re_cache_new()) == NULL) {
        mayday_rules_raise(L, "no memory");
    }
    compiled = lua_newuserdata(L, sizeof(*compiled));
    compiled->own = own;
    compiled->re = mayday_re_get(own->cache, pattern, options, error, sizeof(error));
    if (compiled->re == NULL) {
        mayday_rules_raise(L, "pii.add: %s", error);
    }
    (void) luaL_ref(L, LUA_REGISTRYINDEX);
    *item = (mayday_pii_own_t){.pattern = compiled, .find = own_find};
    memcpy(item->name, name.data, name.len);
    memcpy(item->rule, MAYDAY_PII_RULE, sizeof(MAYDAY_PII_RULE) - 1);
    memcpy(item->rule + sizeof(MAYDAY_PII_RULE) - 1, name.data, name.len);
    own->owns.count++;
    return 0;
}

/* ---- options ---- */

/* The names of all kinds, as "email, card, …". */
static const char *
push_kinds(lua_State *L, const mayday_pii_owns_t *owns)
{
    luaL_Buffer list;
    const char *name;

    luaL_buffinit(L, &list);
    for (unsigned kind = 0; (name = mayday_pii_name(owns, kind)) != NULL; kind++) {
        luaL_addstring(&list, kind == 0 ? "" : ", ");
        luaL_addstring(&list, name);
    }
    luaL_pushresult(&list);
    return lua_tostring(L, -1);
}

static unsigned
kind_named(lua_State *L, const mayday_pii_owns_t *owns, int index)
{
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : "?";
    const char *known;

    for (unsigned kind = 0; (known = mayday_pii_name(owns, kind)) != NULL; kind++) {
        if (strcmp(known, name) == 0) {
            return kind;
        }
    }
    mayday_rules_raise(L, "there is no kind '%s' of personal data; there are %s", name,
                       push_kinds(L, owns));
}

/* The kinds in the list at the top. */
static uint32_t
kinds_listed(lua_State *L, const mayday_pii_owns_t *owns, const char *option)
{
    uint32_t kinds = 0;

    if (!lua_istable(L, -1)) {
        mayday_rules_raise(L, "%s must be a list of kinds", option);
    }
    for (int i = 1; i <= (int) lua_objlen(L, -1) && i <= 64; i++) {
        lua_rawgeti(L, -1, i);
        kinds |= MAYDAY_PII_BIT(kind_named(L, owns, -1));
        lua_pop(L, 1);
    }
    return kinds;
}

static void
take_option(lua_State *L, mayday_pii_t *pii, const char *key)
{
    if (strcmp(key, "only") == 0) {
        pii->kinds &= kinds_listed(L, pii->owns, key);
    } else if (strcmp(key, "except") == 0) {
        pii->kinds &= ~kinds_listed(L, pii->owns, key);
    } else if (strcmp(key, "mode") == 0) {
        pii->mode = lua_type(L, -1) == LUA_TSTRING ? mayday_pii_mode(lua_tostring(L, -1))
                                                   : MAYDAY_PII_MODES;
        if (pii->mode == MAYDAY_PII_MODES) {
            mayday_rules_raise(L, "mode must be \"filter\", \"mask\", \"hash\" or \"remove\"");
        }
    } else {
        mayday_rules_raise(L, "there is no option '%s'; they are only, except and mode", key);
    }
}

/* The options at index 2, which may be absent. */
static void
take_options(lua_State *L, mayday_pii_t *pii)
{
    const mayday_rules_t *rules = mayday_rules_of(L);

    own_t *own = own_of(L);

    *pii = (mayday_pii_t){.kinds = MAYDAY_PII_ALL};
    if (own->owns.count > 0) {
        pii->owns = &own->owns;
        own->late_us = thread_cpu_us() + (uint64_t) MAYDAY_RULES_EVENT_MS_MAX * 1000;
    }
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_pushnil(L);
        while (lua_next(L, 2)) {
            if (lua_type(L, -2) != LUA_TSTRING) {
                mayday_rules_raise(L, "options have names: only, except and mode");
            }
            take_option(L, pii, lua_tostring(L, -2));
            lua_pop(L, 1);
        }
    }
    if (pii->mode == MAYDAY_PII_HASH && !rules->has_hash_key) {
        mayday_rules_raise(L, "mode \"hash\" has no key: none was found in mayday_directory");
    }
    memcpy(pii->hash_key, rules->hash_key, sizeof(pii->hash_key));
    pii->view = rules->event == NULL ? NULL : rules->event->view;
}

/* ---- values of Lua ---- */

/* Pushes what becomes of text; false: it stays, and nothing is pushed. */
static bool
push_scrubbed(walk_t *walk, mayday_pii_place_t place, mayday_pii_name_t name, mayday_slice_t text)
{
    lua_State *L = walk->L;
    size_t size = mayday_pii_measure(&walk->pii, place, name, text);
    mayday_pii_remarks_t remarks;
    mayday_buf_t out;
    char *storage;

    if (size == 0) {
        return false;
    }
    storage = walk->event != NULL ? cJSON_malloc(size) : lua_newuserdata(L, size);
    if (storage == NULL) {
        mayday_rules_raise(L, "no memory");
    }
    mayday_pii_remarks_init(&remarks, walk->event, text);
    mayday_buf_init(&out, storage, size);
    mayday_pii_write(&walk->pii, place, name, text, &out, &remarks);
    if (walk->event != NULL) {
        mayday_event_remark(walk->event, storage, remarks.chars_before, remarks.items,
                            remarks.count);
    }
    lua_pushlstring(L, out.data, out.len);
    if (walk->event == NULL) {
        lua_remove(L, -2);
    }
    return true;
}

static void walk_table(walk_t *walk, mayday_pii_place_t place, mayday_pii_name_t name);

/* Walks the value on top, or puts another in its place: true. */
static bool
walk_value(walk_t *walk, mayday_pii_place_t place, mayday_pii_name_t name)
{
    lua_State *L = walk->L;
    char digits[MAYDAY_PII_NUMBER_SIZE];
    bool changed = false;
    const char *text;
    size_t len;

    if (place == MAYDAY_PII_PLACE_SKIP) {
        return false;
    }
    if (++walk->values > MAYDAY_RULES_NODES_MAX) {
        mayday_rules_raise(L, "too many values");
    }
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        if (place == MAYDAY_PII_PLACE_ADDRESS) {
            changed = (walk->pii.kinds & MAYDAY_PII_BIT(MAYDAY_PII_IP)) != 0;
            if (changed && walk->is_event) { /* there null stands for Lua's nil */
                mayday_pii_forget_address(walk->event, mayday_slice(text, len));
            }
            if (changed) {
                lua_pushnil(L);
            }
            break;
        }
        changed = push_scrubbed(walk, place, name, mayday_slice(text, len));
        break;
    case LUA_TNUMBER:
        changed = mayday_pii_number(&walk->pii, place, name, lua_tonumber(L, -1), digits) &&
                  push_scrubbed(walk, place, name, mayday_slice_str(digits));
        break;
    case LUA_TTABLE:
        walk_table(walk, place, name);
        break;
    default:
        break;
    }
    if (changed) {
        lua_replace(L, -2);
    }
    return changed;
}

/* Where the key on top is to be another, notes both in the table at renames, made if need be. */
static void
note_rename(walk_t *walk, mayday_pii_place_t place, int renames)
{
    lua_State *L = walk->L;
    size_t len;
    const char *key = lua_tolstring(L, -1, &len);

    if (mayday_pii_measure_name(&walk->pii, place, mayday_slice(key, len)) == 0 ||
        !push_scrubbed(walk, place, MAYDAY_PII_NAME_PLAIN, mayday_slice(key, len))) {
        return;
    }
    if (lua_isnil(L, renames)) {
        lua_newtable(L);
        lua_replace(L, renames);
    }
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, renames);
}

/* Moves values of the table to their new names. */
static void
rename_keys(lua_State *L, int table, int renames)
{
    lua_pushnil(L);
    while (lua_next(L, renames)) { /* old, new */
        lua_pushvalue(L, -2);
        lua_rawget(L, table);
        lua_pushvalue(L, -3);
        lua_pushnil(L);
        lua_rawset(L, table);
        lua_rawset(L, table);
    }
}

/* What a user is told apart by where nothing but the address does. */
static void
hash_address(walk_t *walk, int table)
{
    lua_State *L = walk->L;
    char storage[MAYDAY_HASH_HEX_SIZE];
    mayday_buf_t out;
    const char *text;
    size_t len;

    lua_getfield(L, table, "id");
    lua_getfield(L, table, "ip_address");
    if (lua_isnil(L, -2) && lua_type(L, -1) == LUA_TSTRING &&
        (walk->pii.kinds & MAYDAY_PII_BIT(MAYDAY_PII_IP)) != 0) {
        text = lua_tolstring(L, -1, &len);
        mayday_buf_init(&out, storage, sizeof(storage));
        mayday_pii_put(&walk->pii, MAYDAY_PII_IP, mayday_slice(text, len), &out);
        lua_pushlstring(L, out.data, out.len);
        lua_setfield(L, table, "id");
    }
    lua_pop(L, 2);
}

/* { name, value }: as in JSON, the first says of the second what a key would. */
static bool
is_pair(lua_State *L, int table, mayday_pii_place_t place)
{
    bool pair = lua_objlen(L, table) == 2 && mayday_pii_place_of(place, MAYDAY_SLICE("")) == place;

    if (pair) {
        lua_rawgeti(L, table, 1);
        pair = lua_type(L, -1) == LUA_TSTRING;
        lua_pop(L, 1);
    }
    return pair;
}

static void
walk_pair(walk_t *walk, int table, mayday_pii_place_t place, mayday_pii_name_t name)
{
    lua_State *L = walk->L;
    mayday_pii_place_t inner;
    mayday_slice_t key;

    lua_rawgeti(L, table, 1);
    key.data = lua_tolstring(L, -1, &key.len);
    inner = mayday_pii_place_of(place, key);
    lua_rawgeti(L, table, 2);
    if (walk_value(walk, inner, mayday_pii_name_at(&walk->pii, inner, name, key))) {
        lua_rawseti(L, table, 2);
    } else {
        lua_pop(L, 1);
    }
    if (walk_value(walk, place, MAYDAY_PII_NAME_PLAIN)) {
        lua_rawseti(L, table, 1);
    } else {
        lua_pop(L, 1);
    }
}

static void
walk_members(walk_t *walk, int table, mayday_pii_place_t place, mayday_pii_name_t name)
{
    lua_State *L = walk->L;
    mayday_pii_name_t outer = name == MAYDAY_PII_NAME_STRONG ? name : MAYDAY_PII_NAME_PLAIN;
    int renames = table + 1;

    lua_pushnil(L); /* at renames */
    lua_pushnil(L);
    while (lua_next(L, table)) {
        mayday_pii_place_t inner = place;
        mayday_pii_name_t says = name;
        bool named = lua_type(L, -2) == LUA_TSTRING;

        if (named) {
            mayday_slice_t key;

            key.data = lua_tolstring(L, -2, &key.len);
            inner = mayday_pii_place_of(place, key);
            says = mayday_pii_name_at(&walk->pii, inner, outer, key);
        }
        if (walk_value(walk, inner, says)) {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, table);
        }
        lua_pop(L, 1);
        if (named && inner != MAYDAY_PII_PLACE_SKIP) {
            note_rename(walk, place, renames);
        }
    }
    if (!lua_isnil(L, renames)) {
        rename_keys(L, table, renames);
    }
    lua_settop(L, table);
}

/* Walks the table on top. */
static void
walk_table(walk_t *walk, mayday_pii_place_t place, mayday_pii_name_t name)
{
    lua_State *L = walk->L;
    int table = lua_gettop(L);

    mayday_sandbox_guard(L);
    luaL_checkstack(L, 12, "tables are nested too deep");
    for (int i = 0; i < walk->depth; i++) {
        if (walk->tables[i] == lua_topointer(L, table)) {
            return;
        }
    }
    if (walk->depth == MAYDAY_RULES_DEPTH_MAX) {
        mayday_rules_raise(L, "tables are nested too deep");
    }
    walk->tables[walk->depth++] = lua_topointer(L, table);
    if (place == MAYDAY_PII_PLACE_USER && walk->pii.mode == MAYDAY_PII_HASH) {
        hash_address(walk, table);
    }
    if (is_pair(L, table, place)) {
        walk_pair(walk, table, place, name);
    } else {
        walk_members(walk, table, place, name);
    }
    walk->depth--;
}

/* ---- the functions ---- */

static void
begin(walk_t *walk, lua_State *L)
{
    lua_settop(L, 2);
    walk->L = L;
    walk->event = mayday_rules_of(L)->event;
    walk->is_event = walk->event != NULL && mayday_rules_event_at(L, 1) == walk->event;
    walk->values = 0;
    walk->depth = 0;
    take_options(L, &walk->pii);
}

/* The parts that Lua has; whoever has one may have changed it. */
static void
walk_event(walk_t *walk, uint32_t parts)
{
    lua_State *L = walk->L;

    for (int part = 0; part < MAYDAY_PART_MAX; part++) {
        const char *key = mayday_event_part_key((mayday_part_t) part);

        if ((parts >> part & 1) == 0) {
            continue;
        }
        lua_pushstring(L, key);
        lua_pushvalue(L, -1);
        lua_rawget(L, 1);
        if (walk_value(walk, mayday_pii_place_of(MAYDAY_PII_PLACE_EVENT, mayday_slice_str(key)),
                       MAYDAY_PII_NAME_PLAIN)) {
            lua_rawset(L, 1);
        } else {
            lua_pop(L, 2);
        }
    }
}

/* pii.scrub(table, options): scrubs the event, or any table, and returns it. */
static int
scrub(lua_State *L)
{
    const mayday_rules_t *rules = mayday_rules_of(L);
    mayday_event_t *event = mayday_rules_event_at(L, 1);
    walk_t walk;

    if (lua_type(L, 1) == LUA_TSTRING) {
        mayday_rules_raise(L, "pii.scrub: table expected, got string; pii.text scrubs a string");
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    begin(&walk, L);
    if (event == NULL) {
        lua_pushvalue(L, 1);
        walk_table(&walk, MAYDAY_PII_PLACE_ANY, MAYDAY_PII_NAME_PLAIN);
    } else {
        if (mayday_pii_scrub(&walk.pii, event, ~rules->touched) != MAYDAY_OK) {
            mayday_rules_raise(L, "no memory");
        }
        walk_event(&walk, rules->touched);
    }
    lua_settop(L, 1);
    return 1;
}

/* pii.text(text, options): the text, scrubbed; nil stays nil. */
static int
scrub_text(lua_State *L)
{
    walk_t walk;
    size_t len;
    const char *text;

    if (lua_isnil(L, 1)) {
        return 1;
    }
    text = luaL_checklstring(L, 1, &len);
    begin(&walk, L);
    mayday_sandbox_guard(L);
    if (!push_scrubbed(&walk, MAYDAY_PII_PLACE_TEXT, MAYDAY_PII_NAME_PLAIN,
                       mayday_slice(text, len))) {
        lua_settop(L, 1);
    }
    return 1;
}

void
mayday_rules_pii_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"add", add}, {"scrub", scrub}, {"text", scrub_text}};
    own_t *own;

    own = lua_newuserdata(L, sizeof(*own));
    memset(own, 0, sizeof(*own));
    (void) luaL_newmetatable(L, OWN_META);
    lua_pushcfunction(L, own_gc);
    lua_setfield(L, -2, "__gc");
    (void) lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, OWN_META ".items");
    lua_createtable(L, 0, (int) MAYDAY_COUNT(functions));
    for (size_t i = 0; i < MAYDAY_COUNT(functions); i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
}
