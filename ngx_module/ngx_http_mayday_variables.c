/*
 * What a request can know of its event before it ends: the event's id, the
 * trace it belongs to, and the headers that carry the trace to upstreams.
 *
 * Runs in requests; memory is the request's pool's, and only where a variable
 * or an injected header asks for it. The context outlives internal redirects,
 * which clear module contexts, as a cleanup handler's data.
 */
#include "core/base/dsn.h"
#include "ngx_module/ngx_http_mayday.h"

#define NGX_HTTP_MAYDAY_BAGGAGE_SIZE 1024
#define NGX_HTTP_MAYDAY_TRACEPARENT_LEN (sizeof("00-") - 1 + 32 + 1 + 16 + sizeof("-00") - 1)

typedef enum {
    NGX_HTTP_MAYDAY_EVENT_ID,
    NGX_HTTP_MAYDAY_TRACE_ID,
    NGX_HTTP_MAYDAY_SENTRY_TRACE,
    NGX_HTTP_MAYDAY_BAGGAGE
} ngx_http_mayday_variable_e;

static ngx_int_t ngx_http_mayday_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data);


static ngx_http_variable_t ngx_http_mayday_vars[] = {

    { ngx_string("mayday_event_id"), NULL, ngx_http_mayday_variable,
      NGX_HTTP_MAYDAY_EVENT_ID, 0, 0 },

    { ngx_string("mayday_trace_id"), NULL, ngx_http_mayday_variable,
      NGX_HTTP_MAYDAY_TRACE_ID, 0, 0 },

    { ngx_string("mayday_sentry_trace"), NULL, ngx_http_mayday_variable,
      NGX_HTTP_MAYDAY_SENTRY_TRACE, 0, 0 },

    { ngx_string("mayday_baggage"), NULL, ngx_http_mayday_variable,
      NGX_HTTP_MAYDAY_BAGGAGE, 0, 0 },

      ngx_http_null_variable
};


#define NGX_HTTP_MAYDAY_SENTRY_TRACE_NAME "sentry-trace"
#define NGX_HTTP_MAYDAY_TRACEPARENT_NAME "traceparent"

static ngx_str_t ngx_http_mayday_sentry_trace_name =
    ngx_string(NGX_HTTP_MAYDAY_SENTRY_TRACE_NAME);
static ngx_str_t ngx_http_mayday_traceparent_name = ngx_string(NGX_HTTP_MAYDAY_TRACEPARENT_NAME);
ngx_str_t ngx_http_mayday_baggage_name = ngx_string("baggage");


ngx_int_t
ngx_http_mayday_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t *var, *v;

    for (v = ngx_http_mayday_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* Marks the context among the pool's cleanups; there is nothing to clean up. */
static void
ngx_http_mayday_ctx_cleanup(void *data)
{
}


ngx_http_mayday_ctx_t *
ngx_http_mayday_ctx_peek(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t *cln;
    ngx_http_mayday_ctx_t *ctx;

    r = r->main;
    ctx = ngx_http_get_module_ctx(r, ngx_http_mayday_module);

    if (ctx == NULL && (r->internal || r->filter_finalize)) {

        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_mayday_ctx_cleanup) {
                ctx = cln->data;
                break;
            }
        }
    }

    return ctx;
}


static ngx_http_mayday_ctx_t *
ngx_http_mayday_ctx_get(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t *cln;
    ngx_http_mayday_ctx_t *ctx;

    ctx = ngx_http_mayday_ctx_peek(r);

    if (ctx == NULL) {
        cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_mayday_ctx_t));
        if (cln == NULL) {
            return NULL;
        }

        cln->handler = ngx_http_mayday_ctx_cleanup;

        ctx = cln->data;
        ngx_memzero(ctx, sizeof(ngx_http_mayday_ctx_t));
    }

    ngx_http_set_ctx(r->main, ctx, ngx_http_mayday_module);

    return ctx;
}


/* The id that was shown, if one was, else a new one in id. */
const uint8_t *
ngx_http_mayday_event_id(ngx_http_request_t *r, uint8_t id[16])
{
    ngx_http_mayday_ctx_t *ctx;

    ctx = ngx_http_mayday_ctx_peek(r);

    if (ctx != NULL && ctx->has_event_id) {
        return ctx->event_id;
    }

    mayday_ids_next(&ngx_http_mayday_ids, id);

    return id;
}


/* The first request header of that name that is not empty, or NULL. */
static ngx_table_elt_t *
ngx_http_mayday_header_find(ngx_http_request_t *r, ngx_str_t *lowcase_name)
{
    ngx_uint_t i;
    ngx_list_part_t *part;
    ngx_table_elt_t *header;

    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; /* void */; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NULL;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        if (header[i].key.len == lowcase_name->len
            && header[i].value.len != 0
            && ngx_strncasecmp(header[i].key.data, lowcase_name->data, lowcase_name->len) == 0)
        {
            return &header[i];
        }
    }
}


