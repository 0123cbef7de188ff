/* SPDX-License-Identifier: Apache-2.0
 *
 * recover_ask.h - which numbers to ask a request server for, and when.
 *
 * Holes go in, requests come out.  A number is asked for once, and again only when its request has been silent for
 * the retry time, which doubles as long as nothing is heard; when not a single answer came since, the next server of
 * the list is asked.  An answer that stops short of what was asked for leaves the rest to be asked for at once.
 * Requests of all channels of a line share one rate.  Clock and socket are the caller's, so a test can be both;
 * private memory, one thread.
 */
#ifndef MDBUS_INGEST_RECOVER_ASK_H
#define MDBUS_INGEST_RECOVER_ASK_H

#include <stdbool.h>
#include <stdint.h>

#define MDBUS_HOLE_APART   8u /* numbers between two holes that are asked for as one */
#define MDBUS_ASK_OPEN_MAX 64u /* requests of one channel that wait for their answer */
#define MDBUS_ASK_BURST_NS 10000000u /* what this long allows may go out at once */

/* Numbers [first, next). */
struct mdbus_hole {
	uint64_t first, next;
};

struct mdbus_ask_limits {
	uint32_t rate;    /* requests a second, at least 1 */
	uint32_t max;     /* messages asked for at once, 1 to MDBUS_MOLD_COUNT_MAX */
	uint64_t retry_ns, backoff_max_ns;
	uint32_t nserver; /* at least 1 */
	uint64_t due_ns;  /* when the rate would be used up no more; 0 at first */
};

struct mdbus_ask_counts {
	uint64_t sent, repeated; /* requests; of those, for want of an answer */
	uint64_t answers, refused;
};

struct mdbus_ask_open {
	uint64_t first, next; /* still to come of it */
	uint64_t sent_ns;
	uint64_t again_ns;    /* to be asked for again from then on */
	uint32_t tries;       /* how often nothing came */
	bool rest;            /* it was answered in part: asking on is no repetition */
};

/* One channel. Zeroed, then the first four set. */
struct mdbus_ask {
	struct mdbus_ask_limits *limits; /* one for the line */
	struct mdbus_ask_counts *counts; /* one for the line */
	/* Send a request to server number `server`.  What cannot be sent is lost, like a packet. */
	void (*send)(void *arg, uint32_t server, uint64_t first, uint16_t count);
	void *arg;
	uint32_t server;
	uint64_t server_ns; /* when it became the one to ask */
	uint64_t heard_ns;  /* when the last answer came */
	uint32_t nopen;
	struct mdbus_ask_open open[MDBUS_ASK_OPEN_MAX];
};

/*
 * Number seq is missing, too; those before it were added before.  A hole so near to the last one that asking for both
 * at once is cheaper becomes one with it.  False: it would be one more than max.
 */
bool mdbus_hole_add(struct mdbus_hole *holes, uint32_t *n, uint32_t max, uint64_t seq);

/* These are the holes now, sorted: send what is due, as far as the rate allows. */
void mdbus_ask_tick(struct mdbus_ask *a, const struct mdbus_hole *holes, uint32_t n, uint64_t now_ns);

/* Messages [first, first + count) have come.  False: nobody asked for them; they are not to be believed. */
bool mdbus_ask_answer(struct mdbus_ask *a, uint64_t first, uint32_t count, uint64_t now_ns);

/* The numbers mean something else from now on: forget what was asked. */
void mdbus_ask_forget(struct mdbus_ask *a);

#endif
