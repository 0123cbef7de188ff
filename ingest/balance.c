/* SPDX-License-Identifier: Apache-2.0 */
#include "balance.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include "../bus/handover.h"
#include "line_packet.h"
#include "rss.h"

#define WAKE_NS 20000u /* takers that sleep are woken at most this often */

struct mdbus_balance {
	struct mdbus_rss rss;
	uint32_t nshare; /* the own one included: that of giver[i] is 1 + i */
	uint32_t room[MDBUS_LINES_MAX]; /* packets that may be handed over now, by giver */
	struct mdbus_giver giver[MDBUS_LINES_MAX];
	uint64_t woken_ns;
	bool wake_due;
};

/* A taker that does not move has to be noticed well before what it has may be declared lost. */
static uint64_t patience(const struct mdbus_bus *bus, uint32_t line)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t c = 0; c < bus->dir->nchannel; c++)
		if (bus->dir->channel[c].line_mask >> line & 1u && bus->dir->channel[c].gap_timeout_ns < least)
			least = bus->dir->channel[c].gap_timeout_ns;
	return least / 4u;
}

struct mdbus_balance *mdbus_balance_open(struct mdbus_line *l)
{
	struct mdbus_balance *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	mdbus_rss_init(&b->rss, NULL);
	b->nshare = 1;
	for (uint32_t to = 0; to < l->bus.dir->nline; to++) {
		struct mdbus_giver *g = &b->giver[b->nshare - 1u];

		if (!(l->desc.to_mask >> to & 1u))
			continue;
		if (mdbus_giver_init(g, &l->bus, l->index, to) != 0) {
			free(b);
			return NULL;
		}
		g->patience_ns = patience(&l->bus, l->index);
		b->nshare++;
	}
	return b;
}

void mdbus_balance_close(struct mdbus_balance *b)
{
	free(b);
}

/* The ring lies in this line's own arena; but that may have been damaged while nobody had it. */
static bool is_sound(const struct mdbus_line *l, const struct mdbus_hand_entry *e)
{
	return e->frame < l->arena->nframes && e->off >= MDBUS_FRAME_META && e->off <= l->arena->frame_size &&
	       e->len <= l->arena->frame_size - e->off && e->channel < l->bus.dir->nchannel &&
	       (l->bus.dir->channel[e->channel].line_mask >> l->index & 1u);
}

void mdbus_balance_recover(struct mdbus_line *l)
{
	struct mdbus_balance *b = l->balance;

	for (uint32_t i = 0; i + 1u < b->nshare; i++) {
		struct mdbus_giver *g = &b->giver[i];

		for (uint64_t n = g->tail; n != g->head; n++) {
			struct mdbus_hand_entry *e = mdbus_giver_entry(g, n);

			if (is_sound(l, e)) {
				l->holds.refs[e->frame]++;
				continue;
			}
			mdbus_count(&l->arena->count.handed_bad, 1u);
			mdbus_giver_drop(g, n);
		}
	}
}

/* Entries up to `to` are done with: their frames come back. */
static void free_frames(struct mdbus_line *l, struct mdbus_giver *g, uint64_t to)
{
#ifdef MDBUS_MUTANT_freed_at_once
	g->tail = to;
#endif
	for (; g->tail != to; g->tail++)
		if (!mdbus_giver_dropped(g, g->tail))
			mdbus_stock_hand_back(&l->stock, mdbus_giver_entry(g, g->tail)->frame);
}

/* Look at all that g's taker has not done, in order. */
static void take_back(struct mdbus_line *l, struct mdbus_giver *g, uint64_t now)
{
	uint64_t n = g->tail;

	if (n == g->head)
		return;
	for (; n != g->head; n++) {
		const struct mdbus_hand_entry *e = mdbus_giver_entry(g, n);
		struct mdbus_rx rx = { .frame = e->frame, .off = e->off, .len = e->len, .wire_ns = e->wire_ns };

		if (mdbus_giver_dropped(g, n))
			continue;
#ifndef MDBUS_MUTANT_handed_not_taken_back
		mdbus_line_take(l, e->channel, &rx, now, e->rx_ns);
#endif
		MDBUS_HOOK("line.taken.back");
		mdbus_stock_settle_loose(&l->stock);
		mdbus_count(&l->arena->count.handed_back, 1u);
	}
	mdbus_giver_take_back(g);
	free_frames(l, g, g->head);
}

