/*
 * The rules: loading, what a rule sees of an event and what comes back, and the
 * contract of returning. For the bounds see test_rules_sandbox.c.
 */
#include "tests/unit/rules_fixture.h"

/* ---- loading ---- */

static void
test_rules_new__missing_file(void **state)
{
    fixture_t *f = *state;

    f->rules = mayday_rules_new("/nowhere/rules.lua", "lua", NULL, f->error, sizeof(f->error));
    assert_null(f->rules);
    assert_text_in(f->error, "/nowhere/rules.lua");
}

static void
test_rules_new__directory(void **state)
{
    fixture_t *f = *state;

    f->rules = mayday_rules_new(f->dir, "lua", NULL, f->error, sizeof(f->error));
    assert_null(f->rules);
    assert_text_in(f->error, "not a regular file");
}

static void
test_rules_new__syntax_error_has_file_and_line(void **state)
{
    fixture_t *f = *state;
    char wanted[160];

    snprintf(wanted, sizeof(wanted), "%s:2: ", f->file);
    assert_load_fails(f, "local a = 1\nlocal = 2\n", wanted);
}

static void
test_rules_new__undeclared_global_in_a_function_that_never_ran(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, CHANGE("local function g()\n return 1 + sume\n end"),
                      "rules.lua:4: undeclared global 'sume'");
    assert_load_fails(f, CHANGE("count = 1"), "rules.lua:3: assignment to global 'count'");
    assert_load_fails(f, "string = nil\n", "rules.lua:1: assignment to global 'string'");
    assert_load_fails(f, "print('x')", "use mayday.log");
}

static void
test_rules_new__nothing_dangerous_is_there(void **state)
{
    fixture_t *f = *state;
    static const char *const names[] = {"io",     "ffi",        "jit",      "debug",  "package",
                                        "load",   "loadstring", "loadfile", "dofile", "newproxy",
                                        "_G",     "getfenv",    "setfenv",  "rawset", "rawget",
                                        "module", "gcinfo",     "print"};
    static const char *const members[] = {"os.execute",   "os.getenv",  "os.exit",
                                          "os.remove",    "os.rename",  "os.tmpname",
                                          "os.setlocale", "string.dump"};
    char text[128];

    for (size_t i = 0; i < MAYDAY_COUNT(names); i++) {
        snprintf(text, sizeof(text), "local x = %s", names[i]);
        assert_load_fails(f, text, "undeclared global");
    }
    for (size_t i = 0; i < MAYDAY_COUNT(members); i++) {
        snprintf(text, sizeof(text), "assert(%s == nil)", members[i]);
        load(f, text);
        assert_non_null(f->rules);
    }
    load(f, "assert((''):len() == 0 and (''). dump == nil and not getmetatable(''))");
    assert_non_null(f->rules);
    for (size_t i = 0; i < 3; i++) {
        static const char *const modules[] = {"ffi", "jit.util", "string.buffer"};

        snprintf(text, sizeof(text), "require '%s'", modules[i]);
        assert_load_fails(f, text, "not found");
    }
}

static void
test_rules_new__bytecode_is_refused(void **state)
{
    fixture_t *f = *state;
    static const char bytecode[] = "\x1bLJ\x02\x02\x00";

    write_bytes(f, "rules.lua", bytecode, sizeof(bytecode) - 1);
    f->rules = mayday_rules_new(f->file, "lua", NULL, f->error, sizeof(f->error));
    assert_null(f->rules);
    assert_text_in(f->error, "attempt to load chunk with wrong mode");
}

static void
test_rules_new__second_before_send(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, CHANGE("") "mayday.before_send(function(e) return e end)",
                      "rules.lua:6: before_send is already set in rules.lua:2");
}

static void
test_rules_new__hook_must_be_a_function(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, MODULE "mayday.add_event_processor('x')", "function expected, got string");
}

static void
test_rules_new__too_many_processors(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f,
                      MODULE "for i = 1, 65 do mayday.add_event_processor(function(e) return e end)"
                             " end",
                      "already 64");
}

static void
test_rules_new__endless_loop(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, "while true do end", "rules.lua:1: ran for more than 1000 ms");
}

