/*
 * A failed request becomes a record in this process's lane.
 *
 * Runs in log_transaction, before the loggers. A healthy request costs a look at
 * its status, its place in the table of evidence and a counter. A failed one is
 * written straight into shared memory; expressions are evaluated before, for
 * with threads the lane is locked from begin to commit. Never changes the
 * response, never blocks on another process, and returns DECLINED whatever
 * happened. Counterpart: ngx_module/ngx_http_mayday_capture.c.
 */
#include "mod_mayday.h"

#include "apr_lib.h"
#include "apr_strings.h"
#include "http_protocol.h"
#include "mod_ssl.h"

#include "core/capture/record.h"

static APR_OPTIONAL_FN_TYPE(ssl_var_lookup) *ssl_value;

/* What is being captured. */
typedef struct {
    request_rec *first;   /* as the client sent it                            */
    request_rec *subject; /* of the chain of internal redirects, the one that failed */
    request_rec *last;
    const mayday_place_t *place; /* of the subject                            */
    const mayday_ap_evidence_t *evidence; /* NULL: the error log said nothing */
    const mayday_ap_line_t *cause;        /* the line that tells the kind, or NULL */
    int answered; /* status of the upstream's answer, 0: it gave none, or there is none */
    bool proxied;
    unsigned status; /* that the client was given */
    mayday_kind_t kind;
} failure_t;

/* Values of expressions, all evaluated before the lane is locked. */
typedef struct {
    mayday_slice_t environment, release, transaction;
    mayday_slice_t tls_protocol, tls_cipher;
    mayday_slice_t user[MAYDAY_USER_MAX];
    size_t tag_count;
    /* from here on only what the above tells of is set */
    char hashes[MAYDAY_USER_MAX][MAYDAY_HASH_HEX_SIZE];
    const mayday_tag_t *tags[MAYDAY_TAG_MAX];
    mayday_slice_t tag_values[MAYDAY_TAG_MAX];
} values_t;

void
mayday_ap_optional_fn_retrieve(void)
{
    ssl_value = APR_RETRIEVE_OPTIONAL_FN(ssl_var_lookup);
}

/* ---- the kind ---- */

/* Schemes of which mod_proxy notes the status that the upstream answered. */
static bool
notes_status(const request_rec *r)
{
    return r->filename != NULL && (strncasecmp(r->filename, "proxy:http", 10) == 0 ||
                                   strncasecmp(r->filename, "proxy:ws", 8) == 0);
}

/* "502", as mod_proxy notes it; 0: that is no status. */
static int
status_of(const char *digits)
{
    int status = 0;

    for (int i = 0; i < 3; i++) {
        if (!apr_isdigit(digits[i])) {
            return 0;
        }
        status = status * 10 + (digits[i] - '0');
    }
    return status;
}

/* Whether FastCGI, uwsgi … answered: of that there is no note. */
static bool
is_answered(const failure_t *f)
{
    const request_rec *r = f->subject;

    if (f->cause != NULL) {
        return f->cause->kind == MAYDAY_KIND_UPSTREAM_TRUNCATED;
    }
    return r->status_line != ap_get_status_line(r->status); /* not in httpd's own words */
}

/* Sets proxied and answered. */
static void
look_at_proxy(failure_t *f)
{
    const request_rec *r = f->subject;
    const char *noted;

    f->proxied = r->proxyreq != PROXYREQ_NONE && r->filename != NULL &&
                 strncmp(r->filename, "proxy:", 6) == 0;
    if (!f->proxied) {
        return;
    }
    noted = apr_table_get(r->notes, "proxy-status");
    if (noted != NULL) {
        f->answered = status_of(noted);
    } else if (!notes_status(r) && is_answered(f)) {
        f->answered = r->status;
    }
}

