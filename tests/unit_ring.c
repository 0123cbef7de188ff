/* SPDX-License-Identifier: Apache-2.0
 *
 * The slot protocol, one step at a time.  A process that is stopped at an instruction is played by a hook: at that
 * point of one line's call the test lets other lines and a reader act, so each interleaving happens as written.
 *
 * mutants: skip_recheck plain_inline no_taint reuse_before_expire epoch_ignored publish_before_payload no_mark
 */
#ifndef MDBUS_HOOKS
#define MDBUS_HOOKS 1
#endif
#include <string.h>
#include "ring_bed.h"

#define GEN   7u
#define DEPTH 8u
#define MARKS (MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED)

/* What happens while the current call stands at `point`; taken off when it starts. */
static const char *stop_point;
static void (*stop_action)(void);
static unsigned stops;

void mdbus_hook(const char *point);

void mdbus_hook(const char *point)
{
	if (stop_point == NULL || strcmp(point, stop_point) != 0)
		return;
	stop_point = NULL;
	stops++;
	stop_action();
}

static void stop_at(const char *point, void (*action)(void))
{
	stop_point = point;
	stop_action = action;
}

static struct bed bed;

static struct mdbus_pair head(uint64_t pos)
{
	return mdbus_ring_slot(&bed.line[0], pos)->head;
}

static enum mdbus_kind kind_at(uint64_t pos)
{
	return mdbus_stamp_kind(head(pos).lo);
}

/* Put the message of (pos, line) into the line's arena at off and publish it. */
static enum mdbus_publish publish_gen(uint32_t line, uint64_t pos, uint64_t gen, uint64_t off, uint32_t len)
{
	bed_fill(bed.arena[line] + off, len, pos, line);
	return mdbus_ring_publish(&bed.line[line], pos, gen, bed.arena[line] + off, off, len, pos * 10u, 0);
}

static enum mdbus_publish publish(uint32_t line, uint64_t pos, uint32_t len)
{
	return publish_gen(line, pos, GEN, pos % 16u * 2048u, len);
}

static enum mdbus_publish publish_single(uint32_t line, uint64_t pos, uint32_t len)
{
	uint64_t off = pos % 16u * 2048u;

	bed_fill(bed.arena[line] + off, len, pos, line);
	return mdbus_ring_publish_single(&bed.line[line], pos, GEN, bed.arena[line] + off, off, len, pos * 10u, 0);
}

static struct bed_got got;

static enum bed_read take(uint64_t pos)
{
	enum bed_read r = bed_read(&bed, pos, GEN, &got, NULL, NULL);

	if (r == BED_WHOLE)
		BED_CHECK(bed_good(&got, pos), "torn message at %lu", (unsigned long)pos);
	return r;
}

static void begin(uint32_t slot_size, bool timed)
{
	if (bed.hdr)
		bed_free(&bed);
	bed = bed_make(DEPTH, slot_size, timed, 64u << 10);
	stop_point = NULL;
	stops = 0;
}

/* A stamp as a line leaves it that was stopped inside its inline copy at pos. */
static void leave_writing(uint64_t pos, uint32_t line)
{
	mdbus_ring_slot(&bed.line[0], pos)->head = (struct mdbus_pair){
		mdbus_stamp_make(pos, GEN, MDBUS_KIND_REF, MDBUS_STAMP_WRITING | line), mdbus_ref_make(0, 8, line, 0) };
}

static void check_mark(uint64_t pos, uint32_t mark, uint32_t line)
{
	uint64_t stamp = head(pos).lo;

	BED_CHECK((stamp & MARKS) == mark, "stamp %lx", (unsigned long)stamp);
	BED_CHECK(mdbus_stamp_line(stamp) == line, "stamp %lx", (unsigned long)stamp);
}

