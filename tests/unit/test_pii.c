/*
 * mayday.pii on single texts: what is found, what looks like it and stays, and how
 * it is replaced. Whole events are in test_pii_event.c, Lua in test_rules_pii.c.
 */
#include <time.h>

#include "tests/unit/pii_fixture.h"

/* ---- mail ---- */

static void
test_mail__stays(void **state)
{
    (void) state;
    assert_stays("@");
    assert_stays("a@b");
    assert_stays("root@localhost logged in");
    assert_stays("@app.route(\"/\")");
    assert_stays("image icon@2x.png is missing");
    assert_stays("unit mayday-agent@nginx.service failed");
    assert_stays("clone git@github.com:shop/web.git");
    assert_stays("npm i left-pad@1.3.0 react@18.2.0-rc.1");
    assert_stays("java.lang.Object@7852e922");
    assert_stays("a @ b.de");
    assert_stays("jane@.example.com");
    assert_stays("jane@-example.com");
}

static void
test_mail__found(void **state)
{
    (void) state;
    assert_scrubs("mail jane.doe+shop@mail.example.co.uk bounced", "mail [email] bounced");
    assert_scrubs("<jane@example.com>", "<[email]>");
    assert_scrubs("Hello jane@example.com. Bye", "Hello [email]. Bye");
    assert_scrubs("to=jane@example.com,bob@example.org;", "to=[email],[email];");
    assert_scrubs("/unsubscribe?m=jane%40example.com&x=1", "/unsubscribe?m=[email]&x=1");
    assert_scrubs("j\xc3\xbcrgen@b\xc3\xbc"
                  "cher.example!",
                  "[email]!");
    assert_scrubs("o'neil@example.com", "[email]");
    assert_scrubs("'jane@example.com'", "'[email]'");
    assert_scrubs("mailto:jane@example.com", "mailto:[email]");
    assert_scrubs("{\"email\":\"jane@example.com\"}", "{\"email\":\"[email]\"}");
}

static void
test_mail__long_local_part_keeps_characters_whole(void **state)
{
    char text[512] = "";

    (void) state;
    for (int i = 0; i < 100; i++) {
        strcat(text, "\xc3\xbc");
    }
    strcat(text, "@example.com");
    const char *result = scrubbed(text);
    assert_non_null(strstr(result, "[email]"));
    assert_int_equal((strlen(result) - strlen("[email]")) % 2, 0);
}

/* ---- cards ---- */

static void
test_card__stays(void **state)
{
    (void) state;
    assert_stays("4111111111111112");  /* the check digit */
    assert_stays("1453843029218310");  /* no issuer */
    assert_stays("41111111111111111"); /* no length of Visa's */
    assert_stays("0x4111111111111111");
    assert_stays("a4111111111111111");
    assert_stays("4111111111111111b");
    assert_stays("0.4111111111111111");
    assert_stays("4111111111111111.5");
    assert_stays("4111 1111-1111 1111"); /* mixed */
    assert_stays("ORD-4111111111111111");
    assert_stays("4111-1111-1111-1111-22");
    assert_stays("11112222-3333-4444-5555-666677778888");
    assert_stays("order_4111111111111111");
}

static void
test_card__found(void **state)
{
    (void) state;
    static const char *const cards[] = {
        "4111111111111111",  "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005",
        "3782 822463 10005", "5555555555554444",    "2223003122003222",    "6011111111111117",
        "3530111333300000",  "30569309025904",      "3056 930902 5904",    "6200000000000005",
        "4222222222222"};

    for (size_t i = 0; i < MAYDAY_COUNT(cards); i++) {
        char text[64];

        assert_scrubs(cards[i], "[creditcard]");
        snprintf(text, sizeof(text), "card (%s), 12/29", cards[i]);
        assert_scrubs(text, "card ([creditcard]), 12/29");
    }
    assert_scrubs("12 4111 1111 1111 1111 03/30", "12 [creditcard] 03/30");
}

