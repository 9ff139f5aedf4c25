/*
 * mayday purge: erases events, queued ones included.
 */
#include <stdlib.h>
#include <unistd.h>

#include "core/agent/status.h"
#include "core/cli/client.h"
#include "core/cli/find.h"
#include "core/event/json.h"

#define TIMEOUT_S 600u /* the store is compacted, so that nothing is left in its file */

static const char help[] =
    "Erases events from the store and the delivery queue, and leaves nothing of them in the "
    "files.\n"
    "Events that rules dropped are kept without their user: with --user those go in which ID "
    "stands\n"
    "as a whole value.\n"
    "What was sent already is the receiver's. Asks first, unless --yes is given.\n\n"
    "      --user ID        of a user: the id, mail address, name or address as reported\n"
    "      --before TIME    older than a time (2026-11-22, \"2026-11-22 14:30\") or an age (7d)\n"
    "      --all            everything\n"
    "      --yes            do not ask\n"
    "  -d, --directory DIR  the instance\n\n"
    "Examples:\n"
    "  mayday purge --user jane@example.com\n"
    "  mayday purge --before 30d --yes\n";

/* What is to be erased, as the request and in words. */
static int
make_request(mayday_cli_t *cli, cJSON *request, mayday_buf_t *words)
{
    uint64_t before_us;

    if ((cli->user != NULL) + (cli->before != NULL) + cli->all != 1) {
        return mayday_cli_usage(cli, "say what to erase: one of --user, --before and --all");
    }
    if (cli->user != NULL) {
        if (cli->user[0] == '\0') {
            return mayday_cli_usage(cli, "--user is empty");
        }
        (void) cJSON_AddStringToObject(request, "user", cli->user);
        mayday_buf_addf(words, "all events of user \"%s\"", cli->user);
    } else if (cli->before != NULL) {
        if (mayday_cli_time(cli->before, mayday_clock_us(), &before_us) != MAYDAY_OK ||
            before_us == 0) {
            return mayday_cli_usage(cli, "--before is a time or an age, such as 2026-11-22 or 7d");
        }
        (void) cJSON_AddNumberToObject(request, "before_us", (double) before_us);
        mayday_buf_addf(words, "all events before %s", cli->before);
    } else {
        (void) cJSON_AddTrueToObject(request, "all");
        mayday_buf_adds(words, "all events");
    }
    return MAYDAY_EXIT_OK;
}

static int
confirm(const mayday_cli_t *cli, const mayday_buf_t *words)
{
    char answer[16];

    if (cli->yes) {
        return MAYDAY_EXIT_OK;
    }
    if (!isatty(STDIN_FILENO)) {
        return mayday_cli_usage(cli, "nobody can be asked here; add --yes");
    }
    fputs("Erase ", cli->term.out);
    (void) mayday_term_text(&cli->term, MAYDAY_STYLE_BOLD, mayday_buf_slice(words), 0);
    fputs("? This cannot be undone. [y/N] ", cli->term.out);
    fflush(cli->term.out);
    if (fgets(answer, sizeof(answer), stdin) == NULL || (answer[0] != 'y' && answer[0] != 'Y')) {
        fputs("Nothing was erased.\n", cli->term.out);
        return MAYDAY_EXIT_FAILED;
    }
    return MAYDAY_EXIT_OK;
}

static int
purge(mayday_cli_t *cli, const cJSON *request)
{
    char *body = cJSON_PrintUnformatted(request), text[32], dropped[32];
    cJSON *answer;
    int exit_code;

    if (body == NULL) {
        mayday_cli_error("no memory");
        return MAYDAY_EXIT_FAILED;
    }
    answer = mayday_client_json(cli, MAYDAY_API_PURGE, body, TIMEOUT_S, &exit_code);
    cJSON_free(body);
    if (answer != NULL) {
        mayday_cli_number(text, sizeof(text), mayday_json_number(answer, "purged"));
        mayday_cli_number(dropped, sizeof(dropped), mayday_json_number(answer, "dropped"));
        mayday_term_say(&cli->term, MAYDAY_STYLE_PLAIN, "%s event%s erased", text,
                        strcmp(text, "1") == 0 ? "" : "s");
        if (strcmp(dropped, "0") != 0) {
            mayday_term_say(&cli->term, MAYDAY_STYLE_PLAIN, ", of these %s that rules had dropped",
                            dropped);
        }
        fputs(".\n", cli->term.out);
        cJSON_Delete(answer);
    }
    return exit_code;
}

static int
run(mayday_cli_t *cli)
{
    cJSON *request = cJSON_CreateObject();
    char storage[300];
    mayday_buf_t words;
    int exit_code;

    mayday_buf_init(&words, storage, sizeof(storage));
    exit_code = make_request(cli, request, &words);
    if (exit_code == MAYDAY_EXIT_OK) {
        exit_code = mayday_find_agent(cli);
    }
    if (exit_code == MAYDAY_EXIT_OK) {
        exit_code = confirm(cli, &words);
    }
    if (exit_code == MAYDAY_EXIT_OK) {
        exit_code = purge(cli, request);
    }
    cJSON_Delete(request);
    return exit_code;
}

const mayday_command_t mayday_command_purge = {
    .name = "purge",
    .options = "user before all yes",
    .summary = "erase events",
    .help = help,
    .run = run,
};
