/*
 * mayday rules test: what it shows, what it says is wrong, and how it exits. The
 * agent's side of it is in the behaviour tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/agent/store.h"
#include "core/capture/supervise.h"
#include "core/cli/cli.h"
#include "core/cli/rules_show.h"
#include "core/event/event.h"

#define RULES(body)                                                                                \
    "local mayday = require 'mayday'\nmayday.before_send(function(event, hint)\n" body "\nend)\n"

static const char event_json[] =
    "{\"event_id\":\"fc6d8c0c43fc4630ad850ee518f1b9d0\",\"level\":\"error\",\n"
    "\"transaction\":\"GET /orders/*\",\"request\":{\"url\":\"http://shop/orders/7\",\n"
    "\"headers\":[[\"User-Agent\",\"curl/8\"],[\"X-Tenant\",\"acme\"]]},\n"
    "\"contexts\":{\"mayday\":{\"kind\":\"upstream_refused\"},\"response\":{\"status_code\":502}},"
    "\n"
    "\"tags\":{\"zone\":\"a\"}}\n";

typedef struct {
    char dir[64];
    char rules[96], events[96];
    mayday_cli_t cli;
    char *out;
    size_t out_len;
    char errors[4096];
} fixture_t;

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static int
set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(setenv("LC_ALL", "C.UTF-8", 1), 0);
    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-cmd-rules-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->rules, sizeof(f->rules), "%s/rules.lua", f->dir);
    snprintf(f->events, sizeof(f->events), "%s/events.json", f->dir);
    write_file(f->events, event_json);
    mayday_term_init(&f->cli.term, stdout);
    f->cli.term = (mayday_term_t){.out = open_memstream(&f->out, &f->out_len), .utf8 = true};
    f->cli.operand = "test";
    f->cli.second = f->rules;
    f->cli.events = (mayday_cli_list_t){{f->events}, 1};
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture_t *f = *state;
    char command[128];

    fclose(f->cli.term.out);
    free(f->out);
    snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Runs the command on rules with that text; what was printed before is forgotten. */
static int
run(fixture_t *f, const char *rules)
{
    FILE *errors = tmpfile();
    int saved = dup(STDERR_FILENO), exit_code;
    size_t n;

    assert_non_null(errors);
    write_file(f->rules, rules);
    fclose(f->cli.term.out);
    free(f->out);
    f->cli.term.out = open_memstream(&f->out, &f->out_len);
    fflush(stderr);
    dup2(fileno(errors), STDERR_FILENO);
    f->cli.command = &mayday_command_rules;
    exit_code = mayday_command_rules.run(&f->cli);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(errors);
    n = fread(f->errors, 1, sizeof(f->errors) - 1, errors);
    f->errors[n] = '\0';
    fclose(errors);
    fflush(f->cli.term.out);
    return exit_code;
}

static void
assert_text_in(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", wanted, text);
    }
}

/* ---- what is wrong ---- */

static void
test_rules__misused(void **state)
{
    fixture_t *f = *state;
    static const char *const lasts[] = {"0", "1001", "", "x", "-1", "5x", "99999999999999999999"};

    f->cli.format = "yaml";
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
    f->cli.format = NULL;
    for (size_t i = 0; i < MAYDAY_COUNT(lasts); i++) {
        f->cli.last = lasts[i];
        assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
    }
    f->cli.last = NULL;
    f->cli.events.count = MAYDAY_CLI_LIST_MAX + 1;
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
    f->cli.events = (mayday_cli_list_t){{"/no/such/file"}, 1};
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
    assert_text_in(f->errors, "/no/such/file: No such file or directory");
}

static void
test_rules__files_that_do_not_load(void **state)
{
    fixture_t *f = *state;

    for (int i = 0; i < 2; i++) {
        f->cli.operand = i == 0 ? "test" : "check";
        assert_int_equal(run(f, "local x =\n\nnowhere = 5\n"), MAYDAY_EXIT_FAILED);
        assert_text_in(f->errors, "/rules.lua:3: ");
        assert_int_equal(run(f, "sume()"), MAYDAY_EXIT_FAILED);
        assert_text_in(f->errors, "undeclared global 'sume'");
        assert_string_equal(f->out, "");
    }
    f->cli.format = "json";
    assert_int_equal(run(f, "sume()"), MAYDAY_EXIT_FAILED);
    assert_text_in(f->out, "\"error\":\"");
    assert_text_in(f->out, "undeclared global 'sume'\"}\n");
    f->cli.second = "/no/such/rules.lua";
    f->cli.format = NULL;
    assert_int_equal(mayday_command_rules.run(&f->cli), MAYDAY_EXIT_FAILED);
}

