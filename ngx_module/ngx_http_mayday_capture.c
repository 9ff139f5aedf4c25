/*
 * The log phase: counts every request, and writes a record of those that failed
 * straight into the process's lane (core/capture/lane.h). The answer has been
 * given; whatever happens here, nothing of the request changes.
 *
 * A healthy request takes the first function only, about fifty instructions.
 * Nothing here allocates, but nginx itself for values with variables, from the
 * request's pool. Counterpart: core/event/record_read.h.
 */
#include "core/capture/record.h"
#include "ngx_module/ngx_http_mayday.h"

static void ngx_http_mayday_examine(ngx_http_request_t *r, mayday_place_t *place,
    ngx_uint_t status) __attribute__((noinline));


ngx_int_t
ngx_http_mayday_log_handler(ngx_http_request_t *r)
{
    ngx_uint_t status;
    mayday_place_t *place;

    if (!ngx_http_mayday_verify(r) || r != r->main) {
        return NGX_OK;
    }

    place = ngx_http_mayday_place(r);

    if (!place->enabled) {

        if (ngx_http_mayday_lines_pending) {
            (void) ngx_http_mayday_lines_take(r->connection->log, NULL, 0);
        }

        return NGX_OK;
    }

    mayday_lane_count(&ngx_http_mayday_lane, MAYDAY_COUNTER_REQUESTS);

    status = r->err_status ? r->err_status : r->headers_out.status;

    if (MAYDAY_UNLIKELY(mayday_status_set_has(place->failed_status, status)
                        || ngx_http_mayday_lines_pending
                        || (r->upstream_states
                            && (status == 0 || ngx_http_mayday_failed_attempt(r) != NULL))))
    {
        ngx_http_mayday_examine(r, place, status);
    }

    return NGX_OK;
}


static bool
ngx_http_mayday_condition(void *request, mayday_expr_t *condition)
{
    ngx_str_t value;

    return ngx_http_complex_value(request, (ngx_http_complex_value_t *) condition, &value)
               == NGX_OK
           && value.len != 0
           && !(value.len == 1 && value.data[0] == '0');
}


/* "GET /path?query HTTP/1.1" as it came: an error_page changes r->method_name. */
static mayday_slice_t
ngx_http_mayday_method(ngx_http_request_t *r)
{
    size_t i, max;

    max = ngx_min(r->request_line.len, MAYDAY_FIELD_MAX_METHOD + 1);

    for (i = 0; i < max; i++) {
        if (r->request_line.data[i] == ' ') {
            return mayday_slice(r->request_line.data, i);
        }
    }

    return ngx_http_mayday_slice(&r->method_name);
}


/* Where nginx refused the request line before it came to the URI: the line's. */
static mayday_slice_t
ngx_http_mayday_uri(ngx_http_request_t *r)
{
    u_char *p, *end, *last;

    if (r->unparsed_uri.len || r->request_line.len == 0) {
        return ngx_http_mayday_slice(&r->unparsed_uri);
    }

    last = r->request_line.data + r->request_line.len;
    p = memchr(r->request_line.data, ' ', r->request_line.len);

    if (p == NULL || last - p < 2 || p[1] != '/') {
        return mayday_slice(NULL, 0);
    }

    p++;
    end = memchr(p, ' ', last - p);

    return mayday_slice(p, (end ? end : last) - p);
}


static void
ngx_http_mayday_record_uri(ngx_http_request_t *r, mayday_place_t *place, mayday_record_t *record)
{
    const char *args;
    mayday_slice_t uri, path;

    uri = ngx_http_mayday_uri(r);
    path = uri;

    args = uri.len ? memchr(uri.data, '?', uri.len) : NULL;

    if (args != NULL) {
        path.len = args - uri.data;
        args++;
        mayday_record_query(record, place->collect, mayday_slice(args, uri.data + uri.len - args));
    }

    mayday_record_text(record, PATH, path);
}


