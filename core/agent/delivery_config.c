/*
 * What delivery needs of the settings, copied, so that the settings may go.
 *
 * Runs in the agent, in the thread that brings new settings; allocates, never
 * blocks. The process's own environment is not the shell's that started the
 * server, so the proxy and CA variables come with the settings.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/delivery_private.h"

/* The value of the first of the names that is set and not empty; else "". */
static const char *
environ_get(const mayday_settings_t *settings, const char *const *names)
{
    for (; *names != NULL; names++) {
        size_t len = strlen(*names);

        for (size_t i = 0; i < settings->environ_count; i++) {
            const char *entry = settings->environ[i];

            if (strncmp(entry, *names, len) == 0 && entry[len] == '=' && entry[len + 1] != '\0') {
                return entry + len + 1;
            }
        }
    }
    return "";
}

/* The order of curl, which does not take HTTP_PROXY, for a CGI's client could set it. */
static const char *const http_names[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL};
static const char *const https_names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
                                          NULL};
static const char *const no_names[] = {"no_proxy", "NO_PROXY", NULL};
static const char *const ca_file_names[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE", NULL};
static const char *const ca_dir_names[] = {"SSL_CERT_DIR", NULL};

static void
copy(char **out, const char *text, bool *failed)
{
    *out = strdup(text);
    *failed = *failed || *out == NULL;
}

static void
copy_proxies(delivery_config_t *config, const mayday_settings_t *settings, bool *failed)
{
    const char *proxy = settings->proxy;

    if (proxy[0] == '\0') {
        copy(&config->http_proxy, environ_get(settings, http_names), failed);
        copy(&config->https_proxy, environ_get(settings, https_names), failed);
        copy(&config->no_proxy, environ_get(settings, no_names), failed);
        return;
    }
    if (strcmp(proxy, "off") == 0) {
        proxy = "";
    }
    copy(&config->http_proxy, proxy, failed);
    copy(&config->https_proxy, proxy, failed);
    copy(&config->no_proxy, "", failed);
}

static void
copy_authorities(delivery_config_t *config, const mayday_settings_t *settings, bool *failed)
{
    if (settings->trusted_certificate[0] != '\0') {
        copy(&config->ca_file, settings->trusted_certificate, failed);
        copy(&config->ca_dir, "", failed);
        return;
    }
    copy(&config->ca_file, environ_get(settings, ca_file_names), failed);
    copy(&config->ca_dir, environ_get(settings, ca_dir_names), failed);
}

static int
compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static void
copy_dsns(delivery_config_t *config, const mayday_settings_t *settings, bool *failed)
{
    size_t count = 0, kept = 0;

    for (size_t i = 0; i < settings->destination_count; i++) {
        count += settings->destinations[i].dsn_count;
    }
    config->dsns = calloc(count + 1, sizeof(*config->dsns));
    if (config->dsns == NULL) {
        *failed = true;
        return;
    }
    for (size_t i = 0; i < settings->destination_count; i++) {
        for (uint32_t j = 0; j < settings->destinations[i].dsn_count; j++) {
            copy(&config->dsns[config->dsn_count], settings->destinations[i].dsns[j], failed);
            if (*failed) {
                return;
            }
            config->dsn_count++;
        }
    }
    qsort(config->dsns, config->dsn_count, sizeof(*config->dsns), compare_texts);
    for (size_t i = 0; i < config->dsn_count; i++) {
        if (kept > 0 && strcmp(config->dsns[kept - 1], config->dsns[i]) == 0) {
            free(config->dsns[i]);
        } else {
            config->dsns[kept++] = config->dsns[i];
        }
    }
    config->dsn_count = kept;
}

delivery_config_t *
mayday_delivery_config_new(const mayday_settings_t *settings)
{
    delivery_config_t *config = calloc(1, sizeof(*config));
    char sdk_name[64];
    bool failed = false;

    if (config == NULL) {
        return NULL;
    }
    atomic_init(&config->references, 1);
    config->send_rate = settings->send_rate;
    snprintf(sdk_name, sizeof(sdk_name), "mayday.%s", settings->server);
    copy(&config->sdk_name, sdk_name, &failed);
    copy_proxies(config, settings, &failed);
    copy_authorities(config, settings, &failed);
    copy_dsns(config, settings, &failed);
    if (failed) {
        mayday_delivery_config_free(config);
        return NULL;
    }
    return config;
}

void
mayday_delivery_config_free(delivery_config_t *config)
{
    if (config == NULL || atomic_fetch_sub(&config->references, 1) > 1) {
        return;
    }
    for (size_t i = 0; i < config->dsn_count; i++) {
        free(config->dsns[i]);
    }
    free(config->dsns);
    free(config->http_proxy);
    free(config->https_proxy);
    free(config->no_proxy);
    free(config->ca_file);
    free(config->ca_dir);
    free(config->sdk_name);
    free(config);
}
