/*
 * Setters of the directives that hold for a place, but for mayday_dsn
 * (conf_dsn.c) and mayday_collect (conf_collect.c).
 *
 * Runs when the configuration is read.
 */
#include "core/capture/conf_parse.h"

#define TAG_NAME_LEN_MAX 32 /* Sentry's limit */

const char *
mayday_set_enable(const mayday_conf_call_t *call)
{
    const char *error = mayday_conf_on_off(call, &call->place->enabled);

    if (error == NULL && call->place->enabled) {
        call->instance->any_enabled = true;
    }
    return error;
}

static const char *
set_expr(const mayday_conf_call_t *call, mayday_expr_t **out)
{
    return mayday_conf_expr(call, call->args[0], call->args[0], false, out);
}

const char *
mayday_set_environment(const mayday_conf_call_t *call)
{
    return set_expr(call, &call->place->environment);
}

const char *
mayday_set_release(const mayday_conf_call_t *call)
{
    return set_expr(call, &call->place->release);
}

const char *
mayday_set_transaction(const mayday_conf_call_t *call)
{
    return set_expr(call, &call->place->transaction);
}

const char *
mayday_set_failed_status(const mayday_conf_call_t *call)
{
    mayday_status_set_t *set = mayday_conf_alloc(call->host, sizeof(*set));

    if (set == NULL) {
        return mayday_conf_no_memory;
    }
    for (size_t i = 0; i < call->count; i++) {
        if (!mayday_conf_statuses(call->args[i], set)) {
            return mayday_conf_found(call, call->args[i], MAYDAY_STATUSES_EXPECTED);
        }
    }
    call->place->failed_status = set;
    return NULL;
}

/* ---- mayday_ignore ---- */

static const char *
unknown_ignore(const mayday_conf_call_t *call, mayday_slice_t word)
{
    char storage[MAYDAY_MESSAGE_SIZE / 2];
    mayday_buf_t kinds;

    mayday_buf_init(&kinds, storage, sizeof(storage));
    for (unsigned kind = 0; kind < MAYDAY_KIND_MAX; kind++) {
        mayday_buf_addf(&kinds, "%s%s", kind == 0 ? "" : ", ",
                        mayday_kind_name((mayday_kind_t) kind));
    }
    return mayday_conf_found(call, word, "%s, if=EXPRESSION, none or a kind of failure (%s)",
                             MAYDAY_STATUSES_EXPECTED, kinds.data);
}

static const char *
parse_ignore(const mayday_conf_call_t *call, mayday_ignore_t *rule)
{
    bool names_any = false;

    for (size_t i = 0; i < call->count; i++) {
        mayday_slice_t word = call->args[i], condition = word;
        mayday_kind_t kind = mayday_kind_find(word);

        if (kind != MAYDAY_KIND_NONE) {
            rule->kinds |= UINT32_C(1) << kind;
            names_any = true;
        } else if (mayday_conf_strip(&condition, "if=")) {
            const char *error;

            if (rule->condition != NULL) {
                return mayday_conf_found(call, word, "only one if=");
            }
            error = mayday_conf_expr(call, word, condition, true, &rule->condition);
            if (error != NULL) {
                return error;
            }
        } else if (mayday_conf_statuses(word, &rule->statuses)) {
            names_any = true;
        } else {
            return unknown_ignore(call, word);
        }
    }
    return names_any ? NULL
                     : mayday_conf_found(call, call->args[0], "a kind or a status beside if=");
}

const char *
mayday_set_ignore(const mayday_conf_call_t *call)
{
    mayday_place_t *place = call->place;
    mayday_ignore_t *rule = mayday_conf_alloc(call->host, sizeof(*rule)), *last;
    const char *error;

    if (rule == NULL) {
        return mayday_conf_no_memory;
    }
    rule->none = call->count == 1 && mayday_slice_ieq(call->args[0], MAYDAY_SLICE("none"));
    error = rule->none ? NULL : parse_ignore(call, rule);
    if (error != NULL) {
        return error;
    }
    if (!MAYDAY_IS_GIVEN(place, IGNORE)) {
        place->ignore = rule;
        return NULL;
    }
    /* Made here, for this place, and not shared before the configuration is read. */
    last = (mayday_ignore_t *) place->ignore;
    while (last->next != NULL) {
        last = last->next;
    }
    if (last->none) {
        return mayday_conf_found(call, call->args[0], "nothing after none");
    }
    last->next = rule;
    return NULL;
}

