/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_early_lines - early drop between two lines: the real channels, the real XDP program in front of line B by
 * BPF_PROG_TEST_RUN, and the real memory between program and process.
 *
 * What is delivered must be what either line carried, whatever the program dropped, also when line A's process stops until
 * its queue runs over, and over new sessions and restarts; and line B's counters must be as if nothing had been dropped.
 *
 * timeout: 60
 * mutants: drop_uncommitted early_session_ignored
 */
#ifndef MDBUS_HAVE_XDP
#include <stdio.h>
int main(void)
{
	printf("built without AF_XDP\n");
	return 77;
}
#else
#include "early_bed.h"

#define SESSIONS 3u
#define NUMBERS  14000u
#define BEHIND   300u /* packets that line B is behind */
#define QUEUE    256u /* packets that a line's queue holds */
#define TICK     10000u /* ns from one packet to the next */

struct sent {
	struct bed_mold m;
	uint32_t session;
};

/* A line: packets that wait for its process. */
struct queue {
	struct sent waiting[QUEUE];
	uint32_t n;
	uint64_t lost; /* messages that it did not carry */
};

static struct sent source[SESSIONS * NUMBERS];
static uint32_t nsource;
static bool carried[SESSIONS][NUMBERS + 1];

/* The last session has the name of the one before: its numbers start again. */
static void make_source(void)
{
	for (uint32_t s = 0; s < SESSIONS; s++) {
		for (uint64_t seq = 1; seq <= NUMBERS;) {
			struct sent *p = &source[nsource++];
			uint64_t left = NUMBERS + 1 - seq;

			*p = (struct sent){ .session = s, .m = { .seq = seq, .salt = s, .count = 1 + rnd(4) } };
			if (p->m.count > left)
				p->m.count = (uint32_t)left;
			memcpy(p->m.session, s == 0 ? S1 : S2, 10);
			seq += p->m.count;
		}
	}
}

static void carry(const struct sent *p)
{
	for (uint32_t i = 0; i < p->m.count; i++)
		carried[p->session][p->m.seq + i] = true;
}

static void receive(struct queue *q, const struct sent *p)
{
	if (q->n == QUEUE) { /* the process is too slow: what the card cannot hand over is lost */
		q->lost += p->m.count;
		return;
	}
	q->waiting[q->n++] = *p;
	carry(p);
}

static uint32_t take_all(struct bed *b, uint32_t line, struct queue *q, uint64_t now)
{
	static uint8_t bytes[2048];
	uint32_t n = q->n;

	for (uint32_t i = 0; i < n; i++)
		bed_packet(b, line, bytes, bed_mold_build(&q->waiting[i].m, bytes, sizeof(bytes)), now);
	q->n = 0;
	mdbus_channel_tick(&b->line[line].channel, now);
	return n;
}

/* What a subscriber is told so far. */
struct heard {
	uint32_t session;
	uint64_t next, gaps, messages;
};

static void hear(struct mdbus_sub *sub, struct heard *h)
{
	struct mdbus_record r;
	uint8_t want[256];

	while (mdbus_sub_next(sub, &r)) {
		switch (r.kind) {
		case MDBUS_RECORD_DATA:
			CHECK_U64(r.seq, h->next);
			CHECK(r.len == bed_mold_message(r.seq, h->session, want) && memcmp(r.data, want, r.len) == 0);
			h->next++;
			h->messages++;
			break;
		case MDBUS_RECORD_GAP:
			CHECK_U64(r.seq, h->next);
			for (uint64_t i = 0; i < r.count; i++)
				if (carried[h->session][h->next + i]) {
					printf("session %u: %llu was carried and is lost\n", h->session,
					       (unsigned long long)(h->next + i));
					exit(1);
				}
			h->next += r.count;
			h->gaps += r.count;
			break;
		case MDBUS_RECORD_RESET:
			h->session++;
			h->next = 1;
			break;
		default:
			CHECK(r.kind != MDBUS_RECORD_OVERRUN);
		}
	}
}

