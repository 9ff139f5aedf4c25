/*
 * mod_mayday: what its files share.
 *
 *   mod_mayday.c          configuration, command table, hooks
 *   mayday_ap_process.c   post_config, the agent's life, a child's lane
 *   mayday_ap_log.c       error-log lines as evidence, kept until the request ends
 *   mayday_ap_proxy.c     upstreams and peers, as mod_proxy names them
 *   mayday_ap_trace.c     event id and trace of a request, shown to the configuration
 *   mayday_ap_kind.c      what became of a request: the kind of its failure
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
    mayday_instance_t *instance;     /* of the configuration just read; NULL: none     */
    mayday_supervisor_t *supervisor; /* retained across restarts; NULL: not prepared   */
    pid_t parent;                    /* who prepared it                                */
    bool one_process;                /* httpd -X: parent and child are the same        */
    bool serving;                    /* this process has a lane: capture what fails    */
    pid_t pid;                       /* of the serving process; a forked CGI has another */
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

int mayday_ap_pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);
int mayday_ap_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
void mayday_ap_child_init(apr_pool_t *pchild, server_rec *s);
int mayday_ap_monitor(apr_pool_t *p, server_rec *s);

/* ---- mayday_ap_proxy.c ---- */

#define MAYDAY_AP_PEER_SIZE 128

/* Who mod_proxy asks, or asked last. Borrowed from the request. */
typedef struct {
    mayday_slice_t scheme;
    mayday_slice_t authority; /* host[:port], no credentials; where no member was
                                 chosen yet, the balancer's name                */
    mayday_slice_t balancer;  /* its name once a member was chosen; or empty     */
    const char *unix_path;    /* the socket that stands in the host's place      */
} mayday_ap_backend_t;

/* false: the request is not in mod_proxy's hands. */
bool mayday_ap_backend(const request_rec *r, mayday_ap_backend_t *backend);

/* host:port or unix:PATH; borrowed, or in storage. */
mayday_slice_t mayday_ap_peer(const mayday_ap_backend_t *backend,
                              char storage[MAYDAY_AP_PEER_SIZE]);

/* The upstream as configured, in nginx's words for it; borrowed, or in storage. */
#define MAYDAY_AP_UPSTREAM_SIZE 257
mayday_slice_t mayday_ap_upstream(const mayday_ap_backend_t *backend,
                                  char storage[MAYDAY_AP_UPSTREAM_SIZE]);

/*
 * Who was tried, by a line that tells of a connection attempt, without a
 * request; an empty slice from other lines. peer: the backend's own.
 */
mayday_slice_t mayday_ap_peer_of_attempt(mayday_slice_t line, const mayday_ap_backend_t *backend,
                                         mayday_slice_t peer, char storage[MAYDAY_AP_PEER_SIZE]);

/*
 * Whether the line says of a request only that no connection was made, which
 * the lines without a request before it told better.
 */
bool mayday_ap_repeats_attempt(mayday_slice_t line);

/* ---- mayday_ap_log.c ---- */

#define MAYDAY_AP_LINES_MAX 8
#define MAYDAY_AP_TEXT_SIZE 4096

/* A line as httpd told of it. Offsets and lengths are of the evidence's text. */
typedef struct {
    apr_time_t time;
    apr_status_t status;
    uint16_t text, text_len; /* "(111)Connection refused: AH00957: …"              */
    uint16_t words;          /* of it, what was logged: "AH00957: …"               */
    uint16_t peer, peer_len; /* in mod_proxy's hands then; empty: nobody's         */
    uint8_t level;
    uint8_t kind;     /* that it tells of, set by mayday_ap_judge           */
    bool has_request; /* httpd said whose it is                             */
    bool aside;       /* of a subrequest or an ErrorDocument: context only  */
    bool is_sent;     /* the response's header had gone out                 */
} mayday_ap_line_t;

/*
 * What the error log said of one request. Lives in the process's fixed table
 * (see mayday_ap_log.c), written under its lock; who has taken it has it alone.
 */
typedef struct mayday_ap_evidence mayday_ap_evidence_t;
struct mayday_ap_evidence {
    const request_rec *owner; /* compared, never followed; NULL: free or taken     */
    apr_time_t owner_time;    /* its request_time: addresses are used again        */
    mayday_ap_evidence_t *next;
    unsigned line_count;
    unsigned text_len;
    mayday_ap_line_t lines[MAYDAY_AP_LINES_MAX];
    char text[MAYDAY_AP_TEXT_SIZE];
};

/* In a child, once: room for what that many threads have under way. */
void mayday_ap_log_init(int threads);

