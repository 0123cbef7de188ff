/* SPDX-License-Identifier: Apache-2.0
 *
 * Packets of every built-in feed, made from the exchanges' specifications, and what the decoder must say of them.
 * Each is also cut short at every length, padded, and has each of its bytes forged; the payload ends where memory
 * ends.
 *
 * mutants: message_unbounded last_as_next count_believed
 */
#include "layout_bed.h"

/* ---- feeds that number messages ---- */

static struct packet mold(const char *session, uint64_t seq, unsigned count, unsigned real)
{
	struct packet p = { .big = true };

	memcpy(p.b, session, 10);
	p.n = 10;
	put(&p, 8, seq);
	put(&p, 2, count);
	for (unsigned i = 0; i < real; i++) {
		put(&p, 2, 3 * i); /* the first message is empty */
		fill(&p, 3 * i, (uint8_t)i);
	}
	return p;
}

static uint64_t session_of(const struct packet *p)
{
	struct mdbus_packet d;

	CHECK(mdbus_layout_decode(mdbus_layout_builtin("moldudp64"), p->b, p->n, &d) == MDBUS_DECODE_OK);
	return d.session;
}

static void moldudp64(void)
{
	struct packet p = mold("SESSION--1", UINT64_C(0x1122334455667788), 3, 3), q;

	EXPECT("moldudp64", &p, .seq = UINT64_C(0x1122334455667788), .next = UINT64_C(0x112233445566778b), .count = 3,
	       .frames = 3, .first = 20, .first_len = 2);
	q = mold("SESSION--2", 1, 3, 3);
	CHECK(session_of(&p) != session_of(&q));
	q = mold("SESSION--1", 99, 1, 1);
	CHECK(session_of(&p) == session_of(&q));
	p = mold("SESSION--1", 7, 0, 0);
	EXPECT("moldudp64", &p, .seq = 7, .next = 7, .event = MDBUS_EVENT_HEARTBEAT, .event_seq = MDBUS_EVENT_SEQ_NEXT);
	p = mold("SESSION--1", 9, 65535, 0);
	EXPECT("moldudp64", &p, .seq = 9, .next = 9, .event = MDBUS_EVENT_EOS, .event_seq = MDBUS_EVENT_SEQ_NEXT);
	p = mold("SESSION--1", 9, 4, 3);
	CHECK_U64(refusal("moldudp64", &p), MDBUS_DECODE_BAD_COUNT);
	p = mold("SESSION--1", 9, 30000, 3); /* no room for so many: the number must not move by it */
	CHECK_U64(mdbus_layout_decode(mdbus_layout_builtin("moldudp64"), p.b, p.n, &(struct mdbus_packet){ 0 }),
	          MDBUS_DECODE_BAD_COUNT);
	p = mold("SESSION--1", 9, 3, 3);
	p.n--;
	CHECK_U64(refusal("moldudp64", &p), MDBUS_DECODE_BAD_LENGTH);
	p.n = 19;
	CHECK_U64(refusal("moldudp64", &p), MDBUS_DECODE_BAD_HEADER);
	p = mold("SESSION--1", 9, 2, 3); /* more than counted is left alone */
	EXPECT("moldudp64", &p, .seq = 9, .next = 11, .count = 2, .frames = 2, .first = 20, .first_len = 2);
}

static struct packet memoir(unsigned type, unsigned count)
{
	struct packet p = { .big = true };

	put(&p, 1, type);
	put(&p, 1, 20);
	put(&p, 8, 0x5553453164e486c8);
	put(&p, 8, 5000);
	put(&p, 2, count);
	for (unsigned i = 0; i < count; i++) {
		put(&p, 2, 24);
		fill(&p, 24, 0x33);
	}
	return p;
}

