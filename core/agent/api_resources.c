/*
 * The API's resources (status.h). Runs in the API's threads. Everything in a
 * request is checked, for the socket's group may hold more than administrators.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/api_private.h"
#include "core/agent/test_event.h"
#include "core/base/dsn.h"
#include "core/event/json.h"

#define LIMIT_DEFAULT 50u
#define LIMIT_MAX 1000u
#define ENVELOPE_SIZE (16u * 1024)
#define DSNS_MAX 32u
#define DSN_SIZE 1025

/* ---- answers ---- */

static void
answer_json(mayday_answer_t *answer, unsigned status, cJSON *json)
{
    char *text = mayday_json_print(json, false);

    cJSON_Delete(json);
    answer->status = status;
    /* cJSON's memory is malloc's here, for no event's arena is bound */
    answer->text = text;
    answer->len = text == NULL ? 0 : strlen(text);
}

void
mayday_answer_error(mayday_answer_t *answer, unsigned status, const char *message)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddStringToObject(json, "error", message);
    answer_json(answer, status, json);
}

static const char *
argument(const mayday_request_t *request, const char *name)
{
    const char *value =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);

    return value == NULL || value[0] == '\0' ? NULL : value;
}

/* False: it is there, but no number up to max. */
static bool
number_argument(const mayday_request_t *request, const char *name, uint64_t max, uint64_t *n)
{
    const char *value = argument(request, name);
    char *end;

    if (value == NULL) {
        return true;
    }
    errno = 0;
    *n = strtoull(value, &end, 10);
    return value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0 && *n <= max;
}

/* The body as a JSON object; an empty one is {}. NULL: answered. */
static cJSON *
body_object(const mayday_request_t *request, mayday_answer_t *answer)
{
    cJSON *json = request->body.len == 0
                      ? cJSON_CreateObject()
                      : cJSON_ParseWithLength(request->body.data, request->body.len);

    if (!cJSON_IsObject(json)) {
        cJSON_Delete(json);
        mayday_answer_error(answer, MHD_HTTP_BAD_REQUEST, "the body is no JSON object");
        return NULL;
    }
    return json;
}

/* ---- status ---- */

static void
get_status(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    cJSON *document = mayday_status_document(request->agent, store, request->store_error);

    if (document == NULL) {
        mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR,
                            store == NULL ? "no memory" : mayday_store_error(store));
    } else {
        answer_json(answer, MHD_HTTP_OK, document);
    }
}

static void
get_metrics(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    cJSON *document = mayday_status_document(request->agent, store, request->store_error);

    if (document == NULL) {
        mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, mayday_store_error(store));
        return;
    }
    answer->type = "text/plain; version=0.0.4; charset=utf-8";
    answer->text = mayday_status_metrics(document);
    answer->len = answer->text == NULL ? 0 : strlen(answer->text);
    cJSON_Delete(document);
}

/* ---- events ---- */

static void
visit_row(void *ctx, const mayday_store_row_t *row)
{
    cJSON *list = ctx, *object = cJSON_CreateObject();

    cJSON_AddNumberToObject(object, "row", (double) row->row);
    cJSON_AddStringToObject(object, "event_id", row->event_id);
    cJSON_AddStringToObject(object, "issue", row->issue);
    cJSON_AddNumberToObject(object, "time_us", (double) row->time_us);
    cJSON_AddStringToObject(object, "kind", row->kind);
    cJSON_AddStringToObject(object, "level", row->level);
    cJSON_AddNumberToObject(object, "status", row->status);
    cJSON_AddStringToObject(object, "title", row->title);
    cJSON_AddStringToObject(object, "transaction", row->transaction);
    cJSON_AddNumberToObject(object, "issue_seen", (double) row->issue_seen);
    cJSON_AddNumberToObject(object, "undelivered", row->undelivered);
    cJSON_AddItemToArray(list, object);
}

static void
get_events(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    mayday_store_query_t query = {.limit = LIMIT_DEFAULT};
    uint64_t limit = LIMIT_DEFAULT, after = 0, since = 0;
    cJSON *document, *list;

    if (!number_argument(request, "limit", LIMIT_MAX, &limit) || limit == 0 ||
        !number_argument(request, "after", INT64_MAX, &after) ||
        !number_argument(request, "since", INT64_MAX, &since)) {
        mayday_answer_error(answer, MHD_HTTP_BAD_REQUEST,
                            "limit is a number from 1 to 1000, after and since are numbers");
        return;
    }
    query.limit = (unsigned) limit;
    query.after_row = (int64_t) after;
    query.since_us = since;
    query.kind = argument(request, "kind");
    query.issue = argument(request, "issue");
    document = cJSON_CreateObject();
    list = cJSON_AddArrayToObject(document, "events");
    if (mayday_store_events(store, &query, visit_row, list) != MAYDAY_OK) {
        cJSON_Delete(document);
        mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, mayday_store_error(store));
        return;
    }
    answer_json(answer, MHD_HTTP_OK, document);
}

