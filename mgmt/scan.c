/* SPDX-License-Identifier: Apache-2.0
 *
 * scan.c - ten times a second, a look at what the lines and subscribers count.
 *
 * Only loads, of counters that are there anyway, so the hot path pays nothing for being watched; differences become
 * events, at most one a second for each channel or seat.  The one thing the scan does to a bus is to move its gaps on
 * when no line is left to do so: every line runs the gap clock itself, mdbusd only where none has come round its loop for
 * a second.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/gap.h"
#include "../bus/generation.h"
#include "daemon.h"
#include "seat.h"

#define SECOND_NS UINT64_C(1000000000)

static int find_line_channels(struct mdbus_served *b, uint32_t line)
{
	const struct mdbus_arena_hdr *a = mdbus_bus_arena(&b->map, line);
	uint64_t off = mdbus_load_relaxed(&a->channels_off), size = b->map.arena[line].size;
	uint64_t bytes = b->map.dir->nchannel * sizeof(struct mdbus_line_channel);

	if (off % MDBUS_CACHE_LINE != 0 || off > size || bytes > size - off)
		return -EBADMSG;
	b->line_channel[line] = (const void *)((const uint8_t *)a + off); /* once: the line may change the offset later */
	return 0;
}

int mdbus_scan_open(struct mdbus_served *b)
{
	const struct mdbus_bus_hdr *dir = b->map.dir;
	int rc = 0;

	b->channel_seen = calloc(dir->nchannel, sizeof(b->channel_seen[0]));
	b->resolver = calloc(dir->nchannel, sizeof(b->resolver[0]));
	if (!b->channel_seen || !b->resolver)
		return -ENOMEM;
	for (uint32_t i = 0; i < dir->nline && rc == 0; i++)
		rc = find_line_channels(b, i);
	for (uint32_t i = 0; i < dir->nchannel && rc == 0; i++) {
		b->channel_seen[i].gaps = mdbus_scan_gaps(b, i);
		b->channel_seen[i].gen = mdbus_gen_newest(mdbus_bus_ring(&b->map, i));
	}
	return rc;
}

void mdbus_scan_close(struct mdbus_served *b)
{
	free(b->channel_seen);
	free(b->resolver);
	b->channel_seen = NULL;
	b->resolver = NULL;
}

uint64_t mdbus_scan_gaps(const struct mdbus_served *b, uint32_t channel)
{
	uint64_t n = b->resolver[channel].gaps;

	for (uint32_t i = 0; i < b->map.dir->nline; i++)
		n += mdbus_load_relaxed(&b->line_channel[i][channel].count.gaps_declared);
	return n;
}

void mdbus_scan_line_up(struct mdbus_served *b, uint32_t line)
{
	const struct mdbus_arena_hdr *a = mdbus_bus_arena(&b->map, line);
	uint64_t now = mdbus_clock_ns();

	b->line_seen[line] = (struct mdbus_line_seen){
		.beat = mdbus_load_relaxed(&a->count.heartbeat_ns),
		.arrival = mdbus_load_relaxed(&a->count.last_arrival_ns),
		.low_count = mdbus_load_relaxed(&a->count.frames_low),
		.beat_ns = now,
		.arrival_ns = now,
	};
}

/*
 * Has the line said something new?  Its words are times, but what counts is that they change, and when by mdbusd's own clock:
 * a line may lie, or live in a time namespace.
 */
static void look_at(struct mdbus_served *b, uint32_t line, uint64_t now)
{
	const struct mdbus_arena_hdr *a = mdbus_bus_arena(&b->map, line);
	struct mdbus_line_seen *seen = &b->line_seen[line];
	uint64_t beat = mdbus_load_relaxed(&a->count.heartbeat_ns), arrival = mdbus_load_relaxed(&a->count.last_arrival_ns);

	if (beat != seen->beat)
		seen->beat_ns = now;
	if (arrival != seen->arrival)
		seen->arrival_ns = now;
	seen->beat = beat;
	seen->arrival = arrival;
}

/* Silence of a line, or of that queue of it which heard most recently: a packet comes on one of them only. */
static uint64_t group_silence(const struct mdbus_served *b, uint32_t line, uint64_t now)
{
	const struct mdbus_line_desc *l = b->map.dir->line;
	uint64_t least = UINT64_MAX;

	for (uint32_t k = 0; k < b->map.dir->nline; k++) {
		if (l[k].group != l[line].group || l[k].lease.state != MDBUS_LEASE_HELD)
			continue;
		uint64_t heard = now - b->line_seen[k].arrival_ns;

		least = heard < least ? heard : least;
	}
	return least;
}

