/*
 * Events from JSON: hostile JSON first, then that what went out comes back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "event_fixture.h"

static mayday_event_t event;
static mayday_record_view_t view;

static mayday_rc_t
read_json(const char *text)
{
    return mayday_event_from_json(&event, &view, &fixture_settings, cJSON_Parse(text));
}

static void
assert_slice(mayday_slice_t slice, const char *wanted)
{
    char text[512];

    snprintf(text, sizeof(text), "%.*s", (int) slice.len, slice.data == NULL ? "" : slice.data);
    assert_string_equal(text, wanted);
}

static void
test_event_from_json__not_an_event(void **state)
{
    static const char *const wrong[] = {
        "[]", "5", "\"event\"", "null", "{}", "{\"error\":\"x\"}", "{\"tags\":null}", "not JSON"};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(wrong); i++) {
        mayday_event_memory_begin();
        if (read_json(wrong[i]) != MAYDAY_INVALID) {
            fail_msg("taken: %s", wrong[i]);
        }
        mayday_event_memory_end();
    }
}

/* Nothing but what is right is taken over, and nothing else breaks anything. */
static void
test_event_from_json__wrong_types(void **state)
{
    (void) state;
    mayday_event_memory_begin();
    assert_int_equal(
        read_json("{\"event_id\":\"zz\",\"timestamp\":\"soon\",\"tags\":[1],\"request\":7,"
                  "\"breadcrumbs\":{\"values\":[5,{\"category\":\"nginx.error_log\"},"
                  "{\"category\":\"nginx.error_log\",\"message\":[]}]},"
                  "\"contexts\":{\"response\":{\"status_code\":1e9},\"mayday\":{\"kind\":\"x\","
                  "\"duration_ms\":-4,\"suppressed\":\"many\",\"upstream\":{},"
                  "\"attempts\":[null,\"a\",{\"connect_ms\":1e300,\"status_code\":-5,"
                  "\"peer\":9}],\"log_lines\":[4]}}}"),
        MAYDAY_OK);
    assert_int_equal(mayday_view_u64(&view, KIND), MAYDAY_KIND_MAX);
    assert_int_equal(mayday_view_u64(&view, STATUS), 0);
    assert_int_equal(mayday_view_u64(&view, TIME_US), 0);
    assert_false(mayday_view_has(&view, DURATION_US));
    assert_false(mayday_view_has(&view, UPSTREAM));
    assert_false(mayday_view_has(&view, METHOD));
    assert_int_equal(event.suppressed, 0);
    assert_int_equal(view.attempt_count, 1);
    assert_int_equal(view.attempts[0].timing.connect_ms, -1);
    assert_int_equal(view.attempts[0].timing.status, 0);
    assert_int_equal(view.log_line_count, 0);
    mayday_event_memory_end();
}

static void
test_event_from_json__bounds(void **state)
{
    char *text = calloc(1, 131072), id[33];
    size_t len;

    (void) state;
    assert_non_null(text);
    len = (size_t) sprintf(text, "{\"contexts\":{\"mayday\":{\"attempts\":[{}");
    for (int i = 0; i < 100; i++) {
        len += (size_t) sprintf(text + len, ",{}");
    }
    len += (size_t) sprintf(text + len, "]}},\"breadcrumbs\":{\"values\":[{}");
    for (int i = 0; i < 100; i++) {
        len +=
            (size_t) sprintf(text + len, ",{\"category\":\"httpd.error_log\",\"message\":\"m\"}");
    }
    len += (size_t) sprintf(text + len, "]},\"request\":{\"url\":\"http://a/");
    memset(text + len, 'p', 60000);
    strcpy(text + len + 60000, "\"}}");
    mayday_event_memory_begin();
    assert_int_equal(read_json(text), MAYDAY_OK);
    assert_int_equal(view.attempt_count, MAYDAY_VIEW_ATTEMPTS_MAX);
    assert_int_equal(view.log_line_count, MAYDAY_VIEW_LOG_LINES_MAX);
    assert_int_equal(mayday_view_text(&view, PATH).len, MAYDAY_FIELD_MAX_PATH);
    mayday_event_id(&event, id);
    assert_string_equal(id, "00000000000000000000000000000000");
    mayday_event_memory_end();
    free(text);
}

