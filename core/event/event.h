/*
 * From a record to a Sentry event.
 *
 * An event is made of parts, the top-level keys of Sentry's event payload
 * (event_parts.def). Each part is built as JSON when it is first asked for: the
 * rules ask for those that they touch, serialising asks for the rest. So an
 * event that is only counted costs almost nothing.
 *
 *     mayday_event_init(&event, &view, settings, &memory);
 *     cJSON *request = mayday_event_part(&event, MAYDAY_PART_REQUEST);
 *     mayday_event_replace(&event, MAYDAY_PART_TAGS, tags);
 *     mayday_slice_t json = mayday_event_serialise(&event);
 *
 * Runs in the agent. cJSON's allocator is set once, by mayday_event_setup, to
 * one that takes memory from the calling thread's arena while one is bound, and
 * from the heap otherwise; all of an event lives in the arena and is gone when
 * that is reset. Never free or keep what was made under an arena.
 */
#ifndef MAYDAY_EVENT_H
#define MAYDAY_EVENT_H

#include <cjson/cJSON.h>

#include "core/base/buf.h"
#include "core/event/record_read.h"
#include "core/event/scrub.h"
#include "core/event/settings_read.h"

typedef enum {
#define MAYDAY_PART(id, key, builder) MAYDAY_PART_##id,
#include "core/event/event_parts.def"
#undef MAYDAY_PART
    MAYDAY_PART_MAX,
    /* Of the envelope, not of the event; passes filters as parts do. */
    MAYDAY_PART_TRACE = MAYDAY_PART_MAX,
    MAYDAY_PART_ALL
} mayday_part_t;

#define MAYDAY_TITLE_SIZE 512
#define MAYDAY_EVENT_FILTERS_MAX 4

typedef struct mayday_event mayday_event_t;

/*
 * Changes a part of the event in place; never event_id and _meta. It may replace
 * texts and numbers in it, and adds to event->remarks.
 */
typedef void (*mayday_event_filter_pt)(const void *ctx, mayday_event_t *event, mayday_part_t part);

typedef struct {
    mayday_event_filter_pt run;
    const void *ctx;
    uint32_t parts; /* mask: these pass when they are built */
} mayday_event_filter_t;

typedef struct mayday_remarked mayday_remarked_t; /* event_meta.c */

struct mayday_event {
    const mayday_record_view_t *view; /* borrowed */
    const mayday_settings_t *settings;
    cJSON *parts[MAYDAY_PART_ALL]; /* NULL: not built; made under the arena    */
    cJSON *cuts;                   /* _meta of what building cut, as it was then; NULL: nothing */
    uint32_t built;                /* mask: parts[] counts, also where NULL (absent) */
    uint32_t replaced;             /* mask: set by a rule                       */
    uint64_t suppressed;           /* events of the issue not sent since the last; may be
                                      set until the event is serialised         */
    const char *rule_error;        /* NULL, or what a rule did wrong (tag mayday.rule_error) */
    bool degraded;                 /* only what the allow-list names is built   */
    mayday_slice_t route;          /* in the place of the normalised path; empty: none. Set
                                      right after init, borrowed                */
    bool route_is_template;        /* somebody wrote it down                    */
    mayday_event_filter_t filters[MAYDAY_EVENT_FILTERS_MAX]; /* in order          */
    size_t filter_count;
    mayday_remarked_t *remarks; /* texts that filters changed; NULL: none        */
};

/* Once per process, before any thread uses cJSON. */
void mayday_event_setup(void);

/* Binds, resets, unbinds the calling thread's arena. begin/end nest not. */
void mayday_event_memory_begin(void);
void mayday_event_memory_end(void);

void mayday_event_init(mayday_event_t *event, const mayday_record_view_t *view,
                       const mayday_settings_t *settings);

/*
 * An event from its JSON instead of a record, to run rules over it again: all
 * parts are there as they went out, after scrubbing and rules, and view, the
 * caller's, gets what the JSON tells of the record: what rules are told as hint
 * and what groups by default. json was made under the same arena and loses its
 * members to the event; view and event live as long as it does. MAYDAY_INVALID:
 * no member of it is a part of an event.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_event_from_json(mayday_event_t *event,
                                                     mayday_record_view_t *view,
                                                     const mayday_settings_t *settings,
                                                     cJSON *json);

/* The part, built now if it was not; NULL: this event has none. Borrowed. */
cJSON *mayday_event_part(mayday_event_t *event, mayday_part_t part);

