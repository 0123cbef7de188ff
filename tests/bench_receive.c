/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_receive - packets/s through one veth pair: the af_xdp and kernel backends, beside a bare loop of recvmmsg.
 *
 * The kernel makes the frames (flood.h) on one core, which also runs the receiving side of the veth; the receiver spins on the
 * other core and does nothing with a packet but give its frame back.
 *
 *   flood     as many as can be sent: received, of those sent
 *   no loss   the greatest paced rate of a ladder of rates at which nothing was lost, in most of the turns
 *   burst     at a mean rate, ten times that for 1 ms of every 100 ms: lost, and the most packets that waited
 *
 * The three take turns.
 */
#include "bench.h"

#ifndef MDBUS_HAVE_XDP
int main(void)
{
	printf("bench_receive: built without AF_XDP\n");
	return 77;
}
#else
#include <linux/if_link.h>
#include "flood.h"
#include "veth_bed.h"

#define PAYLOAD  64u
#define TURNS    5u
#define TURN_MS  60u
#define BATCH    64u
#define FRAMES   65536u /* af_xdp, half of them in the rings */
#define FEWER    1024u /* kernel: those in its ring; datagrams wait in the socket, and few frames stay in the cache */
#define QUIET_NS 5000000u
#define MEAN     100000u /* packets/s of the bursts */

enum who { XDP, KERNEL, PLAIN, WHO };

static const char *const names[WHO] = { "af_xdp", "kernel backend", "bare recvmmsg" };
static const double rates[] = { 2.0e6, 1.75e6, 1.5e6, 1.25e6, 1.0e6, 0.8e6, 0.6e6, 0.45e6, 0.3e6, 0.2e6, 0.1e6 };

#define RATES (sizeof(rates) / sizeof(rates[0]))

/* What sender and receiver share. */
static struct stage {
	uint32_t go BENCH_LINE;   /* number of the turn under way */
	uint32_t sent BENCH_LINE; /* number of the turn whose packets are all sent */
	uint32_t done BENCH_LINE;
	uint64_t got, deepest;
	char backend[MDBUS_NAME_MAX];
} *stage;

/* ---- receivers, in a process of their own ----------------------------------------------------------------------- */

static struct fake arena;
static void *line;
static const struct mdbus_backend_ops *ops;
static int plain;

static void open_backend_of(const struct mdbus_backend_ops *o)
{
	ops = o;
	new_fake(&arena, FRAMES, 2048);
	arena.line.rx_ring = arena.line.fill_ring = o == &mdbus_backend_kernel ? FEWER : FRAMES / 2u;
	arena.line.batch = BATCH;
	arena.env.flows = &feed;
	arena.env.nflow = 1;
	line = ops->open(&arena.env);
	BED_CHECK(line != NULL, "%s", arena.env.error);
	memcpy(stage->backend, arena.arena->backend, sizeof(stage->backend));
}

static uint32_t take_backend(void)
{
	struct mdbus_rx rx[BATCH];
	int n = ops->poll(line, rx, BATCH);

	for (int i = 0; i < n; i++)
		mdbus_frames_put(&arena.pool, rx[i].frame);
	ops->refill(line);
	return n > 0 ? (uint32_t)n : 0;
}

/* The sockets of an io_uring that has ended are let go of a little later. */
static bool port_is_free(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = feed.addr };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool is = bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0;

	close(fd);
	return is;
}

static void open_plain(void)
{
	int room = 32 << 20; /* as the kernel backend */

	for (unsigned i = 0; i < 3000 && !port_is_free(); i++)
		usleep(1000);
	plain = kernel_socket(GROUP);
	BED_CHECK(setsockopt(plain, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) == 0, "no buffer");
}

