/*
 * What is filtered, and that nothing sensitive slips by through spelling,
 * encoding or a buffer that is too small.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/capture/record_format.h"
#include "core/capture/redact.h"

/* ---- memory of a test: freed in the teardown ---- */

typedef struct block block_t;
struct block {
    block_t *next;
    max_align_t data[];
};

typedef struct {
    block_t *blocks;
    int until_failure; /* -1: never */
} pool_t;

static pool_t pool;

static void *
take(void *ctx, size_t size)
{
    pool_t *p = ctx;
    block_t *block;

    if (p->until_failure >= 0 && p->until_failure-- == 0) {
        return NULL;
    }
    block = calloc(1, sizeof(*block) + size);
    assert_non_null(block);
    block->next = p->blocks;
    p->blocks = block;
    return block->data;
}

static int
setup(void **state)
{
    (void) state;
    pool = (pool_t){NULL, -1};
    return 0;
}

static int
teardown(void **state)
{
    (void) state;
    while (pool.blocks != NULL) {
        block_t *next = pool.blocks->next;

        free(pool.blocks);
        pool.blocks = next;
    }
    return 0;
}

static mayday_redact_t *
policy(bool user_info)
{
    mayday_redact_t *r = mayday_redact_new(take, &pool, user_info, NULL, 0, NULL, 0, NULL, 0);

    assert_non_null(r);
    return r;
}

static bool
hits(const mayday_redact_t *r, const char *key)
{
    return mayday_redact_is_sensitive(r, mayday_slice_str(key));
}

/* ---- mayday_redact_new ---- */

static void
test_redact_new__refused(void **state)
{
    static const mayday_slice_t empty = {"", 0}, percent = {"a%41", 4};
    mayday_slice_t many[201];
    char text[65];
    mayday_slice_t too_long = {text, sizeof(text)};

    (void) state;
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < MAYDAY_COUNT(many); i++) {
        many[i] = MAYDAY_SLICE("word");
    }
    assert_null(mayday_redact_new(take, &pool, true, &empty, 1, NULL, 0, NULL, 0));
    assert_null(mayday_redact_new(take, &pool, true, NULL, 0, &empty, 1, NULL, 0));
    assert_null(mayday_redact_new(take, &pool, true, NULL, 0, NULL, 0, &percent, 1));
    assert_null(mayday_redact_new(take, &pool, true, &too_long, 1, NULL, 0, NULL, 0));
    assert_null(mayday_redact_new(take, &pool, true, many, 201, NULL, 0, NULL, 0));
    assert_non_null(mayday_redact_new(take, &pool, true, many, 200, NULL, 0, NULL, 0));
}

static void
test_redact_new__no_memory(void **state)
{
    mayday_slice_t word = MAYDAY_SLICE("word");
    int count = 0;

    (void) state;
    do {
        pool.until_failure = count++;
        assert_in_range(count, 1, 50);
    } while (mayday_redact_new(take, &pool, false, &word, 1, &word, 1, &word, 1) == NULL);
    assert_in_range(count, 8, 50);
}

/* ---- mayday_redact_is_sensitive ---- */

static void
test_redact_is_sensitive__every_term(void **state)
{
    static const char *const terms[] = {
        "auth", "token",       "secret",  "password", "passwd",   "pwd",
        "key",  "jwt",         "bearer",  "sso",      "saml",     "csrf",
        "xsrf", "credentials", "session", "sid",      "identity",
    };
    mayday_redact_t *r = policy(true);

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(terms); i++) {
        char text[64];
        size_t len = strlen(terms[i]);

        assert_true(hits(r, terms[i]));
        (void) snprintf(text, sizeof(text), "x-%s", terms[i]);
        assert_true(hits(r, text));
        (void) snprintf(text, sizeof(text), "%s_y", terms[i]);
        assert_true(hits(r, text));
        /* Cut by its last byte a term is none, and upper case changes nothing. */
        assert_false(mayday_redact_is_sensitive(r, mayday_slice(terms[i], len - 1)));
        for (size_t c = 0; c <= len; c++) {
            text[c] = (char) (terms[i][c] & ~0x20);
        }
        assert_true(mayday_redact_is_sensitive(r, mayday_slice(text, len)));
    }
}

