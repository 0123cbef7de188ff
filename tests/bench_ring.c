/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_ring - how much the ring carries, between processes on cores of their own. (How long it takes: bench_hop.)
 *
 *   rate   messages/s when the producer waits for nobody but a reader half a ring or arena behind, so that nothing is lost: each
 *          message is written whole into its frame, published eight at a time, as from packets, copied out whole, and
 *          checked at its head and tail.
 *   cost   ns to publish, with everything in the producer's own cache.
 */
#include "bench.h"

#define DEPTH     65536u /* as a channel has if nothing else is configured */
#define FRAMES    4096u
#define FRAME     2048u
#define ARENA     ((uint64_t)FRAMES * FRAME)
#define WINDOWS   7u
#define TRIES     21u
#define READERS   2u
#define FIRST     1024u /* position */
#define QUIT      UINT64_MAX

enum what { RATE, RIVALS };

struct figure {
	enum what what;
	uint32_t len;
	uint32_t slot_size;
	bool single;      /* the ring has one line */
	unsigned readers;
};

static const struct figure figures[] = {
	{ RATE, 32, 64, false, 1 },     { RATE, 48, 64, false, 1 },     { RATE, 64, 128, false, 1 },
	{ RATE, 240, 256, false, 1 },   { RATE, 1400, 64, false, 1 },   { RATE, 32, 64, false, 2 },
	{ RATE, 48, 64, false, 2 },     { RATE, 64, 128, false, 2 },    { RATE, 240, 256, false, 2 },
	{ RATE, 1400, 64, false, 2 },   { RATE, 32, 64, true, 1 },      { RATE, 48, 64, true, 1 },
	{ RATE, 64, 128, true, 1 },     { RATE, 240, 256, true, 1 },    { RATE, 1400, 64, true, 1 },
	{ RATE, 32, 64, true, 2 },      { RATE, 48, 64, true, 2 },      { RIVALS, 48, 64, false, 1 },
};

static struct stage {
	struct bench_pair pair;
	uint64_t go BENCH_LINE; /* window under way, 1 .. */
	uint64_t rival BENCH_LINE; /* position the first producer has come to */
	struct {
		uint64_t window BENCH_LINE; /* it is ready for */
		uint64_t next;              /* position it has come to */
		uint64_t torn;
	} reader[READERS];
} *stage;

static struct bed bed;
static const struct figure *fig;
static uint64_t messages; /* of one window */
static bool crowded;      /* readers share a core */

static bool is_inline(void)
{
	return fig->len <= bed.line[0].inline_max;
}

/* How far a producer goes ahead of the slowest reader. */
static uint64_t lead(void)
{
	return is_inline() ? DEPTH / 2u : FRAMES / 2u;
}

/* The messages from pos on, MDBUS_OWN_BATCH of them, as a packet of so many. */
__attribute__((always_inline)) static inline void publish_as(const struct bench_side *s, uint64_t pos, uint32_t len, bool single)
{
	/* as a line does it: frames of inline messages are back at once and stay in the cache */
	uint64_t frames = len <= s->ring.inline_max ? MDBUS_OWN_BATCH : FRAMES;
	struct mdbus_offer o[MDBUS_OWN_BATCH];

	for (uint32_t i = 0; i < MDBUS_OWN_BATCH; i++) {
		uint64_t off = (pos + i) % frames * FRAME;

		bench_write(s->arena + off, len, pos + i);
		o[i] = (struct mdbus_offer){ .pos = pos + i, .bytes = s->arena + off, .off = off, .len = len };
	}
	if (mdbus_ring_batches(&s->ring)) {
		(single ? mdbus_ring_publish_single_batch : mdbus_ring_publish_batch)(&s->ring, 1, o, MDBUS_OWN_BATCH, 0, 0);
		return;
	}
	mdbus_ring_own(&s->ring, pos, MDBUS_OWN_BATCH);
	for (uint32_t i = 0; i < MDBUS_OWN_BATCH; i++)
		(single ? mdbus_ring_publish_single : mdbus_ring_publish)(&s->ring, pos + i, 1, o[i].bytes, o[i].off, len, 0, 0);
}

static inline void publish(const struct bench_side *s, uint64_t pos)
{
	if (fig->single)
		publish_as(s, pos, fig->len, true);
	else
		publish_as(s, pos, fig->len, false);
}

/* ---- producer ---------------------------------------------------------------------------------------------------- */

static uint64_t slowest(void)
{
	uint64_t next = mdbus_load_acquire(&stage->reader[0].next);

	for (unsigned i = 1; i < fig->readers; i++) {
		uint64_t other = mdbus_load_acquire(&stage->reader[i].next);

		next = other < next ? other : next;
	}
	return next;
}

