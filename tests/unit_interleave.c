/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of ring.h, arena.h and holds.h through every schedule of the cases that the model goes through too
 * (model/cases.h): two lines, a reader, a gap clock, and mdbusd who reclaims and starts a line again.
 *
 * timeout: 300
 * sanitizers: undefined
 * mutants: skip_recheck no_taint plain_inline reuse_before_expire epoch_ignored
 * mutants: no_mark publish_before_payload recover_ignores_ring reclaim_forgets
 *
 *   unit_interleave            cases of size 1, and INTERLEAVE_RANDOM schedules at random (50,000 if not given)
 *   unit_interleave --all      cases of size 2 too
 *   unit_interleave --list     names of the cases
 *   unit_interleave CASE...
 *
 * Every access to shared memory is a step (interleave_steps.h).  What is checked is what ring.pml checks: what the reader
 * takes is whole and what it asked for; one record for each position and generation, ever; no frame is written while a slot
 * refers to it; and at the end everybody who was not stopped is through, the reader has read all there is, and no slot is marked
 * by a line that is not inside it.
 */
#include "interleave.h"

#include <mdbus/ring_single.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/arena.h"
#include "../bus/shape.h"

#define LINES  2u
#define FRAMES 2u
#define FRAME  64u
#define SHORT  24u
#define LONG   56u
#define SLOT   64u
#define SLOTS  2u
#define OLD    1u /* the generations */
#define NEW    2u

static const struct test_case {
	const char *name;
	unsigned size, depth, longs, newgen;
	bool kill, stop, single;
	unsigned order[LINES];
} cases[] = {
#define CASE(name, size, depth, longs, newgen, kill, stop, single, order_a, order_b) \
	{ #name, size, depth, longs, newgen, kill, stop, single, { order_a, order_b } },
#include "model/cases.h"
};

#define NCASES (sizeof(cases) / sizeof(cases[0]))

static const struct test_case *the;
static unsigned end; /* positions are 1 .. end - 1 */

enum { LINE_0, LINE_1, READER, CLOCK, STOPPER, DAEMON };

/* Everything that changes, besides the ring and the stacks. */
static struct {
	struct {
		uint8_t header[FRAME];
		uint8_t frame[FRAMES][FRAME];
	} arena[LINES];
	struct {
		struct mdbus_hold fifo[FRAMES]; /* no room to spare */
		uint16_t refs[4];
		uint64_t head, tail;
		uint64_t at; /* how many of its messages it is through with */
	} line[LINES];
	uint64_t progress; /* beyond the newest position a line has passed */
	uint64_t reading;  /* position of the reader */
	uint64_t lost;     /* position that the clock looks at */
	uint8_t copy[FRAME + 8u];
	uint8_t records[8]; /* by position: bit g says that there was a record of generation g */
	uint8_t through[4], stopped[4];
} w __attribute__((aligned(64)));

static struct mdbus_ring view[LINES + 1u]; /* the last is nobody's */
static struct mdbus_bus bus;

static struct mdbus_slot *slot(uint64_t pos)
{
	return mdbus_ring_slot(&view[LINES], pos);
}

/* What is in a slot, looked at from outside: no step. */
static uint64_t stamp_at(uint64_t pos)
{
	return __atomic_load_n(&slot(pos)->head.lo, __ATOMIC_RELAXED);
}

static uint64_t generation(uint64_t pos)
{
	return the->newgen != 0 && pos >= the->newgen ? NEW : OLD;
}

static uint64_t generation_of(unsigned line, uint64_t pos)
{
	return line == 0 ? OLD : generation(pos);
}

static uint32_t length(uint64_t pos)
{
	return the->longs >> pos & 1u ? LONG : SHORT;
}

/* The n-th digit from the left; 0: there is none. */
static uint64_t nth(unsigned order, uint64_t n)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%u", order);
	return n < strlen(digits) ? (uint64_t)(digits[n] - '0') : 0;
}