/*
 * Takes value, made under the same arena, for the part; NULL removes it.
 * EVENT_ID and META are the event's own and stay as they are: the id stands in
 * the record, _meta is told from what the other parts hold in the end. In a
 * FINGERPRINT, "{{ default }}" becomes Mayday's default entries, and one without
 * any usable entry becomes the default.
 */
void mayday_event_replace(mayday_event_t *event, mayday_part_t part, cJSON *value);

/*
 * Lets the given parts (a mask) pass a filter: those that are built now, the
 * others as soon as they are, which is before anybody sees them. A part that is
 * replaced first never passes. ctx must outlive the event.
 */
void mayday_event_defer(mayday_event_t *event, mayday_event_filter_pt filter, const void *ctx,
                        uint32_t parts);

/* What a filter replaced in a text, for _meta: bytes begin to end of the new text. */
typedef struct {
    const char *rule; /* a constant, or of the rules: "mayday:email" */
    char type;        /* as in _meta: s substituted, m masked, p hashed, x removed */
    size_t begin, end;
} mayday_remark_t;

/*
 * Notes for _meta how text, which lives as long as the event, came about: where
 * this very text stands in the end, or, in what rules replaced, one that reads the
 * same. chars_before: the characters of the text that it stands for.
 */
void mayday_event_remark(mayday_event_t *event, const char *text, size_t chars_before,
                         const mayday_remark_t *remarks, size_t count);

/* What was noted of text, if anything was: *count remarks, and the characters before. */
const mayday_remark_t *mayday_event_remarks_of(const mayday_event_t *event, const char *text,
                                               size_t *count, size_t *chars_before);

/* Notes for _meta that what is null at the path of these keys, ended by NULL, was removed. */
void mayday_event_removed(mayday_event_t *event, const char *rule, const char *const *keys);

/* The part where it is a string, built if need be; else empty. In the arena. */
mayday_slice_t mayday_event_part_text(mayday_event_t *event, mayday_part_t part);

/* The part of that key, or MAYDAY_PART_MAX; and its key. */
mayday_part_t mayday_event_part_find(mayday_slice_t key);
const char *mayday_event_part_key(mayday_part_t part);

/*
 * The allow-listed event for when a rule failed: kind, status, method, route,
 * upstream, times, trace, release, counts; no header, no text from outside. All
 * parts are built anew; what rules replaced is dropped. error is shown in the
 * tag mayday.rule_error.
 */
void mayday_event_degrade(mayday_event_t *event, const char *error);

/* The whole event as compact JSON, in the arena; empty slice: no memory. */
mayday_slice_t mayday_event_serialise(mayday_event_t *event);

/*
 * The event's dynamic sampling context as a JSON object without the DSN's
 * public key, which mayday_envelope_event adds, in the arena. Where the caller
 * sent sentry-* members of baggage for the same trace, it is frozen to those.
 * Empty: the event has no trace. Filtered as part MAYDAY_PART_TRACE.
 */
mayday_slice_t mayday_event_trace(mayday_event_t *event);

/* 32 hex digits. */
void mayday_event_id(const mayday_event_t *event, char out[33]);

/* ---- issue.c: what groups and names ---- */

/*
 * The issue: hash of the event's fingerprint (the part FINGERPRINT as it stands
 * now, with "{{ default }}" meaning Mayday's own). Without a part FINGERPRINT
 * that a rule has set, nothing is built: the hash is taken from the record.
 */
void mayday_event_issue(mayday_event_t *event, uint8_t hash[MAYDAY_HASH_BYTES]);

/* The exception's value: "shop_backend refused connections (2 peers tried)". */
void mayday_event_value(const mayday_event_t *event, mayday_buf_t *value);

/* "type: value" of the main exception as it stands now, rules included. */
void mayday_event_title(mayday_event_t *event, mayday_buf_t *title);

/* ---- route.c ---- */

/* A route is cut here wherever it is used, so that all uses agree. */
#define MAYDAY_ROUTE_SIZE 512
#define MAYDAY_PATH_SIZE (MAYDAY_SCRUB_SIZE(MAYDAY_FIELD_MAX_PATH) + 1)

/* Path with ids, hashes, dates and mail addresses replaced by "*". */
void mayday_route_normalise(mayday_slice_t path, mayday_buf_t *route);

/* The path without secrets (";jsessionid=…"); storage is of MAYDAY_PATH_SIZE. */
mayday_slice_t mayday_event_path(const mayday_event_t *event, char *storage);

/* What groups and names the request; storage is of MAYDAY_ROUTE_SIZE. */
mayday_slice_t mayday_event_route(const mayday_event_t *event, char *storage);

#endif
