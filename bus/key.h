/* SPDX-License-Identifier: Apache-2.0
 *
 * key.h - the shared dedup window of a channel that has no order: each key once, whoever dies.
 *
 * Where messages carry no sequence number, the first copy of each key is published in arrival order.  Two lines must not
 * both publish it, and a line killed between "seen" and "published" must not lose it.  So a key is never marked as seen;
 * it is tied to a position:
 *
 *	entry of K = position p at which K is to be published       one compare-and-swap
 *	slot[p]    = K's bytes, by the ordinary publish             one compare-and-swap
 *
 * A line that finds K's entry while slot[p] is still free does not wait for the one that made the entry: it publishes its own
 * copy at p.  Whoever is first wins the slot, and it is K either way.  If another key took p meanwhile, K's
 * entry is moved to a new position by compare-and-swap and everybody follows it there.  A flag notes that the publish was
 * seen to succeed; it only matters when the ring has lapped p.
 *
 * The table is buckets of eight entries, each bucket a queue: insertion number n goes to entry n mod 8 by compare-and-swap,
 * which fails if anyone inserted meanwhile, so "not there, insert" is one atomic step and the oldest entry is the one
 * that falls out.  An entry that falls out before its age limit is counted as evicted.
 */
#ifndef MDBUS_KEY_H
#define MDBUS_KEY_H

#include <mdbus/lease.h>
#include <mdbus/ring.h>

struct mdbus_keys {
	struct mdbus_pair *entries; /* nbuckets * MDBUS_KEY_WAYS */
	uint64_t mask;              /* nbuckets - 1 */
	uint64_t tick_ns;           /* one step of an entry's age */
	uint64_t age_ticks;         /* 0: keys do not age */
	uint64_t sweep;             /* next bucket to be swept */
};

/* Buckets for a window of `keys` keys: a power of two, half full on average. */
uint64_t mdbus_keys_buckets(uint64_t keys);

/* View a checked keys.<n> segment. */
struct mdbus_keys mdbus_keys_view(struct mdbus_keys_hdr *hdr);

/* What the caller is to do with its copy of the message. */
enum mdbus_key_verdict {
	MDBUS_KEY_PUBLISH,   /* try to publish at *pos */
	MDBUS_KEY_SEEN,      /* published before, as far as the table knows: *pos says where */
	MDBUS_KEY_CONTENDED, /* others kept changing the bucket; the caller gives up for this round */
};

/*
 * Find hash's entry, or insert it with position `fresh`.  *pos gets the entry's position, *done whether its publish was seen
 * to succeed, *evicted is counted up if a younger key had to go.  Lines only.
 * Killed inside: the entry is there or not; if it is, the next copy of the key is published at its position.
 */
enum mdbus_key_verdict mdbus_keys_claim(struct mdbus_keys *k, uint64_t hash, uint64_t fresh, uint64_t now_ns,
                                        uint64_t *pos, bool *done, uint64_t *evicted);

/* Move hash's entry from position `from` to `to`; it does not matter whether another line has already.  Lines only. */
void mdbus_keys_move(struct mdbus_keys *k, uint64_t hash, uint64_t from, uint64_t to);

/* Note that hash was published at pos. Killed inside: not noted, see above. */
void mdbus_keys_done(struct mdbus_keys *k, uint64_t hash, uint64_t pos);

/* Forget aged keys of one bucket, another one each call; an entry's age is only known for some while. */
void mdbus_keys_sweep(struct mdbus_keys *k, uint64_t now_ns);

/* 64-bit hash of n key bytes. */
uint64_t mdbus_key_hash(const uint8_t *key, uint32_t n);

#endif
