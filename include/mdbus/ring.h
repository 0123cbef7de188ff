/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/ring.h - the slot protocol: publish, expire and read one record, lock-free between processes.
 *
 * The idea.  A record belongs at slot[pos mod depth] and nowhere else.  The message's bytes are already whole in the arena
 * of the line that received it, so one 16-byte compare-and-swap of {stamp, ref}, from any older stamp, does everything at
 * once: it publishes the record, makes every other copy of it a duplicate, and retires the record of a lap ago.
 * Nothing is ever claimed first and filled in later, so a producer may be killed or stopped at any instruction and
 * nobody waits for it.
 *
 *                       CAS                      copy, CAS
 *    any older stamp ---------> REF|W (by ref) -------------> INLINE            fits the slot
 *    any older stamp ---------> REF                                             does not fit, or:
 *    older REF|W(v), T(v) ----> REF|T(v)  ------------------> REF               v was stopped inside its copy; when it
 *                                          CAS by v, mdbusd                     wakes it finds its CAS failed, clears T
 *    REF, REF|T --------------> EXPIRED                                         owner takes its frame back
 *    any older stamp ---------> GAP, SKIP, RESET, JUMP                          channel.h says when
 *
 * Inline bytes are an accelerator, never a truth: in REF|W they may be half written, and a reader uses the ref.
 * In REF|T a writer of a lap ago may scribble over them at any time, which hurts nobody because nobody reads them.
 *
 * Memory order.  Four arguments, from what atomics.h says of each operation:
 *
 * - What a stamp promises is there.  The frame's bytes were stored by the NIC or kernel before the descriptor was seen, or by
 *   this process, and the compare-and-swap that makes the stamp releases them; the inline copy is released by the second one.
 *   Who has loaded the stamp with acquire loads those bytes or newer ones.
 * - Newer bytes mean a newer stamp.  Before inline bytes change, or a frame is let go, the stamp has been changed, and a
 *   release fence stands between that and the stores it permits: acquire and release alone would let them pass a compare-and-
 *   swap (aarch64 without LSE).  A reader copies, fences and loads the stamp again.  If any byte was of later stores, that
 *   load sees the later stamp; if it is equal, no byte was.
 * - That holds too if it was another line that changed the stamp.  Who finds a slot lapped and so its frame free has loaded
 *   the newer stamp, if only relaxed; the fence orders that load before the stores into the frame, and since memory is
 *   multi-copy atomic, a reader of those stores finds that stamp or one still newer.
 * - Stamp and ref belong together.  They change as one, and no stamp comes back to a slot (positions grow; within one, only
 *   kind and marks go forward), so a ref loaded between two equal stamps is theirs.  A compare-and-swap starts from two relaxed
 *   loads: if they do not belong together it fails, and brings the pair.
 *
 * Single-line rings have one producer and nothing to arbitrate: it marks the slot (EMPTY at the new pos), writes, and
 * stamps with plain release stores.  There the mark and its fence are the second argument, the stamp's release the first.
 *
 * tests/t_aarch64.sh finds each of these orders in the machine code; tests/model and unit_interleave.c try all interleavings.
 */
#ifndef MDBUS_RING_H
#define MDBUS_RING_H

#include <mdbus/abi.h>
#include <mdbus/hook.h>
#include <stdbool.h>
#include <string.h>

#define MDBUS_STAMP_LINE_MASK 0x7u
#define MDBUS_STAMP_TAINTED   0x8u
#define MDBUS_STAMP_WRITING   0x10u
#define MDBUS_STAMP_KIND_SHIFT 5
#define MDBUS_STAMP_GEN_SHIFT 8
#define MDBUS_STAMP_POS_SHIFT 16

static inline uint64_t mdbus_stamp_make(uint64_t pos, uint64_t gen, enum mdbus_kind kind, uint32_t low)
{
	return pos << MDBUS_STAMP_POS_SHIFT | (gen & 0xffu) << MDBUS_STAMP_GEN_SHIFT |
	       (uint64_t)kind << MDBUS_STAMP_KIND_SHIFT | low;
}

static inline uint64_t mdbus_stamp_pos(uint64_t stamp)
{
	return stamp >> MDBUS_STAMP_POS_SHIFT;
}

static inline uint8_t mdbus_stamp_gen(uint64_t stamp)
{
	return (uint8_t)(stamp >> MDBUS_STAMP_GEN_SHIFT);
}

