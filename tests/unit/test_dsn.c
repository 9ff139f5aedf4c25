/*
 * DSNs: what is refused and why, what the parts are, where envelopes go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/dsn.h"

static void
test_dsn_parse__refused(void **state)
{
    static const struct {
        const char *text;
        const char *expected; /* occurs in the error */
    } refused[] = {
        {"", "URL"},
        {"two words", "without spaces"},
        {"https://key@host/4 2", "without spaces"},
        {"https://key@host/42\n", "without spaces"},
        {"https://key@h\xc3\xb6st/42", "ASCII"},
        {"ftp://key@host/42", "http or https"},
        {"=https://key@host/42", "http or https"},
        {"//key@host/42", "http or https"},
        {"key@host/42", "http or https"},
        {"https:/key@host/42", "http or https"},
        {"https://host/42", "public key"},
        {"https://@host/42", "public key"},
        {"https://:secret@host/42", "public key"},
        {"https://host/42@key", "public key"},
        {"https://host?key@host/42", "public key"},
        {"https://", "public key"},
        {"https://key@", "host"},
        {"https://key@/42", "host"},
        {"https://key:secret@:8080/42", "host"},
        {"https://key@ho$st/42", "host"},
        {"https://key@[::1/42", "host"},
        {"https://key@[]/42", "host"},
        {"https://key@[::1]x/42", "host"},
        {"https://key@[host]/42", "host"},
        {"https://key@host:/42", "port"},
        {"https://key@host:0/42", "port"},
        {"https://key@host:65536/42", "port"},
        {"https://key@host:123456/42", "port"},
        {"https://key@host:80a/42", "port"},
        {"https://key@host:-1/42", "port"},
        {"https://key@host", "project"},
        {"https://key@host/", "project"},
        {"https://key@host/42/", "project"},
        {"https://key@host?/42", "project"},
        {"https://key@host/?x=1", "project"},
        {"https://key@host#/42", "project"},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(refused); i++) {
        const char *error = NULL;
        mayday_dsn_t dsn;

        if (mayday_dsn_parse(&dsn, mayday_slice_str(refused[i].text), &error) != MAYDAY_INVALID) {
            fail_msg("accepted: %s", refused[i].text);
        }
        assert_non_null(error);
        if (strstr(error, refused[i].expected) == NULL) {
            fail_msg("%s: expected %s", refused[i].text, error);
        }
    }
}

static void
test_dsn_parse__too_long(void **state)
{
    char text[MAYDAY_DSN_LEN_MAX + 1];
    const char *error = NULL;
    mayday_dsn_t dsn;

    (void) state;
    memset(text, '4', sizeof(text));
    memcpy(text, "https://key@host/", 17);
    assert_int_equal(mayday_dsn_parse(&dsn, mayday_slice(text, sizeof(text)), &error),
                     MAYDAY_INVALID);
    assert_int_equal(mayday_dsn_parse(&dsn, mayday_slice(text, sizeof(text) - 1), &error),
                     MAYDAY_OK);
}

