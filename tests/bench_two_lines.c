/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_two_lines - two lines that carry the same packets, two subscribers, and what sends it all, on two cores.
 *
 * Core k has line k (the whole process: AF_XDP on a veth of its own, arbitration, publishing), a subscriber, and the
 * kernel making the line's frames (flood.h) and bringing them over the veth, which takes most of the core.  So nobody spins:
 * lines and subscribers sleep when they have nothing to do (idle_spins = 20).  mdbusd is the real one.
 *
 *   at once  as many packets as that leaves time to make
 *   paced    the greatest of a ladder of rates that was reached and of which no line lost a packet, in most of the turns
 *
 * Both senders number by the same clock where they are paced.  At once, either may get ahead, by more than the ring remembers.
 */
#include "bench.h"

#ifndef MDBUS_HAVE_XDP
int main(void)
{
	printf("bench_two_lines: built without AF_XDP\n");
	return 77;
}
#else
#include <fcntl.h>
#include <mdbus/subscriber.h>
#include "../ingest/line.h"
#include "daemon_bed.h"
#include "flood.h"
#include "veth_bed.h"

#define LINES    2u
#define SUBS     2u
#define PAYLOAD  64u /* one MoldUDP64 message of 42 bytes */
#define TRAILER  8u  /* behind it, where the sender puts its time */
#define TURNS    3u
#define TURN_MS  200u
#define QUIET_NS 30000000u
#define SPINS    32u

static const char *const interface[LINES] = { LINE, "mdt2" }, *const peer[LINES] = { PEER, "mdt3" };
static const double rates[] = { 1.2e6, 1.1e6, 1.0e6, 0.9e6, 0.8e6, 0.7e6, 0.6e6, 0.5e6, 0.4e6, 0.3e6, 0.2e6, 0.1e6, 0.05e6 };

#define RATES (sizeof(rates) / sizeof(rates[0]))

struct counts {
	uint64_t packets, lost, won, duplicates;
};

static struct stage {
	uint32_t up, quit, ask, pad;
	struct {
		uint32_t answer BENCH_LINE; /* to which question */
		struct counts count;
	} line[LINES];
	struct {
		uint64_t delivered BENCH_LINE, lost, gaps, wrong;
	} sub[SUBS];
	struct {
		uint32_t go BENCH_LINE, done; /* number of the turn */
		uint64_t sent, ns;
	} sender[LINES];
	double rate; /* of the turn under way, 0: as fast as can be */
} *stage;

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static void answer(struct mdbus_line *l, unsigned k, uint32_t ask)
{
	const struct mdbus_arena_hdr *a = l->arena;
	const struct mdbus_line_channel *c = mdbus_bus_line_channel(&l->bus, k, 0);

	l->ops->stats(l->backend);
	stage->line[k].count = (struct counts){
		.packets = a->count.packets,
		.lost = a->count.nic_dropped + a->count.ring_full + a->count.fill_empty,
		.won = c->count.won,
		.duplicates = c->count.duplicates,
	};
	mdbus_store_release(&stage->line[k].answer, ask);
}

static void be_line(unsigned k)
{
	static struct mdbus_line l;
	uint32_t ask, told = 0;

	if (mdbus_line_open(&l, "t", k == 0 ? "A" : "B") != 0) {
		printf("bench_two_lines: line %u: %s\n", k, l.error);
		_exit(1);
	}
	__atomic_fetch_add(&stage->up, 1, __ATOMIC_SEQ_CST);
	while (!mdbus_load_acquire(&stage->quit)) {
		BED_CHECK(mdbus_line_round(&l) >= 0, "line %u ends", k);
		ask = mdbus_load_acquire(&stage->ask);
		if (ask != told)
			answer(&l, k, told = ask);
	}
	mdbus_line_close(&l);
	_exit(0);
}

/* ---- subscribers ------------------------------------------------------------------------------------------------ */

static void be_subscriber(unsigned k)
{
	char err[256];
	struct mdbus_sub *s = mdbus_sub_open("t", NULL, err, sizeof(err));
	struct mdbus_record r;
	uint64_t next = 0;
	bool begun = false;

	BED_CHECK(s != NULL, "%s", err);
	bed_pin(k);
	__atomic_fetch_add(&stage->up, 1, __ATOMIC_SEQ_CST);
	for (unsigned idle = 0; !mdbus_load_acquire(&stage->quit);) {
		if (!mdbus_sub_next(s, &r)) {
			if (++idle > SPINS)
				mdbus_sub_wait(s, 5000000);
			continue;
		}
		idle = 0;
		switch (r.kind) {
		case MDBUS_RECORD_DATA:
			if (!mdbus_sub_valid(s, &r))
				continue;
			/* an epoch need not begin with its first number */
			stage->sub[k].wrong += r.len != PAYLOAD - 20u || (begun ? r.seq != next : r.seq < next);
			stage->sub[k].delivered++;
			break;
		case MDBUS_RECORD_OVERRUN:
			stage->sub[k].lost += r.count;
			break;
		default:
			stage->sub[k].gaps += r.kind == MDBUS_RECORD_GAP ? r.count : 0;
		}
		begun = r.kind != MDBUS_RECORD_RESET;
		next = begun ? r.seq + r.count : r.count;
	}
	mdbus_sub_close(s);
	_exit(0);
}

