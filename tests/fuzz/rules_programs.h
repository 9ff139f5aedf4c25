/*
 * Random rules and random events: Lua that mostly compiles, calls everything a
 * rule can reach with everything it can make, and now and then runs away; and JSON
 * that is sometimes an event's and sometimes anything. The same seed makes the same.
 */
#ifndef MAYDAY_FUZZ_RULES_PROGRAMS_H
#define MAYDAY_FUZZ_RULES_PROGRAMS_H

#include <stdint.h>
#include <stdio.h>

#include "core/event/event.h"

#define FUZZ_DEPTH_MAX 5

typedef struct {
    FILE *out;
    uint64_t state;
    int depth;
} fuzz_t;

static inline unsigned
fuzz_pick(fuzz_t *z, unsigned n)
{
    z->state = z->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned) (z->state >> 33) % n;
}

static inline void
fuzz_one_of(fuzz_t *z, const char *const *words, size_t count)
{
    fputs(words[fuzz_pick(z, (unsigned) count)], z->out);
}

/* ---- Lua ---- */

static const char *const fuzz_names[] = {"a", "b", "c", "d", "kept", "event", "hint", "mayday"};
static const char *const fuzz_fields[] = {
    "tags",        "request",     "headers",  "contexts", "exception", "values",  "level",
    "extra",       "user",        "url",      "method",   "cookies",   "mayday",  "message",
    "fingerprint", "attempts",    "x",        "kind",     "dist",      "modules", "_meta",
    "sdk",         "breadcrumbs", "event_id", "nothing",  "re",        "array",   "query_string"};
static const char *const fuzz_strings[] = {"''",       "'x'",       "'User-Agent'",    "'host'",
                                           "'%a+'",    "'.-'",      "'(.*)(.*)x'",     "'[^a-z]*'",
                                           "'\\0'",    "'\\255'",   "'a\\nb'",         "'(a+)+$'",
                                           "'$1'",     "'%1'",      "('ab'):rep(50)",  "'#'",
                                           "'error'",  "'imsux'",   "'{{ default }}'", "'%b()'",
                                           "'%f[%w]'", "'__index'", "'count'",         "'*t'"};
static const char *const fuzz_numbers[] = {"0",    "1",   "-1",  "2",     "3",    "7",
                                           "100",  "0/0", "1/0", "1e308", "2^31", "-2^31",
                                           "2^53", "0.5", "255", "1e6",   "-0",   "#kept"};
static const char *const fuzz_functions[] = {"assert",
                                             "error",
                                             "getmetatable",
                                             "ipairs",
                                             "rawequal",
                                             "select",
                                             "setmetatable",
                                             "tonumber",
                                             "type",
                                             "unpack",
                                             "collectgarbage",
                                             "next",
                                             "pcall",
                                             "tostring",
                                             "xpcall",
                                             "pairs",
                                             "require",
                                             "bit.band",
                                             "bit.lshift",
                                             "bit.tohex",
                                             "coroutine.create",
                                             "coroutine.resume",
                                             "coroutine.wrap",
                                             "coroutine.yield",
                                             "coroutine.status",
                                             "coroutine.running",
                                             "math.floor",
                                             "math.max",
                                             "math.random",
                                             "math.fmod",
                                             "os.date",
                                             "os.time",
                                             "os.clock",
                                             "string.byte",
                                             "string.char",
                                             "string.find",
                                             "string.format",
                                             "string.gmatch",
                                             "string.gsub",
                                             "string.len",
                                             "string.lower",
                                             "string.match",
                                             "string.rep",
                                             "string.reverse",
                                             "string.sub",
                                             "string.upper",
                                             "table.concat",
                                             "table.insert",
                                             "table.maxn",
                                             "table.remove",
                                             "table.sort",
                                             "mayday.array",
                                             "mayday.hmac",
                                             "mayday.re.match",
                                             "mayday.re.find",
                                             "mayday.re.gsub",
                                             "bots.classify",
                                             "bots.is_bot",
                                             "bots.is_probe",
                                             "pii.scrub",
                                             "pii.text",
                                             "routes.normalise",
                                             "mayday.before_send",
                                             "mayday.add_event_processor"};
static const char *const fuzz_metamethods[] = {
    "__index", "__newindex", "__call", "__concat",   "__eq", "__lt",   "__le",
    "__len",   "__add",      "__unm",  "__tostring", "__gc", "__mode", "__metatable"};
static const char *const fuzz_operators[] = {"+",  "-",  "*", "/", "%",  "^",   "..",
                                             "==", "~=", "<", ">", "<=", "and", "or"};

