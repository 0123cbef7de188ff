/* SPDX-License-Identifier: Apache-2.0
 * mutants: skip_recheck
 *
 * unit_subscriber.c - the reader's promises: exact overruns, late joins, views that say when they are stale, each record once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus_bed.h"

#define CHECK(x)                                                                         \
	do {                                                                             \
		if (!(x)) {                                                              \
			printf("%s:%d: %s\n", __func__, __LINE__, #x);                   \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

#define DEPTH 1024u

static struct bed b;
static uint64_t now = 1000000000;

static void open_bus(uint32_t nline, uint32_t nframes)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", nline);

	d.depth = DEPTH;
	d.window = DEPTH / 2;
	d.reorder_window = 8;
	bed_open(&b, &d, nline, nframes);
}

static void tick(void)
{
	for (uint32_t k = 0; k < b.nline; k++)
		mdbus_channel_tick(&b.line[k].channel, now);
}

static void send(uint32_t line, const char *session, uint64_t seq, uint32_t salt)
{
	uint8_t bytes[2048];
	struct bed_mold m = { .seq = seq, .count = 1, .salt = salt };

	snprintf(m.session, sizeof(m.session), "%-10s", session);
	now += 1000;
	bed_packet(&b, line, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), now);
	tick();
}

static struct mdbus_sub *subscribe(enum mdbus_sub_start start, bool unordered)
{
	struct mdbus_sub_options o = { .start = start, .unordered = unordered };
	struct mdbus_sub *s = mdbus_sub_over(&b.bus, &o);

	CHECK(s != NULL);
	return s;
}

static void is_message(const struct mdbus_record *r, uint64_t epoch, uint64_t seq, uint32_t salt)
{
	uint8_t body[256];

	CHECK(r->kind == MDBUS_RECORD_DATA && r->epoch == epoch && r->seq == seq);
	CHECK(r->len == bed_mold_message(seq, salt, body) && memcmp(r->data, body, r->len) == 0);
}

/* Delivered, lost and still to come must add up, and what comes after the loss must follow on from it. */
static void overrun_is_exact(uint64_t messages)
{
	struct mdbus_record r;
	uint64_t lost = 0, got = 0, next = 11;

	open_bus(1, 4096);
	struct mdbus_sub *s = subscribe(MDBUS_START_HEAD, false);

	for (uint64_t seq = 1; seq <= messages; seq++) {
		send(0, "S", seq, 1);
		if (seq <= 10) {
			CHECK(mdbus_sub_next(s, &r));
			is_message(&r, 1, seq, 1);
		}
	}
	while (mdbus_sub_next(s, &r)) {
		if (r.kind == MDBUS_RECORD_OVERRUN) {
			CHECK(r.seq == next);
			lost += r.count;
			next += r.count;
			continue;
		}
		is_message(&r, 1, next++, 1);
		got++;
	}
	CHECK(10 + got + lost == messages && next == messages + 1);
	CHECK((lost > 0) == (messages > DEPTH + 10) && lost == mdbus_sub_overruns(s));
	mdbus_sub_close(s);
	bed_close(&b);
}

/* Lapped across session ends: positions that no record ever used are not counted as lost. */
static void overrun_across_sessions(void)
{
	struct mdbus_record r;
	uint64_t lost = 0, records = 0;
	char name[16];

	open_bus(1, 4096);
	struct mdbus_sub *s = subscribe(MDBUS_START_HEAD, false);

	for (uint32_t e = 0; e < 7; e++) {
		snprintf(name, sizeof(name), "S%u", e);
		for (uint64_t seq = 1; seq <= 200; seq++)
			send(0, name, seq, e + 1);
	}
	CHECK(mdbus_sub_next(s, &r) && r.kind == MDBUS_RECORD_OVERRUN && r.seq == 1 && r.epoch == 1);
	lost = r.count;
	while (mdbus_sub_next(s, &r)) {
		CHECK(r.kind == MDBUS_RECORD_DATA || r.kind == MDBUS_RECORD_RESET);
		if (r.kind == MDBUS_RECORD_DATA)
			is_message(&r, r.epoch, r.seq, (uint32_t)r.epoch);
		records++;
	}
	CHECK(r.epoch == 7 && lost + records == 7 * 200 + 6);
	mdbus_sub_close(s);
	bed_close(&b);
}

