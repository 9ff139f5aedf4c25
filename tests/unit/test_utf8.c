/*
 * Strict decoding of UTF-8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/utf8.h"

static void
test_utf8_decode__invalid(void **state)
{
    static const char *const broken[] = {
        "",             "\x80",         "\xbf",             "\xc0\x80",         "\xc1\xbf",
        "\xc3",         "\xc3(",        "\xe0\x80\x80",     "\xe2\x82",         "\xed\xa0\x80",
        "\xf0\x80\x80\x80", "\xf0\x9f\x98", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"};
    uint32_t code;

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(broken); i++) {
        assert_int_equal(mayday_utf8_decode(mayday_slice_str(broken[i]), &code), 0);
    }
}

static void
test_utf8_decode__valid(void **state)
{
    static const struct {
        const char *text;
        uint32_t code;
    } valid[] = {{"A", 'A'},
                 {"\x7f", 0x7f},
                 {"\xc2\x80", 0x80},
                 {"\xc3\xa4", 0xe4},
                 {"\xe0\xa0\x80", 0x800},
                 {"\xed\x9f\xbf", 0xd7ff},
                 {"\xef\xbf\xbd", 0xfffd},
                 {"\xf0\x9f\x98\x80", 0x1f600},
                 {"\xf4\x8f\xbf\xbf", 0x10ffff}};
    uint32_t code;

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(valid); i++) {
        assert_int_equal(mayday_utf8_decode(mayday_slice_str(valid[i].text), &code),
                         strlen(valid[i].text));
        assert_int_equal(code, valid[i].code);
    }
    assert_int_equal(mayday_utf8_decode(mayday_slice("\0", 1), &code), 1);
    assert_int_equal(code, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_decode__invalid),
        cmocka_unit_test(test_utf8_decode__valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
