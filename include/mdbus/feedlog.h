/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/feedlog.h - what the feeder sent: its log, and the bodies of the messages it makes up.
 *
 * `mdbus-feed --log FILE` writes one record per message in the order of the source, also for a message that
 * was lost on every line, so a test can say exactly what a subscriber must see: a message with a bit in line_mask, once;
 * a message without one, as part of a gap.  The file is a header and records to its end, little-endian.  A feeder
 * that was killed (not merely interrupted) leaves a file that ends early, perhaps inside a record.
 *
 * Streams.  Each destination of the source (and each key on it, for feeds that share a port) is a stream with its own
 * numbers.  Where the source is a capture of both lines, the same number stands in two streams: or-ing the
 * masks of equal (epoch, seq) gives what the channel was sent.  The feeder's summary (--json) names the streams.
 *
 * A record that says MDBUS_FEEDLOG_REPEAT is one the source itself sent twice, or late: its number has been sent before
 * in this epoch, or was passed.  An expectation is best made without them.
 */
#ifndef MDBUS_FEEDLOG_H
#define MDBUS_FEEDLOG_H

#include <stddef.h>
#include <stdint.h>

#define MDBUS_FEEDLOG_MAGIC "MDFEED1" /* with its NUL: 8 bytes */

struct mdbus_feedlog_hdr {
	char magic[8];
	uint32_t nlines;
	uint32_t nstreams;
};

enum mdbus_feedlog_flag {
	MDBUS_FEEDLOG_UNSEQ = 1,   /* the message has no number; seq is 0 */
	MDBUS_FEEDLOG_RETRANS = 2, /* the source marks it as a retransmission */
	MDBUS_FEEDLOG_REPEAT = 4,  /* its number is not new in this epoch */
	MDBUS_FEEDLOG_CUT = 8,     /* the feeder was stopped before every line had had it */
	MDBUS_FEEDLOG_SERVED = 16, /* it could also be had from the feeder's request server */
};

struct mdbus_feedlog_record {
	uint64_t seq;        /* in arrival order (no sequence field): 1, 2, ... per stream */
	uint64_t hash;       /* mdbus_feedlog_hash of the message as a subscriber gets it, length prefix included */
	uint64_t time_ns;    /* CLOCK_MONOTONIC when the first line sent it, or would have */
	uint64_t session_no; /* 1, and one more at each change of the session's name, per stream */
	uint32_t len;        /* bytes of the message */
	uint16_t stream;
	uint8_t line_mask;   /* bit i: the transport took it on the i-th --line */
	uint8_t flags;       /* enum mdbus_feedlog_flag */
	uint32_t epoch;      /* 1, and one more at each new session or restart of the numbers (a wrap is one), per stream */
	uint32_t pad;        /* 0 */
};

_Static_assert(sizeof(struct mdbus_feedlog_hdr) == 16, "feed log header");
_Static_assert(sizeof(struct mdbus_feedlog_record) == 48, "feed log record");

/* FNV-1a, 64 bits. */
static inline uint64_t mdbus_feedlog_hash(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/*
 * Messages made by `mdbus-feed --generate`, offsets from the first byte a subscriber gets; all but the MoldUDP64 length
 * is little-endian.
 *
 *   moldudp64   0 u16 length, big-endian, of what follows
 *               2 u64 send time, CLOCK_MONOTONIC ns     10 u64 sequence number     18 u32 epoch     22... filler
 *   optiq       the 36-byte struct; send time at 12 in `timestamp`, sequence number at 8, session_id counts every
 *               message and so is a key of its own, filler in `price` and `order_id` and behind byte 36
 *
 * Filler byte i is mdbus_feedlog_filler(seq, epoch, i), so a reader can tell a torn message by itself.
 */
#define MDBUS_FEED_MOLD_TIME   2u
#define MDBUS_FEED_MOLD_SEQ    10u
#define MDBUS_FEED_MOLD_EPOCH  18u
#define MDBUS_FEED_MOLD_FILLER 22u /* also the smallest --size */
#define MDBUS_FEED_OPTIQ_SEQ   8u
#define MDBUS_FEED_OPTIQ_TIME  12u
#define MDBUS_FEED_OPTIQ_PRICE 24u /* filler from here on */
#define MDBUS_FEED_OPTIQ_SIZE  36u

/* Eight bytes of filler; bytes 8k to 8k+7 of a message are word k. */
static inline uint64_t mdbus_feedlog_filler_word(uint64_t seq, uint32_t epoch, uint64_t k)
{
	uint64_t z = seq * UINT64_C(0x9e3779b97f4a7c15) + ((uint64_t)epoch << 32) + (k + 1) * UINT64_C(0xd1342543de82ef95);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Byte i of a generated message, where that is filler. */
static inline uint8_t mdbus_feedlog_filler(uint64_t seq, uint32_t epoch, uint32_t i)
{
	return (uint8_t)(mdbus_feedlog_filler_word(seq, epoch, i / 8) >> (8 * (i % 8)));
}

#endif
