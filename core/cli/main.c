/*
 * The `mayday` command: reads the options, finds the command, runs it. With
 * `mayday agent` this program is the agent.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/agent/agent.h"
#include "core/cli/cli.h"
#include "core/event/event.h"

static const mayday_command_t *const commands[] = {
    &mayday_command_status, &mayday_command_issues, &mayday_command_events,
    &mayday_command_show,   &mayday_command_tail,   &mayday_command_send_event,
    &mayday_command_rules,  &mayday_command_purge,
};

/* Every option: a new one is one line here, and its name in the commands that take it. */
static const struct {
    const char *name;
    enum { FLAG, VALUE, VALUES } takes;
    bool common; /* taken by all commands */
    size_t offset;
} options[] = {
    {"directory", VALUE, true, offsetof(mayday_cli_t, directory)},
    {"socket", VALUE, true, offsetof(mayday_cli_t, socket)},
    {"format", VALUE, false, offsetof(mayday_cli_t, format)},
    {"json", FLAG, false, offsetof(mayday_cli_t, json)},
    {"kind", VALUE, false, offsetof(mayday_cli_t, kind)},
    {"issue", VALUE, false, offsetof(mayday_cli_t, issue)},
    {"limit", VALUE, false, offsetof(mayday_cli_t, limit)},
    {"since", VALUE, false, offsetof(mayday_cli_t, since)},
    {"event", VALUES, false, offsetof(mayday_cli_t, events)},
    {"dropped", FLAG, false, offsetof(mayday_cli_t, dropped)},
    {"reason", VALUE, false, offsetof(mayday_cli_t, reason)},
    {"last", VALUE, false, offsetof(mayday_cli_t, last)},
    {"user", VALUE, false, offsetof(mayday_cli_t, user)},
    {"before", VALUE, false, offsetof(mayday_cli_t, before)},
    {"all", FLAG, false, offsetof(mayday_cli_t, all)},
    {"yes", FLAG, false, offsetof(mayday_cli_t, yes)},
};

enum { OPTION_HELP = 256, OPTION_VERSION, OPTION_FIRST };

static void
help(FILE *out)
{
    fputs("mayday shows and manages what the web server on this host reported.\n\n"
          "Usage: mayday COMMAND [OPTION ...]\n\n",
          out);
    for (size_t i = 0; i < MAYDAY_COUNT(commands); i++) {
        char left[32];

        snprintf(left, sizeof(left), "%s%s%s", commands[i]->name,
                 commands[i]->operand == NULL ? "" : " ",
                 commands[i]->operand == NULL ? "" : commands[i]->operand);
        fprintf(out, "  %-22s %s\n", left, commands[i]->summary);
    }
    fputs(
        "  agent                  run the agent (done by the server)\n\n"
        "  -d, --directory DIR  the instance: its mayday_directory or its run directory\n"
        "      --socket PATH    the agent's socket, where mayday_socket put it elsewhere\n"
        "  -h, --help           help, also for each command\n"
        "      --version        the version\n\n"
        "Without -d the instance is found by itself; where there are several, they are listed.\n"
        "Exit status: 0 good; 1 failed or not found (status: degraded); 2 no agent, or misused.\n\n"
        "Examples:\n"
        "  mayday status                     is all well, and if not, what is wrong\n"
        "  mayday tail                       failures as they happen\n"
        "  mayday issues --since 1h          what failed in the last hour, the worst first\n"
        "  mayday show 3fa9c1d2              one of them in full\n"
        "  mayday rules test rules.lua       what would these rules have done?\n"
        "  mayday send-event                 does a test event arrive?\n",
        out);
}

static void
command_help(FILE *out, const mayday_command_t *command)
{
    fprintf(out, "Usage: mayday %s%s%s [OPTION ...]\n\n%s", command->name,
            command->operand == NULL ? "" : " ", command->operand == NULL ? "" : command->operand,
            command->help);
}

