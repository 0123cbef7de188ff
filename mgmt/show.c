/* SPDX-License-Identifier: Apache-2.0
 *
 * show.c - mdbusd's answers as tables for people; see show.h.
 *
 * A member that an older mdbusd does not know prints as "-", never as a zero that was not counted.
 */
#include "show.h"
#include <inttypes.h>
#include <mdbus/counters.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "show_cells.h"

struct meaning {
	const char *name, *text;
};

#define MEANING(name, meaning) { #name, meaning },

static const struct meaning line_meanings[] = { MDBUS_LINE_COUNTERS(MEANING) { NULL, NULL } };
static const struct meaning channel_meanings[] = { MDBUS_LINE_CHANNEL_COUNTERS(MEANING) { NULL, NULL } };
static const struct meaning seat_meanings[] = { MDBUS_SEAT_COUNTERS(MEANING) { NULL, NULL } };

static void seconds_cell(struct mdbus_table *t, double s)
{
	if (s < 120)
		mdbus_table_cell(t, "%.1f s", s);
	else if (s < 7200)
		mdbus_table_cell(t, "%.0f min", s / 60);
	else
		mdbus_table_cell(t, "%.1f h", s / 3600);
}

static void counters(const char *indent, const json_t *o, const struct meaning *m)
{
	for (; m->name; m++) {
		if (json_object_get(o, m->name))
			printf("%s%-18s %20" JSON_INTEGER_FORMAT "  %s\n", indent, m->name, number(o, m->name), m->text);
	}
}

/* ---- status -------------------------------------------------------------------------------------------------- */

static bool is_seat(const json_t *segment)
{
	return strncmp(text(segment, "name"), "seat.", 5) == 0;
}

static void segments(const json_t *bus, bool all)
{
	struct mdbus_table *t = mdbus_table_new("SEGMENT SIZE PAGES");
	const json_t *s, *first = NULL;
	json_int_t seats = 0, bytes = 0;
	size_t i;

	json_array_foreach(json_object_get(bus, "segments"), i, s) {
		if (is_seat(s) && !all) {
			first = first ? first : s;
			seats++;
			bytes += number(s, "size");
			continue;
		}
		mdbus_table_cell(t, "  %s", text(s, "name"));
		bytes_cell(t, number(s, "size"));
		text_cell(t, s, "pages");
	}
	if (seats > 0) {
		mdbus_table_cell(t, "  %" JSON_INTEGER_FORMAT " seats", seats);
		bytes_cell(t, bytes);
		text_cell(t, first, "pages");
	}
	mdbus_table_print(t);
}

static void privileges(const json_t *list)
{
	const json_t *name;
	size_t i;

	fputs("privileges    ", stdout);
	json_array_foreach(list, i, name) {
		printf(" %s", json_string_value(name));
	}
	puts(json_array_size(list) > 0 ? "" : list ? " none" : " -");
}

void mdbus_show_status(const json_t *answer, bool all)
{
	const json_t *b;
	size_t i;

	printf("mdbusd %s, pid %" JSON_INTEGER_FORMAT ", up %.0f s\n", text(answer, "version"), number(answer, "pid"),
	       json_real_value(json_object_get(answer, "uptime_s")));
	printf("configuration  %s\nrun directory  %s\nsegments in    %s\nhuge pages in  %s\n", text(answer, "config"),
	       text(answer, "run_dir"), text(answer, "store"), text(answer, "huge_dir"));
	privileges(json_object_get(answer, "privileges"));
	printf("events %" JSON_INTEGER_FORMAT ", lease requests refused %" JSON_INTEGER_FORMAT "\n", number(answer, "events"),
	       number(answer, "refused"));
	json_array_foreach(json_object_get(answer, "buses"), i, b) {
		printf("\nbus %s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " lines up, %" JSON_INTEGER_FORMAT
		       " channels, %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " seats taken, %" JSON_INTEGER_FORMAT
		       " reclaims%s\n", text(b, "name"), number(b, "lines_up"), number(b, "lines"), number(b, "channels"),
		       number(b, "seats_held"), number(b, "seats"), number(b, "reclaims"),
		       json_is_true(json_object_get(b, "adopted")) ? ", adopted from an earlier mdbusd" : "");
		segments(b, all);
	}
}

