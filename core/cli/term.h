/*
 * The terminal: what the command prints, and the guard between what came from
 * outside and the terminal. Control characters, escape sequences, bytes that are
 * not UTF-8 and invisible or direction-changing characters are shown as escapes
 * and never reach it, also in JSON, where they become \u escapes. Text is cut at
 * characters, counted in columns.
 *
 * Runs in the command only. Own words are printed with mayday_term_say; whatever
 * came from elsewhere goes through mayday_term_text or mayday_term_json.
 */
#ifndef MAYDAY_TERM_H
#define MAYDAY_TERM_H

#include <stdio.h>

#include "core/base/buf.h"

typedef enum {
    MAYDAY_STYLE_PLAIN,
    MAYDAY_STYLE_BOLD,
    MAYDAY_STYLE_DIM,
    MAYDAY_STYLE_GOOD,
    MAYDAY_STYLE_WARNING,
    MAYDAY_STYLE_ERROR,
    MAYDAY_STYLE_FATAL,
    MAYDAY_STYLE_ACCENT
} mayday_style_t;

/* Signs that have a plain ASCII form where the terminal does not speak UTF-8. */
typedef enum { MAYDAY_SIGN_DOT, MAYDAY_SIGN_GOOD, MAYDAY_SIGN_BAD, MAYDAY_SIGN_NONE } mayday_sign_t;

typedef struct {
    FILE *out;
    bool colour;
    bool utf8;
    unsigned width; /* columns; 0: not a terminal, nothing is cut */
} mayday_term_t;

/* Sets the locale (once a process is enough) and looks at out, NO_COLOR and TERM. */
void mayday_term_init(mayday_term_t *term, FILE *out);

void mayday_term_say(const mayday_term_t *term, mayday_style_t style, const char *fmt, ...)
    MAYDAY_PRINTF(3, 4);
void mayday_term_sign(const mayday_term_t *term, mayday_style_t style, mayday_sign_t sign);

/*
 * Prints text from outside, made safe. columns_max 0: whole; else cut to that
 * many columns, the last of which shows the cut. Returns the columns printed.
 */
unsigned mayday_term_text(const mayday_term_t *term, mayday_style_t style, mayday_slice_t text,
                          unsigned columns_max);

/* The same, followed by spaces up to columns; never cut. */
void mayday_term_column(const mayday_term_t *term, mayday_style_t style, mayday_slice_t text,
                        unsigned columns);

/* Prints valid JSON so that it stays the same JSON. */
void mayday_term_json(const mayday_term_t *term, mayday_slice_t json);

/* Prints lines of plain text from the agent, line ends kept. */
void mayday_term_lines(const mayday_term_t *term, mayday_slice_t text);

/* The columns that text takes when made safe. */
unsigned mayday_term_width(const mayday_term_t *term, mayday_slice_t text);

#endif
