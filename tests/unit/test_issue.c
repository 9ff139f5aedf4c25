/*
 * What groups and what names: fingerprints, hashes, titles.
 */
#include <stdio.h>

#include "tests/unit/event_fixture.h"

static mayday_record_view_t view;
static mayday_event_t event;

typedef struct {
    uint8_t bytes[MAYDAY_HASH_BYTES];
} hash_t;

static int
setup(void **state)
{
    (void) state;
    mayday_event_memory_begin();
    fixture_view(&view, MAYDAY_KIND_UPSTREAM_READ_TIMEOUT);
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

static hash_t
issue(void)
{
    hash_t hash;

    mayday_event_issue(&event, hash.bytes);
    return hash;
}

static hash_t
issue_of(mayday_kind_t kind)
{
    fixture_view(&view, kind);
    mayday_event_init(&event, &view, &fixture_settings);
    return issue();
}

static bool
same(hash_t a, hash_t b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

static void
set_fingerprint(const char *json)
{
    mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT, cJSON_Parse(json));
}

static void
assert_fingerprint(const char *expected)
{
    char *json = cJSON_PrintUnformatted(mayday_event_part(&event, MAYDAY_PART_FINGERPRINT));

    assert_non_null(json);
    assert_string_equal(json, expected);
}

/* ---- a rule's fingerprint ---- */

static void
test_event_issue__unusable_fingerprint_is_the_default(void **state)
{
    static const char *const unusable[] = {"[]", "{}", "\"x\"", "null", "7", "[null,{},[1]]"};

    (void) state;
    hash_t expected = issue();
    for (size_t i = 0; i < MAYDAY_COUNT(unusable); i++) {
        set_fingerprint(unusable[i]);
        assert_true(same(issue(), expected));
        assert_fingerprint("[\"mayday\",\"upstream_read_timeout\",\"504\",\"GET\","
                           "\"/orders/*/items\"]");
    }
    mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT, NULL);
    assert_true(same(issue(), expected));
}

static void
test_event_issue__entries_are_told_apart(void **state)
{
    (void) state;
    set_fingerprint("[\"a\",\"b\"]");
    hash_t two = issue();
    set_fingerprint("[\"ab\"]");
    assert_false(same(issue(), two));
    set_fingerprint("[\"a\",\"b\",\"\"]");
    assert_false(same(issue(), two));
    set_fingerprint("[\"b\",\"a\"]");
    assert_false(same(issue(), two));
    set_fingerprint("[\"a\",\"b\"]");
    assert_true(same(issue(), two));
}

static void
test_event_issue__default_is_expanded(void **state)
{
    (void) state;
    hash_t expected = issue();
    set_fingerprint("[\"{{ default }}\"]");
    assert_true(same(issue(), expected));
    set_fingerprint("[\"{{default}}\",\"acme\",3,true]");
    assert_false(same(issue(), expected));
    assert_fingerprint("[\"mayday\",\"upstream_read_timeout\",\"504\",\"GET\","
                       "\"/orders/*/items\",\"acme\",\"3\",\"true\"]");
}

static void
assert_variable(const char *variable, const char *value)
{
    char json[512];

    snprintf(json, sizeof(json), "[\"%s\"]", variable);
    set_fingerprint(json);
    hash_t with_variable = issue();
    assert_fingerprint(json);
    snprintf(json, sizeof(json), "[\"%s\"]", value);
    set_fingerprint(json);
    assert_true(same(issue(), with_variable));
}

static void
test_event_issue__variables(void **state)
{
    (void) state;
    assert_variable("{{ transaction }}", "GET /orders/*/items");
    assert_variable("{{level}}", "error");
    assert_variable("{{ logger }}", "mayday.nginx");
    assert_variable("{{ type }}", "UpstreamReadTimeout");
    assert_variable("{{ error.type }}", "UpstreamReadTimeout");
    assert_variable("{{ value }}", "shop_backend did not answer in time (2 peers tried)");
    assert_variable("{{ message }}", "shop_backend did not answer in time (2 peers tried)");
    assert_variable("{{ tags.tenant }}", "acme");
    assert_variable("{{ tags.none }}", "<no-value-for-tag-none>");
    assert_variable("{{ function }}", "<no-function>");
    assert_variable("{{ whatever }}", "{{ whatever }}");
    assert_variable("{{ a b }}", "{{ a b }}");
    assert_variable("x {{ level }}", "x {{ level }}");
    assert_variable("{{}}", "{{}}");
    assert_variable("{{ }}", "{{ }}");
    mayday_event_replace(&event, MAYDAY_PART_TRANSACTION, NULL);
    assert_variable("{{ transaction }}", "<no-transaction>");
}

