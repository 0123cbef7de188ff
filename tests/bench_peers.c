/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_peers - mdbus beside what else carries messages between two processes: the same work, in the same minutes.
 *
 *   hop    half a round trip of a message that is answered by one of its size, 100,000 rounds a second, receivers that spin;
 *          as a multiple of the floor: the same round with bare words (bench.h)
 *   rate   messages/s from one process to one other that takes them all; nothing is lost, the sender waits
 *
 * For each size all peers stand ready at once, each with two processes asleep, and take turns of some 20 ms: A B A B.  Each
 * turn has the floor before and after it, and is worth nothing where that moved by more than a fifth.  Virtual cores are
 * sometimes near each other and sometimes far; figures of near and of far turns are kept apart, since
 * a median over both says nothing.  MDBUS_BENCH_ROUNDS is the number of turns, 15 if not given, MDBUS_BENCH_PEERS a part of
 * the names of those wanted.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include "peer.h"
#include "peer_report.h"

#define HOPS       1000u
#define ROUND_NS   10000
#define RATE_NS    15e6 /* a turn of the rate takes about so long */
#define WARM       2000u
#define ROUNDS_MAX 50u
#define PASSES     3u /* over all sizes, so that each meets cores near and far */
#define TRIES      3u /* turns instead of one whose floor moved */
#define BUDGET_S   200
#define ANSWER_MS  20000

static const struct peer *const peers[] = {
	&peer_mdbus,         &peer_mdbus_single, &peer_rte_ring, &peer_rte_ring_burst, &peer_rte_ring_zc,
	&peer_iceoryx,       &peer_zeromq,       &peer_nanomsg,  &peer_pipe,           &peer_unix,
};
static const uint32_t sizes[] = { 32, 48, 64, 240, 256, 1400 };

#define PEERS ((unsigned)(sizeof(peers) / sizeof(peers[0])))
#define SIZES ((unsigned)(sizeof(sizes) / sizeof(sizes[0])))

enum what { HOP, RATE, QUIT };

struct order {
	enum what what;
	uint64_t base, n;
};

/* What a pair of sides share. */
struct stage {
	struct bench_pair pair;
	double before, after; /* floors, ns */
	double p50, p99;      /* hop, ns */
	double ns;            /* rate: of the whole turn */
	uint64_t wrong[2], switches[2];
};

/* A pair of processes under way. */
static struct run {
	const char *why; /* it is not taken part in; NULL: it is */
	struct stage *stage;
	pid_t pid[2];
	int orders[2]; /* pipes to them */
	int answers;
	uint64_t base, n; /* of its next rate turn */
} runs[PEERS];

static double begun;

/* ---- a side, in its own process ---------------------------------------------------------------------------------- */

static uint64_t switches(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)u.ru_nivcsw;
}

static void turn(const struct peer *p, struct stage *s, unsigned side, uint32_t len, const struct order *o)
{
	static double ticks[HOPS];
	uint64_t pace = (uint64_t)(ROUND_NS / bench_ns(1));
	double before = bench_floor(&s->pair, side, pace);

	bench_meet(&s->pair, side);
	uint64_t had = switches(), begin = bench_ticks();

	if (o->what == HOP)
		s->wrong[side] += p->hop(side, len, o->base, o->n, pace, ticks);
	else if (side == 0)
		p->produce(len, o->base, o->n);
	else
		s->wrong[side] += p->consume(len, o->base, o->n);
	bench_meet(&s->pair, side);
	double ns = bench_ns((double)(bench_ticks() - begin));

	s->switches[side] = switches() - had;
	double after = bench_floor(&s->pair, side, pace);

	if (side != 0)
		return;
	s->before = bench_ns(before);
	s->after = bench_ns(after);
	s->ns = ns;
	if (o->what == HOP) {
		s->p50 = bench_ns(bench_quantile(ticks, o->n, 0.5));
		s->p99 = bench_ns(bench_quantile(ticks, o->n, 0.99));
	}
}

