/*
 * What rules made of an event's tables, taken back into the event; the way there
 * is in rules_event.c.
 *
 * Every part that Lua has is compared with its JSON, and only what differs is
 * changed in it: untouched parts are never converted, and neither the order of
 * keys nor that of repeated headers is lost.
 *
 * JSON's null is nil. An empty table is a list where it was one before or was
 * marked by mayday.array, else an object.
 *
 * Runs in the agent's pipeline thread, with the event's arena bound: what is
 * made of cJSON is never freed here. Errors are Lua errors that name the path.
 */
#include <math.h>
#include <stdlib.h>

#include "core/agent/rules_internal.h"
#include "core/event/utf8.h"

#define MIXED_KEYS "a table has either names or a list's numbers as keys, not both"

/* Where a value stands, for error messages; lives on the C stack. */
typedef struct place {
    const struct place *parent;
    const char *key; /* NULL: index counts */
    int index;
    const void *table; /* the Lua table that holds it: to find cycles */
    int depth;
} place_t;

/* An event on its way back. */
typedef struct {
    lua_State *L;
    mayday_part_t part;  /* under way                        */
    bool changed;        /* the part under way               */
    size_t nodes, bytes; /* of all parts so far, to be bounded */
} walk_t;

static cJSON *take(walk_t *walk, const place_t *place, cJSON *old);

/* Writes the path of a place in front of a message and raises it. */
_Noreturn static void
place_error(lua_State *L, const place_t *place, const char *message)
{
    const place_t *way[MAYDAY_RULES_DEPTH_MAX + 2];
    size_t n = 0;
    char text[400];
    mayday_buf_t path;

    for (; place != NULL && n < MAYDAY_COUNT(way); place = place->parent) {
        way[n++] = place;
    }
    mayday_buf_init(&path, text, sizeof(text));
    mayday_buf_adds(&path, "event");
    while (n-- > 0) {
        if (way[n]->key == NULL) {
            mayday_buf_addf(&path, "[%d]", way[n]->index);
        } else {
            mayday_buf_addf(&path, ".%.64s", way[n]->key);
        }
    }
    mayday_rules_raise(L, "%s: %s", text, message);
}

/* ---- what the parts may hold, as Sentry takes it ---- */

enum {
    TEXT = 1,
    NUMBER = 2,
    BOOL = 4,
    LIST = 8,
    OBJECT = 16,
    SCALAR = TEXT | NUMBER | BOOL,
    ANY = SCALAR | LIST | OBJECT
};

/* Sets of the above: of a part, and of what stands directly in it. */
static const struct {
    unsigned itself, members;
} shapes[MAYDAY_PART_MAX] = {
    [MAYDAY_PART_EVENT_ID] = {TEXT, 0},
    [MAYDAY_PART_TIMESTAMP] = {TEXT | NUMBER, 0},
    [MAYDAY_PART_PLATFORM] = {TEXT, 0},
    [MAYDAY_PART_LEVEL] = {TEXT, 0},
    [MAYDAY_PART_LOGGER] = {TEXT, 0},
    [MAYDAY_PART_SERVER_NAME] = {TEXT, 0},
    [MAYDAY_PART_RELEASE] = {TEXT, 0},
    [MAYDAY_PART_DIST] = {TEXT, 0},
    [MAYDAY_PART_ENVIRONMENT] = {TEXT, 0},
    [MAYDAY_PART_TRANSACTION] = {TEXT, 0},
    [MAYDAY_PART_TRANSACTION_INFO] = {OBJECT, ANY},
    [MAYDAY_PART_FINGERPRINT] = {LIST, SCALAR},
    [MAYDAY_PART_MESSAGE] = {TEXT | OBJECT, ANY},
    [MAYDAY_PART_EXCEPTION] = {OBJECT, ANY},
    [MAYDAY_PART_REQUEST] = {OBJECT, ANY},
    [MAYDAY_PART_USER] = {OBJECT, ANY},
    [MAYDAY_PART_CONTEXTS] = {OBJECT, OBJECT},
    [MAYDAY_PART_TAGS] = {OBJECT, SCALAR},
    [MAYDAY_PART_BREADCRUMBS] = {OBJECT, ANY},
    [MAYDAY_PART_MODULES] = {OBJECT, TEXT},
    [MAYDAY_PART_EXTRA] = {OBJECT, ANY},
    [MAYDAY_PART_SDK] = {OBJECT, ANY},
    [MAYDAY_PART_META] = {OBJECT, ANY},
};

