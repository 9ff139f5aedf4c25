/*
 * One event as a line, for the commands that list events:
 *
 *   14:03:22  3fa9c1d2  502  GET /orders/8   UpstreamRefused: shop refused ...  x12
 *
 * Time, id, status, transaction, title, and how often its issue was seen. One that
 * rules dropped has the reason and the rule there, the title only where it is wide:
 *
 *   14:03:22  3fa9c1d2  502  GET /orders/8   bot, rules.lua:12  UpstreamRefused: shop ...
 *
 * On a terminal a line is as wide as that at most. Rows are those of the agent's
 * API (core/agent/status.h).
 */
#ifndef MAYDAY_ROW_H
#define MAYDAY_ROW_H

#include "core/cli/cli.h"

/* The width of the column of times: all of them are of today, or not. */
unsigned mayday_row_time_columns(const cJSON *rows);

/* The names of the columns; on terminals only. dropped: of events that rules dropped. */
void mayday_row_head(const mayday_term_t *term, unsigned time_columns, bool dropped);

void mayday_row_show(const mayday_cli_t *cli, cJSON *row, unsigned time_columns);

#endif