static void memoir_udp(void)
{
	struct packet p = memoir(2, 5);

	EXPECT("memoir_udp", &p, .seq = 5000, .next = 5005, .count = 5, .frames = 5, .first = 20, .first_len = 26);
	p = memoir(0, 0);
	EXPECT("memoir_udp", &p, .seq = 5000, .next = 5001, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_LAST);
	p = memoir(1, 3); /* nomsg: whatever the count says */
	EXPECT("memoir_udp", &p, .seq = 5000, .next = 5001, .event = MDBUS_EVENT_EOS,
	       .event_seq = MDBUS_EVENT_SEQ_LAST);
}

static struct packet iex(unsigned bytes, unsigned count, unsigned stated)
{
	struct packet p = { 0 };

	put(&p, 1, 1);
	put(&p, 1, 0);
	put(&p, 2, 0x8004);
	put(&p, 4, 1);
	put(&p, 4, 0x43810000);
	put(&p, 2, stated);
	put(&p, 2, count);
	put(&p, 8, 1234);
	put(&p, 8, 86500);
	put(&p, 8, UINT64_C(1493132598746881000));
	for (unsigned i = 0; i < count; i++) {
		put(&p, 2, bytes);
		fill(&p, bytes, 0x51);
	}
	return p;
}

static void iex_tp(void)
{
	struct packet p = iex(30, 2, 64);
	uint8_t key[MDBUS_SESSION_MAX];

	EXPECT("iex_tp", &p, .seq = 86500, .next = 86502, .count = 2, .frames = 2, .first = 40, .first_len = 32);
	CHECK_U64(mdbus_layout_key(mdbus_layout_builtin("iex_tp"), p.b, p.n, key), 6);
	CHECK(!memcmp(key, "\x04\x80\x01\x00\x00\x00", 6));
	fill(&p, 6, 0); /* bytes behind the packet's own length are not of it */
	EXPECT("iex_tp", &p, .seq = 86500, .next = 86502, .count = 2, .frames = 2, .first = 40, .first_len = 32);
	p = iex(0, 0, 0);
	EXPECT("iex_tp", &p, .seq = 86500, .next = 86500, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_NEXT);
	p = iex(30, 2, 65);
	CHECK_U64(refusal("iex_tp", &p), MDBUS_DECODE_BAD_LENGTH);
	p = iex(30, 2, 40); /* the second message reaches beyond the packet's own length */
	CHECK_U64(refusal("iex_tp", &p), MDBUS_DECODE_BAD_LENGTH);
	p = iex(30, 2, 32);
	CHECK_U64(refusal("iex_tp", &p), MDBUS_DECODE_BAD_COUNT);
}

static struct packet pitch(unsigned count, uint32_t seq)
{
	struct packet p = { 0 };

	put(&p, 2, 8 + 14 * count);
	put(&p, 1, count);
	put(&p, 1, 11);
	put(&p, 4, seq);
	for (unsigned i = 0; i < count; i++) {
		put(&p, 1, 14);
		fill(&p, 13, 0x20);
	}
	return p;
}

static void cboe_pitch(void)
{
	struct packet p = pitch(2, 1000);

	EXPECT("cboe_pitch", &p, .seq = 1000, .next = 1002, .count = 2, .frames = 2, .first = 8, .first_len = 14);
	p = pitch(3, UINT32_MAX - 1); /* 0xfffffffe, 0xffffffff, 1 */
	EXPECT("cboe_pitch", &p, .seq = UINT32_MAX - 1, .next = 2, .count = 3, .frames = 3, .first = 8,
	       .first_len = 14);
	p = pitch(1, UINT32_MAX);
	EXPECT("cboe_pitch", &p, .seq = UINT32_MAX, .next = 1, .count = 1, .frames = 1, .first = 8, .first_len = 14);
	p = pitch(2, 0);
	EXPECT("cboe_pitch", &p, .no_seq = true, .count = 2, .frames = 2, .event = MDBUS_EVENT_UNSEQ, .first = 8,
	       .first_len = 14);
	p = pitch(0, 0);
	EXPECT("cboe_pitch", &p, .no_seq = true, .event = MDBUS_EVENT_HEARTBEAT, .event_seq = MDBUS_EVENT_SEQ_ZERO);
	p = pitch(0, 77);
	EXPECT("cboe_pitch", &p, .seq = 77, .next = 77, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_NEXT);
	p = pitch(2, 1000);
	p.b[8 + 14] = 0; /* a message of no bytes */
	CHECK_U64(refusal("cboe_pitch", &p), MDBUS_DECODE_BAD_LENGTH);
}

