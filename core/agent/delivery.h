/*
 * Delivery: sends queued events to their DSNs, in a thread of its own, by one
 * libcurl multi handle. The only room that includes curl, besides the command's
 * client.
 *
 * Per DSN: oldest first; send rate (token bucket); rate limits of the server
 * (X-Sentry-Rate-Limits on any status, Retry-After, bare 429 = 60 s); back-off
 * after network errors, one probe at a time; a bounded number in flight. A DSN
 * that is slow or limited does not hold up another. Reactions:
 *
 *   2xx             done
 *   429             limits obeyed, the event is dropped (reason
 *                   ratelimit_backoff, no client report)
 *   413, other 4xx, 5xx, redirects   dropped, client report send_error, logged
 *   network error   kept, back-off from 1 s doubling to 5 min with jitter
 *   while limited   the queue waits
 *   over 4 MiB      dropped, client report send_error, logged
 *
 * Client reports go out once a minute and at the end, in envelopes of their own.
 */
#ifndef MAYDAY_DELIVERY_H
#define MAYDAY_DELIVERY_H

#include "core/agent/store.h"
#include "core/event/settings_read.h"

typedef struct mayday_delivery mayday_delivery_t;

/* What became of the last transfer to a DSN; a snapshot for status. */
typedef struct {
    char dsn[256];                    /* redacted: "https://[Filtered]@host/42" */
    uint64_t queued, sent, in_flight; /* sent: since this agent's start */
    uint64_t last_sent_us;            /* 0: never */
    uint64_t last_error_us;           /* 0: never */
    char last_error[256];             /* for people */
    uint64_t limited_until_us;        /* 0: not limited  */
    uint64_t retry_at_us;             /* 0: no back-off  */
} mayday_delivery_info_t;

/* Starts the thread with its own connection to the store. NULL: error. */
mayday_delivery_t *mayday_delivery_new(const char *store_path, const mayday_settings_t *settings,
                                       char *error, size_t error_size);

/* New settings (proxy, CA, rate); they are copied. Any thread. */
void mayday_delivery_configure(mayday_delivery_t *delivery, const mayday_settings_t *settings);

/*
 * A queue row that was just committed, for sending it without reading it back.
 * One thread hands over, in order of rows; it still owns what is given here.
 * Where it may not go at once, or memory is short, it is only in the queue.
 */
typedef struct {
    int64_t row, dsn;        /* of mayday_store_queued                             */
    mayday_slice_t event_id; /* 32 hex digits                                      */
    mayday_slice_t json, trace;
    uint64_t purges; /* mayday_store_purges before the row's transaction began */
} mayday_fresh_t;
void mayday_delivery_hand(mayday_delivery_t *delivery, const mayday_fresh_t *fresh);

/* Rows up to this one were given up (mayday_store_given_up). Any thread. */
void mayday_delivery_give_up(mayday_delivery_t *delivery, int64_t row);

/* There is something new in the queue that was not handed over. Any thread, cheap. */
void mayday_delivery_wake(mayday_delivery_t *delivery);

/*
 * Sends what is due for at most timeout_ms, then ends the thread; what is in
 * flight stays queued. Frees everything.
 */
void mayday_delivery_free(mayday_delivery_t *delivery, uint32_t timeout_ms);

/*
 * Numbers of every DSN that is in the settings or has events left; any thread.
 * visit runs under delivery's lock: it copies and returns.
 */
typedef void (*mayday_delivery_visit_pt)(void *ctx, const mayday_delivery_info_t *info);
void mayday_delivery_visit(mayday_delivery_t *delivery, mayday_delivery_visit_pt visit, void *ctx);

/*
 * Sends one envelope now, outside the queue, with the same proxy and CA, and
 * waits (send-event; called from an API thread). Returns the HTTP status, or 0
 * with error saying exactly what is wrong: name not found, connection refused,
 * certificate, time-out, and in which step. A status from 300 on has an error
 * too: "403: the key is not known to the project (…)". answer gets the server's
 * words (X-Sentry-Error, detail).
 */
long mayday_delivery_send_now(mayday_delivery_t *delivery, const char *dsn, mayday_slice_t envelope,
                              char *answer, size_t answer_size, char *error, size_t error_size);

#endif
