/*
 * Numbers that name a person or an account: payment cards, IBANs, US social
 * security numbers, phones. Each is verified by what its issuer guarantees, for
 * error texts are full of other numbers.
 *
 * Runs in the agent; allocates nothing. See pii_private.h for matchers.
 */
#include "core/filter/pii_private.h"

static unsigned
digit_at(mayday_slice_t text, size_t at)
{
    return (unsigned) (text.data[at] - '0');
}

/* The value of count digits at a place where they are. */
static unsigned
number_at(mayday_slice_t text, size_t at, size_t count)
{
    unsigned n = 0;

    for (size_t i = 0; i < count; i++) {
        n = 10 * n + digit_at(text, at + i);
    }
    return n;
}

/* Whether a number may end here: a digit, a letter or a fraction goes on. */
static bool
ends(mayday_slice_t text, size_t at)
{
    return !mayday_pii_is(text, at, MAYDAY_PII_WORD) &&
           !((mayday_pii_at(text, at) == '.' || mayday_pii_at(text, at) == '-') &&
             mayday_pii_is(text, at + 1, MAYDAY_PII_DIGIT));
}

/* Whether a number may begin here: it is not the fraction, or the rest, of another one. */
static bool
begins(mayday_slice_t text, size_t at)
{
    return at == 0 || (text.data[at - 1] != '.' && text.data[at - 1] != '-') ||
           !mayday_pii_is(text, at - 2, MAYDAY_PII_WORD);
}

/* ---- payment cards ---- */

enum { CARD_MIN = 13, CARD_MAX = 19, CARD_SHOWN = 10, GROUPS_MAX = 5 };

/* ISO/IEC 7812-1, annex B. */
static bool
check_digit_fits(const uint8_t *digits, size_t count)
{
    unsigned sum = 0;

    for (size_t i = 0; i < count; i++) {
        unsigned digit = digits[count - 1 - i];

        if (i % 2 == 1) {
            digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
        }
        sum += digit;
    }
    return sum % 10 == 0;
}

/* How long the numbers of the issuer are that has the first four digits, a mask; 0: there is none. */
static uint32_t
card_lengths(const uint8_t *digits)
{
    static const struct {
        uint16_t from, to; /* the first four digits */
        uint32_t lengths;  /* mask                  */
    } issuers[] = {
        {2221, 2720, 1u << 16},                       /* Mastercard         */
        {3000, 3059, 1u << 14},                       /* Diners Club        */
        {3400, 3499, 1u << 15},                       /* American Express   */
        {3528, 3589, 1u << 16},                       /* JCB                */
        {3600, 3699, 1u << 14},                       /* Diners Club        */
        {3700, 3799, 1u << 15},                       /* American Express   */
        {3800, 3999, 1u << 14},                       /* Diners Club        */
        {4000, 4999, 1u << 13 | 1u << 16 | 1u << 19}, /* Visa               */
        {5000, 5099, 1u << 16},                       /* Maestro            */
        {5100, 5599, 1u << 16},                       /* Mastercard         */
        {5600, 5899, 1u << 16},                       /* Maestro            */
        {6011, 6011, 1u << 16 | 1u << 19},            /* Discover           */
        {6200, 6299, 1u << 16 | 1u << 19},            /* UnionPay           */
        {6300, 6399, 1u << 16},                       /* Maestro            */
        {6440, 6599, 1u << 16 | 1u << 19},            /* Discover           */
        {6700, 6799, 1u << 16},                       /* Maestro            */
    };
    unsigned first = digits[0] * 1000u + digits[1] * 100u + digits[2] * 10u + digits[3];

    for (size_t i = 0; i < MAYDAY_COUNT(issuers); i++) {
        if (first >= issuers[i].from && first <= issuers[i].to) {
            return issuers[i].lengths;
        }
    }
    return 0;
}

bool
mayday_pii_is_card(const uint8_t *digits, size_t count)
{
    return count >= CARD_MIN && count <= CARD_MAX && (card_lengths(digits) >> count & 1) != 0 &&
           check_digit_fits(digits, count);
}

/* What may stand between the groups of a number, the same between all of them. */
static mayday_slice_t
separator_at(mayday_slice_t text, size_t at)
{
    char c = mayday_pii_at(text, at);

    if (c == ' ' || c == '-' || c == '.' || c == '+') {
        return mayday_slice(text.data + at, 1);
    }
    return mayday_pii_has_literal(text, at, "%20") ? mayday_slice(text.data + at, 3)
                                                   : mayday_slice(NULL, 0);
}

/*
 * Digits in groups of these sizes, up to where they are otherwise. Past more than
 * a card may show of its number, the cut end of a text counts as its end.
 */
