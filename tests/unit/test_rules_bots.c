/*
 * mayday.bots as rules see it: arguments, options, what is added, and probes by
 * the event. What is known of agents and paths is tested in test_bots.c and
 * test_bots_probe.c.
 */
#include "tests/unit/rules_fixture.h"

#include "core/filter/bots.h"

#define BOTS "local mayday, bots = require 'mayday', require 'mayday.bots'\n"
#define SEND(body) "mayday.before_send(function(event, hint)\n" body "\nreturn event\nend)\n"
#define BOTS_RULE(body) BOTS SEND(body)

static void
assert_bots_fail(fixture_t *f, const char *body, const char *wanted)
{
    char text[1024];

    snprintf(text, sizeof(text), BOTS_RULE("%s"), body);
    assert_run_fails(f, text, wanted);
}

/* Runs a rule over an event with that request. */
static void
run_request(fixture_t *f, const char *rule, const char *request)
{
    char json[1024];

    snprintf(json, sizeof(json), "{\"tags\":{},\"request\":%s}", request);
    load(f, rule);
    if (f->rules == NULL) {
        fail_msg("load: %s", f->error);
    }
    make_event(f, json);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
}

static void
assert_probe(fixture_t *f, const char *options, const char *request, const char *tags)
{
    char rule[512];

    snprintf(rule, sizeof(rule),
             BOTS_RULE("local probe, why = bots.is_probe(event%s)\n"
                       "assert(probe == (why ~= nil))\n"
                       "event.tags.why = why"),
             options);
    run_request(f, rule, request);
    assert_part(f, MAYDAY_PART_TAGS, tags);
}

/* ---- mistakes ---- */

static void
test_bots__arguments(void **state)
{
    fixture_t *f = *state;

    assert_bots_fail(f, "bots.is_bot(1)", "string expected, got number");
    assert_bots_fail(f, "bots.is_bot({})", "string expected, got table");
    assert_bots_fail(f, "bots.classify(event)", "string expected, got table");
    assert_bots_fail(f, "bots.is_bot('x', 'monitor')", "table expected, got string");
    assert_bots_fail(f, "bots.is_bot('x', {'monitor'})", "has the options also and except");
    assert_bots_fail(f, "bots.is_bot('x', {excpet = {'monitor'}})", "the options also and except");
    assert_bots_fail(f, "bots.is_bot('x', {except = 'monitor'})", "must be a list of classes");
    assert_bots_fail(f, "bots.is_bot('x', {except = {'monitors'}})", "no class of bots 'monitors'");
    assert_bots_fail(f, "bots.is_bot('x', {also = {7}})", "no class of bots 'number'");
    assert_bots_fail(f, "bots.is_probe()", "table expected, got no value");
    assert_bots_fail(f, "bots.is_probe(event, {php = 1})", "the options php, java and exchange");
    assert_bots_fail(f, "bots.is_probe(event, {pph = true})", "the options php, java and exchange");
    assert_bots_fail(f, "bots.add{class = 'tool', pattern = 'acme'}", "while the rules are loaded");
}

static void
test_bots_add__mistakes_are_load_errors(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, BOTS "bots.add('acme')", "table expected, got string");
    assert_load_fails(f, BOTS "bots.add{}", "bots.add takes {class");
    assert_load_fails(f, BOTS "bots.add{class = 'tool', pattern = 5}", "bots.add takes {class");
    assert_load_fails(f, BOTS "bots.add{pattern = 'acme'}", "no class of bots 'nil'");
    assert_load_fails(f, BOTS "\nbots.add{class = 'bot', pattern = 'acme'}",
                      "rules.lua:3: there is no class of bots 'bot'");
    assert_load_fails(f, BOTS "bots.add{class = 'tool', pattern = 'a'}", "2 to 64 letters");
    assert_load_fails(f, BOTS "bots.add{class = 'tool', pattern = ('a'):rep(65)}",
                      "2 to 64 letters");
    assert_load_fails(f, BOTS "bots.add{class = 'tool', pattern = 'a(b|c)\\n'}", "2 to 64 letters");
    assert_load_fails(f, BOTS "bots.add{class = 'tool', pattern = 'acme', name = 5}",
                      "all strings");
    assert_load_fails(f,
                      BOTS "for i = 1, 257 do bots.add{class = 'tool', pattern = 'acme' .. i} end",
                      "already 256 patterns");
}

