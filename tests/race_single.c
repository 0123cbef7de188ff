/* SPDX-License-Identifier: Apache-2.0
 *
 * A ring with one line: mark, write, stamp, without a locked instruction, against two readers in their own processes.
 *
 * mutants: publish_before_payload no_mark skip_recheck
 *
 * The producer runs free for a while, lapping the readers, then keeps near them, and stands still at random points
 * of its call, where it looks itself at what a reader would get at that moment.
 */
#ifndef MDBUS_HOOKS
#define MDBUS_HOOKS 1
#endif
#include "ring_bed.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define DEPTH    64u
#define FRAMES   10u
#define FRAME    512u
#define READERS  2u
#define PRODUCER READERS

#define CASES(X)                                                          \
	X(inline_read, "inline records read whole")                       \
	X(ref_read, "records read whole by reference")                    \
	X(expired, "records expired by their owner")                      \
	X(expired_read, "expired records met by a reader")                \
	X(changed, "records that changed under a reader")                 \
	X(lapped, "times a reader was lapped")                            \
	X(marked, "times a reader met a slot that was being written")     \
	X(stands, "times the producer stood still inside its call")

struct cases {
#define CASE_FIELD(name, text) uint64_t name;
	CASES(CASE_FIELD)
};

struct way {
	const char *name;
	uint64_t end; /* positions 1 .. end - 1 */
	uint32_t slot_size;
	bool timed;
	uint32_t stand_one_in; /* hooks */
	struct cases least;
};

static const struct way ways[] = {
	{ "free", 150001, 64, false, 0,
	  { .inline_read = 1000, .ref_read = 1000, .expired = 100, .expired_read = 10, .changed = 10, .lapped = 10 } },
	{ "standing", 20001, 128, true, 60,
	  { .inline_read = 1000, .ref_read = 1000, .expired = 100, .expired_read = 10, .changed = 10, .lapped = 10,
	    .marked = 20, .stands = 50 } },
};

static struct shared {
	struct {
		uint64_t next;
		uint64_t looks; /* of a reader */
		struct cases cases;
	} process[READERS + 1u] __attribute__((aligned(64)));
} *shared;

static struct bed bed;
static const struct way *way;
static unsigned self;
static struct cases *mine;
static uint64_t seed, current;

static uint32_t length(uint64_t pos)
{
	uint64_t r = bed_mix(pos);

	return 9u + (uint32_t)(r >> 8) % (r & 3u ? way->slot_size - 40u : FRAME - 16u);
}

static uint64_t load_stamp(uint64_t pos)
{
	return mdbus_load_acquire(&mdbus_ring_slot(&bed.line[0], pos)->head.lo);
}

/* What a reader would get at this moment has to be whole. */
static void inspect(uint64_t slot)
{
	static struct bed_got got;
	uint64_t now = mdbus_stamp_pos(load_stamp(slot));

	if (bed_read(&bed, now, 1, &got, NULL, NULL) == BED_WHOLE)
		BED_CHECK(got.len == length(now) && bed_good(&got, now), "torn record at %lu", (unsigned long)now);
}

void mdbus_hook(const char *point);

void mdbus_hook(const char *point)
{
	uint64_t until[READERS];

	inspect(current);
	if (way->stand_one_in == 0 || bed_random(&seed) % way->stand_one_in != 0 || strncmp(point, "single", 6) != 0)
		return;
	mine->stands++;
	for (unsigned i = 0; i < READERS; i++)
		until[i] = mdbus_load_relaxed(&shared->process[i].looks) + 10u;
	for (unsigned i = 0; i < READERS; i++)
		while (mdbus_load_relaxed(&shared->process[i].looks) < until[i])
			sched_yield();
}

static void keep_near(uint64_t pos)
{
	for (unsigned i = 0; i < READERS && pos / 512u % 4u != 0; i++)
		while (mdbus_load_acquire(&shared->process[i].next) + DEPTH / 2u < pos)
			sched_yield();
}

static uint64_t used[FRAMES]; /* the record by reference that each frame is of, 0: none */

/* The message of a position, in the frame whose turn it is: that is taken back from the record before, if it was by reference. */
static struct mdbus_offer prepare(uint64_t pos)
{
	uint64_t i = pos % FRAMES, off = i * FRAME;
	uint32_t len = length(pos);

	if (used[i] != 0) {
		current = used[i];
		mine->expired += mdbus_ring_expire(&bed.line[0], used[i], 1, off);
		bed_fill(bed.arena[0] + off, FRAME, 0, 0);
		inspect(used[i]);
	}
	bed_fill(bed.arena[0] + off, len, pos, 0);
	return (struct mdbus_offer){ .pos = pos, .bytes = bed.arena[0] + off, .off = off, .len = len };
}

