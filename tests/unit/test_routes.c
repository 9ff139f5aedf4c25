/*
 * Templates of routes: what is none, what fits, and which is first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/filter/routes.h"

static int
set_up(void **state)
{
    *state = mayday_templates_new();
    return *state == NULL;
}

static int
tear_down(void **state)
{
    mayday_templates_free(*state);
    return 0;
}

static void
add(void **state, const char *text)
{
    const char *wrong = mayday_templates_add(*state, mayday_slice_str(text));

    if (wrong != NULL) {
        fail_msg("%s %s", text, wrong);
    }
}

/* expected NULL: none fits. */
static void
assert_route(void **state, const char *path, const char *expected)
{
    mayday_slice_t found = mayday_templates_find(*state, mayday_slice_str(path));

    if (!mayday_slice_eq(found, mayday_slice_str(expected))) {
        fail_msg("%s: %.*s", path, (int) found.len, found.data == NULL ? "" : found.data);
    }
}

static void
test_templates_add__what_is_none(void **state)
{
    static const char *const bad[] = {"",      "users",  "//",     "/a//b",     "/{",
                                      "/{}",   "/{a",    "/a/{}x", "/{a}{b}",   "/**/a",
                                      "/a\tb", "/a\x7f", "/a/{/}", "/\xc3\xa4", "/x{a}y{b}"};
    char longest[MAYDAY_TEMPLATE_LEN_MAX + 1];

    for (size_t i = 0; i < MAYDAY_COUNT(bad); i++) {
        if (mayday_templates_add(*state, mayday_slice_str(bad[i])) == NULL) {
            fail_msg("%s", bad[i]);
        }
    }
    memset(longest, '/', sizeof(longest));
    for (size_t i = 1; i < sizeof(longest); i += 2) {
        longest[i] = 'a';
    }
    assert_non_null(mayday_templates_add(*state, mayday_slice(longest, sizeof(longest))));
    assert_null(mayday_templates_add(*state, mayday_slice(longest, sizeof(longest) - 1)));
    assert_route(state, "/", NULL);
}

static void
test_templates_add__as_many_as_there_is_room_for(void **state)
{
    char text[32];

    for (int i = 0; i < MAYDAY_TEMPLATES_MAX; i++) {
        snprintf(text, sizeof(text), "/t%d", i);
        add(state, text);
    }
    assert_non_null(mayday_templates_add(*state, MAYDAY_SLICE("/more")));
    assert_route(state, "/t255", "/t255");
    assert_route(state, "/more", NULL);
}

static void
test_templates_find__none_there(void **state)
{
    assert_route(state, "", NULL);
    assert_route(state, "/", NULL);
    assert_route(state, "/a", NULL);
}

static void
test_templates_find__names(void **state)
{
    add(state, "/users/{id}/orders/*");
    assert_route(state, "/users/jane/orders/7", "/users/{id}/orders/*");
    assert_route(state, "/users/jane/orders/7/", "/users/{id}/orders/*");
    assert_route(state, "/users/a%2Fb/orders/7", "/users/{id}/orders/*");
    assert_route(state, "/users/jane/orders", NULL);
    assert_route(state, "/users/jane/orders/", NULL);
    assert_route(state, "/users//orders/7", NULL);
    assert_route(state, "/users/jane/orders/7/8", NULL);
    assert_route(state, "/Users/jane/orders/7", NULL);
    assert_route(state, "users/jane/orders/7", NULL);
    assert_route(state, "/users/jane/ordersx/7", NULL);
}

static void
test_templates_find__parts_of_segments(void **state)
{
    add(state, "/v{n}/report-{id}.pdf");
    assert_route(state, "/v2/report-jan.pdf", "/v{n}/report-{id}.pdf");
    assert_route(state, "/v2/report-%31.pdf", "/v{n}/report-{id}.pdf");
    assert_route(state, "/v/report-jan.pdf", NULL);
    assert_route(state, "/v2/report-.pdf", NULL);
    assert_route(state, "/v2/report.pdf", NULL);
    assert_route(state, "/v2/report-jan.pdfx", NULL);
}

static void
test_templates_find__the_rest(void **state)
{
    add(state, "/static/**");
    assert_route(state, "/static", "/static/**");
    assert_route(state, "/static/", "/static/**");
    assert_route(state, "/static/a/b//c", "/static/**");
    assert_route(state, "/staticx", NULL);
    assert_route(state, "/", NULL);
    add(state, "/**");
    assert_route(state, "/", "/**");
    assert_route(state, "/x", "/**");
}

static void
test_templates_find__root_and_literals(void **state)
{
    add(state, "/");
    add(state, "/caf\x65/a b");
    assert_route(state, "/", "/");
    assert_route(state, "/cafe/a%20b", "/cafe/a b");
    assert_route(state, "/cafe/a+b", NULL);
    assert_route(state, "/caf%65/a%20b/", "/cafe/a b");
    assert_route(state, "/cafe/a%2", NULL);
    assert_route(state, "/cafe/%zz", NULL);
}

static void
test_templates_find__the_first_that_fits(void **state)
{
    add(state, "/users/me");
    add(state, "/users/{id}");
    add(state, "/users/{other}");
    assert_route(state, "/users/me", "/users/me");
    assert_route(state, "/users/you", "/users/{id}");
}

static void
test_templates_find__long_segments(void **state)
{
    char path[4096];

    add(state, "/a/{x}");
    memset(path, '%', sizeof(path) - 1);
    memcpy(path, "/a/", 3);
    path[sizeof(path) - 1] = '\0';
    assert_route(state, path, "/a/{x}");
    memset(path, '/', sizeof(path) - 1);
    assert_route(state, path, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_templates_add__what_is_none),
        TEST(test_templates_add__as_many_as_there_is_room_for),
        TEST(test_templates_find__none_there),
        TEST(test_templates_find__names),
        TEST(test_templates_find__parts_of_segments),
        TEST(test_templates_find__the_rest),
        TEST(test_templates_find__root_and_literals),
        TEST(test_templates_find__the_first_that_fits),
        TEST(test_templates_find__long_segments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
