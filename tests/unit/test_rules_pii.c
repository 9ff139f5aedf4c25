/*
 * mayday.pii in rules: what a rule sees and what is sent, whether a part was in Lua
 * before or not.
 */
#include "tests/unit/rules_fixture.h"

#define PII "local mayday, pii = require 'mayday', require 'mayday.pii'\n"
#define PII_RULE(body) PII "mayday.before_send(function(event, hint)\n" body "\nend)\n"

static const char person[] =
    "{\"event_id\":\"fc6d8c0c43fc4630ad850ee518f1b9d0\",\"level\":\"error\","
    "\"release\":\"jane@example.com\",\"transaction\":\"GET /u/jane@example.com\","
    "\"fingerprint\":[\"{{ default }}\",\"jane@example.com\"],\"message\":\"hi jane@example.com\","
    "\"exception\":{\"values\":[{\"type\":\"jane@example.com\",\"value\":\"for jane@example.com\","
    "\"mechanism\":{\"type\":\"m\",\"data\":{\"who\":\"jane@example.com\"}},\"stacktrace\":"
    "{\"frames\":[{\"function\":\"f\",\"abs_path\":\"/home/jane/x\",\"vars\":"
    "{\"password\":\"x\",\"n\":1,\"card\":4111111111111111}}]}}]},"
    "\"request\":{\"method\":\"GET\",\"url\":\"http://shop/home/jane?q=jane@example.com\","
    "\"headers\":[[\"Host\",\"shop\"],[\"X-Auth\",\"abc\"],[\"X-Mail\",\"jane@example.com\"],"
    "[\"x-mail\",\"bob@example.com\"]],\"query_string\":[[\"key\",\"abc\"],[\"jane@example.com\","
    "\"\"]],\"env\":{\"REMOTE_ADDR\":\"198.51.100.7\",\"SERVER_PORT\":\"80\"},"
    "\"data\":{\"key\":\"color\",\"credentials\":{\"a\":[1,\"b\"]},\"ok\":true}},"
    "\"user\":{\"ip_address\":\"198.51.100.7\",\"email\":\"jane@example.com\"},"
    "\"contexts\":{\"trace\":{\"trace_id\":\"0af7\"},\"app\":{\"version\":\"8.8.8.8\"},"
    "\"mayday\":{\"upstream\":\"198.51.100.7\",\"log_lines\":[\"for 198.51.100.7\"]}},"
    "\"tags\":{\"mail\":\"jane@example.com\",\"author\":\"jane\",\"bob@example.com\":\"1\"},"
    "\"breadcrumbs\":{\"values\":[{\"timestamp\":\"2026-11-22T13:00:00Z\",\"category\":\"a@b."
    "example\","
    "\"message\":\"mail to jane@example.com\",\"data\":{\"url\":\"http://x/home/jane\"}}]},"
    "\"extra\":{\"session\":{\"user\":\"jane\",\"csrf\":\"x\"},\"pairs\":[[\"password\",\"x\"]]}}";

static cJSON *
sent(fixture_t *f)
{
    mayday_slice_t json = mayday_event_serialise(&f->event);
    cJSON *event = cJSON_ParseWithLength(json.data, json.len);

    assert_non_null(event);
    return event;
}

static void
run_person(fixture_t *f, const char *rules)
{
    load(f, rules);
    if (f->rules == NULL) {
        fail_msg("load: %s", f->error);
    }
    make_event(f, person);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    assert_int_equal(f->result.verdict, MAYDAY_RULES_KEEP);
}

