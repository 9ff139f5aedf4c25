/*
 * Values that their names give away, within text: forms, queries, headers, JSON
 * (also as a string within JSON), what languages print of their objects.
 *
 *   password=abc   token: "abc"   'secret' => 'abc'   {\"auth\":\"abc\"}
 *   map[password:abc123]   password%3Dabc   %22token%22%3A%22abc%22
 *
 * Behind a bare word ":" counts only for names that are unmistakable, and without
 * a space only for values that look made up: prose has many colons, and so have
 * hosts with ports.
 *
 * Runs in the agent; allocates nothing. See pii_private.h for matchers.
 */
#include "core/capture/record_format.h"
#include "core/filter/pii_private.h"

enum { NAME_LENGTH_MAX = 64, SLASHES_MAX = 15, ENCODED_MAX = 8 };

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_quote(char c)
{
    return c == '"' || c == '\'' || c == '`';
}

static bool
is_name(char c)
{
    return mayday_is_alnum(c) || c == '_' || c == '-' || c == '.';
}

/* What a value without quotes ends with. */
static bool
is_delimiter(char c)
{
    return is_space(c) || is_quote(c) || c == '\0' || strchr("&,;)}]<>|\\", c) != NULL;
}

bool
mayday_pii_is_spent(mayday_slice_t value)
{
    static const char *const nothing[] = {"",     "true",      "false",  "null", "nil",
                                          "none", "undefined", "(null)", "...",  "%s"};

    for (size_t i = 0; i < MAYDAY_COUNT(nothing); i++) {
        if (mayday_slice_ieq(value, mayday_slice_str(nothing[i]))) {
            return true;
        }
    }
    return mayday_slice_starts(value, MAYDAY_SLICE(MAYDAY_FILTERED));
}

/* The name that ends before a place. *marked: it is in quotes or brackets. */
static mayday_slice_t
name_before(mayday_slice_t text, size_t end, size_t floor, bool *marked)
{
    size_t begin, skipped = 0;

    *marked = false;
    while (end > floor && skipped < SLASHES_MAX + 3 &&
           (is_quote(text.data[end - 1]) || strchr("]\\ ", text.data[end - 1]) != NULL) &&
           text.data[end - 1] != '\0') {
        *marked = *marked || text.data[end - 1] != ' ';
        end--;
        skipped++;
    }
    begin = end;
    while (begin > floor && end - begin < NAME_LENGTH_MAX && is_name(text.data[begin - 1])) {
        begin--;
    }
    return mayday_slice(text.data + begin, end - begin);
}

static size_t
word_end(mayday_slice_t text, size_t at)
{
    while (at < text.len && !is_delimiter(text.data[at])) {
        at++;
    }
    return at;
}

/*
 * What stands in quotes that begin at a place, behind so many backslashes. They end
 * at the same quote, written the same way (\" ends what \" began, and \\\" is one
 * within), at one of the text around, or with the text where that was cut.
 */
static mayday_pii_span_t
quoted(mayday_slice_t text, size_t at, size_t slashes)
{
    size_t before = 0;

    for (size_t i = at + 1; i < text.len; i++) {
        if (text.data[i] == '\\') {
            before++;
            continue;
        }
        if (text.data[i] == text.data[at] &&
            (before < slashes || before % (2 * (slashes + 1)) == slashes)) {
            return (mayday_pii_span_t){at + 1, i - (before < slashes ? before : slashes)};
        }
        before = 0;
    }
    return (mayday_pii_span_t){at + 1, text.len};
}

/* An object or list that begins at a place, up to the bracket that closes it. */
static mayday_pii_span_t
bracketed(mayday_slice_t text, size_t at)
{
    size_t depth = 0, i;

    for (i = at; i < text.len; i++) {
        char c = text.data[i];

        if (c == '"') {
            i = quoted(text, i, 0).end;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return (mayday_pii_span_t){at, i + 1};
        }
    }
    return (mayday_pii_span_t){at, text.len};
}

/* get_token(…) and config["key"]: lines of code, which frames show. */
static bool
is_call(mayday_slice_t text, size_t at)
{
    size_t i = at;

    while (mayday_pii_is(text, i, MAYDAY_PII_ALPHA) || mayday_pii_at(text, i) == '_' ||
           mayday_pii_at(text, i) == '.') {
        i++;
    }
    return i > at && (mayday_pii_at(text, i) == '(' || mayday_pii_at(text, i) == '[');
}

