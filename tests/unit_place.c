/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a line begins that has no place yet, when numbers have just started again under one name: its packets may be from
 * before that, and must not be taken for numbers that are still to come.  Nor is it a restart when a session has gone on
 * by more than the window while nobody looked, or when this line is behind the one that came into the midst of it first.
 *
 * mutants: placed_at_once dead_time_is_restart behind_is_restart nobody_is_behind
 */
#include "bus_bed.h"
#include "guard.h"

#define MS      UINT64_C(1000000)
#define TIMEOUT (10u * MS)

static struct bed b;
static const char *session = "SESSION001";
static struct mdbus_sub *sub;

static void begin(void)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 2);
	struct mdbus_sub_options o = { .start = MDBUS_START_OLDEST };

	d.gap_timeout_ns = TIMEOUT;
	bed_open(&b, &d, 2, 512);
	sub = mdbus_sub_over(&b.bus, &o);
	CHECK(sub != NULL);
}

static void end(void)
{
	mdbus_sub_close(sub);
	bed_close(&b);
}

/* Messages [first, next) one by one, on one line; salt tells the runs of numbers apart. */
static void send(uint32_t line, uint32_t salt, uint64_t first, uint64_t next, uint64_t now)
{
	struct bed_mold m = { .seq = first, .count = 1, .salt = salt };
	uint8_t bytes[512];

	memcpy(m.session, session, sizeof(m.session));
	for (; m.seq < next; m.seq++)
		CHECK(bed_packet(&b, line, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), now) == MDBUS_DECODE_OK);
}

/* The process of a line dies and another one begins. */
static void start_again(uint32_t line)
{
	struct bed_line *l = &b.line[line];

	CHECK(mdbus_channel_init(&l->channel, &l->bus, 0, line, &l->holds) == 0);
}

static void tick(uint64_t from, uint64_t to)
{
	for (uint64_t now = from; now <= to; now += MS)
		for (uint32_t k = 0; k < 2; k++)
			mdbus_channel_tick(&b.line[k].channel, now);
}

static struct {
	uint32_t data, resets, overruns;
	uint64_t epoch, last, gaps;
} seen;

/* Everything there is, whole and of its run: run n is epoch n. */
static void read_all(void)
{
	struct mdbus_record r;
	uint8_t buf[256], body[256];

	while (mdbus_sub_read(sub, &r, buf, sizeof(buf))) {
		seen.data += r.kind == MDBUS_RECORD_DATA;
		seen.gaps += r.kind == MDBUS_RECORD_GAP ? r.count : 0;
		seen.resets += r.kind == MDBUS_RECORD_RESET;
		seen.overruns += r.kind == MDBUS_RECORD_OVERRUN;
		seen.epoch = r.epoch;
		if (r.kind != MDBUS_RECORD_DATA)
			continue;
		seen.last = r.seq;
		CHECK(r.len == bed_mold_message(r.seq, (uint32_t)r.epoch, body) && memcmp(body, buf, r.len) == 0);
	}
}

/*
 * Line 1's process is new; the first eleven that it has were sent before the restart that line 0 has seen.  Where those can
 * still come they do: `kept` of them.
 */
static void test_old_packets_wait(uint64_t lag, uint32_t kept)
{
	begin();
	memset(&seen, 0, sizeof(seen));
	send(0, 1, 1, 1001, MS);
	send(0, 2, 1, 31, 2 * MS);
	CHECK(mdbus_gen_newest(b.line[0].channel.ring.hdr) == 2);
	tick(2 * MS, 2 * MS + lag);
	send(1, 1, 1001, 1012, 2 * MS + lag);
	send(1, 2, 1, 31, 2 * MS + lag);
	send(0, 2, 31, 1101, 3 * MS + lag);
	send(1, 2, 31, 1101, 3 * MS + lag);
	tick(3 * MS + lag, 3 * MS + lag + 3 * TIMEOUT);
	read_all();
	CHECK_U64(seen.epoch, 2);
	CHECK_U64(seen.resets, 1);
	CHECK_U64(seen.last, 1100);
	CHECK_U64(seen.data, 1000 + kept + 1100);
	CHECK_U64(seen.gaps + seen.overruns, 0);
	end();
}

/*
 * Line 0 ends after the restart; line 1 is far ahead of where it ended, now (soon or late), and goes on.  Its queue was empty
 * at emptied_ns, if not 0.
 */
static void test_new_packets_come(uint64_t after, uint64_t emptied_ns, uint32_t kept_least)
{
	begin();
	b.line[1].channel.emptied_ns = emptied_ns ? &emptied_ns : NULL;
	memset(&seen, 0, sizeof(seen));
	send(0, 1, 1, 1001, MS);
	send(0, 2, 1, 31, 2 * MS);
	b.bus.dir->line_state[0] = MDBUS_LINE_DOWN;
	for (uint64_t i = 0; i < 100; i++) {
		send(1, 2, 501 + i, 502 + i, 2 * MS + after + i * MS);
		tick(2 * MS + after + i * MS, 2 * MS + after + i * MS);
	}
	tick(2 * MS + after + 100 * MS, 2 * MS + after + 100 * MS + 3 * TIMEOUT);
	read_all();
	CHECK_U64(seen.epoch, 2);
	CHECK_U64(seen.last, 600);
	CHECK(seen.data >= 1000 + 30 + kept_least);
	CHECK_U64(seen.data + seen.gaps, 1000 + 600);
	end();
}

