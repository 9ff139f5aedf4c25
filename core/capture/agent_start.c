/*
 * The agent's life, seen from the server: starting, watching, ending it.
 *
 * Runs in the starter (agent_spawn, supervise) and the master (close), never in
 * a process that serves. Between fork and exec only calls that are safe in the
 * child of a threaded process. Counterpart: core/agent/agent.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/capture/directory.h"
#include "core/capture/supervise.h"

#define LIFE_FD 3
#define EXIT_EXEC_FAILED 127
#define BACK_OFF_MS_MIN 200
#define BACK_OFF_MS_MAX 30000
#define START_MS_MAX 10000  /* from exec to the lock                          */
#define STEADY_MS 10000     /* who lived so long did not fail at the start    */
#define BRIEF_MS 1000       /* who lived no longer did, whatever it says      */
#define CLOSE_MARGIN_MS 200 /* the agent needs some time to see that it shall end */
#define OOM_SCORE "300"     /* better the agent than a worker                 */
#define FD_MAX 65536

extern char **environ;

/* ---- between fork and exec ---- */

static void
close_from(unsigned first)
{
    struct rlimit limit;
    unsigned last = FD_MAX;

#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0u, 0) == 0) {
        return;
    }
#endif
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < last) {
        last = (unsigned) limit.rlim_cur;
    }
    for (unsigned fd = first; fd < last; fd++) {
        close((int) fd);
    }
}

static void
default_signals(void)
{
    struct sigaction action;
    sigset_t none;

    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    for (int n = 1; n < NSIG; n++) {
        sigaction(n, &action, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
set_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, OOM_SCORE, sizeof(OOM_SCORE) - 1) < 0) {
            /* no matter: it is a preference */
            errno = 0;
        }
        close(fd);
    }
}

static bool
become_agents_user(const mayday_supervisor_t *s)
{
    if (geteuid() != 0) {
        return true;
    }
    return setgroups((size_t) s->group_count, s->groups) == 0 &&
           setresgid(s->gid, s->gid, s->gid) == 0 && setresuid(s->uid, s->uid, s->uid) == 0;
}

static void
tell_failure(const char *status_path, int error)
{
    char text[16] = "127 000\n";
    int fd = open(status_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (fd < 0) {
        return;
    }
    for (int i = 6; i > 3; i--) {
        text[i] = (char) ('0' + error % 10);
        error /= 10;
    }
    if (write(fd, text, 8) < 0) {
        /* the starter will see an agent that died without a word */
        errno = 0;
    }
    close(fd);
}

/* Waits for the delay; false: the server has gone meanwhile. */
static bool
sleep_alive(uint32_t delay_ms)
{
    struct pollfd life = {LIFE_FD, POLLIN, 0};

    return delay_ms == 0 || poll(&life, 1, (int) delay_ms) <= 0;
}

static void
run_child(const mayday_supervisor_t *s, char *const *argv, const char *status_path,
          uint32_t delay_ms)
{
    int null;

    default_signals();
    setsid();
    /* listening sockets must not stay open while this one waits */
    if (s->life_fd[0] == LIFE_FD) {
        fcntl(LIFE_FD, F_SETFD, 0);
    } else if (dup2(s->life_fd[0], LIFE_FD) < 0) {
        _exit(EXIT_EXEC_FAILED);
    }
    close_from(LIFE_FD + 1);
    null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, 0);
        if (fcntl(1, F_GETFD) < 0) {
            dup2(null, 1);
        }
        if (fcntl(2, F_GETFD) < 0) {
            dup2(null, 2);
        }
        if (null > LIFE_FD) {
            close(null);
        }
    }
    set_oom_score();
    if (!become_agents_user(s) || chdir("/") != 0) {
        _exit(EXIT_EXEC_FAILED);
    }
    if (!sleep_alive(delay_ms)) {
        _exit(0);
    }
    unlink(status_path);
    execve(s->agent_path, argv, environ);
    tell_failure(status_path, errno);
    _exit(EXIT_EXEC_FAILED);
}

pid_t
mayday_agent_spawn(mayday_supervisor_t *s, uint32_t delay_ms)
{
    char status_path[sizeof(s->run_dir) + sizeof(MAYDAY_FILE_AGENT_STATUS) + 1];
    char command[] = "agent", run[] = "--run", life[] = "--life-fd", number[] = "3";
    char *argv[] = {s->agent_path, command, run, s->run_dir, life, number, NULL};
    sigset_t all, before;
    pid_t pid;

    if (s->life_fd[0] < 0) {
        errno = EBADF;
        return -1;
    }
    snprintf(status_path, sizeof(status_path), "%s/" MAYDAY_FILE_AGENT_STATUS, s->run_dir);
    /* the server's handlers must not run in the child, they would act for the server */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0) {
        run_child(s, argv, status_path, delay_ms);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* ---- the starter ---- */

/* The holder of the agent's lock; 0: none. Of another pid namespace: -1. */
static pid_t
lock_holder(const mayday_supervisor_t *s)
{
    char path[sizeof(s->run_dir) + sizeof(MAYDAY_FILE_AGENT_LOCK) + 1];
    struct flock lock;
    pid_t holder = 0;
    int fd;

    snprintf(path, sizeof(path), "%s/" MAYDAY_FILE_AGENT_LOCK, s->run_dir);
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    memset(&lock, 0, sizeof(lock));
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) {
        holder = lock.l_pid > 0 ? lock.l_pid : -1;
    }
    close(fd);
    return holder;
}

bool
mayday_agent_is_alive(const mayday_supervisor_t *s)
{
    return lock_holder(s) != 0;
}

