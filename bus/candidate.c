/* SPDX-License-Identifier: Apache-2.0
 *
 * candidate.c - packets that do not continue a line's stream: late ones, restarts, jumps, new sessions, forgeries.
 *
 * A packet that is behind is first offered like any other: mostly it is a duplicate or fills a hole, and nothing more is to be
 * said.  What remains, together with everything that is too far ahead or of another session, is a candidate: kept in its frame
 * until enough packets in a row continue it.  It must also be proven to be something new: a number or session that cannot
 * be old, or bytes that differ from what is published under its number.  So a burst of plain duplicates, which continue each
 * other just as well, is never taken for a restart.  Among the first packets of one, though, may be some that are bytewise what
 * the old numbering had there (heartbeats that are counted): they prove nothing, and are kept with the others.
 */
#include "channel.h"

#define PATIENCE   3u /* that many ordinary packets in a row end a candidate */
#define PLACES     4u /* generations, from the newest back, in which a line without a place looks for one */
#define SKEW_NS    10000000u /* lines of one feed are less far apart, if no more is waited for one */
#define BEHIND_MAX 4096u /* numbers that another line may be behind by where this one comes into the midst of a session */
#define OPEN_TRIES 4u /* another line may be first every time */

/* What line k knows of this channel; NULL: it does not carry it. */
static const struct mdbus_line_channel *of_line(const struct mdbus_channel *c, uint32_t k)
{
	return c->desc.line_mask >> k & 1u ? mdbus_bus_line_channel(c->bus, k, c->index) : NULL;
}

static void drop_candidate(struct mdbus_channel *c, uint32_t current_frame)
{
	struct mdbus_candidate *a = &c->candidate;

	for (uint32_t i = 0; i < a->held; i++) {
		uint32_t frame = mdbus_holds_frame(c->holds, a->chunk[i].off);

		if (--c->holds->refs[frame] == 0 && frame != current_frame)
			c->holds->loose[c->holds->nloose++] = frame;
	}
	a->count = a->held = a->patience = 0;
	mdbus_store_relaxed(&c->mine->candidate_seq, 0);
	MDBUS_HOOK("candidate.dropped");
}

void mdbus_candidate_age(struct mdbus_channel *c)
{
	struct mdbus_candidate *a = &c->candidate;

	/* not in a row any more; but what was kept back may still turn out to be the first of a true run */
	mdbus_count(&c->mine->count.out_of_window, a->count);
	a->count = 0;
	if (--a->patience == 0)
		drop_candidate(c, UINT32_MAX);
}

/* True if generation g may hold the numbers first..next of a session. */
static bool fits(const struct mdbus_channel *c, const struct mdbus_gen *g, uint64_t session, uint64_t first, uint64_t next)
{
	struct mdbus_gen after;
	uint64_t end = g->base + (next - g->first_seq);

	if (g->session != mdbus_gen_session(session) || first < g->first_seq || next - g->first_seq > MDBUS_POS_MAX - g->base)
		return false;
	if (mdbus_gen_get(c->ring.hdr, g->gen + 1, &after))
		return end < after.base;
	return end <= (c->resolver.head > g->base ? c->resolver.head : g->base) + c->desc.window;
}

