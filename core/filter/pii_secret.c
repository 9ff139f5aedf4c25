/*
 * Secrets that their form gives away: tokens by prefix, credentials behind the
 * name of a scheme, private keys, users and passwords of URLs, and the names of
 * users in paths.
 *
 * Runs in the agent; allocates nothing. See pii_private.h for matchers.
 */
#include "core/filter/pii_private.h"

/* ---- tokens ---- */

/* A token has a digit within its first bytes, or it is none: looking for one is bounded. */
enum { TOKEN_MAX = 8192, DIGIT_WITHIN = 64, AWS_SECRET_LENGTH = 40 };

/* header.payload.signature of RFC 7519, each in base64url; a JSON object begins so. */
mayday_pii_span_t
mayday_pii_jwt(mayday_slice_t text, size_t at)
{
    size_t end = at, parts = 0;

    if (!mayday_pii_has_literal(text, at, "eyJ") && !mayday_pii_has_literal(text, at, "ewog")) {
        return MAYDAY_PII_NOTHING;
    }
    while (parts < 5) {
        size_t part = mayday_pii_run(text, end, MAYDAY_PII_TOKEN, TOKEN_MAX);

        if (part - end < (parts == 0 ? 10 : parts == 1 ? 4 : 1)) {
            break;
        }
        end = part;
        parts++;
        if (mayday_pii_at(text, end) != '.' || !mayday_pii_is(text, end + 1, MAYDAY_PII_TOKEN)) {
            break;
        }
        end++;
    }
    return parts >= 2 || (parts == 1 && mayday_pii_is_cut(text, end)) ? (mayday_pii_span_t){at, end}
                                                                      : MAYDAY_PII_NOTHING;
}

typedef struct {
    const char *prefix;
    uint8_t prefix_len;
    uint8_t rest_min;
} prefix_t;

#define PREFIX(text, rest_min)                                                                     \
    {                                                                                              \
        text, sizeof(text) - 1, rest_min                                                           \
    }

/* What the issuers document, in the order of the first letter. */
static const prefix_t prefixes[] = {
    PREFIX("AIza", 30),                            /* Google API key                  */
    PREFIX("AKIA", 16),                            /* AWS access key                  */
    PREFIX("ASIA", 16),                            /* AWS temporary access key        */
    PREFIX("ABIA", 16),                            /* AWS bearer token                */
    PREFIX("ACCA", 16),                            /* AWS context-specific credential */
    PREFIX("GOCSPX-", 20),                         /* Google OAuth client secret      */
    PREFIX("SG.", 20),                             /* SendGrid                        */
    PREFIX("atlasv1", 20),                         /* Terraform                       */
    PREFIX("dckr_pat_", 20),                       /* Docker                          */
    PREFIX("dop_v1_", 32),                         /* DigitalOcean                    */
    PREFIX("doo_v1_", 32),     PREFIX("dapi", 32), /* Databricks                      */
    PREFIX("ghp_", 30),                            /* GitHub                          */
    PREFIX("gho_", 30),        PREFIX("ghu_", 30),
    PREFIX("ghs_", 30),        PREFIX("ghr_", 30),
    PREFIX("github_pat_", 22), PREFIX("glpat-", 16), /* GitLab                          */
    PREFIX("gldt-", 16),       PREFIX("glrt-", 16),
    PREFIX("glsa_", 32),                          /* Grafana                         */
    PREFIX("glc_", 32),        PREFIX("hf_", 30), /* Hugging Face                    */
    PREFIX("hvs.", 20),                           /* Vault                           */
    PREFIX("npm_", 30),        PREFIX("pypi-", 50),
    PREFIX("rk_live_", 16), /* Stripe                          */
    PREFIX("rk_test_", 16),    PREFIX("sk_live_", 16),
    PREFIX("sk_test_", 16),    PREFIX("sk-ant-", 20), /* Anthropic                       */
    PREFIX("sk-proj-", 20),                           /* OpenAI                          */
    PREFIX("sk-", 40),         PREFIX("shpat_", 30),  /* Shopify                         */
    PREFIX("shpss_", 30),      PREFIX("sntrys_", 30), /* Sentry                          */
    PREFIX("sntryu_", 30),     PREFIX("tskey-", 16),  /* Tailscale                       */
    PREFIX("whsec_", 16),                             /* Stripe's and others' webhooks   */
    PREFIX("xapp-", 16),                              /* Slack                           */
    PREFIX("xoxa-", 10),       PREFIX("xoxb-", 10),
    PREFIX("xoxe.", 10),       PREFIX("xoxp-", 10),
    PREFIX("xoxr-", 10),       PREFIX("xoxs-", 10),
    PREFIX("ya29.", 20), /* Google OAuth access token       */
};

