/*
 * Personal data and secrets in text: found, and replaced.
 *
 * A text is read once, word by word; what may begin or announce something (a
 * digit, "@", "://", a known prefix, "name=") is looked at by a matcher written
 * for it, which verifies check digits, ranges and what stands around. There is
 * no backtracking, and how far a matcher looks is bounded, so the time is linear
 * in the text whatever it holds. Texts that hold nothing are not copied.
 *
 * Runs in the agent; texts are any bytes. Scanning allocates nothing; what walks
 * an event's JSON (pii_event.c) takes memory from the event's arena. Its
 * counterpart in Lua is core/agent/rules_pii.c.
 */
#ifndef MAYDAY_PII_H
#define MAYDAY_PII_H

#include "core/base/buf.h"
#include "core/event/event.h"

typedef enum {
#define MAYDAY_PII(id, name, placeholder) MAYDAY_PII_##id,
#include "core/filter/pii_kinds.def"
#undef MAYDAY_PII
    MAYDAY_PII_OWN /* a team's own pattern, and those behind it */
} mayday_pii_kind_t;

#define MAYDAY_PII_OWN_MAX 16
#define MAYDAY_PII_NAME_MAX 32
#define MAYDAY_PII_RULE "mayday:" /* begins the rules' names in _meta */
#define MAYDAY_PII_BIT(kind) ((uint32_t) 1 << (kind))
#define MAYDAY_PII_ALL UINT32_MAX

_Static_assert(MAYDAY_PII_OWN + MAYDAY_PII_OWN_MAX <= 32, "a set of kinds is a 32-bit mask");

typedef enum {
    MAYDAY_PII_FILTER, /* "[email]": says what was there                       */
    MAYDAY_PII_MASK,   /* "****-****-****-1111": keeps the shape                */
    MAYDAY_PII_HASH,   /* 32 hex digits, keyed: the same for the same text      */
    MAYDAY_PII_REMOVE, /* nothing                                               */
    MAYDAY_PII_MODES
} mayday_pii_mode_t;

/*
 * A team's own pattern. find looks in text from offset from on; false: nothing more.
 * A match is not empty.
 */
typedef struct {
    char name[MAYDAY_PII_NAME_MAX + 1];
    char rule[sizeof(MAYDAY_PII_RULE) + MAYDAY_PII_NAME_MAX];
    void *pattern;
    bool (*find)(void *pattern, mayday_slice_t text, size_t from, size_t *begin, size_t *end);
} mayday_pii_own_t;

typedef struct {
    size_t count;
    mayday_pii_own_t items[MAYDAY_PII_OWN_MAX]; /* kinds MAYDAY_PII_OWN and on */
} mayday_pii_owns_t;

/* What to look for, and what becomes of it. */
typedef struct {
    uint32_t kinds; /* mask of MAYDAY_PII_BIT */
    mayday_pii_mode_t mode;
    uint8_t hash_key[16];             /* for MAYDAY_PII_HASH: that of mayday_user hash: */
    const mayday_pii_owns_t *owns;    /* NULL: none                                     */
    const mayday_record_view_t *view; /* addresses of its upstreams stay; NULL: none    */
} mayday_pii_t;

/* The name of a kind ("email"), its own patterns' included; NULL: there is no such kind. */
const char *mayday_pii_name(const mayday_pii_owns_t *owns, unsigned kind);

/* The same for remarks in _meta: "mayday:email". The kind exists. */
const char *mayday_pii_rule(const mayday_pii_owns_t *owns, unsigned kind);

/* "filter", "mask", "hash" or "remove"; MAYDAY_PII_MODES: none of them. */
mayday_pii_mode_t mayday_pii_mode(const char *name);

/* ---- names: what the name of a value says of it ---- */

typedef enum {
    MAYDAY_PII_NAME_PLAIN,
    MAYDAY_PII_NAME_KEY,    /* "key" alone: a secret in headers and queries, not in objects  */
    MAYDAY_PII_NAME_WEAK,   /* "session", "api_auth": its text is a secret                  */
    MAYDAY_PII_NAME_STRONG, /* "password", "access_token": all that it holds is             */
} mayday_pii_name_t;

/*
 * By words: "auth" is one of "x-auth" and of "basicAuth", not of "author" nor of
 * "auth_method"; "keyword" holds no "key". Bounded: looks at the first 128 bytes.
 */
