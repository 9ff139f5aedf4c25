/*
 * Where events come from that rules are tried on; see source.h.
 */
#include "core/cli/source.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/agent/status.h"
#include "core/agent/store.h"
#include "core/capture/supervise.h"
#include "core/cli/client.h"
#include "core/cli/find.h"
#include "core/event/json.h"

#define FILE_SIZE_MAX ((size_t) 64 * 1024 * 1024)
#define STATE_DIRECTORIES MAYDAY_SOURCE_STORES "/*/" MAYDAY_FILE_STORE /* the default ones */
#define TIMEOUT_S 30u
#define NAME_SIZE (PATH_MAX + 32)

static int
say_wrong(const char *name, const char *what)
{
    char prefix[NAME_SIZE + 2];

    snprintf(prefix, sizeof(prefix), "%s: ", name);
    mayday_cli_error_text(prefix, what);
    return MAYDAY_EXIT_USAGE;
}

/* ---- files ---- */

/* The whole file, ended with NUL; NULL: said why. Free it. */
static char *
read_file(const char *path, size_t *len)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *text = NULL, *more;
    size_t size = 0, n = 0;
    bool failed = file == NULL;

    *len = 0;
    while (!failed && *len <= FILE_SIZE_MAX) {
        if (*len + 1 >= size) {
            size = size == 0 ? 65536 : 2 * size;
            more = realloc(text, size);
            failed = more == NULL;
            text = failed ? text : more;
            continue;
        }
        n = fread(text + *len, 1, size - *len - 1, file);
        *len += n;
        if (n == 0) {
            failed = ferror(file) != 0;
            break;
        }
    }
    if (!failed && *len > FILE_SIZE_MAX) {
        errno = EFBIG;
        failed = true;
    }
    if (failed) {
        (void) say_wrong(path, strerror(errno));
        free(text);
        text = NULL;
    } else {
        text[*len] = '\0';
    }
    if (file != NULL && file != stdin) {
        fclose(file);
    }
    return text;
}

/* The length of the JSON object that text begins with, by its braces; 0: it does not end. */
static size_t
object_len(const char *text, size_t len)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string) {
            i += c == '\\' ? 1 : 0;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

int
mayday_source_file(const char *path, mayday_source_visit_pt visit, void *ctx)
{
    char name[NAME_SIZE];
    const char *shown = strcmp(path, "-") == 0 ? "standard input" : path;
    unsigned long line = 1, events = 0;
    int exit_code = MAYDAY_EXIT_OK;
    size_t len, used = 0;
    char *text = read_file(path, &len);

    if (text == NULL) {
        return MAYDAY_EXIT_USAGE;
    }
    for (size_t i = 0; i < len && exit_code == MAYDAY_EXIT_OK; i += used) {
        used = 1;
        if (text[i] == '\n') {
            line++;
        }
        if (strchr(" \t\r\n", text[i]) != NULL && text[i] != '\0') {
            continue;
        }
        snprintf(name, sizeof(name), "%.*s:%lu", PATH_MAX, shown, line);
        used = text[i] == '{' ? object_len(text + i, len - i) : 0;
        if (used == 0) {
            exit_code = say_wrong(name, text[i] == '{' ? "the object that begins here does not end"
                                                       : "expected an event, a JSON object");
            break;
        }
        events++;
        exit_code = visit(ctx, mayday_slice(text + i, used), name);
        for (size_t at = i; at < i + used; at++) {
            line += text[at] == '\n' ? 1 : 0;
        }
    }
    free(text);
    if (exit_code == MAYDAY_EXIT_OK && events == 0) {
        exit_code = say_wrong(shown, "there is no event in it");
    }
    return exit_code;
}

/* ---- the agent ---- */

static int
visit_stored(const char *id, mayday_slice_t json, mayday_source_visit_pt visit, void *ctx)
{
    char name[32];

    snprintf(name, sizeof(name), "event %.8s", id);
    return visit(ctx, json, name);
}

static int
ask_event(mayday_cli_t *cli, const char *id, mayday_source_visit_pt visit, void *ctx)
{
    char path[96];
    int exit_code;
    char *text;

    snprintf(path, sizeof(path), MAYDAY_API_EVENTS "/%.32s", id);
    text = mayday_client_text(cli, path, &exit_code);
    if (text != NULL) {
        exit_code = visit_stored(id, mayday_slice_str(text), visit, ctx);
        free(text);
    }
    return exit_code;
}

static int
ask_agent(mayday_cli_t *cli, unsigned last, mayday_source_visit_pt visit, void *ctx)
{
    char storage[512];
    mayday_buf_t path;
    const cJSON *row;
    cJSON *answer;
    int exit_code;

    mayday_buf_init(&path, storage, sizeof(storage));
    mayday_buf_addf(&path, "%s?limit=%u", cli->dropped ? MAYDAY_API_DROPPED : MAYDAY_API_EVENTS,
                    last);
    if (cli->reason != NULL) {
        mayday_client_parameter(&path, "reason", cli->reason);
    }
    answer = mayday_client_json(cli, path.data, NULL, TIMEOUT_S, &exit_code);
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(answer, "events"))
    {
        exit_code = ask_event(cli, mayday_json_string(row, "event_id"), visit, ctx);
        if (exit_code != MAYDAY_EXIT_OK) {
            break;
        }
    }
    cJSON_Delete(answer);
    return exit_code;
}

