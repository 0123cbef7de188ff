/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk.c - receive with DPDK: any port that one of its drivers has, a card taken from the kernel or a virtual one.
 *
 * The port fills the line's frames (backend_dpdk_pool.c), so from the wire to the reader nothing is copied here.  A frame goes
 * round as with AF_XDP: free, lent to DPDK, in the batch, in the ring, free.  DPDK's own pool is only where lent
 * frames wait for the port; nothing is ever freed into it behind the line's back, except the tail of a packet that came in
 * pieces, whose frames were lent and stay so.
 *
 * What belongs to the process ends with it: the device's descriptors, its memory, membership of groups.  A killed
 * process leaves nothing, in /var/run/dpdk or elsewhere, but the frames that the rings tell its successor about.
 */
#include "backend_dpdk.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_mbuf_dyn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../bus/user_veth.h"

#define NAP_MIN_US 20u
#define NAP_MAX_US 250u /* a receive ring must hold what comes in that time */
#define LEND_BATCH 64u

/* ---- packets ----------------------------------------------------------------------------------------------- */

static inline void lend(struct mdbus_dpdk *x, uint32_t frame)
{
	x->lent[frame / 64] |= UINT64_C(1) << (frame % 64);
}

/* True if DPDK had that frame. */
static inline bool take_back(struct mdbus_dpdk *x, uint32_t frame)
{
	uint64_t bit = UINT64_C(1) << (frame % 64);
	bool had = x->lent[frame / 64] & bit;

	x->lent[frame / 64] &= ~bit;
	return had;
}

/* Not every driver counts them. */
static uint32_t dpdk_waiting(void *self)
{
	struct mdbus_dpdk *x = self;
	int n = rte_eth_rx_queue_count(x->port, DPDK_QUEUE);

	return n > 0 ? (uint32_t)n : 0;
}

static void dpdk_refill(void *self)
{
	struct mdbus_dpdk *x = self;
	struct rte_mbuf *batch[LEND_BATCH];
	uint32_t n, frame;

	do {
		for (n = 0; n < LEND_BATCH && mdbus_frames_get(x->pool, &frame); n++) {
			lend(x, frame);
			batch[n] = x->mbuf[frame];
			batch[n]->next = NULL;
			batch[n]->nb_segs = 1;
			rte_mbuf_refcnt_set(batch[n], 1);
		}
		if (n)
			rte_mempool_put_bulk(x->mempool, (void **)batch, n);
	} while (n == LEND_BATCH);
}

static inline uint64_t wire_ns(const struct mdbus_dpdk *x, const struct rte_mbuf *m)
{
	if (!x->wire_time || !(m->ol_flags & x->wire_flag))
		return 0;
	return (uint64_t)((double)*RTE_MBUF_DYNFIELD(m, x->wire_off, const uint64_t *) * x->wire_ns_per_tick);
}

/* Fill in one packet from its buffer, whose head the driver has written: trusted no further than to stay in the arena. */
static bool take_packet(struct mdbus_dpdk *x, struct rte_mbuf *m, struct mdbus_rx *rx)
{
	uint32_t size = 1u << x->frame_shift, off, frame;

	if (m->nb_segs != 1 && rte_pktmbuf_linearize(m) != 0) {
		rte_pktmbuf_free(m); /* longer than a frame: its frames stay lent */
		return false;
	}
	uint64_t number = (uint64_t)((uint8_t *)m->buf_addr - x->frames) >> x->frame_shift;

	if (number >= x->nframes || !take_back(x, (uint32_t)number))
		return false;
	frame = (uint32_t)number;
	off = m->data_off;
	if (off < MDBUS_FRAME_META || off > size || m->pkt_len > size - off) {
		mdbus_frames_put(x->pool, frame);
		return false;
	}
	*rx = (struct mdbus_rx){ .frame = frame, .off = off, .len = m->pkt_len, .flow = -1, .wire_ns = wire_ns(x, m) };
	__builtin_prefetch((uint8_t *)m->buf_addr + off);
	return true;
}

static int dpdk_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct mdbus_dpdk *x = self;
	uint16_t n = (uint16_t)(max < DPDK_BURST_MAX ? max : DPDK_BURST_MAX);
	int got = 0;

	n = x->started ? rte_eth_rx_burst(x->port, DPDK_QUEUE, x->burst, n) : 0;
	if (n == 0)
		return 0;
	x->nap_us = NAP_MIN_US;
	for (uint32_t i = 0; i < n; i++) {
		if (take_packet(x, x->burst[i], &rx[got]))
			got++;
		else
			mdbus_count(&x->arena->count.bad_frame, 1);
	}
	return got;
}

/* A port is asked, it does not call: sleep a little, longer while nothing comes. */
static void dpdk_wait(void *self, uint32_t timeout_us)
{
	struct mdbus_dpdk *x = self;
	uint32_t us = x->nap_us < timeout_us ? x->nap_us : timeout_us;
	struct timespec pause = { .tv_sec = 0, .tv_nsec = (long)us * 1000 };

	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	x->nap_us = x->nap_us * 2 < NAP_MAX_US ? x->nap_us * 2 : NAP_MAX_US;
}

static void dpdk_stats(void *self)
{
	struct mdbus_dpdk *x = self;

	mdbus_dpdk_stats(x);
	mdbus_dpdk_veth_look(x);
	mdbus_dpdk_port_link(x);
}

