/* SPDX-License-Identifier: Apache-2.0
 *
 * rules.c - steering; see rules.h.
 *
 * Rules are for the flows that only one queue has: those that several queues of a line share (part_of) are left to the card's
 * hash, which is what spreads them.  A rule that somebody else has made is never changed: one that does what is wanted is
 * used, one that does something else is told.
 */
#include "rules.h"
#include <arpa/inet.h>
#include <errno.h>
#include <mdbus/hook.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "nic.h"
#include "queues.h"

/* ---- which -------------------------------------------------------------------------------------------------------- */

static bool same_flow(const struct mdbus_flow_desc *a, const struct mdbus_flow_desc *b)
{
	return a->addr == b->addr && a->source == b->source && a->port == b->port;
}

/* Channel c's flow of a line is the first of its (address, port), and no other queue of the line has it. */
static bool steered(const struct mdbus_bus_hdr *dir, uint32_t line, uint32_t c)
{
	const struct mdbus_flow_desc *f = &dir->channel[c].flow[line];

	if (f->addr == 0)
		return false;
	for (uint32_t i = 0; i < dir->nchannel; i++) {
		for (uint32_t l = 0; l < dir->nline; l++) {
			const struct mdbus_flow_desc *o = &dir->channel[i].flow[l];

			if (same_flow(f, o) && (l == line ? i < c : dir->line[l].group == dir->line[line].group))
				return false;
		}
	}
	return true;
}

static bool is_for(const struct mdbus_nic_rule *r, const struct mdbus_flow_desc *f)
{
	return r->plain && r->addr == f->addr && r->source == f->source && r->port == f->port;
}

static void flow_text(uint32_t addr, uint16_t port, char *text, size_t size)
{
	snprintf(text, size, "%s:%u", inet_ntoa((struct in_addr){ addr }), port);
}

static int __attribute__((format(printf, 4, 5))) because(int rc, char *why, size_t size, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, size, format, ap);
	va_end(ap);
	return rc;
}

/* ---- rule_add ----------------------------------------------------------------------------------------------------- */

static int explain(int rc, const struct mdbus_line_desc *l, const char *flow, char *why, size_t size)
{
	if (rc == -ENOSPC)
		return because(rc, why, size, "%.15s has no room for another rule: delete some (mdbusctl rules, ethtool -N %.15s delete "
		               "N)", l->interface, l->interface);
	if (rc == -EPERM)
		return because(rc, why, size, "mdbusd may not make rules for %.15s: start it as root, with steer = true", l->interface);
	if (rc == -EOPNOTSUPP || rc == -EINVAL)
		return because(rc, why, size, "%.15s does not sort %s by address and port (%s): set steer = false", l->interface, flow,
		               strerror(-rc));
	return because(rc, why, size, "no rule for %s on %.15s: %s", flow, l->interface, strerror(-rc));
}

/* There is a rule for this flow already: 1 it does what is wanted, -EEXIST it does not, 0 there is none. */
static int look(const struct mdbus_nic_rule *rules, int n, const struct mdbus_line_desc *l, const struct mdbus_flow_desc *f,
                char *why, size_t size)
{
	char flow[32];

	flow_text(f->addr, f->port, flow, sizeof(flow));
	for (int i = 0; i < n; i++) {
		if (!is_for(&rules[i], f))
			continue;
		if (rules[i].queue == l->queue)
			return 1;
		return because(-EEXIST, why, size, "rule %u of %.15s sends %s to another queue than %u: ethtool -N %.15s delete %u",
		               rules[i].location, l->interface, flow, l->queue, l->interface, rules[i].location);
	}
	return 0;
}

static int add_one(int sock, const struct mdbus_line_desc *l, struct mdbus_flow_desc *f, char *why, size_t size)
{
	struct mdbus_nic_rule rule = { .addr = f->addr, .source = f->source, .port = f->port, .queue = l->queue };
	char flow[32];

	mdbus_store_release(&f->rule, MDBUS_RULE_MAKING);
	MDBUS_HOOK("rule.making");
	int rc = mdbus_nic_rule_add(sock, l->interface, &rule);

	MDBUS_HOOK("rule.made");
	mdbus_store_release(&f->rule, rc == 0 ? rule.location + 1u : 0u);
	if (rc == 0)
		return 0;
	flow_text(f->addr, f->port, flow, sizeof(flow));
	return explain(rc, l, flow, why, size);
}

