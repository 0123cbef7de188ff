/* SPDX-License-Identifier: Apache-2.0
 *
 * nic.c - ethtool's ioctl; see nic.h.
 *
 * A rule goes where the driver puts it, if the driver chooses places, else to the last one that is free.
 */
#include "nic.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int kernel_command(int sock, const char *interface, void *command)
{
	struct ifreq request = { .ifr_data = command };
	size_t n = strlen(interface);

	if (n >= sizeof(request.ifr_name))
		return -ENODEV;
	memcpy(request.ifr_name, interface, n);
	return ioctl(sock, SIOCETHTOOL, &request) < 0 ? -errno : 0;
}

int (*mdbus_nic_command)(int sock, const char *interface, void *command) = kernel_command;

uint32_t mdbus_nic_queues(int sock, const char *interface)
{
	struct ethtool_channels channels = { .cmd = ETHTOOL_GCHANNELS };
	struct ethtool_rxnfc rings = { .cmd = ETHTOOL_GRXRINGS };

	if (mdbus_nic_command(sock, interface, &channels) == 0 && channels.rx_count + channels.combined_count > 0)
		return channels.rx_count + channels.combined_count;
	return mdbus_nic_command(sock, interface, &rings) == 0 ? (uint32_t)rings.data : 0;
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

bool mdbus_nic_sorts(int sock, const char *interface)
{
	struct ethtool_value flags = { .cmd = ETHTOOL_GFLAGS };
	struct ethtool_rxnfc count = { .cmd = ETHTOOL_GRXCLSRLCNT };

	return mdbus_nic_command(sock, interface, &flags) == 0 && (flags.data & ETH_FLAG_NTUPLE) &&
	       mdbus_nic_command(sock, interface, &count) == 0;
}

/* The numbers of all rules, to be freed, and in `data` how many places there are. */
static int list_locations(int sock, const char *interface, struct ethtool_rxnfc **out, bool *chooses)
{
	struct ethtool_rxnfc count = { .cmd = ETHTOOL_GRXCLSRLCNT };
	int rc = mdbus_nic_command(sock, interface, &count);

	if (rc < 0)
		return rc;
	if (chooses)
		*chooses = count.data & RX_CLS_LOC_SPECIAL;
	if (count.rule_cnt > MDBUS_NIC_RULES_MAX)
		return -E2BIG;
	*out = calloc(1, sizeof(**out) + (count.rule_cnt + 1u) * sizeof((*out)->rule_locs[0]));
	if (!*out)
		return -ENOMEM;
	(*out)->cmd = ETHTOOL_GRXCLSRLALL;
	(*out)->rule_cnt = count.rule_cnt;
	rc = mdbus_nic_command(sock, interface, *out);
	if (rc == 0 && (*out)->rule_cnt > count.rule_cnt)
		rc = -EAGAIN;
	if (rc < 0)
		free(*out);
	return rc;
}

static void read_rule(const struct ethtool_rx_flow_spec *f, struct mdbus_nic_rule *r)
{
	const struct ethtool_tcpip4_spec *at = &f->h_u.udp_ip4_spec, *mask = &f->m_u.udp_ip4_spec;
	bool source = mask->ip4src == UINT32_MAX;

	*r = (struct mdbus_nic_rule){ .location = f->location, .queue = f->ring_cookie };
	r->plain = f->flow_type == UDP_V4_FLOW && mask->ip4dst == UINT32_MAX && mask->pdst == UINT16_MAX && mask->psrc == 0 &&
	           mask->tos == 0 && (source || mask->ip4src == 0);
	if (!r->plain)
		return;
	r->addr = at->ip4dst;
	r->source = source ? at->ip4src : 0;
	r->port = ntohs(at->pdst);
}

int mdbus_nic_rules(int sock, const char *interface, struct mdbus_nic_rule **list)
{
	struct ethtool_rxnfc *all;
	int rc = list_locations(sock, interface, &all, NULL), n = 0;

	*list = NULL;
	if (rc < 0)
		return rc;
	*list = calloc(all->rule_cnt + 1u, sizeof(**list));
	for (uint32_t i = 0; *list && i < all->rule_cnt; i++) {
		struct ethtool_rxnfc one = { .cmd = ETHTOOL_GRXCLSRULE, .fs.location = all->rule_locs[i] };

		if (mdbus_nic_command(sock, interface, &one) == 0) /* else it has gone since */
			read_rule(&one.fs, &(*list)[n++]);
	}
	free(all);
	return *list ? n : -ENOMEM;
}

/* The last place that is free: early ones win where several rules match, and are left to the admin. */
static int free_place(int sock, const char *interface, uint32_t *location)
{
	struct ethtool_rxnfc *all;
	bool chooses = false, taken = true;
	int rc = list_locations(sock, interface, &all, &chooses);

	if (rc < 0)
		return rc;
	uint32_t at = (uint32_t)all->data;

	while (taken && at > 0 && !chooses) {
		at--;
		taken = false;
		for (uint32_t i = 0; i < all->rule_cnt; i++)
			taken = taken || all->rule_locs[i] == at;
	}
	free(all);
	*location = chooses ? RX_CLS_LOC_ANY : at;
	return taken && !chooses ? -ENOSPC : 0;
}

int mdbus_nic_rule_add(int sock, const char *interface, struct mdbus_nic_rule *rule)
{
	struct ethtool_rxnfc add = {
		.cmd = ETHTOOL_SRXCLSRLINS,
		.fs = {
			.flow_type = UDP_V4_FLOW,
			.h_u.udp_ip4_spec = { .ip4dst = rule->addr, .ip4src = rule->source, .pdst = htons(rule->port) },
			.m_u.udp_ip4_spec = { .ip4dst = UINT32_MAX, .ip4src = rule->source ? UINT32_MAX : 0, .pdst = UINT16_MAX },
			.ring_cookie = rule->queue,
		},
	};
	int rc = free_place(sock, interface, &add.fs.location);

	if (rc == 0)
		rc = mdbus_nic_command(sock, interface, &add);
	if (rc == 0)
		rule->location = add.fs.location;
	return rc;
}

int mdbus_nic_rule_delete(int sock, const char *interface, uint32_t location)
{
	struct ethtool_rxnfc del = { .cmd = ETHTOOL_SRXCLSRLDEL, .fs.location = location };

	return mdbus_nic_command(sock, interface, &del);
}
