/*
 * Who asks: what an agent (the User-Agent header) tells of programs.
 *
 * All that is known is in two tables, bots_classes.def and bots.def; a team can
 * add to them. One pass over the agent finds all of it (bots_words.h); then what
 * is most telling counts:
 *   1. what the team added, the first found
 *   2. the name of a program
 *   3. a person's browser or app whose agent holds one of the next words
 *   4. a word that programs use of themselves, such as "bot"
 *   5. a library or tool
 *   6. a manner of programs, such as "(compatible; ", where no browser has it
 * and of an agent with none of these, whether it shows any sign of a browser, a
 * device or a system; if not, it is some program.
 *
 * Runs in the agent's pipeline thread. Allocates when made and when something is
 * added, never when it classifies.
 */
#ifndef MAYDAY_BOTS_H
#define MAYDAY_BOTS_H

#include "core/base/base.h"

typedef enum {
#define MAYDAY_BOT_CLASS(id, name, by_default, meaning) MAYDAY_BOT_##id,
#include "core/filter/bots_classes.def"
#undef MAYDAY_BOT_CLASS
    MAYDAY_BOT_CLASS_MAX
} mayday_bot_class_t;

/* Only so much of an agent is looked at; longer ones are made up. */
#define MAYDAY_BOT_AGENT_MAX 448
#define MAYDAY_BOT_NAME_MAX 64
#define MAYDAY_BOTS_ADDED_MAX 256 /* of a team */

typedef struct mayday_bots mayday_bots_t;

typedef struct {
    mayday_bot_class_t class;
    mayday_slice_t name; /* in the tables or in the agent; empty: it gives none */
} mayday_bot_t;

/* NULL: no memory. */
mayday_bots_t *mayday_bots_new(void);
void mayday_bots_free(mayday_bots_t *bots);

/*
 * Adds a pattern, a word as in bots_words.h; name is what classify gives, the
 * pattern where it is empty. Copies both. MAYDAY_INVALID: not a word, or the
 * name too long; MAYDAY_FULL; MAYDAY_NO_MEMORY. Nothing has changed then.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_bots_add(mayday_bots_t *bots, mayday_bot_class_t class,
                                              mayday_slice_t name, mayday_slice_t pattern);

/* Never fails: an agent that nothing is known about is of class NONE. */
mayday_bot_t mayday_bots_classify(const mayday_bots_t *bots, mayday_slice_t agent);

/* Names of classes; MAYDAY_BOT_NONE: there is none of that name. */
const char *mayday_bot_class_name(mayday_bot_class_t class);
mayday_bot_class_t mayday_bot_class_find(mayday_slice_t name);

/* The classes that are bots where nobody says otherwise, 1 << class each. */
uint32_t mayday_bot_classes_default(void);

#endif
