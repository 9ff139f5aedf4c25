/*
 * The bounded text buffer. Runs anywhere, allocates nothing, blocks on nothing.
 */
#include "core/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

void
mayday_buf_init(mayday_buf_t *b, char *storage, size_t size)
{
    b->data = storage;
    b->size = size;
    b->len = 0;
    b->truncated = false;
    b->data[0] = '\0';
}

void
mayday_buf_add(mayday_buf_t *b, mayday_slice_t s)
{
    size_t room = b->size - 1 - b->len;
    size_t n = s.len < room ? s.len : room;

    if (n > 0) {
        memcpy(b->data + b->len, s.data, n);
        b->len += n;
        b->data[b->len] = '\0';
    }
    if (n < s.len) {
        b->truncated = true;
    }
}

void
mayday_buf_adds(mayday_buf_t *b, const char *s)
{
    mayday_buf_add(b, mayday_slice_str(s));
}

void
mayday_buf_addc(mayday_buf_t *b, char c)
{
    mayday_buf_add(b, mayday_slice(&c, 1));
}

void
mayday_buf_addf(mayday_buf_t *b, const char *fmt, ...)
{
    size_t room = b->size - b->len;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(b->data + b->len, room, fmt, args);
    va_end(args);

    if (n < 0) {
        b->data[b->len] = '\0';
        b->truncated = true;
    } else if ((size_t) n >= room) {
        b->len = b->size - 1;
        b->truncated = true;
    } else {
        b->len += (size_t) n;
    }
}

void
mayday_buf_add_encoded(mayday_buf_t *b, mayday_slice_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];

        if (mayday_is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
            mayday_buf_addc(b, c);
        } else {
            mayday_buf_addf(b, "%%%02X", (unsigned char) c);
        }
    }
}