/* This line goes over to generation g: say where it left the old one, then where it is. */
static void move_to(struct mdbus_channel *c, const struct mdbus_gen *g, uint64_t session, uint64_t first)
{
	uint64_t was = c->mine->progress;
	struct mdbus_gen next;

	/* what this line, or the process that had it before, has published there must not be cut off by the end record */
	if (was >> 48 != 0 && was >> 48 != (g->gen & 0xffffu))
		mdbus_store_release(&c->mine->left[(was >> 48) % 4u], was);
	MDBUS_HOOK("move.left");
	if (c->gen.gen != 0) {
		mdbus_count(g->flags & MDBUS_GEN_JUMPED ? &c->mine->count.jumps : &c->mine->count.restarts, 1u);
		if (g->flags & MDBUS_GEN_JUMPED)
			mdbus_count(&c->mine->count.line_gaps, first - c->next_seq);
		c->prev = c->gen;
		c->prev_session = c->session;
	}
	c->gen = *g;
	c->session = session;
	c->next_seq = first;
	memset(&c->seen, 0xff, sizeof(c->seen));
	c->reset_hint = false;
	c->stranded = 0;
	c->gen_hint = mdbus_load_acquire(&c->ring.hdr->gen);
	c->limit = mdbus_gen_get(c->ring.hdr, g->gen + 1, &next) ? next.base - 1u : MDBUS_POS_MAX;
	MDBUS_HOOK("move.session");
	__builtin_memcpy(c->mine->session[g->gen % 4u], c->name, sizeof(c->name));
	MDBUS_HOOK("move.before");
	mdbus_channel_progress(c);
	MDBUS_HOOK("move.after");
	c->resolver.open = true;
}

/* A position beyond everything that any line may still publish in the generations there are. */
static uint64_t fresh_base(const struct mdbus_channel *c)
{
	uint64_t base = c->resolver.head > c->desc.depth ? c->resolver.head : c->desc.depth;
	struct mdbus_gen newest;

	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *lc = of_line(c, k);

		if (lc == NULL)
			continue;
		uint64_t at = mdbus_load_acquire(&lc->progress) & MDBUS_POS_MAX;

		if (at > base)
			base = at;
		for (uint32_t i = 0; i < 4u; i++) { /* this line may have gone back to an older one since */
			uint64_t was = mdbus_load_relaxed(&lc->left[i]) & MDBUS_POS_MAX;

			if (was > base)
				base = was;
		}
	}
	if (mdbus_gen_get(c->ring.hdr, mdbus_gen_newest(c->ring.hdr), &newest) && newest.base > base)
		base = newest.base;
	return base + c->desc.depth / 8u;
}

/* The position after the newest one that any line has brought in generation g. */
static uint64_t reach(const struct mdbus_channel *c, const struct mdbus_gen *g)
{
	uint64_t top = c->resolver.head > g->base ? c->resolver.head : g->base;

	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *lc = of_line(c, k);

		if (lc == NULL)
			continue;
		uint64_t at[2] = { mdbus_load_acquire(&lc->progress), mdbus_load_relaxed(&lc->left[g->gen % 4u]) };

		for (uint32_t i = 0; i < 2; i++)
			if (at[i] >> 48 == (g->gen & 0xffffu) && (at[i] & MDBUS_POS_MAX) > top)
				top = at[i] & MDBUS_POS_MAX;
	}
	return top;
}

/*
 * The generation that numbers from `first` on are a jump of, if they are: this line's own, or for a line without a place the
 * newest one, which has gone on for longer than the window while no process looked.
 */
static bool jump_of(const struct mdbus_channel *c, uint64_t newest, uint64_t session, uint64_t first, bool jump,
                    struct mdbus_gen *from)
{
	*from = c->gen;
	if (c->gen.gen != 0)
		return jump && newest == c->gen.gen; /* else another session came between: this is not its continuation */
#ifdef MDBUS_MUTANT_dead_time_is_restart
	return false;
#endif
	return mdbus_gen_get(c->ring.hdr, newest, from) && from->session == mdbus_gen_session(session) &&
	       first >= from->first_seq && from->base + (first - from->first_seq) >= reach(c, from);
}

/*
 * How many numbers before the first one that this line has a new generation keeps room for: those that reordering may still
 * bring, and with another line up all that it brings if it is behind.  If nobody does, they are skipped.
 */
