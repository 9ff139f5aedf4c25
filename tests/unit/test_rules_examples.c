/*
 * The examples, each over the events that it is for and over those that it must
 * leave alone. Others' own examples are tested beside their modules; that every
 * one runs over nearly nothing, and is documented, is tested here for all.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "rules_fixture.h"

#define EXAMPLES "lua/examples"

/* An event with that status and kind, and more members. */
#define EVENT(kind, status, more)                                                                  \
    "{\"event_id\":\"00000a00000000000000000000000000\",\"level\":\"error\","                      \
    "\"timestamp\":\"2026-11-22T13:00:00.000000Z\",\"tags\":{\"zone\":\"a\"},"                     \
    "\"contexts\":{\"mayday\":{\"kind\":\"" kind "\",\"duration_ms\":20},"                         \
    "\"response\":{\"status_code\":" #status "}}," more "}"
#define HEADER(name, value) "\"request\":{\"headers\":[[\"" name "\",\"" value "\"]]}"
#define URL(url) "\"request\":{\"url\":\"" url "\"}"

static void
load_example(fixture_t *f, const char *name)
{
    char path[300];

    snprintf(path, sizeof(path), EXAMPLES "/%s", name);
    mayday_rules_free(f->rules);
    f->rules = mayday_rules_new(path, "lua", hash_key, f->error, sizeof(f->error));
    if (f->rules == NULL) {
        fail_msg("%s", f->error);
    }
}

static mayday_rules_verdict_t
try_event(fixture_t *f, const char *json)
{
    assert_int_equal(mayday_event_from_json(&f->event, &f->view, NULL, cJSON_Parse(json)),
                     MAYDAY_OK);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    return f->result.verdict;
}

static void
assert_dropped(fixture_t *f, const char *json, const char *reason)
{
    assert_int_equal(try_event(f, json), MAYDAY_RULES_DROP);
    assert_string_equal(f->result.reason, reason);
}

/* Kept, and nothing of it replaced. */
static void
assert_untouched(fixture_t *f, const char *json)
{
    if (try_event(f, json) != MAYDAY_RULES_KEEP || f->event.replaced != 0) {
        fail_msg("verdict %d, replaced %x: %s", f->result.verdict, f->event.replaced, json);
    }
}

static const char *
tag(fixture_t *f, const char *name)
{
    const char *value = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(mayday_event_part(&f->event, MAYDAY_PART_TAGS), name));

    return value == NULL ? "none" : value;
}

/* Events that lack everything, or have something odd in its place. */
static void
test_examples__are_safe_where_fields_are_absent(void **state)
{
    fixture_t *f = *state;
    static const char *const little[] = {
        "{\"platform\":\"other\"}",
        "{\"platform\":\"other\",\"request\":{},\"tags\":{},\"user\":{},\"contexts\":{}}",
        "{\"platform\":\"other\",\"event_id\":\"x\",\"timestamp\":\"\",\"level\":\"info\","
        "\"request\":{\"url\":\"?\",\"headers\":[]},\"contexts\":{\"response\":{}},"
        "\"user\":{\"id\":\"7\"}}",
        sample,
    };
    DIR *directory = opendir(EXAMPLES);
    const struct dirent *entry;
    unsigned examples = 0;

    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        load_example(f, entry->d_name);
        for (size_t i = 0; i < MAYDAY_COUNT(little); i++) {
            if (try_event(f, little[i]) != MAYDAY_RULES_KEEP) {
                fail_msg("%s dropped %s: %s", entry->d_name, little[i], f->result.reason);
            }
        }
        examples++;
    }
    closedir(directory);
    assert_true(examples >= 14);
}

static void
test_examples__are_documented(void **state)
{
    char *text = calloc(1, 65536), wanted[300];
    FILE *file = fopen("docs/lua/examples.md", "r");
    DIR *directory = opendir(EXAMPLES);
    const struct dirent *entry;

    (void) state;
    assert_true(text != NULL && file != NULL && directory != NULL);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    while ((entry = readdir(directory)) != NULL) {
        snprintf(wanted, sizeof(wanted), "(../../" EXAMPLES "/%.200s)", entry->d_name);
        if (entry->d_name[0] != '.') {
            assert_text_in(text, wanted);
        }
    }
    closedir(directory);
    free(text);
}

