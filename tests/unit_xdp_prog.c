/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_xdp_prog - the XDP program's verdict, asked of the kernel by BPF_PROG_TEST_RUN with packets made here.
 *
 * The program is loaded and told its flows as the backend does it; an AF_XDP socket that is bound to nothing is enough for
 * the map, since a test run carries no redirect out.
 *
 * timeout: 60
 */
#include "backend_fake.h"

#ifndef MDBUS_HAVE_XDP
int main(void)
{
	printf("built without AF_XDP\n");
	return 77;
}
#else
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../ingest/backend_xdp_prog.h"

#define GROUP  "233.54.12.111"
#define SOURCE "10.9.8.7"
#define PORT   26477

/* Everything a packet of these tests may vary in. */
struct shape {
	uint32_t vlans;
	uint16_t tpid;   /* of the outermost tag, 0: 802.1Q */
	uint16_t ether;  /* 0: IPv4 */
	uint32_t ihl;    /* words, 0: 5 */
	uint32_t version; /* 0: 4 */
	uint16_t frag;
	uint8_t proto;   /* 0: UDP */
	const char *to;  /* NULL: GROUP */
	const char *from;
	uint16_t port;   /* 0: PORT */
};

struct packet {
	uint8_t bytes[256];
	uint32_t len;
};

static void put16(struct packet *p, uint16_t v)
{
	p->bytes[p->len++] = (uint8_t)(v >> 8);
	p->bytes[p->len++] = (uint8_t)v;
}

static void put_address(struct packet *p, const char *text)
{
	CHECK(inet_pton(AF_INET, text, &p->bytes[p->len]) == 1);
	p->len += 4;
}

static void build(struct packet *p, const struct shape *s)
{
	uint32_t ihl = s->ihl ? s->ihl : 5;

	memset(p, 0, sizeof(*p));
	p->len = 12;
	for (uint32_t i = 0; i < s->vlans; i++) {
		put16(p, i == 0 && s->tpid ? s->tpid : ETH_P_8021Q);
		put16(p, (uint16_t)(100 + i));
	}
	put16(p, s->ether ? s->ether : ETH_P_IP);
	put16(p, (uint16_t)((s->version ? s->version : 4) << 12 | ihl << 8));
	put16(p, (uint16_t)(ihl * 4 + 8 + 20));
	put16(p, 1);
	put16(p, s->frag);
	put16(p, (uint16_t)(64 << 8 | (s->proto ? s->proto : IPPROTO_UDP)));
	put16(p, 0);
	put_address(p, s->from ? s->from : "10.0.0.1");
	put_address(p, s->to ? s->to : GROUP);
	for (uint32_t i = 5; i < ihl; i++) {
		put16(p, 0x0101);
		put16(p, 0x0101);
	}
	put16(p, 5000);
	put16(p, s->port ? s->port : PORT);
	put16(p, 28);
	put16(p, 0);
	p->len += 20;
}

static uint32_t verdict_of(const struct mdbus_xdp_prog *prog, const uint8_t *bytes, uint32_t len)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = bytes, .data_size_in = len);

	CHECK(bpf_prog_test_run_opts(prog->prog, &opts) == 0);
	return opts.retval;
}

static uint32_t verdict(const struct mdbus_xdp_prog *prog, struct shape s)
{
	struct packet p;

	build(&p, &s);
	return verdict_of(prog, p.bytes, p.len);
}

static uint64_t count_of(struct mdbus_xdp_prog *prog, enum line_xdp_count why)
{
	uint64_t counts[LINE_XDP_COUNTS];

	CHECK(mdbus_xdp_prog_counts(prog, counts) == 0);
	return counts[why];
}

/* The verdict is PASS and exactly one counter, this one, goes up by one. */
static void expect_left(struct mdbus_xdp_prog *prog, enum line_xdp_count why, struct shape s)
{
	uint64_t before[LINE_XDP_COUNTS], after[LINE_XDP_COUNTS];

	CHECK(mdbus_xdp_prog_counts(prog, before) == 0);
	CHECK(verdict(prog, s) == XDP_PASS);
	CHECK(mdbus_xdp_prog_counts(prog, after) == 0);
	for (uint32_t i = 0; i < LINE_XDP_COUNTS; i++)
		CHECK(after[i] - before[i] == (i == (uint32_t)why));
}

