/* SPDX-License-Identifier: Apache-2.0
 *
 * report.c - one line, channel or subscriber as a JSON object.
 *
 * Counters are read from shared memory at the moment of asking, under the names of mdbus/counters.h.  What lies in an
 * arena or a seat was written by another process and is only ever printed as a number or as cleaned text.
 */
#include <stdio.h>
#include <string.h>
#include "../bus/gap.h"
#include "../bus/generation.h"
#include "daemon.h"
#include "seat.h"

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static void set(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, number(v));
}

static const struct mdbus_arena_hdr *arena(const struct mdbus_served *b, uint32_t line)
{
	return mdbus_bus_arena(&b->map, line);
}

#define SET_LINE_COUNTER(name, meaning)    set(o, #name, mdbus_load_relaxed(&a->count.name));
#define SET_CHANNEL_COUNTER(name, meaning) set(o, #name, mdbus_load_relaxed(&c->count.name));
#define SET_SEAT_COUNTER(name, meaning)    set(o, #name, s->count.name);

static json_t *line_counters(const struct mdbus_arena_hdr *a)
{
	json_t *o = json_object();

	MDBUS_LINE_COUNTERS(SET_LINE_COUNTER)
	return o;
}

static json_t *channel_counters(const struct mdbus_line_channel *c)
{
	json_t *o = json_object();

	MDBUS_LINE_CHANNEL_COUNTERS(SET_CHANNEL_COUNTER)
	return o;
}

static json_t *seat_counters(const struct mdbus_seat_hdr *s)
{
	json_t *o = json_object();

	MDBUS_SEAT_COUNTERS(SET_SEAT_COUNTER)
	return o;
}

/* Counters of o added to sum; "now" values are not sums and stay out. */
static void add(json_t *sum, const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, key, v) {
		if (strcmp(key, "last_seq") == 0)
			continue;
		json_int_t have = json_integer_value(json_object_get(sum, key));

		json_object_set_new(sum, key, json_integer(have + json_integer_value(v)));
	}
}

static json_t *histogram(const struct mdbus_hist *h)
{
	json_t *o = json_object();

	set(o, "count", mdbus_hist_total(h));
	set(o, "p50", mdbus_hist_quantile(h, 5000));
	set(o, "p90", mdbus_hist_quantile(h, 9000));
	set(o, "p99", mdbus_hist_quantile(h, 9900));
	set(o, "p99.9", mdbus_hist_quantile(h, 9990));
	set(o, "max", mdbus_load_relaxed(&h->max));
	return o;
}

/* Text from a process that may have written anything. */
static json_t *text(const char *s, size_t size)
{
	char copy[128] = "";
	size_t n = 0;

	for (; n < size && n < sizeof(copy) - 1u && s[n]; n++)
		copy[n] = s[n] >= ' ' && s[n] <= '~' ? s[n] : '?';
	return json_string(copy);
}

/* The counters of the line's port, under its own names; how many there are is the line's word, and no more than there is room for. */
static json_t *port_counters(const struct mdbus_arena_hdr *a)
{
	uint32_t n = mdbus_load_acquire(&a->nxstat);
	json_t *o = json_object();

	for (uint32_t i = 0; i < n && i < MDBUS_XSTATS_MAX; i++) {
		json_t *name = text(a->xstat[i].name, sizeof(a->xstat[i].name));

		set(o, json_string_value(name), mdbus_load_relaxed(&a->xstat[i].value));
		json_decref(name);
	}
	return o;
}

/* Numbers that this line skipped and others delivered: what is missing on all lines is a gap of the channel. */
static uint64_t filled_by_others(const struct mdbus_served *b, uint32_t line, uint32_t channel)
{
	uint64_t skipped = mdbus_load_relaxed(&b->line_channel[line][channel].count.line_gaps);
	uint64_t lost = mdbus_scan_gaps(b, channel);

	return skipped > lost ? skipped - lost : 0;
}

/* The lines of a mask by name. */
static json_t *lines_of(const struct mdbus_bus_hdr *dir, uint32_t mask)
{
	json_t *names = json_array();

	for (uint32_t i = 0; i < dir->nline; i++) {
		if (mask >> i & 1u)
			json_array_append_new(names, json_string(dir->line[i].name));
	}
	return names;
}

json_t *mdbus_report_line(const struct mdbus_served *b, uint32_t line, bool detail)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	const struct mdbus_line_desc *l = &dir->line[line];
	const struct mdbus_arena_hdr *a = arena(b, line);
	const struct mdbus_line_seen *seen = &b->line_seen[line];
	bool held = l->lease.state == MDBUS_LEASE_HELD;
	uint64_t now = mdbus_clock_ns(), last = mdbus_load_relaxed(&a->count.last_arrival_ns);
	json_t *o = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:b, s:b}", "bus", dir->segment.bus,
	                      "line", l->name, "index", (int)line, "state",
	                      l->lease.state == MDBUS_LEASE_RECLAIM ? "reclaim" : held ? "up" : "down", "backend", l->backend,
	                      "interface", l->interface, "queue", (int)l->queue, "cpu", l->cpu, "numa", l->numa, "frames",
	                      (int)l->frames, "frame_size", (int)l->frame_size, "stale", held && seen->stale, "stuck",
	                      held && seen->stuck);
	json_t *sum = json_object(), *channels = json_array();
	uint64_t filled = 0;

	json_object_set_new(o, "part_of", l->group != line ? json_string(dir->line[l->group].name) : json_null());
	json_object_set_new(o, "handed_by", lines_of(dir, l->from_mask));
	json_object_set_new(o, "hands_to", lines_of(dir, l->to_mask));
	json_object_set_new(o, "pid", held ? number(l->lease.pid) : json_null());
	json_object_set_new(o, "obtained", text(a->backend, sizeof(a->backend)));
	json_object_set_new(o, "detail", text(a->detail, sizeof(a->detail)));
	json_object_set_new(o, "xstats", port_counters(a));
	json_object_set_new(o, "silent_ms", last ? number(now > last ? (now - last) / 1000000u : 0) : json_null());
	json_object_set_new(o, "counters", line_counters(a));
	json_object_set_new(o, "lateness_ns", histogram(&a->lateness));
	for (uint32_t i = 0; i < dir->nchannel; i++) {
		json_t *c = channel_counters(&b->line_channel[line][i]);

		add(sum, c);
		filled += filled_by_others(b, line, i);
		if (detail && (dir->channel[i].line_mask >> line & 1u))
			json_array_append_new(channels, json_pack("{s:s, s:o}", "channel", dir->channel[i].name, "counters", c));
		else
			json_decref(c);
	}
	set(sum, "filled", filled);
	json_object_set_new(o, "messages", sum);
	if (detail)
		json_object_set_new(o, "channels", channels);
	else
		json_decref(channels);
	return o;
}

