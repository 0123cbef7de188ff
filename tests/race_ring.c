/* SPDX-License-Identifier: Apache-2.0
 *
 * Two producers, two readers, four processes, one small ring that laps all the time.
 *
 * timeout: 400
 * mutants: skip_recheck plain_inline no_taint reuse_before_expire epoch_ignored warm_by_store
 *
 * Both producers publish every position, each from its own few frames, which it reuses after mdbus_ring_expire.  What
 * a message says differs between the lines, so that readers can compare notes: a position has one content for all of
 * them.  At every CONTESTED-th position line 1 is one generation ahead of line 0 and must prevail.
 *
 * For 512 positions of every 2,048 the producers run free and lap everybody; else they keep near each other and near
 * the readers, without which most messages would be neither duplicates nor read.
 *
 * Three ways to run: `race` leaves it to the scheduler; `parked` holds a producer at random hooks of its calls until
 * the other has lapped it; `stopped` sends SIGSTOP and SIGCONT to anybody at any time.  Each way names the cases it is
 * there to produce, and fails if one of them did not happen.
 */
#ifndef MDBUS_HOOKS
#define MDBUS_HOOKS 1
#endif
#include "ring_bed.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define DEPTH     64u
#define FRAMES    10u /* of each line: fewer than the slots that may refer to them */
#define FRAME     512u
#define CONTESTED 61u
#define POS_END   120001u

#define CASES(X)                                                                   \
	X(duplicates, "second copies refused")                                     \
	X(late, "publications refused because the ring had gone on")               \
	X(expired, "records expired by their owner")                               \
	X(tainted, "short records published by reference beside a stopped writer") \
	X(lapped_writers, "writers lapped inside their copy")                      \
	X(overruled, "positions where the next generation replaced a record")      \
	X(inline_read, "inline records read whole")                                \
	X(ref_read, "records read whole by reference")                             \
	X(writing_read, "of those, while the inline copy was under way")           \
	X(tainted_read, "of those, tainted")                                       \
	X(expired_read, "expired records met by a reader")                         \
	X(changed, "records that changed under a reader")                          \
	X(lapped, "times a reader was lapped")                                     \
	X(agreed, "positions that both readers read")                              \
	X(parks, "times a producer was held at a hook")                            \
	X(stops, "times a process was stopped")

struct cases {
#define CASE_FIELD(name, text) uint64_t name;
	CASES(CASE_FIELD)
};

struct way {
	const char *name;
	uint64_t end; /* positions 1 .. end - 1 */
	uint32_t slot_size;
	bool timed;
	uint32_t park_one_in; /* hooks; 0: never */
	bool stop;
	struct cases least;   /* how often each case must happen */
};

static const struct way ways[] = {
	{ "race", POS_END, 128, false, 0, false,
	  { .duplicates = 1000, .expired = 100, .overruled = 10, .inline_read = 1000, .ref_read = 100, .changed = 10,
	    .expired_read = 1, .lapped = 10, .agreed = 1000 } },
	{ "parked", 30001, 128, true, 150, false,
	  { .duplicates = 1000, .late = 100, .expired = 100, .tainted = 20, .lapped_writers = 20, .overruled = 10,
	    .inline_read = 1000, .ref_read = 100, .writing_read = 20, .tainted_read = 5, .expired_read = 10, .changed = 10,
	    .lapped = 10, .agreed = 1000, .parks = 100 } },
	{ "stopped", POS_END, 256, false, 0, true,
	  { .duplicates = 1000, .late = 10, .expired = 100, .inline_read = 1000, .ref_read = 10, .changed = 10, .lapped = 10,
	    .stops = 20 } },
};

/* What the four processes and their parent share. */
struct shared {
	struct {
		uint64_t next; /* position it is at */
		uint64_t parked; /* of a producer: until the other one has come this far; 0: it runs */
		uint32_t done;
		struct cases cases;
	} process[4] __attribute__((aligned(64)));
	uint8_t won[2][POS_END];  /* by producer */
	uint8_t read[2][POS_END]; /* by reader: the line whose message it was, plus 1 */
};

static struct bed bed;
static struct shared *shared;
static const struct way *way;
static unsigned self; /* 0, 1: producers, which are lines 0 and 1; 2, 3: readers */
static struct cases *mine;
static uint64_t seed;

