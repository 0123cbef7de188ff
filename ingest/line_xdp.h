/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * line_xdp.h - what the XDP program of an interface and the processes of its queues must agree on: map keys, counters,
 * and what may be dropped early.
 *
 * Each entry of the flow map belongs to one queue, and only the process that has the queue's AF_XDP socket, which the
 * kernel gives to one at a time, adds or removes them.  So what a killed process left is removed by its successor.
 */
#ifndef MDBUS_INGEST_LINE_XDP_H
#define MDBUS_INGEST_LINE_XDP_H

#include <linux/types.h>
#include "../bus/fixed.h"

#define LINE_XDP_QUEUES    4096u   /* queues of an interface that can be told apart */
#define LINE_XDP_FLOWS     32768u  /* entries of the flow map, all queues together */
#define LINE_XDP_ANY_QUEUE 0xffffu
#define LINE_XDP_EARLY     1024u   /* flows of a queue whose duplicates may be dropped */
#define LINE_XDP_SAMPLE    64u     /* of so many packets that may be dropped, one is not: what it tells stands for them */
#define LINE_XDP_RUNS      64u     /* a power of two */
#define LINE_XDP_WINDOW    15u     /* 2 to the power of this: places for keys of a queue */
#define LINE_XDP_CLOCK_NS  20000000u /* the program's clock is behind by less than this: two ticks of the slowest kernel */

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

/* Numbers [first, next) that came in packets dropped one after the other. */
struct line_xdp_run {
	__u64 first, next, packets;
};

/*
 * Early drop of one flow, in memory shared by the program and the process of the queue.
 *
 * The process says which numbers of which session are in the ring: [from, to), of which `to` only grows while `version` stays.
 * `version` is odd while anything else changes, so a program that finds it even and the same before and after has used
 * what belongs together.
 *
 * The program drops what lies within, and lets everything else through.  A number below `to` that is of another session, or
 * below `from`, may be of a restart: numbers that have been used before.  The program then counts `strange` up and drops
 * nothing more until the process, which has read that packet by then, has set `armed` to the same.
 *
 * A flow without an order is dropped by key: the process writes the keys of what other lines have published into a window, and
 * the program drops a packet whose key stands there, younger than `age_ns`.  Such a flow has no use for from, to, armed, strange
 * and the runs.
 */
struct line_xdp_early {
	/* by the process */
	__u64 version, from, to, armed;
	__u64 age_ns; /* by key: UINT64_MAX where keys do not age */
	__u32 by_key; /* 0: by number */
	__u32 mine;   /* by key: the flow's index */
	struct mdbus_fixed fixed;
	/* by the program */
	__u64 strange __attribute__((aligned(64)));
	__u64 seen;     /* packets that could be dropped, those let through as samples included */
	__u64 packets;  /* dropped */
	__u64 messages; /* in them */
	__u64 nrun;     /* runs begun; run[n mod LINE_XDP_RUNS] is the n-th */
	__u64 order;    /* for a fence */
	struct line_xdp_run run[LINE_XDP_RUNS];
};

/*
 * The keys of a queue that are in the ring, each with the time when the copy that is there arrived and its flow.  The
 * process alone writes: when = 0, key, when.  So what a program reads between two equal `when` other than 0 is a key that
 * was in the ring by then.  A key has one place, where the newest stays: one that is pushed out is not dropped here any more, but
 * by the process.
 *
 * Keys of up to 8 bytes stand here whole: no other key is ever taken for one.
 */
struct line_xdp_seen {
	__u64 key;
	__u64 when; /* ns, but for its lowest bits, which are the flow's index */
};

struct line_xdp_window {
	struct line_xdp_seen at[1u << LINE_XDP_WINDOW];
};

static inline __u32 line_xdp_place(__u64 key, __u32 flow)
{
	return (__u32)((key ^ (__u64)flow << 48) * 0x9e3779b97f4a7c15ull >> (64 - LINE_XDP_WINDOW));
}

static inline __u64 line_xdp_when(__u64 rx_ns, __u32 flow)
{
	return (rx_ns & ~(__u64)(LINE_XDP_EARLY - 1u)) | flow;
}

#endif