static void
assert_scrubbed_person(fixture_t *f, const char *rules)
{
    static const struct {
        mayday_part_t part;
        const char *json;
    } wanted[] = {
        {MAYDAY_PART_RELEASE, "\"jane@example.com\""},
        {MAYDAY_PART_TRANSACTION, "\"GET /u/[email]\""},
        {MAYDAY_PART_MESSAGE, "\"hi [email]\""},
        {MAYDAY_PART_EXCEPTION,
         "{\"values\":[{\"type\":\"jane@example.com\",\"value\":\"for [email]\",\"mechanism\":"
         "{\"type\":\"m\",\"data\":{\"who\":\"[email]\"}},\"stacktrace\":{\"frames\":[{"
         "\"function\":\"f\",\"abs_path\":\"/home/jane/x\",\"vars\":{\"password\":\"[Filtered]\","
         "\"n\":1,\"card\":\"[creditcard]\"}}]}}]}"},
        {MAYDAY_PART_CONTEXTS,
         "{\"trace\":{\"trace_id\":\"0af7\"},\"app\":{\"version\":\"8.8.8.8\"},\"mayday\":"
         "{\"upstream\":\"198.51.100.7\",\"log_lines\":[\"for [ip]\"]}}"},
        {MAYDAY_PART_TAGS, "{\"mail\":\"[email]\",\"author\":\"jane\",\"[email]\":\"1\"}"},
        {MAYDAY_PART_BREADCRUMBS,
         "{\"values\":[{\"timestamp\":\"2026-11-22T13:00:00Z\",\"category\":\"a@b.example\","
         "\"message\":\"mail to [email]\",\"data\":{\"url\":\"http://x/home/jane\"}}]}"},
        {MAYDAY_PART_EXTRA, "{\"session\":{\"user\":\"jane\",\"csrf\":\"[Filtered]\"},"
                            "\"pairs\":[[\"password\",\"[Filtered]\"]]}"},
    };
    const char *fingerprint;
    cJSON *event;

    run_person(f, rules);
    for (size_t i = 0; i < MAYDAY_COUNT(wanted); i++) {
        assert_part(f, wanted[i].part, wanted[i].json);
    }
    event = sent(f);
    fingerprint =
        cJSON_GetArrayItem(cJSON_GetObjectItem(event, "fingerprint"),
                           -1 + cJSON_GetArraySize(cJSON_GetObjectItem(event, "fingerprint")))
            ->valuestring;
    assert_int_equal(strspn(fingerprint, "0123456789abcdef"), 32);
    cJSON *user = cJSON_GetObjectItem(event, "user");
    assert_true(cJSON_GetObjectItem(user, "ip_address") == NULL ||
                cJSON_IsNull(cJSON_GetObjectItem(user, "ip_address")));
    assert_string_equal(cJSON_GetObjectItem(user, "email")->valuestring, "[email]");
    cJSON *request = cJSON_GetObjectItem(event, "request");
    assert_string_equal(cJSON_GetObjectItem(request, "url")->valuestring,
                        "http://shop/home/jane?q=[email]");
    assert_string_equal(cJSON_PrintUnformatted(cJSON_GetObjectItem(request, "headers")),
                        "[[\"Host\",\"shop\"],[\"X-Auth\",\"[Filtered]\"],[\"X-Mail\",\"[email]\"],"
                        "[\"x-mail\",\"[email]\"]]");
    assert_string_equal(cJSON_PrintUnformatted(cJSON_GetObjectItem(request, "query_string")),
                        "[[\"key\",\"[Filtered]\"],[\"[email]\",\"\"]]");
    assert_string_equal(
        cJSON_PrintUnformatted(cJSON_GetObjectItem(request, "data")),
        "{\"key\":\"color\",\"credentials\":{\"a\":[\"[Filtered]\",\"[Filtered]\"]},"
        "\"ok\":true}");
}

static void
test_scrub__nothing_touched(void **state)
{
    assert_scrubbed_person(*state, PII_RULE("return pii.scrub(event)"));
}

