/* Records: what is written is read, what is sensitive is not there, nothing breaks the reader. */
#include "tests/unit/lane_fixture.h"

#include "core/event/record_read.h"

#define LANE_SIZE (4 * MAYDAY_RECORD_SIZE_MAX)

static lane_fixture_t fixture;
static mayday_lane_t lane;
static mayday_record_view_t view;

static int
setup(void **state)
{
    (void) state;
    fixture_open(&fixture, 1, LANE_SIZE);
    mayday_lane_init(&lane, &fixture.map, fixture_settings, false);
    return mayday_lane_claim(&lane) == MAYDAY_OK ? 0 : -1;
}

static int
teardown(void **state)
{
    (void) state;
    mayday_lane_release(&lane);
    fixture_close(&fixture);
    return 0;
}

static mayday_record_t
begin(void)
{
    mayday_record_t record;

    assert_int_equal(mayday_lane_begin(&lane, &record), MAYDAY_OK);
    mayday_record_u64(&record, MAYDAY_FIELD_KIND, MAYDAY_KIND_UPSTREAM_CLOSED);
    return record;
}

/* Commits, reads it back into `view`, and gives the space back. */
static void
commit_and_read(mayday_record_t *record)
{
    mayday_slot_t *slot = fixture_slot(&fixture, 0);
    uint64_t position = atomic_load(&slot->tail);
    const uint8_t *bytes = lane.ring + position % lane.lane_size;
    uint32_t size = 0;

    mayday_lane_commit(record);
    uint64_t len = atomic_load(&slot->tail) - position;
    assert_int_equal(mayday_record_read(&view, bytes, len, &size), MAYDAY_OK);
    assert_int_equal(size, len);
    atomic_store(&slot->head, atomic_load(&slot->tail));
}

static void
assert_slice(mayday_slice_t got, const char *expected)
{
    if (!mayday_slice_eq(got, mayday_slice_str(expected))) {
        fail_msg("got \"%.*s\", expected \"%s\"", (int) got.len, got.data, expected);
    }
}

/* ---- a policy as mayday_collect would make it ---- */

static char pool[1 << 20];
static size_t pool_used;

static void *
pool_alloc(void *ctx, size_t size)
{
    (void) ctx;
    size = (size + 15) & ~(size_t) 15;
    assert_true(size <= sizeof(pool) - pool_used);
    void *p = pool + pool_used;
    pool_used += size;
    return p;
}

static mayday_collect_t
policy(bool headers, bool cookies, bool query)
{
    mayday_redact_t *redact;

    memset(pool, 0, sizeof(pool));
    pool_used = 0;
    redact = mayday_redact_new(pool_alloc, NULL, false, NULL, 0, NULL, 0, NULL, 0);
    assert_non_null(redact);
    return (mayday_collect_t){
        .headers = {headers, redact}, .cookies = {cookies, redact}, .query = {query, redact}};
}

static mayday_slice_t
header_value(const char *name)
{
    for (size_t i = 0; i < view.header_count; i++) {
        if (mayday_slice_eq(view.headers[i].name, mayday_slice_str(name))) {
            return view.headers[i].value;
        }
    }
    return mayday_slice(NULL, 0);
}

/* ---- writing ---- */

