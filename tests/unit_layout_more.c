/* SPDX-License-Identifier: Apache-2.0
 *
 * Feeds that no capture file here shows, from packets made by their specifications; and a feed that nobody has ever
 * heard of, added by text alone and arbitrated.
 *
 * mutants: last_as_next
 */
#include "bus_bed.h"
#include "layout_bed.h"

/* ---- Euronext Optiq MDG ---- */

static struct packet mdg(uint32_t number, unsigned flags, unsigned channel, unsigned nmsg)
{
	struct packet p = { 0 };

	put(&p, 8, UINT64_C(1700000000123456789));
	put(&p, 4, number);
	put(&p, 2, flags);
	put(&p, 2, channel);
	for (unsigned i = 0; i < nmsg; i++) {
		put(&p, 2, 20 + i);
		fill(&p, 18 + i, (uint8_t)i);
	}
	return p;
}

static uint64_t session_of(const char *name, const struct packet *p)
{
	struct mdbus_packet d;

	CHECK(mdbus_layout_decode(mdbus_layout_builtin(name), p->b, p->n, &d) == MDBUS_DECODE_OK);
	return d.session;
}

static void euronext_mdg(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("euronext_mdg");
	struct packet p = mdg(4711, 0, 770, 3), q;
	uint8_t id[MDBUS_SESSION_MAX];

	EXPECT("euronext_mdg", &p, .seq = 4711, .next = 4712, .count = 1, .frames = 3, .first = 16, .first_len = 20);
	CHECK_U64(mdbus_layout_key(l, p.b, p.n, id), 2);
	CHECK(!memcmp(id, "\x02\x03", 2));
	q = mdg(4711, 1, 770, 3); /* compressed: nothing in it is believed, all of it is published */
	EXPECT("euronext_mdg", &q, .seq = 4711, .next = 4712, .count = 1);
	fill(&q, 9, 0xff);
	EXPECT("euronext_mdg", &q, .seq = 4711, .next = 4712, .count = 1);
	q.n = 16; /* of nothing */
	EXPECT("euronext_mdg", &q, .seq = 4711, .next = 4712, .count = 1);
	/* only bits 1 to 3 of the flags are the session */
	CHECK(session_of("euronext_mdg", &p) == session_of("euronext_mdg", &q));
	q = mdg(1, 0xfff1, 770, 1);
	CHECK(session_of("euronext_mdg", &p) == session_of("euronext_mdg", &q));
	for (unsigned bit = 1; bit <= 3; bit++) {
		q = mdg(4711, 1u << bit, 770, 3);
		CHECK(session_of("euronext_mdg", &p) != session_of("euronext_mdg", &q));
	}
	q = mdg(9, 0xffff, 770, 1);
	CHECK_U64(mdbus_layout_session(l, q.b, q.n, id), 2);
	CHECK(!memcmp(id, "\x0e\x00", 2));
	p.n--; /* the packet is the message, whatever is in it */
	CHECK_U64(refusal("euronext_mdg", &p), MDBUS_DECODE_OK);
	p.n = 15;
	CHECK_U64(refusal("euronext_mdg", &p), MDBUS_DECODE_BAD_HEADER);
}

/* ---- HKEX OMD ---- */

static struct packet omd(unsigned count, uint32_t seq, unsigned type)
{
	struct packet p = { 0 };

	put(&p, 2, 16 + 8 * count);
	put(&p, 1, count);
	put(&p, 1, 0);
	put(&p, 4, seq);
	put(&p, 8, UINT64_C(1700000000123456789));
	for (unsigned i = 0; i < count; i++) {
		put(&p, 2, 8);
		put(&p, 2, type);
		put(&p, 4, 1); /* of a reset: the next number */
	}
	return p;
}

static void hkex_omd(void)
{
	struct packet p = omd(3, 900, 30);

	EXPECT("hkex_omd", &p, .seq = 900, .next = 903, .count = 3, .frames = 3, .first = 16, .first_len = 8);
	p = omd(0, 902, 0);
	EXPECT("hkex_omd", &p, .seq = 902, .next = 903, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_LAST);
	p = omd(1, 903, 100);
	EXPECT("hkex_omd", &p, .seq = 903, .no_seq = true, .next = 1, .frames = 1, .event = MDBUS_EVENT_RESET,
	       .event_seq = MDBUS_EVENT_SEQ_FIELD, .first = 16, .first_len = 8);
	p = omd(3, 900, 30);
	p.b[2] = 4;
	CHECK_U64(refusal("hkex_omd", &p), MDBUS_DECODE_BAD_COUNT);
	p = omd(3, 900, 30);
	p.b[16] = 1; /* shorter than its own length */
	CHECK_U64(refusal("hkex_omd", &p), MDBUS_DECODE_BAD_LENGTH);
	p = omd(3, 900, 30);
	p.n--;
	CHECK_U64(refusal("hkex_omd", &p), MDBUS_DECODE_BAD_LENGTH);
}

/* ---- LSE MITCH ---- */

static struct packet mitch(unsigned count, unsigned group, uint32_t seq)
{
	struct packet p = { 0 };

	put(&p, 2, 8 + 9 * count);
	put(&p, 1, count);
	put(&p, 1, group);
	put(&p, 4, seq);
	for (unsigned i = 0; i < count; i++) {
		put(&p, 1, 9);
		fill(&p, 8, 0x54);
	}
	return p;
}