static struct mdbus_flow flow(const char *to, uint16_t port, const char *from)
{
	struct mdbus_flow f = { .port = port };

	CHECK(inet_pton(AF_INET, to, &f.addr) == 1);
	if (from)
		CHECK(inet_pton(AF_INET, from, &f.source) == 1);
	return f;
}

static int any_socket(void)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	return fd;
}

static void load(struct mdbus_xdp_prog *prog)
{
	char err[512] = "";
	int rc;

	mdbus_xdp_prog_init(prog);
	rc = mdbus_xdp_prog_load(prog, err, sizeof(err));
	if (rc == -EPERM) {
		printf("may not load a program: %s\n", err);
		exit(77);
	}
	if (rc)
		printf("%s\n", err);
	CHECK(rc == 0);
}

static void start(struct mdbus_xdp_prog *prog, uint32_t queue, const struct mdbus_flow *flows, uint32_t n, int xsk)
{
	char err[512] = "";

	if (mdbus_xdp_prog_start(prog, queue, flows, n, xsk, err, sizeof(err)) != 0) {
		printf("%s\n", err);
		exit(1);
	}
}

static void test_headers(struct mdbus_xdp_prog *prog)
{
	CHECK(verdict(prog, (struct shape){ 0 }) == XDP_REDIRECT);
	for (uint32_t ihl = 0; ihl < 16; ihl++) {
		struct packet p;

		build(&p, &(struct shape){ .ihl = ihl < 5 ? 5 : ihl });
		p.bytes[14] = (uint8_t)(0x40 | ihl);
		if (ihl == 0 || ihl == 2 || ihl == 3) { /* a believer would find the right port inside the IP header */
			p.bytes[14 + 4 * ihl + 2] = PORT >> 8;
			p.bytes[14 + 4 * ihl + 3] = PORT & 0xff;
		}
		CHECK(verdict_of(prog, p.bytes, p.len) == (ihl < 5 ? XDP_PASS : XDP_REDIRECT));
	}
	CHECK(verdict(prog, (struct shape){ .vlans = 1 }) == XDP_REDIRECT);
	CHECK(verdict(prog, (struct shape){ .vlans = 2 }) == XDP_REDIRECT);
	CHECK(verdict(prog, (struct shape){ .vlans = 2, .tpid = ETH_P_8021AD }) == XDP_REDIRECT);
	CHECK(verdict(prog, (struct shape){ .vlans = 2, .ihl = 15 }) == XDP_REDIRECT);
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .vlans = 3 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .ether = ETH_P_IPV6 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .ether = ETH_P_ARP });
	expect_left(prog, LINE_XDP_MALFORMED, (struct shape){ .version = 6 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .proto = IPPROTO_TCP });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .proto = IPPROTO_IGMP });
}

static void test_addresses(struct mdbus_xdp_prog *prog)
{
	CHECK(verdict(prog, (struct shape){ .to = "10.1.2.3", .port = 7000 }) == XDP_REDIRECT);
	CHECK(verdict(prog, (struct shape){ .port = PORT + 1 }) == XDP_REDIRECT);
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .port = PORT + 2 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .port = PORT - 1 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .port = 7000 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .port = (uint16_t)(PORT >> 8 | PORT << 8) });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .to = "233.54.12.112" });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .to = "10.1.2.3" });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .to = "111.12.54.233" });
}

/* Port 0 is what the fragment entries use for a key: it must not be a way in. */
static void test_port_zero(struct mdbus_xdp_prog *prog)
{
	struct packet p;

	build(&p, &(struct shape){ 0 });
	memset(&p.bytes[36], 0, 2);
	CHECK(verdict_of(prog, p.bytes, p.len) == XDP_PASS);
}

static void test_fragments(struct mdbus_xdp_prog *prog)
{
	CHECK(verdict(prog, (struct shape){ .frag = 0x4000 }) == XDP_REDIRECT);
	expect_left(prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x2000 });
	expect_left(prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x2001 });
	expect_left(prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x0001 });
	expect_left(prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x1fff });
	expect_left(prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x00b9, .port = 1 });
	expect_left(prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x2000, .vlans = 2, .ihl = 9 });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .frag = 0x2000, .to = "233.54.12.1" });
	expect_left(prog, LINE_XDP_OTHER, (struct shape){ .frag = 0x2000, .proto = IPPROTO_TCP });
}

