/*
 * Who asks: each class by its agents, no people among them, and what a team adds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/filter/bots.h"
#include "core/filter/bots_words.h"
#include "tests/unit/bots_samples.h"

static int
set_up(void **state)
{
    *state = mayday_bots_new();
    return *state == NULL;
}

static int
tear_down(void **state)
{
    mayday_bots_free(*state);
    return 0;
}

static mayday_bot_t
classify(void **state, const char *agent)
{
    return mayday_bots_classify(*state, mayday_slice_str(agent));
}

static void
assert_bot(void **state, const char *agent, const char *class, const char *name)
{
    mayday_bot_t bot = classify(state, agent);

    if (strcmp(mayday_bot_class_name(bot.class), class) != 0 ||
        !mayday_slice_eq(bot.name, mayday_slice_str(name))) {
        fail_msg("%s: %s %.*s", agent, mayday_bot_class_name(bot.class), (int) bot.name.len,
                 bot.name.data == NULL ? "" : bot.name.data);
    }
}

static mayday_rc_t
add(void **state, mayday_bot_class_t class, const char *name, const char *pattern)
{
    return mayday_bots_add(*state, class, mayday_slice_str(name), mayday_slice_str(pattern));
}

/* ---- classifying ---- */

static void
test_bots_classify__nothing(void **state)
{
    assert_int_equal(mayday_bots_classify(*state, mayday_slice(NULL, 0)).class, MAYDAY_BOT_MISSING);
    assert_bot(state, "", "missing", "");
    assert_bot(state, " \t ", "missing", "");
}

static void
test_bots_classify__people(void **state)
{
    for (size_t i = 0; i < MAYDAY_COUNT(people); i++) {
        assert_bot(state, people[i], "", "");
    }
    assert_true(MAYDAY_COUNT(people) >= 140);
}

static void
test_bots_classify__programs(void **state)
{
    for (size_t i = 0; i < MAYDAY_COUNT(programs); i++) {
        assert_bot(state, programs[i].agent, programs[i].class, programs[i].name);
    }
    assert_true(MAYDAY_COUNT(programs) >= 140);
}

static void
test_bots_classify__case_does_not_matter(void **state)
{
    assert_bot(state, "GOOGLEBOT/2.1", "crawler", "Googlebot");
    assert_bot(state, "acmebot", "crawler", "acmebot");
    assert_bot(state, "ACMEBOT", "crawler", "ACMEBOT");
}

/* Within words these are not the words. */
static void
test_bots_classify__parts_of_words(void **state)
{
    assert_bot(state, CHROME_LINUX " Bottega/1", "", "");
    assert_bot(state, CHROME_LINUX " Abbott/2", "", "");
    assert_bot(state, CHROME_LINUX " Botanica/2", "", "");
    assert_bot(state, CHROME_LINUX " Seoul/1", "", "");
    assert_bot(state, CHROME_LINUX " Scandinavia/1", "", "");
}

/* Names come from outside: they are short, and of plain bytes. */
static void
test_bots_classify__names_are_bounded(void **state)
{
    char agent[300];
    mayday_bot_t bot;

    memset(agent, 'x', sizeof(agent));
    memcpy(agent + 290, "crawler", 8);
    bot = classify(state, agent);
    assert_int_equal(bot.class, MAYDAY_BOT_CRAWLER);
    assert_int_equal(bot.name.len, MAYDAY_BOT_NAME_MAX);
    assert_bot(state, "\x1b[31mevil\x07-bot\n", "crawler", "-bot");
    assert_bot(state,
               "\xc3\xa4\xc3\xb6"
               "bot/1",
               "crawler", "bot");
}

static void
test_bots_classify__only_so_much_is_looked_at(void **state)
{
    enum { SIZE = 8192 };
    char *agent = malloc(SIZE);

    assert_non_null(agent);
    memset(agent, '(', SIZE);
    memcpy(agent, CHROME_LINUX, sizeof(CHROME_LINUX) - 1);
    memcpy(agent + MAYDAY_BOT_AGENT_MAX - 7, " AcmeBot ", 9);
    assert_int_equal(mayday_bots_classify(*state, mayday_slice(agent, SIZE)).class,
                     MAYDAY_BOT_NONE);
    memcpy(agent + MAYDAY_BOT_AGENT_MAX - 8, " AcmeBot ", 9);
    assert_int_equal(mayday_bots_classify(*state, mayday_slice(agent, SIZE)).class,
                     MAYDAY_BOT_CRAWLER);
    free(agent);
}

static void
test_bots_classify__every_byte(void **state)
{
    char agent[512];
    unsigned seed = 1;

    for (int round = 0; round < 2000; round++) {
        size_t len = (size_t) rand_r(&seed) % sizeof(agent);

        for (size_t i = 0; i < len; i++) {
            agent[i] = (char) rand_r(&seed);
        }
        mayday_bot_t bot = mayday_bots_classify(*state, mayday_slice(agent, len));
        assert_true(bot.class < MAYDAY_BOT_CLASS_MAX && bot.name.len <= MAYDAY_BOT_NAME_MAX);
    }
}

/* ---- what a team adds ---- */

