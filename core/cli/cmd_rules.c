/*
 * mayday rules test: runs a rules file over events and shows what it would do.
 * It does so in this process, with the agent's own rules and their bounds; nothing
 * of a running agent is changed, and none is needed.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/agent/log.h"
#include "core/cli/diff.h"
#include "core/cli/rules_show.h"
#include "core/cli/source.h"
#include "core/event/json.h"

#ifndef MAYDAY_LUA_DIR
#define MAYDAY_LUA_DIR "/usr/local/share/mayday/lua"
#endif

#define LAST_DEFAULT 20u
#define LOG_LINES_MAX 20

static const char help[] =
    "Runs a rules file over events and shows what it would do to each: what it drops and why, "
    "what\n"
    "it changes, where it fails, what it costs. Nothing is sent and nothing of a running agent is\n"
    "changed. `mayday rules check FILE` only loads the file.\n\n"
    "      --last N         over the last N events in the store, up to 1000 (default 20)\n"
    "      --dropped        over those that rules dropped instead: would these still?\n"
    "      --reason REASON  with --dropped: only those dropped for this reason\n"
    "      --event FILE     over the events in a file, as `mayday show ID --json` prints them, "
    "one\n"
    "                       or many; - is standard input. May be given more than once\n"
    "      --format=FORMAT  text (default) or json\n"
    "  -d, --directory DIR  the instance whose store is read; without an agent, its state "
    "directory\n\n"
    "Events are as they went out: scrubbed, and changed by the rules of then. Where there is\n"
    "neither agent nor store nor --event, or the store is empty, the file is loaded all the same,\n"
    "unless --last or --dropped asked for events. mayday.hmac has a key of the test's own.\n\n"
    "Exit status: 0 well; 1 the rules fail on an event, or do not load; 2 misused, or events were\n"
    "asked for and there are none.\n\n"
    "Examples:\n"
    "  mayday rules test /etc/mayday/rules.lua\n"
    "  mayday rules test rules.lua --last 500 --format=json | jq .summary\n"
    "  mayday rules test rules.lua --dropped --reason bot\n"
    "  mayday show 3fa9c1d2 --json > bot.json; mayday rules test rules.lua --event bot.json\n";

/* The settings of an event come from its server; these are for what needs some. */
static const mayday_settings_t settings = {
    .server = "", .server_version = "", .server_name = "", .environment = "", .release = ""};

typedef struct {
    const mayday_term_t *term;
    bool json;
    mayday_rules_t *rules;
    mayday_trials_t trials;
    mayday_record_view_t view;
    mayday_event_t event;
    cJSON *log; /* of the event under way, or of the loading */
} test_t;

/* ---- one event ---- */

/* A line that the rules wrote. */
static void
take_line(void *ctx, mayday_log_level_t level, const char *text)
{
    test_t *test = ctx;
    cJSON *line;

    if (test->log == NULL) {
        test->log = cJSON_CreateArray();
    }
    if (cJSON_GetArraySize(test->log) == LOG_LINES_MAX) {
        return;
    }
    line = cJSON_CreateObject();
    (void) cJSON_AddStringToObject(line, "level", mayday_log_level_name(level));
    (void) cJSON_AddStringToObject(line, "text", text);
    cJSON_AddItemToArray(test->log, line);
}

static void
take_change(void *ctx, const mayday_change_t *change)
{
    cJSON *list = ctx, *object = cJSON_CreateObject();

    (void) cJSON_AddStringToObject(object, "path", change->path);
    if (change->old != NULL) {
        cJSON_AddItemToObject(object, "old", cJSON_Duplicate(change->old, true));
    }
    if (change->now != NULL) {
        cJSON_AddItemToObject(object, "now", cJSON_Duplicate(change->now, true));
    }
    cJSON_AddItemToArray(list, object);
}

/* The differences; _meta follows from the rest. */
static const cJSON *
changes_of(test_t *test, const cJSON *before)
{
    cJSON *list = cJSON_CreateArray(), *after = cJSON_CreateObject(), *old;

    old = cJSON_CreateObject();
    for (mayday_part_t part = 0; part < MAYDAY_PART_META; part++) {
        const char *key = mayday_event_part_key(part);
        cJSON *value = cJSON_GetObjectItemCaseSensitive(before, key);

        (void) cJSON_AddItemReferenceToObject(old, key, value);
        (void) cJSON_AddItemReferenceToObject(after, key, mayday_event_part(&test->event, part));
    }
    mayday_diff(old, after, take_change, list);
    return list;
}

static double
cpu_us(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}

