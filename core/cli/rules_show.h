/*
 * What rules made of an event, for people and for machines. See cmd_rules.c.
 *
 * For people, a line and what happened below it:
 *
 *   changed  3fa9c1d2  502  GET /orders/{id}               14 µs     6.2 KiB
 *       + tags.tenant  "acme"
 *       ~ level  "error" → "fatal"
 *   dropped  0f1e2d3c  404  GET /wp-login.php               9 µs     4.1 KiB
 *       bot: before_send at rules.lua:12
 */
#ifndef MAYDAY_RULES_SHOW_H
#define MAYDAY_RULES_SHOW_H

#include "core/agent/rules.h"
#include "core/cli/cli.h"

typedef enum {
    MAYDAY_TRIAL_KEPT,
    MAYDAY_TRIAL_CHANGED,
    MAYDAY_TRIAL_DROPPED,
    MAYDAY_TRIAL_FAILED,
    MAYDAY_TRIAL_MAX
} mayday_outcome_t;

/* One event that rules were run over; all of it is in the event's arena. */
typedef struct {
    mayday_outcome_t outcome;
    const char *event_id; /* these three as they were before */
    const char *transaction;
    unsigned status;
    mayday_rules_result_t result;
    const cJSON *changes; /* [{"path","old","now"} …]; old or now is absent where it was or is */
    const cJSON *log;     /* [{"level","text"} …] */
    double cpu_us;
    size_t memory; /* bytes */
} mayday_trial_t;

#define MAYDAY_TRIAL_REASONS_MAX 32

/* What all of them came to. */
typedef struct {
    unsigned events, outcomes[MAYDAY_TRIAL_MAX];
    struct {
        char reason[128];
        unsigned count;
    } reasons[MAYDAY_TRIAL_REASONS_MAX]; /* of dropped ones, the first so many */
    size_t reason_count;
    double cpu_us, cpu_us_max; /* of all, of the slowest */
    size_t memory_max;
} mayday_trials_t;

void mayday_trials_add(mayday_trials_t *trials, const mayday_trial_t *trial);

void mayday_trial_show(const mayday_term_t *term, const mayday_trial_t *trial);
void mayday_trials_show(const mayday_term_t *term, const mayday_trials_t *trials);

/* Lines of mayday.log, [{"level","text"} …]. */
void mayday_trial_show_log(const mayday_term_t *term, const cJSON *log);

/* The same as JSON: the caller's objects. */
cJSON *mayday_trial_json(const mayday_trial_t *trial);
cJSON *mayday_trials_json(const mayday_trials_t *trials);

#endif