/* Every part is in Lua before: the same comes out, but for the order of a renamed tag. */
static void
test_scrub__everything_touched(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("for _ in pairs(event) do end\nlocal tags = event.tags\n"
                           "event = pii.scrub(event)\nassert(tags == event.tags)\n"
                           "assert(tags.mail == '[email]' and tags['bob@example.com'] == nil)\n"
                           "assert(event.user.ip_address == nil)\n"
                           "assert(event.request.headers['x-mail'] == '[email], [email]')\n"
                           "assert(event.request.query_string['[email]'] == '')\n"
                           "return event"));
    assert_part(
        f, MAYDAY_PART_EXCEPTION,
        "{\"values\":[{\"type\":\"jane@example.com\",\"value\":\"for [email]\",\"mechanism\":"
        "{\"type\":\"m\",\"data\":{\"who\":\"[email]\"}},\"stacktrace\":{\"frames\":[{"
        "\"function\":\"f\",\"abs_path\":\"/home/jane/x\",\"vars\":{\"password\":"
        "\"[Filtered]\",\"n\":1,\"card\":\"[creditcard]\"}}]}}]}");
    assert_part(f, MAYDAY_PART_TAGS,
                "{\"mail\":\"[email]\",\"author\":\"jane\",\"[email]\":\"1\"}");
    assert_part(f, MAYDAY_PART_EXTRA,
                "{\"session\":{\"user\":\"jane\",\"csrf\":\"[Filtered]\"},"
                "\"pairs\":[[\"password\",\"[Filtered]\"]]}");
    mayday_slice_t json = mayday_event_serialise(&f->event);
    for (const char *at = json.data; (at = strstr(at, "jane@example.com")) != NULL; at++) {
        /* The release and the type of the exception are names. */
        assert_true(strncmp(at - 11, "\"release\":\"", 11) == 0 ||
                    strncmp(at - 8, "\"type\":\"", 8) == 0);
    }
}

static void
test_scrub__what_is_set_behind_it_stays(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("pii.scrub(event)\nevent.tags.owner = 'ann@example.com'\n"
                           "event.extra = { mail = 'ann@example.com' }\nreturn event"));
    assert_part(f, MAYDAY_PART_EXTRA, "{\"mail\":\"ann@example.com\"}");
    assert_string_equal(
        cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_TAGS), "owner")->valuestring,
        "ann@example.com");
}

static void
test_scrub__a_part_read_behind_it_is_scrubbed(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("pii.scrub(event)\n"
                           "assert(event.tags.mail == '[email]')\n"
                           "assert(event.message == 'hi [email]')\n"
                           "assert(event.request.headers['X-Auth'] == '[Filtered]')\n"
                           "return event"));
}

static void
test_scrub__options(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("return pii.scrub(event, { only = { 'ip' } })"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi jane@example.com\"");
    run_person(f, PII_RULE("return pii.scrub(event, { except = { 'email' } })"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi jane@example.com\"");
    run_person(f, PII_RULE("return pii.scrub(event, { mode = 'mask' })"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi ****@*******.***\"");
    run_person(f, PII_RULE("return pii.scrub(event, { mode = 'remove' })"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi \"");
}

static void
test_scrub__hash_keeps_users_apart(void **state)
{
    fixture_t *f = *state;
    char id[64], wanted[160];

    run_person(f, PII_RULE("event.tags = { id = mayday.hmac('198.51.100.7') }\n"
                           "return pii.scrub(event, { mode = 'hash' })"));
    snprintf(
        id, sizeof(id), "%s",
        cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_TAGS), "id")->valuestring);
    const cJSON *user = mayday_event_part(&f->event, MAYDAY_PART_USER);
    assert_string_equal(cJSON_GetObjectItem(user, "id")->valuestring, id);
    assert_int_equal(strlen(cJSON_GetObjectItem(user, "email")->valuestring), 32);

    snprintf(wanted, sizeof(wanted), "%s", id);
    run_person(f, PII_RULE("local user = event.user\npii.scrub(event, { mode = 'hash' })\n"
                           "event.tags = { id = user.id }\nreturn event"));
    assert_string_equal(
        cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_TAGS), "id")->valuestring,
        wanted);
}

static void
test_scrub__hash_without_a_key(void **state)
{
    fixture_t *f = *state;

    write_bytes(f, "rules.lua", PII_RULE("return pii.scrub(event, { mode = 'hash' })"),
                strlen(PII_RULE("return pii.scrub(event, { mode = 'hash' })")));
    f->rules = mayday_rules_new(f->file, "lua", NULL, f->error, sizeof(f->error));
    assert_non_null(f->rules);
    make_event(f, person);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_int_equal(f->result.verdict, MAYDAY_RULES_FAILED);
    assert_text_in(f->result.error, "mode \"hash\" has no key");
}

