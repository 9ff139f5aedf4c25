/*
 * What is told of removed data in _meta, at the path of each value. It is made
 * last, of the values as they are sent, so it fits whatever rules did:
 *
 *   cut        building noted it by path; the dots still end the text
 *   filtered   "[Filtered]" stands in the text
 *   remarked   a filter noted it by the text that it left, see mayday_event_remark
 *
 *   {"request":{"headers":{"3":{"1":{"":{"rem":[["mayday:denylist","s",0,10]]}}}}}}
 *
 * As Relay has it, a range counts bytes of the new text and len characters of the
 * old one. How long was what the denylist filtered before the record was written,
 * nobody knows.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include "core/capture/record_format.h"
#include "core/event/event_build.h"

enum { RANGES_MAX = 16, DEPTH_MAX = 16, REMARKED_MAX = 128 };

struct mayday_remarked {
    mayday_remarked_t *next;
    const char *text;
    size_t number; /* of this and those behind it in the list */
    size_t chars_before;
    size_t count;
    mayday_remark_t remarks[];
};

/* The way from the event down to the value that is looked at. */
typedef struct {
    cJSON *meta; /* NULL: nothing to tell so far */
    const mayday_remarked_t *remarks;
    bool replaced; /* by a rule: the part's texts may be copies */
    struct {
        const char *key; /* NULL: index, of a list */
        size_t index;
    } path[DEPTH_MAX];
    size_t depth;
} walk_t;

void
mayday_event_remark(mayday_event_t *event, const char *text, size_t chars_before,
                    const mayday_remark_t *remarks, size_t count)
{
    size_t number = event->remarks == NULL ? 1 : event->remarks->number + 1;
    mayday_remarked_t *remarked;

    count = count < RANGES_MAX ? count : RANGES_MAX;
    if (number > REMARKED_MAX ||
        (remarked = cJSON_malloc(sizeof(*remarked) + count * sizeof(*remarks))) == NULL) {
        return;
    }
    *remarked = (mayday_remarked_t){event->remarks, text, number, chars_before, count};
    if (count > 0) {
        memcpy(remarked->remarks, remarks, count * sizeof(*remarks));
    }
    event->remarks = remarked;
}

/* The remarks of a text: those of this very one, else, in a copy, of one that reads the same. */
static const mayday_remarked_t *
find_remarked(const mayday_remarked_t *remarked, const char *text, bool copy)
{
    const mayday_remarked_t *same = NULL;

    for (; remarked != NULL; remarked = remarked->next) {
        if (remarked->text == text) {
            return remarked;
        }
        if (copy && same == NULL && strcmp(remarked->text, text) == 0) {
            same = remarked;
        }
    }
    return same;
}

const mayday_remark_t *
mayday_event_remarks_of(const mayday_event_t *event, const char *text, size_t *count,
                        size_t *chars_before)
{
    const mayday_remarked_t *remarked = find_remarked(event->remarks, text, true);

    if (remarked == NULL) {
        *count = 0;
        return NULL;
    }
    *count = remarked->count;
    *chars_before = remarked->chars_before;
    return remarked->remarks;
}

enum { INDEX_SIZE = 24 };

/* An index as Relay writes it, a key; ends in storage. */
static const char *
index_key(size_t index, char storage[INDEX_SIZE])
{
    size_t at = INDEX_SIZE - 1;

    storage[at] = '\0';
    do {
        storage[--at] = (char) ('0' + index % 10);
        index /= 10;
    } while (index > 0);
    return &storage[at];
}

