/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_layout.c - any packet, by any built-in layout or a damaged one that passes the check.
 *
 * Input: layout u8; n u8 modulo 8; n times {offset u16, value u8}, bytes to change in the layout; then the payload.
 * Whatever the packet says, every message lies inside it, in order, and the numbers agree with each other.
 */
#include <stdlib.h>
#include "../bus/layout_check.h"
#include "fuzz.h"

#define MESSAGES 4096u

static struct mdbus_message msg[MESSAGES];

static struct mdbus_layout choose(struct fuzz_in *in)
{
	const struct mdbus_layout *builtin = mdbus_layout_builtin_at(fuzz_u8(in) % FUZZ_NBUILTIN);
	struct mdbus_layout l;
	uint32_t changes = fuzz_u8(in) % 8u;

	FUZZ_CHECK(builtin != NULL);
	l = *builtin;
	for (uint32_t i = 0; i < changes; i++) {
		uint32_t at = fuzz_u16(in) % sizeof(l);

		((uint8_t *)&l)[at] = fuzz_u8(in);
	}
	if (changes)
		mdbus_layout_derive(&l);
	return l;
}

static void check_walk(const struct mdbus_layout *l, const struct mdbus_packet *p, uint32_t n, uint32_t max, uint32_t len)
{
	uint32_t end = 0;

	FUZZ_CHECK(n <= max);
	FUZZ_CHECK(p->msgs_off <= p->msgs_end && p->msgs_end <= len);
	for (uint32_t i = 0; i < n; i++) {
		FUZZ_CHECK(msg[i].off >= end && msg[i].off <= p->msgs_end && msg[i].len <= p->msgs_end - msg[i].off);
		FUZZ_CHECK(l->msglen.width == 0 || msg[i].off == 0 || msg[i].len >= l->msg_min);
		end = msg[i].off + msg[i].len;
	}
}

/* Numbers of the messages to be published, against those of the packet. */
static void check_numbers(const struct mdbus_layout *l, const struct mdbus_packet *p, uint32_t n, bool whole)
{
	uint64_t max = l->seq.width && l->seq.width < 8 ? (UINT64_C(1) << 8 * l->seq.width) - 1 : UINT64_MAX, seq = p->seq;

	for (uint32_t i = 0; p->has_seq && i < n; i++) {
		FUZZ_CHECK(msg[i].seq == seq || (l->seq.in_message && i > 0));
		seq = msg[i].seq == max && l->wrap == MDBUS_WRAP_MAX_TO_1 ? 1 : msg[i].seq + 1;
	}
	if (whole && n > 0 && p->has_seq && p->has_next)
		FUZZ_CHECK(p->next_seq == seq);
}

static void check_packet(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len, const struct mdbus_packet *p)
{
	enum mdbus_decode_error error;
	uint32_t n;

	FUZZ_CHECK((p->session != 0) == (l->nsession != 0));
	FUZZ_CHECK(p->no_messages == (p->count == 0));
	FUZZ_CHECK(p->event <= MDBUS_EVENT_IGNORE && p->event_seq <= MDBUS_EVENT_SEQ_UNKNOWN);
	FUZZ_CHECK(p->event != MDBUS_EVENT_UNSEQ || (!p->has_seq && !p->has_next));
	mdbus_layout_frames(l, payload, len, p, msg, MESSAGES, &n);
	check_walk(l, p, n, MESSAGES, len);
	error = mdbus_layout_messages(l, payload, len, p, msg, MESSAGES, &n);
	check_walk(l, p, n, MESSAGES, len);
	check_numbers(l, p, n, error == MDBUS_DECODE_OK && n == p->count);
	if (error == MDBUS_DECODE_OK)
		FUZZ_CHECK(n == p->count || n == MESSAGES);
	if (l->unit != MDBUS_UNIT_MESSAGE && p->count)
		FUZZ_CHECK(n == 1 && msg[0].off == 0 && msg[0].len == p->msgs_end);
	mdbus_layout_messages(l, payload, len, p, msg, 1, &n);
	check_walk(l, p, n, 1, len);
}

/* Packets have one session if and only if their session bytes are equal. */
static void check_session(const struct mdbus_layout *l, uint8_t *payload, uint32_t len, uint64_t session)
{
	uint8_t was[MDBUS_SESSION_MAX], is[MDBUS_SESSION_MAX];
	struct mdbus_packet p;

	mdbus_layout_session(l, payload, len, was);
	for (uint32_t i = 0; i < l->hdr && i < 64; i++) {
		payload[i] ^= 0x5a;
		if (mdbus_layout_decode(l, payload, len, &p) == MDBUS_DECODE_OK) {
			mdbus_layout_session(l, payload, len, is);
			FUZZ_CHECK((p.session == session) == !memcmp(was, is, l->session_bytes));
		}
		payload[i] ^= 0x5a;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	struct mdbus_layout *l = malloc(sizeof(*l));
	uint8_t key[MDBUS_SESSION_MAX];
	struct mdbus_packet p;
	uint8_t *payload;
	uint32_t len;

	*l = choose(&in);
	len = fuzz_left(&in) > 65535 ? 65535 : (uint32_t)fuzz_left(&in);
	payload = malloc(len ? len : 1); /* what is read beyond it is seen */
	memcpy(payload, in.at, len);
	if (mdbus_layout_check(l) == 0 && len > 0) {
		FUZZ_CHECK(mdbus_layout_key(l, payload, len, key) == (len < l->hdr ? -EBADMSG : l->key_bytes));
		FUZZ_CHECK(mdbus_layout_session(l, payload, len, key) == (len < l->hdr ? -EBADMSG : l->session_bytes));
		if (mdbus_layout_decode(l, payload, len, &p) == MDBUS_DECODE_OK) {
			check_packet(l, payload, len, &p);
			if (l->nsession)
				check_session(l, payload, len, p.session);
		}
	}
	free(payload);
	free(l);
	return 0;
}
