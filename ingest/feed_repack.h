/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_repack.h - one stream's messages, packed into packets differently.
 *
 * Exchanges may pack line B otherwise than line A; the message numbers stay.  Messages of consecutive numbers and one
 * session are gathered until a packet is full; its header is that of the packet its first message came in, with sequence,
 * count, length and packet number written anew.  Only for layouts that number messages.
 */
#ifndef MDBUS_INGEST_FEED_REPACK_H
#define MDBUS_INGEST_FEED_REPACK_H

#include "feed_source.h"

struct mdbus_feed_run {
	uint64_t first; /* log records [first, first + n) */
	uint64_t n;
};

struct mdbus_feed_repack {
	const struct mdbus_layout *layout;
	uint32_t want, cap;  /* messages to a packet, bytes to a packet */
	uint32_t count, len; /* messages and bytes gathered; count 0: empty */
	uint64_t seq, next;  /* number of the first, and of the one that may follow */
	uint64_t session;
	uint64_t since_ns;   /* when the first one was due */
	uint64_t pktseq;     /* number of the next packet, valid if numbered */
	bool numbered;
	uint8_t flags;       /* of the packets gathered */
	uint32_t nrun;
	struct mdbus_feed_run *run; /* [MDBUS_FEED_REPACK_RUNS] */
	uint8_t *data;              /* [cap] */
};

enum { MDBUS_FEED_REPACK_RUNS = 256 };

/* True if packets of this layout can be packed anew. */
bool mdbus_feed_repack_can(const struct mdbus_layout *l);

/* 0 or -ENOMEM. */
int mdbus_feed_repack_open(struct mdbus_feed_repack *r, const struct mdbus_layout *l, uint32_t want, uint32_t cap);
void mdbus_feed_repack_close(struct mdbus_feed_repack *r);

/* True if message i of p cannot join what is gathered: take the packet first. */
bool mdbus_feed_repack_full(const struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint32_t i);

/* True if the packet is complete with message i of p, just gathered. */
bool mdbus_feed_repack_done(const struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint32_t i);

/* Gather message i of p, record `record`, due at due_ns. Not when full. */
void mdbus_feed_repack_add(struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint32_t i,
                           uint64_t record, uint64_t due_ns);

/* Finish the packet in r->data[0..r->len): its header is complete.  The caller then empties it with reset. */
void mdbus_feed_repack_finish(struct mdbus_feed_repack *r);
void mdbus_feed_repack_reset(struct mdbus_feed_repack *r);

/* A packet passed as it is, in `data`: give it its packet number. */
void mdbus_feed_repack_pass(struct mdbus_feed_repack *r, const struct mdbus_feed_packet *p, uint8_t *data);

#endif
