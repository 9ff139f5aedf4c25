/*
 * Error-log lines as evidence of what became of a request.
 *
 * httpd tells modules of each line as it is logged, long before log_transaction
 * asks what happened, perhaps in another thread (async write completion, HTTP/2),
 * and of a refused connection without saying whose it was. So lines are put into
 * a fixed table of this process, made when the child starts, keyed by the first
 * request's address and time. A line without a request goes to the one that this
 * thread serves: known from post_read_request to log_transaction or
 * suspend_connection, compared only, for its memory may be gone.
 *
 * Only failing requests come here. Nothing is allocated, nothing logged. The
 * table has one mutex of this process; a healthy request looks at one word of it
 * without locking. When all places are taken the oldest goes: there are requests
 * that never reach log_transaction (health checks).
 */
#include "mod_mayday.h"

#include <unistd.h>

#include "core/capture/cause.h"

#define BUCKETS 64u
/* A request's evidence stays until it is logged: with HTTP/2 there are more than threads. */
#define EVIDENCE_PER_THREAD 16
#define EVIDENCE_MAX 1024
#define LINE_SIZE_MAX 1536u

static struct {
    pthread_mutex_t mutex; /* guards all but the reading of buckets' heads */
    _Atomic(mayday_ap_evidence_t *) buckets[BUCKETS];
    mayday_ap_evidence_t *free;
    mayday_ap_evidence_t *all;
    unsigned count;
} table = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    const request_rec *first; /* compared, never followed */
    apr_time_t time;
    bool quiet;
} current;

apr_status_t
mayday_ap_log_init(apr_pool_t *pchild, int threads)
{
    int count = threads < EVIDENCE_MAX / EVIDENCE_PER_THREAD ? threads * EVIDENCE_PER_THREAD
                                                             : EVIDENCE_MAX;

    /* untouched pages cost nothing: not cleared here, a place is when it is taken */
    table.all = apr_palloc(pchild, (size_t) count * sizeof(*table.all));
    table.count = (unsigned) count;
    table.free = NULL;
    for (int i = count - 1; i >= 0; i--) {
        table.all[i].owner = NULL;
        table.all[i].next = table.free;
        table.free = &table.all[i];
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        atomic_store_explicit(&table.buckets[i], NULL, memory_order_relaxed);
    }
    return APR_SUCCESS;
}

void
mayday_ap_log_enter(const request_rec *first)
{
    current.first = first;
    current.time = first->request_time;
}

void
mayday_ap_suspend(conn_rec *c, request_rec *r)
{
    current.first = NULL;
}

void
mayday_ap_log_quiet(bool quiet)
{
    current.quiet = quiet;
}

/* ---- the table; all under the mutex ---- */

static inline unsigned
bucket_of(const request_rec *owner)
{
    return (unsigned) ((uintptr_t) owner * UINT64_C(0x9e3779b97f4a7c15) >> 58) % BUCKETS;
}

static mayday_ap_evidence_t *
find(const request_rec *owner, apr_time_t owner_time)
{
    mayday_ap_evidence_t *e =
        atomic_load_explicit(&table.buckets[bucket_of(owner)], memory_order_relaxed);

    while (e != NULL && (e->owner != owner || e->owner_time != owner_time)) {
        e = e->next;
    }
    return e;
}

static void
unlink_evidence(mayday_ap_evidence_t *evidence)
{
    unsigned bucket = bucket_of(evidence->owner);
    mayday_ap_evidence_t *e = atomic_load_explicit(&table.buckets[bucket], memory_order_relaxed);

    if (e == evidence) {
        atomic_store_explicit(&table.buckets[bucket], evidence->next, memory_order_relaxed);
    } else {
        while (e->next != evidence) {
            e = e->next;
        }
        e->next = evidence->next;
    }
    evidence->owner = NULL;
}

static mayday_ap_evidence_t *
steal_oldest(void)
{
    mayday_ap_evidence_t *oldest = NULL;

    for (unsigned i = 0; i < table.count; i++) {
        mayday_ap_evidence_t *e = &table.all[i];

        if (e->owner != NULL && (oldest == NULL || e->time < oldest->time)) {
            oldest = e;
        }
    }
    if (oldest != NULL) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_LINES_LOST);
        unlink_evidence(oldest);
    }
    return oldest;
}

