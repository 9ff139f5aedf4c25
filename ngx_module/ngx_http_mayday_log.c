/*
 * Error-log lines: a node of our own at the head of every chain of logs that
 * http uses gets each line as it is written, and keeps it until its request
 * ends in the log phase (ngx_http_mayday_capture.c).
 *
 *   connection's log ─► ours (writer) ─► the old head ─► …
 *
 * Only as head is the writer called with the connection's own ngx_log_t, which
 * tells whose line it is: streams of HTTP/2 share the connection's number but
 * have a log each. That log is compared later, never followed.
 *
 * The ring is the process's own; nothing is allocated after the configuration.
 * A line that is pushed out before its request has ended is counted.
 */
#include "ngx_module/ngx_http_mayday.h"

#define NGX_HTTP_MAYDAY_LINES 128

static void ngx_http_mayday_log_writer(ngx_log_t *log, ngx_uint_t level, u_char *buf, size_t len);


/*
 * Lines [first, next) of the ring, by number; back to 0 whenever none is left,
 * so that a quiet process touches only the first few.
 */
static ngx_http_mayday_line_t ngx_http_mayday_lines[NGX_HTTP_MAYDAY_LINES];
static ngx_uint_t ngx_http_mayday_lines_first;
static ngx_uint_t ngx_http_mayday_lines_next;
static volatile sig_atomic_t ngx_http_mayday_lines_held;

ngx_uint_t ngx_http_mayday_lines_pending;
ngx_log_handler_pt ngx_http_mayday_http_log_handler;


/* Takes our node out of a chain and returns it, or NULL. The head's stays. */
static ngx_log_t *
ngx_http_mayday_log_unlink(ngx_log_t *head)
{
    ngx_log_t *log, **link;

    for (link = &head->next; *link; link = &(*link)->next) {
        log = *link;

        if (log->writer == ngx_http_mayday_log_writer) {
            *link = log->next;
            return log;
        }
    }

    return NULL;
}


/*
 * The pool's end: nginx logs on after the module has been unloaded, and must not
 * come to our writer then.
 */
static void
ngx_http_mayday_log_detach(void *data)
{
    ngx_log_t *head = data;

    if (head->writer != ngx_http_mayday_log_writer) {
        (void) ngx_http_mayday_log_unlink(head);

    } else if (head->next != NULL) {
        *head = *head->next;

    } else {
        ngx_memzero(head, sizeof(ngx_log_t));
    }
}


ngx_int_t
ngx_http_mayday_log_attach(ngx_pool_t *pool, ngx_log_t *head)
{
    ngx_log_t *copy;
    ngx_pool_cleanup_t *cln;

    if (head->writer == ngx_http_mayday_log_writer) {
        return NGX_OK;
    }

    /* A later error_log of a higher level may have taken the head's place. */

    copy = ngx_http_mayday_log_unlink(head);

    if (copy == NULL) {
        copy = ngx_palloc(pool, sizeof(ngx_log_t));
        cln = ngx_pool_cleanup_add(pool, 0);

        if (copy == NULL || cln == NULL) {
            return NGX_ERROR;
        }

        cln->handler = ngx_http_mayday_log_detach;
        cln->data = head;
    }

    /* Others point to the head, so it is its content that moves. */

    *copy = *head;

    head->log_level = ngx_max(copy->log_level, NGX_LOG_ERR);
    head->file = NULL;
    head->wdata = NULL;
    head->writer = ngx_http_mayday_log_writer;

    /* An empty node would be written to under debug_connection. */

    head->next = (copy->file || copy->writer) ? copy : copy->next;

    return NGX_OK;
}


typedef enum {
    NGX_HTTP_MAYDAY_NOBODYS, /* a handshake's, a stream's: no request will ask for it */
    NGX_HTTP_MAYDAY_REQUESTS,
    NGX_HTTP_MAYDAY_SUBREQUESTS
} ngx_http_mayday_whose_e;


/*
 * Where the message ends and ", client: …, server: …, request: "…"" begins, or
 * the line's end.
 */
static u_char *
ngx_http_mayday_message_end(u_char *p, u_char *last)
{
    for (p = memchr(p, ',', last - p); p; p = memchr(p + 1, ',', last - p - 1)) {

        if (last - p < (ptrdiff_t) sizeof(", client: ") - 1) {
            break;
        }

        if (ngx_memcmp(p, ", client: ", sizeof(", client: ") - 1) == 0) {
            return p;
        }
    }

    return last;
}


/*
 * By what nginx adds to a message: ", client: …, request: "…"", and of a
 * subrequest ", subrequest: "…"" next. A line that is cut before is a request's.
 */