static void tell_line(struct mdbus_daemon *d, const struct mdbus_served *b, uint32_t line, bool *was, bool is,
                      const char *begin, const char *end, uint64_t silent)
{
	const struct mdbus_line_desc *l = &b->map.dir->line[line];

	if (is != *was)
		mdbus_event(d, is ? begin : end, b, "{s:s, s:I, s:I}", "line", l->name, "pid", (json_int_t)l->lease.pid,
		            "silent_ms", (json_int_t)(silent / 1000000u));
	*was = is;
}

/*
 * A line that is stuck is not taken from its process, which may go on at any time: it is told of, and killed if the
 * configuration says so.  Only time that mdbusd itself was there to look counts: both may have been stopped together.
 */
static void kill_stuck(struct mdbus_daemon *d, struct mdbus_served *b, uint32_t line, uint64_t now)
{
	const struct mdbus_line_desc *l = &b->map.dir->line[line];
	struct mdbus_line_seen *seen = &b->line_seen[line];
	uint64_t since = now - d->scanned_ns;

	seen->stuck_ns = seen->stuck ? seen->stuck_ns + (since < 2u * MDBUS_TICK_NS ? since : 2u * MDBUS_TICK_NS) : 0;
	if (l->stuck_kill_ms == 0 || seen->killed || !seen->stuck ||
	    seen->stuck_ns + SECOND_NS < l->stuck_kill_ms * UINT64_C(1000000))
		return;
#ifdef MDBUS_MUTANT_stuck_is_robbed
	mdbus_reclaim(d, &b->line[line], "it is stuck");
	return;
#endif
	int rc = mdbus_holder_signal(&b->line[line], SIGKILL);

	seen->killed = true;
	mdbus_event(d, "stuck_kill", b, "{s:s, s:I, s:I, s:b}", "line", l->name, "pid", (json_int_t)l->lease.pid, "silent_ms",
	            (json_int_t)((now - seen->beat_ns) / 1000000u), "killed", rc == 0);
	if (rc < 0)
		mdbus_say("bus %s: line %s, pid %u, is stuck and cannot be killed: %s", b->map.dir->segment.bus, l->name,
		          l->lease.pid, strerror(-rc));
}

/* Its frames to receive into were low since the last look, and may not be any more. */
static void tell_frames(struct mdbus_daemon *d, struct mdbus_served *b, uint32_t line)
{
	const struct mdbus_arena_hdr *a = mdbus_bus_arena(&b->map, line);
	const struct mdbus_line_desc *l = &b->map.dir->line[line];
	struct mdbus_line_seen *seen = &b->line_seen[line];
	uint64_t count = mdbus_load_relaxed(&a->count.frames_low);
	bool low = mdbus_load_relaxed(&a->count.frames_low_now) != 0;

	if (count != seen->low_count && !seen->low)
		mdbus_event(d, "memp_low", b, "{s:s, s:I, s:i, s:i, s:I, s:I}", "line", l->name, "pid", (json_int_t)l->lease.pid,
		            "low_watermark", (int)l->low_watermark, "reserve", (int)l->reserve_frames, "times",
		            (json_int_t)(count - seen->low_count), "swept",
		            (json_int_t)mdbus_load_relaxed(&a->count.frames_swept));
	seen->low = seen->low || count != seen->low_count;
	seen->low_count = count;
	if (seen->low && !low) {
		seen->low = false;
		mdbus_event(d, "memp_low_end", b, "{s:s, s:I, s:I}", "line", l->name, "pid", (json_int_t)l->lease.pid, "swept",
		            (json_int_t)mdbus_load_relaxed(&a->count.frames_swept));
	}
}

/* True if the line's process has come round its loop within the last second. */
static bool scan_line(struct mdbus_daemon *d, struct mdbus_served *b, uint32_t line, uint64_t now)
{
	const struct mdbus_line_desc *l = &b->map.dir->line[line];
	struct mdbus_line_seen *seen = &b->line_seen[line];

	if (l->lease.state != MDBUS_LEASE_HELD)
		return false;
	uint64_t heard = group_silence(b, line, now);
	uint64_t turned = now - seen->beat_ns;

	tell_line(d, b, line, &seen->stale, l->stale_ms > 0 && heard > l->stale_ms * UINT64_C(1000000), "stale", "stale_end",
	          heard);
	tell_line(d, b, line, &seen->stuck, turned > SECOND_NS, "stuck", "stuck_end", turned);
	kill_stuck(d, b, line, now);
	tell_frames(d, b, line);
	return turned <= SECOND_NS;
}