/* What may stand at a place of the event. */
static unsigned
allowed_at(const walk_t *walk, const place_t *place)
{
    if (place->depth == 1) {
        return shapes[walk->part].itself;
    }
    if (place->depth > 2) {
        return ANY;
    }
    if (walk->part == MAYDAY_PART_REQUEST && mayday_rules_key_of_pairs(place->key)) {
        return OBJECT | LIST | (mayday_rules_key_ignores_case(place->key) ? 0 : TEXT);
    }
    if (walk->part == MAYDAY_PART_EXCEPTION || walk->part == MAYDAY_PART_BREADCRUMBS) {
        return place->key != NULL && strcmp(place->key, "values") == 0 ? LIST : ANY;
    }
    return shapes[walk->part].members;
}

/* Of the table on top; an empty one is whatever is wanted. */
static unsigned
shape_of_table(lua_State *L)
{
    unsigned shape = OBJECT;

    if (mayday_rules_is_list(L)) {
        return LIST;
    }
    lua_pushnil(L);
    if (!lua_next(L, -2)) {
        return LIST | OBJECT;
    }
    if (lua_type(L, -2) == LUA_TNUMBER) {
        shape = LIST;
    }
    lua_pop(L, 2);
    return shape;
}

static bool
has_names(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            lua_pop(L, 1);
            return true;
        }
    }
    return false;
}

static void
check_level(walk_t *walk, const place_t *place)
{
    static const char *const levels[] = {"fatal", "error", "warning", "info", "debug"};
    const char *level = lua_tostring(walk->L, -1);

    for (size_t i = 0; i < MAYDAY_COUNT(levels); i++) {
        if (strcmp(level, levels[i]) == 0) {
            return;
        }
    }
    place_error(walk->L, place, "must be \"fatal\", \"error\", \"warning\", \"info\" or \"debug\"");
}

/* Raises an error where the value on top cannot stand at that place. */
static void
check_shape(walk_t *walk, const place_t *place)
{
    static const char *const names[] = {
        [TEXT] = "a string",
        [TEXT | NUMBER] = "a string or a number",
        [SCALAR] = "a string, a number or a boolean",
        [LIST] = "a list",
        [OBJECT] = "a table with names",
        [OBJECT | TEXT] = "a table with names, or a string",
        [OBJECT | LIST] = "a table with names",
        [OBJECT | LIST | TEXT] = "a table with names, or a string",
    };
    lua_State *L = walk->L;
    unsigned allowed = allowed_at(walk, place), shape = ANY;

    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        shape = TEXT;
        break;
    case LUA_TNUMBER:
        shape = NUMBER;
        break;
    case LUA_TBOOLEAN:
        shape = BOOL;
        break;
    case LUA_TTABLE:
        shape = shape_of_table(L);
        break;
    default: /* cannot be sent anywhere, which is told elsewhere */
        break;
    }
    if ((allowed & shape) == 0 && shape == LIST && has_names(L)) {
        place_error(L, place, MIXED_KEYS);
    }
    if ((allowed & shape) == 0) {
        place_error(L, place,
                    lua_pushfstring(L, "must be %s, not a %s", names[allowed],
                                    shape == LIST ? "list" : luaL_typename(L, -1)));
    }
    if (walk->part == MAYDAY_PART_LEVEL && shape == TEXT) {
        check_level(walk, place);
    }
}

