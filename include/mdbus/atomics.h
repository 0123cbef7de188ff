/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/atomics.h - the few machine operations the bus is built on.
 *
 * Shared words are plain integers accessed only through these functions, so that the same structure can be
 * mapped read-only by one process and read-write by another.  Orders follow C11.  The 16-byte compare-and-swap is
 * the single instruction on which every guarantee of the ring rests: cmpxchg16b on x86-64; on aarch64 caspal where the
 * compiler may use LSE, else a loop of ldaxp and stlxp.  It is never emulated with a lock.
 *
 * What each operation is on a machine with weak memory (tests/t_aarch64.sh looks that it is):
 *
 *	load_acquire   ldar or ldapr: no later access before it
 *	store_release  stlr: no earlier access after it
 *	fence_acquire  dmb ishld: earlier loads before all that follows
 *	fence_release  dmb ish: all that went before, before later stores
 *	cas_pair       acquire and release.  With caspal also a barrier; with the loop, accesses that follow may be seen before
 *	               its own store, so whoever relies on that order puts fence_release between
 *
 * Memory is multi-copy atomic on both machines: what one other processor has seen, all see.  The arguments in ring.h rest on
 * these rows and on that.
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

#ifdef MDBUS_MUTANT_no_fence
#define mdbus_fence __atomic_signal_fence
#else
#define mdbus_fence __atomic_thread_fence
#endif
/* Orders earlier loads before later loads: between a reader's copy and its re-check of the stamp. */
#define mdbus_fence_acquire() mdbus_fence(__ATOMIC_ACQUIRE)
/* Orders earlier stores before later stores: between a slot's mark and its payload. */
#define mdbus_fence_release() mdbus_fence(__ATOMIC_RELEASE)

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
	struct mdbus_pair was = *expect;
#if defined(MDBUS_MUTANT_relaxed_cas)
#define MDBUS_CASP "casp"
#define MDBUS_LDXP "ldxp"
#define MDBUS_STXP "stxp"
#else
#define MDBUS_CASP "caspal"
#define MDBUS_LDXP "ldaxp"
#define MDBUS_STXP "stlxp"
#endif
#ifdef __ARM_FEATURE_ATOMICS
	/* pairs of neighbouring registers, the first one even */
	register uint64_t lo __asm__("x4") = was.lo;
	register uint64_t hi __asm__("x5") = was.hi;
	register uint64_t to_lo __asm__("x6") = to.lo;
	register uint64_t to_hi __asm__("x7") = to.hi;

	__asm__ __volatile__(MDBUS_CASP " %0, %1, %3, %4, %2"
			     : "+r"(lo), "+r"(hi), "+Q"(*p)
			     : "r"(to_lo), "r"(to_hi)
			     : "memory");
#else
	uint64_t lo, hi, new_lo, new_hi;
	uint32_t fail;

	/* what was found is stored back if it was not expected: only then were its halves read as one */
	__asm__ __volatile__("1:	" MDBUS_LDXP " %0, %1, %5\n"
			     "	cmp %0, %6\n"
			     "	ccmp %1, %7, #0, eq\n"
			     "	csel %2, %8, %0, eq\n"
			     "	csel %3, %9, %1, eq\n"
			     "	" MDBUS_STXP " %w4, %2, %3, %5\n"
			     "	cbnz %w4, 1b"
			     : "=&r"(lo), "=&r"(hi), "=&r"(new_lo), "=&r"(new_hi), "=&r"(fail), "+Q"(*p)
			     : "r"(was.lo), "r"(was.hi), "r"(to.lo), "r"(to.hi)
			     : "cc", "memory");
#endif
	*expect = (struct mdbus_pair){ lo, hi };
	return lo == was.lo && hi == was.hi;
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
