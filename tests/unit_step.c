/* SPDX-License-Identifier: Apache-2.0
 * timeout: 300
 * sanitizers: none
 * mutants: publish_before_payload reuse_before_expire plain_inline no_taint key_claim_is_seen recover_ignores_ring open_twice
 *
 * unit_step.c - kill at every instruction.
 *
 * Each case is one operation on a bus in memory, done by a process that is traced instruction by instruction (step.h).  After
 * each of them a twin of it is killed with SIGKILL, and world_aftermath (step_world.h) judges what it has left, repairs it
 * as mdbusd and the line's next process would, and goes on to the end of the script.
 *
 * What follows a death depends on nothing but the shared memory, since everything private is gone.  So after an
 * instruction that has changed nothing there, the verdict of the one before stands; STEP_ALL=1 judges all of them anew.
 *
 * Some cases stop the process at every instruction instead: the others go on, over a lap of the ring where the case says so,
 * and the process wakes up and is killed at each later instruction, or goes on to its end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "step_cases.h"

#if !STEP_SUPPORTED
int main(void)
{
	puts("needs x86-64: a traced process is made to fork by writing its registers");
	return 77;
}
#else

#define w step_world

static bool judge_all;

/* ---- at every instruction ----------------------------------------------------------------------------------------- */

enum { MOMENT, HERE, LAPPED }; /* levels of world_save */

static struct {
	uint64_t operations, instructions, kills, stops, states, judged, violations;
} total;

static struct {
	uint64_t instructions, states;
} done;

static void kill_twin(pid_t pid)
{
	step_kill(step_twin(pid));
	total.kills++;
}

/* What is in memory now is what a death would leave: both orders of what comes after it. */
static void judge(uint32_t level)
{
	world_save(&w, level);
	done.states++;
	for (int other_first = step_line_1_first; other_first < 2; other_first++) {
		world_aftermath(&w, other_first, step_frozen ? step_wakes_up : NULL);
		world_load(&w, level);
	}
}

static void kill_everywhere(pid_t child)
{
	bool more = true;

	for (w.step = 0; more; w.step++) {
		kill_twin(child);
		if (w.step == 0 || judge_all || !world_same(&w, HERE))
			judge(HERE);
		more = step_one(child);
	}
	kill_twin(child);
	judge(HERE);
}

/* Line 1 carries the rest of the script up to the last three packets: the ring laps whoever stands still. */
static void go_on(void)
{
	uint32_t end = w.npacket - 3u;

	for (; w.at < end; w.at++)
		world_offer(&w, 1, w.at);
	world_note(&w);
}

/* A twin of child sleeps here until the others have gone on, then is killed at each of its later instructions, or the last. */
static void sleep_here(pid_t child, enum step_mode mode)
{
	pid_t sleeper = step_twin(child);
	bool more = true;

	total.stops++;
	go_on();
	world_look(&w);
	if (mode == STEP_STOP)
		step_finish(sleeper);
	for (int i = 0; more; i++) {
		if (mode == STEP_STOP_AND_KILL)
			kill_twin(sleeper);
		if (i == 0 || judge_all || !world_same(&w, LAPPED))
			judge(LAPPED);
		more = mode == STEP_STOP_AND_KILL && step_one(sleeper);
	}
	judge(LAPPED);
	step_kill(sleeper);
	total.kills++;
}

static void stop_everywhere(pid_t child, enum step_mode mode)
{
	bool more = true;

	for (w.step = 0; more; w.step++) {
		world_save(&w, HERE);
		sleep_here(child, mode);
		world_load(&w, HERE);
		more = step_one(child);
	}
}

static void run(const struct step_case *c)
{
	done.instructions = done.states = 0;
	step_frozen = 0;
	step_line_1_first = false;
	world_open(&w, c->name, c->nline, c->keyed);
	c->prepare();
	if (c->mode == STEP_STOP_AND_KILL)
		step_threes(w.packet[w.npacket - 1u].seq + 3u, w.packet[w.at].seq + WORLD_DEPTH + 12u);
	if (w.nwant == 0)
		world_expect(&w);
	world_note(&w);
	world_save(&w, MOMENT);
	c->act(NULL); /* once here, so that every function of the C library it calls is bound already */
	world_load(&w, MOMENT);

	pid_t child = step_start(c->act, NULL);

	if (c->mode == STEP_KILL)
		kill_everywhere(child);
	else
		stop_everywhere(child, c->mode);
	done.instructions = w.step;
	step_kill(child);
	if (step_frozen)
		step_kill(step_frozen);
	printf("%-48s %6" PRIu64 " instructions %6" PRIu64 " states of memory %4" PRIu64 " violations\n", c->name,
	       done.instructions, done.states, w.violations);
	if ((done.states > 2) == c->private && !judge_all && c->mode == STEP_KILL) {
		printf("%s: %s\n", c->name, c->private ? "it has written shared memory" : "it has done nothing");
		w.violations++;
	}
	total.operations++;
	total.instructions += done.instructions;
	total.states += done.states;
	total.judged += w.judged;
	total.violations += w.violations;
	world_close(&w);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	judge_all = getenv("STEP_ALL") != NULL;
	if (!step_setup())
		return 77;
	for (size_t i = 0; i < step_ncases && total.violations == 0; i++)
		if (argc < 2 || strcmp(argv[1], step_cases[i].name) == 0)
			run(&step_cases[i]);
	printf("count: %" PRIu64 " operations, %" PRIu64 " instructions, %" PRIu64 " kills, %" PRIu64 " stops, %" PRIu64 " states of "
	       "memory judged by %" PRIu64 " restarts, %" PRIu64 " violations\n", total.operations, total.instructions, total.kills,
	       total.stops, total.states, total.judged, total.violations);
	return total.violations != 0;
}
#endif
