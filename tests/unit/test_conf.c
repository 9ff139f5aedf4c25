/*
 * The table of directives at work: what each refuses and says, what it sets,
 * and what an inner place makes of an outer one on both servers.
 */
#include "tests/unit/conf_host.h"

/* ---- what is refused ---- */

static void
test_directive_set__place_refused(void **state)
{
    static const refused_t refused[] = {
        {D(ENABLE), "yes", "found \"yes\", expected on or off"},
        {D(ENABLE), "", "found 0 arguments, expected 1"},
        {D(ENABLE), "on on", "found 2 arguments, expected 1"},
        {D(DSN), "1 2 3 4 5 6 7 8 9", "found 9 arguments, expected from 1 to 8"},
        {D(ENVIRONMENT), "$nope",
         "found \"$nope\", expected an expression that the server "
         "understands (unknown \"nope\" variable)"},
        {D(RELEASE), "a\tb", "found \"a?b\", expected an expression without control"},
        {D(TRANSACTION), "$nope", "unknown \"nope\""},
        {D(FAILED_STATUS), "60x",
         "found \"60x\", expected a status from 100 to 599 or a range "
         "such as 500-599"},
        {D(FAILED_STATUS), "500 99", "found \"99\""},
        {D(FAILED_STATUS), "600", "found \"600\""},
        {D(FAILED_STATUS), "099", "found \"099\""},
        {D(FAILED_STATUS), "5xx", "found \"5xx\""},
        {D(FAILED_STATUS), "+50", "found \"+50\""},
        {D(FAILED_STATUS), "599-500", "found \"599-500\""},
        {D(FAILED_STATUS), "500-600", "found \"500-600\""},
        {D(FAILED_STATUS), "500-", "found \"500-\""},
        {D(FAILED_STATUS), "500:599", "found \"500:599\""},
        {D(FAILED_STATUS), "500-5990", "found \"500-5990\""},
        {D(IGNORE), "upstream_dead", "found \"upstream_dead\", expected a status"},
        {D(IGNORE), "upstream_dead", "upstream_refused, upstream_unreachable"},
        {D(IGNORE), "Retried", "client_closed)"},
        {D(IGNORE), "none retried", "found \"none\""},
        {D(IGNORE), "if=$x", "a kind or a status beside if="},
        {D(IGNORE), "retried if=", "an expression"},
        {D(IGNORE), "retried if=$nope", "found \"if=$nope\", expected an expression"},
        {D(IGNORE), "retried if=$a if=$b", "found \"if=$b\", expected only one if="},
        {D(IGNORE), "601", "found \"601\""},
        {D(USER), "$remote_user", "found \"$remote_user\", expected id=, email=, username= or ip="},
        {D(USER), "name=$x", "expected id="},
        {D(USER), "none id=$x", "found \"none\""},
        {D(USER), "id=", "an expression"},
        {D(USER), "id=hash:", "an expression"},
        {D(USER), "id=$a id=$b", "found \"id=$b\", expected id= only once"},
        {D(USER), "ip=hash:$remote_addr", "expected ip= without hash:"},
        {D(TAG), "tenant", "found 1 argument, expected 2"},
        {D(TAG), "two,words $x", "found \"two,words\", expected a name of at most 32"},
        {D(TAG), "t\xc3\xa4g $x", "a name of at most 32"},
        {D(TAG), "abcdefghijabcdefghijabcdefghijabc $x", "a name of at most 32"},
        {D(TAG), "tenant $nope", "found \"$nope\""},
        {D(COLLECT), "headers", "found 1 argument, expected from 2 to 4"},
        {D(COLLECT), "body on", "found \"body\", expected user_info, headers, cookies or query"},
        {D(COLLECT), "request_body 4k", "found \"request_body\""},
        {D(COLLECT), "response_body 4k", "found \"response_body\""},
        {D(COLLECT), "user_info allow=id", "found \"allow=id\", expected user_info on or off"},
        {D(COLLECT), "user_info on off", "found \"off\""},
        {D(COLLECT), "headers yes", "found \"yes\", expected on, off, allow=, deny= or plain="},
        {D(COLLECT), "headers on deny=x", "found \"deny=x\", expected on or off alone"},
        {D(COLLECT), "headers deny=x on", "found \"on\""},
        {D(COLLECT), "headers deny=", "found \"deny=\", expected words of at most 64"},
        {D(COLLECT), "headers deny=a,,b", "words of at most 64"},
        {D(COLLECT), "headers plain=a%20b", "words of at most 64"},
        {D(TRACE_CONTEXT), "on", "found \"on\", expected extract, inject, propagate or ignore"},
        {D(TRACE_CONTEXT), "inject $x", "found \"$x\", expected id="},
        {D(TRACE_CONTEXT), "inject id=$nope", "found \"id=$nope\""},
        {D(TRACE_CONTEXT), "ignore id=$x", "not after ignore"},
    };

    (void) state;
    assert_refused(refused, MAYDAY_COUNT(refused));
}

