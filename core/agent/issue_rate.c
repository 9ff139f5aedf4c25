/*
 * A hash table with chains and a list by last use, over one array of entries.
 * Runs in the pipeline.
 */
#include <stdlib.h>

#include "core/agent/issue_rate.h"

#define SLOTS 8192u /* a power of two, twice the entries */
#define SLOT_BITS 13
#define NONE UINT32_MAX

_Static_assert(SLOTS == 1u << SLOT_BITS, "a slot is the top bits of a product");

struct mayday_issues {
    uint64_t multiplier; /* odd and secret: who makes issues must not choose slots */
    uint32_t used;
    uint32_t newest, oldest;
    uint32_t slots[SLOTS];
    mayday_issue_t entries[MAYDAY_ISSUES_MAX];
};

mayday_issues_t *
mayday_issues_new(void)
{
    mayday_issues_t *issues = calloc(1, sizeof(*issues));

    if (issues == NULL) {
        return NULL;
    }
    if (mayday_random(&issues->multiplier, sizeof(issues->multiplier)) != MAYDAY_OK) {
        issues->multiplier = mayday_clock_us() * UINT64_C(0x9e3779b97f4a7c15);
    }
    issues->multiplier |= 1;
    issues->newest = issues->oldest = NONE;
    memset(issues->slots, 0xff, sizeof(issues->slots));
    return issues;
}

void
mayday_issues_free(mayday_issues_t *issues)
{
    free(issues);
}

static uint32_t *
slot_of(mayday_issues_t *issues, const uint8_t *hash)
{
    uint64_t low;

    memcpy(&low, hash, sizeof(low));
    return &issues->slots[low * issues->multiplier >> (64 - SLOT_BITS)];
}

static void
unlink_use(mayday_issues_t *issues, mayday_issue_t *issue)
{
    if (issue->newer != NONE) {
        issues->entries[issue->newer].older = issue->older;
    } else {
        issues->newest = issue->older;
    }
    if (issue->older != NONE) {
        issues->entries[issue->older].newer = issue->newer;
    } else {
        issues->oldest = issue->newer;
    }
}

static void
link_newest(mayday_issues_t *issues, mayday_issue_t *issue)
{
    uint32_t index = (uint32_t) (issue - issues->entries);

    issue->newer = NONE;
    issue->older = issues->newest;
    if (issues->newest != NONE) {
        issues->entries[issues->newest].newer = index;
    } else {
        issues->oldest = index;
    }
    issues->newest = index;
}

static mayday_issue_t *
take_oldest(mayday_issues_t *issues)
{
    mayday_issue_t *issue = &issues->entries[issues->oldest];
    uint32_t index = issues->oldest, *link = slot_of(issues, issue->hash);

    while (*link != index) {
        link = &issues->entries[*link].chain;
    }
    *link = issue->chain;
    unlink_use(issues, issue);
    return issue;
}

static mayday_issue_t *
find_in(mayday_issues_t *issues, uint32_t slot, const uint8_t *hash)
{
    for (uint32_t i = slot; i != NONE; i = issues->entries[i].chain) {
        if (memcmp(issues->entries[i].hash, hash, MAYDAY_HASH_BYTES) == 0) {
            return &issues->entries[i];
        }
    }
    return NULL;
}

const mayday_issue_t *
mayday_issues_find(mayday_issues_t *issues, const uint8_t hash[MAYDAY_HASH_BYTES])
{
    return find_in(issues, *slot_of(issues, hash), hash);
}

mayday_issue_t *
mayday_issues_get(mayday_issues_t *issues, const uint8_t hash[MAYDAY_HASH_BYTES])
{
    uint32_t *slot = slot_of(issues, hash);
    mayday_issue_t *issue = find_in(issues, *slot, hash);

    if (issue != NULL) {
        if (issue->newer != NONE) {
            unlink_use(issues, issue);
            link_newest(issues, issue);
        }
        return issue;
    }
    issue =
        issues->used < MAYDAY_ISSUES_MAX ? &issues->entries[issues->used++] : take_oldest(issues);
    memset(issue, 0, sizeof(*issue));
    memcpy(issue->hash, hash, MAYDAY_HASH_BYTES);
    issue->chain = *slot;
    *slot = (uint32_t) (issue - issues->entries);
    link_newest(issues, issue);
    return issue;
}

bool
mayday_issue_admit(mayday_issue_t *issue, const mayday_rate_setting_t *rate, uint64_t now_us,
                   uint64_t *suppressed)
{
    if (!mayday_bucket_take(&issue->bucket, rate, now_us)) {
        issue->suppressed++;
        return false;
    }
    *suppressed = issue->suppressed;
    issue->suppressed = 0;
    return true;
}
