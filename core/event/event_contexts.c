/*
 * The contexts of an event: trace, response, runtime, os, tls, and "mayday" with
 * what only the web server knows: upstream, attempts and their times, the
 * server's own log lines.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include <stdio.h>
#include <sys/utsname.h>

#include "core/event/event_build.h"

enum {
    /* Sentry takes 8 KiB of contexts in all; the breadcrumbs hold the rest. */
    ATTEMPTS_MAX = 12,
    LINES_MAX = 4,
    LINE_CHARS_MAX = 1024,
    HEADER_VALUE_MAX = 512
};

static struct utsname os; /* written once, by mayday_contexts_setup */

void
mayday_contexts_setup(void)
{
    if (uname(&os) != 0) {
        memset(&os, 0, sizeof(os));
    }
}

static const char *
trace_status(const mayday_record_view_t *view)
{
    unsigned status = (unsigned) mayday_view_u64(view, STATUS);

    switch (status) {
    case 0:
        return "unknown";
    case 400:
        return "invalid_argument";
    case 401:
        return "unauthenticated";
    case 403:
        return "permission_denied";
    case 404:
        return "not_found";
    case 409:
        return "already_exists";
    case 429:
        return "resource_exhausted";
    case 499:
        return "cancelled";
    case 501:
        return "unimplemented";
    case 503:
        return "unavailable";
    case 504:
        return "deadline_exceeded";
    default:
        break;
    }
    if (mayday_view_u64(view, KIND) == MAYDAY_KIND_UPSTREAM_TRUNCATED) {
        return "data_loss";
    }
    return status < 400 ? "ok" : status < 500 ? "invalid_argument" : "internal_error";
}

/* An id of exactly size bytes. */
static void
add_id(cJSON *object, const char *key, mayday_slice_t id, size_t size)
{
    char hex[2 * MAYDAY_FIELD_MAX_TRACE_ID + 1];

    if (id.len == size) {
        mayday_hex(hex, (const uint8_t *) id.data, id.len);
        mayday_json_add(object, key, cJSON_CreateString(hex));
    }
}

static cJSON *
build_trace(const mayday_record_view_t *view)
{
    cJSON *trace = cJSON_CreateObject();

    add_id(trace, "trace_id", mayday_view_text(view, TRACE_ID), MAYDAY_FIELD_MAX_TRACE_ID);
    add_id(trace, "span_id", mayday_view_text(view, SPAN_ID), MAYDAY_FIELD_MAX_SPAN_ID);
    add_id(trace, "parent_span_id", mayday_view_text(view, PARENT_SPAN_ID),
           MAYDAY_FIELD_MAX_PARENT_SPAN_ID);
    mayday_json_add_constant(trace, "op", "http.server");
    mayday_json_add_constant(trace, "status", trace_status(view));
    mayday_json_add_constant(trace, "origin", "auto.http.mayday");
    return trace;
}

static cJSON *
build_response(const mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    cJSON *response = cJSON_CreateObject();
    size_t i;

    mayday_json_add_number(response, "status_code", (double) mayday_view_u64(view, STATUS));
    if (mayday_view_has(view, RESPONSE_BODY_BYTES)) {
        mayday_json_add_number(response, "body_size",
                               (double) mayday_view_u64(view, RESPONSE_BODY_BYTES));
    }
    if (view->response_header_count > 0 && !event->degraded) {
        cJSON *headers = cJSON_CreateArray();
        for (i = 0; i < view->response_header_count; i++) {
            const mayday_pair_t *header = &view->response_headers[i];
            cJSON_AddItemToArray(
                headers,
                mayday_json_pair(mayday_json_text(header->name, MAYDAY_TEXT_SHORT_MAX, 0, NULL),
                                 mayday_json_text(header->value, HEADER_VALUE_MAX, 0, NULL)));
        }
        mayday_json_add(response, "headers", headers);
    }
    return response;
}

static cJSON *
build_runtime(const mayday_settings_t *settings)
{
    cJSON *runtime = cJSON_CreateObject();
    const char *slash = strchr(settings->server_version, '/');

    mayday_json_add_text(runtime, "name", mayday_slice_str(settings->server),
                         MAYDAY_TEXT_SHORT_MAX);
    mayday_json_add_text(runtime, "version",
                         mayday_slice_str(slash != NULL ? slash + 1 : settings->server_version),
                         MAYDAY_TEXT_SHORT_MAX);
    return runtime;
}

static cJSON *
build_os(void)
{
    cJSON *item = cJSON_CreateObject();

    mayday_json_add_constant(item, "name", os.sysname);
    mayday_json_add_constant(item, "kernel_version", os.release);
    return item;
}

static void
add_ms(cJSON *object, const char *key, int32_t ms)
{
    if (ms >= 0) {
        mayday_json_add_number(object, key, ms);
    }
}

static cJSON *
build_attempt(const mayday_attempt_view_t *attempt)
{
    cJSON *item = cJSON_CreateObject();

    mayday_json_add_text(item, "peer", attempt->peer, MAYDAY_TEXT_SHORT_MAX);
    if (mayday_attempt_answered(attempt)) {
        mayday_json_add_number(item, "status_code", attempt->timing.status);
    }
    add_ms(item, "connect_ms", attempt->timing.connect_ms);
    add_ms(item, "header_ms", attempt->timing.header_ms);
    add_ms(item, "response_ms", attempt->timing.response_ms);
    if (attempt->timing.bytes_received > 0) {
        mayday_json_add_number(item, "bytes_received", (double) attempt->timing.bytes_received);
    }
    return item;
}

