/*
 * What `mayday status` shows (document: status.h), from the lanes, the store and
 * delivery. Runs in the API's threads; heap memory, for the answer's time.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/agent/agent_private.h"
#include "core/agent/status.h"
#include "core/event/json.h"

/* For so long after the rules failed on an event they are a problem, whatever came since. */
#define RULES_FAILED_LATELY_US UINT64_C(300000000)

typedef struct {
    cJSON *counts; /* {NAME: {REASON: N}}, and those without reasons {NAME: N} */
    uint64_t alive, dead, size, unread;
} numbers_t;

/* Counts that have reasons are always there, if only as {}. */
static const char *const with_reasons[] = {"captured", "ignored",  "dropped",
                                           "filtered", "observed", "suppressed"};
static const char *const without_reasons[] = {"requests",        "sent",      "rule_errors",
                                              "rule_restarts",   "truncated", "log_lines_lost",
                                              "settings_missing"};

static void
add(cJSON *object, const char *name, uint64_t n)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    if (item == NULL) {
        cJSON_AddNumberToObject(object, name, (double) n);
    } else if (cJSON_IsNumber(item)) {
        cJSON_SetNumberValue(item, item->valuedouble + (double) n);
    }
}

static void
visit_count(void *ctx, const char *name, const char *reason, uint64_t n)
{
    numbers_t *numbers = ctx;
    cJSON *group = cJSON_GetObjectItemCaseSensitive(numbers->counts, name);

    if (cJSON_IsObject(group)) {
        add(group, reason[0] == '\0' ? "other" : reason, n);
    } else {
        add(numbers->counts, name, n);
    }
}

/* What a lane's end will put into the store stands in the lane until then. */
static void
visit_lane(void *ctx, const mayday_lane_info_t *info)
{
    numbers_t *numbers = ctx;

    if (info->alive) {
        numbers->alive++;
    } else {
        numbers->dead++;
    }
    numbers->size += info->size;
    numbers->unread += info->unread_bytes;
    visit_count(ctx, "requests", "", info->counters[MAYDAY_COUNTER_REQUESTS]);
    visit_count(ctx, "truncated", "", info->counters[MAYDAY_COUNTER_TRUNCATED]);
    visit_count(ctx, "log_lines_lost", "", info->counters[MAYDAY_COUNTER_LINES_LOST]);
    if (info->counters[MAYDAY_COUNTER_DROPPED_NO_LANE] > 0) {
        visit_count(ctx, "dropped", "no_lane", info->counters[MAYDAY_COUNTER_DROPPED_NO_LANE]);
    }
    for (unsigned kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        if (info->ignored[kind] > 0) {
            visit_count(ctx, "ignored", mayday_kind_name((mayday_kind_t) kind),
                        info->ignored[kind]);
        }
    }
}

static cJSON *
add_agent(cJSON *document, mayday_agent_t *agent, const mayday_pipeline_info_t *info)
{
    cJSON *object = cJSON_AddObjectToObject(document, "agent"), *rules;
    char storage[1024], name[32];
    struct passwd entry, *found = NULL;

    cJSON_AddStringToObject(object, "version", MAYDAY_VERSION);
    cJSON_AddNumberToObject(object, "pid", (double) getpid());
    cJSON_AddNumberToObject(object, "started_us", (double) agent->started_us);
    snprintf(name, sizeof(name), "%lu", (unsigned long) geteuid());
    if (getpwuid_r(geteuid(), &entry, storage, sizeof(storage), &found) != 0) {
        found = NULL;
    }
    cJSON_AddStringToObject(object, "user", found == NULL ? name : found->pw_name);
    pthread_mutex_lock(&agent->lock);
    cJSON_AddStringToObject(object, "server", agent->settings->server);
    cJSON_AddStringToObject(object, "server_version", agent->settings->server_version);
    cJSON_AddStringToObject(object, "identity", agent->settings->identity);
    cJSON_AddStringToObject(object, "directory", agent->settings->directory);
    pthread_mutex_unlock(&agent->lock);
    cJSON_AddStringToObject(object, "run_directory", agent->run_dir);
    rules = cJSON_AddObjectToObject(object, "rules");
    cJSON_AddStringToObject(rules, "file", info->rules_file);
    cJSON_AddStringToObject(rules, "mode", info->rules_observe ? "observe" : "enforce");
    cJSON_AddNumberToObject(rules, "loaded_us", (double) info->rules_loaded_us);
    cJSON_AddStringToObject(rules, "error", info->rules_error);
    cJSON_AddStringToObject(rules, "failure", info->rules_failure);
    cJSON_AddNumberToObject(rules, "failed_us", (double) info->rules_failed_us);
    return object;
}

