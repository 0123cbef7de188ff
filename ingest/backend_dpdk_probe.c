/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_probe.c - making the device of a line.
 *
 * A virtual device is probed by hand and not by the EAL's --vdev, whose failures nobody is told of.  A device that a dying
 * process still has is waited for.
 *
 * net_af_packet needs one thing more.  It puts its socket into a fanout group that it calls by the process's pid, xor the
 * interface's index, and the kernel refuses the name if another interface has it.  Pids of 100 and 101 on the interfaces 2
 * and 3 make the same name, and two lines started one after the other get just such pids.  Then the probe is done again
 * under another pid: by a child that shares this process's memory and descriptors and while it lives stops it, as
 * vfork's does, so that all it makes is ours.  Killed there: the child is killed as well.
 */
#include <errno.h>
#include <rte_dev.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../bus/user_veth.h"
#include "backend_dpdk.h"

#define RETRY_NS     UINT64_C(3000000000)
#define RETRY_US     20000u
#define OTHER_PIDS   8
#define CHILD_STACK  (1u << 20)
#define AF_PACKET_DRIVER "net_af_packet"
#define WANTS_PHYSICAL "Expecting 'PA' IOVA mode" /* DPDK's words */
#define PACKET_BLOCK 32u /* frames of 1920 or 3968 bytes that net_af_packet allocates together: whole pages */

struct probe {
	const char *device;
	int rc;
};

static bool is_af_packet(const char *device)
{
	return strncmp(device, AF_PACKET_DRIVER, strlen(AF_PACKET_DRIVER)) == 0;
}

/*
 * What net_af_packet takes by default does not fit a frame of 2048, and is few.  It believes that its frames lie one behind
 * the other across blocks, so a block has to be a whole number of them, and of pages.
 */
static int complete_device(const struct mdbus_dpdk *x, char *text, size_t size)
{
	uint32_t frame = (1u << x->frame_shift) - RTE_PKTMBUF_HEADROOM, n = x->line->rx_ring;

	if (x->veth.interface)
		return mdbus_dpdk_veth_device(&x->veth, 0, text, size);
	snprintf(text, size, "%s", x->line->interface);
	if (!is_af_packet(text) || strstr(text, "framesz=") || strstr(text, "blocksz=") || strstr(text, "framecnt="))
		return 0;
	n = n == 0 ? 4096u : n < PACKET_BLOCK ? PACKET_BLOCK : n;
	snprintf(text + strlen(text), size - strlen(text), ",framesz=%u,blocksz=%u,framecnt=%u", frame, frame * PACKET_BLOCK, n);
	return 0;
}

static int probe_in_child(void *arg)
{
	struct probe *p = arg;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	p->rc = rte_dev_probe(p->device);
	_exit(0);
}

static int probe_as_another(const char *device)
{
	struct probe p = { .device = device, .rc = -EIO };
	char *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	pid_t pid;

	if (stack == MAP_FAILED)
		return -ENOMEM;
	pid = clone(probe_in_child, stack + CHILD_STACK, CLONE_VM | CLONE_FILES | CLONE_VFORK | SIGCHLD, &p);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	munmap(stack, CHILD_STACK);
	return p.rc;
}

static bool find_port(struct mdbus_dpdk *x)
{
	if (rte_eth_dev_count_avail() == 0)
		return false;
	x->port = (uint16_t)rte_eth_find_next(0);
	return x->port < RTE_MAX_ETHPORTS;
}

static int explain(struct mdbus_backend_env *env, int rc)
{
	const char *device = env->line->interface;

	if (mdbus_is_user_veth(device))
		snprintf(env->error, sizeof(env->error), "%s: there is no virtual bridge%s: start mdbus-vbridge, in the same run "
		         "directory, or name the port's whole path", device, mdbus_dpdk_eal_said());
	else if (mdbus_dpdk_is_pci(device) && strstr(mdbus_dpdk_eal_said(), WANTS_PHYSICAL))
		snprintf(env->error, sizeof(env->error), "%s is bound to a driver without an IOMMU, so the line's memory must be on "
		         "hugepages, and this process privileged: set hugepages = \"2M\", see mdbusctl status", device);
	else if (mdbus_dpdk_is_pci(device))
		snprintf(env->error, sizeof(env->error), "DPDK finds no port on PCI device %s%s: is it there (lspci), is it bound "
		         "to vfio-pci (dpdk-devbind.py -b vfio-pci %s), is its driver installed?", device, mdbus_dpdk_eal_said(),
		         device);
	else
		snprintf(env->error, sizeof(env->error), "DPDK cannot make the device \"%s\"%s (%s): see the driver's page in "
		         "DPDK's NIC guide for its arguments", device, mdbus_dpdk_eal_said(), strerror(-rc));
	return rc;
}

int mdbus_dpdk_probe(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	uint64_t deadline_ns = mdbus_clock_ns() + RETRY_NS;
	char device[sizeof(env->line->interface) + 128];
	int rc = complete_device(x, device, sizeof(device)), other = 0;

	if (rc) {
		snprintf(env->error, sizeof(env->error), "%s: the port's path must be of at most %u characters, none of them a comma",
		         env->line->interface, MDBUS_USER_VETH_PATH_MAX - 1u);
		return rc;
	}
	while (!find_port(x)) { /* the EAL has tried a PCI device already */
		rc = other ? probe_as_another(device) : rte_dev_probe(device);
		if (rc == 0 && find_port(x))
			break;
		if (is_af_packet(device) && other++ < OTHER_PIDS)
			continue;
		if (rc != -EBUSY || mdbus_clock_ns() > deadline_ns)
			return explain(env, rc ? rc : -ENODEV);
		usleep(RETRY_US);
	}
	rc = rte_eth_dev_info_get(x->port, &x->info);
	if (rc)
		snprintf(env->error, sizeof(env->error), "%s: the driver does not say what it can: %s", device, strerror(-rc));
	return rc;
}
