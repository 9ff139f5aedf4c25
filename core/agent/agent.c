/*
 * The agent's main thread: options, start, the life pipe, changes of the
 * configuration, the end. Counterpart in the server: core/capture/supervise.h.
 */
#include <apr_general.h>
#include <apr_getopt.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/agent/agent.h"
#include "core/agent/api.h"
#include "core/agent/log.h"
#include "core/capture/supervise.h"
#include "core/event/event.h"

#ifndef MAYDAY_LUA_DIR
#define MAYDAY_LUA_DIR "/usr/local/share/mayday/lua"
#endif

#define TICK_MS 250
#define API_RETRY_US UINT64_C(5000000)
#define END_GRACE_S 2 /* beyond the shutdown timeout, then it ends without order */
#define EXIT_USAGE 2
#define EXIT_AGAIN 1

typedef enum { GO_ON, END_SERVER_GONE, END_SIGNAL, END_REPLACE, END_FAILED } fate_t;

typedef struct {
    mayday_agent_t shared;
    apr_pool_t *pool;
    int life_fd; /* -1: runs by itself */
    int signal_fd;
    mayday_current_t current;
    mayday_api_t *api;
    uint64_t api_retry_us; /* monotonic; 0: none is due */
    bool api_failure_told; /* with these settings */
} agent_t;

/* ---- options ---- */

static const apr_getopt_option_t options[] = {
    {"run", 'r', 1, "run directory of the instance"},
    {"life-fd", 'l', 1, "descriptor whose end of file means that the server has gone"},
    {"help", 'h', 0, "this text"},
    {NULL, 0, 0, NULL},
};

static void
print_usage(FILE *out)
{
    fprintf(out, "usage: mayday agent --run DIRECTORY [--life-fd NUMBER]\n");
    for (size_t i = 0; options[i].name != NULL; i++) {
        fprintf(out, "  --%-10s %s\n", options[i].name, options[i].description);
    }
}

/* -1: go on; else the exit code. */
static int
parse_options(agent_t *a, int argc, char **argv)
{
    apr_getopt_t *parser;
    apr_status_t status;
    const char *value;
    char *end;
    int option;

    if (apr_getopt_init(&parser, a->pool, argc, (const char *const *) argv) != APR_SUCCESS) {
        return EXIT_AGAIN;
    }
    while ((status = apr_getopt_long(parser, options, &option, &value)) == APR_SUCCESS) {
        if (option == 'h') {
            print_usage(stdout);
            return 0;
        }
        if (option == 'r') {
            a->shared.run_dir = value;
        } else {
            long fd = strtol(value, &end, 10);
            if (*end != '\0' || end == value || fd < 0 || fd > 65535 ||
                fcntl((int) fd, F_SETFD, FD_CLOEXEC) != 0) {
                fprintf(stderr, "mayday agent: --life-fd: \"%s\" is no open descriptor\n", value);
                return EXIT_USAGE;
            }
            a->life_fd = (int) fd;
        }
    }
    if (status != APR_EOF || parser->ind < argc || a->shared.run_dir == NULL ||
        a->shared.run_dir[0] != '/') {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    return -1;
}

/* ---- waiting ---- */

/* Looks for an end for at most timeout_ms. */
static fate_t
wait_for_fate(agent_t *a, int timeout_ms)
{
    struct pollfd fds[2] = {{a->signal_fd, POLLIN, 0}, {a->life_fd, POLLIN, 0}};
    struct signalfd_siginfo info;
    char byte;

    /* poll ignores a descriptor of -1 */
    if (poll(fds, 2, timeout_ms) <= 0) {
        return GO_ON;
    }
    if (fds[0].revents != 0 && read(a->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        return END_SIGNAL;
    }
    if (fds[1].revents != 0 && read(a->life_fd, &byte, 1) == 0) {
        return END_SERVER_GONE;
    }
    return GO_ON;
}

static bool
open_signals(agent_t *a)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) {
        return false;
    }
    a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return a->signal_fd >= 0;
}

/* ---- the start ---- */

static int
cannot_start(agent_t *a, int code, const char *text)
{
    mayday_log(MAYDAY_LOG_ERROR, "MD0101", "the agent cannot start: %s", text);
    mayday_instance_status(a->shared.run_dir, code, text);
    return code;
}

/*
 * Waits for the server to make the run directory and say what holds; takes the
 * lock. -1: go on; else the exit code.
 */
