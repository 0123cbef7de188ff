/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_xdp_prog.h - the XDP program of an interface: put there by the first process, shared by those of its other queues.
 *
 * The program hangs on its interface by a link.  The first process makes it; every later one finds it by the interface and
 * holds it too, so program and maps live exactly as long as any of them does.  Nothing is pinned and nothing is attached
 * by netlink: however the processes end, with the last of them the kernel takes the program off the interface.
 */
#ifndef MDBUS_INGEST_BACKEND_XDP_PROG_H
#define MDBUS_INGEST_BACKEND_XDP_PROG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "backend.h"
#include "line_xdp.h"

/* Descriptors are -1 where there is none. */
struct mdbus_xdp_prog {
	int link;
	int prog;
	int flows, sockets, counts, early, windows; /* maps */
	bool native;    /* runs in the driver; else on the kernel's packet buffers */
	bool owns;      /* the entries of `queue` are this process's */
	uint32_t queue;
};

/* Nothing loaded, nothing attached. */
void mdbus_xdp_prog_init(struct mdbus_xdp_prog *prog);

/*
 * Load a program, on no interface.  Returns 0, or -errno with a reason in err: -EPERM names the capabilities missing.
 */
int mdbus_xdp_prog_load(struct mdbus_xdp_prog *prog, char *err, size_t errlen);

/*
 * Hold the program of this interface: the one that is there if another mdbus-ingest put it there, else a new one.  mode "native",
 * "skb", or "auto" (what is there, or native if the driver can).  The program of a process just killed may be there for some
 * milliseconds, and two processes may start at once: tries until deadline_ns (CLOCK_MONOTONIC).  Returns 0, or -errno
 * with a reason in err: -EBUSY a program of somebody else is there, or one in another mode.  Killed inside: nothing is left.
 */
int mdbus_xdp_prog_attach(struct mdbus_xdp_prog *prog, const char *name, uint32_t ifindex, const char *mode,
                          uint64_t deadline_ns, char *err, size_t errlen);

/*
 * Let packets of these flows that come on `queue` go to xsk, the AF_XDP socket bound to it, from now on.  What an earlier process
 * of the queue left is removed first.  Returns 0, or -errno with a reason in err.  Killed inside: packets of the queue take
 * the kernel's path, and the next process of the queue removes the entries.
 */
int mdbus_xdp_prog_start(struct mdbus_xdp_prog *prog, uint32_t queue, const struct mdbus_flow *flows, uint32_t nflow,
                         int xsk, char *err, size_t errlen);

/* From the next mdbus_xdp_prog_start on, `early` (an array of line_xdp_early) says what may be dropped. -1: nothing. 0 or -errno. */
int mdbus_xdp_prog_early(const struct mdbus_xdp_prog *prog, uint32_t queue, int early);

/* The same: `window` (an array of one line_xdp_window) holds the keys of the queue's flows without an order. */
int mdbus_xdp_prog_window(const struct mdbus_xdp_prog *prog, uint32_t queue, int window);

/* What was left to the kernel since the program was loaded, as the line of prog->queue counts it. Returns 0 or -errno. */
int mdbus_xdp_prog_counts(const struct mdbus_xdp_prog *prog, uint64_t counts[LINE_XDP_COUNTS]);

/*
 * Remove the flows of this process and let go of the program.  To be called while the socket still has the queue.  Harmless on a
 * structure that mdbus_xdp_prog_init has set up, whatever became of it.
 */
void mdbus_xdp_prog_close(struct mdbus_xdp_prog *prog);

/* The capabilities that AF_XDP needs and this process lacks, for messages: ", missing CAP_NET_RAW". Returns buf. */
const char *mdbus_xdp_missing(char *buf, size_t len);

#endif
