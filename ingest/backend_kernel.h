/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_kernel.h - what the two engines of the kernel backend share: the sockets of a line, and where datagrams go.
 *
 * backend_kernel.c opens the sockets and picks an engine; an engine moves datagrams from sockets into frames.  Private
 * to backend_kernel*.c.
 */
#ifndef MDBUS_INGEST_BACKEND_KERNEL_H
#define MDBUS_INGEST_BACKEND_KERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include "backend.h"

struct kernel_socket {
	int fd;
	int32_t flow;   /* index in env->flows */
	uint32_t drops; /* the kernel's count of datagrams dropped here, as of the last stats() */
};

struct kernel_line;

struct kernel_engine {
	const char *name; /* for arena->backend */
	/* 0 or -errno: this kernel will not do, try the next engine. Leaves nothing behind then, frames included. */
	int (*start)(struct kernel_line *k);
	int (*poll)(struct kernel_line *k, struct mdbus_rx *rx, uint32_t max);
	/* Packets received and not polled yet; NULL: it cannot tell. */
	uint32_t (*waiting)(struct kernel_line *k);
	void (*refill)(struct kernel_line *k);
	void (*wait)(struct kernel_line *k, uint32_t timeout_us);
	/* Give all frames back to the pool. */
	void (*stop)(struct kernel_line *k);
};

struct kernel_line {
	const struct kernel_engine *engine;
	void *state; /* the engine's */
	struct mdbus_frames *pool;
	uint8_t *frames;
	uint32_t frame_size;
	int broken; /* -errno once the line cannot go on */
	struct mdbus_arena_hdr *arena;
	const struct mdbus_line_desc *line;
	uint32_t ifindex;
	bool senders; /* rx->src and src_port are wanted */
	struct kernel_socket *sockets;
	uint32_t nsocket;
};

static inline uint8_t *kernel_frame(const struct kernel_line *k, uint32_t frame)
{
	return k->frames + (uint64_t)frame * k->frame_size;
}

extern const struct kernel_engine mdbus_kernel_uring;
extern const struct kernel_engine mdbus_kernel_mmsg;

#endif
