/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_pcap.c - a capture file as a line: what a test, a replay or a demonstration receives from.
 *
 * Packets come in the file's order and at its pace, made faster or slower by pcap_speed_x1000, or as fast as they are
 * taken.  A replay loses nothing: when no frame is free or the reader is late, the file waits.  The time a packet was
 * captured goes along as its wire time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backend.h"
#include "pcap_read.h"

struct pcap_line {
	struct mdbus_pcap *file;
	struct mdbus_frames *pool;
	uint8_t *frames;
	struct mdbus_arena_hdr *arena;
	uint32_t frame_size;
	uint32_t speed_x1000;          /* 0: no pace */
	bool started, pending;         /* pending: `packet` is read, but not yet handed over */
	struct mdbus_pcap_packet packet;
	uint64_t first_ts, started_ns; /* capture time of the first packet, and when it was handed over */
	uint64_t due_ns;               /* when `packet` may be handed over */
	int end;                       /* -errno once there is no more: -ENODATA, or the file is damaged */
};

/* ---- packets ----------------------------------------------------------------------------------------------- */

static uint64_t due(const struct pcap_line *p, uint64_t ts)
{
	unsigned __int128 after = ts > p->first_ts ? ts - p->first_ts : 0;

	return p->speed_x1000 ? p->started_ns + (uint64_t)(after * 1000 / p->speed_x1000) : 0;
}

/* Have the next packet that fits a frame pending. False: there is none. */
static bool read_packet(struct pcap_line *p)
{
	while (!p->pending && p->end == 0) {
		int rc = mdbus_pcap_next(p->file, &p->packet);

		if (rc <= 0) {
			p->end = rc ? rc : -ENODATA;
			break;
		}
		if (p->packet.len > p->frame_size - MDBUS_FRAME_META) {
			mdbus_count(&p->arena->count.bad_length, 1);
			continue;
		}
		if (!p->started) {
			p->started = true;
			p->first_ts = p->packet.ts_ns;
			p->started_ns = mdbus_clock_ns();
		}
		p->due_ns = due(p, p->packet.ts_ns);
		p->pending = true;
	}
	return p->pending;
}

static int pcap_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct pcap_line *p = self;
	uint64_t now = p->speed_x1000 ? mdbus_clock_ns() : UINT64_MAX;
	uint32_t got = 0, frame;

	while (got < max && read_packet(p) && p->due_ns <= now && mdbus_frames_get(p->pool, &frame)) {
		rx[got] = (struct mdbus_rx){
			.frame = frame,
			.off = MDBUS_FRAME_META,
			.len = p->packet.len,
			.flow = -1,
			.wire_ns = p->packet.ts_ns,
		};
		memcpy(p->frames + (uint64_t)frame * p->frame_size + MDBUS_FRAME_META, p->packet.frame, p->packet.len);
		p->pending = false;
		got++;
	}
	return got ? (int)got : p->pending ? 0 : p->end;
}

/* Nothing is lent: a frame is taken when there is a packet for it. */
static void pcap_refill(void *self)
{
	(void)self;
}

static void pcap_wait(void *self, uint32_t timeout_us)
{
	struct pcap_line *p = self;
	uint64_t now = mdbus_clock_ns(), sleep_ns = (uint64_t)timeout_us * 1000;
	struct timespec pause;

	if (p->pending && p->pool->nfree) {
		uint64_t left = p->due_ns > now ? p->due_ns - now : 0;

		sleep_ns = left < sleep_ns ? left : sleep_ns;
	}
	pause.tv_sec = (time_t)(sleep_ns / 1000000000);
	pause.tv_nsec = (long)(sleep_ns % 1000000000);
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* A file drops nothing. */
static void pcap_stats(void *self)
{
	(void)self;
}

/* ---- open and close ---------------------------------------------------------------------------------------- */

static void pcap_close_line(void *self)
{
	struct pcap_line *p = self;

	mdbus_pcap_close(p->file);
	free(p);
}

static void report_speed(const struct pcap_line *p)
{
	if (p->speed_x1000)
		snprintf(p->arena->backend, sizeof(p->arena->backend), "pcap %.4gx", (double)p->speed_x1000 / 1000);
	else
		snprintf(p->arena->backend, sizeof(p->arena->backend), "pcap full speed");
}

static void *pcap_open_line(struct mdbus_backend_env *env)
{
	struct pcap_line *p = calloc(1, sizeof(*p));

	env->error[0] = '\0';
	if (!p) {
		snprintf(env->error, sizeof(env->error), "out of memory");
		return NULL;
	}
	p->pool = env->pool;
	p->frames = env->frames;
	p->arena = env->arena;
	p->frame_size = env->arena->frame_size;
	p->speed_x1000 = env->line->pcap_speed_x1000;
	if (env->line->file[0] == '\0') {
		snprintf(env->error, sizeof(env->error), "line %s: backend pcap needs a file", env->line->name);
	} else if (mdbus_pcap_open(env->line->file, &p->file, env->error, sizeof(env->error)) == 0) {
		if (mdbus_pcap_is_ethernet(p->file)) {
			report_speed(p);
			return p;
		}
		snprintf(env->error, sizeof(env->error), "%s: not captured on Ethernet; a line needs Ethernet frames",
		         env->line->file);
	}
	pcap_close_line(p);
	return NULL;
}

const struct mdbus_backend_ops mdbus_backend_pcap = {
	.name = "pcap",
	.open = pcap_open_line,
	.poll = pcap_poll,
	.refill = pcap_refill,
	.wait = pcap_wait,
	.stats = pcap_stats,
	.close = pcap_close_line,
};
