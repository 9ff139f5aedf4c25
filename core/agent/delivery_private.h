/*
 * What the files of delivery share; nobody else includes this.
 *
 *   delivery.c           the thread, its loop, what other threads may call
 *   delivery_config.c    a copy of what delivery needs of the settings
 *   delivery_target.c    one DSN: what is due, limits, back-off, results
 *   delivery_rows.c      its events in memory: from the store, or fresh from the pipeline
 *   delivery_ledger.c    results, written to the store in batches
 *   delivery_transfer.c  one request: curl's handle, body, answer
 *   delivery_error.c     what went wrong, for people
 *   delivery_now.c       the one envelope that is sent while somebody waits
 *
 * Everything belongs to the delivery thread, but for what `lock` guards.
 */
#ifndef MAYDAY_DELIVERY_PRIVATE_H
#define MAYDAY_DELIVERY_PRIVATE_H

#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>
#include <curl/curl.h>
#include <stdatomic.h>
#define ZLIB_CONST
#include <zlib.h>

#include "core/agent/delivery.h"
#include "core/agent/ratelimit.h"
#include "core/base/dsn.h"

#define DELIVERY_IN_FLIGHT_MAX 16                   /* of one DSN */
#define DELIVERY_IN_FLIGHT_ALL 128                  /* of all; beyond it every DSN still has one */
#define DELIVERY_LOADED_MAX 64                      /* events read from the store at once */
#define DELIVERY_HELD_BYTES_MAX ((size_t) 8 << 20)  /* of one DSN in memory */
#define DELIVERY_FRESH_BYTES_MAX ((size_t) 4 << 20) /* from the pipeline and not yet begun */
#define DELIVERY_FRESH_BYTES_OF_DSN ((size_t) 2 << 20) /* so that a slow one leaves room */
#define DELIVERY_EVENT_BYTES_MAX ((size_t) 4 << 20)
#define DELIVERY_UNSETTLED_MAX 256 /* results not yet in the store */
#define DELIVERY_SETTLE_MAX 32     /* so many are written at once, unless the store is busy */
#define DELIVERY_SETTLE_LATEST 192 /* with so many it waits for whoever writes to the store */
#define DELIVERY_SETTLE_US 5000    /* the oldest of them waits at most so long */
#define DELIVERY_CONNECT_TIMEOUT_MS 5000
#define DELIVERY_TIMEOUT_MS 30000
#define DELIVERY_ANSWER_BYTES_MAX ((size_t) 64 << 10)
#define DELIVERY_WORDS_SIZE 256  /* of an answer, kept for people */
#define DELIVERY_HEADER_SIZE 512 /* of a header that we read */
#define DELIVERY_REPORT_REASONS_MAX 16
#define DELIVERY_REPORT_US (60ULL * 1000000)
#define DELIVERY_BACKOFF_MIN_US 1000000ULL
#define DELIVERY_BACKOFF_MAX_US (300ULL * 1000000)

/* ---- configuration ---- */

/* Immutable, shared by counting. All strings are never NULL; "" is none. */
typedef struct {
    _Atomic unsigned references;
    mayday_rate_setting_t send_rate;
    char *http_proxy; /* for http; "": directly           */
    char *https_proxy;
    char *no_proxy;
    char *ca_file; /* both "": the system's            */
    char *ca_dir;
    char *sdk_name; /* "mayday.nginx" */
    size_t dsn_count;
    char **dsns; /* of all destinations, each once */
} delivery_config_t;

/* One reference, the caller's. NULL: no memory. */
delivery_config_t *mayday_delivery_config_new(const mayday_settings_t *settings);
void mayday_delivery_config_free(delivery_config_t *config); /* one reference; NULL is fine */

/* ---- transfers ---- */

typedef enum { TRANSFER_EVENT, TRANSFER_REPORT } transfer_kind_t;

/* Where to: what a handle must be told for one DSN. */
typedef struct {
    const mayday_dsn_t *dsn;
    const char *url;
    struct curl_slist *headers;
} delivery_address_t;

/* What a server answered; kept by the callbacks, bounded. */
typedef struct {
    size_t bytes;
    char words[DELIVERY_WORDS_SIZE]; /* the body's beginning */
    char error[DELIVERY_WORDS_SIZE]; /* X-Sentry-Error       */
    char rate_limits[DELIVERY_HEADER_SIZE];
    char retry_after[64];
} delivery_answer_t;

typedef struct delivery_target delivery_target_t;

