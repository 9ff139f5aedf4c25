/*
 * The way back from JSON: an event as it was stored or sent, for whoever wants to
 * run rules over it once more. Its parts are taken as they stand there; of the
 * record only what rules can ask for (the hint, what groups by default) is made
 * up again, as far as the event tells. What building, scrubbing and earlier rules
 * took away stays away.
 *
 * Runs in the command; everything lives as long as the JSON. The JSON may come
 * from anywhere: wrong types count as absent, lengths and numbers are bounded as
 * those of a record are.
 */
#include <stdlib.h>

#include "core/event/event_build.h"
#include "core/event/json.h"

/* Of a text beyond a field's limit the record would have the beginning only. */
static void
set_text(mayday_record_view_t *view, mayday_field_t field, mayday_slice_t text, size_t max)
{
    if (text.len > 0) {
        view->text[field] = mayday_slice(text.data, text.len < max ? text.len : max);
        view->present |= (uint64_t) 1 << field;
    }
}

#define SET_TEXT(view, ID, string)                                                                 \
    set_text((view), MAYDAY_FIELD_##ID, mayday_slice_str(string), MAYDAY_FIELD_MAX_##ID)

static void
set_u64(mayday_record_view_t *view, mayday_field_t field, uint64_t number)
{
    view->u64[field] = number;
    view->present |= (uint64_t) 1 << field;
}

static const cJSON *
get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* A number of milliseconds; -1: it is not known. */
static int32_t
get_ms(const cJSON *object, const char *key)
{
    const cJSON *item = get(object, key);

    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < INT32_MAX
               ? (int32_t) item->valuedouble
               : -1;
}

static unsigned
status_of(const cJSON *contexts, const cJSON *tags)
{
    const char *tag = mayday_json_string(tags, "http.status_code");
    double status = mayday_json_number(get(contexts, "response"), "status_code");

    if (status == 0) {
        status = strtod(tag, NULL);
    }
    return status > 0 && status < 1000 ? (unsigned) status : 0;
}

/* MAYDAY_KIND_MAX, "unknown" to rules, where the event is not Mayday's or of a newer one. */
static mayday_kind_t
kind_of(const cJSON *mayday, const cJSON *tags)
{
    const char *name = mayday_json_string(mayday, "kind");
    unsigned kind = 0;

    if (name[0] == '\0') {
        name = mayday_json_string(tags, "mayday.kind");
    }
    while (kind < MAYDAY_KIND_MAX && strcmp(mayday_kind_name((mayday_kind_t) kind), name) != 0) {
        kind++;
    }
    return (mayday_kind_t) kind;
}

/* "http://host/path" without the query that a URL from elsewhere may have. */
static mayday_slice_t
path_of(const char *url)
{
    const char *host = strstr(url, "://"), *path;

    host = host == NULL ? url : host + 3;
    path = strchr(host, '/');
    return path == NULL ? mayday_slice(NULL, 0) : mayday_slice(path, strcspn(path, "?#"));
}

static void
read_request(mayday_record_view_t *view, const cJSON *request)
{
    SET_TEXT(view, METHOD, mayday_json_string(request, "method"));
    set_text(view, MAYDAY_FIELD_PATH, path_of(mayday_json_string(request, "url")),
             MAYDAY_FIELD_MAX_PATH);
    SET_TEXT(view, CLIENT_ADDRESS, mayday_json_string(get(request, "env"), "REMOTE_ADDR"));
}

static void
read_attempts(mayday_record_view_t *view, const cJSON *attempts)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, attempts)
    {
        mayday_attempt_view_t *attempt = &view->attempts[view->attempt_count];
        double status = mayday_json_number(item, "status_code");

        if (!cJSON_IsObject(item) || view->attempt_count == MAYDAY_VIEW_ATTEMPTS_MAX) {
            continue;
        }
        attempt->peer = mayday_slice_str(mayday_json_string(item, "peer"));
        attempt->timing.status = status > 0 && status < 1000 ? (int32_t) status : 0;
        attempt->timing.connect_ms = get_ms(item, "connect_ms");
        attempt->timing.header_ms = get_ms(item, "header_ms");
        attempt->timing.response_ms = get_ms(item, "response_ms");
        attempt->timing.bytes_received = (int64_t) mayday_json_us(item, "bytes_received");
        view->attempt_count++;
    }
}

