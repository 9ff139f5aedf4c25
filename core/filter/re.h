/*
 * Regular expressions (PCRE2) over text from outside, bounded: compiled ones are
 * kept in a cache of fixed size, and a match is given up when it takes more steps
 * than a linear one could, or when its caller's time is over.
 *
 * PCRE2's own match limit begins anew at each place of the text and does not
 * count what a scan passes over, so it alone bounds little. Expressions are
 * compiled with automatic callouts, and these are counted: one at each item of
 * the expression that is tried.
 *
 * The JIT is used where memory may be both writable and executable, and done
 * without where not; both give the same results.
 *
 * Runs in the agent's pipeline thread. A cache belongs to one thread. Compiled
 * expressions live on the heap, a match needs none but PCRE2's bounded own.
 */
#ifndef MAYDAY_RE_H
#define MAYDAY_RE_H

#include "core/base/base.h"

#define MAYDAY_RE_PATTERN_MAX 4096 /* bytes */
#define MAYDAY_RE_CAPTURES_MAX 32
#define MAYDAY_RE_CACHE_MAX 64
#define MAYDAY_RE_CACHE_SIZE_MAX ((size_t) 4 * 1024 * 1024) /* compiled; 500 KiB is much for one */
#define MAYDAY_RE_SUBJECT_MAX ((size_t) 1024 * 1024)

typedef struct mayday_re mayday_re_t;
typedef struct mayday_re_cache mayday_re_cache_t;

/* What each letter of options means; see mayday_re_get. */
#define MAYDAY_RE_OPTIONS "aimsux"

typedef enum {
    MAYDAY_RE_MATCH,
    MAYDAY_RE_NONE,
    MAYDAY_RE_TOO_MUCH, /* more steps than allowed, or PCRE2's own limits */
    MAYDAY_RE_LATE,     /* is_late said so                                */
    MAYDAY_RE_BAD_TEXT, /* option u, and the text is no UTF-8             */
    MAYDAY_RE_BAD_BEGIN /* \\K put it behind the end, or before `from`    */
} mayday_re_result_t;

/* Group 0 is the whole match; a group that took no part has begin SIZE_MAX. */
typedef struct {
    size_t count; /* of groups that the expression has, + 1 */
    struct {
        size_t begin, end;
    } groups[MAYDAY_RE_CAPTURES_MAX + 1];
} mayday_re_match_t;

/* Asked every thousand steps or so. It must return. */
typedef bool (*mayday_re_is_late_pt)(void *ctx);

/* NULL: no memory. */
mayday_re_cache_t *mayday_re_cache_new(void);
void mayday_re_cache_free(mayday_re_cache_t *cache);

/*
 * The compiled expression, from the cache or made now; it stays until others have
 * taken its place in the cache, which mayday_re_pin puts off. options: letters
 * of a (anchored), i (case does not matter), m (^ and $ at lines), s (dot takes
 * line ends), u (UTF-8), x (spaces and comments in the expression). NULL: error
 * says what is wrong, and where in the expression.
 */
const mayday_re_t *mayday_re_get(mayday_re_cache_t *cache, mayday_slice_t pattern,
                                 mayday_slice_t options, char *error, size_t error_size);

/* Keeps it in the cache until mayday_re_unpin_all. */
void mayday_re_pin(mayday_re_cache_t *cache, const mayday_re_t *re);
void mayday_re_unpin_all(mayday_re_cache_t *cache);

/*
 * Searches text, at most MAYDAY_RE_SUBJECT_MAX, from byte `from` on. From behind 0
 * only where this expression was searched for from 0, in the same text, before.
 */
mayday_re_result_t mayday_re_match(mayday_re_cache_t *cache, const mayday_re_t *re,
                                   mayday_slice_t text, size_t from, mayday_re_is_late_pt is_late,
                                   void *ctx, mayday_re_match_t *match);

/*
 * Where to go on behind an empty match at byte `at`: the next byte, or with option
 * u the next character.
 */
size_t mayday_re_next(const mayday_re_t *re, mayday_slice_t text, size_t at);

/* The name of a group, or NULL. */
const char *mayday_re_group_name(const mayday_re_t *re, size_t group);

#endif