static void
ngx_http_mayday_record_request(ngx_http_request_t *r, mayday_place_t *place,
    mayday_record_t *record)
{
    ngx_connection_t *c;
    ngx_http_core_loc_conf_t *clcf;
    ngx_http_core_srv_conf_t *cscf;

    c = r->connection;
    clcf = ngx_http_mayday_loc_conf(r)[ngx_http_core_module.ctx_index];
    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    mayday_record_text(record, METHOD, ngx_http_mayday_method(r));
    ngx_http_mayday_record_uri(r, place, record);

    if (r->headers_in.host == NULL) {
        mayday_record_text(record, HOST, ngx_http_mayday_slice(&r->headers_in.server));

    } else if (!place->collect->has_host) {
        mayday_record_text(record, HOST, ngx_http_mayday_slice(&r->headers_in.host->value));
    }

    mayday_record_text(record, PROTOCOL, ngx_http_mayday_slice(&r->http_protocol));
    mayday_record_text(record, VIRTUAL_HOST, ngx_http_mayday_slice(&cscf->server_name));
    mayday_record_text(record, LOCATION, ngx_http_mayday_slice(&clcf->name));

    if (c->local_sockaddr != NULL) {
        mayday_record_u64(record, MAYDAY_FIELD_SERVER_PORT, ngx_inet_get_port(c->local_sockaddr));
    }

    if (place->collect->user_info) {
        mayday_record_text(record, CLIENT_ADDRESS, ngx_http_mayday_slice(&c->addr_text));
    }

#if (NGX_HTTP_SSL)

    if (c->ssl != NULL) {
        ngx_str_t name;

        mayday_record_text(record, SCHEME, MAYDAY_SLICE("https"));

        if (ngx_ssl_get_protocol(c, r->pool, &name) == NGX_OK) {
            mayday_record_text(record, TLS_PROTOCOL, mayday_slice_str((char *) name.data));
        }

        if (ngx_ssl_get_cipher_name(c, r->pool, &name) == NGX_OK) {
            mayday_record_text(record, TLS_CIPHER, mayday_slice_str((char *) name.data));
        }
    }

#endif
}


/* What every record has, in one piece. */
static void
ngx_http_mayday_record_numbers(ngx_http_request_t *r, mayday_place_t *place,
    ngx_http_mayday_failure_t *failure, mayday_record_t *record)
{
    off_t sent, body;
    uint8_t *at;
    ngx_time_t *tp;
    ngx_connection_t *c;
    ngx_msec_int_t ms;

    at = mayday_record_numbers(record, 10);

    if (at == NULL) {
        return;
    }

    c = r->connection;
    tp = ngx_timeofday();
    ms = (ngx_msec_int_t) ((tp->sec - r->start_sec) * 1000 + (tp->msec - r->start_msec));
    sent = c->sent;
    body = sent - (off_t) r->header_size;

    at = mayday_record_number(at, MAYDAY_FIELD_KIND, failure->kind);
    at = mayday_record_number(at, MAYDAY_FIELD_STATUS, failure->status);
    at = mayday_record_number(at, MAYDAY_FIELD_DESTINATION, place->destination->index);
    at = mayday_record_number(at, MAYDAY_FIELD_TIME_US,
                              (uint64_t) tp->sec * 1000000 + tp->msec * 1000);
    at = mayday_record_number(at, MAYDAY_FIELD_DURATION_US, ms > 0 ? (uint64_t) ms * 1000 : 0);
    at = mayday_record_number(at, MAYDAY_FIELD_REQUEST_BYTES, r->request_length);
    at = mayday_record_number(at, MAYDAY_FIELD_RESPONSE_BYTES, sent);
    at = mayday_record_number(at, MAYDAY_FIELD_RESPONSE_BODY_BYTES, body > 0 ? body : 0);
    at = mayday_record_number(at, MAYDAY_FIELD_CONNECTION, c->number);
    (void) mayday_record_number(at, MAYDAY_FIELD_CONNECTION_REQUESTS, c->requests);
}


/* -1 where it did not come so far. */
static int32_t
ngx_http_mayday_ms(ngx_msec_t ms)
{
    return ms > INT32_MAX ? -1 : (int32_t) ms;
}