/* The value behind the "=" or ":" before a place. */
static mayday_pii_span_t
value_after(mayday_slice_t text, size_t at, bool strong)
{
    size_t slashes = 0;

    if (mayday_pii_at(text, at) == '>') { /* PHP's => */
        at++;
    }
    while (at < text.len && is_space(text.data[at])) {
        at++;
    }
    while (slashes < SLASHES_MAX && mayday_pii_at(text, at + slashes) == '\\') {
        slashes++;
    }
    if (is_quote(mayday_pii_at(text, at + slashes))) {
        return quoted(text, at + slashes, slashes);
    }
    if (at >= text.len || is_call(text, at)) {
        return MAYDAY_PII_NOTHING;
    }
    if (text.data[at] == '{' || text.data[at] == '[') {
        return strong && !mayday_pii_has_literal(text, at, MAYDAY_FILTERED) ? bracketed(text, at)
                                                                            : MAYDAY_PII_NOTHING;
    }
    return (mayday_pii_span_t){at, word_end(text, at)};
}

/* "password: incorrect", "token: unexpected": prose about a secret. */
static bool
is_remark(mayday_slice_t word)
{
    static const char *const words[] = {"incorrect", "invalid",   "expired",    "required",
                                        "missing",   "wrong",     "is",         "was",
                                        "not",       "must",      "too",        "cannot",
                                        "failed",    "denied",    "no",         "empty",
                                        "mismatch",  "unknown",   "unexpected", "rejected",
                                        "ok",        "yes",       "the",        "should",
                                        "has",       "have",      "could",      "bad",
                                        "revoked",   "malformed", "unable",     "authentication",
                                        "str",       "string",    "bytes",      "int",
                                        "bool",      "boolean",   "object",     "array",
                                        "text",      "optional"};

    for (size_t i = 0; i < MAYDAY_COUNT(words); i++) {
        if (mayday_slice_ieq(word, mayday_slice_str(words[i]))) {
            return true;
        }
    }
    return false;
}

/* "Unexpected token: identifier" is a parser's. */
static bool
looks_random(mayday_slice_t word)
{
    bool digit = false;

    for (size_t i = 0; i < word.len; i++) {
        digit = digit || mayday_is_digit(word.data[i]);
    }
    return word.len >= (digit ? 6 : 16);
}

/* "?key=", "&key=": of a URL or a form. */
static bool
in_query(mayday_slice_t text, mayday_slice_t name)
{
    return name.data > text.data && (name.data[-1] == '?' || name.data[-1] == '&');
}

/* self.token, Keyword.Type, or the name itself: code again. */
static bool
is_variable(mayday_slice_t value, mayday_slice_t name)
{
    size_t i = 0;
    bool dot = false;

    while (i < value.len && (mayday_pii_is(value, i, MAYDAY_PII_ALPHA) || value.data[i] == '_' ||
                             value.data[i] == '.')) {
        dot = dot || value.data[i] == '.';
        i++;
    }
    return i == value.len && i > 0 &&
           (dot || (value.data[0] >= 'A' && value.data[0] <= 'Z') ||
            (name.len >= value.len &&
             mayday_slice_ieq(value, mayday_slice(name.data + name.len - value.len, value.len))));
}

/* "$1" and ":password" in the place of a value: SQL's. */
static bool
is_parameter(mayday_slice_t value, mayday_slice_t name)
{
    if (value.len < 2 || value.len > NAME_LENGTH_MAX) {
        return false;
    }
    return (value.len <= 3 && value.data[0] == '$' &&
            mayday_pii_run(value, 1, MAYDAY_PII_DIGIT, SIZE_MAX) == value.len) ||
           (value.data[0] == ':' &&
            mayday_slice_ieq(mayday_slice(value.data + 1, value.len - 1), name));
}

static bool
has_letter_or_digit(mayday_slice_t value)
{
    size_t i = 0;

    while (i < value.len && !mayday_pii_is(value, i, MAYDAY_PII_WORD)) {
        i++;
    }
    return i < value.len;
}

/* Of "spring.datasource.password" the last part says what it is. */
static mayday_slice_t
last_part(mayday_slice_t name)
{
    size_t begin = name.len;

    while (begin > 0 && name.data[begin - 1] != '.') {
        begin--;
    }
    return mayday_slice(name.data + begin, name.len - begin);
}

/* ---- credentials behind the name of a scheme ---- */

static bool
is_scheme(mayday_slice_t word, mayday_slice_t name)
{
    static const char *const schemes[] = {
        "bearer", "basic", "digest", "token", "negotiate",       "ntlm",
        "hawk",   "oauth", "apikey", "key",   "aws4-hmac-sha256"};
    const mayday_slice_t header = MAYDAY_SLICE("authorization");
    bool any = name.len >= header.len && mayday_pii_ihas(name, name.len - header.len, header.data);

    for (size_t i = 0; i < (any ? MAYDAY_COUNT(schemes) : 4); i++) {
        if (mayday_slice_ieq(word, mayday_slice_str(schemes[i]))) {
            return true;
        }
    }
    return false;
}