static void
add_line(mayday_record_view_t *view, const char *text, uint32_t level, uint64_t time_us)
{
    if (text != NULL && view->log_line_count < MAYDAY_VIEW_LOG_LINES_MAX) {
        mayday_log_line_view_t *line = &view->log_lines[view->log_line_count++];

        line->info.level = level;
        line->info.time_us = time_us;
        line->text = mayday_slice_str(text);
    }
}

/* A breadcrumb's level for that of the log, of several the most usual. */
static uint32_t
line_level(const char *level)
{
    static const struct {
        const char *name;
        uint32_t level;
    } levels[] = {{"fatal", 2}, {"error", 3}, {"warning", 4}, {"info", 6}};

    for (size_t i = 0; i < MAYDAY_COUNT(levels); i++) {
        if (strcmp(level, levels[i].name) == 0) {
            return levels[i].level;
        }
    }
    return 7;
}

/* All lines are breadcrumbs; the context has the first ones, for events without breadcrumbs. */
static void
read_lines(mayday_record_view_t *view, const cJSON *breadcrumbs, const cJSON *mayday)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, get(breadcrumbs, "values"))
    {
        const char *category = mayday_json_string(item, "category");

        if (strcmp(category, "nginx.error_log") == 0 || strcmp(category, "httpd.error_log") == 0) {
            add_line(view, cJSON_GetStringValue(get(item, "message")),
                     line_level(mayday_json_string(item, "level")),
                     mayday_json_time_us(get(item, "timestamp")));
        }
    }
    if (view->log_line_count == 0) {
        cJSON_ArrayForEach(item, get(mayday, "log_lines"))
        {
            add_line(view, cJSON_GetStringValue(item), 3, 0);
        }
    }
}

static void
read_view(mayday_record_view_t *view, const cJSON *json)
{
    const cJSON *contexts = get(json, "contexts"), *mayday = get(contexts, "mayday");
    const cJSON *tags = get(json, "tags");
    double duration_ms = mayday_json_number(mayday, "duration_ms");
    uint8_t *id = cJSON_malloc(MAYDAY_FIELD_MAX_EVENT_ID);

    memset(view, 0, sizeof(*view));
    if (id != NULL &&
        mayday_unhex(id, MAYDAY_FIELD_MAX_EVENT_ID,
                     mayday_slice_str(mayday_json_string(json, "event_id"))) == MAYDAY_OK) {
        set_text(view, MAYDAY_FIELD_EVENT_ID, mayday_slice(id, MAYDAY_FIELD_MAX_EVENT_ID),
                 MAYDAY_FIELD_MAX_EVENT_ID);
    }
    set_u64(view, MAYDAY_FIELD_TIME_US, mayday_json_time_us(get(json, "timestamp")));
    set_u64(view, MAYDAY_FIELD_KIND, kind_of(mayday, tags));
    set_u64(view, MAYDAY_FIELD_STATUS, status_of(contexts, tags));
    if (duration_ms > 0 && duration_ms < 1e12) {
        set_u64(view, MAYDAY_FIELD_DURATION_US, (uint64_t) (duration_ms * 1000));
    }
    SET_TEXT(view, UPSTREAM, mayday_json_string(mayday, "upstream"));
    SET_TEXT(view, LOCATION, mayday_json_string(mayday, "location"));
    read_request(view, get(json, "request"));
    read_attempts(view, get(mayday, "attempts"));
    read_lines(view, get(json, "breadcrumbs"), mayday);
}

mayday_rc_t
mayday_event_from_json(mayday_event_t *event, mayday_record_view_t *view,
                       const mayday_settings_t *settings, cJSON *json)
{
    mayday_part_t part;
    bool any = false;

    if (!cJSON_IsObject(json)) {
        return MAYDAY_INVALID;
    }
    mayday_event_init(event, view, settings);
    read_view(view, json);
    event->suppressed = mayday_json_us(get(get(json, "contexts"), "mayday"), "suppressed");
    for (part = 0; part < MAYDAY_PART_MAX; part++) {
        cJSON *value = cJSON_DetachItemFromObjectCaseSensitive(json, mayday_event_part_key(part));

        event->parts[part] = cJSON_IsNull(value) ? NULL : value;
        event->built |= (uint32_t) 1 << part;
        any = any || event->parts[part] != NULL;
    }
    return any ? MAYDAY_OK : MAYDAY_INVALID;
}