static void late_joins(void)
{
	struct mdbus_record r;
	uint64_t first = 0, seq;

	open_bus(1, 4096);
	struct mdbus_sub *early = subscribe(MDBUS_START_HEAD, false);

	for (seq = 1; seq <= 300; seq++)
		send(0, "S", seq, 1);
	struct mdbus_sub *head = subscribe(MDBUS_START_HEAD, false), *oldest = subscribe(MDBUS_START_OLDEST, false);

	CHECK(mdbus_sub_next(early, &r) && r.seq == 1);
	CHECK(!mdbus_sub_next(head, &r));
	CHECK(mdbus_sub_lag(early) == 299 && mdbus_sub_lag(head) == 0);
	CHECK(mdbus_sub_next(oldest, &r));
	is_message(&r, 1, 1, 1);
	for (; seq <= 5000; seq++)
		send(0, "S", seq, 1);
	mdbus_sub_close(oldest);
	oldest = subscribe(MDBUS_START_OLDEST, false);
	while (mdbus_sub_next(oldest, &r)) {
		CHECK(first == 0 || r.seq == first + 1);
		CHECK(first != 0 || r.seq <= 5000 - DEPTH * 3 / 4);
		first = r.seq;
		is_message(&r, 1, first, 1);
	}
	CHECK(first == 5000);
	mdbus_sub_close(early);
	mdbus_sub_close(head);
	mdbus_sub_close(oldest);
	bed_close(&b);
}

/* A view that was lapped while it was looked at says so, and the loss is told next. */
static void stale_views(void)
{
	struct mdbus_record r, again;

	open_bus(1, 4096);
	struct mdbus_sub *s = subscribe(MDBUS_START_HEAD, false);

	for (uint64_t seq = 1; seq <= 5; seq++)
		send(0, "S", seq, 1);
	CHECK(mdbus_sub_next(s, &r) && mdbus_sub_valid(s, &r));
	CHECK(mdbus_sub_next(s, &r) && r.seq == 2);
	for (uint64_t seq = 6; seq <= DEPTH + 200; seq++)
		send(0, "S", seq, 1);
	CHECK(!mdbus_sub_valid(s, &r));
	CHECK(mdbus_sub_next(s, &again) && again.kind == MDBUS_RECORD_OVERRUN && again.seq == 2);
	mdbus_sub_close(s);
	bed_close(&b);
}

/* A frame taken back before it was read is reported as lost, never read. */
static void expired(void)
{
	struct mdbus_record r;
	uint64_t lost = 0, got = 0, next = 1;
	uint8_t buf[256];

	open_bus(1, 32); /* every fifth message is by reference: far more than 32 frames in a lap */
	struct mdbus_sub *s = subscribe(MDBUS_START_HEAD, false);

	for (uint64_t seq = 1; seq <= 500; seq++)
		send(0, "S", seq, 1);
	while (mdbus_sub_read(s, &r, buf, sizeof(buf))) {
		CHECK(r.seq == next);
		if (r.kind == MDBUS_RECORD_OVERRUN) {
			CHECK(r.count == 1);
			lost++;
		} else {
			is_message(&r, 1, next, 1);
			got++;
		}
		next++;
	}
	CHECK(lost > 0 && got > 0 && lost + got == 500);
	mdbus_sub_close(s);
	bed_close(&b);
}

/* How long a look takes that finds nothing, after n messages were read: the best of some tries. */
static uint64_t idle_look(struct mdbus_sub *s, uint64_t *seq, uint64_t n)
{
	uint64_t best = UINT64_MAX;
	struct mdbus_record r;

	for (int tries = 0; tries < 10; tries++) {
		for (uint64_t i = 0; i < n; i++)
			send(0, "S", ++*seq, 1);
		for (uint64_t i = 0; i < n; i++) {
			CHECK(mdbus_sub_next(s, &r));
			is_message(&r, 1, *seq - n + i + 1u, 1);
		}
		uint64_t begin = mdbus_clock_ns();

		CHECK(!mdbus_sub_next(s, &r));
		begin = mdbus_clock_ns() - begin;
		best = begin < best ? begin : best;
	}
	return best;
}

/* Who reads in bulk rests after a burst, and not where messages come singly; others never do. */
static void bulk_rests(void)
{
	uint64_t seq = 0;

	open_bus(1, 4096);
	for (int bulk = 0; bulk < 2; bulk++) {
		struct mdbus_sub *s = mdbus_sub_over(&b.bus, &(struct mdbus_sub_options){ .bulk = bulk });

		CHECK(s != NULL);
		uint64_t burst = idle_look(s, &seq, 300), single = idle_look(s, &seq, 1);

		CHECK((burst > 5u * single) == (bulk != 0));
		mdbus_sub_close(s);
	}
	bed_close(&b);
}