static void
test_card__mask_keeps_the_last_four(void **state)
{
    (void) state;
    pii.mode = MAYDAY_PII_MASK;
    assert_scrubs("4111-1111-1111-1111", "****-****-****-1111");
    assert_scrubs("3782 822463 10005.", "**** ****** *0005.");
}

/* ---- IBAN ---- */

static void
test_iban__stays(void **state)
{
    (void) state;
    assert_stays("DE89370400440532013001");  /* the check digits */
    assert_stays("XX89370400440532013000");  /* no country */
    assert_stays("DE8937040044053201300");   /* too short */
    assert_stays("DE893704004405320130000"); /* too long */
    assert_stays("NO938601111794!");
    assert_stays("N19386011117945!");
}

static void
test_iban__found(void **state)
{
    (void) state;
    assert_scrubs("to DE89370400440532013000.", "to [iban].");
    assert_scrubs("DE89 3704 0044 0532 0130 00 please", "[iban] please");
    assert_scrubs("GB82 WEST 1234 5698 7654 32", "[iban]");
    assert_scrubs("NO9386011117947", "[iban]");
    assert_scrubs("MT84MALT011000012345MTLCAST001S", "[iban]");
    pii.mode = MAYDAY_PII_MASK;
    assert_scrubs("DE89 3704 0044 0532 0130 00", "**** **** **** **** **30 00");
}

/* ---- social security numbers, phones ---- */

static void
test_ssn(void **state)
{
    (void) state;
    assert_stays("000-12-3456");
    assert_stays("666-12-3456");
    assert_stays("912-12-3456");
    assert_stays("123-00-4567");
    assert_stays("123-45-0000");
    assert_stays("1123-45-6789");
    assert_stays("123-45-67890");
    assert_stays("x123-45-6789");
    assert_stays("A-123-45-6789");
    assert_stays("123-45-6789-1");
    assert_scrubs("ssn 123-45-6789, born", "ssn [us-ssn], born");
    pii.mode = MAYDAY_PII_MASK;
    assert_scrubs("123-45-6789", "***-**-****");
}

static void
test_phone__stays(void **state)
{
    (void) state;
    assert_stays("2026-11-22T10:00:00+01:00");
    assert_stays("Sun, 22 Nov 2026 10:00:00 +0100");
    assert_stays("main+12345678901");
    assert_stays("@@ -10,5 +12,7 @@");
    assert_stays("1+1234567890");
    assert_stays("+1 2 3 4");
    assert_stays("404 209 1532");
    assert_stays("155-123-4567");
    assert_stays("555-023-4567");
    assert_stays("555-123-45678");
    assert_stays("a-555-123-4567");
}

static void
test_phone__found(void **state)
{
    (void) state;
    assert_scrubs("call +49 30 901820 now", "call [phone] now");
    assert_scrubs("+49 (0)30 90-18 20", "[phone]");
    assert_scrubs("+1 (555) 123-4567", "[phone]");
    assert_scrubs("+14155552671.", "[phone].");
    assert_scrubs("tel:+33.1.23.45.67.89", "tel:[phone]");
    assert_scrubs("or (555) 223-4567,", "or [phone],");
    assert_scrubs("555-223-4567", "[phone]");
}

/* ---- IP addresses, MAC ---- */

static void
test_ipv4__stays(void **state)
{
    (void) state;
    assert_stays("nginx/1.22.1.4");
    assert_stays("Mozilla/5.0 (X11) Chrome/120.0.0.0 Safari/537.36");
    assert_stays("version 1.2.3.4, v1.2.3.4, Version=4.0.0.0, rev: 8.8.8.8");
    assert_stays("\"Chromium\";v=\"120.0.0.0\"");
    assert_stays("libfoo-1.2.3.4.so");
    assert_stays("1.2.3.4.5");
    assert_stays("hibernate 5.4.27.1.Final");
    assert_stays("1.2.3.256");
    assert_stays("1.2.3.04");
    assert_stays("127.0.0.1:8080 and 0.0.0.0 and 255.255.255.0 and 224.0.0.1");
    assert_stays("allow 10.0.0.0/8 and 192.168.1.0/24");
    assert_stays("OID 2.5.29.17");
    assert_stays("see section 4.2.1.3");
    assert_stays("1.2.3");
    assert_stays("a1.2.3.4");
}

