/*
 * The parts of an event that are a value or little more, and what the builders
 * read from the record in common. The bigger parts have files of their own.
 *
 * Runs in the agent's pipeline thread; JSON is made in the event's arena.
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "core/event/envelope.h"
#include "core/event/event_build.h"

/* ---- what is read in common ---- */

mayday_slice_t
mayday_view_method(const mayday_record_view_t *view)
{
    mayday_slice_t method = mayday_view_text(view, METHOD);
    size_t i;

    if (method.len < 3 || method.len > 32) {
        return mayday_slice(NULL, 0);
    }
    for (i = 0; i < method.len; i++) {
        char c = method.data[i];
        if ((c < 'A' || c > 'Z') && c != '-' && c != '_') {
            return mayday_slice(NULL, 0);
        }
    }
    return method;
}

mayday_slice_t
mayday_view_upstream(const mayday_record_view_t *view)
{
    mayday_slice_t upstream = mayday_view_text(view, UPSTREAM);

    return upstream.len == 0 && view->attempt_count > 0 ? view->attempts[0].peer : upstream;
}

size_t
mayday_view_peers(const mayday_record_view_t *view)
{
    size_t peers = 0, i, j;

    for (i = 0; i < view->attempt_count; i++) {
        for (j = 0; j < i; j++) {
            if (mayday_slice_eq(view->attempts[i].peer, view->attempts[j].peer)) {
                break;
            }
        }
        peers += j == i;
    }
    return peers;
}

bool
mayday_attempt_answered(const mayday_attempt_view_t *attempt)
{
    return attempt->timing.status >= 100 && attempt->timing.status <= 999;
}

mayday_slice_t
mayday_percent_decode(char *out, mayday_slice_t text, bool plus)
{
    size_t len = 0, i;

    for (i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%' && i + 2 < text.len && mayday_hex_digit(text.data[i + 1]) >= 0 &&
                   mayday_hex_digit(text.data[i + 2]) >= 0) {
            c = (char) (mayday_hex_digit(text.data[i + 1]) << 4 |
                        mayday_hex_digit(text.data[i + 2]));
            i += 2;
        }
        out[len++] = c;
    }
    return mayday_slice(out, len);
}

static bool
is_address(mayday_slice_t text)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char parsed[sizeof(struct in6_addr)];

    if (text.len == 0 || text.len >= sizeof(address) || memchr(text.data, '\0', text.len) != NULL) {
        return false;
    }
    memcpy(address, text.data, text.len);
    address[text.len] = '\0';
    return inet_pton(AF_INET, address, parsed) == 1 || inet_pton(AF_INET6, address, parsed) == 1;
}

/* A text part; what is cut is noted under the part's key. */
static cJSON *
text_part(mayday_event_t *event, mayday_part_t part, mayday_slice_t text, size_t chars_max)
{
    mayday_utf8_info_t info;
    cJSON *item;

    if (text.len == 0) {
        return NULL;
    }
    item = mayday_json_text(text, chars_max, 0, &info);
    if (item != NULL && info.chars_whole > info.chars) {
        mayday_note_cut(event, &info, MAYDAY_KEYS(mayday_event_part_key(part)));
    }
    return item;
}

static mayday_slice_t
given_or(mayday_slice_t given, const char *otherwise)
{
    return given.len > 0 ? given : mayday_slice_str(otherwise);
}

static const char *
sdk_name(const mayday_event_t *event)
{
    return strcmp(event->settings->server, "httpd") == 0 ? "mayday.httpd" : "mayday.nginx";
}

/* ---- the parts ---- */

cJSON *
mayday_build_event_id(mayday_event_t *event)
{
    char id[33];

    mayday_event_id(event, id);
    return cJSON_CreateString(id);
}

cJSON *
mayday_build_timestamp(mayday_event_t *event)
{
    char text[28];

    mayday_time_rfc3339(text, sizeof(text), mayday_view_u64(event->view, TIME_US));
    return cJSON_CreateString(text);
}

cJSON *
mayday_build_platform(mayday_event_t *event)
{
    (void) event;
    return cJSON_CreateStringReference("other");
}

cJSON *
mayday_build_level(mayday_event_t *event)
{
    return cJSON_CreateStringReference(mayday_kind_info(event->view)->level);
}