static void
visit_dropped(void *ctx, const mayday_store_dropped_t *dropped)
{
    cJSON *list = ctx, *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "event_id", dropped->event_id.data);
    cJSON_AddNumberToObject(object, "time_us", (double) dropped->time_us);
    cJSON_AddStringToObject(object, "kind", dropped->kind);
    cJSON_AddStringToObject(object, "level", dropped->level);
    cJSON_AddNumberToObject(object, "status", dropped->status);
    cJSON_AddStringToObject(object, "title", dropped->title.data);
    cJSON_AddStringToObject(object, "transaction", dropped->transaction.data);
    cJSON_AddStringToObject(object, "reason", dropped->reason);
    cJSON_AddStringToObject(object, "hook", dropped->hook);
    cJSON_AddStringToObject(object, "where", dropped->where);
    cJSON_AddBoolToObject(object, "observed", dropped->observed);
    cJSON_AddItemToArray(list, object);
}

static void
get_dropped(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    mayday_store_dropped_query_t query = {.reason = argument(request, "reason"),
                                          .kind = argument(request, "kind")};
    uint64_t limit = LIMIT_DEFAULT;
    cJSON *document, *list;

    if (!number_argument(request, "limit", LIMIT_MAX, &limit) || limit == 0 ||
        !number_argument(request, "since", INT64_MAX, &query.since_us)) {
        mayday_answer_error(answer, MHD_HTTP_BAD_REQUEST,
                            "limit is a number from 1 to 1000, since is a number");
        return;
    }
    query.limit = (unsigned) limit;
    document = cJSON_CreateObject();
    list = cJSON_AddArrayToObject(document, "events");
    if (mayday_store_dropped(store, &query, visit_dropped, list) != MAYDAY_OK) {
        cJSON_Delete(document);
        mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, mayday_store_error(store));
        return;
    }
    answer_json(answer, MHD_HTTP_OK, document);
}

static void
get_event(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    mayday_slice_t id = mayday_slice_str(request->path + sizeof(MAYDAY_API_EVENTS "/") - 1);

    if (id.len < 4 || id.len > 32 || strspn(id.data, "0123456789abcdefABCDEF") != id.len) {
        mayday_answer_error(answer, MHD_HTTP_BAD_REQUEST, "an id is 4 to 32 hex digits");
        return;
    }
    switch (mayday_store_event_json(store, id, &answer->text, &answer->len)) {
    case MAYDAY_OK:
        break;
    case MAYDAY_NOT_FOUND:
        mayday_answer_error(answer, MHD_HTTP_NOT_FOUND, "there is no event of that id");
        break;
    case MAYDAY_INVALID:
        mayday_answer_error(answer, MHD_HTTP_CONFLICT, "several events have an id like that");
        break;
    default:
        mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, mayday_store_error(store));
    }
}

/* ---- send-event ---- */

typedef struct {
    size_t count;
    char texts[DSNS_MAX][DSN_SIZE];
} dsns_t;

static void
add_dsn(dsns_t *dsns, const char *text)
{
    for (size_t i = 0; i < dsns->count; i++) {
        if (strcmp(dsns->texts[i], text) == 0) {
            return;
        }
    }
    if (dsns->count < DSNS_MAX && strlen(text) < DSN_SIZE) {
        memcpy(dsns->texts[dsns->count++], text, strlen(text) + 1);
    }
}

static void
collect_dsns(mayday_agent_t *agent, dsns_t *dsns)
{
    pthread_mutex_lock(&agent->lock);
    for (size_t i = 0; i < agent->settings->destination_count; i++) {
        const mayday_destination_setting_t *destination = &agent->settings->destinations[i];
        for (uint32_t n = 0; n < destination->dsn_count; n++) {
            add_dsn(dsns, destination->dsns[n]);
        }
    }
    pthread_mutex_unlock(&agent->lock);
}

static cJSON *
send_one(mayday_agent_t *agent, const char *dsn_text)
{
    char storage[ENVELOPE_SIZE], redacted_text[256], answer[512] = "", error[512] = "", id[33] = "";
    const char *dsn_error = "no memory";
    cJSON *result = cJSON_CreateObject();
    mayday_buf_t envelope, redacted;
    mayday_dsn_t dsn;
    mayday_rc_t rc;
    long status = 0;

    mayday_buf_init(&envelope, storage, sizeof(storage));
    mayday_buf_init(&redacted, redacted_text, sizeof(redacted_text));
    pthread_mutex_lock(&agent->lock);
    rc = mayday_test_event(agent->settings, dsn_text, &envelope, id, &dsn_error);
    pthread_mutex_unlock(&agent->lock);
    if (rc == MAYDAY_OK) {
        status = mayday_delivery_send_now(agent->delivery, dsn_text, mayday_buf_slice(&envelope),
                                          answer, sizeof(answer), error, sizeof(error));
    } else {
        snprintf(error, sizeof(error), "the DSN is wrong: expected %s", dsn_error);
    }
    if (mayday_dsn_parse(&dsn, mayday_slice_str(dsn_text), &dsn_error) == MAYDAY_OK) {
        mayday_dsn_redacted(&dsn, &redacted);
    }
    cJSON_AddStringToObject(result, "dsn", redacted_text);
    cJSON_AddNumberToObject(result, "status", (double) status);
    cJSON_AddStringToObject(result, "event_id", id);
    cJSON_AddStringToObject(result, "answer", answer);
    cJSON_AddStringToObject(result, "error", error);
    return result;
}

