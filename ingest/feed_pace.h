/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_pace.h - when each packet is due, and how fast a late feeder may catch up.
 *
 * The schedule is absolute: message k of a rate r is due at k / r after the start, whatever happened to those before,
 * so there is no drift.  The schedule's own time follows the clock, but after a stall it returns to it in steps of at most
 * MDBUS_FEED_CATCHUP_NS and a quarter faster than real, so a lost time slice does not become one huge burst.
 */
#ifndef MDBUS_INGEST_FEED_PACE_H
#define MDBUS_INGEST_FEED_PACE_H

#include "feed_source.h"

#define MDBUS_FEED_CATCHUP_NS 300000u

enum mdbus_feed_pacing {
	MDBUS_FEED_ASAP = 0, /* as fast as the transports go */
	MDBUS_FEED_RATE,     /* evenly */
	MDBUS_FEED_BURST,    /* a mean rate, but each 100 ms starts with what `burst` times the rate gives in 1 ms, at once */
	MDBUS_FEED_FILE,     /* as captured, `speed` times as fast */
};

struct mdbus_feed_pace {
	enum mdbus_feed_pacing pacing;
	double rate;  /* messages a second */
	double burst;
	double speed;
	/* private */
	uint64_t now, seen;
};

/* When a packet is due, ns after the start. ASAP: 0. */
uint64_t mdbus_feed_pace_due(const struct mdbus_feed_pace *p, const struct mdbus_feed_when *when);

/*
 * The schedule's time at `elapsed` ns after the start; never goes back, never passes the clock.  next_due: the earliest
 * thing to do; time up to then is free to pass.
 */
uint64_t mdbus_feed_pace_now(struct mdbus_feed_pace *p, uint64_t elapsed, uint64_t next_due);

#endif
