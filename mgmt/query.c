/* SPDX-License-Identifier: Apache-2.0
 *
 * query.c - questions and answers, in JSON.
 *
 *	{"op": OP, "bus": NAME, "detail": true}
 *
 * OP is status, lines, channels, subscribers, leases, events, queues, rules or memory.
 *
 * bus: only that one; detail: lines also by channel, channels also by line.  The answer is {"ok": true, "op": OP, OP: [...]}, for
 * status its members beside "ok", or {"ok": false, "error": TEXT}.  Asking changes nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../bus/segment.h"
#include "daemon.h"
#include "queues.h"
#include "rules.h"

static json_t *failure(const char *format, const char *what)
{
	char error[256];

	snprintf(error, sizeof(error), format, what);
	return json_pack("{s:b, s:s}", "ok", 0, "error", error);
}

/* ---- status -------------------------------------------------------------------------------------------------- */

static void add_segment(json_t *list, const struct mdbus_served *b, const char *name)
{
	char path[MDBUS_RUN_PATH_MAX + 40];
	struct mdbus_segment_hdr h;

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && pread(fd, &h, sizeof(h), 0) == (ssize_t)sizeof(h))
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "name", name, "size", (json_int_t)h.size,
		                                      "page_size", (json_int_t)h.page_size, "pages",
		                                      mdbus_page_kind_name(h.page_kind)));
	if (fd >= 0)
		close(fd);
}

static json_t *segments(const struct mdbus_served *b)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	json_t *list = json_array();
	char name[32];

	add_segment(list, b, "bus");
	for (uint32_t i = 0; i < dir->nline; i++) {
		snprintf(name, sizeof(name), "arena.%u", i);
		add_segment(list, b, name);
	}
	for (uint32_t i = 0; i < dir->nchannel; i++) {
		snprintf(name, sizeof(name), "ring.%u", i);
		add_segment(list, b, name);
		if (dir->channel[i].ordered)
			continue;
		snprintf(name, sizeof(name), "keys.%u", i);
		add_segment(list, b, name);
	}
	for (uint32_t i = 0; i < dir->nseat; i++) {
		snprintf(name, sizeof(name), "seat.%u", i);
		add_segment(list, b, name);
	}
	return list;
}

static json_t *bus_status(const struct mdbus_served *b)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	char hash[20];
	uint32_t up = 0, held = 0;

	for (uint32_t i = 0; i < dir->nline; i++)
		up += dir->line[i].lease.state == MDBUS_LEASE_HELD;
	for (uint32_t i = 0; i < dir->nseat; i++)
		held += dir->seat[i].state == MDBUS_LEASE_HELD;
	snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)dir->config_hash);
	return json_pack("{s:s, s:s, s:b, s:f, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:o}", "name", dir->segment.bus, "dir",
	                 b->dir, "adopted", (int)b->adopted, "age_s", (double)(mdbus_clock_ns() - dir->created_ns) / 1e9,
	                 "config_hash", hash, "lines", (int)dir->nline, "lines_up", (int)up, "channels", (int)dir->nchannel,
	                 "seats", (int)dir->nseat, "seats_held", (int)held, "reclaims", (json_int_t)dir->reclaims,
	                 "segments", segments(b));
}

static json_t *status(struct mdbus_daemon *d, const char *bus)
{
	json_t *buses = json_array();

	for (uint32_t i = 0; i < d->nbus; i++) {
		if (!bus || strcmp(d->bus[i]->map.dir->segment.bus, bus) == 0)
			json_array_append_new(buses, bus_status(d->bus[i]));
	}
	return json_pack("{s:b, s:s, s:s, s:i, s:f, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "ok", 1, "op", "status", "version",
	                 MDBUS_VERSION, "pid", (int)getpid(), "uptime_s", (double)(mdbus_clock_ns() - d->start_ns) / 1e9,
	                 "config", d->config.path, "run_dir", d->run, "store", d->store, "huge_dir", d->huge[0], "refused",
	                 (json_int_t)d->refused, "events", (json_int_t)d->event_count, "privileges",
	                 mdbus_privilege_json(d), "buses", buses);
}

/* ---- lists --------------------------------------------------------------------------------------------------- */

static void add_lines(json_t *list, const struct mdbus_served *b, bool detail)
{
	for (uint32_t i = 0; i < b->map.dir->nline; i++)
		json_array_append_new(list, mdbus_report_line(b, i, detail));
}

