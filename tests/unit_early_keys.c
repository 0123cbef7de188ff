/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_early_keys - early drop of a channel without an order: by key.
 *
 * The program alone, told by hand which keys are in the ring; then between two lines: the real channels, the real XDP program in
 * front of line B by BPF_PROG_TEST_RUN, and the real memory between program and process.  Every key that either line carried
 * is delivered, once, whatever the program dropped: also when either process stops until its queue runs over, packets come
 * twice on one line, and keys are used again.
 *
 * timeout: 60
 * mutants: drop_received
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

#define KEYS   40000u
#define BEHIND 300u /* packets that line B is behind */
#define QUEUE  256u /* packets that a line's queue holds */
#define SECOND UINT64_C(1000000000)

/* ---- the program alone ------------------------------------------------------------------------------------------ */

static void test_alone(void)
{
	const uint64_t now = mdbus_clock_ns(), hour = 3600 * SECOND; /* a busy host may take seconds between two lines */
	struct frame f = { .len = OPTIQ_LEN };
	const char *why;
	struct rig r;

	rig_load(&r);
	rig_share(&r);
	rig_start(&r);
	CHECK(mdbus_fixed_find_key(mdbus_layout_builtin("optiq_key"), &r.at->fixed, &why) == 0);
	r.at->by_key = 1;
	r.at->age_ns = 2 * hour;
	CHECK(optiq(&r.prog, 7) == XDP_REDIRECT); /* it has no window yet */
	rig_share_window(&r);
	CHECK(optiq(&r.prog, 7) == XDP_REDIRECT);
	rig_put_key(&r, 7, now);
	CHECK(optiq(&r.prog, 7) == XDP_DROP);
	CHECK(optiq(&r.prog, 8) == XDP_REDIRECT);
	CHECK(optiq(&r.prog, 0) == XDP_REDIRECT); /* the key of what is empty */
	rig_put_key(&r, 0, now);
	CHECK(optiq(&r.prog, 0) == XDP_DROP);
	CHECK(optiq(&r.prog, 7 | 1u << 31) == XDP_REDIRECT);
	for (uint32_t other = 8;; other++) { /* another key in its place */
		if (line_xdp_place(other, 0) != line_xdp_place(7, 0))
			continue;
		CHECK(optiq(&r.prog, other) == XDP_REDIRECT);
		rig_put_key(&r, other, now);
		CHECK(optiq(&r.prog, other) == XDP_DROP && optiq(&r.prog, 7) == XDP_REDIRECT);
		break;
	}
	r.at->mine = 5; /* as if it were of another flow */
	r.window->at[line_xdp_place(7, 5)] = (struct line_xdp_seen){ 7, line_xdp_when(now, 0) };
	CHECK(optiq(&r.prog, 7) == XDP_REDIRECT);
	r.window->at[line_xdp_place(7, 5)] = (struct line_xdp_seen){ 7, line_xdp_when(now, 5) };
	CHECK(optiq(&r.prog, 7) == XDP_DROP);
	r.at->mine = 0;
	rig_put_key(&r, 7, now - hour);
	CHECK(optiq(&r.prog, 7) == XDP_DROP);
	rig_put_key(&r, 7, now - 2 * hour);
	CHECK(optiq(&r.prog, 7) == XDP_REDIRECT);
	rig_put_key(&r, 7, now + hour); /* of another clock */
	CHECK(optiq(&r.prog, 7) == XDP_REDIRECT);
	r.at->age_ns = UINT64_MAX;
	rig_put_key(&r, 7, now - 2 * hour);
	CHECK(optiq(&r.prog, 7) == XDP_DROP);
	r.at->version = 1;
	CHECK(optiq(&r.prog, 7) == XDP_REDIRECT);
	r.at->version = 2;
	CHECK(optiq(&r.prog, 7) == XDP_DROP);
	CHECK(r.at->packets == 7 && r.at->messages == 7);
	optiq_bytes(7, f.bytes + HEADERS);
	wrap(&f);
	put16(f.bytes + 38, 8 + OPTIQ_LEN - 1u); /* UDP says that it is cut short */
	CHECK(verdict(&r.prog, &f) == XDP_REDIRECT);
	f.len = 7;
	wrap(&f);
	put16(f.bytes + 38, 8 + OPTIQ_LEN);
	CHECK(verdict(&r.prog, &f) == XDP_REDIRECT);
	uint32_t through = 0;

	r.at->seen = 0;
	for (uint32_t i = 0; i < 10 * LINE_XDP_SAMPLE; i++)
		through += optiq(&r.prog, 7) == XDP_REDIRECT;
	CHECK_U64(through, 10);
	close(r.xsk); /* nothing is dropped for a process that is gone */
	usleep(1000);
	CHECK(optiq(&r.prog, 7) == XDP_PASS);
	r.xsk = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	rig_close(&r);
}

/* ---- two lines -------------------------------------------------------------------------------------------------- */

