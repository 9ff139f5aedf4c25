/*
 * The store's file: creating, checking, moving a corrupt one aside, migrating.
 *
 * Runs in the agent when a connection is opened; blocks on the disk. The steps
 * of the schema stand here; every other statement in store_statements.def.
 *
 *   counts     every number that is shown, kept for ever
 *   positions  how far each life of a lane was read
 *   issues     one row an issue, whether its events are still here or not
 *   events     what lists and rules of age need; small rows
 *   payloads   the event's JSON: apart, so that lists do not read it
 *   dsns       where events go, and how many wait there
 *   queue      (DSN, event): not yet delivered. Order of events = order of arrival
 *   discarded  losses that the next client report tells
 *   dropped    events that rules dropped, the last of each reason, scrubbed
 *   rules      what each place of the rules did
 *   sizes      one row of sums, so that no bound needs a scan
 *
 * Triggers keep what follows from a row: payload and queue rows go with their
 * event, and sums and numbers of waiting rows stay right whoever deletes.
 */
#include "core/agent/store_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/agent/log.h"

#define APPLICATION_ID 0x4d415944 /* "MAYD" */
#define BUSY_TIMEOUT_MS 10000     /* somebody else's sqlite3 may hold the file */
#define CACHE_KIB 2048
#define PAGE_SIZE 8192 /* two events of 3 KB a page; measured against 4 and 16 KiB */
#define WAL_PAGES 2048 /* frames between checkpoints: 16 MiB */

