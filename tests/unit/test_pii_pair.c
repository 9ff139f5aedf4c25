/*
 * mayday.pii: values that their names give away, in all the ways in which programs
 * write them down, and what only looks so. Other kinds are in test_pii.c.
 */
#include <time.h>

#include "tests/unit/pii_fixture.h"

/* ---- what stays ---- */

static void
test_value__code_stays(void **state)
{
    (void) state;
    assert_stays("token = get_token(user)");
    assert_stays("token=get_token(user)");
    assert_stays("password = config[\"db\"]");
    assert_stays("UPDATE users SET password = :password WHERE token = $1");
    assert_stays("WHERE password=? AND token=$12");
    assert_stays("Session::token::class");
    assert_stays("token: &str");
}

static void
test_value__hosts_images_and_paths_stay(void **state)
{
    (void) state;
    assert_stays("http://token-service:8080/v1/orders1");
    assert_stays("upstream token:8080 timed out");
    assert_stays("registry.example.com/token:v1.2.34");
    assert_stays("secret://vault/shop1234567");
    assert_stays("urn:ietf:params:oauth:access_token:abc12345");
}

static void
test_value__classes_stay(void **state)
{
    (void) state;
    assert_stays("JsonWebTokenError: jwt malformed");
    assert_stays("TokenMismatchException: expired-1234");
    assert_stays("Could not load file or assembly 'Shop, Version=13.0.0.0, Culture=neutral, "
                 "PublicKeyToken=30ad4fe6b2a6aeed'");
    assert_stays("PWD=/srv/app OLDPWD=/srv");
}

/* What stands there after an earlier pass announces nothing. */
static void
test_value__placeholders_stay(void **state)
{
    (void) state;
    assert_stays("key [token]: invalid-1234");
    assert_stays("at /home/[user]/x and https://[auth]@shop/");
    assert_stays("-----BEGIN PRIVATE KEY-----[pemkey]-----END PRIVATE KEY-----");
    assert_scrubs("Array ( [token] => abc )", "Array ( [token] => [Filtered] )");
}

static void
test_encoded_value__stays(void **state)
{
    (void) state;
    assert_stays("q%3Dshoes%26author%3Djane%26page%3D2");
    assert_stays("%22author%22%3A%22jane%22");
    assert_stays("token%3A8080");
    assert_stays("password%3D");
    assert_stays("password%3D%26x%3D1");
    assert_stays("password%3D[Filtered]%26x%3D1");
    assert_stays("%3D%3D%3A%253D%25%2525");
    assert_stays("password%3");
    assert_stays("password%zD1");
}

/* ---- what goes ---- */

static void
test_value__quotes_at_any_depth(void **state)
{
    (void) state;
    assert_scrubs("{\"password\":\"a\\\"b\",\"x\":1}", "{\"password\":\"[Filtered]\",\"x\":1}");
    assert_scrubs("{\\\"password\\\":\\\"a\\\\\\\"b\\\",\\\"x\\\":1}",
                  "{\\\"password\\\":\\\"[Filtered]\\\",\\\"x\\\":1}");
    assert_scrubs("{\\\\\\\"password\\\\\\\":\\\\\\\"hunter2\\\\\\\",\\\\\\\"x\\\\\\\":1}",
                  "{\\\\\\\"password\\\\\\\":\\\\\\\"[Filtered]\\\\\\\",\\\\\\\"x\\\\\\\":1}");
    assert_scrubs("{\"password\":\"ends\\\\\",\"x\":1}", "{\"password\":\"[Filtered]\",\"x\":1}");
    assert_scrubs("\"{\\\"password\\\":\\\"cut\" x", "\"{\\\"password\\\":\\\"[Filtered]\" x");
}

static void
test_value__as_languages_print_it(void **state)
{
    (void) state;
    assert_scrubs("map[password:hunter2 user:jane]", "map[password:[Filtered] user:jane]");
    assert_scrubs("map[name:jane password:hunter2]", "map[name:jane password:[Filtered]]");
    assert_scrubs("{Password:hunter User:jane}", "{Password:[Filtered] User:jane}");
    assert_scrubs("{password:\"hunter\"}", "{password:\"[Filtered]\"}");
}

