/*
 * Writing the fields of a record that take more than a copy (contract:
 * record.h; the reading side is core/event/record_read.c).
 *
 * Runs on the request path of failed requests: no allocation, no system call.
 */
#include "core/capture/record.h"

/* A field that would have less room than this for its text is left out. */
#define USEFUL_LEN_MIN 32u

static inline __attribute__((always_inline)) void
put_pair(mayday_record_t *record, mayday_field_t field, size_t max, unsigned flags,
         mayday_slice_t name, mayday_slice_t value)
{
    uint16_t name_len;

    if (name.len == 0) {
        return;
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
    if (payload != NULL) {
        name_len = (uint16_t) name.len;
        memcpy(payload, &name_len, sizeof(name_len));
        mayday_copy(payload + sizeof(name_len), name.data, name.len);
        mayday_copy(payload + sizeof(name_len) + name.len, value.data, value.len);
    }
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
static inline __attribute__((always_inline)) uint8_t *
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

static __attribute__((noinline)) uint8_t *
put_unclean(mayday_record_t *record, mayday_field_t field, size_t max, size_t fixed,
            const mayday_redact_t *redact, mayday_slice_t text)
{
    return put_redacted(record, field, max, fixed, redact, text, false);
}

/* The same for text that may quote URLs, of which most has nothing to redact. */
static inline __attribute__((always_inline)) uint8_t *
put_text(mayday_record_t *record, mayday_field_t field, size_t max, size_t fixed,
         const mayday_redact_t *redact, mayday_slice_t text)
{
    size_t len = fixed + text.len;

    if (MAYDAY_UNLIKELY(len > max || len > mayday_record_room(record) ||
                        !mayday_redact_is_clean(redact, text))) {
        return put_unclean(record, field, max, fixed, redact, text);
    }
    uint8_t *payload = mayday_record_field(record, field, 0, len);
    if (payload != NULL) {
        mayday_copy(payload + fixed, text.data, text.len);
    }
    return payload;
}

/* "a=1; b=2"; a cookie without "=" is all value, and nobody can tell of what. */
static __attribute__((noinline)) void
put_cookies(mayday_record_t *record, const mayday_redact_t *redact, mayday_slice_t header)
{
    const char *pos = header.data;
    const char *end = header.data + header.len;

    while (pos < end) {
        const char *next = memchr(pos, ';', (size_t) (end - pos));
        mayday_slice_t cookie =
            mayday_slice_trim(mayday_slice(pos, (size_t) ((next ? next : end) - pos)));
        const char *equals = cookie.len > 0 ? memchr(cookie.data, '=', cookie.len) : NULL;

        pos = next != NULL ? next + 1 : end;
        if (equals == NULL) {
            continue;
        }
        mayday_slice_t name =
            mayday_slice_trim(mayday_slice(cookie.data, (size_t) (equals - cookie.data)));
        mayday_slice_t value = mayday_slice_trim(
            mayday_slice(equals + 1, cookie.len - (size_t) (equals + 1 - cookie.data)));
        bool filtered = mayday_redact_is_sensitive(redact, name);
        put_pair(record, MAYDAY_FIELD_COOKIE, MAYDAY_FIELD_MAX_COOKIE,
                 filtered ? MAYDAY_FIELD_FILTERED : 0, name,
                 filtered ? MAYDAY_SLICE(MAYDAY_FILTERED) : value);
    }
}

static __attribute__((noinline)) void
put_url_header(mayday_record_t *record, const mayday_collect_t *collect, mayday_slice_t name,
               mayday_slice_t value)
{
    uint16_t name_len = (uint16_t) name.len;
    const mayday_redact_t *redact = collect->query.on ? collect->query.redact : NULL;
    uint8_t *payload = put_text(record, MAYDAY_FIELD_HEADER, MAYDAY_FIELD_MAX_HEADER,
                                sizeof(name_len) + name.len, redact, value);

    if (payload != NULL) {
        memcpy(payload, &name_len, sizeof(name_len));
        mayday_copy(payload + sizeof(name_len), name.data, name.len);
    }
}

void
mayday_record_odd_header(mayday_record_t *record, const mayday_collect_t *collect,
                         mayday_header_kind_t kind, mayday_slice_t name, mayday_slice_t value)
{
    if (kind == MAYDAY_HEADER_UNKNOWN) {
        kind = mayday_header_judge(collect->headers.redact, name);
    }
    if (kind == MAYDAY_HEADER_COOKIES && collect->cookies.on && name.len == sizeof("cookie") - 1) {
        put_cookies(record, collect->cookies.redact, value);
    } else if (!collect->headers.on) {
        return;
    } else if (kind == MAYDAY_HEADER_SENSITIVE || kind == MAYDAY_HEADER_COOKIES) {
        put_pair(record, MAYDAY_FIELD_HEADER, MAYDAY_FIELD_MAX_HEADER, MAYDAY_FIELD_FILTERED, name,
                 MAYDAY_SLICE(MAYDAY_FILTERED));
    } else if (kind == MAYDAY_HEADER_URL) {
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
        mayday_copy(payload + sizeof(*attempt), peer.data, peer.len);
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
    uint8_t *payload = put_text(record, MAYDAY_FIELD_LOG_LINE, MAYDAY_FIELD_MAX_LOG_LINE,
                                sizeof(info), redact, text);
    if (payload != NULL) {
        memcpy(payload, &info, sizeof(info));
    }
}
