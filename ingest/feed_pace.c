/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_pace.c - the schedule; see feed_pace.h.
 */
#include "feed_pace.h"

#define PERIOD_NS 100000000.0
#define BURST_NS  1000000.0

static uint64_t burst_due(const struct mdbus_feed_pace *p, uint64_t message)
{
	double period = p->rate * (PERIOD_NS / 1e9);        /* messages in 100 ms */
	double burst = p->burst * p->rate * (BURST_NS / 1e9); /* of them at once */
	uint64_t k = (uint64_t)((double)message / period);
	double i = (double)message - (double)k * period, at;

	if (burst > period)
		burst = period;
	at = i < burst ? 0.0 : BURST_NS + (i - burst) / (period - burst) * (PERIOD_NS - BURST_NS);
	return (uint64_t)((double)k * PERIOD_NS + at);
}

uint64_t mdbus_feed_pace_due(const struct mdbus_feed_pace *p, const struct mdbus_feed_when *when)
{
	switch (p->pacing) {
	case MDBUS_FEED_RATE:
		return (uint64_t)((double)when->message * 1e9 / p->rate);
	case MDBUS_FEED_BURST:
		return burst_due(p, when->message);
	case MDBUS_FEED_FILE:
		return (uint64_t)((double)when->ts_ns / p->speed);
	default:
		return 0;
	}
}

uint64_t mdbus_feed_pace_now(struct mdbus_feed_pace *p, uint64_t elapsed, uint64_t next_due)
{
	uint64_t step = elapsed - p->seen, now;

	step += step / 4;
	if (step > MDBUS_FEED_CATCHUP_NS)
		step = MDBUS_FEED_CATCHUP_NS;
	now = p->now + step > next_due ? p->now + step : next_due;
	p->seen = elapsed;
	p->now = now < elapsed ? now : elapsed;
	return p->now;
}
