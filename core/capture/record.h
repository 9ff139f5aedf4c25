/*
 * Writing the fields of a record (format: record_format.h, fields: record.def).
 *
 * Runs on the request path: no allocation, no system call. A value that is too
 * long is cut and flagged, a field for which the record has no room is left out
 * and the record flagged; neither is an error. So write what matters first.
 * Absent values (empty slices) are not written.
 *
 * The writers that a failed request calls dozens of times stand here to be
 * inlined; those that redact are in record.c.
 */
#ifndef MAYDAY_RECORD_H
#define MAYDAY_RECORD_H

#include "core/base/bytes.h"
#include "core/capture/header.h"
#include "core/capture/lane.h"

/* Bytes of payload that one more field may have. */
static inline size_t
mayday_record_room(const mayday_record_t *record)
{
    size_t left = (size_t) (record->end - record->pos);

    return left > sizeof(mayday_field_header_t) ? left - sizeof(mayday_field_header_t) : 0;
}

/*
 * Begins a field of len bytes, at most the field's maximum: where its payload
 * goes, or NULL if there is no room. The caller writes all of it.
 */
static inline uint8_t *
mayday_record_field(mayday_record_t *record, mayday_field_t field, unsigned flags, size_t len)
{
    uint8_t *start = record->pos, *payload = start + sizeof(mayday_field_header_t);
    uint16_t payload_len = (uint16_t) len;

    /* The sum stays in the ring: a field is far shorter than what is mapped behind a record. */
    if (MAYDAY_UNLIKELY(payload + len > record->end)) {
        record->flags |= MAYDAY_RECORD_TRUNCATED;
        return NULL;
    }
    record->pos = payload + len;
    start[offsetof(mayday_field_header_t, tag)] = (uint8_t) field;
    start[offsetof(mayday_field_header_t, flags)] = (uint8_t) flags;
    memcpy(start + offsetof(mayday_field_header_t, len), &payload_len, sizeof(payload_len));
    return payload;
}

static inline void
mayday_record_u64(mayday_record_t *record, mayday_field_t field, uint64_t value)
{
    uint8_t *payload = mayday_record_field(record, field, 0, sizeof(value));

    if (payload != NULL) {
        memcpy(payload, &value, sizeof(value));
    }
}

/* What mayday_record_numbers() asks room for, per number. */
#define MAYDAY_NUMBER_SIZE (sizeof(mayday_field_header_t) + sizeof(uint64_t))

/*
 * Room for n numbers, all or none: where the first goes, or NULL. The caller puts
 * all of them there. One look at the bounds where many fields come together.
 */
static inline uint8_t *
mayday_record_numbers(mayday_record_t *record, size_t n)
{
    uint8_t *start = record->pos;

    if (MAYDAY_UNLIKELY(start + n * MAYDAY_NUMBER_SIZE > record->end)) {
        record->flags |= MAYDAY_RECORD_TRUNCATED;
        return NULL;
    }
    record->pos = start + n * MAYDAY_NUMBER_SIZE;
    return start;
}

/* Returns where the next one goes. */
static inline uint8_t *
mayday_record_number(uint8_t *at, mayday_field_t field, uint64_t value)
{
    uint16_t len = sizeof(value);

    at[offsetof(mayday_field_header_t, tag)] = (uint8_t) field;
    at[offsetof(mayday_field_header_t, flags)] = 0;
    memcpy(at + offsetof(mayday_field_header_t, len), &len, sizeof(len));
    memcpy(at + sizeof(mayday_field_header_t), &value, sizeof(value));
    return at + MAYDAY_NUMBER_SIZE;
}