static const mayday_command_t *
find_command(const char *name)
{
    for (size_t i = 0; i < MAYDAY_COUNT(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static bool
command_takes(const mayday_command_t *command, const char *option)
{
    const char *at = command->options;
    size_t len = strlen(option);

    while ((at = strstr(at, option)) != NULL) {
        if ((at == command->options || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
        at += len;
    }
    return false;
}

/* The value of an option, by its kind, at its place in cli. */
static void
set_option(mayday_cli_t *cli, size_t index, const char *value)
{
    void *field = (char *) cli + options[index].offset;
    mayday_cli_list_t *list = field;

    switch (options[index].takes) {
    case FLAG:
        *(bool *) field = true;
        break;
    case VALUE:
        *(const char **) field = value;
        break;
    case VALUES:
        if (list->count < MAYDAY_CLI_LIST_MAX) {
            list->items[list->count] = value;
        }
        list->count++;
        break;
    }
}

static int
refuse_option(int c, const char *text)
{
    mayday_cli_error_text(c == ':'                ? "a value is missing behind "
                          : optopt >= OPTION_HELP ? "there is no value of "
                                                  : "there is no option ",
                          text);
    fputs("See: mayday --help\n", stderr);
    return MAYDAY_EXIT_USAGE;
}

/* Reads all options, wherever they stand. given: mask by index. -1: go on; else the exit code. */
static int
read_options(mayday_cli_t *cli, int argc, char **argv, unsigned *given, bool *wants_help)
{
    struct option longs[MAYDAY_COUNT(options) + 3] = {{0}};
    size_t n = 0;
    int c;

    for (; n < MAYDAY_COUNT(options); n++) {
        longs[n].name = options[n].name;
        longs[n].has_arg = options[n].takes == FLAG ? no_argument : required_argument;
        longs[n].val = OPTION_FIRST + (int) n;
    }
    longs[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    longs[n++] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":d:h", longs, NULL)) != -1) {
        if (c == 'd') {
            c = OPTION_FIRST; /* the first of the table */
        }
        if (c == OPTION_HELP || c == 'h') {
            *wants_help = true;
        } else if (c == OPTION_VERSION) {
            puts("mayday " MAYDAY_VERSION);
            return MAYDAY_EXIT_OK;
        } else if (c < OPTION_FIRST) {
            return refuse_option(c, argv[optind - 1]);
        } else {
            set_option(cli, (size_t) (c - OPTION_FIRST), optarg);
            *given |= 1u << (c - OPTION_FIRST);
        }
    }
    return -1;
}

/* The words of operands behind the first n. */
static const char *
skip_words(const char *operands, int n)
{
    for (; n > 0 && *operands != '\0'; n--) {
        operands += strcspn(operands, " ");
        operands += strspn(operands, " ");
    }
    return operands;
}

/* Whether it is one of "test|check FILE"; whatever does not begin with a choice takes any. */
static bool
is_choice(const char *operands, const char *word)
{
    size_t len = strlen(word), choices = strcspn(operands, " "), n;

    if (memchr(operands, '|', choices) == NULL) {
        return true;
    }
    for (const char *end = operands + choices; operands < end; operands += n + 1) {
        n = strcspn(operands, "| ");
        if (n == len && memcmp(operands, word, n) == 0) {
            return true;
        }
    }
    return false;
}

static int
refuse_choice(const mayday_command_t *command, const char *word)
{
    char prefix[64];

    snprintf(prefix, sizeof(prefix), "there is no %s ", command->name);
    mayday_cli_error_text(prefix, word);
    fprintf(stderr, "It is one of %.*s. See: mayday %s --help\n",
            (int) strcspn(command->operand, " "), command->operand, command->name);
    return MAYDAY_EXIT_USAGE;
}

/* Refuses what the command does not take. */
static int
check(mayday_cli_t *cli, unsigned given, int operands, char **words)
{
    const mayday_command_t *command = cli->command;
    const char *takes = command->operand == NULL ? "" : command->operand;
    const char *missing = skip_words(takes, operands);

    for (size_t i = 0; i < MAYDAY_COUNT(options); i++) {
        if ((given >> i & 1) != 0 && !options[i].common &&
            !command_takes(command, options[i].name)) {
            return mayday_cli_usage(cli, "there is no option --%s here", options[i].name);
        }
    }
    if (operands > 0 && !is_choice(takes, words[0])) {
        return refuse_choice(command, words[0]);
    }
    if (operands > 0 && *skip_words(takes, operands - 1) == '\0') {
        return mayday_cli_usage(cli, "too many arguments");
    }
    if (missing[0] != '\0' && missing[0] != '[') {
        return mayday_cli_usage(cli, "%s is missing", missing);
    }
    return -1;
}

int
main(int argc, char **argv)
{
    mayday_cli_t cli = {0};
    unsigned given = 0;
    bool wants_help = false;
    int exit_code;

    if (argc > 1 && strcmp(argv[1], "agent") == 0) {
        return mayday_agent_main(argc - 1, argv + 1);
    }
    exit_code = read_options(&cli, argc, argv, &given, &wants_help);
    if (exit_code >= 0) {
        return exit_code;
    }
    if (optind == argc) {
        help(wants_help ? stdout : stderr);
        return wants_help ? MAYDAY_EXIT_OK : MAYDAY_EXIT_USAGE;
    }
    if (strcmp(argv[optind], "help") == 0) { /* "help", "help COMMAND" */
        wants_help = true;
        if (++optind == argc) {
            help(stdout);
            return MAYDAY_EXIT_OK;
        }
    }
    cli.command = find_command(argv[optind]);
    if (cli.command == NULL) {
        mayday_cli_error_text("there is no command ", argv[optind]);
        fputs("See: mayday --help\n", stderr);
        return MAYDAY_EXIT_USAGE;
    }
    if (wants_help) {
        command_help(stdout, cli.command);
        return MAYDAY_EXIT_OK;
    }
    exit_code = check(&cli, given, argc - optind - 1, argv + optind + 1);
    if (exit_code >= 0) {
        return exit_code;
    }
    cli.operand = optind + 1 < argc ? argv[optind + 1] : NULL;
    cli.second = optind + 2 < argc ? argv[optind + 2] : NULL;
    mayday_event_setup();
    mayday_term_init(&cli.term, stdout);
    exit_code = cli.command->run(&cli);
    return fflush(stdout) == 0 ? exit_code : MAYDAY_EXIT_FAILED;
}
