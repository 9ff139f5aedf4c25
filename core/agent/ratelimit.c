/*
 * Rates: our own token bucket, and what servers ask for (Sentry's SDK
 * documentation, "Rate Limiting").
 *
 * Runs in the agent; pure: no clock, no memory, no lock. A server's header is
 * hostile: what cannot be read is skipped.
 */
#include "core/agent/ratelimit.h"

#include <math.h>

#define LIMIT_SECONDS_DEFAULT 60 /* of a 429 that says nothing */
#define STATUS_TOO_MANY 429

/* ---- our own rate ---- */

static double
bucket_burst(const mayday_rate_setting_t *rate)
{
    return rate->burst > 0 ? rate->burst : 1;
}

static double
bucket_per_us(const mayday_rate_setting_t *rate)
{
    return (double) rate->events / ((rate->period_s > 0 ? rate->period_s : 1) * 1e6);
}

/* The tokens that are there at now_us. A clock that went back adds none. */
static double
bucket_tokens(const mayday_bucket_t *bucket, const mayday_rate_setting_t *rate, uint64_t now_us)
{
    double tokens = bucket->tokens;

    if (bucket->filled_us == 0) {
        return bucket_burst(rate);
    }
    if (now_us > bucket->filled_us) {
        tokens += (double) (now_us - bucket->filled_us) * bucket_per_us(rate);
    }
    return tokens < bucket_burst(rate) ? tokens : bucket_burst(rate);
}

bool
mayday_bucket_take(mayday_bucket_t *bucket, const mayday_rate_setting_t *rate, uint64_t now_us)
{
    double tokens;

    if (rate->events == 0) {
        return true;
    }
    tokens = bucket_tokens(bucket, rate, now_us);
    bucket->filled_us = now_us > 0 ? now_us : 1;
    bucket->tokens = tokens >= 1 ? tokens - 1 : tokens;
    return tokens >= 1;
}

uint64_t
mayday_bucket_next_us(const mayday_bucket_t *bucket, const mayday_rate_setting_t *rate,
                      uint64_t now_us)
{
    double missing;

    if (rate->events == 0) {
        return now_us;
    }
    missing = 1 - bucket_tokens(bucket, rate, now_us);
    return missing <= 0 ? now_us : now_us + (uint64_t) ceil(missing / bucket_per_us(rate));
}

/* ---- a server's limits ---- */

/* Cuts the part before the separator off *rest; false: there is nothing left. */
static bool
next_part(mayday_slice_t *rest, char separator, mayday_slice_t *part)
{
    const char *at;

    if (rest->data == NULL) {
        return false;
    }
    at = rest->len == 0 ? NULL : memchr(rest->data, separator, rest->len);
    part->data = rest->data;
    part->len = at == NULL ? rest->len : (size_t) (at - rest->data);
    if (at == NULL) {
        *rest = (mayday_slice_t){NULL, 0};
    } else {
        *rest = mayday_slice(at + 1, rest->len - part->len - 1);
    }
    return true;
}

/* Seconds as digits, with a fraction or without, rounded up; at most the maximum. */
static mayday_rc_t
seconds_parse(mayday_slice_t s, uint64_t *seconds)
{
    bool fraction = false, more = false, digits = false;

    *seconds = 0;
    s = mayday_slice_trim(s);
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '.' && !fraction) {
            fraction = true;
        } else if (s.data[i] < '0' || s.data[i] > '9') {
            return MAYDAY_INVALID;
        } else if (fraction) {
            more = more || s.data[i] != '0';
        } else {
            digits = true;
            *seconds = *seconds * 10 + (uint64_t) (s.data[i] - '0');
            if (*seconds > MAYDAY_LIMIT_SECONDS_MAX) {
                *seconds = MAYDAY_LIMIT_SECONDS_MAX;
            }
        }
    }
    if (more && *seconds < MAYDAY_LIMIT_SECONDS_MAX) {
        (*seconds)++;
    }
    return digits ? MAYDAY_OK : MAYDAY_INVALID;
}

static void
limit_set(mayday_limits_t *limits, mayday_limit_category_t category, uint64_t until_us)
{
    if (limits->until_us[category] < until_us) {
        limits->until_us[category] = until_us;
    }
}

static void
limit_set_all(mayday_limits_t *limits, uint64_t until_us)
{
    for (int category = 0; category < MAYDAY_LIMIT_MAX; category++) {
        limit_set(limits, (mayday_limit_category_t) category, until_us);
    }
}

static void
limit_set_named(mayday_limits_t *limits, mayday_slice_t categories, uint64_t until_us)
{
    static const mayday_slice_t names[MAYDAY_LIMIT_MAX] = {
        [MAYDAY_LIMIT_DEFAULT] = {"default", 7},
        [MAYDAY_LIMIT_ERROR] = {"error", 5},
        [MAYDAY_LIMIT_SESSION] = {"session", 7},
        [MAYDAY_LIMIT_INTERNAL] = {"internal", 8},
    };
    mayday_slice_t name;

    while (next_part(&categories, ';', &name)) {
        for (int category = 0; category < MAYDAY_LIMIT_MAX; category++) {
            if (mayday_slice_ieq(mayday_slice_trim(name), names[category])) {
                limit_set(limits, (mayday_limit_category_t) category, until_us);
            }
        }
    }
}

/* retry_after:categories:scope:reason:namespaces, … ; whether a part could be read. */
static bool
limits_parse(mayday_limits_t *limits, mayday_slice_t header, uint64_t now_us)
{
    mayday_slice_t limit, seconds_text, categories;
    uint64_t seconds;
    bool any = false;

    while (next_part(&header, ',', &limit)) {
        if (!next_part(&limit, ':', &seconds_text) || !next_part(&limit, ':', &categories) ||
            seconds_parse(seconds_text, &seconds) != MAYDAY_OK) {
            continue;
        }
        any = true;
        categories = mayday_slice_trim(categories);
        if (categories.len == 0) {
            limit_set_all(limits, now_us + seconds * 1000000);
        } else {
            limit_set_named(limits, categories, now_us + seconds * 1000000);
        }
    }
    return any;
}

void
mayday_limits_apply(mayday_limits_t *limits, long status, mayday_slice_t rate_limits_header,
                    mayday_slice_t retry_after_header, uint64_t now_us)
{
    uint64_t seconds;

    if (limits_parse(limits, rate_limits_header, now_us) || status != STATUS_TOO_MANY) {
        return;
    }
    if (seconds_parse(retry_after_header, &seconds) != MAYDAY_OK) {
        seconds = LIMIT_SECONDS_DEFAULT;
    }
    limit_set_all(limits, now_us + seconds * 1000000);
}
