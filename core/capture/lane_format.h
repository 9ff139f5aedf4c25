/*
 * Lanes in shared memory. A segment is one file on tmpfs, RUN/lanes-ID, made by
 * the server's master and mapped by every process that serves requests and by
 * the agent. Only core/capture/lane.c writes lanes and only
 * core/agent/lane_reader.c reads them; both include this.
 *
 *   0                  mayday_segment_t                        one page
 *   4096               mayday_slot_t [slot_count]              1 KiB each
 *   data_offset        ring of slot 0, lane_size bytes         page-aligned
 *   data_offset + n * lane_size   ring of slot n
 *
 * A lane is one process's ring: one producer, one consumer. Positions (head,
 * tail) count bytes and never wrap; the byte at position p lies at
 * p % lane_size. They begin at mayday_lane_first_position(generation), so that
 * no position of one life of a slot is a position of the next. Every record
 * lies at a multiple of 8 and may run over the end of the ring into its start:
 * the writer maps the ring twice in a row and sees it in one piece.
 *
 * Publication: the producer writes the record, stores `records`, then `tail`
 * with release order, then a full fence, then looks at segment->reader_asleep
 * and wakes the reader if it is set. The reader sets reader_asleep, a full
 * fence, looks at every tail once more, then sleeps on reader_asleep (futex).
 * A producer that dies half-way has not stored tail: nothing is visible.
 *
 * Ownership: an owner holds an fcntl write lock on the byte
 * MAYDAY_SLOT_LOCK_OFFSET + slot of the segment file for as long as it lives
 * (the kernel drops it with the process). Whoever changes `state` of a slot
 * holds that lock: the claimant (FREE -> ACTIVE, or any state of a dead owner's
 * slot -> ACTIVE, its loss counted), the owner (ACTIVE -> CLOSED), the reader
 * (drained, dead -> FREE, the ring's memory given back by punching a hole). A
 * process never opens the segment file a second time, for closing that would
 * drop its locks.
 *
 * A claimant stores `generation` before it touches anything else of the slot,
 * and `state` = ACTIVE last. So a reader that loads what it needs and then finds
 * the generation unchanged has seen one life only. The reader moves `head` by
 * compare-and-swap: it cannot overwrite the head of a later life.
 *
 * Everything in here is hostile input to the reader, and `head` is to the
 * writer.
 */
#ifndef MAYDAY_LANE_FORMAT_H
#define MAYDAY_LANE_FORMAT_H

#include <stdatomic.h>

#include "core/base/base.h"
#include "core/capture/kind_format.h"

#define MAYDAY_SEGMENT_MAGIC "MAYDAY\0\1" /* the last byte is the layout's version */
#define MAYDAY_SEGMENT_PREFIX "lanes-"
#define MAYDAY_SLOT_LOCK_OFFSET (INT64_C(1) << 40) /* far behind any byte of the file */
#define MAYDAY_SLOT_COUNT_MAX 4096u
#define MAYDAY_LANE_SIZE_MIN 65536u
#define MAYDAY_LANE_SIZE_MAX (64u << 20)

typedef enum {
#define MAYDAY_COUNTER(id, name, meaning) MAYDAY_COUNTER_##id,
#include "core/capture/counters.def"
#undef MAYDAY_COUNTER
    MAYDAY_COUNTER_MAX
} mayday_counter_t;

typedef enum {
    MAYDAY_SLOT_FREE = 0,
    MAYDAY_SLOT_ACTIVE = 1, /* claimed; alive while the lock is held       */
    MAYDAY_SLOT_CLOSED = 2  /* its owner ended in order; still to be drained */
} mayday_slot_state_t;

/* Made by the master, read by all; the atomics are written as noted. */
typedef struct {
    char magic[8];
    uint64_t segment_size; /* bytes of the file                            */
    uint32_t slot_count;
    uint32_t lane_size;   /* bytes of one ring, a multiple of the page    */
    uint64_t data_offset; /* of slot 0's ring, page-aligned               */
    uint8_t id[16];       /* random; names the file, keys stored positions */
    uint64_t created_us;
    _Alignas(64) _Atomic uint32_t reader_asleep;   /* reader sets 1, a writer that wakes it 0 */
    _Alignas(64) _Atomic uint64_t dropped_no_slot; /* failures of processes without a lane  */
    _Atomic uint64_t lost_records; /* unread in dead lanes that had to be taken           */
} mayday_segment_t;

typedef struct {
    /* Identity: written by the claimant before state becomes ACTIVE. */
    _Atomic uint32_t state;
    uint32_t pid;                /* for people only                              */
    _Atomic uint64_t generation; /* claims of this slot so far; keys stored positions */
    uint64_t claimed_us;
    uint8_t settings[MAYDAY_HASH_BYTES]; /* names RUN/settings-HEX     */
    _Atomic uint64_t counters_generation;

    /* The producer's. */
    _Alignas(64) _Atomic uint64_t tail;
    _Atomic uint64_t records; /* published so far                          */

    /* The reader's: never beyond what it has stored durably. */
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t records_read;

    /* The producer's counters: relaxed, exact, never reset while claimed. Those of
     * a dead owner that were not folded into the store go on in the next life:
     * they count since the life counters_generation. */
    _Alignas(64) _Atomic uint64_t counters[MAYDAY_COUNTER_MAX];
    _Alignas(64) _Atomic uint64_t ignored[MAYDAY_KIND_MAX]; /* by mayday_ignore */
} mayday_slot_t;

#define MAYDAY_SEGMENT_HEADER_SIZE 4096u
#define MAYDAY_SLOT_SIZE 1024u

_Static_assert(sizeof(mayday_segment_t) <= MAYDAY_SEGMENT_HEADER_SIZE, "segment header fits");
_Static_assert(sizeof(mayday_slot_t) <= MAYDAY_SLOT_SIZE, "slot fits its place");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "positions are shared without a lock");

/* Unique among neighbouring lives, and below 2^63, as a database wants it. */
static inline uint64_t
mayday_lane_first_position(uint64_t generation)
{
    return (generation & 0x7fffffu) << 40;
}

/* Whether the header describes a file of that many bytes; trusts nothing in it. */
static inline bool
mayday_segment_is_sane(const mayday_segment_t *segment, uint64_t file_size)
{
    uint64_t slots_end =
        MAYDAY_SEGMENT_HEADER_SIZE + (uint64_t) segment->slot_count * MAYDAY_SLOT_SIZE;

    return memcmp(segment->magic, MAYDAY_SEGMENT_MAGIC, sizeof(segment->magic)) == 0 &&
           segment->slot_count >= 1 && segment->slot_count <= MAYDAY_SLOT_COUNT_MAX &&
           segment->lane_size >= MAYDAY_LANE_SIZE_MIN &&
           segment->lane_size <= MAYDAY_LANE_SIZE_MAX && segment->lane_size % 4096 == 0 &&
           segment->data_offset >= slots_end && segment->data_offset <= slots_end + 65536 &&
           segment->data_offset % 4096 == 0 && segment->segment_size == file_size &&
           file_size == segment->data_offset + (uint64_t) segment->slot_count * segment->lane_size;
}

static inline mayday_slot_t *
mayday_segment_slot(mayday_segment_t *segment, uint32_t index)
{
    return (mayday_slot_t *) (void *) ((char *) segment + MAYDAY_SEGMENT_HEADER_SIZE +
                                       (size_t) index * MAYDAY_SLOT_SIZE);
}

#endif
