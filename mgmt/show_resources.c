/* SPDX-License-Identifier: Apache-2.0
 *
 * show_resources.c - what is lent, as tables for people; see show.h.
 */
#include "show.h"
#include <stdio.h>
#include <string.h>
#include "show_cells.h"

/* The line that has it, or what is said instead. */
static void line_cell(struct mdbus_table *t, const json_t *o, const char *otherwise)
{
	if (json_is_string(json_object_get(o, "line")))
		mdbus_table_cell(t, "%s/%s", text(o, "bus"), text(o, "line"));
	else
		text_cell(t, o, otherwise);
}

static void names_cell(struct mdbus_table *t, const json_t *list)
{
	char names[256] = "";
	const json_t *name;
	size_t i;

	json_array_foreach(list, i, name) {
		size_t n = strlen(names);

		snprintf(names + n, sizeof(names) - n, "%s%s", i ? " " : "", json_string_value(name));
	}
	mdbus_table_cell(t, "%s", names[0] ? names : "-");
}

void mdbus_show_queues(const json_t *answer, bool all)
{
	struct mdbus_table *t = mdbus_table_new("INTERFACE NETNS QUEUE HOLDER PID BACKEND LINES");
	const json_t *q;
	size_t i;

	(void)all;
	json_array_foreach(json_object_get(answer, "queues"), i, q) {
		text_cell(t, q, "interface");
		number_cell(t, q, "netns");
		number_cell(t, q, "queue");
		line_cell(t, q, "state");
		number_cell(t, q, "pid");
		text_cell(t, q, "backend");
		names_cell(t, json_object_get(q, "lines"));
	}
	mdbus_table_print(t);
}

void mdbus_show_rules(const json_t *answer, bool all)
{
	struct mdbus_table *t = mdbus_table_new("INTERFACE KIND RULE FLOW QUEUE OWNER PID");
	const json_t *r;
	size_t i;

	(void)all;
	json_array_foreach(json_object_get(answer, "rules"), i, r) {
		text_cell(t, r, "interface");
		text_cell(t, r, "kind");
		number_cell(t, r, "location");
		text_cell(t, r, "flow");
		number_cell(t, r, "queue");
		line_cell(t, r, "hint");
		number_cell(t, r, "pid");
	}
	mdbus_table_print(t);
}

void mdbus_show_memory(const json_t *answer, bool all)
{
	static const char *const places[] = { "total", "held", "pool", "fill", "rx", "reserve", "times_low", "swept", NULL };
	struct mdbus_table *t = mdbus_table_new("BUS NAME OWNER PID SIZE PAGES NODE FRAMES HELD POOL FILL RX RESERVE LOW SWEPT");
	const json_t *m;
	size_t i;

	(void)all;
	json_array_foreach(json_object_get(answer, "memory"), i, m) {
		text_cell(t, m, "bus");
		text_cell(t, m, "name");
		text_cell(t, m, "owner");
		number_cell(t, m, "pid");
		bytes_cell(t, number(m, "bytes"));
		text_cell(t, m, "pages");
		number_cell(t, m, "node");
		numbers(t, json_object_get(m, "frames"), places);
	}
	mdbus_table_print(t);
}
