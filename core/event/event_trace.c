/*
 * The dynamic sampling context of an event (Sentry's SDK documentation, "Dynamic
 * Sampling Context"): the trace's own values as the one who began it set them.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include "core/event/event_build.h"

enum { MEMBERS_MAX = 16, MEMBER_VALUE_MAX = 256 };

/* The values, as the caller's baggage or we have them, under the keys without "sentry-". */
static cJSON *
read_baggage(mayday_slice_t baggage)
{
    const mayday_slice_t prefix = MAYDAY_SLICE("sentry-");
    char storage[MAYDAY_FIELD_MAX_BAGGAGE];
    cJSON *members = cJSON_CreateObject();
    size_t begin = 0, count = 0, i;

    for (i = 0; i <= baggage.len && count < MEMBERS_MAX; i++) {
        if (i < baggage.len && baggage.data[i] != ',') {
            continue;
        }
        mayday_slice_t member = mayday_slice(baggage.data + begin, i - begin);
        begin = i + 1;
        while (member.len > 0 && member.data[0] == ' ') {
            member = mayday_slice(member.data + 1, member.len - 1);
        }
        const char *equals = member.len > 0 ? memchr(member.data, '=', member.len) : NULL;
        if (equals == NULL || member.len > sizeof(storage) ||
            !mayday_slice_starts(member, prefix)) {
            continue;
        }
        mayday_slice_t value =
            mayday_slice(equals + 1, member.len - (size_t) (equals + 1 - member.data));
        const char *properties = value.len > 0 ? memchr(value.data, ';', value.len) : NULL;
        if (properties != NULL) {
            value.len = (size_t) (properties - value.data);
        }
        char key[32];
        size_t key_len = (size_t) (equals - member.data) - prefix.len;
        if (key_len == 0 || key_len >= sizeof(key) ||
            !mayday_utf8_is_plain(mayday_slice(member.data, prefix.len + key_len))) {
            continue;
        }
        memcpy(key, member.data + prefix.len, key_len);
        key[key_len] = '\0';
        if (cJSON_GetObjectItemCaseSensitive(members, key) == NULL) {
            value = mayday_percent_decode(storage, value, false);
            cJSON_AddItemToObject(members, key, mayday_json_text(value, MEMBER_VALUE_MAX, 0, NULL));
            count++;
        }
    }
    return members;
}

static void
add_part(cJSON *context, mayday_event_t *event, const char *key, mayday_part_t part)
{
    mayday_json_add_text(context, key, mayday_event_part_text(event, part), MAYDAY_TEXT_SHORT_MAX);
}

static cJSON *
own_context(mayday_event_t *event, const char *trace_id)
{
    cJSON *context = cJSON_CreateObject();

    mayday_json_add(context, "trace_id", cJSON_CreateString(trace_id));
    add_part(context, event, "environment", MAYDAY_PART_ENVIRONMENT);
    add_part(context, event, "release", MAYDAY_PART_RELEASE);
    add_part(context, event, "transaction", MAYDAY_PART_TRANSACTION);
    if (mayday_view_has(event->view, SAMPLED)) {
        mayday_json_add_constant(context, "sampled",
                                 mayday_view_u64(event->view, SAMPLED) != 0 ? "true" : "false");
    }
    return context;
}

cJSON *
mayday_build_trace(mayday_event_t *event)
{
    mayday_slice_t id = mayday_view_text(event->view, TRACE_ID);
    mayday_slice_t baggage = mayday_view_text(event->view, BAGGAGE);
    char trace_id[2 * MAYDAY_FIELD_MAX_TRACE_ID + 1];

    if (id.len != MAYDAY_FIELD_MAX_TRACE_ID) {
        return NULL;
    }
    mayday_hex(trace_id, (const uint8_t *) id.data, id.len);
    if (baggage.len > 0 && !event->degraded) {
        cJSON *context = read_baggage(baggage);
        const char *theirs =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(context, "trace_id"));

        if (theirs != NULL && strcmp(theirs, trace_id) == 0) {
            return context;
        }
        /* Baggage of another trace than sentry-trace's is of no use to anybody. */
    }
    return own_context(event, trace_id);
}

mayday_slice_t
mayday_event_trace(mayday_event_t *event)
{
    cJSON *context = mayday_event_part(event, MAYDAY_PART_TRACE);
    mayday_json_out_t out = {0};

    if (context == NULL) {
        return mayday_slice(NULL, 0);
    }
    mayday_json_write(&out, context);
    return mayday_json_out_end(&out);
}