static void
test_event_issue__variables_of_what_rules_set(void **state)
{
    (void) state;
    mayday_event_replace(&event, MAYDAY_PART_TAGS, cJSON_Parse("{\"n\":7,\"b\":true,\"o\":{}}"));
    assert_variable("{{ tags.n }}", "7");
    assert_variable("{{ tags.b }}", "true");
    assert_variable("{{ tags.o }}", "<no-value-for-tag-o>");
    mayday_event_replace(&event, MAYDAY_PART_MESSAGE, cJSON_Parse("\"m\""));
    assert_variable("{{ message }}", "m");
    mayday_event_replace(&event, MAYDAY_PART_MESSAGE, cJSON_Parse("{\"formatted\":\"f\"}"));
    assert_variable("{{ message }}", "f");
    mayday_event_replace(
        &event, MAYDAY_PART_EXCEPTION,
        cJSON_Parse("{\"values\":[{\"type\":\"T\",\"stacktrace\":{\"frames\":["
                    "{\"function\":\"main\"},{\"function\":\"pay\",\"module\":\"shop\","
                    "\"abs_path\":\"/srv/pay.c\",\"package\":\"libshop\",\"in_app\":true},"
                    "{\"function\":\"memcpy\"}]}}]}"));
    assert_variable("{{ function }}", "pay");
    assert_variable("{{ stack.function }}", "pay");
    assert_variable("{{ module }}", "shop");
    assert_variable("{{ package }}", "libshop");
    assert_variable("{{ path }}", "/srv/pay.c");
    assert_variable("{{ value }}", "<no-value>");
}

static void
test_event_issue__fingerprint_is_bounded(void **state)
{
    cJSON *entries = cJSON_CreateArray();
    char text[2000];
    const cJSON *sent;

    (void) state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 100; i++) {
        cJSON_AddItemToArray(entries, cJSON_CreateString(text));
    }
    mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT, entries);
    sent = mayday_event_part(&event, MAYDAY_PART_FINGERPRINT);
    assert_int_equal(cJSON_GetArraySize(sent), 32);
    assert_int_equal(strlen(sent->child->valuestring), 512);
}

/* ---- the default ---- */

static void
test_event_issue__hash_is_that_of_the_part(void **state)
{
    (void) state;
    for (int kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        hash_t from_record = issue_of((mayday_kind_t) kind);
        mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT,
                             mayday_event_part(&event, MAYDAY_PART_FINGERPRINT));
        assert_true(same(issue(), from_record));
    }
}

static void
test_event_issue__hash_is_that_of_the_part_for_hostile_text(void **state)
{
    static char path[MAYDAY_FIELD_MAX_PATH];

    (void) state;
    memset(path, '\xff', sizeof(path));
    fixture_text(&view, MAYDAY_FIELD_PATH, mayday_slice(path, sizeof(path)));
    view_set_text(&view, METHOD, "g\0t");
    hash_t from_record = issue();
    mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT,
                         mayday_event_part(&event, MAYDAY_PART_FINGERPRINT));
    assert_true(same(issue(), from_record));

    (void) issue_of(MAYDAY_KIND_UPSTREAM_REFUSED);
    view_set_text(&view, UPSTREAM, "a\0\xff");
    from_record = issue();
    mayday_event_replace(&event, MAYDAY_PART_FINGERPRINT,
                         mayday_event_part(&event, MAYDAY_PART_FINGERPRINT));
    assert_true(same(issue(), from_record));
}

