/*
 * What bounds the rules: time, memory, stack, and what they can reach. For all
 * else see test_rules.c.
 */
#include "tests/unit/rules_fixture.h"

#include "core/agent/rules_internal.h"

/* ---- bounds ---- */

static void
test_rules_run__endless_loop_ends(void **state)
{
    fixture_t *f = *state;
    static const char *const loops[] = {
        RULE("while true do end"),
        RULE("while true do pcall(function() while true do end end) end"),
        RULE("while true do coroutine.wrap(function() while true do end end)() end"),
        RULE("while true do pcall(coroutine.wrap(function() while true do end end)) end"),
        RULE("local function r() return xpcall(r, r) end\nwhile true do r() end"),
        RULE("local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end})\n"
             "while true do pcall(function() return t[1] end) end"),
        RULE("table.sort({1, 2, 3}, function() while true do end end)"),
        RULE("repeat local ok = pcall(string.gsub, 'a', 'a', function() while true do end end)"
             " until false"),
    };

    for (size_t i = 0; i < MAYDAY_COUNT(loops); i++) {
        uint64_t start_us = mayday_clock_monotonic_us();

        assert_run_fails(f, loops[i], "ran for more than 50 ms");
        assert_true(mayday_clock_monotonic_us() - start_us < 5000000);
    }
}

static void
test_rules_run__next_event_after_a_timeout_is_fine(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f,
                     MODULE "local n = 0\n"
                            "mayday.before_send(function(event)\n"
                            "  n = n + 1\n"
                            "  while n == 1 do end\n"
                            "  for i = 1, 100000 do n = n + 1 end\n"
                            "  return event\n"
                            "end)",
                     "ran for more than 50 ms");
    for (int i = 0; i < 3; i++) {
        make_event(f, sample);
        mayday_rules_run(f->rules, &f->event, &f->result);
        assert_string_equal(f->result.error, "");
        assert_int_equal(f->result.verdict, MAYDAY_RULES_KEEP);
    }
}

static void
test_rules_run__memory_is_capped(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, RULE("local s = ('x'):rep(1e9)"),
                     "rules.lua:2: a single value needed more than 4 MiB");
    assert_run_fails(f, RULE("local s = ('x'):rep(3e6); s = s .. s .. s"), "a single value");
    assert_run_fails(f,
                     MODULE "local kept = {}\n"
                            "mayday.before_send(function(event)\n"
                            "  for i = 1, 40 do kept[#kept + 1] = ('x'):rep(1e6) .. #kept end\n"
                            "  return event\n"
                            "end)",
                     "needed more than 16 MiB");
    assert_run_fails(f, RULE("local t = {}\nfor i = 1, 1e9 do t[i] = {} end"), "more than");
}

/* What rules hoard until nothing works any longer is thrown away, and they start again. */
static void
test_rules_run__rules_that_hoard_are_loaded_anew(void **state)
{
    fixture_t *f = *state;
    static const char helper[] = "return { seen = 0 }";
    static const char hoard[] =
        MODULE "local kept, helper = {}, require 'helper'\n"
               "mayday.before_send(function(event)\n"
               "  helper.seen = helper.seen + 1\n"
               "  for i = 1, 40 do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end\n"
               "  event.tags.seen = helper.seen\n"
               "  return event\n"
               "end)";
    unsigned failures = 0, restarts = 0;

    write_bytes(f, "helper.lua", helper, sizeof(helper) - 1);
    assert_keeps(f, hoard);
    /* What is on disk now is somebody's unfinished work. */
    write_bytes(f, "helper.lua", "return", 6);
    write_bytes(f, "rules.lua", "oops", 4);
    for (int i = 0; i < 60; i++) {
        make_event(f, sample);
        mayday_rules_run(f->rules, &f->event, &f->result);
        failures += f->result.verdict == MAYDAY_RULES_FAILED;
        restarts += f->result.restarted;
        if (f->result.restarted) {
            assert_text_in(f->result.error, "needed more than 16 MiB");
            f->rules->restart_not_before_us = 0;
            make_event(f, sample);
            mayday_rules_run(f->rules, &f->event, &f->result);
            assert_string_equal(f->result.error, "");
            assert_part(f, MAYDAY_PART_TAGS,
                        "{\"kind\":\"upstream_refused\",\"zone\":\"a\",\"seen\":1}");
        }
    }
    assert_int_equal(failures, restarts);
    assert_in_range(restarts, 10, 30);
}

/* Big from the start is not hoarding: an error of another kind throws nothing away. */
static void
test_rules_run__big_tables_of_the_file_stay(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f,
                     MODULE "local big, n = {}, 0\n"
                            "for i = 1, 100 do big[i] = ('x'):rep(1e5) .. i end\n"
                            "mayday.before_send(function(event)\n"
                            "  n = n + 1\n"
                            "  if n == 1 then error('once') end\n"
                            "  assert(#big == 100 and n == 2)\n"
                            "  return event\n"
                            "end)",
                     "once");
    assert_false(f->result.restarted);
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
}

