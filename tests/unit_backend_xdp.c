/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_backend_xdp - the AF_XDP backend on a real interface: a veth pair in a network namespace of this test's own.
 *
 * Frames are sent on one end by an AF_PACKET socket, never more at once than the rings hold, so each must arrive, once
 * and intact.
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

#define BURST 512u

static void send_to(const char *group, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		send_one(group, SOURCE, i);
}

/* Receive until `n` packets, numbered from `first` on, have come in order or a second has passed: how many came. */
static uint32_t receive(struct fake *f, void *line, uint32_t first, uint32_t n)
{
	uint64_t give_up = mdbus_clock_ns() + 1000000000u;
	struct mdbus_rx rx[64];
	uint32_t got = 0;

	while (got < n && mdbus_clock_ns() < give_up) {
		int k = xdp->poll(line, rx, 64);

		CHECK(k >= 0);
		for (int i = 0; i < k; i++) {
			CHECK(check_frame(f, &rx[i]) == first + got);
			got++;
			mdbus_frames_put(&f->pool, rx[i].frame);
		}
		if (k == 0)
			xdp->wait(line, 1000);
		xdp->refill(line);
	}
	return got;
}

/* ---- tests --------------------------------------------------------------------------------------------------- */

static void test_mode(const char *mode, const char *expect)
{
	struct fake f;
	void *line;

	new_fake(&f, 4096, 2048);
	snprintf(f.line.xdp_mode, sizeof(f.line.xdp_mode), "%s", mode);
	line = open_line(&f);
	CHECK(strcmp(f.arena->backend, expect) == 0);
	CHECK(group_joined());
	CHECK(!run("ip -d link show " LINE " | grep -q 'PROMISC\\|ALLMULTI\\|promiscuity [1-9]'"));
	for (uint32_t first = 0; first < 20000; first += BURST) {
		send_to(GROUP, first, BURST);
		CHECK(receive(&f, line, first, BURST) == BURST);
	}
	xdp->stats(line);
	CHECK(f.arena->count.nic_dropped == 0 && f.arena->count.ring_full == 0 && f.arena->count.bad_frame == 0);
	xdp->close(line);
	CHECK(!group_joined());
	CHECK(program_on_line() == 0);
	fake_check_all_free(&f);
	fake_free(&f);
}

/* With every frame held by the reader the queue drops and counts; once they are back it receives again. */
static void test_starved(void)
{
	struct mdbus_rx rx[64];
	struct fake f;
	uint64_t lost;
	void *line;
	int k;

	new_fake(&f, 64, 2048);
	line = open_line(&f);
	CHECK(f.pool.nfree == 0);
	send_to(GROUP, 0, BURST);
	usleep(20000);
	k = xdp->poll(line, rx, 64);
	CHECK(k == 64);
	for (uint32_t i = 0; i < 64; i++)
		CHECK(check_frame(&f, &rx[i]) == i);
	CHECK(xdp->poll(line, rx, 64) == 0);
	xdp->stats(line);
	lost = f.arena->count.nic_dropped + f.arena->count.ring_full;
	CHECK(lost == BURST - 64);
	CHECK(f.arena->count.fill_empty > 0);
	for (uint32_t i = 0; i < 64; i++)
		mdbus_frames_put(&f.pool, rx[i].frame);
	CHECK(xdp->poll(line, rx, 64) == 0); /* an idle poll lends what has come back meanwhile */
	CHECK(f.pool.nfree == 0);
	send_to(GROUP, 7000, 64);
	CHECK(receive(&f, line, 7000, 64) == 64);
	xdp->stats(line);
	CHECK(f.arena->count.nic_dropped + f.arena->count.ring_full == lost);
	xdp->close(line);
	fake_check_all_free(&f);
	fake_free(&f);
}

static uint32_t kernel_gets(int fd, uint32_t most)
{
	uint8_t bytes[2048];
	uint32_t n = 0;

	for (ssize_t len; n < most && (len = recv(fd, bytes, sizeof(bytes), 0)) > 0; n++)
		(void)numbered_check(bytes, (uint32_t)len);
	return n;
}

/* Other groups take the kernel's path while the line runs, and the feed does once it does not. */
static void test_pass(void)
{
	int mine = kernel_socket(GROUP), other = kernel_socket(OTHER);
	struct fake f;
	void *line;

	listen_on_line();
	new_fake(&f, 1024, 2048);
	line = open_line(&f);
	send_to(OTHER, 0, 50);
	send_to(GROUP, 50, 50);
	CHECK(receive(&f, line, 50, 50) == 50);
	CHECK(kernel_gets(other, 50) == 50);
	CHECK(kernel_gets(mine, 1) == 0);
	xdp->stats(line);
	CHECK(f.arena->count.not_feed >= 50);
	xdp->close(line);
	send_to(GROUP, 100, 50);
	CHECK(kernel_gets(mine, 50) == 50);
	close(mine);
	close(other);
	fake_free(&f);
}

