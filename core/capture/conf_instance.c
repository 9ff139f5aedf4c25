/*
 * Setters of the directives that are given once per server instance.
 *
 * Runs when the configuration is read.
 */
#include "core/capture/conf_parse.h"

#include <grp.h>
#include <sys/un.h>

#include "core/capture/lane_format.h"

#define DIRECTORY_LEN_MAX 200 /* files are made below it, and below the run directory */
#define AGENT_LEN_MAX 500
/* The agent makes it as PATH.new, then renames it. */
#define SOCKET_LEN_MAX (sizeof(((struct sockaddr_un *) 0)->sun_path) - sizeof(".new"))
#define QUEUE_SIZE_MIN (UINT64_C(1) << 20)
#define QUEUE_SIZE_MAX (UINT64_C(1) << 40)
#define RETENTION_S_MAX (UINT64_C(3650) * 86400)
#define RATE_MAX 1000000
#define SHUTDOWN_MS_MAX 60000
#define SERVER_NAME_LEN_MAX 256
#define URL_LEN_MAX 1024

const char *
mayday_set_directory(const mayday_conf_call_t *call)
{
    mayday_slice_t path = call->args[0];

    while (path.len > 0 && path.data[path.len - 1] == '/') {
        path.len--;
    }
    if (path.len == 0) {
        return mayday_conf_found(call, call->args[0], "an absolute path of a directory");
    }
    return mayday_conf_path(call, path, DIRECTORY_LEN_MAX, &call->instance->directory);
}

const char *
mayday_set_agent(const mayday_conf_call_t *call)
{
    mayday_instance_t *instance = call->instance;
    mayday_slice_t word = call->args[0];

    if (mayday_conf_flag(word, &instance->agent_on)) {
        return NULL;
    }
    if (word.len == 0 || word.data[0] != '/') {
        return mayday_conf_found(call, word, "on, off or the absolute path of the program");
    }
    return mayday_conf_path(call, word, AGENT_LEN_MAX, &instance->agent_path);
}

const char *
mayday_set_rules_file(const mayday_conf_call_t *call)
{
    mayday_instance_t *instance = call->instance;

    if (call->count == 2) {
        bool observe = mayday_conf_is(call->args[1], "mode=observe");

        if (!observe && !mayday_conf_is(call->args[1], "mode=enforce")) {
            return mayday_conf_found(call, call->args[1], "mode=enforce or mode=observe");
        }
        instance->rules_mode = observe ? MAYDAY_RULES_OBSERVE : MAYDAY_RULES_ENFORCE;
    }
    return mayday_conf_file(call, call->args[0], &instance->rules_file);
}

/* ---- sizes and times ---- */

const char *
mayday_set_lane_size(const mayday_conf_call_t *call)
{
    const uint32_t min = MAYDAY_LANE_SIZE_MIN, max = MAYDAY_LANE_SIZE_MAX;
    uint64_t size;

    if (!mayday_conf_size(call->args[0], &size) || size < min || size > max) {
        return mayday_conf_found(call, call->args[0], "a size from %uk to %um", min >> 10,
                                 max >> 20);
    }
    call->instance->lane_size = (size_t) size;
    return NULL;
}

const char *
mayday_set_queue_size(const mayday_conf_call_t *call)
{
    uint64_t size;

    if (!mayday_conf_size(call->args[0], &size) || size < QUEUE_SIZE_MIN || size > QUEUE_SIZE_MAX ||
        size > SIZE_MAX) {
        return mayday_conf_found(call, call->args[0], "a size from 1m to 1024g");
    }
    call->instance->queue_size = (size_t) size;
    return NULL;
}

const char *
mayday_set_retention(const mayday_conf_call_t *call)
{
    uint64_t ms;

    if (!mayday_conf_time_ms(call->args[0], &ms) || ms < 1000 || ms / 1000 > RETENTION_S_MAX) {
        return mayday_conf_found(call, call->args[0], "a time from 1s to 3650d, such as 7d");
    }
    call->instance->retention_s = ms / 1000;
    return NULL;
}

const char *
mayday_set_shutdown_timeout(const mayday_conf_call_t *call)
{
    uint64_t ms;

    if (!mayday_conf_time_ms(call->args[0], &ms) || ms > SHUTDOWN_MS_MAX) {
        return mayday_conf_found(call, call->args[0], "a time from 0 to 60s, such as 2s or 500ms");
    }
    call->instance->shutdown_timeout_ms = ms;
    return NULL;
}

/* ---- rates ---- */

static bool
parse_rate(mayday_slice_t word, mayday_rate_t *rate)
{
    static const struct {
        char unit;
        uint32_t period_s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}};
    uint64_t events;

    if (word.len < 3 || word.data[word.len - 2] != '/' ||
        !mayday_conf_number(mayday_slice(word.data, word.len - 2), RATE_MAX, &events) ||
        events == 0) {
        return false;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(units); i++) {
        if (word.data[word.len - 1] == units[i].unit) {
            *rate = (mayday_rate_t){(uint32_t) events, units[i].period_s, (uint32_t) events};
            return true;
        }
    }
    return false;
}