static void
test_event_from_json__little(void **state)
{
    (void) state;
    mayday_event_memory_begin();
    assert_int_equal(
        read_json("{\"tags\":{\"mayday.kind\":\"limited\",\"http.status_code\":\"429\"},"
                  "\"timestamp\":1795352400.5,\"sample\":1,"
                  "\"request\":{\"url\":\"/bare/path?q=1#f\"},"
                  "\"contexts\":{\"mayday\":{\"log_lines\":[\"limiting requests\"]}}}"),
        MAYDAY_OK);
    assert_int_equal(mayday_view_u64(&view, KIND), MAYDAY_KIND_LIMITED);
    assert_int_equal(mayday_view_u64(&view, STATUS), 429);
    assert_true(mayday_view_u64(&view, TIME_US) == 1795352400500000u);
    assert_slice(mayday_view_text(&view, PATH), "/bare/path");
    assert_int_equal(view.log_line_count, 1);
    assert_int_equal(view.log_lines[0].info.level, 3);
    assert_slice(view.log_lines[0].text, "limiting requests");
    assert_null(mayday_event_part(&event, MAYDAY_PART_EXCEPTION));
    mayday_event_memory_end();
}

/* An event of each kind, written, read, and written again; and it groups as it did. */
static void
test_event_from_json__there_and_back(void **state)
{
    static const mayday_field_t numbers[] = {MAYDAY_FIELD_KIND, MAYDAY_FIELD_STATUS,
                                             MAYDAY_FIELD_TIME_US};
    static const mayday_field_t texts[] = {MAYDAY_FIELD_EVENT_ID, MAYDAY_FIELD_METHOD,
                                           MAYDAY_FIELD_PATH, MAYDAY_FIELD_UPSTREAM};
    mayday_record_view_t *old_view = calloc(1, sizeof(*old_view));
    char *json = NULL;

    (void) state;
    assert_non_null(old_view);
    for (unsigned kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        uint8_t old_issue[MAYDAY_HASH_BYTES], issue[MAYDAY_HASH_BYTES];
        mayday_slice_t text;
        mayday_event_t old;

        mayday_event_memory_begin();
        fixture_view(old_view, (mayday_kind_t) kind);
        mayday_event_init(&old, old_view, &fixture_settings);
        old.suppressed = 41;
        mayday_event_issue(&old, old_issue);
        text = mayday_event_serialise(&old);
        json = strndup(text.data, text.len);
        mayday_event_memory_end();

        mayday_event_memory_begin();
        assert_int_equal(read_json(json), MAYDAY_OK);
        for (size_t i = 0; i < MAYDAY_COUNT(numbers); i++) {
            assert_true(view.u64[numbers[i]] == old_view->u64[numbers[i]]);
        }
        for (size_t i = 0; i < MAYDAY_COUNT(texts); i++) {
            assert_true(mayday_slice_eq(view.text[texts[i]], old_view->text[texts[i]]) ||
                        old_view->text[texts[i]].len == 0);
        }
        assert_int_equal(mayday_view_u64(&view, DURATION_US), 1234000); /* sent as milliseconds */
        assert_int_equal(event.suppressed, 41);
        assert_int_equal(view.attempt_count, old_view->attempt_count);
        for (size_t i = 0; i < view.attempt_count; i++) {
            assert_true(mayday_slice_eq(view.attempts[i].peer, old_view->attempts[i].peer));
            assert_memory_equal(&view.attempts[i].timing, &old_view->attempts[i].timing,
                                sizeof(view.attempts[i].timing));
        }
        assert_int_equal(view.log_line_count, old_view->log_line_count);
        for (size_t i = 0; i < view.log_line_count; i++) {
            assert_true(mayday_slice_eq(view.log_lines[i].text, old_view->log_lines[i].text));
            assert_int_equal(view.log_lines[i].info.level, old_view->log_lines[i].info.level);
        }
        mayday_event_issue(&event, issue);
        assert_memory_equal(issue, old_issue, sizeof(issue));
        text = mayday_event_serialise(&event);
        assert_true(cJSON_Compare(cJSON_Parse(json), cJSON_Parse(text.data), true));
        mayday_event_memory_end();
        free(json);
    }
    free(old_view);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_from_json__not_an_event),
        cmocka_unit_test(test_event_from_json__wrong_types),
        cmocka_unit_test(test_event_from_json__bounds),
        cmocka_unit_test(test_event_from_json__little),
        cmocka_unit_test(test_event_from_json__there_and_back),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
