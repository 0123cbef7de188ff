/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_veth.c - a virtual NIC, "user-veth:PORT": DPDK's net_memif, plugged into a virtual bridge (mdbus-vbridge).
 *
 * Two things the driver leaves to be done.  It connects when the port is started and never again: a port whose link is down
 * is stopped and started until the bridge takes it.  And when the bridge goes, DPDK's interrupt thread unmaps the rings at
 * once, whoever may be moving frames in them.  So that thread is held, inside an alarm of its own that waits for us, all
 * the time that the port is plugged in and may be polled.  The thread that polls looks, about once a second, whether the
 * bridge has said anything on the driver's socket or hung up; only then, not polling, does it let the other go for a moment.
 */
#include <dirent.h>
#include <errno.h>
#include <rte_alarm.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../bus/user_veth.h"
#include "backend_dpdk.h"

#define START_NS   UINT64_C(3000000000)
#define ANSWER_US  100000u /* that a bridge has to answer in */
#define STEP_US    1000u
#define LEAVE_US   1000u   /* that DPDK's interrupt thread has for its other work before it is held again */
#define LEAVES     4u      /* each four times as long, as long as it has not come to it */
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

/* ---- DPDK's interrupt thread ------------------------------------------------------------------------------------ */

static struct {
	sem_t stopped, go;
	bool made, held;
} keeper;

static void wait_for(sem_t *s)
{
	while (sem_wait(s) < 0 && errno == EINTR)
		;
}

/* In the interrupt thread. */
static void stop_here(void *unused)
{
	(void)unused;
	sem_post(&keeper.stopped);
	wait_for(&keeper.go);
}

/*
 * Hold the interrupt thread again after some time.  An alarm that is due when the one before it returns is taken at once,
 * before anything else: the thread would be let go and never get to the bridge's socket.
 */
static int hold(uint32_t after_us)
{
	int rc = 0;

#ifdef MDBUS_MUTANT_veth_thread_free
	return 0;
#endif
	if (!keeper.made && (sem_init(&keeper.stopped, 0, 0) < 0 || sem_init(&keeper.go, 0, 0) < 0))
		return -errno;
	keeper.made = true;
	if (!keeper.held)
		rc = rte_eal_alarm_set(after_us, stop_here, NULL);
	if (!keeper.held && rc == 0)
		wait_for(&keeper.stopped);
	keeper.held = rc == 0;
	return rc;
}

void mdbus_dpdk_veth_release(void)
{
	if (keeper.held)
		sem_post(&keeper.go);
	keeper.held = false;
}

/* ---- the cable -------------------------------------------------------------------------------------------------- */

static bool is_up(uint16_t port)
{
	struct rte_eth_link link = { 0 };

	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

/* By port, one more than the number; 0: not known. */
static int control[RTE_MAX_ETHPORTS];

/* The driver's socket to the bridge, among all of the process. */
static int find_control(const struct dpdk_veth *v)
{
	char path[MDBUS_USER_VETH_PATH_MAX];
	DIR *at = opendir("/proc/self/fd");
	struct dirent *e;
	int found = -1;

	if (mdbus_user_veth_path(v->interface, v->run_dir, v->queue, path, sizeof(path)) != 0)
		path[0] = '\0';
	while (at && found < 0 && (e = readdir(at))) {
		struct sockaddr_un peer = { 0 };
		socklen_t len = sizeof(peer) - 1u;
		int fd = atoi(e->d_name);

		if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sun_family == AF_UNIX && path[0] &&
		    strcmp(peer.sun_path, path) == 0)
			found = fd;
	}
	if (at)
		closedir(at);
	return found;
}

/* True if the bridge has said something, or hung up, that the driver has not heard yet. */
static bool has_said(uint16_t port)
{
	char unused;

	return recv(control[port] - 1, &unused, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

bool mdbus_dpdk_veth_still_up(uint16_t port)
{
	uint32_t us = LEAVE_US;

	if (keeper.held && control[port] && !has_said(port))
		return is_up(port);
	for (unsigned n = 0; n < LEAVES; n++, us *= 4u) {
#ifndef MDBUS_MUTANT_veth_starved
		mdbus_dpdk_veth_release();
#endif
		if (hold(us) != 0)
			return false;
		if (!control[port] || !is_up(port) || !has_said(port))
			break;
	}
	return is_up(port);
}

/* The interrupt thread plugs in; it is held afterwards. */
static bool wait_link(uint16_t port, const struct dpdk_veth *v)
{
	mdbus_dpdk_veth_release();
	for (uint32_t us = 0; us < ANSWER_US && !is_up(port); us += STEP_US)
		usleep(STEP_US);
	if (hold(LEAVE_US) != 0)
		return false;
	control[port] = find_control(v) + 1;
	return is_up(port);
}

int mdbus_dpdk_veth_start(uint16_t port, const struct dpdk_veth *v, char *err, size_t errlen)
{
	const char *interface = v->interface;
	uint64_t deadline_ns = mdbus_clock_ns() + START_NS;

	for (;;) {
		if (rte_eth_dev_start(port) != 0) {
			snprintf(err, errlen, "%s: no virtual bridge has this port%s: start mdbus-vbridge with it, in the same run "
			         "directory, or name its socket's whole path", interface, mdbus_dpdk_eal_said());
			return -ENOTCONN;
		}
		if (wait_link(port, v))
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
	if (!x->veth.interface || (x->started && mdbus_dpdk_veth_still_up(x->port)))
		return;
#ifdef MDBUS_MUTANT_veth_unplugged
	return;
#endif
	(void)rte_log_set_level_pattern("pmd.net.memif", RTE_LOG_CRIT); /* once has been enough */
	if (x->started)
		(void)rte_eth_dev_stop(x->port);
	x->started = rte_eth_dev_start(x->port) == 0;
	if (x->started && !wait_link(x->port, &x->veth)) {
		(void)rte_eth_dev_stop(x->port);
		x->started = false;
	}
}
