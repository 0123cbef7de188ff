/* SPDX-License-Identifier: Apache-2.0
 *
 * readers_bed.h - a line's whole loop against up to 64 subscribers in processes of their own, which read, check and count.
 *
 * The bus is in memory, the line's loop and the subscribers' API are the real ones.  Packets of one message each are made ready
 * in the line's frames beforehand, a batch at a time, so what is timed is what a line does with them.  Subscribers that have
 * nothing to read let the next one run, as they share what cores the line leaves.
 */
#ifndef TESTS_READERS_BED_H
#define TESTS_READERS_BED_H

#include <stdbool.h>
#include <stdint.h>

#define READERS_MAX   64u
#define READERS_BATCH 64u

struct readers_plan {
	uint32_t readers;
	uint32_t batches;
	uint64_t pace_ns;  /* from one batch to the next; 0: at once */
	uint32_t pause_every; /* so many batches come at once, then none for 2 ms; 0: no pauses */
	bool mixed;        /* messages of all lengths, some longer than a slot; else of 38 bytes */
	bool sleeping;     /* subscribers with nothing to read sleep until the doorbell */
	void (*pin)(unsigned cpu); /* to which core; NULL: to none */
	void (*claim)(void); /* nobody else gets the core while messages go out; NULL: as it comes */
	void (*rest)(void);  /* and afterwards they do */
};

struct readers_result {
	double ns;           /* of the line's loop, for one message: mean of all batches but the slowest twentieth */
	uint64_t published;
	uint64_t delivered;  /* by all readers together */
	uint64_t lost;       /* as OVERRUN records told */
	uint64_t overruns;   /* such records */
	uint64_t torn;       /* messages that are not what was published */
	uint64_t miscounted; /* records that do not follow on from what was told before, or counters that say otherwise */
	uint64_t kept_up;    /* readers that lost nothing */
};

/* Publish, read, check.  Ends the program where a process fails or a reader gets no further. */
void readers_run(const struct readers_plan *plan, struct readers_result *result);

#endif
