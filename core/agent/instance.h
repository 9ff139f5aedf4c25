/*
 * The run directory as the agent reads it (layout: core/capture/supervise.h):
 * what holds now, settings by hash, the agent's own lock and status. Its files
 * are hostile input as far as their content goes.
 */
#ifndef MAYDAY_AGENT_INSTANCE_H
#define MAYDAY_AGENT_INSTANCE_H

#include <sys/stat.h>

#include "core/base/buf.h"
#include "core/event/settings_read.h"

/* RUN/current, and which file that was. */
typedef struct {
    uint8_t settings[MAYDAY_HASH_BYTES];
    char segment[64];
    dev_t device;
    ino_t inode;
    struct timespec changed;
} mayday_current_t;

/* Whether the file is another one than that which *current was read from. */
bool mayday_current_has_changed(const char *run_dir, const mayday_current_t *current);

/* MAYDAY_NOT_FOUND: there is none yet. MAYDAY_INVALID, MAYDAY_ERROR: error says why. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_current_read(const char *run_dir, mayday_current_t *current,
                                                  mayday_buf_t *error);

/* The settings of that hash; free with mayday_settings_free. NULL: error says why. */
mayday_settings_t *mayday_instance_settings(const char *run_dir,
                                            const uint8_t hash[MAYDAY_HASH_BYTES],
                                            mayday_buf_t *error);

/*
 * The key of `hash:` in the state directory (core/capture/supervise.h).
 * MAYDAY_INVALID, MAYDAY_ERROR: there is none that can be read.
 */
#define MAYDAY_HASH_KEY_BYTES 16
MAYDAY_MUST_CHECK mayday_rc_t mayday_instance_hash_key(const char *state_dir,
                                                       uint8_t key[MAYDAY_HASH_KEY_BYTES]);

/* Removes settings files but the newest 64 and `keep`. */
void mayday_instance_settings_trim(const char *run_dir, const uint8_t keep[MAYDAY_HASH_BYTES]);

/*
 * Takes agent.lock in the run or the state directory until the process ends.
 * MAYDAY_BUSY: another agent has it. MAYDAY_ERROR: errno says why. Nothing else
 * may open that file.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_instance_lock(const char *directory);

/* Tells the starter why this agent ends: "CODE TEXT"; code 0: nothing is wrong. */
void mayday_instance_status(const char *run_dir, int code, const char *text);

#endif