/* ---- what must hold ----------------------------------------------------------------------------------------------- */

static uint64_t word(uint64_t pos, uint64_t gen, uint64_t line)
{
	return UINT64_C(0x4d00000000000000) | pos << 16 | gen << 8 | line;
}

static bool there(uint64_t pos)
{
	uint64_t stamp = stamp_at(pos);

	return mdbus_stamp_pos(stamp) > pos || mdbus_stamp_is(stamp, pos, generation(pos));
}

static void count_record(uint64_t pos, uint64_t gen)
{
	INTERLEAVE_CHECK(!(w.records[pos] >> gen & 1u), "a second record for one position and generation");
	w.records[pos] = (uint8_t)(w.records[pos] | 1u << gen);
}

static uint64_t frame_off(uint64_t frame)
{
	return FRAME + frame * FRAME;
}

/* The bytes of a frame change: by the next packet, or because the caller thinks that it is free. */
static void reuse(unsigned line, uint64_t frame, uint64_t value)
{
	for (unsigned i = 0; i < the->depth; i++) {
		uint64_t stamp = stamp_at(i), ref = slot(i)->head.hi;

		INTERLEAVE_CHECK(mdbus_stamp_kind(stamp) != MDBUS_KIND_REF || mdbus_ref_line(ref) != line ||
		                 mdbus_ref_off(ref) != frame_off(frame), "a frame is written that a slot refers to");
	}
	for (unsigned i = 0; i < FRAME; i += 8u)
		memcpy(w.arena[line].frame[frame] + i, &value, 8);
}

/* A line's record stands: the step before this was the one that put it there. */
void mdbus_hook(const char *point);

void mdbus_hook(const char *point)
{
	unsigned line = interleave_self();

	if (strcmp(point, "publish.after") == 0 || strcmp(point, "single.after") == 0) {
		uint64_t pos = nth(the->order[line], w.line[line].at);

		count_record(pos, generation_of(line, pos));
	}
	if (strcmp(point, "inline.half") == 0)
		interleave_step();
}

/* Only who was stopped inside a copy is still marked as writing, or as one who may. */
static bool marked_in_vain(uint64_t stamp)
{
	return stamp & (MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED) && !w.stopped[mdbus_stamp_line(stamp)];
}

static void at_end(void)
{
	for (unsigned i = 0; i < the->depth; i++)
		INTERLEAVE_CHECK(!marked_in_vain(stamp_at(i)), "a mark of nobody who is in the middle of anything");
	INTERLEAVE_CHECK(w.through[0] || w.stopped[0], "line 0 is waiting");
	INTERLEAVE_CHECK(w.through[1] || w.stopped[1], "line 1 is waiting");
	INTERLEAVE_CHECK(w.reading >= w.progress, "the reader waits for what will not come");
	for (uint64_t pos = 1; pos < w.progress; pos++)
		INTERLEAVE_CHECK(there(pos), "a position without a record");
}

/* ---- a line ------------------------------------------------------------------------------------------------------- */

static struct mdbus_holds holds_of(unsigned line)
{
	return (struct mdbus_holds){
		.refs = w.line[line].refs,
		.fifo = w.line[line].fifo,
		.mask = FRAMES - 1u,
		.head = w.line[line].head,
		.tail = w.line[line].tail,
		.frames_off = FRAME,
		.frame_shift = 6,
		.nframes = FRAMES,
	};
}

static void keep_holds(unsigned line, const struct mdbus_holds *h)
{
	w.line[line].head = h->head;
	w.line[line].tail = h->tail;
}

/* A frame that is free, or the one held longest. */
static __attribute__((noinline)) uint64_t take_frame(unsigned line)
{
	const struct mdbus_ring *rings[1] = { &view[line] };
	struct mdbus_holds h = holds_of(line);
	uint64_t expired = 0;
	uint32_t frame;

	for (frame = 0; frame < FRAMES; frame++)
		if (h.refs[frame] == 0)
			return frame;
	while (!mdbus_holds_drop(&h, rings, &frame, &expired))
		;
	if (h.tail == h.head)
		h.head = h.tail = 0; /* the same moment, however often it has been filled */
	keep_holds(line, &h);
	reuse(line, frame, 0);
	return frame;
}

