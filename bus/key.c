/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

/*
 * entry: lo = tag:48 | age:16      tag = high bits of the hash, never 0 for a key; age = tick of insertion
 *        hi = pos:48 | n:15 | done:1
 * An empty or forgotten entry has tag 0 and keeps its n.
 */
#define TAG(hash)     ((hash) >> 16 ? (hash) >> 16 : 1u)
#define N_MASK        0x7fffu
#define AGE_MASK      0xffffu
#define TICKS_PER_AGE 64u
#define TRIES         64

static uint64_t pair_pos(struct mdbus_pair p)
{
	return p.hi >> 16;
}

static uint32_t pair_n(struct mdbus_pair p)
{
	return (uint32_t)(p.hi >> 1) & N_MASK;
}

static struct mdbus_pair pair_make(uint64_t tag, uint64_t age, uint64_t pos, uint32_t n, bool done)
{
	return (struct mdbus_pair){ tag << 16 | (age & AGE_MASK), pos << 16 | (uint64_t)(n & N_MASK) << 1 | done };
}

uint64_t mdbus_keys_buckets(uint64_t keys)
{
	uint64_t n = 16;

	while (n * MDBUS_KEY_WAYS < keys * 2u)
		n *= 2;
	return n;
}

struct mdbus_keys mdbus_keys_view(struct mdbus_keys_hdr *hdr)
{
	struct mdbus_keys k = {
		.entries = (struct mdbus_pair *)(void *)((uint8_t *)hdr + hdr->buckets_off),
		.mask = hdr->nbuckets - 1u,
		.tick_ns = hdr->age_ns / TICKS_PER_AGE,
		.age_ticks = TICKS_PER_AGE,
	};

	if (k.tick_ns == 0) {
		k.tick_ns = 1;
		k.age_ticks = 0;
	}
	return k;
}

uint64_t mdbus_key_hash(const uint8_t *key, uint32_t n)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ n, word;

	for (uint32_t i = 0; i < n; i += 8u) {
		word = 0;
		__builtin_memcpy(&word, key + i, n - i < 8u ? n - i : 8u);
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 29;
}

static struct mdbus_pair *bucket(const struct mdbus_keys *k, uint64_t hash)
{
	return k->entries + (hash & k->mask) * MDBUS_KEY_WAYS;
}

static struct mdbus_pair load(struct mdbus_pair *e)
{
	struct mdbus_pair p;

	while (!mdbus_load_pair(e, &p))
		mdbus_pause();
	return p;
}

static bool aged(const struct mdbus_keys *k, struct mdbus_pair p, uint64_t now_ns)
{
	uint64_t age = (now_ns / k->tick_ns - p.lo) & AGE_MASK;

#ifndef MDBUS_MUTANT_younger_is_old
	/* inserted by another line since this one looked at the clock: it was stopped, or had to wait, in between */
	if (age > AGE_MASK / 2u)
		return false;
#endif
	return k->age_ticks != 0 && age > k->age_ticks;
}

/*
 * All entries of a bucket as they were at one moment: read twice, and the same both times.  Without that, an insertion could
 * slip in behind the reading while a later one is seen, and a key be inserted twice.
 */
static bool snapshot(struct mdbus_pair *b, struct mdbus_pair *e)
{
	bool same = true;

	for (uint32_t i = 0; i < MDBUS_KEY_WAYS; i++)
		e[i] = load(&b[i]);
	for (uint32_t i = 0; i < MDBUS_KEY_WAYS; i++)
		same = same && mdbus_load_acquire(&b[i].lo) == e[i].lo && mdbus_load_acquire(&b[i].hi) == e[i].hi;
	return same;
}

/* The entry inserted last: n counts insertions modulo 2^15, and the eight of a bucket are never more than eight apart. */
static uint32_t newest_of(const struct mdbus_pair *e)
{
	uint32_t newest = 0;

	for (uint32_t i = 1; i < MDBUS_KEY_WAYS; i++)
		if (((pair_n(e[i]) - pair_n(e[newest])) & N_MASK) - 1u < N_MASK / 2u)
			newest = i;
	return newest;
}

enum mdbus_key_verdict mdbus_keys_claim(struct mdbus_keys *k, uint64_t hash, uint64_t fresh, uint64_t now_ns,
                                        uint64_t *pos, bool *done, uint64_t *evicted)
{
	struct mdbus_pair *b = bucket(k, hash), e[MDBUS_KEY_WAYS];

	for (int try = 0; try < TRIES; try++) {
		if (!snapshot(b, e))
			continue;
		for (uint32_t i = 0; i < MDBUS_KEY_WAYS; i++) {
			if (e[i].lo >> 16 != TAG(hash) || aged(k, e[i], now_ns))
				continue;
			*pos = pair_pos(e[i]);
			*done = e[i].hi & 1u;
			return MDBUS_KEY_SEEN;
		}
		uint32_t n = (pair_n(e[newest_of(e)]) + 1u) & N_MASK, at = n % MDBUS_KEY_WAYS;
		bool young = e[at].lo >> 16 != 0 && !aged(k, e[at], now_ns);

		MDBUS_HOOK("key.claim.before");
		if (mdbus_cas_pair(&b[at], &e[at], pair_make(TAG(hash), now_ns / k->tick_ns, fresh, n, false))) {
			MDBUS_HOOK("key.claim.after");
			*evicted += young;
			*pos = fresh;
			*done = false;
			return MDBUS_KEY_PUBLISH;
		}
	}
	return MDBUS_KEY_CONTENDED;
}

/* Replace hash's entry while it names position `from`. */
static void change(struct mdbus_keys *k, uint64_t hash, uint64_t from, uint64_t to, bool done)
{
	struct mdbus_pair *b = bucket(k, hash);

	for (uint32_t i = 0; i < MDBUS_KEY_WAYS; i++) {
		struct mdbus_pair e = load(&b[i]);

		if (e.lo >> 16 != TAG(hash) || pair_pos(e) != from)
			continue;
		MDBUS_HOOK("key.change.before");
		mdbus_cas_pair(&b[i], &e, pair_make(TAG(hash), e.lo, to, pair_n(e), done));
		MDBUS_HOOK("key.change.after");
		return;
	}
}

void mdbus_keys_move(struct mdbus_keys *k, uint64_t hash, uint64_t from, uint64_t to)
{
	change(k, hash, from, to, false);
}

void mdbus_keys_done(struct mdbus_keys *k, uint64_t hash, uint64_t pos)
{
	change(k, hash, pos, pos, true);
}

void mdbus_keys_sweep(struct mdbus_keys *k, uint64_t now_ns)
{
	struct mdbus_pair *b = k->entries + (k->sweep++ & k->mask) * MDBUS_KEY_WAYS;

	for (uint32_t i = 0; i < MDBUS_KEY_WAYS; i++) {
		struct mdbus_pair e = load(&b[i]);

		if (e.lo >> 16 == 0 || !aged(k, e, now_ns))
			continue;
		MDBUS_HOOK("key.sweep.before");
		mdbus_cas_pair(&b[i], &e, pair_make(0, 0, 0, pair_n(e), false));
		MDBUS_HOOK("key.sweep.after");
	}
}
