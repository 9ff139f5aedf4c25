/*
 * What rules made of an event; see rules_show.h.
 */
#include "core/cli/rules_show.h"

#include "core/event/json.h"

#define INDENT 6
#define ID_DIGITS 8u
#define TRANSACTION_COLUMNS 36u     /* where the width is not known */
#define FIXED_COLUMNS 46u           /* of the line, all else           */
#define WIDTH_DEFAULT 100u          /* values are shortened to that on files */
#define VALUE_COLUMNS_MIN 24u       /* with less room values begin a line of their own */
#define CONTEXT_BYTES ((size_t) 16) /* of what did not change, in front of what did */
#define CHANGES_MAX 40

static const struct {
    const char *name;
    mayday_style_t style;
} outcomes[MAYDAY_TRIAL_MAX] = {[MAYDAY_TRIAL_KEPT] = {"kept", MAYDAY_STYLE_DIM},
                                [MAYDAY_TRIAL_CHANGED] = {"changed", MAYDAY_STYLE_ACCENT},
                                [MAYDAY_TRIAL_DROPPED] = {"dropped", MAYDAY_STYLE_WARNING},
                                [MAYDAY_TRIAL_FAILED] = {"failed", MAYDAY_STYLE_ERROR}};

static unsigned
width_of(const mayday_term_t *term)
{
    return term->width > 0 ? term->width : WIDTH_DEFAULT;
}

static void
indent(const mayday_term_t *term, int columns)
{
    fprintf(term->out, "%*s", columns, "");
}

static const char *
arrow(const mayday_term_t *term)
{
    return term->utf8 ? "\xe2\x86\x92" : "->";
}

/* ---- values ---- */

/* A value as text: strings in quotes, all else as JSON. In the arena. */
static mayday_slice_t
value_text(const cJSON *value)
{
    const char *string = cJSON_GetStringValue(value);
    size_t len;
    char *text;

    if (string == NULL) {
        return mayday_slice_str(cJSON_PrintUnformatted(value));
    }
    len = strlen(string);
    text = cJSON_malloc(len + 2);
    if (text == NULL) {
        return MAYDAY_SLICE("");
    }
    text[0] = text[len + 1] = '"';
    memcpy(text + 1, string, len);
    return mayday_slice(text, len + 2);
}

/* Where what differs begins, less some context; 0: there is little in front of it. */
static size_t
focus(mayday_slice_t a, mayday_slice_t b)
{
    size_t i = 0;

    while (i < a.len && i < b.len && a.data[i] == b.data[i]) {
        i++;
    }
    if (i <= 2 * CONTEXT_BYTES) {
        return 0;
    }
    i -= CONTEXT_BYTES;
    while (i > 0 && ((unsigned char) a.data[i] & 0xc0) == 0x80) {
        i--; /* to where a character begins */
    }
    return i;
}

/* The text from `from` on in at most so many columns. */
static void
say_value(const mayday_term_t *term, mayday_style_t style, mayday_slice_t text, size_t from,
          unsigned columns)
{
    if (from > 0) {
        mayday_term_say(term, style, "%s", term->utf8 ? "\xe2\x80\xa6" : "~");
        text = mayday_slice(text.data + from, text.len - from);
        columns--;
    }
    (void) mayday_term_text(term, style, text, columns);
}

/* ---- changes ---- */

/* What was added or removed: "+ tags.tenant  "acme"". */
static void
show_one_sided(const mayday_term_t *term, const char *path, mayday_slice_t text, bool added)
{
    mayday_style_t style = added ? MAYDAY_STYLE_GOOD : MAYDAY_STYLE_ERROR;
    unsigned used = INDENT + 2 + mayday_term_width(term, mayday_slice_str(path)) + 2;

    mayday_term_say(term, style, "%c ", added ? '+' : '-');
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD, mayday_slice_str(path), 0);
    if (used + VALUE_COLUMNS_MIN > width_of(term) &&
        used + mayday_term_width(term, text) > width_of(term)) {
        fputc('\n', term->out);
        indent(term, INDENT + 2);
        used = INDENT + 2;
    } else {
        fputs("  ", term->out);
    }
    say_value(term, style, text, 0, width_of(term) - used);
    fputc('\n', term->out);
}

