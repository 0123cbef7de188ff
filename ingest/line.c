/* SPDX-License-Identifier: Apache-2.0 */
#include "line.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../bus/arena.h"
#include "../bus/guard.h"
#include "balance.h"
#include "dpdk_load.h"
#include "line_packet.h"

#define ATTACH_MS    5000
#define BELL_NS      20000u      /* sleeping subscribers are woken at most this often: they cost no more than that */
#define STATS_NS     1000000000u
#define HOLD_RECORDS 1048576u
#define AHEAD        8u /* packets before its turn, what a packet's channel points to is fetched */

static const struct mdbus_backend_ops *const backends[] = {
#ifdef MDBUS_HAVE_XDP
	&mdbus_backend_af_xdp,
#endif
	&mdbus_backend_kernel,
	&mdbus_backend_pcap,
	&mdbus_backend_recover,
	&mdbus_backend_handed,
};

static int __attribute__((format(printf, 3, 4))) fail(struct mdbus_line *l, int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(l->error, sizeof(l->error), format, ap);
	va_end(ap);
	return rc;
}

static int pin(struct mdbus_line *l)
{
	cpu_set_t set;

	if (l->desc.cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET((size_t)l->desc.cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		return fail(l, -errno, "cpu = %d: cannot be pinned to (%s); name a core that is online and allowed, "
		            "or -1 for none", l->desc.cpu, strerror(errno));
	return 0;
}

static int choose_backend(struct mdbus_line *l)
{
	if (l->ops != NULL)
		return 0;
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (strncmp(backends[i]->name, l->desc.backend, sizeof(l->desc.backend)) == 0)
			l->ops = backends[i];
	if (strncmp(l->desc.backend, "dpdk", sizeof(l->desc.backend)) == 0) {
		l->ops = mdbus_dpdk_load(l->error, sizeof(l->error));
		return l->ops ? 0 : -ENOSYS;
	}
	if (l->ops == NULL)
		return fail(l, -ENOSYS, "backend = \"%.16s\": not built in; install its libraries (scripts/deps) and rebuild, "
		            "or choose another", l->desc.backend);
	return 0;
}

/* Which frames are free is what the rings do not refer to. */
static int recover_frames(struct mdbus_line *l)
{
	if (mdbus_holds_init(&l->holds, l->arena, HOLD_RECORDS) != 0)
		return fail(l, -ENOMEM, "out of memory");
	mdbus_arena_scan(&l->bus, l->index, &l->holds);
	if (l->balance != NULL)
		mdbus_balance_recover(l);
	MDBUS_HOOK("line.scanned");
	if (mdbus_stock_init(&l->stock, l->arena, &l->holds, &l->desc) != 0)
		return fail(l, -ENOMEM, "out of memory");
	mdbus_store_relaxed(&l->arena->count.frames_recovered, l->stock.held);
	return 0;
}

/* Channels that have one layout read it from one place, which then stays in the cache. */
static void share_layout(struct mdbus_line *l, uint32_t c)
{
	for (uint32_t i = 0; i < l->nmine; i++) {
		const struct mdbus_layout *other = l->channel[l->mine[i]].layout;

		if (memcmp(l->channel[c].layout, other, sizeof(*other)) != 0)
			continue;
		l->channel[c].layout = other;
		return;
	}
}

static int set_up_channels(struct mdbus_line *l)
{
	uint32_t n = l->bus.dir->nchannel;

	l->channel = aligned_alloc(64, (n * sizeof(*l->channel) + 63u) & ~(size_t)63u);
	l->ring = calloc(n, sizeof(*l->ring));
	l->open = calloc(n, sizeof(*l->open));
	l->is_open = calloc(n, sizeof(*l->is_open));
	l->mine = calloc(n, sizeof(*l->mine));
	l->rx = calloc(MDBUS_BATCH_MAX, sizeof(*l->rx));
	if (!l->channel || !l->ring || !l->open || !l->is_open || !l->mine || !l->rx)
		return fail(l, -ENOMEM, "out of memory");
	for (uint32_t c = 0; c < n; c++) {
		if (!(l->bus.dir->channel[c].line_mask >> l->index & 1u))
			continue;
		if (mdbus_channel_init(&l->channel[c], &l->bus, c, l->index, &l->holds) != 0)
			return fail(l, -EBADMSG, "channel %s: its description in the bus directory is damaged; stop the bus "
			            "and run mdbusd --purge", l->bus.dir->channel[c].name);
		/* packets handed over may have waited, whatever is in the queue */
		l->channel[c].emptied_ns = l->desc.from_mask != 0 || l->desc.to_mask != 0 ? NULL : &l->emptied_ns;
		l->ring[c] = &l->channel[c].ring;
		l->mine[l->nmine++] = c;
		share_layout(l, c);
	}
	l->last = l->mine[0]; /* the first packets may be of no channel, or handed over */
	l->stock.ring = l->ring;
	l->stock.channel = l->channel;
	for (uint32_t i = 0; i < l->nmine; i++) {
		uint32_t of = l->channel[l->mine[i]].desc.unseq_of;

		if (of != 0 && of <= n && l->ring[of - 1u] != NULL)
			l->channel[of - 1u].unseq = &l->channel[l->mine[i]];
	}
	return 0;
}

static int open_backend(struct mdbus_line *l)
{
	struct mdbus_backend_env env = {
		.line = &l->desc,
		.arena = l->arena,
		.frames = l->frames,
		.pool = &l->stock.pool,
		.flows = l->map.flow,
		.nflow = l->map.nflow,
		.bus = &l->bus,
		.channel = l->channel,
		.senders = l->balance != NULL,
		.run_dir = mdbus_run_dir(),
	};

	l->emptied_ns = mdbus_clock_ns(); /* nothing can have arrived */
	l->backend = l->ops->open(&env);
	MDBUS_HOOK("line.opened");
	if (l->backend == NULL)
		return fail(l, -EIO, "%s", env.error);
	return 0;
}

static void take_batch(struct mdbus_line *l, uint32_t n, uint64_t now);
static void take_handed(struct mdbus_line *l, uint32_t n, uint64_t now);

/* Lines that hand packets over, or are handed them, take a batch in their own ways. */
static int open_balance(struct mdbus_line *l)
{
	l->take = l->desc.from_mask != 0 ? take_handed : take_batch;
	if (l->desc.to_mask == 0)
		return 0;
	l->balance = mdbus_balance_open(l);
	if (l->balance == NULL)
		return fail(l, -ENOMEM, "out of memory, or the bus directory is damaged: stop the bus and run mdbusd --purge");
	l->take = mdbus_balance_take;
	return 0;
}

int mdbus_line_start(struct mdbus_line *l)
{
	int rc;

	l->index = l->bus.index;
	l->desc = l->bus.dir->line[l->index];
	if (l->desc.batch == 0 || l->desc.batch > MDBUS_BATCH_MAX)
		l->desc.batch = MDBUS_BATCH_MAX;
	l->arena = mdbus_bus_arena(&l->bus, l->index);
	l->frames = (uint8_t *)l->arena + l->arena->frames_off;
	rc = mdbus_flow_map_init(&l->map, l->bus.dir, l->index);
	if (rc != 0)
		rc = fail(l, rc, rc == -ENOENT ? "no channel has a flow on line %s; add one to its `flows`" : "out of memory (%s)",
		          l->desc.name);
	if (rc == 0)
		rc = choose_backend(l);
	if (rc == 0)
		rc = pin(l);
	if (rc == 0)
		rc = open_balance(l);
	if (rc == 0)
		rc = recover_frames(l);
	if (rc == 0)
		rc = set_up_channels(l);
	if (rc == 0)
		rc = open_backend(l);
	return rc;
}

int mdbus_line_open(struct mdbus_line *l, const char *bus, const char *name)
{
	int rc;

	memset(l, 0, sizeof(*l));
	(void)mdbus_guard_add(&l->bus); /* a subscriber may cut its seat short, which this line looks at */
	rc = mdbus_bus_attach(&l->bus, bus, MDBUS_LEASE_LINE, name, ATTACH_MS);
	MDBUS_HOOK("line.attached");
	if (rc != 0) {
		mdbus_guard_remove(&l->bus);
		return fail(l, rc, "%s", l->bus.error);
	}
	rc = mdbus_line_start(l);
	if (rc != 0)
		mdbus_line_close(l);
	return rc;
}

void mdbus_line_stop(struct mdbus_line *l)
{
	if (l->backend != NULL)
		l->ops->close(l->backend);
	MDBUS_HOOK("line.closed");
	mdbus_balance_close(l->balance);
	mdbus_holds_free(&l->holds);
	mdbus_flow_map_free(&l->map);
	mdbus_stock_free(&l->stock);
	free(l->channel);
	free(l->ring);
	free(l->open);
	free(l->is_open);
	free(l->mine);
	free(l->rx);
	l->balance = NULL;
	l->backend = NULL;
}

void mdbus_line_close(struct mdbus_line *l)
{
	mdbus_line_stop(l);
	mdbus_bus_detach(&l->bus);
	mdbus_guard_remove(&l->bus);
}

/* Time has passed: open gaps first, and one channel more in turn, for what another line has left behind. */
static void tick(struct mdbus_line *l, uint64_t now)
{
	uint32_t still = 0;

	for (uint32_t i = 0; i < l->nopen; i++) {
		uint32_t c = l->open[i];

		l->is_open[c] = mdbus_channel_tick(&l->channel[c], now);
		if (l->is_open[c])
			l->open[still++] = c;
	}
	l->nopen = still;
	if (++l->turn >= l->nmine)
		l->turn = 0;
	uint32_t next = l->mine[l->turn];

	if (!l->is_open[next] && mdbus_channel_tick(&l->channel[next], now))
		mdbus_line_note_open(l, next);
}

/* Wake the subscribers that sleep, if any does. */
static void ring_bell(struct mdbus_line *l, uint64_t now)
{
	uint32_t *bell = &mdbus_bus_ring(&l->bus, 0)->doorbell;
	bool sleeping = false;

	l->bell_due = false;
	l->bell_ns = now;
	for (uint32_t i = 0; i < l->bus.dir->nseat && !sleeping; i++) {
		const struct mdbus_seat_hdr *s = l->bus.seat[i].base;

		sleeping = s != NULL && mdbus_load_relaxed(&l->bus.dir->seat[i].state) == MDBUS_LEASE_HELD &&
		           mdbus_load_relaxed(&s->sleeping) != 0;
	}
	if (!sleeping)
		return;
	__atomic_fetch_add(bell, 1u, __ATOMIC_RELEASE);
	MDBUS_HOOK("line.bell");
	syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	mdbus_count(&l->arena->count.doorbells, 1u);
}

static void housekeeping(struct mdbus_line *l, uint64_t now)
{
	mdbus_store_relaxed(&l->arena->count.heartbeat_ns, now);
	MDBUS_HOOK("line.heartbeat");
	if (now - l->stats_ns < STATS_NS)
		return;
	l->stats_ns = now;
	mdbus_stock_tell(&l->stock, l->ops->waiting ? l->ops->waiting(l->backend) : 0);
	l->ops->stats(l->backend);
}

static void rest(struct mdbus_line *l)
{
	uint32_t us = l->desc.poll_timeout_us;

	if (l->desc.idle_spins == 0 || ++l->idle < l->desc.idle_spins) {
		mdbus_pause();
		return;
	}
	/* with a gap open the clock matters more than the processor */
	if (l->nopen != 0 && us > 200u)
		us = 200u;
	l->ops->wait(l->backend, us);
}

/* Packets wait only where a batch was full. */
static void look_at_frames(struct mdbus_line *l, uint32_t n)
{
	mdbus_stock_look(&l->stock, n == l->desc.batch && l->ops->waiting ? l->ops->waiting(l->backend) : 0);
}

/* Packets of the own queue, or those that another line's process has handed over. */
static inline void take_each(struct mdbus_line *l, uint32_t n, uint64_t now, bool handed)
{
	uint32_t channel[MDBUS_BATCH_MAX];
	struct mdbus_udp udp;
	uint64_t bytes = 0;
	int32_t flow;

	for (uint32_t i = 0; i < n; i++) {
		mdbus_line_prefetch(l, i, n);
		bytes += l->rx[i].len;
		channel[i] = mdbus_line_find_channel(l, &l->rx[i], &udp, &flow);
		if (channel[i] != MDBUS_NO_CHANNEL)
			mdbus_channel_prefetch(&l->channel[channel[i]]);
	}
	for (uint32_t i = 0; i < n; i++) {
		struct mdbus_rx *rx = &l->rx[i];
		uint32_t c = channel[i];

		if (i + AHEAD < n && channel[i + AHEAD] != MDBUS_NO_CHANNEL)
			mdbus_channel_prefetch_shared(&l->channel[channel[i + AHEAD]]);
		if (c != MDBUS_NO_CHANNEL)
			mdbus_line_take(l, c, rx, now, handed && rx->rx_ns < now ? rx->rx_ns : now);
		MDBUS_HOOK("line.taken");
		mdbus_stock_settle(&l->stock, rx->frame);
	}
	mdbus_count(&l->arena->count.bytes, bytes);
}

static void take_batch(struct mdbus_line *l, uint32_t n, uint64_t now)
{
	take_each(l, n, now, false);
}

static void take_handed(struct mdbus_line *l, uint32_t n, uint64_t now)
{
	take_each(l, n, now, true);
}

int mdbus_line_round(struct mdbus_line *l)
{
	int n = l->ops->poll(l->backend, l->rx, l->desc.batch);
	uint64_t now = mdbus_clock_ns();

	if (n < 0)
		return n;
	mdbus_count(&l->arena->count.polls, 1u);
	if (n > 0) {
		l->take(l, (uint32_t)n, now);
		mdbus_count(&l->arena->count.packets, (uint64_t)n);
		mdbus_store_relaxed(&l->arena->count.last_arrival_ns, now);
		look_at_frames(l, (uint32_t)n);
		MDBUS_HOOK("line.frames");
		l->bell_due = true;
		l->idle = 0;
		l->warm = MDBUS_CACHE_LINE;
	} else {
		if (l->warm != 0)
			l->warm = mdbus_channel_warm(&l->channel[l->last], l->warm);
		mdbus_count(&l->arena->count.idle_polls, 1u);
		if (l->stock.low)
			look_at_frames(l, 0);
	}
	if ((uint32_t)n < l->desc.batch)
		l->emptied_ns = now;
	if (l->balance != NULL)
		mdbus_balance_round(l, now, n == 0);
	l->ops->refill(l->backend);
	tick(l, now);
	if (l->bell_due && (n == 0 || now - l->bell_ns > BELL_NS))
		ring_bell(l, now);
	housekeeping(l, now);
	if (n == 0)
		rest(l);
	return n;
}

void mdbus_line_drain(struct mdbus_line *l, uint64_t timeout_ns)
{
	uint64_t end = mdbus_clock_ns() + timeout_ns;

	if (l->balance != NULL)
		mdbus_balance_end(l, mdbus_clock_ns());
	for (uint32_t i = 0; i < l->nmine; i++) {
		mdbus_channel_flush(&l->channel[l->mine[i]], mdbus_clock_ns());
		mdbus_line_note_open(l, l->mine[i]);
	}
	while (l->nopen != 0 && mdbus_clock_ns() < end)
		tick(l, mdbus_clock_ns());
	ring_bell(l, mdbus_clock_ns());
}
