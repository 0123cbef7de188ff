/* SPDX-License-Identifier: Apache-2.0
 *
 * bus_open.c - what mdbusd finds when it starts, and what becomes of it.
 *
 *	found                                       nobody alive holds it      somebody does
 *	no file "bus": creation or removal cut off  removed, made anew         (cannot be)
 *	the bus of the configuration                adopted                    adopted
 *	another configuration, or damaged segments  removed, made anew         refused, or with --force-new made anew
 *	not in the configuration                    removed                    refused, or with --force-new removed
 *	its directory cannot be read                refused, or with --force-new made anew
 *	held, and noted in another pid namespace    refused, or with --force-new made anew
 *
 * Everything is looked at before anything is changed, so a refusal changes nothing.  A process whose bus is made anew
 * keeps its mappings of the old files and hurts nobody.
 */
#include <errno.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../bus/guard.h"
#include "../bus/segment.h"
#include "daemon.h"
#include "queues.h"
#include "rules.h"
#include "process.h"
#include "seat.h"

enum verdict { ADOPT, REMOVE, REFUSE };

struct found {
	char name[MDBUS_NAME_MAX];
	const struct mdbus_config_bus *config; /* NULL: not configured */
	enum verdict verdict;
	struct mdbus_served *served; /* ADOPT: all mapped */
};

static struct mdbus_served *served_new(const struct mdbus_daemon *d, const char *name)
{
	struct mdbus_served *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	for (uint32_t i = 0; i < MDBUS_LINES_MAX; i++)
		b->line[i] = (struct mdbus_holder){ .source.fd = -1, .bus = b, .index = i, .net_fd = -1 };
	for (uint32_t i = 0; i < MDBUS_SEATS_MAX; i++)
		b->seat[i] = (struct mdbus_holder){ .source.fd = -1, .bus = b, .index = i, .seat = true, .net_fd = -1 };
	memset(b->seat_fd, 0xff, sizeof(b->seat_fd));
	mdbus_rundir_bus_paths(d, name, b);
	(void)mdbus_guard_add(&b->map);
	return b;
}

static void unmap(struct mdbus_region *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (r[i].base)
			munmap(r[i].base, r[i].size);
		r[i] = (struct mdbus_region){ 0 };
	}
}

static void served_free(struct mdbus_daemon *d, struct mdbus_served *b)
{
	if (!b)
		return;
	mdbus_guard_remove(&b->map);
	for (uint32_t i = 0; i < MDBUS_LINES_MAX; i++) {
		mdbus_loop_remove(d, &b->line[i].source);
		mdbus_queue_close(&b->line[i]);
	}
	for (uint32_t i = 0; i < MDBUS_SEATS_MAX; i++)
		mdbus_loop_remove(d, &b->seat[i].source);
	for (uint32_t i = 0; i < MDBUS_SEATS_MAX; i++) {
		if (b->seat_fd[i] >= 0)
			close(b->seat_fd[i]);
	}
	mdbus_scan_close(b);
	unmap(b->map.ring, MDBUS_CHANNELS_MAX);
	unmap(b->map.keys, MDBUS_CHANNELS_MAX);
	unmap(b->map.arena, MDBUS_LINES_MAX);
	unmap(&b->map.dir_region, 1);
	free(b);
}

static int map_one(struct mdbus_served *b, uint32_t kind, const char *name, bool writable, struct mdbus_region *r,
                   char *err, size_t errlen)
{
	char path[MDBUS_RUN_PATH_MAX + 32];
	struct mdbus_mapping map;

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	int rc = mdbus_segment_attach_path(path, kind, writable, &map, err, errlen);

	if (rc < 0)
		return rc;
	close(map.fd);
	*r = (struct mdbus_region){ map.base, map.size };
	return 0;
}

static int map_dir(struct mdbus_served *b, char *err, size_t errlen)
{
	int rc = map_one(b, MDBUS_SEGMENT_BUS, "bus", true, &b->map.dir_region, err, errlen);

	b->map.dir = b->map.dir_region.base;
	b->map.index = UINT32_MAX;
	return rc;
}

static int map_table(struct mdbus_served *b, uint32_t kind, const char *stem, uint32_t n, bool writable,
                     struct mdbus_region *table, char *err, size_t errlen)
{
	int rc = 0;

	for (uint32_t i = 0; i < n && rc == 0; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%s.%u", stem, i);
		rc = map_one(b, kind, name, writable, &table[i], err, errlen);
	}
	return rc;
}

