/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_xdp.c - receive past the kernel: the NIC or driver puts frames straight into the line's arena.
 *
 * The frames region of the arena is the UMEM.  Free frames go into the fill ring, come back in the receive ring with a
 * packet in them, and are handed on as they are: from the wire to the reader nothing is copied here.  The kernel leaves
 * 256 bytes free before each packet, which is where a frame's meta data (MDBUS_FRAME_META) lives.
 *
 * What belongs to the process, and ends with it: the socket, its place in the program's map, its hold on the link of the
 * program (the processes of other queues of the interface hold it too), the group memberships.  A process killed
 * here leaves its queue to the kernel, with the last one the interface is as it was before, and frames are left that the
 * rings tell its successor about.  The queue itself comes back some milliseconds later, so taking it is retried.
 *
 * The driver is asked for the best it has (native program, zero-copy) and what was obtained is written to
 * arena->backend.  Each try makes a UMEM and socket from new: a failed bind leaves a socket good for nothing.
 */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/sockios.h>
#include <mdbus/hook.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xdp/xsk.h>
#include "backend_xdp_early.h"
#include "backend_xdp_prog.h"
#include "join.h"
#include "mend.h"

#define PACKET_HEADROOM 256u /* the kernel's XDP_PACKET_HEADROOM: a packet starts here in its frame */
#define VLAN_HEADER     4u
#define COMPLETION_RING 64u /* must exist; nothing is sent */
#define DEFAULT_RING    8192u
#define RETRY_NS        UINT64_C(3000000000) /* 15 ms will do on an idle host, more than 1 s was seen on a busy one */
#define RETRY_US_MIN    2000u
#define RETRY_US_MAX    32000u

_Static_assert(PACKET_HEADROOM >= MDBUS_FRAME_META, "a frame's meta data would lie in its packet");

struct xdp_line {
	/* hot */
	struct xsk_ring_cons rx;
	struct xsk_ring_prod fill;
	struct mdbus_frames *pool;
	struct mdbus_xdp_early *early; /* NULL: nothing is dropped early */
	uint32_t taken;                /* packets of the last poll */
	uint8_t *frames;
	uint64_t *lent; /* a bit per frame: with the kernel, in the fill or receive ring */
	uint32_t nframes;
	uint32_t frame_shift;
	int fd;
	int broken; /* -errno once the interface is gone */
	/* cold */
	struct xsk_ring_cons completion;
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	struct mdbus_arena_hdr *arena;
	const struct mdbus_line_desc *line;
	uint32_t ifindex;
	bool zerocopy;
	struct mdbus_join join;
	struct mdbus_xdp_prog prog;
	struct {
		uint64_t dropped, ring_full, fill_empty;
	} seen;
	uint64_t left[LINE_XDP_COUNTS];
};

/* ---- packets ----------------------------------------------------------------------------------------------- */

static inline void lend(struct xdp_line *x, uint32_t frame)
{
	x->lent[frame / 64] |= UINT64_C(1) << (frame % 64);
}

/* True if the kernel had that frame. */
static inline bool take_back(struct xdp_line *x, uint32_t frame)
{
	uint64_t bit = UINT64_C(1) << (frame % 64);
	bool had = x->lent[frame / 64] & bit;

	x->lent[frame / 64] &= ~bit;
	return had;
}