/* ---- agents ---- */

static void
test_bots__classify(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, BOTS_RULE("local class, name = bots.classify('Googlebot/2.1')\n"
                              "assert(class == 'crawler' and name == 'Googlebot')\n"
                              "assert(bots.classify(nil) == 'missing')\n"
                              "assert(bots.classify() == 'missing')\n"
                              "assert(bots.classify('') == 'missing')\n"
                              "class, name = bots.classify('Mozilla/5.0 (Windows NT 10.0; Win64; "
                              "x64; rv:145.0) Gecko/20100101 Firefox/145.0')\n"
                              "assert(class == nil and name == nil)\n"
                              "assert(bots.classify('a\\0b-bot') == 'crawler')"));
}

static void
test_bots__is_bot(void **state)
{
    fixture_t *f = *state;

    assert_keeps(
        f, BOTS_RULE("local is, class, name = bots.is_bot('UptimeRobot/2.0')\n"
                     "assert(is == true and class == 'monitor' and name == 'UptimeRobot')\n"
                     "is, class, name = bots.is_bot('python-requests/2.32')\n"
                     "assert(is == false and class == 'library' and name == 'python-requests')\n"
                     "is, class, name = bots.is_bot(nil)\n"
                     "assert(is == false and class == 'missing' and name == nil)\n"
                     "assert(bots.is_bot('Stripe/1.0') == false)\n"
                     "assert(bots.is_bot('curl/8') == false)\n"
                     "assert(bots.is_bot('billing/1') == false)"));
}

static void
test_bots__is_bot_by_class(void **state)
{
    fixture_t *f = *state;

    assert_keeps(
        f, BOTS_RULE("assert(not bots.is_bot('UptimeRobot/2.0', {except = {'monitor'}}))\n"
                     "assert(bots.is_bot('Googlebot/2.1', {except = {'monitor', 'feed'}}))\n"
                     "assert(bots.is_bot('curl/8', {also = {'tool', 'library'}}))\n"
                     "assert(bots.is_bot(nil, {also = {'missing'}}))\n"
                     "assert(not bots.is_bot('curl/8', {also = {'tool'}, except = {'tool'}}))\n"
                     "assert(bots.is_bot('Googlebot/2.1', {}))\n"
                     "assert(not bots.is_bot('Mozilla/5.0 (Windows NT 10.0)', {also = {'program', "
                     "'missing', 'tool', 'library', 'webhook', 'assistant'}}))"));
}

static void
test_bots_add__extends_and_overrides(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, BOTS "bots.add{class = 'monitor', pattern = '^acme-check', name = 'our own'}\n"
                         "bots.add{class = 'browser', pattern = 'AcmeBot Phone'}\n" SEND(
                             "local is, class, name = bots.is_bot('Acme-Check/3 Googlebot')\n"
                             "assert(is and class == 'monitor' and name == 'our own')\n"
                             "is, class, name = bots.is_bot('Linux AcmeBot Phone 7')\n"
                             "assert(not is and class == 'browser')\n"
                             "assert(bots.is_bot('AcmeBot/1'))"));
}

/* What one rules file adds is nothing to the next. */
static void
test_bots_add__ends_with_the_rules(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, BOTS "bots.add{class = 'browser', pattern = 'googlebot'}\n" SEND(
                        "assert(not bots.is_bot('Googlebot/2.1'))"));
    assert_keeps(f, BOTS_RULE("assert(bots.is_bot('Googlebot/2.1'))"));
}

/* ---- probes ---- */