/* One request; reused. Made and freed by the delivery thread. */
typedef struct delivery_transfer delivery_transfer_t;
struct delivery_transfer {
    delivery_transfer_t *next;
    delivery_target_t *target;  /* whose address the handle was told; NULL: none yet */
    uint64_t config_generation; /* and under which configuration                     */
    CURL *easy;
    bool running;
    transfer_kind_t kind;
    int64_t row;       /* of an event                                       */
    size_t held_bytes; /* what it adds to its target's                      */
    unsigned char *body;
    size_t body_len, body_size;
    delivery_answer_t answer;
    char error[CURL_ERROR_SIZE];
};

/* The compressor and its input, used by one thread. */
typedef struct {
    z_stream stream;
    char *envelope;
    size_t envelope_size;
} delivery_press_t;

MAYDAY_MUST_CHECK mayday_rc_t mayday_delivery_press_init(delivery_press_t *press);
void mayday_delivery_press_fini(delivery_press_t *press);

/* Room for an envelope of so many bytes; data NULL: no memory. */
mayday_buf_t mayday_delivery_press_room(delivery_press_t *press, size_t bytes);

/* Compresses text into *body, growing it. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_delivery_press_run(delivery_press_t *press,
                                                        mayday_slice_t text, unsigned char **body,
                                                        size_t *body_size, size_t *body_len);

/* The headers of all requests to a DSN; NULL: no memory. */
struct curl_slist *mayday_delivery_headers(const mayday_dsn_t *dsn, const char *sdk_name);

/* Tells a new or reset handle all but the body. The answer and error stay with the caller. */
void mayday_delivery_easy_setup(CURL *easy, const delivery_config_t *config,
                                const delivery_address_t *address, delivery_answer_t *answer,
                                char *error);

/* The status that was answered, 0: none came, whatever went wrong afterwards. */
long mayday_delivery_easy_status(CURL *easy);

/* ---- errors, for people ---- */

/* Why no status came. */
void mayday_delivery_explain_failure(mayday_buf_t *out, CURL *easy, CURLcode code,
                                     const char *curl_error, const mayday_dsn_t *dsn,
                                     const delivery_config_t *config);
/* What a status other than 2xx means, with the server's own words. */
void mayday_delivery_explain_status(mayday_buf_t *out, long status,
                                    const delivery_answer_t *answer);
/* The server's own words: X-Sentry-Error, or detail of the body, or the body's beginning. */
void mayday_delivery_words(mayday_buf_t *out, const delivery_answer_t *answer);

/* ---- the ledger ---- */

typedef enum {
    RESULT_SENT,
    RESULT_REFUSED,     /* 4xx, 5xx and redirects: told by a client report */
    RESULT_LIMITED,     /* 429: not told, the server knows                 */
    RESULT_TOO_LARGE,   /* told by a client report                         */
    RESULT_INVALID_DSN, /* cannot be told to anybody                       */
    RESULT_MAX
} delivery_result_t;

typedef struct {
    delivery_target_t *target;
    int64_t row;
    delivery_result_t result;
} delivery_entry_t;

/* Notes what became of a row. There is room for every row in flight. */
void mayday_delivery_ledger_add(mayday_delivery_t *delivery, delivery_target_t *target, int64_t row,
                                delivery_result_t result, uint64_t now_us);

/* Whether one more row may be taken on. */
bool mayday_delivery_ledger_has_room(const mayday_delivery_t *delivery);

/* The report that the target sent was answered: what it told is told. */
void mayday_delivery_ledger_add_report(mayday_delivery_t *delivery, delivery_target_t *target,
                                       uint64_t now_us);

/*
 * Writes all to the store, in one transaction; on failure it keeps all and tries
 * later. wait: even while another thread writes; else it comes back soon.
 */
void mayday_delivery_ledger_settle(mayday_delivery_t *delivery, bool wait, uint64_t now_us);

/* ---- targets ---- */

/* An event of the queue in memory; one heap object with its texts. */
typedef struct delivery_row delivery_row_t;
struct delivery_row {
    delivery_row_t *next;
    int64_t row;
    int64_t dsn;     /* these two of a fresh one only            */
    uint64_t purges; /* of mayday_fresh_t                        */
    bool fresh;      /* it counts among delivery's fresh_bytes   */
    char event_id[33];
    mayday_slice_t json;
    mayday_slice_t trace;
};

typedef struct {
    char reason[40];
    uint64_t n;
} delivery_loss_t;

/* One DSN. Lives until the end; the first three are guarded by lock, for readers. */
struct delivery_target {
    delivery_target_t *next; /* ascending by number */
    mayday_delivery_info_t info;
    bool shown;
    int64_t number; /* of the DSN in the store    */
    char *text;
    bool valid;      /* it parses                  */
    bool configured; /* it is in the settings      */
    mayday_dsn_t dsn;
    char url[MAYDAY_DSN_LEN_MAX + 64];
    struct curl_slist *headers;

