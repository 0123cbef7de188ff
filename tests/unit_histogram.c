/* SPDX-License-Identifier: Apache-2.0
 *
 * The histogram against a sorted array: every value lies in its bucket, and a quantile is never below the true one and never
 * more than an eighth above it.
 */
#include <mdbus/histogram.h>
#include "ring_bed.h"

#define VALUES 20000u

static struct mdbus_hist hist;
static uint64_t value[VALUES];

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void test_buckets(void)
{
	for (uint32_t i = 0; i < MDBUS_HIST_BUCKETS; i++) {
		uint64_t up = mdbus_hist_upper(i);

		BED_CHECK(mdbus_hist_index(up) == i, "bucket %u holds its largest value %lu", i, (unsigned long)up);
		BED_CHECK(i + 1u == MDBUS_HIST_BUCKETS || mdbus_hist_index(up + 1u) == i + 1u, "and no larger one, %u", i);
	}
	BED_CHECK(mdbus_hist_upper(MDBUS_HIST_BUCKETS - 1u) == (UINT64_C(1) << 40) - 1u, "2^40 is the end");
	BED_CHECK(mdbus_hist_index(UINT64_MAX) == MDBUS_HIST_BUCKETS - 1u, "larger ones in the last bucket");
}

static void check_quantiles(unsigned n)
{
	static const uint32_t q[] = { 1, 100, 5000, 9000, 9900, 9990, 9999, 10000 };

	qsort(value, n, sizeof(value[0]), ascending);
	BED_CHECK(mdbus_hist_total(&hist) == n && hist.max == value[n - 1u], "total and maximum");
	for (unsigned i = 0; i < sizeof(q) / sizeof(q[0]); i++) {
		uint64_t rank = ((uint64_t)n * q[i] + 9999u) / 10000u, exact = value[rank - 1u];
		uint64_t have = mdbus_hist_quantile(&hist, q[i]);

		BED_CHECK(have >= exact && have <= exact + exact / 8u, "quantile %u of %u: %lu, exactly %lu", q[i], n,
		          (unsigned long)have, (unsigned long)exact);
	}
}

int main(void)
{
	uint64_t seed = 11;

	test_buckets();
	BED_CHECK(mdbus_hist_quantile(&hist, 5000) == 0, "empty");
	for (unsigned i = 0; i < VALUES; i++) {
		uint64_t bits = bed_random(&seed) % 40u;

		value[i] = bed_mix(i) >> (63u - bits) & ((UINT64_C(1) << 40) - 1u);
		mdbus_hist_add(&hist, value[i]);
		if (i < 3 || i == 1000)
			check_quantiles(i + 1u);
	}
	check_quantiles(VALUES);
	mdbus_hist_add(&hist, UINT64_C(1) << 50);
	BED_CHECK(mdbus_hist_quantile(&hist, 10000) == UINT64_C(1) << 50, "the maximum, beyond the last bucket too");
	puts("unit_histogram: ok");
	return 0;
}
