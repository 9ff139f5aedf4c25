/*
 * The token bucket and the servers' rate limits. The headers are those of the
 * SDKs' own tests and documentation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/agent/ratelimit.h"

#define NOW_US 1000000000ULL
#define S(seconds) ((uint64_t) (seconds) *1000000)

/* ---- bucket ---- */

static void
test_bucket_take__empty_refuses(void **state)
{
    mayday_rate_setting_t rate = {.events = 60, .period_s = 60, .burst = 2};
    mayday_bucket_t bucket = {0};

    (void) state;
    assert_true(mayday_bucket_take(&bucket, &rate, NOW_US));
    assert_true(mayday_bucket_take(&bucket, &rate, NOW_US));
    assert_false(mayday_bucket_take(&bucket, &rate, NOW_US));
    assert_false(mayday_bucket_take(&bucket, &rate, NOW_US + S(1) - 1000));
}

static void
test_bucket_take__refusals_do_not_delay_the_next(void **state)
{
    mayday_rate_setting_t rate = {.events = 1, .period_s = 1, .burst = 1};
    mayday_bucket_t bucket = {0};
    unsigned granted = 0;

    (void) state;
    for (uint64_t t = 0; t < S(10); t += 1000) {
        granted += mayday_bucket_take(&bucket, &rate, NOW_US + t);
    }
    assert_in_range(granted, 9, 10);
}

static void
test_bucket_take__clock_going_back_neither_fills_nor_locks(void **state)
{
    mayday_rate_setting_t rate = {.events = 1, .period_s = 1, .burst = 1};
    mayday_bucket_t bucket = {0};

    (void) state;
    assert_true(mayday_bucket_take(&bucket, &rate, NOW_US));
    assert_false(mayday_bucket_take(&bucket, &rate, NOW_US - S(100)));
    assert_true(mayday_bucket_take(&bucket, &rate, NOW_US - S(99)));
}

static void
test_bucket_take__long_pause_fills_to_burst_only(void **state)
{
    mayday_rate_setting_t rate = {.events = 1000, .period_s = 1, .burst = 3};
    mayday_bucket_t bucket = {0};

    (void) state;
    assert_true(mayday_bucket_take(&bucket, &rate, NOW_US));
    for (int i = 0; i < 3; i++) {
        assert_true(mayday_bucket_take(&bucket, &rate, NOW_US + S(3600)));
    }
    assert_false(mayday_bucket_take(&bucket, &rate, NOW_US + S(3600)));
}

static void
test_bucket_take__no_rate_always_grants(void **state)
{
    mayday_rate_setting_t rate = {0};
    mayday_bucket_t bucket = {0};

    (void) state;
    for (int i = 0; i < 1000; i++) {
        assert_true(mayday_bucket_take(&bucket, &rate, NOW_US));
    }
}

static void
test_bucket_next_us__is_when_take_grants(void **state)
{
    mayday_rate_setting_t rate = {.events = 3, .period_s = 1, .burst = 1};
    mayday_bucket_t bucket = {0};
    uint64_t next;

    (void) state;
    assert_int_equal(mayday_bucket_next_us(&bucket, &rate, NOW_US), NOW_US);
    assert_true(mayday_bucket_take(&bucket, &rate, NOW_US));
    next = mayday_bucket_next_us(&bucket, &rate, NOW_US);
    assert_in_range(next, NOW_US + 333333, NOW_US + 333335);
    assert_true(mayday_bucket_take(&bucket, &rate, next));
}

/* ---- limits ---- */

typedef struct {
    long status;
    const char *header;
    const char *retry_after;
    uint64_t dflt, error, session, internal; /* seconds; 0: not limited */
} limit_case_t;

static void
check(const limit_case_t *c)
{
    mayday_limits_t limits = {0};

#define UNTIL(seconds) ((seconds) == 0 ? 0 : NOW_US + S(seconds))
    mayday_limits_apply(&limits, c->status, mayday_slice_str(c->header),
                        mayday_slice_str(c->retry_after), NOW_US);
    assert_int_equal(limits.until_us[MAYDAY_LIMIT_DEFAULT], UNTIL(c->dflt));
    assert_int_equal(limits.until_us[MAYDAY_LIMIT_ERROR], UNTIL(c->error));
    assert_int_equal(limits.until_us[MAYDAY_LIMIT_SESSION], UNTIL(c->session));
    assert_int_equal(limits.until_us[MAYDAY_LIMIT_INTERNAL], UNTIL(c->internal));
}

