/*
 * What is sensitive: one automaton over all terms (Aho and Corasick, 1975),
 * folded into a dense table so that a byte costs two loads.
 *
 * Rows of the table are states, columns are classes of bytes: all bytes that
 * occur in no term share a class, the two cases of a letter share one. A cell
 * points to the next row, so that a step needs no arithmetic. Two rows are
 * never left again, which spares the loop a test per byte:
 *
 *   FOUND    a term was seen
 *   ESCAPED  a "%" was seen before any term: look again, decoding
 *
 * Building runs when the configuration is read and allocates; matching runs on
 * the request path and does not.
 */
#include "core/capture/redact.h"

#include "core/base/bytes.h"
#include "core/capture/header.h"
#include "core/capture/record_format.h"

#define TERM_LEN_MAX 64
#define TERMS_MAX 200

enum { FOUND, ESCAPED, ROOT, STATES_FIXED };     /* rows before the terms' own */
enum { CLASS_OTHER, CLASS_PERCENT, CLASS_TERM }; /* columns                    */

static const mayday_slice_t sensitive_terms[] = {
    {"auth", 4}, {"token", 5}, {"secret", 6},  {"password", 8},     {"passwd", 6},   {"pwd", 3},
    {"key", 3},  {"jwt", 3},   {"bearer", 6},  {"sso", 3},          {"saml", 4},     {"csrf", 4},
    {"xsrf", 4}, {"sid", 3},   {"session", 7}, {"credentials", 11}, {"identity", 8},
};

static const mayday_slice_t personal_terms[] = {
    {"forwarded", 9}, {"-ip", 3}, {"remote-", 7}, {"via", 3}, {"-user", 5},
};

/* ---- building ---- */

typedef struct {
    mayday_redact_t *redact;
    size_t width;    /* classes */
    uint32_t *table; /* numbers of rows, 0 for none                              */
    uint32_t *fail;  /* the row of the longest proper suffix that is in the trie */
    uint32_t *queue; /* rows, breadth first */
    bool *accepts;
    size_t rows;
} builder_t;

typedef void (*each_term_pt)(builder_t *b, mayday_slice_t term);

static void
add_classes(builder_t *b, mayday_slice_t term)
{
    mayday_redact_t *r = b->redact;

    for (size_t i = 0; i < term.len; i++) {
        uint8_t byte = (uint8_t) mayday_lower(term.data[i]);

        if (r->classes[byte] == CLASS_OTHER) {
            r->classes[byte] = (uint8_t) b->width++;
        }
    }
    b->rows += term.len;
}

static void
add_term(builder_t *b, mayday_slice_t term)
{
    const mayday_redact_t *r = b->redact;
    uint32_t row = ROOT;

    for (size_t i = 0; i < term.len; i++) {
        uint8_t class = r->classes[(uint8_t) mayday_lower(term.data[i])];
        uint32_t *next = &b->table[row * b->width + class];

        if (*next == 0) {
            *next = (uint32_t) b->rows++;
        }
        row = *next;
    }
    b->accepts[row] = true;
}

/* Completes the rows breadth first: a missing edge is that of the suffix. */
static void
link_rows(builder_t *b)
{
    size_t width = b->width, head = 0, tail = 0;

    b->fail[ROOT] = ROOT;
    b->queue[tail++] = ROOT;
    while (head < tail) {
        uint32_t row = b->queue[head++];

        for (size_t class = 0; class < width; class ++) {
            uint32_t *next = &b->table[row * width + class];
            uint32_t suffix =
                row == ROOT ? (uint32_t) ROOT : b->table[b->fail[row] * width + class];

            if (*next == 0) {
                *next = suffix;
                continue;
            }
            b->fail[*next] = suffix;
            b->accepts[*next] = b->accepts[*next] || b->accepts[suffix];
            b->queue[tail++] = *next;
        }
    }
}

/* Numbers become pointers, accepting rows FOUND; "%" leads to ESCAPED. */
static bool
finish(builder_t *b, mayday_alloc_pt alloc, void *ctx)
{
    size_t cells = b->rows * b->width;
    const void **rows = alloc(ctx, cells * sizeof(*rows));

    if (rows == NULL) {
        return false;
    }
    for (size_t cell = 0; cell < cells; cell++) {
        size_t row = cell / b->width, next = b->table[cell];

        if (row == FOUND || row == ESCAPED) {
            next = row;
        } else if (cell % b->width == CLASS_PERCENT) {
            next = ESCAPED;
        } else if (b->accepts[next]) {
            next = FOUND;
        }
        rows[cell] = rows + next * b->width;
    }
    b->redact->found = rows + FOUND * b->width;
    b->redact->escaped = rows + ESCAPED * b->width;
    b->redact->root = rows + ROOT * b->width;
    /* With a list of the only harmless names every key must be looked at twice. */
    b->redact->harmless = b->redact->allow.count > 0 ? rows + cells : b->redact->root;
    mayday_header_learn(b->redact);
    return true;
}

