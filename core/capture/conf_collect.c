/*
 * mayday_collect: lines become one immutable policy per place.
 *
 * The policy is made of parts (headers, cookies, query). A part is compiled
 * when its line is read, once for each answer to user_info, because an inner
 * place may change that alone. So merging places, which httpd does on the
 * request path, only picks from compiled parts.
 *
 * Lines of one place for one part add up; a part that an inner place speaks of
 * replaces the outer place's, the other parts stay.
 */
#include "core/capture/conf_parse.h"
#include "core/capture/header.h"

#define WORDS_MAX 200 /* of a kind, in one part; mayday_redact_new takes no more */

enum { PART_HEADERS, PART_COOKIES, PART_QUERY, PART_MAX, PART_USER_INFO = PART_MAX };
enum { WORDS_ALLOW, WORDS_DENY, WORDS_PLAIN, WORDS_KINDS };

static const char *const part_names[] = {"headers", "cookies", "query", "user_info"};
static const char *const words_names[] = {"allow=", "deny=", "plain="};

typedef struct {
    const mayday_slice_t *items;
    size_t count;
} words_t;

typedef struct {
    bool on;
    words_t words[WORDS_KINDS];
    const mayday_redact_t *redact[2]; /* by user_info */
} part_t;

/* What place->collect really points to. */
typedef struct {
    mayday_collect_t policy; /* first */
    unsigned given;          /* mask of the parts, user_info included */
    const part_t *parts[PART_MAX];
} collect_t;

_Static_assert(offsetof(collect_t, policy) == 0, "a policy is a collect_t");

static void
derive_policy(collect_t *collect, bool user_info)
{
    mayday_collect_part_t *out[PART_MAX] = {
        [PART_HEADERS] = &collect->policy.headers,
        [PART_COOKIES] = &collect->policy.cookies,
        [PART_QUERY] = &collect->policy.query,
    };

    collect->policy.user_info = user_info;
    for (unsigned i = 0; i < PART_MAX; i++) {
        out[i]->on = collect->parts[i]->on;
        out[i]->redact = collect->parts[i]->redact[user_info];
    }
    collect->policy.has_host = collect->policy.headers.on &&
                               mayday_header_usual(collect->policy.headers.redact,
                                                   MAYDAY_SLICE("Host")) == MAYDAY_HEADER_PLAIN;
}

static bool
compile(const mayday_conf_host_t *host, part_t *part)
{
    const words_t *allow = &part->words[WORDS_ALLOW], *deny = &part->words[WORDS_DENY],
                  *plain = &part->words[WORDS_PLAIN];

    for (unsigned user_info = 0; user_info < 2; user_info++) {
        part->redact[user_info] =
            mayday_redact_new(host->alloc, host->ctx, user_info != 0, deny->items, deny->count,
                              plain->items, plain->count, allow->items, allow->count);
        if (part->redact[user_info] == NULL) {
            return false;
        }
    }
    return true;
}

const mayday_collect_t *
mayday_collect_new(const mayday_conf_host_t *host)
{
    collect_t *collect = mayday_conf_alloc(host, sizeof(*collect));
    part_t *on = mayday_conf_alloc(host, sizeof(*on)), *off;

    if (collect == NULL || on == NULL || !compile(host, on)) {
        return NULL;
    }
    off = mayday_conf_alloc(host, sizeof(*off));
    if (off == NULL) {
        return NULL;
    }
    *off = *on;
    on->on = true;
    collect->parts[PART_HEADERS] = on;
    collect->parts[PART_COOKIES] = off;
    collect->parts[PART_QUERY] = on;
    derive_policy(collect, false);
    return &collect->policy;
}

const mayday_collect_t *
mayday_collect_merge(const mayday_conf_host_t *host, const mayday_collect_t *outer,
                     const mayday_collect_t *inner)
{
    const collect_t *o = (const collect_t *) outer, *i = (const collect_t *) inner;
    collect_t *merged = mayday_conf_alloc(host, sizeof(*merged));

    if (merged == NULL) {
        return NULL;
    }
    merged->given = o->given | i->given;
    for (unsigned part = 0; part < PART_MAX; part++) {
        merged->parts[part] = (i->given >> part & 1) != 0 ? i->parts[part] : o->parts[part];
    }
    derive_policy(merged, ((i->given >> PART_USER_INFO & 1) != 0 ? inner : outer)->user_info);
    return &merged->policy;
}

/* ---- lines ---- */

static bool
is_term(mayday_slice_t term)
{
    for (size_t i = 0; i < term.len; i++) {
        uint8_t byte = (uint8_t) term.data[i];

        if (byte <= ' ' || byte >= 0x7f || byte == '%') {
            return false;
        }
    }
    return term.len > 0 && term.len <= 64;
}

