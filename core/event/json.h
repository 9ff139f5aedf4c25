/*
 * JSON documents that the agent and the command exchange: a member's value
 * whatever is there, and text with whole numbers written as such. cJSON keeps
 * numbers as doubles and writes 1790000000000000 as 1.79e+15: the same number,
 * but no integer to most readers.
 *
 * Runs in the agent and in the command; allocates as cJSON does.
 */
#ifndef MAYDAY_JSON_H
#define MAYDAY_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* Members of an object, whatever it is: "" and 0 where absent or of another type. */
const char *mayday_json_string(const cJSON *object, const char *key);
double mayday_json_number(const cJSON *object, const char *key);
uint64_t mayday_json_us(const cJSON *object, const char *key);

/*
 * Microseconds since 1970 of an event's timestamp, "2026-11-22T14:03:22.123456Z" or
 * a number of seconds; 0: it is neither.
 */
uint64_t mayday_json_time_us(const cJSON *timestamp);

/*
 * The document's text, indented if it is for people; free it with cJSON_free.
 * NULL: no memory, or json is NULL. Numbers that cJSON would have written with
 * an exponent are cJSON_Raw in the document afterwards.
 */
char *mayday_json_print(cJSON *json, bool indented);

#endif
