/*
 * What went wrong on the way to a server, in words for people: which step, with
 * which host, and what to look at.
 *
 * Runs in any of the agent's threads; allocates nothing, blocks on nothing. What
 * a server says is hostile: it is bounded and stripped of control characters.
 */
#include <errno.h>
#include <stdio.h>

#include "core/agent/delivery_private.h"

#define TOO_MANY 429

/* ---- no answer ---- */

typedef struct {
    char host[300];  /* "sentry.example.com" */
    char place[320]; /* "127.0.0.1:9000", or "the proxy …" */
    bool by_proxy;
} where_t;

/* The proxy without its scheme and password. */
static mayday_slice_t
proxy_place(const char *proxy)
{
    const char *start = strstr(proxy, "://"), *at;

    start = start == NULL ? proxy : start + 3;
    at = strrchr(start, '@');
    start = at == NULL ? start : at + 1;
    return mayday_slice(start, strcspn(start, "/"));
}

static void
where_find(where_t *where, CURL *easy, const mayday_dsn_t *dsn, const delivery_config_t *config)
{
    const char *proxy = dsn->secure ? config->https_proxy : config->http_proxy;
    mayday_slice_t place = proxy_place(proxy);
    char *address = NULL;
    long port = 0;

    /* A host that no_proxy names is reached directly, and curl alone knows. */
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &address);
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &port);
    snprintf(where->host, sizeof(where->host), "%.*s", (int) dsn->host.len, dsn->host.data);
    where->by_proxy = proxy[0] != '\0' && config->no_proxy[0] == '\0';
    if (where->by_proxy) {
        snprintf(where->place, sizeof(where->place), "the proxy %.*s", (int) place.len, place.data);
    } else if (address != NULL && address[0] != '\0' && port > 0) {
        bool six = strchr(address, ':') != NULL;

        snprintf(where->place, sizeof(where->place), "%s%s%s:%ld", six ? "[" : "", address,
                 six ? "]" : "", port);
    } else {
        snprintf(where->place, sizeof(where->place), "%.290s:%u", where->host, dsn->port);
    }
}

static void
explain_connect(mayday_buf_t *out, CURL *easy, const where_t *where)
{
    long number = 0;

    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    if (number == ECONNREFUSED) {
        mayday_buf_addf(out, "connection refused by %s", where->place);
    } else if (number == ENETUNREACH || number == EHOSTUNREACH) {
        mayday_buf_addf(out, "%s cannot be reached: %s", where->place, strerror((int) number));
    } else if (number != 0) {
        mayday_buf_addf(out, "no connection to %s: %s", where->place, strerror((int) number));
    } else {
        mayday_buf_addf(out, "no connection to %s", where->place);
    }
}

static void
explain_timeout(mayday_buf_t *out, CURL *easy, const where_t *where, bool secure)
{
    curl_off_t resolved = 0, connected = 0, handshaken = 0;
    unsigned seconds = DELIVERY_CONNECT_TIMEOUT_MS / 1000;
    long port = 0;

    /* curl 7.87 to 8.0 know when they connected only after the handshake */
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &port);
    curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
    curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected);
    curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &handshaken);
    if (resolved == 0) {
        mayday_buf_addf(out, "%s cannot be resolved within %u s",
                        where->by_proxy ? where->place : where->host, seconds);
    } else if (connected == 0 && port == 0) {
        mayday_buf_addf(out, "no connection to %s within %u s", where->place, seconds);
    } else if (secure && handshaken == 0) {
        mayday_buf_addf(out, "no TLS handshake with %s within %u s", where->host, seconds);
    } else {
        mayday_buf_addf(out, "no answer within %u s", DELIVERY_TIMEOUT_MS / 1000);
    }
}

/* curl's own words, without what it puts before every certificate error. */
static const char *
detail(CURLcode code, const char *curl_error)
{
    static const char prefix[] = "SSL certificate problem: ";

    if (curl_error[0] == '\0') {
        return curl_easy_strerror(code);
    }
    return strncmp(curl_error, prefix, sizeof(prefix) - 1) == 0 ? curl_error + sizeof(prefix) - 1
                                                                : curl_error;
}

