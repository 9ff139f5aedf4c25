/*
 * The guard between what came from outside and the terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cli/term.h"

typedef struct {
    mayday_term_t term;
    char *text;
    size_t len;
} fixture_t;

static int
set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(setenv("LC_ALL", "C.UTF-8", 1), 0);
    mayday_term_init(&f->term, stdout);
    f->term = (mayday_term_t){.out = open_memstream(&f->text, &f->len), .utf8 = true};
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture_t *f = *state;

    fclose(f->term.out);
    free(f->text);
    free(f);
    return 0;
}

static void
assert_printed(fixture_t *f, const char *wanted)
{
    fflush(f->term.out);
    assert_string_equal(f->text, wanted);
    rewind(f->term.out);
}

static void
assert_shown(fixture_t *f, mayday_slice_t text, const char *wanted)
{
    unsigned columns = mayday_term_text(&f->term, MAYDAY_STYLE_PLAIN, text, 0);

    fputc('\0', f->term.out);
    assert_printed(f, wanted);
    assert_int_equal(columns, mayday_term_width(&f->term, text));
}

static void
assert_cut(fixture_t *f, const char *text, unsigned columns, const char *wanted)
{
    assert_true(mayday_term_text(&f->term, MAYDAY_STYLE_PLAIN, mayday_slice_str(text), columns) <=
                columns);
    fputc('\0', f->term.out);
    assert_printed(f, wanted);
}

static void
test_term_text__control_characters(void **state)
{
    fixture_t *f = *state;

    assert_shown(f, MAYDAY_SLICE("a\033[31mred\033[0m"), "a\\x1b[31mred\\x1b[0m");
    assert_shown(f, MAYDAY_SLICE("a\nb\tc\rd\be\a"), "a\\nb\\tc\\rd\\x08e\\x07");
    assert_shown(f, MAYDAY_SLICE("\0\x7f"), "\\x00\\x7f");
    assert_shown(f,
                 MAYDAY_SLICE("\xc2\x9b"
                              "31m"),
                 "\\u{9b}31m"); /* C1 CSI */
}

static void
test_term_text__hidden_and_direction_changing(void **state)
{
    fixture_t *f = *state;

    assert_shown(f,
                 MAYDAY_SLICE("a\xe2\x80\xae"
                              "b"),
                 "a\\u{202e}b");
    assert_shown(f, MAYDAY_SLICE("\xe2\x81\xa6\xe2\x81\xa9"), "\\u{2066}\\u{2069}");
    assert_shown(f, MAYDAY_SLICE("\xe2\x80\x8b\xef\xbb\xbf\xc2\xad"), "\\u{200b}\\u{feff}\\u{ad}");
    assert_shown(f, MAYDAY_SLICE("\xf3\xa0\x81\x81"), "\\u{e0041}");
}

static void
test_term_text__invalid_utf8(void **state)
{
    fixture_t *f = *state;

    assert_shown(f, MAYDAY_SLICE("a\xff\xc3("), "a\\xff\\xc3(");
    assert_shown(f, MAYDAY_SLICE("\xe2\x82"), "\\xe2\\x82");
}

static void
test_term_text__utf8(void **state)
{
    fixture_t *f = *state;

    assert_shown(f, MAYDAY_SLICE("caf\xc3\xa9 \xe6\x97\xa5"), "caf\xc3\xa9 \xe6\x97\xa5");
    assert_int_equal(mayday_term_width(&f->term, MAYDAY_SLICE("caf\xc3\xa9 \xe6\x97\xa5")), 7);
    f->term.utf8 = false;
    assert_shown(f, MAYDAY_SLICE("caf\xc3\xa9"), "caf\\u{e9}");
}

static void
test_term_text__cut(void **state)
{
    fixture_t *f = *state;

    assert_cut(f, "abcdef", 6, "abcdef");
    assert_cut(f, "abcdefg", 6, "abcde\xe2\x80\xa6");
    assert_cut(f,
               "abcd\xe6\x97\xa5"
               "fg",
               6, "abcd\xe2\x80\xa6");                  /* wide: not half of it */
    assert_cut(f, "abc\033[31m", 6, "abc\xe2\x80\xa6"); /* no half of an escape */
    assert_cut(f, "\xe6\x97\xa5\xe6\x97\xa5", 1, "\xe2\x80\xa6");
    f->term.utf8 = false;
    assert_cut(f, "abcdefg", 6, "abcde~");
}

static void
test_term_text__colours(void **state)
{
    fixture_t *f = *state;

    f->term.colour = true;
    (void) mayday_term_text(&f->term, MAYDAY_STYLE_ERROR, MAYDAY_SLICE("x\033"), 0);
    assert_printed(f, "\033[31mx\\x1b\033[0m");
}

static void
test_term_json__stays_json(void **state)
{
    fixture_t *f = *state;

    mayday_term_json(&f->term, MAYDAY_SLICE("{\"a\":\"\xe2\x80\xae\xc2\x9b\x7f\xff\xf3\xa0\x81\x81"
                                            "\xc3\xa9\\n\"}\n"));
    assert_printed(f, "{\"a\":\"\\u202e\\u009b\\u007f\\ufffd\\udb40\\udc41\xc3\xa9\\n\"}\n");
}

static void
test_term_lines__keeps_line_ends_only(void **state)
{
    fixture_t *f = *state;

    mayday_term_lines(&f->term, MAYDAY_SLICE("a 1\nb\033 2\nc"));
    assert_printed(f, "a 1\nb\\x1b 2\nc\n");
}

static void
test_term_column__pads(void **state)
{
    fixture_t *f = *state;

    mayday_term_column(&f->term, MAYDAY_STYLE_PLAIN, MAYDAY_SLICE("\xe6\x97\xa5"), 4);
    mayday_term_column(&f->term, MAYDAY_STYLE_PLAIN, MAYDAY_SLICE("long"), 2);
    assert_printed(f, "\xe6\x97\xa5  long");
}

static void
test_term_init__not_a_terminal(void **state)
{
    mayday_term_t term;
    FILE *file = tmpfile();

    (void) state;
    assert_non_null(file);
    mayday_term_init(&term, file);
    assert_false(term.colour);
    assert_int_equal(term.width, 0);
    fclose(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_term_text__control_characters),
        TEST(test_term_text__hidden_and_direction_changing),
        TEST(test_term_text__invalid_utf8),
        TEST(test_term_text__utf8),
        TEST(test_term_text__cut),
        TEST(test_term_text__colours),
        TEST(test_term_json__stays_json),
        TEST(test_term_lines__keeps_line_ends_only),
        TEST(test_term_column__pads),
        TEST(test_term_init__not_a_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
