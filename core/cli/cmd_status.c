/*
 * mayday status: is all well, and if not, what is wrong; problems first.
 */
#include <stdlib.h>

#include "core/agent/status.h"
#include "core/cli/client.h"
#include "core/event/json.h"

#define LABEL_COLUMNS 12u
#define REASONS_COLUMN (LABEL_COLUMNS + 9u + 3u)
#define REASONS_MAX 256
#define TIMEOUT_S 10u

static const char status_help[] =
    "Shows whether the agent is well and what it has counted. The numbers are exact and go on\n"
    "over restarts.\n\n"
    "      --format=FORMAT  text (default), json, or prometheus\n"
    "  -d, --directory DIR  the instance\n\n"
    "Exit status: 0 healthy, 1 degraded, 2 no agent.\n\n"
    "Examples:\n"
    "  mayday status\n"
    "  mayday status --format=json | jq .counts\n"
    "  mayday status --format=prometheus > /var/lib/node_exporter/mayday.prom\n";

static void
label(const mayday_term_t *term, const char *text)
{
    mayday_term_column(term, MAYDAY_STYLE_DIM, mayday_slice_str(text), LABEL_COLUMNS);
}

static void
say_number(const mayday_term_t *term, mayday_style_t style, double number)
{
    char text[32];

    mayday_cli_number(text, sizeof(text), number);
    mayday_term_say(term, style, "%s", text);
}

static void
say_text(const mayday_term_t *term, const char *text)
{
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(text), 0);
}

static void
say_ago(const mayday_term_t *term, uint64_t time_us)
{
    char text[48];
    uint64_t now_us = mayday_clock_us();

    mayday_cli_duration(text, sizeof(text), time_us < now_us ? now_us - time_us : 0);
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "%s ago", text);
}

static void
say_until(const mayday_term_t *term, uint64_t time_us)
{
    char text[48];
    uint64_t now_us = mayday_clock_us();

    mayday_cli_duration(text, sizeof(text), time_us > now_us ? time_us - now_us : 0);
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "%s", text);
}

static void
separate(const mayday_term_t *term)
{
    fputc(' ', term->out);
    mayday_term_sign(term, MAYDAY_STYLE_DIM, MAYDAY_SIGN_DOT);
    fputc(' ', term->out);
}

/* "● healthy  nginx/1.22.1 · agent 0.1.0, process 4711, for 3 h" and whose it is. */
static void
show_head(const mayday_term_t *term, const cJSON *agent, bool healthy)
{
    char up[48];
    uint64_t now_us = mayday_clock_us(), started_us = mayday_json_us(agent, "started_us");

    mayday_cli_duration(up, sizeof(up), started_us < now_us ? now_us - started_us : 0);
    mayday_term_sign(term, healthy ? MAYDAY_STYLE_GOOD : MAYDAY_STYLE_ERROR,
                     healthy ? MAYDAY_SIGN_GOOD : MAYDAY_SIGN_BAD);
    mayday_term_say(term, healthy ? MAYDAY_STYLE_GOOD : MAYDAY_STYLE_ERROR, " %s",
                    healthy ? "healthy" : "degraded");
    separate(term);
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                            mayday_slice_str(mayday_json_string(agent, "server_version")), 0);
    separate(term);
    fputs("agent ", term->out);
    say_text(term, mayday_json_string(agent, "version"));
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, ", process %.0f, user ",
                    mayday_json_number(agent, "pid"));
    say_text(term, mayday_json_string(agent, "user"));
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, ", up %s\n\n", up);
}

static void
show_problems(const mayday_term_t *term, const cJSON *problems)
{
    const cJSON *problem;

    cJSON_ArrayForEach(problem, problems)
    {
        if (cJSON_IsString(problem)) {
            fputs("  ", term->out);
            mayday_term_sign(term, MAYDAY_STYLE_ERROR, MAYDAY_SIGN_BAD);
            fputc(' ', term->out);
            say_text(term, problem->valuestring);
            fputc('\n', term->out);
        }
    }
    if (cJSON_GetArraySize(problems) > 0) {
        fputc('\n', term->out);
    }
}

static double
sum(const cJSON *numbers)
{
    const cJSON *number;
    double total = 0;

    cJSON_ArrayForEach(number, numbers)
    {
        total += cJSON_IsNumber(number) ? number->valuedouble : 0;
    }
    return total;
}

/* One "reason 12" of a list that goes on below, where it began, where the terminal ends. */
static unsigned
say_reason(const mayday_term_t *term, const char *reason, double number, bool first,
           unsigned column, unsigned begin)
{
    mayday_slice_t name = mayday_slice_str(reason);
    char text[32];
    unsigned width;

    mayday_cli_number(text, sizeof(text), number);
    width = mayday_term_width(term, name) + 1 + (unsigned) strlen(text);
    if (!first && term->width > 0 && column + 3 + width > term->width) {
        fprintf(term->out, "\n%*s", (int) begin, "");
        column = begin;
    } else if (!first) {
        separate(term);
        column += 3;
    }
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, name, 0);
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, " %s", text);
    return column + width;
}

