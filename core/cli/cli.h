/*
 * What the command's files share: the options, the commands, and small things
 * that several of them print.
 *
 * main.c reads the options and finds the command; find.c finds the instance;
 * client.c talks to its agent; cmd_*.c each hold one command or two of a kind.
 */
#ifndef MAYDAY_CLI_H
#define MAYDAY_CLI_H

#include <cjson/cJSON.h>

#include "core/cli/term.h"

/* Exit codes; `status` says 1 for degraded. */
enum {
    MAYDAY_EXIT_OK = 0,
    MAYDAY_EXIT_FAILED = 1,   /* refused, not found                      */
    MAYDAY_EXIT_NO_AGENT = 2, /* nobody answers; also wrong usage        */
    MAYDAY_EXIT_USAGE = 2
};

#define MAYDAY_SOCKET_PATH_SIZE 108 /* of sockaddr_un */
#define MAYDAY_CLI_LIST_MAX 64

typedef struct mayday_command mayday_command_t;

/* An option that may be given more than once. */
typedef struct {
    const char *items[MAYDAY_CLI_LIST_MAX];
    size_t count; /* also of those beyond, which are not in items */
} mayday_cli_list_t;

/* The command line, and what all commands need. Made by main. */
typedef struct {
    const mayday_command_t *command;
    mayday_term_t term;  /* standard output */
    const char *operand; /* NULL: none was given */
    const char *second;  /* the operand behind it; NULL: none was given */

    /* Options as given; NULL or false: not given. */
    const char *directory, *socket;
    const char *format, *kind, *issue, *limit, *since, *user, *before, *last, *reason;
    mayday_cli_list_t events;
    bool json, all, yes, dropped;

    char socket_path[MAYDAY_SOCKET_PATH_SIZE]; /* set by mayday_find_agent */
    char silent[256];    /* the run directory of another instance, without an agent; or "" */
    size_t silent_count; /* how many there are; only where the instance was searched for   */
} mayday_cli_t;

struct mayday_command {
    const char *name;
    const char *operand; /* "ID", "[DSN]", "test FILE", or NULL */
    const char *options; /* names of the long options it takes, between spaces */
    const char *summary;
    const char *help; /* options and examples */
    int (*run)(mayday_cli_t *cli);
};

extern const mayday_command_t mayday_command_status;
extern const mayday_command_t mayday_command_tail;
extern const mayday_command_t mayday_command_issues;
extern const mayday_command_t mayday_command_events;
extern const mayday_command_t mayday_command_show;
extern const mayday_command_t mayday_command_send_event;
extern const mayday_command_t mayday_command_rules;
extern const mayday_command_t mayday_command_purge;

/* "mayday: TEXT" on standard error, for text that is not from outside. */
void mayday_cli_error(const char *fmt, ...) MAYDAY_PRINTF(1, 2);

/* The same, with a text from outside behind the prefix. */
void mayday_cli_error_text(const char *prefix, const char *text);

/* "mayday NAME: TEXT", how to get help; returns MAYDAY_EXIT_USAGE. */
int mayday_cli_usage(const mayday_cli_t *cli, const char *fmt, ...) MAYDAY_PRINTF(2, 3);

/*
 * A moment: an age ("90s", "15m", "12h", "7d", "2w") before now, or a date with
 * or without time ("2026-11-22", "2026-11-22 14:30", "2026-11-22T14:30:00Z");
 * local time unless it ends with Z. MAYDAY_INVALID: none of these.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_cli_time(const char *text, uint64_t now_us, uint64_t *time_us);

/* "just now", "12 s", "3 min", "5 h", "2 days": how long ago or to come. */
void mayday_cli_duration(char *out, size_t size, uint64_t duration_us);

/* 1234567 as "1,234,567"; 12345 bytes as "12.1 KiB". */
void mayday_cli_number(char *out, size_t size, double number);
void mayday_cli_bytes(char *out, size_t size, double bytes);

/* Style by a level's name. */
mayday_style_t mayday_cli_level_style(const char *level);

#endif