static void
test_directive_set__instance_refused(void **state)
{
    static const refused_t refused[] = {
        {D(DIRECTORY), "state", "found \"state\", expected an absolute path"},
        {D(DIRECTORY), "/", "found \"/\", expected an absolute path"},
        {D(DIRECTORY), "/var/a\nb", "found \"/var/a?b\""},
        {D(AGENT), "yes", "found \"yes\", expected on, off or the absolute path"},
        {D(RULES_FILE), "rules.lua", "an absolute path"},
        {D(RULES_FILE), "/nowhere/rules.lua", "a file that can be read (No such file"},
        {D(RULES_FILE), "/", "a regular file"},
        {D(RULES_FILE), "/dev/null", "a regular file"},
        {D(RULES_FILE), "/etc/passwd mode=watch", "found \"mode=watch\", expected mode=enforce"},
        {D(RULES_FILE), "/etc/passwd observe", "found \"observe\", expected mode=enforce"},
        {D(LANE_SIZE), "63k", "found \"63k\", expected a size from 64k to 64m"},
        {D(LANE_SIZE), "65m", "a size from 64k"},
        {D(LANE_SIZE), "k", "a size from 64k"},
        {D(LANE_SIZE), "-1m", "a size from 64k"},
        {D(LANE_SIZE), "1.5m", "a size from 64k"},
        {D(LANE_SIZE), "18446744073709551616", "a size from 64k"},
        {D(LANE_SIZE), "18014398509481985k", "a size from 64k"}, /* wraps to 1k in 64 bits */
        {D(QUEUE_SIZE), "1023k", "a size from 1m to 1024g"},
        {D(QUEUE_SIZE), "1025g", "a size from 1m to 1024g"},
        {D(RETENTION), "0", "a time from 1s to 3650d"},
        {D(RETENTION), "999ms", "a time from 1s"},
        {D(RETENTION), "11y", "a time from 1s"},
        {D(RETENTION), "7 d", "found 2 arguments"},
        {D(RETENTION), "1h30m", "a time from 1s"},
        {D(RETENTION), "d", "a time from 1s"},
        {D(ISSUE_RATE), "60", "found \"60\", expected a rate such as 10/s"},
        {D(ISSUE_RATE), "0/m", "a rate such as"},
        {D(ISSUE_RATE), "/m", "a rate such as"},
        {D(ISSUE_RATE), "1/d", "a rate such as"},
        {D(ISSUE_RATE), "1000001/s", "a rate such as"},
        {D(ISSUE_RATE), "on", "a rate such as"},
        {D(ISSUE_RATE), "off burst=1", "found \"burst=1\", expected off alone"},
        {D(SEND_RATE), "3/s 5", "found \"5\", expected burst="},
        {D(SEND_RATE), "3/s burst=0", "expected burst="},
        {D(SEND_RATE), "3/s burst=", "expected burst="},
        {D(PROXY), "proxy:3128", "found \"proxy:3128\", expected off or a URL"},
        {D(PROXY), "ftp://proxy", "expected off or a URL"},
        {D(PROXY), "http://", "expected off or a URL"},
        {D(PROXY), "on", "expected off or a URL"},
        {D(TRUSTED_CERTIFICATE), "ca.pem", "an absolute path"},
        {D(TRUSTED_CERTIFICATE), "/nowhere/ca.pem", "a file that can be read"},
        {D(SHUTDOWN_TIMEOUT), "61s", "a time from 0 to 60s"},
        {D(SHUTDOWN_TIMEOUT), "soon", "a time from 0 to 60s"},
        {D(SERVER_NAME), "a\x01", "found \"a?\", expected text"},
        {D(SOCKET), "mayday.sock", "found \"mayday.sock\", expected an absolute path first"},
        {D(SOCKET), "mode=0660 /run/x.sock",
         "found \"/run/x.sock\", expected an absolute path first"},
        {D(SOCKET),
         "/a123456789/b123456789/c123456789/d123456789/e123456789/f123456789/g123456789/"
         "h123456789/i123456789/j123",
         "an absolute path of at most 103 bytes"},
        {D(SOCKET), "/run/x.sock mode=660x", "found \"mode=660x\""},
        {D(SOCKET), "/run/x.sock mode=1660", "found \"mode=1660\""},
        {D(SOCKET), "/run/x.sock mode=0060", "read and write for the owner"},
        {D(SOCKET), "/run/x.sock mode=08", "found \"mode=08\""},
        {D(SOCKET), "/run/x.sock group=no-such-group", "a group of this system"},
        {D(SOCKET), "/run/x.sock group=", "a group of this system"},
        {D(SOCKET), "/run/x.sock mode=0660 mode=0660", "each at most once"},
        {D(SOCKET), "group=root group=root", "each at most once"},
        {D(SOCKET), "/run/x.sock owner=root", "group=NAME or mode=OCTAL"},
        {D(DEBUG), "1", "found \"1\", expected on or off"},
    };

    (void) state;
    assert_refused(refused, MAYDAY_COUNT(refused));
    host.server = MAYDAY_SERVER_HTTPD;
    assert_refused(refused, MAYDAY_COUNT(refused));
}

