/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_source.h - where the feeder's packets come from: a capture, or a generator.
 *
 * A source hands over packets one at a time in their order, each already decoded into messages and placed in its
 * stream's numbering, so that everything behind it (lines, log) treats every feed alike.  All calls come from one thread.
 */
#ifndef MDBUS_INGEST_FEED_SOURCE_H
#define MDBUS_INGEST_FEED_SOURCE_H

#include <mdbus/layout.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mdbus_feed_flag {
	MDBUS_FEED_PROTECT = 1,   /* no line may lose, hold back or double it */
	MDBUS_FEED_EPOCH_END = 2, /* the last packet with messages before its stream's numbers start again, or end */
	MDBUS_FEED_WHOLE = 4,     /* not to be taken apart and packed anew: an event, a retransmission, malformed */
	MDBUS_FEED_BARRIER = 8,   /* what a line holds back goes out first */
	MDBUS_FEED_MADE = 16,     /* not from the source: a heartbeat of the feeder's own */
	MDBUS_FEED_NUMBERED = 32, /* its header is one of the stream's current epoch, and `next` is true after it */
};

struct mdbus_feed_packet {
	const uint8_t *data; /* valid until the next call to the source */
	uint32_t len;
	uint16_t stream;
	uint8_t flags;       /* enum mdbus_feed_flag */
	uint8_t log_flags;   /* enum mdbus_feedlog_flag of its messages */
	uint32_t epoch;
	uint32_t nmsg;       /* 0 for a heartbeat and the like */
	uint64_t session_no;
	uint64_t session;    /* hash of the session's name */
	uint64_t next;       /* number that the stream has reached after this packet */
	const struct mdbus_message *msg;
};

/* When a packet is to be sent, in the source's own terms. */
struct mdbus_feed_when {
	uint64_t message; /* how many messages went before it, over all streams */
	uint64_t ts_ns;   /* file time since the first packet; 0 if generated */
};

struct mdbus_feed_source {
	const struct mdbus_layout *layout;
	uint32_t nstream;
	uint32_t max_payload; /* bytes of its largest packet */
	bool idle_heartbeats; /* the feeder is to fill pauses with heartbeats (a capture has its own) */
	/* When the next packet is due, or false at the end. */
	bool (*peek)(struct mdbus_feed_source *s, struct mdbus_feed_when *when);
	/* The next packet; only after peek said there is one. */
	void (*take)(struct mdbus_feed_source *s, struct mdbus_feed_packet *out);
	/* Name of a stream: "ADDR:PORT" or "ADDR:PORT|KEY". Static for the source's life. */
	const char *(*stream_name)(const struct mdbus_feed_source *s, uint32_t stream);
	/* Destination of a stream in the capture, network byte order; false: generated. */
	bool (*stream_addr)(const struct mdbus_feed_source *s, uint32_t stream, uint32_t *addr, uint16_t *port);
	/* Leave a stream out, before the first peek.  Its number stays taken. NULL: cannot. */
	void (*drop)(struct mdbus_feed_source *s, uint32_t stream);
	void (*close)(struct mdbus_feed_source *s);
};

struct mdbus_feed_pcap_options {
	const char *path;
	const struct mdbus_layout *layout; /* must outlive the source */
	uint64_t idle_max_ns;   /* longer pauses in the file are cut to this; 0: kept */
	uint32_t loops;         /* play the file so many times, at least 1 */
	uint32_t protect_first; /* packets at the start of each epoch that are exempt from loss */
	uint32_t protect_last;  /* packets at its end */
};

/*
 * Read a whole capture into memory.  Returns a source, or NULL with a reason in err.  Packets that are not UDP are
 * left out; packets the layout refuses are kept and sent, but carry no messages.  *malformed counts those.
 */
struct mdbus_feed_source *mdbus_feed_pcap_open(const struct mdbus_feed_pcap_options *options, uint64_t *malformed,
                                               char *err, size_t errlen);

enum mdbus_feed_restart {
	MDBUS_FEED_RESTART_SESSION = 0, /* a new session name, numbers from 1 */
	MDBUS_FEED_RESTART_SEQ,         /* numbers from 1 in the same session */
};

struct mdbus_feed_gen_options {
	const char *kind;       /* "moldudp64" or "optiq" */
	const char *session;    /* MoldUDP64 session, up to 10 characters; NULL: "MDBUS00001" */
	uint64_t count;         /* messages; 0: no end */
	uint64_t restart_every; /* messages to an epoch; 0: one epoch */
	enum mdbus_feed_restart restart;
	uint32_t size;          /* bytes of a message as delivered; 0: the smallest, or 36 */
	uint32_t pack;          /* messages to a packet, at least 1; optiq: 1 */
	uint32_t protect_first, protect_last;
};

/* A generator; its messages are described in mdbus/feedlog.h. NULL with a reason in err. */
struct mdbus_feed_source *mdbus_feed_gen_open(const struct mdbus_feed_gen_options *options, char *err, size_t errlen);

#endif
