/*
 * See batch.h. All tables are of fixed size; a batch ends early when one is
 * nearly full.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/batch.h"

#define RECORDS_MAX 512u
#define LANES_MAX 128u
#define COUNTS_MAX 64u
#define LOSSES_MAX 64u
#define TABLE_SPARE 8u /* what one record may add to a table */
#define RULES_MAX 64u
#define DROPPED_MAX 32u
#define REASON_SIZE 192
#define TEXT_ENOUGH ((size_t) 1 << 20)                  /* ends the batch              */
#define TEXT_SIZE (TEXT_ENOUGH + ((size_t) 1280 << 10)) /* the largest event behind it */
#define NO_EVENT SIZE_MAX

typedef struct {
    mayday_store_event_t event; /* its slices point into text            */
    const mayday_settings_t *settings;
    uint64_t destination;
    bool left_out;
    int64_t row, dsns[MAYDAY_SETTINGS_DSN_MAX]; /* its queue rows, once it is stored */
    size_t dsn_count;
} pending_t;

typedef struct {
    uint8_t issue[MAYDAY_HASH_BYTES];
    uint64_t time_us;
    uint64_t seen, suppressed;
} seen_t;

typedef struct {
    mayday_lane_key_t key;
    uint64_t position, records_read;
} position_t;

typedef struct {
    const char *name; /* constant */
    char reason[REASON_SIZE];
    uint64_t n;
} count_t;

typedef struct {
    const mayday_settings_t *settings;
    uint64_t destination;
    const char *reason; /* constant */
    uint64_t n;
} loss_t;

typedef struct {
    mayday_store_rule_t rule; /* its texts are those below, or constants */
    char where[128], hook[20], reason[72];
} rule_t;

struct mayday_batch {
    uint64_t number; /* of this batch, from 1: marks issues          */
    size_t records;
    uint64_t captured[MAYDAY_KIND_MAX];
    pending_t events[RECORDS_MAX];
    size_t event_count;
    size_t failed_event; /* that the last try to store ended at, or NO_EVENT */
    uint64_t purges;     /* mayday_store_purges before it                    */
    seen_t seen[RECORDS_MAX];
    size_t seen_count;
    position_t lanes[LANES_MAX];
    size_t lane_count;
    count_t counts[COUNTS_MAX];
    size_t count_count;
    loss_t losses[LOSSES_MAX];
    size_t loss_count;
    rule_t rules[RULES_MAX];
    size_t rule_count;
    mayday_store_dropped_t dropped[DROPPED_MAX]; /* its texts are in text */
    size_t dropped_count;
    size_t text_len;
    char text[TEXT_SIZE];
};

mayday_batch_t *
mayday_batch_new(void)
{
    mayday_batch_t *batch = malloc(sizeof(*batch));

    if (batch != NULL) {
        batch->number = 0;
        mayday_batch_clear(batch);
    }
    return batch;
}

void
mayday_batch_free(mayday_batch_t *batch)
{
    free(batch);
}

void
mayday_batch_clear(mayday_batch_t *batch)
{
    batch->number++;
    batch->records = 0;
    memset(batch->captured, 0, sizeof(batch->captured));
    batch->event_count = batch->seen_count = batch->lane_count = 0;
    batch->count_count = batch->loss_count = batch->text_len = 0;
    batch->rule_count = batch->dropped_count = 0;
    batch->failed_event = NO_EVENT;
}

bool
mayday_batch_is_empty(const mayday_batch_t *batch)
{
    return batch->records == 0 && batch->count_count == 0;
}

bool
mayday_batch_is_full(const mayday_batch_t *batch)
{
    return batch->records == RECORDS_MAX || batch->lane_count == LANES_MAX ||
           batch->count_count + TABLE_SPARE > COUNTS_MAX ||
           batch->loss_count + TABLE_SPARE > LOSSES_MAX ||
           batch->rule_count + TABLE_SPARE > RULES_MAX || batch->text_len >= TEXT_ENOUGH;
}

void
mayday_batch_captured(mayday_batch_t *batch, mayday_kind_t kind)
{
    batch->records++;
    batch->captured[kind]++;
}

