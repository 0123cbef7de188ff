/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_repack.c - gathering messages into new packets.
 *
 * A rule that looks into a packet's first message (a reset message, say) fires only when that message comes first.  To
 * keep the meaning, a message that would make an event of a packet it starts, but did not start one in the source, joins
 * the packet being gathered even if that has its number already.
 */
#include "feed_repack.h"
#include "feed_build.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool mdbus_feed_repack_can(const struct mdbus_layout *l)
{
	return l->unit == MDBUS_UNIT_MESSAGE && l->msglen.width != 0;
}

int mdbus_feed_repack_open(struct mdbus_feed_repack *r, const struct mdbus_layout *l, uint32_t want, uint32_t cap)
{
	memset(r, 0, sizeof(*r));
	r->layout = l;
	r->want = want;
	r->cap = cap;
	r->run = calloc(MDBUS_FEED_REPACK_RUNS, sizeof(*r->run));
	r->data = malloc(cap);
	if (r->run && r->data)
		return 0;
	mdbus_feed_repack_close(r);
	return -ENOMEM;
}

void mdbus_feed_repack_close(struct mdbus_feed_repack *r)
{
	free(r->run);
	free(r->data);
	r->run = NULL;
	r->data = NULL;
}

/* Feeds that align do so at the packet's end. */
static uint32_t aligned(const struct mdbus_layout *l, uint32_t len)
{
	uint32_t a = l->align > 1 ? l->align : 1;

	return (len + a - 1) / a * a;
}

/* The most messages the count field can say, leaving its highest value to feeds that give it a meaning. */
static uint32_t count_limit(const struct mdbus_layout *l)
{
	return l->count.width == 1 ? 254 : l->count.width ? 65534 : UINT32_MAX;
}

bool mdbus_feed_repack_full(const struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint32_t i)
{
	const struct mdbus_layout *l = r->layout;
	const struct mdbus_message *m = &p->msg[i];

	return r->count && (p->session != r->session || m->seq != r->next || r->nrun == MDBUS_FEED_REPACK_RUNS ||
	                    r->count >= count_limit(l) || aligned(l, r->len + m->len) > r->cap);
}

bool mdbus_feed_repack_done(const struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint32_t i)
{
	const struct mdbus_message *m = &p->msg[i + 1];

	if (r->count < r->want)
		return false;
	return i + 1 == p->nmsg || !mdbus_feed_starts_event(r->layout, p->data, p->data + m->off, m->len);
}

void mdbus_feed_repack_add(struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint32_t i,
                           uint64_t record, uint64_t due_ns)
{
	const struct mdbus_message *m = &p->msg[i];
	struct mdbus_feed_run *run = r->run + r->nrun;

	if (r->count == 0) {
		memcpy(r->data, p->data, r->layout->hdr);
		r->seq = m->seq;
		r->session = p->session;
		r->len = r->layout->hdr;
		r->since_ns = due_ns;
	}
	memcpy(r->data + r->len, p->data + m->off, m->len);
	r->len += m->len;
	r->count++;
	r->next = m->seq + 1;
	r->flags |= p->flags;
	if (r->nrun > 0 && run[-1].first + run[-1].n == record) {
		run[-1].n++;
	} else {
		*run = (struct mdbus_feed_run){ record, 1 };
		r->nrun++;
	}
}

static void number(struct mdbus_feed_repack *r, uint8_t *data, bool takes)
{
	const struct mdbus_layout *l = r->layout;

	if (l->pktseq.width == 0 || l->pktseq.in_message)
		return;
	if (!r->numbered)
		r->pktseq = mdbus_feed_get(l, &l->pktseq, data);
	r->numbered = true;
	mdbus_feed_put(l, &l->pktseq, data, r->pktseq);
	r->pktseq += takes;
}

void mdbus_feed_repack_finish(struct mdbus_feed_repack *r)
{
	uint32_t padded = aligned(r->layout, r->len);

	if (padded <= r->cap) {
		memset(r->data + r->len, 0, padded - r->len);
		r->len = padded;
	}
	number(r, r->data, true);
	mdbus_feed_finish(r->layout, r->data, r->len, r->seq, r->count);
}

void mdbus_feed_repack_reset(struct mdbus_feed_repack *r)
{
	r->count = 0;
	r->len = 0;
	r->nrun = 0;
	r->flags = 0;
}

void mdbus_feed_repack_pass(struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint8_t *data)
{
	if (p->len >= r->layout->hdr)
		number(r, data, p->nmsg != 0);
}
