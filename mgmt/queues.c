/* SPDX-License-Identifier: Apache-2.0
 *
 * queues.c - lending NIC queues; see queues.h.
 *
 * A card is known by the network namespace that its interface is in, and its name there; a card that DPDK has taken from the
 * kernel by its PCI address, on the whole host.  The namespace of a line is that of the process which asked for it: the
 * socket that mdbusd accepts is one of the asking side's namespace, so the kernel tells its cookie, and asks and tells
 * interfaces there through it.  mdbusd needs no right to enter any.
 */
#include "queues.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "nic.h"
#include "process.h"

#define DEVICE_MAX 128u

static bool is_card(const char *interface)
{
	return strchr(interface, ':') != NULL; /* a PCI address; interfaces of the kernel's have no colon */
}

bool mdbus_queue_device(const struct mdbus_line_desc *l, char *device, size_t size)
{
	const char *at = l->interface;

	if (strcmp(l->backend, "dpdk") == 0 ? !is_card(at) : strcmp(l->backend, "af_xdp") != 0)
		return false;
	snprintf(device, size, "%.*s", (int)strcspn(at, ","), at);
	return device[0] != '\0';
}

static uint64_t own_netns(void)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = sock >= 0 ? mdbus_process_netns(sock) : 0;

	if (sock >= 0)
		close(sock);
	return cookie;
}

/* ---- lending --------------------------------------------------------------------------------------------------- */

static struct mdbus_line_desc *line_of(const struct mdbus_holder *h)
{
	return &h->bus->map.dir->line[h->index];
}

/* Does o name the queue that a process in network namespace `netns` would get with h? */
static bool same_queue(const struct mdbus_holder *h, uint64_t netns, const struct mdbus_holder *o)
{
	char mine[DEVICE_MAX], other[DEVICE_MAX];

	if (!mdbus_queue_device(line_of(h), mine, sizeof(mine)) || !mdbus_queue_device(line_of(o), other, sizeof(other)))
		return false;
	return strcmp(mine, other) == 0 && line_of(h)->queue == line_of(o)->queue &&
	       (is_card(mine) || netns == 0 || line_of(o)->netns == 0 || netns == line_of(o)->netns);
}

/* Also of a holder that could not be watched for want of descriptors. */
static bool has_ended(const struct mdbus_holder *h)
{
	const struct mdbus_lease *l = mdbus_holder_lease(h);

	if (h->source.fd >= 0)
		return mdbus_process_ended(h->source.fd);
	int fd = l->state == MDBUS_LEASE_HELD ? mdbus_process_open((pid_t)l->pid, l->start) : -ESRCH;

	if (fd >= 0)
		close(fd);
	return fd == -ESRCH;
}

struct mdbus_holder *mdbus_queue_holder(struct mdbus_daemon *d, struct mdbus_holder *h, const struct mdbus_process *p)
{
	for (uint32_t k = 0; k < d->nbus; k++) {
		for (uint32_t i = 0; i < d->bus[k]->map.dir->nline; i++) {
			struct mdbus_holder *o = &d->bus[k]->line[i];

			if (o == h || line_of(o)->lease.state == MDBUS_LEASE_FREE || !same_queue(h, p->netns, o))
				continue;
#ifndef MDBUS_MUTANT_queue_lent_twice
			if (!has_ended(o))
				return o;
#endif
			mdbus_reclaim(d, o, "its process has ended");
		}
	}
	return NULL;
}

void mdbus_queue_lent(struct mdbus_daemon *d, struct mdbus_holder *h, const struct mdbus_process *p)
{
	const struct mdbus_line_desc *l = line_of(h);
	char device[DEVICE_MAX];

	if (!mdbus_queue_device(l, device, sizeof(device)))
		return;
	mdbus_queue_close(h);
	h->net_fd = fcntl(p->sock, F_DUPFD_CLOEXEC, 0); /* -1: its card is then not asked */
	mdbus_event(d, "queue_alloc", h->bus, "{s:s, s:I, s:s, s:s, s:i}", "line", l->name, "pid", (json_int_t)p->pid, "backend",
	            l->backend, "interface", device, "queue", (int)l->queue);
}

void mdbus_queue_close(struct mdbus_holder *h)
{
	if (h->net_fd >= 0)
		close(h->net_fd);
	h->net_fd = -1;
}

void mdbus_queue_free(struct mdbus_holder *h, uint32_t rules)
{
	mdbus_queue_close(h);
	if (rules == 0)
		line_of(h)->netns = 0;
}

int mdbus_queue_socket(const struct mdbus_daemon *d, uint64_t netns)
{
	if (netns == 0 || netns == own_netns())
		return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (uint32_t k = 0; k < d->nbus; k++) {
		for (uint32_t i = 0; i < d->bus[k]->map.dir->nline; i++) {
			const struct mdbus_holder *o = &d->bus[k]->line[i];

			if (o->net_fd >= 0 && line_of(o)->netns == netns)
				return fcntl(o->net_fd, F_DUPFD_CLOEXEC, 0);
		}
	}
	return -1;
}