/* NULL: every place is being read at this moment. */
static mayday_ap_evidence_t *
place_for(const request_rec *owner, apr_time_t owner_time)
{
    mayday_ap_evidence_t *e = table.free;
    unsigned bucket = bucket_of(owner);

    if (e != NULL) {
        table.free = e->next;
    } else {
        e = steal_oldest();
        if (e == NULL) {
            return NULL;
        }
    }
    e->owner = owner;
    e->owner_time = owner_time;
    e->time = apr_time_now();
    e->line_count = e->attempt_count = e->text_len = 0;
    e->next = atomic_load_explicit(&table.buckets[bucket], memory_order_relaxed);
    atomic_store_explicit(&table.buckets[bucket], e, memory_order_relaxed);
    return e;
}

static __attribute__((noinline)) mayday_ap_evidence_t *
take(const request_rec *first)
{
    mayday_ap_evidence_t *e;

    pthread_mutex_lock(&table.mutex);
    e = find(first, first->request_time);
    if (e != NULL) {
        unlink_evidence(e);
    }
    pthread_mutex_unlock(&table.mutex);
    return e;
}

mayday_ap_evidence_t *
mayday_ap_log_leave(const request_rec *first)
{
    /* with pipelining the next request may have come in before this one ends */
    if (current.first == first) {
        current.first = NULL;
    }
    /* relaxed will do: what a request's lines wrote was handed over with the request */
    if (MAYDAY_LIKELY(atomic_load_explicit(&table.buckets[bucket_of(first)],
                                           memory_order_relaxed) == NULL)) {
        return NULL;
    }
    return take(first);
}

void
mayday_ap_log_release(mayday_ap_evidence_t *evidence)
{
    pthread_mutex_lock(&table.mutex);
    evidence->next = table.free;
    table.free = evidence;
    pthread_mutex_unlock(&table.mutex);
}

/* ---- peers ---- */

/* The port that a URL of mod_proxy means where it names none. */
static const char *
default_port(mayday_slice_t scheme)
{
    static const struct {
        mayday_slice_t scheme;
        const char *port;
    } ports[] = {
        {{"http", 4}, "80"},  {{"https", 5}, "443"},  {{"ajp", 3}, "8009"},  {{"fcgi", 4}, "8000"},
        {{"h2c", 3}, "80"},   {{"h2", 2}, "443"},     {{"scgi", 4}, "4000"}, {{"uwsgi", 5}, "3031"},
        {{"ws", 2}, "80"},    {{"wss", 3}, "443"},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(ports); i++) {
        if (mayday_slice_ieq(ports[i].scheme, scheme)) {
            return ports[i].port;
        }
    }
    return NULL;
}

bool
mayday_ap_backend(const request_rec *r, mayday_slice_t *scheme, mayday_slice_t *authority)
{
    const char *url, *host, *at;
    size_t len;

    if (r->filename == NULL || strncmp(r->filename, "proxy:", 6) != 0) {
        return false;
    }
    url = r->filename + 6;
    host = strchr(url, ':');
    if (host == NULL || host[1] != '/' || host[2] != '/') {
        return false;
    }
    *scheme = mayday_slice(url, (size_t) (host - url));
    host += 3;
    len = strcspn(host, "/?#");
    at = memrchr(host, '@', len);
    if (at != NULL) {
        len -= (size_t) (at + 1 - host);
        host = at + 1;
    }
    *authority = mayday_slice(host, len);
    return true;
}

void
mayday_ap_peer(const request_rec *r, mayday_buf_t *peer)
{
    mayday_slice_t scheme, authority;
    const char *path, *port, *colon;

    if (!mayday_ap_backend(r, &scheme, &authority)) {
        return;
    }
    path = apr_table_get(r->notes, "uds_path");
    if (path != NULL) {
        mayday_buf_adds(peer, "unix:");
        mayday_buf_adds(peer, path);
        return;
    }
    mayday_buf_add(peer, authority);
    port = default_port(scheme);
    /* an IPv6 address has colons of its own, behind which comes a bracket */
    colon = memrchr(authority.data, ':', authority.len);
    if (port != NULL &&
        (colon == NULL ||
         memchr(colon, ']', authority.len - (size_t) (colon - authority.data)) != NULL)) {
        mayday_buf_addc(peer, ':');
        mayday_buf_adds(peer, port);
    }
}