static void
test_rules_new__modules(void **state)
{
    fixture_t *f = *state;
    static const char helper[] = "return { answer = 42 }";
    static const char circle[] = "return require 'circle'";
    static const char broken[] = "local x\nreturn undefined_name";

    write_bytes(f, "helper.lua", helper, sizeof(helper) - 1);
    write_bytes(f, "circle.lua", circle, sizeof(circle) - 1);
    write_bytes(f, "broken.lua", broken, sizeof(broken) - 1);
    load(f, "assert(require('helper').answer == 42 and require 'helper' == require 'helper')");
    assert_non_null(f->rules);
    assert_load_fails(f, "require 'nothere'", "module 'nothere' not found");
    assert_load_fails(f, "require '../helper'", "is not a module's name");
    assert_load_fails(f, "require '/etc/passwd'", "is not a module's name");
    assert_load_fails(f, "require 'a..b'", "is not a module's name");
    assert_load_fails(f, "require 'circle'", "requires itself");
    assert_load_fails(f, "require 'broken'", "broken.lua:2: undeclared global 'undefined_name'");
    assert_run_fails(f, CHANGE("require 'helper'"), "while the rules are loaded");
}

/* ---- returning ---- */

static void
test_rules_run__no_hooks_keeps(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, "local x = 1");
    assert_int_equal(f->event.replaced, 0);
}

static void
test_rules_run__drop(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(run(f, RULE("return nil, 'bot'")), MAYDAY_RULES_DROP);
    assert_string_equal(f->result.reason, "bot");
    assert_string_equal(f->result.hook, "before_send");
    assert_string_equal(f->result.where, "rules.lua:2");
}

static void
test_rules_run__what_is_not_the_contract_is_an_error(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, RULE(""), "rules.lua:2: before_send must return the event");
    assert_run_fails(f, RULE("return nil"), "nil without a reason");
    assert_run_fails(f, RULE("return nil, ''"), "is not 1 to 64 printable ASCII characters");
    assert_run_fails(f, RULE("return nil, 'a\\nb'"), "is not 1 to 64 printable");
    assert_run_fails(f, RULE("return nil, ('x'):rep(65)"), "is not 1 to 64 printable");
    assert_run_fails(f, RULE("return nil, 5"), "nil without a reason");
    assert_run_fails(f, RULE("return true"), "it returned boolean");
    assert_run_fails(f, RULE("return false"), "it returned boolean");
    assert_run_fails(f, RULE("return {}"), "it returned another table");
    assert_run_fails(f, RULE("return hint"), "it returned another table");
}

static void
test_rules_run__processors_run_in_order_before_before_send(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, MODULE
                 "mayday.before_send(function(e) e.tags.t = e.tags.t .. 'c' return e end)\n"
                 "mayday.add_event_processor(function(e) e.tags.t = 'a' return e end)\n"
                 "mayday.add_event_processor(function(e) e.tags.t = e.tags.t .. 'b' return e end)");
    assert_part(f, MAYDAY_PART_TAGS,
                "{\"kind\":\"upstream_refused\",\"zone\":\"a\",\"t\":\"abc\"}");
    assert_int_equal(run(f,
                         MODULE "mayday.add_event_processor(function(e) return nil, 'first' end)\n"
                                "mayday.before_send(function(e) error('not reached') end)"),
                     MAYDAY_RULES_DROP);
    assert_string_equal(f->result.hook, "event_processor");
}

static void
test_rules_run__error_has_file_and_line(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, RULE("local x = nil\nreturn x.y"), "rules.lua:4: attempt to index");
    assert_run_fails(f, RULE("error({})"), "error of type table");
    assert_run_fails(f, RULE("error()"), "error of type nil");
    assert_run_fails(f, CHANGE("mayday.before_send(function() end)"), "while the rules are loaded");
}

static void
test_rules_run__log_checks_its_arguments(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, CHANGE("mayday.log('error')"), "rules.lua:3: bad argument #2 to 'log'");
    assert_run_fails(f, CHANGE("mayday.log('loud', 'x')"), "invalid option 'loud'");
    assert_keeps(f, CHANGE("mayday.log('notice', '%s%n')"));
}

/* ---- what a rule sees ---- */

static void
test_rules_run__event_reads_as_tables(void **state)
{
    fixture_t *f = *state;

    assert_keeps(
        f,
        CHANGE(
            "assert(event.level == 'error' and event.release == nil and event.nosuch == nil)\n"
            "assert(#event.fingerprint == 2 and event.fingerprint[1] == 'mayday')\n"
            "assert(event.exception.values[#event.exception.values].mechanism.handled == false)\n"
            "assert(event.contexts.trace.none == nil and next(event.contexts.empty) == nil)\n"
            "assert(type(event) == 'table' and event.request.method == 'GET')\n"
            "assert(event[1] == nil)"));
    assert_int_equal(f->event.replaced, 0);
}

