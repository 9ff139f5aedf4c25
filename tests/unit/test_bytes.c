/* Copies and comparisons in place: every length, and not one byte beside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/bytes.h"

#define LEN_MAX 100

/* On the heap in exactly its size, so that sanitizers see a byte too many. */
static char *
text_of(size_t len)
{
    char *text = malloc(len > 0 ? len : 1);

    assert_non_null(text);
    for (size_t i = 0; i < len; i++) {
        text[i] = (char) (i * 7 + 1);
    }
    return text;
}

static void
test_copy__nothing(void **state)
{
    char out = 'x';

    (void) state;
    mayday_copy(&out, NULL, 0);
    assert_int_equal(out, 'x');
}

static void
test_copy__every_length(void **state)
{
    (void) state;
    for (size_t len = 0; len <= LEN_MAX; len++) {
        char *text = text_of(len), out[LEN_MAX + 2];

        memset(out, '#', sizeof(out));
        mayday_copy(out + 1, text, len);
        assert_memory_equal(out + 1, text, len);
        assert_int_equal(out[0], '#');
        assert_int_equal(out[len + 1], '#');
        free(text);
    }
}

static void
test_same__differs_in_one_byte(void **state)
{
    (void) state;
    for (size_t len = 8; len <= LEN_MAX; len++) {
        char *a = text_of(len), *b = text_of(len);

        assert_true(mayday_same(a, b, len));
        for (size_t i = 0; i < len; i++) {
            b[i] ^= 0x20;
            assert_false(mayday_same(a, b, len));
            b[i] ^= 0x20;
        }
        free(a);
        free(b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy__nothing),
        cmocka_unit_test(test_copy__every_length),
        cmocka_unit_test(test_same__differs_in_one_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
