/* SPDX-License-Identifier: Apache-2.0
 *
 * balance.h - spreading the packets of one queue over several processes, by flow.
 *
 * Where a card cannot, the process that has the queue hashes each packet of the feed as a card would (rss.h).  Share 0 is its own;
 * the others belong to the lines that are handed packets by this one, in the order of the configuration.  A packet
 * of theirs stays in its frame, and a descriptor goes to that line's process (bus/handover.h), which copies the payload and
 * publishes it.
 *
 * Nothing is lost by that.  If the other process is not there, has no room, or has not moved for a quarter of the shortest gap
 * timeout, all that it was handed and has not done is looked at here first, and then the packet itself: in the order in which
 * they came, since the gap rule takes what was passed over for lost.  Arbitration drops what comes twice.
 *
 * Private memory of the ingest process.
 */
#ifndef MDBUS_INGEST_BALANCE_H
#define MDBUS_INGEST_BALANCE_H

#include "line.h"

/* The giving side of line l, which has its directory, arena and map.  NULL: no memory, or the directory is damaged. */
struct mdbus_balance *mdbus_balance_open(struct mdbus_line *l);

/* Frames that a predecessor has handed over and that are still away have one reason more to be kept.  After l->holds is set up. */
void mdbus_balance_recover(struct mdbus_line *l);

/* n packets of l->rx: each is handed over or taken.  As l->take. */
void mdbus_balance_take(struct mdbus_line *l, uint32_t n, uint64_t now);

/* Once a round: frames that come back, takers that have died or do not move.  idle: nothing was received. */
void mdbus_balance_round(struct mdbus_line *l, uint64_t now, bool idle);

/* Nothing will be received any more: look at all that is still with others. */
void mdbus_balance_end(struct mdbus_line *l, uint64_t now);

/* What is with others stays with them.  NULL is fine. */
void mdbus_balance_close(struct mdbus_balance *b);

#endif
