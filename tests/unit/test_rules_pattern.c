/*
 * The patterns of rules beside LuaJIT's own: random patterns over random texts,
 * most of them close to a match, give the same results and the same errors. And
 * what is different on purpose: bounds.
 */
#include "tests/unit/rules_fixture.h"

#include <lauxlib.h>
#include <lualib.h>

#define CASES_PER_SCRIPT 1500
#define SCRIPTS 8

/* Runs case(i) for each, in protected mode, and keeps what came of it as one line. */
static const char harness[] =
    "local byte, concat, format = string.byte, table.concat, string.format\n"
    "local function show(v)\n"
    "  if type(v) ~= 'string' then return tostring(v) end\n"
    "  local t = {byte(v, 1, -1)}\n"
    "  for i = 1, #t do t[i] = t[i] > 32 and t[i] < 127 and t[i] ~= 92\n"
    "    and string.char(t[i]) or format('\\\\%d', t[i]) end\n"
    "  return '\"' .. concat(t) .. '\"'\n"
    "end\n"
    "local function collect(...)\n"
    "  local t = {...}\n"
    "  for i = 1, select('#', ...) do t[i] = show(t[i]) end\n"
    "  return concat(t, ' ')\n"
    "end\n"
    "local function all(s, p)\n"
    "  local t = {}\n"
    "  for a, b in s:gmatch(p) do\n"
    "    t[#t + 1] = collect(a, b)\n"
    "    if #t > 50 then break end\n"
    "  end\n"
    "  return concat(t, '|')\n"
    "end\n"
    "local function try(f, ...) return collect(pcall(f, ...)) end\n"
    "local words = setmetatable({a = 'X', ab = 7, b = false}, {__index = function(t, k)\n"
    "  if k == 'c' then return {} end end})\n"
    "local function reply(a, b) if a == 'b' then return nil end\n"
    "  return (b or '') .. '<' .. tostring(a) .. '>' end\n"
    "local results = {}\n"
    "for i, c in ipairs(cases) do\n"
    "  local s, p, init, repl = c[1], c[2], c[3], c[4]\n"
    "  results[i] = concat({try(string.find, s, p, init), try(string.find, s, p, init, true),\n"
    "    try(string.match, s, p, init), try(all, s, p), try(string.gsub, s, p, repl),\n"
    "    try(string.gsub, s, p, words), try(string.gsub, s, p, reply, init)}, ' / ')\n"
    "end\n";

static uint64_t seed;

static unsigned
pick(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned) (seed >> 33) % n;
}

/* A string as Lua source, every byte escaped. */
static void
add_string(FILE *out, const char *bytes, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        fprintf(out, "\\%03d", (unsigned char) bytes[i]);
    }
    fputc('"', out);
}

static size_t
random_of(char *out, size_t max, const char *const *parts, unsigned count)
{
    size_t len = 0;

    for (unsigned n = pick(9); n > 0; n--) {
        unsigned i = pick(count + 1);
        const char *part = i == count ? "\0" : parts[i];
        size_t part_len = i == count ? 1 : strlen(part);

        if (len + part_len <= max) {
            memcpy(out + len, part, part_len);
            len += part_len;
        }
    }
    return len;
}

static void
add_case(FILE *out)
{
    static const char *const texts[] = {"a", "b",  "c", "ab",   "aa",   "x",  "(",    ")", "[",
                                        "]", "1",  "9", " ",    "\t",   ".",  "-",    "%", "A",
                                        "Z", "\n", "_", "\xc3", "\xff", "ba", "(a)b", "^", "$"};
    static const char *const patterns[] = {
        "a",     "b",    "c",    "ab",    ".",   "%a",    "%d",  "%s", "%w",     "%p",     "%A",
        "%W",    "%u",   "%x",   "%z",    "%g",  "%l",    "%c",  "%.", "%%",     "*",      "+",
        "-",     "?",    ".*",   ".-",    "a*",  "b-",    "c+",  "a?", "[ab]",   "[^a]",   "[a-c]",
        "[%d_]", "[]]",  "[^]]", "[",     "]",   "%",     "[a-", "(",  ")",      "()",     "(a)",
        "(.-)",  "(a*)", "%1",   "%2",    "%0",  "%b()",  "%b",  "%f", "%f[%w]", "%f[^a]", "^",
        "$",     "%b[]", "(()",  "[%w]*", "[%]", "[a%-c]"};
    static const char *const replacements[] = {"%0", "%1", "%2", "%%", "%", "x", "%a", "", "-"};
    char bytes[64];
    size_t len;

    fputc('{', out);
    len = random_of(bytes, sizeof(bytes), texts, MAYDAY_COUNT(texts));
    add_string(out, bytes, len);
    fputc(',', out);
    len = random_of(bytes, sizeof(bytes), patterns, MAYDAY_COUNT(patterns));
    add_string(out, bytes, len);
    fprintf(out, ",%d,", (int) pick(16) - 6);
    len = random_of(bytes, sizeof(bytes), replacements, MAYDAY_COUNT(replacements));
    add_string(out, bytes, len);
    fputs("},\n", out);
}

