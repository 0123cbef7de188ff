/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * line_xdp.bpf.c - runs in the driver for every frame of the interface: is it a packet of a feed that the process of this
 * queue receives?
 *
 * Yes: it goes to the AF_XDP socket of the queue it came on, headers and all.  Anything else is left to the kernel as if this
 * program were not there: other protocols, addresses and ports, IP fragments (which cannot be read as packets; the
 * kernel may put them together), headers cut short.  The program decides by headers alone; whether lengths
 * agree is checked where the packet is read.
 *
 * Where the process asks for it, a packet of which all messages are in the ring already is dropped here (early drop).  What
 * the ring has is what the process says; the program remembers no packet, so none is dropped as a duplicate of one
 * that was received but is not published.
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

/* By queue: the flows whose duplicates its process wants dropped, by their index there. */
struct early_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LINE_XDP_EARLY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct line_xdp_early));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LINE_XDP_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
	__array(values, struct early_map);
} early SEC(".maps");

/* By queue: the keys of its flows without an order. */
struct window_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct line_xdp_window));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, LINE_XDP_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
	__array(values, struct window_map);
} windows SEC(".maps");

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

/* ---- early drop ---------------------------------------------------------------------------------------------- */

#define LOAD(x)     (*(volatile const __typeof__(x) *)&(x))
#define STORE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

/* Loads before stay before loads after: x86 never changes their order, elsewhere an atomic instruction keeps it. */
static __always_inline void order_loads(struct line_xdp_early *e)
{
#ifdef __TARGET_ARCH_x86
	(void)e;
	asm volatile("" ::: "memory");
#else
	__sync_fetch_and_add(&e->order, 1);
#endif
}

/* Eight bytes of the payload, from `at`. False: there are none. */
static __always_inline bool load_word(const void *payload, const void *end, __u16 at, __u64 *word)
{
	const __u8 *p = payload;

	if (at >= MDBUS_FIXED_HDR_MAX)
		return false;
	p += at;
	if ((const void *)(p + 8) > end)
		return false;
	*word = *(const __u64 *)p;
	return true;
}

static __always_inline bool load_field(const void *payload, const void *end, const struct mdbus_fixed_field *f, __u64 *value)
{
	__u64 word;

	if (!load_word(payload, end, f->at, &word))
		return false;
	*value = mdbus_fixed_of(f, word);
	return true;
}

enum kind { ORDINARY, SPECIAL, STRANGE };

/* What the tests say of a packet. */
static __always_inline enum kind kind_of(const struct mdbus_fixed *f, const void *payload, const void *end)
{
	bool all = true;
	__u32 n = f->nsession + f->ntest;

	for (__u32 i = 0; i < MDBUS_FIXED_TESTS; i++) {
		const struct mdbus_fixed_test *t = &f->test[i];
		__u64 word;

		if (i >= n)
			break;
		if (!load_word(payload, end, t->at, &word))
			return SPECIAL;
		bool holds = ((word & t->mask) == t->want) != (t->how & MDBUS_FIXED_DIFFER);

		if (i < f->nsession) {
			if (!holds)
				return STRANGE;
			continue;
		}
		all = all && holds;
		if (t->how & MDBUS_FIXED_AND)
			continue;
		if (all)
			return t->how & MDBUS_FIXED_TURN ? STRANGE : SPECIAL;
		all = true;
	}
	return ORDINARY;
}

/* Tell the process: these numbers came and were dropped. */
static __always_inline void note_run(struct line_xdp_early *e, __u64 first, __u64 count)
{
	__u64 n = e->nrun;
	struct line_xdp_run *r = &e->run[(n - 1) % LINE_XDP_RUNS];

	e->packets++;
	e->messages += count;
	if (n && r->next == first) {
		r->packets++;
		STORE(r->next, first + count);
		return;
	}
	r = &e->run[n % LINE_XDP_RUNS];
	r->first = first;
	r->packets = 1;
	STORE(r->next, first + count);
	STORE(e->nrun, n + 1);
}