/* What is another now: on one line where both fit, else each on its own. */
static void
show_two_sided(const mayday_term_t *term, const char *path, mayday_slice_t old, mayday_slice_t now)
{
    unsigned width = width_of(term), own = width - INDENT - 4;
    unsigned old_width = mayday_term_width(term, old), now_width = mayday_term_width(term, now);
    unsigned path_width = mayday_term_width(term, mayday_slice_str(path));
    size_t from = old_width > own || now_width > own ? focus(old, now) : 0;

    mayday_term_say(term, MAYDAY_STYLE_WARNING, "~ ");
    (void) mayday_term_text(term, MAYDAY_STYLE_BOLD, mayday_slice_str(path), 0);
    if (INDENT + 2 + path_width + 2 + old_width + 4 + now_width <= width) {
        fputs("  ", term->out);
        say_value(term, MAYDAY_STYLE_ERROR, old, 0, 0);
        fprintf(term->out, " %s ", arrow(term));
        say_value(term, MAYDAY_STYLE_GOOD, now, 0, 0);
        fputc('\n', term->out);
        return;
    }
    fputc('\n', term->out);
    indent(term, INDENT + 4);
    say_value(term, MAYDAY_STYLE_ERROR, old, from, own);
    fputc('\n', term->out);
    indent(term, INDENT + 1);
    fprintf(term->out, "%2s ", arrow(term));
    if (term->utf8) {
        fputc(' ', term->out);
    }
    say_value(term, MAYDAY_STYLE_GOOD, now, from, own);
    fputc('\n', term->out);
}

static void
show_changes(const mayday_term_t *term, const cJSON *changes)
{
    const cJSON *change;
    int n = 0, total = cJSON_GetArraySize(changes);

    cJSON_ArrayForEach(change, changes)
    {
        const char *path = mayday_json_string(change, "path");
        const cJSON *old = cJSON_GetObjectItemCaseSensitive(change, "old");
        const cJSON *now = cJSON_GetObjectItemCaseSensitive(change, "now");

        indent(term, INDENT);
        if (n++ == CHANGES_MAX) {
            mayday_term_say(term, MAYDAY_STYLE_DIM, "and %d more changes\n", total - CHANGES_MAX);
            break;
        }
        if (old != NULL && now != NULL) {
            show_two_sided(term, path, value_text(old), value_text(now));
        } else {
            show_one_sided(term, path, value_text(old != NULL ? old : now), now != NULL);
        }
    }
}

/* ---- one event ---- */

void
mayday_trial_show_log(const mayday_term_t *term, const cJSON *log)
{
    const cJSON *line;

    cJSON_ArrayForEach(line, log)
    {
        indent(term, INDENT);
        mayday_term_say(term, MAYDAY_STYLE_DIM, "log %s  ", mayday_json_string(line, "level"));
        (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN,
                                mayday_slice_str(mayday_json_string(line, "text")), 0);
        fputc('\n', term->out);
    }
}

static void
time_text(char *out, size_t size, const mayday_term_t *term, double us)
{
    if (us < 10000) {
        snprintf(out, size, "%.0f %ss", us, term->utf8 ? "\xc2\xb5" : "u");
    } else {
        snprintf(out, size, "%.1f ms", us / 1000);
    }
}

static void
say_costs(const mayday_term_t *term, const mayday_trial_t *trial)
{
    char text[32];

    time_text(text, sizeof(text), term, trial->cpu_us);
    indent(term, 10 - (int) mayday_term_width(term, mayday_slice_str(text)));
    mayday_term_say(term, MAYDAY_STYLE_DIM, "%s", text);
    mayday_cli_bytes(text, sizeof(text), (double) trial->memory);
    mayday_term_say(term, MAYDAY_STYLE_DIM, "%12s\n", text);
}

void
mayday_trial_show(const mayday_term_t *term, const mayday_trial_t *trial)
{
    mayday_slice_t id = mayday_slice_str(trial->event_id);
    mayday_style_t style = outcomes[trial->outcome].style;
    unsigned columns = term->width > 0 ? term->width - FIXED_COLUMNS : TRANSACTION_COLUMNS, used;

    id.len = id.len < ID_DIGITS ? id.len : ID_DIGITS;
    mayday_term_say(term, style, "%-7s  ", outcomes[trial->outcome].name);
    mayday_term_column(term, MAYDAY_STYLE_ACCENT, id, ID_DIGITS);
    if (trial->status > 0) {
        fprintf(term->out, "  %3u  ", trial->status);
    } else {
        fputs("    -  ", term->out);
    }
    used = mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(trial->transaction),
                            term->width > 0 ? columns : 0);
    indent(term, used < columns ? (int) (columns - used) : 0);
    say_costs(term, trial);
    if (trial->outcome == MAYDAY_TRIAL_DROPPED) {
        indent(term, INDENT);
        mayday_term_say(term, style, "%s", trial->result.reason);
        fprintf(term->out, ": %s at ", trial->result.hook);
        (void) mayday_term_text(term, MAYDAY_STYLE_BOLD, mayday_slice_str(trial->result.where), 0);
        fputc('\n', term->out);
    } else if (trial->outcome == MAYDAY_TRIAL_FAILED) {
        indent(term, INDENT);
        (void) mayday_term_text(term, style, mayday_slice_str(trial->result.error), 0);
        fputc('\n', term->out);
    }
    show_changes(term, trial->changes);
    mayday_trial_show_log(term, trial->log);
}

/* ---- all of them ---- */