static void
test_directive_set__found_is_cut(void **state)
{
    char words[2000];
    const char *message;

    (void) state;
    memset(words, 'x', sizeof(words) - 1);
    words[sizeof(words) - 1] = '\0';
    message = set(place_new(), D(IGNORE), words);
    assert_non_null(message);
    assert_true(strlen(message) < 1024);
    assert_non_null(strstr(message, "xxx...\", expected"));
    assert_non_null(strstr(message, "client_closed)"));
}

static void
test_directive_set__duplicate(void **state)
{
    /* A value that every directive takes, and whether it may come twice. */
    static const struct {
        const char *words[2];
        bool may_repeat;
    } given[MAYDAY_DIRECTIVE_MAX] = {
        [D(ENABLE)] = {{"on", "off"}, false},
        [D(DSN)] = {{"off", "off"}, false},
        [D(ENVIRONMENT)] = {{"a", "b"}, false},
        [D(RELEASE)] = {{"a", "b"}, false},
        [D(FAILED_STATUS)] = {{"500", "501"}, false},
        [D(IGNORE)] = {{"500", "501"}, true},
        [D(USER)] = {{"id=a", "email=b"}, false},
        [D(TAG)] = {{"a b", "c d"}, true},
        [D(TRANSACTION)] = {{"a", "b"}, false},
        [D(COLLECT)] = {{"cookies on", "query off"}, true},
        [D(TRACE_CONTEXT)] = {{"inject", "ignore"}, false},
        [D(DIRECTORY)] = {{"/a", "/b"}, false},
        [D(AGENT)] = {{"on", "/b"}, false},
        [D(RULES_FILE)] = {{"/etc/passwd", "/etc/group"}, false},
        [D(LANE_SIZE)] = {{"64k", "1m"}, false},
        [D(QUEUE_SIZE)] = {{"1m", "2m"}, false},
        [D(RETENTION)] = {{"1d", "2d"}, false},
        [D(ISSUE_RATE)] = {{"1/s", "off"}, false},
        [D(SEND_RATE)] = {{"1/s", "off"}, false},
        [D(PROXY)] = {{"off", "http://p"}, false},
        [D(TRUSTED_CERTIFICATE)] = {{"/etc/passwd", "/etc/group"}, false},
        [D(SHUTDOWN_TIMEOUT)] = {{"1s", "2s"}, false},
        [D(SERVER_NAME)] = {{"a", "b"}, false},
        [D(SOCKET)] = {{"/a", "/b"}, false},
        [D(DEBUG)] = {{"on", "off"}, false},
    };
    mayday_place_t *place = place_new();

    (void) state;
    for (unsigned d = 0; d < MAYDAY_DIRECTIVE_MAX; d++) {
        const char *message;

        assert_non_null(given[d].words[0]);
        ok(place, (mayday_directive_t) d, given[d].words[0]);
        message = set(place, (mayday_directive_t) d, given[d].words[1]);
        if (given[d].may_repeat) {
            assert_null(message);
        } else {
            assert_string_equal(message, "is duplicate");
        }
    }
}