/* Step n takes the schema from version n to n + 1. Never change one that was released. */
static const char *const migrations[] = {
    "CREATE TABLE counts (name TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL,"
    "  PRIMARY KEY (name, reason)) WITHOUT ROWID;"
    "CREATE TABLE positions (segment BLOB NOT NULL, slot INTEGER NOT NULL,"
    "  generation INTEGER NOT NULL, position INTEGER NOT NULL, records_read INTEGER NOT NULL,"
    "  folded INTEGER NOT NULL DEFAULT 0, changed_us INTEGER NOT NULL,"
    "  PRIMARY KEY (segment, slot, generation)) WITHOUT ROWID;"
    "CREATE TABLE issues (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,"
    "  title TEXT NOT NULL DEFAULT '', first_seen_us INTEGER NOT NULL,"
    "  last_seen_us INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0,"
    "  suppressed INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX issues_last_seen ON issues (last_seen_us);"
    /* AUTOINCREMENT: a row number is never used again, so readers can go on behind it. */
    "CREATE TABLE events (row INTEGER PRIMARY KEY AUTOINCREMENT, event_id BLOB NOT NULL UNIQUE,"
    "  issue INTEGER NOT NULL, time_us INTEGER NOT NULL, kind TEXT NOT NULL,"
    "  level TEXT NOT NULL, status INTEGER NOT NULL, title TEXT NOT NULL,"
    "  transaction_name TEXT NOT NULL, bytes INTEGER NOT NULL, pending INTEGER NOT NULL);"
    "CREATE INDEX events_issue ON events (issue);"
    "CREATE INDEX events_done ON events (time_us) WHERE pending = 0;"
    "CREATE TABLE payloads (event INTEGER PRIMARY KEY, json TEXT NOT NULL, trace TEXT NOT NULL);"
    "CREATE TABLE dsns (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE,"
    "  queued INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE queue (dsn INTEGER NOT NULL, event INTEGER NOT NULL,"
    "  PRIMARY KEY (dsn, event)) WITHOUT ROWID;"
    "CREATE INDEX queue_event ON queue (event);"
    "CREATE TABLE discarded (dsn INTEGER NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL,"
    "  PRIMARY KEY (dsn, reason)) WITHOUT ROWID;"
    "CREATE TABLE sizes (id INTEGER PRIMARY KEY CHECK (id = 1), pending_bytes INTEGER NOT NULL,"
    "  done_bytes INTEGER NOT NULL, issues INTEGER NOT NULL);"
    "INSERT INTO sizes VALUES (1, 0, 0, 0);"
    "CREATE TRIGGER issue_added AFTER INSERT ON issues BEGIN"
    "  UPDATE sizes SET issues = issues + 1; END;"
    "CREATE TRIGGER issue_gone AFTER DELETE ON issues BEGIN"
    "  UPDATE sizes SET issues = issues - 1; END;"
    "CREATE TRIGGER event_added AFTER INSERT ON events BEGIN"
    "  UPDATE sizes SET"
    "    pending_bytes = pending_bytes + CASE WHEN new.pending > 0 THEN new.bytes ELSE 0 END,"
    "    done_bytes = done_bytes + CASE WHEN new.pending = 0 THEN new.bytes ELSE 0 END;"
    "END;"
    "CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN"
    "  UPDATE sizes SET"
    "    pending_bytes = pending_bytes - CASE WHEN old.pending > 0 THEN old.bytes ELSE 0 END,"
    "    done_bytes = done_bytes - CASE WHEN old.pending = 0 THEN old.bytes ELSE 0 END;"
    "  DELETE FROM payloads WHERE event = old.row;"
    "  DELETE FROM queue WHERE event = old.row;"
    "END;"
    "CREATE TRIGGER event_done AFTER UPDATE OF pending ON events"
    "  WHEN old.pending > 0 AND new.pending = 0 BEGIN"
    "  UPDATE sizes SET pending_bytes = pending_bytes - new.bytes,"
    "    done_bytes = done_bytes + new.bytes;"
    "END;"
    "CREATE TRIGGER queue_added AFTER INSERT ON queue BEGIN"
    "  UPDATE dsns SET queued = queued + 1 WHERE id = new.dsn; END;"
    "CREATE TRIGGER queue_gone AFTER DELETE ON queue BEGIN"
    "  UPDATE dsns SET queued = queued - 1 WHERE id = old.dsn;"
    "  UPDATE events SET pending = pending - 1 WHERE row = old.event; END;",
    /* OR FAIL, as in store_statements.def; an inner trigger does as the outer one says. */
    "DROP TRIGGER event_gone;"
    "DROP TRIGGER queue_gone;"
    "CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN"
    "  UPDATE OR FAIL sizes SET"
    "    pending_bytes = pending_bytes - CASE WHEN old.pending > 0 THEN old.bytes ELSE 0 END,"
    "    done_bytes = done_bytes - CASE WHEN old.pending = 0 THEN old.bytes ELSE 0 END;"
    "  DELETE FROM payloads WHERE event = old.row;"
    "  DELETE FROM queue WHERE event = old.row;"
    "END;"
    "CREATE TRIGGER queue_gone AFTER DELETE ON queue BEGIN"
    "  UPDATE OR FAIL dsns SET queued = queued - 1 WHERE id = old.dsn;"
    "  UPDATE OR FAIL events SET pending = pending - 1 WHERE row = old.event; END;",
    "CREATE TABLE dropped (row INTEGER PRIMARY KEY AUTOINCREMENT, event_id BLOB NOT NULL,"
    "  time_us INTEGER NOT NULL, kind TEXT NOT NULL, level TEXT NOT NULL,"
    "  status INTEGER NOT NULL, title TEXT NOT NULL, transaction_name TEXT NOT NULL,"
    "  reason TEXT NOT NULL, hook TEXT NOT NULL, place TEXT NOT NULL,"
    "  observed INTEGER NOT NULL, bytes INTEGER NOT NULL, json TEXT NOT NULL);"
    "CREATE INDEX dropped_id ON dropped (event_id);"
    "CREATE INDEX dropped_reason ON dropped (reason, row);"
    "CREATE INDEX dropped_time ON dropped (time_us);"
    "ALTER TABLE sizes ADD COLUMN dropped_bytes INTEGER NOT NULL DEFAULT 0;"
    "CREATE TRIGGER dropped_added AFTER INSERT ON dropped BEGIN"
    "  UPDATE OR FAIL sizes SET dropped_bytes = dropped_bytes + new.bytes; END;"
    "CREATE TRIGGER dropped_gone AFTER DELETE ON dropped BEGIN"
    "  UPDATE OR FAIL sizes SET dropped_bytes = dropped_bytes - old.bytes; END;"
    "CREATE TABLE rules (place TEXT NOT NULL, hook TEXT NOT NULL, outcome TEXT NOT NULL,"
    "  reason TEXT NOT NULL, observed INTEGER NOT NULL, n INTEGER NOT NULL,"
    "  last_us INTEGER NOT NULL, PRIMARY KEY (place, hook, outcome, reason, observed))"
    "  WITHOUT ROWID;",
};

#define SCHEMA_VERSION ((int) MAYDAY_COUNT(migrations))

static mayday_rc_t
say(mayday_store_t *store, const char *text)
{
    snprintf(store->error, sizeof(store->error), "%s", text);
    return MAYDAY_ERROR;
}

