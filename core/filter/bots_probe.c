/*
 * See bots_probe.h.
 *
 * A path is decoded until that changes nothing, at most DECODE_ROUNDS times, and
 * brought into one form; then the words of bots_probes.def are looked for. That
 * a segment ".." is a probe only where it was encoded or leads out of the root:
 * browsers resolve them before they ask, but a client of an API that joins its
 * URLs carelessly is a client.
 */
#include <stdlib.h>

#include "core/filter/bots_probe.h"
#include "core/filter/bots_words.h"

enum { DECODE_ROUNDS = 3 };

typedef enum { SITE_NONE, SITE_PHP, SITE_NO_PHP, SITE_JAVA, SITE_EXCHANGE, SITE_FILES } site_t;

typedef struct {
    site_t site;
    const char *reason;
    mayday_slice_t word;
} probe_t;

static const probe_t path_probes[] = {
#define MAYDAY_PROBE(site, reason, word) {SITE_##site, reason, {word, sizeof(word) - 1}},
#define MAYDAY_PROBE_TEXT(reason, word)
#include "core/filter/bots_probes.def"
#undef MAYDAY_PROBE
#undef MAYDAY_PROBE_TEXT
};

static const probe_t text_probes[] = {
#define MAYDAY_PROBE(site, reason, word)
#define MAYDAY_PROBE_TEXT(reason, word) {SITE_NONE, reason, {word, sizeof(word) - 1}},
#include "core/filter/bots_probes.def"
#undef MAYDAY_PROBE
#undef MAYDAY_PROBE_TEXT
};

struct mayday_probes {
    mayday_words_t *path_words, *text_words;
};

/* Text on its way; lives on the stack. */
typedef struct {
    char data[MAYDAY_PROBE_TEXT_MAX];
    size_t len;
} text_t;

/* ---- the lists ---- */

static mayday_words_t *
compile(const probe_t *probes, size_t count)
{
    mayday_slice_t words[MAYDAY_COUNT(path_probes) + MAYDAY_COUNT(text_probes)];

    for (size_t i = 0; i < count; i++) {
        words[i] = probes[i].word;
    }
    return mayday_words_new(words, count);
}

mayday_probes_t *
mayday_probes_new(void)
{
    mayday_probes_t *probes = calloc(1, sizeof(*probes));

    if (probes == NULL) {
        return NULL;
    }
    probes->path_words = compile(path_probes, MAYDAY_COUNT(path_probes));
    probes->text_words = compile(text_probes, MAYDAY_COUNT(text_probes));
    if (probes->path_words == NULL || probes->text_words == NULL) {
        mayday_probes_free(probes);
        return NULL;
    }
    return probes;
}

void
mayday_probes_free(mayday_probes_t *probes)
{
    if (probes != NULL) {
        mayday_words_free(probes->path_words);
        mayday_words_free(probes->text_words);
        free(probes);
    }
}

/* ---- methods ---- */

const char *
mayday_probe_method(mayday_slice_t method)
{
    /* RFC 9110 and 5789, then WebDAV and its kin, caches, UPnP and streaming, Windows' servers. */
    const mayday_slice_t known = MAYDAY_SLICE(
        " GET HEAD POST PUT DELETE OPTIONS PATCH"
        " PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH ACL MKCALENDAR"
        " CHECKOUT CHECKIN UNCHECKOUT VERSION-CONTROL UPDATE LABEL MERGE BASELINE-CONTROL"
        " MKACTIVITY MKWORKSPACE ORDERPATCH BIND UNBIND REBIND LINK UNLINK QUERY"
        " PURGE BAN REFRESH NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH SOURCE"
        " RPC_IN_DATA RPC_OUT_DATA RDG_IN_DATA RDG_OUT_DATA SSTP_DUPLEX_POST CCM_POST BITS_POST"
        " POLL BPROPFIND BPROPPATCH BCOPY BMOVE BDELETE ");
    char word[24] = " ";

    if (method.len == 0) {
        return NULL;
    }
    if (method.len + 3 > sizeof(word) || memchr(method.data, ' ', method.len) != NULL) {
        return "method";
    }
    memcpy(word + 1, method.data, method.len);
    word[method.len + 1] = ' ';
    return mayday_slice_find(known, mayday_slice(word, method.len + 2), 0) == SIZE_MAX ? "method"
                                                                                       : NULL;
}

