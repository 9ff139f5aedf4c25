/*
 * The one pass over a text: words are stepped over, and only where something may
 * begin, or is announced, a matcher is asked. See pii.h and pii_private.h.
 *
 * Most words are rejected by their first letter and length, most bytes between
 * words by their class, so a text that holds nothing costs about a nanosecond a
 * byte.
 *
 * Runs in the agent; allocates nothing, blocks on nothing.
 */
#include "core/filter/pii_private.h"

/* ---- classes of bytes, computed by the compiler ---- */

#define IN(c, from, to) ((c) >= (from) && (c) <= (to))
#define IS_DIGIT(c) IN(c, '0', '9')
#define IS_ALPHA(c) (IN(c, 'a', 'z') || IN(c, 'A', 'Z'))
#define IS_WORD(c) (IS_DIGIT(c) || IS_ALPHA(c) || (c) == '_' || (c) >= 0x80)
#define IS_TRIGGER(c)                                                                              \
    ((c) == '@' || (c) == '%' || (c) == ':' || (c) == '=' || (c) == '+' || (c) == '-' ||           \
     (c) == '/' || (c) == '\\')
#define IS_LOCAL(c)                                                                                \
    (IS_WORD(c) || (c) == '.' || (c) == '%' || (c) == '+' || (c) == '-' || (c) == '\'')
/* Of the prefixes in pii_secret.c, and of the schemes: bearer, basic, token, negotiate. */
#define IS_INITIAL(c)                                                                              \
    ((c) == 'A' || (c) == 'G' || (c) == 'S' || (c) == 'a' || (c) == 'd' || (c) == 'g' ||           \
     (c) == 'h' || (c) == 'n' || (c) == 'p' || (c) == 'r' || (c) == 's' || (c) == 't' ||           \
     (c) == 'w' || (c) == 'x' || (c) == 'y' || (c) == 'e' || (c) == 'b' || (c) == 'B' ||           \
     (c) == 'T' || (c) == 'N')
#define CLASS(c)                                                                                   \
    ((IS_WORD(c) ? MAYDAY_PII_WORD : 0) | (IS_DIGIT(c) ? MAYDAY_PII_DIGIT : 0) |                   \
     (IS_DIGIT(c) || IN(c, 'a', 'f') || IN(c, 'A', 'F') ? MAYDAY_PII_HEX : 0) |                    \
     (IS_ALPHA(c) ? MAYDAY_PII_ALPHA : 0) | (IS_TRIGGER(c) ? MAYDAY_PII_TRIGGER : 0) |             \
     (IS_LOCAL(c) ? MAYDAY_PII_LOCAL : 0) |                                                        \
     ((IS_WORD(c) && (c) < 0x80) || (c) == '-' ? MAYDAY_PII_TOKEN : 0) |                           \
     (IS_INITIAL(c) ? MAYDAY_PII_INITIAL : 0))
#define CLASS_4(c) CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define CLASS_16(c) CLASS_4(c), CLASS_4((c) + 4), CLASS_4((c) + 8), CLASS_4((c) + 12)
#define CLASS_64(c) CLASS_16(c), CLASS_16((c) + 16), CLASS_16((c) + 32), CLASS_16((c) + 48)

const uint8_t mayday_pii_class[256] = {CLASS_64(0), CLASS_64(64), CLASS_64(128), CLASS_64(192)};

bool
mayday_pii_ihas(mayday_slice_t text, size_t at, const char *lower)
{
    size_t i;

    for (i = 0; lower[i] != '\0'; i++) {
        if (at + i >= text.len || mayday_lower(text.data[at + i]) != lower[i]) {
            return false;
        }
    }
    return true;
}

/* ---- what may begin with a word ---- */

static bool
wanted(const mayday_pii_scan_t *scan, unsigned kind)
{
    return (scan->kinds >> kind & 1) != 0;
}

static bool
take(mayday_pii_scan_t *scan, mayday_pii_span_t span, unsigned kind)
{
    if (span.end == 0 || !wanted(scan, kind) ||
        mayday_pii_is_placeholder(
            kind, mayday_slice(scan->text.data + span.begin, span.end - span.begin))) {
        return false;
    }
    scan->found = (mayday_pii_match_t){span.begin, span.end, kind};
    return true;
}

/* The address of an upstream of this very event: what the event is about. */
static bool
is_of_upstream(const mayday_record_view_t *view, mayday_slice_t address)
{
    for (size_t i = 0; view != NULL && i < view->attempt_count; i++) {
        mayday_slice_t peer = view->attempts[i].peer;

        if (mayday_slice_starts(peer, MAYDAY_SLICE("["))) {
            peer = mayday_slice(peer.data + 1, peer.len - 1);
        }
        if (mayday_slice_starts(peer, address) &&
            (peer.len == address.len || peer.data[address.len] == ':' ||
             peer.data[address.len] == ']')) {
            return true;
        }
    }
    return view != NULL && mayday_slice_starts(mayday_view_text(view, UPSTREAM), address) &&
           address.len > 0;
}