static void
test_bots__is_probe(void **state)
{
    fixture_t *f = *state;

    assert_probe(f, "", "{\"method\":\"GET\",\"url\":\"http://shop/cart?x=1\"}", "{}");
    assert_probe(f, "", "{\"url\":\"http://shop\"}", "{}");
    assert_probe(f, "", "{\"url\":\"\"}", "{}");
    assert_probe(f, "", "{}", "{}");
    assert_probe(f, "", "{\"url\":\"http://shop/a?b=/.env\"}", "{}");
    assert_probe(f, "", "{\"url\":\"http://shop/%2eenv\"}", "{\"why\":\"secret file\"}");
    assert_probe(f, "", "{\"url\":\"/.git/config\"}", "{\"why\":\"secret file\"}");
    assert_probe(f, "", "{\"method\":\"QQQ\",\"url\":\"http://shop/\"}", "{\"why\":\"method\"}");
    assert_probe(f, "", "{\"query_string\":[[\"page\",\"/etc/passwd\"]]}",
                 "{\"why\":\"secret file\"}");
    assert_probe(f, "", "{\"query_string\":\"page=/etc/passwd\"}", "{\"why\":\"secret file\"}");
    assert_probe(f, "", "{\"headers\":[[\"Accept\",\"*/*\"],[\"X\",\"${jndi:ldap://x/a}\"]]}",
                 "{\"why\":\"log4shell\"}");
}

static void
test_bots__is_probe_by_site(void **state)
{
    static const char login[] = "{\"url\":\"http://shop/wp-login.php\"}";
    static const char cart[] = "{\"url\":\"http://shop/cart.php\"}";
    fixture_t *f = *state;

    assert_probe(f, "", login, "{\"why\":\"wordpress\"}");
    assert_probe(f, ", {php = true}", login, "{}");
    assert_probe(f, "", cart, "{}");
    assert_probe(f, ", {php = false}", cart, "{\"why\":\"php\"}");
    assert_probe(f, ", {java = true, exchange = true}", "{\"url\":\"http://shop/actuator/env\"}",
                 "{}");
}

/* The record has what the event's request has cut or left out. */
static void
test_bots__is_probe_looks_at_the_record(void **state)
{
    fixture_t *f = *state;
    static const char path[] = "/a/%2e%2e/b", method[] = "get";

    f->view.text[MAYDAY_FIELD_PATH] = mayday_slice_str(path);
    f->view.present |= (uint64_t) 1 << MAYDAY_FIELD_PATH;
    assert_probe(f, "", "{\"url\":\"http://shop/a/b\"}", "{\"why\":\"path traversal\"}");
    f->view.text[MAYDAY_FIELD_PATH] = MAYDAY_SLICE("/");
    f->view.text[MAYDAY_FIELD_METHOD] = mayday_slice_str(method);
    assert_probe(f, "", "{\"url\":\"http://shop/a/b\"}", "{\"why\":\"method\"}");
}

/* Where the record shows that PHP runs, nobody has to say so; who says no is believed. */
static void
test_bots__is_probe_sees_php_run(void **state)
{
    static const char login[] = "{\"url\":\"http://shop/wp-login.php\"}";
    fixture_t *f = *state;

    f->view.text[MAYDAY_FIELD_LOCATION] = MAYDAY_SLICE("\\.php$");
    assert_probe(f, "", login, "{}");
    assert_probe(f, ", {php = false}", login, "{\"why\":\"wordpress\"}");
    f->view.text[MAYDAY_FIELD_LOCATION] = MAYDAY_SLICE("/");
    assert_probe(f, "", login, "{\"why\":\"wordpress\"}");
    f->view.attempts[0].peer = MAYDAY_SLICE("unix:/run/php/php8.2-fpm.sock");
    f->view.attempt_count = 1;
    assert_probe(f, "", login, "{}");
    f->view.attempt_count = 0;
    f->view.log_lines[0].text = MAYDAY_SLICE("open() \"/srv/wp-login.php\" failed");
    f->view.log_line_count = 1;
    assert_probe(f, "", login, "{\"why\":\"wordpress\"}");
    f->view.log_lines[0].text = MAYDAY_SLICE("FastCGI sent in stderr: \"PHP message: PHP Fatal\"");
    assert_probe(f, "", login, "{}");
}

/* Any table may be asked about, also one with far too much in it. */
static void
test_bots__is_probe_of_made_up_events(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, BOTS_RULE("assert(not bots.is_probe({}))\n"
                              "assert(not bots.is_probe({request = 5}))\n"
                              "assert(not bots.is_probe({request = {url = {}, method = {}, "
                              "headers = 5, query_string = {1, 2, [{}] = {}}}}))\n"
                              "assert(bots.is_probe({request = {url = '/.env'}}))"));
    assert_bots_fail(f,
                     "local h, v = {}, ('x'):rep(4096)\n"
                     "for i = 1, 1000 do h['h' .. i] = v end\n"
                     "while true do bots.is_probe({request = {headers = h}}) end",
                     "ran for more than 50 ms");
}

