/*
 * The table of directives at work: dispatch, defaults, inheritance.
 *
 * Runs when the configuration is read. httpd also calls mayday_place_merge on
 * the request path, and mayday_ignore_matches runs there on both servers.
 */
#include "core/capture/conf_parse.h"

#include <stdlib.h>
#include <unistd.h>

typedef enum { SCOPE_PLACE, SCOPE_INSTANCE } scope_t;
typedef enum { INHERIT_VALUE, INHERIT_LIST, INHERIT_PART, INHERIT_NONE } inherit_t;

typedef struct {
    uint8_t scope;   /* scope_t   */
    uint8_t inherit; /* inherit_t */
    uint16_t args_min;
    uint16_t args_max;
    mayday_set_pt set;
} directive_t;

static const directive_t directives[] = {
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax,         \
                         summary)                                                                  \
    {SCOPE_##scope, INHERIT_##inherit, min, max, mayday_set_##parser},
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE
};

/* ---- setting ---- */

static const char *
check_count(const mayday_conf_call_t *call, const directive_t *d)
{
    if (call->count >= d->args_min && call->count <= d->args_max) {
        return NULL;
    }
    if (d->args_min == d->args_max) {
        return mayday_conf_message(call, "found %zu argument%s, expected %u", call->count,
                                   call->count == 1 ? "" : "s", d->args_min);
    }
    return mayday_conf_message(call, "found %zu argument%s, expected from %u to %u", call->count,
                               call->count == 1 ? "" : "s", d->args_min, d->args_max);
}

const char *
mayday_directive_set(const mayday_conf_host_t *host, mayday_instance_t *instance,
                     mayday_place_t *place, mayday_directive_t directive,
                     const mayday_slice_t *args, size_t count)
{
    const directive_t *d = &directives[directive];
    const mayday_conf_call_t call = {host, instance, place, args, count};
    bool may_repeat = d->inherit == INHERIT_LIST || d->inherit == INHERIT_PART;
    uint64_t bit = UINT64_C(1) << directive;
    uint64_t *set = d->scope == SCOPE_PLACE ? &place->set : &instance->set;
    const char *error;

    if (!may_repeat && (*set & bit) != 0) {
        return "is duplicate";
    }
    error = check_count(&call, d);
    if (error == NULL) {
        error = d->set(&call);
    }
    if (error == NULL) {
        *set |= bit;
    }
    /* cppcheck-suppress returnDanglingLifetime ; a message never points into the call */
    return error;
}

/* ---- defaults ---- */

static bool
set_place_defaults(const mayday_conf_host_t *host, mayday_instance_t *instance)
{
    mayday_status_set_t *failed = mayday_conf_alloc(host, sizeof(*failed));
    mayday_ignore_t *ignore = mayday_conf_alloc(host, sizeof(*ignore));
    const mayday_collect_t *collect = mayday_collect_new(host);

    if (failed == NULL || ignore == NULL || collect == NULL ||
        !mayday_conf_statuses(MAYDAY_SLICE("500-599"), failed)) {
        return false;
    }
    ignore->kinds = UINT32_C(1) << MAYDAY_KIND_LIMITED;
    instance->defaults = (mayday_place_t){
        .trace_mode = MAYDAY_TRACE_EXTRACT,
        .destination = instance->destinations,
        .failed_status = failed,
        .ignore = ignore,
        .collect = collect,
    };
    return true;
}

static bool
set_from_environment(const mayday_conf_host_t *host, mayday_slice_t *out, const char *name,
                     const char *otherwise)
{
    const char *value = getenv(name);

    if (value == NULL || value[0] == '\0') {
        value = otherwise;
    }
    return mayday_conf_copy(host, out, mayday_slice_str(value));
}

static bool
set_host_name(const mayday_conf_host_t *host, mayday_slice_t *out)
{
    char name[256];

    if (gethostname(name, sizeof(name)) != 0) {
        name[0] = '\0';
    }
    name[sizeof(name) - 1] = '\0';
    return mayday_conf_copy(host, out, mayday_slice_str(name));
}

mayday_instance_t *
mayday_instance_new(const mayday_conf_host_t *host)
{
    mayday_instance_t *instance = mayday_conf_alloc(host, sizeof(*instance));
    mayday_destination_t *store_only = mayday_conf_alloc(host, sizeof(*store_only));

    if (instance == NULL || store_only == NULL) {
        return NULL;
    }
    *instance = (mayday_instance_t){
        .server = host->server,
        .server_version = "",
        .identity = "",
        .error_log = "",
        .directory = host->server == MAYDAY_SERVER_NGINX ? MAYDAY_SLICE("/var/lib/mayday/nginx")
                                                         : MAYDAY_SLICE("/var/lib/mayday/httpd"),
        .agent_on = true,
        .agent_path = MAYDAY_SLICE(""),
        .rules_file = MAYDAY_SLICE(""),
        .rules_mode = MAYDAY_RULES_ENFORCE,
        .queue_size = 64u << 20,
        .retention_s = UINT64_C(7) * 86400,
        .issue_rate = {.events = 60, .period_s = 60, .burst = 60},
        .send_rate = {.events = 3, .period_s = 1, .burst = 100},
        .proxy = MAYDAY_SLICE(""),
        .trusted_certificate = MAYDAY_SLICE(""),
        .shutdown_timeout_ms = 2000,
        .socket_path = MAYDAY_SLICE(""),
        .socket_group = MAYDAY_SLICE(""),
        .socket_mode = 0660,
        .destinations = store_only,
    };
    if (!set_from_environment(host, &instance->environment, "SENTRY_ENVIRONMENT", "production") ||
        !set_from_environment(host, &instance->release, "SENTRY_RELEASE", "") ||
        !set_host_name(host, &instance->server_name) || !set_place_defaults(host, instance)) {
        return NULL;
    }
    return instance;
}