/* ---- telling ----------------------------------------------------------------------------------------------------- */

struct card {
	char device[DEVICE_MAX];
	uint64_t netns; /* 0: in none */
	uint32_t nqueue; /* 0: not known */
	uint32_t least;  /* queues that lines name */
};

struct cards {
	struct card card[MDBUS_CONFIG_BUSES_MAX * MDBUS_LINES_MAX];
	uint32_t n;
};

/* The namespace of an interface that a line names which nobody holds: where others have it, else mdbusd's own. */
static uint64_t likely_netns(const struct mdbus_daemon *d, const char *device, uint64_t own)
{
	char other[DEVICE_MAX];

	for (uint32_t k = 0; k < d->nbus; k++) {
		for (uint32_t i = 0; i < d->bus[k]->map.dir->nline; i++) {
			const struct mdbus_line_desc *l = &d->bus[k]->map.dir->line[i];

			if (l->netns != 0 && mdbus_queue_device(l, other, sizeof(other)) && strcmp(device, other) == 0)
				return l->netns;
		}
	}
	return own;
}

static bool card_of(const struct mdbus_daemon *d, const struct mdbus_holder *h, uint64_t own, struct card *c)
{
	const struct mdbus_line_desc *l = line_of(h);

	*c = (struct card){ .least = l->queue + 1u };
	if (!mdbus_queue_device(l, c->device, sizeof(c->device)))
		return false;
	if (!is_card(c->device))
		c->netns = l->netns ? l->netns : likely_netns(d, c->device, own);
	return true;
}

static bool same_card(const struct card *a, const struct card *b)
{
	return strcmp(a->device, b->device) == 0 && a->netns == b->netns;
}

static void add_card(const struct mdbus_daemon *d, struct cards *list, const struct mdbus_holder *h, uint64_t own)
{
	struct card c;
	uint32_t i = 0;

	if (!card_of(d, h, own, &c))
		return;
	while (i < list->n && !same_card(&list->card[i], &c))
		i++;
	if (i == list->n) {
		int sock = is_card(c.device) ? -1 : mdbus_queue_socket(d, c.netns);

		c.nqueue = sock >= 0 ? mdbus_nic_queues(sock, c.device) : 0;
		if (sock >= 0)
			close(sock);
		list->card[list->n++] = c;
	} else if (list->card[i].least < c.least) {
		list->card[i].least = c.least;
	}
}

/* One queue: who has it, else which lines could. */
static json_t *queue_json(const struct mdbus_daemon *d, const struct card *c, uint32_t queue, uint64_t own)
{
	json_t *o = json_pack("{s:s, s:i, s:s, s:n, s:n, s:n, s:n}", "interface", c->device, "queue", (int)queue, "state",
	                      c->nqueue > 0 && queue >= c->nqueue ? "absent" : "free", "bus", "line", "pid", "backend");
	json_t *of = json_array();
	struct card other;

	for (uint32_t k = 0; k < d->nbus; k++) {
		for (uint32_t i = 0; i < d->bus[k]->map.dir->nline; i++) {
			const struct mdbus_holder *h = &d->bus[k]->line[i];
			const struct mdbus_line_desc *l = line_of(h);
			const char *bus = d->bus[k]->map.dir->segment.bus;

			if (l->queue != queue || !card_of(d, h, own, &other) || !same_card(c, &other))
				continue;
			json_array_append_new(of, json_sprintf("%s/%s", bus, l->name));
			if (l->lease.state == MDBUS_LEASE_FREE)
				continue;
			json_object_set_new(o, "state", json_string(l->lease.state == MDBUS_LEASE_HELD ? "held" : "reclaim"));
			json_object_set_new(o, "bus", json_string(bus));
			json_object_set_new(o, "line", json_string(l->name));
			json_object_set_new(o, "pid", json_integer(l->lease.pid));
			json_object_set_new(o, "backend", json_string(l->backend));
		}
	}
	json_object_set_new(o, "lines", of);
	if (c->netns == own || c->netns == 0)
		json_object_set_new(o, "netns", json_null());
	else
		json_object_set_new(o, "netns", json_integer((json_int_t)c->netns));
	return o;
}

json_t *mdbus_queues_json(const struct mdbus_daemon *d, const char *bus)
{
	struct cards *list = calloc(1, sizeof(*list));
	json_t *rows = json_array();
	uint64_t own = own_netns();

	for (uint32_t k = 0; list && k < d->nbus; k++) {
		const struct mdbus_bus_hdr *dir = d->bus[k]->map.dir;

		for (uint32_t i = 0; i < dir->nline && (!bus || strcmp(bus, dir->segment.bus) == 0); i++)
			add_card(d, list, &d->bus[k]->line[i], own);
	}
	for (uint32_t i = 0; list && i < list->n; i++) {
		const struct card *c = &list->card[i];

		for (uint32_t q = 0; q < c->nqueue || q < c->least; q++)
			json_array_append_new(rows, queue_json(d, c, q, own));
	}
	free(list);
	return rows;
}