static const char *
set_rate(const mayday_conf_call_t *call, mayday_rate_t *rate)
{
    bool on;

    if (mayday_conf_flag(call->args[0], &on) && !on) {
        *rate = (mayday_rate_t){.period_s = 1};
        return call->count == 1 ? NULL : mayday_conf_found(call, call->args[1], "off alone");
    }
    if (!parse_rate(call->args[0], rate)) {
        return mayday_conf_found(call, call->args[0],
                                 "a rate such as 10/s, 60/m or 100/h, at most %d, or off",
                                 RATE_MAX);
    }
    if (call->count == 2) {
        mayday_slice_t word = call->args[1];
        uint64_t burst;

        if (!mayday_conf_strip(&word, "burst=") || !mayday_conf_number(word, RATE_MAX, &burst) ||
            burst == 0) {
            return mayday_conf_found(call, call->args[1], "burst= and a number from 1 to %d",
                                     RATE_MAX);
        }
        rate->burst = (uint32_t) burst;
    }
    return NULL;
}

const char *
mayday_set_issue_rate(const mayday_conf_call_t *call)
{
    return set_rate(call, &call->instance->issue_rate);
}

const char *
mayday_set_send_rate(const mayday_conf_call_t *call)
{
    return set_rate(call, &call->instance->send_rate);
}

/* ---- sending ---- */

const char *
mayday_set_proxy(const mayday_conf_call_t *call)
{
    static const char *const schemes[] = {"http://",    "https://",  "socks4://",
                                          "socks4a://", "socks5://", "socks5h://"};
    mayday_slice_t word = call->args[0], host;
    bool on;

    if (mayday_conf_flag(word, &on) && !on) {
        call->instance->proxy = MAYDAY_SLICE("off");
        return NULL;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(schemes); i++) {
        host = word;
        if (mayday_conf_strip(&host, schemes[i]) && host.len > 0 && word.len <= URL_LEN_MAX &&
            mayday_conf_is_text(host) && memchr(host.data, ' ', host.len) == NULL) {
            return mayday_conf_copy(call->host, &call->instance->proxy, word)
                       ? NULL
                       : mayday_conf_no_memory;
        }
    }
    if (word.len > 0 && memchr(word.data, '@', word.len) != NULL) {
        word = MAYDAY_SLICE("(not shown, it may hold a password)");
    }
    return mayday_conf_found(call, word,
                             "off or a URL with http, https, socks4, socks4a, socks5 or socks5h, "
                             "such as http://proxy:3128");
}

const char *
mayday_set_trusted_certificate(const mayday_conf_call_t *call)
{
    return mayday_conf_file(call, call->args[0], &call->instance->trusted_certificate);
}

const char *
mayday_set_server_name(const mayday_conf_call_t *call)
{
    if (!mayday_conf_is_text(call->args[0]) || call->args[0].len > SERVER_NAME_LEN_MAX) {
        return mayday_conf_found(call, call->args[0],
                                 "text of at most %d bytes without control characters",
                                 SERVER_NAME_LEN_MAX);
    }
    return mayday_conf_copy(call->host, &call->instance->server_name, call->args[0])
               ? NULL
               : mayday_conf_no_memory;
}

/* ---- the agent's socket ---- */

static bool
parse_mode(mayday_slice_t word, unsigned *out)
{
    unsigned mode = 0;

    if (word.len < 3 || word.len > 4) {
        return false;
    }
    for (size_t i = 0; i < word.len; i++) {
        if (word.data[i] < '0' || word.data[i] > '7') {
            return false;
        }
        mode = mode << 3 | (unsigned) (word.data[i] - '0');
    }
    /* Its owner is the agent, which must be able to use it. */
    if (mode > 0777 || (mode & 0600) != 0600) {
        return false;
    }
    *out = mode;
    return true;
}

const char *
mayday_set_socket(const mayday_conf_call_t *call)
{
    mayday_instance_t *instance = call->instance;
    bool has_mode = false, has_group = false;

    for (size_t i = 0; i < call->count; i++) {
        mayday_slice_t word = call->args[i];

        if (i == 0 && word.len > 0 && word.data[0] == '/') {
            const char *error =
                mayday_conf_path(call, word, SOCKET_LEN_MAX, &instance->socket_path);

            if (error != NULL) {
                return error;
            }
        } else if (!has_mode && mayday_conf_strip(&word, "mode=")) {
            if (!parse_mode(word, &instance->socket_mode)) {
                return mayday_conf_found(call, call->args[i],
                                         "mode= and an octal number from 0600 to 0777 with read "
                                         "and write for the owner, such as 0660");
            }
            has_mode = true;
        } else if (!has_group && mayday_conf_strip(&word, "group=")) {
            if (!mayday_conf_copy(call->host, &instance->socket_group, word)) {
                return mayday_conf_no_memory;
            }
            if (!mayday_conf_is_text(word) || getgrnam(instance->socket_group.data) == NULL) {
                return mayday_conf_found(call, call->args[i], "group= and a group of this system");
            }
            has_group = true;
        } else {
            return mayday_conf_found(
                call, call->args[i],
                "an absolute path first, group=NAME or mode=OCTAL, each at most once");
        }
    }
    return NULL;
}

const char *
mayday_set_debug(const mayday_conf_call_t *call)
{
    return mayday_conf_on_off(call, &call->instance->debug);
}