static void
test_bots_add__what_is_no_pattern(void **state)
{
    static const char *const bad[] = {
        "", "x", "^", "$", "^x$", "a\tb", "a\nb", "\xc3\xa4\xc3\xa4", "a\"b", "a\\b", "a<b"};
    char longest[MAYDAY_WORD_MAX + 4] = "^";

    for (size_t i = 0; i < MAYDAY_COUNT(bad); i++) {
        assert_int_equal(add(state, MAYDAY_BOT_CRAWLER, "", bad[i]), MAYDAY_INVALID);
    }
    memset(longest + 1, 'q', MAYDAY_WORD_MAX);
    strcpy(longest + 1 + MAYDAY_WORD_MAX, "$");
    assert_int_equal(add(state, MAYDAY_BOT_CRAWLER, "", longest), MAYDAY_OK);
    memset(longest, 'q', sizeof(longest) - 1);
    assert_int_equal(add(state, MAYDAY_BOT_CRAWLER, "", longest), MAYDAY_INVALID);
    assert_int_equal(add(state, MAYDAY_BOT_CRAWLER, longest, "abc"), MAYDAY_INVALID);
}

static void
test_bots_add__counts_more_than_the_table(void **state)
{
    assert_int_equal(add(state, MAYDAY_BOT_MONITOR, "our check", "<acme-tick>"), MAYDAY_OK);
    assert_int_equal(add(state, MAYDAY_BOT_BROWSER, "", "acmephone"), MAYDAY_OK);
    assert_int_equal(add(state, MAYDAY_BOT_TOOL, "", "googlebot"), MAYDAY_OK);
    assert_bot(state, "Acme-Tick/1 crawler", "monitor", "our check");
    assert_bot(state, "xAcme-Tick", "program", "xAcme-Tick");
    assert_bot(state, "AcmePhone bot spider sqlmap", "browser", "acmephone");
    assert_bot(state, "Googlebot/2.1 acmephone", "tool", "googlebot");
    assert_bot(state, "bingbot/2.0", "crawler", "bingbot");
}

static void
test_bots_add__marks(void **state)
{
    assert_int_equal(add(state, MAYDAY_BOT_AI, "a", "^first"), MAYDAY_OK);
    assert_int_equal(add(state, MAYDAY_BOT_AI, "b", "last$"), MAYDAY_OK);
    assert_int_equal(add(state, MAYDAY_BOT_AI, "c", "^whole$"), MAYDAY_OK);
    assert_bot(state, "first of Linux", "ai", "a");
    assert_bot(state, "a Linux first", "", "");
    assert_bot(state, "Linux at last", "ai", "b");
    assert_bot(state, "last Linux", "", "");
    assert_bot(state, "whole", "ai", "c");
    assert_bot(state, " whole ", "ai", "c");
    assert_bot(state, "whole Linux", "", "");
}

static void
test_bots_add__as_many_as_there_is_room_for(void **state)
{
    char pattern[32];

    for (unsigned i = 0; i < MAYDAY_BOTS_ADDED_MAX; i++) {
        snprintf(pattern, sizeof(pattern), "acme%u.", i);
        assert_int_equal(add(state, MAYDAY_BOT_MONITOR, "", pattern), MAYDAY_OK);
    }
    assert_int_equal(add(state, MAYDAY_BOT_MONITOR, "", "more"), MAYDAY_FULL);
    assert_bot(state, "Linux acme255.example", "monitor", "acme255.");
    assert_bot(state, "Linux acme256.example", "", "");
}

/* ---- classes ---- */

static void
test_bot_class_find__names(void **state)
{
    (void) state;
    assert_int_equal(mayday_bot_class_find(MAYDAY_SLICE("monitor")), MAYDAY_BOT_MONITOR);
    assert_int_equal(mayday_bot_class_find(MAYDAY_SLICE("")), MAYDAY_BOT_NONE);
    assert_int_equal(mayday_bot_class_find(MAYDAY_SLICE("monitors")), MAYDAY_BOT_NONE);
    assert_int_equal(mayday_bot_class_find(MAYDAY_SLICE("Monitor")), MAYDAY_BOT_NONE);
}

/* A partner's call that fails is a failure, whatever library makes it. */
static void
test_bot_classes_default__leave_callers_alone(void **state)
{
    uint32_t bots = mayday_bot_classes_default();

    (void) state;
    assert_true((bots >> MAYDAY_BOT_CRAWLER & 1) != 0 && (bots >> MAYDAY_BOT_MONITOR & 1) != 0);
    assert_true((bots >> MAYDAY_BOT_NONE & 1) == 0 && (bots >> MAYDAY_BOT_MISSING & 1) == 0);
    assert_true((bots >> MAYDAY_BOT_LIBRARY & 1) == 0 && (bots >> MAYDAY_BOT_WEBHOOK & 1) == 0);
    assert_true((bots >> MAYDAY_BOT_TOOL & 1) == 0 && (bots >> MAYDAY_BOT_PROGRAM & 1) == 0);
    assert_true((bots >> MAYDAY_BOT_ASSISTANT & 1) == 0 && (bots >> MAYDAY_BOT_BROWSER & 1) == 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bots_classify__nothing),
        TEST(test_bots_classify__people),
        TEST(test_bots_classify__programs),
        TEST(test_bots_classify__case_does_not_matter),
        TEST(test_bots_classify__parts_of_words),
        TEST(test_bots_classify__names_are_bounded),
        TEST(test_bots_classify__only_so_much_is_looked_at),
        TEST(test_bots_classify__every_byte),
        TEST(test_bots_add__what_is_no_pattern),
        TEST(test_bots_add__counts_more_than_the_table),
        TEST(test_bots_add__marks),
        TEST(test_bots_add__as_many_as_there_is_room_for),
        TEST(test_bot_class_find__names),
        TEST(test_bot_classes_default__leave_callers_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
