/* SPDX-License-Identifier: Apache-2.0
 * mutants: vbridge_one_queue vbridge_flood_back vbridge_no_learning
 *
 * unit_vbridge.c - the virtual bridge, with clients that a few lines of the test are.
 *
 * Frames get where they should and nowhere else; a flow comes out on the queue that the hash of rss.h says, which is another
 * piece of code than the bridge's; clients that die, stop or write nonsense harm nobody else.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#ifndef MDBUS_HAVE_DPDK
int main(void)
{
	puts("built without DPDK");
	return 77;
}
#else
#include "../ingest/rss.h"
#include "memif_bed.h"

#define CHECK(x)                                                                   \
	do {                                                                       \
		if (!(x)) {                                                        \
			printf("%s: %s:%d: %s\n", doing, __func__, __LINE__, #x); \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

#define FRAME 90u
#define ALL   UINT64_C(0xffffffffffff)
#define GROUP(addr) (UINT64_C(0x01005e000000) | ((addr) & 0x7fffff))

static const char *doing = "";
static struct mdbus_vbridge bridge;
static char place[64]; /* "": no bridge is open */

/* At a failed check, too. */
static void clean_up(void)
{
	if (place[0])
		mdbus_vbridge_close(&bridge);
	place[0] = '\0';
}

static void begin(const char *what, const char *const *ports)
{
	char err[512];

	doing = what;
	memset(&bridge, 0, sizeof(bridge));
	snprintf(place, sizeof(place), "/tmp/mdbus-vbridge.XXXXXX");
	CHECK(mkdtemp(place));
	while (*ports)
		CHECK(mdbus_vbridge_add(&bridge, *ports++, err, sizeof(err)) == 0);
	CHECK(mdbus_vbridge_open(&bridge, place, err, sizeof(err)) == 0);
}

static void end(void)
{
	char was[sizeof(place)];

	memcpy(was, place, sizeof(was));
	clean_up();
	CHECK(access(was, F_OK) < 0);
}