static inline enum mdbus_kind mdbus_stamp_kind(uint64_t stamp)
{
	return (enum mdbus_kind)(stamp >> MDBUS_STAMP_KIND_SHIFT & 7u);
}

static inline uint32_t mdbus_stamp_line(uint64_t stamp)
{
	return (uint32_t)stamp & MDBUS_STAMP_LINE_MASK;
}

/* True if a record at (pos, gen) may replace this stamp: another lap, an older generation, or only a mark. */
static inline bool mdbus_stamp_older(uint64_t stamp, uint64_t pos, uint64_t gen)
{
	uint64_t have = mdbus_stamp_pos(stamp);

	if (have != pos)
		return have < pos;
#ifdef MDBUS_MUTANT_epoch_ignored
	return mdbus_stamp_kind(stamp) == MDBUS_KIND_EMPTY;
#endif
	int8_t ahead = (int8_t)(uint8_t)(gen - mdbus_stamp_gen(stamp));

	return ahead > 0 || (ahead == 0 && mdbus_stamp_kind(stamp) == MDBUS_KIND_EMPTY);
}

/* True if this stamp is the record of (pos, gen), of whatever kind. */
static inline bool mdbus_stamp_is(uint64_t stamp, uint64_t pos, uint64_t gen)
{
	return stamp >> MDBUS_STAMP_GEN_SHIFT == (pos << 8 | (gen & 0xffu)) &&
	       mdbus_stamp_kind(stamp) != MDBUS_KIND_EMPTY;
}

#define MDBUS_REF_OFF_MAX ((UINT64_C(1) << 36) - 1u)

/* The top byte of a ref, and of the value of a mark, is always 0: mdbus_ring_own. */
static inline uint64_t mdbus_ref_make(uint64_t off, uint32_t len, uint32_t line, uint32_t flags)
{
	return (off & MDBUS_REF_OFF_MAX) << 20 | (uint64_t)(len & 0xffffu) << 4 | (uint64_t)(line & 7u) << 1 | (flags & 1u);
}

static inline uint64_t mdbus_ref_off(uint64_t ref)
{
	return ref >> 20 & MDBUS_REF_OFF_MAX;
}

static inline uint32_t mdbus_ref_len(uint64_t ref)
{
	return (uint32_t)(ref >> 4) & 0xffffu;
}

static inline uint32_t mdbus_ref_line(uint64_t ref)
{
	return (uint32_t)(ref >> 1) & 7u;
}

static inline uint32_t mdbus_ref_flags(uint64_t ref)
{
	return (uint32_t)ref & 1u;
}

/* One process's view of a ring: private memory, made by mdbus_ring_view from a checked segment. */
struct mdbus_ring {
	uint8_t *slots;
	uint64_t mask;        /* depth - 1 */
	uint32_t shift;       /* log2(slot_size) */
	uint32_t inline_max;  /* longest message that is copied inline, bytes */
	uint32_t time_bytes;  /* 8 in a timed ring, else 0 */
	uint32_t line;        /* of a producer; MDBUS_LINES_MAX: none (mdbusd, readers) */
	struct mdbus_ring_hdr *hdr;
};

/* line: the caller's line when it is a producer, else MDBUS_LINES_MAX.  hdr stays mapped as long as the view is used. */
static inline struct mdbus_ring mdbus_ring_view(struct mdbus_ring_hdr *hdr, uint32_t line)
{
	struct mdbus_ring r = {
		.slots = (uint8_t *)hdr + hdr->slots_off,
		.mask = hdr->depth - 1u,
		.shift = (uint32_t)__builtin_ctz(hdr->slot_size),
		.time_bytes = hdr->timed ? 8u : 0u,
		.line = line,
		.hdr = hdr,
	};

	r.inline_max = hdr->slot_size - (uint32_t)sizeof(struct mdbus_slot) - r.time_bytes;
	return r;
}

static inline struct mdbus_slot *mdbus_ring_slot(const struct mdbus_ring *r, uint64_t pos)
{
	return (struct mdbus_slot *)(void *)(r->slots + ((pos & r->mask) << r->shift));
}

#define MDBUS_OWN_BATCH 8u /* slots to take at once; more are stolen back by the readers' own prefetchers meanwhile */

