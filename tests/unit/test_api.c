/*
 * The agent's API, asked over its socket. This program is the agent itself when
 * it is started as "… agent …".
 */
#include "tests/unit/instance_fixture.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "core/agent/agent.h"
#include "core/agent/status.h"

#define DEADLINE_US UINT64_C(10000000)

static char answer[256 * 1024];

static void
pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static void
socket_path(fixture_t *f, char *path, size_t size)
{
    int len = snprintf(path, size, "%s/" MAYDAY_SOCKET_NAME, f->supervisor.run_dir);

    assert_true(len > 0 && (size_t) len < size);
}

static int
connect_agent(fixture_t *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {10, 0};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    socket_path(f, address.sun_path, sizeof(address.sun_path));
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The status; what was answered is left in `answer`. */
static int
ask(fixture_t *f, const char *method, const char *path, const char *body)
{
    static char request[128 * 1024];
    int fd = connect_agent(f), status = 0;
    size_t len = 0;
    ssize_t n;
    char *start;

    assert_true(fd >= 0);
    n = snprintf(request, sizeof(request),
                 "%s %s HTTP/1.1\r\nHost: l\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                 method, path, strlen(body), body);
    assert_int_equal(send(fd, request, (size_t) n, MSG_NOSIGNAL), n);
    while ((n = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0) {
        len += (size_t) n;
    }
    close(fd);
    answer[len] = '\0';
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    start = strstr(answer, "\r\n\r\n");
    assert_non_null(start);
    memmove(answer, start + 4, strlen(start + 4) + 1);
    return status;
}

static int
setup(void **state)
{
    static fixture_t fixture;
    static char self[512];
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char path[300];

    assert_true(len > 0);
    self[len] = '\0';
    fixture_init(&fixture);
    fixture.instance.agent_path = mayday_slice_str(self);
    assert_int_equal(fixture_prepare(&fixture), MAYDAY_OK);
    socket_path(&fixture, path, sizeof(path));
    while (access(path, F_OK) != 0 && mayday_clock_monotonic_us() < until) {
        mayday_supervise(&fixture.supervisor, fixture_say, &fixture);
        pause_ms(10);
    }
    *state = &fixture;
    return 0;
}

static int
teardown(void **state)
{
    fixture_fini(*state);
    return 0;
}

static void
test_api__refuses_what_it_does_not_know(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", "/", ""), 404);
    assert_int_equal(ask(f, "GET", "/v1/statusx", ""), 404);
    assert_int_equal(ask(f, "POST", MAYDAY_API_STATUS, "{}"), 405);
    assert_int_equal(ask(f, "GET", MAYDAY_API_PURGE, ""), 405);
    assert_non_null(strstr(answer, "\"error\""));
}

static void
test_api__refuses_wrong_arguments(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "?limit=0", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "?limit=1001", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "?limit=-1", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "?after=99999999999999999999", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "/abc", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "/xyzw", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "/%27%20or%201=1", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS "/0000", ""), 404);
    assert_int_equal(ask(f, "GET", MAYDAY_API_DROPPED "?limit=0", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_DROPPED "?since=now", ""), 400);
    assert_int_equal(ask(f, "GET", MAYDAY_API_DROPPED "?reason=%27%20or%201=1", ""), 200);
    assert_string_equal(answer, "{\"events\":[]}");
}

static void
test_api__purges_only_what_it_is_told_to(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, ""), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "[]"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"all\":1}"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"all\":false}"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"user\":\"\"}"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"user\":\"a\",\"all\":true}"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"before_us\":-5}"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"before_us\":1e300}"), 400);
    assert_int_equal(ask(f, "POST", MAYDAY_API_PURGE, "{\"all\":true}"), 200);
    assert_string_equal(answer, "{\"purged\":0,\"dropped\":0}");
}

static void
test_api__bounds_bodies(void **state)
{
    static char large[100 * 1024];

    memset(large, ' ', sizeof(large) - 1);
    assert_int_equal(ask(*state, "POST", MAYDAY_API_PURGE, large), 413);
}

static void
test_api__shows_the_status(void **state)
{
    fixture_t *f = *state;
    cJSON *document;
    const cJSON *agent;

    assert_int_equal(ask(f, "GET", MAYDAY_API_STATUS, ""), 200);
    assert_null(strstr(answer, "e+")); /* times in microseconds are whole numbers */
    document = cJSON_Parse(answer);
    agent = cJSON_GetObjectItem(document, "agent");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(agent, "directory")), f->state);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(agent, "server")), "nginx");
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(document, "healthy")));
    assert_true(cJSON_IsArray(cJSON_GetObjectItem(document, "problems")));
    assert_true(
        cJSON_IsObject(cJSON_GetObjectItem(cJSON_GetObjectItem(document, "counts"), "captured")));
    cJSON_Delete(document);
    assert_int_equal(ask(f, "GET", MAYDAY_API_METRICS, ""), 200);
    assert_non_null(strstr(answer, "\nmayday_healthy 1\n"));
}

static void
test_api__shows_that_the_store_cannot_be_opened(void **state)
{
    fixture_t *f = *state;
    char path[200], aside[200];

    snprintf(path, sizeof(path), "%s/store.sqlite", f->state);
    snprintf(aside, sizeof(aside), "%s/aside", f->state);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(ask(f, "GET", MAYDAY_API_STATUS, ""), 200);
    assert_non_null(strstr(answer, "\"healthy\":false"));
    assert_non_null(strstr(answer, "the store cannot be used: "));
    assert_int_equal(ask(f, "POST", MAYDAY_API_SEND_EVENT, "{}"), 200);
    assert_int_equal(ask(f, "GET", MAYDAY_API_METRICS, ""), 500);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS, ""), 500);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(ask(f, "GET", MAYDAY_API_EVENTS, ""), 200);
}