static void
test_limits_apply__malformed_parts_are_skipped(void **state)
{
    static const limit_case_t cases[] = {
        {200, "", NULL, 0, 0, 0, 0},
        {200, "invalid", NULL, 0, 0, 0, 0},
        {200, ",,,", NULL, 0, 0, 0, 0},
        {200, ":::", NULL, 0, 0, 0, 0},
        {200, "42", NULL, 0, 0, 0, 0},
        {200, "-5:error:key", NULL, 0, 0, 0, 0},
        {200, "1e9:error:key", NULL, 0, 0, 0, 0},
        {200, ".:error:key", NULL, 0, 0, 0, 0},
        {200, "1.2.3:error:key", NULL, 0, 0, 0, 0},
        {200, "nan:error:key, 7:error:key", NULL, 0, 7, 0, 0},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        check(&cases[i]);
    }
}

static void
test_limits_apply__unknown_categories_are_ignored(void **state)
{
    static const limit_case_t cases[] = {
        {200, "86400:transaction;span:organization", NULL, 0, 0, 0, 0},
        {200, "4711:foobar;;transaction:organization", NULL, 0, 0, 0, 0},
        {429, "2700:metric_bucket:organization:quota_exceeded:custom", "2700", 0, 0, 0, 0},
        {429, "60:transaction:key, 2700:default;error;security:organization", "2700", 2700, 2700, 0,
         0},
        {200,
         "120:error:project:reason, 60:session:foo, 30::bar, 120:invalid:invalid, "
         "4711:foo;bar;baz;security:project",
         NULL, 30, 120, 60, 30},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        check(&cases[i]);
    }
}

static void
test_limits_apply__no_category_means_all(void **state)
{
    static const limit_case_t cases[] = {
        {200, "42::organization, invalid, 4711:foobar;transaction;security:project", NULL, 42, 42,
         42, 42},
        {429, "60::organization, 2700::organization", "2700", 2700, 2700, 2700, 2700},
        {200, "10:", NULL, 10, 10, 10, 10},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        check(&cases[i]);
    }
}

static void
test_limits_apply__seconds_are_bounded_and_rounded_up(void **state)
{
    static const limit_case_t cases[] = {
        {200, "999999999999999:error::", NULL, 0, 86400, 0, 0},
        {200, "99999999999999999999999999999999999999:error::", NULL, 0, 86400, 0, 0},
        {200, " 1.5 : error : key ", NULL, 0, 2, 0, 0},
        {200, "2.0:error:key", NULL, 0, 2, 0, 0},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        check(&cases[i]);
    }
}

static void
test_limits_apply__retry_after_counts_only_for_429(void **state)
{
    static const limit_case_t cases[] = {
        {200, NULL, "4", 0, 0, 0, 0},
        {503, NULL, "4", 0, 0, 0, 0},
        {429, NULL, "4", 4, 4, 4, 4},
        {429, "invalid", "4", 4, 4, 4, 4},
        {429, NULL, NULL, 60, 60, 60, 60},
        {429, NULL, "Wed, 21 Oct 2026 07:28:00 GMT", 60, 60, 60, 60},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        check(&cases[i]);
    }
}

static void
test_limits_apply__longer_limit_stays(void **state)
{
    mayday_limits_t limits = {0};

    (void) state;
    mayday_limits_apply(&limits, 200, MAYDAY_SLICE("100:error:key"), mayday_slice(NULL, 0), NOW_US);
    mayday_limits_apply(&limits, 429, mayday_slice(NULL, 0), MAYDAY_SLICE("10"), NOW_US);
    assert_int_equal(limits.until_us[MAYDAY_LIMIT_ERROR], NOW_US + S(100));
    assert_int_equal(limits.until_us[MAYDAY_LIMIT_INTERNAL], NOW_US + S(10));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket_take__empty_refuses),
        cmocka_unit_test(test_bucket_take__refusals_do_not_delay_the_next),
        cmocka_unit_test(test_bucket_take__clock_going_back_neither_fills_nor_locks),
        cmocka_unit_test(test_bucket_take__long_pause_fills_to_burst_only),
        cmocka_unit_test(test_bucket_take__no_rate_always_grants),
        cmocka_unit_test(test_bucket_next_us__is_when_take_grants),
        cmocka_unit_test(test_limits_apply__malformed_parts_are_skipped),
        cmocka_unit_test(test_limits_apply__unknown_categories_are_ignored),
        cmocka_unit_test(test_limits_apply__no_category_means_all),
        cmocka_unit_test(test_limits_apply__seconds_are_bounded_and_rounded_up),
        cmocka_unit_test(test_limits_apply__retry_after_counts_only_for_429),
        cmocka_unit_test(test_limits_apply__longer_limit_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