static void
test_rules_run__pairs_and_next_see_all(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("local n, seen = 0, {}\n"
                           "for k, v in pairs(event) do n = n + 1; seen[k] = v end\n"
                           "assert(n == 9, n)\n"
                           "assert(seen.tags == event.tags and seen.level == 'error')\n"
                           "local h = 0\n"
                           "for k in pairs(hint) do h = h + 1 end\n"
                           "assert(h == 5, h)"));
    assert_int_equal(f->event.replaced, 0);
    assert_keeps(f, CHANGE("local k, n = nil, 0\n"
                           "repeat k = next(event, k); n = n + (k and 1 or 0) until not k\n"
                           "assert(n == 9, n)"));
    assert_run_fails(f, CHANGE("next(event, 'nosuch')"), "invalid key");
}

static void
test_rules_run__headers_ignore_case(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("local h = event.request.headers\n"
                           "assert(h['User-Agent'] == 'curl/8' and h['user-agent'] == 'curl/8')\n"
                           "assert(h.ACCEPT == 'a, b' and h.nosuch == nil and h[1] == nil)\n"
                           "local q = event.request.query_string\n"
                           "assert(q.q == '1, 3' and q.Q == '2')\n"
                           "assert(event.request.cookies.any == nil)"));
    assert_int_equal(f->event.replaced, 0);
}

static void
test_rules_run__hint(void **state)
{
    fixture_t *f = *state;

    f->view.u64[MAYDAY_FIELD_KIND] = MAYDAY_KIND_UPSTREAM_CLOSED;
    f->view.u64[MAYDAY_FIELD_DURATION_US] = 1500000;
    f->view.attempts[0].peer = MAYDAY_SLICE("10.0.0.4:80");
    f->view.attempts[0].timing = (mayday_record_attempt_t){502, 3, -1, 60000, 0};
    f->view.attempt_count = 1;
    f->view.log_lines[0].info.level = 3;
    f->view.log_lines[0].text = MAYDAY_SLICE("upstream prematurely closed");
    f->view.log_line_count = 1;
    assert_keeps(
        f, CHANGE("local a, l = hint.attempts, hint.log_lines\n"
                  "assert(hint.kind == 'upstream_closed' and hint.duration == 1.5)\n"
                  "assert(hint.client_ip == nil and hint.suppressed == 0)\n"
                  "assert(#a == 1 and a[1].peer == '10.0.0.4:80' and a[1].status_code == 502)\n"
                  "assert(a[1].connect_ms == 3 and a[1].header_ms == nil)\n"
                  "assert(a[1].response_ms == 60000 and hint.attempts == a)\n"
                  "assert(l[1].level == 'error' and l[1].text:find 'prematurely')\n"
                  "assert(hint.nosuch == nil)"));
    assert_keeps(f, CHANGE("assert(hint.sampled == nil and hint.baggage == nil)"));
    f->view.present |= (uint64_t) 1 << MAYDAY_FIELD_SAMPLED | (uint64_t) 1 << MAYDAY_FIELD_BAGGAGE;
    f->view.text[MAYDAY_FIELD_BAGGAGE] = MAYDAY_SLICE("sentry-release=1");
    f->view.attempts[0].timing.bytes_received = 12;
    assert_keeps(f, CHANGE("assert(hint.sampled == false and hint.baggage == 'sentry-release=1')\n"
                           "assert(hint.attempts[1].bytes_received == 12)"));
    f->view.present |= (uint64_t) 1 << MAYDAY_FIELD_CLIENT_ADDRESS;
    f->view.text[MAYDAY_FIELD_CLIENT_ADDRESS] = MAYDAY_SLICE("203.0.113.7");
    assert_keeps(f, CHANGE("assert(hint.client_ip == '203.0.113.7')"));
}

