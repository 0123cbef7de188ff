/* SPDX-License-Identifier: Apache-2.0
 *
 * keyed.c - channels without an order: first copy of each key, in the order of arrival.
 */
#include "channel.h"

#define TRIES 64

/* The one generation of such a channel: position base is number 1. */
static bool enter(struct mdbus_channel *c)
{
	struct mdbus_gen g = { .gen = 1, .base = c->desc.depth, .first_seq = 1 };

	if (mdbus_gen_open(c->ring.hdr, &g) != 0)
		return false;
	c->gen = g;
	c->tail = c->mine->head > g.base ? c->mine->head : g.base;
	return true;
}

/* The first position from the tail on that has no record. */
static uint64_t free_position(struct mdbus_channel *c)
{
	for (;;) {
		uint64_t stamp = mdbus_load_acquire(&mdbus_ring_slot(&c->ring, c->tail)->head.lo);
		uint64_t pos = mdbus_stamp_pos(stamp);

		if (pos > c->tail)
			c->tail = pos; /* others have lapped this line while it was away */
		if (!mdbus_stamp_is(stamp, c->tail, c->gen.gen))
			return c->tail;
		c->tail++;
	}
}

enum holder { HOLDS_NOTHING, HOLDS_THIS_KEY, HOLDS_OTHER, HOLDS_LATER };

/* What stands at pos: a message with this key, another one, or nothing yet. */
static enum holder look_at(const struct mdbus_channel *c, uint64_t pos, const uint8_t *key, int nkey)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&c->ring, pos);
	uint64_t stamp, ref;
	uint8_t have[MDBUS_SESSION_MAX];

	for (int i = 0; i < TRIES; i++) {
		switch (mdbus_ring_look(&c->ring, pos, c->gen.gen, &stamp, &ref)) {
		case MDBUS_LOOK_NONE:
			return HOLDS_NOTHING;
		case MDBUS_LOOK_LAPPED:
			return HOLDS_LATER;
		case MDBUS_LOOK_RECORD:
			break;
		}
		uint32_t line = mdbus_ref_line(ref);
		const struct mdbus_region *a = line < MDBUS_LINES_MAX ? &c->bus->arena[line] : NULL;
		const uint8_t *bytes =
			mdbus_ring_bytes(&c->ring, slot, stamp, ref, a ? a->base : NULL, a ? a->size : 0);

		if (mdbus_stamp_kind(stamp) == MDBUS_KIND_EXPIRED || bytes == NULL)
			return HOLDS_LATER;
		int n = mdbus_layout_key(&c->desc.layout, bytes, mdbus_ref_len(ref), have);

		if (mdbus_ring_still(slot, stamp))
			return n == nkey && memcmp(have, key, (size_t)nkey) == 0 ? HOLDS_THIS_KEY : HOLDS_OTHER;
	}
	return HOLDS_LATER;
}

static enum mdbus_publish publish_at(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_message *m,
                                     uint64_t pos)
{
	uint64_t off = p->off + m->off;
	enum mdbus_publish r = mdbus_ring_publish(&c->ring, pos, c->gen.gen, p->bytes + m->off, off, m->len, p->rx_ns, 0);

	if (r == MDBUS_PUBLISH_REF) {
		mdbus_holds_add(c->holds, c->index, pos, c->gen.gen, off);
		mdbus_count(&c->mine->count.by_ref, 1u);
	} else if (r == MDBUS_PUBLISH_INLINE) {
		mdbus_count(&c->mine->count.inlined, 1u);
	}
	return r;
}

/* Follow the key's entry until its message stands in the ring.  True: this line's copy is the one. */
static bool settle(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_message *m,
                   const uint8_t *key, int nkey, uint64_t now_ns)
{
	uint64_t hash = mdbus_key_hash(key, (uint32_t)nkey), pos = 0;
	bool done = false;

	for (int i = 0; i < TRIES; i++) {
		uint64_t fresh = free_position(c);

		if (mdbus_keys_claim(&c->keys, hash, fresh, now_ns, &pos, &done, &c->mine->count.evicted) ==
		    MDBUS_KEY_CONTENDED)
			continue;
#ifdef MDBUS_MUTANT_key_claim_is_seen
		if (pos != fresh)
			return false;
#endif
		switch (done ? HOLDS_THIS_KEY : look_at(c, pos, key, nkey)) {
		case HOLDS_THIS_KEY:
			if (!done)
				mdbus_keys_done(&c->keys, hash, pos);
			return false;
		case HOLDS_NOTHING: {
			enum mdbus_publish r = publish_at(c, p, m, pos);

			if (r == MDBUS_PUBLISH_REF || r == MDBUS_PUBLISH_INLINE) {
				mdbus_keys_done(&c->keys, hash, pos);
				return true;
			}
			break;
		}
		case HOLDS_OTHER:
		case HOLDS_LATER: /* lapped and never seen published: its line died; better once more than lost */
			mdbus_keys_move(&c->keys, hash, pos, free_position(c));
			break;
		}
	}
	return false;
}

enum mdbus_decode_error mdbus_keyed_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                           const struct mdbus_packet *d, uint64_t now_ns)
{
	uint8_t key[MDBUS_SESSION_MAX];
	struct mdbus_message m;
	uint32_t n = 0;
	int nkey = mdbus_layout_key(&c->desc.layout, p->bytes, p->len, key);
	enum mdbus_decode_error err = mdbus_layout_messages(&c->desc.layout, p->bytes, p->len, d, &m, 1, &n);

	if (n == 0)
		return err;
	if (nkey <= 0)
		return MDBUS_DECODE_BAD_HEADER;
	if (c->gen.gen == 0 && !enter(c))
		return MDBUS_DECODE_OK;
	mdbus_count(&c->mine->count.messages, 1u);
	if (!mdbus_holds_full(c->holds) && settle(c, p, &m, key, nkey, now_ns)) {
		mdbus_count(&c->mine->count.won, 1u);
		mdbus_store_release(&c->mine->head, free_position(c));
		mdbus_store_relaxed(&c->mine->count.last_seq, c->tail - c->gen.base);
	} else {
		mdbus_count(&c->mine->count.duplicates, 1u);
	}
	return err;
}
