/* SPDX-License-Identifier: Apache-2.0
 *
 * lease_request.c - who may have what.
 *
 * Rights are checked here for every role by what the kernel says about the process; the modes of the socket only keep
 * strangers from knocking.  What a role may not write it gets as a read-only descriptor.
 */
#include "lease_request.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "process.h"
#include "queues.h"
#include "rules.h"
#include "seat.h"
#include "text.h"

void mdbus_lease_refuse(struct mdbus_daemon *d, struct mdbus_lease_reply *r, int status, const char *format,
                        ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(r->error, sizeof(r->error), format, ap);
	va_end(ap);
	r->status = status;
	d->refused++;
}

/* ---- what is lent -------------------------------------------------------------------------------------------- */

struct lent {
	struct mdbus_lease_fd id;
	char name[32];
	bool writable;
};

static uint32_t keyed_channels(const struct mdbus_bus_hdr *dir)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < dir->nchannel; i++)
		n += !dir->channel[i].ordered;
	return n;
}

uint32_t mdbus_lent_count(const struct mdbus_holder *h)
{
	const struct mdbus_bus_hdr *dir = h->bus->map.dir;

	return 1u + dir->nchannel + dir->nline + (h->seat ? 1u : dir->nseat + keyed_channels(dir));
}

static uint32_t keyed_channel_at(const struct mdbus_bus_hdr *dir, uint32_t nth)
{
	uint32_t i = 0;

	for (;; i++) {
		if (!dir->channel[i].ordered && nth-- == 0)
			return i;
	}
}

/* The i-th segment that goes to h: bus, rings, arenas, seats, keys. */
static struct lent lent_at(const struct mdbus_holder *h, uint32_t i)
{
	const struct mdbus_bus_hdr *dir = h->bus->map.dir;
	struct lent l = { .id = { MDBUS_SEGMENT_BUS, 0 }, .name = "bus", .writable = false };
	const char *stem;

	if (i == 0)
		return l;
	i -= 1u;
	if (i < dir->nchannel) {
		l = (struct lent){ .id = { MDBUS_SEGMENT_RING, i }, .writable = !h->seat };
		stem = "ring";
	} else if ((i -= dir->nchannel) < dir->nline) {
		l = (struct lent){ .id = { MDBUS_SEGMENT_ARENA, i }, .writable = !h->seat && i == h->index };
		stem = "arena";
	} else if ((i -= dir->nline) < (h->seat ? 1u : dir->nseat)) {
		l = (struct lent){ .id = { MDBUS_SEGMENT_SEAT, h->seat ? h->index : i }, .writable = h->seat };
		stem = "seat";
	} else {
		l = (struct lent){ .id = { MDBUS_SEGMENT_KEYS, keyed_channel_at(dir, i - dir->nseat) }, .writable = true };
		stem = "keys";
	}
	snprintf(l.name, sizeof(l.name), "%s.%u", stem, l.id.index);
	return l;
}

