/*
 * The store: issues, events, the delivery queue, positions and counts, in one
 * SQLite file (WAL) in the state directory. The schema is versioned and
 * migrates; a file of a newer version is refused, a corrupt one is moved aside
 * (store.sqlite.corrupt-TIME) and reported.
 *
 * A connection (mayday_store_t) belongs to one thread. Those that write take
 * the process's write lock in mayday_store_begin, for as short as they can, and
 * hold it until commit or rollback. Functions that write, other than purge,
 * must be called between the two. After a failed write, roll back.
 *
 * Order of truth: a batch of the pipeline, i.e. issues, events, queue rows,
 * counts and the lanes' positions, is one transaction, so after a crash every
 * record is either wholly in the store or still in its lane.
 */
#ifndef MAYDAY_STORE_H
#define MAYDAY_STORE_H

#include "core/agent/lane_reader.h"
#include "core/base/buf.h"

typedef struct mayday_store mayday_store_t;

/*
 * Opens path, creating and migrating it. NULL: error says what is wrong and
 * what to do. While this process has no other connection, the file is checked
 * as well, and moved aside where it is corrupt; so the pipeline opens first.
 */
mayday_store_t *mayday_store_new(const char *path, char *error, size_t error_size);

/*
 * A connection that only reads, also of a store whose agent does not run: nothing
 * is created, checked, migrated or moved aside. For functions that read events.
 */
mayday_store_t *mayday_store_new_reader(const char *path, char *error, size_t error_size);

void mayday_store_free(mayday_store_t *store);

/* The text of the last error of this connection. */
const char *mayday_store_error(const mayday_store_t *store);

/*
 * Whether an error said that the file is damaged. It stays damaged; only the
 * next start of the process can move it aside.
 */
bool mayday_store_is_corrupt(const mayday_store_t *store);

/*
 * A write transaction. try_begin does not wait for the write lock: MAYDAY_BUSY,
 * somebody else writes. rollback is harmless after commit.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_begin(mayday_store_t *store);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_try_begin(mayday_store_t *store);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_commit(mayday_store_t *store);
void mayday_store_rollback(mayday_store_t *store);

/* ---- counts: exact, kept for ever ---- */

#define MAYDAY_STORE_COUNTS_MAX 2048u /* names and reasons; further reasons are "other" */

/*
 * Adds to a named count, for instance ("captured", "upstream_refused"),
 * ("ignored", KIND), ("dropped", REASON), ("suppressed", "issue_rate"),
 * ("filtered", "before_send:bot"), ("sent", ""), ("requests", "").
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_count(mayday_store_t *store, const char *name,
                                                 const char *reason, uint64_t n);
typedef void (*mayday_count_visit_pt)(void *ctx, const char *name, const char *reason, uint64_t n);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_counts(mayday_store_t *store,
                                                  mayday_count_visit_pt visit, void *ctx);

/* ---- positions of lanes ---- */

MAYDAY_MUST_CHECK mayday_rc_t mayday_store_position_set(mayday_store_t *store,
                                                        const mayday_lane_key_t *key,
                                                        uint64_t position, uint64_t records_read);
/* MAYDAY_NOT_FOUND: this life of the lane was never read. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_position_get(mayday_store_t *store,
                                                        const mayday_lane_key_t *key,
                                                        uint64_t *position, uint64_t *records_read);
/* Marks a dead lane as folded. MAYDAY_NOT_FOUND: it already was; do not fold again. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_position_fold(mayday_store_t *store,
                                                         const mayday_lane_key_t *key);

/* ---- issues and events ---- */

typedef struct {
    uint8_t issue[MAYDAY_HASH_BYTES];
    mayday_slice_t event_id; /* 32 hex digits */
    uint64_t time_us;
    const char *kind;
    const char *level;
    unsigned status;
    mayday_slice_t title;
    mayday_slice_t transaction;
    mayday_slice_t json;  /* the whole event                       */
    mayday_slice_t trace; /* dynamic sampling context as JSON, or empty */
} mayday_store_event_t;

