/* SPDX-License-Identifier: Apache-2.0
 *
 * memory.c - what memory there is, whose it is, and what is in it.
 *
 * Sizes and pages are what was obtained, from the headers of the segments; the node is where the kernel has put a segment's
 * first page.  How a line's frames are used is what the line counts (ingest/stock.h); what it is silent about, because it is
 * down, is left out.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../bus/dpdk_files.h"
#include "../bus/segment.h"
#include "daemon.h"

struct list {
	const struct mdbus_served *b;
	json_t *rows;
};

/* -1: the kernel does not tell. */
static int node_of(const void *page)
{
	void *pages[1] = { (void *)(uintptr_t)page };
	int node = -1;

	return page && syscall(SYS_move_pages, 0, 1ul, pages, NULL, &node, 0) == 0 && node >= 0 ? node : -1;
}

/* A row for segment `name`, mapped at `base` if it is.  NULL: it cannot be read. */
static json_t *add_segment(const struct list *l, const char *name, const char *kind, const void *base)
{
	char path[MDBUS_RUN_PATH_MAX + 40];
	struct mdbus_segment_hdr h;

	snprintf(path, sizeof(path), "%s/%s", l->b->dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), node = node_of(base);
	bool ok = fd >= 0 && pread(fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h);

	if (fd >= 0)
		close(fd);
	if (!ok)
		return NULL;
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:n, s:n, s:n}", "bus", l->b->map.dir->segment.bus, "name", name,
	                      "kind", kind, "bytes", (json_int_t)h.size, "page_size", (json_int_t)h.page_size, "pages",
	                      mdbus_page_kind_name(h.page_kind), "node", "owner", "pid");

	if (node >= 0)
		json_object_set_new(o, "node", json_integer(node));
	json_array_append_new(l->rows, o);
	return o;
}

static void own(json_t *o, const char *owner, const struct mdbus_lease *lease)
{
	if (o)
		json_object_set_new(o, "owner", json_string(owner));
	if (o && lease && lease->state != MDBUS_LEASE_FREE)
		json_object_set_new(o, "pid", json_integer(lease->pid));
}

static void set(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

/* mbuf_get and mbuf_put: in which of its places each frame is.  The line's own words, and they need not fit together. */
static json_t *frames(const struct mdbus_line_desc *l, const struct mdbus_arena_hdr *a)
{
	uint64_t held = mdbus_load_relaxed(&a->count.frames_held), pool = mdbus_load_relaxed(&a->count.frames_pool);
	uint64_t rx = mdbus_load_relaxed(&a->count.frames_rx), reserve = mdbus_load_relaxed(&a->count.frames_reserve);
	uint64_t used = held + pool + rx + reserve;
	json_t *o = json_object();

	set(o, "total", l->frames);
	set(o, "size", l->frame_size);
	set(o, "held", held);
	set(o, "free", l->frames > held ? l->frames - held : 0);
	if (l->lease.state != MDBUS_LEASE_FREE) {
		set(o, "pool", pool);
		set(o, "fill", l->frames > used ? l->frames - used : 0);
		set(o, "rx", rx);
		set(o, "handed", mdbus_load_relaxed(&a->count.frames_handed)); /* of those held */
		set(o, "reserve", reserve);
		json_object_set_new(o, "low", json_boolean(mdbus_load_relaxed(&a->count.frames_low_now) != 0));
	}
	set(o, "reserve_frames", l->reserve_frames);
	set(o, "low_watermark", l->low_watermark);
	set(o, "times_low", mdbus_load_relaxed(&a->count.frames_low));
	set(o, "swept", mdbus_load_relaxed(&a->count.frames_swept));
	return o;
}

static void add_line(const struct list *l, uint32_t i)
{
	const struct mdbus_line_desc *line = &l->b->map.dir->line[i];
	const struct mdbus_region *r = &l->b->map.arena[i];
	char name[32];

	snprintf(name, sizeof(name), "arena.%u", i);
	json_t *o = add_segment(l, name, "arena", r->base);

	own(o, line->name, &line->lease);
	if (o)
		json_object_set_new(o, "frames", frames(line, r->base));
	if (line->lease.state == MDBUS_LEASE_FREE || strcmp(line->backend, "dpdk") != 0)
		return;
	o = json_pack("{s:s, s:s, s:s, s:I, s:n, s:n, s:n}", "bus", l->b->map.dir->segment.bus, "name", "dpdk", "kind", "pool",
	              "bytes", (json_int_t)mdbus_dpdk_own_bytes(line->frames), "page_size", "pages", "node");
	own(o, line->name, &line->lease);
	json_array_append_new(l->rows, o);
}

static void add_channel(const struct list *l, uint32_t i)
{
	const struct mdbus_channel_desc *c = &l->b->map.dir->channel[i];
	char name[32];

	snprintf(name, sizeof(name), "ring.%u", i);
	own(add_segment(l, name, "ring", l->b->map.ring[i].base), c->name, NULL);
	if (c->ordered)
		return;
	snprintf(name, sizeof(name), "keys.%u", i);
	own(add_segment(l, name, "keys", NULL), c->name, NULL);
}

static void add_bus(const struct list *l)
{
	const struct mdbus_bus_hdr *dir = l->b->map.dir;

	own(add_segment(l, "bus", "bus", dir), "mdbusd", NULL);
	for (uint32_t i = 0; i < dir->nline; i++)
		add_line(l, i);
	for (uint32_t i = 0; i < dir->nchannel; i++)
		add_channel(l, i);
	for (uint32_t i = 0; i < dir->nseat; i++) {
		const struct mdbus_lease *lease = &dir->seat[i];
		char name[32];

		if (lease->state == MDBUS_LEASE_FREE)
			continue;
		snprintf(name, sizeof(name), "seat.%u", i);
		own(add_segment(l, name, "seat", NULL), lease->name, lease);
	}
}

json_t *mdbus_memory_json(const struct mdbus_daemon *d, const char *bus)
{
	json_t *rows = json_array();

	for (uint32_t k = 0; k < d->nbus; k++) {
		if (!bus || strcmp(bus, d->bus[k]->map.dir->segment.bus) == 0)
			add_bus(&(struct list){ d->bus[k], rows });
	}
	return rows;
}