static void
post_send_event(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    dsns_t *dsns = calloc(1, sizeof(*dsns));
    cJSON *body = body_object(request, answer), *document, *results;
    const cJSON *given;
    bool was_given;

    (void) store;
    if (body == NULL || dsns == NULL) {
        cJSON_Delete(body);
        free(dsns);
        return;
    }
    given = cJSON_GetObjectItemCaseSensitive(body, "dsn");
    if (given == NULL) {
        collect_dsns(request->agent, dsns);
    } else if (cJSON_IsString(given)) {
        add_dsn(dsns, given->valuestring);
    }
    was_given = given != NULL;
    cJSON_Delete(body);
    if (dsns->count == 0) {
        mayday_answer_error(answer, was_given ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_CONFLICT,
                            was_given ? "dsn is a text of at most 1024 bytes"
                                      : "no mayday_dsn is configured: events are only stored");
        free(dsns);
        return;
    }
    document = cJSON_CreateObject();
    results = cJSON_AddArrayToObject(document, "results");
    for (size_t i = 0; i < dsns->count; i++) {
        cJSON_AddItemToArray(results, send_one(request->agent, dsns->texts[i]));
    }
    free(dsns);
    answer_json(answer, MHD_HTTP_OK, document);
}

/* ---- purge ---- */

/* Exactly one of user, before_us and all. */
static bool
parse_purge(const cJSON *body, mayday_store_purge_t *what)
{
    const cJSON *user = cJSON_GetObjectItemCaseSensitive(body, "user");
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(body, "before_us");
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(body, "all");

    memset(what, 0, sizeof(*what));
    if (cJSON_GetArraySize(body) != 1) {
        return false;
    }
    if (cJSON_IsString(user) && user->valuestring[0] != '\0') {
        what->user = mayday_slice_str(user->valuestring);
        return true;
    }
    if (cJSON_IsNumber(before) && before->valuedouble >= 1 && before->valuedouble < 9e15) {
        what->before_us = (uint64_t) before->valuedouble;
        return true;
    }
    what->all = cJSON_IsTrue(all);
    return what->all;
}

static void
post_purge(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer)
{
    cJSON *body = body_object(request, answer), *document;
    mayday_store_purge_t what;
    mayday_store_purged_t purged;

    if (body == NULL) {
        return;
    }
    if (!parse_purge(body, &what)) {
        mayday_answer_error(answer, MHD_HTTP_BAD_REQUEST,
                            "expected one of {\"user\":TEXT}, {\"before_us\":N}, {\"all\":true}");
    } else if (mayday_store_purge(store, &what, &purged) != MAYDAY_OK) {
        mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, mayday_store_error(store));
    } else {
        document = cJSON_CreateObject();
        cJSON_AddNumberToObject(document, "purged", (double) purged.events);
        cJSON_AddNumberToObject(document, "dropped", (double) purged.dropped);
        answer_json(answer, MHD_HTTP_OK, document);
    }
    cJSON_Delete(body);
}

/* ---- all of them ---- */

static const struct {
    const char *method;
    const char *path;
    bool with_rest;   /* the path goes on with "/…" */
    bool needs_store; /* else store may be NULL, request->store_error says why */
    void (*answer)(const mayday_request_t *request, mayday_store_t *store, mayday_answer_t *answer);
} resources[] = {
    {"GET", MAYDAY_API_STATUS, false, false, get_status},
    {"GET", MAYDAY_API_METRICS, false, true, get_metrics},
    {"GET", MAYDAY_API_EVENTS, false, true, get_events},
    {"GET", MAYDAY_API_EVENTS, true, true, get_event},
    {"GET", MAYDAY_API_DROPPED, false, true, get_dropped},
    {"POST", MAYDAY_API_SEND_EVENT, false, false, post_send_event},
    {"POST", MAYDAY_API_PURGE, false, true, post_purge},
};

static bool
path_matches(const char *path, const char *resource, bool with_rest)
{
    size_t len = strlen(resource);

    return strncmp(path, resource, len) == 0 && path[len] == (with_rest ? '/' : '\0');
}

void
mayday_api_dispatch(mayday_request_t *request, mayday_answer_t *answer)
{
    mayday_store_t *store;
    bool known = false;

    for (size_t i = 0; i < MAYDAY_COUNT(resources); i++) {
        if (!path_matches(request->path, resources[i].path, resources[i].with_rest)) {
            continue;
        }
        known = true;
        if (strcmp(request->method, resources[i].method) != 0) {
            continue;
        }
        store = mayday_store_new(request->agent->store_path, request->store_error,
                                 sizeof(request->store_error));
        if (store == NULL && resources[i].needs_store) {
            mayday_answer_error(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, request->store_error);
            return;
        }
        resources[i].answer(request, store, answer);
        mayday_store_free(store);
        return;
    }
    mayday_answer_error(answer, known ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND,
                        known ? "method not allowed" : "there is no such resource");
}
