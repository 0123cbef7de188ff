/* SPDX-License-Identifier: Apache-2.0 */
#include "generation.h"

#include <errno.h>
#include <mdbus/hook.h>

#define TAG(gen, pos) ((uint64_t)(uint16_t)(gen) << 48 | (pos))
#define SESSION_BITS  18u
#define FLAG_BITS     2u

static uint16_t tag_gen(uint64_t lo)
{
	return (uint16_t)(lo >> 48);
}

uint32_t mdbus_gen_session(uint64_t session_hash)
{
	return (uint32_t)((session_hash ^ session_hash >> 18 ^ session_hash >> 36) & ((1u << SESSION_BITS) - 1u));
}

static const struct mdbus_generation *entry(const struct mdbus_ring_hdr *r, uint64_t gen)
{
	return &r->generation[gen % MDBUS_GENERATIONS];
}

/* A pair of the table; the rare writer never changes hi without lo, so a few tries always do. */
static bool load(const struct mdbus_pair *p, uint64_t gen, struct mdbus_pair *out)
{
	for (int i = 0; i < 8; i++)
		if (mdbus_load_pair(p, out))
			return out->lo != 0 && tag_gen(out->lo) == (uint16_t)gen;
	return false;
}

static void unpack(uint64_t gen, struct mdbus_pair p, struct mdbus_gen *out)
{
	*out = (struct mdbus_gen){
		.gen = gen,
		.base = p.lo & MDBUS_POS_MAX,
		.first_seq = p.hi >> (SESSION_BITS + FLAG_BITS),
		.flags = (uint32_t)(p.hi >> SESSION_BITS) & ((1u << FLAG_BITS) - 1u),
		.session = (uint32_t)p.hi & ((1u << SESSION_BITS) - 1u),
	};
}

bool mdbus_gen_get(const struct mdbus_ring_hdr *r, uint64_t gen, struct mdbus_gen *out)
{
	struct mdbus_pair p;

	if (gen == 0 || !load(&entry(r, gen)->open, gen, &p))
		return false;
	unpack(gen, p, out);
	return true;
}

bool mdbus_gen_end(const struct mdbus_ring_hdr *r, uint64_t gen, uint64_t *end)
{
	struct mdbus_pair p;

	if (gen == 0 || !load(&entry(r, gen)->closed, gen, &p))
		return false;
	*end = p.lo & MDBUS_POS_MAX;
	return true;
}

bool mdbus_gen_account(const struct mdbus_ring_hdr *r, struct mdbus_gen *g)
{
	struct mdbus_pair before;

	if (g->gen == 1) {
		g->skipped = g->base;
		g->epoch = 1;
		return true;
	}
	if (!load(&entry(r, g->gen - 1)->closed, g->gen - 1, &before))
		return false;
	g->skipped = (before.hi >> 16) + g->base - (before.lo & MDBUS_POS_MAX) - 1u;
	g->epoch = (before.hi & 0xffffu) + !(g->flags & MDBUS_GEN_JUMPED);
	return true;
}

/* The highest number in the table, whose entries keep 16 bits of it. */
static uint64_t highest(const struct mdbus_ring_hdr *r)
{
	uint64_t gen = 0;

	for (uint32_t i = 0; i < MDBUS_GENERATIONS; i++) {
		uint64_t lo = mdbus_load_acquire(&r->generation[i].open.lo);

		if (tag_gen(lo) > gen && tag_gen(lo) % MDBUS_GENERATIONS == i)
			gen = tag_gen(lo);
	}
	return gen;
}

uint64_t mdbus_gen_newest(const struct mdbus_ring_hdr *r)
{
	uint64_t gen = mdbus_load_acquire(&r->gen);
	struct mdbus_gen g;

#ifndef MDBUS_MUTANT_generation_hint_believed
	/* the entry is set before the hint: a hint to nothing was damaged */
	if (gen >> 48 != 0 || (gen != 0 && !mdbus_gen_get(r, gen, &g)))
		gen = highest(r);
#endif
	/* the hint may lag behind an opener that was killed; the table cannot hold more than its size beyond it */
	for (uint32_t i = 0; i < MDBUS_GENERATIONS && mdbus_gen_get(r, gen + 1, &g); i++)
		gen++;
	return gen;
}

bool mdbus_gen_find(const struct mdbus_ring_hdr *r, uint64_t pos, struct mdbus_gen *out)
{
	uint64_t newest = mdbus_gen_newest(r);

	for (uint64_t gen = newest; gen > 0 && newest - gen < MDBUS_GENERATIONS; gen--) {
		if (!mdbus_gen_get(r, gen, out))
			return false;
		if (out->base <= pos)
			return true;
	}
	return false;
}

/* What stands in a pair now; never halves of two values, so that a process stopped in between is not misled. */
static struct mdbus_pair settled(const struct mdbus_pair *p)
{
	struct mdbus_pair have;

	while (!mdbus_load_pair(p, &have))
		;
	return have;
}

/* How many generations entry `lo` is ahead of gen; both are modulo 2^16. */
static int ahead(uint64_t lo, uint64_t gen)
{
	return (int16_t)(uint16_t)(tag_gen(lo) - (uint16_t)gen);
}

int mdbus_gen_open(struct mdbus_ring_hdr *r, struct mdbus_gen *g)
{
	struct mdbus_pair *open = &r->generation[g->gen % MDBUS_GENERATIONS].open;
	struct mdbus_pair have = settled(open);
	struct mdbus_pair to = {
		TAG(g->gen, g->base),
		g->first_seq << (SESSION_BITS + FLAG_BITS) | (uint64_t)g->flags << SESSION_BITS | g->session,
	};
	uint64_t hint;

	for (;;) {
		if (have.lo != 0 && ahead(have.lo, g->gen) == 0) {
			unpack(g->gen, have, g);
			break;
		}
		if (have.lo != 0 && ahead(have.lo, g->gen) > 0)
			return -ESTALE;
		if (have.lo != 0 && ahead(have.lo, g->gen) != -(int)MDBUS_GENERATIONS)
			return -EPROTO;
		MDBUS_HOOK("gen.open.before");
		if (mdbus_cas_pair(open, &have, to))
			break;
	}
	MDBUS_HOOK("gen.open.after");
	hint = mdbus_load_relaxed(&r->gen);
	while (hint < g->gen &&
	       !__atomic_compare_exchange_n(&r->gen, &hint, g->gen, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	MDBUS_HOOK("gen.open.told");
	return 0;
}

void mdbus_gen_close(struct mdbus_ring_hdr *r, uint64_t gen, uint64_t end)
{
	struct mdbus_pair *closed = &r->generation[gen % MDBUS_GENERATIONS].closed;
	struct mdbus_pair have = settled(closed);
	struct mdbus_gen g;

	if (!mdbus_gen_get(r, gen, &g) || !mdbus_gen_account(r, &g))
		return;
	/* a later generation may have taken the entry: then this one ended long ago */
	while (have.lo == 0 || ahead(have.lo, gen) < 0) {
		struct mdbus_pair to = { TAG(gen, end), g.skipped << 16 | (g.epoch & 0xffffu) };

		MDBUS_HOOK("gen.close.before");
		if (mdbus_cas_pair(closed, &have, to))
			break;
	}
	MDBUS_HOOK("gen.close.after");
}
