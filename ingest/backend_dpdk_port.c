/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk_port.c - the one port of a line: configured with one receive queue, started, and looked after.
 */
#include <errno.h>
#include <net/if.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf_dyn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "backend_dpdk.h"

#define TX_RING      64u
#define CLOCK_LOOK_US 20000u
#define ETHER_HEAD   (RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN)
#define ETHER_ROOM   (14u + 2u * 4u + 12u) /* the last for virtio, whose own header counts too */

/* ---- configuration ----------------------------------------------------------------------------------------- */

/* A port with an interface of the kernel's below it takes what that one lets through. */
static int check_kernel_interface(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	uint32_t room = (1u << x->frame_shift) - RTE_PKTMBUF_HEADROOM - ETHER_ROOM;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;
	struct ifreq ifr = { 0 };

	if (fd < 0 || x->info.if_index == 0 || !if_indextoname(x->info.if_index, ifr.ifr_name)) {
		/* none, or it cannot be asked */
	} else if (ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP)) {
		snprintf(env->error, sizeof(env->error), "interface %s is down: `ip link set dev %s up`", ifr.ifr_name,
		         ifr.ifr_name);
		rc = -ENETDOWN;
	} else if (ioctl(fd, SIOCGIFMTU, &ifr) == 0 && (uint32_t)ifr.ifr_mtu > room) {
		snprintf(env->error, sizeof(env->error), "MTU %d of interface %s is too large for frame_size = %u: set "
		         "frame_size = 4096, or `ip link set dev %s mtu %u`", ifr.ifr_mtu, ifr.ifr_name, 1u << x->frame_shift,
		         ifr.ifr_name, room);
		rc = -EMSGSIZE;
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* What a frame can hold, within what the port can do; 1500 in frames of 2048. */
static uint32_t choose_mtu(const struct mdbus_dpdk *x)
{
	uint32_t room = (1u << x->frame_shift) - RTE_PKTMBUF_HEADROOM - ETHER_ROOM;
	uint32_t mtu = x->frame_shift > 11 ? room : RTE_ETHER_MTU, most = x->info.max_rx_pktlen - ETHER_HEAD;

	if (x->info.max_rx_pktlen > RTE_ETHER_MIN_MTU + ETHER_HEAD && most < mtu)
		mtu = most; /* not every driver's max_mtu says so too */
	return x->info.max_mtu >= RTE_ETHER_MIN_MTU && x->info.max_mtu < mtu ? x->info.max_mtu : mtu;
}

static int set_up_queues(struct mdbus_dpdk *x, uint16_t ntx)
{
	uint16_t nrx = (uint16_t)(x->nframes / 4 < 32768 ? x->nframes / 4 : 32768), ntx_desc = TX_RING;
	int node = rte_eth_dev_socket_id(x->port), rc;

	if (x->line->rx_ring && x->line->rx_ring < nrx)
		nrx = (uint16_t)x->line->rx_ring;
	rc = rte_eth_dev_adjust_nb_rx_tx_desc(x->port, &nrx, &ntx_desc);
	if (rc == 0)
		rc = rte_eth_rx_queue_setup(x->port, DPDK_QUEUE, nrx, (unsigned)node, NULL, x->mempool);
	if (rc == 0 && ntx)
		rc = rte_eth_tx_queue_setup(x->port, 0, ntx_desc, (unsigned)node, NULL);
	return rc;
}

/* Offered stamps are taken. Their unit is the device's: ticks of a clock that can be read, or nanoseconds. */
static void use_wire_time(struct mdbus_dpdk *x)
{
	int off;

	if (!(x->info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP) ||
	    rte_mbuf_dyn_rx_timestamp_register(&off, &x->wire_flag) != 0)
		return;
	x->wire_ns_per_tick = 1;
	x->wire_off = (uintptr_t)off;
	x->wire_time = true;
}

int mdbus_dpdk_port_configure(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	struct rte_eth_conf conf = { .rxmode.mtu = choose_mtu(x) };
	uint16_t ntx = x->info.max_tx_queues > 0; /* nothing is sent, but there are drivers that must have one */
	int rc;

	use_wire_time(x);
	if (x->wire_time)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
	rc = rte_eth_dev_configure(x->port, 1, ntx, &conf);
	if (rc == 0)
		rc = set_up_queues(x, ntx);
	if (rc)
		snprintf(env->error, sizeof(env->error), "%s: the queue cannot be set up (%s)%s: with some cards it takes "
		         "frame_size = 4096, or a smaller rx_ring", env->line->interface, strerror(-rc), mdbus_dpdk_eal_said());
	return rc;
}

/* ---- running ----------------------------------------------------------------------------------------------- */

static void measure_clock(struct mdbus_dpdk *x)
{
	uint64_t tick[2], ns[2];

	if (!x->wire_time || rte_eth_read_clock(x->port, &tick[0]) != 0)
		return;
	ns[0] = mdbus_clock_ns();
	usleep(CLOCK_LOOK_US);
	if (rte_eth_read_clock(x->port, &tick[1]) != 0 || tick[1] <= tick[0])
		return;
	ns[1] = mdbus_clock_ns();
	x->wire_ns_per_tick = (double)(ns[1] - ns[0]) / (double)(tick[1] - tick[0]);
}

static struct rte_eth_link link_now(const struct mdbus_dpdk *x)
{
	struct rte_eth_link link = { 0 };

	(void)rte_eth_link_get_nowait(x->port, &link);
	return link;
}

int mdbus_dpdk_port_start(struct mdbus_dpdk *x, struct mdbus_backend_env *env)
{
	bool veth = x->veth.interface != NULL;
	int rc = veth ? mdbus_dpdk_veth_start(x->port, &x->veth, env->error, sizeof(env->error)) : rte_eth_dev_start(x->port);

	if (rc && !veth)
		snprintf(env->error, sizeof(env->error), "%s: the port does not start: %s%s", env->line->interface, strerror(-rc),
		         mdbus_dpdk_eal_said());
	else if (rc == 0)
		measure_clock(x);
	x->started = rc == 0;
	x->link = RTE_ETH_LINK_UP; /* only if it is not is there something to say */
	return rc ? rc : check_kernel_interface(x, env); /* which the driver may have made, or set up, only now */
}

void mdbus_dpdk_port_link(struct mdbus_dpdk *x)
{
	struct rte_eth_link link = link_now(x);

	if (link.link_status == x->link)
		return;
	x->link = link.link_status;
	fprintf(stderr, "mdbus-ingest: line %s: link of %s is %s\n", x->line->name, x->line->interface,
	        x->link ? "up" : "down");
	mdbus_dpdk_port_report(x);
}

void mdbus_dpdk_port_close(struct mdbus_dpdk *x)
{
	if (x->port >= RTE_MAX_ETHPORTS)
		return;
	if (x->started)
		(void)rte_eth_dev_stop(x->port);
	(void)rte_eth_dev_close(x->port);
}

/* ---- reports ----------------------------------------------------------------------------------------------- */

/* Memory of DPDK's own, not the arena's. */
static const char *page_name(const struct mdbus_dpdk *x)
{
	return x->huge ? "huge" : "4K";
}

/* The core and the port on different nodes: every packet crosses between them. */
static bool is_far(const struct mdbus_dpdk *x)
{
	int node = rte_eth_dev_socket_id(x->port);

	return node >= 0 && x->line->cpu >= 0 && (unsigned)node != rte_socket_id();
}

void mdbus_dpdk_port_report(struct mdbus_dpdk *x)
{
	static const char *const groups[] = { "open", "list", "joined", "allmulti", "promisc" };
	const char *driver = x->info.driver_name ? x->info.driver_name : "?";
	char text[sizeof(x->arena->backend)], detail[sizeof(x->arena->detail)], speed[32] = "", rules[32] = "by software";
	struct rte_eth_link link = link_now(x);

	if (strncmp(driver, "net_", 4) == 0)
		driver += 4;
	if (x->nrule)
		snprintf(rules, sizeof(rules), "by %u rules in the port", x->nrule);
	if (link.link_status && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN)
		snprintf(speed, sizeof(speed), ", %u Mb/s", link.link_speed);
	snprintf(text, sizeof(text), "dpdk %.11s q%u %s %s", driver, x->line->queue, page_name(x), groups[x->groups]);
	snprintf(detail, sizeof(detail), "link %s%s, node %d%s, packets chosen %s%s", link.link_status ? "up" : "down", speed,
	         rte_eth_dev_socket_id(x->port), is_far(x) ? " but core on another" : "", rules,
	         x->wire_time ? ", hardware time stamps" : "");
	memcpy(x->arena->backend, text, sizeof(text));
	memcpy(x->arena->detail, detail, sizeof(detail));
}

void mdbus_dpdk_port_warn(const struct mdbus_dpdk *x)
{
	if (is_far(x))
		fprintf(stderr, "mdbus-ingest: line %s: %s is on NUMA node %d, core %d on node %u: choose a core of node %d\n",
		        x->line->name, x->line->interface, rte_eth_dev_socket_id(x->port), x->line->cpu, rte_socket_id(),
		        rte_eth_dev_socket_id(x->port));
	if (mdbus_dpdk_is_pci(x->line->interface) && !x->huge)
		fprintf(stderr, "mdbus-ingest: line %s: no hugepages for DPDK's own memory: see scripts/host check\n",
		        x->line->name);
}
