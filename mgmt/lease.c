/* SPDX-License-Identifier: Apache-2.0
 *
 * lease.c - who holds what.
 *
 * The truth is in the bus directory, where the next mdbusd finds it: a lease is written field by field and becomes HELD by
 * its last store.  What mdbusd itself keeps is a pidfd per lease, which becomes readable when the holder ends, however it
 * ends.  Between the holder's death and FREE the lease is in RECLAIM, which may be done again from the start.
 *
 *	FREE --grant--> HELD --holder ends or gives back--> RECLAIM --reclaim.c--> FREE
 */
#include <errno.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "daemon.h"
#include "process.h"
#include "seat.h"

struct mdbus_lease *mdbus_holder_lease(const struct mdbus_holder *h)
{
	struct mdbus_bus_hdr *dir = h->bus->map.dir;

	return h->seat ? &dir->seat[h->index] : &dir->line[h->index].lease;
}

const char *mdbus_holder_name(const struct mdbus_holder *h)
{
	return h->seat ? mdbus_holder_lease(h)->name : h->bus->map.dir->line[h->index].name;
}

static void holder_ended(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	(void)events;
	mdbus_reclaim(d, (struct mdbus_holder *)s, "its process has ended");
}

static int watch(struct mdbus_daemon *d, struct mdbus_holder *h, int pidfd)
{
	h->source = (struct mdbus_source){ pidfd, holder_ended };
	int rc = mdbus_loop_add(d, &h->source, EPOLLIN);

	if (rc < 0)
		h->source.fd = -1;
	return rc;
}

/* What clearing it will need must not be looked for when it is needed. */
static int take_seat(struct mdbus_holder *h)
{
	int *fd = &h->bus->seat_fd[h->index];

	if (!h->seat || *fd >= 0)
		return 0;
	*fd = mdbus_seat_open(h->bus, h->index);
	return *fd < 0 ? *fd : 0;
}

static void up(struct mdbus_daemon *d, struct mdbus_holder *h)
{
	const struct mdbus_lease *l = mdbus_holder_lease(h);
	struct mdbus_bus_hdr *dir = h->bus->map.dir;

	if (h->seat) {
		h->bus->seat_seen[h->index] = (struct mdbus_seat_seen){ 0 };
		mdbus_event(d, "seat_up", h->bus, "{s:i, s:s, s:I}", "seat", (int)h->index, "name", l->name, "pid",
		            (json_int_t)l->pid);
		return;
	}
	mdbus_scan_line_up(h->bus, h->index);
	mdbus_store_release(&dir->line_state[h->index], MDBUS_LINE_UP);
	MDBUS_HOOK("lease.line.up");
	mdbus_event(d, "line_up", h->bus, "{s:s, s:I}", "line", mdbus_holder_name(h), "pid", (json_int_t)l->pid);
}

int mdbus_lease_grant(struct mdbus_daemon *d, struct mdbus_holder *h, struct mdbus_process *p, const char *name)
{
	struct mdbus_bus_hdr *dir = h->bus->map.dir;
	struct mdbus_lease *l = mdbus_holder_lease(h);
	int rc = take_seat(h);

	if (rc == 0)
		rc = watch(d, h, p->pidfd);
	if (rc < 0)
		return rc;
	p->pidfd = -1;
	MDBUS_HOOK("lease.grant.watched");
	l->pid = (uint32_t)p->pid;
	l->start = p->start;
	l->uid = p->uid;
	l->id = dir->next_lease++;
	if (dir->next_lease >= MDBUS_LEASE_AGAIN)
		dir->next_lease = 1;
	l->since_ns = mdbus_clock_ns();
	memset(l->name, 0, sizeof(l->name));
	snprintf(l->name, sizeof(l->name), "%s", name);
	MDBUS_HOOK("lease.grant.written");
	mdbus_store_release(&l->state, MDBUS_LEASE_HELD);
	MDBUS_HOOK("lease.grant.held");
	up(d, h);
	return 0;
}

static void adopt_one(struct mdbus_daemon *d, struct mdbus_holder *h)
{
	const struct mdbus_lease *l = mdbus_holder_lease(h);

	if (l->state == MDBUS_LEASE_FREE) {
		if (!h->seat)
			mdbus_store_release(&h->bus->map.dir->line_state[h->index], MDBUS_LINE_DOWN);
		MDBUS_HOOK("adopt.free");
		return;
	}
	int fd = l->state == MDBUS_LEASE_HELD ? mdbus_process_open((pid_t)l->pid, l->start) : -ESRCH;

#ifdef MDBUS_MUTANT_adopt_nobody
	if (fd >= 0)
		close(fd);
	fd = -ESRCH;
#endif
	if (fd < 0) {
		mdbus_reclaim(d, h, l->state == MDBUS_LEASE_HELD ? "its process ended while mdbusd was away" :
		                                                   "mdbusd ended while taking it back");
		return;
	}
	if (watch(d, h, fd) < 0) {
		close(fd);
		mdbus_say("bus %s: %s cannot be watched: no descriptors left", h->bus->config->name, mdbus_holder_name(h));
		return;
	}
	(void)take_seat(h);
	MDBUS_HOOK("adopt.watched");
	up(d, h);
	MDBUS_HOOK("adopt.one");
}

void mdbus_lease_adopt(struct mdbus_daemon *d, struct mdbus_served *b)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;

	mdbus_event(d, "adopt", b, "{s:i}", "held", (int)mdbus_bus_held(b));
	MDBUS_HOOK("adopt.begin");
	for (uint32_t i = 0; i < dir->nline; i++)
		adopt_one(d, &b->line[i]);
	for (uint32_t i = 0; i < dir->nseat; i++)
		adopt_one(d, &b->seat[i]);
}