static void test_stamps(void)
{
	static const uint64_t pos[] = { 0, 1, 65535, 65536, MDBUS_POS_MAX - 1u, MDBUS_POS_MAX };

	for (unsigned i = 0; i < sizeof(pos) / sizeof(pos[0]); i++) {
		uint64_t s = mdbus_stamp_make(pos[i], 0x1ff, MDBUS_KIND_JUMP, MARKS | 5u);

		BED_CHECK(mdbus_stamp_pos(s) == pos[i] && mdbus_stamp_gen(s) == 0xff, "stamp %lx", (unsigned long)s);
		BED_CHECK(mdbus_stamp_kind(s) == MDBUS_KIND_JUMP && mdbus_stamp_line(s) == 5, "stamp %lx", (unsigned long)s);
		BED_CHECK(mdbus_stamp_is(s, pos[i], 0xff) && mdbus_stamp_is(s, pos[i], 0x2ff), "gen is its low byte");
		BED_CHECK(!mdbus_stamp_is(s, pos[i], 0xfe) && !mdbus_stamp_is(s, pos[i] ^ 1u, 0xff), "another record");
	}
	uint64_t r = mdbus_ref_make(MDBUS_REF_OFF_MAX, 65535, 7, MDBUS_REF_RETRANS);

	BED_CHECK(mdbus_ref_off(r) == MDBUS_REF_OFF_MAX && mdbus_ref_len(r) == 65535, "ref %lx", (unsigned long)r);
	BED_CHECK(mdbus_ref_line(r) == 7 && mdbus_ref_flags(r) == MDBUS_REF_RETRANS, "ref %lx", (unsigned long)r);
	BED_CHECK(r >> 56 == 0, "the byte that mdbus_ring_own writes");
}

static void test_older(void)
{
	for (unsigned g = 0; g < 256; g++) {
		uint64_t s = mdbus_stamp_make(100, g, MDBUS_KIND_INLINE, 0);
		uint64_t empty = mdbus_stamp_make(100, g, MDBUS_KIND_EMPTY, 0);

		BED_CHECK(mdbus_stamp_older(s, 101, g) && mdbus_stamp_older(s, 101, g - 1u), "a greater position is newer");
		BED_CHECK(!mdbus_stamp_older(s, 99, g) && !mdbus_stamp_older(s, 99, g + 1u), "a lesser one is not");
		BED_CHECK(!mdbus_stamp_older(s, 100, g) && mdbus_stamp_older(empty, 100, g), "only a mark gives way");
		BED_CHECK(!mdbus_stamp_is(empty, 100, g), "a mark is no record");
		for (unsigned d = 1; d < 128; d++) {
			BED_CHECK(mdbus_stamp_older(s, 100, g + d), "generation +%u", d);
			BED_CHECK(!mdbus_stamp_older(s, 100, g - d), "generation -%u", d);
		}
	}
}

static void test_copy(void)
{
	uint8_t from[640], to[640];

	for (unsigned i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 7u + 1u);
	for (uint32_t len = 0; len <= 600; len++) {
		memset(to, 0, sizeof(to));
		mdbus_copy(to + 8, from + 3, len);
		BED_CHECK(memcmp(to + 8, from + 3, len) == 0, "length %u", len);
		for (unsigned i = 0; i < sizeof(to); i++)
			BED_CHECK((i >= 8 && i < 8 + len) || to[i] == 0, "length %u wrote byte %u", len, i);
	}
}

/* What fits is inline, what does not is by reference, and neither touches the next slot. */
static void check_size(bool single, uint32_t len)
{
	uint32_t max = bed.slot_size - 16u - bed.line[0].time_bytes;
	uint64_t pos = DEPTH + 2u, rx;
	enum mdbus_publish want = len <= max ? MDBUS_PUBLISH_INLINE : MDBUS_PUBLISH_REF;
	uint8_t *slot = (uint8_t *)mdbus_ring_slot(&bed.line[0], pos);

	memset(slot, 0, bed.slot_size);
	BED_CHECK((single ? publish_single(1, pos, len) : publish(1, pos, len)) == want, "length %u", len);
	BED_CHECK(kind_at(pos) == (want == MDBUS_PUBLISH_INLINE ? MDBUS_KIND_INLINE : MDBUS_KIND_REF), "length %u", len);
	check_mark(pos, 0, want == MDBUS_PUBLISH_INLINE ? 1 : 0);
	if (want == MDBUS_PUBLISH_INLINE)
		memset(bed.arena[1], 0xee, bed.arena_size); /* the frame is no longer needed */
	BED_CHECK(take(pos) == BED_WHOLE && got.len == len, "length %u", len);
	memcpy(&rx, slot + 16, sizeof(rx));
	BED_CHECK(want == MDBUS_PUBLISH_REF || !bed.line[0].time_bytes || rx == pos * 10u, "rx_ns %lu", (unsigned long)rx);
	for (uint32_t i = 0; i < bed.slot_size; i++)
		BED_CHECK(slot[bed.slot_size + i] == 0, "length %u wrote into the next slot", len);
}

