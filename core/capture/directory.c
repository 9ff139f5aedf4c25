/*
 * Directories of the instance. See directory.h for where this may run.
 *
 * The agent's user owns these directories and may be hostile to the master, who
 * is root: nothing in them is followed, opened without O_NOFOLLOW, or believed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/capture/directory.h"

#define ENTRIES_MAX 10000 /* of a directory that is taken over */

static mayday_rc_t
make_parents(const char *path, mayday_buf_t *error)
{
    char part[512];
    size_t len = strlen(path);

    if (path[0] != '/' || len >= sizeof(part)) {
        mayday_buf_addf(error, "\"%s\" is not an absolute path of at most %zu bytes", path,
                        sizeof(part) - 1);
        return MAYDAY_INVALID;
    }
    for (size_t i = 1; i < len; i++) {
        if (path[i] != '/') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) == 0) {
            /* the starting shell's umask must not lock the agent's user out */
            if (chmod(part, 0755) != 0) {
                break;
            }
        } else if (errno != EEXIST && errno != EROFS) {
            mayday_buf_addf(error, "cannot make %s: %s", part, strerror(errno));
            return MAYDAY_ERROR;
        }
    }
    return MAYDAY_OK;
}

static mayday_rc_t
check_parent(const mayday_directory_t *d, mayday_buf_t *error)
{
    char parent[512];
    struct stat st;
    const char *slash = strrchr(d->path, '/');

    snprintf(parent, sizeof(parent), "%.*s", (int) (slash - d->path), d->path);
    if (lstat(parent, &st) != 0) {
        mayday_buf_addf(error, "cannot look at %s: %s", parent, strerror(errno));
        return MAYDAY_ERROR;
    }
    if (!S_ISDIR(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
        (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        mayday_buf_addf(error,
                        "%s is not safe: expected a directory of user %lu or 0 that nobody else "
                        "can write (it belongs to %lu, mode %04o); remove it",
                        parent, (unsigned long) geteuid(), (unsigned long) st.st_uid,
                        (unsigned) st.st_mode & 07777);
        return MAYDAY_DENIED;
    }
    return MAYDAY_OK;
}

/* Visits regular files with one name; gives those of the old owner to the new one. */
static void
take_over_entry(int dirfd, const char *name, uid_t old_uid, uid_t uid, gid_t gid)
{
    struct stat st;
    int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        return;
    }
    /* a second name could be somebody else's file, linked in here for us to give away */
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == old_uid &&
        fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0) {
        /* the agent will say which file it cannot open */
        errno = 0;
    }
    close(fd);
}

/* Whether the directory is empty or ours; with uid given, its files change hands. */
static bool
walk(int dirfd, const char *marker, bool *ours, uid_t old_uid, uid_t uid, gid_t gid)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    size_t seen = 0;
    bool empty = true;

    if (dir == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    *ours = false;
    while ((entry = readdir(dir)) != NULL && seen++ < ENTRIES_MAX) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        empty = false;
        if (strcmp(entry->d_name, marker) == 0) {
            *ours = true;
        }
        if (uid != (uid_t) -1) {
            take_over_entry(dirfd, entry->d_name, old_uid, uid, gid);
        }
    }
    closedir(dir);
    if (empty) {
        *ours = true;
    }
    return true;
}

