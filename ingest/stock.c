/* SPDX-License-Identifier: Apache-2.0 */
#include "stock.h"

#include <errno.h>
#include <stdlib.h>

#define SWEEP_MAX 1024u /* records at a time: packets wait meanwhile */

int mdbus_stock_init(struct mdbus_stock *s, struct mdbus_arena_hdr *arena, struct mdbus_holds *holds,
                     const struct mdbus_line_desc *line)
{
	uint32_t n = arena->nframes, aside = line->reserve_frames < n ? line->reserve_frames : 0;

	*s = (struct mdbus_stock){
		.arena = arena,
		.holds = holds,
		.pool = { .stack = calloc(n, sizeof(uint32_t)), .nframes = n },
		.reserve = { .stack = calloc(aside + 1u, sizeof(uint32_t)), .nframes = aside },
		.low_watermark = line->low_watermark,
	};
	if (s->pool.stack == NULL || s->reserve.stack == NULL) {
		mdbus_stock_free(s);
		return -ENOMEM;
	}
	for (uint32_t f = n; f-- > 0;) {
		if (holds->refs[f] != 0)
			s->held++;
		else
			mdbus_frames_put(s->reserve.nfree < aside ? &s->reserve : &s->pool, f);
	}
	mdbus_store_relaxed(&arena->count.frames_low_now, 0u);
	return 0;
}

void mdbus_stock_free(struct mdbus_stock *s)
{
	free(s->pool.stack);
	free(s->reserve.stack);
	*s = (struct mdbus_stock){ 0 };
}

static void move(struct mdbus_frames *from, struct mdbus_frames *to, uint32_t n)
{
	uint32_t frame;

	while (n-- > 0 && mdbus_frames_get(from, &frame))
		mdbus_frames_put(to, frame);
}

/* The oldest record goes. */
static void drop(struct mdbus_stock *s, uint64_t *expired)
{
	uint32_t frame;

	if (mdbus_holds_drop(s->holds, s->ring, &frame, expired)) {
		mdbus_frames_put(&s->pool, frame);
		s->held--;
	}
}

/* At most half of the frames are held, since what the queue receives into must come from somewhere. */
static void keep_half(struct mdbus_stock *s)
{
	uint32_t half = (s->arena->nframes - s->reserve.nfree) / 2u;
	uint64_t expired = 0;

	while (!mdbus_holds_empty(s->holds) && (s->held > half || mdbus_holds_full(s->holds)))
		drop(s, &expired);
	if (expired != 0)
		mdbus_count(&s->arena->count.frames_expired, expired);
}

/* Subscribers can have read the record: no gap before it is open. */
static bool is_out(const struct mdbus_stock *s, const struct mdbus_hold *h)
{
	const struct mdbus_channel *c = &s->channel[h->channel];

#ifdef MDBUS_MUTANT_sweep_blind
	return true;
#endif
	return !c->desc.ordered || h->pos < c->resolver.head;
}

static void sweep(struct mdbus_stock *s, uint32_t wanted)
{
	uint32_t enough = s->held > wanted ? s->held - wanted : 0;
	uint64_t expired = 0;

#ifdef MDBUS_MUTANT_skip_sweep
	return;
#endif
	for (uint32_t i = 0; i < SWEEP_MAX && s->held > enough && !mdbus_holds_empty(s->holds) &&
	                     is_out(s, &s->holds->fifo[s->holds->tail & s->holds->mask]); i++)
		drop(s, &expired);
	if (expired != 0) {
		mdbus_count(&s->arena->count.frames_expired, expired);
		mdbus_count(&s->arena->count.frames_swept, expired);
	}
}

static uint32_t count_free(const struct mdbus_stock *s, uint32_t rx)
{
	uint32_t used = s->reserve.nfree + s->held + rx;

	return s->arena->nframes > used ? s->arena->nframes - used : 0;
}

static void set_low(struct mdbus_stock *s, bool low)
{
	s->low = low;
	if (low)
		mdbus_count(&s->arena->count.frames_low, 1u);
	mdbus_store_relaxed(&s->arena->count.frames_low_now, low);
}

/* Fill the reserve with what is free beyond twice the watermark, and is here. */
static void recede(struct mdbus_stock *s, uint32_t free)
{
	uint32_t lacking = s->reserve.nframes - s->reserve.nfree, spare = free - 2u * s->low_watermark;

	move(&s->pool, &s->reserve, spare < lacking ? spare : lacking);
	if (s->reserve.nfree == s->reserve.nframes)
		set_low(s, false);
}

void mdbus_stock_tell(const struct mdbus_stock *s, uint32_t rx)
{
	struct mdbus_arena_hdr *a = s->arena;

	mdbus_store_relaxed(&a->count.frames_held, s->held);
	mdbus_store_relaxed(&a->count.frames_free, a->nframes - s->held);
	mdbus_store_relaxed(&a->count.frames_pool, s->pool.nfree);
	mdbus_store_relaxed(&a->count.frames_rx, rx);
	mdbus_store_relaxed(&a->count.frames_reserve, s->reserve.nfree);
}

void mdbus_stock_look(struct mdbus_stock *s, uint32_t rx)
{
	uint32_t free;

	keep_half(s);
	free = count_free(s, rx);
	if (!s->low && free < s->low_watermark) {
		set_low(s, true);
		move(&s->reserve, &s->pool, s->reserve.nfree);
		free = count_free(s, rx);
	}
	if (s->low && free < s->low_watermark) {
		sweep(s, s->low_watermark - free);
		free = count_free(s, rx);
	}
	if (s->low && free >= 2u * s->low_watermark)
		recede(s, free);
	mdbus_stock_tell(s, rx);
}
