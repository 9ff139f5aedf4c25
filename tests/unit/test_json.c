/*
 * Numbers in the JSON of the API and the command.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/base.h"
#include "core/event/json.h"

static void
assert_printed(const char *in, const char *out)
{
    cJSON *json = cJSON_Parse(in);
    char *text = mayday_json_print(json, false), *again = mayday_json_print(json, false);

    assert_non_null(json);
    assert_string_equal(text, out);
    assert_string_equal(again, out);
    cJSON_free(text);
    cJSON_free(again);
    cJSON_Delete(json);
}

static void
test_json_print__nothing(void **state)
{
    (void) state;
    assert_null(mayday_json_print(NULL, false));
}

static void
test_json_print__whole_numbers_as_such(void **state)
{
    (void) state;
    assert_printed("{}", "{}");
    assert_printed("{\"n\":1790000000000000}", "{\"n\":1790000000000000}");
    assert_printed("{\"n\":[-1790000000000000,{\"m\":1000000000000000}],\"s\":\"x\"}",
                   "{\"n\":[-1790000000000000,{\"m\":1000000000000000}],\"s\":\"x\"}");
    assert_printed("{\"n\":9007199254740992,\"o\":999999999999999}",
                   "{\"n\":9007199254740992,\"o\":999999999999999}");
}

static void
test_json_print__others_as_before(void **state)
{
    (void) state;
    assert_printed("[0,1.5,-2,1e300,true,null,\"1e15\"]", "[0,1.5,-2,1e+300,true,null,\"1e15\"]");
}

static void
test_json_members__whatever_is_there(void **state)
{
    cJSON *json = cJSON_Parse("{\"s\":\"x\",\"n\":1.5,\"big\":1e300,\"less\":-1,\"null\":null}");
    static const char *const others[] = {"none", "null", "S"};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(others); i++) {
        assert_string_equal(mayday_json_string(json, others[i]), "");
        assert_true(mayday_json_number(json, others[i]) == 0);
        assert_int_equal(mayday_json_us(json, others[i]), 0);
    }
    assert_string_equal(mayday_json_string(NULL, "s"), "");
    assert_string_equal(mayday_json_string(json, "n"), "");
    assert_true(mayday_json_number(json, "s") == 0);
    assert_int_equal(mayday_json_us(json, "less"), 0);
    assert_int_equal(mayday_json_us(json, "big"), 0);
    assert_string_equal(mayday_json_string(json, "s"), "x");
    assert_true(mayday_json_number(json, "n") == 1.5);
    assert_int_equal(mayday_json_us(json, "n"), 1);
    cJSON_Delete(json);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_print__nothing),
        cmocka_unit_test(test_json_print__whole_numbers_as_such),
        cmocka_unit_test(test_json_print__others_as_before),
        cmocka_unit_test(test_json_members__whatever_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
