/*
 * mayday.re and mayday.hmac as rules see them, and the cache of expressions below.
 */
#include "tests/unit/rules_fixture.h"

#include "core/agent/rules_internal.h"
#include "core/filter/re.h"

#define RE MODULE "local re = mayday.re\n"

static void
test_re_match__captures(void **state)
{
    fixture_t *f = *state;

    assert_keeps(
        f,
        CHANGE("local re = mayday.re\n"
               "local m = re.match('GET /users/42', [[^(?<method>\\w+) /(\\w+)/(\\d+)(x)?$]])\n"
               "assert(m[0] == 'GET /users/42' and m[1] == 'GET' and m.method == 'GET')\n"
               "assert(m[2] == 'users' and m[3] == '42' and m[4] == nil)\n"
               "assert(re.match('abc', 'x') == nil)\n"
               "assert(re.match('ABC', 'b', 'i')[0] == 'B')\n"
               "assert(not re.match('a\\nb', 'a.b') and re.match('a\\nb', 'a.b', 's'))\n"
               "assert(re.match('a\\nb', '^b', 'm') and not re.match('ab', 'b', 'a'))\n"
               "assert(re.match('ab', 'a b # both', 'x')[0] == 'ab')\n"
               "assert(re.match('\\195\\164', '^.$', 'u') and not re.match('\\195\\164', '^.$'))\n"
               "assert(re.match('', '')[0] == '')\n"
               "assert(re.match('a\\0b', [[\\x00(.)]])[1] == 'b')"));
}

static void
test_re_find__positions(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("local from, to = mayday.re.find('hello', 'l+')\n"
                           "assert(from == 3 and to == 4)\n"
                           "assert(mayday.re.find('hello', 'z') == nil)\n"
                           "from, to = mayday.re.find('x', '')\n"
                           "assert(from == 1 and to == 0)"));
}

static void
test_re_gsub__replaces(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("local gsub = mayday.re.gsub\n"
                           "local function is(want, n, ...) local text, count = gsub(...)\n"
                           "  assert(text == want and count == n, text .. ' ' .. count) end\n"
                           "is('/users/*/a/*', 2, '/users/42/a/7', [[\\d+]], '*')\n"
                           "is('b=a d=c', 2, 'a=b c=d', [[(\\w)=(\\w)]], '$2=$1')\n"
                           "is('<ab>', 1, 'ab', '(?<all>.+)', '<${all}>')\n"
                           "is('<ab>', 1, 'ab', '.+', '<$0>')\n"
                           "is('$1 1', 1, 'x 1', 'x', '$$1')\n"
                           "is('-a-b-', 3, 'ab', '', '-')\n"
                           "is('-a--c-', 4, 'abc', 'b*', '-')\n"
                           "is('<\\195\\164>', 1, '\\195\\164', '.', '<$0>', 'u')\n"
                           "is('-\\195\\164-', 2, '\\195\\164', '', '-', 'u')\n"
                           "is('A.B', 2, 'a.b', '[a-z]', function(m) return m[0]:upper() end)\n"
                           "is('ab', 2, 'ab', '.', function() end)\n"
                           "is('', 0, '', 'x', 'y')\n"
                           "is('ab', 1, 'a', 'a(x)?', 'a$1b')"));
    assert_run_fails(f, CHANGE("mayday.re.gsub('a', 'a', '$1')"), "refers to no group");
    assert_run_fails(f, CHANGE("mayday.re.gsub('a', 'a', '${x')"), "refers to no group");
    assert_run_fails(f, CHANGE("mayday.re.gsub('a', 'a', '$')"), "refers to no group");
    assert_run_fails(f, CHANGE("mayday.re.gsub('a', 'a', '$99999999999999999999')"), "no group");
    assert_run_fails(f, CHANGE("mayday.re.gsub('a', 'a', {})"), "string expected, got table");
    assert_run_fails(f, CHANGE("mayday.re.gsub('a', 'a', function() return {} end)"),
                     "returned a table, not a string");
}

static void
test_re_gsub__expression_stays_while_its_function_runs(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("local re = mayday.re\n"
                           "local out = re.gsub('abc', '[a-c](?<x>)', function(m)\n"
                           "  for i = 1, 200 do re.match('x', 'x' .. i .. m[0]) end\n"
                           "  return re.gsub(m[0], '[a-c]', '<$0>')\n"
                           "end)\n"
                           "assert(out == '<a><b><c>', out)"));
    assert_run_fails(f,
                     CHANGE("local function deep(i)\n"
                            "  return (mayday.re.gsub('a', 'a{1}(?<n' .. i .. '>)'"
                            ", function() return deep(i + 1) end)) end\n"
                            "deep(1)"),
                     "too deep");
}