static uint32_t take_plain(void)
{
	static uint8_t bytes[BATCH][2048];
	static struct iovec place[BATCH];
	static struct mmsghdr message[BATCH];

	for (uint32_t i = 0; i < BATCH; i++) {
		place[i] = (struct iovec){ bytes[i], sizeof(bytes[i]) };
		message[i].msg_hdr = (struct msghdr){ .msg_iov = &place[i], .msg_iovlen = 1 };
	}
	int n = recvmmsg(plain, message, BATCH, MSG_DONTWAIT, NULL);

	return n > 0 ? (uint32_t)n : 0;
}

/* Until all is sent and nothing has come for a while. */
static void receive(enum who who)
{
	uint64_t got = 0, last = mdbus_clock_ns(), run = 0, deepest = 0;
	uint32_t turn = stage->go;

	for (;;) {
		uint32_t n = who == PLAIN ? take_plain() : take_backend();

		got += n;
		run = n == BATCH ? run + n : 0;
		deepest = run > deepest ? run : deepest;
		if (n > 0)
			last = mdbus_clock_ns();
		else if (mdbus_load_acquire(&stage->sent) == turn && mdbus_clock_ns() - last > QUIET_NS)
			break;
	}
	stage->got = got;
	stage->deepest = deepest;
	mdbus_store_release(&stage->done, turn);
}

static void be_receiver(enum who who)
{
	uint32_t turn = 0;

	bed_pin(1);
	if (who == PLAIN)
		open_plain();
	else
		open_backend_of(who == XDP ? &mdbus_backend_af_xdp : &mdbus_backend_kernel);
	mdbus_store_release(&stage->done, UINT32_MAX);
	for (;;) {
		while (mdbus_load_acquire(&stage->go) == turn)
			usleep(200);
		turn = stage->go;
		if (turn == UINT32_MAX)
			break;
		bench_claim();
		receive(who);
		bench_rest();
	}
	if (who != PLAIN)
		ops->close(line);
	_exit(0);
}

/* ---- the sender -------------------------------------------------------------------------------------------------- */

static struct flood flood;
static uint32_t turns;

/* How many were sent in TURN_MS, or so many times as long, and how many that is a second. */
static uint64_t send_for(double rate, double burst, unsigned times, double *per_s)
{
	int64_t n = flood_send(&flood, times * TURN_MS * UINT64_C(1000000), rate > 0 ? (uint64_t)(1e9 / rate) : 0,
	                       burst > 0 ? (uint64_t)(1e9 / burst) : 0);

	BED_CHECK(n >= 0, "the kernel makes no frames: error %ld", (long)-n);
	*per_s = (double)n / ((double)(flood.state->last - flood.state->first + 1u) * 1e-9);
	return (uint64_t)n;
}

static void begin_turn(void)
{
	bench_claim();
	mdbus_store_release(&stage->go, ++turns);
	usleep(1000);
}

static void end_turn(void)
{
	mdbus_store_release(&stage->sent, turns);
	bench_rest();
	for (unsigned i = 0; mdbus_load_acquire(&stage->done) != turns; i++) {
		BED_CHECK(i < 20000, "the receiver does not answer");
		usleep(500);
	}
}

struct result {
	double flood_sent[TURNS], flood_got[TURNS]; /* packets/s */
	unsigned clean[RATES];                      /* turns without loss at that rate or a greater one that was reached */
	uint64_t burst_sent, burst_got, deepest;
	char backend[MDBUS_NAME_MAX];
};

static void round_of(struct result *r, unsigned turn)
{
	bool clean = false;
	double per_s;
	uint64_t n;

	for (unsigned warm = 0; warm < 2; warm++) { /* the first one touches all memory */
		begin_turn();
		n = send_for(0, 0, 1, &per_s);
		end_turn();
	}
	r->flood_sent[turn] = per_s;
	r->flood_got[turn] = per_s * (double)stage->got / (double)n;
	for (unsigned i = 0; i < RATES; i++) {
		if (!clean) {
			begin_turn();
			n = send_for(rates[i], rates[i], 1, &per_s);
			end_turn();
			clean = stage->got == n && per_s > 0.95 * rates[i];
		}
		r->clean[i] += clean;
	}
	begin_turn();
	n = send_for(0.9 * MEAN, 10.0 * MEAN, 4, &per_s);
	end_turn();
	r->burst_sent += n;
	r->burst_got += stage->got;
	if (stage->deepest > r->deepest)
		r->deepest = stage->deepest;
}

