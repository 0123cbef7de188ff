/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_stats.c - the port's counters, once a second.
 *
 * Those that every line has are added to the arena's own.  The others go under their own names into the arena's
 * table, a place for each that has ever been other than 0: a card has hundreds, of which a few say something.  A name is
 * written before it is counted in nxstat and never changed, so a reader never sees a number under another's name.
 */
#include <errno.h>
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

static int16_t new_slot(struct mdbus_arena_hdr *arena, const char *name)
{
	uint32_t n = arena->nxstat;

	if (n >= MDBUS_XSTATS_MAX)
		return -1;
	memset(arena->xstat[n].name, 0, sizeof(arena->xstat[n].name));
	snprintf(arena->xstat[n].name, sizeof(arena->xstat[n].name), "%.55s", name);
	mdbus_store_release(&arena->nxstat, n + 1);
	return (int16_t)n;
}

static void publish(struct mdbus_dpdk *x)
{
	struct dpdk_xstats *s = &x->xstats;
	int n = s->n ? rte_eth_xstats_get(x->port, s->now, (unsigned)s->n) : 0;

	for (int i = 0; i < n && i < s->n; i++) {
		uint64_t id = s->now[i].id;

		if (id >= (uint64_t)s->n || (s->slot[id] < 0 && s->now[i].value == 0))
			continue;
		if (s->slot[id] < 0)
			s->slot[id] = new_slot(x->arena, s->name[id].name);
		if (s->slot[id] >= 0)
			mdbus_store_relaxed(&x->arena->xstat[s->slot[id]].value, s->now[i].value);
	}
}

void mdbus_dpdk_stats(struct mdbus_dpdk *x)
{
	struct rte_eth_stats now;

	if (rte_eth_stats_get(x->port, &now) == 0) {
		add_new(&x->arena->count.nic_dropped, &x->seen.imissed, now.imissed);
		add_new(&x->arena->count.fill_empty, &x->seen.rx_nombuf, now.rx_nombuf);
		add_new(&x->arena->count.bad_frame, &x->seen.ierrors, now.ierrors);
	}
	publish(x);
}

/* A port without such counters has none to show. */
int mdbus_dpdk_stats_open(struct mdbus_dpdk *x)
{
	struct dpdk_xstats *s = &x->xstats;
	int n = rte_eth_xstats_get_names(x->port, NULL, 0);

	mdbus_store_release(&x->arena->nxstat, 0u);
	(void)rte_eth_stats_get(x->port, &x->seen); /* what the device counted before is not this line's */
	if (n <= 0)
		return 0;
	s->now = calloc((size_t)n, sizeof(*s->now));
	s->name = calloc((size_t)n, sizeof(*s->name));
	s->slot = calloc((size_t)n, sizeof(*s->slot));
	if (!s->now || !s->name || !s->slot)
		return -ENOMEM;
	memset(s->slot, 0xff, (size_t)n * sizeof(*s->slot));
	s->n = rte_eth_xstats_get_names(x->port, s->name, (unsigned)n) == n ? n : 0;
	return 0;
}

void mdbus_dpdk_stats_close(struct mdbus_dpdk *x)
{
	free(x->xstats.now);
	free(x->xstats.name);
	free(x->xstats.slot);
}