/* How many were made, or -errno and why. */
static int add_all(int sock, struct mdbus_bus_hdr *dir, uint32_t line, char *why, size_t size)
{
	struct mdbus_line_desc *l = &dir->line[line];
	struct mdbus_nic_rule *rules;
	int n = mdbus_nic_rules(sock, l->interface, &rules), rc = n < 0 ? n : 0, made = 0;

	if (n < 0)
		rc = explain(n, l, "packets", why, size);
	for (uint32_t c = 0; c < dir->nchannel && rc >= 0; c++) {
		if (!steered(dir, line, c))
			continue;
		rc = look(rules, n, l, &dir->channel[c].flow[line], why, size);
		if (rc != 0)
			continue;
		rc = add_one(sock, l, &dir->channel[c].flow[line], why, size);
		made += rc == 0;
	}
	free(rules);
	return rc < 0 ? rc : made;
}

int mdbus_rules_add(struct mdbus_daemon *d, struct mdbus_holder *h, char *why, size_t size)
{
	struct mdbus_bus_hdr *dir = h->bus->map.dir;
	const struct mdbus_line_desc *l = &dir->line[h->index];
	uint32_t left;
	int rc = 0;

	(void)mdbus_rules_delete(d, h->bus, h->index, &left); /* of an earlier process, in a namespace that was out of reach then */
	if (strcmp(l->backend, "af_xdp") != 0 || l->steer == MDBUS_STEER_NO || h->net_fd < 0)
		return 0;
	if (l->steer == MDBUS_STEER_AUTO && (!mdbus_nic_sorts(h->net_fd, l->interface) || mdbus_nic_queues(h->net_fd, l->interface) < 2))
		return 0;
	if (!mdbus_nic_sorts(h->net_fd, l->interface)) {
		rc = because(-EOPNOTSUPP, why, size, "%.15s has no rules that sort packets, or they are off: ethtool -K %.15s ntuple on, "
		             "or steer = false", l->interface, l->interface);
	} else {
		(void)mdbus_privilege_net(true);
		rc = add_all(h->net_fd, dir, h->index, why, size);
		(void)mdbus_privilege_net(false);
	}
	if (rc >= 0) {
		mdbus_event(d, "rule_add", h->bus, "{s:s, s:I, s:s, s:i, s:i}", "line", l->name, "pid", (json_int_t)l->lease.pid,
		            "interface", l->interface, "queue", (int)l->queue, "count", rc);
		return 0;
	}
	mdbus_event(d, "rule_failed", h->bus, "{s:s, s:I, s:s, s:s}", "line", l->name, "pid", (json_int_t)l->lease.pid, "interface",
	            l->interface, "why", why);
	mdbus_say("bus %s: line %s: %s", dir->segment.bus, l->name, why);
	return l->steer == MDBUS_STEER_YES ? rc : 0;
}

/* ---- rule_delete --------------------------------------------------------------------------------------------------- */

/*
 * The card's rule that was made for a flow, or NULL.  Its number alone does not make it that: if mdbusd was killed between the
 * card and the note, somebody else's may have the place by now.
 */
static const struct mdbus_nic_rule *find_made(const struct mdbus_nic_rule *rules, int n, const struct mdbus_line_desc *l,
                                              const struct mdbus_flow_desc *f)
{
	for (int i = 0; i < n; i++) {
#ifdef MDBUS_MUTANT_delete_by_place
		if (rules[i].location == f->rule - 1u)
			return &rules[i];
#endif
		if (is_for(&rules[i], f) && rules[i].queue == l->queue &&
		    (f->rule == MDBUS_RULE_MAKING || rules[i].location == f->rule - 1u))
			return &rules[i];
	}
	return NULL;
}

