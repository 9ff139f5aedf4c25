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

bool
mayday_ap_backend(const request_rec *r, mayday_ap_backend_t *backend)
{
    const char *url, *host, *at;
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
    len = strcspn(host, "/?#");
    at = memrchr(host, '@', len);
    if (at != NULL) {
        len -= (size_t) (at + 1 - host);
        host = at + 1;
    }
    backend->authority = mayday_slice(host, len);
    return true;
}

/* The unix socket that stands in the host's place, or NULL. */
static const char *
unix_path(const request_rec *r)
{
    return apr_table_get(r->notes, "uds_path");
}

static void
add_unix(mayday_buf_t *out, const char *path)
{
    mayday_buf_add(out, MAYDAY_SLICE("unix:"));
    mayday_buf_adds(out, path);
}

void
mayday_ap_peer(const request_rec *r, const mayday_ap_backend_t *backend, mayday_buf_t *peer)
{
    mayday_slice_t authority = backend->authority;
    const char *path = unix_path(r), *port, *colon;

    if (path != NULL) {
        add_unix(peer, path);
        return;
    }
    mayday_buf_add(peer, authority);
    /* an IPv6 address has colons of its own, behind which comes a bracket */
    colon = memrchr(authority.data, ':', authority.len);
    if (colon != NULL &&
        memchr(colon, ']', authority.len - (size_t) (colon - authority.data)) == NULL) {
        return;
    }
    port = default_port(backend->scheme);
    if (port != NULL) {
        mayday_buf_addc(peer, ':');
        mayday_buf_adds(peer, port);
    }
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
mayday_ap_upstream(const request_rec *r, const mayday_ap_backend_t *backend,
                   char storage[MAYDAY_AP_UPSTREAM_SIZE])
{
    static const mayday_slice_t scheme = {"balancer://", 11};
    /* set once a member was chosen, whose URL then stands in the balancer's place */
    const char *balancer = apr_table_get(r->subprocess_env, "BALANCER_NAME"), *path;
    mayday_buf_t upstream;

    if (balancer != NULL) {
        mayday_slice_t name = mayday_slice_str(balancer);

        return mayday_slice_starts(name, scheme)
                   ? mayday_slice(name.data + scheme.len, name.len - scheme.len)
                   : name;
    }
    path = unix_path(r);
    if (path == NULL && is_plain(backend->scheme)) {
        return backend->authority;
    }
    mayday_buf_init(&upstream, storage, MAYDAY_AP_UPSTREAM_SIZE);
    if (path != NULL) {
        add_unix(&upstream, path);
    } else {
        mayday_buf_add(&upstream, backend->scheme);
        mayday_buf_add(&upstream, MAYDAY_SLICE("://"));
        mayday_buf_add(&upstream, backend->authority);
    }
    return mayday_buf_slice(&upstream);
}

/*
 * "AH00957: http: attempt to connect to 127.0.0.1:8001 (shop.internal:8001)
 * failed", or "... to Unix domain socket /run/shop.sock (localhost:80) failed".
 */
mayday_slice_t
mayday_ap_peer_of_line(mayday_slice_t text, char storage[MAYDAY_AP_PEER_SIZE])
{
    static const mayday_slice_t attempt = {": attempt to connect to ", 24};
    static const mayday_slice_t local = {"Unix domain socket ", 19};
    const size_t skip = 9; /* "AH00957: ", then a word */
    const char *at, *end, *address, *configured;
    mayday_buf_t peer;

    at = text.len < skip ? NULL : memchr(text.data + skip, ':', text.len - skip);
    if (at == NULL ||
        !mayday_slice_starts(mayday_slice(at, text.len - (size_t) (at - text.data)), attempt)) {
        return mayday_slice(NULL, 0);
    }
    address = at + attempt.len;
    end = text.data + text.len;
    if (mayday_slice_starts(mayday_slice(address, (size_t) (end - address)), local)) {
        address += local.len;
        configured = memchr(address, ' ', (size_t) (end - address));
        if (configured == NULL) {
            return mayday_slice(NULL, 0);
        }
        mayday_buf_init(&peer, storage, MAYDAY_AP_PEER_SIZE);
        mayday_buf_add(&peer, MAYDAY_SLICE("unix:"));
        mayday_buf_add(&peer, mayday_slice(address, (size_t) (configured - address)));
        return mayday_buf_slice(&peer);
    }
    configured = memchr(address, ' ', (size_t) (end - address));
    if (configured == NULL) {
        return mayday_slice(NULL, 0);
    }
    at = memchr(configured, ')', (size_t) (end - configured));
    if (at != NULL && configured[1] == '(' &&
        memchr(configured, ':', (size_t) (at - configured)) != NULL) {
        return mayday_slice(configured + 2, (size_t) (at - configured - 2));
    }
    /* before httpd 2.4.54 only the address has the port */
    return mayday_slice(address, (size_t) (configured - address));
}

/* "AH01114: HTTP: failed to make connection to backend: 127.0.0.1": by its number. */
bool
mayday_ap_repeats_attempt(mayday_slice_t text)
{
    static const char numbers[][8] = {
        "AH01114:", "AH01079:", "AH00896:", "AH00866:", "AH10101:", "AH02452:",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(numbers) && text.len >= sizeof(numbers[i]); i++) {
        if (memcmp(text.data, numbers[i], sizeof(numbers[i])) == 0) {
            return true;
        }
    }
    return false;
}