static void
each_term(builder_t *b, bool user_info, const mayday_slice_t *deny, size_t deny_count,
          each_term_pt visit)
{
    for (size_t i = 0; i < MAYDAY_COUNT(sensitive_terms); i++) {
        visit(b, sensitive_terms[i]);
    }
    for (size_t i = 0; !user_info && i < MAYDAY_COUNT(personal_terms); i++) {
        visit(b, personal_terms[i]);
    }
    for (size_t i = 0; i < deny_count; i++) {
        visit(b, deny[i]);
    }
}

static bool
are_usable(const mayday_slice_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].len == 0 || words[i].len > TERM_LEN_MAX ||
            memchr(words[i].data, '%', words[i].len) != NULL) {
            return false;
        }
    }
    return count <= TERMS_MAX;
}

static bool
copy_names(mayday_alloc_pt alloc, void *ctx, mayday_names_t *out, const mayday_slice_t *names,
           size_t count)
{
    mayday_slice_t *copy;

    if (count == 0) {
        return true;
    }
    copy = alloc(ctx, count * sizeof(*copy));
    if (copy == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        char *text = alloc(ctx, names[i].len);

        if (text == NULL) {
            return false;
        }
        memcpy(text, names[i].data, names[i].len);
        copy[i] = mayday_slice(text, names[i].len);
    }
    *out = (mayday_names_t){copy, count};
    return true;
}

mayday_redact_t *
mayday_redact_new(mayday_alloc_pt alloc, void *ctx, bool user_info, const mayday_slice_t *deny,
                  size_t deny_count, const mayday_slice_t *plain, size_t plain_count,
                  const mayday_slice_t *allow, size_t allow_count)
{
    builder_t b = {0};

    if (!are_usable(deny, deny_count) || !are_usable(plain, plain_count) ||
        !are_usable(allow, allow_count)) {
        return NULL;
    }
    b.redact = alloc(ctx, sizeof(*b.redact));
    if (b.redact == NULL || !copy_names(alloc, ctx, &b.redact->plain, plain, plain_count) ||
        !copy_names(alloc, ctx, &b.redact->allow, allow, allow_count)) {
        return NULL;
    }
    b.width = CLASS_TERM;
    b.redact->classes['%'] = CLASS_PERCENT;
    b.rows = STATES_FIXED;
    each_term(&b, user_info, deny, deny_count, add_classes);
    for (unsigned letter = 'a'; letter <= 'z'; letter++) {
        b.redact->classes[letter & ~0x20u] = b.redact->classes[letter];
    }

    b.table = alloc(ctx, b.rows * b.width * sizeof(*b.table));
    b.fail = alloc(ctx, b.rows * sizeof(*b.fail));
    b.queue = alloc(ctx, b.rows * sizeof(*b.queue));
    b.accepts = alloc(ctx, b.rows * sizeof(*b.accepts));
    if (b.table == NULL || b.fail == NULL || b.queue == NULL || b.accepts == NULL) {
        return NULL;
    }
    b.rows = STATES_FIXED;
    each_term(&b, user_info, deny, deny_count, add_term);
    link_rows(&b);
    return finish(&b, alloc, ctx) ? b.redact : NULL;
}

/* ---- matching ---- */

/* The byte at *at of an %-encoded text, which moves on. A stray "%" is itself. */
static uint8_t
decode(mayday_slice_t text, size_t *at)
{
    uint8_t byte;

    if (text.data[*at] == '%' && text.len - *at >= 3 &&
        mayday_unhex(&byte, 1, mayday_slice(text.data + *at + 1, 2)) == MAYDAY_OK) {
        *at += 3;
        return byte;
    }
    return (uint8_t) text.data[(*at)++];
}

static bool
is_found_decoded(const mayday_redact_t *redact, mayday_slice_t key)
{
    mayday_row_t row = redact->root;

    for (size_t i = 0; i < key.len;) {
        uint8_t byte = decode(key, &i);

        row = row[byte == '%' ? CLASS_OTHER : redact->classes[byte]];
    }
    return row == redact->found;
}

static bool
is_named(const mayday_names_t *names, mayday_slice_t key)
{
    for (size_t n = 0; n < names->count; n++) {
        mayday_slice_t name = names->names[n];
        size_t at = 0, i = 0;

        while (at < key.len && i < name.len &&
               mayday_lower((char) decode(key, &at)) == mayday_lower(name.data[i])) {
            i++;
        }
        if (at == key.len && i == name.len) {
            return true;
        }
    }
    return false;
}

