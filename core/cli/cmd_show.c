/*
 * mayday show: one event as a page. What a developer asks first comes first: what
 * failed, which request, whose, which upstream, what the server's log says.
 */
#include <stdlib.h>
#include <time.h>

#include "core/agent/status.h"
#include "core/cli/client.h"
#include "core/event/json.h"

#define LABEL_COLUMNS 12u
#define TIMEOUT_S 30u

static const char help[] = "Shows one event in full. ID is what `mayday events` shows, or more of "
                           "it: 4 to 32 hex digits.\n"
                           "\n"
                           "      --json           as JSON, as it is sent to Sentry\n"
                           "  -d, --directory DIR  the instance\n\n"
                           "Examples:\n"
                           "  mayday show 3fa9c1d2\n"
                           "  mayday show 3fa9c1d2 --json | jq .request.headers\n";

/* ---- pieces ---- */

static const cJSON *
get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* A scalar as text from outside; false: it is none, nothing was printed. */
static bool
say_scalar(const mayday_term_t *term, mayday_style_t style, const cJSON *value)
{
    char text[40];

    if (value == NULL) {
        return false;
    }
    if (cJSON_IsString(value)) {
        (void) mayday_term_text(term, style, mayday_slice_str(value->valuestring), 0);
    } else if (cJSON_IsNumber(value)) {
        snprintf(text, sizeof(text), "%.15g", value->valuedouble);
        mayday_term_say(term, style, "%s", text);
    } else if (cJSON_IsBool(value)) {
        mayday_term_say(term, style, "%s", cJSON_IsTrue(value) ? "true" : "false");
    } else {
        return false;
    }
    return true;
}

static void
label(const mayday_term_t *term, const char *text)
{
    mayday_term_column(term, MAYDAY_STYLE_DIM, mayday_slice_str(text), LABEL_COLUMNS);
}

static void
indent(const mayday_term_t *term)
{
    fprintf(term->out, "%*s", (int) LABEL_COLUMNS, "");
}

/* A line "label  text", if there is text. */
static void
line(const mayday_term_t *term, const char *name, const char *text)
{
    if (text[0] != '\0') {
        label(term, name);
        (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(text), 0);
        fputc('\n', term->out);
    }
}

/*
 * "label  name value" and further ones below, aligned; of a list of pairs or of
 * an object, whose members may be objects themselves ("data.key").
 */
typedef struct {
    const mayday_term_t *term;
    const char *name; /* of the section; NULL once it was printed */
    unsigned columns;
} section_t;

static void
section_line(section_t *section, const char *prefix, const char *key, const cJSON *value)
{
    const mayday_term_t *term = section->term;
    unsigned used = 0;

    if (!cJSON_IsString(value) && !cJSON_IsNumber(value) && !cJSON_IsBool(value)) {
        return;
    }
    if (section->name != NULL) {
        fputc('\n', term->out);
        label(term, section->name);
        section->name = NULL;
    } else {
        indent(term);
    }
    if (prefix[0] != '\0') {
        used = mayday_term_text(term, MAYDAY_STYLE_ACCENT, mayday_slice_str(prefix), 0) + 1;
        mayday_term_say(term, MAYDAY_STYLE_ACCENT, ".");
    }
    mayday_term_column(term, MAYDAY_STYLE_ACCENT, mayday_slice_str(key),
                       section->columns > used ? section->columns - used : 0);
    fputs("  ", term->out);
    (void) say_scalar(term, MAYDAY_STYLE_PLAIN, value);
    fputc('\n', term->out);
}

static unsigned
key_columns(const mayday_term_t *term, const cJSON *list)
{
    const unsigned most = 24;
    const cJSON *item;
    unsigned widest = 0;

    cJSON_ArrayForEach(item, list)
    {
        const char *key = cJSON_IsArray(list) ? cJSON_GetStringValue(item->child) : item->string;
        unsigned width = key == NULL ? 0 : mayday_term_width(term, mayday_slice_str(key));

        widest = width > widest ? width : widest;
    }
    return widest < most ? widest : most;
}

