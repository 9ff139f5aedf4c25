/*
 * What the name of a value says of it: Sentry's denylist (auth token secret
 * password passwd pwd key jwt bearer sso saml csrf xsrf credentials session sid
 * identity), read by words. "author", "keyword" and "passenger" hold a term by
 * accident, "token_count" and "primary_key" are named after a secret and hold none.
 *
 * Runs in the agent; allocates nothing.
 */
#include "core/filter/pii_private.h"

enum { NAME_MAX_LEN = 128 };

typedef struct {
    const char *text; /* in small letters */
    uint8_t len;
    bool strong; /* counts wherever it stands in a name; else only as a word of its own */
} term_t;

#define STRONG(text)                                                                               \
    {                                                                                              \
        text, sizeof(text) - 1, true                                                               \
    }
#define WEAK(text)                                                                                 \
    {                                                                                              \
        text, sizeof(text) - 1, false                                                              \
    }

static const term_t terms[] = {
    STRONG("password"),   STRONG("passwd"),      STRONG("passphrase"), STRONG("pwd"),
    STRONG("secret"),     STRONG("token"),       STRONG("jwt"),        STRONG("bearer"),
    STRONG("credential"), STRONG("csrf"),        STRONG("xsrf"),       STRONG("authorization"),
    STRONG("apikey"),     STRONG("api_key"),     STRONG("api-key"),    STRONG("privatekey"),
    STRONG("accesskey"),  STRONG("private_key"), STRONG("access_key"), STRONG("private-key"),
    STRONG("access-key"), STRONG("sessionid"),   STRONG("sessid"),     STRONG("cvv"),
    WEAK("auth"),         WEAK("key"),           WEAK("sso"),          WEAK("saml"),
    WEAK("session"),      WEAK("sess"),          WEAK("sid"),          WEAK("identity"),
    WEAK("pass"),         WEAK("otp"),
};

/*
 * The second letters of terms by the first, a bit each, both as the lower five bits
 * of the byte: what is no letter may pass, and is found out by the comparison.
 */
#define BIT(letter) (1u << ((letter) &31))
#define ROW(letter) [(letter) &31]
static const uint32_t seconds[32] = {
    ROW('a') = BIT('u') | BIT('p') | BIT('c'),
    ROW('b') = BIT('e'),
    ROW('c') = BIT('r') | BIT('s') | BIT('v'),
    ROW('i') = BIT('d'),
    ROW('j') = BIT('w'),
    ROW('k') = BIT('e'),
    ROW('o') = BIT('t'),
    ROW('p') = BIT('a') | BIT('w') | BIT('r'),
    ROW('s') = BIT('e') | BIT('s') | BIT('a') | BIT('i'),
    ROW('t') = BIT('o'),
    ROW('x') = BIT('s'),
};

static bool
is_letter(mayday_slice_t s, size_t at)
{
    return mayday_pii_is(s, at, MAYDAY_PII_ALPHA);
}

static bool
is_capital(mayday_slice_t s, size_t at)
{
    return at < s.len && s.data[at] >= 'A' && s.data[at] <= 'Z';
}

/* "userId" and "user_id" are two words; a digit is no letter. */
static bool
is_boundary(mayday_slice_t name, size_t at)
{
    return at == 0 || !is_letter(name, at) || !is_letter(name, at - 1) ||
           (is_capital(name, at) && !is_capital(name, at - 1));
}

/* The letters from a place on, up to the next word. */
static mayday_slice_t
word_at(mayday_slice_t name, size_t at)
{
    size_t end = at;

    while (is_letter(name, end) && (end == at || !is_boundary(name, end))) {
        end++;
    }
    return mayday_slice(name.data + at, end - at);
}

static bool
is_one_of(mayday_slice_t word, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (mayday_slice_ieq(word, mayday_slice_str(*words))) {
            return true;
        }
    }
    return false;
}

static size_t
next_word(mayday_slice_t name, size_t at)
{
    while (at < name.len && !is_letter(name, at)) {
        at++;
    }
    return at;
}

/* "JsonWebTokenError", "TokenMismatchException": a class, not a value's name. */
static bool
ends_as_error(mayday_slice_t name)
{
    static const char *const ends[] = {"error", "exception"};

    for (size_t i = 0; i < MAYDAY_COUNT(ends); i++) {
        size_t len = strlen(ends[i]);

        if (name.len > len && mayday_pii_ihas(name, name.len - len, ends[i])) {
            return true;
        }
    }
    return false;
}

