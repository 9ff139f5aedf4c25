/*
 * The kinds of failure as an enum. The numbers stand in records, so they never
 * change. Both sides of a lane include this.
 */
#ifndef MAYDAY_KIND_FORMAT_H
#define MAYDAY_KIND_FORMAT_H

#include "core/base/base.h"

typedef enum {
#define MAYDAY_KIND(id, name, type, level, family, says, meaning) MAYDAY_KIND_##id,
#include "core/capture/kinds.def"
#undef MAYDAY_KIND
    MAYDAY_KIND_MAX,
    MAYDAY_KIND_NONE = MAYDAY_KIND_MAX
} mayday_kind_t;

/* The name of a kind, "none" for a number that is none. */
const char *mayday_kind_name(mayday_kind_t kind);

_Static_assert(MAYDAY_KIND_MAX < 32, "a set of kinds is a 32-bit mask");

#endif
