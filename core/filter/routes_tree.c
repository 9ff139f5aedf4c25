/*
 * See routes_tree.h.
 */
#include <stdlib.h>

#include "core/filter/routes_tree.h"

mayday_rc_t
mayday_tree_init(mayday_tree_t *t, uint32_t max, size_t names_max)
{
    memset(t, 0, sizeof(*t));
    t->max = max;
    t->names_max = names_max;
    for (t->table_size = 16; t->table_size < (size_t) max * 4;) {
        t->table_size *= 2;
    }
    t->places = calloc((size_t) max + 2, sizeof(*t->places));
    t->names = malloc(names_max);
    t->table = calloc(t->table_size, sizeof(*t->table));
    if (t->places == NULL || t->names == NULL || t->table == NULL ||
        mayday_random(t->key, sizeof(t->key)) != MAYDAY_OK) {
        mayday_tree_fini(t);
        return MAYDAY_NO_MEMORY;
    }
    mayday_tree_clear(t);
    return MAYDAY_OK;
}

void
mayday_tree_fini(mayday_tree_t *t)
{
    free(t->places);
    free(t->names);
    free(t->table);
    memset(t, 0, sizeof(*t));
}

void
mayday_tree_clear(mayday_tree_t *t)
{
    memset(t->places, 0, ((size_t) t->max + 2) * sizeof(*t->places));
    memset(t->table, 0, t->table_size * sizeof(*t->table));
    t->used = MAYDAY_TREE_ROOT;
    t->names_used = 0;
    t->table_used = 0;
}

/* ---- the table ---- */

static size_t
hash(const mayday_tree_t *t, uint32_t parent, mayday_slice_t name)
{
    char data[sizeof(parent) + MAYDAY_TREE_NAME_MAX];
    uint8_t out[MAYDAY_HASH_BYTES];
    uint64_t word;

    memcpy(data, &parent, sizeof(parent));
    memcpy(data + sizeof(parent), name.data, name.len);
    mayday_siphash(out, t->key, data, sizeof(parent) + name.len);
    memcpy(&word, out, sizeof(word));
    return (size_t) word & (t->table_size - 1);
}

/* Where the table has the child, or would have it. */
static uint32_t *
slot_of(const mayday_tree_t *t, uint32_t parent, mayday_slice_t name)
{
    size_t at = hash(t, parent, name);

    while (t->table[at] != 0) {
        const mayday_tree_place_t *place = &t->places[t->table[at]];

        if (place->parent == parent && !place->merged &&
            mayday_slice_eq(mayday_slice(t->names + place->name, place->name_len), name)) {
            break;
        }
        at = (at + 1) & (t->table_size - 1);
    }
    return &t->table[at];
}

/* Makes the place a child of parent. False: the table is too full. */
static bool
link_child(mayday_tree_t *t, uint32_t parent, uint32_t place)
{
    if (t->table_used >= t->table_size - t->table_size / 4) {
        return false;
    }
    t->places[place].parent = parent;
    t->places[place].next = t->places[parent].first;
    t->places[parent].first = place;
    *slot_of(t, parent, mayday_tree_name(t, place)) = place;
    t->table_used++;
    return true;
}

uint32_t
mayday_tree_find(const mayday_tree_t *t, uint32_t parent, mayday_slice_t name)
{
    if (t->places == NULL || name.len == 0 || name.len > MAYDAY_TREE_NAME_MAX) {
        return 0;
    }
    return *slot_of(t, parent, name);
}

uint32_t
mayday_tree_add(mayday_tree_t *t, uint32_t parent, mayday_slice_t name)
{
    uint32_t place = mayday_tree_find(t, parent, name);

    if (place != 0) {
        return place;
    }
    if (t->places == NULL || name.len == 0 || name.len > MAYDAY_TREE_NAME_MAX || t->used > t->max ||
        name.len > t->names_max - t->names_used) {
        return 0;
    }
    place = t->used + 1;
    t->places[place] =
        (mayday_tree_place_t){.name = (uint32_t) t->names_used, .name_len = (uint32_t) name.len};
    memcpy(t->names + t->names_used, name.data, name.len);
    if (!link_child(t, parent, place)) {
        return 0;
    }
    t->names_used += name.len;
    t->used++;
    return place;
}

/* ---- the tree ---- */

/*
 * Places that moved are in the table twice; where their parent is no longer the
 * old one, that entry fits nothing.
 */
bool
mayday_tree_merge(mayday_tree_t *t, uint32_t into, uint32_t from)
{
    uint32_t child = t->places[from].first, next, same;

    t->places[into].count += t->places[from].count;
    t->places[from].merged = true;
    t->places[from].first = 0;
    for (; child != 0; child = next) {
        next = t->places[child].next;
        if (t->places[child].merged) {
            continue;
        }
        same = mayday_tree_find(t, into, mayday_tree_name(t, child));
        if (same != 0 ? !mayday_tree_merge(t, same, child) : !link_child(t, into, child)) {
            return false;
        }
    }
    return true;
}

static uint32_t
skip_merged(const mayday_tree_t *t, uint32_t place)
{
    while (place != 0 && t->places[place].merged) {
        place = t->places[place].next;
    }
    return place;
}

uint32_t
mayday_tree_first(const mayday_tree_t *t, uint32_t place)
{
    return t->places == NULL ? 0 : skip_merged(t, t->places[place].first);
}

uint32_t
mayday_tree_next(const mayday_tree_t *t, uint32_t place)
{
    return skip_merged(t, t->places[place].next);
}

mayday_slice_t
mayday_tree_name(const mayday_tree_t *t, uint32_t place)
{
    return mayday_slice(t->names + t->places[place].name, t->places[place].name_len);
}
