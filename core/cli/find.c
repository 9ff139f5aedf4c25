/*
 * Finding the instance; see find.h.
 *
 * A run directory may be entered by all but listed by its owner only, so its
 * socket is tried by name. Where mayday_socket says otherwise the settings tell,
 * to those who may read them.
 */
#include "core/cli/find.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/agent/instance.h"
#include "core/agent/status.h"
#include "core/capture/supervise.h"

#define ANSWERING_MAX 64
#define SILENT_MAX 5 /* shown; run directories of ended servers lie about */

typedef struct {
    char run_dir[256];
    char socket_path[MAYDAY_SOCKET_PATH_SIZE];
    char identity[256]; /* the server's configuration file, or ""  */
    char why[512];      /* it does not answer, or "" */
} instance_t;

typedef struct {
    instance_t answering[ANSWERING_MAX]; /* also those that this user may not ask */
    size_t answering_count;
    instance_t silent[SILENT_MAX];
    size_t silent_count; /* all of them */
} instances_t;

/* "dir" or "dir/name"; false: too long, or empty. */
static bool
set_path(char *out, size_t size, const char *dir, const char *name)
{
    mayday_buf_t path;

    mayday_buf_init(&path, out, size);
    mayday_buf_adds(&path, dir);
    if (name != NULL) {
        mayday_buf_addc(&path, '/');
        mayday_buf_adds(&path, name);
    }
    return path.len > 0 && !path.truncated;
}

/* The socket, as far as this user can know. */
static void
learn_socket(instance_t *instance)
{
    char text[256];
    mayday_buf_t ignored;
    mayday_current_t current;
    mayday_settings_t *settings = NULL;

    if (!set_path(instance->socket_path, sizeof(instance->socket_path), instance->run_dir,
                  MAYDAY_SOCKET_NAME)) {
        instance->socket_path[0] = '\0';
    }
    mayday_buf_init(&ignored, text, sizeof(text));
    if (mayday_current_read(instance->run_dir, &current, &ignored) == MAYDAY_OK) {
        settings = mayday_instance_settings(instance->run_dir, current.settings, &ignored);
    }
    if (settings != NULL && settings->socket_path[0] != '\0' &&
        !set_path(instance->socket_path, sizeof(instance->socket_path), settings->socket_path,
                  NULL)) {
        instance->socket_path[0] = '\0';
    }
    if (settings != NULL) {
        snprintf(instance->identity, sizeof(instance->identity), "%.16s, %.200s", settings->server,
                 settings->identity);
    }
    mayday_settings_free(settings);
}

static void
set_why(instance_t *instance, const char *what, const char *text, const char *detail)
{
    mayday_buf_t why;

    mayday_buf_init(&why, instance->why, sizeof(instance->why));
    mayday_buf_adds(&why, what);
    mayday_buf_adds(&why, text);
    if (detail != NULL) {
        mayday_buf_addf(&why, " (%s)", detail);
    }
}

/* Why its agent could not start, in its own words. */
static void
learn_status(instance_t *instance)
{
    char path[300], line[400] = "";
    FILE *file = NULL;

    if (set_path(path, sizeof(path), instance->run_dir, "agent.status")) {
        file = fopen(path, "re");
    }
    if (file == NULL) {
        return;
    }
    if (fgets(line, sizeof(line), file) != NULL) {
        char *text = strchr(line, ' '); /* "CODE TEXT" */

        line[strcspn(line, "\n")] = '\0';
        if (text != NULL && strncmp(line, "0 ", 2) != 0) {
            set_why(instance, "the agent could not start: ", text + 1, NULL);
        }
    }
    fclose(file);
}

/* Whether somebody listens; else why not is noted. */
static bool
probe(instance_t *instance)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool answers;

    learn_socket(instance);
    memcpy(address.sun_path, instance->socket_path, sizeof(address.sun_path));
    answers = fd >= 0 &&
              connect(fd, (const struct sockaddr *) (const void *) &address, sizeof(address)) == 0;
    /* The client will say what is missing, or wait. */
    answers = answers || errno == EACCES || errno == EPERM || errno == EAGAIN;
    if (!answers) {
        set_why(instance, "no agent answers at ", instance->socket_path, strerror(errno));
        learn_status(instance);
    }
    if (fd >= 0) {
        close(fd);
    }
    return answers;
}

static void
add(instances_t *found, const char *run_dir)
{
    instance_t instance = {0};
    struct stat st;

    if (found->answering_count == ANSWERING_MAX || stat(run_dir, &st) != 0 ||
        !S_ISDIR(st.st_mode) ||
        !set_path(instance.run_dir, sizeof(instance.run_dir), run_dir, NULL)) {
        return;
    }
    if (probe(&instance)) {
        found->answering[found->answering_count++] = instance;
    } else if (found->silent_count++ < SILENT_MAX) {
        found->silent[found->silent_count - 1] = instance;
    }
}

static void
scan_directory(instances_t *found, const char *directory, uid_t owner)
{
    char pattern[300];
    struct stat st;
    glob_t names;

    /* In /dev/shm anybody can make a directory of that name. */
    if (stat(directory, &st) != 0 || st.st_uid != owner ||
        !set_path(pattern, sizeof(pattern), directory, "*") ||
        glob(pattern, 0, NULL, &names) != 0) {
        return;
    }
    for (size_t i = 0; i < names.gl_pathc; i++) {
        add(found, names.gl_pathv[i]);
    }
    globfree(&names);
}

