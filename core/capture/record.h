/*
 * Writing the fields of a record (format: record_format.h, fields: record.def).
 *
 * Runs on the request path: no allocation, no system call. A value that is too
 * long is cut and flagged, a field for which the record has no room is left out
 * and the record flagged; neither is an error. So write what matters first.
 * Absent values (empty slices) are not written.
 */
#ifndef MAYDAY_RECORD_H
#define MAYDAY_RECORD_H

#include "core/capture/lane.h"
#include "core/capture/redact.h"

void mayday_record_u64(mayday_record_t *record, mayday_field_t field, uint64_t value);

/* TEXT and BYTES fields; max is MAYDAY_FIELD_MAX_…, by the macro below. */
void mayday_record_bytes(mayday_record_t *record, mayday_field_t field, size_t max,
                         mayday_slice_t value);
#define mayday_record_text(record, ID, value)                                                     \
    mayday_record_bytes((record), MAYDAY_FIELD_##ID, MAYDAY_FIELD_MAX_##ID, (value))

/* PAIR fields as they are: tags, response headers. */
void mayday_record_pair(mayday_record_t *record, mayday_field_t field, size_t max,
                        mayday_slice_t name, mayday_slice_t value);

/*
 * A request header under the place's policy: not collected headers are left
 * out, sensitive ones get MAYDAY_FILTERED for a value, URL-valued ones (Referer,
 * X-Original-URL, …) have the values of their query filtered. Cookie is split
 * into COOKIE fields where cookies are collected and filtered whole elsewhere.
 */
void mayday_record_header(mayday_record_t *record, const mayday_collect_t *collect,
                          mayday_slice_t name, mayday_slice_t value);

/* The query without its "?": nothing where it is not collected. */
void mayday_record_query(mayday_record_t *record, const mayday_collect_t *collect,
                         mayday_slice_t query);

void mayday_record_attempt(mayday_record_t *record, const mayday_record_attempt_t *attempt,
                           mayday_slice_t peer);

/*
 * An error-log line. The values of queries in URLs that it quotes are filtered
 * by the place's policy. The shim has taken off the server's own prefix and
 * the repetition of the request at the end.
 */
void mayday_record_log_line(mayday_record_t *record, const mayday_collect_t *collect,
                            uint32_t level, uint64_t time_us, mayday_slice_t text);

#endif
