/*
 * The command, against a small server that answers from a script.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cli/cli.h"
#include "core/cli/client.h"
#include "core/cli/find.h"

#define NOW_US ((uint64_t) 1795357081000000) /* 2026-11-22 14:18:01 UTC */

typedef struct {
    char dir[64];
    char socket[96];
    int listener;
    pthread_t thread;
    const char *status; /* "200 OK"                */
    const char *body;   /* what is answered        */
    char request[4096]; /* the last one, as it came */
    mayday_cli_t cli;
    char *out;
    size_t out_len;
    int saved_stderr;
    char errors[4096];
} fixture_t;

/* One answer a connection. */
static void *
serve(void *context)
{
    fixture_t *f = context;
    int fd;

    while ((fd = accept(f->listener, NULL, NULL)) >= 0) {
        size_t len = 0;
        ssize_t n;
        char head[256];
        const char *body, *length;

        memset(f->request, 0, sizeof(f->request));
        while (len + 1 < sizeof(f->request) &&
               (n = read(fd, f->request + len, sizeof(f->request) - 1 - len)) > 0) {
            len += (size_t) n;
            body = strstr(f->request, "\r\n\r\n");
            length = strstr(f->request, "Content-Length: ");
            if (body != NULL &&
                (length == NULL || strlen(body + 4) >= strtoul(length + 16, NULL, 10))) {
                break;
            }
        }
        snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n", f->status,
                 strlen(f->body));
        if (len > 0 &&
            (write(fd, head, strlen(head)) < 0 || write(fd, f->body, strlen(f->body)) < 0)) {
            perror("write");
        }
        close(fd);
    }
    return NULL;
}

static void
start(fixture_t *f, const char *status, const char *body)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    f->status = status;
    f->body = body;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->socket);
    f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static int
set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(setenv("LC_ALL", "C.UTF-8", 1), 0);
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-cli-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->socket, sizeof(f->socket), "%s/mayday.sock", f->dir);
    f->listener = -1;
    mayday_term_init(&f->cli.term, stdout);
    f->cli.term = (mayday_term_t){.out = open_memstream(&f->out, &f->out_len), .utf8 = true};
    f->cli.socket = f->socket;
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture_t *f = *state;
    char command[128];

    if (f->listener >= 0) {
        shutdown(f->listener, SHUT_RDWR);
        close(f->listener);
        pthread_join(f->thread, NULL);
    }
    fclose(f->cli.term.out);
    free(f->out);
    snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Runs the command; what it says on standard error is in f->errors. */
static int
run(fixture_t *f, const mayday_command_t *command)
{
    FILE *errors = tmpfile();
    int saved = dup(STDERR_FILENO), exit_code;
    size_t n;

    assert_non_null(errors);
    fflush(stderr);
    dup2(fileno(errors), STDERR_FILENO);
    f->cli.command = command;
    exit_code = command->run(&f->cli);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(errors);
    n = fread(f->errors, 1, sizeof(f->errors) - 1, errors);
    f->errors[n] = '\0';
    fclose(errors);
    fflush(f->cli.term.out);
    return exit_code;
}

/* Forgets what was printed. */
static void
clear(fixture_t *f)
{
    fclose(f->cli.term.out);
    free(f->out);
    f->cli.term.out = open_memstream(&f->out, &f->out_len);
    assert_non_null(f->cli.term.out);
}

static void
assert_text_in(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", wanted, text);
    }
}

/* ---- times and numbers ---- */

static void
test_cli_time__not_a_time(void **state)
{
    static const char *const wrong[] = {"",
                                        "d",
                                        "7",
                                        "-7d",
                                        "7x",
                                        "7dd",
                                        " 7d",
                                        "2026-02-31",
                                        "2026-13-01",
                                        "yesterday",
                                        "2026",
                                        "7d ago",
                                        "2026-11-22Q",
                                        "99999999999999999999d"};
    uint64_t us;

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(wrong); i++) {
        if (mayday_cli_time(wrong[i], NOW_US, &us) != MAYDAY_INVALID) {
            fail_msg("\"%s\" was taken", wrong[i]);
        }
    }
}

