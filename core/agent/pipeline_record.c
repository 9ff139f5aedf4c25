/*
 * One record: event, rules, issue, rate, batch. Runs in the pipeline's thread;
 * all memory of the event is in its arena and gone at the end.
 */
#include <stdio.h>

#include "core/agent/log.h"
#include "core/agent/pipeline_private.h"

#define HUNG                                                                                       \
    "the agent had to be ended: the rules ran on one event for seconds, or crashed, in a function"

typedef struct {
    const mayday_settings_t *settings;
    const mayday_record_view_t *view;
    uint64_t destination;
    mayday_kind_t kind;
    char degraded[600]; /* why, for as long as the event is */
    bool hung;          /* an agent: no rules for it        */
} job_t;

static void
drop(mayday_pipeline_t *p, const job_t *job, const mayday_rules_result_t *result)
{
    char reason[sizeof(result->hook) + sizeof(result->reason) + 1];
    bool last = strcmp(result->hook, "before_send") == 0;

    snprintf(reason, sizeof(reason), "%s:%s", result->hook, result->reason);
    mayday_batch_count(p->batch, "filtered", reason, 1);
    mayday_pipeline_dropped(p, job->view, job->settings, result);
    mayday_batch_discard(p->batch, job->settings, job->destination,
                         last ? "before_send" : "event_processor", 1);
}

/*
 * error begins with "FILE:LINE: ", and only that goes out: the rest may quote
 * what a rule had read from the event.
 */
static void
degrade(mayday_pipeline_t *p, job_t *job, const char *error)
{
    const char *text = strstr(error, ": ");

    if (text == NULL) {
        snprintf(job->degraded, sizeof(job->degraded), "see the error log");
    } else {
        snprintf(job->degraded, sizeof(job->degraded), "%.*s", (int) (text - error), error);
    }
    mayday_event_degrade(&p->event, job->degraded);
    mayday_batch_count(p->batch, "rule_errors", "", 1);
}

/*
 * Rules are told how many events of the issue were held back; what they make of
 * the fingerprint is not known yet, so it is the issue by default.
 */
static void
tell_suppressed(mayday_pipeline_t *p, mayday_event_t *event)
{
    uint8_t hash[MAYDAY_HASH_BYTES];
    const mayday_issue_t *issue;

    mayday_event_issue(event, hash);
    issue = mayday_issues_find(p->issues, hash);
    event->suppressed = issue == NULL ? 0 : issue->suppressed;
}

/* What `mayday status` tells of the rules: how they fared with this event. */
static void
publish_result(mayday_pipeline_t *p, const char *failure)
{
    if (failure == NULL && !p->rules_failing) {
        return;
    }
    p->rules_failing = failure != NULL;
    pthread_mutex_lock(&p->lock);
    p->info.rules_failing = p->rules_failing;
    if (failure != NULL) {
        snprintf(p->info.rules_failure, sizeof(p->info.rules_failure), "%s", failure);
        p->info.rules_failed_us = mayday_clock_us();
    }
    pthread_mutex_unlock(&p->lock);
}

/* Which place of the rules did it: of a failure where it happened, of a drop the hook. */
static void
count_rule(mayday_pipeline_t *p, const mayday_rules_result_t *result)
{
    bool dropped = result->verdict == MAYDAY_RULES_DROP;
    const char *text = strstr(result->error, ": ");
    char where[sizeof(result->error)] = "";
    const mayday_store_rule_t rule = {.where = dropped ? result->where : where,
                                      .hook = result->hook,
                                      .outcome = dropped ? "dropped" : "failed",
                                      .reason = result->reason,
                                      .observed = p->rules_observe,
                                      .n = 1};

    if (text != NULL) {
        snprintf(where, sizeof(where), "%.*s", (int) (text - result->error), result->error);
    }
    if (result->verdict != MAYDAY_RULES_KEEP) {
        mayday_batch_rule(p->batch, &rule);
    }
}

static void
run_rules(mayday_pipeline_t *p, mayday_event_t *event, mayday_rules_result_t *result)
{
    tell_suppressed(p, event);
    mayday_rules_run(p->rules, event, result);
    if (result->restarted) {
        mayday_batch_count(p->batch, "rule_restarts", "", 1);
    }
    count_rule(p, result);
    publish_result(p, result->verdict == MAYDAY_RULES_FAILED ? result->error : NULL);
}

/* Runs the rules on an event of their own and tells what they would have done. */
static void
observe(mayday_pipeline_t *p, const job_t *job)
{
    mayday_rules_result_t result;
    char reason[sizeof(result.hook) + sizeof(result.reason) + 1];

    if (p->rules == NULL) {
        return;
    }
    if (job->hung) {
        publish_result(p, HUNG);
        mayday_batch_count(p->batch, "observed", "error", 1);
        return;
    }
    mayday_event_init(&p->scratch, job->view, job->settings);
    mayday_rules_route(p->rules, p->learner, &p->scratch);
    run_rules(p, &p->scratch, &result);
    switch (result.verdict) {
    case MAYDAY_RULES_KEEP:
        mayday_batch_count(p->batch, "observed", "kept", 1);
        break;
    case MAYDAY_RULES_DROP:
        snprintf(reason, sizeof(reason), "%s:%s", result.hook, result.reason);
        mayday_batch_count(p->batch, "observed", reason, 1);
        mayday_pipeline_dropped(p, job->view, job->settings, &result);
        break;
    case MAYDAY_RULES_FAILED:
        mayday_log(MAYDAY_LOG_WARN, "MD0131", "rules, observed only, failed: %s", result.error);
        mayday_batch_count(p->batch, "observed", "error", 1);
        break;
    }
}