static int map_all(struct mdbus_served *b, char *err, size_t errlen)
{
	const struct mdbus_bus_hdr *h = b->map.dir;
	int rc = map_table(b, MDBUS_SEGMENT_RING, "ring", h->nchannel, true, b->map.ring, err, errlen);

	if (rc == 0)
		rc = map_table(b, MDBUS_SEGMENT_ARENA, "arena", h->nline, false, b->map.arena, err, errlen);
	for (uint32_t i = 0; i < h->nseat && rc == 0; i++) {
		if (h->seat[i].state == MDBUS_LEASE_FREE)
			rc = mdbus_seat_reset(b, i);
		if (rc < 0)
			snprintf(err, errlen, "%s/seat.%u: %s", b->dir, i, strerror(-rc));
	}
	if (rc == 0)
		rc = mdbus_segment_check_bus(&b->map, err, errlen);
	return rc;
}

static bool alive(const struct mdbus_lease *l)
{
	if (l->state == MDBUS_LEASE_FREE)
		return false;
	int fd = mdbus_process_open((pid_t)l->pid, l->start);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Living holders; a text naming the first few of them. */
static uint32_t living(const struct mdbus_bus_hdr *h, char *text, size_t size)
{
	uint32_t n = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < h->nline + h->nseat; i++) {
		bool line = i < h->nline;
		const struct mdbus_lease *l = line ? &h->line[i].lease : &h->seat[i - h->nline];
		size_t used = strlen(text);

		if (!alive(l))
			continue;
		if (n++ < 5)
			snprintf(text + used, size - used, "%s%s %.31s by pid %u", n > 1 ? ", " : "", line ? "line" : "seat",
			         line ? h->line[i].name : l->name, l->pid);
	}
	return n;
}

static enum verdict judge(const struct mdbus_daemon *d, const struct found *f, const char *trouble)
{
	const struct mdbus_bus_hdr *h = f->served->map.dir;
	char who[512];

	if (living(h, who, sizeof(who)) == 0)
		return REMOVE;
	mdbus_say("bus %s: %s, but it is in use: %s: stop these processes, or start with --force-new and restart them "
	          "afterwards", f->name, trouble, who);
	return d->force_new ? REMOVE : REFUSE;
}

/* Held by processes whose pids and start times mean nothing here: they may be anybody's, or look dead. */
static bool foreign(const struct mdbus_served *b)
{
	uint32_t of = b->map.dir->namespaces;

#ifdef MDBUS_MUTANT_namespaces_ignored
	return false;
#endif
	return of != 0 && of != mdbus_process_namespaces() && mdbus_bus_held(b) > 0;
}

static enum verdict inspect(const struct mdbus_daemon *d, struct found *f)
{
	char err[512];
	int rc = map_dir(f->served, err, sizeof(err));

	if (rc == -ENOENT)
		return REMOVE;
	if (rc < 0) {
		mdbus_say("bus %s: %s: who uses it cannot be told; start with --force-new to make it anew", f->name, err);
		return d->force_new ? REMOVE : REFUSE;
	}
	if (foreign(f->served)) {
		mdbus_say("bus %s: processes hold it that an mdbusd in another pid or time namespace has written down: start this "
		          "one there, or stop them and start with --force-new", f->name);
		return d->force_new ? REMOVE : REFUSE;
	}
	if (!f->config)
		return judge(d, f, "it is not in the configuration");
	if (f->served->map.dir->config_hash != f->config->hash)
		return judge(d, f, "the configuration has changed");
	if (map_all(f->served, err, sizeof(err)) < 0)
		return judge(d, f, err);
	return ADOPT;
}

static const struct mdbus_config_bus *config_of(const struct mdbus_daemon *d, const char *name)
{
	for (uint32_t i = 0; i < d->config.nbus; i++) {
		if (strcmp(d->config.bus[i].name, name) == 0)
			return &d->config.bus[i];
	}
	return NULL;
}

static int inspect_all(struct mdbus_daemon *d, struct found *found, uint32_t n)
{
	int rc = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct found *f = &found[i];

		f->config = config_of(d, f->name);
		f->served = served_new(d, f->name);
		if (!f->served)
			return -ENOMEM;
		f->verdict = inspect(d, f);
		if (f->verdict == REFUSE)
			rc = -EEXIST;
	}
	return rc;
}

/* Adopt what is to be adopted, remove the rest. */
static void settle(struct mdbus_daemon *d, struct found *found, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct found *f = &found[i];

		if (f->verdict == ADOPT) {
			f->served->config = f->config;
			f->served->adopted = true;
			f->served->map.dir->daemon_pid = (uint32_t)getpid();
			f->served->map.dir->namespaces = mdbus_process_namespaces();
			MDBUS_HOOK("adopt.named");
			for (int k = 0; k < 2; k++)
				mdbus_segment_sweep(f->served->dir, f->served->huge[k][0] ? f->served->huge[k] : NULL);
			d->bus[d->nbus++] = f->served;
			f->served = NULL;
		} else {
			mdbus_rules_delete_all(d, f->served);
			mdbus_rundir_bus_remove(d, f->name, f->served);
		}
	}
}

static bool is_open(const struct mdbus_daemon *d, const struct mdbus_config_bus *c)
{
	for (uint32_t i = 0; i < d->nbus; i++) {
		if (d->bus[i]->config == c)
			return true;
	}
	return false;
}