/* Times an issue was seen: upsert of first and last seen and its counts. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_issue_seen(mayday_store_t *store,
                                                      const uint8_t issue[MAYDAY_HASH_BYTES],
                                                      uint64_t time_us, uint64_t seen,
                                                      uint64_t suppressed);

/*
 * Adds the event (updating its issue's title) and a queue row per DSN, at most
 * MAYDAY_SETTINGS_DSN_MAX. A second add of one event id changes nothing. dsns:
 * texts, made known to the store here; keys never leave it through any read
 * function but mayday_store_dsns. MAYDAY_INVALID: event_id is not 32 hex digits.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_event_add(mayday_store_t *store,
                                                     const mayday_store_event_t *event,
                                                     const char *const *dsns, size_t dsn_count);

/* The queue rows that the last mayday_store_event_add made; its next call ends their life. */
typedef struct {
    int64_t row;         /* of the event                                    */
    const int64_t *dsns; /* numbers of the DSNs that it waits for           */
    size_t dsn_count;    /* 0: for none, or this event was there already    */
} mayday_store_queued_t;
mayday_store_queued_t mayday_store_queued(const mayday_store_t *store);

/* One row for lists; strings are valid during the visit only. */
typedef struct {
    int64_t row; /* ascending in order of arrival: for `tail` */
    const char *event_id;
    const char *issue; /* hex */
    uint64_t time_us;
    const char *kind;
    const char *level;
    unsigned status;
    const char *title;
    const char *transaction;
    uint64_t issue_seen;  /* of its issue so far */
    unsigned undelivered; /* queue rows left     */
} mayday_store_row_t;

typedef struct {
    int64_t after_row; /* > 0: only newer ones, oldest first; else newest first */
    unsigned limit;    /* 1 … 1000 */
    const char *kind;  /* NULL: any */
    const char *issue; /* NULL: any; hex */
    uint64_t since_us; /* 0: any */
} mayday_store_query_t;

typedef void (*mayday_row_visit_pt)(void *ctx, const mayday_store_row_t *row);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_events(mayday_store_t *store,
                                                  const mayday_store_query_t *query,
                                                  mayday_row_visit_pt visit, void *ctx);

/* JSON of the event whose id begins with the given hex digits (at least 4), into
 * out from malloc, *out_len bytes; where there is none, of the dropped one. Of a
 * dropped one contexts.mayday.dropped tells. MAYDAY_NOT_FOUND; MAYDAY_INVALID: several. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_event_json(mayday_store_t *store, mayday_slice_t id,
                                                      char **out, size_t *out_len);

/* ---- what rules did ---- */

#define MAYDAY_STORE_DROPPED_MAX 100u                        /* events per reason          */
#define MAYDAY_STORE_DROPPED_BYTES_MAX ((uint64_t) 16 << 20) /* of all; the oldest go first */
#define MAYDAY_STORE_DROPPED_JSON_MAX ((size_t) 64 << 10)    /* of one                     */
#define MAYDAY_STORE_RULES_MAX 1024u                         /* rows of counts per rule    */

/* An event that a rule dropped, kept for people to see. */
typedef struct {
    mayday_slice_t event_id; /* 32 hex digits */
    uint64_t time_us;
    const char *kind;
    const char *level;
    unsigned status;
    mayday_slice_t title;
    mayday_slice_t transaction;
    const char *reason; /* "bot" */
    const char *hook;   /* "before_send", "event_processor" */
    const char *where;  /* "rules.lua:12" */
    bool observed;      /* the rules were only observed: it was not dropped */
    mayday_slice_t json;
} mayday_store_dropped_t;

/*
 * Adds one; those of its reason beyond MAYDAY_STORE_DROPPED_MAX, and of all beyond
 * the bytes, go. MAYDAY_INVALID: the id is none, or its JSON is too long.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_dropped_add(mayday_store_t *store,
                                                       const mayday_store_dropped_t *dropped);

/*
 * For lists, the newest first; json is empty, and texts, all ended with NUL, are
 * valid during the visit only.
 */
typedef struct {
    unsigned limit;     /* 1 … 1000                                                  */
    const char *reason; /* NULL: any; "bot" or, of one kind of hook, "before_send:bot" */
    const char *kind;   /* NULL: any */
    uint64_t since_us;  /* 0: any    */
} mayday_store_dropped_query_t;
typedef void (*mayday_dropped_visit_pt)(void *ctx, const mayday_store_dropped_t *dropped);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_dropped(mayday_store_t *store,
                                                   const mayday_store_dropped_query_t *query,
                                                   mayday_dropped_visit_pt visit, void *ctx);

/* What one place of the rules did so far; lines that nothing was counted for lately are forgotten. */
typedef struct {
    const char *where;   /* "rules.lua:12" */
    const char *hook;    /* of drops; of failures, where it is known, else "" */
    const char *outcome; /* "dropped" or "failed" */
    const char *reason;  /* of drops, else "" */
    bool observed;       /* it only would have been so */
    uint64_t n;
} mayday_store_rule_t;
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_rule_count(mayday_store_t *store,
                                                      const mayday_store_rule_t *rule,
                                                      uint64_t now_us);