static void
test_write__every_field_comes_back(void **state)
{
    static char long_text[8192];
    mayday_record_attempt_t attempt = {502, 1, 2, 3, 4};
    mayday_collect_t collect = policy(true, true, true);
    mayday_record_t record = begin();

    (void) state;
    memset(long_text, 'x', sizeof(long_text));
#define PUT_U64(id) mayday_record_u64(&record, MAYDAY_FIELD_##id, MAYDAY_FIELD_##id);
#define PUT_TEXT(id)                                                                               \
    mayday_record_text(&record, id, mayday_slice(long_text, MAYDAY_FIELD_MAX_##id));
#define PUT_BYTES(id) PUT_TEXT(id)
#define PUT_PAIR(id)                                                                               \
    mayday_record_pair(&record, MAYDAY_FIELD_##id, MAYDAY_FIELD_MAX_##id, MAYDAY_SLICE("n"),       \
                       MAYDAY_SLICE("v"));
#define PUT_ATTEMPT(id) mayday_record_attempt(&record, &attempt, MAYDAY_SLICE("peer"));
#define PUT_LOG_LINE(id) mayday_record_log_line(&record, &collect, 3, 77, MAYDAY_SLICE("line"));
#define MAYDAY_FIELD(tag, id, name, type, max, meaning) PUT_##type(id)
#include "core/capture/record.def"
#undef MAYDAY_FIELD
    assert_int_equal(record.flags, 0);
    commit_and_read(&record);

    assert_false(view.truncated);
#define GET_U64(id)                                                                                \
    if (MAYDAY_FIELD_##id != MAYDAY_FIELD_KIND) {                                                  \
        assert_int_equal(mayday_view_u64(&view, id), MAYDAY_FIELD_##id);                           \
    }
#define GET_TEXT(id)                                                                               \
    assert_true(mayday_view_has(&view, id));                                                       \
    assert_int_equal(mayday_view_text(&view, id).len, MAYDAY_FIELD_MAX_##id);
#define GET_BYTES(id) GET_TEXT(id)
#define GET_PAIR(id)
#define GET_ATTEMPT(id)
#define GET_LOG_LINE(id)
#define MAYDAY_FIELD(tag, id, name, type, max, meaning) GET_##type(id)
#include "core/capture/record.def"
#undef MAYDAY_FIELD
    assert_int_equal(mayday_view_u64(&view, KIND), MAYDAY_KIND_UPSTREAM_CLOSED);
    assert_int_equal(
        view.header_count + view.cookie_count + view.tag_count + view.response_header_count, 4);
    assert_slice(view.tags[0].name, "n");
    assert_slice(view.tags[0].value, "v");
    assert_int_equal(view.attempt_count, 1);
    assert_memory_equal(&view.attempts[0].timing, &attempt, sizeof(attempt));
    assert_slice(view.attempts[0].peer, "peer");
    assert_int_equal(view.log_line_count, 1);
    assert_int_equal(view.log_lines[0].info.level, 3);
    assert_int_equal(view.log_lines[0].info.time_us, 77);
    assert_slice(view.log_lines[0].text, "line");
}

static void
test_write__too_long_is_cut_and_flagged(void **state)
{
    static char text[16384];
    mayday_record_attempt_t attempt = {0, -1, -1, -1, 0};
    mayday_record_t record = begin();

    (void) state;
    memset(text, 'x', sizeof(text));
    mayday_record_text(&record, HOST, mayday_slice(text, MAYDAY_FIELD_MAX_HOST + 1));
    mayday_record_pair(&record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG, MAYDAY_SLICE("name"),
                       mayday_slice(text, 1000));
    mayday_record_pair(&record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG, mayday_slice(text, 1000),
                       MAYDAY_SLICE("value"));
    mayday_record_attempt(&record, &attempt, mayday_slice(text, 1000));
    mayday_record_text(&record, METHOD, MAYDAY_SLICE("GET"));
    commit_and_read(&record);

    assert_true(view.truncated);
    assert_int_equal(mayday_view_text(&view, HOST).len, MAYDAY_FIELD_MAX_HOST);
    assert_int_equal(view.flags[MAYDAY_FIELD_HOST], MAYDAY_FIELD_CUT);
    assert_int_equal(view.tag_count, 2);
    assert_slice(view.tags[0].name, "name");
    assert_int_equal(view.tags[0].value.len, MAYDAY_FIELD_MAX_TAG - 2 - 4);
    assert_int_equal(view.tags[1].name.len, MAYDAY_FIELD_MAX_TAG - 2);
    assert_int_equal(view.tags[1].value.len, 0);
    assert_int_equal(view.attempts[0].peer.len, MAYDAY_FIELD_MAX_ATTEMPT - 24);
    assert_slice(mayday_view_text(&view, METHOD), "GET");
}

static void
test_write__absent_values_are_not_written(void **state)
{
    mayday_collect_t collect = policy(true, true, true);
    mayday_record_t record = begin();
    uint8_t *pos = record.pos;

    (void) state;
    mayday_record_text(&record, HOST, mayday_slice(NULL, 0));
    mayday_record_query(&record, &collect, mayday_slice(NULL, 0));
    mayday_record_log_line(&record, &collect, 3, 0, mayday_slice(NULL, 0));
    mayday_record_pair(&record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG, mayday_slice(NULL, 0),
                       MAYDAY_SLICE("v"));
    mayday_record_header(&record, &collect, mayday_slice(NULL, 0), MAYDAY_SLICE("v"));
    assert_ptr_equal(record.pos, pos);
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Accept"), mayday_slice(NULL, 0));
    commit_and_read(&record);
    assert_int_equal(view.header_count, 1);
    assert_int_equal(view.headers[0].value.len, 0);
    assert_false(view.truncated);
}

static void
test_write__never_behind_the_end_of_the_record(void **state)
{
    static char text[5000];
    mayday_collect_t collect = policy(true, true, true);
    mayday_record_attempt_t attempt = {0, -1, -1, -1, 0};

    (void) state;
    memset(text, 'y', sizeof(text));
    text[10] = '?';
    for (size_t fill = 0; fill < 4200; fill += 7) {
        mayday_record_t record = begin();
        while (mayday_record_room(&record) > 8000) {
            mayday_record_text(&record, PATH, mayday_slice(text, 4000));
        }
        mayday_record_text(&record, PATH, mayday_slice(text, fill));
        for (int i = 0; i < 3; i++) {
            mayday_record_header(&record, &collect, MAYDAY_SLICE("Referer"),
                                 mayday_slice(text, 4999));
            mayday_record_query(&record, &collect, mayday_slice(text, 3000));
            mayday_record_log_line(&record, &collect, 3, 1, mayday_slice(text, 3000));
            mayday_record_attempt(&record, &attempt, mayday_slice(text, 300));
            mayday_record_pair(&record, MAYDAY_FIELD_TAG, MAYDAY_FIELD_MAX_TAG,
                               mayday_slice(text, 20), mayday_slice(text, 5));
            mayday_record_u64(&record, MAYDAY_FIELD_STATUS, 502);
            assert_true(record.pos <= record.end);
        }
        assert_true((record.flags & MAYDAY_RECORD_TRUNCATED) != 0);
        commit_and_read(&record);
        assert_true(view.truncated);
    }
}

/* ---- what must not get in ---- */

static void
test_header__sensitive_values_are_filtered(void **state)
{
    mayday_collect_t collect = policy(true, false, true);
    mayday_record_t record = begin();

    (void) state;
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Authorization"),
                         MAYDAY_SLICE("Bearer abc"));
    mayday_record_header(&record, &collect, MAYDAY_SLICE("X-API-Key"), MAYDAY_SLICE("abc"));
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Accept"), MAYDAY_SLICE("*/*"));
    commit_and_read(&record);
    assert_slice(header_value("Authorization"), MAYDAY_FILTERED);
    assert_slice(header_value("X-API-Key"), MAYDAY_FILTERED);
    assert_slice(header_value("Accept"), "*/*");
}

static void
test_header__cookies_whole_unless_they_are_collected(void **state)
{
    static const char *const names[] = {"Cookie",  "cookie",     "COOKIE",
                                        "Cookie2", "Set-Cookie", "X-Original-Cookie"};
    mayday_collect_t collect = policy(true, false, true);
    mayday_record_t record = begin();

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(names); i++) {
        mayday_record_header(&record, &collect, mayday_slice_str(names[i]),
                             MAYDAY_SLICE("theme=dark; who=me"));
    }
    commit_and_read(&record);
    assert_int_equal(view.header_count, MAYDAY_COUNT(names));
    assert_int_equal(view.cookie_count, 0);
    for (size_t i = 0; i < view.header_count; i++) {
        assert_slice(view.headers[i].value, MAYDAY_FILTERED);
    }
}

static void
test_header__collected_cookies_are_split_and_filtered(void **state)
{
    mayday_collect_t collect = policy(true, true, true);
    mayday_record_t record = begin();

    (void) state;
    mayday_record_header(
        &record, &collect, MAYDAY_SLICE("cookie"),
        MAYDAY_SLICE(" theme=dark;sessionid=abc ; =nameless; alone ;;empty=; a=b=c; "));
    commit_and_read(&record);
    assert_int_equal(view.header_count, 0);
    assert_int_equal(view.cookie_count, 4);
    assert_slice(view.cookies[0].name, "theme");
    assert_slice(view.cookies[0].value, "dark");
    assert_slice(view.cookies[1].name, "sessionid");
    assert_slice(view.cookies[1].value, MAYDAY_FILTERED);
    assert_slice(view.cookies[2].name, "empty");
    assert_slice(view.cookies[2].value, "");
    assert_slice(view.cookies[3].value, "b=c");
}

static void
test_header__url_values_lose_their_secrets(void **state)
{
    static const char *const names[] = {
        "Referer",        "referer",       "Origin",         "Destination",      "Location",
        "X-Original-URL", "X-Rewrite-URL", "X-Original-Uri", "Content-Location", "HX-Current-URL",
    };
    mayday_collect_t collect = policy(true, false, true);
    mayday_record_t record = begin();

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(names); i++) {
        mayday_record_header(&record, &collect, mayday_slice_str(names[i]),
                             MAYDAY_SLICE("https://u:p@h/x?page=2&token=s3cr3t&z=1"));
    }
    commit_and_read(&record);
    assert_int_equal(view.header_count, MAYDAY_COUNT(names));
    for (size_t i = 0; i < view.header_count; i++) {
        mayday_slice_t value = view.headers[i].value;
        if (mayday_slice_find(value, MAYDAY_SLICE("s3cr3t"), 0) != SIZE_MAX ||
            mayday_slice_find(value, MAYDAY_SLICE("u:p"), 0) != SIZE_MAX ||
            mayday_slice_find(value, MAYDAY_SLICE("?page=2&token=[Filtered]&z=1"), 0) == SIZE_MAX) {
            fail_msg("%s: %.*s", names[i], (int) value.len, value.data);
        }
    }
}

static void
test_header__no_query_where_queries_are_not_collected(void **state)
{
    mayday_collect_t collect = policy(true, false, false);
    mayday_record_t record = begin();

    (void) state;
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Referer"),
                         MAYDAY_SLICE("https://h/x?page=2"));
    mayday_record_query(&record, &collect, MAYDAY_SLICE("page=2"));
    mayday_record_log_line(&record, &collect, 3, 0, MAYDAY_SLICE("open() \"/x?page=2\" failed"));
    commit_and_read(&record);
    assert_int_equal(mayday_slice_find(header_value("Referer"), MAYDAY_SLICE("page"), 0), SIZE_MAX);
    assert_false(mayday_view_has(&view, QUERY));
    assert_int_equal(mayday_slice_find(view.log_lines[0].text, MAYDAY_SLICE("page"), 0), SIZE_MAX);
}

