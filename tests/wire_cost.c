/* SPDX-License-Identifier: Apache-2.0
 *
 * wire_cost.c - packets of 288 bytes across a veth pair, 100,000 a second.
 *
 * The kernel makes the frames on one core (flood.h), as a card would put them there, and stamps each as it sends it.  The
 * receiver is on the other core.  By mdbus that is a line that receives, arbitrates and publishes, and a subscriber that reads,
 * in turn in one process, as there are but two cores: the way from core to core, which bench_hop measures, comes on
 * top.  A plain program's time ends when its recvmsg has returned.  The ways take turns.
 */
#include "wire_cost.h"

#ifndef MDBUS_HAVE_XDP
void wire_cost(json_t *report)
{
	(void)report;
	printf("wire to subscriber: built without AF_XDP\n");
}
#else
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "../ingest/frame_parse.h"
#include "bus_bed.h"
#include "flood.h"
#include "veth_bed.h"

#define TURNS   5u
#define PACKETS 2000u
#define FRAMES  16384u
#define DEPTH   65536u
#define PAYLOAD 288u
#define RATE    100000u /* packets/s */
#define STAMP   (HEADERS + 24u)
#define WAIT_US 1000u

enum way { XDP_SPIN, KERNEL_SPIN, KERNEL_BUSY, KERNEL_SLEEP, PLAIN_SPIN, PLAIN_SLEEP, WAYS };

static const struct {
	const char *name;
	bool xdp, plain, sleeps;
	uint32_t busy_poll_us;
} ways[WAYS] = {
	{ "af_xdp, spinning", true, false, false, 0 },
	{ "kernel backend, spinning", false, false, false, 0 },
	{ "kernel backend, busy-poll", false, false, true, 50 },
	{ "kernel backend, blocking", false, false, true, 0 },
	{ "plain recvmsg, spinning", false, true, false, 0 },
	{ "plain recvmsg, blocking", false, true, true, 0 },
};

static struct stage {
	uint32_t ready;
	uint32_t n;
	double took[PACKETS];
} *stage;

static struct bed bed;
static struct flood flood;
static double took[WAYS][TURNS * PACKETS];
static uint32_t ntook[WAYS];

/* A packet has come all the way; its payload is there. */
static void note(const uint8_t *stamp)
{
	uint64_t now = mdbus_clock_ns(), sent;

	memcpy(&sent, stamp, sizeof(sent));
	if (stage->n < PACKETS && now > sent)
		stage->took[stage->n++] = (double)(now - sent);
}

/* Pages are there before the first packet, as those of a bus are. */
static void touch(void *at, size_t size)
{
	for (size_t i = 0; i < size; i += 4096u)
		(void)__atomic_fetch_add((uint8_t *)at + i, 0, __ATOMIC_RELAXED);
}

/* ---- the receiving side, in a process of its own ---------------------------------------------------------------- */

static void be_line(const struct mdbus_backend_ops *ops, enum way way)
{
	struct mdbus_line_desc line = { .name = "A", .interface = LINE, .xdp_mode = "auto", .xdp_copy = "auto", .frames = FRAMES,
		.frame_size = 2048, .rx_ring = 1024, .fill_ring = 1024, .batch = 64, .busy_poll_us = ways[way].busy_poll_us };
	struct mdbus_arena_hdr *a = bed.bus.arena[0].base;
	struct mdbus_frames pool = { .stack = calloc(FRAMES, sizeof(uint32_t)), .nframes = FRAMES };
	struct mdbus_backend_env env = { .line = &line, .arena = a, .frames = (uint8_t *)a + a->frames_off, .pool = &pool,
		.flows = &feed, .nflow = 1 };
	struct mdbus_channel *c = &bed.line[0].channel;
	struct mdbus_sub_options o = { .start = MDBUS_START_HEAD };
	struct mdbus_sub *sub = mdbus_sub_over(&bed.bus, &o);
	struct mdbus_record r;
	struct mdbus_rx rx[64];

	CHECK(sub != NULL);
	for (uint32_t i = 0; i < FRAMES; i++)
		mdbus_frames_put(&pool, i);
	touch(a, bed.bus.arena[0].size);
	touch(bed.bus.ring[0].base, bed.bus.ring[0].size);
	void *self = ops->open(&env);

	if (!self)
		printf("%s\n", env.error);
	CHECK(self != NULL);
	mdbus_store_release(&stage->ready, 1u);
	for (;;) {
		int n = ops->poll(self, rx, 64);
		uint64_t now = mdbus_clock_ns();

		for (int i = 0; i < n; i++) {
			uint64_t start = (uint64_t)rx[i].frame * 2048u;
			struct mdbus_frame_meta meta = { .rx_ns = now };
			struct mdbus_udp udp = { .off = 0, .len = rx[i].len };

			if (rx[i].flow < 0 && mdbus_frame_parse(env.frames + start + rx[i].off, rx[i].len, &udp) != MDBUS_FRAME_UDP)
				continue;
			memcpy(env.frames + start, &meta, sizeof(meta));
			struct mdbus_chunk chunk = { a->frames_off + start + rx[i].off + udp.off,
				env.frames + start + rx[i].off + udp.off, udp.len, now };

			mdbus_channel_packet(c, &chunk, now);
			if (bed.line[0].holds.refs[rx[i].frame] == 0)
				mdbus_frames_put(&pool, rx[i].frame);
		}
		while (mdbus_sub_next(sub, &r))
			if (r.kind == MDBUS_RECORD_DATA)
				note(r.data + (STAMP - HEADERS - 20u)); /* the message begins behind the packet's header */
		ops->refill(self);
		if (n == 0 && ways[way].sleeps)
			ops->wait(self, WAIT_US);
	}
}

