/*
 * One segment file as the agent sees it: opening, checking, locks, liveness and
 * removal (layout: core/capture/lane_format.h). What is in the lanes is read by
 * lane_reader.c.
 *
 * Runs in the agent, on the pipeline's thread except where noted.
 *
 * Whoever may write the file may also shorten it, and touching a page of a
 * mapping behind the end of its file is a SIGBUS. So only the header and the
 * slots are mapped, as atomics and futex need it, and rings are read with pread
 * into private memory, which fails in order and cannot change under the eyes of
 * who checks it. For the mapped pages there is a SIGBUS handler: it puts zeroes
 * in the place of the lost page, marks the segment broken and lets the access
 * happen again. Faults elsewhere end the process as they always did.
 */
#ifndef MAYDAY_LANE_SEGMENT_H
#define MAYDAY_LANE_SEGMENT_H

#include "core/capture/lane_format.h"

#define MAYDAY_SEGMENTS_MAX 16 /* mapped at a time by this process */
#define MAYDAY_SEGMENT_NAME_SIZE 64

/* An open segment; only the first read of what is hostile is kept here. */
typedef struct {
    int fd; /* -1: none */
    char name[MAYDAY_SEGMENT_NAME_SIZE];
    mayday_segment_t *shared; /* header and slots, `mapped` bytes */
    size_t mapped;
    uint64_t size; /* of the file */
    uint64_t data_offset;
    uint32_t slot_count;
    uint32_t lane_size;
    uint8_t id[16];
    uint32_t guard; /* index in the table of the SIGBUS handler */
} mayday_segment_file_t;

/*
 * Opens and maps name in run_dir. MAYDAY_INVALID: not a whole segment of this
 * version. MAYDAY_BUSY: MAYDAY_SEGMENTS_MAX are open. Failure leaves file closed.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_segment_file_open(mayday_segment_file_t *file,
                                                       const char *run_dir, const char *name);
void mayday_segment_file_close(mayday_segment_file_t *file);

/* Whether the file is no longer what it was when it was opened. */
bool mayday_segment_file_is_broken(const mayday_segment_file_t *file);

/* Takes the lock of a slot whose owner is dead; false: somebody alive has it. */
bool mayday_segment_file_lock(const mayday_segment_file_t *file, uint32_t slot);
void mayday_segment_file_unlock(const mayday_segment_file_t *file, uint32_t slot);

/* Whether somebody else holds the lock of this slot, of any slot. */
bool mayday_segment_file_is_owned(const mayday_segment_file_t *file, uint32_t slot);
bool mayday_segment_file_any_owned(const mayday_segment_file_t *file);

/*
 * Reads len bytes of a slot's ring from a position on, in one piece though they
 * may run over its end. MAYDAY_ERROR: the file is shorter than it should be.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_segment_file_read(const mayday_segment_file_t *file,
                                                       uint32_t slot, uint64_t position, void *out,
                                                       size_t len);

/* Gives the memory of a slot's ring back to the system and notes the time. */
void mayday_segment_file_punch(const mayday_segment_file_t *file, uint32_t slot);

/*
 * Whether a segment was left behind: no process holds a lock in it and it has
 * not changed for an hour. (A younger one may be about to become the current
 * one, or may get an owner again.) The second form is for a file that is not
 * open here, of whatever version: closing an open one would drop its locks.
 */
bool mayday_segment_file_is_abandoned(const mayday_segment_file_t *file);
bool mayday_segment_name_is_abandoned(const char *run_dir, const char *name);

/* Removes the name of a segment. */
void mayday_segment_name_remove(const char *run_dir, const char *name);

#endif
