/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include <errno.h>

#include "shape.h"

#define STRANDED_MAX 256u /* messages in a row that came too late before a line looks for its place again */

int mdbus_channel_init(struct mdbus_channel *c, const struct mdbus_bus *bus, uint32_t index, uint32_t line,
                       struct mdbus_holds *holds)
{
	*c = (struct mdbus_channel){
		.ring = mdbus_shape_ring_view(bus, index, line),
		.bus = bus,
		.index = index,
		.line = line,
		.desc = bus->dir->channel[index],
		.mine = mdbus_bus_line_channel(bus, line, index),
		.holds = holds,
		.limit = MDBUS_POS_MAX,
		.recovery = mdbus_load_relaxed(&bus->dir->line[line].recovery) != 0,
	};
	if (c->mine == NULL || mdbus_layout_check(&c->desc.layout) != 0 || c->desc.window > c->desc.depth / 2 ||
	    c->desc.depth != c->ring.mask + 1u)
		return -EINVAL;
	if (c->desc.agree_packets == 0)
		c->desc.agree_packets = 1;
	if (c->desc.agree_packets > MDBUS_AGREE_MAX)
		c->desc.agree_packets = MDBUS_AGREE_MAX;
	c->layout = &c->desc.layout;
	c->compare = c->desc.compare_every;
	mdbus_resolver_init(&c->resolver, bus, index, line);
	if (!c->desc.ordered) {
		if (bus->keys[index].base == NULL)
			return -EINVAL;
		c->keys = mdbus_shape_keys_view(bus, index);
	}
	return 0;
}

/* The position of a number of this line's generation. */
static inline uint64_t position(const struct mdbus_channel *c, uint64_t seq)
{
	return c->gen.base + (seq - c->gen.first_seq);
}

int mdbus_channel_compare(const struct mdbus_channel *c, uint64_t pos, uint64_t gen, const uint8_t *bytes, uint32_t len)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&c->ring, pos);
	uint64_t stamp, ref;
	enum mdbus_look look = mdbus_ring_look(&c->ring, pos, gen, &stamp, &ref);

	if (look != MDBUS_LOOK_RECORD)
		return look == MDBUS_LOOK_LAPPED ? -2 : -1;
	if (mdbus_stamp_kind(stamp) != MDBUS_KIND_REF && mdbus_stamp_kind(stamp) != MDBUS_KIND_INLINE)
		return -1;
	uint32_t line = mdbus_ref_line(ref);
	const struct mdbus_region *arena = line < MDBUS_LINES_MAX ? &c->bus->arena[line] : NULL;
	const uint8_t *have = mdbus_ring_bytes(&c->ring, slot, stamp, ref, arena ? arena->base : NULL,
	                                       arena ? arena->size : 0);

	if (have == NULL)
		return -1;
	bool same = mdbus_ref_len(ref) == len && memcmp(have, bytes, len) == 0;

	return mdbus_ring_still(slot, stamp) ? same : -1;
}

/* How long after the published copy this line's came. */
static void note_lateness(struct mdbus_channel *c, uint64_t pos, uint64_t rx_ns)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&c->ring, pos);
	uint64_t stamp, ref, won_ns = 0;

	if (c->ring.time_bytes == 0 || mdbus_ring_look(&c->ring, pos, c->gen.gen, &stamp, &ref) != MDBUS_LOOK_RECORD)
		return;
	if (mdbus_stamp_kind(stamp) != MDBUS_KIND_INLINE || mdbus_ref_line(ref) == c->line)
		return;
	__builtin_memcpy(&won_ns, slot->bytes, sizeof(won_ns));
	if (!mdbus_ring_still(slot, stamp) || rx_ns < won_ns)
		return;
	mdbus_channel_late(c, rx_ns - won_ns);
}

/* Compare every n-th duplicate with the copy that was published. */
static void sample_mismatch(struct mdbus_channel *c, uint64_t pos, const uint8_t *bytes, uint32_t len)
{
	if (c->desc.compare_every == 0 || --c->compare != 0)
		return;
	c->compare = c->desc.compare_every;
	if (mdbus_channel_compare(c, pos, c->gen.gen, bytes, len) == 0)
		mdbus_count(&c->mine->count.mismatched, 1u);
}

struct tally {
	uint32_t won, duplicates, late, inlined, by_ref;
	uint64_t top; /* number after the newest one */
};

/* Count what became of one message. */
static inline void tell(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_offer *o, struct tally *t)
{
	switch (o->result) {
	case MDBUS_PUBLISH_INLINE:
		t->won++;
		t->inlined++;
		break;
	case MDBUS_PUBLISH_REF:
		t->won++;
		t->by_ref++;
		mdbus_holds_add(c->holds, c->index, o->pos, c->gen.gen, o->off);
		break;
	case MDBUS_PUBLISH_DUPLICATE:
		if (t->duplicates++ == 0)
			note_lateness(c, o->pos, p->rx_ns);
		sample_mismatch(c, o->pos, o->bytes, o->len);
		break;
	case MDBUS_PUBLISH_LATE:
		t->late++;
		break;
	}
}

