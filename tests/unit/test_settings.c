/*
 * The settings file: what the master writes is what the agent reads, and nothing
 * that is written into one gets the reader into trouble.
 */
#include "tests/unit/instance_fixture.h"

#include "core/event/settings_read.h"

static char error[128];

static mayday_settings_t *
read_text(const char *text)
{
    error[0] = '\0';
    return mayday_settings_new(mayday_slice_str(text), error, sizeof(error));
}

static void
assert_refused(const char *text, const char *expected_error)
{
    assert_null(read_text(text));
    assert_string_equal(error, expected_error);
}

#define FIRST "mayday-settings 1\n"

static void
test_settings_new__refuses_what_is_none(void **state)
{
    (void) state;
    assert_refused("", "line 1: the end is missing");
    assert_refused("\n", "line 1: expected \"mayday-settings 1\"");
    assert_refused("mayday-settings 2\nend\n", "line 1: expected \"mayday-settings 1\"");
    assert_refused(FIRST, "line 1: the end is missing");
    assert_refused(FIRST "end", "line 2: the end is missing");
    assert_refused(FIRST "server\nend\n", "line 2: expected \"name value\"");
    assert_null(mayday_settings_new(mayday_slice("mayday\0settings", 15), error, sizeof(error)));
}

static void
test_settings_new__refuses_wrong_values(void **state)
{
    (void) state;
    assert_refused(FIRST "server a\nqueue_size -1\nend\n", "line 3: malformed value");
    assert_refused(FIRST "queue_size 1x\nend\n", "line 2: malformed value");
    assert_refused(FIRST "queue_size 99999999999999999999999\nend\n", "line 2: malformed value");
    assert_refused(FIRST "queue_size \nend\n", "line 2: malformed value");
    assert_refused(FIRST "debug 2\nend\n", "line 2: malformed value");
    assert_refused(FIRST "socket_mode 512\nend\n", "line 2: malformed value");
    assert_refused(FIRST "issue_rate 1 2\nend\n", "line 2: malformed value");
    assert_refused(FIRST "issue_rate 1 0 2\nend\n", "line 2: malformed value");
    assert_refused(FIRST "issue_rate 1 2 3 4\nend\n", "line 2: malformed value");
    assert_refused(FIRST "release %\nend\n", "line 2: malformed value");
    assert_refused(FIRST "release %4\nend\n", "line 2: malformed value");
    assert_refused(FIRST "release a%00b\nend\n", "line 2: malformed value");
}

static void
test_settings_new__refuses_wrong_lists(void **state)
{
    (void) state;
    assert_refused(FIRST "destination 1 http://k@h/1\nend\n",
                   "line 2: destinations are not in order");
    assert_refused(FIRST "destination 0\ndestination 0\nend\n",
                   "line 3: destinations are not in order");
    assert_refused(FIRST "destination 99999999999\nend\n", "line 2: destinations are not in order");
    assert_refused(FIRST "destination 0  a\nend\n", "line 2: malformed DSN");
    assert_refused(FIRST "destination 0 1 2 3 4 5 6 7 8 9\nend\n", "line 2: too many DSNs");
    assert_refused(FIRST "environ x\nend\n", "line 2: malformed environment variable");
    assert_refused(FIRST "environ  x\nend\n", "line 2: malformed environment variable");
    assert_refused(FIRST "environ a 1\nenviron a 1\nenviron a 1\nenviron a 1\nenviron a 1\n"
                         "environ a 1\nenviron a 1\nenviron a 1\nenviron a 1\nenviron a 1\n"
                         "environ a 1\nenviron a 1\nenviron a 1\nenviron a 1\nenviron a 1\n"
                         "environ a 1\nenviron a 1\nend\n",
                   "line 18: too many environment variables");
}

static void
test_settings_new__skips_what_a_newer_master_wrote(void **state)
{
    mayday_settings_t *settings = read_text(FIRST "colour blue\nserver httpd\nend\nrubbish");

    (void) state;
    assert_non_null(settings);
    assert_string_equal(settings->server, "httpd");
    assert_string_equal(settings->proxy, "");
    assert_int_equal(settings->destination_count, 0);
    mayday_settings_free(settings);
}

static mayday_rc_t
render(fixture_t *f, char *storage, size_t size, mayday_buf_t *text, uint8_t *hash)
{
    mayday_buf_init(text, storage, size);
    return mayday_settings_render(&f->instance, text, hash);
}

static void
test_settings_render__refuses_to_cut(void **state)
{
    char storage[128];
    uint8_t hash[MAYDAY_HASH_BYTES];
    mayday_buf_t text;

    assert_int_equal(render(*state, storage, sizeof(storage), &text, hash), MAYDAY_FULL);
}

