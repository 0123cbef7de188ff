/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus/subscriber.h - reading a bus: the public API of libmdbus.
 *
 *	struct mdbus_sub *s = mdbus_sub_open("nasdaq", NULL, err, sizeof err);
 *	struct mdbus_record r;
 *
 *	for (;;) {
 *		if (!mdbus_sub_next(s, &r)) {           // nothing new on any channel
 *			mdbus_sub_wait(s, 1000000);     // or spin
 *			continue;
 *		}
 *		if (r.kind == MDBUS_RECORD_DATA) {
 *			decide(r.data, r.len);          // zero-copy: look first ...
 *			if (!mdbus_sub_valid(s, &r))    // ... then ask whether what you saw was whole
 *				undo();                 // it changed meanwhile: it, or an OVERRUN, comes next
 *		}
 *	}
 *
 * Every subscriber of a channel sees the same records in the same order: each sequence number once, as DATA, or as
 * part of one GAP (lost on all lines), and a RESET where a session ended.  A subscriber that is too slow is
 * told by an OVERRUN record exactly how many records it has lost, and goes on at the oldest that is still there.
 * Reading costs the producers nothing: the rings are mapped read-only, and no producer ever waits for a reader.
 *
 * A subscriber belongs to one thread.  It keeps running when mdbusd dies, and when lines come and go.  Killed anywhere, it
 * leaves only its seat, which mdbusd takes back.
 */
#ifndef MDBUS_SUBSCRIBER_H
#define MDBUS_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mdbus_sub; /* one subscription: a seat and a position on each channel read */

enum mdbus_record_kind {
	MDBUS_RECORD_DATA = 0,    /* one message */
	MDBUS_RECORD_GAP = 1,     /* `count` numbers from seq on: lost on all lines */
	/*
	 * The session ended before seq; epoch is the one that begins, count its first number.  Where the bus came into the midst of
	 * a session, its records begin at a later one, and it may end without any.
	 */
	MDBUS_RECORD_RESET = 2,
	MDBUS_RECORD_OVERRUN = 3, /* this subscriber was lapped: it lost `count` records */
};

struct mdbus_record {
	uint32_t kind;    /* enum mdbus_record_kind */
	uint32_t channel; /* index; mdbus_sub_channel_name() */
	uint64_t epoch;   /* 1, and one more at each RESET */
	uint64_t seq;     /* sequence number; in arrival order: 1, 2, ... */
	uint64_t count;   /* GAP: numbers lost; OVERRUN: records lost; RESET: first number of the new epoch (see there); DATA: 1 */
	const uint8_t *data; /* DATA: the message, in shared memory, read-only; see mdbus_sub_valid */
	uint32_t len;     /* bytes of it */
	uint32_t line;    /* line that carried it */
	uint64_t rx_ns;   /* when its packet was taken from the queue, CLOCK_MONOTONIC; 0 if the channel is not timed and inline */
	uint8_t retrans;  /* 1: came as a retransmission */
	uint8_t ahead;    /* 1: delivered before an open hole was decided (options.unordered) */
	/* private: what mdbus_sub_valid compares */
	const void *slot;
	uint64_t stamp;
};

enum mdbus_sub_start {
	MDBUS_START_HEAD = 0,   /* only what is published from now on */
	MDBUS_START_OLDEST = 1, /* the oldest record still in each ring */
};

struct mdbus_sub_options {
	const char *name;    /* what this subscriber calls itself in mdbusctl; NULL: the program's name */
	enum mdbus_sub_start start;
	const char *channel; /* read only this channel; NULL: all of them */
	int wait_ms;         /* how long to wait for mdbusd, 0: 5000 */
	bool unordered;      /* while a hole is open, deliver what lies beyond it at once; still each record once */
	/*
	 * For a subscriber that wants all there is at the highest rate rather than each message at once: while messages come without
	 * a break, mdbus_sub_next rests up to some 10 us where it finds no other, and then finds many together.
	 */
	bool bulk;
};

/*
 * Take a seat on a bus and map it.  bus: "NAME" or "NAME/CHANNEL".  options may be NULL.  NULL with errno set and
 * a reason that names the mend in err (may be NULL): ENOENT no such bus or channel, ECONNREFUSED no mdbusd, EACCES not in
 * the subscriber group, ENOSPC no seat left.
 */
struct mdbus_sub *mdbus_sub_open(const char *bus, const struct mdbus_sub_options *options, char *err, size_t errlen);

/* Give the seat back and free everything. NULL is allowed. */
void mdbus_sub_close(struct mdbus_sub *s);

/*
 * The next record of any channel, round robin, in order within each channel.  True and *r filled in, or false: nothing
 * new.  Never waits, never makes a system call.  The message is not copied: r->data stays readable for ever, but its bytes
 * are those of the message only while mdbus_sub_valid says so.
 */
bool mdbus_sub_next(struct mdbus_sub *s, struct mdbus_record *r);

/*
 * True if every byte of r->data read before this call was the message's.  False: forget what you saw; the ring changed
 * under it.  The next mdbus_sub_next of that channel brings the record again, or the OVERRUN that it was lost in.  To be called
 * before the next mdbus_sub_next.  Records that are not DATA are always valid.
 */
bool mdbus_sub_valid(struct mdbus_sub *s, struct mdbus_record *r);

/*
 * As mdbus_sub_next, but copy the message to buf first and deliver only what was whole.  A message longer than cap is
 * delivered cut to cap bytes, with r->len its full length.  r->data is buf.
 */
bool mdbus_sub_read(struct mdbus_sub *s, struct mdbus_record *r, void *buf, size_t cap);

/*
 * Sleep until a record may be there, at most timeout_ns.  Asks the lines for a doorbell only while it sleeps.  May
 * return early; a wake-up costs the sleeper 10 to 50 us, so a subscriber with its own core spins instead.
 */
void mdbus_sub_wait(struct mdbus_sub *s, uint64_t timeout_ns);

uint32_t mdbus_sub_channels(const struct mdbus_sub *s);
const char *mdbus_sub_channel_name(const struct mdbus_sub *s, uint32_t channel); /* NULL: no such channel */
const char *mdbus_sub_line_name(const struct mdbus_sub *s, uint32_t line);       /* NULL: no such line */

/* rx_ns + this is nanoseconds since 1970, as of the bus's creation. */
uint64_t mdbus_sub_wall_offset(const struct mdbus_sub *s);

/* Records between this subscriber and the newest one a line has reported, summed over its channels. */
uint64_t mdbus_sub_lag(const struct mdbus_sub *s);

/* Records this subscriber lost by being lapped so far. */
uint64_t mdbus_sub_overruns(const struct mdbus_sub *s);

#ifdef __cplusplus
}
#endif
#endif
