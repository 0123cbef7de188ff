/* SPDX-License-Identifier: Apache-2.0
 *
 * reclaim.c - taking back what a process held, step by step.
 *
 * Each step may be done again from the start, and the lease stays in RECLAIM until the last one is through: a
 * mdbusd killed in the middle is followed by one that begins anew.  Nobody waits for it: gaps stop waiting for the line at
 * the second step, and what the line had published stays readable.
 *
 *	line: lease     state RECLAIM
 *	      state     line_state DOWN, so that the gap rule no longer waits for it
 *	      marks     W and T marks of the dead writer off every ring (arena.h)
 *	      resources what is back, an event and a line of the log each: queue_free, rule_delete, mbuf_put, memp_free
 *	      free      holder's name erased, lease FREE
 *	seat: lease     state RECLAIM
 *	      clear     length, header and zeroes again as they were when new, whatever the subscriber made of them
 *	      free      as above
 *
 * A line's frames need no step: which of them are in use is written in the rings, where the line's next process reads
 * it.  Its sockets, XDP program, DPDK's rules and private memory are bound to descriptors and went with the process.  What has
 * to be undone are the rules that a card was told (rules.h), and what a DPDK line may leave in the run directory when it is
 * killed while it starts (dpdk_files.h).
 */
#include <mdbus/hook.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../bus/arena.h"
#include "../bus/dpdk_files.h"
#include "daemon.h"
#include "queues.h"
#include "rules.h"
#include "seat.h"

static void step(struct mdbus_daemon *d, const struct mdbus_holder *h, uint32_t pid, const char *name, uint64_t n)
{
	if (h->seat)
		mdbus_event(d, "reclaim", h->bus, "{s:i, s:I, s:s}", "seat", (int)h->index, "pid", (json_int_t)pid, "step",
		            name);
	else
		mdbus_event(d, "reclaim", h->bus, "{s:s, s:I, s:s, s:I}", "line", mdbus_holder_name(h), "pid",
		            (json_int_t)pid, "step", name, "count", (json_int_t)n);
}

/* What a line's process had of its own, besides the lease. */
struct back {
	uint32_t pid;
	uint32_t flows, deleted, left; /* rules: of any kind; in the card, deleted and not */
	uint64_t held;                 /* frames that stay in the rings: the line's own word, good for telling */
	json_int_t files;
};