static void
test_settings_render__is_read_back(void **state)
{
    fixture_t *f = *state;
    static char storage[16384];
    uint8_t hash[MAYDAY_HASH_BYTES];
    mayday_settings_t *settings;
    mayday_buf_t text;

    f->instance.release = MAYDAY_SLICE("100% sure\nserver evil");
    f->instance.rules_file = MAYDAY_SLICE("/etc/mayday/my rules.lua");
    f->instance.rules_mode = MAYDAY_RULES_OBSERVE;
    f->instance.debug = true;
    f->instance.socket_mode = 0666;
    f->destinations[1].dsn_count = 2;
    f->destinations[1].dsns[1] = MAYDAY_SLICE("https://other@example.com/1");
    clearenv();
    setenv("https_proxy", "http://proxy:3128", 1);
    assert_int_equal(render(f, storage, sizeof(storage), &text, hash), MAYDAY_OK);
    unsetenv("https_proxy");
    settings = mayday_settings_new(mayday_buf_slice(&text), error, sizeof(error));
    assert_non_null(settings);
    assert_memory_equal(settings->hash, hash, sizeof(hash));
    assert_string_equal(settings->server, "nginx");
    assert_string_equal(settings->server_version, "nginx/1.22.1");
    assert_string_equal(settings->identity, "/etc/nginx/nginx.conf");
    assert_string_equal(settings->directory, f->state);
    assert_string_equal(settings->release, "100% sure\nserver evil");
    assert_string_equal(settings->environment, "production");
    assert_string_equal(settings->rules_file, "/etc/mayday/my rules.lua");
    assert_true(settings->rules_observe);
    assert_true(settings->debug);
    assert_int_equal(settings->socket_mode, 0666);
    assert_int_equal(settings->queue_size, 64 * 1024 * 1024);
    assert_int_equal(settings->retention_s, 7 * 86400);
    assert_int_equal(settings->issue_rate.burst, 60);
    assert_int_equal(settings->send_rate.events, 3);
    assert_int_equal(settings->shutdown_timeout_ms, 2000);
    assert_int_equal(settings->destination_count, 2);
    assert_int_equal(settings->destinations[0].dsn_count, 0);
    assert_int_equal(settings->destinations[1].dsn_count, 2);
    assert_string_equal(settings->destinations[1].dsns[1], "https://other@example.com/1");
    assert_int_equal(settings->environ_count, 1);
    assert_string_equal(settings->environ[0], "https_proxy=http://proxy:3128");
    mayday_settings_free(settings);
}

static void
test_settings_render__names_the_same_settings_alike(void **state)
{
    fixture_t *f = *state;
    static char storage[16384];
    uint8_t one[MAYDAY_HASH_BYTES], two[MAYDAY_HASH_BYTES];
    mayday_buf_t text;

    assert_int_equal(render(f, storage, sizeof(storage), &text, one), MAYDAY_OK);
    assert_int_equal(render(f, storage, sizeof(storage), &text, two), MAYDAY_OK);
    assert_memory_equal(one, two, sizeof(one));
    f->instance.retention_s++;
    assert_int_equal(render(f, storage, sizeof(storage), &text, two), MAYDAY_OK);
    assert_memory_not_equal(one, two, sizeof(one));
}

/* Every cut and every changed byte of a good file is read or refused, never more. */
static void
test_settings_new__survives_damaged_files(void **state)
{
    static char storage[16384], copy[16384];
    uint8_t hash[MAYDAY_HASH_BYTES];
    mayday_buf_t text;

    assert_int_equal(render(*state, storage, sizeof(storage), &text, hash), MAYDAY_OK);
    for (size_t i = 0; i < text.len; i++) {
        mayday_settings_free(mayday_settings_new(mayday_slice(storage, i), error, sizeof(error)));
        for (int c = 1; c < 256; c += 23) {
            memcpy(copy, storage, text.len);
            copy[i] = (char) c;
            mayday_settings_free(
                mayday_settings_new(mayday_slice(copy, text.len), error, sizeof(error)));
        }
    }
}

static int
setup(void **state)
{
    static fixture_t fixture;

    fixture_init(&fixture);
    *state = &fixture;
    return 0;
}

static int
teardown(void **state)
{
    fixture_fini(*state);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_new__refuses_what_is_none),
        cmocka_unit_test(test_settings_new__refuses_wrong_values),
        cmocka_unit_test(test_settings_new__refuses_wrong_lists),
        cmocka_unit_test(test_settings_new__skips_what_a_newer_master_wrote),
        cmocka_unit_test_setup_teardown(test_settings_render__refuses_to_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settings_render__is_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settings_render__names_the_same_settings_alike, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_settings_new__survives_damaged_files, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
