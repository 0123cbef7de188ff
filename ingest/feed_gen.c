/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_gen.c - a source that makes its messages up.
 *
 * Valid packets of two feeds: MoldUDP64, and optiq, which has one message to a packet.  A message carries the time it
 * was made, its number and filler that follows from the number (mdbus/feedlog.h), so a reader can measure latency and tell
 * a torn message without knowing anything else.  A message is made when it is about to be sent, once for all lines.
 */
#include "feed_source.h"
#include <endian.h>
#include <mdbus/atomics.h>
#include <mdbus/feedlog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOLD_HEADER 20u
#define PAYLOAD_MAX 65507u

struct gen_source {
	struct mdbus_feed_source s;
	struct mdbus_feed_gen_options o;
	bool mold;
	char session[11];
	uint64_t sent; /* messages, over all epochs */
	uint64_t seq;  /* next number */
	uint32_t epoch;
	uint64_t session_no;
	uint64_t in_epoch; /* packets */
	struct mdbus_message *msg; /* [pack] */
	uint8_t *data;             /* [max_payload, rounded up to whole words] */
};

static void put(uint8_t *p, uint64_t value, size_t width)
{
	value = htole64(value);
	memcpy(p, &value, width);
}

static void put_be(uint8_t *p, uint64_t value, size_t width)
{
	value = htobe64(value);
	memcpy(p, (const uint8_t *)&value + 8 - width, width);
}

static void fill(const struct gen_source *g, uint8_t *p, uint64_t seq)
{
	uint32_t i = 0;

	for (; i + 8 <= g->o.size; i += 8)
		put(p + i, mdbus_feedlog_filler_word(seq, g->epoch, i / 8), 8);
	if (i < g->o.size)
		put(p + i, mdbus_feedlog_filler_word(seq, g->epoch, i / 8), g->o.size - i);
}

static void make_mold(const struct gen_source *g, uint8_t *p, uint64_t seq, uint64_t now)
{
	fill(g, p, seq);
	put_be(p, g->o.size - 2, 2);
	put(p + MDBUS_FEED_MOLD_TIME, now, 8);
	put(p + MDBUS_FEED_MOLD_SEQ, seq, 8);
	put(p + MDBUS_FEED_MOLD_EPOCH, g->epoch, 4);
}

static void make_optiq(const struct gen_source *g, uint8_t *p, uint64_t seq, uint64_t now)
{
	fill(g, p, seq);
	p[0] = 1;
	p[1] = (uint8_t)g->o.size;
	put(p + 2, 1, 2);
	put(p + 4, g->sent + 1, 4);
	put(p + MDBUS_FEED_OPTIQ_SEQ, seq, 4);
	put(p + MDBUS_FEED_OPTIQ_TIME, now, 8);
	put(p + 20, 1, 2);
	put(p + 22, 100, 2);
}

/* Messages of this epoch that are still to come, UINT64_MAX: no end. */
static uint64_t left_in_epoch(const struct gen_source *g)
{
	uint64_t left = g->o.count ? g->o.count - g->sent : UINT64_MAX;
	uint64_t epoch = g->o.restart_every ? g->o.restart_every - (g->seq - 1) : UINT64_MAX;

	return left < epoch ? left : epoch;
}

static void next_epoch(struct gen_source *g)
{
	g->seq = 1;
	g->in_epoch = 0;
	g->epoch++;
	if (!g->mold || g->o.restart == MDBUS_FEED_RESTART_SEQ)
		return;
	g->session_no++;
	snprintf(g->session + 5, 6, "%05u", (unsigned)(g->session_no % 100000));
}

static bool gen_peek(struct mdbus_feed_source *s, struct mdbus_feed_when *when)
{
	const struct gen_source *g = (const struct gen_source *)s;

	when->message = g->sent;
	when->ts_ns = 0;
	return !g->o.count || g->sent < g->o.count;
}

static uint8_t packet_flags(const struct gen_source *g, uint64_t left, uint32_t n)
{
	uint8_t flags = MDBUS_FEED_NUMBERED;

	if (left == n)
		flags |= MDBUS_FEED_EPOCH_END;
	if (g->in_epoch < g->o.protect_first ||
	    (left != UINT64_MAX && (left + g->o.pack - 1) / g->o.pack <= g->o.protect_last))
		flags |= MDBUS_FEED_PROTECT;
	return flags;
}

