/*
 * What the API's files share; nobody else includes this.
 */
#ifndef MAYDAY_API_PRIVATE_H
#define MAYDAY_API_PRIVATE_H

#include <microhttpd.h>

#include "core/agent/api.h"
#include "core/agent/status.h"

#define MAYDAY_API_BODY_MAX ((size_t) 64 << 10)

typedef struct {
    mayday_agent_t *agent;
    struct MHD_Connection *connection; /* for the query's arguments */
    const char *method;
    const char *path;
    mayday_slice_t body;   /* data may be NULL */
    char store_error[512]; /* why there is no store; the dispatcher's */
} mayday_request_t;

typedef struct {
    unsigned status;
    const char *type; /* NULL: JSON                                  */
    char *text;       /* from malloc, taken by the daemon; NULL: no memory */
    size_t len;
} mayday_answer_t;

/* Finds the resource and lets it answer. Always leaves an answer. */
void mayday_api_dispatch(mayday_request_t *request, mayday_answer_t *answer);

/* {"error": message} */
void mayday_answer_error(mayday_answer_t *answer, unsigned status, const char *message);

#endif