/*
 * Make the cache lines of the slots [pos, pos + n) this core's own, all at once, before their messages are published one
 * by one.  A slot that is published anew was last read by the readers, and a locked instruction waits for its line to be
 * taken from them, one core-to-core round trip for each message; plain stores wait for all lines together.  (prefetchw does
 * not make a shared line one's own on every processor, not on the EPYC it was measured on.)  The store
 * changes nothing: it writes 0 to a byte of the ref that is always 0.  A slot that another line has published
 * already is left to its readers.  Lines only.  Killed inside: nothing has happened.
 */
static inline void mdbus_ring_own(const struct mdbus_ring *r, uint64_t pos, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		struct mdbus_slot *slot = mdbus_ring_slot(r, pos + i);

		if (mdbus_stamp_pos(mdbus_load_relaxed(&slot->head.lo)) < pos + i)
			mdbus_store_relaxed((uint8_t *)&slot->head.hi + 7, (uint8_t)0);
	}
}

/*
 * Make one cache line of a slot that will be published soon this core's own: the one that lies `at` bytes behind the first,
 * which readers look at all the time and take away again.  The lines of a long message then need not be fetched
 * between the two halves of its publication.  Waits for that one line; the atomic operation changes nothing, whoever reads or
 * fills the slot meanwhile.  Lines only, when they have nothing else to do.  Killed inside: nothing has happened.
 */
static inline void mdbus_ring_warm(const struct mdbus_ring *r, uint64_t pos, uint32_t at)
{
	uint32_t *word = (uint32_t *)(void *)((uint8_t *)mdbus_ring_slot(r, pos) + at);

#if defined(MDBUS_MUTANT_warm_by_store)
	uint32_t was = mdbus_load_relaxed(word);

	for (unsigned i = 0; i < 64; i++)
		mdbus_pause();
	mdbus_store_relaxed(word, was);
#elif defined(__x86_64__)
	__asm__ __volatile__("lock; orl $0, %0" : "+m"(*word)); /* compilers make a fence and a load of the builtin */
#else
	__atomic_fetch_or(word, 0u, __ATOMIC_RELAXED);
#endif
}

/* Copy of a short message; inlined by size class because most are 20 to 60 bytes. */
static inline void mdbus_copy(uint8_t *to, const uint8_t *from, uint32_t len)
{
	if (len >= 16u) {
		uint32_t i = 0;

		for (; i + 32u <= len; i += 32u)
			__builtin_memcpy(to + i, from + i, 32);
		if (i + 16u <= len) {
			__builtin_memcpy(to + i, from + i, 16);
			i += 16u;
		}
		if (i < len)
			__builtin_memcpy(to + len - 16u, from + len - 16u, 16);
		return;
	}
	if (len >= 8u) {
		__builtin_memcpy(to, from, 8);
		__builtin_memcpy(to + len - 8u, from + len - 8u, 8);
	} else if (len >= 4u) {
		__builtin_memcpy(to, from, 4);
		__builtin_memcpy(to + len - 4u, from + len - 4u, 4);
	} else {
		for (uint32_t i = 0; i < len; i++)
			to[i] = from[i];
	}
}

enum mdbus_publish {
	MDBUS_PUBLISH_REF = 0,    /* published; the slot refers to the frame, which must stay */
	MDBUS_PUBLISH_INLINE = 1, /* published; the frame is no longer needed */
	MDBUS_PUBLISH_DUPLICATE = 2, /* another copy of it is or was here */
	MDBUS_PUBLISH_LATE = 3,   /* its position holds GAP, SKIP or the end of its generation, or has been lapped */
};

/* How an attempt at (pos, gen) that found `stamp` failed. */
static inline enum mdbus_publish mdbus_publish_lost(uint64_t stamp, uint64_t pos, uint64_t gen)
{
	enum mdbus_kind kind = mdbus_stamp_kind(stamp);
	bool data = kind == MDBUS_KIND_REF || kind == MDBUS_KIND_INLINE || kind == MDBUS_KIND_EXPIRED;

	return mdbus_stamp_is(stamp, pos, gen) && data ? MDBUS_PUBLISH_DUPLICATE : MDBUS_PUBLISH_LATE;
}

/*
 * After a failed upgrade: the ring lapped this writer while it copied, and its successor is marked as tainted by it.
 * The copy is over now, so take the mark off.  Killed inside: the mark stays until mdbusd clears it (arena.h).
 */
