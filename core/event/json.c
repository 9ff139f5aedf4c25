/*
 * See json.h.
 */
#include "core/event/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CJSON_DIGITS 1e15            /* from here on cJSON writes an exponent       */
#define EXACT_MAX 9007199254740992.0 /* 2^53: up to here a double is a whole number */

static bool
is_whole(double number)
{
    double size = number < 0 ? -number : number;

    return size >= CJSON_DIGITS && size <= EXACT_MAX && (double) (long long) number == number;
}

static bool
spell_out(cJSON *item)
{
    char text[32], *copy;
    int len = snprintf(text, sizeof(text), "%.0f", item->valuedouble);

    copy = cJSON_malloc((size_t) len + 1);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, text, (size_t) len + 1);
    item->valuestring = copy;
    item->type = (item->type & ~0xff) | cJSON_Raw;
    return true;
}

static bool
spell_out_all(cJSON *item)
{
    bool done = true;

    for (; item != NULL && done; item = item->next) {
        if (cJSON_IsNumber(item) && is_whole(item->valuedouble)) {
            done = spell_out(item);
        } else if (item->child != NULL) {
            done = spell_out_all(item->child);
        }
    }
    return done;
}

char *
mayday_json_print(cJSON *json, bool indented)
{
    if (json == NULL || !spell_out_all(json->child)) {
        return NULL;
    }
    return indented ? cJSON_Print(json) : cJSON_PrintUnformatted(json);
}

const char *
mayday_json_string(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

    return text == NULL ? "" : text;
}

double
mayday_json_number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : 0;
}

uint64_t
mayday_json_us(const cJSON *object, const char *key)
{
    double number = mayday_json_number(object, key);

    return number > 0 && number < 1e18 ? (uint64_t) number : 0;
}

uint64_t
mayday_json_time_us(const cJSON *timestamp)
{
    const char *text = cJSON_GetStringValue(timestamp), *rest;
    struct tm tm = {0};
    double fraction;
    time_t t;

    if (cJSON_IsNumber(timestamp)) {
        return timestamp->valuedouble > 0 && timestamp->valuedouble < 1e11
                   ? (uint64_t) (timestamp->valuedouble * 1e6)
                   : 0;
    }
    rest = text == NULL ? NULL : strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL || (t = timegm(&tm)) < 0) {
        return 0;
    }
    fraction = rest[0] == '.' && rest[1] >= '0' && rest[1] <= '9' ? strtod(rest, NULL) : 0;
    return (uint64_t) t * 1000000 + (uint64_t) (fraction * 1e6 + 0.5);
}
