/*
 * The configuration, as both servers share it: parsing of the directives
 * (directives.def), defaults, inheritance. The shims only hand over words and
 * compile expressions.
 *
 * Runs when the configuration is read, except where noted. Memory comes from
 * the server's configuration pool through mayday_conf_host_t and is never freed
 * here; everything is immutable once the configuration is read.
 */
#ifndef MAYDAY_CONF_H
#define MAYDAY_CONF_H

#include "core/base/dsn.h"
#include "core/capture/kind_format.h"
#include "core/capture/redact.h"

typedef enum {
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax,         \
                         summary)                                                                  \
    MAYDAY_DIRECTIVE_##id,
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE
    MAYDAY_DIRECTIVE_MAX
} mayday_directive_t;

_Static_assert(MAYDAY_DIRECTIVE_MAX <= 64, "a set of directives is a 64-bit mask");

typedef enum { MAYDAY_SERVER_NGINX, MAYDAY_SERVER_HTTPD } mayday_server_t;

typedef struct mayday_expr mayday_expr_t; /* the shim's own: a complex value, an ap_expr */

/* What the parser needs from the server. */
typedef struct {
    mayday_server_t server;
    void *ctx; /* handed back to the functions below */
    mayday_alloc_pt alloc;
    /*
     * Compiles text; NULL: *error (from alloc or a constant) says what is wrong.
     * condition: the same for what follows if=; NULL: expr serves for both.
     */
    mayday_expr_t *(*expr)(void *ctx, mayday_slice_t text, const char **error);
    mayday_expr_t *(*condition)(void *ctx, mayday_slice_t text, const char **error);
} mayday_conf_host_t;

/* Where events of a place go; shared by all places with the same DSNs. */
#define MAYDAY_DESTINATION_DSN_MAX 8
#define MAYDAY_DESTINATION_MAX 1024 /* of one instance */
typedef struct mayday_destination mayday_destination_t;
struct mayday_destination {
    mayday_destination_t *next; /* in the instance's list, index order        */
    uint32_t index;             /* 0 is always "store only"                   */
    uint32_t dsn_count;
    mayday_slice_t dsns[MAYDAY_DESTINATION_DSN_MAX]; /* verified, env: and file: resolved */
};

#define MAYDAY_STATUS_MAX 1000
#define MAYDAY_TAG_MAX 50 /* of one place */
typedef struct {
    uint64_t bits[(MAYDAY_STATUS_MAX + 63) / 64];
} mayday_status_set_t;

static inline bool
mayday_status_set_has(const mayday_status_set_t *set, unsigned status)
{
    return status < MAYDAY_STATUS_MAX && (set->bits[status / 64] >> (status % 64) & 1) != 0;
}

/* One mayday_ignore; the first that matches counts. */
typedef struct mayday_ignore mayday_ignore_t;
struct mayday_ignore {
    mayday_ignore_t *next;
    bool none;      /* matches nothing, and nothing is inherited behind it */
    uint32_t kinds; /* mask of mayday_kind_t                        */
    mayday_status_set_t statuses;
    mayday_expr_t *condition; /* NULL: always                             */
};

typedef enum {
    MAYDAY_USER_ID,
    MAYDAY_USER_EMAIL,
    MAYDAY_USER_NAME,
    MAYDAY_USER_IP,
    MAYDAY_USER_MAX
} mayday_user_part_t;

typedef struct {
    struct {
        mayday_expr_t *expr; /* NULL: not given                       */
        bool hashed;
    } parts[MAYDAY_USER_MAX];
} mayday_user_t;

typedef struct mayday_tag mayday_tag_t;
struct mayday_tag {
    mayday_tag_t *next;
    mayday_slice_t name;
    mayday_expr_t *expr;
};

typedef enum {
    MAYDAY_TRACE_EXTRACT,   /* read the caller's context                      */
    MAYDAY_TRACE_INJECT,    /* ignore the caller's, give the upstream a new one */
    MAYDAY_TRACE_PROPAGATE, /* read the caller's, give the upstream ours in it  */
    MAYDAY_TRACE_IGNORE
} mayday_trace_mode_t;

/*
 * What holds in one place (an nginx location, an httpd directory). Made by
 * mayday_place_init, filled by mayday_directive_set, merged, then only read.
 * httpd merges on the request path: mayday_place_merge is a few copies.
 */