/* Line A ahead, now and then stopped until its queue runs over; line B behind it, with the program in front. */
static void run_lines(struct bed *b, struct rig *r, struct mdbus_xdp_early *early, struct queue *q, struct heard *h)
{
	struct mdbus_sub_options o = { .start = MDBUS_START_HEAD };
	struct mdbus_sub *sub = mdbus_sub_over(&b->bus, &o);
	uint32_t stopped = 0;
	uint64_t now = 1;

	CHECK(sub != NULL);
	for (uint32_t i = 0; i < nsource + BEHIND; i++, now += TICK) {
		bool lost = rnd(100) < 3;

		if (i < nsource && lost)
			q[0].lost += source[i].m.count;
		else if (i < nsource)
			receive(&q[0], &source[i]);
		if (stopped == 0 && rnd(3000) == 0)
			stopped = 2 * QUEUE;
		if (stopped ? --stopped == 0 : rnd(4) == 0)
			take_all(b, 0, &q[0], now);
		if (i >= BEHIND && rnd(100) < 3) {
			q[1].lost += source[i - BEHIND].m.count;
		} else if (i >= BEHIND) {
			const struct sent *p = &source[i - BEHIND];

			if (mold(&r->prog, p->m.session, p->m.seq, p->m.count) == XDP_DROP)
				carry(p);
			else
				receive(&q[1], p);
		}
		if (rnd(8) == 0)
			mdbus_xdp_early_round(early, take_all(b, 1, &q[1], now), QUEUE);
		hear(sub, h);
	}
	for (uint32_t i = 0; i < 100; i++, now += 1000000u) {
		take_all(b, 0, &q[0], now);
		usleep(100);
		mdbus_xdp_early_round(early, take_all(b, 1, &q[1], now), QUEUE);
		hear(sub, h);
	}
	mdbus_sub_close(sub);
}

/* A bus of two lines, of which B, the second, has the program in front of it. */
struct pair {
	struct bed bed;
	struct rig rig;
	struct mdbus_line_desc line;
	struct mdbus_xdp_early *early;
};

static void pair_open(struct pair *p)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 2);

	rig_load(&p->rig);
	d.early_drop = 1;
	d.flow[1].addr = p->rig.flow.addr;
	d.flow[1].port = PORT;
	bed_open(&p->bed, &d, 2, 8192);
	p->line = (struct mdbus_line_desc){ .queue = 0 };
	struct mdbus_backend_env env = { .line = &p->line, .flows = &p->rig.flow, .nflow = 1, .bus = &p->bed.line[1].bus,
		.channel = &p->bed.line[1].channel };

	CHECK(mdbus_xdp_early_open(&p->early, &p->rig.prog, &env) == 0 && p->early != NULL);
	rig_start(&p->rig);
}

static void pair_close(struct pair *p)
{
	mdbus_xdp_early_close(p->early);
	rig_close(&p->rig);
	bed_close(&p->bed);
}

/* What the program lets through of a packet on line B goes to its process. */
static uint32_t bring(struct pair *p, const char *session, uint64_t seq)
{
	struct queue q = { .n = 1, .waiting[0].m = { .seq = seq, .count = 1, .salt = (uint32_t)session[9] } };
	uint32_t got = mold(&p->rig.prog, session, seq, 1);

	memcpy(q.waiting[0].m.session, session, 10);
	if (got == XDP_REDIRECT)
		mdbus_xdp_early_round(p->early, take_all(&p->bed, 1, &q, 1000u * seq), QUEUE);
	else
		mdbus_xdp_early_round(p->early, 0, QUEUE);
	return got;
}

