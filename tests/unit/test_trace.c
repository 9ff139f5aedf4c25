/* Trace context: what is taken over from a caller, what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/capture/trace.h"

#define TRACE "771a43a4192642f0b136d5159a501700"
#define SPAN "00f067aa0ba902b7"
#define TRACE_ZERO "00000000000000000000000000000000"
#define SPAN_ZERO "0000000000000000"

static mayday_ids_t ids;

static void
assert_continued(const char *sentry_trace, const char *traceparent, const char *trace_id,
                 const char *span_id, int sampled)
{
    uint8_t expected_trace[16], expected_span[8], none[8] = {0};
    mayday_trace_t trace;

    assert_int_equal(mayday_unhex(expected_trace, 16, mayday_slice_str(trace_id)), MAYDAY_OK);
    assert_int_equal(mayday_unhex(expected_span, 8, mayday_slice_str(span_id)), MAYDAY_OK);
    memset(&trace, 0xee, sizeof(trace));
    mayday_trace_continue(&trace, &ids, mayday_slice_str(sentry_trace),
                          mayday_slice_str(traceparent));
    assert_true(trace.has_parent);
    assert_memory_equal(trace.trace_id, expected_trace, 16);
    assert_memory_equal(trace.parent_span_id, expected_span, 8);
    assert_int_equal(trace.sampled, sampled);
    assert_memory_not_equal(trace.span_id, expected_span, 8);
    assert_memory_not_equal(trace.span_id, none, 8);
}

static void
assert_new(const char *sentry_trace, const char *traceparent)
{
    uint8_t given[16], none[16] = {0};
    mayday_trace_t trace;

    assert_int_equal(mayday_unhex(given, 16, MAYDAY_SLICE(TRACE)), MAYDAY_OK);
    memset(&trace, 0xee, sizeof(trace));
    mayday_trace_continue(&trace, &ids, mayday_slice_str(sentry_trace),
                          mayday_slice_str(traceparent));
    if (trace.has_parent) {
        fail_msg("was taken over: %s / %s", sentry_trace, traceparent);
    }
    assert_int_equal(trace.sampled, -1);
    assert_memory_not_equal(trace.trace_id, given, 16);
    assert_memory_not_equal(trace.trace_id, none, 16);
}

static void
test_continue__malformed_sentry_trace_is_a_new_trace(void **state)
{
    static const char *const headers[] = {
        "",
        " ",
        ",",
        "--",
        "-",
        TRACE,
        TRACE "-",
        TRACE "-1",
        "-" SPAN "-1",
        "-" SPAN,
        "2-" SPAN "-1",
        TRACE TRACE "-" SPAN "-1",
        TRACE "-a-1",
        TRACE "-" SPAN "-",
        TRACE "-" SPAN "-2",
        TRACE "-" SPAN "-11",
        TRACE "-" SPAN "-1-1",
        TRACE "-" SPAN "1",
        TRACE "_" SPAN "-1",
        TRACE "-" SPAN "_1",
        TRACE_ZERO "-" SPAN "-1",
        TRACE "-" SPAN_ZERO "-1",
        "771A43A4192642F0B136D5159A501700-" SPAN "-1",
        "x71a43a4192642f0b136d5159a501700-" SPAN "-1",
        "x," TRACE "-" SPAN "-1",
        TRACE "-" SPAN " -1",
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(headers); i++) {
        assert_new(headers[i], "");
    }
}

static void
test_continue__malformed_traceparent_is_a_new_trace(void **state)
{
    static const char *const headers[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-",
        "00-" TRACE "-" SPAN "-1",
        "ff-" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN "-01-extra",
        "01-" TRACE "-" SPAN "-01extra",
        "00-" TRACE_ZERO "-" SPAN "-01",
        "00-" TRACE "-" SPAN_ZERO "-01",
        "00-" TRACE "-" SPAN "-0g",
        "0x-" TRACE "-" SPAN "-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-771A43A4192642F0B136D5159A501700-" SPAN "-01",
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(headers); i++) {
        assert_new("", headers[i]);
    }
}

static void
test_continue__sentry_trace(void **state)
{
    (void) state;
    assert_continued(TRACE "-" SPAN "-1", "", TRACE, SPAN, 1);
    assert_continued(TRACE "-" SPAN "-0", "", TRACE, SPAN, 0);
    assert_continued(TRACE "-" SPAN, "", TRACE, SPAN, -1);
    assert_continued(" \t" TRACE "-" SPAN "-1\t ", "", TRACE, SPAN, 1);
    assert_continued("," TRACE "-" SPAN "-1", "", TRACE, SPAN, 1);
    assert_continued(" , ," TRACE "-" SPAN "-0, " TRACE "-" SPAN "-1", "", TRACE, SPAN, 0);
    assert_continued(TRACE "-" SPAN "-1," TRACE_ZERO "-" SPAN_ZERO "-0", "", TRACE, SPAN, 1);
}

static void
test_continue__traceparent_where_there_is_no_valid_sentry_trace(void **state)
{
    const char *other = "4bf92f3577b34da6a3ce929d0e0e4736";

    (void) state;
    assert_continued("", "00-" TRACE "-" SPAN "-01", TRACE, SPAN, 1);
    assert_continued("", "00-" TRACE "-" SPAN "-00", TRACE, SPAN, 0);
    assert_continued("", "00-" TRACE "-" SPAN "-03", TRACE, SPAN, 1);
    assert_continued("", "cc-" TRACE "-" SPAN "-01-what-the-future-will-be-like", TRACE, SPAN, 1);
    assert_continued("nonsense", "00-" TRACE "-" SPAN "-01", TRACE, SPAN, 1);
    assert_continued("4bf92f3577b34da6a3ce929d0e0e4736-" SPAN "-0", "00-" TRACE "-" SPAN "-01",
                     other, SPAN, 0);
    /* What a half-valid sentry-trace left behind does not shine through. */
    assert_continued("4bf92f3577b34da6a3ce929d0e0e4736-" SPAN "-9", "00-" TRACE "-" SPAN "-01",
                     TRACE, SPAN, 1);
}