/* "name", "name:port" or "unix:/path", put together where it goes. */
static void
ngx_http_mayday_record_upstream_name(mayday_record_t *record, mayday_slice_t name, in_port_t port)
{
    char digits[sizeof(":65535")], *p;
    uint8_t *payload;
    mayday_slice_t before, after;

    before = mayday_slice(NULL, 0);
    after = mayday_slice(NULL, 0);

    if (port) {
        p = digits + sizeof(digits);

        do {
            *--p = (char) ('0' + port % 10);
            port /= 10;
        } while (port);

        *--p = ':';
        after = mayday_slice(p, digits + sizeof(digits) - p);

    } else if (name.len && name.data[0] == '/') {
        before = MAYDAY_SLICE("unix:");

    } else {
        mayday_record_text(record, UPSTREAM, name);
        return;
    }

    name.len = ngx_min(name.len, MAYDAY_FIELD_MAX_UPSTREAM - before.len - after.len);
    payload = mayday_record_field(record, MAYDAY_FIELD_UPSTREAM, 0,
                                  before.len + name.len + after.len);

    if (payload != NULL) {
        mayday_copy(payload, before.data, before.len);
        mayday_copy(payload + before.len, name.data, name.len);
        mayday_copy(payload + before.len + name.len, after.data, after.len);
    }
}


/*
 * The name of the upstream that failed: of the one as configured, or, where an
 * error_page has since turned to another upstream, of the peer.
 */
static void
ngx_http_mayday_record_upstream(ngx_http_request_t *r, mayday_record_t *record)
{
    in_port_t port;
    ngx_str_t *name;
    ngx_http_upstream_state_t *state, *last;

    state = r->upstream_states ? ngx_http_mayday_failed_attempt(r) : NULL;

    if (state != NULL) {
        last = (ngx_http_upstream_state_t *) r->upstream_states->elts;
        last += r->upstream_states->nelts;

        while (++state < last) {
            if (!ngx_http_mayday_is_attempt(state)) {
                name = ngx_http_mayday_failed_attempt(r)->peer;

                if (name != NULL) {
                    mayday_record_text(record, UPSTREAM, ngx_http_mayday_slice(name));
                }

                return;
            }
        }
    }

    name = ngx_http_mayday_upstream(r, &port);

    if (name == NULL) {
        return;
    }

    ngx_http_mayday_record_upstream_name(record, ngx_http_mayday_slice(name), port);
}


/* A status stands in an attempt only if the peer answered one. */
static void
ngx_http_mayday_record_attempts(ngx_http_request_t *r, mayday_record_t *record,
    ngx_uint_t status)
{
    ngx_uint_t i;
    mayday_record_attempt_t attempt;
    ngx_http_upstream_state_t *state;

    if (r->upstream_states == NULL) {
        return;
    }

    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {

        if (!ngx_http_mayday_is_attempt(&state[i])) {
            continue;
        }

        /* What is not HTTP is taken for a 200 of HTTP/0.9, and no status is sent. */

        attempt.status = status == 0 || state[i].header_time == (ngx_msec_t) -1
                         ? 0 : (int32_t) state[i].status;
        attempt.connect_ms = ngx_http_mayday_ms(state[i].connect_time);
        attempt.header_ms = ngx_http_mayday_ms(state[i].header_time);
        attempt.response_ms = ngx_http_mayday_ms(state[i].response_time);
        attempt.bytes_received = state[i].bytes_received;

        mayday_record_attempt(record, &attempt,
                              state[i].peer ? ngx_http_mayday_slice(state[i].peer)
                                            : mayday_slice(NULL, 0));
    }
}


static void
ngx_http_mayday_record_line(mayday_place_t *place, mayday_record_t *record,
    ngx_http_mayday_line_t *line)
{
    mayday_record_log_line(record, place->collect, line->level, line->time_us,
                           mayday_slice(line->text, line->len));
}


/* The cause first, then the others as they came. */
static void
ngx_http_mayday_record_lines(mayday_place_t *place, mayday_record_t *record,
    ngx_http_mayday_failure_t *failure)
{
    ngx_uint_t i;

    if (failure->cause < failure->lines_n) {
        ngx_http_mayday_record_line(place, record, failure->lines[failure->cause]);
    }

    for (i = 0; i < failure->lines_n; i++) {
        if (i != failure->cause) {
            ngx_http_mayday_record_line(place, record, failure->lines[i]);
        }
    }
}