static void
test_rules_run__big_values_are_interrupted(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "local s = ('a'):rep(3e6); while true do local t = s:lower() end",
        "local s = ('a'):rep(1e5); for i = 1, 1e6 do local t = s .. i end",
        "local s = ('a'):rep(3e6); local t = s .. 'b'; while true do local x = s < t end",
        "local t = {}; for i = 1, 2e5 do t[i] = i end; while true do table.remove(t, 1) end",
        "local s = ('a'):rep(3e6); while true do local n = s:reverse():upper() end",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[256];
        uint64_t start_us = mayday_clock_monotonic_us();

        snprintf(text, sizeof(text), CHANGE("%s"), bodies[i]);
        assert_run_fails(f, text, "ran for more than 50 ms");
        assert_true(mayday_clock_monotonic_us() - start_us < 1500000);
    }
}

static void
test_rules_run__collector_cannot_be_stopped(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("assert(collectgarbage('count') > 10 and collectgarbage() > 10)"));
    assert_run_fails(f, CHANGE("collectgarbage('stop')"), "invalid option");
}

static void
test_rules_run__metatables_are_protected(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("assert(not getmetatable(event) and not getmetatable(hint))\n"
                           "assert(not getmetatable(event.request.headers))"));
    assert_run_fails(f, CHANGE("setmetatable(event, {})"), "protected metatable");
}

/* ---- ways out that were tried ---- */

/* Functions of Lua's library that call back use the thread's stack, not Lua's. */
static void
test_rules_run__recursion_through_the_library_ends(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "local function f() return (('a'):gsub('a', f)) end; f()",
        "local t = setmetatable({}, {}); getmetatable(t).__index = function(t)\n"
        "  return (('a'):gsub('a', function() return t.x end)) end; local x = t.a",
        "local function f() table.sort({1, 2, 3}, f) end; f()",
        "local t; t = setmetatable({}, {__tostring = function() return ('%s'):format(t) end})\n"
        "tostring(t)",
        "local function f() coroutine.wrap(f)() end; f()",
        "local t = setmetatable({}, {__tostring = tostring}); tostring(t)",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[512];

        snprintf(text, sizeof(text), CHANGE("%s"), bodies[i]);
        assert_run_fails(f, text, "functions call each other too deep");
    }
    assert_keeps(f, CHANGE("local t = setmetatable({}, {__call = pcall}); t()"));
    assert_keeps(f, CHANGE("local function f() return coroutine.resume(coroutine.create(f)) end\n"
                           "f()"));
    assert_run_fails(f, CHANGE("local function f() return 1 + f() end; f()"),
                     "rules.lua:3: stack overflow");
}

static void
test_rules_run__library_cannot_be_kept_busy(void **state)
{
    fixture_t *f = *state;
    uint64_t start_us = mayday_clock_monotonic_us();

    assert_run_fails(f, CHANGE("table.insert({}, -2147483648, 1)"), "position out of bounds");
    assert_run_fails(f, CHANGE("table.insert({1}, 3, 1)"), "position out of bounds");
    assert_run_fails(f, CHANGE("table.insert({}, 0/0, 1)"), "position out of bounds");
    assert_run_fails(f, CHANGE("table.sort({1, 2}, rawequal)"),
                     "rules.lua:3: sorting takes a comparison written in Lua");
    assert_run_fails(f, CHANGE("local s = ('1'):rep(3e6); local t = ('%d'):format(s, s)"),
                     "rules.lua:3: string.format takes at most 4 MiB of text");
    assert_run_fails(f, CHANGE("local s = ('a'):rep(2e6); s:find('b')"), "at most 1 MiB of text");
    assert_run_fails(f,
                     CHANGE("local s = ('a'):rep(5e5)\n"
                            "for i = 1, 1000 do s:gsub('a', string.upper) end"),
                     "rules.lua:4: ran for more than 50 ms");
    assert_run_fails(f, CHANGE("for i = 1, 1000 do local s = ('a'):rep(3e6) end"),
                     "ran for more than 50 ms");
    assert_true(mayday_clock_monotonic_us() - start_us < 10000000);
}