/* False: the event is dropped. */
static bool
apply_rules(mayday_pipeline_t *p, job_t *job)
{
    mayday_rules_result_t result;

    if (p->rules_observe) {
        observe(p, job);
        return true;
    }
    if (p->rules_failed) {
        degrade(p, job, p->rules_failure);
        return true;
    }
    if (p->rules == NULL) {
        return true;
    }
    if (job->hung) {
        publish_result(p, HUNG);
        degrade(p, job, HUNG);
        return true;
    }
    run_rules(p, &p->event, &result);
    if (result.verdict == MAYDAY_RULES_DROP) {
        drop(p, job, &result);
        return false;
    }
    if (result.verdict == MAYDAY_RULES_FAILED) {
        mayday_log(MAYDAY_LOG_ERROR, "MD0130",
                   "rules failed, the event goes out without details: "
                   "%s",
                   result.error);
        degrade(p, job, result.error);
    }
    return true;
}

/* Adds the event, as it stands now, to the batch. */
static mayday_rc_t
put(mayday_pipeline_t *p, const job_t *job, const mayday_issue_t *issue)
{
    char title_storage[MAYDAY_TITLE_SIZE], level[16], id[33];
    mayday_slice_t level_text = mayday_event_part_text(&p->event, MAYDAY_PART_LEVEL);
    mayday_store_event_t event;
    mayday_buf_t title;

    mayday_buf_init(&title, title_storage, sizeof(title_storage));
    mayday_event_title(&p->event, &title);
    mayday_event_id(&p->event, id);
    snprintf(level, sizeof(level), "%.*s", (int) level_text.len, level_text.data);
    memset(&event, 0, sizeof(event));
    memcpy(event.issue, issue->hash, sizeof(event.issue));
    event.event_id = mayday_slice_str(id);
    event.time_us = mayday_view_u64(job->view, TIME_US);
    event.kind = mayday_kind_name((mayday_kind_t) job->kind);
    event.level = level;
    event.status = (unsigned) mayday_view_u64(job->view, STATUS);
    event.title = mayday_buf_slice(&title);
    event.transaction = mayday_event_part_text(&p->event, MAYDAY_PART_TRANSACTION);
    event.trace = mayday_event_trace(&p->event);
    event.json = mayday_event_serialise(&p->event);
    if (event.json.len == 0) {
        return MAYDAY_NO_MEMORY;
    }
    return mayday_batch_event(p->batch, &event, job->settings, job->destination);
}

static void
let_out(mayday_pipeline_t *p, job_t *job, const mayday_issue_t *issue)
{
    char id[33];
    mayday_rc_t rc = put(p, job, issue);

    if (rc != MAYDAY_OK && !p->event.degraded) { /* rules can make it too large */
        degrade(p, job, "too large: sent without details");
        rc = put(p, job, issue);
    }
    if (rc != MAYDAY_OK) {
        mayday_event_id(&p->event, id);
        mayday_log(MAYDAY_LOG_WARN, "MD0132", "event %s is lost: %s", id,
                   rc == MAYDAY_FULL ? "it is too large" : "no memory");
        mayday_batch_count(p->batch, "dropped", rc == MAYDAY_FULL ? "too_large" : "no_memory", 1);
        mayday_batch_discard(p->batch, job->settings, job->destination, "internal_sdk_error", 1);
    }
}

static void
handle(mayday_pipeline_t *p, job_t *job)
{
    uint8_t hash[MAYDAY_HASH_BYTES];
    mayday_issue_t *issue;
    bool admitted;

    mayday_event_init(&p->event, job->view, job->settings);
    if (!p->rules_observe) {
        mayday_rules_route(p->rules, p->learner, &p->event);
    }
    if (!apply_rules(p, job)) {
        return;
    }
    mayday_rules_learn(p->learner, &p->event);
    p->event.suppressed = 0;
    mayday_event_issue(&p->event, hash);
    issue = mayday_issues_get(p->issues, hash);
    admitted = mayday_issue_admit(issue, &job->settings->issue_rate, mayday_clock_monotonic_us(),
                                  &p->event.suppressed);
    mayday_batch_seen(p->batch, issue, mayday_view_u64(job->view, TIME_US), !admitted);
    if (admitted) {
        let_out(p, job, issue);
    } else {
        mayday_batch_count(p->batch, "suppressed", "issue_rate", 1);
        mayday_batch_discard(p->batch, job->settings, job->destination, "backpressure", 1);
    }
}

/*
 * Under other settings than its own a record's destination is just a number: what
 * may be somebody else's list of DSNs gets nothing.
 */
static uint64_t
destination_of(const mayday_settings_t *settings, const mayday_lane_record_t *record)
{
    bool are_its_own = memcmp(settings->hash, record->settings, MAYDAY_HASH_BYTES) == 0;

    return are_its_own || settings->destination_count <= 2
               ? mayday_view_u64(&record->view, DESTINATION)
               : 0;
}

bool
mayday_pipeline_record(mayday_pipeline_t *p, const mayday_lane_record_t *record)
{
    job_t job;

    job.hung = mayday_watchdog_begin(p->watchdog, record);
    job.view = &record->view;
    job.settings = mayday_pipeline_settings(p, record->settings);
    job.destination = destination_of(job.settings, record);
    job.kind = (mayday_kind_t) mayday_view_u64(job.view, KIND);
    mayday_batch_position(p->batch, record);
    if (record->lost > 0) {
        mayday_log(MAYDAY_LOG_WARN, "MD0133", "%llu records in shared memory were unreadable",
                   (unsigned long long) record->lost);
        mayday_batch_count(p->batch, "dropped", "unreadable", record->lost);
    }
    mayday_batch_captured(p->batch, job.kind);
    mayday_event_memory_begin();
    handle(p, &job);
    mayday_event_memory_end();
    mayday_watchdog_end(p->watchdog);
    return !job.hung;
}