/* ---- decoding ---- */

/* The value of digits hex digits at from, or -1. */
static int
hex_at(const text_t *text, size_t from, size_t digits)
{
    int value = 0;

    if (from + digits > text->len) {
        return -1;
    }
    for (size_t i = from; i < from + digits; i++) {
        int digit = mayday_hex_digit(text->data[i]);

        if (digit < 0) {
            return -1;
        }
        value = value << 4 | digit;
    }
    return value;
}

/* %41, and %u0041 as some servers know it. False: there was nothing to decode. */
static bool
decode_percent(text_t *text)
{
    size_t len = 0;
    bool changed = false;

    for (size_t at = 0; at < text->len;) {
        int byte = -1;
        size_t taken = 1;

        if (text->data[at] == '%') {
            byte = hex_at(text, at + 1, 2);
            taken = 3;
            if (byte < 0 && at + 1 < text->len && mayday_lower(text->data[at + 1]) == 'u') {
                byte = hex_at(text, at + 2, 4);
                byte = byte > 0x7f ? '?' : byte;
                taken = 6;
            }
        }
        if (byte < 0) {
            text->data[len++] = text->data[at++];
        } else {
            text->data[len++] = (char) byte;
            at += taken;
            changed = true;
        }
    }
    text->len = len;
    return changed;
}

/* How many bytes from at on are ASCII in overlong UTF-8, such as C0 AE and E0 80 AE for "." */
static size_t
overlong_at(const text_t *text, size_t at)
{
    unsigned char c = (unsigned char) text->data[at];
    size_t size = c == 0xc0 || c == 0xc1 ? 2 : c == 0xe0 ? 3 : c == 0xf0 ? 4 : 0;

    if (size == 0 || size > text->len - at) {
        return 0;
    }
    for (size_t i = 1; i + 2 < size; i++) {
        if ((unsigned char) text->data[at + i] != 0x80) {
            return 0;
        }
    }
    return size == 2 || ((unsigned char) text->data[at + size - 2] & 0xfe) == 0x80 ? size : 0;
}

/* False: there is none. */
static bool
decode_overlong(text_t *text)
{
    size_t len = 0, size;
    bool changed = false;

    for (size_t at = 0; at < text->len; at += size) {
        size = (unsigned char) text->data[at] < 0xc0 ? 0 : overlong_at(text, at);
        if (size > 0) {
            unsigned high = (unsigned char) text->data[at + size - 2] & 1u;

            text->data[len++] = (char) (high << 6 | ((unsigned) text->data[at + size - 1] & 0x3fu));
            changed = true;
        } else {
            text->data[len++] = text->data[at];
            size = 1;
        }
    }
    text->len = len;
    return changed;
}

static void
decode(text_t *text)
{
    for (int round = 0; round < DECODE_ROUNDS; round++) {
        bool percent = decode_percent(text);

        if (!decode_overlong(text) && !percent) {
            return;
        }
    }
}

static void
text_init(text_t *text, mayday_slice_t from)
{
    text->len = from.len < sizeof(text->data) ? from.len : sizeof(text->data);
    if (text->len > 0) {
        memcpy(text->data, from.data, text->len);
    }
}

/* ---- paths ---- */

typedef struct {
    unsigned dots; /* segments ".." */
    bool leads_out, tricky;
} climb_t;