static void look(struct mdbus_line *l, uint32_t i, uint64_t now)
{
	struct mdbus_balance *b = l->balance;
	struct mdbus_giver *g = &b->giver[i];
	uint64_t bad = g->bad;

	free_frames(l, g, mdbus_giver_look(g, now));
	if (g->bad != bad)
		mdbus_count(&l->arena->count.handed_bad, g->bad - bad);
	b->room[i] = 0;
	if (mdbus_giver_state(g, now) == MDBUS_GIVER_UP)
		b->room[i] = mdbus_giver_room(g);
	else
		take_back(l, g, now);
}

/* Hand a packet of share 1 + i over.  False: it has to be taken here, and what went before it has been. */
static bool hand_over(struct mdbus_line *l, uint32_t i, const struct mdbus_rx *rx, uint32_t channel, uint64_t now)
{
	struct mdbus_balance *b = l->balance;
	struct mdbus_giver *g = &b->giver[i];

	if (b->room[i] == 0)
		look(l, i, now);
	if (b->room[i] == 0) {
		take_back(l, g, now);
		if (mdbus_giver_state(g, now) == MDBUS_GIVER_DOWN)
			mdbus_count(&l->arena->count.handed_down, 1u);
		else
			mdbus_count(&l->arena->count.handed_full, 1u);
		return false;
	}
	const struct mdbus_hand_entry e = {
		.frame = rx->frame, .channel = channel, .off = rx->off, .len = rx->len, .rx_ns = now, .wire_ns = rx->wire_ns,
	};

	b->room[i]--;
	mdbus_giver_put(g, &e);
#ifdef MDBUS_MUTANT_freed_at_once
	mdbus_frames_put(&l->stock.pool, rx->frame);
#else
	mdbus_stock_hand(&l->stock, rx->frame);
#endif
	mdbus_count(&l->arena->count.handed, 1u);
	return true;
}

static uint32_t share(const struct mdbus_line *l, const struct mdbus_rx *rx, const struct mdbus_udp *udp, int32_t flow)
{
	const struct mdbus_balance *b = l->balance;
	const struct mdbus_flow *f = &l->map.flow[flow];
	bool frame = rx->flow < 0;

	return mdbus_rss_queue(mdbus_rss_hash(&b->rss, ntohl(frame ? udp->src : rx->src), ntohl(f->addr),
	                                      frame ? udp->src_port : rx->src_port, f->port), b->nshare);
}

void mdbus_balance_take(struct mdbus_line *l, uint32_t n, uint64_t now)
{
	struct mdbus_balance *b = l->balance;
	struct mdbus_udp udp = { 0 };
	uint64_t bytes = 0;
	int32_t flow;

	for (uint32_t i = 0; i < n; i++) {
		struct mdbus_rx *rx = &l->rx[i];

		mdbus_line_prefetch(l, i, n);
		bytes += rx->len;
		uint32_t c = mdbus_line_find_channel(l, rx, &udp, &flow);
		uint32_t k = c == MDBUS_NO_CHANNEL ? 0 : share(l, rx, &udp, flow);

		if (k != 0 && hand_over(l, k - 1u, rx, c, now))
			continue;
		if (c != MDBUS_NO_CHANNEL)
			mdbus_line_take(l, c, rx, now, now);
		MDBUS_HOOK("line.taken");
		mdbus_stock_settle(&l->stock, rx->frame);
	}
	mdbus_count(&l->arena->count.bytes, bytes);
	for (uint32_t i = 0; i + 1u < b->nshare; i++)
		b->wake_due |= mdbus_giver_show(&b->giver[i], now);
}

static void wake(struct mdbus_balance *b, uint64_t now)
{
	b->wake_due = false;
	b->woken_ns = now;
#ifdef MDBUS_MUTANT_nobody_woken
	return;
#endif
	for (uint32_t i = 0; i + 1u < b->nshare; i++)
		if (b->giver[i].head != b->giver[i].tail)
			mdbus_giver_wake(&b->giver[i]);
}

void mdbus_balance_round(struct mdbus_line *l, uint64_t now, bool idle)
{
	struct mdbus_balance *b = l->balance;
	uint64_t away = 0;

	if (b->wake_due && (idle || now - b->woken_ns > WAKE_NS))
		wake(b, now);
	for (uint32_t i = 0; i + 1u < b->nshare; i++) {
		look(l, i, now);
		away += b->giver[i].head - b->giver[i].tail;
	}
	mdbus_store_relaxed(&l->arena->count.frames_handed, away);
}

void mdbus_balance_end(struct mdbus_line *l, uint64_t now)
{
	for (uint32_t i = 0; i + 1u < l->balance->nshare; i++)
		take_back(l, &l->balance->giver[i], now);
}