/* For half of the positions one by one, for the others in packets of a few. */
static void produce(void)
{
	struct mdbus_offer o[MDBUS_OWN_BATCH];

	for (uint64_t pos = 1, n; pos < way->end; pos += n) {
		n = pos / 64u % 2u ? 1u + bed_random(&seed) % (FRAMES < MDBUS_OWN_BATCH ? FRAMES : MDBUS_OWN_BATCH) : 1u;
		if (n > way->end - pos)
			n = way->end - pos;
		keep_near(pos);
		for (uint64_t i = 0; i < n; i++)
			o[i] = prepare(pos + i);
		current = pos;
		if (n == 1)
			o[0].result = mdbus_ring_publish_single(&bed.line[0], pos, 1, o[0].bytes, o[0].off, o[0].len, pos, 0);
		else
			mdbus_ring_publish_single_batch(&bed.line[0], 1, o, (uint32_t)n, pos, 0);
		for (uint64_t i = 0; i < n; i++) {
			BED_CHECK(o[i].result == MDBUS_PUBLISH_REF || o[i].result == MDBUS_PUBLISH_INLINE, "%lu refused",
			          (unsigned long)(pos + i));
			used[(pos + i) % FRAMES] = o[i].result == MDBUS_PUBLISH_REF ? pos + i : 0;
		}
		mdbus_store_release(&shared->process[PRODUCER].next, pos + n);
	}
}

static struct bed_got got;

/* Between the halves of a copy: mostly nothing, sometimes until the ring has gone on. */
static void dawdle(void *slot)
{
	uint32_t r = bed_random(&seed) & 63u;

	for (unsigned i = 0; r < 8u && i < (r == 0 ? 2000u : 20u); i++) {
		if (mdbus_load_relaxed(&((struct mdbus_slot *)slot)->head.lo) != got.stamp ||
		    mdbus_load_relaxed(&shared->process[PRODUCER].next) == way->end)
			return;
		if (i % 16u == 15u) {
			mdbus_count(&shared->process[self].looks, 1u);
			sched_yield();
		}
	}
}

static uint64_t step(uint64_t pos)
{
	bool there = mdbus_load_acquire(&shared->process[PRODUCER].next) > pos;
	enum bed_read r = bed_read(&bed, pos, 1, &got, dawdle, mdbus_ring_slot(&bed.line[0], pos));
	uint64_t stamp = load_stamp(pos);

	switch (r) {
	case BED_NONE:
		BED_CHECK(!there, "%lu is not there, though published", (unsigned long)pos);
		mine->marked += mdbus_stamp_pos(stamp) == pos && mdbus_stamp_kind(stamp) == MDBUS_KIND_EMPTY;
		if (bed_random(&seed) % 64u == 0)
			sched_yield();
		return pos;
	case BED_CHANGED:
		mine->changed++;
		return pos;
	case BED_LAPPED:
		mine->lapped++;
		return mdbus_stamp_pos(stamp) - DEPTH + 1u + bed_random(&seed) % (DEPTH / 2u);
	case BED_NODATA:
		BED_CHECK(mdbus_stamp_kind(got.stamp) == MDBUS_KIND_EXPIRED, "kind at %lu", (unsigned long)pos);
		mine->expired_read++;
		return pos + 1u;
	default:
		BED_CHECK(got.len == length(pos) && bed_good(&got, pos), "torn message at %lu", (unsigned long)pos);
		mine->inline_read += mdbus_stamp_kind(got.stamp) == MDBUS_KIND_INLINE;
		mine->ref_read += mdbus_stamp_kind(got.stamp) == MDBUS_KIND_REF;
		return pos + 1u;
	}
}

static void read_all(void)
{
	uint64_t pos = 1;

	while (pos < way->end) {
		pos = step(pos);
		mdbus_store_release(&shared->process[self].next, pos);
		mdbus_count(&shared->process[self].looks, 1u);
	}
	mdbus_store_release(&shared->process[self].looks, UINT64_MAX / 2u);
}

static void start(unsigned role)
{
	pid_t pid = fork();

	BED_CHECK(pid >= 0, "fork");
	if (pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody outlives a failed test */
	self = role;
	mine = &shared->process[self].cases;
	seed = self * 1000003u + way->end;
	bed_pin(self == 0);
	if (self == PRODUCER)
		produce();
	else
		read_all();
	_exit(0);
}

static void run(const struct way *w)
{
	struct cases total = { 0 };
	int status, missing = 0;

	way = w;
	bed = bed_make(DEPTH, way->slot_size, way->timed, FRAMES * FRAME);
	shared = bed_shared(sizeof(*shared));
	for (unsigned i = 0; i <= READERS; i++)
		start(i);
	for (unsigned left = READERS + 1u; left > 0; left--)
		BED_CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: a process failed",
		          way->name);
	printf("%s\n", way->name);
#define CASE_SUM(name, text)                                                                             \
	for (unsigned i = 0; i <= READERS; i++)                                                          \
		total.name += shared->process[i].cases.name;                                             \
	printf("  %9lu %s%s\n", (unsigned long)total.name, text, total.name < way->least.name ? ": TOO FEW" : ""); \
	missing += total.name < way->least.name;
	CASES(CASE_SUM)
	BED_CHECK(missing == 0, "%s: %d cases happened too rarely to have been tested", way->name, missing);
	bed_free(&bed);
	munmap(shared, sizeof(*shared));
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		run(&ways[i]);
	puts("race_single: ok");
	return 0;
}
