/*
 * See scrub.h. Every secret that is looked for stands behind a ":", a "=" or the
 * space after a scheme's name, so these are the only bytes that cost anything.
 *
 * Runs in the agent; allocates nothing, blocks on nothing.
 */
#include "core/event/scrub.h"

#include "core/capture/record_format.h"

enum { NAME_LENGTH_MAX = 64 };

static const struct {
    const char *text; /* at least three letters */
    bool plain;       /* counts in "name: value", too */
} terms[] = {
    {"password", true},  {"passwd", true},  {"pwd", true},      {"token", true},
    {"secret", true},    {"jwt", true},     {"bearer", true},   {"authorization", true},
    {"api-key", true},   {"api_key", true}, {"apikey", true},   {"credentials", true},
    {"auth", false},     {"key", false},    {"sso", false},     {"saml", false},
    {"csrf", false},     {"xsrf", false},   {"session", false}, {"sid", false},
    {"identity", false},
};

#define BIT(letter) (1u << ((letter) - 'a'))
static const uint32_t initials = BIT('p') | BIT('t') | BIT('s') | BIT('a') | BIT('j') | BIT('b') |
                                 BIT('c') | BIT('k') | BIT('x') | BIT('i');

static bool
begins(mayday_slice_t s, const char *term)
{
    size_t i;

    for (i = 0; term[i] != '\0'; i++) {
        if (i == s.len || mayday_lower(s.data[i]) != term[i]) {
            return false;
        }
    }
    return true;
}