/* ---- open and close ---------------------------------------------------------------------------------------- */

/* The frames that DPDK still has go back to the line once the port is closed. */
static void dpdk_close(void *self)
{
	struct mdbus_dpdk *x = self;

	mdbus_dpdk_feed_close(x);
	mdbus_dpdk_port_close(x);
	mdbus_dpdk_pool_close(x);
	mdbus_dpdk_stats_close(x);
	for (uint32_t frame = 0; x->lent && frame < x->nframes; frame++) {
		if (take_back(x, frame))
			mdbus_frames_put(x->pool, frame);
	}
	mdbus_dpdk_veth_release();
	(void)rte_eal_cleanup();
	free(x->lent);
	free(x->mbuf);
	free(x);
}

static bool check_config(struct mdbus_backend_env *env)
{
	const struct mdbus_line_desc *line = env->line;

	if (line->interface[0] == '\0')
		snprintf(env->error, sizeof(env->error), "line %s: backend dpdk needs an interface: a PCI address such as "
		         "0000:01:00.0, or a virtual device such as net_af_packet0,iface=eth1 or user-veth:a", line->name);
	else if (strncmp(line->interface, "net_af_xdp", 10) == 0)
		snprintf(env->error, sizeof(env->error), "%s: net_af_xdp must have the packets in memory of its own: set "
		         "backend = \"af_xdp\"", line->interface);
	else if (strncmp(line->interface, "net_tap", 7) == 0 && strstr(line->interface, "remote="))
		snprintf(env->error, sizeof(env->error), "%s: a killed net_tap leaves its rules and promiscuity on the remote interface: "
		         "set interface = \"net_af_packet0,iface=...\"", line->interface);
	else if (line->queue != DPDK_QUEUE && !mdbus_is_user_veth(line->interface))
		snprintf(env->error, sizeof(env->error), "queue = %u: a DPDK port belongs to one process whole, its queue is 0",
		         line->queue);
	else if (env->nflow == 0)
		snprintf(env->error, sizeof(env->error), "line %s carries no channel: nothing to receive", line->name);
	else
		return true;
	return false;
}

static struct mdbus_dpdk *set_up(struct mdbus_backend_env *env)
{
	struct mdbus_dpdk *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->arena = env->arena;
	x->line = env->line;
	x->pool = env->pool;
	x->frames = env->frames;
	x->nframes = env->arena->nframes;
	x->frame_shift = (uint32_t)__builtin_ctz(env->arena->frame_size);
	x->nap_us = NAP_MIN_US;
	x->port = RTE_MAX_ETHPORTS;
	if (mdbus_is_user_veth(env->line->interface))
		x->veth = (struct dpdk_veth){ .interface = env->line->interface, .run_dir = env->run_dir,
			                      .queue = env->line->queue, .ring = env->line->rx_ring };
	x->lent = calloc(x->nframes / 64 + 1, sizeof(*x->lent));
	x->mbuf = calloc(x->nframes, sizeof(struct rte_mbuf *));
	if (x->lent && x->mbuf)
		return x;
	free(x->lent);
	free(x->mbuf);
	free(x);
	return NULL;
}

/* In an order in which the first packet finds everything ready. */
static int start(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	int rc = mdbus_dpdk_probe(x, env);

	if (rc == 0)
		rc = mdbus_dpdk_pool_open(x, env);
	if (rc == 0) {
		dpdk_refill(x); /* drivers fill their rings when the queue is set up, or when the port starts */
		mdbus_dpdk_feed_isolate(x);
		rc = mdbus_dpdk_port_configure(x, env);
	}
	if (rc == 0)
		rc = mdbus_dpdk_port_start(x, env);
	if (rc == 0)
		rc = mdbus_dpdk_feed_open(x, env);
	if (rc == 0)
		rc = mdbus_dpdk_stats_open(x);
	if (rc == 0)
		mdbus_dpdk_port_report(x);
	return rc;
}

static void *dpdk_open(struct mdbus_backend_env *env)
{
	struct mdbus_dpdk *x;

	env->error[0] = '\0';
	if (!check_config(env))
		return NULL;
	x = set_up(env);
	if (x && mdbus_dpdk_eal_start(x, env) == 0) {
		if (start(x, env) == 0) {
			mdbus_dpdk_port_warn(x);
			mdbus_dpdk_eal_speak();
			return x;
		}
		dpdk_close(x);
	} else if (x) {
		free(x->lent);
		free(x->mbuf);
		free(x);
	}
	if (env->error[0] == '\0')
		snprintf(env->error, sizeof(env->error), "out of memory");
	return NULL;
}

#define EXPORTED __attribute__((visibility("default")))

extern const uint64_t mdbus_backend_dpdk_layout EXPORTED;
const uint64_t mdbus_backend_dpdk_layout = MDBUS_ABI_LAYOUT;

extern const struct mdbus_backend_ops mdbus_backend_dpdk EXPORTED;
const struct mdbus_backend_ops mdbus_backend_dpdk = {
	.name = "dpdk",
	.open = dpdk_open,
	.poll = dpdk_poll,
	.waiting = dpdk_waiting,
	.refill = dpdk_refill,
	.wait = dpdk_wait,
	.stats = dpdk_stats,
	.close = dpdk_close,
};