/* What takes long with one argument takes for ever with thousands of them, or in a callback. */
static void
test_rules_run__one_call_cannot_take_long(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "table.sort(many(('a'):rep(3e6)))",
        "table.sort(many(emptied('__lt')))",
        "math.max(unpack(many(('1'):rep(3e6))))",
        "math.min(unpack(many(('1'):rep(3e6))))",
        "bit.band(unpack(many(('1'):rep(3e6))))",
        "bit.bor(unpack(many(('1'):rep(3e6))))",
        "bit.bxor(unpack(many(('1'):rep(3e6))))",
        "string.char(unpack(many(('0'):rep(3e6) .. '65')))",
        "(('%s'):rep(7000)):format(unpack(many(emptied('__tostring'))))",
        "(('a'):rep(1e6)):gsub('a', emptied('__index'))",
        "local t = emptied('__concat'); while true do local x = t..t..t..t..t..t..t..t..t end",
        "while true do local x = next(emptied('__call')) end",
        "(('a'):rep(4096)):gsub('[' .. ('x'):rep(3e6) .. ']-', '')",
        "(('a'):rep(4096)):gsub('[' .. ('x'):rep(3e6) .. ']?', '')",
        "local re = mayday.re\n"
        "re.match(('a'):rep(5e5) .. 'b' .. ('a'):rep(5e5), [[^(?=(a*b)).+?\\1]], 'iu')",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[1024];
        uint64_t start_us = mayday_clock_monotonic_us();

        snprintf(text, sizeof(text),
                 CHANGE("local function many(x)\n"
                        "  local t = {}; for i = 1, 7000 do t[i] = x end; return t end\n"
                        "local function emptied(name)\n"
                        "  local t = {}; for i = 1, 250000 do t[i] = i end\n"
                        "  for i = 250000, 1, -1 do t[i] = nil end\n"
                        "  return setmetatable(t, {[name] = table.maxn}) end\n"
                        "do end; %s"),
                 bodies[i]);
        if (run(f, text) != MAYDAY_RULES_FAILED) {
            fail_msg("not bounded: %s", bodies[i]);
        }
        if (strstr(f->result.error, "steps") == NULL) {
            assert_text_in(f->result.error, "ran for more than 50 ms");
        }
        if (mayday_clock_monotonic_us() - start_us > 1500000) {
            fail_msg("took too long: %s", bodies[i]);
        }
    }
}

static void
test_rules_run__replaced_functions_are_as_before(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("assert(tostring(nil) == 'nil' and tostring(1.5) == '1.5')\n"
                           "assert(tostring(true) == 'true' and tostring('x') == 'x')\n"
                           "assert(tostring({}):find('^table: '))\n"
                           "assert(tostring(setmetatable({}, {__tostring = function()\n"
                           "  return 'me' end})) == 'me')"));
    assert_keeps(f, CHANGE("local a, b, c, d = pcall(function(...) return ... end, 1, nil, 3)\n"
                           "assert(a == true and b == 1 and c == nil and d == 3)\n"
                           "a, b = pcall(error, 'x', 0); assert(a == false and b == 'x')\n"
                           "a, b = xpcall(function(x) error(x, 0) end,\n"
                           "  function(e) return e .. '!' end, 'q')\n"
                           "assert(a == false and b == 'q!')\n"
                           "a, b, c = xpcall(function() return 1, 2 end, error)\n"
                           "assert(a == true and b == 1 and c == 2)"));
    assert_keeps(f, CHANGE("local t = {'b'}; table.insert(t, 'd'); table.insert(t, 1, 'a')\n"
                           "table.insert(t, 3, 'c'); assert(table.concat(t) == 'abcd')\n"
                           "table.sort(t, function(a, b) return a > b end); assert(t[1] == 'd')\n"
                           "table.sort(t); assert(t[1] == 'a'); table.sort(t, nil)\n"
                           "for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do t[k] = v end\n"
                           "assert(t.a == '1' and t.b == '2')"));
    assert_keeps(f, CHANGE("local sum = 0\n"
                           "local each = coroutine.wrap(function()\n"
                           "  for i = 1, 10 do coroutine.yield(i) end end)\n"
                           "for x in each do sum = sum + x end; assert(sum == 55)\n"
                           "local co = coroutine.create(function(a)\n"
                           "  error('x' .. coroutine.yield(a + 1), 0) end)\n"
                           "local ok, v = coroutine.resume(co, 1); assert(ok and v == 2)\n"
                           "ok, v = coroutine.resume(co, 5); assert(not ok and v == 'x5')"));
    assert_keeps(f, CHANGE("assert(math.max(1, '3', 2) == 3 and math.min(1, '-3', 2) == -3)\n"
                           "assert(math.max(5) == 5 and math.min(-1/0, 1/0) == -1/0)\n"
                           "assert(bit.band(0xff, '0x0f') == 15 and bit.bor(1, 2, 4) == 7)\n"
                           "assert(bit.bxor(5, 1) == 4 and bit.bor(0xffffffff) == -1)\n"
                           "assert(bit.band(-1, 2^31) == -2^31 and bit.bor(2^32 + 5) == 5)\n"
                           "assert(bit.bor(0, 1.5) == bit.tobit(1.5) and bit.bor(-2.6) == -3)\n"
                           "assert(bit.bor(2^50 + 3, 0) == bit.tobit(2^50 + 3))\n"
                           "assert(string.char() == '' and string.char(65, '66', 0) == 'AB\\0')\n"
                           "local big = {}; for i = 1, 20000 do big[i] = -i end\n"
                           "table.sort(big); assert(big[1] == -20000 and big[20000] == -1)"));
    assert_run_fails(f, CHANGE("string.char(256)"),
                     "rules.lua:3: bad argument #1 to 'char' (invalid value)");
    assert_run_fails(f, CHANGE("math.max()"),
                     "rules.lua:3: bad argument #1 to 'max' (number expected, got no value)");
    assert_run_fails(f, CHANGE("table.sort {1, {}}"), "attempt to compare");
    assert_run_fails(f, CHANGE("('x'):rep({})"),
                     "rules.lua:3: bad argument #1 to 'rep' (number expected, got table)");
}

