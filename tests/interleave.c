/* SPDX-License-Identifier: Apache-2.0 */
#include "interleave.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK     (64u << 10)
#define DEPTH_MAX 4096u
#define OPEN      (-1.0) /* schedules of a state that is still being gone on from */

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define __asan_unpoison_memory_region(p, n) ((void)(p), (void)(n))
#endif

struct actor {
	uint8_t *sp; /* the saved registers are on the stack */
	const char *name;
	void (*run)(void);
	bool (*ready)(void);
	uint32_t alive;
	uint32_t skip; /* the next step is none */
};

static struct actor actor[INTERLEAVE_ACTORS];
static uint8_t stack[INTERLEAVE_ACTORS][STACK] __attribute__((aligned(64)));
static const struct interleave_plan *plan;
static uint8_t *scheduler;
static unsigned self;
static struct interleave_count count;
static uint8_t path[DEPTH_MAX]; /* the actors that have gone on, in order */
static unsigned depth;

/* ---- switching ---------------------------------------------------------------------------------------------------- */

/* Save the registers that a call preserves on this stack, note its end in *from, and go on where the stack `to` ended. */
void interleave_switch(uint8_t **from, uint8_t *to);
void interleave_enter(void);

#if defined(__x86_64__)
#define SAVED 6u
#define ENTRY 6u /* where the return address is */
__asm__(".text\n.globl interleave_switch\n.type interleave_switch, @function\ninterleave_switch:\n"
        "	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
        "	mov %rsp, (%rdi)\n	mov %rsi, %rsp\n"
        "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbx\n	pop %rbp\n	ret\n"
        ".size interleave_switch, . - interleave_switch\n");
#elif defined(__aarch64__)
#define SAVED 20u
#define ENTRY 11u
__asm__(".text\n.globl interleave_switch\n.type interleave_switch, @function\ninterleave_switch:\n"
        "	sub sp, sp, #160\n"
        "	stp x19, x20, [sp]\n	stp x21, x22, [sp, #16]\n	stp x23, x24, [sp, #32]\n	stp x25, x26, [sp, #48]\n"
        "	stp x27, x28, [sp, #64]\n	stp x29, x30, [sp, #80]\n	stp d8, d9, [sp, #96]\n	stp d10, d11, [sp, #112]\n"
        "	stp d12, d13, [sp, #128]\n	stp d14, d15, [sp, #144]\n"
        "	mov x2, sp\n	str x2, [x0]\n	mov sp, x1\n"
        "	ldp x19, x20, [sp]\n	ldp x21, x22, [sp, #16]\n	ldp x23, x24, [sp, #32]\n	ldp x25, x26, [sp, #48]\n"
        "	ldp x27, x28, [sp, #64]\n	ldp x29, x30, [sp, #80]\n	ldp d8, d9, [sp, #96]\n	ldp d10, d11, [sp, #112]\n"
        "	ldp d12, d13, [sp, #128]\n	ldp d14, d15, [sp, #144]\n	add sp, sp, #160\n	ret\n"
        ".size interleave_switch, . - interleave_switch\n");
#endif

static uint8_t *stack_end(unsigned n)
{
	return stack[n] + STACK;
}

static void hand_over(void)
{
	interleave_switch(&actor[self].sp, scheduler);
}

void interleave_enter(void)
{
	actor[self].run();
	actor[self].alive = 0;
	hand_over();
}

unsigned interleave_self(void)
{
	return self;
}

void interleave_step(void)
{
	if (actor[self].skip)
		actor[self].skip = 0;
	else
		hand_over();
}

void interleave_pause(void)
{
	actor[self].skip = 1;
}

void interleave_wait(bool (*ready)(void))
{
	actor[self].ready = ready;
	hand_over();
	actor[self].ready = NULL;
	actor[self].skip = 1;
}

