/* SPDX-License-Identifier: Apache-2.0 */
#include "gap.h"
#include "shape.h"

#define DECLARE_MAX 1024u

static uint16_t word_gen(uint64_t word)
{
	return (uint16_t)(word >> 48);
}

static const struct mdbus_line_channel *line_channel(const struct mdbus_resolver *v, uint32_t line)
{
	return mdbus_bus_line_channel(v->bus, line, v->channel);
}

static bool line_is_live(const struct mdbus_resolver *v, uint32_t line)
{
	return mdbus_load_relaxed(&v->bus->dir->line_state[line]) == MDBUS_LINE_UP;
}

/* A bit for the group of a line: the queues of one line count as one. */
static uint32_t group_bit(const struct mdbus_resolver *v, uint32_t line)
{
#ifdef MDBUS_MUTANT_group_ignored
	(void)v;
	return 1u << line;
#else
	return 1u << v->bus->dir->line[line].group % MDBUS_LINES_MAX;
#endif
}

/* Nothing but SKIP, or nothing at all, stands before head in its generation. */
static bool at_the_front(const struct mdbus_resolver *v)
{
	if (!(v->gen.flags & MDBUS_GEN_MIDSTREAM) || v->head == v->gen.base)
		return (v->gen.flags & MDBUS_GEN_MIDSTREAM) != 0;
	uint64_t stamp = mdbus_load_acquire(&mdbus_ring_slot(&v->ring, v->head - 1u)->head.lo);

	return mdbus_stamp_is(stamp, v->head - 1u, v->gen.gen) && mdbus_stamp_kind(stamp) == MDBUS_KIND_SKIP;
}

/* The furthest head that any line has noted; 0: none has. */
static uint64_t furthest_head(const struct mdbus_resolver *v)
{
	uint64_t head = 0;

	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *c = v->line_mask >> k & 1u ? line_channel(v, k) : NULL;
		uint64_t h = c ? mdbus_load_acquire(&c->head) : 0;

		if (h > head)
			head = h;
	}
	return head;
}

void mdbus_resolver_init(struct mdbus_resolver *v, const struct mdbus_bus *bus, uint32_t channel, uint32_t line)
{
	const struct mdbus_channel_desc *d = &bus->dir->channel[channel];
	uint64_t head, gaps = v->gaps, resets = v->resets;
	uint32_t recovery = 0;

	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++)
		if (d->line_mask >> k & 1u && mdbus_load_relaxed(&bus->dir->line[k].recovery) != 0)
			recovery |= 1u << k;
	*v = (struct mdbus_resolver){
		.gaps = gaps,
		.resets = resets,
		.bus = bus,
		.channel = channel,
		.line_mask = d->line_mask & ~recovery,
		.recovery_mask = recovery,
		.ring = mdbus_shape_ring_view(bus, channel, line),
		.reorder_window = d->reorder_window,
		.timeout_ns = d->gap_timeout_ns,
	};
	head = furthest_head(v);
	if (head != 0 && mdbus_gen_find(v->ring.hdr, head, &v->gen)) {
		v->head = head;
		v->leading = at_the_front(v);
	}
}

void mdbus_resolver_follow(struct mdbus_resolver *v)
{
	uint64_t head = furthest_head(v);
	struct mdbus_gen next;

	if (head <= v->head)
		return;
	if (v->gen.gen == 0 || mdbus_gen_get(v->ring.hdr, v->gen.gen + 1, &next)) {
		mdbus_resolver_init(v, v->bus, v->channel, v->ring.line);
		return;
	}
	v->head = head;
	v->leading = at_the_front(v);
}

/* Enter generation gen if it is open. */
static bool enter(struct mdbus_resolver *v, uint64_t gen)
{
	if (!mdbus_gen_get(v->ring.hdr, gen, &v->gen))
		return false;
	v->head = v->gen.base;
	v->leading = (v->gen.flags & MDBUS_GEN_MIDSTREAM) != 0;
	v->next_open_ns = 0;
	return true;
}

