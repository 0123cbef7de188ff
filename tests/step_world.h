/* SPDX-License-Identifier: Apache-2.0
 *
 * step_world.h - a small bus at one moment, and what must hold when a process dies at that moment.
 *
 * A world is a bus in memory (bus_bed.h), a script of packets that its lines carry, and a snapshot of everything: the
 * shared memory and the private state of the lines.  A case brings it to the moment before an operation and keeps that; then,
 * for each instruction, the operation's process is killed and world_aftermath judges what it has left:
 *
 *   - every record in the ring is whole and the message of its position, whether a reader can get to it yet or not;
 *   - what was published before still is, or is EXPIRED if that was the operation, or lapped by a later position;
 *   - mdbusd takes the dead line back (twice: the second time there is nothing to do), and no mark of it is left;
 *   - a new process of the line finds exactly the frames in use that the ring refers to, and fills all others with other
 *     bytes, as its queue would;
 *   - the rest of the script, the packet of the moment included, comes on the other line and on the new process, in
 *     either order; a reader that has been there all the time and one that comes at the end each read
 *     every message exactly once, in order, and no gap but where no line carried a number.
 */
#ifndef TESTS_STEP_WORLD_H
#define TESTS_STEP_WORLD_H

#include "bus_bed.h"

#define WORLD_LINES   3u   /* 0: dies and comes back; 1: lives; 2: stands still, where a case says so */
#define WORLD_DEPTH   64u
#define WORLD_FRAMES  32u
#define WORLD_PACKETS 64u
#define WORLD_RECORDS 512u
#define WORLD_GAP_NS  UINT64_C(10000000)
#define WORLD_KEY_AGE_NS UINT64_C(5000000)

/* One packet of the script. */
struct world_packet {
	uint32_t session; /* 1, 2: also the salt of its messages */
	uint64_t seq;
	uint32_t count;
};

/* One record that a reader must get, in order. */
struct world_record {
	uint64_t epoch, seq;
	bool data, gap, lost, reset; /* what it may be */
};

#define WORLD_LEVELS 3u

struct world_saved;

struct world {
	struct bed bed;
	bool keyed;
	uint32_t nline;
	struct world_packet packet[WORLD_PACKETS];
	uint32_t npacket, at; /* the first `at` packets are history; packet[at] is in the victim's hands */
	struct world_record want[WORLD_RECORDS];
	uint32_t nwant;
	uint64_t now;
	struct mdbus_chunk chunk;   /* packet[at] as the victim has received it */
	uint64_t was[WORLD_DEPTH];  /* stamps at world_note */
	struct world_saved *saved[WORLD_LEVELS];
	const char *name;           /* of the case, and the instruction: for messages */
	uint64_t step, violations, judged;
};

/*
 * A bus of nline lines (1: published with plain stores) for the script w->packet.  Keyed: its numbers are keys.
 */
void world_open(struct world *w, const char *name, uint32_t nline, bool keyed);
void world_close(struct world *w);

/* Add a packet to the script. */
void world_add(struct world *w, uint32_t session, uint64_t seq, uint32_t count);

/* Let a line take packet i. */
void world_offer(struct world *w, uint32_t line, uint32_t i);

/* Packets [from, to) to both lines 0 and 1, each first in turn. */
void world_history(struct world *w, uint32_t from, uint32_t to);

/* Put packet[w->at] into a free frame of a line: its queue has received it.  w->chunk is where it lies. */
void world_receive(struct world *w, uint32_t line);

/* The script is complete: what must be read follows from it.  Then a case may allow more. */
void world_expect(struct world *w);
struct world_record *world_record(struct world *w, uint64_t epoch, uint64_t seq);

/* Position of a number in the newest generation, and that generation. */
uint64_t world_position(const struct world *w, uint64_t seq, struct mdbus_gen *g);

/* Time passes: every line that lives looks at its gaps. */
void world_tick(struct world *w, uint32_t line, uint64_t ns);

/* From here on nothing that is published now may disappear. */
void world_note(struct world *w);

/* Keep everything as it is now, and go back to that; levels are independent of each other. */
void world_save(struct world *w, uint32_t level);
void world_load(struct world *w, uint32_t level);

/* True if the shared memory is what it was at world_save of that level. */
bool world_same(const struct world *w, uint32_t level);

/* Every record of the ring, and what was there at world_note, as it must be.  Counts violations and says the first ones. */
void world_look(struct world *w);

/*
 * The process of line 0 is gone.  Judge, repair, go on to the end of the script, line 1 before the new line 0 or behind it.
 * late, if given, runs before the end: somebody wakes up.
 */
void world_aftermath(struct world *w, bool other_first, void (*late)(struct world *));

/* What a new process of line 0 does before it lends a frame to its queue. */
void world_restart(struct world *w);

#endif
