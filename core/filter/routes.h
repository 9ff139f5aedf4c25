/*
 * Routes that a team has written down: /users/{id}/orders stands for each path
 * of that form. The first template that fits a path is its route; paths that none
 * fits are normalised (core/event/route.c), and may be learned (routes_learn.h).
 *
 * A template is "/" and segments between "/":
 *   {name}   one segment, whatever it is; also as a part of one: report-{id}.pdf
 *   *        the same without a name
 *   **       as the last: whatever follows, also nothing
 *   else     the segment itself, as it is when percent-decoded
 * A "/" at the end means nothing, in templates and in paths.
 *
 * Runs in the agent's pipeline thread. Allocates when made, nothing afterwards.
 */
#ifndef MAYDAY_ROUTES_H
#define MAYDAY_ROUTES_H

#include "core/base/base.h"

#define MAYDAY_TEMPLATES_MAX 256
#define MAYDAY_TEMPLATE_LEN_MAX 200 /* what a transaction's name holds, beside a method */

typedef struct mayday_templates mayday_templates_t;

/* NULL: no memory. */
mayday_templates_t *mayday_templates_new(void);
void mayday_templates_free(mayday_templates_t *templates);

/* Adds one, copied, behind those that are there. NULL: done, else what is wrong, a constant. */
const char *mayday_templates_add(mayday_templates_t *templates, mayday_slice_t text);

/* The first that fits the path, as it was written; empty: none does. */
mayday_slice_t mayday_templates_find(const mayday_templates_t *templates, mayday_slice_t path);

#endif
