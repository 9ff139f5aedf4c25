/*
 * What became of an event: the differences of two JSON trees, each under its path
 * as a rule would write it behind "event.":
 *
 *   tags.tenant    request.headers["User-Agent"]    exception.values[1].value
 *
 * Lists count from 1, as in Lua. A list of [name, value] pairs is compared by its
 * names, repeats joined with ", ", as rules see it. Of other lists what is alike
 * at either end is left out, so that an item that was put in or taken out is one
 * difference; a list of plain values is one value. What is null is absent.
 *
 * Runs in the command. Allocates as cJSON does and frees nothing: for an event's
 * arena (core/event/event.h).
 */
#ifndef MAYDAY_DIFF_H
#define MAYDAY_DIFF_H

#include <cjson/cJSON.h>

#include "core/base/buf.h"

#define MAYDAY_DIFF_PATH_SIZE 512

/* One difference; what is shown is valid until the arena is reset, path during the visit. */
typedef struct {
    const char *path;
    const cJSON *old; /* NULL: it was not there */
    const cJSON *now; /* NULL: it is gone       */
} mayday_change_t;

typedef void (*mayday_change_visit_pt)(void *ctx, const mayday_change_t *change);

/* Visits the differences in the order of the old tree, what is new behind. */
void mayday_diff(const cJSON *old, const cJSON *now, mayday_change_visit_pt visit, void *ctx);

#endif