ngx_str_t *
ngx_http_mayday_header_in(ngx_http_request_t *r, ngx_str_t *lowcase_name)
{
    ngx_table_elt_t *header;

    header = ngx_http_mayday_header_find(r, lowcase_name);

    return header ? &header->value : NULL;
}


static mayday_slice_t
ngx_http_mayday_header_slice(ngx_http_request_t *r, ngx_str_t *lowcase_name)
{
    ngx_str_t *value;

    value = ngx_http_mayday_header_in(r, lowcase_name);

    return value ? ngx_http_mayday_slice(value) : mayday_slice(NULL, 0);
}


/*
 * The first of each that is not empty, in one walk: every failed request takes
 * it, and few headers have a name as long as these.
 */
static void
ngx_http_mayday_trace_headers(ngx_http_request_t *r, mayday_slice_t *sentry_trace,
    mayday_slice_t *traceparent)
{
    ngx_str_t *name;
    mayday_slice_t *found;
    ngx_list_part_t *part;
    ngx_table_elt_t *header, *last;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (last = header + part->nelts; header < last; header++) {

            switch (header->key.len) {

            case sizeof(NGX_HTTP_MAYDAY_SENTRY_TRACE_NAME) - 1:
                name = &ngx_http_mayday_sentry_trace_name;
                found = sentry_trace;
                break;

            case sizeof(NGX_HTTP_MAYDAY_TRACEPARENT_NAME) - 1:
                name = &ngx_http_mayday_traceparent_name;
                found = traceparent;
                break;

            default:
                continue;
            }

            if (found->len == 0
                && ngx_strncasecmp(header->key.data, name->data, name->len) == 0)
            {
                *found = ngx_http_mayday_slice(&header->value);
            }
        }
    }
}


void
ngx_http_mayday_trace(ngx_http_request_t *r, mayday_place_t *place, const uint8_t *event_id,
    mayday_trace_t *trace)
{
    ngx_str_t id;
    uint8_t trace_id[16];
    mayday_slice_t sentry_trace, traceparent;
    ngx_http_mayday_ctx_t *ctx;

    sentry_trace = mayday_slice(NULL, 0);
    traceparent = mayday_slice(NULL, 0);

    ctx = ngx_http_mayday_ctx_peek(r);

    if (ctx != NULL && ctx->has_trace) {
        *trace = ctx->trace;
        return;
    }

    if (place->trace_mode == MAYDAY_TRACE_EXTRACT || place->trace_mode == MAYDAY_TRACE_PROPAGATE) {
        ngx_http_mayday_trace_headers(r, &sentry_trace, &traceparent);
    }

    if (event_id != NULL && sentry_trace.len == 0 && traceparent.len == 0) {
        mayday_trace_of_event(trace, event_id);

    } else {
        mayday_trace_continue(trace, &ngx_http_mayday_ids, sentry_trace, traceparent);
    }

    if (place->trace_id != NULL
        && ngx_http_complex_value(r, (ngx_http_complex_value_t *) place->trace_id, &id) == NGX_OK
        && mayday_unhex(trace_id, sizeof(trace_id), ngx_http_mayday_slice(&id)) == MAYDAY_OK)
    {
        ngx_memcpy(trace->trace_id, trace_id, sizeof(trace_id));
    }
}


/* The same for all who ask during this request. NULL: no memory. */
static mayday_trace_t *
ngx_http_mayday_trace_keep(ngx_http_request_t *r, mayday_place_t *place)
{
    ngx_http_mayday_ctx_t *ctx;

    ctx = ngx_http_mayday_ctx_get(r);
    if (ctx == NULL) {
        return NULL;
    }

    if (!ctx->has_trace) {
        ngx_http_mayday_trace(r, place, NULL, &ctx->trace);
        ctx->has_trace = 1;
    }

    return &ctx->trace;
}


static void
ngx_http_mayday_baggage_add(mayday_buf_t *out, const char *key, mayday_slice_t value)
{
    if (value.len == 0) {
        return;
    }

    if (out->len) {
        mayday_buf_addc(out, ',');
    }

    mayday_buf_adds(out, key);
    mayday_buf_add_encoded(out, value);
}


