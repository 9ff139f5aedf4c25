/*
 * Slices, hex, hash, clocks, random bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/base.h"

static void
test_slice_ieq__differs(void **state)
{
    (void) state;
    assert_false(mayday_slice_ieq(MAYDAY_SLICE("abc"), MAYDAY_SLICE("abcd")));
    assert_false(mayday_slice_ieq(MAYDAY_SLICE("abc"), MAYDAY_SLICE("abd")));
    /* The bit that tells the cases of letters apart means nothing elsewhere. */
    assert_false(mayday_slice_ieq(MAYDAY_SLICE("@[`{"), MAYDAY_SLICE("`{@[")));
    assert_false(mayday_slice_ieq(MAYDAY_SLICE("\xc3\x84"), MAYDAY_SLICE("\xc3\xa4")));
}

static void
test_slice_ieq__same(void **state)
{
    (void) state;
    assert_true(mayday_slice_ieq(mayday_slice(NULL, 0), MAYDAY_SLICE("")));
    assert_true(mayday_slice_ieq(MAYDAY_SLICE("Content-TYPE-9"), MAYDAY_SLICE("cONTENT-type-9")));
}

static void
test_slice_find__not_there(void **state)
{
    (void) state;
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abc"), MAYDAY_SLICE("abcd"), 0), SIZE_MAX);
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abcab"), MAYDAY_SLICE("abc"), 1), SIZE_MAX);
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abc"), MAYDAY_SLICE("c"), 4), SIZE_MAX);
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abc"), MAYDAY_SLICE(""), 4), SIZE_MAX);
    assert_int_equal(mayday_slice_find(mayday_slice(NULL, 0), MAYDAY_SLICE("a"), 0), SIZE_MAX);
}

static void
test_slice_find__there(void **state)
{
    (void) state;
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abcab"), MAYDAY_SLICE("ab"), 0), 0);
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abcab"), MAYDAY_SLICE("ab"), 1), 3);
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("a\0b"), MAYDAY_SLICE("\0b"), 0), 1);
    assert_int_equal(mayday_slice_find(MAYDAY_SLICE("abc"), MAYDAY_SLICE(""), 3), 3);
}

static void
test_slice_starts__cases(void **state)
{
    (void) state;
    assert_false(mayday_slice_starts(MAYDAY_SLICE("ab"), MAYDAY_SLICE("abc")));
    assert_false(mayday_slice_starts(MAYDAY_SLICE("xab"), MAYDAY_SLICE("ab")));
    assert_true(mayday_slice_starts(MAYDAY_SLICE("abc"), MAYDAY_SLICE("ab")));
    assert_true(mayday_slice_starts(mayday_slice(NULL, 0), mayday_slice(NULL, 0)));
}

static void
test_unhex__refused(void **state)
{
    static const char *const refused[] = {"", "0", "00112", "0011223", "00 1", "0g11", "-011"};
    uint8_t out[2];

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(refused); i++) {
        assert_int_equal(mayday_unhex(out, 2, mayday_slice_str(refused[i])), MAYDAY_INVALID);
    }
    assert_int_equal(mayday_unhex(out, SIZE_MAX / 2 + 2, MAYDAY_SLICE("00")), MAYDAY_INVALID);
}

static void
test_unhex__round_trip(void **state)
{
    uint8_t bytes[256], back[256];
    char hex[513];

    (void) state;
    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (uint8_t) i;
    }
    mayday_hex(hex, bytes, sizeof(bytes));
    assert_int_equal(strlen(hex), 512);
    assert_memory_equal(hex, "000102", 6);
    assert_string_equal(hex + 506, "fdfeff");
    assert_int_equal(mayday_unhex(back, sizeof(back), mayday_slice_str(hex)), MAYDAY_OK);
    assert_memory_equal(bytes, back, sizeof(bytes));
    assert_int_equal(mayday_unhex(back, 3, MAYDAY_SLICE("aAbBfF")), MAYDAY_OK);
    assert_memory_equal(back, "\xaa\xbb\xff", 3);
}