static void
test_example_drop_noise(void **state)
{
    fixture_t *f = *state;

    load_example(f, "drop_noise.lua");
    assert_dropped(f, EVENT("upstream_refused", 502, URL("http://shop/healthz")), "health check");
    assert_dropped(f, EVENT("upstream_refused", 502, URL("http://shop/ready?full=1")),
                   "health check");
    assert_dropped(f, EVENT("upstream_response", 507, URL("http://shop/a")), "known status");
    assert_dropped(f, EVENT("limited", 503, URL("http://shop/search/x")), "limited search");
    assert_untouched(f, EVENT("limited", 503, URL("http://shop/login")));
    assert_untouched(f, EVENT("upstream_refused", 502, URL("http://shop/search/x")));
    assert_untouched(f, EVENT("upstream_refused", 502, URL("http://shop/healthz/more")));
}

static void
test_example_leave_to_app(void **state)
{
    fixture_t *f = *state;

    load_example(f, "leave_to_app.lua");
    assert_dropped(f,
                   "{\"tags\":{\"app_event_id\":\"ab\"},\"contexts\":{\"mayday\":{\"kind\":"
                   "\"upstream_response\",\"duration_ms\":9000}}}",
                   "reported by the app");
    assert_untouched(f, "{\"tags\":{\"app_event_id\":\"ab\"},\"contexts\":{\"mayday\":{\"kind\":"
                        "\"upstream_response\",\"duration_ms\":11000}}}");
    assert_untouched(f, "{\"tags\":{\"app_event_id\":\"ab\"},\"contexts\":{\"mayday\":{\"kind\":"
                        "\"upstream_truncated\",\"duration_ms\":20}}}");
    assert_untouched(f, EVENT("upstream_response", 500, URL("http://shop/a")));
}

static void
test_example_tag_staff(void **state)
{
    fixture_t *f = *state;

    load_example(f, "tag_staff.lua");
    assert_int_equal(
        try_event(f, EVENT("limited", 503, "\"user\":{\"email\":\"jane@example.com\"}")),
        MAYDAY_RULES_KEEP);
    assert_string_equal(tag(f, "visitor"), "staff");
    assert_string_equal(tag(f, "zone"), "a");
    (void) try_event(f, EVENT("limited", 503, HEADER("x-office", "Berlin")));
    assert_string_equal(tag(f, "visitor"), "staff");
    (void) try_event(f,
                     EVENT("limited", 503, "\"user\":{\"email\":\"jane@example.com.evil.net\"}"));
    assert_string_equal(tag(f, "visitor"), "customer");
}

static void
test_example_sample_by_tenant(void **state)
{
    fixture_t *f = *state;
    unsigned kept = 0, kept_rarely = 0;
    char json[512];

    load_example(f, "sample_by_tenant.lua");
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(json, sizeof(json),
                 "{\"event_id\":\"%06x00000000000000000000000000\","
                 "\"request\":{\"headers\":[[\"x-tenant\",\"acme\"]]}}",
                 i * 7919 % 0xffffff);
        kept += try_event(f, json) == MAYDAY_RULES_KEEP;
        if (f->result.verdict == MAYDAY_RULES_KEEP) {
            assert_string_equal(tag(f, "sampled"), "1 of 10");
        } else {
            assert_string_equal(f->result.reason, "sampled");
        }
        memcpy(strstr(json, "acme\"]]}}"), "initech\"]]}}", sizeof("initech\"]]}}"));
        kept_rarely += try_event(f, json) == MAYDAY_RULES_KEEP;
    }
    assert_in_range(kept, 80, 120);
    assert_in_range(kept_rarely, 5, 15);
    assert_untouched(f, EVENT("limited", 503, HEADER("x-tenant", "small")));
    assert_untouched(f, EVENT("limited", 503, URL("http://shop/a")));
}

