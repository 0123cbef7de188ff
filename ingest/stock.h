/* SPDX-License-Identifier: Apache-2.0
 *
 * stock.h - the frames of a line: how many are where, and what is done when those to receive into run short.
 *
 * Every frame is in exactly one place:
 *
 *	held      the rings refer to it, or a packet kept back while a jump is agreed on, or it was handed over (balance.h)
 *	rx        received, and not looked at yet
 *	fill      lent to the queue, empty
 *	pool      free, not lent
 *	reserve   free, and kept aside (`reserve_frames`)
 *
 * Free is what a packet can be received into: fill and pool.  A line that has fallen behind has few, since many are in rx,
 * and when none is left packets are lost for everybody.  So when they are fewer than `low_watermark`, first the reserve is
 * opened, and then the records by reference are swept: the oldest ones are turned EXPIRED, which only a subscriber that is
 * as far behind as they are old can notice, and it is told exactly.  Never a record that a gap before it keeps back: nobody could
 * have read that.  With twice the watermark free the reserve is filled again.
 *
 * Private memory of the ingest process; what it counts is in the arena for all to see.  A successor starts from what the rings
 * refer to: its reserve is full, if there are as many frames.
 */
#ifndef MDBUS_INGEST_STOCK_H
#define MDBUS_INGEST_STOCK_H

#include "../bus/channel.h"
#include "frames.h"

struct mdbus_stock {
	struct mdbus_arena_hdr *arena;
	struct mdbus_frames pool;
	struct mdbus_holds *holds;
	const struct mdbus_ring *const *ring; /* by channel */
	const struct mdbus_channel *channel;  /* by channel */
	uint32_t held;
	uint32_t low_watermark;
	struct mdbus_frames reserve; /* nframes: as many as it is to have */
	bool low;
};

/*
 * All frames that holds knows no reason to keep are free.  0 or -ENOMEM.  ring and channel are set by the caller before the first
 * mdbus_stock_look, and may be empty until then.
 */
int mdbus_stock_init(struct mdbus_stock *s, struct mdbus_arena_hdr *arena, struct mdbus_holds *holds,
                     const struct mdbus_line_desc *line);
void mdbus_stock_free(struct mdbus_stock *s);

/* Frames that were let go of while a packet was looked at. */
static inline void mdbus_stock_settle_loose(struct mdbus_stock *s)
{
	while (s->holds->nloose > 0) {
		mdbus_frames_put(&s->pool, s->holds->loose[--s->holds->nloose]);
		s->held--;
	}
}

/* A frame that only the loop still has: back to the pool, unless the rings or a candidate refer to it. */
static inline void mdbus_stock_settle(struct mdbus_stock *s, uint32_t frame)
{
	if (s->holds->refs[frame] == 0)
		mdbus_frames_put(&s->pool, frame);
	else
		s->held++;
	mdbus_stock_settle_loose(s);
}

/* A frame that another process looks at is a frame with one more reason to be kept. */
static inline void mdbus_stock_hand(struct mdbus_stock *s, uint32_t frame)
{
	s->held += s->holds->refs[frame]++ == 0;
}

/* That reason is gone. */
static inline void mdbus_stock_hand_back(struct mdbus_stock *s, uint32_t frame)
{
	if (--s->holds->refs[frame] != 0)
		return;
	mdbus_frames_put(&s->pool, frame);
	s->held--;
}

/* After each batch, before the queue is lent frames.  rx: packets that wait. */
void mdbus_stock_look(struct mdbus_stock *s, uint32_t rx);

/* Only count, once the queue has been lent what it takes. */
void mdbus_stock_tell(const struct mdbus_stock *s, uint32_t rx);

#endif
