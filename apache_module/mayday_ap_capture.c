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

#include "http_protocol.h"
#include "mod_ssl.h"

#include "core/capture/record.h"

static APR_OPTIONAL_FN_TYPE(ssl_var_lookup) * ssl_value;

/* A value of an expression, or of mod_ssl. */
typedef struct {
    mayday_field_t field;
    size_t max;
    mayday_slice_t value;
} value_t;

#define VALUES_MAX (3 + MAYDAY_USER_MAX + 2)

/* All of them, asked for before the lane is locked. Only what the counts tell of is set. */
typedef struct {
    size_t count, tag_count;
    value_t values[VALUES_MAX];
    const mayday_tag_t *tags[MAYDAY_TAG_MAX];
    mayday_slice_t tag_values[MAYDAY_TAG_MAX];
    char hashes[MAYDAY_USER_MAX][2 * MAYDAY_HASH_BYTES + 1];
} values_t;

void
mayday_ap_optional_fn_retrieve(void)
{
    ssl_value = APR_RETRIEVE_OPTIONAL_FN(ssl_var_lookup);
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

/* ---- values ---- */

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

static void
add_value(values_t *v, mayday_field_t field, size_t max, mayday_slice_t value)
{
    v->values[v->count++] = (value_t){field, max, value};
}
#define add_text(v, ID, value) add_value((v), MAYDAY_FIELD_##ID, MAYDAY_FIELD_MAX_##ID, (value))

static void
evaluate_user(values_t *v, request_rec *r, const mayday_user_t *user)
{
    static const struct {
        mayday_field_t field;
        size_t max;
    } fields[MAYDAY_USER_MAX] = {
        [MAYDAY_USER_ID] = {MAYDAY_FIELD_USER_ID, MAYDAY_FIELD_MAX_USER_ID},
        [MAYDAY_USER_EMAIL] = {MAYDAY_FIELD_USER_EMAIL, MAYDAY_FIELD_MAX_USER_EMAIL},
        [MAYDAY_USER_NAME] = {MAYDAY_FIELD_USER_NAME, MAYDAY_FIELD_MAX_USER_NAME},
        [MAYDAY_USER_IP] = {MAYDAY_FIELD_USER_IP, MAYDAY_FIELD_MAX_USER_IP},
    };

    for (int i = 0; i < MAYDAY_USER_MAX; i++) {
        if (user->parts[i].expr != NULL) {
            mayday_slice_t value = mayday_ap_eval(r, user->parts[i].expr);

            add_value(v, fields[i].field, fields[i].max,
                      user->parts[i].hashed ? hash_value(value, v->hashes[i]) : value);
        }
    }
}

static void
ask_ssl(values_t *v, const mayday_ap_failure_t *f)
{
    static char protocol[] = "SSL_PROTOCOL", cipher[] = "SSL_CIPHER";
    request_rec *r = f->first;
    conn_rec *c = r->connection;

    add_text(v, TLS_PROTOCOL, mayday_slice_str(ssl_value(r->pool, r->server, c, r, protocol)));
    add_text(v, TLS_CIPHER, mayday_slice_str(ssl_value(r->pool, r->server, c, r, cipher)));
}

/* What is not given in the place, or empty, the agent takes from the instance. */
static void
evaluate(values_t *v, const mayday_ap_failure_t *f, bool secure)
{
    const mayday_place_t *place = f->place;
    request_rec *r = f->subject;

    v->count = v->tag_count = 0;
    if (place->environment != NULL) {
        add_text(v, ENVIRONMENT, mayday_ap_eval(r, place->environment));
    }
    if (place->release != NULL) {
        add_text(v, RELEASE, mayday_ap_eval(r, place->release));
    }
    if (place->transaction != NULL) {
        add_text(v, TRANSACTION, mayday_ap_eval(r, place->transaction));
    }
    if (place->user != NULL) {
        evaluate_user(v, r, place->user);
    }
    for (const mayday_tag_t *tag = place->tags; tag != NULL && v->tag_count < MAYDAY_TAG_MAX;
         tag = tag->next) {
        v->tags[v->tag_count] = tag;
        v->tag_values[v->tag_count++] = mayday_ap_eval(r, tag->expr);
    }
    if (secure && ssl_value != NULL) {
        ask_ssl(v, f);
    }
}

/* ---- the record ---- */

/* The path in a whole URL, as a proxy's request line has it. */
static mayday_slice_t
without_origin(mayday_slice_t target)
{
    size_t at = mayday_slice_find(target, MAYDAY_SLICE("://"), 0);

    if (at == SIZE_MAX) {
        return target;
    }
    at += 3;
    at += strcspn(target.data + at, "/?");
    return mayday_slice(target.data + at, target.len - at);
}

static void
write_target(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    mayday_slice_t path = mayday_slice_str(f->first->unparsed_uri);
    const char *query;

    if (path.len == 0) {
        return;
    }
    if (*path.data != '/') {
        path = without_origin(path);
    }
    if (f->first->parsed_uri.fragment != NULL) {
        path.len = strcspn(path.data, "#");
    }
    query = memchr(path.data, '?', path.len);
    if (query != NULL) {
        size_t len = (size_t) (query - path.data);

        mayday_record_query(record, f->place->collect, mayday_slice(query + 1, path.len - len - 1));
        path.len = len;
    }
    mayday_record_text(record, PATH, path);
}

/* All numbers, in one piece. */
static void
write_numbers(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    const request_rec *first = f->first;
    const conn_rec *c = first->connection;
    int error = f->cause == NULL || f->kind == MAYDAY_KIND_UPSTREAM_INVALID
                    ? 0
                    : mayday_ap_errno(f->cause->status);
    bool has_body = first->read_length > 0;
    bool is_stream = c->master != NULL; /* of which it is not told how many there were */
    apr_time_t now = apr_time_now();
    apr_off_t sent = 0;
    uint8_t *at = mayday_record_numbers(record, 8u + (error != 0) + has_body + !is_stream);

    if (at == NULL) {
        return;
    }
    for (const request_rec *r = first; r != NULL; r = r->next) {
        sent += r->bytes_sent; /* of an ErrorDocument or what stood in for it */
    }
    at = mayday_record_number(at, MAYDAY_FIELD_TIME_US, (uint64_t) now);
    at = mayday_record_number(at, MAYDAY_FIELD_KIND, f->kind);
    at = mayday_record_number(at, MAYDAY_FIELD_STATUS, f->status);
    at = mayday_record_number(at, MAYDAY_FIELD_DESTINATION, f->place->destination->index);
    at = mayday_record_number(at, MAYDAY_FIELD_DURATION_US,
                              now > first->request_time ? (uint64_t) (now - first->request_time)
                                                        : 0);
    at = mayday_record_number(at, MAYDAY_FIELD_SERVER_PORT, c->local_addr->port);
    at = mayday_record_number(at, MAYDAY_FIELD_RESPONSE_BODY_BYTES, (uint64_t) sent);
    at = mayday_record_number(at, MAYDAY_FIELD_CONNECTION,
                              (uint64_t) (is_stream ? c->master->id : c->id));
    if (error != 0) {
        at = mayday_record_number(at, MAYDAY_FIELD_ERRNO, (uint64_t) error);
    }
    if (has_body) {
        at = mayday_record_number(at, MAYDAY_FIELD_REQUEST_BODY_BYTES,
                                  (uint64_t) first->read_length);
    }
    if (!is_stream) {
        (void) mayday_record_number(at, MAYDAY_FIELD_CONNECTION_REQUESTS,
                                    (uint64_t) c->keepalives + (c->keepalive != AP_CONN_KEEPALIVE));
    }
}

/* httpd has the host from the Host header, where the target had none. */
static void
write_host(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    const request_rec *r = f->first;
    const char *host;

    if (f->place->collect->has_host && r->hostname != NULL && r->parsed_uri.hostname == NULL) {
        return;
    }
    host = apr_table_get(r->headers_in, "Host");
    mayday_record_text(record, HOST, mayday_slice_str(host != NULL ? host : r->hostname));
}

static void
write_failure(mayday_record_t *record, const mayday_ap_failure_t *f, bool secure,
              const mayday_ap_ctx_t *ctx)
{
    const request_rec *r = f->first;

    mayday_record_text(record, EVENT_ID, mayday_slice(ctx->event_id, sizeof(ctx->event_id)));
    if (r->method != NULL && strcmp(r->method, "GET") == 0) {
        mayday_record_text(record, METHOD, MAYDAY_SLICE("GET")); /* nearly always */
    } else {
        mayday_record_text(record, METHOD, mayday_slice_str(r->method));
    }
    if (secure) {
        mayday_record_text(record, SCHEME, MAYDAY_SLICE("https"));
    }
    write_host(record, f);
    write_target(record, f);
    if (MAYDAY_LIKELY(r->proto_num == HTTP_VERSION(1, 1))) {
        mayday_record_text(record, PROTOCOL, MAYDAY_SLICE("HTTP/1.1"));
    } else {
        mayday_record_text(record, PROTOCOL, mayday_slice_str(r->protocol));
    }
    mayday_record_text(record, VIRTUAL_HOST, mayday_slice_str(r->server->server_hostname));
    if (f->proxied) {
        /* "SetHandler proxy:URL" is the proxy's handler too, and may hold a password */
        mayday_record_text(record, LOCATION, MAYDAY_SLICE("proxy-server"));
    } else {
        mayday_record_text(record, LOCATION, mayday_slice_str(f->subject->handler));
    }
    if (f->place->collect->user_info) {
        mayday_record_text(record, CLIENT_ADDRESS, mayday_slice_str(r->useragent_ip));
    }
}

static void
write_upstream(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    char storage[MAYDAY_AP_UPSTREAM_SIZE];
    mayday_slice_t upstream = mayday_ap_upstream(&f->backend, storage);

    /* the host in the URL of a unix socket is made up */
    if (f->backend.balancer.len == 0 && f->peer_count > 0 &&
        mayday_slice_starts(f->peers[0], MAYDAY_SLICE("unix:"))) {
        upstream = f->peers[0];
    }
    mayday_record_text(record, UPSTREAM, upstream);
}

/* Who was tried: those of whom the error log spoke, then the one who answered. */
static void
write_attempts(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    mayday_record_attempt_t attempt = {
        .connect_ms = -1, .header_ms = -1, .response_ms = -1, .bytes_received = -1};
    unsigned count = f->peer_count;
    mayday_slice_t last = f->peer; /* where nobody was tried, the balancer's name */

    /* who answered may have broken off later: then the error log spoke of it, too */
    if (count > 0 && (f->answered == 0 || mayday_slice_eq(f->peers[count - 1], last))) {
        last = f->peers[--count];
    }
    for (unsigned i = 0; i < count; i++) {
        mayday_record_attempt(record, &attempt, f->peers[i]);
    }
    if (last.len > 0) {
        attempt.status = f->answered;
        mayday_record_attempt(record, &attempt, last);
    }
}

/*
 * httpd quotes the client's address in a few lines: "... from 192.0.2.1 ()". It
 * may be the proxy's before us that mod_remoteip put the client's in place of.
 */
static mayday_slice_t
without_client(const mayday_ap_failure_t *f, mayday_slice_t text, char *storage, size_t size)
{
    static const mayday_slice_t from = {" from ", 6};
    const mayday_slice_t clients[] = {mayday_slice_str(f->first->useragent_ip),
                                      mayday_slice_str(f->first->connection->client_ip)};
    size_t at = mayday_slice_find(text, from, 0);
    mayday_buf_t out;

    for (; at != SIZE_MAX; at = mayday_slice_find(text, from, at)) {
        at += from.len;
        for (size_t i = 0; i < MAYDAY_COUNT(clients); i++) {
            mayday_slice_t rest = mayday_slice(text.data + at, text.len - at);

            if (clients[i].len > 0 && mayday_slice_starts(rest, clients[i])) {
                mayday_buf_init(&out, storage, size);
                mayday_buf_add(&out, mayday_slice(text.data, at));
                mayday_buf_adds(&out, MAYDAY_FILTERED);
                at += clients[i].len;
                mayday_buf_add(&out, mayday_slice(text.data + at, text.len - at));
                return mayday_buf_slice(&out);
            }
        }
    }
    return text;
}

static void
write_line(mayday_record_t *record, const mayday_ap_failure_t *f, const mayday_ap_line_t *line)
{
    char storage[MAYDAY_FIELD_MAX_LOG_LINE];
    mayday_slice_t text = mayday_slice(f->evidence->text + line->text, line->text_len);

    /* not in those that tell a kind: the upstream may have the same address */
    if (!f->place->collect->user_info && line->kind == MAYDAY_KIND_NONE) {
        text = without_client(f, text, storage, sizeof(storage));
    }
    mayday_record_log_line(record, f->place->collect, line->level, (uint64_t) line->time, text);
}

static void
write_lines(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    const mayday_ap_line_t *line, *end;

    if (f->evidence == NULL) {
        return;
    }
    if (f->cause != NULL) {
        write_line(record, f, f->cause);
    }
    line = f->evidence->lines;
    for (end = line + f->evidence->line_count; line < end; line++) {
        if (line != f->cause) {
            write_line(record, f, line);
        }
    }
}

static void
write_trace(mayday_record_t *record, const mayday_ap_ctx_t *ctx)
{
    const mayday_trace_t *trace = &ctx->trace;
    char storage[MAYDAY_FIELD_MAX_BAGGAGE + 1];
    mayday_buf_t sentry;

    if (mayday_trace_is_of_event(trace, ctx->event_id)) {
        return;
    }
    mayday_record_text(record, TRACE_ID, mayday_slice(trace->trace_id, 16));
    mayday_record_text(record, SPAN_ID, mayday_slice(trace->span_id, 8));
    if (!trace->has_parent) {
        return;
    }
    mayday_record_text(record, PARENT_SPAN_ID, mayday_slice(trace->parent_span_id, 8));
    if (trace->sampled >= 0) {
        mayday_record_u64(record, MAYDAY_FIELD_SAMPLED, (uint64_t) trace->sampled);
    }
    if (ctx->baggage != NULL) {
        mayday_buf_init(&sentry, storage, sizeof(storage));
        mayday_trace_baggage(mayday_slice_str(ctx->baggage), &sentry);
        mayday_record_text(record, BAGGAGE, mayday_buf_slice(&sentry));
    }
}

static void
write_values(mayday_record_t *record, const values_t *v)
{
    for (size_t i = 0; i < v->count; i++) {
        mayday_record_bytes(record, v->values[i].field, v->values[i].max, v->values[i].value);
    }
    for (size_t i = 0; i < v->tag_count; i++) {
        if (v->tag_values[i].len > 0) {
            mayday_record_pair(record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG, v->tags[i]->name,
                               v->tag_values[i]);
        }
    }
}

/* Those of the answer that tell a client, or who looks for it elsewhere, something. */
static bool
is_worth_having(const char *name)
{
    switch (*name) {
    case 'C':
    case 'c':
        return strcasecmp(name, "Content-Type") == 0;
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
write_response_headers(mayday_record_t *record, const mayday_ap_failure_t *f)
{
    const apr_array_header_t *headers;
    const apr_table_entry_t *entries;

    if (f->proxied && f->answered == 0) {
        return; /* it is httpd's own page */
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

/* One whose name is not a usual one, or is not known to end where it seems to. */
static __attribute__((noinline)) void
write_unusual_header(mayday_record_t *record, const mayday_collect_t *collect,
                     const apr_table_entry_t *header)
{
    mayday_record_header(record, collect, mayday_slice_str(header->key),
                         mayday_slice_str(header->val)); /* a module may have set none */
}

/*
 * httpd keeps a header's line as it came, "Host: shop.test" with a NUL for the
 * colon, so nearly always the value's place tells where the name ends. If that
 * is a usual name there is no other NUL in it; else it is nothing to go by.
 */
static __attribute__((noinline)) void
write_headers(mayday_record_t *record, const mayday_collect_t *collect, const apr_table_t *table)
{
    const apr_array_header_t *headers = apr_table_elts(table);
    const apr_table_entry_t *header = (const apr_table_entry_t *) headers->elts;
    const apr_table_entry_t *end = header + headers->nelts;
    const mayday_redact_t *redact = collect->headers.redact;

    for (; header < end; header++) {
        size_t len = (uintptr_t) header->val - (uintptr_t) header->key - (sizeof(": ") - 1);
        mayday_slice_t name = mayday_slice(header->key, len), value;
        mayday_header_kind_t kind = MAYDAY_HEADER_UNKNOWN;
        unsigned flags = 0;

        if (len >= MAYDAY_HEADER_LEN_MIN && len <= MAYDAY_HEADER_LEN_MAX &&
            header->key[len] == '\0') {
            kind = mayday_header_usual(redact, name);
        }
        if (MAYDAY_LIKELY(kind == MAYDAY_HEADER_PLAIN)) {
            value = mayday_slice(header->val, strlen(header->val));
        } else if (mayday_header_is_filtered(collect, kind)) {
            value = MAYDAY_SLICE(MAYDAY_FILTERED);
            flags = MAYDAY_FIELD_FILTERED;
        } else if (kind == MAYDAY_HEADER_UNKNOWN) {
            write_unusual_header(record, collect, header);
            continue;
        } else {
            value = mayday_slice(header->val, strlen(header->val));
            mayday_record_odd_header(record, collect, kind, name, value);
            continue;
        }
        mayday_record_copied_header(record, collect, kind, flags, name, value);
    }
}

static void
write_record(const mayday_ap_failure_t *f)
{
    mayday_ap_ctx_t *ctx = mayday_ap_ctx(f->first);
    bool secure = strcmp(ap_http_scheme(f->first), "https") == 0;
    mayday_record_t record;
    values_t values;

    (void) mayday_ap_trace(f->first, f->place); /* is in ctx then */
    evaluate(&values, f, secure);
    if (mayday_lane_begin(&mayday_ap.lane, &record) != MAYDAY_OK) {
        return; /* counted */
    }
    write_numbers(&record, f);
    write_failure(&record, f, secure, ctx);
    if (f->proxied) {
        write_upstream(&record, f);
        write_attempts(&record, f);
    }
    write_lines(&record, f);
    write_trace(&record, ctx);
    write_values(&record, &values);
    write_response_headers(&record, f);
    write_headers(&record, f->place->collect, f->first->headers_in);
    mayday_lane_commit(&record);
    ctx->captured = true;
}

/* ---- the hook ---- */

static void
capture(mayday_ap_failure_t *f, bool status_failed)
{
    mayday_ap_judge(f, status_failed);
    if (f->kind == MAYDAY_KIND_NONE) {
        return;
    }
    if (mayday_ignore_matches(f->place->ignore, f->kind, f->status, condition_holds, f->subject)) {
        mayday_lane_count_ignored(&mayday_ap.lane, f->kind);
        return;
    }
    write_record(f);
}

/* Something may have failed, or there are internal redirects. failed: first did. */
static __attribute__((noinline)) void
look_closely(request_rec *first, bool failed)
{
    const mayday_ap_ctx_t *ctx = mayday_ap_ctx_peek(first);
    mayday_ap_failure_t f; /* large: only what is read is set */

    f.first = f.subject = first;
    f.evidence = mayday_ap_log_take(first);
    if (first->connection->master != NULL) {
        mayday_ap_leave_stream(first);
    }
    /* The first that failed is the truth; what comes behind it is its ErrorDocument. */
    while (!failed && f.subject->next != NULL) {
        f.subject = f.subject->next;
        failed = mayday_ap_is_failed(f.subject);
    }
    f.place = mayday_ap_place(f.subject);
    if (f.place->enabled && (ctx == NULL || !ctx->stand_in)) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_REQUESTS);
        if (failed || f.evidence != NULL || first->connection->aborted) {
            capture(&f, failed);
        }
    }
    if (f.evidence != NULL) {
        mayday_ap_log_release(f.evidence);
    }
}

int
mayday_ap_log_transaction(request_rec *r)
{
    const mayday_place_t *place = mayday_ap_place(r);
    bool failed;

    if (!mayday_ap.serving || r->main != NULL || r->prev != NULL) {
        return DECLINED;
    }
    failed = place->enabled && mayday_status_set_has(place->failed_status, (unsigned) r->status);
    if (MAYDAY_UNLIKELY(failed || mayday_ap_log_may_have(r) || r->next != NULL ||
                        r->connection->aborted || r->connection->master != NULL)) {
        look_closely(r, failed);
    } else if (place->enabled) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_REQUESTS);
    }
    return DECLINED;
}