static uint64_t room_before(const struct mdbus_channel *c)
{
	uint64_t room = c->desc.window / 4u < BEHIND_MAX ? c->desc.window / 4u : BEHIND_MAX;

#ifndef MDBUS_MUTANT_nobody_is_behind
	for (uint32_t k = 0; k < MDBUS_LINES_MAX && room > c->desc.reorder_window; k++)
		if (k != c->line && of_line(c, k) != NULL && mdbus_load_relaxed(&c->bus->dir->line[k].recovery) == 0 &&
		    mdbus_load_relaxed(&c->bus->dir->line_state[k]) == MDBUS_LINE_UP)
			return room;
#else
	(void)room;
#endif
	return c->desc.reorder_window;
}

/*
 * Open the generation after `newest` for numbers from `first` on; or stay, if a jump turns out to be none for the channel as a
 * whole.  False also if another line has opened it first, be it for the same: whether that is where these numbers belong
 * is for adopt to find out.  So `newest` is the one that adopt has looked at, or two lines would open one each.
 */
static bool open_next(struct mdbus_channel *c, uint64_t newest, uint64_t session, uint64_t first, bool jump, uint64_t now_ns)
{
	uint64_t near = c->desc.reorder_window, room = room_before(c);
	struct mdbus_gen from;
#ifdef MDBUS_MUTANT_open_twice
	newest = mdbus_gen_newest(c->ring.hdr);
#endif
	struct mdbus_gen g = {
		.gen = newest + 1,
		.base = fresh_base(c),
		.first_seq = first,
		.session = mdbus_gen_session(session),
	};

	if (jump_of(c, newest, session, first, jump, &from)) {
		/* numbers from here on cannot be in the old one, whatever others still bring: its places end before them */
		uint64_t clear = from.first_seq + (g.base - 1u - from.base);

		if (first < clear) { /* so near to what others have seen that the old one has a place for it */
			if (c->gen.gen == 0)
				move_to(c, &from, session, first);
			return true;
		}
		if (c->gen.gen != 0)
			room = near; /* the source has jumped: all lines find the same number there */
		g.flags = MDBUS_GEN_JUMPED;
		g.first_seq -= first - clear < room ? first - clear : room;
	} else if (first > 1) {
		g.first_seq = first <= room + 1u ? 1u : first - room;
		if (first > near + 1u) /* else so near the start that the numbers before it are missing, not history */
			g.flags = MDBUS_GEN_MIDSTREAM;
	}
	struct mdbus_gen mine = g;

	mdbus_store_relaxed(&c->ring.hdr->gen_opened_ns, now_ns);
	MDBUS_HOOK("open.time");
	if (g.base > MDBUS_POS_MAX - c->desc.depth || mdbus_gen_open(c->ring.hdr, &g) != 0)
		return false;
	if (memcmp(&g, &mine, sizeof(g)) != 0 || !fits(c, &g, session, first, first))
		return false;
	move_to(c, &g, session, first);
	return true;
}

/* What generation g has at the place of a packet's first message; see mdbus_channel_compare. */
static int compare_in(const struct mdbus_channel *c, const struct mdbus_gen *g, const struct mdbus_chunk *p)
{
	struct mdbus_packet d;
	struct mdbus_message m;
	uint32_t n = 0;

	if (mdbus_layout_decode(c->layout, p->bytes, p->len, &d) != MDBUS_DECODE_OK || d.no_messages)
		return -1;
	mdbus_layout_messages(c->layout, p->bytes, p->len, &d, &m, 1, &n);
	if (n == 0)
		return -1;
	return mdbus_channel_compare(c, g->base + (m.seq - g->first_seq), g->gen, p->bytes + m.off, m.len);
}

/* Everything taken from now on was sent when generation `opened` ns was open: this line has read all that came before. */
static bool all_newer(const struct mdbus_channel *c, uint64_t opened_ns)
{
	uint64_t skew = c->desc.gap_timeout_ns < SKEW_NS ? c->desc.gap_timeout_ns : SKEW_NS;

	return c->next_seq == 0 && c->emptied_ns != NULL && *c->emptied_ns >= opened_ns + skew;
}

