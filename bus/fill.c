/* SPDX-License-Identifier: Apache-2.0
 *
 * fill.c - what a recovery line does with a packet: fill holes, and nothing else.
 *
 * A request server answers late, twice, or what nobody asked for, and a line that followed it would lead every other
 * one astray.  So a recovery line follows nothing: it has no progress, no candidate and no number that it expects; it
 * opens no generation and agrees to none.  Its messages are offered to the generation in which the oldest open gap
 * lies, if they are of that session.  Whoever has a number already, or has declared it lost, keeps it.
 */
#include "channel.h"

enum mdbus_decode_error mdbus_fill_packet(struct mdbus_channel *c, const struct mdbus_chunk *p,
                                          const struct mdbus_packet *d, uint64_t now_ns)
{
	struct mdbus_gen next;
	enum mdbus_decode_error err;

	if (!c->desc.ordered || d->no_messages || !d->has_seq)
		return MDBUS_DECODE_OK;
	mdbus_resolver_advance(&c->resolver);
	c->gen = c->resolver.gen;
	if (c->gen.gen == 0 || mdbus_gen_session(d->session) != c->gen.session || d->seq < c->gen.first_seq ||
	    d->seq - c->gen.first_seq > MDBUS_POS_MAX - c->gen.base) {
		/* what it was asked for has ended meanwhile */
		mdbus_count(&c->mine->count.messages, d->count);
		mdbus_count(&c->mine->count.late, d->count);
		return MDBUS_DECODE_OK;
	}
	c->limit = mdbus_gen_get(c->ring.hdr, c->gen.gen + 1, &next) ? next.base - 1u : MDBUS_POS_MAX;
	c->next_seq = UINT64_MAX; /* nothing of it is progress */
	err = mdbus_channel_publish(c, p, d, now_ns);
	c->stranded = 0;
	return err;
}