void mdbus_resolver_advance(struct mdbus_resolver *v)
{
	if (v->gen.gen == 0) {
		uint64_t newest = mdbus_gen_newest(v->ring.hdr);

		if (newest == 0 || !enter(v, newest < MDBUS_GENERATIONS ? 1 : newest))
			return;
	}
	for (;;) {
		uint64_t stamp = mdbus_load_acquire(&mdbus_ring_slot(&v->ring, v->head)->head.lo);
		struct mdbus_gen g;

		if (mdbus_stamp_pos(stamp) > v->head) {
			/* lapped: this process slept while others went on; every line's head is at least a window further */
			mdbus_resolver_init(v, v->bus, v->channel, v->ring.line);
			return;
		}
		if (!mdbus_stamp_is(stamp, v->head, v->gen.gen))
			return;
		switch (mdbus_stamp_kind(stamp)) {
		case MDBUS_KIND_RESET:
		case MDBUS_KIND_JUMP:
			mdbus_gen_close(v->ring.hdr, v->gen.gen, v->head);
			g = v->gen;
			if (!enter(v, g.gen + 1)) {
				v->gen = g; /* damaged: an end without a successor */
				return;
			}
			continue;
		case MDBUS_KIND_SKIP:
			break;
		default:
			v->leading = false;
		}
		v->head++;
	}
}

/*
 * How far the lines have got in this generation: the position after the last one any line has seen.  *left: every live line
 * has gone on to a later one.
 */
static uint64_t known_end(const struct mdbus_resolver *v, bool *left)
{
	uint64_t end = v->gen.base;
	uint32_t gone = 0, here = 0; /* groups */
	struct mdbus_gen next;

	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *c = v->line_mask >> k & 1u ? line_channel(v, k) : NULL;
		uint64_t progress = c ? mdbus_load_acquire(&c->progress) : 0, at = 0;

		if (progress != 0) {
			int16_t ahead = (int16_t)(word_gen(progress) - (uint16_t)v->gen.gen);
			uint64_t was = mdbus_load_relaxed(&c->left[v->gen.gen % 4u]);

			if (ahead == 0)
				at = progress & MDBUS_POS_MAX;
			if (word_gen(was) == (uint16_t)v->gen.gen && (was & MDBUS_POS_MAX) > at)
				at = was & MDBUS_POS_MAX;
			if (line_is_live(v, k))
				*(ahead > 0 ? &gone : &here) |= group_bit(v, k);
		} else if (c && line_is_live(v, k)) {
			here |= group_bit(v, k);
		}
		if (at > end)
			end = at;
	}
	*left = (here & ~gone) == 0;
	/* a line may have seen more than there was room for: the last place before the next generation is the end record's */
	if (mdbus_gen_get(v->ring.hdr, v->gen.gen + 1, &next) && end >= next.base)
		end = next.base - 1u;
	return end;
}

/* Every live line is past pos by more than the reorder window, or in a later generation. */
static bool all_passed(const struct mdbus_resolver *v, uint64_t pos)
{
	uint32_t passed = 0, waiting = 0; /* groups */

	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *c = v->line_mask >> k & 1u ? line_channel(v, k) : NULL;

		if (c == NULL || !line_is_live(v, k))
			continue;
		uint64_t progress = mdbus_load_acquire(&c->progress);
		int16_t ahead = (int16_t)(word_gen(progress) - (uint16_t)v->gen.gen);

		bool past = ahead > 0 || (ahead == 0 && (progress & MDBUS_POS_MAX) >= pos + 1u + v->reorder_window);

		*(progress != 0 && past ? &passed : &waiting) |= group_bit(v, k);
	}
	return (waiting & ~passed) == 0;
}

/* A recovery line lives that may still fill the hole at head.  Before the first number ever seen nothing is missing. */
static bool may_be_recovered(const struct mdbus_resolver *v)
{
#ifndef MDBUS_MUTANT_gap_before_recovery
	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++)
		if (v->recovery_mask >> k & 1u && line_is_live(v, k))
			return !v->leading;
#endif
	return false;
}

/* Note when `end` was reached, at most eight times per timeout. */
static void checkpoint(struct mdbus_resolver *v, uint64_t now, uint64_t end)
{
	if (v->checkpoint_ns != 0 && now < v->checkpoint_ns + v->timeout_ns / 8u)
		return;
	v->checkpoint_ns = now;
	v->checkpoint[v->ncheckpoint % MDBUS_CHECKPOINTS].ns = now;
	v->checkpoint[v->ncheckpoint % MDBUS_CHECKPOINTS].pos = end;
	v->ncheckpoint++;
}