static char *
make_script(const char *before, const char *after)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    fprintf(out, "%s\nlocal cases = {\n", before);
    for (int i = 0; i < CASES_PER_SCRIPT; i++) {
        add_case(out);
    }
    fprintf(out, "}\n%s\n%s\n", harness, after);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void
test_patterns__as_luajit_has_them(void **state)
{
    fixture_t *f = *state;

    for (uint64_t script = 0; script < SCRIPTS; script++) {
        lua_State *L = luaL_newstate();
        const cJSON *ours;
        char *text;

        mayday_event_memory_begin();
        seed = script;
        text = make_script(MODULE, "mayday.before_send(function(event)\n"
                                   "event.extra = {results = results}; return event end)");
        assert_keeps(f, text);
        free(text);
        ours = cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_EXTRA), "results");
        assert_int_equal(cJSON_GetArraySize(ours), CASES_PER_SCRIPT);

        seed = script;
        text = make_script("local mayday\n", "return results, cases");
        assert_non_null(L);
        luaL_openlibs(L);
        assert_int_equal(luaL_loadbuffer(L, text, strlen(text), "@rules.lua"), 0);
        assert_int_equal(lua_pcall(L, 0, 2, 0), 0);
        free(text);
        ours = ours->child;
        for (int i = 1; i <= CASES_PER_SCRIPT; i++, ours = ours->next) {
            lua_rawgeti(L, -2, i);
            if (strcmp(lua_tostring(L, -1), ours->valuestring) != 0) {
                lua_rawgeti(L, -2, i);
                lua_rawgeti(L, -1, 1);
                lua_rawgeti(L, -2, 2);
                fail_msg("text <%s> pattern <%s>\nLuaJIT %s\nours   %s", lua_tostring(L, -2),
                         lua_tostring(L, -1), lua_tostring(L, -4), ours->valuestring);
            }
            lua_pop(L, 1);
        }
        lua_close(L);
    }
}

static void
test_patterns__backtracking_is_bounded(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "('.'):rep(2000):find('.-.-.-x')",
        "('a'):rep(2000):match('(.*)(.*)(.*)(.*)[b]')",
        "('a'):rep(2000):gsub('.-.-.-b', '')",
        "for w in ('a'):rep(2000):gmatch('.*.*.*b') do end",
        "('a '):rep(1000):find('^%s*(.-)%s*(.-)%s*(.-)%s*;')",
        "(('('):rep(20000)):gsub('%b()', '')",
        "(('a'):rep(5e5)):find('(a+)%1b')",
        "(('a'):rep(1e5)):find('%f[' .. ('b'):rep(5e5) .. ']x')",
        "(('a'):rep(1e5)):find('[' .. ('b'):rep(5e5) .. ']x')",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[256];
        uint64_t start_us = mayday_clock_monotonic_us();

        snprintf(text, sizeof(text), CHANGE("%s"), bodies[i]);
        assert_int_equal(run(f, text), MAYDAY_RULES_FAILED);
        assert_text_in(f->result.error, "rules.lua:3: ");
        if (strstr(f->result.error, "more than 50 ms") == NULL) {
            assert_text_in(f->result.error, "the pattern takes more than 2000000 steps");
        }
        assert_true(mayday_clock_monotonic_us() - start_us < 3000000);
    }
}

static void
test_patterns__plain_search_is_linear(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("local s = ('a'):rep(1e6)\n"
                           "assert(not s:find(('a'):rep(5e5) .. 'b', 1, true))"));
    assert_run_fails(f, CHANGE("('a'):rep(1048577):find('b')"),
                     "rules.lua:3: patterns search at most 1 MiB of text");
}

static void
test_patterns__deep_ones_are_too_complex(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, CHANGE("('a'):rep(300):find(('a?'):rep(300))"), "pattern too complex");
    assert_run_fails(f, CHANGE("(''):find(('('):rep(33))"), "too many captures");
    assert_keeps(f, CHANGE("assert(('a'):rep(300):find(('a'):rep(300)) == 1)"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_patterns__as_luajit_has_them),
        TEST(test_patterns__backtracking_is_bounded),
        TEST(test_patterns__plain_search_is_linear),
        TEST(test_patterns__deep_ones_are_too_complex),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
