/*
 * Learned routes: nothing before an hour is over, nothing that was seen often,
 * the same again after a restart, and bounds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/filter/routes_learn.h"

#define HOUR MAYDAY_LEARN_WINDOW_US
#define START (UINT64_C(500000) * HOUR)

typedef struct {
    mayday_learner_t *learner;
    char dir[64], file[96];
    size_t learned;
} fixture_t;

static int
set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-routes-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->file, sizeof(f->file), "%s/routes", f->dir);
    f->learner = mayday_learner_new();
    assert_non_null(f->learner);
    *state = f;
    return mayday_learner_on(f->learner, f->file, 10) != MAYDAY_OK;
}

static int
tear_down(void **state)
{
    fixture_t *f = *state;
    char command[96];

    mayday_learner_free(f->learner);
    snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* As the agent does: what was learned is applied, then counted. */
static void
note(fixture_t *f, const char *host, const char *route, uint64_t time_us)
{
    char storage[512];
    mayday_buf_t applied;

    mayday_buf_init(&applied, storage, sizeof(storage));
    mayday_learner_apply(f->learner, mayday_slice_str(host), mayday_slice_str(route), &applied);
    f->learned += mayday_learner_note(f->learner, mayday_slice_str(host),
                                      mayday_buf_slice(&applied), time_us);
}

static void
note_many(fixture_t *f, const char *format, int from, int to, uint64_t time_us)
{
    char route[128];

    for (int i = from; i < to; i++) {
        snprintf(route, sizeof(route), format, 'a' + i / 26, 'a' + i % 26);
        note(f, "shop", route, time_us);
    }
}

static void
assert_applied(fixture_t *f, const char *host, const char *route, const char *expected)
{
    char storage[512];
    mayday_buf_t applied;

    mayday_buf_init(&applied, storage, sizeof(storage));
    mayday_learner_apply(f->learner, mayday_slice_str(host), mayday_slice_str(route), &applied);
    assert_string_equal(storage, expected);
}

