/*
 * Names of the kinds of failure (kinds.def). Runs anywhere, allocates nothing.
 */
#include "core/capture/conf.h"

static const char *const names[] = {
#define MAYDAY_KIND(id, name, type, level, family, says, meaning) name,
#include "core/capture/kinds.def"
#undef MAYDAY_KIND
};

mayday_kind_t
mayday_kind_find(mayday_slice_t name)
{
    for (unsigned kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        if (mayday_slice_eq(name, mayday_slice_str(names[kind]))) {
            return (mayday_kind_t) kind;
        }
    }
    return MAYDAY_KIND_NONE;
}

const char *
mayday_kind_name(mayday_kind_t kind)
{
    return (unsigned) kind < MAYDAY_KIND_MAX ? names[kind] : "none";
}
