/*
 * mayday.re: match, find and gsub with regular expressions, as functions of Lua
 * over core/filter/re.h, which bounds them.
 *
 * Runs in the agent's pipeline thread. An error may leave any of these functions
 * at any point, so nothing is held here: expressions belong to the rules' cache,
 * and one that a replacement function is called under stays pinned in it until
 * the run is over.
 */
#include "core/agent/rules_internal.h"
#include "core/filter/re.h"

/* Arguments 1 and 2 and the options, and where in the text a search begins. */
typedef struct {
    lua_State *L;
    mayday_re_cache_t *cache;
    const mayday_re_t *re;
    mayday_slice_t text;
    mayday_re_match_t match;
} search_t;

static bool
is_late(void *ctx)
{
    return mayday_sandbox_is_late(ctx);
}

static mayday_re_cache_t *
cache_of(lua_State *L)
{
    mayday_rules_t *rules = mayday_rules_of(L);

    if (rules->expressions == NULL) {
        rules->expressions = mayday_re_cache_new();
        if (rules->expressions == NULL) {
            mayday_rules_raise(L, "no memory for regular expressions");
        }
    }
    return rules->expressions;
}

/* The text at 1, the expression at 2, the options, a string or nothing, at that index. */
static void
begin(lua_State *L, search_t *search, int options_index)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    mayday_slice_t pattern, options;
    char error[320];

    search->L = L;
    search->cache = cache_of(L);
    search->text = mayday_slice(data, len);
    if (len > MAYDAY_RE_SUBJECT_MAX) {
        mayday_rules_raise(L, "regular expressions search at most 1 MiB of text");
    }
    data = luaL_checklstring(L, 2, &len);
    pattern = mayday_slice(data, len);
    data = luaL_optlstring(L, options_index, "", &len);
    options = mayday_slice(data, len);
    mayday_sandbox_guard(L);
    search->re = mayday_re_get(search->cache, pattern, options, error, sizeof(error));
    if (search->re == NULL) {
        mayday_rules_raise(L, "bad regular expression: %s", error);
    }
}

/* Whether there is a match from byte `from` on. */
static bool
next_match(search_t *search, size_t from)
{
    lua_State *L = search->L;

    switch (mayday_re_match(search->cache, search->re, search->text, from, is_late, L,
                            &search->match)) {
    case MAYDAY_RE_MATCH:
        return true;
    case MAYDAY_RE_NONE:
        return false;
    case MAYDAY_RE_LATE:
        mayday_sandbox_guard(L);
        /* fall through */
    case MAYDAY_RE_TOO_MUCH:
        mayday_rules_raise(L, "the regular expression takes too many steps on this text");
    case MAYDAY_RE_BAD_TEXT:
        mayday_rules_raise(L, "option u: the text is not valid UTF-8");
    case MAYDAY_RE_BAD_BEGIN:
        break;
    }
    mayday_rules_raise(L, "\\K puts the beginning of a match where none can be");
}

/* Pushes what group i matched, or nil. */
static void
push_group(const search_t *search, size_t i)
{
    size_t start = search->match.groups[i].begin;

    if (start == SIZE_MAX) {
        lua_pushnil(search->L);
    } else {
        lua_pushlstring(search->L, search->text.data + start, search->match.groups[i].end - start);
    }
}

/* Pushes {[0] = whole, [1] = …, name = …}. */
static void
push_match(const search_t *search)
{
    lua_State *L = search->L;

    lua_createtable(L, (int) search->match.count, 0);
    for (size_t i = 0; i < search->match.count; i++) {
        const char *name = mayday_re_group_name(search->re, i);

        push_group(search, i);
        if (name != NULL && !lua_isnil(L, -1)) {
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, name);
        }
        lua_rawseti(L, -2, (int) i);
    }
}