static void
test_scrub__wrong_options(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, PII_RULE("return pii.scrub(event, { only = { 'mails' } })"),
                     "there is no kind 'mails'");
    assert_run_fails(f, PII_RULE("return pii.scrub(event, { only = 'email' })"),
                     "only must be a list of kinds");
    assert_run_fails(f, PII_RULE("return pii.scrub(event, { mode = 'hide' })"), "mode must be");
    assert_run_fails(f, PII_RULE("return pii.scrub(event, { kinds = {} })"),
                     "there is no option 'kinds'");
    assert_run_fails(f, PII_RULE("return pii.scrub(event, { 'email' })"), "options have names");
    assert_run_fails(f, PII_RULE("return pii.scrub('text')"), "table expected, got string");
    assert_run_fails(f, PII_RULE("return pii.scrub(event, 'mask')"), "table expected, got string");
}

/* Parts that passed are not passed twice by one call, but a second call is one more pass. */
static void
test_scrub__several_times(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("for i = 1, 10 do pii.scrub(event, { only = { 'ip' } }) end\n"
                           "return pii.scrub(event, { only = { 'email' }, mode = 'mask' })"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi ****@*******.***\"");
    assert_text_in(cJSON_PrintUnformatted(mayday_event_part(&f->event, MAYDAY_PART_CONTEXTS)),
                   "for [ip]");
}

static void
test_scrub__any_table(void **state)
{
    fixture_t *f = *state;

    run_person(
        f,
        PII_RULE("pii.scrub(event.request)\n"
                 "local t = { a = 'jane@example.com', { 'bob@example.com' }, token = 'x' }\n"
                 "assert(pii.scrub(t) == t)\n"
                 "assert(t.a == '[email]' and t[1][1] == '[email]' and t.token == '[Filtered]')\n"
                 "t.me = t\npii.scrub(t)\nreturn event"));
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi jane@example.com\"");
    assert_text_in(cJSON_PrintUnformatted(mayday_event_part(&f->event, MAYDAY_PART_REQUEST)),
                   "[\"X-Mail\",\"[email], [email]\"]");
}

static void
test_scrub__deep_tables_are_an_error(void **state)
{
    fixture_t *f = *state;

    assert_run_fails(f, PII_RULE("local t = {}\nfor i = 1, 100 do t = { t } end\npii.scrub(t)"),
                     "nested too deep");
}

static void
test_text(void **state)
{
    fixture_t *f = *state;

    load(f,
         PII "assert(pii.text('mail jane@example.com') == 'mail [email]')\n"
             "assert(pii.text('plain') == 'plain')\n"
             "assert(pii.text(nil) == nil)\n"
             "assert(pii.text('a\\0b jane@example.com') == 'a\\0b [email]')\n"
             "assert(pii.text('jane@example.com', { mode = 'mask' }) == '****@*******.***')\n"
             "assert(pii.text('jane@example.com', { only = { 'card' } }) == 'jane@example.com')\n"
             "assert(not pcall(pii.text))\n"
             "assert(not pcall(pii.text, {}))\n");
    if (f->rules == NULL) {
        fail_msg("%s", f->error);
    }
    run_person(f, PII_RULE("event.extra.note = pii.text(event.message)\nreturn event"));
    cJSON *meta = cJSON_GetObjectItem(sent(f), "_meta");
    assert_string_equal(cJSON_PrintUnformatted(meta),
                        "{\"extra\":{\"note\":{\"\":{\"rem\":[[\"mayday:email\",\"s\",3,10]],"
                        "\"len\":19}}}}");
}