static int make_bus(struct mdbus_daemon *d, const struct mdbus_config_bus *c)
{
	struct mdbus_served *b = served_new(d, c->name);
	char err[512] = "out of memory";
	int rc = b ? mdbus_bus_files_create(d, b, c) : -ENOMEM;

	if (rc == 0) {
		rc = map_dir(b, err, sizeof(err));
		if (rc == 0)
			rc = map_all(b, err, sizeof(err));
		if (rc < 0) {
			mdbus_say("bus %s: %s", c->name, err);
			mdbus_rundir_bus_remove(d, c->name, b);
		}
	}
	if (rc < 0) {
		served_free(d, b);
		return rc;
	}
	MDBUS_HOOK("bus.made");
	b->config = c;
	d->bus[d->nbus++] = b;
	return 0;
}

static int make_missing(struct mdbus_daemon *d)
{
	uint64_t need[2] = { 0, 0 };
	int rc = 0;

	for (uint32_t i = 0; i < d->config.nbus; i++) {
		if (!is_open(d, &d->config.bus[i]))
			mdbus_bus_files_need(d, &d->config.bus[i], need);
	}
	for (uint32_t page = 0; page < 2; page++)
		mdbus_huge_reserve(d, page, need[page]);
	for (uint32_t i = 0; i < d->config.nbus && rc == 0; i++) {
		if (!is_open(d, &d->config.bus[i]))
			rc = make_bus(d, &d->config.bus[i]);
	}
	return rc;
}

int mdbus_buses_open(struct mdbus_daemon *d)
{
	char names[2 * MDBUS_CONFIG_BUSES_MAX][MDBUS_NAME_MAX];
	struct found found[2 * MDBUS_CONFIG_BUSES_MAX];

	mdbus_huge_open(d, d->config.pages);
	uint32_t n = mdbus_rundir_buses(d, names, 2 * MDBUS_CONFIG_BUSES_MAX);

	memset(found, 0, sizeof(found));
	for (uint32_t i = 0; i < n; i++)
		memcpy(found[i].name, names[i], sizeof(names[i]));
	int rc = inspect_all(d, found, n);

	if (rc == 0) {
		settle(d, found, n);
		rc = make_missing(d);
	}
	for (uint32_t i = 0; i < n; i++)
		served_free(d, found[i].served);
	for (uint32_t i = 0; i < d->nbus && rc == 0; i++) {
		rc = mdbus_scan_open(d->bus[i]);
		if (rc == 0 && d->bus[i]->adopted)
			mdbus_lease_adopt(d, d->bus[i]);
	}
	return rc;
}

uint32_t mdbus_bus_held(const struct mdbus_served *b)
{
	const struct mdbus_bus_hdr *h = b->map.dir;
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->nline; i++)
		n += h->line[i].lease.state != MDBUS_LEASE_FREE;
	for (uint32_t i = 0; i < h->nseat; i++)
		n += h->seat[i].state != MDBUS_LEASE_FREE;
	return n;
}

void mdbus_buses_close(struct mdbus_daemon *d)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < d->nbus; i++)
		held += mdbus_bus_held(d->bus[i]);
	for (uint32_t i = 0; i < d->nbus; i++) {
		if (held == 0) {
			mdbus_rules_delete_all(d, d->bus[i]);
			mdbus_rundir_bus_remove(d, d->bus[i]->config->name, d->bus[i]);
		}
		served_free(d, d->bus[i]);
	}
	char names[1][MDBUS_NAME_MAX];
	bool empty = mdbus_rundir_buses(d, names, 1) == 0;

	d->nbus = 0;
	if (held > 0)
		mdbus_say("%u lines and seats are held: the buses stay for the next mdbusd", held);
	if (empty)
		mdbus_huge_close(d);
	mdbus_rundir_close(d, empty);
}

int mdbus_buses_purge(struct mdbus_daemon *d)
{
	char names[2 * MDBUS_CONFIG_BUSES_MAX][MDBUS_NAME_MAX], err[512], who[512];

	mdbus_huge_open(d, MDBUS_CONFIG_PAGES_NEVER);
	uint32_t n = mdbus_rundir_buses(d, names, 2 * MDBUS_CONFIG_BUSES_MAX);

	for (uint32_t i = 0; i < n; i++) {
		struct mdbus_served *b = served_new(d, names[i]);

		if (!b)
			return -ENOMEM;
		bool used = map_dir(b, err, sizeof(err)) == 0 && living(b->map.dir, who, sizeof(who)) > 0;

		mdbus_rules_delete_all(d, b);
		mdbus_rundir_bus_remove(d, names[i], b);
		mdbus_say("bus %s removed%s%s", names[i], used ? "; still mapped: " : "", used ? who : "");
		served_free(d, b);
	}
	mdbus_huge_close(d);
	mdbus_rundir_close(d, true);
	return 0;
}
