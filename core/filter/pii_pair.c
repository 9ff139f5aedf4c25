/*
 * Values that their names give away, within text: forms, queries, headers, JSON
 * (also as a string within JSON), what languages print of their objects.
 *
 *   password=abc   token: "abc"   'secret' => 'abc'   {\"auth\":\"abc\"}
 *
 * Behind a bare word ":" counts only where a space follows, and only for names
 * that are unmistakable: prose has many colons.
 *
 * Runs in the agent; allocates nothing. See pii_private.h for matchers.
 */
#include "core/capture/record_format.h"
#include "core/filter/pii_private.h"

enum { NAME_LENGTH_MAX = 64 };

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
    while (end > floor && skipped < 4 &&
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
 * What stands in quotes that begin at a place. They end at the same quote,
 * written the same way (\" ends what \" began, a mere " does not end at \"), or
 * with the text where that was cut.
 */
static mayday_pii_span_t
quoted(mayday_slice_t text, size_t at, bool escaped)
{
    size_t end;

    for (end = at + 1; end < text.len && text.data[end] != text.data[at]; end++) {
        bool backslash = text.data[end] == '\\' && end + 1 < text.len;

        if (backslash && escaped && text.data[end + 1] == text.data[at]) {
            break;
        }
        end += backslash && !escaped;
    }
    end = end < text.len ? end : text.len;
    return (mayday_pii_span_t){at + 1, end};
}

/* An object or list that begins at a place, up to the bracket that closes it. */
static mayday_pii_span_t
bracketed(mayday_slice_t text, size_t at)
{
    size_t depth = 0, i;

    for (i = at; i < text.len; i++) {
        char c = text.data[i];

        if (c == '"') {
            i = quoted(text, i, false).end;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return (mayday_pii_span_t){at, i + 1};
        }
    }
    return (mayday_pii_span_t){at, text.len};
}

/* The value behind the "=" or ":" before a place. */
static mayday_pii_span_t
value_after(mayday_slice_t text, size_t at, bool strong)
{
    bool escaped;

    if (mayday_pii_at(text, at) == '>') { /* PHP's => */
        at++;
    }
    while (at < text.len && is_space(text.data[at])) {
        at++;
    }
    escaped = mayday_pii_at(text, at) == '\\' && is_quote(mayday_pii_at(text, at + 1));
    at += escaped;
    if (at == text.len) {
        return MAYDAY_PII_NOTHING;
    }
    if (is_quote(text.data[at])) {
        return quoted(text, at, escaped);
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

/*
 * Lines of code, which frames show, and errors quote: get_token(…), config["key"],
 * self.token, Keyword.Type, or the name itself.
 */
static bool
is_code(mayday_slice_t value, mayday_slice_t name, bool spaced)
{
    size_t i = 0;
    bool dot = false;

    while (i < value.len && (mayday_pii_is(value, i, MAYDAY_PII_ALPHA) || value.data[i] == '_' ||
                             value.data[i] == '.')) {
        dot = dot || value.data[i] == '.';
        i++;
    }
    if (i > 0 && i < value.len) {
        return value.data[i] == '(' || value.data[i] == '[';
    }
    return spaced && i == value.len && i > 0 &&
           (dot || (value.data[0] >= 'A' && value.data[0] <= 'Z') ||
            (name.len >= value.len &&
             mayday_slice_ieq(value, mayday_slice(name.data + name.len - value.len, value.len))));
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

static bool
is_scheme(mayday_slice_t word)
{
    return mayday_slice_ieq(word, MAYDAY_SLICE("bearer")) ||
           mayday_slice_ieq(word, MAYDAY_SLICE("basic")) ||
           mayday_slice_ieq(word, MAYDAY_SLICE("digest")) ||
           mayday_slice_ieq(word, MAYDAY_SLICE("token"));
}

/* At the "=" or ":". */
mayday_pii_span_t
mayday_pii_value(mayday_slice_t text, size_t at, size_t floor)
{
    bool marked, header, is_token;
    mayday_slice_t name = name_before(text, at, floor, &marked), value;
    mayday_pii_name_t kind;
    mayday_pii_span_t span;

    header = text.data[at] == ':' && !marked;
    if (!header && !marked && is_space(mayday_pii_at(text, at + 1)) && at > 0 &&
        is_name(text.data[at - 1])) {
        return MAYDAY_PII_NOTHING; /* "token= secret=abc": an empty one */
    }
    if (name.len < 3 || (header && !is_space(mayday_pii_at(text, at + 1))) ||
        mayday_pii_at(text, at + 1) == '=' ||
        (kind = mayday_pii_name_kind(last_part(name))) == MAYDAY_PII_NAME_PLAIN ||
        (header && kind != MAYDAY_PII_NAME_STRONG) ||
        (kind == MAYDAY_PII_NAME_KEY && text.data[at] == ':')) {
        return MAYDAY_PII_NOTHING;
    }
    span = value_after(text, at + 1, kind == MAYDAY_PII_NAME_STRONG);
    value = mayday_slice(text.data + span.begin, span.end - span.begin);
    if (span.end == 0 || mayday_pii_is_spent(value) || !has_letter_or_digit(value)) {
        return MAYDAY_PII_NOTHING;
    }
    if (span.begin > 0 && !is_quote(text.data[span.begin - 1]) &&
        is_code(value, name, text.data[at] == '=' && text.data[span.begin - 1] == ' ')) {
        return MAYDAY_PII_NOTHING;
    }
    is_token = mayday_slice_ieq(name, MAYDAY_SLICE("token"));
    if (header && (is_remark(value) || (is_token && !looks_random(value)))) {
        return MAYDAY_PII_NOTHING;
    }
    if (kind == MAYDAY_PII_NAME_KEY && !in_query(text, name) && !looks_random(value)) {
        return MAYDAY_PII_NOTHING;
    }
    if (is_scheme(value) && mayday_pii_at(text, span.end) == ' ') { /* Authorization: Basic … */
        size_t rest = span.end + 1;

        span.end = word_end(text, rest);
        if (!has_letter_or_digit(mayday_slice(text.data + rest, span.end - rest))) {
            return MAYDAY_PII_NOTHING;
        }
    }
    return span;
}