/* A bus of two lines, of which B, the second, has the program in front of it; and what either has carried. */
static struct pair {
	struct bed bed;
	struct rig rig;
	struct mdbus_line_desc line;
	struct mdbus_xdp_early *early;
	struct mdbus_sub *sub;
	struct queue {
		uint32_t key[QUEUE];
		uint32_t n;
		uint64_t lost, taken;
	} queue[2];
	uint64_t dropped;
	uint64_t delivered;
} p;

static uint8_t carried[KEYS], heard[KEYS];

static void pair_open(uint64_t age_ns)
{
	struct mdbus_channel_desc d = bed_channel_default("optiq_key", 2);
	struct mdbus_sub_options o = { .start = MDBUS_START_HEAD };

	memset(&p, 0, sizeof(p));
	memset(carried, 0, sizeof(carried));
	memset(heard, 0, sizeof(heard));
	rig_load(&p.rig);
	d.early_drop = 1;
	d.ordered = 0;
	d.key_window = 65536;
	d.key_age_ns = age_ns;
	d.flow[1].addr = p.rig.flow.addr;
	d.flow[1].port = PORT;
	bed_open(&p.bed, &d, 2, 8192);
	struct mdbus_backend_env env = { .line = &p.line, .flows = &p.rig.flow, .nflow = 1, .bus = &p.bed.line[1].bus,
		.channel = &p.bed.line[1].channel };

	CHECK(mdbus_xdp_early_open(&p.early, &p.rig.prog, &env) == 0 && p.early != NULL);
	rig_start(&p.rig);
	p.sub = mdbus_sub_over(&p.bed.bus, &o);
	CHECK(p.sub != NULL);
}

static void pair_close(void)
{
	mdbus_sub_close(p.sub);
	mdbus_xdp_early_close(p.early);
	rig_close(&p.rig);
	bed_close(&p.bed);
}

static void receive(uint32_t line, uint32_t key)
{
	struct queue *q = &p.queue[line];

	if (q->n == QUEUE) { /* the process is too slow: what the card cannot hand over is lost */
		q->lost++;
		return;
	}
	q->key[q->n++] = key;
	carried[key] = 1;
}

/* A copy comes on line B. */
static void receive_b(uint32_t key)
{
	if (optiq(&p.rig.prog, key) == XDP_DROP) {
		carried[key] = 1;
		p.dropped++;
	} else {
		receive(1, key);
	}
}

static void take_all(uint32_t line)
{
	struct queue *q = &p.queue[line];
	uint8_t bytes[OPTIQ_LEN];
	uint32_t n = q->n;

	for (uint32_t i = 0; i < n; i++) {
		optiq_bytes(q->key[i], bytes);
		bed_packet(&p.bed, line, bytes, sizeof(bytes), mdbus_clock_ns());
	}
	q->taken += n;
	q->n = 0;
	if (line == 1)
		mdbus_xdp_early_round(p.early, n, QUEUE);
}

static void hear(void)
{
	struct mdbus_record r;
	uint8_t want[OPTIQ_LEN];
	uint32_t key;

	while (mdbus_sub_next(p.sub, &r)) {
		CHECK(r.kind == MDBUS_RECORD_DATA && r.len == OPTIQ_LEN);
		memcpy(&key, r.data + 4, 4);
		CHECK(key < KEYS);
		optiq_bytes(key, want);
		CHECK(memcmp(want, r.data, OPTIQ_LEN) == 0);
		heard[key]++;
		p.delivered++;
	}
}

/* Either process stops now and then; line B also brings some packets twice. */
static void test_two_lines(void)
{
	uint32_t stopped[2] = { 0 }, again[64] = { 0 };

	pair_open(0);
	for (uint32_t i = 0; i < KEYS + BEHIND; i++) {
		if (i < KEYS && rnd(100) >= 3)
			receive(0, i);
		for (uint32_t k = 0; k < 2; k++) {
			if (stopped[k] == 0 && rnd(3000) == 0)
				stopped[k] = 2 * QUEUE;
			if (stopped[k] ? --stopped[k] == 0 : rnd(k == 0 ? 4 : 8) == 0)
				take_all(k);
		}
		if (i >= BEHIND && rnd(100) >= 3) {
			receive_b(i - BEHIND);
			if (rnd(20) == 0)
				again[(i + 1u + rnd(60)) % 64u] = i - BEHIND + 1u;
		}
		if (again[i % 64u] != 0)
			receive_b(again[i % 64u] - 1u);
		again[i % 64u] = 0;
		hear();
	}
	for (uint32_t i = 0; i < 4; i++) {
		take_all(0);
		take_all(1);
		hear();
	}
	uint64_t want = 0;

	for (uint32_t i = 0; i < KEYS; i++) {
		if (heard[i] != carried[i]) {
			printf("key %u: carried %u, delivered %u times\n", i, carried[i], heard[i]);
			exit(1);
		}
		want += carried[i];
	}
	const struct mdbus_arena_hdr *arena = p.bed.bus.arena[1].base;
	const struct mdbus_line_channel *a = p.bed.line[0].channel.mine, *b = p.bed.line[1].channel.mine;

	printf("%llu of %u keys delivered; B: %llu packets dropped early, %llu lost by its queue\n", (unsigned long long)p.delivered,
	       KEYS, (unsigned long long)p.dropped, (unsigned long long)p.queue[1].lost);
	CHECK_U64(p.delivered, want);
	CHECK(p.dropped > KEYS / 4 && p.queue[0].lost > 0 && p.queue[1].lost > 0);
	CHECK_U64(arena->count.early_dropped, p.dropped);
	CHECK_U64(a->count.won + b->count.won, p.delivered);
	CHECK_U64(b->count.messages, p.queue[1].taken + p.dropped);
	CHECK_U64(b->count.won + b->count.duplicates, b->count.messages);
	CHECK(mdbus_hist_total(&arena->lateness) > p.dropped / 2);
	pair_close();
}

