/* SPDX-License-Identifier: Apache-2.0
 *
 * join.h - multicast membership: what makes switches, the NIC's filter and the kernel deliver a group to this host.
 *
 * A group is joined by a socket on an interface and left when that socket is closed, so membership ends with the
 * process, however it ends.  Backends that receive past the kernel join as well, by sockets that are never read.
 */
#ifndef MDBUS_INGEST_JOIN_H
#define MDBUS_INGEST_JOIN_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "backend.h"

/* The groups of one line, joined. fds are its sockets. */
struct mdbus_join {
	int *fd;
	uint32_t n;
};

static inline bool mdbus_flow_is_multicast(const struct mdbus_flow *flow)
{
	return ntohl(flow->addr) >> 28 == 14;
}

/* "233.54.12.111:26477" or "233.54.12.111:26477 from 10.0.0.1", for messages. Returns buf. */
const char *mdbus_flow_text(const struct mdbus_flow *flow, char *buf, size_t len);

/*
 * Index of a network interface of this network namespace; 0 for an empty name (any).  Returns 0 or -ENODEV with a
 * reason in err.
 */
int mdbus_join_interface(const char *name, uint32_t *ifindex, char *err, size_t errlen);

/*
 * Join one group on one socket, from its source alone if the flow names one.  ifindex 0: where the route to the group
 * leads.  Joined already counts as done.  Returns 0 or -errno: -ENOBUFS this socket has as many groups or sources as
 * the kernel allows it.
 */
int mdbus_join_group(int fd, uint32_t ifindex, const struct mdbus_flow *flow);

/*
 * Join the groups of all flows with sockets of its own (more than one, as the kernel limits groups per socket).  Flows
 * to a host address need none.  Returns 0, or -errno with a reason in err and nothing joined.
 */
int mdbus_join_open(struct mdbus_join *join, uint32_t ifindex, const struct mdbus_flow *flows, uint32_t nflow,
                    char *err, size_t errlen);

/* Leave all groups. Harmless on a zeroed structure. */
void mdbus_join_close(struct mdbus_join *join);

#endif
