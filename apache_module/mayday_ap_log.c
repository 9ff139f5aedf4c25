/*
 * Error-log lines as evidence of what became of a request.
 *
 * httpd tells modules of each line as it is logged, long before log_transaction
 * asks what happened, perhaps in another thread (async write completion, HTTP/2),
 * and of a refused connection without saying whose it was. So lines are put into
 * a fixed table of this process, made when the child starts, keyed by the first
 * request's address and time. A line without a request goes to the one that this
 * thread serves: known from post_read_request until the thread turns away from
 * the connection, compared only, for its memory may be gone.
 *
 * Only failing requests come here. A line is copied as it is; what it tells is
 * asked when its request ends (mayday_ap_kind.c). Nothing is allocated, nothing
 * logged. The table has one lock of this process, held for a few hundred
 * instructions; a healthy request looks at one word of it without locking. When
 * all places are taken the oldest goes: there are requests that never reach
 * log_transaction (health checks).
 */
#include "mod_mayday.h"

#include <stdlib.h>

/* A request's evidence stays until it is logged: with HTTP/2 there are more than threads. */
#define EVIDENCE_PER_THREAD 16
#define EVIDENCE_MAX 1024
#define LINE_SIZE_MAX 1536u

_Atomic(mayday_ap_evidence_t *) mayday_ap_buckets[MAYDAY_AP_BUCKETS];

static struct {
    mayday_lock_t lock; /* guards all but the reading of buckets' heads */
    mayday_ap_evidence_t *free;
    mayday_ap_evidence_t *all;
    unsigned count;
} table;

static _Thread_local struct {
    const request_rec *first; /* compared, never followed */
    apr_time_t time;
    bool quiet;
} current;

/*
 * Not of the child's pool, for threads may still serve when that is cleared at
 * the end. Untouched pages cost nothing. No memory: no evidence.
 */
void
mayday_ap_log_init(int threads)
{
    int count =
        threads < EVIDENCE_MAX / EVIDENCE_PER_THREAD ? threads * EVIDENCE_PER_THREAD : EVIDENCE_MAX;

    table.all = calloc((size_t) count, sizeof(*table.all));
    table.count = table.all != NULL ? (unsigned) count : 0;
    table.free = NULL;
    for (unsigned i = table.count; i-- > 0;) {
        table.all[i].next = table.free;
        table.free = &table.all[i];
    }
}

void
mayday_ap_log_enter(const request_rec *first)
{
    current.first = first;
    current.time = first->request_time;
}

void
mayday_ap_log_leave(void)
{
    current.first = NULL;
}

void
mayday_ap_log_quiet(bool quiet)
{
    current.quiet = quiet;
}

/* ---- the table ---- */

static inline mayday_ap_evidence_t *
head_of(unsigned bucket)
{
    return atomic_load_explicit(&mayday_ap_buckets[bucket], memory_order_relaxed);
}

static inline void
set_head(unsigned bucket, mayday_ap_evidence_t *evidence)
{
    atomic_store_explicit(&mayday_ap_buckets[bucket], evidence, memory_order_relaxed);
}

static mayday_ap_evidence_t *
find(const request_rec *owner, apr_time_t owner_time)
{
    mayday_ap_evidence_t *e = head_of(mayday_ap_bucket(owner));

    while (e != NULL && (e->owner != owner || e->owner_time != owner_time)) {
        e = e->next;
    }
    return e;
}

static void
unlink_evidence(mayday_ap_evidence_t *evidence)
{
    unsigned bucket = mayday_ap_bucket(evidence->owner);
    mayday_ap_evidence_t *e = head_of(bucket);

    if (e == evidence) {
        set_head(bucket, evidence->next);
    } else {
        while (e->next != evidence) {
            e = e->next;
        }
        e->next = evidence->next;
    }
    evidence->owner = NULL;
}

static mayday_ap_evidence_t *
steal_oldest(void)
{
    mayday_ap_evidence_t *oldest = NULL;

    for (unsigned i = 0; i < table.count; i++) {
        mayday_ap_evidence_t *e = &table.all[i];

        if (e->owner != NULL && (oldest == NULL || e->lines[0].time < oldest->lines[0].time)) {
            oldest = e;
        }
    }
    if (oldest != NULL) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_LINES_LOST);
        unlink_evidence(oldest);
    }
    return oldest;
}

/* NULL: every place is being read at this moment. */
static mayday_ap_evidence_t *
place_for(const request_rec *owner, apr_time_t owner_time)
{
    mayday_ap_evidence_t *e = table.free;
    unsigned bucket = mayday_ap_bucket(owner);

    if (e != NULL) {
        table.free = e->next;
    } else {
        e = steal_oldest();
        if (e == NULL) {
            return NULL;
        }
    }
    e->owner = owner;
    e->owner_time = owner_time;
    e->line_count = e->text_len = 0;
    e->next = head_of(bucket);
    set_head(bucket, e);
    return e;
}

mayday_ap_evidence_t *
mayday_ap_log_take(const request_rec *first)
{
    mayday_ap_evidence_t *e;

    if (!mayday_ap_log_may_have(first)) {
        return NULL;
    }
    mayday_lock(&table.lock);
    e = find(first, first->request_time);
    if (e != NULL) {
        unlink_evidence(e);
    }
    mayday_unlock(&table.lock);
    return e;
}

