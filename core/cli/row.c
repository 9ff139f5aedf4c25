/*
 * One event as a line; see row.h.
 */
#include "core/cli/row.h"

#include <ctype.h>
#include <time.h>

#include "core/event/json.h"

#define ID_DIGITS 8u
#define TIME_COLUMNS 8u /* of today's; */
#define DATE_COLUMNS 11u
#define TRANSACTION_COLUMNS 28u /* where the width is not known */
#define TITLE_COLUMNS_MIN 20u
#define TYPE_WIDTH_MIN 120u /* narrower terminals need the columns for the rest of the title */

static bool
is_today(uint64_t time_us)
{
    time_t t = (time_t) (time_us / 1000000), now = time(NULL);
    struct tm tm, today;

    (void) localtime_r(&t, &tm);
    (void) localtime_r(&now, &today);
    return tm.tm_yday == today.tm_yday && tm.tm_year == today.tm_year;
}

unsigned
mayday_row_time_columns(const cJSON *rows)
{
    const cJSON *row;

    cJSON_ArrayForEach(row, rows)
    {
        if (!is_today(mayday_json_us(row, "time_us"))) {
            return DATE_COLUMNS;
        }
    }
    return TIME_COLUMNS;
}

static void
say_time(const mayday_term_t *term, uint64_t time_us, unsigned columns)
{
    time_t t = (time_t) (time_us / 1000000);
    struct tm tm;
    char text[32];

    (void) localtime_r(&t, &tm);
    if (is_today(time_us)) {
        (void) strftime(text, sizeof(text), "%H:%M:%S", &tm);
    } else {
        (void) strftime(text, sizeof(text), "%m-%d %H:%M", &tm);
    }
    mayday_term_say(term, MAYDAY_STYLE_DIM, "%-*s  ", (int) columns, text);
}

/* How the columns behind the status share the width; 0: not cut. */
typedef struct {
    unsigned transaction, title;
} columns_t;

static columns_t
share_columns(const mayday_term_t *term, unsigned time_columns, bool dropped)
{
    const unsigned fixed = time_columns + 2 + ID_DIGITS + 2 + 3 + 2;
    unsigned left = term->width > fixed + TITLE_COLUMNS_MIN ? term->width - fixed : 20;
    columns_t columns = {TRANSACTION_COLUMNS, 0};

    if (term->width > 0) {
        columns.transaction = left / (dropped ? 2 : 3);
        if (columns.transaction > TRANSACTION_COLUMNS) {
            columns.transaction = TRANSACTION_COLUMNS;
        }
        columns.title = left - columns.transaction - 2;
    }
    return columns;
}

void
mayday_row_head(const mayday_term_t *term, unsigned time_columns, bool dropped)
{
    const mayday_slice_t what = dropped ? MAYDAY_SLICE("why, and by which rule")
                                        : MAYDAY_SLICE("what happened, and how often so far");
    columns_t columns = share_columns(term, time_columns, dropped);

    if (term->width > 0) {
        mayday_term_say(term, MAYDAY_STYLE_DIM, "%-*s  %-*s  st.  %-*.*s  ", (int) time_columns,
                        "time", (int) ID_DIGITS, "id", (int) columns.transaction,
                        (int) columns.transaction, "transaction");
        (void) mayday_term_text(term, MAYDAY_STYLE_DIM, what, columns.title);
        fputc('\n', term->out);
    }
}

/* Whether a title's type only repeats the kind: "UpstreamRefused" and "upstream_refused". */
static bool
type_is_kind(mayday_slice_t type, const char *kind)
{
    size_t i = 0;

    for (; *kind != '\0'; kind++) {
        if (*kind != '_' && (i == type.len || tolower((unsigned char) type.data[i++]) != *kind)) {
            return false;
        }
    }
    return i == type.len;
}

