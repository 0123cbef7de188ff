/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/atomics.h - the few machine operations the bus is built on.
 *
 * Shared words are plain integers accessed only through these functions, so that the same structure can be
 * mapped read-only by one process and read-write by another.  Orders follow C11.  The 16-byte compare-and-swap is
 * the single instruction on which every guarantee of the ring rests: cmpxchg16b on x86-64, casp / ldxp-stxp
 * on aarch64.  It is never emulated with a lock.
 */
#ifndef MDBUS_ATOMICS_H
#define MDBUS_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define MDBUS_CACHE_LINE 64u

#define mdbus_load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define mdbus_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define mdbus_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define mdbus_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Orders earlier loads before later loads: between a reader's copy and its re-check of the stamp. */
#define mdbus_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
/* Orders earlier stores before later stores: between a slot's mark and its payload. */
#define mdbus_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)

/* A counter with one writer process and any number of readers: no locked instruction is needed. */
#define mdbus_count(p, n) mdbus_store_relaxed((p), *(p) + (n))

/* The first 16 bytes of a slot, and every other word pair that changes as one. */
struct mdbus_pair {
	uint64_t lo;
	uint64_t hi;
} __attribute__((aligned(16)));

/*
 * Replace *p by `to` if it equals *expect; else store what was found in *expect.  One locked instruction, acquire and
 * release.  A process killed around it leaves either the old pair or the new one.
 */
static inline bool mdbus_cas_pair(struct mdbus_pair *p, struct mdbus_pair *expect, struct mdbus_pair to)
{
#if defined(__x86_64__)
	bool done;

	__asm__ __volatile__("lock cmpxchg16b %1"
			     : "=@ccz"(done), "+m"(*p), "+a"(expect->lo), "+d"(expect->hi)
			     : "b"(to.lo), "c"(to.hi)
			     : "memory");
	return done;
#elif defined(__aarch64__)
	uint64_t lo, hi;
	uint32_t fail;

	do {
		__asm__ __volatile__("ldaxp %0, %1, [%2]" : "=&r"(lo), "=&r"(hi) : "r"(p) : "memory");
		bool same = lo == expect->lo && hi == expect->hi;
		__asm__ __volatile__("stlxp %w0, %2, %3, [%1]"
				     : "=&r"(fail)
				     : "r"(p), "r"(same ? to.lo : lo), "r"(same ? to.hi : hi)
				     : "memory");
		if (fail)
			continue;
		if (same)
			return true;
		expect->lo = lo;
		expect->hi = hi;
		return false;
	} while (1);
#else
#error "mdbus needs a 16-byte compare-and-swap: x86-64 or aarch64"
#endif
}

/*
 * Read a pair that others change by mdbus_cas_pair, from a mapping that may be read-only (a locked instruction
 * would fault there).  True if lo was the same before and after hi was read; every writer of a pair changes lo
 * whenever it changes hi, so then the two belong together.
 */
static inline bool mdbus_load_pair(const struct mdbus_pair *p, struct mdbus_pair *out)
{
	out->lo = mdbus_load_acquire(&p->lo);
	out->hi = mdbus_load_relaxed(&p->hi);
	mdbus_fence_acquire();
	return mdbus_load_relaxed(&p->lo) == out->lo;
}

static inline void mdbus_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield" ::: "memory");
#endif
}

/* Nanoseconds of CLOCK_MONOTONIC: the only clock that durations and timeouts are measured with. */
static inline uint64_t mdbus_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
