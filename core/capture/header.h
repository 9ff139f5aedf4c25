/*
 * What the name of a request header says of its value, under one policy.
 *
 * Nearly all headers of all requests are the same few, so a policy's verdict on
 * these is found once, when the configuration is read. Looking it up runs on the
 * request path, inlined; it allocates nothing and blocks on nothing.
 */
#ifndef MAYDAY_HEADER_H
#define MAYDAY_HEADER_H

#include "core/base/bytes.h"
#include "core/capture/redact.h"

typedef enum {
    MAYDAY_HEADER_UNKNOWN, /* not yet judged */
    MAYDAY_HEADER_PLAIN,
    MAYDAY_HEADER_URL,       /* a URL or a path, whose query may be sensitive     */
    MAYDAY_HEADER_SENSITIVE, /* filtered                                          */
    MAYDAY_HEADER_COOKIES    /* whole cookies: filtered, or split where collected */
} mayday_header_kind_t;

/* The length of a usual name; others are judged one by one. */
#define MAYDAY_HEADER_LEN_MIN 4u
#define MAYDAY_HEADER_LEN_MAX MAYDAY_COPY_SHORT_MAX

/* Fills redact->usual; all else in it is complete. */
void mayday_header_learn(mayday_redact_t *redact);

/* The kind of any name. */
mayday_header_kind_t mayday_header_judge(const mayday_redact_t *redact, mayday_slice_t name);

/* By the last four letters, in which names differ most. The factor keeps those
 * of header.c apart; where it does not, one of two takes longer. */
static inline uint32_t
mayday_header_slot(const char *name, size_t len)
{
    uint32_t word = mayday_load32(name + len - 4) | 0x20202020u;

    return (word + (uint32_t) len) * 0x72894539u >> 25;
}

_Static_assert(MAYDAY_USUAL_HEADERS == 1u << (32 - 25), "a slot is the top bits of 32");

/*
 * Whether two names of len (at least 4) bytes differ in bit 5 of some bytes at
 * most, which for the bytes that occur in names is the case of a letter. Usual
 * names are letters and "-", for which a carriage return would pass: no server
 * lets one into a name, and it could not make up a sensitive term.
 */
static inline bool
mayday_header_same(const char *a, const char *b, size_t len)
{
    uint64_t diff;

    if (len < 8) {
        diff = (mayday_load32(a) ^ mayday_load32(b)) |
               (mayday_load32(a + len - 4) ^ mayday_load32(b + len - 4));
        return (diff & ~UINT64_C(0x20202020)) == 0;
    }
    diff = (mayday_load64(a) ^ mayday_load64(b)) |
           (mayday_load64(a + len - 8) ^ mayday_load64(b + len - 8));
    for (size_t at = 8; at + 8 < len; at += 8) {
        diff |= mayday_load64(a + at) ^ mayday_load64(b + at);
    }
    return (diff & ~UINT64_C(0x2020202020202020)) == 0;
}

/* The kind of a name that most requests have; of others, MAYDAY_HEADER_UNKNOWN. */
static inline mayday_header_kind_t
mayday_header_usual(const mayday_redact_t *redact, mayday_slice_t name)
{
    const mayday_usual_header_t *usual;

    if (name.len < MAYDAY_HEADER_LEN_MIN) {
        return MAYDAY_HEADER_UNKNOWN;
    }
    usual = &redact->usual[mayday_header_slot(name.data, name.len)];
    return usual->len == name.len && mayday_header_same(name.data, usual->name, name.len)
               ? (mayday_header_kind_t) usual->kind
               : MAYDAY_HEADER_UNKNOWN;
}

#endif