/* A child that receives for ever; its fake arena is shared memory, so the parent sees what it counts. */
static pid_t start_child(struct fake *f)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct mdbus_rx rx[64];
		void *line = open_line(f);

		for (;;) {
			int k = xdp->poll(line, rx, 64);

			for (int i = 0; i < k; i++)
				mdbus_frames_put(&f->pool, rx[i].frame);
			mdbus_count(&f->arena->count.packets, k > 0 ? (uint64_t)k : 0);
			xdp->refill(line);
		}
	}
	return pid;
}

static void wait_for(struct fake *f, uint64_t packets)
{
	uint64_t give_up = mdbus_clock_ns() + UINT64_C(10000000000);

	while (mdbus_load_relaxed(&f->arena->count.packets) < packets) {
		CHECK(mdbus_clock_ns() < give_up);
		send_to(GROUP, 0, 1);
		usleep(100);
	}
}

/* Killed at full work: nothing stays on the interface, and the next one gets the queue. */
static void test_killed(void)
{
	uint64_t slowest = 0;

	for (uint32_t round = 0; round < 20; round++) {
		struct fake victim, f;
		uint64_t began;
		void *line;
		pid_t pid;

		new_fake(&victim, 4096, 2048);
		pid = start_child(&victim);
		wait_for(&victim, 5);
		CHECK(program_on_line() != 0);
		CHECK(kill(pid, SIGKILL) == 0);
		if (round % 2) {
			CHECK(waitpid(pid, NULL, 0) == pid);
			began = mdbus_clock_ns();
			while (program_on_line() != 0 || group_joined())
				CHECK(mdbus_clock_ns() - began < 1000000000u);
		}
		began = mdbus_clock_ns();
		new_fake(&f, 4096, 2048);
		line = open_line(&f);
		if (mdbus_clock_ns() - began > slowest)
			slowest = mdbus_clock_ns() - began;
		send_to(GROUP, 0, BURST);
		CHECK(receive(&f, line, 0, BURST) == BURST);
		xdp->close(line);
		if (round % 2 == 0)
			CHECK(waitpid(pid, NULL, 0) == pid);
		fake_free(&f);
		fake_free(&victim);
	}
	printf("queue taken after SIGKILL: slowest of 20 %.1f ms\n", (double)slowest / 1e6);
}

/* open must fail, say `word`, and leave nothing. */
static void expect_refused(struct fake *f, const char *word)
{
	f->env.flows = &feed;
	f->env.nflow = 1;
	CHECK(xdp->open(&f->env) == NULL);
	if (!strstr(f->env.error, word))
		printf("\"%s\" does not say \"%s\"\n", f->env.error, word);
	CHECK(strstr(f->env.error, word) != NULL);
	fake_check_all_free(f);
}

static void test_refused(void)
{
	struct fake f, first;
	void *line;

	new_fake(&f, 64, 2048);
	snprintf(f.line.interface, sizeof(f.line.interface), "nosuch0");
	expect_refused(&f, "no network interface \"nosuch0\"");
	f.line.interface[0] = '\0';
	expect_refused(&f, "needs an interface");
	snprintf(f.line.interface, sizeof(f.line.interface), LINE);
	f.line.queue = 7;
	expect_refused(&f, "no receive queue 7");
	f.line.queue = 0;
	f.line.rx_ring = 1000;
	expect_refused(&f, "rx_ring = 1000 is not a power of two");
	f.line.rx_ring = 4096;
	snprintf(f.line.xdp_copy, sizeof(f.line.xdp_copy), "zerocopy");
	expect_refused(&f, "no zero-copy");
	snprintf(f.line.xdp_mode, sizeof(f.line.xdp_mode), "skb");
	expect_refused(&f, "xdp_mode");
	snprintf(f.line.xdp_copy, sizeof(f.line.xdp_copy), "auto");
	snprintf(f.line.xdp_mode, sizeof(f.line.xdp_mode), "auto");
	CHECK(run("ip link set " LINE " mtu 3000"));
	expect_refused(&f, "MTU 3000 of interface " LINE " is too large");
	CHECK(run("ip link set " LINE " mtu 1500"));
	CHECK(run("ip link set " LINE " down"));
	expect_refused(&f, "is down");
	CHECK(run("ip link set " LINE " up"));
	CHECK(program_on_line() == 0);

	new_fake(&first, 64, 2048);
	line = open_line(&first);
	expect_refused(&f, "queue 0 of interface " LINE " is taken by another AF_XDP socket");
	snprintf(f.line.xdp_mode, sizeof(f.line.xdp_mode), "skb");
	expect_refused(&f, "runs its XDP program in mode native");
	snprintf(f.line.xdp_mode, sizeof(f.line.xdp_mode), "auto");
	send_to(GROUP, 0, 10);
	CHECK(receive(&first, line, 0, 10) == 10);
	xdp->close(line);
	CHECK(program_on_line() == 0);
	fake_free(&first);
	fake_free(&f);
}