/* Cut anywhere before the end of the UDP header: PASS.  The kernel runs no frame shorter than an Ethernet header. */
static void test_truncation(struct mdbus_xdp_prog *prog)
{
	for (uint32_t vlans = 0; vlans < 3; vlans++) {
		for (uint32_t ihl = 5; ihl < 16; ihl += 5) {
			uint32_t whole = 14 + 4 * vlans + 4 * ihl + 8;
			struct packet p;

			build(&p, &(struct shape){ .vlans = vlans, .ihl = ihl });
			for (uint32_t len = 0; len <= p.len; len++) {
				LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p.bytes, .data_size_in = len);
				uint64_t before = count_of(prog, LINE_XDP_MALFORMED);
				int rc = bpf_prog_test_run_opts(prog->prog, &opts);

				CHECK(rc == 0 || len < ETH_HLEN);
				if (rc)
					continue;
				CHECK(opts.retval == (len < whole ? XDP_PASS : XDP_REDIRECT));
				CHECK(count_of(prog, LINE_XDP_MALFORMED) - before == (len < whole));
			}
		}
	}
}

static void test_random(struct mdbus_xdp_prog *prog)
{
	srandom(7);
	for (int i = 0; i < 20000; i++) {
		struct packet p;
		uint32_t cut;

		build(&p, &(struct shape){ .vlans = (uint32_t)random() % 3, .ihl = 5 + (uint32_t)random() % 11 });
		for (long n = random() % 4; n >= 0; n--)
			p.bytes[12 + (uint32_t)random() % (p.len - 12)] = (uint8_t)random();
		cut = ETH_HLEN + (uint32_t)random() % (p.len - ETH_HLEN);
		uint32_t got = verdict_of(prog, p.bytes, cut);

		CHECK(got == XDP_PASS || got == XDP_REDIRECT);
	}
}

static void test_plain(void)
{
	const struct mdbus_flow flows[] = {
		flow(GROUP, PORT, NULL), flow(GROUP, PORT + 1, NULL), flow("10.1.2.3", 7000, NULL),
	};
	struct mdbus_xdp_prog prog;
	int xsk;

	load(&prog);
	CHECK(verdict(&prog, (struct shape){ 0 }) == XDP_PASS); /* not started yet */
	xsk = any_socket();
	start(&prog, 0, flows, 3, xsk);
	test_headers(&prog);
	test_addresses(&prog);
	test_port_zero(&prog);
	test_fragments(&prog);
	test_truncation(&prog);
	test_random(&prog);
	close(xsk);
	usleep(1000);
	CHECK(verdict(&prog, (struct shape){ 0 }) == XDP_PASS); /* no socket any more */
	mdbus_xdp_prog_close(&prog);
}

static void test_sources(void)
{
	const struct mdbus_flow flows[] = {
		flow(GROUP, PORT, SOURCE), flow(GROUP, PORT + 1, NULL), flow("233.1.1.1", PORT, "10.1.1.1"),
	};
	struct mdbus_xdp_prog prog;
	int xsk = any_socket();

	load(&prog);
	start(&prog, 0, flows, 3, xsk);
	CHECK(verdict(&prog, (struct shape){ .from = SOURCE }) == XDP_REDIRECT);
	expect_left(&prog, LINE_XDP_OTHER, (struct shape){ .from = "10.1.1.1" });
	CHECK(verdict(&prog, (struct shape){ .from = "10.1.1.1", .to = "233.1.1.1" }) == XDP_REDIRECT);
	expect_left(&prog, LINE_XDP_OTHER, (struct shape){ .from = SOURCE, .to = "233.1.1.1" });
	CHECK(verdict(&prog, (struct shape){ .from = "10.1.1.1", .port = PORT + 1 }) == XDP_REDIRECT);
	expect_left(&prog, LINE_XDP_FRAGMENT, (struct shape){ .from = "10.1.1.1", .frag = 0x2000 });
	close(xsk);
	mdbus_xdp_prog_close(&prog);
}

/* A test run comes on queue 0: to a line of another queue it is a packet gone astray. */
static void test_queue(void)
{
	const struct mdbus_flow one = flow(GROUP, PORT, NULL);
	struct mdbus_xdp_prog prog;
	int xsk = any_socket();

	load(&prog);
	start(&prog, 3, &one, 1, xsk);
	expect_left(&prog, LINE_XDP_WRONG_QUEUE, (struct shape){ 0 });
	expect_left(&prog, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x2000 });
	prog.queue = 0;
	expect_left(&prog, LINE_XDP_OTHER, (struct shape){ .port = 1 });
	prog.queue = 3;
	close(xsk);
	mdbus_xdp_prog_close(&prog);
}

