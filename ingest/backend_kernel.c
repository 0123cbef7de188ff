/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_kernel.c - receive through the kernel's network stack: works everywhere and needs no privilege.
 *
 * One UDP socket per flow, bound to the flow's own address and port, so the kernel does the sorting and a datagram's
 * flow is known from where it came in.  A group is joined on the line's interface by its socket alone, and
 * IP_MULTICAST_ALL is off: otherwise a socket also gets groups that any other process has joined on any interface, and
 * line A would see line B's packets.  How datagrams get from the sockets into frames is an engine's affair:
 * io_uring where the kernel has it, else recvmmsg.
 */
#include <errno.h>
#include <linux/sock_diag.h>
#include <mdbus/hook.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "backend_kernel.h"
#include "join.h"

#define RECEIVE_BUFFER (32 << 20) /* bytes asked for per socket; an upper bound, not an allocation */
#define SPARE_FDS      64u
#define RETRY_NS       UINT64_C(3000000000) /* a killed process's sockets go with its io_uring: on a busy host long after it */
#define RETRY_US       2000

/* ---- sockets ------------------------------------------------------------------------------------------------ */

static void set_int(int fd, int level, int name, int value)
{
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_options(const struct kernel_line *k, int fd, const struct mdbus_flow *flow)
{
	int bytes = RECEIVE_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, bytes);
	if (k->line->busy_poll_us)
		set_int(fd, SOL_SOCKET, SO_BUSY_POLL, (int)k->line->busy_poll_us);
	set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	/* Other programs may listen to a group too; a host's port is exclusive, as a second taker would get it all. */
	if (mdbus_flow_is_multicast(flow))
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

/* The io_uring of a killed process lets go of its sockets a little after the process is gone: try for a second. */
static int bind_flow(int fd, const struct mdbus_flow *flow)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(flow->port), .sin_addr.s_addr = flow->addr };
	uint64_t deadline = mdbus_clock_ns() + RETRY_NS;

	while (bind(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		if (errno != EADDRINUSE || mdbus_clock_ns() > deadline)
			return -errno;
		usleep(RETRY_US);
	}
	return 0;
}

/* Take packets of the flow's source alone.  For a host address: connected to any port (0) of the source. */
static int join_flow(const struct kernel_line *k, int fd, const struct mdbus_flow *flow)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = flow->source };

	if (mdbus_flow_is_multicast(flow))
		return mdbus_join_group(fd, k->ifindex, flow);
	if (!flow->source)
		return 0;
	return connect(fd, (struct sockaddr *)&from, sizeof(from)) == 0 ? 0 : -errno;
}

static const char *mend(int rc, const struct mdbus_flow *flow)
{
	switch (rc) {
	case -EADDRINUSE:
		return ": another process has this port";
	case -EADDRNOTAVAIL:
		return ": it is neither a multicast group nor an address of this host";
	case -EACCES:
		return ": ports below 1024 need CAP_NET_BIND_SERVICE";
	case -EMFILE:
		return ": one socket per flow is needed, raise `ulimit -n`";
	case -ENODEV:
		return mdbus_flow_is_multicast(flow) ? ": no route leads to the group, set the line's interface" : "";
	default:
		return "";
	}
}

static int open_socket(struct kernel_line *k, struct kernel_socket *s, const struct mdbus_flow *flow, char *err,
                       size_t errlen)
{
	char text[64];
	int rc = 0;

	s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0) {
		rc = -errno;
	} else {
		set_options(k, s->fd, flow);
		rc = bind_flow(s->fd, flow);
		MDBUS_HOOK("kernel.bound");
		if (rc == 0)
			rc = join_flow(k, s->fd, flow);
	}
	if (rc == 0)
		return 0;
	snprintf(err, errlen, "cannot receive %s: %s%s", mdbus_flow_text(flow, text, sizeof(text)), strerror(-rc),
	         mend(rc, flow));
	return rc;
}

/* An earlier flow already brings these packets: a second socket for a group would bring each twice. */
static bool is_covered(const struct mdbus_flow *flows, uint32_t i)
{
	for (uint32_t j = 0; j < i; j++) {
		if (flows[j].addr == flows[i].addr && flows[j].port == flows[i].port &&
		    flows[j].source == flows[i].source)
			return true;
	}
	return false;
}