static void
test_example_group_app_errors(void **state)
{
    fixture_t *f = *state;

    load_example(f, "group_app_errors.lua");
    assert_int_equal(
        try_event(f, "{\"tags\":{\"zone\":\"a\"},\"contexts\":{\"mayday\":{\"kind\":"
                     "\"upstream_response\",\"log_lines\":[\"something else\",\"FastCGI sent in "
                     "stderr: \\\"PHP message: PHP Fatal error:  Uncaught Shop\\\\DB\\\\Gone: no "
                     "route to host in /srv/a.php:7\\\"\"]}}}"),
        MAYDAY_RULES_KEEP);
    assert_part(f, MAYDAY_PART_FINGERPRINT, "[\"uncaught\",\"Shop\\\\DB\\\\Gone\"]");
    assert_string_equal(tag(f, "exception"), "Shop\\DB\\Gone");
    assert_untouched(f, "{\"tags\":{},\"contexts\":{\"mayday\":{\"kind\":\"upstream_refused\","
                        "\"log_lines\":[\"connect() failed\"]}}}");
}

static void
test_example_quiet_maintenance(void **state)
{
    fixture_t *f = *state;
    static const struct {
        const char *time;
        bool quiet;
    } times[] = {{"2026-11-22T01:59:59.9Z", false}, {"2026-11-22T02:00:00Z", true},
                 {"2026-11-22T02:19:59Z", true},    {"2026-11-22T02:20:00Z", false},
                 {"2026-12-05T21:59:59Z", false},   {"2026-12-05T22:00:00Z", true},
                 {"2026-12-06T00:59:00Z", true},    {"2026-12-06T01:00:00Z", false}};
    char json[256];

    load_example(f, "quiet_maintenance.lua");
    for (size_t i = 0; i < MAYDAY_COUNT(times); i++) {
        for (int refused = 0; refused < 2; refused++) {
            snprintf(json, sizeof(json),
                     "{\"level\":\"error\",\"timestamp\":\"%s\",\"contexts\":{\"mayday\":{\"kind\":"
                     "\"%s\"}}}",
                     times[i].time, refused ? "upstream_refused" : "upstream_response");
            if (refused && times[i].quiet) {
                assert_int_equal(try_event(f, json), MAYDAY_RULES_KEEP);
                assert_part(f, MAYDAY_PART_LEVEL, "\"info\"");
                assert_string_equal(tag(f, "maintenance"), "yes");
            } else {
                assert_untouched(f, json);
            }
        }
    }
}

static void
test_example_paying_customers(void **state)
{
    fixture_t *f = *state;

    load_example(f, "paying_customers.lua");
    assert_int_equal(try_event(f, EVENT("upstream_refused", 502, HEADER("x-plan", "Enterprise"))),
                     MAYDAY_RULES_KEEP);
    assert_part(f, MAYDAY_PART_LEVEL, "\"fatal\"");
    assert_string_equal(tag(f, "plan"), "enterprise");
    const cJSON *fingerprint = mayday_event_part(&f->event, MAYDAY_PART_FINGERPRINT);
    assert_string_equal(
        cJSON_GetArrayItem(fingerprint, cJSON_GetArraySize(fingerprint) - 1)->valuestring,
        "paying");
    assert_true(cJSON_GetArraySize(fingerprint) > 1);
    assert_untouched(f, EVENT("upstream_refused", 502, HEADER("x-plan", "free")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_examples__are_safe_where_fields_are_absent),
        TEST(test_examples__are_documented),
        TEST(test_example_drop_noise),
        TEST(test_example_leave_to_app),
        TEST(test_example_tag_staff),
        TEST(test_example_sample_by_tenant),
        TEST(test_example_group_app_errors),
        TEST(test_example_quiet_maintenance),
        TEST(test_example_paying_customers),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
