/*
 * The client of the agent's API; see client.h.
 */
#include "core/cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/cli/find.h"
#include "core/event/json.h"

#define CONNECT_TIMEOUT_S 5L

static size_t
receive(char *data, size_t size, size_t n, void *context)
{
    mayday_reply_t *reply = context;
    size_t len = size * n;
    char *body;

    if (len > MAYDAY_CLIENT_BODY_MAX - reply->len) {
        return 0;
    }
    body = realloc(reply->body, reply->len + len + 1);
    if (body == NULL) {
        return 0;
    }
    memcpy(body + reply->len, data, len);
    reply->body = body;
    reply->len += len;
    reply->body[reply->len] = '\0';
    return len;
}

/* Who may use the socket, for somebody who may not. */
static void
say_denied(const char *socket_path, mayday_buf_t *error)
{
    struct stat st;
    const struct group *group;

    mayday_buf_adds(error, "you may not use the agent's socket");
    if (stat(socket_path, &st) == 0) {
        group = getgrgid(st.st_gid);
        if (group != NULL) {
            mayday_buf_addf(
                error,
                ": it is for root and the group \"%s\" (join it, or choose another with "
                "mayday_socket group=NAME)",
                group->gr_name);
        } else {
            mayday_buf_addf(error, ": it is for root and the group %lu", (unsigned long) st.st_gid);
        }
    }
}

static mayday_rc_t
explain(CURL *curl, CURLcode code, const char *socket_path, mayday_buf_t *error)
{
    long number = 0;

    (void) curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
    if (code == CURLE_COULDNT_CONNECT && (number == EACCES || number == EPERM)) {
        say_denied(socket_path, error);
        return MAYDAY_DENIED;
    }
    if (code == CURLE_COULDNT_CONNECT) {
        mayday_buf_addf(error, "no agent answers: %s",
                        number != 0 ? strerror((int) number) : "cannot connect");
        return MAYDAY_NOT_FOUND;
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        mayday_buf_adds(error, "the agent did not answer in time");
    } else if (code == CURLE_WRITE_ERROR) {
        mayday_buf_adds(error, "the agent's answer is too long");
    } else if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR) {
        mayday_buf_adds(error, "the agent hung up (is it being stopped?)");
    } else {
        mayday_buf_addf(error, "talking to the agent failed: %s", curl_easy_strerror(code));
    }
    return MAYDAY_ERROR;
}

mayday_rc_t
mayday_client_call(const char *socket_path, const char *path, const char *body, uint32_t timeout_s,
                   mayday_reply_t *reply, mayday_buf_t *error)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    char url[2048];
    mayday_rc_t rc = MAYDAY_OK;
    CURLcode code;

    *reply = (mayday_reply_t){0};
    snprintf(url, sizeof(url), "http://mayday%s", path);
    if (curl == NULL || headers == NULL) {
        mayday_buf_adds(error, "no memory");
        curl_slist_free_all(headers);
        curl_easy_cleanup(curl);
        return MAYDAY_NO_MEMORY;
    }
    (void) curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    (void) curl_easy_setopt(curl, CURLOPT_URL, url);
    (void) curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void) curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void) curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    (void) curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long) timeout_s);
    (void) curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    (void) curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    if (body != NULL) {
        (void) curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        (void) curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        (void) curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
    } else {
        rc = explain(curl, code, socket_path, error);
        mayday_reply_free(reply);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return rc;
}

void
mayday_reply_free(mayday_reply_t *reply)
{
    free(reply->body);
    *reply = (mayday_reply_t){0};
}

void
mayday_client_parameter(mayday_buf_t *path, const char *name, const char *value)
{
    mayday_buf_addf(path, "%c%s=", strchr(path->data, '?') == NULL ? '?' : '&', name);
    mayday_buf_add_encoded(path, mayday_slice_str(value));
}

/* What the agent said went wrong, to standard error. */
static void
say_refused(const mayday_reply_t *reply)
{
    cJSON *json = cJSON_ParseWithLength(reply->body == NULL ? "" : reply->body, reply->len);
    const char *why = mayday_json_string(json, "error");

    if (why[0] != '\0') {
        mayday_cli_error_text("", why);
    } else {
        mayday_cli_error("the agent answered with status %ld", reply->status);
    }
    cJSON_Delete(json);
}

/* MAYDAY_OK: *reply has a body with a good status. Else it was said why. */
static mayday_rc_t
ask(mayday_cli_t *cli, const char *path, const char *body, uint32_t timeout_s,
    mayday_reply_t *reply, int *exit_code)
{
    char text[512], prefix[MAYDAY_SOCKET_PATH_SIZE + 4];
    mayday_buf_t error;
    mayday_rc_t rc;

    *exit_code = mayday_find_agent(cli);
    if (*exit_code != MAYDAY_EXIT_OK) {
        return MAYDAY_NOT_FOUND;
    }
    mayday_buf_init(&error, text, sizeof(text));
    rc = mayday_client_call(cli->socket_path, path, body, timeout_s, reply, &error);
    if (rc != MAYDAY_OK) {
        snprintf(prefix, sizeof(prefix), "%s: ", cli->socket_path);
        mayday_cli_error_text(prefix, text);
        *exit_code = MAYDAY_EXIT_NO_AGENT;
        return rc;
    }
    if (reply->status < 200 || reply->status > 299 || reply->body == NULL) {
        say_refused(reply);
        mayday_reply_free(reply);
        *exit_code = MAYDAY_EXIT_FAILED;
        return MAYDAY_INVALID;
    }
    return MAYDAY_OK;
}

cJSON *
mayday_client_json(mayday_cli_t *cli, const char *path, const char *body, uint32_t timeout_s,
                   int *exit_code)
{
    mayday_reply_t reply;
    cJSON *json;

    if (ask(cli, path, body, timeout_s, &reply, exit_code) != MAYDAY_OK) {
        return NULL;
    }
    json = cJSON_ParseWithLength(reply.body, reply.len);
    if (!cJSON_IsObject(json)) {
        mayday_cli_error("the agent's answer is not understood (is it of another version?)");
        cJSON_Delete(json);
        json = NULL;
        *exit_code = MAYDAY_EXIT_FAILED;
    }
    mayday_reply_free(&reply);
    return json;
}

char *
mayday_client_text(mayday_cli_t *cli, const char *path, int *exit_code)
{
    mayday_reply_t reply;

    return ask(cli, path, NULL, 30, &reply, exit_code) == MAYDAY_OK ? reply.body : NULL;
}