/* mod_proxy's own failure without a line: LogLevel crit, or one that it does not log. */
static mayday_kind_t
kind_by_notes(const failure_t *f)
{
    static const struct {
        const char *contains;
        mayday_kind_t kind;
    } reasons[] = {
        {"DNS lookup failure", MAYDAY_KIND_UPSTREAM_DNS},
        {"SSL Handshake", MAYDAY_KIND_UPSTREAM_TLS},
        {"Timeout", MAYDAY_KIND_UPSTREAM_READ_TIMEOUT},
        {"Error reading from remote server", MAYDAY_KIND_UPSTREAM_CLOSED},
        {"Corrupt status line", MAYDAY_KIND_UPSTREAM_INVALID},
        {"Malformed connection header", MAYDAY_KIND_UPSTREAM_INVALID},
    };
    const char *notes = apr_table_get(f->subject->notes, "error-notes");

    if (apr_table_get(f->subject->notes, "proxy_timedout") != NULL) {
        return MAYDAY_KIND_UPSTREAM_READ_TIMEOUT;
    }
    for (size_t i = 0; notes != NULL && i < MAYDAY_COUNT(reasons); i++) {
        if (strstr(notes, reasons[i].contains) != NULL) {
            return reasons[i].kind;
        }
    }
    switch (f->status) {
    case HTTP_BAD_GATEWAY:
        /* it began to answer, but that was not what became of it */
        return f->answered != 0 ? MAYDAY_KIND_UPSTREAM_INVALID : MAYDAY_KIND_UPSTREAM_CLOSED;
    case HTTP_SERVICE_UNAVAILABLE:
        return MAYDAY_KIND_UPSTREAM_UNREACHABLE;
    case HTTP_GATEWAY_TIME_OUT:
        return MAYDAY_KIND_UPSTREAM_READ_TIMEOUT;
    default:
        /* mod_proxy_uwsgi logs nothing when no answer comes */
        return strncasecmp(f->subject->filename, "proxy:uwsgi", 11) == 0
                   ? MAYDAY_KIND_UPSTREAM_CLOSED
                   : MAYDAY_KIND_SERVER_INTERNAL;
    }
}

static mayday_kind_t
kind_of_failed_status(const failure_t *f)
{
    if (f->cause != NULL && f->cause->kind == MAYDAY_KIND_LIMITED) {
        return MAYDAY_KIND_LIMITED;
    }
    if (f->answered != 0 && f->answered == f->subject->status) {
        return MAYDAY_KIND_UPSTREAM_RESPONSE;
    }
    if (f->cause != NULL) {
        /* the status can tell a time-out where the line cannot (SCGI) */
        return f->cause->kind == MAYDAY_KIND_UPSTREAM_CLOSED && f->status == HTTP_GATEWAY_TIME_OUT
                   ? MAYDAY_KIND_UPSTREAM_READ_TIMEOUT
                   : f->cause->kind;
    }
    return f->proxied ? kind_by_notes(f) : MAYDAY_KIND_SERVER_INTERNAL;
}

/* The status looks well: an upstream's failure that was logged may still count. */
static mayday_kind_t
kind_of_good_status(const failure_t *f)
{
    int status = f->subject->status;

    if (f->cause == NULL || f->cause->kind == MAYDAY_KIND_LIMITED ||
        status >= HTTP_INTERNAL_SERVER_ERROR) {
        return MAYDAY_KIND_NONE;
    }
    if (f->cause->kind == MAYDAY_KIND_UPSTREAM_TRUNCATED) {
        return MAYDAY_KIND_UPSTREAM_TRUNCATED;
    }
    if (f->answered != 0 || (!notes_status(f->subject) && status < HTTP_BAD_REQUEST)) {
        return MAYDAY_KIND_RETRIED;
    }
    /* httpd hung up on the client instead of answering, as it does on kept-alive connections */
    return status < HTTP_BAD_REQUEST ? f->cause->kind : MAYDAY_KIND_NONE;
}

