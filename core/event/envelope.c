/*
 * See envelope.h. The event comes first in its envelope, for some servers stop
 * reading at the first item that they do not know.
 *
 * Runs in the agent and in the command; allocates nothing, blocks on nothing.
 */
#include "core/event/envelope.h"

static void
add_digits(char **p, unsigned value, unsigned digits)
{
    unsigned i;

    for (i = digits; i > 0; i--) {
        (*p)[i - 1] = (char) ('0' + value % 10);
        value /= 10;
    }
    *p += digits;
}

/* The Gregorian date of a day since 1970-01-01, by eras of 400 years from March on. */
static void
date_of_day(uint64_t day, unsigned *year, unsigned *month, unsigned *mday)
{
    uint64_t days = day + 719468; /* since 0000-03-01 */
    uint64_t era = days / 146097;
    unsigned of_era = (unsigned) (days % 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march_month = (5 * of_year + 2) / 153;

    *mday = of_year - (153 * march_month + 2) / 5 + 1;
    *month = march_month < 10 ? march_month + 3 : march_month - 9;
    *year = (unsigned) (year_of_era + era * 400) + (*month <= 2 ? 1 : 0);
}

void
mayday_time_rfc3339(char *out, size_t size, uint64_t time_us)
{
    const uint64_t max_us = 253402300799999999u; /* 9999-12-31T23:59:59.999999Z */
    char text[28], *p = text;
    unsigned year, month, mday;

    if (size == 0) {
        return;
    }
    if (time_us > max_us) {
        time_us = max_us;
    }
    uint64_t seconds = time_us / 1000000;
    unsigned of_day = (unsigned) (seconds % 86400);

    date_of_day(seconds / 86400, &year, &month, &mday);
    add_digits(&p, year, 4);
    *p++ = '-';
    add_digits(&p, month, 2);
    *p++ = '-';
    add_digits(&p, mday, 2);
    *p++ = 'T';
    add_digits(&p, of_day / 3600, 2);
    *p++ = ':';
    add_digits(&p, of_day / 60 % 60, 2);
    *p++ = ':';
    add_digits(&p, of_day % 60, 2);
    *p++ = '.';
    add_digits(&p, (unsigned) (time_us % 1000000), 6);
    *p++ = 'Z';
    *p = '\0';
    size_t n = size - 1 < sizeof(text) - 1 ? size - 1 : sizeof(text) - 1;
    memcpy(out, text, n);
    out[n] = '\0';
}

static void
add_string(mayday_buf_t *out, mayday_slice_t s)
{
    size_t i;

    mayday_buf_addc(out, '"');
    for (i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.data[i];
        if (c == '"' || c == '\\') {
            mayday_buf_addc(out, '\\');
            mayday_buf_addc(out, (char) c);
        } else if (c < 0x20) {
            mayday_buf_addf(out, "\\u%04x", c);
        } else {
            mayday_buf_addc(out, (char) c);
        }
    }
    mayday_buf_addc(out, '"');
}

static void
add_time(mayday_buf_t *out, const char *key, uint64_t time_us)
{
    char text[28];

    mayday_time_rfc3339(text, sizeof(text), time_us);
    mayday_buf_addf(out, "\"%s\":\"%s\"", key, text);
}

static void
add_sdk(mayday_buf_t *out, const char *sdk_name)
{
    mayday_buf_adds(out, "\"sdk\":{\"name\":");
    add_string(out, mayday_slice_str(sdk_name));
    mayday_buf_adds(out, ",\"version\":\"" MAYDAY_VERSION "\"}");
}

/*
 * Within a JSON text, the bytes "public_key": can only be a key: the quotes of a
 * value's content are escaped.
 */
static void
add_trace(mayday_buf_t *out, mayday_slice_t trace_json, mayday_slice_t public_key)
{
    const mayday_slice_t key = MAYDAY_SLICE("\"public_key\":");

    if (trace_json.len < 2) {
        return;
    }
    mayday_buf_adds(out, ",\"trace\":");
    if (mayday_slice_find(trace_json, key, 0) != SIZE_MAX) {
        mayday_buf_add(out, trace_json);
        return;
    }
    mayday_buf_addc(out, '{');
    mayday_buf_add(out, key);
    add_string(out, public_key);
    if (trace_json.len > 2) {
        mayday_buf_addc(out, ',');
    }
    mayday_buf_add(out, mayday_slice(trace_json.data + 1, trace_json.len - 1));
}

void
mayday_envelope_event(mayday_buf_t *out, const char event_id[33], mayday_slice_t event_json,
                      mayday_slice_t trace_json, mayday_slice_t public_key, const char *sdk_name,
                      uint64_t sent_us)
{
    mayday_buf_adds(out, "{\"event_id\":");
    add_string(out, mayday_slice(event_id, strnlen(event_id, 32)));
    mayday_buf_addc(out, ',');
    add_sdk(out, sdk_name);
    mayday_buf_addc(out, ',');
    add_time(out, "sent_at", sent_us);
    add_trace(out, trace_json, public_key);
    mayday_buf_addf(out,
                    "}\n{\"type\":\"event\",\"content_type\":\"application/json\","
                    "\"length\":%zu}\n",
                    event_json.len);
    mayday_buf_add(out, event_json);
    mayday_buf_addc(out, '\n');
}

void
mayday_envelope_client_report(mayday_buf_t *out, const mayday_discarded_t *discarded, size_t count,
                              const char *sdk_name, uint64_t sent_us)
{
    size_t i;

    mayday_buf_addc(out, '{');
    add_sdk(out, sdk_name);
    mayday_buf_addc(out, ',');
    add_time(out, "sent_at", sent_us);
    /* No length: the item ends with its line, and JSON holds no line feed. */
    mayday_buf_adds(out, "}\n{\"type\":\"client_report\"}\n{");
    add_time(out, "timestamp", sent_us);
    mayday_buf_adds(out, ",\"discarded_events\":[");
    for (i = 0; i < count; i++) {
        mayday_buf_adds(out, i == 0 ? "{\"reason\":" : ",{\"reason\":");
        add_string(out, mayday_slice_str(discarded[i].reason));
        mayday_buf_adds(out, ",\"category\":");
        add_string(out, mayday_slice_str(discarded[i].category));
        mayday_buf_addf(out, ",\"quantity\":%llu}", (unsigned long long) discarded[i].quantity);
    }
    mayday_buf_adds(out, "]}\n");
}