/* ---- senders ---------------------------------------------------------------------------------------------------- */

static void be_sender(unsigned k)
{
	uint8_t frame[HEADERS + PAYLOAD + TRAILER] = { 0 };
	struct flood flood;
	uint32_t turn = 0;

	bed_pin(k);
	build(frame, GROUP, SOURCE, 0, PAYLOAD);
	memcpy(frame + HEADERS, "SESSION001", 10);
	memset(frame + HEADERS + 18u, 0, PAYLOAD - 18u);
	frame[HEADERS + 19u] = 1;
	frame[HEADERS + 21u] = PAYLOAD - 22u;
	if (flood_open(&flood, if_nametoindex(peer[k]), frame, sizeof(frame), HEADERS + 10u, HEADERS + PAYLOAD) != 0) {
		puts("bench_two_lines: this kernel makes no live frames");
		_exit(77);
	}
	__atomic_fetch_add(&stage->up, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		while (mdbus_load_acquire(&stage->sender[k].go) == turn)
			usleep(200);
		turn = stage->sender[k].go;
		if (turn == UINT32_MAX)
			break;
		uint64_t pause = stage->rate > 0 ? (uint64_t)(1e9 / stage->rate) : 0;
		int64_t n = flood_send(&flood, TURN_MS * UINT64_C(1000000), pause, pause);

		BED_CHECK(n > 0, "the kernel makes no frames: error %ld", (long)-n);
		stage->sender[k].sent = (uint64_t)n;
		/* a paced sender that was late makes up for it: count from when the first packet was due */
		stage->sender[k].ns = flood.state->last + 1u - (pause ? flood.state->due - (uint64_t)n * pause : flood.state->first);
		mdbus_store_release(&stage->sender[k].done, turn);
	}
	flood_close(&flood);
	_exit(0);
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */

static pid_t pids[LINES + SUBS + LINES], daemon_pid;
static unsigned npid;

static void start(void (*be)(unsigned), unsigned k)
{
	pid_t parent = getpid(), pid = fork();
	uint32_t up = stage->up;
	int status;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		be(k);
	}
	pids[npid++] = pid;
	for (unsigned i = 0; __atomic_load_n(&stage->up, __ATOMIC_SEQ_CST) == up; i++) {
		if (waitpid(pid, &status, WNOHANG) != 0)
			exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
		BED_CHECK(i < 40000, "a process does not start");
		usleep(500);
	}
}

/* What the lines count, once nothing has come for a while. */
static void settled(struct counts *now)
{
	uint64_t last = UINT64_MAX;

	for (unsigned i = 0; i < 1000; i++) {
		stage->ask++;
		for (unsigned k = 0; k < LINES; k++) {
			while (mdbus_load_acquire(&stage->line[k].answer) != stage->ask)
				usleep(500);
			now[k] = stage->line[k].count;
		}
		if (now[0].packets + now[1].packets == last)
			return;
		last = now[0].packets + now[1].packets;
		usleep(QUIET_NS / 1000u);
	}
}

struct turn {
	double sent[LINES], received[LINES], published; /* a second */
	uint64_t lost, missed; /* by lines: as the kernel tells, and in all */
};

static struct turn turn_at(double rate)
{
	static uint32_t turns;
	struct counts before[LINES], after[LINES];
	struct turn t = { 0 };
	double longest = 0;

	settled(before);
	stage->rate = rate;
	turns++;
	for (unsigned k = 0; k < LINES; k++)
		mdbus_store_release(&stage->sender[k].go, turns);
	for (unsigned k = 0; k < LINES; k++)
		while (mdbus_load_acquire(&stage->sender[k].done) != turns)
			usleep(2000);
	settled(after);
	for (unsigned k = 0; k < LINES; k++) {
		double s = (double)stage->sender[k].ns * 1e-9;
		uint64_t got = after[k].packets - before[k].packets;

		t.sent[k] = (double)stage->sender[k].sent / s;
		t.received[k] = (double)got / s;
		t.lost += after[k].lost - before[k].lost;
		t.missed += stage->sender[k].sent - got;
		t.published += (double)(after[k].won - before[k].won);
		longest = s > longest ? s : longest;
	}
	t.published /= longest;
	return t;
}

static double median_of(const struct turn *t, unsigned what)
{
	double v[TURNS];

	for (unsigned i = 0; i < TURNS; i++)
		v[i] = what < 2 ? t[i].sent[what] : what < 4 ? t[i].received[what - 2u] : t[i].published;
	return bench_quantile(v, TURNS, 0.5);
}

