/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"
#include "shape.h"

static bool carries(const struct mdbus_bus *bus, uint32_t channel, uint32_t line)
{
	return bus->dir->channel[channel].line_mask >> line & 1u && bus->ring[channel].base != NULL;
}

/* The newest position in a ring, so that a scan can go from the oldest to the newest. */
static uint64_t newest_pos(const struct mdbus_ring *r)
{
	uint64_t newest = 0;

	for (uint64_t i = 0; i <= r->mask; i++) {
		uint64_t pos = mdbus_stamp_pos(mdbus_load_relaxed(&mdbus_ring_slot(r, i)->head.lo));

		if (pos > newest)
			newest = pos;
	}
	return newest;
}

uint64_t mdbus_arena_scan(const struct mdbus_bus *bus, uint32_t line, struct mdbus_holds *h)
{
	uint64_t found = 0;

#ifdef MDBUS_MUTANT_recover_ignores_ring
	return found;
#endif
	for (uint32_t c = 0; c < bus->dir->nchannel; c++) {
		if (!carries(bus, c, line))
			continue;
		struct mdbus_ring r = mdbus_shape_ring_view(bus, c, line);
		uint64_t newest = newest_pos(&r);

		for (uint64_t i = 1; i <= r.mask + 1u && newest != 0; i++) {
			struct mdbus_slot *slot = mdbus_ring_slot(&r, newest + i);
			uint64_t stamp = mdbus_load_acquire(&slot->head.lo), ref = mdbus_load_relaxed(&slot->head.hi);
			uint64_t off = mdbus_ref_off(ref);

			if (mdbus_stamp_kind(stamp) != MDBUS_KIND_REF || mdbus_ref_line(ref) != line)
				continue;
			/* as many as the process before could hold: no room is kept for a batch */
			if (off < h->frames_off || mdbus_holds_frame(h, off) >= h->nframes || h->head - h->tail > h->mask)
				continue;
			mdbus_holds_add(h, c, mdbus_stamp_pos(stamp), mdbus_stamp_gen(stamp), off);
			found++;
		}
	}
	return found;
}

/* Take the line's mark off one slot. */
static bool unmark(struct mdbus_slot *slot, uint32_t line)
{
	struct mdbus_pair have = { mdbus_load_acquire(&slot->head.lo), mdbus_load_relaxed(&slot->head.hi) };

#ifdef MDBUS_MUTANT_reclaim_forgets
	return false;
#endif
	while (have.lo & (MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED) && mdbus_stamp_line(have.lo) == line) {
		struct mdbus_pair to = have;

		to.lo &= ~(uint64_t)(MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED | MDBUS_STAMP_LINE_MASK);
		MDBUS_HOOK("reclaim.unmark");
		if (mdbus_cas_pair(&slot->head, &have, to)) {
			MDBUS_HOOK("reclaim.unmarked");
			return true;
		}
	}
	return false;
}

uint64_t mdbus_line_reclaim(const struct mdbus_bus *bus, uint32_t line)
{
	uint64_t n = 0;

	for (uint32_t c = 0; c < bus->dir->nchannel; c++) {
		if (!carries(bus, c, line))
			continue;
		struct mdbus_ring r = mdbus_shape_ring_view(bus, c, MDBUS_LINES_MAX);

		for (uint64_t i = 0; i <= r.mask; i++)
			n += unmark(mdbus_ring_slot(&r, i), line);
	}
	return n;
}
