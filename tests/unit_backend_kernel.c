/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_backend_kernel - the kernel backend on loopback, with both of its engines, privileged and not.
 *
 * The cases run once as they are, once more where a seccomp filter takes io_uring away (so the fallback is the real
 * one), and both again as nobody if this is root.  A case never has more on the way than a socket holds, so each
 * datagram must arrive once and intact.
 *
 * timeout: 120
 */
#include "backend_fake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BURST 200u

static const struct mdbus_backend_ops *const kernel = &mdbus_backend_kernel;
static const char *engine = "kernel io_uring";

/* ---- flows and senders ----------------------------------------------------------------------------------------- */

static uint16_t free_port(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
	close(fd);
	return ntohs(at.sin_port);
}

static struct mdbus_flow flow(const char *to, uint16_t port, const char *from)
{
	struct mdbus_flow f = { .port = port };

	CHECK(inet_pton(AF_INET, to, &f.addr) == 1);
	if (from)
		CHECK(inet_pton(AF_INET, from, &f.source) == 1);
	return f;
}

/* A socket that sends from this address, groups out of this interface. */
static int sender(const char *from, const char *interface)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	struct ip_mreqn out = { .imr_ifindex = (int)if_nametoindex(interface) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK(inet_pton(AF_INET, from, &at.sin_addr) == 1);
	CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) == 0);
	return fd;
}

static void send_bytes(int fd, const struct mdbus_flow *f, const void *bytes, size_t len)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr.s_addr = f->addr };

	CHECK(sendto(fd, bytes, len, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)len);
}

static uint32_t length_of(uint32_t number)
{
	return 4 + number * 37 % 1469;
}

static void send_number(int fd, const struct mdbus_flow *f, uint32_t number)
{
	uint8_t bytes[1472];

	numbered_fill(bytes, length_of(number), number);
	send_bytes(fd, f, bytes, length_of(number));
}

/* ---- the line -------------------------------------------------------------------------------------------------- */

static void *open_line(struct fake *f, const struct mdbus_flow *flows, uint32_t n)
{
	f->env.flows = flows;
	f->env.nflow = n;
	void *line = kernel->open(&f->env);

	if (!line)
		printf("%s\n", f->env.error);
	CHECK(line != NULL);
	if (strcmp(f->arena->backend, engine) != 0)
		printf("%s instead of %s\n", f->arena->backend, engine);
	CHECK(strcmp(f->arena->backend, engine) == 0);
	return line;
}

static void close_line(struct fake *f, void *line)
{
	kernel->close(line);
	fake_check_all_free(f);
	fake_free(f);
}

/* One datagram, or false if none comes for 100 ms. The caller owns its frame. */
static bool next(void *line, struct mdbus_rx *rx)
{
	uint64_t give_up = mdbus_clock_ns() + 100000000u;
	int n;

	while ((n = kernel->poll(line, rx, 1)) == 0 && mdbus_clock_ns() < give_up)
		kernel->wait(line, 1000);
	CHECK(n >= 0);
	return n == 1;
}

static uint32_t check_number(const struct fake *f, const struct mdbus_rx *rx, int32_t from_flow)
{
	uint32_t number = numbered_check(fake_bytes(f, rx), rx->len);

	CHECK(rx->flow == from_flow);
	CHECK(rx->len == length_of(number));
	return number;
}

static void expect(struct fake *f, void *line, int32_t from_flow, uint32_t number)
{
	struct mdbus_rx rx;

	CHECK(next(line, &rx));
	CHECK(check_number(f, &rx, from_flow) == number);
	mdbus_frames_put(&f->pool, rx.frame);
	kernel->refill(line);
}

static void expect_nothing(void *line)
{
	struct mdbus_rx rx;

	CHECK(!next(line, &rx));
}

/* ---- cases ------------------------------------------------------------------------------------------------------- */

