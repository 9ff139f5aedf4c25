/*
 * What the tests of delivery share: a receiver (tests/fake_receiver.py), a store,
 * and what they show. Every wait is for a condition, with a deadline.
 */
#ifndef MAYDAY_TEST_DELIVERY_FIXTURE_H
#define MAYDAY_TEST_DELIVERY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/delivery.h"

#define DEADLINE_US 20000000
#define OK(call) assert_int_equal((call), MAYDAY_OK)

typedef struct {
    char dir[64];
    char path[96];
    char dsn[2][128];
    pid_t receiver;
    unsigned port;
    mayday_store_t *store;
    mayday_delivery_t *delivery;
    mayday_settings_t settings;
    mayday_destination_setting_t destination;
    unsigned added;
} fixture_t;

static char error[512];

/* ---- the receiver ---- */

static inline pid_t
receiver_start(const char *certificate, const char *key, unsigned *port)
{
    char line[32] = {0};
    int out[2];
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test itself be killed */
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        if (certificate != NULL) {
            execlp("python3", "python3", "tests/fake_receiver.py", "--certificate", certificate,
                   "--key", key, (char *) NULL);
        }
        execlp("python3", "python3", "tests/fake_receiver.py", (char *) NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof(line) - 1 && strchr(line, '\n') == NULL; n++) {
        assert_int_equal(read(out[0], line + n, 1), 1);
    }
    close(out[0]);
    *port = (unsigned) strtoul(line, NULL, 10);
    assert_true(*port > 0);
    return pid;
}

static inline void
receiver_stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* One request; the body of its answer, from malloc. */
static inline char *
ask(unsigned port, const char *method, const char *path, const char *body)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
    size_t size = 1 << 25, len = 0;
    char *answer = malloc(size), *content;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ssize_t n;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    dprintf(fd, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
            method, path, strlen(body), body);
    while ((n = read(fd, answer + len, size - len - 1)) > 0) {
        len += (size_t) n;
    }
    close(fd);
    answer[len] = '\0';
    content = strstr(answer, "\r\n\r\n");
    assert_non_null(content);
    memmove(answer, content + 4, strlen(content + 4) + 1);
    return answer;
}

static inline void
behave(const fixture_t *f, const char *rules)
{
    free(ask(f->port, "POST", "/_control", rules));
}

/* What the receiver recorded; cJSON_Delete it. */
static inline cJSON *
records(const fixture_t *f)
{
    char *text = ask(f->port, "GET", "/_records", "");
    cJSON *list = cJSON_Parse(text);

    assert_true(cJSON_IsArray(list));
    free(text);
    return list;
}

static inline cJSON *
path_get(cJSON *node, const char *const *names)
{
    for (; *names != NULL && node != NULL; names++) {
        node = cJSON_IsArray(node) ? cJSON_GetArrayItem(node, atoi(*names))
                                   : cJSON_GetObjectItemCaseSensitive(node, *names);
    }
    return node;
}

#define GET(node, ...) path_get(node, (const char *const[]){__VA_ARGS__, NULL})
#define TEXT(node, ...) cJSON_GetStringValue(GET(node, __VA_ARGS__))

/* How many records of that status carry an item of that type. */
static inline unsigned
recorded(const fixture_t *f, const char *type, int status)
{
    cJSON *list = records(f), *record;
    unsigned n = 0;

    cJSON_ArrayForEach(record, list)
    {
        const char *found = TEXT(record, "envelope", "items", "0", "header", "type");

        assert_non_null(found);
        n += strcmp(found, type) == 0 && GET(record, "status")->valueint == status;
    }
    cJSON_Delete(list);
    return n;
}

/* ---- fixture ---- */

static inline int
setup(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    f->receiver = receiver_start(NULL, NULL, &f->port);
    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-delivery-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/store.sqlite", f->dir);
    f->store = mayday_store_new(f->path, error, sizeof(error));
    assert_non_null(f->store);
    snprintf(f->dsn[0], sizeof(f->dsn[0]), "http://sesame:open@127.0.0.1:%u/42", f->port);
    snprintf(f->dsn[1], sizeof(f->dsn[1]), "http://other@127.0.0.1:%u/prefix/43", f->port);
    f->destination.dsn_count = 1;
    f->destination.dsns[0] = f->dsn[0];
    f->destination.dsns[1] = f->dsn[1];
    f->settings.server = "nginx";
    f->settings.proxy = "";
    f->settings.trusted_certificate = "";
    f->settings.destinations = &f->destination;
    f->settings.destination_count = 1;
    *state = f;
    return 0;
}

