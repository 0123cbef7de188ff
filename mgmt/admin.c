/* SPDX-License-Identifier: Apache-2.0
 *
 * admin.c - the few things that an admin may have mdbusd do.
 *
 * Nothing is ever taken from a living process.  To have a line or a seat back, its process is told to end or is killed, and
 * then taken back from like any other that dies.  Who asks was checked by what the kernel says of it (lease_request.c); that
 * it asked is an event.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lease_request.h"
#include "text.h"

int mdbus_holder_signal(const struct mdbus_holder *h, int number)
{
	if (h->source.fd < 0)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, h->source.fd, number, NULL, 0) < 0 ? -errno : 0;
}

static struct mdbus_holder *holder_named(const struct mdbus_daemon *d, const char *bus, const char *name)
{
	const char *number = name + 5;
	uint64_t seat;

	for (uint32_t k = 0; k < d->nbus; k++) {
		struct mdbus_served *b = d->bus[k];
		const struct mdbus_bus_hdr *dir = b->map.dir;

		if (strcmp(dir->segment.bus, bus) != 0)
			continue;
		for (uint32_t i = 0; i < dir->nline; i++) {
			if (strcmp(dir->line[i].name, name) == 0)
				return &b->line[i];
		}
		if (strncmp(name, "seat.", 5) == 0 && mdbus_text_number(&number, &seat) && *number == '\0' && seat < dir->nseat)
			return &b->seat[seat];
	}
	return NULL;
}

static void note(struct mdbus_daemon *d, const struct mdbus_holder *h, const char *command, const char *name,
                 const struct mdbus_process *p)
{
	mdbus_event(d, "admin", h ? h->bus : NULL, "{s:s, s:s, s:I, s:I}", "command", command, "name", name, "uid",
	            (json_int_t)p->uid, "pid", (json_int_t)p->pid);
}

static void end_holder(struct mdbus_daemon *d, const struct mdbus_lease_request *q, const struct mdbus_process *p,
                       struct mdbus_lease_reply *r)
{
	struct mdbus_holder *h = holder_named(d, q->bus, q->name);
	bool kill = q->op == MDBUS_LEASE_KILL;

	if (!h) {
		mdbus_lease_refuse(d, r, -ENOENT, "there is no line or seat %s/%s: see mdbusctl leases", q->bus, q->name);
		return;
	}
	uint32_t pid = mdbus_holder_lease(h)->pid;
	int rc = mdbus_holder_signal(h, kill ? SIGKILL : SIGTERM);

	if (rc == -ESRCH) {
		mdbus_lease_refuse(d, r, rc, "nobody holds %s/%s: see mdbusctl leases", q->bus, q->name);
		return;
	}
	if (rc < 0) {
		mdbus_lease_refuse(d, r, rc, "pid %u, which holds %s/%s, cannot be signalled: %s: start mdbusd as root", pid,
		                   q->bus, q->name, strerror(-rc));
		return;
	}
	note(d, h, kill ? "kill" : "end", q->name, p);
#ifdef MDBUS_MUTANT_free_queue_early
	mdbus_reclaim(d, h, "it was told to end");
#endif
	snprintf(r->error, sizeof(r->error), "pid %u, which holds %s/%s, was %s", pid, q->bus, q->name,
	         kill ? "killed" : "told to end");
}

void mdbus_admin_serve(struct mdbus_daemon *d, const struct mdbus_lease_request *q, const struct mdbus_process *p,
                       struct mdbus_lease_reply *r)
{
	if (q->op != MDBUS_LEASE_SHUTDOWN) {
		end_holder(d, q, p, r);
		return;
	}
	note(d, NULL, "shutdown", "", p);
	snprintf(r->error, sizeof(r->error), "mdbusd, pid %d, stops", (int)getpid());
	d->stopping = true;
}