static mayday_outcome_t
outcome_of(const mayday_trial_t *trial)
{
    switch (trial->result.verdict) {
    case MAYDAY_RULES_DROP:
        return MAYDAY_TRIAL_DROPPED;
    case MAYDAY_RULES_FAILED:
        return MAYDAY_TRIAL_FAILED;
    default:
        return cJSON_GetArraySize(trial->changes) > 0 ? MAYDAY_TRIAL_CHANGED : MAYDAY_TRIAL_KEPT;
    }
}

static void
show(test_t *test, const mayday_trial_t *trial)
{
    char *text;

    if (!test->json) {
        mayday_trial_show(test->term, trial);
        return;
    }
    text = mayday_json_print(mayday_trial_json(trial), false);
    fputs(test->trials.events > 1 ? ",\n" : "\n", test->term->out);
    mayday_term_json(test->term, mayday_slice_str(text == NULL ? "{}" : text));
}

static void
try_event(test_t *test, const cJSON *before)
{
    mayday_trial_t trial = {.event_id = mayday_json_string(before, "event_id"),
                            .transaction = mayday_json_string(before, "transaction"),
                            .status = (unsigned) mayday_view_u64(&test->view, STATUS)};

    test->log = NULL;
    mayday_rules_settle(test->rules);
    trial.cpu_us = cpu_us();
    mayday_rules_run(test->rules, &test->event, &trial.result);
    trial.cpu_us = cpu_us() - trial.cpu_us;
    trial.memory = mayday_rules_memory(test->rules);
    trial.log = test->log == NULL ? cJSON_CreateArray() : test->log;
    trial.changes =
        trial.result.verdict == MAYDAY_RULES_KEEP ? changes_of(test, before) : cJSON_CreateArray();
    trial.outcome = outcome_of(&trial);
    mayday_trials_add(&test->trials, &trial);
    show(test, &trial);
}

/* Everything of the event is in its arena. */
static int
visit(void *ctx, mayday_slice_t json, const char *name)
{
    test_t *test = ctx;
    int exit_code = MAYDAY_EXIT_OK;
    char prefix[512];
    cJSON *event, *before;

    mayday_event_memory_begin();
    event = cJSON_ParseWithLength(json.data, json.len);
    before = cJSON_Duplicate(event, true);
    if (before == NULL ||
        mayday_event_from_json(&test->event, &test->view, &settings, event) != MAYDAY_OK) {
        snprintf(prefix, sizeof(prefix), "%.500s: ", name);
        mayday_cli_error_text(prefix, event == NULL ? "this is not JSON" : "this is not an event");
        exit_code = MAYDAY_EXIT_USAGE;
    } else {
        try_event(test, before);
    }
    mayday_event_memory_end();
    return exit_code;
}

/* ---- the test ---- */

/* Says how the loading went. */
static void
show_loaded(const test_t *test, const char *file, const char *error)
{
    const mayday_term_t *term = test->term;

    if (test->json) {
        cJSON *json = cJSON_CreateObject();
        char *text;

        (void) cJSON_AddStringToObject(json, "file", file);
        if (error != NULL) {
            (void) cJSON_AddStringToObject(json, "error", error);
        } else if (test->log != NULL) {
            cJSON_AddItemToObject(json, "log", cJSON_Duplicate(test->log, true));
        }
        text = mayday_json_print(json, false);
        if (text != NULL) { /* all but the brace that ends it */
            mayday_term_json(term, mayday_slice(text, strlen(text) - 1));
        }
        cJSON_free(text);
        cJSON_Delete(json);
    } else if (error != NULL) {
        mayday_cli_error_text("", error);
    } else {
        mayday_term_sign(term, MAYDAY_STYLE_GOOD, MAYDAY_SIGN_GOOD);
        fputc(' ', term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_BOLD, mayday_slice_str(file), 0);
        fputs(" loads\n", term->out);
        mayday_trial_show_log(term, test->log);
    }
}

static void
show_end(const test_t *test)
{
    if (test->json) {
        char *text;
        cJSON *json = mayday_trials_json(&test->trials);

        text = mayday_json_print(json, false);
        fprintf(test->term->out, "%s],\"summary\":", test->trials.events > 0 ? "\n" : "");
        mayday_term_json(test->term, mayday_slice_str(text == NULL ? "{}" : text));
        fputs("}\n", test->term->out);
        cJSON_free(text);
        cJSON_Delete(json);
    } else if (test->trials.events > 0) {
        mayday_trials_show(test->term, &test->trials);
    }
}

/* Why it ran over nothing. Returns the exit code: the file was loaded, if that is all. */
static int
show_none(const test_t *test, const mayday_cli_t *cli, bool found)
{
    const char *why = !found ? "no agent answers, and there is no store in " MAYDAY_SOURCE_STORES
                      : cli->reason != NULL ? "the store holds no event dropped for this reason"
                      : cli->dropped        ? "the store holds no event that rules dropped"
                                            : "the store is empty";

    if (cli->last != NULL || cli->dropped) {
        mayday_cli_error("there is no event to run it over: %s", why);
        return MAYDAY_EXIT_USAGE;
    }
    if (!test->json) {
        fprintf(test->term->out,
                "There is no event to run it over: %s.\nGive some with --event FILE.\n", why);
    }
    return MAYDAY_EXIT_OK;
}

