/*
 * Random rules over random events (tests/fuzz/rules_programs.h): whatever they do,
 * they end in time and within their memory, what they leave can be sent, and the
 * next event is unharmed.
 *
 * MAYDAY_FUZZ_SECONDS (2) bounds the run, MAYDAY_FUZZ_SEED (1) is the first seed.
 */
#include "tests/unit/rules_fixture.h"

#include "core/agent/rules_internal.h"
#include "tests/fuzz/rules_programs.h"

#define RUN_US_MAX 3000000 /* of the clock, on a busy machine with sanitizers */

static unsigned verdicts[3];

static const char debug_event[] = "{\"level\":\"debug\",\"tags\":{}}";

static uint64_t
number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static char *
generate(uint64_t seed, void (*make)(fuzz_t *))
{
    char *text = NULL;
    size_t len;
    fuzz_t z = {.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};

    z.out = open_memstream(&text, &len);
    assert_non_null(z.out);
    make(&z);
    assert_int_equal(fclose(z.out), 0);
    return text;
}

/* NULL, or what is wrong. */
static const char *
run_once(fixture_t *f, const char *json)
{
    uint64_t start_us;

    mayday_event_memory_begin();
    make_event(f, json);
    start_us = mayday_clock_monotonic_us();
    mayday_rules_run(f->rules, &f->event, &f->result);
    if (mayday_clock_monotonic_us() - start_us > RUN_US_MAX) {
        return "took too long";
    }
    if (f->rules->sandbox.memory_used > MAYDAY_RULES_MEMORY_MAX) {
        return "took too much memory";
    }
    switch (f->result.verdict) {
    case MAYDAY_RULES_FAILED:
        return strchr(f->result.error, ':') == NULL ? "an error without a position" : NULL;
    case MAYDAY_RULES_DROP:
        return f->result.reason[0] == '\0' ? "a drop without a reason" : NULL;
    case MAYDAY_RULES_KEEP:
        break;
    }
    return cJSON_Parse(mayday_event_serialise(&f->event).data) == NULL ? "cannot be sent" : NULL;
}

/* The event that every program passes on, but where memory is short it may fail. */
static const char *
run_debug(fixture_t *f)
{
    const char *wrong = run_once(f, debug_event);

    if (wrong != NULL || strstr(f->result.error, "memory") != NULL) {
        return wrong;
    }
    if (f->result.verdict != MAYDAY_RULES_KEEP) {
        return "the next event was harmed";
    }
    return cJSON_GetObjectItem(mayday_event_part(&f->event, MAYDAY_PART_TAGS), "ok") == NULL
               ? "the next event was not looked at"
               : NULL;
}

static const char *
try_program(fixture_t *f, uint64_t seed, unsigned *loaded)
{
    const char *wrong = NULL;

    if (f->rules == NULL) {
        return f->error[0] == '\0' ? "not loaded, for no reason" : NULL;
    }
    ++*loaded;
    for (unsigned i = 0; i < 3 && wrong == NULL; i++) {
        char *json = generate(seed * 3 + i, fuzz_event);

        wrong = run_once(f, json);
        free(json);
        verdicts[f->result.verdict]++;
        if (wrong == NULL) {
            wrong = run_debug(f);
        }
    }
    return wrong;
}

static void
test_rules__whatever_they_and_their_events_are(void **state)
{
    fixture_t *f = *state;
    uint64_t seed = number_of("MAYDAY_FUZZ_SEED", 1), first = seed;
    uint64_t until_us =
        mayday_clock_monotonic_us() + number_of("MAYDAY_FUZZ_SECONDS", 2) * UINT64_C(1000000);
    unsigned loaded = 0;

    for (; mayday_clock_monotonic_us() < until_us; seed++) {
        char *text = generate(seed, fuzz_rules);
        const char *wrong;

        load(f, text);
        wrong = try_program(f, seed, &loaded);
        if (wrong != NULL) {
            fail_msg("seed %llu: %s: %s\n%s", (unsigned long long) seed, wrong, f->result.error,
                     text);
        }
        free(text);
    }
    print_message("%u of %llu programs loaded; %u events kept, %u dropped, %u failed\n", loaded,
                  (unsigned long long) (seed - first), verdicts[MAYDAY_RULES_KEEP],
                  verdicts[MAYDAY_RULES_DROP], verdicts[MAYDAY_RULES_FAILED]);
    assert_true(loaded > (seed - first) / 2 && verdicts[MAYDAY_RULES_KEEP] > 0 &&
                verdicts[MAYDAY_RULES_DROP] > 0 && verdicts[MAYDAY_RULES_FAILED] > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rules__whatever_they_and_their_events_are),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
