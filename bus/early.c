/* SPDX-License-Identifier: Apache-2.0
 *
 * early.c - a line whose duplicates are dropped before they reach it (the XDP program, ingest/line_xdp.h): what may be dropped,
 * and what becomes of the line's own idea of where it is and of its counters.
 *
 * What may be dropped is below the head, where every number has its record for good: a message, or a gap that nobody can
 * fill any more.  A restart uses numbers again, under the same session where the layout names none.  It must be seen, so
 * numbers near a session's start and far behind the head are never dropped, and nothing is while the line has a
 * candidate for a new place, or another line has opened a generation that this one has not gone to.
 */
#include "channel.h"

#define EARLY_FIRST 4096u /* a restart begins below this number, whatever of its start is lost */

bool mdbus_channel_committed(struct mdbus_channel *c, uint64_t *from, uint64_t *to)
{
	struct mdbus_resolver *v = &c->resolver;

	if (c->gen.gen == 0 || c->recovery || !c->desc.ordered || c->candidate.count != 0 || c->limit != MDBUS_POS_MAX ||
	    mdbus_load_acquire(&c->ring.hdr->gen) != c->gen_hint)
		return false;
	mdbus_resolver_follow(v);
	if (v->gen.gen != c->gen.gen || v->head < c->gen.base)
		return false;
	*to = c->gen.first_seq + (v->head - c->gen.base);
#ifdef MDBUS_MUTANT_drop_uncommitted
	*to += c->desc.window;
#endif
	*from = *to > c->desc.window ? *to - c->desc.window : 0;
	if (*from < c->gen.first_seq)
		*from = c->gen.first_seq;
	if (*from < EARLY_FIRST)
		*from = EARLY_FIRST;
	return *from < *to;
}

void mdbus_channel_dropped(struct mdbus_channel *c, uint64_t first, uint64_t next)
{
	uint64_t was = c->next_seq;

	if (first < c->gen.first_seq || next <= first || next - c->gen.first_seq > c->resolver.head - c->gen.base)
		return;
	mdbus_channel_carried(c, first, next);
	if (c->next_seq != was)
		mdbus_channel_advanced(c);
}

void mdbus_channel_count_dropped(struct mdbus_channel *c, uint64_t packets, uint64_t messages)
{
	struct mdbus_arena_hdr *a = mdbus_bus_arena(c->bus, c->line);

	mdbus_count(&a->count.early_dropped, packets);
	mdbus_count(&a->count.packets, packets);
	mdbus_count(&a->count.feed_packets, packets);
	mdbus_count(&c->mine->count.messages, messages);
	mdbus_count(&c->mine->count.duplicates, messages);
	if (c->late_known)
		mdbus_hist_add_n(&a->lateness, c->late_ns, packets);
}
