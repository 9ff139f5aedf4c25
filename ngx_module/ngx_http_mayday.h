/*
 * The nginx module, its parts and what they share.
 *
 *   ngx_http_mayday_module.c     directives, contexts, inheritance
 *   ngx_http_mayday_process.c    life of the instance in nginx's processes
 *   ngx_http_mayday_log.c        error-log lines, kept until their request ends
 *   ngx_http_mayday_variables.c  event id, trace; request headers for upstreams
 *   ngx_http_mayday_kind.c       from nginx's evidence to a kind of failure
 *   ngx_http_mayday_capture.c    the log phase: counts, decides, writes records
 *
 * Nothing of nginx is touched before ngx_http_mayday_verify() has seen that
 * this nginx lays out requests as the headers that the module was built with.
 */
#ifndef _NGX_HTTP_MAYDAY_H_INCLUDED_
#define _NGX_HTTP_MAYDAY_H_INCLUDED_

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <nginx.h>

#include "core/capture/conf.h"
#include "core/capture/ids.h"
#include "core/capture/lane.h"
#include "core/capture/supervise.h"
#include "core/capture/trace.h"

typedef struct {
    mayday_instance_t *instance;
    ngx_int_t request_uri_index; /* of $request_uri, for ngx_http_mayday_verify        */
    ngx_int_t origin_index;      /* NGX_ERROR: all locations of a server are alike     */
    ngx_flag_t inject;           /* some place gives upstreams a trace                 */
    ngx_flag_t differ;           /* some location has directives of its own            */
} ngx_http_mayday_main_conf_t;

typedef struct {
    mayday_place_t *place; /* NULL while the configuration is read: as above */
} ngx_http_mayday_loc_conf_t;

/* A request's own; made when something asks for it, found again after redirects. */
typedef struct {
    uint8_t event_id[16];
    mayday_trace_t trace;
    unsigned has_event_id:1;
    unsigned has_trace:1;
    unsigned injected:1;
} ngx_http_mayday_ctx_t;

/* An error-log line, kept from when it is written until its request ends. */
#define NGX_HTTP_MAYDAY_LINE_SIZE 2032
typedef struct {
    ngx_log_t *log; /* the connection's: compared, never followed; NULL: taken */
    ngx_atomic_uint_t connection;
    uint32_t level; /* as syslog counts */
    ngx_uint_t subrequest;
    uint64_t time_us;
    size_t len;
    u_char text[NGX_HTTP_MAYDAY_LINE_SIZE];
} ngx_http_mayday_line_t;

/* What is known of a request that may have failed. */
#define NGX_HTTP_MAYDAY_LINES_MAX 16
typedef struct {
    ngx_uint_t status;
    mayday_kind_t kind; /* MAYDAY_KIND_NONE: it did not fail           */
    int error;          /* errno, 0: none                              */
    ngx_uint_t cause;   /* index of the line that tells why, or lines_n */
    ngx_uint_t lines_n;
    ngx_http_mayday_line_t *lines[NGX_HTTP_MAYDAY_LINES_MAX];
} ngx_http_mayday_failure_t;

typedef enum {
    NGX_HTTP_MAYDAY_OFF,        /* this process does not capture                      */
    NGX_HTTP_MAYDAY_UNVERIFIED, /* it will, once a request has shown its layout        */
    NGX_HTTP_MAYDAY_READY
} ngx_http_mayday_state_e;

extern ngx_module_t ngx_http_mayday_module;

/* Of this process; set in init_process. */
extern ngx_http_mayday_state_e ngx_http_mayday_state;
extern mayday_supervisor_t ngx_http_mayday_supervisor;
extern mayday_lane_t ngx_http_mayday_lane;
extern mayday_ids_t ngx_http_mayday_ids;

/* Lines that wait for their request, of all requests. */
extern ngx_uint_t ngx_http_mayday_lines_pending;

/* The handler of logs whose data is a ngx_http_log_ctx_t, once a request has shown it. */
extern ngx_log_handler_pt ngx_http_mayday_http_log_handler;

