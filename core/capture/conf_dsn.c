/*
 * mayday_dsn: words become DSNs, lists of DSNs become destinations.
 *
 * Runs in the master when the configuration is read, for environment and files
 * are read here: afterwards the keys are in memory only, and no message ever
 * quotes one.
 */
#include "core/capture/conf_parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where a DSN came from, for messages: the word, unless that is the DSN. */
static const char *
refuse(const mayday_conf_call_t *call, mayday_slice_t word, bool is_dsn, const char *expected)
{
    return is_dsn ? mayday_conf_message(call, "found a DSN (not shown), expected %s", expected)
                  : mayday_conf_found(call, word, "a DSN there: %s", expected);
}

static mayday_slice_t
first_line(mayday_slice_t text)
{
    size_t end = 0;

    while (end < text.len && text.data[end] != '\n') {
        end++;
    }
    return mayday_slice_trim(mayday_slice(text.data, end));
}

static const char *
read_file(const mayday_conf_call_t *call, mayday_slice_t word, mayday_slice_t path,
          mayday_slice_t *out)
{
    char text[MAYDAY_DSN_LEN_MAX + 64]; /* a longer line is refused as a DSN */
    mayday_slice_t checked;
    const char *error = mayday_conf_file(call, path, &checked);
    ssize_t len;
    int fd;

    if (error != NULL) {
        return error;
    }
    fd = open(checked.data, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    len = fd < 0 ? -1 : read(fd, text, sizeof(text));
    if (len < 0) {
        error = mayday_conf_found(call, word, "a file that can be read (%s)", strerror(errno));
    } else if (!mayday_conf_copy(call->host, out, first_line(mayday_slice(text, (size_t) len)))) {
        error = mayday_conf_no_memory;
    }
    if (fd >= 0) {
        (void) close(fd);
    }
    return error;
}

static const char *
read_environment(const mayday_conf_call_t *call, mayday_slice_t word, mayday_slice_t name,
                 mayday_slice_t *out)
{
    mayday_slice_t copy;
    const char *value;

    if (!mayday_conf_copy(call->host, &copy, name)) {
        return mayday_conf_no_memory;
    }
    value = name.len == 0 ? NULL : getenv(copy.data);
    if (value == NULL) {
        return mayday_conf_found(call, word, "a variable that is set where the server is started");
    }
    return mayday_conf_copy(call->host, out, first_line(mayday_slice_str(value)))
               ? NULL
               : mayday_conf_no_memory;
}

/* An empty *out: sending is off, as an empty SENTRY_DSN means in Sentry's SDKs. */
static const char *
resolve(const mayday_conf_call_t *call, mayday_slice_t word, mayday_slice_t *out)
{
    mayday_slice_t rest = word;
    const char *error, *expected;
    mayday_dsn_t dsn;
    bool is_dsn = false;

    if (mayday_conf_strip(&rest, "env:")) {
        error = read_environment(call, word, rest, out);
        if (error == NULL && out->len == 0) {
            return NULL;
        }
    } else if (mayday_conf_strip(&rest, "file:")) {
        error = read_file(call, word, rest, out);
    } else {
        error = mayday_conf_copy(call->host, out, word) ? NULL : mayday_conf_no_memory;
        is_dsn = true;
    }
    if (error != NULL) {
        return error;
    }
    if (mayday_dsn_parse(&dsn, *out, &expected) != MAYDAY_OK) {
        return refuse(call, word, is_dsn, expected);
    }
    return NULL;
}

static bool
has_same_dsns(const mayday_destination_t *destination, const mayday_slice_t *dsns, uint32_t count)
{
    if (destination->dsn_count != count) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!mayday_slice_eq(destination->dsns[i], dsns[i])) {
            return false;
        }
    }
    return true;
}

/* The destination with these DSNs, made if there is none. */
static const char *
intern(const mayday_conf_call_t *call, const mayday_slice_t *dsns, uint32_t count)
{
    mayday_destination_t *last, *made;

    for (last = call->instance->destinations;; last = last->next) {
        if (has_same_dsns(last, dsns, count)) {
            call->place->destination = last;
            return NULL;
        }
        if (last->next == NULL) {
            break;
        }
    }
    if (last->index + 1 == MAYDAY_DESTINATION_MAX) {
        return mayday_conf_message(call, "found one more list of DSNs, expected at most %d",
                                   MAYDAY_DESTINATION_MAX - 1);
    }
    made = mayday_conf_alloc(call->host, sizeof(*made));
    if (made == NULL) {
        return mayday_conf_no_memory;
    }
    made->index = last->index + 1;
    made->dsn_count = count;
    memcpy(made->dsns, dsns, count * sizeof(*dsns));
    last->next = made;
    call->place->destination = made;
    return NULL;
}

const char *
mayday_set_dsn(const mayday_conf_call_t *call)
{
    mayday_slice_t dsns[MAYDAY_DESTINATION_DSN_MAX] = {{0}};
    uint32_t count = 0;

    for (size_t i = 0; i < call->count; i++) {
        mayday_slice_t word = call->args[i];
        const char *error;

        if (mayday_slice_ieq(word, MAYDAY_SLICE("off"))) {
            if (call->count > 1) {
                return mayday_conf_found(call, word, "off alone");
            }
            break;
        }
        error = resolve(call, word, &dsns[count]);
        if (error != NULL) {
            return error;
        }
        for (uint32_t j = 0; j < count; j++) {
            if (mayday_slice_eq(dsns[j], dsns[count])) {
                return "found the same DSN twice, expected each once";
            }
        }
        count += dsns[count].len > 0;
    }
    return intern(call, dsns, count);
}
