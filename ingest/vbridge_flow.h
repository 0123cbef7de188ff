/* SPDX-License-Identifier: Apache-2.0
 *
 * vbridge_flow.h - what the virtual bridge reads of a frame.
 *
 * The hash is DPDK's rte_softrss over addresses and ports, with the secret and the table of rss.h: the queue is the one
 * that a card with so many queues would have chosen.  Of what is no UDP or TCP over IPv4, or a fragment, less is hashed, or
 * nothing (0): one frame of a flow shall not part from the others.
 */
#ifndef MDBUS_INGEST_VBRIDGE_FLOW_H
#define MDBUS_INGEST_VBRIDGE_FLOW_H

#include <stdbool.h>
#include <stdint.h>

struct mdbus_vflow {
	uint64_t to, from; /* MAC addresses, the first byte highest of 48 bits */
	uint32_t group;    /* IPv4 group that it goes to, host byte order; 0: none */
	uint32_t hash;
};

static inline bool mdbus_mac_is_group(uint64_t mac)
{
	return mac >> 40 & 1u;
}

/* False: this is no Ethernet frame. */
bool mdbus_vflow_read(const uint8_t *frame, uint32_t len, struct mdbus_vflow *f);

#endif
