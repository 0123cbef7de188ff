/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking for what is missing: which requests go out for which holes, on a clock and socket of the test's own; and
 * what the bus makes of a recovery line: gaps wait for it while it lives, and its packets fill holes and do nothing
 * else.
 *
 * mutants: recover_no_retry gap_before_recovery
 */
#include "../bus/mold.h"
#include "../ingest/recover_ask.h"
#include "bus_bed.h"
#include "guard.h"

#define MS UINT64_C(1000000)

/* ---- the fake socket ---------------------------------------------------------------------------------------- */

struct request {
	uint32_t server;
	uint64_t first;
	uint32_t count;
};

static struct request sent[4096];
static uint32_t nsent;
static struct mdbus_ask_limits limits;
static struct mdbus_ask_counts counts;
static struct mdbus_ask ask;

static void record(void *arg, uint32_t server, uint64_t first, uint16_t count)
{
	CHECK(arg == &ask && nsent < 4096);
	sent[nsent++] = (struct request){ server, first, count };
}

static void begin(uint32_t nserver)
{
	limits = (struct mdbus_ask_limits){
		.rate = 1000000, .max = 100, .retry_ns = 10 * MS, .backoff_max_ns = 60 * MS, .nserver = nserver,
	};
	counts = (struct mdbus_ask_counts){ 0 };
	ask = (struct mdbus_ask){ .limits = &limits, .counts = &counts, .send = record, .arg = &ask };
	nsent = 0;
}

/* These holes, at this time: what goes out is sent[0..nsent). */
static void tick(uint64_t now, const struct mdbus_hole *holes, uint32_t n)
{
	nsent = 0;
	mdbus_ask_tick(&ask, holes, n, now);
}

static void tick_one(uint64_t now, uint64_t first, uint64_t next)
{
	struct mdbus_hole h = { first, next };

	tick(now, &h, 1);
}

#define CHECK_SENT(i, server_, first_, count_)                  \
	do {                                                    \
		CHECK_U64(sent[i].server, server_);             \
		CHECK_U64(sent[i].first, first_);               \
		CHECK_U64(sent[i].count, count_);               \
	} while (0)

/* ---- requests ----------------------------------------------------------------------------------------------- */

static void test_bytes(void)
{
	static const uint8_t want[20] = { 'S', 'E', 'S', 'S', 'I', 'O', 'N', ' ', ' ', '1',
		                          1, 2, 3, 4, 5, 6, 7, 8, 0xab, 0xcd };
	struct mdbus_mold_request r = { .first = UINT64_C(0x0102030405060708), .count = 0xabcd }, back;
	uint8_t bytes[20];

	memcpy(r.session, "SESSION  1", 10);
	mdbus_mold_put(bytes, &r);
	CHECK(memcmp(bytes, want, 20) == 0);
	CHECK(mdbus_mold_get(guard_put(bytes, 20), 20, &back));
	CHECK(memcmp(back.session, r.session, 10) == 0 && back.first == r.first && back.count == r.count);
	CHECK(!mdbus_mold_get(guard_put(bytes, 19), 19, &back) && !mdbus_mold_get(guard_put(bytes, 0), 0, &back));
	CHECK(!mdbus_mold_get(bytes, 21, &back));
	for (size_t i = 0; mdbus_layout_builtin_at(i); i++) {
		const struct mdbus_layout *l = mdbus_layout_builtin_at(i);

		CHECK(mdbus_mold_layout(l) == (strcmp(l->name, "moldudp64") == 0));
	}
}

static void test_holes(void)
{
	struct mdbus_hole h[3];
	uint32_t n = 0;

	CHECK(mdbus_hole_add(h, &n, 3, 1) && mdbus_hole_add(h, &n, 3, 2) && mdbus_hole_add(h, &n, 3, 11));
	CHECK(n == 1 && h[0].first == 1 && h[0].next == 12); /* 3 to 10 are asked for along with them */
	CHECK(mdbus_hole_add(h, &n, 3, 21));
	CHECK(n == 2 && h[1].first == 21 && h[1].next == 22);
	CHECK(mdbus_hole_add(h, &n, 3, 100) && !mdbus_hole_add(h, &n, 3, 200) && mdbus_hole_add(h, &n, 3, 101));
	CHECK(n == 3 && h[2].first == 100 && h[2].next == 102);
}

