/* SPDX-License-Identifier: Apache-2.0
 *
 * ready_packets.h - a backend whose packets the test has put into the line's frames: each poll takes all that are ready.
 */
#ifndef TESTS_READY_PACKETS_H
#define TESTS_READY_PACKETS_H

#include <string.h>
#include "../ingest/line.h"
#include "guard.h"

#define READY_MAX 64u

/* What each line is to take next. */
static struct ready_packets {
	struct mdbus_rx rx[READY_MAX];
	uint32_t n;
} ready[MDBUS_LINES_MAX];

static inline void *ready_open(struct mdbus_backend_env *env)
{
	return &ready[env->bus->index];
}

static inline int ready_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct ready_packets *p = self;
	uint32_t n = p->n;

	CHECK(n <= max);
	memcpy(rx, p->rx, n * sizeof(*rx));
	p->n = 0;
	return (int)n;
}

static inline void ready_nothing(void *self)
{
	(void)self;
}

static inline void ready_wait(void *self, uint32_t timeout_us)
{
	(void)self, (void)timeout_us;
}

static const struct mdbus_backend_ops ready_ops = {
	.name = "ready", .open = ready_open, .poll = ready_poll, .refill = ready_nothing,
	.wait = ready_wait, .stats = ready_nothing, .close = ready_nothing,
};

#endif