/*
 * A line without a place has a number that is far ahead of what anybody has in the newest generation.  The packet may have
 * waited since before that was opened, for a process that has just started, or on a line that is late; where both
 * generations have one name, it would get a place among numbers that it is not of.  So it has to wait: at the start of a
 * process until no such packet can be there any more, and for a line that lost its place for two gap timeouts.
 * Or the number is from before what the newest generation begins with, since the line that opened it in the midst of a
 * session is ahead of this new one: it will soon be there.
 */
static bool too_early(const struct mdbus_channel *c, uint64_t session, uint64_t first, uint64_t now_ns)
{
	uint64_t opened_ns = mdbus_load_relaxed(&c->ring.hdr->gen_opened_ns);
	int64_t age = (int64_t)(now_ns - opened_ns), limit = (int64_t)(2u * c->desc.gap_timeout_ns);
	struct mdbus_gen g, before;

#ifdef MDBUS_MUTANT_placed_at_once
	return false;
#endif
	/* another line's clock may have been read after this one's */
	if (c->gen.gen != 0 || age >= limit || age <= -limit)
		return false;
	uint64_t newest = mdbus_gen_newest(c->ring.hdr);

	if (!mdbus_gen_get(c->ring.hdr, newest, &g))
		return false;
#ifndef MDBUS_MUTANT_behind_is_restart
	if (c->next_seq == 0 && first < g.first_seq && g.session == mdbus_gen_session(session))
		return true;
#endif
	if (all_newer(c, opened_ns) || !mdbus_gen_get(c->ring.hdr, newest - 1u, &before) || g.session != before.session ||
	    first < g.first_seq)
		return false;
	return g.base + (first - g.first_seq) > reach(c, &g) + c->desc.reorder_window;
}

/*
 * Find the generation after `after`, up to `newest`, that other lines have already opened for these numbers, and go there: the one
 * that holds the same bytes, else the first one that has nothing yet where p's would go.  p NULL: nothing to compare.
 * A line that is nowhere reads what is sent now: unless bytes prove it, that is not of a generation that has ended.  What
 * cannot be compared in those was by reference, and its frame has been taken back.
 */
static bool adopt(struct mdbus_channel *c, uint64_t after, uint64_t newest, uint64_t session, uint64_t first, uint64_t next,
                  const struct mdbus_chunk *p, uint64_t now_ns)
{
	uint64_t end;
	bool nowhere = c->gen.gen == 0;
	struct mdbus_gen g, found = { 0 };

	if (newest - after > MDBUS_GENERATIONS) /* the table holds no more, whatever the hint says */
		after = newest - MDBUS_GENERATIONS;
	for (uint64_t gen = after + 1; gen <= newest; gen++) {
		if (!mdbus_gen_get(c->ring.hdr, gen, &g) || !fits(c, &g, session, first, next))
			continue;
		int same = p ? compare_in(c, &g, p) : -1;
		bool ended = nowhere && mdbus_gen_end(c->ring.hdr, gen, &end);

		if (same == 1 || (same == -1 && found.gen == 0 && !ended && !(gen == newest && too_early(c, session, first, now_ns))))
			found = g;
		if (same == 1 && !nowhere)
			break;
	}
	if (found.gen == 0)
		return false;
	move_to(c, &found, session, first);
	return true;
}

/* Line k is this one, or another queue of it, and so no second witness. */
static bool same_line(const struct mdbus_channel *c, uint32_t k)
{
	return c->bus->dir->line[k].group == c->bus->dir->line[c->line].group;
}

