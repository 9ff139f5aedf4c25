/*
 * What the files of mayday.pii share; nobody else includes this.
 *
 *   pii_scan.c     the one pass over a text, which calls the matchers
 *   pii_number.c   matchers: cards, IBANs, social security numbers, phones
 *   pii_address.c  matchers: mail, IPv4, IPv6, MAC
 *   pii_secret.c   matchers: tokens by prefix, PEM, URL credentials, user paths
 *   pii_pair.c     matchers: name=value, "name": "value"
 *   pii_name.c     what a name says of its value
 *   pii_put.c      what stands in a match's place
 *   pii_event.c    an event's JSON, part by part
 *
 * A matcher looks at the text where something may begin, or at what announces
 * it, and says from where to where it goes. Each looks at a bounded number of
 * bytes, or at bytes that its match takes.
 */
#ifndef MAYDAY_PII_PRIVATE_H
#define MAYDAY_PII_PRIVATE_H

#include "core/filter/pii.h"

/* A stretch of text; empty (end 0): nothing was found. */
typedef struct {
    size_t begin, end;
} mayday_pii_span_t;

#define MAYDAY_PII_NOTHING ((mayday_pii_span_t){0, 0})

/* Bits of mayday_pii_class, by byte. */
enum {
    MAYDAY_PII_WORD = 1,     /* letters, digits, "_", all beyond ASCII                */
    MAYDAY_PII_DIGIT = 2,    /*                                                       */
    MAYDAY_PII_HEX = 4,      /* also A-F and a-f                                      */
    MAYDAY_PII_ALPHA = 8,    /* ASCII letters                                         */
    MAYDAY_PII_TRIGGER = 16, /* no word, but may begin or announce something         */
    MAYDAY_PII_LOCAL = 32,   /* may stand before the "@" of a mail address            */
    MAYDAY_PII_TOKEN = 64,   /* of base64url: letters, digits, "-", "_"               */
    MAYDAY_PII_INITIAL = 128 /* a known token begins so                              */
};

extern const uint8_t mayday_pii_class[256];

static inline bool
mayday_pii_is(mayday_slice_t text, size_t at, unsigned bits)
{
    return at < text.len && (mayday_pii_class[(uint8_t) text.data[at]] & bits) != 0;
}

static inline char
mayday_pii_at(mayday_slice_t text, size_t at)
{
    return at < text.len ? text.data[at] : '\0';
}

/* Whether text has the literal at that place. */
static inline bool
mayday_pii_has(mayday_slice_t text, size_t at, const char *literal, size_t len)
{
    return at <= text.len && len <= text.len - at && memcmp(text.data + at, literal, len) == 0;
}
#define mayday_pii_has_literal(text, at, literal)                                                  \
    mayday_pii_has((text), (at), ("" literal), sizeof(literal) - 1)

/* Whether the text was cut here: what would have verified a match may be gone. */
static inline bool
mayday_pii_is_cut(mayday_slice_t text, size_t at)
{
    return at + 3 == text.len && memcmp(text.data + at, "...", 3) == 0;
}

/* Whether text has it there in any case; lower is in small letters. */
bool mayday_pii_ihas(mayday_slice_t text, size_t at, const char *lower);

/* The end of the bytes of these classes from at on, at most max of them. */
static inline size_t
mayday_pii_run(mayday_slice_t text, size_t at, unsigned bits, size_t max)
{
    size_t limit = max < text.len - at ? at + max : text.len;

    while (at < limit && (mayday_pii_class[(uint8_t) text.data[at]] & bits) != 0) {
        at++;
    }
    return at;
}

/* ---- matchers at the beginning of a word, which ends at word_end ---- */

mayday_pii_span_t mayday_pii_card(mayday_slice_t text, size_t at, size_t word_end);
mayday_pii_span_t mayday_pii_ssn(mayday_slice_t text, size_t at, size_t word_end);
mayday_pii_span_t mayday_pii_phone_us(mayday_slice_t text, size_t at, size_t word_end);
mayday_pii_span_t mayday_pii_iban(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_ipv4(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_mac(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_jwt(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_scheme(mayday_slice_t text, size_t at, size_t word_end);
mayday_pii_span_t mayday_pii_token(mayday_slice_t text, size_t at);

/* ---- and at a byte between words; what begins before floor is taken already ---- */

mayday_pii_span_t mayday_pii_mail(mayday_slice_t text, size_t at, size_t floor);
mayday_pii_span_t mayday_pii_ipv6(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_phone(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_pem(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_userinfo(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_user_path(mayday_slice_t text, size_t at);
mayday_pii_span_t mayday_pii_value(mayday_slice_t text, size_t at, size_t floor);
mayday_pii_span_t mayday_pii_encoded_value(mayday_slice_t text, size_t at, size_t floor);
mayday_pii_span_t mayday_pii_dsn(mayday_slice_t text, size_t at, size_t floor);

/* Whether a value is the placeholder of an earlier pass, or says that there is none. */
bool mayday_pii_is_spent(mayday_slice_t value);

/* Whether text is what stands in the place of that kind, which is built in. */
bool mayday_pii_is_placeholder(unsigned kind, mayday_slice_t text);

/* Whether it is the number of a card: length, issuer, check digit. digits: 0 to 9 each. */
bool mayday_pii_is_card(const uint8_t *digits, size_t count);

#endif