static void
add_attempts(const mayday_record_view_t *view, cJSON *mayday)
{
    cJSON *attempts;
    size_t i;

    if (view->attempt_count == 0) {
        return;
    }
    attempts = cJSON_CreateArray();
    for (i = 0; i < view->attempt_count && i < ATTEMPTS_MAX; i++) {
        cJSON_AddItemToArray(attempts, build_attempt(&view->attempts[i]));
    }
    mayday_json_add(mayday, "attempts", attempts);
    if (view->attempt_count > ATTEMPTS_MAX) {
        mayday_json_add_number(mayday, "attempts_total", (double) view->attempt_count);
    }
}

static void
add_log_lines(const mayday_record_view_t *view, cJSON *mayday)
{
    cJSON *lines;
    size_t i;

    if (view->log_line_count == 0) {
        return;
    }
    lines = cJSON_CreateArray();
    for (i = 0; i < view->log_line_count && i < LINES_MAX; i++) {
        cJSON_AddItemToArray(lines, mayday_json_scrubbed(view->log_lines[i].text, LINE_CHARS_MAX));
    }
    mayday_json_add(mayday, "log_lines", lines);
    if (view->log_line_count > LINES_MAX) {
        mayday_json_add_number(mayday, "log_lines_total", (double) view->log_line_count);
    }
}

static void
add_u64(const mayday_record_view_t *view, cJSON *object, const char *key, mayday_field_t field)
{
    if ((view->present >> field & 1) != 0) {
        mayday_json_add_number(object, key, (double) view->u64[field]);
    }
}

static cJSON *
build_mayday(const mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    uint64_t duration_ms = mayday_view_u64(view, DURATION_US) / 1000;
    cJSON *mayday = cJSON_CreateObject();

    mayday_json_add_constant(mayday, "kind", mayday_kind_info(view)->name);
    mayday_json_add_text(mayday, "upstream", mayday_view_upstream(view), MAYDAY_SERVER_NAME_MAX);
    if (mayday_view_has(view, DURATION_US)) {
        mayday_json_add_number(mayday, "duration_ms", (double) duration_ms);
    }
    if (event->suppressed > 0) {
        mayday_json_add_number(mayday, "suppressed", (double) event->suppressed);
    }
    add_attempts(view, mayday);
    if (event->degraded) {
        mayday_json_add(mayday, "degraded", cJSON_CreateTrue());
        return mayday;
    }
    mayday_json_add_text(mayday, "location", mayday_view_text(view, LOCATION),
                         MAYDAY_SERVER_NAME_MAX);
    mayday_json_add_text(mayday, "virtual_host", mayday_view_text(view, VIRTUAL_HOST),
                         MAYDAY_SERVER_NAME_MAX);
    mayday_json_add_text(mayday, "protocol", mayday_view_text(view, PROTOCOL), 32);
    add_u64(view, mayday, "request_bytes", MAYDAY_FIELD_REQUEST_BYTES);
    add_u64(view, mayday, "request_body_bytes", MAYDAY_FIELD_REQUEST_BODY_BYTES);
    add_u64(view, mayday, "response_bytes", MAYDAY_FIELD_RESPONSE_BYTES);
    add_u64(view, mayday, "connection", MAYDAY_FIELD_CONNECTION);
    add_u64(view, mayday, "connection_requests", MAYDAY_FIELD_CONNECTION_REQUESTS);
    add_log_lines(view, mayday);
    if (view->truncated) {
        mayday_json_add(mayday, "truncated", cJSON_CreateTrue());
    }
    return mayday;
}

cJSON *
mayday_build_contexts(mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    cJSON *contexts = cJSON_CreateObject();

    if (mayday_view_text(view, TRACE_ID).len == MAYDAY_FIELD_MAX_TRACE_ID &&
        mayday_view_text(view, SPAN_ID).len == MAYDAY_FIELD_MAX_SPAN_ID) {
        mayday_json_add(contexts, "trace", build_trace(view));
    }
    mayday_json_add(contexts, "response", build_response(event));
    mayday_json_add(contexts, "runtime", build_runtime(event->settings));
    if (os.sysname[0] != '\0') {
        mayday_json_add(contexts, "os", build_os());
    }
    mayday_json_add(contexts, "mayday", build_mayday(event));
    if (mayday_view_text(view, TLS_PROTOCOL).len > 0 && !event->degraded) {
        cJSON *tls = cJSON_CreateObject();
        mayday_json_add_text(tls, "protocol", mayday_view_text(view, TLS_PROTOCOL), 32);
        mayday_json_add_text(tls, "cipher", mayday_view_text(view, TLS_CIPHER), 64);
        mayday_json_add(contexts, "tls", tls);
    }
    return contexts;
}

void
mayday_contexts_suppressed(mayday_event_t *event)
{
    cJSON *mayday;

    if (event->suppressed == 0 || (event->built >> MAYDAY_PART_CONTEXTS & 1) == 0) {
        return;
    }
    mayday = cJSON_GetObjectItemCaseSensitive(event->parts[MAYDAY_PART_CONTEXTS], "mayday");
    if (cJSON_IsObject(mayday)) {
        cJSON_DeleteItemFromObjectCaseSensitive(mayday, "suppressed");
        mayday_json_add_number(mayday, "suppressed", (double) event->suppressed);
    }
}
