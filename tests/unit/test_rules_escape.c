/*
 * Ways out of the sandbox that are known from elsewhere, each tried, and what a
 * process needs that may have no memory both writable and executable.
 */
#include "tests/unit/rules_fixture.h"

#include <errno.h>
#include <lauxlib.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <lualib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_MDWE_REFUSE_EXEC_GAIN
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

/* ---- what cannot be reached ---- */

static void
test_escape__nothing_but_the_allowed_modules(void **state)
{
    fixture_t *f = *state;
    static const char *const names[] = {
        "ffi",       "jit",    "jit.util", "jit.opt", "debug",     "package",     "io",
        "os",        "string", "_G",       "table",   "table.new", "table.clear", "string.buffer",
        "coroutine", "bit"};
    static const char *const paths[] = {"../helper", "..", ".",     "/etc/passwd", "a/../b", "a//b",
                                        "./helper",  "",   "a\\0b", "a.",          ".a",     "%2e"};
    char text[160];

    for (size_t i = 0; i < MAYDAY_COUNT(names); i++) {
        snprintf(text, sizeof(text), "require '%s'", names[i]);
        assert_load_fails(f, text, "not found");
    }
    for (size_t i = 0; i < MAYDAY_COUNT(paths); i++) {
        snprintf(text, sizeof(text), "require '%s'", paths[i]);
        assert_load_fails(f, text, "is not a module's name");
    }
    assert_load_fails(f, "require(('a'):rep(200))", "is not a module's name");
    assert_load_fails(f, "require {}", "string expected, got table");
}

static void
test_escape__functions_have_no_way_to_code_or_environments(void **state)
{
    fixture_t *f = *state;
    static const char *const globals[] = {
        "getfenv", "setfenv", "load",    "loadstring", "loadfile", "dofile", "module", "newproxy",
        "rawset",  "rawget",  "package", "debug",      "_G",       "_ENV",   "gcinfo", "jit"};
    static const char *const members[] = {
        "string.dump",    "string.gfind", "os.execute", "os.exit",         "os.getenv",
        "os.remove",      "os.rename",    "os.tmpname", "os.setlocale",    "table.foreach",
        "table.foreachi", "table.getn",   "table.setn", "math.randomseed", "coroutine.isyieldable"};
    char text[160];

    for (size_t i = 0; i < MAYDAY_COUNT(globals); i++) {
        snprintf(text, sizeof(text), CHANGE("local x = (function() return %s end)()"), globals[i]);
        assert_load_fails(f, text, "rules.lua:3: undeclared global");
    }
    for (size_t i = 0; i < MAYDAY_COUNT(members); i++) {
        snprintf(text, sizeof(text), CHANGE("assert(%s == nil)"), members[i]);
        assert_keeps(f, text);
    }
    assert_keeps(f, CHANGE("assert(('').dump == nil and ('').buffer == nil)"));
}

static void
test_escape__bytecode_is_refused_wherever_it_stands(void **state)
{
    fixture_t *f = *state;
    lua_State *L = luaL_newstate();
    const char *bytes;
    size_t len;

    assert_non_null(L);
    luaL_openlibs(L);
    assert_int_equal(luaL_dostring(L, "return string.dump(loadstring('return 1'))"), 0);
    bytes = lua_tolstring(L, -1, &len);
    write_bytes(f, "code.lua", bytes, len);
    assert_load_fails(f, "require 'code'", "attempt to load chunk with wrong mode");
    write_bytes(f, "rules.lua", bytes, len);
    f->rules = mayday_rules_new(f->file, "lua", NULL, f->error, sizeof(f->error));
    assert_null(f->rules);
    assert_text_in(f->error, "attempt to load chunk with wrong mode");
    lua_close(L);
}