/* Their second letters by the first, as in pii_name.c: nearly every word ends here. */
#define BIT(letter) (1u << ((letter) &31))
#define ROW(letter) [(letter) &31]
static const uint32_t seconds[32] = {
    ROW('a') = BIT('i') | BIT('k') | BIT('s') | BIT('b') | BIT('c') | BIT('t'),
    ROW('d') = BIT('c') | BIT('o') | BIT('a'),
    ROW('g') = BIT('o') | BIT('h') | BIT('i') | BIT('l'),
    ROW('h') = BIT('f') | BIT('v'),
    ROW('n') = BIT('p'),
    ROW('p') = BIT('y'),
    ROW('r') = BIT('k'),
    ROW('s') = BIT('g') | BIT('k') | BIT('h') | BIT('n'),
    ROW('t') = BIT('s'),
    ROW('w') = BIT('h'),
    ROW('x') = BIT('a') | BIT('o'),
    ROW('y') = BIT('a'),
};

/* The end of a token's bytes, at most max of them. *digit, *underscore: it has one. */
static size_t
token_end(mayday_slice_t text, size_t at, size_t max, bool *digit, bool *underscore)
{
    size_t end = at;

    *digit = *underscore = false;
    while (end < text.len && end - at < max &&
           (mayday_pii_is(text, end, MAYDAY_PII_TOKEN) ||
            (text.data[end] == '.' && mayday_pii_is(text, end + 1, MAYDAY_PII_TOKEN)))) {
        *digit = *digit || mayday_is_digit(text.data[end]);
        *underscore = *underscore || text.data[end] == '_';
        end++;
    }
    return end;
}

/* The end of the secret key that stands behind an AWS access key, or where that ended. */
static size_t
aws_secret_end(mayday_slice_t text, size_t at)
{
    size_t begin = at, end;
    bool upper = false, lower = false;

    while (begin < text.len && begin - at < 3 && strchr(" \t,;:|/\"'", text.data[begin]) != NULL &&
           text.data[begin] != '\0') {
        begin++;
    }
    for (end = begin; begin > at && end < text.len && end - begin <= AWS_SECRET_LENGTH; end++) {
        char c = text.data[end];

        if (!mayday_is_alnum(c) && c != '/' && c != '+') {
            break;
        }
        upper = upper || (c >= 'A' && c <= 'Z');
        lower = lower || (c >= 'a' && c <= 'z');
    }
    return end - begin == AWS_SECRET_LENGTH && upper && lower ? end : at;
}

/* "npm_config_registry" is a variable; the tokens of these have letters and digits only. */
static bool
may_be_name(const char *prefix)
{
    return strcmp(prefix, "npm_") == 0 || strcmp(prefix, "hf_") == 0;
}

mayday_pii_span_t
mayday_pii_token(mayday_slice_t text, size_t at)
{
    if ((seconds[text.data[at] & 31] >> (mayday_pii_at(text, at + 1) & 31) & 1) == 0) {
        return MAYDAY_PII_NOTHING;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(prefixes); i++) {
        const prefix_t *p = &prefixes[i];
        size_t rest = at + p->prefix_len, end;
        bool digit, underscore;

        if (text.data[at] != p->prefix[0] || !mayday_pii_has(text, at, p->prefix, p->prefix_len)) {
            continue;
        }
        end = token_end(text, rest, DIGIT_WITHIN, &digit, &underscore);
        if (end - rest >= 4 && mayday_pii_is_cut(text, end)) {
            return (mayday_pii_span_t){at, end};
        }
        /* "sk-learn-based-classifier" has no digit; no random text of this length is without. */
        if (!digit || (underscore && may_be_name(p->prefix))) {
            continue;
        }
        end = token_end(text, rest, TOKEN_MAX, &digit, &underscore);
        if (end - rest >= p->rest_min) {
            return (mayday_pii_span_t){at, p->prefix[3] == 'A' ? aws_secret_end(text, end) : end};
        }
    }
    return MAYDAY_PII_NOTHING;
}

/*
 * Whether a word is none of prose, such as those in "basic authentication",
 * "a basic salsa-ci", "bearer of news". For Basic it is base64, so its length says much.
 */
static bool
is_credentials(mayday_slice_t word, bool basic)
{
    bool digit = false, upper = false, lower = false;

    for (size_t i = 0; i < word.len; i++) {
        char c = word.data[i];

        digit = digit || mayday_is_digit(c);
        lower = lower || (c >= 'a' && c <= 'z');
        upper = upper || (c >= 'A' && c <= 'Z' && i > 0);
        if (basic && (c == '-' || c == '_' || c == '.' || c == '~')) {
            return false;
        }
    }
    if (basic) {
        return word.len % 4 == 0 && (digit || (upper && lower) || word.data[word.len - 1] == '=');
    }
    return digit || (upper && lower && word.len >= 24);
}