/* True: it is gone. */
static bool delete_one(int sock, const struct mdbus_line_desc *l, struct mdbus_flow_desc *f, const struct mdbus_nic_rule *rules,
                       int n)
{
	const struct mdbus_nic_rule *made = find_made(rules, n, l, f);
	int rc = 0;

#ifndef MDBUS_MUTANT_skip_rule_deletion
	if (made)
		rc = mdbus_nic_rule_delete(sock, l->interface, made->location);
#endif
	if (rc < 0 && rc != -ENOENT && rc != -ENODEV)
		return false;
	MDBUS_HOOK("rule.deleted");
	mdbus_store_release(&f->rule, 0u);
	return true;
}

static uint32_t count_noted(const struct mdbus_bus_hdr *dir, uint32_t line)
{
	uint32_t n = 0;

	for (uint32_t c = 0; c < dir->nchannel; c++)
		n += dir->channel[c].flow[line].rule != 0;
	return n;
}

uint32_t mdbus_rules_delete(const struct mdbus_daemon *d, struct mdbus_served *b, uint32_t line, uint32_t *left)
{
	struct mdbus_bus_hdr *dir = b->map.dir;
	const struct mdbus_line_desc *l = &dir->line[line];
	uint32_t noted = count_noted(dir, line);
	struct mdbus_nic_rule *rules = NULL;

	*left = noted;
	if (noted == 0)
		return 0;
	int sock = mdbus_queue_socket(d, l->netns), n = sock >= 0 ? mdbus_nic_rules(sock, l->interface, &rules) : -ENOTCONN;

	if (n == -ENODEV || n == -EOPNOTSUPP) /* the interface has gone, and they with it */
		n = 0;
	(void)mdbus_privilege_net(true);
	for (uint32_t c = 0; c < dir->nchannel && n >= 0; c++) {
		struct mdbus_flow_desc *f = &dir->channel[c].flow[line];

		*left -= f->rule != 0 && delete_one(sock, l, f, rules, n);
	}
	(void)mdbus_privilege_net(false);
	free(rules);
	if (sock >= 0)
		close(sock);
	return noted - *left;
}

static void say_left(const struct mdbus_bus_hdr *dir, uint32_t line, uint32_t left)
{
	const struct mdbus_line_desc *l = &dir->line[line];

	if (left > 0)
		mdbus_say("bus %s: line %s: %u rules of %s cannot be deleted: see ethtool -n %s", dir->segment.bus, l->name, left,
		          l->interface, l->interface);
}

void mdbus_rules_move(const struct mdbus_daemon *d, struct mdbus_holder *h, uint64_t netns)
{
	struct mdbus_bus_hdr *dir = h->bus->map.dir;
	struct mdbus_line_desc *l = &dir->line[h->index];
	uint32_t left = 0;

	if (l->netns != netns) {
		(void)mdbus_rules_delete(d, h->bus, h->index, &left);
		say_left(dir, h->index, left);
		for (uint32_t c = 0; c < dir->nchannel; c++)
			mdbus_store_relaxed(&dir->channel[c].flow[h->index].rule, 0u);
	}
	mdbus_store_release(&l->netns, netns);
}

void mdbus_rules_delete_all(const struct mdbus_daemon *d, struct mdbus_served *b)
{
	for (uint32_t i = 0; b->map.dir && i < b->map.dir->nline; i++) {
		uint32_t left;

		(void)mdbus_rules_delete(d, b, i, &left);
		say_left(b->map.dir, i, left);
	}
}

bool mdbus_rules_wanted(const struct mdbus_daemon *d)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool wanted = false;

	for (uint32_t k = 0; k < d->nbus; k++) {
		for (uint32_t i = 0; i < d->bus[k]->map.dir->nline; i++) {
			const struct mdbus_line_desc *l = &d->bus[k]->map.dir->line[i];

			if (strcmp(l->backend, "af_xdp") != 0 || l->steer == MDBUS_STEER_NO)
				continue;
			wanted = wanted || l->steer == MDBUS_STEER_YES ||
			         (sock >= 0 && mdbus_nic_queues(sock, l->interface) > 1 && mdbus_nic_sorts(sock, l->interface));
		}
	}
	if (sock >= 0)
		close(sock);
	return wanted;
}