static void
test_escape__metatables_of_others_cannot_be_had(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("assert(getmetatable('') == false)\n"
                           "assert(not pcall(setmetatable, '', {}))\n"
                           "assert(not pcall(function() getmetatable('').__index = 1 end))\n"
                           "assert(not pcall(function() local s = 'x'; s.y = 1 end))\n"
                           "assert(getmetatable(mayday) == false and getmetatable(pairs) == nil)\n"
                           "assert(getmetatable(function() end) == nil and not getmetatable(1))\n"
                           "assert(getmetatable(coroutine.create(function() end)) == nil)\n"
                           "for _, t in ipairs {event, hint, event.request.headers,\n"
                           "                    event.exception.values} do\n"
                           "  assert(getmetatable(t) == false)\n"
                           "  assert(not pcall(setmetatable, t, nil))\n"
                           "end"));
}

/* ---- what runs where nobody looks ---- */

static void
test_escape__finalizers_do_not_exist(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, MODULE "local ran = false\n"
                           "mayday.before_send(function(event)\n"
                           "  for i = 1, 1000 do\n"
                           "    setmetatable({}, {__gc = function() ran = true end})\n"
                           "    local s = ('x'):rep(5000) .. i\n"
                           "  end\n"
                           "  assert(not ran)\n"
                           "  return event\n"
                           "end)");
}

static void
test_escape__coroutines_stay_inside(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, RULE("coroutine.yield(event)"), "attempt to yield");
    assert_run_fails(f, RULE("return coroutine.wrap(function() return event end)"),
                     "it returned function");
    assert_keeps(f, CHANGE("local ok, why = coroutine.resume(coroutine.create(function()\n"
                           "  return pcall(coroutine.yield) end))\n"
                           "assert(ok)\n"
                           "local co; co = coroutine.create(function()\n"
                           "  return coroutine.resume(co) end)\n"
                           "local _, ok2 = coroutine.resume(co); assert(ok2 == false)\n"
                           "local w; w = coroutine.wrap(function() w() end)\n"
                           "assert(not pcall(w))\n"
                           "assert(not pcall(table.sort, {3, 2, 1}, coroutine.yield))\n"
                           "assert(not pcall(string.gsub, 'a', 'a', coroutine.yield))\n"
                           "assert(not pcall(mayday.re.gsub, 'a', 'a', coroutine.yield))"));
    /* A coroutine kept from an earlier event knows nothing of the next. */
    assert_keeps(f, MODULE "local co = coroutine.wrap(function(event)\n"
                           "  while true do event = coroutine.yield(event) end end)\n"
                           "mayday.before_send(function(event) return co(event) end)");
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_int_equal(f->result.verdict, MAYDAY_RULES_KEEP);
}

/* An error in a loop, an error object that fights back, a handler that fails. */
static void
test_escape__errors_do_not_hold_up_the_end(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "while true do pcall(error) end",
        "while true do pcall(error, {}) end",
        "while true do xpcall(error, function() error('x') end) end",
        "local e = setmetatable({}, {__tostring = function() while true do end end})\n"
        "while true do pcall(error, e) end",
        "local function f() return pcall(f) end; while true do f() end",
        "while true do pcall(string.rep) end",
        "while true do pcall(setmetatable({}, {__call = function() while true do end end})) end",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end})\n"
        "while true do pcall(function() return t[1] end) end",
        "local t = setmetatable({}, {__concat = function(a, b) return a .. b end})\n"
        "while true do pcall(function() return t .. t end) end",
        "local t = setmetatable({}, {__eq = function(a, b) while true do end end})\n"
        "local u = setmetatable({}, getmetatable(t)); return t == u",
        "local t = setmetatable({}, {__lt = function(a, b) while true do end end})\n"
        "table.sort {t, t, t, t}",
        "for k in pairs(setmetatable({}, {__index = event})) do end; while true do end",
        "repeat until event == hint",
        "do ::again:: goto again end",
        "local co = {}; for i = 1, 1e9 do co[i % 100] = coroutine.create(function() end) end",
        "while true do coroutine.wrap(error)() end",
        "while true do pcall(coroutine.wrap(error)) end",
        "while true do pcall(function() event.tags[{}] = 1 end) end",
        "while true do pcall(mayday.array, event) end",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[512];
        uint64_t start_us = mayday_clock_monotonic_us();

        snprintf(text, sizeof(text), CHANGE("%s"), bodies[i]);
        load(f, text);
        if (f->rules == NULL) { /* "return" in the middle */
            snprintf(text, sizeof(text), RULE("%s"), bodies[i]);
            load(f, text);
        }
        if (f->rules == NULL) {
            fail_msg("%s: %s", bodies[i], f->error);
        }
        make_event(f, sample);
        mayday_rules_run(f->rules, &f->event, &f->result);
        if (f->result.verdict != MAYDAY_RULES_FAILED) {
            fail_msg("not ended: %s", bodies[i]);
        }
        assert_text_in(f->result.error, "rules.lua:");
        assert_true(mayday_clock_monotonic_us() - start_us < 2000000);
    }
}