static void
test_rules_run__event_kept_beyond_its_run_is_dead(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, MODULE "local old\n"
                           "mayday.before_send(function(event, hint)\n"
                           "  if old then\n"
                           "    assert(old ~= event and old.level == nil and old.tags.kept == 1)\n"
                           "    old.tags.kept = 2; old.level = 'info'; old.x = 1\n"
                           "  else old = event; event.tags.kept = 1 end\n"
                           "  return event\n"
                           "end)");
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    assert_int_equal(f->event.replaced, 0);
}

/* ---- what comes back ---- */

static void
test_rules_run__only_what_changed_is_replaced(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("event.tags.zone = 'b'; local x = event.request.headers.host\n"
                           "event.level = 'error'"));
    assert_int_equal(f->event.replaced, 1u << MAYDAY_PART_TAGS);
    assert_part(f, MAYDAY_PART_TAGS, "{\"kind\":\"upstream_refused\",\"zone\":\"b\"}");
}

static void
test_rules_run__setting_and_removing(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("event.level = 'warning'; event.request = nil; event.user = {id = 7}\n"
                           "event.tags.kind = nil; event.tags.b = true; event.tags.a = 1.5\n"
                           "event.extra = {list = {1, 'x', {}}, none = {}}\n"
                           "assert(event.request == nil)\n"
                           "event.contexts.trace.more = {deep = {er = 1}}"));
    assert_part(f, MAYDAY_PART_LEVEL, "\"warning\"");
    assert_part(f, MAYDAY_PART_REQUEST, "none");
    assert_part(f, MAYDAY_PART_USER, "{\"id\":7}");
    assert_part(f, MAYDAY_PART_TAGS, "{\"zone\":\"a\",\"a\":1.5,\"b\":true}");
    assert_part(f, MAYDAY_PART_EXTRA, "{\"list\":[1,\"x\",{}],\"none\":{}}");
    assert_part(f, MAYDAY_PART_CONTEXTS,
                "{\"trace\":{\"trace_id\":\"0af7\",\"none\":null,\"more\":{\"deep\":{\"er\":1}}},"
                "\"empty\":{}}");
}

static void
test_rules_run__lists(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("table.insert(event.breadcrumbs.values, {message = 'm'})\n"
                           "event.extra = {a = mayday.array {}, b = mayday.array {1}}\n"
                           "local values = event.exception.values\n"
                           "values[2] = values[1]; values[1] = {type = 'First'}"));
    assert_part(f, MAYDAY_PART_BREADCRUMBS, "{\"values\":[{\"message\":\"m\"}]}");
    assert_part(f, MAYDAY_PART_EXTRA, "{\"a\":[],\"b\":[1]}");
    assert_part(f, MAYDAY_PART_EXCEPTION,
                "{\"values\":[{\"type\":\"First\"},{\"mechanism\":{\"handled\":false,"
                "\"type\":\"auto.http.mayday\"},\"type\":\"UpstreamRefused\",\"value\":\"v\"}]}");
    assert_keeps(f, CHANGE("table.remove(event.exception.values)\n"
                           "event.extra = {moved = event.breadcrumbs.values}"));
    assert_part(f, MAYDAY_PART_EXCEPTION, "{\"values\":[]}");
    assert_part(f, MAYDAY_PART_EXTRA, "{\"moved\":[]}");
    assert_run_fails(f, CHANGE("mayday.array(setmetatable({}, {}))"), "has a metatable");
    assert_run_fails(f, CHANGE("mayday.array(1)"), "table expected");
}

static void
test_rules_run__headers_keep_order_and_repeats(void **state)
{
    fixture_t *f = *state;

    assert_keeps(
        f, CHANGE("local h = event.request.headers\n"
                  "h['x-last'] = nil; h['USER-AGENT'] = 'bot'; h['x-b'] = 2; h['X-A'] = 'n'"));
    assert_part(f, MAYDAY_PART_REQUEST,
                "{\"method\":\"GET\",\"url\":\"http://shop/a\",\"headers\":[[\"Host\",\"shop\"],"
                "[\"Accept\",\"a\"],[\"User-Agent\",\"bot\"],[\"accept\",\"b\"],[\"X-A\",\"n\"],"
                "[\"x-b\",\"2\"]],\"query_string\":[[\"q\",\"1\"],[\"Q\",\"2\"],[\"q\",\"3\"]]}");
    assert_keeps(f, CHANGE("local r = event.request\n"
                           "r.headers.accept = r.headers.accept .. ', c'; r.query_string.q = nil\n"
                           "r.cookies.theme = 'dark'"));
    assert_part(f, MAYDAY_PART_REQUEST,
                "{\"method\":\"GET\",\"url\":\"http://shop/a\",\"headers\":[[\"Host\",\"shop\"],"
                "[\"Accept\",\"a, b, c\"],[\"User-Agent\",\"curl/8\"],[\"X-Last\",\"z\"]],"
                "\"query_string\":[[\"Q\",\"2\"]],\"cookies\":[[\"theme\",\"dark\"]]}");
    assert_keeps(f, CHANGE("event.request = {headers = {b = '1', a = '2'}, cookies = {}}"));
    assert_part(f, MAYDAY_PART_REQUEST, "{\"headers\":[[\"a\",\"2\"],[\"b\",\"1\"]]}");
    assert_run_fails(f, CHANGE("event.request.headers.host = {'a'}"),
                     "event.request.headers.Host: the value must be a string");
}

