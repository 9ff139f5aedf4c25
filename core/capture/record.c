/*
 * Writing the fields of a record that take more than a copy (contract:
 * record.h; the reading side is core/event/record_read.c).
 *
 * Runs on the request path of failed requests: no allocation, no system call.
 */
#include "core/capture/record.h"

/* A field that would have less room than this for its text is left out. */
#define USEFUL_LEN_MIN 32u

static inline uint8_t *
put_pair(mayday_record_t *record, mayday_field_t field, size_t max, unsigned flags,
         mayday_slice_t name, mayday_slice_t value)
{
    uint16_t name_len;

    if (name.len == 0) {
        return NULL;
    }
    if (MAYDAY_UNLIKELY(sizeof(name_len) + name.len + value.len > max)) {
        size_t left = max - sizeof(name_len);
        name.len = name.len < left ? name.len : left;
        value.len = left - name.len;
        flags |= MAYDAY_FIELD_CUT;
        record->flags |= MAYDAY_RECORD_TRUNCATED;
    }
    uint8_t *payload =
        mayday_record_field(record, field, flags, sizeof(name_len) + name.len + value.len);
    if (payload == NULL) {
        return NULL;
    }
    name_len = (uint16_t) name.len;
    memcpy(payload, &name_len, sizeof(name_len));
    memcpy(payload + sizeof(name_len), name.data, name.len);
    if (value.len > 0) {
        memcpy(payload + sizeof(name_len) + name.len, value.data, value.len);
    }
    return payload;
}

void
mayday_record_pair(mayday_record_t *record, mayday_field_t field, size_t max, mayday_slice_t name,
                   mayday_slice_t value)
{
    put_pair(record, field, max, 0, name, value);
}

/*
 * Text that is redacted on its way in: `fixed` bytes of payload come before it,
 * which the caller fills. The field's length is known only afterwards. NULL: no
 * room.
 */
static uint8_t *
put_redacted(mayday_record_t *record, mayday_field_t field, size_t max, size_t fixed,
             const mayday_redact_t *redact, mayday_slice_t text, bool is_query)
{
    size_t room = mayday_record_room(record);
    unsigned flags = 0;

    if (room > max) {
        room = max;
    }
    if (room < fixed + USEFUL_LEN_MIN) {
        record->flags |= MAYDAY_RECORD_TRUNCATED;
        return NULL;
    }
    uint8_t *start = record->pos;
    uint8_t *payload = start + sizeof(mayday_field_header_t);
    char *out = (char *) payload + fixed;
    size_t len = is_query ? mayday_redact_query(redact, out, room - fixed, text, &flags)
                          : mayday_redact_text(redact, out, room - fixed, text, &flags);
    if ((flags & MAYDAY_FIELD_CUT) != 0) {
        record->flags |= MAYDAY_RECORD_TRUNCATED;
    }
    return mayday_record_field(record, field, flags, fixed + len);
}

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
 * any of these, and a linear search for each header cost more than the rest of
 * the record.
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

