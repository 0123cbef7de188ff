/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_rte_ring - DPDK's ring, one producer and one consumer, in memory shared by two processes; it needs no EAL for that.
 *
 * Three ways.  "1": pointers to buffers, one at a time, which is what a pipeline of DPDK stages with low latency does.  "32": the
 * same in bursts of 32, which is how its users get their rates.  "zc 32": the messages themselves are the elements of the
 * ring, written and read in place (rte_ring_peek_zc.h), in bursts of 32; without bursts for the hop.  Buffers are used round
 * robin, which is cheaper than the pool that a DPDK program would have.  The depths are those that were best here: a small
 * ring stays in the first cache, and in a very large one the receiver falls so far behind that the caches stream.
 */
#include "peer.h"

#ifdef PEER_HAVE_DPDK
#include <rte_ring.h>
#include <rte_ring_peek_zc.h>

#define BURST     32u
#define DEPTH_MAX 16384u

enum way { ONE, MANY, PLACE, WAYS };

static struct rings {
	struct rte_ring *ring[2]; /* [side]: the one it sends to */
	uint8_t *buffers[2];
	size_t ring_size, stride;
	uint32_t depth;
} rings[WAYS];

static struct rte_ring *from, *to;
static uint8_t *buffers;
static size_t stride;
static uint32_t depth;
static uint64_t sending;
static void *outgoing[BURST], *incoming[BURST];
static struct rte_ring_zc_data writing, reading;
static unsigned nout, nin, in_next, room, burst; /* room: places claimed in the ring */
static uint8_t buffer[PEER_LEN_MAX] __attribute__((aligned(64)));

static uint32_t best_depth(enum way w, uint32_t len)
{
	if (w == ONE)
		return 64;
	if (len > 64u)
		return DEPTH_MAX;
	return w == MANY ? 64 : 256;
}

static void prepare_way(enum way w, uint32_t len)
{
	struct rings *r = &rings[w];
	uint32_t n = best_depth(w, len);
	ssize_t size = rte_ring_get_memsize_elem(w == PLACE ? len : (uint32_t)sizeof(void *), n);

	BED_CHECK(size > 0, "rte_ring: no ring of %u elements of %u bytes", n, len);
	r->depth = n;
	r->ring_size = (size_t)size;
	r->stride = ((len + 63u) & ~63u) | 64u; /* an odd number of lines, as a mempool spreads them */
	for (unsigned i = 0; i < 2; i++) {
		r->ring[i] = bed_shared(r->ring_size);
		r->buffers[i] = bed_shared(r->stride * 2u * n);
		rte_ring_init(r->ring[i], "peer", n, RING_F_SP_ENQ | RING_F_SC_DEQ);
	}
}

static void drop_way(enum way w)
{
	for (unsigned i = 0; i < 2; i++) {
		munmap(rings[w].ring[i], rings[w].ring_size);
		munmap(rings[w].buffers[i], rings[w].stride * 2u * rings[w].depth);
	}
}

static void open_way(enum way w, unsigned side)
{
	to = rings[w].ring[side];
	from = rings[w].ring[side ^ 1u];
	buffers = rings[w].buffers[side];
	stride = rings[w].stride;
	depth = rings[w].depth;
	sending = 0;
	nout = nin = in_next = room = 0;
	for (unsigned i = 0; i < 2; i++) {
		peer_touch(rings[w].ring[i], rings[w].ring_size);
		peer_touch(rings[w].buffers[i], stride * 2u * depth);
	}
}

static inline void rest(void)
{
	mdbus_pause();
}

/* ---- pointers to buffers ----------------------------------------------------------------------------------------- */

/* Twice as many buffers as the ring has places: the receiver still copies from those that it has just taken. */
static inline uint8_t *claim_buffer(uint32_t len)
{
	(void)len;
	return buffers + (sending & (2u * depth - 1u)) * stride;
}

static inline bool commit_one(uint8_t *at, uint32_t len)
{
	(void)len;
	if (rte_ring_sp_enqueue(to, at) != 0)
		return false;
	sending++;
	return true;
}

static inline const uint8_t *take_one(uint32_t len)
{
	void *at;

	if (rte_ring_sc_dequeue(from, &at) != 0)
		return NULL;
	mdbus_copy(buffer, at, len);
	return buffer;
}

static inline bool send_burst(void)
{
	return rte_ring_sp_enqueue_bulk(to, outgoing, nout, NULL) == nout;
}

