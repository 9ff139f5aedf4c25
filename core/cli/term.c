/*
 * Printing to a terminal; see term.h.
 */
#include "core/cli/term.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "core/event/utf8.h"

#define WIDTH_MIN 40u /* narrower than that, lines may wrap */

static const char *const codes[] = {
    [MAYDAY_STYLE_PLAIN] = "",        [MAYDAY_STYLE_BOLD] = "1",     [MAYDAY_STYLE_DIM] = "2",
    [MAYDAY_STYLE_GOOD] = "32",       [MAYDAY_STYLE_WARNING] = "33", [MAYDAY_STYLE_ERROR] = "31",
    [MAYDAY_STYLE_FATAL] = "1;97;41", [MAYDAY_STYLE_ACCENT] = "36"};

static const struct {
    const char *utf8, *ascii;
} signs[] = {[MAYDAY_SIGN_DOT] = {"\xc2\xb7", "-"},       /* middle dot */
             [MAYDAY_SIGN_GOOD] = {"\xe2\x9c\x93", "ok"}, /* check mark */
             [MAYDAY_SIGN_BAD] = {"\xe2\x9c\x97", "x"},   /* ballot x   */
             [MAYDAY_SIGN_NONE] = {"\xe2\x80\x93", "-"}}; /* en dash    */

static bool
is_set(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0';
}

void
mayday_term_init(mayday_term_t *term, FILE *out)
{
    const char *type = getenv("TERM");
    struct winsize size;

    /* Where nobody chose a locale, as in most containers, terminals speak UTF-8. */
    if (is_set("LC_ALL") || is_set("LC_CTYPE") || is_set("LANG")) {
        (void) setlocale(LC_CTYPE, "");
    } else {
        (void) setlocale(LC_CTYPE, "C.UTF-8");
    }
    *term = (mayday_term_t){.out = out, .utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0};
    if (!isatty(fileno(out))) {
        return;
    }
    term->colour = !is_set("NO_COLOR") && type != NULL && strcmp(type, "dumb") != 0;
    term->width = 80;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        term->width = size.ws_col > WIDTH_MIN ? size.ws_col : WIDTH_MIN;
    }
}

static void
begin(const mayday_term_t *term, mayday_style_t style)
{
    if (term->colour && style != MAYDAY_STYLE_PLAIN) {
        fprintf(term->out, "\033[%sm", codes[style]);
    }
}

static void
end(const mayday_term_t *term, mayday_style_t style)
{
    if (term->colour && style != MAYDAY_STYLE_PLAIN) {
        fputs("\033[0m", term->out);
    }
}

void
mayday_term_say(const mayday_term_t *term, mayday_style_t style, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    begin(term, style);
    vfprintf(term->out, fmt, args);
    end(term, style);
    va_end(args);
}

void
mayday_term_sign(const mayday_term_t *term, mayday_style_t style, mayday_sign_t sign)
{
    mayday_term_say(term, style, "%s", term->utf8 ? signs[sign].utf8 : signs[sign].ascii);
}

