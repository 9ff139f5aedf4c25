/*
 * Differences of JSON trees, as `mayday rules test` shows them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/cli/diff.h"
#include "core/event/event.h"

static char seen[4096];

static void
see(void *ctx, const mayday_change_t *change)
{
    char *old = change->old == NULL ? NULL : cJSON_PrintUnformatted(change->old);
    char *now = change->now == NULL ? NULL : cJSON_PrintUnformatted(change->now);
    size_t len = strlen(seen);

    (void) ctx;
    snprintf(seen + len, sizeof(seen) - len, "%s %s > %s\n", change->path,
             old == NULL ? "none" : old, now == NULL ? "none" : now);
}

static void
assert_diff(const char *old, const char *now, const char *wanted)
{
    cJSON *a, *b;

    mayday_event_memory_begin();
    a = cJSON_Parse(old);
    b = cJSON_Parse(now);
    assert_non_null(a);
    assert_non_null(b);
    seen[0] = '\0';
    mayday_diff(a, b, see, NULL);
    mayday_event_memory_end();
    assert_string_equal(seen, wanted);
}

static void
test_diff__none(void **state)
{
    static const char *const same[] = {
        "{}", "{\"a\":[],\"b\":{\"c\":[1,\"x\",null,true]}}",
        "{\"headers\":[[\"A\",\"1\"],[\"B\",\"2\"]],\"values\":[{\"a\":1},{\"b\":[[]]}]}"};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(same); i++) {
        assert_diff(same[i], same[i], "");
    }
    assert_diff("{\"a\":null}", "{\"b\":null}", "");
    assert_diff("{\"headers\":[[\"Accept\",\"1\"]]}", "{\"headers\":[[\"accept\",\"1\"]]}", "");
}

static void
test_diff__values(void **state)
{
    (void) state;
    assert_diff(
        "{\"level\":\"error\",\"release\":\"1\",\"tags\":{\"a\":\"b\"}}",
        "{\"level\":\"fatal\",\"tags\":{\"a\":\"b\",\"tenant\":\"acme\"},\"user\":{\"id\":7}}",
        "level \"error\" > \"fatal\"\n"
        "release \"1\" > none\n"
        "tags.tenant none > \"acme\"\n"
        "user none > {\"id\":7}\n");
    assert_diff("{\"a\":{\"b\":1}}", "{\"a\":5}", "a {\"b\":1} > 5\n");
    assert_diff("{\"a\":1}", "{\"a\":\"1\"}", "a 1 > \"1\"\n");
    assert_diff("{\"a\":true}", "{\"a\":null}", "a true > none\n");
}

/* As they can be written in a rule. */
static void
test_diff__paths(void **state)
{
    (void) state;
    assert_diff("{\"tags\":{\"mayday.kind\":1,\"2x\":1,\"\":1,\"a\\\"b\\\\\":1,\"_x1\":1}}",
                "{\"tags\":{}}",
                "tags[\"mayday.kind\"] 1 > none\n"
                "tags[\"2x\"] 1 > none\n"
                "tags[\"\"] 1 > none\n"
                "tags[\"a\\\"b\\\\\"] 1 > none\n"
                "tags._x1 1 > none\n");
}

static void
test_diff__pairs(void **state)
{
    (void) state;
    assert_diff(
        "{\"headers\":[[\"Host\",\"a\"],[\"Accept\",\"1\"],[\"accept\",\"2\"],[\"X-Y\",\"z\"]]}",
        "{\"headers\":[[\"host\",\"b\"],[\"Accept\",\"1, 2\"],[\"New\",\"n\"]]}",
        "headers.Host \"a\" > \"b\"\n"
        "headers[\"X-Y\"] \"z\" > none\n"
        "headers.New none > \"n\"\n");
    assert_diff("{\"query_string\":[[\"q\",\"1\"],[\"Q\",\"2\"]]}",
                "{\"query_string\":[[\"q\",\"1\"]]}", "query_string.Q \"2\" > none\n");
    assert_diff("{\"cookies\":[]}", "{\"cookies\":[[\"a\",\"b\"]]}", "cookies.a none > \"b\"\n");
}

static void
test_diff__lists(void **state)
{
    (void) state;
    assert_diff("{\"fingerprint\":[\"a\"]}", "{\"fingerprint\":[\"b\",\"a\"]}",
                "fingerprint [\"a\"] > [\"b\",\"a\"]\n");
    assert_diff("{\"values\":[{\"m\":1},{\"m\":2},{\"m\":3}]}",
                "{\"values\":[{\"m\":2},{\"m\":3}]}", "values[1] {\"m\":1} > none\n");
    assert_diff("{\"values\":[{\"m\":1},{\"m\":3}]}",
                "{\"values\":[{\"m\":1},{\"m\":2},{\"m\":3}]}", "values[2] none > {\"m\":2}\n");
    assert_diff("{\"values\":[{\"m\":1},{\"m\":1}]}", "{\"values\":[{\"m\":1}]}",
                "values[2] {\"m\":1} > none\n");
    assert_diff("{\"values\":[{\"m\":1,\"n\":5},{\"m\":2}]}",
                "{\"values\":[{\"m\":9,\"n\":5},{\"m\":2}]}", "values[1].m 1 > 9\n");
    assert_diff("{\"values\":[]}", "{\"values\":[{\"m\":1}]}", "values[1] none > {\"m\":1}\n");
    assert_diff("{\"values\":[{\"m\":1}]}", "{\"values\":[]}", "values[1] {\"m\":1} > none\n");
}

/* Depth and length of paths are bounded. */
static void
test_diff__hostile(void **state)
{
    char *deep_a = calloc(1, 8192), *deep_b = calloc(1, 8192);
    size_t lines = 0;

    (void) state;
    assert_true(deep_a != NULL && deep_b != NULL);
    for (int i = 0; i < 500; i++) {
        strcat(deep_a, "{\"abcdef\":");
    }
    strcpy(deep_b, deep_a);
    strcat(deep_a, "1");
    strcat(deep_b, "2");
    for (int i = 0; i < 500; i++) {
        strcat(deep_a, "}");
        strcat(deep_b, "}");
    }
    mayday_event_memory_begin();
    seen[0] = '\0';
    mayday_diff(cJSON_Parse(deep_a), cJSON_Parse(deep_b), see, NULL);
    mayday_event_memory_end();
    for (const char *at = seen; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_true(lines <= 1);
    assert_int_equal(strncmp(seen, "abcdef.abcdef", 13), 0);
    free(deep_a);
    free(deep_b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diff__none),  cmocka_unit_test(test_diff__values),
        cmocka_unit_test(test_diff__paths), cmocka_unit_test(test_diff__pairs),
        cmocka_unit_test(test_diff__lists), cmocka_unit_test(test_diff__hostile),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
