/*
 * Addresses: mail, IPv4, IPv6, MAC. Versions, sections, clocks and names of files
 * look much the same, so what stands around decides.
 *
 * Addresses of networks, of this host and of nobody (10.0.0.0/8, 127.0.0.1,
 * 0.0.0.0, netmasks) tell nothing of a person and stay.
 *
 * Runs in the agent; allocates nothing. See pii_private.h for matchers.
 */
#include "core/filter/pii_private.h"

/* ---- mail ---- */

enum { LOCAL_MAX = 64, DOMAIN_MAX = 255 };

/* What ends in "@2x.png" and "agent@web.service" is no domain. */
static bool
is_file(mayday_slice_t last)
{
    static const char *const names[] = {
        "png",  "jpg",  "jpeg", "gif", "svg",     "webp",   "ico",   "css",    "js",    "map",
        "json", "html", "php",  "log", "service", "socket", "timer", "target", "mount", "slice",
        "tgz",  "gz",   "jar",  "whl", "deb",     "rpm",    "class", "tsx",    "vue"};

    for (size_t i = 0; i < MAYDAY_COUNT(names); i++) {
        if (mayday_slice_ieq(last, mayday_slice_str(names[i]))) {
            return true;
        }
    }
    return false;
}

/* The end of the host name that begins at a place: labels with dots, then one of letters. */
static size_t
domain_end(mayday_slice_t text, size_t at)
{
    size_t limit = text.len - at > DOMAIN_MAX ? at + DOMAIN_MAX : text.len;
    size_t label = at, good = 0;

    for (size_t i = at; i <= limit; i++) {
        bool more = i < limit && (mayday_pii_is(text, i, MAYDAY_PII_WORD) || text.data[i] == '-') &&
                    text.data[i] != '_';

        if (more) {
            continue;
        }
        mayday_slice_t last = mayday_slice(text.data + label, i - label);
        bool letters = last.len >= 2;

        for (size_t k = 0; k < last.len && letters; k++) {
            letters = (mayday_pii_class[(uint8_t) last.data[k]] &
                       (MAYDAY_PII_WORD | MAYDAY_PII_DIGIT)) == MAYDAY_PII_WORD;
        }
        if (last.len == 0 || last.data[0] == '-' || (i == limit && limit < text.len)) {
            break;
        }
        if (mayday_pii_is_cut(text, i)) {
            return i;
        }
        good = label > at && letters && !is_file(last) ? i : 0;
        if (mayday_pii_at(text, i) != '.' || i + 1 >= limit) {
            break;
        }
        if (!mayday_pii_is(text, i + 1, MAYDAY_PII_WORD)) {
            break; /* the sentence ends */
        }
        label = i + 1;
    }
    return good;
}

/* Where "jane doe" begins whose closing quote stands before a place; the place: nowhere. */
static size_t
quoted_local(mayday_slice_t text, size_t at, size_t floor)
{
    size_t begin = at;

    if (at - floor < 3 || text.data[at - 1] != '"') {
        return at;
    }
    for (begin = at - 2; begin > floor && at - begin < LOCAL_MAX; begin--) {
        char c = text.data[begin];

        if (c == '"' || (!mayday_pii_is(text, begin, MAYDAY_PII_LOCAL) && c != ' ')) {
            break;
        }
    }
    return begin < at - 2 && text.data[begin] == '"' &&
                   (begin == 0 || strchr(" <(,;", text.data[begin - 1]) != NULL)
               ? begin
               : at;
}