static void gen_take(struct mdbus_feed_source *s, struct mdbus_feed_packet *out)
{
	struct gen_source *g = (struct gen_source *)s;
	uint32_t header = g->mold ? MOLD_HEADER : 0, n;
	uint64_t left, now = mdbus_clock_ns();

	if (g->o.restart_every && g->seq > g->o.restart_every)
		next_epoch(g);
	left = left_in_epoch(g);
	n = left < g->o.pack ? (uint32_t)left : g->o.pack;
	*out = (struct mdbus_feed_packet){
		.data = g->data,
		.len = header + n * g->o.size,
		.flags = packet_flags(g, left, n),
		.epoch = g->epoch,
		.session_no = g->session_no,
		.session = g->session_no,
		.next = g->seq + n,
		.nmsg = n,
		.msg = g->msg,
	};
	if (g->mold) {
		memcpy(g->data, g->session, 10);
		put_be(g->data + 10, g->seq, 8);
		put_be(g->data + 18, n, 2);
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t off = header + i * g->o.size;

		if (g->mold)
			make_mold(g, g->data + off, g->seq, now);
		else
			make_optiq(g, g->data + off, g->seq, now);
		g->msg[i] = (struct mdbus_message){ .off = off, .len = g->o.size, .seq = g->seq };
		g->seq++;
		g->sent++;
	}
	g->in_epoch++;
}

static const char *gen_stream_name(const struct mdbus_feed_source *s, uint32_t stream)
{
	(void)stream;
	return ((const struct gen_source *)s)->mold ? "moldudp64" : "optiq";
}

static bool gen_stream_addr(const struct mdbus_feed_source *s, uint32_t stream, uint32_t *addr, uint16_t *port)
{
	(void)s, (void)stream, (void)addr, (void)port;
	return false;
}

static void gen_close(struct mdbus_feed_source *s)
{
	struct gen_source *g = (struct gen_source *)s;

	free(g->msg);
	free(g->data);
	free(g);
}

static int check(struct gen_source *g, char *err, size_t errlen)
{
	struct mdbus_feed_gen_options *o = &g->o;
	uint32_t least = g->mold ? MDBUS_FEED_MOLD_FILLER : MDBUS_FEED_OPTIQ_SIZE;
	uint32_t most = g->mold ? PAYLOAD_MAX - MOLD_HEADER : 255;

	if (!o->size)
		o->size = least;
	if (!g->mold && strcmp(o->kind, "optiq") != 0)
		snprintf(err, errlen, "--generate %s: only moldudp64 and optiq can be made", o->kind);
	else if (o->size < least || o->size > most)
		snprintf(err, errlen, "--size %u: %s messages are %u to %u bytes", o->size, o->kind, least, most);
	else if (!o->pack || (!g->mold && o->pack != 1))
		snprintf(err, errlen, "--pack %u: %s", o->pack, g->mold ? "at least 1" : "optiq has one message to a packet");
	else if ((uint64_t)o->pack * o->size + MOLD_HEADER > PAYLOAD_MAX || o->pack > 65000)
		snprintf(err, errlen, "--pack %u of --size %u does not fit a UDP packet", o->pack, o->size);
	else if (o->session && (strlen(o->session) > 10 || !*o->session))
		snprintf(err, errlen, "--session '%s': 1 to 10 characters", o->session);
	else
		return 0;
	return -1;
}

struct mdbus_feed_source *mdbus_feed_gen_open(const struct mdbus_feed_gen_options *options, char *err, size_t errlen)
{
	struct gen_source *g = calloc(1, sizeof(*g));

	if (!g) {
		snprintf(err, errlen, "out of memory");
		return NULL;
	}
	g->o = *options;
	g->mold = strcmp(options->kind, "moldudp64") == 0;
	g->epoch = 1;
	g->session_no = 1;
	g->seq = 1;
	snprintf(g->session, sizeof(g->session), "%-10s", options->session ? options->session : "MDBUS00001");
	if (check(g, err, errlen)) {
		free(g);
		return NULL;
	}
	g->s = (struct mdbus_feed_source){
		.layout = mdbus_layout_builtin(options->kind),
		.nstream = 1,
		.max_payload = (g->mold ? MOLD_HEADER : 0) + g->o.pack * g->o.size,
		.idle_heartbeats = true,
		.peek = gen_peek,
		.take = gen_take,
		.stream_name = gen_stream_name,
		.stream_addr = gen_stream_addr,
		.close = gen_close,
	};
	g->msg = calloc(g->o.pack, sizeof(*g->msg));
	g->data = malloc(g->s.max_payload);
	if (!g->msg || !g->data) {
		snprintf(err, errlen, "out of memory");
		gen_close(&g->s);
		return NULL;
	}
	return &g->s;
}