static void
test_redact_is_sensitive__overlaps(void **state)
{
    mayday_redact_t *r = policy(true);

    (void) state;
    assert_true(hits(r, "ttoken"));
    assert_true(hits(r, "totoken"));
    assert_true(hits(r, "passpassword"));
    assert_true(hits(r, "passwpasswd"));
    assert_true(hits(r, "sessiosession"));
    assert_true(hits(r, "identsid")); /* "ident" is the start of another term */
    assert_true(hits(r, "credentialkey"));
    assert_true(hits(r, "csxsrf"));
    assert_false(hits(r, "to-ken"));
    assert_false(hits(r, "sessio"));
    assert_false(hits(r, "credential"));
    assert_false(hits(r, ""));
    assert_false(mayday_redact_is_sensitive(r, mayday_slice(NULL, 0)));
}

static void
test_redact_is_sensitive__headers(void **state)
{
    static const char *const plain[] = {
        "Host",       "User-Agent", "Accept",       "Accept-Language", "Accept-Encoding",
        "Connection", "Referer",    "Content-Type", "Content-Length",  "X-Request-Id",
        "Origin",     "DNT",        "sec-ch-ua",    "If-None-Match",   "Cache-Control",
    };
    static const char *const sensitive[] = {
        "Authorization", "Proxy-Authorization", "X-Api-Key",    "X-CSRF-Token",
        "X-Auth-User",   "PHPSESSID",           "X-Session-Id", "Sec-WebSocket-Key",
    };
    static const char *const personal[] = {
        "X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP",
        "Remote-Addr",     "Via",       "X-User",
    };
    mayday_redact_t *with = policy(true), *without = policy(false);

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(plain); i++) {
        assert_false(hits(with, plain[i]));
        assert_false(hits(without, plain[i]));
    }
    for (size_t i = 0; i < MAYDAY_COUNT(sensitive); i++) {
        assert_true(hits(with, sensitive[i]));
        assert_true(hits(without, sensitive[i]));
    }
    for (size_t i = 0; i < MAYDAY_COUNT(personal); i++) {
        assert_false(hits(with, personal[i]));
        assert_true(hits(without, personal[i]));
    }
}

static void
test_redact_is_sensitive__encoded(void **state)
{
    mayday_redact_t *r = policy(true);

    (void) state;
    assert_true(hits(r, "%74oken"));
    assert_true(hits(r, "to%6Ben"));
    assert_true(hits(r, "toke%6e"));
    assert_true(hits(r, "TOKE%4E"));
    assert_true(hits(r, "%61%75%74%68"));
    assert_true(hits(r, "a%20token"));
    assert_true(hits(r, "token%"));
    assert_true(hits(r, "%zztoken"));
    assert_true(hits(r, "%token"));
    assert_true(hits(r, "%6%6bey"));
    assert_true(hits(r, "user%5Bpassword%5d"));
    assert_true(hits(r, "%25key"));
    assert_false(hits(r, "%"));
    assert_false(hits(r, "%6"));
    assert_false(hits(r, "ke%"));
    assert_false(hits(r, "ke%7"));
    assert_false(hits(r, "k%25ey"));
    assert_false(hits(r, "%6B%65"));
    assert_false(hits(r, "\xff\xfe\x80"));
}

