/*
 * Random-looking ids on the request path, without a system call: a keyed hash
 * of a counter, the key drawn once per process.
 */
#ifndef MAYDAY_IDS_H
#define MAYDAY_IDS_H

#include <stdatomic.h>

#include "core/base/base.h"

typedef struct {
    uint8_t key[16];
    _Atomic uint64_t counter;
} mayday_ids_t;

/* After fork, in each process that serves. Falls back to clock and pid where
 * the kernel gives no random bytes. */
void mayday_ids_init(mayday_ids_t *ids);

/* Threads may call it at once. */
void mayday_ids_next(mayday_ids_t *ids, uint8_t out[16]);

#endif
