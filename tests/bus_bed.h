/* SPDX-License-Identifier: Apache-2.0
 *
 * bus_bed.h - a whole bus in this process's memory, without mdbusd: for tests that drive lines and readers by hand.
 *
 * Shared anonymous memory, so that a forked child sees the same bus.
 */
#ifndef TESTS_BUS_BED_H
#define TESTS_BUS_BED_H

#include "../bus/channel.h"
#include "../bus/subscriber.h"

struct bed_line {
	struct mdbus_bus bus; /* as this line has it mapped */
	struct mdbus_holds holds;
	struct mdbus_channel channel;
	uint32_t next_frame; /* frames are handed out round robin, skipping those held */
	const struct mdbus_ring *rings[1];
};

struct bed {
	struct mdbus_bus bus;
	uint32_t nline;
	struct bed_line line[MDBUS_LINES_MAX];
};

/* What differs from bed_channel_default() between tests. */
struct mdbus_channel_desc bed_channel_default(const char *layout, uint32_t nline);

/* One channel, nline lines of nframes frames, one seat; lines are up. Aborts the test when memory is short. */
void bed_open(struct bed *b, const struct mdbus_channel_desc *channel, uint32_t nline, uint32_t nframes);
/*
 * The same; all lines are part of line 0, and the first ngiver hand packets over to each of the others by rings of hand_size
 * entries.
 */
void bed_open_handed(struct bed *b, const struct mdbus_channel_desc *channel, uint32_t nline, uint32_t nframes,
                     uint32_t ngiver, uint32_t hand_size);
void bed_close(struct bed *b);

/* Put a packet into a free frame of a line and let its channel take it. */
enum mdbus_decode_error bed_packet(struct bed *b, uint32_t line, const uint8_t *bytes, uint32_t len, uint64_t now_ns);

/* A MoldUDP64 packet. Returns its length. body(seq) gives each message's bytes. */
struct bed_mold {
	char session[11];
	uint64_t seq;
	uint32_t count; /* 0 heartbeat, 0xffff end of session */
	uint32_t salt;  /* makes bodies of another session differ */
	bool some_alike; /* but not the first message and one in eight: like heartbeats that are counted */
};

/* The salt of message seq. */
uint32_t bed_mold_salt(const struct bed_mold *m, uint64_t seq);
uint32_t bed_mold_build(const struct bed_mold *m, uint8_t *out, uint32_t cap);

#define BED_BODY 38u

/*
 * n packets of `per` messages each, with bodies of BED_BODY bytes, from number seq on, in frames of lines 0 and 1:
 * chunk[i] and chunk[n + i].
 */
void bed_mold_packets(const struct bed *b, uint64_t seq, uint32_t per, uint32_t n, struct mdbus_chunk *chunk);

/* The body of message seq: length and bytes depend on seq and salt. Returns the length, prefix included. */
uint32_t bed_mold_message(uint64_t seq, uint32_t salt, uint8_t *out);

#endif