static cJSON *
made(walk_t *walk, const place_t *place, cJSON *json)
{
    if (json == NULL) {
        place_error(walk->L, place, "no memory");
    }
    walk->changed = true;
    return json;
}

/* The string on top, made fit for JSON in its place: valid UTF-8 without zero bytes. */
static const char *
clean_string(walk_t *walk, const place_t *place)
{
    lua_State *L = walk->L;
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    char *clean;

    walk->bytes += len;
    if (walk->bytes > MAYDAY_RULES_BYTES_MAX) {
        place_error(L, place, "the event has more than 512 KiB of text");
    }
    if (mayday_utf8_is_plain(mayday_slice(text, len))) {
        return text;
    }
    clean = lua_newuserdata(L, MAYDAY_UTF8_SIZE(len));
    if (mayday_utf8_clean(clean, MAYDAY_UTF8_SIZE(len), mayday_slice(text, len), SIZE_MAX, NULL) !=
        MAYDAY_OK) {
        place_error(L, place, "the text is too long");
    }
    lua_pushstring(L, clean);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return lua_tostring(L, -1);
}

/* Puts json in the place of old, or at the end if there is no old. */
static void
put(walk_t *walk, const place_t *place, cJSON *container, cJSON *old, cJSON *json)
{
    cJSON_bool done;

    if (old == json) {
        return;
    }
    if (cJSON_IsArray(container)) {
        done = old != NULL ? cJSON_ReplaceItemViaPointer(container, old, json)
                           : cJSON_AddItemToArray(container, json);
    } else if (old != NULL) {
        json->string = old->string; /* the key moves over */
        json->type |= old->type & cJSON_StringIsConst;
        old->string = NULL;
        old->type &= ~cJSON_StringIsConst;
        done = cJSON_ReplaceItemViaPointer(container, old, json);
    } else {
        done = cJSON_AddItemToObject(container, place->key, json);
    }
    if (!done) {
        place_error(walk->L, place, "no memory");
    }
}