static void
ngx_http_mayday_record_trace(ngx_http_request_t *r, mayday_place_t *place,
    const uint8_t *event_id, mayday_record_t *record)
{
    char text[MAYDAY_FIELD_MAX_BAGGAGE];
    ngx_str_t *baggage;
    mayday_buf_t members;
    mayday_trace_t trace;

    ngx_http_mayday_trace(r, place, event_id, &trace);

    if (mayday_trace_is_of_event(&trace, event_id)) {
        return;
    }

    mayday_record_text(record, TRACE_ID, mayday_slice(trace.trace_id, sizeof(trace.trace_id)));
    mayday_record_text(record, SPAN_ID, mayday_slice(trace.span_id, sizeof(trace.span_id)));

    if (!trace.has_parent) {
        return;
    }

    mayday_record_text(record, PARENT_SPAN_ID,
                       mayday_slice(trace.parent_span_id, sizeof(trace.parent_span_id)));

    if (trace.sampled >= 0) {
        mayday_record_u64(record, MAYDAY_FIELD_SAMPLED, trace.sampled);
    }

    baggage = ngx_http_mayday_header_in(r, &ngx_http_mayday_baggage_name);

    if (baggage != NULL) {
        mayday_buf_init(&members, text, sizeof(text));
        mayday_trace_baggage(ngx_http_mayday_slice(baggage), &members);
        mayday_record_text(record, BAGGAGE, mayday_buf_slice(&members));
    }
}


/* The value of an expression; empty where there is none, or no memory for it. */
static mayday_slice_t
ngx_http_mayday_value(ngx_http_request_t *r, mayday_expr_t *expr)
{
    ngx_str_t value;

    if (expr == NULL
        || ngx_http_complex_value(r, (ngx_http_complex_value_t *) expr, &value) != NGX_OK)
    {
        return mayday_slice(NULL, 0);
    }

    return ngx_http_mayday_slice(&value);
}


static void
ngx_http_mayday_record_user(ngx_http_request_t *r, const mayday_user_t *user,
    mayday_record_t *record)
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
    char hex[MAYDAY_HASH_HEX_SIZE];
    uint8_t hash[MAYDAY_HASH_BYTES];
    ngx_uint_t i;
    mayday_slice_t value;

    for (i = 0; i < MAYDAY_USER_MAX; i++) {
        value = ngx_http_mayday_value(r, user->parts[i].expr);

        if (value.len == 0) {
            continue;
        }

        if (user->parts[i].hashed) {
            mayday_siphash(hash, ngx_http_mayday_supervisor.hash_key, value.data, value.len);
            mayday_hex(hex, hash, sizeof(hash));
            value = mayday_slice(hex, sizeof(hex) - 1);
        }

        mayday_record_bytes(record, fields[i].field, fields[i].max, value);
    }
}


static void
ngx_http_mayday_record_place(ngx_http_request_t *r, mayday_place_t *place,
    mayday_record_t *record)
{
    mayday_slice_t value;
    const mayday_tag_t *tag;

    mayday_record_text(record, RELEASE, ngx_http_mayday_value(r, place->release));
    mayday_record_text(record, ENVIRONMENT, ngx_http_mayday_value(r, place->environment));
    mayday_record_text(record, TRANSACTION, ngx_http_mayday_value(r, place->transaction));

    if (place->user != NULL) {
        ngx_http_mayday_record_user(r, place->user, record);
    }

    for (tag = place->tags; tag; tag = tag->next) {
        value = ngx_http_mayday_value(r, tag->expr);

        if (value.len) {
            mayday_record_pair(record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG, tag->name, value);
        }
    }
}


static void
ngx_http_mayday_record_headers(ngx_http_request_t *r, mayday_place_t *place,
    mayday_record_t *record)
{
    ngx_uint_t i;
    ngx_list_part_t *part;
    ngx_table_elt_t *header;

    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        mayday_record_header(record, place->collect, ngx_http_mayday_slice(&header[i].key),
                             ngx_http_mayday_slice(&header[i].value));
    }
}


