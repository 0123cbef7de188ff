/* SPDX-License-Identifier: Apache-2.0
 *
 * nic.c - ethtool's ioctl; see nic.h.
 */
#include "nic.h"
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
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
