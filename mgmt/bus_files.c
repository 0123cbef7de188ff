/* SPDX-License-Identifier: Apache-2.0
 *
 * bus_files.c - the segments of a new bus.
 *
 * The bus directory is made last: a bus without the file "bus" is an unfinished one, and whoever starts next removes
 * it as a whole.  Killed anywhere in here: an unfinished bus.
 */
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "../bus/dpdk_files.h"
#include "../bus/segment.h"
#include "../bus/shape.h"
#include "daemon.h"
#include "process.h"
#include "text.h"

#define MTU_OF_2048 1500 /* larger ones get frames of 4096 */

struct making {
	struct mdbus_daemon *d;
	struct mdbus_served *b;
	const struct mdbus_config_bus *config;
	struct mdbus_line_desc line[MDBUS_LINES_MAX]; /* with everything resolved */
};

static int interface_mtu(const char *name)
{
	struct ifreq request = { 0 };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%.15s", name);
	int rc = ioctl(sock, SIOCGIFMTU, &request) < 0 ? -errno : request.ifr_mtu;

	close(sock);
	return rc;
}

static int interface_node(const char *name)
{
	char path[192], text[32];
	const char *at = text;
	uint64_t node;

	if (strchr(name, ':')) /* a DPDK line's card */
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.*s/numa_node", (int)strcspn(name, ","), name);
	else
		snprintf(path, sizeof(path), "/sys/class/net/%s/device/numa_node", name);
	/* the kernel says -1 where it does not know, which is no number here */
	if (name[0] == '\0' || !mdbus_text_read(path, text, sizeof(text)) || !mdbus_text_number(&at, &node))
		return -1;
	return (int)node;
}

static int cpu_node(int cpu)
{
	char path[64];
	int node = -1;

	if (cpu < 0)
		return -1;
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d", cpu);
	DIR *at = opendir(path);
	struct dirent *e;

	while (at && (e = readdir(at))) {
		const char *number = e->d_name + 4;
		uint64_t value;

		if (strncmp(e->d_name, "node", 4) == 0 && mdbus_text_number(&number, &value))
			node = (int)value;
	}
	if (at)
		closedir(at);
	return node;
}

static void resolve_line(struct mdbus_line_desc *l)
{
	if (l->frame_size == 0)
		l->frame_size = l->interface[0] && interface_mtu(l->interface) > MTU_OF_2048 ? 4096 : 2048;
	if (l->numa < 0)
		l->numa = interface_node(l->interface);
	if (l->numa < 0)
		l->numa = cpu_node(l->cpu);
	l->ifindex = l->interface[0] ? if_nametoindex(l->interface) : 0;
}

/* What is handed to a line must fit its frames. */
static void resolve_handed(const struct making *m, struct mdbus_line_desc *l)
{
	for (uint32_t i = 0; i < m->config->nline; i++) {
		if (l->from_mask >> i & 1u && m->line[i].frame_size > l->frame_size)
			l->frame_size = m->line[i].frame_size;
	}
}

static void resolve(struct making *m)
{
	memcpy(m->line, m->config->line, sizeof(m->line));
	for (uint32_t i = 0; i < m->config->nline; i++)
		resolve_line(&m->line[i]);
	for (uint32_t i = 0; i < m->config->nline; i++) {
		if (m->line[i].from_mask != 0)
			resolve_handed(m, &m->line[i]);
	}
}

static bool use_huge(const struct mdbus_daemon *d, uint32_t page)
{
	return d->huge[page][0] && d->config.pages != MDBUS_CONFIG_PAGES_NEVER &&
	       (page == 0 || d->config.pages == MDBUS_CONFIG_PAGES_1G);
}

/* Create one segment, let `init` fill it in, publish it. */
static int make(const struct making *m, uint32_t kind, const char *name, uint32_t index, size_t size, int numa,
                void (*init)(const struct making *m, void *base, uint32_t index))
{
	struct mdbus_segment_spec spec = {
		.dir = m->b->dir,
		.huge_dir = use_huge(m->d, 0) ? m->b->huge[0] : NULL,
		.huge_dir_1g = use_huge(m->d, 1) ? m->b->huge[1] : NULL,
		.name = name,
		.kind = kind,
		.index = index,
		.bus = m->config->name,
		.size = size,
		.mode = 0600,
		.gid = -1,
		.numa = numa,
	};
	struct mdbus_mapping map;
	char err[512];
	int rc = mdbus_segment_create(&spec, &map, err, sizeof(err));

	if (rc < 0) {
		mdbus_say("bus %s: %s", m->config->name, err);
		return rc;
	}
	if (err[0]) {
		const struct mdbus_segment_hdr *h = map.base;

		mdbus_say("bus %s: %s uses %s pages, not larger ones (%s)", m->config->name, name,
		          mdbus_page_kind_name(h->page_kind), err);
	}
	if (init)
		init(m, map.base, index);
	rc = mdbus_segment_publish(&spec, &map, err, sizeof(err));
	if (rc < 0)
		mdbus_say("bus %s: %s", m->config->name, err);
	mdbus_segment_unmap(&map);
	return rc;
}

