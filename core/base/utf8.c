/*
 * UTF-8 decoding; see utf8.h.
 */
#include "core/base/utf8.h"

size_t
mayday_utf8_decode(mayday_slice_t s, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *) s.data;
    uint32_t c, least;
    size_t len;

    if (s.len == 0) {
        return 0;
    }
    c = p[0];
    if (c < 0x80) {
        *code = c;
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        len = 2, c &= 0x1f, least = 0x80;
    } else if (c >= 0xe0 && c <= 0xef) {
        len = 3, c &= 0x0f, least = 0x800;
    } else if (c >= 0xf0 && c <= 0xf4) {
        len = 4, c &= 0x07, least = 0x10000;
    } else {
        return 0;
    }
    if (s.len < len) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
        return 0;
    }
    *code = c;
    return len;
}
