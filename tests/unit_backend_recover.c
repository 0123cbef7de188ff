/* SPDX-License-Identifier: Apache-2.0
 *
 * The recover backend and the feeder's request server, over loopback: a request as the server gets it, and of all
 * that may come back only the answer; the server's answers cut to size, its heartbeats, its silence.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../bus/mold.h"
#include "../ingest/backend.h"
#include "../ingest/feed_serve.h"
#include "bus_bed.h"
#include "guard.h"

#define MS     UINT64_C(1000000)
#define R      1u
#define FRAMES 64u

/* A socket at a port of loopback that nobody else has. */
static int bound_socket(uint16_t *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&at, &size) == 0);
	*port = ntohs(at.sin_port);
	return fd;
}

/* ---- the backend --------------------------------------------------------------------------------------------- */

static struct bed bed;
static struct mdbus_frames pool;
static uint32_t stack[FRAMES];
static void *self;
static int server;
static struct sockaddr_in client;

static void packet(uint32_t line, uint64_t seq, uint32_t count)
{
	struct bed_mold m = { .seq = seq, .count = count };
	uint8_t bytes[1500];

	memcpy(m.session, "SESSION  7", 11);
	CHECK(bed_packet(&bed, line, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), mdbus_clock_ns()) == MDBUS_DECODE_OK);
}

static void open_line(void)
{
	const struct mdbus_flow flow = { .addr = htonl(INADDR_BROADCAST), .port = 1 };
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 2);
	struct mdbus_line_desc *l;
	struct mdbus_backend_env env;
	uint16_t port;

	d.reorder_window = 2;
	d.gap_timeout_ns = UINT64_C(600000000000);
	bed_open(&bed, &d, 2, FRAMES);
	server = bound_socket(&port);
	l = &bed.bus.dir->line[R];
	l->recovery = l->nserver = 1;
	l->server[0] = (struct mdbus_server_desc){ .addr = htonl(INADDR_LOOPBACK), .port = port };
	l->request_rate = 1000;
	l->request_max = 100;
	l->retry_ms = l->backoff_max_ms = 60000; /* nothing goes out twice in this test */
	for (uint32_t k = 0; k < 2; k++)
		CHECK(mdbus_channel_init(&bed.line[k].channel, &bed.line[k].bus, 0, k, &bed.line[k].holds) == 0);
	pool = (struct mdbus_frames){ .stack = stack, .nframes = FRAMES };
	for (uint32_t i = 0; i < FRAMES; i++)
		mdbus_frames_put(&pool, i);
	env = (struct mdbus_backend_env){
		.line = l, .arena = bed.line[R].bus.arena[R].base, .pool = &pool, .flows = &flow, .nflow = 1,
		.bus = &bed.line[R].bus, .channel = &bed.line[R].channel,
	};
	env.frames = (uint8_t *)env.arena + env.arena->frames_off;
	self = mdbus_backend_recover.open(&env);
	if (self == NULL)
		printf("%s\n", env.error);
	CHECK(self != NULL);
	l->nserver = 0;
	CHECK(mdbus_backend_recover.open(&env) == NULL && strstr(env.error, "servers"));
}

/* What the backend asks its server now.  False: nothing. */
static bool asked(struct mdbus_mold_request *r)
{
	struct pollfd fd = { .fd = server, .events = POLLIN };
	uint8_t bytes[64];
	socklen_t size = sizeof(client);

	usleep(300); /* it looks only so often */
	mdbus_backend_recover.refill(self);
	if (poll(&fd, 1, 0) == 0)
		return false;
	ssize_t n = recvfrom(server, bytes, sizeof(bytes), 0, (struct sockaddr *)&client, &size);

	CHECK(n > 0 && mdbus_mold_get(bytes, (uint32_t)n, r));
	return true;
}

