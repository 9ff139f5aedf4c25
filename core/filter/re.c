/* See re.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/filter/re.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

#define STEPS_MAX (UINT64_C(16) * 1024 * 1024)
#define STEPS_PER_CALLOUT 16
#define STEPS_PER_LOOK 1024
#define HEAP_KIB_MAX 4096
#define NEST_MAX 100

struct mayday_re {
    pcre2_code *code;
    uint32_t options;
    uint64_t used; /* by the cache's counter of uses */
    size_t size;   /* bytes, of what PCRE2 made of it */
    bool pinned;
    bool utf; /* by option u, or by the expression itself: "(*UTF)" */
    uint32_t groups;
    const char *names[MAYDAY_RE_CAPTURES_MAX + 1]; /* in the code; NULL: none */
    size_t len;
    char pattern[]; /* the key, with options */
};

struct mayday_re_cache {
    mayday_re_t *entries[MAYDAY_RE_CACHE_MAX]; /* NULL: free */
    uint64_t uses;
    size_t size; /* of all entries */
    pcre2_compile_context *compile_context;
    pcre2_match_context *match_context;
    pcre2_match_data *match_data;
    mayday_slice_t checked; /* the last text that was found to be UTF-8 */
};

/* A match under way, for the callout. */
typedef struct {
    uint64_t steps, look_at;
    size_t position;
    mayday_re_is_late_pt is_late;
    void *ctx;
} progress_t;

/* What a callout returns to end a match; PCRE2 passes it on. */
enum { ENDED_TOO_MUCH = -1001, ENDED_LATE = -1002 };

mayday_re_cache_t *
mayday_re_cache_new(void)
{
    mayday_re_cache_t *cache = calloc(1, sizeof(*cache));

    if (cache == NULL) {
        return NULL;
    }
    cache->compile_context = pcre2_compile_context_create(NULL);
    cache->match_context = pcre2_match_context_create(NULL);
    cache->match_data = pcre2_match_data_create(MAYDAY_RE_CAPTURES_MAX + 1, NULL);
    if (cache->compile_context == NULL || cache->match_context == NULL ||
        cache->match_data == NULL) {
        mayday_re_cache_free(cache);
        return NULL;
    }
    (void) pcre2_set_max_pattern_length(cache->compile_context, MAYDAY_RE_PATTERN_MAX);
    (void) pcre2_set_parens_nest_limit(cache->compile_context, NEST_MAX);
    (void) pcre2_set_heap_limit(cache->match_context, HEAP_KIB_MAX);
    return cache;
}

static void
re_free(mayday_re_t *re)
{
    if (re != NULL) {
        pcre2_code_free(re->code);
        free(re);
    }
}

void
mayday_re_cache_free(mayday_re_cache_t *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < MAYDAY_RE_CACHE_MAX; i++) {
        re_free(cache->entries[i]);
    }
    pcre2_match_data_free(cache->match_data);
    pcre2_match_context_free(cache->match_context);
    pcre2_compile_context_free(cache->compile_context);
    free(cache);
}

/* ---- compiling ---- */

static bool
parse_options(mayday_slice_t letters, uint32_t *options, char *error, size_t error_size)
{
    *options = PCRE2_AUTO_CALLOUT | PCRE2_NEVER_BACKSLASH_C;
    for (size_t i = 0; i < letters.len; i++) {
        switch (letters.data[i]) {
        case 'a':
            *options |= PCRE2_ANCHORED;
            break;
        case 'i':
            *options |= PCRE2_CASELESS;
            break;
        case 'm':
            *options |= PCRE2_MULTILINE;
            break;
        case 's':
            *options |= PCRE2_DOTALL;
            break;
        case 'u':
            *options |= PCRE2_UTF | PCRE2_UCP;
            break;
        case 'x':
            *options |= PCRE2_EXTENDED;
            break;
        default:
            (void) snprintf(error, error_size,
                            "there is no option '%c'; there are " MAYDAY_RE_OPTIONS,
                            letters.data[i]);
            return false;
        }
    }
    return true;
}

static void
learn_names(mayday_re_t *re)
{
    uint32_t count = 0, size = 0;
    PCRE2_SPTR table = NULL;

    (void) pcre2_pattern_info(re->code, PCRE2_INFO_NAMECOUNT, &count);
    (void) pcre2_pattern_info(re->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
    (void) pcre2_pattern_info(re->code, PCRE2_INFO_NAMETABLE, &table);
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *entry = table + (size_t) i * size;
        unsigned group = (unsigned) entry[0] << 8 | entry[1];

        if (group <= re->groups) {
            re->names[group] = (const char *) entry + 2;
        }
    }
}

