/* SPDX-License-Identifier: Apache-2.0
 *
 * rules_report.c - how flows get to their lines, for those who ask; see rules.h.
 *
 * Only the rules of cards can outlive a process, so these are read from the cards and compared with what the bus directories
 * say.  Everything else by which a flow gets to a line - entries of the XDP program, DPDK's rules, memberships of a socket -
 * belongs to the line's process, and is listed as the configuration has it.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "nic.h"
#include "queues.h"
#include "rules.h"

struct report {
	const struct mdbus_daemon *d;
	const char *bus; /* only this one's lines; NULL: all */
	json_t *rows;
};

static json_t *row(const char *interface, const char *kind, uint32_t addr, uint16_t port, json_int_t queue)
{
	char flow[32];

	snprintf(flow, sizeof(flow), "%s:%u", inet_ntoa((struct in_addr){ addr }), port);
	return json_pack("{s:s, s:s, s:s, s:I, s:n, s:n, s:n, s:n, s:n}", "interface", interface, "kind", kind, "flow",
	                 addr ? flow : "other", "queue", queue, "location", "bus", "line", "pid", "hint");
}

static void own(json_t *o, const struct mdbus_bus_hdr *dir, const struct mdbus_line_desc *l)
{
	json_object_set_new(o, "bus", json_string(dir->segment.bus));
	json_object_set_new(o, "line", json_string(l->name));
	if (l->lease.state != MDBUS_LEASE_FREE)
		json_object_set_new(o, "pid", json_integer(l->lease.pid));
}

static const char *kind_of(const struct mdbus_served *b, uint32_t line)
{
	const struct mdbus_line_desc *l = &b->map.dir->line[line];
	const struct mdbus_arena_hdr *a = mdbus_bus_arena(&b->map, line);

	if (l->from_mask != 0)
		return "handed";
	if (strcmp(l->backend, "af_xdp") == 0)
		return "xdp";
	if (strcmp(l->backend, "dpdk") != 0)
		return "socket";
	return memmem(a->detail, sizeof(a->detail), "rules in the port", 17) ? "rte_flow" : "software";
}

/* What the processes of lines have made for themselves. */
static void add_lines(struct report *r, const struct mdbus_served *b)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;

	for (uint32_t i = 0; i < dir->nline; i++) {
		const struct mdbus_line_desc *l = &dir->line[i];

		for (uint32_t c = 0; c < dir->nchannel && l->lease.state != MDBUS_LEASE_FREE; c++) {
			const struct mdbus_flow_desc *f = &dir->channel[c].flow[i];

			if (f->addr == 0 || l->recovery || strcmp(l->backend, "pcap") == 0)
				continue;
			json_t *o = row(l->interface, kind_of(b, i), f->addr, f->port, l->queue);

			own(o, dir, l);
			json_object_set_new(o, "channel", json_string(dir->channel[c].name));
			json_array_append_new(r->rows, o);
		}
	}
}

/* The line that a rule of a card was made for. */
static const struct mdbus_line_desc *owner(const struct mdbus_daemon *d, const struct mdbus_line_desc *card, uint32_t location,
                                           const struct mdbus_bus_hdr **dir)
{
	for (uint32_t k = 0; k < d->nbus; k++) {
		*dir = d->bus[k]->map.dir;
		for (uint32_t i = 0; i < (*dir)->nline; i++) {
			const struct mdbus_line_desc *l = &(*dir)->line[i];

			if (strcmp(l->interface, card->interface) != 0 || l->netns != card->netns)
				continue;
			for (uint32_t c = 0; c < (*dir)->nchannel; c++) {
				if ((*dir)->channel[c].flow[i].rule == location + 1u)
					return l;
			}
		}
	}
	return NULL;
}

static void add_card(struct report *r, const struct mdbus_line_desc *l)
{
	struct mdbus_nic_rule *rules = NULL;
	int sock = mdbus_queue_socket(r->d, l->netns), n = sock >= 0 ? mdbus_nic_rules(sock, l->interface, &rules) : -1;

	for (int i = 0; i < n; i++) {
		const struct mdbus_bus_hdr *dir;
		const struct mdbus_line_desc *of = owner(r->d, l, rules[i].location, &dir);
		json_t *o = row(l->interface, "ntuple", rules[i].addr, rules[i].port,
		                rules[i].queue > INT32_MAX ? -1 : (json_int_t)rules[i].queue);
		char hint[96];

		json_object_set_new(o, "location", json_integer(rules[i].location));
		snprintf(hint, sizeof(hint), "nobody: delete with ethtool -N %.15s delete %u", l->interface, rules[i].location);
		if (of)
			own(o, dir, of);
		else
			json_object_set_new(o, "hint", json_string(hint));
		json_array_append_new(r->rows, o);
	}
	free(rules);
	if (sock >= 0)
		close(sock);
}

/* Line i of bus k is the first that names its card. */
static bool first_of_card(const struct report *r, uint32_t k, uint32_t i)
{
	const struct mdbus_line_desc *l = &r->d->bus[k]->map.dir->line[i];

	for (uint32_t b = 0; b <= k; b++) {
		const struct mdbus_bus_hdr *dir = r->d->bus[b]->map.dir;

		for (uint32_t o = 0; o < (b == k ? i : dir->nline); o++) {
			if (strcmp(dir->line[o].backend, "af_xdp") == 0 && strcmp(dir->line[o].interface, l->interface) == 0 &&
			    dir->line[o].netns == l->netns && (!r->bus || strcmp(r->bus, dir->segment.bus) == 0))
				return false;
		}
	}
	return true;
}

json_t *mdbus_rules_json(const struct mdbus_daemon *d, const char *bus)
{
	struct report r = { .d = d, .bus = bus, .rows = json_array() };

	for (uint32_t k = 0; k < d->nbus; k++) {
		const struct mdbus_bus_hdr *dir = d->bus[k]->map.dir;

		if (bus && strcmp(bus, dir->segment.bus) != 0)
			continue;
		for (uint32_t i = 0; i < dir->nline; i++) {
			if (strcmp(dir->line[i].backend, "af_xdp") == 0 && first_of_card(&r, k, i))
				add_card(&r, &dir->line[i]);
		}
		add_lines(&r, d->bus[k]);
	}
	return r.rows;
}
