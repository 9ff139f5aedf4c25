/*
 * What the pipeline remembers of each issue: its rate, and how many of its
 * events were only counted since the last one that went out.
 *
 * A bounded table in memory, the issue not seen for longest gives way. One
 * thread's; times come as arguments.
 */
#ifndef MAYDAY_ISSUE_RATE_H
#define MAYDAY_ISSUE_RATE_H

#include "core/agent/ratelimit.h"

#define MAYDAY_ISSUES_MAX 4096u

typedef struct {
    uint8_t hash[MAYDAY_HASH_BYTES];
    mayday_bucket_t bucket;
    uint64_t suppressed; /* since the last event that went out             */
    uint64_t batch;      /* the caller's: the batch that it was last seen in */
    uint32_t batch_place;
    uint32_t chain;        /* the table's: next of the same slot            */
    uint32_t newer, older; /* the table's: by last use                      */
} mayday_issue_t;

typedef struct mayday_issues mayday_issues_t;

mayday_issues_t *mayday_issues_new(void); /* NULL: no memory */
void mayday_issues_free(mayday_issues_t *issues);

/*
 * The issue of that hash, made if need be, now the most recently used. Valid
 * until MAYDAY_ISSUES_MAX others were asked for.
 */
mayday_issue_t *mayday_issues_get(mayday_issues_t *issues, const uint8_t hash[MAYDAY_HASH_BYTES]);

/* The issue if it is known, NULL if not; this is no use of it. */
const mayday_issue_t *mayday_issues_find(mayday_issues_t *issues,
                                         const uint8_t hash[MAYDAY_HASH_BYTES]);

/*
 * Whether an event of the issue may go out now; then *suppressed is what it is
 * to tell of, and starts anew. Otherwise it was counted as suppressed.
 */
bool mayday_issue_admit(mayday_issue_t *issue, const mayday_rate_setting_t *rate, uint64_t now_us,
                        uint64_t *suppressed);

#endif
