/*
 * From the evidence that nginx leaves to a kind of failure.
 *
 * Evidence, the most trusted first: the status; what nginx's limits say; the
 * state of each attempt at an upstream; the error-log lines of the request.
 * In a state, header_time is -1 unless the peer answered with a header: then
 * its status is nginx's own verdict, not the peer's.
 *
 * Runs in the log phase; allocates nothing. Counterpart: core/capture/kinds.def.
 */
#include "core/capture/cause.h"
#include "ngx_module/ngx_http_mayday.h"

/* Private to nginx's limit modules, but what their variables are made of. */
#define NGX_HTTP_LIMIT_REQ_REJECTED 3
#define NGX_HTTP_LIMIT_CONN_REJECTED 2


/* The last attempt that failed, or NULL. */
ngx_http_upstream_state_t *
ngx_http_mayday_failed_attempt(ngx_http_request_t *r)
{
    ngx_uint_t i;
    ngx_http_upstream_state_t *state;

    state = r->upstream_states->elts;

    for (i = r->upstream_states->nelts; i > 0; i--) {
        if (state[i - 1].status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
            return &state[i - 1];
        }
    }

    return NULL;
}


ngx_str_t *
ngx_http_mayday_upstream(ngx_http_request_t *r, in_port_t *port)
{
    ngx_http_upstream_t *u;
    ngx_http_upstream_srv_conf_t *uscf;

    *port = 0;
    u = r->upstream;

    if (u == NULL) {
        return NULL;
    }

    uscf = u->upstream;

    if (uscf == NULL && u->resolved == NULL && u->conf != NULL) {
        uscf = u->conf->upstream;
    }

    if (uscf != NULL) {
        *port = uscf->no_port ? 0 : uscf->port;
        return &uscf->host;
    }

    if (u->resolved != NULL) {
        *port = u->resolved->no_port ? 0 : u->resolved->port;
        return &u->resolved->host;
    }

    return NULL;
}


/* The last attempt, or NULL if the last upstream was never tried. */
static ngx_http_upstream_state_t *
ngx_http_mayday_last_attempt(ngx_http_request_t *r)
{
    ngx_http_upstream_state_t *state;

    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        return NULL;
    }

    state = r->upstream_states->elts;
    state += r->upstream_states->nelts - 1;

    return ngx_http_mayday_is_attempt(state) ? state : NULL;
}


static ngx_int_t
ngx_http_mayday_is_nobody_there(mayday_kind_t kind)
{
    switch (kind) {

    case MAYDAY_KIND_UPSTREAM_REFUSED:
    case MAYDAY_KIND_UPSTREAM_UNREACHABLE:
    case MAYDAY_KIND_UPSTREAM_CONNECT_TIMEOUT:
    case MAYDAY_KIND_UPSTREAM_TLS:
    case MAYDAY_KIND_UPSTREAM_DNS:
    case MAYDAY_KIND_UPSTREAM_UNAVAILABLE:
        return 1;

    default:
        return 0;
    }
}


/* The kind of a failed attempt. told: what its line says, NONE if it has none. */
static mayday_kind_t
ngx_http_mayday_attempt_kind(ngx_http_request_t *r, ngx_http_upstream_state_t *state,
    mayday_kind_t told)
{
    in_port_t port;
    ngx_str_t *upstream;

    if (state->header_time != (ngx_msec_t) -1) {
        return MAYDAY_KIND_UPSTREAM_RESPONSE;
    }

    if (ngx_http_mayday_is_nobody_there(told)) {
        return told;
    }

    if (state->status == NGX_HTTP_GATEWAY_TIME_OUT) {

        if (state->connect_time == (ngx_msec_t) -1) {
            return MAYDAY_KIND_UPSTREAM_CONNECT_TIMEOUT;
        }

        return told == MAYDAY_KIND_UPSTREAM_SEND_TIMEOUT ? told
                                                         : MAYDAY_KIND_UPSTREAM_READ_TIMEOUT;
    }

    if (state->connect_time != (ngx_msec_t) -1) {
        return told == MAYDAY_KIND_UPSTREAM_INVALID ? told : MAYDAY_KIND_UPSTREAM_CLOSED;
    }

    upstream = ngx_http_mayday_upstream(r, &port);

    if (upstream != NULL && state->peer != NULL && upstream->len == state->peer->len
        && ngx_strncmp(upstream->data, state->peer->data, upstream->len) == 0)
    {
        return MAYDAY_KIND_UPSTREAM_UNAVAILABLE;
    }

    return MAYDAY_KIND_UPSTREAM_UNREACHABLE;
}


