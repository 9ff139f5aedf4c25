/*
 * A record, decoded (contract: record_read.h, format:
 * core/capture/record_format.h; the writing side is core/capture/record.c).
 *
 * Runs in the agent and in the command; allocates nothing. Every byte of a
 * record is hostile.
 */
#include "core/event/record_read.h"

#define STATUS_MAX 999

typedef enum {
    TYPE_UNKNOWN = 0,
    TYPE_U64,
    TYPE_TEXT,
    TYPE_BYTES,
    TYPE_PAIR,
    TYPE_ATTEMPT,
    TYPE_LOG_LINE
} field_type_t;

typedef struct {
    uint8_t type; /* field_type_t */
    uint16_t max;
} field_rule_t;

#define TAG_COUNT 64

static const field_rule_t rules[TAG_COUNT] = {
#define MAYDAY_FIELD(tag, id, name, type, max, meaning) [tag] = {TYPE_##type, max},
#include "core/capture/record.def"
#undef MAYDAY_FIELD
};

#define MAYDAY_FIELD(tag, id, name, type, max, meaning)                                            \
    _Static_assert((tag) > 0 && (tag) < TAG_COUNT, "a tag is a bit of the view's mask");
#include "core/capture/record.def"
#undef MAYDAY_FIELD

static void
read_pair(mayday_pair_t *list, size_t *count, size_t max, mayday_slice_t payload, bool *truncated)
{
    uint16_t name_len;

    if (payload.len < sizeof(name_len)) {
        return;
    }
    memcpy(&name_len, payload.data, sizeof(name_len));
    if (name_len == 0 || name_len > payload.len - sizeof(name_len)) {
        return;
    }
    if (*count == max) {
        *truncated = true;
        return;
    }
    const char *name = payload.data + sizeof(name_len);
    list[*count].name = mayday_slice(name, name_len);
    list[*count].value = mayday_slice(name + name_len, payload.len - sizeof(name_len) - name_len);
    (*count)++;
}

static void
read_listed_pair(mayday_record_view_t *view, unsigned tag, mayday_slice_t payload)
{
    switch (tag) {
    case MAYDAY_FIELD_HEADER:
        read_pair(view->headers, &view->header_count, MAYDAY_VIEW_HEADERS_MAX, payload,
                  &view->truncated);
        break;
    case MAYDAY_FIELD_COOKIE:
        read_pair(view->cookies, &view->cookie_count, MAYDAY_VIEW_COOKIES_MAX, payload,
                  &view->truncated);
        break;
    case MAYDAY_FIELD_RESPONSE_HEADER:
        read_pair(view->response_headers, &view->response_header_count,
                  MAYDAY_VIEW_RESPONSE_HEADERS_MAX, payload, &view->truncated);
        break;
    case MAYDAY_FIELD_TAG:
        read_pair(view->tags, &view->tag_count, MAYDAY_VIEW_TAGS_MAX, payload, &view->truncated);
        break;
    default:
        break;
    }
}

static void
read_attempt(mayday_record_view_t *view, mayday_slice_t payload)
{
    if (payload.len < sizeof(mayday_record_attempt_t)) {
        return;
    }
    if (view->attempt_count == MAYDAY_VIEW_ATTEMPTS_MAX) {
        view->truncated = true;
        return;
    }
    mayday_attempt_view_t *attempt = &view->attempts[view->attempt_count++];
    memcpy(&attempt->timing, payload.data, sizeof(attempt->timing));
    attempt->peer =
        mayday_slice(payload.data + sizeof(attempt->timing), payload.len - sizeof(attempt->timing));
}

static void
read_log_line(mayday_record_view_t *view, mayday_slice_t payload)
{
    if (payload.len < sizeof(mayday_record_log_line_t)) {
        return;
    }
    if (view->log_line_count == MAYDAY_VIEW_LOG_LINES_MAX) {
        view->truncated = true;
        return;
    }
    mayday_log_line_view_t *line = &view->log_lines[view->log_line_count++];
    memcpy(&line->info, payload.data, sizeof(line->info));
    line->text = mayday_slice(payload.data + sizeof(line->info), payload.len - sizeof(line->info));
}

