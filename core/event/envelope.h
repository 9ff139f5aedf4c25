/*
 * Envelopes (Sentry's SDK documentation, "Envelopes"): what goes over the wire.
 * sent_at is written when sending, so it never stands in the queue.
 */
#ifndef MAYDAY_ENVELOPE_H
#define MAYDAY_ENVELOPE_H

#include "core/base/buf.h"

/* Why events were not sent, in the words of client reports. */
typedef struct {
    const char *reason;   /* "queue_overflow", "before_send", "send_error" … */
    const char *category; /* "error" */
    uint64_t quantity;
} mayday_discarded_t;

/*
 * {"event_id":…,"sdk":…,"sent_at":…[,"trace":…]}\n{"type":"event",…}\n JSON \n
 * trace_json is what mayday_event_trace gave, or empty; public_key, of the DSN
 * that the envelope goes to, is put into it unless the caller's baggage already
 * named one. The bytes are appended to out; out->truncated says that they did
 * not fit.
 */
void mayday_envelope_event(mayday_buf_t *out, const char event_id[33], mayday_slice_t event_json,
                           mayday_slice_t trace_json, mayday_slice_t public_key,
                           const char *sdk_name, uint64_t sent_us);

/* A client_report in an envelope of its own. */
void mayday_envelope_client_report(mayday_buf_t *out, const mayday_discarded_t *discarded,
                                   size_t count, const char *sdk_name, uint64_t sent_us);

/* RFC 3339 in UTC with microseconds and Z; out holds at least 28 bytes. */
void mayday_time_rfc3339(char *out, size_t size, uint64_t time_us);

#endif
