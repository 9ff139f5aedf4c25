/*
 * An instance's directories, settings and segment, made by the master, and the
 * names of things. The agent's life is in agent_start.c.
 *
 * Runs in the server's processes outside of requests; allocates nothing but
 * what libc does to look up groups. Counterpart: core/agent/agent.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "core/capture/directory.h"
#include "core/capture/supervise.h"

#ifndef MAYDAY_AGENT_PATH
#define MAYDAY_AGENT_PATH "/usr/local/bin/mayday"
#endif

#define STATE_ROOT "/var/lib/mayday/"
#define FILE_INSTANCE_LOCK "instance.lock"
#define TMPFS_TYPE 0x01021994
#define RAMFS_TYPE 0x858458f6

#define LANES_BUDGET (16u << 20) /* of mayday_lane_size not given */
#define LANE_SIZE_DEFAULT_MAX (1u << 20)
#define SLOTS_SPARE 16 /* dead lanes that wait for the agent */

/* What prepare works with before it takes effect. */
typedef struct {
    mayday_supervisor_t next;
    const mayday_instance_t *instance;
    uint32_t processes;
    int state_fd, run_fd;
    mayday_say_pt say;
    void *ctx;
} prepare_t;

void
mayday_say(mayday_say_pt to, void *ctx, int level, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    to(ctx, level, text);
}

void
mayday_supervisor_init(mayday_supervisor_t *s)
{
    memset(s, 0, sizeof(*s));
    s->uid = (uid_t) -1;
    s->gid = (gid_t) -1;
    s->segment.fd = -1;
    s->instance_fd = -1;
    s->life_fd[0] = s->life_fd[1] = -1;
}

/* ---- names ---- */

static bool
is_memory(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && (fs.f_type == TMPFS_TYPE || fs.f_type == RAMFS_TYPE);
}

static void
add_instance_name(mayday_buf_t *path, mayday_slice_t state_dir)
{
    static const uint8_t no_key[16];
    uint8_t hash[MAYDAY_HASH_BYTES];
    char hex[9];
    size_t last = state_dir.len;

    while (last > 0 && state_dir.data[last - 1] != '/') {
        last--;
    }
    for (size_t i = last; i < state_dir.len && i < last + 64; i++) {
        char c = state_dir.data[i];

        if (!mayday_is_alnum(c) && c != '-') {
            c = '_';
        }
        mayday_buf_addc(path, c);
    }
    if (!mayday_slice_eq(state_dir, MAYDAY_SLICE(STATE_ROOT "nginx")) &&
        !mayday_slice_eq(state_dir, MAYDAY_SLICE(STATE_ROOT "httpd"))) {
        mayday_siphash(hash, no_key, state_dir.data, state_dir.len);
        mayday_hex(hex, hash, 4);
        mayday_buf_addf(path, "-%s", hex);
    }
}

mayday_rc_t
mayday_run_dir(mayday_buf_t *path, mayday_slice_t state_dir, uid_t uid)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    struct stat st;

    while (state_dir.len > 1 && state_dir.data[state_dir.len - 1] == '/') {
        state_dir.len--;
    }
    if (state_dir.len < 2 || state_dir.data[0] != '/') {
        return MAYDAY_INVALID;
    }
    if (uid == 0) {
        /* in many containers /run is part of the image's disk */
        mayday_buf_adds(path, is_memory("/run") ? "/run/mayday/" : "/dev/shm/mayday-0/");
    } else if (xdg != NULL && xdg[0] == '/' && stat(xdg, &st) == 0 && S_ISDIR(st.st_mode) &&
               st.st_uid == uid && is_memory(xdg)) {
        mayday_buf_addf(path, "%s/mayday/", xdg);
    } else {
        mayday_buf_addf(path, "/dev/shm/mayday-%lu/", (unsigned long) uid);
    }
    add_instance_name(path, state_dir);
    return path->truncated ? MAYDAY_INVALID : MAYDAY_OK;
}

/* ---- the parts of prepare ---- */

