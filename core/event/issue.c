/*
 * What groups events into an issue and what names it.
 *
 * The default fingerprint, as strings:
 *   nobody there   "mayday" "nobody_there" UPSTREAM    as configured, so that a
 *                  dead host is one issue whatever the server's words for it
 *   all others     "mayday" KIND STATUS METHOD ROUTE
 *
 * An issue's hash is that of its entries, each hashed under the hash of those
 * before it: no buffer bounds it and no separator can be forged. For the
 * default it is taken straight from the record, so that an event that is only
 * counted needs no JSON.
 *
 * Runs in the agent's pipeline thread; makes JSON in the event's arena only
 * where a rule set a fingerprint.
 */
#include <stdio.h>

#include "core/event/event_build.h"

enum {
    ENTRIES_MAX = 5,
    /* of a rule's fingerprint; what is beyond is left out, or cut */
    RULE_ENTRIES_MAX = 32,
    RULE_ENTRY_CHARS_MAX = MAYDAY_ROUTE_SIZE /* as in the default */
};

/* The entries of the default and the bytes of those that are made here. */
typedef struct {
    mayday_slice_t entries[ENTRIES_MAX];
    size_t count;
    char status[8];
    char route[MAYDAY_ROUTE_SIZE];
    char clean[MAYDAY_UTF8_SIZE((size_t) MAYDAY_ROUTE_SIZE)];
} default_t;