/* Where a message goes.  False: nowhere any more. */
static inline bool place(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_message *m,
                         struct mdbus_offer *o, struct tally *t)
{
	o->pos = position(c, m->seq);
	o->bytes = p->bytes + m->off;
	o->off = p->off + m->off;
	o->len = m->len;
	if (m->seq - c->gen.first_seq > MDBUS_POS_MAX - c->gen.base || m->len > MDBUS_MESSAGE_MAX || mdbus_holds_full(c->holds)) {
		t->late++;
		return false;
	}
	if (m->seq >= t->top)
		t->top = m->seq + 1u;
	if (o->pos >= c->limit || o->pos < c->gen.base) {
		t->late++;
		return false;
	}
	return true;
}

/* Offer up to MDBUS_OWN_BATCH messages of a packet to the ring, one by one. */
static inline void offer(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_message *m, uint32_t n,
                         uint32_t flags, struct tally *t)
{
	const struct mdbus_ring *r = &c->ring;
	struct mdbus_offer o;

	if (n > 1u)
		mdbus_ring_own(r, position(c, m[0].seq), n);
	for (uint32_t i = 0; i < n; i++) {
		if (!place(c, p, &m[i], &o, t))
			continue;
		if (r->hdr->single_line)
			o.result = mdbus_ring_publish_single(r, o.pos, c->gen.gen, o.bytes, o.off, o.len, p->rx_ns, flags);
		else
			o.result = mdbus_ring_publish(r, o.pos, c->gen.gen, o.bytes, o.off, o.len, p->rx_ns, flags);
		tell(c, p, &o, t);
	}
}

/* The same together, where that is faster. */
static void offer_batch(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_message *m, uint32_t n,
                        uint32_t flags, struct tally *t)
{
	struct mdbus_offer o[MDBUS_OWN_BATCH];
	uint32_t k = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (!place(c, p, &m[i], &o[k], t))
			continue;
		uint64_t have = mdbus_load_relaxed(&mdbus_ring_slot(&c->ring, o[k].pos)->head.lo);

		if (mdbus_stamp_older(have, o[k].pos, c->gen.gen)) {
			k++;
			continue;
		}
		o[k].result = mdbus_publish_lost(have, o[k].pos, c->gen.gen);
		tell(c, p, &o[k], t);
	}
	(c->ring.hdr->single_line ? mdbus_ring_publish_single_batch : mdbus_ring_publish_batch)(&c->ring, c->gen.gen, o, k,
	                                                                                       p->rx_ns, flags);
	for (uint32_t i = 0; i < k; i++)
		tell(c, p, &o[i], t);
}

static void count(struct mdbus_channel *c, const struct tally *t, uint32_t n)
{
	mdbus_count(&c->mine->count.messages, n);
	mdbus_count(&c->mine->count.won, t->won);
	mdbus_count(&c->mine->count.duplicates, t->duplicates);
	mdbus_count(&c->mine->count.late, t->late);
	mdbus_count(&c->mine->count.inlined, t->inlined);
	mdbus_count(&c->mine->count.by_ref, t->by_ref);
	c->won = t->won != 0;
}

enum mdbus_decode_error mdbus_channel_publish(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                              const struct mdbus_packet *d, uint64_t now_ns)
{
	static _Thread_local struct mdbus_message m[MDBUS_MESSAGES_MAX];
	uint32_t n = 0, flags = d->retrans || c->recovery ? MDBUS_REF_RETRANS : 0;
	enum mdbus_decode_error err = MDBUS_DECODE_OK;
	uint64_t was = c->next_seq;
	struct tally t = { 0 };

	if (!d->no_messages)
		err = mdbus_layout_messages(c->layout, p->bytes, p->len, d, m, MDBUS_MESSAGES_MAX, &n);
	if (n > 0 && position(c, m[n - 1u].seq) >= c->resolver.head + c->desc.window)
		mdbus_resolver_force(&c->resolver, now_ns, position(c, m[n - 1u].seq) + 1u - c->desc.window);
	bool together = n > 1u && mdbus_ring_batches(&c->ring);

