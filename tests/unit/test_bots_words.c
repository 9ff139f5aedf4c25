/*
 * Many words in one pass: against looking for each by itself, and the marks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/filter/bots_words.h"

#define WORDS(...) ((const char *const[]){__VA_ARGS__})

/* All that is found, as "word@begin " in the order of finding. */
static void
assert_found(const char *const *words, size_t count, const char *text, const char *expected)
{
    mayday_slice_t slices[8];
    mayday_words_scan_t scan;
    mayday_words_t *compiled;
    char found[256] = "";

    for (size_t i = 0; i < count; i++) {
        slices[i] = mayday_slice_str(words[i]);
    }
    compiled = mayday_words_new(slices, count);
    assert_non_null(compiled);
    mayday_words_begin(&scan, compiled, mayday_slice_str(text));
    while (mayday_words_next(&scan)) {
        size_t len = strlen(found);

        assert_true(scan.begin < scan.end && scan.end <= strlen(text));
        snprintf(found + len, sizeof(found) - len, "%s@%zu ", words[scan.word], scan.begin);
    }
    assert_false(mayday_words_next(&scan));
    assert_string_equal(found, expected);
    mayday_words_free(compiled);
}

#define ASSERT_FOUND(words, text, expected)                                                        \
    assert_found(words, sizeof(words) / sizeof(*(words)), text, expected)

static void
test_words_new__no_words(void **state)
{
    mayday_words_scan_t scan;
    mayday_words_t *words = mayday_words_new(NULL, 0);

    (void) state;
    assert_non_null(words);
    mayday_words_begin(&scan, words, MAYDAY_SLICE("text"));
    assert_false(mayday_words_next(&scan));
    mayday_words_free(words);
    mayday_words_free(NULL);
}

static void
test_words_new__too_many(void **state)
{
    static mayday_slice_t words[MAYDAY_WORDS_MAX + 1];

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(words); i++) {
        words[i] = MAYDAY_SLICE("word");
    }
    assert_null(mayday_words_new(words, MAYDAY_COUNT(words)));
}

static void
test_words_next__nothing_there(void **state)
{
    (void) state;
    ASSERT_FOUND(WORDS("bot", "spider"), "", "");
    ASSERT_FOUND(WORDS("bot", "spider"), "bo", "");
    ASSERT_FOUND(WORDS("bot", "spider"), "b-o-t spide", "");
}

static void
test_words_next__within_one_another(void **state)
{
    (void) state;
    ASSERT_FOUND(WORDS("she", "he", "hers", "his"), "ushers", "she@1 he@2 hers@2 ");
    ASSERT_FOUND(WORDS("aa", "aaa"), "aaaa", "aa@0 aaa@0 aa@1 aaa@1 aa@2 ");
    ASSERT_FOUND(WORDS("cubot", "bot"), "cubot", "cubot@0 bot@2 ");
    ASSERT_FOUND(WORDS("abcd", "bcx", "cd"), "abcd abcx", "abcd@0 cd@2 bcx@6 ");
}

static void
test_words_next__the_same_word_twice(void **state)
{
    (void) state;
    ASSERT_FOUND(WORDS("bot", "bot", "<bot"), "bot xbot", "bot@0 bot@0 <bot@0 bot@5 bot@5 ");
}

static void
test_words_next__case(void **state)
{
    (void) state;
    ASSERT_FOUND(WORDS("BoT"), "bot BOT [OT", "BoT@0 BoT@4 ");
    ASSERT_FOUND(WORDS("a@b"), "A@B a`b", "a@b@0 ");
}

static void
test_words_next__marks(void **state)
{
    (void) state;
    ASSERT_FOUND(WORDS("^bot"), "bot bot", "^bot@0 ");
    ASSERT_FOUND(WORDS("bot$"), "bot bot", "bot$@4 ");
    ASSERT_FOUND(WORDS("^bot$"), "bot", "^bot$@0 ");
    ASSERT_FOUND(WORDS("^bot$"), "bot bot", "");
    ASSERT_FOUND(WORDS("<bot>"), "bot abot bota 1bot2 bot", "<bot>@0 <bot>@15 <bot>@20 ");
    ASSERT_FOUND(WORDS("bot>"), "botB bot_ bot\xc3", "bot>@5 bot>@10 ");
    ASSERT_FOUND(WORDS("a$b"), "a$b", "a$b@0 ");
}

static void
test_word_plain__takes_marks_off(void **state)
{
    mayday_slice_t plain;

    (void) state;
    assert_true(mayday_word_plain(MAYDAY_SLICE("^bot>"), &plain));
    assert_true(mayday_slice_eq(plain, MAYDAY_SLICE("bot")));
    assert_false(mayday_word_plain(mayday_slice("a\0b", 3), &plain));
    assert_false(mayday_word_plain(mayday_slice(NULL, 0), &plain));
}

/* Random words of few letters over random text, against the obvious way. */
static void
test_words_next__as_the_obvious_way(void **state)
{
    unsigned seed = 7;

    (void) state;
    for (int round = 0; round < 300; round++) {
        char words[6][8], text[64];
        mayday_slice_t slices[6];
        mayday_words_scan_t scan;
        mayday_words_t *compiled;
        size_t found = 0, expected = 0;

        for (int i = 0; i < 6; i++) {
            size_t len = 2 + (size_t) rand_r(&seed) % 5;

            for (size_t at = 0; at < len; at++) {
                words[i][at] = (char) ('a' + rand_r(&seed) % 2);
            }
            slices[i] = mayday_slice(words[i], len);
        }
        for (size_t at = 0; at < sizeof(text); at++) {
            text[at] = (char) ('a' + rand_r(&seed) % 2);
        }
        for (size_t at = 0; at < sizeof(text); at++) {
            for (int i = 0; i < 6; i++) {
                expected += at + slices[i].len <= sizeof(text) &&
                            memcmp(text + at, words[i], slices[i].len) == 0;
            }
        }
        compiled = mayday_words_new(slices, 6);
        assert_non_null(compiled);
        mayday_words_begin(&scan, compiled, mayday_slice(text, sizeof(text)));
        while (mayday_words_next(&scan)) {
            assert_int_equal(scan.end - scan.begin, slices[scan.word].len);
            assert_memory_equal(text + scan.begin, words[scan.word], slices[scan.word].len);
            found++;
        }
        assert_int_equal(found, expected);
        mayday_words_free(compiled);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_new__no_words),
        cmocka_unit_test(test_words_new__too_many),
        cmocka_unit_test(test_words_next__nothing_there),
        cmocka_unit_test(test_words_next__within_one_another),
        cmocka_unit_test(test_words_next__the_same_word_twice),
        cmocka_unit_test(test_words_next__case),
        cmocka_unit_test(test_words_next__marks),
        cmocka_unit_test(test_word_plain__takes_marks_off),
        cmocka_unit_test(test_words_next__as_the_obvious_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