static void say(const char *what, const struct turn *t)
{
	uint64_t lost = 0, missed = 0;

	for (unsigned i = 0; i < TURNS; i++) {
		lost += t[i].lost;
		missed += t[i].missed;
	}
	printf("%-8s line A %4.2f M/s received of %4.2f M/s sent, line B %4.2f of %4.2f; %4.2f M messages/s published; %lu packets "
	       "not received\n", what, median_of(t, 2) / 1e6, median_of(t, 0) / 1e6, median_of(t, 3) / 1e6, median_of(t, 1) / 1e6,
	       median_of(t, 4) / 1e6, (unsigned long)missed);
	bench_json("{\"figure\":\"two_lines\",\"how\":\"%s\",\"sent_a_per_s\":%.0f,\"sent_b_per_s\":%.0f,\"received_a_per_s\":%.0f,"
	           "\"received_b_per_s\":%.0f,\"published_per_s\":%.0f,\"not_received\":%lu,\"of_those_told\":%lu}", what,
	           median_of(t, 0), median_of(t, 1), median_of(t, 2), median_of(t, 3), median_of(t, 4), (unsigned long)missed,
	           (unsigned long)lost);
}

static void measure(void)
{
	static struct turn t[TURNS];
	uint64_t clean;

	(void)turn_at(0); /* touches all memory */
	for (unsigned i = 0; i < TURNS; i++)
		t[i] = turn_at(0);
	say("at once", t);
	for (unsigned r = 0; r < RATES; r++) {
		clean = 0;
		for (unsigned i = 0; i < TURNS; i++) {
			t[i] = turn_at(rates[r]);
			clean += t[i].missed == 0 && t[i].sent[0] > 0.95 * rates[r] && t[i].sent[1] > 0.95 * rates[r];
		}
		if (clean > TURNS / 2u)
			break;
	}
	say("paced", t);
}

/* How many records were not what they should be. */
static uint64_t report_subscribers(void)
{
	uint64_t wrong = 0;

	for (unsigned k = 0; k < SUBS; k++) {
		printf("subscriber on core %u: %lu delivered, %lu lost and told, %lu gaps\n", k, (unsigned long)stage->sub[k].delivered,
		       (unsigned long)stage->sub[k].lost, (unsigned long)stage->sub[k].gaps);
		bench_json("{\"figure\":\"two_lines_subscriber\",\"core\":%u,\"delivered\":%lu,\"lost\":%lu,\"gaps\":%lu}", k,
		           (unsigned long)stage->sub[k].delivered, (unsigned long)stage->sub[k].lost,
		           (unsigned long)stage->sub[k].gaps);
		wrong += stage->sub[k].wrong;
	}
	return wrong;
}

static void open_all(void)
{
	char text[2048];
	int told = dup(STDERR_FILENO), quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);

	CHECK(run("ip link add mdt2 numrxqueues 1 numtxqueues 1 type veth peer name mdt3 numrxqueues 1 numtxqueues 1"));
	CHECK(run("ip link set mdt2 up && ip link set mdt3 up"));
	CHECK(run("ethtool -K " LINE " gro on && ethtool -K mdt2 gro on"));
	bed_daemon_setup();
	snprintf(text, sizeof(text), "buses = ( { name = \"t\"; seats = 4; lines = ("
	         "{ name = \"A\"; backend = \"af_xdp\"; interface = \"%s\"; cpu = 0; idle_spins = 20; frames = 65536; rx_ring = 32768;"
	         "  fill_ring = 32768; },"
	         "{ name = \"B\"; backend = \"af_xdp\"; interface = \"%s\"; cpu = 1; idle_spins = 20; frames = 65536; rx_ring = 32768;"
	         "  fill_ring = 32768; } );"
	         "channels = ( { name = \"c\"; layout = \"moldudp64\"; depth = 1048576; gap_timeout_us = 500000;"
	         "  flows = { A = \"%s:%d\"; B = \"%s:%d\"; }; } ); } );", interface[0], interface[1], GROUP, PORT,
	         GROUP, PORT);
	bed_daemon_config(text);
	dup2(quiet, STDERR_FILENO); /* mdbusd has much to say when lines end */
	daemon_pid = bed_daemon_start(0);
	dup2(told, STDERR_FILENO);
	BED_CHECK(daemon_pid > 0, "mdbusd does not start");
}

int main(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || !open_bed("numrxqueues 1 numtxqueues 1")) {
		puts("bench_two_lines: needs two cores, root and network namespaces");
		return 77;
	}
	stage = bed_shared(sizeof(*stage));
	open_all();
	for (unsigned k = 0; k < LINES; k++)
		start(be_line, k);
	for (unsigned k = 0; k < SUBS; k++)
		start(be_subscriber, k);
	for (unsigned k = 0; k < LINES; k++)
		start(be_sender, k);
	measure();
	uint64_t wrong = report_subscribers();

	for (unsigned k = 0; k < LINES; k++)
		mdbus_store_release(&stage->sender[k].go, UINT32_MAX);
	mdbus_store_release(&stage->quit, 1);
	for (unsigned i = 0; i < npid; i++)
		waitpid(pids[i], NULL, 0);
	(void)bed_end(daemon_pid, SIGTERM);
	if (wrong != 0)
		fprintf(stderr, "bench_two_lines: %lu records out of order\n", (unsigned long)wrong);
	return wrong != 0;
}
#endif
