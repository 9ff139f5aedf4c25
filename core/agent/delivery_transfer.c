/*
 * One request to a DSN: its body, curl's handle, and the bounded memory of the
 * answer.
 *
 * Runs in the delivery thread and, for an envelope sent at once, in the thread
 * that waits for it; nothing here is shared between the two. Allocates the
 * body; blocks on nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/agent/delivery_private.h"

#define GZIP_WINDOW_BITS (15 + 16)
#define GZIP_MEMORY_LEVEL 8
#define BODY_ROOM 4096

/* ---- the body ---- */

mayday_rc_t
mayday_delivery_press_init(delivery_press_t *press)
{
    *press = (delivery_press_t){0};
    /* Level 1: half the time of the default for a tenth more bytes. */
    if (deflateInit2(&press->stream, 1, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return MAYDAY_NO_MEMORY;
    }
    return MAYDAY_OK;
}

void
mayday_delivery_press_fini(delivery_press_t *press)
{
    deflateEnd(&press->stream);
    free(press->envelope);
}

/* At least `size` bytes at *memory, their content lost. */
static bool
grow(void **memory, size_t *have, size_t size)
{
    if (*have < size) {
        free(*memory);
        size = (size + BODY_ROOM - 1) / BODY_ROOM * BODY_ROOM;
        *memory = malloc(size);
        *have = *memory == NULL ? 0 : size;
    }
    return *have > 0;
}

mayday_buf_t
mayday_delivery_press_room(delivery_press_t *press, size_t bytes)
{
    mayday_buf_t room = {0};
    void *memory = press->envelope;

    if (grow(&memory, &press->envelope_size, bytes)) {
        mayday_buf_init(&room, memory, press->envelope_size);
    }
    press->envelope = memory;
    return room;
}

mayday_rc_t
mayday_delivery_press_run(delivery_press_t *press, mayday_slice_t text, unsigned char **body,
                          size_t *body_size, size_t *body_len)
{
    void *memory = *body;
    bool grown;

    if (deflateReset(&press->stream) != Z_OK) {
        return MAYDAY_ERROR;
    }
    grown = grow(&memory, body_size, deflateBound(&press->stream, text.len));
    *body = memory;
    if (!grown) {
        return MAYDAY_NO_MEMORY;
    }
    press->stream.next_in = (z_const Bytef *) text.data;
    press->stream.avail_in = (uInt) text.len;
    press->stream.next_out = *body;
    press->stream.avail_out = (uInt) *body_size;
    if (deflate(&press->stream, Z_FINISH) != Z_STREAM_END) {
        return MAYDAY_ERROR;
    }
    *body_len = *body_size - press->stream.avail_out;
    return MAYDAY_OK;
}

/* ---- headers ---- */

static bool
header_add(struct curl_slist **headers, const char *header)
{
    struct curl_slist *longer = curl_slist_append(*headers, header);

    if (longer == NULL) {
        curl_slist_free_all(*headers);
        *headers = NULL;
        return false;
    }
    *headers = longer;
    return true;
}

struct curl_slist *
mayday_delivery_headers(const mayday_dsn_t *dsn, const char *sdk_name)
{
    char text[MAYDAY_DSN_LEN_MAX + 256];
    struct curl_slist *headers = NULL;
    mayday_buf_t auth;

    mayday_buf_init(&auth, text, sizeof(text));
    mayday_buf_addf(&auth, "X-Sentry-Auth: Sentry sentry_version=7, sentry_client=%s/%s, ",
                    sdk_name, MAYDAY_VERSION);
    mayday_buf_adds(&auth, "sentry_key=");
    mayday_buf_add(&auth, dsn->public_key);
    if (dsn->secret_key.len > 0) {
        mayday_buf_adds(&auth, ", sentry_secret=");
        mayday_buf_add(&auth, dsn->secret_key);
    }
    /* The empty ones are those that curl would add by itself. */
    if (header_add(&headers, auth.data) &&
        header_add(&headers, "Content-Type: application/x-sentry-envelope") &&
        header_add(&headers, "Content-Encoding: gzip") && header_add(&headers, "Accept:")) {
        header_add(&headers, "Expect:");
    }
    return headers;
}

/* ---- the answer ---- */

/* The value, if the line is of that header. */
static bool
header_is(mayday_slice_t line, const char *name, mayday_slice_t *value)
{
    size_t len = strlen(name);

    if (line.len <= len || line.data[len] != ':' ||
        !mayday_slice_ieq(mayday_slice(line.data, len), mayday_slice(name, len))) {
        return false;
    }
    *value = mayday_slice_trim(mayday_slice(line.data + len + 1, line.len - len - 1));
    return true;
}

/* Several headers of one name are one list. */
static void
keep(char *out, size_t size, mayday_slice_t value, bool list)
{
    mayday_buf_t kept;

    mayday_buf_init(&kept, out, size);
    if (list && out[0] != '\0') {
        kept.len = strlen(out);
        mayday_buf_addc(&kept, ',');
    }
    mayday_buf_add(&kept, value);
}

static size_t
on_header(char *data, size_t size, size_t count, void *ctx)
{
    delivery_answer_t *answer = ctx;
    mayday_slice_t line = mayday_slice(data, size * count), value;

    if (mayday_slice_starts(line, MAYDAY_SLICE("HTTP/"))) {
        *answer = (delivery_answer_t){0}; /* an interim answer or a proxy's is over */
    } else if (header_is(line, "X-Sentry-Rate-Limits", &value)) {
        keep(answer->rate_limits, sizeof(answer->rate_limits), value, true);
    } else if (header_is(line, "Retry-After", &value)) {
        keep(answer->retry_after, sizeof(answer->retry_after), value, false);
    } else if (header_is(line, "X-Sentry-Error", &value)) {
        keep(answer->error, sizeof(answer->error), value, false);
    }
    return line.len;
}

static size_t
on_body(char *data, size_t size, size_t count, void *ctx)
{
    delivery_answer_t *answer = ctx;
    size_t len = size * count, kept = answer->bytes;

    if (kept < sizeof(answer->words) - 1) {
        size_t room = sizeof(answer->words) - 1 - kept;
        size_t more = len < room ? len : room;

        memcpy(answer->words + kept, data, more);
        answer->words[kept + more] = '\0';
    }
    answer->bytes += len;
    return answer->bytes <= DELIVERY_ANSWER_BYTES_MAX ? len : 0;
}

/* ---- the handle ---- */

static void
setup_route(CURL *easy, const delivery_config_t *config, bool secure)
{
    /* Always given, else curl would look into this process's environment. */
    curl_easy_setopt(easy, CURLOPT_PROXY, secure ? config->https_proxy : config->http_proxy);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, config->no_proxy);
    if (config->ca_file[0] != '\0' || config->ca_dir[0] != '\0') {
        const char *file = config->ca_file[0] != '\0' ? config->ca_file : NULL;
        const char *dir = config->ca_dir[0] != '\0' ? config->ca_dir : NULL;

        /* Instead of the system's, not besides them. */
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, dir);
        curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, file);
        curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, dir);
    }
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
}

void
mayday_delivery_easy_setup(CURL *easy, const delivery_config_t *config,
                           const delivery_address_t *address, delivery_answer_t *answer,
                           char *error)
{
    char agent[96];

    snprintf(agent, sizeof(agent), "%s/%s", config->sdk_name, MAYDAY_VERSION);
    curl_easy_setopt(easy, CURLOPT_URL, address->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, address->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, agent);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
    if (address->dsn->secure) {
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); /* streams rather than connections */
    }
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* never wait for the resolver's thread */
#endif
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) DELIVERY_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) DELIVERY_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    setup_route(easy, config, address->dsn->secure);
}

long
mayday_delivery_easy_status(CURL *easy)
{
    long status = 0;

    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 ? status : 0;
}