static mayday_pii_span_t
card_in_groups(mayday_slice_t text, size_t at, const uint8_t *groups, mayday_slice_t separator)
{
    uint8_t digits[CARD_MAX];
    size_t count = 0, i = at;
    bool whole = true;

    for (size_t group = 0; group < GROUPS_MAX && groups[group] != 0 && whole; group++) {
        size_t end;

        if (group > 0 && !mayday_pii_has(text, i, separator.data, separator.len)) {
            whole = false;
            break;
        }
        i += group > 0 ? separator.len : 0;
        for (end = i + groups[group]; i < end && mayday_pii_is(text, i, MAYDAY_PII_DIGIT); i++) {
            digits[count++] = (uint8_t) digit_at(text, i);
        }
        whole = i == end;
    }
    if (mayday_pii_is_cut(text, i) && count >= CARD_SHOWN && card_lengths(digits) != 0) {
        return (mayday_pii_span_t){at, i};
    }
    return whole && ends(text, i) && mayday_pii_is_card(digits, count) ? (mayday_pii_span_t){at, i}
                                                                       : MAYDAY_PII_NOTHING;
}

/* Digits in a row, or in the groups that cards show. */
mayday_pii_span_t
mayday_pii_card(mayday_slice_t text, size_t at, size_t word_end)
{
    static const uint8_t groupings[][GROUPS_MAX] = {
        {4, 4, 4, 4}, {4, 6, 5}, {4, 6, 4}, {4, 4, 4, 4, 3}};
    mayday_slice_t separator = separator_at(text, word_end);
    size_t len = word_end - at;

    if (!begins(text, at) || len > CARD_MAX) {
        return MAYDAY_PII_NOTHING;
    }
    if (len != 4) {
        const uint8_t row[GROUPS_MAX] = {(uint8_t) len};

        return card_in_groups(text, at, row, separator);
    }
    for (size_t g = MAYDAY_COUNT(groupings); g-- > 0 && separator.len > 0;) {
        mayday_pii_span_t span = card_in_groups(text, at, groupings[g], separator);

        if (span.end != 0) {
            return span;
        }
    }
    return MAYDAY_PII_NOTHING;
}

/* ---- US social security numbers: AAA-GG-SSSS ---- */

mayday_pii_span_t
mayday_pii_ssn(mayday_slice_t text, size_t at, size_t word_end)
{
    unsigned area;

    if (word_end - at != 3 || mayday_pii_at(text, at + 3) != '-' ||
        mayday_pii_at(text, at + 6) != '-' ||
        mayday_pii_run(text, at, MAYDAY_PII_DIGIT, 3) != at + 3 ||
        mayday_pii_run(text, at + 4, MAYDAY_PII_DIGIT, 3) != at + 6 ||
        mayday_pii_run(text, at + 7, MAYDAY_PII_DIGIT, 5) != at + 11 || !begins(text, at) ||
        !ends(text, at + 11)) {
        return MAYDAY_PII_NOTHING;
    }
    area = number_at(text, at, 3);
    if (area == 0 || area == 666 || area >= 900 || number_at(text, at + 4, 2) == 0 ||
        number_at(text, at + 7, 4) == 0) {
        return MAYDAY_PII_NOTHING; /* never given out */
    }
    return (mayday_pii_span_t){at, at + 11};
}

/* ---- phones ---- */

enum { PHONE_DIGITS_MIN = 9, PHONE_DIGITS_MAX = 15, PHONE_BYTES_MAX = 26 };

/* "+49 (0)30 90-18 20": E.164's digits, and the punctuation that people put between them. */
mayday_pii_span_t
mayday_pii_phone(mayday_slice_t text, size_t at)
{
    size_t digits = 0, separators = 0, end = at, i;
    char separator = '\0';

    if (mayday_pii_at(text, at) != '+' || mayday_pii_at(text, at + 1) < '1' ||
        mayday_pii_at(text, at + 1) > '9' ||
        (at > 0 && (mayday_pii_is(text, at - 1, MAYDAY_PII_WORD) || text.data[at - 1] == '+'))) {
        return MAYDAY_PII_NOTHING;
    }
    for (i = at + 1; i < text.len && i < at + PHONE_BYTES_MAX; i++) {
        char c = text.data[i], next = mayday_pii_at(text, i + 1);
        bool next_digit = mayday_pii_is(text, i + 1, MAYDAY_PII_DIGIT);

        if (mayday_is_digit(c)) {
            digits++;
            end = i + 1;
        } else if (!((c == '-' || c == '.' || c == '/' || c == '(') && next_digit) &&
                   !(c == ' ' && (next_digit || next == '(')) &&
                   !(c == ')' && (next_digit || next == ' ' || next == '-'))) {
            break;
        } else {
            separator = c;
            separators++;
        }
    }
    if (separators == 1 && separator == '.') {
        return MAYDAY_PII_NOTHING; /* "+16777218.0" */
    }
    return digits >= PHONE_DIGITS_MIN && digits <= PHONE_DIGITS_MAX &&
                   !mayday_pii_is(text, end, MAYDAY_PII_WORD) && mayday_pii_at(text, end) != '+'
               ? (mayday_pii_span_t){at, end}
               : MAYDAY_PII_NOTHING;
}

