/*
 * See utf8.h. Nearly all text is plain ASCII, which is found eight bytes at a
 * time and copied whole; only the rest is looked at character by character.
 *
 * Runs in the agent and the command; allocates nothing, blocks on nothing.
 */
#include "core/event/utf8.h"

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

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

bool
mayday_utf8_is_plain(mayday_slice_t text)
{
    size_t i = 0;

    for (; i + 8 <= text.len; i += 8) {
        uint64_t w;
        memcpy(&w, text.data + i, sizeof(w));
        /* A high bit set in a byte, or borrowed by a byte that is zero. */
        if (((w | (w - ONES)) & HIGHS) != 0) {
            return false;
        }
    }
    for (; i < text.len; i++) {
        if ((unsigned char) (text.data[i] - 1) >= 0x7f) {
            return false;
        }
    }
    return true;
}

static size_t
clean_chars(char *out, mayday_slice_t text, size_t chars_max, mayday_utf8_info_t *info)
{
    const mayday_slice_t replacement = MAYDAY_SLICE(MAYDAY_UTF8_REPLACEMENT);
    const size_t dots = sizeof(MAYDAY_UTF8_ELLIPSIS) - 1;
    size_t len = 0, len_keep = 0, chars = 0, i = 0;

    for (; i < text.len; chars++) {
        uint32_t code;
        size_t n = mayday_utf8_decode(mayday_slice(text.data + i, text.len - i), &code);
        mayday_slice_t c = n > 0 && code != 0 ? mayday_slice(text.data + i, n) : replacement;
        if (chars + dots == chars_max) {
            len_keep = len;
        }
        if (chars < chars_max) {
            memcpy(out + len, c.data, c.len);
            len += c.len;
        }
        i += n > 0 ? n : 1;
    }
    info->chars_whole = chars;
    return chars > chars_max ? len_keep : len;
}

mayday_rc_t
mayday_utf8_clean(char *out, size_t size, mayday_slice_t text, size_t chars_max,
                  mayday_utf8_info_t *info)
{
    const size_t dots = sizeof(MAYDAY_UTF8_ELLIPSIS) - 1;
    mayday_utf8_info_t local;
    mayday_rc_t rc = MAYDAY_OK;
    size_t len;

    if (info == NULL) {
        info = &local;
    }
    *info = (mayday_utf8_info_t){0, 0, 0};
    if (size < text.len + 1) {
        if (size > 0) {
            out[0] = '\0';
        }
        return MAYDAY_FULL;
    }
    if (mayday_utf8_is_plain(text)) {
        info->chars_whole = text.len;
        len = text.len <= chars_max ? text.len : chars_max - dots;
        if (len > 0) {
            memcpy(out, text.data, len);
        }
    } else if (size < MAYDAY_UTF8_SIZE(text.len)) {
        out[0] = '\0';
        return MAYDAY_FULL;
    } else {
        len = clean_chars(out, text, chars_max, info);
    }
    info->chars = info->chars_whole;
    if (info->chars_whole > chars_max) {
        memcpy(out + len, MAYDAY_UTF8_ELLIPSIS, dots);
        len += dots;
        info->chars = chars_max;
        rc = MAYDAY_TRUNCATED;
    }
    out[len] = '\0';
    info->len = len;
    return rc;
}