/* Apart, so that the usual case saves and restores no registers. */
static __attribute__((noinline)) bool
is_sensitive_after_all(const mayday_redact_t *redact, mayday_slice_t key, mayday_row_t row)
{
    bool found = row == redact->found || (row == redact->escaped && is_found_decoded(redact, key));

    if (redact->plain.count > 0 && is_named(&redact->plain, key)) {
        return false;
    }
    return found || (redact->allow.count > 0 && !is_named(&redact->allow, key));
}

/* The row in which the automaton ends. */
static inline mayday_row_t
run(const mayday_redact_t *redact, const char *at, const char *end)
{
    mayday_row_t row = redact->root;

    if ((end - at) % 2 != 0) {
        row = row[redact->classes[(uint8_t) *at++]];
    }
    while (at < end) {
        row = row[redact->classes[(uint8_t) *at++]];
        row = row[redact->classes[(uint8_t) *at++]];
    }
    return row;
}

bool
mayday_redact_is_sensitive(const mayday_redact_t *redact, mayday_slice_t key)
{
    mayday_row_t row = run(redact, key.data, key.data + key.len);

    if (MAYDAY_LIKELY(row >= redact->harmless)) {
        return false;
    }
    return is_sensitive_after_all(redact, key, row);
}

/* ---- copying ---- */

typedef struct {
    char *at;
    size_t room;
    unsigned flags;
} output_t;

static inline void
put(output_t *out, const char *from, const char *to)
{
    size_t len = (size_t) (to - from);

    if (MAYDAY_UNLIKELY(len > out->room)) {
        len = out->room;
        out->flags |= MAYDAY_FIELD_CUT;
    }
    mayday_copy(out->at, from, len);
    out->at += len;
    out->room -= len;
}

static void
put_filtered(output_t *out)
{
    static const char filtered[] = MAYDAY_FILTERED;

    put(out, filtered, filtered + sizeof(filtered) - 1);
    out->flags |= MAYDAY_FIELD_FILTERED;
}

/* What a byte may mean in a URL, and in text around it. */
enum {
    ENDS_URL = 1,
    COMMA = 2, /* ends a URL in text if it ends a clause there */
    BEGINS_KEY = 4,
    AMPERSAND = 8,
    EQUALS = 16,
    ENDS_AUTHORITY = 32,
    AT_SIGN = 64
};

static const uint8_t meanings[256] = {
    [0 ... ' '] = ENDS_URL,
    ['"'] = ENDS_URL,
    ['\''] = ENDS_URL,
    ['<'] = ENDS_URL,
    ['>'] = ENDS_URL,
    ['`'] = ENDS_URL,
    [0x7f] = ENDS_URL,
    [','] = COMMA,
    ['&'] = BEGINS_KEY | AMPERSAND,
    [';'] = BEGINS_KEY,
    ['?'] = BEGINS_KEY | ENDS_AUTHORITY,
    ['#'] = BEGINS_KEY | ENDS_AUTHORITY,
    ['='] = EQUALS,
    ['/'] = ENDS_AUTHORITY,
    ['@'] = AT_SIGN,
};

#define IN_TEXT (ENDS_URL | COMMA)

/* Whether there is a byte, and with one of these meanings. */
static inline bool
is_at(const char *at, const char *end, uint8_t wanted)
{
    return at < end && (meanings[(uint8_t) *at] & wanted) != 0;
}

/* Whether the scan stopped at a comma within a word. */
static inline bool
is_mere_comma(const char *at, const char *end, uint8_t wanted)
{
    return (wanted & COMMA) != 0 && end - at > 1 && *at == ',' && at[1] != ' ';
}

/* The first byte from at on with one of these meanings, or the end. */
static inline __attribute__((always_inline)) const char *
scan(const char *at, const char *end, uint8_t wanted)
{
    for (;; at++) {
        while (at < end && (meanings[(uint8_t) *at] & wanted) == 0) {
            at++;
        }
        if (!is_mere_comma(at, end, wanted)) {
            return at;
        }
    }
}

/* The same, and whether what was passed over is a sensitive key. */
static inline __attribute__((always_inline)) const char *
scan_key(const mayday_redact_t *redact, const char *key, const char *end, uint8_t wanted,
         bool *sensitive)
{
    mayday_row_t row = redact->root;
    const char *at = key;

    for (;; row = row[redact->classes[(uint8_t) *at++]]) {
        while (at < end && (meanings[(uint8_t) *at] & wanted) == 0) {
            row = row[redact->classes[(uint8_t) *at++]];
        }
        if (!is_mere_comma(at, end, wanted)) {
            break;
        }
    }
    *sensitive = MAYDAY_UNLIKELY(row < redact->harmless) &&
                 is_sensitive_after_all(redact, mayday_slice(key, (size_t) (at - key)), row);
    return at;
}