/* ---- mayday_user ---- */

static bool
has_ignoring_case(mayday_slice_t text, const char *what)
{
    mayday_slice_t w = mayday_slice_str(what);

    for (size_t at = 0; at + w.len <= text.len; at++) {
        if (mayday_slice_ieq(mayday_slice(text.data + at, w.len), w)) {
            return true;
        }
    }
    return false;
}

static bool
is_any_of(mayday_slice_t word, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (mayday_slice_ieq(word, mayday_slice_str(list[i]))) {
            return true;
        }
    }
    return false;
}

static bool
names_session(mayday_slice_t name)
{
    static const char *const terms[] = {"sess", "sid", "token", "auth", "jwt"};

    for (size_t i = 0; i < MAYDAY_COUNT(terms); i++) {
        if (has_ignoring_case(name, terms[i])) {
            return true;
        }
    }
    return false;
}

static bool
is_word_byte(char c)
{
    return mayday_is_alnum(c) || c == '_';
}

/* Cuts the next word (letters, digits, "_") off the text; false: no more. */
static bool
next_word(mayday_slice_t *text, mayday_slice_t *word)
{
    size_t begin = 0, end;

    while (begin < text->len && !is_word_byte(text->data[begin])) {
        begin++;
    }
    end = begin;
    while (end < text->len && is_word_byte(text->data[end])) {
        end++;
    }
    *word = mayday_slice(text->data + begin, end - begin);
    *text = mayday_slice(text->data + end, text->len - end);
    return word->len > 0;
}

/*
 * Whether an expression gives away who is logged in: a cookie with a telling
 * name, or all cookies. nginx has $cookie_NAME and $http_cookie; httpd's
 * expressions reach the header in several ways (%{HTTP_COOKIE}, %{HTTP:Cookie},
 * req('Cookie') ...), so there the text around a mention of cookies counts.
 */
static bool
has_session_cookie(mayday_server_t server, mayday_slice_t text)
{
    static const char *const all[] = {"http_cookie", "upstream_http_set_cookie",
                                      "sent_http_set_cookie"};
    static const char *const functions[] = {"http", "req", "req_novary"};
    mayday_slice_t rest = text, word, before = {0};

    for (; next_word(&rest, &word); before = word) {
        bool is_httpd = server == MAYDAY_SERVER_HTTPD;

        if (!has_ignoring_case(word, "cookie")) {
            continue;
        }
        if (is_any_of(word, all, MAYDAY_COUNT(all)) || names_session(is_httpd ? text : word)) {
            return true;
        }
        if (is_httpd && mayday_slice_ieq(word, MAYDAY_SLICE("cookie")) &&
            is_any_of(before, functions, MAYDAY_COUNT(functions))) {
            return true;
        }
    }
    return false;
}

static const char *
parse_user_part(const mayday_conf_call_t *call, mayday_slice_t word, mayday_user_t *user)
{
    static const char *const names[MAYDAY_USER_MAX] = {"id=", "email=", "username=", "ip="};
    mayday_slice_t text = word;
    unsigned part = 0;
    bool hashed;

    while (part < MAYDAY_USER_MAX && !mayday_conf_strip(&text, names[part])) {
        part++;
    }
    if (part == MAYDAY_USER_MAX) {
        return mayday_conf_found(call, word, "id=, email=, username= or ip= and an expression");
    }
    if (user->parts[part].expr != NULL) {
        return mayday_conf_found(call, word, "%s only once", names[part]);
    }
    hashed = mayday_conf_strip(&text, "hash:");
    if (hashed && part == MAYDAY_USER_IP) {
        return mayday_conf_found(call, word,
                                 "ip= without hash:, for a hash is no address; id=hash: takes it");
    }
    if (!hashed && has_session_cookie(call->host->server, text)) {
        return mayday_conf_found(call, word,
                                 "hash: before a session cookie, as in id=hash:EXPRESSION, "
                                 "for who has the cookie is the user");
    }
    user->parts[part].hashed = hashed;
    return mayday_conf_expr(call, word, text, false, &user->parts[part].expr);
}

