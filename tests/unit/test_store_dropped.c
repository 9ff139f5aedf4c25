/*
 * What rules did, as the store keeps it.
 */
#include "store_fixture.h"

typedef struct {
    unsigned count;
    char ids[256][33];
    char texts[256][160];
} list_t;

static mayday_store_dropped_t
sample(unsigned number, const char *reason)
{
    static char id[33];

    snprintf(id, sizeof(id), "%08x%024x", number, 0);
    return (mayday_store_dropped_t){.event_id = mayday_slice_str(id),
                                    .time_us = NOW_US + number,
                                    .kind = "upstream_refused",
                                    .level = "error",
                                    .status = 502,
                                    .title = MAYDAY_SLICE("T"),
                                    .transaction = MAYDAY_SLICE("GET /a"),
                                    .reason = reason,
                                    .hook = "before_send",
                                    .where = "rules.lua:12",
                                    .json = MAYDAY_SLICE("{\"user\":{\"id\":\"jane \\\"x\\\"\"}}")};
}

static void
add_dropped(const fixture_t *f, unsigned number, const char *reason)
{
    mayday_store_dropped_t dropped = sample(number, reason);

    OK(mayday_store_begin(f->store));
    OK(mayday_store_dropped_add(f->store, &dropped));
    OK(mayday_store_commit(f->store));
}

static void
see_dropped(void *ctx, const mayday_store_dropped_t *dropped)
{
    list_t *list = ctx;

    snprintf(list->ids[list->count], 33, "%.*s", (int) dropped->event_id.len,
             dropped->event_id.data);
    snprintf(list->texts[list->count], 160, "%s %s %s %s %u %.*s %.*s %d %s", dropped->reason,
             dropped->hook, dropped->where, dropped->kind, dropped->status,
             (int) dropped->title.len, dropped->title.data, (int) dropped->transaction.len,
             dropped->transaction.data, dropped->observed, dropped->level);
    list->count++;
}

static unsigned
list(const fixture_t *f, const mayday_store_dropped_query_t *query, list_t *all)
{
    memset(all, 0, sizeof(*all));
    OK(mayday_store_dropped(f->store, query, see_dropped, all));
    return all->count;
}

static void
assert_sizes_hold(const fixture_t *f)
{
    assert_int_equal(query(f, "SELECT dropped_bytes FROM sizes"),
                     query(f, "SELECT ifnull(sum(bytes), 0) FROM dropped"));
}

static void
test_dropped_add__refuses_what_is_no_event(void **state)
{
    fixture_t *f = *state;
    mayday_store_dropped_t dropped = sample(1, "bot");
    char *big = calloc(1, MAYDAY_STORE_DROPPED_JSON_MAX + 2);

    OK(mayday_store_begin(f->store));
    dropped.event_id = MAYDAY_SLICE("12");
    assert_int_equal(mayday_store_dropped_add(f->store, &dropped), MAYDAY_INVALID);
    dropped = sample(1, "bot");
    memset(big, ' ', MAYDAY_STORE_DROPPED_JSON_MAX + 1);
    dropped.json = mayday_slice_str(big);
    assert_int_equal(mayday_store_dropped_add(f->store, &dropped), MAYDAY_INVALID);
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT count(*) FROM dropped"), 0);
    free(big);
}

static void
test_dropped__the_last_hundred_of_each_reason(void **state)
{
    fixture_t *f = *state;
    list_t *all = calloc(1, sizeof(*all));

    for (unsigned i = 1; i <= 130; i++) {
        add_dropped(f, i, "bot");
    }
    add_dropped(f, 500, "health");
    assert_int_equal(list(f, &(mayday_store_dropped_query_t){.limit = 1000}, all), 101);
    assert_string_equal(all->ids[0], "000001f4000000000000000000000000");
    assert_string_equal(all->texts[0],
                        "health before_send rules.lua:12 upstream_refused 502 T GET /a 0 error");
    assert_string_equal(all->ids[1], "00000082000000000000000000000000");
    assert_string_equal(all->ids[100], "0000001f000000000000000000000000");
    assert_sizes_hold(f);
    free(all);
}

static void
test_dropped__filters(void **state)
{
    fixture_t *f = *state;
    list_t *all = calloc(1, sizeof(*all));

    add_dropped(f, 1, "bot");
    add_dropped(f, 2, "health");
    assert_int_equal(list(f, &(mayday_store_dropped_query_t){.limit = 1}, all), 1);
    assert_int_equal(list(f, &(mayday_store_dropped_query_t){.limit = 9, .reason = "bot"}, all), 1);
    assert_int_equal(
        list(f, &(mayday_store_dropped_query_t){.limit = 9, .reason = "before_send:bot"}, all), 1);
    assert_int_equal(
        list(f, &(mayday_store_dropped_query_t){.limit = 9, .reason = "event_processor:bot"}, all),
        0);
    assert_int_equal(list(f, &(mayday_store_dropped_query_t){.limit = 9, .kind = "limited"}, all),
                     0);
    assert_int_equal(
        list(f, &(mayday_store_dropped_query_t){.limit = 9, .since_us = NOW_US + 2}, all), 1);
    free(all);
}