static mayday_slice_t
trim(mayday_slice_t s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* "a=1; b=2"; a cookie without "=" is all value, and nobody can tell of what. */
static void
put_cookies(mayday_record_t *record, const mayday_redact_t *redact, mayday_slice_t header)
{
    const char *pos = header.data;
    const char *end = header.data + header.len;

    while (pos < end) {
        const char *next = memchr(pos, ';', (size_t) (end - pos));
        mayday_slice_t cookie = trim(mayday_slice(pos, (size_t) ((next ? next : end) - pos)));
        const char *equals = cookie.len > 0 ? memchr(cookie.data, '=', cookie.len) : NULL;

        pos = next != NULL ? next + 1 : end;
        if (equals == NULL) {
            continue;
        }
        mayday_slice_t name = trim(mayday_slice(cookie.data, (size_t) (equals - cookie.data)));
        mayday_slice_t value =
            trim(mayday_slice(equals + 1, cookie.len - (size_t) (equals + 1 - cookie.data)));
        bool filtered = mayday_redact_is_sensitive(redact, name);
        put_pair(record, MAYDAY_FIELD_COOKIE, MAYDAY_FIELD_MAX_COOKIE,
                 filtered ? MAYDAY_FIELD_FILTERED : 0, name,
                 filtered ? MAYDAY_SLICE(MAYDAY_FILTERED) : value);
    }
}

static void
put_url_header(mayday_record_t *record, const mayday_collect_t *collect, mayday_slice_t name,
               mayday_slice_t value)
{
    uint16_t name_len = (uint16_t) name.len;
    const mayday_redact_t *redact = collect->query.on ? collect->query.redact : NULL;
    uint8_t *payload = put_redacted(record, MAYDAY_FIELD_HEADER, MAYDAY_FIELD_MAX_HEADER,
                                    sizeof(name_len) + name.len, redact, value, false);

    if (payload != NULL) {
        memcpy(payload, &name_len, sizeof(name_len));
        memcpy(payload + sizeof(name_len), name.data, name.len);
    }
}

void
mayday_record_header(mayday_record_t *record, const mayday_collect_t *collect, mayday_slice_t name,
                     mayday_slice_t value)
{
    bool has_cookies = is_cookie_valued(name);

    if (has_cookies && name.len == sizeof("cookie") - 1 && collect->cookies.on) {
        put_cookies(record, collect->cookies.redact, value);
    } else if (!collect->headers.on) {
        return;
    } else if (has_cookies || mayday_redact_is_sensitive(collect->headers.redact, name)) {
        put_pair(record, MAYDAY_FIELD_HEADER, MAYDAY_FIELD_MAX_HEADER, MAYDAY_FIELD_FILTERED, name,
                 MAYDAY_SLICE(MAYDAY_FILTERED));
    } else if (is_url_valued(name)) {
        put_url_header(record, collect, name, value);
    } else {
        put_pair(record, MAYDAY_FIELD_HEADER, MAYDAY_FIELD_MAX_HEADER, 0, name, value);
    }
}

void
mayday_record_query(mayday_record_t *record, const mayday_collect_t *collect, mayday_slice_t query)
{
    if (query.len > 0 && collect->query.on) {
        put_redacted(record, MAYDAY_FIELD_QUERY, MAYDAY_FIELD_MAX_QUERY, 0, collect->query.redact,
                     query, true);
    }
}

void
mayday_record_attempt(mayday_record_t *record, const mayday_record_attempt_t *attempt,
                      mayday_slice_t peer)
{
    size_t peer_max = MAYDAY_FIELD_MAX_ATTEMPT - sizeof(*attempt);
    unsigned flags = 0;

    if (peer.len > peer_max) {
        peer.len = peer_max;
        flags = MAYDAY_FIELD_CUT;
        record->flags |= MAYDAY_RECORD_TRUNCATED;
    }
    uint8_t *payload =
        mayday_record_field(record, MAYDAY_FIELD_ATTEMPT, flags, sizeof(*attempt) + peer.len);
    if (payload != NULL) {
        memcpy(payload, attempt, sizeof(*attempt));
        if (peer.len > 0) {
            memcpy(payload + sizeof(*attempt), peer.data, peer.len);
        }
    }
}

void
mayday_record_log_line(mayday_record_t *record, const mayday_collect_t *collect, uint32_t level,
                       uint64_t time_us, mayday_slice_t text)
{
    mayday_record_log_line_t info = {level, 0, time_us};
    const mayday_redact_t *redact = collect->query.on ? collect->query.redact : NULL;

    if (text.len == 0) {
        return;
    }
    uint8_t *payload = put_redacted(record, MAYDAY_FIELD_LOG_LINE, MAYDAY_FIELD_MAX_LOG_LINE,
                                    sizeof(info), redact, text, false);
    if (payload != NULL) {
        memcpy(payload, &info, sizeof(info));
    }
}
