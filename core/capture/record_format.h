/*
 * A record: one failed request, as a length-prefixed, tagged, versioned byte
 * string. Both sides of a lane include this.
 *
 *   +-----------------------------+  aligned to 8
 *   | mayday_record_header_t      |
 *   +-----------------------------+
 *   | tag u8 | flags u8 | len u16 |  one field: len bytes of payload follow,
 *   | payload ...                 |  no padding between fields
 *   +-----------------------------+
 *   | ...                         |
 *   | zeroes up to a multiple of 8|  tag 0 ends the fields
 *   +-----------------------------+
 *
 * Numbers are in host order: a record never leaves the machine. A reader skips
 * tags it does not know. A writer never exceeds MAYDAY_RECORD_SIZE_MAX, nor a
 * quarter of its lane.
 */
#ifndef MAYDAY_RECORD_FORMAT_H
#define MAYDAY_RECORD_FORMAT_H

#include "core/base/base.h"

#define MAYDAY_RECORD_MAGIC 0x314d5950u /* "PYM1": changes with the format */
#define MAYDAY_RECORD_SIZE_MAX 65536u
#define MAYDAY_RECORD_SIZE_MIN 4096u /* no lane is so small that less fits */

typedef enum {
    MAYDAY_RECORD_TRUNCATED = 1 /* a field was cut or left out */
} mayday_record_flag_t;

typedef enum {
    MAYDAY_FIELD_CUT = 1,     /* the value was longer than the field allows */
    MAYDAY_FIELD_FILTERED = 2 /* (a part of) the value was replaced          */
} mayday_field_flag_t;

typedef struct {
    uint32_t magic;
    uint32_t size;     /* of the whole record, a multiple of 8               */
    uint64_t sequence; /* number of the record in its lane, from 0           */
    uint32_t flags;    /* mayday_record_flag_t                               */
    uint32_t reserved;
} mayday_record_header_t;

_Static_assert(sizeof(mayday_record_header_t) == 24, "record header is part of the format");

typedef struct {
    uint8_t tag; /* mayday_field_t; 0 ends the record */
    uint8_t flags;
    uint16_t len;
} mayday_field_header_t;

_Static_assert(sizeof(mayday_field_header_t) == 4, "field header is part of the format");

typedef enum {
    MAYDAY_FIELD_END = 0,
#define MAYDAY_FIELD(tag, id, name, type, max, meaning) MAYDAY_FIELD_##id = tag,
#include "core/capture/record.def"
#undef MAYDAY_FIELD
} mayday_field_t;

/* The most payload that a field may carry, as constants: MAYDAY_FIELD_MAX_HOST … */
enum {
#define MAYDAY_FIELD(tag, id, name, type, max, meaning) MAYDAY_FIELD_MAX_##id = max,
#include "core/capture/record.def"
#undef MAYDAY_FIELD
};

/* Times in milliseconds; -1 where it did not come so far or is not known. */
typedef struct {
    int32_t status; /* what the peer answered; 0: nothing (nginx's own 502 is not the peer's) */
    int32_t connect_ms;
    int32_t header_ms;
    int32_t response_ms;
    int64_t bytes_received;
} mayday_record_attempt_t;

/* Levels as syslog counts them: 0 emerg … 3 error, 4 warning … 7 debug. */
typedef struct {
    uint32_t level;
    uint32_t reserved;
    uint64_t time_us;
} mayday_record_log_line_t;

#define MAYDAY_FILTERED "[Filtered]" /* stands where a sensitive value stood */

#endif