/* "555-123-4567" and "(555) 123-4567" of the North American plan; word at "555". */
mayday_pii_span_t
mayday_pii_phone_us(mayday_slice_t text, size_t at, size_t word_end)
{
    bool bracket = at > 0 && text.data[at - 1] == '(' && mayday_pii_at(text, word_end) == ')';
    size_t i = word_end + 1;

    if (word_end - at != 3 || mayday_pii_run(text, at, MAYDAY_PII_DIGIT, 3) != at + 3 ||
        text.data[at] < '2') {
        return MAYDAY_PII_NOTHING;
    }
    if (bracket) {
        i += mayday_pii_at(text, i) == ' ';
    } else if (mayday_pii_at(text, word_end) != '-' || !begins(text, at)) {
        return MAYDAY_PII_NOTHING;
    }
    if (i >= text.len || mayday_pii_run(text, i, MAYDAY_PII_DIGIT, 4) != i + 3 ||
        text.data[i] < '2' || mayday_pii_at(text, i + 3) != '-' || i + 4 >= text.len ||
        mayday_pii_run(text, i + 4, MAYDAY_PII_DIGIT, 5) != i + 8 || !ends(text, i + 8)) {
        return MAYDAY_PII_NOTHING;
    }
    return (mayday_pii_span_t){bracket ? at - 1 : at, i + 8};
}

/* ---- IBAN (ISO 13616) ---- */

/* Country and length, of the registry and of those that use the form without it. */
static const char iban_lengths[] =
    "AD24AE23AL28AO25AT20AZ28BA20BE16BF28BG22BH22BI27BJ28BR29BY28CF27CG27CH21CI28CM27CR22CV25CY28"
    "CZ24DE22DJ27DK18DO28DZ26EE20EG29ES24FI18FK18FO18FR27GA27GB22GE22GI23GL18GQ27GR27GT28GW25HN28"
    "HR21HU28IE22IL23IQ23IR26IS26IT27JO30KM27KW30KZ20LB28LC32LI21LT20LU20LV21LY25MA28MC27MD24ME22"
    "MG27MK19ML28MN20MR27MT31MU30MZ25NE28NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31"
    "SD18SE24SI19SK24SM27SN28SO23ST25SV28TD27TG28TL23TN24TR26UA29VA22VG24XK20YE30";

enum { IBAN_LENGTH_MAX = 33 };

static char
upper(char c)
{
    return (char) (c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
}

static size_t
iban_length(mayday_slice_t text, size_t at)
{
    for (const char *row = iban_lengths; *row != '\0'; row += 4) {
        if (row[0] == upper(text.data[at]) && row[1] == upper(text.data[at + 1])) {
            return (size_t) (row[2] - '0') * 10 + (size_t) (row[3] - '0');
        }
    }
    return 0;
}

/* The remainder by 97 of the number that the rearranged letters and digits make. */
static bool
iban_fits(const char *iban, size_t length)
{
    unsigned rest = 0;

    for (size_t i = 0; i < length; i++) {
        char c = iban[(i + 4) % length];

        rest = mayday_is_digit(c) ? rest * 10 + (unsigned) (c - '0')
                                  : rest * 100 + (unsigned) (c - 'A') + 10;
        rest %= 97;
    }
    return rest == 1;
}

mayday_pii_span_t
mayday_pii_iban(mayday_slice_t text, size_t at)
{
    size_t length, i = at, count = 0;
    char iban[IBAN_LENGTH_MAX];
    bool spaced;

    if (!mayday_pii_is(text, at + 2, MAYDAY_PII_DIGIT) ||
        !mayday_pii_is(text, at + 3, MAYDAY_PII_DIGIT) || (length = iban_length(text, at)) == 0) {
        return MAYDAY_PII_NOTHING;
    }
    spaced = mayday_pii_at(text, at + 4) == ' ';
    while (count < length) {
        char c = upper(mayday_pii_at(text, i));

        if (!mayday_is_digit(c) && (c < 'A' || c > 'Z')) {
            return MAYDAY_PII_NOTHING;
        }
        iban[count++] = c;
        i++;
        if (spaced && count % 4 == 0 && count < length && mayday_pii_at(text, i++) != ' ') {
            return MAYDAY_PII_NOTHING;
        }
    }
    return !mayday_pii_is(text, i, MAYDAY_PII_WORD) && iban_fits(iban, length)
               ? (mayday_pii_span_t){at, i}
               : MAYDAY_PII_NOTHING;
}