/* "token_count": what follows says that the value is about a secret, not one. */
static bool
is_about(mayday_slice_t name, size_t end)
{
    static const char *const about[] = {
        "count",    "type",    "length",    "len",      "expires", "expiry",   "expiration",
        "expired",  "ttl",     "policy",    "required", "enabled", "valid",    "strength",
        "attempts", "changed", "algorithm", "url",      "uri",     "endpoint", "usage",
        "limit",    "name",    "size",      "s",        NULL};
    size_t at = next_word(name, end);
    mayday_slice_t word = word_at(name, at);

    if (ends_as_error(name)) {
        return true;
    }
    if (at == end && !is_boundary(name, at)) { /* the rest of the same word */
        static const char *const rests[] = {"ize", "izer", "ized", "ization", "ary", NULL};
        bool plural = mayday_slice_ieq(word, MAYDAY_SLICE("s"));
        size_t after = next_word(name, at + word.len);

        return is_one_of(word, rests) ||
               (plural && (is_one_of(word_at(name, after), about) ||
                           mayday_slice_ieq(word_at(name, after), MAYDAY_SLICE("used"))));
    }
    if (word.len == 0 || next_word(name, at + word.len) != name.len) {
        return false;
    }
    return is_one_of(word, about) || /* or of many: "token_types" */
           (mayday_lower(word.data[word.len - 1]) == 's' &&
            is_one_of(mayday_slice(word.data, word.len - 1), about));
}

/* The word that ends before a place. */
static mayday_slice_t
word_before(mayday_slice_t name, size_t at)
{
    size_t end = at, begin;

    while (end > 0 && !is_letter(name, end - 1)) {
        end--;
    }
    for (begin = end; begin > 0 && is_letter(name, begin - 1); begin--) {
        if (begin < end && is_boundary(name, begin)) {
            break;
        }
    }
    return mayday_slice(name.data + begin, end - begin);
}

/* "max_tokens": a measure of text. */
static bool
is_amount(mayday_slice_t name, size_t at, size_t end)
{
    static const char *const measures[] = {"max",   "min",    "num",        "total",  "used",
                                           "input", "output", "completion", "prompt", NULL};

    return mayday_lower(mayday_pii_at(name, end)) == 's' && is_boundary(name, end + 1) &&
           is_one_of(word_before(name, at), measures);
}

/* "session", "user_session", "session_id", but not "session_type". */
static bool
is_whole_word(mayday_slice_t name, size_t at, size_t end)
{
    static const char *const holders[] = {"id",   "key",   "token", "cookie",
                                          "hash", "value", "data",  NULL};
    size_t next;

    if (!is_boundary(name, at) || !is_boundary(name, end)) {
        return false;
    }
    next = next_word(name, end);
    return next == name.len || (is_one_of(word_at(name, next), holders) &&
                                next_word(name, next + word_at(name, next).len) == name.len);
}

/* "primary_key": keys that open nothing. */
static bool
is_harmless_key(mayday_slice_t name, size_t at)
{
    static const char *const kinds[] = {
        "primary", "foreign", "cache",       "sort",        "routing", "partition",
        "public",  "unique",  "lookup",      "duplicate",   "group",   "message",
        "row",     "index",   "error",       "composite",   "object",  "issue",
        "tag",     "hot",     "idempotency", "translation", NULL};

    return is_one_of(word_before(name, at), kinds);
}

static mayday_pii_name_t
kind_at(mayday_slice_t name, size_t at, const term_t *term)
{
    size_t end = at + term->len;

    if (term->strong) {
        if (mayday_slice_ieq(name, MAYDAY_SLICE("PublicKeyToken"))) {
            return MAYDAY_PII_NAME_PLAIN; /* part of the name of .NET's assemblies */
        }
        return is_about(name, end) || is_amount(name, at, end) ? MAYDAY_PII_NAME_PLAIN
                                                               : MAYDAY_PII_NAME_STRONG;
    }
    if (!is_whole_word(name, at, end)) {
        return MAYDAY_PII_NAME_PLAIN;
    }
    if (term->text[0] == 'k') {
        return end != name.len || is_harmless_key(name, at) ? MAYDAY_PII_NAME_PLAIN
               : next_word(name, 0) == at                   ? MAYDAY_PII_NAME_KEY
                                                            : MAYDAY_PII_NAME_WEAK;
    }
    return MAYDAY_PII_NAME_WEAK;
}

static mayday_pii_name_t
best_at(mayday_slice_t name, size_t at, mayday_pii_name_t best)
{
    for (size_t t = 0; t < MAYDAY_COUNT(terms); t++) {
        if (terms[t].text[0] == mayday_lower(name.data[at]) &&
            terms[t].text[1] == mayday_lower(name.data[at + 1]) &&
            mayday_pii_ihas(name, at, terms[t].text)) {
            mayday_pii_name_t kind = kind_at(name, at, &terms[t]);

            best = kind > best ? kind : best;
        }
    }
    return best;
}

mayday_pii_name_t
mayday_pii_name_kind(mayday_slice_t name)
{
    mayday_pii_name_t best = MAYDAY_PII_NAME_PLAIN;

    name.len = name.len < NAME_MAX_LEN ? name.len : NAME_MAX_LEN;
    if (mayday_slice_eq(name, MAYDAY_SLICE("PWD")) ||
        mayday_slice_eq(name, MAYDAY_SLICE("OLDPWD"))) {
        return best; /* a shell's directory */
    }
    for (size_t i = 0; i + 3 <= name.len; i++) {
        char first = name.data[i], second = name.data[i + 1];

        if ((seconds[first & 31] >> (second & 31) & 1) != 0) {
            best = best_at(name, i, best);
        }
    }
    return best;
}
