/*
 * The API's daemon: socket, requests, answers. What the resources do is in
 * api_resources.c. Threads of their own, made by libmicrohttpd.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/agent/api_private.h"
#include "core/agent/log.h"

#define CONNECTIONS_MAX 16u
#define CONNECTION_TIMEOUT_S 15u
#define CONNECTION_MEMORY (32u * 1024)
#define THREAD_STACK (512u * 1024)
#define BACKLOG 16

struct mayday_api {
    mayday_agent_t *agent;
    struct MHD_Daemon *daemon;
    char path[sizeof(((struct sockaddr_un *) 0)->sun_path)];
    char group[64];
    unsigned mode;
    dev_t device; /* of the socket's file */
    ino_t inode;
};

/* ---- requests ---- */

/* One request's body while it comes in. */
typedef struct {
    size_t len;
    bool too_large;
    char *body; /* MAYDAY_API_BODY_MAX + 1 bytes once there is any */
} upload_t;

static void
free_upload(void *cls, struct MHD_Connection *connection, void **state,
            enum MHD_RequestTerminationCode code)
{
    upload_t *upload = *state;

    (void) cls;
    (void) connection;
    (void) code;
    if (upload != NULL) {
        free(upload->body);
        free(upload);
        *state = NULL;
    }
}

static void
take_upload(upload_t *upload, const char *data, size_t len)
{
    if (upload->body == NULL) {
        upload->body = malloc(MAYDAY_API_BODY_MAX + 1);
    }
    if (upload->body == NULL || len > MAYDAY_API_BODY_MAX - upload->len) {
        upload->too_large = true;
        return;
    }
    memcpy(upload->body + upload->len, data, len);
    upload->len += len;
}