static void pitch_wrap_in_packet(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("cboe_pitch");
	struct packet p = pitch(3, UINT32_MAX - 1);
	struct mdbus_packet d;
	uint32_t walked;

	CHECK(!mdbus_layout_decode(l, p.b, p.n, &d) && !mdbus_layout_messages(l, p.b, p.n, &d, msg, MESSAGES, &walked));
	CHECK_U64(msg[0].seq, UINT32_MAX - 1);
	CHECK_U64(msg[1].seq, UINT32_MAX);
	CHECK_U64(msg[2].seq, 1);
}

static struct packet nyse(unsigned flag, unsigned count)
{
	struct packet p = { 0 };

	put(&p, 2, 16 + 20 * count);
	put(&p, 1, flag);
	put(&p, 1, count);
	put(&p, 4, 4000);
	put(&p, 8, 1639201847);
	for (unsigned i = 0; i < count; i++) {
		put(&p, 2, 20);
		fill(&p, 18, 0x64);
	}
	return p;
}

static void nyse_xdp(void)
{
	struct packet p = nyse(11, 4);

	EXPECT("nyse_xdp", &p, .seq = 4000, .next = 4004, .count = 4, .frames = 4, .first = 16, .first_len = 20);
	for (unsigned flag = 10; flag < 24; flag++) {
		bool retrans = flag == 13 || flag == 15 || (flag >= 17 && flag <= 21);

		p = nyse(flag, 1);
		if (flag != 12)
			EXPECT("nyse_xdp", &p, .seq = 4000, .next = 4001, .count = 1, .frames = 1, .retrans = retrans,
			       .first = 16, .first_len = 20);
	}
	p = nyse(1, 0);
	EXPECT("nyse_xdp", &p, .seq = 4000, .next = 4000, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_NEXT);
	p = nyse(12, 1);
	EXPECT("nyse_xdp", &p, .seq = 4000, .next = 4001, .count = 1, .frames = 1, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 16, .first_len = 20);
}

static struct packet cta(const char *kind, unsigned flag, unsigned bytes, uint32_t seq)
{
	struct packet p = { .big = true };

	put(&p, 1, 2);
	put(&p, 2, 20 + bytes + bytes % 2);
	put(&p, 1, 'Q');
	put(&p, 1, flag);
	put(&p, 4, seq);
	put(&p, 1, 1);
	put(&p, 8, 1775539800);
	put(&p, 2, 0x8b30);
	put(&p, 2, bytes);
	fill(&p, bytes - 2, 0);
	memcpy(p.b + 22, kind, 2);
	fill(&p, bytes % 2, 0);
	return p;
}

