/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_segment.c - a bus whose memory was damaged: refused on attach, or read without harm.
 *
 * Input: set-up u8; nmsg u8, messages published before; then damages, six bytes and more each (damage()): any byte of any
 * segment, or a word of a slot, a generation or a line's progress.  Segments that still pass the check that every
 * attach makes are read by a subscriber, and on request used by a line.  Every byte a record points to is touched; each
 * segment is a heap block of exactly its size, so the sanitizer sees one read too far.
 */
#include "../bus/segment.h"
#include "../bus/shape.h"
#include "bus_bed.h"
#include "fuzz.h"

#define RECORDS_MAX 4096u

static struct bed bed;
static uint64_t now;
static volatile uint8_t sink;

static void take_heap(struct mdbus_region *r, uint32_t kind, uint32_t index)
{
	struct mdbus_segment_hdr *h = r->base;
	void *copy;

	if (r->base == NULL)
		return;
	h->magic = MDBUS_MAGIC;
	h->version = MDBUS_ABI_VERSION;
	h->kind = kind;
	h->layout_hash = MDBUS_ABI_LAYOUT;
	h->size = r->size;
	h->index = index;
	FUZZ_CHECK(posix_memalign(&copy, 4096, r->size) == 0);
	memcpy(copy, r->base, r->size);
	r->base = copy;
}

/* The bus of the bed, copied. */
static struct mdbus_bus copied(void)
{
	struct mdbus_bus b = bed.bus;

	take_heap(&b.dir_region, MDBUS_SEGMENT_BUS, 0);
	b.dir = b.dir_region.base;
	take_heap(&b.ring[0], MDBUS_SEGMENT_RING, 0);
	take_heap(&b.arena[0], MDBUS_SEGMENT_ARENA, 0);
	take_heap(&b.arena[1], MDBUS_SEGMENT_ARENA, 1);
	take_heap(&b.seat[0], MDBUS_SEGMENT_SEAT, 0);
	take_heap(&b.keys[0], MDBUS_SEGMENT_KEYS, 0);
	return b;
}

static void release(struct mdbus_bus *b)
{
	free(b->dir_region.base);
	free(b->ring[0].base);
	free(b->arena[0].base);
	free(b->arena[1].base);
	free(b->seat[0].base);
	free(b->keys[0].base);
}

static void put_bytes(void *base, size_t size, size_t at, struct fuzz_in *in, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		((uint8_t *)base)[(at + i) % size] = fuzz_u8(in);
}

/* op u8: low 3 bits choose what, the rest how many bytes; where u16; then the bytes. */
static void damage(struct mdbus_bus *b, struct fuzz_in *in)
{
	struct mdbus_ring_hdr *ring = b->ring[0].base;
	struct mdbus_region *whole[] = { &b->dir_region, &b->ring[0], &b->arena[0], &b->seat[0], &b->keys[0] };
	uint8_t op = fuzz_u8(in);
	size_t at = fuzz_u16(in);
	unsigned n = (op >> 3) % 16u + 1u;

	switch (op & 7u) {
	case 5: /* a slot's stamp and ref; slots_off may be damaged already, the first slots are where they were made */
		put_bytes((uint8_t *)ring + 12288, b->ring[0].size - 12288, at / 16u * 64u + at % 16u, in, n);
		break;
	case 6:
		put_bytes(ring->generation, sizeof(ring->generation), at, in, n);
		break;
	case 7: /* what the line says of its channel */
		put_bytes((uint8_t *)b->arena[0].base + 128, 4096, at, in, n);
		break;
	default:
		if (whole[op & 7u]->base)
			put_bytes(whole[op & 7u]->base, whole[op & 7u]->size, at, in, n);
	}
}

