/*
 * mayday.routes: what a rules file says of routes, and what becomes of events'
 * transactions and issues.
 */
#include "tests/unit/rules_fixture.h"

#include "tests/unit/event_fixture.h"

#define ROUTES "local mayday, routes = require 'mayday', require 'mayday.routes'\n"
#define HOUR MAYDAY_LEARN_WINDOW_US

/* An event of that path with the route that the rules give it. */
static void
make_routed(fixture_t *f, const mayday_learner_t *learner, const char *path)
{
    fixture_view(&f->view, MAYDAY_KIND_UPSTREAM_RESPONSE);
    fixture_text(&f->view, MAYDAY_FIELD_PATH, mayday_slice_str(path));
    mayday_event_init(&f->event, &f->view, &fixture_settings);
    mayday_rules_route(f->rules, learner, &f->event);
}

static void
assert_transaction(fixture_t *f, const char *path, const char *expected, const char *source)
{
    mayday_learner_t *off = mayday_learner_new();
    mayday_slice_t transaction;
    char info[64];

    assert_non_null(off);
    make_routed(f, off, path);
    mayday_learner_free(off);
    transaction = mayday_event_part_text(&f->event, MAYDAY_PART_TRANSACTION);
    if (!mayday_slice_eq(transaction, mayday_slice_str(expected))) {
        fail_msg("%s: %.*s", path, (int) transaction.len, transaction.data);
    }
    snprintf(info, sizeof(info), "{\"source\":\"%s\"}", source);
    assert_part(f, MAYDAY_PART_TRANSACTION_INFO, info);
}

static bool
same_issue(fixture_t *f, const char *a, const char *b)
{
    uint8_t first[MAYDAY_HASH_BYTES], second[MAYDAY_HASH_BYTES];
    mayday_learner_t *off = mayday_learner_new();

    assert_non_null(off);
    make_routed(f, off, a);
    mayday_event_issue(&f->event, first);
    make_routed(f, off, b);
    mayday_event_issue(&f->event, second);
    mayday_learner_free(off);
    return memcmp(first, second, sizeof(first)) == 0;
}

static void
load_ok(fixture_t *f, const char *text)
{
    load(f, text);
    if (f->rules == NULL) {
        fail_msg("load: %s", f->error);
    }
}

/* ---- mistakes ---- */

static void
test_routes__mistakes_are_load_errors(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, ROUTES "routes.template()", "string expected, got no value");
    assert_load_fails(f, ROUTES "routes.template(5)", "string expected, got number");
    assert_load_fails(f, ROUTES "routes.template('/a', {})", "string expected, got table");
    assert_load_fails(f, ROUTES "\nroutes.template('users/{id}')",
                      "rules.lua:3: the template 'users/{id}' does not begin with /");
    assert_load_fails(f, ROUTES "routes.template('/a/{}')", "has a { without a name");
    assert_load_fails(f, ROUTES "routes.template('/a/{b')", "has a { without a name");
    assert_load_fails(f, ROUTES "routes.template('/**/a')", "elsewhere than at its end");
    assert_load_fails(f, ROUTES "for i = 1, 257 do routes.template('/a' .. i) end", "already 256");
    assert_load_fails(f, ROUTES "routes.learn(5)", "table expected, got number");
    assert_load_fails(f, ROUTES "routes.learn{treshold = 5}", "has the option threshold only");
    assert_load_fails(f, ROUTES "routes.learn{threshold = 9}", "a number from 10 to 10000");
    assert_load_fails(f, ROUTES "routes.learn{threshold = '100'}", "a number from 10 to 10000");
    assert_load_fails(f, ROUTES "routes.learn{threshold = 0/0}", "a number from 10 to 10000");
    assert_load_fails(f, ROUTES "routes.normalise()", "string expected");
    assert_run_fails(f, ROUTES "mayday.before_send(function(e) routes.template('/a') return e end)",
                     "while the rules are loaded");
    assert_run_fails(f, ROUTES "mayday.before_send(function(e) routes.learn() return e end)",
                     "while the rules are loaded");
}

/* ---- templates ---- */

static void
test_routes__without_any(void **state)
{
    fixture_t *f = *state;

    assert_transaction(f, "/users/42/x", "GET /users/*/x", "sanitized");
    load_ok(f, "local x = 1");
    assert_transaction(f, "/users/42/x", "GET /users/*/x", "sanitized");
    load_ok(f, ROUTES);
    assert_transaction(f, "/users/42/x", "GET /users/*/x", "sanitized");
}