/* Send this to the backend and see how many packets it makes of it. */
static int answered(int fd, const uint8_t *bytes, uint32_t len, struct mdbus_rx *rx)
{
	CHECK(sendto(fd, bytes, len, 0, (struct sockaddr *)&client, sizeof(client)) == (ssize_t)len);
	mdbus_backend_recover.wait(self, 20000);
	int n = mdbus_backend_recover.poll(self, rx, 8);

	CHECK(n == 0 || pool.nfree == FRAMES - (uint32_t)n);
	return n;
}

static uint32_t mold(const char *session, uint64_t seq, uint32_t count, uint8_t *out)
{
	struct bed_mold m = { .seq = seq, .count = count };

	memcpy(m.session, session, 11);
	return bed_mold_build(&m, out, 2048);
}

static void test_backend(void)
{
	const struct mdbus_arena_hdr *arena;
	struct mdbus_mold_request r;
	struct mdbus_rx rx[8];
	uint8_t bytes[4096];
	uint32_t len;
	uint16_t port;
	int stranger;

	open_line();
	arena = bed.line[R].bus.arena[R].base;
	CHECK(!asked(&r));
	packet(0, 1, 10);
	CHECK(!asked(&r));
	packet(0, 13, 10);
	CHECK(asked(&r) && !asked(&r));
	CHECK(memcmp(r.session, "SESSION  7", 10) == 0 && r.first == 11 && r.count == 2);

	len = mold("SESSION  7", 11, 2, bytes);
	stranger = bound_socket(&port);
	CHECK(answered(stranger, bytes, len, rx) == 0); /* not from the server that was asked */
	close(stranger);
	CHECK(arena->count.answers_refused == 0);
	CHECK(answered(server, bytes, 7, rx) == 0);
	CHECK(answered(server, bytes, 0, rx) == 0);
	CHECK(answered(server, bytes, len - 1, rx) == 0); /* the last message is cut */
	CHECK(answered(server, bytes, mold("SESSION  8", 11, 2, bytes), rx) == 0);
	CHECK(answered(server, bytes, mold("SESSION  7", 11, 3, bytes), rx) == 0);
	CHECK(answered(server, bytes, mold("SESSION  7", 10, 2, bytes), rx) == 0);
	CHECK(answered(server, bytes, mold("SESSION  7", 13, 1, bytes), rx) == 0);
	CHECK(answered(server, bytes, mold("SESSION  7", 11, 0, bytes), rx) == 0);
	CHECK(answered(server, bytes, mold("SESSION  7", 11, 0xffff, bytes), rx) == 0);
	CHECK(answered(server, bytes, sizeof(bytes), rx) == 0); /* no frame holds that */
	CHECK(arena->count.bad_length == 1);
	mdbus_backend_recover.stats(self);
	CHECK(arena->count.answers_refused >= 5);
	mdbus_backend_recover.close(self);
	bed_close(&bed);
	close(server);
}

/* The right answer: it comes as a packet of the flow, and a short one makes it ask on. */
static void test_answer(void)
{
	struct mdbus_mold_request r;
	struct mdbus_rx rx[8];
	uint8_t bytes[2048];
	uint32_t len;

	open_line();
	packet(0, 1, 10);
	packet(0, 13, 10);
	CHECK(asked(&r) && r.first == 11 && r.count == 2);
	len = mold("SESSION  7", 11, 1, bytes);
	CHECK(answered(server, bytes, len, rx) == 1);
	CHECK(rx[0].flow == 0 && rx[0].len == len && rx[0].off >= MDBUS_FRAME_META);
	packet(R, 11, 1);
	CHECK(asked(&r) && r.first == 12 && r.count == 1);
	packet(R, 12, 1); /* it is there by now */
	CHECK(!asked(&r));
	CHECK(answered(server, bytes, mold("SESSION  7", 12, 1, bytes), rx) == 0);
	mdbus_backend_recover.close(self);
	bed_close(&bed);
	close(server);
}

