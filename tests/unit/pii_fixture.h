/*
 * Scrubbing one text, for the tests of mayday.pii. Included after what it needs.
 */
#ifndef MAYDAY_TEST_PII_FIXTURE_H
#define MAYDAY_TEST_PII_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/filter/pii.h"

static mayday_pii_t pii;
static mayday_pii_remarks_t remarks;

static inline int
pii_set_up(void **state)
{
    (void) state;
    pii = (mayday_pii_t){.kinds = MAYDAY_PII_ALL};
    memcpy(pii.hash_key, "0123456789abcdef", sizeof(pii.hash_key));
    return 0;
}

/* What becomes of a text; the last eight stay valid. */
static inline const char *
scrubbed_as(mayday_pii_place_t place, mayday_pii_name_t name, const char *text)
{
    static char *results[8];
    static unsigned next;
    mayday_slice_t slice = mayday_slice_str(text);
    size_t size = mayday_pii_measure(&pii, place, name, slice);
    mayday_buf_t out;

    mayday_pii_remarks_init(&remarks, NULL, slice);
    if (size == 0) {
        return text;
    }
    next = (next + 1) % MAYDAY_COUNT(results);
    free(results[next]);
    results[next] = malloc(size);
    mayday_buf_init(&out, results[next], size);
    mayday_pii_write(&pii, place, name, slice, &out, &remarks);
    assert_false(out.truncated);
    return results[next];
}

static inline const char *
scrubbed(const char *text)
{
    return scrubbed_as(MAYDAY_PII_PLACE_TEXT, MAYDAY_PII_NAME_PLAIN, text);
}

static inline void
assert_scrubs(const char *text, const char *wanted)
{
    const char *result = scrubbed(text);

    if (strcmp(result, wanted) != 0) {
        fail_msg("\"%s\"\n became \"%s\"\n and not \"%s\"", text, result, wanted);
    }
}

static inline void
assert_stays(const char *text)
{
    assert_scrubs(text, text);
}

#define PII_TEST(name) cmocka_unit_test_setup(name, pii_set_up)

#endif
