/*
 * Words of the configuration, and messages about them.
 *
 * Runs when the configuration is read.
 */
#include "core/capture/conf_parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOUND_LEN_MAX 80

const char mayday_conf_no_memory[] = "out of memory";

/* ---- messages ---- */

static const char *
keep_message(const mayday_conf_call_t *call, mayday_slice_t text)
{
    mayday_slice_t copy;

    return mayday_conf_copy(call->host, &copy, text) ? copy.data : mayday_conf_no_memory;
}

const char *
mayday_conf_found(const mayday_conf_call_t *call, mayday_slice_t found, const char *expected, ...)
{
    char storage[MAYDAY_MESSAGE_SIZE], rest[MAYDAY_MESSAGE_SIZE];
    size_t len = found.len < FOUND_LEN_MAX ? found.len : FOUND_LEN_MAX;
    mayday_buf_t message;
    va_list args;

    va_start(args, expected);
    (void) vsnprintf(rest, sizeof(rest), expected, args);
    va_end(args);

    mayday_buf_init(&message, storage, sizeof(storage));
    mayday_buf_adds(&message, "found \"");
    for (size_t i = 0; i < len; i++) {
        mayday_slice_t byte = mayday_slice(found.data + i, 1);

        mayday_buf_add(&message, mayday_conf_is_text(byte) ? byte : MAYDAY_SLICE("?"));
    }
    mayday_buf_adds(&message, len < found.len ? "...\", expected " : "\", expected ");
    mayday_buf_adds(&message, rest);
    return keep_message(call, mayday_buf_slice(&message));
}

const char *
mayday_conf_message(const mayday_conf_call_t *call, const char *fmt, ...)
{
    char storage[MAYDAY_MESSAGE_SIZE];
    va_list args;

    va_start(args, fmt);
    (void) vsnprintf(storage, sizeof(storage), fmt, args);
    va_end(args);
    return keep_message(call, mayday_slice_str(storage));
}

/* ---- memory ---- */

void *
mayday_conf_alloc(const mayday_conf_host_t *host, size_t size)
{
    return host->alloc(host->ctx, size);
}

bool
mayday_conf_copy(const mayday_conf_host_t *host, mayday_slice_t *out, mayday_slice_t text)
{
    char *copy = mayday_conf_alloc(host, text.len + 1);

    if (copy == NULL) {
        return false;
    }
    if (text.len > 0) {
        memcpy(copy, text.data, text.len);
    }
    *out = mayday_slice(copy, text.len);
    return true;
}

/* ---- words ---- */

bool
mayday_conf_is(mayday_slice_t word, const char *text)
{
    return mayday_slice_eq(word, mayday_slice_str(text));
}

bool
mayday_conf_strip(mayday_slice_t *word, const char *prefix)
{
    mayday_slice_t p = mayday_slice_str(prefix);

    if (!mayday_slice_starts(*word, p)) {
        return false;
    }
    *word = mayday_slice(word->data + p.len, word->len - p.len);
    return true;
}

bool
mayday_conf_flag(mayday_slice_t word, bool *out)
{
    bool on = mayday_slice_ieq(word, MAYDAY_SLICE("on"));

    if (!on && !mayday_slice_ieq(word, MAYDAY_SLICE("off"))) {
        return false;
    }
    *out = on;
    return true;
}