static inline void mdbus_ring_untaint(struct mdbus_slot *slot, uint32_t line)
{
	struct mdbus_pair have = { mdbus_load_acquire(&slot->head.lo), mdbus_load_relaxed(&slot->head.hi) };

	while ((have.lo & MDBUS_STAMP_TAINTED) && mdbus_stamp_line(have.lo) == line) {
		struct mdbus_pair clean = { have.lo & ~(uint64_t)(MDBUS_STAMP_TAINTED | MDBUS_STAMP_LINE_MASK), have.hi };

		MDBUS_HOOK("untaint");
		if (mdbus_cas_pair(&slot->head, &have, clean))
			return;
	}
}

/* The bytes of a slot that a reader takes for the message. */
static inline void mdbus_slot_fill(const struct mdbus_ring *r, struct mdbus_slot *slot, const uint8_t *bytes,
                                   uint32_t len, uint64_t rx_ns)
{
	if (r->time_bytes)
		__builtin_memcpy(slot->bytes, &rx_ns, sizeof(rx_ns));
	MDBUS_HOOK("inline.half");
	mdbus_copy(slot->bytes + r->time_bytes, bytes, len);
}

/*
 * Have the further cache lines of a slot that this line is about to fill fetched all together: one store for each is more of them
 * under way at once than the copy's many.  A part of filling it.
 */
static inline void mdbus_slot_reach(const struct mdbus_ring *r, struct mdbus_slot *slot, uint32_t len)
{
	uint32_t end = (uint32_t)sizeof(*slot) + r->time_bytes + len;

	for (uint32_t at = MDBUS_CACHE_LINE; at < end; at += MDBUS_CACHE_LINE)
		mdbus_store_relaxed((uint8_t *)slot + at, (uint8_t)0);
}

/*
 * First half of publishing: make (pos, gen) refer to the message at off in this line's arena, unless it has a record.  *stamp is
 * then the record's stamp.  If that says WRITING, mdbus_ring_upgrade has to follow, soon.  Killed after it: the record is
 * published by reference for good; mdbusd clears the mark.
 */
static inline enum mdbus_publish mdbus_ring_publish_ref(const struct mdbus_ring *r, uint64_t pos, uint64_t gen, uint64_t off,
                                                        uint32_t len, uint32_t flags, uint64_t *stamp)
{
	struct mdbus_slot *slot = mdbus_ring_slot(r, pos);
	struct mdbus_pair have = { mdbus_load_relaxed(&slot->head.lo), mdbus_load_relaxed(&slot->head.hi) };
	struct mdbus_pair to = { 0, mdbus_ref_make(off, len, r->line, flags) };
	uint32_t mark = len <= r->inline_max ? MDBUS_STAMP_WRITING | r->line : 0;

	do {
		uint32_t low = mark;

		if (!mdbus_stamp_older(have.lo, pos, gen))
			return mdbus_publish_lost(have.lo, pos, gen);
#ifndef MDBUS_MUTANT_no_taint
		if (have.lo & (MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED) && mdbus_stamp_line(have.lo) != r->line)
			low = MDBUS_STAMP_TAINTED | mdbus_stamp_line(have.lo);
#endif
		to.lo = mdbus_stamp_make(pos, gen, MDBUS_KIND_REF, low);
		MDBUS_HOOK("publish.before");
	} while (!mdbus_cas_pair(&slot->head, &have, to));
#ifdef MDBUS_MUTANT_slow_publish
	__asm__ __volatile__("nop; nop; nop; nop; nop");
#endif
	MDBUS_HOOK("publish.after");
	*stamp = to.lo;
	return MDBUS_PUBLISH_REF;
}