#define PORTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static struct mdbus_link *link_of(uint32_t port, uint32_t queue)
{
	return &bridge.port[port].queue[queue];
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

struct flow {
	uint32_t src, dst;
	uint16_t sport, dport;
};

static uint8_t *put(uint8_t *p, uint64_t value, uint32_t bytes)
{
	while (bytes--)
		*p++ = (uint8_t)(value >> 8 * bytes);
	return p;
}

/* A UDP frame, with a VLAN tag if vlan is not 0, marked `mark` at its end. */
static uint32_t make(uint8_t *frame, uint64_t to, uint64_t from, const struct flow *f, uint16_t vlan, uint32_t mark)
{
	uint8_t *p = put(put(frame, to, 6), from, 6);

	memset(p, 0, FRAME - 12u);
	if (vlan)
		p = put(p, UINT64_C(0x8100) << 16 | vlan, 4);
	p = put(p, 0x0800, 2);
	put(p, 0x45, 1);
	put(p + 9, 17, 1);
	put(put(p + 12, f->src, 4), f->dst, 4);
	put(put(p + 20, f->sport, 2), f->dport, 2);
	put(frame + FRAME - 4, mark, 4);
	return FRAME;
}

static void emit(struct client *c, uint64_t to, uint64_t from, uint32_t mark)
{
	static const struct flow flow = { 0x0a000001, 0x0a000002, 1, 2 };
	uint8_t frame[FRAME];

	CHECK(client_send(c, frame, make(frame, to, from, &flow, 0, mark)));
}

static void run(void)
{
	while (mdbus_vbridge_forward(&bridge, mdbus_clock_ns()) > 0)
		;
}

/* The mark of the next frame; 0: there is none; UINT32_MAX: it is none of the test's. */
static uint32_t next_of_any(struct client *c)
{
	uint8_t frame[CLIENT_BUFFER];
	uint32_t mark, len = client_receive(c, frame);

	if (len != FRAME)
		return len ? UINT32_MAX : 0;
	memcpy(&mark, frame + FRAME - 4, 4);
	return ntohl(mark);
}

static uint32_t next(struct client *c)
{
	uint32_t mark = next_of_any(c);

	CHECK(mark != UINT32_MAX);
	return mark;
}

/* What each of three clients has got, and nothing else. */
static void got(struct client *c, uint32_t a, uint32_t b, uint32_t d)
{
	const uint32_t want[3] = { a, b, d };

	run();
	for (uint32_t i = 0; i < 3; i++) {
		CHECK(next(&c[i]) == want[i]);
		CHECK(want[i] == 0 || next(&c[i]) == 0);
	}
}

/* ---- where frames go ------------------------------------------------------------------------------------------- */

enum { MAC_A = 0x020000000a, MAC_B = 0x020000000b, MAC_D = 0x020000000d };

static void open_three(struct client *c)
{
	CHECK(client_open(&c[0], &bridge, "a"));
	CHECK(client_open(&c[1], &bridge, "b"));
	CHECK(client_open(&c[2], &bridge, "d"));
}

static void close_three(struct client *c)
{
	for (uint32_t i = 0; i < 3; i++)
		client_die(&c[i]);
	mdbus_vbridge_control(&bridge, mdbus_clock_ns());
	end();
}

static void test_learning(void)
{
	struct client c[3];

	begin("who is where is learned", PORTS("a", "b", "d"));
	open_three(c);
	emit(&c[0], MAC_B, MAC_A, 1); /* nobody has heard of B */
	got(c, 0, 1, 1);
	emit(&c[1], MAC_A, MAC_B, 2);
	got(c, 2, 0, 0);
	emit(&c[0], MAC_B, MAC_A, 3);
	got(c, 0, 3, 0);
	emit(&c[0], ALL, MAC_A, 4);
	got(c, 0, 4, 4);
	emit(&c[1], GROUP(0x010203), MAC_B, 5);
	got(c, 5, 0, 5);
	emit(&c[2], ALL, MAC_B, 6); /* B has moved */
	got(c, 6, 6, 0);
	emit(&c[0], MAC_B, MAC_A, 7);
	got(c, 0, 0, 7);
	emit(&c[2], MAC_B, MAC_D, 8); /* both behind one port */
	got(c, 0, 0, 0);
	CHECK(bridge.port[2].count.filtered == 1);
	emit(&c[0], MAC_D, ALL, 9); /* a group is no sender */
	emit(&c[1], ALL, MAC_B, 10);
	run();
	CHECK(mdbus_vtable_find(&bridge.table, ALL, mdbus_clock_ns()) < 0);
	CHECK(mdbus_vtable_find(&bridge.table, MAC_A, mdbus_clock_ns() + MDBUS_VTABLE_AGE_NS) < 0);
	close_three(c);
}

static void test_groups(void)
{
	static const struct flow flow = { 0x0a000001, 0xe9360c6f, 5, 5 }, other = { 0x0a000001, 0xe9360c70, 5, 5 };
	uint8_t frame[FRAME];
	struct client c[3];

	begin("a port has its groups", PORTS("a", "b,group=233.54.12.111", "d,group=233.54.12.112,group=233.54.12.113"));
	open_three(c);
	CHECK(client_send(&c[0], frame, make(frame, GROUP(flow.dst), MAC_A, &flow, 0, 1)));
	got(c, 0, 1, 0);
	CHECK(client_send(&c[0], frame, make(frame, GROUP(other.dst), MAC_A, &other, 0, 2)));
	got(c, 0, 0, 2);
	emit(&c[0], ALL, MAC_A, 3);
	got(c, 0, 3, 3);
	close_three(c);
}

/* Two bridges in one: what is said in one net is not heard in the other, whoever may be there. */
static void test_nets(void)
{
	struct client c[3];

	begin("nets", PORTS("a,net=A", "b,net=A", "d,net=B"));
	open_three(c);
	emit(&c[0], ALL, MAC_A, 1);
	got(c, 0, 1, 0);
	emit(&c[2], MAC_A, MAC_D, 2);
	got(c, 0, 0, 0);
	emit(&c[0], MAC_D, MAC_A, 3);
	got(c, 0, 3, 0);
	close_three(c);
}

/* ---- queues ---------------------------------------------------------------------------------------------------- */

/* From the verification suite that was published with the secret. */
static void test_hash(void)
{
	static const struct flow known = { 0x420995bb, 0xa18e6450, 2794, 1766 };
	struct mdbus_vflow f;
	uint8_t frame[FRAME];

	doing = "the hash is the one that cards make";
	CHECK(mdbus_vflow_read(frame, make(frame, ALL, MAC_A, &known, 0, 0), &f) && f.hash == 0x51ccc178);
	CHECK(mdbus_vflow_read(frame, make(frame, ALL, MAC_A, &known, 7, 0), &f) && f.hash == 0x51ccc178);
	make(frame, ALL, MAC_A, &known, 0, 0);
	frame[14 + 6] = 0x20; /* more fragments */
	CHECK(mdbus_vflow_read(frame, FRAME, &f) && f.hash == 0x323e8fc2);
	frame[14 + 6] = 0;
	frame[14 + 9] = 1; /* ICMP */
	CHECK(mdbus_vflow_read(frame, FRAME, &f) && f.hash == 0x323e8fc2);
	frame[14] = 0x65;
	CHECK(mdbus_vflow_read(frame, FRAME, &f) && f.hash == 0);
	for (uint32_t len = 0; len < FRAME; len++)
		CHECK(mdbus_vflow_read(frame, len, &f) == (len >= 14));
}

static void test_queues(uint32_t n)
{
	static struct mdbus_rss rss;
	char port[32], name[32];
	struct client from, *to = calloc(n, sizeof(*to));
	uint32_t used = 0, seed = 1;

	mdbus_rss_init(&rss, NULL);
	snprintf(port, sizeof(port), "nic,queues=%u", n);
	begin("flows and queues", PORTS("feed", port));
	CHECK(client_open(&from, &bridge, "feed"));
	for (uint32_t q = 0; q < n; q++) {
		snprintf(name, sizeof(name), q ? "nic.%u" : "nic", q);
		CHECK(client_open(&to[q], &bridge, name));
	}
	for (uint32_t i = 1; i <= 500; i++) {
		struct flow f = { .src = seed * 2654435761u, .dst = 0xe0000000u | (seed * 805459861u & 0xfffffff),
			          .sport = (uint16_t)(seed * 3674653429u >> 16), .dport = (uint16_t)(seed * 2246822519u >> 16) };
		uint32_t want = mdbus_rss_queue(mdbus_rss_hash(&rss, f.src, f.dst, f.sport, f.dport), n);
		uint8_t frame[FRAME];

		seed = seed * 1664525u + 1013904223u;
		CHECK(client_send(&from, frame, make(frame, GROUP(f.dst), MAC_A, &f, 0, i)));
		run();
		for (uint32_t q = 0; q < n; q++)
			CHECK(next(&to[q]) == (q == want ? i : 0));
		used |= 1u << want;
	}
	CHECK(used == (1u << n) - 1u);
	client_die(&from);
	for (uint32_t q = 0; q < n; q++)
		client_die(&to[q]);
	free(to);
	end();
}

/* ---- clients that come and go ---------------------------------------------------------------------------------- */

static void test_deaths(void)
{
	struct client c[3], second;

	begin("clients come and go", PORTS("a", "b", "d"));
	CHECK(client_open(&c[0], &bridge, "a"));
	emit(&c[0], ALL, MAC_A, 1);
	run();
	CHECK(link_of(1, 0)->count.tx_down == 1 && link_of(2, 0)->count.tx_down == 1);
	CHECK(client_open(&c[1], &bridge, "b") && client_open(&c[2], &bridge, "d"));
	CHECK(!client_open(&second, &bridge, "b") && strstr(second.refusal, "another process"));
	client_die(&second);
	for (uint32_t round = 1; round <= 100; round++) {
		emit(&c[0], ALL, MAC_A, 3 * round);
		emit(&c[0], ALL, MAC_A, 3 * round + 1);
		client_die(&c[0]); /* what it has sent is sent */
		client_die(&c[1]);
		CHECK(client_open(&c[1], &bridge, "b"));
		CHECK(client_open(&c[0], &bridge, "a"));
		emit(&c[0], ALL, MAC_A, 3 * round + 2);
		run();
		for (uint32_t i = 0; i < 3; i++)
			CHECK(next(&c[2]) == 3 * round + i);
		CHECK(next(&c[1]) != 0);
	}
	CHECK(link_of(1, 0)->count.connects == 101 && link_of(1, 0)->count.refused == 1);
	close_three(c);
}

static void test_slow(void)
{
	struct client c[3];

	begin("one does not take its frames", PORTS("a", "b", "d"));
	open_three(c);
	for (uint32_t i = 1; i <= 5 * CLIENT_SLOTS; i++) {
		emit(&c[0], ALL, MAC_A, i);
		run();
		CHECK(next(&c[2]) == i);
	}
	CHECK(link_of(1, 0)->count.tx_full == 4 * CLIENT_SLOTS && link_of(2, 0)->count.tx_full == 0);
	for (uint32_t i = 1; i <= CLIENT_SLOTS; i++)
		CHECK(next(&c[1]) == i);
	CHECK(next(&c[1]) == 0);
	close_three(c);
}

static void test_wake(void)
{
	struct client c[3];

	begin("a frame wakes the bridge", PORTS("a", "b", "d"));
	CHECK(!mdbus_vbridge_wait(&bridge, 0));
	open_three(c);
	CHECK(!mdbus_vbridge_wait(&bridge, 0) && (c[0].tx->flags & MEMIF_NO_WAKE));
	emit(&c[0], ALL, MAC_A, 1);
	CHECK(mdbus_vbridge_wait(&bridge, 0)); /* it looks before it sleeps */
	got(c, 0, 1, 1);
	CHECK(write(c[0].wake_bridge, &(uint64_t){ 1 }, sizeof(uint64_t)) == (ssize_t)sizeof(uint64_t));
	CHECK(mdbus_vbridge_wait(&bridge, -1) && !mdbus_vbridge_wait(&bridge, 0));
	CHECK(read(c[1].wake_me, &(uint64_t){ 0 }, sizeof(uint64_t)) == (ssize_t)sizeof(uint64_t));
	client_die(&c[2]);
	CHECK(mdbus_vbridge_wait(&bridge, -1));
	CHECK(client_open(&c[2], &bridge, "d"));
	close_three(c);
}

/* ---- nonsense -------------------------------------------------------------------------------------------------- */

/* A client of port b that does something to be thrown out for; the others do not notice. */
static void thrown_out(struct client *c, const char *what, void (*wrong)(struct client *))
{
	uint64_t broken = link_of(1, 0)->count.broken;

	doing = what;
	CHECK(client_open(&c[1], &bridge, "b"));
	wrong(&c[1]);
	emit(&c[0], ALL, MAC_A, 1);
	run();
	mdbus_vbridge_control(&bridge, mdbus_clock_ns());
	CHECK(link_of(1, 0)->count.broken == broken + 1 && link_of(1, 0)->conn < 0);
	CHECK(client_heard(&c[1], MEMIF_DISCONNECT) && c[1].refusal[0]);
	client_die(&c[1]);
	CHECK(next(&c[2]) == 1);
	CHECK(next(&c[2]) == 0);
}

static void head_too_far(struct client *c)
{
	c->tx->head = CLIENT_SLOTS + 1;
}

static void lent_too_far(struct client *c)
{
	c->rx->head = 4 * CLIENT_SLOTS;
}

static void buffer_outside(struct client *c)
{
	for (uint32_t i = 0; i < CLIENT_SLOTS; i++)
		c->rx->desc[i].offset = CLIENT_BYTES - 10;
}

static void region_unknown(struct client *c)
{
	for (uint32_t i = 0; i < CLIENT_SLOTS; i++)
		c->rx->desc[i].region = 3;
}

static void second_ring(struct client *c)
{
	client_offer_ring(c, true, 0, CLIENT_LOG2);
}

static void unknown_message(struct client *c)
{
	client_say(c, &(struct memif_msg){ .type = 77 }, -1);
}

/* Frames that cannot be are left out, their neighbours are not. */
static void test_bad_frames(struct client *c)
{
	static const struct memif_desc bad[] = {
		{ .len = CLIENT_BUFFER, .offset = CLIENT_BYTES - 4 }, { .len = UINT32_MAX, .offset = 100 }, { .len = 0 },
		{ .len = 100, .region = 200 },                        { .len = MDBUS_LINK_FRAME + 1 },
	};

	doing = "frames that cannot be";
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint16_t at = c[0].tx->head;
		struct memif_desc good = c[0].tx->desc[at & (CLIENT_SLOTS - 1u)];

		emit(&c[0], ALL, MAC_A, 1);
		c[0].tx->desc[at & (CLIENT_SLOTS - 1u)] = bad[i];
		emit(&c[0], ALL, MAC_A, i + 2);
		run();
		c[0].tx->desc[at & (CLIENT_SLOTS - 1u)] = good;
		CHECK(next(&c[2]) == i + 2 && next(&c[2]) == 0);
		CHECK(link_of(0, 0)->count.rx_bad == i + 1);
	}
	emit(&c[0], ALL, MAC_A, 1);
	c[0].tx->desc[(c[0].tx->head - 1u) & (CLIENT_SLOTS - 1u)].flags = MEMIF_NEXT;
	emit(&c[0], ALL, MAC_A, 2); /* the rest of it */
	emit(&c[0], ALL, MAC_A, 3);
	run();
	CHECK(next(&c[2]) == 3);
	CHECK(next(&c[2]) == 0);
}