static void
remove_item(walk_t *walk, cJSON *container, cJSON *item)
{
    (void) cJSON_DetachItemViaPointer(container, item);
    walk->changed = true;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static bool
known(const cJSON *container, const char *name, bool pairs)
{
    if (!pairs) {
        return cJSON_GetObjectItemCaseSensitive(container, name) != NULL;
    }
    for (const cJSON *pair = container->child; pair != NULL; pair = pair->next) {
        if (strcmp(mayday_rules_pair_name(pair), name) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * The names in the table on top that container does not have, sorted, so that
 * what is sent does not depend on the order of a hash. Leaves an array of *count
 * names, which Lua owns, on top of the table. Also where mixed keys are found.
 */
static const char **
push_new_names(walk_t *walk, const cJSON *container, bool pairs, size_t total, size_t *count)
{
    lua_State *L = walk->L;
    int table = lua_gettop(L);
    const char **names = lua_newuserdata(L, total * sizeof(*names));

    *count = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        const char *name = lua_tostring(L, -2);

        lua_pop(L, 1);
        if (!known(container, name, pairs)) {
            names[(*count)++] = name;
        }
    }
    qsort(names, *count, sizeof(*names), compare_names);
    return names;
}

/* How many keys the table on top has; all of them must be names. */
static size_t
count_names(walk_t *walk, const place_t *place)
{
    lua_State *L = walk->L;
    size_t n = 0;

    lua_pushnil(L);
    while (lua_next(L, -2)) {
        size_t len;
        const char *name;

        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            place_error(L, place, MIXED_KEYS);
        }
        name = lua_tolstring(L, -1, &len);
        if (strlen(name) != len) {
            place_error(L, place, "a name contains a zero byte");
        }
        if (++n > MAYDAY_RULES_NODES_MAX) {
            place_error(L, place, "too many values");
        }
    }
    return n;
}

/* The place of key (or index) in the table on top, which stands at parent. */
static place_t
place_within(lua_State *L, const place_t *parent, const char *key, int index)
{
    place_t place = {parent, key, index, lua_topointer(L, -1), parent->depth + 1};

    for (const place_t *p = parent; p != NULL; p = p->parent) {
        if (p->table == place.table) {
            place_error(L, parent, "a table contains itself");
        }
    }
    if (place.depth > MAYDAY_RULES_DEPTH_MAX) {
        place_error(L, parent, "tables are nested too deep");
    }
    return place;
}

/* ---- name -> value, back into a list of pairs ---- */

/* The value on top as text; anything but text and numbers is an error. */
static const char *
pair_text(walk_t *walk, const place_t *place)
{
    if (lua_type(walk->L, -1) != LUA_TSTRING && lua_type(walk->L, -1) != LUA_TNUMBER) {
        place_error(walk->L, place, "the value must be a string");
    }
    return clean_string(walk, place);
}

/* Whether text is what the pairs of first's name come to, joined. */
static bool
pairs_say(const cJSON *first, bool ignore_case, const char *text)
{
    for (const cJSON *pair = first; pair != NULL; pair = pair->next) {
        size_t len = strlen(mayday_rules_pair_value(pair));

        if (pair != first) {
            if (!mayday_rules_same_name(mayday_rules_pair_name(pair), mayday_rules_pair_name(first),
                                        ignore_case)) {
                continue;
            }
            if (strncmp(text, ", ", 2) != 0) {
                return false;
            }
            text += 2;
        }
        if (strncmp(text, mayday_rules_pair_value(pair), len) != 0) {
            return false;
        }
        text += len;
    }
    return *text == '\0';
}

static void
remove_repeats(walk_t *walk, cJSON *list, const cJSON *first, bool ignore_case)
{
    cJSON *next;

    for (cJSON *pair = first->next; pair != NULL; pair = next) {
        next = pair->next;
        if (mayday_rules_same_name(mayday_rules_pair_name(pair), mayday_rules_pair_name(first),
                                   ignore_case)) {
            remove_item(walk, list, pair);
        }
    }
}

/* Adds the pair of a name in the table on top. */
static void
add_pair(walk_t *walk, const place_t *place, cJSON *list)
{
    lua_State *L = walk->L;
    cJSON *pair = made(walk, place, cJSON_CreateArray());

    lua_pushstring(L, place->key);
    lua_pushvalue(L, -1);
    put(walk, place, pair, NULL, made(walk, place, cJSON_CreateString(clean_string(walk, place))));
    lua_pop(L, 1);
    lua_rawget(L, -2);
    put(walk, place, pair, NULL, made(walk, place, cJSON_CreateString(pair_text(walk, place))));
    lua_pop(L, 1);
    put(walk, place, list, NULL, pair);
}

/*
 * Brings the pairs of one name, of which pair is the first, up to date: all are
 * as they were, or one has the new value, or one is left to be removed (false).
 */
static bool
take_pair(walk_t *walk, const place_t *place, cJSON *list, cJSON *pair, bool ignore_case)
{
    lua_State *L = walk->L;
    const char *text;
    bool there;

    lua_pushstring(L, mayday_rules_pair_name(pair));
    lua_rawget(L, -2);
    there = !lua_isnil(L, -1);
    text = there ? pair_text(walk, place) : NULL;
    if (!there) {
        remove_repeats(walk, list, pair, ignore_case);
    } else if (!pairs_say(pair, ignore_case, text)) {
        remove_repeats(walk, list, pair, ignore_case);
        put(walk, place, pair, pair->child->next, made(walk, place, cJSON_CreateString(text)));
    }
    lua_pop(L, 1);
    return there;
}

static cJSON *
take_pairs(walk_t *walk, const place_t *place, cJSON *old)
{
    lua_State *L = walk->L;
    cJSON *list = mayday_rules_is_pairs(old) ? old : made(walk, place, cJSON_CreateArray());
    cJSON *next;
    bool ignore_case = mayday_rules_key_ignores_case(place->key);
    size_t total = count_names(walk, place), kept = 0;

    for (cJSON *pair = list->child; pair != NULL; pair = next) {
        bool first = mayday_rules_first_of_name(list, pair, ignore_case) == pair, there = true;

        if (first) {
            place_t at = place_within(L, place, mayday_rules_pair_name(pair), 0);

            there = take_pair(walk, &at, list, pair, ignore_case);
            kept += there ? 1 : 0;
        }
        next = pair->next;
        if (!there) {
            remove_item(walk, list, pair);
        }
    }
    if (total > kept) {
        size_t count;
        const char **names = push_new_names(walk, list, true, total, &count);

        lua_insert(L, -2);
        for (size_t i = 0; i < count; i++) {
            place_t at = place_within(L, place, names[i], 0);

            add_pair(walk, &at, list);
        }
        lua_remove(L, -2);
    }
    return list;
}

/* ---- objects and lists ---- */

/* Adds what the table on top has at a name that object has not. */
static void
add_member(walk_t *walk, place_t *place, cJSON *object)
{
    lua_State *L = walk->L;
    cJSON *json;

    lua_pushstring(L, place->key);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    lua_insert(L, -2);
    place->key = clean_string(walk, place);
    lua_pushvalue(L, -2);
    json = take(walk, place, NULL);
    if (json != NULL) {
        put(walk, place, object, NULL, json);
    }
    lua_pop(L, 3);
}

static cJSON *
take_object(walk_t *walk, const place_t *place, cJSON *old)
{
    lua_State *L = walk->L;
    cJSON *object = cJSON_IsObject(old) ? old : made(walk, place, cJSON_CreateObject());
    cJSON *next;
    size_t total = count_names(walk, place), kept = 0;

    for (cJSON *child = object->child; child != NULL; child = next) {
        place_t at = place_within(L, place, child->string, 0);

        next = child->next;
        lua_pushstring(L, child->string);
        lua_rawget(L, -2);
        if (!lua_isnil(L, -1)) {
            kept++;
            put(walk, &at, object, child, take(walk, &at, child));
        } else if (!cJSON_IsNull(child)) {
            remove_item(walk, object, child);
        }
        lua_pop(L, 1);
    }
    if (total > kept) {
        size_t count;
        const char **names = push_new_names(walk, object, false, total, &count);

        lua_insert(L, -2);
        for (size_t i = 0; i < count; i++) {
            place_t at = place_within(L, place, names[i], 0);

            add_member(walk, &at, object);
        }
        lua_remove(L, -2);
    }
    return object;
}

/* The length of the list on top; every key must be one of 1 … n. */
static int
list_length(walk_t *walk, const place_t *place)
{
    lua_State *L = walk->L;
    int n = 0;

    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_Number key;

        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TNUMBER) {
            place_error(L, place, MIXED_KEYS);
        }
        key = lua_tonumber(L, -1);
        if (!(key >= 1 && key <= MAYDAY_RULES_NODES_MAX) || floor(key) != key) {
            place_error(L, place,
                        "a list's keys are the whole numbers from 1 on, and not too many");
        }
        n = (int) key > n ? (int) key : n;
    }
    return n;
}

