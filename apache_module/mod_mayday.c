/*
 * mod_mayday: the directives of core/capture/directives.def as httpd knows
 * them, and the hooks.
 *
 * Setters run when the configuration is read; merging also on the request path,
 * where a Directory or Location has directives of its own: a few copies.
 * Counterpart: ngx_module/ngx_http_mayday_module.c.
 */
#include "mod_mayday.h"

#include "apr_strings.h"
#include "http_connection.h"
#include "http_protocol.h"
#include "http_request.h"
#include "mpm_common.h"

APLOG_USE_MODULE(mayday);

#define ARGS_MAX 64 /* no directive takes that many */

mayday_ap_process_t mayday_ap;

/* What core/capture gets back in its callbacks. */
typedef struct {
    apr_pool_t *pool;
    const cmd_parms *cmd; /* NULL: not while a directive is read */
} host_ctx_t;

static void *
host_alloc(void *ctx, size_t size)
{
    return apr_pcalloc(((host_ctx_t *) ctx)->pool, size);
}

static mayday_expr_t *
compile(const host_ctx_t *ctx, mayday_slice_t text, unsigned flags, const char **error)
{
    const char *copy = apr_pstrmemdup(ctx->pool, text.data, text.len);

    /* what we evaluate says nothing of how the response varies */
    return (mayday_expr_t *) ap_expr_parse_cmd(ctx->cmd, copy, flags | AP_EXPR_FLAG_DONT_VARY,
                                               error, NULL);
}

static mayday_expr_t *
host_expr(void *ctx, mayday_slice_t text, const char **error)
{
    return compile(ctx, text, AP_EXPR_FLAG_STRING_RESULT, error);
}

static mayday_expr_t *
host_condition(void *ctx, mayday_slice_t text, const char **error)
{
    return compile(ctx, text, 0, error);
}

static mayday_conf_host_t
host_init(host_ctx_t *ctx)
{
    mayday_conf_host_t host = {
        .server = MAYDAY_SERVER_HTTPD,
        .ctx = ctx,
        .alloc = host_alloc,
        .expr = host_expr,
        .condition = host_condition,
    };

    return host;
}

/* ---- create and merge ---- */

static bool hands_on; /* some place gives upstreams a trace: the hook for that is set */

static apr_status_t
forget_instance(void *data)
{
    mayday_ap.instance = NULL;
    hands_on = false;
    return APR_SUCCESS;
}

/* There is one for each reading of the configuration; places refer to it. */
static mayday_instance_t *
the_instance(apr_pool_t *p)
{
    if (mayday_ap.instance == NULL) {
        host_ctx_t ctx = {.pool = p};
        mayday_conf_host_t host = host_init(&ctx);

        mayday_ap.instance = mayday_instance_new(&host);
        apr_pool_cleanup_register(p, NULL, forget_instance, apr_pool_cleanup_null);
    }
    return mayday_ap.instance;
}

static void *
create_dir_config(apr_pool_t *p, char *dir)
{
    host_ctx_t ctx = {.pool = p};
    mayday_conf_host_t host = host_init(&ctx);

    return mayday_place_new(&host, the_instance(p));
}

static void *
merge_dir_config(apr_pool_t *p, void *base, void *add)
{
    host_ctx_t ctx = {.pool = p};
    mayday_conf_host_t host = host_init(&ctx);
    mayday_place_t *place = apr_palloc(p, sizeof(*place));

    if (mayday_place_merge(&host, place, base, add, true) != NULL) {
        return base; /* no memory: httpd is about to abort */
    }
    return place;
}

/* ---- setter ---- */

static bool
is_of_instance(mayday_directive_t directive)
{
    enum { PLACE, INSTANCE };
    static const uint8_t scopes[] = {
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax,         \
                         summary)                                                                  \
    scope,
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE
    };

    return scopes[directive] == INSTANCE;
}

static const char *
set_directive(cmd_parms *cmd, void *place, int argc, char *const argv[])
{
    mayday_directive_t directive = (mayday_directive_t) (uintptr_t) cmd->info;
    bool instance = is_of_instance(directive);
    host_ctx_t ctx = {.pool = cmd->pool, .cmd = cmd};
    mayday_conf_host_t host = host_init(&ctx);
    mayday_slice_t args[ARGS_MAX];
    const char *error = ap_check_cmd_context(cmd, instance ? GLOBAL_ONLY : NOT_IN_HTACCESS);

    if (error != NULL) {
        return error;
    }
    if (argc > ARGS_MAX) {
        return apr_psprintf(cmd->pool, "%s directive has more than %d arguments", cmd->cmd->name,
                            ARGS_MAX);
    }
    for (int i = 0; i < argc; i++) {
        args[i] = mayday_slice_str(argv[i]);
    }
    error = mayday_directive_set(&host, mayday_ap.instance, instance ? NULL : place, directive,
                                 args, (size_t) argc);
    if (error != NULL) {
        return apr_psprintf(cmd->pool, "%s directive %s", cmd->cmd->name, error);
    }
    if (directive == MAYDAY_DIRECTIVE_TRACE_CONTEXT && !hands_on && mayday_ap_hands_on(place)) {
        /* httpd sorts its hooks after this; where nobody asks, no request passes it */
        ap_hook_fixups(mayday_ap_fixups, NULL, NULL, APR_HOOK_MIDDLE);
        hands_on = true;
    }
    return NULL;
}

/* ---- command table ---- */

#define WHERE_PLACE (RSRC_CONF | ACCESS_CONF)
#define WHERE_INSTANCE RSRC_CONF

static const command_rec mayday_commands[] = {
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax,         \
                         summary)                                                                  \
    AP_INIT_TAKE_ARGV(httpd, set_directive, (void *) (uintptr_t) MAYDAY_DIRECTIVE_##id,            \
                      WHERE_##scope, syntax ": " summary),
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE
    {NULL}};

/* ---- hooks ---- */

/* The thread turns away from a connection: for now, or for good. */

static void
suspend_connection(conn_rec *c, request_rec *r)
{
    mayday_ap_log_leave();
}

static int
pre_close_connection(conn_rec *c)
{
    mayday_ap_log_leave();
    return DECLINED;
}

static void
register_hooks(apr_pool_t *p)
{
    static const char *const log_config[] = {"mod_log_config.c", NULL};

    ap_hook_pre_config(mayday_ap_pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_config(mayday_ap_log_formats, log_config, NULL, APR_HOOK_MIDDLE);
    ap_hook_optional_fn_retrieve(mayday_ap_optional_fn_retrieve, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(mayday_ap_post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(mayday_ap_child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_monitor(mayday_ap_monitor, NULL, NULL, APR_HOOK_MIDDLE);

    ap_hook_expr_lookup(mayday_ap_expr_lookup, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_error_log(mayday_ap_error_log, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_suspend_connection(suspend_connection, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_close_connection(pre_close_connection, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(mayday_ap_post_read_request, NULL, NULL, APR_HOOK_REALLY_FIRST);
    /* Before the loggers, so that they can log the event's id. */
    ap_hook_log_transaction(mayday_ap_log_transaction, NULL, NULL, APR_HOOK_REALLY_FIRST);
}

module AP_MODULE_DECLARE_DATA mayday_module = {
    STANDARD20_MODULE_STUFF,
    create_dir_config, /* create per-dir config  */
    merge_dir_config,  /* merge per-dir config   */
    NULL,              /* create server config   */
    NULL,              /* merge server config    */
    mayday_commands,   /* command table          */
    register_hooks     /* register hooks         */
};