/* Offers that cannot be taken. */
static void not_taken(const char *what, bool sealed, uint64_t bytes, uint32_t offset, uint8_t log2, bool cookie)
{
	struct client x;

	doing = what;
	CHECK(client_dial(&x, bridge.dir, "b"));
	mdbus_vbridge_control(&bridge, mdbus_clock_ns());
	client_memory(&x, sealed);
	x.tx->cookie = cookie ? MEMIF_COOKIE : 1;
	client_hello(&x);
	client_offer_region(&x, bytes);
	client_offer_ring(&x, true, offset, log2);
	client_say(&x, &(struct memif_msg){ .type = MEMIF_CONNECT }, -1);
	mdbus_vbridge_control(&bridge, mdbus_clock_ns());
	CHECK(client_heard(&x, MEMIF_DISCONNECT) && link_of(1, 0)->conn < 0 && link_of(1, 0)->nregion == 0);
	client_die(&x);
}

static void test_nonsense(void)
{
	struct client c[3];

	begin("nonsense", PORTS("a", "b", "d"));
	CHECK(client_open(&c[0], &bridge, "a") && client_open(&c[2], &bridge, "d"));
	thrown_out(c, "more frames than slots", head_too_far);
	thrown_out(c, "more buffers than slots", lent_too_far);
	thrown_out(c, "a buffer outside of the region", buffer_outside);
	thrown_out(c, "a buffer in no region", region_unknown);
	thrown_out(c, "a ring twice", second_ring);
	thrown_out(c, "a message that nobody knows", unknown_message);
	not_taken("memory that may shrink", false, CLIENT_BYTES, 0, CLIENT_LOG2, true);
	not_taken("less memory than said", true, CLIENT_BYTES + 5000, 0, CLIENT_LOG2, true);
	not_taken("no memory", true, 0, 0, CLIENT_LOG2, true);
	not_taken("a ring behind the end", true, CLIENT_BYTES, CLIENT_BYTES - 64, CLIENT_LOG2, true);
	not_taken("a ring far behind the end", true, CLIENT_BYTES, UINT32_MAX - 15, CLIENT_LOG2, true);
	not_taken("a ring that is too large", true, CLIENT_BYTES, 16384, 14, true);
	not_taken("a ring of a size that wraps", true, CLIENT_BYTES, 0, 64 + CLIENT_LOG2, true);
	not_taken("a ring at an odd place", true, CLIENT_BYTES, 8, CLIENT_LOG2, true);
	not_taken("a ring without its cookie", true, CLIENT_BYTES, 0, CLIENT_LOG2, false);
	CHECK(client_open(&c[1], &bridge, "b"));
	test_bad_frames(c);
	close_three(c);
}

