/*
 * The kind of failure that an error-log line tells of (causes.def).
 *
 * Runs on the request path, of failed requests only: no allocation.
 */
#ifndef MAYDAY_CAUSE_H
#define MAYDAY_CAUSE_H

#include "core/capture/conf.h"

/*
 * The kind, or MAYDAY_KIND_NONE where the line is not of an upstream's failure.
 * *error comes in as the errno that came with the line (httpd: a time-out as
 * ETIMEDOUT); where that is 0 it gets the one that the text quotes as "(N: …)",
 * if any.
 */
mayday_kind_t mayday_cause_classify(mayday_server_t server, mayday_slice_t line, int *error);

#endif