/* username="jane", and not the padding of base64. */
static bool
is_named(mayday_slice_t text, size_t at)
{
    size_t end = at < text.len ? mayday_pii_run(text, at, MAYDAY_PII_TOKEN, NAME_LENGTH_MAX) : at;
    char next = mayday_pii_at(text, end + 1);

    return end > at && mayday_pii_at(text, end) == '=' && next != '=' &&
           (is_quote(next) || !is_delimiter(next));
}

/* One word, or named ones with commas between. */
static size_t
credentials_end(mayday_slice_t text, size_t at)
{
    size_t next = at, end = at;

    do {
        bool named = is_named(text, next);

        end = word_end(text, next);
        if (named && is_quote(mayday_pii_at(text, end))) {
            end = quoted(text, end, 0).end;
            end += end < text.len;
        }
        next = end + 1;
        while (next < text.len && next - end < 4 && is_space(text.data[next])) {
            next++;
        }
        if (!named) {
            break;
        }
    } while (mayday_pii_at(text, end) == ',' && is_named(text, next));
    return end;
}

/* ---- names and what they announce ---- */

/* A shell's directory, which name_kind knows, or the password of ODBC, which is none. */
static mayday_pii_name_t
kind_of(mayday_slice_t name, mayday_slice_t text, size_t at)
{
    if (mayday_slice_eq(name, MAYDAY_SLICE("PWD")) && mayday_pii_is(text, at, MAYDAY_PII_WORD)) {
        return MAYDAY_PII_NAME_STRONG;
    }
    return mayday_pii_name_kind(last_part(name));
}

/* map[password:abc123 …], {Password:abc123}, but no host and port, path or type. */
static bool
is_unspaced_value(mayday_slice_t text, mayday_slice_t name, mayday_slice_t value)
{
    const char before = *(name.data > text.data ? name.data - 1 : " ");
    bool port = mayday_pii_run(value, 0, MAYDAY_PII_DIGIT, 5) == value.len ||
                value.data[mayday_pii_run(value, 0, MAYDAY_PII_DIGIT, 5)] == '/';

    if (port || value.data[0] == ':' || value.data[0] == '/' ||
        memchr(name.data, '-', name.len) != NULL || memchr(name.data, '.', name.len) != NULL) {
        return false;
    }
    return before == '[' || before == '{' ||
           (looks_random(value) && strchr(" (,;", before) != NULL && before != '\0');
}

/* Whether what stands there under that name only speaks of secrets. */
static bool
is_no_secret(mayday_slice_t text, size_t at, mayday_slice_t name, mayday_pii_name_t kind,
             mayday_pii_span_t span, bool header)
{
    mayday_slice_t value = mayday_slice(text.data + span.begin, span.end - span.begin);
    bool spaced = text.data[at] == '=' && text.data[span.begin - 1] == ' ';
    bool is_token = mayday_slice_ieq(name, MAYDAY_SLICE("token"));

    if (mayday_pii_is_spent(value) || !has_letter_or_digit(value) || is_parameter(value, name)) {
        return true;
    }
    if (!is_quote(text.data[span.begin - 1]) && spaced && is_variable(value, name)) {
        return true;
    }
    if (header && (is_remark(value) || (is_token && !looks_random(value)) ||
                   (span.begin == at + 1 && !is_unspaced_value(text, name, value)))) {
        return true;
    }
    return kind == MAYDAY_PII_NAME_KEY && !in_query(text, name) && !looks_random(value);
}