/* TEXT and BYTES fields; max is MAYDAY_FIELD_MAX_…, by the macro below. */
static inline void
mayday_record_bytes(mayday_record_t *record, mayday_field_t field, size_t max, mayday_slice_t value)
{
    unsigned flags = 0;

    if (value.len == 0) {
        return;
    }
    if (MAYDAY_UNLIKELY(value.len > max)) {
        value.len = max;
        flags = MAYDAY_FIELD_CUT;
        record->flags |= MAYDAY_RECORD_TRUNCATED;
    }
    uint8_t *payload = mayday_record_field(record, field, flags, value.len);
    if (payload != NULL) {
        mayday_copy(payload, value.data, value.len);
    }
}
#define mayday_record_text(record, ID, value)                                                      \
    mayday_record_bytes((record), MAYDAY_FIELD_##ID, MAYDAY_FIELD_MAX_##ID, (value))

/*
 * PAIR fields as they are: tags, response headers. An empty value is written, a
 * pair without a name is not. Where both do not fit the value is cut first.
 */
void mayday_record_pair(mayday_record_t *record, mayday_field_t field, size_t max,
                        mayday_slice_t name, mayday_slice_t value);

/*
 * A request header under the place's policy: not collected headers are left
 * out, sensitive ones get MAYDAY_FILTERED for a value, URL-valued ones (Referer,
 * X-Original-URL, …) have the values of their query filtered. Cookie is split
 * into COOKIE fields where cookies are collected and filtered whole elsewhere.
 */
static inline void mayday_record_header(mayday_record_t *record, const mayday_collect_t *collect,
                                        mayday_slice_t name, mayday_slice_t value);

/* The query without its "?": nothing where it is not collected. */
void mayday_record_query(mayday_record_t *record, const mayday_collect_t *collect,
                         mayday_slice_t query);

/* peer may be empty: which one it was is not known. */
void mayday_record_attempt(mayday_record_t *record, const mayday_record_attempt_t *attempt,
                           mayday_slice_t peer);

/*
 * An error-log line. The values of queries in URLs that it quotes are filtered
 * by the place's policy. The shim has taken off the server's own prefix and
 * the repetition of the request at the end.
 */
void mayday_record_log_line(mayday_record_t *record, const mayday_collect_t *collect,
                            uint32_t level, uint64_t time_us, mayday_slice_t text);

/* Any header; kind as far as it is known. */
void mayday_record_odd_header(mayday_record_t *record, const mayday_collect_t *collect,
                              mayday_header_kind_t kind, mayday_slice_t name, mayday_slice_t value);

/* Whether the value under a name of this kind is not even looked at. */
static inline bool
mayday_header_is_filtered(const mayday_collect_t *collect, mayday_header_kind_t kind)
{
    return kind == MAYDAY_HEADER_SENSITIVE ||
           (kind == MAYDAY_HEADER_COOKIES && !collect->cookies.on);
}

/*
 * A header that is copied: of kind MAYDAY_HEADER_PLAIN with its value and no
 * flags, or a filtered one with MAYDAY_FILTERED and MAYDAY_FIELD_FILTERED.
 */
static inline void
mayday_record_copied_header(mayday_record_t *record, const mayday_collect_t *collect,
                            mayday_header_kind_t kind, unsigned flags, mayday_slice_t name,
                            mayday_slice_t value)
{
    uint16_t name_len = (uint16_t) name.len;
    size_t len = sizeof(name_len) + name.len + value.len;

    if (MAYDAY_UNLIKELY(!collect->headers.on || len > MAYDAY_FIELD_MAX_HEADER)) {
        mayday_record_odd_header(record, collect, kind, name, value);
        return;
    }
    uint8_t *payload = mayday_record_field(record, MAYDAY_FIELD_HEADER, flags, len);
    if (payload != NULL) {
        memcpy(payload, &name_len, sizeof(name_len));
        mayday_copy(payload + sizeof(name_len), name.data, name.len);
        mayday_copy(payload + sizeof(name_len) + name.len, value.data, value.len);
    }
}

static inline void
mayday_record_header(mayday_record_t *record, const mayday_collect_t *collect, mayday_slice_t name,
                     mayday_slice_t value)
{
    mayday_header_kind_t kind = mayday_header_usual(collect->headers.redact, name);
    unsigned flags = 0;

    if (MAYDAY_UNLIKELY(kind != MAYDAY_HEADER_PLAIN)) {
        if (!mayday_header_is_filtered(collect, kind)) {
            mayday_record_odd_header(record, collect, kind, name, value);
            return;
        }
        value = MAYDAY_SLICE(MAYDAY_FILTERED);
        flags = MAYDAY_FIELD_FILTERED;
    }
    mayday_record_copied_header(record, collect, kind, flags, name, value);
}

#endif