void
mayday_batch_count(mayday_batch_t *batch, const char *name, const char *reason, uint64_t n)
{
    count_t *count;

    for (size_t i = 0; i < batch->count_count; i++) {
        count = &batch->counts[i];
        if (strcmp(count->name, name) == 0 &&
            strncmp(count->reason, reason, REASON_SIZE - 1) == 0) {
            count->n += n;
            return;
        }
    }
    if (batch->count_count < COUNTS_MAX) {
        count = &batch->counts[batch->count_count++];
        count->name = name;
        snprintf(count->reason, sizeof(count->reason), "%s", reason);
        count->n = n;
    }
}

void
mayday_batch_rule(mayday_batch_t *batch, const mayday_store_rule_t *rule)
{
    rule_t *place;

    for (size_t i = 0; i < batch->rule_count; i++) {
        place = &batch->rules[i];
        if (strncmp(place->where, rule->where, sizeof(place->where) - 1) == 0 &&
            strcmp(place->reason, rule->reason) == 0 && strcmp(place->hook, rule->hook) == 0 &&
            strcmp(place->rule.outcome, rule->outcome) == 0 &&
            place->rule.observed == rule->observed) {
            place->rule.n += rule->n;
            return;
        }
    }
    if (batch->rule_count < RULES_MAX) {
        place = &batch->rules[batch->rule_count++];
        place->rule = *rule;
        snprintf(place->where, sizeof(place->where), "%s", rule->where);
        snprintf(place->hook, sizeof(place->hook), "%s", rule->hook);
        snprintf(place->reason, sizeof(place->reason), "%s", rule->reason);
        place->rule.where = place->where;
        place->rule.hook = place->hook;
        place->rule.reason = place->reason;
    }
}

static bool
same_lane(const mayday_lane_key_t *a, const mayday_lane_key_t *b)
{
    return a->slot == b->slot && a->generation == b->generation &&
           memcmp(a->segment, b->segment, sizeof(a->segment)) == 0;
}

void
mayday_batch_position(mayday_batch_t *batch, const mayday_lane_record_t *record)
{
    position_t *lane = NULL;

    for (size_t i = batch->lane_count; i > 0 && lane == NULL; i--) {
        if (same_lane(&batch->lanes[i - 1].key, &record->key)) {
            lane = &batch->lanes[i - 1];
        }
    }
    if (lane == NULL && batch->lane_count < LANES_MAX) {
        lane = &batch->lanes[batch->lane_count++];
        lane->key = record->key;
    }
    if (lane != NULL) {
        lane->position = record->position;
        lane->records_read = record->records_read;
    }
}

void
mayday_batch_seen(mayday_batch_t *batch, mayday_issue_t *issue, uint64_t time_us, bool suppressed)
{
    seen_t *seen;

    if (issue->batch != batch->number) {
        issue->batch = batch->number;
        issue->batch_place = (uint32_t) batch->seen_count++;
        seen = &batch->seen[issue->batch_place];
        memset(seen, 0, sizeof(*seen));
        memcpy(seen->issue, issue->hash, MAYDAY_HASH_BYTES);
    }
    seen = &batch->seen[issue->batch_place];
    seen->seen++;
    seen->suppressed += suppressed;
    if (time_us > seen->time_us) {
        seen->time_us = time_us;
    }
}

/* The destination's DSNs; 0 for one that the settings do not have. */
static size_t
destination_dsns(const mayday_settings_t *settings, uint64_t destination, const char *const **dsns)
{
    *dsns = NULL;
    if (destination >= settings->destination_count) {
        return 0;
    }
    *dsns = settings->destinations[destination].dsns;
    return settings->destinations[destination].dsn_count;
}

void
mayday_batch_discard(mayday_batch_t *batch, const mayday_settings_t *settings, uint64_t destination,
                     const char *reason, uint64_t n)
{
    const char *const *dsns;

    if (destination_dsns(settings, destination, &dsns) == 0) {
        return;
    }
    for (size_t i = 0; i < batch->loss_count; i++) {
        loss_t *loss = &batch->losses[i];
        if (loss->settings == settings && loss->destination == destination &&
            strcmp(loss->reason, reason) == 0) {
            loss->n += n;
            return;
        }
    }
    if (batch->loss_count < LOSSES_MAX) {
        batch->losses[batch->loss_count++] = (loss_t){settings, destination, reason, n};
    }
}

/* ---- events ---- */