/* The first line that tells a kind; but a failed handshake first looks like a hang-up. */
static const mayday_ap_line_t *
find_cause(const mayday_ap_evidence_t *evidence)
{
    const mayday_ap_line_t *cause = NULL;

    for (unsigned i = 0; evidence != NULL && i < evidence->line_count; i++) {
        const mayday_ap_line_t *line = &evidence->lines[i];

        if (line->kind == MAYDAY_KIND_NONE || line->aside) {
            continue;
        }
        if (cause == NULL || (cause->kind == MAYDAY_KIND_UPSTREAM_CLOSED &&
                              line->kind == MAYDAY_KIND_UPSTREAM_TLS)) {
            cause = line;
        }
    }
    return cause;
}

/* NONE: nothing failed. */
static mayday_kind_t
kind_of(failure_t *f, bool status_failed)
{
    f->cause = find_cause(f->evidence);
    look_at_proxy(f);
    f->status = (unsigned) f->subject->status;
    if (f->first->connection->aborted && mayday_status_set_has(f->place->failed_status, 499)) {
        f->status = 499;
        return MAYDAY_KIND_CLIENT_CLOSED;
    }
    return status_failed ? kind_of_failed_status(f) : kind_of_good_status(f);
}

static bool
condition_holds(void *request, mayday_expr_t *condition)
{
    const char *error = NULL;
    int result;

    mayday_ap_log_quiet(true);
    result = ap_expr_exec(request, (const ap_expr_info_t *) condition, &error);
    mayday_ap_log_quiet(false);
    return result > 0;
}

/* ---- values of expressions ---- */

static mayday_slice_t
hash_value(mayday_slice_t value, char hex[MAYDAY_HASH_HEX_SIZE])
{
    uint8_t hash[MAYDAY_HASH_BYTES];

    if (value.len == 0) {
        return value;
    }
    mayday_siphash(hash, mayday_ap.supervisor->hash_key, value.data, value.len);
    mayday_hex(hex, hash, sizeof(hash));
    return mayday_slice(hex, 2 * sizeof(hash));
}

static mayday_slice_t
eval_or(request_rec *r, const mayday_expr_t *expr, mayday_slice_t otherwise)
{
    return expr == NULL ? otherwise : mayday_ap_eval(r, expr);
}

static void
evaluate(values_t *v, const failure_t *f)
{
    request_rec *r = f->subject;
    const mayday_place_t *place = f->place;

    for (int i = 0; place->user != NULL && i < MAYDAY_USER_MAX; i++) {
        v->user[i] = eval_or(r, place->user->parts[i].expr, mayday_slice(NULL, 0));
        if (place->user->parts[i].hashed) {
            v->user[i] = hash_value(v->user[i], v->hashes[i]);
        }
    }
    for (const mayday_tag_t *tag = place->tags; tag != NULL && v->tag_count < MAYDAY_TAG_MAX;
         tag = tag->next) {
        v->tags[v->tag_count] = tag;
        v->tag_values[v->tag_count++] = mayday_ap_eval(r, tag->expr);
    }
    v->environment = eval_or(r, place->environment, mayday_ap.instance->environment);
    v->release = eval_or(r, place->release, mayday_ap.instance->release);
    v->transaction = eval_or(r, place->transaction, mayday_slice(NULL, 0));
    if (ssl_value != NULL && strcmp(ap_http_scheme(f->first), "https") == 0) {
        static char protocol[] = "SSL_PROTOCOL", cipher[] = "SSL_CIPHER";
        conn_rec *c = f->first->connection;

        v->tls_protocol =
            mayday_slice_str(ssl_value(r->pool, r->server, c, f->first, protocol));
        v->tls_cipher = mayday_slice_str(ssl_value(r->pool, r->server, c, f->first, cipher));
    }
}

/* ---- the record ---- */

