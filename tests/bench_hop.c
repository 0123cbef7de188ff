/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_hop - how long a message takes from publish to read, between two processes on cores of their own.
 *
 * Half the round trip of a message that goes out through one ring and comes back through another: written whole before, then
 * published, looked for by a spinning reader, copied out whole and re-checked, and answered by publishing the next.
 * 100,000 rounds a second, so that both sides find the slots as a live feed leaves them.  No two clocks are compared.  The
 * floor beside it is the same round at the same pace with two bare 8-byte words, in the same windows.
 */
#include "bench.h"

#define DEPTH    4096u
#define FRAME    2048u
#define WINDOWS  9u
#define TRIES    27u
#define HOPS     2000u
#define ROUND_NS 10000
#define FIRST    1024u /* position */
#define QUIT     UINT64_MAX

struct figure {
	uint32_t len;
	uint32_t slot_size;
	bool single; /* the rings have one line */
};

static const struct figure figures[] = {
	{ 32, 64, false },  { 48, 64, false },   { 64, 128, false }, { 240, 256, false }, { 256, 64, false }, { 1400, 64, false },
	{ 32, 64, true },   { 48, 64, true },    { 64, 128, true },  { 240, 256, true },  { 1400, 64, true },
};

static struct stage {
	struct bench_pair pair;
	uint64_t go BENCH_LINE; /* window under way, 1 .. */
	uint64_t torn;
} *stage;

static struct bed out[2]; /* [side]: the ring it publishes to */
static const struct figure *fig;
static uint8_t buffer[FRAME] __attribute__((aligned(64)));
static double hop[WINDOWS * HOPS];

static uint64_t frame_of(uint64_t pos)
{
	/* as a line does it: frames of inline messages are back at once and stay in the cache */
	return fig->len <= out[0].line[0].inline_max ? pos % 8u * FRAME : pos % DEPTH * FRAME;
}

static inline void publish(unsigned side, uint64_t pos)
{
	const struct mdbus_ring *r = &out[side].line[0];
	uint64_t off = frame_of(pos);

	if (fig->single)
		mdbus_ring_publish_single(r, pos, 1, out[side].arena[0] + off, off, fig->len, 0, 0);
	else
		mdbus_ring_publish(r, pos, 1, out[side].arena[0] + off, off, fig->len, 0, 0);
}

/* As a line does it when nothing has arrived. */
static inline void idle(unsigned side, uint64_t next)
{
	const struct mdbus_ring *r = &out[side].line[0];

	for (uint32_t at = MDBUS_CACHE_LINE; fig->len <= r->inline_max && at < 1u << r->shift; at += MDBUS_CACHE_LINE)
		mdbus_ring_warm(r, next, at);
}

/* One pause between looks: without it the next look takes the slot's line away while it is still being written. */
static inline void await(unsigned side, uint64_t pos)
{
	const struct bench_side from = bench_side(&out[side ^ 1u], BED_LINES);

	while (!bench_take(&from, pos, buffer))
		mdbus_pause();
}

static bool whole(uint64_t pos)
{
	uint64_t head, tail;

	__builtin_memcpy(&head, buffer, 8);
	__builtin_memcpy(&tail, buffer + fig->len - 8u, 8);
	return head == pos && tail == pos;
}

/* Both sides call this.  Side 0 leaves the one-way times in to[]. */
static void window(unsigned side, uint64_t base, double *to)
{
	uint64_t due = 0, pace = (uint64_t)(ROUND_NS / bench_ns(1));

	bench_meet(&stage->pair, side);
	for (uint64_t pos = base; pos < base + HOPS; pos++) {
		bench_write(out[side].arena[0] + frame_of(pos), fig->len, pos);
		idle(side, pos);
		if (side == 0) {
			bench_pace(&due, pace);
			uint64_t t = bench_ticks();

			publish(0, pos);
			await(0, pos);
			to[pos - base] = bench_ns((double)(bench_ticks() - t) / 2);
		} else {
			await(1, pos);
			publish(1, pos);
		}
		if (!whole(pos))
			__atomic_add_fetch(&stage->torn, 1, __ATOMIC_RELAXED);
	}
	bench_meet(&stage->pair, side);
}

static void other_side(void)
{
	uint64_t pace = (uint64_t)(ROUND_NS / bench_ns(1));

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bed_pin(1);
	for (uint64_t n = 1, go;; n++) {
		while ((go = mdbus_load_acquire(&stage->go)) < n)
			usleep(50);
		if (go == QUIT)
			_exit(0);
		bench_claim();
		bench_floor(&stage->pair, 1, pace);
		window(1, FIRST + (n - 1u) * HOPS, NULL);
		bench_floor(&stage->pair, 1, pace);
		bench_rest();
	}
}

static void report(size_t n, double floor, bool steady)
{
	double p50 = bench_quantile(hop, n, 0.5), p99 = bench_quantile(hop, n, 0.99);
	const char *kind = fig->single ? "one line" : "any line";
	const char *place = fig->len <= out[0].line[0].inline_max ? "inline" : "by ref";

	printf("hop   %-8s %5u B  %-6s  p50 %4.0f ns = %4.2f floors   p99 %5.0f ns = %5.2f floors   floor %3.0f ns%s\n", kind,
	       fig->len, place, p50, p50 / floor, p99, p99 / floor, floor, steady ? "" : "  unsteady");
	bench_json("{\"figure\":\"hop\",\"ring\":\"%s\",\"bytes\":%u,\"place\":\"%s\",\"p50_ns\":%.1f,\"p99_ns\":%.1f,"
	           "\"floor_ns\":%.1f,\"p50_floors\":%.3f,\"p99_floors\":%.3f,\"torn\":%lu,\"steady\":%s}", kind, fig->len,
	           place, p50, p99, floor, p50 / floor, p99 / floor, (unsigned long)stage->torn, steady ? "true" : "false");
	BED_CHECK(stage->torn == 0, "%lu torn messages", (unsigned long)stage->torn);
}

static void measure(const struct figure *f)
{
	double floors[WINDOWS];
	uint64_t pace = (uint64_t)(ROUND_NS / bench_ns(1));
	size_t taken = 0;
	bool steady = true;
	pid_t pid;

	fig = f;
	for (unsigned i = 0; i < 2; i++)
		out[i] = bed_make(DEPTH, fig->slot_size, false, (uint64_t)DEPTH * FRAME);
	stage = bed_shared(sizeof(*stage));
	if ((pid = fork()) == 0)
		other_side();
	for (uint64_t n = 1; taken < WINDOWS && n <= TRIES; n++) {
		bench_claim();
		mdbus_store_release(&stage->go, n);
		double before = bench_floor(&stage->pair, 0, pace);

		window(0, FIRST + (n - 1u) * HOPS, hop + taken * HOPS);
		double after = bench_floor(&stage->pair, 0, pace);

		bench_rest();
		/* the last ones are taken as they come rather than not at all */
		if (!bench_steady(before, after)) {
			if (TRIES - n >= WINDOWS - taken)
				continue;
			steady = false;
		}
		floors[taken++] = bench_ns((before + after) / 2);
	}
	mdbus_store_release(&stage->go, QUIT);
	waitpid(pid, NULL, 0);
	report(taken * HOPS, bench_quantile(floors, taken, 0.5), steady);
	for (unsigned i = 0; i < 2; i++)
		bed_free(&out[i]);
	munmap(stage, sizeof(*stage));
}

int main(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		puts("bench_hop: needs two cores");
		return 77;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(300);
	bench_ns(1);
	bed_pin(0);
	for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		measure(&figures[i]);
	return 0;
}