static mayday_rc_t
name_everything(prepare_t *p)
{
    mayday_supervisor_t *s = &p->next;
    mayday_slice_t dir = p->instance->directory, agent = p->instance->agent_path;
    mayday_buf_t run;

    mayday_buf_init(&run, s->run_dir, sizeof(s->run_dir));
    if (agent.len == 0) {
        agent = MAYDAY_SLICE(MAYDAY_AGENT_PATH);
    }
    if (dir.len >= sizeof(s->state_dir) || agent.len >= sizeof(s->agent_path) ||
        mayday_run_dir(&run, dir, geteuid()) != MAYDAY_OK) {
        mayday_say(p->say, p->ctx, 3, "MD0080 the path of the directory or the agent is too long");
        return MAYDAY_INVALID;
    }
    memcpy(s->state_dir, dir.data, dir.len);
    s->state_dir[dir.len] = '\0';
    while (dir.len > 1 && s->state_dir[dir.len - 1] == '/') {
        s->state_dir[--dir.len] = '\0';
    }
    memcpy(s->agent_path, agent.data, agent.len);
    s->agent_path[agent.len] = '\0';
    return MAYDAY_OK;
}

static void
choose_user(prepare_t *p, uid_t uid, gid_t gid)
{
    mayday_supervisor_t *s = &p->next;
    struct stat st;
    struct passwd *pw;

    if (geteuid() != 0) {
        s->uid = geteuid();
        s->gid = getegid();
        s->group_count = 0;
        return;
    }
    s->uid = uid == (uid_t) -1 ? 0 : uid;
    s->gid = gid == (gid_t) -1 ? 0 : gid;
    if (!p->instance->agent_on && lstat(s->state_dir, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid != 0) {
        s->uid = st.st_uid;
        s->gid = st.st_gid;
    }
    pw = getpwuid(s->uid);
    s->group_count = MAYDAY_AGENT_GROUPS_MAX;
    if (pw == NULL || getgrouplist(pw->pw_name, s->gid, s->groups, &s->group_count) < 0) {
        s->groups[0] = s->gid;
        s->group_count = 1;
    }
}

static mayday_rc_t
open_directories(prepare_t *p)
{
    mayday_supervisor_t *s = &p->next;
    char storage[512], group[64];
    mayday_buf_t error;
    struct group *gr = NULL;
    mayday_slice_t wanted = p->instance->socket_group;
    mayday_directory_t state = {s->state_dir, MAYDAY_FILE_HASH_KEY, 0700, s->uid, s->gid, false};
    mayday_directory_t run = {s->run_dir, MAYDAY_FILE_CURRENT, 0711, s->uid, s->gid, true};

    if (wanted.len > 0 && wanted.len < sizeof(group)) {
        snprintf(group, sizeof(group), "%.*s", (int) wanted.len, wanted.data);
        gr = getgrnam(group);
        if (gr == NULL) {
            mayday_say(p->say, p->ctx, 4,
                       "MD0081 there is no group \"%s\": mayday_socket keeps the "
                       "agent's own",
                       group);
        } else {
            /* setgid: the agent's user need not be in the group to make a socket for it */
            run.gid = gr->gr_gid;
            run.mode = 02711;
        }
    }
    mayday_buf_init(&error, storage, sizeof(storage));
    p->state_fd = mayday_directory_open(&state, &error);
    if (p->state_fd >= 0) {
        p->run_fd = mayday_directory_open(&run, &error);
    }
    if (p->state_fd < 0 || p->run_fd < 0) {
        mayday_say(p->say, p->ctx, 3, "MD0082 capture stays off: %s", storage);
        return MAYDAY_DENIED;
    }
    return MAYDAY_OK;
}

/* Not written where it is there already: a full disk must not stop a restart. */
static bool
put_identity(int fd, mayday_slice_t identity)
{
    char storage[MAYDAY_FILE_SIZE_MAX];
    ssize_t len = pread(fd, storage, sizeof(storage), 0);

    if (len >= 0 && mayday_slice_eq(mayday_slice(storage, (size_t) len), identity)) {
        return true;
    }
    return ftruncate(fd, 0) == 0 &&
           pwrite(fd, identity.data, identity.len, 0) == (ssize_t) identity.len;
}

/* The agent's user may have put there a second name of a file that is not his to write. */
static bool
is_own_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
}

/*
 * The lock file says who uses the directory. It is held shared, so that the two
 * masters of a binary upgrade, being the same instance, get along.
 */
