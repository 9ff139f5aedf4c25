/* The kind of failure by the servers' own words, as they log them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/capture/cause.h"

typedef struct {
    const char *line;
    mayday_kind_t kind;
    int error; /* 0: none */
} case_t;

#define NONE MAYDAY_KIND_NONE
#define UP(kind) MAYDAY_KIND_UPSTREAM_##kind

static void
check(mayday_server_t server, const case_t *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int error = 0;
        mayday_kind_t kind = mayday_cause_classify(server, mayday_slice_str(cases[i].line), &error);
        if (kind != cases[i].kind || error != cases[i].error) {
            fail_msg("%s: kind %d, expected %d; errno %d", cases[i].line, (int) kind,
                     (int) cases[i].kind, error);
        }
    }
}

static void
test_classify__lines_that_are_no_failure_of_an_upstream(void **state)
{
    static const case_t cases[] = {
        {"", NONE, 0},
        {"(", NONE, 0},
        {"\"/var/www/index.html\" is forbidden (13: Permission denied)", NONE, 0},
        {"FastCGI sent in stderr: \"PHP message: PHP Warning: x\" while reading response header "
         "from upstream",
         NONE, 0},
        {"upstream timed out (110: Connection timed out) while proxying upgraded connection", NONE,
         0},
        {"upstream sent more data than specified in \"Content-Length\" header while reading "
         "upstream",
         NONE, 0},
        {"upstream sent duplicate header line: \"X: 1\", previous value: \"X: 2\", ignored while "
         "reading response header from upstream",
         NONE, 0},
        {"recv() failed (104: Connection reset by peer) while waiting for request", NONE, 0},
        {"send() failed (104: Connection reset by peer) while sending response to client", NONE, 0},
        {"SSL_do_handshake() failed (SSL: error:0A00010B) while SSL handshaking", NONE, 0},
    };

    (void) state;
    check(MAYDAY_SERVER_NGINX, cases, MAYDAY_COUNT(cases));
}

static void
test_classify__a_client_cannot_make_up_a_failure(void **state)
{
    static const case_t cases[] = {
        {"open() \"/srv/x could not be resolved (3: Host not found)\" failed (2: No such file or "
         "directory)",
         NONE, 0},
        {"open() \"/srv/no live upstreams while connecting to upstream\" failed (2: No such file "
         "or directory)",
         NONE, 0},
        {"open() \"/srv/ while reading response header from upstream\" failed (2: No such file or "
         "directory)",
         NONE, 0},
        {"\" could not be resolved (\"", NONE, 0},
        {" could not be resolved (3: Host not found)", NONE, 0},
    };

    (void) state;
    check(MAYDAY_SERVER_NGINX, cases, MAYDAY_COUNT(cases));
    check(MAYDAY_SERVER_HTTPD, cases, MAYDAY_COUNT(cases));
}

static void
test_classify__nginx(void **state)
{
    static const case_t cases[] = {
        {"connect() failed (111: Connection refused) while connecting to upstream", UP(REFUSED),
         ECONNREFUSED},
        {"connect() to unix:/run/app.sock failed (2: No such file or directory) while connecting "
         "to upstream",
         UP(UNREACHABLE), ENOENT},
        {"connect() to unix:/run/app.sock failed (11: Resource temporarily unavailable) while "
         "connecting to upstream",
         UP(REFUSED), EAGAIN},
        {"connect() to 10.255.255.1:80 failed (113: No route to host) while connecting to upstream",
         UP(UNREACHABLE), EHOSTUNREACH},
        {"connect() to 10.0.0.1:80 failed (110: Connection timed out) while connecting to upstream",
         UP(CONNECT_TIMEOUT), ETIMEDOUT},
        {"no live upstreams while connecting to upstream", UP(UNAVAILABLE), 0},
        {"nowhere.invalid could not be resolved (3: Host not found)", UP(DNS), 3},
        {"no resolver defined to resolve backend", UP(DNS), 0},
        {"SSL_do_handshake() failed (SSL: error:1408F10B:SSL routines) while SSL handshaking to "
         "upstream",
         UP(TLS), 0},
        {"peer closed connection in SSL handshake (104: Connection reset by peer) while SSL "
         "handshaking to upstream",
         UP(TLS), ECONNRESET},
        {"upstream SSL certificate verify error: (18:self signed certificate) while SSL "
         "handshaking to upstream",
         UP(TLS), 0},
        {"upstream SSL certificate does not match \"a.example\" while SSL handshaking to upstream",
         UP(TLS), 0},
        {"upstream timed out (110: Connection timed out) while SSL handshaking to upstream",
         UP(TLS), ETIMEDOUT},
        {"upstream timed out (110: Connection timed out) while connecting to upstream",
         UP(CONNECT_TIMEOUT), ETIMEDOUT},
        {"upstream timed out (110: Connection timed out) while sending request to upstream",
         UP(SEND_TIMEOUT), ETIMEDOUT},
        {"upstream timed out (110: Connection timed out) while reading response header from "
         "upstream",
         UP(READ_TIMEOUT), ETIMEDOUT},
        {"upstream timed out (110: Connection timed out) while reading upstream", UP(TRUNCATED),
         ETIMEDOUT},
        {"upstream prematurely closed connection while reading response header from upstream",
         UP(CLOSED), 0},
        {"upstream prematurely closed connection while reading upstream", UP(TRUNCATED), 0},
        {"upstream prematurely closed connection while sending to client", UP(TRUNCATED), 0},
        {"upstream prematurely closed FastCGI stdout while reading response header from upstream",
         UP(CLOSED), 0},
        {"recv() failed (104: Connection reset by peer) while reading response header from "
         "upstream",
         UP(CLOSED), ECONNRESET},
        {"readv() failed (104: Connection reset by peer) while reading upstream", UP(TRUNCATED),
         ECONNRESET},
        {"writev() failed (32: Broken pipe) while sending request to upstream", UP(CLOSED), EPIPE},
        {"upstream sent no valid HTTP/1.0 header while reading response header from upstream",
         UP(INVALID), 0},
        {"upstream sent invalid header: \"a\\x20...\" while reading response header from upstream",
         UP(INVALID), 0},
        {"upstream sent too big header while reading response header from upstream", UP(INVALID),
         0},
        {"upstream rejected request with error 2 while reading response header from upstream",
         UP(CLOSED), 0},
        {"limiting requests, excess: 1.000 by zone \"one\"", MAYDAY_KIND_LIMITED, 0},
        {"limiting connections by zone \"addr\"", MAYDAY_KIND_LIMITED, 0},
    };

    (void) state;
    check(MAYDAY_SERVER_NGINX, cases, MAYDAY_COUNT(cases));
}

