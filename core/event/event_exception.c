/*
 * The exception of an event, which is its title: who failed and what happened,
 * in one short sentence. "says" of kinds.def is the verb of that sentence.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include <errno.h>

#include "core/event/event_build.h"

enum { CAUSE_CHARS_MAX = 240, VALUE_CHARS_MAX = 480 };

static const struct {
    int number;
    const char *name;
} errno_names[] = {
    {ECONNREFUSED, "ECONNREFUSED"},
    {ETIMEDOUT, "ETIMEDOUT"},
    {ECONNRESET, "ECONNRESET"},
    {EHOSTUNREACH, "EHOSTUNREACH"},
    {ENETUNREACH, "ENETUNREACH"},
    {ENOENT, "ENOENT"},
    {EACCES, "EACCES"},
    {EPIPE, "EPIPE"},
    {ECONNABORTED, "ECONNABORTED"},
    {EMFILE, "EMFILE"},
    {ENFILE, "ENFILE"},
    {ENOMEM, "ENOMEM"},
    {ENOSPC, "ENOSPC"},
    {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
    {EPERM, "EPERM"},
    {EIO, "EIO"},
    {EHOSTDOWN, "EHOSTDOWN"},
    {ENETDOWN, "ENETDOWN"},
};

const char *
mayday_errno_name(uint64_t number)
{
    size_t i;

    for (i = 0; i < MAYDAY_COUNT(errno_names); i++) {
        if ((uint64_t) errno_names[i].number == number) {
            return errno_names[i].name;
        }
    }
    return NULL;
}

static void
add_upstream(const mayday_record_view_t *view, mayday_buf_t *value)
{
    mayday_slice_t upstream = mayday_view_upstream(view);

    mayday_buf_add(value, upstream.len > 0 ? upstream : MAYDAY_SLICE("upstream"));
}

static void
add_transaction(const mayday_event_t *event, mayday_buf_t *value)
{
    char route[MAYDAY_ROUTE_SIZE];
    mayday_slice_t method = mayday_view_method(event->view);

    if (method.len > 0) {
        mayday_buf_add(value, method);
        mayday_buf_addc(value, ' ');
    }
    mayday_buf_add(value, mayday_event_route(event, route));
}

static void
add_tries(const mayday_record_view_t *view, mayday_buf_t *value)
{
    size_t peers = mayday_view_peers(view);

    if (peers > 1) {
        mayday_buf_addf(value, " (%zu peers tried)", peers);
    } else if (view->attempt_count > 1) {
        mayday_buf_addf(value, " (tried %zu times)", view->attempt_count);
    }
}

/* The attempt that a retry hid: the first that the peer did not answer well. */
static const mayday_attempt_view_t *
hidden_attempt(const mayday_record_view_t *view)
{
    size_t i;

    for (i = 0; i < view->attempt_count; i++) {
        const mayday_attempt_view_t *attempt = &view->attempts[i];
        if (!mayday_attempt_answered(attempt) || attempt->timing.status >= 500) {
            return attempt;
        }
    }
    return view->attempt_count > 0 ? &view->attempts[0] : NULL;
}

static void
add_hidden(const mayday_record_view_t *view, mayday_buf_t *value)
{
    const mayday_attempt_view_t *attempt = hidden_attempt(view);
    uint64_t error = mayday_view_u64(view, ERRNO);

    add_upstream(view, value);
    if (attempt != NULL && attempt->peer.len > 0 &&
        !mayday_slice_eq(attempt->peer, mayday_view_upstream(view))) {
        mayday_buf_adds(value, ": ");
        mayday_buf_add(value, attempt->peer);
    }
    if (attempt != NULL && mayday_attempt_answered(attempt)) {
        mayday_buf_addf(value, " answered %d", (int) attempt->timing.status);
    } else if (error == ECONNREFUSED) {
        mayday_buf_adds(value, " refused the connection");
    } else if (error == ETIMEDOUT) {
        mayday_buf_adds(value, " timed out");
    } else if (error == ECONNRESET || error == EPIPE) {
        mayday_buf_adds(value, " broke the connection");
    } else if (error == EHOSTUNREACH || error == ENETUNREACH || error == ENOENT) {
        mayday_buf_adds(value, " could not be reached");
    } else {
        mayday_buf_adds(value, " failed");
    }
    mayday_buf_addf(value, "; after a retry the client got %u",
                    (unsigned) mayday_view_u64(view, STATUS));
}