static void
test_directive_set__no_memory(void **state)
{
    static const struct {
        mayday_directive_t directive;
        const char *words;
    } given[] = {
        {D(DSN), "https://k@h/1"}, {D(FAILED_STATUS), "500"}, {D(IGNORE), "retried if=x"},
        {D(USER), "id=x"},         {D(TAG), "a b"},           {D(COLLECT), "cookies deny=a"},
        {D(DIRECTORY), "/a"},      {D(PROXY), "http://p"},    {D(FAILED_STATUS), "x"},
    };

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(given); i++) {
        const char *message = "";

        for (int after = 0; message != NULL && after < 40; after++) {
            mayday_place_t *place = place_new();

            instance->set = 0;
            until_failure = after;
            message = set(place, given[i].directive, given[i].words);
            if (until_failure >= 0) {
                break; /* it had what it asked for */
            }
            assert_non_null(message);
            assert_non_null(strstr(message, "out of memory"));
        }
        until_failure = -1;
    }
}

static void
test_instance_new__no_memory(void **state)
{
    int after = 0;

    (void) state;
    do {
        until_failure = after++;
        assert_in_range(after, 1, 60);
    } while (mayday_instance_new(&host) == NULL);
    assert_in_range(after, 10, 60);
    until_failure = 0;
    assert_null(mayday_place_new(&host, instance));
}

/* ---- names ---- */

/* One spelling follows from the other, but for DSN, an abbreviation. */
static void
test_directives__both_spellings_agree(void **state)
{
    (void) state;
    assert_string_equal(directive_names[D(FAILED_STATUS)][MAYDAY_SERVER_NGINX],
                        "mayday_failed_status");
    for (unsigned d = 0; d < MAYDAY_DIRECTIVE_MAX; d++) {
        const char *n = directive_names[d][MAYDAY_SERVER_NGINX];
        const char *h = directive_names[d][MAYDAY_SERVER_HTTPD];

        for (; *n != '\0'; n++) {
            if (*n != '_') {
                assert_int_equal(*n, *h | 0x20);
                h++;
            }
        }
        assert_int_equal(*h, '\0');
    }
}

static void
test_kind_find__names(void **state)
{
    (void) state;
    assert_int_equal(mayday_kind_find(MAYDAY_SLICE("")), MAYDAY_KIND_NONE);
    assert_int_equal(mayday_kind_find(MAYDAY_SLICE("none")), MAYDAY_KIND_NONE);
    assert_int_equal(mayday_kind_find(MAYDAY_SLICE("retriedx")), MAYDAY_KIND_NONE);
    assert_int_equal(mayday_kind_find(MAYDAY_SLICE("retried")), MAYDAY_KIND_RETRIED);
    assert_string_equal(mayday_kind_name(MAYDAY_KIND_NONE), "none");
    for (unsigned kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        const char *name = mayday_kind_name((mayday_kind_t) kind);

        assert_int_equal(mayday_kind_find(mayday_slice_str(name)), kind);
    }
}

/* ---- defaults ---- */

static void
test_instance_new__defaults(void **state)
{
    (void) state;
    assert_true(slice_is(instance->directory, "/var/lib/mayday/nginx"));
    assert_true(instance->agent_on);
    assert_int_equal(instance->lane_size, 0);
    assert_int_equal(instance->queue_size, 64 * 1024 * 1024);
    assert_int_equal(instance->retention_s, 7 * 24 * 3600);
    assert_int_equal(instance->issue_rate.events, 60);
    assert_int_equal(instance->issue_rate.period_s, 60);
    assert_int_equal(instance->issue_rate.burst, 60);
    assert_int_equal(instance->send_rate.events, 3);
    assert_int_equal(instance->send_rate.period_s, 1);
    assert_int_equal(instance->send_rate.burst, 100);
    assert_int_equal(instance->shutdown_timeout_ms, 2000);
    assert_int_equal(instance->socket_mode, 0660);
    assert_true(instance->server_name.len > 0);
    assert_true(slice_is(instance->environment, "production"));
    assert_true(slice_is(instance->release, ""));
    assert_false(instance->any_enabled);
    assert_int_equal(instance->destinations->index, 0);
    assert_int_equal(instance->destinations->dsn_count, 0);
    assert_null(instance->destinations->next);
    start(MAYDAY_SERVER_HTTPD);
    assert_true(slice_is(instance->directory, "/var/lib/mayday/httpd"));
}

