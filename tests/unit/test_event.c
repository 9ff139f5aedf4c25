/*
 * Events: what each part holds, what hostile records become, what rules may do.
 * With MAYDAY_EVENTS_OUT=FILE the events of all tests are written there, one a
 * line, for tests/event_schema/check.py.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/event_fixture.h"

#include "core/event/utf8.h"

static mayday_record_view_t view;
static mayday_event_t event;
static FILE *events_out;

static int
setup(void **state)
{
    (void) state;
    mayday_event_memory_begin();
    fixture_view(&view, MAYDAY_KIND_UPSTREAM_REFUSED);
    mayday_event_init(&event, &view, &fixture_settings);
    return 0;
}

static int
teardown(void **state)
{
    (void) state;
    mayday_event_memory_end();
    return 0;
}

/* Serialises, keeps the text for the schema check, and reads it back. */
static cJSON *
whole(void)
{
    mayday_slice_t json = mayday_event_serialise(&event);
    cJSON *parsed;

    assert_true(json.len > 2);
    parsed = cJSON_ParseWithLength(json.data, json.len);
    assert_non_null(parsed);
    if (events_out != NULL) {
        fprintf(events_out, "%.*s\n", (int) json.len, json.data);
    }
    return parsed;
}

/* The item at a path such as "request.headers.3.1". */
static cJSON *
at(cJSON *item, const char *path)
{
    char copy[128], *key, *rest = copy;

    assert_true(strlen(path) < sizeof(copy));
    strcpy(copy, path);
    while (item != NULL && (key = strsep(&rest, ".")) != NULL) {
        item = cJSON_IsArray(item) ? cJSON_GetArrayItem(item, atoi(key))
                                   : cJSON_GetObjectItemCaseSensitive(item, key);
    }
    return item;
}

static const char *
text_at(cJSON *item, const char *path)
{
    const char *text = cJSON_GetStringValue(at(item, path));

    return text != NULL ? text : "(none)";
}

static double
number_at(cJSON *item, const char *path)
{
    cJSON *number = at(item, path);

    assert_true(cJSON_IsNumber(number));
    return number->valuedouble;
}

/* ---- hostile records ---- */

static void
test_event_serialise__empty_record(void **state)
{
    (void) state;
    memset(&view, 0, sizeof(view));
    cJSON *json = whole();
    assert_string_equal(text_at(json, "event_id"), "00000000000000000000000000000000");
    assert_string_equal(text_at(json, "timestamp"), "1970-01-01T00:00:00.000000Z");
    assert_null(at(json, "contexts.trace"));
    assert_null(at(json, "user"));
    assert_null(at(json, "breadcrumbs"));
}

static void
test_event_serialise__unknown_kind(void **state)
{
    (void) state;
    view_set_u64(&view, KIND, UINT64_MAX);
    assert_string_equal(text_at(whole(), "exception.values.0.type"), "ServerInternal");
}

static void
test_event_serialise__broken_utf8_and_nul(void **state)
{
    (void) state;
    view_set_text(&view, PATH, "/a\xff\xfe/\xc3(/\0x");
    view_set_text(&view, HOST, "h\0st");
    view_set_text(&view, QUERY, "a=%00b&c=%ff");
    view.headers[0].value = MAYDAY_SLICE("a\0b\xe2\x82");
    cJSON *json = whole();
    assert_string_equal(text_at(json, "request.url"), "https://h\xef\xbf\xbdst/a%FF%FE/%C3(/%00x");
    assert_string_equal(text_at(json, "request.query_string.0.1"), "\xef\xbf\xbd"
                                                                   "b");
    assert_string_equal(text_at(json, "request.query_string.1.1"), "\xef\xbf\xbd");
    assert_string_equal(text_at(json, "request.headers.0.1"), "a\xef\xbf\xbd"
                                                              "b\xef\xbf\xbd\xef\xbf\xbd");
}

static void
test_event_serialise__control_characters(void **state)
{
    (void) state;
    view.headers[0].value = MAYDAY_SLICE("\x01\x1b[31m\"\\\x7f\n");
    assert_string_equal(text_at(whole(), "request.headers.0.1"), "\x01\x1b[31m\"\\\x7f\n");
}

