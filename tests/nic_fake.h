/* SPDX-License-Identifier: Apache-2.0
 *
 * nic_fake.h - a card that sorts packets, for tests: it answers ethtool's commands as drivers do, and makes their mistakes.
 *
 * It lives in memory that processes forked later share, so that a test sees what an mdbusd in a child has told the card.
 */
#ifndef TESTS_NIC_FAKE_H
#define TESTS_NIC_FAKE_H

#include <linux/ethtool.h>
#include <stdbool.h>
#include <stdint.h>

#define NIC_FAKE_NAME  "mdfake0"
#define NIC_FAKE_SIZE  8u

enum nic_fake_death {
	NIC_FAKE_LIVE,
	NIC_FAKE_BEFORE_INSERT,
	NIC_FAKE_AFTER_INSERT,
	NIC_FAKE_BEFORE_DELETE,
	NIC_FAKE_AFTER_DELETE,
};

struct nic_fake {
	uint32_t queues;
	bool sorts;      /* ntuple filters are on */
	bool none;       /* it has no such commands */
	bool chooses;    /* the driver chooses places */
	int refuse;      /* the next commands that change something end like this */
	enum nic_fake_death die; /* kill the process that tells it so, once */
	uint32_t changes; /* commands that changed something */
	bool used[NIC_FAKE_SIZE];
	struct ethtool_rx_flow_spec rule[NIC_FAKE_SIZE];
};

/* Put the card in the place of the kernel's. */
struct nic_fake *nic_fake_open(void);

/* Rules in the card that are like this; addr as text. */
uint32_t nic_fake_count(const struct nic_fake *n, const char *addr, uint16_t port, uint64_t queue);

#endif
