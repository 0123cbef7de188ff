/* SPDX-License-Identifier: Apache-2.0
 *
 * keyed.c - channels without an order: first copy of each key, in the order of arrival.
 *
 * The key is what the layout says, one message a packet.  A channel that carries the unsequenced messages of another one has
 * no such field: there the message itself is the key, so that of two equal ones within the age limit one is delivered.
 */
#include "channel.h"

#define TRIES       64
#define AT_ONCE     256 /* records looked at for early drop in one go: more than a batch of packets brings */
#define LATE_SAMPLE 64u /* of so many duplicates, one is asked how late it is */

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

/* The key of a message: where it lies and how long it is. */
struct key {
	const uint8_t *bytes;
	uint32_t len;
	uint64_t hash;
	uint8_t field[MDBUS_SESSION_MAX];
};

/* False: the message is too short to have one. */
static bool key_of(const struct mdbus_channel *c, const uint8_t *bytes, uint32_t len, struct key *k)
{
	int n = 0;

	if (c->desc.unseq_of == 0) {
		n = mdbus_layout_key(c->layout, bytes, len, k->field);
		k->bytes = k->field;
		k->len = n > 0 ? (uint32_t)n : 0;
	} else {
		k->bytes = bytes;
		k->len = len;
	}
	k->hash = mdbus_key_hash(k->bytes, k->len);
	return k->len != 0;
}

/* What stands at pos: a message with this key, another one, or nothing yet. */
static enum holder look_at(const struct mdbus_channel *c, uint64_t pos, const struct key *key)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&c->ring, pos);
	uint64_t stamp, ref;
	struct key have;

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
		bool same = key_of(c, bytes, mdbus_ref_len(ref), &have) && have.hash == key->hash && have.len == key->len &&
		            memcmp(have.bytes, key->bytes, key->len) == 0;

		if (mdbus_ring_still(slot, stamp))
			return same ? HOLDS_THIS_KEY : HOLDS_OTHER;
	}
	return HOLDS_LATER;
}

/*
 * The message of the record {stamp, ref} at pos, if another line published it, and when it arrived; else NULL.  To be looked at
 * before the stamp is asked for again (mdbus_ring_still).
 */
static const uint8_t *others_at(const struct mdbus_channel *c, uint64_t pos, uint64_t stamp, uint64_t ref, uint64_t *rx_ns)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&c->ring, pos);
	uint32_t line = mdbus_ref_line(ref);

	if (line == c->line || line >= MDBUS_LINES_MAX || c->bus->arena[line].base == NULL)
		return NULL;
	if (mdbus_stamp_kind(stamp) != MDBUS_KIND_REF && mdbus_stamp_kind(stamp) != MDBUS_KIND_INLINE)
		return NULL;
	const struct mdbus_region *a = &c->bus->arena[line];
	const uint8_t *bytes = mdbus_ring_bytes(&c->ring, slot, stamp, ref, a->base, a->size);

	if (bytes != NULL)
		*rx_ns = mdbus_ring_arrival(&c->ring, slot, stamp, ref, a->base, a->size);
	return bytes;
}

/* How long after the published copy this line's came. */
static void note_lateness(struct mdbus_channel *c, uint64_t pos, uint64_t rx_ns)
{
	uint64_t stamp, ref, won_ns;

	if (mdbus_ring_look(&c->ring, pos, c->gen.gen, &stamp, &ref) != MDBUS_LOOK_RECORD ||
	    others_at(c, pos, stamp, ref, &won_ns) == NULL || won_ns == 0 || rx_ns < won_ns ||
	    !mdbus_ring_still(mdbus_ring_slot(&c->ring, pos), stamp))
		return;
	mdbus_channel_late(c, rx_ns - won_ns);
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
                   const struct key *key, uint64_t now_ns)
{
	uint64_t hash = key->hash, pos = 0;
	bool done = false;

	for (int i = 0; i < TRIES; i++) {
		enum mdbus_key_verdict v = mdbus_keys_claim(&c->keys, hash, free_position(c), now_ns, &pos, &done,
		                                            &c->mine->count.evicted);

		if (v == MDBUS_KEY_CONTENDED)
			continue;
#ifdef MDBUS_MUTANT_key_claim_is_seen
		if (v == MDBUS_KEY_SEEN)
			return false;
#endif
		switch (done ? HOLDS_THIS_KEY : look_at(c, pos, key)) {
		case HOLDS_THIS_KEY:
			if (!done)
				mdbus_keys_done(&c->keys, hash, pos);
			/* where duplicates are dropped early, this one stands for many */
			if (c->desc.early_drop || c->mine->count.duplicates % LATE_SAMPLE == 0)
				note_lateness(c, pos, p->rx_ns);
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

static void take(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_message *m, uint64_t now_ns)
{
	struct key key;

	if (!key_of(c, p->bytes + m->off, m->len, &key))
		return;
	mdbus_count(&c->mine->count.messages, 1u);
	if (!mdbus_holds_full(c->holds) && settle(c, p, m, &key, now_ns)) {
		mdbus_count(&c->mine->count.won, 1u);
		mdbus_store_release(&c->mine->head, free_position(c));
		MDBUS_HOOK("keyed.head");
		mdbus_store_relaxed(&c->mine->count.last_seq, c->tail - c->gen.base);
	} else {
		mdbus_count(&c->mine->count.duplicates, 1u);
	}
}

/* Positions are taken one after the other, so a walk meets every record. */
void mdbus_keyed_committed(const struct mdbus_channel *c, uint64_t *next, const struct mdbus_fixed_field *field,
                           void (*note)(void *self, uint64_t key, uint64_t rx_ns), void *self)
{
	uint64_t stamp, ref, rx_ns;
	__u64 key;

	if (c->gen.gen == 0)
		return;
	if (*next < c->gen.base) {
		*next = mdbus_bus_newest_head(c->bus, c->index);
		*next = *next > c->gen.base ? *next : c->gen.base;
	}
	for (int i = 0; i < AT_ONCE; i++) {
		enum mdbus_look look = mdbus_ring_look(&c->ring, *next, c->gen.gen, &stamp, &ref);

		if (look == MDBUS_LOOK_NONE)
			return;
		uint64_t pos = (*next)++;

		if (look == MDBUS_LOOK_LAPPED) {
			uint64_t newest = mdbus_bus_newest_head(c->bus, c->index);

			*next = newest > *next ? newest : *next;
			return;
		}
		const uint8_t *bytes = others_at(c, pos, stamp, ref, &rx_ns);

		if (bytes != NULL && rx_ns != 0 && mdbus_fixed_value(field, bytes, mdbus_ref_len(ref), &key) == 0 &&
		    mdbus_ring_still(mdbus_ring_slot(&c->ring, pos), stamp))
			note(self, key, rx_ns);
	}
}

enum mdbus_decode_error mdbus_keyed_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                           const struct mdbus_packet *d, uint64_t now_ns)
{
	static _Thread_local struct mdbus_message m[MDBUS_MESSAGES_MAX];
	uint32_t n = 0;
	enum mdbus_decode_error err;

	if (d->no_messages || (c->gen.gen == 0 && !enter(c)))
		return MDBUS_DECODE_OK;
	err = mdbus_layout_messages(c->layout, p->bytes, p->len, d, m, MDBUS_MESSAGES_MAX, &n);
	for (uint32_t i = 0; i < n; i++)
		take(c, p, &m[i], now_ns);
	return err;
}
