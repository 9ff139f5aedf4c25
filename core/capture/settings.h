/*
 * The settings file: what the agent must know of an instance, written by the
 * master as RUN/settings-HEX, 0600, immutable, HEX being the hash of its
 * content. A lane names the settings that its records were written under.
 *
 * Text, one "name value" a line, the names being those of the nginx directives
 * without "mayday_" where there is one, in the order of directives.def:
 *
 *   mayday-settings 1
 *   server nginx
 *   server_version nginx/1.22.1
 *   identity /etc/nginx/nginx.conf
 *   error_log /var/log/nginx/error.log
 *   directory /var/lib/mayday/nginx
 *   issue_rate 60 60 60           (events, period in seconds, burst)
 *   shutdown_timeout_ms 2000
 *   …                             (all names: core/capture/settings.c)
 *   environ https_proxy http://proxy:3128     (proxy and CA variables of the shell)
 *   destination 0
 *   destination 1 https://KEY@sentry.example.com/42
 *   end
 *
 * In values, bytes below 0x20, 0x7f and "%" are written as %XX; sizes in bytes,
 * times in seconds or, where the field says _ms, in milliseconds; flags 0 or 1.
 * The reader is core/event/settings_read.c.
 */
#ifndef MAYDAY_SETTINGS_H
#define MAYDAY_SETTINGS_H

#include "core/base/buf.h"
#include "core/capture/conf.h"

#define MAYDAY_SETTINGS_FIRST_LINE "mayday-settings 1"
#define MAYDAY_SETTINGS_PREFIX "settings-"
#define MAYDAY_SETTINGS_SIZE_MAX ((size_t) 256 << 10)

/*
 * Renders the settings into text and their name into hash. MAYDAY_FULL: they do
 * not fit. Environment variables are read from environ: call it in the master.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_settings_render(const mayday_instance_t *instance,
                                                     mayday_buf_t *text,
                                                     uint8_t hash[MAYDAY_HASH_BYTES]);

#endif