	for (uint32_t i = 0; i < n; i += MDBUS_OWN_BATCH)
		(together ? offer_batch : offer)(c, p, m + i, n - i < MDBUS_OWN_BATCH ? n - i : MDBUS_OWN_BATCH, flags, &t);
	count(c, &t, n);
	if (n > 0)
		mdbus_channel_carried(c, m[0].seq, t.top);
	if (err == MDBUS_DECODE_OK && d->has_next && d->next_seq > c->next_seq && d->next_seq - c->next_seq <= c->desc.window)
		mdbus_channel_carried(c, d->next_seq, d->next_seq);
	if (c->next_seq != was)
		mdbus_channel_advanced(c);
	if (n > 0 && t.late == 0 && m[n - 1u].seq - m[0].seq == n - 1u)
		mdbus_resolver_note(&c->resolver, position(c, m[0].seq), n);
	else if (c->resolver.head < c->gen.base + (c->next_seq - c->gen.first_seq))
		c->resolver.open = true;
	mdbus_store_release(&c->mine->head, c->resolver.head);
	MDBUS_HOOK("head.after");
	c->stranded = t.late == n ? c->stranded + n : 0;
	if (c->stranded > STRANDED_MAX)
		c->gen.gen = 0; /* this line missed a restart altogether: let the next packet find its place afresh */
	return err;
}

/* Another line may have opened a generation: this one's positions end where that one's begin. */
static void look_for_limit(struct mdbus_channel *c)
{
	struct mdbus_gen next;

	c->gen_hint = mdbus_load_acquire(&c->ring.hdr->gen);
	c->limit = mdbus_gen_get(c->ring.hdr, c->gen.gen + 1, &next) ? next.base - 1u : MDBUS_POS_MAX;
}

static void count_event(struct mdbus_channel *c, const struct mdbus_packet *d)
{
	switch (d->event) {
	case MDBUS_EVENT_HEARTBEAT:
		mdbus_count(&c->mine->count.heartbeats, 1u);
		break;
	case MDBUS_EVENT_EOS:
		mdbus_count(&c->mine->count.ended, 1u);
		break;
	case MDBUS_EVENT_UNSEQ:
		mdbus_count(&c->mine->count.unsequenced, 1u);
		break;
	case MDBUS_EVENT_RESET:
		c->reset_hint = true;
		break;
	default:
		break;
	}
	if (d->retrans)
		mdbus_count(&c->mine->count.retransmitted, 1u);
}

enum mdbus_decode_error mdbus_channel_packet(struct mdbus_channel *c, const struct mdbus_chunk *p, uint64_t now_ns)
{
	struct mdbus_packet d;
	enum mdbus_decode_error err = mdbus_layout_decode(c->layout, p->bytes, p->len, &d);
	uint64_t first, next;

	if (err != MDBUS_DECODE_OK)
		return err;
	if (d.event != MDBUS_EVENT_NONE || d.retrans)
		count_event(c, &d);
	if (c->recovery)
		return mdbus_fill_packet(c, p, &d, now_ns);
	if (!c->desc.ordered)
		return mdbus_keyed_packet(c, p, &d, now_ns);
	if (d.event == MDBUS_EVENT_UNSEQ)
		return c->unseq ? mdbus_keyed_packet(c->unseq, p, &d, now_ns) : MDBUS_DECODE_OK;
	if (!mdbus_packet_range(&d, &first, &next))
		return MDBUS_DECODE_OK;
	if (mdbus_load_relaxed(&c->ring.hdr->gen) != c->gen_hint)
		look_for_limit(c);

	if (c->catch_up && first > c->next_seq && d.session == c->session && c->gen.gen != 0)
		c->catch_up(c->catch_up_self, first);

	uint64_t ahead = first - c->next_seq;
	bool ordinary = c->gen.gen != 0 && d.session == c->session && next <= MDBUS_SEQ_MAX;

#ifndef MDBUS_MUTANT_no_window
	ordinary = ordinary && (ahead == 0 || position(c, next) < c->resolver.head + c->desc.window);
#endif
	if (!ordinary || (int64_t)ahead < 0 || (ahead != 0 && mdbus_candidate_stray(c, p, d.session, first)))
		return mdbus_candidate_packet(c, p, &d, now_ns);
	if (c->candidate.patience != 0)
		mdbus_candidate_age(c);
	return mdbus_channel_publish(c, p, &d, now_ns);
}

bool mdbus_channel_tick(struct mdbus_channel *c, uint64_t now_ns)
{
	if (!c->desc.ordered) {
		mdbus_keys_sweep(&c->keys, now_ns);
		return false;
	}
	mdbus_resolver_tick(&c->resolver, now_ns);
	if (c->resolver.gaps != c->gaps_told) {
		mdbus_count(&c->mine->count.gaps_declared, c->resolver.gaps - c->gaps_told);
		c->gaps_told = c->resolver.gaps;
	}
	if (c->resolver.head != c->mine->head && c->resolver.gen.gen != 0)
		mdbus_store_release(&c->mine->head, c->resolver.head);
	return c->resolver.open;
}
