/*
 * One segment file as the agent sees it (contract, and why there is a SIGBUS
 * handler: lane_segment.h).
 */
#include "core/agent/lane_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ABANDONED_AFTER_S 3600
#define PATH_SIZE 512

/* What the SIGBUS handler may repair. Written by the pipeline's thread. */
static struct {
    _Atomic uintptr_t start; /* 0: entry is free */
    _Atomic size_t len;
    _Atomic bool broken;
} guards[MAYDAY_SEGMENTS_MAX];

static void
on_sigbus(int signal, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t) info->si_addr;
    uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);

    (void) context;
    for (size_t i = 0; i < MAYDAY_SEGMENTS_MAX; i++) {
        uintptr_t start = atomic_load(&guards[i].start);
        if (start == 0 || address < start || address - start >= atomic_load(&guards[i].len)) {
            continue;
        }
        void *lost = (char *) info->si_addr - address % page;
        if (mmap(lost, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) != MAP_FAILED) {
            atomic_store(&guards[i].broken, true);
            return;
        }
    }
    /* Not ours: the access happens again and has its usual end. */
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(signal, &usual, NULL);
}

static void
install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};

    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

static mayday_rc_t
guard_take(mayday_segment_file_t *file)
{
    install_handler();
    for (uint32_t i = 0; i < MAYDAY_SEGMENTS_MAX; i++) {
        if (atomic_load(&guards[i].start) == 0) {
            atomic_store(&guards[i].broken, false);
            atomic_store(&guards[i].len, file->mapped);
            atomic_store(&guards[i].start, (uintptr_t) file->shared);
            file->guard = i;
            return MAYDAY_OK;
        }
    }
    return MAYDAY_BUSY;
}