static void test_sizes(void)
{
	for (uint32_t size = MDBUS_SLOT_SIZE_MIN; size <= MDBUS_SLOT_SIZE_MAX; size *= 2u) {
		for (unsigned mode = 0; mode < 4; mode++) {
			begin(size, mode & 1u);
			for (uint32_t len = 0; len <= size && len <= 2000; len += len < 300 ? 1 : 13)
				check_size(mode & 2u, len);
			for (uint32_t len = size - 32u; len <= size - 8u; len++)
				check_size(mode & 2u, len);
		}
	}
}

static void test_duplicate_and_late(void)
{
	begin(64, true);
	for (unsigned big = 0; big < 2; big++) {
		uint64_t pos = 3u * DEPTH + big;
		uint32_t len = big ? 200 : 36;

		BED_CHECK(take(pos) == BED_NONE, "nothing there yet");
		publish(0, pos, len);
		struct mdbus_pair before = head(pos);

		BED_CHECK(publish(1, pos, len) == MDBUS_PUBLISH_DUPLICATE, "second copy");
		BED_CHECK(publish(0, pos, len) == MDBUS_PUBLISH_DUPLICATE, "own second copy");
		BED_CHECK(publish(1, pos - DEPTH, len) == MDBUS_PUBLISH_LATE, "a lap behind");
		BED_CHECK(!mdbus_ring_mark(&bed.line[1], pos, GEN, MDBUS_KIND_GAP, 1), "a gap over data");
		BED_CHECK(memcmp(&before, &(struct mdbus_pair){ head(pos).lo, head(pos).hi }, 16) == 0, "slot changed");
		BED_CHECK(take(pos) == BED_WHOLE && mdbus_ref_line(got.ref) == 0, "first copy stays");
		BED_CHECK(take(pos - DEPTH) == BED_LAPPED && take(pos + DEPTH) == BED_NONE, "other laps");
	}
}

static void test_laps(void)
{
	begin(128, false);
	for (uint64_t pos = 1; pos < 5u * DEPTH; pos++) {
		publish((uint32_t)(pos % 2u), pos, (uint32_t)(pos * 37u % 200u));
		BED_CHECK(take(pos) == BED_WHOLE, "pos %lu", (unsigned long)pos);
		for (uint64_t old = pos > DEPTH ? pos - DEPTH + 1u : 1; old <= pos; old++)
			BED_CHECK(take(old) == BED_WHOLE, "pos %lu at %lu", (unsigned long)old, (unsigned long)pos);
		BED_CHECK(pos <= DEPTH || take(pos - DEPTH) == BED_LAPPED, "pos %lu", (unsigned long)pos);
	}
	for (uint64_t pos = MDBUS_POS_MAX - DEPTH; pos <= MDBUS_POS_MAX; pos++)
		BED_CHECK(publish(0, pos, 40) == MDBUS_PUBLISH_INLINE && take(pos) == BED_WHOLE, "the last positions");
}

static void test_marks(void)
{
	static const enum mdbus_kind kind[] = { MDBUS_KIND_GAP, MDBUS_KIND_RESET, MDBUS_KIND_SKIP, MDBUS_KIND_JUMP };
	const struct mdbus_ring *daemon = &bed.line[BED_LINES];

	begin(64, false);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t pos = 2u * DEPTH + i;

		publish(0, pos - DEPTH, 20);
		BED_CHECK(mdbus_ring_mark(daemon, pos, GEN, kind[i], 99), "over an older record");
		BED_CHECK(!mdbus_ring_mark(&bed.line[0], pos, GEN, kind[i], 1), "only once");
		BED_CHECK(kind_at(pos) == kind[i] && head(pos).hi == 99, "kind and value");
		BED_CHECK(publish(1, pos, 20) == MDBUS_PUBLISH_LATE, "late for a mark");
		BED_CHECK(take(pos) == BED_NODATA, "a record without bytes");
		BED_CHECK(publish(1, pos + DEPTH, 20) == MDBUS_PUBLISH_INLINE, "next lap");
	}
}