static void
test_event_serialise__everything_at_its_most(void **state)
{
    static char big[4096];

    (void) state;
    memset(big, 'x', sizeof(big));
    for (int field = 0; field < 64; field++) {
        fixture_text(&view, (mayday_field_t) field, mayday_slice(big, 64));
    }
    view_set_text(&view, METHOD, "GET");
    fixture_text(&view, MAYDAY_FIELD_EVENT_ID, mayday_slice(big, 16));
    fixture_text(&view, MAYDAY_FIELD_TRACE_ID, mayday_slice(big, 16));
    fixture_text(&view, MAYDAY_FIELD_SPAN_ID, mayday_slice(big, 8));
    fixture_text(&view, MAYDAY_FIELD_PARENT_SPAN_ID, mayday_slice(big, 8));
    fixture_text(&view, MAYDAY_FIELD_PATH, mayday_slice(big, MAYDAY_FIELD_MAX_PATH));
    fixture_text(&view, MAYDAY_FIELD_QUERY, mayday_slice(big, MAYDAY_FIELD_MAX_QUERY));
    for (size_t i = 0; i < MAYDAY_VIEW_HEADERS_MAX; i++) {
        view.headers[i] = (mayday_pair_t){MAYDAY_SLICE("X-Big"), mayday_slice(big, 500)};
    }
    view.header_count = MAYDAY_VIEW_HEADERS_MAX;
    for (size_t i = 0; i < MAYDAY_VIEW_COOKIES_MAX; i++) {
        view.cookies[i] = (mayday_pair_t){MAYDAY_SLICE("big"), mayday_slice(big, 500)};
    }
    view.cookie_count = MAYDAY_VIEW_COOKIES_MAX;
    for (size_t i = 0; i < MAYDAY_VIEW_TAGS_MAX; i++) {
        view.tags[i] = (mayday_pair_t){mayday_slice(big + i, 250), mayday_slice(big, 256)};
    }
    view.tag_count = MAYDAY_VIEW_TAGS_MAX;
    for (size_t i = 0; i < MAYDAY_VIEW_ATTEMPTS_MAX; i++) {
        view.attempts[i] = (mayday_attempt_view_t){
            {INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX, INT64_MAX}, mayday_slice(big, 300)};
    }
    view.attempt_count = MAYDAY_VIEW_ATTEMPTS_MAX;
    for (size_t i = 0; i < MAYDAY_VIEW_LOG_LINES_MAX; i++) {
        view.log_lines[i] =
            (mayday_log_line_view_t){{UINT32_MAX, 0, UINT64_MAX}, mayday_slice(big, 2032)};
    }
    view.log_line_count = MAYDAY_VIEW_LOG_LINES_MAX;
    view.truncated = true;
    cJSON *json = whole();
    assert_true(strlen(text_at(json, "request.url")) == 256);
    assert_true(cJSON_GetArraySize(at(json, "request.headers")) < 20);
    assert_int_equal((int) number_at(json, "_meta.request.headers..len"), MAYDAY_VIEW_HEADERS_MAX);
    assert_int_equal((int) number_at(json, "_meta.request.query_string.0.0..len"),
                     MAYDAY_FIELD_MAX_QUERY);
    assert_true(cJSON_IsTrue(at(json, "contexts.mayday.truncated")));
    assert_int_equal(cJSON_GetArraySize(at(json, "breadcrumbs.values")), 64);
}

static void
test_event_tags__odd_names_and_values(void **state)
{
    (void) state;
    view.tag_count = 0;
    view_add_tag(&view, "a b\nc", "x\r\ny");
    view_add_tag(&view, "empty", "");
    view_add_tag(&view, "blank", " \n");
    view_add_tag(&view, "a-name-that-is-longer-than-thirty-two", "v");
    view_add_tag(&view, "upstream", "mine");
    cJSON *json = whole();
    assert_string_equal(text_at(json, "tags.a_b_c"), "x  y");
    assert_null(at(json, "tags.empty"));
    assert_null(at(json, "tags.blank"));
    assert_string_equal(text_at(json, "tags.a-name-that-is-longer-than-thirt"), "v");
    assert_string_equal(text_at(json, "tags.upstream"), "mine");
}

static void
test_event_user__what_is_no_address(void **state)
{
    (void) state;
    view_set_text(&view, CLIENT_ADDRESS, "unix:");
    assert_null(mayday_event_part(&event, MAYDAY_PART_USER));

    mayday_event_init(&event, &view, &fixture_settings);
    view_set_text(&view, USER_IP, "9e107d9d372bb6826bd81d3542a419d6");
    cJSON *json = whole();
    assert_null(at(json, "user.ip_address"));
    assert_string_equal(text_at(json, "user.data.ip_hash"), "9e107d9d372bb6826bd81d3542a419d6");
}

static void
test_event_release__names_that_sentry_refuses(void **state)
{
    const char *const refused[] = {"shop/1.0", "a\\b", "a\nb", "a\x7f", " ", ".", ".."};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(refused); i++) {
        mayday_event_init(&event, &view, &fixture_settings);
        fixture_text(&view, MAYDAY_FIELD_RELEASE, mayday_slice_str(refused[i]));
        fixture_text(&view, MAYDAY_FIELD_ENVIRONMENT, mayday_slice_str(refused[i]));
        assert_null(mayday_event_part(&event, MAYDAY_PART_RELEASE));
        assert_null(mayday_event_part(&event, MAYDAY_PART_ENVIRONMENT));
    }
    mayday_event_init(&event, &view, &fixture_settings);
    view_set_text(&view, RELEASE, "latest");
    view_set_text(&view, ENVIRONMENT, "None");
    assert_null(mayday_event_part(&event, MAYDAY_PART_RELEASE));
    assert_null(mayday_event_part(&event, MAYDAY_PART_ENVIRONMENT));
    mayday_event_init(&event, &view, &fixture_settings);
    view_set_text(&view, RELEASE, "");
    view_set_text(&view, ENVIRONMENT, "qa 1");
    assert_string_equal(mayday_event_part_text(&event, MAYDAY_PART_RELEASE).data, "shop@1.4.2");
    assert_string_equal(mayday_event_part_text(&event, MAYDAY_PART_ENVIRONMENT).data, "qa 1");
}