/* What PCRE2 says of an expression, with the part of it that it had read. */
static void
describe(int code, size_t offset, mayday_slice_t pattern, char *error, size_t error_size)
{
    char text[160];
    size_t from = offset > 24 ? offset - 24 : 0;

    if (pcre2_get_error_message(code, (PCRE2_UCHAR *) text, sizeof(text)) < 0) {
        (void) snprintf(text, sizeof(text), "PCRE2's error %d", code);
    }
    (void) snprintf(error, error_size, "%s, at character %zu, behind \"%s%.*s\"", text, offset + 1,
                    from > 0 ? "..." : "", (int) (offset - from), pattern.data + from);
}

static mayday_re_t *
compile(mayday_re_cache_t *cache, mayday_slice_t pattern, uint32_t options, char *error,
        size_t error_size)
{
    mayday_re_t *re = calloc(1, sizeof(*re) + pattern.len + 1);
    uint32_t all_options = 0;
    size_t offset = 0, code_size = 0, jit_size = 0;
    int code = 0;

    if (re == NULL) {
        (void) snprintf(error, error_size, "no memory");
        return NULL;
    }
    re->code = pcre2_compile((PCRE2_SPTR) pattern.data, pattern.len, options, &code, &offset,
                             cache->compile_context);
    if (re->code == NULL) {
        describe(code, offset > pattern.len ? pattern.len : offset, pattern, error, error_size);
        free(re);
        return NULL;
    }
    (void) pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
    if (re->groups > MAYDAY_RE_CAPTURES_MAX) {
        (void) snprintf(error, error_size, "the expression has more than %d groups",
                        MAYDAY_RE_CAPTURES_MAX);
        re_free(re);
        return NULL;
    }
    (void) pcre2_pattern_info(re->code, PCRE2_INFO_ALLOPTIONS, &all_options);
    re->utf = (all_options & PCRE2_UTF) != 0;
    /* Where memory may not be writable and executable, the interpreter does. */
    (void) pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
    (void) pcre2_pattern_info(re->code, PCRE2_INFO_SIZE, &code_size);
    (void) pcre2_pattern_info(re->code, PCRE2_INFO_JITSIZE, &jit_size);
    re->size = code_size + jit_size;
    learn_names(re);
    re->options = options;
    re->len = pattern.len;
    memcpy(re->pattern, pattern.data, pattern.len);
    return re;
}

/* ---- the cache ---- */

static mayday_re_t *
find(mayday_re_cache_t *cache, mayday_slice_t pattern, uint32_t options)
{
    for (size_t i = 0; i < MAYDAY_RE_CACHE_MAX; i++) {
        mayday_re_t *re = cache->entries[i];

        if (re != NULL && re->len == pattern.len && re->options == options &&
            memcmp(re->pattern, pattern.data, pattern.len) == 0) {
            return re;
        }
    }
    return NULL;
}

/* The entry that was not used for longest; NULL: all are pinned. */
static mayday_re_t **
oldest(mayday_re_cache_t *cache)
{
    mayday_re_t **oldest = NULL;

    for (size_t i = 0; i < MAYDAY_RE_CACHE_MAX; i++) {
        mayday_re_t **entry = &cache->entries[i];

        if (*entry != NULL && !(*entry)->pinned &&
            (oldest == NULL || (*entry)->used < (*oldest)->used)) {
            oldest = entry;
        }
    }
    return oldest;
}

/* False: there is no room, for what is pinned. */
static bool
put(mayday_re_cache_t *cache, mayday_re_t *re)
{
    for (;;) {
        mayday_re_t **entry = NULL;

        for (size_t i = 0; i < MAYDAY_RE_CACHE_MAX && entry == NULL; i++) {
            entry = cache->entries[i] == NULL ? &cache->entries[i] : NULL;
        }
        if (entry != NULL && cache->size + re->size <= MAYDAY_RE_CACHE_SIZE_MAX) {
            *entry = re;
            cache->size += re->size;
            return true;
        }
        entry = oldest(cache);
        if (entry == NULL) {
            return false;
        }
        cache->size -= (*entry)->size;
        re_free(*entry);
        *entry = NULL;
    }
}

const mayday_re_t *
mayday_re_get(mayday_re_cache_t *cache, mayday_slice_t pattern, mayday_slice_t letters, char *error,
              size_t error_size)
{
    mayday_re_t *re;
    uint32_t options;

    if (!parse_options(letters, &options, error, error_size)) {
        return NULL;
    }
    if (pattern.len > MAYDAY_RE_PATTERN_MAX) {
        (void) snprintf(error, error_size, "the expression is longer than %d bytes",
                        MAYDAY_RE_PATTERN_MAX);
        return NULL;
    }
    re = find(cache, pattern, options);
    if (re == NULL) {
        re = compile(cache, pattern, options, error, error_size);
        if (re == NULL) {
            return NULL;
        }
        if (!put(cache, re)) {
            (void) snprintf(error, error_size,
                            "more than %d expressions, or more than %d MiB of them, are in use "
                            "at once",
                            MAYDAY_RE_CACHE_MAX, (int) (MAYDAY_RE_CACHE_SIZE_MAX >> 20));
            re_free(re);
            return NULL;
        }
    }
    re->used = ++cache->uses;
    return re;
}

