/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_bed.h - a ring and its arenas in memory shared with forked children, for tests and benchmarks.
 *
 * Messages describe themselves: every 8-byte word of a message follows from its position, its line and its place in
 * the message, so that a reader can tell from the bytes alone what they are and whether they belong together.
 */
#ifndef MDBUS_TESTS_RING_BED_H
#define MDBUS_TESTS_RING_BED_H

#include <mdbus/ring_single.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BED_LINES 3u

/* Say what is wrong and where, and end the process. */
#define BED_CHECK(cond, format, ...)                                                                          \
	do {                                                                                                  \
		if (!(cond)) {                                                                                \
			fprintf(stderr, "%s:%d: " format " (%s)\n", __FILE__, __LINE__, ##__VA_ARGS__, #cond); \
			_exit(1);                                                                             \
		}                                                                                             \
	} while (0)

struct bed {
	struct mdbus_ring_hdr *hdr;
	struct mdbus_ring line[BED_LINES + 1u]; /* views of the lines; the last one is nobody's: a reader or mdbusd */
	uint8_t *arena[BED_LINES];
	uint64_t arena_size;
	uint32_t slot_size;
};

/* Memory that forked children share; never returns NULL. */
static inline void *bed_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	BED_CHECK(p != MAP_FAILED, "no memory");
	return p;
}

static inline struct bed bed_make(uint64_t depth, uint32_t slot_size, bool timed, uint64_t arena_size)
{
	struct bed b = { .arena_size = arena_size, .slot_size = slot_size };
	size_t slots_off = (sizeof(*b.hdr) + 4095u) & ~(size_t)4095u;

	b.hdr = bed_shared(slots_off + depth * slot_size);
	b.hdr->depth = depth;
	b.hdr->slot_size = slot_size;
	b.hdr->timed = timed;
	b.hdr->slots_off = slots_off;
	b.hdr->segment.size = slots_off + depth * slot_size;
	for (uint32_t k = 0; k < BED_LINES; k++) {
		b.line[k] = mdbus_ring_view(b.hdr, k);
		b.arena[k] = bed_shared(arena_size);
	}
	b.line[BED_LINES] = mdbus_ring_view(b.hdr, MDBUS_LINES_MAX);
	return b;
}

static inline void bed_free(struct bed *b)
{
	munmap(b->hdr, b->hdr->segment.size);
	for (uint32_t k = 0; k < BED_LINES; k++)
		munmap(b->arena[k], b->arena_size);
}

/* Run on core `cpu` modulo the cores this program was started with; harmless where it is refused. */
static inline void bed_pin(unsigned cpu)
{
	static cpu_set_t have; /* children inherit it, and are not bound to their parent's core */
	cpu_set_t want;

	if (CPU_COUNT(&have) == 0 && sched_getaffinity(0, sizeof(have), &have) != 0)
		return;
	cpu %= (unsigned)CPU_COUNT(&have);
	for (unsigned i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &have) || cpu-- != 0)
			continue;
		CPU_ZERO(&want);
		CPU_SET(i, &want);
		sched_setaffinity(0, sizeof(want), &want);
		return;
	}
}

static inline uint64_t bed_mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static inline uint32_t bed_random(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(bed_mix(*state) >> 32);
}

static inline uint64_t bed_word(uint64_t pos, uint32_t line, uint32_t i)
{
	return i == 0 ? pos << 8 | line : bed_mix(pos << 8 | line) + i;
}

/* Write the message of (pos, line), len bytes. */
static inline void bed_fill(uint8_t *to, uint32_t len, uint64_t pos, uint32_t line)
{
	for (uint32_t i = 0; i < len; i += 8u) {
		uint64_t w = bed_word(pos, line, i / 8u);

		__builtin_memcpy(to + i, &w, len - i < 8u ? len - i : 8u);
	}
}

/* True if these bytes are, all of them, the message of (pos, line). */
static inline bool bed_is(const uint8_t *bytes, uint32_t len, uint64_t pos, uint32_t line)
{
	for (uint32_t i = 0; i < len; i += 8u) {
		uint64_t w = bed_word(pos, line, i / 8u);

		if (__builtin_memcmp(bytes + i, &w, len - i < 8u ? len - i : 8u) != 0)
			return false;
	}
	return true;
}

enum bed_read {
	BED_NONE,    /* not there yet */
	BED_WHOLE,   /* copied, and the re-check vouches for it */
	BED_NODATA,  /* a record without bytes, EXPIRED included */
	BED_LAPPED,
	BED_CHANGED, /* the re-check failed: look again */
};

struct bed_got {
	uint64_t stamp;
	uint64_t ref;
	uint32_t len;
	uint8_t bytes[2048];
};

/*
 * The reader's recipe: look, check the place, copy, ask whether it still stands.  meanwhile (may be NULL) is called
 * between the halves of the copy: that is where a test lets the ring go on.
 */
static inline enum bed_read bed_read(const struct bed *b, uint64_t pos, uint64_t gen, struct bed_got *got,
                                     void (*meanwhile)(void *), void *arg)
{
	const struct mdbus_ring *r = &b->line[BED_LINES];
	const struct mdbus_slot *slot = mdbus_ring_slot(r, pos);
	enum mdbus_look look = mdbus_ring_look(r, pos, gen, &got->stamp, &got->ref);

	if (look != MDBUS_LOOK_RECORD)
		return look == MDBUS_LOOK_NONE ? BED_NONE : BED_LAPPED;
	enum mdbus_kind kind = mdbus_stamp_kind(got->stamp);

	if (kind != MDBUS_KIND_REF && kind != MDBUS_KIND_INLINE)
		return BED_NODATA;
	uint32_t line = mdbus_ref_line(got->ref);
	const uint8_t *arena = line < BED_LINES ? b->arena[line] : NULL;
	const uint8_t *bytes = mdbus_ring_bytes(r, slot, got->stamp, got->ref, arena, b->arena_size);

	got->len = mdbus_ref_len(got->ref);
	if (bytes == NULL || got->len > sizeof(got->bytes))
		return BED_CHANGED;
	uint32_t half = got->len / 2u;

	if (meanwhile && (got->ref & 1u << 8))
		meanwhile(arg);
	mdbus_copy(got->bytes, bytes, half);
	if (meanwhile && !(got->ref & 1u << 8))
		meanwhile(arg);
	mdbus_copy(got->bytes + half, bytes + half, got->len - half);
	return mdbus_ring_still(slot, got->stamp) ? BED_WHOLE : BED_CHANGED;
}

/* True if a whole read delivered exactly the message of pos as its line wrote it. */
static inline bool bed_good(const struct bed_got *got, uint64_t pos)
{
	return bed_is(got->bytes, got->len, pos, mdbus_ref_line(got->ref));
}

#endif
