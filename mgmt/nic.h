/* SPDX-License-Identifier: Apache-2.0
 *
 * nic.h - what a card is asked and told, by the kernel's ethtool interface.
 *
 * A card is named by its interface and any socket of the network namespace that the interface is in.  Nothing here keeps
 * anything; every call is one or a few system calls that do not wait for packets.
 */
#ifndef MDBUS_MGMT_NIC_H
#define MDBUS_MGMT_NIC_H

#include <stdbool.h>
#include <stdint.h>

#define MDBUS_NIC_RULES_MAX 16384u /* that are looked at */

/* A card's rule: UDP packets to (addr, port) go to a queue. */
struct mdbus_nic_rule {
	uint32_t location; /* its number in the card */
	bool plain;        /* it is of this kind; else some other rule, and only location and queue are known */
	uint32_t addr;     /* network byte order */
	uint32_t source;   /* network byte order, 0: any */
	uint16_t port;     /* host byte order */
	uint64_t queue;    /* as the card counts them; UINT64_MAX: packets are dropped */
};

/* One ethtool command (linux/ethtool.h) on an interface: 0 or -errno.  The kernel's, unless a test has put a card of its own there. */
extern int (*mdbus_nic_command)(int sock, const char *interface, void *command);

/* Receive queues of the interface; 0: it is not there or does not tell. */
uint32_t mdbus_nic_queues(int sock, const char *interface);

/* True if the interface has rules that sort packets (ntuple filters), and they are on. */
bool mdbus_nic_sorts(int sock, const char *interface);

/* All rules of a card, to be freed.  How many, or -errno: -EOPNOTSUPP it has none. */
int mdbus_nic_rules(int sock, const char *interface, struct mdbus_nic_rule **list);

/*
 * Add a rule at a place that is free; rule->location gets its number.  0 or -errno: -EOPNOTSUPP, -EINVAL the card does not do that,
 * -ENOSPC it is full, -EPERM.  Killed inside: the rule is there, or not.
 */
int mdbus_nic_rule_add(int sock, const char *interface, struct mdbus_nic_rule *rule);

/* 0 or -errno: -ENOENT there is none. */
int mdbus_nic_rule_delete(int sock, const char *interface, uint32_t location);

#endif
