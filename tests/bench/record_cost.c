/*
 * Writes the record of a failed request again and again, for callgrind to count:
 *
 *   record_cost PART COUNT
 *
 * PART is one part of the work, or "whole" for all of them: what core/capture
 * does for a 502 with ten headers, two attempts and a log line. The server's own
 * part is not here; bench.py counts that in real servers.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/capture/cause.h"
#include "core/capture/record.h"
#include "core/capture/trace.h"

typedef struct {
    mayday_slice_t name, value;
} header_t;

/* As a server holds it: lengths and places that no compiler knows. */
typedef struct {
    mayday_slice_t method, host, path, query, protocol, virtual_host, location, upstream, release,
        environment, content_type, line, peers[2];
    header_t headers[10];
    uint64_t numbers[12];
} request_t;

typedef struct {
    mayday_lane_t lane;
    mayday_collect_t collect;
    mayday_ids_t ids;
    request_t request;
    uint8_t event_id[16];
    mayday_trace_t trace;
    int error;
} bench_t;

typedef void (*part_pt)(bench_t *b, mayday_record_t *record);

static mayday_slice_t
copy(const char *text)
{
    return mayday_slice_str(strdup(text));
}

static void
request_init(request_t *r)
{
    static const char *const headers[][2] = {
        {"Host", "shop.test"},
        {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"},
        {"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
        {"Accept-Language", "en-US,en;q=0.5"},
        {"Accept-Encoding", "gzip, deflate, br"},
        {"Referer", "https://shop.test/cart?page=2"},
        {"Cookie", "sessionid=0123456789abcdef; theme=dark"},
        {"X-Forwarded-For", "203.0.113.7"},
        {"X-Request-Id", "4f1c2d3e"},
        {"Cache-Control", "no-cache"},
    };

    r->method = copy("GET");
    r->host = copy("shop.test");
    r->path = copy("/x/checkout/17");
    r->query = copy("page=2&token=abcdef");
    r->protocol = copy("HTTP/1.1");
    r->virtual_host = copy("shop.test");
    r->location = copy("/x/");
    r->upstream = copy("shop_backend");
    r->release = copy("shop@1.4.2");
    r->environment = copy("production");
    r->content_type = copy("text/html");
    r->line = copy("connect() failed (111: Connection refused) while connecting to upstream");
    r->peers[0] = copy("10.0.0.4:8080");
    r->peers[1] = copy("10.0.0.5:8080");
    for (size_t i = 0; i < MAYDAY_COUNT(headers); i++) {
        r->headers[i] = (header_t){copy(headers[i][0]), copy(headers[i][1])};
    }
    for (size_t i = 0; i < MAYDAY_COUNT(r->numbers); i++) {
        r->numbers[i] = 1000 + i;
    }
}

/* ---- the parts ---- */

static __attribute__((noinline)) void
put_ids(bench_t *b, mayday_record_t *record)
{
    (void) record;
    mayday_ids_next(&b->ids, b->event_id);
    mayday_trace_new(&b->trace, &b->ids);
}

static __attribute__((noinline)) void
classify(bench_t *b, mayday_record_t *record)
{
    (void) record;
    b->error = 0;
    b->request.numbers[0] = mayday_cause_classify(MAYDAY_SERVER_NGINX, b->request.line, &b->error);
}

static __attribute__((noinline)) void
put_fields(bench_t *b, mayday_record_t *record)
{
    const request_t *r = &b->request;
    mayday_record_attempt_t attempt = {0, -1, -1, 1, 0};

    mayday_record_u64(record, MAYDAY_FIELD_KIND, r->numbers[0]);
    mayday_record_u64(record, MAYDAY_FIELD_STATUS, r->numbers[1]);
    mayday_record_u64(record, MAYDAY_FIELD_DESTINATION, r->numbers[2]);
    mayday_record_u64(record, MAYDAY_FIELD_ERRNO, r->numbers[3]);
    mayday_record_u64(record, MAYDAY_FIELD_TIME_US, r->numbers[4]);
    mayday_record_u64(record, MAYDAY_FIELD_DURATION_US, r->numbers[5]);
    mayday_record_u64(record, MAYDAY_FIELD_REQUEST_BYTES, r->numbers[6]);
    mayday_record_u64(record, MAYDAY_FIELD_RESPONSE_BYTES, r->numbers[7]);
    mayday_record_u64(record, MAYDAY_FIELD_RESPONSE_BODY_BYTES, r->numbers[8]);
    mayday_record_u64(record, MAYDAY_FIELD_SERVER_PORT, r->numbers[9]);
    mayday_record_u64(record, MAYDAY_FIELD_CONNECTION, r->numbers[10]);
    mayday_record_u64(record, MAYDAY_FIELD_CONNECTION_REQUESTS, r->numbers[11]);
    mayday_record_text(record, EVENT_ID, mayday_slice(b->event_id, sizeof(b->event_id)));
    mayday_record_text(record, TRACE_ID, mayday_slice(b->trace.trace_id, 16));
    mayday_record_text(record, SPAN_ID, mayday_slice(b->trace.span_id, 8));
    mayday_record_text(record, METHOD, r->method);
    mayday_record_text(record, PATH, r->path);
    mayday_record_text(record, HOST, r->host);
    mayday_record_text(record, PROTOCOL, r->protocol);
    mayday_record_text(record, VIRTUAL_HOST, r->virtual_host);
    mayday_record_text(record, LOCATION, r->location);
    mayday_record_text(record, UPSTREAM, r->upstream);
    mayday_record_text(record, RELEASE, r->release);
    mayday_record_text(record, ENVIRONMENT, r->environment);
    mayday_record_attempt(record, &attempt, r->peers[0]);
    mayday_record_attempt(record, &attempt, r->peers[1]);
    mayday_record_pair(record, MAYDAY_FIELD_RESPONSE_HEADER, MAYDAY_FIELD_MAX_RESPONSE_HEADER,
                       MAYDAY_SLICE("Content-Type"), r->content_type);
}

static __attribute__((noinline)) void
put_query(bench_t *b, mayday_record_t *record)
{
    mayday_record_query(record, &b->collect, b->request.query);
}

static __attribute__((noinline)) void
put_line(bench_t *b, mayday_record_t *record)
{
    mayday_record_log_line(record, &b->collect, 3, b->request.numbers[4], b->request.line);
}

static __attribute__((noinline)) void
put_headers(bench_t *b, mayday_record_t *record)
{
    for (size_t i = 0; i < MAYDAY_COUNT(b->request.headers); i++) {
        const header_t *header = &b->request.headers[i];
        mayday_record_header(record, &b->collect, header->name, header->value);
    }
}

/* "lane" is what all the others are wrapped in. */
static const struct {
    const char *name;
    part_pt run;
} parts[] = {
    {"lane", NULL},       {"ids", put_ids},   {"classify", classify},   {"fields", put_fields},
    {"query", put_query}, {"line", put_line}, {"headers", put_headers},
};

static void
write_one(bench_t *b, size_t from, size_t to)
{
    mayday_slot_t *slot = atomic_load(&b->lane.slot);
    mayday_record_t record;

    if (mayday_lane_begin(&b->lane, &record) != MAYDAY_OK) {
        fprintf(stderr, "record_cost: no room in the lane\n");
        exit(1);
    }
    for (size_t i = from; i < to; i++) {
        if (parts[i].run != NULL) {
            parts[i].run(b, &record);
        }
    }
    mayday_lane_commit(&record);
    atomic_store(&slot->head, atomic_load(&slot->tail));
}

/* ---- the setting ---- */

static void *
alloc(void *ctx, size_t size)
{
    (void) ctx;
    return calloc(1, size);
}

static bool
bench_init(bench_t *b, mayday_segment_map_t *map)
{
    char dir[] = "/tmp/mayday-record-XXXXXX";
    const uint8_t settings[MAYDAY_HASH_BYTES] = {0};
    int dirfd = mkdtemp(dir) == NULL ? -1 : open(dir, O_RDONLY | O_DIRECTORY);
    mayday_redact_t *redact = mayday_redact_new(alloc, NULL, false, NULL, 0, NULL, 0, NULL, 0);

    if (dirfd == -1 || redact == NULL ||
        mayday_segment_open(map, dirfd, "", 1, 1 << 20, (uid_t) -1, (gid_t) -1) != MAYDAY_OK) {
        return false;
    }
    mayday_lane_init(&b->lane, map, settings, false);
    mayday_rc_t rc = mayday_lane_claim(&b->lane);
    unlinkat(dirfd, map->name, 0);
    rmdir(dir);
    close(dirfd);
    b->collect = (mayday_collect_t){.has_host = true,
                                    .headers = {true, redact},
                                    .cookies = {false, redact},
                                    .query = {true, redact}};
    mayday_ids_init(&b->ids);
    request_init(&b->request);
    return rc == MAYDAY_OK;
}

int
main(int argc, char **argv)
{
    static bench_t bench;
    mayday_segment_map_t map;
    size_t from = 0, to = MAYDAY_COUNT(parts);

    if (argc != 3 || !bench_init(&bench, &map)) {
        fprintf(stderr, "usage: record_cost PART COUNT\n");
        return 2;
    }
    if (strcmp(argv[1], "whole") != 0) {
        while (from < to && strcmp(argv[1], parts[from].name) != 0) {
            from++;
        }
        if (from == to) {
            fprintf(stderr, "record_cost: no part %s\n", argv[1]);
            return 2;
        }
        to = from + 1;
    }
    for (long left = strtol(argv[2], NULL, 10); left > 0; left--) {
        write_one(&bench, from, to);
    }
    return 0;
}
