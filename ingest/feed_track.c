/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_track.c - restart, repetition or late: see feed_track.h.
 *
 * Only the first message of a packet is remembered.  Numbers 0 and 1 are where feeds start, so going back to them is a
 * restart unless that very message was seen and the stream has hardly begun.
 */
#include "feed_track.h"

static bool goes_back_harmlessly(const struct mdbus_feed_track *t, uint64_t first, bool heartbeat, uint64_t hash)
{
	unsigned i = (unsigned)(first % MDBUS_FEED_TRACK_SEEN);
	bool known = t->seen[i].epoch == t->epoch && t->seen[i].seq == first;

	if (t->next - first >= MDBUS_FEED_TRACK_SEEN)
		return false;
	if (heartbeat)
		return first > 1;
	return known ? t->seen[i].hash == hash : first > 1;
}

static enum mdbus_feed_step restart(struct mdbus_feed_track *t, uint64_t session, uint64_t next)
{
	t->session_no += !t->begun || session != t->session;
	t->begun = true;
	t->wrapped = false;
	t->session = session;
	t->epoch++;
	t->next = next;
	return MDBUS_FEED_STEP_RESTART;
}

enum mdbus_feed_step mdbus_feed_track_step(struct mdbus_feed_track *t, uint64_t session, uint64_t first, uint64_t next,
                                           uint64_t hash)
{
	unsigned i = (unsigned)(first % MDBUS_FEED_TRACK_SEEN);
	enum mdbus_feed_step step = MDBUS_FEED_STEP_ON;

	if (!t->begun || session != t->session || t->wrapped)
		step = restart(t, session, next);
	else if (first < t->next && goes_back_harmlessly(t, first, first == next, hash))
		return MDBUS_FEED_STEP_REPEAT;
	else if (first < t->next)
		step = restart(t, session, next);
	else
		t->next = next;
	t->wrapped = next < first;
	if (first != next) {
		t->seen[i].seq = first;
		t->seen[i].hash = hash;
		t->seen[i].epoch = t->epoch;
	}
	return step;
}
