/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_veth.c - a virtual NIC, "user-veth:PORT": DPDK's net_memif, plugged into a virtual bridge (mdbus-vbridge).
 *
 * The driver connects when the port is started and never again, so this looks after the cable: a port whose link is down is
 * stopped and started until the bridge takes it.  DPDK's own thread notices that a bridge has gone and then takes the port
 * apart in some microseconds, while nobody else may; so a link must have been down for two looks before it is touched.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../bus/user_veth.h"
#include "backend_dpdk.h"

#define START_NS   UINT64_C(3000000000)
#define ANSWER_US  100000u /* that a bridge has to answer in */
#define STEP_US    1000u
#define LOG2_MIN   7u
#define LOG2_MAX   12u     /* of receive descriptors: 8 MiB of buffers */

int mdbus_dpdk_veth_device(const struct dpdk_veth *v, uint32_t number, char *text, size_t size)
{
	char path[MDBUS_USER_VETH_PATH_MAX];
	uint32_t log2 = LOG2_MAX;

	if (mdbus_user_veth_path(v->interface, v->run_dir, v->queue, path, sizeof(path)) != 0 || strchr(path, ','))
		return -ENAMETOOLONG;
	while (log2 > LOG2_MIN && v->ring && v->ring < 1u << log2)
		log2--;
	size_t n = (size_t)snprintf(text, size, "net_memif%u,role=client,socket-abstract=no,rsize=%u,socket=%s", number, log2, path);

	return n < size ? 0 : -ENAMETOOLONG;
}

bool mdbus_dpdk_veth_is_up(uint16_t port)
{
	struct rte_eth_link link = { 0 };

	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

static bool wait_link(uint16_t port)
{
	for (uint32_t us = 0; us < ANSWER_US; us += STEP_US) {
		if (mdbus_dpdk_veth_is_up(port))
			return true;
		usleep(STEP_US);
	}
	return false;
}

int mdbus_dpdk_veth_start(uint16_t port, const char *interface, char *err, size_t errlen)
{
	uint64_t deadline_ns = mdbus_clock_ns() + START_NS;

	for (;;) {
		if (rte_eth_dev_start(port) != 0) {
			snprintf(err, errlen, "%s: no virtual bridge has this port%s: start mdbus-vbridge with it, in the same run "
			         "directory, or name its socket's whole path", interface, mdbus_dpdk_eal_said());
			return -ENOTCONN;
		}
		if (wait_link(port))
			return 0;
		(void)rte_eth_dev_stop(port);
		if (mdbus_clock_ns() > deadline_ns) {
			snprintf(err, errlen, "%s: the virtual bridge does not take this process: another one has this queue",
			         interface);
			return -EBUSY;
		}
	}
}

void mdbus_dpdk_veth_look(struct mdbus_dpdk *x)
{
	if (!x->veth)
		return;
#ifdef MDBUS_MUTANT_veth_unplugged
	return;
#endif
	if (x->started && mdbus_dpdk_veth_is_up(x->port)) {
		x->unplugged = 0;
		return;
	}
	if (x->unplugged++ == 0)
		return;
	(void)rte_log_set_level_pattern("pmd.net.memif", RTE_LOG_CRIT); /* once has been enough */
	if (x->started)
		(void)rte_eth_dev_stop(x->port);
	x->started = rte_eth_dev_start(x->port) == 0;
}