static void
test_cli_time__ages_and_dates(void **state)
{
    static const struct {
        const char *text;
        uint64_t us;
    } right[] = {{"0s", NOW_US},
                 {"90s", NOW_US - 90 * (uint64_t) 1000000},
                 {"15m", NOW_US - 900 * (uint64_t) 1000000},
                 {"7d", NOW_US - 7 * 86400 * (uint64_t) 1000000},
                 {"2w", NOW_US - 14 * 86400 * (uint64_t) 1000000},
                 {"99999w", 0},
                 {"2026-11-22", (uint64_t) 1795305600 * 1000000},
                 {"2026-11-22 14:18:01", NOW_US},
                 {"2026-11-22T14:18:01Z", NOW_US},
                 {"2026-11-22 14:18", NOW_US - 1000000}};
    uint64_t us;

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(right); i++) {
        if (mayday_cli_time(right[i].text, NOW_US, &us) != MAYDAY_OK || us != right[i].us) {
            fail_msg("\"%s\" became %llu", right[i].text, (unsigned long long) us);
        }
    }
}

static void
test_cli_number__groups(void **state)
{
    char text[32];

    (void) state;
    mayday_cli_number(text, sizeof(text), 0);
    assert_string_equal(text, "0");
    mayday_cli_number(text, sizeof(text), 1234567);
    assert_string_equal(text, "1,234,567");
    mayday_cli_number(text, sizeof(text), 123);
    assert_string_equal(text, "123");
    mayday_cli_number(text, sizeof(text), -5);
    assert_string_equal(text, "0");
    mayday_cli_bytes(text, sizeof(text), 12345);
    assert_string_equal(text, "12.1 KiB");
    mayday_cli_bytes(text, sizeof(text), 7);
    assert_string_equal(text, "7 bytes");
}

/* ---- no agent ---- */

static void
test_find__no_socket(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->errors, "no agent answers: No such file or directory");
}

static void
test_find__nobody_listens(void **state)
{
    fixture_t *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->socket);
    assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(run(f, &mayday_command_send_event), MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->errors, "Connection refused");
}

static void
test_find__directory_without_instance(void **state)
{
    fixture_t *f = *state;

    f->cli.socket = NULL;
    f->cli.directory = "/nowhere/at/all";
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->errors, "no instance uses the directory /nowhere/at/all");
}

static void
write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void
test_find__run_directory(void **state)
{
    fixture_t *f = *state;

    f->cli.socket = NULL;
    f->cli.directory = f->dir;
    write_file(f->dir, "current", "");
    write_file(f->dir, "agent.status", "78 the store is \033broken\n");
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->errors, "the agent could not start: the store is \\x1bbroken");
    start(f, "200 OK", "{\"healthy\":true}");
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_OK);
    assert_string_equal(f->cli.socket_path, f->socket);
}

static void
test_client__denied_names_the_group(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK", "{}");
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(f->socket, 0600), 0); /* the test may well be in its group */
    assert_int_equal(seteuid(65534), 0);
    int exit_code = run(f, &mayday_command_status);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(exit_code, MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->errors, "root and the group \"root\"");
}

/* ---- answers ---- */

static void
test_client__refusal_is_shown_safely(void **state)
{
    fixture_t *f = *state;

    start(f, "404 Not Found", "{\"error\":\"no such \\u001b[31m event\"}");
    f->cli.operand = "abcd";
    assert_int_equal(run(f, &mayday_command_show), MAYDAY_EXIT_FAILED);
    assert_string_equal(f->errors, "mayday: no such \\x1b[31m event\n");
    assert_text_in(f->request, "GET /v1/events/abcd HTTP/1.1");
}

static void
test_client__answer_that_is_no_json(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK", "<html>");
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_FAILED);
    assert_text_in(f->errors, "not understood");
}

static void
test_status__names_an_instance_without_an_agent(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK", "{\"healthy\":true}");
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_OK);
    assert_null(strstr(f->out, "another instance"));
    snprintf(f->cli.silent, sizeof(f->cli.silent), "/run/mayday/a\033b");
    f->cli.silent_count = 3;
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "another instance, a\\x1bb, has no agent: mayday -d "
                           "/run/mayday/a\\x1bb status; and 2 more\n");
}