static bool
holds_term(mayday_slice_t name, bool plain_only)
{
    size_t i, t;

    for (i = 0; i + 3 <= name.len; i++) {
        char c = mayday_lower(name.data[i]);
        if (c < 'a' || c > 'z' || (initials & BIT(c)) == 0) {
            continue;
        }
        for (t = 0; t < MAYDAY_COUNT(terms); t++) {
            if (terms[t].text[0] == c && (terms[t].plain || !plain_only) &&
                begins(mayday_slice(name.data + i, name.len - i), terms[t].text)) {
                return true;
            }
        }
    }
    return false;
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_quote(char c)
{
    return c == '"' || c == '\'';
}

static bool
is_name(char c)
{
    return mayday_is_alnum(c) || c == '_' || c == '-' || c == '.';
}

/* What a secret without quotes ends with. */
static bool
is_delimiter(char c)
{
    return is_space(c) || is_quote(c) || (c != '\0' && strchr("&,;)}]<>|", c) != NULL);
}

/* The name that ends before position end; *marked: in quotes or brackets. */
static mayday_slice_t
name_before(mayday_slice_t text, size_t end, bool *marked)
{
    size_t begin, skipped = 0;

    *marked = false;
    while (end > 0 && skipped < 4 &&
           (is_quote(text.data[end - 1]) || text.data[end - 1] == ']' ||
            text.data[end - 1] == '\\' || text.data[end - 1] == ' ')) {
        *marked = *marked || text.data[end - 1] != ' ';
        end--;
        skipped++;
    }
    begin = end;
    while (begin > 0 && end - begin < NAME_LENGTH_MAX && is_name(text.data[begin - 1])) {
        begin--;
    }
    return mayday_slice(text.data + begin, end - begin);
}

static size_t
word_end(mayday_slice_t text, size_t i)
{
    while (i < text.len && !is_delimiter(text.data[i])) {
        i++;
    }
    return i;
}

/*
 * The value that follows position i, the first byte behind "=" or ":". A value
 * in quotes ends at the same quote, written the same way (\" ends what \" began,
 * a mere " does not end at \"), or with the text where that was cut.
 */
static mayday_slice_t
value_after(mayday_slice_t text, size_t i)
{
    size_t begin, end;

    if (i < text.len && text.data[i] == '>') { /* PHP's => */
        i++;
    }
    while (i < text.len && is_space(text.data[i])) {
        i++;
    }
    bool escaped = i + 1 < text.len && text.data[i] == '\\' && is_quote(text.data[i + 1]);
    i += escaped;
    if (i < text.len && is_quote(text.data[i])) {
        begin = i + 1;
        for (end = begin; end < text.len && text.data[end] != text.data[i]; end++) {
            bool backslash = text.data[end] == '\\' && end + 1 < text.len;
            if (backslash && escaped && text.data[end + 1] == text.data[i]) {
                break;
            }
            end += backslash && !escaped;
        }
        return mayday_slice(text.data + begin, end - begin);
    }
    begin = i;
    end = word_end(text, begin);
    mayday_slice_t word = mayday_slice(text.data + begin, end - begin);
    if (end + 1 < text.len && text.data[end] == ' ' &&
        (mayday_slice_ieq(word, MAYDAY_SLICE("bearer")) ||
         mayday_slice_ieq(word, MAYDAY_SLICE("basic")) ||
         mayday_slice_ieq(word, MAYDAY_SLICE("digest")))) {
        end = word_end(text, end + 1);
    }
    return mayday_slice(text.data + begin, end - begin);
}

/* User and password of the URL whose "//" ends before position i. */
static mayday_slice_t
userinfo_after(mayday_slice_t text, size_t i)
{
    size_t end, at = SIZE_MAX;

    for (end = i; end < text.len && !is_delimiter(text.data[end]) && text.data[end] != '/' &&
                  text.data[end] != '?' && text.data[end] != '#';
         end++) {
        if (text.data[end] == '@') {
            at = end;
        }
    }
    return at == SIZE_MAX ? mayday_slice(NULL, 0) : mayday_slice(text.data + i, at - i);
}

/* The credentials behind the space at position i, if a scheme's name ends there. */
static mayday_slice_t
credentials_after(mayday_slice_t text, size_t i)
{
    static const char *const schemes[] = {"bearer", "basic"};
    const size_t basic_min = 8; /* "basic auth failed" is prose */
    size_t s;

    for (s = 0; s < MAYDAY_COUNT(schemes); s++) {
        size_t len = strlen(schemes[s]);
        if (i >= len && begins(mayday_slice(text.data + i - len, len), schemes[s]) &&
            (i == len || !is_name(text.data[i - len - 1]))) {
            size_t end = word_end(text, i + 1);
            if (s == 0 || end - (i + 1) > basic_min) {
                return mayday_slice(text.data + i + 1, end - (i + 1));
            }
        }
    }
    return mayday_slice(NULL, 0);
}

/* The secret that the byte at position i announces; empty: none. */
static mayday_slice_t
secret_at(mayday_slice_t text, size_t i)
{
    bool marked;

    if (text.data[i] == ' ') {
        return credentials_after(text, i);
    }
    if (text.data[i] == ':' && i + 2 < text.len && text.data[i + 1] == '/' &&
        text.data[i + 2] == '/') {
        return userinfo_after(text, i + 3);
    }
    mayday_slice_t name = name_before(text, i, &marked);
    bool header = text.data[i] == ':' && !marked;
    if (header && (i + 1 == text.len || !is_space(text.data[i + 1]))) {
        return mayday_slice(NULL, 0); /* host:port, a clock, C++ */
    }
    if (holds_term(name, header)) {
        return value_after(text, i + 1);
    }
    return mayday_slice(NULL, 0);
}

bool
mayday_scrub_text(mayday_buf_t *out, mayday_slice_t text)
{
    const mayday_slice_t filtered = MAYDAY_SLICE(MAYDAY_FILTERED);
    size_t copied = 0, i = 0;
    bool any = false;

    while (i < text.len) {
        char c = text.data[i];
        if (c != ':' && c != '=' && c != ' ') {
            i++;
            continue;
        }
        mayday_slice_t secret = secret_at(text, i);
        i++;
        if (secret.len == 0) {
            continue;
        }
        size_t begin = (size_t) (secret.data - text.data);
        i = begin + secret.len;
        if (mayday_slice_starts(mayday_slice(secret.data, text.len - begin), filtered)) {
            i = begin + filtered.len;
            continue;
        }
        mayday_buf_add(out, mayday_slice(text.data + copied, begin - copied));
        mayday_buf_add(out, filtered);
        copied = i;
        any = true;
    }
    mayday_buf_add(out, mayday_slice(text.data + copied, text.len - copied));
    return any;
}
