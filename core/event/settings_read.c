/*
 * Reads a settings file. Runs in the agent; one heap object per file.
 * Counterpart: core/capture/settings.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/event/settings_read.h"

#define FIRST_LINE "mayday-settings 1"
#define TEXT_SIZE_MAX ((size_t) 256 << 10)

typedef enum { TEXT, NUMBER, NUMBER_32, FLAG, RATE } value_type_t;

typedef struct {
    const char *name;
    value_type_t type;
    size_t offset;
    uint64_t max; /* of numbers */
} value_t;

#define AT(field) offsetof(mayday_settings_t, field)

/* clang-format off */
static const value_t values[] = {
    {"server", TEXT, AT(server), 0},
    {"server_version", TEXT, AT(server_version), 0},
    {"identity", TEXT, AT(identity), 0},
    {"error_log", TEXT, AT(error_log), 0},
    {"environment", TEXT, AT(environment), 0},
    {"release", TEXT, AT(release), 0},
    {"directory", TEXT, AT(directory), 0},
    {"rules_file", TEXT, AT(rules_file), 0},
    {"rules_observe", FLAG, AT(rules_observe), 1},
    {"queue_size", NUMBER, AT(queue_size), UINT64_C(1) << 50},
    {"retention", NUMBER, AT(retention_s), UINT64_C(1) << 32},
    {"issue_rate", RATE, AT(issue_rate), 0},
    {"send_rate", RATE, AT(send_rate), 0},
    {"proxy", TEXT, AT(proxy), 0},
    {"trusted_certificate", TEXT, AT(trusted_certificate), 0},
    {"shutdown_timeout_ms", NUMBER, AT(shutdown_timeout_ms), UINT64_C(3600000)},
    {"server_name", TEXT, AT(server_name), 0},
    {"socket_path", TEXT, AT(socket_path), 0},
    {"socket_group", TEXT, AT(socket_group), 0},
    {"socket_mode", NUMBER_32, AT(socket_mode), 0777},
    {"debug", FLAG, AT(debug), 1},
};
/* clang-format on */

typedef struct {
    mayday_settings_t *settings;
    size_t destinations_max;
    const char *problem; /* a constant; NULL: none */
} reader_t;

/* Undoes %XX in place; what would end the string early is refused. */
static bool
unescape(char *s)
{
    char *out = s;

    for (; *s != '\0'; s++) {
        int high, low;

        if (*s != '%') {
            *out++ = *s;
            continue;
        }
        high = mayday_hex_digit(s[1]);
        low = high < 0 ? -1 : mayday_hex_digit(s[2]);
        if (low < 0 || (high == 0 && low == 0)) {
            return false;
        }
        *out++ = (char) (high << 4 | low);
        s += 2;
    }
    *out = '\0';
    return true;
}

/* Up to the next space or the end; *s goes on behind it. */
static bool
read_number(char **s, uint64_t max, uint64_t *number)
{
    uint64_t n = 0;
    char *p = *s;

    if (*p < '0' || *p > '9') {
        return false;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > max / 10) {
            return false;
        }
        n = n * 10 + (uint64_t) (*p - '0');
    }
    if (n > max || (*p != ' ' && *p != '\0')) {
        return false;
    }
    *s = *p == ' ' ? p + 1 : p;
    *number = n;
    return true;
}

static bool
read_rate(char *text, mayday_rate_setting_t *rate)
{
    uint64_t events, period_s, burst;

    if (!read_number(&text, UINT32_MAX, &events) || !read_number(&text, UINT32_MAX, &period_s) ||
        !read_number(&text, UINT32_MAX, &burst) || *text != '\0' || period_s == 0) {
        return false;
    }
    rate->events = (uint32_t) events;
    rate->period_s = (uint32_t) period_s;
    rate->burst = (uint32_t) burst;
    return true;
}

static bool
read_value(mayday_settings_t *settings, const value_t *value, char *text)
{
    void *field = (char *) settings + value->offset;
    uint64_t n = 0;

    switch (value->type) {
    case TEXT:
        *(const char **) field = text;
        return unescape(text);
    case RATE:
        return read_rate(text, (mayday_rate_setting_t *) field);
    case NUMBER:
    case NUMBER_32:
    case FLAG:
        break;
    }
    if (!read_number(&text, value->max, &n) || *text != '\0') {
        return false;
    }
    if (value->type == NUMBER) {
        *(uint64_t *) field = n;
    } else if (value->type == NUMBER_32) {
        *(unsigned *) field = (unsigned) n;
    } else {
        *(bool *) field = n != 0;
    }
    return true;
}