static void
test_api__tells_why_a_test_event_does_not_arrive(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(ask(f, "POST", MAYDAY_API_SEND_EVENT, "{}"), 200);
    assert_non_null(strstr(answer, "\"dsn\":\"http://[Filtered]@127.0.0.1:9/42\""));
    assert_non_null(strstr(answer, "\"status\":0"));
    assert_non_null(strstr(answer, "connection refused"));
    assert_int_equal(ask(f, "POST", MAYDAY_API_SEND_EVENT, "{\"dsn\":\"ftp://secret@h/1\"}"), 200);
    assert_non_null(strstr(answer, "the DSN is wrong: expected"));
    assert_null(strstr(answer, "secret"));
    assert_int_equal(ask(f, "POST", MAYDAY_API_SEND_EVENT, "{\"dsn\":5}"), 400);
}

/* Who wrote itself into the agent's lock file; 0: nobody yet. */
static pid_t
agent_pid(fixture_t *f)
{
    char path[300], pid[32] = "";
    FILE *file;

    snprintf(path, sizeof(path), "%s/agent.lock", f->supervisor.run_dir);
    file = fopen(path, "r");
    if (file != NULL) {
        (void) fgets(pid, sizeof(pid), file);
        fclose(file);
    }
    return (pid_t) strtol(pid, NULL, 10);
}

static void
test_api__has_its_sockets_mode_and_replaces_a_stale_one(void **state)
{
    fixture_t *f = *state;
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;
    char path[300];
    struct stat st;
    pid_t killed, now;
    int fd;

    socket_path(f, path, sizeof(path));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    killed = agent_pid(f);
    assert_true(killed > 0);
    kill(killed, SIGKILL);
    /* the dead agent's socket refuses, the dying one's does not yet */
    do {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(10);
        now = agent_pid(f);
        fd = connect_agent(f);
        if (fd >= 0) {
            close(fd);
        }
    } while ((fd < 0 || now == 0 || now == killed) && mayday_clock_monotonic_us() < until);
    assert_int_not_equal(now, killed);
    assert_int_equal(ask(f, "GET", MAYDAY_API_STATUS, ""), 200);
}

static void
test_api__moves_when_the_configuration_says_so(void **state)
{
    fixture_t *f = *state;
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;
    static char elsewhere[200];
    struct stat st;

    snprintf(elsewhere, sizeof(elsewhere), "%s/my.sock", f->root);
    f->instance.socket_path = mayday_slice_str(elsewhere);
    f->instance.socket_mode = 0600;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    while (access(elsewhere, F_OK) != 0 && mayday_clock_monotonic_us() < until) {
        pause_ms(10);
    }
    assert_int_equal(stat(elsewhere, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(connect_agent(f), -1);
}

static void
test_api__replaces_nothing_but_a_socket(void **state)
{
    fixture_t *f = *state;
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;
    static char file[200];
    struct stat st;
    int fd;

    snprintf(file, sizeof(file), "%s/file", f->root);
    close(open(file, O_CREAT | O_WRONLY, 0640));
    f->instance.socket_path = mayday_slice_str(file);
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    while ((fd = connect_agent(f)) >= 0 && mayday_clock_monotonic_us() < until) {
        close(fd);
        pause_ms(10);
    }
    assert_int_equal(fd, -1);
    pause_ms(100); /* the old one has gone, the new one was refused */
    assert_int_equal(lstat(file, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    f->instance.socket_path = mayday_slice_str("");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    while ((fd = connect_agent(f)) < 0 && mayday_clock_monotonic_us() < until) {
        pause_ms(10);
    }
    assert_true(fd >= 0);
    close(fd);
}

/* Each takes a thread until it is told off; the others must still be served. */
static void
test_api__serves_on_beside_silent_connections(void **state)
{
    fixture_t *f = *state;
    int silent[8];

    for (unsigned i = 0; i < MAYDAY_COUNT(silent); i++) {
        silent[i] = connect_agent(f);
        assert_true(silent[i] >= 0);
    }
    assert_int_equal(ask(f, "GET", MAYDAY_API_STATUS, ""), 200);
    for (unsigned i = 0; i < MAYDAY_COUNT(silent); i++) {
        close(silent[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_api__refuses_what_it_does_not_know),
        TEST(test_api__refuses_wrong_arguments),
        TEST(test_api__purges_only_what_it_is_told_to),
        TEST(test_api__bounds_bodies),
        TEST(test_api__shows_the_status),
        TEST(test_api__shows_that_the_store_cannot_be_opened),
        TEST(test_api__tells_why_a_test_event_does_not_arrive),
        TEST(test_api__has_its_sockets_mode_and_replaces_a_stale_one),
        TEST(test_api__moves_when_the_configuration_says_so),
        TEST(test_api__replaces_nothing_but_a_socket),
        TEST(test_api__serves_on_beside_silent_connections),
    };

    if (argc > 1 && strcmp(argv[1], "agent") == 0) {
        return mayday_agent_main(argc - 1, argv + 1);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
