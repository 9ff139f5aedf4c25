/*
 * A second look at text that the server or an application wrote: log lines and
 * what is made of them. The server has filtered the queries of the URLs that
 * they quote; here go the secrets that stand in free text:
 *
 *   https://user:secret@host       the part before the "@"
 *   Bearer abc, Basic abc          the credentials
 *   password=abc  "token": "abc"   the value, where the name holds a term of
 *                                  Sentry's denylist, ASCII case ignored
 *
 * Behind a bare word, ":" counts only where a space follows, as in a header, and
 * then only for the terms that are unmistakable: prose has many colons
 * ("duplicate key: 7", "session: expired").
 *
 * Runs in the agent; allocates nothing; one pass over the text.
 */
#ifndef MAYDAY_SCRUB_H
#define MAYDAY_SCRUB_H

#include "core/base/buf.h"

/*
 * Appends text to out, secrets replaced by "[Filtered]". Returns whether any
 * was; where not, out got text as it is.
 */
bool mayday_scrub_text(mayday_buf_t *out, mayday_slice_t text);

/* Room that always suffices: "//u@" takes thirteen bytes. */
#define MAYDAY_SCRUB_SIZE(len) ((len) *4 + 16)

#endif
