/* SPDX-License-Identifier: Apache-2.0
 *
 * layout_bed.h - packets to be decoded: how tests write them, and what must hold of any packet whatever it says.
 */
#ifndef MDBUS_TESTS_LAYOUT_BED_H
#define MDBUS_TESTS_LAYOUT_BED_H

#include <mdbus/layout.h>
#include "guard.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#define MESSAGES 4096u

struct packet {
	uint8_t b[2048];
	uint32_t n;
	bool big;
};

struct want {
	uint64_t seq, next; /* next 0: none */
	uint32_t count, frames;
	enum mdbus_event event;
	enum mdbus_event_seq event_seq;
	bool retrans, no_seq; /* no_seq: its number is not the channel's */
	uint32_t first, first_len; /* the first physical message */
};

static struct mdbus_message msg[MESSAGES];

static inline void put(struct packet *p, unsigned width, uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		p->b[p->n + (p->big ? width - 1 - i : i)] = (uint8_t)(value >> 8 * i);
	p->n += width;
}

static inline void fill(struct packet *p, unsigned n, uint8_t with)
{
	memset(p->b + p->n, with, n);
	p->n += n;
}

/* ---- what must hold of any packet whatever ---- */

static inline void check_walk(const struct mdbus_packet *p, uint32_t walked, uint32_t len)
{
	uint32_t end = 0;

	CHECK(walked <= MESSAGES);
	for (uint32_t i = 0; i < walked; i++) {
		CHECK(msg[i].len > 0 || msg[i].off == 0);
		CHECK(msg[i].off >= end && msg[i].off <= len && msg[i].len <= len - msg[i].off);
		end = msg[i].off + msg[i].len;
	}
	CHECK(end <= p->msgs_end && p->msgs_end <= len && p->msgs_off <= p->msgs_end);
}

static inline void check_any(const struct mdbus_layout *l, const void *bytes, uint32_t len)
{
	const uint8_t *payload = guard_put(bytes, len);
	uint8_t id[MDBUS_SESSION_MAX];
	struct mdbus_packet p;
	uint32_t walked;

	CHECK(mdbus_layout_key(l, payload, len, id) == (len < l->hdr ? -EBADMSG : l->key_bytes));
	CHECK(mdbus_layout_session(l, payload, len, id) == (len < l->hdr ? -EBADMSG : l->session_bytes));
	if (mdbus_layout_decode(l, payload, len, &p))
		return;
	CHECK((p.session != 0) == (l->nsession != 0));
	CHECK(p.no_messages == (p.count == 0));
	CHECK(p.event != MDBUS_EVENT_NONE || p.event_seq == MDBUS_EVENT_SEQ_NONE);
	mdbus_layout_frames(l, payload, len, &p, msg, MESSAGES, &walked);
	check_walk(&p, walked, len);
	if (mdbus_layout_messages(l, payload, len, &p, msg, MESSAGES, &walked) == MDBUS_DECODE_OK)
		CHECK_U64(walked, p.count);
	check_walk(&p, walked, len);
	mdbus_layout_messages(l, payload, len, &p, msg, 1, &walked);
	CHECK(walked <= 1);
}

static inline void check_variants(const struct mdbus_layout *l, const struct packet *p)
{
	static const uint8_t forged[] = { 0, 1, 2, 0x7f, 0x80, 0xfe, 0xff };
	struct packet f = *p;

	for (uint32_t n = 0; n <= p->n; n++)
		check_any(l, p->b, n);
	for (uint32_t i = 0; i < p->n; i++) {
		for (size_t k = 0; k < sizeof(forged); k++) {
			f.b[i] = forged[k];
			check_any(l, f.b, f.n);
			check_any(l, f.b, f.n / 2);
		}
		f.b[i] = p->b[i];
	}
}

/* ---- one packet and what it says ---- */

static inline void expect_at(int line, const char *name, const struct packet *p, struct want w)
{
	const struct mdbus_layout *l = mdbus_layout_builtin(name);
	const uint8_t *payload = guard_put(p->b, p->n);
	struct mdbus_packet d;
	uint32_t walked;

	CHECK(l != NULL);
	printf("line %d: %s\n", line, name);
	CHECK_U64(mdbus_layout_decode(l, payload, p->n, &d), MDBUS_DECODE_OK);
	CHECK_U64(d.seq, w.seq);
	CHECK_U64(d.has_next, w.next != 0);
	if (w.next)
		CHECK_U64(d.next_seq, w.next);
	CHECK_U64(d.count, w.count);
	CHECK_U64(d.event, w.event);
	CHECK_U64(d.event_seq, w.event_seq);
	CHECK_U64(d.retrans, w.retrans);
	CHECK_U64(d.has_seq, !w.no_seq);
	CHECK_U64(mdbus_layout_frames(l, payload, p->n, &d, msg, MESSAGES, &walked), MDBUS_DECODE_OK);
	CHECK_U64(walked, w.frames);
	if (w.frames) {
		CHECK_U64(msg[0].off, w.first);
		CHECK_U64(msg[0].len, w.first_len);
	}
	CHECK_U64(mdbus_layout_messages(l, payload, p->n, &d, msg, MESSAGES, &walked), MDBUS_DECODE_OK);
	CHECK_U64(walked, w.count);
	if (l->unit != MDBUS_UNIT_MESSAGE && w.count)
		CHECK(msg[0].off == 0 && msg[0].len == d.msgs_end);
	for (uint32_t i = 0; i < walked && d.has_seq && l->wrap != MDBUS_WRAP_MAX_TO_1 && !d.retrans; i++)
		CHECK_U64(msg[i].seq, w.seq + i);
	check_variants(l, p);
}

#define EXPECT(name, p, ...) expect_at(__LINE__, name, p, (struct want){ __VA_ARGS__ })

/* The reason why a packet is refused, by its header or by its messages. */
static inline enum mdbus_decode_error refusal(const char *name, const struct packet *p)
{
	const struct mdbus_layout *l = mdbus_layout_builtin(name);
	const uint8_t *payload = guard_put(p->b, p->n);
	struct mdbus_packet d;
	uint32_t walked;
	enum mdbus_decode_error error = mdbus_layout_decode(l, payload, p->n, &d);

	check_variants(l, p);
	payload = guard_put(p->b, p->n);
	return error ? error : mdbus_layout_messages(l, payload, p->n, &d, msg, MESSAGES, &walked);
}

#endif