/* The object of _meta about the value that is looked at. */
static cJSON *
note_here(walk_t *walk)
{
    cJSON *at;
    size_t i;

    if (walk->meta == NULL) {
        walk->meta = cJSON_CreateObject();
    }
    for (i = 0, at = walk->meta; i < walk->depth; i++) {
        char storage[INDEX_SIZE];
        const char *key = walk->path[i].key;
        at = mayday_json_object_at(at, key != NULL ? key : index_key(walk->path[i].index, storage));
    }
    return mayday_json_object_at(at, "");
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

static void
add_range(cJSON *rem, const mayday_remark_t *remark)
{
    const char type[2] = {remark->type, '\0'};
    cJSON *range = cJSON_CreateArray();

    cJSON_AddItemToArray(range, cJSON_CreateString(remark->rule));
    cJSON_AddItemToArray(range, cJSON_CreateString(type));
    cJSON_AddItemToArray(range, cJSON_CreateNumber((double) remark->begin));
    cJSON_AddItemToArray(range, cJSON_CreateNumber((double) remark->end));
    cJSON_AddItemToArray(rem, range);
}

/* Ranges from left to right: those of a filter, and each "[Filtered]" between them. */
static void
add_ranges(cJSON *rem, const char *text, const char *filtered, const mayday_remarked_t *remarked)
{
    const size_t length = sizeof(MAYDAY_FILTERED) - 1;
    size_t count = remarked == NULL ? 0 : remarked->count, i = 0;

    for (int n = 0; n < RANGES_MAX && (i < count || filtered != NULL); n++) {
        size_t at = filtered == NULL ? SIZE_MAX : (size_t) (filtered - text);

        if (i < count && remarked->remarks[i].begin <= at) {
            size_t end = remarked->remarks[i].end;

            add_range(rem, &remarked->remarks[i++]);
            while (filtered != NULL && (size_t) (filtered - text) < end) {
                filtered = find_filtered(filtered + length);
            }
            continue;
        }
        add_range(rem, &(mayday_remark_t){"mayday:denylist", 's', at, at + length});
        filtered = find_filtered(filtered + length);
    }
}

static void
note_text(walk_t *walk, const char *text, const cJSON *cut)
{
    const char *filtered = find_filtered(text);
    const mayday_remarked_t *remarked = find_remarked(walk->remarks, text, walk->replaced);
    const size_t dots = sizeof(MAYDAY_UTF8_ELLIPSIS) - 1;
    const cJSON *whole;
    size_t len;
    cJSON *at, *rem;

    if (cut != NULL) {
        len = strlen(text);
        if (cJSON_GetObjectItemCaseSensitive(cut, "rem") == NULL || len < dots ||
            memcmp(text + len - dots, MAYDAY_UTF8_ELLIPSIS, dots) != 0) {
            cut = NULL; /* no longer the text that was cut */
        }
    }
    if (filtered == NULL && remarked == NULL && cut == NULL) {
        return;
    }
    at = note_here(walk);
    rem = cJSON_AddArrayToObject(at, "rem");
    add_ranges(rem, text, filtered, remarked);
    if (cut != NULL) {
        add_range(rem, &(mayday_remark_t){"!limit", 's', len - dots, len});
    }
    whole = cJSON_GetObjectItemCaseSensitive(cut, "len");
    if (whole != NULL) {
        mayday_json_add_number(at, "len", whole->valuedouble);
    } else if (remarked != NULL) {
        mayday_json_add_number(at, "len", (double) remarked->chars_before);
    }
}

/* A list that was longer, or a value that was removed. */
static void
note_absence(walk_t *walk, const cJSON *item, const cJSON *cut)
{
    const cJSON *whole = cJSON_GetObjectItemCaseSensitive(cut, "len");
    const cJSON *rem = cJSON_GetObjectItemCaseSensitive(cut, "rem");

    if (cJSON_IsArray(item) && whole != NULL && whole->valuedouble > cJSON_GetArraySize(item)) {
        mayday_json_add_number(note_here(walk), "len", whole->valuedouble);
    } else if (cJSON_IsNull(item) && rem != NULL) {
        mayday_json_add(note_here(walk), "rem", cJSON_Duplicate(rem, true));
    }
}

/* cut: what building noted of the item and what is in it, or NULL. */
static void
walk_item(walk_t *walk, const cJSON *item, const cJSON *cut)
{
    const cJSON *child, *here = cJSON_GetObjectItemCaseSensitive(cut, "");
    bool object = cJSON_IsObject(item);
    size_t index = 0;

    if (cJSON_IsString(item)) {
        note_text(walk, item->valuestring, here);
        return;
    }
    if (here != NULL) {
        note_absence(walk, item, here);
    }
    if ((!object && !cJSON_IsArray(item)) || walk->depth == DEPTH_MAX) {
        return;
    }
    cJSON_ArrayForEach(child, item)
    {
        const cJSON *inner = NULL;

        if (cut != NULL) {
            char storage[INDEX_SIZE];
            inner = cJSON_GetObjectItemCaseSensitive(cut, object ? child->string
                                                                 : index_key(index, storage));
        }
        walk->path[walk->depth].key = object ? child->string : NULL;
        walk->path[walk->depth].index = index++;
        walk->depth++;
        walk_item(walk, child, inner);
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
    walk.remarks = event->remarks;
    for (part = 0; part < MAYDAY_PART_META; part++) {
        walk.path[0].key = mayday_event_part_key(part);
        walk.replaced = (event->replaced >> part & 1) != 0;
        walk_item(&walk, event->parts[part],
                  cJSON_GetObjectItemCaseSensitive(event->cuts, walk.path[0].key));
    }
    return walk.meta;
}