static uint64_t generation(uint64_t pos, uint32_t line)
{
	return pos % CONTESTED == 0 && line == 1 ? 2 : 1;
}

static uint32_t length(uint64_t pos)
{
	uint64_t r = bed_mix(pos);

	return 9u + (uint32_t)(r >> 8) % (r & 3u ? way->slot_size - 40u : FRAME - 16u);
}

static uint64_t slot_pos(uint64_t pos)
{
	return mdbus_stamp_pos(mdbus_load_acquire(&mdbus_ring_slot(&bed.line[0], pos)->head.lo));
}

/* ---- producers ------------------------------------------------------------------------------------------------ */

struct held {
	uint64_t pos, gen, off;
};

static struct {
	uint64_t pos; /* being published */
	uint64_t seen; /* position in its slot when its inline copy was done */
	struct held held[FRAMES];
	unsigned nheld, oldest;
	uint64_t free[FRAMES];
	unsigned nfree;
} producer;

/* Stand still, first until the readers have come here (not for ever), then until the other line has lapped this one or cannot. */
static void park(void)
{
	unsigned other = self ^ 1u;
	uint64_t until = producer.pos + DEPTH * (1u + bed_random(&seed) % 2u) + 1u;

	for (unsigned i = 0; i < 100 && slot_pos(producer.pos) == producer.pos; i++) {
		if (mdbus_load_acquire(&shared->process[2].next) > producer.pos &&
		    mdbus_load_acquire(&shared->process[3].next) > producer.pos)
			break;
		sched_yield();
	}
	__atomic_store_n(&shared->process[self].parked, until, __ATOMIC_SEQ_CST);
	while (mdbus_load_acquire(&shared->process[other].next) < until &&
	       !mdbus_load_acquire(&shared->process[other].done) &&
	       !__atomic_load_n(&shared->process[other].parked, __ATOMIC_SEQ_CST))
		sched_yield();
	__atomic_store_n(&shared->process[self].parked, 0, __ATOMIC_SEQ_CST);
	mine->parks++;
}

/* Read what stands at the slot now: at this very moment a reader would get it, so it has to be whole. */
static void inspect(uint64_t pos)
{
	static struct bed_got got;
	uint64_t now = slot_pos(pos);

	for (uint64_t gen = 1; gen <= 2; gen++)
		if (bed_read(&bed, now, gen, &got, NULL, NULL) == BED_WHOLE)
			BED_CHECK(bed_good(&got, now), "torn record at %lu", (unsigned long)now);
}

/* The copy is done and may have gone over a later record. */
static void copied(void)
{
	producer.seen = slot_pos(producer.pos);
	if (producer.seen != producer.pos) {
		mine->lapped_writers++;
		inspect(producer.pos);
	}
}

/* The upgrade has been tried. */
static void upgraded(void)
{
	uint64_t stamp = mdbus_load_acquire(&mdbus_ring_slot(&bed.line[0], producer.pos)->head.lo);

	BED_CHECK(mdbus_stamp_pos(stamp) >= producer.seen, "stamp went back from %lu to %lu", (unsigned long)producer.seen,
	          (unsigned long)mdbus_stamp_pos(stamp));
	BED_CHECK(!(stamp & MDBUS_STAMP_TAINTED) || mdbus_stamp_line(stamp) != self, "own mark left at %lu",
	          (unsigned long)producer.pos);
}

void mdbus_hook(const char *point);

void mdbus_hook(const char *point)
{
	if (way->park_one_in && bed_random(&seed) % way->park_one_in == 0)
		park();
	if (strcmp(point, "inline.before") == 0)
		copied();
	if (strcmp(point, "inline.after") == 0)
		upgraded();
}

/* A frame that no slot refers to; the oldest record by reference is expired if there is none. */
static uint64_t frame(void)
{
	if (producer.nfree > 0)
		return producer.free[--producer.nfree];
	struct held h = producer.held[producer.oldest++ % FRAMES];

	producer.nheld--;
	mine->expired += mdbus_ring_expire(&bed.line[self], h.pos, h.gen, h.off);
	bed_fill(bed.arena[self] + h.off, FRAME, UINT64_C(1) << 47 | h.pos, self);
	inspect(h.pos);
	return h.off;
}

