/*
 * Random-looking ids on the request path, without a system call: a keyed hash
 * of a counter, the key drawn once per process.
 */
#ifndef MAYDAY_IDS_H
#define MAYDAY_IDS_H

#include <stdatomic.h>

#include "core/base/base.h"

typedef struct {
    uint64_t key[4]; /* the hash's state before the first word */
    _Atomic uint64_t counter;
} mayday_ids_t;

/* After fork, in each process that serves. Falls back to clock and pid where
 * the kernel gives no random bytes. */
void mayday_ids_init(mayday_ids_t *ids);

/* Threads may call these at once. */
void mayday_ids_next(mayday_ids_t *ids, uint8_t out[16]);

/* The ids of a trace and of its first span. */
void mayday_ids_next_trace(mayday_ids_t *ids, uint8_t trace_id[16], uint8_t span_id[8]);

void mayday_ids_next_span(mayday_ids_t *ids, uint8_t span_id[8]);

#endif
