/* SPDX-License-Identifier: Apache-2.0
 *
 * step_cases.c - the operations that are killed at every instruction, and the moments before them; see step_cases.h.
 */
#include "step_cases.h"

#if STEP_SUPPORTED
#include <stdlib.h>
#include "../bus/arena.h"

#define INLINE_SEQ 25u /* a short message */
#define REF_SEQ    22u /* a long one; numbers in steps of five are */

struct world step_world;
pid_t step_frozen;
bool step_line_1_first;

#define w step_world

static uint64_t pos; /* what the operation is about, where it is one position */
static struct mdbus_gen gen;

/* ---- operations --------------------------------------------------------------------------------------------------- */

static struct mdbus_channel *victim(void)
{
	return &w.bed.line[0].channel;
}

static void do_packet(void *unused)
{
	(void)unused;
	mdbus_channel_packet(victim(), &w.chunk, w.now);
}

static void do_tick(void *unused)
{
	(void)unused;
	mdbus_channel_tick(victim(), w.now);
}

static void publish_by(uint32_t line)
{
	const struct mdbus_ring *r = &w.bed.line[line].channel.ring;
	const uint32_t header = 20;

	if (r->hdr->single_line)
		mdbus_ring_publish_single(r, pos, gen.gen, w.chunk.bytes + header, w.chunk.off + header, w.chunk.len - header,
		                          w.chunk.rx_ns, 0);
	else
		mdbus_ring_publish(r, pos, gen.gen, w.chunk.bytes + header, w.chunk.off + header, w.chunk.len - header,
		                   w.chunk.rx_ns, 0);
}

static void do_publish(void *unused)
{
	(void)unused;
	publish_by(0);
}

static void do_publish_2(void *unused)
{
	(void)unused;
	publish_by(2);
}

static void do_untaint(void *unused)
{
	(void)unused;
	mdbus_ring_untaint(mdbus_ring_slot(&victim()->ring, pos), 0);
}

static void do_gap(void *unused)
{
	(void)unused;
	mdbus_ring_mark(&victim()->ring, pos, gen.gen, MDBUS_KIND_GAP, 1);
}

static void do_reset(void *unused)
{
	(void)unused;
	mdbus_ring_mark(&victim()->ring, pos, gen.gen, MDBUS_KIND_RESET, gen.gen + 1u);
}

static void do_own(void *unused)
{
	(void)unused;
	mdbus_ring_own(&victim()->ring, pos, MDBUS_OWN_BATCH);
}

static void do_open(void *unused)
{
	struct mdbus_gen g = gen;

	(void)unused;
	mdbus_gen_open(victim()->ring.hdr, &g);
}

static void do_close(void *unused)
{
	(void)unused;
	mdbus_gen_close(victim()->ring.hdr, gen.gen, pos);
}

/* Take the oldest frame back, and receive into it. */
static void do_expire(void *unused)
{
	struct bed_line *l = &w.bed.line[0];
	struct mdbus_arena_hdr *a = w.bed.bus.arena[0].base;
	uint64_t expired = 0;
	uint32_t frame;

	(void)unused;
	while (!mdbus_holds_drop(&l->holds, l->rings, &frame, &expired))
		;
	memset((uint8_t *)a + a->frames_off + (uint64_t)frame * a->frame_size, 0xee, a->frame_size);
}

static void do_reclaim(void *unused)
{
	(void)unused;
	mdbus_line_reclaim(&w.bed.bus, 0);
}

static void do_restart(void *unused)
{
	(void)unused;
	world_restart(&w);
}

static void do_sweep(void *unused)
{
	(void)unused;
	for (uint64_t i = 0; i <= victim()->keys.mask; i++)
		mdbus_keys_sweep(&victim()->keys, w.now + 2u * WORLD_KEY_AGE_NS);
}

/* ---- the moments before them ----------------------------------------------------------------------------------------- */

/* Packets of session 1 with three messages each, up to number `last`. */
void step_threes(uint64_t first, uint64_t last)
{
	for (; first <= last; first += 3)
		world_add(&w, 1, first, 3);
}

/* Messages up to `seq`, which comes alone and is in the victim's frame; nine more afterwards. */
static void before_message(uint64_t seq)
{
	step_threes(1, seq - 1u);
	w.at = w.npacket;
	world_add(&w, 1, seq, 1);
	step_threes(seq + 1u, seq + 9u);
	if (w.nline == 1)
		for (uint32_t i = 0; i < w.at; i++)
			world_offer(&w, 0, i);
	else
		world_history(&w, 0, w.at);
	world_receive(&w, 0);
	pos = world_position(&w, seq, &gen);
}