static void
test_rules__files_that_hold_no_events(void **state)
{
    fixture_t *f = *state;
    static const struct {
        const char *text, *wanted;
    } wrong[] = {
        {"", "there is no event in it"},
        {" \n\t", "there is no event in it"},
        {"\n\n[]", "events.json:3: expected an event"},
        {"{\"level\":\"error\"}\n{\"level\":", "events.json:2: the object that begins here"},
        {"{\"level\":\"}", "events.json:1: the object that begins here"},
        {"{\"level\":}", "events.json:1: this is not JSON"},
        {"{\"a\":1}", "events.json:1: this is not an event"},
        {"{}", "this is not an event"},
        {"{\"level\":\"error\"}\n\n{\"a\":\"\\\"{\"}", "events.json:3: this is not an event"}};

    for (size_t i = 0; i < MAYDAY_COUNT(wrong); i++) {
        write_file(f->events, wrong[i].text);
        assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
        assert_text_in(f->errors, wrong[i].wanted);
    }
}

/* ---- what is shown ---- */

static void
test_rules__kept(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(run(f, RULES("local _ = event.tags.zone; return event")), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "rules.lua loads\n");
    assert_text_in(f->out, "\nkept     fc6d8c0c  502  GET /orders/*  ");
    assert_text_in(f->out, "1 event: 1 kept, 0 changed, 0 dropped, 0 failed\nCPU time ");
    assert_string_equal(f->errors, "");
    assert_null(strchr(f->out, '\033'));
}

static void
test_rules__changed(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(run(f, RULES("event.tags.tenant = event.request.headers['x-tenant']\n"
                                  "event.level = 'fatal'\n"
                                  "event.request.headers['user-agent'] = nil\n"
                                  "mayday.log('notice', hint.kind)\n"
                                  "event.extra = {a = 'x\\27[31m'}\n"
                                  "return event")),
                     MAYDAY_EXIT_OK);
    assert_text_in(f->out, "\nchanged  fc6d8c0c");
    assert_text_in(f->out, "      ~ level  \"error\" \xe2\x86\x92 \"fatal\"\n");
    assert_text_in(f->out, "      - request.headers[\"User-Agent\"]  \"curl/8\"\n");
    assert_text_in(f->out, "      + tags.tenant  \"acme\"\n");
    assert_text_in(f->out, "      log notice  rules.lua:6: upstream_refused\n");
    assert_text_in(f->out, "1 changed");
    assert_null(strchr(f->out, '\033'));
}

static void
test_rules__dropped(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(run(f, RULES("event.level = 'fatal'\nreturn nil, 'no use'")), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "\ndropped  fc6d8c0c");
    assert_text_in(f->out, "      no use: before_send at rules.lua:2\n");
    assert_null(strstr(f->out, "fatal"));
    assert_text_in(f->out, "1 dropped (no use 1), 0 failed");
}

static void
test_rules__failed(void **state)
{
    fixture_t *f = *state;

    f->cli.events = (mayday_cli_list_t){{f->events, f->events}, 2};
    assert_int_equal(run(f, "local n = 0\n" RULES("n = n + 1\nif n == 1 then return end\n"
                                                  "return event")),
                     MAYDAY_EXIT_FAILED);
    assert_text_in(f->out, "\nfailed   fc6d8c0c");
    assert_text_in(f->out, "      rules.lua:3: before_send must return the event");
    assert_text_in(f->out, "\nkept     fc6d8c0c");
    assert_text_in(f->out, "2 events: 1 kept, 0 changed, 0 dropped, 1 failed");
}

