/*
 * What stands in the place of what was found, and the names of kinds and modes.
 *
 * Runs in the agent; allocates nothing.
 */
#include "core/filter/pii_private.h"

static const struct {
    const char *name, *rule;
    mayday_slice_t placeholder;
} kinds[MAYDAY_PII_OWN] = {
#define MAYDAY_PII(id, name, placeholder)                                                          \
    [MAYDAY_PII_##id] = {name, MAYDAY_PII_RULE name, {placeholder, sizeof(placeholder) - 1}},
#include "core/filter/pii_kinds.def"
#undef MAYDAY_PII
};

const char *
mayday_pii_name(const mayday_pii_owns_t *owns, unsigned kind)
{
    if (kind < MAYDAY_PII_OWN) {
        return kinds[kind].name;
    }
    return owns != NULL && kind - MAYDAY_PII_OWN < owns->count
               ? owns->items[kind - MAYDAY_PII_OWN].name
               : NULL;
}

const char *
mayday_pii_rule(const mayday_pii_owns_t *owns, unsigned kind)
{
    return kind < MAYDAY_PII_OWN ? kinds[kind].rule : owns->items[kind - MAYDAY_PII_OWN].rule;
}

bool
mayday_pii_is_placeholder(unsigned kind, mayday_slice_t text)
{
    return mayday_slice_eq(text, kinds[kind].placeholder);
}

mayday_pii_mode_t
mayday_pii_mode(const char *name)
{
    static const char *const names[MAYDAY_PII_MODES] = {"filter", "mask", "hash", "remove"};
    mayday_pii_mode_t mode = 0;

    while (mode < MAYDAY_PII_MODES && strcmp(names[mode], name) != 0) {
        mode++;
    }
    return mode;
}

/* How many characters at the end stay: what people know a card or account by. */
static size_t
kept_at_end(unsigned kind)
{
    return kind == MAYDAY_PII_CARD || kind == MAYDAY_PII_IBAN ? 4 : 0;
}

/* Letters and digits become "*", one for each character; what stands between stays. */
static void
put_masked(unsigned kind, mayday_slice_t text, mayday_buf_t *out)
{
    size_t shown = text.len, kept = kept_at_end(kind);
    bool whole = kind == MAYDAY_PII_SECRET || kind == MAYDAY_PII_URL_AUTH;

    while (shown > 0 && kept > 0) {
        shown--;
        kept -= mayday_is_alnum(text.data[shown]);
    }
    for (size_t i = 0; i < shown; i++) {
        uint8_t c = (uint8_t) text.data[i];

        if ((c & 0xc0) == 0x80) {
            continue; /* the rest of a character */
        }
        if (whole || (mayday_pii_class[c] & MAYDAY_PII_WORD) != 0) {
            mayday_buf_addc(out, '*');
        } else {
            mayday_buf_addc(out, text.data[i]);
        }
    }
    mayday_buf_add(out, mayday_slice(text.data + shown, text.len - shown));
}

void
mayday_pii_put(const mayday_pii_t *pii, unsigned kind, mayday_slice_t text, mayday_buf_t *out)
{
    uint8_t hash[MAYDAY_HASH_BYTES];
    char hex[MAYDAY_HASH_HEX_SIZE];

    switch (pii->mode) {
    case MAYDAY_PII_MASK:
        put_masked(kind, text, out);
        break;
    case MAYDAY_PII_HASH:
        mayday_siphash(hash, pii->hash_key, text.data, text.len);
        mayday_hex(hex, hash, sizeof(hash));
        mayday_buf_adds(out, hex);
        break;
    case MAYDAY_PII_REMOVE:
        break;
    default:
        if (kind < MAYDAY_PII_OWN) {
            mayday_buf_add(out, kinds[kind].placeholder);
        } else {
            mayday_buf_addc(out, '[');
            mayday_buf_adds(out, mayday_pii_name(pii->owns, kind));
            mayday_buf_addc(out, ']');
        }
        break;
    }
}