static void
show_list(const mayday_term_t *term, const char *name, const cJSON *list)
{
    section_t section = {term, name, key_columns(term, list)};
    const cJSON *item, *member;

    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsArray(list)) {
            const char *key = cJSON_GetStringValue(item->child);

            section_line(&section, "", key == NULL ? "" : key,
                         item->child == NULL ? NULL : item->child->next);
        } else if (cJSON_IsObject(item)) {
            cJSON_ArrayForEach(member, item)
            {
                section_line(&section, item->string, member->string, member);
            }
        } else {
            section_line(&section, "", item->string, item);
        }
    }
}

/* ---- the page ---- */

static void
show_when(const mayday_term_t *term, const cJSON *event)
{
    uint64_t time_us = mayday_json_time_us(get(event, "timestamp")), now_us = mayday_clock_us();
    time_t t = (time_t) (time_us / 1000000);
    struct tm tm;
    char text[64], ago[48];

    if (time_us == 0) {
        return;
    }
    (void) localtime_r(&t, &tm);
    (void) strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    mayday_cli_duration(ago, sizeof(ago), time_us < now_us ? now_us - time_us : 0);
    label(term, "when");
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "%s.%03u", text, (unsigned) (time_us / 1000 % 1000));
    (void) strftime(text, sizeof(text), "%Z", &tm);
    mayday_term_say(term, MAYDAY_STYLE_DIM, " %s, %s ago\n", text, ago);
}

static void
show_title(const mayday_term_t *term, const cJSON *event)
{
    const cJSON *values = get(get(event, "exception"), "values");
    const cJSON *exception = cJSON_GetArrayItem(values, cJSON_GetArraySize(values) - 1);
    const char *level = mayday_json_string(event, "level"), *kind;
    mayday_style_t style = mayday_cli_level_style(level);

    fputc('\n', term->out);
    if (exception != NULL) {
        (void) mayday_term_text(term, style,
                                mayday_slice_str(mayday_json_string(exception, "type")), 0);
        fputs(": ", term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                                mayday_slice_str(mayday_json_string(exception, "value")), 0);
    } else {
        (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                                mayday_slice_str(mayday_json_string(event, "transaction")), 0);
    }
    fputs("\n\n", term->out);
    show_when(term, event);
    label(term, "level");
    (void) mayday_term_text(term, style, mayday_slice_str(level), 0);
    kind = mayday_json_string(get(get(event, "contexts"), "mayday"), "kind");
    if (kind[0] != '\0') {
        fputs(", kind ", term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(kind), 0);
    }
    fputc('\n', term->out);
}

/* "GET https://shop/orders/7 HTTP/2.0", of which a degraded event has the method only. */
static void
show_request_line(const mayday_term_t *term, const cJSON *request, const char *protocol)
{
    const char *const parts[] = {mayday_json_string(request, "method"),
                                 mayday_json_string(request, "url"), protocol};

    label(term, "request");
    for (size_t i = 0; i < MAYDAY_COUNT(parts); i++) {
        fputs(i > 0 && parts[i][0] != '\0' ? " " : "", term->out);
        (void) mayday_term_text(term, i < 2 ? MAYDAY_STYLE_BOLD : MAYDAY_STYLE_DIM,
                                mayday_slice_str(parts[i]), 0);
    }
    fputc('\n', term->out);
}

/* Why most of the event is missing, if it is. */
static void
show_degraded(const mayday_term_t *term, const cJSON *event)
{
    const char *error = mayday_json_string(get(event, "tags"), "mayday.rule_error");

    if (error[0] != '\0') {
        label(term, "degraded");
        mayday_term_say(term, MAYDAY_STYLE_WARNING, "the rules failed, so details were left out: ");
        (void) mayday_term_text(term, MAYDAY_STYLE_WARNING, mayday_slice_str(error), 0);
        fputc('\n', term->out);
    }
}

