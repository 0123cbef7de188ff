/* SPDX-License-Identifier: Apache-2.0
 *
 * vbridge_table.h - behind which port a station is: the forwarding table of the virtual bridge, learned from senders.
 *
 * A hash of fixed size whose entries may be forgotten: an address is in one of 8 places behind its hash, the longest
 * unheard of gives way, and one unheard of for five minutes is not believed.  DPDK's rte_hash would want DPDK's memory and
 * environment for this, and grows full; forgetting costs only a flood.  One thread.
 */
#ifndef MDBUS_INGEST_VBRIDGE_TABLE_H
#define MDBUS_INGEST_VBRIDGE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define MDBUS_VTABLE_SIZE   1024u
#define MDBUS_VTABLE_PLACES 8u
#define MDBUS_VTABLE_AGE_NS UINT64_C(300000000000)

struct mdbus_vtable {
	struct {
		uint64_t mac; /* 0: empty */
		uint64_t heard_ns;
		uint32_t port;
	} entry[MDBUS_VTABLE_SIZE];
};

/* A frame from mac has come in on that port.  Groups are no stations, and are not learned. */
void mdbus_vtable_learn(struct mdbus_vtable *t, uint64_t mac, uint32_t port, uint64_t now_ns);

/* The port of mac, or -1. */
int mdbus_vtable_find(const struct mdbus_vtable *t, uint64_t mac, uint64_t now_ns);

/* How many stations are known. */
uint32_t mdbus_vtable_count(const struct mdbus_vtable *t, uint64_t now_ns);

#endif