/*
 * The peer in "AH00957: http: attempt to connect to 127.0.0.1:8001
 * (shop.internal:8001) failed" or "... to Unix domain socket /run/shop.sock
 * (localhost:80) failed"; nothing from other lines.
 */
static void
peer_of_text(mayday_slice_t text, mayday_buf_t *peer)
{
    static const mayday_slice_t attempt = {": attempt to connect to ", 24};
    static const mayday_slice_t local = {"Unix domain socket ", 19};
    const size_t skip = 9; /* "AH00957: ", then a word */
    const char *at, *address, *configured;
    size_t len;

    at = text.len < skip ? NULL : memchr(text.data + skip, ':', text.len - skip);
    if (at == NULL) {
        return;
    }
    text = mayday_slice(at, text.len - (size_t) (at - text.data));
    if (!mayday_slice_starts(text, attempt)) {
        return;
    }
    text = mayday_slice(text.data + attempt.len, text.len - attempt.len);
    if (mayday_slice_starts(text, local)) {
        mayday_buf_adds(peer, "unix:");
        text = mayday_slice(text.data + local.len, text.len - local.len);
    }
    address = text.data;
    configured = text.len == 0 ? NULL : memchr(address, ' ', text.len);
    if (configured == NULL) {
        return;
    }
    if (peer->len > 0) {
        mayday_buf_add(peer, mayday_slice(address, (size_t) (configured - address)));
        return;
    }
    len = strcspn(configured, ")");
    if (configured[1] == '(' && memchr(configured, ':', len) != NULL) {
        mayday_buf_add(peer, mayday_slice(configured + 2, len - 2));
    } else {
        /* before httpd 2.4.54 only the address has the port */
        mayday_buf_add(peer, mayday_slice(address, (size_t) (configured - address)));
    }
}

/* ---- lines ---- */

/* A peer was tried: a new attempt, or more about the last one. */
static void
add_attempt(mayday_ap_evidence_t *e, const ap_errorlog_info *info, mayday_slice_t text,
            const mayday_ap_line_t *line)
{
    char storage[MAYDAY_AP_PEER_SIZE];
    mayday_buf_t peer;
    mayday_ap_attempt_t *last = &e->attempts[e->attempt_count];

    mayday_buf_init(&peer, storage, sizeof(storage));
    if (info->r == NULL) {
        peer_of_text(text, &peer);
    } else {
        mayday_ap_peer(info->r, &peer);
        if (e->attempt_count > 0 && strcmp(last[-1].peer, storage) == 0) {
            return;
        }
    }
    if (peer.len == 0 || e->attempt_count == MAYDAY_AP_ATTEMPTS_MAX) {
        return;
    }
    e->attempt_count++;
    memcpy(last->peer, storage, peer.len + 1);
    last->kind = line->kind;
    last->confirmed = info->r != NULL;
    last->aside = line->aside;
}

/* After a connection failed, of which httpd told without a request, it names the request. */
static bool
confirm_attempt(mayday_ap_evidence_t *e, mayday_ap_line_t *line)
{
    mayday_ap_attempt_t *last = &e->attempts[e->attempt_count];

    if (!line->has_request || e->attempt_count == 0 || last[-1].confirmed) {
        return false;
    }
    last[-1].confirmed = true;
    last[-1].aside = line->aside;
    line->kind = last[-1].kind;
    return true;
}

/* What the text alone cannot tell: time-outs, and whether the header had gone out. */
static mayday_kind_t
refine(mayday_kind_t kind, const ap_errorlog_info *info)
{
    bool timed_out = APR_STATUS_IS_TIMEUP(info->status);

    switch (kind) {
    case MAYDAY_KIND_UPSTREAM_SEND_TIMEOUT:
        return timed_out ? kind : MAYDAY_KIND_UPSTREAM_CLOSED;
    case MAYDAY_KIND_UPSTREAM_CLOSED:
    case MAYDAY_KIND_UPSTREAM_READ_TIMEOUT:
        if (info->r != NULL && info->r->sent_bodyct) {
            return MAYDAY_KIND_UPSTREAM_TRUNCATED;
        }
        return timed_out ? MAYDAY_KIND_UPSTREAM_READ_TIMEOUT : kind;
    default:
        return kind;
    }
}

