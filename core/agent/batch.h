/*
 * A batch of the pipeline: what some hundred records came to, gathered in memory
 * and then stored in one transaction with the lanes' positions. Counting a
 * record costs no SQL.
 *
 * Runs in the pipeline. Everything given is copied but for names, which are
 * constants, and settings, which must outlive the batch.
 */
#ifndef MAYDAY_BATCH_H
#define MAYDAY_BATCH_H

#include "core/agent/delivery.h"
#include "core/agent/issue_rate.h"
#include "core/agent/store.h"
#include "core/event/settings_read.h"

typedef struct mayday_batch mayday_batch_t;

mayday_batch_t *mayday_batch_new(void); /* NULL: no memory */
void mayday_batch_free(mayday_batch_t *batch);
void mayday_batch_clear(mayday_batch_t *batch);

bool mayday_batch_is_empty(const mayday_batch_t *batch);
/* Whether it must be stored before anything of another record is added. */
bool mayday_batch_is_full(const mayday_batch_t *batch);

void mayday_batch_captured(mayday_batch_t *batch, mayday_kind_t kind);
void mayday_batch_count(mayday_batch_t *batch, const char *name, const char *reason, uint64_t n);

/* How far this record's lane was read with it. */
void mayday_batch_position(mayday_batch_t *batch, const mayday_lane_record_t *record);

/* The issue was seen once more. */
void mayday_batch_seen(mayday_batch_t *batch, mayday_issue_t *issue, uint64_t time_us,
                       bool suppressed);

/* Events that go to no DSN of this destination, for the client reports. */
void mayday_batch_discard(mayday_batch_t *batch, const mayday_settings_t *settings,
                          uint64_t destination, const char *reason, uint64_t n);

/* What a place of the rules did. */
void mayday_batch_rule(mayday_batch_t *batch, const mayday_store_rule_t *rule);

/* An event that a rule dropped, where there is room: it is a sample all the same. */
void mayday_batch_dropped(mayday_batch_t *batch, const mayday_store_dropped_t *dropped);

/* MAYDAY_FULL: larger than any event may be; nothing was added. */
MAYDAY_MUST_CHECK mayday_rc_t mayday_batch_event(mayday_batch_t *batch,
                                                 const mayday_store_event_t *event,
                                                 const mayday_settings_t *settings,
                                                 uint64_t destination);

/*
 * Stores it all, or nothing. After a failure it can be called again. An event
 * that the store refuses for its own sake is left out at the next try, with its
 * loss counted; leave_out does so with whatever event a failure came from.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_batch_store(mayday_batch_t *batch, mayday_store_t *store,
                                                 bool leave_out);

/* After it was stored: its events that wait for a DSN go straight to delivery. */
void mayday_batch_hand(const mayday_batch_t *batch, mayday_delivery_t *delivery);

#endif
