/*
 * Records for the tests of events, as the decoder would give them: one for each
 * kind, with the headers, attempts and log lines of a real failure.
 */
#ifndef MAYDAY_EVENT_FIXTURE_H
#define MAYDAY_EVENT_FIXTURE_H

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/event/event.h"

#define FIXTURE_TIME_US 1795352400123456u /* 2026-11-22T13:00:00.123456Z */

static const mayday_settings_t fixture_settings = {
    .server = "nginx",
    .server_version = "nginx/1.22.1",
    .server_name = "web-1",
    .environment = "production",
    .release = "shop@1.4.2",
};

static inline void
fixture_text(mayday_record_view_t *view, mayday_field_t field, mayday_slice_t text)
{
    view->text[field] = text;
    view->present |= (uint64_t) 1 << field;
}

static inline void
fixture_u64(mayday_record_view_t *view, mayday_field_t field, uint64_t number)
{
    view->u64[field] = number;
    view->present |= (uint64_t) 1 << field;
}

#define view_set_text(view, ID, literal)                                                           \
    fixture_text((view), MAYDAY_FIELD_##ID, mayday_slice((literal), sizeof(literal) - 1))
#define view_set_u64(view, ID, number) fixture_u64((view), MAYDAY_FIELD_##ID, (number))

static inline void
view_add_header(mayday_record_view_t *view, const char *name, const char *value)
{
    view->headers[view->header_count++] =
        (mayday_pair_t){mayday_slice_str(name), mayday_slice_str(value)};
}

static inline void
view_add_tag(mayday_record_view_t *view, const char *name, const char *value)
{
    view->tags[view->tag_count++] =
        (mayday_pair_t){mayday_slice_str(name), mayday_slice_str(value)};
}

static inline void
view_add_attempt(mayday_record_view_t *view, const char *peer, int32_t status, int32_t connect_ms,
                 int32_t header_ms, int32_t response_ms)
{
    mayday_attempt_view_t *attempt = &view->attempts[view->attempt_count++];

    attempt->peer = mayday_slice_str(peer);
    attempt->timing =
        (mayday_record_attempt_t){status, connect_ms, header_ms, response_ms, status > 0 ? 512 : 0};
}

static inline void
view_add_line(mayday_record_view_t *view, uint32_t level, const char *text)
{
    mayday_log_line_view_t *line = &view->log_lines[view->log_line_count++];

    line->info = (mayday_record_log_line_t){level, 0, FIXTURE_TIME_US - 500};
    line->text = mayday_slice_str(text);
}

/* A request that failed, whatever way. */
static inline void
fixture_request(mayday_record_view_t *view, mayday_kind_t kind, unsigned status)
{
    memset(view, 0, sizeof(*view));
    view_set_u64(view, TIME_US, FIXTURE_TIME_US);
    view_set_u64(view, KIND, kind);
    view_set_u64(view, STATUS, status);
    view_set_u64(view, DURATION_US, 1234567);
    view_set_text(view, EVENT_ID,
                  "\xfc\x6d\x8c\x0c\x43\xfc\x46\x30\xad\x85\x0e\xe5\x18\xf1\xb9\xd0");
    view_set_text(view, METHOD, "GET");
    view_set_text(view, SCHEME, "https");
    view_set_text(view, HOST, "shop.example.com");
    view_set_text(view, PATH, "/orders/1234/items");
    view_set_text(view, QUERY, "page=2&token=[Filtered]&q=caf%C3%A9+noir");
    view_set_text(view, PROTOCOL, "HTTP/2.0");
    view_set_text(view, VIRTUAL_HOST, "shop.example.com");
    view_set_u64(view, SERVER_PORT, 443);
    view_set_text(view, LOCATION, "/orders/");
    view_set_text(view, TLS_PROTOCOL, "TLSv1.3");
    view_set_text(view, TLS_CIPHER, "TLS_AES_256_GCM_SHA384");
    view_set_u64(view, REQUEST_BYTES, 842);
    view_set_u64(view, RESPONSE_BYTES, 512);
    view_set_u64(view, RESPONSE_BODY_BYTES, 157);
    view_set_text(view, TRACE_ID,
                  "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c");
    view_set_text(view, SPAN_ID, "\xb7\xad\x6b\x71\x69\x20\x33\x31");
    view_set_text(view, PARENT_SPAN_ID, "\x00\xf0\x67\xaa\x0b\xa9\x02\xb7");
    view_set_u64(view, CONNECTION, 4711);
    view_set_u64(view, CONNECTION_REQUESTS, 3);
    view_add_header(view, "Host", "shop.example.com");
    view_add_header(view, "User-Agent",
                    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0");
    view_add_header(view, "Accept", "text/html,application/xhtml+xml,application/xml;q=0.9");
    view_add_header(view, "Accept-Language", "de,en-US;q=0.7,en;q=0.3");
    view_add_header(view, "Accept-Encoding", "gzip, deflate, br");
    view_add_header(view, "Referer", "https://shop.example.com/cart?step=2&token=[Filtered]");
    view_add_header(view, "Authorization", "[Filtered]");
    view_add_header(view, "Cookie", "[Filtered]");
    view_add_header(view, "X-Request-Id", "0af7651916cd43dd8448eb211c80319c");
    view_add_header(view, "X-Tenant", "acme");
    view->response_headers[view->response_header_count++] =
        (mayday_pair_t){MAYDAY_SLICE("Content-Type"), MAYDAY_SLICE("text/html")};
    view_add_tag(view, "tenant", "acme");
}

/* A whole record of that kind. */
static inline void
fixture_view(mayday_record_view_t *view, mayday_kind_t kind)
{
    static const unsigned statuses[MAYDAY_KIND_MAX] = {
        [MAYDAY_KIND_UPSTREAM_REFUSED] = 502,
        [MAYDAY_KIND_UPSTREAM_UNREACHABLE] = 502,
        [MAYDAY_KIND_UPSTREAM_CONNECT_TIMEOUT] = 504,
        [MAYDAY_KIND_UPSTREAM_TLS] = 502,
        [MAYDAY_KIND_UPSTREAM_DNS] = 502,
        [MAYDAY_KIND_UPSTREAM_UNAVAILABLE] = 502,
        [MAYDAY_KIND_UPSTREAM_SEND_TIMEOUT] = 504,
        [MAYDAY_KIND_UPSTREAM_READ_TIMEOUT] = 504,
        [MAYDAY_KIND_UPSTREAM_CLOSED] = 502,
        [MAYDAY_KIND_UPSTREAM_TRUNCATED] = 200,
        [MAYDAY_KIND_UPSTREAM_INVALID] = 502,
        [MAYDAY_KIND_UPSTREAM_RESPONSE] = 503,
        [MAYDAY_KIND_LIMITED] = 503,
        [MAYDAY_KIND_SERVER_INTERNAL] = 500,
        [MAYDAY_KIND_RETRIED] = 200,
        [MAYDAY_KIND_CLIENT_CLOSED] = 499,
    };

    fixture_request(view, kind, statuses[kind]);
    if (kind == MAYDAY_KIND_LIMITED || kind == MAYDAY_KIND_SERVER_INTERNAL) {
        return;
    }
    view_set_text(view, UPSTREAM, "shop_backend");
    if (kind == MAYDAY_KIND_UPSTREAM_DNS) {
        return;
    }
    if (kind == MAYDAY_KIND_UPSTREAM_UNAVAILABLE) {
        view_add_attempt(view, "shop_backend", 0, -1, -1, 0);
        view_add_line(view, 3, "no live upstreams while connecting to upstream");
        return;
    }
    if (kind == MAYDAY_KIND_UPSTREAM_RESPONSE) {
        view_add_attempt(view, "10.0.0.4:8080", 503, 1, 20, 21);
        return;
    }
    if (kind == MAYDAY_KIND_UPSTREAM_REFUSED || kind == MAYDAY_KIND_RETRIED) {
        view_set_u64(view, ERRNO, 111);
    } else if (kind == MAYDAY_KIND_UPSTREAM_UNREACHABLE) {
        view_set_u64(view, ERRNO, 113);
    }
    view_add_attempt(view, "10.0.0.4:8080", 0, -1, -1, 0);
    if (kind == MAYDAY_KIND_RETRIED) {
        view_add_attempt(view, "10.0.0.5:8080", 200, 1, 12, 14);
    } else {
        view_add_attempt(view, "10.0.0.5:8080", 0, -1, -1, 3);
    }
    view_add_line(view, 3,
                  kind == MAYDAY_KIND_UPSTREAM_READ_TIMEOUT
                      ? "upstream timed out (110: Connection timed out) while reading response "
                        "header from upstream"
                      : "connect() failed (111: Connection refused) while connecting to upstream");
}

#endif