static void
test_add(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII "pii.add { name = 'customer', pattern = [[\\bKD-\\d{4}\\b]] }\n"
                      "pii.add { name = 'codename', pattern = 'bluebird', options = 'i' }\n"
                      "mayday.before_send(function(event)\n"
                      "assert(pii.text('KD-1234 and KD-12345') == '[customer] and KD-12345')\n"
                      "assert(pii.text('BlueBird', { only = { 'codename' } }) == '[codename]')\n"
                      "assert(pii.text('jane@bluebird.example KD-1234 a@b.example') == '[email] "
                      "[customer] [email]')\n"
                      "event.message = 'KD-1234'\n"
                      "event.extra = { x = 'KD-9999' }\n"
                      "return pii.scrub(event)\nend)");
    assert_part(f, MAYDAY_PART_MESSAGE, "\"[customer]\"");
    assert_part(f, MAYDAY_PART_EXTRA, "{\"x\":\"[customer]\"}");
    assert_text_in(cJSON_PrintUnformatted(cJSON_GetObjectItem(sent(f), "_meta")),
                   "[\"mayday:customer\",\"s\",0,10]");
}

static void
test_add__wrong(void **state)
{
    fixture_t *f = *state;

    assert_load_fails(f, PII "pii.add { name = 'email', pattern = 'x' }", "already a kind email");
    assert_load_fails(f, PII "pii.add { name = 'a b', pattern = 'x' }", "a name is 1 to 32");
    assert_load_fails(f, PII "pii.add { name = 'a' }", "pattern must be a string");
    assert_load_fails(f, PII "pii.add { name = 'a', pattern = '(' }", "pii.add: ");
    assert_load_fails(f, PII "for i = 1, 17 do pii.add { name = 'a' .. i, pattern = 'x' } end",
                      "there are already 16 patterns");
    assert_run_fails(f, PII_RULE("pii.add { name = 'a', pattern = 'x' }"),
                     "only be called while the rules are loaded");
}

/* A pattern that matches nothing, and one that is too dear: the latter takes all. */
static void
test_add__odd_patterns(void **state)
{
    fixture_t *f = *state;

    load(f, PII "pii.add { name = 'nothing', pattern = 'x*' }\n"
                "pii.add { name = 'dear', pattern = '(a+)+$' }\n"
                "assert(pii.text('abxxc') == 'ab[nothing]c')\n"
                "local t = pii.text(('a'):rep(2000) .. '!', { only = { 'dear' } })\n"
                "assert(t == '[dear]', t)\n");
    if (f->rules == NULL) {
        fail_msg("%s", f->error);
    }
}

static void
test_meta__follows_the_texts(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("pii.scrub(event)\nevent.message = 'other'\n"
                           "table.insert(event.breadcrumbs.values, 1, { message = 'first' })\n"
                           "return event"));
    const cJSON *meta = cJSON_GetObjectItem(sent(f), "_meta");
    assert_null(cJSON_GetObjectItem(meta, "message"));
    const cJSON *crumbs = cJSON_GetObjectItem(cJSON_GetObjectItem(meta, "breadcrumbs"), "values");
    assert_string_equal(cJSON_PrintUnformatted(crumbs),
                        "{\"1\":{\"message\":{\"\":{\"rem\":[[\"mayday:email\",\"s\",8,15]],"
                        "\"len\":24}}}}");
    const cJSON *user = cJSON_GetObjectItem(meta, "user");
    assert_string_equal(cJSON_PrintUnformatted(cJSON_GetObjectItem(user, "ip_address")),
                        "{\"\":{\"rem\":[[\"mayday:ip\",\"x\"]]}}");
}

