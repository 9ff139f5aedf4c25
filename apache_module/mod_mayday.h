/*
 * mod_mayday: what its files share.
 *
 *   mod_mayday.c          configuration, command table, hooks
 *   mayday_ap_process.c   post_config, the agent's life, a child's lane
 *   mayday_ap_log.c       error-log lines as evidence, kept until the request ends
 *   mayday_ap_trace.c     event id and trace of a request, shown to the configuration
 *   mayday_ap_capture.c   a failed request becomes a record
 *
 * The counterpart for nginx is ngx_module/. Everything that is not httpd's own
 * is in core/capture/.
 */
#ifndef MOD_MAYDAY_H
#define MOD_MAYDAY_H

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"

#include "core/capture/conf.h"
#include "core/capture/ids.h"
#include "core/capture/lane.h"
#include "core/capture/supervise.h"
#include "core/capture/trace.h"

extern __attribute__((visibility("default"))) module AP_MODULE_DECLARE_DATA mayday_module;

/*
 * This process. The parent fills the upper half in post_config, its children
 * inherit it and fill the lower half in child_init; from then on all but lane
 * and ids is only read.
 */
typedef struct {
    mayday_instance_t *instance;      /* of the configuration just read; NULL: none     */
    mayday_supervisor_t *supervisor;  /* retained across restarts; NULL: not prepared   */
    pid_t parent;                     /* who prepared it                                */
    bool one_process;                 /* httpd -X: parent and child are the same        */
    bool serving;                     /* this process has a lane: capture what fails    */
    pid_t pid;                        /* of the serving process; a forked CGI has another */
    mayday_lane_t lane;
    mayday_ids_t ids;
} mayday_ap_process_t;

extern mayday_ap_process_t mayday_ap;

static inline const mayday_place_t *
mayday_ap_place(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &mayday_module);
}

/* The request that the client made: subrequests and internal redirects lead to it. */
static inline const request_rec *
mayday_ap_first(const request_rec *r)
{
    for (;;) {
        if (r->main != NULL) {
            r = r->main;
        } else if (r->prev != NULL) {
            r = r->prev;
        } else {
            return r;
        }
    }
}

static inline bool
mayday_ap_is_failed(const request_rec *r)
{
    const mayday_place_t *place = mayday_ap_place(r);

    return place->enabled && mayday_status_set_has(place->failed_status, (unsigned) r->status);
}

/* ---- mayday_ap_process.c ---- */

int mayday_ap_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
void mayday_ap_child_init(apr_pool_t *pchild, server_rec *s);
int mayday_ap_monitor(apr_pool_t *p, server_rec *s);

/* ---- mayday_ap_log.c ---- */

#define MAYDAY_AP_LINES_MAX 8
#define MAYDAY_AP_ATTEMPTS_MAX 8
#define MAYDAY_AP_TEXT_SIZE 4096
#define MAYDAY_AP_PEER_SIZE 128

typedef struct {
    uint32_t level;
    uint16_t offset, len;   /* of the text                                        */
    apr_time_t time;
    bool has_request;       /* httpd said whose it is                             */
    bool aside;             /* of a subrequest or an ErrorDocument: context only  */
    mayday_kind_t kind;     /* that it tells of, or NONE                          */
    int error;              /* errno behind it, or 0                              */
} mayday_ap_line_t;

typedef struct {
    char peer[MAYDAY_AP_PEER_SIZE];
    mayday_kind_t kind;
    bool confirmed;     /* a line that names the request belongs to it            */
    bool aside;
} mayday_ap_attempt_t;

/*
 * What the error log said of one request. Lives in the process's fixed table
 * (see mayday_ap_log.c), written under its mutex; who has taken it reads it alone.
 */
typedef struct mayday_ap_evidence mayday_ap_evidence_t;
struct mayday_ap_evidence {
    const request_rec *owner; /* compared, never followed; NULL: free or taken     */
    apr_time_t owner_time;    /* its request_time: addresses are used again        */
    mayday_ap_evidence_t *next;
    apr_time_t time;          /* of the first line                                 */
    unsigned line_count;
    unsigned attempt_count;
    unsigned text_len;
    mayday_ap_line_t lines[MAYDAY_AP_LINES_MAX];
    mayday_ap_attempt_t attempts[MAYDAY_AP_ATTEMPTS_MAX];
    char text[MAYDAY_AP_TEXT_SIZE];
};

/* In a child: room for what that many threads have under way. */
apr_status_t mayday_ap_log_init(apr_pool_t *pchild, int threads);

/* The error_log hook. Never allocates, never logs. */
void mayday_ap_error_log(const ap_errorlog_info *info, const char *text);

/* This thread serves the request from now on. */
void mayday_ap_log_enter(const request_rec *first);

/*
 * The request ends: the thread that served it, if it is this one, no longer
 * does. Its evidence, or NULL; to be given back with _release.
 */
mayday_ap_evidence_t *mayday_ap_log_leave(const request_rec *first);
void mayday_ap_log_release(mayday_ap_evidence_t *evidence);

/* Whatever this thread served, it no longer does. */
void mayday_ap_suspend(conn_rec *c, request_rec *r);

/* While quiet, what this thread logs is not evidence (expressions may log). */
void mayday_ap_log_quiet(bool quiet);

/* Scheme, and host[:port] without credentials, of a request in mod_proxy's hands. */
bool mayday_ap_backend(const request_rec *r, mayday_slice_t *scheme, mayday_slice_t *authority);

/* Its peer: host:port or unix:PATH; nothing if it is not in mod_proxy's hands. */
void mayday_ap_peer(const request_rec *r, mayday_buf_t *peer);

/* ---- mayday_ap_trace.c ---- */

/* What a request has beyond httpd's own; made when first needed, in its pool. */
typedef struct {
    uint8_t event_id[16];
    mayday_trace_t trace;
    const char *baggage; /* the caller's, where its trace is continued; or NULL */
    bool has_trace;
    bool shown;    /* environment and notes are set                             */
    bool stand_in; /* of mod_http2, for a request that failed and is logged too */
} mayday_ap_ctx_t;

mayday_ap_ctx_t *mayday_ap_ctx(request_rec *first);
const mayday_trace_t *mayday_ap_trace(request_rec *first, const mayday_place_t *place);

/* Sets MAYDAY_EVENT_ID, and the trace's variables, in the environment and notes of r. */
void mayday_ap_show(request_rec *r, bool with_trace);

/* A stream's request is logged: what comes on its connection is no stand-in for it. */
void mayday_ap_leave_stream(request_rec *r);

int mayday_ap_post_read_request(request_rec *r);
int mayday_ap_fixups(request_rec *r);
void mayday_ap_insert_error_filter(request_rec *r);
int mayday_ap_expr_lookup(ap_expr_lookup_parms *parms);

/* A string expression's value; empty where it fails. From r's pool. */
mayday_slice_t mayday_ap_eval(request_rec *r, const mayday_expr_t *expr);

/* ---- mayday_ap_capture.c ---- */

void mayday_ap_optional_fn_retrieve(void);
int mayday_ap_log_transaction(request_rec *r);

#endif