static void say_back(const struct mdbus_holder *h, const struct back *b, const char *type, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void say_back(const struct mdbus_holder *h, const struct back *b, const char *type, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	mdbus_say("bus %s: line %s, pid %u: %s: %s", h->bus->map.dir->segment.bus, mdbus_holder_name(h), b->pid, type, text);
}

/* In the order in which a driver would: nothing can come any more, then nothing is steered, then the memory is free. */
static void tell_back(struct mdbus_daemon *d, const struct mdbus_holder *h, const struct back *b)
{
	const struct mdbus_line_desc *l = &h->bus->map.dir->line[h->index];
	char device[sizeof(l->interface)];
	json_int_t pid = b->pid, put = b->held < l->frames ? (json_int_t)(l->frames - b->held) : 0;

	if (mdbus_queue_device(l, device, sizeof(device)))
		say_back(h, b, "queue_free", "queue %u of %s", l->queue, device);
	else
		say_back(h, b, "queue_free", "none was lent to backend %s", l->backend);
	mdbus_event(d, "queue_free", h->bus, "{s:s, s:I, s:s, s:s, s:i}", "line", l->name, "pid", pid, "backend", l->backend,
	            "interface", l->interface, "queue", (int)l->queue);
	say_back(h, b, "rule_delete", "%u flows; of the card's rules %u deleted, %u left", b->flows, b->deleted, b->left);
	mdbus_event(d, "rule_delete", h->bus, "{s:s, s:I, s:i, s:i, s:i}", "line", l->name, "pid", pid, "count", (int)b->flows,
	            "deleted", (int)b->deleted, "left", (int)b->left);
	say_back(h, b, "mbuf_put", "%lld frames; %llu stay in the rings", (long long)put, (unsigned long long)b->held);
	mdbus_event(d, "mbuf_put", h->bus, "{s:s, s:I, s:I, s:I}", "line", l->name, "pid", pid, "count", put, "held",
	            (json_int_t)b->held);
	say_back(h, b, "memp_free", "its private memory; %lld files", (long long)b->files);
	mdbus_event(d, "memp_free", h->bus, "{s:s, s:I, s:I}", "line", l->name, "pid", pid, "files", b->files);
}

static void give_back(struct mdbus_daemon *d, struct mdbus_holder *h, uint32_t pid)
{
	const struct mdbus_bus_hdr *dir = h->bus->map.dir;
	const struct mdbus_line_desc *l = &dir->line[h->index];
	const struct mdbus_arena_hdr *a = mdbus_bus_arena(&h->bus->map, h->index);
	struct back b = { .pid = pid, .held = mdbus_load_relaxed(&a->count.frames_held) };

	b.deleted = mdbus_rules_delete(d, h->bus, h->index, &b.left);
	for (uint32_t i = 0; i < dir->nchannel; i++)
		b.flows += dir->channel[i].flow[h->index].addr != 0;
#ifndef MDBUS_MUTANT_dpdk_files_left
	char prefix[MDBUS_DPDK_PREFIX_MAX];

	if (strcmp(l->backend, "dpdk") == 0)
		b.files = mdbus_dpdk_files_remove(d->run, mdbus_dpdk_prefix(prefix, sizeof(prefix), dir->segment.bus, l->name));
#else
	(void)l;
#endif
	MDBUS_HOOK("reclaim.line.files");
	mdbus_queue_free(h, b.left); /* after the rules: through it the card was told */
	tell_back(d, h, &b);
}

static void reclaim_line(struct mdbus_daemon *d, struct mdbus_holder *h, uint32_t pid)
{
	struct mdbus_bus_hdr *dir = h->bus->map.dir;

#ifndef MDBUS_MUTANT_dead_line_stays_up
	mdbus_store_release(&dir->line_state[h->index], MDBUS_LINE_DOWN);
#endif
	MDBUS_HOOK("reclaim.line.state");
	step(d, h, pid, "state", 0);
	uint64_t marks = mdbus_line_reclaim(&h->bus->map, h->index);

	MDBUS_HOOK("reclaim.line.marks");
	step(d, h, pid, "marks", marks);
	give_back(d, h, pid);
}

/* False: to be tried again, and not to be lent until then. */
static bool reclaim_seat(struct mdbus_daemon *d, struct mdbus_holder *h, uint32_t pid)
{
	int *fd = &h->bus->seat_fd[h->index];
#ifdef MDBUS_MUTANT_seat_not_cleared
	int rc = 0;
#else
	int rc = mdbus_seat_reset(h->bus, h->index);
#endif

	if (rc < 0) {
		mdbus_say("bus %s: seat %u cannot be cleared: %s", h->bus->map.dir->segment.bus, h->index, strerror(-rc));
		return false;
	}
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	MDBUS_HOOK("reclaim.seat.clear");
	step(d, h, pid, "clear", 0);
	return true;
}

static void release(struct mdbus_lease *l)
{
	l->pid = 0;
	l->start = 0;
	l->uid = 0;
	l->since_ns = 0;
	memset(l->name, 0, sizeof(l->name));
	MDBUS_HOOK("reclaim.erased");
	mdbus_store_release(&l->state, MDBUS_LEASE_FREE);
	MDBUS_HOOK("reclaim.free");
}

void mdbus_reclaim(struct mdbus_daemon *d, struct mdbus_holder *h, const char *why)
{
	struct mdbus_bus_hdr *dir = h->bus->map.dir;
	struct mdbus_lease *l = mdbus_holder_lease(h);
	uint32_t pid = l->pid;
	char name[MDBUS_NAME_MAX];

	memcpy(name, mdbus_holder_name(h), sizeof(name));
	mdbus_loop_remove(d, &h->source);
	mdbus_store_release(&l->state, MDBUS_LEASE_RECLAIM);
	MDBUS_HOOK("reclaim.lease");
	step(d, h, pid, "lease", 0);
	if (!h->seat)
		reclaim_line(d, h, pid);
	else if (!reclaim_seat(d, h, pid))
		return;
	mdbus_store_relaxed(&dir->reclaims, dir->reclaims + 1u);
	MDBUS_HOOK("reclaim.counted");
	release(l);
	step(d, h, pid, "free", 0);
	if (h->seat)
		mdbus_event(d, "seat_down", h->bus, "{s:i, s:s, s:I, s:s}", "seat", (int)h->index, "name", name, "pid",
		            (json_int_t)pid, "why", why);
	else
		mdbus_event(d, "line_down", h->bus, "{s:s, s:I, s:s}", "line", name, "pid", (json_int_t)pid, "why", why);
}