static void
put_file(fixture_t *f, const char *text)
{
    FILE *out = fopen(f->file, "w");

    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

/* ---- what teaches nothing ---- */

static void
test_learner__is_off_at_first(void **state)
{
    fixture_t *f = *state;

    mayday_learner_off(f->learner);
    assert_false(mayday_learner_is_on(f->learner));
    note_many(f, "/users/%c%c", 0, 30, START);
    note_many(f, "/users/%c%c", 0, 30, START + HOUR);
    assert_int_equal(f->learned, 0);
    assert_applied(f, "shop", "/users/aa", "/users/aa");
}

static void
test_learner_note__nothing_within_an_hour(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c", 0, 100, START);
    note_many(f, "/users/%c%c", 100, 200, START + HOUR - 1);
    assert_int_equal(f->learned, 0);
    assert_applied(f, "shop", "/users/aa", "/users/aa");
}

static void
test_learner_note__too_few(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c", 0, 9, START);
    note(f, "shop", "/", START + HOUR);
    note_many(f, "/users/%c%c", 9, 18, START + HOUR);
    note(f, "shop", "/", START + 2 * HOUR);
    assert_int_equal(f->learned, 0);
}

static void
test_learner_note__never_the_first_segment(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/%c%c", 0, 200, START);
    note(f, "shop", "/", START + HOUR);
    assert_int_equal(f->learned, 0);
    assert_applied(f, "shop", "/aa", "/aa");
}

/* An outage in which each of many endpoints fails again and again. */
static void
test_learner_note__never_what_is_seen_often(void **state)
{
    fixture_t *f = *state;

    for (int i = 0; i < MAYDAY_LEARN_OFTEN; i++) {
        note_many(f, "/api/%c%c", 0, 150, START);
    }
    note(f, "shop", "/", START + HOUR);
    assert_int_equal(f->learned, 0);
    assert_applied(f, "shop", "/api/aa", "/api/aa");
}

static void
test_learner_note__ids_are_one_child(void **state)
{
    fixture_t *f = *state;

    for (int i = 0; i < 50; i++) {
        note(f, "shop", "/orders/*/x", START);
    }
    note(f, "shop", "/", START + HOUR);
    assert_int_equal(f->learned, 0);
}

static void
test_learner_note__odd_routes(void **state)
{
    fixture_t *f = *state;
    char longest[512];

    note(f, "", "/users/a", START);
    note(f, "shop", "", START);
    note(f, "shop", "users", START);
    note(f, "shop", "/users/a\tb", START);
    note(f, "sh\nop", "/users/a", START);
    note(f, "shop", "/users//a", START);
    memset(longest, 'x', sizeof(longest) - 1);
    memcpy(longest, "/users/", 7);
    longest[sizeof(longest) - 1] = '\0';
    note(f, "shop", longest, START);
    for (size_t i = 0; i + 2 < sizeof(longest); i += 2) {
        memcpy(longest + i, "/x", 2);
    }
    note(f, "shop", longest, START);
    note(f, "shop", "/", START + HOUR);
    assert_int_equal(f->learned, 0);
}

/* ---- learning ---- */

static void
test_learner_note__names_become_a_wildcard(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c/posts", 0, 10, START);
    assert_applied(f, "shop", "/users/aa/posts", "/users/aa/posts");
    note(f, "shop", "/other", START + HOUR);
    assert_int_equal(f->learned, 1);
    assert_applied(f, "shop", "/users/aa/posts", "/users/*/posts");
    assert_applied(f, "shop", "/users/new/settings/", "/users/*/settings/");
    assert_applied(f, "shop", "/users/new", "/users/*");
    assert_applied(f, "shop", "/users/", "/users/");
    assert_applied(f, "shop", "/users", "/users");
    assert_applied(f, "shop", "/users//x", "/users//x");
    assert_applied(f, "shop", "/groups/aa/posts", "/groups/aa/posts");
    assert_applied(f, "blog", "/users/aa/posts", "/users/aa/posts");
    assert_applied(f, "shop", "", "");
}

/* Children of children that became one are counted together. */
static void
test_learner_note__below_a_wildcard(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c/settings", 0, 12, START);
    note_many(f, "/users/x%c%c/posts/first", 0, 6, START);
    note_many(f, "/users/y%1$c%2$c/posts/p%2$c", 0, 10, START);
    note(f, "shop", "/", START + HOUR);
    assert_int_equal(f->learned, 2);
    assert_applied(f, "shop", "/users/zoe/posts/how-to", "/users/*/posts/*");
    assert_applied(f, "shop", "/users/zoe/settings", "/users/*/settings");
    assert_applied(f, "shop", "/users/zoe/settings/x", "/users/*/settings/x");
}

static void
test_learner_note__what_is_seen_often_stays(void **state)
{
    fixture_t *f = *state;

    for (int i = 0; i < MAYDAY_LEARN_OFTEN; i++) {
        note(f, "shop", "/users/me/posts", START);
    }
    note_many(f, "/users/%c%c", 0, 10, START);
    note(f, "shop", "/", START + HOUR);
    assert_applied(f, "shop", "/users/me/posts", "/users/me/posts");
    assert_applied(f, "shop", "/users/you/posts", "/users/*/posts");
    for (int i = 0; i < 2 * MAYDAY_LEARN_OFTEN; i++) { /* too late */
        note(f, "shop", "/users/you/posts", START + HOUR);
    }
    note(f, "shop", "/", START + 2 * HOUR);
    assert_applied(f, "shop", "/users/you/posts", "/users/*/posts");
}

static void
test_learner_note__once_learned_for_good(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c", 0, 10, START);
    for (uint64_t hour = 1; hour < 50; hour++) {
        note(f, "shop", "/users/aa", START + hour * HOUR);
    }
    assert_int_equal(f->learned, 1);
    assert_applied(f, "shop", "/users/aa", "/users/*");
    note_many(f, "/users/%c%c", 0, 200, START + 100 * HOUR);
    note(f, "shop", "/", START + 101 * HOUR);
    assert_int_equal(f->learned, 1);
}

/* Lanes are read one after the other, so times go back a little; and clocks may be wrong. */
static void
test_learner_note__times_that_go_back(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c", 0, 9, START + HOUR);
    note(f, "shop", "/users/late", START + HOUR - 1);
    note(f, "shop", "/", START + 2 * HOUR);
    assert_int_equal(f->learned, 1);
    note(f, "shop", "/", START + 1000000 * HOUR);
    note(f, "shop", "/", START + 3 * HOUR);
    note_many(f, "/groups/%c%c", 0, 10, START + 3 * HOUR);
    note(f, "shop", "/", START + 4 * HOUR);
    assert_int_equal(f->learned, 2);
    note(f, "shop", "/", 0);
    note(f, "shop", "/", UINT64_MAX);
}

/* ---- bounds ---- */

static void
test_learner_note__more_names_than_there_is_room_for(void **state)
{
    fixture_t *f = *state;
    char route[64];

    for (int i = 0; i < 2 * MAYDAY_LEARN_NAMES_MAX; i++) {
        snprintf(route, sizeof(route), "/a/%x/b/%x", i, i);
        note(f, "shop", route, START);
    }
    note(f, "shop", "/", START + HOUR);
    assert_true(f->learned >= 1);
    assert_applied(f, "shop", "/a/zz/c", "/a/*/c");
}

static void
test_learner_note__more_wildcards_than_there_is_room_for(void **state)
{
    fixture_t *f = *state;
    char route[64];

    for (uint64_t hour = 0; hour < 20; hour++) {
        for (int i = 0; i < 400; i++) {
            for (int j = 0; j < 10; j++) {
                snprintf(route, sizeof(route), "/%x.%x/n%d", (unsigned) hour, i, j);
                note(f, "shop", route, START + hour * HOUR);
            }
        }
    }
    note(f, "shop", "/", START + 20 * HOUR);
    assert_true(f->learned > 500 && f->learned <= MAYDAY_LEARNED_MAX);
    assert_int_equal(mayday_learner_save(f->learner), MAYDAY_OK);
    assert_applied(f, "shop", "/0.1/n99", "/0.1/*");
}

/* ---- the file ---- */

static void
test_learner_save__outlives_the_agent(void **state)
{
    fixture_t *f = *state;
    char text[256] = "";
    FILE *in;

    for (int i = 0; i < MAYDAY_LEARN_OFTEN; i++) {
        note(f, "shop", "/users/me", START);
    }
    note_many(f, "/users/%c%c/posts/x", 0, 10, START);
    note_many(f, "/users/jo/posts/%c%c", 0, 10, START);
    note(f, "shop", "/", START + HOUR);
    assert_int_equal(mayday_learner_save(f->learner), MAYDAY_OK);
    in = fopen(f->file, "r");
    assert_non_null(in);
    assert_true(fread(text, 1, sizeof(text) - 1, in) > 0);
    fclose(in);
    assert_string_equal(text, "mayday routes 1\n"
                              "*\tshop\t/users\n"
                              "=\tshop\t/users/jo\n"
                              "=\tshop\t/users/me\n"
                              "*\tshop\t/users/jo/posts\n");
    mayday_learner_free(f->learner);
    f->learner = mayday_learner_new();
    assert_int_equal(mayday_learner_on(f->learner, f->file, 10), MAYDAY_OK);
    assert_applied(f, "shop", "/users/aa/posts/x", "/users/*/posts/x");
    assert_applied(f, "shop", "/users/me", "/users/me");
    assert_applied(f, "shop", "/users/jo/posts/y", "/users/jo/posts/*");
    mayday_learner_off(f->learner);
    assert_applied(f, "shop", "/users/aa", "/users/aa");
    assert_int_equal(mayday_learner_on(f->learner, f->file, 10), MAYDAY_OK);
    assert_int_equal(mayday_learner_on(f->learner, f->file, 20), MAYDAY_OK);
    assert_applied(f, "shop", "/users/aa", "/users/*");
}

static void
test_learner_on__files_that_are_none(void **state)
{
    static const char *const bad[] = {
        "",
        "other\n",
        "mayday routes 1",
        "mayday routes 1\n*\n",
        "mayday routes 1\n*\tshop\n",
        "mayday routes 1\n*\tshop\t\n",
        "mayday routes 1\n*\tshop\t/\n",
        "mayday routes 1\n*\tshop\tusers\n",
        "mayday routes 1\n*\t\t/users\n",
        "mayday routes 1\n?\tshop\t/users\n",
        "mayday routes 1\n*\tshop\t/users//x\n",
        "mayday routes 1\n*\tshop\t/us ers\n",
        "mayday routes 1\n*\tshop\t/users",
        "mayday routes 1\n*\tshop\t/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g/h/i/j\n",
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < MAYDAY_COUNT(bad); i++) {
        put_file(f, bad[i]);
        mayday_learner_off(f->learner);
        if (mayday_learner_on(f->learner, f->file, 10) != MAYDAY_INVALID) {
            fail_msg("%s", bad[i]);
        }
        assert_true(mayday_learner_is_on(f->learner));
        assert_applied(f, "shop", "/users/aa", "/users/aa");
    }
    mayday_learner_off(f->learner);
    assert_int_equal(mayday_learner_on(f->learner, f->dir, 10), MAYDAY_INVALID);
}

/* What must not make the agent wait, or read for ever. */
static void
test_learner_on__pipes_and_endless_files(void **state)
{
    fixture_t *f = *state;
    FILE *out;

    mayday_learner_off(f->learner);
    assert_int_equal(mkfifo(f->file, 0600), 0);
    assert_int_equal(mayday_learner_on(f->learner, f->file, 10), MAYDAY_INVALID);
    assert_int_equal(unlink(f->file), 0);
    mayday_learner_off(f->learner);
    assert_int_equal(symlink("/dev/zero", f->file), 0);
    assert_int_equal(mayday_learner_on(f->learner, f->file, 10), MAYDAY_ERROR);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(unlink(f->file), 0);
    out = fopen(f->file, "w");
    assert_non_null(out);
    fputs("mayday routes 1\n", out);
    for (int i = 0; i < 10000; i++) {
        fputs("*\tshop\t/users\n", out);
    }
    fclose(out);
    mayday_learner_off(f->learner);
    assert_int_equal(mayday_learner_on(f->learner, f->file, 10), MAYDAY_INVALID);
    assert_applied(f, "shop", "/users/aa", "/users/aa");
}

static void
test_learner_forget(void **state)
{
    fixture_t *f = *state;

    note_many(f, "/users/%c%c", 0, 100, START);
    note(f, "shop", "/x", START + HOUR);
    assert_applied(f, "shop", "/users/new", "/users/*");
    mayday_learner_forget(f->learner);
    assert_applied(f, "shop", "/users/new", "/users/new");
    note(f, "shop", "/x", START + 2 * HOUR);
    assert_applied(f, "shop", "/users/new", "/users/new");
    mayday_learner_off(f->learner);
    mayday_learner_forget(f->learner);
    assert_false(mayday_learner_is_on(f->learner));
}

static void
test_learner_save__where_it_cannot(void **state)
{
    fixture_t *f = *state;

    mayday_learner_off(f->learner);
    assert_int_equal(mayday_learner_on(f->learner, "/nowhere/routes", 10), MAYDAY_OK);
    assert_int_equal(mayday_learner_save(f->learner), MAYDAY_ERROR);
    assert_int_equal(errno, ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_learner__is_off_at_first),
        TEST(test_learner_note__nothing_within_an_hour),
        TEST(test_learner_note__too_few),
        TEST(test_learner_note__never_the_first_segment),
        TEST(test_learner_note__never_what_is_seen_often),
        TEST(test_learner_note__ids_are_one_child),
        TEST(test_learner_note__odd_routes),
        TEST(test_learner_note__names_become_a_wildcard),
        TEST(test_learner_note__below_a_wildcard),
        TEST(test_learner_note__what_is_seen_often_stays),
        TEST(test_learner_note__once_learned_for_good),
        TEST(test_learner_note__times_that_go_back),
        TEST(test_learner_note__more_names_than_there_is_room_for),
        TEST(test_learner_note__more_wildcards_than_there_is_room_for),
        TEST(test_learner_save__outlives_the_agent),
        TEST(test_learner_on__files_that_are_none),
        TEST(test_learner_on__pipes_and_endless_files),
        TEST(test_learner_forget),
        TEST(test_learner_save__where_it_cannot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