static void produce_at_rate(uint64_t base)
{
	const struct bench_side s = bench_side(&bed, 0);
	uint64_t limit = base + lead();

	for (uint64_t pos = base; pos < base + messages; pos += MDBUS_OWN_BATCH) {
		while (pos >= limit) {
			mdbus_pause();
			limit = slowest() + lead();
		}
		publish(&s, pos);
	}
	while (slowest() < base + messages)
		mdbus_pause();
}

/* Both sides publish the same messages, neither far ahead; what a reader does is left out. */
static void produce_against(uint64_t base, unsigned side)
{
	const struct bench_side s = bench_side(&bed, side);

	for (uint64_t pos = base; pos < base + messages; pos += MDBUS_OWN_BATCH) {
		if (pos % 64u == 0) {
			mdbus_store_release(side == 0 ? &stage->rival : &stage->reader[0].next, pos);
			while (mdbus_load_acquire(side == 1 ? &stage->rival : &stage->reader[0].next) + lead() / 2u < pos)
				mdbus_pause();
		}
		publish(&s, pos);
	}
	mdbus_store_release(side == 0 ? &stage->rival : &stage->reader[0].next, base + messages);
	while (side == 0 && slowest() < base + messages)
		mdbus_pause();
}

/* ---- reader ----------------------------------------------------------------------------------------------------- */

static uint8_t buffer[FRAME] __attribute__((aligned(64)));

static void read_at_rate(unsigned self, uint64_t base)
{
	const struct bench_side s = bench_side(&bed, BED_LINES);
	struct mdbus_rest rest = { 0 };
	uint64_t torn = 0, head, tail;

	for (uint64_t pos = base; pos < base + messages;) {
		if (!bench_take(&s, pos, buffer)) {
			mdbus_store_release(&stage->reader[self].next, pos);
			if (crowded)
				sched_yield();
			mdbus_rest_take(&rest);
			continue;
		}
		__builtin_memcpy(&head, buffer, 8);
		__builtin_memcpy(&tail, buffer + fig->len - 8u, 8);
		torn += head != pos || tail != pos;
		rest.found++;
		if (++pos % 64u == 0)
			mdbus_store_release(&stage->reader[self].next, pos);
	}
	stage->reader[self].torn += torn;
	mdbus_store_release(&stage->reader[self].next, base + messages);
}

static void reader(unsigned self)
{
	bool first = self == 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bed_pin(crowded ? 1 : 1u + self);
	for (uint64_t window = 1, go;; window++) {
		while ((go = mdbus_load_acquire(&stage->go)) < window)
			usleep(50);
		if (go == QUIT)
			_exit(0);
		if (!crowded) /* or one of them would keep the other from running */
			bench_claim();
		uint64_t base = FIRST + (window - 1u) * messages;

		if (first)
			bench_floor(&stage->pair, 1, 0);
		mdbus_store_release(&stage->reader[self].next, base);
		mdbus_store_release(&stage->reader[self].window, window);
		if (fig->what == RATE)
			read_at_rate(self, base);
		else
			produce_against(base, 1);
		if (first)
			bench_floor(&stage->pair, 1, 0);
		bench_rest();
	}
}

/* ---- one figure ------------------------------------------------------------------------------------------------- */

struct result {
	double floor, after, ticks; /* of one window; the floor before and after it */
};

static struct result window(uint64_t n)
{
	struct result r;
	uint64_t base = FIRST + (n - 1u) * messages;

	bench_claim();
	mdbus_store_release(&stage->go, n);
	r.floor = bench_floor(&stage->pair, 0, 0);
	for (unsigned i = 0; i < fig->readers; i++)
		while (mdbus_load_acquire(&stage->reader[i].window) < n)
			mdbus_pause();
	uint64_t begin = bench_ticks();

	if (fig->what == RATE)
		produce_at_rate(base);
	else
		produce_against(base, 0);
	r.ticks = (double)(bench_ticks() - begin);
	r.after = bench_floor(&stage->pair, 0, 0);
	bench_rest();
	return r;
}

static const char *place(void)
{
	return is_inline() ? "inline" : "by ref";
}

static const char *ring_kind(void)
{
	return fig->single ? "one line" : "any line";
}