static void
test_rules_run__what_cannot_be_sent_names_its_path(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, CHANGE("event.extra = {a = {1, {f = function() end}}}"),
                     "event.extra.a[2].f: a function cannot be sent");
    assert_run_fails(f, CHANGE("event.tags.c = coroutine.create(function() end)"),
                     "event.tags.c: a thread cannot be sent");
    assert_run_fails(f, CHANGE("event.contexts.me = event.contexts"),
                     "event.contexts.me: a table contains itself");
    assert_run_fails(f, CHANGE("local t = {}; t[1] = {t}; event.extra = {x = t}"),
                     "event.extra.x[1][1]: a table contains itself");
    assert_run_fails(f, CHANGE("event.extra = {t = {1, 2, x = 3}}"),
                     "event.extra.t: a table has either");
    assert_run_fails(f, CHANGE("event.tags[1] = 2"), "event.tags: a table has either");
    assert_run_fails(f, CHANGE("event.extra = {t = {[1.5] = 1}}"), "event.extra.t: a list's keys");
    assert_run_fails(f, CHANGE("event.extra = {t = {[2] = 1}}"),
                     "event.extra.t[1]: a list must have no holes");
    assert_run_fails(f, CHANGE("event.extra = {t = {[1e9] = 1}}"), "event.extra.t: a list's keys");
    assert_run_fails(f, CHANGE("event.extra = {n = 0/0}"),
                     "event.extra.n: the number is not finite");
    assert_run_fails(f, CHANGE("event.extra = {['a\\0b'] = 1}"), "a name contains a zero byte");
    assert_run_fails(f, CHANGE("event.colour = 'x'"),
                     "rules.lua:3: event.colour: an event has no such part");
    assert_run_fails(f, CHANGE("event.event_id = 'x'"), "event.event_id: cannot be changed");
    assert_run_fails(f, CHANGE("local t = {}; for i = 1, 40 do t = {t} end; event.extra = {t = t}"),
                     "tables are nested too deep");
    assert_run_fails(f,
                     CHANGE("local t = {}; for i = 1, 30 do t = {t, t} end; event.extra = {t = t}"),
                     "too many values");
    assert_run_fails(f, CHANGE("event.extra = {t = ('x'):rep(600000)}"), "more than 512 KiB");
    assert_run_fails(f,
                     CHANGE("event.extra = {t = ('x'):rep(300000)}\n"
                            "event.tags = {t = ('y'):rep(300000)}"),
                     "event.extra.t: the event has more than 512 KiB of text");
}

/* What is filled when touched is filled when it is sent, too. */
static void
test_rules_run__hint_and_event_as_values(void **state)
{
    fixture_t *f = *state;

    f->view.u64[MAYDAY_FIELD_DURATION_US] = 1500000;
    assert_keeps(f, CHANGE("event.extra = {hint = hint}"));
    assert_part(f, MAYDAY_PART_EXTRA,
                "{\"hint\":{\"attempts\":[],\"duration\":1.5,\"kind\":\"upstream_refused\",\"log_"
                "lines\":[],"
                "\"suppressed\":0}}");
    assert_run_fails(f, CHANGE("event.extra = {e = event}"),
                     "event.extra.e.extra: a table contains itself");
    assert_run_fails(f, CHANGE("event.extra = event"), "a table contains itself");
}