static void
write_target(mayday_record_t *record, const failure_t *f)
{
    const char *target = f->first->unparsed_uri, *path;
    size_t len;

    if (target == NULL) {
        return;
    }
    path = target;
    if (*path != '/') {
        /* a proxy's request line has the whole URL */
        path = strstr(path, "://");
        path = path == NULL ? target : path + 3 + strcspn(path + 3, "/?");
    }
    len = strcspn(path, "?#");
    mayday_record_text(record, PATH, mayday_slice(path, len));
    if (path[len] == '?') {
        path += len + 1;
        mayday_record_query(record, f->place->collect, mayday_slice(path, strcspn(path, "#")));
    }
}

static void
write_failure(mayday_record_t *record, const failure_t *f, const mayday_ap_ctx_t *ctx)
{
    const request_rec *r = f->first;
    const char *host = apr_table_get(r->headers_in, "Host");
    apr_time_t now = apr_time_now();

    mayday_record_u64(record, MAYDAY_FIELD_TIME_US, (uint64_t) now);
    mayday_record_u64(record, MAYDAY_FIELD_KIND, f->kind);
    mayday_record_u64(record, MAYDAY_FIELD_STATUS, f->status);
    mayday_record_text(record, EVENT_ID, mayday_slice(ctx->event_id, sizeof(ctx->event_id)));
    mayday_record_u64(record, MAYDAY_FIELD_DESTINATION, f->place->destination->index);
    mayday_record_u64(record, MAYDAY_FIELD_DURATION_US,
                      now > r->request_time ? (uint64_t) (now - r->request_time) : 0);
    if (f->cause != NULL && f->cause->error != 0 && f->kind != MAYDAY_KIND_UPSTREAM_INVALID) {
        mayday_record_u64(record, MAYDAY_FIELD_ERRNO, (uint64_t) f->cause->error);
    }
    mayday_record_text(record, METHOD, mayday_slice_str(r->method));
    mayday_record_text(record, SCHEME, mayday_slice_str(ap_http_scheme(r)));
    mayday_record_text(record, HOST, mayday_slice_str(host != NULL ? host : r->hostname));
    write_target(record, f);
    mayday_record_text(record, PROTOCOL, mayday_slice_str(r->protocol));
    mayday_record_text(record, VIRTUAL_HOST, mayday_slice_str(r->server->server_hostname));
    mayday_record_u64(record, MAYDAY_FIELD_SERVER_PORT, r->connection->local_addr->port);
    /* "SetHandler proxy:URL" is the proxy's handler too, and may hold a password */
    mayday_record_text(record, LOCATION,
                       f->proxied ? MAYDAY_SLICE("proxy-server")
                                  : mayday_slice_str(f->subject->handler));
}

/* The upstream as configured: the balancer, else the worker without its path. */
static void
write_upstream(mayday_record_t *record, const failure_t *f, mayday_slice_t scheme,
               mayday_slice_t authority)
{
    const char *balancer = apr_table_get(f->subject->subprocess_env, "BALANCER_NAME");
    char storage[MAYDAY_FIELD_MAX_UPSTREAM + 1];
    mayday_buf_t upstream;

    if (balancer != NULL) {
        mayday_record_text(record, UPSTREAM, mayday_slice_str(balancer));
        return;
    }
    mayday_buf_init(&upstream, storage, sizeof(storage));
    if (f->evidence != NULL && f->evidence->attempt_count > 0 &&
        strncmp(f->evidence->attempts[0].peer, "unix:", 5) == 0) {
        mayday_buf_adds(&upstream, f->evidence->attempts[0].peer);
    } else if (apr_table_get(f->subject->notes, "uds_path") != NULL) {
        mayday_ap_peer(f->subject, &upstream);
    } else {
        mayday_buf_add(&upstream, scheme);
        mayday_buf_add(&upstream, MAYDAY_SLICE("://"));
        mayday_buf_add(&upstream, authority);
    }
    mayday_record_text(record, UPSTREAM, mayday_buf_slice(&upstream));
}

