/*
 * What became of a request: whether it failed, and how. From what httpd and
 * mod_proxy left on the request first (status, notes), from the error log's
 * lines where nothing else tells.
 *
 * Runs in log_transaction, for requests that may have failed. Allocates nothing,
 * never blocks. Counterpart: ngx_module/ngx_http_mayday_kind.c.
 */
#include "mod_mayday.h"

#include "http_protocol.h"

#include "core/capture/cause.h"

/* ---- lines ---- */

int
mayday_ap_errno(apr_status_t status)
{
    if (APR_STATUS_IS_TIMEUP(status)) {
        return ETIMEDOUT;
    }
    return status > 0 && status < APR_OS_START_ERROR ? status : 0;
}

/* What the text alone cannot tell: time-outs, and whether the header had gone out. */
static mayday_kind_t
refine(mayday_kind_t kind, const mayday_ap_line_t *line)
{
    bool timed_out = APR_STATUS_IS_TIMEUP(line->status);

    switch (kind) {
    case MAYDAY_KIND_UPSTREAM_SEND_TIMEOUT:
        return timed_out ? kind : MAYDAY_KIND_UPSTREAM_CLOSED;
    case MAYDAY_KIND_UPSTREAM_CLOSED:
    case MAYDAY_KIND_UPSTREAM_READ_TIMEOUT:
        if (line->is_sent) {
            return MAYDAY_KIND_UPSTREAM_TRUNCATED;
        }
        return timed_out ? MAYDAY_KIND_UPSTREAM_READ_TIMEOUT : kind;
    default:
        return kind;
    }
}

/* A peer was tried: a new attempt, or more about the last one. */
static void
add_peer(mayday_ap_failure_t *f, const mayday_ap_line_t *line, mayday_slice_t words)
{
    mayday_slice_t *last = &f->peers[f->peer_count];

    if (line->has_request) {
        *last = mayday_slice(f->evidence->text + line->peer, line->peer_len);
        if (f->peer_count > 0 && mayday_slice_eq(last[-1], *last)) {
            return;
        }
    } else if (f->proxied) {
        *last = mayday_ap_peer_of_attempt(words, &f->backend, f->peer, f->storage[f->peer_count]);
    } else {
        return;
    }
    f->peer_count += last->len > 0;
}

/* Finds the cause, the first line that tells a kind, and who was tried. */
static void
read_lines(mayday_ap_failure_t *f)
{
    mayday_ap_evidence_t *e = f->evidence;
    mayday_ap_line_t *line = e != NULL ? e->lines : NULL;
    mayday_ap_line_t *end = e != NULL ? line + e->line_count : NULL;

    f->cause = NULL;
    f->peer_count = 0;
    for (; line < end; line++) {
        const char *words = e->text + line->words;
        mayday_slice_t text =
            mayday_slice(words, (size_t) (line->text + line->text_len - line->words));
        int error = mayday_ap_errno(line->status);

        line->kind = MAYDAY_KIND_NONE;
        if (line->aside) {
            continue;
        }
        line->kind =
            (uint8_t) refine(mayday_cause_classify(MAYDAY_SERVER_HTTPD, text, &error), line);
        if (line->kind == MAYDAY_KIND_NONE) {
            continue;
        }
        /* a failed handshake first looks like a hang-up */
        if (f->cause == NULL || (f->cause->kind == MAYDAY_KIND_UPSTREAM_CLOSED &&
                                 line->kind == MAYDAY_KIND_UPSTREAM_TLS)) {
            f->cause = line;
        }
        if (line->kind != MAYDAY_KIND_LIMITED && line->kind != MAYDAY_KIND_UPSTREAM_UNAVAILABLE) {
            add_peer(f, line, text);
        }
    }
}

/* ---- what mod_proxy left ---- */

/* Schemes of which mod_proxy notes the status that the upstream answered. */
static bool
notes_status(const mayday_ap_failure_t *f)
{
    return f->proxied && (mayday_slice_starts(f->backend.scheme, MAYDAY_SLICE("http")) ||
                          mayday_slice_starts(f->backend.scheme, MAYDAY_SLICE("ws")));
}

/* "502", as mod_proxy notes it; 0: that is no status. */
static int
status_of(const char *digits)
{
    int status = 0;

    for (int i = 0; i < 3; i++) {
        if (!mayday_is_digit(digits[i])) {
            return 0;
        }
        status = status * 10 + (digits[i] - '0');
    }
    return status;
}

/* Whether FastCGI, uwsgi … answered: of that there is no note. */
static bool
is_answered(const mayday_ap_failure_t *f)
{
    const request_rec *r = f->subject;

    if (f->cause != NULL) {
        return f->cause->kind == MAYDAY_KIND_UPSTREAM_TRUNCATED;
    }
    return r->status_line != ap_get_status_line(r->status); /* not in httpd's own words */
}