static inline bool commit_many(uint8_t *at, uint32_t len)
{
	(void)len;
	outgoing[nout] = at;
	if (nout + 1u == BURST) {
		nout++;
		if (!send_burst()) {
			nout--;
			return false;
		}
		nout = 0;
	} else {
		nout++;
	}
	sending++;
	return true;
}

static inline const uint8_t *take_many(uint32_t len)
{
	if (in_next == nin) {
		nin = rte_ring_sc_dequeue_burst(from, incoming, BURST, NULL);
		in_next = 0;
		if (nin == 0)
			return NULL;
	}
	mdbus_copy(buffer, incoming[in_next++], len);
	return buffer;
}

static void flush_many(void)
{
	while (nout > 0 && !send_burst())
		mdbus_pause();
	nout = 0;
}

/* ---- messages in the ring itself --------------------------------------------------------------------------------- */

static inline uint8_t *place_of(const struct rte_ring_zc_data *d, unsigned i, uint32_t len)
{
	return i < d->n1 ? (uint8_t *)d->ptr1 + (size_t)i * len : (uint8_t *)d->ptr2 + (size_t)(i - d->n1) * len;
}

static inline uint8_t *claim_place(uint32_t len)
{
	if (room == 0) {
		room = rte_ring_enqueue_zc_burst_elem_start(to, len, burst, &writing, NULL);
		nout = 0;
		if (room == 0)
			return NULL;
	}
	return place_of(&writing, nout, len);
}

static inline bool commit_place(uint8_t *at, uint32_t len)
{
	(void)at;
	(void)len;
	if (++nout == room) {
		rte_ring_enqueue_zc_elem_finish(to, nout);
		room = 0;
	}
	return true;
}

static inline const uint8_t *take_place(uint32_t len)
{
	if (nin == 0) {
		nin = rte_ring_dequeue_zc_burst_elem_start(from, len, BURST, &reading, NULL);
		in_next = 0;
		if (nin == 0)
			return NULL;
	}
	mdbus_copy(buffer, place_of(&reading, in_next, len), len);
	if (++in_next == nin) {
		rte_ring_dequeue_zc_elem_finish(from, nin);
		nin = 0;
	}
	return buffer;
}

static void flush_place(void)
{
	if (room > 0)
		rte_ring_enqueue_zc_elem_finish(to, nout);
	room = 0;
}

static void begin(bool one_by_one)
{
	burst = one_by_one ? 1u : BURST;
}

/* ---- the three --------------------------------------------------------------------------------------------------- */

static const struct peer_ops one = { claim_buffer, commit_one, take_one, rest, NULL, NULL, NULL };
static const struct peer_ops many = { claim_buffer, commit_many, take_many, rest, NULL, flush_many, NULL };
static const struct peer_ops place = { claim_place, commit_place, take_place, rest, NULL, flush_place, begin };
PEER_LOOPS(one)
PEER_LOOPS(many)
PEER_LOOPS(place)

#define WAY(name, w)                                \
	static void name##_prepare(uint32_t len)    \
	{                                           \
		prepare_way(w, len);                \
	}                                           \
	static void name##_drop(void)               \
	{                                           \
		drop_way(w);                        \
	}                                           \
	static void name##_open(unsigned side, uint32_t len) \
	{                                           \
		(void)len;                          \
		open_way(w, side);                  \
	}
WAY(one, ONE)
WAY(many, MANY)
WAY(place, PLACE)

#define WAY_HOOKS(name) .prepare = name##_prepare, .open = name##_open, .drop = name##_drop
const struct peer peer_rte_ring = { .name = "rte_ring 1", WAY_HOOKS(one), PEER_RUNS(one) };
const struct peer peer_rte_ring_burst = { .name = "rte_ring 32", .bursts = true, WAY_HOOKS(many), PEER_RUNS(many) };
const struct peer peer_rte_ring_zc = { .name = "rte_ring zc 32", WAY_HOOKS(place), PEER_RUNS(place) };

#else
#define ABSENT "built without DPDK (libdpdk-dev)"
const struct peer peer_rte_ring = { .name = "rte_ring 1", .absent = ABSENT };
const struct peer peer_rte_ring_burst = { .name = "rte_ring 32", .absent = ABSENT };
const struct peer peer_rte_ring_zc = { .name = "rte_ring zc 32", .absent = ABSENT };
#endif
