/*
 * A tree of names, bounded, for routes_learn.c alone: each place has a name among
 * its siblings, a count and a flag.
 *
 * Places are numbers; 0 is none. A tree of zeroes is one without places in which
 * nothing is found. Allocates when it is made; runs in the agent's pipeline thread.
 */
#ifndef MAYDAY_ROUTES_TREE_H
#define MAYDAY_ROUTES_TREE_H

#include "core/base/base.h"

#define MAYDAY_TREE_ROOT 1u
#define MAYDAY_TREE_NAME_MAX 256 /* bytes */

typedef struct {
    uint32_t parent, first, next; /* places */
    uint32_t name, name_len;      /* in names */
    uint32_t count;
    bool flag;
    bool merged; /* into another: no longer there */
} mayday_tree_place_t;

typedef struct {
    mayday_tree_place_t *places;
    uint32_t used, max; /* of places; [0] is not used */
    char *names;
    size_t names_used, names_max;
    uint32_t *table; /* places by parent and name; open addressing */
    size_t table_used, table_size;
    uint8_t key[16]; /* so that nobody outside can make names collide */
} mayday_tree_t;

/* With room for max places and so many bytes of names. MAYDAY_NO_MEMORY: t is all zeroes. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_tree_init(mayday_tree_t *t, uint32_t max, size_t names_max);
void mayday_tree_fini(mayday_tree_t *t);

/* Only the root is left. */
void mayday_tree_clear(mayday_tree_t *t);

/* The child of that name; 0: there is none. */
uint32_t mayday_tree_find(const mayday_tree_t *t, uint32_t parent, mayday_slice_t name);

/* The same, made where it is not there; 0: there is no room. */
uint32_t mayday_tree_add(mayday_tree_t *t, uint32_t parent, mayday_slice_t name);

/*
 * Adds the counts and children of `from` to `into`, those of one name together;
 * from is then gone. False: there is no room, and some may be lost.
 */
bool mayday_tree_merge(mayday_tree_t *t, uint32_t into, uint32_t from);

/* A place's children, the youngest first; 0: no more. */
uint32_t mayday_tree_first(const mayday_tree_t *t, uint32_t place);
uint32_t mayday_tree_next(const mayday_tree_t *t, uint32_t place);

mayday_slice_t mayday_tree_name(const mayday_tree_t *t, uint32_t place);

#endif
