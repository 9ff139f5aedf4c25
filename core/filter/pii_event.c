/*
 * Scrubbing an event's JSON: each part walked down to its texts, of which the
 * place and the names on the way say what is looked for.
 *
 * A part is walked when it is built (mayday_event_defer), so an event that is only
 * counted costs nothing. Texts that hold nothing stay where they are.
 *
 * Runs in the agent's pipeline thread; takes memory from the event's arena. Where
 * that has none left, a text that should be changed becomes empty.
 */
#include <math.h>
#include <stdio.h>

#include "core/filter/pii_private.h"

enum { DEPTH_MAX = 64 };

/* ---- places ---- */

#define ALL MAYDAY_PII_ALL
#define BIT(kind) MAYDAY_PII_BIT(MAYDAY_PII_##kind)

typedef struct {
    mayday_slice_t key; /* empty: the last one */
    mayday_pii_place_t place;
} member_t;

#define MEMBER(key, id) {{key, sizeof(key) - 1}, MAYDAY_PII_PLACE_##id},
#define MAYDAY_PII_PLACE(id, kinds, inner, ...)                                                    \
    static const member_t members_of_##id[] = {__VA_ARGS__{{NULL, 0}, MAYDAY_PII_PLACE_SKIP}};
#include "core/filter/pii_places.def"
#undef MAYDAY_PII_PLACE

