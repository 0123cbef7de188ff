/* SPDX-License-Identifier: Apache-2.0
 *
 * handover.h - packets that one ingest process (the giver) has others (takers) look at, without a copy on its side.
 *
 * One ring of descriptors leads from each giver to each taker.  A taker with several givers reads several rings in turn, so
 * many-to-one is made of one-to-one: in a ring that several write to, a place has to be reserved before it is filled, and
 * who dies between leaves a hole that all others wait for.  Here nobody ever waits for anybody's next step.
 *
 *	giver's arena    head   entries handed over       floor  entries below are the giver's again     entry[]
 *	taker's arena    tail   entries done with         ready  the lease it takes under
 *
 *	         floor <= tail <= head <= floor or tail + size
 *	   ------|.......done.....|=====handed over=====|----- room
 *
 * Each word lies in the arena of the process that writes it, which no other can write to.  So a process can lie only about what
 * is its own to tell, and each is compared with what the other side knows:
 *
 *	giver: a tail beyond head, or one that goes back, bars that taker until it has another lease
 *	taker: a head more than a ring beyond the tail is no head; an entry outside the arena is not looked into
 *
 * Frames come back in the order in which they went, so the tail is the return of the frames, too, and the ring the list of
 * those that are away: a successor of the giver reads it there (mdbus_giver_init), as it reads in the channels' rings which frames
 * they refer to.
 *
 * Taking back.  A giver whose taker has died, is stopped, or has no room does not wait: it looks at all entries up to
 * head itself, then moves floor there, then uses the frames again.  It needs no leave: a taker copies a packet out of its
 * frame first, and believes the copy only if floor has not passed it since.  What both have looked at is published once, as
 * anything that comes twice.  After that nothing is given until tail has reached floor: the taker knows.  The giver never
 * looks at a packet of a taker's share while earlier ones are with the taker: the gap rule would take those for lost.
 *
 * The state when a process dies:
 *
 *	giver before head is stored     the packets not shown die with it, as those received and not published do
 *	      after                     the taker looks at them; without a taker, the giver's successor does
 *	      while it takes back       some are published; all are still handed over, or for its successor to take back
 *	      after floor is stored     all are published
 *	taker before tail is stored     the giver takes all of them back; some are published
 *	      after                     they are published, but for those it kept back while a jump was agreed on
 *	both                            tail to head stay, frames and all, for whoever comes first
 *
 * Orders: entries, then head (release); the taker's load of head (acquire), then the entries and frames.  Copies, then floor
 * (acquire fence between); floor, then frames again (release fence).  What is published, then tail (release).
 */
#ifndef MDBUS_HANDOVER_H
#define MDBUS_HANDOVER_H

#include <mdbus/lease.h>

/* ---- giver -------------------------------------------------------------------------------------------------------- */

enum mdbus_giver_state {
	MDBUS_GIVER_UP = 0,
	MDBUS_GIVER_LATE, /* the taker has not moved for too long, or does not know yet what was taken back */
	MDBUS_GIVER_DOWN, /* there is no taker, or one that is not to be believed */
};

/* The giver's end of one ring.  Private memory of its process. */
struct mdbus_giver {
	const struct mdbus_bus_hdr *dir;
	struct mdbus_hand_ring *ring;
	const struct mdbus_taker_words *taker;
	uint32_t line, to;    /* giver's and taker's */
	uint32_t size;
	uint32_t barred;      /* a lease under which nonsense was written; 0: none */
	uint64_t patience_ns; /* for so long the taker may have entries and not move */
	uint64_t head;        /* next entry; shown to the taker up to ring->head */
	uint64_t tail;        /* entries below are back */
	uint64_t floor;       /* as in the ring */
	uint64_t moved_ns;    /* when tail last moved, or there was nothing to wait for */
	uint64_t bad;         /* nonsense seen */
};

/*
 * Give from `line` to line `to`, going on where a predecessor was.  Entries [g->tail, g->head) are still away, and their frames
 * must not be used.  0, or -EINVAL: the bus directory says that there is no such ring.  Killed inside: nothing has changed.
 */
int mdbus_giver_init(struct mdbus_giver *g, const struct mdbus_bus *bus, uint32_t line, uint32_t to);

/* Entry n of [g->tail, g->head). */
static inline struct mdbus_hand_entry *mdbus_giver_entry(const struct mdbus_giver *g, uint64_t n)
{
	return &g->ring->entry[n & (g->size - 1u)];
}