void
mayday_trials_add(mayday_trials_t *trials, const mayday_trial_t *trial)
{
    size_t i = 0;

    trials->events++;
    trials->outcomes[trial->outcome]++;
    trials->cpu_us += trial->cpu_us;
    trials->cpu_us_max = trial->cpu_us > trials->cpu_us_max ? trial->cpu_us : trials->cpu_us_max;
    trials->memory_max = trial->memory > trials->memory_max ? trial->memory : trials->memory_max;
    if (trial->outcome != MAYDAY_TRIAL_DROPPED) {
        return;
    }
    while (i < trials->reason_count &&
           strcmp(trials->reasons[i].reason, trial->result.reason) != 0) {
        i++;
    }
    if (i == trials->reason_count && i < MAYDAY_TRIAL_REASONS_MAX) {
        snprintf(trials->reasons[i].reason, sizeof(trials->reasons[i].reason), "%s",
                 trial->result.reason);
        trials->reason_count++;
    }
    if (i < trials->reason_count) {
        trials->reasons[i].count++;
    }
}

void
mayday_trials_show(const mayday_term_t *term, const mayday_trials_t *trials)
{
    char mean[32], most[32], memory[32];

    mayday_term_say(term, MAYDAY_STYLE_BOLD, "\n%u event%s: ", trials->events,
                    trials->events == 1 ? "" : "s");
    for (unsigned i = 0; i < MAYDAY_TRIAL_MAX; i++) {
        unsigned n = trials->outcomes[i];

        mayday_term_say(term, n > 0 ? outcomes[i].style : MAYDAY_STYLE_DIM, "%s%u %s",
                        i > 0 ? ", " : "", n, outcomes[i].name);
        for (size_t r = 0; i == MAYDAY_TRIAL_DROPPED && r < trials->reason_count; r++) {
            fprintf(term->out, "%s%s %u", r == 0 ? " (" : ", ", trials->reasons[r].reason,
                    trials->reasons[r].count);
        }
        fputs(i == MAYDAY_TRIAL_DROPPED && trials->reason_count > 0 ? ")" : "", term->out);
    }
    time_text(mean, sizeof(mean), term, trials->events > 0 ? trials->cpu_us / trials->events : 0);
    time_text(most, sizeof(most), term, trials->cpu_us_max);
    mayday_cli_bytes(memory, sizeof(memory), (double) trials->memory_max);
    mayday_term_say(term, MAYDAY_STYLE_DIM,
                    "\nCPU time %s on average, %s at most; memory of Lua %s at most\n", mean, most,
                    memory);
}

/* ---- JSON ---- */

cJSON *
mayday_trial_json(const mayday_trial_t *trial)
{
    cJSON *json = cJSON_CreateObject();

    (void) cJSON_AddStringToObject(json, "event_id", trial->event_id);
    (void) cJSON_AddStringToObject(json, "transaction", trial->transaction);
    (void) cJSON_AddNumberToObject(json, "status", trial->status);
    (void) cJSON_AddStringToObject(json, "outcome", outcomes[trial->outcome].name);
    if (trial->outcome == MAYDAY_TRIAL_DROPPED) {
        (void) cJSON_AddStringToObject(json, "reason", trial->result.reason);
    }
    if (trial->outcome == MAYDAY_TRIAL_FAILED) {
        (void) cJSON_AddStringToObject(json, "error", trial->result.error);
    }
    if (trial->result.hook[0] != '\0') {
        (void) cJSON_AddStringToObject(json, "hook", trial->result.hook);
        (void) cJSON_AddStringToObject(json, "where", trial->result.where);
    }
    cJSON_AddItemToObject(json, "changes", cJSON_Duplicate(trial->changes, true));
    cJSON_AddItemToObject(json, "log", cJSON_Duplicate(trial->log, true));
    (void) cJSON_AddNumberToObject(json, "cpu_us", (double) (uint64_t) (trial->cpu_us * 10) / 10);
    (void) cJSON_AddNumberToObject(json, "memory_bytes", (double) trial->memory);
    return json;
}

cJSON *
mayday_trials_json(const mayday_trials_t *trials)
{
    cJSON *json = cJSON_CreateObject(), *reasons;

    (void) cJSON_AddNumberToObject(json, "events", trials->events);
    for (unsigned i = 0; i < MAYDAY_TRIAL_MAX; i++) {
        (void) cJSON_AddNumberToObject(json, outcomes[i].name, trials->outcomes[i]);
    }
    reasons = cJSON_AddObjectToObject(json, "reasons");
    for (size_t i = 0; i < trials->reason_count; i++) {
        (void) cJSON_AddNumberToObject(reasons, trials->reasons[i].reason,
                                       trials->reasons[i].count);
    }
    (void) cJSON_AddNumberToObject(json, "cpu_us", (double) (uint64_t) (trials->cpu_us * 10) / 10);
    (void) cJSON_AddNumberToObject(json, "memory_bytes_max", (double) trials->memory_max);
    return json;
}
