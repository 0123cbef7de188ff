/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/ring_single.h - publishing on a ring with exactly one line, without locked instructions.
 *
 * One producer at a time needs no compare-and-swap to be the only one: it marks the slot as not yet there, writes it, and stamps
 * it.  Readers read such a ring as any other (ring.h).  All of it is for the line's process alone.
 */
#ifndef MDBUS_RING_SINGLE_H
#define MDBUS_RING_SINGLE_H

#include <mdbus/ring.h>

/* First third of publishing as the only line: mark the slot.  The record's stamp to be, or 0: *result says why not. */
static inline uint64_t mdbus_single_mark(const struct mdbus_ring *r, uint64_t pos, uint64_t gen, uint32_t len,
                                         enum mdbus_publish *result)
{
	struct mdbus_slot *slot = mdbus_ring_slot(r, pos);
	uint64_t have = mdbus_load_relaxed(&slot->head.lo), stamp;
	bool copy = len <= r->inline_max;

	if (!mdbus_stamp_older(have, pos, gen)) {
		*result = mdbus_publish_lost(have, pos, gen);
		return 0;
	}
	*result = copy ? MDBUS_PUBLISH_INLINE : MDBUS_PUBLISH_REF;
	stamp = mdbus_stamp_make(pos, gen, copy ? MDBUS_KIND_INLINE : MDBUS_KIND_REF, copy ? r->line : 0);
	MDBUS_HOOK("single.before");
#ifdef MDBUS_MUTANT_publish_before_payload
	mdbus_store_release(&slot->head.lo, stamp);
#elif !defined(MDBUS_MUTANT_no_mark)
	mdbus_store_relaxed(&slot->head.lo, mdbus_stamp_make(pos, gen, MDBUS_KIND_EMPTY, 0));
#endif
	MDBUS_HOOK("single.marked");
	return stamp;
}

/* Second third, behind a fence of release. */
static inline void mdbus_single_fill(const struct mdbus_ring *r, uint64_t pos, const uint8_t *bytes, uint64_t off, uint32_t len,
                                     uint64_t rx_ns, uint32_t flags)
{
	struct mdbus_slot *slot = mdbus_ring_slot(r, pos);

	mdbus_store_relaxed(&slot->head.hi, mdbus_ref_make(off, len, r->line, flags));
	if (len <= r->inline_max)
		mdbus_slot_fill(r, slot, bytes, len, rx_ns);
	MDBUS_HOOK("single.filled");
}

/* Last third. */
static inline void mdbus_single_stamp(const struct mdbus_ring *r, uint64_t pos, uint64_t stamp)
{
	mdbus_store_release(&mdbus_ring_slot(r, pos)->head.lo, stamp);
	MDBUS_HOOK("single.after");
}

/*
 * As mdbus_ring_publish, for a ring with exactly one line and so one producer at a time: mark, write, stamp, no locked
 * instruction.  The producer guarantees that (pos, gen) is newer than what the slot holds or finds that it is not.
 * Killed inside: the slot is marked EMPTY at pos, which readers take for "not yet"; the gap rule resolves it.
 */
static inline enum mdbus_publish mdbus_ring_publish_single(const struct mdbus_ring *r, uint64_t pos, uint64_t gen,
                                                           const uint8_t *bytes, uint64_t off, uint32_t len,
                                                           uint64_t rx_ns, uint32_t flags)
{
	enum mdbus_publish result;
	uint64_t stamp = mdbus_single_mark(r, pos, gen, len, &result);

	if (stamp == 0)
		return result;
	mdbus_fence_release();
	mdbus_single_fill(r, pos, bytes, off, len, rx_ns, flags);
	mdbus_single_stamp(r, pos, stamp);
	return result;
}

/* The same for n messages of one packet, their lines fetched together as by mdbus_ring_publish_batch.  Killed inside: as there. */
static inline void mdbus_ring_publish_single_batch(const struct mdbus_ring *r, uint64_t gen, struct mdbus_offer *o, uint32_t n,
                                                   uint64_t rx_ns, uint32_t flags)
{
	for (uint32_t i = 0; i < n; i++)
		o[i].stamp = mdbus_single_mark(r, o[i].pos, gen, o[i].len, &o[i].result);
	mdbus_fence_release();
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp != 0 && o[i].len <= r->inline_max)
			mdbus_slot_reach(r, mdbus_ring_slot(r, o[i].pos), o[i].len);
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp != 0)
			mdbus_single_fill(r, o[i].pos, o[i].bytes, o[i].off, o[i].len, rx_ns, flags);
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp != 0)
			mdbus_single_stamp(r, o[i].pos, o[i].stamp);
}

#endif
