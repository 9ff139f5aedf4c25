/*
 * The directives of a place that are a small language of their own: mayday_dsn,
 * mayday_user, mayday_ignore, mayday_collect.
 */
#include "tests/unit/conf_host.h"

/* ---- mayday_dsn ---- */

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void
test_set_dsn__never_shows_a_key(void **state)
{
    static const char *const broken[] = {
        "https://sekrit@",
        "sekrit",
        "https://sekrit@host",
        "ftp://sekrit@host/42",
        "https://sekrit:sekrit@h:x",
        "env:BROKEN_DSN",
        "https://sekrit@host/42 https://sekrit@host/42",
    };

    (void) state;
    (void) setenv("BROKEN_DSN", "https://sekrit@host", 1);
    for (size_t i = 0; i < MAYDAY_COUNT(broken); i++) {
        const char *message = set(place_new(), D(DSN), broken[i]);

        assert_non_null(message);
        assert_null(strstr(message, "sekrit"));
        assert_non_null(strstr(message, "expected"));
    }
    assert_non_null(strstr(set(place_new(), D(DSN), "env:BROKEN_DSN"), "found \"env:BROKEN_DSN\""));
    assert_null(strstr(set(NULL, D(PROXY), "ftp://me:sekrit@proxy"), "sekrit"));
}

static void
test_set_dsn__refused(void **state)
{
    static const refused_t refused[] = {
        {D(DSN), "env:", "found \"env:\", expected a variable that is set"},
        {D(DSN), "env:MAYDAY_TEST_UNSET", "expected a variable that is set"},
        {D(DSN), "file:dsn", "an absolute path"},
        {D(DSN), "file:/nowhere/dsn", "a file that can be read"},
        {D(DSN), "file:/dev/zero", "a regular file"},
        {D(DSN), "off https://k@h/1", "found \"off\", expected off alone"},
        {D(DSN), "https://k@h/1 off", "found \"off\", expected off alone"},
        {D(DSN), "https://k@h/1 https://k@h/1", "found the same DSN twice"},
        {D(DSN), "http://k@h", "a project id"},
    };

    (void) state;
    assert_refused(refused, MAYDAY_COUNT(refused));
}

static void
test_set_dsn__file(void **state)
{
    char path[] = "/tmp/mayday-test-XXXXXX", words[64];
    int fd = mkstemp(path);
    mayday_place_t *place = place_new();

    (void) state;
    assert_true(fd >= 0);
    (void) close(fd);
    (void) snprintf(words, sizeof(words), "file:%s", path);
    write_file(path, "");
    assert_non_null(strstr(set(place_new(), D(DSN), words), "a DSN there: a URL"));
    write_file(path, "\nhttps://key@host/1\n");
    assert_non_null(strstr(set(place_new(), D(DSN), words), "a DSN there: a URL"));
    write_file(path, " \thttps://key@host/1 \r\nand more\n");
    ok(place, D(DSN), words);
    assert_true(slice_is(place->destination->dsns[0], "https://key@host/1"));
    (void) unlink(path);
}

static void
test_set_dsn__destinations_are_shared(void **state)
{
    mayday_place_t *places[6];

    (void) state;
    (void) setenv("SOME_DSN", "https://a@h/1", 1);
    (void) setenv("EMPTY_DSN", "", 1);
    for (size_t i = 0; i < MAYDAY_COUNT(places); i++) {
        places[i] = place_new();
    }
    ok(places[0], D(DSN), "https://a@h/1");
    ok(places[1], D(DSN), "https://a@h/1 https://b@h/2");
    ok(places[2], D(DSN), "env:SOME_DSN");
    ok(places[3], D(DSN), "off");
    ok(places[4], D(DSN), "env:EMPTY_DSN");
    ok(places[5], D(DSN), "https://b@h/2 env:SOME_DSN");
    assert_int_equal(places[0]->destination->index, 1);
    assert_int_equal(places[1]->destination->index, 2);
    assert_int_equal(places[1]->destination->dsn_count, 2);
    assert_ptr_equal(places[2]->destination, places[0]->destination);
    assert_int_equal(places[3]->destination->index, 0);
    assert_int_equal(places[4]->destination->index, 0);
    assert_int_equal(places[5]->destination->index, 3);
    assert_ptr_equal(instance->destinations->next, places[0]->destination);
    assert_null(places[5]->destination->next);
}

static void
test_set_dsn__destinations_at_most(void **state)
{
    char words[64];

    (void) state;
    for (int i = 1; i < MAYDAY_DESTINATION_MAX; i++) {
        (void) snprintf(words, sizeof(words), "https://k@h/%d", i);
        ok(place_new(), D(DSN), words);
    }
    assert_non_null(strstr(set(place_new(), D(DSN), "https://k@h/x"), "at most 1023"));
    ok(place_new(), D(DSN), "https://k@h/7");
}