static __attribute__((noinline)) enum mdbus_publish offer(unsigned line, uint64_t pos, uint64_t gen, uint64_t frame)
{
	const uint8_t *bytes = w.arena[line].frame[frame];
	uint64_t off = frame_off(frame), rx = word(pos, gen, line);

#ifndef MDBUS_MUTANT_single_hole
	if (the->single && pos >= w.progress)
#else
	if (the->single)
#endif
		return mdbus_ring_publish_single(&view[line], pos, gen, bytes, off, length(pos), rx, 0);
	return mdbus_ring_publish(&view[line], pos, gen, bytes, off, length(pos), rx, 0);
}

static __attribute__((noinline)) void bring(unsigned line, uint64_t pos)
{
	uint64_t gen = generation_of(line, pos), frame = take_frame(line);

	interleave_step();
	reuse(line, frame, word(pos, gen, line));
	enum mdbus_publish p = offer(line, pos, gen, frame);

	if (p == MDBUS_PUBLISH_REF) {
		struct mdbus_holds h = holds_of(line);

		mdbus_holds_add(&h, 0, pos, gen, frame_off(frame));
		keep_holds(line, &h);
	} else {
		reuse(line, frame, 0);
	}
	INTERLEAVE_CHECK(mdbus_stamp_pos(stamp_at(pos)) > pos ||
	                 (mdbus_stamp_pos(stamp_at(pos)) == pos && mdbus_stamp_gen(stamp_at(pos)) >= gen),
	                 "a position was offered, and nothing stands there");
	if (pos >= w.progress)
		w.progress = pos + 1u;
	w.line[line].at++;
}

/* What a process does that has just got a line: nothing is known but the rings. */
static __attribute__((noinline)) void recover(unsigned line)
{
	struct mdbus_holds h = holds_of(line);

	mdbus_arena_scan(&bus, line, &h);
	keep_holds(line, &h);
	for (uint64_t f = 0; f < FRAMES; f++)
		if (h.refs[f] == 0)
			reuse(line, f, 0);
}

static void line_run(void)
{
	unsigned line = interleave_self();

	if (the->kill)
		recover(line);
	while (nth(the->order[line], w.line[line].at) != 0)
		bring(line, nth(the->order[line], w.line[line].at));
	w.through[line] = 1;
}

/* ---- the reader --------------------------------------------------------------------------------------------------- */

static bool reader_ready(void)
{
	return there(w.reading);
}

static __attribute__((noinline)) void check_taken(uint64_t stamp, uint64_t ref, uint32_t len)
{
	bool in = mdbus_stamp_kind(stamp) == MDBUS_KIND_INLINE;
	uint64_t want = word(w.reading, generation(w.reading), mdbus_ref_line(ref)), got;

	INTERLEAVE_CHECK(len == length(w.reading), "the length of another message");
	for (uint32_t i = 0; i < len + (in ? 8u : 0u); i += 8u) {
		memcpy(&got, w.copy + i, 8);
		INTERLEAVE_CHECK(got == want, "torn, or another message");
	}
}

/* The message at the reader's position.  False: look again. */
static __attribute__((noinline)) bool take(uint64_t stamp, uint64_t ref)
{
	const struct mdbus_ring *r = &view[LINES];
	uint32_t line = mdbus_ref_line(ref), len = mdbus_ref_len(ref);
	bool in = mdbus_stamp_kind(stamp) == MDBUS_KIND_INLINE;
	const uint8_t *bytes = line < LINES ? mdbus_ring_bytes(r, slot(w.reading), stamp, ref, (uint8_t *)&w.arena[line],
	                                                       sizeof(w.arena[line])) : NULL;

	INTERLEAVE_CHECK(bytes != NULL && len <= FRAME, "a record that cannot be");
	if (in) { /* with the time before them */
		bytes -= 8;
		len += 8u;
	}
	interleave_step();
	memcpy(w.copy, bytes, 8);
	interleave_step();
	memcpy(w.copy + 8, bytes + 8, len - 8u);
	bool still = mdbus_ring_still(slot(w.reading), stamp);

	if (still)
		check_taken(stamp, ref, in ? len - 8u : len);
	memset(w.copy, 0, sizeof(w.copy));
	return still;
}