/* Bounded as in the agent: the command ends, too. */
static void
test_rules__runaway(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(run(f, RULES("while true do end")), MAYDAY_EXIT_FAILED);
    assert_text_in(f->out, "ran for more than 50 ms");
    assert_int_equal(
        run(f, RULES("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end")),
        MAYDAY_EXIT_FAILED);
    assert_text_in(f->out, "MiB of memory");
}

static void
test_rules__json(void **state)
{
    fixture_t *f = *state;
    cJSON *json, *event, *change;

    f->cli.format = "json";
    f->cli.events = (mayday_cli_list_t){{f->events, f->events}, 2};
    assert_int_equal(
        run(f, "local n = 0\n" RULES("n = n + 1\nif n == 1 then return nil, 'bot' end\n"
                                     "event.level = nil\nreturn event")),
        MAYDAY_EXIT_OK);
    json = cJSON_Parse(f->out);
    assert_non_null(json);
    event = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "events"), 0);
    assert_string_equal(cJSON_GetObjectItem(event, "outcome")->valuestring, "dropped");
    assert_string_equal(cJSON_GetObjectItem(event, "reason")->valuestring, "bot");
    assert_string_equal(cJSON_GetObjectItem(event, "hook")->valuestring, "before_send");
    assert_string_equal(cJSON_GetObjectItem(event, "where")->valuestring, "rules.lua:3");
    event = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "events"), 1);
    assert_string_equal(cJSON_GetObjectItem(event, "outcome")->valuestring, "changed");
    assert_true(cJSON_GetObjectItem(event, "memory_bytes")->valuedouble > 0);
    change = cJSON_GetArrayItem(cJSON_GetObjectItem(event, "changes"), 0);
    assert_string_equal(cJSON_GetObjectItem(change, "path")->valuestring, "level");
    assert_string_equal(cJSON_GetObjectItem(change, "old")->valuestring, "error");
    assert_null(cJSON_GetObjectItem(change, "now"));
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "summary"), "events")->valueint,
                     2);
    cJSON_Delete(json);
    f->cli.operand = "check";
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "rules.lua\"}\n");
}

/* An empty one. */
static void
make_store(const fixture_t *f)
{
    char path[128], error[256];
    mayday_store_t *store;

    snprintf(path, sizeof(path), "%s/" MAYDAY_FILE_STORE, f->dir);
    store = mayday_store_new(path, error, sizeof(error));
    assert_non_null(store);
    mayday_store_free(store);
}

static void
test_rules__no_event_at_hand(void **state)
{
    fixture_t *f = *state;

    f->cli.events.count = 0;
    f->cli.directory = f->dir;
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->out, "rules.lua loads\n");
    assert_text_in(f->errors, "no instance uses the directory");
    make_store(f);
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "the store is empty");
    f->cli.last = "3";
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
    assert_text_in(f->errors, "the store is empty");
    f->cli.last = NULL;
    f->cli.dropped = true;
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_USAGE);
    assert_text_in(f->errors, "no event that rules dropped");
    f->cli.operand = "check";
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_OK);
    assert_string_equal(f->errors, "");
}

/* The store of an agent that does not run is read, and left as it was. */
static void
test_rules__the_stores_file(void **state)
{
    fixture_t *f = *state;
    char path[128], error[256], id[33];
    mayday_store_t *store;

    snprintf(path, sizeof(path), "%s/store.sqlite", f->dir);
    store = mayday_store_new(path, error, sizeof(error));
    assert_non_null(store);
    assert_int_equal(mayday_store_begin(store), MAYDAY_OK);
    for (unsigned i = 1; i <= 3; i++) {
        mayday_store_event_t event = {.kind = "limited", .level = "error", .time_us = i};

        snprintf(id, sizeof(id), "%08x%024x", i, 0);
        event.event_id = mayday_slice_str(id);
        event.json = mayday_slice_str(event_json);
        assert_int_equal(mayday_store_event_add(store, &event, NULL, 0), MAYDAY_OK);
    }
    assert_int_equal(mayday_store_commit(store), MAYDAY_OK);
    mayday_store_free(store);
    f->cli.events.count = 0;
    f->cli.directory = f->dir;
    f->cli.last = "2";
    assert_int_equal(run(f, RULES("return nil, 'x'")), MAYDAY_EXIT_OK);
    assert_text_in(f->out, "2 events: 0 kept, 0 changed, 2 dropped (x 2), 0 failed");
    write_file(path, "this is no database, but it is not moved aside");
    assert_int_equal(run(f, RULES("return event")), MAYDAY_EXIT_NO_AGENT);
    assert_text_in(f->errors, "cannot open the store");
    assert_int_equal(access(path, F_OK), 0);
}

