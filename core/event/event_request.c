/*
 * The request of an event: what the client asked for, as lists of pairs, for a
 * name may come more than once. Sensitive values were replaced before the record
 * was written.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include <stdio.h>

#include "core/event/event_build.h"

/* One list of pairs on its way, and what Sentry lets it still take. */
typedef struct {
    mayday_event_t *event;
    const char *key; /* of the list in the request */
    cJSON *list;
    size_t bytes_left; /* names and values and their punctuation */
    size_t count;
    size_t seen; /* pairs offered */
} pairs_t;

static void
pairs_begin(pairs_t *pairs, mayday_event_t *event, const char *key, size_t bytes_max)
{
    *pairs = (pairs_t){event, key, cJSON_CreateArray(), bytes_max, 0, 0};
}

/* A name or value in at most bytes_max bytes; item "0" or "1" of the pair that is next. */
static cJSON *
pairs_text(pairs_t *pairs, mayday_slice_t text, size_t bytes_max, const char *item)
{
    mayday_utf8_info_t info;
    cJSON *json = mayday_json_text(text, bytes_max, 0, &info);

    if (info.len > bytes_max) { /* so many characters, but each of up to four bytes */
        cJSON_Delete(json);
        json = mayday_json_text(text, bytes_max / 4, 0, &info);
    }
    pairs->bytes_left -= info.len;
    if (info.chars_whole > info.chars) {
        char index[24];
        (void) snprintf(index, sizeof(index), "%zu", pairs->count);
        mayday_note_cut(
            pairs->event, &info,
            MAYDAY_KEYS(mayday_event_part_key(MAYDAY_PART_REQUEST), pairs->key, index, item));
    }
    return json;
}

static void
pairs_add(pairs_t *pairs, mayday_slice_t name, mayday_slice_t value)
{
    const size_t least = 16;      /* less of a name or value says nothing */
    const size_t punctuation = 8; /* of ["name","value"], in the list     */

    pairs->seen++;
    if (pairs->count == MAYDAY_PAIRS_MAX || pairs->bytes_left < 2 * least + punctuation) {
        return;
    }
    pairs->bytes_left -= punctuation;
    cJSON *name_item = pairs_text(pairs, name, pairs->bytes_left - least, "0");
    cJSON *value_item = pairs_text(pairs, value, pairs->bytes_left, "1");
    cJSON_AddItemToArray(pairs->list, mayday_json_pair(name_item, value_item));
    pairs->count++;
}

/* Adds the list; how long it was before pairs were left out goes into _meta. */
static void
pairs_end(pairs_t *pairs, cJSON *request)
{
    if (pairs->count == 0) {
        cJSON_Delete(pairs->list);
        return;
    }
    if (pairs->seen > pairs->count) {
        mayday_note_length(pairs->event, pairs->seen,
                           MAYDAY_KEYS(mayday_event_part_key(MAYDAY_PART_REQUEST), pairs->key));
    }
    mayday_json_add(request, pairs->key, pairs->list);
}

static void
add_query(mayday_event_t *event, cJSON *request)
{
    mayday_slice_t query = mayday_view_text(event->view, QUERY);
    char storage[MAYDAY_FIELD_MAX_QUERY];
    size_t begin = 0, i;
    pairs_t pairs;

    if (query.len == 0 || query.len > sizeof(storage)) {
        return;
    }
    pairs_begin(&pairs, event, "query_string", MAYDAY_QUERY_MAX);
    for (i = 0; i <= query.len; i++) {
        if (i < query.len && query.data[i] != '&') {
            continue;
        }
        mayday_slice_t part = mayday_slice(query.data + begin, i - begin);
        begin = i + 1;
        if (part.len == 0) {
            continue;
        }
        const char *equals = memchr(part.data, '=', part.len);
        size_t name_len = equals != NULL ? (size_t) (equals - part.data) : part.len;
        size_t value_at = equals != NULL ? name_len + 1 : name_len;
        mayday_slice_t name =
            mayday_percent_decode(storage, mayday_slice(part.data, name_len), true);
        mayday_slice_t value = mayday_percent_decode(
            storage + name_len, mayday_slice(part.data + value_at, part.len - value_at), true);
        pairs_add(&pairs, name, value);
    }
    pairs_end(&pairs, request);
}