const char *
mayday_set_user(const mayday_conf_call_t *call)
{
    mayday_user_t *user;

    if (call->count == 1 && mayday_slice_ieq(call->args[0], MAYDAY_SLICE("none"))) {
        call->place->user = NULL;
        return NULL;
    }
    user = mayday_conf_alloc(call->host, sizeof(*user));
    if (user == NULL) {
        return mayday_conf_no_memory;
    }
    for (size_t i = 0; i < call->count; i++) {
        const char *error = parse_user_part(call, call->args[i], user);

        if (error != NULL) {
            return error;
        }
    }
    call->place->user = user;
    return NULL;
}

/* ---- mayday_tag ---- */

static bool
is_tag_name(mayday_slice_t name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];

        if (!is_word_byte(c) && c != '.' && c != ':' && c != '-') {
            return false;
        }
    }
    return name.len > 0 && name.len <= TAG_NAME_LEN_MAX;
}

const char *
mayday_set_tag(const mayday_conf_call_t *call)
{
    mayday_place_t *place = call->place;
    mayday_slice_t name = call->args[0];
    mayday_tag_t *tag = mayday_conf_alloc(call->host, sizeof(*tag)), *last = NULL;
    const char *error;
    size_t count = 0;

    if (!is_tag_name(name)) {
        return mayday_conf_found(
            call, name, "a name of at most 32 letters, digits, \"_\", \".\", \":\" or \"-\"");
    }
    if (MAYDAY_IS_GIVEN(place, TAG)) {
        /* Made here, for this place, and not shared before the configuration is read. */
        for (mayday_tag_t *t = (mayday_tag_t *) place->tags; t != NULL; t = t->next) {
            if (mayday_slice_eq(t->name, name)) {
                return mayday_conf_found(call, name, "each tag once in one place");
            }
            last = t;
            count++;
        }
    }
    if (count == MAYDAY_TAG_MAX) {
        return mayday_conf_found(call, name, "at most %d tags in one place", MAYDAY_TAG_MAX);
    }
    if (tag == NULL || !mayday_conf_copy(call->host, &tag->name, name)) {
        return mayday_conf_no_memory;
    }
    error = mayday_conf_expr(call, call->args[1], call->args[1], false, &tag->expr);
    if (error != NULL) {
        return error;
    }
    if (last == NULL) {
        place->tags = tag;
    } else {
        last->next = tag;
    }
    return NULL;
}

/* ---- mayday_trace_context ---- */

const char *
mayday_set_trace_context(const mayday_conf_call_t *call)
{
    static const char *const modes[] = {
        [MAYDAY_TRACE_EXTRACT] = "extract",
        [MAYDAY_TRACE_INJECT] = "inject",
        [MAYDAY_TRACE_PROPAGATE] = "propagate",
        [MAYDAY_TRACE_IGNORE] = "ignore",
    };
    unsigned mode = 0;
    mayday_slice_t id;

    while (mode < MAYDAY_COUNT(modes) && !mayday_conf_is(call->args[0], modes[mode])) {
        mode++;
    }
    if (mode == MAYDAY_COUNT(modes)) {
        return mayday_conf_found(call, call->args[0], "extract, inject, propagate or ignore");
    }
    call->place->trace_mode = (uint8_t) mode;
    if (call->count == 1) {
        return NULL;
    }
    id = call->args[1];
    if (mode == MAYDAY_TRACE_IGNORE || !mayday_conf_strip(&id, "id=")) {
        return mayday_conf_found(call, call->args[1], "id= and an expression, not after ignore");
    }
    return mayday_conf_expr(call, call->args[1], id, false, &call->place->trace_id);
}