static mayday_rc_t
adopt(int fd, const mayday_directory_t *d, bool made, mayday_buf_t *error)
{
    struct stat st;
    bool root = geteuid() == 0, ours = made, give;

    if (fstat(fd, &st) != 0) {
        mayday_buf_addf(error, "cannot look at %s: %s", d->path, strerror(errno));
        return MAYDAY_ERROR;
    }
    if (!root && st.st_uid != geteuid()) {
        mayday_buf_addf(error, "%s belongs to user %lu, expected %lu", d->path,
                        (unsigned long) st.st_uid, (unsigned long) geteuid());
        return MAYDAY_DENIED;
    }
    give = root && (st.st_uid != d->uid || st.st_gid != d->gid);
    if (!give && (st.st_mode & 07777) == d->mode) {
        return MAYDAY_OK;
    }
    if (!made && !walk(fd, d->marker, &ours, 0, (uid_t) -1, 0)) {
        mayday_buf_addf(error, "cannot read %s: %s", d->path, strerror(errno));
        return MAYDAY_ERROR;
    }
    if (!ours) {
        mayday_buf_addf(error,
                        "%s is in use by something else: expected an empty directory, or one "
                        "with mode %04o of user %lu",
                        d->path, (unsigned) d->mode, (unsigned long) d->uid);
        return MAYDAY_DENIED;
    }
    if (give && !made) {
        walk(fd, d->marker, &ours, st.st_uid, d->uid, d->gid);
    }
    if ((give && fchown(fd, d->uid, d->gid) != 0) || fchmod(fd, d->mode) != 0) {
        mayday_buf_addf(error, "cannot set owner and mode of %s: %s", d->path, strerror(errno));
        return MAYDAY_ERROR;
    }
    return MAYDAY_OK;
}

int
mayday_directory_open(const mayday_directory_t *d, mayday_buf_t *error)
{
    bool made;
    int fd;

    if (make_parents(d->path, error) != MAYDAY_OK) {
        return -1;
    }
    if (d->parent_private && check_parent(d, error) != MAYDAY_OK) {
        return -1;
    }
    made = mkdir(d->path, 0700) == 0;
    if (!made && errno != EEXIST) {
        mayday_buf_addf(error, "cannot make %s: %s", d->path, strerror(errno));
        return -1;
    }
    fd = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        mayday_buf_addf(error, "cannot open %s: %s", d->path,
                        errno == ELOOP || errno == ENOTDIR ? "it is not a directory"
                                                           : strerror(errno));
        return -1;
    }
    if (adopt(fd, d, made, error) != MAYDAY_OK) {
        close(fd);
        return -1;
    }
    return fd;
}

static mayday_rc_t
write_all(int fd, mayday_slice_t content)
{
    size_t done = 0;

    while (done < content.len) {
        ssize_t n = write(fd, content.data + done, content.len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return MAYDAY_ERROR;
        }
        done += (size_t) n;
    }
    return MAYDAY_OK;
}

mayday_rc_t
mayday_directory_write(int dirfd, const char *name, mode_t mode, uid_t uid, gid_t gid,
                       mayday_slice_t content)
{
    char temporary[128];
    int fd, saved;
    bool done;

    snprintf(temporary, sizeof(temporary), ".%s.%ld", name, (long) getpid());
    unlinkat(dirfd, temporary, 0);
    fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return MAYDAY_ERROR;
    }
    done = write_all(fd, content) == MAYDAY_OK && fchmod(fd, mode) == 0 &&
           (uid == (uid_t) -1 || fchown(fd, uid, gid) == 0);
    saved = errno;
    if (close(fd) != 0 && done) {
        done = false;
        saved = errno;
    }
    if (done && renameat(dirfd, temporary, dirfd, name) == 0) {
        return MAYDAY_OK;
    }
    if (done) {
        saved = errno;
    }
    unlinkat(dirfd, temporary, 0);
    errno = saved;
    return MAYDAY_ERROR;
}

mayday_rc_t
mayday_directory_read(int dirfd, const char *name, mayday_buf_t *text)
{
    struct stat st;
    mayday_rc_t rc = MAYDAY_OK;
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    text->len = 0;
    text->data[0] = '\0';
    if (fd < 0) {
        return errno == ENOENT ? MAYDAY_NOT_FOUND : errno == ELOOP ? MAYDAY_INVALID : MAYDAY_ERROR;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = MAYDAY_INVALID;
    }
    while (rc == MAYDAY_OK && text->len + 1 < text->size) {
        ssize_t n = read(fd, text->data + text->len, text->size - 1 - text->len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = MAYDAY_ERROR;
        }
        if (n <= 0) {
            break;
        }
        text->len += (size_t) n;
    }
    if (rc == MAYDAY_OK && text->len + 1 == text->size) {
        rc = MAYDAY_INVALID;
    }
    text->data[text->len] = '\0';
    close(fd);
    return rc;
}