static void publish(uint64_t pos)
{
	uint32_t len = length(pos);
	uint64_t gen = generation(pos, self), off = frame();
	const uint8_t *bytes = bed.arena[self] + off;
	enum mdbus_publish r;

	producer.pos = pos;
	bed_fill(bed.arena[self] + off, len, pos, self);
	bool record = mdbus_stamp_is(mdbus_load_relaxed(&mdbus_ring_slot(&bed.line[0], pos)->head.lo), pos, 1);

	r = mdbus_ring_publish(&bed.line[self], pos, gen, bytes, off, len, pos, 0);
	shared->won[self][pos] = r == MDBUS_PUBLISH_REF || r == MDBUS_PUBLISH_INLINE;
	mine->duplicates += r == MDBUS_PUBLISH_DUPLICATE;
	mine->late += r == MDBUS_PUBLISH_LATE;
	mine->overruled += gen == 2 && record && shared->won[self][pos];
	mine->tainted += r == MDBUS_PUBLISH_REF && len <= bed.line[self].inline_max;
	BED_CHECK(gen == 1 || shared->won[self][pos] || slot_pos(pos) != pos,
	          "generation 2 did not prevail at %lu", (unsigned long)pos);
	if (r == MDBUS_PUBLISH_REF)
		producer.held[(producer.oldest + producer.nheld++) % FRAMES] = (struct held){ pos, gen, off };
	else
		producer.free[producer.nfree++] = off;
}

static bool far_behind(unsigned process, uint64_t pos, uint64_t limit)
{
	return mdbus_load_acquire(&shared->process[process].next) + limit < pos &&
	       !mdbus_load_acquire(&shared->process[process].done);
}

/* Wait for those who are too far behind to be raced with, unless the other producer waits to be lapped first. */
static void keep_near(uint64_t pos)
{
	unsigned other = self ^ 1u;
	bool free_run = pos / 512u % 4u == 0;

	while (__atomic_load_n(&shared->process[other].parked, __ATOMIC_SEQ_CST) <= pos &&
	       (far_behind(other, pos, free_run ? 4u * DEPTH : DEPTH / 4u) ||
	        (!free_run && (far_behind(2, pos, DEPTH / 2u) || far_behind(3, pos, DEPTH / 2u)))))
		sched_yield();
}

static void produce(void)
{
	while (producer.nfree < FRAMES) {
		producer.free[producer.nfree] = (uint64_t)producer.nfree * FRAME;
		producer.nfree++;
	}
	for (uint64_t pos = 1; pos < way->end; pos++) {
		keep_near(pos);
		if (pos % MDBUS_OWN_BATCH == 0)
			mdbus_ring_own(&bed.line[self], pos, MDBUS_OWN_BATCH);
		publish(pos);
		if (way->slot_size > MDBUS_CACHE_LINE)
			mdbus_ring_warm(&bed.line[self], pos + 1u + pos % 3u, way->slot_size - MDBUS_CACHE_LINE);
		mdbus_store_release(&shared->process[self].next, pos + 1u);
		for (uint32_t r = bed_random(&seed), i = r & 127u ? 0 : r >> 24; i > 0; i--)
			mdbus_pause();
	}
}

/* ---- readers ---------------------------------------------------------------------------------------------------- */

static struct bed_got got;

/* Both producers have been through pos. */
static bool is_published(uint64_t pos)
{
	return mdbus_load_acquire(&shared->process[0].next) > pos && mdbus_load_acquire(&shared->process[1].next) > pos;
}

/* Between the halves of a copy: mostly nothing, sometimes until the ring has gone on. */
static void dawdle(void *slot)
{
	uint32_t r = bed_random(&seed) & 63u;

	if (r > 7u)
		return;
	for (unsigned i = 0; i < (r == 0 ? 2000u : 20u) && !is_published(way->end - 1u); i++) {
		if (mdbus_load_relaxed(&((struct mdbus_slot *)slot)->head.lo) != got.stamp)
			return;
		if (i % 16u == 15u)
			sched_yield();
	}
}

static void delivered(uint64_t pos)
{
	bool by_ref = mdbus_stamp_kind(got.stamp) == MDBUS_KIND_REF;

	BED_CHECK(got.len == length(pos), "length %u at %lu", got.len, (unsigned long)pos);
	BED_CHECK(bed_good(&got, pos), "torn message at %lu", (unsigned long)pos);
	mine->inline_read += !by_ref;
	mine->ref_read += by_ref;
	mine->writing_read += by_ref && got.stamp & MDBUS_STAMP_WRITING;
	mine->tainted_read += by_ref && got.stamp & MDBUS_STAMP_TAINTED;
	shared->read[self - 2u][pos] = (uint8_t)(1u + mdbus_ref_line(got.ref));
}