/* The members of the caller's baggage that are not of a Sentry trace. */
static void
ngx_http_mayday_baggage_others(mayday_buf_t *out, mayday_slice_t baggage)
{
    const char *p, *end, *last;

    for (p = baggage.data, last = p + baggage.len; p < last; p = end + 1) {

        end = memchr(p, ',', last - p);
        if (end == NULL) {
            end = last;
        }

        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }

        if (p == end
            || ((size_t) (end - p) >= sizeof("sentry-") - 1
                && ngx_strncasecmp((u_char *) p, (u_char *) "sentry-", sizeof("sentry-") - 1) == 0))
        {
            continue;
        }

        if (out->len) {
            mayday_buf_addc(out, ',');
        }

        mayday_buf_add(out, mayday_slice(p, end - p));
    }
}


/* What the head of a trace tells those behind it (Sentry: dynamic sampling context). */
static void
ngx_http_mayday_baggage_own(ngx_http_request_t *r, mayday_place_t *place, mayday_trace_t *trace,
    mayday_buf_t *out)
{
    char hex[2 * sizeof(trace->trace_id) + 1];
    ngx_str_t value;
    const char *error;
    mayday_dsn_t dsn;
    mayday_slice_t text;
    mayday_instance_t *instance;
    ngx_http_mayday_main_conf_t *mmcf;

    mmcf = ngx_http_get_module_main_conf(r, ngx_http_mayday_module);
    instance = mmcf->instance;

    mayday_hex(hex, trace->trace_id, sizeof(trace->trace_id));
    ngx_http_mayday_baggage_add(out, "sentry-trace_id=", mayday_slice_str(hex));

    if (place->destination->dsn_count > 0
        && mayday_dsn_parse(&dsn, place->destination->dsns[0], &error) == MAYDAY_OK)
    {
        ngx_http_mayday_baggage_add(out, "sentry-public_key=", dsn.public_key);
    }

    text = instance->environment;

    if (place->environment != NULL
        && ngx_http_complex_value(r, (ngx_http_complex_value_t *) place->environment, &value)
           == NGX_OK)
    {
        text = ngx_http_mayday_slice(&value);
    }

    ngx_http_mayday_baggage_add(out, "sentry-environment=", text);

    text = instance->release;

    if (place->release != NULL
        && ngx_http_complex_value(r, (ngx_http_complex_value_t *) place->release, &value)
           == NGX_OK)
    {
        text = ngx_http_mayday_slice(&value);
    }

    ngx_http_mayday_baggage_add(out, "sentry-release=", text);
}


/* The sentry-* members that go with the trace: the caller's if it is the caller's. */
static void
ngx_http_mayday_baggage(ngx_http_request_t *r, mayday_place_t *place, mayday_trace_t *trace,
    mayday_buf_t *out)
{
    if (trace->has_parent) {
        mayday_trace_baggage(ngx_http_mayday_header_slice(r, &ngx_http_mayday_baggage_name), out);

    } else {
        ngx_http_mayday_baggage_own(r, place, trace, out);
    }
}


