/*
 * UTF-8, decoded strictly (RFC 3629): no overlong forms, no surrogates, nothing
 * beyond U+10FFFF. Runs anywhere, allocates nothing.
 */
#ifndef MAYDAY_UTF8_H
#define MAYDAY_UTF8_H

#include "core/base/base.h"

#define MAYDAY_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD stands where an invalid byte stood */

/*
 * The number of bytes (1 to 4) of the character that s begins with, and its
 * code point. 0: s is empty or begins with an invalid sequence; *code is
 * unspecified and the caller should step over one byte.
 */
size_t mayday_utf8_decode(mayday_slice_t s, uint32_t *code);

#endif