void interleave_start(unsigned n, const char *name, void (*run)(void))
{
	uint64_t *top = (uint64_t *)(void *)stack_end(n) - 2u - SAVED;

	__asan_unpoison_memory_region(stack[n], STACK);
	memset(top, 0, (size_t)(stack_end(n) - (uint8_t *)top));
	top[ENTRY] = (uint64_t)(uintptr_t)interleave_enter;
	actor[n] = (struct actor){ .sp = (uint8_t *)top, .name = name, .run = run, .alive = 1 };
}

void interleave_stop(unsigned n)
{
	actor[n].alive = 0;
}

void interleave_fail(const char *why, const char *condition)
{
	const char *name[INTERLEAVE_ACTORS];

	count.failed = true;
	for (unsigned i = 0; i < INTERLEAVE_ACTORS; i++)
		name[i] = actor[i].name ? actor[i].name : "?";
	fflush(stdout);
	fprintf(stderr, "%s: %s (%s)\nafter", plan->name, why, condition);
	for (unsigned i = 0; i < depth; i++) {
		unsigned n = 1;

		while (i + 1u < depth && path[i + 1u] == path[i])
			i++, n++;
		fprintf(stderr, " %s:%u", name[path[i]], n);
	}
	fprintf(stderr, "\n");
	exit(1);
}

/* ---- moments ------------------------------------------------------------------------------------------------------ */

/* An actor's part of a moment: nothing of a stack that is not in use. */
static size_t used(unsigned n)
{
	return actor[n].alive ? (size_t)(stack_end(n) - actor[n].sp) : 0;
}

static size_t moment_size(void)
{
	size_t size = sizeof(actor);

	for (unsigned i = 0; i < INTERLEAVE_PARTS; i++)
		size += plan->memory[i].size;
	for (unsigned n = 0; n < INTERLEAVE_ACTORS; n++)
		size += used(n);
	return size;
}

static void keep(uint8_t *to)
{
	for (unsigned n = 0; n < INTERLEAVE_ACTORS; n++)
		if (!actor[n].alive)
			actor[n].sp = NULL;
	memcpy(to, actor, sizeof(actor));
	to += sizeof(actor);
	for (unsigned i = 0; i < INTERLEAVE_PARTS; i++) {
		memcpy(to, plan->memory[i].at, plan->memory[i].size);
		to += plan->memory[i].size;
	}
	for (unsigned n = 0; n < INTERLEAVE_ACTORS; n++) {
		__asan_unpoison_memory_region(stack[n], STACK);
		memcpy(to, stack_end(n) - used(n), used(n));
		to += used(n);
	}
}

static void go_back(const uint8_t *from)
{
	memcpy(actor, from, sizeof(actor));
	from += sizeof(actor);
	for (unsigned i = 0; i < INTERLEAVE_PARTS; i++) {
		memcpy(plan->memory[i].at, from, plan->memory[i].size);
		from += plan->memory[i].size;
	}
	for (unsigned n = 0; n < INTERLEAVE_ACTORS; n++) {
		__asan_unpoison_memory_region(stack[n], STACK);
		memcpy(stack_end(n) - used(n), from, used(n));
		from += used(n);
	}
}

static uint64_t hash(const uint8_t *p, size_t n)
{
	uint64_t a = n, b = UINT64_C(0x9e3779b97f4a7c15), w;

	for (size_t i = 0; i + 8u <= n; i += 8u) {
		memcpy(&w, p + i, 8);
		a = (a ^ w) * UINT64_C(0xff51afd7ed558ccd);
		b = (b + a) ^ (a >> 29);
		a ^= b << 23;
	}
	a ^= b;
	a = (a ^ a >> 32) * UINT64_C(0xc4ceb9fe1a85ec53);
	a ^= a >> 29;
	return a ? a : 1u;
}

static bool can_go_on(unsigned n)
{
	return actor[n].alive && (actor[n].ready == NULL || actor[n].ready());
}

