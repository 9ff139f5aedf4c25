/*
 * The instance as the server's processes see it: directories, the segment, the
 * settings, the agent's life.
 *
 *   STATE (mayday_directory, 0700, the agent's user)
 *     store.sqlite ...    the agent's
 *     hash.key            16 random bytes, made once by the master, for hash:
 *     instance.lock       flock, shared by the processes of one server instance;
 *                         its text is the instance's identity
 *     agent.lock          fcntl write lock of the agent that has the store
 *   RUN (/run/mayday/INSTANCE for root; else $XDG_RUNTIME_DIR/mayday/INSTANCE;
 *        where these are not on tmpfs /dev/shm/mayday-UID/INSTANCE; 0711, the
 *        agent's user, the group of mayday_socket)
 *     current             what holds now, replaced by rename: text lines
 *                         "settings HEX", "segment lanes-ID", "identity PATH"
 *     settings-HEX        see settings.h
 *     lanes-ID            see lane_format.h
 *     agent.lock          fcntl write lock: held by the living agent; its text
 *                         is the agent's pid
 *     agent.status        why the agent could not start, absent or empty: it
 *                         could. "127 ERRNO": it could not be executed; "78 TEXT":
 *                         it gave up, and so does the starter; "1 TEXT": it may
 *                         go better the next time
 *     mayday.sock         the API, unless mayday_socket says otherwise
 *
 * INSTANCE is the last part of the state directory's path where that is the
 * default one, else that and eight hex digits of the whole path's hash.
 *
 * The agent's user is the one that the shim gives; with mayday_agent off it is
 * the owner of the state directory, where that exists and is not root's.
 *
 * Three roles. The *master* (nginx master, httpd parent) prepares and closes.
 * The *starter* (nginx's cache manager process, httpd's parent, or the only
 * process) keeps an agent running. *Serving* processes have a lane.
 *
 * Nothing here blocks, except mayday_instance_close up to the shutdown timeout.
 * A failure never stops the server: it is reported once and capture goes on
 * without what failed.
 */
#ifndef MAYDAY_SUPERVISE_H
#define MAYDAY_SUPERVISE_H

#include "core/capture/lane.h"
#include "core/capture/settings.h"

/* The agent's exit codes that the starter understands; others: start it again. */
#define MAYDAY_AGENT_EXIT_REPLACED 0
#define MAYDAY_AGENT_EXIT_CANNOT_START 78 /* EX_CONFIG: no retry until the settings change */

/* Exec'd as: PROGRAM agent --run RUN --life-fd 3 */
#define MAYDAY_AGENT_PATH_SIZE 512
#define MAYDAY_AGENT_GROUPS_MAX 64

/* The files' names, for both sides. */
#define MAYDAY_FILE_STORE "store.sqlite"
#define MAYDAY_FILE_CURRENT "current"
#define MAYDAY_FILE_AGENT_LOCK "agent.lock"
#define MAYDAY_FILE_HASH_KEY "hash.key"
#define MAYDAY_FILE_AGENT_STATUS "agent.status"
#define MAYDAY_FILE_SIZE_MAX 2048 /* of current and agent.status */

/* Where messages go: level as syslog, text (it begins with its id) without line end. */
typedef void (*mayday_say_pt)(void *ctx, int level, const char *text);
void mayday_say(mayday_say_pt to, void *ctx, int level, const char *fmt, ...) MAYDAY_PRINTF(4, 5);

/* One per server instance; made by the master, inherited by its children. */
typedef struct {
    char run_dir[256];
    char state_dir[256];
    char agent_path[MAYDAY_AGENT_PATH_SIZE];
    bool agent_on;
    uint64_t shutdown_timeout_ms;
    uid_t uid; /* the agent's, (uid_t) -1: as the server's */
    gid_t gid;
    gid_t groups[MAYDAY_AGENT_GROUPS_MAX]; /* its user's other groups        */
    int group_count;
    int instance_fd; /* holds instance.lock, -1: none          */
    mayday_segment_map_t segment;
    uint8_t settings[MAYDAY_HASH_BYTES];
    uint8_t hash_key[16]; /* for hash: */
    int life_fd[2];       /* [0] goes to the agent, [1] stays with the master; -1: none */
    /* The starter's own: */
    uint64_t started_us; /* monotonic, when the last start was due     */
    uint32_t failures;   /* in a row: back-off                         */
    bool gave_up;        /* cannot start with these settings           */
    bool said;           /* told of the failures in a row              */
    pid_t child;         /* of the last start, 0: none                 */
} mayday_supervisor_t;

void mayday_supervisor_init(mayday_supervisor_t *s);

/*
 * In the master, at start and at each reload; never under a configuration test.
 * processes: how many serve at most. uid, gid: of the agent. Makes what is
 * missing, writes the settings, publishes them as current, opens or makes the
 * segment, makes the life pipe once (anew where the agent must be replaced: its
 * user, program or directory changed). MAYDAY_BUSY: another living instance with
 * another identity uses the directory. On failure capture must stay off; what
 * was said to `say` tells why and what to do, and s is as it was.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_instance_prepare(mayday_supervisor_t *s,
                                                      const mayday_instance_t *instance,
                                                      uint32_t processes, uid_t uid, gid_t gid,
                                                      mayday_say_pt say, void *ctx);

/*
 * In a child of the master, after fork: lets go of the master's end of the life
 * pipe (serving: of both ends).
 */
void mayday_instance_after_fork(mayday_supervisor_t *s, bool starter);

/*
 * In the starter, every 300 ms (or when its child died): starts the agent if
 * none lives and the master does. Says what went wrong with the last start, once.
 */
void mayday_supervise(mayday_supervisor_t *s, mayday_say_pt say, void *ctx);

/*
 * Forks and execs the agent (closing all descriptors but 1, 2 and the life
 * pipe's, default signals, own session). delay_ms: slept in the child, for
 * back-off. If the caller is root the child becomes uid, gid first. Returns the
 * pid, or -1.
 */
pid_t mayday_agent_spawn(mayday_supervisor_t *s, uint32_t delay_ms);

/* Whether an agent holds its lock. */
bool mayday_agent_is_alive(const mayday_supervisor_t *s);

/*
 * In the master, at its end or when the module goes: closes the life pipe, waits
 * up to the shutdown timeout for the agent to end, closes the segment.
 */
void mayday_instance_close(mayday_supervisor_t *s);

/*
 * The run directory of an instance with this state directory and a master of
 * this user, as text. Also used by the command. MAYDAY_INVALID: not an absolute
 * path, or too long.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_run_dir(mayday_buf_t *path, mayday_slice_t state_dir,
                                             uid_t uid);

#endif