/* By place, what is observed behind the rest, each outcome's reasons the biggest first. */
typedef void (*mayday_rule_visit_pt)(void *ctx, const mayday_store_rule_t *rule);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_rules(mayday_store_t *store, mayday_rule_visit_pt visit,
                                                 void *ctx);

/* ---- the delivery queue ---- */

/* The slices are valid during the visit only. */
typedef struct {
    int64_t row; /* of the event; with the DSN it names the queue row */
    char event_id[33];
    mayday_slice_t json;
    mayday_slice_t trace;
} mayday_store_due_t;

/*
 * The DSNs that have or had rows: their number in the store and text.
 * *newest_row: every event up to it was counted, and none behind it; unchanged
 * where there is no DSN.
 */
typedef void (*mayday_dsn_visit_pt)(void *ctx, int64_t dsn, const char *text, uint64_t queued);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_dsns(mayday_store_t *store, mayday_dsn_visit_pt visit,
                                                void *ctx, int64_t *newest_row);

/* Rows of one DSN behind after_row, oldest first, at most limit; visit may end it with false. */
typedef bool (*mayday_due_visit_pt)(void *ctx, const mayday_store_due_t *due);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_due(mayday_store_t *store, int64_t dsn,
                                               int64_t after_row, unsigned limit,
                                               mayday_due_visit_pt visit, void *ctx);

/*
 * The row is done with, delivered or given up; counts are the caller's.
 * MAYDAY_NOT_FOUND: it has gone meanwhile (overflow, purge) and is counted.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_queue_remove(mayday_store_t *store, int64_t dsn,
                                                        int64_t row);

/* Loss to be told to the DSN by a client report, and what is pending. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_discarded_add(mayday_store_t *store, int64_t dsn,
                                                         const char *reason, uint64_t n);
typedef void (*mayday_discarded_visit_pt)(void *ctx, const char *reason, uint64_t n);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_discarded(mayday_store_t *store, int64_t dsn,
                                                     mayday_discarded_visit_pt visit, void *ctx);
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_discarded_sub(mayday_store_t *store, int64_t dsn,
                                                         const char *reason, uint64_t n);

/* The number of a DSN, made known if need be. Within a transaction. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_dsn_id(mayday_store_t *store, const char *text,
                                                  int64_t *dsn);

/* ---- upkeep ---- */

#define MAYDAY_STORE_ISSUES_MAX 50000u /* issues without events beyond it go, oldest first */

typedef struct {
    uint64_t queue_size; /* bytes of undelivered events; also bounds delivered ones */
    uint64_t retention_s;
} mayday_store_bounds_t;

/*
 * Drops what is beyond the bounds, oldest first, a bounded amount a call:
 * undelivered events over queue_size are given up, counted per queue row
 * ("dropped", "queue_overflow") and put down as discarded; so are undelivered
 * ones over retention_s ("dropped", "cache_overflow"), for nothing may stay
 * longer. Delivered ones over size or age just go. Sizes are kept as sums, so a
 * call with nothing to do costs microseconds. Within a transaction.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_trim(mayday_store_t *store,
                                                const mayday_store_bounds_t *bounds,
                                                uint64_t now_us);

/*
 * The newest event that this connection's trims gave up undelivered and that was
 * committed; 0: none. No queue row up to it is left, so nobody may send those that
 * are still in memory: they were counted as dropped.
 */
int64_t mayday_store_given_up(const mayday_store_t *store);

typedef struct {
    mayday_slice_t user; /* id, email, username or ip; empty: any        */
    uint64_t before_us;  /* 0: any                                     */
    bool all;
} mayday_store_purge_t;

typedef struct {
    uint64_t events;  /* all                        */
    uint64_t dropped; /* of these, by rules, before */
} mayday_store_purged_t;

/*
 * Erases events, queue rows and dropped ones included, and compacts the file so
 * that nothing is left in it. Dropped ones have no user any more: of a user those
 * go that hold the text as a whole value. Files that were moved aside as corrupt
 * go whole. Counts stay. *purged: how many, also on an error. Takes its own
 * transactions.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_store_purge(mayday_store_t *store,
                                                 const mayday_store_purge_t *what,
                                                 mayday_store_purged_t *purged);

/*
 * How often this process has purged: whoever keeps events in memory forgets them
 * when it changes. Any thread.
 */
uint64_t mayday_store_purges(void);

/* The same of purges of everything: what was made of events beside the store goes as well. */
uint64_t mayday_store_purges_all(void);

#endif