static mayday_rc_t
execute(mayday_store_t *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? MAYDAY_OK
                                                                       : mayday_store_fail(store);
}

/* The one number that a PRAGMA answers. */
static mayday_rc_t
pragma_get(mayday_store_t *store, const char *sql, int *value)
{
    sqlite3_stmt *statement;
    mayday_rc_t rc = MAYDAY_ERROR;

    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        *value = sqlite3_column_int(statement, 0);
        rc = MAYDAY_OK;
    } else {
        (void) mayday_store_fail(store);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* ---- the file ---- */

/*
 * Makes the file and its mode right before SQLite opens it, for SQLite gives its
 * other files the mode of the first. One that exists is not opened here: closing
 * any descriptor of it would drop the locks of this process's other connections.
 */
static mayday_rc_t
file_prepare(mayday_store_t *store)
{
    struct stat st;
    int fd;

    if (lstat(store->path, &st) == 0) {
        if (!S_ISREG(st.st_mode)) {
            return say(store, "it is not a regular file");
        }
        if ((st.st_mode & 07777) != 0600 && chmod(store->path, 0600) != 0) {
            return say(store, "it is readable by others, and its mode cannot be changed");
        }
        return MAYDAY_OK;
    }
    fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(store->error, sizeof(store->error),
                 "%s; the agent's user must be able to write there", strerror(errno));
        return MAYDAY_ERROR;
    }
    close(fd);
    return MAYDAY_OK;
}

static void
path_with(char *out, size_t size, const mayday_store_t *store, const char *a, const char *b)
{
    snprintf(out, size, "%s%s%s", store->path, a, b);
}

static const char *
name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static bool
starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

void
mayday_store_corrupt_unlink(const mayday_store_t *store, const char *keep)
{
    char dir[MAYDAY_STORE_PATH_SIZE], prefix[MAYDAY_STORE_PATH_SIZE + 16];
    const char *name = name_of(store->path);
    struct dirent *entry;
    DIR *d;

    snprintf(dir, sizeof(dir), "%.*s", (int) (name - store->path), store->path);
    snprintf(prefix, sizeof(prefix), "%s%s", name, MAYDAY_STORE_CORRUPT_INFIX);
    d = opendir(dir[0] == '\0' ? "." : dir);
    if (d == NULL) {
        return;
    }
    while ((entry = readdir(d)) != NULL) {
        if (starts(entry->d_name, prefix) &&
            (keep == NULL || !starts(entry->d_name, name_of(keep)))) {
            (void) unlinkat(dirfd(d), entry->d_name, 0);
        }
    }
    closedir(d);
}

/* The log goes with its file, for what it holds may be all that can be saved. */
static mayday_rc_t
move_aside(mayday_store_t *store, const char *why)
{
    char to[MAYDAY_STORE_PATH_SIZE + 64], from[MAYDAY_STORE_PATH_SIZE + 64], now[32];

    snprintf(now, sizeof(now), "%llu", (unsigned long long) (mayday_clock_us() / 1000000));
    path_with(to, sizeof(to), store, MAYDAY_STORE_CORRUPT_INFIX, now);
    if (rename(store->path, to) != 0) {
        snprintf(store->error, sizeof(store->error),
                 "it is corrupt (%.120s) and cannot be moved aside: %s", why, strerror(errno));
        return MAYDAY_ERROR;
    }
    /* Only the last is kept: they hold events, and nothing else bounds them. */
    mayday_store_corrupt_unlink(store, to);
    mayday_log(MAYDAY_LOG_ERROR, "MD0200",
               "the store was corrupt (%s) and was moved to %s; a new one is begun, and events "
               "that were not delivered are in the old one only",
               why, to);
    path_with(from, sizeof(from), store, "-wal", "");
    strncat(to, "-wal", sizeof(to) - strlen(to) - 1);
    (void) rename(from, to);
    path_with(from, sizeof(from), store, "-shm", "");
    (void) unlink(from);
    return MAYDAY_OK;
}

/* ---- opening ---- */

