/*
 * mayday events and mayday tail: one line an event.
 *
 *   14:03:22  3fa9c1d2  502  GET /orders/8   UpstreamRefused: shop refused ...  x12
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/status.h"
#include "core/cli/client.h"
#include "core/event/json_print.h"

#define POLL_MS 250
#define TIMEOUT_S 30u
#define LIMIT_DEFAULT "20"
#define LIMIT_MAX 1000u
#define TAIL_FIRST 10u /* shown before the live ones */
#define ID_DIGITS 8u
#define PATH_SIZE 1024
#define TRANSACTION_COLUMNS 28u /* where the width is not known */

static const char events_help[] =
    "Lists the events in the store, the newest first.\n\n"
    "      --kind KIND      only of this kind (upstream_refused, limited, ...)\n"
    "      --issue HEX      only of this issue\n"
    "      --since TIME     only since a time (2026-11-22, \"2026-11-22 14:30\") or age (15m, 12h, "
    "7d)\n"
    "      --limit N        at most N, up to 1000 (default " LIMIT_DEFAULT ")\n"
    "      --json           one JSON object a line\n"
    "  -d, --directory DIR  the instance\n\n"
    "Columns: time, id, status, transaction, title, how often its issue was seen so far.\n\n"
    "Examples:\n"
    "  mayday events --since 1h\n"
    "  mayday events --kind upstream_read_timeout --limit 100\n"
    "  mayday events --json | jq -r .title | sort | uniq -c\n";

static const char tail_help[] =
    "Shows the last events, then each new one as it happens. Ends with Ctrl-C; waits while the\n"
    "agent is restarted.\n\n"
    "      --json           one JSON object a line\n"
    "  -d, --directory DIR  the instance\n\n"
    "Examples:\n"
    "  mayday tail\n"
    "  mayday tail --json | jq -r 'select(.kind == \"limited\") | .title'\n";

/* ---- a line ---- */

static void
say_time(const mayday_term_t *term, uint64_t time_us)
{
    time_t t = (time_t) (time_us / 1000000), now = time(NULL);
    struct tm tm, today;
    char text[32];

    (void) localtime_r(&t, &tm);
    (void) localtime_r(&now, &today);
    if (tm.tm_yday == today.tm_yday && tm.tm_year == today.tm_year) {
        (void) strftime(text, sizeof(text), "%H:%M:%S", &tm);
    } else {
        (void) strftime(text, sizeof(text), "%m-%d %H:%M", &tm);
    }
    mayday_term_say(term, MAYDAY_STYLE_DIM, "%-11s  ", text);
}

/* The title, its type in the colour of the level. */
static unsigned
say_title(const mayday_term_t *term, const char *title, const char *level, unsigned columns_max)
{
    const char *colon = strstr(title, ": ");
    size_t type_len = colon == NULL ? 0 : (size_t) (colon - title) + 1;
    mayday_slice_t type = mayday_slice(title, type_len);
    unsigned used = 0;

    if (type_len > 0 && (columns_max == 0 || mayday_term_width(term, type) < columns_max)) {
        used = mayday_term_text(term, mayday_cli_level_style(level), type, 0);
        title += type_len;
    }
    return used + mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(title),
                                   columns_max == 0 ? 0 : columns_max - used);
}

static void
show_row(const mayday_term_t *term, const cJSON *row)
{
    double seen = mayday_json_number(row, "issue_seen");
    mayday_slice_t id = mayday_slice_str(mayday_json_string(row, "event_id"));
    mayday_slice_t transaction = mayday_slice_str(mayday_json_string(row, "transaction"));
    unsigned used = 11 + 2 + ID_DIGITS + 2 + 3 + 2, columns, for_title = 0;
    char count[32] = "", number[32];

    if (seen > 1) {
        mayday_cli_number(number, sizeof(number), seen);
        snprintf(count, sizeof(count), "  %s%.20s", term->utf8 ? "\xc3\x97" : "x", number);
    }
    id.len = id.len < ID_DIGITS ? id.len : ID_DIGITS;
    say_time(term, mayday_json_us(row, "time_us"));
    mayday_term_column(term, MAYDAY_STYLE_ACCENT, id, ID_DIGITS);
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "  %3.0f  ", mayday_json_number(row, "status"));
    columns = TRANSACTION_COLUMNS;
    if (term->width > 0) {
        unsigned left = term->width > used + 20 ? term->width - used : 20;

        columns = left / 3 < TRANSACTION_COLUMNS ? left / 3 : TRANSACTION_COLUMNS;
        for_title = left - columns - 2;
        if (seen > 1) {
            unsigned for_count = mayday_term_width(term, mayday_slice_str(count));

            for_title = for_title > for_count + 8 ? for_title - for_count : 8;
        }
    }
    used = mayday_term_text(term, MAYDAY_STYLE_PLAIN, transaction, term->width > 0 ? columns : 0);
    fprintf(term->out, "%*s  ", used < columns ? (int) (columns - used) : 0, "");
    (void) say_title(term, mayday_json_string(row, "title"), mayday_json_string(row, "level"),
                     for_title);
    mayday_term_say(term, MAYDAY_STYLE_DIM, "%s\n", count);
}

static void
show(const mayday_cli_t *cli, cJSON *row)
{
    char *text;

    if (!cli->json) {
        show_row(&cli->term, row);
        return;
    }
    text = mayday_json_print(row, false);
    if (text != NULL) {
        mayday_term_json(&cli->term, mayday_slice_str(text));
        fputc('\n', cli->term.out);
        cJSON_free(text);
    }
}

/* ---- events ---- */