static void test_stream(const char *to)
{
	struct mdbus_flow one = flow(to, free_port(), NULL);
	int fd = sender("127.0.0.1", "lo");
	struct mdbus_rx rx[64];
	struct fake f;
	void *line;

	fake_arena(&f, 1024, 2048);
	snprintf(f.line.interface, sizeof(f.line.interface), "lo");
	line = open_line(&f, &one, 1);
	for (uint32_t first = 0; first < 20000; first += BURST) {
		uint32_t got = 0;
		uint64_t give_up = mdbus_clock_ns() + UINT64_C(5000000000);

		for (uint32_t i = 0; i < BURST; i++)
			send_number(fd, &one, first + i);
		while (got < BURST) {
			int k = kernel->poll(line, rx, 64);

			CHECK(k >= 0 && mdbus_clock_ns() < give_up);
			for (int i = 0; i < k; i++) {
				CHECK(check_number(&f, &rx[i], 0) == first + got++);
				mdbus_frames_put(&f.pool, rx[i].frame);
			}
			kernel->refill(line);
		}
	}
	expect_nothing(line);
	kernel->stats(line);
	CHECK(f.arena->count.nic_dropped == 0 && f.arena->count.bad_length == 0);
	close(fd);
	close_line(&f, line);
}

/* Several flows, two of them groups on one port, and one flow named twice: each datagram once, with its own flow. */
static void test_flows(void)
{
	uint16_t port = free_port();
	struct mdbus_flow flows[] = {
		flow("239.81.1.1", port, NULL), flow("239.81.1.2", port, NULL), flow("239.81.1.1", port, NULL),
		flow("127.0.0.1", free_port(), NULL), flow("239.81.1.2", free_port(), NULL),
	};
	struct mdbus_flow stranger = flow("239.81.1.3", port, NULL);
	static const int32_t used[] = { 0, 1, 3, 4 };
	uint32_t seen[5] = { 0 };
	int fd = sender("127.0.0.1", "lo");
	struct mdbus_rx rx;
	struct fake f;
	void *line;

	fake_arena(&f, 1024, 2048);
	snprintf(f.line.interface, sizeof(f.line.interface), "lo");
	line = open_line(&f, flows, 5);
	for (uint32_t i = 0; i < 400; i++) {
		send_number(fd, &flows[used[i % 4]], i);
		send_number(fd, &stranger, i);
	}
	for (uint32_t i = 0; i < 400; i++) {
		uint32_t number;

		CHECK(next(line, &rx));
		number = check_number(&f, &rx, rx.flow);
		CHECK(used[number % 4] == rx.flow);
		CHECK(number / 4 == seen[rx.flow]++);
		mdbus_frames_put(&f.pool, rx.frame);
		kernel->refill(line);
	}
	expect_nothing(line);
	close(fd);
	close_line(&f, line);
}

/* More datagrams than frames, twice over, while the reader holds every frame: all of them come in the end. */
static void test_starved(void)
{
	struct mdbus_flow one = flow("127.0.0.1", free_port(), NULL);
	int fd = sender("127.0.0.1", "lo");
	struct mdbus_rx rx[64];
	struct fake f;
	void *line;

	fake_arena(&f, 32, 2048);
	line = open_line(&f, &one, 1);
	for (uint32_t round = 0; round < 2; round++) {
		uint32_t held = 0;

		for (uint32_t i = 0; i < 400; i++)
			send_number(fd, &one, i);
		while (held < 32) {
			CHECK(next(line, &rx[held]));
			CHECK(check_number(&f, &rx[held], 0) == held);
			held++;
		}
		for (uint32_t i = 0; i < 100; i++) {
			CHECK(kernel->poll(line, &rx[32], 32) == 0);
			kernel->refill(line);
			kernel->wait(line, 100);
		}
		while (held)
			mdbus_frames_put(&f.pool, rx[--held].frame);
		for (uint32_t i = 32; i < 400; i++)
			expect(&f, line, 0, i);
	}
	expect_nothing(line);
	kernel->stats(line);
	CHECK(f.arena->count.nic_dropped == 0);
	close(fd);
	close_line(&f, line);
}