static void
test_event_request__method_that_sentry_refuses(void **state)
{
    (void) state;
    view_set_text(&view, METHOD, "get it");
    cJSON *json = whole();
    assert_null(at(json, "request.method"));
    assert_string_equal(text_at(json, "transaction"), "/orders/*/items");
}

/* ---- the parts ---- */

static void
test_event_serialise__every_kind(void **state)
{
    (void) state;
    for (int kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        fixture_view(&view, (mayday_kind_t) kind);
        mayday_event_init(&event, &view, &fixture_settings);
        cJSON *json = whole();
        assert_string_equal(text_at(json, "event_id"), "fc6d8c0c43fc4630ad850ee518f1b9d0");
        assert_string_equal(text_at(json, "timestamp"), "2026-11-22T13:00:00.123456Z");
        assert_string_equal(text_at(json, "platform"), "other");
        assert_string_equal(text_at(json, "logger"), "mayday.nginx");
        assert_string_equal(text_at(json, "server_name"), "web-1");
        assert_string_equal(text_at(json, "release"), "shop@1.4.2");
        assert_string_equal(text_at(json, "environment"), "production");
        assert_string_equal(text_at(json, "transaction"), "GET /orders/*/items");
        assert_string_equal(text_at(json, "transaction_info.source"), "sanitized");
        assert_string_equal(text_at(json, "sdk.name"), "mayday.nginx");
        assert_string_equal(text_at(json, "sdk.settings.infer_ip"), "never");
        assert_string_equal(text_at(json, "exception.values.0.mechanism.type"), "auto.http.mayday");
        assert_int_equal(cJSON_IsTrue(at(json, "exception.values.0.mechanism.handled")),
                         kind == MAYDAY_KIND_RETRIED);
        assert_null(at(json, "user"));
        assert_null(at(json, "request.env.REMOTE_ADDR"));
    }
}

static void
test_event_request__lists_of_pairs(void **state)
{
    (void) state;
    view.cookies[view.cookie_count++] =
        (mayday_pair_t){MAYDAY_SLICE("theme"), MAYDAY_SLICE("dark")};
    cJSON *json = whole();
    assert_string_equal(text_at(json, "request.method"), "GET");
    assert_string_equal(text_at(json, "request.url"), "https://shop.example.com/orders/1234/items");
    assert_string_equal(text_at(json, "request.query_string.0.0"), "page");
    assert_string_equal(text_at(json, "request.query_string.0.1"), "2");
    assert_string_equal(text_at(json, "request.query_string.2.1"), "caf\xc3\xa9 noir");
    assert_string_equal(text_at(json, "request.headers.1.0"), "User-Agent");
    assert_string_equal(text_at(json, "request.cookies.0.0"), "theme");
    assert_string_equal(text_at(json, "request.env.SERVER_NAME"), "shop.example.com");
    assert_string_equal(text_at(json, "request.env.SERVER_PORT"), "443");
}

static void
test_event_user__as_given(void **state)
{
    (void) state;
    view_set_text(&view, CLIENT_ADDRESS, "203.0.113.7");
    view_set_text(&view, USER_ID, "42");
    view_set_text(&view, USER_EMAIL, "jane@example.com");
    view_set_text(&view, USER_NAME, "jane");
    cJSON *json = whole();
    assert_string_equal(text_at(json, "user.id"), "42");
    assert_string_equal(text_at(json, "user.email"), "jane@example.com");
    assert_string_equal(text_at(json, "user.username"), "jane");
    assert_string_equal(text_at(json, "user.ip_address"), "203.0.113.7");
    assert_string_equal(text_at(json, "request.env.REMOTE_ADDR"), "203.0.113.7");
}