/* Another line is waiting for agreement on about the same numbers. */
static bool other_agrees(const struct mdbus_channel *c, const struct mdbus_candidate *a)
{
	for (uint32_t k = 0; k < MDBUS_LINES_MAX; k++) {
		const struct mdbus_line_channel *lc = of_line(c, k);

		if (lc == NULL || same_line(c, k))
			continue;
		uint64_t seq = mdbus_load_relaxed(&lc->candidate_seq);

		if (seq != 0 && mdbus_load_relaxed(&lc->candidate_session) == a->session &&
		    seq - 1u - a->first + c->desc.reorder_window <= 2u * c->desc.reorder_window)
			return true;
	}
	return false;
}

/* Publish what was kept back, now that it has a place. */
static void replay(struct mdbus_channel *c, uint64_t now_ns)
{
	struct mdbus_candidate *a = &c->candidate;

	for (uint32_t i = 0; i < a->held; i++) {
		struct mdbus_packet d;

		if (mdbus_layout_decode(c->layout, a->chunk[i].bytes, a->chunk[i].len, &d) == MDBUS_DECODE_OK &&
		    d.seq >= c->gen.first_seq)
			mdbus_channel_publish(c, &a->chunk[i], &d, now_ns);
	}
	if (a->next > c->next_seq) {
		c->next_seq = a->next;
		mdbus_channel_progress(c);
	}
}

/* The candidate is true: give it a place and publish it. */
static void accept(struct mdbus_channel *c, uint32_t current_frame, uint64_t now_ns)
{
	struct mdbus_candidate *a = &c->candidate;
	bool jump = c->gen.gen != 0 && a->session == c->session && a->first > c->next_seq;
	uint64_t span = a->next - (jump ? c->next_seq : a->next);
	bool moved = false;

	for (uint32_t i = 0; i < OPEN_TRIES && !moved; i++) {
		uint64_t newest = mdbus_gen_newest(c->ring.hdr);

		/* a jump that the ring has room for needs no new generation: the numbers between become gaps one by one */
		moved = adopt(c, c->gen.gen, newest, a->session, a->first, a->next, a->held ? &a->chunk[0] : NULL,
		              now_ns) ||
		        (jump && span <= c->desc.window) || open_next(c, newest, a->session, a->first, jump, now_ns);
	}
	if (moved)
		replay(c, now_ns);
	drop_candidate(c, current_frame);
}

static bool wraps(const struct mdbus_channel *c, uint64_t first)
{
	uint32_t bits = c->layout->seq.width * 8u;

	return c->layout->wrap == MDBUS_WRAP_MAX_TO_1 && bits < 64u && first == 1 &&
	       c->next_seq == UINT64_C(1) << bits;
}

/* The packet continues what the candidate has so far, in order or nearly so. */
static bool continues(const struct mdbus_channel *c, const struct mdbus_candidate *a, uint64_t session, uint64_t first)
{
	uint64_t near = c->desc.reorder_window;

	return a->session == session && first - a->next + near <= near + c->desc.window;
}

/* What a packet says for its being the start of something new. */
enum evidence {
	EVIDENCE_NONE,  /* nothing: published already, but so far behind that it may be the same once more */
	EVIDENCE_RUN,   /* it does not belong where the line is */
	EVIDENCE_PROOF, /* it cannot be old */
};

static void hold(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_packet *d, uint64_t first,
                 uint64_t next, enum evidence evidence, uint64_t now_ns)
{
	struct mdbus_candidate *a = &c->candidate;
	uint32_t frame = mdbus_holds_frame(c->holds, p->off);

	if (a->patience != 0 && (!continues(c, a, d->session, first) || a->held == MDBUS_AGREE_MAX)) {
		if (evidence == EVIDENCE_NONE && a->count != 0)
			return;
		mdbus_count(&c->mine->count.out_of_window, a->count);
		drop_candidate(c, frame);
	}
	if (a->patience == 0)
		*a = (struct mdbus_candidate){ .session = d->session, .first = first, .next = next };
	a->patience = PATIENCE;
	a->count += evidence != EVIDENCE_NONE;
	a->proven |= evidence == EVIDENCE_PROOF;
	if (first < a->first)
		a->first = first;
	if (next > a->next)
		a->next = next;
	if (!d->no_messages) {
		a->chunk[a->held++] = *p;
		c->holds->refs[frame]++;
	}
	if (a->count == 0)
		return;
	bool agreed = a->count >= c->desc.agree_packets || c->reset_hint || wraps(c, first) || other_agrees(c, a);

	mdbus_store_relaxed(&c->mine->candidate_session, a->session);
	MDBUS_HOOK("candidate.session");
	mdbus_store_relaxed(&c->mine->candidate_seq, a->first + 1u);
	MDBUS_HOOK("candidate.seq");
	if (a->proven && agreed && !too_early(c, a->session, a->first, now_ns))
		accept(c, frame, now_ns);
}

