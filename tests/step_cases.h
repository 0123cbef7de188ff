/* SPDX-License-Identifier: Apache-2.0
 *
 * step_cases.h - the operations of unit_step.c.
 */
#ifndef TESTS_STEP_CASES_H
#define TESTS_STEP_CASES_H

#include "step.h"
#include "step_world.h"

enum step_mode {
	STEP_KILL,          /* killed after each instruction */
	STEP_STOP_AND_KILL, /* stopped after each, until the others have gone on; then killed after each later one */
	STEP_STOP,          /* stopped after each; then it goes on to its end, and is killed */
};

struct step_case {
	const char *name;
	uint32_t nline;
	bool keyed;
	enum step_mode mode;
	void (*prepare)(void);     /* brings step_world to the moment before */
	void (*act)(void *unused); /* the operation of line 0, or of mdbusd; in a process of its own */
	bool private;              /* it is not to change what others read */
};

extern const struct step_case step_cases[];
extern const size_t step_ncases;

extern struct world step_world;
extern pid_t step_frozen;      /* a writer that stands still inside its inline copy; 0: none */
extern bool step_line_1_first; /* a case says: only that order of what follows is judged */

/* It wakes up, and goes on to the end of its operation. */
void step_wakes_up(struct world *unused);

/* Add packets of session 1 with three messages each, up to number `last`. */
void step_threes(uint64_t first, uint64_t last);

#endif
