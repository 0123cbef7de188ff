/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_socket.c - the transport that works everywhere: one UDP socket a line, sendmmsg.
 *
 * Multicast leaves by the interface asked for with TTL 1 and is looped back to receivers on this host, so the whole bus can be
 * tried on one machine without privilege.
 */
#include "feed_tx.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEND_BUFFER (8 << 20)

struct socket_tx {
	int fd;
	struct sockaddr_in *dest;
	struct mmsghdr msg[MDBUS_FEED_BATCH];
	struct iovec iov[MDBUS_FEED_BATCH];
};

static int option(int fd, int level, int name, const void *value, socklen_t len)
{
	return setsockopt(fd, level, name, value, len) < 0 ? -errno : 0;
}

/* What was to be done when it failed goes to *what. */
static int configure(int fd, const struct mdbus_feed_tx_config *c, unsigned ifindex, const char **what)
{
	struct ip_mreqn group = { .imr_address.s_addr = c->from, .imr_ifindex = (int)ifindex };
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = c->from };
	int one = 1, size = SEND_BUFFER, rc;
	bool unicast = false;

	for (uint32_t i = 0; i < c->ndest; i++)
		unicast |= !IN_MULTICAST(ntohl(c->dest[i].addr));
	if (option(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		(void)option(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* only a wish */
	*what = "set multicast options";
	rc = option(fd, IPPROTO_IP, IP_MULTICAST_TTL, &one, sizeof(one));
	if (!rc)
		rc = option(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &one, sizeof(one));
	if (!rc && (ifindex || c->from)) {
		*what = "use the interface for multicast";
		rc = option(fd, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof(group));
	}
	if (!rc && ifindex && unicast) {
		*what = "bind to the interface";
		rc = option(fd, SOL_SOCKET, SO_BINDTODEVICE, c->dev, (socklen_t)strlen(c->dev));
	}
	if (!rc && c->from) {
		*what = "use from= as source address";
		rc = bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ? -errno : 0;
	}
	return rc;
}

static void socket_close(void *self)
{
	struct socket_tx *t = self;

	if (t->fd >= 0)
		close(t->fd);
	free(t->dest);
	free(t);
}

static void *socket_open(const struct mdbus_feed_tx_config *c, char *err, size_t errlen)
{
	unsigned ifindex = c->dev ? if_nametoindex(c->dev) : 0;
	struct socket_tx *t = calloc(1, sizeof(*t));
	const char *what = "open a socket";
	int rc = 0;

	if (c->dev && !ifindex) {
		snprintf(err, errlen, "line %s: no interface '%s' here; see `ip link`", c->line, c->dev);
		free(t);
		return NULL;
	}
	if (t)
		t->dest = calloc(c->ndest, sizeof(*t->dest));
	if (!t || !t->dest) {
		snprintf(err, errlen, "line %s: out of memory", c->line);
		free(t);
		return NULL;
	}
	for (uint32_t i = 0; i < c->ndest; i++) {
		t->dest[i].sin_family = AF_INET;
		t->dest[i].sin_addr.s_addr = c->dest[i].addr;
		t->dest[i].sin_port = htons(c->dest[i].port);
	}
	t->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = t->fd < 0 ? -errno : configure(t->fd, c, ifindex, &what);
	if (!rc)
		return t;
	snprintf(err, errlen, "line %s: cannot %s: %s", c->line, what, strerror(-rc));
	socket_close(t);
	return NULL;
}

static int socket_send(void *self, const struct mdbus_feed_tx_packet *packets, uint32_t n)
{
	struct socket_tx *t = self;
	int sent;

	for (uint32_t i = 0; i < n; i++) {
		t->iov[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)packets[i].data, .iov_len = packets[i].len };
		t->msg[i].msg_hdr = (struct msghdr){
			.msg_name = &t->dest[packets[i].dest],
			.msg_namelen = sizeof(t->dest[0]),
			.msg_iov = &t->iov[i],
			.msg_iovlen = 1,
		};
	}
	sent = sendmmsg(t->fd, t->msg, n, 0);
	if (sent >= 0)
		return sent;
	return errno == EAGAIN || errno == ENOBUFS || errno == EINTR || errno == ECONNREFUSED ? 0 : -errno;
}

const struct mdbus_feed_tx_ops mdbus_feed_tx_socket = {
	.name = "socket",
	.open = socket_open,
	.send = socket_send,
	.close = socket_close,
};
