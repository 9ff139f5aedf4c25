/*
 * Routes that nobody has written down: where one place of a site's paths has very
 * many different names, such as /users/NAME, the names are replaced by "*".
 *
 * A learner counts the segments of routes (already normalised: ids are "*") of the
 * events of one hour, in one tree for each host. When the hour is over, a place
 * that has at least `threshold` children that were seen less than
 * MAYDAY_LEARN_OFTEN times each becomes a wildcard; those of its children that
 * were seen more often stay what they are. Children of children that became one
 * are counted together. The first segment of a path never becomes a wildcard:
 * "/" and "*" alone group nothing.
 *
 * So that an issue does not change its identity again and again,
 *   - what is learned holds from then on, and is never unlearned,
 *   - it is kept in a file, and outlives the agent,
 *   - what was seen often, which somebody may be looking at, keeps its route,
 *   - a burst within an hour decides nothing before the hour is over.
 *
 * Deterministic: the same routes with the same times teach the same. Bounded: so
 * many names in an hour, so many wildcards for good; beyond that nothing is
 * counted, or learned. Times are those of the events.
 *
 * Runs in the agent's pipeline thread; allocates when it is turned on, reads its
 * file then and writes it when something was learned.
 */
#ifndef MAYDAY_ROUTES_LEARN_H
#define MAYDAY_ROUTES_LEARN_H

#include "core/base/buf.h"

#define MAYDAY_LEARN_THRESHOLD 100
#define MAYDAY_LEARN_THRESHOLD_MIN 10
#define MAYDAY_LEARN_OFTEN 10
#define MAYDAY_LEARN_WINDOW_US (UINT64_C(3600) * 1000000)
#define MAYDAY_LEARN_NAMES_MAX 8192 /* places counted in an hour         */
#define MAYDAY_LEARNED_MAX 2048     /* places that what was learned names */

typedef struct mayday_learner mayday_learner_t;

/* NULL: no memory. Is off. */
mayday_learner_t *mayday_learner_new(void);
void mayday_learner_free(mayday_learner_t *learner);

/*
 * Turns it on: reads what was learned from file, if that is there, and keeps it
 * there. Turned on already, with the same file: only the threshold is changed.
 * MAYDAY_NO_MEMORY: it is off. MAYDAY_INVALID: the file is not one of these, and
 * will be replaced. MAYDAY_ERROR: errno says why it cannot be read.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_learner_on(mayday_learner_t *learner, const char *file,
                                                unsigned threshold);
void mayday_learner_off(mayday_learner_t *learner);
bool mayday_learner_is_on(const mayday_learner_t *learner);

/* Begins anew, on or off; the file is the caller's to remove. */
void mayday_learner_forget(mayday_learner_t *learner);

/* Appends the route with what was learned of that host. */
void mayday_learner_apply(const mayday_learner_t *learner, mayday_slice_t host,
                          mayday_slice_t route, mayday_buf_t *out);

/*
 * Counts a route, as mayday_learner_apply gave it. Returns how many places became
 * wildcards just now, because an hour was over; then the file is to be written.
 */
size_t mayday_learner_note(mayday_learner_t *learner, mayday_slice_t host, mayday_slice_t route,
                           uint64_t time_us);

/* Writes the file. MAYDAY_ERROR: errno says why not. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_learner_save(const mayday_learner_t *learner);

#endif