static int open_lent(const struct mdbus_served *b, const struct lent *l)
{
	char path[MDBUS_RUN_PATH_MAX + 40];

	snprintf(path, sizeof(path), "%s/%s", b->dir, l->name);
	if (l->id.kind == MDBUS_SEGMENT_SEAT) {
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			return -errno;
		(void)mdbus_seat_mend_length(fd);
		if (l->writable)
			return fd;
		close(fd);
	}
#ifdef MDBUS_MUTANT_lend_all_writable
	int fd = open(path, O_RDWR | O_CLOEXEC);
#else
	int fd = open(path, (l->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
#endif

	return fd < 0 ? -errno : fd;
}

int mdbus_lent_open(const struct mdbus_holder *h, uint32_t i, struct mdbus_lease_fd *id)
{
	struct lent l = lent_at(h, i);

	*id = l.id;
	return open_lent(h->bus, &l);
}

/* ---- roles ---------------------------------------------------------------------------------------------------- */

static bool in_group(const struct mdbus_process *p, int gid)
{
	for (uint32_t i = 0; gid >= 0 && i < p->ngroup; i++) {
		if (p->group[i] == (gid_t)gid)
			return true;
	}
	return false;
}

static const char *group_name(int gid)
{
	const struct group *g = gid >= 0 ? getgrgid((gid_t)gid) : NULL;

	return g ? g->gr_name : "(none configured)";
}

bool mdbus_lease_allowed(const struct mdbus_daemon *d, const struct mdbus_process *p, uint32_t op)
{
	const struct mdbus_config *c = &d->config;

	if (p->uid == 0 || p->uid == geteuid())
		return true;
	switch (op) {
	case MDBUS_LEASE_LINE:
		return in_group(p, c->ingest_gid);
	case MDBUS_LEASE_SEAT:
		return in_group(p, c->subscriber_gid) || in_group(p, c->ingest_gid) || in_group(p, c->admin_gid);
	case MDBUS_LEASE_RELEASE:
		return true; /* of its own only */
	default:
#ifdef MDBUS_MUTANT_anybody_is_admin
		return true;
#endif
		return in_group(p, c->admin_gid);
	}
}

static void refuse_role(struct mdbus_daemon *d, const struct mdbus_process *p, uint32_t op, struct mdbus_lease_reply *r)
{
	const struct mdbus_config *c = &d->config;
	const char *role = op == MDBUS_LEASE_LINE ? "a line" : op == MDBUS_LEASE_SEAT ? "a subscriber" : "an admin";
	int gid = op == MDBUS_LEASE_LINE ? c->ingest_gid : op == MDBUS_LEASE_SEAT ? c->subscriber_gid : c->admin_gid;

	mdbus_lease_refuse(d, r, -EACCES, "user %u may not be %s: join group %s", (unsigned)p->uid, role, group_name(gid));
}

static bool same_process(const struct mdbus_lease *l, const struct mdbus_process *p)
{
	return l->pid == (uint32_t)p->pid && l->start == p->start;
}

static bool is_ending(const struct mdbus_lease *l)
{
	uint64_t start;
	bool exiting = false;

	return mdbus_process_start((pid_t)l->pid, &start, &exiting) == 0 && exiting;
}

/* The line called name, free to be granted; else NULL with the reply filled in. */
static struct mdbus_holder *free_line(struct mdbus_daemon *d, struct mdbus_served *b, const struct mdbus_lease_request *q,
                                      const struct mdbus_process *p, struct mdbus_lease_reply *r)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	uint32_t i = 0;

	while (i < dir->nline && strcmp(dir->line[i].name, q->name) != 0)
		i++;
	if (i == dir->nline) {
		mdbus_lease_refuse(d, r, -ENOENT, "bus %s has no line %s: see mdbusctl lines", q->bus, q->name);
		return NULL;
	}
	struct mdbus_holder *h = &b->line[i];
	const struct mdbus_lease *l = mdbus_holder_lease(h);

	if (l->state == MDBUS_LEASE_FREE)
		return h;
	if (h->source.fd < 0 || mdbus_process_ended(h->source.fd)) { /* its end is known, only not yet handled */
		mdbus_reclaim(d, h, "its process has ended");
		return h;
	}
	if (q->id == MDBUS_LEASE_AGAIN && same_process(l, p)) {
		mdbus_reclaim(d, h, "it asks anew");
		return h;
	}
	if (is_ending(l))
		mdbus_lease_refuse(d, r, -EAGAIN, "line %s of bus %s: its last process, pid %u, is just ending", q->name,
		                   q->bus, l->pid);
	else
		mdbus_lease_refuse(d, r, -EBUSY, "line %s of bus %s is taken by pid %u: stop that process first", q->name,
		                   q->bus, l->pid);
	return NULL;
}

/* No line of any bus has the queue of h; else the reply says which one, and who holds it. */
static bool queue_free(struct mdbus_daemon *d, struct mdbus_holder *h, const struct mdbus_process *p,
                       struct mdbus_lease_reply *r)
{
	const struct mdbus_line_desc *l = &h->bus->map.dir->line[h->index];
	const struct mdbus_holder *o = mdbus_queue_holder(d, h, p);

	if (!o)
		return true;
	const struct mdbus_lease *theirs = mdbus_holder_lease(o);
	char device[sizeof(l->interface)];

	(void)mdbus_queue_device(l, device, sizeof(device));
	mdbus_lease_refuse(d, r, is_ending(theirs) ? -EAGAIN : -EBUSY,
	                   "line %s of bus %s: queue %u of %.40s is lent to %s/%s, pid %u: stop that process first, or choose "
	                   "another queue (mdbusctl queues)", l->name, h->bus->map.dir->segment.bus, l->queue, device,
	                   o->bus->map.dir->segment.bus, mdbus_holder_name(o), theirs->pid);
	return false;
}

static struct mdbus_holder *free_seat(struct mdbus_daemon *d, struct mdbus_served *b, struct mdbus_lease_reply *r)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;

	for (uint32_t i = 0; i < dir->nseat; i++) {
		if (dir->seat[i].state == MDBUS_LEASE_FREE)
			return &b->seat[i];
	}
	mdbus_lease_refuse(d, r, -ENOSPC, "bus %s: all %u seats are taken: raise `seats` in %s", dir->segment.bus, dir->nseat,
	       d->config.path);
	return NULL;
}

