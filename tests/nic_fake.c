/* SPDX-License-Identifier: Apache-2.0 */
#include "nic_fake.h"
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../mgmt/nic.h"
#include "guard.h"

static struct nic_fake *card;

static uint32_t rules(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++)
		n += card->used[i];
	return n;
}

static int insert(struct ethtool_rxnfc *c)
{
	uint32_t at = c->fs.location;

	if (at == RX_CLS_LOC_ANY && !card->chooses)
		return -EINVAL;
	if (rules() == NIC_FAKE_SIZE)
		return -ENOSPC;
	while (at == RX_CLS_LOC_ANY && card->used[card->changes % NIC_FAKE_SIZE])
		card->changes++;
	at = at == RX_CLS_LOC_ANY ? card->changes % NIC_FAKE_SIZE : at;
	if (at >= NIC_FAKE_SIZE || c->fs.ring_cookie >= card->queues)
		return -EINVAL;
	c->fs.location = at;
	card->rule[at] = c->fs;
	card->used[at] = true;
	card->changes++;
	return 0;
}

static void die_at(enum nic_fake_death when)
{
	if (card->die != when)
		return;
	card->die = NIC_FAKE_LIVE;
	raise(SIGKILL);
}

static int list(struct ethtool_rxnfc *c)
{
	uint32_t n = 0;

	if (c->rule_cnt < rules())
		return -EMSGSIZE;
	for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++) {
		if (card->used[i])
			c->rule_locs[n++] = i;
	}
	c->rule_cnt = n;
	c->data = NIC_FAKE_SIZE;
	return 0;
}

static int sorting(struct ethtool_rxnfc *c)
{
	bool there = c->fs.location < NIC_FAKE_SIZE && card->used[c->fs.location];
	int rc;

	switch (c->cmd) {
	case ETHTOOL_GRXCLSRLCNT:
		c->rule_cnt = rules();
		c->data = NIC_FAKE_SIZE | (card->chooses ? RX_CLS_LOC_SPECIAL : 0);
		return 0;
	case ETHTOOL_GRXCLSRLALL:
		return list(c);
	case ETHTOOL_GRXCLSRULE:
		if (there)
			c->fs = card->rule[c->fs.location];
		return there ? 0 : -ENOENT;
	case ETHTOOL_SRXCLSRLINS:
		die_at(NIC_FAKE_BEFORE_INSERT);
		rc = card->refuse ? -card->refuse : insert(c);
		die_at(NIC_FAKE_AFTER_INSERT);
		return rc;
	case ETHTOOL_SRXCLSRLDEL:
		if (card->refuse || !there)
			return card->refuse ? -card->refuse : -ENOENT;
		die_at(NIC_FAKE_BEFORE_DELETE);
		card->used[c->fs.location] = false;
		card->changes++;
		die_at(NIC_FAKE_AFTER_DELETE);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int command(int sock, const char *interface, void *what)
{
	uint32_t cmd = *(const uint32_t *)what;

	if (sock < 0)
		return -EBADF;
	if (strcmp(interface, NIC_FAKE_NAME) != 0)
		return -ENODEV;
	if (cmd == ETHTOOL_GCHANNELS) {
		((struct ethtool_channels *)what)->combined_count = card->queues;
		return 0;
	}
	if (cmd == ETHTOOL_GFLAGS) {
		((struct ethtool_value *)what)->data = card->sorts ? ETH_FLAG_NTUPLE : 0;
		return 0;
	}
	return card->none ? -EOPNOTSUPP : sorting(what);
}

struct nic_fake *nic_fake_open(void)
{
	card = mmap(NULL, sizeof(*card), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(card != MAP_FAILED);
	card->queues = 4;
	card->sorts = true;
	mdbus_nic_command = command;
	return card;
}

uint32_t nic_fake_count(const struct nic_fake *n, const char *addr, uint16_t port, uint64_t queue)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < NIC_FAKE_SIZE; i++) {
		const struct ethtool_rx_flow_spec *f = &n->rule[i];

		count += n->used[i] && f->flow_type == UDP_V4_FLOW && f->h_u.udp_ip4_spec.ip4dst == inet_addr(addr) &&
		         f->m_u.udp_ip4_spec.ip4dst == UINT32_MAX && f->h_u.udp_ip4_spec.pdst == htons(port) &&
		         f->m_u.udp_ip4_spec.pdst == UINT16_MAX && f->ring_cookie == queue;
	}
	return count;
}
