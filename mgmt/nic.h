/* SPDX-License-Identifier: Apache-2.0
 *
 * nic.h - what a card is asked and told, by the kernel's ethtool interface.
 *
 * A card is named by its interface and any socket of the network namespace that the interface is in.  Nothing here keeps
 * anything; every call is one or a few system calls that do not wait for packets.
 */
#ifndef MDBUS_MGMT_NIC_H
#define MDBUS_MGMT_NIC_H

#include <stdint.h>

/* One ethtool command (linux/ethtool.h) on an interface: 0 or -errno.  The kernel's, unless a test has put a card of its own there. */
extern int (*mdbus_nic_command)(int sock, const char *interface, void *command);

/* Receive queues of the interface; 0: it is not there or does not tell. */
uint32_t mdbus_nic_queues(int sock, const char *interface);

#endif
