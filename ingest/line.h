/* SPDX-License-Identifier: Apache-2.0
 *
 * line.h - one line's process: from the backend's packets to the channels' rings, round and round.
 *
 * The loop takes a batch of packets, finds each one's channel, lets the channel publish its messages, returns the frames that
 * nothing refers to, moves open gaps on, and rings for sleeping subscribers.  One thread; the only system calls are those of
 * the backend (none for a spinning AF_XDP queue), the doorbell's, and a look at the queue's counters once a second.
 */
#ifndef MDBUS_INGEST_LINE_H
#define MDBUS_INGEST_LINE_H

#include <mdbus/lease.h>
#include "../bus/channel.h"
#include "backend.h"
#include "flow_map.h"
#include "stock.h"

#define MDBUS_BATCH_MAX 1024u

struct mdbus_balance;

struct mdbus_line {
	struct mdbus_bus bus;
	struct mdbus_line_desc desc; /* a copy */
	uint32_t index;
	struct mdbus_arena_hdr *arena;
	uint8_t *frames;
	struct mdbus_holds holds;
	struct mdbus_stock stock;
	struct mdbus_flow_map map;
	struct mdbus_channel *channel; /* by channel number; only those of this line are set up */
	const struct mdbus_ring **ring; /* by channel number */
	uint32_t *open;                /* channels with an open gap or session end */
	uint32_t nopen;
	bool *is_open;
	uint32_t *mine; /* numbers of this line's channels */
	uint32_t nmine;
	uint32_t turn;  /* which of `mine` is ticked next though nothing seems to be open */
	const struct mdbus_backend_ops *ops;
	void *backend;
	struct mdbus_rx *rx;
	void (*take)(struct mdbus_line *l, uint32_t n, uint64_t now); /* n packets of rx into their channels */
	struct mdbus_balance *balance; /* NULL: no packets are handed over (balance.h) */
	bool bell_due;
	uint64_t bell_ns;
	uint64_t emptied_ns; /* when the backend last had less than was asked for */
	uint64_t stats_ns;
	uint32_t idle;
	uint32_t last; /* channel of the last packet */
	uint32_t warm; /* what is warmed next of its next slot, 0: nothing (mdbus_channel_warm) */
	char error[512];
};

/*
 * Attach to the bus as line `name`, recover the arena, open the backend.  0, or -errno with l->error saying why and what to
 * do; then everything is given back.  Killed inside: mdbusd takes the lease back.
 */
int mdbus_line_open(struct mdbus_line *l, const char *bus, const char *name);

/*
 * The same on a bus that is attached already, with l->ops if that is set; all else is zero.  For tests, which stop it by
 * mdbus_line_stop, on failure too.
 */
int mdbus_line_start(struct mdbus_line *l);
void mdbus_line_stop(struct mdbus_line *l);

/* One round of the loop: packets taken, or -ENODATA at the end of a file, -errno if the queue is broken. */
int mdbus_line_round(struct mdbus_line *l);

/* The source has ended: publish what is kept back and wait, at most `timeout_ns`, until no gap is open. */
void mdbus_line_drain(struct mdbus_line *l, uint64_t timeout_ns);

void mdbus_line_close(struct mdbus_line *l);

#endif
