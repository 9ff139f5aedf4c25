/*
 * Differences of two JSON trees; see diff.h.
 */
#include "core/cli/diff.h"

#include <stdio.h>

#define DEPTH_MAX 48 /* what is deeper is compared as one value */

typedef struct {
    mayday_change_visit_pt visit;
    void *ctx;
    mayday_buf_t path;
    unsigned depth;
} diff_t;

/* Where the path ended before a step. */
typedef struct {
    size_t len;
    bool truncated;
} mark_t;

static bool
is_there(const cJSON *item)
{
    return item != NULL && !cJSON_IsNull(item);
}

/* ---- the path ---- */

static bool
is_name(const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < len; i++) {
        if (!(mayday_is_alnum(key[i]) || key[i] == '_') || (i == 0 && mayday_is_digit(key[i]))) {
            return false;
        }
    }
    return len > 0;
}

static mark_t
step_key(diff_t *diff, const char *key)
{
    mark_t mark = {diff->path.len, diff->path.truncated};

    if (is_name(key)) {
        mayday_buf_adds(&diff->path, diff->path.len > 0 ? "." : "");
        mayday_buf_adds(&diff->path, key);
    } else {
        mayday_buf_adds(&diff->path, "[\"");
        for (; *key != '\0'; key++) {
            mayday_buf_adds(&diff->path, *key == '"' || *key == '\\' ? "\\" : "");
            mayday_buf_addc(&diff->path, *key);
        }
        mayday_buf_adds(&diff->path, "\"]");
    }
    return mark;
}

static mark_t
step_index(diff_t *diff, size_t index)
{
    mark_t mark = {diff->path.len, diff->path.truncated};

    mayday_buf_addf(&diff->path, "[%zu]", index);
    return mark;
}

static void
step_back(diff_t *diff, mark_t mark)
{
    diff->path.len = mark.len;
    diff->path.data[mark.len] = '\0';
    diff->path.truncated = mark.truncated;
}

static void
report(diff_t *diff, const cJSON *old, const cJSON *now)
{
    mayday_change_t change = {diff->path.data, is_there(old) ? old : NULL,
                              is_there(now) ? now : NULL};

    diff->visit(diff->ctx, &change);
}

/* ---- pairs ---- */

static bool
is_pair(const cJSON *item)
{
    return cJSON_IsArray(item) && cJSON_IsString(item->child) &&
           cJSON_IsString(item->child->next) && item->child->next->next == NULL;
}

static bool
is_pairs(const cJSON *list)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        if (!is_pair(item)) {
            return false;
        }
    }
    return cJSON_IsArray(list);
}

static cJSON *
find(const cJSON *object, const char *key, bool ignore_case)
{
    return ignore_case ? cJSON_GetObjectItem(object, key)
                       : cJSON_GetObjectItemCaseSensitive(object, key);
}

/* "a, b" in the place of "a". */
static void
join(cJSON *value, const char *more)
{
    size_t size = strlen(value->valuestring) + 2 + strlen(more) + 1;
    char *joined = cJSON_malloc(size);

    if (joined != NULL) {
        (void) snprintf(joined, size, "%s, %s", value->valuestring, more);
        value->valuestring = joined;
    }
}

/* The list as an object name -> value. */
static cJSON *
by_name(const cJSON *list, bool ignore_case)
{
    cJSON *object = cJSON_CreateObject();
    const cJSON *pair;

    cJSON_ArrayForEach(pair, list)
    {
        const char *name = pair->child->valuestring, *value = pair->child->next->valuestring;
        cJSON *first = find(object, name, ignore_case);

        if (first != NULL) {
            join(first, value);
        } else {
            (void) cJSON_AddStringToObject(object, name, value);
        }
    }
    return object;
}

/* ---- values ---- */

static void compare(diff_t *diff, const char *key, const cJSON *old, const cJSON *now);

static void
compare_objects(diff_t *diff, const cJSON *old, const cJSON *now, bool ignore_case)
{
    const cJSON *member;
    mark_t mark;

    cJSON_ArrayForEach(member, old)
    {
        mark = step_key(diff, member->string);
        compare(diff, member->string, member, find(now, member->string, ignore_case));
        step_back(diff, mark);
    }
    cJSON_ArrayForEach(member, now)
    {
        if (!is_there(find(old, member->string, ignore_case)) && is_there(member)) {
            mark = step_key(diff, member->string);
            report(diff, NULL, member);
            step_back(diff, mark);
        }
    }
}

static bool
is_plain(const cJSON *list)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        if (item->child != NULL) {
            return false;
        }
    }
    return true;
}

/* How many items at the end of both lists are the same, of at most so many. */
static size_t
same_at_end(const cJSON *old, const cJSON *now, size_t max)
{
    /* a list's first item knows the last one */
    const cJSON *a = old->child == NULL ? NULL : old->child->prev;
    const cJSON *b = now->child == NULL ? NULL : now->child->prev;
    size_t n = 0;

    while (n < max && a != NULL && b != NULL && cJSON_Compare(a, b, true)) {
        a = a->prev;
        b = b->prev;
        n++;
    }
    return n;
}

static void
compare_lists(diff_t *diff, const cJSON *old, const cJSON *now)
{
    size_t old_left = (size_t) cJSON_GetArraySize(old), now_left = (size_t) cJSON_GetArraySize(now);
    const cJSON *a = old->child, *b = now->child;
    size_t index = 1, end;

    while (a != NULL && b != NULL && cJSON_Compare(a, b, true)) {
        a = a->next;
        b = b->next;
        old_left--;
        now_left--;
        index++;
    }
    end = same_at_end(old, now, old_left < now_left ? old_left : now_left);
    for (old_left -= end, now_left -= end; old_left > 0 || now_left > 0; index++) {
        const cJSON *from = old_left > 0 ? a : NULL, *to = now_left > 0 ? b : NULL;
        mark_t mark = step_index(diff, index);

        compare(diff, NULL, from, to);
        step_back(diff, mark);
        if (from != NULL) {
            a = from->next;
            old_left--;
        }
        if (to != NULL) {
            b = to->next;
            now_left--;
        }
    }
}

static void
compare(diff_t *diff, const char *key, const cJSON *old, const cJSON *now)
{
    bool headers = key != NULL && strcmp(key, "headers") == 0;
    bool both = is_there(old) && is_there(now) && diff->depth < DEPTH_MAX;

    if (!is_there(old) && !is_there(now)) {
        return;
    }
    diff->depth++;
    if (both && cJSON_IsObject(old) && cJSON_IsObject(now)) {
        compare_objects(diff, old, now, headers);
    } else if (both && is_pairs(old) && is_pairs(now)) {
        compare_objects(diff, by_name(old, headers), by_name(now, headers), headers);
    } else if (both && cJSON_IsArray(old) && cJSON_IsArray(now) &&
               !(is_plain(old) && is_plain(now))) {
        compare_lists(diff, old, now);
    } else if (!cJSON_Compare(old, now, true)) {
        report(diff, old, now);
    }
    diff->depth--;
}

void
mayday_diff(const cJSON *old, const cJSON *now, mayday_change_visit_pt visit, void *ctx)
{
    char storage[MAYDAY_DIFF_PATH_SIZE];
    diff_t diff = {.visit = visit, .ctx = ctx};

    mayday_buf_init(&diff.path, storage, sizeof(storage));
    compare(&diff, NULL, old, now);
}
