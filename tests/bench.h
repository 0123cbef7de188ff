/* SPDX-License-Identifier: Apache-2.0
 *
 * bench.h - what a benchmark needs: a clock, pinned processes, and the machine's own floor beside each figure.
 *
 * The floor is the one-way time of a bare cache line that two processes throw to and fro (half of the median round trip).
 * On a shared or virtual machine it changes from one second to the next, so a figure is taken in short windows with the
 * floor before and after each; a window whose floor moved by more than a fifth says nothing and is taken again.
 *
 * MDBUS_BENCH_JSON names a file to which each figure is appended as one line of JSON; tests/bench makes one document of it.
 */
#ifndef MDBUS_TESTS_BENCH_H
#define MDBUS_TESTS_BENCH_H

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "ring_bed.h"

#define BENCH_LINE   __attribute__((aligned(128)))
#define BENCH_ROUNDS 1000u

/* Ticks of a counter that all cores share; bench_ns() turns them into nanoseconds. */
static inline uint64_t bench_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t t;

	__asm__ __volatile__("isb; mrs %0, cntvct_el0" : "=r"(t)::"memory");
	return t;
#endif
}

static inline double bench_ns(double ticks)
{
	static double per_tick;

	if (per_tick == 0) {
		uint64_t ns = mdbus_clock_ns(), t = bench_ticks();

		while (mdbus_clock_ns() - ns < 20000000u)
			;
		per_tick = (double)(mdbus_clock_ns() - ns) / (double)(bench_ticks() - t);
	}
	return ticks * per_tick;
}

/* For one window nobody else gets this core, where the system allows it; bench_rest() gives it back for a while. */
static inline void bench_claim(void)
{
	(void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
}

static inline void bench_rest(void)
{
	(void)sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ .sched_priority = 0 });
	usleep(3000);
}

static inline int bench_ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts v. 0 when empty. */
static inline double bench_quantile(double *v, size_t n, double q)
{
	qsort(v, n, sizeof(*v), bench_ascending);
	return n == 0 ? 0 : v[(size_t)((double)(n - 1u) * q)];
}

/* One cache line that goes to and fro, and the meeting point of its two sides, 0 and 1. */
struct bench_pair {
	uint64_t ball BENCH_LINE;
	uint64_t at[2] BENCH_LINE;
	uint64_t note;
};

static inline void bench_meet(struct bench_pair *p, unsigned side)
{
	uint64_t mine = __atomic_add_fetch(&p->at[side], 1, __ATOMIC_SEQ_CST);

	for (unsigned spins = 1; mdbus_load_acquire(&p->at[side ^ 1u]) < mine; spins++) {
		mdbus_pause();
		if (spins % 256u == 0)
			sched_yield(); /* a process on this core may be what the other side waits for */
	}
}

/* Both sides call this.  Side 0 gets the one-way time in ticks, side 1 gets 0. */
static inline double bench_floor(struct bench_pair *p, unsigned side)
{
	static double round[BENCH_ROUNDS];

	bench_meet(p, side);
	for (uint64_t i = 0; i < BENCH_ROUNDS; i++) {
		uint64_t t = bench_ticks();

		if (side == 0)
			mdbus_store_release(&p->ball, 2u * i + 1u);
		while (mdbus_load_acquire(&p->ball) != 2u * i + 2u - side)
			;
		if (side == 1)
			mdbus_store_release(&p->ball, 2u * i + 2u);
		round[i] = (double)(bench_ticks() - t) / 2;
	}
	bench_meet(p, side);
	if (side == 0)
		mdbus_store_release(&p->ball, 0);
	bench_meet(p, side);
	return side == 0 ? bench_quantile(round, BENCH_ROUNDS, 0.5) : 0;
}

/* How late side `to` looks to the other side in a round that the other begins, in ticks, its counter's lead included. */
static inline double bench_one_way(struct bench_pair *p, unsigned side, unsigned to)
{
	static double late[BENCH_ROUNDS];

	for (unsigned i = 0; i < BENCH_ROUNDS; i++) {
		uint64_t sent, there;

		bench_meet(p, side);
		if (side == to) {
			while (mdbus_load_acquire(&p->ball) != 1)
				;
			mdbus_store_release(&p->ball, bench_ticks());
		} else {
			sent = bench_ticks();
			mdbus_store_release(&p->ball, 1);
			while ((there = mdbus_load_acquire(&p->ball)) <= 1)
				;
			late[i] = (double)there - ((double)sent + (double)bench_ticks()) / 2;
		}
		bench_meet(p, side);
		if (side != to)
			mdbus_store_release(&p->ball, 0);
	}
	return bench_quantile(late, BENCH_ROUNDS, 0.5);
}

/*
 * Both sides call this.  Side 1 gets how far its counter is ahead of side 0's, in ticks; what is the same in both directions,
 * such as the first message of a round being slower than its answer, cancels out.
 */
static inline double bench_skew(struct bench_pair *p, unsigned side)
{
	double mine = bench_one_way(p, side, 1), yours = 0;

	if (side == 0)
		__builtin_memcpy(&p->note, &mine, 8);
	mine = bench_one_way(p, side, 0);
	bench_meet(p, side);
	__builtin_memcpy(&yours, &p->note, 8);
	return side == 1 ? (yours - mine) / 2 : 0;
}

static inline bool bench_steady(double before, double after)
{
	return fabs(after - before) <= before / 5;
}

/* Append one figure to the JSON file, if one is wanted. */
__attribute__((format(printf, 1, 2))) static inline void bench_json(const char *format, ...)
{
	const char *path = getenv("MDBUS_BENCH_JSON");
	FILE *f = path ? fopen(path, "a") : NULL;
	va_list args;

	if (f == NULL)
		return;
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	fputc('\n', f);
	fclose(f);
}

#endif
