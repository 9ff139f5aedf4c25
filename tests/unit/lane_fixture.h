/*
 * What the tests of both sides of a lane need: a run directory with a segment,
 * and processes that own lanes. The test's own process is the reader; a lane's
 * owner must be another process, for a process never sees its own locks.
 */
#ifndef MAYDAY_LANE_FIXTURE_H
#define MAYDAY_LANE_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/capture/record.h"

typedef struct {
    char run_dir[64];
    int dirfd;
    mayday_segment_map_t map;
} lane_fixture_t;

static const uint8_t fixture_settings[MAYDAY_HASH_BYTES] = {0xab, 1, 2, 3};

static inline void
fixture_open(lane_fixture_t *f, uint32_t slots, uint32_t lane_size)
{
    snprintf(f->run_dir, sizeof(f->run_dir), "/dev/shm/mayday-test-XXXXXX");
    assert_non_null(mkdtemp(f->run_dir));
    f->dirfd = open(f->run_dir, O_RDONLY | O_DIRECTORY);
    assert_true(f->dirfd >= 0);
    assert_int_equal(
        mayday_segment_open(&f->map, f->dirfd, "", slots, lane_size, (uid_t) -1, (gid_t) -1),
        MAYDAY_OK);
}

static inline void
fixture_close(lane_fixture_t *f)
{
    char name[64];

    memcpy(name, f->map.name, sizeof(name));
    mayday_segment_close(&f->map);
    unlinkat(f->dirfd, name, 0);
    close(f->dirfd);
    assert_int_equal(rmdir(f->run_dir), 0);
}

static inline mayday_slot_t *
fixture_slot(lane_fixture_t *f, uint32_t index)
{
    return mayday_segment_slot(f->map.shared, index);
}

/* A record of a number and len bytes that tell it, so that torn ones are seen. */
static inline void
write_numbered(mayday_record_t *record, uint64_t number, size_t len)
{
    char text[MAYDAY_FIELD_MAX_PATH];

    len = len < sizeof(text) ? len : sizeof(text);
    memset(text, 'a' + (int) (number % 26), len);
    mayday_record_u64(record, MAYDAY_FIELD_TIME_US, number);
    mayday_record_u64(record, MAYDAY_FIELD_KIND, number % MAYDAY_KIND_MAX);
    mayday_record_u64(record, MAYDAY_FIELD_STATUS, 502);
    mayday_record_text(record, PATH, mayday_slice(text, len));
}

static inline mayday_rc_t
commit_numbered(mayday_lane_t *lane, uint64_t number, size_t len)
{
    mayday_record_t record;
    mayday_rc_t rc = mayday_lane_begin(lane, &record);

    if (rc == MAYDAY_OK) {
        write_numbered(&record, number, len);
        mayday_lane_commit(&record);
    }
    return rc;
}

/* A child process that runs body and then waits to be ended or killed. */
typedef struct {
    pid_t pid;
    int ready_fd; /* the parent reads one byte: body has returned       */
    int go_fd;    /* the parent writes one: the child ends by _exit      */
} owner_t;

typedef void (*owner_body_pt)(lane_fixture_t *f, mayday_lane_t *lane, void *arg);

static inline owner_t
owner_start(lane_fixture_t *f, owner_body_pt body, void *arg)
{
    owner_t owner;
    int ready[2], go[2];

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    owner.pid = fork();
    assert_true(owner.pid >= 0);
    if (owner.pid == 0) {
        static mayday_lane_t lane;
        char c = '.';
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* where the test fails, no owner stays behind */
        close(go[1]);
        mayday_lane_init(&lane, &f->map, fixture_settings, false);
        if (mayday_lane_claim(&lane) != MAYDAY_OK) {
            c = 'F';
        }
        body(f, &lane, arg);
        if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1) {
            _exit(2);
        }
        _exit(0);
    }
    close(ready[1]);
    close(go[0]);
    owner.ready_fd = ready[0];
    owner.go_fd = go[1];
    return owner;
}

/* Waits until body has returned: '.', or 'F' if there was no lane for it. */
static inline char
owner_wait(owner_t *owner)
{
    char c = 0;

    assert_int_equal(read(owner->ready_fd, &c, 1), 1);
    return c;
}

static inline void
owner_end(owner_t *owner)
{
    int status;

    assert_int_equal(write(owner->go_fd, ".", 1), 1);
    assert_int_equal(waitpid(owner->pid, &status, 0), owner->pid);
    close(owner->go_fd);
    close(owner->ready_fd);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void
owner_kill(owner_t *owner)
{
    int status;

    kill(owner->pid, SIGKILL);
    assert_int_equal(waitpid(owner->pid, &status, 0), owner->pid);
    close(owner->go_fd);
    close(owner->ready_fd);
}

/* Runs a whole owner: claims, runs body, dies without a word. Returns owner_wait's. */
static inline char
owner_run(lane_fixture_t *f, owner_body_pt body, void *arg)
{
    owner_t owner = owner_start(f, body, arg);
    char c = owner_wait(&owner);

    owner_kill(&owner);
    return c;
}

static inline void
body_nothing(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    (void) f;
    (void) lane;
    (void) arg;
}

/* arg: a uint64_t, how many small records. */
static inline void
body_write(lane_fixture_t *f, mayday_lane_t *lane, void *arg)
{
    uint64_t count = *(const uint64_t *) arg;

    (void) f;
    for (uint64_t i = 0; i < count; i++) {
        if (commit_numbered(lane, i, 100) != MAYDAY_OK) {
            _exit(3);
        }
    }
}

#endif