static void
test_event_contexts__what_only_the_server_knows(void **state)
{
    (void) state;
    event.suppressed = 7;
    cJSON *json = whole();
    assert_string_equal(text_at(json, "contexts.trace.trace_id"),
                        "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(text_at(json, "contexts.trace.span_id"), "b7ad6b7169203331");
    assert_string_equal(text_at(json, "contexts.trace.parent_span_id"), "00f067aa0ba902b7");
    assert_string_equal(text_at(json, "contexts.trace.op"), "http.server");
    assert_string_equal(text_at(json, "contexts.trace.status"), "internal_error");
    assert_string_equal(text_at(json, "contexts.trace.origin"), "auto.http.mayday");
    assert_int_equal((int) number_at(json, "contexts.response.status_code"), 502);
    assert_int_equal((int) number_at(json, "contexts.response.body_size"), 157);
    assert_string_equal(text_at(json, "contexts.runtime.name"), "nginx");
    assert_string_equal(text_at(json, "contexts.runtime.version"), "1.22.1");
    assert_string_equal(text_at(json, "contexts.os.name"), "Linux");
    assert_string_equal(text_at(json, "contexts.mayday.kind"), "upstream_refused");
    assert_int_equal((int) number_at(json, "contexts.mayday.duration_ms"), 1234);
    assert_int_equal((int) number_at(json, "contexts.mayday.suppressed"), 7);
    assert_int_equal((int) number_at(json, "contexts.mayday.attempts.1.response_ms"), 3);
    assert_null(at(json, "contexts.mayday.attempts.0.connect_ms"));
    assert_string_equal(text_at(json, "contexts.tls.protocol"), "TLSv1.3");
}

static void
test_event_contexts__suppressed_known_late(void **state)
{
    (void) state;
    assert_non_null(mayday_event_part(&event, MAYDAY_PART_CONTEXTS));
    event.suppressed = 41;
    assert_int_equal((int) number_at(whole(), "contexts.mayday.suppressed"), 41);
}

static void
test_event_breadcrumbs__status_only_if_the_peer_answered(void **state)
{
    (void) state;
    fixture_view(&view, MAYDAY_KIND_RETRIED);
    cJSON *json = whole();
    assert_int_equal(cJSON_GetArraySize(at(json, "breadcrumbs.values")), 3);
    assert_string_equal(text_at(json, "breadcrumbs.values.0.category"), "upstream");
    assert_string_equal(text_at(json, "breadcrumbs.values.0.message"),
                        "10.0.0.4:8080 did not answer");
    assert_null(at(json, "breadcrumbs.values.0.data.status_code"));
    assert_string_equal(text_at(json, "breadcrumbs.values.0.timestamp"),
                        "2026-11-22T13:00:00.109456Z");
    assert_string_equal(text_at(json, "breadcrumbs.values.1.category"), "nginx.error_log");
    assert_string_equal(text_at(json, "breadcrumbs.values.1.level"), "error");
    assert_int_equal((int) number_at(json, "breadcrumbs.values.2.data.status_code"), 200);
}

static void
test_event_breadcrumbs__log_lines_are_scrubbed(void **state)
{
    (void) state;
    view_add_line(&view, 3, "PHP message: login failed, password=hunter2 for jane");
    cJSON *json = whole();
    mayday_slice_t text = mayday_event_serialise(&event);
    assert_non_null(json);
    assert_true(mayday_slice_find(text, MAYDAY_SLICE("hunter2"), 0) == SIZE_MAX);
    assert_true(mayday_slice_find(text, MAYDAY_SLICE("password=[Filtered]"), 0) != SIZE_MAX);
}

static void
test_event_meta__filtered_and_cut(void **state)
{
    static char big[600];

    (void) state;
    memset(big, 'x', sizeof(big));
    fixture_text(&view, MAYDAY_FIELD_PATH, mayday_slice(big, sizeof(big)));
    cJSON *json = whole();
    assert_string_equal(text_at(json, "_meta.request.headers.6.1..rem.0.0"), "mayday:denylist");
    assert_int_equal((int) number_at(json, "_meta.request.headers.6.1..rem.0.2"), 0);
    assert_int_equal((int) number_at(json, "_meta.request.headers.6.1..rem.0.3"), 10);
    assert_int_equal((int) number_at(json, "_meta.request.headers.5.1..rem.0.2"), 43);
    assert_string_equal(text_at(json, "_meta.request.query_string.1.1..rem.0.1"), "s");
    assert_null(at(json, "_meta.request.headers.0"));
    assert_string_equal(text_at(json, "_meta.request.url..rem.0.0"), "!limit");
    assert_int_equal((int) number_at(json, "_meta.request.url..rem.0.2"), 253);
    assert_int_equal((int) number_at(json, "_meta.request.url..len"), 24 + 600);
    assert_int_equal((int) number_at(json, "_meta.transaction..len"), 4 + 511);
}

static void
test_event_meta__filtered_wherever_it_is(void **state)
{
    (void) state;
    view_add_line(&view, 3, "login of caf\xc3\xa9, token=abc");
    cJSON *json = whole();
    assert_int_equal((int) number_at(json, "_meta.breadcrumbs.values.2.message..rem.0.2"), 22);
    assert_int_equal((int) number_at(json, "_meta.contexts.mayday.log_lines.1..rem.0.3"), 32);
}

static void
test_event_request__secret_in_the_path(void **state)
{
    (void) state;
    view_set_text(&view, PATH, "/cart;jsessionid=ABCDEF;v=2");
    cJSON *json = whole();
    assert_string_equal(text_at(json, "request.url"),
                        "https://shop.example.com/cart;jsessionid=[Filtered];v=2");
    assert_string_equal(text_at(json, "transaction"), "GET /cart;jsessionid=[Filtered];v=2");
    assert_int_equal((int) number_at(json, "_meta.request.url..rem.0.2"), 41);
}

static void
test_event_meta__cut_before_the_record(void **state)
{
    (void) state;
    view.flags[MAYDAY_FIELD_PATH] = MAYDAY_FIELD_CUT;
    cJSON *json = whole();
    assert_string_equal(text_at(json, "request.url"),
                        "https://shop.example.com/orders/1234/items...");
    assert_string_equal(text_at(json, "_meta.request.url..rem.0.0"), "!limit");
    assert_null(at(json, "_meta.request.url..len"));

    static char big[600];
    memset(big, 'x', sizeof(big));
    fixture_text(&view, MAYDAY_FIELD_PATH, mayday_slice(big, sizeof(big)));
    mayday_event_init(&event, &view, &fixture_settings);
    json = whole();
    assert_int_equal((int) number_at(json, "_meta.request.url..rem.0.3"),
                     (int) strlen(text_at(json, "request.url")));
    assert_null(at(json, "_meta.request.url..len"));
}

/* ---- what rules do ---- */

static void
test_event_replace__event_id_and_meta_stay(void **state)
{
    (void) state;
    mayday_event_replace(&event, MAYDAY_PART_EVENT_ID, cJSON_CreateString("mine"));
    mayday_event_replace(&event, MAYDAY_PART_META, NULL);
    cJSON *json = whole();
    assert_string_equal(text_at(json, "event_id"), "fc6d8c0c43fc4630ad850ee518f1b9d0");
    assert_non_null(at(json, "_meta"));
}

static void
test_event_replace__meta_follows_the_new_request(void **state)
{
    (void) state;
    assert_non_null(mayday_event_part(&event, MAYDAY_PART_META));
    mayday_event_replace(&event, MAYDAY_PART_REQUEST,
                         cJSON_Parse("{\"headers\":[[\"a\",\"x [Filtered]\"],[\"b\",\"c\"]]}"));
    cJSON *json = whole();
    assert_int_equal((int) number_at(json, "_meta.request.headers.0.1..rem.0.2"), 2);
    assert_null(at(json, "_meta.request.headers.6"));
}

static void
test_event_replace__null_removes(void **state)
{
    (void) state;
    mayday_event_replace(&event, MAYDAY_PART_REQUEST, NULL);
    mayday_event_replace(&event, MAYDAY_PART_EXTRA, cJSON_Parse("{\"a\":[1,{\"b\":null}]}"));
    cJSON *json = whole();
    assert_null(at(json, "request"));
    assert_null(at(json, "_meta"));
    assert_true(cJSON_IsNull(at(json, "extra.a.1.b")));
}

static void
test_event_replace__transaction_becomes_custom(void **state)
{
    (void) state;
    mayday_event_replace(&event, MAYDAY_PART_TRANSACTION, cJSON_CreateString("checkout"));
    cJSON *json = whole();
    assert_string_equal(text_at(json, "transaction"), "checkout");
    assert_string_equal(text_at(json, "transaction_info.source"), "custom");
}

static void
test_event_degrade__only_the_allow_list(void **state)
{
    (void) state;
    view_set_text(&view, USER_ID, "jane-id");
    view_set_text(&view, TRANSACTION, "checkout of jane");
    view_set_text(&view, CLIENT_ADDRESS, "203.0.113.7");
    event.suppressed = 3;
    mayday_event_replace(&event, MAYDAY_PART_EXTRA, cJSON_Parse("{\"half\":\"done\"}"));
    mayday_event_degrade(&event, "rules.lua:12: attempt to index a nil value");
    cJSON *json = whole();
    mayday_slice_t text = mayday_event_serialise(&event);
    const char *const gone[] = {"jane", "203.0.113.7", "Firefox", "acme", "half",
                                "caf",  "connect()",   "headers", "/1234"};
    for (size_t i = 0; i < MAYDAY_COUNT(gone); i++) {
        assert_true(mayday_slice_find(text, mayday_slice_str(gone[i]), 0) == SIZE_MAX);
    }
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(at(json, "tags"),
                                                                              "mayday.rule_error")),
                        "rules.lua:12: attempt to index a nil value");
    assert_string_equal(text_at(json, "exception.values.0.value"),
                        "shop_backend refused connections (2 peers tried)");
    assert_string_equal(text_at(json, "transaction"), "GET /orders/*/items");
    assert_string_equal(text_at(json, "release"), "shop@1.4.2");
    assert_string_equal(text_at(json, "contexts.trace.span_id"), "b7ad6b7169203331");
    assert_int_equal((int) number_at(json, "contexts.mayday.suppressed"), 3);
    assert_int_equal((int) number_at(json, "contexts.mayday.duration_ms"), 1234);
}