static void
test_rules_run__wrong_types_name_their_path(void **state)
{
    fixture_t *f = *state;
    static const struct {
        const char *body, *wanted;
    } cases[] = {
        {"event.tags = 'x'", "event.tags: must be a table with names, not a string"},
        {"event.tags = {'x'}", "event.tags: must be a table with names, not a list"},
        {"event.tags.a = {}", "event.tags.a: must be a string, a number or a boolean, not a table"},
        {"event.level = 5", "event.level: must be a string, not a number"},
        {"event.level = 'warn'", "event.level: must be \"fatal\", \"error\", \"warning\""},
        {"event.release = {}", "event.release: must be a string, not a table"},
        {"event.transaction = true", "event.transaction: must be a string, not a boolean"},
        {"event.fingerprint = 'x'", "event.fingerprint: must be a list, not a string"},
        {"event.fingerprint = {a = 1}", "event.fingerprint: must be a list, not a table"},
        {"event.fingerprint = {{}}", "event.fingerprint[1]: must be a string, a number"},
        {"event.contexts.shop = 1", "event.contexts.shop: must be a table with names"},
        {"event.modules = {shop = 1}", "event.modules.shop: must be a string, not a number"},
        {"event.request = 'GET /'", "event.request: must be a table with names, not a string"},
        {"event.request.headers = 'x'", "event.request.headers: must be a table with names"},
        {"event.exception.values = {type = 'x'}", "event.exception.values: must be a list"},
        {"event.message = 1", "event.message: must be a table with names, or a string, not a"},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        char text[256];

        snprintf(text, sizeof(text), CHANGE("%s"), cases[i].body);
        assert_run_fails(f, text, cases[i].wanted);
        assert_int_equal(strncmp(f->result.error, "rules.lua:2: ", 13), 0);
    }
    for (int part = 0; part < MAYDAY_PART_MAX; part++) {
        char text[256];

        snprintf(text, sizeof(text), CHANGE("event.%s = %s"),
                 mayday_event_part_key((mayday_part_t) part),
                 part % 2 == 0 ? "function() end" : "coroutine.create(pairs)");
        assert_run_fails(f, text, "cannot be sent");
    }
}

static void
test_rules_run__parts_that_only_rules_set(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("assert(not event.message and not event.dist and not event.modules)\n"
                           "event.message = 'm'; event.dist = '7'; event.modules = {shop = '1.2'}\n"
                           "event.extra = {}; event.contexts = {}; event.tags = {}\n"
                           "event.breadcrumbs.values = nil"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"m\"");
    assert_part(f, MAYDAY_PART_DIST, "\"7\"");
    assert_part(f, MAYDAY_PART_MODULES, "{\"shop\":\"1.2\"}");
    assert_keeps(f, CHANGE("event.message = {formatted = 'm'}"));
    assert_part(f, MAYDAY_PART_MESSAGE, "{\"formatted\":\"m\"}");
}

static void
test_rules_run__text_becomes_valid_utf8(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, CHANGE("event.tags.zone = 'a\\255b\\0c\\195\\164'"));
    assert_string_equal(
        cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_TAGS), "zone")->valuestring,
        "a\xef\xbf\xbd"
        "b\xef\xbf\xbd"
        "c\xc3\xa4");
}

/* ---- examples ---- */

static void
load_example(fixture_t *f, const char *path)
{
    mayday_rules_free(f->rules);
    f->rules = mayday_rules_new(path, "lua", NULL, f->error, sizeof(f->error));
    if (f->rules == NULL) {
        fail_msg("%s", f->error);
    }
}

static mayday_rules_verdict_t
run_example(fixture_t *f, const char *json)
{
    make_event(f, json);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    return f->result.verdict;
}

static void
test_example_drop_bots(void **state)
{
    fixture_t *f = *state;

    load_example(f, "lua/examples/drop_bots.lua");
    assert_int_equal(run_example(f, sample), MAYDAY_RULES_KEEP);
    assert_int_equal(run_example(f, "{\"request\":{\"headers\":[[\"user-agent\","
                                    "\"Mozilla/5.0 (compatible; Googlebot/2.1)\"]]}}"),
                     MAYDAY_RULES_DROP);
    assert_string_equal(f->result.reason, "bot");
    assert_int_equal(run_example(f, "{\"request\":{}}"), MAYDAY_RULES_KEEP);
    assert_int_equal(run_example(f, "{}"), MAYDAY_RULES_KEEP);
}

