/*
 * What is collected and what is filtered before it enters a lane.
 *
 * A key (header, cookie, query parameter) is sensitive if it contains one of
 * the terms of the denylist, ASCII case ignored: Sentry's data-collection terms,
 * those of mayday_collect deny=, and, unless user_info is collected, the terms
 * for personal data (forwarded, -ip, remote-, via, -user). mayday_collect
 * plain= names keys that the denylist would hit wrongly. All terms are matched
 * in one pass by one automaton, built when the configuration is read.
 *
 * Runs inside a web server; matching allocates nothing and blocks on nothing.
 */
#ifndef MAYDAY_REDACT_H
#define MAYDAY_REDACT_H

#include "core/base/base.h"

/* A header that most requests have, and what its name says of its value. */
typedef struct {
    const char *name; /* in small letters; NULL: an empty slot */
    uint8_t len;
    uint8_t kind; /* mayday_header_kind_t */
} mayday_usual_header_t;

#define MAYDAY_USUAL_HEADERS 128u

/* Whole names of mayday_collect. */
typedef struct {
    const mayday_slice_t *names;
    size_t count;
} mayday_names_t;

/* A state of the automaton: a cell for each class of bytes, the next row. */
typedef const void *const *mayday_row_t;

/* Compiled, immutable, shared by threads. Only redact.c and header.h look inside. */
typedef struct {
    uint8_t classes[256];
    mayday_row_t root, found, escaped;
    mayday_row_t harmless; /* a key that ends in this row or a later one is not sensitive */
    mayday_names_t plain;
    mayday_names_t allow;
    mayday_usual_header_t usual[MAYDAY_USUAL_HEADERS];
} mayday_redact_t;

/* What one kind of data (headers, cookies, query) may contain. */
typedef struct {
    bool on;
    const mayday_redact_t *redact;
} mayday_collect_part_t;

/* Compiled from the mayday_collect directives of a place; immutable. */
typedef struct {
    bool user_info;
    bool has_host; /* the Host header is collected as it is */
    mayday_collect_part_t headers;
    mayday_collect_part_t cookies;
    mayday_collect_part_t query;
} mayday_collect_t;

/* Where a configuration's memory comes from; zeroed, lives as long as it does. */
typedef void *(*mayday_alloc_pt)(void *ctx, size_t size);

/*
 * Compiles a policy. deny: terms beyond the built-in ones; plain: whole names
 * that are never sensitive; allow: whole names, if any are given only these are
 * collected in the clear, unless the denylist hits them, and all others are
 * filtered. user_info false adds the terms for personal data. The words are
 * copied. NULL: no memory, more than 200 words of a kind, or a word that is
 * empty, longer than 64 bytes or has a "%".
 */
mayday_redact_t *mayday_redact_new(mayday_alloc_pt alloc, void *ctx, bool user_info,
                                   const mayday_slice_t *deny, size_t deny_count,
                                   const mayday_slice_t *plain, size_t plain_count,
                                   const mayday_slice_t *allow, size_t allow_count);

/* Whether the value under this key is to be filtered; %XX in it is decoded. */
bool mayday_redact_is_sensitive(const mayday_redact_t *redact, mayday_slice_t key);

/*
 * Copies a query ("a=1&token=2"), the values of sensitive keys replaced by
 * MAYDAY_FILTERED, into out (size bytes, not terminated). Returns the bytes
 * written; *flags gets MAYDAY_FIELD_CUT and MAYDAY_FIELD_FILTERED as they apply.
 */
size_t mayday_redact_query(const mayday_redact_t *redact, char *out, size_t size,
                           mayday_slice_t query, unsigned *flags);

/* Whether mayday_redact_text would copy the text as it is. */
bool mayday_redact_is_clean(const mayday_redact_t *redact, mayday_slice_t text);

/*
 * The same for text that may quote URLs: wherever a "?" begins a query, its
 * values are filtered up to the first byte that ends a URL (space, quote,
 * angle bracket, comma followed by space, end). User and password before the
 * "@" of a URL's authority are filtered too. A query that is not collected
 * (redact NULL) is cut out.
 */
size_t mayday_redact_text(const mayday_redact_t *redact, char *out, size_t size,
                          mayday_slice_t text, unsigned *flags);

#endif
