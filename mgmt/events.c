/* SPDX-License-Identifier: Apache-2.0
 *
 * events.c - what happened, in order, as JSON.
 *
 * Every event is one object: {"n": number, "ts_ns": ns since 1970, "mono_ns": CLOCK_MONOTONIC, "type", "bus", ...}.  It is
 * published at once and kept in a list of the last 1,024, so that one who asks later, or whose subscription
 * dropped some, can see by the numbers what it missed.  Numbers start at 1 with each mdbusd.
 *
 *	daemon_start, daemon_stop   adopt (held)          line_up, line_down (line, pid, why)
 *	seat_up, seat_down (seat, name, pid, why)         reclaim (line or seat, pid, step)
 *	queue_alloc, queue_free (line, pid, interface, queue)   mbuf_put (line, pid, count, held)   memp_free (line, pid, files)
 *	rule_add (line, interface, queue, count), rule_failed (line, interface, why)
 *	rule_delete (line, pid, count: flows, deleted: from the card, left: not deleted)
 *	stale, stale_end (line, silent_ms)                stuck, stuck_end (line, pid, silent_ms)
 *	stuck_kill (line, pid, silent_ms, killed)         admin (command, name, uid, pid of who asked)
 *	memp_low (line, low_watermark, reserve, times, swept), memp_low_end (line, swept)
 *	gap (channel, count, total)   reset (channel, generation)   overrun (seat, name, count, total)
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "daemon.h"

void mdbus_event(struct mdbus_daemon *d, const char *type, const struct mdbus_served *b, const char *format, ...)
{
	json_t **slot = &d->events[d->event_count % MDBUS_EVENTS_KEPT];
	struct timespec wall;
	va_list ap;

	clock_gettime(CLOCK_REALTIME, &wall);
	uint64_t wall_ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
	json_t *e = json_pack("{s:I, s:I, s:I, s:s}", "n", (json_int_t)d->event_count + 1, "ts_ns", (json_int_t)wall_ns,
	                      "mono_ns", (json_int_t)mdbus_clock_ns(), "type", type);

	if (!e)
		return;
	if (b)
		json_object_set_new(e, "bus", json_string(b->map.dir->segment.bus));
	if (format) {
		va_start(ap, format);
		json_t *more = json_vpack_ex(NULL, 0, format, ap);

		va_end(ap);
		json_object_update(e, more);
		json_decref(more);
	}
	char *text = json_dumps(e, JSON_COMPACT);

	if (text)
		mdbus_ctl_publish(d, text, strlen(text));
	free(text);
	json_decref(*slot);
	*slot = e;
	d->event_count++;
}

json_t *mdbus_events_json(const struct mdbus_daemon *d, const char *bus)
{
	uint64_t first = d->event_count > MDBUS_EVENTS_KEPT ? d->event_count - MDBUS_EVENTS_KEPT : 0;
	json_t *list = json_array();

	for (uint64_t i = first; i < d->event_count; i++) {
		json_t *e = d->events[i % MDBUS_EVENTS_KEPT];
		const char *of = json_string_value(json_object_get(e, "bus"));

		if (!bus || !of || strcmp(of, bus) == 0)
			json_array_append(list, e);
	}
	return list;
}

void mdbus_events_close(struct mdbus_daemon *d)
{
	for (size_t i = 0; i < MDBUS_EVENTS_KEPT; i++) {
		json_decref(d->events[i]);
		d->events[i] = NULL;
	}
}
