/* SPDX-License-Identifier: Apache-2.0
 *
 * config.c - the tables of what a configuration may say, defaults, and the walk over buses, lines and channels.
 *
 * Reading goes on after a mistake, so that one run names them all; a group with a mistake keeps its defaults, which
 * are valid, so that later checks do not report what only follows from the first.
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../bus/user_veth.h"
#include "config_channel.h"
#include "config_handed.h"
#include "config_read.h"
#include "config_recover.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define AT(type, member) offsetof(type, member), sizeof(((type *)0)->member)
#define RING_DEFAULT 8192u
#define FEW_FRAMES   1024u /* what waits stays in the socket, and frames that come round soon stay in the cache */

/* A line as it stands in the file. */
struct line_text {
	struct mdbus_line_desc desc;
	char part_of[MDBUS_NAME_MAX];
};

struct root {
	char pages[32];
	char layouts[PATH_MAX];
};

struct groups {
	char subscriber[64], ingest[64], admin[64];
};

static const char *const page_choices[] = { "auto", "never", "2M", "1G", NULL };
static const char *const backends[] = { "af_xdp", "kernel", "pcap", "dpdk", "recover", "handed", NULL };
static const char *const xdp_modes[] = { "auto", "native", "skb", NULL };
static const char *const xdp_copies[] = { "auto", "copy", "zerocopy", NULL };