static void
test_redact_is_sensitive__deny(void **state)
{
    mayday_slice_t deny[] = {MAYDAY_SLICE("IBAN"), MAYDAY_SLICE("x.y[0]"), MAYDAY_SLICE("b")};
    mayday_redact_t *r = mayday_redact_new(take, &pool, true, deny, 2, NULL, 0, NULL, 0);
    mayday_redact_t *one = mayday_redact_new(take, &pool, true, deny + 2, 1, NULL, 0, NULL, 0);
    mayday_slice_t longer = MAYDAY_SLICE("donkeys");
    mayday_redact_t *within = mayday_redact_new(take, &pool, true, &longer, 1, NULL, 0, NULL, 0);

    (void) state;
    assert_true(hits(r, "customer_iban_1"));
    assert_true(hits(r, "Iban"));
    assert_true(hits(r, "aX.Y[0]"));
    assert_true(hits(r, "x.y%5B0%5D"));
    assert_true(hits(r, "token"));
    assert_false(hits(r, "x.y[1]"));
    assert_false(hits(r, "ban"));
    assert_true(hits(within, "donkey"));   /* a term that ends inside the start of a longer one */
    assert_true(hits(within, "adonkeys")); /* which is found as well */
    assert_false(hits(within, "donke"));
    assert_true(hits(one, "aBa"));
    assert_false(hits(one, "a"));
}

static void
test_redact_is_sensitive__plain(void **state)
{
    mayday_slice_t plain[] = {MAYDAY_SLICE("X-Key-Id"), MAYDAY_SLICE("lesson")};
    mayday_redact_t *r = mayday_redact_new(take, &pool, true, NULL, 0, plain, 2, NULL, 0);

    (void) state;
    assert_false(hits(r, "x-key-id"));
    assert_false(hits(r, "x-%6Bey-id"));
    assert_false(hits(r, "LESSON"));
    assert_true(hits(r, "x-key-id2"));
    assert_true(hits(r, "x-key-i"));
    assert_true(hits(r, "my-x-key-id"));
    assert_true(hits(r, "lessons"));
}

static void
test_redact_is_sensitive__allow(void **state)
{
    mayday_slice_t allow[] = {MAYDAY_SLICE("page"), MAYDAY_SLICE("token")};
    mayday_slice_t plain[] = {MAYDAY_SLICE("key")};
    mayday_redact_t *r = mayday_redact_new(take, &pool, true, NULL, 0, plain, 1, allow, 2);

    (void) state;
    assert_false(hits(r, "Page"));
    assert_false(hits(r, "p%61ge"));
    assert_true(hits(r, "pages"));
    assert_true(hits(r, "pag"));
    assert_true(hits(r, ""));
    assert_true(hits(r, "sort"));
    assert_true(hits(r, "token")); /* the denylist stays in force: plain= lifts it */
    assert_false(hits(r, "key"));
}

/* ---- mayday_redact_query ---- */

static void
assert_query(const mayday_redact_t *r, const char *query, const char *expected, unsigned flags)
{
    char out[256];
    unsigned got = 99;
    size_t len = mayday_redact_query(r, out, sizeof(out), mayday_slice_str(query), &got);

    out[len] = '\0';
    assert_string_equal(out, expected);
    assert_int_equal(got, flags);
}

static void
test_redact_query__filters(void **state)
{
    mayday_redact_t *r = policy(true);
    const unsigned filtered = MAYDAY_FIELD_FILTERED;

    (void) state;
    assert_query(r, "token=abc", "token=[Filtered]", filtered);
    assert_query(r, "a=1&token=2&b=3", "a=1&token=[Filtered]&b=3", filtered);
    assert_query(r, "a=1&to%6ben=2", "a=1&to%6ben=[Filtered]", filtered);
    assert_query(r, "user[password]=x&user%5Bpassword%5D=y",
                 "user[password]=[Filtered]&user%5Bpassword%5D=[Filtered]", filtered);
    assert_query(r, "token=a=b=c&d=e", "token=[Filtered]&d=e", filtered);
    assert_query(r, "token=&&token=x", "token=&&token=[Filtered]", filtered);
    /* Whoever separates by ";" sees a key there; whoever does not, a value that goes on. */
    assert_query(r, "a=1;token=2", "a=1;token=[Filtered]", filtered);
    assert_query(r, "token=2;b=3&c=4", "token=[Filtered]&c=4", filtered);
    assert_query(r, "next=/login?token=2&a=3", "next=/login?token=[Filtered]&a=3", filtered);
    assert_query(r, "a=1#access_token=2", "a=1#access_token=[Filtered]", filtered);
}

