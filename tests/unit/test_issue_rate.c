/*
 * The table of issues: bounded, by last use, and exact about what was only
 * counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/agent/issue_rate.h"

static mayday_issue_t *
get(mayday_issues_t *issues, uint64_t n)
{
    uint8_t hash[MAYDAY_HASH_BYTES] = {0};

    memcpy(hash, &n, sizeof(n));
    return mayday_issues_get(issues, hash);
}

static int
setup(void **state)
{
    *state = mayday_issues_new();
    assert_non_null(*state);
    return 0;
}

static int
teardown(void **state)
{
    mayday_issues_free(*state);
    return 0;
}

static void
test_issues_get__forgets_the_one_not_used_for_longest(void **state)
{
    mayday_issues_t *issues = *state;

    for (uint64_t i = 0; i < MAYDAY_ISSUES_MAX; i++) {
        get(issues, i)->suppressed = i + 1;
    }
    assert_int_equal(get(issues, 0)->suppressed, 1);
    get(issues, MAYDAY_ISSUES_MAX);
    assert_int_equal(get(issues, 0)->suppressed, 1);
    assert_int_equal(get(issues, 2)->suppressed, 3);
    assert_int_equal(get(issues, 1)->suppressed, 0);
}

static void
test_issues_get__stays_consistent_under_much_change(void **state)
{
    mayday_issues_t *issues = *state;
    uint64_t n = 1;

    for (unsigned i = 0; i < 300000; i++) {
        mayday_issue_t *issue;

        n = n * UINT64_C(6364136223846793005) + 1442695040888963407;
        issue = get(issues, n >> 51);
        assert_memory_equal(issue->hash, &(uint64_t){n >> 51}, sizeof(uint64_t));
    }
}

static void
test_issue_admit__counts_exactly_what_it_holds_back(void **state)
{
    mayday_rate_setting_t rate = {60, 60, 5};
    mayday_issue_t *issue = get(*state, 7);
    uint64_t suppressed, sent = 0, told = 0, now = 1000000;

    for (unsigned i = 0; i < 1000; i++) {
        if (mayday_issue_admit(issue, &rate, now, &suppressed)) {
            sent++;
            told += suppressed;
        }
        now += 10000;
    }
    assert_int_equal(sent + told + issue->suppressed, 1000);
    assert_in_range(sent, 14, 15); /* 5 at once, then one a second for 10 s */
}

static void
test_issue_admit__has_no_limit_where_none_is_set(void **state)
{
    mayday_rate_setting_t rate = {0, 1, 0};
    uint64_t suppressed;

    for (unsigned i = 0; i < 100; i++) {
        assert_true(mayday_issue_admit(get(*state, 7), &rate, 1000, &suppressed));
        assert_int_equal(suppressed, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_issues_get__forgets_the_one_not_used_for_longest),
        TEST(test_issues_get__stays_consistent_under_much_change),
        TEST(test_issue_admit__counts_exactly_what_it_holds_back),
        TEST(test_issue_admit__has_no_limit_where_none_is_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
