/*
 * See routes.h. Templates are compared as they were written, segment by segment:
 * most differ from a path in the first, so there is nothing to gain by a tree.
 */
#include <stdlib.h>

#include "core/filter/routes.h"

#define SEGMENT_MAX 256 /* bytes of a path's segment that are decoded; longer ones fit only {} */

typedef struct {
    char text[MAYDAY_TEMPLATE_LEN_MAX];
    size_t len;
} template_t;

struct mayday_templates {
    size_t count;
    template_t templates[MAYDAY_TEMPLATES_MAX];
};

mayday_templates_t *
mayday_templates_new(void)
{
    return calloc(1, sizeof(mayday_templates_t));
}

void
mayday_templates_free(mayday_templates_t *templates)
{
    free(templates);
}

/* Takes the next segment off the front of rest, with the "/" before it. False: there is none. */
static bool
next_segment(mayday_slice_t *rest, mayday_slice_t *segment)
{
    size_t end;

    if (rest->len == 0 || (rest->len == 1 && rest->data[0] == '/')) {
        return false;
    }
    end = mayday_slice_find(*rest, MAYDAY_SLICE("/"), 1);
    end = end == SIZE_MAX ? rest->len : end;
    *segment = mayday_slice(rest->data + 1, end - 1);
    *rest = mayday_slice(rest->data + end, rest->len - end);
    return true;
}

/* Where in a segment of a template {name} or * stands; false: nowhere, it is itself. */
static bool
find_hole(mayday_slice_t segment, size_t *begin, size_t *end)
{
    if (mayday_slice_eq(segment, MAYDAY_SLICE("*"))) {
        *begin = 0;
        *end = 1;
        return true;
    }
    *begin = mayday_slice_find(segment, MAYDAY_SLICE("{"), 0);
    if (*begin == SIZE_MAX) {
        return false;
    }
    *end = mayday_slice_find(segment, MAYDAY_SLICE("}"), *begin);
    *end = *end == SIZE_MAX ? segment.len : *end + 1;
    return true;
}

/* ---- adding ---- */

static const char *
check_segment(mayday_slice_t segment, bool last)
{
    size_t begin, end;

    if (segment.len == 0) {
        return "has an empty segment";
    }
    if (mayday_slice_eq(segment, MAYDAY_SLICE("**"))) {
        return last ? NULL : "has ** elsewhere than at its end";
    }
    if (find_hole(segment, &begin, &end)) {
        mayday_slice_t rest = mayday_slice(segment.data + end, segment.len - end);

        if (segment.data[begin] == '{' && (segment.data[end - 1] != '}' || end - begin < 3)) {
            return "has a { without a name and } behind it";
        }
        if (mayday_slice_find(rest, MAYDAY_SLICE("{"), 0) != SIZE_MAX) {
            return "has two names in one segment";
        }
    }
    return NULL;
}

const char *
mayday_templates_add(mayday_templates_t *templates, mayday_slice_t text)
{
    mayday_slice_t rest = text, segment;
    template_t *t;

    if (text.len == 0 || text.data[0] != '/') {
        return "does not begin with /";
    }
    if (text.len > MAYDAY_TEMPLATE_LEN_MAX) {
        return "is longer than 200 bytes";
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < ' ' || text.data[i] == 0x7f) {
            return "has other characters than printable ASCII; write them percent-decoded in "
                   "the path and leave them to {name} here";
        }
    }
    while (next_segment(&rest, &segment)) {
        const char *wrong = check_segment(segment, rest.len == 0);

        if (wrong != NULL) {
            return wrong;
        }
    }
    if (templates->count == MAYDAY_TEMPLATES_MAX) {
        return "is one too many: there are already 256";
    }
    t = &templates->templates[templates->count++];
    memcpy(t->text, text.data, text.len);
    t->len = text.len;
    return NULL;
}

/* ---- finding ---- */

/* The segment, percent-decoded into storage; as it is where it is too long for that. */
static mayday_slice_t
decode(mayday_slice_t segment, char storage[SEGMENT_MAX])
{
    size_t len = 0;

    if (segment.len > SEGMENT_MAX || memchr(segment.data, '%', segment.len) == NULL) {
        return segment;
    }
    for (size_t i = 0; i < segment.len; i++) {
        int high = -1, low = -1;

        if (segment.data[i] == '%' && i + 2 < segment.len) {
            high = mayday_hex_digit(segment.data[i + 1]);
            low = mayday_hex_digit(segment.data[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            storage[len++] = (char) (high << 4 | low);
            i += 2;
        } else {
            storage[len++] = segment.data[i];
        }
    }
    return mayday_slice(storage, len);
}

static bool
segment_fits(mayday_slice_t wanted, mayday_slice_t segment)
{
    char storage[SEGMENT_MAX];
    size_t begin, end, behind;

    if (!find_hole(wanted, &begin, &end)) {
        return mayday_slice_eq(wanted, decode(segment, storage));
    }
    if (begin == 0 && end == wanted.len) {
        return segment.len > 0;
    }
    segment = decode(segment, storage);
    behind = wanted.len - end;
    return segment.len > begin + behind && memcmp(segment.data, wanted.data, begin) == 0 &&
           memcmp(segment.data + segment.len - behind, wanted.data + end, behind) == 0;
}

static bool
template_fits(mayday_slice_t text, mayday_slice_t path)
{
    mayday_slice_t wanted, segment;

    while (next_segment(&text, &wanted)) {
        if (mayday_slice_eq(wanted, MAYDAY_SLICE("**"))) {
            return true;
        }
        if (!next_segment(&path, &segment) || !segment_fits(wanted, segment)) {
            return false;
        }
    }
    return !next_segment(&path, &segment);
}

mayday_slice_t
mayday_templates_find(const mayday_templates_t *templates, mayday_slice_t path)
{
    if (path.len > 0 && path.data[0] == '/') {
        for (size_t i = 0; i < templates->count; i++) {
            const template_t *t = &templates->templates[i];

            if (template_fits(mayday_slice(t->text, t->len), path)) {
                return mayday_slice(t->text, t->len);
            }
        }
    }
    return mayday_slice(NULL, 0);
}
