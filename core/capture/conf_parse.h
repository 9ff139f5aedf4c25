/*
 * What the setters of directives share: their call, messages, and the parsers
 * of single words. Private to core/capture/conf*.c.
 *
 * Runs when the configuration is read; memory comes from the host's alloc.
 */
#ifndef MAYDAY_CONF_PARSE_H
#define MAYDAY_CONF_PARSE_H

#include "core/capture/conf.h"

/* One directive, as read. Borrowed for the call. */
typedef struct {
    const mayday_conf_host_t *host;
    mayday_instance_t *instance;
    mayday_place_t *place; /* NULL for a directive of the instance */
    const mayday_slice_t *args;
    size_t count;
} mayday_conf_call_t;

/* Setters: NULL, or a message as mayday_directive_set returns it. */
typedef const char *(*mayday_set_pt)(const mayday_conf_call_t *call);
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax,         \
                         summary)                                                                  \
    const char *mayday_set_##parser(const mayday_conf_call_t *call);
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE

#define MAYDAY_DIRECTIVE_BIT(id) (UINT64_C(1) << MAYDAY_DIRECTIVE_##id)

/* Whether the place has seen this directive before the one that is being set. */
#define MAYDAY_IS_GIVEN(place, id) (((place)->set & MAYDAY_DIRECTIVE_BIT(id)) != 0)

/* ---- messages: from alloc, at most MAYDAY_MESSAGE_SIZE, never NULL ---- */

#define MAYDAY_MESSAGE_SIZE 1024
extern const char mayday_conf_no_memory[];

/* found "60x", expected …; the found text is cut and made printable. */
const char *mayday_conf_found(const mayday_conf_call_t *call, mayday_slice_t found,
                              const char *expected, ...) MAYDAY_PRINTF(3, 4);

/* For what must not be quoted. */
const char *mayday_conf_message(const mayday_conf_call_t *call, const char *fmt, ...)
    MAYDAY_PRINTF(2, 3);

/* ---- memory ---- */

/* Zeroed; NULL: no memory. */
void *mayday_conf_alloc(const mayday_conf_host_t *host, size_t size);

/* A copy that ends with NUL; false: no memory. */
bool mayday_conf_copy(const mayday_conf_host_t *host, mayday_slice_t *out, mayday_slice_t text);

/* ---- words: false, and *out untouched, where the word is not what it should be ---- */

bool mayday_conf_is(mayday_slice_t word, const char *text);

/* If word begins with prefix: takes it off. */
bool mayday_conf_strip(mayday_slice_t *word, const char *prefix);

/* on, off; httpd's users write On and Off. */
bool mayday_conf_flag(mayday_slice_t word, bool *out);

/* Decimal digits only, at most max. */
bool mayday_conf_number(mayday_slice_t word, uint64_t max, uint64_t *out);

/* Bytes: a number, then k, m, g or nothing. */
bool mayday_conf_size(mayday_slice_t word, uint64_t *out);

/* Milliseconds: a number, then ms, s, m, h, d, w, y, or nothing for seconds. */
bool mayday_conf_time_ms(mayday_slice_t word, uint64_t *out);

/* No byte below 0x20, no 0x7f, not empty. */
bool mayday_conf_is_text(mayday_slice_t word);

/* 500 or 500-599, added to *set. */
bool mayday_conf_statuses(mayday_slice_t word, mayday_status_set_t *set);
#define MAYDAY_STATUSES_EXPECTED "a status from 100 to 599 or a range such as 500-599"

/* ---- words that become something; NULL or a message ---- */

const char *mayday_conf_on_off(const mayday_conf_call_t *call, bool *out);

/* Compiles text, which stands in word; is_condition: it follows if=. */
const char *mayday_conf_expr(const mayday_conf_call_t *call, mayday_slice_t word,
                             mayday_slice_t text, bool is_condition, mayday_expr_t **out);

/* An absolute path of at most len_max bytes, copied. */
const char *mayday_conf_path(const mayday_conf_call_t *call, mayday_slice_t word, size_t len_max,
                             mayday_slice_t *out);

/* The same, of a file that can be read now. */
const char *mayday_conf_file(const mayday_conf_call_t *call, mayday_slice_t word,
                             mayday_slice_t *out);

/* ---- mayday_collect (conf_collect.c) ---- */

/* The policy where nothing was said; NULL: no memory. */
const mayday_collect_t *mayday_collect_new(const mayday_conf_host_t *host);

/* inner's parts over outer's; NULL: no memory. */
const mayday_collect_t *mayday_collect_merge(const mayday_conf_host_t *host,
                                             const mayday_collect_t *outer,
                                             const mayday_collect_t *inner);

#endif
