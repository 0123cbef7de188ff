/* SPDX-License-Identifier: Apache-2.0
 *
 * channel.h - arbitration: what one line does with the packets of one channel.
 *
 * A packet is decoded by its layout, and each of its messages is offered to the ring at the position its number names; the
 * ring keeps the first copy (ring.h).  This file decides whether a number is to be believed:
 *
 *   the number expected, or ahead within the window     publish
 *   behind                                              publish too: it is a duplicate, or fills a hole.  A run of packets
 *                                                       behind whose bytes differ from what is published there (or is
 *                                                       no longer there to compare) is a restart
 *   ahead beyond the window                             a jump, once agreed on
 *   another session                                     a new session, once agreed on
 *
 * One forged packet is never believed.  Agreement is `agree_packets` packets in a row that continue each other, or one packet
 * if another line has gone the same way already.  Packets that wait for agreement are kept back in their frames and
 * published when it is reached, so a true jump loses nothing.
 *
 * A channel object is private to one ingest process and one thread.  It writes the ring, and its line's
 * mdbus_line_channel in its arena.
 */
#ifndef MDBUS_CHANNEL_H
#define MDBUS_CHANNEL_H

#include <mdbus/layout.h>
#include <mdbus/lease.h>
#include <mdbus/ring_single.h>
#include "fixed.h"
#include "gap.h"
#include "generation.h"
#include "holds.h"
#include "key.h"
#include "seen.h"

#define MDBUS_AGREE_MAX    16u   /* packets kept back at most */
#define MDBUS_MESSAGES_MAX 2048u /* messages of one packet at most: what a 4 KiB frame can hold */

/* A packet's payload in the line's arena. */
struct mdbus_chunk {
	uint64_t off; /* of the payload, from the start of the arena */
	const uint8_t *bytes;
	uint32_t len;
	uint64_t rx_ns;
};

/* A run of packets that may be a jump or a restart. */
struct mdbus_candidate {
	uint32_t count;    /* packets of it in a row */
	uint32_t held;     /* of those, kept back in chunk[] */
	uint32_t patience; /* ordinary packets it still outlives; 0: there is no candidate */
	uint64_t session;
	uint64_t first;    /* its lowest number */
	uint64_t next;     /* number it goes on with */
	bool proven;       /* a packet of it differs from what is published at its number */
	struct mdbus_chunk chunk[MDBUS_AGREE_MAX];
};

struct mdbus_channel {
	/* what every packet needs, line by line (mdbus_channel_prefetch) */
	struct mdbus_ring ring;
	const struct mdbus_layout *layout; /* desc's, or that of another channel which has the same */
	struct mdbus_line_channel *mine;
	struct mdbus_holds *holds;
	struct mdbus_gen gen; /* where this line is; gen.gen 0: nowhere yet */
	uint64_t session;     /* full hash */
	uint64_t next_seq;    /* number after the newest one seen */
	uint64_t limit;       /* positions of this generation end here: one before the next one's base, or the end of all */
	uint64_t gen_hint;    /* ring's newest generation when limit was looked up */
	const struct mdbus_bus *bus;
	uint32_t index;
	uint32_t line;
	uint32_t stranded;    /* messages in a row that were all too late */
	uint32_t compare;     /* duplicates until the next comparison */
	bool won;             /* this line published some of the last packet */
	bool recovery;        /* fills holes that other lines leave, and nothing else (fill.c) */
	bool reset_hint;      /* the exchange has announced a restart: believe the next one at once */
	bool late_known;
	/*
	 * Called before a packet whose first number is ahead: those before it may have been dropped early, by whoever set
	 * this, who tells by mdbus_channel_dropped.  NULL: none are.
	 */
	void (*catch_up)(void *self, uint64_t before);
	struct mdbus_resolver resolver;
	struct mdbus_seen seen; /* of the numbers before next_seq */
	/* what few need */
	void *catch_up_self;
	uint64_t late_ns;     /* how late the newest duplicate came that was looked at */
	uint64_t gaps_told;   /* of resolver.gaps, how many are in the counters */
	uint64_t tail;        /* arrival order: where to look for a free position */
	const uint64_t *emptied_ns; /* what arrived before this time has been taken; NULL: that is not known */
	struct mdbus_channel *unseq; /* where this channel's unsequenced messages go, NULL: nowhere, they are counted */
	struct mdbus_keys keys;
	struct mdbus_gen prev; /* where this line was before; gen 0: nowhere */
	uint64_t prev_session;
	uint8_t name[MDBUS_SESSION_MAX]; /* session bytes of the newest packet that did not continue this line's stream */
	struct mdbus_candidate candidate;
	struct mdbus_channel_desc desc; /* a copy: shared memory may be changed under us */
} __attribute__((aligned(64)));

