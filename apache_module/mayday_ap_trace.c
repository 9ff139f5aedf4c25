/*
 * The id of the event that a request may become and the trace that it belongs
 * to; both shown to the configuration (environment, notes, expressions) and, in
 * the modes that say so, handed to the upstream.
 *
 * Runs on the request path. A healthy request in the modes extract and ignore
 * only passes by: ids are made when a failure is about to be answered, when an
 * expression asks, or when the trace goes on to the upstream.
 */
#include "mod_mayday.h"

#include "ap_expr.h"
#include "apr_strings.h"
#include "mod_log_config.h"

/* Where the request's trace and id are, on the first request of a chain. */
mayday_ap_ctx_t *
mayday_ap_ctx(request_rec *first)
{
    mayday_ap_ctx_t *ctx = mayday_ap_ctx_peek(first);

    if (ctx == NULL) {
        ctx = apr_palloc(first->pool, sizeof(*ctx));
        ctx->baggage = NULL;
        ctx->has_trace = ctx->captured = ctx->stand_in = false;
        mayday_ids_next(&mayday_ap.ids, ctx->event_id);
        ap_set_module_config(first->request_config, &mayday_module, ctx);
    }
    return ctx;
}

mayday_slice_t
mayday_ap_eval(request_rec *r, const mayday_expr_t *expr)
{
    const char *error = NULL, *value;

    mayday_ap_log_quiet(true);
    value = ap_expr_str_exec(r, (const ap_expr_info_t *) expr, &error);
    mayday_ap_log_quiet(false);
    return mayday_slice_str(error == NULL ? value : NULL);
}

const mayday_trace_t *
mayday_ap_trace(request_rec *first, const mayday_place_t *place)
{
    mayday_ap_ctx_t *ctx = mayday_ap_ctx(first);
    const char *sentry = NULL, *w3c = NULL;
    uint8_t id[sizeof(ctx->trace.trace_id)];

    if (ctx->has_trace) {
        return &ctx->trace;
    }
    ctx->has_trace = true;
    if (place->trace_mode == MAYDAY_TRACE_EXTRACT || place->trace_mode == MAYDAY_TRACE_PROPAGATE) {
        sentry = apr_table_get(first->headers_in, "sentry-trace");
        w3c = apr_table_get(first->headers_in, "traceparent");
    }
    if (sentry == NULL && w3c == NULL && !mayday_ap_hands_on(place)) {
        mayday_trace_of_event(&ctx->trace, ctx->event_id);
    } else {
        mayday_trace_continue(&ctx->trace, &mayday_ap.ids, mayday_slice_str(sentry),
                              mayday_slice_str(w3c));
    }
    if (ctx->trace.has_parent) {
        ctx->baggage = apr_table_get(first->headers_in, "baggage");
    }
    /* there is none in mode ignore */
    if (place->trace_id != NULL &&
        mayday_unhex(id, sizeof(id), mayday_ap_eval(first, place->trace_id)) == MAYDAY_OK) {
        memcpy(ctx->trace.trace_id, id, sizeof(id));
    }
    return &ctx->trace;
}

/* ---- what the configuration can see ---- */

static const char *
value_event_id(request_rec *first, apr_pool_t *p)
{
    char *hex = apr_palloc(p, 33);

    mayday_hex(hex, mayday_ap_ctx(first)->event_id, 16);
    return hex;
}

static const char *
value_trace_id(request_rec *first, apr_pool_t *p)
{
    char *hex = apr_palloc(p, 33);

    mayday_hex(hex, mayday_ap_trace(first, mayday_ap_place(first))->trace_id, 16);
    return hex;
}

static const char *
value_sentry_trace(request_rec *first, apr_pool_t *p)
{
    char *text = apr_palloc(p, MAYDAY_SENTRY_TRACE_SIZE);

    mayday_trace_header(mayday_ap_trace(first, mayday_ap_place(first)), text);
    return text;
}

static void
add_member(mayday_buf_t *out, const char *key, mayday_slice_t value)
{
    if (value.len == 0) {
        return;
    }
    if (out->len > 0) {
        mayday_buf_addc(out, ',');
    }
    mayday_buf_adds(out, key);
    mayday_buf_add_encoded(out, value);
}