/* A second pass keeps the remarks of the first, where they stand now. */
static void
test_meta__of_two_passes(void **state)
{
    static const char wanted[] =
        "{\"message\":{\"\":{\"rem\":[[\"mayday:email\",\"m\",0,16],[\"mayday:ip\",\"s\",17,21],"
        "[\"mayday:secret\",\"s\",26,36]],\"len\":40}}}";
    static const char *const touch[] = {"", "local _ = event.message\n"};
    fixture_t *f = *state;

    for (size_t i = 0; i < MAYDAY_COUNT(touch); i++) {
        char rules[512];

        snprintf(rules, sizeof(rules),
                 PII_RULE("%spii.scrub(event, { except = { 'email' } })\n"
                          "return pii.scrub(event, { only = { 'email' }, mode = 'mask' })"),
                 touch[i]);
        load(f, rules);
        assert_non_null(f->rules);
        make_event(f, "{\"message\":\"jane@example.com 198.51.100.7 pwd=secret\"}");
        mayday_rules_run(f->rules, &f->event, &f->result);
        assert_string_equal(f->result.error, "");
        assert_part(f, MAYDAY_PART_MESSAGE, "\"****@*******.*** [ip] pwd=[Filtered]\"");
        assert_string_equal(cJSON_PrintUnformatted(cJSON_GetObjectItem(sent(f), "_meta")), wanted);
    }
}

/* ---- examples and documentation ---- */

static void
run_file(fixture_t *f, const char *path)
{
    mayday_rules_free(f->rules);
    f->rules = mayday_rules_new(path, "lua", hash_key, f->error, sizeof(f->error));
    if (f->rules == NULL) {
        fail_msg("%s", f->error);
    }
    make_event(f, person);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    assert_int_equal(f->result.verdict, MAYDAY_RULES_KEEP);
}

static void
test_example_scrub(void **state)
{
    fixture_t *f = *state;

    run_file(f, "lua/examples/scrub.lua");
    assert_part(f, MAYDAY_PART_MESSAGE, "\"hi [email]\"");
    make_event(f, "{\"message\":\"KD-123456 of ann@example.com: KD-1234567\"}");
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_part(f, MAYDAY_PART_MESSAGE, "\"[customer] of [email]: KD-1234567\"");
}

static void
test_example_scrub_hash(void **state)
{
    fixture_t *f = *state;
    char first[64], second[64];

    run_file(f, "lua/examples/scrub_hash.lua");
    const cJSON *user = mayday_event_part(&f->event, MAYDAY_PART_USER);
    snprintf(first, sizeof(first), "%s", cJSON_GetObjectItem(user, "email")->valuestring);
    assert_int_equal(strlen(first), 32);
    assert_int_equal(strlen(cJSON_GetObjectItem(user, "id")->valuestring), 32);
    snprintf(
        second, sizeof(second), "%s",
        cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_TAGS), "mail")->valuestring);
    assert_string_equal(first, second);
    assert_text_in(cJSON_PrintUnformatted(mayday_event_part(&f->event, MAYDAY_PART_REQUEST)),
                   "[\"X-Auth\",\"[Filtered]\"]");
}

/* Every block of Lua in the module's page loads, and runs over an event. */
static void
test_docs_pii__every_example_works(void **state)
{
    fixture_t *f = *state;
    static const char begin[] = "```lua\n", end[] = "\n```\n";
    char *text = calloc(1, 65536), *at = text;
    FILE *file = fopen("docs/lua/pii.md", "r");
    int examples = 0;

    assert_non_null(text);
    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    while ((at = strstr(at, begin)) != NULL) {
        char *last = strstr(at, end);

        assert_non_null(last);
        *last = '\0';
        run_person(f, at + sizeof(begin) - 1);
        examples++;
        at = last + 1;
    }
    assert_true(examples >= 4);
    free(text);
}

/* Each kind that is known is in the page's table, with its placeholder. */
static void
test_docs_pii__every_kind_is_told(void **state)
{
    static const char *const rows[] = {
#define MAYDAY_PII(id, name, placeholder) "| `" name "` |", "| `" placeholder "` |",
#include "core/filter/pii_kinds.def"
#undef MAYDAY_PII
    };
    char *text = calloc(1, 65536);
    FILE *file = fopen("docs/lua/pii.md", "r");

    (void) state;
    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    for (size_t i = 0; i < MAYDAY_COUNT(rows); i++) {
        assert_text_in(text, rows[i]);
    }
    free(text);
}

/* ---- what only looks like the event ---- */

