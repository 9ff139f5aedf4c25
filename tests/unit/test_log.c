/*
 * The agent's messages: style, limits, rotation.
 */
#include "tests/unit/instance_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>

#include "core/agent/log.h"

static char root[64], path[128], text[65536];

static int
setup(void **state)
{
    (void) state;
    strcpy(root, "/tmp/mayday-test-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/error.log", root);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    return 0;
}

static int
teardown(void **state)
{
    (void) state;
    mayday_log_init("", false, false);
    fixture_remove(root);
    return 0;
}

static const char *
read_log(void)
{
    FILE *file = fopen(path, "r");
    size_t len = 0;

    if (file != NULL) {
        len = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
    }
    text[len] = '\0';
    return text;
}

static void
assert_matches(const char *pattern)
{
    regex_t regex;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&regex, read_log(), 0, NULL, 0) != 0) {
        print_error("%s does not match: %s\n", pattern, text);
        fail();
    }
    regfree(&regex);
}

static unsigned
count_lines(void)
{
    unsigned lines = 0;

    for (const char *p = read_log(); *p != '\0'; p++) {
        lines += *p == '\n';
    }
    return lines;
}

/* Ids are limited to a line a second, so each test has ids of its own. */

static void
test_log__writes_as_nginx_does(void **state)
{
    (void) state;
    mayday_log_init(path, false, false);
    mayday_log(MAYDAY_LOG_WARN, "MD9101", "%d is %s", 42, "wrong");
    assert_matches("^[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8} \\[warn\\] ([0-9]+)#\\1: mayday: "
                   "MD9101 42 is wrong\n$");
}

static void
test_log__writes_as_httpd_does(void **state)
{
    (void) state;
    mayday_log_init(path, true, false);
    mayday_log(MAYDAY_LOG_ERROR, "MD9102", "it is %s", "wrong");
    assert_matches("^\\[[A-Z][a-z]{2} [A-Z][a-z]{2} [0-9]{2} [0-9:]{8}\\.[0-9]{6} [0-9]{4}\\] "
                   "\\[mayday:error\\] \\[pid [0-9]+\\] MD9102: it is wrong\n$");
}

static void
test_log__does_not_let_data_forge_lines(void **state)
{
    (void) state;
    mayday_log_init(path, false, false);
    mayday_log(MAYDAY_LOG_ERROR, "MD9103", "%s", "a\n2026/01/01 forged\x1b[2J\r\x7f%n");
    assert_int_equal(count_lines(), 1);
    assert_matches("MD9103 a 2026/01/01 forged \\[2J  %n\n$");
}

static void
test_log__cuts_a_long_line(void **state)
{
    static char much[10000];

    (void) state;
    memset(much, 'x', sizeof(much) - 1);
    mayday_log_init(path, false, false);
    mayday_log(MAYDAY_LOG_ERROR, "MD9104", "%s", much);
    assert_int_equal(count_lines(), 1);
    assert_true(strlen(read_log()) < 3000);
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void
test_log__says_debug_only_when_asked(void **state)
{
    (void) state;
    mayday_log_init(path, false, false);
    mayday_log(MAYDAY_LOG_DEBUG, "MD9105", "no");
    assert_int_equal(count_lines(), 0);
    mayday_log_init(path, false, true);
    mayday_log(MAYDAY_LOG_DEBUG, "MD9105", "yes");
    assert_matches("\\[debug\\] .*MD9105 yes\n$");
}

static void
test_log__writes_an_id_once_a_second_and_counts_the_rest(void **state)
{
    uint64_t until = mayday_clock_monotonic_us() + 5000000;

    (void) state;
    mayday_log_init(path, false, false);
    for (unsigned i = 0; i < 100; i++) {
        mayday_log(MAYDAY_LOG_ERROR, "MD9106", "again");
    }
    mayday_log(MAYDAY_LOG_ERROR, "MD9107", "another");
    assert_int_equal(count_lines(), 2);
    while (count_lines() < 3 && mayday_clock_monotonic_us() < until) {
        usleep(10000);
        mayday_log(MAYDAY_LOG_ERROR, "MD9106", "again");
    }
    assert_matches("MD9106 again \\(and [0-9]{3} more of these before\\)\n$");
}

static void *
log_much(void *arg)
{
    char id[8];

    for (unsigned i = 0; i < 200; i++) {
        snprintf(id, sizeof(id), "MD%04u", (unsigned) (uintptr_t) arg + i % 10);
        mayday_log(MAYDAY_LOG_ERROR, id, "from a thread");
        mayday_log_tick();
    }
    return NULL;
}

static void
test_log__serves_threads(void **state)
{
    pthread_t threads[4];

    (void) state;
    mayday_log_init(path, false, false);
    for (uintptr_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, (void *) (9200 + i * 10)), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_in_range(count_lines(), 40, 80);
}

static void
test_log__goes_to_stderr_where_the_file_is_not_ours(void **state)
{
    int saved = dup(STDERR_FILENO), fd = open(path, O_WRONLY | O_APPEND);

    (void) state;
    dup2(fd, STDERR_FILENO);
    mayday_log_init("/nonexistent/error.log", false, false);
    mayday_log(MAYDAY_LOG_ERROR, "MD9108", "here");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    assert_matches("MD9108 here\n$");
}

static void
test_log_tick__follows_a_rotation(void **state)
{
    char old[140];

    (void) state;
    snprintf(old, sizeof(old), "%s.1", path);
    mayday_log_init(path, false, false);
    assert_false(mayday_log_tick());
    assert_int_equal(rename(path, old), 0);
    /* the server has not yet made the new one */
    assert_false(mayday_log_tick());
    mayday_log(MAYDAY_LOG_ERROR, "MD9109", "old");
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_false(mayday_log_tick());
    mayday_log(MAYDAY_LOG_ERROR, "MD9110", "new");
    assert_matches("MD9110 new\n$");
    assert_int_equal(count_lines(), 1);
}

static void
test_log_tick__tells_when_the_new_file_is_not_ours(void **state)
{
    char old[140];

    (void) state;
    if (geteuid() != 0) {
        skip();
    }
    snprintf(old, sizeof(old), "%s.1", path);
    mayday_log_init(path, false, false);
    assert_int_equal(rename(path, old), 0);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(seteuid(65534), 0);
    assert_true(mayday_log_tick());
    assert_int_equal(seteuid(0), 0);
    assert_false(mayday_log_tick());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_log__writes_as_nginx_does),
        TEST(test_log__writes_as_httpd_does),
        TEST(test_log__does_not_let_data_forge_lines),
        TEST(test_log__cuts_a_long_line),
        TEST(test_log__says_debug_only_when_asked),
        TEST(test_log__writes_an_id_once_a_second_and_counts_the_rest),
        TEST(test_log__serves_threads),
        TEST(test_log__goes_to_stderr_where_the_file_is_not_ours),
        TEST(test_log_tick__follows_a_rotation),
        TEST(test_log_tick__tells_when_the_new_file_is_not_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