/* Second half, between two fences of release: the bytes are in the slot, say so.  REF: it stays by reference. */
static inline enum mdbus_publish mdbus_ring_upgrade(const struct mdbus_ring *r, struct mdbus_slot *slot, uint64_t stamp,
                                                    uint64_t ref)
{
	uint64_t pos = mdbus_stamp_pos(stamp), gen = mdbus_stamp_gen(stamp);
	struct mdbus_pair done = { mdbus_stamp_make(pos, gen, MDBUS_KIND_INLINE, r->line), ref };

	MDBUS_HOOK("inline.before");
#ifdef MDBUS_MUTANT_plain_inline
	slot->head = done;
#else
	struct mdbus_pair have = { stamp, ref };

	if (!mdbus_cas_pair(&slot->head, &have, done)) {
		mdbus_ring_untaint(slot, r->line);
		/* this writer was taken for dead and its mark cleared: the record stays by reference */
		if (mdbus_stamp_is(have.lo, pos, gen) && mdbus_stamp_kind(have.lo) == MDBUS_KIND_REF)
			return MDBUS_PUBLISH_REF;
	}
#endif
	MDBUS_HOOK("inline.after");
	return MDBUS_PUBLISH_INLINE;
}

/*
 * Publish one message that lies at bytes (off in this line's arena, whose frame's meta is already written) as the
 * record of (pos, gen), unless it has one.  Any line's process, rings with several lines.
 * len <= MDBUS_MESSAGE_MAX.
 * Killed inside: before the first CAS nothing has happened; after it the record is published by reference for good, and
 * the frame is found in use by the next mdbus_arena_scan; readers never wait.
 */
static inline enum mdbus_publish mdbus_ring_publish(const struct mdbus_ring *ring, uint64_t pos, uint64_t gen,
                                                    const uint8_t *bytes, uint64_t off, uint32_t len,
                                                    uint64_t rx_ns, uint32_t flags)
{
	const struct mdbus_ring r = *ring; /* or it would be read again after each store, which might have changed it */
	struct mdbus_slot *slot = mdbus_ring_slot(&r, pos);
	uint64_t stamp = 0;
	enum mdbus_publish p = mdbus_ring_publish_ref(&r, pos, gen, off, len, flags, &stamp);

	if (p != MDBUS_PUBLISH_REF || !(stamp & MDBUS_STAMP_WRITING))
		return p;
	mdbus_fence_release();
	mdbus_slot_fill(&r, slot, bytes, len, rx_ns);
	p = mdbus_ring_upgrade(&r, slot, stamp, mdbus_ref_make(off, len, r.line, flags));
	mdbus_fence_release(); /* the caller may reuse the frame now */
	return p;
}

/* One of several messages to publish, and what became of it. */
struct mdbus_offer {
	uint64_t pos;
	const uint8_t *bytes;
	uint64_t off;
	uint32_t len;
	enum mdbus_publish result;
	uint64_t stamp;
};

/* True if publishing together pays: slots of more than one cache line. */
static inline bool mdbus_ring_batches(const struct mdbus_ring *r)
{
	return r->hdr->slot_size > MDBUS_CACHE_LINE;
}

/*
 * As mdbus_ring_publish, for n <= MDBUS_OWN_BATCH messages of one packet.  Their slots are taken for writing together, and all
 * are copied between all first halves and all second ones: the lines come over from the readers' cores at the same time,
 * instead of one after the other at each locked instruction.
 * Killed inside: each message is as if published alone.
 */
static inline void mdbus_ring_publish_batch(const struct mdbus_ring *r, uint64_t gen, struct mdbus_offer *o, uint32_t n,
                                            uint64_t rx_ns, uint32_t flags)
{
	for (uint32_t i = 0; i < n; i++)
		mdbus_ring_own(r, o[i].pos, 1);
	for (uint32_t i = 0; i < n; i++) {
		o[i].stamp = 0;
		o[i].result = mdbus_ring_publish_ref(r, o[i].pos, gen, o[i].off, o[i].len, flags, &o[i].stamp);
	}
	mdbus_fence_release();
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp & MDBUS_STAMP_WRITING)
			mdbus_slot_reach(r, mdbus_ring_slot(r, o[i].pos), o[i].len);
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp & MDBUS_STAMP_WRITING)
			mdbus_slot_fill(r, mdbus_ring_slot(r, o[i].pos), o[i].bytes, o[i].len, rx_ns);
	for (uint32_t i = 0; i < n; i++)
		if (o[i].stamp & MDBUS_STAMP_WRITING)
			o[i].result = mdbus_ring_upgrade(r, mdbus_ring_slot(r, o[i].pos), o[i].stamp,
			                                 mdbus_ref_make(o[i].off, o[i].len, r->line, flags));
	mdbus_fence_release(); /* the caller may reuse the frame now */
}