/* ---- lines --------------------------------------------------------------------------------------------------- */

static void port_counters(const json_t *o)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, name, v) {
		printf("  %-38s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(v));
	}
}

static void all_lines(const json_t *list)
{
	const json_t *l, *c;
	size_t i, k;

	json_array_foreach(list, i, l) {
		printf("%sbus %s, line %s: %s\n", i ? "\n" : "", text(l, "bus"), text(l, "line"), text(l, "obtained"));
		if (strcmp(text(l, "detail"), "-") != 0)
			printf("  %s\n", text(l, "detail"));
		counters("  ", json_object_get(l, "counters"), line_meanings);
		port_counters(json_object_get(l, "xstats"));
		json_array_foreach(json_object_get(l, "channels"), k, c) {
			printf("  channel %s\n", text(c, "channel"));
			counters("    ", json_object_get(c, "counters"), channel_meanings);
		}
	}
}

/* How many messages a line brought, how many of them first, and that as a share. */
static void win_cells(struct mdbus_table *t, const json_t *messages)
{
	json_int_t n = number(messages, "messages"), won = number(messages, "won");

	number_cell(t, messages, "messages");
	number_cell(t, messages, "won");
	mdbus_table_cell(t, "%.1f", n > 0 ? 100.0 * (double)won / (double)n : 0.0);
}

void mdbus_show_lines(const json_t *answer, bool all)
{
	static const char *const malformed[] = { "bad_frame", "bad_fragment", "bad_header", "bad_length", "bad_count", NULL };
	static const char *const dropped[] = { "nic_dropped", "ring_full", NULL };
	static const char *const back[] = { "handed_back", "handed_full", "handed_down", NULL }; /* of others' shares */
	static const char *const counted[] = { "duplicates", "line_gaps", "filled", "late", NULL };
	const json_t *list = json_object_get(answer, "lines"), *l;
	size_t i;

	if (all) {
		all_lines(list);
		return;
	}
	struct mdbus_table *t = mdbus_table_new("BUS LINE STATE PID PACKETS MESSAGES WON WIN-% DUPLICATES GAPS FILLED LATE MALFORMED "
	                                        "DROPPED HANDED BACK LATE-P50-NS LATE-P99-NS LATE-MAX-NS SILENT-MS BACKEND");

	json_array_foreach(list, i, l) {
		const json_t *c = json_object_get(l, "counters"), *late = json_object_get(l, "lateness_ns");
		bool got = strcmp(text(l, "obtained"), "-") != 0;

		text_cell(t, l, "bus");
		text_cell(t, l, "line");
		mdbus_table_cell(t, "%s%s", text(l, "state"),
		                 json_is_true(json_object_get(l, "stuck"))   ? ",stuck"
		                 : json_is_true(json_object_get(l, "stale")) ? ",stale"
		                                                             : "");
		number_cell(t, l, "pid");
		number_cell(t, c, "packets");
		win_cells(t, json_object_get(l, "messages"));
		numbers(t, json_object_get(l, "messages"), counted);
		sum_cell(t, c, malformed);
		sum_cell(t, c, dropped);
		number_cell(t, c, "handed");
		sum_cell(t, c, back);
		number_cell(t, late, "p50");
		number_cell(t, late, "p99");
		number_cell(t, late, "max");
		number_cell(t, l, "silent_ms");
		text_cell(t, l, got ? "obtained" : "backend");
	}
	mdbus_table_print(t);
}

/* ---- channels ------------------------------------------------------------------------------------------------ */

static void all_channels(const json_t *list)
{
	const json_t *c, *l;
	size_t i, k;

	json_array_foreach(list, i, c) {
		printf("%sbus %s, channel %s (%s): head %" JSON_INTEGER_FORMAT ", generation %" JSON_INTEGER_FORMAT "\n",
		       i ? "\n" : "", text(c, "bus"), text(c, "channel"), text(c, "layout"), number(c, "head"),
		       number(c, "generation"));
		json_array_foreach(json_object_get(c, "lines"), k, l) {
			printf("  line %s\n", text(l, "line"));
			counters("    ", json_object_get(l, "counters"), channel_meanings);
		}
	}
}

