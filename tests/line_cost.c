/* SPDX-License-Identifier: Apache-2.0
 *
 * line_cost.c - what a packet costs the ingest process, all of its loop: the Ethernet frame parsed, its channel found, decoded,
 * arbitrated, counted, published or refused, the frame given back, time looked at.  Batches of 64; what receives them is left
 * out.  Two lines of one process take the same packets in turn: what the first one accepts the second one refuses.
 *
 *   channels   the same for a packet of any of 1 to 1,000 channels, taken at random
 *   depth      and for one channel with a ring of 2^10 to 2^22 slots, once they have all been used
 */
#include "line_cost.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "../bus/shape.h"
#include "bus_bed.h"
#include "ready_packets.h"

#define LINES    2u
#define BATCH    READY_MAX
#define FRAMES   1024u
#define OFF      256u /* of a packet in its frame */
#define HEADERS  42u  /* Ethernet, IP, UDP */
#define BATCHES  4000u
#define PORT     7000u
#define GROUP    0xef010000u /* 239.1.0.0 and on, one for each channel */
#define SLOT     64u

struct figure {
	uint32_t channels, depth, per; /* per: messages in a packet */
};

static const struct figure figures[] = {
	{ 1, 1u << 10, 1 },    { 10, 1u << 10, 1 },   { 100, 1u << 10, 1 }, { 1000, 1u << 10, 1 },
	{ 1, 1u << 14, 1 },    { 1, 1u << 18, 1 },    { 1, 1u << 22, 1 },   { 1, 1u << 10, 8 },
};

static const struct figure *fig;
static struct mdbus_bus bus;
static struct mdbus_line line[LINES];
static uint64_t next_seq[MDBUS_CHANNELS_MAX];
static uint64_t seed = 1;

/* ---- a bus in this process's memory ------------------------------------------------------------------------------- */

static struct mdbus_region region(size_t size)
{
	void *p = mmap(NULL, size + (2u << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	p = (void *)(((uintptr_t)p + (2u << 20) - 1u) & ~(uintptr_t)((2u << 20) - 1u));
	madvise(p, size, MADV_HUGEPAGE);
	return (struct mdbus_region){ p, size };
}

static void describe_channel(uint32_t c)
{
	struct mdbus_channel_desc *d = &bus.dir->channel[c];

	*d = bed_channel_default("moldudp64", LINES);
	d->depth = fig->depth;
	d->window = fig->depth / 2u;
	d->slot_size = SLOT;
	d->timed = 0;
	d->compare_every = 0;
	for (uint32_t k = 0; k < LINES; k++)
		d->flow[k] = (struct mdbus_flow_desc){ .addr = htonl(GROUP + c), .port = PORT };
	bus.ring[c] = region(mdbus_shape_ring_size(d));
	mdbus_shape_ring_init(bus.ring[c].base, d);
	next_seq[c] = 1;
}

static void describe_line(uint32_t k)
{
	struct mdbus_line_desc *d = &bus.dir->line[k];

	d->frames = FRAMES;
	d->frame_size = 2048;
	d->group = k;
	d->cpu = -1;
	d->batch = BATCH;
	d->low_watermark = 8;
	bus.arena[k] = region(mdbus_shape_arena_size(d, fig->channels));
	mdbus_shape_arena_init(bus.arena[k].base, d, k, fig->channels);
	bus.dir->line_state[k] = MDBUS_LINE_UP;
}

static void make_bus(void)
{
	memset(&bus, 0, sizeof(bus));
	bus.role = MDBUS_LEASE_LINE;
	bus.dir_region = region(mdbus_shape_bus_size(fig->channels));
	bus.dir = bus.dir_region.base;
	bus.dir->nline = LINES;
	bus.dir->nchannel = fig->channels;
	for (uint32_t c = 0; c < fig->channels; c++)
		describe_channel(c);
	for (uint32_t k = 0; k < LINES; k++)
		describe_line(k);
}

static void drop_bus(void)
{
	for (uint32_t c = 0; c < fig->channels; c++)
		munmap(bus.ring[c].base, bus.ring[c].size);
	for (uint32_t k = 0; k < LINES; k++)
		munmap(bus.arena[k].base, bus.arena[k].size);
	munmap(bus.dir_region.base, bus.dir_region.size);
}

/* ---- packets --------------------------------------------------------------------------------------------------------- */

/* A UDP packet in an Ethernet frame, its payload already in place. */
static void frame_packet(uint8_t *p, uint32_t channel, uint32_t payload)
{
	const uint32_t group = htonl(GROUP + channel);
	const uint16_t udp_len = htons((uint16_t)(8u + payload)), ip_len = htons((uint16_t)(28u + payload)), port = htons(PORT);

	memset(p, 0, HEADERS);
	p[12] = 0x08;
	p[14] = 0x45;
	memcpy(p + 16, &ip_len, 2);
	p[22] = 64;
	p[23] = IPPROTO_UDP;
	memcpy(p + 30, &group, 4);
	memcpy(p + 36, &port, 2);
	memcpy(p + 38, &udp_len, 2);
}

static void make_ready(uint32_t k, uint32_t i, uint32_t channel, uint64_t seq)
{
	struct bed_mold m = { .session = "SESSION001", .seq = seq, .count = fig->per };
	uint32_t frame;

	CHECK(mdbus_frames_get(&line[k].stock.pool, &frame));
	uint8_t *p = line[k].frames + (uint64_t)frame * line[k].arena->frame_size + OFF;
	uint32_t len = bed_mold_build(&m, p + HEADERS, 1700);

	frame_packet(p, channel, len);
	ready[k].rx[i] = (struct mdbus_rx){ .frame = frame, .off = OFF, .len = HEADERS + len, .flow = -1 };
	ready[k].n = i + 1u;
}

static uint32_t any_channel(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1u;
	return (uint32_t)(seed >> 33) % fig->channels;
}

static void make_batch(void)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		uint32_t c = any_channel();

		for (uint32_t k = 0; k < LINES; k++)
			make_ready(k, i, c, next_seq[c]);
		next_seq[c] += fig->per;
	}
}

