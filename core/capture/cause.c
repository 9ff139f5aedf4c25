/*
 * The kind of failure that an error-log line tells of (contract: cause.h, the
 * table: causes.def).
 *
 * Runs on the request path, of failed requests only: no allocation, no system
 * call. Lines quote what clients and upstreams sent.
 */
#include "core/capture/cause.h"

#include <errno.h>

#include "core/base/bytes.h"

#define MAYDAY_KIND_BY_ERRNO (MAYDAY_KIND_NONE + 1)
#define ERRNO_MAX 4095

/* What begins or contains quote is at least as long: no line is looked at byte by byte. */
#define WORDS_LEN_MIN 8u

typedef struct {
    mayday_slice_t begins;
    mayday_slice_t contains;
    uint8_t kind; /* mayday_kind_t, or MAYDAY_KIND_BY_ERRNO */
} cause_t;

#define CAUSE(begins, contains, kind)                                                              \
    {{begins, sizeof(begins) - 1}, {contains, sizeof(contains) - 1}, MAYDAY_KIND_##kind},
#define MAYDAY_CAUSE(server, begins, contains, kind) CAUSE_##server(begins, contains, kind)

static const cause_t nginx_causes[] = {
#define CAUSE_NGINX(begins, contains, kind) CAUSE(begins, contains, kind)
#define CAUSE_HTTPD(begins, contains, kind)
#include "core/capture/causes.def"
#undef CAUSE_NGINX
#undef CAUSE_HTTPD
};

static const cause_t httpd_causes[] = {
#define CAUSE_NGINX(begins, contains, kind)
#define CAUSE_HTTPD(begins, contains, kind) CAUSE(begins, contains, kind)
#include "core/capture/causes.def"
#undef CAUSE_NGINX
#undef CAUSE_HTTPD
};

#define CAUSE_NGINX(begins, contains, kind)                                                        \
    _Static_assert(sizeof(begins) > WORDS_LEN_MIN || sizeof(begins) == sizeof("*"), begins);       \
    _Static_assert(sizeof(contains) > WORDS_LEN_MIN || sizeof(contains) == 1, contains);
#define CAUSE_HTTPD(begins, contains, kind) CAUSE_NGINX(begins, contains, kind)
#include "core/capture/causes.def"

/* "(111: Connection refused)": the first such number from `from` on, else *error is left alone. */
static void
quoted_errno(mayday_slice_t line, size_t from, int *error)
{
    const char *end = line.data + line.len;
    const char *pos = line.data + from;

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

static inline bool
begins_with(const char *pos, const char *end, mayday_slice_t words)
{
    return (size_t) (end - pos) >= words.len && mayday_same(pos, words.data, words.len);
}

/* A word without quotes, and `contains` directly behind it. */
static bool
fits_word(const char *pos, const char *end, mayday_slice_t contains)
{
    const char *word = pos;

    while (pos < end && *pos != ' ' && *pos != '"') {
        pos++;
    }
    return pos > word && begins_with(pos, end, contains);
}

/* By the first byte: for words as short as these a memmem is mostly preparation. */
static bool
has_words(const char *pos, const char *end, mayday_slice_t words)
{
    if (words.len == 0 || begins_with(pos, end, words)) {
        return true;
    }
    while ((pos = memchr(pos, words.data[0], (size_t) (end - pos))) != NULL) {
        if (begins_with(pos, end, words)) {
            return true;
        }
        pos++;
    }
    return false;
}

static inline bool
fits(const cause_t *cause, mayday_slice_t line)
{
    const char *end = line.data + line.len;

    if (cause->begins.len == 1) {
        return fits_word(line.data, end, cause->contains);
    }
    return begins_with(line.data, end, cause->begins) &&
           has_words(line.data + cause->begins.len, end, cause->contains);
}

static mayday_kind_t
of_errno(int error)
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

mayday_kind_t
mayday_cause_classify(mayday_server_t server, mayday_slice_t line, int *error)
{
    const cause_t *cause = server == MAYDAY_SERVER_NGINX ? nginx_causes : httpd_causes;
    const cause_t *end = cause + (server == MAYDAY_SERVER_NGINX ? MAYDAY_COUNT(nginx_causes)
                                                                : MAYDAY_COUNT(httpd_causes));

    while (cause < end && !fits(cause, line)) {
        cause++;
    }
    if (cause == end || cause->kind == MAYDAY_KIND_NONE) {
        return MAYDAY_KIND_NONE;
    }
    if (*error == 0) {
        /* The number may begin with the last byte that the table quotes: "failed (". */
        quoted_errno(line, cause->begins.len - 1, error);
    }
    return cause->kind == MAYDAY_KIND_BY_ERRNO ? of_errno(*error) : (mayday_kind_t) cause->kind;
}