void
mayday_re_pin(mayday_re_cache_t *cache, const mayday_re_t *re)
{
    for (size_t i = 0; i < MAYDAY_RE_CACHE_MAX; i++) {
        if (cache->entries[i] == re) {
            cache->entries[i]->pinned = true;
        }
    }
}

void
mayday_re_unpin_all(mayday_re_cache_t *cache)
{
    for (size_t i = 0; i < MAYDAY_RE_CACHE_MAX; i++) {
        if (cache->entries[i] != NULL) {
            cache->entries[i]->pinned = false;
        }
    }
}

/* ---- matching ---- */

/* At each item that is tried. What one item passes over counts too: it may be the whole text. */
static int
count_steps(pcre2_callout_block *block, void *ctx)
{
    progress_t *progress = ctx;
    size_t at = block->current_position, before = progress->position;

    progress->steps += STEPS_PER_CALLOUT + (at > before ? at - before : before - at);
    progress->position = at;
    if (progress->steps < progress->look_at) {
        return 0;
    }
    if (progress->steps > STEPS_MAX) {
        return ENDED_TOO_MUCH;
    }
    progress->look_at = progress->steps + STEPS_PER_LOOK;
    return progress->is_late(progress->ctx) ? ENDED_LATE : 0;
}

static int
run(mayday_re_cache_t *cache, const mayday_re_t *re, mayday_slice_t text, size_t from,
    progress_t *progress, uint32_t options)
{
    (void) pcre2_set_callout(cache->match_context, count_steps, progress);
    return pcre2_match(re->code, (PCRE2_SPTR) text.data, text.len, from, options, cache->match_data,
                       cache->match_context);
}

static bool
is_bad_utf(int rc)
{
    return rc <= PCRE2_ERROR_UTF8_ERR1 && rc >= PCRE2_ERROR_UTF8_ERR21;
}

/* A text that is searched again and again is checked once, or each match would cost all of it. */
static int
run_checked(mayday_re_cache_t *cache, const mayday_re_t *re, mayday_slice_t text, size_t from,
            progress_t *progress)
{
    bool checked = from > 0 && cache->checked.data == text.data && cache->checked.len == text.len;
    uint32_t options = checked ? PCRE2_NO_UTF_CHECK : 0;
    int rc = run(cache, re, text, from, progress, options);

    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = run(cache, re, text, from, progress, options | PCRE2_NO_JIT);
    }
    if (from == 0 && re->utf) {
        cache->checked = is_bad_utf(rc) ? mayday_slice(NULL, 0) : text;
    }
    return rc;
}

mayday_re_result_t
mayday_re_match(mayday_re_cache_t *cache, const mayday_re_t *re, mayday_slice_t text, size_t from,
                mayday_re_is_late_pt is_late, void *ctx, mayday_re_match_t *match)
{
    progress_t progress = {0, STEPS_PER_LOOK, from, is_late, ctx};
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(cache->match_data);
    int rc;

    if (text.len > MAYDAY_RE_SUBJECT_MAX) {
        return MAYDAY_RE_TOO_MUCH;
    }
    if (text.data == NULL) {
        text.data = "";
    }
    rc = run_checked(cache, re, text, from, &progress);
    if (rc == PCRE2_ERROR_NOMATCH) {
        return MAYDAY_RE_NONE;
    }
    if (rc == ENDED_LATE) {
        return MAYDAY_RE_LATE;
    }
    if (is_bad_utf(rc)) {
        return MAYDAY_RE_BAD_TEXT;
    }
    if (rc <= 0) {
        return MAYDAY_RE_TOO_MUCH;
    }
    if (offsets[0] > offsets[1] || offsets[0] < from) {
        return MAYDAY_RE_BAD_BEGIN;
    }
    match->count = re->groups + 1;
    for (size_t i = 0; i < match->count; i++) {
        bool took_part = i < (size_t) rc && offsets[2 * i] != PCRE2_UNSET;

        match->groups[i].begin = took_part ? offsets[2 * i] : SIZE_MAX;
        match->groups[i].end = took_part ? offsets[2 * i + 1] : SIZE_MAX;
    }
    return MAYDAY_RE_MATCH;
}

size_t
mayday_re_next(const mayday_re_t *re, mayday_slice_t text, size_t at)
{
    do {
        at++;
    } while (re->utf && at < text.len && ((unsigned char) text.data[at] & 0xc0) == 0x80);
    return at;
}

const char *
mayday_re_group_name(const mayday_re_t *re, size_t group)
{
    return group <= re->groups ? re->names[group] : NULL;
}