static int
events_path(mayday_cli_t *cli, mayday_buf_t *path)
{
    const char *limit = cli->limit == NULL ? LIMIT_DEFAULT : cli->limit;
    char *rest, since[32];
    unsigned long n = strtoul(limit, &rest, 10);
    uint64_t since_us;

    if (limit[0] < '0' || limit[0] > '9' || rest[0] != '\0' || n < 1 || n > LIMIT_MAX) {
        return mayday_cli_usage(cli, "--limit is a number from 1 to %u", LIMIT_MAX);
    }
    mayday_client_parameter(path, "limit", limit);
    if (cli->kind != NULL) {
        mayday_client_parameter(path, "kind", cli->kind);
    }
    if (cli->issue != NULL) {
        mayday_client_parameter(path, "issue", cli->issue);
    }
    if (cli->since != NULL) {
        if (mayday_cli_time(cli->since, mayday_clock_us(), &since_us) != MAYDAY_OK) {
            return mayday_cli_usage(cli, "--since is a time or an age, such as 2026-11-22 or 7d");
        }
        snprintf(since, sizeof(since), "%llu", (unsigned long long) since_us);
        mayday_client_parameter(path, "since", since);
    }
    return path->truncated ? mayday_cli_usage(cli, "the options are too long") : MAYDAY_EXIT_OK;
}

static int
run_events(mayday_cli_t *cli)
{
    char storage[PATH_SIZE];
    mayday_buf_t path;
    cJSON *answer;
    cJSON *rows, *row;
    int exit_code;

    mayday_buf_init(&path, storage, sizeof(storage));
    mayday_buf_adds(&path, MAYDAY_API_EVENTS);
    exit_code = events_path(cli, &path);
    if (exit_code != MAYDAY_EXIT_OK) {
        return exit_code;
    }
    answer = mayday_client_json(cli, path.data, NULL, TIMEOUT_S, &exit_code);
    if (answer == NULL) {
        return exit_code;
    }
    rows = cJSON_GetObjectItemCaseSensitive(answer, "events");
    cJSON_ArrayForEach(row, rows)
    {
        show(cli, row);
    }
    if (cJSON_GetArraySize(rows) == 0 && !cli->json) {
        fputs("There are no such events.\n", cli->term.out);
    }
    cJSON_Delete(answer);
    return MAYDAY_EXIT_OK;
}

/* ---- tail ---- */

/* Shows new rows, oldest first, and moves *after behind the last. */
static void
show_new(const mayday_cli_t *cli, cJSON *rows, bool newest_first, int64_t *after)
{
    cJSON *row = rows == NULL ? NULL : rows->child;

    if (newest_first) {
        while (row != NULL && row->next != NULL) {
            row = row->next;
        }
    }
    while (row != NULL) {
        int64_t number = (int64_t) mayday_json_us(row, "row");

        show(cli, row);
        *after = number > *after ? number : *after;
        row = newest_first ? (row == rows->child ? NULL : row->prev) : row->next;
    }
    fflush(cli->term.out);
}

static cJSON *
fetch(mayday_cli_t *cli, const char *path, mayday_rc_t *rc, mayday_buf_t *error)
{
    mayday_reply_t reply;
    cJSON *answer = NULL;

    *rc = mayday_client_call(cli->socket_path, path, NULL, TIMEOUT_S, &reply, error);
    if (*rc == MAYDAY_OK) {
        answer = reply.status == 200 ? cJSON_ParseWithLength(reply.body, reply.len) : NULL;
        mayday_reply_free(&reply);
    }
    return answer;
}

static void
pause_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

    (void) nanosleep(&pause, NULL);
}

/* Follows for ever; an agent that goes away is waited for. */
static int
follow(mayday_cli_t *cli, int64_t after)
{
    bool away = false;

    for (;;) {
        char path[128], text[512];
        mayday_buf_t error;
        mayday_rc_t rc;
        cJSON *answer;

        pause_ms(POLL_MS);
        mayday_buf_init(&error, text, sizeof(text));
        if (after > 0) {
            snprintf(path, sizeof(path), MAYDAY_API_EVENTS "?limit=%u&after=%lld", LIMIT_MAX,
                     (long long) after);
        } else {
            snprintf(path, sizeof(path), MAYDAY_API_EVENTS "?limit=%u", LIMIT_MAX);
        }
        answer = fetch(cli, path, &rc, &error);
        if (rc == MAYDAY_DENIED) {
            mayday_cli_error_text("", text);
            return MAYDAY_EXIT_NO_AGENT;
        }
        if (rc != MAYDAY_OK && !away) {
            mayday_cli_error_text("waiting for the agent: ", text);
        }
        away = rc != MAYDAY_OK;
        show_new(cli, cJSON_GetObjectItemCaseSensitive(answer, "events"), after == 0, &after);
        cJSON_Delete(answer);
        if (ferror(cli->term.out)) {
            return MAYDAY_EXIT_OK; /* the reader of a pipe has gone */
        }
    }
}

static int
run_tail(mayday_cli_t *cli)
{
    char path[128];
    int64_t after = 0;
    int exit_code;
    cJSON *answer;

    snprintf(path, sizeof(path), MAYDAY_API_EVENTS "?limit=%u", TAIL_FIRST);
    answer = mayday_client_json(cli, path, NULL, TIMEOUT_S, &exit_code);
    if (answer == NULL) {
        return exit_code;
    }
    show_new(cli, cJSON_GetObjectItemCaseSensitive(answer, "events"), true, &after);
    cJSON_Delete(answer);
    return follow(cli, after);
}

const mayday_command_t mayday_command_events = {
    .name = "events",
    .options = "kind issue since limit json",
    .summary = "the events in the store",
    .help = events_help,
    .run = run_events,
};

const mayday_command_t mayday_command_tail = {
    .name = "tail",
    .options = "json",
    .summary = "events as they happen",
    .help = tail_help,
    .run = run_tail,
};