/* Positions below this one were passed by some line at least `age` ago. */
static uint64_t passed_for(const struct mdbus_resolver *v, uint64_t now, uint64_t age)
{
	uint64_t pos = 0;
	uint32_t n = v->ncheckpoint < MDBUS_CHECKPOINTS ? v->ncheckpoint : MDBUS_CHECKPOINTS;

	for (uint32_t i = 0; i < n; i++) {
#ifdef MDBUS_MUTANT_gap_before_timeout
		(void)now, (void)age;
		if (v->checkpoint[i].pos > pos)
#else
		if (now >= v->checkpoint[i].ns + age && v->checkpoint[i].pos > pos)
#endif
			pos = v->checkpoint[i].pos;
	}
	return pos;
}

/* End this generation if everybody who lives has left it, or has had the time to. True: something was placed. */
static bool try_close(struct mdbus_resolver *v, uint64_t now, bool left, uint64_t until)
{
	struct mdbus_gen next;

	if (!mdbus_gen_get(v->ring.hdr, v->gen.gen + 1, &next))
		return false;
	if (v->next_open_ns == 0)
		v->next_open_ns = now;
	v->open = true;
#ifndef MDBUS_MUTANT_close_early
	if (!left && now - v->next_open_ns < v->timeout_ns && until <= v->head)
		return false;
#endif
	bool jumped = next.flags & MDBUS_GEN_JUMPED;
	uint64_t expected = v->gen.first_seq + (v->head - v->gen.base);
	uint64_t value = next.gen;

	if (jumped)
		value = next.first_seq > expected ? next.first_seq - expected : 0;
	if (mdbus_ring_mark(&v->ring, v->head, v->gen.gen, jumped ? MDBUS_KIND_JUMP : MDBUS_KIND_RESET, value)) {
		v->resets++;
		if (jumped)
			v->gaps += value;
	}
	return true;
}

static void walk(struct mdbus_resolver *v, uint64_t now, uint64_t until)
{
	v->open = false;
	for (uint32_t declared = 0; declared < DECLARE_MAX; declared++) {
		mdbus_resolver_advance(v);
		if (v->gen.gen == 0)
			return;

		bool left;
		uint64_t end = known_end(v, &left);

		if (v->head >= end) {
			if (!try_close(v, now, left, until))
				return;
			continue;
		}
		v->open = true;
		checkpoint(v, now, end);
		if (v->head >= until && v->head >= passed_for(v, now, v->timeout_ns) &&
		    (!all_passed(v, v->head) || may_be_recovered(v)))
			return;
		enum mdbus_kind kind = v->leading ? MDBUS_KIND_SKIP : MDBUS_KIND_GAP;

		if (mdbus_ring_mark(&v->ring, v->head, v->gen.gen, kind, 1) && kind == MDBUS_KIND_GAP)
			v->gaps++;
	}
	v->open = true;
}

uint64_t mdbus_resolver_wanted(struct mdbus_resolver *v, uint64_t now_ns)
{
	bool left;

	mdbus_resolver_advance(v);
	if (v->gen.gen == 0 || v->leading)
		return v->head;
	uint64_t end = known_end(v, &left), from, to = end;

	if (v->head >= end)
		return v->head;
	v->open = true;
	checkpoint(v, now_ns, end);
	from = passed_for(v, now_ns, v->timeout_ns / 4u);
	from = from < v->head ? v->head : from > end ? end : from;
	while (from < to) { /* the first position that not all lines have passed */
		uint64_t middle = from + (to - from) / 2u;

		if (all_passed(v, middle))
			from = middle + 1u;
		else
			to = middle;
	}
	return from;
}

void mdbus_resolver_tick(struct mdbus_resolver *v, uint64_t now_ns)
{
	walk(v, now_ns, 0);
}

void mdbus_resolver_force(struct mdbus_resolver *v, uint64_t now_ns, uint64_t until)
{
	while (v->head < until) {
		uint64_t before = v->head;

		walk(v, now_ns, until);
		if (v->head == before)
			return;
	}
}
