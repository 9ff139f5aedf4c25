/*
 * See bots.h: the tables, and what of an agent counts most.
 *
 * Runs in the agent's pipeline thread.
 */
#include <stdlib.h>

#include "core/filter/bots.h"
#include "core/filter/bots_words.h"

typedef enum {
    RANK_SIGN,
    RANK_GUESS,
    RANK_NO_GUESS,
    RANK_WEAK,
    RANK_WORD,
    RANK_NOT,
    RANK_NAME
} rank_t;
typedef enum { NAME_PATTERN, NAME_AROUND, NAME_BEHIND, NAME_FIRST, NAME_OF_DEVICE } name_t;

typedef struct {
    uint8_t class;
    uint8_t rank;
    uint8_t name;
    mayday_slice_t pattern;
} pattern_t;

typedef struct {
    mayday_bot_class_t class;
    uint8_t name_len, pattern_len;
    char name[MAYDAY_BOT_NAME_MAX];
    char pattern[MAYDAY_WORD_MAX + 2];
} added_t;

struct mayday_bots {
    mayday_words_t *words; /* the table's, then what was added */
    size_t added_count;
    added_t added[MAYDAY_BOTS_ADDED_MAX];
};

#define RANK_OF(id) ((id) == MAYDAY_BOT_LIBRARY || (id) == MAYDAY_BOT_TOOL ? RANK_WEAK : RANK_NAME)

#define PERSON(rank, name, text) {MAYDAY_BOT_NONE, rank, name, {text, sizeof(text) - 1}},