/* "Bearer abc…", "Basic abc…", "Token abc…" as in RFC 9110: the credentials. */
mayday_pii_span_t
mayday_pii_scheme(mayday_slice_t text, size_t at, size_t word_end)
{
    static const char *const schemes[] = {"bearer", "basic", "token", "negotiate"};
    size_t begin = word_end, end, i;

    for (i = 0; i < MAYDAY_COUNT(schemes); i++) {
        if (word_end - at == strlen(schemes[i]) && mayday_pii_ihas(text, at, schemes[i])) {
            break;
        }
    }
    while (begin < text.len && begin - word_end < 3 && text.data[begin] == ' ') {
        begin++;
    }
    if (i == MAYDAY_COUNT(schemes) || begin == word_end) {
        return MAYDAY_PII_NOTHING;
    }
    for (end = begin;
         end < text.len && end - begin < TOKEN_MAX &&
         (mayday_pii_is(text, end, MAYDAY_PII_TOKEN) || strchr(".~+/=", text.data[end]) != NULL) &&
         text.data[end] != '\0';
         end++) {
    }
    while (end > begin && text.data[end - 1] == '.') {
        end--;
    }
    if (end > begin && text.data[end - 1] == '=' && mayday_pii_at(text, end) == '"') {
        return MAYDAY_PII_NOTHING; /* a challenge's parameters */
    }
    return end - begin >= (i == 2 ? 16 : 8) &&
                   is_credentials(mayday_slice(text.data + begin, end - begin), i == 1)
               ? (mayday_pii_span_t){begin, end}
               : MAYDAY_PII_NOTHING;
}

/* ---- private keys in PEM (RFC 7468) ---- */

/* What stands between the lines BEGIN and END; up to the text's end where it was cut. */
mayday_pii_span_t
mayday_pii_pem(mayday_slice_t text, size_t at)
{
    const mayday_slice_t closing = MAYDAY_SLICE("-----END");
    const size_t label_max = 48;
    size_t label = at + sizeof("-----BEGIN ") - 1, body, end, key;

    if (!mayday_pii_has_literal(text, at, "-----BEGIN ")) {
        return MAYDAY_PII_NOTHING;
    }
    for (body = label; body < text.len && body - label < label_max && text.data[body] != '-';) {
        body++;
    }
    key = mayday_slice_find(mayday_slice(text.data + label, body - label),
                            MAYDAY_SLICE("PRIVATE KEY"), 0);
    if (key == SIZE_MAX || !mayday_pii_has_literal(text, body, "-----")) {
        return MAYDAY_PII_NOTHING;
    }
    body += 5;
    end = mayday_slice_find(text, closing, body);
    end = end == SIZE_MAX ? text.len : end;
    while (body < end && strchr(" \t\r\n", text.data[body]) != NULL && text.data[body] != '\0') {
        body++;
    }
    while (end > body && strchr(" \t\r\n", text.data[end - 1]) != NULL &&
           text.data[end - 1] != '\0') {
        end--;
    }
    return end > body ? (mayday_pii_span_t){body, end} : MAYDAY_PII_NOTHING;
}

/* ---- user and password of a URL; at the ":" of "://" ---- */

enum { USERINFO_MAX = 128 };

mayday_pii_span_t
mayday_pii_userinfo(mayday_slice_t text, size_t at)
{
    size_t begin = at + 3, end = 0, colon = 0, i;

    if (!mayday_pii_has_literal(text, at, "://")) {
        return MAYDAY_PII_NOTHING;
    }
    for (i = begin; i < text.len && strchr(" \t\r\n\"'<>/?#,;|\\", text.data[i]) == NULL; i++) {
        if (text.data[i] == '@') {
            end = i;
        } else if (text.data[i] == ':') {
            colon = i;
        }
    }
    /* What stands behind a colon and is no port is a password that was cut. */
    if (end == 0 && colon > begin && i == text.len && i >= 3 && mayday_pii_is_cut(text, i - 3) &&
        mayday_pii_is(text, colon + 1, MAYDAY_PII_WORD) &&
        mayday_pii_run(text, colon + 1, MAYDAY_PII_DIGIT, SIZE_MAX) + 3 < i) {
        return (mayday_pii_span_t){begin, i - 3};
    }
    if (end == begin + 3 && mayday_pii_has_literal(text, begin, "git")) {
        return MAYDAY_PII_NOTHING; /* ssh://git@host: nobody's */
    }
    return end > begin && mayday_pii_is(text, end + 1, MAYDAY_PII_WORD)
               ? (mayday_pii_span_t){begin, end}
               : MAYDAY_PII_NOTHING;
}

