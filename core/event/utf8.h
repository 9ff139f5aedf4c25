/*
 * UTF-8, decoded strictly (RFC 3629): no overlong forms, no surrogates, nothing
 * beyond U+10FFFF. And text from outside, made fit for JSON: whatever came
 * becomes valid UTF-8 that holds no NUL, of a bounded number of characters
 * (Sentry's limits count characters, not bytes).
 *
 * Runs in the agent and the command; allocates nothing, blocks on nothing.
 */
#ifndef MAYDAY_EVENT_UTF8_H
#define MAYDAY_EVENT_UTF8_H

#include "core/base/base.h"

#define MAYDAY_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD stands where an invalid byte stood */
#define MAYDAY_UTF8_ELLIPSIS "..."             /* ends a text that was cut */

/* Room that always suffices for a text of len bytes: a broken byte takes three. */
#define MAYDAY_UTF8_SIZE(len) ((len) *3 + sizeof(MAYDAY_UTF8_ELLIPSIS))

typedef struct {
    size_t len;         /* bytes written, the final NUL not counted              */
    size_t chars;       /* characters written                                    */
    size_t chars_whole; /* characters that the whole text has                    */
} mayday_utf8_info_t;

/*
 * The number of bytes (1 to 4) of the character that s begins with, and its
 * code point. 0: s is empty or begins with an invalid sequence; *code is
 * unspecified and the caller should step over one byte.
 */
size_t mayday_utf8_decode(mayday_slice_t s, uint32_t *code);

/*
 * Copies text to out (size bytes; MAYDAY_UTF8_SIZE(text.len) is enough, less is
 * not accepted: MAYDAY_FULL, out holds an empty text) and ends it with NUL. Each
 * maximal broken sequence and each NUL becomes U+FFFD. Of more than chars_max
 * (at least 3) characters only as many are kept that "..." ends the text at
 * chars_max: MAYDAY_TRUNCATED. info may be NULL.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_utf8_clean(char *out, size_t size, mayday_slice_t text,
                                                size_t chars_max, mayday_utf8_info_t *info);

/* Whether text is ASCII without NUL, so that it can be taken as it is. */
bool mayday_utf8_is_plain(mayday_slice_t text);

#endif