cJSON *
mayday_build_logger(mayday_event_t *event)
{
    return cJSON_CreateStringReference(sdk_name(event));
}

cJSON *
mayday_build_server_name(mayday_event_t *event)
{
    return text_part(event, MAYDAY_PART_SERVER_NAME, mayday_slice_str(event->settings->server_name),
                     MAYDAY_SERVER_NAME_MAX);
}

/*
 * Whether Sentry takes text for a release or an environment. One that it does
 * not take would cost the event an error, and be left out all the same.
 */
static bool
is_name(mayday_slice_t text, const char *reserved)
{
    bool blank = true;
    size_t i;

    for (i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char) text.data[i];
        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\') {
            return false;
        }
        blank = blank && c == ' ';
    }
    return !blank && !mayday_slice_eq(text, MAYDAY_SLICE(".")) &&
           !mayday_slice_eq(text, MAYDAY_SLICE("..")) &&
           !mayday_slice_ieq(text, mayday_slice_str(reserved));
}

/* A cut name would be another name, so one that is too long is none; Sentry counts bytes. */
static cJSON *
name_part(mayday_slice_t name, const char *reserved, size_t bytes_max)
{
    mayday_utf8_info_t info;
    cJSON *item;

    if (!is_name(name, reserved)) {
        return NULL;
    }
    item = mayday_json_text(name, name.len, 0, &info);
    return info.len <= bytes_max ? item : NULL;
}

cJSON *
mayday_build_release(mayday_event_t *event)
{
    return name_part(given_or(mayday_view_text(event->view, RELEASE), event->settings->release),
                     "latest", MAYDAY_TEXT_SHORT_MAX);
}

cJSON *
mayday_build_environment(mayday_event_t *event)
{
    return name_part(
        given_or(mayday_view_text(event->view, ENVIRONMENT), event->settings->environment), "none",
        MAYDAY_ENVIRONMENT_MAX);
}

static bool
transaction_is_given(const mayday_event_t *event)
{
    return !event->degraded && mayday_view_text(event->view, TRANSACTION).len > 0;
}

cJSON *
mayday_build_transaction(mayday_event_t *event)
{
    char route[MAYDAY_ROUTE_SIZE], storage[MAYDAY_ROUTE_SIZE + 64];
    mayday_slice_t method = mayday_view_method(event->view);
    mayday_buf_t text;

    if (transaction_is_given(event)) {
        return text_part(event, MAYDAY_PART_TRANSACTION, mayday_view_text(event->view, TRANSACTION),
                         MAYDAY_TEXT_SHORT_MAX);
    }
    mayday_buf_init(&text, storage, sizeof(storage));
    mayday_buf_add(&text, method);
    mayday_buf_adds(&text, method.len > 0 ? " " : "");
    mayday_buf_add(&text, mayday_event_route(event, route));
    return text_part(event, MAYDAY_PART_TRANSACTION, mayday_buf_slice(&text),
                     MAYDAY_TEXT_SHORT_MAX);
}

cJSON *
mayday_build_transaction_info(mayday_event_t *event)
{
    bool replaced = (event->replaced >> MAYDAY_PART_TRANSACTION & 1) != 0;
    const char *source = event->route_is_template ? "route" : "sanitized";
    cJSON *info = cJSON_CreateObject();

    source = replaced || transaction_is_given(event) ? "custom" : source;
    mayday_json_add_constant(info, "source", source);
    return info;
}

/*
 * ip_address takes addresses only; a keyed hash of one (mayday_user ip=hash:…)
 * tells users apart just as well under a name of its own.
 */
cJSON *
mayday_build_user(mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    mayday_slice_t ip = mayday_view_text(view, USER_IP);
    cJSON *user = cJSON_CreateObject();

    if (event->degraded) {
        return NULL;
    }
    mayday_json_add_text(user, "id", mayday_view_text(view, USER_ID), MAYDAY_USER_TEXT_MAX);
    mayday_json_add_text(user, "email", mayday_view_text(view, USER_EMAIL), MAYDAY_USER_EMAIL_MAX);
    mayday_json_add_text(user, "username", mayday_view_text(view, USER_NAME), MAYDAY_USER_TEXT_MAX);
    if (ip.len == 0) {
        ip = mayday_view_text(view, CLIENT_ADDRESS);
        ip = is_address(ip) ? ip : mayday_slice(NULL, 0);
    }
    if (is_address(ip)) {
        mayday_json_add_text(user, "ip_address", ip, MAYDAY_USER_TEXT_MAX);
    } else if (ip.len > 0) {
        cJSON *data = cJSON_CreateObject();
        mayday_json_add_text(data, "ip_hash", ip, MAYDAY_USER_TEXT_MAX);
        mayday_json_add(user, "data", data);
    }
    return cJSON_GetArraySize(user) > 0 ? user : NULL;
}

