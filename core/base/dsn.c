/*
 * Takes a DSN apart. Slices point into the caller's text; allocates nothing.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memrchr */
#endif

#include "core/base/dsn.h"

#define KEY_BYTES_TELLING 8u

static bool
is_name_byte(char c)
{
    return mayday_is_alnum(c) || c == '.' || c == '-' || c == '_';
}

/* The offset of the first byte of s that is one of stops, or its length. */
static size_t
until(mayday_slice_t s, const char *stops)
{
    size_t i = 0;

    while (i < s.len && strchr(stops, s.data[i]) == NULL) {
        i++;
    }
    return i;
}

static size_t
last_of(mayday_slice_t s, char c)
{
    const char *at = s.len == 0 ? NULL : memrchr(s.data, c, s.len);

    return at == NULL ? SIZE_MAX : (size_t) (at - s.data);
}

static mayday_slice_t
from(mayday_slice_t s, size_t offset)
{
    return mayday_slice(s.data + offset, s.len - offset);
}

static bool
take_scheme(mayday_dsn_t *dsn, mayday_slice_t *text)
{
    static const struct {
        mayday_slice_t name;
        bool secure;
    } schemes[] = {{{"https://", 8}, true}, {{"http://", 7}, false}};

    for (size_t i = 0; i < MAYDAY_COUNT(schemes); i++) {
        size_t len = schemes[i].name.len;

        if (text->len >= len && mayday_slice_ieq(mayday_slice(text->data, len), schemes[i].name)) {
            dsn->secure = schemes[i].secure;
            *text = from(*text, len);
            return true;
        }
    }
    return false;
}

/* Cuts the host off the front of s, which is left with ":PORT" or nothing. */
static bool
take_host(mayday_dsn_t *dsn, mayday_slice_t *s)
{
    size_t len = 0;

    if (s->len > 0 && s->data[0] == '[') {
        len = 1;
        while (len < s->len && (mayday_hex_digit(s->data[len]) >= 0 || s->data[len] == ':' ||
                                s->data[len] == '.')) {
            len++;
        }
        if (len < 4 || len == s->len || s->data[len] != ']') {
            return false;
        }
        len++;
    } else {
        while (len < s->len && is_name_byte(s->data[len])) {
            len++;
        }
    }
    dsn->host = mayday_slice(s->data, len);
    *s = from(*s, len);
    return len > 0 && (s->len == 0 || s->data[0] == ':');
}

static bool
take_port(mayday_dsn_t *dsn, mayday_slice_t s)
{
    unsigned port = 0;

    dsn->port = dsn->secure ? 443 : 80;
    if (s.len == 0) {
        return true;
    }
    if (s.len < 2 || s.len > 6) {
        return false;
    }
    for (size_t i = 1; i < s.len; i++) {
        if (!mayday_is_digit(s.data[i])) {
            return false;
        }
        port = port * 10 + (unsigned) (s.data[i] - '0');
    }
    if (port < 1 || port > UINT16_MAX) {
        return false;
    }
    dsn->port = (uint16_t) port;
    dsn->port_given = true;
    return true;
}

/* path: from its first slash to the end of the DSN, or empty. */
static bool
take_project(mayday_dsn_t *dsn, mayday_slice_t path)
{
    size_t slash = last_of(path, '/');

    if (slash == SIZE_MAX || slash + 1 == path.len) {
        return false;
    }
    dsn->project_id = from(path, slash + 1);
    while (slash > 0 && path.data[slash - 1] == '/') {
        slash--;
    }
    dsn->path = mayday_slice(path.data, slash);
    return true;
}

