/* SPDX-License-Identifier: Apache-2.0
 * mutants: gap_before_timeout close_early tail_is_ahead same_is_old
 *
 * unit_arbitrate.c - real arbitration against a naive reference, on seeded cases in virtual time.
 *
 * A source sends numbered messages in several sessions.  Two to four lines carry them, each with its own packing, loss,
 * reorder, duplicates and skew.  The reference says in plain terms what subscribers must see: every message that any line carried,
 * in order, once; a gap for each number that none carried; a reset between sessions.  The real channels, fed packet by packet in
 * the order of arrival, must produce exactly that.
 */
#include <stdio.h>
#include <stdlib.h>
#include "bus_bed.h"

#define MAX_PACKETS 65536
#define MAX_RECORDS 65536
#define MS          UINT64_C(1000000)

static uint64_t rng;

static uint32_t rnd(uint32_t n)
{
	rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return n ? (uint32_t)(rng >> 33) % n : 0;
}

struct packet {
	uint64_t at; /* arrival, ns */
	uint32_t line, order;
	struct bed_mold mold;
};

struct expected {
	uint32_t kind; /* enum mdbus_record_kind */
	uint64_t epoch, seq;
	uint32_t salt;
};

static struct packet packets[MAX_PACKETS];
static uint32_t npackets;
static struct expected want[MAX_RECORDS];
static uint32_t nwant;
static uint8_t carried[8][4096]; /* by session, number: some line carried it */
static uint64_t known[8];        /* by session: number after the last one that any line told of */

struct shape {
	bool some_alike;
	uint32_t nline, sessions, restarts_keep_name, loss_permille[4], reorder_permille[4], reorder_depth, dup_permille[4];
	uint64_t skew[4];
	uint32_t pack[4];
	uint64_t messages[8];
	uint64_t pause[8]; /* after the session, ns: reordering reaches over short ones */
};

static void add(uint64_t at, uint32_t line, const struct bed_mold *m)
{
	if (npackets == MAX_PACKETS)
		exit(99);
	packets[npackets] = (struct packet){ at, line, npackets, *m };
	npackets++;
}

static int by_arrival(const void *a, const void *b)
{
	const struct packet *p = a, *q = b;

	if (p->at != q->at)
		return p->at < q->at ? -1 : 1;
	return p->order < q->order ? -1 : p->order > q->order;
}

/* One line's packets of one session, from time t on; a message every 10 us. Returns the time of the end. */
static uint64_t send_session(const struct shape *s, uint32_t line, uint32_t session, uint64_t t)
{
	struct bed_mold m = { .salt = session + 1u, .some_alike = s->some_alike };
	uint64_t seq = 1, n = s->messages[session];

	snprintf(m.session, sizeof(m.session), "SESSION%03u", s->restarts_keep_name ? 0 : session);
	while (seq <= n) {
		uint64_t at = t + seq * 10000u + s->skew[line];

		m.seq = seq;
		m.count = 1 + rnd(s->pack[line]);
		if (m.count > n + 1 - seq)
			m.count = (uint32_t)(n + 1 - seq);
		if (rnd(1000) < s->reorder_permille[line])
			at += 10000u * (1 + rnd(s->reorder_depth));
		if (rnd(1000) >= s->loss_permille[line]) {
			add(at, line, &m);
			for (uint32_t i = 0; i < m.count; i++)
				carried[session][seq + i] = 1;
			if (known[session] < seq + m.count)
				known[session] = seq + m.count;
			if (rnd(1000) < s->dup_permille[line])
				add(at + 10000u * rnd(30), line, &m);
		}
		seq += m.count;
	}
	t += n * 10000u;
	m.seq = n + 1;
	m.count = 0;
	if (session + 1u < s->sessions && rnd(2))
		return t + 120000u; /* no heartbeats: this line never says where the session ended */
	known[session] = n + 1;
	for (uint32_t i = 0; i < 4; i++)
		add((t += 30000u) + s->skew[line], line, &m);
	return t;
}

static void reference(const struct shape *s)
{
	nwant = 0;
	for (uint32_t e = 0; e < s->sessions; e++) {
		if (e > 0)
			want[nwant++] = (struct expected){ MDBUS_RECORD_RESET, e + 1u, known[e - 1u], 0 };
		struct bed_mold m = { .salt = e + 1u, .some_alike = s->some_alike };

		for (uint64_t q = 1; q < known[e]; q++)
			want[nwant++] = (struct expected){ carried[e][q] ? MDBUS_RECORD_DATA : MDBUS_RECORD_GAP, e + 1u, q,
			                                   bed_mold_salt(&m, q) };
	}
}

static struct shape choose(void)
{
	static const uint32_t losses[] = { 0, 0, 10, 50, 200, 500 };
	struct shape s = { .nline = 2 + rnd(3), .sessions = 1 + rnd(4), .restarts_keep_name = rnd(2) };
	/* a line whose first packet is the same in all sessions must not begin when others are in the next one */
	uint32_t skew = (s.some_alike = rnd(3) == 0) ? 2000 : 50000;

