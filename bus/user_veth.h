/* SPDX-License-Identifier: Apache-2.0
 *
 * user_veth.h - "user-veth:PORT", the name of a virtual NIC that is a port of a virtual bridge (mdbus-vbridge).
 *
 * A port is the directory entry of a UNIX socket; beneath it lies DPDK's net_memif.  PORT is a path, or a name in RUN/veth
 * (RUN: the run directory), where mdbus-vbridge puts its ports unless told otherwise.  Queue 0 of a port is the socket
 * PORT, queue n is PORT.n: each is a connection of its own, so several processes can share the NIC, one a queue.
 */
#ifndef MDBUS_USER_VETH_H
#define MDBUS_USER_VETH_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MDBUS_USER_VETH          "user-veth:"
#define MDBUS_USER_VETH_PATH_MAX 108u /* of a socket's name, its end included */
#define MDBUS_USER_VETH_QUEUES   16u

static inline bool mdbus_is_user_veth(const char *interface)
{
	return strncmp(interface, MDBUS_USER_VETH, sizeof(MDBUS_USER_VETH) - 1u) == 0;
}

/* The socket of a queue of that interface.  0, or -ENAMETOOLONG. */
static inline int mdbus_user_veth_path(const char *interface, const char *run_dir, uint32_t queue, char *path, size_t size)
{
	const char *port = interface + sizeof(MDBUS_USER_VETH) - 1u;
	size_t n = port[0] == '/' ? (size_t)snprintf(path, size, "%s", port) :
	                            (size_t)snprintf(path, size, "%s/veth/%s", run_dir, port);

	if (n < size && queue)
		n += (size_t)snprintf(path + n, size - n, ".%u", queue);
	return n < size && n < MDBUS_USER_VETH_PATH_MAX ? 0 : -ENAMETOOLONG;
}

#endif
