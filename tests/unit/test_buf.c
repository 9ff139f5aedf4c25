/*
 * The bounded text buffer: nothing is ever written behind its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/buf.h"

/* A buffer of 8 bytes between two guards. */
typedef struct {
    char before[4];
    char storage[8];
    char after[4];
} guarded_t;

static void
guarded_init(guarded_t *g, mayday_buf_t *b)
{
    memset(g, '#', sizeof(*g));
    mayday_buf_init(b, g->storage, sizeof(g->storage));
}

static void
assert_guards(const guarded_t *g)
{
    assert_memory_equal(g->before, "####", 4);
    assert_memory_equal(g->after, "####", 4);
}

static void
test_buf_add__cut(void **state)
{
    guarded_t g;
    mayday_buf_t b;

    (void) state;
    guarded_init(&g, &b);
    mayday_buf_adds(&b, "12345");
    assert_false(b.truncated);
    mayday_buf_adds(&b, "6789");
    assert_true(b.truncated);
    assert_string_equal(b.data, "1234567");
    mayday_buf_addc(&b, 'x');
    mayday_buf_add(&b, mayday_slice(NULL, 0));
    assert_string_equal(b.data, "1234567");
    assert_int_equal(b.len, 7);
    assert_guards(&g);
}

static void
test_buf_addf__cut(void **state)
{
    guarded_t g;
    mayday_buf_t b;

    (void) state;
    guarded_init(&g, &b);
    mayday_buf_addf(&b, "%d-%s", 12, "abcdefgh");
    assert_true(b.truncated);
    assert_string_equal(b.data, "12-abcd");
    assert_int_equal(b.len, 7);
    mayday_buf_addf(&b, "%d", 1);
    assert_string_equal(b.data, "12-abcd");
    assert_guards(&g);
}

static void
test_buf__no_room_at_all(void **state)
{
    char storage[1] = {'#'};
    mayday_buf_t b;

    (void) state;
    mayday_buf_init(&b, storage, sizeof(storage));
    assert_string_equal(b.data, "");
    mayday_buf_addf(&b, "%s", "");
    assert_false(b.truncated);
    mayday_buf_addc(&b, 'x');
    assert_true(b.truncated);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
}

static void
test_buf__exact_fit(void **state)
{
    guarded_t g;
    mayday_buf_t b;

    (void) state;
    guarded_init(&g, &b);
    mayday_buf_addc(&b, 'a');
    mayday_buf_addf(&b, "%s", "bcd");
    mayday_buf_add(&b, MAYDAY_SLICE("efg"));
    assert_false(b.truncated);
    assert_true(mayday_slice_eq(mayday_buf_slice(&b), MAYDAY_SLICE("abcdefg")));
    assert_guards(&g);
}

static void
test_buf_add_encoded__all_but_unreserved(void **state)
{
    char storage[64];
    mayday_buf_t b;

    (void) state;
    mayday_buf_init(&b, storage, sizeof(storage));
    mayday_buf_add_encoded(&b, mayday_slice("\0 %&+,/=\x80\xff", 10));
    assert_string_equal(b.data, "%00%20%25%26%2B%2C%2F%3D%80%FF");
    mayday_buf_init(&b, storage, sizeof(storage));
    mayday_buf_add_encoded(&b, MAYDAY_SLICE("azAZ09-._~"));
    assert_string_equal(b.data, "azAZ09-._~");
    mayday_buf_init(&b, storage, sizeof(storage));
    mayday_buf_add_encoded(&b, MAYDAY_SLICE(""));
    assert_string_equal(b.data, "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_add__cut),
        cmocka_unit_test(test_buf_addf__cut),
        cmocka_unit_test(test_buf__no_room_at_all),
        cmocka_unit_test(test_buf__exact_fit),
        cmocka_unit_test(test_buf_add_encoded__all_but_unreserved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