/* A line that is nowhere yet, or lost: the generation its numbers belong to, without more ado if there is one. */
static bool find_place(struct mdbus_channel *c, const struct mdbus_chunk *p, uint64_t session, uint64_t first,
                       uint64_t next, uint64_t now_ns)
{
	uint64_t newest = mdbus_gen_newest(c->ring.hdr);

	mdbus_resolver_advance(&c->resolver);
	if (newest == 0 && open_next(c, 0, session, first, false, now_ns))
		return true;
	newest = mdbus_gen_newest(c->ring.hdr);
	return adopt(c, newest > PLACES ? newest - PLACES : 0, newest, session, first, next, p, now_ns);
}

/* A line that has left may still bring what was reordered around its end; the end record comes after that. */
static bool extend_previous(struct mdbus_channel *c, uint64_t next)
{
	uint64_t *left = &c->mine->left[c->prev.gen % 4u], tag = c->prev.gen << 48, was = mdbus_load_relaxed(left);
	uint64_t end = c->prev.base + (next - c->prev.first_seq);

	if (was >> 48 != tag >> 48 || next - c->prev.first_seq > MDBUS_POS_MAX - c->prev.base ||
	    end > (was & MDBUS_POS_MAX) + c->desc.reorder_window)
		return false;
	if (end > (was & MDBUS_POS_MAX))
		mdbus_store_release(left, tag | end);
	return true;
}

/* The tail of the session before this one, arriving late: it belongs where that one is. */
static enum mdbus_decode_error publish_previous(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                                const struct mdbus_packet *d, uint64_t now_ns)
{
	struct mdbus_gen gen = c->gen, next;
	uint64_t next_seq = c->next_seq, limit = c->limit;
	uint32_t stranded = c->stranded;
	enum mdbus_decode_error err = MDBUS_DECODE_OK;

	mdbus_count(&c->mine->count.out_of_order, 1u);
	if (d->no_messages || d->seq < c->prev.first_seq || !extend_previous(c, d->seq + d->count))
		return err;
	c->gen = c->prev;
	c->next_seq = UINT64_MAX; /* nothing of it is progress */
	c->limit = mdbus_gen_get(c->ring.hdr, c->prev.gen + 1, &next) ? next.base - 1u : c->prev.base;
	err = mdbus_channel_publish(c, p, d, now_ns);
	c->gen = gen;
	c->next_seq = next_seq;
	c->limit = limit;
	c->stranded = stranded;
	return err;
}

