/*
 * Reads a settings file (format: core/capture/settings.h). Its bytes are
 * hostile: unknown names are skipped, numbers are bounded, nothing is trusted.
 */
#ifndef MAYDAY_SETTINGS_READ_H
#define MAYDAY_SETTINGS_READ_H

#include "core/base/base.h"

#define MAYDAY_SETTINGS_DSN_MAX 8
#define MAYDAY_SETTINGS_DESTINATIONS_MAX 4096
#define MAYDAY_SETTINGS_ENVIRON_MAX 16

typedef struct {
    uint32_t events; /* 0: no limit */
    uint32_t period_s;
    uint32_t burst;
} mayday_rate_setting_t;

typedef struct {
    uint32_t dsn_count;
    const char *dsns[MAYDAY_SETTINGS_DSN_MAX];
} mayday_destination_setting_t;

/* All strings end with NUL, live as long as the settings, and are never NULL. */
typedef struct {
    uint8_t hash[MAYDAY_HASH_BYTES];
    const char *server; /* "nginx" or "httpd" */
    const char *server_version;
    const char *identity;
    const char *error_log;
    const char *directory;
    const char *rules_file; /* "": none */
    bool rules_observe;
    uint64_t queue_size;
    uint64_t retention_s;
    mayday_rate_setting_t issue_rate;
    mayday_rate_setting_t send_rate;
    const char *proxy; /* "": by environ; "off": none */
    const char *trusted_certificate;
    uint64_t shutdown_timeout_ms;
    const char *server_name;
    const char *socket_path; /* "": RUN/mayday.sock */
    const char *socket_group;
    unsigned socket_mode;
    bool debug;
    const char *environment;
    const char *release;
    size_t environ_count;
    const char *environ[MAYDAY_SETTINGS_ENVIRON_MAX]; /* NAME=value */
    size_t destination_count;
    mayday_destination_setting_t *destinations; /* by index */
} mayday_settings_t;

/*
 * One heap object; free it with mayday_settings_free. NULL: error (size bytes,
 * may be 0) says what and in which line.
 */
mayday_settings_t *mayday_settings_new(mayday_slice_t text, char *error, size_t error_size);
void mayday_settings_free(mayday_settings_t *settings);

#endif
