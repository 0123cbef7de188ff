/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_track.h - where a capture's packet stands in its stream's numbering.
 *
 * The feeder's log is the truth that a bus is tested against, so it must tell by itself where a source starts its numbers
 * again.  Unlike a bus it reads the whole file in order, and can afford to remember what it has seen: a number that goes back is
 * a repetition if that message was seen, a late one if its number was passed over a short while ago, else a restart.
 */
#ifndef MDBUS_INGEST_FEED_TRACK_H
#define MDBUS_INGEST_FEED_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#define MDBUS_FEED_TRACK_SEEN 1024u /* messages remembered, a power of two */

struct mdbus_feed_track {
	bool begun;
	bool wrapped; /* the greatest number was sent: what follows starts again */
	uint32_t epoch;
	uint64_t session, session_no;
	uint64_t next;
	struct {
		uint64_t seq, hash;
		uint32_t epoch;
	} seen[MDBUS_FEED_TRACK_SEEN];
};

enum mdbus_feed_step {
	MDBUS_FEED_STEP_ON = 0,  /* the numbers go on, perhaps after a gap */
	MDBUS_FEED_STEP_RESTART, /* a new session, or numbers start again: the first packet of the next epoch */
	MDBUS_FEED_STEP_REPEAT,  /* messages of this epoch, again or late */
};

/*
 * A packet whose numbers are [first, next); first == next for a heartbeat.  hash is of its first message.  Moves the
 * tracker and says how.  The first packet of a stream is a restart to epoch 1.
 */
enum mdbus_feed_step mdbus_feed_track_step(struct mdbus_feed_track *t, uint64_t session, uint64_t first, uint64_t next,
                                           uint64_t hash);

#endif
