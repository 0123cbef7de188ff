/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash of flows against the vectors that Microsoft published for it, against the definition worked out bit by bit with other
 * keys, and where DPDK is there against its rte_softrss; and the table of queues against the one drivers start with.
 *
 * mutants: rss_ports_swapped
 */
#include <stdio.h>
#include <stdlib.h>
#include "../ingest/rss.h"
#ifdef MDBUS_HAVE_DPDK
#include <rte_thash.h>
#endif

#define RANDOM 200000u
#define IP(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

struct tuple {
	uint32_t src, dst;
	uint16_t sport, dport;
};

/* "Verifying the RSS Hash Calculation", IPv4 with TCP. */
static const struct {
	struct tuple of;
	uint32_t hash;
} published[] = {
	{ { IP(66, 9, 149, 187), IP(161, 142, 100, 80), 2794, 1766 }, 0x51ccc178 },
	{ { IP(199, 92, 111, 2), IP(65, 69, 140, 83), 14230, 4739 }, 0xc626b0ea },
	{ { IP(24, 19, 198, 95), IP(12, 22, 207, 184), 12898, 38024 }, 0x5c2b394a },
	{ { IP(38, 27, 205, 30), IP(209, 142, 163, 6), 48228, 2217 }, 0xafc7327f },
	{ { IP(153, 39, 163, 191), IP(202, 188, 127, 2), 44251, 1303 }, 0x10e828a2 },
};

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static struct tuple random_tuple(void)
{
	uint64_t a = next_random(), b = next_random();

	return (struct tuple){ (uint32_t)a, (uint32_t)(a >> 32), (uint16_t)b, (uint16_t)(b >> 16) };
}

static uint32_t hash(const struct mdbus_rss *rss, const struct tuple *t)
{
	return mdbus_rss_hash(rss, t->src, t->dst, t->sport, t->dport);
}

/* For each bit of the input that is set, the 32 bits of the key that start there. */
static uint32_t by_definition(const uint8_t *key, const struct tuple *t)
{
	const uint32_t word[3] = { t->src, t->dst, (uint32_t)t->sport << 16 | t->dport };
	uint32_t sum = 0;

	for (uint32_t bit = 0; bit < 96; bit++) {
		if (!(word[bit / 32] >> (31 - bit % 32) & 1u))
			continue;
		for (uint32_t i = 0; i < 32; i++)
			sum ^= (uint32_t)(key[(bit + i) / 8] >> (7 - (bit + i) % 8) & 1u) << (31 - i);
	}
	return sum;
}

static void differ(const char *from, const struct tuple *t, uint32_t is, uint32_t wanted)
{
	printf("%08x:%u to %08x:%u: %08x, but %08x by %s\n", t->src, t->sport, t->dst, t->dport, is, wanted, from);
	exit(1);
}

static void try_published(const struct mdbus_rss *rss)
{
	for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++)
		if (hash(rss, &published[i].of) != published[i].hash)
			differ("the published vector", &published[i].of, hash(rss, &published[i].of), published[i].hash);
}

static void try_random(const uint8_t *key)
{
	struct mdbus_rss rss;

	mdbus_rss_init(&rss, key);
	for (uint32_t i = 0; i < RANDOM / 20u; i++) {
		struct tuple t = random_tuple();

		if (hash(&rss, &t) != by_definition(key, &t))
			differ("the definition", &t, hash(&rss, &t), by_definition(key, &t));
	}
}

#ifdef MDBUS_HAVE_DPDK
static void try_dpdk(const struct mdbus_rss *rss, const uint8_t *key)
{
	for (uint32_t i = 0; i < RANDOM; i++) {
		struct tuple t = random_tuple();
		union rte_thash_tuple u = {
			.v4 = { .src_addr = t.src, .dst_addr = t.dst, .sport = t.sport, .dport = t.dport },
		};
		uint32_t wanted = rte_softrss((uint32_t *)&u, RTE_THASH_V4_L4_LEN, key);

		if (hash(rss, &t) != wanted)
			differ("rte_softrss", &t, hash(rss, &t), wanted);
	}
}
#endif

static void try_queues(void)
{
	uint8_t table[MDBUS_RSS_TABLE];

	for (uint32_t n = 1; n <= 9; n++) {
		for (uint32_t i = 0; i < MDBUS_RSS_TABLE; i++)
			table[i] = (uint8_t)(i % n);
		for (uint32_t i = 0; i < 10000; i++) {
			uint32_t h = (uint32_t)next_random();

			if (mdbus_rss_queue(h, n) != table[h & (MDBUS_RSS_TABLE - 1u)]) {
				printf("hash %08x of %u queues: %u\n", h, n, mdbus_rss_queue(h, n));
				exit(1);
			}
		}
	}
}

int main(void)
{
	uint8_t other[MDBUS_RSS_KEY_BYTES];
	struct mdbus_rss rss;

	for (size_t i = 0; i < sizeof(other); i++)
		other[i] = (uint8_t)next_random();
	mdbus_rss_init(&rss, NULL);
	try_published(&rss);
	try_random(mdbus_rss_key);
	try_random(other);
	try_queues();
#ifdef MDBUS_HAVE_DPDK
	try_dpdk(&rss, mdbus_rss_key);
	mdbus_rss_init(&rss, other);
	try_dpdk(&rss, other);
	printf("as published, as defined, and as rte_softrss has it: %u flows of 2 keys\n", RANDOM);
#else
	printf("as published and as defined; no DPDK to compare with\n");
#endif
	return 0;
}
