/*
 * The route of a path: what stays when ids, hashes, dates and mail addresses are
 * replaced by "*", so that /orders/1234 and /orders/99 are one thing. It groups
 * events and names transactions.
 *
 * A segment is replaced as a whole if it holds
 *   - two digits in a row (numbers, dates, times, most generated names),
 *   - a word of hex digits that is 32 or 40 long, a UUID, or 0x and hex digits,
 *   - a mail address.
 * These are the classes that Sentry replaces in transaction names, with three
 * differences that only make more paths the same: a segment that is a single
 * digit is an id here as well (/users/7 and /users/42 belong together; Sentry
 * keeps the former), mail addresses are known, and a percent-encoded character
 * counts as the character that it stands for (%40 is "@", and the digits of %20
 * are no digits).
 *
 * Runs in the agent, for every event that is counted: one pass, no allocation.
 */
#include "core/event/event_build.h"

enum { UUID_WORDS = 5 };
static const uint8_t uuid_lengths[UUID_WORDS] = {8, 4, 4, 4, 12};

typedef enum { MAIL_NONE, MAIL_AT, MAIL_DOMAIN, MAIL_DOT, MAIL_WHOLE } mail_t;

/* What a segment has shown so far. */
typedef struct {
    size_t chars;
    unsigned digits;      /* in a row, up to here                             */
    unsigned word_length; /* of the word that is not yet over                 */
    bool word_zero;       /* it begins with 0                                 */
    bool word_0x;         /* it begins with 0x                                */
    bool word_hex;        /* it has only hex digits, the x of 0x apart        */
    unsigned uuid_words;  /* words of a UUID that have just ended             */
    mail_t mail;
    bool id;
} segment_t;

static bool
is_letter(unsigned char c)
{
    return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c >= 0x80;
}

static void
word_end(segment_t *s)
{
    bool hex = s->word_length > 0 && s->word_hex;

    if (hex && s->word_0x) {
        s->id = s->id || s->word_length > 2;
        s->uuid_words = 0;
    } else if (hex) {
        bool fits = s->word_length == uuid_lengths[s->uuid_words];
        s->uuid_words = fits ? s->uuid_words + 1 : s->word_length == uuid_lengths[0];
        s->id =
            s->id || s->word_length == 32 || s->word_length == 40 || s->uuid_words == UUID_WORDS;
    } else {
        s->uuid_words = 0;
    }
    s->word_length = 0;
}

static void
word_char(segment_t *s, unsigned char c)
{
    if (s->word_length == 0) {
        s->word_zero = c == '0';
        s->word_0x = false;
        s->word_hex = true;
    }
    if (s->word_length == 1 && s->word_zero && (c | 0x20) == 'x') {
        s->word_0x = true;
    } else if (mayday_hex_digit((char) c) < 0) {
        s->word_hex = false;
    }
    s->word_length++;
}

static void
mail_char(segment_t *s, unsigned char c)
{
    if (c == '@') {
        s->mail = s->chars > 0 ? MAIL_AT : MAIL_NONE;
    } else if (s->mail == MAIL_AT) {
        s->mail = is_letter(c) ? MAIL_DOMAIN : MAIL_NONE;
    } else if (s->mail == MAIL_DOMAIN && c == '.') {
        s->mail = MAIL_DOT;
    } else if (s->mail == MAIL_DOT) {
        s->mail = is_letter(c) ? MAIL_WHOLE : MAIL_DOMAIN;
    }
}

static void
segment_char(segment_t *s, unsigned char c)
{
    bool digit = c >= '0' && c <= '9';

    s->digits = digit ? s->digits + 1 : 0;
    s->id = s->id || s->digits == 2;
    if (digit || is_letter(c) || c == '_') {
        word_char(s, c);
    } else {
        word_end(s);
        if (c != '-' || s->id) {
            s->uuid_words = 0;
        }
    }
    mail_char(s, c);
    s->chars++;
}

static bool
segment_is_id(mayday_slice_t text)
{
    segment_t s = {0};
    size_t i = 0;

    while (i < text.len && !s.id) {
        unsigned char c = (unsigned char) text.data[i];
        if (c == '%' && i + 2 < text.len && mayday_hex_digit(text.data[i + 1]) >= 0 &&
            mayday_hex_digit(text.data[i + 2]) >= 0) {
            c = (unsigned char) (mayday_hex_digit(text.data[i + 1]) << 4 |
                                 mayday_hex_digit(text.data[i + 2]));
            i += 2;
        }
        i++;
        segment_char(&s, c);
    }
    if (!s.id) {
        word_end(&s);
        s.id = s.id || s.mail == MAIL_WHOLE || (s.chars == 1 && s.digits == 1);
    }
    return s.id;
}

void
mayday_route_normalise(mayday_slice_t path, mayday_buf_t *route)
{
    size_t begin = 0, i;

    for (i = 0; i <= path.len; i++) {
        if (i < path.len && path.data[i] != '/' && path.data[i] != '\\') {
            continue;
        }
        mayday_slice_t segment = mayday_slice(path.data + begin, i - begin);
        if (segment.len > 0 && segment.len < path.len && segment_is_id(segment)) {
            mayday_buf_addc(route, '*');
        } else {
            mayday_buf_add(route, segment);
        }
        if (i < path.len) {
            mayday_buf_addc(route, path.data[i]);
        }
        begin = i + 1;
    }
}

/* Without "=", nothing of a path can be a secret's name and value. */
mayday_slice_t
mayday_event_path(const mayday_event_t *event, char *storage)
{
    mayday_slice_t path = mayday_view_text(event->view, PATH);
    mayday_buf_t scrubbed;

    if (path.len == 0 || memchr(path.data, '=', path.len) == NULL) {
        return path;
    }
    mayday_buf_init(&scrubbed, storage, MAYDAY_PATH_SIZE);
    (void) mayday_scrub_text(&scrubbed, path);
    return mayday_buf_slice(&scrubbed);
}

mayday_slice_t
mayday_event_route(const mayday_event_t *event, char *storage)
{
    char path[MAYDAY_PATH_SIZE];
    mayday_buf_t route;

    mayday_buf_init(&route, storage, MAYDAY_ROUTE_SIZE);
    if (event->route.len > 0) {
        mayday_buf_add(&route, event->route);
    } else {
        mayday_route_normalise(mayday_event_path(event, path), &route);
    }
    return mayday_buf_slice(&route);
}