/* Those of the answer that tell a client, or who looks for it elsewhere, something. */
static ngx_int_t
ngx_http_mayday_is_worth_having(ngx_str_t *name)
{
    static ngx_str_t names[] = {
        ngx_string("Retry-After"),
        ngx_string("X-Request-Id"),
    };
    ngx_uint_t i;

    for (i = 0; i < MAYDAY_COUNT(names); i++) {
        if (name->len == names[i].len
            && ngx_strncasecmp(name->data, names[i].data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_mayday_record_response_headers(ngx_http_request_t *r, mayday_record_t *record)
{
    ngx_uint_t i;
    ngx_list_part_t *part;
    ngx_table_elt_t *header;

    if (r->headers_out.content_type.len) {
        mayday_record_pair(record, MAYDAY_FIELD_RESPONSE_HEADER, MAYDAY_FIELD_MAX_RESPONSE_HEADER,
                           MAYDAY_SLICE("Content-Type"),
                           ngx_http_mayday_slice(&r->headers_out.content_type));
    }

    part = &r->headers_out.headers.part;
    header = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        if (header[i].hash && ngx_http_mayday_is_worth_having(&header[i].key)) {
            mayday_record_pair(record, MAYDAY_FIELD_RESPONSE_HEADER,
                               MAYDAY_FIELD_MAX_RESPONSE_HEADER,
                               ngx_http_mayday_slice(&header[i].key),
                               ngx_http_mayday_slice(&header[i].value));
        }
    }
}


/* A record has bounds: what matters most comes first, headers last. */
static void
ngx_http_mayday_record(ngx_http_request_t *r, mayday_place_t *place,
    ngx_http_mayday_failure_t *failure)
{
    uint8_t id[16];
    const uint8_t *event_id;
    mayday_record_t record;

    if (mayday_lane_begin(&ngx_http_mayday_lane, &record) != MAYDAY_OK) {
        return;
    }

    event_id = ngx_http_mayday_event_id(r, id);

    ngx_http_mayday_record_numbers(r, place, failure, &record);
    mayday_record_text(&record, EVENT_ID, mayday_slice(event_id, sizeof(id)));

    if (failure->error) {
        mayday_record_u64(&record, MAYDAY_FIELD_ERRNO, failure->error);
    }

    if (r->headers_in.content_length_n > 0) {
        mayday_record_u64(&record, MAYDAY_FIELD_REQUEST_BODY_BYTES, r->headers_in.content_length_n);
    }

    ngx_http_mayday_record_request(r, place, &record);
    ngx_http_mayday_record_upstream(r, &record);
    ngx_http_mayday_record_attempts(r, &record, failure->status);
    ngx_http_mayday_record_lines(place, &record, failure);
    ngx_http_mayday_record_trace(r, place, event_id, &record);
    ngx_http_mayday_record_place(r, place, &record);
    ngx_http_mayday_record_response_headers(r, &record);
    ngx_http_mayday_record_headers(r, place, &record);

    mayday_lane_commit(&record);
}


/* Something is not as it is for a healthy request: is it a failure of this one? */
static void
ngx_http_mayday_examine(ngx_http_request_t *r, mayday_place_t *place, ngx_uint_t status)
{
    ngx_http_mayday_failure_t failure;

    failure.status = status;
    failure.lines_n = 0;

    if (ngx_http_mayday_lines_pending) {
        failure.lines_n = ngx_http_mayday_lines_take(r->connection->log, failure.lines,
                                                     NGX_HTTP_MAYDAY_LINES_MAX);
    }

    ngx_http_mayday_judge(r, place, &failure);

    if (failure.kind == MAYDAY_KIND_NONE) {
        return;
    }

    /* The lines taken stay what they are until all is written. */

    ngx_http_mayday_lines_hold(1);

    if (mayday_ignore_matches(place->ignore, failure.kind, (unsigned) status,
                              ngx_http_mayday_condition, r))
    {
        mayday_lane_count_ignored(&ngx_http_mayday_lane, failure.kind);

    } else {
        ngx_http_mayday_record(r, place, &failure);
    }

    ngx_http_mayday_lines_hold(0);
}