/* However many reasons there are, so many bytes and no more. */
static void
test_dropped__bytes_are_bounded(void **state)
{
    fixture_t *f = *state;
    const unsigned size = 60000;
    char *big = calloc(1, size + 1), reason[16];
    mayday_store_dropped_t dropped;
    unsigned n = (unsigned) (MAYDAY_STORE_DROPPED_BYTES_MAX / size) + 20;

    memset(big, ' ', size);
    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < n; i++) {
        snprintf(reason, sizeof(reason), "r%u", i);
        dropped = sample(i, reason);
        dropped.json = mayday_slice_str(big);
        OK(mayday_store_dropped_add(f->store, &dropped));
    }
    OK(mayday_store_commit(f->store));
    assert_true((uint64_t) query(f, "SELECT dropped_bytes FROM sizes") <=
                MAYDAY_STORE_DROPPED_BYTES_MAX);
    assert_true(query(f, "SELECT count(*) FROM dropped") < n);
    assert_int_equal(query(f, "SELECT count(*) FROM dropped WHERE reason = 'r0'"), 0);
    assert_sizes_hold(f);
    free(big);
}

static void
test_event_json__of_a_dropped_one(void **state)
{
    fixture_t *f = *state;
    char *json;
    size_t len;

    add_dropped(f, 1, "bot");
    OK(mayday_store_event_json(f->store, MAYDAY_SLICE("00000001"), &json, &len));
    assert_int_equal(strncmp(json, "{\"user\"", 7), 0);
    free(json);
    add_now(f->store, &(sample_t){.number = 1, .json = "{\"sent\":1}"});
    OK(mayday_store_event_json(f->store, MAYDAY_SLICE("00000001"), &json, &len));
    assert_string_equal(json, "{\"sent\":1}");
    free(json);
    assert_int_equal(mayday_store_event_json(f->store, MAYDAY_SLICE("00000002"), &json, &len),
                     MAYDAY_NOT_FOUND);
}

static void
test_trim__age_of_dropped_ones(void **state)
{
    fixture_t *f = *state;
    const mayday_store_bounds_t bounds = {.queue_size = 1 << 20, .retention_s = 86400};

    add_dropped(f, 1, "bot");
    add_dropped(f, 2, "health");
    OK(mayday_store_begin(f->store));
    OK(mayday_store_trim(f->store, &bounds, NOW_US + DAY_US + 2));
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT count(*) FROM dropped"), 1);
    assert_sizes_hold(f);
}

static void
test_purge__erases_dropped_ones(void **state)
{
    fixture_t *f = *state;
    mayday_store_purged_t purged;

    add_dropped(f, 1, "bot");
    add_dropped(f, 2, "bot");
    OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.user = MAYDAY_SLICE("joe")}, &purged));
    assert_true(purged.events == 0);
    OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.before_us = NOW_US + 2}, &purged));
    assert_true(purged.events == 1);
    OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.user = MAYDAY_SLICE("jane \"x\"")},
                          &purged));
    assert_true(purged.events == 1);
    assert_false(bytes_hold(f, "jane"));
    add_dropped(f, 3, "bot");
    OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.all = true}, &purged));
    assert_true(purged.events == 1);
    assert_false(bytes_hold(f, "jane"));
    assert_sizes_hold(f);
}

static void
test_purge__of_dropped_ones_only_by_a_whole_value(void **state)
{
    static const char *const texts[] = {"nobody", "1", "80", "8080", "key"};
    fixture_t *f = *state;
    mayday_store_dropped_t dropped = sample(1, "bot");
    mayday_store_purged_t purged;

    dropped.json = MAYDAY_SLICE("{\"tags\":{\"key\":\"nobody_there\"},\"port\":80,\"lineno\":1,"
                                "\"url\":\"http://a:8080/1\",\"user\":{\"id\":4711},"
                                "\"headers\":[[\"X-User\",\"jane\"]]}");
    OK(mayday_store_begin(f->store));
    OK(mayday_store_dropped_add(f->store, &dropped));
    OK(mayday_store_commit(f->store));
    for (size_t i = 0; i < MAYDAY_COUNT(texts); i++) {
        OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.user = mayday_slice_str(texts[i])},
                              &purged));
        assert_true(purged.events == 0 && purged.dropped == 0);
    }
    add_dropped(f, 2, "bot");
    OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.user = MAYDAY_SLICE("jane")},
                          &purged));
    assert_true(purged.events == 1 && purged.dropped == 1);
    dropped.event_id = MAYDAY_SLICE("00000003000000000000000000000000");
    OK(mayday_store_begin(f->store));
    OK(mayday_store_dropped_add(f->store, &dropped));
    OK(mayday_store_commit(f->store));
    OK(mayday_store_purge(f->store, &(mayday_store_purge_t){.user = MAYDAY_SLICE("4711")},
                          &purged));
    assert_true(purged.dropped == 1);
}