static const pattern_t table[] = {
#define MAYDAY_BOT(id, text)                                                                       \
    {MAYDAY_BOT_##id, RANK_OF(MAYDAY_BOT_##id), NAME_PATTERN, {text, sizeof(text) - 1}},
#define MAYDAY_BOT_WORD(id, where, text)                                                           \
    {MAYDAY_BOT_##id, RANK_WORD, NAME_##where, {text, sizeof(text) - 1}},
#define MAYDAY_BOT_GUESS(id, where, text)                                                          \
    {MAYDAY_BOT_##id, RANK_GUESS, NAME_##where, {text, sizeof(text) - 1}},
#define MAYDAY_BOT_NOT(text) PERSON(RANK_NOT, NAME_PATTERN, text)
#define MAYDAY_BOT_NO_GUESS(text) PERSON(RANK_NO_GUESS, NAME_PATTERN, text)
#define MAYDAY_BOT_DEVICE(text) PERSON(RANK_SIGN, NAME_OF_DEVICE, text)
#define MAYDAY_BOT_SIGN(text) PERSON(RANK_SIGN, NAME_PATTERN, text)
#include "core/filter/bots.def"
#undef MAYDAY_BOT
#undef MAYDAY_BOT_WORD
#undef MAYDAY_BOT_GUESS
#undef MAYDAY_BOT_NOT
#undef MAYDAY_BOT_NO_GUESS
#undef MAYDAY_BOT_DEVICE
#undef MAYDAY_BOT_SIGN
};

static const struct {
    const char *name;
    bool by_default;
} classes[] = {
#define MAYDAY_BOT_CLASS(id, name, by_default, meaning) {name, by_default},
#include "core/filter/bots_classes.def"
#undef MAYDAY_BOT_CLASS
};

_Static_assert(MAYDAY_COUNT(table) + MAYDAY_BOTS_ADDED_MAX <= MAYDAY_WORDS_MAX, "room for all");
_Static_assert(MAYDAY_BOT_CLASS_MAX <= 32, "a set of classes is a 32-bit mask");

/* ---- classes ---- */

const char *
mayday_bot_class_name(mayday_bot_class_t class)
{
    return classes[class].name;
}

mayday_bot_class_t
mayday_bot_class_find(mayday_slice_t name)
{
    for (size_t i = 1; i < MAYDAY_COUNT(classes); i++) {
        if (mayday_slice_eq(mayday_slice_str(classes[i].name), name)) {
            return (mayday_bot_class_t) i;
        }
    }
    return MAYDAY_BOT_NONE;
}

uint32_t
mayday_bot_classes_default(void)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < MAYDAY_COUNT(classes); i++) {
        mask |= (uint32_t) classes[i].by_default << i;
    }
    return mask;
}

/* ---- the lists ---- */

static mayday_words_t *
compile(const mayday_bots_t *bots)
{
    mayday_slice_t words[MAYDAY_COUNT(table) + MAYDAY_BOTS_ADDED_MAX];
    size_t count = 0;

    for (size_t i = 0; i < MAYDAY_COUNT(table); i++) {
        words[count++] = table[i].pattern;
    }
    for (size_t i = 0; i < bots->added_count; i++) {
        words[count++] = mayday_slice(bots->added[i].pattern, bots->added[i].pattern_len);
    }
    return mayday_words_new(words, count);
}

mayday_bots_t *
mayday_bots_new(void)
{
    mayday_bots_t *bots = calloc(1, sizeof(*bots));

    if (bots == NULL) {
        return NULL;
    }
    bots->words = compile(bots);
    if (bots->words == NULL) {
        free(bots);
        return NULL;
    }
    return bots;
}

void
mayday_bots_free(mayday_bots_t *bots)
{
    if (bots != NULL) {
        mayday_words_free(bots->words);
        free(bots);
    }
}

mayday_rc_t
mayday_bots_add(mayday_bots_t *bots, mayday_bot_class_t class, mayday_slice_t name,
                mayday_slice_t pattern)
{
    mayday_slice_t plain;
    mayday_words_t *words;
    added_t *added;

    if (!mayday_word_plain(pattern, &plain) || name.len > MAYDAY_BOT_NAME_MAX) {
        return MAYDAY_INVALID;
    }
    if (bots->added_count == MAYDAY_BOTS_ADDED_MAX) {
        return MAYDAY_FULL;
    }
    added = &bots->added[bots->added_count++];
    name = name.len == 0 ? plain : name;
    added->class = class;
    added->name_len = (uint8_t) name.len;
    added->pattern_len = (uint8_t) pattern.len;
    memcpy(added->name, name.data, name.len);
    memcpy(added->pattern, pattern.data, pattern.len);
    words = compile(bots);
    if (words == NULL) {
        bots->added_count--;
        return MAYDAY_NO_MEMORY;
    }
    mayday_words_free(bots->words);
    bots->words = words;
    return MAYDAY_OK;
}

/* ---- names ---- */

static bool
in_name(char c)
{
    return mayday_is_alnum(c) || c == '-' || c == '_' || c == '.';
}

/* The word of the agent that holds the bytes from begin to end. */
static mayday_slice_t
name_around(mayday_slice_t agent, size_t begin, size_t end)
{
    while (begin > 0 && in_name(agent.data[begin - 1])) {
        begin--;
    }
    while (end < agent.len && in_name(agent.data[end])) {
        end++;
    }
    end = end - begin > MAYDAY_BOT_NAME_MAX ? begin + MAYDAY_BOT_NAME_MAX : end;
    return mayday_slice(agent.data + begin, end - begin);
}

/* What the agent begins with, or what it claims to be compatible as. */
static mayday_slice_t
name_first(mayday_slice_t agent)
{
    const mayday_slice_t compatible = MAYDAY_SLICE("(compatible; ");
    mayday_slice_t first = name_around(agent, 0, 0);
    size_t at;

    if (mayday_slice_eq(first, MAYDAY_SLICE("Mozilla"))) {
        at = mayday_slice_find(agent, compatible, 0);
        return at == SIZE_MAX ? first
                              : name_around(agent, at + compatible.len, at + compatible.len);
    }
    return first;
}

static mayday_slice_t
name_of(const pattern_t *pattern, mayday_slice_t agent, size_t begin, size_t end)
{
    mayday_slice_t name;

    switch (pattern->name) {
    case NAME_AROUND:
        return name_around(agent, begin, end);
    case NAME_BEHIND:
        end += end < agent.len && agent.data[end] == ' ' ? 1 : 0;
        return name_around(agent, end, end);
    case NAME_FIRST:
        return name_first(agent);
    default:
        (void) mayday_word_plain(pattern->pattern, &name);
        while (name.len > 0 && !mayday_is_alnum(name.data[name.len - 1])) {
            name.len--;
        }
        return name;
    }
}

/* ---- classifying ---- */

static size_t
end_of_comment(mayday_slice_t agent, size_t from)
{
    const char *end = memchr(agent.data + from, ')', agent.len - from);

    return end == NULL ? agent.len : (size_t) (end - agent.data);
}

mayday_bot_t
mayday_bots_classify(const mayday_bots_t *bots, mayday_slice_t agent)
{
    mayday_words_scan_t scan;
    mayday_bot_t bot = {MAYDAY_BOT_MISSING, {NULL, 0}};
    const pattern_t *best = NULL, *found;
    size_t begin = 0, end = 0, device_end = 0;

    agent = mayday_slice_trim(mayday_slice(
        agent.data, agent.len > MAYDAY_BOT_AGENT_MAX ? MAYDAY_BOT_AGENT_MAX : agent.len));
    if (agent.len == 0) {
        return bot;
    }
    mayday_words_begin(&scan, bots->words, agent);
    while (mayday_words_next(&scan)) {
        if (scan.word >= MAYDAY_COUNT(table)) {
            const added_t *added = &bots->added[scan.word - MAYDAY_COUNT(table)];

            bot.class = added->class;
            bot.name = mayday_slice(added->name, added->name_len);
            return bot;
        }
        found = &table[scan.word];
        if (found->name == NAME_OF_DEVICE) {
            device_end = end_of_comment(agent, scan.end);
        }
        if ((best == NULL || found->rank > best->rank) &&
            (found->rank != RANK_WORD || scan.begin >= device_end)) {
            best = found;
            begin = scan.begin;
            end = scan.end;
        }
    }
    if (best == NULL) {
        bot.class = MAYDAY_BOT_PROGRAM;
        bot.name = name_around(agent, 0, 0);
    } else {
        bot.class = best->class;
        bot.name = best->class == MAYDAY_BOT_NONE ? bot.name : name_of(best, agent, begin, end);
    }
    return bot;
}
