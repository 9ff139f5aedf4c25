/*
 * JSON for the builders: see event_build.h. Strings are made from slices without
 * a detour over a terminated copy.
 *
 * Runs in the agent; takes memory from the event's arena.
 */
#include "core/event/event_build.h"

/* Takes text, made by cJSON_malloc. */
static cJSON *
string_take(char *text)
{
    cJSON *item = cJSON_CreateNull();

    if (item == NULL) {
        cJSON_free(text);
        return NULL;
    }
    item->type = cJSON_String;
    item->valuestring = text;
    return item;
}

cJSON *
mayday_json_text(mayday_slice_t text, size_t chars_max, unsigned flags, mayday_utf8_info_t *info)
{
    const size_t dots = sizeof(MAYDAY_UTF8_ELLIPSIS) - 1;
    bool cut = (flags & MAYDAY_FIELD_CUT) != 0;
    mayday_utf8_info_t local;
    char *out;

    if (info == NULL) {
        info = &local;
    }
    *info = (mayday_utf8_info_t){0, 0, 0};
    size_t size = (mayday_utf8_is_plain(text) ? text.len + 1 : MAYDAY_UTF8_SIZE(text.len)) + dots;
    out = cJSON_malloc(size);
    if (out == NULL) {
        return NULL;
    }
    mayday_rc_t rc = mayday_utf8_clean(out, size, text, cut ? chars_max - dots : chars_max, info);
    if (cut && rc == MAYDAY_OK) {
        memcpy(out + info->len, MAYDAY_UTF8_ELLIPSIS, dots + 1);
        info->len += dots;
        info->chars += dots;
    }
    if (cut) { /* how long the whole was, nobody knows */
        info->chars_whole = info->chars;
    }
    return string_take(out);
}

cJSON *
mayday_json_scrubbed(mayday_slice_t text, size_t chars_max)
{
    size_t size = MAYDAY_SCRUB_SIZE(text.len) + 1;
    char *storage = cJSON_malloc(size);
    mayday_buf_t scrubbed;
    cJSON *item;

    if (storage == NULL) {
        return NULL;
    }
    mayday_buf_init(&scrubbed, storage, size);
    (void) mayday_scrub_text(&scrubbed, text);
    item = mayday_json_text(mayday_buf_slice(&scrubbed), chars_max, 0, NULL);
    cJSON_free(storage);
    return item;
}

void
mayday_json_add(cJSON *object, const char *key, cJSON *item)
{
    if (!cJSON_AddItemToObjectCS(object, key, item)) {
        cJSON_Delete(item);
    }
}

void
mayday_json_add_text(cJSON *object, const char *key, mayday_slice_t text, size_t chars_max)
{
    if (text.len > 0) {
        mayday_json_add(object, key, mayday_json_text(text, chars_max, 0, NULL));
    }
}

void
mayday_json_add_number(cJSON *object, const char *key, double number)
{
    mayday_json_add(object, key, cJSON_CreateNumber(number));
}

void
mayday_json_add_constant(cJSON *object, const char *key, const char *constant)
{
    mayday_json_add(object, key, cJSON_CreateStringReference(constant));
}

cJSON *
mayday_json_pair(cJSON *name, cJSON *value)
{
    cJSON *pair = cJSON_CreateArray();

    if (pair == NULL || name == NULL || value == NULL) {
        cJSON_Delete(pair);
        cJSON_Delete(name);
        cJSON_Delete(value);
        return NULL;
    }
    cJSON_AddItemToArray(pair, name);
    cJSON_AddItemToArray(pair, value);
    return pair;
}

cJSON *
mayday_json_object_at(cJSON *object, const char *key)
{
    cJSON *child = cJSON_GetObjectItemCaseSensitive(object, key);

    return child != NULL ? child : cJSON_AddObjectToObject(object, key);
}

/* The object of _meta about the value that the keys lead to. */
static cJSON *
note_at(mayday_event_t *event, const char *const *keys)
{
    cJSON *at;

    if (event->cuts == NULL) {
        event->cuts = cJSON_CreateObject();
    }
    for (at = event->cuts; *keys != NULL; keys++) {
        at = mayday_json_object_at(at, *keys);
    }
    return mayday_json_object_at(at, "");
}

/*
 * {"": {"rem": [["!limit", "s"]], "len": whole}}: the dots stand in the place of
 * what was cut, and event_meta.c says where. Without len where the whole was never
 * seen.
 */
void
mayday_note_cut(mayday_event_t *event, const mayday_utf8_info_t *info, const char *const *keys)
{
    cJSON *at = note_at(event, keys), *rem = cJSON_CreateArray();

    cJSON_AddItemToArray(rem, cJSON_CreateStringReference("!limit"));
    cJSON_AddItemToArray(rem, cJSON_CreateStringReference("s"));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(at, "rem"), rem);
    if (info->chars_whole > info->chars) {
        mayday_json_add_number(at, "len", (double) info->chars_whole);
    }
}

void
mayday_note_length(mayday_event_t *event, size_t length, const char *const *keys)
{
    mayday_json_add_number(note_at(event, keys), "len", (double) length);
}

void
mayday_event_removed(mayday_event_t *event, const char *rule, const char *const *keys)
{
    cJSON *at = note_at(event, keys), *rem = cJSON_CreateArray();

    cJSON_AddItemToArray(rem, cJSON_CreateString(rule));
    cJSON_AddItemToArray(rem, cJSON_CreateStringReference("x"));
    cJSON_DeleteItemFromObjectCaseSensitive(at, "rem");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(at, "rem"), rem);
}