/* A client that writes anything anywhere: it may be thrown out, and comes back; the others get theirs. */
static void test_anything(void)
{
	uint64_t dice = 42;
	struct client c[3];

	begin("anything", PORTS("a", "b", "d"));
	CHECK(client_open(&c[0], &bridge, "a") && client_open(&c[1], &bridge, "b") && client_open(&c[2], &bridge, "d"));
	for (uint32_t round = 1; round <= 20000; round++) {
		dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		uint32_t where = (uint32_t)(dice >> 33) % (dice >> 63 ? 160u : (uint32_t)(2u * CLIENT_RING) / 4u);

		c[1].mem[where * 4u % (2u * CLIENT_RING)] = (uint8_t)(dice >> 20);
		if (round % 16 == 0)
			c[1].tx->head = (uint16_t)(c[1].tx->tail + (dice >> 25) % CLIENT_SLOTS);
		if (round % 64 == 0)
			client_say(&c[1], &(struct memif_msg){ .type = (uint16_t)(dice >> 21 & 7) }, -1);
		emit(&c[0], ALL, MAC_A, round);
		run();
		mdbus_vbridge_control(&bridge, mdbus_clock_ns());
		uint32_t mark = next_of_any(&c[2]);

		while (mark != 0 && mark != round) /* b's frames, if such they are */
			mark = next_of_any(&c[2]);
		CHECK(mark == round);
		while (next_of_any(&c[0]) || next_of_any(&c[2]))
			;
		if (link_of(1, 0)->conn < 0 || round % 1000 == 0) {
			client_die(&c[1]);
			mdbus_vbridge_control(&bridge, mdbus_clock_ns());
			CHECK(client_open(&c[1], &bridge, "b"));
		}
	}
	CHECK(link_of(1, 0)->count.broken > 100 && link_of(0, 0)->count.broken == 0 && link_of(2, 0)->count.broken == 0);
	close_three(c);
}