static void test_expire(void)
{
	uint64_t pos = DEPTH + 3u, off = pos % 16u * 2048u;

	begin(64, false);
	publish(1, pos, 200);
	BED_CHECK(!mdbus_ring_expire(&bed.line[1], pos, GEN, off + 1u), "another frame");
	BED_CHECK(!mdbus_ring_expire(&bed.line[0], pos, GEN, off), "another line's");
	BED_CHECK(!mdbus_ring_expire(&bed.line[1], pos + DEPTH, GEN, off), "another lap");
	BED_CHECK(!mdbus_ring_expire(&bed.line[1], pos, GEN + 1u, off), "another generation");
	BED_CHECK(take(pos) == BED_WHOLE, "untouched so far");
	BED_CHECK(mdbus_ring_expire(&bed.line[1], pos, GEN, off), "the owner may");
	BED_CHECK(take(pos) == BED_NODATA && kind_at(pos) == MDBUS_KIND_EXPIRED, "a reader learns that it is lost");
	BED_CHECK(!mdbus_ring_expire(&bed.line[1], pos, GEN, off), "once");
	BED_CHECK(publish(0, pos, 200) == MDBUS_PUBLISH_DUPLICATE, "it was published");
	BED_CHECK(publish(0, pos + DEPTH, 20) == MDBUS_PUBLISH_INLINE, "next lap");
	BED_CHECK(!mdbus_ring_expire(&bed.line[0], pos + DEPTH, GEN, (pos + DEPTH) % 16u * 2048u), "inline needs no frame");

	/* a line that was killed in its inline copy is back and takes the frame: nothing is left of its mark */
	leave_writing(pos + 2u * DEPTH, 1);
	BED_CHECK(mdbus_ring_expire(&bed.line[1], pos + 2u * DEPTH, GEN, 0), "killed while writing");
	BED_CHECK((head(pos).lo & MARKS) == 0, "mark of a dead writer");
}

/* A writer stopped in its copy: whoever laps it publishes by reference, marked, until the writer has come back. */
static void test_taint_is_carried(void)
{
	uint64_t pos = DEPTH, lap = DEPTH;

	begin(128, false);
	leave_writing(pos, 1);
	BED_CHECK(publish(0, pos += lap, 20) == MDBUS_PUBLISH_REF, "by reference though it would fit");
	check_mark(pos, MDBUS_STAMP_TAINTED, 1);
	BED_CHECK(take(pos) == BED_WHOLE, "readable");
	BED_CHECK(publish(2, pos += lap, 20) == MDBUS_PUBLISH_REF, "another line's lap");
	check_mark(pos, MDBUS_STAMP_TAINTED, 1);
	BED_CHECK(mdbus_ring_mark(&bed.line[BED_LINES], pos += lap, GEN, MDBUS_KIND_GAP, 1), "a gap's lap");
	check_mark(pos, MDBUS_STAMP_TAINTED, 1);
	BED_CHECK(publish(0, pos += lap, 20) == MDBUS_PUBLISH_REF, "after the gap");
	check_mark(pos, MDBUS_STAMP_TAINTED, 1);
	BED_CHECK(mdbus_ring_expire(&bed.line[0], pos, GEN, pos % 16u * 2048u), "expired");
	check_mark(pos, MDBUS_STAMP_TAINTED, 1);
	BED_CHECK(publish(0, pos += lap, 200) == MDBUS_PUBLISH_REF, "too large anyway");
	check_mark(pos, MDBUS_STAMP_TAINTED, 1);

	uint64_t before = head(pos).lo;

	mdbus_ring_untaint(mdbus_ring_slot(&bed.line[0], pos), 2);
	BED_CHECK(head(pos).lo == before, "another line's mark is not mine to clear");
	mdbus_ring_untaint(mdbus_ring_slot(&bed.line[0], pos), 1);
	check_mark(pos, 0, 0);
	BED_CHECK(mdbus_ring_still(mdbus_ring_slot(&bed.line[0], pos), before), "the record is still the same");
	BED_CHECK(publish(0, pos += lap, 20) == MDBUS_PUBLISH_INLINE, "inline again");
}

