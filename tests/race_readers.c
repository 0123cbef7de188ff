/* SPDX-License-Identifier: Apache-2.0
 *
 * race_readers - 64 subscribers of one line, which laps them again and again: what each was given and what it was told it had lost
 * add up to what was published, to the message; nothing is torn.
 *
 * mutants: skip_recheck overrun_one_short
 */
#include <stdio.h>
#include "guard.h"
#include "readers_bed.h"

static void readers(uint32_t n, uint32_t batches, uint32_t pause_every)
{
	struct readers_plan p = { .readers = n, .batches = batches, .pause_every = pause_every, .mixed = true };
	struct readers_result r;

	readers_run(&p, &r);
	printf("%u readers of %llu messages: %llu delivered, %llu lost in %llu overruns, %llu torn, %llu miscounted\n", n,
	       (unsigned long long)r.published, (unsigned long long)r.delivered, (unsigned long long)r.lost,
	       (unsigned long long)r.overruns, (unsigned long long)r.torn, (unsigned long long)r.miscounted);
	CHECK_U64(r.torn, 0);
	CHECK_U64(r.miscounted, 0);
	CHECK_U64(r.delivered + r.lost, n * r.published);
	CHECK(n < 64 || (r.overruns > n && r.delivered > n * UINT64_C(100))); /* else nothing was tried */
}

int main(void)
{
	for (int i = 0; i < 4; i++) {
		readers(64, 1024, 128); /* twice the ring at once, which so many cannot follow on any host */
		readers(2, 2048, 0);
	}
	return 0;
}
