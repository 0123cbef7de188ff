/* SPDX-License-Identifier: Apache-2.0
 *
 * step.c - see step.h.
 *
 * Where an operation begins and ends the child says in a word of shared memory, which costs the parent one load an
 * instruction.  A process is doubled by writing the registers of a fork into it, at a syscall instruction that this program
 * has for that, and the old ones back afterwards.
 */
#include "step.h"

#if STEP_SUPPORTED
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BEFORE, INSIDE, AFTER };

#define OPTIONS ((void *)(PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL))

/* Twins write their word too, but only a child that is being stepped is asked for it. */
static volatile uint32_t *stage;

extern const char step_gate[];
__asm__(".text\n.globl step_gate\nstep_gate:\n\tsyscall\n\tint3\n.previous\n");

static void die(const char *what)
{
	fprintf(stderr, "step: %s: %s\n", what, strerror(errno));
	_exit(99);
}

static int wait_stopped(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, __WALL) != pid)
		die("wait");
	if (!WIFSTOPPED(status)) {
		fprintf(stderr, "step: a child ended, status %#x\n", (unsigned)status);
		_exit(1);
	}
	if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
		fprintf(stderr, "step: a child got signal %d\n", WSTOPSIG(status));
		_exit(1);
	}
	return status;
}

static void resume(enum __ptrace_request how, pid_t pid)
{
	if (ptrace(how, pid, NULL, NULL) < 0)
		die("resume");
}

bool step_setup(void)
{
	cpu_set_t one;
	int status = 0;
	pid_t pid;

	/* one core for both: they never run at once, and a wake-up across cores costs more than the switch */
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	stage = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stage == MAP_FAILED)
		die("memory");
	pid = fork();
	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		puts("processes may not be traced here (ptrace)");
		return false;
	}
	return true;
}

pid_t step_start(void (*act)(void *), void *arg)
{
	pid_t parent = getpid(), pid;

	*stage = BEFORE;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(99);
		raise(SIGSTOP);
		*stage = INSIDE;
		act(arg);
		*stage = AFTER;
		__asm__ __volatile__("int3");
		_exit(99);
	}
	if (pid < 0)
		die("fork");
	wait_stopped(pid);
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, OPTIONS) < 0)
		die("options");
	while (*stage == BEFORE) {
		resume(PTRACE_SINGLESTEP, pid);
		wait_stopped(pid);
	}
	return pid;
}

bool step_one(pid_t pid)
{
	*stage = INSIDE; /* a twin may have gone through */
	resume(PTRACE_SINGLESTEP, pid);
	wait_stopped(pid);
	return *stage == INSIDE;
}

pid_t step_twin(pid_t pid)
{
	struct user_regs_struct was, regs;
	unsigned long twin = 0;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &was) < 0)
		die("registers");
	regs = was;
	regs.rip = (uintptr_t)step_gate;
	regs.rax = SYS_clone;
	regs.rdi = CLONE_PARENT | SIGCHLD; /* a child of this process, which reaps it */
	regs.rsi = regs.rdx = regs.r10 = regs.r8 = 0;
	regs.orig_rax = UINT64_MAX;
	if (ptrace(PTRACE_SETREGS, pid, NULL, &regs) < 0)
		die("registers");
	resume(PTRACE_CONT, pid);
	if (wait_stopped(pid) >> 8 != (SIGTRAP | PTRACE_EVENT_FORK << 8) ||
	    ptrace(PTRACE_GETEVENTMSG, pid, NULL, &twin) < 0)
		die("fork of a child");
	resume(PTRACE_CONT, pid); /* out of the system call, on to the int3 behind it */
	wait_stopped(pid);
	wait_stopped((pid_t)twin);
	was.orig_rax = UINT64_MAX;
	if (ptrace(PTRACE_SETREGS, pid, NULL, &was) < 0 || ptrace(PTRACE_SETREGS, (pid_t)twin, NULL, &was) < 0)
		die("registers");
	return (pid_t)twin;
}

void step_finish(pid_t pid)
{
	*stage = INSIDE;
	resume(PTRACE_CONT, pid);
	wait_stopped(pid);
	if (*stage != AFTER)
		die("a child does not end its operation");
}

void step_kill(pid_t pid)
{
	int status;

	if (kill(pid, SIGKILL) < 0 || waitpid(pid, &status, __WALL) != pid || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		die("kill");
}
#endif