static void test_once(void)
{
	const struct mdbus_hole h[] = { { 10, 20 }, { 50, 51 }, { 200, 450 } };

	begin(1);
	tick(0, h, 3);
	CHECK_U64(nsent, 5); /* no more than 100 messages in one */
	CHECK_SENT(0, 0, 10, 10);
	CHECK_SENT(1, 0, 50, 1);
	CHECK_SENT(2, 0, 200, 100);
	CHECK_SENT(3, 0, 300, 100);
	CHECK_SENT(4, 0, 400, 50);
	tick(9 * MS, h, 3);
	CHECK_U64(nsent, 0); /* not again before its time */
	const struct mdbus_hole grown[] = { { 10, 25 }, { 49, 51 }, { 200, 450 } };

	tick(9 * MS, grown, 3);
	CHECK_U64(nsent, 2); /* only what is new */
	CHECK_SENT(0, 0, 20, 5);
	CHECK_SENT(1, 0, 49, 1);
	tick(9 * MS, NULL, 0); /* others brought it all: nothing is asked for, and nothing is expected any more */
	CHECK(nsent == 0 && ask.nopen == 0 && !mdbus_ask_answer(&ask, 10, 10, 9 * MS));
	CHECK_U64(counts.refused, 1);
}

static void test_truncated(void)
{
	begin(1);
	tick_one(0, 100, 130);
	CHECK_SENT(0, 0, 100, 30);
	CHECK(mdbus_ask_answer(&ask, 100, 12, 1 * MS));
	tick_one(1 * MS, 112, 130);
	CHECK_U64(nsent, 1); /* the rest, at once */
	CHECK_SENT(0, 0, 112, 18);
	CHECK(mdbus_ask_answer(&ask, 112, 17, 2 * MS) && mdbus_ask_answer(&ask, 129, 1, 2 * MS));
	CHECK_U64(ask.nopen, 0);
	CHECK_U64(counts.repeated, 0);
	CHECK(!mdbus_ask_answer(&ask, 129, 1, 2 * MS)); /* a second time */
}

static void test_refused(void)
{
	begin(1);
	tick_one(0, 100, 110);
	CHECK(!mdbus_ask_answer(&ask, 99, 2, 0) && !mdbus_ask_answer(&ask, 110, 1, 0) && !mdbus_ask_answer(&ask, 100, 11, 0));
	CHECK(!mdbus_ask_answer(&ask, 105, UINT32_MAX, 0) && !mdbus_ask_answer(&ask, UINT64_MAX, 1, 0) &&
	      !mdbus_ask_answer(&ask, 100, 0, 0));
	CHECK_U64(counts.refused, 6);
	CHECK(mdbus_ask_answer(&ask, 105, 5, 0)); /* a part that nobody called first is a part all the same */
	tick_one(5 * MS, 100, 105);
	CHECK_U64(nsent, 0);
	tick_one(10 * MS, 100, 105);
	CHECK_U64(nsent, 1);
	CHECK_SENT(0, 0, 100, 5);
}

/* When requests for one hole go out within `until`, to a server that is silent. */
static uint32_t times_of(uint64_t until, uint64_t *at, uint32_t max)
{
	uint32_t n = 0;

	for (uint64_t now = 0; now <= until; now += MS) {
		tick_one(now, 5, 6);
		CHECK(nsent <= 1);
		if (nsent == 1 && n < max)
			at[n++] = now / MS;
	}
	return n;
}