/* A packet behind this line's newest number.  True: nothing more is to be said about it; else *evidence says what it is. */
static bool offer_behind(struct mdbus_channel *c, const struct mdbus_chunk *p, const struct mdbus_packet *d,
                         uint64_t first, uint64_t now_ns, enum evidence *evidence, enum mdbus_decode_error *err)
{
	struct mdbus_message m;
	uint32_t n = 0;
	uint64_t won = c->mine->count.won;

	*evidence = EVIDENCE_PROOF;
	if (first < c->gen.first_seq)
		return false;
	mdbus_count(&c->mine->count.out_of_order, 1u);
	*evidence = EVIDENCE_RUN;
	if (d->no_messages)
		return false;
	mdbus_layout_messages(c->layout, p->bytes, p->len, d, &m, 1, &n);
	if (n == 0)
		return true;
	uint64_t pos = c->gen.base + (m.seq - c->gen.first_seq);
	int same = mdbus_channel_compare(c, pos, c->gen.gen, p->bytes + m.off, m.len);
	bool far = c->next_seq - first > c->desc.reorder_window && !d->retrans;

	/* other bytes than these are published there, or the ring is long past it, or no reorder explains it */
	if (same == 0 || same == -2 || (same == -1 && far)) {
		*evidence = EVIDENCE_PROOF;
		return false;
	}
	*err = mdbus_channel_publish(c, p, d, now_ns);
#ifndef MDBUS_MUTANT_same_is_old
	if (same == 1 && far) {
		*evidence = EVIDENCE_NONE;
		return false;
	}
#endif
	return same == 1 || c->mine->count.won != won;
}

bool mdbus_candidate_stray(const struct mdbus_channel *c, const struct mdbus_chunk *p, uint64_t session, uint64_t first)
{
	uint64_t left = mdbus_load_relaxed(&c->mine->left[c->prev.gen % 4u]), near = c->desc.reorder_window;

	if (c->prev.gen == 0 || session != c->prev_session || session != c->session ||
	    left >> 48 != (c->prev.gen & 0xffffu) || (left & MDBUS_POS_MAX) < c->prev.base || first < c->prev.first_seq ||
	    c->next_seq - c->gen.first_seq > near)
		return false;
	uint64_t there = c->prev.first_seq + ((left & MDBUS_POS_MAX) - c->prev.base);
	uint64_t away = first < there ? there - first : first - there;

	if (away > near)
		return false;
	if (c->gen.flags & MDBUS_GEN_JUMPED)
		return first < c->gen.first_seq;
#ifdef MDBUS_MUTANT_tail_is_ahead
	return false;
#else
	return first > c->next_seq && away < first - c->next_seq && compare_in(c, &c->prev, p) != 0;
#endif
}

enum mdbus_decode_error mdbus_candidate_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                               const struct mdbus_packet *d, uint64_t now_ns)
{
	uint64_t first = 0, next = 0;
	enum evidence evidence = EVIDENCE_PROOF;
	enum mdbus_decode_error err = MDBUS_DECODE_OK;

	mdbus_packet_range(d, &first, &next);
	mdbus_layout_session(c->layout, p->bytes, p->len, c->name);
	if (next > MDBUS_SEQ_MAX) {
		mdbus_count(&c->mine->count.out_of_window, 1u);
		return MDBUS_DECODE_OK;
	}
	if (c->gen.gen == 0 && find_place(c, p, d->session, first, next, now_ns))
		return mdbus_channel_publish(c, p, d, now_ns);
	if (c->prev.gen != 0 && d->session == c->prev_session &&
	    (d->session != c->session || mdbus_candidate_stray(c, p, d->session, first)))
		return publish_previous(c, p, d, now_ns);
	if (c->gen.gen != 0 && d->session == c->session) {
		uint64_t end = c->gen.base + (next - c->gen.first_seq);

		if (first < c->next_seq) {
			if (offer_behind(c, p, d, first, now_ns, &evidence, &err))
				return err;
		} else {
			/* ahead: the head may have moved on since this line last looked */
			mdbus_resolver_tick(&c->resolver, now_ns);
			if (end < c->resolver.head + c->desc.window)
				return mdbus_channel_publish(c, p, d, now_ns);
		}
	}
	hold(c, p, d, first, next, evidence, now_ns);
	return err;
}

void mdbus_channel_flush(struct mdbus_channel *c, uint64_t now_ns)
{
	if (c->candidate.count != 0 && c->candidate.proven)
		accept(c, UINT32_MAX, now_ns);
}