static void siac_cta(void)
{
	struct packet p = cta("QL", 'O', 87, 203);

	EXPECT("siac_cta", &p, .seq = 203, .next = 204, .count = 1, .frames = 1, .first = 20, .first_len = 87);
	p = cta("QL", 'V', 88, 203);
	EXPECT("siac_cta", &p, .seq = 203, .next = 204, .count = 1, .frames = 1, .retrans = true, .first = 20,
	       .first_len = 88);
	p = cta("CT", 'O', 26, 300);
	EXPECT("siac_cta", &p, .seq = 300, .next = 301, .frames = 1, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_LAST, .first = 20, .first_len = 26);
	p = cta("CL", 'O', 26, 300);
	EXPECT("siac_cta", &p, .seq = 300, .next = 301, .count = 1, .frames = 1, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 20, .first_len = 26);
	p = cta("CA", 'O', 26, 0);
	EXPECT("siac_cta", &p, .next = 1, .no_seq = true, .frames = 1, .event = MDBUS_EVENT_SOS,
	       .event_seq = MDBUS_EVENT_SEQ_ZERO, .first = 20, .first_len = 26);
	p = cta("CZ", 'O', 26, 300);
	EXPECT("siac_cta", &p, .seq = 300, .next = 301, .count = 1, .frames = 1, .event = MDBUS_EVENT_EOS,
	       .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 20, .first_len = 26);
	p = cta("CT", 'V', 26, 300); /* a retransmitted line integrity is both */
	EXPECT("siac_cta", &p, .seq = 300, .next = 301, .frames = 1, .retrans = true, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_LAST, .first = 20, .first_len = 26);
	p = cta("CT", 'O', 26, 300);
	p.b[9] = 0; /* no message: nothing that could be of type CT */
	EXPECT("siac_cta", &p, .seq = 300, .next = 300);
	p = cta("CT", 'O', 26, 300);
	p.b[21] = 3; /* a message that ends before its type does */
	EXPECT("siac_cta", &p, .seq = 300, .next = 301, .count = 1, .frames = 1, .first = 20, .first_len = 3);
}

static struct packet otc(unsigned flags, unsigned count, const uint32_t *seqs, unsigned real)
{
	struct packet p = { .big = true };

	put(&p, 2, 12 + 20 * real);
	put(&p, 4, 5840);
	put(&p, 1, flags);
	put(&p, 1, count);
	put(&p, 4, 99);
	for (unsigned i = 0; i < real; i++) {
		put(&p, 2, 20);
		put(&p, 1, 'Q');
		put(&p, 4, seqs[i]);
		fill(&p, 13, 0);
	}
	return p;
}

static void otc_link(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("otc_link");
	static const uint32_t row[] = { 500, 501, 502 }, holes[] = { 500, 507, 511 };
	struct packet p = otc(0, 3, row, 3);
	struct mdbus_packet d;
	uint32_t walked;

	EXPECT("otc_link", &p, .seq = 500, .next = 503, .count = 3, .frames = 3, .first = 12, .first_len = 20);
	p = otc(64, 3, holes, 3); /* a retransmission of what was asked for: each message has its own number */
	EXPECT("otc_link", &p, .seq = 500, .next = 512, .count = 3, .frames = 3, .retrans = true, .first = 12,
	       .first_len = 20);
	CHECK(!mdbus_layout_decode(l, p.b, p.n, &d) && !mdbus_layout_messages(l, p.b, p.n, &d, msg, MESSAGES, &walked));
	CHECK_U64(msg[1].seq, 507);
	CHECK_U64(msg[2].seq, 511);
	CHECK_U64(d.pktseq, 5840);
	p = otc(1, 0, NULL, 0);
	EXPECT("otc_link", &p, .seq = 5840, .no_seq = true, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_PKTNEXT);
	p = otc(2 | 64, 0, NULL, 0); /* the first rule that gives an event ends the search */
	EXPECT("otc_link", &p, .seq = 5840, .no_seq = true, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_PKTNEXT);
	p = otc(0, 0, NULL, 0);
	EXPECT("otc_link", &p, .seq = 5840, .no_seq = true);
	p = otc(0, 2, row, 3);
	CHECK_U64(refusal("otc_link", &p), MDBUS_DECODE_BAD_COUNT);
	p = otc(0, 4, row, 3);
	CHECK_U64(refusal("otc_link", &p), MDBUS_DECODE_BAD_COUNT);
	p = otc(0, 1, row, 1);
	p.b[1] = 12 + 6, p.b[13] = 6; /* a message that ends before its number does */
	CHECK_U64(refusal("otc_link", &p), MDBUS_DECODE_BAD_LENGTH);
}