/*
 * Put a record without bytes (GAP, SKIP, RESET, JUMP) at (pos, gen) unless it has a record.  value goes into ref.
 * True if it was this call's record that stands there now.  A stopped writer's W or T mark is carried on as T.
 * Any line's process, or mdbusd.  Killed inside: done or not done.
 */
static inline bool mdbus_ring_mark(const struct mdbus_ring *r, uint64_t pos, uint64_t gen, enum mdbus_kind kind,
                                   uint64_t value)
{
	struct mdbus_slot *slot = mdbus_ring_slot(r, pos);
	struct mdbus_pair have = { mdbus_load_relaxed(&slot->head.lo), mdbus_load_relaxed(&slot->head.hi) };
	struct mdbus_pair to = { 0, value };

	do {
		uint32_t low = 0;

		if (!mdbus_stamp_older(have.lo, pos, gen))
			return false;
		if (have.lo & (MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED) && mdbus_stamp_line(have.lo) != r->line)
			low = MDBUS_STAMP_TAINTED | mdbus_stamp_line(have.lo);
		to.lo = mdbus_stamp_make(pos, gen, kind, low);
		MDBUS_HOOK("mark.before");
	} while (!mdbus_cas_pair(&slot->head, &have, to));
	MDBUS_HOOK("mark.after");
	return true;
}

/*
 * Take a frame back from the record of (pos, gen) if that is still by reference to exactly (off, line).  After the
 * call the slot no longer refers to the frame, whatever the answer.  True if a record was expired by this call.
 * Only the owner of the frame.  Killed inside: expired or not; a later scan finds the frame free or in use accordingly.
 */
static inline bool mdbus_ring_expire(const struct mdbus_ring *r, uint64_t pos, uint64_t gen, uint64_t off)
{
	struct mdbus_slot *slot = mdbus_ring_slot(r, pos);
	struct mdbus_pair have = { mdbus_load_relaxed(&slot->head.lo), mdbus_load_relaxed(&slot->head.hi) };
	bool expired = false;

	while (!expired && mdbus_stamp_is(have.lo, pos, gen) && mdbus_stamp_kind(have.lo) == MDBUS_KIND_REF &&
	       mdbus_ref_off(have.hi) == off && mdbus_ref_line(have.hi) == r->line) {
		uint32_t low = (uint32_t)have.lo & (MDBUS_STAMP_TAINTED | MDBUS_STAMP_LINE_MASK);
		struct mdbus_pair to = { mdbus_stamp_make(pos, gen, MDBUS_KIND_EXPIRED, low), have.hi };

		MDBUS_HOOK("expire.before");
#ifdef MDBUS_MUTANT_reuse_before_expire
		(void)to;
		expired = true;
#else
		expired = mdbus_cas_pair(&slot->head, &have, to);
#endif
		MDBUS_HOOK("expire.after");
	}
	mdbus_fence_release(); /* the caller may reuse the frame now */
	return expired;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

enum mdbus_look {
	MDBUS_LOOK_NONE = 0, /* not published yet */
	MDBUS_LOOK_RECORD,   /* *stamp and *ref are the record of (pos, gen) */
	MDBUS_LOOK_LAPPED,   /* the slot holds a newer position */
};

#define MDBUS_WRITING_SPINS 16 /* loads a reader spends on a slot whose inline copy is under way */

/*
 * When a reader that cares for the rate of messages more than for the time of each looks again.  A reader at a line's heels, and its
 * prefetcher, take slots away that are just being written; one that comes behind finds many whole ones at once.  So it
 * rests longer each time as long as enough comes meanwhile, and not at all where messages are few.  Private to the reader.
 */
struct mdbus_rest {
	uint64_t found;  /* records, since it rested */
	uint64_t pauses; /* it rested then */
};

#define MDBUS_REST_MAX   512u /* pauses; some 10 us */
#define MDBUS_REST_SPARE 8u   /* a rest was too long if it brought fewer records than one in so many pauses */

/* After a look that found nothing. */
static inline void mdbus_rest_take(struct mdbus_rest *rest)
{
	uint64_t pauses = rest->found * MDBUS_REST_SPARE < rest->pauses ? rest->found : rest->pauses + rest->found;

	rest->pauses = pauses < MDBUS_REST_MAX ? pauses : MDBUS_REST_MAX;
	rest->found = 0;
	for (uint64_t i = rest->pauses < MDBUS_REST_SPARE ? 1u : rest->pauses; i > 0; i--)
		mdbus_pause();
}

/*
 * Look at (pos, gen).  Any process, read-only mapping.  stamp and ref belong together.  The bytes are to be used only
 * after their place has been checked (mdbus_ring_bytes) and believed only after mdbus_ring_still.
 */
static inline enum mdbus_look mdbus_ring_look(const struct mdbus_ring *r, uint64_t pos, uint64_t gen, uint64_t *stamp,
                                              uint64_t *ref)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(r, pos);
	struct mdbus_pair p;

	for (int spin = 0;; spin++) {
		p.lo = mdbus_load_acquire(&slot->head.lo);
		if (mdbus_stamp_pos(p.lo) < pos)
			return MDBUS_LOOK_NONE;
		if (!mdbus_stamp_is(p.lo, pos, gen))
			return mdbus_stamp_pos(p.lo) > pos ? MDBUS_LOOK_LAPPED : MDBUS_LOOK_NONE;
		if ((p.lo & MDBUS_STAMP_WRITING) && spin < MDBUS_WRITING_SPINS) {
			mdbus_pause();
			continue;
		}
		p.hi = mdbus_load_relaxed(&slot->head.hi);
		mdbus_fence_acquire();
		if (mdbus_load_relaxed(&slot->head.lo) == p.lo)
			break;
	}
	*stamp = p.lo;
	*ref = p.hi;
	return MDBUS_LOOK_RECORD;
}