mayday_place_t *
mayday_place_new(const mayday_conf_host_t *host, const mayday_instance_t *instance)
{
    mayday_place_t *place = mayday_conf_alloc(host, sizeof(*place));

    if (place != NULL) {
        *place = instance->defaults;
    }
    return place;
}

/* ---- inheritance ---- */

/* Puts copies of the inner rules, which *out has, before the outer list, which is shared. */
static bool
join_ignore(const mayday_conf_host_t *host, mayday_place_t *out, const mayday_ignore_t *inner,
            const mayday_ignore_t *outer)
{
    mayday_ignore_t *head = NULL, **link = &head;

    for (const mayday_ignore_t *rule = inner; rule != NULL; rule = rule->next) {
        if (rule->none) {
            return true;
        }
    }
    for (; inner != NULL; inner = inner->next) {
        *link = mayday_conf_alloc(host, sizeof(**link));
        if (*link == NULL) {
            return false;
        }
        **link = *inner;
        link = &(*link)->next;
    }
    *link = (mayday_ignore_t *) outer; /* read from here on, like the copies */
    out->ignore = head;
    return true;
}

static bool
is_tagged(const mayday_tag_t *tags, mayday_slice_t name)
{
    for (; tags != NULL; tags = tags->next) {
        if (mayday_slice_eq(tags->name, name)) {
            return true;
        }
    }
    return false;
}

/* Copies of the inner tags, then of those outer ones whose name is not taken. */
static bool
join_tags(const mayday_conf_host_t *host, mayday_place_t *out, const mayday_tag_t *inner,
          const mayday_tag_t *outer)
{
    const mayday_tag_t *lists[] = {inner, outer};
    mayday_tag_t *head = NULL, **link = &head;

    for (size_t i = 0; i < MAYDAY_COUNT(lists); i++) {
        for (const mayday_tag_t *tag = lists[i]; tag != NULL; tag = tag->next) {
            if (i > 0 && is_tagged(inner, tag->name)) {
                continue;
            }
            *link = mayday_conf_alloc(host, sizeof(**link));
            if (*link == NULL) {
                return false;
            }
            **link = *tag;
            (*link)->next = NULL;
            link = &(*link)->next;
        }
    }
    out->tags = head;
    return true;
}

static void
merge_values(mayday_place_t *out, const mayday_place_t *parent, uint64_t missing)
{
    if (missing & MAYDAY_DIRECTIVE_BIT(ENABLE)) {
        out->enabled = parent->enabled;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(DSN)) {
        out->destination = parent->destination;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(ENVIRONMENT)) {
        out->environment = parent->environment;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(RELEASE)) {
        out->release = parent->release;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(FAILED_STATUS)) {
        out->failed_status = parent->failed_status;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(IGNORE)) {
        out->ignore = parent->ignore;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(USER)) {
        out->user = parent->user;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(TAG)) {
        out->tags = parent->tags;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(TRANSACTION)) {
        out->transaction = parent->transaction;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(COLLECT)) {
        out->collect = parent->collect;
    }
    if (missing & MAYDAY_DIRECTIVE_BIT(TRACE_CONTEXT)) {
        out->trace_mode = parent->trace_mode;
        out->trace_id = parent->trace_id;
    }
}

const char *
mayday_place_merge(const mayday_conf_host_t *host, mayday_place_t *out,
                   const mayday_place_t *parent, const mayday_place_t *child, bool additive)
{
    uint64_t both = parent->set & child->set;

    *out = *child;
    merge_values(out, parent, parent->set & ~child->set);
    out->set |= parent->set;

    if ((both & MAYDAY_DIRECTIVE_BIT(COLLECT)) != 0) {
        out->collect = mayday_collect_merge(host, parent->collect, child->collect);
        if (out->collect == NULL) {
            return mayday_conf_no_memory;
        }
    }
    if (additive && (both & MAYDAY_DIRECTIVE_BIT(IGNORE)) != 0 &&
        !join_ignore(host, out, child->ignore, parent->ignore)) {
        return mayday_conf_no_memory;
    }
    if (additive && (both & MAYDAY_DIRECTIVE_BIT(TAG)) != 0 &&
        !join_tags(host, out, child->tags, parent->tags)) {
        return mayday_conf_no_memory;
    }
    return NULL;
}

/* ---- on the request path ---- */

bool
mayday_ignore_matches(const mayday_ignore_t *list, mayday_kind_t kind, unsigned status,
                      bool (*eval)(void *request, mayday_expr_t *condition), void *request)
{
    for (; list != NULL; list = list->next) {
        bool is_named = (kind < MAYDAY_KIND_MAX && (list->kinds >> kind & 1) != 0) ||
                        mayday_status_set_has(&list->statuses, status);

        if (is_named && (list->condition == NULL || eval(request, list->condition))) {
            return true;
        }
    }
    return false;
}
