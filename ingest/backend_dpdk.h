/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_dpdk.h - the parts of the dpdk backend, in the order in which a line is opened.
 *
 *   backend_dpdk_eal.c   DPDK's environment: one a process, with one core and one device
 *   backend_dpdk_probe.c the device
 *   backend_dpdk_port.c  its port: queue, link, time stamps
 *   backend_dpdk_veth.c  a port of the virtual bridge: its cable
 *   backend_dpdk_pool.c  the arena's frames as DPDK's packet buffers
 *   backend_dpdk_feed.c  what the port lets in: groups, flow rules
 *   backend_dpdk_stats.c its counters
 *   backend_dpdk.c       packets, and the order of all this
 *
 * Functions return 0, or -errno with a reason in env->error.  All of it is in a shared object (dpdk_load.h), whose only global
 * names are the operations and the layout they were built for.
 */
#ifndef MDBUS_INGEST_BACKEND_DPDK_H
#define MDBUS_INGEST_BACKEND_DPDK_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include "backend.h"
#include "join.h"

#define DPDK_QUEUE     0u    /* a port belongs to its process whole; that of a virtual NIC is one queue of it */
#define DPDK_BURST_MAX 1024u

enum dpdk_groups {
	DPDK_GROUPS_NONE,     /* the device filters nothing, or all flows go to a host address */
	DPDK_GROUPS_LIST,     /* the port's address list */
	DPDK_GROUPS_JOINED,   /* by sockets on the kernel's interface below the port */
	DPDK_GROUPS_ALLMULTI,
	DPDK_GROUPS_PROMISC,
};

/* Which queue of which port, and how many frames may wait there (0: many). */
struct dpdk_veth {
	const char *interface, *run_dir;
	uint32_t queue, ring;
};

/* The port's own counters. */
struct dpdk_xstats {
	struct rte_eth_xstat *now;
	struct rte_eth_xstat_name *name;
	int16_t *slot; /* by number: where in the arena, -1: nowhere yet */
	int n;
};

struct mdbus_dpdk {
	/* hot */
	uint16_t port;
	bool started;          /* may be polled */
	bool wire_time;
	uintptr_t wire_off;    /* of the time stamp in a buffer's head */
	uint64_t wire_flag;
	double wire_ns_per_tick;
	struct mdbus_frames *pool;
	uint8_t *frames;
	uint32_t nframes, frame_shift;
	uint64_t *lent;        /* a bit per frame: DPDK's */
	struct rte_mbuf **mbuf; /* by frame */
	struct rte_mempool *mempool;
	uint32_t nap_us;
	struct rte_mbuf *burst[DPDK_BURST_MAX];
	/* cold */
	struct mdbus_arena_hdr *arena;
	const struct mdbus_line_desc *line;
	struct rte_eth_dev_info info;
	bool huge, mapped, registered;
	struct dpdk_veth veth; /* if the port is a virtual NIC, whose link comes and goes with the bridge; else interface NULL */
	void *region;          /* what of the arena is registered with DPDK */
	size_t region_len, map_step, nmapped; /* the IOMMU has been told of so many steps of it */
	uint32_t region_page;
	enum dpdk_groups groups;
	bool isolated;         /* the port delivers what its rules name and nothing else */
	uint32_t nrule;        /* flow rules in the port; 0: frames are chosen in software */
	struct mdbus_join join;
	struct rte_eth_stats seen;
	struct dpdk_xstats xstats;
	uint16_t link;         /* as last reported */
};

/* ---- backend_dpdk_eal.c ---- */
int mdbus_dpdk_eal_start(struct mdbus_dpdk *x, struct mdbus_backend_env *env);
/* The same for the feeder: ordinary pages, virtual devices only.  Once a process. */
int mdbus_dpdk_eal_start_feeder(char *err, size_t errlen);
/* From here on DPDK's warnings go to the standard error output. */
void mdbus_dpdk_eal_speak(void);
/* What DPDK said last when something failed, as ": text", or "". */
const char *mdbus_dpdk_eal_said(void);
bool mdbus_dpdk_is_pci(const char *device);

/* ---- backend_dpdk_probe.c ---- */
/* Make or find the device, and its port. */
int mdbus_dpdk_probe(struct mdbus_dpdk *x, struct mdbus_backend_env *env);

/* ---- backend_dpdk_port.c ---- */
/* One receive queue into x->mempool. */
int mdbus_dpdk_port_configure(struct mdbus_dpdk *x, struct mdbus_backend_env *env);
int mdbus_dpdk_port_start(struct mdbus_dpdk *x, struct mdbus_backend_env *env);
/* Say so when the link has gone or has come. */
void mdbus_dpdk_port_link(struct mdbus_dpdk *x);
void mdbus_dpdk_port_close(struct mdbus_dpdk *x);
/* Put what was obtained where mdbusctl shows it. */
void mdbus_dpdk_port_report(struct mdbus_dpdk *x);
/* Say what will be slow. */
void mdbus_dpdk_port_warn(const struct mdbus_dpdk *x);

/* ---- backend_dpdk_veth.c ---- */
/* What DPDK calls a virtual NIC, the number-th of this process.  -ENAMETOOLONG: the port's path is too long, or has a comma. */
int mdbus_dpdk_veth_device(const struct dpdk_veth *v, uint32_t number, char *text, size_t size);
/*
 * Start the port and have the bridge take it; a queue whose last holder has just died may be taken for a moment.  From here
 * on DPDK's interrupt thread does nothing but in the functions below.
 */
int mdbus_dpdk_veth_start(uint16_t port, const struct dpdk_veth *v, char *err, size_t errlen);
/* False: the bridge has gone.  Only the thread that polls may ask. */
bool mdbus_dpdk_veth_still_up(uint16_t port);
/* Before DPDK's environment is left. */
void mdbus_dpdk_veth_release(void);
/* About once a second, between polls: plug in again what a bridge that was restarted has let go. */
void mdbus_dpdk_veth_look(struct mdbus_dpdk *x);

/* ---- backend_dpdk_pool.c ---- */
/* Make buffers of the frames. All of them are the line's afterwards; none is lent to DPDK yet. */
int mdbus_dpdk_pool_open(struct mdbus_dpdk *x, struct mdbus_backend_env *env);
/* After the port is closed. */
void mdbus_dpdk_pool_close(struct mdbus_dpdk *x);

/* ---- backend_dpdk_feed.c ---- */
/* Before the port is configured: ask it for nothing but what rules name, if it can. */
void mdbus_dpdk_feed_isolate(struct mdbus_dpdk *x);
/* After the port has started: its groups. */
int mdbus_dpdk_feed_open(struct mdbus_dpdk *x, struct mdbus_backend_env *env);
void mdbus_dpdk_feed_close(struct mdbus_dpdk *x);

/* ---- backend_dpdk_stats.c ---- */
int mdbus_dpdk_stats_open(struct mdbus_dpdk *x);
void mdbus_dpdk_stats(struct mdbus_dpdk *x);
void mdbus_dpdk_stats_close(struct mdbus_dpdk *x);

#endif
