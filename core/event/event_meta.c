/*
 * What is told of removed data in _meta, at the path of each value: what
 * building cut (noted as it happened) and what was filtered before the record
 * was written, which is seen in the values themselves. So it fits the event as
 * it is sent, whatever rules did.
 *
 *   {"request":{"headers":{"3":{"1":{"":{"rem":[["mayday:denylist","s",0,10]]}}}}}}
 *
 * A range counts characters of the new text. How long a filtered value was is
 * nobody's business, and a value cut to "..." has its old length.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include <stdio.h>

#include "core/capture/record_format.h"
#include "core/event/event_build.h"

enum { RANGES_MAX = 16 };

static size_t
count_chars(const char *text, size_t len)
{
    size_t chars = 0, i;

    for (i = 0; i < len; i++) {
        chars += ((unsigned char) text[i] & 0xc0) != 0x80;
    }
    return chars;
}

/* The ranges that "[Filtered]" takes in a text, or NULL. */
static cJSON *
filtered_ranges(const char *text)
{
    const size_t length = sizeof(MAYDAY_FILTERED) - 1;
    const char *at = text;
    cJSON *ranges = NULL;
    int count = 0;

    while (count++ < RANGES_MAX && (at = strstr(at, MAYDAY_FILTERED)) != NULL) {
        size_t begin = count_chars(text, (size_t) (at - text));
        cJSON *range = cJSON_CreateArray();
        if (ranges == NULL) {
            ranges = cJSON_CreateArray();
        }
        cJSON_AddItemToArray(range, cJSON_CreateStringReference("mayday:denylist"));
        cJSON_AddItemToArray(range, cJSON_CreateStringReference("s"));
        cJSON_AddItemToArray(range, cJSON_CreateNumber((double) begin));
        cJSON_AddItemToArray(range, cJSON_CreateNumber((double) (begin + length)));
        cJSON_AddItemToArray(ranges, range);
        at += length;
    }
    return ranges;
}

/* A member of meta by a key made here, found or made. */
static cJSON *
object_at_index(cJSON *object, size_t index)
{
    char key[24];

    (void) snprintf(key, sizeof(key), "%zu", index);
    return mayday_json_object_at(object, key);
}

static void
add_filtered(cJSON **meta, const char *const *path, size_t index, bool pair, const char *text)
{
    cJSON *ranges = filtered_ranges(text), *at;

    if (ranges == NULL) {
        return;
    }
    if (*meta == NULL) {
        *meta = cJSON_CreateObject();
    }
    for (at = *meta; *path != NULL; path++) {
        at = mayday_json_object_at(at, *path);
    }
    at = object_at_index(at, index);
    at = mayday_json_object_at(pair ? mayday_json_object_at(at, "1") : at, "");
    cJSON *rem = cJSON_GetObjectItemCaseSensitive(at, "rem");
    if (rem == NULL) {
        mayday_json_add(at, "rem", ranges);
        return;
    }
    /* The value was cut, too: what was filtered stands before the dots. */
    cJSON *cut = cJSON_DetachItemFromArray(rem, 0);
    cJSON_ReplaceItemInObjectCaseSensitive(at, "rem", ranges);
    cJSON_AddItemToArray(ranges, cut);
}

static void
scan_list(cJSON **meta, cJSON *list, const char *const *path)
{
    size_t index = 0;
    cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        bool pair = cJSON_IsArray(item);
        const char *text = cJSON_GetStringValue(pair ? cJSON_GetArrayItem(item, 1) : item);
        if (text != NULL) {
            add_filtered(meta, path, index, pair, text);
        }
        index++;
    }
}

cJSON *
mayday_build_meta(mayday_event_t *event)
{
    static const char *const lists[] = {"query_string", "headers", "cookies"};
    const char *request_key = mayday_event_part_key(MAYDAY_PART_REQUEST);
    mayday_part_t part;
    cJSON *meta, *request;
    size_t i;

    for (part = 0; part < MAYDAY_PART_META; part++) {
        (void) mayday_event_part(event, part);
    }
    meta = event->cuts != NULL ? cJSON_Duplicate(event->cuts, true) : NULL;
    request = mayday_event_part(event, MAYDAY_PART_REQUEST);
    for (i = 0; i < MAYDAY_COUNT(lists); i++) {
        const char *path[] = {request_key, lists[i], NULL};
        cJSON *list = cJSON_GetObjectItemCaseSensitive(request, lists[i]);
        if (cJSON_IsArray(list)) {
            scan_list(&meta, list, path);
        }
    }
    return meta;
}
