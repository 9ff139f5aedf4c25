/*
 * Builds the test event. Runs in an API thread; heap memory, freed at the end.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <unistd.h>

#include "core/agent/test_event.h"
#include "core/base/dsn.h"
#include "core/event/envelope.h"

static cJSON *
build(const mayday_settings_t *settings, const char *id, uint64_t now_us)
{
    cJSON *event = cJSON_CreateObject(), *sdk, *fingerprint;
    char host[256] = "", text[300], name[32], time[32];

    if (settings->server_name[0] != '\0') {
        snprintf(host, sizeof(host), "%s", settings->server_name);
    } else if (gethostname(host, sizeof(host) - 1) != 0) {
        snprintf(host, sizeof(host), "localhost");
    }
    snprintf(text, sizeof(text), "Mayday test event from %s", host);
    snprintf(name, sizeof(name), "mayday.%s", settings->server);
    mayday_time_rfc3339(time, sizeof(time), now_us);
    cJSON_AddStringToObject(event, "event_id", id);
    cJSON_AddStringToObject(event, "timestamp", time);
    cJSON_AddStringToObject(event, "platform", "other");
    cJSON_AddStringToObject(event, "level", "info");
    cJSON_AddStringToObject(event, "logger", "mayday");
    cJSON_AddStringToObject(event, "server_name", host);
    if (settings->release[0] != '\0') {
        cJSON_AddStringToObject(event, "release", settings->release);
    }
    cJSON_AddStringToObject(event, "environment", settings->environment);
    cJSON_AddStringToObject(event, "message", text);
    fingerprint = cJSON_AddArrayToObject(event, "fingerprint");
    cJSON_AddItemToArray(fingerprint, cJSON_CreateString("mayday-test-event"));
    sdk = cJSON_AddObjectToObject(event, "sdk");
    cJSON_AddStringToObject(sdk, "name", name);
    cJSON_AddStringToObject(sdk, "version", MAYDAY_VERSION);
    return event;
}

mayday_rc_t
mayday_test_event(const mayday_settings_t *settings, const char *dsn_text, mayday_buf_t *envelope,
                  char id[33], const char **error)
{
    uint64_t now_us = mayday_clock_us();
    uint8_t bytes[16];
    char name[32], *json;
    mayday_dsn_t dsn;
    cJSON *event;

    if (mayday_dsn_parse(&dsn, mayday_slice_str(dsn_text), error) != MAYDAY_OK) {
        return MAYDAY_INVALID;
    }
    if (mayday_random(bytes, sizeof(bytes)) != MAYDAY_OK) {
        return MAYDAY_NO_MEMORY;
    }
    mayday_hex(id, bytes, sizeof(bytes));
    event = build(settings, id, now_us);
    json = cJSON_PrintUnformatted(event);
    cJSON_Delete(event);
    if (json == NULL) {
        return MAYDAY_NO_MEMORY;
    }
    snprintf(name, sizeof(name), "mayday.%s", settings->server);
    mayday_envelope_event(envelope, id, mayday_slice_str(json), mayday_slice(NULL, 0),
                          dsn.public_key, name, now_us);
    cJSON_free(json);
    return envelope->truncated ? MAYDAY_NO_MEMORY : MAYDAY_OK;
}
