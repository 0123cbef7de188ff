/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_tx.h - a way of putting packets on one line's wire.
 *
 * One transport instance belongs to one line and to the feeder's one thread.  A packet counts as sent when the
 * transport took it; what a receiver or the wire does with it afterwards is theirs.
 */
#ifndef MDBUS_INGEST_FEED_TX_H
#define MDBUS_INGEST_FEED_TX_H

#include <stddef.h>
#include <stdint.h>

#define MDBUS_FEED_BATCH 64u /* packets to a call */

struct mdbus_feed_dest {
	uint32_t addr; /* network byte order */
	uint16_t port; /* host byte order */
};

struct mdbus_feed_tx_packet {
	const uint8_t *data; /* UDP payload */
	uint32_t len;
	uint32_t dest; /* index into the destinations given at open */
};

struct mdbus_feed_tx_config {
	const char *line;  /* its name, for messages */
	const char *dev;   /* interface, or DPDK's device; NULL: by route (sockets only) */
	const char *run_dir; /* where a virtual NIC's bridge is, unless dev says */
	uint32_t from;     /* source address, network byte order, 0: the interface's */
	uint8_t mac[6];    /* destination for unicast over AF_XDP or DPDK, all 0: ask the neighbour table */
	uint32_t queue;    /* AF_XDP TX queue, or the one of a virtual NIC */
	uint32_t ndest;
	const struct mdbus_feed_dest *dest;
	uint32_t max_payload; /* bytes of the largest packet to come */
};

struct mdbus_feed_tx_ops {
	const char *name;
	/* NULL with a reason that names the mend in err. */
	void *(*open)(const struct mdbus_feed_tx_config *config, char *err, size_t errlen);
	/* Take up to n (at most MDBUS_FEED_BATCH) packets, from the first on; returns how many, 0: busy, or -errno. */
	int (*send)(void *self, const struct mdbus_feed_tx_packet *packets, uint32_t n);
	/* Wait until what was taken has left (bounded), give everything back. */
	void (*close)(void *self);
};

extern const struct mdbus_feed_tx_ops mdbus_feed_tx_socket;
extern const struct mdbus_feed_tx_ops mdbus_feed_tx_xdp; /* only when built with libxdp */
/* "dpdk" is in a shared object: see dpdk_load.h. */

#endif
