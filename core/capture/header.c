/*
 * What the name of a request header says of its value (contract: header.h).
 *
 * Nearly all headers of a request are the same few, so a policy's verdict on
 * these is found once, when the configuration is read. All others are judged
 * on the request path; nothing allocates there.
 */
#include "core/capture/header.h"

/* The most usual first: of two that want the same slot it gets it. */
static const char *const usual_names[] = {
    "host",
    "user-agent",
    "accept",
    "accept-language",
    "accept-encoding",
    "connection",
    "cache-control",
    "cookie",
    "referer",
    "content-type",
    "content-length",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-real-ip",
    "x-request-id",
    "upgrade-insecure-requests",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-dest",
    "sec-fetch-user",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "priority",
    "origin",
    "pragma",
    "if-none-match",
    "if-modified-since",
    "range",
    "authorization",
    "x-requested-with",
    "traceparent",
    "tracestate",
    "sentry-trace",
    "baggage",
    "x-forwarded-port",
    "x-amzn-trace-id",
    "cf-ray",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-visitor",
    "cdn-loop",
    "x-forwarded-server",
    "transfer-encoding",
};

/*
 * Whether name is `lower`, which has as many bytes, all of them small letters,
 * digits or "-". Other bytes than these may pass for one of them; no header has
 * any, and all that would follow is that a value is looked at as a URL.
 */
static inline bool
ieq_lower(mayday_slice_t name, const char *lower)
{
    for (size_t i = 0; i < name.len; i++) {
        if ((name.data[i] | 0x20) != lower[i]) {
            return false;
        }
    }
    return true;
}

/*
 * Headers whose value is a URL or a path with a query, set by browsers or by
 * proxies on the way. By length, because most headers have another length than
 * any of these.
 */
static bool
is_url_valued(mayday_slice_t name)
{
#define IS(lower) ieq_lower(name, lower)
    switch (name.len) {
    case 4:
        return IS("link");
    case 6:
        return IS("origin");
    case 7:
        return IS("referer") || IS("refresh");
    case 8:
        return IS("location") || IS("referrer");
    case 9:
        return IS("x-referer") || IS("ping-from");
    case 10:
        return IS("x-referrer");
    case 11:
        return IS("destination");
    case 13:
        return IS("x-rewrite-url") || IS("x-request-url") || IS("x-request-uri") ||
               IS("x-current-url");
    case 14:
        return IS("x-original-url") || IS("x-original-uri") || IS("hx-current-url") ||
               IS("x-http-referer");
    case 15:
        return IS("x-forwarded-uri") || IS("x-forwarded-url") || IS("x-original-path");
    case 16:
        return IS("content-location") || IS("x-forwarded-path") || IS("x-accel-redirect");
    case 19:
        return IS("turbolinks-referrer");
    case 21:
        return IS("x-envoy-original-path");
    case 23:
        return IS("x-auth-request-redirect");
    default:
        return false;
    }
#undef IS
}

/* Cookie, Cookie2, Set-Cookie, X-Original-Cookie: whatever carries whole cookies. */
static inline bool
is_cookie_valued(mayday_slice_t name)
{
    const size_t len = sizeof("cookie") - 1;
    char last;

    if (name.len < len) {
        return false;
    }
    last = name.data[name.len - 1];
    if (last == '2') {
        name.len--;
    } else if ((last | 0x20) != 'e') {
        return false;
    }
    return name.len >= len && ieq_lower(mayday_slice(name.data + name.len - len, len), "cookie");
}

mayday_header_kind_t
mayday_header_judge(const mayday_redact_t *redact, mayday_slice_t name)
{
    if (is_cookie_valued(name)) {
        return MAYDAY_HEADER_COOKIES;
    }
    if (mayday_redact_is_sensitive(redact, name)) {
        return MAYDAY_HEADER_SENSITIVE;
    }
    return is_url_valued(name) ? MAYDAY_HEADER_URL : MAYDAY_HEADER_PLAIN;
}

void
mayday_header_learn(mayday_redact_t *redact)
{
    for (size_t i = 0; i < MAYDAY_COUNT(usual_names); i++) {
        mayday_slice_t name = mayday_slice_str(usual_names[i]);
        mayday_usual_header_t *slot = &redact->usual[mayday_header_slot(name.data, name.len)];

        if (slot->name == NULL) {
            *slot = (mayday_usual_header_t){name.data, (uint8_t) name.len,
                                            (uint8_t) mayday_header_judge(redact, name)};
        }
    }
}
