/*
 * Envelopes: their bytes, and what becomes of the sampling context.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/event/envelope.h"

#define ID "fc6d8c0c43fc4630ad850ee518f1b9d0"
#define SENT_US 1795352400123456u
#define HEAD                                                                                       \
    "{\"event_id\":\"" ID "\",\"sdk\":{\"name\":\"mayday.nginx\",\"version\":\"" MAYDAY_VERSION    \
    "\"},\"sent_at\":\"2026-11-22T13:00:00.123456Z\""

static void
assert_envelope(const char *trace, const char *key, const char *expected)
{
    char out[1024];
    mayday_buf_t buf;

    mayday_buf_init(&buf, out, sizeof(out));
    mayday_envelope_event(&buf, ID, MAYDAY_SLICE("{\"a\":1}"), mayday_slice_str(trace),
                          mayday_slice_str(key), "mayday.nginx", SENT_US);
    assert_false(buf.truncated);
    assert_string_equal(out, expected);
}

#define ITEM                                                                                       \
    "\n{\"type\":\"event\",\"content_type\":\"application/json\",\"length\":7}\n{\"a\":1}\n"

static void
test_envelope_event__too_small(void **state)
{
    char out[40];
    mayday_buf_t buf;

    (void) state;
    mayday_buf_init(&buf, out, sizeof(out));
    mayday_envelope_event(&buf, ID, MAYDAY_SLICE("{}"), mayday_slice(NULL, 0), MAYDAY_SLICE("k"),
                          "mayday.nginx", SENT_US);
    assert_true(buf.truncated);
}

static void
test_envelope_event__without_trace(void **state)
{
    (void) state;
    assert_envelope("", "abc", HEAD "}" ITEM);
}

static void
test_envelope_event__trace_gets_the_key(void **state)
{
    (void) state;
    assert_envelope("{\"trace_id\":\"0a\"}", "abc",
                    HEAD ",\"trace\":{\"public_key\":\"abc\",\"trace_id\":\"0a\"}}" ITEM);
    assert_envelope("{}", "a\"\\b", HEAD ",\"trace\":{\"public_key\":\"a\\\"\\\\b\"}}" ITEM);
}

static void
test_envelope_event__frozen_trace_keeps_its_key(void **state)
{
    (void) state;
    assert_envelope("{\"trace_id\":\"0a\",\"public_key\":\"theirs\"}", "abc",
                    HEAD ",\"trace\":{\"trace_id\":\"0a\",\"public_key\":\"theirs\"}}" ITEM);
}

static void
test_envelope_event__a_value_that_looks_like_a_key(void **state)
{
    (void) state;
    assert_envelope("{\"transaction\":\"\\\"public_key\\\":\"}", "abc",
                    HEAD ",\"trace\":{\"public_key\":\"abc\","
                         "\"transaction\":\"\\\"public_key\\\":\"}}" ITEM);
}

static void
test_envelope_client_report__several(void **state)
{
    const mayday_discarded_t discarded[] = {{"queue_overflow", "error", 12},
                                            {"send_error", "error", 1}};
    char out[1024];
    mayday_buf_t buf;

    (void) state;
    mayday_buf_init(&buf, out, sizeof(out));
    mayday_envelope_client_report(&buf, discarded, 2, "mayday.httpd", SENT_US);
    assert_string_equal(out,
                        "{\"sdk\":{\"name\":\"mayday.httpd\",\"version\":\"" MAYDAY_VERSION
                        "\"},\"sent_at\":\"2026-11-22T13:00:00.123456Z\"}\n"
                        "{\"type\":\"client_report\"}\n"
                        "{\"timestamp\":\"2026-11-22T13:00:00.123456Z\",\"discarded_events\":["
                        "{\"reason\":\"queue_overflow\",\"category\":\"error\",\"quantity\":12},"
                        "{\"reason\":\"send_error\",\"category\":\"error\",\"quantity\":1}]}\n");
}

static void
assert_time(uint64_t time_us, const char *expected)
{
    char out[28];

    mayday_time_rfc3339(out, sizeof(out), time_us);
    assert_string_equal(out, expected);
}

static void
test_time_rfc3339__edges(void **state)
{
    char small[5];

    (void) state;
    assert_time(0, "1970-01-01T00:00:00.000000Z");
    assert_time(951782399999999u, "2000-02-28T23:59:59.999999Z");
    assert_time(951782400000000u, "2000-02-29T00:00:00.000000Z");
    assert_time(1709251199000000u, "2024-02-29T23:59:59.000000Z");
    assert_time(1704067199000001u, "2023-12-31T23:59:59.000001Z");
    assert_time(4107542400000000u, "2100-03-01T00:00:00.000000Z");
    assert_time(UINT64_MAX, "9999-12-31T23:59:59.999999Z");
    mayday_time_rfc3339(small, sizeof(small), 0);
    assert_string_equal(small, "1970");
    mayday_time_rfc3339(NULL, 0, 0);
}

static void
test_time_rfc3339__as_libc(void **state)
{
    (void) state;
    for (uint64_t day = 0; day < 60000; day += 13) {
        char expected[40], date[16];
        time_t seconds = (time_t) (day * 86400 + 3661);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        strftime(date, sizeof(date), "%Y-%m-%d", &tm);
        snprintf(expected, sizeof(expected), "%sT01:01:01.000000Z", date);
        assert_time((uint64_t) seconds * 1000000, expected);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope_event__too_small),
        cmocka_unit_test(test_envelope_event__without_trace),
        cmocka_unit_test(test_envelope_event__trace_gets_the_key),
        cmocka_unit_test(test_envelope_event__frozen_trace_keeps_its_key),
        cmocka_unit_test(test_envelope_event__a_value_that_looks_like_a_key),
        cmocka_unit_test(test_envelope_client_report__several),
        cmocka_unit_test(test_time_rfc3339__edges),
        cmocka_unit_test(test_time_rfc3339__as_libc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