/* ---- tags ---- */

/* A tag's key as Sentry takes it: letters, digits and "_.:-". */
static bool
tag_key(char key[MAYDAY_TAG_KEY_MAX + 1], mayday_slice_t name)
{
    size_t i, len = name.len < MAYDAY_TAG_KEY_MAX ? name.len : MAYDAY_TAG_KEY_MAX;

    for (i = 0; i < len; i++) {
        char c = name.data[i];
        bool good = mayday_is_alnum(c) || c == '_' || c == '.' || c == ':' || c == '-';
        key[i] = (char) (good ? c : '_');
    }
    key[len] = '\0';
    return len > 0;
}

/* A tag's value holds no line feed and is not blank, or there is no tag: NULL. */
static cJSON *
tag_value(mayday_slice_t value, mayday_utf8_info_t *info)
{
    cJSON *item = mayday_json_text(value, MAYDAY_TEXT_SHORT_MAX, 0, info);
    bool blank = true;
    char *p;

    for (p = item != NULL ? item->valuestring : NULL; p != NULL && *p != '\0'; p++) {
        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }
        blank = blank && (*p == ' ' || *p == '\t');
    }
    if (blank) {
        cJSON_Delete(item);
        return NULL;
    }
    return item;
}

static void
add_tag(mayday_event_t *event, cJSON *tags, mayday_pair_t pair)
{
    char key[MAYDAY_TAG_KEY_MAX + 1];
    mayday_utf8_info_t info;
    cJSON *item;

    if (!tag_key(key, pair.name)) {
        return;
    }
    item = tag_value(pair.value, &info);
    if (item == NULL) {
        return;
    }
    if (info.chars_whole > info.chars) {
        mayday_note_cut(event, &info, MAYDAY_KEYS(mayday_event_part_key(MAYDAY_PART_TAGS), key));
    }
    cJSON_DeleteItemFromObjectCaseSensitive(tags, key); /* the user's own wins */
    cJSON_AddItemToObject(tags, key, item);
}

cJSON *
mayday_build_tags(mayday_event_t *event)
{
    const mayday_record_view_t *view = event->view;
    const mayday_slice_t upstream = mayday_view_upstream(view);
    cJSON *tags = cJSON_CreateObject();
    char status[24];
    size_t i;

    mayday_json_add_constant(tags, "mayday.kind", mayday_kind_info(view)->name);
    (void) snprintf(status, sizeof(status), "%u", (unsigned) mayday_view_u64(view, STATUS));
    mayday_json_add(tags, "http.status_code", cJSON_CreateString(status));
    mayday_json_add_constant(tags, "handled",
                             mayday_view_u64(view, KIND) == MAYDAY_KIND_RETRIED ? "yes" : "no");
    mayday_json_add(tags, "upstream", tag_value(upstream, NULL));
    mayday_json_add(tags, "mayday.rule_error",
                    tag_value(mayday_slice_str(event->rule_error), NULL));
    for (i = 0; i < view->tag_count && !event->degraded; i++) {
        add_tag(event, tags, view->tags[i]);
    }
    return tags;
}

/* ---- the rest ---- */

/* A place for rules; nothing of ours is there. */
cJSON *
mayday_build_nothing(mayday_event_t *event)
{
    (void) event;
    return NULL;
}

/*
 * infer_ip: without "never", Sentry would take the address that sent the event,
 * the web server's, for the user's.
 */
cJSON *
mayday_build_sdk(mayday_event_t *event)
{
    cJSON *sdk = cJSON_CreateObject(), *settings = cJSON_CreateObject();

    mayday_json_add_constant(sdk, "name", sdk_name(event));
    mayday_json_add_constant(sdk, "version", MAYDAY_VERSION);
    mayday_json_add_constant(settings, "infer_ip", "never");
    mayday_json_add(sdk, "settings", settings);
    return sdk;
}