/* A receiver for one round: they cannot all have the interface at the same time. */
static void measure(enum who who, struct result *r, unsigned turn)
{
	pid_t parent = getpid(), child;

	memset(stage, 0, sizeof(*stage));
	turns = 0;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		be_receiver(who);
	}
	for (unsigned i = 0; mdbus_load_acquire(&stage->done) != UINT32_MAX; i++) {
		BED_CHECK(i < 20000 && waitpid(child, NULL, WNOHANG) == 0, "%s does not start", names[who]);
		usleep(500);
	}
	memcpy(r->backend, stage->backend, sizeof(r->backend));
	round_of(r, turn);
	mdbus_store_release(&stage->go, UINT32_MAX);
	waitpid(child, NULL, 0);
}

static double no_loss(const struct result *r)
{
	for (unsigned i = 0; i < RATES; i++)
		if (r->clean[i] > TURNS / 2u)
			return rates[i];
	return 0;
}

static void report(enum who who, struct result *r, const struct result *base)
{
	double sent = bench_quantile(r->flood_sent, TURNS, 0.5), got = bench_quantile(r->flood_got, TURNS, 0.5);
	double against = bench_quantile((double[TURNS]){ base->flood_got[0], base->flood_got[1], base->flood_got[2],
	                                                 base->flood_got[3], base->flood_got[4] }, TURNS, 0.5);

	printf("%-14s flood %5.2f M/s of %5.2f M/s sent (%.2f x recvmmsg); no loss at %5.2f M/s; bursts: %lu of %lu lost, %lu waited\n",
	       names[who], got / 1e6, sent / 1e6, got / against, no_loss(r) / 1e6,
	       (unsigned long)(r->burst_sent - r->burst_got), (unsigned long)r->burst_sent, (unsigned long)r->deepest);
	bench_json("{\"figure\":\"receive\",\"how\":\"%s\",\"backend\":\"%s\",\"payload\":%u,\"flood_sent_per_s\":%.0f,"
	           "\"flood_received_per_s\":%.0f,\"over_recvmmsg\":%.3f,\"no_loss_per_s\":%.0f,\"burst_lost\":%lu,"
	           "\"burst_sent\":%lu,\"burst_waited\":%lu}", names[who], r->backend, PAYLOAD, sent, got, got / against, no_loss(r),
	           (unsigned long)(r->burst_sent - r->burst_got), (unsigned long)r->burst_sent, (unsigned long)r->deepest);
}

int main(void)
{
	static struct result results[WHO];
	static uint8_t frame[HEADERS + PAYLOAD];

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || !open_bed("numrxqueues 1 numtxqueues 1")) {
		puts("bench_receive: needs two cores, root and network namespaces");
		return 77;
	}
	BED_CHECK(run("ethtool -K " LINE " gro on"), "no gro on " LINE);
	listen_on_line();
	stage = bed_shared(sizeof(*stage));
	build(frame, GROUP, SOURCE, 0, PAYLOAD);
	if (flood_open(&flood, if_nametoindex(PEER), frame, sizeof(frame), HEADERS, HEADERS + 8u) != 0) {
		puts("bench_receive: this kernel makes no live frames");
		return 77;
	}
	bed_pin(0);
	for (unsigned turn = 0; turn < TURNS; turn++)
		for (enum who who = 0; who < WHO; who++)
			measure(who, &results[who], turn);
	printf("through one veth pair, %u-byte payloads, receivers that spin\n", PAYLOAD);
	for (enum who who = WHO; who-- > 0;)
		report(who, &results[who], &results[PLAIN]);
	flood_close(&flood);
	return 0;
}
#endif