static void
test_redact_query__leaves(void **state)
{
    static const char *const plain[] = {
        "",
        "&",
        "=",
        "a",
        "a=",
        "a=1",
        "a=1&b=2",
        "&&a==b&&",
        "token",
        "token=",
        "token&a=token",
        "=token",
        "a=%zz%",
        "q=what+is+a+token",
    };
    mayday_redact_t *r = policy(true);

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(plain); i++) {
        assert_query(r, plain[i], plain[i], 0);
    }
}

/* Whatever the size: what is written is a beginning of the whole, and no secret. */
static void
test_redact_query__every_size(void **state)
{
    static const char query[] = "a=1&token=sekrit&bb=22&password=hunter&c=3";
    mayday_redact_t *r = policy(true);
    char whole[128], out[128];
    unsigned flags;
    size_t len = mayday_redact_query(r, whole, sizeof(whole), mayday_slice_str(query), &flags);

    (void) state;
    for (size_t size = 0; size <= len; size++) {
        memset(out, '#', sizeof(out));
        assert_int_equal(mayday_redact_query(r, out, size, mayday_slice_str(query), &flags), size);
        assert_memory_equal(out, whole, size);
        assert_int_equal(out[size], '#');
        assert_int_equal((flags & MAYDAY_FIELD_CUT) != 0, size < len);
    }
}

/* ---- mayday_redact_text ---- */

static void
assert_text(const mayday_redact_t *r, const char *text, const char *expected, unsigned flags)
{
    char out[512];
    unsigned got = 99;
    size_t len = mayday_redact_text(r, out, sizeof(out), mayday_slice_str(text), &got);

    out[len] = '\0';
    assert_string_equal(out, expected);
    assert_int_equal(got, flags);
    if (mayday_redact_is_clean(r, mayday_slice_str(text))) {
        assert_string_equal(text, expected);
    }
}

static void
test_redact_is_clean__usual_texts(void **state)
{
    mayday_redact_t *r = policy(true);

    (void) state;
    assert_true(mayday_redact_is_clean(r, mayday_slice(NULL, 0)));
    assert_true(mayday_redact_is_clean(NULL, MAYDAY_SLICE("connect() failed (111: refused)")));
    assert_true(mayday_redact_is_clean(r, MAYDAY_SLICE("https://shop.test/cart?page=2")));
    assert_false(mayday_redact_is_clean(NULL, MAYDAY_SLICE("https://shop.test/cart?page=2")));
    assert_false(mayday_redact_is_clean(r, MAYDAY_SLICE("https://shop.test/cart?sid=2")));
    assert_false(mayday_redact_is_clean(r, MAYDAY_SLICE("https://me:pw@shop.test/")));
}

static void
test_redact_text__filters(void **state)
{
    mayday_redact_t *r = policy(true);
    const unsigned filtered = MAYDAY_FIELD_FILTERED;

    (void) state;
    assert_text(r, "https://shop.example/x?token=1&a=2",
                "https://shop.example/x?token=[Filtered]&a=2", filtered);
    assert_text(r, "open() \"/srv/x?key=1\" failed", "open() \"/srv/x?key=[Filtered]\" failed",
                filtered);
    assert_text(r, "GET /a?sid=1 HTTP/1.1 and '/b?sid=2' and </c?sid=3> and `/d?sid=4`",
                "GET /a?sid=[Filtered] HTTP/1.1 and '/b?sid=[Filtered]' and </c?sid=[Filtered]> "
                "and `/d?sid=[Filtered]`",
                filtered);
    assert_text(r, "/a?sid=1, upstream /b?sid=2,", "/a?sid=[Filtered], upstream /b?sid=[Filtered],",
                filtered);
    assert_text(r, "/a?sid=1,2,3", "/a?sid=[Filtered]", filtered);
    assert_text(r, "/a?x,sid=1&b=2,3, then?key=1", "/a?x,sid=[Filtered]&b=2,3, then?key=[Filtered]",
                filtered);
    assert_text(r, "/a?b=1 me@host /c?%6bey=2", "/a?b=1 me@host /c?%6bey=[Filtered]", filtered);
    assert_text(r, "/a?sid=1\n/b", "/a?sid=[Filtered]\n/b", filtered);
    assert_text(r, "http://me:pw@host/x", "http://[Filtered]@host/x", filtered);
    assert_text(r, "see http://me@host, or ftp://a:b@c:21?key=d",
                "see http://[Filtered]@host, or ftp://[Filtered]@c:21?key=[Filtered]", filtered);
    assert_text(r, "http://a@b@host", "http://[Filtered]@host", filtered);
    assert_text(r, "x://://a:b@c", "x://://[Filtered]@c", filtered);
    assert_text(r, "http://http://a:b@c/", "http://http://[Filtered]@c/", filtered);
    assert_text(r, "http://a:b@c:/d", "http://[Filtered]@c:/d", filtered);
}