static int
join_instance(agent_t *a)
{
    char storage[600];
    mayday_buf_t error;
    bool locked = false, said = false;
    mayday_rc_t rc;

    do {
        mayday_buf_init(&error, storage, sizeof(storage));
        rc = MAYDAY_OK;
        if (!locked) {
            rc = mayday_instance_lock(a->shared.run_dir);
            locked = rc == MAYDAY_OK;
            if (rc == MAYDAY_BUSY) {
                mayday_log(a->life_fd < 0 ? MAYDAY_LOG_NOTICE : MAYDAY_LOG_DEBUG, "MD0102",
                           "another agent lives for %s", a->shared.run_dir);
                return MAYDAY_AGENT_EXIT_REPLACED;
            }
            if (rc != MAYDAY_OK && errno != ENOENT) {
                mayday_buf_addf(&error, "cannot lock %s/" MAYDAY_FILE_AGENT_LOCK ": %s",
                                a->shared.run_dir, strerror(errno));
                return cannot_start(a, MAYDAY_AGENT_EXIT_CANNOT_START, storage);
            }
        }
        if (rc == MAYDAY_OK) {
            rc = mayday_current_read(a->shared.run_dir, &a->current, &error);
            if (rc == MAYDAY_OK) {
                return -1;
            }
            if (rc != MAYDAY_NOT_FOUND) {
                return cannot_start(a, MAYDAY_AGENT_EXIT_CANNOT_START, storage);
            }
        }
        if (!said) {
            mayday_log(MAYDAY_LOG_NOTICE, "MD0103", "waiting for the server to prepare %s",
                       a->shared.run_dir);
            said = true;
        }
    } while (wait_for_fate(a, TICK_MS) == GO_ON);
    return 0;
}

/*
 * The standard rules stand beside an installed program (PREFIX/share) or in the
 * tree that it was built in; else where the build says.
 */
static void
find_lua_dir(agent_t *a)
{
    static const char *const places[] = {"../share/mayday/lua", "../lua"};
    char exe[256], probe[400];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    snprintf(a->shared.lua_dir, sizeof(a->shared.lua_dir), "%s", MAYDAY_LUA_DIR);
    if (len <= 0) {
        return;
    }
    exe[len] = '\0';
    slash = strrchr(exe, '/');
    if (slash == NULL) {
        return;
    }
    *slash = '\0';
    for (size_t i = 0; i < MAYDAY_COUNT(places); i++) {
        snprintf(probe, sizeof(probe), "%s/%s/mayday", exe, places[i]);
        if (access(probe, R_OK | X_OK) == 0) {
            snprintf(a->shared.lua_dir, sizeof(a->shared.lua_dir), "%s/%s", exe, places[i]);
            return;
        }
    }
}

static void
open_log(agent_t *a, const mayday_settings_t *settings)
{
    mayday_log_init(a->life_fd < 0 ? "" : settings->error_log,
                    strcmp(settings->server, "httpd") == 0, settings->debug);
}

static void
open_api(agent_t *a)
{
    char storage[512];
    mayday_buf_t error;

    mayday_buf_init(&error, storage, sizeof(storage));
    a->api_retry_us = 0;
    a->api = mayday_api_new(&a->shared, a->shared.settings, &error);
    if (a->api == NULL) {
        if (!a->api_failure_told) {
            mayday_log(MAYDAY_LOG_ERROR, "MD0104", "the mayday command cannot reach the agent: %s",
                       storage);
        }
        a->api_failure_told = true;
        a->api_retry_us = mayday_clock_monotonic_us() + API_RETRY_US;
    }
}

/* -1: it runs; else the exit code. */
static int
start(agent_t *a)
{
    char storage[600], problem[512];
    mayday_agent_t *s = &a->shared;
    mayday_buf_t error;
    int len;

    mayday_buf_init(&error, storage, sizeof(storage));
    s->settings = mayday_instance_settings(s->run_dir, a->current.settings, &error);
    if (s->settings == NULL) {
        return cannot_start(a, MAYDAY_AGENT_EXIT_CANNOT_START, storage);
    }
    open_log(a, s->settings);
    len = snprintf(s->store_path, sizeof(s->store_path), "%s/" MAYDAY_FILE_STORE,
                   s->settings->directory);
    if (s->settings->directory[0] != '/' || (size_t) len >= sizeof(s->store_path)) {
        return cannot_start(a, MAYDAY_AGENT_EXIT_CANNOT_START, "the directory's path is too long");
    }
    if (mayday_instance_lock(s->settings->directory) == MAYDAY_BUSY) {
        mayday_buf_addf(&error, "another agent uses %s; give each server its own mayday_directory",
                        s->settings->directory);
        return cannot_start(a, EXIT_AGAIN, storage);
    }
    find_lua_dir(a);
    mayday_event_setup();
    s->pipeline = mayday_pipeline_new(s->run_dir, s->store_path, s->lua_dir, &error);
    if (s->pipeline == NULL) {
        return cannot_start(a, EXIT_AGAIN, storage);
    }
    s->delivery = mayday_delivery_new(s->store_path, s->settings, problem, sizeof(problem));
    if (s->delivery == NULL) {
        return cannot_start(a, EXIT_AGAIN, problem);
    }
    mayday_pipeline_configure(s->pipeline, &a->current);
    if (mayday_pipeline_start(s->pipeline, s->delivery) != MAYDAY_OK) {
        return cannot_start(a, EXIT_AGAIN, "no thread for the pipeline");
    }
    open_api(a);
    mayday_instance_status(s->run_dir, 0, "");
    mayday_instance_settings_trim(s->run_dir, a->current.settings);
    mayday_log(MAYDAY_LOG_NOTICE, "MD0105", "agent " MAYDAY_VERSION " runs for %s, store in %s",
               s->settings->identity, s->settings->directory);
    return -1;
}