static void resolve(struct mdbus_served *b, uint32_t channel, uint32_t live, uint64_t now)
{
	struct mdbus_channel_seen *seen = &b->channel_seen[channel];
	bool mine = (live & b->map.dir->channel[channel].line_mask) == 0;

	if (mine && !seen->resolving)
		mdbus_resolver_init(&b->resolver[channel], &b->map, channel, MDBUS_LINES_MAX);
	if (mine)
		mdbus_resolver_tick(&b->resolver[channel], now);
	seen->resolving = mine;
}

static void tell_generations(struct mdbus_daemon *d, const struct mdbus_served *b, uint32_t channel)
{
	struct mdbus_channel_seen *seen = &b->channel_seen[channel];
	const struct mdbus_ring_hdr *r = mdbus_bus_ring(&b->map, channel);
	uint64_t newest = mdbus_gen_newest(r);
	struct mdbus_gen g;

	if (newest > seen->gen + MDBUS_GENERATIONS)
		seen->gen = newest - MDBUS_GENERATIONS;
	while (seen->gen < newest) {
		seen->gen++;
		if (seen->gen > 1 && mdbus_gen_get(r, seen->gen, &g))
			mdbus_event(d, g.flags & MDBUS_GEN_JUMPED ? "jump" : "reset", b, "{s:s, s:I, s:I}", "channel",
			            b->map.dir->channel[channel].name, "generation", (json_int_t)g.gen, "first_seq",
			            (json_int_t)g.first_seq);
	}
}

static void scan_channel(struct mdbus_daemon *d, struct mdbus_served *b, uint32_t channel, uint32_t live, uint64_t now)
{
	struct mdbus_channel_seen *seen = &b->channel_seen[channel];

	resolve(b, channel, live, now);
	tell_generations(d, b, channel);
	uint64_t gaps = mdbus_scan_gaps(b, channel);

	if (gaps != seen->gaps && now - seen->told_ns >= SECOND_NS) {
		mdbus_event(d, "gap", b, "{s:s, s:I, s:I}", "channel", b->map.dir->channel[channel].name, "count",
		            (json_int_t)(gaps - seen->gaps), "total", (json_int_t)gaps);
		seen->gaps = gaps;
		seen->told_ns = now;
	}
}

static void scan_seat(struct mdbus_daemon *d, struct mdbus_served *b, uint32_t seat, uint64_t now)
{
	const struct mdbus_lease *l = &b->map.dir->seat[seat];
	struct mdbus_seat_seen *seen = &b->seat_seen[seat];
	struct mdbus_seat_hdr s;

	if (l->state == MDBUS_LEASE_RECLAIM && now - seen->told_ns >= SECOND_NS) {
		seen->told_ns = now;
		mdbus_reclaim(d, &b->seat[seat], "its process has ended");
	}
	if (l->state != MDBUS_LEASE_HELD || now - seen->told_ns < SECOND_NS || !mdbus_seat_read(b, seat, 0, &s))
		return;
	if (s.count.overrun_lost == seen->overrun)
		return;
	mdbus_event(d, "overrun", b, "{s:i, s:s, s:I, s:I}", "seat", (int)seat, "name", l->name, "count",
	            (json_int_t)(s.count.overrun_lost - seen->overrun), "total", (json_int_t)s.count.overrun_lost);
	seen->overrun = s.count.overrun_lost;
	seen->told_ns = now;
}

void mdbus_scan_tick(struct mdbus_daemon *d, uint64_t now_ns)
{
	for (uint32_t k = 0; k < d->nbus; k++) {
		struct mdbus_served *b = d->bus[k];
		const struct mdbus_bus_hdr *dir = b->map.dir;
		uint32_t live = 0;

		for (uint32_t i = 0; i < dir->nline; i++)
			look_at(b, i, now_ns);
		for (uint32_t i = 0; i < dir->nline; i++)
			live |= (uint32_t)scan_line(d, b, i, now_ns) << i;
		for (uint32_t i = 0; i < dir->nchannel; i++)
			scan_channel(d, b, i, live, now_ns);
		for (uint32_t i = 0; i < dir->nseat; i++)
			scan_seat(d, b, i, now_ns);
	}
	d->scanned_ns = now_ns;
}