/* The unordered view shows what lies beyond a hole at once, and each record once. */
static void beyond_a_hole(void)
{
	struct mdbus_record r;
	uint8_t seen[64] = { 0 };

	open_bus(2, 4096);
	struct mdbus_sub *plain = subscribe(MDBUS_START_HEAD, false), *s = subscribe(MDBUS_START_HEAD, true);

	for (uint64_t seq = 1; seq <= 20; seq++)
		if (seq != 5 && seq != 6 && seq != 9)
			send(0, "S", seq, 1);
	send(1, "S", 1, 1);
	for (int n = 0; n < 17; n++) {
		CHECK(mdbus_sub_next(s, &r) && (r.ahead != 0) == (r.seq > 5));
		is_message(&r, 1, r.seq, 1);
		CHECK(seen[r.seq]++ == 0);
	}
	CHECK(!mdbus_sub_next(s, &r));
	for (uint64_t seq = 1; seq <= 4; seq++)
		CHECK(mdbus_sub_next(plain, &r) && r.seq == seq);
	CHECK(!mdbus_sub_next(plain, &r));
	send(1, "S", 5, 1); /* one hole is filled, the others are declared */
	now += 20000000;
	tick();
	now += 20000000;
	tick();
	CHECK(mdbus_sub_next(s, &r) && r.seq == 5 && r.ahead == 0);
	is_message(&r, 1, 5, 1);
	CHECK(mdbus_sub_next(s, &r) && r.kind == MDBUS_RECORD_GAP && r.seq == 6);
	CHECK(mdbus_sub_next(s, &r) && r.kind == MDBUS_RECORD_GAP && r.seq == 9);
	CHECK(!mdbus_sub_next(s, &r));
	for (uint64_t seq = 5; seq <= 20; seq++)
		CHECK(mdbus_sub_next(plain, &r) && r.seq == seq);
	send(0, "S", 21, 1);
	CHECK(mdbus_sub_next(s, &r) && r.seq == 21 && r.ahead == 0);
	mdbus_sub_close(plain);
	mdbus_sub_close(s);
	bed_close(&b);
}

/* The same view lapped while a hole was open: it has lost what it has not had, and gets nothing again that it has. */
static void lapped_beyond_a_hole(void)
{
	static uint8_t seen[4 * DEPTH];
	struct mdbus_record r;
	uint64_t got = 0, lost = 0;

	open_bus(2, 1024);
	struct mdbus_sub *s = subscribe(MDBUS_START_OLDEST, true);

	memset(seen, 0, sizeof(seen));
	for (uint64_t seq = 1; seq <= DEPTH / 2u - 10u; seq++)
		if (seq != 5)
			send(0, "S", seq, 1);
	while (mdbus_sub_next(s, &r))
		got += seen[r.seq]++ == 0;
	CHECK(got == DEPTH / 2u - 11u);
	send(1, "S", 5, 1);
	for (uint64_t seq = DEPTH / 2u - 9u; seq <= DEPTH + 20u; seq++)
		send(0, "S", seq, 1);
	for (; mdbus_sub_next(s, &r); got += r.kind == MDBUS_RECORD_DATA) {
		lost += r.kind == MDBUS_RECORD_OVERRUN ? r.count : 0;
		CHECK(r.kind == MDBUS_RECORD_OVERRUN || seen[r.seq]++ == 0);
	}
	CHECK(lost == 1 && got == DEPTH + 19u);
	mdbus_sub_close(s);
	bed_close(&b);
}

/* A sleeper comes back by itself, and a doorbell without a seat asleep costs nothing. */
static void sleeping(void)
{
	uint64_t before;

	open_bus(1, 64);
	struct mdbus_sub *s = subscribe(MDBUS_START_HEAD, false);
	struct mdbus_seat_hdr *seat = b.bus.seat[0].base;

	before = mdbus_clock_ns();
	mdbus_sub_wait(s, 1000000);
	CHECK(mdbus_clock_ns() - before >= 1000000 && seat->count.sleeps == 1 && seat->sleeping == 0);
	send(0, "S", 1, 1);
	mdbus_sub_wait(s, 1000000000); /* something is there: does not sleep */
	CHECK(seat->count.sleeps == 1);
	mdbus_sub_close(s);
	bed_close(&b);
}

int main(void)
{
	overrun_is_exact(DEPTH);
	overrun_is_exact(DEPTH + 11);
	overrun_is_exact(DEPTH * 3 + 77);
	overrun_is_exact(DEPTH * 20);
	overrun_across_sessions();
	late_joins();
	stale_views();
	expired();
	bulk_rests();
	beyond_a_hole();
	lapped_beyond_a_hole();
	sleeping();
	printf("overruns exact, joins placed, stale views told, holes looked beyond\n");
	return 0;
}
