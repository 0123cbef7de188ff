/* SPDX-License-Identifier: Apache-2.0
 * mutants: no_window
 *
 * unit_attack.c - forged and broken numbers: after each, no slot is poisoned and the stream goes on.
 *
 * Two lines carry a stream; between any two of its packets one forged packet is put in on one line: far ahead, at the edges of
 * the number space, of another session, behind with other bytes.  What subscribers see must be exactly the true stream.
 * Then the jumps and restarts that are true, which must be believed after agreement, and lose nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include "bus_bed.h"

#define CHECK(x)                                                                         \
	do {                                                                             \
		if (!(x)) {                                                              \
			printf("%s:%d: %s\n", __func__, __LINE__, #x);                   \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

#define SALT   1u
#define FORGED 99u

static uint64_t now = 1000000000;

static void send(struct bed *b, uint32_t line, const char *session, uint64_t seq, uint32_t count, uint32_t salt)
{
	uint8_t bytes[2048];
	struct bed_mold m = { .seq = seq, .count = count, .salt = salt };

	snprintf(m.session, sizeof(m.session), "%-10s", session);
	now += 1000;
	bed_packet(b, line, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), now);
	for (uint32_t k = 0; k < b->nline; k++)
		mdbus_channel_tick(&b->line[k].channel, now);
}

/* The next record must be message seq of `epoch` with the true bytes. */
static void expect(struct mdbus_sub *s, uint64_t epoch, uint64_t seq, uint32_t salt)
{
	struct mdbus_record r;
	uint8_t buf[256], body[256];

	CHECK(mdbus_sub_read(s, &r, buf, sizeof(buf)));
	CHECK(r.kind == MDBUS_RECORD_DATA && r.epoch == epoch && r.seq == seq);
	CHECK(r.len == bed_mold_message(seq, salt, body) && memcmp(buf, body, r.len) == 0);
}

static void expect_kind(struct mdbus_sub *s, uint32_t kind, uint64_t seq, uint64_t count)
{
	struct mdbus_record r;

	CHECK(mdbus_sub_next(s, &r));
	CHECK(r.kind == kind && r.seq == seq && r.count == count);
}

static void expect_none(struct mdbus_sub *s)
{
	struct mdbus_record r;

	CHECK(!mdbus_sub_next(s, &r));
}

static struct mdbus_sub *open_bus(struct bed *b, uint32_t nline)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", nline);

	bed_open(b, &d, nline, 1024);
	return mdbus_sub_over(&b->bus, NULL);
}

static uint64_t rng = 7;

static uint64_t rnd(uint64_t n)
{
	rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (rng >> 20) % n;
}

/* One packet that no exchange sent, for a stream whose next number is `next`. */
static void forge(struct bed *b, uint64_t next)
{
	static const uint64_t edge[] = { 0, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 48, UINT64_C(1) << 44,
	                                 (UINT64_C(1) << 44) - 1, UINT64_C(0xffffffff), UINT64_C(0x100000000) };
	/* one line at a time: the same forgery on both lines is what agreement looks like */
	uint32_t line = (uint32_t)(next / 1000 % b->nline), count = (uint32_t)rnd(4);

	switch (rnd(5)) {
	case 0: /* ahead beyond the window */
		send(b, line, "S", next + 2048 + rnd(UINT64_C(1) << 40), count, FORGED);
		break;
	case 1:
		send(b, line, "S", edge[rnd(sizeof(edge) / sizeof(edge[0]))], count, FORGED);
		break;
	case 2: /* another session */
		send(b, line, "FORGED", rnd(2) ? 1 : next, count, FORGED);
		break;
	case 3: /* behind, with other bytes */
		send(b, line, "S", 1 + rnd(next), count, FORGED);
		break;
	case 4: /* the end of time */
		send(b, line, "S", next + 4096 + rnd(1000000), 0xffff, FORGED);
		break;
	}
}

static void single_forgeries(void)
{
	static struct bed b;
	struct mdbus_sub *s = open_bus(&b, 2);

	for (uint64_t seq = 1; seq < 20000; seq++) {
		send(&b, seq & 1, "S", seq, 1, SALT);
		send(&b, !(seq & 1), "S", seq, 1, SALT);
		expect(s, 1, seq, SALT);
		if (rnd(3) == 0)
			forge(&b, seq + 1);
		expect_none(s);
	}
	CHECK(b.line[0].channel.mine->count.jumps == 0 && b.line[0].channel.mine->count.restarts == 0);
	CHECK(b.line[0].channel.mine->count.out_of_window + b.line[1].channel.mine->count.out_of_window > 100);
	mdbus_sub_close(s);
	bed_close(&b);
}