static void test_backoff(void)
{
	static const uint64_t want[] = { 0, 10, 30, 70, 130, 190, 250 }; /* after 10, 20, 40, then 60 ms each */
	uint64_t at[32];

	begin(1);
	CHECK_U64(times_of(300 * MS, at, 32), 7);
	for (int i = 0; i < 7; i++)
		CHECK_U64(at[i], want[i]);
	CHECK_U64(counts.repeated, 6);
	CHECK(mdbus_ask_answer(&ask, 5, 1, 300 * MS));
	tick_one(400 * MS, 7, 8); /* another hole starts afresh */
	tick_one(410 * MS, 7, 8);
	CHECK_U64(nsent, 1);
}

static void test_servers(void)
{
	const struct mdbus_hole h[] = { { 10, 20 }, { 50, 60 }, { 90, 95 } };

	begin(3);
	tick(100 * MS, h, 3);
	CHECK(nsent == 3 && sent[0].server == 0 && sent[2].server == 0);
	tick(110 * MS, h, 3); /* silence: the next one, and that one only */
	CHECK(nsent == 3 && sent[0].server == 1 && sent[1].server == 1 && sent[2].server == 1);
	CHECK(mdbus_ask_answer(&ask, 10, 10, 112 * MS));
	tick(120 * MS, h + 1, 2); /* it does answer: what it has lost it is asked for again */
	CHECK(nsent == 2 && sent[0].server == 1 && sent[1].server == 1);
	tick(129 * MS, h + 1, 2);
	CHECK_U64(nsent, 0);
	tick(130 * MS, h + 1, 2); /* then it dies */
	CHECK(nsent == 2 && sent[0].server == 2);
	tick(150 * MS, h + 1, 2); /* round the list again; the second round waits longer */
	CHECK(nsent == 2 && sent[0].server == 0);
}

static void test_rate(void)
{
	struct mdbus_hole h[60];
	uint32_t total = 0, most = 0;

	begin(1);
	limits.rate = 1000;
	limits.max = 1;
	limits.retry_ns = limits.backoff_max_ns = 5 * MS; /* far more is due than may go out */
	for (uint32_t i = 0; i < 60; i++)
		h[i] = (struct mdbus_hole){ 100 * i + 1, 100 * i + 2 };
	for (uint64_t now = 0; now < 1000 * MS; now += MS / 4) {
		tick(now, h, 60);
		total += nsent;
		most = nsent > most ? nsent : most;
	}
	CHECK(total >= 990 && total <= 1010);
	CHECK(most >= 5 && most <= 11); /* at first what 10 ms allow */
	limits.rate = 1;
	limits.due_ns = 0;
	for (uint64_t now = total = 0; now < 3000 * MS; now += 10 * MS) {
		tick(now, h, 60);
		total += nsent;
	}
	CHECK_U64(total, 3);
}

static void test_bounds(void)
{
	struct mdbus_hole h[MDBUS_ASK_OPEN_MAX + 10];

	begin(1);
	for (uint32_t i = 0; i < MDBUS_ASK_OPEN_MAX + 10; i++)
		h[i] = (struct mdbus_hole){ 100 * i + 1, 100 * i + 2 };
	tick(0, h, MDBUS_ASK_OPEN_MAX + 10);
	CHECK_U64(nsent, MDBUS_ASK_OPEN_MAX);
	CHECK(mdbus_ask_answer(&ask, 1, 1, MS));
	tick(MS, h + 1, MDBUS_ASK_OPEN_MAX + 9);
	CHECK_U64(nsent, 1); /* one has come, one more may go */
	mdbus_ask_forget(&ask);
	CHECK(!mdbus_ask_answer(&ask, 101, 1, MS));
}

/* ---- the line on the bus ------------------------------------------------------------------------------------- */

#define A 0u
#define B 1u
#define R 2u
#define TIMEOUT (10 * MS)

static struct bed bed;