/* At the "=" or ":". */
mayday_pii_span_t
mayday_pii_value(mayday_slice_t text, size_t at, size_t floor)
{
    char next = mayday_pii_at(text, at + 1);
    bool marked, header;
    mayday_slice_t name = name_before(text, at, floor, &marked);
    mayday_pii_name_t kind;
    mayday_pii_span_t span;

    if (text.data[at] == ':' && at >= 7 && mayday_pii_has_literal(text, at - 7, "[token]")) {
        return MAYDAY_PII_NOTHING; /* an earlier pass's, not a name */
    }
    header = text.data[at] == ':' && !marked;
    if (!header && !marked && is_space(next) && at > 0 && is_name(text.data[at - 1])) {
        return MAYDAY_PII_NOTHING; /* "token= secret=abc": an empty one */
    }
    if (name.len < 3 || next == '=' || (header && next == ':') ||
        (kind = kind_of(name, text, at + 1)) == MAYDAY_PII_NAME_PLAIN ||
        (header && kind != MAYDAY_PII_NAME_STRONG) ||
        (kind == MAYDAY_PII_NAME_KEY && text.data[at] == ':')) {
        return MAYDAY_PII_NOTHING;
    }
    span = value_after(text, at + 1, kind == MAYDAY_PII_NAME_STRONG);
    if (span.end == 0 || is_no_secret(text, at, name, kind, span, header)) {
        return MAYDAY_PII_NOTHING;
    }
    if (mayday_pii_at(text, span.end) == ' ' &&
        is_scheme(mayday_slice(text.data + span.begin, span.end - span.begin), name)) {
        size_t rest = span.end + 1;

        span.end = credentials_end(text, rest);
        if (!has_letter_or_digit(mayday_slice(text.data + rest, span.end - rest))) {
            return MAYDAY_PII_NOTHING;
        }
    }
    return span;
}

/* ---- the same, percent-encoded: a URL or a form within a URL ---- */

/* "%26", and "%2526" where it was encoded again: the end of it, and the byte; 0: there is none. */
static size_t
encoded(mayday_slice_t text, size_t at, char *byte)
{
    int high, low;

    if (mayday_pii_at(text, at) != '%') {
        return 0;
    }
    for (at++; mayday_pii_has_literal(text, at, "25"); at += 2) {
    }
    high = mayday_hex_digit(mayday_pii_at(text, at));
    low = mayday_hex_digit(mayday_pii_at(text, at + 1));
    if (high < 0 || low < 0) {
        return 0;
    }
    *byte = (char) (high << 4 | low);
    return at + 2;
}

/* Where the encoded byte that ends at a place begins; the place itself: there is none. */
static size_t
encoded_before(mayday_slice_t text, size_t end, size_t floor, char *byte)
{
    size_t begin = end;

    while (begin > floor && end - begin < ENCODED_MAX && text.data[begin - 1] != '%') {
        begin--;
    }
    return begin > floor && text.data[begin - 1] == '%' && encoded(text, begin - 1, byte) == end
               ? begin - 1
               : end;
}

/* The name before a place, without encoded quotes around it and what is encoded before it. */
static mayday_slice_t
encoded_name_before(mayday_slice_t text, size_t end, size_t floor, bool *marked)
{
    char byte = '\0';
    size_t quote = encoded_before(text, end, floor, &byte), begin;
    mayday_slice_t name;
    bool ignored;

    *marked = quote < end && is_quote(byte);
    end = *marked ? quote : end;
    name = name_before(text, end, floor, &ignored);
    begin = (size_t) (name.data - text.data);
    if (begin > floor && text.data[begin - 1] == '%') {
        begin = encoded(text, begin - 1, &byte);
        name = begin == 0 || begin > end ? mayday_slice(text.data + end, 0)
                                         : mayday_slice(text.data + begin, end - begin);
    }
    return name;
}

/* At the "%" of "%3D" or "%3A". */
mayday_pii_span_t
mayday_pii_encoded_value(mayday_slice_t text, size_t at, size_t floor)
{
    char sign = '\0', byte = '\0';
    size_t begin = encoded(text, at, &sign), end, next;
    mayday_pii_name_t kind;
    mayday_slice_t name;
    bool marked, object;

    if (begin == 0 || (sign != '=' && sign != ':')) {
        return MAYDAY_PII_NOTHING;
    }
    name = encoded_name_before(text, at, floor, &marked);
    if (name.len < 3 || (sign == ':' && !marked) ||
        (kind = mayday_pii_name_kind(last_part(name))) == MAYDAY_PII_NAME_PLAIN ||
        (sign == ':' && kind == MAYDAY_PII_NAME_KEY)) {
        return MAYDAY_PII_NOTHING;
    }
    next = encoded(text, begin, &byte);
    begin = next > 0 && is_quote(byte) ? next : begin;
    object = next > 0 && (byte == '{' || byte == '[');
    for (end = begin; end < text.len && !is_delimiter(text.data[end]); end++) {
        if (!object && encoded(text, end, &byte) > 0 && (is_delimiter(byte) || byte == '#')) {
            break;
        }
    }
    return end > begin && !mayday_pii_has_literal(text, begin, MAYDAY_FILTERED) &&
                   !mayday_pii_is_spent(mayday_slice(text.data + begin, end - begin))
               ? (mayday_pii_span_t){begin, end}
               : MAYDAY_PII_NOTHING;
}