static int
open_in(const char *run_dir, const char *name, int flags)
{
    char path[PATH_SIZE];
    int len = snprintf(path, sizeof(path), "%s/%s", run_dir, name);

    if (len < 0 || (size_t) len >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

static mayday_rc_t
check_and_map(mayday_segment_file_t *file)
{
    mayday_segment_t header;
    struct stat st;

    if (fstat(file->fd, &st) != 0) {
        return MAYDAY_ERROR;
    }
    if (!S_ISREG(st.st_mode) ||
        pread(file->fd, &header, sizeof(header), 0) != (ssize_t) sizeof(header) ||
        !mayday_segment_is_sane(&header, (uint64_t) st.st_size)) {
        return MAYDAY_INVALID;
    }
    file->size = header.segment_size;
    file->data_offset = header.data_offset;
    file->slot_count = header.slot_count;
    file->lane_size = header.lane_size;
    memcpy(file->id, header.id, sizeof(file->id));

    void *address = mmap(NULL, header.data_offset, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    if (address == MAP_FAILED) {
        return MAYDAY_ERROR;
    }
    file->shared = address;
    file->mapped = header.data_offset;
    return MAYDAY_OK;
}

mayday_rc_t
mayday_segment_file_open(mayday_segment_file_t *file, const char *run_dir, const char *name)
{
    memset(file, 0, sizeof(*file));
    file->guard = MAYDAY_SEGMENTS_MAX;
    file->fd = -1;
    if (strlen(name) >= sizeof(file->name)) {
        return MAYDAY_INVALID;
    }
    memcpy(file->name, name, strlen(name) + 1);
    file->fd = open_in(run_dir, name, O_RDWR);
    if (file->fd == -1) {
        return MAYDAY_ERROR;
    }
    mayday_rc_t rc = check_and_map(file);
    if (rc == MAYDAY_OK) {
        rc = guard_take(file);
    }
    if (rc != MAYDAY_OK) {
        mayday_segment_file_close(file);
    }
    return rc;
}

void
mayday_segment_file_close(mayday_segment_file_t *file)
{
    if (file->guard < MAYDAY_SEGMENTS_MAX) {
        atomic_store(&guards[file->guard].start, 0);
    }
    if (file->shared != NULL) {
        munmap(file->shared, file->mapped);
    }
    if (file->fd != -1) {
        close(file->fd);
    }
    memset(file, 0, sizeof(*file));
    file->guard = MAYDAY_SEGMENTS_MAX;
    file->fd = -1;
}

bool
mayday_segment_file_is_broken(const mayday_segment_file_t *file)
{
    struct stat st;

    return atomic_load(&guards[file->guard].broken) || fstat(file->fd, &st) != 0 ||
           (uint64_t) st.st_size != file->size;
}

/* ---- locks ---- */

static int
lock_op(int fd, int command, short type, off_t start, off_t len)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    if (fcntl(fd, command, &lock) != 0) {
        return -1;
    }
    return lock.l_type;
}

bool
mayday_segment_file_lock(const mayday_segment_file_t *file, uint32_t slot)
{
    return lock_op(file->fd, F_SETLK, F_WRLCK, (off_t) MAYDAY_SLOT_LOCK_OFFSET + slot, 1) != -1;
}

void
mayday_segment_file_unlock(const mayday_segment_file_t *file, uint32_t slot)
{
    lock_op(file->fd, F_SETLK, F_UNLCK, (off_t) MAYDAY_SLOT_LOCK_OFFSET + slot, 1);
}

bool
mayday_segment_file_is_owned(const mayday_segment_file_t *file, uint32_t slot)
{
    int type = lock_op(file->fd, F_GETLK, F_WRLCK, (off_t) MAYDAY_SLOT_LOCK_OFFSET + slot, 1);
    return type != F_UNLCK;
}

bool
mayday_segment_file_any_owned(const mayday_segment_file_t *file)
{
    return lock_op(file->fd, F_GETLK, F_WRLCK, 0, 0) != F_UNLCK;
}

/* ---- rings ---- */

mayday_rc_t
mayday_segment_file_read(const mayday_segment_file_t *file, uint32_t slot, uint64_t position,
                         void *out, size_t len)
{
    uint64_t ring = file->data_offset + (uint64_t) slot * file->lane_size;
    uint8_t *bytes = out;

    while (len > 0) {
        uint64_t offset = position % file->lane_size;
        size_t piece = len < file->lane_size - offset ? len : (size_t) (file->lane_size - offset);
        ssize_t n = pread(file->fd, bytes, piece, (off_t) (ring + offset));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return MAYDAY_ERROR;
        }
        bytes += n;
        len -= (size_t) n;
        position += (uint64_t) n;
    }
    return MAYDAY_OK;
}

void
mayday_segment_file_punch(const mayday_segment_file_t *file, uint32_t slot)
{
    off_t ring = (off_t) (file->data_offset + (uint64_t) slot * file->lane_size);

    /* Where this fails the memory stays allocated, for the next owner. */
    (void) fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ring,
                     (off_t) file->lane_size);
    (void) futimens(file->fd, NULL);
}

/* ---- what was left behind ---- */

static bool
is_abandoned(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           time(NULL) - st.st_mtime > ABANDONED_AFTER_S &&
           lock_op(fd, F_GETLK, F_WRLCK, 0, 0) == F_UNLCK;
}

bool
mayday_segment_file_is_abandoned(const mayday_segment_file_t *file)
{
    return is_abandoned(file->fd);
}

bool
mayday_segment_name_is_abandoned(const char *run_dir, const char *name)
{
    int fd = open_in(run_dir, name, O_RDWR);

    if (fd == -1) {
        return false;
    }
    bool abandoned = is_abandoned(fd);
    close(fd);
    return abandoned;
}

void
mayday_segment_name_remove(const char *run_dir, const char *name)
{
    char path[PATH_SIZE];
    int len = snprintf(path, sizeof(path), "%s/%s", run_dir, name);

    if (len > 0 && (size_t) len < sizeof(path)) {
        (void) unlink(path);
    }
}