/* The writer itself, or its successor after a crash, has nothing to fear from its own mark. */
static void test_own_mark(void)
{
	begin(128, false);
	leave_writing(DEPTH, 1);
	BED_CHECK(publish(1, 2u * DEPTH, 20) == MDBUS_PUBLISH_INLINE, "own W");
	leave_writing(3u * DEPTH, 1);
	BED_CHECK(publish(0, 4u * DEPTH, 20) == MDBUS_PUBLISH_REF, "another's W");
	BED_CHECK(publish(1, 5u * DEPTH, 20) == MDBUS_PUBLISH_INLINE, "own T");
	BED_CHECK(take(5u * DEPTH) == BED_WHOLE, "readable");
	leave_writing(6u * DEPTH, 1);
	BED_CHECK(mdbus_ring_mark(&bed.line[1], 7u * DEPTH, GEN, MDBUS_KIND_GAP, 1), "own gap");
	check_mark(7u * DEPTH, 0, 0);
}

/* ---- stopped at a point --------------------------------------------------------------------------------------- */

static void reader_uses_ref(void)
{
	check_mark(DEPTH, MDBUS_STAMP_WRITING, 0);
	BED_CHECK(take(DEPTH) == BED_WHOLE, "by reference while the inline copy is under way");
	BED_CHECK(mdbus_stamp_kind(got.stamp) == MDBUS_KIND_REF, "not the half-written bytes");
	BED_CHECK(publish(1, DEPTH, 40) == MDBUS_PUBLISH_DUPLICATE, "published already");
}

static void test_reader_meets_writer(void)
{
	begin(64, false);
	stop_at("publish.after", reader_uses_ref);
	publish(0, DEPTH, 40);
	BED_CHECK(stops == 1 && kind_at(DEPTH) == MDBUS_KIND_INLINE, "upgraded");
	BED_CHECK(!mdbus_ring_still(mdbus_ring_slot(&bed.line[0], DEPTH), got.stamp), "the ref no longer vouches");
}

static void lap_once(void)
{
	publish(1, 2u * DEPTH, 40);
}

static void lap_thrice(void)
{
	BED_CHECK(publish(1, 2u * DEPTH, 40) == MDBUS_PUBLISH_REF, "tainted");
	BED_CHECK(publish(2, 3u * DEPTH, 40) == MDBUS_PUBLISH_REF, "still tainted");
	BED_CHECK(publish(1, 4u * DEPTH, 40) == MDBUS_PUBLISH_REF, "still tainted");
}

static void read_after_scribble(void)
{
	BED_CHECK(take(2u * DEPTH) == BED_WHOLE, "what laps a stopped writer is out of its reach");
}

/* Line 0 is stopped before its copy and inside it, is lapped, and goes on. */
static void test_late_writer(void)
{
	begin(64, false);
	stop_at("publish.after", lap_once);
	BED_CHECK(publish(0, DEPTH, 40) == MDBUS_PUBLISH_INLINE && stops == 1, "its frame is free");
	read_after_scribble();
	check_mark(2u * DEPTH, 0, 0);
	BED_CHECK(publish(0, 3u * DEPTH, 40) == MDBUS_PUBLISH_INLINE, "the mark is gone");

	begin(64, false);
	stop_at("inline.before", lap_thrice);
	publish(0, DEPTH, 40);
	BED_CHECK(stops == 1 && take(4u * DEPTH) == BED_WHOLE && take(DEPTH) == BED_LAPPED, "stamps never go back");
	check_mark(4u * DEPTH, 0, 0);
}

