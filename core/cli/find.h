/*
 * Finds the instance whose agent the command is to talk to. For the layout of
 * run directories see core/capture/supervise.h.
 */
#ifndef MAYDAY_FIND_H
#define MAYDAY_FIND_H

#include "core/cli/cli.h"

/*
 * Sets cli->socket_path: --socket as given; else --directory, a state or run
 * directory; else the one instance of this host that answers. On failure prints
 * what was looked at and what to do, and returns the exit code.
 */
MAYDAY_MUST_CHECK int mayday_find_agent(mayday_cli_t *cli);

/*
 * The same for who can do without an agent: says nothing. MAYDAY_NOT_FOUND: none
 * answers, MAYDAY_BUSY: several do, MAYDAY_INVALID: --socket is wrong.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_find_quietly(mayday_cli_t *cli);

#endif
