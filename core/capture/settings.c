/*
 * Writes the settings file (format: settings.h).
 *
 * Runs in the server's master when the configuration is in force; allocates
 * nothing, blocks on nothing. Counterpart: core/event/settings_read.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/capture/settings.h"

/* What curl and OpenSSL look at; nginx takes these from its workers. */
static const char *const environ_names[] = {
    "http_proxy", "https_proxy", "HTTPS_PROXY",   "all_proxy",    "ALL_PROXY",
    "no_proxy",   "NO_PROXY",    "SSL_CERT_FILE", "SSL_CERT_DIR",
};

static void
add_escaped(mayday_buf_t *text, mayday_slice_t value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char) value.data[i];
        if (c < 0x20 || c == 0x7f || c == '%') {
            mayday_buf_addf(text, "%%%02X", c);
        } else {
            mayday_buf_addc(text, (char) c);
        }
    }
}

static void
add_text(mayday_buf_t *text, const char *name, mayday_slice_t value)
{
    mayday_buf_adds(text, name);
    mayday_buf_addc(text, ' ');
    add_escaped(text, value);
    mayday_buf_addc(text, '\n');
}

static void
add_number(mayday_buf_t *text, const char *name, uint64_t value)
{
    mayday_buf_addf(text, "%s %llu\n", name, (unsigned long long) value);
}

static void
add_rate(mayday_buf_t *text, const char *name, const mayday_rate_t *rate)
{
    mayday_buf_addf(text, "%s %u %u %u\n", name, rate->events, rate->period_s, rate->burst);
}

static void
add_environ(mayday_buf_t *text)
{
    for (size_t i = 0; i < MAYDAY_COUNT(environ_names); i++) {
        const char *value = getenv(environ_names[i]);

        if (value != NULL && value[0] != '\0') {
            mayday_buf_addf(text, "environ %s ", environ_names[i]);
            add_escaped(text, mayday_slice_str(value));
            mayday_buf_addc(text, '\n');
        }
    }
}

static void
add_destinations(mayday_buf_t *text, const mayday_destination_t *destination)
{
    for (; destination != NULL; destination = destination->next) {
        mayday_buf_addf(text, "destination %u", destination->index);
        for (uint32_t i = 0; i < destination->dsn_count; i++) {
            mayday_buf_addc(text, ' ');
            add_escaped(text, destination->dsns[i]);
        }
        mayday_buf_addc(text, '\n');
    }
}

mayday_rc_t
mayday_settings_render(const mayday_instance_t *instance, mayday_buf_t *text,
                       uint8_t hash[MAYDAY_HASH_BYTES])
{
    static const uint8_t no_key[16];
    bool nginx = instance->server == MAYDAY_SERVER_NGINX;

    mayday_buf_adds(text, MAYDAY_SETTINGS_FIRST_LINE "\n");
    add_text(text, "server", nginx ? MAYDAY_SLICE("nginx") : MAYDAY_SLICE("httpd"));
    add_text(text, "server_version", mayday_slice_str(instance->server_version));
    add_text(text, "identity", mayday_slice_str(instance->identity));
    add_text(text, "error_log", mayday_slice_str(instance->error_log));
    add_text(text, "environment", instance->environment);
    add_text(text, "release", instance->release);
    add_text(text, "directory", instance->directory);
    add_text(text, "rules_file", instance->rules_file);
    add_number(text, "rules_observe", instance->rules_mode == MAYDAY_RULES_OBSERVE);
    add_number(text, "queue_size", instance->queue_size);
    add_number(text, "retention", instance->retention_s);
    add_rate(text, "issue_rate", &instance->issue_rate);
    add_rate(text, "send_rate", &instance->send_rate);
    add_text(text, "proxy", instance->proxy);
    add_text(text, "trusted_certificate", instance->trusted_certificate);
    add_number(text, "shutdown_timeout_ms", instance->shutdown_timeout_ms);
    add_text(text, "server_name", instance->server_name);
    add_text(text, "socket_path", instance->socket_path);
    add_text(text, "socket_group", instance->socket_group);
    add_number(text, "socket_mode", instance->socket_mode);
    add_number(text, "debug", instance->debug);
    add_environ(text);
    add_destinations(text, instance->destinations);
    mayday_buf_adds(text, "end\n");
    if (text->truncated) {
        return MAYDAY_FULL;
    }
    mayday_siphash(hash, no_key, text->data, text->len);
    return MAYDAY_OK;
}