static void
test_instance_new__environment(void **state)
{
    (void) state;
    (void) setenv("SENTRY_ENVIRONMENT", "staging", 1);
    (void) setenv("SENTRY_RELEASE", "shop@1.2", 1);
    start(MAYDAY_SERVER_NGINX);
    assert_true(slice_is(instance->environment, "staging"));
    assert_true(slice_is(instance->release, "shop@1.2"));
    (void) setenv("SENTRY_ENVIRONMENT", "", 1);
    start(MAYDAY_SERVER_NGINX);
    assert_true(slice_is(instance->environment, "production"));
}

static void
test_place_new__defaults(void **state)
{
    mayday_place_t *place = place_new();

    (void) state;
    assert_false(place->enabled);
    assert_int_equal(place->destination->index, 0);
    assert_false(mayday_status_set_has(place->failed_status, 499));
    assert_true(mayday_status_set_has(place->failed_status, 500));
    assert_true(mayday_status_set_has(place->failed_status, 599));
    assert_false(mayday_status_set_has(place->failed_status, 600));
    assert_false(mayday_status_set_has(place->failed_status, 100000));
    assert_true(ignores(place, MAYDAY_KIND_LIMITED, 503));
    assert_false(ignores(place, MAYDAY_KIND_UPSTREAM_REFUSED, 502));
    assert_null(place->user);
    assert_null(place->tags);
    assert_null(place->environment);
    assert_int_equal(place->trace_mode, MAYDAY_TRACE_EXTRACT);
    assert_true(place->collect->headers.on);
    assert_true(place->collect->query.on);
    assert_false(place->collect->cookies.on);
    assert_false(place->collect->user_info);
    assert_true(mayday_redact_is_sensitive(place->collect->headers.redact, MAYDAY_SLICE("Via")));
}

/* ---- values ---- */

static void
test_directive_set__instance_values(void **state)
{
    (void) state;
    ok(NULL, D(DIRECTORY), "/srv/mayday//");
    assert_true(slice_is(instance->directory, "/srv/mayday"));
    assert_string_equal(instance->directory.data, "/srv/mayday");
    ok(NULL, D(AGENT), "/usr/bin/mayday");
    assert_true(instance->agent_on);
    assert_string_equal(instance->agent_path.data, "/usr/bin/mayday");
    ok(NULL, D(RULES_FILE), "/etc/passwd mode=observe");
    assert_int_equal(instance->rules_mode, MAYDAY_RULES_OBSERVE);
    assert_string_equal(instance->rules_file.data, "/etc/passwd");
    ok(NULL, D(LANE_SIZE), "65536");
    assert_int_equal(instance->lane_size, 65536);
    ok(NULL, D(QUEUE_SIZE), "2G");
    assert_int_equal(instance->queue_size, UINT64_C(2) << 30);
    ok(NULL, D(RETENTION), "2w");
    assert_int_equal(instance->retention_s, 14 * 86400);
    ok(NULL, D(ISSUE_RATE), "100/h burst=7");
    assert_int_equal(instance->issue_rate.events, 100);
    assert_int_equal(instance->issue_rate.period_s, 3600);
    assert_int_equal(instance->issue_rate.burst, 7);
    ok(NULL, D(SEND_RATE), "off");
    assert_int_equal(instance->send_rate.events, 0);
    ok(NULL, D(PROXY), "socks5h://me:pw@proxy:1080");
    assert_true(slice_is(instance->proxy, "socks5h://me:pw@proxy:1080"));
    ok(NULL, D(SHUTDOWN_TIMEOUT), "500ms");
    assert_int_equal(instance->shutdown_timeout_ms, 500);
    ok(NULL, D(SERVER_NAME), "edge-1");
    assert_true(slice_is(instance->server_name, "edge-1"));
    ok(NULL, D(SOCKET), "/run/m.sock mode=600");
    assert_true(slice_is(instance->socket_path, "/run/m.sock"));
    assert_int_equal(instance->socket_mode, 0600);
    assert_int_equal(instance->socket_group.len, 0);
    ok(NULL, D(DEBUG), "On");
    assert_true(instance->debug);

    start(MAYDAY_SERVER_NGINX);
    ok(NULL, D(SOCKET), "group=root");
    assert_int_equal(instance->socket_path.len, 0);
    assert_true(slice_is(instance->socket_group, "root"));
    assert_int_equal(instance->socket_mode, 0660);
    ok(NULL, D(AGENT), "off");
    assert_false(instance->agent_on);
    ok(NULL, D(ISSUE_RATE), "10/s");
    assert_int_equal(instance->issue_rate.burst, 10);
    ok(NULL, D(SHUTDOWN_TIMEOUT), "3");
    assert_int_equal(instance->shutdown_timeout_ms, 3000);
    ok(NULL, D(PROXY), "off");
    assert_true(slice_is(instance->proxy, "off"));
}

