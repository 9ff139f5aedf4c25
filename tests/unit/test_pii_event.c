/*
 * mayday.pii over whole events: a corpus of error texts that stay as they are, and
 * events with secrets planted at random places, of which none may be left while
 * nothing else changes. Each is tried with the parts in Lua and not.
 */
#include "tests/unit/rules_fixture.h"

#include "tests/unit/event_fixture.h"
#include "tests/unit/pii_fixture.h"

#define LINES_MAX 512
#define SCRUB                                                                                      \
    "local mayday, pii = require 'mayday', require 'mayday.pii'\n"                                 \
    "mayday.before_send(function(event)\n%s\nreturn pii.scrub(event)\nend)\n"

static char *lines[LINES_MAX];
static size_t line_count;

static int
read_corpus(void **state)
{
    static char text[65536];
    FILE *file = fopen("tests/unit/pii_corpus.txt", "r");
    size_t len;

    (void) state;
    assert_non_null(file);
    len = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[len] = '\0';
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(line_count < LINES_MAX);
        lines[line_count++] = line;
    }
    return 0;
}

/* ---- the corpus ---- */

static void
test_corpus__stays(void **state)
{
    (void) state;
    (void) pii_set_up(NULL);
    assert_true(line_count >= 250);
    for (size_t i = 0; i < line_count; i++) {
        assert_stays(lines[i]);
    }
}

/* In another place of a line, and with another line behind it. */
static void
test_corpus__stays_within_other_text(void **state)
{
    static char text[4096];

    (void) state;
    (void) pii_set_up(NULL);
    for (size_t i = 0; i < line_count; i++) {
        snprintf(text, sizeof(text), "%s\n%s", lines[i], lines[(i * 7 + 3) % line_count]);
        assert_stays(text);
        snprintf(text, sizeof(text), "(%s)", lines[i]);
        assert_stays(text);
    }
}

/* ---- planted secrets ---- */

