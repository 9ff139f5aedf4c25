/*
 * Where events come from that rules are tried on: files of event JSON, as `mayday
 * show ID --json` prints them, one or several behind each other; or the last
 * events in the store, from the running agent or, where none runs, from the
 * store's file.
 *
 * Runs in the command; blocks on files and the agent.
 */
#ifndef MAYDAY_SOURCE_H
#define MAYDAY_SOURCE_H

#include "core/cli/cli.h"

#define MAYDAY_SOURCE_LAST_MAX 1000u
#define MAYDAY_SOURCE_STORES "/var/lib/mayday" /* the default ones, each in a directory */
#define MAYDAY_SOURCE_NONE (-1)

/*
 * An event, as JSON text that has been looked at for its end only. name says where
 * it is, for messages: "events.json:12", "event 3fa9c1d2". The exit code: other
 * than MAYDAY_EXIT_OK ends it, and it was said why.
 */
typedef int (*mayday_source_visit_pt)(void *ctx, mayday_slice_t json, const char *name);

/* Every event of the file, "-" for standard input. Says what is wrong; returns the exit code. */
int mayday_source_file(const char *path, mayday_source_visit_pt visit, void *ctx);

/*
 * The last so many events in the store, the newest first; with cli->dropped those
 * that rules dropped, for cli->reason if there is one. Returns the exit code, and
 * said why; MAYDAY_SOURCE_NONE: there is neither an agent nor a store, and nothing
 * was said unless --directory or --socket named one.
 */
int mayday_source_stored(mayday_cli_t *cli, unsigned last, mayday_source_visit_pt visit, void *ctx);

#endif
