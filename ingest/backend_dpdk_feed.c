/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_feed.c - which packets the port lets in.
 *
 * Groups.  A port without an interface of the kernel's is told the groups' addresses; one that has no such list takes all
 * multicast, and one that cannot do that either takes everything.  Where the kernel has an interface below the port
 * (net_af_packet, net_tap, cards whose driver stays in the kernel), the groups are also joined on that one by
 * sockets, which makes switches send them, and which ends with the process: a promiscuous mode that nobody takes back is
 * never set on an interface of the kernel's.
 *
 * Rules.  A port that can be isolated delivers only what rules name, one for each flow, and leaves the rest to the
 * kernel; they are gone with the process.  Any other port delivers all it has to the line, which chooses by address and port
 * in software, as it does anyway.
 */
#include <errno.h>
#include <rte_flow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend_dpdk.h"

/* ---- rules ------------------------------------------------------------------------------------------------- */

void mdbus_dpdk_feed_isolate(struct mdbus_dpdk *x)
{
	struct rte_flow_error error;

	x->isolated = rte_flow_isolate(x->port, 1, &error) == 0;
}

static struct rte_flow *add_rule(uint16_t port, const struct mdbus_flow *flow)
{
	const struct rte_flow_attr attr = { .ingress = 1 };
	const struct rte_flow_item_ipv4 ip = { .hdr = { .dst_addr = flow->addr, .src_addr = flow->source } };
	const struct rte_flow_item_ipv4 ip_mask = {
		.hdr = { .dst_addr = UINT32_MAX, .src_addr = flow->source ? UINT32_MAX : 0 },
	};
	const struct rte_flow_item_udp udp = { .hdr = { .dst_port = htons(flow->port) } };
	const struct rte_flow_item_udp udp_mask = { .hdr = { .dst_port = UINT16_MAX } };
	const struct rte_flow_item pattern[] = {
		{ .type = RTE_FLOW_ITEM_TYPE_ETH },
		{ .type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &ip, .mask = &ip_mask },
		{ .type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .mask = &udp_mask },
		{ .type = RTE_FLOW_ITEM_TYPE_END },
	};
	const struct rte_flow_action_queue queue = { .index = DPDK_QUEUE };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &queue },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_error error;

	return rte_flow_create(port, &attr, pattern, actions, &error);
}

/* All rules or none: what one of them does not name would not come at all. */
static int add_rules(struct mdbus_dpdk *x, const struct mdbus_backend_env *env)
{
	struct rte_flow_error error;

	while (x->nrule < env->nflow && add_rule(x->port, &env->flows[x->nrule]))
		x->nrule++;
	if (x->nrule == env->nflow)
		return 0;
	(void)rte_flow_flush(x->port, &error);
	x->nrule = 0;
	(void)rte_eth_dev_stop(x->port);
	x->isolated = rte_flow_isolate(x->port, 0, &error) != 0;
	return rte_eth_dev_start(x->port);
}

/* ---- groups ------------------------------------------------------------------------------------------------ */

static void group_address(const struct mdbus_flow *flow, struct rte_ether_addr *to)
{
	uint32_t addr = ntohl(flow->addr);

	*to = (struct rte_ether_addr){ { 0x01, 0x00, 0x5e, (uint8_t)(addr >> 16 & 0x7f), (uint8_t)(addr >> 8), (uint8_t)addr } };
}

/* The distinct addresses of all groups; returns how many. */
static uint32_t list_groups(const struct mdbus_backend_env *env, struct rte_ether_addr *list)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < env->nflow; i++) {
		uint32_t known = 0;

		if (!mdbus_flow_is_multicast(&env->flows[i]))
			continue;
		group_address(&env->flows[i], &list[n]);
		while (known < n && !rte_is_same_ether_addr(&list[known], &list[n]))
			known++;
		n += known == n;
	}
	return n;
}

/* The port's own filter. A device that knows nothing of such things filters nothing. */
static void open_filter(struct mdbus_dpdk *x, struct rte_ether_addr *list, uint32_t n)
{
	if (rte_eth_dev_set_mc_addr_list(x->port, list, n) == 0)
		x->groups = DPDK_GROUPS_LIST;
	else if (x->info.if_index != 0)
		x->groups = DPDK_GROUPS_JOINED;
	else if (rte_eth_allmulticast_enable(x->port) == 0)
		x->groups = DPDK_GROUPS_ALLMULTI;
	else if (rte_eth_promiscuous_enable(x->port) == 0)
		x->groups = DPDK_GROUPS_PROMISC;
}

int mdbus_dpdk_feed_open(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	struct rte_ether_addr *list = calloc(env->nflow, sizeof(*list));
	uint32_t n = list ? list_groups(env, list) : 0;
	int rc = list ? 0 : -ENOMEM;

	if (rc == 0 && x->isolated)
		rc = add_rules(x, env);
	if (n)
		open_filter(x, list, n);
	free(list);
	if (rc == 0 && n && x->info.if_index != 0)
		rc = mdbus_join_open(&x->join, x->info.if_index, env->flows, env->nflow, env->error, sizeof(env->error));
	return rc;
}

void mdbus_dpdk_feed_close(struct mdbus_dpdk *x)
{
	struct rte_flow_error error;

	mdbus_join_close(&x->join);
	if (!x->started)
		return;
	if (x->nrule)
		(void)rte_flow_flush(x->port, &error);
	if (x->groups == DPDK_GROUPS_LIST)
		(void)rte_eth_dev_set_mc_addr_list(x->port, NULL, 0);
	else if (x->groups == DPDK_GROUPS_ALLMULTI)
		(void)rte_eth_allmulticast_disable(x->port);
	else if (x->groups == DPDK_GROUPS_PROMISC)
		(void)rte_eth_promiscuous_disable(x->port);
}