static void
test_event_degrade__log_text_does_not_name_the_event(void **state)
{
    (void) state;
    fixture_view(&view, MAYDAY_KIND_SERVER_INTERNAL);
    view_add_line(&view, 3, "cannot serve the page of jane");
    mayday_event_degrade(&event, "rules.lua:1: boom");
    assert_string_equal(text_at(whole(), "exception.values.0.value"),
                        "500 while serving GET /orders/*/items");
}

/* ---- filters ---- */

#define PART_BIT(part) (UINT32_C(1) << MAYDAY_PART_##part)

/* Adds one to a count for each part, and a mark to its text. */
static void
count_filter(const void *ctx, mayday_event_t *e, mayday_part_t part)
{
    int *counts = *(int *const *) ctx;

    counts[part]++;
    if (cJSON_IsString(e->parts[part])) {
        char text[128];

        snprintf(text, sizeof(text), "%s+", e->parts[part]->valuestring);
        e->parts[part] = cJSON_CreateString(text);
    }
}

static void
test_event_defer__runs_once_when_a_part_is_built(void **state)
{
    int counts[MAYDAY_PART_MAX] = {0}, *ctx = counts;

    (void) state;
    (void) mayday_event_part(&event, MAYDAY_PART_SERVER_NAME);
    mayday_event_defer(&event, count_filter, &ctx,
                       PART_BIT(SERVER_NAME) | PART_BIT(TRANSACTION) | PART_BIT(TAGS));
    assert_int_equal(counts[MAYDAY_PART_SERVER_NAME], 1);
    assert_int_equal(counts[MAYDAY_PART_TRANSACTION], 0);
    (void) whole();
    cJSON *json = whole();
    assert_string_equal(text_at(json, "server_name"), "web-1+");
    assert_string_equal(text_at(json, "transaction"), "GET /orders/*/items+");
    assert_int_equal(counts[MAYDAY_PART_TRANSACTION], 1);
    assert_int_equal(counts[MAYDAY_PART_TAGS], 1);
    assert_int_equal(counts[MAYDAY_PART_REQUEST], 0);
}