static bool attachable(const struct mdbus_bus *b)
{
	const struct {
		const struct mdbus_region *r;
		uint32_t kind;
	} all[] = {
		{ &b->dir_region, MDBUS_SEGMENT_BUS }, { &b->ring[0], MDBUS_SEGMENT_RING }, { &b->arena[0], MDBUS_SEGMENT_ARENA },
		{ &b->arena[1], MDBUS_SEGMENT_ARENA }, { &b->seat[0], MDBUS_SEGMENT_SEAT }, { &b->keys[0], MDBUS_SEGMENT_KEYS },
	};
	bool good = true;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		char err[64];

		memset(err, 'x', sizeof(err));
		if (all[i].r->base == NULL)
			continue;
		if (mdbus_segment_check(all[i].r->base, all[i].r->size, all[i].kind, err, sizeof(err)) != 0) {
			FUZZ_CHECK(memchr(err, 0, sizeof(err)) && err[0] != 0);
			good = false;
		}
	}
	return good && b->dir->nchannel == 1 && b->dir->nline <= 2 && mdbus_bus_arena(b, 0)->nchannel == 1;
}

static void read_all(const struct mdbus_bus *b, bool unordered, bool oldest)
{
	struct mdbus_sub_options o = { .unordered = unordered, .start = oldest ? MDBUS_START_OLDEST : MDBUS_START_HEAD };
	struct mdbus_sub *s = mdbus_sub_over(b, &o);
	struct mdbus_record r;

	if (s == NULL)
		return;
	for (uint32_t i = 0; i < RECORDS_MAX && mdbus_sub_next(s, &r); i++) {
		FUZZ_CHECK(r.kind <= MDBUS_RECORD_OVERRUN);
		for (uint32_t k = 0; r.kind == MDBUS_RECORD_DATA && k < r.len; k++)
			sink = r.data[k];
		mdbus_sub_valid(s, &r);
	}
	mdbus_sub_close(s);
}

static void send(struct mdbus_channel *c, uint32_t frame, uint64_t seq, uint32_t count, char session)
{
	struct mdbus_arena_hdr *a = mdbus_bus_arena(c->bus, c->line);
	uint64_t off = a->frames_off + (uint64_t)(frame % a->nframes) * a->frame_size + MDBUS_FRAME_META;
	uint8_t *at = (uint8_t *)a + off;
	struct bed_mold m = { .seq = seq, .count = count, .salt = 1 };

	snprintf(m.session, sizeof(m.session), "SESSION--%c", session);
	now += 1000;
	mdbus_channel_packet(c, &(struct mdbus_chunk){ off, at, bed_mold_build(&m, at, 1900), now }, now);
	mdbus_channel_tick(c, now += 1000000);
}

/* A line that takes over what is there. */
static void go_on(const struct mdbus_bus *b, uint64_t seq)
{
	struct mdbus_channel *c = malloc(sizeof(*c));
	struct mdbus_holds holds;

	FUZZ_CHECK(mdbus_holds_init(&holds, b->arena[0].base, 1024) == 0);
	if (mdbus_channel_init(c, b, 0, 0, &holds) == 0) {
		for (uint32_t i = 0; i < 4; i++)
			send(c, i, seq + 3u * i, 3, 'A');
		for (uint32_t i = 4; i < 8; i++)
			send(c, i, 1 + 3u * i, 3, 'B');
	}
	mdbus_holds_free(&holds);
	free(c);
}

static void publish(uint32_t n)
{
	uint8_t bytes[2048];

	for (uint64_t seq = 1; seq <= n; seq += 2) {
		struct bed_mold m = { .session = "SESSION--A", .seq = seq, .count = 2, .salt = 1 };

		now += 1000;
		bed_packet(&bed, seq / 2 % 2, bytes, bed_mold_build(&m, bytes, sizeof(bytes)), now);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	uint8_t setup = fuzz_u8(&in), nmsg = fuzz_u8(&in);
	struct mdbus_channel_desc desc = bed_channel_default("moldudp64", 2);
	struct mdbus_bus b;

	now = 1000000000;
	desc.depth = 64;
	desc.window = 32;
	desc.slot_size = 64;
	bed_open(&bed, &desc, 2, 32);
	publish(nmsg);
	b = copied();
	while (fuzz_left(&in))
		damage(&b, &in);
	if (attachable(&b)) {
		read_all(&b, setup & 1u, setup & 2u);
		if (setup & 4u) {
			go_on(&b, nmsg + 1u);
			read_all(&b, setup & 1u, true);
		}
	}
	release(&b);
	bed_close(&bed);
	return 0;
}