	s.reorder_depth = 1 + rnd(64);
	for (uint32_t k = 0; k < s.nline; k++) {
		s.loss_permille[k] = losses[rnd(6)];
		s.reorder_permille[k] = rnd(3) == 0 ? rnd(100) : 0;
		s.dup_permille[k] = rnd(3) == 0 ? rnd(200) : 0;
		s.skew[k] = rnd(2) ? rnd(skew) * UINT64_C(1000) : rnd(1000);
		s.pack[k] = 1 + rnd(8);
	}
	for (uint32_t e = 0; e < s.sessions; e++)
		/* a restart under the same name can be told from reordering only beyond the reorder window */
		s.messages[e] = (s.restarts_keep_name ? 1000 : 300) + rnd(1800);
	for (uint32_t e = 0; e < s.sessions; e++)
		s.pause[e] = rnd(2) ? 5 * MS : rnd(1000) * UINT64_C(1000);
	return s;
}

static uint32_t got; /* records seen */

static int mismatch(uint64_t seed, const struct mdbus_record *r, const char *what)
{
	printf("seed %lu, record %u: %s: kind %u epoch %lu seq %lu count %lu", (unsigned long)seed, got, what, r->kind,
	       (unsigned long)r->epoch, (unsigned long)r->seq, (unsigned long)r->count);
	if (got < nwant)
		printf("; wanted kind %u epoch %lu seq %lu", want[got].kind, (unsigned long)want[got].epoch,
		       (unsigned long)want[got].seq);
	putchar('\n');
	return 1;
}

/* Read all there is and compare. 0: as wanted. */
static int drain(struct mdbus_sub *sub, uint64_t seed)
{
	struct mdbus_record r;
	uint8_t buf[256], body[256];

	while (mdbus_sub_read(sub, &r, buf, sizeof(buf))) {
		const struct expected *w = &want[got];

		if (got == nwant)
			return mismatch(seed, &r, "more than was sent");
		if (r.kind != w->kind || r.epoch != w->epoch || r.seq != w->seq)
			return mismatch(seed, &r, "not what comes next");
		if (r.kind == MDBUS_RECORD_DATA &&
		    (r.len != bed_mold_message(w->seq, w->salt, body) || memcmp(body, buf, r.len) != 0))
			return mismatch(seed, &r, "other bytes than were sent");
		got++;
	}
	return 0;
}

static int run_case(uint64_t seed)
{
	static struct bed b;
	uint8_t bytes[2048];
	int bad = 0;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	struct shape s = choose();
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", s.nline);

	npackets = got = 0;
	memset(carried, 0, sizeof(carried));
	memset(known, 0, sizeof(known));
	for (uint32_t k = 0; k < s.nline; k++) {
		uint64_t t = 1000 * MS;

		for (uint32_t e = 0; e < s.sessions; e++)
			t = send_session(&s, k, e, t) + s.pause[e];
	}
	reference(&s);
	qsort(packets, npackets, sizeof(packets[0]), by_arrival);
	d.depth = 65536;
	d.window = 32768;
	d.reorder_window = 600; /* 64 packets of up to 8 messages */
	d.gap_timeout_ns = 100 * MS;
	bed_open(&b, &d, s.nline, 8192);
	struct mdbus_sub *sub = mdbus_sub_over(&b.bus, NULL);
	uint64_t now = 0;

	for (uint32_t i = 0; i < npackets && !bad; i++) {
		uint32_t len = bed_mold_build(&packets[i].mold, bytes, sizeof(bytes));

		now = packets[i].at;
		bed_packet(&b, packets[i].line, bytes, len, now);
		for (uint32_t k = 0; k < s.nline; k++)
			mdbus_channel_tick(&b.line[k].channel, now);
		bad = drain(sub, seed);
	}
	for (uint64_t end = now + 1000 * MS; now < end && !bad; now += MS) {
		for (uint32_t k = 0; k < s.nline; k++)
			mdbus_channel_tick(&b.line[k].channel, now);
		bad = drain(sub, seed);
	}
	if (!bad && got != nwant) {
		printf("seed %lu: %u records, wanted %u (next: kind %u epoch %lu seq %lu)\n", (unsigned long)seed, got, nwant,
		       want[got].kind, (unsigned long)want[got].epoch, (unsigned long)want[got].seq);
		bad = 1;
	}
	mdbus_sub_close(sub);
	bed_close(&b);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1, n = argc > 2 ? strtoull(argv[2], NULL, 0) : 300;
	uint64_t failed = 0;

	for (uint64_t seed = first; seed < first + n && failed < 5; seed++)
		failed += (uint64_t)run_case(seed);
	printf("%lu cases from seed %lu, %lu failed\n", (unsigned long)n, (unsigned long)first, (unsigned long)failed);
	return failed != 0;
}