/* Adds the words of "a,b,c", which stands in word, behind those of *words. */
static const char *
add_words(const mayday_conf_call_t *call, mayday_slice_t word, mayday_slice_t list, words_t *words)
{
    mayday_slice_t *items;
    size_t count = words->count + 1, begin = 0;

    for (size_t i = 0; i < list.len; i++) {
        count += list.data[i] == ',';
    }
    if (count > WORDS_MAX) {
        return mayday_conf_found(call, word, "at most %d words", WORDS_MAX);
    }
    items = mayday_conf_alloc(call->host, count * sizeof(*items));
    if (items == NULL || !mayday_conf_copy(call->host, &list, list)) {
        return mayday_conf_no_memory;
    }
    if (words->count > 0) {
        memcpy(items, words->items, words->count * sizeof(*items));
    }
    count = words->count;
    for (size_t i = 0; i <= list.len; i++) {
        if (i < list.len && list.data[i] != ',') {
            continue;
        }
        items[count] = mayday_slice(list.data + begin, i - begin);
        if (!is_term(items[count])) {
            return mayday_conf_found(call, word,
                                     "words of at most 64 visible ASCII characters without \"%%\", "
                                     "separated by commas");
        }
        count++;
        begin = i + 1;
    }
    *words = (words_t){items, count};
    return NULL;
}

static const char *
parse_part(const mayday_conf_call_t *call, part_t *part, bool is_first)
{
    if (!is_first && !part->on) {
        return mayday_conf_found(call, call->args[1], "nothing more after off");
    }
    if (mayday_conf_flag(call->args[1], &part->on)) {
        if (!is_first) {
            return mayday_conf_found(call, call->args[1], "on or off once, before all else");
        }
        return call->count == 2 ? NULL : mayday_conf_found(call, call->args[2], "on or off alone");
    }
    part->on = true;
    for (size_t i = 1; i < call->count; i++) {
        mayday_slice_t word = call->args[i], list = word;
        unsigned kind = 0;
        const char *error;

        while (kind < WORDS_KINDS && !mayday_conf_strip(&list, words_names[kind])) {
            kind++;
        }
        if (kind == WORDS_KINDS) {
            return mayday_conf_found(call, word, "on, off, allow=, deny= or plain=");
        }
        error = add_words(call, word, list, &part->words[kind]);
        if (error != NULL) {
            return error;
        }
    }
    return NULL;
}

/* Tables are big, so a part that adds no words shares the default one's. */
static bool
compile_or_share(const mayday_conf_call_t *call, part_t *part)
{
    const collect_t *defaults = (const collect_t *) call->instance->defaults.collect;

    for (unsigned kind = 0; kind < WORDS_KINDS; kind++) {
        if (part->words[kind].count > 0) {
            return compile(call->host, part);
        }
    }
    memcpy(part->redact, defaults->parts[PART_HEADERS]->redact, sizeof(part->redact));
    return true;
}

static const char *
set_part(const mayday_conf_call_t *call, collect_t *collect, unsigned index)
{
    bool is_first = (collect->given >> index & 1) == 0;
    part_t *part = mayday_conf_alloc(call->host, sizeof(*part));
    const char *error;

    if (part == NULL) {
        return mayday_conf_no_memory;
    }
    if (!is_first) {
        *part = *collect->parts[index];
    }
    error = parse_part(call, part, is_first);
    if (error != NULL) {
        return error;
    }
    collect->parts[index] = part;
    return compile_or_share(call, part) ? NULL : mayday_conf_no_memory;
}

static const char *
set_user_info(const mayday_conf_call_t *call, const collect_t *collect, bool *user_info)
{
    if ((collect->given >> PART_USER_INFO & 1) != 0) {
        return mayday_conf_found(call, call->args[0], "user_info once in one place");
    }
    return call->count == 2 && mayday_conf_flag(call->args[1], user_info)
               ? NULL
               : mayday_conf_found(call, call->args[call->count - 1], "user_info on or off");
}

const char *
mayday_set_collect(const mayday_conf_call_t *call)
{
    const collect_t *old = (const collect_t *) call->place->collect;
    collect_t *collect = mayday_conf_alloc(call->host, sizeof(*collect));
    unsigned part = 0;
    const char *error;
    bool user_info;

    if (collect == NULL) {
        return mayday_conf_no_memory;
    }
    *collect = *old;
    user_info = old->policy.user_info;
    while (part < MAYDAY_COUNT(part_names) && !mayday_conf_is(call->args[0], part_names[part])) {
        part++;
    }
    if (part == MAYDAY_COUNT(part_names)) {
        return mayday_conf_found(call, call->args[0], "user_info, headers, cookies or query");
    }
    error = part == PART_USER_INFO ? set_user_info(call, collect, &user_info)
                                   : set_part(call, collect, part);
    if (error != NULL) {
        return error;
    }
    collect->given |= 1u << part;
    derive_policy(collect, user_info);
    call->place->collect = &collect->policy;
    return NULL;
}