static mayday_rc_t
lock_instance(prepare_t *p)
{
    static const struct timespec pause = {0, 10000000};
    mayday_supervisor_t *s = &p->next;
    char storage[MAYDAY_FILE_SIZE_MAX];
    mayday_buf_t other;
    mayday_slice_t identity = mayday_slice_str(p->instance->identity);
    int fd =
        openat(p->state_fd, FILE_INSTANCE_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0) {
        mayday_say(p->say, p->ctx, 3,
                   "MD0083 capture stays off: cannot open %s/" FILE_INSTANCE_LOCK ": %s",
                   s->state_dir, strerror(errno));
        return MAYDAY_ERROR;
    }
    errno = EINVAL;
    for (int try = 0; try < 20 && is_own_file(fd); try++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            if (!put_identity(fd, identity) || flock(fd, LOCK_SH) != 0) {
                break;
            }
            s->instance_fd = fd;
            return MAYDAY_OK;
        }
        mayday_buf_init(&other, storage, sizeof(storage));
        if (mayday_directory_read(p->state_fd, FILE_INSTANCE_LOCK, &other) == MAYDAY_OK &&
            mayday_slice_eq(mayday_buf_slice(&other), identity)) {
            if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
                s->instance_fd = fd;
                return MAYDAY_OK;
            }
        } else if (other.len > 0) {
            mayday_say(p->say, p->ctx, 3,
                       "MD0084 capture stays off: %s is in use by the server with "
                       "configuration %s; give this one its own mayday_directory",
                       s->state_dir, other.data);
            close(fd);
            return MAYDAY_BUSY;
        }
        /* somebody else is just writing it */
        nanosleep(&pause, NULL);
    }
    mayday_say(p->say, p->ctx, 3,
               "MD0083 capture stays off: cannot lock %s/" FILE_INSTANCE_LOCK ": %s", s->state_dir,
               strerror(errno));
    close(fd);
    return MAYDAY_ERROR;
}

static mayday_rc_t
load_hash_key(prepare_t *p)
{
    mayday_supervisor_t *s = &p->next;
    char storage[sizeof(s->hash_key) + 2];
    mayday_buf_t text;
    mayday_rc_t rc;

    mayday_buf_init(&text, storage, sizeof(storage));
    rc = mayday_directory_read(p->state_fd, MAYDAY_FILE_HASH_KEY, &text);
    if (rc == MAYDAY_OK && text.len == sizeof(s->hash_key)) {
        memcpy(s->hash_key, text.data, sizeof(s->hash_key));
        return MAYDAY_OK;
    }
    if (rc == MAYDAY_OK || rc == MAYDAY_NOT_FOUND) {
        rc = mayday_random(s->hash_key, sizeof(s->hash_key));
        if (rc == MAYDAY_OK) {
            rc = mayday_directory_write(p->state_fd, MAYDAY_FILE_HASH_KEY, 0600, s->uid, s->gid,
                                        mayday_slice(s->hash_key, sizeof(s->hash_key)));
        }
    }
    if (rc != MAYDAY_OK) {
        mayday_say(p->say, p->ctx, 3,
                   "MD0085 capture stays off: cannot make %s/" MAYDAY_FILE_HASH_KEY ": %s",
                   s->state_dir, strerror(errno));
    }
    return rc;
}