/* A session that starts its numbers again is not asked for: nobody could tell the answers apart. */
static void test_restarted(void)
{
	struct mdbus_mold_request r;

	open_line();
	packet(0, 1000, 10);
	for (uint64_t seq = 1; seq <= 40; seq += 10)
		packet(0, seq, 10);
	CHECK_U64(mdbus_gen_newest(bed.line[0].channel.ring.hdr), 2);
	packet(0, 43, 10);
	for (int i = 0; i < 3; i++)
		mdbus_channel_tick(&bed.line[R].channel, mdbus_clock_ns());
	CHECK(bed.line[R].channel.resolver.gen.gen == 2 && !asked(&r));
	mdbus_backend_recover.close(self);
	bed_close(&bed);
	close(server);
}

/* ---- the feeder's server ---------------------------------------------------------------------------------------- */

static struct mdbus_feed_serve *serve;

static void keep(const char *session, uint64_t seq, uint32_t count, uint32_t epoch)
{
	static struct mdbus_message m[2048];
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	static uint8_t bytes[65536];
	struct mdbus_packet d;
	struct bed_mold mould = { .seq = seq, .count = count, .salt = epoch };
	uint32_t len, n;

	memcpy(mould.session, session, 11);
	len = bed_mold_build(&mould, bytes, sizeof(bytes));
	CHECK(mdbus_layout_decode(l, bytes, len, &d) == MDBUS_DECODE_OK);
	CHECK(mdbus_layout_messages(l, bytes, len, &d, m, 2048, &n) == MDBUS_DECODE_OK && n == count);
	const struct mdbus_feed_packet p = { .data = bytes, .len = len, .nmsg = n, .msg = m, .epoch = epoch };

	CHECK(mdbus_feed_serve_keep(serve, &p) == 0);
}

/* Ask and get the answer: its first number in *first and count, or -1: none came. */
static int ask(int fd, const char *session, uint64_t seq, uint16_t count, uint64_t *first, uint32_t salt)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	struct mdbus_mold_request r = { .first = seq, .count = count };
	static struct mdbus_message m[2048];
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	uint8_t bytes[65536], body[2048];
	struct mdbus_packet d;
	uint32_t n;

	memcpy(r.session, session, 10);
	mdbus_mold_put(bytes, &r);
	CHECK(send(fd, bytes, 20, 0) == 20);
	mdbus_feed_serve_wait(serve, 100 * MS);
	mdbus_feed_serve_poll(serve, mdbus_clock_ns());
	if (poll(&ready, 1, 0) == 0)
		return -1;
	ssize_t len = recv(fd, bytes, sizeof(bytes), 0);

	CHECK(len >= 20 && len <= 1400 && memcmp(bytes, session, 10) == 0);
	CHECK(mdbus_layout_decode(l, bytes, (uint32_t)len, &d) == MDBUS_DECODE_OK);
	*first = d.seq;
	CHECK(mdbus_layout_messages(l, bytes, (uint32_t)len, &d, m, 2048, &n) == MDBUS_DECODE_OK && n == d.count);
	for (uint32_t i = 0; i < n; i++)
		CHECK(m[i].len == bed_mold_message(m[i].seq, salt, body) && memcmp(bytes + m[i].off, body, m[i].len) == 0);
	return (int)n;
}

static int open_serve(struct mdbus_feed_serve_spec spec)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char err[256];
	uint16_t port;
	int fd = bound_socket(&port);

	spec.at = (struct mdbus_feed_dest){ to.sin_addr.s_addr, port };
	CHECK(mdbus_feed_serve_open(&spec, mdbus_layout_builtin("moldudp64"), 1, err, sizeof(err)) == NULL);
	CHECK(strstr(err, "cannot bind") && strstr(err, "127.0.0.1:"));
	CHECK(mdbus_feed_serve_open(&spec, mdbus_layout_builtin("iex_tp"), 1, err, sizeof(err)) == NULL);
	CHECK(strstr(err, "iex_tp"));
	close(fd);
	serve = mdbus_feed_serve_open(&spec, mdbus_layout_builtin("moldudp64"), 1, err, sizeof(err));
	CHECK(serve != NULL);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	to.sin_port = htons(port);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	return fd;
}