static inline int
teardown(void **state)
{
    fixture_t *f = *state;
    struct dirent *entry;
    DIR *d;

    mayday_delivery_free(f->delivery, 0);
    mayday_store_free(f->store);
    receiver_stop(f->receiver);
    d = opendir(f->dir);
    while ((entry = readdir(d)) != NULL) {
        (void) unlinkat(dirfd(d), entry->d_name, 0);
    }
    closedir(d);
    rmdir(f->dir);
    free(f);
    return 0;
}

static inline void
start(fixture_t *f)
{
    f->delivery = mayday_delivery_new(f->path, &f->settings, error, sizeof(error));
    assert_non_null(f->delivery);
}

static inline void
add_to(fixture_t *f, unsigned count, const char *const *dsns, size_t dsn_count)
{
    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < count; i++) {
        mayday_store_event_t event = {.kind = "limited", .level = "error"};
        char id[33], json[128];

        snprintf(id, sizeof(id), "%032x", ++f->added);
        snprintf(json, sizeof(json), "{\"event_id\":\"%s\",\"platform\":\"other\"}", id);
        event.event_id = mayday_slice_str(id);
        event.time_us = mayday_clock_us();
        event.json = mayday_slice_str(json);
        event.trace = MAYDAY_SLICE("{\"trace_id\":\"0123\"}");
        OK(mayday_store_event_add(f->store, &event, dsns, dsn_count));
    }
    OK(mayday_store_commit(f->store));
    if (f->delivery != NULL) {
        mayday_delivery_wake(f->delivery);
    }
}

static inline void
add(fixture_t *f, unsigned count)
{
    add_to(f, count, f->destination.dsns, f->destination.dsn_count);
}

/* ---- observing ---- */

typedef struct {
    const char *name, *reason;
    uint64_t n;
} count_t;

static inline void
see_count(void *ctx, const char *name, const char *reason, uint64_t n)
{
    count_t *count = ctx;

    if (strcmp(name, count->name) == 0 && strcmp(reason, count->reason) == 0) {
        count->n = n;
    }
}

static inline uint64_t
count_of(const fixture_t *f, const char *name, const char *reason)
{
    count_t count = {name, reason, 0};

    OK(mayday_store_counts(f->store, see_count, &count));
    return count.n;
}

static inline void
see_dsn(void *ctx, int64_t dsn, const char *text, uint64_t n)
{
    (void) dsn;
    (void) text;
    *(uint64_t *) ctx += n;
}

static inline uint64_t
queued(const fixture_t *f)
{
    uint64_t n = 0;
    int64_t newest;

    OK(mayday_store_dsns(f->store, see_dsn, &n, &newest));
    return n;
}

static inline void
see_discarded(void *ctx, const char *reason, uint64_t n)
{
    (void) reason;
    *(uint64_t *) ctx += n;
}

static inline uint64_t
discarded(const fixture_t *f)
{
    uint64_t n = 0;

    OK(mayday_store_discarded(f->store, 1, see_discarded, &n));
    return n;
}

typedef struct {
    unsigned count;
    mayday_delivery_info_t info[8];
} infos_t;

static inline void
see_info(void *ctx, const mayday_delivery_info_t *info)
{
    infos_t *infos = ctx;

    infos->info[infos->count++] = *info;
}

static inline infos_t
infos(const fixture_t *f)
{
    infos_t all = {0};

    mayday_delivery_visit(f->delivery, see_info, &all);
    return all;
}

/* Waits until the condition holds; fails at the deadline. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t until_us_ = mayday_clock_monotonic_us() + DEADLINE_US;                            \
        while (!(condition)) {                                                                     \
            if (mayday_clock_monotonic_us() > until_us_) {                                         \
                fail_msg("still not: %s", #condition);                                             \
            }                                                                                      \
            usleep(2000);                                                                          \
        }                                                                                          \
    } while (0)

#endif