static void
test_example_tenant_tag(void **state)
{
    fixture_t *f = *state;

    load_example(f, "lua/examples/tenant_tag.lua");
    assert_int_equal(run_example(f, "{\"request\":{\"headers\":[[\"x-tenant\",\"acme\"]]},"
                                    "\"tags\":{}}"),
                     MAYDAY_RULES_KEEP);
    assert_part(f, MAYDAY_PART_TAGS, "{\"tenant\":\"acme\"}");
    assert_int_equal(run_example(f, sample), MAYDAY_RULES_KEEP);
    assert_int_equal(f->event.replaced, 0);
}

static void
test_example_group_checkout(void **state)
{
    fixture_t *f = *state;

    load_example(f, "lua/examples/group_checkout.lua");
    assert_int_equal(run_example(f, "{\"transaction\":\"POST /checkout/*/pay\","
                                    "\"level\":\"error\",\"fingerprint\":[\"a\"]}"),
                     MAYDAY_RULES_KEEP);
    assert_part(f, MAYDAY_PART_LEVEL, "\"fatal\"");
    const cJSON *fingerprint = mayday_event_part(&f->event, MAYDAY_PART_FINGERPRINT);
    assert_string_equal(cJSON_GetArrayItem(fingerprint, 0)->valuestring, "checkout");
    assert_true(cJSON_GetArraySize(fingerprint) > 1); /* Mayday's own, behind it */
    assert_int_equal(run_example(f, "{\"transaction\":\"GET /\",\"fingerprint\":[\"a\"]}"),
                     MAYDAY_RULES_KEEP);
    assert_int_equal(f->event.replaced, 0);
}

/* Every block of Lua in the documentation loads, and runs over an event. */
static void
test_docs_lua__every_example_works(void **state)
{
    fixture_t *f = *state;
    static const char begin[] = "\n```lua\n", end[] = "\n```\n";
    char *text = calloc(1, 65536), *at = text;
    FILE *file = fopen("docs/lua.md", "r");
    int examples = 0;

    assert_non_null(text);
    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    while ((at = strstr(at, begin)) != NULL) {
        char *last = strstr(at + 1, end);

        assert_non_null(last);
        *last = '\0';
        if (run(f, at + sizeof(begin) - 1) == MAYDAY_RULES_FAILED) {
            fail_msg("%s: %s", f->result.error, at + sizeof(begin) - 1);
        }
        examples++;
        at = last + 1;
    }
    assert_true(examples >= 8);
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rules_new__missing_file),
        TEST(test_rules_new__directory),
        TEST(test_rules_new__syntax_error_has_file_and_line),
        TEST(test_rules_new__undeclared_global_in_a_function_that_never_ran),
        TEST(test_rules_new__nothing_dangerous_is_there),
        TEST(test_rules_new__bytecode_is_refused),
        TEST(test_rules_new__second_before_send),
        TEST(test_rules_new__hook_must_be_a_function),
        TEST(test_rules_new__too_many_processors),
        TEST(test_rules_new__endless_loop),
        TEST(test_rules_new__modules),
        TEST(test_rules_run__no_hooks_keeps),
        TEST(test_rules_run__drop),
        TEST(test_rules_run__what_is_not_the_contract_is_an_error),
        TEST(test_rules_run__processors_run_in_order_before_before_send),
        TEST(test_rules_run__error_has_file_and_line),
        TEST(test_rules_run__log_checks_its_arguments),
        TEST(test_rules_run__event_reads_as_tables),
        TEST(test_rules_run__pairs_and_next_see_all),
        TEST(test_rules_run__headers_ignore_case),
        TEST(test_rules_run__hint),
        TEST(test_rules_run__event_kept_beyond_its_run_is_dead),
        TEST(test_rules_run__only_what_changed_is_replaced),
        TEST(test_rules_run__setting_and_removing),
        TEST(test_rules_run__lists),
        TEST(test_rules_run__headers_keep_order_and_repeats),
        TEST(test_rules_run__what_cannot_be_sent_names_its_path),
        TEST(test_rules_run__hint_and_event_as_values),
        TEST(test_rules_run__wrong_types_name_their_path),
        TEST(test_rules_run__parts_that_only_rules_set),
        TEST(test_rules_run__text_becomes_valid_utf8),
        TEST(test_example_drop_bots),
        TEST(test_example_tenant_tag),
        TEST(test_example_group_checkout),
        TEST(test_docs_lua__every_example_works),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