/* A peer's own threads inherit the claim, and get their turn when the side gives the core away. */
static void be_side(const struct peer *p, struct stage *s, unsigned side, uint32_t len, int orders, int answers)
{
	struct order o;

	bed_pin(side);
	if (p->threads)
		bench_claim();
	p->open(side, len);
	while (read(orders, &o, sizeof(o)) == (ssize_t)sizeof(o) && o.what != QUIT) {
		bench_claim();
		turn(p, s, side, len, &o);
		bench_rest();
		if (write(answers, "", 1) != 1)
			break;
	}
	bench_rest();
	if (p->close)
		p->close();
	exit(0); /* libraries say good-bye to their brokers on the way */
}

/* ---- the pairs --------------------------------------------------------------------------------------------------- */

static void part(struct run *r, const struct peer *p, bool force)
{
	static const struct order quit = { .what = QUIT };

	for (unsigned i = 0; i < 2; i++) {
		if (force || write(r->orders[i], &quit, sizeof(quit)) != (ssize_t)sizeof(quit))
			kill(r->pid[i], SIGKILL);
	}
	for (unsigned i = 0; i < 2; i++) {
		waitpid(r->pid[i], NULL, 0);
		r->pid[i] = 0;
		close(r->orders[i]);
	}
	close(r->answers);
	munmap(r->stage, sizeof(*r->stage));
	if (p->drop)
		p->drop();
}