static ngx_http_mayday_whose_e
ngx_http_mayday_whose_by_text(mayday_slice_t added)
{
    size_t at;
    mayday_slice_t request, end, subrequest;

    request = MAYDAY_SLICE(", request: \"");
    end = MAYDAY_SLICE("\", ");
    subrequest = MAYDAY_SLICE("\", subrequest: \"");

    if (added.len == 0) {
        return NGX_HTTP_MAYDAY_REQUESTS;
    }

    at = mayday_slice_find(added, request, 0);

    if (at == SIZE_MAX) {
        return NGX_HTTP_MAYDAY_NOBODYS;
    }

    at = mayday_slice_find(added, end, at + request.len);

    return at != SIZE_MAX
           && mayday_slice_starts(mayday_slice(added.data + at, added.len - at), subrequest)
           ? NGX_HTTP_MAYDAY_SUBREQUESTS : NGX_HTTP_MAYDAY_REQUESTS;
}


/*
 * Whose line it is: as the connection's log knows, or, before this process has
 * seen how http's logs look, by the text behind the message, [p, last).
 */
static ngx_http_mayday_whose_e
ngx_http_mayday_whose(ngx_log_t *log, u_char *p, u_char *last)
{
    ngx_http_log_ctx_t *ctx;

    if (log->handler == ngx_http_mayday_http_log_handler && log->handler != NULL) {
        ctx = log->data;

        if (ctx->request == NULL) {
            return NGX_HTTP_MAYDAY_NOBODYS;
        }

        return ctx->current_request == ctx->request ? NGX_HTTP_MAYDAY_REQUESTS
                                                    : NGX_HTTP_MAYDAY_SUBREQUESTS;
    }

    return ngx_http_mayday_whose_by_text(mayday_slice(p, last - p));
}


static void
ngx_http_mayday_log_writer(ngx_log_t *log, ngx_uint_t level, u_char *buf, size_t len)
{
    u_char *p, *end, *last;
    ngx_time_t *tp;
    ngx_http_mayday_line_t *line;
    ngx_http_mayday_whose_e whose;

    if (level > NGX_LOG_ERR
        || log->connection == 0
        || ngx_http_mayday_state == NGX_HTTP_MAYDAY_OFF
        || ngx_http_mayday_lines_held)
    {
        return;
    }

    /* nginx logs from signal handlers, too. */

    ngx_http_mayday_lines_held = 1;

    last = buf + len;

    if (len && last[-1] == LF) {
        last--;
    }

    /* "2024/05/01 12:00:00 [error] 812#812: *3 message" */

    p = memchr(buf, '*', last - buf);

    if (p == NULL) {
        goto done;
    }

    do {
        if (++p == last) {
            goto done;
        }
    } while (*p != ' ');

    p++;
    end = ngx_http_mayday_message_end(p, last);
    whose = ngx_http_mayday_whose(log, end, last);

    if (whose == NGX_HTTP_MAYDAY_NOBODYS) {
        goto done;
    }

    line = &ngx_http_mayday_lines[ngx_http_mayday_lines_next % NGX_HTTP_MAYDAY_LINES];

    if (ngx_http_mayday_lines_next - ngx_http_mayday_lines_first == NGX_HTTP_MAYDAY_LINES) {
        ngx_http_mayday_lines_first++;

        if (line->log != NULL) {
            mayday_lane_count(&ngx_http_mayday_lane, MAYDAY_COUNTER_LINES_LOST);
        }
    }

    tp = ngx_timeofday();

    line->log = log;
    line->connection = log->connection;
    line->level = level - 1;
    line->subrequest = whose == NGX_HTTP_MAYDAY_SUBREQUESTS;
    line->time_us = (uint64_t) tp->sec * 1000000 + tp->msec * 1000;
    line->len = ngx_min((size_t) (end - p), sizeof(line->text));
    ngx_memcpy(line->text, p, line->len);

    ngx_http_mayday_lines_next++;
    ngx_http_mayday_lines_pending = ngx_http_mayday_lines_next - ngx_http_mayday_lines_first;

done:

    ngx_http_mayday_lines_held = 0;
}


ngx_uint_t
ngx_http_mayday_lines_take(ngx_log_t *log, ngx_http_mayday_line_t **lines, ngx_uint_t max)
{
    ngx_uint_t i, n;
    ngx_http_mayday_line_t *line;

    n = 0;

    for (i = ngx_http_mayday_lines_first; i != ngx_http_mayday_lines_next; i++) {
        line = &ngx_http_mayday_lines[i % NGX_HTTP_MAYDAY_LINES];

        if (line->log == log && line->connection == log->connection) {
            line->log = NULL;

            if (!line->subrequest && n < max) {
                lines[n++] = line;
            }
        }

        if (line->log == NULL && i == ngx_http_mayday_lines_first) {
            ngx_http_mayday_lines_first++;
        }
    }

    if (ngx_http_mayday_lines_first == ngx_http_mayday_lines_next) {
        ngx_http_mayday_lines_first = 0;
        ngx_http_mayday_lines_next = 0;
    }

    ngx_http_mayday_lines_pending = ngx_http_mayday_lines_next - ngx_http_mayday_lines_first;

    return n;
}


void
ngx_http_mayday_lines_hold(ngx_flag_t hold)
{
    ngx_http_mayday_lines_held = hold;
}
