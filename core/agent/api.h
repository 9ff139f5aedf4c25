/*
 * The agent's API: HTTP on a unix socket, for the command and for whoever is in
 * the socket's group. Resources: status.h. The only room that includes
 * microhttpd.
 *
 * A thread per connection, at most 16; each request has a connection to the
 * store of its own while it runs. Bodies are bounded.
 */
#ifndef MAYDAY_API_H
#define MAYDAY_API_H

#include "core/agent/agent_private.h"

typedef struct mayday_api mayday_api_t;

/*
 * Listens on the settings' socket, replacing the one that a dead agent left there,
 * but nothing else. NULL: error says why.
 */
mayday_api_t *mayday_api_new(mayday_agent_t *agent, const mayday_settings_t *settings,
                             mayday_buf_t *error);

/* Waits for requests that are being answered, then removes the socket. */
void mayday_api_free(mayday_api_t *api);

/* Whether it listens where and as these settings want it. */
bool mayday_api_fits(const mayday_api_t *api, const mayday_settings_t *settings);

#endif