/* A program that passes everything, on LINE by netlink, as some other tool would put it there.  Returns its id. */
static uint32_t put_foreign_program(const char *name)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, name, "GPL", pass, 2, NULL);

	CHECK(fd >= 0);
	CHECK(bpf_xdp_attach((int)if_nametoindex(LINE), fd, 0, NULL) == 0);
	close(fd);
	return program_on_line();
}

/* Somebody else's program is left alone and named, one that only has our program's name too. */
static void test_foreign(void)
{
	static const char *const names[] = { "their_prog", "mdbus_line" };

	for (int i = 0; i < 2; i++) {
		struct fake f;
		char says[80];

		new_fake(&f, 64, 2048);
		snprintf(says, sizeof(says), "has another XDP program already, \"%s\" (id %u)", names[i],
		         put_foreign_program(names[i]));
		expect_refused(&f, says);
		CHECK(program_on_line() != 0);
		CHECK(run("ip link set dev " LINE " xdp off"));
		fake_free(&f);
	}
}

static void test_unprivileged(void)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		struct fake f;

		new_fake(&f, 64, 2048);
		CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
		expect_refused(&f, "missing CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_IPC_LOCK");
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_large_frames(void)
{
	struct fake f;
	void *line;

	CHECK(run("ip link set " LINE " mtu 3000"));
	new_fake(&f, 1024, 4096);
	line = open_line(&f);
	send_to(GROUP, 0, BURST);
	CHECK(receive(&f, line, 0, BURST) == BURST);
	xdp->close(line);
	fake_check_all_free(&f);
	fake_free(&f);
	CHECK(run("ip link set " LINE " mtu 1500"));
}

/* An interface that is removed is an error of the line, not silence. */
static void test_removed(void)
{
	struct mdbus_rx rx[1];
	struct fake f;
	void *line;

	new_fake(&f, 64, 2048);
	line = open_line(&f);
	remove_pair();
	xdp->stats(line);
	CHECK(xdp->poll(line, rx, 1) < 0);
	xdp->close(line);
	fake_check_all_free(&f);
	fake_free(&f);
	make_pair("");
}

/* How fast about: one process sends, this one receives.  Printed, never judged. */
static void measure(void)
{
	const uint32_t n = 400000;
	uint64_t began = 0, ended = 0, got = 0;
	struct mdbus_rx rx[64];
	struct fake f;
	void *line;
	pid_t pid;

	new_fake(&f, 16384, 2048);
	line = open_line(&f);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		static uint8_t frames[64][HEADERS + 64];
		struct mmsghdr msgs[64] = { 0 };
		struct iovec iov[64];

		for (uint32_t i = 0; i < 64; i++) {
			iov[i].iov_base = frames[i];
			iov[i].iov_len = build(frames[i], GROUP, SOURCE, i, 64);
			msgs[i].msg_hdr.msg_iov = &iov[i];
			msgs[i].msg_hdr.msg_iovlen = 1;
		}
		for (uint32_t i = 0; i < n; i += 64)
			(void)sendmmsg(sender, msgs, 64, 0);
		_exit(0);
	}
	for (int k = 0; k > 0 || waitpid(pid, NULL, WNOHANG) == 0;) {
		k = xdp->poll(line, rx, 64);

		if (k > 0) {
			ended = mdbus_clock_ns();
			began = began ? began : ended;
			got += (uint64_t)k;
		}
		for (int i = 0; i < k; i++)
			mdbus_frames_put(&f.pool, rx[i].frame);
		xdp->refill(line);
	}
	xdp->stats(line);
	printf("%s: %.2f Mpps from one AF_PACKET sender, %lu of %u, dropped %lu, ring full %lu\n", f.arena->backend,
	       (double)got * 1e3 / (double)(ended - began), (unsigned long)got, n,
	       (unsigned long)f.arena->count.nic_dropped, (unsigned long)f.arena->count.ring_full);
	xdp->close(line);
	fake_free(&f);
}

int main(void)
{
	if (!open_bed("")) {
		printf("needs root, network namespaces and `ip`\n");
		return 77;
	}
	test_mode("auto", "af_xdp native copy");
	test_mode("native", "af_xdp native copy");
	test_mode("skb", "af_xdp skb copy");
	test_starved();
	test_pass();
	test_killed();
	test_refused();
	test_foreign();
	test_unprivileged();
	test_large_frames();
	test_removed();
	measure();
	remove_pair();
	return 0;
}
#endif
