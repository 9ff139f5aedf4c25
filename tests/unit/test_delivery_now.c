/*
 * The envelope that is sent while somebody waits: the answer, and exact words for
 * every failure.
 */
#include "tests/unit/delivery_fixture.h"

static long
send_now(fixture_t *f, const char *dsn, char *answer, char *why)
{
    return mayday_delivery_send_now(
        f->delivery, dsn, MAYDAY_SLICE("{\"event_id\":\"00\"}\n{\"type\":\"event\"}\n{}\n"), answer,
        256, why, 256);
}

static void
test_send_now__says_exactly_what_is_wrong(void **state)
{
    fixture_t *f = *state;
    char answer[256], why[256], dsn[128], expected[128];
    unsigned dead_port;

    start(f);
    assert_int_equal(send_now(f, "ftp://x", answer, why), 0);
    assert_string_equal(why, "the DSN is not valid, expected a scheme of http or https");

    assert_int_equal(send_now(f, "http://k@sentry.invalid/1", answer, why), 0);
    assert_string_equal(why, "sentry.invalid cannot be resolved");

    receiver_stop(receiver_start(NULL, NULL, &dead_port));
    snprintf(dsn, sizeof(dsn), "http://k@127.0.0.1:%u/1", dead_port);
    snprintf(expected, sizeof(expected), "connection refused by 127.0.0.1:%u", dead_port);
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_string_equal(why, expected);

    behave(f, "[{\"status\":403,\"body\":\"{\\\"detail\\\":\\\"bad \\\\u0041 key\\\"}\"},"
              "{\"status\":200,\"body\":\"{\\\"id\\\":\\\"7\\\"}\"},{\"reset\":true},"
              "{\"stall\":0.1},{\"status\":301}]");
    assert_int_equal(send_now(f, f->dsn[0], answer, why), 403);
    assert_string_equal(why, "403: the key is not known to the project (bad \\u0041 key)");
    assert_string_equal(answer, "bad \\u0041 key");

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 200);
    assert_string_equal(why, "");
    assert_string_equal(answer, "{\"id\":\"7\"}");

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 0);
    assert_int_equal(strncmp(why, "the connection to 127.0.0.1:", 28), 0);

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u closed the connection without an answer",
             f->port);
    assert_string_equal(why, expected);

    assert_int_equal(send_now(f, f->dsn[0], answer, why), 301);
    assert_non_null(strstr(why, "redirects are not followed"));
}

static void
test_send_now__certificate_must_be_trusted(void **state)
{
    fixture_t *f = *state;
    char command[512], certificate[128], key[128], dsn[128], answer[256], why[256];
    unsigned port;
    pid_t pid;

    snprintf(certificate, sizeof(certificate), "%s/cert.pem", f->dir);
    snprintf(key, sizeof(key), "%s/key.pem", f->dir);
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
             "-addext subjectAltName=DNS:localhost -out %s -keyout %s 2>/dev/null",
             certificate, key);
    assert_int_equal(system(command), 0);
    pid = receiver_start(certificate, key, &port);
    start(f);

    snprintf(dsn, sizeof(dsn), "https://k@localhost:%u/1", port);
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_int_equal(strncmp(why, "certificate of localhost is not trusted: self", 45), 0);

    f->settings.trusted_certificate = certificate;
    mayday_delivery_configure(f->delivery, &f->settings);
    assert_int_equal(send_now(f, dsn, answer, why), 200);

    snprintf(dsn, sizeof(dsn), "https://k@127.0.0.1:%u/1", port); /* another name than its own */
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_int_equal(strncmp(why, "certificate of 127.0.0.1 is not trusted: ", 41), 0);

    f->settings.trusted_certificate = "/nonexistent.pem";
    mayday_delivery_configure(f->delivery, &f->settings);
    assert_int_equal(send_now(f, dsn, answer, why), 0);
    assert_non_null(strstr(why, "the trusted certificates cannot be read"));
    receiver_stop(pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_send_now__says_exactly_what_is_wrong),
        TEST(test_send_now__certificate_must_be_trusted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
