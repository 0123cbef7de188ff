/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_instructions - the hot path, each part of it in a function of its own, for t_instructions.sh to count under callgrind.
 *
 * measure_NAME does NAME as many times as count_of(NAME) says; what it needs is made ready outside of it.  Nothing here
 * depends on a clock, on addresses or on chance.  Without an argument it does all of it once; --built says with what it was built,
 * --counts prints "NAME COUNT" lines.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus_bed.h"

#define PACKETS 64u
#define MANY    16u   /* messages of a full packet */
#define OPS     1024u /* of the ring alone */
#define SLOT    64u
#define LEN     48u
#if defined(__clang__)
#define MEASURE __attribute__((noinline)) static void
#else
#define MEASURE __attribute__((noinline, noclone, no_icf)) static void
#endif

#ifndef INSTRUCTIONS_FLAGS
#define INSTRUCTIONS_FLAGS "?"
#endif

static struct bed any, single, bus;
static struct mdbus_chunk chunk[2][PACKETS];
static struct mdbus_sub *sub;
static const uint8_t message[400];
static volatile uint64_t sink;

/* ---- the ring alone ------------------------------------------------------------------------------------------------ */

__attribute__((always_inline)) static inline void publish(uint64_t from, uint32_t line, bool slowed)
{
	const struct mdbus_ring *r = &any.line[line].channel.ring;

	for (uint64_t pos = from; pos < from + OPS; pos++) {
		sink = mdbus_ring_publish(r, pos, 1, message, 0, LEN, 0, 0);
		if (slowed)
			__asm__ __volatile__("nop; nop; nop; nop; nop");
	}
}

MEASURE measure_publish(void)
{
	publish(OPS, 0, false);
}

/* What publish would be with five instructions more: the guard has to see the difference. */
MEASURE measure_publish_slowed(void)
{
	publish(2u * OPS, 0, true);
}

MEASURE measure_duplicate(void)
{
	publish(2u * OPS, 1, false);
}

MEASURE measure_publish_ref(void)
{
	for (uint64_t pos = 3u * OPS; pos < 4u * OPS; pos++)
		sink = mdbus_ring_publish(&any.line[0].channel.ring, pos, 1, message, 0, sizeof(message), 0, 0);
}

MEASURE measure_publish_single(void)
{
	for (uint64_t pos = OPS; pos < 2u * OPS; pos++)
		sink = mdbus_ring_publish_single(&single.line[0].channel.ring, pos, 1, message, 0, LEN, 0, 0);
}

/* ---- packets ------------------------------------------------------------------------------------------------------- */

__attribute__((always_inline)) static inline void decode(void)
{
	static struct mdbus_message m[MDBUS_MESSAGES_MAX];
	const struct mdbus_layout *l = &bus.line[0].channel.desc.layout;
	struct mdbus_packet p;
	uint32_t n = 0;

	for (uint32_t i = 0; i < PACKETS; i++) {
		mdbus_layout_decode(l, chunk[0][i].bytes, chunk[0][i].len, &p);
		mdbus_layout_messages(l, chunk[0][i].bytes, chunk[0][i].len, &p, m, MDBUS_MESSAGES_MAX, &n);
	}
	sink = n;
}

__attribute__((always_inline)) static inline void arbitrate(uint32_t line)
{
	for (uint32_t i = 0; i < PACKETS; i++)
		mdbus_channel_packet(&bus.line[line].channel, &chunk[line][i], 1000);
}

MEASURE measure_decode_1(void)
{
	decode();
}

MEASURE measure_decode_16(void)
{
	decode();
}

MEASURE measure_accept_1(void)
{
	arbitrate(0);
}

MEASURE measure_accept_16(void)
{
	arbitrate(0);
}

MEASURE measure_accept_duplicate_1(void)
{
	arbitrate(1);
}

MEASURE measure_accept_duplicate_16(void)
{
	arbitrate(1);
}

static void read_all(uint32_t n)
{
	static uint8_t buffer[2048];
	struct mdbus_record r;

	for (uint32_t i = 0; i < n; i++)
		sink = mdbus_sub_read(sub, &r, buffer, sizeof(buffer));
}

MEASURE measure_read(void)
{
	read_all(PACKETS * MANY);
}

MEASURE measure_read_nothing(void)
{
	read_all(OPS);
}

/* ---- all of it ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	unsigned count;
	const char *what;
} measures[] = {
	{ "publish", OPS, "a message published by compare-and-swap, inline" },
	{ "publish_slowed", OPS, "self-check: the same and five instructions" },
	{ "duplicate", OPS, "refused by the ring" },
	{ "publish_ref", OPS, "published by reference" },
	{ "publish_single", OPS, "published on a channel of one line, inline" },
	{ "decode_1", PACKETS, "a MoldUDP64 packet of 1 message decoded" },
	{ "decode_16", PACKETS, "and of 16" },
	{ "accept_1", PACKETS, "a packet of 1 decoded, arbitrated and published" },
	{ "accept_16", PACKETS, "and of 16" },
	{ "accept_duplicate_1", PACKETS, "a packet of 1 decoded and found to be a duplicate" },
	{ "accept_duplicate_16", PACKETS, "and of 16" },
	{ "read", PACKETS * MANY, "a message read and copied by a subscriber" },
	{ "read_nothing", OPS, "a look that finds nothing" },
};

static void open_bed(struct bed *b, uint32_t nline, uint32_t slot_size)
{
	struct mdbus_channel_desc d = bed_channel_default("moldudp64", nline);

	d.slot_size = slot_size;
	d.timed = slot_size != SLOT;
	d.compare_every = 0;
	bed_open(b, &d, nline, 256);
}

static void ring_alone(void)
{
	open_bed(&any, 2, SLOT);
	open_bed(&single, 1, SLOT);
	measure_publish();
	measure_publish_slowed();
	measure_duplicate();
	measure_publish_ref();
	measure_publish_single();
	bed_close(&any);
	bed_close(&single);
}

/* The first packets of a session open it, which is not what is to be counted. */
static void whole_packets(void)
{
	struct mdbus_sub_options o = { .start = MDBUS_START_HEAD };

	open_bed(&bus, 2, 128);
	sub = mdbus_sub_over(&bus.bus, &o);
	bed_mold_packets(&bus, 1, 1, PACKETS, &chunk[0][0]);
	arbitrate(0);
	arbitrate(1);
	read_all(OPS);
	bed_mold_packets(&bus, 1u + PACKETS, 1, PACKETS, &chunk[0][0]);
	measure_decode_1();
	measure_accept_1();
	measure_accept_duplicate_1();
	read_all(OPS);
	bed_mold_packets(&bus, 1u + 2u * PACKETS, MANY, PACKETS, &chunk[0][0]);
	measure_decode_16();
	measure_accept_16();
	measure_accept_duplicate_16();
	measure_read();
	measure_read_nothing();
	mdbus_sub_close(sub);
	bed_close(&bus);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--built") == 0) {
#if defined(__clang__)
		printf("clang-%d.%d %s\n", __clang_major__, __clang_minor__, INSTRUCTIONS_FLAGS);
#else
		printf("gcc-%d.%d %s\n", __GNUC__, __GNUC_MINOR__, INSTRUCTIONS_FLAGS);
#endif
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "--counts") == 0) {
		for (size_t i = 0; i < sizeof(measures) / sizeof(measures[0]); i++)
			printf("%s %u %s\n", measures[i].name, measures[i].count, measures[i].what);
		return 0;
	}
	ring_alone();
	whole_packets();
	return 0;
}
