/*
 * Routes: which segments are ids. The first half are the cases that Sentry's
 * transaction names are known for.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/event/event.h"

static void
assert_route(const char *path, const char *expected)
{
    char out[256];
    mayday_buf_t route;

    mayday_buf_init(&route, out, sizeof(out));
    mayday_route_normalise(mayday_slice_str(path), &route);
    assert_string_equal(out, expected);
}

static void
test_route_normalise__as_sentry(void **state)
{
    static const char *const cases[][2] = {
        {"/1234", "/*"},
        {"/user/path-with-1234/", "/user/*/"},
        {"/testing/asdf012/asdf034/asdf056", "/testing/*/*/*"},
        {"/foo/test%A33/1234", "/foo/test%A33/*"},
        {"/%2Ftest%2Fopen%20and%20help%2F1%0A", "/%2Ftest%2Fopen%20and%20help%2F1%0A"},
        {"/this/1234/%E2%9C%85/foo/bar/098123908213", "/this/*/%E2%9C%85/foo/bar/*"},
        {"/foo/hello%20world-4711/", "/foo/*/"},
        {"/foo/hello%20world-0xdeadbeef/", "/foo/*/"},
        {"/foo/hello%2Fworld/", "/foo/hello%2Fworld/"},
        {"/foo/hello%201/", "/foo/hello%201/"},
        {"/hash/4c79f60c11214eb38604f4ae0781bfb2/diff", "/hash/*/diff"},
        {"/u/7b25feea-ed2d-4132-bcbd-6232b7922add/edit", "/u/*/edit"},
        {"/u/0x3707344A4093822299F31D008/profile/123123213", "/u/*/profile/*"},
        {"C:\\Program Files\\1234\\Files", "C:\\Program Files\\*\\Files"},
        {"12345", "12345"},
        {"open-12345-close", "open-12345-close"},
        {"/aaa11111-aa11-11a1-a11a-1aaa1111a111", "/*"},
        {"/00a00000-0000-0000-0000-000000000001", "/*"},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        assert_route(cases[i][0], cases[i][1]);
    }
}

/* Words without two digits in a row, so that only their shape tells. */
static void
test_route_normalise__shapes(void **state)
{
    (void) state;
    assert_route("/u/abcdefab-abcd-abcd-abcd-abcdefabcdef/x", "/u/*/x");
    assert_route("/u/pre-abcdefab-abcd-abcd-abcd-abcdefabcdef", "/u/*");
    assert_route("/u/abcdefab-abcdefab-abcd-abcd-abcd-abcdefabcdef", "/u/*");
    assert_route("/u/abcdefab-abcd-abcd-abcd-abcdefabcde",
                 "/u/abcdefab-abcd-abcd-abcd-abcdefabcde");
    assert_route("/u/abcdefab-abcd--abcd-abcd-abcdefabcdef",
                 "/u/abcdefab-abcd--abcd-abcd-abcdefabcdef");
    assert_route("/u/abcdefab_abcd_abcd_abcd_abcdefabcdef",
                 "/u/abcdefab_abcd_abcd_abcd_abcdefabcdef");
    assert_route("/h/abcdefabcdefabcdefabcdefabcdefab", "/h/*");
    assert_route("/h/abcdefabcdefabcdefabcdefabcdefabc", "/h/abcdefabcdefabcdefabcdefabcdefabc");
    assert_route("/h/abcdefabcdefabcdefabcdefabcdefabcdefabcd.js", "/h/*");
    assert_route("/h/0xf", "/h/*");
    assert_route("/h/0x", "/h/0x");
    assert_route("/h/a0xf", "/h/a0xf");
    assert_route("/d/Mon Jan 1 00:00:00 2024", "/d/*");
}

static void
test_route_normalise__single_digits(void **state)
{
    (void) state;
    assert_route("/users/7", "/users/*");
    assert_route("/users/%37/x", "/users/*/x");
    assert_route("/api/v2/x", "/api/v2/x");
    assert_route("/testing/open-19-close/1", "/testing/*/*");
}

static void
test_route_normalise__mail_addresses(void **state)
{
    (void) state;
    assert_route("/u/jane@example.com/x", "/u/*/x");
    assert_route("/u/jane.d%40example.co.uk", "/u/*");
    assert_route("/@jane.doe", "/@jane.doe");
    assert_route("/u/jane@host", "/u/jane@host");
    assert_route("/img/logo@2x.png", "/img/logo@2x.png");
}

static void
test_route_normalise__percent_encoded(void **state)
{
    (void) state;
    assert_route("/u/%31%32%33", "/u/*");
    assert_route("/u/%2Fabcdefabcdefabcdefabcdefabcdefab", "/u/*");
    assert_route("/u/%", "/u/%");
    assert_route("/u/%3", "/u/%3");
    assert_route("/u/%zz", "/u/%zz");
}

static void
test_route_normalise__edges(void **state)
{
    char out[8];
    mayday_buf_t route;

    (void) state;
    assert_route("", "");
    assert_route("/", "/");
    assert_route("*", "*");
    assert_route("//", "//");
    assert_route("/a//99/", "/a//*/");
    mayday_buf_init(&route, out, sizeof(out));
    mayday_route_normalise(MAYDAY_SLICE("/abcdef/123456"), &route);
    assert_string_equal(out, "/abcdef");
    assert_true(route.truncated);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_normalise__as_sentry),
        cmocka_unit_test(test_route_normalise__shapes),
        cmocka_unit_test(test_route_normalise__single_digits),
        cmocka_unit_test(test_route_normalise__mail_addresses),
        cmocka_unit_test(test_route_normalise__percent_encoded),
        cmocka_unit_test(test_route_normalise__edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