static void
test_status__exit_codes_and_formats(void **state)
{
    fixture_t *f = *state;
    static const char degraded[] =
        "{\"healthy\":false,\"problems\":[\"it\\u0007 burns\"],\"counts\":{\"requests\":2000,"
        "\"captured\":{\"limited\":1,\"upstream_refused\":3},\"dropped\":{}}}";

    f->cli.format = "yaml";
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_USAGE);
    f->cli.format = NULL;
    start(f, "200 OK", degraded);
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_FAILED);
    assert_text_in(f->out, "degraded");
    assert_text_in(f->out, "it\\x07 burns");
    assert_text_in(f->out, "4   upstream_refused 3 \xc2\xb7 limited 1");
    assert_text_in(f->out, "0.2 % captured");
    f->body = "{\"counts\":{\"rule_errors\":3,\"observed\":{\"kept\":4},\"captured\":"
              "{\"upstream_refused\":3000,\"upstream_read_timeout\":200,\"limited\":10}}}";
    f->cli.term.width = 70;
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_FAILED);
    assert_text_in(f->out,
                   "3,210   upstream_refused 3,000\n"
                   "                        upstream_read_timeout 200 \xc2\xb7 limited 10\n");
    assert_text_in(f->out, "degraded            3   went out without details");
    assert_text_in(f->out, "observed            4   kept 4");
    clear(f);
    f->body =
        "{\"agent\":{\"rules\":{\"file\":\"/r.lua\",\"mode\":\"enforce\"}},\"rules\":["
        "{\"where\":\"r.lua:7\",\"outcome\":\"dropped\",\"reason\":\"bot\",\"count\":3000},"
        "{\"where\":\"r.lua:7\",\"outcome\":\"dropped\",\"reason\":\"health check\",\"count\":4},"
        "{\"where\":\"r.lua:7\",\"outcome\":\"dropped\",\"reason\":\"a third one\",\"count\":1},"
        "{\"where\":\"r.lua:7\",\"outcome\":\"failed\",\"reason\":\"\",\"count\":2},"
        "{\"where\":\"r.lua:12\",\"outcome\":\"dropped\",\"reason\":\"bot\",\"observed\":true,"
        "\"count\":9}]}";
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_FAILED);
    assert_text_in(f->out, "rules       /r.lua, enforce\n"
                           "            r.lua:7   dropped     bot 3,000 \xc2\xb7 health check 4\n"
                           "                                  a third one 1\n"
                           "            r.lua:7   failed      events 2\n"
                           "            r.lua:12  would drop  bot 9\n");
    f->cli.term.width = 0;
    f->body = "{\"healthy\":true}";
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "healthy");
    f->cli.format = "json";
    assert_int_equal(run(f, &mayday_command_status), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "\"healthy\":\ttrue");
}

static const char rows[] =
    "{\"events\":[{\"row\":7,\"event_id\":\"0123456789abcdef0123456789abcdef\",\"time_us\":1,"
    "\"kind\":\"upstream_refused\",\"level\":\"error\",\"status\":502,"
    "\"title\":\"UpstreamRefused: shop \\u202e refused connections (2 peers tried)\","
    "\"transaction\":\"GET /a\\u001b[2J\",\"issue_seen\":1234}]}";

static void
test_events__refuses_what_finds_nothing(void **state)
{
    fixture_t *f = *state;
    static const char *const issues[] = {"", "xyz", "12g", "12 "};

    f->cli.kind = "upstream";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
    assert_int_equal(run(f, &mayday_command_issues), MAYDAY_EXIT_USAGE);
    f->cli.kind = NULL;
    for (size_t i = 0; i < MAYDAY_COUNT(issues); i++) {
        f->cli.issue = issues[i];
        assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
    }
    f->cli.issue = NULL;
    f->cli.reason = "bot";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
}

static void
test_events__a_line(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK", rows);
    f->cli.kind = "limited";
    f->cli.since = "2026-11-22T14:18:01Z";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_OK);
    assert_text_in(f->request, "/v1/events?limit=20&kind=limited&since=1795357081000000 ");
    assert_string_equal(f->out,
                        "01-01 00:00  01234567  502  GET /a\\x1b[2J                 "
                        "UpstreamRefused: shop \\u{202e} refused connections (2 peers tried)"
                        "  \xc3\x97"
                        "1,234\n");
}

static const char dropped_rows[] =
    "{\"events\":[{\"event_id\":\"0123456789abcdef0123456789abcdef\",\"time_us\":1,"
    "\"kind\":\"upstream_refused\",\"level\":\"error\",\"status\":502,"
    "\"title\":\"UpstreamRefused: shop refused connections\",\"transaction\":\"GET /a\","
    "\"reason\":\"bot\",\"hook\":\"before_send\",\"where\":\"rules.lua:12\","
    "\"observed\":false}]}";