static void go_on(unsigned n)
{
	self = n;
	if (depth == DEPTH_MAX)
		interleave_fail("a schedule does not end", "depth");
	path[depth++] = (uint8_t)n;
	count.steps++;
	interleave_switch(&scheduler, actor[n].sp);
}

/* ---- all schedules ------------------------------------------------------------------------------------------------ */

/* The moments that were met: a hash of each, and how many schedules go on from it. */
static struct met {
	uint64_t hash;
	double schedules;
} *met;
static uint64_t met_mask;

static struct met *find(uint64_t h)
{
	uint64_t i = h & met_mask;

	while (met[i].hash != 0 && met[i].hash != h)
		i = (i + 1u) & met_mask;
	return &met[i];
}

static void grow(void)
{
	struct met *old = met;
	uint64_t n = met_mask + 1u;

	met_mask = old ? 2u * n - 1u : (1u << 16) - 1u;
	met = calloc(met_mask + 1u, sizeof(*met));
	if (met == NULL)
		interleave_fail("out of memory", "met");
	for (uint64_t i = 0; old != NULL && i < n; i++)
		if (old[i].hash != 0)
			*find(old[i].hash) = old[i];
	free(old);
}

/* Schedules that go on from here, going through each moment once. */
static double explore(void)
{
	size_t size = moment_size();
	uint8_t *here = malloc(size);
	unsigned at = depth;
	uint64_t h;
	struct met *m;
	double n = 0;

	if (here == NULL)
		interleave_fail("out of memory", "moment");
	keep(here);
	h = hash(here, size);
	m = find(h);
	if (m->hash != 0) {
		if (m->schedules < 0 && !count.cut)
			interleave_fail("somebody waits for ever: a moment has come back", "no cycle");
		free(here);
		return m->schedules;
	}
	*m = (struct met){ h, OPEN };
	if (++count.states * 2u > met_mask)
		grow();
	count.cut = count.cut || (plan->states_max != 0 && count.states >= plan->states_max);
	bool any = false;

	for (unsigned i = 0; i < INTERLEAVE_ACTORS && !count.cut; i++) {
		if (!can_go_on(i))
			continue;
		any = true;
		go_on(i);
		n += explore();
		go_back(here);
		depth = at;
	}
	if (!any && !count.cut) {
		plan->at_end();
		n = 1;
	}
	free(here);
	find(h)->schedules = n;
	return n;
}

static void set_up(const struct interleave_plan *p)
{
	plan = p;
	count = (struct interleave_count){ 0 };
	memset(actor, 0, sizeof(actor));
	for (unsigned i = 0; i < INTERLEAVE_PARTS; i++)
		memset(plan->memory[i].at, 0, plan->memory[i].size);
	depth = 0;
	plan->begin();
}

struct interleave_count interleave_all(const struct interleave_plan *p)
{
	set_up(p);
	grow();
	count.schedules = explore();
	free(met);
	met = NULL;
	met_mask = 0;
	return count;
}

/* ---- at random ---------------------------------------------------------------------------------------------------- */

static uint32_t draw(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

/* Mostly the one that went on last, so that others are met in the middle of everything. */
static int pick(uint64_t *seed, unsigned last)
{
	unsigned can[INTERLEAVE_ACTORS], n = 0;

	if (can_go_on(last) && draw(seed) % 4u != 0)
		return (int)last;
	for (unsigned i = 0; i < INTERLEAVE_ACTORS; i++)
		if (can_go_on(i))
			can[n++] = i;
	return n ? (int)can[draw(seed) % n] : -1;
}

struct interleave_count interleave_random(const struct interleave_plan *p, uint64_t n, uint64_t seed)
{
	struct interleave_count sum = { 0 };

	for (uint64_t i = 0; i < n; i++) {
		int next = 0;

		set_up(p);
		while ((next = pick(&seed, (unsigned)next)) >= 0)
			go_on((unsigned)next);
		plan->at_end();
		sum.steps += count.steps;
		sum.random++;
	}
	return sum;
}