static cJSON *
take_list(walk_t *walk, const place_t *place, cJSON *old)
{
    lua_State *L = walk->L;
    cJSON *list = cJSON_IsArray(old) ? old : made(walk, place, cJSON_CreateArray());
    cJSON *child = list->child;
    int n = list_length(walk, place);

    for (int i = 1; i <= n || child != NULL; i++) {
        cJSON *next = child == NULL ? NULL : child->next;
        place_t at = place_within(L, place, NULL, i);

        lua_rawgeti(L, -1, i);
        if (!lua_isnil(L, -1)) {
            put(walk, &at, list, child, take(walk, &at, child));
        } else if (i <= n && !cJSON_IsNull(child)) {
            place_error(L, &at, "a list must have no holes; take items out with table.remove");
        } else if (i > n && !cJSON_IsNull(child)) {
            remove_item(walk, list, child);
        }
        lua_pop(L, 1);
        child = next;
    }
    return list;
}

static cJSON *
take_table(walk_t *walk, const place_t *place, cJSON *old)
{
    lua_State *L = walk->L;
    bool list = mayday_rules_is_list(L), empty = true;

    mayday_sandbox_fill(L); /* the hint, as a value */
    lua_pushnil(L);
    if (lua_next(L, -2)) {
        empty = false;
        list = list || lua_type(L, -2) == LUA_TNUMBER;
        lua_pop(L, 2);
    }
    if (list) {
        return take_list(walk, place, old);
    }
    if (mayday_rules_key_of_pairs(place->key) && !cJSON_IsObject(old)) {
        /* The empty table that stood for an absent one stays away. */
        return empty && old == NULL ? NULL : take_pairs(walk, place, old);
    }
    return empty && cJSON_IsArray(old) ? take_list(walk, place, old)
                                       : take_object(walk, place, old);
}