static void before_inline(void)
{
	before_message(INLINE_SEQ);
}

static void before_ref(void)
{
	before_message(REF_SEQ);
}

/* The ring is full of the lap before, by reference and inline. */
static void before_lapping(void)
{
	before_message(INLINE_SEQ + 63u);
}

static void before_lapping_ref(void)
{
	before_message(REF_SEQ + 75u);
}

/* Somebody has it already. */
static void before_duplicate(void)
{
	before_inline();
	world_offer(&w, 1, w.at);
}

/* Step until the copy has begun. */
static void step_into_copy(pid_t pid, uint32_t line)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&w.bed.line[line].channel.ring, pos);
	uint64_t head = 0, was;

	memcpy(&was, slot->bytes + 8, 8);
	while (step_one(pid)) {
		memcpy(&head, slot->bytes + 8, 8);
		if (slot->head.lo & MDBUS_STAMP_WRITING && head != was)
			return;
	}
	exit(99);
}

/* A lap ago line `line` has come to stand still inside its inline copy of number INLINE_SEQ; line 1 has lapped it or is about to. */
static void stand_still(uint32_t line, uint32_t lap)
{
	before_inline();
	world_receive(&w, line);
	step_frozen = step_start(line == 0 ? do_publish : do_publish_2, NULL);
	step_into_copy(step_frozen, line);
	w.npacket = w.at + 1u;
	step_threes(INLINE_SEQ + 1u, INLINE_SEQ + WORLD_DEPTH - 1u);
	uint32_t lapping = w.npacket;

	world_add(&w, 1, INLINE_SEQ + WORLD_DEPTH, 1);
	step_threes(INLINE_SEQ + WORLD_DEPTH + 1u, INLINE_SEQ + WORLD_DEPTH + 9u);
	for (uint32_t i = w.at; i < lapping; i++) {
		world_offer(&w, 1, i);
		if (line != 0)
			world_offer(&w, 0, i);
	}
	w.at = lapping + lap;
	if (lap)
		world_offer(&w, 1, lapping);
	pos += lap || line != 0 ? WORLD_DEPTH : 0;
}

void step_wakes_up(struct world *unused)
{
	pid_t pid = step_twin(step_frozen);

	(void)unused;
	step_finish(pid);
	step_kill(pid);
}

static void before_tainted(void)
{
	stand_still(2, 0);
	world_receive(&w, 0);
}

static void before_tainted_gap(void)
{
	stand_still(2, 0);
	world_expect(&w);
	world_record(&w, 1, INLINE_SEQ + WORLD_DEPTH)->gap = true;
}

/* The victim itself was inside, and another line has published over it. */
static void before_untaint(void)
{
	stand_still(0, 1);
}

/* mdbusd takes back what the dead process of line 0 has left. */
static void before_reclaim(void)
{
	stand_still(0, 0);
	step_kill(step_frozen);
	step_frozen = 0;
}

static void before_reclaim_tainted(void)
{
	stand_still(0, 1);
	step_kill(step_frozen);
	step_frozen = 0;
}

static void before_expire(void)
{
	const struct mdbus_holds *h = &w.bed.line[0].holds;

	before_inline();
	world_expect(&w);
	world_position(&w, 1, &gen);
	world_record(&w, 1, 1u + (h->fifo[h->tail & h->mask].pos - gen.base))->lost = true;
}

static void before_gap(void)
{
	before_inline();
	world_expect(&w);
	world_record(&w, 1, INLINE_SEQ)->gap = true;
}

/* Number 25 has been carried by nobody, and both lines are past it. */
static void before_tick_gap(void)
{
	step_threes(1, 24);
	step_threes(26, 37);
	w.at = w.npacket - 1u;
	world_history(&w, 0, w.at);
}

/* Number 25 is missing, and the packet needs more room than the window has. */
static void before_force(void)
{
	step_threes(1, 24);
	step_threes(26, 61);
	w.at = w.npacket - 2u;
	world_history(&w, 0, w.at);
	world_receive(&w, 0);
}

