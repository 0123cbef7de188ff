/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of generations: two lines open, close and account for the same generations, one of them always late, over
 * more generations than the table, the stamp and the 16-bit tag can tell apart.
 */
#ifndef MDBUS_HOOKS
#define MDBUS_HOOKS 1
#endif
#include "../bus/generation.h"
#include "ring_bed.h"

#include <errno.h>

/* What the table should say, kept in the test's own terms. */
struct expected {
	uint64_t base, first_seq, end, skipped, epoch;
	uint32_t flags, session;
};

static struct expected want[70000];
static struct mdbus_ring_hdr *ring;

void mdbus_hook(const char *point);

void mdbus_hook(const char *point)
{
	(void)point;
}

static struct mdbus_gen as_gen(uint64_t gen)
{
	return (struct mdbus_gen){ .gen = gen, .base = want[gen].base, .first_seq = want[gen].first_seq,
		                   .flags = want[gen].flags, .session = want[gen].session };
}

/* Each generation uses `used` positions, end record included, and leaves `hole` behind it that no record uses. */
static void plan(uint64_t gen, uint64_t used, uint64_t hole, uint32_t flags, uint64_t first_seq)
{
	const struct expected *before = &want[gen - 1u];
	struct expected *w = &want[gen];

	w->base = gen == 1 ? 1000 : before->end + 1u + hole;
	w->end = w->base + used - 1u;
	w->skipped = gen == 1 ? w->base : before->skipped + hole;
	w->epoch = gen == 1 ? 1 : before->epoch + !(flags & MDBUS_GEN_JUMPED);
	w->flags = flags;
	w->first_seq = first_seq;
	w->session = mdbus_gen_session(bed_mix(gen));
}

static void check_open(uint64_t gen, bool accounted)
{
	struct mdbus_gen g;

	BED_CHECK(mdbus_gen_get(ring, gen, &g), "generation %lu", (unsigned long)gen);
	BED_CHECK(g.gen == gen && g.base == want[gen].base && g.first_seq == want[gen].first_seq, "%lu", (unsigned long)gen);
	BED_CHECK(g.flags == want[gen].flags && g.session == want[gen].session, "%lu", (unsigned long)gen);
	BED_CHECK(mdbus_gen_account(ring, &g) == accounted, "%lu", (unsigned long)gen);
	BED_CHECK(!accounted || (g.skipped == want[gen].skipped && g.epoch == (want[gen].epoch & 0xffffu)),
	          "generation %lu: skipped %lu epoch %lu", (unsigned long)gen, (unsigned long)g.skipped,
	          (unsigned long)g.epoch);
}

static void check_find(uint64_t gen)
{
	struct mdbus_gen g;

	BED_CHECK(mdbus_gen_find(ring, want[gen].base, &g) && g.gen == gen, "first of %lu", (unsigned long)gen);
	BED_CHECK(mdbus_gen_find(ring, want[gen].end, &g) && g.gen == gen, "last of %lu", (unsigned long)gen);
	BED_CHECK(gen == 1 || (mdbus_gen_find(ring, want[gen].base - 1u, &g) && g.gen == gen - 1u), "before %lu",
	          (unsigned long)gen);
}

static void test_many(void)
{
	uint64_t end, seed = 5;
	struct mdbus_gen g;

	BED_CHECK(mdbus_gen_newest(ring) == 0 && !mdbus_gen_find(ring, 5, &g), "none yet");
	BED_CHECK(!mdbus_gen_get(ring, 0, &g) && !mdbus_gen_end(ring, 0, &end), "there is no generation 0");
	for (uint64_t gen = 1; gen < 70000; gen++) {
		uint32_t r = bed_random(&seed);

		plan(gen, 1u + r % 7u, r >> 8 & 3u ? r >> 10 & 1023u : 0, gen == 1 ? MDBUS_GEN_MIDSTREAM : r >> 20 & 1u,
		     r & 1u << 30 ? MDBUS_SEQ_MAX - gen : r);

		/* the first line opens it as planned; what another line believes gives way to it */
		struct mdbus_gen mine = as_gen(gen), late = mine;

		late.base += 5;
		late.first_seq ^= 3;
		late.flags ^= MDBUS_GEN_JUMPED;
		late.session ^= 1u;
		BED_CHECK(mdbus_gen_open(ring, &mine) == 0 && mdbus_gen_open(ring, &late) == 0, "%lu", (unsigned long)gen);
		BED_CHECK(late.base == want[gen].base && late.first_seq == want[gen].first_seq &&
		          late.flags == want[gen].flags && late.session == want[gen].session, "%lu", (unsigned long)gen);
		BED_CHECK(mdbus_gen_newest(ring) == gen, "%lu", (unsigned long)gen);
		check_open(gen, gen == 1);
		if (gen > 1) {
			BED_CHECK(!mdbus_gen_end(ring, gen - 1u, &end), "%lu is not closed yet", (unsigned long)gen - 1u);
			mdbus_gen_close(ring, gen, want[gen].end);
			BED_CHECK(!mdbus_gen_end(ring, gen, &end), "not closed before its predecessor");
			mdbus_gen_close(ring, gen - 1u, want[gen - 1u].end);
			mdbus_gen_close(ring, gen - 1u, want[gen - 1u].end + 9u);
			BED_CHECK(mdbus_gen_end(ring, gen - 1u, &end) && end == want[gen - 1u].end, "closed once");
			check_open(gen, true);
		}
		check_find(gen);
		if (gen > MDBUS_GENERATIONS) {
			uint64_t gone = gen - MDBUS_GENERATIONS;
			struct mdbus_gen stale = as_gen(gone);

			BED_CHECK(!mdbus_gen_get(ring, gone, &g), "%lu has left the table", (unsigned long)gone);
			BED_CHECK(mdbus_gen_open(ring, &stale) == -ESTALE, "a stale opener");
			mdbus_gen_close(ring, gone, 1);
			BED_CHECK(gone < 2 || !mdbus_gen_find(ring, want[gone - 1u].base, &g), "before the oldest");
			check_find(gone + 2u);
		}
	}
}

/* The hint lags when an opener is killed before it has set it; a damaged entry is told from a stale one. */
static void test_hint_and_damage(void)
{
	uint64_t newest = mdbus_gen_newest(ring);
	struct mdbus_gen g = as_gen(newest);

	mdbus_store_relaxed(&ring->gen, newest - 3u);
	BED_CHECK(mdbus_gen_newest(ring) == newest, "found without the hint");
	BED_CHECK(mdbus_gen_open(ring, &g) == 0 && ring->gen == newest, "the next one helps");

	g = as_gen(newest);
	g.gen = newest + 1u;
	ring->generation[g.gen % MDBUS_GENERATIONS].open.lo = (uint64_t)(uint16_t)(newest - 300u) << 48 | 77u;
	BED_CHECK(mdbus_gen_open(ring, &g) == -EPROTO, "an entry that cannot be there");
}

static void test_session(void)
{
	uint32_t seen[4] = { 0 };

	for (uint64_t i = 0; i < 1000; i++) {
		uint32_t s = mdbus_gen_session(bed_mix(i));

		BED_CHECK(s < 1u << 18, "18 bits");
		seen[s & 3u]++;
	}
	for (unsigned i = 0; i < 4; i++)
		BED_CHECK(seen[i] > 150, "spread");
}

int main(void)
{
	struct bed bed = bed_make(8, 64, false, 4096);

	ring = bed.hdr;
	test_many();
	test_hint_and_damage();
	test_session();
	puts("unit_generation: ok");
	return 0;
}