/* Too long for a frame: counted, and the line goes on.  Empty: a datagram like any other. */
static void test_lengths(void)
{
	struct mdbus_flow one = flow("127.0.0.1", free_port(), NULL);
	int fd = sender("127.0.0.1", "lo");
	static uint8_t big[9000];
	struct mdbus_rx rx;
	struct fake f;
	void *line;

	fake_arena(&f, 64, 2048);
	line = open_line(&f, &one, 1);
	for (uint32_t round = 0; round < 200; round++) {
		send_number(fd, &one, 2 * round);
		send_bytes(fd, &one, big, 1985 + round * 35);
		send_bytes(fd, &one, big, 0);
		send_number(fd, &one, 2 * round + 1);
		expect(&f, line, 0, 2 * round);
		CHECK(next(line, &rx) && rx.len == 0 && rx.flow == 0);
		mdbus_frames_put(&f.pool, rx.frame);
		expect(&f, line, 0, 2 * round + 1);
	}
	CHECK(f.arena->count.bad_length == 200);
	expect_nothing(line);
	close(fd);
	close_line(&f, line);
}

/* What the socket had to drop is counted, to the datagram. */
static void test_overflow(void)
{
	struct mdbus_flow one = flow("127.0.0.1", free_port(), NULL);
	int fd = sender("127.0.0.1", "lo");
	uint64_t sent = 0, got = 0;
	struct mdbus_rx rx;
	struct fake f;
	void *line;

	fake_arena(&f, 16, 2048);
	line = open_line(&f, &one, 1);
	while (f.arena->count.nic_dropped < 1000) {
		for (uint32_t i = 0; i < 2000; i++)
			send_number(fd, &one, (uint32_t)sent++);
		kernel->stats(line);
		CHECK(sent < 1000000);
	}
	while (next(line, &rx)) {
		(void)check_number(&f, &rx, 0);
		got++;
		mdbus_frames_put(&f.pool, rx.frame);
		kernel->refill(line);
	}
	kernel->stats(line);
	CHECK(got + f.arena->count.nic_dropped == sent);
	close(fd);
	close_line(&f, line);
}

static void test_sources(const char *to)
{
	struct mdbus_flow one = flow(to, free_port(), "127.0.0.2");
	int wanted = sender("127.0.0.2", "lo"), unwanted = sender("127.0.0.3", "lo");
	struct fake f;
	void *line;

	fake_arena(&f, 256, 2048);
	snprintf(f.line.interface, sizeof(f.line.interface), "lo");
	line = open_line(&f, &one, 1);
	for (uint32_t i = 0; i < 50; i++) {
		send_number(unwanted, &one, 1000 + i);
		send_number(wanted, &one, i);
	}
	for (uint32_t i = 0; i < 50; i++)
		expect(&f, line, 0, i);
	expect_nothing(line);
	close(wanted);
	close(unwanted);
	close_line(&f, line);
}

static void expect_refused(struct fake *f, const struct mdbus_flow *flows, uint32_t n, const char *word)
{
	f->env.flows = flows;
	f->env.nflow = n;
	CHECK(kernel->open(&f->env) == NULL);
	if (!strstr(f->env.error, word))
		printf("\"%s\" does not say \"%s\"\n", f->env.error, word);
	CHECK(strstr(f->env.error, word) != NULL);
	fake_check_all_free(f);
}

static void test_refused(void)
{
	struct mdbus_flow flows[] = { flow("127.0.0.1", free_port(), NULL), flow("198.51.100.7", 7, NULL) };
	struct fake f, first;
	void *line;

	fake_arena(&f, 64, 2048);
	expect_refused(&f, flows, 0, "carries no channel");
	expect_refused(&f, flows, 2, "198.51.100.7:7");
	snprintf(f.line.interface, sizeof(f.line.interface), "nosuch0");
	expect_refused(&f, flows, 1, "no network interface \"nosuch0\"");
	f.line.interface[0] = '\0';
	fake_arena(&first, 64, 2048);
	line = open_line(&first, flows, 1);
	expect_refused(&f, flows, 1, "another process has this port");
	close_line(&first, line);
	fake_free(&f);
}

