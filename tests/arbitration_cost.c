/* SPDX-License-Identifier: Apache-2.0
 *
 * arbitration_cost.c - two lines of one process take the same packets in turn: the first one's are accepted, the second one's
 * are duplicates.  Everything is warm: the ring and the frames stay in cache.  Decoding alone is measured on the same packets
 * and taken off.
 */
#include "arbitration_cost.h"

#include <stdio.h>
#include <stdlib.h>
#include "bus_bed.h"

#define PACKETS 64u
#define ROUNDS  4000u

static struct bed bed;
static struct mdbus_chunk chunk[2][PACKETS];

static uint64_t take(uint32_t line)
{
	uint64_t t = mdbus_clock_ns();

	for (uint32_t i = 0; i < PACKETS; i++)
		mdbus_channel_packet(&bed.line[line].channel, &chunk[line][i], 1000);
	return mdbus_clock_ns() - t;
}

static uint64_t decode(void)
{
	static struct mdbus_message m[MDBUS_MESSAGES_MAX];
	const struct mdbus_layout *l = &bed.line[0].channel.desc.layout;
	struct mdbus_packet p;
	uint32_t n;
	uint64_t t = mdbus_clock_ns();

	for (uint32_t i = 0; i < PACKETS; i++) {
		mdbus_layout_decode(l, chunk[0][i].bytes, chunk[0][i].len, &p);
		mdbus_layout_messages(l, chunk[0][i].bytes, chunk[0][i].len, &p, m, MDBUS_MESSAGES_MAX, &n);
	}
	return mdbus_clock_ns() - t;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The median of ROUNDS times, each of PACKETS packets of `per` messages: ns a message. */
static double per_message(uint64_t *v, uint32_t per)
{
	qsort(v, ROUNDS, sizeof(*v), ascending);
	uint64_t median = v[ROUNDS / 2u];

	return (double)median / ((double)PACKETS * per);
}

void arbitration_cost(json_t *report)
{
	static uint64_t accept[ROUNDS], duplicate[ROUNDS], decoding[ROUNDS];
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", 2);
	uint64_t seq = 1;

	d.depth = 2048;
	d.window = 1024;
	d.compare_every = 0;
	bed_open(&bed, &d, 2, 256);
	puts("ns of ingest CPU a message (38-byte MoldUDP64 messages, warm), decoding taken off");
	for (uint32_t per = 1; per <= 16; per *= 4) {
		for (uint32_t i = 0; i < ROUNDS; i++, seq += (uint64_t)per * PACKETS) {
			bed_mold_packets(&bed, seq, per, PACKETS, &chunk[0][0]);
			decoding[i] = decode();
			accept[i] = take(0);
			duplicate[i] = take(1);
		}
		double dec = per_message(decoding, per), acc = per_message(accept, per), dup = per_message(duplicate, per);

		printf("  cost, %2u to a packet: accepted %5.1f ns, duplicate %5.1f ns, decoding %5.1f ns (%.1f ns a packet)\n",
		       per, acc - dec, dup - dec, dec, dec * per);
		json_array_append_new(report, json_pack("{s:s, s:i, s:f, s:f, s:f}", "figure", "cost", "messages_per_packet",
		                                        (int)per, "accepted_ns", acc - dec, "duplicate_ns", dup - dec,
		                                        "decode_ns", dec));
	}
	bed_close(&bed);
}