/*
 * True if every byte read since the record was seen as `stamp` belonged to it.  Loads before this call are ordered before the
 * check.  False: look again.  It need not be lost: the bytes read by reference while the inline copy was under way
 * are no longer vouched for when the copy is done, since the frame may have been reused since.
 * Compared are position, generation and kind; the clearing of a mark changes nothing about a record.
 */
static inline bool mdbus_ring_still(const struct mdbus_slot *slot, uint64_t stamp)
{
#ifdef MDBUS_MUTANT_skip_recheck
	(void)slot;
	(void)stamp;
	return true;
#else
	mdbus_fence_acquire();
	return (mdbus_load_relaxed(&slot->head.lo) ^ stamp) >> MDBUS_STAMP_KIND_SHIFT == 0;
#endif
}

/*
 * Where the bytes of a data record are, or NULL if what the slot says cannot be (a length or offset out of bounds: damaged
 * memory, or the slot was lapped since).  arena: that line's mapping (base, size) or NULL if it is not mapped.
 */
static inline const uint8_t *mdbus_ring_bytes(const struct mdbus_ring *r, const struct mdbus_slot *slot,
                                              uint64_t stamp, uint64_t ref, const uint8_t *arena, uint64_t arena_size)
{
	uint32_t len = mdbus_ref_len(ref);
	uint64_t off = mdbus_ref_off(ref);

	if (mdbus_stamp_kind(stamp) == MDBUS_KIND_INLINE)
		return len <= r->inline_max ? slot->bytes + r->time_bytes : NULL;
	if (arena == NULL || off > arena_size || len > arena_size - off)
		return NULL;
	return arena + off;
}

/*
 * When a record whose bytes are there (mdbus_ring_bytes, with the same arena) arrived, ns; 0: that is not known.  To be believed
 * as the bytes are.  Any process.
 */
static inline uint64_t mdbus_ring_arrival(const struct mdbus_ring *r, const struct mdbus_slot *slot, uint64_t stamp, uint64_t ref,
                                          const uint8_t *arena, uint64_t arena_size)
{
	uint64_t rx_ns = 0;

	if (mdbus_stamp_kind(stamp) == MDBUS_KIND_INLINE) {
		if (r->time_bytes)
			__builtin_memcpy(&rx_ns, slot->bytes, sizeof(rx_ns));
		return rx_ns;
	}
	const struct mdbus_arena_hdr *h = (const struct mdbus_arena_hdr *)(const void *)arena;
	uint64_t frame = h->frames_off + ((mdbus_ref_off(ref) - h->frames_off) & ~(uint64_t)(h->frame_size - 1u));

	if (frame < arena_size && arena_size - frame >= sizeof(struct mdbus_frame_meta))
		__builtin_memcpy(&rx_ns, arena + frame, sizeof(rx_ns));
	return rx_ns;
}

#endif
