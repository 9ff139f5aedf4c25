/*
 * mayday events, issues and tail: one line an event (row.h); of issues, the
 * newest event of each.
 */
#include <stdlib.h>
#include <time.h>

#include "core/agent/status.h"
#include "core/capture/kind_format.h"
#include "core/cli/client.h"
#include "core/cli/row.h"
#include "core/event/json.h"

#define POLL_MS 250
#define TIMEOUT_S 30u
#define LIMIT_DEFAULT "20"
#define LIMIT_MAX 1000
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define TAIL_FIRST 10u /* shown before the live ones */
#define PATH_SIZE 1024

static const char events_help[] =
    "Lists the events in the store, the newest first.\n\n"
    "      --kind KIND      only of this kind (upstream_refused, limited, ...)\n"
    "      --issue HEX      only of this issue\n"
    "      --since TIME     only since a time (2026-11-22, \"2026-11-22 14:30\") or age (15m, 12h, "
    "7d)\n"
    "      --limit N        at most N, up to 1000 (default " LIMIT_DEFAULT ")\n"
    "      --dropped        those that rules dropped instead, the last 100 of each reason: which\n"
    "                       rule, where and why\n"
    "      --reason REASON  with --dropped: only for this reason (bot, before_send:bot, ...)\n"
    "      --json           one JSON object a line\n"
    "  -d, --directory DIR  the instance\n\n"
    "Columns: time, id, status, transaction, title, how often its issue was seen so far. Narrow\n"
    "terminals show titles without the kind in front. Of dropped events at most 5 a second of a\n"
    "reason and 20 in all are kept, scrubbed; `mayday status` counts all of them.\n\n"
    "Examples:\n"
    "  mayday events --since 1h\n"
    "  mayday events --kind upstream_read_timeout --limit 100\n"
    "  mayday events --dropped --reason bot\n"
    "  mayday events --json | jq -r .title | sort | uniq -c\n";

static const char issues_help[] = "Lists the issues among the newest " TEXT(
    LIMIT_MAX) " events in the store, the worst first: by level, then\n"
               "by how often they were seen. Each line is the issue's newest event.\n\n"
               "      --kind KIND      only of this kind (upstream_refused, limited, ...)\n"
               "      --since TIME     only since a time (2026-11-22, \"2026-11-22 14:30\") or age "
               "(15m, 12h, "
               "7d)\n"
               "      --json           one JSON object a line\n"
               "  -d, --directory DIR  the instance\n\n"
               "Examples:\n"
               "  mayday issues --since 1h\n"
               "  mayday issues --json | jq -r '[.issue_seen, .title] | @tsv'\n";

static const char tail_help[] =
    "Shows the last events, then each new one as it happens. Ends with Ctrl-C; waits while the\n"
    "agent is restarted.\n\n"
    "      --json           one JSON object a line\n"
    "  -d, --directory DIR  the instance\n\n"
    "Examples:\n"
    "  mayday tail\n"
    "  mayday tail --json | jq -r 'select(.kind == \"limited\") | .title'\n";

/* ---- events ---- */

/* Refuses what would only find nothing. */
static int
check_filters(const mayday_cli_t *cli)
{
    char storage[1024];
    mayday_buf_t kinds;
    bool known = cli->kind == NULL;

    mayday_buf_init(&kinds, storage, sizeof(storage));
    for (unsigned kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        const char *name = mayday_kind_name((mayday_kind_t) kind);

        known = known || strcmp(cli->kind, name) == 0;
        mayday_buf_addf(&kinds, "%s%s", kind == 0 ? "" : ", ", name);
    }
    if (!known) {
        return mayday_cli_usage(cli, "--kind is one of %s", kinds.data);
    }
    if (cli->issue != NULL &&
        (cli->issue[0] == '\0' || cli->issue[strspn(cli->issue, "0123456789abcdef")] != '\0')) {
        return mayday_cli_usage(cli, "--issue is hex digits, the member issue of --json");
    }
    return MAYDAY_EXIT_OK;
}

