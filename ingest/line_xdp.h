/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * line_xdp.h - what the XDP program of an interface and the processes of its queues must agree on: map keys, counters.
 *
 * Each entry of the flow map belongs to one queue, and only the process that has the queue's AF_XDP socket, which the
 * kernel gives to one at a time, adds or removes them.  So what a killed process left is removed by its successor.
 */
#ifndef MDBUS_INGEST_LINE_XDP_H
#define MDBUS_INGEST_LINE_XDP_H

#include <linux/types.h>

#define LINE_XDP_QUEUES    4096u   /* queues of an interface that can be told apart */
#define LINE_XDP_FLOWS     32768u  /* entries of the flow map, all queues together */
#define LINE_XDP_ANY_QUEUE 0xffffu

/*
 * Key of the flow map.  All fields but queue in network byte order.
 *
 *   {addr, source or 0, port, queue}   the process of this queue receives this flow.  Value: the flow's index there
 *   {addr, source or 0, port, any}     some queue's process does
 *   {addr, 0, 0, any}                  some flow has this address, so that a fragment without ports can be known for a feed's
 *
 * The value of an entry for any queue is the queue that it belongs to: the newest of those that have the flow.
 */
struct line_xdp_key {
	__u32 addr;
	__u32 source;
	__u16 port;
	__u16 queue;
};

/* Frames left to the kernel, and why, by queue.  A frame handed to a line costs no counter. */
enum line_xdp_count {
	LINE_XDP_OTHER,       /* came on this queue: another protocol, address or port */
	LINE_XDP_MALFORMED,   /* came on this queue: Ethernet, VLAN, IPv4 or UDP header cut short or inconsistent */
	LINE_XDP_FRAGMENT,    /* fragment of a packet to an address of this queue's line, on whatever queue it came */
	LINE_XDP_WRONG_QUEUE, /* packet of a flow of this queue's line that came on another one, which does not have it */
	LINE_XDP_COUNTS,
};

struct line_xdp_counts {
	__u64 n[LINE_XDP_COUNTS];
};

#endif