static void
test_classify__httpd(void **state)
{
    static const case_t cases[] = {
        {"AH01071: Got error 'PHP message: PHP Fatal error:  x'", NONE, 0},
        {"AH01114: HTTP: failed to make connection to backend: 127.0.0.1", UP(UNREACHABLE), 0},
        {"AH01167: balancer://b: All workers are in error state for route (x)", UP(UNAVAILABLE), 0},
        {"AH00898: DNS lookup failure for: nowhere.invalid returned by /x", UP(DNS), 0},
        {"AH00898: Error during SSL Handshake with remote server returned by /x", UP(TLS), 0},
        {"AH00898: Error reading from remote server returned by /DNS lookup failure", UP(CLOSED),
         0},
        {"AH01110: Network error reading response", UP(TRUNCATED), 0},
        {"AH01068: Got bogus version 72", UP(INVALID), 0},
    };

    (void) state;
    check(MAYDAY_SERVER_HTTPD, cases, MAYDAY_COUNT(cases));
}

static void
test_classify__errno_that_came_with_the_line(void **state)
{
    mayday_slice_t line =
        MAYDAY_SLICE("AH00957: HTTP: attempt to connect to 127.0.0.1:1 (127.0.0.1:1) failed");
    int error = ECONNREFUSED;

    (void) state;
    assert_int_equal(mayday_cause_classify(MAYDAY_SERVER_HTTPD, line, &error), UP(REFUSED));
    assert_int_equal(error, ECONNREFUSED);
    error = ETIMEDOUT;
    assert_int_equal(mayday_cause_classify(MAYDAY_SERVER_HTTPD, line, &error), UP(CONNECT_TIMEOUT));
    error = 0;
    assert_int_equal(mayday_cause_classify(MAYDAY_SERVER_HTTPD, line, &error), UP(UNREACHABLE));
}

static void
test_classify__numbers_that_are_no_errno(void **state)
{
    static const case_t cases[] = {
        {"connect() failed (99999999999999999999: x) while connecting", UP(UNREACHABLE), 0},
        {"connect() failed (: x) while connecting", UP(UNREACHABLE), 0},
        {"connect() failed (111:", UP(UNREACHABLE), 0},
        {"connect() failed (111", UP(UNREACHABLE), 0},
        {"connect() failed (", UP(UNREACHABLE), 0},
        {"connect() failed (0: x) (111: Connection refused)", UP(REFUSED), 111},
    };

    (void) state;
    check(MAYDAY_SERVER_NGINX, cases, MAYDAY_COUNT(cases));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classify__lines_that_are_no_failure_of_an_upstream),
        cmocka_unit_test(test_classify__a_client_cannot_make_up_a_failure),
        cmocka_unit_test(test_classify__nginx),
        cmocka_unit_test(test_classify__httpd),
        cmocka_unit_test(test_classify__errno_that_came_with_the_line),
        cmocka_unit_test(test_classify__numbers_that_are_no_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
