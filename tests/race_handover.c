/* SPDX-License-Identifier: Apache-2.0
 *
 * Two processes, one of which hands all packets over to the other, killed with SIGKILL and stopped at random moments and
 * started again, while a reader expects every message once, in order and whole.  A packet counts as received when the giver's
 * round is over; what a killed giver had in hand comes in again, as another line would bring it.  In the end every frame is found.
 *
 * timeout: 240
 * mutants: handed_not_taken_back freed_at_once handed_forgotten
 */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../bus/arena.h"
#include "line_bed.h"

#define LINES  3u  /* the giver, and two takers */
#define SIZE   128u
#define FRAMES 512u
#define GIVEN  8u   /* packets at once */
#define AHEAD  500u /* messages that the giver may be ahead of the reader: frames for those by reference are there */
#define GAP_NS UINT64_C(400000000)
#define LONG_NS UINT64_C(20000000000) /* longer than any message may be missing */
#define KILLS  400u

/* Shared between the processes. */
struct shared {
	uint64_t received; /* first number that the giver has not taken */
	uint64_t read;     /* number that the reader expects */
	uint64_t bad;
};

static struct shared *shared;
static struct bed bed;
static struct mdbus_line line;
static pid_t child[LINES];
static uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

static uint32_t chance(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % n;
}

static void __attribute__((noreturn)) run(uint32_t k)
{
	bool greedy = chance(4) == 0; /* give without regard to whether there is room */

	source.next = mdbus_load_relaxed(&shared->received);
	line_bed_up(&bed, &line, k);
	line.desc.batch = k == 0 ? GIVEN : line.desc.batch;
	for (uint64_t n = 0;; n++) {
		if (k == 0 && (greedy || line.arena->count.frames_handed < SIZE / 2u))
			source.end = mdbus_load_relaxed(&shared->read) + AHEAD;
		else if (k == 0)
			source.end = source.next;
		int got = mdbus_line_round(&line);

		if (got < 0)
			_exit(1);
		if (k == 0)
			mdbus_store_release(&shared->received, source.next);
		if (n % 64 == 0)
			frames_add_up(&line);
		if (got == 0 || k == 0)
			sched_yield();
	}
}

static void start(uint32_t k)
{
	(void)chance(2);
	child[k] = fork();
	CHECK(child[k] >= 0);
	if (child[k] == 0)
		run(k);
}

/* What mdbusd does about a death. */
static void end(uint32_t k)
{
	int status;

	CHECK(kill(child[k], SIGKILL) == 0 && waitpid(child[k], &status, 0) == child[k]);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	line_bed_down(&bed, k);
	mdbus_line_reclaim(&bed.bus, k);
}

static struct mdbus_sub *sub;
static uint64_t last_ns;

/* Read for a while; all that comes must be what is next. */
static void read_for(uint64_t ns)
{
	uint64_t end_ns = mdbus_clock_ns() + ns, now;
	struct mdbus_record r;

	for (;;) {
		for (uint32_t i = 0; i < 256 && mdbus_sub_next(sub, &r); i++) {
			if (r.kind != MDBUS_RECORD_DATA || r.seq != shared->read || !is_message(&r)) {
				printf("message %llu: a record of kind %u, number %llu%s\n", (unsigned long long)shared->read,
				       r.kind, (unsigned long long)r.seq, r.kind == MDBUS_RECORD_DATA ? ", torn or double" : "");
				exit(1);
			}
			mdbus_store_relaxed(&shared->read, shared->read + 1u);
			last_ns = mdbus_clock_ns();
		}
		now = mdbus_clock_ns();
		if (now >= end_ns)
			return;
		if (now - last_ns > LONG_NS) {
			printf("message %llu has not come; %llu were received\n", (unsigned long long)shared->read,
			       (unsigned long long)shared->received);
			exit(1);
		}
		sched_yield();
	}
}

static void kill_children(void)
{
	for (uint32_t k = 0; k < LINES; k++)
		if (child[k] > 0)
			kill(child[k], SIGKILL);
}

/* All that was received has been read. */
static void drain(void)
{
	while (shared->read < mdbus_load_acquire(&shared->received))
		read_for(1000000);
}

static void interfere(uint32_t taker)
{
	uint32_t k = chance(3) == 0 ? 0 : taker;

	if (chance(8) == 0) { /* stopped for longer than the giver's patience, or shorter */
		CHECK(kill(child[taker], SIGSTOP) == 0);
		read_for(chance(2) ? GAP_NS / 3u : 1000000u);
		CHECK(kill(child[taker], chance(2) ? SIGKILL : SIGCONT) == 0);
		return;
	}
	end(k);
	if (chance(4) == 0) { /* both */
		uint32_t other = k == 0 ? taker : 0;

		end(other);
		if (chance(2)) {
			start(other);
			read_for(chance(3000000));
			start(k);
			return;
		}
		start(k);
		read_for(chance(3000000));
		start(other);
		return;
	}
	read_for(chance(3) == 0 ? chance(5000000) : 0);
	start(k);
}

/* A process that was killed while it was stopped. */
static void replace(uint32_t k)
{
	if (waitpid(child[k], NULL, WNOHANG) != child[k])
		return;
	line_bed_down(&bed, k);
	mdbus_line_reclaim(&bed.bus, k);
	start(k);
}

/* Nothing is under way: every frame is free, or a record by reference has it. */
static void look_at_frames(void)
{
	uint32_t away = 0;

	for (uint32_t k = 0; k < LINES; k++)
		end(k);
	line_bed_up(&bed, &line, 0);
	for (uint32_t i = 0; i < 3; i++) {
		CHECK(mdbus_line_round(&line) >= 0);
		source.end = 0;
	}
	frames_add_up(&line);
	for (uint32_t f = 0; f < FRAMES; f++)
		away += line.holds.refs[f];
	CHECK_U64(away, line.holds.head - line.holds.tail);
	CHECK_U64(mdbus_load_relaxed(&line.arena->count.frames_handed), 0);
}

int main(void)
{
	uint64_t handed, back, bad;
	struct mdbus_arena_hdr *a;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED);
	shared->received = shared->read = 1;
	line_bed_open(&bed, LINES, FRAMES, 1, SIZE, GAP_NS);
	a = bed.bus.arena[0].base;
	sub = mdbus_sub_over(&bed.bus, NULL);
	last_ns = mdbus_clock_ns();
	atexit(kill_children);
	for (uint32_t taker = 1; taker < LINES; taker++) {
		source = (struct bed_source){ .port = port_of_share(taker, LINES) };
		for (uint32_t k = 0; k < LINES; k++)
			start(k);
		for (uint32_t i = 0; i < KILLS / (LINES - 1u); i++) {
			read_for(chance(4000000));
			interfere(taker);
			replace(taker);
		}
		drain();
		for (uint32_t k = 0; k < LINES; k++)
			end(k);
	}
	for (uint32_t k = 0; k < LINES; k++)
		start(k);
	drain();
	handed = a->count.handed, back = a->count.handed_back, bad = a->count.handed_bad;
	look_at_frames();
	CHECK(handed > back && back > 0);
	CHECK_U64(bad, 0);
	printf("count: %u kills and stops, %llu messages, %llu packets handed over, %llu taken back\n", KILLS,
	       (unsigned long long)shared->read - 1u, (unsigned long long)handed, (unsigned long long)back);
	for (uint32_t k = 0; k < LINES; k++)
		child[k] = 0;
	return 0;
}