static void ice_impact(void)
{
	struct packet p = { .big = true };

	put(&p, 2, 0x1f23);
	put(&p, 4, 20018);
	put(&p, 2, 2);
	put(&p, 8, 1470355200);
	for (unsigned i = 0; i < 2; i++) {
		put(&p, 1, 'E');
		put(&p, 2, 42);
		fill(&p, 42, 0);
	}
	EXPECT("ice_impact", &p, .seq = 20018, .next = 20020, .count = 2, .frames = 2, .first = 16, .first_len = 45);
	p.b[7] = 0;
	p.n = 16;
	EXPECT("ice_impact", &p, .seq = 20018, .next = 20018, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_NEXT);
}

/* ---- feeds that number packets ---- */

static struct packet cme(unsigned template, unsigned nmsg, unsigned less)
{
	struct packet p = { 0 };

	put(&p, 4, 19321375);
	put(&p, 8, 5017848978163000);
	for (unsigned i = 0; i < nmsg; i++) {
		put(&p, 2, 40 - less);
		put(&p, 2, 11);
		put(&p, 2, template);
		fill(&p, 34, 0);
	}
	return p;
}

static void cme_mdp3(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("cme_mdp3");
	struct packet p = cme(32, 3, 0);
	struct mdbus_packet d;
	uint32_t walked;

	EXPECT("cme_mdp3", &p, .seq = 19321375, .next = 19321376, .count = 1, .frames = 3, .first = 12,
	       .first_len = 40);
	CHECK(!mdbus_layout_decode(l, p.b, p.n, &d) && !mdbus_layout_messages(l, p.b, p.n, &d, msg, MESSAGES, &walked));
	CHECK_U64(msg[0].off, 0); /* the packet is the message */
	CHECK_U64(msg[0].len, p.n);
	p = cme(12, 1, 0);
	EXPECT("cme_mdp3", &p, .seq = 19321375, .next = 19321376, .count = 1, .frames = 1,
	       .event = MDBUS_EVENT_HEARTBEAT, .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 12, .first_len = 40);
	p = cme(4, 1, 0);
	EXPECT("cme_mdp3", &p, .seq = 19321375, .next = 19321376, .count = 1, .frames = 1, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 12, .first_len = 40);
	p = cme(32, 2, 2);
	EXPECT("cme_mdp3_xilinx", &p, .seq = 19321375, .next = 19321376, .count = 1, .frames = 2, .first = 12,
	       .first_len = 40);
	p = cme(32, 0, 0); /* a packet without a message still has its number */
	EXPECT("cme_mdp3", &p, .seq = 19321375, .next = 19321376, .count = 1);
	p = cme(32, 1, 0);
	p.b[12] = 0; /* the frames are damaged, the packet is delivered whole: its reader decides */
	CHECK_U64(refusal("cme_mdp3", &p), MDBUS_DECODE_OK);
	CHECK(!mdbus_layout_decode(l, p.b, p.n, &d));
	CHECK_U64(mdbus_layout_frames(l, p.b, p.n, &d, msg, MESSAGES, &walked), MDBUS_DECODE_BAD_LENGTH);
}

static struct packet eobi(unsigned template, unsigned reset)
{
	struct packet p = { 0 };

	put(&p, 2, 32);
	put(&p, 2, 13005);
	fill(&p, 4, 0);
	put(&p, 4, 1196002);
	put(&p, 4, 500);
	put(&p, 1, 6);
	put(&p, 1, 1);
	put(&p, 1, reset);
	fill(&p, 5, 0);
	put(&p, 8, 1464004859);
	put(&p, 2, 16);
	put(&p, 2, template);
	fill(&p, 12, 0);
	return p;
}

static void eurex_eobi(void)
{
	struct packet p = eobi(13100, 0);

	EXPECT("eurex_eobi", &p, .seq = 1196002, .next = 1196003, .count = 1, .frames = 1, .first = 32,
	       .first_len = 16);
	p = eobi(13001, 0);
	EXPECT("eurex_eobi", &p, .seq = 1196002, .next = 1196003, .count = 1, .frames = 1,
	       .event = MDBUS_EVENT_HEARTBEAT, .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 32, .first_len = 16);
	p = eobi(13001, 1);
	EXPECT("eurex_eobi", &p, .seq = 1196002, .next = 1196003, .count = 1, .frames = 1, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_COUNTS, .first = 32, .first_len = 16);
}

