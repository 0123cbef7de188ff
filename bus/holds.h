/* SPDX-License-Identifier: Apache-2.0
 *
 * holds.h - which frames of a line the rings still refer to, as the line itself remembers it.
 *
 * Private memory of the ingest process: per frame the number of reasons to keep it (slots published by reference, packets
 * kept back while a jump is being agreed on), and in publishing order every (channel, position) that refers to a frame.
 * It is only a cache: the rings are the truth, and mdbus_arena_scan rebuilds it from them after a crash.
 *
 * A frame is taken back oldest first.  Its slots have mostly been lapped by then, which takes one load to see; one
 * that has not is turned EXPIRED first, so that a reader learns "lost" and never reads a reused frame.
 */
#ifndef MDBUS_HOLDS_H
#define MDBUS_HOLDS_H

#include <mdbus/ring.h>

#define MDBUS_LOOSE_MAX 64u

struct mdbus_hold {
	uint64_t pos;
	uint32_t channel;
	uint16_t gen;
	uint64_t off; /* of the message, as in the ref */
};

struct mdbus_holds {
	uint16_t *refs; /* by frame */
	struct mdbus_hold *fifo;
	uint64_t head, tail; /* fifo[tail & mask] is the oldest */
	uint64_t mask;
	uint64_t frames_off;
	uint32_t frame_shift;
	uint32_t nframes;
	uint32_t loose[MDBUS_LOOSE_MAX]; /* frames let go while another packet was worked on: the caller frees them */
	uint32_t nloose;
};

/* 0 or -ENOMEM. `capacity` records by reference at most (rounded up to a power of two). */
int mdbus_holds_init(struct mdbus_holds *h, const struct mdbus_arena_hdr *arena, uint64_t capacity);
void mdbus_holds_free(struct mdbus_holds *h);

static inline uint32_t mdbus_holds_frame(const struct mdbus_holds *h, uint64_t off)
{
	return (uint32_t)((off - h->frames_off) >> h->frame_shift);
}

/* No room for the records of another batch. */
static inline bool mdbus_holds_full(const struct mdbus_holds *h)
{
	return h->head - h->tail + MDBUS_OWN_BATCH > h->mask + 1u;
}

/* Remember that the record of (pos, gen) refers to off.  Not when full. */
static inline void mdbus_holds_add(struct mdbus_holds *h, uint32_t channel, uint64_t pos, uint64_t gen, uint64_t off)
{
	h->fifo[h->head++ & h->mask] = (struct mdbus_hold){ pos, channel, (uint16_t)gen, off };
	h->refs[mdbus_holds_frame(h, off)]++;
}

/*
 * Let go of the oldest record: expire its slot if it still refers to the frame.  rings: by channel.  True and *frame if that
 * frame has no reason left to be kept; *expired is counted up when a record was cut short.  Not when empty.
 */
bool mdbus_holds_drop(struct mdbus_holds *h, const struct mdbus_ring *const *rings, uint32_t *frame,
                      uint64_t *expired);

static inline bool mdbus_holds_empty(const struct mdbus_holds *h)
{
	return h->head == h->tail;
}

#endif