static void
test_scrub__another_table_changes_no_event(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("local copy = pii.scrub({ ip_address = event.user.ip_address,"
                           " REMOTE_ADDR = '198.51.100.7' })\n"
                           "assert(copy.ip_address == nil)\n"
                           "assert(event.user.ip_address == '198.51.100.7')\n"
                           "return event"));
    assert_part(f, MAYDAY_PART_USER,
                "{\"ip_address\":\"198.51.100.7\",\"email\":\"jane@example.com\"}");
    assert_non_null(strstr(cJSON_PrintUnformatted(sent(f)), "\"REMOTE_ADDR\":\"198.51.100.7\""));
}

/* That of another run is a table like any other. */
static void
test_scrub__an_event_of_before(void **state)
{
    fixture_t *f = *state;
    const char *rules =
        PII "local old\nmayday.before_send(function(event)\n"
            "if old then pcall(pii.scrub, old) end\nold = event\nreturn event\nend)";

    run_person(f, rules);
    make_event(f, person);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    assert_non_null(strstr(cJSON_PrintUnformatted(sent(f)), "\"hi jane@example.com\""));
}

static void
test_scrub__a_part_that_is_gone_or_odd(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("event.user, event.tags, event.message = nil, nil, nil\n"
                           "event.extra = { l = { [1] = 'jane@example.com', [2] = true } }\n"
                           "pii.scrub(event)\n"
                           "event.user = { email = 'bob@example.com' }\n"
                           "return event"));
    assert_part(f, MAYDAY_PART_MESSAGE, "none");
    assert_part(f, MAYDAY_PART_EXTRA, "{\"l\":[\"[email]\",true]}");
    assert_part(f, MAYDAY_PART_USER, "{\"email\":\"bob@example.com\"}");
}

/* A variable of a fingerprint is no text, but what stands beside it is. */
static void
test_scrub__fingerprints(void **state)
{
    fixture_t *f = *state;

    run_person(f,
               PII_RULE("event.fingerprint = { '{{ message }}', '{{ level }} jane@example.com' }\n"
                        "return pii.scrub(event)"));
    cJSON *fingerprint = mayday_event_part(&f->event, MAYDAY_PART_FINGERPRINT);
    assert_string_equal(cJSON_GetArrayItem(fingerprint, 0)->valuestring, "{{ message }}");
    assert_null(strstr(cJSON_PrintUnformatted(fingerprint), "jane"));
}

/* Each finds what is left, whatever the one before put there. */
static void
test_scrub__names_that_were_scrubbed_still_tell(void **state)
{
    fixture_t *f = *state;

    run_person(f, PII_RULE("pii.scrub(event, { only = { 'email' } })\n"
                           "pii.scrub(event, { only = { 'secret' } })\n"
                           "return event"));
    make_event(f, "{\"extra\":{\"jane@example.com password\":\"hunter2\"}}");
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_part(f, MAYDAY_PART_EXTRA, "{\"[email] password\":\"[Filtered]\"}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_scrub__nothing_touched),
        TEST(test_scrub__everything_touched),
        TEST(test_scrub__what_is_set_behind_it_stays),
        TEST(test_scrub__a_part_read_behind_it_is_scrubbed),
        TEST(test_scrub__options),
        TEST(test_scrub__hash_keeps_users_apart),
        TEST(test_scrub__hash_without_a_key),
        TEST(test_scrub__wrong_options),
        TEST(test_scrub__several_times),
        TEST(test_scrub__any_table),
        TEST(test_scrub__deep_tables_are_an_error),
        TEST(test_scrub__another_table_changes_no_event),
        TEST(test_scrub__an_event_of_before),
        TEST(test_scrub__a_part_that_is_gone_or_odd),
        TEST(test_scrub__fingerprints),
        TEST(test_scrub__names_that_were_scrubbed_still_tell),
        TEST(test_text),
        TEST(test_add),
        TEST(test_add__wrong),
        TEST(test_add__odd_patterns),
        TEST(test_meta__follows_the_texts),
        TEST(test_meta__of_two_passes),
        TEST(test_example_scrub),
        TEST(test_example_scrub_hash),
        TEST(test_docs_pii__every_example_works),
        TEST(test_docs_pii__every_kind_is_told),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