/* mayday.re.match(text, regex [, options]): the captures as a table, or nil. */
static int
re_match(lua_State *L)
{
    search_t search;

    begin(L, &search, 3);
    if (next_match(&search, 0)) {
        push_match(&search);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

/* mayday.re.find(text, regex [, options]): where the match begins and ends, or nil. */
static int
re_find(lua_State *L)
{
    search_t search;

    begin(L, &search, 3);
    if (!next_match(&search, 0)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, (lua_Integer) search.match.groups[0].begin + 1);
    lua_pushinteger(L, (lua_Integer) search.match.groups[0].end);
    return 2;
}

/* ---- gsub ---- */

/* The group that $1, $12, ${3} or ${name} at text means; *len of that, or SIZE_MAX: none. */
static size_t
group_of_reference(const search_t *search, mayday_slice_t text, size_t *len)
{
    bool braces = text.len > 1 && text.data[1] == '{';
    size_t from = braces ? 2 : 1, to = from, number = 0;

    while (to < text.len &&
           (mayday_is_digit(text.data[to]) ||
            (braces && (mayday_is_alnum(text.data[to]) || text.data[to] == '_')))) {
        to++;
    }
    *len = to + (braces ? 1 : 0);
    if (to == from || (braces && (to == text.len || text.data[to] != '}'))) {
        return SIZE_MAX;
    }
    for (size_t i = from; i < to && number != SIZE_MAX; i++) {
        number = mayday_is_digit(text.data[i]) && number < 1000
                     ? number * 10 + (size_t) (text.data[i] - '0')
                     : SIZE_MAX;
    }
    for (size_t i = 1; number == SIZE_MAX && i < search->match.count; i++) {
        const char *name = mayday_re_group_name(search->re, i);

        if (name != NULL &&
            mayday_slice_eq(mayday_slice_str(name), mayday_slice(text.data + from, to - from))) {
            return i;
        }
    }
    return number < search->match.count ? number : SIZE_MAX;
}

/* The replacement at 3, a string in which $ refers to groups and $$ is a dollar. */
static void
add_template(const search_t *search, luaL_Buffer *b)
{
    size_t len, used;
    const char *data = lua_tolstring(search->L, 3, &len);

    for (size_t i = 0; i < len; i += used) {
        size_t group;

        used = 1;
        if (data[i] != '$') {
            luaL_addlstring(b, data + i, 1);
            continue;
        }
        if (i + 1 < len && data[i + 1] == '$') {
            used = 2;
            luaL_addlstring(b, data + i, 1);
            continue;
        }
        group = group_of_reference(search, mayday_slice(data + i, len - i), &used);
        if (group == SIZE_MAX) {
            mayday_rules_raise(search->L,
                               "the replacement refers to no group of the expression at "
                               "character %d; a dollar is written $$",
                               (int) i + 1);
        }
        if (search->match.groups[group].begin != SIZE_MAX) {
            luaL_addlstring(b, search->text.data + search->match.groups[group].begin,
                            search->match.groups[group].end - search->match.groups[group].begin);
        }
    }
}

/* What the function at 3 makes of the match; nil and false leave it as it was. */
static void
add_from_function(const search_t *search, luaL_Buffer *b)
{
    lua_State *L = search->L;

    lua_pushvalue(L, 3);
    push_match(search);
    lua_call(L, 1, 1);
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        push_group(search, 0);
    } else if (!lua_isstring(L, -1)) {
        mayday_rules_raise(L, "the replacement function returned a %s, not a string",
                           luaL_typename(L, -1));
    }
    luaL_addvalue(b);
}

/* mayday.re.gsub(text, regex, replacement [, options]): the new text, how many were replaced. */
static int
re_gsub(lua_State *L)
{
    search_t search;
    luaL_Buffer b;
    size_t at = 0, count = 0, from = 0;
    bool function = lua_isfunction(L, 3);

    if (!function) {
        (void) luaL_checkstring(L, 3);
    }
    begin(L, &search, 4);
    mayday_re_pin(search.cache, search.re);
    lua_settop(L, 3);
    luaL_buffinit(L, &b);
    while (from <= search.text.len && next_match(&search, from)) {
        size_t start = search.match.groups[0].begin, end = search.match.groups[0].end;

        luaL_addlstring(&b, search.text.data + at, start - at);
        if (function) {
            add_from_function(&search, &b);
        } else {
            add_template(&search, &b);
        }
        count++;
        at = from = end;
        if (end == start) {
            from = mayday_re_next(search.re, search.text, end);
        }
        mayday_sandbox_guard(L);
    }
    luaL_addlstring(&b, search.text.data + at, search.text.len - at);
    luaL_pushresult(&b);
    lua_pushinteger(L, (lua_Integer) count);
    return 2;
}

void
mayday_rules_re_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"find", re_find}, {"gsub", re_gsub}, {"match", re_match}};

    lua_createtable(L, 0, (int) MAYDAY_COUNT(functions));
    for (size_t i = 0; i < MAYDAY_COUNT(functions); i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
}

void
mayday_rules_re_run_over(mayday_rules_t *rules)
{
    if (rules->expressions != NULL) {
        mayday_re_unpin_all(rules->expressions);
    }
}

void
mayday_rules_re_close(mayday_rules_t *rules)
{
    mayday_re_cache_free(rules->expressions);
    rules->expressions = NULL;
}