static const struct config_key root_keys[] = {
	{ "hugepages", CONFIG_TEXT, AT(struct root, pages), 0, 0, 0, page_choices },
	{ "layouts", CONFIG_TEXT, AT(struct root, layouts), 0, 0, 0, NULL },
	{ "groups", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
	{ "buses", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
};

static const struct config_key groups_keys[] = {
	{ "subscriber", CONFIG_TEXT, AT(struct groups, subscriber), 0, 0, 0, NULL },
	{ "ingest", CONFIG_TEXT, AT(struct groups, ingest), 0, 0, 0, NULL },
	{ "admin", CONFIG_TEXT, AT(struct groups, admin), 0, 0, 0, NULL },
};

static const struct config_key bus_keys[] = {
	{ "name", CONFIG_NAME, AT(struct mdbus_config_bus, name), 0, 0, 0, NULL },
	{ "seats", CONFIG_NUMBER, AT(struct mdbus_config_bus, nseat), 1, MDBUS_SEATS_MAX, 0, NULL },
	{ "lines", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
	{ "channels", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
};

static const struct config_key line_keys[] = {
	{ "name", CONFIG_NAME, AT(struct mdbus_line_desc, name), 0, 0, 0, NULL },
	{ "backend", CONFIG_TEXT, AT(struct mdbus_line_desc, backend), 0, 0, 0, backends },
	{ "interface", CONFIG_TEXT, AT(struct mdbus_line_desc, interface), 0, 0, 0, NULL },
	{ "file", CONFIG_TEXT, AT(struct mdbus_line_desc, file), 0, 0, 0, NULL },
	{ "speed", CONFIG_FACTOR, AT(struct mdbus_line_desc, pcap_speed_x1000), 0, 1000, 1000, NULL },
	{ "part_of", CONFIG_NAME, AT(struct line_text, part_of), 0, 0, 0, NULL },
	{ "from", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
	{ "queue", CONFIG_NUMBER, AT(struct mdbus_line_desc, queue), 0, 4095, 0, NULL },
	{ "cpu", CONFIG_NUMBER, AT(struct mdbus_line_desc, cpu), -1, 4095, 0, NULL },
	{ "numa", CONFIG_NUMBER, AT(struct mdbus_line_desc, numa), -1, 1023, 0, NULL },
	{ "batch", CONFIG_NUMBER, AT(struct mdbus_line_desc, batch), 1, 1024, 0, NULL },
	{ "frames", CONFIG_NUMBER, AT(struct mdbus_line_desc, frames), 64, 1 << 23, 0, NULL },
	{ "reserve_frames", CONFIG_NUMBER, AT(struct mdbus_line_desc, reserve_frames), 0, 1 << 22, 0, NULL },
	{ "low_watermark", CONFIG_NUMBER, AT(struct mdbus_line_desc, low_watermark), 0, 1 << 23, 0, NULL },
	{ "frame_size", CONFIG_POWER, AT(struct mdbus_line_desc, frame_size), 2048, 4096, 0, NULL },
	{ "rx_ring", CONFIG_POWER, AT(struct mdbus_line_desc, rx_ring), 16, 1 << 20, 0, NULL },
	{ "fill_ring", CONFIG_POWER, AT(struct mdbus_line_desc, fill_ring), 16, 1 << 20, 0, NULL },
	{ "xdp_mode", CONFIG_TEXT, AT(struct mdbus_line_desc, xdp_mode), 0, 0, 0, xdp_modes },
	{ "xdp_copy", CONFIG_TEXT, AT(struct mdbus_line_desc, xdp_copy), 0, 0, 0, xdp_copies },
	{ "idle_spins", CONFIG_NUMBER, AT(struct mdbus_line_desc, idle_spins), 0, 1000000000, 0, NULL },
	{ "poll_timeout_us", CONFIG_NUMBER, AT(struct mdbus_line_desc, poll_timeout_us), 1, 1000000, 0, NULL },
	{ "busy_poll_us", CONFIG_NUMBER, AT(struct mdbus_line_desc, busy_poll_us), 0, 1000000, 0, NULL },
	{ "servers", CONFIG_OTHER, 0, 0, 0, 0, 0, NULL },
	{ "request_rate", CONFIG_NUMBER, AT(struct mdbus_line_desc, request_rate), 1, 1000000, 0, NULL },
	{ "request_max", CONFIG_NUMBER, AT(struct mdbus_line_desc, request_max), 1, 65534, 0, NULL },
	{ "retry_ms", CONFIG_NUMBER, AT(struct mdbus_line_desc, retry_ms), 1, 60000, 0, NULL },
	{ "backoff_max_ms", CONFIG_NUMBER, AT(struct mdbus_line_desc, backoff_max_ms), 1, 600000, 0, NULL },
	{ "steer", CONFIG_FLAG, AT(struct mdbus_line_desc, steer), 0, 0, 0, NULL },
	{ "stale_ms", CONFIG_NUMBER, AT(struct mdbus_line_desc, stale_ms), 0, 86400000, 0, NULL },
	{ "stuck_kill_ms", CONFIG_NUMBER, AT(struct mdbus_line_desc, stuck_kill_ms), 0, 86400000, 0, NULL },
};

static bool has(const config_setting_t *s, const char *name)
{
	return config_setting_get_member(s, name) != NULL;
}

/* The member to blame, or the group where the member is missing. */
static const config_setting_t *blame(const config_setting_t *s, const char *name)
{
	const config_setting_t *m = config_setting_get_member(s, name);

	return m ? m : s;
}

static void line_defaults(struct mdbus_line_desc *l)
{
#ifdef MDBUS_HAVE_XDP
	bool xdp = geteuid() == 0;
#else
	bool xdp = false;
#endif
	snprintf(l->backend, sizeof(l->backend), "%s", xdp ? "af_xdp" : "kernel");
	snprintf(l->xdp_mode, sizeof(l->xdp_mode), "auto");
	snprintf(l->xdp_copy, sizeof(l->xdp_copy), "auto");
	l->cpu = -1;
	l->numa = -1;
	l->batch = 64;
	l->frames = 16384;
	l->rx_ring = l->fill_ring = 0; /* see ring_default */
	l->poll_timeout_us = 1000;
	l->stale_ms = 1000;
	l->steer = MDBUS_STEER_AUTO;
	l->pcap_speed_x1000 = 1000;
}

/* Rings that nobody has set: as many descriptors as there are frames for them. */
static uint32_t ring_default(uint32_t frames, uint32_t n)
{
	while (n > frames)
		n /= 2u;
	return n;
}

/* Make a file name that stands in the configuration absolute: the processes that open it run elsewhere. */
static void resolve_path(struct config_reader *r, const config_setting_t *at, char *path, size_t size)
{
	char full[2 * PATH_MAX];
	const char *slash = strrchr(r->path, '/');

	if (path[0] == '/' || path[0] == '\0')
		return;
	snprintf(full, sizeof(full), "%.*s/%s", slash ? (int)(slash - r->path) : 1, slash ? r->path : ".", path);
	if (strlen(full) >= size) {
		mdbus_config_mistake(r, at, "%s: longer than %zu characters with its directory", full, size - 1u);
		return;
	}
	memset(path, 0, size);
	memcpy(path, full, strlen(full));
}

static void check_line(struct config_reader *r, const config_setting_t *s, struct mdbus_line_desc *l)
{
	bool xdp = strcmp(l->backend, "af_xdp") == 0, pcap = strcmp(l->backend, "pcap") == 0;
	bool dpdk = strcmp(l->backend, "dpdk") == 0;

#ifndef MDBUS_HAVE_XDP
	if (xdp)
		mdbus_config_mistake(r, blame(s, "backend"), "backend = \"af_xdp\": this mdbus was built without libxdp");
#endif
#ifndef MDBUS_HAVE_DPDK
	if (dpdk)
		mdbus_config_mistake(r, blame(s, "backend"), "backend = \"dpdk\": this mdbus was built without libdpdk");
#endif
	if (dpdk && l->interface[0] == '\0')
		mdbus_config_mistake(r, s, "interface is missing: backend dpdk needs a PCI address, or a virtual device such as "
		                     "\"net_af_packet0,iface=eth1\" or \"user-veth:a\"");
	if (dpdk && l->queue != 0 && !mdbus_is_user_veth(l->interface))
		mdbus_config_mistake(r, blame(s, "queue"), "queue = %u: a DPDK port belongs to one line whole, its queue is 0",
		                     l->queue);
	if (xdp && l->interface[0] == '\0')
		mdbus_config_mistake(r, s, "interface is missing: backend af_xdp needs one");
	if (!pcap && !dpdk && strlen(l->interface) > 15)
		mdbus_config_mistake(r, blame(s, "interface"), "interface = \"%s\": at most 15 characters", l->interface);
	if (pcap && l->file[0] == '\0')
		mdbus_config_mistake(r, s, "file is missing: backend pcap needs one");
	if (!pcap && has(s, "file"))
		mdbus_config_mistake(r, blame(s, "file"), "file: only for backend = \"pcap\"");
	if (!pcap && has(s, "speed"))
		mdbus_config_mistake(r, blame(s, "speed"), "speed: only for backend = \"pcap\"");
	if (!xdp && has(s, "steer"))
		mdbus_config_mistake(r, blame(s, "steer"), "steer: only for backend = \"af_xdp\"; a DPDK line makes its own rules");
	if (l->cpu >= sysconf(_SC_NPROCESSORS_CONF))
		mdbus_config_mistake(r, blame(s, "cpu"), "cpu = %d: this host has cores 0 to %ld", l->cpu,
		                     sysconf(_SC_NPROCESSORS_CONF) - 1);
	if (l->fill_ring > l->frames || l->rx_ring > l->frames)
		mdbus_config_mistake(r, blame(s, "frames"), "frames = %u: must be at least rx_ring (%u) and fill_ring (%u)",
		                     l->frames, l->rx_ring, l->fill_ring);
	if (l->low_watermark > l->frames / 4u)
		mdbus_config_mistake(r, blame(s, "low_watermark"), "low_watermark = %u: must be at most a quarter of frames (%u)",
		                     l->low_watermark, l->frames);
	if (l->batch > l->rx_ring)
		mdbus_config_mistake(r, blame(s, "batch"), "batch = %u: must be at most rx_ring (%u)", l->batch, l->rx_ring);
	resolve_path(r, blame(s, "file"), l->file, sizeof(l->file));
}

/* Has that interface queues that are lent one by one? */
static bool has_queues(const struct mdbus_line_desc *l)
{
	return strcmp(l->backend, "af_xdp") == 0 || (strcmp(l->backend, "dpdk") == 0 && mdbus_is_user_veth(l->interface));
}

/* part_of: line i is another queue of the line named. */
static void join_group(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b, uint32_t i,
                       const struct line_text *text)
{
	const char *name = text[i].part_of;
	struct mdbus_line_desc *l = &b->line[i];
	const config_setting_t *at = blame(s, "part_of");
	uint32_t first = 0;
	char hint[96];

	if (name[0] == '\0')
		return;
	while (first < b->nline && strcmp(b->line[first].name, name) != 0)
		first++;
	if (first == b->nline)
		mdbus_config_mistake(r, at, "part_of = \"%s\": there is no such line%s", name,
		                     mdbus_config_suggest(name, b->line[0].name, b->nline, sizeof(b->line[0]), false, hint,
		                                          sizeof(hint)));
	else if (first == i || text[first].part_of[0])
		mdbus_config_mistake(r, at, "part_of = \"%s\": must name a line that is not part of one itself", name);
	else if (!has_queues(l) || strcmp(l->backend, b->line[first].backend) != 0)
		mdbus_config_mistake(r, at, "part_of = \"%s\": both lines must have backend = \"af_xdp\", or \"dpdk\" and a "
		                     "user-veth: no other takes one queue", name);
	else if (strcmp(l->interface, b->line[first].interface) != 0)
		mdbus_config_mistake(r, at, "part_of = \"%s\": that line is on interface %s, this one on %s", name,
		                     b->line[first].interface, l->interface);
	else
		l->group = first;
}

static void read_lines(struct config_reader *r, const config_setting_t *s, struct mdbus_config_bus *b)
{
	const config_setting_t *list = mdbus_config_list(r, s, "lines", 1, (int)MDBUS_LINES_MAX);
	struct line_text text[MDBUS_LINES_MAX] = { 0 };
	char bus_where[sizeof(r->where)];

	memcpy(bus_where, r->where, sizeof(bus_where));
	b->nline = list ? (uint32_t)config_setting_length(list) : 0;
	for (uint32_t i = 0; i < b->nline; i++) {
		const config_setting_t *ls = config_setting_get_elem(list, i);
		struct mdbus_line_desc *l = &b->line[i];

		line_defaults(&text[i].desc);
		mdbus_config_where(r, bus_where, "line", i, ls);
		unsigned before = r->nmistake;

		mdbus_config_group(r, ls, line_keys, COUNT(line_keys), &text[i]);
		*l = text[i].desc;
		l->group = i;
		if (!config_setting_is_group(ls))
			continue;
		if (!has(ls, "name"))
			mdbus_config_mistake(r, ls, "name is missing");
		if (!has(ls, "idle_spins"))
			l->idle_spins = l->cpu >= 0 ? 0 : 1000;
		mdbus_config_recover_defaults(ls, l);
		if (!has(ls, "rx_ring"))
			l->rx_ring = ring_default(l->frames, RING_DEFAULT);
		if (!has(ls, "fill_ring"))
			l->fill_ring = ring_default(l->frames, strcmp(l->backend, "kernel") ? RING_DEFAULT : FEW_FRAMES);
		if (!has(ls, "low_watermark"))
			l->low_watermark = l->frames / 16u;
		for (uint32_t k = 0; k < i && l->name[0]; k++) {
			if (strcmp(b->line[k].name, l->name) == 0)
				mdbus_config_mistake(r, blame(ls, "name"), "name = \"%s\": line %u has this name already", l->name,
				                     k + 1u);
		}
		if (r->nmistake == before) /* else it might report what only follows */
			check_line(r, ls, l);
		l->frames += l->reserve_frames; /* in one arena */
		mdbus_config_recover_line(r, ls, l);
		mdbus_config_handed_line(r, ls, l);
	}
	for (uint32_t i = 0; i < b->nline; i++) {
		const config_setting_t *ls = config_setting_get_elem(list, i);

		mdbus_config_where(r, bus_where, "line", i, ls);
		if (config_setting_is_group(ls))
			join_group(r, ls, b, i, text);
	}
	for (uint32_t i = 0; i < b->nline; i++) {
		const config_setting_t *ls = config_setting_get_elem(list, i);

		mdbus_config_where(r, bus_where, "line", i, ls);
		if (config_setting_is_group(ls))
			mdbus_config_handed_from(r, ls, b, i);
	}
	mdbus_config_handed_rings(b);
	memcpy(r->where, bus_where, sizeof(bus_where));
}

/*
 * A NIC queue has one holder: AF_XDP takes it from everybody else.  Within a bus, naming it twice is a mistake; lines of
 * several buses, or in several network namespaces, may take turns (queues.c).
 */
static void check_queues(struct config_reader *r, const config_setting_t *buses, const struct mdbus_config *c, uint32_t bus,
                         uint32_t line)
{
	const struct mdbus_line_desc *l = &c->bus[bus].line[line];

	if (strcmp(l->backend, "af_xdp") != 0 || l->interface[0] == '\0')
		return;
	for (uint32_t i = 0; i < line; i++) {
		const struct mdbus_line_desc *o = &c->bus[bus].line[i];

		if (strcmp(o->backend, "af_xdp") != 0 || strcmp(o->interface, l->interface) != 0 || o->queue != l->queue)
			continue;
		const config_setting_t *list = config_setting_get_member(config_setting_get_elem(buses, bus), "lines");

		mdbus_config_mistake(r, blame(config_setting_get_elem(list, line), "interface"),
		                     "line %s: queue %u of interface %s is taken by line %s of bus %s already", l->name, l->queue,
		                     l->interface, o->name, c->bus[bus].name);
	}
}

static uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t hash_bus(const struct mdbus_config_bus *b)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	h = hash_bytes(h, b->name, sizeof(b->name));
	h = hash_bytes(h, &b->nseat, sizeof(b->nseat));
	h = hash_bytes(h, b->line, b->nline * sizeof(b->line[0]));
	return hash_bytes(h, b->channel, b->nchannel * sizeof(b->channel[0]));
}

static void read_bus(struct config_reader *r, const config_setting_t *s, struct mdbus_config *c, uint32_t i,
                     const char *layouts)
{
	struct mdbus_config_bus *b = &c->bus[i];

	mdbus_config_where(r, "", "bus", i, s);
	b->nseat = 64;
	mdbus_config_group(r, s, bus_keys, COUNT(bus_keys), b);
	if (!config_setting_is_group(s))
		return;
	if (!has(s, "name"))
		mdbus_config_mistake(r, s, "name is missing");
	for (uint32_t k = 0; k < i && b->name[0]; k++) {
		if (strcmp(c->bus[k].name, b->name) == 0)
			mdbus_config_mistake(r, blame(s, "name"), "name = \"%s\": bus %u has this name already", b->name, k + 1u);
	}
	read_lines(r, s, b);
	mdbus_config_channels(r, s, b, layouts);
	b->hash = hash_bus(b);
}

static int group_id(struct config_reader *r, const config_setting_t *s, const char *role, const char *name)
{
	if (name[0] == '\0')
		return -1;
	const struct group *g = getgrnam(name);

	if (!g) {
		mdbus_config_mistake(r, blame(s, role), "groups: %s = \"%s\": no such group on this host (groupadd --system %s)",
		                     role, name, name);
		return -1;
	}
	return (int)g->gr_gid;
}

static void read_groups(struct config_reader *r, const config_setting_t *root, struct mdbus_config *c)
{
	const config_setting_t *s = config_setting_get_member(root, "groups");
	struct groups g = { 0 };

	c->subscriber_gid = c->ingest_gid = c->admin_gid = -1;
	if (!s)
		return;
	mdbus_config_group(r, s, groups_keys, COUNT(groups_keys), &g);
	if (!config_setting_is_group(s))
		return;
	c->subscriber_gid = group_id(r, s, "subscriber", g.subscriber);
	c->ingest_gid = group_id(r, s, "ingest", g.ingest);
	c->admin_gid = group_id(r, s, "admin", g.admin);
}

static void read_root(struct config_reader *r, const config_setting_t *root, struct mdbus_config *c)
{
	struct root v = { .pages = "auto" };

	mdbus_config_group(r, root, root_keys, COUNT(root_keys), &v);
	while (strcmp(page_choices[c->pages], v.pages) != 0)
		c->pages++;
	if (v.layouts[0])
		resolve_path(r, blame(root, "layouts"), v.layouts, sizeof(v.layouts));
	read_groups(r, root, c);
	const config_setting_t *buses = mdbus_config_list(r, root, "buses", 1, (int)MDBUS_CONFIG_BUSES_MAX);

	c->nbus = buses ? (uint32_t)config_setting_length(buses) : 0;
	for (uint32_t i = 0; i < c->nbus; i++)
		read_bus(r, config_setting_get_elem(buses, i), c, i, v.layouts);
	r->where[0] = '\0';
	for (uint32_t b = 0; b < c->nbus; b++) {
		for (uint32_t l = 0; l < c->bus[b].nline; l++)
			check_queues(r, buses, c, b, l);
	}
}

int mdbus_config_load(const char *path, struct mdbus_config *out, FILE *errors)
{
	struct config_reader r = { .path = out->path };
	config_t cfg;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	struct stat st;

	if (!realpath(path, out->path) || stat(out->path, &st) < 0 || access(out->path, R_OK) < 0) {
		rc = -errno;
		fprintf(errors, "%s: %s\n", path, strerror(-rc));
		return rc;
	}
	if (!S_ISREG(st.st_mode)) { /* libconfig ends the process on a directory */
		fprintf(errors, "%s: not a file\n", path);
		return -EINVAL;
	}
	config_init(&cfg);
	if (config_read_file(&cfg, out->path) == CONFIG_TRUE) {
		read_root(&r, config_root_setting(&cfg), out);
		if (mdbus_config_mistakes_print(&r, errors) > 0)
			rc = -EINVAL;
	} else {
		const char *file = config_error_file(&cfg);

		fprintf(errors, "%s:%d: %s\n", file ? file : out->path, config_error_line(&cfg), config_error_text(&cfg));
		rc = -EINVAL;
	}
	config_destroy(&cfg);
	return rc;
}

void mdbus_config_free(struct mdbus_config *c)
{
	for (uint32_t i = 0; i < c->nbus; i++)
		free(c->bus[i].channel);
	memset(c, 0, sizeof(*c));
}