static void
test_ipv4__found(void **state)
{
    (void) state;
    assert_scrubs("client 203.0.113.7 left", "client [ip] left");
    assert_scrubs("203.0.113.7:443", "[ip]:443");
    assert_scrubs("203.0.113.7/32", "[ip]/32");
    assert_scrubs("10.1.2.3/8", "[ip]/8");
    assert_scrubs("http://10.0.0.4/", "http://[ip]/");
    assert_scrubs("https://shop.example/ban/203.0.113.7/now", "https://shop.example/ban/[ip]/now");
    assert_scrubs("[203.0.113.7].", "[[ip]].");
    assert_scrubs("for=203.0.113.7;proto=https, 198.51.100.1", "for=[ip];proto=https, [ip]");
}

static void
test_ip__an_upstream_stays(void **state)
{
    static mayday_record_view_t view;

    (void) state;
    view.attempts[0].peer = MAYDAY_SLICE("10.0.0.4:8080");
    view.attempts[1].peer = MAYDAY_SLICE("[2001:db8::7]:80");
    view.attempt_count = 2;
    pii.view = &view;
    assert_scrubs("10.0.0.4:8080 refused 10.0.0.44", "10.0.0.4:8080 refused [ip]");
    assert_stays("2001:db8::7 refused connections");
    assert_scrubs("10.0.0.40", "[ip]");
}

static void
test_ipv6(void **state)
{
    (void) state;
    assert_stays("at 12:34:56");
    assert_stays("std::string, Fee::add(), Foo::Bar, dead::beef");
    assert_stays("foo::1");
    assert_stays("a[1::2]");
    assert_stays("::1 and ::");
    assert_stays("AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89");
    assert_stays("1:2:3:4:5:6:7:8:9");
    assert_scrubs("[2001:db8:85a3::8a2e:370:7334]:443", "[[ip]]:443");
    assert_scrubs("from 2001:0db8:85a3:0000:0000:8a2e:0370:7334, ok", "from [ip], ok");
    assert_scrubs("fe80::1", "[ip]");
    assert_scrubs("::ffff:203.0.113.7", "[ip]");
    assert_scrubs("64:ff9b::203.0.113.7 ", "[ip] ");
}

