/*
 * The agent's messages. Each has a stable id (docs/messages.md), goes to the
 * server's error log (stderr as inherited, reopened when the file is rotated),
 * and is written at most once a second per id, with a count of the suppressed.
 * Data comes as arguments and is made safe; a DSN's key, a cookie or an
 * authorization value is never an argument.
 */
#ifndef MAYDAY_LOG_H
#define MAYDAY_LOG_H

#include "core/base/base.h"

typedef enum {
    MAYDAY_LOG_ERROR,
    MAYDAY_LOG_WARN,
    MAYDAY_LOG_NOTICE,
    MAYDAY_LOG_DEBUG
} mayday_log_level_t;

/*
 * path: the server's error log, or "" for stderr for good. httpd_style: lines as
 * httpd writes them, else as nginx does. May be called again. Until it is, lines
 * go to stderr. Any thread may log.
 */
void mayday_log_init(const char *path, bool httpd_style, bool debug);

/*
 * Every tick: follows a rotation of the file. True: the file was rotated away and
 * the new one is not ours to open; only a new agent, started by the server, gets it.
 * Who began with a file that was rotated says so after some seconds only.
 */
bool mayday_log_tick(void);

/*
 * Instead of the log, every line goes to sink, whatever its level, and is not
 * limited: for who runs rules to see what they do. Text ends with NUL and is made
 * safe. NULL ends it. sink must not log.
 */
typedef void (*mayday_log_sink_pt)(void *ctx, mayday_log_level_t level, const char *text);
void mayday_log_divert(mayday_log_sink_pt sink, void *ctx);

/* The name of a level: "error", "warn", "notice", "debug". */
const char *mayday_log_level_name(mayday_log_level_t level);

/* id: "MD0101" …; text without line end. */
void mayday_log(mayday_log_level_t level, const char *id, const char *fmt, ...) MAYDAY_PRINTF(3, 4);

#endif