static void
test_header__is_what_continue_reads(void **state)
{
    char header[MAYDAY_SENTRY_TRACE_SIZE];
    mayday_trace_t first, second;

    (void) state;
    mayday_trace_new(&first, &ids);
    for (int sampled = -1; sampled <= 1; sampled++) {
        first.sampled = (int8_t) sampled;
        mayday_trace_header(&first, header);
        assert_int_equal(strlen(header), sampled < 0 ? 49 : 51);
        mayday_trace_continue(&second, &ids, mayday_slice_str(header), MAYDAY_SLICE(""));
        assert_true(second.has_parent);
        assert_memory_equal(second.trace_id, first.trace_id, 16);
        assert_memory_equal(second.parent_span_id, first.span_id, 8);
        assert_int_equal(second.sampled, sampled);
    }
}

static void
assert_baggage(const char *header, const char *expected)
{
    char storage[512];
    mayday_buf_t out;

    mayday_buf_init(&out, storage, sizeof(storage));
    mayday_trace_baggage(mayday_slice_str(header), &out);
    assert_string_equal(storage, expected);
    assert_false(out.truncated);
}

static void
test_baggage__only_what_is_sentrys(void **state)
{
    (void) state;
    assert_baggage("", "");
    assert_baggage(",", "");
    assert_baggage(" , ,, ", "");
    assert_baggage("other-vendor-value-1=foo;bar;baz, other-vendor-value-2=foo;bar;", "");
    assert_baggage("other=1, sentry-trace_id=" TRACE ", sentry-sample_rate=0.01337,"
                   "\tsentry-user_id=Am%C3%A9lie , sentry-foo=bar, other-2=foo;bar;",
                   "sentry-trace_id=" TRACE ",sentry-sample_rate=0.01337,"
                   "sentry-user_id=Am%C3%A9lie,sentry-foo=bar");
    assert_baggage("xsentry-a=1,Sentry-b=2,sentry=3", "");
    assert_baggage("sentry-a=1\r\nX: y,sentry-b=\x80,sentry-c=3", "sentry-c=3");
}

static void
test_baggage__what_does_not_fit_is_left_out_whole(void **state)
{
    char storage[24];
    mayday_buf_t out;

    (void) state;
    mayday_buf_init(&out, storage, sizeof(storage));
    mayday_trace_baggage(MAYDAY_SLICE("sentry-a=1,sentry-long=123456,sentry-b=2"), &out);
    assert_string_equal(storage, "sentry-a=1,sentry-b=2");
    assert_true(out.truncated);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_continue__malformed_sentry_trace_is_a_new_trace),
        cmocka_unit_test(test_continue__malformed_traceparent_is_a_new_trace),
        cmocka_unit_test(test_continue__sentry_trace),
        cmocka_unit_test(test_continue__traceparent_where_there_is_no_valid_sentry_trace),
        cmocka_unit_test(test_header__is_what_continue_reads),
        cmocka_unit_test(test_baggage__only_what_is_sentrys),
        cmocka_unit_test(test_baggage__what_does_not_fit_is_left_out_whole),
    };

    mayday_ids_init(&ids);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