static void
test_value__connection_strings(void **state)
{
    (void) state;
    assert_scrubs("Driver={x};Server=db;UID=sa;PWD=Hunter2!;", "Driver={x};Server=db;UID=sa;"
                                                               "PWD=[Filtered];");
    assert_scrubs("jdbc:sqlserver://db:1433;user=sa;password=Hunter2!;encrypt=true",
                  "jdbc:sqlserver://db:1433;user=sa;password=[Filtered];encrypt=true");
    assert_scrubs("dial app:p@ss@tcp(db:3306)/shop?tls=1", "dial [auth]@tcp(db:3306)/shop?tls=1");
    assert_scrubs("app:hunter2@unix(/run/db)/shop", "[auth]@unix(/run/db)/shop");
    assert_stays("@tcp(db)");
    assert_stays("app@tcp(db:3306)");
}

static void
test_value__authorization_of_any_scheme(void **state)
{
    (void) state;
    assert_scrubs("Authorization: Digest username=\"jane\", realm=\"x y\", response=\"6629fa\" end",
                  "Authorization: [Filtered] end");
    assert_scrubs("Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261122/x, SignedHeaders=host, "
                  "Signature=5d672d79, client: shop",
                  "Authorization: [Filtered], client: shop");
    assert_scrubs("Authorization: ApiKey abcdef", "Authorization: [Filtered]");
    assert_scrubs("Authorization: NTLM TlRMTVNTUAAB=", "Authorization: [Filtered]");
    assert_scrubs("Proxy-Authorization: Basic YTpi, client: shop",
                  "Proxy-Authorization: [Filtered], client: shop");
    assert_scrubs("Authorization: Digest username=\"jane", "Authorization: [Filtered]");
}

static void
test_encoded_value__found(void **state)
{
    (void) state;
    assert_scrubs("?next=%2Flogin%3Fpassword%3Dhunter2%26x%3D1",
                  "?next=%2Flogin%3Fpassword%3D[Filtered]%26x%3D1");
    assert_scrubs("a%26token%3dabc&x=1", "a%26token%3d[Filtered]&x=1");
    assert_scrubs("u%2526password%253Dhunter2%2526x%253D1",
                  "u%2526password%253D[Filtered]%2526x%253D1");
    assert_scrubs("%7B%22password%22%3A%22a%21b%22%2C%22x%22%3A1%7D",
                  "%7B%22password%22%3A%22[Filtered]%22%2C%22x%22%3A1%7D");
    assert_scrubs("%257B%2522token%2522%253A%2522abc%2522%257D",
                  "%257B%2522token%2522%253A%2522[Filtered]%2522%257D");
    assert_scrubs("%22secret%22%3A%7B%22a%22%3A1%7D end", "%22secret%22%3A[Filtered] end");
}

/* ---- time ---- */

/* What an attacker repeats must not make one look at all that follows, again and again. */
static void
test_value__time_is_linear(void **state)
{
    static const char *const units[] = {
        "pwd=a(",        "token=a[",      "pwd=a.b.c(",     "pwd=\"", "pwd=\\\\\\\"",
        "pwd={\"",       "Authorization", "pwd=digest a",   "pwd%3D", "%22pwd%22%3A",
        "%253D",         "%25",           "pwd%3D%3D",      "sk-",    "SG.",
        "SG.a.",         "glpat-",        "hvs.",           "AKIA",   "a:b@tcp(",
        "@unix(",        "\"a\"@",        "\" \"@",         "4111 ",  "4111%20",
        "4111+",         "pwd:pwd:",      "{pwd:(",         "[pwd:[", "'pwd' => ",
        "pwd=Digest a=", "token: token",  "pwd=Digest a=\""};
    static char text[256 * 1024];
    struct timespec begin, end;

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(units); i++) {
        size_t len = strlen(units[i]);

        for (size_t k = 0; k < sizeof(text); k++) {
            text[k] = units[i][k % len];
        }
        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        (void) mayday_pii_measure(&pii, MAYDAY_PII_PLACE_TEXT, MAYDAY_PII_NAME_PLAIN,
                                  mayday_slice(text, sizeof(text)));
        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        if ((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 > 400) {
            fail_msg("\"%s\" takes too long", units[i]);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PII_TEST(test_value__code_stays),
        PII_TEST(test_value__hosts_images_and_paths_stay),
        PII_TEST(test_value__classes_stay),
        PII_TEST(test_value__placeholders_stay),
        PII_TEST(test_encoded_value__stays),
        PII_TEST(test_value__quotes_at_any_depth),
        PII_TEST(test_value__as_languages_print_it),
        PII_TEST(test_value__connection_strings),
        PII_TEST(test_value__authorization_of_any_scheme),
        PII_TEST(test_encoded_value__found),
        PII_TEST(test_value__time_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