static void
visit_delivery(void *ctx, const mayday_delivery_info_t *info)
{
    cJSON *list = ctx, *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "dsn", info->dsn);
    cJSON_AddNumberToObject(object, "queued", (double) info->queued);
    cJSON_AddNumberToObject(object, "sent", (double) info->sent);
    cJSON_AddNumberToObject(object, "in_flight", (double) info->in_flight);
    cJSON_AddNumberToObject(object, "last_sent_us", (double) info->last_sent_us);
    cJSON_AddNumberToObject(object, "last_error_us", (double) info->last_error_us);
    cJSON_AddStringToObject(object, "last_error", info->last_error);
    cJSON_AddNumberToObject(object, "limited_until_us", (double) info->limited_until_us);
    cJSON_AddNumberToObject(object, "retry_at_us", (double) info->retry_at_us);
    cJSON_AddItemToArray(list, object);
}

static void
visit_rule(void *ctx, const mayday_store_rule_t *rule)
{
    cJSON *list = ctx, *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "where", rule->where);
    cJSON_AddStringToObject(object, "hook", rule->hook);
    cJSON_AddStringToObject(object, "outcome", rule->outcome);
    cJSON_AddStringToObject(object, "reason", rule->reason);
    cJSON_AddBoolToObject(object, "observed", rule->observed);
    cJSON_AddNumberToObject(object, "count", (double) rule->n);
    cJSON_AddItemToArray(list, object);
}

static void
add_problem(cJSON *problems, const char *what, const char *detail)
{
    char problem[800];

    snprintf(problem, sizeof(problem), "%s: %s", what, detail);
    cJSON_AddItemToArray(problems, cJSON_CreateString(problem));
}

/* What becomes of events while the rules cannot be loaded. */
static const char *
rules_unloaded(const mayday_pipeline_info_t *info)
{
    if (info->rules_loaded_us > 0) {
        return "the rules cannot be loaded, the old rules stay in force";
    }
    if (info->rules_observe) {
        return "the rules cannot be loaded, nothing is observed until they load";
    }
    return "the rules cannot be loaded, events go out without details until they load";
}

static void
add_problems(cJSON *document, const mayday_pipeline_info_t *info, const cJSON *delivery)
{
    cJSON *problems = cJSON_CreateArray();
    const cJSON *dsn;

    if (info->rules_error[0] != '\0') {
        add_problem(problems, rules_unloaded(info), info->rules_error);
    }
    if (info->rules_failing) {
        add_problem(problems, "the rules fail on every event", info->rules_failure);
    } else if (info->rules_failed_us > 0 &&
               mayday_clock_us() - info->rules_failed_us < RULES_FAILED_LATELY_US) {
        add_problem(problems, "the rules failed on some event lately", info->rules_failure);
    }
    if (info->store_error[0] != '\0') {
        add_problem(problems, "the store cannot be used", info->store_error);
    }
    cJSON_ArrayForEach(dsn, delivery)
    {
        if (mayday_json_number(dsn, "last_error_us") > mayday_json_number(dsn, "last_sent_us")) {
            char what[320];
            snprintf(what, sizeof(what), "delivery to %s fails", mayday_json_string(dsn, "dsn"));
            add_problem(problems, what, mayday_json_string(dsn, "last_error"));
        }
    }
    cJSON_AddBoolToObject(document, "healthy", cJSON_GetArraySize(problems) == 0);
    cJSON_AddItemToObject(document, "problems", problems);
}