void
mayday_ap_log_release(mayday_ap_evidence_t *evidence)
{
    mayday_lock(&table.lock);
    evidence->next = table.free;
    table.free = evidence;
    mayday_unlock(&table.lock);
}

/* ---- lines; all under the lock ---- */

static struct {
    apr_status_t status; /* 0: none yet */
    size_t len;
    char text[160];
} described;

static inline void
append(mayday_ap_evidence_t *e, const char *data, size_t len)
{
    size_t room = MAYDAY_AP_TEXT_SIZE - e->text_len;

    len = len < room ? len : room;
    if (len > 0) { /* an empty text may be NULL, which memcpy may not be given */
        memcpy(e->text + e->text_len, data, len);
        e->text_len += (unsigned) len;
    }
}

/* "(111)Connection refused: ", as httpd itself begins such a line. */
static void
describe(apr_status_t status)
{
    char message[120];
    mayday_buf_t out;
    const char *words = NULL;

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
    words = strerrordesc_np(status); /* no locale, no lock */
#endif
    if (words == NULL) {
        words = apr_strerror(status, message, sizeof(message));
    }
    mayday_buf_init(&out, described.text, sizeof(described.text));
    mayday_buf_addf(&out, "(%d)%s: ", status, words);
    described.status = status;
    described.len = out.len;
}

/* Requests that fail one after the other nearly always fail with the same. */
static void
append_status(mayday_ap_evidence_t *e, apr_status_t status)
{
    if (described.status != status) {
        describe(status);
    }
    append(e, described.text, described.len);
}

/* The peer that mod_proxy asks now: with a balancer the next line may be of another. */
static void
append_peer(mayday_ap_evidence_t *e, mayday_ap_line_t *line, const request_rec *r)
{
    char storage[MAYDAY_AP_PEER_SIZE];
    mayday_ap_backend_t backend;
    mayday_slice_t peer;

    if (!mayday_ap_backend(r, &backend)) {
        return;
    }
    peer = mayday_ap_peer(&backend, storage);
    append(e, peer.data, peer.len);
    line->peer_len = (uint16_t) (e->text_len - line->peer);
}

/* What fails here does not make the client's request fail: a subrequest, an ErrorDocument. */
static bool
is_aside(const request_rec *r)
{
    return r->main != NULL || (r->prev != NULL && ap_is_HTTP_ERROR(r->prev->status));
}

static __attribute__((noinline)) void
add_line(mayday_ap_evidence_t *e, const ap_errorlog_info *info, mayday_slice_t text)
{
    mayday_ap_line_t *line = &e->lines[e->line_count];
    const request_rec *r = info->r;

    if (e->line_count == MAYDAY_AP_LINES_MAX || e->text_len == MAYDAY_AP_TEXT_SIZE) {
        mayday_lane_count(&mayday_ap.lane, MAYDAY_COUNTER_LINES_LOST);
        return;
    }
    e->line_count++;
    line->time = apr_time_now();
    line->status = info->status;
    line->level = (uint8_t) info->level;
    line->has_request = r != NULL;
    line->aside = r != NULL && is_aside(r);
    line->is_sent = r != NULL && r->sent_bodyct;
    line->peer = (uint16_t) e->text_len;
    line->peer_len = 0;
    if (r != NULL) {
        append_peer(e, line, r);
    }
    line->text = (uint16_t) e->text_len;
    if (info->status != 0) {
        append_status(e, info->status);
    }
    line->words = (uint16_t) e->text_len;
    append(e, text.data, text.len < LINE_SIZE_MAX ? text.len : LINE_SIZE_MAX);
    line->text_len = (uint16_t) (e->text_len - line->text);
}

/* The lines without a request just before this one of r were about the same thing. */
static void
claim_lines(mayday_ap_evidence_t *e, const request_rec *r)
{
    bool aside = is_aside(r);

    for (unsigned i = e->line_count; aside && i-- > 0 && !e->lines[i].has_request;) {
        e->lines[i].aside = true;
    }
}

void
mayday_ap_error_log(const ap_errorlog_info *info, const char *line)
{
    mayday_slice_t text;
    mayday_ap_evidence_t *e;
    const request_rec *owner;
    apr_time_t owner_time;

    if (info->level > APLOG_WARNING || info->level < 0 || !mayday_ap.serving || current.quiet) {
        return;
    }
    if (info->r != NULL) {
        owner = mayday_ap_first(info->r);
        owner_time = owner->request_time;
    } else {
        owner = current.first;
        owner_time = current.time;
    }
    if (owner == NULL) {
        return;
    }
    text = mayday_slice_str(line);
    mayday_lock(&table.lock);
    e = find(owner, owner_time);
    if (e == NULL) {
        e = place_for(owner, owner_time);
    } else if (info->r != NULL && !e->lines[e->line_count - 1].has_request) {
        claim_lines(e, info->r);
        if (mayday_ap_repeats_attempt(text)) {
            e = NULL;
        }
    }
    if (e != NULL) {
        add_line(e, info, text);
    }
    mayday_unlock(&table.lock);
}
