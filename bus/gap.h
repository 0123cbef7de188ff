/* SPDX-License-Identifier: Apache-2.0
 *
 * gap.h - the gap clock of a channel: who says that a number is lost, and when a session has ended.
 *
 * Every line runs one resolver a channel, and mdbusd one more for when no line is alive.  They share nothing but the
 * ring and the lines' progress words; whatever one of them decides is a compare-and-swap on the slot in question, so
 * two that decide at once agree on the first.  A resolver keeps `head`, below which every position has its record, and
 * walks it forward:
 *
 *   a record at head         step over it; over RESET and JUMP into the next generation
 *   a hole at head, and      GAP, as soon as
 *     some line is past it     - every live line is past it by more than the reorder window, or has left the generation,
 *                                and no recovery line is alive that may still fill it, or
 *                              - some line has been past it for the gap timeout, or
 *                              - the window is used up: a line needs the room (mdbus_resolver_force)
 *   no line has seen more,   RESET (or JUMP), as soon as every live line is in a later generation, or the timeout has
 *     next generation open     passed since this resolver first saw it open
 *
 * A recovery line has no progress: it fills holes that the others have left, and only its being alive counts.
 *
 * A live line is one whose process mdbusd holds for alive.  Lines that are queues of one line count as one: it has passed
 * a number, or left a generation, when any live one of them has, since each packet comes on one queue only.
 * Time is CLOCK_MONOTONIC; a wall clock step changes nothing.
 */
#ifndef MDBUS_GAP_H
#define MDBUS_GAP_H

#include <mdbus/lease.h>
#include <mdbus/ring.h>
#include "generation.h"

#define MDBUS_CHECKPOINTS 16u /* how finely a resolver remembers when a position was first passed */

struct mdbus_resolver {
	uint64_t head;
	uint64_t next_open_ns; /* when the generation after this one was first seen open; 0: not seen */
	bool leading;          /* nothing but SKIP so far in this generation */
	bool open;             /* there is a hole, or a generation to be closed: tick soon */
	const struct mdbus_bus *bus;
	uint32_t channel;
	uint32_t line_mask;     /* lines whose progress counts */
	uint32_t recovery_mask; /* recovery lines */
	struct mdbus_ring ring;
	uint64_t reorder_window;
	uint64_t timeout_ns;
	struct mdbus_gen gen;  /* generation that head is in; gen.gen 0: none open yet */
	uint64_t checkpoint_ns;
	uint32_t ncheckpoint;
	struct {
		uint64_t ns;
		uint64_t pos; /* some line was past every position below at that time */
	} checkpoint[MDBUS_CHECKPOINTS];
	uint64_t gaps;         /* numbers this resolver declared lost */
	uint64_t resets;       /* generations it ended */
};

/*
 * Zeroed by the caller before its first use.  line: the caller's line, or MDBUS_LINES_MAX for mdbusd.  Starts at the
 * furthest head that any line has noted.  The bus stays mapped as long as the resolver is used.
 */
void mdbus_resolver_init(struct mdbus_resolver *v, const struct mdbus_bus *bus, uint32_t channel, uint32_t line);

/*
 * Walk the head as far as the rules allow at time now_ns.  Bounded work (1,024 records declared at most); v->open says
 * whether to call again soon.  Killed inside: each declared record stands or does not.
 */
void mdbus_resolver_tick(struct mdbus_resolver *v, uint64_t now_ns);

/* As tick, but declare every hole below position `until` whatever the time: the ring's window is used up. */
void mdbus_resolver_force(struct mdbus_resolver *v, uint64_t now_ns, uint64_t until);

/*
 * Holes below this position are worth asking a request server for: every live line is past them by more than the reorder
 * window, or some line has been past them for a quarter of the gap timeout.  At most `head`: there are none.
 */
uint64_t mdbus_resolver_wanted(struct mdbus_resolver *v, uint64_t now_ns);

/* Step over records without declaring any: what a line does after publishing at its head. */
void mdbus_resolver_advance(struct mdbus_resolver *v);

/*
 * Go to the furthest head that any line has noted, without looking at the slots between: for a line that does not look at
 * what others publish.
 */
void mdbus_resolver_follow(struct mdbus_resolver *v);

/* Positions [pos, pos + n) have just been found or made resolved by the caller. */
static inline void mdbus_resolver_note(struct mdbus_resolver *v, uint64_t pos, uint64_t n)
{
	if (v->head - pos < n) {
		v->head = pos + n;
		v->leading = false;
	} else if (v->head < pos) {
		v->open = true;
	}
}

#endif