mayday_pii_name_t mayday_pii_name_kind(mayday_slice_t name);

/* ---- text ---- */

typedef struct {
    size_t begin, end;
    unsigned kind;
} mayday_pii_match_t;

typedef struct {
    const mayday_pii_t *pii;
    mayday_slice_t text;
    uint32_t kinds;
    size_t at;    /* where to go on                     */
    size_t floor; /* matches begin here or later        */
    mayday_pii_match_t found;
    bool has_found, found_end; /* not yet given out; nothing more */
    size_t own_count;
    struct {
        size_t begin, end; /* begin SIZE_MAX: nothing more */
    } owns[MAYDAY_PII_OWN_MAX];
} mayday_pii_scan_t;

void mayday_pii_scan_init(mayday_pii_scan_t *scan, const mayday_pii_t *pii, uint32_t kinds,
                          mayday_slice_t text);

/* The next match, from left to right, none overlapping another. False: no more. */
bool mayday_pii_scan_next(mayday_pii_scan_t *scan, mayday_pii_match_t *match);

/* Appends what stands in the place of a text of that kind. */
void mayday_pii_put(const mayday_pii_t *pii, unsigned kind, mayday_slice_t text, mayday_buf_t *out);

/* ---- places: what is looked for where in an event ---- */

typedef enum {
#define MAYDAY_PII_PLACE(id, kinds, inner, ...) MAYDAY_PII_PLACE_##id,
#include "core/filter/pii_places.def"
#undef MAYDAY_PII_PLACE
    MAYDAY_PII_PLACES
} mayday_pii_place_t;

/* Where the value under key stands, in what stands at place; items of lists stand where it does. */
mayday_pii_place_t mayday_pii_place_of(mayday_pii_place_t place, mayday_slice_t key);

/* What the names so far and this one say of the value at place. */
mayday_pii_name_t mayday_pii_name_at(const mayday_pii_t *pii, mayday_pii_place_t place,
                                     mayday_pii_name_t outer, mayday_slice_t name);

/* ---- one value ---- */

#define MAYDAY_PII_REMARKS_MAX 16

/* What was replaced in a text, for _meta: mayday_event_remark. */
typedef struct {
    mayday_remark_t items[MAYDAY_PII_REMARKS_MAX]; /* the first ones, from left to right */
    size_t count;
    const mayday_remark_t *before; /* of the text as it came, carried over */
    size_t before_count;
    size_t chars_before; /* of the text as it came first */
} mayday_pii_remarks_t;

/* Begins the remarks of a text: as it came, and if event is not NULL, what was noted of it. */
void mayday_pii_remarks_init(mayday_pii_remarks_t *remarks, const mayday_event_t *event,
                             mayday_slice_t text);

/* The room for what becomes of text, its NUL included; 0: it stays as it is. */
size_t mayday_pii_measure(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t name,
                          mayday_slice_t text);

/* The same for the name of a value, which may be a query's or a team's own. */
size_t mayday_pii_measure_name(const mayday_pii_t *pii, mayday_pii_place_t place,
                               mayday_slice_t name);

/* Appends it to out; remarks, begun by mayday_pii_remarks_init, may be NULL. */
void mayday_pii_write(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t name,
                      mayday_slice_t text, mayday_buf_t *out, mayday_pii_remarks_t *remarks);

/*
 * Whether a number must not stay: under a secret's name, or the number of a
 * card. What stands in its place is that of its digits, which text gets.
 */
#define MAYDAY_PII_NUMBER_SIZE 32
bool mayday_pii_number(const mayday_pii_t *pii, mayday_pii_place_t place, mayday_pii_name_t name,
                       double number, char text[MAYDAY_PII_NUMBER_SIZE]);

/* ---- events ---- */

/*
 * Makes the addresses of the client in the event's JSON, where they read so, null;
 * for callers that removed them elsewhere.
 */
void mayday_pii_forget_address(mayday_event_t *event, mayday_slice_t address);

/*
 * Scrubs the event: parts that are built now, the others as soon as they are.
 * parts: mask of those that pass, others are left to the caller. What pii refers
 * to must outlive the event; pii itself is copied. MAYDAY_NO_MEMORY: nothing was done.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_pii_scrub(const mayday_pii_t *pii, mayday_event_t *event,
                                               uint32_t parts);

#endif