static void
add_pairs(mayday_event_t *event, cJSON *request, const char *key, const mayday_pair_t *from,
          size_t count, size_t bytes_max)
{
    pairs_t pairs;
    size_t i;

    pairs_begin(&pairs, event, key, bytes_max);
    for (i = 0; i < count; i++) {
        pairs_add(&pairs, from[i].name, from[i].value);
    }
    pairs_end(&pairs, request);
}

/* What a URL may not hold is encoded, so that its bytes are kept as they came. */
static void
add_path(mayday_buf_t *url, mayday_slice_t path)
{
    size_t i;

    for (i = 0; i < path.len; i++) {
        unsigned char c = (unsigned char) path.data[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"#<>?`{}", c) != NULL) {
            mayday_buf_addf(url, "%%%02X", c);
        } else {
            mayday_buf_addc(url, (char) c);
        }
    }
}

/* scheme://host/path; the query has a field of its own. */
static void
add_url(mayday_event_t *event, cJSON *request)
{
    const mayday_record_view_t *view = event->view;
    bool secure = mayday_slice_eq(mayday_view_text(view, SCHEME), MAYDAY_SLICE("https"));
    mayday_slice_t host = mayday_view_text(view, HOST);
    char storage[sizeof("https://") + MAYDAY_FIELD_MAX_HOST + (size_t) 3 * MAYDAY_FIELD_MAX_PATH];
    char path[MAYDAY_PATH_SIZE];
    unsigned flags = view->flags[MAYDAY_FIELD_PATH];
    mayday_utf8_info_t info;
    mayday_buf_t url;

    if (host.len == 0) {
        host = mayday_view_text(view, VIRTUAL_HOST);
    }
    mayday_buf_init(&url, storage, sizeof(storage));
    mayday_buf_adds(&url, secure ? "https://" : "http://");
    mayday_buf_add(&url, host.len > 0 ? host : MAYDAY_SLICE("localhost"));
    add_path(&url, mayday_event_path(event, path));
    cJSON *item = mayday_json_text(mayday_buf_slice(&url), MAYDAY_URL_MAX, flags, &info);
    if (info.chars_whole > info.chars || (flags & MAYDAY_FIELD_CUT) != 0) {
        mayday_note_cut(event, &info,
                        MAYDAY_KEYS(mayday_event_part_key(MAYDAY_PART_REQUEST), "url"));
    }
    mayday_json_add(request, "url", item);
}

static void
add_env(const mayday_record_view_t *view, cJSON *request)
{
    cJSON *env = cJSON_CreateObject();
    mayday_slice_t name = mayday_view_text(view, VIRTUAL_HOST);
    char port[24];

    if (name.len == 0) {
        name = mayday_view_text(view, HOST);
    }
    mayday_json_add_text(env, "SERVER_NAME", name, MAYDAY_SERVER_NAME_MAX);
    if (mayday_view_has(view, SERVER_PORT)) {
        (void) snprintf(port, sizeof(port), "%u", (unsigned) mayday_view_u64(view, SERVER_PORT));
        mayday_json_add(env, "SERVER_PORT", cJSON_CreateString(port));
    }
    mayday_json_add_text(env, "REMOTE_ADDR", mayday_view_text(view, CLIENT_ADDRESS),
                         MAYDAY_USER_TEXT_MAX);
    if (cJSON_GetArraySize(env) > 0) {
        mayday_json_add(request, "env", env);
    }
}

cJSON *
mayday_build_request(mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    cJSON *request = cJSON_CreateObject();

    mayday_json_add_text(request, "method", mayday_view_method(view), 32);
    if (event->degraded) {
        return cJSON_GetArraySize(request) > 0 ? request : NULL;
    }
    add_url(event, request);
    add_query(event, request);
    add_pairs(event, request, "headers", view->headers, view->header_count, MAYDAY_HEADERS_MAX);
    add_pairs(event, request, "cookies", view->cookies, view->cookie_count, MAYDAY_COOKIES_MAX);
    add_env(view, request);
    return request;
}
