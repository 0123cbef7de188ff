/* SPDX-License-Identifier: Apache-2.0
 *
 * seen.h - which of its last 1,024 numbers a line has carried, so that what it skipped is counted exactly.
 *
 * A number counts as skipped when the line goes past it and not any more when it comes late.  Private memory of the
 * line's process; one bit a number, a few instructions a packet.
 */
#ifndef MDBUS_SEEN_H
#define MDBUS_SEEN_H

#include <stdint.h>

#define MDBUS_SEEN_BITS 1024u

struct mdbus_seen {
	uint64_t word[MDBUS_SEEN_BITS / 64u];
};

/* Set the bits of [first, next), at most MDBUS_SEEN_BITS of them, to `on`. Returns how many had the other value. */
static inline uint64_t mdbus_seen_set(struct mdbus_seen *s, uint64_t first, uint64_t next, int on)
{
	uint64_t changed = 0;

	while (first < next) {
		uint64_t *w = &s->word[first / 64u % (MDBUS_SEEN_BITS / 64u)], at = first % 64u, n = 64u - at;

		if (n > next - first)
			n = next - first;
		uint64_t mask = (n == 64u ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1u) << at;

		changed += (uint64_t)__builtin_popcountll((on ? ~*w : *w) & mask);
		*w = on ? *w | mask : *w & ~mask;
		first += n;
	}
	return changed;
}

/* The line has gone from number `from` on to `next` and carried [first, next) of that. */
static inline void mdbus_seen_advance(struct mdbus_seen *s, uint64_t from, uint64_t first, uint64_t next)
{
	if (next - from > MDBUS_SEEN_BITS)
		from = next - MDBUS_SEEN_BITS;
	if (first < from)
		first = from;
	mdbus_seen_set(s, from, first, 0);
	mdbus_seen_set(s, first, next, 1);
}

/* [first, next) came late, behind `newest`. Returns how many of them had been skipped. */
static inline uint64_t mdbus_seen_late(struct mdbus_seen *s, uint64_t newest, uint64_t first, uint64_t next)
{
	if (next > newest)
		next = newest;
	if (newest > MDBUS_SEEN_BITS && first < newest - MDBUS_SEEN_BITS)
		first = newest - MDBUS_SEEN_BITS;
	return first < next ? mdbus_seen_set(s, first, next, 1) : 0;
}

#endif