/* A receiver killed at full work: its successor has the same port, and gets what is sent from then on. */
static void test_killed(void)
{
	struct mdbus_flow one = flow("127.0.0.1", free_port(), NULL);
	int fd = sender("127.0.0.1", "lo");

	for (uint32_t round = 0; round < 10; round++) {
		struct fake victim, f;
		void *line;
		pid_t pid;

		fake_arena(&victim, 256, 2048);
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			struct mdbus_rx rx;

			line = open_line(&victim, &one, 1);
			for (;;) {
				if (kernel->poll(line, &rx, 1) != 1)
					continue;
				mdbus_frames_put(&victim.pool, rx.frame);
				mdbus_count(&victim.arena->count.packets, 1);
				kernel->refill(line);
			}
		}
		while (mdbus_load_relaxed(&victim.arena->count.packets) < 100)
			send_number(fd, &one, 1);
		CHECK(kill(pid, SIGKILL) == 0);
		fake_arena(&f, 256, 2048);
		line = open_line(&f, &one, 1);
		CHECK(waitpid(pid, NULL, 0) == pid);
		for (uint32_t i = 0; i < 50; i++)
			send_number(fd, &one, i);
		for (uint32_t i = 0; i < 50; i++)
			expect(&f, line, 0, i);
		close_line(&f, line);
		fake_free(&victim);
	}
	close(fd);
}

static void all_cases(void)
{
	test_stream("127.0.0.1");
	test_stream("239.81.1.9");
	test_flows();
	test_starved();
	test_lengths();
	test_overflow();
	test_sources("127.0.0.1");
	test_sources("239.81.1.9");
	test_refused();
	test_killed();
}

/* ---- two lines on two interfaces, the same group and port on both ------------------------------------------ */

static bool run(const char *command)
{
	char quiet[256];

	snprintf(quiet, sizeof(quiet), "PATH=$PATH:/usr/sbin:/sbin; %s >/dev/null 2>&1", command);
	return system(quiet) == 0;
}

static void make_pairs(void)
{
	CHECK(run("ip link set lo up && sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"));
	CHECK(run("ip link add mdt0 type veth peer name mdt1 && ip link add mdt2 type veth peer name mdt3"));
	CHECK(run("for i in 0 1 2 3; do ip link set mdt$i up && ip addr add 10.99.$i.1/24 dev mdt$i || exit 1; done"));
	CHECK(run("sysctl -w net.ipv4.conf.mdt0.accept_local=1 net.ipv4.conf.mdt2.accept_local=1"));
}

static void test_two_lines(void)
{
	struct mdbus_flow one = flow("239.81.1.9", 26477, NULL);
	int to_a = sender("10.99.1.1", "mdt1"), to_b = sender("10.99.3.1", "mdt3");
	struct fake a, b;
	void *line_a, *line_b;

	fake_arena(&a, 256, 2048);
	fake_arena(&b, 256, 2048);
	snprintf(a.line.interface, sizeof(a.line.interface), "mdt0");
	snprintf(b.line.interface, sizeof(b.line.interface), "mdt2");
	line_a = open_line(&a, &one, 1);
	line_b = open_line(&b, &one, 1);
	for (uint32_t i = 0; i < 50; i++) {
		send_number(to_a, &one, i);
		send_number(to_b, &one, 1000 + i);
	}
	for (uint32_t i = 0; i < 50; i++) {
		expect(&a, line_a, 0, i);
		expect(&b, line_b, 0, 1000 + i);
	}
	expect_nothing(line_a);
	expect_nothing(line_b);
	CHECK(run("ip link del mdt0"));
	kernel->stats(line_a);
	CHECK(kernel->poll(line_a, &(struct mdbus_rx){ 0 }, 1) == -ENODEV);
	CHECK(run("ip link del mdt2"));
	close(to_a);
	close(to_b);
	close_line(&a, line_a);
	close_line(&b, line_b);
}

/* ---- the runs --------------------------------------------------------------------------------------------------- */

static void forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
	engine = "kernel recvmmsg";
}

static void in_child(bool as_nobody, bool without_io_uring)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		if (as_nobody)
			CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
		if (without_io_uring)
			forbid_io_uring();
		all_cases();
		exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == 0);
}

int main(void)
{
	bool root = geteuid() == 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (root && unshare(CLONE_NEWNET) == 0) {
		make_pairs();
		test_two_lines();
	}
	all_cases();
	in_child(false, true);
	if (root) {
		in_child(true, false);
		in_child(true, true);
	}
	return 0;
}