static void init_ring(const struct making *m, void *base, uint32_t index)
{
	mdbus_shape_ring_init(base, &m->config->channel[index]);
}

static void init_keys(const struct making *m, void *base, uint32_t index)
{
	mdbus_shape_keys_init(base, &m->config->channel[index]);
}

static void init_arena(const struct making *m, void *base, uint32_t index)
{
	mdbus_shape_arena_init(base, &m->line[index], index, m->config->nchannel);
}

static void init_bus(const struct making *m, void *base, uint32_t index)
{
	struct mdbus_bus_hdr *h = base;
	struct timespec wall;

	(void)index;
	h->nline = m->config->nline;
	h->nchannel = m->config->nchannel;
	h->nseat = m->config->nseat;
	h->next_lease = 1;
	h->created_ns = mdbus_clock_ns();
	clock_gettime(CLOCK_REALTIME, &wall);
	h->wall_offset_ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec - h->created_ns;
	h->config_hash = m->config->hash;
	h->daemon_pid = (uint32_t)getpid();
	h->namespaces = mdbus_process_namespaces();
	memcpy(h->line, m->line, sizeof(h->line));
	memcpy(h->channel, m->config->channel, m->config->nchannel * sizeof(h->channel[0]));
}

static int ring_node(const struct making *m, const struct mdbus_channel_desc *c)
{
	return c->line_mask ? m->line[__builtin_ctz(c->line_mask)].numa : -1;
}

static int make_all(const struct making *m)
{
	const struct mdbus_config_bus *c = m->config;
	char name[32];
	int rc = 0;

	for (uint32_t i = 0; i < c->nline && rc == 0; i++) {
		snprintf(name, sizeof(name), "arena.%u", i);
		rc = make(m, MDBUS_SEGMENT_ARENA, name, i, mdbus_shape_arena_size(&m->line[i], c->nchannel), m->line[i].numa,
		          init_arena);
	}
	for (uint32_t i = 0; i < c->nchannel && rc == 0; i++) {
		int node = ring_node(m, &c->channel[i]);

		snprintf(name, sizeof(name), "ring.%u", i);
		rc = make(m, MDBUS_SEGMENT_RING, name, i, mdbus_shape_ring_size(&c->channel[i]), node, init_ring);
		if (rc < 0 || c->channel[i].ordered)
			continue;
		snprintf(name, sizeof(name), "keys.%u", i);
		rc = make(m, MDBUS_SEGMENT_KEYS, name, i, mdbus_shape_keys_size(&c->channel[i]), node, init_keys);
	}
	for (uint32_t i = 0; i < c->nseat && rc == 0; i++) {
		snprintf(name, sizeof(name), "seat.%u", i);
		rc = make(m, MDBUS_SEGMENT_SEAT, name, i, mdbus_shape_seat_size(), -1, NULL);
	}
	if (rc == 0)
		rc = make(m, MDBUS_SEGMENT_BUS, "bus", 0, mdbus_shape_bus_size(c->nchannel), -1, init_bus);
	return rc;
}

int mdbus_bus_files_create(struct mdbus_daemon *d, struct mdbus_served *b, const struct mdbus_config_bus *config)
{
	struct making m = { .d = d, .b = b, .config = config };

	resolve(&m);
	int rc = mdbus_rundir_bus_make(d, config->name, b);

	if (rc < 0)
		mdbus_say("bus %s: %s: %s%s", config->name, b->dir, strerror(-rc), mdbus_text_mend(rc));
	else
		rc = make_all(&m);
	if (rc < 0)
		mdbus_rundir_bus_remove(d, config->name, b);
	return rc;
}

static void add_need(const struct mdbus_daemon *d, size_t size, uint64_t need[2])
{
	uint32_t kind;
	size_t bytes = mdbus_segment_footprint(size, use_huge(d, 0), use_huge(d, 1), &kind);

	if (kind == MDBUS_PAGES_2M)
		need[0] += bytes;
	else if (kind == MDBUS_PAGES_1G)
		need[1] += bytes;
}

void mdbus_bus_files_need(const struct mdbus_daemon *d, const struct mdbus_config_bus *config, uint64_t need[2])
{
	struct making m = { .config = config };

	resolve(&m);
	for (uint32_t i = 0; i < config->nline; i++) {
		add_need(d, mdbus_shape_arena_size(&m.line[i], config->nchannel), need);
		if (strcmp(m.line[i].backend, "dpdk") == 0 && use_huge(d, 0))
			need[0] += mdbus_dpdk_own_bytes(m.line[i].frames);
	}
	for (uint32_t i = 0; i < config->nchannel; i++) {
		add_need(d, mdbus_shape_ring_size(&config->channel[i]), need);
		if (!config->channel[i].ordered)
			add_need(d, mdbus_shape_keys_size(&config->channel[i]), need);
	}
	add_need(d, mdbus_shape_bus_size(config->nchannel), need);
}