static void bus_begin(void)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 3);

	d.reorder_window = 4;
	d.gap_timeout_ns = TIMEOUT;
	bed_open(&bed, &d, 3, 256);
	bed.bus.dir->line[R].recovery = 1;
	for (uint32_t k = 0; k < 3; k++)
		CHECK(mdbus_channel_init(&bed.line[k].channel, &bed.line[k].bus, 0, k, &bed.line[k].holds) == 0);
}

static void packet(uint32_t line, const char *session, uint64_t seq, uint32_t count, uint64_t now)
{
	struct bed_mold m = { .seq = seq, .count = count };
	uint8_t bytes[1500];

	snprintf(m.session, sizeof(m.session), "%-10s", session);
	CHECK(bed_packet(&bed, line, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), now) == MDBUS_DECODE_OK);
}

/* Kind of the record of number seq in the first generation, as a reader sees it; EMPTY: none yet. */
static enum mdbus_kind kind_of(uint64_t seq, uint64_t *ref)
{
	const struct mdbus_ring *ring = &bed.line[A].channel.ring;
	struct mdbus_gen g;
	uint64_t stamp;

	CHECK(mdbus_gen_get(ring->hdr, 1, &g));
	if (mdbus_ring_look(ring, g.base + seq - g.first_seq, 1, &stamp, ref) != MDBUS_LOOK_RECORD)
		return MDBUS_KIND_EMPTY;
	return mdbus_stamp_kind(stamp);
}

static bool is_data(uint64_t seq, uint64_t *ref)
{
	enum mdbus_kind kind = kind_of(seq, ref);

	return kind == MDBUS_KIND_INLINE || kind == MDBUS_KIND_REF;
}

static void tick_all(uint64_t now)
{
	for (uint32_t k = 0; k < 3; k++)
		mdbus_channel_tick(&bed.line[k].channel, now);
}

/* Both lines lose 11 and 12 and are far past them. */
static uint64_t lose_two(uint64_t now)
{
	for (uint32_t k = A; k <= B; k++) {
		packet(k, "ONE", 1, 10, now);
		packet(k, "ONE", 13, 20, now);
	}
	tick_all(now);
	return now;
}

static void test_gap_waits(void)
{
	uint64_t now = MS, ref;

	bus_begin();
	now = lose_two(now);
	CHECK(kind_of(11, &ref) == MDBUS_KIND_EMPTY);
	CHECK(bed.line[R].channel.mine->progress == 0);
	tick_all(now + TIMEOUT - MS);
	CHECK(kind_of(11, &ref) == MDBUS_KIND_EMPTY); /* it waits for R */
	packet(R, "ONE", 11, 1, now + TIMEOUT - MS);
	CHECK(is_data(11, &ref) && mdbus_ref_line(ref) == R && mdbus_ref_flags(ref) & MDBUS_REF_RETRANS);
	CHECK(is_data(10, &ref) && mdbus_ref_line(ref) == A && !(mdbus_ref_flags(ref) & MDBUS_REF_RETRANS));
	tick_all(now + TIMEOUT + MS);
	CHECK(kind_of(12, &ref) == MDBUS_KIND_GAP); /* but no longer than the timeout */
	packet(R, "ONE", 12, 1, now + TIMEOUT + MS);
	CHECK(kind_of(12, &ref) == MDBUS_KIND_GAP && bed.line[R].channel.mine->count.late == 1);
	CHECK(bed.line[R].channel.mine->progress == 0);
	bed_close(&bed);
}

static void test_gap_when_down(void)
{
	uint64_t now = MS, ref;

	bus_begin();
	now = lose_two(now);
	CHECK(kind_of(11, &ref) == MDBUS_KIND_EMPTY);
	bed.bus.dir->line_state[R] = MDBUS_LINE_DOWN; /* what mdbusd does when the process dies */
	tick_all(now + 1);
	CHECK(kind_of(11, &ref) == MDBUS_KIND_GAP && kind_of(12, &ref) == MDBUS_KIND_GAP);
	bed_close(&bed);
}

