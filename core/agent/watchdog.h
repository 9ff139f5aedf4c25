/*
 * The last resort against rules that hang the agent in a C function, where the
 * sandbox cannot interrupt them: a thread that ends the process when another has
 * spent too much CPU time on one record, after leaving a mark for the successor. A
 * process that crashes in a record leaves one, too. The successor sends the marked record without running rules over it, so a record can
 * end an agent only once.
 *
 *   RUN/rules.hung     one line a mark: SEGMENT-HEX SLOT GENERATION POSITION
 *
 * The watched thread calls begin and end around each record, and stored after
 * what it read was committed; the file's content is hostile and bounded.
 */
#ifndef MAYDAY_WATCHDOG_H
#define MAYDAY_WATCHDOG_H

#include "core/agent/lane_reader.h"

#define MAYDAY_WATCHDOG_CPU_MS_MAX 2000 /* on one record; rules may take 50 of them */
#define MAYDAY_WATCHDOG_EXIT 1          /* of the process: start it again           */

typedef struct mayday_watchdog mayday_watchdog_t;

/* Reads the marks. run_dir is kept by reference. NULL: no memory. */
mayday_watchdog_t *mayday_watchdog_new(const char *run_dir);
void mayday_watchdog_free(mayday_watchdog_t *watchdog);

/*
 * Begins to watch the calling thread, until it calls stop or the process ends. Crashes
 * leave marks for the first one of a process that was started.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_watchdog_start(mayday_watchdog_t *watchdog);
void mayday_watchdog_stop(mayday_watchdog_t *watchdog);

/* True: this record hung an agent before, or made it crash. */
bool mayday_watchdog_begin(mayday_watchdog_t *watchdog, const mayday_lane_record_t *record);
void mayday_watchdog_end(mayday_watchdog_t *watchdog);

/* What was read so far is stored: marks that were met are forgotten. */
void mayday_watchdog_stored(mayday_watchdog_t *watchdog);

#endif