/* Arguments that C functions have stumbled over elsewhere: an answer or an error, and soon. */
static void
test_escape__odd_arguments(void **state)
{
    fixture_t *f = *state;
    static const char *const bodies[] = {
        "pcall(table.sort, {3, 1, 2, 5, 4, 9, 8}, function() return true end)",
        "pcall(table.sort, {1, 'a', {}, true})",
        "local t = {}; for i = 1, 200 do t[i] = i end\n"
        "pcall(table.sort, t, function(a, b) t[a] = nil; return a > b end)",
        "assert((''):rep(1e9) == '' and ('x'):rep(-1) == '' and ('x'):rep(0/0) == '')",
        "pcall(string.rep, 'x', 2^31); pcall(string.rep, 'x', 2^53); pcall(string.rep, 'x', 1/0)",
        "pcall(unpack, {}, 1, 1e8); pcall(unpack, {}, -2^31, 2^31 - 1); pcall(unpack, {}, 1e308)",
        "pcall(table.concat, {}, '', 1, 1e9); pcall(table.concat, {}, '', -2^31, 2^31 - 1)",
        "pcall(string.byte, ('x'):rep(1e6), 1, -1); pcall(string.char, -1, 256, 1e9)",
        "pcall(string.format, '%99999d', 1); pcall(string.format, '%.999f', 1)",
        "pcall(string.format, ('%s'):rep(500), unpack({}, 1, 500))",
        "pcall(string.format, '%q', ('\\0'):rep(1e5)); pcall(string.format, '%*d', 1, 1)",
        "pcall(string.format, '%p', event); pcall(string.format, '%n', 1)",
        "pcall(os.date, ('%c'):rep(1e5)); pcall(os.date, '%E'); pcall(os.date, '%')",
        "pcall(os.date, '*t', 1e300); pcall(os.date, '!%c', -1e18); pcall(os.time, {year = 1e9})",
        "pcall(os.time, {year = 0/0, month = {}, day = 'x'}); pcall(os.date, {})",
        "pcall(tonumber, ('f'):rep(1e6), 16); pcall(tonumber, '1', 1e9); pcall(tonumber, {}, 2)",
        "pcall(select, -1e9, 1); pcall(select, 2^31, 1); pcall(select, 0/0)",
        "pcall(math.random, 0); pcall(math.random, 1, -1); pcall(math.random, 2^53, 2^60)",
        "pcall(next, {}, {}); pcall(next, event, 0/0); pcall(ipairs); pcall(pairs, nil)",
        "pcall(coroutine.create, string.rep); pcall(coroutine.resume, nil)",
        "pcall(coroutine.wrap(string.rep)); pcall(coroutine.wrap, coroutine.wrap)",
        "pcall(string.sub, 'x', -2^31, 2^31); pcall(string.sub, 'x', 0/0, 1/0)",
        "pcall(string.find, 'x', 'x', -2^31); pcall(string.find, 'x', 'x', 2^31)",
        "pcall(string.gsub, 'x', 'x', 'y', 2^40); pcall(string.gsub, 'x', '', '%1')",
        "pcall(table.insert, {}, 2^31, 1); pcall(table.remove, {}, -2^31); pcall(table.maxn, {})",
        "pcall(bit.lshift, 1, 1e9); pcall(bit.tohex, 1, -2^31); pcall(bit.bor)",
        "pcall(mayday.log, 'error', ('%n'):rep(1e5)); pcall(mayday.hmac, ('x'):rep(1e6))",
        "pcall(mayday.re.match, 'x', '(?C255)x'); pcall(mayday.re.match, 'x', '(*LIMIT_HEAP=0)x')",
        "pcall(mayday.re.match, 'x', [[\\C]]); pcall(mayday.re.match, 'x', '(*UTF)\\255')",
        "pcall(setmetatable, {}, {__index = function() end, __metatable = setmetatable})",
        "local t = {}; for i = 1, 100 do t[i] = i end\n"
        "pcall(function() for k in pairs(t) do t[k .. 'x'] = 1 end end)",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(bodies); i++) {
        char text[512];
        uint64_t start_us = mayday_clock_monotonic_us();

        snprintf(text, sizeof(text), CHANGE("%s"), bodies[i]);
        if (run(f, text) != MAYDAY_RULES_KEEP) {
            fail_msg("%s: %s", bodies[i], f->result.error);
        }
        assert_true(mayday_clock_monotonic_us() - start_us < 2000000);
    }
}

