/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_readers - what a message costs the line that publishes it, with 1, 2, 4 and 64 subscribers of it, which all check and
 * count what they are given.
 *
 *   paced     64 messages each 400 us: subscribers have time to keep up, and spin
 *   at once   as many as the line can take, so that all are lapped
 *   asleep    paced, and subscribers sleep until they are woken, which is the line's to do: a system call
 *
 * The line has core 0, subscribers share the others.  Numbers of subscribers take turns; a figure is the median of the turns.
 */
#include "bench.h"
#include "readers_bed.h"

#define TURNS 5u
#define PACE  400000u

static const uint32_t numbers[] = { 1, 2, 4, 64 };

#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static const struct {
	const char *name;
	uint32_t batches;
	uint64_t pace_ns;
	bool sleeping;
} ways[] = { { "paced", 150, PACE, false }, { "at once", 2000, 0, false }, { "asleep", 150, PACE, true } };

/* Both sides of it are processes of their own: this one is not to stay bound to a core. */
static double floor_now(void)
{
	struct bench_pair *p = bed_shared(sizeof(*p));
	double *ns = bed_shared(sizeof(*ns)), floor;

	for (unsigned side = 0; side < 2; side++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			bed_pin(side);
			bench_claim();
			floor = bench_ns(bench_floor(p, side, 0));
			if (side == 0)
				*ns = floor;
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	floor = *ns;
	munmap(p, sizeof(*p));
	munmap(ns, sizeof(*ns));
	return floor;
}

static void measure(unsigned way)
{
	static double floors[TURNS];
	static double ns[NUMBERS][TURNS], ratio[TURNS];
	struct readers_result sum[NUMBERS] = { 0 }, r;

	for (unsigned turn = 0; turn < TURNS; turn++) {
		floors[turn] = floor_now();
		for (size_t i = 0; i < NUMBERS; i++) {
			struct readers_plan p = { .readers = numbers[i], .batches = ways[way].batches, .pin = bed_pin,
				.claim = bench_claim, .rest = bench_rest, .pace_ns = ways[way].pace_ns, .sleeping = ways[way].sleeping };

			readers_run(&p, &r);
			ns[i][turn] = r.ns;
			sum[i].delivered += r.delivered;
			sum[i].lost += r.lost;
			sum[i].torn += r.torn;
			sum[i].miscounted += r.miscounted;
		}
	}
	double floor = bench_quantile(floors, TURNS, 0.5);

	printf("%s, floor %.0f ns\n", ways[way].name, floor);
	for (size_t i = 0; i < NUMBERS; i++) {
		for (unsigned turn = 0; turn < TURNS; turn++)
			ratio[turn] = ns[i][turn] / ns[0][turn];
		double over = bench_quantile(ratio, TURNS, 0.5);
		double own = bench_quantile((double[TURNS]){ ns[i][0], ns[i][1], ns[i][2], ns[i][3], ns[i][4] }, TURNS, 0.5);

		printf("  %2u subscribers: %5.1f ns a message = %4.2f x one's; %lu delivered, %lu lost and told, %lu miscounted, "
		       "%lu torn\n", numbers[i], own, over, (unsigned long)sum[i].delivered,
		       (unsigned long)sum[i].lost, (unsigned long)sum[i].miscounted, (unsigned long)sum[i].torn);
		bench_json("{\"figure\":\"readers\",\"way\":\"%s\",\"readers\":%u,\"line_ns\":%.2f,\"over_one\":%.3f,\"floor_ns\":%.1f,"
		           "\"delivered\":%lu,\"lost\":%lu,\"miscounted\":%lu,\"torn\":%lu}", ways[way].name, numbers[i], own, over, floor,
		           (unsigned long)sum[i].delivered, (unsigned long)sum[i].lost, (unsigned long)sum[i].miscounted,
		           (unsigned long)sum[i].torn);
		BED_CHECK(sum[i].torn == 0 && sum[i].miscounted == 0, "torn or miscounted");
	}
}

int main(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		puts("bench_readers: needs two cores");
		return 77;
	}
	for (unsigned way = 0; way < sizeof(ways) / sizeof(ways[0]); way++)
		measure(way);
	return 0;
}