static int
errno_of(apr_status_t status)
{
    if (APR_STATUS_IS_TIMEUP(status)) {
        return ETIMEDOUT;
    }
    return status > 0 && status < APR_OS_START_ERROR ? status : 0;
}

/* "(111)Connection refused: ", as httpd itself begins such a line. */
static void
add_status(mayday_buf_t *out, apr_status_t status)
{
    char digits[12], message[120];
    char *at = digits + sizeof(digits);
    unsigned n = status < 0 ? 0 : (unsigned) status;
    const char *words = NULL;

    *--at = '\0';
    do {
        *--at = (char) ('0' + n % 10);
        n /= 10;
    } while (n > 0);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
    words = strerrordesc_np(status); /* no locale, no lock */
#endif
    if (words == NULL) {
        words = apr_strerror(status, message, sizeof(message));
    }
    mayday_buf_addc(out, '(');
    mayday_buf_adds(out, at);
    mayday_buf_addc(out, ')');
    mayday_buf_adds(out, words);
    mayday_buf_add(out, MAYDAY_SLICE(": "));
}

/* What fails here does not make the client's request fail: a subrequest, an ErrorDocument. */
static bool
is_aside(const request_rec *r)
{
    return r->main != NULL || (r->prev != NULL && ap_is_HTTP_ERROR(r->prev->status));
}

static void
add_line(mayday_ap_evidence_t *e, const ap_errorlog_info *info, const char *text)
{
    mayday_slice_t words = mayday_slice_str(text);
    mayday_ap_line_t *line;
    mayday_buf_t out;
    int error; /* what the text quotes as one may come from outside: not kept */
    size_t room = MAYDAY_AP_TEXT_SIZE - e->text_len;

    if (e->line_count == MAYDAY_AP_LINES_MAX || room < 2) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_LINES_LOST);
        return;
    }
    line = &e->lines[e->line_count++];
    line->level = (uint32_t) info->level;
    line->time = e->line_count == 1 ? e->time : apr_time_now();
    line->has_request = info->r != NULL;
    line->aside = info->r != NULL && is_aside(info->r);
    line->error = error = errno_of(info->status);
    if (!confirm_attempt(e, line)) {
        line->kind = refine(mayday_cause_classify(MAYDAY_SERVER_HTTPD, words, &error), info);
        if (line->kind != MAYDAY_KIND_NONE && line->kind != MAYDAY_KIND_LIMITED &&
            line->kind != MAYDAY_KIND_UPSTREAM_UNAVAILABLE) {
            add_attempt(e, info, words, line);
        }
    }
    line->offset = (uint16_t) e->text_len;

    mayday_buf_init(&out, e->text + e->text_len, room < LINE_SIZE_MAX ? room : LINE_SIZE_MAX);
    if (info->status != 0) {
        add_status(&out, info->status);
    }
    mayday_buf_add(&out, words);
    line->len = (uint16_t) out.len;
    e->text_len += (unsigned) out.len;

    if (line->aside) {
        /* the lines without a request just before were about the same thing */
        for (mayday_ap_line_t *l = line; l-- > e->lines && !l->has_request;) {
            l->aside = true;
        }
    }
}

void
mayday_ap_error_log(const ap_errorlog_info *info, const char *text)
{
    mayday_ap_evidence_t *e;
    const request_rec *owner;
    apr_time_t owner_time;

    if (info->level > APLOG_WARNING || info->level < 0 || !mayday_ap.serving || current.quiet) {
        return;
    }
    if (info->r != NULL) {
        owner = mayday_ap_first(info->r);
        owner_time = owner->request_time;
    } else {
        owner = current.first;
        owner_time = current.time;
    }
    /* a CGI's child, forked while another thread held the mutex, would wait for ever */
    if (owner == NULL || getpid() != mayday_ap.pid) {
        return;
    }
    pthread_mutex_lock(&table.mutex);
    e = find(owner, owner_time);
    if (e == NULL) {
        e = place_for(owner, owner_time);
    }
    if (e != NULL) {
        add_line(e, info, text);
    }
    pthread_mutex_unlock(&table.mutex);
}