static void
test_events__dropped(void **state)
{
    fixture_t *f = *state;

    f->cli.reason = "b&t";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
    f->cli.dropped = true;
    f->cli.issue = "ab";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
    f->cli.issue = NULL;
    start(f, "200 OK", dropped_rows);
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_OK);
    assert_text_in(f->request, "/v1/dropped?limit=20&reason=b%26t ");
    assert_string_equal(f->out, "01-01 00:00  01234567  502  GET /a                        "
                                "bot, rules.lua:12  UpstreamRefused: shop refused connections\n");
    for (unsigned width = 60; width < 140; width++) {
        clear(f);
        f->cli.term.width = width;
        assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_OK);
        for (const char *at = f->out; *at != '\0'; at += strcspn(at, "\n") + 1) {
            assert_true(mayday_term_width(&f->cli.term, mayday_slice(at, strcspn(at, "\n"))) <=
                        width);
        }
        assert_text_in(f->out, "1 dropped event; one in full: mayday show 01234567\n");
    }
}

static void
test_events__never_wider_than_the_terminal(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK", rows);
    for (unsigned width = 60; width < 140; width++) {
        clear(f);
        f->cli.term.width = width;
        assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_OK);
        for (const char *at = f->out; *at != '\0'; at += strcspn(at, "\n") + 1) {
            size_t line = strcspn(at, "\n");

            assert_true(mayday_term_width(&f->cli.term, mayday_slice(at, line)) <= width);
        }
        assert_text_in(f->out, "\n1 event; one in full: mayday show 01234567\n");
        /* The kind in front of a title goes before the rest of it does. */
        assert_int_equal(strstr(f->out, "UpstreamRefused: ") != NULL, width >= 120);
    }
}

/* A row as the API has it. */
#define ROW(row, issue, level, seen)                                                               \
    "{\"row\":" #row ",\"event_id\":\"" #row "0000000\",\"issue\":\"" issue                        \
    "\",\"level\":\"" level "\",\"title\":\"T\",\"issue_seen\":" #seen "}"

static void
test_issues__the_worst_first(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK",
          "{\"events\":[" ROW(9, "a", "warning", 50) "," ROW(8, "b", "error", 2) "," ROW(
              7, "a", "warning", 50) "," ROW(6, "c", "error", 7) "," ROW(5, "d", "fatal", 1) "]}");
    f->cli.kind = "limited";
    assert_int_equal(run(f, &mayday_command_issues), MAYDAY_EXIT_OK);
    assert_text_in(f->request, "/v1/events?limit=1000&kind=limited ");
    const char *fatal = strstr(f->out, "50000000"), *often = strstr(f->out, "60000000");
    const char *error = strstr(f->out, "80000000"), *warning = strstr(f->out, "90000000");
    assert_true(fatal != NULL && often > fatal && error > often && warning > error);
    assert_null(strstr(f->out, "70000000"));
    clear(f);
    f->cli.term.width = 100;
    assert_int_equal(run(f, &mayday_command_issues), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "\n4 issues in 5 events; one in full: mayday show 50000000\n");
    f->body = "{\"events\":[]}";
    assert_int_equal(run(f, &mayday_command_issues), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "There are no such issues.");
}

static void
test_events__json_and_none(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK", rows);
    f->cli.json = true;
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "\"title\":\"UpstreamRefused: shop \\u202e refused");
    assert_null(strchr(f->out, '\033'));
    f->cli.json = false;
    f->body = "{\"events\":[]}";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "There are no such events.");
}

static void
test_events__wrong_options(void **state)
{
    fixture_t *f = *state;

    static const char *const limits[] = {"0", "1001", "x", "", "-1", "5x"};

    for (size_t i = 0; i < MAYDAY_COUNT(limits); i++) {
        f->cli.limit = limits[i];
        assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
    }
    f->cli.limit = NULL;
    f->cli.since = "soon";
    assert_int_equal(run(f, &mayday_command_events), MAYDAY_EXIT_USAGE);
}