static ngx_inline mayday_slice_t
ngx_http_mayday_slice(ngx_str_t *s)
{
    return mayday_slice(s->data, s->len);
}

/* module */
ngx_int_t ngx_http_mayday_verify_slow(ngx_http_request_t *r);
void **ngx_http_mayday_origin(ngx_http_request_t *r);

/* Whether this nginx's requests are what they are thought to be; says if not. */
static ngx_inline ngx_int_t
ngx_http_mayday_verify(ngx_http_request_t *r)
{
    return MAYDAY_LIKELY(ngx_http_mayday_state == NGX_HTTP_MAYDAY_READY)
           || ngx_http_mayday_verify_slow(r);
}

/*
 * The location that answers for a request: the one it is in, or was in before an
 * error_page took it elsewhere. Verify first.
 */
static ngx_inline void **
ngx_http_mayday_loc_conf(ngx_http_request_t *r)
{
    return r->internal ? ngx_http_mayday_origin(r) : r->loc_conf;
}

/* What holds there. */
static ngx_inline mayday_place_t *
ngx_http_mayday_place(ngx_http_request_t *r)
{
    ngx_http_mayday_loc_conf_t *mlcf;

    mlcf = ngx_http_mayday_loc_conf(r)[ngx_http_mayday_module.ctx_index];

    return mlcf->place;
}

/* process */
ngx_int_t ngx_http_mayday_init_module(ngx_cycle_t *cycle);
ngx_int_t ngx_http_mayday_init_process(ngx_cycle_t *cycle);
void ngx_http_mayday_exit_process(ngx_cycle_t *cycle);
void ngx_http_mayday_exit_master(ngx_cycle_t *cycle);

/* log */

/*
 * Makes our node the head of a chain, in place, however often it is called.
 * NGX_ERROR: no memory, the chain is as it was.
 */
ngx_int_t ngx_http_mayday_log_attach(ngx_pool_t *pool, ngx_log_t *head);

/*
 * Takes all lines of a request out of the ring, the oldest first; those of
 * subrequests, and those beyond max, are dropped. Returns how many are in
 * lines; they stay readable while lines are held.
 */
ngx_uint_t ngx_http_mayday_lines_take(ngx_log_t *log, ngx_http_mayday_line_t **lines,
    ngx_uint_t max);

/* While held, no line comes in: what is logged then is not of the request. */
void ngx_http_mayday_lines_hold(ngx_flag_t hold);

/* variables */
ngx_int_t ngx_http_mayday_add_variables(ngx_conf_t *cf);
ngx_http_mayday_ctx_t *ngx_http_mayday_ctx_peek(ngx_http_request_t *r);
const uint8_t *ngx_http_mayday_event_id(ngx_http_request_t *r, uint8_t id[16]);

/* The request's trace. event_id: nobody but the event will be given it; else NULL. */
void ngx_http_mayday_trace(ngx_http_request_t *r, mayday_place_t *place, const uint8_t *event_id,
    mayday_trace_t *trace);
ngx_int_t ngx_http_mayday_rewrite_handler(ngx_http_request_t *r);
ngx_str_t *ngx_http_mayday_header_in(ngx_http_request_t *r, ngx_str_t *lowcase_name);

extern ngx_str_t ngx_http_mayday_baggage_name;

/* kind */
void ngx_http_mayday_judge(ngx_http_request_t *r, mayday_place_t *place,
    ngx_http_mayday_failure_t *failure);
ngx_http_upstream_state_t *ngx_http_mayday_failed_attempt(ngx_http_request_t *r);

/* Separators, that nginx puts between the upstreams of one request, are none. */
static ngx_inline ngx_int_t
ngx_http_mayday_is_attempt(ngx_http_upstream_state_t *state)
{
    return state->peer != NULL || state->connect_time == (ngx_msec_t) -1;
}

/* The upstream as configured, and its port where one was written, else 0. */
ngx_str_t *ngx_http_mayday_upstream(ngx_http_request_t *r, in_port_t *port);

/* capture */
ngx_int_t ngx_http_mayday_log_handler(ngx_http_request_t *r);

#endif /* _NGX_HTTP_MAYDAY_H_INCLUDED_ */