static const char *
read_destination(reader_t *reader, char *text)
{
    mayday_settings_t *settings = reader->settings;
    mayday_destination_setting_t *destination;
    uint64_t index;

    if (!read_number(&text, MAYDAY_SETTINGS_DESTINATIONS_MAX, &index) ||
        index != settings->destination_count || index >= reader->destinations_max) {
        return "destinations are not in order";
    }
    destination = &settings->destinations[settings->destination_count++];
    while (*text != '\0') {
        char *dsn = text;

        text += strcspn(text, " ");
        if (*text == ' ') {
            *text++ = '\0';
        }
        if (destination->dsn_count == MAYDAY_SETTINGS_DSN_MAX) {
            return "too many DSNs";
        }
        if (dsn[0] == '\0' || !unescape(dsn)) {
            return "malformed DSN";
        }
        destination->dsns[destination->dsn_count++] = dsn;
    }
    return NULL;
}

static const char *
read_environ(mayday_settings_t *settings, char *text)
{
    char *space = strchr(text, ' ');

    if (space == NULL || space == text || !unescape(space + 1)) {
        return "malformed environment variable";
    }
    if (settings->environ_count == MAYDAY_SETTINGS_ENVIRON_MAX) {
        return "too many environment variables";
    }
    *space = '=';
    settings->environ[settings->environ_count++] = text;
    return NULL;
}

static const char *
read_line(reader_t *reader, char *line)
{
    char *text = strchr(line, ' ');

    if (text == NULL) {
        return "expected \"name value\"";
    }
    *text++ = '\0';
    if (strcmp(line, "destination") == 0) {
        return read_destination(reader, text);
    }
    if (strcmp(line, "environ") == 0) {
        return read_environ(reader->settings, text);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(values); i++) {
        if (strcmp(line, values[i].name) == 0) {
            return read_value(reader->settings, &values[i], text) ? NULL : "malformed value";
        }
    }
    /* of a newer master */
    return NULL;
}

static size_t
count_destinations(mayday_slice_t text)
{
    size_t count = 0, at = 0;

    while ((at = mayday_slice_find(text, MAYDAY_SLICE("\ndestination "), at)) != SIZE_MAX) {
        at++;
        count++;
    }
    return count > MAYDAY_SETTINGS_DESTINATIONS_MAX ? MAYDAY_SETTINGS_DESTINATIONS_MAX : count;
}

/* Returns the number of the wrong line, 0 if there is none. */
static unsigned
read_lines(reader_t *reader, char *text)
{
    unsigned number = 0;

    while (*text != '\0') {
        char *line = text, *end = strchr(text, '\n');

        number++;
        if (end == NULL) {
            break;
        }
        *end = '\0';
        text = end + 1;
        if (number == 1) {
            if (strcmp(line, FIRST_LINE) != 0) {
                reader->problem = "expected \"" FIRST_LINE "\"";
                return 1;
            }
            continue;
        }
        if (strcmp(line, "end") == 0) {
            return 0;
        }
        reader->problem = read_line(reader, line);
        if (reader->problem != NULL) {
            return number;
        }
    }
    reader->problem = "the end is missing";
    return number == 0 ? 1 : number;
}

mayday_settings_t *
mayday_settings_new(mayday_slice_t text, char *error, size_t error_size)
{
    static const uint8_t no_key[16];
    reader_t reader = {NULL, 0, NULL};
    mayday_settings_t *settings;
    char *copy;
    unsigned line;

    if (text.len > TEXT_SIZE_MAX || (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)) {
        snprintf(error, error_size, "not a settings file");
        return NULL;
    }
    reader.destinations_max = count_destinations(text);
    settings =
        calloc(1, sizeof(*settings) + reader.destinations_max * sizeof(*settings->destinations) +
                      text.len + 1);
    if (settings == NULL) {
        snprintf(error, error_size, "no memory");
        return NULL;
    }
    settings->destinations = (mayday_destination_setting_t *) (void *) (settings + 1);
    copy = (char *) (settings->destinations + reader.destinations_max);
    if (text.len > 0) {
        memcpy(copy, text.data, text.len);
    }
    for (size_t i = 0; i < MAYDAY_COUNT(values); i++) {
        if (values[i].type == TEXT) {
            *(const char **) (void *) ((char *) settings + values[i].offset) = "";
        }
    }
    mayday_siphash(settings->hash, no_key, text.data, text.len);
    reader.settings = settings;
    line = read_lines(&reader, copy);
    if (line != 0) {
        snprintf(error, error_size, "line %u: %s", line, reader.problem);
        free(settings);
        return NULL;
    }
    return settings;
}

void
mayday_settings_free(mayday_settings_t *settings)
{
    free(settings);
}