/* The status of the upstream's answer, or 0. */
static int
answer_of_upstream(const mayday_ap_failure_t *f)
{
    const char *noted = apr_table_get(f->subject->notes, "proxy-status");

    if (noted != NULL) {
        return status_of(noted);
    }
    return !notes_status(f) && is_answered(f) ? f->subject->status : 0;
}

/* mod_proxy's own failure without a line: LogLevel crit, or one that it does not log. */
static mayday_kind_t
kind_by_notes(const mayday_ap_failure_t *f)
{
    static const struct {
        const char *contains;
        mayday_kind_t kind;
    } reasons[] = {
        {"DNS lookup failure", MAYDAY_KIND_UPSTREAM_DNS},
        {"SSL Handshake", MAYDAY_KIND_UPSTREAM_TLS},
        {"Timeout", MAYDAY_KIND_UPSTREAM_READ_TIMEOUT},
        {"Error reading from remote server", MAYDAY_KIND_UPSTREAM_CLOSED},
        {"Corrupt status line", MAYDAY_KIND_UPSTREAM_INVALID},
        {"Malformed connection header", MAYDAY_KIND_UPSTREAM_INVALID},
    };
    const char *notes = apr_table_get(f->subject->notes, "error-notes");

    if (apr_table_get(f->subject->notes, "proxy_timedout") != NULL) {
        return MAYDAY_KIND_UPSTREAM_READ_TIMEOUT;
    }
    for (size_t i = 0; notes != NULL && i < MAYDAY_COUNT(reasons); i++) {
        if (strstr(notes, reasons[i].contains) != NULL) {
            return reasons[i].kind;
        }
    }
    switch (f->status) {
    case HTTP_BAD_GATEWAY:
        /* it began to answer, but that was not what became of it */
        return f->answered != 0 ? MAYDAY_KIND_UPSTREAM_INVALID : MAYDAY_KIND_UPSTREAM_CLOSED;
    case HTTP_SERVICE_UNAVAILABLE:
        return MAYDAY_KIND_UPSTREAM_UNREACHABLE;
    case HTTP_GATEWAY_TIME_OUT:
        return MAYDAY_KIND_UPSTREAM_READ_TIMEOUT;
    default:
        /* mod_proxy_uwsgi logs nothing when no answer comes */
        return mayday_slice_eq(f->backend.scheme, MAYDAY_SLICE("uwsgi"))
                   ? MAYDAY_KIND_UPSTREAM_CLOSED
                   : MAYDAY_KIND_SERVER_INTERNAL;
    }
}

/* ---- the kind ---- */

static mayday_kind_t
kind_of_failed_status(const mayday_ap_failure_t *f)
{
    if (f->cause != NULL && f->cause->kind == MAYDAY_KIND_LIMITED) {
        return MAYDAY_KIND_LIMITED;
    }
    if (f->answered != 0 && f->answered == f->subject->status) {
        return MAYDAY_KIND_UPSTREAM_RESPONSE;
    }
    if (f->cause != NULL) {
        /* the status can tell a time-out where the line cannot (SCGI) */
        return f->cause->kind == MAYDAY_KIND_UPSTREAM_CLOSED && f->status == HTTP_GATEWAY_TIME_OUT
                   ? MAYDAY_KIND_UPSTREAM_READ_TIMEOUT
                   : f->cause->kind;
    }
    return f->proxied ? kind_by_notes(f) : MAYDAY_KIND_SERVER_INTERNAL;
}

/* The status looks well: an upstream's failure that was logged may still count. */
static mayday_kind_t
kind_of_good_status(const mayday_ap_failure_t *f)
{
    int status = f->subject->status;

    if (f->cause == NULL || f->cause->kind == MAYDAY_KIND_LIMITED ||
        status >= HTTP_INTERNAL_SERVER_ERROR) {
        return MAYDAY_KIND_NONE;
    }
    if (f->cause->kind == MAYDAY_KIND_UPSTREAM_TRUNCATED) {
        return MAYDAY_KIND_UPSTREAM_TRUNCATED;
    }
    if (f->answered != 0 || (!notes_status(f) && status < HTTP_BAD_REQUEST)) {
        return MAYDAY_KIND_RETRIED;
    }
    /* httpd hung up on the client instead of answering, as it does on kept-alive connections */
    return status < HTTP_BAD_REQUEST ? f->cause->kind : MAYDAY_KIND_NONE;
}

void
mayday_ap_judge(mayday_ap_failure_t *f, bool status_failed)
{
    f->proxied = mayday_ap_backend(f->subject, &f->backend);
    if (f->proxied) {
        f->peer = mayday_ap_peer(&f->backend, f->peer_storage);
    }
    read_lines(f);
    f->answered = f->proxied ? answer_of_upstream(f) : 0;
    f->status = (unsigned) f->subject->status;
    if (f->first->connection->aborted && mayday_status_set_has(f->place->failed_status, 499)) {
        f->status = 499;
        f->kind = MAYDAY_KIND_CLIENT_CLOSED;
    } else {
        f->kind = status_failed ? kind_of_failed_status(f) : kind_of_good_status(f);
    }
}