static void
test_event_defer__what_is_replaced_first_never_passes(void **state)
{
    int counts[MAYDAY_PART_MAX] = {0}, *ctx = counts;

    (void) state;
    mayday_event_defer(&event, count_filter, &ctx,
                       PART_BIT(TRANSACTION) | PART_BIT(FINGERPRINT) | PART_BIT(EVENT_ID) |
                           PART_BIT(META));
    mayday_event_replace(&event, MAYDAY_PART_TRANSACTION, cJSON_CreateString("mine"));
    mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT, NULL); /* the default does */
    cJSON *json = whole();
    assert_string_equal(text_at(json, "transaction"), "mine");
    assert_int_equal(counts[MAYDAY_PART_TRANSACTION], 0);
    assert_int_equal(counts[MAYDAY_PART_FINGERPRINT], 1);
    assert_int_equal(counts[MAYDAY_PART_EVENT_ID], 0);
    assert_int_equal(counts[MAYDAY_PART_META], 0);
}

static void
test_event_defer__in_order_and_more_than_there_is_room_for(void **state)
{
    int counts[MAYDAY_PART_MAX] = {0}, *ctx = counts;

    (void) state;
    for (int i = 0; i < MAYDAY_EVENT_FILTERS_MAX + 2; i++) {
        mayday_event_defer(&event, count_filter, &ctx, PART_BIT(TRANSACTION));
    }
    assert_int_equal(counts[MAYDAY_PART_TRANSACTION], MAYDAY_EVENT_FILTERS_MAX + 2);
    assert_string_equal(text_at(whole(), "transaction"), "GET /orders/*/items++++++");
}

static void
test_event_defer__a_degraded_event_has_no_filters(void **state)
{
    int counts[MAYDAY_PART_MAX] = {0}, *ctx = counts;

    (void) state;
    mayday_event_defer(&event, count_filter, &ctx, UINT32_MAX);
    mayday_event_degrade(&event, "rules.lua:1");
    (void) mayday_event_serialise(&event);
    assert_int_equal(counts[MAYDAY_PART_TRANSACTION], 0);
}

static void
test_event_remark__by_text_and_in_copies(void **state)
{
    static const mayday_remark_t remarks[] = {{"mayday:ip", 's', 0, 4}, {"mayday:mac", 'm', 5, 7}};
    cJSON *text = cJSON_CreateString("[ip] ** [Filtered]");

    (void) state;
    mayday_event_remark(&event, text->valuestring, 30, remarks, 2);
    event.parts[MAYDAY_PART_TRANSACTION] = text;
    event.built |= PART_BIT(TRANSACTION);
    mayday_event_replace(&event, MAYDAY_PART_EXTRA,
                         cJSON_Parse("{\"copy\":\"[ip] ** [Filtered]\",\"other\":\"[ip] **\"}"));
    cJSON *json = whole();
    assert_string_equal(cJSON_PrintUnformatted(at(json, "_meta.transaction")),
                        "{\"\":{\"rem\":[[\"mayday:ip\",\"s\",0,4],[\"mayday:mac\",\"m\",5,7],"
                        "[\"mayday:denylist\",\"s\",8,18]],\"len\":30}}");
    assert_int_equal((int) number_at(json, "_meta.extra.copy..len"), 30);
    assert_null(at(json, "_meta.extra.other"));
}