static bool
take_address(mayday_pii_scan_t *scan, mayday_pii_span_t span)
{
    return span.end != 0 &&
           !is_of_upstream(scan->pii->view,
                           mayday_slice(scan->text.data + span.begin, span.end - span.begin)) &&
           take(scan, span, MAYDAY_PII_IP);
}

static bool
number_begins(mayday_pii_scan_t *scan, size_t at, size_t end)
{
    mayday_slice_t text = scan->text;
    size_t len = end - at;

    if (len <= 3 && mayday_pii_at(text, end) == '.' &&
        take_address(scan, mayday_pii_ipv4(text, at))) {
        return true;
    }
    if (len == 3 && (take(scan, mayday_pii_ssn(text, at, end), MAYDAY_PII_SSN) ||
                     take(scan, mayday_pii_phone_us(text, at, end), MAYDAY_PII_PHONE))) {
        return true;
    }
    return (len == 4 || len >= 13 || mayday_pii_is_cut(text, end)) &&
           take(scan, mayday_pii_card(text, at, end), MAYDAY_PII_CARD);
}

/* Groups of hex digits with ":" or "-" behind the first. */
static bool
groups_begin(mayday_pii_scan_t *scan, size_t at, size_t end)
{
    mayday_slice_t text = scan->text;

    if (at > 0 && text.data[at - 1] == ':' && mayday_pii_is(text, at - 2, MAYDAY_PII_HEX)) {
        return false; /* within groups that were looked at */
    }
    if (end - at == 2 && take(scan, mayday_pii_mac(text, at), MAYDAY_PII_MAC)) {
        return true;
    }
    return text.data[end] == ':' && take_address(scan, mayday_pii_ipv6(text, at));
}

static bool
word_begins(mayday_pii_scan_t *scan, size_t at, size_t end)
{
    mayday_slice_t text = scan->text;
    uint8_t class = mayday_pii_class[(uint8_t) text.data[at]];
    char next = mayday_pii_at(text, end);
    size_t len = end - at;

    if ((class & MAYDAY_PII_DIGIT) != 0 && number_begins(scan, at, end)) {
        return true;
    }
    if ((class & MAYDAY_PII_HEX) != 0 && len <= 4 && (next == ':' || (next == '-' && len == 2)) &&
        groups_begin(scan, at, end)) {
        return true;
    }
    if ((len >= 15 || (len == 4 && next == ' ')) &&
        mayday_pii_run(text, at, MAYDAY_PII_ALPHA, 2) == at + 2 &&
        take(scan, mayday_pii_iban(text, at), MAYDAY_PII_IBAN)) {
        return true;
    }
    if ((class & MAYDAY_PII_INITIAL) == 0) {
        return false;
    }
    if (len >= 10 && text.data[at] == 'e' && take(scan, mayday_pii_jwt(text, at), MAYDAY_PII_JWT)) {
        return true;
    }
    if (next == ' ' && len >= 5 && len <= 9 &&
        take(scan, mayday_pii_scheme(text, at, end), MAYDAY_PII_BEARER)) {
        return true;
    }
    return (len >= 16 || next == '-' || next == '.') &&
           take(scan, mayday_pii_token(text, at), MAYDAY_PII_API_KEY);
}

/* ---- what bytes between words announce ---- */

static bool
value_follows(mayday_pii_scan_t *scan, size_t at)
{
    return wanted(scan, MAYDAY_PII_SECRET) &&
           take(scan, mayday_pii_value(scan->text, at, scan->floor), MAYDAY_PII_SECRET);
}

static bool
userinfo_follows(mayday_pii_scan_t *scan, size_t at)
{
    mayday_pii_span_t span = mayday_pii_userinfo(scan->text, at);

    return span.end != 0 &&
           !mayday_pii_is_spent(
               mayday_slice(scan->text.data + span.begin, span.end - span.begin)) &&
           take(scan, span, MAYDAY_PII_URL_AUTH);
}

/* "%40", "%3D" and "%3A" stand for what they encode; so do "%2540" and so on. */
static bool
percent(mayday_pii_scan_t *scan, size_t at)
{
    mayday_slice_t text = scan->text;
    size_t digits = at + 1;

    while (mayday_pii_has_literal(text, digits, "25")) {
        digits += 2;
    }
    if (mayday_pii_has_literal(text, digits, "40")) {
        return take(scan, mayday_pii_mail(text, at, scan->floor), MAYDAY_PII_EMAIL);
    }
    return mayday_pii_at(text, digits) == '3' && wanted(scan, MAYDAY_PII_SECRET) &&
           take(scan, mayday_pii_encoded_value(text, at, scan->floor), MAYDAY_PII_SECRET);
}