/* ---- one figure ---------------------------------------------------------------------------------------------------- */

static double round_of(uint32_t k)
{
	uint64_t t = mdbus_clock_ns();
	int n = mdbus_line_round(&line[k]);

	t = mdbus_clock_ns() - t;
	CHECK(n == (int)BATCH);
	return (double)t / BATCH;
}

static void check_counts(uint64_t all)
{
	uint64_t won = 0, duplicates = 0;

	for (uint32_t c = 0; c < fig->channels; c++) {
		won += mdbus_bus_line_channel(&bus, 0, c)->count.won;
		duplicates += mdbus_bus_line_channel(&bus, 1, c)->count.duplicates;
	}
	CHECK_U64(won, all);
	CHECK_U64(duplicates, all);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, BATCHES, sizeof(*v), ascending);
	return v[BATCHES / 2u];
}

static void measure(double base[2], json_t *report)
{
	static double accepted[BATCHES], refused[BATCHES];
	uint64_t warm_up = fig->channels > 1 ? 20ull * fig->channels / BATCH + 8u : fig->depth / BATCH / fig->per * 2u + 8u;

	make_bus();
	for (uint32_t k = 0; k < LINES; k++) {
		line[k] = (struct mdbus_line){ .bus = bus, .ops = &ready_ops };
		line[k].bus.index = k;
		if (mdbus_line_start(&line[k]) != 0) {
			puts(line[k].error);
			exit(1);
		}
	}
	for (uint64_t i = 0; i < warm_up + BATCHES; i++) {
		make_batch();
		double a = round_of(0), r = round_of(1);

		if (i >= warm_up) {
			accepted[i - warm_up] = a;
			refused[i - warm_up] = r;
		}
	}
	check_counts((warm_up + BATCHES) * BATCH * fig->per);
	for (uint32_t k = 0; k < LINES; k++)
		mdbus_line_stop(&line[k]);
	drop_bus();
	double a = median(accepted), r = median(refused);

	if (base[0] == 0) {
		base[0] = a;
		base[1] = r;
	}
	printf("line  %4u channels of %7u slots, %u to a packet: accepted %6.1f ns = %4.2f x   duplicate %6.1f ns = %4.2f x the first\n",
	       fig->channels, fig->depth, fig->per, a, a / base[0], r, r / base[1]);
	json_array_append_new(report, json_pack("{s:s, s:i, s:i, s:i, s:f, s:f}", "figure", "line", "channels",
	                                        (int)fig->channels, "depth", (int)fig->depth, "messages_per_packet",
	                                        (int)fig->per, "accepted_ns", a, "duplicate_ns", r));
}

void line_cost(json_t *report)
{
	double base[2] = { 0 };

	puts("ns of ingest CPU a packet, whole loop (38-byte MoldUDP64 messages in Ethernet frames)");
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		fig = &figures[i];
		measure(base, report);
	}
}
