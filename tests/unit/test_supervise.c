/*
 * The instance and its agent as the server sees them, with a script in the
 * agent's place.
 */
#include "tests/unit/instance_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "core/capture/directory.h"

#define DEADLINE_US UINT64_C(10000000)
#define NOBODY 65534

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

static void
pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static const char *
in_root(fixture_t *f, const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", f->root, name);
    return path;
}

static bool
exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void
wait_for_file(const char *path)
{
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;

    while (!exists(path) && mayday_clock_monotonic_us() < until) {
        pause_ms(5);
    }
    assert_true(exists(path));
}

/* An agent that is a shell script; $ROOT is the fixture's directory. */
static void
set_agent(fixture_t *f, const char *body)
{
    static char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/agent.sh", f->root);
    file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\nROOT=%s\n%s\n", f->root, body);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    f->instance.agent_path = mayday_slice_str(path);
}

static unsigned
mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static bool
was_said(const fixture_t *f, const char *text)
{
    return strstr(f->said, text) != NULL;
}

/* ---- names ---- */

static void
test_run_dir__refuses_what_is_no_directory(void **state)
{
    char storage[256];
    mayday_buf_t path;

    (void) state;
    mayday_buf_init(&path, storage, sizeof(storage));
    assert_int_equal(mayday_run_dir(&path, MAYDAY_SLICE(""), 0), MAYDAY_INVALID);
    assert_int_equal(mayday_run_dir(&path, MAYDAY_SLICE("relative/path"), 0), MAYDAY_INVALID);
    assert_int_equal(mayday_run_dir(&path, MAYDAY_SLICE("///"), 0), MAYDAY_INVALID);
    mayday_buf_init(&path, storage, 16);
    assert_int_equal(mayday_run_dir(&path, MAYDAY_SLICE("/var/lib/mayday/nginx"), 0),
                     MAYDAY_INVALID);
}

static void
run_dir(char *out, size_t size, const char *state_dir, uid_t uid)
{
    mayday_buf_t path;

    mayday_buf_init(&path, out, size);
    assert_int_equal(mayday_run_dir(&path, mayday_slice_str(state_dir), uid), MAYDAY_OK);
}

static void
test_run_dir__names_the_default_plainly_and_others_apart(void **state)
{
    char one[256], two[256], three[256];

    (void) state;
    run_dir(one, sizeof(one), "/var/lib/mayday/nginx", 0);
    assert_string_equal(strrchr(one, '/'), "/nginx");
    run_dir(one, sizeof(one), "/srv/a/state", 0);
    run_dir(two, sizeof(two), "/srv/b/state", 0);
    run_dir(three, sizeof(three), "/srv/a/state//", 0);
    assert_string_not_equal(one, two);
    assert_string_equal(one, three);
    run_dir(two, sizeof(two), "/srv/a/st te", 12345);
    assert_non_null(strstr(two, "/dev/shm/mayday-12345/st_te-"));
}

/* ---- directories ---- */

static void
test_prepare__makes_private_directories_and_files(void **state)
{
    fixture_t *f = *state;
    char path[512], hex[33];

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    assert_string_equal(f->said, "");
    assert_int_equal(mode_of(f->state), 0700);
    assert_int_equal(mode_of(f->supervisor.run_dir), 0711);
    snprintf(path, sizeof(path), "%s/hash.key", f->state);
    assert_int_equal(mode_of(path), 0600);
    mayday_hex(hex, f->supervisor.settings, MAYDAY_HASH_BYTES);
    snprintf(path, sizeof(path), "%s/settings-%s", f->supervisor.run_dir, hex);
    assert_int_equal(mode_of(path), 0600);
    snprintf(path, sizeof(path), "%s/%s", f->supervisor.run_dir, f->supervisor.segment.name);
    assert_int_equal(mode_of(path), 0600);
    snprintf(path, sizeof(path), "%s/current", f->supervisor.run_dir);
    assert_int_equal(mode_of(path), 0644);
}

