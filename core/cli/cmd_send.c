/*
 * mayday send-event: sends a test event through the running agent, so that the
 * same user, proxy and certificates are tried that real events meet.
 */
#include <stdlib.h>

#include "core/agent/status.h"
#include "core/base/dsn.h"
#include "core/cli/client.h"
#include "core/event/json.h"

#define TIMEOUT_S 180u /* several receivers, each with a time-out of its own */

static const char help[] =
    "Sends a test event the way real ones go (same process, user, proxy, certificates) and says\n"
    "exactly what is wrong where it does not arrive. Without DSN, to every DSN that is "
    "configured.\n"
    "\n"
    "  -d, --directory DIR  the instance\n\n"
    "Exit status: 0 it arrived everywhere, 1 it did not, 2 no agent.\n\n"
    "Examples:\n"
    "  mayday send-event\n"
    "  mayday send-event https://KEY@sentry.example.com/42\n";

static bool
show_result(const mayday_term_t *term, const cJSON *result)
{
    double status = mayday_json_number(result, "status");
    bool good = status >= 200 && status < 300;
    const char *error = mayday_json_string(result, "error");
    const char *answer = mayday_json_string(result, "answer");

    mayday_term_sign(term, good ? MAYDAY_STYLE_GOOD : MAYDAY_STYLE_ERROR,
                     good ? MAYDAY_SIGN_GOOD : MAYDAY_SIGN_BAD);
    fputc(' ', term->out);
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                            mayday_slice_str(mayday_json_string(result, "dsn")), 0);
    fputc('\n', term->out);
    if (good) {
        fputs("  arrived as event ", term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_ACCENT,
                                mayday_slice_str(mayday_json_string(result, "event_id")), 0);
    } else if (error[0] != '\0') {
        fputs("  ", term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_ERROR, mayday_slice_str(error), 0);
    } else {
        mayday_term_say(term, MAYDAY_STYLE_ERROR, "  refused with status %.0f", status);
    }
    fputc('\n', term->out);
    if (!good && answer[0] != '\0') {
        fputs("  it said: ", term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(answer), 0);
        fputc('\n', term->out);
    }
    return good;
}

/* {"dsn":…} or {}; free it with cJSON_free. */
static char *
request(const char *dsn)
{
    cJSON *object = cJSON_CreateObject();
    char *text;

    if (dsn != NULL) {
        (void) cJSON_AddStringToObject(object, "dsn", dsn);
    }
    text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return text;
}

static int
run(mayday_cli_t *cli)
{
    const char *wrong = NULL;
    const cJSON *results, *result;
    mayday_dsn_t dsn;
    cJSON *answer;
    char *body;
    int exit_code;

    if (cli->operand != NULL &&
        mayday_dsn_parse(&dsn, mayday_slice_str(cli->operand), &wrong) != MAYDAY_OK) {
        return mayday_cli_usage(cli, "the DSN is not one: expected %s", wrong);
    }
    body = request(cli->operand);
    if (body == NULL) {
        mayday_cli_error("no memory");
        return MAYDAY_EXIT_FAILED;
    }
    answer = mayday_client_json(cli, MAYDAY_API_SEND_EVENT, body, TIMEOUT_S, &exit_code);
    cJSON_free(body);
    if (answer == NULL) {
        return exit_code;
    }
    results = cJSON_GetObjectItemCaseSensitive(answer, "results");
    if (cJSON_GetArraySize(results) == 0) {
        mayday_cli_error("no DSN is configured; give one: mayday send-event DSN");
        exit_code = MAYDAY_EXIT_FAILED;
    }
    cJSON_ArrayForEach(result, results)
    {
        if (!show_result(&cli->term, result)) {
            exit_code = MAYDAY_EXIT_FAILED;
        }
    }
    cJSON_Delete(answer);
    return exit_code;
}

const mayday_command_t mayday_command_send_event = {
    .name = "send-event",
    .operand = "[DSN]",
    .options = "",
    .summary = "prove the way to the receiver with a test event",
    .help = help,
    .run = run,
};