/* That rules dropped it, so it was not sent, and by which. */
static void
show_dropped(const mayday_term_t *term, const cJSON *dropped)
{
    bool observed = cJSON_IsTrue(get(dropped, "observed"));

    if (dropped == NULL) {
        return;
    }
    label(term, "dropped");
    mayday_term_say(term, MAYDAY_STYLE_WARNING, "%s",
                    observed ? "the rules, which are only observed, would have dropped it: "
                             : "not sent, kept here scrubbed: ");
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                            mayday_slice_str(mayday_json_string(dropped, "reason")), 0);
    fputs(", by ", term->out);
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN,
                            mayday_slice_str(mayday_json_string(dropped, "hook")), 0);
    fputs(" at ", term->out);
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD,
                            mayday_slice_str(mayday_json_string(dropped, "where")), 0);
    fputc('\n', term->out);
}

/*
 * A command that asks the same again, where that does no harm. What is in it came
 * from outside and will be pasted into a shell: it is in single quotes, and left
 * out where a terminal would show it otherwise than it is.
 */
static void
show_again(const mayday_term_t *term, const cJSON *request)
{
    const char *method = mayday_json_string(request, "method");
    const char *url = mayday_json_string(request, "url");
    const cJSON *query = get(request, "query_string"), *pair;
    bool head = strcmp(method, "HEAD") == 0;
    char storage[1024];
    mayday_buf_t text;

    mayday_buf_init(&text, storage, sizeof(storage));
    mayday_buf_adds(&text, url);
    cJSON_ArrayForEach(pair, query)
    {
        const char *name = cJSON_GetStringValue(pair->child);
        const char *value = name == NULL ? NULL : cJSON_GetStringValue(pair->child->next);

        mayday_buf_addf(&text, "%c%s=%s", pair == query->child ? '?' : '&',
                        name == NULL ? "" : name, value == NULL ? "" : value);
    }
    if ((!head && strcmp(method, "GET") != 0) || strncmp(url, "http", 4) != 0 || text.truncated ||
        strspn(storage, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                        "-._~:/?#[]@!$&()*+,;=%") != text.len) {
        return;
    }
    label(term, "try again");
    mayday_term_say(term, MAYDAY_STYLE_PLAIN, "curl -g%s '%s'\n", head ? "I" : "i", storage);
}

static void
show_request(const mayday_term_t *term, const cJSON *event)
{
    const cJSON *request = get(event, "request"), *contexts = get(event, "contexts");
    const cJSON *mayday = get(contexts, "mayday"), *response = get(contexts, "response");
    char text[32];

    show_request_line(term, request, mayday_json_string(mayday, "protocol"));
    label(term, "answer");
    (void) say_scalar(term, MAYDAY_STYLE_BOLD, get(response, "status_code"));
    if (cJSON_IsNumber(get(response, "body_size"))) {
        mayday_cli_bytes(text, sizeof(text), mayday_json_number(response, "body_size"));
        mayday_term_say(term, MAYDAY_STYLE_PLAIN, ", %s", text);
    }
    if (mayday_json_number(mayday, "duration_ms") >= 1) {
        mayday_term_say(term, MAYDAY_STYLE_PLAIN, ", after %.3f s",
                        mayday_json_number(mayday, "duration_ms") / 1000);
    } else if (cJSON_IsNumber(get(mayday, "duration_ms"))) {
        fputs(", at once", term->out);
    }
    fputc('\n', term->out);
    line(term, "transaction", mayday_json_string(event, "transaction"));
    show_again(term, request);
    if (mayday_json_number(mayday, "suppressed") > 0) {
        mayday_cli_number(text, sizeof(text), mayday_json_number(mayday, "suppressed"));
        label(term, "with it");
        mayday_term_say(term, MAYDAY_STYLE_WARNING, "%s more of this issue, counted only\n", text);
    }
}

/* The columns of times; one is shown where an attempt has it, for httpd has none. */
static const struct {
    const char *key, *title;
} times[] = {{"connect_ms", "connect"}, {"header_ms", "header"}, {"response_ms", "response"}};