static void
read_single(mayday_record_view_t *view, unsigned tag, uint8_t flags, mayday_slice_t payload)
{
    const field_rule_t *rule = &rules[tag];

    if ((view->present >> tag & 1) != 0 || (rule->type != TYPE_TEXT && payload.len != rule->max)) {
        return;
    }
    if (rule->type == TYPE_U64) {
        memcpy(&view->u64[tag], payload.data, sizeof(view->u64[tag]));
    } else {
        view->text[tag] = payload;
    }
    view->flags[tag] = flags;
    view->present |= UINT64_C(1) << tag;
}

static void
read_field(mayday_record_view_t *view, unsigned tag, uint8_t flags, mayday_slice_t payload)
{
    if (tag >= TAG_COUNT || payload.len > rules[tag].max) {
        return;
    }
    switch ((field_type_t) rules[tag].type) {
    case TYPE_U64:
    case TYPE_TEXT:
    case TYPE_BYTES:
        read_single(view, tag, flags, payload);
        break;
    case TYPE_PAIR:
        read_listed_pair(view, tag, payload);
        break;
    case TYPE_ATTEMPT:
        read_attempt(view, payload);
        break;
    case TYPE_LOG_LINE:
        read_log_line(view, payload);
        break;
    case TYPE_UNKNOWN:
        break;
    }
}

/* A server leaves out what stands in the record already (core/capture/record.def). */
static void
complete(mayday_record_view_t *view)
{
    mayday_slice_t id = mayday_view_text(view, EVENT_ID), host;

    for (size_t i = 0; i < view->header_count && !mayday_view_has(view, HOST); i++) {
        if (mayday_slice_ieq(view->headers[i].name, MAYDAY_SLICE("host"))) {
            host = view->headers[i].value;
            host.len = host.len < MAYDAY_FIELD_MAX_HOST ? host.len : MAYDAY_FIELD_MAX_HOST;
            read_field(view, MAYDAY_FIELD_HOST, 0, host);
        }
    }
    if (!mayday_view_has(view, TRACE_ID) && id.len == MAYDAY_FIELD_MAX_TRACE_ID) {
        read_field(view, MAYDAY_FIELD_TRACE_ID, 0, id);
        read_field(view, MAYDAY_FIELD_SPAN_ID, 0, mayday_slice(id.data, MAYDAY_FIELD_MAX_SPAN_ID));
    }
}

/* All but the lists' entries, of which only the first `count` are ever read. */
static void
clear(mayday_record_view_t *view)
{
    view->truncated = false;
    view->present = 0;
    memset(view->u64, 0, sizeof(view->u64));
    memset(view->text, 0, sizeof(view->text));
    memset(view->flags, 0, sizeof(view->flags));
    view->header_count = 0;
    view->cookie_count = 0;
    view->response_header_count = 0;
    view->tag_count = 0;
    view->attempt_count = 0;
    view->log_line_count = 0;
}

mayday_rc_t
mayday_record_read(mayday_record_view_t *view, const void *bytes, size_t len, uint32_t *size)
{
    mayday_record_header_t header;
    mayday_field_header_t field;

    if (len < sizeof(header)) {
        return MAYDAY_INVALID;
    }
    memcpy(&header, bytes, sizeof(header));
    if (header.magic != MAYDAY_RECORD_MAGIC || header.size < sizeof(header) ||
        header.size > MAYDAY_RECORD_SIZE_MAX || header.size % 8 != 0 || header.size > len) {
        return MAYDAY_INVALID;
    }
    clear(view);
    view->sequence = header.sequence;
    view->truncated = (header.flags & MAYDAY_RECORD_TRUNCATED) != 0;

    const char *pos = (const char *) bytes + sizeof(header);
    const char *end = (const char *) bytes + header.size;
    while ((size_t) (end - pos) >= sizeof(field)) {
        memcpy(&field, pos, sizeof(field));
        pos += sizeof(field);
        if (field.tag == MAYDAY_FIELD_END) {
            break;
        }
        if (field.len > end - pos) {
            return MAYDAY_INVALID;
        }
        read_field(view, field.tag, field.flags, mayday_slice(pos, field.len));
        pos += field.len;
    }
    if (!mayday_view_has(view, KIND) || mayday_view_u64(view, KIND) >= MAYDAY_KIND_MAX ||
        mayday_view_u64(view, STATUS) > STATUS_MAX) {
        return MAYDAY_INVALID;
    }
    complete(view);
    *size = header.size;
    return MAYDAY_OK;
}