static void
test_routes_template__names_the_transaction(void **state)
{
    fixture_t *f = *state;

    load_ok(f, ROUTES "routes.template('/users/me', '/users/{name}/orders/*')\n"
                      "routes.template('/users/{name}')");
    assert_transaction(f, "/users/jane/orders/7", "GET /users/{name}/orders/*", "route");
    assert_transaction(f, "/users/jane", "GET /users/{name}", "route");
    assert_transaction(f, "/users/me", "GET /users/me", "route");
    assert_transaction(f, "/other/42", "GET /other/*", "sanitized");
    assert_transaction(f, "", "GET ", "sanitized");
}

static void
test_routes_template__groups(void **state)
{
    fixture_t *f = *state;

    load_ok(f, ROUTES "routes.template('/users/{name}')");
    assert_true(same_issue(f, "/users/jane", "/users/joe"));
    assert_false(same_issue(f, "/users/jane", "/users/joe/x"));
    load_ok(f, ROUTES);
    assert_false(same_issue(f, "/users/jane", "/users/joe"));
}

/* Rules see the transaction and the fingerprint as they will be. */
static void
test_routes_template__before_the_rules(void **state)
{
    fixture_t *f = *state;
    mayday_learner_t *off = mayday_learner_new();

    load_ok(f, ROUTES "routes.template('/users/{name}')\n"
                      "mayday.before_send(function(event)\n"
                      "assert(event.transaction == 'GET /users/{name}')\n"
                      "assert(event.fingerprint[#event.fingerprint] == '/users/{name}')\n"
                      "return event end)");
    make_routed(f, off, "/users/jane");
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    mayday_learner_free(off);
}

/* A rule that fails moves nothing into another issue. */
static void
test_routes_template__degraded_events_keep_it(void **state)
{
    fixture_t *f = *state;
    uint8_t before[MAYDAY_HASH_BYTES], after[MAYDAY_HASH_BYTES];
    mayday_learner_t *off = mayday_learner_new();

    load_ok(f, ROUTES "routes.template('/users/{name}')");
    make_routed(f, off, "/users/jane");
    mayday_event_issue(&f->event, before);
    mayday_rules_free(f->rules);
    f->rules = NULL;
    mayday_event_degrade(&f->event, "rules.lua:1");
    mayday_event_issue(&f->event, after);
    assert_memory_equal(before, after, sizeof(after));
    assert_part(f, MAYDAY_PART_TRANSACTION, "\"GET /users/{name}\"");
    mayday_learner_free(off);
}

/* Rules that fill their memory are loaded anew, templates included. */
static void
test_routes_template__when_rules_are_loaded_anew(void **state)
{
    fixture_t *f = *state;

    load_ok(f, ROUTES "routes.template('/users/{name}')\n"
                      "local kept = {}\n"
                      "mayday.before_send(function(event)\n"
                      "kept[#kept + 1] = ('x'):rep(1000000) .. #kept\n"
                      "return event end)");
    for (int i = 0; i < 100 && !f->result.restarted; i++) {
        make_event(f, sample);
        mayday_rules_run(f->rules, &f->event, &f->result);
    }
    assert_true(f->result.restarted);
    assert_transaction(f, "/users/jane", "GET /users/{name}", "route");
}

static void
test_routes_normalise__templates_first(void **state)
{
    fixture_t *f = *state;

    assert_keeps(f, ROUTES "routes.template('/users/{name}')\n"
                           "mayday.before_send(function(event)\n"
                           "local route, fits = routes.normalise('/users/jane')\n"
                           "assert(route == '/users/{name}' and fits == true)\n"
                           "route, fits = routes.normalise('/orders/1234/x')\n"
                           "assert(route == '/orders/*/x' and fits == false)\n"
                           "assert(routes.normalise('') == '')\n"
                           "return event end)");
}