static void
test_header__nothing_where_headers_are_not_collected(void **state)
{
    mayday_collect_t collect = policy(false, false, true);
    mayday_record_t record = begin();

    (void) state;
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Accept"), MAYDAY_SLICE("*/*"));
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Cookie"), MAYDAY_SLICE("a=b"));
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Referer"), MAYDAY_SLICE("https://h/"));
    commit_and_read(&record);
    assert_int_equal(view.header_count + view.cookie_count, 0);
}

static void
test_query_and_log_line__sensitive_values_are_filtered(void **state)
{
    mayday_collect_t collect = policy(true, false, true);
    mayday_record_t record = begin();

    (void) state;
    mayday_record_query(&record, &collect, MAYDAY_SLICE("a=1&password=x&b=2"));
    mayday_record_log_line(&record, &collect, 3, 0,
                           MAYDAY_SLICE("open() \"/x?token=s3cr3t&a=1\" failed"));
    commit_and_read(&record);
    assert_slice(mayday_view_text(&view, QUERY), "a=1&password=[Filtered]&b=2");
    assert_int_equal(view.flags[MAYDAY_FIELD_QUERY], MAYDAY_FIELD_FILTERED);
    assert_int_equal(mayday_slice_find(view.log_lines[0].text, MAYDAY_SLICE("s3cr3t"), 0),
                     SIZE_MAX);
}

/* ---- reading what is hostile ---- */

typedef struct {
    uint8_t bytes[MAYDAY_RECORD_SIZE_MAX];
    size_t len;
} raw_t;

static raw_t raw;

static void
raw_begin(void)
{
    memset(&raw, 0, sizeof(raw));
    raw.len = sizeof(mayday_record_header_t);
}

static void
raw_field(uint8_t tag, const void *payload, size_t len)
{
    mayday_field_header_t header = {tag, 0, (uint16_t) len};

    memcpy(raw.bytes + raw.len, &header, sizeof(header));
    memcpy(raw.bytes + raw.len + sizeof(header), payload, len);
    raw.len += sizeof(header) + len;
}

static void
raw_u64(uint8_t tag, uint64_t value)
{
    raw_field(tag, &value, sizeof(value));
}

static mayday_rc_t
raw_read(void)
{
    uint32_t size = (uint32_t) ((raw.len + 7) & ~(size_t) 7);
    mayday_record_header_t header = {MAYDAY_RECORD_MAGIC, size, 0, 0, 0};

    memcpy(raw.bytes, &header, sizeof(header));
    return mayday_record_read(&view, raw.bytes, sizeof(raw.bytes), &size);
}

/* What a server leaves out because it stands in the record already. */
static void
test_read__host_and_trace_from_elsewhere(void **state)
{
    mayday_collect_t collect = policy(true, false, true);
    mayday_record_t record = begin();
    char host[MAYDAY_FIELD_MAX_HOST + 9];
    uint8_t id[16] = "0123456789abcde";

    (void) state;
    memset(host, 'h', sizeof(host));
    mayday_record_header(&record, &collect, MAYDAY_SLICE("hOST"), mayday_slice(host, sizeof(host)));
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Host"), MAYDAY_SLICE("second.test"));
    mayday_record_text(&record, EVENT_ID, mayday_slice(id, sizeof(id)));
    commit_and_read(&record);
    assert_int_equal(mayday_view_text(&view, HOST).len, MAYDAY_FIELD_MAX_HOST);
    assert_memory_equal(mayday_view_text(&view, TRACE_ID).data, id, 16);
    assert_int_equal(mayday_view_text(&view, SPAN_ID).len, 8);
    assert_memory_equal(mayday_view_text(&view, SPAN_ID).data, id, 8);

    record = begin();
    mayday_record_header(&record, &collect, MAYDAY_SLICE("Host"), MAYDAY_SLICE("proxy.test"));
    mayday_record_text(&record, HOST, MAYDAY_SLICE("shop.test"));
    mayday_record_text(&record, EVENT_ID, mayday_slice(id, sizeof(id)));
    mayday_record_text(&record, TRACE_ID, MAYDAY_SLICE("fedcba9876543210"));
    commit_and_read(&record);
    assert_slice(mayday_view_text(&view, HOST), "shop.test");
    assert_slice(mayday_view_text(&view, TRACE_ID), "fedcba9876543210");
    assert_false(mayday_view_has(&view, SPAN_ID));
}

static void
test_read__header_that_is_none(void **state)
{
    mayday_record_header_t good = {MAYDAY_RECORD_MAGIC, 40, 0, 0, 0}, bad;
    uint8_t bytes[64] = {0};
    uint64_t kind = 1;
    uint32_t size;
    mayday_field_header_t field = {MAYDAY_FIELD_KIND, 0, 8};

    (void) state;
    memcpy(bytes + 24, &field, 4);
    memcpy(bytes + 28, &kind, 8);
    memcpy(bytes, &good, sizeof(good));
    assert_int_equal(mayday_record_read(&view, bytes, 40, &size), MAYDAY_OK);
    for (size_t len = 0; len < 40; len++) {
        assert_int_equal(mayday_record_read(&view, bytes, len, &size), MAYDAY_INVALID);
    }
    const uint32_t sizes[] = {0, 8, 16, 23, 25, 44, 48, MAYDAY_RECORD_SIZE_MAX + 8, UINT32_MAX - 7};
    for (size_t i = 0; i < MAYDAY_COUNT(sizes); i++) {
        bad = good;
        bad.size = sizes[i];
        memcpy(bytes, &bad, sizeof(bad));
        assert_int_equal(mayday_record_read(&view, bytes, 40, &size), MAYDAY_INVALID);
    }
    bad = good;
    bad.magic++;
    memcpy(bytes, &bad, sizeof(bad));
    assert_int_equal(mayday_record_read(&view, bytes, 40, &size), MAYDAY_INVALID);
}

static void
test_read__kind_and_status_must_be_in_range(void **state)
{
    (void) state;
    raw_begin();
    raw_u64(MAYDAY_FIELD_STATUS, 502);
    assert_int_equal(raw_read(), MAYDAY_INVALID);
    raw_u64(MAYDAY_FIELD_KIND, MAYDAY_KIND_MAX);
    assert_int_equal(raw_read(), MAYDAY_INVALID);
    raw_begin();
    raw_u64(MAYDAY_FIELD_KIND, MAYDAY_KIND_MAX - 1);
    assert_int_equal(raw_read(), MAYDAY_OK);
    raw_u64(MAYDAY_FIELD_STATUS, 1000);
    assert_int_equal(raw_read(), MAYDAY_INVALID);
}

static void
test_read__field_that_runs_over_the_end(void **state)
{
    mayday_field_header_t header = {MAYDAY_FIELD_HOST, 0, 100};

    (void) state;
    raw_begin();
    raw_u64(MAYDAY_FIELD_KIND, 1);
    memcpy(raw.bytes + raw.len, &header, sizeof(header));
    raw.len += sizeof(header) + 50;
    assert_int_equal(raw_read(), MAYDAY_INVALID);
}

static void
test_read__odd_fields_cost_only_themselves(void **state)
{
    static char text[8192];
    uint16_t name_len = 5;
    char pair[8];

    (void) state;
    memset(text, 'x', sizeof(text));
    raw_begin();
    raw_u64(MAYDAY_FIELD_KIND, 1);
    raw_field(MAYDAY_FIELD_DURATION_US, text, 7);
    raw_field(MAYDAY_FIELD_EVENT_ID, text, 15);
    raw_field(MAYDAY_FIELD_HOST, text, MAYDAY_FIELD_MAX_HOST + 1);
    raw_field(200, text, 100);
    raw_field(63, text, 100);
    raw_field(MAYDAY_FIELD_HEADER, text, 0);
    raw_field(MAYDAY_FIELD_HEADER, text, 1);
    memcpy(pair, &name_len, 2);
    memcpy(pair + 2, "ab", 2);
    raw_field(MAYDAY_FIELD_HEADER, pair, 4);
    raw_field(MAYDAY_FIELD_HEADER, "\0\0value", 7);
    raw_field(MAYDAY_FIELD_ATTEMPT, text, 23);
    raw_field(MAYDAY_FIELD_LOG_LINE, text, 15);
    raw_field(MAYDAY_FIELD_METHOD, "GET", 3);
    raw_field(MAYDAY_FIELD_METHOD, "POST", 4);
    assert_int_equal(raw_read(), MAYDAY_OK);
    assert_int_equal(view.present, UINT64_C(1) << MAYDAY_FIELD_KIND | UINT64_C(1)
                                                                          << MAYDAY_FIELD_METHOD);
    assert_int_equal(view.header_count + view.attempt_count + view.log_line_count, 0);
    assert_int_equal(mayday_view_u64(&view, DURATION_US), 0);
    assert_int_equal(mayday_view_text(&view, HOST).len, 0);
    assert_slice(mayday_view_text(&view, METHOD), "GET");
}

static void
test_read__repeats_are_bounded(void **state)
{
    uint8_t pair[] = {1, 0, 'n', 'v'};
    mayday_record_attempt_t attempt = {0, -1, -1, -1, 0};
    mayday_record_log_line_t line = {3, 0, 0};

    (void) state;
    raw_begin();
    raw_u64(MAYDAY_FIELD_KIND, 1);
    for (int i = 0; i < 200; i++) {
        raw_field(MAYDAY_FIELD_HEADER, pair, sizeof(pair));
        raw_field(MAYDAY_FIELD_COOKIE, pair, sizeof(pair));
        raw_field(MAYDAY_FIELD_RESPONSE_HEADER, pair, sizeof(pair));
        raw_field(MAYDAY_FIELD_TAG, pair, sizeof(pair));
        raw_field(MAYDAY_FIELD_ATTEMPT, &attempt, sizeof(attempt));
        raw_field(MAYDAY_FIELD_LOG_LINE, &line, sizeof(line));
    }
    assert_int_equal(raw_read(), MAYDAY_OK);
    assert_true(view.truncated);
    assert_int_equal(view.header_count, MAYDAY_VIEW_HEADERS_MAX);
    assert_int_equal(view.cookie_count, MAYDAY_VIEW_COOKIES_MAX);
    assert_int_equal(view.response_header_count, MAYDAY_VIEW_RESPONSE_HEADERS_MAX);
    assert_int_equal(view.tag_count, MAYDAY_VIEW_TAGS_MAX);
    assert_int_equal(view.attempt_count, MAYDAY_VIEW_ATTEMPTS_MAX);
    assert_int_equal(view.log_line_count, MAYDAY_VIEW_LOG_LINES_MAX);
}

/* Slices of a view must lie in the record, whatever the record says. */
static void
assert_inside(mayday_slice_t s, const uint8_t *bytes, size_t len)
{
    if (s.len > 0) {
        assert_true((const uint8_t *) s.data >= bytes && s.len <= len &&
                    (const uint8_t *) s.data + s.len <= bytes + len);
    }
}

static void
test_read__random_bytes_stay_inside(void **state)
{
    uint64_t random = 88172645463325252u;
    size_t readable = 0;

    (void) state;
    for (int round = 0; round < 20000; round++) {
        raw_begin();
        raw_u64(MAYDAY_FIELD_KIND, 1);
        while (raw.len < 600) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            /* Half well-formed fields with nonsense in them, half nonsense. */
            if (random % 2 == 0) {
                raw_field((uint8_t) (random / 2 % 48), &random, random / 128 % 9);
            } else {
                memcpy(raw.bytes + raw.len, &random, 8);
                raw.len += random / 8 % 8;
            }
        }
        size_t size = (raw.len + 7) & ~(size_t) 7;
        if (raw_read() != MAYDAY_OK) {
            continue;
        }
        readable++;
        for (size_t i = 0; i < 64; i++) {
            assert_inside(view.text[i], raw.bytes, size);
        }
        for (size_t i = 0; i < view.header_count; i++) {
            assert_inside(view.headers[i].name, raw.bytes, size);
            assert_inside(view.headers[i].value, raw.bytes, size);
        }
        for (size_t i = 0; i < view.attempt_count; i++) {
            assert_inside(view.attempts[i].peer, raw.bytes, size);
        }
        for (size_t i = 0; i < view.log_line_count; i++) {
            assert_inside(view.log_lines[i].text, raw.bytes, size);
        }
    }
    assert_true(readable > 100);
}