static const struct {
    const char *text, *becomes;
    const char *needle; /* what must not be found */
} planted[] = {
    {"jane.doe@mail.example", "[email]", "jane.doe"},
    {"4111-1111-1111-1111", "[creditcard]", "4111-1111"},
    {"378282246310005", "[creditcard]", "3782822"},
    {"DE89370400440532013000", "[iban]", "DE89370400440532013000"},
    {"123-45-6789", "[us-ssn]", "123-45-6789"},
    {"+49 30 901820777", "[phone]", "901820777"},
    {"198.51.100.77", "[ip]", "198.51"},
    {"2001:db8:85a3::8a2e:370:7334", "[ip]", "85a3"},
    {"00:1A:2B:3C:4D:5E", "[mac]", "1A:2B"},
    {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJlMTIz", "[token]", "eyJzdWIi"},
    {"Bearer a1b2c3d4e5f6g7h8", "Bearer [token]", "a1b2c3d4"},
    {"ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[token]", "16C7e42F"},
    {"https://jane:hunter22@db.internal/x", "https://[auth]@db.internal/x", "hunter22"},
    {"password=hunter33", "password=[Filtered]", "hunter33"},
    {"{\"access_token\":\"hunter44\"}", "{\"access_token\":\"[Filtered]\"}", "hunter44"},
    {"{\\\"secret\\\":\\\"hunter55\\\"}", "{\\\"secret\\\":\\\"[Filtered]\\\"}", "hunter55"},
};

static uint32_t seed;

static uint32_t
random_below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* A line of the corpus with a secret between two of its words; *wanted: what must become of it. */
static cJSON *
random_text(char *wanted, size_t size)
{
    static char text[4096];
    const char *line;
    size_t p = random_below(MAYDAY_COUNT(planted)), words = 0, at = 0;

    do { /* what says of its neighbour what it is must not be torn from it */
        line = lines[random_below((uint32_t) line_count)];
    } while (strpbrk(line, "\"'`=:\\[({-") != NULL || strstr(line, "ersion") != NULL ||
             strstr(line, "OID") != NULL || strstr(line, "/home/") != NULL ||
             strstr(line, "section") != NULL);
    for (const char *c = line; *c != '\0'; c++) {
        words += *c == ' ';
    }
    for (size_t skip = random_below((uint32_t) words + 1); skip > 0; skip--) {
        at = (size_t) (strchr(line + at, ' ') - line) + 1;
    }
    snprintf(text, sizeof(text), "%.*s| %s | %s", (int) at, line, planted[p].text, line + at);
    snprintf(wanted, size, "%.*s| %s | %s", (int) at, line, planted[p].becomes, line + at);
    return cJSON_CreateString(text);
}

/* Where texts go; %s is the text. */
static const char *const shapes[] = {
    "{\"message\":%s}",
    "{\"exception\":{\"values\":[{\"type\":\"A\",\"value\":%s},{\"type\":\"B\",\"value\":\"b\"}]}}",
    "{\"exception\":{\"values\":[{\"type\":\"A\",\"value\":\"a\",\"stacktrace\":{\"frames\":"
    "[{\"function\":\"f\",\"vars\":{\"a\":{\"b\":[1,%s]}}}]}}]}}",
    "{\"exception\":{\"values\":[{\"type\":\"A\",\"stacktrace\":{\"frames\":[{\"context_line\":%s,"
    "\"pre_context\":[\"x\",\"y\"]}]}}]}}",
    "{\"breadcrumbs\":{\"values\":[{\"type\":\"default\",\"message\":%s}]}}",
    "{\"breadcrumbs\":{\"values\":[{\"data\":{\"reason\":%s}}]}}",
    "{\"request\":{\"headers\":[[\"Host\",\"shop\"],[\"X-Note\",%s]]}}",
    "{\"request\":{\"query_string\":[[\"q\",%s]]}}",
    "{\"request\":{\"cookies\":[[\"note\",%s]]}}",
    "{\"request\":{\"data\":%s}}",
    "{\"request\":{\"data\":{\"a\":[{\"b\":%s}]}}}",
    "{\"request\":{\"env\":{\"NOTE\":%s}}}",
    "{\"request\":{\"url\":%s}}",
    "{\"contexts\":{\"order\":{\"note\":%s},\"trace\":{\"trace_id\":\"0af7\"}}}",
    "{\"contexts\":{\"mayday\":{\"kind\":\"limited\",\"log_lines\":[\"x\",%s]}}}",
    "{\"contexts\":{\"response\":{\"headers\":[[\"X-Note\",%s]]}}}",
    "{\"tags\":{\"note\":%s}}",
    "{\"user\":{\"username\":%s}}",
    "{\"user\":{\"data\":{\"note\":%s}}}",
    "{\"extra\":{\"a\":%s}}",
    "{\"extra\":{\"a\":{\"b\":{\"c\":[[[%s]]]}}}}",
    "{\"transaction\":%s}",
};

static void
assert_round(fixture_t *f, size_t shape)
{
    char wanted_text[4096], json[8192], wanted[8192];
    cJSON *text = random_text(wanted_text, sizeof(wanted_text));
    char *quoted = cJSON_PrintUnformatted(text);
    char *wanted_quoted = cJSON_PrintUnformatted(cJSON_CreateString(wanted_text));
    mayday_slice_t sent;

    snprintf(json, sizeof(json), "%s", shapes[shape]);
    *strstr(json, "%s") = '\0';
    snprintf(wanted, sizeof(wanted), "%s%s%s", json, wanted_quoted,
             strstr(shapes[shape], "%s") + 2);
    strcat(strcat(json, quoted), strstr(shapes[shape], "%s") + 2);
    make_event(f, json);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    f->event.built |= 1u << MAYDAY_PART_META;
    sent = mayday_event_serialise(&f->event);
    cJSON *event = cJSON_ParseWithLength(sent.data, sent.len);
    assert_non_null(event);
    cJSON *meta = cJSON_DetachItemFromObject(event, "_meta");
    assert_non_null(strstr(cJSON_PrintUnformatted(meta), "\"rem\":[[\"mayday:"));
    if (strcmp(cJSON_PrintUnformatted(event), wanted) != 0) {
        fail_msg("%s\nbecame\n%s\nand not\n%s", json, cJSON_PrintUnformatted(event), wanted);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(planted); i++) {
        assert_null(strstr(sent.data, planted[i].needle));
    }
}

static void
rounds(fixture_t *f, const char *touch)
{
    char rules[512];

    snprintf(rules, sizeof(rules), SCRUB, touch);
    load(f, rules);
    assert_non_null(f->rules);
    seed = 20261122;
    for (size_t i = 0; i < 3000; i++) {
        mayday_event_memory_end();
        mayday_event_memory_begin();
        assert_round(f, i % MAYDAY_COUNT(shapes));
    }
}

static void
test_planted__no_part_in_lua(void **state)
{
    rounds(*state, "");
}

static void
test_planted__all_parts_in_lua(void **state)
{
    rounds(*state, "for _ in pairs(event) do end");
}

static void
test_planted__some_parts_in_lua(void **state)
{
    rounds(*state, "local _ = event.request, event.tags, event.extra, event.exception");
}

/* ---- an event from a record ---- */

static void
fill_view(mayday_record_view_t *view)
{
    fixture_request(view, MAYDAY_KIND_SERVER_INTERNAL, 500);
    view_set_text(view, PATH, "/u/jane.doe@mail.example/reset/198.51.100.77");
    view_set_text(view, QUERY, "page=2&who=jane.doe@mail.example");
    view_set_text(view, CLIENT_ADDRESS, "198.51.100.77");
    view_set_text(view, USER_EMAIL, "jane.doe@mail.example");
    view_set_text(view, UPSTREAM, "shop_backend");
    view_add_header(view, "X-Forwarded-For", "198.51.100.77");
    view_add_attempt(view, "10.0.0.4:8080", 0, 1, -1, 2);
    view_add_line(view, 3,
                  "no mail to jane.doe@mail.example from 198.51.100.77, peer 10.0.0.4:8080");
    view_add_tag(view, "customer", "jane.doe@mail.example");
}

static mayday_slice_t
scrub_record(fixture_t *f, const char *touch)
{
    char rules[512];

    snprintf(rules, sizeof(rules), SCRUB, touch);
    load(f, rules);
    assert_non_null(f->rules);
    fill_view(&f->view);
    mayday_event_init(&f->event, &f->view, &fixture_settings);
    mayday_rules_run(f->rules, &f->event, &f->result);
    assert_string_equal(f->result.error, "");
    return mayday_event_serialise(&f->event);
}

static void
assert_nothing_of_jane(fixture_t *f, const char *touch)
{
    mayday_slice_t sent = scrub_record(f, touch);
    char title[MAYDAY_TITLE_SIZE];
    mayday_buf_t out;

    assert_null(strstr(sent.data, "jane.doe"));
    assert_null(strstr(sent.data, "198.51"));
    assert_non_null(strstr(sent.data, "10.0.0.4:8080")); /* what failed */
    assert_non_null(strstr(sent.data, "shop_backend"));
    mayday_buf_init(&out, title, sizeof(title));
    mayday_event_title(&f->event, &out);
    assert_string_equal(title, "ServerInternal: no mail to [email] from [ip], peer 10.0.0.4:8080");
}

static void
test_record__nothing_is_left(void **state)
{
    assert_nothing_of_jane(*state, "");
    assert_nothing_of_jane(*state, "for _ in pairs(event) do end");
    assert_nothing_of_jane(*state, "local _ = event.request.headers, event.transaction");
}

/* A secret in each text of the record in turn; which of them no rule hides is a decision. */
static void
test_record__each_field(void **state)
{
    static const mayday_field_t stay[] = {
        MAYDAY_FIELD_EVENT_ID,    MAYDAY_FIELD_PROTOCOL,     MAYDAY_FIELD_VIRTUAL_HOST,
        MAYDAY_FIELD_LOCATION,    MAYDAY_FIELD_TLS_PROTOCOL, MAYDAY_FIELD_TLS_CIPHER,
        MAYDAY_FIELD_UPSTREAM,    MAYDAY_FIELD_RELEASE,      MAYDAY_FIELD_ENVIRONMENT,
        MAYDAY_FIELD_TRACE_ID,    MAYDAY_FIELD_SPAN_ID,      MAYDAY_FIELD_PARENT_SPAN_ID,
        MAYDAY_FIELD_DESTINATION, MAYDAY_FIELD_METHOD,       MAYDAY_FIELD_SCHEME};
    fixture_t *f = *state;

    load(f, "local mayday, pii = require 'mayday', require 'mayday.pii'\n"
            "mayday.before_send(function(event) return pii.scrub(event) end)\n");
    for (mayday_field_t field = 1; field < 46; field++) {
        mayday_slice_t sent, trace;
        bool stays = false;

        fixture_request(&f->view, MAYDAY_KIND_SERVER_INTERNAL, 500);
        if (field == MAYDAY_FIELD_BAGGAGE) {
            view_set_text(&f->view, BAGGAGE,
                          "sentry-trace_id=0af7651916cd43dd8448eb211c80319c,sentry-transaction="
                          "/u/jane.doe%40mail.example,sentry-user_id=jane.doe@mail.example");
        } else {
            fixture_text(&f->view, field, MAYDAY_SLICE("jane.doe@mail.example"));
        }
        mayday_event_init(&f->event, &f->view, &fixture_settings);
        mayday_rules_run(f->rules, &f->event, &f->result);
        trace = mayday_event_trace(&f->event);
        sent = mayday_event_serialise(&f->event);
        for (size_t i = 0; i < MAYDAY_COUNT(stay); i++) {
            stays = stays || stay[i] == field;
        }
        if (!stays && (strstr(sent.data, "jane.doe") != NULL ||
                       (trace.len > 0 && strstr(trace.data, "jane.doe") != NULL))) {
            fail_msg("field %d: %s %s", (int) field, sent.data, trace.data);
        }
    }
}

/* What of the caller's baggage goes out in the envelope's header is no part of the event. */
static void
test_record__trace(void **state)
{
    fixture_t *f = *state;
    mayday_slice_t trace;

    fill_view(&f->view);
    view_set_text(&f->view, BAGGAGE,
                  "sentry-trace_id=0af7651916cd43dd8448eb211c80319c,sentry-transaction=/u/"
                  "jane.doe%40mail.example,sentry-public_key=0123456789abcdef0123456789abcdef");
    load(f, "local mayday, pii = require 'mayday', require 'mayday.pii'\n"
            "mayday.before_send(function(event)\n"
            "for i = 1, 6 do pii.scrub(event, { only = { i == 6 and 'email' or 'mac' } }) end\n"
            "return event end)\n");
    mayday_event_init(&f->event, &f->view, &fixture_settings);
    mayday_rules_run(f->rules, &f->event, &f->result);
    trace = mayday_event_trace(&f->event);
    assert_string_equal(trace.data, "{\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\","
                                    "\"transaction\":\"/u/[email]\","
                                    "\"public_key\":\"0123456789abcdef0123456789abcdef\"}");
}

/* The issue is that of the event before, however the parts were touched. */
static void
test_record__groups_as_before(void **state)
{
    fixture_t *f = *state;
    uint8_t before[MAYDAY_HASH_BYTES], after[MAYDAY_HASH_BYTES];

    fill_view(&f->view);
    mayday_event_init(&f->event, &f->view, &fixture_settings);
    mayday_event_issue(&f->event, before);
    (void) scrub_record(f, "");
    mayday_event_issue(&f->event, after);
    assert_memory_equal(before, after, sizeof(before));
}

/* Two paths that hold different secrets stay two issues, in Sentry too. */
static void
test_record__fingerprints_stay_apart(void **state)
{
    static const char *const paths[] = {"/x_jane@mail.example", "/x_bob@mail.example"};
    fixture_t *f = *state;
    char texts[2][256];

    for (size_t i = 0; i < 2; i++) {
        (void) scrub_record(f, "event.fingerprint = { 'mine', event.request.url }");
        fill_view(&f->view);
        fixture_text(&f->view, MAYDAY_FIELD_PATH, mayday_slice_str(paths[i]));
        mayday_event_init(&f->event, &f->view, &fixture_settings);
        mayday_rules_run(f->rules, &f->event, &f->result);
        snprintf(texts[i], sizeof(texts[i]), "%s",
                 cJSON_PrintUnformatted(mayday_event_part(&f->event, MAYDAY_PART_FINGERPRINT)));
        assert_null(strstr(texts[i], "mail.example"));
    }
    assert_string_not_equal(texts[0], texts[1]);
}

static void
test_record__counting_builds_nothing(void **state)
{
    fixture_t *f = *state;
    uint8_t hash[MAYDAY_HASH_BYTES];

    load(f, "local mayday, pii = require 'mayday', require 'mayday.pii'\n"
            "mayday.before_send(function(event) return pii.scrub(event) end)\n");
    fill_view(&f->view);
    mayday_event_init(&f->event, &f->view, &fixture_settings);
    mayday_rules_run(f->rules, &f->event, &f->result);
    mayday_event_issue(&f->event, hash);
    assert_int_equal(f->event.built, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus__stays),
        cmocka_unit_test(test_corpus__stays_within_other_text),
        TEST(test_planted__no_part_in_lua),
        TEST(test_planted__all_parts_in_lua),
        TEST(test_planted__some_parts_in_lua),
        TEST(test_record__nothing_is_left),
        TEST(test_record__each_field),
        TEST(test_record__trace),
        TEST(test_record__groups_as_before),
        TEST(test_record__fingerprints_stay_apart),
        TEST(test_record__counting_builds_nothing),
    };

    mayday_event_setup();
    return cmocka_run_group_tests(tests, read_corpus, NULL);
}