void mdbus_show_channels(const json_t *answer, bool all)
{
	static const char *const own[] = { "last_seq", "epoch", "gaps", "resets", "depth", "slot_size", NULL };
	static const char *const counted[] = { "won", "duplicates", "late", "mismatched", "inlined", "by_ref", NULL };
	const json_t *list = json_object_get(answer, "channels"), *c;
	size_t i;

	if (all) {
		all_channels(list);
		return;
	}
	struct mdbus_table *t = mdbus_table_new("BUS CHANNEL LAYOUT LAST-SEQ EPOCH GAPS RESETS DEPTH SLOT PUBLISHED DUPLICATES "
	                                        "LATE MISMATCHED INLINE BY-REF");

	json_array_foreach(list, i, c) {
		text_cell(t, c, "bus");
		text_cell(t, c, "channel");
		text_cell(t, c, "layout");
		numbers(t, c, own);
		numbers(t, json_object_get(c, "messages"), counted);
	}
	mdbus_table_print(t);
}

/* ---- subscribers, leases, events ----------------------------------------------------------------------------- */

void mdbus_show_subscribers(const json_t *answer, bool all)
{
	static const char *const counted[] = { "messages", "gaps", "resets", "overruns", "overrun_lost", "sleeps", NULL };
	const json_t *list = json_object_get(answer, "subscribers"), *s;
	size_t i;

	if (all) {
		json_array_foreach(list, i, s) {
			printf("%sbus %s, seat %" JSON_INTEGER_FORMAT ", %s\n", i ? "\n" : "", text(s, "bus"), number(s, "seat"),
			       text(s, "name"));
			counters("  ", json_object_get(s, "counters"), seat_meanings);
		}
		return;
	}
	struct mdbus_table *t = mdbus_table_new("BUS SEAT NAME PID UID LAG MESSAGES GAPS RESETS OVERRUNS LOST SLEEPS");

	json_array_foreach(list, i, s) {
		text_cell(t, s, "bus");
		number_cell(t, s, "seat");
		text_cell(t, s, "name");
		number_cell(t, s, "pid");
		number_cell(t, s, "uid");
		number_cell(t, s, "lag");
		numbers(t, json_object_get(s, "counters"), counted);
	}
	mdbus_table_print(t);
}

void mdbus_show_leases(const json_t *answer, bool all)
{
	struct mdbus_table *t = mdbus_table_new("BUS KIND INDEX NAME STATE PID UID LEASE HELD");
	const json_t *l;
	size_t i;

	(void)all;
	json_array_foreach(json_object_get(answer, "leases"), i, l) {
		text_cell(t, l, "bus");
		text_cell(t, l, "kind");
		number_cell(t, l, "index");
		text_cell(t, l, "name");
		text_cell(t, l, "state");
		number_cell(t, l, "pid");
		number_cell(t, l, "uid");
		number_cell(t, l, "id");
		seconds_cell(t, json_real_value(json_object_get(l, "held_s")));
	}
	mdbus_table_print(t);
}

void mdbus_show_event(const json_t *event)
{
	static const char *const shown[] = { "n", "ts_ns", "mono_ns", "type", "bus", NULL };
	json_int_t ns = number(event, "ts_ns");
	time_t when = (time_t)(ns / 1000000000);
	struct tm tm;
	char clock[32];
	const char *key;
	json_t *v;

	localtime_r(&when, &tm);
	strftime(clock, sizeof(clock), "%F %T", &tm);
	printf("%s.%06d  %-12s %-10s", clock, (int)(ns % 1000000000 / 1000), text(event, "type"), text(event, "bus"));
	json_object_foreach((json_t *)(uintptr_t)event, key, v) {
		size_t i = 0;

		while (shown[i] && strcmp(shown[i], key) != 0)
			i++;
		if (shown[i])
			continue;
		if (json_is_integer(v))
			printf(" %s=%" JSON_INTEGER_FORMAT, key, json_integer_value(v));
		else
			printf(" %s=%s", key, json_is_string(v) ? json_string_value(v) : "?");
	}
	putchar('\n');
}

void mdbus_show_events(const json_t *answer, bool all)
{
	const json_t *e;
	size_t i;

	(void)all;
	json_array_foreach(json_object_get(answer, "events"), i, e) {
		mdbus_show_event(e);
	}
}
