/*
 * Rate limits: a token bucket for our own rates, and what a server says in
 * X-Sentry-Rate-Limits and Retry-After. Pure: time comes as an argument.
 */
#ifndef MAYDAY_RATELIMIT_H
#define MAYDAY_RATELIMIT_H

#include "core/base/base.h"
#include "core/event/settings_read.h"

/* A bucket of `burst` tokens that fills by events/period. Zeroed: full at first use. */
typedef struct {
    double tokens;
    uint64_t filled_us; /* 0: never used */
} mayday_bucket_t;

/* Takes a token if there is one. A rate with events 0 always grants. */
bool mayday_bucket_take(mayday_bucket_t *bucket, const mayday_rate_setting_t *rate,
                        uint64_t now_us);

/* When the next token will be there; now_us if there is one. */
uint64_t mayday_bucket_next_us(const mayday_bucket_t *bucket, const mayday_rate_setting_t *rate,
                               uint64_t now_us);

/* The categories that concern us; others are ignored. */
typedef enum {
    MAYDAY_LIMIT_DEFAULT,
    MAYDAY_LIMIT_ERROR,
    MAYDAY_LIMIT_SESSION,
    MAYDAY_LIMIT_INTERNAL, /* client reports */
    MAYDAY_LIMIT_MAX
} mayday_limit_category_t;

typedef struct {
    uint64_t until_us[MAYDAY_LIMIT_MAX];
} mayday_limits_t;

#define MAYDAY_LIMIT_SECONDS_MAX 86400 /* a longer one is cut to a day */

/*
 * Applies an answer's headers: the longer of two limits wins; the first header
 * wins over Retry-After; a 429 with neither is 60 s for all. Empty categories
 * mean all. Malformed parts are skipped.
 */
void mayday_limits_apply(mayday_limits_t *limits, long status, mayday_slice_t rate_limits_header,
                         mayday_slice_t retry_after_header, uint64_t now_us);

#endif
