/*
 * string.find, match, gmatch and gsub for rules, with Lua 5.1's patterns as LuaJIT
 * has them, but bounded: Lua's own may backtrack for minutes over two kilobytes,
 * and nothing interrupts a C function.
 *
 * Each character looked at is a step. A call may take STEPS_MAX of them, and the
 * clock is looked at every STEPS_PER_GUARD; beyond either it is a Lua error. The
 * text that is searched is bounded, and plain searches are linear.
 *
 * What a pattern means follows the Lua 5.1 Reference Manual, 5.4.1; where that is
 * silent (zero bytes, "%" at the end of a replacement), what LuaJIT does. The
 * unit tests hold both side by side on random patterns.
 *
 * Runs in the agent's pipeline thread; takes no memory but from the Lua state,
 * so that an error may leave it at any point.
 */
#include <assert.h>

#include "core/agent/rules_internal.h"

#define STEPS_MAX 2000000u
#define STEPS_PER_GUARD 4096u
#define TEXT_LEN_MAX ((size_t) 1024 * 1024)
#define CAPTURES_MAX 32
#define DEPTH_MAX 200 /* of items whose rest is tried in more than one way; LuaJIT's own bound */

typedef struct {
    const char *begin;
    size_t len;
    enum { OPEN, CLOSED, POSITION } state;
} capture_t;

typedef struct {
    lua_State *L;
    const char *text, *text_end;
    const char *pattern_end;
    unsigned steps, guard_at;
    int depth;
    int count; /* captures so far */
    capture_t captures[CAPTURES_MAX];
} matcher_t;

static const char *match_from(matcher_t *m, const char *s, const char *p);

/* ---- bounds ---- */

static void
take_steps(matcher_t *m, size_t n)
{
    m->steps += (unsigned) n;
    if (m->steps < m->guard_at) {
        return;
    }
    if (m->steps > STEPS_MAX) {
        mayday_rules_raise(m->L, "the pattern takes more than %d steps on this text", STEPS_MAX);
    }
    mayday_sandbox_guard(m->L);
    m->guard_at = m->steps + STEPS_PER_GUARD;
}

/* ---- single characters ---- */

static bool
in_class(unsigned char c, char class)
{
    bool in;

    switch (mayday_lower(class)) {
    case 'a':
        in = mayday_is_alnum((char) c) && !mayday_is_digit((char) c);
        break;
    case 'c':
        in = c < ' ' || c == 127;
        break;
    case 'd':
        in = mayday_is_digit((char) c);
        break;
    case 'g':
        in = c > ' ' && c < 127;
        break;
    case 'l':
        in = c >= 'a' && c <= 'z';
        break;
    case 'p':
        in = c > ' ' && c < 127 && !mayday_is_alnum((char) c);
        break;
    case 's':
        in = c == ' ' || (c >= '\t' && c <= '\r');
        break;
    case 'u':
        in = c >= 'A' && c <= 'Z';
        break;
    case 'w':
        in = mayday_is_alnum((char) c);
        break;
    case 'x':
        in = mayday_hex_digit((char) c) >= 0;
        break;
    case 'z':
        in = c == '\0';
        break;
    default:
        return (unsigned char) class == c;
    }
    return in != (class >= 'A' && class <= 'Z');
}

/* Behind the item at p that stands for one character: x, %x, or a set. */
static const char *
item_end(const matcher_t *m, const char *p)
{
    char c = *p++;

    if (c == '%') {
        if (p == m->pattern_end) {
            mayday_rules_raise(m->L, "malformed pattern (ends with '%%')");
        }
        return p + 1;
    }
    if (c != '[') {
        return p;
    }
    if (p < m->pattern_end && *p == '^') {
        p++;
    }
    do { /* the first one may be ']' */
        if (p == m->pattern_end) {
            mayday_rules_raise(m->L, "malformed pattern (missing ']')");
        }
        if (*p++ == '%' && p < m->pattern_end) {
            p++;
        }
    } while (p == m->pattern_end || *p != ']');
    return p + 1;
}

