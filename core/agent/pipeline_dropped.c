/*
 * Events that rules dropped, kept so that people can see what their rules hide.
 *
 * A storm of them must cost no more than counting: of each reason the first few in
 * a second are kept, and of all reasons together some more. What is kept may hold
 * nothing that a rule behind the one that dropped it would have removed. Nobody
 * knows what that is, so it is all of the standard personal data (pii.h), and the
 * user and the cookies as a whole.
 *
 * Runs in the pipeline's thread, with the event's arena bound.
 */
#include <stdio.h>

#include "core/agent/pipeline_private.h"
#include "core/filter/pii.h"

#define KEPT_MAX 5u      /* of a reason, a second */
#define KEPT_ALL_MAX 20u /* of all                */

/* ---- how many ---- */

static bool
has_room(const mayday_sampled_t *sampled, uint64_t second, unsigned max)
{
    return sampled->second != second || sampled->count < max;
}

static void
take(mayday_sampled_t *sampled, uint64_t second)
{
    sampled->count = sampled->second == second ? sampled->count + 1 : 1;
    sampled->second = second;
}

/* Whether this one is to be kept. Reasons come from rules: few of them are remembered. */
static bool
admit(mayday_pipeline_t *p, const char *reason)
{
    uint64_t second = mayday_clock_monotonic_us() / 1000000 + 1; /* 0: never */
    mayday_sampled_t *sampled = &p->sampled[0];

    if (!has_room(&p->sampled_all, second, KEPT_ALL_MAX)) {
        return false;
    }
    for (size_t i = 0; i < MAYDAY_SAMPLED_REASONS; i++) {
        if (strcmp(p->sampled[i].reason, reason) == 0) {
            sampled = &p->sampled[i];
            break;
        }
        if (p->sampled[i].second < sampled->second) {
            sampled = &p->sampled[i];
        }
    }
    if (strcmp(sampled->reason, reason) != 0) {
        *sampled = (mayday_sampled_t){0};
        snprintf(sampled->reason, sizeof(sampled->reason), "%s", reason);
    }
    if (!has_room(sampled, second, KEPT_MAX)) {
        return false;
    }
    take(sampled, second);
    take(&p->sampled_all, second);
    return true;
}

/* ---- what ---- */

/* contexts.mayday.dropped: what `mayday show` says of it. */
static void
add_why(mayday_event_t *event, const mayday_rules_result_t *result, bool observed)
{
    cJSON *contexts = mayday_event_part(event, MAYDAY_PART_CONTEXTS);
    cJSON *mayday = cJSON_GetObjectItemCaseSensitive(contexts, "mayday");
    cJSON *dropped = cJSON_AddObjectToObject(mayday, "dropped");

    (void) cJSON_AddStringToObject(dropped, "reason", result->reason);
    (void) cJSON_AddStringToObject(dropped, "hook", result->hook);
    (void) cJSON_AddStringToObject(dropped, "where", result->where);
    if (observed) {
        (void) cJSON_AddTrueToObject(dropped, "observed");
    }
}

static mayday_rc_t
build(mayday_event_t *event, const mayday_record_view_t *view, const mayday_settings_t *settings)
{
    const mayday_pii_t pii = {.kinds = MAYDAY_PII_ALL, .mode = MAYDAY_PII_FILTER, .view = view};
    mayday_rc_t rc;

    mayday_event_init(event, view, settings);
    rc = mayday_pii_scrub(&pii, event, UINT32_MAX);
    if (rc == MAYDAY_OK) {
        mayday_event_replace(event, MAYDAY_PART_USER, NULL);
        cJSON_DeleteItemFromObjectCaseSensitive(mayday_event_part(event, MAYDAY_PART_REQUEST),
                                                "cookies");
    }
    return rc;
}

void
mayday_pipeline_dropped(mayday_pipeline_t *p, const mayday_record_view_t *view,
                        const mayday_settings_t *settings, const mayday_rules_result_t *result)
{
    char title_storage[MAYDAY_TITLE_SIZE], level[16], id[33];
    mayday_event_t *event = &p->scratch;
    mayday_store_dropped_t dropped;
    mayday_slice_t level_text;
    mayday_buf_t title;

    if (!admit(p, result->reason) || build(event, view, settings) != MAYDAY_OK) {
        return;
    }
    add_why(event, result, p->rules_observe);
    mayday_buf_init(&title, title_storage, sizeof(title_storage));
    mayday_event_title(event, &title);
    mayday_event_id(event, id);
    level_text = mayday_event_part_text(event, MAYDAY_PART_LEVEL);
    snprintf(level, sizeof(level), "%.*s", (int) level_text.len, level_text.data);
    dropped = (mayday_store_dropped_t){
        .event_id = mayday_slice_str(id),
        .time_us = mayday_view_u64(view, TIME_US),
        .kind = mayday_kind_name((mayday_kind_t) mayday_view_u64(view, KIND)),
        .level = level,
        .status = (unsigned) mayday_view_u64(view, STATUS),
        .title = mayday_buf_slice(&title),
        .transaction = mayday_event_part_text(event, MAYDAY_PART_TRANSACTION),
        .reason = result->reason,
        .hook = result->hook,
        .where = result->where,
        .observed = p->rules_observe,
        .json = mayday_event_serialise(event),
    };
    if (dropped.json.len > 0 && dropped.json.len <= MAYDAY_STORE_DROPPED_JSON_MAX) {
        mayday_batch_dropped(p->batch, &dropped);
    }
}