static void
test_rules_run__errors_without_a_position_get_one(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f,
                     CHANGE("error(setmetatable({}, {__tostring = function()\n"
                            "while true do end end}))"),
                     "rules.lua:2: an error of type table was raised");
    assert_run_fails(f, RULE("error('plain', 0)"), "rules.lua:2: plain");
    assert_run_fails(f, RULE("error('anna@example.com:1: x', 0)"), "rules.lua:2: anna@");
    assert_run_fails(f, RULE("error('.lua:1: x', 0)"), "rules.lua:2: .lua:1: x");
    assert_run_fails(f, RULE("error('rules.lua:7: x', 0)"), "rules.lua:7: x");
    assert_int_equal(strncmp(f->result.error, "rules.lua:7: x", 14), 0);
    assert_string_equal(f->result.where, "rules.lua:2");
    assert_run_fails(f, CHANGE("event.extra = {n = -1/0}"),
                     "rules.lua:2: event.extra.n: the number is not finite");
    assert_run_fails(f,
                     MODULE "mayday.add_event_processor(function(event)\n"
                            "  event.extra = {n = 0/0}\n"
                            "  return event\n"
                            "end)\n"
                            "mayday.before_send(function(event) return event end)",
                     "rules.lua:2 to rules.lua:6: event.extra.n: the number is not finite");
    assert_string_equal(f->result.hook, "");
}

/* They may quote what a client sent, and go to logs, terminals and JSON. */
static void
test_rules_run__errors_are_printable(void **state)
{
    fixture_t *f = *state;
    char long_text[400];

    assert_run_fails(f, RULE("error('a\\nb\\27[31m\\255\\194\\155c\\195\\164')"),
                     "rules.lua:3: a b [31m?  c\xc3\xa4");
    assert_run_fails(f, CHANGE("event.request.headers['\\255\\n'] = {}"),
                     "event.request.headers.? : the value must be a string");
    snprintf(long_text, sizeof(long_text), RULE("error('x' .. ('\\195\\164'):rep(900), 0)"));
    assert_int_equal(run(f, long_text), MAYDAY_RULES_FAILED);
    assert_int_equal(f->result.error[strlen(f->result.error) - 1], '?'); /* cut in the middle */
    assert_load_fails(f, "error('a\\nb\\255')", "rules.lua:1: a b?");
}

static void
test_rules_new__load_errors_name_the_file(void **state)
{
    fixture_t *f = *state;
    static const char broken[] = "error('always the same', 0)";
    char wanted[256];

    snprintf(wanted, sizeof(wanted), "%s: a single value needed more than 4 MiB", f->file);
    assert_load_fails(f, "local s = ('x'):rep(1e9)", wanted);
    write_bytes(f, "broken.lua", broken, sizeof(broken) - 1);
    snprintf(wanted, sizeof(wanted), "%s: always the same", f->file);
    assert_load_fails(f, "pcall(require, 'broken'); require 'broken'", wanted);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rules_run__endless_loop_ends),
        TEST(test_rules_run__next_event_after_a_timeout_is_fine),
        TEST(test_rules_run__memory_is_capped),
        TEST(test_rules_run__rules_that_hoard_are_loaded_anew),
        TEST(test_rules_run__big_tables_of_the_file_stay),
        TEST(test_rules_run__big_values_are_interrupted),
        TEST(test_rules_run__collector_cannot_be_stopped),
        TEST(test_rules_run__metatables_are_protected),
        TEST(test_rules_run__recursion_through_the_library_ends),
        TEST(test_rules_run__library_cannot_be_kept_busy),
        TEST(test_rules_run__one_call_cannot_take_long),
        TEST(test_rules_run__replaced_functions_are_as_before),
        TEST(test_rules_run__errors_without_a_position_get_one),
        TEST(test_rules_run__errors_are_printable),
        TEST(test_rules_new__load_errors_name_the_file),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