/* At the "@", or at the "%40" or "%2540" that stands for it. */
mayday_pii_span_t
mayday_pii_mail(mayday_slice_t text, size_t at, size_t floor)
{
    size_t begin = quoted_local(text, at, floor), end, domain = at + 1;

    while (begin > floor && at - begin < LOCAL_MAX &&
           mayday_pii_is(text, begin - 1, MAYDAY_PII_LOCAL)) {
        begin--;
    }
    while (begin < at && text.data[begin] != '"' &&
           (!mayday_pii_is(text, begin, MAYDAY_PII_WORD) ||
            ((uint8_t) text.data[begin] & 0xc0) == 0x80)) {
        begin++;
    }
    if (begin == at || (at - begin == 3 && mayday_pii_has_literal(text, begin, "git"))) {
        return MAYDAY_PII_NOTHING;
    }
    while (text.data[at] == '%' && mayday_pii_has_literal(text, domain, "25")) {
        domain += 2;
    }
    domain += text.data[at] == '%' ? 2 : 0;
    end = domain_end(text, domain);
    return end > 0 ? (mayday_pii_span_t){begin, end} : MAYDAY_PII_NOTHING;
}

/* ---- IPv4 ---- */

/* "version 1.2.3.4", "section 4.2.1.3", "name==1.2.3.4": what stands before says what it is. */
static bool
is_numbered(mayday_slice_t text, size_t at)
{
    static const char *const words[] = {"version", "ver",     "rev", "release", "build",
                                        "section", "chapter", "oid", "v"};
    size_t end = at, begin;

    if (at >= 2 && memcmp(text.data + at - 2, "==", 2) == 0) {
        return true;
    }
    while (end > 0 && at - end < 4 && strchr(" =:\"'(", text.data[end - 1]) != NULL) {
        end--;
    }
    if (end == at) {
        return false;
    }
    begin = end;
    while (begin > 0 && end - begin < 8 && mayday_pii_is(text, begin - 1, MAYDAY_PII_ALPHA)) {
        begin--;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(words); i++) {
        if (mayday_slice_ieq(mayday_slice(text.data + begin, end - begin),
                             mayday_slice_str(words[i]))) {
            return true;
        }
    }
    return false;
}

/* "nginx/1.22.1.4" and "libfoo-1.2.3.4", but neither a URL's host nor part of its path. */
static bool
is_product_version(mayday_slice_t text, size_t at)
{
    size_t i = at;

    if (i < 2 || (text.data[i - 1] != '/' && text.data[i - 1] != '-') ||
        !mayday_pii_is(text, i - 2, MAYDAY_PII_WORD)) {
        return false;
    }
    if (text.data[i - 1] == '-') {
        return true;
    }
    for (i--; i > 0 && at - i < 64; i--) {
        char c = text.data[i - 1];

        if (!mayday_pii_is(text, i - 1, MAYDAY_PII_WORD) && c != '.' && c != '-' && c != '+') {
            break;
        }
    }
    return i == 0 || (text.data[i - 1] != '/' && text.data[i - 1] != ':');
}

/* "10.0.0.0/8" names a network, "203.0.113.7/32" a host. */
static bool
is_network(mayday_slice_t text, size_t end, uint32_t address)
{
    unsigned bits = 0;
    size_t i = end + 1;

    if (mayday_pii_at(text, end) != '/' || !mayday_pii_is(text, i, MAYDAY_PII_DIGIT)) {
        return false;
    }
    for (; mayday_pii_is(text, i, MAYDAY_PII_DIGIT) && i < end + 4; i++) {
        bits = bits * 10 + (unsigned) (text.data[i] - '0');
    }
    return bits < 32 && !mayday_pii_is(text, i, MAYDAY_PII_WORD) && (address << bits) == 0;
}

/* Four numbers up to 255 with dots between; 0: there are none. */
static size_t
parse_ipv4(mayday_slice_t text, size_t at, uint32_t *address)
{
    *address = 0;
    for (unsigned octet = 0; octet < 4; octet++) {
        unsigned n = 0;
        size_t begin = at;

        while (mayday_pii_is(text, at, MAYDAY_PII_DIGIT) && at - begin < 3) {
            n = n * 10 + (unsigned) (text.data[at++] - '0');
        }
        if (at == begin || n > 255 || (at - begin > 1 && text.data[begin] == '0')) {
            return 0;
        }
        *address = *address << 8 | n;
        if (octet < 3 && mayday_pii_at(text, at++) != '.') {
            return 0;
        }
    }
    return at;
}