/*
 * The value on top as JSON: old, changed where it differs, or a new node. NULL
 * only if it need not be there.
 */
static cJSON *
take(walk_t *walk, const place_t *place, cJSON *old)
{
    lua_State *L = walk->L;
    const char *text;
    lua_Number number;

    luaL_checkstack(L, 8, "tables are nested too deep");
    if (++walk->nodes > MAYDAY_RULES_NODES_MAX) {
        place_error(L, place, "too many values");
    }
    if (place->depth <= 2) {
        check_shape(walk, place);
    }
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        if (cJSON_IsBool(old) && cJSON_IsTrue(old) == lua_toboolean(L, -1)) {
            return old;
        }
        return made(walk, place, cJSON_CreateBool(lua_toboolean(L, -1)));
    case LUA_TNUMBER:
        number = lua_tonumber(L, -1);
        if (!isfinite(number)) {
            place_error(L, place, "the number is not finite");
        }
        if (cJSON_IsNumber(old) && old->valuedouble == number) {
            return old;
        }
        return made(walk, place, cJSON_CreateNumber(number));
    case LUA_TSTRING:
        text = clean_string(walk, place);
        if (cJSON_IsString(old) && strcmp(old->valuestring, text) == 0) {
            return old;
        }
        return made(walk, place, cJSON_CreateString(text));
    case LUA_TTABLE:
        return take_table(walk, place, old);
    default:
        place_error(L, place, lua_pushfstring(L, "a %s cannot be sent", luaL_typename(L, -1)));
    }
}

void
mayday_rules_collect(lua_State *L, int index)
{
    mayday_rules_t *rules = mayday_rules_of(L);
    walk_t walk = {L, MAYDAY_PART_MAX, false, 0, 0};

    for (int part = 0; part < MAYDAY_PART_MAX; part++) {
        place_t place = {NULL, mayday_event_part_key((mayday_part_t) part), 0, NULL, 1};
        cJSON *old, *json = NULL;

        if ((rules->touched >> part & 1) == 0) {
            continue;
        }
        walk.part = (mayday_part_t) part;
        walk.changed = false;
        old = mayday_event_part(rules->event, (mayday_part_t) part);
        lua_pushstring(L, place.key);
        lua_rawget(L, index);
        if (!lua_isnil(L, -1)) {
            json = take(&walk, &place, old);
        }
        lua_pop(L, 1);
        if (json != old || walk.changed) {
            if (part == MAYDAY_PART_EVENT_ID || part == MAYDAY_PART_META) {
                place_error(L, &place, "cannot be changed");
            }
            mayday_event_replace(rules->event, (mayday_part_t) part, json);
        }
    }
}