/* ---- mayday_user ---- */

static void
test_set_user__session_cookie(void **state)
{
    static const struct {
        mayday_server_t server;
        const char *words;
        bool refused;
    } cases[] = {
        {MAYDAY_SERVER_NGINX, "id=$cookie_sessionid", true},
        {MAYDAY_SERVER_NGINX, "id=${cookie_PHPSESSID}", true},
        {MAYDAY_SERVER_NGINX, "id=u-$COOKIE_connect_sid", true},
        {MAYDAY_SERVER_NGINX, "email=$cookie_jwt", true},
        {MAYDAY_SERVER_NGINX, "username=$remote_user$cookie_auth", true},
        {MAYDAY_SERVER_NGINX, "id=$http_cookie", true},
        {MAYDAY_SERVER_NGINX, "id=${http_cookie}x", true},
        {MAYDAY_SERVER_NGINX, "id=$upstream_http_set_cookie", true},
        {MAYDAY_SERVER_NGINX, "ip=$cookie_token", true},
        {MAYDAY_SERVER_NGINX, "id=hash:$cookie_sessionid", false},
        {MAYDAY_SERVER_NGINX, "id=hash:$http_cookie", false},
        {MAYDAY_SERVER_NGINX, "id=$cookie_uid", false},
        {MAYDAY_SERVER_NGINX, "id=$cookie_user-session", false}, /* "-session" is text there */
        {MAYDAY_SERVER_NGINX, "id=$http_x_session", false},
        {MAYDAY_SERVER_NGINX, "id=$http_cookie_name", false},
        {MAYDAY_SERVER_NGINX, "id=$", false},
        {MAYDAY_SERVER_HTTPD, "id=%{HTTP_COOKIE}", true},
        {MAYDAY_SERVER_HTTPD, "id=%{HTTP:Cookie}", true},
        {MAYDAY_SERVER_HTTPD, "id=%{req:cookie}", true},
        {MAYDAY_SERVER_HTTPD, "id=%{tolower:%{req_novary:COOKIE}}", true},
        {MAYDAY_SERVER_HTTPD, "id=%{:req('Cookie'):}", true},
        {MAYDAY_SERVER_HTTPD, "id=%{reqenv:session_cookie}", true},
        {MAYDAY_SERVER_HTTPD, "id=%{note:cookie-token}", true},
        {MAYDAY_SERVER_HTTPD, "id=hash:%{HTTP_COOKIE}", false},
        {MAYDAY_SERVER_HTTPD, "id=%{reqenv:cookie_uid}", false},
        {MAYDAY_SERVER_HTTPD, "id=%{req:X-Cookie}", false},
        {MAYDAY_SERVER_HTTPD, "id=%{REMOTE_USER}", false},
        {MAYDAY_SERVER_HTTPD, "id=%{reqenv:SESSION_USER}", false},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        const char *message;

        start(cases[i].server);
        message = set(place_new(), D(USER), cases[i].words);
        if ((message != NULL) != cases[i].refused) {
            fail_msg("%s: %s", cases[i].words, message == NULL ? "accepted" : message);
        }
        if (message != NULL) {
            assert_non_null(strstr(message, "hash: before a session cookie"));
        }
    }
}

/* ---- mayday_ignore ---- */

static bool
holds(void *request, mayday_expr_t *condition)
{
    (void) request;
    return strcmp(text_of(condition), "yes") == 0;
}

static void
test_ignore_matches__cases(void **state)
{
    mayday_place_t *place = place_new();
    int asked = 0;

    (void) state;
    ok(place, D(IGNORE), "upstream_response 404 if=no");
    ok(place, D(IGNORE), "upstream_response if=yes");
    ok(place, D(IGNORE), "retried 500-502");
    assert_false(
        mayday_ignore_matches(place->ignore, MAYDAY_KIND_SERVER_INTERNAL, 404, holds, NULL));
    assert_true(
        mayday_ignore_matches(place->ignore, MAYDAY_KIND_UPSTREAM_RESPONSE, 504, holds, NULL));
    assert_false(mayday_ignore_matches(place->ignore, MAYDAY_KIND_LIMITED, 503, holds, NULL));
    assert_true(mayday_ignore_matches(place->ignore, MAYDAY_KIND_RETRIED, 200, holds, NULL));
    assert_true(mayday_ignore_matches(place->ignore, MAYDAY_KIND_UPSTREAM_TLS, 501, holds, NULL));
    assert_false(mayday_ignore_matches(place->ignore, MAYDAY_KIND_NONE, 0, holds, NULL));
    assert_false(mayday_ignore_matches(NULL, MAYDAY_KIND_RETRIED, 500, holds, NULL));
    /* A condition is only asked where kind or status fits. */
    assert_false(
        mayday_ignore_matches(place->ignore, MAYDAY_KIND_UPSTREAM_TLS, 503, never, &asked));
    assert_int_equal(asked, 0);
    assert_false(
        mayday_ignore_matches(place->ignore, MAYDAY_KIND_UPSTREAM_RESPONSE, 503, never, &asked));
    assert_int_equal(asked, 2);
}