static void lap_while_clearing(void)
{
	BED_CHECK(publish(2, 3u * DEPTH, 40) == MDBUS_PUBLISH_REF, "tainted until it is cleared");
}

static void stop_again(void)
{
	lap_once();
	stop_at("untaint", lap_while_clearing);
}

static void test_lapped_while_clearing(void)
{
	begin(64, false);
	stop_at("inline.before", stop_again);
	publish(0, DEPTH, 40);
	BED_CHECK(stops == 2 && take(3u * DEPTH) == BED_WHOLE, "the newest record stands");
	check_mark(3u * DEPTH, 0, 0);
}

static void declare_dead(void)
{
	struct mdbus_slot *slot = mdbus_ring_slot(&bed.line[0], DEPTH);

	slot->head.lo &= ~(uint64_t)(MARKS | MDBUS_STAMP_LINE_MASK);
}

/* mdbusd has cleared the mark of a writer that lives after all: it must know that its frame is still referred to. */
static void test_taken_for_dead(void)
{
	begin(64, false);
	stop_at("inline.before", declare_dead);
	BED_CHECK(publish(0, DEPTH, 40) == MDBUS_PUBLISH_REF && stops == 1, "its frame is in use");
	BED_CHECK(kind_at(DEPTH) == MDBUS_KIND_REF && take(DEPTH) == BED_WHOLE, "by reference");
	BED_CHECK(mdbus_ring_expire(&bed.line[0], DEPTH, GEN, DEPTH % 16u * 2048u), "until it is taken back");
}

static void other_wins(void)
{
	BED_CHECK(publish(1, DEPTH, 40) == MDBUS_PUBLISH_INLINE, "the other line is first");
}

static void gap_wins(void)
{
	BED_CHECK(mdbus_ring_mark(&bed.line[BED_LINES], DEPTH, GEN, MDBUS_KIND_GAP, 1), "a gap is first");
}

static void test_stopped_before_publishing(void)
{
	begin(64, false);
	stop_at("publish.before", other_wins);
	BED_CHECK(publish(0, DEPTH, 40) == MDBUS_PUBLISH_DUPLICATE && stops == 1, "lost");
	BED_CHECK(take(DEPTH) == BED_WHOLE && mdbus_ref_line(got.ref) == 1, "one copy");

	begin(64, false);
	stop_at("publish.before", lap_once);
	BED_CHECK(publish(0, DEPTH, 40) == MDBUS_PUBLISH_LATE && stops == 1, "lapped");

	begin(64, false);
	stop_at("publish.before", gap_wins);
	BED_CHECK(publish(0, DEPTH, 40) == MDBUS_PUBLISH_LATE && stops == 1, "never after its gap");

	begin(64, false);
	stop_at("mark.before", other_wins);
	BED_CHECK(!mdbus_ring_mark(&bed.line[0], DEPTH, GEN, MDBUS_KIND_GAP, 1) && stops == 1, "no gap over data");
	BED_CHECK(take(DEPTH) == BED_WHOLE, "data stands");
}

static void test_expire_races_lap(void)
{
	begin(64, false);
	publish(0, DEPTH, 200);
	stop_at("expire.before", lap_once);
	BED_CHECK(!mdbus_ring_expire(&bed.line[0], DEPTH, GEN, DEPTH % 16u * 2048u) && stops == 1, "lapped first");
	BED_CHECK(take(2u * DEPTH) == BED_WHOLE, "the newer record stands");
}

/* ---- a reader stopped in its copy ------------------------------------------------------------------------------ */

static void lap_reader(void *size)
{
	publish(1, 2u * DEPTH, *(uint32_t *)size);
}

static void reuse_frame(void *unused)
{
	(void)unused;
	mdbus_ring_expire(&bed.line[0], DEPTH, GEN, DEPTH % 16u * 2048u);
	bed_fill(bed.arena[0] + DEPTH % 16u * 2048u, 200, 999, 0);
}