/* What the head of a trace tells those behind it (Sentry: dynamic sampling context). */
static void
add_own_members(mayday_buf_t *out, request_rec *first, const mayday_trace_t *trace)
{
    const mayday_place_t *place = mayday_ap_place(first);
    const mayday_instance_t *instance = mayday_ap.instance;
    char hex[2 * sizeof(trace->trace_id) + 1];
    const char *error;
    mayday_dsn_t dsn;

    mayday_hex(hex, trace->trace_id, sizeof(trace->trace_id));
    add_member(out, "sentry-trace_id=", mayday_slice_str(hex));
    if (place->destination->dsn_count > 0 &&
        mayday_dsn_parse(&dsn, place->destination->dsns[0], &error) == MAYDAY_OK) {
        add_member(out, "sentry-public_key=", dsn.public_key);
    }
    add_member(out, "sentry-environment=",
               place->environment == NULL ? instance->environment
                                          : mayday_ap_eval(first, place->environment));
    add_member(out, "sentry-release=",
               place->release == NULL ? instance->release : mayday_ap_eval(first, place->release));
}

static const char *
value_baggage(request_rec *first, apr_pool_t *p)
{
    const mayday_trace_t *trace = mayday_ap_trace(first, mayday_ap_place(first));
    mayday_buf_t text;

    mayday_buf_init(&text, apr_palloc(p, MAYDAY_FIELD_MAX_BAGGAGE + 1),
                    MAYDAY_FIELD_MAX_BAGGAGE + 1);
    if (trace->has_parent) {
        mayday_trace_baggage(mayday_slice_str(mayday_ap_ctx(first)->baggage), &text);
    } else {
        add_own_members(&text, first, trace);
    }
    return text.data;
}

typedef struct {
    const char *name;
    const char *(*value)(request_rec *first, apr_pool_t *p);
} variable_t;

static const variable_t variables[] = {
    {"MAYDAY_EVENT_ID", value_event_id},
    {"MAYDAY_TRACE_ID", value_trace_id},
    {"MAYDAY_SENTRY_TRACE", value_sentry_trace},
    {"MAYDAY_BAGGAGE", value_baggage},
};

/* The environment and notes of the ErrorDocument of a failure. */
static __attribute__((noinline)) void
show(request_rec *r)
{
    request_rec *first = (request_rec *) mayday_ap_first(r);

    for (size_t i = 0; i < MAYDAY_COUNT(variables); i++) {
        const char *value = variables[i].value(first, r->pool);

        if (*value != '\0') {
            apr_table_setn(r->subprocess_env, variables[i].name, value);
            apr_table_setn(r->notes, variables[i].name, value);
        }
    }
}

static const char *
expr_value(ap_expr_eval_ctx_t *ctx, const void *data)
{
    const variable_t *variable = data;
    const mayday_place_t *place;

    if (ctx->r == NULL || !mayday_ap.serving) {
        return "";
    }
    place = mayday_ap_place(ctx->r);
    return place->enabled ? variable->value((request_rec *) mayday_ap_first(ctx->r), ctx->p) : "";
}

int
mayday_ap_expr_lookup(ap_expr_lookup_parms *parms)
{
    if (parms->type != AP_EXPR_FUNC_VAR) {
        return DECLINED;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(variables); i++) {
        if (ap_cstr_casecmp(parms->name, variables[i].name) == 0) {
            *parms->func = (const void *) expr_value;
            *parms->data = &variables[i];
            return OK;
        }
    }
    return DECLINED;
}

/* "%^ME" of an access log: the id of the event, where there is one. */
static const char *
log_event_id(request_rec *r, char *argument)
{
    request_rec *first = (request_rec *) mayday_ap_first(r);
    const mayday_ap_ctx_t *ctx = mayday_ap_ctx_peek(first);

    return ctx != NULL && ctx->captured ? value_event_id(first, r->pool) : NULL;
}

/* A pre_config hook: before formats are read. */
int
mayday_ap_log_formats(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    static char tag[] = "^ME";
    APR_OPTIONAL_FN_TYPE(ap_register_log_handler) *add =
        APR_RETRIEVE_OPTIONAL_FN(ap_register_log_handler);

    if (add != NULL) {
        add(pconf, tag, log_event_id, 0);
    }
    return OK;
}

/* ---- hooks ---- */

/*
 * Where a stream's request ends without an answer, mod_http2 makes a second one
 * of the same to send its 500: one failure, of which the first knows the cause.
 * The connection, which is the stream's own, remembers the first until it ends.
 */