static mayday_slice_t
keep(mayday_batch_t *batch, mayday_slice_t s)
{
    char *copy = batch->text + batch->text_len;

    if (s.len > 0) {
        memcpy(copy, s.data, s.len);
    }
    batch->text_len += s.len;
    return mayday_slice(copy, s.len);
}

static const char *
keep_string(mayday_batch_t *batch, const char *s)
{
    return keep(batch, mayday_slice(s, strlen(s) + 1)).data;
}

mayday_rc_t
mayday_batch_event(mayday_batch_t *batch, const mayday_store_event_t *event,
                   const mayday_settings_t *settings, uint64_t destination)
{
    size_t size = event->event_id.len + event->title.len + event->transaction.len +
                  event->json.len + event->trace.len + strlen(event->level) + 1;
    pending_t *pending;

    if (batch->event_count == RECORDS_MAX || size > TEXT_SIZE - batch->text_len) {
        return MAYDAY_FULL;
    }
    pending = &batch->events[batch->event_count++];
    pending->event = *event;
    pending->event.event_id = keep(batch, event->event_id);
    pending->event.title = keep(batch, event->title);
    pending->event.transaction = keep(batch, event->transaction);
    pending->event.json = keep(batch, event->json);
    pending->event.trace = keep(batch, event->trace);
    pending->event.level = keep_string(batch, event->level);
    pending->settings = settings;
    pending->destination = destination;
    pending->left_out = false;
    pending->dsn_count = 0;
    return MAYDAY_OK;
}

/* Never takes what an event may need: that of another record is to be put behind it. */
void
mayday_batch_dropped(mayday_batch_t *batch, const mayday_store_dropped_t *dropped)
{
    size_t size = dropped->event_id.len + dropped->title.len + dropped->transaction.len +
                  dropped->json.len + strlen(dropped->level) + strlen(dropped->reason) +
                  strlen(dropped->hook) + strlen(dropped->where) + 4;
    mayday_store_dropped_t *kept;

    if (batch->dropped_count == DROPPED_MAX || batch->text_len > TEXT_ENOUGH ||
        size > TEXT_ENOUGH - batch->text_len) {
        return;
    }
    kept = &batch->dropped[batch->dropped_count++];
    *kept = *dropped;
    kept->event_id = keep(batch, dropped->event_id);
    kept->title = keep(batch, dropped->title);
    kept->transaction = keep(batch, dropped->transaction);
    kept->json = keep(batch, dropped->json);
    kept->level = keep_string(batch, dropped->level);
    kept->reason = keep_string(batch, dropped->reason);
    kept->hook = keep_string(batch, dropped->hook);
    kept->where = keep_string(batch, dropped->where);
}

/* ---- storing ---- */

static mayday_rc_t
store_loss(mayday_store_t *store, const mayday_settings_t *settings, uint64_t destination,
           const char *reason, uint64_t n)
{
    const char *const *dsns;
    size_t count = destination_dsns(settings, destination, &dsns);
    mayday_rc_t rc = MAYDAY_OK;
    int64_t dsn;

    for (size_t i = 0; i < count && rc == MAYDAY_OK; i++) {
        rc = mayday_store_dsn_id(store, dsns[i], &dsn);
        if (rc == MAYDAY_OK) {
            rc = mayday_store_discarded_add(store, dsn, reason, n);
        }
    }
    return rc;
}

static mayday_rc_t
store_event(mayday_batch_t *batch, size_t index, mayday_store_t *store)
{
    pending_t *pending = &batch->events[index];
    const char *const *dsns;
    size_t count = destination_dsns(pending->settings, pending->destination, &dsns);
    mayday_store_queued_t queued;
    mayday_rc_t rc;

    pending->dsn_count = 0;
    if (pending->left_out) {
        rc = mayday_store_count(store, "dropped", "not_stored", 1);
        if (rc == MAYDAY_OK) {
            rc =
                store_loss(store, pending->settings, pending->destination, "internal_sdk_error", 1);
        }
        return rc;
    }
    rc = mayday_store_event_add(store, &pending->event, dsns, count);
    if (rc == MAYDAY_OK) {
        queued = mayday_store_queued(store);
        pending->row = queued.row;
        pending->dsn_count = queued.dsn_count;
        memcpy(pending->dsns, queued.dsns, queued.dsn_count * sizeof(*queued.dsns));
    } else {
        batch->failed_event = index;
    }
    if (rc == MAYDAY_INVALID) {
        pending->left_out = true;
    }
    return rc;
}