static void test_serve(void)
{
	int fd = open_serve((struct mdbus_feed_serve_spec){ 0 }), n;
	uint64_t first;

	CHECK(ask(fd, "ONE       ", 1, 1, &first, 0) == -1);
	for (uint64_t seq = 1; seq <= 1000; seq += 10)
		keep("ONE       ", seq, 10, 0);
	CHECK(ask(fd, "ONE       ", 5, 7, &first, 0) == 7 && first == 5);
	n = ask(fd, "ONE       ", 5, 65534, &first, 0);
	CHECK(n > 7 && n < 995 && first == 5); /* what fits */
	CHECK(ask(fd, "ONE       ", 998, 20, &first, 0) == 3 && first == 998);
	CHECK(ask(fd, "ONE       ", 1001, 20, &first, 0) == 0 && first == 1001); /* a heartbeat */
	CHECK(ask(fd, "ONE       ", UINT64_MAX, 20, &first, 0) == 0 && first == 1001);
	CHECK(ask(fd, "ONE       ", 0, 20, &first, 0) == -1 && ask(fd, "TWO       ", 1, 20, &first, 0) == -1);
	CHECK(send(fd, "short", 5, 0) == 5);
	mdbus_feed_serve_wait(serve, 100 * MS);
	mdbus_feed_serve_poll(serve, mdbus_clock_ns());
	CHECK_U64(mdbus_feed_serve_stats(serve)->malformed, 1);
	keep("TWO       ", 1, 10, 1);
	CHECK(ask(fd, "TWO       ", 1, 20, &first, 1) == 10 && ask(fd, "ONE       ", 1, 5, &first, 0) == 5);
	keep("TWO       ", 1, 4, 2); /* its numbers start again */
	CHECK(ask(fd, "TWO       ", 1, 20, &first, 2) == 4);
	keep("TWO       ", 3, 2, 2); /* a repetition */
	keep("TWO       ", 9, 2, 2); /* numbers that were never sent */
	CHECK(ask(fd, "TWO       ", 3, 20, &first, 2) == 2 && ask(fd, "TWO       ", 6, 20, &first, 2) == -1);
	CHECK(ask(fd, "TWO       ", 9, 20, &first, 2) == 2);
	for (int i = 0; i < 8; i++) { /* only the newest sessions are kept */
		char name[] = "MANY      ";

		name[5] = (char)('a' + i);
		keep(name, 1, 1, 1);
	}
	CHECK(ask(fd, "ONE       ", 1, 5, &first, 0) == -1);
	for (uint64_t seq = 1; seq <= 300000; seq += 100) /* nor are all messages of one */
		keep("LONG      ", seq, 100, 1);
	CHECK(ask(fd, "LONG      ", 1, 5, &first, 1) == -1 && ask(fd, "LONG      ", 299998, 5, &first, 1) == 3);
	mdbus_feed_serve_close(serve);
	close(fd);
}

static void test_serve_faults(void)
{
	int fd = open_serve((struct mdbus_feed_serve_spec){ .truncate = 3, .delay_ns = 30 * MS }), got = 0;
	uint64_t first, begin = mdbus_clock_ns();

	keep("ONE       ", 1, 10, 0);
	CHECK(ask(fd, "ONE       ", 1, 10, &first, 0) == -1); /* not yet */
	while (mdbus_clock_ns() < begin + 30 * MS)
		mdbus_feed_serve_wait(serve, 100 * MS);
	CHECK(ask(fd, "ONE       ", 1, 2, &first, 0) == 3); /* the first one's answer, cut short */
	mdbus_feed_serve_close(serve);
	close(fd);

	fd = open_serve((struct mdbus_feed_serve_spec){ .loss = 0.5 });
	keep("ONE       ", 1, 10, 0);
	for (int i = 0; i < 200; i++)
		got += ask(fd, "ONE       ", 1, 10, &first, 0) == 10;
	CHECK(got > 50 && got < 150);
	CHECK_U64(mdbus_feed_serve_stats(serve)->lost, 200 - got);
	mdbus_feed_serve_close(serve);
	close(fd);
}

int main(void)
{
	test_backend();
	test_answer();
	test_restarted();
	test_serve();
	test_serve_faults();
	return 0;
}
