/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_handed.c - packets that other processes of the line have received, and hand over: for a share of the flows of a queue.
 *
 * A packet comes as a descriptor (bus/handover.h) and lies in a frame of the line that received it.  Its payload is copied into
 * a frame of this line's own arena: what is published refers to bytes that are whole already, even where they come inline
 * a moment later, and a frame of another line's must not be held longer than it takes to look at a packet.  The descriptors are
 * given back after the batch was published, so that when this process is killed, whoever gave them has all that was not.
 */
#include <errno.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/handover.h"
#include "backend.h"

#define BATCH 64u /* packets of one ring at once */

struct handed_line {
	struct mdbus_frames *pool;
	uint8_t *frames;
	struct mdbus_arena_hdr *arena;
	uint32_t frame_size;
	const struct mdbus_bus *bus;
	uint32_t carried[MDBUS_CHANNELS_MAX / 32u]; /* channels of this line, a bit each */
	uint64_t refused, told; /* entries of no channel of this line; all that is counted as handed_bad */
	uint32_t turn; /* ring that is read first */
	uint32_t ntaker;
	struct mdbus_taker taker[MDBUS_LINES_MAX];
};

static bool carries(const struct handed_line *h, uint32_t channel)
{
	return channel < MDBUS_CHANNELS_MAX && (h->carried[channel / 32u] >> channel % 32u & 1u);
}

/* Entries of one ring, up to max of them: those that were still there when all had been copied. */
static uint32_t take(struct handed_line *h, struct mdbus_taker *t, struct mdbus_rx *rx, uint32_t max)
{
	uint32_t n = mdbus_taker_look(t), got = 0, kept = 0, frame;
	struct mdbus_hand_entry e;
	uint64_t at[BATCH], still;

	max = max < BATCH ? max : BATCH;
	for (; n > 0 && got < max && mdbus_frames_get(h->pool, &frame); n--, t->next++) {
		uint8_t *to = h->frames + (uint64_t)frame * h->frame_size + MDBUS_FRAME_META;

		if (n > 1u)
			mdbus_taker_prefetch(t, t->next + 1u);
		bool whole = mdbus_taker_copy(t, t->next, &e, to);

		if (!whole || !carries(h, e.channel)) {
			h->refused += whole;
			mdbus_frames_put(h->pool, frame);
			continue;
		}
		at[got] = t->next;
		rx[got++] = (struct mdbus_rx){
			.frame = frame,
			.off = MDBUS_FRAME_META,
			.len = e.len,
			.flow = (int32_t)e.channel,
			.wire_ns = e.wire_ns,
			.rx_ns = e.rx_ns,
		};
	}
	still = mdbus_taker_still(t);
	for (uint32_t i = 0; i < got; i++) {
		if (at[i] >= still)
			rx[kept++] = rx[i];
		else
			mdbus_frames_put(h->pool, rx[i].frame);
	}
	return kept;
}

static int handed_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct handed_line *h = self;
	uint32_t got = 0;

	for (uint32_t i = 0; i < h->ntaker && got < max; i++)
		got += take(h, &h->taker[(h->turn + i) % h->ntaker], rx + got, max - got);
	h->turn++;
	return (int)got;
}

/* The batch was published. */
static void handed_refill(void *self)
{
	struct handed_line *h = self;

	for (uint32_t i = 0; i < h->ntaker; i++)
		mdbus_taker_done(&h->taker[i]);
}

static void handed_wait(void *self, uint32_t timeout_us)
{
	struct handed_line *h = self;

	mdbus_taker_wait(h->bus, h->taker, h->ntaker, timeout_us);
}

static void handed_stats(void *self)
{
	struct handed_line *h = self;
	uint64_t bad = h->refused;

	for (uint32_t i = 0; i < h->ntaker; i++)
		bad += h->taker[i].bad;
	mdbus_count(&h->arena->count.handed_bad, bad - h->told);
	h->told = bad;
}

static void handed_close(void *self)
{
	struct handed_line *h = self;

	mdbus_taker_ready(h->bus, 0);
	free(h);
}

static int open_rings(struct handed_line *h, struct mdbus_backend_env *env)
{
	size_t used = (size_t)snprintf(h->arena->backend, sizeof(h->arena->backend), "handed by");

	for (uint32_t from = 0; from < h->bus->dir->nline; from++) {
		const struct mdbus_line_desc *l = &h->bus->dir->line[from];

		if (!(env->line->from_mask >> from & 1u))
			continue;
		if (mdbus_taker_init(&h->taker[h->ntaker], h->bus, h->bus->index, from) != 0 ||
		    l->frame_size > h->frame_size) {
			snprintf(env->error, sizeof(env->error), "line %.31s hands no packets over, as the bus directory says; "
			         "stop the bus and run mdbusd --purge", l->name);
			return -EBADMSG;
		}
		(void)mdbus_taker_look(&h->taker[h->ntaker]); /* past what was taken back from a predecessor */
		mdbus_taker_done(&h->taker[h->ntaker++]);
		if (used < sizeof(h->arena->backend))
			used += (size_t)snprintf(h->arena->backend + used, sizeof(h->arena->backend) - used, " %s", l->name);
	}
	return 0;
}

static void *handed_open(struct mdbus_backend_env *env)
{
	struct handed_line *h = calloc(1, sizeof(*h));

	env->error[0] = '\0';
	if (h == NULL) {
		snprintf(env->error, sizeof(env->error), "out of memory");
		return NULL;
	}
	h->pool = env->pool;
	h->frames = env->frames;
	h->arena = env->arena;
	h->frame_size = env->arena->frame_size;
	h->bus = env->bus;
	for (uint32_t c = 0; c < h->bus->dir->nchannel; c++)
		if (h->bus->dir->channel[c].line_mask >> h->bus->index & 1u)
			h->carried[c / 32u] |= 1u << c % 32u;
	if (open_rings(h, env) != 0) {
		free(h);
		return NULL;
	}
	mdbus_taker_ready(h->bus, h->bus->lease_id);
	return h;
}

const struct mdbus_backend_ops mdbus_backend_handed = {
	.name = "handed",
	.open = handed_open,
	.poll = handed_poll, /* and what waits is in frames of other lines */
	.refill = handed_refill,
	.wait = handed_wait,
	.stats = handed_stats,
	.close = handed_close,
};