static void finish_copy(void *unused)
{
	struct mdbus_slot *slot = mdbus_ring_slot(&bed.line[0], DEPTH);

	(void)unused;
	bed_fill(slot->bytes, 40, DEPTH, 0);
	slot->head.lo = mdbus_stamp_make(DEPTH, GEN, MDBUS_KIND_INLINE, 0);
	memset(bed.arena[0], 0xee, bed.arena_size);
}

static void check_reader(uint32_t len, void (*meanwhile)(void *), void *arg, enum bed_read after)
{
	BED_CHECK(bed_read(&bed, DEPTH, GEN, &got, meanwhile, arg) == BED_CHANGED, "the re-check tells");
	BED_CHECK(got.len == len && take(DEPTH) == after, "looked at again");
}

static void test_slow_reader(void)
{
	for (unsigned i = 0; i < 8; i++) {
		uint32_t len = (i & 1u ? 200 : 40) + (i >> 2), next = i & 2u ? 200 : 40;

		begin(64, false);
		publish(0, DEPTH, len);
		check_reader(len, lap_reader, &next, BED_LAPPED);
	}
	begin(64, false);
	publish(0, DEPTH, 200);
	check_reader(200, reuse_frame, NULL, BED_NODATA);

	begin(64, false);
	bed_fill(bed.arena[0], 40, DEPTH, 0);
	leave_writing(DEPTH, 0);
	mdbus_ring_slot(&bed.line[0], DEPTH)->head.hi = mdbus_ref_make(0, 40, 0, 0);
	check_reader(40, finish_copy, NULL, BED_WHOLE);
}

static void test_impossible_places(void)
{
	const struct mdbus_ring *r = &bed.line[BED_LINES];
	const uint8_t *arena = bed.arena[0];
	const struct mdbus_slot *slot = mdbus_ring_slot(r, 1);
	uint64_t ref = mdbus_stamp_make(1, GEN, MDBUS_KIND_REF, 0), in = mdbus_stamp_make(1, GEN, MDBUS_KIND_INLINE, 0);

	BED_CHECK(mdbus_ring_bytes(r, slot, ref, mdbus_ref_make(1000, 24, 0, 0), arena, 1024) == arena + 1000, "the end");
	BED_CHECK(!mdbus_ring_bytes(r, slot, ref, mdbus_ref_make(1000, 25, 0, 0), arena, 1024), "over the end");
	BED_CHECK(!mdbus_ring_bytes(r, slot, ref, mdbus_ref_make(1025, 0, 0, 0), arena, 1024), "behind the end");
	BED_CHECK(!mdbus_ring_bytes(r, slot, ref, mdbus_ref_make(MDBUS_REF_OFF_MAX, 65535, 0, 0), arena, 1024), "far");
	BED_CHECK(!mdbus_ring_bytes(r, slot, ref, mdbus_ref_make(0, 1, 0, 0), NULL, 0), "an arena that is not mapped");
	BED_CHECK(mdbus_ring_bytes(r, slot, in, mdbus_ref_make(0, r->inline_max, 0, 0), NULL, 0) != NULL, "a full slot");
	BED_CHECK(!mdbus_ring_bytes(r, slot, in, mdbus_ref_make(0, r->inline_max + 1u, 0, 0), arena, 1024), "over the slot");
}

static void test_generations(void)
{
	begin(64, false);
	BED_CHECK(publish_gen(0, DEPTH, 255, 0, 40) == MDBUS_PUBLISH_INLINE, "first");
	BED_CHECK(publish_gen(1, DEPTH, 254, 0, 40) == MDBUS_PUBLISH_LATE, "an older generation is late");
	BED_CHECK(publish_gen(1, DEPTH, 255, 0, 40) == MDBUS_PUBLISH_DUPLICATE, "the same");
	BED_CHECK(publish_gen(1, DEPTH, 256, 0, 40) == MDBUS_PUBLISH_INLINE, "the next one is newer");
	BED_CHECK(publish_gen(0, DEPTH, 255, 0, 40) == MDBUS_PUBLISH_LATE, "and stays");
	BED_CHECK(bed_read(&bed, DEPTH, 255, &got, NULL, NULL) == BED_NONE, "not the record of generation 255");
	BED_CHECK(bed_read(&bed, DEPTH, 256, &got, NULL, NULL) == BED_WHOLE && bed_good(&got, DEPTH), "but of 256");
	BED_CHECK(publish_gen(0, DEPTH, 257, 0, 200) == MDBUS_PUBLISH_REF, "by reference too");
	BED_CHECK(mdbus_ring_mark(&bed.line[1], DEPTH, 258, MDBUS_KIND_RESET, 1), "and a mark");
}

