/*
 * Reading the run directory. Runs in the agent's main thread and its pipeline.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/agent/instance.h"
#include "core/capture/lane_format.h"
#include "core/capture/settings.h"
#include "core/capture/supervise.h"

#define SETTINGS_KEPT 64u
#define SETTINGS_SEEN_MAX 4096u /* of one look into the directory */

static bool
run_path(char *path, size_t size, const char *run_dir, const char *name)
{
    int len = snprintf(path, size, "%s/%s", run_dir, name);

    return len > 0 && (size_t) len < size;
}

bool
mayday_current_has_changed(const char *run_dir, const mayday_current_t *current)
{
    char path[512];
    struct stat st;

    return run_path(path, sizeof(path), run_dir, MAYDAY_FILE_CURRENT) && stat(path, &st) == 0 &&
           (st.st_dev != current->device || st.st_ino != current->inode ||
            st.st_mtim.tv_sec != current->changed.tv_sec ||
            st.st_mtim.tv_nsec != current->changed.tv_nsec);
}

/*
 * A small regular file, whole, into storage from malloc, ended with NUL. NULL:
 * errno says why.
 */
static char *
read_file(const char *path, size_t size_max, size_t *len, struct stat *st)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    char *text = NULL;
    ssize_t n = 0;

    if (fd < 0) {
        return NULL;
    }
    *len = 0;
    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode) || (uint64_t) st->st_size > size_max) {
        errno = EINVAL;
    } else {
        text = malloc((size_t) st->st_size + 1);
    }
    while (text != NULL && *len < (size_t) st->st_size) {
        n = read(fd, text + *len, (size_t) st->st_size - *len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        *len += (size_t) n;
    }
    close(fd);
    if (text != NULL) {
        text[*len] = '\0';
    }
    return text;
}

mayday_rc_t
mayday_instance_hash_key(const char *state_dir, uint8_t key[MAYDAY_HASH_KEY_BYTES])
{
    char path[512], *bytes;
    struct stat st;
    size_t len;

    if (!run_path(path, sizeof(path), state_dir, MAYDAY_FILE_HASH_KEY)) {
        return MAYDAY_INVALID;
    }
    bytes = read_file(path, MAYDAY_HASH_KEY_BYTES, &len, &st);
    if (bytes == NULL) {
        return MAYDAY_ERROR;
    }
    if (len == MAYDAY_HASH_KEY_BYTES) {
        memcpy(key, bytes, MAYDAY_HASH_KEY_BYTES);
    }
    free(bytes);
    return len == MAYDAY_HASH_KEY_BYTES ? MAYDAY_OK : MAYDAY_INVALID;
}

/* The value of the line "name value", "" if there is none. Cuts it to size. */
static void
line_value(const char *text, const char *name, char *value, size_t size)
{
    size_t name_len = strlen(name);

    value[0] = '\0';
    for (const char *line = text; *line != '\0';) {
        size_t len = strcspn(line, "\n");

        if (len > name_len && memcmp(line, name, name_len) == 0 && line[name_len] == ' ') {
            snprintf(value, size, "%.*s", (int) (len - name_len - 1), line + name_len + 1);
            return;
        }
        line += len;
        line += *line == '\n';
    }
}

mayday_rc_t
mayday_current_read(const char *run_dir, mayday_current_t *current, mayday_buf_t *error)
{
    char path[512], hex[MAYDAY_HASH_HEX_SIZE + 1], *text;
    struct stat st;
    size_t len, prefix = sizeof(MAYDAY_SEGMENT_PREFIX) - 1;
    bool valid;

    if (!run_path(path, sizeof(path), run_dir, MAYDAY_FILE_CURRENT)) {
        mayday_buf_addf(error, "%s is too long", run_dir);
        return MAYDAY_INVALID;
    }
    text = read_file(path, MAYDAY_FILE_SIZE_MAX, &len, &st);
    if (text == NULL) {
        mayday_buf_addf(error, "cannot read %s: %s", path, strerror(errno));
        return errno == ENOENT ? MAYDAY_NOT_FOUND : MAYDAY_ERROR;
    }
    memset(current, 0, sizeof(*current));
    current->device = st.st_dev;
    current->inode = st.st_ino;
    current->changed = st.st_mtim;
    line_value(text, "settings", hex, sizeof(hex));
    line_value(text, "segment", current->segment, sizeof(current->segment));
    free(text);
    valid =
        mayday_unhex(current->settings, MAYDAY_HASH_BYTES, mayday_slice_str(hex)) == MAYDAY_OK &&
        strncmp(current->segment, MAYDAY_SEGMENT_PREFIX, prefix) == 0 &&
        current->segment[prefix] != '\0' &&
        current->segment[prefix + strspn(current->segment + prefix, "0123456789abcdef")] == '\0';
    if (!valid) {
        mayday_buf_addf(error, "%s is malformed", path);
        return MAYDAY_INVALID;
    }
    return MAYDAY_OK;
}

