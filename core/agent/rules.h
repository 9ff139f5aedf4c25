/*
 * The team's Lua rules over an event. The only room that includes lua.h.
 *
 * A rules state belongs to the pipeline thread. The event appears in Lua as
 * ordinary tables in the shape of Sentry's event; each part is made when a rule
 * first touches it and taken back, into the event, after the last rule. The
 * JIT is off: with it on nothing can interrupt a loop.
 */
#ifndef MAYDAY_RULES_H
#define MAYDAY_RULES_H

#include "core/event/event.h"
#include "core/filter/routes_learn.h"

typedef struct mayday_rules mayday_rules_t;

typedef enum {
    MAYDAY_RULES_KEEP,
    MAYDAY_RULES_DROP,  /* a rule returned nil and a reason             */
    MAYDAY_RULES_FAILED /* error, or over its bounds: degrade the event */
} mayday_rules_verdict_t;

typedef struct {
    mayday_rules_verdict_t verdict;
    char reason[128]; /* of a drop, as given: "bot"                       */
    char hook[32];    /* of both: "before_send" or "event_processor"      */
    char where[256];  /* of both: file and line of that function          */
    char error[512];  /* of a failure: "rules.lua:12: attempt to …"        */
    bool restarted;   /* the rules kept too much memory: what they kept is gone */
} mayday_rules_result_t;

/*
 * Loads a rules file. NULL: error says file, line and what is wrong; nothing
 * else happened, so the rules in force stay. lua_dir: where the standard rules
 * (mayday.*) are. hash_key: 16 bytes, of mayday.hmac; NULL: there is none, and
 * that function is an error.
 */
mayday_rules_t *mayday_rules_new(const char *file, const char *lua_dir, const uint8_t *hash_key,
                                 char *error, size_t error_size);
void mayday_rules_free(mayday_rules_t *rules);

/*
 * Runs event processors and before_send. What the rules changed has replaced
 * the event's parts when it returns, also in observe mode: then the caller
 * runs it on a copy or ignores the result.
 */
void mayday_rules_run(mayday_rules_t *rules, mayday_event_t *event, mayday_rules_result_t *result);

/*
 * For measuring: settle collects garbage, and after the next run memory is what
 * that run needed at most, in bytes beyond what the rules kept before.
 */
void mayday_rules_settle(mayday_rules_t *rules);
size_t mayday_rules_memory(const mayday_rules_t *rules);

/* ---- rules_routes.c ---- */

/*
 * Gives the event the route that the rules have a template for, or that was
 * learned. Right after mayday_event_init; rules may be NULL.
 */
void mayday_rules_route(const mayday_rules_t *rules, const mayday_learner_t *learner,
                        mayday_event_t *event);

/* Counts the route of an event that rules have let pass, and keeps what that teaches. */
void mayday_rules_learn(mayday_learner_t *learner, const mayday_event_t *event);

/* Turns learning on, with a file in directory, or off, as the rules say; NULL: off. */
void mayday_rules_learner(const mayday_rules_t *rules, mayday_learner_t *learner,
                          const char *directory);

/* Forgets what was learned, and removes its file in directory, whether learning is on or not. */
void mayday_rules_forget_routes(mayday_learner_t *learner, const char *directory);

#endif
