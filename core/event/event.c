/*
 * See event.h: the parts of an event, when they are built and how they are
 * written out.
 *
 * Runs in the agent's pipeline thread; takes memory from the event's arena.
 */
#include "core/event/event.h"

#include "core/event/event_build.h"

typedef cJSON *(*builder_pt)(mayday_event_t *event);

static const builder_pt builders[MAYDAY_PART_MAX] = {
#define MAYDAY_PART(id, key, builder) [MAYDAY_PART_##id] = mayday_build_##builder,
#include "core/event/event_parts.def"
#undef MAYDAY_PART
};

static const mayday_slice_t keys[MAYDAY_PART_MAX] = {
#define MAYDAY_PART(id, key, builder) [MAYDAY_PART_##id] = {key, sizeof(key) - 1},
#include "core/event/event_parts.def"
#undef MAYDAY_PART
};

_Static_assert(MAYDAY_PART_MAX <= 32, "a set of parts is a 32-bit mask");

#define BIT(part) ((uint32_t) 1 << (part))

void
mayday_event_setup(void)
{
    mayday_event_memory_setup();
    mayday_contexts_setup();
}

void
mayday_event_init(mayday_event_t *event, const mayday_record_view_t *view,
                  const mayday_settings_t *settings)
{
    *event = (mayday_event_t){.view = view, .settings = settings};
}

cJSON *
mayday_event_part(mayday_event_t *event, mayday_part_t part)
{
    if ((event->built & BIT(part)) == 0) {
        event->parts[part] = builders[part](event);
        event->built |= BIT(part);
    }
    return event->parts[part];
}

void
mayday_event_replace(mayday_event_t *event, mayday_part_t part, cJSON *value)
{
    if (part == MAYDAY_PART_EVENT_ID || part == MAYDAY_PART_META) {
        return;
    }
    if (part == MAYDAY_PART_FINGERPRINT) {
        value = mayday_fingerprint_complete(event, value);
        if (value == NULL) { /* the default, which needs no building */
            event->built &= ~BIT(part);
            event->replaced &= ~BIT(part);
            return;
        }
    }
    event->parts[part] = value;
    event->built |= BIT(part);
    event->replaced |= BIT(part);
    cJSON_DeleteItemFromObjectCaseSensitive(event->cuts, keys[part].data);
}

mayday_slice_t
mayday_event_part_text(mayday_event_t *event, mayday_part_t part)
{
    return mayday_slice_str(cJSON_GetStringValue(mayday_event_part(event, part)));
}

mayday_part_t
mayday_event_part_find(mayday_slice_t key)
{
    mayday_part_t part;

    for (part = 0; part < MAYDAY_PART_MAX; part++) {
        if (mayday_slice_eq(keys[part], key)) {
            break;
        }
    }
    return part;
}

const char *
mayday_event_part_key(mayday_part_t part)
{
    return keys[part].data;
}

void
mayday_event_degrade(mayday_event_t *event, const char *error)
{
    uint64_t suppressed = event->suppressed;

    mayday_event_init(event, event->view, event->settings);
    event->suppressed = suppressed;
    event->rule_error = error;
    event->degraded = true;
}

/* Room for more, in the arena; what is written so far is kept. */
static bool
grow(mayday_buf_t *out)
{
    size_t size = out->size * 2;
    char *data = cJSON_malloc(size);

    if (data == NULL) {
        return false;
    }
    memcpy(data, out->data, out->len);
    cJSON_free(out->data);
    out->data = data;
    out->size = size;
    return true;
}

static bool
write_part(mayday_buf_t *out, mayday_slice_t key, cJSON *value)
{
    for (;;) {
        size_t room = out->size - out->len;
        if (room > key.len + 8) {
            char *p = out->data + out->len;
            *p++ = out->len == 0 ? '{' : ',';
            *p++ = '"';
            memcpy(p, key.data, key.len);
            p += key.len;
            *p++ = '"';
            *p++ = ':';
            room -= (size_t) (p - (out->data + out->len));
            if (cJSON_PrintPreallocated(value, p, (int) room, false)) {
                out->len = (size_t) (p - out->data) + strlen(p);
                return true;
            }
        }
        if (!grow(out)) {
            return false;
        }
    }
}

mayday_slice_t
mayday_event_serialise(mayday_event_t *event)
{
    const size_t size_first = 8192;
    mayday_buf_t out = {cJSON_malloc(size_first), size_first, 0, false};
    mayday_part_t part;

    mayday_contexts_suppressed(event);
    event->built &= ~BIT(MAYDAY_PART_META); /* other parts may have changed since */
    for (part = 0; part < MAYDAY_PART_MAX && out.data != NULL; part++) {
        cJSON *value = mayday_event_part(event, part);
        if (value != NULL && !write_part(&out, keys[part], value)) {
            out.data = NULL;
        }
    }
    /* cJSON keeps a few bytes of room, so the last two fit. */
    if (out.data == NULL || out.len + 2 > out.size) {
        return mayday_slice(NULL, 0);
    }
    out.data[out.len++] = '}';
    out.data[out.len] = '\0';
    return mayday_slice(out.data, out.len);
}

void
mayday_event_id(const mayday_event_t *event, char out[33])
{
    const mayday_slice_t id = mayday_view_text(event->view, EVENT_ID);

    if (id.len == MAYDAY_FIELD_MAX_EVENT_ID) {
        mayday_hex(out, (const uint8_t *) id.data, id.len);
    } else {
        memset(out, '0', 32);
        out[32] = '\0';
    }
}