/* Characters that act on a terminal, hide, or change the direction of what follows. */
static bool
is_unsafe(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},
                  {0x115f, 0x1160}, {0x180b, 0x180f}, {0x200b, 0x200f}, {0x2028, 0x202e},
                  {0x2060, 0x206f}, {0x3164, 0x3164}, {0xd800, 0xdfff}, {0xfe00, 0xfe0f},
                  {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0xe0000, 0xe0fff}};

    for (size_t i = 0; i < MAYDAY_COUNT(ranges); i++) {
        if (code >= ranges[i].first && code <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

/* What stands for the first character of a text. */
typedef struct {
    char bytes[16];
    unsigned columns;
    size_t used; /* bytes of the text */
} shown_t;

static void
show_first(const mayday_term_t *term, mayday_slice_t text, shown_t *shown)
{
    uint32_t code;
    size_t n = mayday_utf8_decode(text, &code);
    int width;

    shown->used = n == 0 ? 1 : n;
    if (n == 0) {
        snprintf(shown->bytes, sizeof(shown->bytes), "\\x%02x", (unsigned char) text.data[0]);
    } else if (code == '\n' || code == '\t' || code == '\r') {
        snprintf(shown->bytes, sizeof(shown->bytes), "\\%c",
                 code == '\n'   ? 'n'
                 : code == '\t' ? 't'
                                : 'r');
    } else if (code < 0x20 || code == 0x7f) {
        snprintf(shown->bytes, sizeof(shown->bytes), "\\x%02x", (unsigned) code);
    } else {
        width = code < 0x80 ? 1 : wcwidth((wchar_t) code);
        if (code < 0x80 || (term->utf8 && !is_unsafe(code) && width >= 0)) {
            memcpy(shown->bytes, text.data, n);
            shown->bytes[n] = '\0';
            shown->columns = (unsigned) width;
            return;
        }
        snprintf(shown->bytes, sizeof(shown->bytes), "\\u{%x}", (unsigned) code);
    }
    shown->columns = (unsigned) strlen(shown->bytes);
}

static mayday_slice_t
skip(mayday_slice_t text, size_t n)
{
    return mayday_slice(text.data + n, text.len - n);
}

unsigned
mayday_term_width(const mayday_term_t *term, mayday_slice_t text)
{
    unsigned columns = 0;
    shown_t shown;

    for (; text.len > 0; text = skip(text, shown.used)) {
        show_first(term, text, &shown);
        columns += shown.columns;
    }
    return columns;
}

unsigned
mayday_term_text(const mayday_term_t *term, mayday_style_t style, mayday_slice_t text,
                 unsigned columns_max)
{
    unsigned columns = 0, room = columns_max;
    shown_t shown;

    begin(term, style);
    if (columns_max > 0 && mayday_term_width(term, text) > columns_max) {
        room = columns_max - 1; /* the last column shows the cut */
    }
    for (; text.len > 0; text = skip(text, shown.used)) {
        show_first(term, text, &shown);
        if (columns_max > 0 && columns + shown.columns > room) {
            fputs(term->utf8 ? "\xe2\x80\xa6" : "~", term->out);
            columns++;
            break;
        }
        fputs(shown.bytes, term->out);
        columns += shown.columns;
    }
    end(term, style);
    return columns;
}

void
mayday_term_column(const mayday_term_t *term, mayday_style_t style, mayday_slice_t text,
                   unsigned columns)
{
    unsigned used = mayday_term_text(term, style, text, 0);

    fprintf(term->out, "%*s", used < columns ? (int) (columns - used) : 0, "");
}

void
mayday_term_json(const mayday_term_t *term, mayday_slice_t json)
{
    while (json.len > 0) {
        uint32_t code;
        size_t n = mayday_utf8_decode(json, &code);

        if (n == 0) {
            fputs("\\ufffd", term->out);
        } else if (code == '\n' || code == '\t' || !is_unsafe(code)) { /* white space of JSON */
            fwrite(json.data, 1, n, term->out);
        } else if (code > 0xffff) {
            fprintf(term->out, "\\u%04x\\u%04x", (unsigned) (0xd800 + ((code - 0x10000) >> 10)),
                    (unsigned) (0xdc00 + (code & 0x3ff)));
        } else {
            fprintf(term->out, "\\u%04x", (unsigned) code);
        }
        json = skip(json, n == 0 ? 1 : n);
    }
}

void
mayday_term_lines(const mayday_term_t *term, mayday_slice_t text)
{
    while (text.len > 0) {
        const char *line_end = memchr(text.data, '\n', text.len);
        size_t len = line_end == NULL ? text.len : (size_t) (line_end - text.data);

        (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice(text.data, len), 0);
        fputc('\n', term->out);
        text = skip(text, line_end == NULL ? len : len + 1);
    }
}