static void
test_redact_text__leaves(void **state)
{
    static const char *const plain[] = {
        "",
        "?",
        ":",
        "://",
        "http://",
        "really? yes: no",
        "connect() failed (111: Connection refused) while connecting to upstream",
        "http://host:80/path@2x?page=3#top",
        "mail me@host, http:// me:pw@host",
        "a://b\"c@d",
        "/x?token",
    };
    mayday_redact_t *r = policy(true);

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(plain); i++) {
        assert_text(r, plain[i], plain[i], 0);
    }
    assert_text(NULL, plain[6], plain[6], 0);
}

/* Where only some names are allowed no text is harmless at first sight. */
static void
test_redact_text__allow(void **state)
{
    mayday_slice_t allow = MAYDAY_SLICE("page");
    mayday_redact_t *r = mayday_redact_new(take, &pool, true, NULL, 0, NULL, 0, &allow, 1);

    (void) state;
    assert_text(r, "/x?page=1&sort=2", "/x?page=1&sort=[Filtered]", MAYDAY_FIELD_FILTERED);
    assert_text(r, "/x?page=1", "/x?page=1", 0);
}

static void
test_redact_text__without_queries(void **state)
{
    (void) state;
    assert_text(NULL, "\"http://u:p@h/a?b=c\" and /d?e", "\"http://[Filtered]@h/a\" and /d",
                MAYDAY_FIELD_FILTERED);
    assert_text(NULL, "what? nothing", "what? nothing", 0);
}

static void
test_redact_text__every_size(void **state)
{
    static const char text[] = "GET http://me:pw@host/x?token=sekrit&a=1 failed, http://h?sid=2";
    mayday_redact_t *r = policy(true);
    char whole[128], out[128];
    unsigned flags;
    size_t len = mayday_redact_text(r, whole, sizeof(whole), mayday_slice_str(text), &flags);

    (void) state;
    for (size_t size = 0; size <= len; size++) {
        memset(out, '#', sizeof(out));
        assert_int_equal(mayday_redact_text(r, out, size, mayday_slice_str(text), &flags), size);
        assert_memory_equal(out, whole, size);
        assert_int_equal(out[size], '#');
        assert_int_equal((flags & MAYDAY_FIELD_CUT) != 0, size < len);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_redact_new__refused),
        TEST(test_redact_new__no_memory),
        TEST(test_redact_is_sensitive__every_term),
        TEST(test_redact_is_sensitive__overlaps),
        TEST(test_redact_is_sensitive__headers),
        TEST(test_redact_is_sensitive__encoded),
        TEST(test_redact_is_sensitive__deny),
        TEST(test_redact_is_sensitive__plain),
        TEST(test_redact_is_sensitive__allow),
        TEST(test_redact_query__filters),
        TEST(test_redact_query__leaves),
        TEST(test_redact_query__every_size),
        TEST(test_redact_is_clean__usual_texts),
        TEST(test_redact_text__filters),
        TEST(test_redact_text__leaves),
        TEST(test_redact_text__allow),
        TEST(test_redact_text__without_queries),
        TEST(test_redact_text__every_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
