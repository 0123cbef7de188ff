/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * line_xdp.bpf.c - runs in the driver for every frame of the interface: is it a packet of this line's feed?
 *
 * Yes, and it came on the line's queue: it goes to the line's AF_XDP socket, headers and all.  Anything else is left
 * to the kernel as if this program were not there: other protocols, addresses and ports, IP fragments (which
 * cannot be read as packets; the kernel may put them together), headers cut short.  The program
 * decides by headers alone and looks at no payload; whether lengths agree is checked where the packet is read.
 *
 * It stays harmless by two habits.  The miss action of the redirect is XDP_PASS, so with no socket in the map, because
 * the process is not ready yet or is dead, everything takes the kernel's path.  And a packet of another queue is never
 * redirected: the kernel would answer XDP_REDIRECT and silently drop it, since a socket serves one queue.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "line_xdp.h"

#define VLAN_TAGS    2
#define IP_MF_OFFSET 0x3fff /* more-fragments bit and fragment offset */

/* Set before the program is loaded: the verifier then removes what this line does not need. */
const volatile __u32 line_queue;
const volatile bool line_by_source; /* some flow names its source */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* set to the number of flows at load */
	__type(key, struct line_xdp_key);
	__type(value, __u32); /* index of the flow */
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1); /* set to queue + 1 at load */
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LINE_XDP_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

static __always_inline int leave(__u32 why)
{
	__u64 *count = bpf_map_lookup_elem(&counts, &why);

	if (count)
		(*count)++;
	return XDP_PASS;
}

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/* The flow of (daddr, dport), of this source first. */
static __always_inline const __u32 *find_flow(const struct iphdr *ip, __be16 port)
{
	struct line_xdp_key key = { .addr = ip->daddr, .port = port };
	const __u32 *flow;

	if (line_by_source) {
		key.source = ip->saddr;
		flow = bpf_map_lookup_elem(&flows, &key);
		if (flow)
			return flow;
		key.source = 0;
	}
	return bpf_map_lookup_elem(&flows, &key);
}

SEC("xdp")
int mdbus_line(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = at;
	const struct iphdr *ip;
	const struct udphdr *udp;
	__be16 proto;
	__u32 header;

	if ((void *)(eth + 1) > end)
		return leave(LINE_XDP_MALFORMED);
	proto = eth->h_proto;
	at = (void *)(eth + 1);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		const struct vlan_tag *tag = at;

		if (!is_vlan(proto))
			break;
		if ((void *)(tag + 1) > end)
			return leave(LINE_XDP_MALFORMED);
		proto = tag->proto;
		at = (void *)(tag + 1);
	}
	if (proto != bpf_htons(ETH_P_IP))
		return leave(LINE_XDP_OTHER);

	ip = at;
	if ((void *)(ip + 1) > end)
		return leave(LINE_XDP_MALFORMED);
	header = (__u32)ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return leave(LINE_XDP_MALFORMED);
	if (ip->protocol != IPPROTO_UDP)
		return leave(LINE_XDP_OTHER);
	if (ip->frag_off & bpf_htons(IP_MF_OFFSET))
		return leave(find_flow(ip, 0) ? LINE_XDP_FRAGMENT : LINE_XDP_OTHER);

	udp = at + header;
	if ((void *)(udp + 1) > end)
		return leave(LINE_XDP_MALFORMED);
	if (!udp->dest || !find_flow(ip, udp->dest))
		return leave(LINE_XDP_OTHER);

	/*
	 * In-kernel early drop belongs here: the packet is known to be the feed's, the index of its flow is what the
	 * look-up found, and nothing has been promised yet.  Only what is committed in the ring may be dropped, so a
	 * full queue below never turns a duplicate's drop into a loss.
	 */

	if (ctx->rx_queue_index != line_queue)
		return leave(LINE_XDP_WRONG_QUEUE);
	return bpf_redirect_map(&sockets, line_queue, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
