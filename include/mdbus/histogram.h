/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/histogram.h - log-linear histogram of nanoseconds, usable in shared memory.
 *
 * Eight buckets per power of two (12.5 % resolution) from 0 to 2^40 ns; a larger value lands in the last bucket.
 * One writer process, any number of readers; plain u64 words, so a writer killed inside add() leaves at most one
 * value uncounted.  Debian packages no C histogram library, hence this one.
 */
#ifndef MDBUS_HISTOGRAM_H
#define MDBUS_HISTOGRAM_H

#include <mdbus/atomics.h>

#define MDBUS_HIST_SUB_BITS 3u
#define MDBUS_HIST_TOP_BIT  40u
#define MDBUS_HIST_BUCKETS  ((MDBUS_HIST_TOP_BIT - MDBUS_HIST_SUB_BITS + 1u) << MDBUS_HIST_SUB_BITS)

struct mdbus_hist {
	uint64_t max;
	uint64_t bucket[MDBUS_HIST_BUCKETS];
};

/* The bucket that value v belongs to. */
static inline uint32_t mdbus_hist_index(uint64_t v)
{
	if (v < (1u << MDBUS_HIST_SUB_BITS))
		return (uint32_t)v;
	uint32_t top = 63u - (uint32_t)__builtin_clzll(v);
	uint32_t sub = (uint32_t)(v >> (top - MDBUS_HIST_SUB_BITS)) & ((1u << MDBUS_HIST_SUB_BITS) - 1u);
	uint32_t i = ((top - MDBUS_HIST_SUB_BITS + 1u) << MDBUS_HIST_SUB_BITS) + sub;

	return i < MDBUS_HIST_BUCKETS ? i : MDBUS_HIST_BUCKETS - 1u;
}

/* The largest value that bucket i holds. */
static inline uint64_t mdbus_hist_upper(uint32_t i)
{
	if (i < (1u << MDBUS_HIST_SUB_BITS))
		return i;
	uint32_t top = (i >> MDBUS_HIST_SUB_BITS) + MDBUS_HIST_SUB_BITS - 1u;
	uint64_t sub = (i & ((1u << MDBUS_HIST_SUB_BITS) - 1u)) + (1u << MDBUS_HIST_SUB_BITS);

	return ((sub + 1u) << (top - MDBUS_HIST_SUB_BITS)) - 1u;
}

/* The same value n times. */
static inline void mdbus_hist_add_n(struct mdbus_hist *h, uint64_t v, uint64_t n)
{
	uint64_t *b = &h->bucket[mdbus_hist_index(v)];

	mdbus_count(b, n);
	if (v > h->max)
		mdbus_store_relaxed(&h->max, v);
}

static inline void mdbus_hist_add(struct mdbus_hist *h, uint64_t v)
{
	mdbus_hist_add_n(h, v, 1u);
}

/* Number of values added so far. */
static inline uint64_t mdbus_hist_total(const struct mdbus_hist *h)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < MDBUS_HIST_BUCKETS; i++)
		n += mdbus_load_relaxed(&h->bucket[i]);
	return n;
}

/* The value below or at which `permille_x10 / 10000` of the values lie (5000 = p50, 9990 = p99.9); 0 when empty. */
static inline uint64_t mdbus_hist_quantile(const struct mdbus_hist *h, uint32_t permille_x10)
{
	uint64_t total = mdbus_hist_total(h), want = (total * permille_x10 + 9999u) / 10000u, seen = 0;

	if (total == 0)
		return 0;
	for (uint32_t i = 0; i < MDBUS_HIST_BUCKETS; i++) {
		seen += mdbus_load_relaxed(&h->bucket[i]);
		if (seen >= want && seen > 0) {
			uint64_t max = mdbus_load_relaxed(&h->max), up = mdbus_hist_upper(i);

			return up < max && i + 1u < MDBUS_HIST_BUCKETS ? up : max;
		}
	}
	return mdbus_load_relaxed(&h->max);
}

#endif
