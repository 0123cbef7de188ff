/* SPDX-License-Identifier: Apache-2.0
 *
 * flow_map.h - from (address, port, key bytes) to the channel a packet belongs to.
 *
 * Lines do not identify themselves in the payload: where a packet was sent to says which channel it is of, and where several
 * channels share an address and port, the key bytes that their layout names.  Private memory of an ingest process,
 * fixed once built; a lookup is one hash and mostly one comparison.
 */
#ifndef MDBUS_INGEST_FLOW_MAP_H
#define MDBUS_INGEST_FLOW_MAP_H

#include <mdbus/abi.h>
#include "backend.h"

#define MDBUS_NO_FLOW    (-1)
#define MDBUS_NO_CHANNEL UINT32_MAX

struct mdbus_flow_map {
	struct mdbus_flow *flow; /* distinct (address, port, source) */
	uint32_t nflow;
	uint32_t *first; /* by flow: its first entry in `channel` */
	uint32_t *channel; /* channel numbers, grouped by flow */
	int32_t *table;  /* hash of (address, port) to flow */
	uint32_t mask;
	uint32_t line;
	const struct mdbus_bus_hdr *dir;
};

/*
 * Build the map of one line from the bus's directory. 0 or -ENOMEM, -ENOENT if the line carries no channel.  A line that is handed
 * packets is told their channel, not their address: flow n is channel n, and no address is found.
 */
int mdbus_flow_map_init(struct mdbus_flow_map *m, const struct mdbus_bus_hdr *dir, uint32_t line);
void mdbus_flow_map_free(struct mdbus_flow_map *m);

/* The flow of an address (network order) and port (host order), or MDBUS_NO_FLOW. */
int32_t mdbus_flow_map_find(const struct mdbus_flow_map *m, uint32_t addr, uint16_t port);

/* True if any flow has this address: what a fragment without a port is compared with. */
bool mdbus_flow_map_has_addr(const struct mdbus_flow_map *m, uint32_t addr);

/* The channel of a payload that came in on `flow`, or MDBUS_NO_CHANNEL if its key bytes match none. */
uint32_t mdbus_flow_map_channel(const struct mdbus_flow_map *m, int32_t flow, const uint8_t *payload, uint32_t len);

#endif