mayday_rc_t
mayday_dsn_parse(mayday_dsn_t *dsn, mayday_slice_t text, const char **error)
{
    mayday_slice_t authority, keys, rest;
    size_t at, colon;

    *dsn = (mayday_dsn_t){0};

    if (text.len == 0 || text.len > MAYDAY_DSN_LEN_MAX) {
        *error = "a URL of at most 1024 bytes";
        return MAYDAY_INVALID;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f) {
            *error = "printable ASCII without spaces";
            return MAYDAY_INVALID;
        }
    }
    rest = text;
    if (!take_scheme(dsn, &rest)) {
        *error = "a scheme of http or https";
        return MAYDAY_INVALID;
    }
    authority = mayday_slice(rest.data, until(rest, "/?#"));
    rest = from(rest, authority.len);
    rest.len = until(rest, "?#");

    at = last_of(authority, '@');
    keys = mayday_slice(authority.data, at == SIZE_MAX ? 0 : at);
    colon = until(keys, ":");
    dsn->public_key = mayday_slice(keys.data, colon);
    if (dsn->public_key.len == 0) {
        *error = "a public key before the host, as in https://KEY@host/42";
        return MAYDAY_INVALID;
    }
    if (colon < keys.len) {
        dsn->secret_key = from(keys, colon + 1);
    }
    authority = from(authority, at + 1);
    if (!take_host(dsn, &authority)) {
        *error = "a host after the @";
        return MAYDAY_INVALID;
    }
    if (!take_port(dsn, authority)) {
        *error = "a port from 1 to 65535";
        return MAYDAY_INVALID;
    }
    if (!take_project(dsn, rest)) {
        *error = "a project id as the last part of the path, as in https://KEY@host/42";
        return MAYDAY_INVALID;
    }
    return MAYDAY_OK;
}

static void
add_place(const mayday_dsn_t *dsn, mayday_buf_t *out)
{
    mayday_buf_add(out, dsn->host);
    if (dsn->port_given) {
        mayday_buf_addf(out, ":%u", dsn->port);
    }
    mayday_buf_add(out, dsn->path);
}

void
mayday_dsn_envelope_url(const mayday_dsn_t *dsn, mayday_buf_t *url)
{
    mayday_buf_adds(url, dsn->secure ? "https://" : "http://");
    add_place(dsn, url);
    mayday_buf_adds(url, "/api/");
    mayday_buf_add(url, dsn->project_id);
    mayday_buf_adds(url, "/envelope/");
}

void
mayday_dsn_redacted(const mayday_dsn_t *dsn, mayday_buf_t *text)
{
    mayday_buf_adds(text, dsn->secure ? "https://[Filtered]@" : "http://[Filtered]@");
    add_place(dsn, text);
    mayday_buf_addc(text, '/');
    mayday_buf_add(text, dsn->project_id);
}

/* How many bytes the text begins with that give the key away. */
static size_t
key_bytes(mayday_slice_t text, mayday_slice_t key)
{
    size_t n = 0, max = text.len < key.len ? text.len : key.len;

    while (n < max &&
           mayday_slice_ieq(mayday_slice(text.data + n, 1), mayday_slice(key.data + n, 1))) {
        n++;
    }
    return n == key.len || n >= KEY_BYTES_TELLING ? n : 0;
}

void
mayday_dsn_hide_keys(const mayday_dsn_t *dsn, char *text, size_t size)
{
    static const mayday_slice_t filtered = {"[Filtered]", 10};
    size_t len = strlen(text), at = 0;

    while (at < len) {
        mayday_slice_t rest = mayday_slice(text + at, len - at);
        size_t key = key_bytes(rest, dsn->public_key), room = size - 1 - at, put, tail;

        if (key == 0) {
            key = key_bytes(rest, dsn->secret_key);
        }
        if (key == 0) {
            at++;
            continue;
        }
        put = filtered.len < room ? filtered.len : room;
        tail = rest.len - key < room - put ? rest.len - key : room - put;
        memmove(text + at + put, text + at + key, tail);
        memcpy(text + at, filtered.data, put);
        at += put;
        len = at + tail;
        text[len] = '\0';
    }
}
