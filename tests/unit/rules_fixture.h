/*
 * A rules file and an event to run it over, for the tests of the rules. Included
 * after what it needs; everything is static inline, for not each test uses all.
 */
#ifndef MAYDAY_TEST_RULES_FIXTURE_H
#define MAYDAY_TEST_RULES_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/agent/rules.h"

#define MODULE "local mayday = require 'mayday'\n"
#define RULE(body) MODULE "mayday.before_send(function(event, hint)\n" body "\nend)\n"
#define CHANGE(body) RULE(body "\nreturn event")

static const char sample[] =
    "{\"event_id\":\"fc6d8c0c43fc4630ad850ee518f1b9d0\",\"level\":\"error\","
    "\"transaction\":\"GET /a\","
    "\"fingerprint\":[\"mayday\",\"x\"],"
    "\"exception\":{\"values\":[{\"type\":\"UpstreamRefused\",\"value\":\"v\","
    "\"mechanism\":{\"type\":\"auto.http.mayday\",\"handled\":false}}]},"
    "\"request\":{\"method\":\"GET\",\"url\":\"http://shop/a\","
    "\"headers\":[[\"Host\",\"shop\"],[\"Accept\",\"a\"],[\"User-Agent\",\"curl/8\"],"
    "[\"accept\",\"b\"],[\"X-Last\",\"z\"]],"
    "\"query_string\":[[\"q\",\"1\"],[\"Q\",\"2\"],[\"q\",\"3\"]]},"
    "\"contexts\":{\"trace\":{\"trace_id\":\"0af7\",\"none\":null},\"empty\":{}},"
    "\"tags\":{\"kind\":\"upstream_refused\",\"zone\":\"a\"},"
    "\"breadcrumbs\":{\"values\":[]}}";

static const uint8_t hash_key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

typedef struct {
    char dir[64];
    char file[128];
    char error[1024];
    mayday_rules_t *rules;
    mayday_rules_result_t result;
    mayday_record_view_t view;
    mayday_event_t event;
} fixture_t;

static inline int
set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/mayday-rules-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->file, sizeof(f->file), "%s/rules.lua", f->dir);
    mayday_event_memory_begin();
    *state = f;
    return 0;
}

static inline int
tear_down(void **state)
{
    fixture_t *f = *state;
    char command[128];

    mayday_event_memory_end();
    mayday_rules_free(f->rules);
    snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static inline void
write_bytes(fixture_t *f, const char *name, const void *bytes, size_t len)
{
    char path[256];
    FILE *out;

    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, len, out), len);
    fclose(out);
}

static inline void
load(fixture_t *f, const char *text)
{
    mayday_rules_free(f->rules);
    write_bytes(f, "rules.lua", text, strlen(text));
    f->rules = mayday_rules_new(f->file, "lua", hash_key, f->error, sizeof(f->error));
}

/* An event whose parts are all there already, so that what is replaced can be seen. */
static inline void
make_event(fixture_t *f, const char *json)
{
    cJSON *all = cJSON_Parse(json);

    assert_non_null(all);
    mayday_event_init(&f->event, &f->view, NULL);
    for (int part = 0; part < MAYDAY_PART_MAX; part++) {
        f->event.parts[part] =
            cJSON_GetObjectItemCaseSensitive(all, mayday_event_part_key((mayday_part_t) part));
        f->event.built |= 1u << part;
    }
}

static inline mayday_rules_verdict_t
run(fixture_t *f, const char *text)
{
    load(f, text);
    if (f->rules == NULL) {
        fail_msg("load: %s", f->error);
    }
    make_event(f, sample);
    mayday_rules_run(f->rules, &f->event, &f->result);
    return f->result.verdict;
}

static inline void
assert_part(fixture_t *f, mayday_part_t part, const char *json)
{
    cJSON *value = mayday_event_part(&f->event, part);

    assert_string_equal(value == NULL ? "none" : cJSON_PrintUnformatted(value), json);
}

static inline void
assert_text_in(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", wanted, text);
    }
}

static inline void
assert_load_fails(fixture_t *f, const char *text, const char *wanted)
{
    load(f, text);
    assert_null(f->rules);
    assert_text_in(f->error, wanted);
}

static inline void
assert_run_fails(fixture_t *f, const char *text, const char *wanted)
{
    assert_int_equal(run(f, text), MAYDAY_RULES_FAILED);
    assert_text_in(f->result.error, wanted);
}

static inline void
assert_keeps(fixture_t *f, const char *text)
{
    if (run(f, text) != MAYDAY_RULES_KEEP) {
        fail_msg("verdict %d: %s %s", f->result.verdict, f->result.reason, f->result.error);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
