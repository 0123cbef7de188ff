/* SPDX-License-Identifier: Apache-2.0
 *
 * backend.h - what a way of receiving packets must do, so that arbitration is written once.
 *
 * A backend receives into the frames of the line's arena and hands over frames.  A frame number belongs to exactly one
 * of: the free list (frames.h), the backend (lent to the NIC or kernel), the packet batch being worked on, or the
 * ring (some slot refers to it).  All calls come from the ingest process's one thread.
 */
#ifndef MDBUS_INGEST_BACKEND_H
#define MDBUS_INGEST_BACKEND_H

#include <mdbus/abi.h>
#include <stdbool.h>
#include <stddef.h>
#include "frames.h"

/* One packet, whole in a frame of the arena. */
struct mdbus_rx {
	uint32_t frame; /* frame number */
	uint32_t off;   /* of the first byte, from the start of the frame; at least MDBUS_FRAME_META */
	uint32_t len;   /* bytes */
	int32_t flow;   /* >= 0: off/len is a UDP payload of that flow (flows[]); -1: an Ethernet frame, to be parsed */
	uint64_t wire_ns; /* hardware or driver timestamp, 0: none */
	union {
		struct { /* of a UDP payload, if env->senders: where it came from */
			uint32_t src;      /* network byte order */
			uint16_t src_port; /* host byte order */
		};
		uint64_t rx_ns; /* of a packet handed over: when the line that has the queue took it */
	};
};

/* One (address, port) that the line receives. */
struct mdbus_flow {
	uint32_t addr;   /* network byte order */
	uint32_t source; /* network byte order, 0: any */
	uint16_t port;   /* host byte order */
};

struct mdbus_bus;
struct mdbus_channel;

struct mdbus_backend_env {
	const struct mdbus_line_desc *line;
	struct mdbus_arena_hdr *arena; /* own arena, mapped read-write */
	uint8_t *frames;               /* = (uint8_t *)arena + arena->frames_off */
	struct mdbus_frames *pool;     /* free frames of the arena */
	const struct mdbus_flow *flows;
	uint32_t nflow;
	/* for a backend that has to know what is missing: */
	const struct mdbus_bus *bus;
	struct mdbus_channel *channel; /* by channel number; only those of this line are set up */
	bool senders; /* the line wants to know where UDP payloads come from */
	const char *run_dir; /* where a backend may have files while it starts */
	char error[512]; /* why open failed and what to do about it */
};

struct mdbus_backend_ops {
	const char *name;
	/*
	 * Take the queue, join the groups, lend free frames.  Fills arena->backend with what was obtained
	 * ("af_xdp native copy").  Returns NULL with env->error set.  A queue just released by a killed process may still be
	 * busy: retries EBUSY for up to three seconds.
	 */
	void *(*open)(struct mdbus_backend_env *env);
	/*
	 * Up to max packets; 0: none now; -errno: the line is broken; -ENODATA: the file is at its end.  No system call if
	 * it can.
	 */
	int (*poll)(void *self, struct mdbus_rx *rx, uint32_t max);
	/* Packets received and not polled yet, or NULL: it cannot tell.  Cheap. */
	uint32_t (*waiting)(void *self);
	/* Lend frames from the pool back to the queue, as many as it wants. After each batch. */
	void (*refill)(void *self);
	/* Sleep until a packet may be there or timeout_us passed. */
	void (*wait)(void *self, uint32_t timeout_us);
	/* Refresh arena->count.nic_dropped, ring_full, fill_empty. About once a second. */
	void (*stats)(void *self);
	/* Give everything back. */
	void (*close)(void *self);
};

extern const struct mdbus_backend_ops mdbus_backend_af_xdp; /* only when built with libxdp */
extern const struct mdbus_backend_ops mdbus_backend_kernel;
extern const struct mdbus_backend_ops mdbus_backend_pcap;
extern const struct mdbus_backend_ops mdbus_backend_recover;
extern const struct mdbus_backend_ops mdbus_backend_handed;
/* "dpdk" is in a shared object of its own: see dpdk_load.h. */

#endif