static mayday_rc_t
write_settings(prepare_t *p)
{
    mayday_supervisor_t *s = &p->next;
    char name[sizeof(MAYDAY_SETTINGS_PREFIX) - 1 + MAYDAY_HASH_HEX_SIZE];
    mayday_buf_t text;
    mayday_rc_t rc;
    char *storage = mmap(NULL, MAYDAY_SETTINGS_SIZE_MAX, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (storage == MAP_FAILED) {
        mayday_say(p->say, p->ctx, 3, "MD0086 capture stays off: no memory for the settings");
        return MAYDAY_NO_MEMORY;
    }
    mayday_buf_init(&text, storage, MAYDAY_SETTINGS_SIZE_MAX);
    rc = mayday_settings_render(p->instance, &text, s->settings);
    if (rc != MAYDAY_OK) {
        mayday_say(p->say, p->ctx, 3,
                   "MD0086 capture stays off: the settings exceed %zu bytes; use fewer "
                   "different lists of DSNs",
                   MAYDAY_SETTINGS_SIZE_MAX);
    } else {
        memcpy(name, MAYDAY_SETTINGS_PREFIX, sizeof(MAYDAY_SETTINGS_PREFIX));
        mayday_hex(name + sizeof(MAYDAY_SETTINGS_PREFIX) - 1, s->settings, MAYDAY_HASH_BYTES);
        rc = mayday_directory_write(p->run_fd, name, 0600, s->uid, s->gid, mayday_buf_slice(&text));
        if (rc != MAYDAY_OK) {
            mayday_say(p->say, p->ctx, 3, "MD0086 capture stays off: cannot write %s/%s: %s",
                       s->run_dir, name, strerror(errno));
        }
    }
    munmap(storage, MAYDAY_SETTINGS_SIZE_MAX);
    return rc;
}

/* ---- the segment ---- */

static uint32_t
lane_size(const prepare_t *p)
{
    uint64_t size = p->instance->lane_size, page = (uint64_t) sysconf(_SC_PAGESIZE);

    if (size == 0) {
        size = LANES_BUDGET / (p->processes == 0 ? 1 : p->processes);
        if (size > LANE_SIZE_DEFAULT_MAX) {
            size = LANE_SIZE_DEFAULT_MAX;
        }
        size -= size % page;
    }
    if (size < MAYDAY_LANE_SIZE_MIN) {
        size = MAYDAY_LANE_SIZE_MIN;
    }
    if (size > MAYDAY_LANE_SIZE_MAX) {
        size = MAYDAY_LANE_SIZE_MAX;
    }
    return (uint32_t) ((size + page - 1) / page * page);
}

/* Room for two generations, for at a reload the old processes linger. */
static uint32_t
slot_count(const prepare_t *p)
{
    uint64_t count = 2 * (uint64_t) p->processes + SLOTS_SPARE;

    return count > MAYDAY_SLOT_COUNT_MAX ? MAYDAY_SLOT_COUNT_MAX : (uint32_t) count;
}

/* The segment that `current` names, "" if none. */
static void
current_segment(prepare_t *p, char *name, size_t size)
{
    char storage[MAYDAY_FILE_SIZE_MAX];
    mayday_buf_t text;
    const char *line, *end;
    size_t len, prefix = sizeof(MAYDAY_SEGMENT_PREFIX) - 1;

    name[0] = '\0';
    mayday_buf_init(&text, storage, sizeof(storage));
    if (mayday_directory_read(p->run_fd, MAYDAY_FILE_CURRENT, &text) != MAYDAY_OK) {
        return;
    }
    line = strstr(storage, "segment " MAYDAY_SEGMENT_PREFIX);
    if (line == NULL) {
        return;
    }
    line += sizeof("segment ") - 1;
    end = strchr(line, '\n');
    len = end == NULL ? strlen(line) : (size_t) (end - line);
    if (len < size && strspn(line + prefix, "0123456789abcdef") + prefix == len) {
        memcpy(name, line, len);
        name[len] = '\0';
    }
}

static mayday_rc_t
open_segment(prepare_t *p, const mayday_supervisor_t *now)
{
    mayday_supervisor_t *s = &p->next;
    char name[sizeof(s->segment.name)];
    uint32_t slots = slot_count(p), size = lane_size(p);
    mayday_rc_t rc = MAYDAY_NOT_FOUND;

    if (now->segment.fd >= 0 && now->segment.shared->slot_count == slots &&
        now->segment.shared->lane_size == size && strcmp(now->run_dir, s->run_dir) == 0) {
        /* opened once only: closing a second descriptor would drop our own lane's lock */
        return MAYDAY_OK;
    }
    s->segment.fd = -1;
    current_segment(p, name, sizeof(name));
    if (name[0] != '\0' && (now->segment.fd < 0 || strcmp(now->segment.name, name) != 0)) {
        rc = mayday_segment_open(&s->segment, p->run_fd, name, slots, size, s->uid, s->gid);
    }
    if (rc != MAYDAY_OK) {
        rc = mayday_segment_open(&s->segment, p->run_fd, "", slots, size, s->uid, s->gid);
    }
    if (rc != MAYDAY_OK) {
        mayday_say(p->say, p->ctx, 3,
                   "MD0087 capture stays off: cannot make the shared memory in %s: %s", s->run_dir,
                   strerror(errno));
    }
    return rc;
}

static mayday_rc_t
publish(prepare_t *p)
{
    mayday_supervisor_t *s = &p->next;
    char storage[MAYDAY_FILE_SIZE_MAX], hex[MAYDAY_HASH_HEX_SIZE];
    mayday_buf_t text;
    mayday_rc_t rc;

    mayday_hex(hex, s->settings, MAYDAY_HASH_BYTES);
    mayday_buf_init(&text, storage, sizeof(storage));
    mayday_buf_addf(&text, "settings %s\nsegment %s\nidentity %s\n", hex, s->segment.name,
                    p->instance->identity);
    rc = mayday_directory_write(p->run_fd, MAYDAY_FILE_CURRENT, 0644, s->uid, s->gid,
                                mayday_buf_slice(&text));
    if (rc != MAYDAY_OK) {
        mayday_say(p->say, p->ctx, 3,
                   "MD0086 capture stays off: cannot write %s/" MAYDAY_FILE_CURRENT ": %s",
                   s->run_dir, strerror(errno));
    }
    return rc;
}

static void
close_pair(int fd[2])
{
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0) {
            close(fd[i]);
        }
        fd[i] = -1;
    }
}