static const mayday_kind_info_t kinds[] = {
#define MAYDAY_LEVEL_FATAL "fatal"
#define MAYDAY_LEVEL_ERROR "error"
#define MAYDAY_LEVEL_WARNING "warning"
#define MAYDAY_KIND(id, name, type, level, family, says, meaning)                                  \
    [MAYDAY_KIND_##id] = {name, type, MAYDAY_LEVEL_##level, MAYDAY_FAMILY_##family, says},
#include "core/capture/kinds.def"
#undef MAYDAY_KIND
};

const mayday_kind_info_t *
mayday_kind_info(const mayday_record_view_t *view)
{
    uint64_t kind = mayday_view_u64(view, KIND);

    return &kinds[kind < MAYDAY_KIND_MAX ? kind : MAYDAY_KIND_SERVER_INTERNAL];
}

/* The text as it stands in JSON, for hash and part must not differ. */
static mayday_slice_t
clean(mayday_slice_t text, char *storage, size_t size)
{
    mayday_utf8_info_t info;

    if (mayday_utf8_is_plain(text)) {
        return text;
    }
    (void) !mayday_utf8_clean(storage, size, text, MAYDAY_ROUTE_SIZE, &info);
    return mayday_slice(storage, info.len);
}

static void
default_entries(const mayday_event_t *event, default_t *d)
{
    const mayday_record_view_t *view = event->view;
    const mayday_kind_info_t *kind = mayday_kind_info(view);
    size_t n = 0;

    d->entries[n++] = MAYDAY_SLICE("mayday");
    if (kind->family == MAYDAY_FAMILY_NOBODY_THERE) {
        d->entries[n++] = MAYDAY_SLICE("nobody_there");
        d->entries[n++] = clean(mayday_view_upstream(view), d->clean, sizeof(d->clean));
    } else {
        d->entries[n++] = mayday_slice_str(kind->name);
        int len = snprintf(d->status, sizeof(d->status), "%u",
                           (unsigned) (mayday_view_u64(view, STATUS) % 1000));
        d->entries[n++] = mayday_slice(d->status, (size_t) len);
        d->entries[n++] = mayday_view_method(view);
        d->entries[n++] = clean(mayday_event_route(event, d->route), d->clean, sizeof(d->clean));
    }
    d->count = n;
}

static void
hash_entry(uint8_t hash[MAYDAY_HASH_BYTES], mayday_slice_t entry)
{
    uint8_t key[MAYDAY_HASH_BYTES];

    memcpy(key, hash, sizeof(key));
    mayday_siphash(hash, key, entry.data, entry.len);
}

/* ---- a rule's fingerprint ---- */

static cJSON *
add_default(mayday_event_t *event, cJSON *entries)
{
    default_t d;
    size_t i;

    default_entries(event, &d);
    for (i = 0; i < d.count; i++) {
        cJSON_AddItemToArray(entries, mayday_json_text(d.entries[i], MAYDAY_ROUTE_SIZE, 0, NULL));
    }
    return entries;
}

cJSON *
mayday_build_fingerprint(mayday_event_t *event)
{
    return add_default(event, cJSON_CreateArray());
}

/* "{{ name }}" as a whole entry: the name, else empty. */
static mayday_slice_t
variable_name(mayday_slice_t entry)
{
    const mayday_slice_t none = {NULL, 0};
    size_t begin = 2, end;

    if (entry.len < 5 || memcmp(entry.data, "{{", 2) != 0 ||
        memcmp(entry.data + entry.len - 2, "}}", 2) != 0) {
        return none;
    }
    end = entry.len - 2;
    while (begin < end && entry.data[begin] == ' ') {
        begin++;
    }
    while (end > begin && entry.data[end - 1] == ' ') {
        end--;
    }
    mayday_slice_t name = mayday_slice(entry.data + begin, end - begin);
    return mayday_slice_find(name, MAYDAY_SLICE(" "), 0) == SIZE_MAX ? name : none;
}

/* A string, number or boolean as text, the latter two in storage; NULL: none of them. */
static const char *
scalar_text(const cJSON *item, char storage[32])
{
    if (cJSON_IsNumber(item)) {
        (void) snprintf(storage, 32, "%.15g", item->valuedouble);
        return storage;
    }
    if (cJSON_IsBool(item)) {
        return cJSON_IsTrue(item) ? "true" : "false";
    }
    return cJSON_GetStringValue(item);
}

cJSON *
mayday_fingerprint_complete(mayday_event_t *event, cJSON *value)
{
    cJSON *complete, *entry;
    int count = 0;

    if (!cJSON_IsArray(value) || (complete = cJSON_CreateArray()) == NULL) {
        return NULL;
    }
    cJSON_ArrayForEach(entry, value)
    {
        if (count++ == RULE_ENTRIES_MAX) {
            break;
        }
        char storage[32];
        const char *text = scalar_text(entry, storage);
        if (text == NULL) {
            continue;
        }
        if (mayday_slice_eq(variable_name(mayday_slice_str(text)), MAYDAY_SLICE("default"))) {
            add_default(event, complete);
        } else {
            cJSON_AddItemToArray(
                complete, mayday_json_text(mayday_slice_str(text), RULE_ENTRY_CHARS_MAX, 0, NULL));
        }
    }
    return cJSON_GetArraySize(complete) > 0 ? complete : NULL;
}

static cJSON *
main_exception(mayday_event_t *event)
{
    cJSON *values =
        cJSON_GetObjectItemCaseSensitive(mayday_event_part(event, MAYDAY_PART_EXCEPTION), "values");
    int size = cJSON_GetArraySize(values);

    return size > 0 ? cJSON_GetArrayItem(values, size - 1) : NULL;
}

static const char *
exception_text(mayday_event_t *event, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(main_exception(event), key));
}

/* Of the frame that Sentry would take: the innermost that is in_app, else the innermost. */
static const char *
frame_text(mayday_event_t *event, const char *key)
{
    const cJSON *stack = cJSON_GetObjectItemCaseSensitive(main_exception(event), "stacktrace");
    const cJSON *frame, *best = NULL;
    bool best_is_ours = false;

    cJSON_ArrayForEach(frame, cJSON_GetObjectItemCaseSensitive(stack, "frames"))
    {
        bool ours = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(frame, "in_app"));
        if (ours || !best_is_ours) {
            best = frame;
            best_is_ours = ours;
        }
    }
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(best, key));
}

static const char *
message_text(mayday_event_t *event)
{
    cJSON *message = mayday_event_part(event, MAYDAY_PART_MESSAGE);
    const char *text = cJSON_GetStringValue(message);

    if (text == NULL) {
        text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "formatted"));
    }
    return text != NULL ? text : exception_text(event, "value");
}

static const char *
part_text(mayday_event_t *event, mayday_part_t part)
{
    return cJSON_GetStringValue(mayday_event_part(event, part));
}

