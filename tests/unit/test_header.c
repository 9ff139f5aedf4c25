/* Header names that are looked up must be judged as if they were not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/capture/header.h"

static char pool[1 << 20];
static size_t pool_used;

static void *
take(void *ctx, size_t size)
{
    void *at = pool + pool_used;

    (void) ctx;
    size = (size + 15) & ~(size_t) 15;
    assert_true(size <= sizeof(pool) - pool_used);
    pool_used += size;
    return at;
}

static int
setup(void **state)
{
    (void) state;
    memset(pool, 0, sizeof(pool));
    pool_used = 0;
    return 0;
}

/* Looked up as it is, in exactly its size, where sanitizers see a byte too many. */
static mayday_header_kind_t
usual(const mayday_redact_t *redact, const char *name, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    mayday_header_kind_t found;

    assert_non_null(copy);
    memcpy(copy, name, len);
    found = mayday_header_usual(redact, mayday_slice(copy, len));
    free(copy);
    return found;
}

static mayday_header_kind_t
kind_of(const mayday_redact_t *redact, const char *name)
{
    mayday_header_kind_t kind = usual(redact, name, strlen(name));

    return kind != MAYDAY_HEADER_UNKNOWN ? kind
                                         : mayday_header_judge(redact, mayday_slice_str(name));
}

static void
test_usual__other_names_are_none(void **state)
{
    mayday_redact_t *redact = mayday_redact_new(take, NULL, true, NULL, 0, NULL, 0, NULL, 0);

    (void) state;
    assert_non_null(redact);
    assert_int_equal(mayday_header_usual(redact, mayday_slice(NULL, 0)), MAYDAY_HEADER_UNKNOWN);
    assert_int_equal(usual(redact, "t", 1), MAYDAY_HEADER_UNKNOWN);
    assert_int_equal(usual(redact, "dnt", 3), MAYDAY_HEADER_UNKNOWN);
    for (size_t slot = 0; slot < MAYDAY_USUAL_HEADERS; slot++) {
        const mayday_usual_header_t *known = &redact->usual[slot];
        char name[64];

        if (known->name == NULL) {
            continue;
        }
        memcpy(name, known->name, known->len);
        assert_int_equal(usual(redact, name, known->len), known->kind);
        assert_int_equal(usual(redact, name, known->len - 1u), MAYDAY_HEADER_UNKNOWN);
        for (size_t i = 0; i < known->len; i++) {
            name[i] ^= 1;
            assert_int_equal(usual(redact, name, known->len), MAYDAY_HEADER_UNKNOWN);
            name[i] ^= 1;
        }
        name[known->len] = 's';
        assert_int_equal(usual(redact, name, known->len + 1u), MAYDAY_HEADER_UNKNOWN);
    }
}

static void
test_usual__every_policy_judges_the_same(void **state)
{
    mayday_slice_t deny[] = {MAYDAY_SLICE("accept"), MAYDAY_SLICE("fer")};
    mayday_slice_t plain[] = {MAYDAY_SLICE("Authorization"), MAYDAY_SLICE("cookie")};
    mayday_slice_t allow[] = {MAYDAY_SLICE("Host"), MAYDAY_SLICE("user-agent")};
    size_t names = 0;

    (void) state;
    for (unsigned mask = 0; mask < 16; mask++) {
        mayday_redact_t *redact =
            mayday_redact_new(take, NULL, (mask & 1) != 0, deny, mask & 2 ? 2 : 0, plain,
                              mask & 4 ? 2 : 0, allow, mask & 8 ? 2 : 0);

        assert_non_null(redact);
        for (size_t slot = 0; slot < MAYDAY_USUAL_HEADERS; slot++) {
            const mayday_usual_header_t *known = &redact->usual[slot];

            if (known->name != NULL) {
                mayday_slice_t name = mayday_slice(known->name, known->len);

                assert_int_equal(name.len, strlen(known->name));
                assert_in_range(name.len, MAYDAY_HEADER_LEN_MIN, MAYDAY_HEADER_LEN_MAX);
                assert_int_equal(known->kind, mayday_header_judge(redact, name));
                names++;
            }
        }
    }
    assert_true(names >= 16 * 40); /* no two fight for one slot, or few do */
}

static void
test_usual__in_any_case(void **state)
{
    mayday_slice_t deny = MAYDAY_SLICE("Accept");
    mayday_redact_t *redact = mayday_redact_new(take, NULL, false, NULL, 0, NULL, 0, NULL, 0);
    mayday_redact_t *strict = mayday_redact_new(take, NULL, false, &deny, 1, NULL, 0, NULL, 0);

    (void) state;
    assert_non_null(redact);
    assert_non_null(strict);
    assert_int_equal(kind_of(redact, "Host"), MAYDAY_HEADER_PLAIN);
    assert_int_equal(kind_of(redact, "ACCEPT-ENCODING"), MAYDAY_HEADER_PLAIN);
    assert_int_equal(kind_of(redact, "rEFERER"), MAYDAY_HEADER_URL);
    assert_int_equal(kind_of(redact, "X-Original-Url"), MAYDAY_HEADER_URL);
    assert_int_equal(kind_of(redact, "Cookie"), MAYDAY_HEADER_COOKIES);
    assert_int_equal(kind_of(redact, "Set-Cookie"), MAYDAY_HEADER_COOKIES);
    assert_int_equal(kind_of(redact, "AUTHORIZATION"), MAYDAY_HEADER_SENSITIVE);
    assert_int_equal(kind_of(redact, "X-Forwarded-For"), MAYDAY_HEADER_SENSITIVE);
    assert_int_equal(kind_of(redact, "X-Api-Key"), MAYDAY_HEADER_SENSITIVE);
    assert_int_equal(kind_of(strict, "ACCEPT-ENCODING"), MAYDAY_HEADER_SENSITIVE);
    assert_int_equal(kind_of(strict, "Host"), MAYDAY_HEADER_PLAIN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_usual__other_names_are_none, setup),
        cmocka_unit_test_setup(test_usual__every_policy_judges_the_same, setup),
        cmocka_unit_test_setup(test_usual__in_any_case, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