/* Whether the last child is still there; the server may have reaped it before us. */
static bool
child_runs(mayday_supervisor_t *s, int *exit_code)
{
    int status = 0;
    pid_t pid = waitpid(s->child, &status, WNOHANG);

    *exit_code = -1;
    if (pid == 0) {
        return true;
    }
    if (pid == s->child && WIFEXITED(status)) {
        *exit_code = WEXITSTATUS(status);
    }
    return false;
}

static void
make_printable(char *text)
{
    text[strcspn(text, "\n")] = '\0';
    for (; *text != '\0'; text++) {
        if ((unsigned char) *text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

/* What the last start left behind: why it failed, told once in a row of failures. */
static void
judge_child(mayday_supervisor_t *s, int exit_code, mayday_say_pt to, void *ctx)
{
    char storage[MAYDAY_FILE_SIZE_MAX];
    mayday_buf_t text;
    long code = 0;
    char *rest = storage;
    int dirfd = open(s->run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    mayday_buf_init(&text, storage, sizeof(storage));
    if (dirfd >= 0) {
        if (mayday_directory_read(dirfd, MAYDAY_FILE_AGENT_STATUS, &text) == MAYDAY_OK) {
            make_printable(storage);
            code = strtol(storage, &rest, 10);
        }
        close(dirfd);
    }
    s->gave_up =
        code == MAYDAY_AGENT_EXIT_CANNOT_START || exit_code == MAYDAY_AGENT_EXIT_CANNOT_START;
    if (exit_code == MAYDAY_AGENT_EXIT_REPLACED &&
        mayday_clock_monotonic_us() > s->started_us + BRIEF_MS * UINT64_C(1000)) {
        return;
    }
    s->failures++;
    if (s->said) {
        return;
    }
    s->said = true;
    if (s->gave_up) {
        mayday_say(to, ctx, 3,
                   "MD0090 the agent cannot start:%s; events are kept in memory until this "
                   "is mended and the configuration reloaded",
                   code == 0 ? " see above" : rest);
    } else if (code == EXIT_EXEC_FAILED) {
        mayday_say(to, ctx, 3, "MD0091 cannot run the agent %s: %s; trying again", s->agent_path,
                   strerror((int) strtol(rest, NULL, 10)));
    } else {
        mayday_say(to, ctx, 4, "MD0092 the agent ended unexpectedly%s%.*s; starting it again",
                   code == 0 ? "" : ":", code == 0 ? 0 : (int) strlen(rest), rest);
    }
}

static uint32_t
back_off_ms(const mayday_supervisor_t *s)
{
    uint32_t delay = BACK_OFF_MS_MIN;

    if (s->failures == 0) {
        return 0;
    }
    for (uint32_t i = 1; i < s->failures && delay < BACK_OFF_MS_MAX; i++) {
        delay *= 2;
    }
    return delay > BACK_OFF_MS_MAX ? BACK_OFF_MS_MAX : delay;
}

/* An orphan starts no more agents: each would see that the server has gone, and end. */
static bool
has_master(const mayday_supervisor_t *s)
{
    struct pollfd life = {s->life_fd[0], POLLIN, 0};

    return poll(&life, 1, 0) <= 0 || (life.revents & POLLHUP) == 0;
}

void
mayday_supervise(mayday_supervisor_t *s, mayday_say_pt to, void *ctx)
{
    uint64_t now = mayday_clock_monotonic_us();
    uint32_t delay_ms;
    int exit_code;

    if (!s->agent_on || s->life_fd[0] < 0 || !has_master(s)) {
        return;
    }
    if (mayday_agent_is_alive(s)) {
        if (s->failures > 0 && now > s->started_us + STEADY_MS * UINT64_C(1000)) {
            s->failures = 0;
            s->said = false;
        }
        return;
    }
    if (s->child != 0) {
        if (child_runs(s, &exit_code)) {
            if (now < s->started_us + START_MS_MAX * UINT64_C(1000)) {
                return;
            }
            exit_code = -1;
        } else if (now > s->started_us + STEADY_MS * UINT64_C(1000)) {
            s->failures = 0;
            s->said = false;
        }
        s->child = 0;
        judge_child(s, exit_code, to, ctx);
    }
    if (s->gave_up) {
        return;
    }
    delay_ms = back_off_ms(s);
    s->started_us = now + delay_ms * UINT64_C(1000);
    s->child = mayday_agent_spawn(s, delay_ms);
    if (s->child < 0) {
        s->child = 0;
        s->failures++;
        if (!s->said) {
            s->said = true;
            mayday_say(to, ctx, 3, "MD0091 cannot start the agent: %s; trying again",
                       strerror(errno));
        }
    }
}

/* ---- the end ---- */

void
mayday_instance_close(mayday_supervisor_t *s)
{
    static const struct timespec pause = {0, 5000000};
    uint64_t until =
        mayday_clock_monotonic_us() + (s->shutdown_timeout_ms + CLOSE_MARGIN_MS) * UINT64_C(1000);
    pid_t holder = s->life_fd[1] >= 0 && s->agent_on ? lock_holder(s) : 0;

    for (int i = 0; i < 2; i++) {
        if (s->life_fd[i] >= 0) {
            close(s->life_fd[i]);
        }
        s->life_fd[i] = -1;
    }
    /* another holder is the agent of the binary that took over */
    while (holder != 0 && lock_holder(s) == holder && mayday_clock_monotonic_us() < until) {
        nanosleep(&pause, NULL);
    }
    mayday_segment_close(&s->segment);
    if (s->instance_fd >= 0) {
        close(s->instance_fd);
    }
    mayday_supervisor_init(s);
}
