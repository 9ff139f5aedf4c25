/*
 * A bounded text buffer over the caller's storage: the limit is given at init,
 * what does not fit is cut, the cut is remembered, and the text always ends
 * with NUL. Allocates nothing.
 */
#ifndef MAYDAY_BUF_H
#define MAYDAY_BUF_H

#include "core/base/base.h"

typedef struct {
    char *data;     /* the caller's, size bytes                    */
    size_t size;    /* storage, the NUL included; at least 1       */
    size_t len;     /* bytes of text, always < size                */
    bool truncated; /* something did not fit                       */
} mayday_buf_t;

void mayday_buf_init(mayday_buf_t *b, char *storage, size_t size);
void mayday_buf_add(mayday_buf_t *b, mayday_slice_t s);
void mayday_buf_adds(mayday_buf_t *b, const char *s);
void mayday_buf_addf(mayday_buf_t *b, const char *fmt, ...) MAYDAY_PRINTF(2, 3);
void mayday_buf_addc(mayday_buf_t *b, char c);

/* Percent-encodes all but RFC 3986's unreserved characters. */
void mayday_buf_add_encoded(mayday_buf_t *b, mayday_slice_t s);

static inline mayday_slice_t
mayday_buf_slice(const mayday_buf_t *b)
{
    return mayday_slice(b->data, b->len);
}

#endif