static const struct {
    uint32_t kinds;
    mayday_pii_place_t inner;
    const member_t *members;
} places[MAYDAY_PII_PLACES] = {
#define MAYDAY_PII_PLACE(id, kinds, inner, ...)                                                    \
    [MAYDAY_PII_PLACE_##id] = {(kinds), MAYDAY_PII_PLACE_##inner, members_of_##id},
#include "core/filter/pii_places.def"
#undef MAYDAY_PII_PLACE
};

/* "kernel_version", "X-Client-Version": digits with dots are no address there. */
static bool
is_version(mayday_slice_t key)
{
    const size_t len = sizeof("version") - 1;

    return key.len >= len && (key.data[key.len - 1] | 0x20) == 'n' &&
           mayday_pii_ihas(key, key.len - len, "version");
}

mayday_pii_place_t
mayday_pii_place_of(mayday_pii_place_t place, mayday_slice_t key)
{
    if (place == MAYDAY_PII_PLACE_SKIP) {
        return place;
    }
    for (const member_t *member = places[place].members; member->key.len > 0; member++) {
        if (mayday_slice_eq(member->key, key)) {
            return member->place;
        }
    }
    if ((place == MAYDAY_PII_PLACE_ANY || place == MAYDAY_PII_PLACE_PAIRS) && is_version(key)) {
        return MAYDAY_PII_PLACE_VERSION;
    }
    return places[place].inner;
}

mayday_pii_name_t
mayday_pii_name_at(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t outer,
                   mayday_slice_t name)
{
    mayday_pii_name_t kind;

    if (outer == MAYDAY_PII_NAME_STRONG) {
        return outer;
    }
    if ((pii->kinds & places[place].kinds & BIT(SECRET)) == 0 || place == MAYDAY_PII_PLACE_TEXT ||
        place == MAYDAY_PII_PLACE_FINGERPRINT) {
        return MAYDAY_PII_NAME_PLAIN;
    }
    kind = mayday_pii_name_kind(name);
    if (kind == MAYDAY_PII_NAME_KEY) {
        return place == MAYDAY_PII_PLACE_PAIRS ? MAYDAY_PII_NAME_WEAK : MAYDAY_PII_NAME_PLAIN;
    }
    return kind;
}

/* ---- one value ---- */

/* Groups must stay apart, so what is in a fingerprint is hashed. */
static mayday_pii_t
at_place(const mayday_pii_t *pii, mayday_pii_place_t place)
{
    mayday_pii_t here = *pii;

    if (place == MAYDAY_PII_PLACE_FINGERPRINT) {
        here.mode = MAYDAY_PII_HASH;
    }
    return here;
}

/* Whether the name makes the whole text a secret. */
static bool
is_whole(mayday_pii_name_t name)
{
    return name == MAYDAY_PII_NAME_WEAK || name == MAYDAY_PII_NAME_STRONG;
}

/* "{{ default }}" and nothing behind it: a variable, not text. */
static bool
is_variable(mayday_pii_place_t place, mayday_slice_t text)
{
    return place == MAYDAY_PII_PLACE_FINGERPRINT && mayday_slice_starts(text, MAYDAY_SLICE("{{")) &&
           mayday_slice_find(text, MAYDAY_SLICE("}}"), 0) == text.len - 2;
}

static bool
stays(mayday_pii_place_t place, mayday_pii_name_t name, mayday_slice_t text)
{
    return is_variable(place, text) || (is_whole(name) && mayday_pii_is_spent(text));
}

/* More than any placeholder, hash or own pattern's name in brackets takes. */
#define PUT_MAX 48u

size_t
mayday_pii_measure(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t name,
                   mayday_slice_t text)
{
    mayday_pii_scan_t scan;
    mayday_pii_match_t match;
    size_t matches = 0;

    if (places[place].kinds == 0 || stays(place, name, text)) {
        return 0;
    }
    if (is_whole(name)) {
        return text.len + PUT_MAX;
    }
    mayday_pii_scan_init(&scan, pii, pii->kinds & places[place].kinds, text);
    while (mayday_pii_scan_next(&scan, &match)) {
        matches++;
    }
    return matches == 0 ? 0 : text.len + matches * PUT_MAX + 1;
}

size_t
mayday_pii_measure_name(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_slice_t name)
{
    size_t i = 0;

    while (i < name.len && (mayday_pii_is(name, i, MAYDAY_PII_ALPHA) || name.data[i] == '-' ||
                            name.data[i] == '_')) {
        i++;
    }
    /* "X-Forwarded-For": of letters alone is nothing that is built in. */
    return i == name.len && pii->owns == NULL
               ? 0
               : mayday_pii_measure(pii, place, MAYDAY_PII_NAME_PLAIN, name);
}

void
mayday_pii_remarks_init(mayday_pii_remarks_t *remarks, const mayday_event_t *event,
                        mayday_slice_t text)
{
    remarks->count = remarks->before_count = remarks->chars_before = 0;
    for (size_t i = 0; i < text.len; i++) {
        remarks->chars_before += ((uint8_t) text.data[i] & 0xc0) != 0x80;
    }
    if (event != NULL) {
        remarks->before = mayday_event_remarks_of(event, text.data, &remarks->before_count,
                                                  &remarks->chars_before);
    }
}

static void
add_remark(mayday_pii_remarks_t *remarks, mayday_remark_t remark)
{
    if (remarks != NULL && remarks->count < MAYDAY_PII_REMARKS_MAX) {
        remarks->items[remarks->count++] = remark;
    }
}

/* Copies a stretch of the old text, and the remarks that lie within it. */
static void
keep(mayday_slice_t text, size_t begin, size_t end, mayday_buf_t *out,
     mayday_pii_remarks_t *remarks)
{
    for (size_t i = 0; remarks != NULL && i < remarks->before_count; i++) {
        mayday_remark_t remark = remarks->before[i];

        if (remark.begin >= begin && remark.end <= end) {
            remark.begin = remark.begin - begin + out->len;
            remark.end = remark.end - begin + out->len;
            add_remark(remarks, remark);
        }
    }
    mayday_buf_add(out, mayday_slice(text.data + begin, end - begin));
}

static void
put(const mayday_pii_t *pii, unsigned kind, mayday_slice_t text, mayday_buf_t *out,
    mayday_pii_remarks_t *remarks)
{
    static const char types[MAYDAY_PII_MODES] = {'s', 'm', 'p', 'x'};
    size_t begin = out->len;

    mayday_pii_put(pii, kind, text, out);
    add_remark(remarks, (mayday_remark_t){mayday_pii_rule(pii->owns, kind), types[pii->mode], begin,
                                          out->len});
}

void
mayday_pii_write(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t name,
                 mayday_slice_t text, mayday_buf_t *out, mayday_pii_remarks_t *remarks)
{
    mayday_pii_t here = at_place(pii, place);
    mayday_pii_scan_t scan;
    mayday_pii_match_t match;
    size_t copied = 0;

    if (is_whole(name)) {
        put(&here, MAYDAY_PII_SECRET, text, out, remarks);
        return;
    }
    mayday_pii_scan_init(&scan, &here, pii->kinds & places[place].kinds, text);
    while (mayday_pii_scan_next(&scan, &match)) {
        keep(text, copied, match.begin, out, remarks);
        put(&here, match.kind, mayday_slice(text.data + match.begin, match.end - match.begin), out,
            remarks);
        copied = match.end;
    }
    keep(text, copied, text.len, out, remarks);
}

bool
mayday_pii_number(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t name,
                  double number, char text[MAYDAY_PII_NUMBER_SIZE])
{
    uint8_t digits[MAYDAY_PII_NUMBER_SIZE];
    int len;

    if (name == MAYDAY_PII_NAME_STRONG) {
        (void) snprintf(text, MAYDAY_PII_NUMBER_SIZE, "%.17g", number);
        return true;
    }
    if ((pii->kinds & places[place].kinds & BIT(CARD)) == 0 || number < 1e12 || number > 1e16 ||
        number != floor(number)) {
        return false;
    }
    len = snprintf(text, MAYDAY_PII_NUMBER_SIZE, "%.0f", number);
    for (int i = 0; i < len; i++) {
        digits[i] = (uint8_t) (text[i] - '0');
    }
    return mayday_pii_is_card(digits, (size_t) len);
}

/* ---- events ---- */

typedef struct {
    const mayday_pii_t *pii;
    mayday_event_t *event;
    unsigned depth;
} walk_t;

/* What becomes of a text, in the arena; NULL: it stays as it is. */
static char *
scrubbed(walk_t *walk, mayday_pii_place_t place, mayday_pii_name_t name, const char *string)
{
    mayday_slice_t text = mayday_slice_str(string);
    size_t size = mayday_pii_measure(walk->pii, place, name, text);
    mayday_pii_remarks_t remarks;
    mayday_buf_t out;
    char *storage;

    if (size == 0) {
        return NULL;
    }
    storage = cJSON_malloc(size);
    if (storage == NULL) {
        static char none[] = "";
        return none;
    }
    mayday_pii_remarks_init(&remarks, walk->event, text);
    mayday_buf_init(&out, storage, size);
    mayday_pii_write(walk->pii, place, name, text, &out, &remarks);
    mayday_event_remark(walk->event, storage, remarks.chars_before, remarks.items, remarks.count);
    return storage;
}

/* Text that is freed with the arena, or not at all. */
static void
set_string(cJSON *item, char *text)
{
    item->type = cJSON_String | cJSON_IsReference | (item->type & cJSON_StringIsConst);
    item->valuestring = text;
}

static void walk_item(walk_t *walk, cJSON *item, mayday_pii_place_t place, mayday_pii_name_t name);

static void
walk_object(walk_t *walk, cJSON *object, mayday_pii_place_t place, mayday_pii_name_t name)
{
    cJSON *child;

    name = name == MAYDAY_PII_NAME_STRONG ? name : MAYDAY_PII_NAME_PLAIN;
    cJSON_ArrayForEach(child, object)
    {
        mayday_slice_t key = mayday_slice_str(child->string);
        mayday_pii_place_t inner = mayday_pii_place_of(place, key);
        bool ours = (child->type & cJSON_StringIsConst) != 0; /* of a builder: says nothing */
        char *new_key;

        if (inner == MAYDAY_PII_PLACE_SKIP) {
            continue;
        }
        walk_item(walk, child, inner,
                  ours ? name : mayday_pii_name_at(walk->pii, inner, name, key));
        if (!ours && mayday_pii_measure_name(walk->pii, place, key) > 0) {
            new_key = scrubbed(walk, place, MAYDAY_PII_NAME_PLAIN, child->string);
            child->string = new_key != NULL ? new_key : child->string;
            child->type |= child->string[0] == '\0' ? cJSON_StringIsConst : 0; /* never freed */
        }
    }
}

/* [name, value]: the name says of the value what the key of an object's member does. */
static bool
is_pair(const cJSON *item)
{
    return cJSON_IsArray(item) && cJSON_IsString(item->child) && item->child->next != NULL &&
           item->child->next->next == NULL;
}

static void
walk_pair(walk_t *walk, cJSON *pair, mayday_pii_place_t place, mayday_pii_name_t name)
{
    mayday_slice_t key = mayday_slice_str(pair->child->valuestring);
    mayday_pii_place_t inner = mayday_pii_place_of(place, key);

    walk_item(walk, pair->child->next, inner, mayday_pii_name_at(walk->pii, inner, name, key));
    if (mayday_pii_measure_name(walk->pii, place, key) > 0) {
        walk_item(walk, pair->child, place, MAYDAY_PII_NAME_PLAIN);
    }
}

/* One of the two places of a client's address, of which Sentry takes a real one or none. */
static void
forget(mayday_event_t *event, cJSON *item, const char *const *keys)
{
    item->type = cJSON_NULL | (item->type & cJSON_StringIsConst);
    item->valuestring = NULL;
    mayday_event_removed(event, mayday_pii_rule(NULL, MAYDAY_PII_IP), keys);
}

static const char *const user_keys[] = {"user", "ip_address", NULL};
static const char *const env_keys[] = {"request", "env", "REMOTE_ADDR", NULL};

static cJSON *
address_at(mayday_event_t *event, mayday_part_t part, const char *const *keys)
{
    cJSON *item = event->parts[part];

    for (keys++; *keys != NULL; keys++) {
        item = cJSON_GetObjectItemCaseSensitive(item, *keys);
    }
    return cJSON_IsString(item) ? item : NULL;
}

void
mayday_pii_forget_address(mayday_event_t *event, mayday_slice_t address)
{
    cJSON *user = address_at(event, MAYDAY_PART_USER, user_keys);
    cJSON *env = address_at(event, MAYDAY_PART_REQUEST, env_keys);

    if (user != NULL && mayday_slice_eq(mayday_slice_str(user->valuestring), address)) {
        forget(event, user, user_keys);
    }
    if (env != NULL && mayday_slice_eq(mayday_slice_str(env->valuestring), address)) {
        forget(event, env, env_keys);
    }
}

/* Its hash tells users apart where nothing else does. */
static void
walk_address(walk_t *walk, cJSON *item)
{
    mayday_event_t *event = walk->event;
    cJSON *user = event->parts[MAYDAY_PART_USER];
    char hash[PUT_MAX];
    mayday_buf_t out;

    if (item == NULL || (walk->pii->kinds & BIT(IP)) == 0) {
        return;
    }
    if (item == address_at(event, MAYDAY_PART_USER, user_keys)) {
        if (walk->pii->mode == MAYDAY_PII_HASH &&
            cJSON_GetObjectItemCaseSensitive(user, "id") == NULL) {
            mayday_buf_init(&out, hash, sizeof(hash));
            mayday_pii_put(walk->pii, MAYDAY_PII_IP, mayday_slice_str(item->valuestring), &out);
            cJSON_AddItemToObject(user, "id", cJSON_CreateString(hash));
        }
        forget(event, item, user_keys);
    } else {
        forget(event, item, env_keys);
    }
}

static void
walk_number(walk_t *walk, cJSON *item, mayday_pii_place_t place, mayday_pii_name_t name)
{
    char digits[MAYDAY_PII_NUMBER_SIZE], *text;

    if (mayday_pii_number(walk->pii, place, name, item->valuedouble, digits)) {
        text = scrubbed(walk, place, name, digits);
        if (text != NULL) {
            set_string(item, text);
        }
    }
}

static void
walk_item(walk_t *walk, cJSON *item, mayday_pii_place_t place, mayday_pii_name_t name)
{
    char *text;
    cJSON *child;

    if (place == MAYDAY_PII_PLACE_SKIP || walk->depth == DEPTH_MAX) {
        return;
    }
    walk->depth++;
    if (place == MAYDAY_PII_PLACE_ADDRESS && cJSON_IsString(item)) {
        walk_address(walk, item);
    } else if (cJSON_IsString(item)) {
        text = scrubbed(walk, place, name, item->valuestring);
        if (text != NULL) {
            set_string(item, text);
        }
    } else if (cJSON_IsNumber(item)) {
        walk_number(walk, item, place, name);
    } else if (cJSON_IsObject(item)) {
        walk_object(walk, item, place, name);
    } else if (is_pair(item) && places[place].inner == place) {
        walk_pair(walk, item, place, name);
    } else {
        cJSON_ArrayForEach(child, item)
        {
            walk_item(walk, child, place, name);
        }
    }
    walk->depth--;
}

static void
scrub_part(const void *ctx, mayday_event_t *event, mayday_part_t part)
{
    walk_t walk = {ctx, event, 0};
    mayday_slice_t key = mayday_slice_str(mayday_event_part_key(part));

    if (event->parts[part] != NULL) {
        walk_item(&walk, event->parts[part], mayday_pii_place_of(MAYDAY_PII_PLACE_EVENT, key),
                  MAYDAY_PII_NAME_PLAIN);
    }
}

mayday_rc_t
mayday_pii_scrub(const mayday_pii_t *pii, mayday_event_t *event, uint32_t parts)
{
    mayday_pii_t *copy = cJSON_malloc(sizeof(*copy));

    if (copy == NULL) {
        return MAYDAY_NO_MEMORY;
    }
    *copy = *pii;
    copy->view = event->view;
    mayday_event_defer(event, scrub_part, copy, parts);
    return MAYDAY_OK;
}