static void
test_dsn_parse__parts(void **state)
{
    static const struct {
        const char *text;
        bool secure;
        const char *public_key, *secret_key, *host;
        unsigned port;
        bool port_given;
        const char *path, *project_id, *url, *redacted;
    } valid[] = {
        {"https://abc@errors.example.com/42", true, "abc", "", "errors.example.com", 443, false, "",
         "42", "https://errors.example.com/api/42/envelope/",
         "https://[Filtered]@errors.example.com/42"},
        {"http://abc:def@errors.example.com/42", false, "abc", "def", "errors.example.com", 80,
         false, "", "42", "http://errors.example.com/api/42/envelope/",
         "http://[Filtered]@errors.example.com/42"},
        {"HTTPS://abc:@host:8443/42", true, "abc", "", "host", 8443, true, "", "42",
         "https://host:8443/api/42/envelope/", "https://[Filtered]@host:8443/42"},
        {"https://abc@host:443/42", true, "abc", "", "host", 443, true, "", "42",
         "https://host:443/api/42/envelope/", "https://[Filtered]@host:443/42"},
        {"https://abc@host/one/two/name%21", true, "abc", "", "host", 443, false, "/one/two",
         "name%21", "https://host/one/two/api/name%21/envelope/",
         "https://[Filtered]@host/one/two/name%21"},
        {"https://abc@host/one//42", true, "abc", "", "host", 443, false, "/one", "42",
         "https://host/one/api/42/envelope/", "https://[Filtered]@host/one/42"},
        {"http://abc:def@host/42?a=/b@c#d/e", false, "abc", "def", "host", 80, false, "", "42",
         "http://host/api/42/envelope/", "http://[Filtered]@host/42"},
        {"http://a@b:c:d@host/42", false, "a@b", "c:d", "host", 80, false, "", "42",
         "http://host/api/42/envelope/", "http://[Filtered]@host/42"},
        {"http://abc@[2001:db8::1]:9000/42", false, "abc", "", "[2001:db8::1]", 9000, true, "",
         "42", "http://[2001:db8::1]:9000/api/42/envelope/",
         "http://[Filtered]@[2001:db8::1]:9000/42"},
        {"http://abc@127.0.0.1:65535/x_y-z.w", false, "abc", "", "127.0.0.1", 65535, true, "",
         "x_y-z.w", "http://127.0.0.1:65535/api/x_y-z.w/envelope/",
         "http://[Filtered]@127.0.0.1:65535/x_y-z.w"},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(valid); i++) {
        char storage[256];
        const char *error = NULL;
        mayday_buf_t text;
        mayday_dsn_t dsn;

        if (mayday_dsn_parse(&dsn, mayday_slice_str(valid[i].text), &error) != MAYDAY_OK) {
            fail_msg("%s: expected %s", valid[i].text, error);
        }
        assert_int_equal(dsn.secure, valid[i].secure);
        assert_true(mayday_slice_eq(dsn.public_key, mayday_slice_str(valid[i].public_key)));
        assert_true(mayday_slice_eq(dsn.secret_key, mayday_slice_str(valid[i].secret_key)));
        assert_true(mayday_slice_eq(dsn.host, mayday_slice_str(valid[i].host)));
        assert_int_equal(dsn.port, valid[i].port);
        assert_int_equal(dsn.port_given, valid[i].port_given);
        assert_true(mayday_slice_eq(dsn.path, mayday_slice_str(valid[i].path)));
        assert_true(mayday_slice_eq(dsn.project_id, mayday_slice_str(valid[i].project_id)));
        mayday_buf_init(&text, storage, sizeof(storage));
        mayday_dsn_envelope_url(&dsn, &text);
        assert_string_equal(text.data, valid[i].url);
        mayday_buf_init(&text, storage, sizeof(storage));
        mayday_dsn_redacted(&dsn, &text);
        assert_string_equal(text.data, valid[i].redacted);
    }
}

static void
test_dsn_hide_keys__wherever_they_stand(void **state)
{
    static const struct {
        const char *text, *hidden;
        size_t size;
    } cases[] = {
        {"", "", 64},
        {"nothing to hide", "nothing to hide", 64},
        {"http://0123456789abcdef@host/1 is wrong", "http://[Filtered]@host/1 is wrong", 64},
        {"0123456789ABCDEF0123456789abcdef", "[Filtered][Filtered]", 64},
        {"key 0123456789, secret", "key [Filtered], [Filtered]", 64}, /* as far as it matches */
        {"cut (0123456)", "cut (0123456)", 64},
        {"secret", "[Filte", 7}, /* no room for more */
        {"asecret", "a[Filte", 8},
    };
    const char *error;
    mayday_dsn_t dsn;

    (void) state;
    assert_int_equal(
        mayday_dsn_parse(&dsn, MAYDAY_SLICE("http://0123456789abcdef:secret@host/1"), &error),
        MAYDAY_OK);
    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        char text[64];

        snprintf(text, sizeof(text), "%s", cases[i].text);
        mayday_dsn_hide_keys(&dsn, text, cases[i].size);
        assert_string_equal(text, cases[i].hidden);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dsn_parse__refused),
        cmocka_unit_test(test_dsn_parse__too_long),
        cmocka_unit_test(test_dsn_parse__parts),
        cmocka_unit_test(test_dsn_hide_keys__wherever_they_stand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
