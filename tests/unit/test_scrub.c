/*
 * The second look at log lines: what goes, and what must not.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/event/scrub.h"

#define F "[Filtered]"

static void
assert_scrubbed(const char *text, const char *expected)
{
    char out[1024];
    mayday_buf_t buf;

    mayday_buf_init(&buf, out, sizeof(out));
    bool any = mayday_scrub_text(&buf, mayday_slice_str(text));
    assert_string_equal(out, expected);
    assert_int_equal(any, strcmp(text, expected) != 0);
    assert_true(buf.len <= MAYDAY_SCRUB_SIZE(strlen(text)));
}

static void
assert_kept(const char *text)
{
    assert_scrubbed(text, text);
}

static void
test_scrub_text__prose_stays(void **state)
{
    (void) state;
    assert_kept("");
    assert_kept("=");
    assert_kept(":");
    assert_kept("://");
    assert_kept("password=");
    assert_kept("password");
    assert_kept("connect() failed (111: Connection refused) while connecting to upstream");
    assert_kept("upstream timed out (110: Connection timed out) while reading response header");
    assert_kept("SSL_do_handshake() failed (SSL: error:0A000410:SSL routines::sslv3 alert) key x");
    assert_kept("limiting requests, excess: 0.500 by zone \"one\"");
    assert_kept("Duplicate entry for key: users.email, session: expired");
    assert_kept("no user/password was provided for basic auth");
    assert_kept("http://10.0.0.4:8080/path?page=2 and a=b@c");
    assert_kept("page=2&sort=asc; theme=dark");
    assert_kept("http://token-service:8080/v1/token:refresh");
    assert_kept("Undefined index: author in /srv/app/a.php on line 12");
}

static void
test_scrub_text__filtered_already(void **state)
{
    (void) state;
    assert_kept("GET /a?token=" F "&page=2");
    assert_kept("password=\"" F "\"");
}

static void
test_scrub_text__url_credentials(void **state)
{
    (void) state;
    assert_scrubbed("to https://user:s3cr3t@db.example.com/x failed",
                    "to https://" F "@db.example.com/x failed");
    assert_scrubbed("redis://:pass@host:6379", "redis://" F "@host:6379");
    assert_scrubbed("http://u:p@w@host/", "http://" F "@host/");
    assert_kept("https://host/a@b and https://host?mail=a@b");
}

static void
test_scrub_text__credentials(void **state)
{
    (void) state;
    assert_scrubbed("sent Bearer abc.def-123, gone", "sent Bearer " F ", gone");
    assert_scrubbed("Authorization: Bearer abc", "Authorization: " F);
    assert_scrubbed("authorization: Basic dXNlcjpwYXNz end", "authorization: " F " end");
    assert_scrubbed("header BASIC dXNlcjpwYXNz", "header BASIC " F);
    assert_kept("the forbearer abc, basic set");
}

static void
test_scrub_text__pairs(void **state)
{
    (void) state;
    assert_scrubbed("login failed, password=hunter2 for jane",
                    "login failed, password=" F " for jane");
    assert_scrubbed("DB_PASSWORD = hunter2", "DB_PASSWORD = " F);
    assert_scrubbed("a=1&api_key=xyz&b=2", "a=1&api_key=" F "&b=2");
    assert_scrubbed("sessionid=abc;theme=dark", "sessionid=" F ";theme=dark");
    assert_scrubbed("{\"user\":\"jane\",\"accessToken\":\"a b\\\" c\"}",
                    "{\"user\":\"jane\",\"accessToken\":\"" F "\"}");
    assert_scrubbed("{\\\"token\\\":\\\"abc\\\",\\\"a\\\":1}",
                    "{\\\"token\\\":\\\"" F "\\\",\\\"a\\\":1}");
    assert_scrubbed("[password] => hunter2 [name] => jane", "[password] => " F " [name] => jane");
    assert_scrubbed("'secret' => 'two words', 'a' => 'b'", "'secret' => '" F "', 'a' => 'b'");
    assert_scrubbed("X-Api-Key: abc", "X-Api-Key: " F);
    assert_scrubbed("pwd='never closed", "pwd='" F);
    assert_scrubbed("pwd='never closed\\", "pwd='" F);
    assert_scrubbed("key=a", "key=" F);
}

static void
test_scrub_text__judges_names_by_what_they_contain(void **state)
{
    (void) state;
    assert_scrubbed("X-AUTH-User=abc", "X-AUTH-User=" F);
    assert_scrubbed("PHPSESSID=abc", "PHPSESSID=" F);
    assert_scrubbed("xsrf=abc", "xsrf=" F);
    assert_scrubbed("page=abc", "page=abc");
    assert_scrubbed("ke=abc", "ke=abc");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scrub_text__prose_stays),
        cmocka_unit_test(test_scrub_text__filtered_already),
        cmocka_unit_test(test_scrub_text__url_credentials),
        cmocka_unit_test(test_scrub_text__credentials),
        cmocka_unit_test(test_scrub_text__pairs),
        cmocka_unit_test(test_scrub_text__judges_names_by_what_they_contain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
