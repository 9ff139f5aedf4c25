/*
 * Mayday for nginx: directives, contexts, inheritance, phases.
 *
 * Runs when the configuration is read, but for the last two functions, which
 * run in requests and allocate nothing. The directives themselves are those of
 * core/capture/directives.def; what they mean is decided in core/capture/conf.h,
 * for both servers.
 */
#include "ngx_module/ngx_http_mayday.h"

static char *ngx_http_mayday_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static void *ngx_http_mayday_alloc(void *ctx, size_t size);
static mayday_expr_t *ngx_http_mayday_expr(void *ctx, mayday_slice_t text, const char **error);
static ngx_int_t ngx_http_mayday_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_mayday_init(ngx_conf_t *cf);
static void *ngx_http_mayday_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_mayday_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_mayday_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);


/* From the table's vocabulary to nginx's. */
#define NGX_HTTP_MAYDAY_IN_PLACE                                                                  \
    (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF)
#define NGX_HTTP_MAYDAY_IN_INSTANCE NGX_HTTP_MAIN_CONF
#define NGX_HTTP_MAYDAY_CONF_PLACE NGX_HTTP_LOC_CONF_OFFSET
#define NGX_HTTP_MAYDAY_CONF_INSTANCE NGX_HTTP_MAIN_CONF_OFFSET

/* NGX_CONF_TAKEn is 1 << n as far as 7; more are counted by the setter. */
#define NGX_HTTP_MAYDAY_TAKE(min, max)                                                            \
    ((max) > 7 ? NGX_CONF_1MORE : (1 << ((max) > 7 ? 8 : (max) + 1)) - (1 << (min)))

_Static_assert(NGX_HTTP_MAYDAY_TAKE(1, 1) == NGX_CONF_TAKE1, "as nginx counts");
_Static_assert(NGX_HTTP_MAYDAY_TAKE(1, 4) == NGX_CONF_TAKE1234, "as nginx counts");
_Static_assert(NGX_HTTP_MAYDAY_TAKE(7, 7) == NGX_CONF_TAKE7, "as nginx counts");


static ngx_command_t ngx_http_mayday_commands[] = {

#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax, summary) \
    { ngx_string(nginx),                                                                          \
      NGX_HTTP_MAYDAY_IN_##scope | NGX_HTTP_MAYDAY_TAKE(min, max),                                 \
      ngx_http_mayday_directive,                                                                   \
      NGX_HTTP_MAYDAY_CONF_##scope,                                                                \
      MAYDAY_DIRECTIVE_##id,                                                                       \
      NULL },
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE

      ngx_null_command
};


static const struct {
    ngx_uint_t place;
    ngx_uint_t args_max;
} ngx_http_mayday_directives[] = {
#define PLACE 1
#define INSTANCE 0
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax, summary) \
    { scope, max },
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE
#undef PLACE
#undef INSTANCE
};


static ngx_http_module_t ngx_http_mayday_module_ctx = {
    ngx_http_mayday_preconfiguration,      /* preconfiguration */
    ngx_http_mayday_init,                  /* postconfiguration */

    ngx_http_mayday_create_main_conf,      /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_mayday_create_loc_conf,       /* create location configuration */
    ngx_http_mayday_merge_loc_conf         /* merge location configuration */
};


ngx_module_t ngx_http_mayday_module = {
    NGX_MODULE_V1,
    &ngx_http_mayday_module_ctx,           /* module context */
    ngx_http_mayday_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_mayday_init_module,           /* init module */
    ngx_http_mayday_init_process,          /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_mayday_exit_process,          /* exit process */
    ngx_http_mayday_exit_master,           /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_str_t ngx_http_mayday_request_uri = ngx_string("request_uri");
static ngx_str_t ngx_http_mayday_origin_name = ngx_string("mayday_origin");


static mayday_conf_host_t
ngx_http_mayday_host(ngx_conf_t *cf)
{
    mayday_conf_host_t host;

    host.server = MAYDAY_SERVER_NGINX;
    host.ctx = cf;
    host.alloc = ngx_http_mayday_alloc;
    host.expr = ngx_http_mayday_expr;
    host.condition = NULL;

    return host;
}


static void *
ngx_http_mayday_alloc(void *ctx, size_t size)
{
    ngx_conf_t *cf = ctx;

    return ngx_pcalloc(cf->pool, size);
}


static mayday_expr_t *
ngx_http_mayday_expr(void *ctx, mayday_slice_t text, const char **error)
{
    ngx_conf_t *cf = ctx;

    ngx_str_t value;
    ngx_http_complex_value_t *cv;
    ngx_http_compile_complex_value_t ccv;

    value.len = text.len;
    value.data = (u_char *) text.data;

    cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (cv == NULL) {
        *error = "no memory";
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value;
    ccv.complex_value = cv;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        *error = "is not a valid value with variables";
        return NULL;
    }

    return (mayday_expr_t *) cv;
}


static char *
ngx_http_mayday_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t *value;
    ngx_uint_t i, n;
    mayday_place_t *place;
    mayday_slice_t args[32];
    mayday_conf_host_t host;
    ngx_http_mayday_loc_conf_t *mlcf;
    ngx_http_mayday_main_conf_t *mmcf;

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    if (n > ngx_http_mayday_directives[cmd->offset].args_max || n > MAYDAY_COUNT(args)) {
        return "has too many arguments";
    }

    for (i = 0; i < n; i++) {
        args[i] = ngx_http_mayday_slice(&value[i + 1]);
    }

    host = ngx_http_mayday_host(cf);
    mmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_mayday_module);
    place = NULL;

    if (ngx_http_mayday_directives[cmd->offset].place) {
        mlcf = conf;

        if (mlcf->place == NULL) {
            mlcf->place = mayday_place_new(&host, mmcf->instance);
            if (mlcf->place == NULL) {
                return NGX_CONF_ERROR;
            }
        }

        place = mlcf->place;
    }

    return (char *) mayday_directive_set(&host, mmcf->instance, place,
                                         (mayday_directive_t) cmd->offset, args, n);
}


