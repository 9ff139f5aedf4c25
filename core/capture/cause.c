/*
 * The kind of failure that an error-log line tells of (contract: cause.h, the
 * table: causes.def).
 *
 * Runs on the request path, of failed requests only: no allocation, no system
 * call. Lines quote what clients and upstreams sent.
 */
#include "core/capture/cause.h"

#include <errno.h>

#define MAYDAY_KIND_BY_ERRNO (MAYDAY_KIND_NONE + 1)
#define ERRNO_MAX 4095

typedef struct {
    mayday_slice_t begins;
    mayday_slice_t contains;
    uint8_t server; /* mayday_server_t */
    uint8_t kind;   /* mayday_kind_t, or MAYDAY_KIND_BY_ERRNO */
} cause_t;

static const cause_t causes[] = {
#define MAYDAY_CAUSE(server, begins, contains, kind)                                               \
    {{begins, sizeof(begins) - 1},                                                                 \
     {contains, sizeof(contains) - 1},                                                             \
     MAYDAY_SERVER_##server,                                                                       \
     MAYDAY_KIND_##kind},
#include "core/capture/causes.def"
#undef MAYDAY_CAUSE
};

/* "(111: Connection refused)": the first such number, else *error is left alone. */
static void
quoted_errno(mayday_slice_t line, int *error)
{
    const char *end = line.data + line.len;
    const char *pos = line.data;

    while (pos < end && (pos = memchr(pos, '(', (size_t) (end - pos))) != NULL) {
        int n = 0;
        for (pos++; pos < end && *pos >= '0' && *pos <= '9' && n <= ERRNO_MAX; pos++) {
            n = n * 10 + (*pos - '0');
        }
        if (n > 0 && n <= ERRNO_MAX && end - pos >= 2 && pos[0] == ':' && pos[1] == ' ') {
            *error = n;
            return;
        }
    }
}

/* A word without quotes, and `contains` directly behind it. */
static bool
fits_word(mayday_slice_t line, mayday_slice_t contains)
{
    size_t len = 0;

    while (len < line.len && line.data[len] != ' ' && line.data[len] != '"') {
        len++;
    }
    return len > 0 && mayday_slice_starts(mayday_slice(line.data + len, line.len - len), contains);
}

static bool
fits(const cause_t *cause, mayday_slice_t line)
{
    if (cause->begins.data[0] == '*') {
        return fits_word(line, cause->contains);
    }
    return mayday_slice_starts(line, cause->begins) &&
           (cause->contains.len == 0 ||
            mayday_slice_find(line, cause->contains, cause->begins.len) != SIZE_MAX);
}

mayday_kind_t
mayday_cause_classify(mayday_server_t server, mayday_slice_t line, int *error)
{
    for (size_t i = 0; i < MAYDAY_COUNT(causes); i++) {
        const cause_t *cause = &causes[i];
        if (cause->server != server || !fits(cause, line)) {
            continue;
        }
        if (cause->kind == MAYDAY_KIND_NONE) {
            return MAYDAY_KIND_NONE;
        }
        quoted_errno(line, error);
        return cause->kind == MAYDAY_KIND_BY_ERRNO ? mayday_cause_of_errno(*error)
                                                   : (mayday_kind_t) cause->kind;
    }
    return MAYDAY_KIND_NONE;
}

mayday_kind_t
mayday_cause_of_errno(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case EAGAIN: /* a unix socket whose listen queue is full */
        return MAYDAY_KIND_UPSTREAM_REFUSED;
    case ETIMEDOUT:
        return MAYDAY_KIND_UPSTREAM_CONNECT_TIMEOUT;
    default:
        return MAYDAY_KIND_UPSTREAM_UNREACHABLE;
    }
}