static void
test_directive_set__place_values(void **state)
{
    mayday_place_t *place = place_new();

    (void) state;
    ok(place, D(ENABLE), "on");
    assert_true(place->enabled);
    assert_true(instance->any_enabled);
    ok(place, D(ENVIRONMENT), "prod");
    assert_string_equal(text_of(place->environment), "prod");
    ok(place, D(RELEASE), "$release");
    assert_string_equal(text_of(place->release), "$release");
    ok(place, D(TRANSACTION), "$uri");
    assert_string_equal(text_of(place->transaction), "$uri");
    ok(place, D(FAILED_STATUS), "404 500-502");
    assert_true(mayday_status_set_has(place->failed_status, 404));
    assert_true(mayday_status_set_has(place->failed_status, 502));
    assert_false(mayday_status_set_has(place->failed_status, 503));
    ok(place, D(USER), "username=$remote_user id=hash:$cookie_session ip=$remote_addr");
    assert_string_equal(text_of(place->user->parts[MAYDAY_USER_ID].expr), "$cookie_session");
    assert_true(place->user->parts[MAYDAY_USER_ID].hashed);
    assert_false(place->user->parts[MAYDAY_USER_NAME].hashed);
    assert_null(place->user->parts[MAYDAY_USER_EMAIL].expr);
    ok(place, D(TRACE_CONTEXT), "propagate id=$request_id");
    assert_int_equal(place->trace_mode, MAYDAY_TRACE_PROPAGATE);
    assert_string_equal(text_of(place->trace_id), "$request_id");
    ok(place, D(TAG), "a.b:c-d_9 $x");
    ok(place, D(TAG), "other $y");
    assert_true(slice_is(place->tags->name, "a.b:c-d_9"));
    assert_string_equal(text_of(place->tags->next->expr), "$y");
    assert_non_null(strstr(set(place, D(TAG), "other $z"), "each tag once"));
}

static void
test_directive_set__tags_at_most(void **state)
{
    mayday_place_t *place = place_new();
    char words[32];

    (void) state;
    for (int i = 0; i < MAYDAY_TAG_MAX; i++) {
        (void) snprintf(words, sizeof(words), "t%d x", i);
        ok(place, D(TAG), words);
    }
    assert_non_null(strstr(set(place, D(TAG), "more x"), "at most 50 tags"));
}

/* ---- inheritance ---- */

static mayday_place_t
merge(const mayday_place_t *parent, const mayday_place_t *child)
{
    mayday_place_t out;

    assert_null(mayday_place_merge(&host, &out, parent, child, host.server == MAYDAY_SERVER_HTTPD));
    return out;
}

