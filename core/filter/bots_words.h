/*
 * Many words, looked for in one text in one pass: what bots.c and bots_probe.c
 * know is words.
 *
 * A word is text that ignores the case of ASCII letters, with marks at its ends:
 *   ^word    only at the beginning of the text
 *   word$    only at its end
 *   <word    no letter before it
 *   word>    no letter behind it
 *
 * Compiled once, when rules are loaded, into one table on the heap; a pass reads
 * one entry of it per byte, allocates nothing and needs no memory that is both
 * writable and executable. Immutable then, so any thread may look.
 */
#ifndef MAYDAY_BOTS_WORDS_H
#define MAYDAY_BOTS_WORDS_H

#include "core/base/base.h"

#define MAYDAY_WORD_MIN 2  /* bytes without the marks */
#define MAYDAY_WORD_MAX 64 /* bytes without the marks */
#define MAYDAY_WORDS_MAX 2048

typedef struct mayday_words mayday_words_t;

/*
 * A word without its marks. False: too short, too long, or with other bytes than
 * letters, digits, spaces and !#$%&'()*+,-./:;=?@[]_{|}~
 */
bool mayday_word_plain(mayday_slice_t word, mayday_slice_t *plain);

/* Compiles count words, which mayday_word_plain has accepted. NULL: no memory, or too many. */
mayday_words_t *mayday_words_new(const mayday_slice_t *words, size_t count);
void mayday_words_free(mayday_words_t *words);

/* A pass over a text. The caller's; all fields but the last two are private. */
typedef struct {
    const mayday_words_t *words;
    mayday_slice_t text;
    size_t next; /* byte that has not been read yet          */
    unsigned state, output, word_next;
    size_t word;       /* what was found: index into the words     */
    size_t begin, end; /* where it stands in the text              */
} mayday_words_scan_t;

void mayday_words_begin(mayday_words_scan_t *scan, const mayday_words_t *words,
                        mayday_slice_t text);

/* Goes on to the next word found, by its end, of one end the longest first. False: no more. */
bool mayday_words_next(mayday_words_scan_t *scan);

#endif