/* Who was tried: those of whom the error log spoke, then the one who answered. */
static void
write_attempts(mayday_record_t *record, const failure_t *f)
{
    mayday_record_attempt_t attempt = {
        .connect_ms = -1, .header_ms = -1, .response_ms = -1, .bytes_received = -1};
    char storage[MAYDAY_AP_PEER_SIZE];
    mayday_buf_t peer;
    unsigned count = f->evidence == NULL ? 0 : f->evidence->attempt_count, written = 0;
    bool answered = f->answered != 0;

    mayday_buf_init(&peer, storage, sizeof(storage));
    if (answered || count == 0) {
        mayday_ap_peer(f->subject, &peer);
    }
    for (unsigned i = 0; i < count; i++) {
        const mayday_ap_attempt_t *a = &f->evidence->attempts[i];

        if (a->aside) {
            continue;
        }
        /* the last one answered too if it broke off later */
        if (answered && i + 1 == count && strcmp(a->peer, storage) == 0) {
            attempt.status = f->answered;
            answered = false;
        }
        mayday_record_attempt(record, &attempt, mayday_slice_str(a->peer));
        written++;
    }
    /* where nobody was tried, the balancer's name stands in the peer's place */
    if (peer.len > 0 && (answered || written == 0)) {
        attempt.status = f->answered;
        mayday_record_attempt(record, &attempt, mayday_buf_slice(&peer));
    }
}

/* httpd quotes the client's address in a few lines: "... from 192.0.2.1 ()". */
static mayday_slice_t
without_client(const failure_t *f, mayday_slice_t text, char *storage, size_t size)
{
    static const mayday_slice_t from = {" from ", 6};
    mayday_slice_t client = mayday_slice_str(f->first->connection->client_ip);
    mayday_buf_t out;
    size_t at = mayday_slice_find(text, from, 0);

    while (at != SIZE_MAX &&
           !mayday_slice_starts(mayday_slice(text.data + at + from.len, text.len - at - from.len),
                                client)) {
        at = mayday_slice_find(text, from, at + 1);
    }
    if (at == SIZE_MAX || client.len == 0) {
        return text;
    }
    mayday_buf_init(&out, storage, size);
    mayday_buf_add(&out, mayday_slice(text.data, at + from.len));
    mayday_buf_adds(&out, MAYDAY_FILTERED);
    at += from.len + client.len;
    mayday_buf_add(&out, mayday_slice(text.data + at, text.len - at));
    return mayday_buf_slice(&out);
}

static void
write_line(mayday_record_t *record, const failure_t *f, const mayday_ap_line_t *line)
{
    char storage[MAYDAY_FIELD_MAX_LOG_LINE];
    mayday_slice_t text = mayday_slice(f->evidence->text + line->offset, line->len);

    /* not in those that tell a kind: the upstream may have the same address */
    if (!f->place->collect->user_info && line->kind == MAYDAY_KIND_NONE) {
        text = without_client(f, text, storage, sizeof(storage));
    }
    mayday_record_log_line(record, f->place->collect, line->level, (uint64_t) line->time, text);
}

static void
write_lines(mayday_record_t *record, const failure_t *f)
{
    if (f->evidence == NULL) {
        return;
    }
    if (f->cause != NULL) {
        write_line(record, f, f->cause);
    }
    for (unsigned i = 0; i < f->evidence->line_count; i++) {
        if (&f->evidence->lines[i] != f->cause) {
            write_line(record, f, &f->evidence->lines[i]);
        }
    }
}

static void
write_trace(mayday_record_t *record, const mayday_trace_t *trace, const char *baggage)
{
    char storage[MAYDAY_FIELD_MAX_BAGGAGE + 1];
    mayday_buf_t sentry;

    mayday_record_text(record, TRACE_ID, mayday_slice(trace->trace_id, 16));
    mayday_record_text(record, SPAN_ID, mayday_slice(trace->span_id, 8));
    if (!trace->has_parent) {
        return;
    }
    mayday_record_text(record, PARENT_SPAN_ID, mayday_slice(trace->parent_span_id, 8));
    if (trace->sampled >= 0) {
        mayday_record_u64(record, MAYDAY_FIELD_SAMPLED, (uint64_t) trace->sampled);
    }
    if (baggage != NULL) {
        mayday_buf_init(&sentry, storage, sizeof(storage));
        mayday_trace_baggage(mayday_slice_str(baggage), &sentry);
        mayday_record_text(record, BAGGAGE, mayday_buf_slice(&sentry));
    }
}