/* Where mayday_run_dir puts the instances of root and of this user. */
static void
scan(instances_t *found)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    char path[300];

    scan_directory(found, "/run/mayday", 0);
    scan_directory(found, "/dev/shm/mayday-0", 0);
    if (xdg != NULL && xdg[0] == '/' && set_path(path, sizeof(path), xdg, "mayday")) {
        scan_directory(found, path, geteuid());
    }
    if (geteuid() != 0) {
        snprintf(path, sizeof(path), "/dev/shm/mayday-%lu", (unsigned long) geteuid());
        scan_directory(found, path, geteuid());
    }
}

/* A state directory names its run directory; a run directory is taken as it is. */
static void
add_directory(instances_t *found, const char *directory)
{
    char path[300], absolute[PATH_MAX];
    const uid_t users[] = {0, geteuid()};
    mayday_slice_t state;
    mayday_buf_t run_dir;

    if (realpath(directory, absolute) == NULL) {
        snprintf(absolute, sizeof(absolute), "%s", directory);
    }
    if (set_path(path, sizeof(path), absolute, "current") && access(path, F_OK) == 0) {
        add(found, absolute);
        return;
    }
    state = mayday_slice_str(directory);
    while (state.len > 1 && state.data[state.len - 1] == '/') {
        state.len--;
    }
    for (size_t i = 0; i < MAYDAY_COUNT(users); i++) {
        if (found->answering_count + found->silent_count > 0) {
            return;
        }
        mayday_buf_init(&run_dir, path, sizeof(path));
        if (mayday_run_dir(&run_dir, state, users[i]) == MAYDAY_OK) {
            add(found, path);
        }
    }
}

static int
say_none(const mayday_cli_t *cli, const instances_t *found)
{
    for (size_t i = 0; i < found->silent_count && i < SILENT_MAX; i++) {
        char prefix[300];

        snprintf(prefix, sizeof(prefix), "%s: ", found->silent[i].run_dir);
        mayday_cli_error_text(prefix, found->silent[i].why);
    }
    if (found->silent_count > SILENT_MAX) {
        mayday_cli_error("and %zu more", found->silent_count - SILENT_MAX);
    }
    if (found->silent_count > 0) {
        fputs("Is the server running, with \"mayday on\"? Its error log says why an agent does not "
              "start.\n",
              stderr);
    } else if (cli->directory != NULL) {
        mayday_cli_error_text("no instance uses the directory ", cli->directory);
        fputs(
            "Give what mayday_directory says, or the run directory (/run/mayday/...), and see that "
            "the server runs.\n",
            stderr);
    } else {
        mayday_cli_error("no instance found in /run/mayday, /dev/shm/mayday-0 or this user's own "
                         "directories");
        fputs("Is the server running, with \"mayday on\"? With mayday_socket elsewhere, add "
              "--socket PATH.\n",
              stderr);
    }
    return MAYDAY_EXIT_NO_AGENT;
}

static int
say_several(const instances_t *found)
{
    mayday_term_t term;

    mayday_cli_error("there are several instances; choose one with --directory:");
    mayday_term_init(&term, stderr);
    for (size_t i = 0; i < found->answering_count; i++) {
        const instance_t *instance = &found->answering[i];

        fputs("  --directory ", stderr);
        (void) mayday_term_text(&term, MAYDAY_STYLE_PLAIN, mayday_slice_str(instance->run_dir), 0);
        fputs(instance->identity[0] == '\0' ? "" : "   ", stderr);
        (void) mayday_term_text(&term, MAYDAY_STYLE_DIM, mayday_slice_str(instance->identity), 0);
        fputc('\n', stderr);
    }
    return MAYDAY_EXIT_USAGE;
}

/*
 * MAYDAY_OK: the socket's path is set. MAYDAY_NOT_FOUND, MAYDAY_BUSY: found tells
 * what there is; free it. MAYDAY_INVALID: --socket is wrong. MAYDAY_NO_MEMORY.
 */
static mayday_rc_t
find(mayday_cli_t *cli, instances_t **found)
{
    *found = NULL;
    if (cli->socket_path[0] != '\0') {
        return MAYDAY_OK; /* found before */
    }
    if (cli->socket != NULL) {
        if (!set_path(cli->socket_path, sizeof(cli->socket_path), cli->socket, NULL)) {
            cli->socket_path[0] = '\0';
            return MAYDAY_INVALID;
        }
        return MAYDAY_OK;
    }
    *found = calloc(1, sizeof(**found));
    if (*found == NULL) {
        return MAYDAY_NO_MEMORY;
    }
    if (cli->directory != NULL) {
        add_directory(*found, cli->directory);
    } else {
        scan(*found);
    }
    if ((*found)->answering_count != 1) {
        return (*found)->answering_count == 0 ? MAYDAY_NOT_FOUND : MAYDAY_BUSY;
    }
    memcpy(cli->socket_path, (*found)->answering[0].socket_path, sizeof(cli->socket_path));
    memcpy(cli->silent, (*found)->silent[0].run_dir, sizeof(cli->silent));
    cli->silent_count = (*found)->silent_count;
    return MAYDAY_OK;
}

mayday_rc_t
mayday_find_quietly(mayday_cli_t *cli)
{
    instances_t *found;
    mayday_rc_t rc = find(cli, &found);

    free(found);
    return rc;
}

int
mayday_find_agent(mayday_cli_t *cli)
{
    instances_t *found;
    int exit_code = MAYDAY_EXIT_OK;

    switch (find(cli, &found)) {
    case MAYDAY_OK:
        break;
    case MAYDAY_INVALID:
        exit_code = mayday_cli_usage(cli, "the path of --socket is empty or too long");
        break;
    case MAYDAY_NOT_FOUND:
        exit_code = say_none(cli, found);
        break;
    case MAYDAY_BUSY:
        exit_code = say_several(found);
        break;
    default:
        mayday_cli_error("no memory");
        exit_code = MAYDAY_EXIT_FAILED;
    }
    free(found);
    return exit_code;
}