/* The tag that the variable tags.NAME names. */
static const char *
tag_value(mayday_event_t *event, mayday_slice_t name, char *storage, size_t size)
{
    const cJSON *tags = mayday_event_part(event, MAYDAY_PART_TAGS);
    const char *value;

    (void) snprintf(storage, size, "%.*s", (int) name.len, name.data);
    value = scalar_text(cJSON_GetObjectItemCaseSensitive(tags, storage), storage);
    if (value == NULL) {
        (void) snprintf(storage, size, "<no-value-for-tag-%.*s>", (int) name.len, name.data);
        value = storage;
    }
    return value;
}

/*
 * What Sentry puts in the place of a variable (its documentation, "Fingerprint
 * Rules"). Frames are there only where a rule has set some. NULL: no variable of
 * Sentry's; the entry counts as it stands.
 */
static const char *
variable_value(mayday_event_t *event, mayday_slice_t name, char *storage, size_t size)
{
    static const struct {
        const char *name;
        enum { PART, EXCEPTION, FRAME, MESSAGE } where;
        mayday_part_t part;
        const char *key;
    } variables[] = {
        {"transaction", PART, MAYDAY_PART_TRANSACTION, NULL},
        {"level", PART, MAYDAY_PART_LEVEL, NULL},
        {"logger", PART, MAYDAY_PART_LOGGER, NULL},
        {"type", EXCEPTION, 0, "type"},
        {"error.type", EXCEPTION, 0, "type"},
        {"value", EXCEPTION, 0, "value"},
        {"error.value", EXCEPTION, 0, "value"},
        {"message", MESSAGE, 0, NULL},
        {"function", FRAME, 0, "function"},
        {"stack.function", FRAME, 0, "function"},
        {"module", FRAME, 0, "module"},
        {"stack.module", FRAME, 0, "module"},
        {"package", FRAME, 0, "package"},
        {"stack.package", FRAME, 0, "package"},
        {"path", FRAME, 0, "abs_path"},
        {"stack.abs_path", FRAME, 0, "abs_path"},
    };
    const mayday_slice_t tags = MAYDAY_SLICE("tags.");
    const char *value = NULL;
    size_t i;

    if (mayday_slice_starts(name, tags)) {
        return tag_value(event, mayday_slice(name.data + tags.len, name.len - tags.len), storage,
                         size);
    }
    for (i = 0; i < MAYDAY_COUNT(variables); i++) {
        if (mayday_slice_eq(name, mayday_slice_str(variables[i].name))) {
            break;
        }
    }
    if (i == MAYDAY_COUNT(variables)) {
        return NULL;
    }
    switch (variables[i].where) {
    case PART:
        value = part_text(event, variables[i].part);
        break;
    case EXCEPTION:
        value = exception_text(event, variables[i].key);
        break;
    case FRAME:
        value = frame_text(event, variables[i].key);
        break;
    case MESSAGE:
        value = message_text(event);
        break;
    }
    if (value == NULL) {
        (void) snprintf(storage, size, "<no-%.*s>", (int) name.len, name.data);
        value = storage;
    }
    return value;
}

void
mayday_event_issue(mayday_event_t *event, uint8_t hash[MAYDAY_HASH_BYTES])
{
    memset(hash, 0, MAYDAY_HASH_BYTES);
    if ((event->replaced >> MAYDAY_PART_FINGERPRINT & 1) == 0) {
        default_t d;
        default_entries(event, &d);
        for (size_t i = 0; i < d.count; i++) {
            hash_entry(hash, d.entries[i]);
        }
        return;
    }
    cJSON *entry;
    cJSON_ArrayForEach(entry, event->parts[MAYDAY_PART_FINGERPRINT])
    {
        char storage[256];
        mayday_slice_t text = mayday_slice_str(cJSON_GetStringValue(entry));
        mayday_slice_t name = variable_name(text);
        const char *value =
            name.len > 0 ? variable_value(event, name, storage, sizeof(storage)) : NULL;
        hash_entry(hash, value != NULL ? mayday_slice_str(value) : text);
    }
}

void
mayday_event_title(mayday_event_t *event, mayday_buf_t *title)
{
    const char *type = exception_text(event, "type");
    const char *value = exception_text(event, "value");

    mayday_buf_adds(title, type != NULL ? type : "Error");
    if (value != NULL) {
        mayday_buf_adds(title, ": ");
        mayday_buf_adds(title, value);
    }
}