static __attribute__((noinline)) void read_next(void)
{
	uint64_t stamp, ref;

	interleave_wait(reader_ready);
	switch (mdbus_ring_look(&view[LINES], w.reading, generation(w.reading), &stamp, &ref)) {
	case MDBUS_LOOK_NONE:
		return;
	case MDBUS_LOOK_LAPPED:
		w.reading = mdbus_stamp_pos(stamp_at(w.reading)) - the->depth + 1u;
		return;
	case MDBUS_LOOK_RECORD:
		break;
	}
	enum mdbus_kind kind = mdbus_stamp_kind(stamp);

	if ((kind != MDBUS_KIND_REF && kind != MDBUS_KIND_INLINE) || take(stamp, ref))
		w.reading++;
}

static void reader_run(void)
{
	while (w.reading < end)
		read_next();
}

/* ---- the gap clock, and those who stop and kill -------------------------------------------------------------------- */

/* The oldest position that a line has passed and none has brought. */
static uint64_t oldest_hole(void)
{
	for (uint64_t pos = 1; pos < w.progress; pos++)
		if (!there(pos))
			return pos;
	return 0;
}

static bool clock_ready(void)
{
	return oldest_hole() != 0;
}

static __attribute__((noinline)) void declare(uint64_t pos)
{
	enum mdbus_kind kind = pos + 1u == the->newgen ? MDBUS_KIND_RESET : MDBUS_KIND_GAP;

	if (mdbus_ring_mark(&view[LINES], pos, generation(pos), kind, 1))
		count_record(pos, generation(pos));
	INTERLEAVE_CHECK(there(pos), "declared, and nothing stands there");
}

static void clock_run(void)
{
	for (;;) {
		interleave_wait(clock_ready);
		declare(oldest_hole());
	}
}

static void stop_line(unsigned line)
{
	w.stopped[line] = 1;
	interleave_stop(line);
	w.line[line].at = 0; /* it makes no difference any more */
	memset(w.line[line].fifo, 0, sizeof(w.line[line].fifo));
}

static void stop_line_0(void)
{
	stop_line(0);
}

static void stop_line_1(void)
{
	stop_line(1);
}

static void daemon_run(void)
{
	uint64_t at = w.line[0].at;

	interleave_stop(LINE_0);
	w.through[0] = 0;
	memset(&w.line[0], 0, sizeof(w.line[0]));
	w.line[0].at = at;
	mdbus_line_reclaim(&bus, 0);
	w.stopped[0] = 0;
	interleave_start(LINE_0, "line 0 again", line_run);
}

/* ---- a case ------------------------------------------------------------------------------------------------------- */

/* The line that a case stops, when it stops one. */
static unsigned victim;

static void begin(void)
{
	w.progress = 1;
	w.reading = 1;
	w.through[1] = the->single;
	interleave_start(LINE_0, "line 0", line_run);
	if (!the->single)
		interleave_start(LINE_1, "line 1", line_run);
	interleave_start(READER, "reader", reader_run);
	interleave_start(CLOCK, "clock", clock_run);
	if (the->stop)
		interleave_start(STOPPER, "stopper", victim ? stop_line_1 : stop_line_0);
	if (the->kill)
		interleave_start(DAEMON, "daemon", daemon_run);
}

static struct interleave_plan plan = { .begin = begin, .at_end = at_end };