/* The position after the newest record that any line has reported. */
static uint64_t newest(const struct mdbus_served *b, uint32_t channel)
{
	uint64_t max = 0;

	for (uint32_t i = 0; i < b->map.dir->nline; i++) {
		uint64_t next = mdbus_load_relaxed(&b->line_channel[i][channel].progress) & MDBUS_POS_MAX;

		if (next > max)
			max = next;
	}
	return max;
}

static void set_generation(json_t *o, const struct mdbus_ring_hdr *r)
{
	struct mdbus_gen g;
	uint64_t n = mdbus_gen_newest(r);
	bool known = n > 0 && mdbus_gen_get(r, n, &g);

	set(o, "generation", n);
	if (known && !mdbus_gen_account(r, &g)) /* the one before it is not closed yet */
		known = n > 1 && mdbus_gen_get(r, n - 1u, &g) && mdbus_gen_account(r, &g);
	json_object_set_new(o, "epoch", known ? number(g.epoch) : json_null());
	json_object_set_new(o, "resets", known ? number(g.epoch > 0 ? g.epoch - 1u : 0) : json_null());
}

json_t *mdbus_report_channel(const struct mdbus_served *b, uint32_t channel, bool detail)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	const struct mdbus_channel_desc *d = &dir->channel[channel];
	uint64_t head = 0, last_seq = 0;
	json_t *o = json_pack("{s:s, s:s, s:i, s:s, s:I, s:i, s:b, s:b, s:I, s:I}", "bus", dir->segment.bus, "channel",
	                      d->name, "index", (int)channel, "layout", d->layout.name, "depth", (json_int_t)d->depth,
	                      "slot_size", (int)d->slot_size, "ordered", d->ordered != 0, "timed", d->timed != 0, "window",
	                      (json_int_t)d->window, "gap_timeout_us", (json_int_t)(d->gap_timeout_ns / 1000u));
	json_t *sum = json_object(), *lines = json_array();

	for (uint32_t i = 0; i < dir->nline; i++) {
		const struct mdbus_line_channel *c = &b->line_channel[i][channel];
		json_t *counters = channel_counters(c);
		uint64_t at = mdbus_load_relaxed(&c->head), seq = mdbus_load_relaxed(&c->count.last_seq);

		head = at > head ? at : head;
		last_seq = seq > last_seq ? seq : last_seq;
		add(sum, counters);
		if (detail && (d->line_mask >> i & 1u))
			json_array_append_new(lines,
			                      json_pack("{s:s, s:o}", "line", dir->line[i].name, "counters", counters));
		else
			json_decref(counters);
	}
	if (b->channel_seen[channel].resolving && b->resolver[channel].head > head)
		head = b->resolver[channel].head;
	set_generation(o, mdbus_bus_ring(&b->map, channel));
	set(o, "head", head);
	set(o, "newest", newest(b, channel));
	set(o, "last_seq", last_seq);
	set(o, "gaps", mdbus_scan_gaps(b, channel));
	json_object_set_new(o, "messages", sum);
	if (detail)
		json_object_set_new(o, "lines", lines);
	else
		json_decref(lines);
	return o;
}

json_t *mdbus_report_seat(const struct mdbus_served *b, uint32_t seat)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	const struct mdbus_lease *l = &dir->seat[seat];
	struct mdbus_seat_hdr s;
	uint64_t lag = 0;
	json_t *o = json_pack("{s:s, s:i, s:s, s:I, s:I, s:f}", "bus", dir->segment.bus, "seat", (int)seat, "name", l->name,
	                      "pid", (json_int_t)l->pid, "uid", (json_int_t)l->uid, "held_s",
	                      (double)(mdbus_clock_ns() - l->since_ns) / 1e9);
	json_t *channels = json_array();

	if (!mdbus_seat_read(b, seat, dir->nchannel, &s)) {
		json_decref(channels);
		json_object_set_new(o, "damaged", json_true());
		return o;
	}
	for (uint32_t i = 0; i < dir->nchannel; i++) {
		uint64_t pos = s.channel[i].pos, end = newest(b, i);

		if (pos == 0)
			continue;
		uint64_t behind = end > pos ? end - pos : 0;

		lag += behind;
		json_array_append_new(channels, json_pack("{s:s, s:I, s:I, s:I}", "channel", dir->channel[i].name, "pos",
		                                          (json_int_t)pos, "lag", (json_int_t)behind, "overrun",
		                                          (json_int_t)s.channel[i].overrun));
	}
	set(o, "lag", lag);
	json_object_set_new(o, "sleeping", json_boolean(s.sleeping != 0));
	json_object_set_new(o, "counters", seat_counters(&s));
	json_object_set_new(o, "channels", channels);
	return o;
}