static void bring(uint32_t line, uint32_t key)
{
	if (line == 0)
		receive(0, key);
	else
		receive_b(key);
	take_all(line);
	take_all(1); /* which then knows what line A has published */
	hear();
}

/* A key is new again when it has aged, whichever line brings it first, and not before. */
static void test_age(void)
{
	pair_open(3600 * SECOND);
	bring(1, 0);
	bring(0, 1);
	bring(1, 1);
	CHECK_U64(p.dropped, 1);
	CHECK(heard[0] == 1 && heard[1] == 1);
	pair_close();
	pair_open(SECOND / 10u);
	bring(1, 0);
	bring(0, 1);
	usleep(200000);
	bring(1, 1);
	CHECK_U64(p.dropped, 0);
	CHECK(heard[0] == 1 && heard[1] == 2);
	pair_close();
}

/* Line A makes its claim to a key and dies: line B brings it, twice. */
static void test_claimed(void)
{
	struct mdbus_channel *a = &p.bed.line[0].channel;
	uint64_t pos, evicted = 0;
	uint32_t key = 1;
	bool done;

	pair_open(0);
	bring(0, 0);
	bring(1, 0);
	CHECK(mdbus_keys_claim(&a->keys, mdbus_key_hash((const uint8_t *)&key, 4), a->tail, mdbus_clock_ns(), &pos, &done,
	                       &evicted) == MDBUS_KEY_PUBLISH);
	take_all(1);
	CHECK(optiq(&p.rig.prog, key) == XDP_REDIRECT); /* and is lost in a full queue */
	bring(1, key);
	CHECK(heard[key] == 1);
	pair_close();
}

/* A process that is a lap behind goes on where the ring is. */
static void test_lapped(void)
{
	pair_open(0);
	bring(1, 0);
	for (uint32_t key = 1; key < 6000; key++) {
		receive(0, key);
		take_all(0);
		hear();
	}
	take_all(1);
	take_all(1);
	bring(0, 6000);
	bring(1, 5999);
	CHECK(p.dropped <= 1 && heard[5999] == 1);
	bring(1, 6000);
	CHECK(p.dropped >= 1 && heard[6000] == 1);
	pair_close();
}

/* Keys that cannot be read at one place. */
static void test_refused(void)
{
	struct mdbus_layout l = *mdbus_layout_builtin("optiq_key");
	struct mdbus_fixed f;
	const char *why;
	__u64 value;

	CHECK(mdbus_fixed_find_key(&l, &f, &why) == 0 && why == NULL);
	CHECK(mdbus_fixed_value(&f.seq, (const uint8_t *)"abcdefgh", 8, &value) == 0 && value == 0x68676665u);
	CHECK(mdbus_fixed_value(&f.seq, (const uint8_t *)"abcdefgh", 7, &value) == -EBADMSG);
	l.nkey = 2;
	CHECK(mdbus_fixed_find_key(&l, &f, &why) == -ENOTSUP && strstr(why, "more than one part"));
	l.nkey = 1;
	l.key[0].width = 9;
	CHECK(mdbus_fixed_find_key(&l, &f, &why) == -ENOTSUP && strstr(why, "longer than 8"));
	l.key[0].width = 4;
	l.key[0].mask = 0xff00u;
	CHECK(mdbus_fixed_find_key(&l, &f, &why) == 0);
	CHECK(mdbus_fixed_value(&f.seq, (const uint8_t *)"abcdefgh", 8, &value) == 0 && value == 0x6600u);
	l.big_endian = 1;
	CHECK(mdbus_fixed_find_key(&l, &f, &why) == 0);
	CHECK(mdbus_fixed_value(&f.seq, (const uint8_t *)"abcdefgh", 8, &value) == 0 && value == 0x6700u);
	l.hdr = 7;
	CHECK(mdbus_fixed_find_key(&l, &f, &why) == -ENOTSUP);
}

int main(void)
{
	test_refused();
	test_alone();
	test_claimed();
	test_age();
	test_lapped();
	test_two_lines();
	return 0;
}
#endif