static void
test_event_issue__nobody_there_is_one_issue(void **state)
{
    static const mayday_kind_t family[] = {
        MAYDAY_KIND_UPSTREAM_UNREACHABLE, MAYDAY_KIND_UPSTREAM_CONNECT_TIMEOUT,
        MAYDAY_KIND_UPSTREAM_TLS, MAYDAY_KIND_UPSTREAM_DNS, MAYDAY_KIND_UPSTREAM_UNAVAILABLE};

    (void) state;
    hash_t refused = issue_of(MAYDAY_KIND_UPSTREAM_REFUSED);
    for (size_t i = 0; i < MAYDAY_COUNT(family); i++) {
        assert_true(same(issue_of(family[i]), refused));
    }
    view_set_text(&view, PATH, "/elsewhere");
    view_set_text(&view, METHOD, "POST");
    assert_true(same(issue(), refused));
    view_set_text(&view, UPSTREAM, "other_backend");
    assert_false(same(issue(), refused));
}

static void
test_event_issue__others_by_kind_status_method_and_route(void **state)
{
    (void) state;
    hash_t first = issue();
    view_set_text(&view, PATH, "/orders/99/items");
    view_set_text(&view, UPSTREAM, "other_backend");
    assert_true(same(issue(), first));
    view_set_text(&view, PATH, "/carts/99/items");
    assert_false(same(issue(), first));
    view_set_text(&view, PATH, "/orders/1/items");
    view_set_text(&view, METHOD, "POST");
    assert_false(same(issue(), first));
    view_set_text(&view, METHOD, "GET");
    view_set_u64(&view, STATUS, 502);
    assert_false(same(issue(), first));
    view_set_u64(&view, STATUS, 504);
    assert_true(same(issue(), first));
    view_set_u64(&view, KIND, MAYDAY_KIND_UPSTREAM_CLOSED);
    assert_false(same(issue(), first));
}

/* ---- titles ---- */

static void
assert_title(const char *expected)
{
    char storage[MAYDAY_TITLE_SIZE];
    mayday_buf_t title;

    mayday_buf_init(&title, storage, sizeof(storage));
    mayday_event_init(&event, &view, &fixture_settings);
    mayday_event_title(&event, &title);
    assert_string_equal(storage, expected);
}

static void
test_event_title__each_kind(void **state)
{
    static const char *const titles[MAYDAY_KIND_MAX] = {
        [MAYDAY_KIND_UPSTREAM_REFUSED] =
            "UpstreamRefused: shop_backend refused connections (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_UNREACHABLE] =
            "UpstreamUnreachable: shop_backend cannot be reached (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_CONNECT_TIMEOUT] =
            "UpstreamConnectTimeout: shop_backend did not accept a connection in time "
            "(2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_TLS] =
            "UpstreamTLS: shop_backend failed the TLS handshake (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_DNS] = "UpstreamDNS: shop_backend could not be resolved",
        [MAYDAY_KIND_UPSTREAM_UNAVAILABLE] = "UpstreamUnavailable: shop_backend has no peer left",
        [MAYDAY_KIND_UPSTREAM_SEND_TIMEOUT] =
            "UpstreamSendTimeout: shop_backend did not take the request in time (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_READ_TIMEOUT] =
            "UpstreamReadTimeout: shop_backend did not answer in time (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_CLOSED] =
            "UpstreamClosed: shop_backend closed the connection before answering (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_TRUNCATED] =
            "UpstreamTruncated: shop_backend broke off in the middle of the response "
            "(2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_INVALID] =
            "UpstreamInvalid: shop_backend sent an invalid response (2 peers tried)",
        [MAYDAY_KIND_UPSTREAM_RESPONSE] = "UpstreamResponse: shop_backend answered 503",
        [MAYDAY_KIND_LIMITED] = "Limited: GET /orders/*/items refused on purpose with 503",
        [MAYDAY_KIND_SERVER_INTERNAL] = "ServerInternal: 500 while serving GET /orders/*/items",
        [MAYDAY_KIND_RETRIED] = "Retried: shop_backend: 10.0.0.4:8080 refused the connection; "
                                "after a retry the client got 200",
        [MAYDAY_KIND_CLIENT_CLOSED] = "ClientClosed: shop_backend was still working when the "
                                      "client left (2 peers tried)",
    };

    (void) state;
    for (int kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        fixture_view(&view, (mayday_kind_t) kind);
        assert_title(titles[kind]);
    }
}