/* The error_log hook. Never allocates, never logs. */
void mayday_ap_error_log(const ap_errorlog_info *info, const char *line);

/* This thread serves the request from now on. */
void mayday_ap_log_enter(const request_rec *first);

/* Whatever this thread serves, it no longer does. */
void mayday_ap_log_leave(void);

#define MAYDAY_AP_BUCKETS 64u
extern _Atomic(mayday_ap_evidence_t *) mayday_ap_buckets[MAYDAY_AP_BUCKETS];

static inline unsigned
mayday_ap_bucket(const request_rec *owner)
{
    return (unsigned) ((uintptr_t) owner * UINT64_C(0x9e3779b97f4a7c15) >> 58) % MAYDAY_AP_BUCKETS;
}

/*
 * Whether there may be lines of this request. Relaxed will do: what wrote them
 * was handed over with the request.
 */
static inline bool
mayday_ap_log_may_have(const request_rec *first)
{
    return atomic_load_explicit(&mayday_ap_buckets[mayday_ap_bucket(first)],
                                memory_order_relaxed) != NULL;
}

/* Its lines, or NULL; to be given back with _release. */
mayday_ap_evidence_t *mayday_ap_log_take(const request_rec *first);
void mayday_ap_log_release(mayday_ap_evidence_t *evidence);

/* While quiet, what this thread logs is not evidence (expressions may log). */
void mayday_ap_log_quiet(bool quiet);

/* ---- mayday_ap_trace.c ---- */

/* What a request has beyond httpd's own; made when first needed, in its pool. */
typedef struct {
    uint8_t event_id[16];
    mayday_trace_t trace;
    const char *baggage; /* the caller's, where its trace is continued; or NULL */
    bool has_trace;
    bool captured; /* there is a record of it                                   */
    bool stand_in; /* of mod_http2, for a request that failed and is logged too */
} mayday_ap_ctx_t;

/* NULL: nothing has asked for it. */
static inline mayday_ap_ctx_t *
mayday_ap_ctx_peek(const request_rec *first)
{
    return ap_get_module_config(first->request_config, &mayday_module);
}

/* Upstreams are given the trace there. */
static inline bool
mayday_ap_hands_on(const mayday_place_t *place)
{
    return place->trace_mode == MAYDAY_TRACE_INJECT || place->trace_mode == MAYDAY_TRACE_PROPAGATE;
}

mayday_ap_ctx_t *mayday_ap_ctx(request_rec *first);
const mayday_trace_t *mayday_ap_trace(request_rec *first, const mayday_place_t *place);

/* A stream's request is logged: what comes on its connection is no stand-in for it. */
void mayday_ap_leave_stream(request_rec *r);

int mayday_ap_log_formats(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);
int mayday_ap_post_read_request(request_rec *r);
int mayday_ap_fixups(request_rec *r);
int mayday_ap_expr_lookup(ap_expr_lookup_parms *parms);

/* A string expression's value; empty where it fails. From r's pool. */
mayday_slice_t mayday_ap_eval(request_rec *r, const mayday_expr_t *expr);

/* ---- mayday_ap_kind.c ---- */

/* What is being captured. Made in log_transaction, on its stack. */
typedef struct {
    request_rec *first;             /* as the client sent it                            */
    request_rec *subject;           /* of the chain of internal redirects, the one that failed */
    const mayday_place_t *place;    /* of the subject                         */
    mayday_ap_evidence_t *evidence; /* NULL: the error log said nothing       */
    /* from here on it is mayday_ap_judge that sets */
    const mayday_ap_line_t *cause; /* the line that tells the kind, or NULL  */
    mayday_kind_t kind;            /* NONE: nothing failed                   */
    unsigned status;               /* that the client was given              */
    int answered; /* status of the upstream's answer, 0: it gave none, or there is none */
    bool proxied;
    mayday_ap_backend_t backend; /* if proxied                                */
    mayday_slice_t peer;         /* of it, if proxied                         */
    char peer_storage[MAYDAY_AP_PEER_SIZE];
    unsigned peer_count; /* who was tried, as the error log tells     */
    mayday_slice_t peers[MAYDAY_AP_LINES_MAX];
    char storage[MAYDAY_AP_LINES_MAX][MAYDAY_AP_PEER_SIZE]; /* of some of them */
} mayday_ap_failure_t;

void mayday_ap_judge(mayday_ap_failure_t *f, bool status_failed);

/* errno behind a line's status, or 0. */
int mayday_ap_errno(apr_status_t status);

/* ---- mayday_ap_capture.c ---- */

void mayday_ap_optional_fn_retrieve(void);
int mayday_ap_log_transaction(request_rec *r);

#endif