static void
test_example_route_templates(void **state)
{
    fixture_t *f = *state;

    f->rules = mayday_rules_new("lua/examples/route_templates.lua", "lua", NULL, f->error,
                                sizeof(f->error));
    if (f->rules == NULL) {
        fail_msg("%s", f->error);
    }
    assert_transaction(f, "/users/me/settings", "GET /users/me/**", "route");
    assert_transaction(f, "/users/jane/posts/how-to", "GET /users/{name}/posts/{title}", "route");
    assert_transaction(f, "/reports/may.pdf", "GET /reports/{month}.pdf", "route");
    assert_transaction(f, "/assets/a/b.css", "GET /assets/**", "route");
    assert_transaction(f, "/cart", "GET /cart", "sanitized");
}

/* ---- learning ---- */

static mayday_learner_t *
learner_of(fixture_t *f)
{
    mayday_learner_t *learner = mayday_learner_new();

    assert_non_null(learner);
    mayday_rules_learner(f->rules, learner, f->dir);
    return learner;
}

static void
learn(fixture_t *f, mayday_learner_t *learner, const char *path, uint64_t time_us)
{
    make_routed(f, learner, path);
    fixture_u64(&f->view, MAYDAY_FIELD_TIME_US, time_us);
    mayday_rules_learn(learner, &f->event);
}

static void
test_routes_learn__only_where_asked(void **state)
{
    fixture_t *f = *state;
    mayday_learner_t *learner;

    load_ok(f, ROUTES);
    learner = learner_of(f);
    assert_false(mayday_learner_is_on(learner));
    load_ok(f, ROUTES "routes.learn()");
    mayday_rules_learner(f->rules, learner, f->dir);
    assert_true(mayday_learner_is_on(learner));
    mayday_rules_learner(NULL, learner, f->dir);
    assert_false(mayday_learner_is_on(learner));
    mayday_learner_free(learner);
}

static void
test_routes_learn__from_then_on_and_after_a_restart(void **state)
{
    fixture_t *f = *state;
    mayday_learner_t *learner;
    char path[64];

    load_ok(f, ROUTES "routes.learn{threshold = 10}\nroutes.template('/users/me')");
    learner = learner_of(f);
    for (int i = 0; i < 20; i++) {
        snprintf(path, sizeof(path), "/users/%c%c/posts", 'a' + i, 'x');
        learn(f, learner, path, 1000 * HOUR);
        learn(f, learner, "/users/me", 1000 * HOUR);
    }
    make_routed(f, learner, "/users/ax/posts");
    assert_part(f, MAYDAY_PART_TRANSACTION, "\"GET /users/ax/posts\"");
    learn(f, learner, "/users/ax/posts", 1001 * HOUR);
    make_routed(f, learner, "/users/new/posts");
    assert_part(f, MAYDAY_PART_TRANSACTION, "\"GET /users/*/posts\"");
    assert_part(f, MAYDAY_PART_TRANSACTION_INFO, "{\"source\":\"sanitized\"}");
    make_routed(f, learner, "/users/me");
    assert_part(f, MAYDAY_PART_TRANSACTION, "\"GET /users/me\"");
    mayday_learner_free(learner);
    learner = learner_of(f);
    make_routed(f, learner, "/users/other/posts");
    assert_part(f, MAYDAY_PART_TRANSACTION, "\"GET /users/*/posts\"");
    mayday_learner_free(learner);
}

static void
test_routes_forget__removes_the_file(void **state)
{
    fixture_t *f = *state;
    mayday_learner_t *learner = mayday_learner_new();
    char file[128];

    write_bytes(f, "routes", "mayday routes 1\n*\tshop\t/users\n", 30);
    snprintf(file, sizeof(file), "%s/routes", f->dir);
    mayday_rules_forget_routes(learner, f->dir); /* off: it is there from before */
    assert_int_not_equal(access(file, F_OK), 0);
    mayday_rules_forget_routes(learner, f->dir);
    mayday_learner_free(learner);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_routes__mistakes_are_load_errors),
        TEST(test_routes__without_any),
        TEST(test_routes_template__names_the_transaction),
        TEST(test_routes_template__groups),
        TEST(test_routes_template__before_the_rules),
        TEST(test_routes_template__degraded_events_keep_it),
        TEST(test_routes_template__when_rules_are_loaded_anew),
        TEST(test_routes_normalise__templates_first),
        TEST(test_example_route_templates),
        TEST(test_routes_learn__only_where_asked),
        TEST(test_routes_learn__from_then_on_and_after_a_restart),
        TEST(test_routes_forget__removes_the_file),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