/* The set from p, its '[', to last, its ']'. */
static bool
in_set(unsigned char c, const char *p, const char *last)
{
    bool wanted = true;

    if (p[1] == '^') {
        wanted = false;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            p++;
            if (in_class(c, *p)) {
                return wanted;
            }
        } else if (p[1] == '-' && p + 2 < last) {
            p += 2;
            if ((unsigned char) p[-2] <= c && c <= (unsigned char) *p) {
                return wanted;
            }
        } else if ((unsigned char) *p == c) {
            return wanted;
        }
    }
    return !wanted;
}

/* Whether the character c is one that the item from p to end stands for. */
static bool
is_item(unsigned char c, const char *p, const char *end)
{
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(c, p[1]);
    case '[':
        return in_set(c, p, end - 1);
    default:
        return (unsigned char) *p == c;
    }
}

/* Sets may be as long as the text. */
static size_t
steps_of_item(const char *p, const char *end)
{
    return 1 + (size_t) (end - p) / 8;
}

static bool
matches_at(matcher_t *m, const char *s, const char *p, const char *end)
{
    take_steps(m, steps_of_item(p, end));
    return s < m->text_end && is_item((unsigned char) *s, p, end);
}

/* ---- captures ---- */

/* The capture that digit names, which must be there and closed. */
static const capture_t *
capture_of_digit(const matcher_t *m, char digit)
{
    int i = digit - '1';

    if (i < 0 || i >= m->count || m->captures[i].state == OPEN) {
        mayday_rules_raise(m->L, "invalid capture index");
    }
    return &m->captures[i];
}

/* Opens a capture at s, matches the rest from p on; takes it back where that fails. */
static const char *
open_capture(matcher_t *m, const char *s, const char *p, bool position)
{
    const char *end;

    if (m->count == CAPTURES_MAX) {
        mayday_rules_raise(m->L, "too many captures");
    }
    m->captures[m->count] = (capture_t){s, 0, position ? POSITION : OPEN};
    m->count++;
    end = match_from(m, s, p);
    if (end == NULL) {
        m->count--;
    }
    return end;
}

static const char *
close_capture(matcher_t *m, const char *s, const char *p)
{
    capture_t *capture = NULL;
    const char *end;

    for (int i = m->count - 1; i >= 0 && capture == NULL; i--) {
        capture = m->captures[i].state == OPEN ? &m->captures[i] : NULL;
    }
    if (capture == NULL) {
        mayday_rules_raise(m->L, "invalid pattern capture");
    }
    capture->state = CLOSED;
    capture->len = (size_t) (s - capture->begin);
    end = match_from(m, s, p);
    if (end == NULL) {
        capture->state = OPEN;
    }
    return end;
}

/* Behind the repeat of a capture at s, or NULL. A position is nothing to repeat. */
static const char *
match_repeat(matcher_t *m, const char *s, char digit)
{
    const capture_t *capture = capture_of_digit(m, digit);

    take_steps(m, 1 + capture->len / 16);
    if (capture->state == POSITION || (size_t) (m->text_end - s) < capture->len ||
        memcmp(capture->begin, s, capture->len) != 0) {
        return NULL;
    }
    return s + capture->len;
}

/* ---- %bxy and %f[set] ---- */