/* Its packets open no session, take part in no agreement, and lead nobody. */
static void test_follows_nothing(void)
{
	const struct mdbus_ring_hdr *ring;
	uint64_t ref;

	bus_begin();
	ring = bed.line[A].channel.ring.hdr;
	for (uint64_t i = 0; i < 20; i++)
		packet(R, "ONE", 1 + i * 5, 5, MS);
	CHECK_U64(mdbus_gen_newest(ring), 0);
	packet(A, "ONE", 1, 5, MS); /* a first number needs no agreement */
	packet(A, "ONE", 6, 5, MS);
	packet(A, "ONE", 11, 5, MS);
	CHECK_U64(mdbus_gen_newest(ring), 1);
	for (uint64_t i = 0; i < 20; i++) {
		packet(R, "TWO", 1 + i * 5, 5, 2 * MS);      /* another session */
		packet(R, "ONE", 100000 + i * 5, 5, 2 * MS); /* a jump */
	}
	CHECK(mdbus_gen_newest(ring) == 1 && bed.line[R].channel.mine->candidate_seq == 0);
	packet(A, "ONE", 100000, 5, 2 * MS); /* which R does not make true for others */
	CHECK_U64(mdbus_gen_newest(ring), 1);
	packet(A, "ONE", 16, 5, 2 * MS);
	packet(B, "ONE", 1, 20, 2 * MS);
	CHECK(is_data(20, &ref) && kind_of(21, &ref) == MDBUS_KIND_EMPTY);
	CHECK(bed.line[R].channel.mine->progress == 0);
	bed_close(&bed);
}

/* A session ends when the others have left it, whether or not R is there. */
static void test_session_ends(void)
{
	uint64_t ref;

	bus_begin();
	for (uint32_t k = A; k <= B; k++)
		packet(k, "ONE", 1, 10, MS);
	for (uint64_t i = 0; i < 4; i++)
		for (uint32_t k = A; k <= B; k++)
			packet(k, "TWO", 1 + i, 1, 2 * MS);
	tick_all(2 * MS + 1);
	CHECK(kind_of(11, &ref) == MDBUS_KIND_RESET);
	for (uint32_t k = A; k <= B; k++) { /* what a recovery line needs to know of a session */
		CHECK(memcmp(bed.line[k].channel.mine->session[1], "ONE       ", 10) == 0);
		CHECK(memcmp(bed.line[k].channel.mine->session[2], "TWO       ", 10) == 0);
	}
	bed_close(&bed);
}

static void test_wanted(void)
{
	struct mdbus_resolver *v;
	uint64_t base;

	bus_begin();
	v = &bed.line[R].channel.resolver;
	CHECK_U64(mdbus_resolver_wanted(v, MS), v->head);
	packet(A, "ONE", 1, 10, MS);
	packet(B, "ONE", 1, 10, MS);
	CHECK_U64(mdbus_resolver_wanted(v, MS), v->head);
	base = v->head - 10; /* position of number 1 */
	packet(A, "ONE", 13, 20, MS);
	CHECK_U64(mdbus_resolver_wanted(v, MS), base + 10); /* B may still bring it */
	packet(B, "ONE", 12, 3, MS);
	CHECK_U64(mdbus_resolver_wanted(v, MS), base + 10); /* and is not past it by the reorder window */
	packet(B, "ONE", 15, 5, MS);
	CHECK_U64(mdbus_resolver_wanted(v, MS), base + 15); /* 19 less the window */
	CHECK_U64(mdbus_resolver_wanted(v, MS + TIMEOUT / 2), base + 32); /* some line is long past it */
	bed_close(&bed);
}

int main(void)
{
	test_bytes();
	test_holes();
	test_once();
	test_truncated();
	test_refused();
	test_backoff();
	test_servers();
	test_rate();
	test_bounds();
	test_gap_waits();
	test_gap_when_down();
	test_follows_nothing();
	test_session_ends();
	test_wanted();
	return 0;
}