/* ---- differences ---- */

static void
show(fixture_t *f, const char *changes, unsigned width)
{
    mayday_trial_t trial = {.event_id = "0123456789",
                            .transaction = "GET /a/very/long/route/"
                                           "that/is/cut/somewhere"};

    fclose(f->cli.term.out);
    free(f->out);
    f->cli.term.out = open_memstream(&f->out, &f->out_len);
    f->cli.term.width = width;
    mayday_event_memory_begin();
    trial.changes = cJSON_Parse(changes);
    mayday_trial_show(&f->cli.term, &trial);
    mayday_event_memory_end();
    fflush(f->cli.term.out);
}

static void
test_trial_show__never_wider_than_the_terminal(void **state)
{
    fixture_t *f = *state;
    char changes[4096], x[200] = "";

    for (size_t i = 0; i + 1 < sizeof(x); i++) {
        x[i] = (char) ('a' + i % 26);
    }
    snprintf(changes, sizeof(changes),
             "[{\"path\":\"a\",\"old\":\"%s1\",\"now\":\"%s2\"},{\"path\":\"b\",\"now\":\"%s\"},"
             "{\"path\":\"c\",\"old\":{\"d\":\"%s\"}},{\"path\":\"level\",\"old\":1,\"now\":2},"
             "{\"path\":\"%.30s\",\"now\":\"%s\"},{\"path\":\"%.30s\",\"old\":\"%s\",\"now\":5}]",
             x, x, x, x, x, x, x, x);
    for (unsigned width = 60; width < 140; width++) {
        show(f, changes, width);
        for (const char *at = f->out; *at != '\0'; at += strcspn(at, "\n") + 1) {
            unsigned line = mayday_term_width(&f->cli.term, mayday_slice(at, strcspn(at, "\n")));

            if (line > width) {
                fail_msg("%u columns of %u: %.*s", line, width, (int) strcspn(at, "\n"), at);
            }
        }
    }
}

/* What differs is shown however far behind it stands. */
static void
test_trial_show__what_differs(void **state)
{
    fixture_t *f = *state;
    char changes[1024], x[200] = "";

    memset(x, 'x', sizeof(x) - 1);
    snprintf(changes, sizeof(changes),
             "[{\"path\":\"message\",\"old\":\"%s jane@example.com\",\"now\":\"%s [email]\"}]", x,
             x);
    show(f, changes, 80);
    assert_text_in(f->out, "      ~ message\n          \xe2\x80\xa6xxx");
    assert_text_in(f->out, "xxx jane@example.com\"\n");
    assert_text_in(f->out, "       \xe2\x86\x92  \xe2\x80\xa6xxx");
    assert_text_in(f->out, "xxx [email]\"\n");
}

static void
test_trial_show__colours(void **state)
{
    fixture_t *f = *state;

    f->cli.term.colour = true;
    show(f, "[{\"path\":\"a\",\"old\":1,\"now\":2}]", 80);
    assert_text_in(f->out, "\033[31m1\033[0m \xe2\x86\x92 \033[32m2\033[0m\n");
    f->cli.term.colour = false;
    show(f, "[{\"path\":\"a\",\"old\":1,\"now\":2}]", 80);
    assert_null(strchr(f->out, '\033'));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rules__misused),
        TEST(test_rules__files_that_do_not_load),
        TEST(test_rules__files_that_hold_no_events),
        TEST(test_rules__kept),
        TEST(test_rules__changed),
        TEST(test_rules__dropped),
        TEST(test_rules__failed),
        TEST(test_rules__runaway),
        TEST(test_rules__json),
        TEST(test_rules__no_event_at_hand),
        TEST(test_rules__the_stores_file),
        TEST(test_trial_show__never_wider_than_the_terminal),
        TEST(test_trial_show__what_differs),
        TEST(test_trial_show__colours),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
