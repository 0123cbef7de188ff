/* SPDX-License-Identifier: Apache-2.0
 *
 * interleave_steps.h - makes every access to shared memory in a source file a point where another actor may go on.
 *
 * Included before everything else by the files that unit_interleave drives: its own, and those of bus/ that it compiles once
 * more (Makefile).  The functions of atomics.h are replaced by ones that first hand over to the scheduler (interleave.h);
 * nothing else of the sources changes.
 */
#ifndef MDBUS_TESTS_INTERLEAVE_STEPS_H
#define MDBUS_TESTS_INTERLEAVE_STEPS_H

#include <mdbus/atomics.h>

/* The next access follows.  Between two calls an actor goes on undisturbed. */
void interleave_step(void);

/* A spinning wait: looking again at once shows nothing new, so the access that follows is no step. */
void interleave_pause(void);

#undef mdbus_load_relaxed
#undef mdbus_load_acquire
#undef mdbus_store_relaxed
#undef mdbus_store_release
#define mdbus_load_relaxed(p)     (interleave_step(), __atomic_load_n((p), __ATOMIC_RELAXED))
#define mdbus_load_acquire(p)     (interleave_step(), __atomic_load_n((p), __ATOMIC_ACQUIRE))
#define mdbus_store_relaxed(p, v) (interleave_step(), __atomic_store_n((p), (v), __ATOMIC_RELAXED))
#define mdbus_store_release(p, v) (interleave_step(), __atomic_store_n((p), (v), __ATOMIC_RELEASE))
#define mdbus_cas_pair(p, e, to)  (interleave_step(), mdbus_cas_pair((p), (e), (to)))
#define mdbus_pause()             interleave_pause()

#endif