/* ---- counts per rule ---- */

static void
see_rule(void *ctx, const mayday_store_rule_t *rule)
{
    list_t *all = ctx;

    if (all->count < 256) {
        snprintf(all->texts[all->count], 160, "%s %s %s %s %d %llu", rule->where, rule->hook,
                 rule->outcome, rule->reason, rule->observed, (unsigned long long) rule->n);
    }
    all->count++;
}

static void
count_rule(const fixture_t *f, const char *where, const char *reason, uint64_t n, uint64_t now_us)
{
    const mayday_store_rule_t rule = {
        .where = where, .hook = "before_send", .outcome = "dropped", .reason = reason, .n = n};

    OK(mayday_store_rule_count(f->store, &rule, now_us));
}

static void
test_rule_count__adds_up(void **state)
{
    fixture_t *f = *state;
    list_t *all = calloc(1, sizeof(*all));

    OK(mayday_store_begin(f->store));
    count_rule(f, "rules.lua:12", "bot", 3, NOW_US);
    count_rule(f, "rules.lua:12", "bot", 4, NOW_US);
    count_rule(f, "rules.lua:12", "health", 1, NOW_US);
    OK(mayday_store_rule_count(f->store,
                               &(mayday_store_rule_t){.where = "rules.lua:7",
                                                      .hook = "",
                                                      .outcome = "failed",
                                                      .reason = "",
                                                      .observed = true,
                                                      .n = 2},
                               NOW_US));
    OK(mayday_store_commit(f->store));
    reopen(f);
    OK(mayday_store_rules(f->store, see_rule, all));
    assert_int_equal(all->count, 3);
    assert_string_equal(all->texts[0], "rules.lua:7  failed  1 2");
    assert_string_equal(all->texts[1], "rules.lua:12 before_send dropped bot 0 7");
    assert_string_equal(all->texts[2], "rules.lua:12 before_send dropped health 0 1");
    free(all);
}

/* Reasons and lines come from rules: their number is bounded, their sum is exact. */
static void
test_rule_count__rows_are_bounded(void **state)
{
    fixture_t *f = *state;
    char where[32];

    OK(mayday_store_begin(f->store));
    for (unsigned i = 0; i < MAYDAY_STORE_RULES_MAX + 50; i++) {
        snprintf(where, sizeof(where), "rules.lua:%u", i);
        count_rule(f, where, "bot", 1, NOW_US);
    }
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT count(*) FROM rules"), MAYDAY_STORE_RULES_MAX + 1);
    assert_int_equal(query(f, "SELECT sum(n) FROM rules"), MAYDAY_STORE_RULES_MAX + 50);
    assert_int_equal(query(f, "SELECT n FROM rules WHERE place = 'other'"), 50);
}

static void
test_trim__lines_of_old_rules(void **state)
{
    fixture_t *f = *state;
    const mayday_store_bounds_t bounds = {.queue_size = 1 << 20, .retention_s = 86400};

    OK(mayday_store_begin(f->store));
    count_rule(f, "rules.lua:1", "bot", 1, NOW_US - 31 * DAY_US);
    count_rule(f, "rules.lua:2", "bot", 1, NOW_US - 29 * DAY_US);
    OK(mayday_store_trim(f->store, &bounds, NOW_US));
    OK(mayday_store_commit(f->store));
    assert_int_equal(query(f, "SELECT count(*) FROM rules"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dropped_add__refuses_what_is_no_event),
        TEST(test_dropped__the_last_hundred_of_each_reason),
        TEST(test_dropped__filters),
        TEST(test_dropped__bytes_are_bounded),
        TEST(test_event_json__of_a_dropped_one),
        TEST(test_trim__age_of_dropped_ones),
        TEST(test_purge__erases_dropped_ones),
        TEST(test_purge__of_dropped_ones_only_by_a_whole_value),
        TEST(test_rule_count__adds_up),
        TEST(test_rule_count__rows_are_bounded),
        TEST(test_trim__lines_of_old_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
