/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * line_xdp.h - what the XDP program of a line and the process that loads it must agree on: map keys and counters.
 */
#ifndef MDBUS_INGEST_LINE_XDP_H
#define MDBUS_INGEST_LINE_XDP_H

#include <linux/types.h>

/*
 * Key of the flow map.  {addr, source or 0, port} is a flow of this line; {addr, 0, 0} says that some flow has this
 * address, so that a fragment without ports can still be known for a feed's.  All fields in network byte order.
 */
struct line_xdp_key {
	__u32 addr;
	__u32 source;
	__u16 port;
	__u16 pad; /* 0 */
};

/* Index of the counter map: frames left to the kernel, and why. A frame handed to the line costs no counter. */
enum line_xdp_count {
	LINE_XDP_OTHER,       /* another protocol, address or port */
	LINE_XDP_MALFORMED,   /* Ethernet, VLAN, IPv4 or UDP header cut short or inconsistent */
	LINE_XDP_FRAGMENT,    /* fragment of a packet to a feed address */
	LINE_XDP_WRONG_QUEUE, /* of the feed, but came on another queue than the line's */
	LINE_XDP_COUNTS,
};

#endif