static void
test_show__page(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK",
          "{\"event_id\":\"0123\",\"level\":\"error\",\"timestamp\":\"2026-11-22T14:18:01.25Z\","
          "\"exception\":{\"values\":[{\"type\":\"UpstreamClosed\",\"value\":\"shop hung up\"}]},"
          "\"request\":{\"method\":\"GET\",\"url\":\"http://a/b\","
          "\"query_string\":[[\"q\",\"1\"],[\"t\",\"[Filtered]\"]],"
          "\"headers\":[[\"X\",\"evil\\u001b]0;x\"],[\"broken\"],5]},"
          "\"contexts\":{\"mayday\":{\"upstream\":\"shop\",\"attempts\":[{\"peer\":\"10.0.0.4:80\","
          "\"status_code\":502,\"connect_ms\":3}],\"log_lines\":[\"prematurely "
          "closed\",\"prematurely "
          "closed\",\"then this\"]}},"
          "\"user\":{\"id\":7,\"data\":{\"ip_hash\":\"ab\"}},\"tags\":{\"k\":\"v\"}}");
    f->cli.operand = "0123";
    assert_int_equal(run(f, &mayday_command_show), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "UpstreamClosed: shop hung up\n");
    assert_text_in(f->out, "2026-11-22 14:18:01.250");
    assert_text_in(f->out, "GET http://a/b");
    assert_text_in(f->out, "evil\\x1b]0;x");
    assert_text_in(f->out, "peer         status        connect\n");
    assert_text_in(f->out, "10.0.0.4:80  502              3 ms\n");
    assert_text_in(f->out, "log         prematurely closed  \xc3\x97"
                           "2\n            then this\n");
    assert_text_in(f->out, "try again   curl -gi 'http://a/b?q=1&t=[Filtered]'\n");
    assert_text_in(f->out, "data.ip_hash");
    assert_null(strstr(f->out, "dropped"));
    f->cli.json = true;
    assert_int_equal(run(f, &mayday_command_show), MAYDAY_EXIT_OK);
    assert_null(strchr(f->out, '\033'));
}

static void
test_show__dropped(void **state)
{
    fixture_t *f = *state;

    start(f, "200 OK",
          "{\"event_id\":\"0123\",\"contexts\":{\"mayday\":{\"dropped\":{\"reason\":\"bot\","
          "\"hook\":\"before_send\",\"where\":\"rules.lua:12\"}}}}");
    f->cli.operand = "0123";
    assert_int_equal(run(f, &mayday_command_show), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "dropped     not sent, kept here scrubbed: bot, by before_send at "
                           "rules.lua:12\n");
}

/* What it prints is pasted into a shell. */
static void
test_show__no_command_that_does_harm(void **state)
{
    fixture_t *f = *state;
    static const char *const requests[] = {
        "\"method\":\"POST\",\"url\":\"http://a/b\"",
        "\"method\":\"GET\",\"url\":\"http://a/'; rm -r ~ '\"",
        "\"method\":\"GET\",\"url\":\"-K/etc/passwd\"",
        "\"method\":\"GET\",\"url\":\"http://a/\\u202eb\"",
        "\"method\":\"GET\",\"url\":\"http://a/\",\"query_string\":[[\"a'b\",\"c\"]]",
    };
    char body[256] = "";

    start(f, "200 OK", body);
    f->cli.operand = "0123";
    for (size_t i = 0; i < MAYDAY_COUNT(requests); i++) {
        snprintf(body, sizeof(body), "{\"request\":{%s}}", requests[i]);
        clear(f);
        assert_int_equal(run(f, &mayday_command_show), MAYDAY_EXIT_OK);
        assert_null(strstr(f->out, "curl"));
    }
}

static void
test_show__wrong_id(void **state)
{
    fixture_t *f = *state;
    static const char *const ids[] = {"abc", "", "../status", "abcx",
                                      "0123456789abcdef0123456789abcdef0"};

    for (size_t i = 0; i < MAYDAY_COUNT(ids); i++) {
        f->cli.operand = ids[i];
        assert_int_equal(run(f, &mayday_command_show), MAYDAY_EXIT_USAGE);
    }
}

static void
test_send_event__results(void **state)
{
    fixture_t *f = *state;

    f->cli.operand = "nonsense";
    assert_int_equal(run(f, &mayday_command_send_event), MAYDAY_EXIT_USAGE);
    f->cli.operand = "https://key@sentry.example.com/42";
    start(f, "200 OK",
          "{\"results\":[{\"dsn\":\"https://[Filtered]@sentry.example.com/42\","
          "\"status\":200,\"event_id\":\"ab\"}]}");
    assert_int_equal(run(f, &mayday_command_send_event), MAYDAY_EXIT_OK);
    assert_text_in(f->request, "\r\n\r\n{\"dsn\":\"https://key@sentry.example.com/42\"}");
    assert_text_in(f->out, "arrived as event ab");
    f->body = "{\"results\":[{\"dsn\":\"d\",\"status\":0,\"error\":\"name not found\"}]}";
    f->cli.operand = NULL;
    assert_int_equal(run(f, &mayday_command_send_event), MAYDAY_EXIT_FAILED);
    assert_text_in(f->request, "\r\n\r\n{}");
    assert_text_in(f->out, "name not found");
    f->body = "{\"results\":[]}";
    assert_int_equal(run(f, &mayday_command_send_event), MAYDAY_EXIT_FAILED);
}

