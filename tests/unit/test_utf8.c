/*
 * Text from outside made fit for JSON, and scanning for plain text.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/event/utf8.h"

#define R "\xef\xbf\xbd"

static void
assert_clean(mayday_slice_t text, size_t chars_max, mayday_rc_t rc, const char *expected)
{
    char out[256];
    mayday_utf8_info_t info;

    assert_true(MAYDAY_UTF8_SIZE(text.len) <= sizeof(out));
    assert_int_equal(mayday_utf8_clean(out, MAYDAY_UTF8_SIZE(text.len), text, chars_max, &info),
                     rc);
    assert_string_equal(out, expected);
    assert_int_equal(info.len, strlen(expected));
}

static void
test_utf8_clean__no_room(void **state)
{
    char out[8] = "xxxxxxx";

    (void) state;
    assert_int_equal(mayday_utf8_clean(out, sizeof(out), MAYDAY_SLICE("12345678"), 99, NULL),
                     MAYDAY_FULL);
    assert_string_equal(out, "");
    assert_int_equal(mayday_utf8_clean(out, sizeof(out), MAYDAY_SLICE("\xff\xff\xff"), 99, NULL),
                     MAYDAY_FULL);
    assert_string_equal(out, "");
    assert_int_equal(mayday_utf8_clean(out, 0, MAYDAY_SLICE("a"), 99, NULL), MAYDAY_FULL);
}

static void
test_utf8_clean__broken(void **state)
{
    (void) state;
    assert_clean(MAYDAY_SLICE("a\xff z"), 99, MAYDAY_OK, "a" R " z");
    assert_clean(MAYDAY_SLICE("\xc0\xaf"), 99, MAYDAY_OK, R R);       /* overlong  */
    assert_clean(MAYDAY_SLICE("\xed\xa0\x80"), 99, MAYDAY_OK, R R R); /* surrogate */
    assert_clean(MAYDAY_SLICE("\xf4\x90\x80\x80"), 99, MAYDAY_OK, R R R R);
    assert_clean(MAYDAY_SLICE("x\xe2\x82"), 99, MAYDAY_OK, "x" R R); /* broken off */
    assert_clean(MAYDAY_SLICE("a\0b"), 99, MAYDAY_OK, "a" R "b");
}

static void
test_utf8_clean__valid(void **state)
{
    (void) state;
    assert_clean(mayday_slice(NULL, 0), 99, MAYDAY_OK, "");
    assert_clean(MAYDAY_SLICE("plain\t\x7f"), 99, MAYDAY_OK, "plain\t\x7f");
    assert_clean(MAYDAY_SLICE("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"), 99, MAYDAY_OK,
                 "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

static void
test_utf8_clean__cut_at_characters(void **state)
{
    (void) state;
    assert_clean(MAYDAY_SLICE("abcdef"), 6, MAYDAY_OK, "abcdef");
    assert_clean(MAYDAY_SLICE("abcdefg"), 6, MAYDAY_TRUNCATED, "abc...");
    assert_clean(MAYDAY_SLICE("abcdefg"), 3, MAYDAY_TRUNCATED, "...");
    assert_clean(MAYDAY_SLICE("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"), 5, MAYDAY_OK,
                 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
    assert_clean(MAYDAY_SLICE("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"), 4, MAYDAY_TRUNCATED,
                 "\xc3\xa9...");
    assert_clean(MAYDAY_SLICE("\xff\xff\xff\xff"), 3, MAYDAY_TRUNCATED, "...");
}

static void
test_utf8_clean__tells_lengths(void **state)
{
    char out[64];
    mayday_utf8_info_t info;

    (void) state;
    assert_int_equal(mayday_utf8_clean(out, sizeof(out),
                                       MAYDAY_SLICE("\xc3\xa9\xff"
                                                    "cdefg"),
                                       5, &info),
                     MAYDAY_TRUNCATED);
    assert_string_equal(out, "\xc3\xa9" R "...");
    assert_int_equal(info.chars, 5);
    assert_int_equal(info.chars_whole, 7);
    assert_int_equal(info.len, 8);
}

static void
test_utf8_is_plain__every_byte_at_every_place(void **state)
{
    char text[19];

    (void) state;
    for (size_t at = 0; at < sizeof(text); at++) {
        for (int byte = 0; byte < 256; byte++) {
            memset(text, 'a', sizeof(text));
            text[at] = (char) byte;
            assert_int_equal(mayday_utf8_is_plain(mayday_slice(text, sizeof(text))),
                             byte > 0 && byte < 0x80);
        }
    }
    assert_true(mayday_utf8_is_plain(mayday_slice(NULL, 0)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_clean__no_room),
        cmocka_unit_test(test_utf8_clean__broken),
        cmocka_unit_test(test_utf8_clean__valid),
        cmocka_unit_test(test_utf8_clean__cut_at_characters),
        cmocka_unit_test(test_utf8_clean__tells_lengths),
        cmocka_unit_test(test_utf8_is_plain__every_byte_at_every_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