static void add_channels(json_t *list, const struct mdbus_served *b, bool detail)
{
	for (uint32_t i = 0; i < b->map.dir->nchannel; i++)
		json_array_append_new(list, mdbus_report_channel(b, i, detail));
}

static void add_subscribers(json_t *list, const struct mdbus_served *b, bool detail)
{
	(void)detail;
	for (uint32_t i = 0; i < b->map.dir->nseat; i++) {
		if (b->map.dir->seat[i].state == MDBUS_LEASE_HELD)
			json_array_append_new(list, mdbus_report_seat(b, i));
	}
}

static void add_lease(json_t *list, const struct mdbus_served *b, const struct mdbus_holder *h)
{
	const struct mdbus_lease *l = mdbus_holder_lease(h);

	if (l->state == MDBUS_LEASE_FREE)
		return;
	json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:f}", "bus",
	                                      b->map.dir->segment.bus, "kind", h->seat ? "seat" : "line", "index",
	                                      (int)h->index, "name", mdbus_holder_name(h), "state",
	                                      l->state == MDBUS_LEASE_HELD ? "held" : "reclaim", "pid", (json_int_t)l->pid,
	                                      "start", (json_int_t)l->start, "uid", (json_int_t)l->uid, "id",
	                                      (json_int_t)l->id, "held_s", (double)(mdbus_clock_ns() - l->since_ns) / 1e9));
}

static void add_leases(json_t *list, const struct mdbus_served *b, bool detail)
{
	(void)detail;
	for (uint32_t i = 0; i < b->map.dir->nline; i++)
		add_lease(list, b, &b->line[i]);
	for (uint32_t i = 0; i < b->map.dir->nseat; i++)
		add_lease(list, b, &b->seat[i]);
}

static const struct {
	const char *op;
	void (*add)(json_t *list, const struct mdbus_served *b, bool detail);
} lists[] = {
	{ "lines", add_lines },
	{ "channels", add_channels },
	{ "subscribers", add_subscribers },
	{ "leases", add_leases },
};

static json_t *list(const struct mdbus_daemon *d, size_t which, const char *bus, bool detail)
{
	json_t *rows = json_array();

	for (uint32_t i = 0; i < d->nbus; i++) {
		if (!bus || strcmp(d->bus[i]->map.dir->segment.bus, bus) == 0)
			lists[which].add(rows, d->bus[i], detail);
	}
	return json_pack("{s:b, s:s, s:o}", "ok", 1, "op", lists[which].op, lists[which].op, rows);
}

static bool bus_known(const struct mdbus_daemon *d, const char *bus)
{
	for (uint32_t i = 0; i < d->nbus; i++) {
		if (strcmp(d->bus[i]->map.dir->segment.bus, bus) == 0)
			return true;
	}
	return false;
}

static json_t *answer(struct mdbus_daemon *d, const json_t *q)
{
	const char *op = json_string_value(json_object_get(q, "op")), *bus = json_string_value(json_object_get(q, "bus"));
	bool detail = json_is_true(json_object_get(q, "detail"));

	if (!op)
		return failure("%s", "the request needs a member \"op\"");
	if (bus && !bus_known(d, bus))
		return failure("no bus %.64s", bus);
	if (strcmp(op, "status") == 0)
		return status(d, bus);
	if (strcmp(op, "events") == 0)
		return json_pack("{s:b, s:s, s:o}", "ok", 1, "op", op, "events", mdbus_events_json(d, bus));
	if (strcmp(op, "memory") == 0)
		return json_pack("{s:b, s:s, s:o}", "ok", 1, "op", op, op, mdbus_memory_json(d, bus));
	if (strcmp(op, "rules") == 0)
		return json_pack("{s:b, s:s, s:o}", "ok", 1, "op", op, op, mdbus_rules_json(d, bus));
	if (strcmp(op, "queues") == 0)
		return json_pack("{s:b, s:s, s:o}", "ok", 1, "op", op, op, mdbus_queues_json(d, bus));
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (strcmp(op, lists[i].op) == 0)
			return list(d, i, bus, detail);
	}
	return failure("no such op: %.64s", op);
}

json_t *mdbus_query_answer(struct mdbus_daemon *d, const char *text, size_t len)
{
	json_error_t error;
	json_t *q = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	json_t *a = q ? answer(d, q) : failure("not JSON: %.200s", error.text);

	json_decref(q);
	return a;
}