static int
events_path(mayday_cli_t *cli, mayday_buf_t *path)
{
    const char *limit = cli->limit == NULL ? LIMIT_DEFAULT : cli->limit;
    char *rest, since[32];
    unsigned long n = strtoul(limit, &rest, 10);
    uint64_t since_us;

    if (limit[0] < '0' || limit[0] > '9' || rest[0] != '\0' || n < 1 || n > LIMIT_MAX) {
        return mayday_cli_usage(cli, "--limit is a number from 1 to %d", LIMIT_MAX);
    }
    mayday_client_parameter(path, "limit", limit);
    if (cli->kind != NULL) {
        mayday_client_parameter(path, "kind", cli->kind);
    }
    if (cli->issue != NULL) {
        mayday_client_parameter(path, "issue", cli->issue);
    }
    if (cli->reason != NULL) {
        mayday_client_parameter(path, "reason", cli->reason);
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

/* The store's rows that the options ask for; NULL: said why. Free it. */
static cJSON *
ask(mayday_cli_t *cli, int *exit_code)
{
    char storage[PATH_SIZE];
    mayday_buf_t path;

    *exit_code = check_filters(cli);
    if (*exit_code != MAYDAY_EXIT_OK) {
        return NULL;
    }
    mayday_buf_init(&path, storage, sizeof(storage));
    mayday_buf_adds(&path, cli->dropped ? MAYDAY_API_DROPPED : MAYDAY_API_EVENTS);
    *exit_code = events_path(cli, &path);
    return *exit_code == MAYDAY_EXIT_OK
               ? mayday_client_json(cli, path.data, NULL, TIMEOUT_S, exit_code)
               : NULL;
}

/* "1 event", "12 events" */
static void
say_count(const mayday_term_t *term, int n, const char *name)
{
    mayday_term_say(term, MAYDAY_STYLE_DIM, "%d %s%s", n, name, n == 1 ? "" : "s");
}

/* What to do with a list, under it; for people, so on terminals only. */
static void
say_next(const mayday_term_t *term, const cJSON *row)
{
    mayday_term_say(term, MAYDAY_STYLE_DIM, "; one in full: mayday show %.8s\n",
                    mayday_json_string(row, "event_id"));
}

static int
run_events(mayday_cli_t *cli)
{
    const mayday_term_t *term = &cli->term;
    unsigned time_columns;
    cJSON *answer, *rows, *row;
    int exit_code, n;

    if (cli->reason != NULL && !cli->dropped) {
        return mayday_cli_usage(cli, "--reason needs --dropped");
    }
    if (cli->issue != NULL && cli->dropped) {
        return mayday_cli_usage(cli, "dropped events are of no issue: --issue or --dropped");
    }
    answer = ask(cli, &exit_code);
    if (answer == NULL) {
        return exit_code;
    }
    rows = cJSON_GetObjectItemCaseSensitive(answer, "events");
    n = cJSON_GetArraySize(rows);
    time_columns = mayday_row_time_columns(rows);
    if (n > 0 && !cli->json) {
        mayday_row_head(term, time_columns, cli->dropped);
    }
    cJSON_ArrayForEach(row, rows)
    {
        mayday_row_show(cli, row, time_columns);
    }
    if (n == 0 && !cli->json) {
        fputs("There are no such events.\n", term->out);
    } else if (!cli->json && term->width > 0) {
        fputc('\n', term->out);
        say_count(term, n, cli->dropped ? "dropped event" : "event");
        if (n == strtol(cli->limit == NULL ? LIMIT_DEFAULT : cli->limit, NULL, 10) &&
            n < LIMIT_MAX) {
            mayday_term_say(term, MAYDAY_STYLE_DIM, ", the newest (--limit %d for more)",
                            n < LIMIT_MAX / 5 ? n * 5 : LIMIT_MAX);
        }
        say_next(term, rows->child);
    }
    cJSON_Delete(answer);
    return MAYDAY_EXIT_OK;
}

/* ---- issues ---- */

static int
severity(const cJSON *row)
{
    static const char *const levels[] = {"debug", "info", "warning", "error", "fatal"};
    const char *level = mayday_json_string(row, "level");
    int i = MAYDAY_COUNT(levels);

    while (i > 0 && strcmp(levels[i - 1], level) != 0) {
        i--;
    }
    return i;
}

/* The worst first; rows carry a number that grows with their age here, so ties stay apart. */
static int
compare_rows(const void *a, const void *b)
{
    const cJSON *left = *(const cJSON *const *) a, *right = *(const cJSON *const *) b;
    double differences[] = {severity(right) - severity(left),
                            mayday_json_number(right, "issue_seen") -
                                mayday_json_number(left, "issue_seen"),
                            mayday_json_number(right, "row") - mayday_json_number(left, "row")};

    for (size_t i = 0; i < MAYDAY_COUNT(differences); i++) {
        if (differences[i] != 0) {
            return differences[i] < 0 ? -1 : 1;
        }
    }
    return 0;
}

/* The first row of each issue, which is its newest; returns how many. */
static int
newest_of_each(cJSON *rows, cJSON **issues)
{
    cJSON *row;
    int n = 0, i;

    cJSON_ArrayForEach(row, rows)
    {
        const char *issue = mayday_json_string(row, "issue");

        for (i = 0; i < n && strcmp(mayday_json_string(issues[i], "issue"), issue) != 0; i++) {
        }
        if (i == n && n < LIMIT_MAX) {
            issues[n++] = row;
        }
    }
    return n;
}

static int
run_issues(mayday_cli_t *cli)
{
    const mayday_term_t *term = &cli->term;
    unsigned time_columns;
    cJSON *issues[LIMIT_MAX], *answer, *rows;
    int exit_code, n, events;

    cli->limit = TEXT(LIMIT_MAX);
    answer = ask(cli, &exit_code);
    if (answer == NULL) {
        return exit_code;
    }
    rows = cJSON_GetObjectItemCaseSensitive(answer, "events");
    events = cJSON_GetArraySize(rows);
    time_columns = mayday_row_time_columns(rows);
    n = newest_of_each(rows, issues);
    qsort(issues, (size_t) n, sizeof(const cJSON *), compare_rows);
    if (n > 0 && !cli->json) {
        mayday_row_head(term, time_columns, false);
    }
    for (int i = 0; i < n; i++) {
        mayday_row_show(cli, issues[i], time_columns);
    }
    if (n == 0 && !cli->json) {
        fputs("There are no such issues.\n", term->out);
    } else if (!cli->json && term->width > 0) {
        fputc('\n', term->out);
        say_count(term, n, "issue");
        mayday_term_say(term, MAYDAY_STYLE_DIM, events == LIMIT_MAX ? " in the newest " : " in ");
        say_count(term, events, "event");
        say_next(term, issues[0]);
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
    unsigned time_columns = mayday_row_time_columns(rows);

    if (newest_first) {
        while (row != NULL && row->next != NULL) {
            row = row->next;
        }
    }
    while (row != NULL) {
        int64_t number = (int64_t) mayday_json_us(row, "row");

        mayday_row_show(cli, row, time_columns);
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
            snprintf(path, sizeof(path), MAYDAY_API_EVENTS "?limit=%d&after=%lld", LIMIT_MAX,
                     (long long) after);
        } else {
            snprintf(path, sizeof(path), MAYDAY_API_EVENTS "?limit=%d", LIMIT_MAX);
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
    .options = "kind issue since limit dropped reason json",
    .summary = "the events in the store",
    .help = events_help,
    .run = run_events,
};

const mayday_command_t mayday_command_issues = {
    .name = "issues",
    .options = "kind since json",
    .summary = "what fails, the worst first",
    .help = issues_help,
    .run = run_issues,
};

const mayday_command_t mayday_command_tail = {
    .name = "tail",
    .options = "json",
    .summary = "events as they happen",
    .help = tail_help,
    .run = run_tail,
};
