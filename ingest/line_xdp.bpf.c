/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * line_xdp.bpf.c - runs in the driver for every frame of the interface: is it a packet of a feed that the process of this
 * queue receives?
 *
 * Yes: it goes to the AF_XDP socket of the queue it came on, headers and all.  Anything else is left to the kernel as if this
 * program were not there: other protocols, addresses and ports, IP fragments (which cannot be read as packets; the
 * kernel may put them together), headers cut short.  The program decides by headers alone and looks at no
 * payload; whether lengths agree is checked where the packet is read.
 *
 * One program serves the interface, however many of its queues have a process.  It stays harmless by two habits.  The miss
 * action of the redirect is XDP_PASS, so a queue without a socket, because its process is not ready yet or is dead,
 * takes the kernel's path.  And a packet is never redirected to the socket of another queue: the kernel would answer XDP_REDIRECT
 * and silently drop it, since a socket serves one queue.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "line_xdp.h"

#define VLAN_TAGS    2
#define IP_MF_OFFSET 0x3fff /* more-fragments bit and fragment offset */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* room for many, memory for those there are */
	__uint(max_entries, LINE_XDP_FLOWS);
	__type(key, struct line_xdp_key);
	__type(value, __u32);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, LINE_XDP_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LINE_XDP_QUEUES);
	__type(key, __u32);
	__type(value, struct line_xdp_counts);
} counts SEC(".maps");

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

/* Several cores may count for one queue. */
static __always_inline int leave(__u32 queue, enum line_xdp_count why)
{
	struct line_xdp_counts *of = bpf_map_lookup_elem(&counts, &queue);

	if (of)
		__sync_fetch_and_add(&of->n[why], 1);
	return XDP_PASS;
}

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* The flow of (daddr, dport), from any source or from this one, that `queue` has. */
static __always_inline const __u32 *find_flow(const struct iphdr *ip, __be16 port, __u16 queue)
{
	struct line_xdp_key key = { .addr = ip->daddr, .port = port, .queue = queue };
	const __u32 *flow = bpf_map_lookup_elem(&flows, &key);

	if (flow)
		return flow;
	key.source = ip->saddr;
	return bpf_map_lookup_elem(&flows, &key);
}

/* Not a flow of the queue it came on.  Of another one's? */
static __always_inline int leave_astray(const struct iphdr *ip, __be16 port, __u32 queue)
{
	const __u32 *owner = port ? find_flow(ip, port, LINE_XDP_ANY_QUEUE) : NULL;

	return owner ? leave(*owner, LINE_XDP_WRONG_QUEUE) : leave(queue, LINE_XDP_OTHER);
}

static __always_inline int leave_fragment(const struct iphdr *ip, __u32 queue)
{
	struct line_xdp_key key = { .addr = ip->daddr, .queue = LINE_XDP_ANY_QUEUE };
	const __u32 *owner = bpf_map_lookup_elem(&flows, &key);

	return owner ? leave(*owner, LINE_XDP_FRAGMENT) : leave(queue, LINE_XDP_OTHER);
}

SEC("xdp")
int mdbus_line(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = at;
	const struct iphdr *ip;
	const struct udphdr *udp;
	__be16 proto;
	__u32 header, queue = ctx->rx_queue_index;

	if ((void *)(eth + 1) > end)
		return leave(queue, LINE_XDP_MALFORMED);
	proto = eth->h_proto;
	at = (void *)(eth + 1);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		const struct vlan_tag *tag = at;

		if (!is_vlan(proto))
			break;
		if ((void *)(tag + 1) > end)
			return leave(queue, LINE_XDP_MALFORMED);
		proto = tag->proto;
		at = (void *)(tag + 1);
	}
	if (proto != bpf_htons(ETH_P_IP))
		return leave(queue, LINE_XDP_OTHER);

	ip = at;
	if ((void *)(ip + 1) > end)
		return leave(queue, LINE_XDP_MALFORMED);
	header = (__u32)ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return leave(queue, LINE_XDP_MALFORMED);
	if (ip->protocol != IPPROTO_UDP)
		return leave(queue, LINE_XDP_OTHER);
	if (ip->frag_off & bpf_htons(IP_MF_OFFSET))
		return leave_fragment(ip, queue);

	udp = at + header;
	if ((void *)(udp + 1) > end)
		return leave(queue, LINE_XDP_MALFORMED);
	if (!udp->dest || !find_flow(ip, udp->dest, (__u16)queue))
		return leave_astray(ip, udp->dest, queue);

	/*
	 * In-kernel early drop belongs here: the packet is known to be the feed's, the index of its flow is what the
	 * look-up found, and nothing has been promised yet.  Only what is committed in the ring may be dropped, so a
	 * full queue below never turns a duplicate's drop into a loss.
	 */

	return bpf_redirect_map(&sockets, queue, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