static ngx_int_t
ngx_http_mayday_origin_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    v->not_found = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_mayday_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_mayday_add_variables(cf);
}


static ngx_int_t
ngx_http_mayday_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt *h;
    ngx_http_variable_t *var;
    ngx_http_core_main_conf_t *cmcf;
    ngx_http_mayday_main_conf_t *mmcf;

    mmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_mayday_module);
    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    if (!mmcf->instance->any_enabled) {
        return NGX_OK;
    }

    mmcf->request_uri_index = ngx_http_get_variable_index(cf, &ngx_http_mayday_request_uri);
    if (mmcf->request_uri_index == NGX_ERROR) {
        return NGX_ERROR;
    }

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_mayday_log_handler;

    if (mmcf->differ) {

        /*
         * The slot of an indexed variable outlives redirects and costs no
         * allocation, unlike a module context.
         */

        var = ngx_http_add_variable(cf, &ngx_http_mayday_origin_name, NGX_HTTP_VAR_NOHASH);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = ngx_http_mayday_origin_variable;

        mmcf->origin_index = ngx_http_get_variable_index(cf, &ngx_http_mayday_origin_name);
        if (mmcf->origin_index == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    if (mmcf->differ || mmcf->inject) {

        h = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = ngx_http_mayday_rewrite_handler;
    }

    return NGX_OK;
}


static void *
ngx_http_mayday_create_main_conf(ngx_conf_t *cf)
{
    mayday_conf_host_t host;
    ngx_http_mayday_main_conf_t *mmcf;

    mmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_mayday_main_conf_t));
    if (mmcf == NULL) {
        return NULL;
    }

    host = ngx_http_mayday_host(cf);

    mmcf->instance = mayday_instance_new(&host);
    if (mmcf->instance == NULL) {
        return NULL;
    }

    mmcf->request_uri_index = NGX_ERROR;
    mmcf->origin_index = NGX_ERROR;

    return mmcf;
}


static void *
ngx_http_mayday_create_loc_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_mayday_loc_conf_t));
}


static char *
ngx_http_mayday_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_mayday_loc_conf_t *prev = parent;
    ngx_http_mayday_loc_conf_t *conf = child;

    const char *error;
    mayday_place_t *merged;
    mayday_conf_host_t host;
    ngx_http_core_loc_conf_t *clcf;
    ngx_http_mayday_main_conf_t *mmcf;

    host = ngx_http_mayday_host(cf);
    mmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_mayday_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (prev->place == NULL) {
        prev->place = mayday_place_new(&host, mmcf->instance);
        if (prev->place == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (conf->place == NULL) {
        conf->place = prev->place;

    } else {
        merged = mayday_place_new(&host, mmcf->instance);
        if (merged == NULL) {
            return NGX_CONF_ERROR;
        }

        error = mayday_place_merge(&host, merged, prev->place, conf->place, false);
        if (error != NULL) {
            return (char *) error;
        }

        conf->place = merged;

        if (clcf->name.len || clcf->noname) {
            mmcf->differ = 1;
        }
    }

    if (conf->place->enabled
        && (conf->place->trace_mode == MAYDAY_TRACE_INJECT
            || conf->place->trace_mode == MAYDAY_TRACE_PROPAGATE))
    {
        mmcf->inject = 1;
    }

    if (mmcf->instance->any_enabled
        && ngx_http_mayday_log_attach(cf->cycle->pool, clcf->error_log) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_mayday_verify_slow(ngx_http_request_t *r)
{
    ngx_http_variable_value_t *vv;
    ngx_http_mayday_main_conf_t *mmcf;

    if (ngx_http_mayday_state == NGX_HTTP_MAYDAY_OFF) {
        return 0;
    }

    /* main_conf stands before all fields that patches were seen to move. */

    mmcf = ngx_http_get_module_main_conf(r, ngx_http_mayday_module);

    if (mmcf->request_uri_index == NGX_ERROR) {
        return 0;
    }

    vv = ngx_http_get_indexed_variable(r, mmcf->request_uri_index);

    if (vv == NULL || vv->not_found || vv->len == 0) {
        return 0;
    }

    if (vv->data == r->unparsed_uri.data && vv->len == r->unparsed_uri.len) {
        ngx_http_mayday_state = NGX_HTTP_MAYDAY_READY;
        ngx_http_mayday_http_log_handler = r->connection->log->handler;
        return 1;
    }

    ngx_http_mayday_state = NGX_HTTP_MAYDAY_OFF;

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "MD0001 mayday captures nothing in this process: this nginx was built with "
                  "another layout of requests than the module; build the module against the "
                  "headers of this very nginx");

    return 0;
}


void **
ngx_http_mayday_origin(ngx_http_request_t *r)
{
    ngx_http_variable_value_t *v;
    ngx_http_mayday_main_conf_t *mmcf;

    mmcf = ngx_http_get_module_main_conf(r, ngx_http_mayday_module);

    if (mmcf->origin_index != NGX_ERROR) {
        v = &r->variables[mmcf->origin_index];

        /* valid: set by the rewrite handler once an error_page has moved the request. */

        if (v->valid && v->data != NULL) {
            return (void **) v->data;
        }
    }

    return r->loc_conf;
}
