/* SPDX-License-Identifier: Apache-2.0
 *
 * segment_check.c - is what lies in a segment what it says it is?
 *
 * Called once, on attach, on memory that any damage may have befallen.  Everything that is later used as a size, an
 * offset, an index, a shift or a string is checked here against the bytes that are really mapped.  Each word is
 * loaded once, so that a word that changes meanwhile is at worst checked as what it was.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "segment.h"
#include "shape.h"

#define DEPTH_MAX (UINT64_C(1) << 40) /* so that no size of a table overflows */

struct checked {
	const uint8_t *base;
	uint64_t size;
	char *err;
	size_t errlen;
};

static int __attribute__((format(printf, 3, 4))) refuse(const struct checked *c, int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(c->err, c->errlen, format, ap);
	va_end(ap);
	return rc;
}

static bool power_of_two(uint64_t v)
{
	return v != 0 && (v & (v - 1u)) == 0;
}

static bool terminated(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

/* True if n entries of `each` bytes from off on lie inside the segment, behind its first `from` bytes, aligned. */
static bool table_fits(const struct checked *c, uint64_t from, uint64_t off, uint64_t n, uint64_t each, uint64_t align)
{
#ifdef MDBUS_MUTANT_segment_without_bounds
	return off >= from && off % align == 0 && n > 0 && each > 0;
#endif
	return off >= from && off <= c->size && off % align == 0 && n <= (c->size - off) / each;
}

static int check_line(const struct checked *c, const struct mdbus_line_desc *l, uint32_t i, uint32_t nline)
{
	if (!terminated(l->name, sizeof(l->name)) || !terminated(l->backend, sizeof(l->backend)) ||
	    !terminated(l->interface, sizeof(l->interface)) || !terminated(l->file, sizeof(l->file)) ||
	    !terminated(l->xdp_mode, sizeof(l->xdp_mode)) || !terminated(l->xdp_copy, sizeof(l->xdp_copy)))
		return refuse(c, -EBADMSG, "line %u: a text without an end", i);
	if (mdbus_load_relaxed(&l->group) >= nline)
		return refuse(c, -EBADMSG, "line %u: of group %u, but %u lines", i, l->group, nline);
	uint32_t to = mdbus_load_relaxed(&l->to_mask), from = mdbus_load_relaxed(&l->from_mask);
	uint32_t size = mdbus_load_relaxed(&l->hand_size);

	if ((to | from) >> nline != 0 || (to >> i & 1u) != 0 || (to != 0 && (!power_of_two(size) || size > l->frames)))
		return refuse(c, -EBADMSG, "line %u: handed packets by 0x%x, hands them over to 0x%x by rings of %u entries", i,
		              from, to, size);
	return 0;
}

static int check_channel(const struct checked *c, const struct mdbus_channel_desc *ch, uint32_t i, uint32_t nline)
{
	uint64_t depth = mdbus_load_relaxed(&ch->depth), window = mdbus_load_relaxed(&ch->window);
	uint32_t slot = mdbus_load_relaxed(&ch->slot_size);

	if (!terminated(ch->name, sizeof(ch->name)))
		return refuse(c, -EBADMSG, "channel %u: a name without an end", i);
	if (!power_of_two(depth) || depth > DEPTH_MAX || !power_of_two(slot) || slot < MDBUS_SLOT_SIZE_MIN ||
	    slot > MDBUS_SLOT_SIZE_MAX)
		return refuse(c, -EBADMSG, "channel %u: depth %llu, slot size %u", i, (unsigned long long)depth, slot);
	if (window > depth / 2u)
		return refuse(c, -EBADMSG, "channel %u: window %llu of depth %llu", i, (unsigned long long)window,
		              (unsigned long long)depth);
	if (mdbus_load_relaxed(&ch->key_window) > DEPTH_MAX)
		return refuse(c, -EBADMSG, "channel %u: window of %llu keys", i, (unsigned long long)ch->key_window);
	if (mdbus_load_relaxed(&ch->line_mask) >> nline != 0)
		return refuse(c, -EBADMSG, "channel %u: line mask 0x%x, but %u lines", i, ch->line_mask, nline);
	for (uint32_t l = 0; l < MDBUS_LINES_MAX; l++) {
		if (mdbus_load_relaxed(&ch->flow[l].key_len) > sizeof(ch->flow[l].key))
			return refuse(c, -EBADMSG, "channel %u: key of %u bytes", i, ch->flow[l].key_len);
	}
	if (mdbus_layout_check(&ch->layout) < 0)
		return refuse(c, -EBADMSG, "channel %u: its layout is out of bounds", i);
	return 0;
}

static int check_bus(const struct checked *c)
{
	const struct mdbus_bus_hdr *b = (const void *)c->base;

	if (c->size < sizeof(*b))
		return refuse(c, -EBADMSG, "bus directory of %llu bytes", (unsigned long long)c->size);
	uint32_t nline = mdbus_load_relaxed(&b->nline), nchannel = mdbus_load_relaxed(&b->nchannel);
	uint32_t nseat = mdbus_load_relaxed(&b->nseat);

	if (nline == 0 || nline > MDBUS_LINES_MAX || nseat > MDBUS_SEATS_MAX || nchannel > MDBUS_CHANNELS_MAX ||
	    !table_fits(c, sizeof(*b), sizeof(*b), nchannel, sizeof(b->channel[0]), 8u))
		return refuse(c, -EBADMSG, "bus directory: %u lines, %u channels, %u seats in %llu bytes", nline, nchannel,
		              nseat, (unsigned long long)c->size);
	for (uint32_t i = 0; i < nline; i++) {
		int rc = check_line(c, &b->line[i], i, nline);

		if (rc < 0)
			return rc;
	}
	for (uint32_t i = 0; i < nchannel; i++) {
		int rc = check_channel(c, &b->channel[i], i, nline);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int check_ring(const struct checked *c)
{
	const struct mdbus_ring_hdr *r = (const void *)c->base;

	if (c->size < sizeof(*r))
		return refuse(c, -EBADMSG, "ring of %llu bytes", (unsigned long long)c->size);
	uint64_t depth = mdbus_load_relaxed(&r->depth), off = mdbus_load_relaxed(&r->slots_off);
	uint32_t slot = mdbus_load_relaxed(&r->slot_size), nline = mdbus_load_relaxed(&r->nline);

	if (!power_of_two(depth) || !power_of_two(slot) || slot < MDBUS_SLOT_SIZE_MIN || slot > MDBUS_SLOT_SIZE_MAX ||
	    nline > MDBUS_LINES_MAX || !table_fits(c, sizeof(*r), off, depth, slot, MDBUS_CACHE_LINE))
		return refuse(c, -EBADMSG, "ring: %llu slots of %u bytes at %llu in %llu bytes", (unsigned long long)depth,
		              slot, (unsigned long long)off, (unsigned long long)c->size);
	return 0;
}

static int check_arena(const struct checked *c)
{
	const struct mdbus_arena_hdr *a = (const void *)c->base;

	if (c->size < sizeof(*a))
		return refuse(c, -EBADMSG, "arena of %llu bytes", (unsigned long long)c->size);
	uint64_t channels = mdbus_load_relaxed(&a->channels_off), frames = mdbus_load_relaxed(&a->frames_off);
	uint32_t nchannel = mdbus_load_relaxed(&a->nchannel), nframes = mdbus_load_relaxed(&a->nframes);
	uint32_t frame = mdbus_load_relaxed(&a->frame_size);

	if (mdbus_load_relaxed(&a->line) >= MDBUS_LINES_MAX || nchannel > MDBUS_CHANNELS_MAX ||
	    !table_fits(c, sizeof(*a), channels, nchannel, sizeof(struct mdbus_line_channel), MDBUS_CACHE_LINE))
		return refuse(c, -EBADMSG, "arena: line %u, %u channels at %llu in %llu bytes", a->line, nchannel,
		              (unsigned long long)channels, (unsigned long long)c->size);
	if ((frame != 2048u && frame != 4096u) || nframes == 0 ||
	    !table_fits(c, channels + nchannel * sizeof(struct mdbus_line_channel), frames, nframes, frame, 4096u))
		return refuse(c, -EBADMSG, "arena: %u frames of %u bytes at %llu in %llu bytes", nframes, frame,
		              (unsigned long long)frames, (unsigned long long)c->size);
	return 0;
}

static int check_seat(const struct checked *c)
{
	const struct mdbus_segment_hdr *h = (const void *)c->base;

	if (c->size < sizeof(struct mdbus_seat_hdr) || mdbus_load_relaxed(&h->index) >= MDBUS_SEATS_MAX)
		return refuse(c, -EBADMSG, "seat %u of %llu bytes", h->index, (unsigned long long)c->size);
	return 0;
}

static int check_keys(const struct checked *c)
{
	const struct mdbus_keys_hdr *k = (const void *)c->base;

	if (c->size < sizeof(*k))
		return refuse(c, -EBADMSG, "key window of %llu bytes", (unsigned long long)c->size);
	uint64_t n = mdbus_load_relaxed(&k->nbuckets), off = mdbus_load_relaxed(&k->buckets_off);

	if (!power_of_two(n) ||
	    !table_fits(c, sizeof(*k), off, n, MDBUS_KEY_WAYS * sizeof(struct mdbus_pair), MDBUS_CACHE_LINE))
		return refuse(c, -EBADMSG, "key window: %llu buckets at %llu in %llu bytes", (unsigned long long)n,
		              (unsigned long long)off, (unsigned long long)c->size);
	return 0;
}

static int check_header(const struct checked *c, uint32_t kind)
{
	const struct mdbus_segment_hdr *h = (const void *)c->base;

	if (c->size < sizeof(*h))
		return refuse(c, -EPROTO, "%llu bytes cannot be a segment", (unsigned long long)c->size);
	if (mdbus_load_acquire(&h->magic) != MDBUS_MAGIC)
		return refuse(c, -EPROTO, "not a segment of mdbus, or not finished: no magic");
	if (h->version != MDBUS_ABI_VERSION)
		return refuse(c, -EPROTONOSUPPORT, "made by ABI version %u, this program has %u: install one version of mdbus",
		              h->version, MDBUS_ABI_VERSION);
	if (h->layout_hash != MDBUS_ABI_LAYOUT)
		return refuse(c, -EPROTONOSUPPORT, "made by another build of mdbus (layout %016llx, this program %016llx)",
		              (unsigned long long)h->layout_hash, (unsigned long long)MDBUS_ABI_LAYOUT);
	if (h->kind != kind)
		return refuse(c, -EPROTO, "segment of kind %u where %u was expected", h->kind, kind);
	if (mdbus_load_relaxed(&h->size) != c->size)
		return refuse(c, -EBADMSG, "says %llu bytes, but the file has %llu", (unsigned long long)h->size,
		              (unsigned long long)c->size);
	if (!terminated(h->bus, sizeof(h->bus)))
		return refuse(c, -EBADMSG, "bus name without an end");
	return 0;
}

int mdbus_segment_check(const void *base, size_t size, uint32_t kind, char *err, size_t errlen)
{
	const struct checked c = { base, size, err, errlen };
	int rc = check_header(&c, kind);

	if (rc < 0)
		return rc;
	switch (kind) {
	case MDBUS_SEGMENT_BUS:
		return check_bus(&c);
	case MDBUS_SEGMENT_RING:
		return check_ring(&c);
	case MDBUS_SEGMENT_ARENA:
		return check_arena(&c);
	case MDBUS_SEGMENT_SEAT:
		return check_seat(&c);
	case MDBUS_SEGMENT_KEYS:
		return check_keys(&c);
	default:
		return refuse(&c, -EPROTO, "no such kind of segment: %u", kind);
	}
}

static bool ring_fits(const struct mdbus_bus *bus, uint32_t i, const struct mdbus_channel_desc *d)
{
	const struct mdbus_region *r = &bus->ring[i];
	const struct mdbus_ring_hdr *h = r->base;

	return h && r->size >= mdbus_shape_ring_size(d) && strncmp(h->segment.bus, bus->dir->segment.bus, MDBUS_NAME_MAX) == 0 &&
	       h->depth == d->depth && h->slot_size == d->slot_size && h->timed == d->timed;
}

static bool arena_fits(const struct mdbus_bus *bus, uint32_t i)
{
	const struct mdbus_line_desc *d = &bus->dir->line[i];
	const struct mdbus_region *r = &bus->arena[i];
	const struct mdbus_arena_hdr *h = r->base;

	return h && r->size >= mdbus_shape_arena_size(d, bus->dir->nchannel) &&
	       strncmp(h->segment.bus, bus->dir->segment.bus, MDBUS_NAME_MAX) == 0 && h->line == i &&
	       h->nchannel == bus->dir->nchannel && h->nframes == d->frames && h->frame_size == d->frame_size;
}

int mdbus_segment_check_bus(const struct mdbus_bus *bus, char *err, size_t errlen)
{
	const struct mdbus_bus_hdr *d = bus->dir;
	const struct checked c = { (const void *)d, bus->dir_region.size, err, errlen };
	const char *name = d->segment.bus;

	for (uint32_t i = 0; i < d->nchannel; i++) {
		if (!ring_fits(bus, i, &d->channel[i]))
			return refuse(&c, -EBADMSG, "ring %u of bus %s is missing or not as the bus directory says", i, name);
		if (bus->role == MDBUS_LEASE_LINE && !d->channel[i].ordered &&
		    (!bus->keys[i].base || bus->keys[i].size < mdbus_shape_keys_size(&d->channel[i])))
			return refuse(&c, -EBADMSG, "key window %u of bus %s is missing or too small", i, name);
	}
	for (uint32_t i = 0; i < d->nline; i++) {
		if (!arena_fits(bus, i))
			return refuse(&c, -EBADMSG, "arena %u of bus %s is missing or not as the bus directory says", i, name);
	}
	return 0;
}