static void
test_purge__says_what(void **state)
{
    fixture_t *f = *state;

    f->cli.yes = true;
    assert_int_equal(run(f, &mayday_command_purge), MAYDAY_EXIT_USAGE);
    f->cli.all = true;
    f->cli.user = "jane";
    assert_int_equal(run(f, &mayday_command_purge), MAYDAY_EXIT_USAGE);
    f->cli.all = false;
    start(f, "200 OK", "{\"purged\":1}");
    assert_int_equal(run(f, &mayday_command_purge), MAYDAY_EXIT_OK);
    assert_text_in(f->request, "\r\n\r\n{\"user\":\"jane\"}");
    assert_text_in(f->out, "1 event erased.");
    f->cli.user = NULL;
    f->cli.before = "2026-11-22T14:18:01Z";
    assert_int_equal(run(f, &mayday_command_purge), MAYDAY_EXIT_OK);
    assert_text_in(f->request, "\r\n\r\n{\"before_us\":1.795357081e+15}");
    f->cli.before = "never";
    assert_int_equal(run(f, &mayday_command_purge), MAYDAY_EXIT_USAGE);
}

static void
test_purge__asks(void **state)
{
    fixture_t *f = *state;
    int saved = dup(STDIN_FILENO);

    start(f, "200 OK", "{\"purged\":1}");
    f->cli.all = true;
    assert_non_null(freopen("/dev/null", "r", stdin));
    assert_int_equal(run(f, &mayday_command_purge), MAYDAY_EXIT_USAGE);
    assert_string_equal(f->request, "");
    assert_text_in(f->errors, "add --yes");
    dup2(saved, STDIN_FILENO);
    close(saved);
}

/* ---- the manual ---- */

static void
test_manual__has_every_command_and_option(void **state)
{
    static const mayday_command_t *const commands[] = {
        &mayday_command_status, &mayday_command_tail,       &mayday_command_events,
        &mayday_command_show,   &mayday_command_send_event, &mayday_command_purge,
        &mayday_command_rules};
    char manual[32768] = "", wanted[64], options[128];
    FILE *file = fopen("docs/mayday.1", "r");

    (void) state;
    assert_non_null(file);
    assert_true(fread(manual, 1, sizeof(manual) - 1, file) > 0);
    fclose(file);
    for (size_t i = 0; i < MAYDAY_COUNT(commands); i++) {
        snprintf(wanted, sizeof(wanted), "\n.It Cm %s", commands[i]->name);
        assert_text_in(manual, wanted);
        snprintf(options, sizeof(options), "%s", commands[i]->options);
        for (char *name = strtok(options, " "); name != NULL; name = strtok(NULL, " ")) {
            snprintf(wanted, sizeof(wanted), "\n.It Fl -%s", name);
            assert_text_in(strstr(manual, ".Sh COMMANDS"), wanted);
            snprintf(wanted, sizeof(wanted), "  --%s", name);
            assert_text_in(commands[i]->help, wanted);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cli_time__not_a_time),
        TEST(test_cli_time__ages_and_dates),
        TEST(test_cli_number__groups),
        TEST(test_find__no_socket),
        TEST(test_find__nobody_listens),
        TEST(test_find__directory_without_instance),
        TEST(test_find__run_directory),
        TEST(test_client__denied_names_the_group),
        TEST(test_client__refusal_is_shown_safely),
        TEST(test_client__answer_that_is_no_json),
        TEST(test_status__names_an_instance_without_an_agent),
        TEST(test_status__exit_codes_and_formats),
        TEST(test_events__refuses_what_finds_nothing),
        TEST(test_events__a_line),
        TEST(test_events__dropped),
        TEST(test_events__never_wider_than_the_terminal),
        TEST(test_issues__the_worst_first),
        TEST(test_events__json_and_none),
        TEST(test_events__wrong_options),
        TEST(test_show__page),
        TEST(test_show__dropped),
        TEST(test_show__no_command_that_does_harm),
        TEST(test_show__wrong_id),
        TEST(test_send_event__results),
        TEST(test_purge__says_what),
        TEST(test_purge__asks),
        cmocka_unit_test(test_manual__has_every_command_and_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