/*
 * Whether a packet's key is in the ring.  The window is the process's: to note keys here, as packets go by, would be quicker
 * (with an atomic test-and-set: compare-and-swap in this window, or BPF_NOEXIST in a hash), but would drop the second copy of
 * a packet whose first one the full ring below has lost, or a process that died.
 */
static __always_inline bool may_drop_key(struct line_xdp_early *e, __u32 queue, const struct udphdr *udp, const void *end)
{
	const void *payload = udp + 1;
	__u32 only = 0;
	struct line_xdp_window *w;
	struct line_xdp_seen *s;
	__u64 key, when;
	void *of;

	if (!load_field(payload, end, &e->fixed.seq, &key) || bpf_ntohs(udp->len) < sizeof(*udp) + e->fixed.hdr ||
	    kind_of(&e->fixed, payload, end) != ORDINARY)
		return false;
	of = bpf_map_lookup_elem(&windows, &queue);
	w = of ? bpf_map_lookup_elem(of, &only) : NULL;
	if (!w)
		return false;
	s = &w->at[line_xdp_place(key, e->mine) % (1u << LINE_XDP_WINDOW)];
	when = LOAD(s->when);
	order_loads(e);
	if (LOAD(s->key) != key || when % LINE_XDP_EARLY != e->mine || when < LINE_XDP_EARLY) {
#ifdef MDBUS_MUTANT_drop_received
		s->key = key;
		s->when = line_xdp_when(bpf_ktime_get_ns(), e->mine);
#endif
		return false;
	}
	order_loads(e);
	if (LOAD(s->when) != when ||
	    bpf_ktime_get_coarse_ns() + LINE_XDP_CLOCK_NS - when / LINE_XDP_EARLY * LINE_XDP_EARLY >= e->age_ns)
		return false;
	if (++e->seen % LINE_XDP_SAMPLE == 0)
		return false;
	e->packets++;
	e->messages++;
	return true;
}

/*
 * Whether all messages of a packet are in the ring, so that it may be dropped.  Nothing here depends on what has been
 * received: a packet waiting in a full queue below is not in the ring.
 */
static __always_inline bool may_drop(void *map, __u32 flow, __u32 queue, const struct udphdr *udp, const void *end)
{
	struct line_xdp_early *e = bpf_map_lookup_elem(map, &flow);
	const void *payload = udp + 1;
	__u64 version, from, to, seq, count;
	enum kind kind;

	if (!e)
		return false;
	version = LOAD(e->version);
	if (version & 1)
		return false;
	if (e->by_key)
		return may_drop_key(e, queue, udp, end);
	if (LOAD(e->armed) != e->strange)
		return false;
	order_loads(e);
	from = LOAD(e->from);
	to = LOAD(e->to);
	if (!load_field(payload, end, &e->fixed.seq, &seq) || seq >= to || bpf_ntohs(udp->len) < sizeof(*udp) + e->fixed.hdr ||
	    !load_field(payload, end, &e->fixed.count, &count))
		return false;
	kind = kind_of(&e->fixed, payload, end);
	order_loads(e);
	if (LOAD(e->version) != version || kind == SPECIAL || (kind == ORDINARY && count == 0))
		return false;
	if (kind == STRANGE || seq < from) {
		e->strange++;
		return false;
	}
	if (count > to - seq)
		return false;
	if (++e->seen % LINE_XDP_SAMPLE == 0)
		return false;
	note_run(e, seq, count);
	return true;
}

SEC("xdp")
int mdbus_line(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = at;
	const struct iphdr *ip;
	const struct udphdr *udp;
	const __u32 *flow;
	void *known;
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
	flow = udp->dest ? find_flow(ip, udp->dest, (__u16)queue) : NULL;
	if (!flow)
		return leave_astray(ip, udp->dest, queue);

	known = bpf_map_lookup_elem(&early, &queue);
	if (known && may_drop(known, *flow, queue, udp, end) && bpf_map_lookup_elem(&sockets, &queue))
		return XDP_DROP;
	return bpf_redirect_map(&sockets, queue, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