static void
look_at_segment(climb_t *climb, int *depth, const char *segment, size_t len)
{
    if (len >= 2 && segment[0] == '.' && segment[1] == '.' && (len == 2 || segment[2] == ';')) {
        climb->dots++;
        climb->tricky = climb->tricky || len > 2;
        (*depth)--;
        climb->leads_out = climb->leads_out || *depth < 0;
    } else if (len > 0 && !(len == 1 && segment[0] == '.')) {
        (*depth)++;
    }
}

static climb_t
look_at_dots(const text_t *path)
{
    climb_t climb = {0};
    size_t begin = 0;
    int depth = 0;

    for (size_t i = 0; i <= path->len; i++) {
        if (i == path->len || path->data[i] == '/' || path->data[i] == '\\') {
            look_at_segment(&climb, &depth, path->data + begin, i - begin);
            begin = i + 1;
        }
    }
    return climb;
}

/* One "/" between segments, none of which is "." */
static void
tidy(text_t *path)
{
    size_t len = 0;

    for (size_t i = 0; i < path->len; i++) {
        char c = path->data[i];
        bool behind_slash = len > 0 && path->data[len - 1] == '/';

        if (c == '\\') {
            c = '/';
        }
        if (c == '/' && behind_slash) {
            continue;
        }
        if (c == '/' && len >= 2 && path->data[len - 1] == '.' && path->data[len - 2] == '/') {
            len--;
            continue;
        }
        path->data[len++] = c;
    }
    path->len = len;
}

/*
 * Where people keep files of any name: repositories that are looked at in the
 * browser, and shares.
 */
static bool
is_of_files(const text_t *path)
{
    static const char *const places[] = {
        "/blob/", "/raw/", "/tree/",   "/blame/",    "/src/branch/",
        "/-/",    "/dav/", "/webdav/", "/contents/", "/repository/files/"};

    for (size_t i = 0; i < MAYDAY_COUNT(places); i++) {
        if (mayday_slice_find(mayday_slice(path->data, path->len), mayday_slice_str(places[i]),
                              1) != SIZE_MAX) {
            return true;
        }
    }
    return false;
}

static bool
is_ordinary(site_t probe, unsigned site, const text_t *text)
{
    switch (probe) {
    case SITE_FILES:
        return is_of_files(text);
    case SITE_PHP:
        return (site & MAYDAY_SITE_PHP) != 0;
    case SITE_NO_PHP:
        return (site & MAYDAY_SITE_NO_PHP) == 0;
    case SITE_JAVA:
        return (site & MAYDAY_SITE_JAVA) != 0;
    case SITE_EXCHANGE:
        return (site & MAYDAY_SITE_EXCHANGE) != 0;
    default:
        return false;
    }
}

static const char *
find(const mayday_words_t *words, const probe_t *probes, const text_t *text, unsigned site)
{
    mayday_words_scan_t scan;

    mayday_words_begin(&scan, words, mayday_slice(text->data, text->len));
    while (mayday_words_next(&scan)) {
        if (!is_ordinary(probes[scan.word].site, site, text)) {
            return probes[scan.word].reason;
        }
    }
    return NULL;
}

const char *
mayday_probe_path(const mayday_probes_t *probes, mayday_slice_t path, unsigned site)
{
    text_t text;
    climb_t sent, meant;
    const char *reason;

    text_init(&text, path);
    sent = look_at_dots(&text);
    decode(&text);
    meant = look_at_dots(&text);
    if (memchr(text.data, '\0', text.len) != NULL) {
        return "zero byte";
    }
    tidy(&text);
    reason = find(probes->path_words, path_probes, &text, site);
    if (reason == NULL && (meant.leads_out || meant.tricky || meant.dots > sent.dots)) {
        reason = "path traversal";
    }
    return reason != NULL ? reason : find(probes->text_words, text_probes, &text, site);
}

const char *
mayday_probe_text(const mayday_probes_t *probes, mayday_slice_t text)
{
    text_t decoded;

    text_init(&decoded, text);
    decode(&decoded);
    return find(probes->text_words, text_probes, &decoded, 0);
}
