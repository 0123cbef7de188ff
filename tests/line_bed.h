/* SPDX-License-Identifier: Apache-2.0
 *
 * line_bed.h - whole lines without mdbusd: the first ones receive, each from a source of this file's, and hand packets over to
 * the others.
 *
 * One channel, one flow, packets of one message each, in order.  Which share the flow belongs to is the sender's port.
 */
#ifndef TESTS_LINE_BED_H
#define TESTS_LINE_BED_H

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include "../ingest/line.h"
#include "../ingest/rss.h"
#include "bus_bed.h"
#include "guard.h"

#define BED_SRC  0x0a000001u
#define BED_DST  0xef010101u
#define BED_PORT 7001u
#define BED_OFF  256u /* of a payload in its frame */

/* What a line receives: numbers from `next` up to `end`.  Set by the test before mdbus_line_start. */
struct bed_source {
	uint64_t next, end;
	uint16_t port; /* the sender's */
	struct mdbus_frames *pool;
	uint8_t *frames;
	uint32_t frame_size;
};

static struct bed_source sources[MDBUS_LINES_MAX]; /* by line */
#define source sources[0]

static inline uint32_t source_packet(uint64_t seq, uint8_t *to)
{
	struct bed_mold m = { .session = "SESSION001", .seq = seq, .count = 1 };

	return bed_mold_build(&m, to, 1024);
}

static inline void *source_open(struct mdbus_backend_env *env)
{
	struct bed_source *s = &sources[env->bus->index];

	s->pool = env->pool;
	s->frames = env->frames;
	s->frame_size = env->arena->frame_size;
	CHECK(env->senders);
	return s;
}

static inline int source_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct bed_source *s = self;
	uint32_t n = 0, frame;

	for (; n < max && s->next < s->end && mdbus_frames_get(s->pool, &frame); n++, s->next++)
		rx[n] = (struct mdbus_rx){
			.frame = frame,
			.off = BED_OFF,
			.len = source_packet(s->next, s->frames + (uint64_t)frame * s->frame_size + BED_OFF),
			.flow = 0,
			.src = htonl(BED_SRC),
			.src_port = s->port,
		};
	return (int)n;
}

static inline void source_nothing(void *self)
{
	(void)self;
}

static inline void source_wait(void *self, uint32_t timeout_us)
{
	(void)self, (void)timeout_us;
}

static const struct mdbus_backend_ops source_ops = {
	.name = "source",
	.open = source_open,
	.poll = source_poll,
	.refill = source_nothing,
	.wait = source_wait,
	.stats = source_nothing,
	.close = source_nothing,
};

/* A port whose flow belongs to share k of n. */
static inline uint16_t port_of_share(uint32_t k, uint32_t n)
{
	struct mdbus_rss rss;
	uint16_t port = 30000;

	mdbus_rss_init(&rss, NULL);
	while (mdbus_rss_queue(mdbus_rss_hash(&rss, BED_SRC, BED_DST, port, BED_PORT), n) != k)
		port++;
	return port;
}

static inline void line_bed_open(struct bed *b, uint32_t nline, uint32_t nframes, uint32_t ngiver, uint32_t hand_size,
                                 uint64_t gap_ns)
{
	struct mdbus_channel_desc c = bed_channel_default("moldudp64", nline);

	c.gap_timeout_ns = gap_ns;
	for (uint32_t k = 0; k < nline; k++)
		c.flow[k] = (struct mdbus_flow_desc){ .addr = htonl(BED_DST), .port = BED_PORT };
	bed_open_handed(b, &c, nline, nframes, ngiver, hand_size);
	for (uint32_t k = 0; k < nline; k++) {
		b->bus.dir->line[k].batch = 64;
		b->bus.dir->line[k].low_watermark = 8;
		b->bus.dir->line_state[k] = MDBUS_LINE_DOWN;
	}
}

/* A process that was killed: only its private memory goes. */
static inline void line_bed_bury(struct mdbus_line *l)
{
	if (l->ops != &source_ops)
		free(l->backend);
	l->backend = NULL;
	mdbus_line_stop(l);
	memset(l, 0, sizeof(*l));
}

/* What mdbusd does when line k is asked for, and what the line does then. */
static inline void line_bed_up(struct bed *b, struct mdbus_line *l, uint32_t k)
{
	memset(l, 0, sizeof(*l));
	l->bus = b->bus;
	l->bus.role = MDBUS_LEASE_LINE;
	l->bus.index = k;
	l->bus.lease_id = ++b->bus.dir->next_lease;
	b->bus.dir->line[k].lease.id = l->bus.lease_id;
	mdbus_store_release(&b->bus.dir->line_state[k], MDBUS_LINE_UP);
	if (b->bus.dir->line[k].to_mask != 0)
		l->ops = &source_ops;
	if (mdbus_line_start(l) != 0) {
		printf("line %u: %s\n", k, l->error);
		exit(1);
	}
}

/* What mdbusd does when the process of line k is gone. */
static inline void line_bed_down(struct bed *b, uint32_t k)
{
	mdbus_store_release(&b->bus.dir->line_state[k], MDBUS_LINE_DOWN);
}

/* Is this the message of its number? */
static inline bool is_message(const struct mdbus_record *r)
{
	uint8_t want[256];

	return r->len == bed_mold_message(r->seq, 0, want) && memcmp(r->data, want, r->len) == 0;
}

/* Every frame of a line is in one place. */
static inline void frames_add_up(const struct mdbus_line *l)
{
	uint32_t held = 0;

	for (uint32_t f = 0; f < l->arena->nframes; f++)
		held += l->holds.refs[f] != 0;
	CHECK_U64(l->stock.held, held);
	CHECK_U64(l->stock.pool.nfree + l->stock.reserve.nfree + held, l->arena->nframes);
}

#endif