static int
compare_numbers(const void *a, const void *b)
{
    double left = (*(const cJSON *const *) a)->valuedouble;
    double right = (*(const cJSON *const *) b)->valuedouble;

    return left > right ? -1 : left < right;
}

static void
say_total(const mayday_term_t *term, const char *name, mayday_style_t style, double number)
{
    char text[32];

    mayday_cli_number(text, sizeof(text), number);
    label(term, name);
    mayday_term_say(term, number > 0 ? style : MAYDAY_STYLE_DIM, "%9s", text);
}

/* "captured   412   upstream_refused 300 · limited 112", the biggest first. */
static void
show_count(const mayday_term_t *term, const char *name, const cJSON *by_reason,
           mayday_style_t style)
{
    const cJSON *reasons[REASONS_MAX] = {NULL}, *reason;
    unsigned column = REASONS_COLUMN;
    size_t n = 0;

    cJSON_ArrayForEach(reason, by_reason)
    {
        if (n < REASONS_MAX && cJSON_IsNumber(reason) && reason->valuedouble > 0) {
            reasons[n++] = reason;
        }
    }
    qsort(reasons, n, sizeof(const cJSON *), compare_numbers);
    say_total(term, name, style, sum(by_reason));
    for (size_t i = 0; i < n; i++) {
        fputs(i == 0 ? "   " : "", term->out);
        column = say_reason(term, reasons[i]->string, reasons[i]->valuedouble, i == 0, column,
                            REASONS_COLUMN);
    }
    fputc('\n', term->out);
}

static void
show_counts(const mayday_term_t *term, const cJSON *status)
{
    static const struct {
        const char *name;
        mayday_style_t style;
        bool always;
    } groups[] = {{"captured", MAYDAY_STYLE_BOLD, true},
                  {"ignored", MAYDAY_STYLE_PLAIN, true},
                  {"filtered", MAYDAY_STYLE_PLAIN, true},
                  {"observed", MAYDAY_STYLE_PLAIN, false}, /* mode=observe */
                  {"suppressed", MAYDAY_STYLE_PLAIN, true},
                  {"dropped", MAYDAY_STYLE_ERROR, true}};
    const cJSON *counts = cJSON_GetObjectItemCaseSensitive(status, "counts");
    const cJSON *queue = cJSON_GetObjectItemCaseSensitive(status, "queue");
    double requests = mayday_json_number(counts, "requests");
    double captured = sum(cJSON_GetObjectItemCaseSensitive(counts, "captured"));

    say_total(term, "requests", MAYDAY_STYLE_BOLD, requests);
    if (requests > 0) {
        mayday_term_say(term, MAYDAY_STYLE_PLAIN, "   %.3g %% captured as failed",
                        100 * captured / requests);
    }
    fputc('\n', term->out);
    for (size_t i = 0; i < MAYDAY_COUNT(groups); i++) {
        const cJSON *group = cJSON_GetObjectItemCaseSensitive(counts, groups[i].name);

        if (groups[i].always || sum(group) > 0) {
            show_count(term, groups[i].name, group, groups[i].style);
        }
    }
    if (mayday_json_number(counts, "rule_errors") > 0) {
        say_total(term, "degraded", MAYDAY_STYLE_WARNING,
                  mayday_json_number(counts, "rule_errors"));
        fputs("   went out without details: the rules failed (the error log says where)\n",
              term->out);
    }
    if (cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(status, "delivery")) > 0) {
        say_total(term, "sent", MAYDAY_STYLE_BOLD, mayday_json_number(counts, "sent"));
        fputc('\n', term->out);
        say_total(term, "queued", MAYDAY_STYLE_PLAIN, mayday_json_number(queue, "events"));
        fputc('\n', term->out);
    }
    fputc('\n', term->out);
}