static void test_many_flows(void)
{
	struct mdbus_flow flows[MDBUS_CHANNELS_MAX];
	struct mdbus_xdp_prog prog;
	int xsk = any_socket();

	for (uint32_t i = 0; i < MDBUS_CHANNELS_MAX; i++) {
		flows[i] = flow("233.1.0.0", (uint16_t)(1 + i), NULL);
		flows[i].addr |= htonl(i);
	}
	load(&prog);
	start(&prog, 0, flows, MDBUS_CHANNELS_MAX, xsk);
	for (uint32_t i = 0; i < MDBUS_CHANNELS_MAX; i++) {
		char to[INET_ADDRSTRLEN];

		inet_ntop(AF_INET, &flows[i].addr, to, sizeof(to));
		CHECK(verdict(&prog, (struct shape){ .to = to, .port = flows[i].port }) == XDP_REDIRECT);
		CHECK(verdict(&prog, (struct shape){ .to = to, .port = (uint16_t)(flows[i].port + 1) }) == XDP_PASS);
	}
	close(xsk);
	mdbus_xdp_prog_close(&prog);
}

/* The same program as another process would hold it. */
static struct mdbus_xdp_prog held_again(const struct mdbus_xdp_prog *prog)
{
	struct mdbus_xdp_prog again;

	mdbus_xdp_prog_init(&again);
	again.prog = dup(prog->prog);
	again.flows = dup(prog->flows);
	again.sockets = dup(prog->sockets);
	again.counts = dup(prog->counts);
	return again;
}

static uint32_t entries(const struct mdbus_xdp_prog *prog)
{
	struct line_xdp_key at;
	uint32_t n = 0;

	for (bool more = bpf_map_get_next_key(prog->flows, NULL, &at) == 0; more;
	     more = bpf_map_get_next_key(prog->flows, &at, &at) == 0)
		n++;
	return n;
}

/* Test runs come on queue 0.  What queue 1 has too, or alone, and what becomes of it when queue 1's process goes. */
static void test_two_queues(void)
{
	const struct mdbus_flow zero[] = { flow(GROUP, PORT, NULL) };
	const struct mdbus_flow one[] = { flow(GROUP, PORT, NULL), flow(GROUP, PORT + 1, NULL), flow("233.1.1.1", PORT, SOURCE) };
	struct mdbus_xdp_prog a, b, c;
	int xsk = any_socket(), other = any_socket();

	load(&a);
	b = held_again(&a);
	c = held_again(&a);
	start(&a, 0, zero, 1, xsk);
	start(&b, 1, one, 3, other);
	CHECK(verdict(&a, (struct shape){ 0 }) == XDP_REDIRECT);
	expect_left(&b, LINE_XDP_WRONG_QUEUE, (struct shape){ .port = PORT + 1 });
	expect_left(&b, LINE_XDP_WRONG_QUEUE, (struct shape){ .to = "233.1.1.1", .from = SOURCE });
	expect_left(&a, LINE_XDP_OTHER, (struct shape){ .to = "233.1.1.1" });
	expect_left(&b, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x2000 });

	start(&c, 1, one, 1, other); /* b was killed: its successor has fewer flows */
	expect_left(&a, LINE_XDP_OTHER, (struct shape){ .port = PORT + 1 });
	CHECK(verdict(&a, (struct shape){ 0 }) == XDP_REDIRECT);
	CHECK(entries(&a) == 4);
	mdbus_xdp_prog_close(&c);
	CHECK(entries(&a) == 3);
	CHECK(verdict(&a, (struct shape){ 0 }) == XDP_REDIRECT);
	expect_left(&a, LINE_XDP_FRAGMENT, (struct shape){ .frag = 0x2000 }); /* handed over */
	b.owns = false;
	c = held_again(&a);
	mdbus_xdp_prog_close(&a);
	CHECK(entries(&c) == 0);
	mdbus_xdp_prog_close(&b);
	mdbus_xdp_prog_close(&c);
	close(xsk);
	close(other);
}

int main(void)
{
	test_plain();
	test_sources();
	test_queue();
	test_two_queues();
	test_many_flows();
	return 0;
}
#endif
