/*
 * A server for the tests of the configuration: memory that the teardown frees,
 * expressions that are text.
 */
#ifndef MAYDAY_TEST_CONF_HOST_H
#define MAYDAY_TEST_CONF_HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/capture/conf.h"

typedef struct block block_t;
struct block {
    block_t *next;
    max_align_t data[];
};

static block_t *blocks;
static int until_failure; /* of an allocation; -1: never */

static inline void *
take(void *ctx, size_t size)
{
    block_t *block;

    (void) ctx;
    if (until_failure >= 0 && until_failure-- == 0) {
        return NULL;
    }
    block = calloc(1, sizeof(*block) + size);
    assert_non_null(block);
    block->next = blocks;
    blocks = block;
    return block->data;
}

static inline mayday_expr_t *
compile(void *ctx, mayday_slice_t text, const char **error)
{
    char *copy;

    if (mayday_slice_eq(text, MAYDAY_SLICE("$nope"))) {
        *error = "unknown \"nope\" variable";
        return NULL;
    }
    copy = take(ctx, text.len + 1);
    if (copy == NULL) {
        *error = "out of memory";
        return NULL;
    }
    memcpy(copy, text.data, text.len);
    return (mayday_expr_t *) copy;
}

/* Leaves a mark, so that a test sees which of the two was asked. */
static inline mayday_expr_t *
compile_condition(void *ctx, mayday_slice_t text, const char **error)
{
    char *copy = (char *) compile(ctx, text, error);

    if (copy != NULL) {
        copy[0] = '!';
    }
    return (mayday_expr_t *) copy;
}

static inline const char *
text_of(const mayday_expr_t *expr)
{
    return (const char *) expr;
}

static mayday_conf_host_t host;
static mayday_instance_t *instance;

static inline void
start(mayday_server_t server)
{
    host = (mayday_conf_host_t){.server = server, .alloc = take, .expr = compile};
    instance = mayday_instance_new(&host);
    assert_non_null(instance);
}

static inline int
setup(void **state)
{
    (void) state;
    blocks = NULL;
    until_failure = -1;
    (void) unsetenv("SENTRY_ENVIRONMENT");
    (void) unsetenv("SENTRY_RELEASE");
    start(MAYDAY_SERVER_NGINX);
    return 0;
}

static inline int
teardown(void **state)
{
    (void) state;
    while (blocks != NULL) {
        block_t *next = blocks->next;

        free(blocks);
        blocks = next;
    }
    return 0;
}

static inline mayday_place_t *
place_new(void)
{
    mayday_place_t *place = mayday_place_new(&host, instance);

    assert_non_null(place);
    return place;
}

/* words: the arguments, separated by single spaces; "": none. */
static inline const char *
set(mayday_place_t *place, mayday_directive_t directive, const char *words)
{
    mayday_slice_t args[64], rest = mayday_slice_str(words);
    size_t count = 0;

    while (rest.len > 0) {
        size_t end = mayday_slice_find(rest, MAYDAY_SLICE(" "), 0);

        assert_in_range(count, 0, MAYDAY_COUNT(args) - 1);
        args[count++] = mayday_slice(rest.data, end == SIZE_MAX ? rest.len : end);
        rest = end == SIZE_MAX ? mayday_slice(NULL, 0)
                               : mayday_slice(rest.data + end + 1, rest.len - end - 1);
    }
    return mayday_directive_set(&host, instance, place, directive, args, count);
}

static const char *const directive_names[][2] = {
#define MAYDAY_DIRECTIVE(id, nginx, httpd, scope, min, max, parser, inherit, dflt, syntax,         \
                         summary)                                                                  \
    {nginx, httpd},
#include "core/capture/directives.def"
#undef MAYDAY_DIRECTIVE
};

static inline void
ok(mayday_place_t *place, mayday_directive_t directive, const char *words)
{
    const char *message = set(place, directive, words);

    if (message != NULL) {
        fail_msg("%s %s: %s", directive_names[directive][host.server], words, message);
    }
}

static inline bool
slice_is(mayday_slice_t s, const char *text)
{
    return mayday_slice_eq(s, mayday_slice_str(text));
}

/* ---- what is refused ---- */

typedef struct {
    mayday_directive_t directive;
    const char *words;
    const char *message; /* occurs in it */
} refused_t;

#define D(id) MAYDAY_DIRECTIVE_##id

static inline void
assert_refused(const refused_t *refused, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *message;

        start(host.server);
        message = set(place_new(), refused[i].directive, refused[i].words);
        if (message == NULL || strstr(message, refused[i].message) == NULL) {
            fail_msg("%s %s: %s", directive_names[refused[i].directive][host.server],
                     refused[i].words, message == NULL ? "accepted" : message);
        }
        /* Every message tells what was found, and nothing breaks the log line. */
        assert_non_null(strstr(message, "found "));
        assert_null(strpbrk(message, "\r\n\t"));
    }
}

/* ---- what holds in a place ---- */

static inline bool
never(void *request, mayday_expr_t *condition)
{
    (void) condition;
    ++*(int *) request;
    return false;
}

static inline bool
ignores(const mayday_place_t *place, mayday_kind_t kind, unsigned status)
{
    int asked = 0;

    return mayday_ignore_matches(place->ignore, kind, status, never, &asked);
}

static inline bool
filters(const mayday_collect_part_t *part, const char *key)
{
    return mayday_redact_is_sensitive(part->redact, mayday_slice_str(key));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
