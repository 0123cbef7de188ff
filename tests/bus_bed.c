/* SPDX-License-Identifier: Apache-2.0 */
#include "bus_bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "../bus/shape.h"

static void *memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("bed: mmap");
		exit(99);
	}
	return p;
}

static struct mdbus_region region(size_t size)
{
	return (struct mdbus_region){ memory(size), size };
}

struct mdbus_channel_desc bed_channel_default(const char *layout, uint32_t nline)
{
	struct mdbus_channel_desc c = {
		.name = "ch",
		.depth = 4096,
		.slot_size = 128,
		.timed = 1,
		.ordered = 1,
		.reorder_window = 64,
		.window = 2048,
		.gap_timeout_ns = 10000000,
		.agree_packets = 3,
		.compare_every = 1,
		.key_window = 1024,
		.line_mask = (1u << nline) - 1u,
	};

	c.layout = *mdbus_layout_builtin(layout);
	return c;
}

void bed_open(struct bed *b, const struct mdbus_channel_desc *channel, uint32_t nline, uint32_t nframes)
{
	bed_open_handed(b, channel, nline, nframes, 0, 0);
}

static void describe_handed(struct mdbus_bus_hdr *dir, uint32_t k, uint32_t ngiver, uint32_t hand_size)
{
	uint32_t givers = (1u << ngiver) - 1u;

	dir->line[k].group = 0;
	if (k < ngiver) {
		dir->line[k].to_mask = ((1u << dir->nline) - 1u) & ~givers;
		dir->line[k].hand_size = hand_size;
		return;
	}
	dir->line[k].from_mask = givers;
	snprintf(dir->line[k].backend, sizeof(dir->line[k].backend), "handed");
}

void bed_open_handed(struct bed *b, const struct mdbus_channel_desc *channel, uint32_t nline, uint32_t nframes,
                     uint32_t ngiver, uint32_t hand_size)
{
	memset(b, 0, sizeof(*b));
	b->nline = nline;
	b->bus.dir_region = region(mdbus_shape_bus_size(1));
	b->bus.dir = b->bus.dir_region.base;
	b->bus.dir->nline = nline;
	b->bus.dir->nchannel = 1;
	b->bus.dir->nseat = 1;
	b->bus.dir->channel[0] = *channel;
	b->bus.ring[0] = region(mdbus_shape_ring_size(channel));
	mdbus_shape_ring_init(b->bus.ring[0].base, channel);
	b->bus.seat[0] = region(mdbus_shape_seat_size());
	if (!channel->ordered) {
		b->bus.keys[0] = region(mdbus_shape_keys_size(channel));
		mdbus_shape_keys_init(b->bus.keys[0].base, channel);
	}
	for (uint32_t k = 0; k < nline; k++) {
		struct mdbus_line_desc *d = &b->bus.dir->line[k];

		d->frames = nframes;
		d->frame_size = 2048;
		d->group = k;
		d->cpu = -1;
		if (ngiver != 0)
			describe_handed(b->bus.dir, k, ngiver, hand_size);
		b->bus.dir->line_state[k] = MDBUS_LINE_UP;
		b->bus.arena[k] = region(mdbus_shape_arena_size(d, 1));
		mdbus_shape_arena_init(b->bus.arena[k].base, d, k, 1);
	}
	for (uint32_t k = 0; k < nline; k++) {
		struct bed_line *l = &b->line[k];

		l->bus = b->bus;
		l->bus.index = k;
		if (mdbus_holds_init(&l->holds, b->bus.arena[k].base, 65536) != 0 ||
		    mdbus_channel_init(&l->channel, &l->bus, 0, k, &l->holds) != 0) {
			fprintf(stderr, "bed: cannot set up line %u\n", k);
			exit(99);
		}
		l->rings[0] = &l->channel.ring;
	}
}

void bed_close(struct bed *b)
{
	for (uint32_t k = 0; k < b->nline; k++) {
		mdbus_holds_free(&b->line[k].holds);
		munmap(b->bus.arena[k].base, b->bus.arena[k].size);
	}
	munmap(b->bus.ring[0].base, b->bus.ring[0].size);
	munmap(b->bus.seat[0].base, b->bus.seat[0].size);
	if (b->bus.keys[0].base)
		munmap(b->bus.keys[0].base, b->bus.keys[0].size);
	munmap(b->bus.dir_region.base, b->bus.dir_region.size);
}

