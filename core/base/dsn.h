/*
 * DSN: {PROTO}://{PUBLIC}[:{SECRET}]@{HOST}[:PORT]{PATH}/{PROJECT_ID}
 * (Sentry's SDK development documentation, "DSN"). The project id is an opaque
 * string, the last segment of the path; query and fragment are ignored.
 *
 * Runs in the server when the configuration is read and in the agent; parses
 * in place, allocates nothing.
 */
#ifndef MAYDAY_DSN_H
#define MAYDAY_DSN_H

#include "core/base/buf.h"

#define MAYDAY_DSN_LEN_MAX 1024

typedef struct {
    bool secure;               /* https                                     */
    mayday_slice_t public_key; /* all slices point into the parsed text      */
    mayday_slice_t secret_key; /* empty: none                               */
    mayday_slice_t host;       /* with the brackets of an IPv6 address       */
    uint16_t port;             /* 80 or 443 where none was written           */
    bool port_given;
    mayday_slice_t path; /* "" or "/a/b", no slash at the end          */
    mayday_slice_t project_id;
} mayday_dsn_t;

/*
 * Parses text (at most MAYDAY_DSN_LEN_MAX bytes; no control characters, no
 * spaces). MAYDAY_INVALID: *error points to a constant that says what was
 * expected, for instance "a scheme of http or https"; it never quotes the key.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_dsn_parse(mayday_dsn_t *dsn, mayday_slice_t text,
                                               const char **error);

/* {PROTO}://{HOST}[:PORT]{PATH}/api/{PROJECT_ID}/envelope/ */
void mayday_dsn_envelope_url(const mayday_dsn_t *dsn, mayday_buf_t *url);

/* For people: the DSN with the keys replaced, "https://[Filtered]@host/42". */
void mayday_dsn_redacted(const mayday_dsn_t *dsn, mayday_buf_t *text);

/*
 * Replaces the keys, wherever a text of others repeats them, by [Filtered], in
 * place; size: of the storage, what does not fit is cut. The beginning of a key
 * counts too from 8 bytes on, for texts are cut; case does not matter.
 */
void mayday_dsn_hide_keys(const mayday_dsn_t *dsn, char *text, size_t size);

#endif