/*
 * Copies the query that begins at `at`, and before it what stands from pending
 * on; returns its end, which is the text's unless ends (IN_TEXT) says what else
 * ends it. Always in place, so that the scans compare with a constant.
 *
 * Servers disagree on what ends a parameter ("&", also ";") and people put
 * queries into queries. So whatever may begin a key does, but a sensitive value
 * ends at "&" only: in doubt too much is filtered.
 */
static inline __attribute__((always_inline)) const char *
put_query(const mayday_redact_t *redact, output_t *out, const char *pending, const char *at,
          const char *end, uint8_t ends)
{
    for (;; at++) {
        bool sensitive;

        at = scan_key(redact, at, end, ends | BEGINS_KEY | EQUALS, &sensitive);
        if (is_at(at, end, EQUALS)) {
            const char *value = at + 1;

            if (sensitive) {
                at = scan(value, end, ends | AMPERSAND);
                if (at > value) {
                    put(out, pending, value);
                    put_filtered(out);
                    pending = at;
                }
            } else {
                at = scan(value, end, ends | BEGINS_KEY);
            }
        }
        if (!is_at(at, end, BEGINS_KEY) || (out->flags & MAYDAY_FIELD_CUT) != 0) {
            break;
        }
    }
    put(out, pending, at);
    return at;
}

size_t
mayday_redact_query(const mayday_redact_t *redact, char *out, size_t size, mayday_slice_t query,
                    unsigned *flags)
{
    output_t o = {out, size, 0};

    if (query.len > 0) {
        (void) put_query(redact, &o, query.data, query.data, query.data + query.len, 0);
    }
    *flags = o.flags;
    return size - o.room;
}

/* Copies a URL's authority without its user and password; returns its end. */
static const char *
put_authority(output_t *out, const char *at, const char *end)
{
    const char *host = at, *stop;

    for (;;) {
        stop = scan(at, end, IN_TEXT | ENDS_AUTHORITY | AT_SIGN);
        if (!is_at(stop, end, AT_SIGN)) {
            break;
        }
        host = stop;
        at = stop + 1;
    }
    /* "http://http://..." happens: the second one has an authority, too. */
    if (stop > at && stop[-1] == ':' && is_at(stop, end, ENDS_AUTHORITY)) {
        stop--;
    }
    if (host < at) {
        put_filtered(out);
    }
    put(out, host, stop);
    return stop;
}

/* The first such byte from at on, or the end. */
static inline const char *
find(const char *at, const char *end, char byte)
{
    const char *found = memchr(at, byte, (size_t) (end - at));

    return found == NULL ? end : found;
}

/* The first "://" from at on, or the end. */
static const char *
find_authority(const char *at, const char *end)
{
    while ((at = find(at, end, ':')) < end) {
        if (end - at >= 3 && at[1] == '/' && at[2] == '/') {
            break;
        }
        at++;
    }
    return at;
}

static void
put_text(const mayday_redact_t *redact, output_t *out, const char *at, const char *end,
         const char *question, const char *authority)
{
    while (at < end && (out->flags & MAYDAY_FIELD_CUT) == 0) {
        const char *special = question < authority ? question : authority;

        if (special == end) {
            put(out, at, end);
            break;
        }
        if (special == authority) {
            put(out, at, special + 3);
            at = put_authority(out, special + 3, end);
        } else if (redact != NULL) {
            at = put_query(redact, out, at, special + 1, end, IN_TEXT);
        } else {
            const char *query = special + 1, *stop = scan(query, end, IN_TEXT);

            put(out, at, stop > query ? special : query);
            out->flags |= stop > query ? MAYDAY_FIELD_FILTERED : 0;
            at = stop;
        }
        if (question < at) {
            question = find(at, end, '?');
        }
        if (authority < at) {
            authority = find_authority(at, end);
        }
    }
}

/* Without an "@" no authority has anything to filter; most texts have no query either. */
bool
mayday_redact_is_clean(const mayday_redact_t *redact, mayday_slice_t text)
{
    const char *end = text.data + text.len, *question;

    if (text.len == 0) {
        return true;
    }
    question = memchr(text.data, '?', text.len);
    if (question != NULL && (redact == NULL || run(redact, question, end) < redact->harmless)) {
        return false;
    }
    return memchr(text.data, '@', text.len) == NULL;
}

size_t
mayday_redact_text(const mayday_redact_t *redact, char *out, size_t size, mayday_slice_t text,
                   unsigned *flags)
{
    const char *at = text.data, *end = text.data + text.len;
    output_t o = {out, size, 0};

    if (text.len > 0) {
        put_text(redact, &o, at, end, find(at, end, '?'), find_authority(at, end));
    }
    *flags = o.flags;
    return size - o.room;
}