static bool
has_number(const cJSON *attempts, const char *key)
{
    const cJSON *attempt;

    cJSON_ArrayForEach(attempt, attempts)
    {
        if (cJSON_IsNumber(get(attempt, key))) {
            return true;
        }
    }
    return false;
}

static void
say_ms(const mayday_term_t *term, const cJSON *ms)
{
    if (!cJSON_IsNumber(ms)) {
        fprintf(term->out, "  %9s", "");
        mayday_term_sign(term, MAYDAY_STYLE_DIM, MAYDAY_SIGN_NONE);
    } else if (ms->valuedouble < 1) {
        mayday_term_say(term, MAYDAY_STYLE_PLAIN, "  %10s", "< 1 ms");
    } else {
        mayday_term_say(term, MAYDAY_STYLE_PLAIN, "  %7.0f ms", ms->valuedouble);
    }
}

/* What came of it: a status, or none. */
static void
say_outcome(const mayday_term_t *term, double status)
{
    if (status > 0) {
        mayday_term_say(term, status < 500 ? MAYDAY_STYLE_GOOD : MAYDAY_STYLE_ERROR,
                        "  %3.0f      ", status);
    } else {
        mayday_term_say(term, MAYDAY_STYLE_ERROR, "  no answer");
    }
}

static void
show_attempt(const mayday_term_t *term, const cJSON *attempts, const cJSON *attempt,
             unsigned columns)
{
    mayday_term_column(term, MAYDAY_STYLE_PLAIN,
                       mayday_slice_str(mayday_json_string(attempt, "peer")), columns);
    say_outcome(term, mayday_json_number(attempt, "status_code"));
    for (size_t i = 0; i < MAYDAY_COUNT(times); i++) {
        if (has_number(attempts, times[i].key)) {
            say_ms(term, get(attempt, times[i].key));
        }
    }
    fputc('\n', term->out);
}

static void
show_attempts(const mayday_term_t *term, const cJSON *mayday)
{
    const cJSON *attempts = get(mayday, "attempts"), *attempt;
    unsigned columns = 4, width;

    fputc('\n', term->out);
    line(term, "upstream", mayday_json_string(mayday, "upstream"));
    if (cJSON_GetArraySize(attempts) == 0) {
        return;
    }
    cJSON_ArrayForEach(attempt, attempts)
    {
        width = mayday_term_width(term, mayday_slice_str(mayday_json_string(attempt, "peer")));
        columns = width > columns ? width : columns;
    }
    columns = columns < 48 ? columns : 48;
    label(term, "attempts");
    mayday_term_column(term, MAYDAY_STYLE_DIM, MAYDAY_SLICE("peer"), columns);
    mayday_term_say(term, MAYDAY_STYLE_DIM, "  status   ");
    for (size_t i = 0; i < MAYDAY_COUNT(times); i++) {
        if (has_number(attempts, times[i].key)) {
            mayday_term_say(term, MAYDAY_STYLE_DIM, "  %10s", times[i].title);
        }
    }
    fputc('\n', term->out);
    cJSON_ArrayForEach(attempt, attempts)
    {
        indent(term);
        show_attempt(term, attempts, attempt, columns);
    }
}

/* The lines, those that follow each other and are the same as one. */
static void
show_log(const mayday_term_t *term, const cJSON *lines)
{
    const cJSON *item = lines == NULL ? NULL : lines->child, *next;

    if (item != NULL) {
        fputc('\n', term->out);
        label(term, "log");
    }
    for (; item != NULL; item = next) {
        unsigned times_seen = 1;

        for (next = item->next; next != NULL && cJSON_Compare(item, next, true);
             next = next->next) {
            times_seen++;
        }
        if (item != lines->child) {
            indent(term);
        }
        (void) say_scalar(term, MAYDAY_STYLE_PLAIN, item);
        if (times_seen > 1) {
            mayday_term_say(term, MAYDAY_STYLE_BOLD, "  %s%u", term->utf8 ? "\xc3\x97" : "x",
                            times_seen);
        }
        fputc('\n', term->out);
    }
}