/* Taking slots for writing changes no bit of them, whatever they hold. */
static void test_own(void)
{
	static uint8_t before[2][DEPTH * 64u];

	begin(64, true);
	for (uint64_t pos = 1; pos <= DEPTH; pos++)
		publish(0, pos, pos % 2u ? 20 : 2000);
	mdbus_ring_mark(&bed.line[1], DEPTH + 1u, GEN, MDBUS_KIND_GAP, MDBUS_SEQ_MAX);
	leave_writing(DEPTH + 2u, 1);
	mdbus_ring_expire(&bed.line[0], 4, GEN, 4u * 2048u);
	for (unsigned i = 0; i < 3; i++) {
		memcpy(before[0], bed.line[0].slots, sizeof(before[0]));
		mdbus_ring_own(&bed.line[1], DEPTH * i, DEPTH);
		memcpy(before[1], bed.line[0].slots, sizeof(before[1]));
		BED_CHECK(memcmp(before[0], before[1], sizeof(before[0])) == 0, "lap %u", i);
	}
	BED_CHECK(publish(1, DEPTH + 3u, 20) == MDBUS_PUBLISH_INLINE && take(DEPTH + 3u) == BED_WHOLE, "then published");
}

/* ---- one line ------------------------------------------------------------------------------------------------- */

static void nothing_to_see(void)
{
	BED_CHECK(take(2u * DEPTH) == BED_NONE, "not published before it is whole");
	BED_CHECK(take(DEPTH) == BED_LAPPED, "the old record is gone before it is written over");
}

static void test_single(void)
{
	static const char *const point[] = { "single.marked", "single.filled" };

	for (unsigned i = 0; i < 8; i++) {
		begin(64, i & 2u);
		publish_single(0, DEPTH, 40);
		stop_at(point[i & 1u], nothing_to_see);
		BED_CHECK(publish_single(0, 2u * DEPTH, i & 4u ? 200 : 40) != MDBUS_PUBLISH_LATE && stops == 1, "published");
		BED_CHECK(take(2u * DEPTH) == BED_WHOLE, "whole");
		BED_CHECK(publish_single(0, 2u * DEPTH, 40) == MDBUS_PUBLISH_DUPLICATE, "twice");
		BED_CHECK(publish_single(0, DEPTH, 40) == MDBUS_PUBLISH_LATE, "behind");
	}
	/* killed between mark and stamp: its successor, or the gap rule, finds a slot without a record */
	begin(64, false);
	mdbus_ring_slot(&bed.line[0], DEPTH)->head.lo = mdbus_stamp_make(DEPTH, GEN, MDBUS_KIND_EMPTY, 0);
	BED_CHECK(take(DEPTH) == BED_NONE && publish_single(0, DEPTH, 40) == MDBUS_PUBLISH_INLINE, "published again");
	mdbus_ring_slot(&bed.line[0], 1)->head.lo = mdbus_stamp_make(DEPTH + 1u, GEN, MDBUS_KIND_EMPTY, 0);
	BED_CHECK(mdbus_ring_mark(&bed.line[BED_LINES], DEPTH + 1u, GEN, MDBUS_KIND_GAP, 1), "or a gap");
}

int main(void)
{
	test_stamps();
	test_older();
	test_copy();
	test_sizes();
	test_duplicate_and_late();
	test_laps();
	test_marks();
	test_expire();
	test_taint_is_carried();
	test_own_mark();
	test_reader_meets_writer();
	test_late_writer();
	test_lapped_while_clearing();
	test_taken_for_dead();
	test_stopped_before_publishing();
	test_expire_races_lap();
	test_slow_reader();
	test_impossible_places();
	test_generations();
	test_own();
	test_single();
	puts("unit_ring: ok");
	return 0;
}