static void
write_values(mayday_record_t *record, const values_t *v)
{
    mayday_record_text(record, ENVIRONMENT, v->environment);
    mayday_record_text(record, RELEASE, v->release);
    mayday_record_text(record, TRANSACTION, v->transaction);
    mayday_record_text(record, USER_ID, v->user[MAYDAY_USER_ID]);
    mayday_record_text(record, USER_EMAIL, v->user[MAYDAY_USER_EMAIL]);
    mayday_record_text(record, USER_NAME, v->user[MAYDAY_USER_NAME]);
    mayday_record_text(record, USER_IP, v->user[MAYDAY_USER_IP]);
    for (size_t i = 0; i < v->tag_count; i++) {
        if (v->tag_values[i].len > 0) {
            mayday_record_pair(record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG, v->tags[i]->name,
                               v->tag_values[i]);
        }
    }
    mayday_record_text(record, TLS_PROTOCOL, v->tls_protocol);
    mayday_record_text(record, TLS_CIPHER, v->tls_cipher);
}

static void
write_connection(mayday_record_t *record, const failure_t *f)
{
    const conn_rec *c = f->first->connection;
    apr_off_t sent = 0;

    for (const request_rec *r = f->first; r != NULL; r = r->next) {
        sent += r->bytes_sent; /* of an ErrorDocument or what stood in for it */
    }
    if (f->place->collect->user_info) {
        mayday_record_text(record, CLIENT_ADDRESS, mayday_slice_str(f->first->useragent_ip));
    }
    if (f->first->read_length > 0) {
        mayday_record_u64(record, MAYDAY_FIELD_REQUEST_BODY_BYTES,
                          (uint64_t) f->first->read_length);
    }
    mayday_record_u64(record, MAYDAY_FIELD_RESPONSE_BODY_BYTES, (uint64_t) sent);
    if (c->master != NULL) {
        /* a stream of HTTP/2: how many there were on the connection is not told */
        mayday_record_u64(record, MAYDAY_FIELD_CONNECTION, (uint64_t) c->master->id);
        return;
    }
    mayday_record_u64(record, MAYDAY_FIELD_CONNECTION, (uint64_t) c->id);
    mayday_record_u64(record, MAYDAY_FIELD_CONNECTION_REQUESTS,
                      (uint64_t) c->keepalives + (c->keepalive != AP_CONN_KEEPALIVE));
}

/* Response headers worth having; by the letter first, for there may be many others. */
static bool
is_worth_having(const char *name)
{
    switch (*name) {
    case 'C':
    case 'c':
        return strcasecmp(name, "Content-Type") == 0;
    case 'L':
    case 'l':
        return strcasecmp(name, "Location") == 0;
    case 'R':
    case 'r':
        return strcasecmp(name, "Retry-After") == 0;
    case 'X':
    case 'x':
        return strcasecmp(name, "X-Request-Id") == 0;
    default:
        return false;
    }
}

static void
write_headers(mayday_record_t *record, const failure_t *f)
{
    const apr_array_header_t *headers = apr_table_elts(f->first->headers_in);
    const apr_table_entry_t *entries = (const apr_table_entry_t *) headers->elts;

    for (int i = 0; i < headers->nelts; i++) {
        mayday_record_header(record, f->place->collect, mayday_slice_str(entries[i].key),
                             mayday_slice_str(entries[i].val));
    }
    headers = apr_table_elts(f->subject->headers_out);
    entries = (const apr_table_entry_t *) headers->elts;
    for (int i = 0; i < headers->nelts; i++) {
        if (is_worth_having(entries[i].key)) {
            mayday_record_pair(record, MAYDAY_FIELD_RESPONSE_HEADER,
                               MAYDAY_FIELD_MAX_RESPONSE_HEADER, mayday_slice_str(entries[i].key),
                               mayday_slice_str(entries[i].val));
        }
    }
}