mayday_pii_span_t
mayday_pii_ipv4(mayday_slice_t text, size_t at)
{
    uint32_t address;
    size_t end = parse_ipv4(text, at, &address);
    unsigned first = address >> 24;

    if (end == 0 || mayday_pii_is(text, end, MAYDAY_PII_WORD) ||
        (mayday_pii_at(text, end) == '.' && mayday_pii_is(text, end + 1, MAYDAY_PII_WORD)) ||
        (at > 0 && text.data[at - 1] == '.')) {
        return MAYDAY_PII_NOTHING;
    }
    if (first == 0 || first == 127 || first >= 224 || is_network(text, end, address) ||
        is_product_version(text, at) || is_numbered(text, at)) {
        return MAYDAY_PII_NOTHING;
    }
    return (mayday_pii_span_t){at, end};
}

/* ---- IPv6 and MAC: groups of hex digits ---- */

/*
 * At the first group, or the "::" before it. "12:34:56" is a clock and
 * "1::2" a slice of a list, so a compressed address needs three groups or a long
 * one, and a digit: Fee::add is code.
 */
mayday_pii_span_t
mayday_pii_ipv6(mayday_slice_t text, size_t at)
{
    size_t i = at, groups = 0, end = 0, longest = 0;
    bool compressed = false, digit = false, embedded = false;
    uint32_t ignored;

    while (groups < 8) {
        size_t group = mayday_pii_run(text, i < text.len ? i : text.len, MAYDAY_PII_HEX, 5) - i;

        if (mayday_pii_has_literal(text, i, "::") && groups == 0 && !compressed) {
            compressed = true;
            i += 2;
            end = i;
            continue;
        }
        if (group == 0 || group > 4) {
            break;
        }
        if (mayday_pii_at(text, i + group) == '.' && groups > 0 + (size_t) !compressed &&
            groups <= 6 && parse_ipv4(text, i, &ignored) > 0) {
            end = parse_ipv4(text, i, &ignored);
            groups += 2;
            digit = embedded = true;
            break;
        }
        for (size_t k = i; k < i + group; k++) {
            digit = digit || mayday_is_digit(text.data[k]);
        }
        longest = group > longest ? group : longest;
        groups++;
        i += group;
        end = i;
        if (mayday_pii_has_literal(text, i, "::") && !compressed) {
            compressed = true;
            i += 2;
            end = i;
        } else if (mayday_pii_at(text, i) == ':' && mayday_pii_is(text, i + 1, MAYDAY_PII_HEX) &&
                   groups < 8) {
            i++;
        } else {
            break;
        }
    }
    if (mayday_pii_is(text, end, MAYDAY_PII_WORD) || mayday_pii_at(text, end) == ':' ||
        (compressed ? groups > 7 || !digit || (groups < 3 && longest < 3 && !embedded)
                    : groups != 8)) {
        return MAYDAY_PII_NOTHING;
    }
    return (mayday_pii_span_t){at, end};
}

/* Six pairs with the same ":" or "-" between. */
mayday_pii_span_t
mayday_pii_mac(mayday_slice_t text, size_t at)
{
    char separator = mayday_pii_at(text, at + 2);
    size_t end = at + 17;

    if (end > text.len || (separator != ':' && separator != '-')) {
        return MAYDAY_PII_NOTHING;
    }
    for (size_t i = 0; i < 17; i++) {
        if (i % 3 == 2 ? text.data[at + i] != separator
                       : !mayday_pii_is(text, at + i, MAYDAY_PII_HEX)) {
            return MAYDAY_PII_NOTHING;
        }
    }
    if (mayday_pii_is(text, end, MAYDAY_PII_WORD) ||
        (mayday_pii_at(text, end) == separator && mayday_pii_is(text, end + 1, MAYDAY_PII_WORD)) ||
        (at > 0 && (text.data[at - 1] == ':' || text.data[at - 1] == '-') &&
         mayday_pii_is(text, at - 2, MAYDAY_PII_WORD))) {
        return MAYDAY_PII_NOTHING;
    }
    return (mayday_pii_span_t){at, end};
}