static enum MHD_Result
respond(struct MHD_Connection *connection, const mayday_answer_t *answer)
{
    struct MHD_Response *response;
    enum MHD_Result result;

    if (answer->text == NULL) {
        static char empty[] = "{\"error\":\"no memory\"}";
        response =
            MHD_create_response_from_buffer(sizeof(empty) - 1, empty, MHD_RESPMEM_PERSISTENT);
    } else {
        response =
            MHD_create_response_from_buffer(answer->len, answer->text, MHD_RESPMEM_MUST_FREE);
    }
    if (response == NULL) {
        free(answer->text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            answer->type == NULL ? "application/json" : answer->type);
    result = MHD_queue_response(
        connection, answer->text == NULL ? MHD_HTTP_INTERNAL_SERVER_ERROR : answer->status,
        response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
       const char *version, const char *data, size_t *data_len, void **state)
{
    mayday_api_t *api = cls;
    upload_t *upload = *state;
    mayday_answer_t answer = {.status = MHD_HTTP_OK};

    (void) version;
    if (upload == NULL) {
        *state = calloc(1, sizeof(*upload));
        return *state == NULL ? MHD_NO : MHD_YES;
    }
    if (*data_len > 0) {
        take_upload(upload, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    if (upload->too_large) {
        mayday_answer_error(&answer, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    } else {
        mayday_request_t request = {
            .agent = api->agent,
            .connection = connection,
            .method = method,
            .path = url,
            .body = mayday_slice(upload->body, upload->len),
        };
        mayday_api_dispatch(&request, &answer);
    }
    return respond(connection, &answer);
}

/* ---- the socket ---- */

static void
set_access(const mayday_api_t *api, const char *path)
{
    const struct group *found;
    struct stat st;

    if (api->group[0] == '\0' || stat(path, &st) != 0) {
        return;
    }
    /* no other thread asks, and getgrnam has room for groups of any size */
    found = getgrnam(api->group);
    if (found == NULL) {
        mayday_log(MAYDAY_LOG_WARN, "MD0141", "mayday_socket: there is no group \"%s\"",
                   api->group);
    } else if (st.st_gid != found->gr_gid && chown(path, (uid_t) -1, found->gr_gid) != 0) {
        mayday_log(MAYDAY_LOG_WARN, "MD0142",
                   "cannot give %s to the group %s: %s; the agent's "
                   "user must be in it",
                   path, api->group, strerror(errno));
    }
}

/* The socket of a dead agent may be replaced, nothing else. */
static bool
is_free(const char *path, mayday_buf_t *error)
{
    struct stat st;

    if (lstat(path, &st) != 0 || S_ISSOCK(st.st_mode)) {
        return true;
    }
    mayday_buf_addf(error, "%s is there and is no socket", path);
    return false;
}

/* A listening socket that appears under its name with the right access. */
static int
listen_at(mayday_api_t *api, mayday_buf_t *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    int fd, len;

    len = snprintf(address.sun_path, sizeof(address.sun_path), "%s.new", api->path);
    if (len < 0 || (size_t) len >= sizeof(address.sun_path)) {
        mayday_buf_addf(error, "the path of the socket %s is too long", api->path);
        return -1;
    }
    if (!is_free(api->path, error) || !is_free(address.sun_path, error)) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        mayday_buf_addf(error, "cannot make a socket: %s", strerror(errno));
        return -1;
    }
    unlink(address.sun_path);
    /* the umask keeps others away until the mode is set */
    if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, BACKLOG) != 0) {
        mayday_buf_addf(error, "cannot listen on %s: %s", api->path, strerror(errno));
        close(fd);
        return -1;
    }
    set_access(api, address.sun_path);
    if (chmod(address.sun_path, api->mode) != 0 || lstat(address.sun_path, &st) != 0 ||
        rename(address.sun_path, api->path) != 0) {
        mayday_buf_addf(error, "cannot make the socket %s: %s", api->path, strerror(errno));
        unlink(address.sun_path);
        close(fd);
        return -1;
    }
    api->device = st.st_dev;
    api->inode = st.st_ino;
    return fd;
}

/* Whatever has taken the name meanwhile stays. */
static void
remove_socket(const mayday_api_t *api)
{
    struct stat st;

    if (lstat(api->path, &st) == 0 && st.st_dev == api->device && st.st_ino == api->inode) {
        unlink(api->path);
    }
}

static bool
set_address(mayday_api_t *api, const mayday_settings_t *settings)
{
    int len;

    if (settings->socket_path[0] != '\0') {
        len = snprintf(api->path, sizeof(api->path), "%s", settings->socket_path);
    } else {
        len = snprintf(api->path, sizeof(api->path), "%s/" MAYDAY_SOCKET_NAME, api->agent->run_dir);
    }
    snprintf(api->group, sizeof(api->group), "%s", settings->socket_group);
    api->mode = settings->socket_mode == 0 ? 0660 : settings->socket_mode;
    return len > 0 && (size_t) len < sizeof(api->path);
}

mayday_api_t *
mayday_api_new(mayday_agent_t *agent, const mayday_settings_t *settings, mayday_buf_t *error)
{
    mayday_api_t *api = calloc(1, sizeof(*api));
    int fd = -1;

    if (api == NULL) {
        mayday_buf_adds(error, "no memory");
        return NULL;
    }
    api->agent = agent;
    if (!set_address(api, settings)) {
        mayday_buf_adds(error, "the path of the socket is too long");
    } else {
        fd = listen_at(api, error);
    }
    if (fd >= 0) {
        api->daemon = MHD_start_daemon(
            MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, 0, NULL,
            NULL, handle, api, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
            CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
            MHD_OPTION_THREAD_STACK_SIZE, (size_t) THREAD_STACK, MHD_OPTION_NOTIFY_COMPLETED,
            free_upload, NULL, MHD_OPTION_END);
        if (api->daemon == NULL) {
            mayday_buf_adds(error, "the HTTP server does not start");
            remove_socket(api);
            close(fd);
        }
    }
    if (api->daemon == NULL) {
        free(api);
        return NULL;
    }
    return api;
}

void
mayday_api_free(mayday_api_t *api)
{
    if (api != NULL) {
        MHD_stop_daemon(api->daemon);
        remove_socket(api);
        free(api);
    }
}

bool
mayday_api_fits(const mayday_api_t *api, const mayday_settings_t *settings)
{
    mayday_api_t wanted = {.agent = api->agent};

    return set_address(&wanted, settings) && strcmp(wanted.path, api->path) == 0 &&
           strcmp(wanted.group, api->group) == 0 && wanted.mode == api->mode;
}