static mayday_rc_t
connect_file(mayday_store_t *store, int mode)
{
    if (sqlite3_open_v2(store->path, &store->db, mode | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK) {
        return mayday_store_fail(store);
    }
    sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
    /* The file may have been written by others: it must not be able to run anything. */
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return MAYDAY_OK;
}

static void
disconnect(mayday_store_t *store)
{
    sqlite3_close(store->db);
    store->db = NULL;
}

static mayday_rc_t
configure(mayday_store_t *store)
{
    char sql[512];

    /* The first two take effect in an empty file only, and must come before WAL. */
    snprintf(sql, sizeof(sql),
             "PRAGMA page_size = %d; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
             "PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;"
             "PRAGMA cell_size_check = ON; PRAGMA cache_size = -%d;"
             "PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = %d;",
             PAGE_SIZE, CACHE_KIB, WAL_PAGES, WAL_PAGES * PAGE_SIZE);
    return execute(store, sql);
}

static mayday_rc_t
check_file(mayday_store_t *store)
{
    sqlite3_stmt *statement;
    mayday_rc_t rc = MAYDAY_ERROR;

    if (sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        if (strcmp(mayday_column_text(statement, 0), "ok") == 0) {
            rc = MAYDAY_OK;
        } else {
            store->corrupt = true;
            (void) say(store, mayday_column_text(statement, 0));
        }
    } else {
        (void) mayday_store_fail(store);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* The version of the schema; 0: the file is empty. */
static mayday_rc_t
version_get(mayday_store_t *store, int *version)
{
    int application, tables;

    if (pragma_get(store, "PRAGMA user_version", version) != MAYDAY_OK ||
        pragma_get(store, "PRAGMA application_id", &application) != MAYDAY_OK ||
        pragma_get(store, "SELECT count(*) FROM sqlite_master", &tables) != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    if (application != APPLICATION_ID && (tables != 0 || *version != 0)) {
        return say(store, "it is a database of another program; remove it or set another "
                          "mayday_directory");
    }
    if (*version > SCHEMA_VERSION) {
        snprintf(store->error, sizeof(store->error),
                 "its schema has version %d and this Mayday (%s) knows %d; install the newer "
                 "Mayday again or move the file away",
                 *version, MAYDAY_VERSION, SCHEMA_VERSION);
        return MAYDAY_ERROR;
    }
    return MAYDAY_OK;
}

static mayday_rc_t
migrate_locked(mayday_store_t *store)
{
    char sql[96];
    int version;

    if (version_get(store, &version) != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    for (int step = version; step < SCHEMA_VERSION; step++) {
        if (execute(store, migrations[step]) != MAYDAY_OK) {
            return MAYDAY_ERROR;
        }
    }
    if (version == SCHEMA_VERSION) {
        return MAYDAY_OK;
    }
    snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d;",
             APPLICATION_ID, SCHEMA_VERSION);
    return execute(store, sql);
}

/* All steps or none. */
static mayday_rc_t
migrate(mayday_store_t *store)
{
    if (execute(store, "BEGIN IMMEDIATE") != MAYDAY_OK) {
        return MAYDAY_ERROR;
    }
    if (migrate_locked(store) == MAYDAY_OK) {
        return execute(store, "COMMIT");
    }
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL); /* the error stays that of the step */
    return MAYDAY_ERROR;
}

static mayday_rc_t
open_once(mayday_store_t *store, bool check)
{
    store->corrupt = false;
    if (file_prepare(store) == MAYDAY_OK &&
        connect_file(store, SQLITE_OPEN_READWRITE) == MAYDAY_OK && configure(store) == MAYDAY_OK &&
        migrate(store) == MAYDAY_OK && (!check || check_file(store) == MAYDAY_OK)) {
        return MAYDAY_OK;
    }
    disconnect(store);
    return MAYDAY_ERROR;
}

mayday_rc_t
mayday_store_open(mayday_store_t *store, bool check)
{
    char why[sizeof(store->error)];

    if (open_once(store, check) == MAYDAY_OK) {
        return MAYDAY_OK;
    }
    if (!store->corrupt || !check) {
        return MAYDAY_ERROR;
    }
    memcpy(why, store->error, sizeof(why));
    return move_aside(store, why) == MAYDAY_OK ? open_once(store, true) : MAYDAY_ERROR;
}

mayday_rc_t
mayday_store_open_reader(mayday_store_t *store)
{
    int version;

    if (connect_file(store, SQLITE_OPEN_READONLY) == MAYDAY_OK &&
        version_get(store, &version) == MAYDAY_OK) {
        if (version > 0) {
            return MAYDAY_OK;
        }
        (void) say(store, "it is empty");
    }
    disconnect(store);
    return MAYDAY_ERROR;
}