void
mayday_delivery_explain_failure(mayday_buf_t *out, CURL *easy, CURLcode code,
                                const char *curl_error, const mayday_dsn_t *dsn,
                                const delivery_config_t *config)
{
    const char *words = detail(code, curl_error);
    where_t where = {0};

    where_find(&where, easy, dsn, config);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        mayday_buf_addf(out, "%s cannot be resolved", where.host);
        break;
    case CURLE_COULDNT_RESOLVE_PROXY:
        mayday_buf_addf(out, "%s cannot be resolved", where.place);
        break;
    case CURLE_COULDNT_CONNECT:
        explain_connect(out, easy, &where);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        explain_timeout(out, easy, &where, dsn->secure);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
        mayday_buf_addf(out, "certificate of %s is not trusted: %s", where.host, words);
        break;
    case CURLE_SSL_CACERT_BADFILE:
        mayday_buf_addf(out, "the trusted certificates cannot be read: %s", words);
        break;
    case CURLE_SSL_CONNECT_ERROR:
        mayday_buf_addf(out, "TLS handshake with %s failed: %s", where.host, words);
        break;
    case CURLE_GOT_NOTHING:
        mayday_buf_addf(out, "%s closed the connection without an answer", where.place);
        break;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        mayday_buf_addf(out, "the connection to %s broke: %s", where.place, words);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* what looks like HTTP/0.9 */
    case CURLE_WEIRD_SERVER_REPLY:
        mayday_buf_addf(out, "what %s answers is not HTTP", where.place);
        break;
    default:
        mayday_buf_addf(out, "%s: %s", where.place, words);
        break;
    }
}

/* ---- an answer ---- */

static void
add_printable(mayday_buf_t *out, mayday_slice_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        bool control = (unsigned char) text.data[i] < 0x20 || text.data[i] == 0x7f;

        if (control) {
            mayday_buf_addc(out, ' ');
        } else {
            mayday_buf_addc(out, text.data[i]);
        }
    }
}

/* What stands in {"detail":"…"}: escapes are left as they are, for this is only shown. */
static mayday_slice_t
detail_of(mayday_slice_t body)
{
    size_t start = mayday_slice_find(body, MAYDAY_SLICE("\"detail\""), 0), end;

    if (start == SIZE_MAX) {
        return mayday_slice(NULL, 0);
    }
    start = mayday_slice_find(body, MAYDAY_SLICE("\""), start + sizeof("\"detail\"") - 1);
    if (start == SIZE_MAX) {
        return mayday_slice(NULL, 0);
    }
    for (end = ++start; end < body.len && body.data[end] != '"'; end++) {
        if (body.data[end] == '\\' && end + 1 < body.len) {
            end++;
        }
    }
    return mayday_slice(body.data + start, end - start);
}

void
mayday_delivery_words(mayday_buf_t *out, const delivery_answer_t *answer)
{
    mayday_slice_t words = mayday_slice_str(answer->error);

    if (words.len == 0) {
        words = detail_of(mayday_slice_str(answer->words));
    }
    if (words.len == 0 && answer->words[0] != '<') { /* a page is not for reading */
        words = mayday_slice_str(answer->words);
    }
    add_printable(out, words);
}

static const char *
status_meaning(long status)
{
    switch (status) {
    case 400:
        return "the envelope was refused";
    case 401:
        return "the key is not accepted";
    case 403:
        return "the key is not known to the project";
    case 404:
    case 405:
        return "there is no such project, or it is no Sentry server";
    case 407:
        return "the proxy wants a name and password";
    case 413:
        return "the event is too large for the server";
    case TOO_MANY:
        return "the server wants no more events for a while";
    default:
        break;
    }
    if (status < 400) {
        return "the server sends us elsewhere, and redirects are not followed";
    }
    return status < 500 ? "the server refused the event" : "the server failed";
}

void
mayday_delivery_explain_status(mayday_buf_t *out, long status, const delivery_answer_t *answer)
{
    char text[DELIVERY_WORDS_SIZE];
    mayday_buf_t words;

    mayday_buf_init(&words, text, sizeof(text));
    mayday_delivery_words(&words, answer);
    mayday_buf_addf(out, "%ld: %s", status, status_meaning(status));
    if (words.len > 0) {
        mayday_buf_addf(out, " (%s)", words.data);
    }
}