/* ---- documentation and examples ---- */

static char *
read_text(const char *path)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen(path, "r");

    assert_non_null(text);
    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    return text;
}

static void
load_example(fixture_t *f, const char *path)
{
    char *text = read_text(path);

    load(f, text);
    free(text);
    if (f->rules == NULL) {
        fail_msg("%s: %s", path, f->error);
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
    assert_int_equal(run_example(f, "{}"), MAYDAY_RULES_KEEP);
    assert_int_equal(run_example(f, "{\"request\":{\"headers\":[[\"User-Agent\","
                                    "\"UptimeRobot/2.0\"]]}}"),
                     MAYDAY_RULES_KEEP);
    assert_int_equal(run_example(f, "{\"request\":{\"headers\":[[\"user-agent\","
                                    "\"SemrushBot/7\"]]}}"),
                     MAYDAY_RULES_DROP);
    assert_string_equal(f->result.reason, "bot");
}

static void
test_example_drop_probes(void **state)
{
    fixture_t *f = *state;

    load_example(f, "lua/examples/drop_probes.lua");
    assert_int_equal(run_example(f, sample), MAYDAY_RULES_KEEP);
    assert_int_equal(run_example(f, "{}"), MAYDAY_RULES_KEEP);
    assert_int_equal(run_example(f, "{\"request\":{\"url\":\"http://shop/%2e%67it/config\"}}"),
                     MAYDAY_RULES_DROP);
    assert_string_equal(f->result.reason, "probe");
    assert_string_equal(f->result.hook, "event_processor");
}

/* Every block of Lua in the pages of these modules loads, and runs over an event. */
static void
test_docs__every_example_works(void **state)
{
    static const char *const pages[] = {"docs/lua/bots.md", "docs/lua/routes.md"};
    static const char begin[] = "\n```lua\n", end[] = "\n```\n";
    fixture_t *f = *state;
    int examples = 0;

    for (size_t i = 0; i < MAYDAY_COUNT(pages); i++) {
        char *text = read_text(pages[i]), *at = text;

        while ((at = strstr(at, begin)) != NULL) {
            char *last = strstr(at + 1, end);

            assert_non_null(last);
            *last = '\0';
            if (run(f, at + sizeof(begin) - 1) == MAYDAY_RULES_FAILED) {
                fail_msg("%s: %s: %s", pages[i], f->result.error, at + sizeof(begin) - 1);
            }
            examples++;
            at = last + 1;
        }
        free(text);
    }
    assert_true(examples >= 8);
}

/* The page's table of classes is the code's. */
static void
test_docs__every_class(void **state)
{
    char *text = read_text("docs/lua/bots.md"), row[64];

    (void) state;
    for (int class = 1; class < MAYDAY_BOT_CLASS_MAX; class ++) {
        bool is_bot = (mayday_bot_classes_default() >> class & 1) != 0;

        if (class != MAYDAY_BOT_BROWSER) {
            snprintf(row, sizeof(row), "\n| `%s` | %s |",
                     mayday_bot_class_name((mayday_bot_class_t) class), is_bot ? "yes" : "no");
            assert_text_in(text, row);
        }
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bots__arguments),
        TEST(test_bots_add__mistakes_are_load_errors),
        TEST(test_bots__classify),
        TEST(test_bots__is_bot),
        TEST(test_bots__is_bot_by_class),
        TEST(test_bots_add__extends_and_overrides),
        TEST(test_bots_add__ends_with_the_rules),
        TEST(test_bots__is_probe),
        TEST(test_bots__is_probe_by_site),
        TEST(test_bots__is_probe_sees_php_run),
        TEST(test_bots__is_probe_looks_at_the_record),
        TEST(test_bots__is_probe_of_made_up_events),
        TEST(test_example_drop_bots),
        TEST(test_example_drop_probes),
        TEST(test_docs__every_example_works),
        TEST(test_docs__every_class),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
