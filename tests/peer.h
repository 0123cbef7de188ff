/* SPDX-License-Identifier: Apache-2.0
 *
 * peer.h - one way to carry messages between two processes, as bench_peers compares them: mdbus and what else there is.
 *
 * The work is the same for all.  The sender writes each message whole, word by word, into the place that claim() gives: in
 * shared memory where the peer has such places, else in a buffer of its own.  commit() sends it.  take() returns the
 * message in memory of the receiver's own: a peer whose messages lie in shared memory copies them out.  The loops below
 * check the sequence number at head and tail.  They are compiled anew into each peer's file, with its operations inline.
 *
 * Each side of a pair is a process of its own, pinned to a core of its own.  Side 0 sends to side 1, and the other way round.
 */
#ifndef MDBUS_TESTS_PEER_H
#define MDBUS_TESTS_PEER_H

#include "bench.h"

#define PEER_LEN_MAX 2048u

struct peer_ops {
	uint8_t *(*claim)(uint32_t len);             /* where the next message is to be written; NULL: no room yet */
	bool (*commit)(uint8_t *at, uint32_t len);   /* send it, or keep it for a burst; false: no room yet */
	const uint8_t *(*take)(uint32_t len);        /* the next message; NULL: none yet */
	void (*rest)(void);                          /* between two looks, the first of which found nothing */
	void (*full)(void);                          /* between two tries to send; NULL: one pause */
	void (*flush)(void);                         /* nothing more to send or to take for now; NULL: nothing to do */
	void (*begin)(bool one_by_one);              /* messages will come at a pace, or as fast as they go; NULL: it is all the same */
};

struct peer {
	const char *name;
	const char *absent; /* why it is not there; NULL: it is */
	bool ours;          /* a ring of mdbus */
	bool bursts;        /* sends in bursts: has a rate, but no hop */
	bool threads;       /* has threads of its own, which need the core too */
	const char *(*start)(void);                 /* once, before all else; NULL or why it cannot be measured here */
	void (*stop)(void);                         /* once, in the end */
	void (*prepare)(uint32_t len);              /* before the sides are forked */
	void (*open)(unsigned side, uint32_t len);  /* in the side's process */
	void (*close)(void);
	void (*drop)(void);                         /* undoes prepare(), when the sides are gone */
	/* n messages from number base on; the receivers return how many were not what they should be */
	void (*produce)(uint32_t len, uint64_t base, uint64_t n);
	uint64_t (*consume)(uint32_t len, uint64_t base, uint64_t n);
	uint64_t (*hop)(unsigned side, uint32_t len, uint64_t base, uint64_t n, uint64_t pace, double *ticks);
};

extern const struct peer peer_mdbus, peer_mdbus_single, peer_iceoryx, peer_rte_ring, peer_rte_ring_burst, peer_rte_ring_zc,
        peer_zeromq, peer_nanomsg, peer_pipe, peer_unix;

/* Map in all pages of shared memory: a fork does not bring them, and a first touch would count as a message's time. */
static inline void peer_touch(void *at, size_t size)
{
	for (size_t i = 0; i < size; i += 4096u)
		(void)__atomic_fetch_add((uint8_t *)at + i, 0, __ATOMIC_RELAXED);
}

static inline void peer_full(const struct peer_ops *ops)
{
	if (ops->full)
		ops->full();
	else
		mdbus_pause();
}

__attribute__((always_inline)) static inline uint8_t *peer_write(const struct peer_ops *ops, uint32_t len, uint64_t pos)
{
	uint8_t *at;

	while ((at = ops->claim(len)) == NULL)
		peer_full(ops);
	bench_write(at, len, pos);
	return at;
}

__attribute__((always_inline)) static inline void peer_send(const struct peer_ops *ops, uint8_t *at, uint32_t len)
{
	while (!ops->commit(at, len))
		peer_full(ops);
}

static inline bool peer_whole(const uint8_t *message, uint32_t len, uint64_t pos)
{
	uint64_t head, tail;

	__builtin_memcpy(&head, message, 8);
	__builtin_memcpy(&tail, message + len - 8u, 8);
	return head == pos && tail == pos;
}

__attribute__((always_inline)) static inline void peer_produce(const struct peer_ops *ops, uint32_t len, uint64_t base,
                                                               uint64_t n)
{
	if (ops->begin)
		ops->begin(false);
	for (uint64_t pos = base; pos < base + n; pos++)
		peer_send(ops, peer_write(ops, len, pos), len);
	if (ops->flush)
		ops->flush();
}

__attribute__((always_inline)) static inline uint64_t peer_consume(const struct peer_ops *ops, uint32_t len, uint64_t base,
                                                                   uint64_t n)
{
	uint64_t wrong = 0;

	if (ops->begin)
		ops->begin(false);
	for (uint64_t pos = base; pos < base + n;) {
		const uint8_t *message = ops->take(len);

		if (message == NULL) {
			ops->rest();
			continue;
		}
		wrong += !peer_whole(message, len, pos);
		pos++;
	}
	if (ops->flush)
		ops->flush();
	return wrong;
}

/* Both sides call this.  Side 0 leaves half of each round trip in ticks[]. */
__attribute__((always_inline)) static inline uint64_t peer_hop(const struct peer_ops *ops, unsigned side, uint32_t len,
                                                               uint64_t base, uint64_t n, uint64_t pace, double *ticks)
{
	uint64_t due = 0, wrong = 0, begin = 0;
	const uint8_t *message;

	if (ops->begin)
		ops->begin(true);
	for (uint64_t pos = base; pos < base + n; pos++) {
		uint8_t *at = peer_write(ops, len, pos);

		if (side == 0) {
			bench_pace(&due, pace);
			begin = bench_ticks();
			peer_send(ops, at, len);
		}
		while ((message = ops->take(len)) == NULL)
			ops->rest();
		if (side == 0)
			ticks[pos - base] = (double)(bench_ticks() - begin) / 2;
		else
			peer_send(ops, at, len);
		wrong += !peer_whole(message, len, pos);
	}
	if (ops->flush)
		ops->flush();
	return wrong;
}

/* The three loops of a peer whose operations are `ops`, for its struct peer. */
#define PEER_LOOPS(ops)                                                                                         \
	static void ops##_produce(uint32_t len, uint64_t base, uint64_t n)                                      \
	{                                                                                                       \
		peer_produce(&(ops), len, base, n);                                                               \
	}                                                                                                       \
	static uint64_t ops##_consume(uint32_t len, uint64_t base, uint64_t n)                                  \
	{                                                                                                       \
		return peer_consume(&(ops), len, base, n);                                                        \
	}                                                                                                       \
	static uint64_t ops##_hop(unsigned side, uint32_t len, uint64_t base, uint64_t n, uint64_t pace, double *ticks) \
	{                                                                                                       \
		return peer_hop(&(ops), side, len, base, n, pace, ticks);                                         \
	}

#define PEER_RUNS(ops) .produce = ops##_produce, .consume = ops##_consume, .hop = ops##_hop

#endif
