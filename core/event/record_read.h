/*
 * A record, decoded: the reading side of core/capture/record.h.
 *
 * Every byte of a record is hostile: lengths are checked, unknown tags skipped,
 * repeats bounded. Decoding copies nothing; the slices point into the record,
 * which must outlive the view. Bytes of text are as they came; whoever prints
 * them makes them safe (UTF-8 in events, escapes on terminals).
 */
#ifndef MAYDAY_RECORD_READ_H
#define MAYDAY_RECORD_READ_H

#include "core/capture/kind_format.h"
#include "core/capture/record_format.h"

#define MAYDAY_VIEW_HEADERS_MAX 128
#define MAYDAY_VIEW_COOKIES_MAX 64
#define MAYDAY_VIEW_RESPONSE_HEADERS_MAX 16
#define MAYDAY_VIEW_TAGS_MAX 50
#define MAYDAY_VIEW_ATTEMPTS_MAX 32
#define MAYDAY_VIEW_LOG_LINES_MAX 32

typedef struct {
    mayday_slice_t name;
    mayday_slice_t value;
} mayday_pair_t;

typedef struct {
    mayday_record_attempt_t timing;
    mayday_slice_t peer;
} mayday_attempt_view_t;

typedef struct {
    mayday_record_log_line_t info;
    mayday_slice_t text;
} mayday_log_line_view_t;

typedef struct {
    uint64_t sequence;
    bool truncated;
    uint64_t present;        /* mask by tag, 1 << tag                 */
    uint64_t u64[64];        /* U64 fields by tag                     */
    mayday_slice_t text[64]; /* TEXT and BYTES fields by tag          */
    uint8_t flags[64];       /* mayday_field_flag_t by tag            */
    mayday_pair_t headers[MAYDAY_VIEW_HEADERS_MAX];
    size_t header_count;
    mayday_pair_t cookies[MAYDAY_VIEW_COOKIES_MAX];
    size_t cookie_count;
    mayday_pair_t response_headers[MAYDAY_VIEW_RESPONSE_HEADERS_MAX];
    size_t response_header_count;
    mayday_pair_t tags[MAYDAY_VIEW_TAGS_MAX];
    size_t tag_count;
    mayday_attempt_view_t attempts[MAYDAY_VIEW_ATTEMPTS_MAX];
    size_t attempt_count;
    mayday_log_line_view_t log_lines[MAYDAY_VIEW_LOG_LINES_MAX];
    size_t log_line_count;
} mayday_record_view_t;

#define mayday_view_u64(view, ID) ((view)->u64[MAYDAY_FIELD_##ID])
#define mayday_view_text(view, ID) ((view)->text[MAYDAY_FIELD_##ID])
#define mayday_view_has(view, ID) (((view)->present >> MAYDAY_FIELD_##ID & 1) != 0)

/*
 * Decodes the record that begins at bytes, of which len are readable. On
 * MAYDAY_OK *size is the record's length. MAYDAY_INVALID: not a record; the
 * view is unspecified. No kind, or a kind or status out of range, makes it
 * invalid; a single field that is odd, too long, or repeated where it must not
 * is skipped. Fields that are absent read as 0 or empty.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_record_read(mayday_record_view_t *view, const void *bytes,
                                                 size_t len, uint32_t *size);

#endif