static void
test_event_remark__is_bounded(void **state)
{
    static const mayday_remark_t remark = {"mayday:ip", 's', 0, 4};
    cJSON *list = cJSON_CreateArray();
    int told = 0;

    (void) state;
    for (int i = 0; i < 1000; i++) {
        cJSON *text = cJSON_CreateString("[ip]");

        cJSON_AddItemToArray(list, text);
        mayday_event_remark(&event, text->valuestring, 9, &remark, 1);
    }
    event.parts[MAYDAY_PART_EXTRA] = cJSON_CreateObject();
    event.built |= PART_BIT(EXTRA);
    cJSON_AddItemToObject(event.parts[MAYDAY_PART_EXTRA], "list", list);
    cJSON *note;
    cJSON *json = whole();
    cJSON_ArrayForEach(note, at(json, "_meta.extra.list"))
    {
        told++;
    }
    assert_int_equal(told, 128);
}

static void
test_event_removed__only_what_is_null(void **state)
{
    (void) state;
    mayday_event_removed(&event, "mayday:ip", (const char *const[]){"extra", "a", NULL});
    mayday_event_removed(&event, "mayday:ip", (const char *const[]){"extra", "b", NULL});
    mayday_event_replace(&event, MAYDAY_PART_EXTRA, cJSON_Parse("{\"a\":null,\"b\":\"x\"}"));
    cJSON *json = whole();
    assert_string_equal(text_at(json, "_meta.extra.a..rem.0.1"), "x");
    assert_null(at(json, "_meta.extra.b"));
}

/* ---- writing ---- */

static void
assert_extra(cJSON *extra, const char *expected)
{
    char text[512];

    mayday_event_replace(&event, MAYDAY_PART_EXTRA, extra);
    mayday_slice_t json = mayday_event_serialise(&event);
    snprintf(text, sizeof(text), "\"extra\":%s,\"sdk\"", expected);
    assert_true(mayday_slice_find(json, mayday_slice_str(text), 0) != SIZE_MAX);
}

static void
test_event_serialise__numbers(void **state)
{
    const double numbers[] = {0, -1, 42, 1.5, -0.25, 9007199254740992.0, 1e300, 0.1};
    cJSON *array = cJSON_CreateDoubleArray(numbers, (int) MAYDAY_COUNT(numbers));

    (void) state;
    cJSON_AddItemToArray(array, cJSON_CreateNumber((double) INFINITY));
    cJSON_AddItemToArray(array, cJSON_CreateNumber((double) NAN));
    assert_extra(array, "[0,-1,42,1.5,-0.25,9007199254740992,1.0000000000000001e+300,"
                        "0.10000000000000001,null,null]");
}

static void
test_event_serialise__strings(void **state)
{
    cJSON *object = cJSON_CreateObject();

    (void) state;
    cJSON_AddStringToObject(object, "k\"\n", "\x01\x1f \x7f\\\r\t long enough for a word \" of it");
    cJSON_AddStringToObject(object, "", "caf\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x82\xac");
    assert_extra(object, "{\"k\\\"\\n\":\"\\u0001\\u001f \x7f\\\\\\r\\t long enough for a word "
                         "\\\" of it\",\"\":\"caf\xc3\xa9 \xf0\x9f\x98\x80 \xe2\x82\xac\"}");
}

/* Every byte, at every place of a word: escaped or as it is, and read back the same. */
static void
test_event_serialise__every_byte(void **state)
{
    (void) state;
    for (int byte = 1; byte < 0x80; byte++) {
        for (size_t at_byte = 0; at_byte < 9; at_byte++) {
            char text[] = "abcdefghi";
            text[at_byte] = (char) byte;
            mayday_event_replace(&event, MAYDAY_PART_EXTRA, cJSON_CreateString(text));
            mayday_slice_t json = mayday_event_serialise(&event);
            cJSON *parsed = cJSON_ParseWithLength(json.data, json.len);
            assert_string_equal(text_at(parsed, "extra"), text);
            mayday_event_memory_end();
            mayday_event_memory_begin();
            mayday_event_init(&event, &view, &fixture_settings);
        }
    }
}

static void
test_event_serialise__too_deep(void **state)
{
    cJSON *outer = cJSON_CreateArray(), *inner = outer;

    (void) state;
    for (int i = 0; i < 200; i++) {
        cJSON *next = cJSON_CreateArray();
        cJSON_AddItemToArray(inner, next);
        inner = next;
    }
    mayday_event_replace(&event, MAYDAY_PART_EXTRA, outer);
    mayday_slice_t json = mayday_event_serialise(&event);
    assert_true(mayday_slice_find(json, MAYDAY_SLICE("[[null]]"), 0) != SIZE_MAX);
    assert_non_null(cJSON_ParseWithLength(json.data, json.len));
}

/* ---- trace ---- */

static void
assert_trace(const char *expected)
{
    mayday_slice_t trace = mayday_event_trace(&event);

    assert_non_null(trace.data);
    assert_string_equal(trace.data, expected);
}

static void
test_event_trace__none(void **state)
{
    (void) state;
    view_set_text(&view, TRACE_ID, "short");
    assert_int_equal(mayday_event_trace(&event).len, 0);
}

static void
test_event_trace__own(void **state)
{
    (void) state;
    view_set_u64(&view, SAMPLED, 1);
    assert_trace(
        "{\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"environment\":\"production\","
        "\"release\":\"shop@1.4.2\",\"transaction\":\"GET /orders/*/items\","
        "\"sampled\":\"true\"}");
}