/* Session 2 after session 1: its first `n` packets have come on the lines of mask `lines`. */
static void second_session(uint32_t n, uint32_t lines)
{
	uint32_t first;

	step_threes(1, 24);
	first = w.npacket;
	for (uint64_t seq = 1; seq < 16; seq += 3)
		world_add(&w, 2, seq, 3);
	world_history(&w, 0, first);
	for (uint32_t k = 0; k < 2; k++)
		for (uint32_t i = first; i < first + n && lines >> k & 1u; i++)
			world_offer(&w, k, i);
	w.at = first + n;
}

static void before_tick_reset(void)
{
	second_session(3, 3);
}

/* The third packet makes agreement; what came before it is only in the dying process. */
static void before_session(void)
{
	second_session(2, 1);
	world_receive(&w, 0);
	w.at -= 2;
}

static void before_following(void)
{
	before_session();
	for (uint32_t i = 0; i < 3; i++)
		world_offer(&w, 1, w.at + i);
}

static void before_reset(void)
{
	second_session(3, 3);
	mdbus_gen_get(victim()->ring.hdr, 1, &gen);
	pos = gen.base + 24u;
}

static void before_close(void)
{
	before_reset();
	mdbus_ring_mark(&w.bed.line[1].channel.ring, pos, 1, MDBUS_KIND_RESET, 2);
}

static void before_open(void)
{
	struct mdbus_packet d;

	second_session(0, 0);
	world_receive(&w, 0);
	mdbus_layout_decode(&victim()->desc.layout, w.chunk.bytes, w.chunk.len, &d);
	mdbus_gen_get(victim()->ring.hdr, 1, &gen);
	gen = (struct mdbus_gen){ .gen = 2, .base = gen.base + 24u + WORLD_DEPTH / 8u, .first_seq = 1,
		                  .session = mdbus_gen_session(d.session) };
}

static void before_packet(void)
{
	step_threes(1, 24);
	w.at = w.npacket;
	world_add(&w, 1, 25, 6);
	step_threes(31, 39);
	world_history(&w, 0, w.at);
	world_receive(&w, 0);
}

static void before_packet_lapping(void)
{
	step_threes(1, 87);
	w.at = w.npacket;
	world_add(&w, 1, 88, 9);
	step_threes(97, 105);
	world_history(&w, 0, w.at);
	world_receive(&w, 0);
}

/* Both lines are past number 25, which has been reordered. */
static void before_hole(void)
{
	step_threes(1, 24);
	world_add(&w, 1, 26, 3);
	w.at = w.npacket;
	world_add(&w, 1, 25, 1);
	step_threes(29, 37);
	world_history(&w, 0, w.at);
	world_receive(&w, 0);
}

static void before_duplicates(void)
{
	before_packet();
	world_offer(&w, 1, w.at);
}

/* A line that has just started cannot tell a jump from a new session: line 1, which has been there, says what it is. */
static void before_jump(void)
{
	step_line_1_first = true;
	step_threes(1, 24);
	w.at = w.npacket;
	step_threes(200, 215);
	world_history(&w, 0, w.at);
	world_offer(&w, 0, w.at);
	world_offer(&w, 0, w.at + 1u);
	w.at += 2;
	world_receive(&w, 0);
	w.at -= 2;
}

/* Keys 1 to 20, then one in the victim's hands, then four more. */
static void before_key(uint64_t key)
{
	for (uint64_t i = 1; i <= 20; i++)
		world_add(&w, 1, i, 1);
	w.at = w.npacket;
	world_add(&w, 1, key, 1);
	for (uint64_t i = 41; i <= 44; i++)
		world_add(&w, 1, i, 1);
	world_history(&w, 0, w.at);
	world_receive(&w, 0);
}

static void before_key_inline(void)
{
	before_key(31);
}

static void before_key_ref(void)
{
	before_key(30);
}

static void before_key_duplicate(void)
{
	before_key_ref();
	world_offer(&w, 1, w.at);
}

static void claim(void)
{
	struct mdbus_channel *c = &w.bed.line[1].channel;
	uint32_t key = (uint32_t)w.packet[w.at].seq;
	uint64_t at, evicted = 0;
	bool done;

	mdbus_keys_claim(&c->keys, mdbus_key_hash((const uint8_t *)&key, 4), c->tail, w.now, &at, &done, &evicted);
}

/* Somebody has died between tying the key to a position and publishing it. */
static void before_key_claimed(void)
{
	before_key_inline();
	claim();
}

/* And another key has taken that position since. */
static void before_key_moved(void)
{
	before_key_inline();
	claim();
	world_offer(&w, 1, w.npacket - 1u);
}