static struct packet b3(unsigned template, uint32_t seq)
{
	struct packet p = { 0 };

	put(&p, 1, 50);
	put(&p, 1, 0);
	put(&p, 2, 0x0535);
	put(&p, 4, seq);
	put(&p, 8, 1680639925);
	put(&p, 2, 16);
	put(&p, 2, 0xeb50);
	put(&p, 2, 4);
	put(&p, 2, template);
	put(&p, 2, 2);
	put(&p, 2, 9);
	put(&p, 4, 4610);
	return p;
}

static void b3_umdf(void)
{
	struct packet p = b3(30, 4609);

	EXPECT("b3_umdf", &p, .seq = 4609, .next = 4610, .count = 1, .frames = 1, .first = 16, .first_len = 16);
	p = b3(2, 0);
	EXPECT("b3_umdf", &p, .no_seq = true, .next = 4610, .frames = 1, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_FIELD, .first = 16, .first_len = 16);
	p.b[16] = 12; /* a message that ends before the field: a heartbeat that says nothing */
	p.n -= 4;
	EXPECT("b3_umdf", &p, .no_seq = true, .frames = 1, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_FIELD, .first = 16, .first_len = 12);
	p = b3(1, 0);
	EXPECT("b3_umdf", &p, .no_seq = true, .next = 1, .frames = 1, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_ZERO, .first = 16, .first_len = 16);
	p = b3(1, 5); /* both conditions of a rule must hold */
	EXPECT("b3_umdf", &p, .seq = 5, .next = 6, .count = 1, .frames = 1, .first = 16, .first_len = 16);
}

static void optiq(void)
{
	struct packet p = { 0 };
	uint8_t key[MDBUS_SESSION_MAX];

	put(&p, 1, 1);
	put(&p, 1, 36);
	put(&p, 2, 3);
	put(&p, 4, 0xdddd0001);
	put(&p, 4, 4711);
	put(&p, 8, 1234567890);
	fill(&p, 16, 0x77);
	EXPECT("optiq", &p, .seq = 4711, .next = 4712, .count = 1, .frames = 1, .first_len = 36);
	EXPECT("optiq_key", &p, .no_seq = true, .count = 1, .frames = 1, .first_len = 36);
	CHECK_U64(mdbus_layout_key(mdbus_layout_builtin("optiq_key"), p.b, p.n, key), 4);
	CHECK(!memcmp(key, "\x01\x00\xdd\xdd", 4));
	p.n = 35;
	CHECK_U64(refusal("optiq", &p), MDBUS_DECODE_BAD_HEADER);
}

/* More messages than the caller has room for: the walk stops there and says so by walked < count. */
static void short_of_room(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	struct packet p = mold("SESSION--1", 1, 5, 5);
	struct mdbus_packet d;
	uint32_t walked;

	for (uint32_t max = 0; max <= 6; max++) {
		CHECK(!mdbus_layout_decode(l, p.b, p.n, &d));
		CHECK_U64(mdbus_layout_messages(l, p.b, p.n, &d, msg, max, &walked), MDBUS_DECODE_OK);
		CHECK_U64(walked, max < 5 ? max : 5);
	}
	CHECK_U64(mdbus_layout_messages(l, p.b, p.n - 1, &d, msg, MESSAGES, &walked), MDBUS_DECODE_BAD_LENGTH);
}

int main(void)
{
	moldudp64();
	memoir_udp();
	iex_tp();
	cboe_pitch();
	pitch_wrap_in_packet();
	nyse_xdp();
	siac_cta();
	otc_link();
	ice_impact();
	cme_mdp3();
	eurex_eobi();
	b3_umdf();
	optiq();
	short_of_room();
	return 0;
}