static void read_all(void)
{
	uint64_t newest[DEPTH] = { 0 }, idle = 0;

	for (uint64_t pos = 1; pos < way->end;) {
		bool there = is_published(pos);
		enum bed_read r = bed_read(&bed, pos, generation(pos, 1), &got, dawdle, mdbus_ring_slot(&bed.line[0], pos));
		uint64_t now = slot_pos(pos);

		mdbus_store_release(&shared->process[self].next, pos);
		BED_CHECK(now >= newest[pos % DEPTH], "stamp went back to %lu", (unsigned long)now);
		newest[pos % DEPTH] = now;
		switch (r) {
		case BED_NONE:
			BED_CHECK(!there, "%lu is not there, though both have published it", (unsigned long)pos);
			if (++idle % 64u == 0)
				sched_yield();
			break;
		case BED_CHANGED:
			mine->changed++;
			break;
		case BED_LAPPED:
			mine->lapped++;
			pos = now - DEPTH + 1u + bed_random(&seed) % (DEPTH / 2u);
			break;
		case BED_NODATA:
			BED_CHECK(mdbus_stamp_kind(got.stamp) == MDBUS_KIND_EXPIRED, "kind at %lu", (unsigned long)pos);
			mine->expired_read++;
			pos++;
			break;
		case BED_WHOLE:
			delivered(pos++);
			break;
		}
	}
}

/* ---- the parent --------------------------------------------------------------------------------------------------- */

static pid_t start(unsigned role)
{
	pid_t pid = fork();

	BED_CHECK(pid >= 0, "fork");
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody outlives a failed test */
	self = role;
	mine = &shared->process[self].cases;
	seed = self * 1000003u + way->end + way->slot_size;
	bed_pin(self == 1 || self == 2);
	if (self < 2)
		produce();
	else
		read_all();
	mdbus_store_release(&shared->process[self].done, 1);
	_exit(0);
}

/* Stop anybody for a while. */
static void disturb(const pid_t *pid, struct cases *total)
{
	unsigned victim = bed_random(&seed) % 4u;

	usleep(bed_random(&seed) % 1500u);
	if (!way->stop || mdbus_load_acquire(&shared->process[victim].done))
		return;
	kill(pid[victim], SIGSTOP);
	usleep(bed_random(&seed) % 3000u);
	kill(pid[victim], SIGCONT);
	total->stops++;
}

static void wait_for_all(const pid_t *pid, struct cases *total)
{
	unsigned left = 4;
	int status;

	while (left > 0) {
		pid_t p = waitpid(-1, &status, WNOHANG);

		if (p == 0) {
			disturb(pid, total);
			continue;
		}
		left--;
		BED_CHECK(p > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: a process failed", way->name);
	}
}

static void compare(struct cases *total)
{
	for (uint64_t pos = 1; pos < way->end; pos++) {
		uint8_t a = shared->read[0][pos], b = shared->read[1][pos];

		BED_CHECK(a == 0 || b == 0 || a == b, "%lu: line %u and line %u", (unsigned long)pos, a - 1u, b - 1u);
		BED_CHECK(pos % CONTESTED || a != 1, "%lu: the older generation", (unsigned long)pos);
		BED_CHECK(pos % CONTESTED == 0 || shared->won[0][pos] + shared->won[1][pos] == 1, "%lu: published %d times",
		          (unsigned long)pos, shared->won[0][pos] + shared->won[1][pos]);
		total->agreed += a != 0 && a == b;
	}
}

static void run(const struct way *w)
{
	struct cases total = { 0 };
	pid_t pid[4];
	int missing = 0;

	way = w;
	seed = 17;
	bed = bed_make(DEPTH, way->slot_size, way->timed, FRAMES * FRAME);
	shared = bed_shared(sizeof(*shared));
	for (unsigned i = 0; i < 4; i++)
		pid[i] = start(i);
	wait_for_all(pid, &total);
	compare(&total);
	printf("%s\n", way->name);
#define CASE_SUM(name, text)                                                                             \
	for (unsigned i = 0; i < 4; i++)                                                                 \
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
	puts("race_ring: ok");
	return 0;
}