static __attribute__((noinline)) void
enter_stream(request_rec *r)
{
    ap_conf_vector_t *of_connection = r->connection->conn_config;
    request_rec *failed = ap_get_module_config(of_connection, &mayday_module);
    mayday_ap_ctx_t *ctx;

    if (failed == NULL) {
        ap_set_module_config(of_connection, &mayday_module, r);
        mayday_ap_log_enter(r);
        return;
    }
    ctx = apr_pmemdup(r->pool, mayday_ap_ctx(failed), sizeof(*ctx));
    ctx->stand_in = true;
    ctx->baggage = NULL; /* is in the other's pool */
    ap_set_module_config(r->request_config, &mayday_module, ctx);
}

void
mayday_ap_leave_stream(request_rec *r)
{
    if (ap_get_module_config(r->connection->conn_config, &mayday_module) == r) {
        ap_set_module_config(r->connection->conn_config, &mayday_module, NULL);
    }
}

int
mayday_ap_post_read_request(request_rec *r)
{
    if (!mayday_ap.serving) {
        return DECLINED;
    }
    if (MAYDAY_UNLIKELY(r->prev != NULL)) {
        if (mayday_ap_is_failed(r->prev)) {
            /* r is the ErrorDocument of a failure */
            show(r);
        }
    } else if (r->connection->master != NULL) {
        enter_stream(r);
    } else {
        mayday_ap_log_enter(r);
    }
    return DECLINED;
}

/* The members of a baggage header that are not Sentry's: those of another trace go. */
static const char *
foreign_baggage(apr_pool_t *p, const char *baggage)
{
    char *copy = apr_pstrdup(p, baggage), *out = apr_palloc(p, strlen(baggage) + 1), *end = out;
    char *state = NULL;

    for (char *member = apr_strtok(copy, ",", &state); member != NULL;
         member = apr_strtok(NULL, ",", &state)) {
        size_t len;

        member += strspn(member, " \t");
        len = strlen(member);
        if (len == 0 || strncasecmp(member, "sentry-", 7) == 0) {
            continue;
        }
        if (end != out) {
            *end++ = ',';
        }
        memcpy(end, member, len);
        end += len;
    }
    *end = '\0';
    return out;
}

static void
hand_on_baggage(request_rec *r)
{
    const char *own = apr_table_get(r->subprocess_env, "MAYDAY_BAGGAGE");
    const char *others = apr_table_get(r->headers_in, "baggage");

    others = others == NULL ? "" : foreign_baggage(r->pool, others);
    apr_table_setn(r->headers_in, "baggage",
                   *others == '\0' ? own : apr_pstrcat(r->pool, own, ",", others, NULL));
}

/* Gives the upstream our trace: in its headers, and in the environment. */
static __attribute__((noinline)) void
hand_on(request_rec *r, const mayday_place_t *place)
{
    request_rec *first = (request_rec *) mayday_ap_first(r);
    const mayday_trace_t *trace = mayday_ap_trace(first, place);
    char span_id[2 * sizeof(trace->span_id) + 1];

    for (size_t i = 1; i < MAYDAY_COUNT(variables); i++) {
        const char *value = variables[i].value(first, r->pool);

        if (*value != '\0') {
            apr_table_setn(r->subprocess_env, variables[i].name, value);
        }
    }
    apr_table_setn(r->headers_in, "sentry-trace",
                   apr_table_get(r->subprocess_env, "MAYDAY_SENTRY_TRACE"));
    if (apr_table_get(r->headers_in, "traceparent") != NULL) {
        mayday_hex(span_id, trace->span_id, sizeof(trace->span_id));
        apr_table_setn(r->headers_in, "traceparent",
                       apr_pstrcat(r->pool, "00-",
                                   apr_table_get(r->subprocess_env, "MAYDAY_TRACE_ID"), "-",
                                   span_id, trace->sampled == 1 ? "-01" : "-00", NULL));
    }
    /* a caller's baggage goes with the caller's trace as it came */
    if (!trace->has_parent) {
        apr_table_unset(r->headers_in, "tracestate");
        hand_on_baggage(r);
    }
}

/* Before the proxy's handler builds the upstream's request. */
int
mayday_ap_fixups(request_rec *r)
{
    const mayday_place_t *place = mayday_ap_place(r);

    if (mayday_ap_hands_on(place) && place->enabled && r->main == NULL && mayday_ap.serving) {
        hand_on(r, place);
    }
    return DECLINED;
}