/* One pipe for the master's life; an agent that no longer fits loses its own. */
static mayday_rc_t
open_life_pipe(prepare_t *p, const mayday_supervisor_t *now)
{
    mayday_supervisor_t *s = &p->next;
    bool same = now->life_fd[1] >= 0 && now->uid == s->uid && now->gid == s->gid &&
                now->agent_on == s->agent_on && strcmp(now->run_dir, s->run_dir) == 0 &&
                strcmp(now->agent_path, s->agent_path) == 0;

    if (same) {
        return MAYDAY_OK;
    }
    if (pipe2(s->life_fd, O_CLOEXEC) != 0) {
        s->life_fd[0] = s->life_fd[1] = -1;
        mayday_say(p->say, p->ctx, 3, "MD0088 capture stays off: cannot make a pipe: %s",
                   strerror(errno));
        return MAYDAY_ERROR;
    }
    return MAYDAY_OK;
}

/* ---- the whole ---- */

/* Lets go of what `from` has and `keep` does not share. */
static void
let_go(mayday_supervisor_t *from, const mayday_supervisor_t *keep)
{
    if (from->segment.fd >= 0 && from->segment.fd != keep->segment.fd) {
        mayday_segment_close(&from->segment);
    }
    if (from->instance_fd >= 0 && from->instance_fd != keep->instance_fd) {
        close(from->instance_fd);
    }
    if (from->life_fd[1] >= 0 && from->life_fd[1] != keep->life_fd[1]) {
        close_pair(from->life_fd);
    }
}

static mayday_rc_t
prepare(prepare_t *p, const mayday_supervisor_t *now, uid_t uid, gid_t gid)
{
    mayday_rc_t rc = name_everything(p);

    if (rc == MAYDAY_OK) {
        choose_user(p, uid, gid);
        rc = open_directories(p);
    }
    if (rc == MAYDAY_OK &&
        (now->instance_fd < 0 || strcmp(now->state_dir, p->next.state_dir) != 0)) {
        rc = lock_instance(p);
    }
    if (rc == MAYDAY_OK) {
        rc = load_hash_key(p);
    }
    if (rc == MAYDAY_OK) {
        rc = write_settings(p);
    }
    if (rc == MAYDAY_OK) {
        rc = open_segment(p, now);
    }
    if (rc == MAYDAY_OK) {
        rc = open_life_pipe(p, now);
    }
    if (rc == MAYDAY_OK) {
        rc = publish(p);
    }
    return rc;
}

mayday_rc_t
mayday_instance_prepare(mayday_supervisor_t *s, const mayday_instance_t *instance,
                        uint32_t processes, uid_t uid, gid_t gid, mayday_say_pt say_to, void *ctx)
{
    prepare_t p = {*s, instance, processes, -1, -1, say_to, ctx};
    mayday_rc_t rc;

    p.next.agent_on = instance->agent_on;
    p.next.shutdown_timeout_ms = instance->shutdown_timeout_ms;
    p.next.failures = 0;
    p.next.gave_up = p.next.said = false;
    rc = prepare(&p, s, uid, gid);
    if (rc == MAYDAY_OK) {
        let_go(s, &p.next);
        *s = p.next;
    } else {
        let_go(&p.next, s);
    }
    if (p.state_fd >= 0) {
        close(p.state_fd);
    }
    if (p.run_fd >= 0) {
        close(p.run_fd);
    }
    return rc;
}

void
mayday_instance_after_fork(mayday_supervisor_t *s, bool starter)
{
    if (!starter) {
        close_pair(s->life_fd);
    } else if (s->life_fd[1] >= 0) {
        close(s->life_fd[1]);
        s->life_fd[1] = -1;
    }
}