bool
mayday_conf_number(mayday_slice_t word, uint64_t max, uint64_t *out)
{
    uint64_t number = 0;

    for (size_t i = 0; i < word.len; i++) {
        unsigned digit = (unsigned) (uint8_t) word.data[i] - '0';

        if (digit > 9 || number > (max - digit) / 10 || digit > max) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (word.len == 0) {
        return false;
    }
    *out = number;
    return true;
}

typedef struct {
    const char *name;
    uint64_t factor;
} unit_t;

/* The first unit whose name ends the word; an empty name comes last and always fits. */
static bool
number_with_unit(mayday_slice_t word, const unit_t *unit, uint64_t *out)
{
    for (;; unit++) {
        size_t len = strlen(unit->name);

        if (word.len >= len && mayday_slice_ieq(mayday_slice(word.data + word.len - len, len),
                                                mayday_slice(unit->name, len))) {
            word.len -= len;
            break;
        }
    }
    if (!mayday_conf_number(word, INT64_MAX / unit->factor, out)) {
        return false;
    }
    *out *= unit->factor;
    return true;
}

bool
mayday_conf_size(mayday_slice_t word, uint64_t *out)
{
    static const unit_t units[] = {{"k", 1u << 10}, {"m", 1u << 20}, {"g", 1u << 30}, {"", 1}};

    return number_with_unit(word, units, out);
}

bool
mayday_conf_time_ms(mayday_slice_t word, uint64_t *out)
{
    static const unit_t units[] = {
        {"ms", 1},        {"s", 1000},       {"m", 60000},        {"h", 3600000},
        {"d", 86400000u}, {"w", 604800000u}, {"y", 31536000000u}, {"", 1000},
    };

    return number_with_unit(word, units, out);
}

bool
mayday_conf_is_text(mayday_slice_t word)
{
    for (size_t i = 0; i < word.len; i++) {
        uint8_t byte = (uint8_t) word.data[i];

        if (byte < ' ' || byte == 0x7f) {
            return false;
        }
    }
    return word.len > 0;
}

bool
mayday_conf_statuses(mayday_slice_t word, mayday_status_set_t *set)
{
    uint64_t first, last;

    if (word.len != 3 && (word.len != 7 || word.data[3] != '-')) {
        return false;
    }
    if (!mayday_conf_number(mayday_slice(word.data, 3), 599, &first) ||
        !mayday_conf_number(mayday_slice(word.data + word.len - 3, 3), 599, &last) || first < 100 ||
        first > last) {
        return false;
    }
    for (uint64_t status = first; status <= last; status++) {
        set->bits[status / 64] |= UINT64_C(1) << (status % 64);
    }
    return true;
}

/* ---- words that become something ---- */

const char *
mayday_conf_on_off(const mayday_conf_call_t *call, bool *out)
{
    return mayday_conf_flag(call->args[0], out)
               ? NULL
               : mayday_conf_found(call, call->args[0], "on or off");
}

const char *
mayday_conf_expr(const mayday_conf_call_t *call, mayday_slice_t word, mayday_slice_t text,
                 bool is_condition, mayday_expr_t **out)
{
    const mayday_conf_host_t *host = call->host;
    const char *error = NULL;

    if (!mayday_conf_is_text(text)) {
        return mayday_conf_found(call, word, "an expression without control characters");
    }
    *out = (is_condition && host->condition != NULL ? host->condition : host->expr)(host->ctx, text,
                                                                                    &error);
    if (*out == NULL) {
        return mayday_conf_found(call, word, "an expression that the server understands (%s)",
                                 error == NULL ? "it gives no reason" : error);
    }
    return NULL;
}

const char *
mayday_conf_path(const mayday_conf_call_t *call, mayday_slice_t word, size_t len_max,
                 mayday_slice_t *out)
{
    if (!mayday_conf_is_text(word) || word.data[0] != '/' || word.len > len_max) {
        return mayday_conf_found(call, word, "an absolute path of at most %zu bytes", len_max);
    }
    return mayday_conf_copy(call->host, out, word) ? NULL : mayday_conf_no_memory;
}

const char *
mayday_conf_file(const mayday_conf_call_t *call, mayday_slice_t word, mayday_slice_t *out)
{
    const char *error = mayday_conf_path(call, word, 1023, out);
    struct stat info;
    int fd;

    if (error != NULL) {
        return error;
    }
    /* Not blocking: a FIFO in its place must not hold up the start. */
    fd = open(out->data, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return mayday_conf_found(call, word, "a file that can be read (%s)", strerror(errno));
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        error = mayday_conf_found(call, word, "a regular file");
    }
    (void) close(fd);
    return error;
}