static bool
trigger(mayday_pii_scan_t *scan, size_t at)
{
    mayday_slice_t text = scan->text;
    char next = mayday_pii_at(text, at + 1);

    switch (text.data[at]) {
    case '@':
        return take(scan, mayday_pii_mail(text, at, scan->floor), MAYDAY_PII_EMAIL) ||
               take(scan, mayday_pii_dsn(text, at, scan->floor), MAYDAY_PII_URL_AUTH);
    case '%':
        return percent(scan, at);
    case ':':
        if (next == '/') {
            return userinfo_follows(scan, at);
        }
        if (next == ':' && (at == 0 || !mayday_pii_is(text, at - 1, MAYDAY_PII_WORD)) &&
            take_address(scan, mayday_pii_ipv6(text, at))) {
            return true;
        }
        return value_follows(scan, at);
    case '=':
        return value_follows(scan, at);
    case '+':
        return take(scan, mayday_pii_phone(text, at), MAYDAY_PII_PHONE);
    case '-':
        return next == '-' && take(scan, mayday_pii_pem(text, at), MAYDAY_PII_PEM);
    default:
        return (next == 'h' || next == 'U' || text.data[at] == '\\') &&
               take(scan, mayday_pii_user_path(text, at), MAYDAY_PII_USER_PATH);
    }
}

/* Finds the next match of the kinds that are built in; false: there is none. */
static bool
find_built_in(mayday_pii_scan_t *scan)
{
    mayday_slice_t text = scan->text;

    while (scan->at < text.len) {
        size_t at = scan->at;
        uint8_t class = mayday_pii_class[(uint8_t) text.data[at]];
        bool found;

        if ((class & MAYDAY_PII_WORD) != 0) {
            scan->at = mayday_pii_run(text, at, MAYDAY_PII_WORD, SIZE_MAX);
            found = (class & (MAYDAY_PII_HEX | MAYDAY_PII_INITIAL | MAYDAY_PII_ALPHA)) != 0 &&
                    word_begins(scan, at, scan->at);
        } else {
            scan->at = at + 1;
            found = (class & MAYDAY_PII_TRIGGER) != 0 && trigger(scan, at);
        }
        if (found && scan->found.begin >= scan->floor) {
            scan->at = scan->found.end;
            return true;
        }
    }
    return false;
}

/* ---- a team's own patterns beside them ---- */

static bool
is_inside_character(mayday_slice_t text, size_t at)
{
    return at < text.len && ((uint8_t) text.data[at] & 0xc0) == 0x80;
}

/* The next match of own pattern i behind what is taken, whole characters. */
static void
find_own(mayday_pii_scan_t *scan, size_t i)
{
    const mayday_pii_own_t *own = &scan->pii->owns->items[i];
    size_t begin = SIZE_MAX, end = 0;

    if (wanted(scan, MAYDAY_PII_OWN + (unsigned) i) &&
        own->find(own->pattern, scan->text, scan->floor, &begin, &end)) {
        while (begin > scan->floor && is_inside_character(scan->text, begin)) {
            begin--;
        }
        while (is_inside_character(scan->text, end)) {
            end++;
        }
    } else {
        begin = SIZE_MAX;
    }
    scan->owns[i].begin = begin;
    scan->owns[i].end = end;
}

/* The leftmost of the own patterns' matches; begin SIZE_MAX: there is none. */
static mayday_pii_match_t
next_own(mayday_pii_scan_t *scan)
{
    mayday_pii_match_t best = {SIZE_MAX, 0, 0};

    for (size_t i = 0; i < scan->own_count; i++) {
        if (scan->owns[i].begin < scan->floor) {
            find_own(scan, i);
        }
        if (scan->owns[i].begin < best.begin) {
            best = (mayday_pii_match_t){scan->owns[i].begin, scan->owns[i].end,
                                        MAYDAY_PII_OWN + (unsigned) i};
        }
    }
    return best;
}

void
mayday_pii_scan_init(mayday_pii_scan_t *scan, const mayday_pii_t *pii, uint32_t kinds,
                     mayday_slice_t text)
{
    scan->pii = pii;
    scan->text = text;
    scan->kinds = kinds;
    scan->at = scan->floor = 0;
    scan->has_found = scan->found_end = false;
    scan->own_count = pii->owns == NULL ? 0 : pii->owns->count;
    for (size_t i = 0; i < scan->own_count; i++) {
        find_own(scan, i);
    }
}

bool
mayday_pii_scan_next(mayday_pii_scan_t *scan, mayday_pii_match_t *match)
{
    mayday_pii_match_t own = {SIZE_MAX, 0, 0};

    if (!scan->has_found && !scan->found_end) {
        scan->has_found = find_built_in(scan);
        scan->found_end = !scan->has_found;
    }
    if (scan->own_count > 0) {
        own = next_own(scan);
    }
    if (own.begin != SIZE_MAX && (!scan->has_found || own.begin < scan->found.begin)) {
        *match = own;
        if (!scan->has_found || scan->found.begin < own.end) {
            scan->has_found = scan->found_end = false; /* looked for again behind this one */
            scan->at = own.end;
        }
    } else if (scan->has_found) {
        *match = scan->found;
        scan->has_found = false;
    } else {
        return false;
    }
    scan->floor = match->end;
    return true;
}
