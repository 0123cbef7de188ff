/* SPDX-License-Identifier: Apache-2.0
 * mutants: link_not_held flows_not_kept_apart
 *
 * unit_backend_xdp_queues - two queues of one interface, each received by a process of its own.
 *
 * The interface spreads flows (told apart by their source port) over its queues by a hash that this test does not know, so it
 * looks where each arrives: on one queue, always that one, whole.  Then either process is killed at full work, in either
 * order of start, and the other must not miss a packet.
 *
 * timeout: 120
 */
#include "backend_fake.h"

#ifndef MDBUS_HAVE_XDP
int main(void)
{
	printf("built without AF_XDP\n");
	return 77;
}
#else
#include <signal.h>
#include <sys/wait.h>
#include "veth_bed.h"

#define QUEUES  2u
#define SOURCES 64u
#define TURN    4u /* packets of each source in one go: few enough for the rings, whatever the hash does */
#define SECOND  UINT64_C(1000000000)

/* What a receiving process tells: in memory shared with this one. */
struct heard {
	uint32_t ready;
	uint32_t packets;
	uint32_t next[SOURCES]; /* number expected next of each source; 0: none heard */
	uint32_t count[SOURCES];
	uint32_t wrong; /* packets that did not continue their source's numbers */
};

struct receiver {
	pid_t pid;
	uint32_t queue;
	struct heard *heard;
	struct fake fake;
};

static struct receiver receiver[QUEUES];
static uint32_t sent; /* of each source */

/* ---- a receiving process --------------------------------------------------------------------------------------- */

static void hear(struct heard *h, const struct fake *f, const struct mdbus_rx *rx)
{
	const uint8_t *frame = fake_bytes(f, rx);
	uint32_t source = ((uint32_t)frame[34] << 8 | frame[35]) - SOURCE, number = check_frame(f, rx);

	CHECK(source < SOURCES);
	if (h->next[source] != 0 && h->next[source] != number)
		mdbus_store_relaxed(&h->wrong, h->wrong + 1);
	mdbus_store_relaxed(&h->next[source], number + 1);
	mdbus_store_relaxed(&h->count[source], h->count[source] + 1);
	mdbus_store_release(&h->packets, h->packets + 1);
}

static void __attribute__((noreturn)) receive(struct receiver *r)
{
	struct mdbus_rx rx[64];
	void *line = open_line(&r->fake);

	mdbus_store_release(&r->heard->ready, 1u);
	for (;;) {
		int n = xdp->poll(line, rx, 64);

		CHECK(n >= 0);
		for (int i = 0; i < n; i++) {
			hear(r->heard, &r->fake, &rx[i]);
			mdbus_frames_put(&r->fake.pool, rx[i].frame);
		}
		xdp->refill(line);
		if (n == 0)
			xdp->wait(line, 1000);
	}
}

