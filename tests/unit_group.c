/* SPDX-License-Identifier: Apache-2.0
 * mutants: group_ignored
 *
 * unit_group.c - several NIC queues of one line are one line to the gap rule.
 *
 * Line A has two queues, A and A2, and the channel's packets come on A2 only; B is a line of its own.  What A never sees must
 * hold nothing up, and what neither queue has passed must still be waited for.
 */
#include <stdio.h>
#include <stdlib.h>
#include "bus_bed.h"

#define CHECK(x)                                                                         \
	do {                                                                             \
		if (!(x)) {                                                              \
			printf("%s: %s:%d: %s\n", doing, __func__, __LINE__, #x);       \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

enum { A, A2, B, LINES };

static const char *doing = "";
static uint64_t now = 1000000000;
static struct bed bed;
static struct mdbus_sub *sub;

static void begin(const char *what)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", LINES);

	doing = what;
	bed_open(&bed, &d, LINES, 1024);
	bed.bus.dir->line[A2].group = A;
	sub = mdbus_sub_over(&bed.bus, NULL);
}

static void end(void)
{
	mdbus_sub_close(sub);
	bed_close(&bed);
}

static void tick(uint64_t ns)
{
	now += ns;
	for (uint32_t k = 0; k < LINES; k++)
		mdbus_channel_tick(&bed.line[k].channel, now);
}

static void send(uint32_t line, const char *session, uint64_t seq)
{
	uint8_t bytes[2048];
	struct bed_mold m = { .seq = seq, .count = 1 };

	snprintf(m.session, sizeof(m.session), "%-10s", session);
	bed_packet(&bed, line, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), now);
	tick(1000);
}

/* Messages from..to on one line, all but `hole`. */
static void run(uint32_t line, uint64_t from, uint64_t to, uint64_t hole)
{
	for (uint64_t seq = from; seq <= to; seq++) {
		if (seq != hole)
			send(line, "S", seq);
	}
}

static void expect(uint32_t kind, uint64_t from, uint64_t to)
{
	struct mdbus_record r;

	for (uint64_t seq = from; seq <= to; seq++)
		CHECK(mdbus_sub_next(sub, &r) && r.kind == kind && r.seq == seq);
}

static void expect_none(void)
{
	struct mdbus_record r;

	CHECK(!mdbus_sub_next(sub, &r));
}

/* Lost on both lines: a gap as soon as A2 and B are past it, whatever A has not seen. */
static void lost_on_both(void)
{
	begin(__func__);
	run(A2, 1, 200, 50);
	expect(MDBUS_RECORD_DATA, 1, 49);
	expect_none(); /* B may still bring it */
	run(B, 1, 100, 50);
	expect_none(); /* and is not past it by the reorder window yet */
	run(B, 101, 200, 0);
	expect(MDBUS_RECORD_GAP, 50, 50);
	expect(MDBUS_RECORD_DATA, 51, 200);
	end();
}

/* A queue that is behind the other holds nothing up either; and what it brings before the gap fills the hole. */
static void behind_its_sibling(void)
{
	begin(__func__);
	run(A, 1, 10, 0);
	run(A2, 11, 200, 50);
	send(A, "S", 50);
	run(B, 1, 120, 50);
	run(A2, 201, 300, 250);
	run(B, 121, 320, 250);
	expect(MDBUS_RECORD_DATA, 1, 249);
	expect_none();
	run(A2, 301, 320, 0);
	expect(MDBUS_RECORD_GAP, 250, 250);
	expect(MDBUS_RECORD_DATA, 251, 320);
	end();
}

/* The group is waited for while one of its queues lives, and not when none does. */
static void death(void)
{
	begin(__func__);
	run(A2, 1, 40, 0);
	bed.bus.dir->line_state[A2] = MDBUS_LINE_DOWN;
	run(B, 1, 200, 50);
	expect(MDBUS_RECORD_DATA, 1, 49);
	expect_none();
	bed.bus.dir->line_state[A] = MDBUS_LINE_DOWN;
	tick(1000);
	expect(MDBUS_RECORD_GAP, 50, 50);
	expect(MDBUS_RECORD_DATA, 51, 200);
	bed.bus.dir->line_state[A] = MDBUS_LINE_UP;
	run(B, 201, 400, 250);
	expect(MDBUS_RECORD_DATA, 201, 249);
	expect_none();
	for (int i = 0; i < 2; i++) /* the clock notes passing eight times per timeout only */
		tick(bed.bus.dir->channel[0].gap_timeout_ns);
	expect(MDBUS_RECORD_GAP, 250, 250);
	end();
}

/* A session ends for the group when it ends on the queue that has it. */
static void session_change(void)
{
	begin(__func__);
	run(A2, 1, 100, 0);
	run(B, 1, 100, 0);
	for (uint64_t seq = 1; seq <= 5; seq++)
		send(A2, "NEW", seq);
	expect(MDBUS_RECORD_DATA, 1, 100);
	expect_none();
	for (uint64_t seq = 1; seq <= 5; seq++)
		send(B, "NEW", seq);
	expect(MDBUS_RECORD_RESET, 101, 101);
	expect(MDBUS_RECORD_DATA, 1, 5);
	end();
}

/* The same forgery on both queues of one line is one witness; on both lines it is two. */
static void agreement(void)
{
	begin(__func__);
	run(A2, 1, 100, 0);
	run(A, 101, 101, 0);
	run(B, 1, 101, 0);
	send(A, "S", 90000);
	send(A2, "S", 90001);
	run(A2, 102, 110, 0);
	run(B, 102, 110, 0);
	expect(MDBUS_RECORD_DATA, 1, 110);
	send(A, "S", 90000);
	CHECK(bed.line[A].channel.mine->count.jumps == 0 && bed.line[A2].channel.mine->count.jumps == 0);
	send(B, "S", 90001);
	CHECK(bed.line[B].channel.mine->count.jumps == 1);
	end();
}

int main(void)
{
	lost_on_both();
	behind_its_sibling();
	death();
	session_change();
	agreement();
	printf("queues of one line count as one\n");
	return 0;
}
