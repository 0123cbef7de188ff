/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_mdbus - mdbus's own ring, as a line and a subscriber use it: on a channel of several lines, by
 * compare-and-swap, and on a channel of one line, by plain stores.  For the rate messages come in packets of eight, for the
 * hop in packets of one.
 *
 * A ring has no flow control, so that no subscriber can hold up a line; here the sender is held half a ring or arena ahead of the
 * receiver all the same, since the others lose nothing either.
 */
#include "peer.h"

#define DEPTH       65536u /* as a channel has if nothing else is configured */
#define FRAMES      4096u
#define FRAME       2048u
#define INLINE_SLOT 256u /* bytes; a message that does not fit such a slot goes by reference, in slots of 64 bytes */
#define FIRST       1024u /* position */

/* What one side has come to in the ring that the other one publishes to. */
struct progress {
	uint64_t next BENCH_LINE;
};

static struct rings {
	struct bed bed[2]; /* [side]: the ring it publishes to */
	struct progress *progress;
} rings[2]; /* any line, one line */

static struct bench_side to, from;
static struct progress *mine, *theirs;
static uint64_t sending, taking, limit, lead; /* lead: how far the sender goes ahead of the receiver */
static struct mdbus_offer offers[MDBUS_OWN_BATCH]; /* of the packet at hand */
static uint32_t noffer, packet; /* packet: messages in one; 1 where publishing together does not pay */
static bool paced; /* there is time between messages */
static struct mdbus_rest resting;
static uint8_t buffer[FRAME] __attribute__((aligned(64)));

static void prepare_one(struct rings *r, uint32_t len)
{
	uint32_t slot = MDBUS_SLOT_SIZE_MIN;

	while (slot < INLINE_SLOT && slot < len + sizeof(struct mdbus_slot))
		slot *= 2u;
	if (slot < len + sizeof(struct mdbus_slot))
		slot = MDBUS_SLOT_SIZE_MIN;
	for (unsigned i = 0; i < 2; i++)
		r->bed[i] = bed_make(DEPTH, slot, false, (uint64_t)FRAMES * FRAME);
	r->bed[0].hdr->single_line = r->bed[1].hdr->single_line = r == &rings[1];
	r->progress = bed_shared(2 * sizeof(*r->progress));
	r->progress[0].next = r->progress[1].next = FIRST;
}

static void drop_one(struct rings *r)
{
	bed_free(&r->bed[0]);
	bed_free(&r->bed[1]);
	munmap(r->progress, 2 * sizeof(*r->progress));
}

static void open_one(const struct rings *r, unsigned side, uint32_t len)
{
	to = bench_side(&r->bed[side], 0);
	from = bench_side(&r->bed[side ^ 1u], BED_LINES);
	mine = &r->progress[side];
	theirs = &r->progress[side ^ 1u];
	sending = taking = FIRST;
	resting = (struct mdbus_rest){ 0 };
	noffer = 0;
	packet = 1;
	lead = len <= to.ring.inline_max ? DEPTH / 2u : FRAMES / 2u;
	limit = FIRST + lead;
	for (unsigned i = 0; i < 2; i++) {
		peer_touch(r->bed[i].hdr, r->bed[i].hdr->segment.size);
		peer_touch(r->bed[i].arena[0], r->bed[i].arena_size);
	}
}

static inline uint64_t frame_of(uint32_t len)
{
	/* as a line does it: frames of inline messages are back at once and stay in the cache */
	return len <= to.ring.inline_max ? sending % 8u * FRAME : sending % FRAMES * FRAME;
}

static inline uint8_t *claim(uint32_t len)
{
	if (sending >= limit) {
		limit = mdbus_load_acquire(&theirs->next) + lead;
		if (sending >= limit)
			return NULL;
	}
	if (paced) /* as a line does it when nothing has arrived */
		for (uint32_t at = MDBUS_CACHE_LINE; len <= to.ring.inline_max && at < 1u << to.ring.shift; at += MDBUS_CACHE_LINE)
			mdbus_ring_warm(&to.ring, sending, at);
	else if (packet == 1 && sending % MDBUS_OWN_BATCH == 0)
		mdbus_ring_own(&to.ring, sending, MDBUS_OWN_BATCH);
	return to.arena + frame_of(len);
}

static inline void publish_packet(bool one_line)
{
	(one_line ? mdbus_ring_publish_single_batch : mdbus_ring_publish_batch)(&to.ring, 1, offers, noffer, 0, 0);
	noffer = 0;
}

__attribute__((always_inline)) static inline bool commit(uint8_t *at, uint32_t len, bool one_line)
{
	uint64_t off = (uint64_t)(at - to.arena), pos = sending++;

	if (packet == 1) {
		(one_line ? mdbus_ring_publish_single : mdbus_ring_publish)(&to.ring, pos, 1, at, off, len, 0, 0);
		return true;
	}
	offers[noffer++] = (struct mdbus_offer){ .pos = pos, .bytes = at, .off = off, .len = len };
	if (noffer == packet)
		publish_packet(one_line);
	return true;
}

static inline bool commit_any(uint8_t *at, uint32_t len)
{
	return commit(at, len, false);
}

static inline bool commit_single(uint8_t *at, uint32_t len)
{
	return commit(at, len, true);
}

static inline const uint8_t *take(uint32_t len)
{
	(void)len;
	if (!bench_take(&from, taking, buffer))
		return NULL;
	resting.found++;
	if (++taking % 64u == 0)
		mdbus_store_release(&mine->next, taking);
	return buffer;
}

static inline void rest(void)
{
	if (paced)
		mdbus_pause();
	else
		mdbus_rest_take(&resting);
}

static void flush(void)
{
	if (noffer > 0)
		publish_packet(to.ring.hdr->single_line);
	mdbus_store_release(&mine->next, taking);
}

static void prepare_any(uint32_t len)
{
	prepare_one(&rings[0], len);
}

static void prepare_single(uint32_t len)
{
	prepare_one(&rings[1], len);
}

static void open_any(unsigned side, uint32_t len)
{
	open_one(&rings[0], side, len);
}

static void open_single(unsigned side, uint32_t len)
{
	open_one(&rings[1], side, len);
}

static void drop_any(void)
{
	drop_one(&rings[0]);
}

static void drop_single(void)
{
	drop_one(&rings[1]);
}

/* Messages come one at a time, or eight to a packet where publishing those together pays. */
static void begin(bool one_by_one)
{
	paced = one_by_one;
	packet = !paced && mdbus_ring_batches(&to.ring) ? MDBUS_OWN_BATCH : 1;
}

static const struct peer_ops any = { claim, commit_any, take, rest, NULL, flush, begin };
static const struct peer_ops single = { claim, commit_single, take, rest, NULL, flush, begin };
PEER_LOOPS(any)
PEER_LOOPS(single)

const struct peer peer_mdbus = { .name = "mdbus, any line", .ours = true, .prepare = prepare_any, .open = open_any,
	                         .drop = drop_any, PEER_RUNS(any) };
const struct peer peer_mdbus_single = { .name = "mdbus, one line", .ours = true, .prepare = prepare_single,
	                                .open = open_single, .drop = drop_single, PEER_RUNS(single) };
