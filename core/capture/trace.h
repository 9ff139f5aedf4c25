/*
 * Trace context: reads what the caller sent, writes what the upstream gets.
 * Formats: sentry-trace "TRACE-SPAN[-0|1]" and baggage (Sentry's SDK
 * documentation, "Trace propagation"), traceparent (W3C Trace Context, level 1).
 *
 * Runs on the request path: no allocation, no system call.
 */
#ifndef MAYDAY_TRACE_H
#define MAYDAY_TRACE_H

#include "core/base/buf.h"
#include "core/capture/ids.h"

typedef struct {
    uint8_t trace_id[16];
    uint8_t span_id[8];        /* this request's own                       */
    uint8_t parent_span_id[8]; /* valid if has_parent                      */
    bool has_parent;           /* the caller sent a context                */
    int8_t sampled;            /* -1: not decided by the caller            */
} mayday_trace_t;

/* A new trace with a new span. */
void mayday_trace_new(mayday_trace_t *trace, mayday_ids_t *ids);

/*
 * A trace that begins here and that nobody else is given needs no ids of its own:
 * those of the event do.
 */
static inline void
mayday_trace_of_event(mayday_trace_t *trace, const uint8_t event_id[16])
{
    memset(trace, 0, sizeof(*trace));
    memcpy(trace->trace_id, event_id, sizeof(trace->trace_id));
    memcpy(trace->span_id, event_id, sizeof(trace->span_id));
    trace->sampled = -1;
}

/* Whether it is that one: then the record need not hold it. */
static inline bool
mayday_trace_is_of_event(const mayday_trace_t *trace, const uint8_t event_id[16])
{
    return !trace->has_parent && memcmp(trace->trace_id, event_id, sizeof(trace->trace_id)) == 0 &&
           memcmp(trace->span_id, event_id, sizeof(trace->span_id)) == 0;
}

/*
 * Takes over the caller's context if a header holds a valid one, sentry-trace
 * before traceparent, and gives the request a span of its own; else the same as
 * mayday_trace_new. Of a list of values the first non-empty one counts.
 */
void mayday_trace_continue(mayday_trace_t *trace, mayday_ids_t *ids, mayday_slice_t sentry_trace,
                           mayday_slice_t traceparent);

/* "TRACE-SPAN" or "TRACE-SPAN-S". */
#define MAYDAY_SENTRY_TRACE_SIZE 52
void mayday_trace_header(const mayday_trace_t *trace, char out[MAYDAY_SENTRY_TRACE_SIZE]);

/* The sentry-* members of a baggage header, joined with ","; others left out. */
void mayday_trace_baggage(mayday_slice_t baggage, mayday_buf_t *out);

#endif