/* ---- while it runs ---- */

static void
reload(agent_t *a)
{
    char storage[600];
    mayday_agent_t *s = &a->shared;
    mayday_settings_t *settings, *old;
    mayday_current_t current;
    mayday_buf_t error;
    mayday_rc_t rc;

    mayday_buf_init(&error, storage, sizeof(storage));
    rc = mayday_current_read(s->run_dir, &current, &error);
    settings =
        rc == MAYDAY_OK ? mayday_instance_settings(s->run_dir, current.settings, &error) : NULL;
    if (settings == NULL) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0106", "the configuration's change is not taken over: %s",
                   storage);
        if (rc != MAYDAY_ERROR && rc != MAYDAY_NOT_FOUND) {
            /* this file will not get better: wait for the next one */
            a->current = current;
        }
        return;
    }
    a->current = current;
    pthread_mutex_lock(&s->lock);
    old = s->settings;
    s->settings = settings;
    pthread_mutex_unlock(&s->lock);
    mayday_settings_free(old);
    open_log(a, settings);
    mayday_pipeline_configure(s->pipeline, &current);
    mayday_delivery_configure(s->delivery, settings);
    if (a->api == NULL || !mayday_api_fits(a->api, settings)) {
        mayday_api_free(a->api);
        a->api_failure_told = false;
        open_api(a);
    }
    mayday_instance_settings_trim(s->run_dir, current.settings);
    mayday_log(MAYDAY_LOG_DEBUG, "MD0107", "the configuration was taken over");
}

static fate_t
run(agent_t *a)
{
    fate_t fate;

    while ((fate = wait_for_fate(a, TICK_MS)) == GO_ON) {
        if (mayday_pipeline_has_failed(a->shared.pipeline)) {
            return END_FAILED;
        }
        if (mayday_log_tick() && a->life_fd >= 0) {
            return END_REPLACE;
        }
        if (mayday_current_has_changed(a->shared.run_dir, &a->current)) {
            reload(a);
        }
        if (a->api_retry_us != 0 && mayday_clock_monotonic_us() >= a->api_retry_us) {
            open_api(a);
        }
    }
    return fate;
}

static void
end(agent_t *a, fate_t fate)
{
    mayday_agent_t *s = &a->shared;
    uint64_t timeout_ms = s->settings->shutdown_timeout_ms, started = mayday_clock_monotonic_us();
    uint64_t passed_ms;

    /* whatever hangs: all that counts is in the store or still in the lanes */
    alarm((unsigned) (timeout_ms / 1000 + END_GRACE_S));
    mayday_pipeline_stop(s->pipeline, fate == END_SERVER_GONE, (uint32_t) timeout_ms);
    mayday_api_free(a->api);
    passed_ms = (mayday_clock_monotonic_us() - started) / 1000;
    if (fate == END_REPLACE) {
        passed_ms = timeout_ms;
    }
    mayday_delivery_free(s->delivery,
                         passed_ms < timeout_ms ? (uint32_t) (timeout_ms - passed_ms) : 0);
    mayday_pipeline_free(s->pipeline);
    mayday_settings_free(s->settings);
    mayday_log(MAYDAY_LOG_NOTICE, "MD0108", "agent ended: %s",
               fate == END_SERVER_GONE ? "the server has ended"
               : fate == END_SIGNAL    ? "it was told to"
               : fate == END_REPLACE   ? "a new one gets the new log file"
                                       : "the store is damaged, a new one repairs it");
}

int
mayday_agent_main(int argc, char **argv)
{
    static agent_t agent;
    agent_t *a = &agent;
    fate_t fate;
    int code;

    memset(a, 0, sizeof(*a));
    a->life_fd = a->signal_fd = -1;
    a->shared.started_us = mayday_clock_us();
    pthread_mutex_init(&a->shared.lock, NULL);
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&a->pool, NULL) != APR_SUCCESS) {
        fprintf(stderr, "mayday agent: no memory\n");
        return EXIT_AGAIN;
    }
    code = parse_options(a, argc, argv);
    if (code >= 0) {
        return code;
    }
    umask(077);
    if (!open_signals(a)) {
        return cannot_start(a, EXIT_AGAIN, "no descriptor for signals");
    }
    code = join_instance(a);
    if (code < 0) {
        code = start(a);
    }
    if (code >= 0) {
        return code;
    }
    fate = run(a);
    end(a, fate);
    return fate == END_FAILED ? EXIT_AGAIN : MAYDAY_AGENT_EXIT_REPLACED;
}