/* What a rule does to tables, even the event's own, stays with that event. */
static void
test_escape__next_event_is_unharmed(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, MODULE "local n = 0\n"
                           "mayday.before_send(function(event)\n"
                           "  n = n + 1\n"
                           "  if n == 2 then\n"
                           "    assert(event.request.headers.host == 'shop')\n"
                           "    event.tags.fine = 'yes'\n"
                           "    return event\n"
                           "  end\n"
                           "  setmetatable(event.tags, {__index = error, __newindex = error})\n"
                           "  event.contexts = {a = setmetatable({}, {__index = error})}\n"
                           "  event.request.headers = nil\n"
                           "  return event\n"
                           "end)");
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    assert_part(f, MAYDAY_PART_TAGS,
                "{\"kind\":\"upstream_refused\",\"zone\":\"a\",\"fine\":\"yes\"}");
}

/* ---- no memory both writable and executable ---- */

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

/* As systemd's MemoryDenyWriteExecute where the kernel has no PR_SET_MDWE. */
static bool
deny_by_seccomp(void)
{
#ifdef THIS_ARCH
    enum { BOTH = PROT_WRITE | PROT_EXEC };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mprotect, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, BOTH),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BOTH, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {MAYDAY_COUNT(filter), filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
#else
    return false;
#endif
}

enum { WORKED = 0, FAILED = 1, NOT_DENIED = 77 };

static int
run_denied(fixture_t *f)
{
    void *both;

    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0 && !deny_by_seccomp()) {
        return NOT_DENIED;
    }
    both = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (both != MAP_FAILED) {
        return NOT_DENIED;
    }
    load(f, CHANGE("local n = 0\n"
                   "for i = 1, 20000 do n = n + i % 7 end\n"
                   "for i = 1, 300 do\n"
                   "  n = n + #mayday.re.match('user' .. i, '^([a-z]+)([0-9]+)$')[2]\n"
                   "  n = n + ('user' .. i):find('%d+$')\n"
                   "end\n"
                   "event.tags.n = n"));
    if (f->rules == NULL) {
        return FAILED;
    }
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    return f->result.verdict == MAYDAY_RULES_KEEP ? WORKED : FAILED;
}

static void
test_rules_run__without_writable_and_executable_memory(void **state)
{
    fixture_t *f = *state;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(run_denied(f));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_DENIED) {
        print_message("this kernel denies neither by prctl nor by seccomp\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), WORKED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_escape__nothing_but_the_allowed_modules),
        TEST(test_escape__functions_have_no_way_to_code_or_environments),
        TEST(test_escape__bytecode_is_refused_wherever_it_stands),
        TEST(test_escape__metatables_of_others_cannot_be_had),
        TEST(test_escape__finalizers_do_not_exist),
        TEST(test_escape__coroutines_stay_inside),
        TEST(test_escape__errors_do_not_hold_up_the_end),
        TEST(test_escape__odd_arguments),
        TEST(test_escape__next_event_is_unharmed),
        TEST(test_rules_run__without_writable_and_executable_memory),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