/* ---- the store's file ---- */

typedef struct {
    char ids[MAYDAY_SOURCE_LAST_MAX][33];
    unsigned count;
} ids_t;

static void
keep_id(ids_t *ids, const char *id)
{
    if (ids->count < MAYDAY_SOURCE_LAST_MAX) {
        snprintf(ids->ids[ids->count++], sizeof(ids->ids[0]), "%s", id);
    }
}

static void
keep_event(void *ctx, const mayday_store_row_t *row)
{
    keep_id(ctx, row->event_id);
}

static void
keep_dropped(void *ctx, const mayday_store_dropped_t *dropped)
{
    keep_id(ctx, dropped->event_id.data);
}

static mayday_rc_t
list_ids(const mayday_cli_t *cli, mayday_store_t *store, unsigned last, ids_t *ids)
{
    const mayday_store_dropped_query_t dropped = {.limit = last, .reason = cli->reason};
    const mayday_store_query_t events = {.limit = last};

    return cli->dropped ? mayday_store_dropped(store, &dropped, keep_dropped, ids)
                        : mayday_store_events(store, &events, keep_event, ids);
}

static int
read_store(const mayday_cli_t *cli, const char *path, unsigned last, mayday_source_visit_pt visit,
           void *ctx)
{
    char error[600];
    mayday_store_t *store = mayday_store_new_reader(path, error, sizeof(error));
    ids_t *ids = calloc(1, sizeof(*ids));
    int exit_code = MAYDAY_EXIT_OK;

    if (store == NULL || ids == NULL) {
        mayday_cli_error_text("", store == NULL ? error : "no memory");
        exit_code = MAYDAY_EXIT_NO_AGENT;
    } else if (list_ids(cli, store, last, ids) != MAYDAY_OK) {
        mayday_cli_error_text("", mayday_store_error(store));
        exit_code = MAYDAY_EXIT_FAILED;
    }
    for (unsigned i = 0; ids != NULL && i < ids->count && exit_code == MAYDAY_EXIT_OK; i++) {
        char *json;
        size_t len;

        /* One that has gone meanwhile is not missed. */
        if (mayday_store_event_json(store, mayday_slice_str(ids->ids[i]), &json, &len) ==
            MAYDAY_OK) {
            exit_code = visit_stored(ids->ids[i], mayday_slice(json, len), visit, ctx);
            free(json);
        }
    }
    free(ids);
    mayday_store_free(store);
    return exit_code;
}

/* The one store there is; MAYDAY_NOT_FOUND, MAYDAY_BUSY: there are several. */
static mayday_rc_t
find_store(const mayday_cli_t *cli, char *path, size_t size)
{
    mayday_rc_t rc = MAYDAY_NOT_FOUND;
    glob_t found;

    if (cli->directory != NULL) {
        snprintf(path, size, "%s/" MAYDAY_FILE_STORE, cli->directory);
        return access(path, F_OK) == 0 ? MAYDAY_OK : MAYDAY_NOT_FOUND;
    }
    if (glob(STATE_DIRECTORIES, 0, NULL, &found) == 0) {
        rc = found.gl_pathc == 1 ? MAYDAY_OK : MAYDAY_BUSY;
        snprintf(path, size, "%s", found.gl_pathv[0]);
        globfree(&found);
    }
    return rc;
}

int
mayday_source_stored(mayday_cli_t *cli, unsigned last, mayday_source_visit_pt visit, void *ctx)
{
    char path[PATH_MAX];
    mayday_rc_t rc = mayday_find_quietly(cli);

    if (rc == MAYDAY_OK) {
        return ask_agent(cli, last, visit, ctx);
    }
    if (rc == MAYDAY_NOT_FOUND) {
        rc = find_store(cli, path, sizeof(path));
        if (rc == MAYDAY_OK) {
            return read_store(cli, path, last, visit, ctx);
        }
        if (rc == MAYDAY_BUSY) {
            mayday_cli_error("there are several stores in " STATE_DIRECTORIES
                             "; choose one with --directory");
            return MAYDAY_EXIT_USAGE;
        }
        if (cli->directory == NULL && cli->socket == NULL) {
            return MAYDAY_SOURCE_NONE;
        }
    }
    return mayday_find_agent(cli);
}