static void
test_mac(void **state)
{
    (void) state;
    assert_stays("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_stays("2026:11:22:10:20:30");
    assert_stays("00:11:22:33:44");
    assert_stays("00:11:22:33:44:55:66");
    assert_stays("00:11-22:33-44:55");
    assert_scrubs("eth0 00:1A:2b:3c:4D:5e up", "eth0 [mac] up");
    assert_scrubs("00-1A-2B-3C-4D-5E", "[mac]");
    pii.mode = MAYDAY_PII_MASK;
    assert_scrubs("00:1A:2b:3c:4D:5e", "**:**:**:**:**:**");
}

/* ---- tokens ---- */

static void
test_jwt(void **state)
{
    (void) state;
    assert_stays("eyJ.");
    assert_stays("they.were.here");
    assert_stays("eyJhbGciOiJIUzI1NiJ9");
    assert_scrubs(
        "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_w, no",
        "jwt [token], no");
    assert_scrubs("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjMifQ.", "[token].");
}

static void
test_api_key(void **state)
{
    (void) state;
    /* Put together here, lest somebody's scanner takes this file for a leak. */
    static const char *const parts[][2] = {
        {"AKIA", "IOSFODNN7EXAMPLE"},
        {"AIza", "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY"},
        {"ghp_", "16C7e42F292c6912E7710c838347Ae178B4a"},
        {"github_pat_", "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz012345"},
        {"glpat-", "AbCdEf1234567890GhIj"},
        {"xoxb-", "2103-48392-AbCdEfGhIjKl"},
        {"sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"},
        {"rk_test_", "4eC39HqLyjWDarjtT1zdp7dc"},
        {"whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZI"},
        {"SG.", "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf09kqeF8tAmbihYzrnopKc1"},
        {"npm_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dE3fG6"},
        {"sk-proj-", "abc123DEF456ghi789JKL0"},
        {"ya29.", "a0AfH6SMBx-2yQ7K3l9pQ"}};

    for (size_t i = 0; i < MAYDAY_COUNT(parts); i++) {
        char text[160];

        snprintf(text, sizeof(text), "with %s%s: denied", parts[i][0], parts[i][1]);
        assert_scrubs(text, "with [token]: denied");
    }
    assert_stays("AKIA is a prefix, ghp_ too, sk-learn-based-classifier-of-things-and-more-things");
    assert_stays("npm_config_registry npm_lifecycle_event_of_the_package_manager");
    assert_stays("pypi-cache xoxo-hugs");
}

static void
test_bearer(void **state)
{
    (void) state;
    assert_stays("Bearer authentication failed");
    assert_stays("Basic authentication required");
    assert_stays("WWW-Authenticate: Bearer realm=\"shop\", error=\"invalid_token\"");
    assert_stays("bearer of news");
    assert_stays("Authorization: basic ...");
    assert_stays("Bearer authorization-header-missing");
    assert_stays("Token expired yesterday");
    assert_scrubs("with Bearer a1b2c3d4e5f6 rejected", "with Bearer [token] rejected");
    assert_scrubs("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic [token]");
    assert_scrubs("b'Bearer A1BBC234QWERTY0987'", "b'Bearer [token]'");
}

static void
test_pem(void **state)
{
    (void) state;
    assert_stays("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----");
    assert_stays("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----");
    assert_stays("-----BEGIN");
    assert_scrubs("my key\n-----BEGIN EC PRIVATE KEY-----\nMIHbAgEB\nsoH5\n-----END EC PRIVATE "
                  "KEY-----\n bye",
                  "my key\n-----BEGIN EC PRIVATE KEY-----\n[pemkey]\n-----END EC PRIVATE "
                  "KEY-----\n bye");
    assert_scrubs("-----BEGIN PRIVATE KEY-----\nMIHbAgEBsoH5...",
                  "-----BEGIN PRIVATE KEY-----\n[pemkey]");
    pii.mode = MAYDAY_PII_REMOVE;
    assert_scrubs("-----BEGIN PRIVATE KEY-----\nMIH\n-----END PRIVATE KEY-----",
                  "-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----");
}

static void
test_url_auth(void **state)
{
    (void) state;
    assert_stays("https://[Filtered]@shop.example/");
    assert_stays("https://shop.example/@jane/posts");
    assert_stays("https://medium.example/?u=@jane");
    assert_stays("scheme://");
    assert_scrubs("redis://redis:foo@localhost:6379/0", "redis://[auth]@localhost:6379/0");
    assert_scrubs("'pg://matt:p@ss@db/1'", "'pg://[auth]@db/1'");
    assert_scrubs("a http://u:p@h/ b https://k@h", "a http://[auth]@h/ b https://[auth]@h");
}

static void
test_user_path(void **state)
{
    (void) state;
    assert_stays("/var/www/home/page.php");
    assert_stays("GET /home/products HTTP/1.1");
    assert_stays("https://shop.example/home/garden");
    assert_stays("/api/users/42/orders");
    assert_stays("/home/");
    assert_stays("C:\\Users\\Public\\Desktop");
    assert_stays("/Users/Shared/x");
    assert_stays("../home/x");
    assert_scrubs("open('/home/jane/app.py')", "open('/home/[user]/app.py')");
    assert_scrubs("in /Users/jane/dev:12", "in /Users/[user]/dev:12");
    assert_scrubs("C:\\Users\\Jane Doe\\Desktop", "C:\\Users\\[user]\\Desktop");
    assert_scrubs("C:\\\\Users\\\\jane\\\\x", "C:\\\\Users\\\\[user]\\\\x");
    assert_scrubs("C:/Users/jane/x", "C:/Users/[user]/x");
    assert_scrubs("\\Documents and Settings\\jane\\x", "\\Documents and Settings\\[user]\\x");
    assert_scrubs("file:///home/jane", "file:///home/[user]");
}

/* What was cut may be a secret still. */
static void
test_cut(void **state)
{
    (void) state;
    assert_scrubs("mail to jane.doe@exam...", "mail to [email]...");
    assert_scrubs("jwt eyJhbGciOiJIUzI1NiJ9...", "jwt [token]...");
    assert_scrubs("key ghp_16C7e4...", "key [token]...");
    assert_scrubs("pg://jane:hunter2...", "pg://[auth]...");
    assert_scrubs("{\"password\":\"hunt...", "{\"password\":\"[Filtered]");
    assert_stays("http://shop:8080...");
    assert_stays("http://shop.example.com...");
    assert_stays("http://[2001...");
    assert_stays("wait for it...");
    assert_stays("...");
}

/* ---- names and values ---- */

static void
test_secret__stays(void **state)
{
    (void) state;
    assert_stays("User authenticated");
    assert_stays("keyword=shoes&author=jane&authority=x&monkey=1");
    assert_stays("duplicate key: 7");
    assert_stays("session: expired");
    assert_stays("primary_key=7 cache_key=a:b token_count=12 max_tokens=5 tokenizer=bpe");
    assert_stays("password: incorrect");
    assert_stays("Unexpected token: ')'");
    assert_stays("Unexpected token: identifier");
    assert_stays("invalid password: is too short");
    assert_stays("password=&x=1");
    assert_stays("{\"password\":null,\"token\":false}");
    assert_stays("token=[Filtered]");
    assert_stays("if (password == null) {");
    assert_stays("secretary=jane passenger=bob");
    assert_stays("PWD=/srv/app");
    assert_stays("{\"key\":\"color\",\"value\":\"red\"}");
    assert_stays("sso: off");
    assert_stays("a=b=c==d");
    assert_stays("=");
    assert_stays("password");
    assert_stays("password=");
    assert_stays("password: ");
}

static void
test_secret__found(void **state)
{
    (void) state;
    assert_scrubs("user=jane&password=hunter2&x=1", "user=jane&password=[Filtered]&x=1");
    assert_scrubs("{\"token\": \"a b\\\"c\", \"n\": 1}", "{\"token\": \"[Filtered]\", \"n\": 1}");
    assert_scrubs("{\\\"db_passwd\\\":\\\"a b\\\"}", "{\\\"db_passwd\\\":\\\"[Filtered]\\\"}");
    assert_scrubs("{'secret': 'x', 'a': 1}", "{'secret': '[Filtered]', 'a': 1}");
    assert_scrubs("['api_key' => 'x1']", "['api_key' => '[Filtered]']");
    assert_scrubs("Cookie: sid=abc; theme=dark", "Cookie: sid=[Filtered]; theme=dark");
    assert_scrubs("Foo(password=x, user=y)", "Foo(password=[Filtered], user=y)");
    assert_scrubs("where session_key = 'abc'", "where session_key = '[Filtered]'");
    assert_scrubs("Authorization: Basic abc", "Authorization: [Filtered]");
    assert_scrubs("password: hunter2 was used", "password: [Filtered] was used");
    assert_scrubs("apiKey=x&accessToken=y", "apiKey=[Filtered]&accessToken=[Filtered]");
    assert_scrubs("PHPSESSID=1;connect.sid=2", "PHPSESSID=[Filtered];connect.sid=[Filtered]");
    assert_scrubs("\"password\": 1234}", "\"password\": [Filtered]}");
    assert_scrubs("\"password\": {\"$eq\": \"x}\"}, 1", "\"password\": [Filtered], 1");
    assert_scrubs("\"password\": \"cut off", "\"password\": \"[Filtered]");
    assert_scrubs("?key=abc", "?key=[Filtered]");
    assert_scrubs("AccountKey=abc/def==;x", "AccountKey=[Filtered];x");
    assert_scrubs("password = letmein", "password = [Filtered]");
    assert_scrubs("spring.datasource.password=letmein", "spring.datasource.password=[Filtered]");
    assert_scrubs("token = \"Keyword\"", "token = \"[Filtered]\"");
    assert_scrubs("Authorization: Token abc", "Authorization: [Filtered]");
}

static void
test_name_kind(void **state)
{
    (void) state;
    static const char *const strong[] = {
        "password",     "a_password_here", "the_secret",       "apiKey",
        "API-KEY",      "MYSQL_PWD",       "stripetoken",      "csrf",
        "X-XSRF-TOKEN", "JSESSIONID",      "privateKey",       "jwt",
        "credentials",  "Authorization",   "secret-token-here"};
    static const char *const weak[] = {"auth",           "x-auth",     "basicAuth",
                                       "session",        "session_id", "sid",
                                       "connect.sid",    "saml",       "user_identity",
                                       "encryption_key", "sso",        "laravel_session"};
    static const char *const plain[] = {"author",
                                        "authenticated",
                                        "keyword",
                                        "monkey",
                                        "keyboard",
                                        "passenger",
                                        "session_type",
                                        "auth_method",
                                        "token_count",
                                        "max_tokens_used",
                                        "tokenizer",
                                        "secretary",
                                        "primary_key",
                                        "cacheKey",
                                        "residence",
                                        "side",
                                        "inside",
                                        "identityProvider",
                                        "key_count",
                                        "PWD",
                                        "tokens_used",
                                        "password_length",
                                        "",
                                        "x"};

    for (size_t i = 0; i < MAYDAY_COUNT(strong); i++) {
        if (mayday_pii_name_kind(mayday_slice_str(strong[i])) != MAYDAY_PII_NAME_STRONG) {
            fail_msg("%s is strong", strong[i]);
        }
    }
    for (size_t i = 0; i < MAYDAY_COUNT(weak); i++) {
        if (mayday_pii_name_kind(mayday_slice_str(weak[i])) != MAYDAY_PII_NAME_WEAK) {
            fail_msg("%s is weak", weak[i]);
        }
    }
    for (size_t i = 0; i < MAYDAY_COUNT(plain); i++) {
        if (mayday_pii_name_kind(mayday_slice_str(plain[i])) != MAYDAY_PII_NAME_PLAIN) {
            fail_msg("%s is plain", plain[i]);
        }
    }
    assert_int_equal(mayday_pii_name_kind(MAYDAY_SLICE("key")), MAYDAY_PII_NAME_KEY);
}

/* ---- kinds, modes, remarks ---- */

static void
test_kinds__only_some(void **state)
{
    (void) state;
    pii.kinds = MAYDAY_PII_BIT(MAYDAY_PII_EMAIL);
    assert_scrubs("jane@example.com 4111111111111111 password=x",
                  "[email] 4111111111111111 password=x");
    pii.kinds = ~MAYDAY_PII_BIT(MAYDAY_PII_SECRET);
    assert_scrubs("password=jane@example.com", "password=[email]");
}

static void
test_modes(void **state)
{
    char first[64];

    (void) state;
    pii.mode = MAYDAY_PII_REMOVE;
    assert_scrubs("mail <jane@example.com> ", "mail <> ");
    pii.mode = MAYDAY_PII_MASK;
    assert_scrubs("jane@example.com", "****@*******.***");
    assert_scrubs("password=\"h\xc3\xbcnter2 \"", "password=\"********\"");
    pii.mode = MAYDAY_PII_HASH;
    snprintf(first, sizeof(first), "%s", scrubbed("jane@example.com"));
    assert_int_equal(strlen(first), 32);
    assert_int_equal(strspn(first, "0123456789abcdef"), 32);
    assert_string_equal(scrubbed("<jane@example.com>") + 1,
                        strcat(strcpy((char[64]){0}, first), ">"));
    pii.hash_key[0] ^= 1;
    assert_string_not_equal(scrubbed("jane@example.com"), first);
}

static void
test_remarks__bytes_of_the_new_text(void **state)
{
    (void) state;
    (void) scrubbed("\xc3\xa4\xc3\xb6 198.51.100.7 \xc3\x9f jane@example.com");
    assert_int_equal(remarks.count, 2);
    assert_string_equal(remarks.items[0].rule, "mayday:ip");
    assert_int_equal(remarks.items[0].type, 's');
    assert_int_equal(remarks.items[0].begin, 5);
    assert_int_equal(remarks.items[0].end, 9);
    assert_string_equal(remarks.items[1].rule, "mayday:email");
    assert_int_equal(remarks.items[1].begin, 13);
    assert_int_equal(remarks.items[1].end, 20);
}

static void
test_remarks__are_bounded_and_nothing_is_left(void **state)
{
    static char text[100 * 17 + 1];

    (void) state;
    for (int i = 0; i < 100; i++) {
        strcat(text, "jane@example.com ");
    }
    assert_null(strchr(scrubbed(text), '@'));
    assert_int_equal(remarks.count, MAYDAY_PII_REMARKS_MAX);
}

static void
test_places(void **state)
{
    (void) state;
    assert_string_equal(scrubbed_as(MAYDAY_PII_PLACE_SKIP, 0, "jane@example.com"),
                        "jane@example.com");
    assert_string_equal(scrubbed_as(MAYDAY_PII_PLACE_PATH, 0, "/home/jane/x"), "/home/jane/x");
    assert_string_equal(scrubbed_as(MAYDAY_PII_PLACE_VERSION, 0, "8.8.8.8"), "8.8.8.8");
    assert_string_equal(scrubbed_as(MAYDAY_PII_PLACE_FINGERPRINT, 0, "{{ default }}"),
                        "{{ default }}");
    assert_int_equal(strlen(scrubbed_as(MAYDAY_PII_PLACE_FINGERPRINT, 0, "jane@example.com")), 32);
    assert_string_equal(
        scrubbed_as(MAYDAY_PII_PLACE_ANY, MAYDAY_PII_NAME_STRONG, "anything at all"), "[Filtered]");
    assert_string_equal(scrubbed_as(MAYDAY_PII_PLACE_ANY, MAYDAY_PII_NAME_STRONG, "null"), "null");
    assert_string_equal(scrubbed_as(MAYDAY_PII_PLACE_ANY, MAYDAY_PII_NAME_STRONG, ""), "");
}

/* Texts of all bytes: bounded, whole characters stay whole, and a second pass finds nothing. */
static void
test_scrub__random_texts(void **state)
{
    static const char *const pieces[] = {"@",
                                         "a.b",
                                         ".com",
                                         "4111",
                                         " 1111",
                                         "-----BEGIN ",
                                         "PRIVATE KEY-----",
                                         "://",
                                         ":",
                                         "=",
                                         "\"",
                                         "'",
                                         "\\",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         "+49",
                                         "eyJ",
                                         ".eyJ",
                                         "password",
                                         "token",
                                         "DE89",
                                         "::",
                                         "2001:db8",
                                         "10.0.0.1",
                                         "%40",
                                         "/home/",
                                         "\\Users\\",
                                         "Bearer ",
                                         "\xc3\xbc",
                                         "123-45-6789",
                                         "00:1a:",
                                         "ghp_",
                                         "0123456789",
                                         " ",
                                         "\n",
                                         "&",
                                         ";"};
    uint32_t seed = 20261122;

    (void) state;
    for (int round = 0; round < 20000; round++) {
        char text[512] = "";
        const char *result;

        for (int n = (int) (seed % 24); n >= 0; n--) {
            seed = seed * 1664525u + 1013904223u;
            strcat(text, pieces[(seed >> 8) % MAYDAY_COUNT(pieces)]);
        }
        pii.mode = (mayday_pii_mode_t) (seed >> 4) % MAYDAY_PII_MODES;
        result = scrubbed(text);
        for (size_t i = 0; i < remarks.count; i++) {
            assert_true(remarks.items[i].begin <= remarks.items[i].end);
            assert_true(remarks.items[i].end <= strlen(result));
            assert_true(i == 0 || remarks.items[i].begin >= remarks.items[i - 1].end);
        }
        for (const char *p = result; *p != '\0'; p++) {
            bool lead = (unsigned char) *p == 0xc3, rest = p[0] == '\xbc';
            assert_true(!lead || p[1] == '\xbc');
            assert_true(!rest || (p > result && p[-1] == '\xc3'));
        }
    }
}

/* What an attacker may send is no dearer than other text of that length. */
static void
test_scrub__is_linear(void **state)
{
    static const char *const pieces[] = {"a@",
                                         "@",
                                         ":",
                                         "=",
                                         "password=",
                                         "a:",
                                         "1.",
                                         "1-",
                                         "eyJ",
                                         "'",
                                         "token='x ",
                                         "-----BEGIN ",
                                         "/",
                                         "\\",
                                         "{",
                                         "://a",
                                         "+1",
                                         "4111 ",
                                         "\"",
                                         "a.",
                                         "%40",
                                         "::",
                                         "password={",
                                         "\\\"",
                                         "/home/",
                                         "DE89 ",
                                         "-----BEGIN PRIVATE KEY-----",
                                         "pwd='[Filtered]\\",
                                         "Bearer "};
    const size_t size = 256 * 1024;
    char *text = malloc(size + 64);

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(pieces); i++) {
        size_t len = strlen(pieces[i]), used = 0;
        clock_t began;

        for (; used + len <= size; used += len) {
            memcpy(text + used, pieces[i], len);
        }
        text[used] = '\0';
        began = clock();
        (void) mayday_pii_measure(&pii, MAYDAY_PII_PLACE_TEXT, 0, mayday_slice(text, used));
        /* 256 KiB at 1 us a byte, a thousand times what it takes. */
        if ((double) (clock() - began) / CLOCKS_PER_SEC > 0.5) {
            fail_msg("\"%s\" takes too long", pieces[i]);
        }
    }
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        PII_TEST(test_mail__stays),
        PII_TEST(test_mail__found),
        PII_TEST(test_mail__long_local_part_keeps_characters_whole),
        PII_TEST(test_card__stays),
        PII_TEST(test_card__found),
        PII_TEST(test_card__mask_keeps_the_last_four),
        PII_TEST(test_iban__stays),
        PII_TEST(test_iban__found),
        PII_TEST(test_ssn),
        PII_TEST(test_phone__stays),
        PII_TEST(test_phone__found),
        PII_TEST(test_ipv4__stays),
        PII_TEST(test_ipv4__found),
        PII_TEST(test_ip__an_upstream_stays),
        PII_TEST(test_ipv6),
        PII_TEST(test_mac),
        PII_TEST(test_jwt),
        PII_TEST(test_api_key),
        PII_TEST(test_bearer),
        PII_TEST(test_pem),
        PII_TEST(test_url_auth),
        PII_TEST(test_user_path),
        PII_TEST(test_cut),
        PII_TEST(test_secret__stays),
        PII_TEST(test_secret__found),
        PII_TEST(test_name_kind),
        PII_TEST(test_kinds__only_some),
        PII_TEST(test_modes),
        PII_TEST(test_remarks__bytes_of_the_new_text),
        PII_TEST(test_remarks__are_bounded_and_nothing_is_left),
        PII_TEST(test_places),
        PII_TEST(test_scrub__random_texts),
        PII_TEST(test_scrub__is_linear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