static void
test_prepare__gives_the_directories_to_the_agents_user(void **state)
{
    fixture_t *f = *state;
    struct stat st;

    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(
        mayday_instance_prepare(&f->supervisor, &f->instance, 4, NOBODY, NOBODY, fixture_say, f),
        MAYDAY_OK);
    assert_int_equal(lstat(f->state, &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
    assert_int_equal(lstat(f->supervisor.run_dir, &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
    /* another user: what is there changes hands */
    assert_int_equal(
        mayday_instance_prepare(&f->supervisor, &f->instance, 4, 12345, 12345, fixture_say, f),
        MAYDAY_OK);
    assert_int_equal(lstat(f->state, &st), 0);
    assert_int_equal(st.st_uid, 12345);
    assert_int_equal(lstat(strcat(f->state, "/hash.key"), &st), 0);
    assert_int_equal(st.st_uid, 12345);
    *strrchr(f->state, '/') = '\0';
}

static void
test_prepare__refuses_a_symbolic_link(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(mkdir(in_root(f, "elsewhere"), 0700), 0);
    assert_int_equal(symlink(in_root(f, "elsewhere"), f->state), 0);
    assert_int_equal(fixture_prepare(f), MAYDAY_DENIED);
    assert_true(was_said(f, "MD0082"));
    assert_true(was_said(f, "it is not a directory"));
}

static void
test_prepare__leaves_a_directory_alone_that_others_use(void **state)
{
    fixture_t *f = *state;
    int fd;

    assert_int_equal(mkdir(f->state, 0755), 0);
    fd = open(in_root(f, "state/precious"), O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(fixture_prepare(f), MAYDAY_DENIED);
    assert_true(was_said(f, "is in use by something else"));
    assert_int_equal(mode_of(f->state), 0755);
    assert_int_equal(mode_of(in_root(f, "state/precious")), 0644);
}

static void
test_prepare__takes_an_empty_directory(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(mkdir(f->state, 0755), 0);
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    assert_int_equal(mode_of(f->state), 0700);
}

static void
test_prepare__fails_without_harm_where_it_may_not_write(void **state)
{
    fixture_t *f = *state;

    f->instance.directory = MAYDAY_SLICE("/proc/mayday/state");
    assert_int_not_equal(fixture_prepare(f), MAYDAY_OK);
    assert_true(was_said(f, "cannot make"));
    assert_int_equal(f->supervisor.segment.fd, -1);
    assert_int_equal(f->supervisor.life_fd[0], -1);
}

/* ---- the instance ---- */

static void
test_prepare__refuses_a_second_instance_but_not_its_own_twin(void **state)
{
    fixture_t *f = *state;
    mayday_supervisor_t twin, stranger;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervisor_init(&twin);
    assert_int_equal(
        mayday_instance_prepare(&twin, &f->instance, 4, (uid_t) -1, (gid_t) -1, fixture_say, f),
        MAYDAY_OK);
    assert_string_equal(twin.segment.name, f->supervisor.segment.name);
    mayday_supervisor_init(&stranger);
    f->instance.identity = "/etc/other/nginx.conf";
    assert_int_equal(
        mayday_instance_prepare(&stranger, &f->instance, 4, (uid_t) -1, (gid_t) -1, fixture_say, f),
        MAYDAY_BUSY);
    assert_true(was_said(f, "in use by the server with configuration /etc/nginx/nginx.conf"));
    mayday_instance_close(&twin);
    mayday_instance_close(&f->supervisor);
    /* nobody is left */
    assert_int_equal(mayday_instance_prepare(&f->supervisor, &f->instance, 4, (uid_t) -1,
                                             (gid_t) -1, fixture_say, f),
                     MAYDAY_OK);
}

static void
test_prepare__does_not_write_through_a_lock_that_is_another_file(void **state)
{
    fixture_t *f = *state;
    char lock[256], line[32] = "";
    FILE *file;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_instance_close(&f->supervisor);
    snprintf(lock, sizeof(lock), "%s/instance.lock", f->state);
    assert_int_equal(unlink(lock), 0);
    file = fopen(in_root(f, "precious"), "w");
    fputs("precious", file);
    fclose(file);
    assert_int_equal(link(in_root(f, "precious"), lock), 0);
    assert_int_equal(fixture_prepare(f), MAYDAY_ERROR);
    assert_true(was_said(f, "MD0083"));
    file = fopen(in_root(f, "precious"), "r");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    assert_string_equal(line, "precious");
}

static void
test_prepare__keeps_what_fits_at_a_reload(void **state)
{
    fixture_t *f = *state;
    mayday_supervisor_t before;
    char hex[33], content[4096];
    mayday_buf_t text;
    int dirfd;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    before = f->supervisor;
    f->instance.retention_s = 60;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    assert_int_equal(f->supervisor.segment.fd, before.segment.fd);
    assert_int_equal(f->supervisor.life_fd[1], before.life_fd[1]);
    assert_int_equal(f->supervisor.instance_fd, before.instance_fd);
    assert_memory_not_equal(f->supervisor.settings, before.settings, MAYDAY_HASH_BYTES);
    assert_memory_equal(f->supervisor.hash_key, before.hash_key, sizeof(before.hash_key));

    mayday_hex(hex, f->supervisor.settings, MAYDAY_HASH_BYTES);
    mayday_buf_init(&text, content, sizeof(content));
    dirfd = open(f->supervisor.run_dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mayday_directory_read(dirfd, "current", &text), MAYDAY_OK);
    close(dirfd);
    assert_non_null(strstr(content, hex));
    assert_non_null(strstr(content, f->supervisor.segment.name));
    assert_non_null(strstr(content, "identity /etc/nginx/nginx.conf\n"));
}

static void
test_prepare__makes_anew_what_no_longer_fits(void **state)
{
    fixture_t *f = *state;
    char name[64];

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    strcpy(name, f->supervisor.segment.name);
    f->instance.lane_size = 2 * 1024 * 1024;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    assert_string_not_equal(f->supervisor.segment.name, name);
    assert_int_equal(f->supervisor.segment.shared->lane_size, 2 * 1024 * 1024);
}

static void
test_prepare__does_not_leak_descriptors(void **state)
{
    fixture_t *f = *state;
    int before, after;

    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    before = dup(0);
    close(before);
    for (unsigned i = 0; i < 100; i++) {
        f->instance.retention_s = 60 + i;
        f->instance.lane_size = (i % 2 + 1) * 1024 * 1024;
        assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    }
    after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

/* ---- the agent's life ---- */

static void
test_supervise__starts_the_agent_with_nothing_but_what_it_needs(void **state)
{
    fixture_t *f = *state;
    char line[256] = "", expected[400], path[256];
    FILE *file;
    int leaks[2] = {dup2(0, 7), dup2(0, 77)}; /* on purpose without close-on-exec */

    set_agent(f, "ls /proc/$$/fd > $ROOT/list; tr '\\n' ' ' < $ROOT/list > $ROOT/fds; echo \"$@\" "
                 "> $ROOT/args;"
                 "grep SigIgn /proc/$$/status > $ROOT/signals;"
                 "cat /proc/$$/oom_score_adj > $ROOT/oom; touch $ROOT/done; exec sleep 30 <&3");
    signal(SIGUSR1, SIG_IGN);
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    snprintf(path, sizeof(path), "%s", in_root(f, "done"));
    wait_for_file(path);

    file = fopen(in_root(f, "args"), "r");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    snprintf(expected, sizeof(expected), "agent --run %s --life-fd 3\n", f->supervisor.run_dir);
    assert_string_equal(line, expected);

    file = fopen(in_root(f, "fds"), "r");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    /* from 10 on they are the shell's own */
    for (const char *fd = line; *fd != '\0'; fd += strcspn(fd, " ") + 1) {
        long n = strtol(fd, NULL, 10);
        assert_true((n >= 0 && n <= 3) || (n >= 10 && n < 20));
    }

    file = fopen(in_root(f, "signals"), "r");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    /* 32 and 33 are the C library's own: nobody can reset them once they are inherited. */
    assert_int_equal(strtoull(line + strlen("SigIgn:\t"), NULL, 16) & ~0x180000000ull, 0);
    signal(SIGUSR1, SIG_DFL);
    close(leaks[0]);
    close(leaks[1]);
    kill(f->supervisor.child, SIGKILL);
}

static void
test_supervise__starts_it_again_and_says_so_once(void **state)
{
    fixture_t *f = *state;
    uint64_t until = mayday_clock_monotonic_us() + DEADLINE_US;
    char line[64];
    unsigned starts = 0;
    FILE *file;

    set_agent(f, "echo x >> $ROOT/starts; exit 1");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    while (starts < 3 && mayday_clock_monotonic_us() < until) {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(20);
        file = fopen(in_root(f, "starts"), "r");
        for (starts = 0; file != NULL && fgets(line, sizeof(line), file) != NULL;) {
            starts++;
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    assert_int_equal(starts, 3);
    assert_string_equal(f->said, "<4> MD0092 the agent ended unexpectedly; starting it again\n");
}

static void
test_supervise__backs_off(void **state)
{
    fixture_t *f = *state;
    uint64_t begin = mayday_clock_monotonic_us();

    set_agent(f, "exit 1");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    while (mayday_clock_monotonic_us() < begin + 1500000) {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(10);
    }
    /* 0, 200, 400, 800 ms: not 150 of them */
    assert_in_range(f->supervisor.failures, 2, 4);
}

static void
test_supervise__backs_off_from_a_program_that_ends_at_once_and_well(void **state)
{
    fixture_t *f = *state;
    uint64_t until = mayday_clock_monotonic_us() + 1000000;

    set_agent(f, "exit 0");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    while (mayday_clock_monotonic_us() < until) {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(5);
    }
    assert_in_range(f->supervisor.failures, 2, 4);
}

static void
test_supervise__gives_up_until_the_configuration_is_read_again(void **state)
{
    fixture_t *f = *state;

    set_agent(f, "echo \"78 the store is too new\" > $3/agent.status; echo x >> $ROOT/starts;"
                 "exit 78");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    for (unsigned i = 0; i < 100; i++) {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(10);
    }
    assert_true(f->supervisor.gave_up);
    assert_int_equal(f->supervisor.failures, 1);
    assert_true(was_said(f, "MD0090 the agent cannot start: the store is too new;"));
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    assert_false(f->supervisor.gave_up);
}

static void
test_supervise__says_that_the_program_is_missing(void **state)
{
    fixture_t *f = *state;

    f->instance.agent_path = MAYDAY_SLICE("/nonexistent/mayday");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    for (unsigned i = 0; i < 50; i++) {
        mayday_supervise(&f->supervisor, fixture_say, f);
        pause_ms(10);
    }
    assert_string_equal(f->said, "<3> MD0091 cannot run the agent /nonexistent/mayday: No such "
                                 "file or directory; trying again\n");
    assert_false(f->supervisor.gave_up);
}

static void
test_supervise__does_nothing_where_the_agent_is_off(void **state)
{
    fixture_t *f = *state;

    set_agent(f, "touch $ROOT/started");
    f->instance.agent_on = false;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    assert_int_equal(f->supervisor.child, 0);
}

static void
test_supervise__starts_none_for_a_master_that_has_gone(void **state)
{
    fixture_t *f = *state;

    set_agent(f, "exec sleep 30 <&3");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_instance_after_fork(&f->supervisor, true); /* this process had the only end */
    mayday_supervise(&f->supervisor, fixture_say, f);
    assert_int_equal(f->supervisor.child, 0);
    assert_string_equal(f->said, "");
}

static void
test_supervise__leaves_root(void **state)
{
    fixture_t *f = *state;
    char line[256] = "", path[256];
    FILE *file;

    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(chmod(f->root, 0777), 0);
    set_agent(f, "grep -E '^(Uid|Gid|Groups)' /proc/$$/status | tr '\\n' ' ' > $ROOT/ids;"
                 "touch $ROOT/done");
    assert_int_equal(
        mayday_instance_prepare(&f->supervisor, &f->instance, 4, NOBODY, NOBODY, fixture_say, f),
        MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    snprintf(path, sizeof(path), "%s", in_root(f, "done"));
    wait_for_file(path);
    file = fopen(in_root(f, "ids"), "r");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    assert_non_null(strstr(line, "Uid:\t65534\t65534\t65534\t65534 "));
    assert_non_null(strstr(line, "Gid:\t65534\t65534\t65534\t65534 "));
    assert_non_null(strstr(line, "Groups:\t65534 "));
}

static void
test_life_pipe__ends_with_the_master_whatever_children_hold(void **state)
{
    fixture_t *f = *state;
    char path[256];
    pid_t serving;

    set_agent(f, "cat <&3 > /dev/null; touch $ROOT/ended");
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    mayday_supervise(&f->supervisor, fixture_say, f);
    serving = fork();
    if (serving == 0) {
        mayday_instance_after_fork(&f->supervisor, false);
        pause();
        _exit(0);
    }
    snprintf(path, sizeof(path), "%s", in_root(f, "ended"));
    pause_ms(200);
    assert_false(exists(path));
    mayday_instance_close(&f->supervisor);
    wait_for_file(path);
    kill(serving, SIGKILL);
    waitpid(serving, NULL, 0);
}

static void
test_close__waits_for_the_agent_no_longer_than_told(void **state)
{
    fixture_t *f = *state;
    char path[300];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    uint64_t begin, took;
    pid_t agent;

    f->instance.shutdown_timeout_ms = 300;
    assert_int_equal(fixture_prepare(f), MAYDAY_OK);
    snprintf(path, sizeof(path), "%s/agent.lock", f->supervisor.run_dir);
    agent = fork();
    if (agent == 0) {
        int fd = open(path, O_RDWR | O_CREAT, 0644);
        if (fcntl(fd, F_SETLK, &lock) == 0) {
            pause();
        }
        _exit(1);
    }
    while (!mayday_agent_is_alive(&f->supervisor)) {
        pause_ms(5);
    }
    begin = mayday_clock_monotonic_us();
    mayday_instance_close(&f->supervisor);
    took = mayday_clock_monotonic_us() - begin;
    assert_in_range(took, 300000, 900000);
    kill(agent, SIGKILL);
    waitpid(agent, NULL, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_dir__refuses_what_is_no_directory),
        cmocka_unit_test(test_run_dir__names_the_default_plainly_and_others_apart),
        TEST(test_prepare__makes_private_directories_and_files),
        TEST(test_prepare__gives_the_directories_to_the_agents_user),
        TEST(test_prepare__refuses_a_symbolic_link),
        TEST(test_prepare__leaves_a_directory_alone_that_others_use),
        TEST(test_prepare__takes_an_empty_directory),
        TEST(test_prepare__fails_without_harm_where_it_may_not_write),
        TEST(test_prepare__refuses_a_second_instance_but_not_its_own_twin),
        TEST(test_prepare__does_not_write_through_a_lock_that_is_another_file),
        TEST(test_prepare__keeps_what_fits_at_a_reload),
        TEST(test_prepare__makes_anew_what_no_longer_fits),
        TEST(test_prepare__does_not_leak_descriptors),
        TEST(test_supervise__starts_the_agent_with_nothing_but_what_it_needs),
        TEST(test_supervise__starts_it_again_and_says_so_once),
        TEST(test_supervise__backs_off),
        TEST(test_supervise__backs_off_from_a_program_that_ends_at_once_and_well),
        TEST(test_supervise__gives_up_until_the_configuration_is_read_again),
        TEST(test_supervise__says_that_the_program_is_missing),
        TEST(test_supervise__does_nothing_where_the_agent_is_off),
        TEST(test_supervise__starts_none_for_a_master_that_has_gone),
        TEST(test_supervise__leaves_root),
        TEST(test_life_pipe__ends_with_the_master_whatever_children_hold),
        TEST(test_close__waits_for_the_agent_no_longer_than_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
