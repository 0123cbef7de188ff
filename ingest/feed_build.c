/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_build.c - heartbeats and headers from a layout.
 *
 * A heartbeat is found rather than known: for each rule that gives the wanted event, take a header of the stream, make
 * every condition of the rule true, write the number where that rule wants it, and ask the decoder.  What the decoder
 * reads as the wanted event and the wanted number is a heartbeat, whatever the feed; if no rule gives one, the layout has
 * none of use (a feed whose heartbeats take a number, or count packets).
 */
#include "feed_build.h"
#include <string.h>

void mdbus_feed_put(const struct mdbus_layout *l, const struct mdbus_layout_field *f, uint8_t *base, uint64_t value)
{
	uint8_t *p = base + f->offset;

	for (unsigned i = 0; i < f->width; i++) {
		unsigned byte = l->big_endian ? f->width - 1u - i : i;

		p[byte] = (uint8_t)value;
		value >>= 8;
	}
}

uint64_t mdbus_feed_get(const struct mdbus_layout *l, const struct mdbus_layout_field *f, const uint8_t *base)
{
	const uint8_t *p = base + f->offset;
	uint64_t value = 0;

	for (unsigned i = 0; i < f->width; i++)
		value = value << 8 | p[l->big_endian ? i : f->width - 1u - i];
	return value;
}

static uint64_t with_bias(const struct mdbus_layout_field *f, uint64_t length)
{
	return length - (uint64_t)(int64_t)f->bias;
}

void mdbus_feed_finish(const struct mdbus_layout *l, uint8_t *packet, uint32_t len, uint64_t seq, uint32_t count)
{
	if (l->seq.width && !l->seq.in_message)
		mdbus_feed_put(l, &l->seq, packet, seq);
	if (l->count.width)
		mdbus_feed_put(l, &l->count, packet, count);
	if (l->pktlen.width)
		mdbus_feed_put(l, &l->pktlen, packet, with_bias(&l->pktlen, len));
}

static uint32_t field_end(const struct mdbus_layout_field *f)
{
	return (uint32_t)f->offset + f->width;
}

/* Bytes of the shortest first message in which every field of the rule has a place; 0: the rule needs none. */
static uint32_t message_need(const struct mdbus_layout *l, const struct mdbus_layout_rule *r)
{
	uint32_t need = 0;

	for (unsigned i = 0; i < r->ncond; i++)
		if (r->cond[i].field.in_message && field_end(&r->cond[i].field) > need)
			need = field_end(&r->cond[i].field);
	if (r->field.width && r->field.in_message && field_end(&r->field) > need)
		need = field_end(&r->field);
	if (need && field_end(&l->msglen) > need)
		need = field_end(&l->msglen);
	return need;
}

static bool make_true(const struct mdbus_layout *l, const struct mdbus_layout_cond *c, uint8_t *packet, uint8_t *msg)
{
	uint8_t *base = c->field.in_message ? msg : packet;
	uint64_t old = mdbus_feed_get(l, &c->field, base);

	switch (c->op) {
	case MDBUS_OP_EQ:
	case MDBUS_OP_IN:
		mdbus_feed_put(l, &c->field, base, c->value[0]);
		return true;
	case MDBUS_OP_ANY_BIT:
		mdbus_feed_put(l, &c->field, base, old | c->value[0]);
		return true;
	default:
		return old != c->value[0];
	}
}

static uint32_t build(const struct mdbus_layout *l, const struct mdbus_layout_rule *r, const uint8_t *header,
                      uint64_t seq, uint8_t *out, uint32_t cap)
{
	uint32_t need = message_need(l, r), len = (uint32_t)l->hdr + need;
	uint8_t *msg = out + l->hdr;

	if (len > cap)
		return 0;
	memcpy(out, header, l->hdr);
	memset(msg, 0, need);
	mdbus_feed_finish(l, out, len, seq, need ? 1 : 0);
	if (need && l->msglen.width)
		mdbus_feed_put(l, &l->msglen, msg, with_bias(&l->msglen, need));
	for (unsigned i = 0; i < r->ncond; i++)
		if (!make_true(l, &r->cond[i], out, msg))
			return 0;
	if (r->event_seq == MDBUS_EVENT_SEQ_FIELD)
		mdbus_feed_put(l, &r->field, r->field.in_message ? msg : out, seq);
	return len;
}

static bool same_session(const struct mdbus_layout *l, const uint8_t *a, const uint8_t *b)
{
	uint8_t x[MDBUS_SESSION_MAX], y[MDBUS_SESSION_MAX];
	int n = mdbus_layout_session(l, a, l->hdr, x), m = mdbus_layout_session(l, b, l->hdr, y);

	return n == m && (n <= 0 || memcmp(x, y, (size_t)n) == 0);
}

/* Length of a packet of that rule which says the stream has reached `next`, or 0. */
static uint32_t attempt(const struct mdbus_layout *l, const struct mdbus_layout_rule *r, const uint8_t *header,
                        uint64_t next, uint8_t *out, uint32_t cap)
{
	for (uint64_t back = 0; back < 2; back++) { /* some say the next number, some the last */
		struct mdbus_packet p;
		uint32_t len = build(l, r, header, next - back, out, cap);

		if (len == 0 || mdbus_layout_decode(l, out, len, &p) != MDBUS_DECODE_OK)
			continue;
		if (p.event == r->event && p.no_messages && p.has_next && p.next_seq == next &&
		    same_session(l, out, header))
			return len;
	}
	return 0;
}

static uint32_t find(const struct mdbus_layout *l, uint8_t event, const uint8_t *header, uint64_t next, uint8_t *out,
                     uint32_t cap)
{
	for (unsigned i = 0; i < l->nrule; i++) {
		uint32_t len = l->rule[i].event == event ? attempt(l, &l->rule[i], header, next, out, cap) : 0;

		if (len)
			return len;
	}
	return 0;
}

uint32_t mdbus_feed_heartbeat(const struct mdbus_layout *l, const uint8_t *header, uint64_t next, uint8_t *out,
                              uint32_t cap)
{
	return find(l, MDBUS_EVENT_HEARTBEAT, header, next, out, cap);
}

uint32_t mdbus_feed_end_of_session(const struct mdbus_layout *l, const uint8_t *header, uint64_t next, uint8_t *out,
                                   uint32_t cap)
{
	return find(l, MDBUS_EVENT_EOS, header, next, out, cap);
}

static bool rules_look_inside(const struct mdbus_layout *l)
{
	for (unsigned i = 0; i < l->nrule; i++)
		for (unsigned k = 0; k < l->rule[i].ncond; k++)
			if (l->rule[i].cond[k].field.in_message)
				return true;
	return false;
}

bool mdbus_feed_starts_event(const struct mdbus_layout *l, const uint8_t *header, const uint8_t *msg, uint32_t len)
{
	uint8_t packet[MDBUS_FEED_PAYLOAD];
	struct mdbus_packet p;

	if (!rules_look_inside(l) || len > sizeof(packet) - l->hdr || l->hdr > sizeof(packet))
		return false;
	memcpy(packet, header, l->hdr);
	memcpy(packet + l->hdr, msg, len);
	mdbus_feed_finish(l, packet, l->hdr + len, mdbus_feed_get(l, &l->seq, l->seq.in_message ? msg : header), 1);
	return mdbus_layout_decode(l, packet, l->hdr + len, &p) != MDBUS_DECODE_OK || p.event != MDBUS_EVENT_NONE;
}