/* Where nobody gave a trace its id is the event's, which the page ends with. */
static void
show_trace(const mayday_term_t *term, const cJSON *event)
{
    const char *id = mayday_json_string(get(get(event, "contexts"), "trace"), "trace_id");

    if (strcmp(id, mayday_json_string(event, "event_id")) != 0) {
        line(term, "trace", id);
    }
}

/* The team's own; Mayday's say what stands elsewhere on the page. */
static void
show_tags(const mayday_term_t *term, const cJSON *tags)
{
    static const char *const ours[] = {"mayday.kind", "mayday.rule_error", "http.status_code",
                                       "handled", "upstream"};
    cJSON *rest = cJSON_Duplicate(tags, true);

    for (size_t i = 0; i < MAYDAY_COUNT(ours); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(rest, ours[i]);
    }
    show_list(term, "tags", rest);
    cJSON_Delete(rest);
}

static void
show_rest(const mayday_term_t *term, const cJSON *event)
{
    const cJSON *request = get(event, "request"), *contexts = get(event, "contexts");
    const cJSON *runtime = get(contexts, "runtime");

    show_list(term, "user", get(event, "user"));
    show_list(term, "query", get(request, "query_string"));
    show_list(term, "headers", get(request, "headers"));
    show_list(term, "cookies", get(request, "cookies"));
    show_list(term, "sent back", get(get(contexts, "response"), "headers"));
    show_tags(term, get(event, "tags"));
    show_list(term, "extra", get(event, "extra"));
    fputc('\n', term->out);
    show_trace(term, event);
    label(term, "server");
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN,
                            mayday_slice_str(mayday_json_string(event, "server_name")), 0);
    fputs(", ", term->out);
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN,
                            mayday_slice_str(mayday_json_string(runtime, "name")), 0);
    fputc(' ', term->out);
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN,
                            mayday_slice_str(mayday_json_string(runtime, "version")), 0);
    fputc('\n', term->out);
    line(term, "location", mayday_json_string(get(contexts, "mayday"), "location"));
    line(term, "environment", mayday_json_string(event, "environment"));
    line(term, "release", mayday_json_string(event, "release"));
    line(term, "event", mayday_json_string(event, "event_id"));
}

static void
show_page(const mayday_term_t *term, const cJSON *event)
{
    const cJSON *mayday = get(get(event, "contexts"), "mayday");

    show_title(term, event);
    show_degraded(term, event);
    show_dropped(term, get(mayday, "dropped"));
    show_request(term, event);
    show_attempts(term, mayday);
    show_log(term, get(mayday, "log_lines"));
    show_rest(term, event);
}

static void
show_json(const mayday_term_t *term, cJSON *event)
{
    char *text = mayday_json_print(event, true);

    if (text != NULL) {
        mayday_term_json(term, mayday_slice_str(text));
        fputc('\n', term->out);
        cJSON_free(text);
    }
}

static int
run(mayday_cli_t *cli)
{
    size_t len = strlen(cli->operand);
    char path[96];
    cJSON *event;
    int exit_code;

    if (len < 4 || len > 32 || strspn(cli->operand, "0123456789abcdefABCDEF") != len) {
        return mayday_cli_usage(cli, "ID is 4 to 32 hex digits, as `mayday events` shows them");
    }
    snprintf(path, sizeof(path), MAYDAY_API_EVENTS "/%.32s", cli->operand);
    event = mayday_client_json(cli, path, NULL, TIMEOUT_S, &exit_code);
    if (event == NULL) {
        return exit_code;
    }
    if (cli->json) {
        show_json(&cli->term, event);
    } else {
        show_page(&cli->term, event);
    }
    cJSON_Delete(event);
    return exit_code;
}

const mayday_command_t mayday_command_show = {
    .name = "show",
    .operand = "ID",
    .options = "json",
    .summary = "one event in full",
    .help = help,
    .run = run,
};