/*
 * Set up `c` for `line` of an attached bus.  holds outlives it.  0, or -EINVAL if the directory holds nonsense.
 * Continues where the ring is: a restarted process misses nothing that still comes in.
 */
int mdbus_channel_init(struct mdbus_channel *c, const struct mdbus_bus *bus, uint32_t index, uint32_t line,
                       struct mdbus_holds *holds);

/*
 * Take one packet.  now_ns is the time of this batch.  0, or the reason why the packet is malformed (its good messages before
 * the bad one are published).  Afterwards the frame may be reused if and only if nothing holds it (holds.refs).
 * Killed inside: each message is published or not, each by itself.
 */
enum mdbus_decode_error mdbus_channel_packet(struct mdbus_channel *c, const struct mdbus_chunk *p, uint64_t now_ns);

/* Move gaps and ends of sessions on, now that time has passed.  True: call again within a fraction of the gap timeout. */
bool mdbus_channel_tick(struct mdbus_channel *c, uint64_t now_ns);

/* Publish what is kept back only for want of agreement as a true restart: the source has ended (a file). */
void mdbus_channel_flush(struct mdbus_channel *c, uint64_t now_ns);

/* ---- early drop (early.c) --------------------------------------------------------------------------------------- */

/*
 * Numbers [*from, *to) of this line's session have their records in the ring for good: copies of them are of no use and
 * may be dropped before they come here.  *to only grows while c->gen stays.  False: nothing may be dropped now.
 */
bool mdbus_channel_committed(struct mdbus_channel *c, uint64_t *from, uint64_t *to);

/* Numbers [first, next) of this line's generation came and were dropped early: this line has got so far. */
void mdbus_channel_dropped(struct mdbus_channel *c, uint64_t first, uint64_t next);

/*
 * Arrival order: the keys of the records that other lines have published since the last call, and when those arrived.  Copies of
 * them are of no use while the key has not aged.  *next is the position to go on at, 0 at first: from now on.  `key` is where a
 * key stands (fixed.h).  A few at a time; a caller that falls behind by a lap is told nothing of what it missed.
 */
void mdbus_keyed_committed(const struct mdbus_channel *c, uint64_t *next, const struct mdbus_fixed_field *key,
                           void (*note)(void *self, uint64_t key, uint64_t rx_ns), void *self);

/* So many packets with so many messages were dropped early: count them as what they were. */
void mdbus_channel_count_dropped(struct mdbus_channel *c, uint64_t packets, uint64_t messages);

/* ---- between the parts of this module --------------------------------------------------------------------------- */

/* Publish the messages of a decoded packet, all within this line's generation. */
enum mdbus_decode_error mdbus_channel_publish(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                              const struct mdbus_packet *d, uint64_t now_ns);

/* 1: the published copy at seq has these bytes; 0: others; -1: nothing there to compare; -2: lapped since. */
int mdbus_channel_compare(const struct mdbus_channel *c, uint64_t pos, uint64_t gen, const uint8_t *bytes, uint32_t len);

/* A packet that does not continue this line's stream: hold it, take it or drop it (candidate.c). */
enum mdbus_decode_error mdbus_candidate_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                               const struct mdbus_packet *d, uint64_t now_ns);

/*
 * True if a packet of this session, which names a number ahead, was carried by reordering over a restart or a jump under the same
 * session: the number is nearer to where this line left the generation before than to where it is, and that has no other
 * bytes there.  (A restart closer to the start than reordering reaches cannot be told from reordering at all.)
 */
bool mdbus_candidate_stray(const struct mdbus_channel *c, const struct mdbus_chunk *p, uint64_t session, uint64_t first);

/* An ordinary packet went by. */
void mdbus_candidate_age(struct mdbus_channel *c);