/* Line B alone goes over to a new session, whose numbers it has had in the one before. */
static void test_new_session(void)
{
	static struct pair p;
	uint32_t dropped = 0;

	pair_open(&p);
	for (uint64_t seq = 1; seq < 8000; seq++)
		CHECK(bring(&p, S1, seq) == XDP_REDIRECT);
	for (uint64_t seq = 7000; seq < 7100; seq++)
		dropped += bring(&p, S1, seq) == XDP_DROP;
	CHECK(dropped > 90);
	for (uint64_t seq = 7000; seq < 7010; seq++)
		CHECK(bring(&p, S2, seq) == XDP_REDIRECT);
	CHECK_U64(p.bed.line[1].channel.gen.gen, 2);
	CHECK(bring(&p, S1, 7500) == XDP_REDIRECT);
	for (int i = 0; i < 5; i++) { /* the strange packets have been read by then */
		usleep(3000);
		mdbus_channel_tick(&p.bed.line[1].channel, UINT64_C(1000000000) * (uint64_t)(i + 1));
		mdbus_xdp_early_round(p.early, 0, QUEUE);
	}
	CHECK(bring(&p, S2, 7005) == XDP_DROP);
	CHECK(bring(&p, S2, 7010) == XDP_REDIRECT);
	pair_close(&p);
}

/* A line that looks at a restart does not have its packets dropped meanwhile, and another line's restart stops it too. */
static void test_restart(void)
{
	static struct pair p;
	struct queue q = { .n = 0 };

	pair_open(&p);
	for (uint64_t seq = 1; seq < 9000; seq++)
		CHECK(bring(&p, S1, seq) == XDP_REDIRECT);
	CHECK(bring(&p, S1, 8000) == XDP_DROP);
	for (uint32_t i = 0; i < 4; i++) { /* line A begins anew under the same name */
		q.waiting[q.n++].m = (struct bed_mold){ .session = "SESSION001", .seq = 1 + i, .count = 1, .salt = 9 };
	}
	p.bed.line[0].channel.desc.agree_packets = 1;
	for (uint32_t i = 0; i < 2; i++) {
		struct queue once = q;

		take_all(&p.bed, 0, &once, 1);
	}
	if (p.bed.line[0].channel.gen.gen != 2) {
		printf("line A is in generation %llu\n", (unsigned long long)p.bed.line[0].channel.gen.gen);
		exit(1);
	}
	mdbus_xdp_early_round(p.early, 0, QUEUE);
	CHECK(mold(&p.rig.prog, S1, 8001, 1) == XDP_REDIRECT);
	pair_close(&p);
}

static void test_two_lines(void)
{
	static struct pair p;
	struct queue q[2] = { 0 };
	struct heard h = { .next = 1 };
	struct bed *b = &p.bed;

	make_source();
	pair_open(&p);
	run_lines(b, &p.rig, p.early, q, &h);

	const struct mdbus_arena_hdr *arena = b->bus.arena[1].base;
	const struct mdbus_line_channel *a = b->line[0].channel.mine, *c = b->line[1].channel.mine;
	uint64_t total = SESSIONS * NUMBERS, packets = arena->count.early_dropped;

	printf("%llu messages, %llu lost on both; B: %llu packets dropped early of %u, line_gaps %llu for %llu lost\n",
	       (unsigned long long)h.messages, (unsigned long long)h.gaps, (unsigned long long)packets, nsource,
	       (unsigned long long)c->count.line_gaps, (unsigned long long)q[1].lost);
	CHECK(h.session == SESSIONS - 1 && h.messages + h.gaps == total);
	CHECK(packets > nsource / 4);
	CHECK_U64(a->count.won + c->count.won, h.messages);
	CHECK_U64(c->count.messages, total - q[1].lost);
	CHECK_U64(c->count.won + c->count.duplicates + c->count.late, c->count.messages);
	CHECK(q[1].lost - c->count.line_gaps < 4 * SESSIONS); /* nobody misses the last of a session */
	CHECK_U64(c->count.mismatched, 0);
	CHECK_U64(c->count.restarts, SESSIONS - 1);
	CHECK(mdbus_hist_total(&arena->lateness) > packets / 2);
	pair_close(&p);
}

int main(void)
{
	test_new_session();
	test_restart();
	test_two_lines();
	return 0;
}
#endif