static void report_rate(double *rate, size_t n, double floor, bool steady)
{
	double m = bench_quantile(rate, n, 0.5);
	uint64_t torn = stage->reader[0].torn + stage->reader[1].torn;
	const char *who = fig->what == RIVALS ? "2 producers, 0 subscribers" :
	                  fig->readers == 1   ? "1 producer, 1 subscriber  " :
	                  crowded             ? "1 producer, 2 subscr. on 1 core" :
	                                        "1 producer, 2 subscribers ";

	printf("rate  %-8s %5u B  %-6s %6.2f M msg/s  %5.0f ns each   floor %3.0f ns   %s%s\n", ring_kind(), fig->len, place(),
	       m, 1e3 / m, floor, who, steady ? "" : "  unsteady");
	bench_json("{\"figure\":\"rate\",\"ring\":\"%s\",\"bytes\":%u,\"place\":\"%s\",\"producers\":%u,\"subscribers\":%u,"
	           "\"share_core\":%s,\"msg_per_s\":%.0f,\"floor_ns\":%.1f,\"torn\":%lu,\"steady\":%s}", ring_kind(), fig->len,
	           place(), fig->what == RIVALS ? 2u : 1u, fig->what == RIVALS ? 0u : fig->readers, crowded ? "true" : "false",
	           m * 1e6, floor, (unsigned long)torn, steady ? "true" : "false");
	BED_CHECK(torn == 0, "%lu torn messages", (unsigned long)torn);
}

static void measure(const struct figure *f)
{
	static double rate[WINDOWS], floors[WINDOWS];
	size_t taken = 0;
	pid_t pid[READERS];
	bool steady = true;

	fig = f;
	crowded = fig->readers > 1 && sysconf(_SC_NPROCESSORS_ONLN) < 3;
	messages = fig->len > 1000 ? 100000 : crowded ? 60000 : 1000000;
	bed = bed_make(DEPTH, fig->slot_size, false, ARENA);
	stage = bed_shared(sizeof(*stage));
	for (unsigned i = 0; i < fig->readers; i++)
		if ((pid[i] = fork()) == 0)
			reader(i);
	for (uint64_t n = 1; taken < WINDOWS && n <= TRIES; n++) {
		struct result r = window(n);

		/* the last ones are taken as they come rather than not at all */
		if (!bench_steady(r.floor, r.after)) {
			if (TRIES - n >= WINDOWS - taken)
				continue;
			steady = false;
		}
		rate[taken] = (double)messages / bench_ns(r.ticks) * 1e3;
		floors[taken++] = bench_ns(r.floor);
	}
	mdbus_store_release(&stage->go, QUIT);
	for (unsigned i = 0; i < fig->readers; i++)
		waitpid(pid[i], NULL, 0);

	report_rate(rate, taken, bench_quantile(floors, taken, 0.5), steady);
	bed_free(&bed);
	munmap(stage, sizeof(*stage));
}

/* ---- cost ------------------------------------------------------------------------------------------------------- */

enum act { ACCEPT_INLINE, ACCEPT_REF, ACCEPT_SINGLE, DUPLICATE };

static double cost_of(enum act act)
{
	enum { N = 50000 };
	static uint64_t pos;
	double all[WINDOWS];

	for (unsigned w = 0; w < WINDOWS; w++) {
		bench_claim();
		uint64_t begin = bench_ticks(), base = pos + 256u;

		for (uint64_t i = 0; i < N; i++) {
			if (act == DUPLICATE)
				mdbus_ring_publish(&bed.line[1], pos - i % 256u, 1, bed.arena[0], 0, 48, 0, 0);
			else if (act == ACCEPT_SINGLE)
				mdbus_ring_publish_single(&bed.line[0], base + i, 1, bed.arena[0], 0, 48, 0, 0);
			else
				mdbus_ring_publish(&bed.line[0], base + i, 1, bed.arena[0], 0, act == ACCEPT_REF ? 400 : 48, 0, 0);
		}
		all[w] = bench_ns((double)(bench_ticks() - begin)) / N;
		if (act != DUPLICATE)
			pos = base + N - 1u;
		bench_rest();
	}
	return bench_quantile(all, WINDOWS, 0.5);
}

static void measure_costs(void)
{
	static const char *const name[] = { "accepted, inline 48 B", "accepted, by ref", "accepted, one line, inline 48 B",
		                            "duplicate" };

	bed = bed_make(256, 64, false, 1 << 16);
	bed_pin(0);
	bed_fill(bed.arena[0], 400, 1, 0);
	for (unsigned i = 0; i < 4; i++) {
		double ns = cost_of((enum act)i);

		printf("cost  %-32s %5.1f ns\n", name[i], ns);
		bench_json("{\"figure\":\"cost\",\"what\":\"%s\",\"ns\":%.2f}", name[i], ns);
	}
	bed_free(&bed);
}

int main(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		puts("bench_ring: needs two cores");
		return 77;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(300);
	bench_ns(1);
	bed_pin(0);
	for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		measure(&figures[i]);
	measure_costs();
	return 0;
}
