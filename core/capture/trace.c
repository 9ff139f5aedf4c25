/*
 * Trace context in and out (contract and formats: trace.h).
 *
 * Runs on the request path: no allocation, no system call. The headers are the
 * client's, so nothing in them is trusted: what is not wholly valid counts as
 * absent, and what is passed on is what was parsed.
 */
#include "core/capture/trace.h"

#define TRACE_HEX 32u
#define SPAN_HEX 16u

/* Takes the next member off a comma-separated list; false: no more. */
static bool
next_member(mayday_slice_t *list, mayday_slice_t *member)
{
    if (list->len == 0) {
        return false;
    }
    const char *comma = memchr(list->data, ',', list->len);
    size_t len = comma == NULL ? list->len : (size_t) (comma - list->data);

    *member = mayday_slice_trim(mayday_slice(list->data, len));
    len += comma != NULL;
    *list = mayday_slice(list->data + len, list->len - len);
    return true;
}

static mayday_slice_t
first_member(mayday_slice_t list)
{
    mayday_slice_t member = {NULL, 0};

    while (next_member(&list, &member) && member.len == 0) {
    }
    return member;
}

/* An id in lower-case hex that is not all zeroes, both formats agree on that. */
static bool
parse_id(uint8_t *out, size_t bytes, const char *hex)
{
    uint8_t any = 0;

    for (size_t i = 0; i < 2 * bytes; i++) {
        if (hex[i] >= 'A' && hex[i] <= 'F') {
            return false;
        }
    }
    if (mayday_unhex(out, bytes, mayday_slice(hex, 2 * bytes)) != MAYDAY_OK) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        any |= out[i];
    }
    return any != 0;
}

/* TRACE-SPAN, TRACE-SPAN-0, TRACE-SPAN-1 */
static bool
parse_sentry_trace(mayday_trace_t *trace, mayday_slice_t s)
{
    size_t base_len = TRACE_HEX + 1 + SPAN_HEX;

    if ((s.len != base_len && s.len != base_len + 2) || s.data[TRACE_HEX] != '-' ||
        !parse_id(trace->trace_id, sizeof(trace->trace_id), s.data) ||
        !parse_id(trace->parent_span_id, sizeof(trace->parent_span_id), s.data + TRACE_HEX + 1)) {
        return false;
    }
    trace->sampled = -1;
    if (s.len > base_len) {
        char decision = s.data[base_len + 1];
        if (s.data[base_len] != '-' || (decision != '0' && decision != '1')) {
            return false;
        }
        trace->sampled = decision == '1' ? 1 : 0;
    }
    return true;
}

/* VERSION-TRACE-SPAN-FLAGS; later versions may append "-" and more. */
static bool
parse_traceparent(mayday_trace_t *trace, mayday_slice_t s)
{
    size_t base_len = 2 + 1 + TRACE_HEX + 1 + SPAN_HEX + 1 + 2;
    uint8_t version, flags;

    if (s.len < base_len || s.data[2] != '-' || s.data[3 + TRACE_HEX] != '-' ||
        s.data[4 + TRACE_HEX + SPAN_HEX] != '-' ||
        mayday_unhex(&version, 1, mayday_slice(s.data, 2)) != MAYDAY_OK || version == 0xff ||
        mayday_unhex(&flags, 1, mayday_slice(s.data + base_len - 2, 2)) != MAYDAY_OK) {
        return false;
    }
    if (s.len > base_len && (version == 0 || s.data[base_len] != '-')) {
        return false;
    }
    trace->sampled = (flags & 1) != 0 ? 1 : 0;
    return parse_id(trace->trace_id, sizeof(trace->trace_id), s.data + 3) &&
           parse_id(trace->parent_span_id, sizeof(trace->parent_span_id), s.data + 4 + TRACE_HEX);
}

void
mayday_trace_new(mayday_trace_t *trace, mayday_ids_t *ids)
{
    memset(trace, 0, sizeof(*trace));
    trace->sampled = -1;
    mayday_ids_next_trace(ids, trace->trace_id, trace->span_id);
}

void
mayday_trace_continue(mayday_trace_t *trace, mayday_ids_t *ids, mayday_slice_t sentry_trace,
                      mayday_slice_t traceparent)
{
    if ((sentry_trace.len > 0 && parse_sentry_trace(trace, first_member(sentry_trace))) ||
        (traceparent.len > 0 && parse_traceparent(trace, first_member(traceparent)))) {
        trace->has_parent = true;
        mayday_ids_next_span(ids, trace->span_id);
    } else {
        mayday_trace_new(trace, ids);
    }
}

void
mayday_trace_header(const mayday_trace_t *trace, char out[MAYDAY_SENTRY_TRACE_SIZE])
{
    char *pos = out;

    mayday_hex(pos, trace->trace_id, sizeof(trace->trace_id));
    pos += TRACE_HEX;
    *pos++ = '-';
    mayday_hex(pos, trace->span_id, sizeof(trace->span_id));
    pos += SPAN_HEX;
    if (trace->sampled >= 0) {
        *pos++ = '-';
        *pos++ = trace->sampled ? '1' : '0';
        *pos = '\0';
    }
}

static bool
is_printable(mayday_slice_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.data[i];
        if (c < 0x20 || c >= 0x7f) {
            return false;
        }
    }
    return true;
}

void
mayday_trace_baggage(mayday_slice_t baggage, mayday_buf_t *out)
{
    mayday_slice_t member;

    while (next_member(&baggage, &member)) {
        if (!mayday_slice_starts(member, MAYDAY_SLICE("sentry-")) || !is_printable(member)) {
            continue;
        }
        /* Half a member would be a wrong value, so it is all or nothing. */
        if (out->size - out->len <= member.len + 1) {
            out->truncated = true;
            continue;
        }
        if (out->len > 0) {
            mayday_buf_addc(out, ',');
        }
        mayday_buf_add(out, member);
    }
}