static void
test_event_title__no_upstream_known(void **state)
{
    (void) state;
    fixture_request(&view, MAYDAY_KIND_UPSTREAM_DNS, 502);
    assert_title("UpstreamDNS: upstream could not be resolved");
    fixture_request(&view, MAYDAY_KIND_CLIENT_CLOSED, 499);
    assert_title("ClientClosed: GET /orders/*/items was still working when the client left");
}

static void
test_event_title__one_peer_many_times(void **state)
{
    (void) state;
    fixture_request(&view, MAYDAY_KIND_UPSTREAM_REFUSED, 502);
    view_add_attempt(&view, "10.0.0.4:8080", 0, -1, -1, -1);
    assert_title("UpstreamRefused: 10.0.0.4:8080 refused connections");
    view_add_attempt(&view, "10.0.0.4:8080", 0, -1, -1, -1);
    assert_title("UpstreamRefused: 10.0.0.4:8080 refused connections (tried 2 times)");
}

static void
test_event_title__retried_after_an_answer(void **state)
{
    (void) state;
    fixture_request(&view, MAYDAY_KIND_RETRIED, 201);
    view_set_text(&view, UPSTREAM, "shop_backend");
    view_add_attempt(&view, "10.0.0.4:8080", 503, 1, 2, 3);
    view_add_attempt(&view, "10.0.0.5:8080", 201, 1, 2, 3);
    assert_title("Retried: shop_backend: 10.0.0.4:8080 answered 503; "
                 "after a retry the client got 201");
}

static void
test_event_title__the_servers_own_words(void **state)
{
    static char line[600];

    (void) state;
    fixture_view(&view, MAYDAY_KIND_SERVER_INTERNAL);
    view_add_line(&view, 3, "open() \"/srv/x\" failed (13: Permission denied), token=abc");
    assert_title("ServerInternal: open() \"/srv/x\" failed (13: Permission denied), "
                 "token=[Filtered]");

    memset(line, 'x', sizeof(line) - 1);
    view.log_lines[0].text = mayday_slice_str(line);
    mayday_event_init(&event, &view, &fixture_settings);
    char storage[MAYDAY_TITLE_SIZE];
    mayday_buf_t value;
    mayday_buf_init(&value, storage, sizeof(storage));
    mayday_event_value(&event, &value);
    assert_int_equal(value.len, 243);
    assert_string_equal(storage + 240, "...");
}

static void
test_event_title__as_rules_left_it(void **state)
{
    char storage[MAYDAY_TITLE_SIZE];
    mayday_buf_t title;

    (void) state;
    mayday_event_replace(
        &event, MAYDAY_PART_EXCEPTION,
        cJSON_Parse("{\"values\":[{\"type\":\"A\"},{\"type\":\"B\",\"value\":\"c\"}]}"));
    mayday_buf_init(&title, storage, sizeof(storage));
    mayday_event_title(&event, &title);
    assert_string_equal(storage, "B: c");
    mayday_event_replace(&event, MAYDAY_PART_EXCEPTION, NULL);
    mayday_buf_init(&title, storage, sizeof(storage));
    mayday_event_title(&event, &title);
    assert_string_equal(storage, "Error");
}

static int
setup_group(void **state)
{
    (void) state;
    mayday_event_setup();
    return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_event_issue__unusable_fingerprint_is_the_default),
        TEST(test_event_issue__entries_are_told_apart),
        TEST(test_event_issue__default_is_expanded),
        TEST(test_event_issue__variables),
        TEST(test_event_issue__variables_of_what_rules_set),
        TEST(test_event_issue__fingerprint_is_bounded),
        TEST(test_event_issue__hash_is_that_of_the_part),
        TEST(test_event_issue__hash_is_that_of_the_part_for_hostile_text),
        TEST(test_event_issue__nobody_there_is_one_issue),
        TEST(test_event_issue__others_by_kind_status_method_and_route),
        TEST(test_event_title__each_kind),
        TEST(test_event_title__no_upstream_known),
        TEST(test_event_title__one_peer_many_times),
        TEST(test_event_title__retried_after_an_answer),
        TEST(test_event_title__the_servers_own_words),
        TEST(test_event_title__as_rules_left_it),
    };

    return cmocka_run_group_tests(tests, setup_group, NULL);
}
