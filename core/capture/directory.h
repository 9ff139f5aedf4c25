/*
 * The instance's two directories: makes them, or takes over what is there if it
 * is safe to.
 *
 * Runs in the server's master only, when the configuration is in force.
 * Allocates nothing.
 */
#ifndef MAYDAY_DIRECTORY_H
#define MAYDAY_DIRECTORY_H

#include <sys/types.h>

#include "core/base/buf.h"

typedef struct {
    const char *path;   /* absolute                                             */
    const char *marker; /* a file that only a directory of ours has             */
    mode_t mode;        /* what the directory shall have                        */
    uid_t uid;          /* whose it shall be; only root can give it away        */
    gid_t gid;
    bool parent_private; /* refuse a parent that others than its owner can write */
} mayday_directory_t;

/*
 * Makes the directory and its missing parents (0755). One that is there must be
 * a directory and no symbolic link, and belong to this user or the agent's. With
 * another mode or, for root, another owner it is changed only if it is empty or
 * holds the marker, its files along with it: a wrong path in the configuration
 * must not take away a directory that others use. Returns a descriptor of the
 * directory (close-on-exec), or -1 with what is wrong in *error.
 */
int mayday_directory_open(const mayday_directory_t *directory, mayday_buf_t *error);

/*
 * Writes a file as a whole, by rename: readers see the old one or the new one.
 * uid (uid_t) -1 leaves the owner. MAYDAY_ERROR: errno says why, nothing changed.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_directory_write(int dirfd, const char *name, mode_t mode,
                                                     uid_t uid, gid_t gid, mayday_slice_t content);

/*
 * Reads a small regular file into text. MAYDAY_NOT_FOUND; MAYDAY_INVALID: not a
 * regular file, or too large; MAYDAY_ERROR: errno says why.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_directory_read(int dirfd, const char *name,
                                                    mayday_buf_t *text);

#endif
