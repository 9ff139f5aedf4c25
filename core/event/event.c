/*
 * See event.h: the parts of an event, when they are built and how they are
 * written out.
 *
 * Runs in the agent's pipeline thread; takes memory from the event's arena.
 */
#include "core/event/event.h"

#include "core/event/event_build.h"

typedef cJSON *(*builder_pt)(mayday_event_t *event);

static const builder_pt builders[MAYDAY_PART_ALL] = {
#define MAYDAY_PART(id, key, builder) [MAYDAY_PART_##id] = mayday_build_##builder,
#include "core/event/event_parts.def"
#undef MAYDAY_PART
    [MAYDAY_PART_TRACE] = mayday_build_trace,
};

static const mayday_slice_t keys[MAYDAY_PART_ALL] = {
#define MAYDAY_PART(id, key, builder) [MAYDAY_PART_##id] = {key, sizeof(key) - 1},
#include "core/event/event_parts.def"
#undef MAYDAY_PART
    [MAYDAY_PART_TRACE] = {"trace", sizeof("trace") - 1},
};

_Static_assert(MAYDAY_PART_ALL <= 32, "a set of parts is a 32-bit mask");

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
        for (size_t i = 0; i < event->filter_count; i++) {
            const mayday_event_filter_t *filter = &event->filters[i];

            if ((filter->parts & BIT(part)) != 0) {
                filter->run(filter->ctx, event, part);
            }
        }
    }
    return event->parts[part];
}

void
mayday_event_defer(mayday_event_t *event, mayday_event_filter_pt filter, const void *ctx,
                   uint32_t parts)
{
    bool full = event->filter_count == MAYDAY_EVENT_FILTERS_MAX;
    mayday_part_t part;

    parts &= ~(BIT(MAYDAY_PART_EVENT_ID) | BIT(MAYDAY_PART_META));
    for (part = 0; part < MAYDAY_PART_ALL; part++) {
        if ((parts & BIT(part)) != 0 && (full || (event->built & BIT(part)) != 0)) {
            (void) mayday_event_part(event, part);
            filter(ctx, event, part);
        }
    }
    if (!full) {
        event->filters[event->filter_count++] = (mayday_event_filter_t){filter, ctx, parts};
    }
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
    mayday_slice_t route = event->route;
    bool route_is_template = event->route_is_template;

    mayday_event_init(event, event->view, event->settings);
    event->suppressed = suppressed;
    event->route = route;
    event->route_is_template = route_is_template;
    event->rule_error = error;
    event->degraded = true;
}

mayday_slice_t
mayday_event_serialise(mayday_event_t *event)
{
    mayday_json_out_t out = {0};
    mayday_part_t part;

    mayday_contexts_suppressed(event);
    event->built &= ~BIT(MAYDAY_PART_META); /* other parts may have changed since */
    for (part = 0; part < MAYDAY_PART_MAX; part++) {
        cJSON *value = mayday_event_part(event, part);
        if (value != NULL) {
            mayday_json_out_add(&out, out.len == 0 ? "{\"" : ",\"", 2);
            mayday_json_out_add(&out, keys[part].data, keys[part].len);
            mayday_json_out_add(&out, "\":", 2);
            mayday_json_write(&out, value);
        }
    }
    mayday_json_out_add(&out, "}", 1);
    return mayday_json_out_end(&out);
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