/* ---- its place ------------------------------------------------------------------------------------------------- */

static void test_place(void)
{
	static struct mdbus_vbridge other;
	char err[512], path[128];
	struct client c;

	begin("its place", PORTS("a", "b,queues=3"));
	memset(&other, 0, sizeof(other));
	CHECK(mdbus_vbridge_add(&other, "x", err, sizeof(err)) == 0);
	CHECK(mdbus_vbridge_open(&other, place, err, sizeof(err)) == -EWOULDBLOCK && strstr(err, "another mdbus-vbridge"));
	CHECK(mdbus_vbridge_open(&other, "/nonexistent/dir", err, sizeof(err)) < 0 && strstr(err, "--dir"));
	snprintf(path, sizeof(path), "%s/b.2", place);
	CHECK(access(path, F_OK) == 0);
	for (uint32_t q = 0; q < 3; q++) { /* killed: the sockets' names stay */
		close(link_of(1, q)->listener);
		link_of(1, q)->listener = -1;
	}
	close(link_of(0, 0)->listener);
	close(bridge.dir_fd);
	memset(&bridge, 0, sizeof(bridge));
	CHECK(mdbus_vbridge_add(&bridge, "a", err, sizeof(err)) == 0 && mdbus_vbridge_add(&bridge, "b,queues=3", err, sizeof(err)) == 0);
	CHECK(mdbus_vbridge_open(&bridge, place, err, sizeof(err)) == 0);
	CHECK(client_open(&c, &bridge, "b.2"));
	client_die(&c);
	end();
}

int main(void)
{
	atexit(clean_up);
	test_hash();
	test_learning();
	test_groups();
	test_nets();
	for (uint32_t n = 1; n <= 16; n += n < 4 ? 1 : 4)
		test_queues(n);
	test_deaths();
	test_slow();
	test_wake();
	test_nonsense();
	test_anything();
	test_place();
	puts("learning, groups, queues, deaths, nonsense");
	return 0;
}
#endif