/* "user:password@tcp(host:3306)/name", as drivers in Go have it; at the "@". */
mayday_pii_span_t
mayday_pii_dsn(mayday_slice_t text, size_t at, size_t floor)
{
    size_t begin = at, colon = at;

    if (!mayday_pii_has_literal(text, at, "@tcp(") && !mayday_pii_has_literal(text, at, "@unix(")) {
        return MAYDAY_PII_NOTHING;
    }
    while (begin > floor && at - begin < USERINFO_MAX &&
           (text.data[begin - 1] == '\0' || strchr(" \t\r\n\"'`", text.data[begin - 1]) == NULL)) {
        begin--;
        colon = text.data[begin] == ':' ? begin : colon;
    }
    return colon < at ? (mayday_pii_span_t){begin, at} : MAYDAY_PII_NOTHING;
}

/* ---- the user's name in a path ---- */

/* "GET /home/garden": a method stands before a path of the web. */
static bool
follows_method(mayday_slice_t text, size_t at)
{
    size_t begin = at;

    if (at == 0 || text.data[at - 1] != ' ') {
        return false;
    }
    begin--;
    while (begin > 0 && at - begin < 9 && text.data[begin - 1] >= 'A' &&
           text.data[begin - 1] <= 'Z') {
        begin--;
    }
    return at - 1 - begin >= 3;
}

/* Folders in the place of a user's that are nobody's own; and /Users/42, of the web. */
static bool
is_shared(mayday_slice_t name)
{
    if (mayday_pii_run(name, 0, MAYDAY_PII_DIGIT, SIZE_MAX) == name.len) {
        return true;
    }
    static const char *const names[] = {"shared", "public", "default", "all users", "*", "..", "."};

    for (size_t i = 0; i < MAYDAY_COUNT(names); i++) {
        if (mayday_slice_ieq(name, mayday_slice_str(names[i]))) {
            return true;
        }
    }
    return false;
}

/* The name of one folder; backslashes may be doubled, as they are in JSON. */
static mayday_pii_span_t
folder_at(mayday_slice_t text, size_t at, bool windows)
{
    size_t end;

    for (end = at; end < text.len; end++) {
        char c = text.data[end];

        if (c == '/' || c == '\\' || c == '"' || c == '\'' || c == ':' || c == '\n' || c == '\r' ||
            c == '\0' || c == '<' || c == '>' || c == ',' || c == ';' || c == ')' ||
            (c == ' ' && !windows)) {
            break;
        }
    }
    if (windows && mayday_pii_at(text, end) != '\\' && mayday_pii_at(text, end) != '/') {
        size_t space = mayday_slice_find(mayday_slice(text.data, end), MAYDAY_SLICE(" "), at);

        end = space != SIZE_MAX ? space : end; /* "C:\Users\jane is not there" */
    }
    while (end > at && text.data[end - 1] == '.') {
        end--;
    }
    return end > at && !is_shared(mayday_slice(text.data + at, end - at))
               ? (mayday_pii_span_t){at, end}
               : MAYDAY_PII_NOTHING;
}

/* At the "/" or "\" before home, Users or Documents and Settings. */
mayday_pii_span_t
mayday_pii_user_path(mayday_slice_t text, size_t at)
{
    static const char *const windows[] = {"users", "documents and settings"};
    size_t next = at + 1;

    if (text.data[at] == '/' && (mayday_pii_has_literal(text, at, "/home/") ||
                                 mayday_pii_has_literal(text, at, "/Users/"))) {
        bool drive =
            at >= 2 && text.data[at - 1] == ':' && mayday_pii_is(text, at - 2, MAYDAY_PII_ALPHA);
        bool root = at == 0 || drive || mayday_pii_has_literal(text, at - 3, "://") ||
                    (!mayday_pii_is(text, at - 1, MAYDAY_PII_WORD) &&
                     strchr("/.-*~%}", text.data[at - 1]) == NULL);

        return root && !follows_method(text, at)
                   ? folder_at(text, at + (text.data[at + 1] == 'h' ? 6 : 7), drive)
                   : MAYDAY_PII_NOTHING;
    }
    if (text.data[at] != '\\') {
        return MAYDAY_PII_NOTHING;
    }
    next += mayday_pii_at(text, next) == '\\';
    for (size_t i = 0; i < MAYDAY_COUNT(windows); i++) {
        size_t end = next + strlen(windows[i]);

        if (mayday_pii_ihas(text, next, windows[i]) && mayday_pii_at(text, end) == '\\') {
            return folder_at(text, end + 1 + (mayday_pii_at(text, end + 1) == '\\'), true);
        }
    }
    return MAYDAY_PII_NOTHING;
}
