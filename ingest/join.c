/* SPDX-License-Identifier: Apache-2.0
 *
 * join.c - multicast membership, see join.h.
 *
 * The protocol-independent calls (MCAST_JOIN_GROUP and MCAST_JOIN_SOURCE_GROUP) are used because they name the
 * interface by index; the IPv4 call for a source names it by address, which two interfaces may share.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "join.h"

const char *mdbus_flow_text(const struct mdbus_flow *flow, char *buf, size_t len)
{
	char to[INET_ADDRSTRLEN], from[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &flow->addr, to, sizeof(to));
	inet_ntop(AF_INET, &flow->source, from, sizeof(from));
	if (flow->source)
		snprintf(buf, len, "%s:%u from %s", to, flow->port, from);
	else
		snprintf(buf, len, "%s:%u", to, flow->port);
	return buf;
}

int mdbus_join_interface(const char *name, uint32_t *ifindex, char *err, size_t errlen)
{
	*ifindex = 0;
	if (name[0] == '\0')
		return 0;
	*ifindex = if_nametoindex(name);
	if (*ifindex != 0)
		return 0;
	snprintf(err, errlen, "no network interface \"%s\" in this network namespace: `ip link` lists them", name);
	return -ENODEV;
}

static void set_address(struct sockaddr_storage *to, uint32_t addr)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = addr };

	memcpy(to, &in, sizeof(in));
}

int mdbus_join_group(int fd, uint32_t ifindex, const struct mdbus_flow *flow)
{
	int rc;

	if (flow->source) {
		struct group_source_req req = { .gsr_interface = ifindex };

		set_address(&req.gsr_group, flow->addr);
		set_address(&req.gsr_source, flow->source);
		rc = setsockopt(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &req, sizeof(req));
	} else {
		struct group_req req = { .gr_interface = ifindex };

		set_address(&req.gr_group, flow->addr);
		rc = setsockopt(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &req, sizeof(req));
	}
	return rc == 0 || errno == EADDRINUSE || errno == EADDRNOTAVAIL ? 0 : -errno;
}

static int add_socket(struct mdbus_join *join)
{
	int *more = realloc(join->fd, (join->n + 1) * sizeof(*more));
	int fd;

	if (!more)
		return -ENOMEM;
	join->fd = more;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	join->fd[join->n++] = fd;
	return 0;
}

/* On the newest socket, or on a new one if that is full or a new one is asked for. */
static int join_one(struct mdbus_join *join, bool fresh, uint32_t ifindex, const struct mdbus_flow *flow)
{
	int rc = fresh ? -ENOBUFS : mdbus_join_group(join->fd[join->n - 1], ifindex, flow);

	if (rc != -ENOBUFS)
		return rc;
	rc = add_socket(join);
	return rc ? rc : mdbus_join_group(join->fd[join->n - 1], ifindex, flow);
}

/*
 * The flows that name a source, or those that do not.  One socket cannot hold both for one group: it either takes a
 * group whole or from listed sources.
 */
static int join_kind(struct mdbus_join *join, bool by_source, uint32_t ifindex, const struct mdbus_flow *flows,
                     uint32_t nflow, char *err, size_t errlen)
{
	bool fresh = true;
	char text[64];

	for (uint32_t i = 0; i < nflow; i++) {
		int rc;

		if (!mdbus_flow_is_multicast(&flows[i]) || (flows[i].source != 0) != by_source)
			continue;
		rc = join_one(join, fresh, ifindex, &flows[i]);
		if (rc) {
			snprintf(err, errlen, "cannot join the group %s: %s%s",
			         mdbus_flow_text(&flows[i], text, sizeof(text)), strerror(-rc),
			         rc == -ENODEV ? " (set the line's interface)" : "");
			return rc;
		}
		fresh = false;
	}
	return 0;
}

int mdbus_join_open(struct mdbus_join *join, uint32_t ifindex, const struct mdbus_flow *flows, uint32_t nflow,
                    char *err, size_t errlen)
{
	int rc;

	memset(join, 0, sizeof(*join));
	rc = join_kind(join, false, ifindex, flows, nflow, err, errlen);
	if (rc == 0)
		rc = join_kind(join, true, ifindex, flows, nflow, err, errlen);
	if (rc)
		mdbus_join_close(join);
	return rc;
}

void mdbus_join_close(struct mdbus_join *join)
{
	for (uint32_t i = 0; i < join->n; i++)
		close(join->fd[i]);
	free(join->fd);
	memset(join, 0, sizeof(*join));
}
