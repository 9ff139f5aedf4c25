/*
 * The client of the agent's API (core/agent/status.h): HTTP over its unix socket,
 * by libcurl. Blocks; for the command only.
 */
#ifndef MAYDAY_CLIENT_H
#define MAYDAY_CLIENT_H

#include "core/cli/cli.h"

#define MAYDAY_CLIENT_BODY_MAX ((size_t) 64 * 1024 * 1024)

typedef struct {
    long status; /* of HTTP               */
    char *body;  /* ends with NUL, malloc */
    size_t len;
} mayday_reply_t;

/*
 * GET (body NULL) or POST of JSON. MAYDAY_OK: there is a reply, whatever its
 * status; free it. MAYDAY_NOT_FOUND: no agent answers at the socket;
 * MAYDAY_DENIED: not allowed to use it; MAYDAY_ERROR: else. Then *error says why.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_client_call(const char *socket_path, const char *path,
                                                 const char *body, uint32_t timeout_s,
                                                 mayday_reply_t *reply, mayday_buf_t *error);
void mayday_reply_free(mayday_reply_t *reply);

/* Adds "name=value", percent-encoded, to a path that may have a query already. */
void mayday_client_parameter(mayday_buf_t *path, const char *name, const char *value);

/*
 * Finds the agent, calls it and parses its answer. NULL: the reason was printed
 * and *exit_code set. Free it with cJSON_Delete.
 */
cJSON *mayday_client_json(mayday_cli_t *cli, const char *path, const char *body, uint32_t timeout_s,
                          int *exit_code);

/* The same for an answer that is printed as it came. NULL: said and set, too. */
char *mayday_client_text(mayday_cli_t *cli, const char *path, int *exit_code);

#endif