typedef struct {
    uint64_t set; /* mask of the directives given here or above        */
    bool enabled;
    uint8_t trace_mode; /* mayday_trace_mode_t */
    const mayday_destination_t *destination;
    const mayday_status_set_t *failed_status; /* never NULL */
    const mayday_ignore_t *ignore;
    const mayday_user_t *user; /* NULL: none */
    const mayday_tag_t *tags;
    const mayday_collect_t *collect; /* never NULL after init */
    mayday_expr_t *environment;      /* NULL: instance->environment */
    mayday_expr_t *release;          /* NULL: instance->release     */
    mayday_expr_t *transaction;      /* NULL: made by the agent     */
    mayday_expr_t *trace_id;         /* id=; NULL: the usual headers */
} mayday_place_t;

typedef struct {
    uint32_t events; /* per period; 0: no limit                       */
    uint32_t period_s;
    uint32_t burst;
} mayday_rate_t;

typedef enum { MAYDAY_RULES_ENFORCE, MAYDAY_RULES_OBSERVE } mayday_rules_mode_t;

/* Once per server instance. All strings end with NUL; empty: not given. */
typedef struct {
    uint64_t set;     /* mask of the directives given */
    bool any_enabled; /* some place has `mayday on`   */
    mayday_server_t server;
    const char *server_version; /* "nginx/1.22.1", "Apache/2.4.71"; the shim's */
    const char *identity;       /* the main configuration file; the shim's     */
    const char *error_log;      /* path of the server's error log, or "";  the shim's */
    mayday_slice_t directory;
    bool agent_on;
    mayday_slice_t agent_path;
    mayday_slice_t rules_file;
    mayday_rules_mode_t rules_mode;
    size_t lane_size; /* 0: by the default rule */
    size_t queue_size;
    uint64_t retention_s;
    mayday_rate_t issue_rate;
    mayday_rate_t send_rate;
    mayday_slice_t proxy; /* "off": none at all */
    mayday_slice_t trusted_certificate;
    uint64_t shutdown_timeout_ms;
    mayday_slice_t server_name;
    mayday_slice_t socket_path;
    mayday_slice_t socket_group;
    unsigned socket_mode;
    bool debug;
    mayday_slice_t environment;         /* of the starting shell, or "production" */
    mayday_slice_t release;             /* of the starting shell, or ""           */
    mayday_destination_t *destinations; /* index order; [0] is store only         */
    mayday_place_t defaults;            /* what a place starts from               */
} mayday_instance_t;

/*
 * Defaults. NULL: no memory. The instance comes first; a place refers to it.
 * SENTRY_ENVIRONMENT and SENTRY_RELEASE are read here: call it in the master.
 */
mayday_instance_t *mayday_instance_new(const mayday_conf_host_t *host);
mayday_place_t *mayday_place_new(const mayday_conf_host_t *host, const mayday_instance_t *instance);

/*
 * Takes one directive as read: args[0] is its first argument. place is NULL for
 * an INSTANCE directive. NULL: done. Otherwise a message without the
 * directive's name, which the server prefixes with name, file and line:
 *   found "60x", expected a status from 100 to 599 or a range such as 500-599
 *   is duplicate
 * It is from alloc or a constant, and never quotes a DSN or a proxy's password.
 * Instance and place are then unspecified: the configuration is to be refused.
 * The words are copied. Reads the environment (env:) and files (file:), so call
 * it in the master.
 */
const char *mayday_directive_set(const mayday_conf_host_t *host, mayday_instance_t *instance,
                                 mayday_place_t *place, mayday_directive_t directive,
                                 const mayday_slice_t *args, size_t count);

/*
 * child over parent into *out (which may be child). additive: lists of the
 * child are put before the parent's (httpd), else they replace them (nginx).
 * Lists are copied only then, with alloc, and mayday_collect takes one small
 * object from it where both have some. NULL, or a message (no memory).
 */
const char *mayday_place_merge(const mayday_conf_host_t *host, mayday_place_t *out,
                               const mayday_place_t *parent, const mayday_place_t *child,
                               bool additive);

/* The kind of that name, or MAYDAY_KIND_NONE. */
mayday_kind_t mayday_kind_find(mayday_slice_t name);
const char *mayday_kind_name(mayday_kind_t kind);

/*
 * On the request path: whether this failure is to be ignored. eval says whether
 * a condition holds for the request.
 */
bool mayday_ignore_matches(const mayday_ignore_t *list, mayday_kind_t kind, unsigned status,
                           bool (*eval)(void *request, mayday_expr_t *condition), void *request);

#endif
