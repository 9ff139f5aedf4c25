/*
 * Upstreams and peers, as mod_proxy names them: in the URL that it keeps in
 * r->filename, and in the lines that it logs of connections, which are about no
 * request.
 *
 * Runs on the request path of failed requests, also in the error_log hook:
 * allocates nothing, logs nothing. Counterpart: ngx_module/ngx_http_mayday_kind.c.
 */
#include "mod_mayday.h"

#define URL_BEGINS "proxy:"

/* The port that a URL of mod_proxy means where it names none. */
static const char *
default_port(mayday_slice_t scheme)
{
    static const struct {
        mayday_slice_t scheme;
        const char *port;
    } ports[] = {
        {{"http", 4}, "80"}, {{"https", 5}, "443"}, {{"ajp", 3}, "8009"},  {{"fcgi", 4}, "8000"},
        {{"h2c", 3}, "80"},  {{"h2", 2}, "443"},    {{"scgi", 4}, "4000"}, {{"uwsgi", 5}, "3031"},
        {{"ws", 2}, "80"},   {{"wss", 3}, "443"},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(ports); i++) {
        if (mayday_slice_ieq(ports[i].scheme, scheme)) {
            return ports[i].port;
        }
    }
    return NULL;
}

static mayday_slice_t
balancer_name(const char *url)
{
    static const mayday_slice_t scheme = {"balancer://", 11};
    mayday_slice_t name = mayday_slice_str(url);

    return mayday_slice_starts(name, scheme)
               ? mayday_slice(name.data + scheme.len, name.len - scheme.len)
               : name;
}

bool
mayday_ap_backend(const request_rec *r, mayday_ap_backend_t *backend)
{
    const char *url, *host;
    size_t len;

    if (r->proxyreq == PROXYREQ_NONE || r->filename == NULL ||
        strncmp(r->filename, URL_BEGINS, sizeof(URL_BEGINS) - 1) != 0) {
        return false;
    }
    url = r->filename + sizeof(URL_BEGINS) - 1;
    host = strchr(url, ':');
    if (host == NULL || host[1] != '/' || host[2] != '/') {
        return false;
    }
    backend->scheme = mayday_slice(url, (size_t) (host - url));
    host += 3;
    for (len = strcspn(host, "/?#@"); host[len] == '@'; len = strcspn(host, "/?#@")) {
        host += len + 1;
    }
    backend->authority = mayday_slice(host, len);
    backend->unix_path = apr_table_get(r->notes, "uds_path");
    /* set once a member was chosen, whose URL then stands in the balancer's place */
    backend->balancer = apr_is_empty_table(r->subprocess_env)
                            ? mayday_slice(NULL, 0)
                            : balancer_name(apr_table_get(r->subprocess_env, "BALANCER_NAME"));
    return true;
}

static mayday_slice_t
unix_name(mayday_slice_t path, char *storage, size_t size)
{
    mayday_buf_t name;

    mayday_buf_init(&name, storage, size);
    mayday_buf_add(&name, MAYDAY_SLICE("unix:"));
    mayday_buf_add(&name, path);
    return mayday_buf_slice(&name);
}

static bool
has_port(mayday_slice_t authority)
{
    /* the colons of an IPv6 address are in brackets */
    return authority.len > 0 && authority.data[authority.len - 1] != ']' &&
           memrchr(authority.data, ':', authority.len) != NULL;
}

static __attribute__((noinline)) mayday_slice_t
peer_made_up(const mayday_ap_backend_t *backend, char storage[MAYDAY_AP_PEER_SIZE])
{
    const char *port;
    mayday_buf_t peer;

    if (backend->unix_path != NULL) {
        return unix_name(mayday_slice_str(backend->unix_path), storage, MAYDAY_AP_PEER_SIZE);
    }
    port = default_port(backend->scheme);
    if (port == NULL) {
        return backend->authority;
    }
    mayday_buf_init(&peer, storage, MAYDAY_AP_PEER_SIZE);
    mayday_buf_add(&peer, backend->authority);
    mayday_buf_addc(&peer, ':');
    mayday_buf_adds(&peer, port);
    return mayday_buf_slice(&peer);
}