static void
add_response(const mayday_record_view_t *view, mayday_buf_t *value)
{
    unsigned status = (unsigned) mayday_view_u64(view, STATUS);

    if (view->attempt_count > 0 &&
        mayday_attempt_answered(&view->attempts[view->attempt_count - 1])) {
        status = (unsigned) view->attempts[view->attempt_count - 1].timing.status;
    }
    add_upstream(view, value);
    mayday_buf_addf(value, " answered %u", status);
    add_tries(view, value);
}

/* The server's own words, where it had any, tell more than a status. */
static void
add_internal(const mayday_event_t *event, mayday_buf_t *value)
{
    const mayday_record_view_t *view = event->view;

    if (!event->degraded && view->log_line_count > 0 && view->log_lines[0].text.len > 0) {
        mayday_slice_t line = view->log_lines[0].text;
        char storage[MAYDAY_SCRUB_SIZE(CAUSE_CHARS_MAX) + 1];
        mayday_buf_t scrubbed;
        bool cut = line.len > CAUSE_CHARS_MAX;
        mayday_buf_init(&scrubbed, storage, sizeof(storage));
        (void) mayday_scrub_text(&scrubbed,
                                 mayday_slice(line.data, cut ? CAUSE_CHARS_MAX : line.len));
        mayday_buf_add(value, mayday_buf_slice(&scrubbed));
        mayday_buf_adds(value, cut ? MAYDAY_UTF8_ELLIPSIS : "");
        return;
    }
    mayday_buf_addf(value, "%u while serving ", (unsigned) mayday_view_u64(view, STATUS));
    add_transaction(event, value);
}

void
mayday_event_value(const mayday_event_t *event, mayday_buf_t *value)
{
    const mayday_record_view_t *view = event->view;
    const mayday_kind_info_t *kind = mayday_kind_info(view);

    switch ((mayday_kind_t) mayday_view_u64(view, KIND)) {
    case MAYDAY_KIND_UPSTREAM_RESPONSE:
        add_response(view, value);
        break;
    case MAYDAY_KIND_RETRIED:
        add_hidden(view, value);
        break;
    case MAYDAY_KIND_SERVER_INTERNAL:
        add_internal(event, value);
        break;
    case MAYDAY_KIND_LIMITED:
        add_transaction(event, value);
        mayday_buf_addf(value, " %s with %u", kind->says, (unsigned) mayday_view_u64(view, STATUS));
        break;
    case MAYDAY_KIND_CLIENT_CLOSED:
        if (mayday_view_upstream(view).len == 0) {
            add_transaction(event, value);
            mayday_buf_addf(value, " %s", kind->says);
            break;
        }
        /* fall through */
    default:
        add_upstream(view, value);
        mayday_buf_addf(value, " %s", kind->says);
        add_tries(view, value);
        break;
    }
}

static cJSON *
build_mechanism(const mayday_record_view_t *view)
{
    cJSON *mechanism = cJSON_CreateObject();
    uint64_t number = mayday_view_u64(view, ERRNO);

    mayday_json_add_constant(mechanism, "type", "auto.http.mayday");
    mayday_json_add(mechanism, "handled",
                    cJSON_CreateBool(mayday_view_u64(view, KIND) == MAYDAY_KIND_RETRIED));
    if (number > 0 && number < 4096) {
        cJSON *meta = cJSON_CreateObject(), *error = cJSON_CreateObject();
        mayday_json_add_number(error, "number", (double) number);
        if (mayday_errno_name(number) != NULL) {
            mayday_json_add_constant(error, "name", mayday_errno_name(number));
        }
        mayday_json_add(meta, "errno", error);
        mayday_json_add(mechanism, "meta", meta);
    }
    return mechanism;
}

cJSON *
mayday_build_exception(mayday_event_t *event)
{
    cJSON *exception = cJSON_CreateObject(), *values = cJSON_CreateArray(),
          *main_value = cJSON_CreateObject();
    char storage[MAYDAY_SCRUB_SIZE(VALUE_CHARS_MAX)];
    mayday_buf_t value;

    mayday_buf_init(&value, storage, sizeof(storage));
    mayday_event_value(event, &value);
    mayday_json_add_constant(main_value, "type", mayday_kind_info(event->view)->type);
    mayday_json_add(main_value, "value",
                    mayday_json_text(mayday_buf_slice(&value), VALUE_CHARS_MAX, 0, NULL));
    mayday_json_add(main_value, "mechanism", build_mechanism(event->view));
    cJSON_AddItemToArray(values, main_value);
    mayday_json_add(exception, "values", values);
    return exception;
}