static void make_bus(void)
{
	static uint8_t ring[sizeof(struct mdbus_ring_hdr) + 4096u + SLOTS * SLOT] __attribute__((aligned(4096)));
	static uint8_t dir[sizeof(struct mdbus_bus_hdr) + sizeof(struct mdbus_channel_desc)] __attribute__((aligned(64)));
	struct mdbus_bus_hdr *bus_hdr = (struct mdbus_bus_hdr *)(void *)dir;
	struct mdbus_ring_hdr *hdr = (struct mdbus_ring_hdr *)(void *)ring;

	bus_hdr->channel[0] = (struct mdbus_channel_desc){
		.depth = the->depth, .slot_size = SLOT, .timed = 1, .ordered = 1, .line_mask = the->single ? 1 : 3
	};
	mdbus_shape_ring_init(hdr, &bus_hdr->channel[0]);
	bus_hdr->nchannel = 1;
	bus_hdr->nline = LINES;
	bus.dir = bus_hdr;
	bus.ring[0] = (struct mdbus_region){ hdr, mdbus_shape_ring_size(&bus_hdr->channel[0]) };
	for (unsigned k = 0; k <= LINES; k++)
		view[k] = mdbus_ring_view(hdr, k < LINES ? k : MDBUS_LINES_MAX);
	plan.memory[0].at = &w;
	plan.memory[0].size = sizeof(w);
	plan.memory[1].at = view[0].slots;
	plan.memory[1].size = the->depth * SLOT;
}

static void choose(const struct test_case *c)
{
	the = c;
	plan.name = c->name;
	end = 0;
	for (unsigned k = 0; k < LINES; k++)
		for (uint64_t n = 0, pos; (pos = nth(c->order[k], n)) != 0; n++)
			end = pos >= end ? (unsigned)pos + 1u : end;
	make_bus();
}

static struct interleave_count total;
static unsigned ncases;

static void run_all(const struct test_case *c)
{
	choose(c);
	for (victim = 0; victim < (c->stop && !c->single ? 2u : 1u); victim++) {
		struct interleave_count n = interleave_all(&plan);

		printf("%-16s %9lu states %10lu steps %9.2g schedules%s\n", c->name, (unsigned long)n.states,
		       (unsigned long)n.steps, n.schedules, c->stop ? victim ? ", line 1 stopped" : ", line 0 stopped" : "");
		fflush(stdout);
		total.states += n.states;
		total.steps += n.steps;
		total.schedules += n.schedules;
	}
	ncases++;
}

static void run_random(uint64_t n, uint64_t seed)
{
	for (unsigned i = 0; i < NCASES; i++) {
		choose(&cases[i]);
		victim = i % 2u && !the->single;
		total.random += interleave_random(&plan, n / NCASES + 1u, seed + i).random;
	}
}

int main(int argc, char **argv)
{
	const char *n = getenv("INTERLEAVE_RANDOM"), *seed = getenv("INTERLEAVE_SEED");
	unsigned size = argc > 1 && strcmp(argv[1], "--all") == 0 ? 2 : 1;
	bool named = argc > 1 && argv[1][0] != '-';

	if (argc > 1 && strcmp(argv[1], "--list") == 0) {
		for (unsigned i = 0; i < NCASES; i++)
			puts(cases[i].name);
		return 0;
	}
	if (!named) /* first: it is what finds most mistakes soonest */
		run_random(n ? strtoull(n, NULL, 10) : 50000, seed ? strtoull(seed, NULL, 10) : 1);
	for (unsigned i = 0; i < NCASES; i++) {
		bool wanted = !named && cases[i].size <= size;

		for (int k = 1; k < argc; k++)
			wanted = wanted || strcmp(argv[k], cases[i].name) == 0;
		if (wanted)
			run_all(&cases[i]);
	}
	printf("count: %u cases, %lu states, %.3g schedules, %lu at random, 0 violations\n", ncases, (unsigned long)total.states,
	       total.schedules, (unsigned long)total.random);
	return ncases == 0;
}