static void
show_receiver(const mayday_term_t *term, const cJSON *receiver)
{
    uint64_t sent_us = mayday_json_us(receiver, "last_sent_us");
    uint64_t error_us = mayday_json_us(receiver, "last_error_us");
    uint64_t now_us = mayday_clock_us();
    bool failing = error_us > sent_us;

    label(term, "receiver");
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                            mayday_slice_str(mayday_json_string(receiver, "dsn")), 0);
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "\n%*s", (int) LABEL_COLUMNS, "");
    say_number(term, MAYDAY_STYLE_PLAIN, mayday_json_number(receiver, "sent"));
    fputs(" sent", term->out);
    if (sent_us > 0) {
        fputs(", the last ", term->out);
        say_ago(term, sent_us);
    }
    separate(term);
    say_number(term, MAYDAY_STYLE_PLAIN, mayday_json_number(receiver, "queued"));
    fputs(" queued\n", term->out);
    if (error_us > 0) {
        fprintf(term->out, "%*s", (int) LABEL_COLUMNS, "");
        mayday_term_say(term, failing ? MAYDAY_STYLE_ERROR : MAYDAY_STYLE_DIM, "last error ");
        say_ago(term, error_us);
        fputs(": ", term->out);
        (void) mayday_term_text(term, failing ? MAYDAY_STYLE_ERROR : MAYDAY_STYLE_PLAIN,
                                mayday_slice_str(mayday_json_string(receiver, "last_error")), 0);
        fputc('\n', term->out);
    }
    if (mayday_json_us(receiver, "limited_until_us") > now_us) {
        mayday_term_say(term, MAYDAY_STYLE_WARNING, "%*sthe receiver limits us for another ",
                        (int) LABEL_COLUMNS, "");
        say_until(term, mayday_json_us(receiver, "limited_until_us"));
        fputc('\n', term->out);
    } else if (mayday_json_us(receiver, "retry_at_us") > now_us) {
        fprintf(term->out, "%*snext try in ", (int) LABEL_COLUMNS, "");
        say_until(term, mayday_json_us(receiver, "retry_at_us"));
        fputc('\n', term->out);
    }
}

static void
show_delivery(const mayday_term_t *term, const cJSON *delivery)
{
    const cJSON *receiver;

    if (cJSON_GetArraySize(delivery) == 0) {
        label(term, "receiver");
        fputs("none: events are kept here only (mayday_dsn sends them on)\n", term->out);
    }
    cJSON_ArrayForEach(receiver, delivery)
    {
        show_receiver(term, receiver);
    }
}

static void
show_lanes(const mayday_term_t *term, const cJSON *lanes)
{
    char unread[32], size[32];

    mayday_cli_bytes(unread, sizeof(unread), mayday_json_number(lanes, "unread_bytes"));
    mayday_cli_bytes(size, sizeof(size), mayday_json_number(lanes, "size"));
    label(term, "lanes");
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "%.0f in use", mayday_json_number(lanes, "alive"));
    if (mayday_json_number(lanes, "dead") > 0) {
        mayday_term_say(term, MAYDAY_STYLE_PLAIN, ", %.0f of ended processes",
                        mayday_json_number(lanes, "dead"));
    }
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, ", %s of %s unread\n", unread, size);
}

static bool
is_observed(const cJSON *rule)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(rule, "observed"));
}

static bool
same_place(const cJSON *a, const cJSON *b)
{
    return strcmp(mayday_json_string(a, "where"), mayday_json_string(b, "where")) == 0 &&
           strcmp(mayday_json_string(a, "outcome"), mayday_json_string(b, "outcome")) == 0 &&
           is_observed(a) == is_observed(b);
}

/* "rules.lua:12  dropped     bot 300 · health 4" for each place of the rules that did something. */
static void
show_rule_counts(const mayday_term_t *term, const cJSON *rules)
{
    const unsigned outcome_columns = 10;
    const cJSON *rule, *last = NULL;
    unsigned where_columns = 0, column = 0, width;

    cJSON_ArrayForEach(rule, rules)
    {
        width = mayday_term_width(term, mayday_slice_str(mayday_json_string(rule, "where")));
        where_columns = width > where_columns ? width : where_columns;
    }
    where_columns = where_columns < 32 ? where_columns : 32;
    cJSON_ArrayForEach(rule, rules)
    {
        bool observed = is_observed(rule);
        bool failed = strcmp(mayday_json_string(rule, "outcome"), "failed") == 0;
        bool first = last == NULL || !same_place(last, rule);
        unsigned begin = LABEL_COLUMNS + where_columns + 2 + outcome_columns + 2;

        if (first) {
            fprintf(term->out, "%s%*s", last == NULL ? "" : "\n", (int) LABEL_COLUMNS, "");
            mayday_term_column(term, MAYDAY_STYLE_BOLD,
                               mayday_slice_str(mayday_json_string(rule, "where")), where_columns);
            mayday_term_say(term, failed ? MAYDAY_STYLE_ERROR : MAYDAY_STYLE_PLAIN, "  %-*s  ",
                            (int) outcome_columns,
                            observed ? (failed ? "would fail" : "would drop")
                                     : (failed ? "failed" : "dropped"));
            column = begin;
        }
        column = say_reason(term, failed ? "events" : mayday_json_string(rule, "reason"),
                            mayday_json_number(rule, "count"), first, column, begin);
        last = rule;
    }
    fputs(last == NULL ? "" : "\n", term->out);
}