static mayday_rc_t
store_counts(const mayday_batch_t *batch, mayday_store_t *store)
{
    mayday_rc_t rc = MAYDAY_OK;

    for (size_t i = 0; i < MAYDAY_KIND_MAX && rc == MAYDAY_OK; i++) {
        if (batch->captured[i] > 0) {
            rc = mayday_store_count(store, "captured", mayday_kind_name((mayday_kind_t) i),
                                    batch->captured[i]);
        }
    }
    for (size_t i = 0; i < batch->count_count && rc == MAYDAY_OK; i++) {
        const count_t *count = &batch->counts[i];
        rc = mayday_store_count(store, count->name, count->reason, count->n);
    }
    for (size_t i = 0; i < batch->loss_count && rc == MAYDAY_OK; i++) {
        const loss_t *loss = &batch->losses[i];
        rc = store_loss(store, loss->settings, loss->destination, loss->reason, loss->n);
    }
    return rc;
}

/* A sample that cannot be kept is no reason to fail, unless nothing can be written. */
static mayday_rc_t
store_rules(const mayday_batch_t *batch, mayday_store_t *store)
{
    uint64_t now_us = mayday_clock_us();
    mayday_rc_t rc = MAYDAY_OK;

    for (size_t i = 0; i < batch->rule_count && rc == MAYDAY_OK; i++) {
        rc = mayday_store_rule_count(store, &batch->rules[i].rule, now_us);
    }
    for (size_t i = 0; i < batch->dropped_count && rc == MAYDAY_OK; i++) {
        rc = mayday_store_dropped_add(store, &batch->dropped[i]);
        rc = rc == MAYDAY_INVALID ? MAYDAY_OK : rc;
    }
    return rc;
}

static mayday_rc_t
store_all(mayday_batch_t *batch, mayday_store_t *store)
{
    mayday_rc_t rc = MAYDAY_OK;

    for (size_t i = 0; i < batch->seen_count && rc == MAYDAY_OK; i++) {
        const seen_t *seen = &batch->seen[i];
        rc = mayday_store_issue_seen(store, seen->issue, seen->time_us, seen->seen,
                                     seen->suppressed);
    }
    for (size_t i = 0; i < batch->event_count && rc == MAYDAY_OK; i++) {
        rc = store_event(batch, i, store);
    }
    if (rc == MAYDAY_OK) {
        rc = store_counts(batch, store);
    }
    if (rc == MAYDAY_OK) {
        rc = store_rules(batch, store);
    }
    for (size_t i = 0; i < batch->lane_count && rc == MAYDAY_OK; i++) {
        const position_t *lane = &batch->lanes[i];
        rc = mayday_store_position_set(store, &lane->key, lane->position, lane->records_read);
    }
    return rc;
}

mayday_rc_t
mayday_batch_store(mayday_batch_t *batch, mayday_store_t *store, bool leave_out)
{
    mayday_rc_t rc;

    if (leave_out && batch->failed_event != NO_EVENT) {
        batch->events[batch->failed_event].left_out = true;
    }
    batch->failed_event = NO_EVENT;
    batch->purges = mayday_store_purges();
    rc = mayday_store_begin(store);
    if (rc != MAYDAY_OK) {
        return rc;
    }
    rc = store_all(batch, store);
    if (rc == MAYDAY_OK) {
        rc = mayday_store_commit(store);
    }
    if (rc != MAYDAY_OK) {
        mayday_store_rollback(store);
    }
    if (rc != MAYDAY_OK && batch->failed_event == NO_EVENT) {
        /* it was not for the events that were left out */
        for (size_t i = 0; i < batch->event_count; i++) {
            batch->events[i].left_out = false;
        }
    }
    return rc;
}

void
mayday_batch_hand(const mayday_batch_t *batch, mayday_delivery_t *delivery)
{
    for (size_t i = 0; i < batch->event_count; i++) {
        const pending_t *pending = &batch->events[i];
        mayday_fresh_t fresh = {.row = pending->row,
                                .event_id = pending->event.event_id,
                                .json = pending->event.json,
                                .trace = pending->event.trace,
                                .purges = batch->purges};

        for (size_t j = 0; j < pending->dsn_count; j++) {
            fresh.dsn = pending->dsns[j];
            mayday_delivery_hand(delivery, &fresh);
        }
    }
}