/* The title, its type in the colour of the level; without it where there is no room for both. */
static void
say_title(const mayday_term_t *term, const cJSON *row, unsigned columns_max)
{
    const char *title = mayday_json_string(row, "title"), *colon = strstr(title, ": ");
    mayday_slice_t type = mayday_slice(title, colon == NULL ? 0 : (size_t) (colon - title));
    mayday_style_t style = mayday_cli_level_style(mayday_json_string(row, "level"));
    unsigned used = 0;

    if (type.len > 0 && term->width > 0 && term->width < TYPE_WIDTH_MIN &&
        type_is_kind(type, mayday_json_string(row, "kind"))) {
        title = colon + 2;
    } else if (type.len > 0 &&
               (columns_max == 0 || mayday_term_width(term, type) + 1 < columns_max)) {
        used = mayday_term_text(term, style, mayday_slice(title, type.len + 1), 0);
        title = colon + 1;
    }
    (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN, mayday_slice_str(title),
                            columns_max == 0 ? 0 : columns_max - used);
}

/* "bot, rules.lua:12  TITLE": why it was dropped, and what for. */
static void
say_dropped(const mayday_term_t *term, const cJSON *row, unsigned columns_max)
{
    bool observed = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "observed"));
    char storage[512];
    mayday_buf_t why;
    unsigned used;

    mayday_buf_init(&why, storage, sizeof(storage));
    mayday_buf_addf(&why, "%s, %s%s", mayday_json_string(row, "reason"),
                    mayday_json_string(row, "where"), observed ? " (observed)" : "");
    used = mayday_term_text(term, MAYDAY_STYLE_WARNING, mayday_buf_slice(&why), columns_max);
    if (columns_max == 0 || used + 2 + TITLE_COLUMNS_MIN <= columns_max) {
        fputs("  ", term->out);
        (void) mayday_term_text(term, MAYDAY_STYLE_PLAIN,
                                mayday_slice_str(mayday_json_string(row, "title")),
                                columns_max == 0 ? 0 : columns_max - used - 2);
    }
}

static void
show_line(const mayday_term_t *term, const cJSON *row, unsigned time_columns)
{
    double seen = mayday_json_number(row, "issue_seen");
    mayday_slice_t id = mayday_slice_str(mayday_json_string(row, "event_id"));
    mayday_slice_t transaction = mayday_slice_str(mayday_json_string(row, "transaction"));
    bool dropped = mayday_json_string(row, "reason")[0] != '\0';
    columns_t columns = share_columns(term, time_columns, dropped);
    char count[32] = "", number[32];
    unsigned used;

    if (seen > 1) {
        mayday_cli_number(number, sizeof(number), seen);
        snprintf(count, sizeof(count), "  %s%.20s", term->utf8 ? "\xc3\x97" : "x", number);
        used = mayday_term_width(term, mayday_slice_str(count));
        if (columns.title > 0) {
            columns.title = columns.title > used + 8 ? columns.title - used : 8;
        }
    }
    id.len = id.len < ID_DIGITS ? id.len : ID_DIGITS;
    say_time(term, mayday_json_us(row, "time_us"), time_columns);
    mayday_term_column(term, MAYDAY_STYLE_ACCENT, id, ID_DIGITS);
    mayday_term_say(term, mayday_cli_level_style(mayday_json_string(row, "level")), "  %3.0f  ",
                    mayday_json_number(row, "status"));
    used = mayday_term_text(term, MAYDAY_STYLE_PLAIN, transaction,
                            term->width > 0 ? columns.transaction : 0);
    fprintf(term->out, "%*s  ", used < columns.transaction ? (int) (columns.transaction - used) : 0,
            "");
    if (dropped) {
        say_dropped(term, row, columns.title);
    } else {
        say_title(term, row, columns.title);
    }
    mayday_term_say(term, MAYDAY_STYLE_BOLD, "%s\n", count);
}

void
mayday_row_show(const mayday_cli_t *cli, cJSON *row, unsigned time_columns)
{
    char *text;

    if (!cli->json) {
        show_line(&cli->term, row, time_columns);
        return;
    }
    text = mayday_json_print(row, false);
    if (text != NULL) {
        mayday_term_json(&cli->term, mayday_slice_str(text));
        fputc('\n', cli->term.out);
        cJSON_free(text);
    }
}
