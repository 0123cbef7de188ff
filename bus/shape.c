/* SPDX-License-Identifier: Apache-2.0
 *
 * shape.c - sizes and first contents of segments; see shape.h.
 *
 * Tables start on cache lines, frames on 4 KiB pages (what AF_XDP asks of a UMEM).
 */
#include "shape.h"
#include "key.h"

static uint64_t aligned(uint64_t off, uint64_t to)
{
	return (off + to - 1u) & ~(to - 1u);
}

size_t mdbus_shape_bus_size(uint32_t nchannel)
{
	return sizeof(struct mdbus_bus_hdr) + nchannel * sizeof(struct mdbus_channel_desc);
}

static uint64_t slots_off(void)
{
	return aligned(sizeof(struct mdbus_ring_hdr), 4096u);
}

size_t mdbus_shape_ring_size(const struct mdbus_channel_desc *c)
{
	return slots_off() + c->depth * c->slot_size;
}

void mdbus_shape_ring_init(struct mdbus_ring_hdr *r, const struct mdbus_channel_desc *c)
{
	r->depth = c->depth;
	r->slot_size = c->slot_size;
	r->timed = c->timed;
	r->ordered = c->ordered;
	r->nline = (uint32_t)__builtin_popcount(c->line_mask);
	r->single_line = r->nline == 1u;
	r->slots_off = slots_off();
}

struct mdbus_ring mdbus_shape_ring_view(const struct mdbus_bus *bus, uint32_t channel, uint32_t line)
{
	struct mdbus_ring_hdr *hdr = mdbus_bus_ring(bus, channel);
	struct mdbus_ring_hdr shape;

#ifdef MDBUS_MUTANT_ring_header_believed
	return mdbus_ring_view(hdr, line);
#endif
	mdbus_shape_ring_init(&shape, &bus->dir->channel[channel]);
	struct mdbus_ring r = mdbus_ring_view(&shape, line);

	r.slots = (uint8_t *)hdr + shape.slots_off;
	r.hdr = hdr;
	return r;
}

static uint64_t channels_off(void)
{
	return aligned(sizeof(struct mdbus_arena_hdr), MDBUS_CACHE_LINE);
}

static uint64_t hand_off(uint32_t nchannel)
{
	return channels_off() + nchannel * sizeof(struct mdbus_line_channel);
}

static uint64_t hand_bytes(const struct mdbus_line_desc *l)
{
	return aligned(sizeof(struct mdbus_hand_ring) + l->hand_size * sizeof(struct mdbus_hand_entry), MDBUS_CACHE_LINE);
}

uint64_t mdbus_shape_frames_off(const struct mdbus_line_desc *l, uint32_t nchannel)
{
	return aligned(hand_off(nchannel) + (uint32_t)__builtin_popcount(l->to_mask) * hand_bytes(l), 4096u);
}

struct mdbus_hand_ring *mdbus_shape_hand_ring(const struct mdbus_bus *bus, uint32_t giver, uint32_t taker)
{
	const struct mdbus_line_desc *l = &bus->dir->line[giver];
	uint32_t before = (uint32_t)__builtin_popcount(l->to_mask & ((1u << taker) - 1u));
	uint8_t *arena = bus->arena[giver].base;

	if (!(l->to_mask >> taker & 1u) || arena == NULL)
		return NULL;
	return (struct mdbus_hand_ring *)(void *)(arena + hand_off(bus->dir->nchannel) + before * hand_bytes(l));
}

size_t mdbus_shape_arena_size(const struct mdbus_line_desc *l, uint32_t nchannel)
{
	return mdbus_shape_frames_off(l, nchannel) + (uint64_t)l->frames * l->frame_size;
}

void mdbus_shape_arena_init(struct mdbus_arena_hdr *a, const struct mdbus_line_desc *l, uint32_t line, uint32_t nchannel)
{
	a->line = line;
	a->nchannel = nchannel;
	a->frame_size = l->frame_size;
	a->nframes = l->frames;
	a->channels_off = channels_off();
	a->frames_off = mdbus_shape_frames_off(l, nchannel);
}

size_t mdbus_shape_seat_size(void)
{
	return sizeof(struct mdbus_seat_hdr);
}

static uint64_t buckets_off(void)
{
	return aligned(sizeof(struct mdbus_keys_hdr), 4096u);
}

size_t mdbus_shape_keys_size(const struct mdbus_channel_desc *c)
{
	return buckets_off() + mdbus_keys_buckets(c->key_window) * MDBUS_KEY_WAYS * sizeof(struct mdbus_pair);
}

void mdbus_shape_keys_init(struct mdbus_keys_hdr *k, const struct mdbus_channel_desc *c)
{
	k->nbuckets = mdbus_keys_buckets(c->key_window);
	k->age_ns = c->key_age_ns;
	k->buckets_off = buckets_off();
}

struct mdbus_keys mdbus_shape_keys_view(const struct mdbus_bus *bus, uint32_t channel)
{
	struct mdbus_keys_hdr shape;

	mdbus_shape_keys_init(&shape, &bus->dir->channel[channel]);
	struct mdbus_keys k = mdbus_keys_view(&shape);

	k.entries = (struct mdbus_pair *)(void *)((uint8_t *)bus->keys[channel].base + shape.buckets_off);
	return k;
}