#define FUZZ_ONE_OF(z, words) fuzz_one_of((z), (words), MAYDAY_COUNT(words))

static inline void fuzz_expression(fuzz_t *z);
static inline void fuzz_block(fuzz_t *z, unsigned statements);

static inline void
fuzz_arguments(fuzz_t *z)
{
    fputc('(', z->out);
    for (unsigned i = 0, n = fuzz_pick(z, 4); i < n; i++) {
        fputs(i > 0 ? ", " : "", z->out);
        fuzz_expression(z);
    }
    fputc(')', z->out);
}

/* Something that can be indexed, mostly of the event. */
static inline void
fuzz_place(fuzz_t *z)
{
    FUZZ_ONE_OF(z, fuzz_names);
    for (unsigned n = 1 + fuzz_pick(z, 3); n > 0; n--) {
        if (fuzz_pick(z, 4) > 0) {
            fputc('.', z->out);
            FUZZ_ONE_OF(z, fuzz_fields);
        } else {
            fputs("[", z->out);
            fuzz_expression(z);
            fputs(" or 1]", z->out);
        }
    }
}

static inline void
fuzz_table(fuzz_t *z)
{
    fputc('{', z->out);
    for (unsigned n = fuzz_pick(z, 4); n > 0; n--) {
        switch (fuzz_pick(z, 3)) {
        case 0:
            FUZZ_ONE_OF(z, fuzz_fields);
            fputs(" = ", z->out);
            break;
        case 1:
            FUZZ_ONE_OF(z, fuzz_metamethods);
            fputs(" = ", z->out);
            break;
        default:
            break;
        }
        fuzz_expression(z);
        fputs(", ", z->out);
    }
    fputc('}', z->out);
}

static inline void
fuzz_function(fuzz_t *z)
{
    fputs("function(a, b, ...) ", z->out);
    fuzz_block(z, 1 + fuzz_pick(z, 2));
    fputs(" return ", z->out);
    fuzz_expression(z);
    fputs(" end", z->out);
}

static inline void
fuzz_expression(fuzz_t *z)
{
    static const char *const constants[] = {"nil", "true", "false"};
    unsigned kind = fuzz_pick(z, z->depth >= FUZZ_DEPTH_MAX ? 5 : 12);

    z->depth++;
    switch (kind) {
    case 0:
        FUZZ_ONE_OF(z, constants);
        break;
    case 1:
        FUZZ_ONE_OF(z, fuzz_numbers);
        break;
    case 2:
        FUZZ_ONE_OF(z, fuzz_strings);
        break;
    case 3:
    case 4:
        FUZZ_ONE_OF(z, fuzz_names);
        break;
    case 5:
    case 6:
        fuzz_place(z);
        break;
    case 7:
        fuzz_table(z);
        break;
    case 8:
        fputc('(', z->out);
        fuzz_expression(z);
        fputc(' ', z->out);
        FUZZ_ONE_OF(z, fuzz_operators);
        fputc(' ', z->out);
        fuzz_expression(z);
        fputc(')', z->out);
        break;
    case 9:
        fuzz_function(z);
        break;
    default:
        FUZZ_ONE_OF(z, fuzz_functions);
        fuzz_arguments(z);
    }
    z->depth--;
}

static inline void
fuzz_statement(fuzz_t *z)
{
    static const char *const locals[] = {"a", "b", "c", "d"};

    z->depth++;
    switch (fuzz_pick(z, z->depth >= FUZZ_DEPTH_MAX ? 4 : 12)) {
    case 0:
        FUZZ_ONE_OF(z, locals);
        fputs(" = ", z->out);
        fuzz_expression(z);
        break;
    case 1:
    case 2:
        fuzz_place(z);
        fputs(" = ", z->out);
        fuzz_expression(z);
        break;
    case 3:
        FUZZ_ONE_OF(z, fuzz_functions);
        fuzz_arguments(z);
        break;
    case 4:
        fputs("if ", z->out);
        fuzz_expression(z);
        fputs(" then ", z->out);
        fuzz_block(z, 2);
        fputs(" end", z->out);
        break;
    case 5:
        fputs("for i = 1, ", z->out);
        fuzz_expression(z);
        fputs(" do ", z->out);
        fuzz_block(z, 2);
        fputs(" end", z->out);
        break;
    case 6:
        fputs("for k, v in pairs(", z->out);
        fuzz_place(z);
        fputs(") do ", z->out);
        fuzz_block(z, 2);
        fputs(" end", z->out);
        break;
    case 7:
        fputs(fuzz_pick(z, 8) == 0 ? "while true do " : "for i = 1, 20 do ", z->out);
        fuzz_block(z, 2);
        fputs(" end", z->out);
        break;
    case 8:
        fputs("kept[#kept + 1] = ", z->out);
        fuzz_expression(z);
        break;
    default:
        fputs("pcall(function() ", z->out);
        fuzz_block(z, 3);
        fputs(" end)", z->out);
    }
    fputs(";\n", z->out);
    z->depth--;
}

