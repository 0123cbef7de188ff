/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_xdp_prog.h - a line's XDP program: loaded, told the flows, put on the interface, taken off.
 *
 * The program hangs on its interface by a link that only this process's descriptor holds.  Nothing is pinned and
 * nothing is attached by netlink, so however the process ends, the kernel takes the program off the interface.
 */
#ifndef MDBUS_INGEST_BACKEND_XDP_PROG_H
#define MDBUS_INGEST_BACKEND_XDP_PROG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "backend.h"
#include "line_xdp.h"

struct line_xdp; /* the generated skeleton */

struct mdbus_xdp_prog {
	struct line_xdp *skel; /* NULL: not loaded */
	int link;              /* -1: not attached */
	bool native;           /* runs in the driver; else on the kernel's packet buffers */
	uint64_t *percpu;      /* room for one counter of every possible core */
	uint32_t ncpu;
};

/*
 * Load the program for one queue and its flows.  Returns 0, or -errno with a reason in err: -EPERM names the
 * capabilities missing.
 */
int mdbus_xdp_prog_load(struct mdbus_xdp_prog *prog, uint32_t queue, const struct mdbus_flow *flows, uint32_t nflow,
                        char *err, size_t errlen);

/*
 * Put it on the interface: mode "native", "skb", or "auto" (native if the driver can).  The place of a program whose
 * process was just killed may be taken for some milliseconds: tries until deadline_ns (CLOCK_MONOTONIC).  Returns 0, or
 * -errno with a reason in err: -EBUSY another program is there.
 */
int mdbus_xdp_prog_attach(struct mdbus_xdp_prog *prog, const char *name, uint32_t ifindex, const char *mode,
                          uint64_t deadline_ns, char *err, size_t errlen);

/* Let feed packets go to this AF_XDP socket from now on. Returns 0 or -errno. */
int mdbus_xdp_prog_start(struct mdbus_xdp_prog *prog, int xsk);

/* What was left to the kernel since the program was loaded, summed over all cores. Returns 0 or -errno. */
int mdbus_xdp_prog_counts(struct mdbus_xdp_prog *prog, uint64_t counts[LINE_XDP_COUNTS]);

/* Descriptor of the loaded program, for tests. */
int mdbus_xdp_prog_fd(const struct mdbus_xdp_prog *prog);

/* Take it off and unload it. Harmless on a structure that mdbus_xdp_prog_load has set up, whatever became of it. */
void mdbus_xdp_prog_close(struct mdbus_xdp_prog *prog);

/* The capabilities that AF_XDP needs and this process lacks, for messages: ", missing CAP_NET_RAW". Returns buf. */
const char *mdbus_xdp_missing(char *buf, size_t len);

#endif
