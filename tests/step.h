/* SPDX-License-Identifier: Apache-2.0
 *
 * step.h - a process that is stopped after each single instruction of an operation, and can be killed there.
 *
 * A forked child executes one operation under ptrace, one instruction at a time.  At any of them it can be doubled: the child
 * is made to fork right there, and the twin stands at the same instruction with the same registers and memory.  So the
 * twin is killed after instruction i, or goes on later, while the child itself goes on to instruction i + 1: every
 * instruction of an operation in one pass.  Instructions of the kernel are not counted; operations on shared memory have none.
 *
 * x86-64 only: STEP_SUPPORTED says so.  Everything here ends the test when ptrace fails.
 */
#ifndef TESTS_STEP_H
#define TESTS_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__x86_64__)
#define STEP_SUPPORTED 1
#else
#define STEP_SUPPORTED 0
#endif

/* False, with a reason printed, where processes may not be traced. Once, before anything else. */
bool step_setup(void);

/* A child that will call act(arg), stopped before the first instruction of that. It dies with this process. */
pid_t step_start(void (*act)(void *), void *arg);

/* One instruction.  False: that was the last one, act has returned. */
bool step_one(pid_t pid);

/* Another process, stopped at the very instruction where pid stands. */
pid_t step_twin(pid_t pid);

/* Let it go on to the end of act.  It is still to be killed. */
void step_finish(pid_t pid);

/* SIGKILL, and wait for the end. */
void step_kill(pid_t pid);

#endif