static void pair_up(struct run *r, const struct peer *p, uint32_t len)
{
	int orders[2][2], answers[2];
	pid_t parent = getpid();

	if (p->prepare)
		p->prepare(len);
	fflush(stdout);
	r->stage = bed_shared(sizeof(*r->stage));
	r->base = 1;
	r->n = WARM;
	BED_CHECK(pipe2(orders[0], O_CLOEXEC) == 0 && pipe2(orders[1], O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0,
	          "no pipes: %s", strerror(errno));
	for (unsigned side = 0; side < 2; side++) {
		if ((r->pid[side] = fork()) == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			be_side(p, r->stage, side, len, orders[side][0], answers[1]);
		}
		BED_CHECK(r->pid[side] > 0, "no process: %s", strerror(errno));
		r->orders[side] = orders[side][1];
	}
	close(orders[0][0]);
	close(orders[1][0]);
	close(answers[1]);
	r->answers = answers[0];
}

/* False: the pair is gone, or does not answer. */
static bool ask(struct run *r, const struct order *o)
{
	struct pollfd p = { .fd = r->answers, .events = POLLIN };
	char answer;

	for (unsigned i = 0; i < 2; i++)
		if (write(r->orders[i], o, sizeof(*o)) != (ssize_t)sizeof(*o))
			return false;
	for (unsigned i = 0; i < 2; i++)
		if (poll(&p, 1, ANSWER_MS) != 1 || read(r->answers, &answer, 1) != 1)
			return false;
	return true;
}

/* ---- turns ------------------------------------------------------------------------------------------------------- */

static double since(double then)
{
	return (double)mdbus_clock_ns() * 1e-9 - then;
}

static void record(const struct peer *p, uint32_t len, enum what what, const struct stage *s, uint64_t n)
{
	struct turn t = {
		.peer = p,
		.len = len,
		.hop = what == HOP,
		.floor = (s->before + s->after) / 2,
		.steady = bench_steady(s->before, s->after),
		.switches = s->switches[0] + s->switches[1],
	};

	t.value = what == HOP ? s->p50 : (double)n / s->ns * 1e3;
	t.p99 = what == HOP ? s->p99 : 0;
	report_turn(&t);
	BED_CHECK(s->wrong[0] + s->wrong[1] == 0, "%s, %u bytes: %lu messages torn, lost or out of order", p->name, len,
	          (unsigned long)(s->wrong[0] + s->wrong[1]));
}

/* One turn, or a few until one has a steady floor.  False: the pair has failed. */
static bool take_turn(const struct peer *p, struct run *r, uint32_t len, enum what what, bool warm)
{
	for (unsigned i = 0; i < TRIES; i++) {
		struct order o = { .what = what, .base = r->base, .n = what == RATE ? r->n : HOPS };

		if (!ask(r, &o))
			return false;
		r->base += o.n;
		if (what == RATE) /* a tenth at least of what it was: a hiccup is no measure */
			r->n = (uint64_t)fmax((double)o.n / 10 + 100, (double)o.n / r->stage->ns * RATE_NS);
		if (warm)
			return true;
		record(p, len, what, r->stage, o.n);
		if (bench_steady(r->stage->before, r->stage->after) || since(begun) > BUDGET_S)
			return true;
	}
	return true;
}

static void fail(unsigned i, const char *why)
{
	part(&runs[i], peers[i], true);
	runs[i].why = why;
}

static void measure_size(uint32_t len, unsigned rounds)
{
	for (unsigned i = 0; i < PEERS; i++)
		if (!runs[i].why)
			pair_up(&runs[i], peers[i], len);
	for (unsigned round = 0; round <= rounds; round++) {
		for (unsigned k = 0; k < 2u * PEERS; k++) {
			unsigned i = k % PEERS;
			enum what what = k < PEERS ? HOP : RATE;

			if (runs[i].why || (what == HOP && peers[i]->bursts))
				continue;
			if (!take_turn(peers[i], &runs[i], len, what, round == 0))
				fail(i, "did not answer within 20 s, or ended by itself");
		}
	}
	for (unsigned i = 0; i < PEERS; i++)
		if (!runs[i].why)
			part(&runs[i], peers[i], false);
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t ending;

static void end(int sig)
{
	ending = sig;
	for (unsigned i = 0; i < PEERS; i++)
		for (unsigned side = 0; side < 2; side++)
			if (runs[i].pid[side] > 0)
				kill(runs[i].pid[side], SIGKILL);
}

static unsigned rounds_wanted(void)
{
	const char *text = getenv("MDBUS_BENCH_ROUNDS");
	unsigned n = text ? (unsigned)strtoul(text, NULL, 10) : 15;

	return n < 1 ? 1 : n > ROUNDS_MAX ? ROUNDS_MAX : n;
}

static void start_all(void)
{
	const char *wanted = getenv("MDBUS_BENCH_PEERS");

	for (unsigned i = 0; i < PEERS; i++) {
		runs[i].why = peers[i]->absent;
		if (wanted && !strstr(peers[i]->name, wanted) && !peers[i]->ours)
			runs[i].why = "not asked for";
		if (!runs[i].why && peers[i]->start)
			runs[i].why = peers[i]->start();
	}
}

int main(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		puts("bench_peers: needs two cores");
		return 77;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGINT, end);
	signal(SIGTERM, end);
	signal(SIGPIPE, SIG_IGN);
	begun = since(0);
	bench_ns(1);
	start_all();
	printf("mdbus and its peers: %u sizes, %u turns each\n", SIZES, rounds_wanted());
	for (unsigned i = 0; i < PASSES * SIZES && !ending && (i < SIZES || since(begun) < BUDGET_S); i++)
		measure_size(sizes[i % SIZES], (rounds_wanted() + PASSES - 1u) / PASSES);
	for (unsigned i = 0; i < PEERS; i++) {
		if (peers[i]->stop && peers[i]->start && !peers[i]->absent)
			peers[i]->stop();
		if (runs[i].why && !ending)
			report_absent(peers[i], runs[i].why);
	}
	report_all(peers, PEERS, sizes, SIZES);
	printf("%s %.0f s\n", ending ? "interrupted after" : "took", since(begun));
	return ending ? 128 + ending : 0;
}