static ngx_int_t
ngx_http_mayday_variable_text(ngx_http_request_t *r, mayday_place_t *place, uintptr_t which,
    char *text, size_t size)
{
    mayday_buf_t out;
    mayday_trace_t *trace;
    ngx_http_mayday_ctx_t *ctx;

    if (which == NGX_HTTP_MAYDAY_EVENT_ID) {
        ctx = ngx_http_mayday_ctx_get(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }

        if (!ctx->has_event_id) {
            mayday_ids_next(&ngx_http_mayday_ids, ctx->event_id);
            ctx->has_event_id = 1;
        }

        mayday_hex(text, ctx->event_id, sizeof(ctx->event_id));
        return NGX_OK;
    }

    trace = ngx_http_mayday_trace_keep(r, place);
    if (trace == NULL) {
        return NGX_ERROR;
    }

    switch (which) {

    case NGX_HTTP_MAYDAY_TRACE_ID:
        mayday_hex(text, trace->trace_id, sizeof(trace->trace_id));
        break;

    case NGX_HTTP_MAYDAY_SENTRY_TRACE:
        mayday_trace_header(trace, text);
        break;

    default: /* NGX_HTTP_MAYDAY_BAGGAGE */
        mayday_buf_init(&out, text, size);
        ngx_http_mayday_baggage(r, place, trace, &out);
        break;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_mayday_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    char text[NGX_HTTP_MAYDAY_BAGGAGE_SIZE];
    mayday_place_t *place;

    if (!ngx_http_mayday_verify(r)) {
        v->not_found = 1;
        return NGX_OK;
    }

    place = ngx_http_mayday_place(r->main);

    if (!place->enabled) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (ngx_http_mayday_variable_text(r, place, data, text, sizeof(text)) != NGX_OK) {
        return NGX_ERROR;
    }

    v->len = ngx_strlen(text);
    v->data = ngx_pnalloc(r->pool, v->len);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(v->data, text, v->len);

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/* Replaces all request headers of that name, or adds one. */
static ngx_int_t
ngx_http_mayday_header_set(ngx_http_request_t *r, ngx_str_t *name, const char *text, size_t len)
{
    u_char *value;
    ngx_uint_t i, found;
    ngx_list_part_t *part;
    ngx_table_elt_t *header;

    value = ngx_pnalloc(r->pool, len);
    if (value == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(value, text, len);

    found = 0;
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

        if (header[i].key.len == name->len
            && ngx_strncasecmp(header[i].key.data, name->data, name->len) == 0)
        {
            header[i].value.data = value;
            header[i].value.len = len;
            found = 1;
        }
    }

    if (found) {
        return NGX_OK;
    }

    header = ngx_list_push(&r->headers_in.headers);
    if (header == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(header, sizeof(ngx_table_elt_t));

    header->hash = ngx_hash_key(name->data, name->len);
    header->key = *name;
    header->lowcase_key = name->data;
    header->value.data = value;
    header->value.len = len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_mayday_inject_baggage(ngx_http_request_t *r, mayday_place_t *place, mayday_trace_t *trace)
{
    char text[NGX_HTTP_MAYDAY_BAGGAGE_SIZE];
    mayday_buf_t out;

    /* A caller's baggage goes with the caller's trace as it came. */

    if (trace->has_parent) {
        return NGX_OK;
    }

    mayday_buf_init(&out, text, sizeof(text));

    ngx_http_mayday_baggage_own(r, place, trace, &out);
    ngx_http_mayday_baggage_others(&out,
                                   ngx_http_mayday_header_slice(r, &ngx_http_mayday_baggage_name));

    return ngx_http_mayday_header_set(r, &ngx_http_mayday_baggage_name, out.data, out.len);
}


static ngx_int_t
ngx_http_mayday_inject(ngx_http_request_t *r, mayday_place_t *place)
{
    char text[MAYDAY_SENTRY_TRACE_SIZE], trace_id[33], span_id[17];
    u_char traceparent[NGX_HTTP_MAYDAY_TRACEPARENT_LEN + 1], *p;
    mayday_trace_t *trace;
    ngx_http_mayday_ctx_t *ctx;

    /* HTTP/0.9 has no headers, and no list to push one to. */

    if (r->headers_in.headers.last == NULL) {
        return NGX_OK;
    }

    trace = ngx_http_mayday_trace_keep(r, place);
    if (trace == NULL) {
        return NGX_ERROR;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_mayday_module);

    if (ctx->injected) {
        return NGX_OK;
    }

    ctx->injected = 1;

    if (ngx_http_mayday_inject_baggage(r, place, trace) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_mayday_header_find(r, &ngx_http_mayday_traceparent_name) != NULL) {
        mayday_hex(trace_id, trace->trace_id, sizeof(trace->trace_id));
        mayday_hex(span_id, trace->span_id, sizeof(trace->span_id));

        p = ngx_snprintf(traceparent, sizeof(traceparent), "00-%s-%s-0%c", trace_id, span_id,
                         trace->sampled == 1 ? '1' : '0');

        if (ngx_http_mayday_header_set(r, &ngx_http_mayday_traceparent_name,
                                       (char *) traceparent, p - traceparent)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    mayday_trace_header(trace, text);

    return ngx_http_mayday_header_set(r, &ngx_http_mayday_sentry_trace_name, text,
                                      ngx_strlen(text));
}


/*
 * Remembers the location in which a request fails before an error_page takes it
 * to another, and gives the upstream its trace. Installed only where needed.
 */
ngx_int_t
ngx_http_mayday_rewrite_handler(ngx_http_request_t *r)
{
    mayday_place_t *place;
    ngx_http_variable_value_t *v;
    ngx_http_mayday_main_conf_t *mmcf;

    if (!ngx_http_mayday_verify(r) || r != r->main) {
        return NGX_DECLINED;
    }

    mmcf = ngx_http_get_module_main_conf(r, ngx_http_mayday_module);

    if (mmcf->origin_index != NGX_ERROR) {
        v = &r->variables[mmcf->origin_index];

        if (r->err_status == 0) {
            v->data = (u_char *) r->loc_conf;
            v->valid = 0;

        } else {
            v->valid = 1;
        }
    }

    if (mmcf->inject) {
        place = ngx_http_mayday_place(r);

        if (place->enabled
            && (place->trace_mode == MAYDAY_TRACE_INJECT
                || place->trace_mode == MAYDAY_TRACE_PROPAGATE))
        {
            /* A request goes on without a trace where there is no memory for one. */
            (void) ngx_http_mayday_inject(r, place);
        }
    }

    return NGX_DECLINED;
}