int
main(void)
{
#define WITH_LANE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_LANE(test_write__every_field_comes_back),
        WITH_LANE(test_write__too_long_is_cut_and_flagged),
        WITH_LANE(test_write__absent_values_are_not_written),
        WITH_LANE(test_write__never_behind_the_end_of_the_record),
        WITH_LANE(test_header__sensitive_values_are_filtered),
        WITH_LANE(test_header__cookies_whole_unless_they_are_collected),
        WITH_LANE(test_header__collected_cookies_are_split_and_filtered),
        WITH_LANE(test_header__url_values_lose_their_secrets),
        WITH_LANE(test_header__no_query_where_queries_are_not_collected),
        WITH_LANE(test_header__nothing_where_headers_are_not_collected),
        WITH_LANE(test_query_and_log_line__sensitive_values_are_filtered),
        WITH_LANE(test_read__host_and_trace_from_elsewhere),
        cmocka_unit_test(test_read__header_that_is_none),
        cmocka_unit_test(test_read__kind_and_status_must_be_in_range),
        cmocka_unit_test(test_read__field_that_runs_over_the_end),
        cmocka_unit_test(test_read__odd_fields_cost_only_themselves),
        cmocka_unit_test(test_read__repeats_are_bounded),
        cmocka_unit_test(test_read__random_bytes_stay_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