cJSON *
mayday_status_document(mayday_agent_t *agent, mayday_store_t *store, const char *store_error)
{
    cJSON *document = cJSON_CreateObject(), *delivery = cJSON_CreateArray(), *lanes, *queue;
    cJSON *rules;
    const cJSON *dsn;
    mayday_pipeline_info_t info;
    numbers_t numbers = {.counts = cJSON_CreateObject()};
    uint64_t no_slot = 0, lost = 0, queued = 0;

    for (size_t i = 0; i < MAYDAY_COUNT(without_reasons); i++) {
        add(numbers.counts, without_reasons[i], 0);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(with_reasons); i++) {
        cJSON_AddObjectToObject(numbers.counts, with_reasons[i]);
    }
    if (mayday_pipeline_numbers(agent->pipeline, store, visit_lane, visit_count, &numbers, &no_slot,
                                &lost) != MAYDAY_OK) {
        cJSON_Delete(document);
        cJSON_Delete(delivery);
        cJSON_Delete(numbers.counts);
        return NULL;
    }
    mayday_pipeline_info(agent->pipeline, &info);
    if (store == NULL) {
        snprintf(info.store_error, sizeof(info.store_error), "%s", store_error);
    }
    mayday_delivery_visit(agent->delivery, visit_delivery, delivery);
    add_agent(document, agent, &info);
    add_problems(document, &info, delivery);
    lanes = cJSON_AddObjectToObject(document, "lanes");
    cJSON_AddNumberToObject(lanes, "alive", (double) numbers.alive);
    cJSON_AddNumberToObject(lanes, "dead", (double) numbers.dead);
    cJSON_AddNumberToObject(lanes, "size", (double) numbers.size);
    cJSON_AddNumberToObject(lanes, "unread_bytes", (double) numbers.unread);
    cJSON_AddNumberToObject(lanes, "dropped_no_slot", (double) no_slot);
    cJSON_AddNumberToObject(lanes, "lost_records", (double) lost);
    cJSON_AddItemToObject(document, "counts", numbers.counts);
    rules = cJSON_AddArrayToObject(document, "rules");
    if (store != NULL && mayday_store_rules(store, visit_rule, rules) != MAYDAY_OK) {
        cJSON_Delete(document);
        cJSON_Delete(delivery);
        return NULL;
    }
    cJSON_ArrayForEach(dsn, delivery)
    {
        queued += (uint64_t) mayday_json_number(dsn, "queued");
    }
    queue = cJSON_AddObjectToObject(document, "queue");
    cJSON_AddNumberToObject(queue, "events", (double) queued);
    cJSON_AddItemToObject(document, "delivery", delivery);
    return document;
}

/* ---- for Prometheus ---- */

static void
add_label(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\' || *value == '\n') {
            fputc('\\', out);
        }
        fputc(*value == '\n' ? 'n' : *value, out);
    }
}

static void
add_family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP mayday_%s %s\n# TYPE mayday_%s %s\n", name, help, name, type);
}

static void
add_plain(FILE *out, const char *name, const char *type, const char *help, double value)
{
    add_family(out, name, type, help);
    fprintf(out, "mayday_%s %.0f\n", name, value);
}

static void
add_labelled(FILE *out, const cJSON *counts, const char *group, const char *label, const char *help)
{
    char name[64];
    const cJSON *item;

    snprintf(name, sizeof(name), "%s_total", group);
    add_family(out, name, "counter", help);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(counts, group))
    {
        fprintf(out, "mayday_%s{%s=\"", name, label);
        add_label(out, item->string);
        fprintf(out, "\"} %.0f\n", item->valuedouble);
    }
}