static void wake_kernel(struct xdp_line *x)
{
	(void)recvfrom(x->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static void lend_frames(struct xdp_line *x)
{
	uint32_t room = xsk_prod_nb_free(&x->fill, x->pool->nfree);
	uint32_t n = room < x->pool->nfree ? room : x->pool->nfree;
	uint32_t at;

	if (n && xsk_ring_prod__reserve(&x->fill, n, &at) == n) {
		for (uint32_t i = 0; i < n; i++) {
			uint32_t frame = 0;

			(void)mdbus_frames_get(x->pool, &frame);
			lend(x, frame);
			*xsk_ring_prod__fill_addr(&x->fill, at + i) = (uint64_t)frame << x->frame_shift;
		}
		xsk_ring_prod__submit(&x->fill, n);
	}
	if (xsk_ring_prod__needs_wakeup(&x->fill))
		wake_kernel(x);
}

static void xdp_refill(void *self)
{
	struct xdp_line *x = self;

	lend_frames(x);
	if (x->early)
		mdbus_xdp_early_round(x->early, x->taken, x->rx.size);
}

/* Fill in one packet from its descriptor, which is trusted no further than needed to stay inside the arena. */
static bool take_packet(struct xdp_line *x, const struct xdp_desc *desc, struct mdbus_rx *rx)
{
	uint64_t number = desc->addr >> x->frame_shift;
	uint32_t size = 1u << x->frame_shift;
	uint32_t off = (uint32_t)(desc->addr & (size - 1));
	uint32_t frame = (uint32_t)number;

	if (number >= x->nframes || !take_back(x, frame))
		return false;
	if (off < MDBUS_FRAME_META || desc->len > size - off) {
		mdbus_frames_put(x->pool, frame);
		return false;
	}
	*rx = (struct mdbus_rx){ .frame = frame, .off = off, .len = desc->len, .flow = -1 };
	__builtin_prefetch(x->frames + desc->addr);
	return true;
}

static int xdp_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct xdp_line *x = self;
	uint32_t at = 0, got = 0, n = xsk_ring_cons__peek(&x->rx, max, &at);

	x->taken = n;
	if (n == 0) {
		if (x->broken)
			return x->broken;
		if (x->pool->nfree || xsk_ring_prod__needs_wakeup(&x->fill))
			lend_frames(x);
		return 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (take_packet(x, xsk_ring_cons__rx_desc(&x->rx, at + i), &rx[got]))
			got++;
		else
			mdbus_count(&x->arena->count.bad_frame, 1);
	}
	xsk_ring_cons__release(&x->rx, n);
	return (int)got;
}

static uint32_t xdp_waiting(void *self)
{
	struct xdp_line *x = self;

	return xsk_cons_nb_avail(&x->rx, UINT32_MAX);
}

static void xdp_wait(void *self, uint32_t timeout_us)
{
	struct xdp_line *x = self;
	struct timespec timeout = { .tv_sec = timeout_us / 1000000, .tv_nsec = (long)(timeout_us % 1000000) * 1000 };
	struct pollfd p = { .fd = x->fd, .events = POLLIN };

	if (ppoll(&p, 1, &timeout, NULL) == 1 && (p.revents & POLLERR))
		x->broken = -ENETDOWN;
}

/* ---- counters ---------------------------------------------------------------------------------------------- */

/* The kernel's counters start with the socket, the arena's go on for ever: add what is new. */
static void add_new(uint64_t *count, uint64_t *seen, uint64_t now)
{
	mdbus_count(count, now - *seen);
	*seen = now;
}

static void xdp_stats(void *self)
{
	struct xdp_line *x = self;
	struct xdp_statistics now = { 0 };
	uint64_t left[LINE_XDP_COUNTS];
	socklen_t len = sizeof(now);
	int error = 0;

	if (getsockopt(x->fd, SOL_XDP, XDP_STATISTICS, &now, &len) == 0) {
		add_new(&x->arena->count.nic_dropped, &x->seen.dropped, now.rx_dropped);
		add_new(&x->arena->count.ring_full, &x->seen.ring_full, now.rx_ring_full);
		add_new(&x->arena->count.fill_empty, &x->seen.fill_empty, now.rx_fill_ring_empty_descs);
	}
	if (mdbus_xdp_prog_counts(&x->prog, left) == 0) {
		add_new(&x->arena->count.not_feed, &x->left[LINE_XDP_OTHER], left[LINE_XDP_OTHER]);
		add_new(&x->arena->count.bad_frame, &x->left[LINE_XDP_MALFORMED], left[LINE_XDP_MALFORMED]);
		add_new(&x->arena->count.bad_fragment, &x->left[LINE_XDP_FRAGMENT], left[LINE_XDP_FRAGMENT]);
		add_new(&x->arena->count.wrong_queue, &x->left[LINE_XDP_WRONG_QUEUE], left[LINE_XDP_WRONG_QUEUE]);
	}
	len = sizeof(error);
	if (getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error)
		x->broken = -error;
}

/* ---- taking the queue -------------------------------------------------------------------------------------- */

static int ask_interface(const char *name, unsigned long what, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	memcpy(ifr->ifr_name, name, strnlen(name, sizeof(ifr->ifr_name) - 1));
	rc = ioctl(fd, what, ifr) == 0 ? 0 : -errno;
	close(fd);
	return rc;
}

/* Receive queues of the interface, 0: it does not tell. */
static uint32_t count_queues(const char *name)
{
	struct ethtool_channels channels = { .cmd = ETHTOOL_GCHANNELS };
	struct ifreq ifr = { .ifr_data = (void *)&channels };

	return ask_interface(name, SIOCETHTOOL, &ifr) == 0 ? channels.rx_count + channels.combined_count : 0;
}

static bool check_ring(struct mdbus_backend_env *env, const char *name, uint32_t size)
{
	if ((size & (size - 1)) == 0)
		return true;
	snprintf(env->error, sizeof(env->error), "%s = %u is not a power of two", name, size);
	return false;
}

static bool check_interface(struct mdbus_backend_env *env, uint32_t *ifindex)
{
	const struct mdbus_line_desc *line = env->line;
	uint32_t room = env->arena->frame_size - PACKET_HEADROOM, queues;
	struct ifreq ifr = { 0 };
	const char *name = line->interface;

	if (name[0] == '\0') {
		snprintf(env->error, sizeof(env->error), "line %s: backend af_xdp needs an interface", line->name);
		return false;
	}
	if (mdbus_join_interface(name, ifindex, env->error, sizeof(env->error)))
		return false;
	if (ask_interface(name, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP)) {
		snprintf(env->error, sizeof(env->error), "interface %s is down: `ip link set dev %s up`", name, name);
		return false;
	}
	queues = count_queues(name);
	if (queues && line->queue >= queues) {
		snprintf(env->error, sizeof(env->error), "interface %s has no receive queue %u: it has %u, from 0 on",
		         name, line->queue, queues);
		return false;
	}
	if (ask_interface(name, SIOCGIFMTU, &ifr) == 0 && (uint32_t)ifr.ifr_mtu + ETH_HLEN + 2 * VLAN_HEADER > room) {
		snprintf(env->error, sizeof(env->error), "MTU %d of interface %s is too large for frame_size = %u: set "
		         "frame_size = 4096 (MTU up to 3818), or `ip link set dev %s mtu %u`", ifr.ifr_mtu, name,
		         env->arena->frame_size, name, room - ETH_HLEN - 2 * VLAN_HEADER);
		return false;
	}
	return true;
}

static bool check_config(struct mdbus_backend_env *env)
{
	const struct mdbus_line_desc *line = env->line;

	if (env->nflow == 0) {
		snprintf(env->error, sizeof(env->error), "line %s carries no channel: nothing to receive", line->name);
		return false;
	}
	if (strcmp(line->xdp_mode, "skb") == 0 && strcmp(line->xdp_copy, "zerocopy") == 0) {
		snprintf(env->error, sizeof(env->error), "xdp_copy = \"zerocopy\" needs the driver: set xdp_mode = "
		         "\"native\" or \"auto\"");
		return false;
	}
	return check_ring(env, "rx_ring", line->rx_ring) && check_ring(env, "fill_ring", line->fill_ring);
}

static void drop_socket(struct xdp_line *x)
{
	if (x->xsk)
		xsk_socket__delete(x->xsk);
	if (x->umem)
		xsk_umem__delete(x->umem);
	x->xsk = NULL;
	x->umem = NULL;
}

static int try_socket(struct xdp_line *x, uint16_t copy_flag)
{
	const struct xsk_umem_config area = {
		.fill_size = x->line->fill_ring ? x->line->fill_ring : DEFAULT_RING,
		.comp_size = COMPLETION_RING,
		.frame_size = 1u << x->frame_shift,
	};
	const struct xsk_socket_config config = {
		.rx_size = x->line->rx_ring ? x->line->rx_ring : DEFAULT_RING,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = (uint16_t)(XDP_USE_NEED_WAKEUP | copy_flag),
	};
	uint64_t size = (uint64_t)x->nframes << x->frame_shift;
	int rc = xsk_umem__create(&x->umem, x->frames, size, &x->fill, &x->completion, &area);

	MDBUS_HOOK("xdp.memory");
	if (rc == 0)
		rc = xsk_socket__create_shared(&x->xsk, x->line->interface, x->line->queue, x->umem, &x->rx, NULL,
		                               &x->fill, &x->completion, &config);
	if (rc)
		drop_socket(x);
	return rc;
}

/*
 * Zero-copy first unless told otherwise; a queue still held by a dying process is waited for.  Each try pins and unpins
 * all frames, work that the kernel puts off like that of setting the queue free, so they come ever slower.
 */
static int take_queue(struct xdp_line *x)
{
	uint64_t deadline_ns = mdbus_clock_ns() + RETRY_NS;
	uint32_t pause_us = RETRY_US_MIN;
	bool only_zerocopy = strcmp(x->line->xdp_copy, "zerocopy") == 0;
	bool zerocopy = x->prog.native && strcmp(x->line->xdp_copy, "copy") != 0;
	int rc;

	for (;;) {
		rc = try_socket(x, zerocopy ? XDP_ZEROCOPY : XDP_COPY);
		if (rc == 0)
			return 0;
		if (rc == -EBUSY) {
			if (mdbus_clock_ns() > deadline_ns)
				return rc;
			usleep(pause_us);
			pause_us = pause_us < RETRY_US_MAX ? 2 * pause_us : RETRY_US_MAX;
			continue;
		}
		if (!zerocopy || only_zerocopy || rc == -EPERM || rc == -ENOBUFS || rc == -ENOMEM)
			return rc;
		zerocopy = false;
	}
}

static void explain_queue(struct mdbus_backend_env *env, int rc)
{
	const struct mdbus_line_desc *line = env->line;
	struct rlimit lock = { 0 };
	char missing[80];

	(void)getrlimit(RLIMIT_MEMLOCK, &lock);
	mdbus_xdp_missing(missing, sizeof(missing));
	if (rc == -EBUSY)
		snprintf(env->error, sizeof(env->error), "queue %u of interface %s is taken by another AF_XDP socket: "
		         "stop the process that has it (ss --xdp -p), or choose another queue", line->queue, line->interface);
	else if (rc == -EPERM)
		snprintf(env->error, sizeof(env->error), "may not open an AF_XDP socket%s: run as root, or give the "
		         "program these capabilities, or set backend = \"kernel\"", missing);
	else if (rc == -ENOBUFS)
		snprintf(env->error, sizeof(env->error), "may not lock %llu MiB of frames, the limit is %llu KiB%s: "
		         "raise `ulimit -l`, or give the program CAP_IPC_LOCK, or set fewer frames",
		         (unsigned long long)env->arena->nframes * env->arena->frame_size >> 20,
		         (unsigned long long)lock.rlim_cur >> 10, missing);
	else if (rc == -EOPNOTSUPP && strcmp(line->xdp_copy, "zerocopy") == 0)
		snprintf(env->error, sizeof(env->error), "the driver of interface %s has no zero-copy, or not in the "
		         "mode obtained: set xdp_copy = \"auto\"", line->interface);
	else
		snprintf(env->error, sizeof(env->error), "cannot take queue %u of interface %s: %s%s", line->queue,
		         line->interface, strerror(-rc), mdbus_mend_descriptors(rc));
}

static void report_mode(struct xdp_line *x)
{
	struct xdp_options options = { 0 };
	socklen_t len = sizeof(options);

	if (getsockopt(x->fd, SOL_XDP, XDP_OPTIONS, &options, &len) == 0)
		x->zerocopy = options.flags & XDP_OPTIONS_ZEROCOPY;
	snprintf(x->arena->backend, sizeof(x->arena->backend), "af_xdp %s %s", x->prog.native ? "native" : "skb",
	         x->zerocopy ? "zero-copy" : "copy");
}

/* Frames of the kernel go back to the pool once the socket is gone. */
static void xdp_close(void *self)
{
	struct xdp_line *x = self;

	mdbus_xdp_prog_close(&x->prog);
	MDBUS_HOOK("xdp.close.steered");
	drop_socket(x);
	MDBUS_HOOK("xdp.close.socket");
	mdbus_xdp_early_close(x->early);
	mdbus_join_close(&x->join);
	for (uint32_t frame = 0; x->lent && frame < x->nframes; frame++) {
		if (take_back(x, frame))
			mdbus_frames_put(x->pool, frame);
	}
	free(x->lent);
	free(x);
}

static struct xdp_line *set_up(struct mdbus_backend_env *env)
{
	struct xdp_line *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	mdbus_xdp_prog_init(&x->prog);
	x->pool = env->pool;
	x->frames = env->frames;
	x->arena = env->arena;
	x->line = env->line;
	x->nframes = env->arena->nframes;
	x->frame_shift = (uint32_t)__builtin_ctz(env->arena->frame_size);
	x->lent = calloc(x->nframes / 64 + 1, sizeof(*x->lent));
	if (x->lent)
		return x;
	free(x);
	return NULL;
}

/* Everything in the order in which a failure leaves the interface untouched; feed packets are taken last of all. */
static int start(struct xdp_line *x, struct mdbus_backend_env *env)
{
	uint64_t deadline = mdbus_clock_ns() + RETRY_NS;
	int rc = mdbus_xdp_prog_attach(&x->prog, env->line->interface, x->ifindex, env->line->xdp_mode, deadline,
	                               env->error, sizeof(env->error));

	if (rc)
		return rc;
	rc = take_queue(x);
	if (rc) {
		explain_queue(env, rc);
		return rc;
	}
	MDBUS_HOOK("xdp.bound");
	x->fd = xsk_socket__fd(x->xsk);
	report_mode(x);
	lend_frames(x);
	MDBUS_HOOK("xdp.lent");
	rc = mdbus_join_open(&x->join, x->ifindex, env->flows, env->nflow, env->error, sizeof(env->error));
	if (rc == 0)
		rc = mdbus_xdp_early_open(&x->early, &x->prog, env);
	if (rc)
		return rc;
	rc = mdbus_xdp_prog_start(&x->prog, env->line->queue, env->flows, env->nflow, x->fd, env->error,
	                          sizeof(env->error));
	if (rc == 0) /* counts of an earlier process of this queue are not this one's */
		(void)mdbus_xdp_prog_counts(&x->prog, x->left);
	return rc;
}

static void *xdp_open(struct mdbus_backend_env *env)
{
	struct xdp_line *x;
	uint32_t ifindex;

	env->error[0] = '\0';
	if (!check_config(env) || !check_interface(env, &ifindex))
		return NULL;
	x = set_up(env);
	if (!x) {
		snprintf(env->error, sizeof(env->error), "out of memory");
		return NULL;
	}
	x->ifindex = ifindex;
	if (start(x, env) == 0)
		return x;
	xdp_close(x);
	return NULL;
}

const struct mdbus_backend_ops mdbus_backend_af_xdp = {
	.name = "af_xdp",
	.open = xdp_open,
	.poll = xdp_poll,
	.waiting = xdp_waiting,
	.refill = xdp_refill,
	.wait = xdp_wait,
	.stats = xdp_stats,
	.close = xdp_close,
};