mayday_slice_t
mayday_ap_peer(const mayday_ap_backend_t *backend, char storage[MAYDAY_AP_PEER_SIZE])
{
    return backend->unix_path == NULL && has_port(backend->authority)
               ? backend->authority
               : peer_made_up(backend, storage);
}

/* Schemes that go without saying: nginx's names of upstreams have none. */
static bool
is_plain(mayday_slice_t scheme)
{
    return mayday_slice_eq(scheme, MAYDAY_SLICE("http")) ||
           mayday_slice_eq(scheme, MAYDAY_SLICE("https")) ||
           mayday_slice_eq(scheme, MAYDAY_SLICE("balancer"));
}

mayday_slice_t
mayday_ap_upstream(const mayday_ap_backend_t *backend, char storage[MAYDAY_AP_UPSTREAM_SIZE])
{
    mayday_buf_t upstream;

    if (backend->balancer.len > 0) {
        return backend->balancer;
    }
    if (backend->unix_path != NULL) {
        return unix_name(mayday_slice_str(backend->unix_path), storage, MAYDAY_AP_UPSTREAM_SIZE);
    }
    if (is_plain(backend->scheme)) {
        return backend->authority;
    }
    mayday_buf_init(&upstream, storage, MAYDAY_AP_UPSTREAM_SIZE);
    mayday_buf_add(&upstream, backend->scheme);
    mayday_buf_add(&upstream, MAYDAY_SLICE("://"));
    mayday_buf_add(&upstream, backend->authority);
    return mayday_buf_slice(&upstream);
}

/* By the number that the line begins with: "AH00957:". */
static bool
is_numbered(mayday_slice_t line, const char number[8])
{
    return line.len >= 8 && memcmp(line.data, number, 8) == 0;
}

/* "AH01114: HTTP: failed to make connection to backend: 127.0.0.1" */
bool
mayday_ap_repeats_attempt(mayday_slice_t line)
{
    static const char numbers[][8] = {
        "AH01114:", "AH01079:", "AH00896:", "AH00866:", "AH10101:", "AH02452:",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(numbers); i++) {
        if (is_numbered(line, numbers[i])) {
            return true;
        }
    }
    return false;
}

/*
 * The peer in "http: attempt to connect to 127.0.0.1:8001 (shop.internal:8001)
 * failed", or "... to Unix domain socket /run/shop.sock (localhost:80) failed".
 */
static mayday_slice_t
peer_of_text(mayday_slice_t line, char storage[MAYDAY_AP_PEER_SIZE])
{
    static const mayday_slice_t attempt = {": attempt to connect to ", 24};
    static const mayday_slice_t local = {"Unix domain socket ", 19};
    const char *end = line.data + line.len, *configured, *close;
    size_t at = mayday_slice_find(line, attempt, 0);
    bool is_local;

    if (at == SIZE_MAX) {
        return mayday_slice(NULL, 0);
    }
    at += attempt.len;
    line = mayday_slice(line.data + at, line.len - at);
    is_local = mayday_slice_starts(line, local);
    if (is_local) {
        line = mayday_slice(line.data + local.len, line.len - local.len);
    }
    configured = line.len == 0 ? NULL : memchr(line.data, ' ', line.len);
    if (configured == NULL) {
        return mayday_slice(NULL, 0);
    }
    line.len = (size_t) (configured - line.data);
    if (is_local) {
        return unix_name(line, storage, MAYDAY_AP_PEER_SIZE);
    }
    /* before httpd 2.4.54 only the address has the port */
    close = memchr(configured, ')', (size_t) (end - configured));
    return close != NULL && configured[1] == '(' &&
                   memchr(configured, ':', (size_t) (close - configured)) != NULL
               ? mayday_slice(configured + 2, (size_t) (close - configured - 2))
               : line;
}

mayday_slice_t
mayday_ap_peer_of_attempt(mayday_slice_t line, const mayday_ap_backend_t *backend,
                          mayday_slice_t peer, char storage[MAYDAY_AP_PEER_SIZE])
{
    if (is_numbered(line, "AH00957:")) {
        /* without a balancer there is no other */
        return backend->balancer.len == 0 ? peer : peer_of_text(line, storage);
    }
    /* a unix socket of ProxyPass, which no other place tells of */
    return is_numbered(line, "AH02454:") ? peer_of_text(line, storage) : mayday_slice(NULL, 0);
}
