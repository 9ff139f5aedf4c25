/*
 * Requests that only scanners make, told by method, path, query and headers, not
 * by who says to ask. What is known is in bots_probes.def.
 *
 * Encodings do not hide anything: paths and texts are decoded as often as the
 * most forgiving of servers would (%2e, %252e, overlong UTF-8, backslashes).
 *
 * Runs in the agent's pipeline thread. Allocates when made, never when asked.
 */
#ifndef MAYDAY_BOTS_PROBE_H
#define MAYDAY_BOTS_PROBE_H

#include "core/base/base.h"

/* Of each path and text so many bytes are looked at. */
#define MAYDAY_PROBE_TEXT_MAX 4096

/* What a site is known to be: some requests are then ordinary. */
typedef enum {
    MAYDAY_SITE_PHP = 1,
    MAYDAY_SITE_NO_PHP = 2, /* and then .php is none        */
    MAYDAY_SITE_JAVA = 4,
    MAYDAY_SITE_EXCHANGE = 8
} mayday_site_t;

typedef struct mayday_probes mayday_probes_t;

/* NULL: no memory. */
mayday_probes_t *mayday_probes_new(void);
void mayday_probes_free(mayday_probes_t *probes);

/*
 * Each returns a reason, a constant such as "secret file", or NULL: an ordinary
 * request. site: a mask of mayday_site_t. path: as the client sent it, without
 * query. text: a query, or a header's value.
 */
const char *mayday_probe_method(mayday_slice_t method);
const char *mayday_probe_path(const mayday_probes_t *probes, mayday_slice_t path, unsigned site);
const char *mayday_probe_text(const mayday_probes_t *probes, mayday_slice_t text);

#endif
