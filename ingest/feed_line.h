/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_line.h - one line of the feeder: what becomes of a packet between the source and the wire.
 *
 *	source -> pack anew -> lose? -> double? -> hold back? -> skew -> transport
 *
 * Each decision about the n-th packet of a line is a pure function of (seed, line, n, kind of decision), so a run can be
 * repeated exactly, and turning duplication on does not change what is lost.  Time here is the schedule's (ns since the
 * run's start), never the clock's, so that neither does a busy machine.  One thread.
 */
#ifndef MDBUS_INGEST_FEED_LINE_H
#define MDBUS_INGEST_FEED_LINE_H

#include "feed_log.h"
#include "feed_source.h"
#include "feed_tx.h"

#define MDBUS_FEED_HOLD_NS  1000000u /* a held-back or half-packed packet waits no longer than this in a pause */
#define MDBUS_FEED_PICK_MAX 16u
#define MDBUS_FEED_NONE     UINT32_MAX

/* One --line, as given. */
struct mdbus_feed_line_spec {
	char name[32];
	char dev[128]; /* "": by route */
	uint32_t from;
	uint8_t mac[6];
	uint32_t queue;
	struct mdbus_feed_dest to; /* port 0: the capture's own destinations */
	double loss, dup, reorder; /* probabilities */
	uint32_t reorder_depth;    /* a packet held back lets 1 to this many others pass */
	uint64_t skew_ns;
	uint32_t repack;           /* messages to a packet, 0: as the source has them */
	uint32_t npick;            /* streams carried: only these destinations of the capture; 0: all */
	struct mdbus_feed_dest pick[MDBUS_FEED_PICK_MAX];
	struct mdbus_feed_dest pick_to[MDBUS_FEED_PICK_MAX]; /* where each goes, port 0: `to` */
};

struct mdbus_feed_line_stats {
	uint64_t packets, messages;           /* sent, doubles not counted */
	uint64_t lost_packets, lost_messages;
	uint64_t duplicated, reordered;
	uint64_t made_heartbeats;             /* sent by the feeder itself */
	uint64_t bytes;                       /* UDP payload */
};

struct mdbus_feed_line_config {
	const struct mdbus_feed_line_spec *spec;
	uint32_t index;        /* number of the line, its bit in line_mask */
	uint64_t seed;
	bool timed;            /* false: as fast as possible, nothing is released by time */
	const struct mdbus_layout *layout;
	uint32_t nstream;
	const uint32_t *dest;  /* per stream: destination index, or MDBUS_FEED_NONE: not carried */
	uint32_t max_payload;  /* of the source */
	struct mdbus_feed_log *log;
	const struct mdbus_feed_tx_ops *ops;
	void *tx;
};

struct mdbus_feed_line;

/* The arrays in config are copied; log and tx stay the caller's.  NULL: out of memory. */
struct mdbus_feed_line *mdbus_feed_line_open(const struct mdbus_feed_line_config *config);

/* Frees; what was not sent is not resolved in the log. */
void mdbus_feed_line_close(struct mdbus_feed_line *line);

bool mdbus_feed_line_carries(const struct mdbus_feed_line *line, uint32_t stream);

/*
 * Give the line a packet that is due at due_ns; not before one given earlier.  Its messages are records [first,
 * first + nmsg) of the log.  0 or -ENOMEM.
 */
int mdbus_feed_line_push(struct mdbus_feed_line *line, const struct mdbus_feed_packet *p, uint64_t first,
                         uint64_t due_ns);

/* Let go what has waited long enough by now_ns. Before each push and send. */
int mdbus_feed_line_advance(struct mdbus_feed_line *line, uint64_t now_ns);

/* The source is at its end: let everything go. */
int mdbus_feed_line_finish(struct mdbus_feed_line *line, uint64_t now_ns);

/*
 * Send what is due by now_ns.  Returns packets taken by the transport, or -errno.  *busy: more was due than the
 * transport would take.
 */
int mdbus_feed_line_send(struct mdbus_feed_line *line, uint64_t now_ns, bool *busy);

/* The time at which the line next has something to do by itself, UINT64_MAX: nothing. */
uint64_t mdbus_feed_line_next(const struct mdbus_feed_line *line);

const struct mdbus_feed_line_stats *mdbus_feed_line_stats(const struct mdbus_feed_line *line);

#endif
