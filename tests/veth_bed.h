/* SPDX-License-Identifier: Apache-2.0
 *
 * veth_bed.h - what the tests of the AF_XDP backend share: a veth pair, frames to send on one end of it, and a line that
 * receives on the other.
 *
 * The pair is in a network namespace of the test's own, which belongs to the process, so it is gone with it, however the
 * test ends.
 */
#ifndef MDBUS_TESTS_VETH_BED_H
#define MDBUS_TESTS_VETH_BED_H

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>
#include "backend_fake.h"

#define LINE    "mdt0"
#define PEER    "mdt1"
#define GROUP   "233.54.12.111"
#define OTHER   "233.54.12.112"
#define PORT    26477
#define SOURCE  5000 /* port */
#define HEADERS 42u

static const struct mdbus_backend_ops *const xdp = &mdbus_backend_af_xdp;
static struct mdbus_flow feed = { .port = PORT };
static int sender = -1;

static inline bool run(const char *command)
{
	char quiet[256];

	snprintf(quiet, sizeof(quiet), "PATH=$PATH:/usr/sbin:/sbin; %s >/dev/null 2>&1", command);
	return system(quiet) == 0;
}

/* options: of `ip link add LINE` and of its peer, such as "numrxqueues 2 numtxqueues 2". */
static inline void make_pair(const char *options)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	char command[200];

	snprintf(command, sizeof(command), "ip link add " LINE " %s type veth peer name " PEER " %s", options, options);
	CHECK(run(command));
	CHECK(run("ip link set " LINE " up && ip link set " PEER " up"));
	sender = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	CHECK(sender >= 0);
	to.sll_ifindex = (int)if_nametoindex(PEER);
	CHECK(bind(sender, (struct sockaddr *)&to, sizeof(to)) == 0);
}

static inline void remove_pair(void)
{
	close(sender);
	CHECK(run("ip link del " LINE));
}

/* A namespace with such a pair in it. False: this host has none to give. */
static inline bool open_bed(const char *options)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0 || !run("ip link show lo"))
		return false;
	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(inet_pton(AF_INET, GROUP, &feed.addr) == 1);
	make_pair(options);
	return true;
}

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline uint32_t build(uint8_t *frame, const char *group, uint32_t source, uint32_t number, uint32_t len)
{
	static const uint8_t head[] = { 0x01, 0x00, 0x5e, 0x36, 0x0c, 0x6f, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0 };
	uint32_t sum = 0;

	memset(frame, 0, HEADERS);
	memcpy(frame, head, sizeof(head));
	put16(frame + 16, 28 + len);
	put16(frame + 22, 64 << 8 | IPPROTO_UDP);
	CHECK(inet_pton(AF_INET, "10.0.0.1", frame + 26) == 1);
	CHECK(inet_pton(AF_INET, group, frame + 30) == 1);
	for (uint32_t i = 14; i < 34; i += 2)
		sum += (uint32_t)frame[i] << 8 | frame[i + 1];
	put16(frame + 24, ~((sum & 0xffff) + (sum >> 16)));
	put16(frame + 34, source);
	put16(frame + 36, PORT);
	put16(frame + 38, 8 + len);
	numbered_fill(frame + HEADERS, len, number);
	return HEADERS + len;
}

static inline uint32_t length_of(uint32_t number)
{
	return 4 + number * 37 % 1469;
}

static inline void send_one(const char *group, uint32_t source, uint32_t number)
{
	uint8_t frame[HEADERS + 1472];
	uint32_t len = build(frame, group, source, number, length_of(number));

	while (send(sender, frame, len, 0) != (ssize_t)len)
		CHECK(errno == ENOBUFS || errno == EAGAIN);
}

/* Number of a packet that came in whole and unchanged. */
static inline uint32_t check_frame(const struct fake *f, const struct mdbus_rx *rx)
{
	const uint8_t *frame = fake_bytes(f, rx);
	uint32_t number;

	CHECK(rx->flow == -1);
	CHECK(rx->len >= HEADERS + 4);
	CHECK(memcmp(frame + 30, &feed.addr, 4) == 0);
	number = numbered_check(frame + HEADERS, rx->len - HEADERS);
	CHECK(rx->len == HEADERS + length_of(number));
	return number;
}

static inline void *open_line(struct fake *f)
{
	f->env.flows = &feed;
	f->env.nflow = 1;
	void *line = xdp->open(&f->env);

	if (!line)
		printf("%s\n", f->env.error);
	CHECK(line != NULL);
	return line;
}

static inline void new_fake(struct fake *f, uint32_t nframes, uint32_t frame_size)
{
	fake_arena(f, nframes, frame_size);
	snprintf(f->line.interface, sizeof(f->line.interface), LINE);
}

static inline uint32_t program_on_line(void)
{
	uint32_t id = 0;

	CHECK(bpf_xdp_query_id((int)if_nametoindex(LINE), 0, &id) == 0);
	return id;
}

static inline bool group_joined(void)
{
	return run("grep -q -i 6F0C36E9 /proc/net/igmp");
}

/* A socket that hears what the kernel gets of a group; LINE needs an address. */
static inline int kernel_socket(const char *group)
{
	struct timeval patience = { .tv_usec = 300000 };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct ip_mreqn join = { .imr_ifindex = (int)if_nametoindex(LINE) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK(inet_pton(AF_INET, group, &to.sin_addr) == 1);
	join.imr_multiaddr = to.sin_addr;
	CHECK(bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	CHECK(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
	return fd;
}

/* Let the kernel's path hear packets from 10.0.0.1. */
static inline void listen_on_line(void)
{
	CHECK(run("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf." LINE ".rp_filter=0"));
	CHECK(run("ip addr add 10.0.0.2/24 dev " LINE));
}

#endif