/* Runs the rules over what was asked for. Returns the exit code. */
static int
run_over(mayday_cli_t *cli, test_t *test, unsigned last)
{
    int exit_code = MAYDAY_EXIT_OK;
    bool asked_for =
        cli->directory != NULL || cli->socket != NULL || cli->last != NULL || cli->dropped;

    if (test->json) {
        fputs(",\"events\":[", test->term->out);
    } else {
        fputc('\n', test->term->out);
    }
    for (size_t i = 0; i < cli->events.count && exit_code == MAYDAY_EXIT_OK; i++) {
        exit_code = mayday_source_file(cli->events.items[i], visit, test);
    }
    if (exit_code == MAYDAY_EXIT_OK && (cli->events.count == 0 || asked_for)) {
        exit_code = mayday_source_stored(cli, last, visit, test);
        if (exit_code == MAYDAY_SOURCE_NONE ||
            (exit_code == MAYDAY_EXIT_OK && test->trials.events == 0)) {
            exit_code = show_none(test, cli, exit_code != MAYDAY_SOURCE_NONE);
        }
    }
    show_end(test);
    return exit_code != MAYDAY_EXIT_OK                      ? exit_code
           : test->trials.outcomes[MAYDAY_TRIAL_FAILED] > 0 ? MAYDAY_EXIT_FAILED
                                                            : MAYDAY_EXIT_OK;
}

static int
test_file(mayday_cli_t *cli, test_t *test, bool only_load, unsigned last)
{
    static const uint8_t hash_key[16] = "of a test's own";
    char error[1024];
    int exit_code = MAYDAY_EXIT_OK;

    mayday_log_divert(take_line, test);
    if (access(cli->second, R_OK) != 0) {
        snprintf(error, sizeof(error), "%s: %s", cli->second, strerror(errno));
    } else {
        test->rules = mayday_rules_new(cli->second, MAYDAY_LUA_DIR, hash_key, error, sizeof(error));
    }
    show_loaded(test, cli->second, test->rules == NULL ? error : NULL);
    cJSON_Delete(test->log);
    test->log = NULL;
    if (test->rules != NULL && !only_load) {
        exit_code = run_over(cli, test, last);
    } else if (test->json) {
        fputs("}\n", test->term->out);
    }
    mayday_log_divert(NULL, NULL);
    if (test->rules == NULL) {
        return MAYDAY_EXIT_FAILED;
    }
    mayday_rules_free(test->rules);
    return exit_code;
}

/* False: it is there, but no number of events. */
static bool
parse_last(const char *text, unsigned *last)
{
    char *rest;
    unsigned long n;

    *last = LAST_DEFAULT;
    if (text == NULL) {
        return true;
    }
    n = strtoul(text, &rest, 10);
    *last = (unsigned) n;
    return text[0] >= '0' && text[0] <= '9' && rest[0] == '\0' && n >= 1 &&
           n <= MAYDAY_SOURCE_LAST_MAX;
}

static int
run(mayday_cli_t *cli)
{
    const char *format = cli->format == NULL ? "text" : cli->format;
    bool json = strcmp(format, "json") == 0, only_load = strcmp(cli->operand, "check") == 0;
    test_t *test;
    unsigned last;
    int exit_code;

    if (!json && strcmp(format, "text") != 0) {
        return mayday_cli_usage(cli, "the format is text or json");
    }
    if (!parse_last(cli->last, &last)) {
        return mayday_cli_usage(cli, "--last is a number from 1 to %u", MAYDAY_SOURCE_LAST_MAX);
    }
    if (cli->reason != NULL && !cli->dropped) {
        return mayday_cli_usage(cli, "--reason needs --dropped");
    }
    if (cli->events.count > MAYDAY_CLI_LIST_MAX) {
        return mayday_cli_usage(cli, "--event may be given %d times", MAYDAY_CLI_LIST_MAX);
    }
    test = calloc(1, sizeof(*test));
    if (test == NULL) {
        mayday_cli_error("no memory");
        return MAYDAY_EXIT_FAILED;
    }
    test->term = &cli->term;
    test->json = json;
    exit_code = test_file(cli, test, only_load, last);
    free(test);
    return exit_code;
}

const mayday_command_t mayday_command_rules = {
    .name = "rules",
    .operand = "test|check FILE",
    .options = "last dropped reason event format",
    .summary = "what rules would have done to the last events",
    .help = help,
    .run = run,
};