static void true_jump(uint64_t by)
{
	static struct bed b;
	struct mdbus_sub *s = open_bus(&b, 1);
	uint64_t missing = 0;
	struct mdbus_record r;

	for (uint64_t seq = 1; seq <= 100; seq++)
		send(&b, 0, "S", seq, 1, SALT);
	for (uint64_t seq = 101 + by; seq < 200 + by; seq++)
		send(&b, 0, "S", seq, 1, SALT);
	now += 100000000;
	mdbus_channel_tick(&b.line[0].channel, now);
	for (uint64_t seq = 1; seq <= 100; seq++)
		expect(s, 1, seq, SALT);
	while (missing < by) {
		CHECK(mdbus_sub_next(s, &r) && r.kind == MDBUS_RECORD_GAP && r.seq == 101 + missing);
		missing += r.count;
		for (int i = 0; i < 4; i++)
			mdbus_channel_tick(&b.line[0].channel, now += 10000000);
	}
	CHECK(missing == by);
	for (uint64_t seq = 101 + by; seq < 200 + by; seq++)
		expect(s, 1, seq, SALT);
	expect_none(s);
	mdbus_sub_close(s);
	bed_close(&b);
}

/* Session changes seen by one line first; the other brings the tail of the old one, which must not be lost. */
static void slow_tail(void)
{
	static struct bed b;
	struct mdbus_sub *s = open_bus(&b, 2);

	for (uint64_t seq = 1; seq <= 100; seq++) {
		send(&b, 0, "OLD", seq, 1, SALT);
		if (seq <= 80)
			send(&b, 1, "OLD", seq, 1, SALT);
	}
	for (uint64_t seq = 1; seq <= 5; seq++)
		send(&b, 0, "NEW", seq, 1, 2);
	for (uint64_t seq = 1; seq <= 100; seq++)
		expect(s, 1, seq, SALT);
	expect_none(s);
	for (uint64_t seq = 81; seq <= 110; seq++)
		send(&b, 1, "OLD", seq, 1, SALT);
	for (uint64_t seq = 101; seq <= 110; seq++)
		expect(s, 1, seq, SALT);
	expect_none(s);
	for (uint64_t seq = 1; seq <= 7; seq++)
		send(&b, 1, "NEW", seq, 1, 2);
	expect_kind(s, MDBUS_RECORD_RESET, 111, 1);
	for (uint64_t seq = 1; seq <= 7; seq++)
		expect(s, 2, seq, 2);
	/* a line that still lives in the old session disturbs nobody */
	for (uint64_t seq = 101; seq <= 130; seq++)
		send(&b, 0, "OLD", seq, 1, SALT);
	for (uint64_t seq = 8; seq <= 40; seq++) {
		send(&b, 1, "NEW", seq, 1, 2);
		expect(s, 2, seq, 2);
	}
	expect_none(s);
	mdbus_sub_close(s);
	bed_close(&b);
}

/* The bus comes in midstream, the second line later still: what was before is history, not a gap. */
static void midstream(void)
{
	static struct bed b;
	struct mdbus_sub *s = open_bus(&b, 2);

	send(&b, 1, "S", 5000, 1, SALT);
	memset(&b.line[0].channel.resolver, 0, sizeof(b.line[0].channel.resolver));
	mdbus_resolver_init(&b.line[0].channel.resolver, &b.line[0].bus, 0, 0);
	for (uint64_t seq = 4990; seq < 5200; seq++) {
		if (seq > 5000)
			send(&b, 1, "S", seq, 1, SALT);
		send(&b, 0, "S", seq, 1, SALT);
	}
	for (uint64_t seq = 4990; seq < 5200; seq++)
		expect(s, 1, seq, SALT);
	expect_none(s);
	mdbus_sub_close(s);
	bed_close(&b);
}

int main(void)
{
	midstream();
	single_forgeries();
	true_jump(1);
	true_jump(1500);
	true_jump(59779);
	true_jump(UINT64_C(1) << 40);
	slow_tail();
	printf("forged numbers refused, true ones believed\n");
	return 0;
}
