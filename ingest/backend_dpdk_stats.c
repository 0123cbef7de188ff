/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_stats.c - the port's counters, once a second.
 *
 * Those that every line has are added to the arena's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend_dpdk.h"

/* The port's counters start with the process, the arena's go on for ever: add what is new. */
static void add_new(uint64_t *count, uint64_t *seen, uint64_t now)
{
	if (now > *seen)
		mdbus_count(count, now - *seen);
	*seen = now;
}

void mdbus_dpdk_stats(struct mdbus_dpdk *x)
{
	struct rte_eth_stats now;

	if (rte_eth_stats_get(x->port, &now) != 0)
		return;
	add_new(&x->arena->count.nic_dropped, &x->seen.imissed, now.imissed);
	add_new(&x->arena->count.fill_empty, &x->seen.rx_nombuf, now.rx_nombuf);
	add_new(&x->arena->count.bad_frame, &x->seen.ierrors, now.ierrors);
}

int mdbus_dpdk_stats_open(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	(void)env;
	(void)rte_eth_stats_reset(x->port);
	return 0;
}

void mdbus_dpdk_stats_close(struct mdbus_dpdk *x)
{
	(void)x;
}