static void
test_event_trace__frozen_by_baggage(void **state)
{
    (void) state;
    view_set_text(&view, BAGGAGE,
                  "sentry-trace_id=0af7651916cd43dd8448eb211c80319c,"
                  " sentry-public_key=49d0f7386ad645858ae85020e393bef3;x=y,other=1,sentry-,"
                  "sentry-user_id=Am%C3%A9lie,sentry-user_id=twice");
    assert_trace("{\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\","
                 "\"public_key\":\"49d0f7386ad645858ae85020e393bef3\","
                 "\"user_id\":\"Am\xc3\xa9lie\"}");
}

static void
test_event_trace__baggage_of_another_trace(void **state)
{
    (void) state;
    view_set_text(&view, BAGGAGE, "sentry-trace_id=771a43a4192642f0b136d5159a501700");
    mayday_event_replace(&event, MAYDAY_PART_TRANSACTION, NULL);
    assert_trace(
        "{\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"environment\":\"production\","
        "\"release\":\"shop@1.4.2\"}");
}

/* ---- memory ---- */

static void
test_event_memory__bounded(void **state)
{
    size_t taken = 0;

    (void) state;
    for (size_t size = 1024 * 1024; size > 0; size /= 2) {
        while (cJSON_malloc(size) != NULL) {
            taken += size;
            assert_true(taken < 64 * 1024 * 1024);
        }
    }
    assert_true(taken > 8 * 1024 * 1024);
    assert_int_equal(mayday_event_serialise(&event).len, 0);
    mayday_event_memory_end();
    mayday_event_memory_begin();
    mayday_event_init(&event, &view, &fixture_settings);
    assert_true(mayday_event_serialise(&event).len > 0);
}

static void
test_event_memory__heap_when_not_bound(void **state)
{
    (void) state;
    mayday_event_memory_end();
    cJSON *item = cJSON_Parse("{\"a\":[1,2,\"three\"]}");
    mayday_event_memory_begin();
    cJSON_Delete(item); /* from the heap, so back to it; leaks are found by the sanitizer */
}

static int
open_output(void **state)
{
    const char *path = getenv("MAYDAY_EVENTS_OUT");

    (void) state;
    mayday_event_setup();
    if (path != NULL && (events_out = fopen(path, "w")) == NULL) {
        return -1;
    }
    return 0;
}

static int
close_output(void **state)
{
    (void) state;
    return events_out != NULL ? fclose(events_out) : 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_event_serialise__empty_record),
        TEST(test_event_serialise__unknown_kind),
        TEST(test_event_serialise__broken_utf8_and_nul),
        TEST(test_event_serialise__control_characters),
        TEST(test_event_serialise__everything_at_its_most),
        TEST(test_event_tags__odd_names_and_values),
        TEST(test_event_user__what_is_no_address),
        TEST(test_event_release__names_that_sentry_refuses),
        TEST(test_event_request__method_that_sentry_refuses),
        TEST(test_event_serialise__every_kind),
        TEST(test_event_request__lists_of_pairs),
        TEST(test_event_user__as_given),
        TEST(test_event_contexts__what_only_the_server_knows),
        TEST(test_event_contexts__suppressed_known_late),
        TEST(test_event_breadcrumbs__status_only_if_the_peer_answered),
        TEST(test_event_breadcrumbs__log_lines_are_scrubbed),
        TEST(test_event_meta__filtered_and_cut),
        TEST(test_event_meta__filtered_wherever_it_is),
        TEST(test_event_request__secret_in_the_path),
        TEST(test_event_meta__cut_before_the_record),
        TEST(test_event_replace__event_id_and_meta_stay),
        TEST(test_event_replace__meta_follows_the_new_request),
        TEST(test_event_replace__null_removes),
        TEST(test_event_defer__runs_once_when_a_part_is_built),
        TEST(test_event_defer__what_is_replaced_first_never_passes),
        TEST(test_event_defer__in_order_and_more_than_there_is_room_for),
        TEST(test_event_defer__a_degraded_event_has_no_filters),
        TEST(test_event_remark__by_text_and_in_copies),
        TEST(test_event_remark__is_bounded),
        TEST(test_event_removed__only_what_is_null),
        TEST(test_event_replace__transaction_becomes_custom),
        TEST(test_event_degrade__only_the_allow_list),
        TEST(test_event_degrade__log_text_does_not_name_the_event),
        TEST(test_event_serialise__numbers),
        TEST(test_event_serialise__strings),
        TEST(test_event_serialise__every_byte),
        TEST(test_event_serialise__too_deep),
        TEST(test_event_trace__none),
        TEST(test_event_trace__own),
        TEST(test_event_trace__frozen_by_baggage),
        TEST(test_event_trace__baggage_of_another_trace),
        TEST(test_event_memory__bounded),
        TEST(test_event_memory__heap_when_not_bound),
    };

    return cmocka_run_group_tests(tests, open_output, close_output);
}