static void
test_re__errors_have_a_position(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, CHANGE("mayday.re.match('x', 'ab(c')"),
                     "rules.lua:3: bad regular expression: missing closing parenthesis, at "
                     "character 5, behind \"ab(c\"");
    assert_run_fails(f, CHANGE("mayday.re.match('x', 'x', 'q')"),
                     "there is no option 'q'; there are aimsux");
    assert_run_fails(f, CHANGE("mayday.re.match('x', ('a'):rep(5000))"), "longer than 4096 bytes");
    assert_run_fails(f, CHANGE("mayday.re.match('x', ('(a)'):rep(33))"), "more than 32 groups");
    assert_run_fails(f, CHANGE("mayday.re.match('x', ('('):rep(200) .. (')'):rep(200))"),
                     "too deeply nested");
    assert_run_fails(f, CHANGE("mayday.re.match('x', '(((a{9999}){999}){99})')"),
                     "bad regular expression");
    assert_run_fails(f, CHANGE("mayday.re.match('\\255', 'x', 'u')"), "not valid UTF-8");
    assert_run_fails(f,
                     CHANGE("mayday.re.gsub(('a'):rep(9), [[(?(DEFINE)(\\K))(?<=(?1)aa)]], 'x')"),
                     "rules.lua:3: \\K puts the beginning");
    assert_run_fails(f, CHANGE("mayday.re.match('aaa', [[(?=aa(?1))(?(DEFINE)(\\K))]])"),
                     "rules.lua:3: \\K puts the beginning");
    assert_run_fails(f, CHANGE("mayday.re.match(nil, 'x')"), "string expected, got nil");
    assert_run_fails(f, CHANGE("mayday.re.match(('a'):rep(1048577), 'x')"), "at most 1 MiB");
}

static void
test_re__hostile_matches_end(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "re.match(('a'):rep(2000) .. '!', '^(a+)+$')",
        "re.match(('a'):rep(2000) .. '!', '^(a|a)*$')",
        "re.match(('a'):rep(2000), '(.*)(.*)(.*)(.*)(.*)[xy]')",
        "re.match(('a'):rep(1e6), '[^x]*[xy]')",
        "re.match(('a'):rep(1e6), '(?:.(?=[^x]*[ax]))*[yz]')",
        "re.match(('a'):rep(1e6), '(a*)\\\\1[bc]')",
        "re.match(('('):rep(1e5), '([(](?1)*[])])')",
        "re.gsub(('a'):rep(1e6), 'a', function(m) return 'b' end)",
        "re.gsub(('a'):rep(1e6), '(?=a*[bc])|x', '', 'u')",
        "while true do pcall(re.match, ('a'):rep(2000), '(a+)+$[bc]') end",
        "for i = 1, 1e9 do re.match('x', 'x' .. i) end",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[256];
        uint64_t start_us = mayday_clock_monotonic_us();

        snprintf(text, sizeof(text), CHANGE("local re = mayday.re\n%s"), bodies[i]);
        if (run(f, text) != MAYDAY_RULES_FAILED) {
            fail_msg("not bounded: %s", bodies[i]);
        }
        assert_text_in(f->result.error, "rules.lua:");
        if (strstr(f->result.error, "too many steps") == NULL) {
            assert_text_in(f->result.error, "ran for more than 50 ms");
        }
        assert_true(mayday_clock_monotonic_us() - start_us < 1500000);
    }
    assert_keeps(f, CHANGE("assert(mayday.re.match(('a'):rep(5e5) .. 'b', 'b'))\n"
                           "assert(not mayday.re.match(('a'):rep(5e4), 'ab'))\n"
                           "assert(mayday.re.match(('ab'):rep(5e3), '^(a|b)*$'))"));
}

static bool
never_late(void *ctx)
{
    (void) ctx;
    return false;
}

static void
test_re_cache__is_bounded(void **state)
{
    mayday_re_cache_t *cache = mayday_re_cache_new();
    const mayday_re_t *first, *pinned;
    mayday_re_match_t match;
    char error[128], pattern[32];

    (void) state;
    assert_non_null(cache);
    first = mayday_re_get(cache, MAYDAY_SLICE("a"), MAYDAY_SLICE(""), error, sizeof(error));
    assert_non_null(first);
    assert_ptr_equal(
        first, mayday_re_get(cache, MAYDAY_SLICE("a"), MAYDAY_SLICE(""), error, sizeof(error)));
    pinned = mayday_re_get(cache, MAYDAY_SLICE("a"), MAYDAY_SLICE("i"), error, sizeof(error));
    assert_ptr_not_equal(first, pinned);
    mayday_re_pin(cache, pinned);
    for (int i = 0; i < 10 * MAYDAY_RE_CACHE_MAX; i++) {
        snprintf(pattern, sizeof(pattern), "x%d", i);
        assert_non_null(mayday_re_get(cache, mayday_slice_str(pattern), MAYDAY_SLICE(""), error,
                                      sizeof(error)));
    }
    assert_ptr_equal(
        pinned, mayday_re_get(cache, MAYDAY_SLICE("a"), MAYDAY_SLICE("i"), error, sizeof(error)));
    assert_int_equal(
        mayday_re_match(cache, pinned, MAYDAY_SLICE("xA"), 0, never_late, NULL, &match),
        MAYDAY_RE_MATCH);
    assert_int_equal(match.count, 1);
    assert_int_equal(match.groups[0].begin, 1);
    for (int i = 0; i < MAYDAY_RE_CACHE_MAX - 1; i++) {
        snprintf(pattern, sizeof(pattern), "y%d", i);
        mayday_re_pin(cache, mayday_re_get(cache, mayday_slice_str(pattern), MAYDAY_SLICE(""),
                                           error, sizeof(error)));
    }
    assert_null(mayday_re_get(cache, MAYDAY_SLICE("z"), MAYDAY_SLICE(""), error, sizeof(error)));
    assert_text_in(error, "in use at once");
    mayday_re_unpin_all(cache);
    assert_non_null(
        mayday_re_get(cache, MAYDAY_SLICE("z"), MAYDAY_SLICE(""), error, sizeof(error)));
    /* Big ones, 180 KiB each with PCRE2's JIT, take the places of several. */
    for (int i = 0; i < 2 * (MAYDAY_RE_CACHE_MAX + 1); i++) {
        char big[1600] = "";

        for (int n = 0; n < 200; n++) {
            strcat(big, "\\w+?\\s*");
        }
        snprintf(big + strlen(big), 8, "%d", i);
        pinned =
            mayday_re_get(cache, mayday_slice_str(big), MAYDAY_SLICE("iu"), error, sizeof(error));
        if (i <= MAYDAY_RE_CACHE_MAX) {
            assert_non_null(pinned);
        } else if (pinned != NULL) {
            mayday_re_pin(cache, pinned);
        }
    }
    assert_null(pinned);
    assert_text_in(error, "in use at once");
    mayday_re_cache_free(cache);
}