/* p: the two characters. */
static const char *
match_balance(matcher_t *m, const char *s, const char *p)
{
    size_t open = 1;

    if (m->pattern_end - p < 2) {
        mayday_rules_raise(m->L, "unbalanced pattern");
    }
    if (s == m->text_end || *s != p[0]) {
        return NULL;
    }
    while (++s < m->text_end) {
        take_steps(m, 1);
        if (*s == p[1]) {
            if (--open == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

/* p: the set. Before the text and behind it are zero bytes. */
static bool
match_frontier(matcher_t *m, const char *s, const char *p, const char **end)
{
    char before = '\0', here = '\0';

    if (p == m->pattern_end || *p != '[') {
        mayday_rules_raise(m->L, "missing '[' after '%%f' in pattern");
    }
    *end = item_end(m, p);
    take_steps(m, 2 * steps_of_item(p, *end));
    if (s > m->text) {
        before = s[-1];
    }
    if (s < m->text_end) {
        here = *s;
    }
    return !in_set((unsigned char) before, p, *end - 1) &&
           in_set((unsigned char) here, p, *end - 1);
}

/* ---- repetition ---- */

/* As many as there are, then fewer until the rest, from p on, matches. */
static const char *
match_most(matcher_t *m, const char *s, const char *item, const char *end, const char *p)
{
    const char *at = s, *found;

    while (matches_at(m, at, item, end)) {
        at++;
    }
    for (; at >= s; at--) {
        found = match_from(m, at, p);
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

static const char *
match_least(matcher_t *m, const char *s, const char *item, const char *end, const char *p)
{
    for (;; s++) {
        const char *found = match_from(m, s, p);

        if (found != NULL) {
            return found;
        }
        if (!matches_at(m, s, item, end)) {
            return NULL;
        }
    }
}

/* ---- the rest of a pattern at s ---- */

typedef enum { GO_ON, DONE } next_t;

/*
 * What stands for one character, at *p, with its repetition. GO_ON: matched, and
 * *s and *p are behind it. DONE: the rest was tried too, *found says how it went.
 */
static next_t
match_item(matcher_t *m, const char **s, const char **p, const char **found)
{
    const char *item = *p, *end = item_end(m, item);
    char repetition = '\0';

    take_steps(m, steps_of_item(item, end)); /* for finding its end; it may match nothing */
    if (end < m->pattern_end) {
        repetition = *end;
    }
    *found = NULL;
    switch (repetition) {
    case '?':
        if (matches_at(m, *s, item, end)) {
            *found = match_from(m, *s + 1, end + 1);
            if (*found != NULL) {
                return DONE;
            }
        }
        *p = end + 1;
        return GO_ON;
    case '*':
        *found = match_most(m, *s, item, end, end + 1);
        return DONE;
    case '+':
        *found = matches_at(m, *s, item, end) ? match_most(m, *s + 1, item, end, end + 1) : NULL;
        return DONE;
    case '-':
        *found = match_least(m, *s, item, end, end + 1);
        return DONE;
    default:
        if (!matches_at(m, *s, item, end)) {
            return DONE;
        }
        (*s)++;
        *p = end;
        return GO_ON;
    }
}

/* The items that begin with '%' and stand for no single character; else as match_item. */
static next_t
match_escape(matcher_t *m, const char **s, const char **p, const char **found)
{
    char c = '\0';

    if (*p + 1 < m->pattern_end) {
        c = (*p)[1];
    }
    if (c == 'f') {
        const char *end;

        *found = NULL;
        if (!match_frontier(m, *s, *p + 2, &end)) {
            return DONE;
        }
        *p = end;
        return GO_ON;
    }
    if (c != 'b' && !mayday_is_digit(c)) {
        return match_item(m, s, p, found);
    }
    *found = c == 'b' ? match_balance(m, *s, *p + 2) : match_repeat(m, *s, c);
    if (*found == NULL) {
        return DONE;
    }
    *s = *found;
    *p += c == 'b' ? 4 : 2;
    return GO_ON;
}

/* Where the match of the pattern from p on ends, with the text at s; NULL: it does not match. */
static const char *
match_from(matcher_t *m, const char *s, const char *p)
{
    const char *found = NULL;
    next_t next = GO_ON;

    take_steps(m, 1);
    if (++m->depth > DEPTH_MAX) {
        mayday_rules_raise(m->L, "pattern too complex");
    }
    while (next == GO_ON) {
        if (p == m->pattern_end) {
            found = s;
            break;
        }
        switch (*p) {
        case '(':
            if (p + 1 < m->pattern_end && p[1] == ')') {
                found = open_capture(m, s, p + 2, true);
            } else {
                found = open_capture(m, s, p + 1, false);
            }
            next = DONE;
            break;
        case ')':
            found = close_capture(m, s, p + 1);
            next = DONE;
            break;
        case '%':
            next = match_escape(m, &s, &p, &found);
            break;
        case '$':
            if (p + 1 == m->pattern_end) {
                found = s == m->text_end ? s : NULL;
                next = DONE;
                break;
            }
            /* fall through */
        default:
            next = match_item(m, &s, &p, &found);
        }
    }
    m->depth--;
    return found;
}

/* ---- between Lua and the matcher ---- */

/* A matcher of the text and the pattern at these indices; returns where the pattern begins. */
static const char *
begin(lua_State *L, matcher_t *m, int text_index, int pattern_index)
{
    size_t text_len, pattern_len;
    const char *text = luaL_checklstring(L, text_index, &text_len);
    const char *pattern = luaL_checklstring(L, pattern_index, &pattern_len);

    if (text_len > TEXT_LEN_MAX) {
        mayday_rules_raise(L, "patterns search at most 1 MiB of text");
    }
    assert(text != NULL && pattern != NULL); /* or it would have raised an error */
    m->L = L;
    m->text = text;
    m->text_end = text + text_len;
    m->pattern_end = pattern + strnlen(pattern, pattern_len); /* a zero byte ends it */
    m->steps = 0;
    m->guard_at = STEPS_PER_GUARD;
    return pattern;
}

static const char *
match_at(matcher_t *m, const char *s, const char *p)
{
    m->depth = 0;
    m->count = 0;
    return match_from(m, s, p);
}

/* Pushes capture i of the match from s to end; without captures the whole is the first. */
static void
push_capture(const matcher_t *m, int i, const char *s, const char *end)
{
    const capture_t *capture = &m->captures[i];

    if (i >= m->count) {
        if (i > 0) {
            mayday_rules_raise(m->L, "invalid capture index");
        }
        lua_pushlstring(m->L, s, (size_t) (end - s));
    } else if (capture->state == OPEN) {
        mayday_rules_raise(m->L, "unfinished capture");
    } else if (capture->state == POSITION) {
        lua_pushinteger(m->L, capture->begin - m->text + 1);
    } else {
        lua_pushlstring(m->L, capture->begin, capture->len);
    }
}

/* Pushes all captures; whole: the match itself where there are none. */
static int
push_captures(const matcher_t *m, const char *s, const char *end, bool whole)
{
    int n = m->count == 0 && whole ? 1 : m->count;

    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++) {
        push_capture(m, i, s, end);
    }
    return n;
}

/* Where the search begins, from argument 3; behind the end is the end. */
static const char *
search_start(lua_State *L, const matcher_t *m)
{
    ptrdiff_t len = m->text_end - m->text, at = luaL_optinteger(L, 3, 1);

    if (at < 0) {
        at += len;
    } else {
        at--;
    }
    at = at < 0 ? 0 : at;
    return m->text + (at > len ? len : at);
}

static bool
is_plain(const char *pattern, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] != '\0' && strchr("^$*+?.([%-", pattern[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static int
search(lua_State *L, bool find)
{
    matcher_t m;
    const char *p = begin(L, &m, 1, 2), *s = search_start(L, &m), *end;
    size_t len = lua_objlen(L, 2);
    bool anchored = len > 0 && *p == '^';

    mayday_sandbox_guard(L);
    if (find && (lua_toboolean(L, 4) || is_plain(p, len))) {
        const char *at = memmem(s, (size_t) (m.text_end - s), p, len);

        if (at == NULL) {
            lua_pushnil(L);
            return 1;
        }
        lua_pushinteger(L, at - m.text + 1);
        lua_pushinteger(L, at - m.text + (ptrdiff_t) len);
        return 2;
    }
    p += anchored ? 1 : 0;
    do {
        end = match_at(&m, s, p);
        if (end != NULL && !find) {
            return push_captures(&m, s, end, true);
        }
        if (end != NULL) {
            lua_pushinteger(L, s - m.text + 1);
            lua_pushinteger(L, end - m.text);
            return 2 + push_captures(&m, s, end, false);
        }
    } while (s++ < m.text_end && !anchored);
    lua_pushnil(L);
    return 1;
}

/* string.find(s, pattern [, init [, plain]]) */
int
mayday_rules_find(lua_State *L)
{
    return search(L, true);
}

/* string.match(s, pattern [, init]) */
int
mayday_rules_match(lua_State *L)
{
    return search(L, false);
}

/* Upvalues: text, pattern, where to go on. */
static int
next_match(lua_State *L)
{
    matcher_t m;
    const char *p, *s, *end;

    mayday_sandbox_guard(L);
    p = begin(L, &m, lua_upvalueindex(1), lua_upvalueindex(2));
    for (s = m.text + lua_tointeger(L, lua_upvalueindex(3)); s <= m.text_end; s++) {
        end = match_at(&m, s, p);
        if (end != NULL) {
            lua_pushinteger(L, end - m.text + (end == s ? 1 : 0));
            lua_replace(L, lua_upvalueindex(3));
            return push_captures(&m, s, end, true);
        }
    }
    return 0;
}

/* string.gmatch(s, pattern) */
int
mayday_rules_gmatch(lua_State *L)
{
    matcher_t m;

    (void) begin(L, &m, 1, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_match, 3);
    return 1;
}

/* ---- gsub ---- */

/* The replacement at index 3, a string with %0 to %9 in it, for the match from s to end. */
static void
add_template(const matcher_t *m, luaL_Buffer *b, const char *s, const char *end)
{
    size_t len;
    const char *text = lua_tolstring(m->L, 3, &len);

    for (size_t i = 0; i < len; i++) {
        bool escaped = text[i] == '%';

        i += escaped ? 1 : 0; /* at the end of the text, to the zero byte behind it */
        if (!escaped || !mayday_is_digit(text[i])) {
            luaL_addlstring(b, text + i, 1);
        } else if (text[i] == '0') {
            luaL_addlstring(b, s, (size_t) (end - s));
        } else {
            push_capture(m, text[i] - '1', s, end);
            luaL_addvalue(b);
        }
    }
}

static void
add_replacement(matcher_t *m, luaL_Buffer *b, const char *s, const char *end)
{
    lua_State *L = m->L;

    mayday_sandbox_guard(L); /* it may be a function in C, which no hook sees */
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, end, true), 1);
        break;
    case LUA_TTABLE:
        push_capture(m, 0, s, end);
        lua_gettable(L, 3);
        break;
    default:
        add_template(m, b, s, end);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        lua_pushlstring(L, s, (size_t) (end - s));
    } else if (!lua_isstring(L, -1)) {
        mayday_rules_raise(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
    luaL_addvalue(b);
}

/* string.gsub(s, pattern, replacement [, n]) */
int
mayday_rules_gsub(lua_State *L)
{
    matcher_t m;
    const char *p = begin(L, &m, 1, 2), *s = m.text, *end;
    int type = lua_type(L, 3);
    bool anchored = *p == '^' && p < m.pattern_end;
    lua_Integer count = 0, count_max = luaL_optinteger(L, 4, m.text_end - m.text + 1);
    luaL_Buffer b;

    if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TFUNCTION && type != LUA_TTABLE) {
        return luaL_typerror(L, 3, "string/function/table");
    }
    mayday_sandbox_guard(L);
    lua_settop(L, 3);
    p += anchored ? 1 : 0;
    luaL_buffinit(L, &b);
    while (count < count_max) {
        end = match_at(&m, s, p);
        if (end != NULL) {
            count++;
            add_replacement(&m, &b, s, end);
        }
        if (end != NULL && end > s) {
            s = end;
        } else if (s < m.text_end) {
            luaL_addlstring(&b, s++, 1);
        } else {
            break;
        }
        if (anchored) {
            break;
        }
    }
    luaL_addlstring(&b, s, (size_t) (m.text_end - s));
    luaL_pushresult(&b);
    lua_pushinteger(L, count);
    return 2;
}
