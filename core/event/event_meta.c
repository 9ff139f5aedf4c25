/*
 * What is told of removed data in _meta, at the path of each value: what
 * building cut (noted as it happened) and what was filtered, which is seen in
 * the values themselves. So it fits the event as it is sent, whatever rules did.
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

enum { RANGES_MAX = 16, DEPTH_MAX = 16 };

/* The way from the event down to the value that is looked at. */
typedef struct {
    cJSON *meta; /* NULL: nothing to tell so far */
    struct {
        const char *key; /* NULL: index, of a list */
        size_t index;
    } path[DEPTH_MAX];
    size_t depth;
} walk_t;

static size_t
count_chars(const char *text, size_t len)
{
    size_t chars = 0, i;

    for (i = 0; i < len; i++) {
        chars += ((unsigned char) text[i] & 0xc0) != 0x80;
    }
    return chars;
}

/* strstr, which is dear to begin, for texts that nearly never hold a bracket. */
static const char *
find_filtered(const char *text)
{
    for (text = strchr(text, '['); text != NULL; text = strchr(text + 1, '[')) {
        if (strncmp(text, MAYDAY_FILTERED, sizeof(MAYDAY_FILTERED) - 1) == 0) {
            break;
        }
    }
    return text;
}

/* The ranges that "[Filtered]" takes in a text, the first of which is at first. */
static cJSON *
filtered_ranges(const char *text, const char *first)
{
    const size_t length = sizeof(MAYDAY_FILTERED) - 1;
    cJSON *ranges = cJSON_CreateArray();
    const char *at = first;
    int count = 0;

    while (at != NULL && count++ < RANGES_MAX) {
        size_t begin = count_chars(text, (size_t) (at - text));
        cJSON *range = cJSON_CreateArray();
        cJSON_AddItemToArray(range, cJSON_CreateStringReference("mayday:denylist"));
        cJSON_AddItemToArray(range, cJSON_CreateStringReference("s"));
        cJSON_AddItemToArray(range, cJSON_CreateNumber((double) begin));
        cJSON_AddItemToArray(range, cJSON_CreateNumber((double) (begin + length)));
        cJSON_AddItemToArray(ranges, range);
        at = find_filtered(at + length);
    }
    return ranges;
}

static void
note_filtered(walk_t *walk, const char *text, const char *first)
{
    cJSON *ranges = filtered_ranges(text, first), *at, *rem;
    size_t i;

    if (walk->meta == NULL) {
        walk->meta = cJSON_CreateObject();
    }
    for (i = 0, at = walk->meta; i < walk->depth; i++) {
        char index[24];
        (void) snprintf(index, sizeof(index), "%zu", walk->path[i].index);
        at = mayday_json_object_at(at, walk->path[i].key != NULL ? walk->path[i].key : index);
    }
    at = mayday_json_object_at(at, "");
    rem = cJSON_GetObjectItemCaseSensitive(at, "rem");
    if (rem == NULL) {
        mayday_json_add(at, "rem", ranges);
        return;
    }
    /* The value was cut, too: what was filtered stands before the dots. */
    cJSON_AddItemToArray(ranges, cJSON_DetachItemFromArray(rem, 0));
    cJSON_ReplaceItemInObjectCaseSensitive(at, "rem", ranges);
}

static void
walk_item(walk_t *walk, const cJSON *item)
{
    const cJSON *child;
    size_t index = 0;

    if (cJSON_IsString(item)) {
        const char *first = find_filtered(item->valuestring);
        if (first != NULL) {
            note_filtered(walk, item->valuestring, first);
        }
        return;
    }
    if ((!cJSON_IsObject(item) && !cJSON_IsArray(item)) || walk->depth == DEPTH_MAX) {
        return;
    }
    cJSON_ArrayForEach(child, item)
    {
        walk->path[walk->depth].key = cJSON_IsObject(item) ? child->string : NULL;
        walk->path[walk->depth].index = index++;
        walk->depth++;
        walk_item(walk, child);
        walk->depth--;
    }
}

cJSON *
mayday_build_meta(mayday_event_t *event)
{
    walk_t walk = {.depth = 1};
    mayday_part_t part;

    for (part = 0; part < MAYDAY_PART_META; part++) {
        (void) mayday_event_part(event, part);
    }
    walk.meta = event->cuts != NULL ? cJSON_Duplicate(event->cuts, true) : NULL;
    for (part = 0; part < MAYDAY_PART_META; part++) {
        walk.path[0].key = mayday_event_part_key(part);
        walk_item(&walk, event->parts[part]);
    }
    return walk.meta != NULL && walk.meta->child != NULL ? walk.meta : NULL;
}