static void launch(uint32_t queue)
{
	struct receiver *r = &receiver[queue];

	if (!r->heard) {
		r->heard = mmap(NULL, sizeof(*r->heard), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		CHECK(r->heard != MAP_FAILED);
		r->queue = queue;
	}
	memset(r->heard, 0, sizeof(*r->heard));
	new_fake(&r->fake, 2048, 2048);
	r->fake.line.queue = queue;
	r->fake.line.rx_ring = r->fake.line.fill_ring = 1024;
	r->pid = fork();
	CHECK(r->pid >= 0);
	if (r->pid == 0)
		receive(r);
}

static void await_ready(uint32_t queue)
{
	uint64_t give_up = mdbus_clock_ns() + 10 * SECOND;

	while (!mdbus_load_acquire(&receiver[queue].heard->ready)) {
		CHECK(waitpid(receiver[queue].pid, NULL, WNOHANG) == 0);
		CHECK(mdbus_clock_ns() < give_up);
		usleep(100);
	}
}

static void end(uint32_t queue)
{
	CHECK(kill(receiver[queue].pid, SIGKILL) == 0);
	CHECK(waitpid(receiver[queue].pid, NULL, 0) == receiver[queue].pid);
	fake_free(&receiver[queue].fake);
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

static uint32_t packets(uint32_t queue)
{
	return mdbus_load_acquire(&receiver[queue].heard->packets);
}

/* TURN packets of each source; the numbers of all sources go on together. */
static void send_turn(void)
{
	for (uint32_t i = 0; i < TURN; i++, sent++) {
		for (uint32_t source = 0; source < SOURCES; source++)
			send_one(GROUP, SOURCE + source, sent);
	}
}

/* Until the receivers have `n` packets together. */
static void await_packets(uint32_t n)
{
	uint64_t give_up = mdbus_clock_ns() + 5 * SECOND;

	while (packets(0) + packets(1) < n && mdbus_clock_ns() < give_up)
		usleep(100);
	if (packets(0) + packets(1) != n)
		printf("%u and %u packets, not %u\n", packets(0), packets(1), n);
	CHECK(packets(0) + packets(1) == n);
}

/* The queue that carries each source. */
static uint32_t owner[SOURCES], owned[QUEUES];

static void learn_owners(void)
{
	memset(owned, 0, sizeof(owned));
	for (uint32_t s = 0; s < SOURCES; s++) {
		owner[s] = receiver[1].heard->count[s] > 0;
		owned[owner[s]]++;
	}
	CHECK(owned[0] > 0 && owned[1] > 0);
}

/* Each queue has heard all of its own sources, in order, and nothing of the others. */
static void check_disjoint(uint32_t each)
{
	for (uint32_t s = 0; s < SOURCES; s++) {
		CHECK(receiver[owner[s]].heard->count[s] == each);
		CHECK(receiver[!owner[s]].heard->count[s] == 0);
	}
	CHECK(receiver[0].heard->wrong == 0 && receiver[1].heard->wrong == 0);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

/* Both at once, so that both find no program and one of them loses the race for the place. */
static void test_together(void)
{
	for (uint32_t round = 0; round < 10; round++) {
		CHECK(program_on_line() == 0);
		launch(round % 2);
		launch(!(round % 2));
		await_ready(0);
		await_ready(1);
		for (uint32_t i = 1; i <= 4; i++) {
			send_turn();
			await_packets(i * TURN * SOURCES);
		}
		learn_owners();
		check_disjoint(4 * TURN);
		end(0);
		end(1);
		for (uint64_t began = mdbus_clock_ns(); program_on_line() != 0 || group_joined();)
			CHECK(mdbus_clock_ns() - began < SECOND);
	}
	printf("64 flows over two queues: %u and %u\n", owned[0], owned[1]);
}

static uint32_t kernel_gets(int fd)
{
	uint8_t bytes[2048];
	uint32_t n = 0;

	while (recv(fd, bytes, sizeof(bytes), n ? MSG_DONTWAIT : 0) > 0)
		n++;
	return n;
}

/* `dies` is killed while packets flow; `lives` hears all of its own all along, the kernel those of the dead. */
static void kill_one(uint32_t first, uint32_t dies, int kernel)
{
	uint32_t lives = !dies, id, before, survivors;

	launch(first);
	await_ready(first);
	launch(!first);
	await_ready(!first);
	id = program_on_line();
	CHECK(id != 0);
	send_turn();
	await_packets(TURN * SOURCES);
	for (uint32_t i = 0; i < 8; i++) {
		send_turn();
		if (i == 3)
			CHECK(kill(receiver[dies].pid, SIGKILL) == 0);
		usleep(1000);
	}
	CHECK(waitpid(receiver[dies].pid, NULL, 0) == receiver[dies].pid);
	survivors = 9 * TURN * owned[lives];
	for (uint64_t began = mdbus_clock_ns(); packets(lives) < survivors;)
		CHECK(mdbus_clock_ns() - began < 5 * SECOND);
	(void)kernel_gets(kernel);
	send_turn();
	CHECK(kernel_gets(kernel) == TURN * owned[dies]);
	survivors += TURN * owned[lives];
	for (uint64_t began = mdbus_clock_ns(); packets(lives) < survivors;)
		CHECK(mdbus_clock_ns() - began < 5 * SECOND);
	CHECK(packets(lives) == survivors && receiver[lives].heard->wrong == 0);
	CHECK(program_on_line() == id && group_joined());

	fake_free(&receiver[dies].fake); /* and a successor joins the program that is there */
	launch(dies);
	await_ready(dies);
	CHECK(program_on_line() == id);
	before = packets(lives);
	send_turn();
	await_packets(before + TURN * SOURCES);
	CHECK(receiver[lives].heard->wrong == 0 && receiver[dies].heard->wrong == 0);
	CHECK(kernel_gets(kernel) == 0);
	end(lives);
	end(dies);
	for (uint64_t began = mdbus_clock_ns(); program_on_line() != 0;)
		CHECK(mdbus_clock_ns() - began < SECOND);
}

/* A process that ends in order leaves the flows that the other has too. */
static void test_close(void)
{
	struct fake f;
	void *line;

	launch(0);
	await_ready(0);
	new_fake(&f, 2048, 2048);
	f.line.queue = 1;
	line = open_line(&f);
	xdp->close(line);
	fake_check_all_free(&f);
	send_turn();
	for (uint64_t began = mdbus_clock_ns(); packets(0) < TURN * owned[0];)
		CHECK(mdbus_clock_ns() - began < 5 * SECOND);
	fake_free(&f);
	end(0);
}

int main(void)
{
	int kernel;

	if (!open_bed("numrxqueues 2 numtxqueues 2")) {
		printf("needs root, network namespaces and `ip`\n");
		return 77;
	}
	test_together();
	listen_on_line();
	kernel = kernel_socket(GROUP);
	CHECK(setsockopt(kernel, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ 1 << 23 }, sizeof(int)) == 0);
	for (uint32_t i = 0; i < 8; i++)
		kill_one(i / 2 % 2, i % 2, kernel);
	close(kernel);
	test_close();
	for (uint64_t began = mdbus_clock_ns(); program_on_line() != 0 || group_joined();)
		CHECK(mdbus_clock_ns() - began < SECOND);
	remove_pair();
	return 0;
}
#endif