/* An entry that a successor has found damaged: nobody can look into it. */
static inline void mdbus_giver_drop(const struct mdbus_giver *g, uint64_t n)
{
	mdbus_store_relaxed(&mdbus_giver_entry(g, n)->frame, UINT32_MAX);
}

static inline bool mdbus_giver_dropped(const struct mdbus_giver *g, uint64_t n)
{
	return mdbus_giver_entry(g, n)->frame == UINT32_MAX;
}

/*
 * Look at how far the taker is.  Entries from g->tail up to the value returned are done with: g->tail is for the caller to move, as
 * it frees their frames.
 */
uint64_t mdbus_giver_look(struct mdbus_giver *g, uint64_t now_ns);

/* May packets be given?  After mdbus_giver_look. */
enum mdbus_giver_state mdbus_giver_state(const struct mdbus_giver *g, uint64_t now_ns);

/* Room for so many entries. */
static inline uint32_t mdbus_giver_room(const struct mdbus_giver *g)
{
	return g->size - (uint32_t)(g->head - g->tail);
}

/* Write the next entry; there is room.  It is not shown yet.  Killed inside: nobody knows of it. */
void mdbus_giver_put(struct mdbus_giver *g, const struct mdbus_hand_entry *e);

/* Show all entries written.  True: there were new ones.  Killed inside: all of them are shown, or none. */
bool mdbus_giver_show(struct mdbus_giver *g, uint64_t now_ns);

/*
 * Entries [g->tail, g->head) were looked at here: they are the giver's again.  Their frames may be used when this returns, which
 * leaves it to the caller to go through them; g->tail = g->head is its last step.  Killed inside: they are still handed over,
 * though published, or they are not.
 */
void mdbus_giver_take_back(struct mdbus_giver *g);

/* Wake the taker if it sleeps.  A system call then. */
void mdbus_giver_wake(const struct mdbus_giver *g);

/* ---- taker ------------------------------------------------------------------------------------------------------ */

/* The taker's end of one ring.  Private memory of its process. */
struct mdbus_taker {
	const struct mdbus_hand_ring *ring; /* read-only */
	const uint8_t *arena;               /* the giver's, read-only */
	uint64_t *tail;                     /* in the own arena */
	uint32_t size;
	uint32_t nframes, frame_shift;      /* of the giver, as the bus directory says */
	uint64_t frames_off;
	uint64_t next;                      /* first entry not copied yet */
	uint64_t bad;                       /* nonsense seen */
};

/* Take what `from` hands over to `line`, going on where a predecessor was.  0 or -EINVAL: there is no such ring. */
int mdbus_taker_init(struct mdbus_taker *t, const struct mdbus_bus *bus, uint32_t line, uint32_t from);

/* How many entries wait from t->next on. */
uint32_t mdbus_taker_look(struct mdbus_taker *t);

/*
 * Copy entry n of those and its payload to `to`, which has room for a giver's frame.  False: it is not what it should be, and
 * is passed over.  What was copied is to be believed only after mdbus_taker_still.  Reads nothing outside the giver's arena.
 */
bool mdbus_taker_copy(struct mdbus_taker *t, uint64_t n, struct mdbus_hand_entry *e, uint8_t *to);

/* Have the payload of entry n come into the cache, if there is one. */
static inline void mdbus_taker_prefetch(const struct mdbus_taker *t, uint64_t n)
{
	const struct mdbus_hand_entry *e = &t->ring->entry[n & (t->size - 1u)];
	uint32_t frame = mdbus_load_relaxed(&e->frame), off = mdbus_load_relaxed(&e->off);

	if (frame < t->nframes && off < 1u << t->frame_shift)
		__builtin_prefetch(t->arena + t->frames_off + ((uint64_t)frame << t->frame_shift) + off);
}

/* Entries below the value returned were taken back, and copies of them made before this call may be anything. */
uint64_t mdbus_taker_still(const struct mdbus_taker *t);

/* Everything below t->next is published, or not this line's to publish.  Killed before: it is done again, by the giver. */
void mdbus_taker_done(struct mdbus_taker *t);

/* Say under which lease entries are taken; 0: none any more.  Killed inside: said or not, of a lease that ends with the process. */
void mdbus_taker_ready(const struct mdbus_bus *bus, uint32_t lease);

/*
 * Sleep until there is something in one of n rings, at most timeout_us.  Killed inside: the giver still thinks that it must wake
 * somebody, which costs it a system call now and then while there is no successor.
 */
void mdbus_taker_wait(const struct mdbus_bus *bus, const struct mdbus_taker *t, uint32_t n, uint32_t timeout_us);

#endif