static void
test_place_merge__values(void **state)
{
    static const mayday_server_t servers[] = {MAYDAY_SERVER_NGINX, MAYDAY_SERVER_HTTPD};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(servers); i++) {
        mayday_place_t *parent, *child, empty, both;

        start(servers[i]);
        parent = place_new();
        child = place_new();
        ok(parent, D(ENABLE), "on");
        ok(parent, D(DSN), "https://k@h/1");
        ok(parent, D(ENVIRONMENT), "outer");
        ok(parent, D(RELEASE), "outer");
        ok(parent, D(FAILED_STATUS), "404");
        ok(parent, D(USER), "id=outer email=outer");
        ok(parent, D(TRANSACTION), "outer");
        ok(parent, D(TRACE_CONTEXT), "inject id=outer");

        empty = merge(parent, child);
        assert_memory_equal(&empty, parent, sizeof(empty));

        ok(child, D(ENABLE), "off");
        ok(child, D(DSN), "off");
        ok(child, D(ENVIRONMENT), "inner");
        ok(child, D(FAILED_STATUS), "500");
        ok(child, D(USER), "id=inner");
        ok(child, D(TRACE_CONTEXT), "extract");
        both = merge(parent, child);
        assert_false(both.enabled);
        assert_int_equal(both.destination->index, 0);
        assert_string_equal(text_of(both.environment), "inner");
        assert_string_equal(text_of(both.release), "outer");
        assert_false(mayday_status_set_has(both.failed_status, 404));
        assert_string_equal(text_of(both.user->parts[MAYDAY_USER_ID].expr), "inner");
        assert_null(both.user->parts[MAYDAY_USER_EMAIL].expr); /* a value: the inner one, whole */
        assert_string_equal(text_of(both.transaction), "outer");
        assert_int_equal(both.trace_mode, MAYDAY_TRACE_EXTRACT);
        assert_null(both.trace_id);

        child = place_new();
        ok(child, D(USER), "none");
        assert_null(merge(parent, child).user);
    }
}

static void
test_place_merge__into_the_child(void **state)
{
    mayday_place_t *parent = place_new(), *child = place_new(), apart;

    (void) state;
    ok(parent, D(ENABLE), "on");
    ok(parent, D(TAG), "a outer");
    ok(child, D(TAG), "b inner");
    apart = merge(parent, child);
    assert_null(mayday_place_merge(&host, child, parent, child, false));
    assert_memory_equal(child, &apart, sizeof(apart));
}

static void
test_place_merge__ignore_nginx(void **state)
{
    mayday_place_t *parent = place_new(), *child = place_new(), merged;

    (void) state;
    ok(parent, D(IGNORE), "retried");
    ok(child, D(IGNORE), "404");
    merged = merge(parent, child);
    assert_true(ignores(&merged, MAYDAY_KIND_NONE, 404));
    assert_false(ignores(&merged, MAYDAY_KIND_RETRIED, 200));
    assert_false(ignores(&merged, MAYDAY_KIND_LIMITED, 503));
    merged = merge(parent, place_new());
    assert_true(ignores(&merged, MAYDAY_KIND_RETRIED, 200));
    merged = merge(place_new(), place_new());
    assert_true(ignores(&merged, MAYDAY_KIND_LIMITED, 503));
}

static void
test_place_merge__ignore_httpd(void **state)
{
    mayday_place_t *grand, *parent, *child, *last, merged;

    (void) state;
    start(MAYDAY_SERVER_HTTPD);
    grand = place_new();
    parent = place_new();
    child = place_new();
    last = place_new();
    ok(grand, D(IGNORE), "retried");
    ok(parent, D(IGNORE), "404");
    ok(parent, D(IGNORE), "405");
    ok(child, D(IGNORE), "406");
    ok(child, D(IGNORE), "none");
    ok(last, D(IGNORE), "407");

    merged = merge(place_new(), parent); /* the default is no list to add to */
    assert_false(ignores(&merged, MAYDAY_KIND_LIMITED, 503));

    merged = merge(grand, parent);
    assert_true(ignores(&merged, MAYDAY_KIND_RETRIED, 200));
    assert_true(ignores(&merged, MAYDAY_KIND_NONE, 405));
    assert_true(mayday_status_set_has(&merged.ignore->statuses, 404)); /* the inner ones first */
    assert_null(parent->ignore->next->next);                           /* and copied */

    merged = merge(&merged, child);
    assert_true(ignores(&merged, MAYDAY_KIND_NONE, 406));
    assert_false(ignores(&merged, MAYDAY_KIND_NONE, 404));
    assert_false(ignores(&merged, MAYDAY_KIND_RETRIED, 200));

    merged = merge(&merged, last);
    assert_true(ignores(&merged, MAYDAY_KIND_NONE, 407));
    assert_true(ignores(&merged, MAYDAY_KIND_NONE, 406));
    assert_false(ignores(&merged, MAYDAY_KIND_NONE, 404));
}