static void be_plain(enum way way)
{
	uint8_t bytes[2048];
	int fd = kernel_socket(GROUP);

	mdbus_store_release(&stage->ready, 1u);
	for (;;) {
		if (recv(fd, bytes, sizeof(bytes), ways[way].sleeps ? 0 : MSG_DONTWAIT) == (ssize_t)PAYLOAD)
			note(bytes + STAMP - HEADERS);
	}
}

static void pin_to(unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
	(void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
}

static pid_t start_side(enum way way)
{
	pid_t parent = getpid(), child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		pin_to(1);
		if (ways[way].plain)
			be_plain(way);
		else
			be_line(ways[way].xdp ? &mdbus_backend_af_xdp : &mdbus_backend_kernel, way);
	}
	CHECK(child > 0);
	for (unsigned i = 0; mdbus_load_acquire(&stage->ready) == 0; i++) {
		CHECK(i < 10000 && waitpid(child, NULL, WNOHANG) == 0);
		usleep(1000);
	}
	return child;
}

/* ---- the sender -------------------------------------------------------------------------------------------------- */

/* A MoldUDP64 packet of one message, with headers that any receiver takes; the number is filled in as it goes. */
static void make(uint8_t *frame)
{
	uint8_t *p = frame + HEADERS;

	build(frame, GROUP, SOURCE, 0, PAYLOAD);
	memset(p, 0, PAYLOAD);
	memcpy(p, "SESSION001", 10);
	put16(p + 18, 1);
	put16(p + 20, PAYLOAD - 22u);
}

static void one_turn(enum way way)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 1);
	pid_t side;

	memset(stage, 0, sizeof(*stage));
	if (!ways[way].plain) {
		d.depth = DEPTH;
		d.window = DEPTH / 2u;
		bed_open(&bed, &d, 1, FRAMES);
	}
	side = start_side(way);
	flood.state->sent = 0;
	int64_t sent = flood_send(&flood, PACKETS * UINT64_C(1000000000) / RATE, 1000000000u / RATE, 1000000000u / RATE);

	CHECK(sent > 0);
	usleep(50000);
	kill(side, SIGKILL);
	waitpid(side, NULL, 0);
	memcpy(took[way] + ntook[way], stage->took, stage->n * sizeof(stage->took[0]));
	ntook[way] += stage->n;
	if (!ways[way].plain)
		bed_close(&bed);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(enum way way, double q)
{
	return ntook[way] ? took[way][(size_t)((ntook[way] - 1u) * q)] : 0;
}

static void tell(json_t *report, enum way way)
{
	double p50 = quantile(way, 0.5), p99 = quantile(way, 0.99), p999 = quantile(way, 0.999);
	double base50 = quantile(PLAIN_SPIN, 0.5), base99 = quantile(PLAIN_SPIN, 0.99);

	printf("wire to subscriber, %-26s p50 %6.2f us (%.2f x plain, spinning)  p99 %7.2f us (%.2f x)  p99.9 %7.2f us\n",
	       ways[way].name, p50 / 1e3, p50 / base50, p99 / 1e3, p99 / base99, p999 / 1e3);
	json_array_append_new(report, json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f}", "figure", "wire", "how",
	                                        ways[way].name, "payload", (int)PAYLOAD, "p50_ns", p50, "p99_ns", p99, "p999_ns",
	                                        p999, "p50_over_plain", p50 / base50, "p99_over_plain", p99 / base99));
}

void wire_cost(json_t *report)
{
	uint8_t frame[HEADERS + PAYLOAD];

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || !open_bed("numrxqueues 1 numtxqueues 1")) {
		printf("wire to subscriber: needs two cores, root and network namespaces\n");
		return;
	}
	CHECK(run("ethtool -K " LINE " gro on"));
	listen_on_line();
	stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(stage != MAP_FAILED);
	pin_to(0);
	(void)sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ .sched_priority = 0 }); /* ksoftirqd needs the core */
	(void)setpriority(PRIO_PROCESS, 0, -20);
	make(frame);
	if (flood_open(&flood, if_nametoindex(PEER), frame, sizeof(frame), HEADERS + 10u, STAMP) != 0) {
		printf("wire to subscriber: this kernel makes no live frames\n");
		return;
	}
	flood.batch = 1;
	for (unsigned turn = 0; turn < TURNS; turn++)
		for (enum way way = 0; way < WAYS; way++) {
			usleep(200000); /* the queue and port of the one before are free by then */
			one_turn(way);
		}
	for (enum way way = 0; way < WAYS; way++)
		qsort(took[way], ntook[way], sizeof(double), ascending);
	for (enum way way = 0; way < WAYS; way++)
		tell(report, way);
}
#endif