enum mdbus_decode_error bed_packet(struct bed *b, uint32_t line, const uint8_t *bytes, uint32_t len, uint64_t now_ns)
{
	struct bed_line *l = &b->line[line];
	struct mdbus_arena_hdr *a = b->bus.arena[line].base;
	uint64_t expired = 0;
	uint32_t frame;

	for (uint32_t tries = 0; l->holds.refs[l->next_frame % a->nframes] != 0; tries++) {
		l->next_frame++;
		if (tries >= a->nframes) /* none is free: take the oldest back */
			mdbus_holds_drop(&l->holds, l->rings, &frame, &expired);
	}
	frame = l->next_frame++ % a->nframes;
	uint64_t off = a->frames_off + (uint64_t)frame * a->frame_size + 256u;
	struct mdbus_frame_meta meta = { .rx_ns = now_ns };

	memcpy((uint8_t *)a + off - 256u, &meta, sizeof(meta));
	memcpy((uint8_t *)a + off, bytes, len);
	struct mdbus_chunk chunk = { off, (uint8_t *)a + off, len, now_ns };
	enum mdbus_decode_error err = mdbus_channel_packet(&l->channel, &chunk, now_ns);

	l->holds.nloose = 0;
	return err;
}

uint32_t bed_mold_message(uint64_t seq, uint32_t salt, uint8_t *out)
{
	uint32_t len = 12u + (uint32_t)((seq * 7u + salt) % 5u == 0 ? 140u : (seq + salt) % 30u);

	out[0] = (uint8_t)(len >> 8);
	out[1] = (uint8_t)len;
	for (uint32_t i = 0; i < len; i++)
		out[2 + i] = (uint8_t)(seq * 31u + i * 7u + salt * 13u);
	memcpy(out + 2, &seq, 8);
	memcpy(out + 10, &salt, 4);
	return len + 2u;
}

uint32_t bed_mold_salt(const struct bed_mold *m, uint64_t seq)
{
	bool alike = seq == 1 || seq * UINT64_C(0x9e3779b97f4a7c15) >> 61 == 0;

	return m->some_alike && alike ? 0 : m->salt;
}

uint32_t bed_mold_build(const struct bed_mold *m, uint8_t *out, uint32_t cap)
{
	uint32_t n = 20;

	memcpy(out, m->session, 10);
	for (int i = 0; i < 8; i++)
		out[10 + i] = (uint8_t)(m->seq >> (56 - 8 * i));
	out[18] = (uint8_t)(m->count >> 8);
	out[19] = (uint8_t)m->count;
	for (uint32_t i = 0; i < m->count && m->count != 0xffffu; i++) {
		if (n + 160u > cap)
			exit(99);
		n += bed_mold_message(m->seq + i, bed_mold_salt(m, m->seq + i), out + n);
	}
	return n;
}

void bed_mold_packets(const struct bed *b, uint64_t seq, uint32_t per, uint32_t n, struct mdbus_chunk *chunk)
{
	uint8_t bytes[2048];

	for (uint32_t i = 0; i < n; i++, seq += per) {
		struct bed_mold head = { .session = "SESSION001", .seq = seq };
		uint32_t len = bed_mold_build(&head, bytes, sizeof(bytes));

		bytes[19] = (uint8_t)per;
		for (uint32_t m = 0; m < per && len + BED_BODY + 2u <= sizeof(bytes); m++, len += BED_BODY + 2u) {
			bytes[len] = 0;
			bytes[len + 1u] = BED_BODY;
			memset(bytes + len + 2u, (int)m, BED_BODY);
		}
		for (uint32_t k = 0; k < 2; k++) {
			struct mdbus_arena_hdr *a = b->bus.arena[k].base;
			uint64_t off = a->frames_off + (uint64_t)i * a->frame_size + 256u;

			memcpy((uint8_t *)a + off, bytes, len);
			chunk[k * n + i] = (struct mdbus_chunk){ off, (uint8_t *)a + off, len, 1000 };
		}
	}
}