/* One packet of a recovery line (fill.c). */
enum mdbus_decode_error mdbus_fill_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                          const struct mdbus_packet *d, uint64_t now_ns);

/* One packet of a channel in arrival order (keyed.c). */
enum mdbus_decode_error mdbus_keyed_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                           const struct mdbus_packet *d, uint64_t now_ns);

/*
 * First number, and one past the last, of what a packet is about; false: it says nothing about numbers.  A last one
 * beyond 64 bits counts as the greatest there is, which nobody believes.
 */
static inline bool mdbus_packet_range(const struct mdbus_packet *d, uint64_t *first, uint64_t *next)
{
	if (!d->no_messages && d->has_seq) {
		*first = d->seq;
		*next = d->count <= UINT64_MAX - d->seq ? d->seq + d->count : UINT64_MAX;
		return true;
	}
	*first = *next = d->next_seq;
	return d->has_next;
}

/* This line has carried [first, next): count what it skipped before that, and what it had skipped and now brings late. */
static inline void mdbus_channel_carried(struct mdbus_channel *c, uint64_t first, uint64_t next)
{
	if (first < c->next_seq)
		mdbus_count(&c->mine->count.line_gaps, 0 - mdbus_seen_late(&c->seen, c->next_seq, first, next));
	if (next < c->next_seq || (next == c->next_seq && first < next))
		return;
	if (first > c->next_seq)
		mdbus_count(&c->mine->count.line_gaps, first - c->next_seq);
	mdbus_seen_advance(&c->seen, c->next_seq, first > c->next_seq ? first : c->next_seq, next);
	c->next_seq = next;
}

/* Tell the others how far this line is: after everything below next_seq was published. */
static inline void mdbus_channel_progress(struct mdbus_channel *c)
{
	uint64_t pos = c->gen.base + (c->next_seq - c->gen.first_seq);

	mdbus_store_release(&c->mine->progress, c->gen.gen << 48 | pos);
}

/*
 * Bring what a packet of this channel needs into the cache: first what lies in this process, and when that has come what it
 * points to.  Lines whose packets are of many channels spend most of their time on this.
 */
static inline void mdbus_channel_prefetch(const struct mdbus_channel *c)
{
	const uint8_t *at = (const uint8_t *)c;

	for (size_t off = 0; off <= offsetof(struct mdbus_channel, resolver); off += MDBUS_CACHE_LINE)
		__builtin_prefetch(at + off, 1);
	__builtin_prefetch(&c->seen.word[8], 1);
	__builtin_prefetch(&c->desc.window);
}

static inline void mdbus_channel_prefetch_shared(const struct mdbus_channel *c)
{
	__builtin_prefetch(mdbus_ring_slot(&c->ring, c->gen.base + (c->next_seq - c->gen.first_seq)), 1);
	__builtin_prefetch(&c->ring.hdr->gen);
	__builtin_prefetch(c->mine, 1);
	__builtin_prefetch(&c->mine->count, 1);
	__builtin_prefetch((const uint8_t *)c->mine + 2u * MDBUS_CACHE_LINE, 1);
}

/*
 * This line published the last record: warm the cache line `at` (64, 128, ..) of the slot of the next.  What to warm then, 0: nothing.
 * Line's process, while nothing arrives.
 */
static inline uint32_t mdbus_channel_warm(const struct mdbus_channel *c, uint32_t at)
{
	if (!c->won || at >= 1u << c->ring.shift)
		return 0;
	mdbus_ring_warm(&c->ring, c->gen.base + (c->next_seq - c->gen.first_seq), at);
	return at + MDBUS_CACHE_LINE;
}

/* A duplicate came so long after the published copy. */
static inline void mdbus_channel_late(struct mdbus_channel *c, uint64_t late_ns)
{
	c->late_ns = late_ns;
	c->late_known = true;
	mdbus_hist_add(&mdbus_bus_arena(c->bus, c->line)->lateness, late_ns);
}

/* next_seq has grown: the same, and the counter. */
static inline void mdbus_channel_advanced(struct mdbus_channel *c)
{
	mdbus_store_relaxed(&c->mine->count.last_seq, c->next_seq - 1u);
	MDBUS_HOOK("progress.before");
	mdbus_channel_progress(c);
	MDBUS_HOOK("progress.after");
}

#endif