/* Also where the search goes on behind a place that something else was found at. */
static void
test_re_match__never_reads_bad_utf8(void **state)
{
    static const char bad[] = "ab \xf0";
    const mayday_slice_t texts[] = {MAYDAY_SLICE("ab cd"), mayday_slice(bad, sizeof(bad) - 1)};
    mayday_re_cache_t *cache = mayday_re_cache_new();
    const mayday_re_t *plain, *utf;
    mayday_re_match_t match;
    char error[128];

    (void) state;
    assert_non_null(cache);
    plain = mayday_re_get(cache, MAYDAY_SLICE("[a-d]"), MAYDAY_SLICE(""), error, sizeof(error));
    utf = mayday_re_get(cache, MAYDAY_SLICE("(*UTF)[a-d]"), MAYDAY_SLICE(""), error, sizeof(error));
    assert_non_null(plain);
    assert_non_null(utf);
    for (unsigned i = 0; i < 2; i++) { /* bad behind good, then again */
        assert_int_equal(mayday_re_match(cache, utf, texts[0], 0, never_late, NULL, &match),
                         MAYDAY_RE_MATCH);
        assert_int_equal(mayday_re_match(cache, utf, texts[0], 2, never_late, NULL, &match),
                         MAYDAY_RE_MATCH);
        assert_int_equal(match.groups[0].begin, 3);
        assert_int_equal(mayday_re_match(cache, plain, texts[1], 0, never_late, NULL, &match),
                         MAYDAY_RE_MATCH);
        assert_int_equal(mayday_re_match(cache, utf, texts[1], 0, never_late, NULL, &match),
                         MAYDAY_RE_BAD_TEXT);
        assert_int_equal(mayday_re_match(cache, utf, texts[1], 1, never_late, NULL, &match),
                         MAYDAY_RE_BAD_TEXT);
    }
    mayday_re_cache_free(cache);
}

static void
test_hmac__is_the_hash_of_mayday_user(void **state)
{
    fixture_t *f = *state;
    uint8_t hash[MAYDAY_HASH_BYTES];
    char hex[MAYDAY_HASH_HEX_SIZE], text[160];

    mayday_siphash(hash, hash_key, "anna", 4);
    mayday_hex(hex, hash, sizeof(hash));
    snprintf(text, sizeof(text), CHANGE("assert(mayday.hmac('anna') == '%s')"), hex);
    assert_keeps(f, text);
    assert_keeps(f, CHANGE("assert(mayday.hmac('') ~= mayday.hmac('\\0'))"));
    assert_run_fails(f, CHANGE("mayday.hmac()"), "string expected, got no value");
    f->result.error[0] = '\0';
    mayday_rules_free(f->rules);
    f->rules = mayday_rules_new(f->file, "lua", NULL, f->error, sizeof(f->error));
    assert_non_null(f->rules);
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_text_in(f->result.error, "string expected");
    write_bytes(f, "rules.lua", MODULE "mayday.hmac('x')", sizeof(MODULE "mayday.hmac('x')") - 1);
    mayday_rules_free(f->rules);
    f->rules = mayday_rules_new(f->file, "lua", NULL, f->error, sizeof(f->error));
    assert_null(f->rules);
    assert_text_in(f->error, "rules.lua:2: mayday.hmac has no key");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_re_match__captures),
        TEST(test_re_find__positions),
        TEST(test_re_gsub__replaces),
        TEST(test_re_gsub__expression_stays_while_its_function_runs),
        TEST(test_re__errors_have_a_position),
        TEST(test_re__hostile_matches_end),
        TEST(test_re_cache__is_bounded),
        TEST(test_re_match__never_reads_bad_utf8),
        TEST(test_hmac__is_the_hash_of_mayday_user),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
