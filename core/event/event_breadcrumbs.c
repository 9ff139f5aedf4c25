/*
 * The breadcrumbs of an event: the attempts at peers and the server's log lines,
 * in order of time.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include "core/event/envelope.h"
#include "core/event/event_build.h"

typedef struct {
    uint64_t time_us;
    const mayday_attempt_view_t *attempt; /* or */
    const mayday_log_line_view_t *line;
} crumb_t;

enum { CRUMBS_MAX = MAYDAY_VIEW_ATTEMPTS_MAX + MAYDAY_VIEW_LOG_LINES_MAX };

/* Crumbs come nearly sorted; those of one time keep their order. */
static void
insert(crumb_t *crumbs, size_t *count, crumb_t crumb)
{
    size_t at = (*count)++;

    while (at > 0 && crumbs[at - 1].time_us > crumb.time_us) {
        crumbs[at] = crumbs[at - 1];
        at--;
    }
    crumbs[at] = crumb;
}

/*
 * The record has no time of an attempt's end, only how long each took. One
 * follows the other, so each ended as long before the request's end as the later
 * ones took; where a server does not tell, that is at the end.
 */
static void
insert_attempts(const mayday_record_view_t *view, crumb_t *crumbs, size_t *count)
{
    uint64_t end_us = mayday_view_u64(view, TIME_US);
    crumb_t attempts[MAYDAY_VIEW_ATTEMPTS_MAX];
    size_t i;

    for (i = view->attempt_count; i > 0; i--) {
        const mayday_attempt_view_t *attempt = &view->attempts[i - 1];
        uint64_t took_us =
            attempt->timing.response_ms > 0 ? (uint64_t) attempt->timing.response_ms * 1000 : 0;
        attempts[i - 1] = (crumb_t){end_us, attempt, NULL};
        end_us = end_us > took_us ? end_us - took_us : 0;
    }
    for (i = 0; i < view->attempt_count; i++) {
        insert(crumbs, count, attempts[i]);
    }
}

static cJSON *
crumb_new(uint64_t time_us, const char *type, const char *level)
{
    cJSON *crumb = cJSON_CreateObject();
    char time[28];

    mayday_time_rfc3339(time, sizeof(time), time_us);
    mayday_json_add(crumb, "timestamp", cJSON_CreateString(time));
    mayday_json_add_constant(crumb, "type", type);
    mayday_json_add_constant(crumb, "level", level);
    return crumb;
}

/* A status that the peer did not answer, such as nginx's own 502, is not there. */
static cJSON *
build_attempt(const mayday_record_view_t *view, const crumb_t *from)
{
    const mayday_record_attempt_t *timing = &from->attempt->timing;
    bool answered = mayday_attempt_answered(from->attempt);
    bool well = answered && timing->status < 500;
    cJSON *crumb = crumb_new(from->time_us, "http", well ? "info" : "error");
    cJSON *data = cJSON_CreateObject();
    char storage[MAYDAY_FIELD_MAX_ATTEMPT + 64];
    mayday_buf_t message;

    mayday_json_add_constant(crumb, "category", "upstream");
    mayday_buf_init(&message, storage, sizeof(storage));
    mayday_buf_add(&message, from->attempt->peer);
    if (answered) {
        mayday_buf_addf(&message, " answered %d", (int) timing->status);
    } else {
        mayday_buf_adds(&message, " did not answer");
    }
    mayday_json_add(crumb, "message",
                    mayday_json_text(mayday_buf_slice(&message), MAYDAY_MESSAGE_MAX, 0, NULL));
    mayday_json_add_text(data, "peer", from->attempt->peer, MAYDAY_TEXT_SHORT_MAX);
    mayday_json_add_text(data, "method", mayday_view_method(view), 32);
    if (answered) {
        mayday_json_add_number(data, "status_code", timing->status);
    }
    if (timing->response_ms >= 0) {
        mayday_json_add_number(data, "response_ms", timing->response_ms);
    }
    mayday_json_add(crumb, "data", data);
    return crumb;
}

static cJSON *
build_line(const mayday_event_t *event, const crumb_t *from)
{
    static const char *const levels[] = {"fatal",   "fatal", "fatal", "error",
                                         "warning", "info",  "info",  "debug"};
    uint32_t level = from->line->info.level < 7 ? from->line->info.level : 7;
    bool httpd = strcmp(event->settings->server, "httpd") == 0;
    cJSON *crumb = crumb_new(from->time_us, level <= 3 ? "error" : "default", levels[level]);

    mayday_json_add_constant(crumb, "category", httpd ? "httpd.error_log" : "nginx.error_log");
    mayday_json_add(crumb, "message", mayday_json_scrubbed(from->line->text, MAYDAY_MESSAGE_MAX));
    return crumb;
}

cJSON *
mayday_build_breadcrumbs(mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    cJSON *breadcrumbs, *values;
    crumb_t crumbs[CRUMBS_MAX];
    size_t count = 0, i;

    for (i = 0; i < view->log_line_count && !event->degraded; i++) {
        const mayday_log_line_view_t *line = &view->log_lines[i];
        uint64_t time_us =
            line->info.time_us > 0 ? line->info.time_us : mayday_view_u64(view, TIME_US);
        insert(crumbs, &count, (crumb_t){time_us, NULL, line});
    }
    insert_attempts(view, crumbs, &count);
    if (count == 0) {
        return NULL;
    }
    breadcrumbs = cJSON_CreateObject();
    values = cJSON_CreateArray();
    for (i = 0; i < count; i++) {
        cJSON_AddItemToArray(values, crumbs[i].attempt != NULL ? build_attempt(view, &crumbs[i])
                                                               : build_line(event, &crumbs[i]));
    }
    mayday_json_add(breadcrumbs, "values", values);
    return breadcrumbs;
}
