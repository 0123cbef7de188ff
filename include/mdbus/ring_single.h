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

/* The stamp of a record as it is published in the end. */
static inline uint64_t mdbus_single_stamp(const struct mdbus_ring *r, uint64_t pos, uint64_t gen, uint32_t len)
{
	return len <= r->inline_max ? mdbus_stamp_make(pos, gen, MDBUS_KIND_INLINE, r->line)
	                            : mdbus_stamp_make(pos, gen, MDBUS_KIND_REF, 0);
}

/* First third of publishing: mark the slot that will have this stamp.  False: it holds this record already, or a newer one. */
static inline bool mdbus_single_mark(struct mdbus_slot *slot, uint64_t stamp)
{
	uint64_t pos = mdbus_stamp_pos(stamp), gen = mdbus_stamp_gen(stamp);

	if (!mdbus_stamp_older(mdbus_load_relaxed(&slot->head.lo), pos, gen))
		return false;
	MDBUS_HOOK("single.before");
#if defined(MDBUS_MUTANT_publish_before_payload)
	mdbus_store_release(&slot->head.lo, stamp);
#elif !defined(MDBUS_MUTANT_no_mark)
	mdbus_store_relaxed(&slot->head.lo, mdbus_stamp_make(pos, gen, MDBUS_KIND_EMPTY, 0));
#endif
	MDBUS_HOOK("single.marked");
	return true;
}

/* The other two, behind a fence of release: fill the slot and stamp it. */
static inline enum mdbus_publish mdbus_single_finish(const struct mdbus_ring *r, struct mdbus_slot *slot, uint64_t stamp,
                                                     const uint8_t *bytes, uint64_t off, uint32_t len, uint64_t rx_ns,
                                                     uint32_t flags)
{
	mdbus_store_relaxed(&slot->head.hi, mdbus_ref_make(off, len, r->line, flags));
	if (len <= r->inline_max)
		mdbus_slot_fill(r, slot, bytes, len, rx_ns);
	MDBUS_HOOK("single.filled");
	mdbus_store_release(&slot->head.lo, stamp);
	MDBUS_HOOK("single.after");
	return len <= r->inline_max ? MDBUS_PUBLISH_INLINE : MDBUS_PUBLISH_REF;
}

/*
 * As mdbus_ring_publish, for a ring with exactly one line and so one producer at a time: mark, write, stamp, no locked
 * instruction.  The producer guarantees that (pos, gen) is newer than what the slot holds or finds that it is not.
 * Killed inside: the slot is marked EMPTY at pos, which readers take for "not yet"; the gap rule resolves it.
 */
static inline enum mdbus_publish mdbus_ring_publish_single(const struct mdbus_ring *ring, uint64_t pos, uint64_t gen,
                                                           const uint8_t *bytes, uint64_t off, uint32_t len,
                                                           uint64_t rx_ns, uint32_t flags)
{
	const struct mdbus_ring r = *ring; /* or it would be read again after each store, which might have changed it */
	struct mdbus_slot *slot = mdbus_ring_slot(&r, pos);
	uint64_t stamp = mdbus_single_stamp(&r, pos, gen, len);

	if (!mdbus_single_mark(slot, stamp))
		return mdbus_publish_lost(mdbus_load_relaxed(&slot->head.lo), pos, gen);
	mdbus_fence_release();
	return mdbus_single_finish(&r, slot, stamp, bytes, off, len, rx_ns, flags);
}

/* The same for n messages of one packet, their lines fetched together as by mdbus_ring_publish_batch.  Killed inside: as there. */
static inline void mdbus_ring_publish_single_batch(const struct mdbus_ring *ring, uint64_t gen, struct mdbus_offer *o, uint32_t n,
                                                   uint64_t rx_ns, uint32_t flags)
{
	const struct mdbus_ring r = *ring;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t stamp = mdbus_single_stamp(&r, o[i].pos, gen, o[i].len);

		o[i].stamp = mdbus_single_mark(mdbus_ring_slot(&r, o[i].pos), stamp) ? stamp : 0;
	}
	mdbus_fence_release();
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp != 0 && o[i].len <= r.inline_max)
			mdbus_slot_reach(&r, mdbus_ring_slot(&r, o[i].pos), o[i].len);
	for (uint32_t i = 0; i < n; i++) {
		struct mdbus_slot *slot = mdbus_ring_slot(&r, o[i].pos);

		o[i].result = o[i].stamp != 0
		                      ? mdbus_single_finish(&r, slot, o[i].stamp, o[i].bytes, o[i].off, o[i].len, rx_ns, flags)
		                      : mdbus_publish_lost(mdbus_load_relaxed(&slot->head.lo), o[i].pos, gen);
	}
}

#endif
