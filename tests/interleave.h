/* SPDX-License-Identifier: Apache-2.0
 *
 * interleave.h - actors in one thread, and every order in which they can go on.
 *
 * An actor is a function on a stack of its own that hands over at each interleave_step.  What can change is the memory that
 * the test names, and the part of the actors' stacks that is in use: so a moment can be kept, and gone back to, by copying.
 * interleave_all goes from each moment on with every actor that can, and does not go on twice from the same one: all
 * schedules, without a bound on their length or on the number of switches.  Since no moment may come back within a
 * schedule (a wait that never ends would be one), the number of schedules can be counted too.
 *
 * It tests interleavings, not weak memory: in one thread every access is seen at once.
 */
#ifndef MDBUS_TESTS_INTERLEAVE_H
#define MDBUS_TESTS_INTERLEAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "interleave_steps.h"

#define INTERLEAVE_ACTORS 8u

#define INTERLEAVE_PARTS  2u

/* What is tried.  memory: everything outside the stacks that actors change; sizes are multiples of 8. */
struct interleave_plan {
	const char *name;
	struct {
		void *at;
		size_t size;
	} memory[INTERLEAVE_PARTS];
	void (*begin)(void);   /* set the memory up and start the actors */
	void (*at_end)(void);  /* no actor can go on: what must hold then */
	uint64_t states_max;   /* of interleave_all; 0: no limit */
};

struct interleave_count {
	uint64_t states;
	uint64_t steps;
	double schedules; /* complete ones, of interleave_all */
	uint64_t random;
	bool cut;         /* states_max was reached */
	bool failed;
};

/* Start actor n anew, whatever it was doing.  From begin, or from another actor. */
void interleave_start(unsigned n, const char *name, void (*run)(void));

/* Actor n does not go on, ever; interleave_start may start it anew. */
void interleave_stop(unsigned n);

/* Between two steps: go on only when ready() holds, which looks and changes nothing.  The next access is no step of its own. */
void interleave_wait(bool (*ready)(void));

/* The actor that runs. */
unsigned interleave_self(void);

/* A guarantee is broken: says why and by which schedule; the search ends. */
#define INTERLEAVE_CHECK(cond, why) ((cond) ? (void)0 : interleave_fail(why, #cond))
__attribute__((noreturn)) void interleave_fail(const char *why, const char *condition);

/* All schedules. */
struct interleave_count interleave_all(const struct interleave_plan *plan);

/* n schedules at random from a seed, counted in `random`. */
struct interleave_count interleave_random(const struct interleave_plan *plan, uint64_t n, uint64_t seed);

#endif