const struct step_case step_cases[] = {
	{ "publish, inline", 2, false, STEP_KILL, before_inline, do_publish, false },
	{ "publish, by reference", 2, false, STEP_KILL, before_ref, do_publish, false },
	{ "publish over the lap before", 2, false, STEP_KILL, before_lapping, do_publish, false },
	{ "publish by reference over the lap before", 2, false, STEP_KILL, before_lapping_ref, do_publish, false },
	{ "publish, a duplicate", 2, false, STEP_KILL, before_duplicate, do_publish, true },
	{ "publish over a stopped writer", 3, false, STEP_KILL, before_tainted, do_publish, false },
	{ "publish with plain stores, inline", 1, false, STEP_KILL, before_inline, do_publish, false },
	{ "publish with plain stores, by reference", 1, false, STEP_KILL, before_ref, do_publish, false },
	{ "publish with plain stores over the lap before", 1, false, STEP_KILL, before_lapping, do_publish, false },
	{ "untaint", 2, false, STEP_KILL, before_untaint, do_untaint, false },
	{ "expire and reuse", 2, false, STEP_KILL, before_expire, do_expire, false },
	{ "mark a gap", 2, false, STEP_KILL, before_gap, do_gap, false },
	{ "mark a gap over a stopped writer", 3, false, STEP_KILL, before_tainted_gap, do_gap, false },
	{ "mark a reset", 2, false, STEP_KILL, before_reset, do_reset, false },
	{ "own", 2, false, STEP_KILL, before_lapping, do_own, true },
	{ "open a generation", 2, false, STEP_KILL, before_open, do_open, false },
	{ "close a generation", 2, false, STEP_KILL, before_close, do_close, false },
	{ "key, inline", 2, true, STEP_KILL, before_key_inline, do_packet, false },
	{ "key, by reference", 2, true, STEP_KILL, before_key_ref, do_packet, false },
	{ "key, a duplicate", 2, true, STEP_KILL, before_key_duplicate, do_packet, false },
	{ "key claimed by the dead", 2, true, STEP_KILL, before_key_claimed, do_packet, false },
	{ "key whose place was taken", 2, true, STEP_KILL, before_key_moved, do_packet, false },
	{ "publish, stopped and lapped", 2, false, STEP_STOP_AND_KILL, before_inline, do_publish, false },
	{ "publish by reference, stopped and lapped", 2, false, STEP_STOP_AND_KILL, before_ref, do_publish, false },
	{ "packet that opens a session, stopped", 2, false, STEP_STOP, before_session, do_packet, false },
	{ "gap clock: a gap", 2, false, STEP_KILL, before_tick_gap, do_tick, false },
	{ "gap clock: a reset", 2, false, STEP_KILL, before_tick_reset, do_tick, false },
	{ "packet", 2, false, STEP_KILL, before_packet, do_packet, false },
	{ "packet over the lap before", 2, false, STEP_KILL, before_packet_lapping, do_packet, false },
	{ "packet on a single line", 1, false, STEP_KILL, before_inline, do_packet, false },
	{ "packet into a hole", 2, false, STEP_KILL, before_hole, do_packet, false },
	{ "packet of duplicates", 2, false, STEP_KILL, before_duplicates, do_packet, false },
	{ "packet that uses the window up", 2, false, STEP_KILL, before_force, do_packet, false },
	{ "packet that opens a session", 2, false, STEP_KILL, before_session, do_packet, false },
	{ "packet that follows into a session", 2, false, STEP_KILL, before_following, do_packet, false },
	{ "packet that jumps", 2, false, STEP_KILL, before_jump, do_packet, false },
	{ "reclaim of a writer", 2, false, STEP_KILL, before_reclaim, do_reclaim, false },
	{ "reclaim of a lapped writer", 2, false, STEP_KILL, before_reclaim_tainted, do_reclaim, false },
	{ "recovery of an arena", 2, false, STEP_KILL, before_lapping, do_restart, true },
	{ "sweep of old keys", 2, true, STEP_KILL, before_key_inline, do_sweep, false },
	{ "packet, stopped", 2, false, STEP_STOP, before_packet, do_packet, false },
	{ "packet that jumps, stopped", 2, false, STEP_STOP, before_jump, do_packet, false },
	{ "key, stopped", 2, true, STEP_STOP, before_key_ref, do_packet, false },
};

const size_t step_ncases = sizeof(step_cases) / sizeof(step_cases[0]);
#endif
