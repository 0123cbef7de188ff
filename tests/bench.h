/* SPDX-License-Identifier: Apache-2.0
 *
 * bench.h - what a benchmark needs: a clock, pinned processes, and the machine's own floor beside each figure.
 *
 * The floor is the one-way time of a bare cache line from core to core: half the median round trip of an 8-byte word that goes
 * there on one line and comes back on another.  (One line for both ways would be a floor that no broadcast can reach: a
 * core that reads a line and then writes it is handed it over for good, while a reader that only reads has to be
 * made to let go of it each time.  It takes half as long where cores are far apart.)
 *
 * On a shared or virtual machine the floor changes from one second to the next, so a figure is taken in short windows with
 * the floor before and after each; a window whose floor moved by more than a fifth says nothing and is taken again.
 *
 * MDBUS_BENCH_JSON names a file to which each figure is appended as one line of JSON; tests/bench makes one document of it.
 */
#ifndef MDBUS_TESTS_BENCH_H
#define MDBUS_TESTS_BENCH_H

#include <jansson.h>
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

/* A cache line each way, and the meeting point of the two sides, 0 and 1. */
struct bench_pair {
	struct {
		uint64_t ball BENCH_LINE;
	} to[2];
	uint64_t at[2] BENCH_LINE;
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

/* Wait until the clock has come to *due, and set that to `ticks` later. */
static inline void bench_pace(uint64_t *due, uint64_t ticks)
{
	uint64_t now;

	while ((now = bench_ticks()) < *due)
		mdbus_pause();
	*due = now + ticks;
}

/* Both sides call this, and begin a round every `pace` ticks.  Side 0 gets the one-way time in ticks, side 1 gets 0. */
static inline double bench_floor(struct bench_pair *p, unsigned side, uint64_t pace)
{
	static double round[BENCH_ROUNDS];
	uint64_t due = 0;

	mdbus_store_relaxed(&p->to[side ^ 1u].ball, 0);
	bench_meet(p, side);
	for (uint64_t i = 1; i <= BENCH_ROUNDS; i++) {
		if (side == 0)
			bench_pace(&due, pace);
		uint64_t t = bench_ticks();

		if (side == 0)
			mdbus_store_release(&p->to[1].ball, i);
		while (mdbus_load_acquire(&p->to[side].ball) != i)
			;
		if (side == 1)
			mdbus_store_release(&p->to[0].ball, i);
		round[i - 1u] = (double)(bench_ticks() - t) / 2;
	}
	bench_meet(p, side);
	return side == 0 ? bench_quantile(round, BENCH_ROUNDS, 0.5) : 0;
}

static inline bool bench_steady(double before, double after)
{
	return fabs(after - before) <= before / 5;
}

/* A message of len bytes, a multiple of 8, each word its position. */
static inline void bench_write(uint8_t *to, uint32_t len, uint64_t pos)
{
	for (uint32_t i = 0; i < len; i += 8u)
		__builtin_memcpy(to + i, &pos, 8);
}

/*
 * What one side of a bench works on, as a line and a subscriber have it: a view of the ring, and an arena.  In a variable of
 * the loop's own it stays in registers: a global might be changed by any store of a message's bytes.
 */
struct bench_side {
	struct mdbus_ring ring;
	uint8_t *arena;
	uint64_t arena_size;
};

/* line: of a producer; BED_LINES: a reader, of what line 0 publishes. */
static inline struct bench_side bench_side(const struct bed *b, uint32_t line)
{
	return (struct bench_side){ b->line[line], b->arena[line < BED_LINES ? line : 0], b->arena_size };
}

/* True if the message of pos is in buf, whole. */
__attribute__((always_inline)) static inline bool bench_take(const struct bench_side *s, uint64_t pos, uint8_t *buf)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&s->ring, pos);
	uint64_t stamp, ref;
	enum mdbus_look look = mdbus_ring_look(&s->ring, pos, 1, &stamp, &ref);

	BED_CHECK(look != MDBUS_LOOK_LAPPED, "lapped at %lu", (unsigned long)pos);
	if (look == MDBUS_LOOK_NONE)
		return false;
	const uint8_t *bytes = mdbus_ring_bytes(&s->ring, slot, stamp, ref, s->arena, s->arena_size);

	if (bytes == NULL)
		return false;
	mdbus_copy(buf, bytes, mdbus_ref_len(ref));
	return mdbus_ring_still(slot, stamp);
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

/* Take the figures that `measure` appends to a report, and tell each of them. */
static inline void bench_report(void (*measure)(json_t *report))
{
	json_t *report = json_array(), *figure;
	size_t i;

	measure(report);
	json_array_foreach(report, i, figure) {
		char *line = json_dumps(figure, JSON_COMPACT);

		bench_json("%s", line);
		free(line);
	}
	json_decref(report);
}

#endif