static bool
settings_path(char *path, size_t size, const char *run_dir, const uint8_t hash[MAYDAY_HASH_BYTES])
{
    char hex[MAYDAY_HASH_HEX_SIZE], name[sizeof(MAYDAY_SETTINGS_PREFIX) + MAYDAY_HASH_HEX_SIZE];

    mayday_hex(hex, hash, MAYDAY_HASH_BYTES);
    snprintf(name, sizeof(name), MAYDAY_SETTINGS_PREFIX "%s", hex);
    return run_path(path, size, run_dir, name);
}

mayday_settings_t *
mayday_instance_settings(const char *run_dir, const uint8_t hash[MAYDAY_HASH_BYTES],
                         mayday_buf_t *error)
{
    char path[512], problem[128], *text;
    mayday_settings_t *settings;
    struct stat st;
    size_t len;

    if (!settings_path(path, sizeof(path), run_dir, hash)) {
        mayday_buf_addf(error, "%s is too long", run_dir);
        return NULL;
    }
    text = read_file(path, MAYDAY_SETTINGS_SIZE_MAX, &len, &st);
    if (text == NULL) {
        mayday_buf_addf(error, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    settings = mayday_settings_new(mayday_slice(text, len), problem, sizeof(problem));
    free(text);
    if (settings == NULL) {
        mayday_buf_addf(error, "%s, %s", path, problem);
    } else if (memcmp(settings->hash, hash, MAYDAY_HASH_BYTES) != 0) {
        mayday_buf_addf(error, "%s is not what its name says", path);
        mayday_settings_free(settings);
        settings = NULL;
    }
    return settings;
}

/* ---- upkeep ---- */

typedef struct {
    char name[sizeof(MAYDAY_SETTINGS_PREFIX) + MAYDAY_HASH_HEX_SIZE];
    struct timespec changed;
} settings_file_t;

static int
newest_first(const void *a, const void *b)
{
    const struct timespec *x = &((const settings_file_t *) a)->changed;
    const struct timespec *y = &((const settings_file_t *) b)->changed;

    if (x->tv_sec != y->tv_sec) {
        return x->tv_sec < y->tv_sec ? 1 : -1;
    }
    return x->tv_nsec == y->tv_nsec ? 0 : x->tv_nsec < y->tv_nsec ? 1 : -1;
}

static size_t
list_settings(DIR *dir, settings_file_t *files, size_t max)
{
    struct dirent *entry;
    struct stat st;
    size_t count = 0;

    while (count < max && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, MAYDAY_SETTINGS_PREFIX, sizeof(MAYDAY_SETTINGS_PREFIX) - 1) ==
                0 &&
            strlen(entry->d_name) < sizeof(files->name) &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            memcpy(files[count].name, entry->d_name, strlen(entry->d_name) + 1);
            files[count++].changed = st.st_mtim;
        }
    }
    return count;
}

void
mayday_instance_settings_trim(const char *run_dir, const uint8_t keep[MAYDAY_HASH_BYTES])
{
    DIR *dir = opendir(run_dir);
    settings_file_t *files = calloc(SETTINGS_SEEN_MAX, sizeof(*files));
    char hex[MAYDAY_HASH_HEX_SIZE];
    size_t count;

    if (dir != NULL && files != NULL) {
        count = list_settings(dir, files, SETTINGS_SEEN_MAX);
        qsort(files, count, sizeof(*files), newest_first);
        mayday_hex(hex, keep, MAYDAY_HASH_BYTES);
        for (size_t i = SETTINGS_KEPT; i < count; i++) {
            if (strcmp(files[i].name + sizeof(MAYDAY_SETTINGS_PREFIX) - 1, hex) != 0) {
                unlinkat(dirfd(dir), files[i].name, 0);
            }
        }
    }
    free(files);
    if (dir != NULL) {
        closedir(dir);
    }
}

mayday_rc_t
mayday_instance_lock(const char *directory)
{
    char path[512], text[32];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd, len;

    if (!run_path(path, sizeof(path), directory, MAYDAY_FILE_AGENT_LOCK)) {
        errno = ENAMETOOLONG;
        return MAYDAY_ERROR;
    }
    fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        return MAYDAY_ERROR;
    }
    if (fcntl(fd, F_SETLK, &lock) != 0) {
        mayday_rc_t rc = errno == EACCES || errno == EAGAIN ? MAYDAY_BUSY : MAYDAY_ERROR;
        close(fd);
        return rc;
    }
    len = snprintf(text, sizeof(text), "%ld\n", (long) getpid());
    if (fchmod(fd, 0644) != 0 || ftruncate(fd, 0) != 0 ||
        pwrite(fd, text, (size_t) len, 0) != len) {
        /* the pid in it is for people; the lock is what counts */
        errno = 0;
    }
    return MAYDAY_OK;
}

void
mayday_instance_status(const char *run_dir, int code, const char *text)
{
    char path[512];
    int fd;

    if (!run_path(path, sizeof(path), run_dir, MAYDAY_FILE_AGENT_STATUS)) {
        return;
    }
    if (code == 0) {
        unlink(path);
        return;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0) {
        dprintf(fd, "%d %s\n", code, text);
        close(fd);
    }
}