static void
write_record(const failure_t *f)
{
    const mayday_trace_t *trace = mayday_ap_trace(f->first, f->place);
    mayday_ap_ctx_t *ctx = mayday_ap_ctx(f->first);
    mayday_slice_t scheme, authority;
    mayday_record_t record;
    values_t values;

    memset(&values, 0, offsetof(values_t, hashes));
    evaluate(&values, f);
    if (mayday_lane_begin(&mayday_ap.lane, &record) != MAYDAY_OK) {
        return; /* counted */
    }
    write_failure(&record, f, ctx);
    if (f->proxied && mayday_ap_backend(f->subject, &scheme, &authority)) {
        write_upstream(&record, f, scheme, authority);
        write_attempts(&record, f);
    }
    write_lines(&record, f);
    write_trace(&record, trace, ctx->baggage);
    write_values(&record, &values);
    write_connection(&record, f);
    write_headers(&record, f);
    mayday_lane_commit(&record);
}

/* ---- the hook ---- */

static void
capture(failure_t *f, bool status_failed)
{
    f->kind = kind_of(f, status_failed);
    if (f->kind == MAYDAY_KIND_NONE) {
        return;
    }
    if (mayday_ignore_matches(f->place->ignore, f->kind, f->status, condition_holds, f->subject)) {
        mayday_lane_count_ignored(&mayday_ap.lane, f->kind);
        return;
    }
    write_record(f);
    if (!mayday_ap_ctx(f->first)->shown) {
        mayday_ap_show(f->last, false); /* the access log's format looks at the last one */
    }
}

/* Something may have failed, or there are internal redirects. */
static __attribute__((noinline)) void
look_closely(request_rec *first, mayday_ap_evidence_t *evidence)
{
    const mayday_ap_ctx_t *ctx = ap_get_module_config(first->request_config, &mayday_module);
    failure_t f = {.first = first, .subject = first, .last = first, .evidence = evidence};
    bool failed = mayday_ap_is_failed(first);

    if (ctx != NULL && ctx->stand_in) {
        if (evidence != NULL) {
            mayday_ap_log_release(evidence);
        }
        return;
    }
    /* The first that failed is the truth; what comes behind it is its ErrorDocument. */
    while (!failed && f.subject->next != NULL) {
        f.subject = f.subject->next;
        failed = mayday_ap_is_failed(f.subject);
    }
    for (f.last = f.subject; f.last->next != NULL; f.last = f.last->next) {
    }
    f.place = mayday_ap_place(f.subject);
    if (f.place->enabled) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_REQUESTS);
        if (failed || evidence != NULL || first->connection->aborted) {
            capture(&f, failed);
        }
    }
    if (evidence != NULL) {
        mayday_ap_log_release(evidence);
    }
}

int
mayday_ap_log_transaction(request_rec *r)
{
    const mayday_place_t *place = mayday_ap_place(r);
    mayday_ap_evidence_t *evidence;

    if (!mayday_ap.serving || r->main != NULL || r->prev != NULL) {
        return DECLINED;
    }
    evidence = mayday_ap_log_leave(r);
    if (r->connection->master != NULL) {
        mayday_ap_leave_stream(r);
    }
    if (MAYDAY_UNLIKELY(evidence != NULL || r->next != NULL || r->connection->aborted ||
                        mayday_status_set_has(place->failed_status, (unsigned) r->status))) {
        look_closely(r, evidence);
    } else if (place->enabled) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_REQUESTS);
    }
    return DECLINED;
}