static void release(struct mdbus_daemon *d, struct mdbus_served *b, uint32_t id, const struct mdbus_process *p,
                    struct mdbus_lease_reply *r)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;

	for (uint32_t i = 0; i < dir->nline + dir->nseat; i++) {
		struct mdbus_holder *h = i < dir->nline ? &b->line[i] : &b->seat[i - dir->nline];
		const struct mdbus_lease *l = mdbus_holder_lease(h);

		if (l->state == MDBUS_LEASE_HELD && l->id == id && same_process(l, p)) {
			mdbus_reclaim(d, h, "given back");
			return;
		}
	}
	mdbus_lease_refuse(d, r, -ENOENT, "lease %u is not held by pid %d", id, (int)p->pid);
}

static struct mdbus_served *bus_named(const struct mdbus_daemon *d, const char *name)
{
	for (uint32_t i = 0; i < d->nbus; i++) {
		if (strcmp(d->bus[i]->map.dir->segment.bus, name) == 0)
			return d->bus[i];
	}
	return NULL;
}

struct mdbus_holder *mdbus_lease_serve(struct mdbus_daemon *d, const struct mdbus_lease_request *q,
                                       struct mdbus_process *p, struct mdbus_lease_reply *r)
{
	struct mdbus_served *b = bus_named(d, q->bus);

	if (!mdbus_lease_allowed(d, p, q->op)) {
		refuse_role(d, p, q->op, r);
		return NULL;
	}
	if (q->op >= MDBUS_LEASE_END) {
		mdbus_admin_serve(d, q, p, r);
		return NULL;
	}
	if (!b) {
		mdbus_lease_refuse(d, r, -ENOENT, "no bus %s: see mdbusctl status", q->bus);
		return NULL;
	}
	if (q->op == MDBUS_LEASE_RELEASE) {
		release(d, b, q->id, p, r);
		return NULL;
	}
	struct mdbus_holder *h = q->op == MDBUS_LEASE_LINE ? free_line(d, b, q, p, r) : free_seat(d, b, r);

	if (!h || (!h->seat && !queue_free(d, h, p, r)))
		return NULL;
	if (!h->seat)
		mdbus_rules_move(d, h, p->netns);
	int rc = mdbus_lease_grant(d, h, p, q->name);

	if (rc < 0) {
		mdbus_lease_refuse(d, r, rc, "mdbusd cannot watch one more process: %s%s", strerror(-rc), mdbus_text_mend(rc));
		return NULL;
	}
	if (h->seat)
		return h;
	char why[192] = "";

	mdbus_queue_lent(d, h, p);
	rc = mdbus_rules_add(d, h, why, sizeof(why));
	if (rc == 0)
		return h;
	mdbus_reclaim(d, h, "its flows cannot be steered");
	mdbus_lease_refuse(d, r, rc, "line %s of bus %s: %s", q->name, q->bus, why);
	return NULL;
}