/* Of the vectors that came with the reference implementation: key and input 00 01 02 … */
static void
test_siphash__published_vectors(void **state)
{
    static const struct {
        size_t len;
        const char *hash;
    } vectors[] = {
        {0, "a3817f04ba25a8e66df67214c7550293"},
        {1, "da87c1d86b99af44347659119b22fc45"},
        {2, "8177228da4a45dc7fca38bdef60affe4"},
        {63, "5150d1772f50834a503e069a973fbd7c"},
    };
    uint8_t key[16], input[64], out[MAYDAY_HASH_BYTES];
    char hex[33];

    (void) state;
    for (unsigned i = 0; i < sizeof(input); i++) {
        input[i] = (uint8_t) i;
        key[i % 16] = (uint8_t) (i % 16);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(vectors); i++) {
        mayday_siphash(out, key, input, vectors[i].len);
        mayday_hex(hex, out, sizeof(out));
        assert_string_equal(hex, vectors[i].hash);
    }
}

static void
test_siphash__unaligned(void **state)
{
    static const uint8_t key[16] = {1};
    uint8_t copies[2][40], hashes[2][MAYDAY_HASH_BYTES];

    (void) state;
    for (unsigned i = 0; i < 2; i++) {
        memset(copies[i] + i, 'x', 30);
        mayday_siphash(hashes[i], key, copies[i] + i, 30);
    }
    assert_memory_equal(hashes[0], hashes[1], MAYDAY_HASH_BYTES);
}

static void
test_random__differs(void **state)
{
    uint8_t a[300] = {0}, b[300] = {0};

    (void) state;
    assert_int_equal(mayday_random(a, sizeof(a)), MAYDAY_OK);
    assert_int_equal(mayday_random(b, sizeof(b)), MAYDAY_OK);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a + 270, b + 270, 30);
    assert_int_equal(mayday_random(a, 0), MAYDAY_OK);
}

static void
test_clock__goes_on(void **state)
{
    uint64_t wall = mayday_clock_us(), past = mayday_clock_monotonic_us();

    (void) state;
    assert_true(wall > UINT64_C(1700000000000000));
    assert_true(wall < UINT64_C(32503680000000000)); /* the year 3000: the unit is right */
    assert_true(mayday_clock_monotonic_us() >= past);
}

static void
test_slice_trim__both_ends_only(void **state)
{
    static const char *const blank[] = {"", " ", "\t \r\n"};

    (void) state;
    assert_int_equal(mayday_slice_trim(mayday_slice(NULL, 0)).len, 0);
    for (size_t i = 0; i < MAYDAY_COUNT(blank); i++) {
        assert_int_equal(mayday_slice_trim(mayday_slice_str(blank[i])).len, 0);
    }
    assert_true(
        mayday_slice_eq(mayday_slice_trim(MAYDAY_SLICE(" \ta b\r\n")), MAYDAY_SLICE("a b")));
    assert_true(mayday_slice_eq(mayday_slice_trim(MAYDAY_SLICE("\va\f")), MAYDAY_SLICE("\va\f")));
}

static void
test_hex_digit__others(void **state)
{
    static const char others[] = {'/', ':', '@', 'G', '`', 'g', '\0', (char) 0x80, (char) 0xe1};

    (void) state;
    for (size_t i = 0; i < sizeof(others); i++) {
        assert_int_equal(mayday_hex_digit(others[i]), -1);
    }
    for (int i = 0; i < 16; i++) {
        assert_int_equal(mayday_hex_digit("0123456789abcdef"[i]), i);
        assert_int_equal(mayday_hex_digit("0123456789ABCDEF"[i]), i);
    }
}

static void
test_is_alnum__ascii_only(void **state)
{
    int count = 0;

    (void) state;
    for (int c = -128; c < 128; c++) {
        count += mayday_is_alnum((char) c);
    }
    assert_int_equal(count, 10 + 26 + 26);
    assert_false(mayday_is_alnum((char) 0xe9));
    assert_int_equal(mayday_lower('Z'), 'z');
    assert_int_equal(mayday_lower('['), '[');
    assert_int_equal(mayday_lower((char) 0xc9), (char) 0xc9);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice_ieq__differs),
        cmocka_unit_test(test_slice_ieq__same),
        cmocka_unit_test(test_slice_find__not_there),
        cmocka_unit_test(test_slice_find__there),
        cmocka_unit_test(test_slice_starts__cases),
        cmocka_unit_test(test_unhex__refused),
        cmocka_unit_test(test_unhex__round_trip),
        cmocka_unit_test(test_siphash__published_vectors),
        cmocka_unit_test(test_siphash__unaligned),
        cmocka_unit_test(test_random__differs),
        cmocka_unit_test(test_clock__goes_on),
        cmocka_unit_test(test_slice_trim__both_ends_only),
        cmocka_unit_test(test_hex_digit__others),
        cmocka_unit_test(test_is_alnum__ascii_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