static void want_fds(uint32_t n)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= n + SPARE_FDS)
		return;
	limit.rlim_cur = n + SPARE_FDS < limit.rlim_max ? n + SPARE_FDS : limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_sockets(struct kernel_line *k, struct mdbus_backend_env *env)
{
	int rc = 0;

	want_fds(env->nflow);
	for (uint32_t i = 0; rc == 0 && i < env->nflow; i++) {
		struct kernel_socket *s = &k->sockets[k->nsocket];

		if (is_covered(env->flows, i))
			continue;
		rc = open_socket(k, s, &env->flows[i], env->error, sizeof(env->error));
		s->flow = (int32_t)i;
		if (s->fd >= 0)
			k->nsocket++;
	}
	return rc;
}

/* ---- the backend --------------------------------------------------------------------------------------------- */

static int kernel_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct kernel_line *k = self;

	return k->engine->poll(k, rx, max);
}

static uint32_t kernel_waiting(void *self)
{
	struct kernel_line *k = self;

	return k->engine->waiting ? k->engine->waiting(k) : 0;
}

static void kernel_refill(void *self)
{
	struct kernel_line *k = self;

	k->engine->refill(k);
}

static void kernel_wait(void *self, uint32_t timeout_us)
{
	struct kernel_line *k = self;

	k->engine->wait(k, timeout_us);
}

static void kernel_stats(void *self)
{
	struct kernel_line *k = self;

	for (uint32_t i = 0; i < k->nsocket; i++) {
		uint32_t info[SK_MEMINFO_VARS] = { 0 };
		socklen_t len = sizeof(info);
		uint32_t new;

		if (getsockopt(k->sockets[i].fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
			continue;
		new = info[SK_MEMINFO_DROPS] - k->sockets[i].drops;
		mdbus_count(&k->arena->count.nic_dropped, new);
		k->sockets[i].drops = info[SK_MEMINFO_DROPS];
	}
	/* A removed interface takes the memberships with it; a later one of the same name does not have them. */
	if (k->ifindex && if_nametoindex(k->line->interface) != k->ifindex)
		k->broken = -ENODEV;
}

static void kernel_close(void *self)
{
	struct kernel_line *k = self;

	if (k->engine)
		k->engine->stop(k);
	MDBUS_HOOK("kernel.stopped");
	for (uint32_t i = 0; i < k->nsocket; i++)
		close(k->sockets[i].fd);
	free(k->sockets);
	free(k);
}

static int start_engine(struct kernel_line *k)
{
	static const struct kernel_engine *const engines[] = { &mdbus_kernel_uring, &mdbus_kernel_mmsg };
	int rc = -ENOSYS;

	for (uint32_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		rc = engines[i]->start(k);
		if (rc)
			continue;
		MDBUS_HOOK("kernel.started");
		k->engine = engines[i];
		snprintf(k->arena->backend, sizeof(k->arena->backend), "kernel %s", engines[i]->name);
		return 0;
	}
	return rc;
}

static struct kernel_line *set_up(struct mdbus_backend_env *env)
{
	struct kernel_line *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->pool = env->pool;
	k->frames = env->frames;
	k->frame_size = env->arena->frame_size;
	k->arena = env->arena;
	k->line = env->line;
	k->senders = env->senders;
	k->sockets = calloc(env->nflow, sizeof(*k->sockets));
	if (k->sockets)
		return k;
	free(k);
	return NULL;
}

static void *kernel_open(struct mdbus_backend_env *env)
{
	struct kernel_line *k;
	int rc;

	env->error[0] = '\0';
	if (env->nflow == 0) {
		snprintf(env->error, sizeof(env->error), "line %s carries no channel: nothing to receive",
		         env->line->name);
		return NULL;
	}
	k = set_up(env);
	if (!k) {
		snprintf(env->error, sizeof(env->error), "out of memory");
		return NULL;
	}
	rc = mdbus_join_interface(env->line->interface, &k->ifindex, env->error, sizeof(env->error));
	if (rc == 0)
		rc = open_sockets(k, env);
	if (rc == 0) {
		rc = start_engine(k);
		if (rc)
			snprintf(env->error, sizeof(env->error), "cannot receive from sockets: %s", strerror(-rc));
	}
	if (rc == 0)
		return k;
	kernel_close(k);
	return NULL;
}

const struct mdbus_backend_ops mdbus_backend_kernel = {
	.name = "kernel",
	.open = kernel_open,
	.poll = kernel_poll,
	.waiting = kernel_waiting,
	.refill = kernel_refill,
	.wait = kernel_wait,
	.stats = kernel_stats,
	.close = kernel_close,
};