/* All lines are dead while a session goes on by n numbers, far or near: those are a gap, and nothing has begun anew. */
static void test_dead_for_long(uint64_t n)
{
	uint64_t back = 1001 + n;

	begin();
	memset(&seen, 0, sizeof(seen));
	for (uint32_t k = 0; k < 2; k++)
		send(k, 1, 1, 1001, MS);
	start_again(0);
	start_again(1);
	for (uint64_t i = 0; i < 2000; i++) {
		for (uint32_t k = 0; k < 2; k++)
			send(k, 1, back + i, back + i + 1u, 100 * MS + i);
		read_all();
	}
	tick(100 * MS, 100 * MS + 3 * TIMEOUT);
	read_all();
	CHECK_U64(mdbus_gen_newest(b.line[0].channel.ring.hdr), back > 1000 + 2048 ? 2 : 1);
	CHECK_U64(seen.epoch, 1);
	CHECK_U64(seen.data, 1000 + 2000);
	CHECK_U64(seen.gaps, n);
	CHECK_U64(seen.overruns, 0);
	CHECK_U64(seen.last, back + 1999);
	end();
}

/*
 * Line 1 is behind line 0, by more than reordering explains, when both come into the midst of a session: there is room for
 * `kept` of what only it has.
 */
static void test_behind(uint64_t lag, uint32_t kept)
{
	begin();
	memset(&seen, 0, sizeof(seen));
	for (uint64_t i = 0; i < 2000; i++) {
		send(0, 1, 5000 + i, 5001 + i, MS + i * 10000);
		send(1, 1, 5000 + i - lag, 5001 + i - lag, MS + i * 10000);
		read_all();
	}
	tick(21 * MS, 21 * MS + 3 * TIMEOUT);
	read_all();
	CHECK_U64(mdbus_gen_newest(b.line[0].channel.ring.hdr), 1);
	CHECK_U64(seen.epoch, 1);
	CHECK_U64(seen.data, 2000 + kept);
	CHECK_U64(seen.gaps + seen.overruns, 0);
	CHECK_U64(seen.last, 6999);
	CHECK_U64(b.line[1].channel.next_seq, 7000 - lag);
	end();
}

/* A new process on line 0 finds the next session under way, which line 1, alive, is yet to come to. */
static void test_next_session(uint64_t first)
{
	begin();
	memset(&seen, 0, sizeof(seen));
	for (uint32_t k = 0; k < 2; k++)
		send(k, 1, 1, 1001, MS);
	start_again(0);
	session = "SESSION002";
	send(0, 2, first, first + 50, 2 * MS);
	session = "SESSION001";
	send(1, 1, 1001, 1021, 3 * MS);
	session = "SESSION002";
	send(1, 2, 1, first + 200, 4 * MS);
	send(0, 2, first + 50, first + 200, 5 * MS);
	session = "SESSION001";
	tick(5 * MS, 5 * MS + 3 * TIMEOUT);
	read_all();
	CHECK_U64(seen.resets, 1);
	CHECK_U64(seen.epoch, 2);
	CHECK_U64(seen.data, 1020 + first + 199);
	CHECK_U64(seen.gaps + seen.overruns, 0);
	end();
}

/* Behind for longer than lines can be: numbers have started again. */
static void test_started_again(void)
{
	begin();
	memset(&seen, 0, sizeof(seen));
	send(0, 1, 5000, 5100, MS);
	b.bus.dir->line_state[0] = MDBUS_LINE_DOWN;
	send(1, 2, 1, 101, 2 * MS + 2 * TIMEOUT);
	tick(2 * MS + 2 * TIMEOUT, 2 * MS + 5 * TIMEOUT);
	read_all();
	CHECK_U64(seen.epoch, 2);
	CHECK_U64(seen.data, 200);
	CHECK_U64(seen.gaps + seen.overruns, 0);
	end();
}

int main(void)
{
	test_dead_for_long(500);
	test_dead_for_long(2200);
	test_dead_for_long(100000);
	test_dead_for_long(UINT64_C(1) << 40);
	test_behind(10, 10);
	test_behind(65, 65);
	test_behind(500, 500);
	test_behind(900, 512);
	test_next_session(1);
	test_next_session(40);
	test_next_session(400);
	test_started_again();
	test_old_packets_wait(0, 11);
	test_old_packets_wait(TIMEOUT / 2u, 11);
	test_old_packets_wait(TIMEOUT + TIMEOUT / 2u, 0);
	test_new_packets_come(3 * TIMEOUT, 0, 100);
	test_new_packets_come(TIMEOUT, 0, 100 - 11); /* the last of those that had to wait were kept */
	test_new_packets_come(TIMEOUT, 2 * MS, 100 - 11);
	test_new_packets_come(TIMEOUT, 2 * MS + TIMEOUT, 100); /* none can be from before the restart */
	puts("a line without a place is not put where its packets are not of");
	return 0;
}