static void
test_place_merge__tags(void **state)
{
    static const mayday_server_t servers[] = {MAYDAY_SERVER_NGINX, MAYDAY_SERVER_HTTPD};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(servers); i++) {
        mayday_place_t *parent, *child, merged;

        start(servers[i]);
        parent = place_new();
        child = place_new();
        ok(parent, D(TAG), "a outer");
        ok(parent, D(TAG), "b outer");
        ok(parent, D(TAG), "c outer");
        assert_ptr_equal(merge(parent, child).tags, parent->tags);
        ok(child, D(TAG), "b inner");
        merged = merge(parent, child);
        assert_true(slice_is(merged.tags->name, "b"));
        assert_string_equal(text_of(merged.tags->expr), "inner");
        if (servers[i] == MAYDAY_SERVER_NGINX) {
            assert_null(merged.tags->next);
            continue;
        }
        assert_true(slice_is(merged.tags->next->name, "a"));
        assert_true(slice_is(merged.tags->next->next->name, "c"));
        assert_null(merged.tags->next->next->next);
        assert_null(child->tags->next);
    }
}

static void
test_place_merge__collect(void **state)
{
    static const mayday_server_t servers[] = {MAYDAY_SERVER_NGINX, MAYDAY_SERVER_HTTPD};

    (void) state;
    for (size_t i = 0; i < MAYDAY_COUNT(servers); i++) {
        mayday_place_t *outer, *middle, *inner, merged;

        start(servers[i]);
        outer = place_new();
        middle = place_new();
        inner = place_new();
        ok(outer, D(COLLECT), "headers deny=outer");
        ok(outer, D(COLLECT), "query off");
        ok(middle, D(COLLECT), "user_info on");
        ok(inner, D(COLLECT), "headers deny=inner");

        merged = merge(outer, middle); /* keeps the words, changes what user_info means for them */
        assert_true(merged.collect->user_info);
        assert_true(filters(&merged.collect->headers, "x-outer"));
        assert_false(filters(&merged.collect->headers, "Via"));
        assert_false(merged.collect->query.on);
        assert_true(filters(&outer->collect->headers, "Via"));

        merged = merge(&merged, inner);
        assert_true(merged.collect->user_info);
        assert_true(filters(&merged.collect->headers, "x-inner"));
        assert_false(filters(&merged.collect->headers, "x-outer"));
        assert_false(filters(&merged.collect->headers, "Via"));
        assert_false(merged.collect->query.on);
        assert_false(merged.collect->cookies.on);
        assert_ptr_equal(merge(outer, place_new()).collect, outer->collect);
    }
}

static void
test_place_merge__no_memory(void **state)
{
    mayday_place_t *parent, *child, out;
    int after = 0;

    (void) state;
    start(MAYDAY_SERVER_HTTPD);
    parent = place_new();
    child = place_new();
    ok(parent, D(IGNORE), "404");
    ok(parent, D(TAG), "a x");
    ok(parent, D(COLLECT), "query off");
    ok(child, D(IGNORE), "405");
    ok(child, D(TAG), "b x");
    ok(child, D(COLLECT), "cookies on");
    do {
        until_failure = after++;
        assert_in_range(after, 1, 10);
    } while (mayday_place_merge(&host, &out, parent, child, true) != NULL);
    assert_int_equal(after, 5); /* collect, one rule, two tags, and the time it worked */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_directive_set__place_refused),
        TEST(test_directive_set__instance_refused),
        TEST(test_directive_set__found_is_cut),
        TEST(test_directive_set__duplicate),
        TEST(test_directive_set__no_memory),
        TEST(test_instance_new__no_memory),
        TEST(test_directives__both_spellings_agree),
        TEST(test_kind_find__names),
        TEST(test_instance_new__defaults),
        TEST(test_instance_new__environment),
        TEST(test_place_new__defaults),
        TEST(test_directive_set__instance_values),
        TEST(test_directive_set__place_values),
        TEST(test_directive_set__tags_at_most),
        TEST(test_place_merge__values),
        TEST(test_place_merge__into_the_child),
        TEST(test_place_merge__ignore_nginx),
        TEST(test_place_merge__ignore_httpd),
        TEST(test_place_merge__tags),
        TEST(test_place_merge__collect),
        TEST(test_place_merge__no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