static void
show_rules(const mayday_term_t *term, const cJSON *rules, const cJSON *counts)
{
    const char *file = mayday_json_string(rules, "file");

    label(term, "rules");
    if (file[0] == '\0') {
        fputs("none\n", term->out);
        return;
    }
    say_text(term, file);
    if (mayday_json_string(rules, "mode")[0] != '\0') {
        fputs(", ", term->out);
        say_text(term, mayday_json_string(rules, "mode"));
    }
    if (mayday_json_us(rules, "loaded_us") > 0) {
        fputs(", loaded ", term->out);
        say_ago(term, mayday_json_us(rules, "loaded_us"));
    }
    fputc('\n', term->out);
    show_rule_counts(term, counts);
}

static void
show_place(const mayday_term_t *term, const char *name, const char *value)
{
    if (value[0] != '\0') {
        label(term, name);
        say_text(term, value);
        fputc('\n', term->out);
    }
}

static void
show_text(const mayday_term_t *term, const cJSON *status, bool healthy)
{
    const cJSON *agent = cJSON_GetObjectItemCaseSensitive(status, "agent");

    show_head(term, agent, healthy);
    show_problems(term, cJSON_GetObjectItemCaseSensitive(status, "problems"));
    show_counts(term, status);
    show_delivery(term, cJSON_GetObjectItemCaseSensitive(status, "delivery"));
    show_rules(term, cJSON_GetObjectItemCaseSensitive(agent, "rules"),
               cJSON_GetObjectItemCaseSensitive(status, "rules"));
    show_lanes(term, cJSON_GetObjectItemCaseSensitive(status, "lanes"));
    show_place(term, "server", mayday_json_string(agent, "identity"));
    show_place(term, "directory", mayday_json_string(agent, "directory"));
}

/* Who asks without -d may have another one in mind. */
static void
show_silent(const mayday_cli_t *cli)
{
    const mayday_term_t *term = &cli->term;
    const char *name = strrchr(cli->silent, '/');

    if (cli->silent_count == 0) {
        return;
    }
    mayday_term_say(term, MAYDAY_STYLE_DIM, "\nanother instance, ");
    (void) mayday_term_text(term, MAYDAY_STYLE_DIM,
                            mayday_slice_str(name == NULL ? cli->silent : name + 1), 0);
    mayday_term_say(term, MAYDAY_STYLE_DIM, ", has no agent: mayday -d ");
    (void) mayday_term_text(term, MAYDAY_STYLE_DIM, mayday_slice_str(cli->silent), 0);
    mayday_term_say(term, MAYDAY_STYLE_DIM, " status");
    if (cli->silent_count > 1) {
        mayday_term_say(term, MAYDAY_STYLE_DIM, "; and %zu more", cli->silent_count - 1);
    }
    fputc('\n', term->out);
}

static void
show_json(const mayday_term_t *term, cJSON *status)
{
    char *text = mayday_json_print(status, true);

    if (text != NULL) {
        mayday_term_json(term, mayday_slice_str(text));
        fputc('\n', term->out);
        cJSON_free(text);
    }
}

static int
show_metrics(mayday_cli_t *cli)
{
    int exit_code;
    char *text = mayday_client_text(cli, MAYDAY_API_METRICS, &exit_code);

    if (text != NULL) {
        mayday_term_lines(&cli->term, mayday_slice_str(text));
        free(text);
    }
    return exit_code;
}

static int
run(mayday_cli_t *cli)
{
    const char *format = cli->format == NULL ? "text" : cli->format;
    bool text = strcmp(format, "text") == 0, metrics = strcmp(format, "prometheus") == 0;
    int exit_code;
    cJSON *status;
    bool healthy;

    if (!text && !metrics && strcmp(format, "json") != 0) {
        return mayday_cli_usage(cli, "the format is text, json or prometheus");
    }
    status = mayday_client_json(cli, MAYDAY_API_STATUS, NULL, TIMEOUT_S, &exit_code);
    if (status == NULL) {
        return exit_code;
    }
    healthy = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(status, "healthy"));
    if (text) {
        show_text(&cli->term, status, healthy);
        show_silent(cli);
    } else if (metrics) {
        exit_code = show_metrics(cli);
    } else {
        show_json(&cli->term, status);
    }
    cJSON_Delete(status);
    return exit_code != MAYDAY_EXIT_OK || healthy ? exit_code : MAYDAY_EXIT_FAILED;
}

const mayday_command_t mayday_command_status = {
    .name = "status",
    .options = "format",
    .summary = "whether all is well, and what was counted",
    .help = status_help,
    .run = run,
};
