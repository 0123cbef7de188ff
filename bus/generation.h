/* SPDX-License-Identifier: Apache-2.0
 *
 * generation.h - the generations of a channel: which sequence number stands at which position.
 *
 * A generation maps numbers to positions: pos = base + (seq - first_seq).  The first line that has seen a new session, a
 * restart or an agreed jump opens the next generation by one compare-and-swap in the ring's table; lines that
 * come later find it there.  Its base lies beyond everything the old generation may still use, so both can be published
 * at once: a fast line goes ahead in the new one while the slow line still brings the tail of the old one.  When
 * all live lines have left the old generation (or the gap timeout has passed) its end record is placed and `closed` is
 * set; readers walk through that record into the next one.
 */
#ifndef MDBUS_GENERATION_H
#define MDBUS_GENERATION_H

#include <mdbus/abi.h>
#include <stdbool.h>

struct mdbus_gen {
	uint64_t gen;       /* 1, 2, ... */
	uint64_t base;      /* position of first_seq */
	uint64_t first_seq;
	uint32_t flags;     /* MDBUS_GEN_* */
	uint32_t session;   /* folded session hash, see mdbus_gen_session */
	/* valid after mdbus_gen_account: */
	uint64_t skipped;   /* positions below base that no record ever used */
	uint64_t epoch;     /* as users see it */
};

/* The 18 bits of a session hash that the table keeps. */
uint32_t mdbus_gen_session(uint64_t session_hash);

/* True and *out filled in if generation gen is open and still in the table.  Any process, read-only mapping. */
bool mdbus_gen_get(const struct mdbus_ring_hdr *r, uint64_t gen, struct mdbus_gen *out);

/* True if generation gen is closed; *end gets the position of its last record. Any process. */
bool mdbus_gen_end(const struct mdbus_ring_hdr *r, uint64_t gen, uint64_t *end);

/* Fill in g->skipped and g->epoch.  False while the generation before is not closed, or has left the table. */
bool mdbus_gen_account(const struct mdbus_ring_hdr *r, struct mdbus_gen *g);

/* The newest open generation, 0: none yet. Any process. */
uint64_t mdbus_gen_newest(const struct mdbus_ring_hdr *r);

/* The generation that position pos lies in.  False: before the oldest one in the table, or none is open. */
bool mdbus_gen_find(const struct mdbus_ring_hdr *r, uint64_t pos, struct mdbus_gen *out);

/*
 * Open generation g->gen as *g says unless another line already has; *g is what stands in the table afterwards.
 * 0; -ESTALE if the table has gone on beyond it (this process was stopped for long: go by mdbus_gen_newest);
 * -EPROTO if the entry is of no generation that can be there (damaged memory).  Lines only.
 * Killed inside: the generation is open or not; the hint `gen` may lag by one, which every reader of it allows for.
 */
int mdbus_gen_open(struct mdbus_ring_hdr *r, struct mdbus_gen *g);

/*
 * Record that generation gen ended with the record at pos end.  Done by everyone who passes that record, with the same
 * values.  Lines and mdbusd.  Killed inside: set or not; the next one to pass sets it.
 */
void mdbus_gen_close(struct mdbus_ring_hdr *r, uint64_t gen, uint64_t end);

#endif