static inline void
fuzz_block(fuzz_t *z, unsigned statements)
{
    while (statements-- > 0) {
        fuzz_statement(z);
    }
}

/*
 * A rules file. Whatever it does to itself, an event of level "debug" it is to
 * pass on with the one tag ok=yes.
 */
static inline void
fuzz_rules(fuzz_t *z)
{
    fputs("local mayday = require 'mayday'\n"
          "local bots, pii = require 'mayday.bots', require 'mayday.pii'\n"
          "local routes = require 'mayday.routes'\n"
          "local kept, a, b, c, d = {}, {}, 'x', 1, nil\n"
          "mayday.before_send(function(event, hint)\n"
          "if event.level == 'debug' then event.tags = {ok = 'yes'} return event end\n",
          z->out);
    for (unsigned n = 2 + fuzz_pick(z, 12); n > 0; n--) {
        bool bare = fuzz_pick(z, 8) == 0;

        fputs(bare ? "" : "pcall(function() ", z->out);
        fuzz_statement(z);
        fputs(bare ? "" : "end)\n", z->out);
    }
    if (fuzz_pick(z, 8) == 0) {
        fputs("if type(b) == 'string' then return nil, 'fuzz' end\n", z->out);
    }
    if (fuzz_pick(z, 6) > 0) {
        fputs("return event end)\n", z->out);
    } else {
        fputs("return ", z->out);
        fuzz_expression(z);
        fputs(", ", z->out);
        fuzz_expression(z);
        fputs(" end)\n", z->out);
    }
}

/* ---- JSON ---- */

static inline void
fuzz_json(fuzz_t *z)
{
    static const char *const scalars[] = {"null",          "true",          "0",
                                          "-1.5",          "1e300",         "\"\"",
                                          "\"text\"",      "\"a\\u0000b\"", "\"\\ud83d\\ude00\"",
                                          "\"[Filtered]\""};
    unsigned kind = z->depth >= FUZZ_DEPTH_MAX ? 0 : fuzz_pick(z, 4);

    z->depth++;
    if (kind < 2) {
        FUZZ_ONE_OF(z, scalars);
    } else {
        fputc(kind == 2 ? '{' : '[', z->out);
        for (unsigned i = 0, n = fuzz_pick(z, 5); i < n; i++) {
            fputs(i > 0 ? "," : "", z->out);
            if (kind == 2) {
                fputc('"', z->out);
                FUZZ_ONE_OF(z, fuzz_fields);
                fputs("\":", z->out);
            }
            fuzz_json(z);
        }
        fputc(kind == 2 ? '}' : ']', z->out);
    }
    z->depth--;
}

/* An event: its parts are what they should be, or anything. */
static inline void
fuzz_event(fuzz_t *z)
{
    static const char *const usual[] = {
        "\"request\":{\"method\":\"GET\",\"url\":\"http://shop/"
        "a\",\"headers\":[[\"Host\",\"shop\"],"
        "[\"host\",\"b\"],[\"X\",\"\"]],\"query_string\":[[\"q\",\"1\"],[\"q\",\"2\"]]}",
        "\"exception\":{\"values\":[{\"type\":\"T\",\"value\":\"v\"}]}",
        "\"tags\":{\"kind\":\"upstream_refused\"}",
        "\"contexts\":{\"mayday\":{\"attempts\":[{\"peer\":\"a\"}]},\"n\":null}",
        "\"level\":\"error\"",
        "\"fingerprint\":[\"a\"]",
        "\"breadcrumbs\":{\"values\":[]}"};

    fputs("{\"event_id\":\"fc6d8c0c43fc4630ad850ee518f1b9d0\"", z->out);
    for (unsigned i = 0; i < MAYDAY_COUNT(usual); i++) {
        if (fuzz_pick(z, 5) > 0) {
            fprintf(z->out, ",%s", usual[i]);
        }
    }
    for (unsigned part = MAYDAY_PART_TIMESTAMP; part < MAYDAY_PART_META; part++) {
        if (fuzz_pick(z, 6) == 0) {
            fprintf(z->out, ",\"%s\":", mayday_event_part_key((mayday_part_t) part));
            fuzz_json(z);
        }
    }
    fputc('}', z->out);
}

#endif