/*
 * What the lines tell: the kind of the last one that tells anything, or of the
 * first; failure->cause and failure->error are those of that line.
 */
static mayday_kind_t
ngx_http_mayday_told(ngx_http_mayday_failure_t *failure, ngx_flag_t first)
{
    int error;
    ngx_uint_t i, n;
    mayday_kind_t kind;

    for (n = 0; n < failure->lines_n; n++) {
        i = first ? n : failure->lines_n - 1 - n;
        error = 0;

        kind = mayday_cause_classify(MAYDAY_SERVER_NGINX,
                                     mayday_slice(failure->lines[i]->text, failure->lines[i]->len),
                                     &error);

        if (kind != MAYDAY_KIND_NONE) {
            failure->cause = i;

            /* A resolver's codes look like an errno, but are none. */
            failure->error = kind == MAYDAY_KIND_UPSTREAM_DNS ? 0 : error;

            return kind;
        }
    }

    return MAYDAY_KIND_NONE;
}


/* The status is a failed one. */
static mayday_kind_t
ngx_http_mayday_failed_kind(ngx_http_request_t *r, ngx_http_mayday_failure_t *failure)
{
    mayday_kind_t told;
    ngx_http_upstream_state_t *last;

    last = ngx_http_mayday_last_attempt(r);

    if (failure->status == NGX_HTTP_CLIENT_CLOSED_REQUEST) {
        return MAYDAY_KIND_CLIENT_CLOSED;
    }

    if (last == NULL
        && (r->limit_req_status == NGX_HTTP_LIMIT_REQ_REJECTED
            || r->limit_conn_status == NGX_HTTP_LIMIT_CONN_REJECTED))
    {
        (void) ngx_http_mayday_told(failure, 0);
        return MAYDAY_KIND_LIMITED;
    }

    told = ngx_http_mayday_told(failure, 0);

    if (last != NULL && last->status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        return ngx_http_mayday_attempt_kind(r, last, told);
    }

    if (failure->status == 0) {
        return MAYDAY_KIND_UPSTREAM_INVALID;
    }

    if (last != NULL && last->header_time != (ngx_msec_t) -1 && last->status == failure->status) {
        return MAYDAY_KIND_UPSTREAM_RESPONSE;
    }

    if (last == NULL && r->upstream != NULL) {

        if (ngx_http_mayday_is_nobody_there(told)) {
            return told;
        }

        /* Never tried, and the answer is of a gateway: its name was not found. */

        if (failure->status == NGX_HTTP_BAD_GATEWAY) {
            return MAYDAY_KIND_UPSTREAM_DNS;
        }
    }

    return MAYDAY_KIND_SERVER_INTERNAL;
}


/* The status looks well: did an attempt fail, or does a line say so? */
static mayday_kind_t
ngx_http_mayday_hidden_kind(ngx_http_request_t *r, ngx_http_mayday_failure_t *failure)
{
    mayday_kind_t kind;
    ngx_http_upstream_state_t *failed;

    failed = r->upstream_states ? ngx_http_mayday_failed_attempt(r) : NULL;

    if (failed == NULL) {

        if (failure->lines_n == 0 || r->upstream == NULL) {
            return MAYDAY_KIND_NONE;
        }

        kind = ngx_http_mayday_told(failure, 0);

        return kind == MAYDAY_KIND_UPSTREAM_TRUNCATED || kind == MAYDAY_KIND_UPSTREAM_INVALID
               ? kind : MAYDAY_KIND_NONE;
    }

    /* An error page that is missing, or a client that left, has saved nothing. */

    if (failure->status >= NGX_HTTP_BAD_REQUEST
        && (failed == ngx_http_mayday_last_attempt(r)
            || failure->status == NGX_HTTP_CLIENT_CLOSED_REQUEST))
    {
        return ngx_http_mayday_attempt_kind(r, failed, ngx_http_mayday_told(failure, 0));
    }

    (void) ngx_http_mayday_told(failure, 1);

    return MAYDAY_KIND_RETRIED;
}


/* lines, lines_n and status are given; kind, error and cause are found. */
void
ngx_http_mayday_judge(ngx_http_request_t *r, mayday_place_t *place,
    ngx_http_mayday_failure_t *failure)
{
    failure->error = 0;
    failure->cause = failure->lines_n;

    if (mayday_status_set_has(place->failed_status, failure->status)
        || (failure->status == 0 && ngx_http_mayday_last_attempt(r) != NULL))
    {
        failure->kind = ngx_http_mayday_failed_kind(r, failure);

    } else {
        failure->kind = ngx_http_mayday_hidden_kind(r, failure);
    }
}
