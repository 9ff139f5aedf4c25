/*
 * What the builders of an event's parts share; private to core/event.
 *
 * A builder makes its part anew each time, from the record, or returns NULL
 * where the event has no such part. Text from outside goes through
 * mayday_json_text, so that it is valid UTF-8, holds no NUL and keeps to
 * Sentry's limits. Where memory ends, items are left out: all of cJSON's
 * functions that add take NULL.
 */
#ifndef MAYDAY_EVENT_BUILD_H
#define MAYDAY_EVENT_BUILD_H

#include "core/event/event.h"
#include "core/event/scrub.h"
#include "core/event/utf8.h"

/* Sentry's limits, in characters unless named otherwise. */
enum {
    MAYDAY_TEXT_SHORT_MAX = 200, /* transaction, release, a tag's value        */
    MAYDAY_ENVIRONMENT_MAX = 64,
    MAYDAY_SERVER_NAME_MAX = 256,
    MAYDAY_TAG_KEY_MAX = 32,
    MAYDAY_USER_EMAIL_MAX = 75,
    MAYDAY_USER_TEXT_MAX = 128,
    MAYDAY_URL_MAX = 256,
    MAYDAY_QUERY_MAX = 1024, /* these three in bytes, as JSON                 */
    MAYDAY_COOKIES_MAX = 2048,
    MAYDAY_HEADERS_MAX = 8192,
    MAYDAY_PAIRS_MAX = 50,
    MAYDAY_MESSAGE_MAX = 2048 /* of a breadcrumb; Sentry takes 8192           */
};

#define MAYDAY_PART(id, key, builder) cJSON *mayday_build_##builder(mayday_event_t *event);
#include "core/event/event_parts.def"
#undef MAYDAY_PART
cJSON *mayday_build_trace(mayday_event_t *event);

/* ---- the kinds, from kinds.def ---- */

typedef enum { MAYDAY_FAMILY_NOBODY_THERE, MAYDAY_FAMILY_ROUTE } mayday_family_t;

typedef struct {
    const char *name;  /* "upstream_refused" */
    const char *type;  /* "UpstreamRefused"  */
    const char *level; /* "error"            */
    mayday_family_t family;
    const char *says; /* "refused connections" */
} mayday_kind_info_t;

/* Never NULL: a record of an unknown kind is not decoded. */
const mayday_kind_info_t *mayday_kind_info(const mayday_record_view_t *view);

/* ---- what several builders read from the record ---- */

/* The request's method, or an empty slice where Sentry would refuse it. */
mayday_slice_t mayday_view_method(const mayday_record_view_t *view);

/* The upstream as configured, else its first peer, else empty. */
mayday_slice_t mayday_view_upstream(const mayday_record_view_t *view);

/* How many different peers were tried. */
size_t mayday_view_peers(const mayday_record_view_t *view);

/* Whether the peer itself gave a status: nginx's own 502 is not the peer's. */
bool mayday_attempt_answered(const mayday_attempt_view_t *attempt);

/* "ECONNREFUSED", or NULL where it has no well-known name. */
const char *mayday_errno_name(uint64_t number);

/* Decodes %XX, and "+" where plus is true, into out, which is as long as text. */
mayday_slice_t mayday_percent_decode(char *out, mayday_slice_t text, bool plus);

/* ---- JSON ---- */

/*
 * A string item of at most chars_max characters. MAYDAY_FIELD_CUT in flags: the
 * text was cut already, which "..." is to show. *info says what was cut; it may
 * be NULL. NULL: no memory.
 */
cJSON *mayday_json_text(mayday_slice_t text, size_t chars_max, unsigned flags,
                        mayday_utf8_info_t *info);

/* Text of the servers or of applications: secrets are filtered first. */
cJSON *mayday_json_scrubbed(mayday_slice_t text, size_t chars_max);

/* Adds under a constant key; an empty text adds nothing. */
void mayday_json_add(cJSON *object, const char *key, cJSON *item);
void mayday_json_add_text(cJSON *object, const char *key, mayday_slice_t text, size_t chars_max);
void mayday_json_add_number(cJSON *object, const char *key, double number);

/* A constant, referred to and not copied. */
void mayday_json_add_constant(cJSON *object, const char *key, const char *constant);

/* [name, value] */
cJSON *mayday_json_pair(cJSON *name, cJSON *value);

/*
 * Notes for _meta that a text was cut, or that a list once had so many items;
 * the keys, ended by NULL, lead from the event to the value.
 */
void mayday_note_cut(mayday_event_t *event, const mayday_utf8_info_t *info,
                     const char *const *keys);
void mayday_note_length(mayday_event_t *event, size_t length, const char *const *keys);
#define MAYDAY_KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The object at that key of the object, made where it is not there. */
cJSON *mayday_json_object_at(cJSON *object, const char *key);

/* ---- writing JSON out ---- */

/* Compact JSON in the arena; begin with {0}. No memory: failed, for good. */
typedef struct {
    char *data;
    size_t size, len;
    bool failed;
} mayday_json_out_t;

void mayday_json_out_add(mayday_json_out_t *out, const char *text, size_t len);

/* Nesting deeper than 64 and numbers that JSON does not know become null. */
void mayday_json_write(mayday_json_out_t *out, const cJSON *item);

/* What was written, ended with NUL; empty: no memory. */
mayday_slice_t mayday_json_out_end(mayday_json_out_t *out);

/* ---- between the parts ---- */

/* A rule's fingerprint as it is sent: see mayday_event_replace. NULL: the default. */
cJSON *mayday_fingerprint_complete(mayday_event_t *event, cJSON *value);

/* Puts event->suppressed into contexts that may have been built before it was known. */
void mayday_contexts_suppressed(mayday_event_t *event);

/* Once per process. */
void mayday_event_memory_setup(void);
void mayday_contexts_setup(void);

#endif