static void
add_rules(FILE *out, const cJSON *rules)
{
    static const char *const labels[] = {"where", "hook", "outcome", "reason"};
    const cJSON *rule;

    add_family(out, "rule_results_total", "counter",
               "events that a place of the rules dropped or failed on");
    cJSON_ArrayForEach(rule, rules)
    {
        fputs("mayday_rule_results_total{", out);
        for (size_t i = 0; i < MAYDAY_COUNT(labels); i++) {
            fprintf(out, "%s=\"", labels[i]);
            add_label(out, mayday_json_string(rule, labels[i]));
            fputs("\",", out);
        }
        fprintf(out, "observed=\"%s\"} %.0f\n",
                cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(rule, "observed")) ? "true" : "false",
                mayday_json_number(rule, "count"));
    }
}

static void
add_per_dsn(FILE *out, const cJSON *delivery, const char *key, const char *name, const char *type,
            const char *help, double scale)
{
    const cJSON *dsn;

    add_family(out, name, type, help);
    cJSON_ArrayForEach(dsn, delivery)
    {
        fprintf(out, "mayday_%s{dsn=\"", name);
        add_label(out, mayday_json_string(dsn, "dsn"));
        fprintf(out, "\"} %.3f\n", mayday_json_number(dsn, key) * scale);
    }
}

char *
mayday_status_metrics(const cJSON *document)
{
    const cJSON *counts = cJSON_GetObjectItemCaseSensitive(document, "counts");
    const cJSON *lanes = cJSON_GetObjectItemCaseSensitive(document, "lanes");
    const cJSON *delivery = cJSON_GetObjectItemCaseSensitive(document, "delivery");
    char *text_out = NULL;
    size_t len;
    FILE *out = open_memstream(&text_out, &len);
    bool failed;

    if (out == NULL) {
        return NULL;
    }
    add_plain(out, "healthy", "gauge", "1 if status shows no problem",
              cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(document, "healthy")));
    add_plain(out, "requests_total", "counter", "requests that ended where mayday is on",
              mayday_json_number(counts, "requests"));
    add_plain(out, "sent_total", "counter", "events sent", mayday_json_number(counts, "sent"));
    add_plain(out, "rule_errors_total", "counter", "events that went out without details",
              mayday_json_number(counts, "rule_errors"));
    add_plain(out, "rule_restarts_total", "counter",
              "times the rules kept too much memory and were loaded anew",
              mayday_json_number(counts, "rule_restarts"));
    add_labelled(out, counts, "captured", "kind", "failures captured");
    add_labelled(out, counts, "ignored", "kind", "failures ignored by mayday_ignore");
    add_labelled(out, counts, "dropped", "reason", "failures or events that were lost");
    add_labelled(out, counts, "filtered", "reason", "events that rules dropped");
    add_labelled(out, counts, "observed", "reason", "what rules in observe mode would have done");
    add_labelled(out, counts, "suppressed", "reason", "events that were only counted");
    add_rules(out, cJSON_GetObjectItemCaseSensitive(document, "rules"));
    add_plain(out, "lanes_alive", "gauge", "processes that have a lane",
              mayday_json_number(lanes, "alive"));
    add_plain(out, "lanes_unread_bytes", "gauge", "bytes waiting in the lanes",
              mayday_json_number(lanes, "unread_bytes"));
    add_plain(out, "dropped_no_slot_total", "counter", "failures of processes without a lane",
              mayday_json_number(lanes, "dropped_no_slot"));
    add_plain(out, "lost_records_total", "counter", "records of dead lanes that were given up",
              mayday_json_number(lanes, "lost_records"));
    add_per_dsn(out, delivery, "queued", "queue_events", "gauge", "events waiting to be sent", 1);
    add_per_dsn(out, delivery, "last_sent_us", "last_sent_timestamp_seconds", "gauge",
                "when an event was last sent", 1e-6);
    add_per_dsn(out, delivery, "last_error_us", "last_error_timestamp_seconds", "gauge",
                "when sending last failed", 1e-6);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text_out);
        return NULL;
    }
    return text_out;
}