static void
test_set_ignore__none(void **state)
{
    mayday_place_t *place = place_new();

    (void) state;
    ok(place, D(IGNORE), "none");
    assert_false(ignores(place, MAYDAY_KIND_LIMITED, 503));
    assert_non_null(strstr(set(place, D(IGNORE), "retried"), "nothing after none"));
}

static void
test_set_ignore__condition_has_its_own_compiler(void **state)
{
    mayday_place_t *place = place_new();

    (void) state;
    host.condition = compile_condition;
    ok(place, D(IGNORE), "retried if=xyz");
    ok(place, D(TAG), "a xyz");
    assert_string_equal(text_of(place->ignore->condition), "!yz");
    assert_string_equal(text_of(place->tags->expr), "xyz");
}

/* ---- mayday_collect ---- */

static void
test_set_collect__lines_add_up(void **state)
{
    mayday_place_t *place = place_new();
    const mayday_collect_t *before = place->collect;

    (void) state;
    ok(place, D(COLLECT), "headers deny=x-ssn plain=x-key-id");
    ok(place, D(COLLECT), "headers deny=iban");
    ok(place, D(COLLECT), "cookies allow=theme,lang");
    ok(place, D(COLLECT), "user_info on");
    assert_true(place->collect->user_info);
    assert_true(filters(&place->collect->headers, "X-SSN"));
    assert_true(filters(&place->collect->headers, "iban"));
    assert_true(filters(&place->collect->headers, "X-Api-Key"));
    assert_false(filters(&place->collect->headers, "X-Key-Id"));
    assert_false(filters(&place->collect->headers, "X-Forwarded-For"));
    assert_true(place->collect->cookies.on);
    assert_false(filters(&place->collect->cookies, "Theme"));
    assert_true(filters(&place->collect->cookies, "tracking"));
    assert_false(filters(&place->collect->query, "iban"));
    /* What was there is untouched: other places look at it. */
    assert_ptr_equal(instance->defaults.collect, before);
    assert_false(before->cookies.on);
    assert_false(filters(&before->headers, "iban"));
    assert_true(filters(&before->headers, "X-Forwarded-For"));
}

static void
test_set_collect__host_is_told_by_its_header_or_not(void **state)
{
    static const char *const without[] = {"headers off", "headers deny=hos",
                                          "headers allow=accept"};
    mayday_place_t *place = place_new();

    (void) state;
    assert_true(place->collect->has_host);
    for (size_t i = 0; i < MAYDAY_COUNT(without); i++) {
        place = place_new();
        ok(place, D(COLLECT), without[i]);
        assert_false(place->collect->has_host);
    }
}

static void
test_set_collect__contradictions(void **state)
{
    mayday_place_t *place = place_new();

    (void) state;
    ok(place, D(COLLECT), "headers off");
    assert_false(place->collect->headers.on);
    assert_non_null(strstr(set(place, D(COLLECT), "headers deny=x"), "nothing more after off"));
    assert_non_null(strstr(set(place, D(COLLECT), "headers on"), "nothing more after off"));
    place = place_new();
    ok(place, D(COLLECT), "cookies on");
    ok(place, D(COLLECT), "cookies deny=x");
    assert_non_null(strstr(set(place, D(COLLECT), "cookies off"), "once, before all else"));
    ok(place, D(COLLECT), "user_info off");
    assert_non_null(strstr(set(place, D(COLLECT), "user_info on"), "once in one place"));
}

static void
test_set_collect__words_at_most(void **state)
{
    mayday_place_t *place = place_new();
    char words[1024] = "query deny=a";

    (void) state;
    for (int i = 1; i < 200; i++) {
        (void) strcat(words, ",a");
    }
    ok(place, D(COLLECT), words);
    assert_non_null(strstr(set(place, D(COLLECT), "query deny=b"), "at most 200 words"));
    ok(place, D(COLLECT), "query plain=b");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_set_dsn__never_shows_a_key),
        TEST(test_set_dsn__refused),
        TEST(test_set_dsn__file),
        TEST(test_set_dsn__destinations_are_shared),
        TEST(test_set_dsn__destinations_at_most),
        TEST(test_set_user__session_cookie),
        TEST(test_ignore_matches__cases),
        TEST(test_set_ignore__none),
        TEST(test_set_ignore__condition_has_its_own_compiler),
        TEST(test_set_collect__lines_add_up),
        TEST(test_set_collect__host_is_told_by_its_header_or_not),
        TEST(test_set_collect__contradictions),
        TEST(test_set_collect__words_at_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