static void lse_mitch(void)
{
	struct packet p = mitch(2, 'A', 70000);
	uint8_t key[MDBUS_SESSION_MAX];

	EXPECT("lse_mitch", &p, .seq = 70000, .next = 70002, .count = 2, .frames = 2, .first = 8, .first_len = 9);
	CHECK_U64(mdbus_layout_key(mdbus_layout_builtin("lse_mitch"), p.b, p.n, key), 1);
	CHECK_U64(key[0], 'A');
	p = mitch(0, 'A', 70002);
	EXPECT("lse_mitch", &p, .seq = 70002, .next = 70002, .event = MDBUS_EVENT_HEARTBEAT,
	       .event_seq = MDBUS_EVENT_SEQ_NEXT);
	p = mitch(3, 'A', 70002);
	p.b[8 + 9] = 0;
	CHECK_U64(refusal("lse_mitch", &p), MDBUS_DECODE_BAD_LENGTH);
	p = mitch(3, 'A', 70002);
	p.b[0]--;
	CHECK_U64(refusal("lse_mitch", &p), MDBUS_DECODE_BAD_LENGTH);
}

/* ---- a feed of our own invention ---- */

/*
 * Big-endian. flags u8: bits 4 to 7 count sessions, bit 0 says heartbeat, bit 1 resent; count u24 of messages; number
 * u40 of the last one sent in heartbeats, else of the first one here. A message: type u8, length u8 of what follows.
 */
static const char made_up_text[] =
	"{\"feeds\": 0, \"made_up\": {\"e\": \"be\", \"hdr\": 9, \"unit\": \"msg\", \"seq\": [\"h\",4,5],\n"
	" \"count\": [\"h\",1,3], \"session\": [[\"h\",0,1,240]], \"msglen\": [1,1,2],\n"
	" \"rules\": [{\"if\": [[\"h\",0,1,\"&\",2]], \"act\": \"retrans\"},\n"
	"             {\"if\": [[\"h\",0,1,\"&\",1]], \"act\": \"heartbeat\", \"seq\": \"last\"}]}}";

static struct packet made_up(unsigned session, unsigned flags, uint64_t seq, unsigned count)
{
	struct packet p = { .big = true };

	put(&p, 1, session << 4 | flags);
	put(&p, 3, count);
	put(&p, 5, seq);
	for (unsigned i = 0; i < count; i++) {
		put(&p, 1, 'M');
		put(&p, 1, 9);
		put(&p, 8, seq + i);
		put(&p, 1, session);
	}
	return p;
}

static struct bed bed;
static uint64_t now = 1000000;

static void feed(unsigned line, struct packet p)
{
	CHECK_U64(bed_packet(&bed, line, p.b, p.n, now), MDBUS_DECODE_OK);
	now += 1000;
	for (unsigned i = 0; i < bed.nline; i++)
		mdbus_channel_tick(&bed.line[i].channel, now);
}

static void heard(struct mdbus_sub *s, unsigned session, uint64_t seq)
{
	struct packet p = made_up(session, 0, seq, 1);
	struct mdbus_record r;
	uint8_t b[64];

	CHECK(mdbus_sub_read(s, &r, b, sizeof(b)));
	CHECK_U64(r.kind, MDBUS_RECORD_DATA);
	CHECK_U64(r.seq, seq);
	CHECK_U64(r.len, 11);
	CHECK(!memcmp(b, p.b + 9, 11));
}

static void heard_other(struct mdbus_sub *s, enum mdbus_record_kind kind, uint64_t seq, uint64_t count)
{
	struct mdbus_record r;

	CHECK(mdbus_sub_next(s, &r));
	CHECK_U64(r.kind, kind);
	CHECK_U64(r.seq, seq);
	CHECK_U64(r.count, count);
}

/* Two lines with their own packing, loss, a resent packet, a tail that only a heartbeat tells of, another session. */
static void invented(void)
{
	const uint64_t timeout = 10000000;
	struct mdbus_channel_desc c = bed_channel_default("moldudp64", 2);
	struct mdbus_record r;
	struct mdbus_sub *s;
	char err[256];

	if (mdbus_layout_parse(made_up_text, "made_up", &c.layout, err, sizeof(err))) {
		printf("%s\n", err);
		exit(1);
	}
	bed_open(&bed, &c, 2, 256);
	s = mdbus_sub_over(&bed.bus, NULL);
	feed(0, made_up(3, 0, 1, 3));
	feed(1, made_up(3, 0, 1, 1));
	feed(1, made_up(3, 0, 2, 4)); /* 4 and 5 are new */
	for (uint64_t seq = 1; seq <= 5; seq++)
		heard(s, 3, seq);
	feed(0, made_up(3, 0, 8, 2)); /* 6 and 7 are missing */
	feed(0, made_up(3, 2, 6, 1)); /* 6 is sent again */
	heard(s, 3, 6);
	now += timeout;
	feed(0, made_up(3, 1, 10, 0)); /* 10 was the last one, and did not come */
	heard_other(s, MDBUS_RECORD_GAP, 7, 1);
	heard(s, 3, 8);
	heard(s, 3, 9);
	now += timeout;
	feed(0, made_up(3, 1, 10, 0));
	heard_other(s, MDBUS_RECORD_GAP, 10, 1);
	for (uint64_t seq = 1; seq <= 4; seq++) {
		feed(0, made_up(4, 0, seq, 1));
		feed(1, made_up(4, 0, seq, 1));
	}
	heard_other(s, MDBUS_RECORD_RESET, 11, 1);
	for (uint64_t seq = 1; seq <= 4; seq++)
		heard(s, 4, seq);
	CHECK(!mdbus_sub_next(s, &r));
	CHECK_U64(bed.line[0].channel.mine->count.retransmitted, 1);
	CHECK_U64(bed.line[0].channel.mine->count.heartbeats, 2);
	mdbus_sub_close(s);
	bed_close(&bed);
}

int main(void)
{
	euronext_mdg();
	hkex_omd();
	lse_mitch();
	invented();
	return 0;
}