    /* The queue in memory. */
    delivery_row_t *rows, **rows_end;
    unsigned row_count;
    size_t held_bytes;     /* of rows and of transfers                       */
    int64_t loaded_row;    /* the last one that came into memory             */
    bool more;             /* the store may hold rows behind it              */
    bool rewind;           /* to be read again from the start once nothing is under way */
    unsigned in_flight;    /* events and reports                             */
    unsigned unsettled;    /* its results in the ledger                      */
    uint64_t queued, sent; /* in the store as of the last refresh; since the start */

    /* What may be sent when; of the monotonic clock. */
    mayday_bucket_t bucket;
    mayday_limits_t limits;
    uint64_t retry_at_us; /* 0: no back-off; else a probe is due then  */
    unsigned failures;    /* in a row                                  */

    /* The client report under way, or answered and not yet settled. */
    delivery_loss_t losses[DELIVERY_REPORT_REASONS_MAX];
    size_t loss_count; /* 0: none */
    bool report_answered;
    uint64_t report_at_us;
};

/* ---- rows (delivery_rows.c) ---- */

/* The oldest row of a target that has some; the caller's. */
delivery_row_t *mayday_delivery_row_take(delivery_target_t *target);
void mayday_delivery_row_free(mayday_delivery_t *delivery, delivery_row_t *row);

/* All rows go; they will be read from the store again, from its start. */
void mayday_delivery_rows_forget(mayday_delivery_t *delivery, delivery_target_t *target);

/* Reads at most limit rows behind those that were there; says whether there may be more. */
void mayday_delivery_rows_load(mayday_delivery_t *delivery, delivery_target_t *target,
                               unsigned limit, uint64_t now_us);

/* Gives what the pipeline handed over to its targets, or leaves it to the store. */
void mayday_delivery_fresh_take(mayday_delivery_t *delivery, uint64_t now_us);
void mayday_delivery_fresh_free(mayday_delivery_t *delivery);

/* ---- all targets ---- */

/* Looks for DSNs and rows that are new in the store. */
void mayday_delivery_targets_refresh(mayday_delivery_t *delivery, uint64_t now_us);
/* After a change of the configuration. */
void mayday_delivery_targets_configure(mayday_delivery_t *delivery);
/* What is in memory may have been erased: forget it. */
void mayday_delivery_targets_forget(mayday_delivery_t *delivery);
/* Client reports are due now, not within the minute. */
void mayday_delivery_targets_report(mayday_delivery_t *delivery);
void mayday_delivery_targets_free(mayday_delivery_t *delivery);

/* Begins all that may begin now. */
void mayday_delivery_target_begin(mayday_delivery_t *delivery, delivery_target_t *target,
                                  uint64_t now_us);
/* When it may begin something, if nothing else happens; UINT64_MAX: never. */
uint64_t mayday_delivery_target_next_us(const mayday_delivery_t *delivery,
                                        const delivery_target_t *target, uint64_t now_us);
/* curl is through with a transfer. */
void mayday_delivery_target_end(mayday_delivery_t *delivery, delivery_transfer_t *transfer,
                                CURLcode code, uint64_t now_us);

struct mayday_delivery {
    apr_pool_t *pool;
    apr_thread_t *thread;
    apr_thread_mutex_t *lock; /* guards config_latest, the list of targets and their info */
    delivery_config_t *config_latest;
    _Atomic bool woken;
    _Atomic bool stopping;
    _Atomic uint64_t stop_at_us; /* monotonic */
    _Atomic int64_t given_up;    /* rows up to this one are not to be sent any more */

    /* Fresh events, ascending. */
    _Atomic size_t fresh_bytes;     /* here and with the targets */
    apr_thread_mutex_t *fresh_lock; /* guards the rest           */
    delivery_row_t *fresh, **fresh_end;
    bool fresh_gap; /* some were left to the store, behind those on the list */

    mayday_store_t *store;
    delivery_config_t *config; /* as the thread knows it */
    uint64_t config_generation;
    CURLM *multi;
    delivery_press_t press;
    delivery_target_t *targets;
    delivery_transfer_t *transfers;
    unsigned in_flight;
    uint64_t purges; /* as of mayday_store_purges */
    uint64_t refresh_at_us;
    int64_t counted_row; /* events up to it are in the targets' numbers of queued ones */

    delivery_entry_t unsettled[DELIVERY_UNSETTLED_MAX];
    size_t unsettled_count;
    size_t reports_answered;
    uint64_t settle_at_us;      /* the oldest result is due; 0: none     */
    uint64_t store_retry_at_us; /* the store refused; nothing begins before */
};

#endif
