/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_serve.h - the feeder as a MoldUDP64 request server.
 *
 * Keeps what the source has sent, the newest of each of the newest sessions, and answers requests for it (bus/mold.h)
 * with ordinary packets.  What lies beyond is answered by a heartbeat that says how far the session has come; a
 * session it does not know, or has let go, by nothing.  Answers can be cut short, lost and late on purpose.  Private
 * memory, the feeder's one thread.
 */
#ifndef MDBUS_INGEST_FEED_SERVE_H
#define MDBUS_INGEST_FEED_SERVE_H

#include "feed_source.h"
#include "feed_tx.h"

/* --serve, as given. */
struct mdbus_feed_serve_spec {
	struct mdbus_feed_dest at; /* port 0: do not serve */
	uint32_t truncate;         /* messages to an answer at most, 0: as many as fit */
	double loss;               /* probability that an answer is not sent */
	uint64_t delay_ns;         /* from the request to the answer */
};

struct mdbus_feed_serve_stats {
	uint64_t requests, malformed;
	uint64_t answers, messages, heartbeats; /* sent */
	uint64_t lost;      /* answers left out on purpose */
	uint64_t unknown;   /* requests for what is not kept */
	uint64_t overflow;  /* requests dropped: too many wait for their time */
};

struct mdbus_feed_serve;

/* Bind the socket.  NULL with a reason in err: the address, or a layout that is not MoldUDP64's. */
struct mdbus_feed_serve *mdbus_feed_serve_open(const struct mdbus_feed_serve_spec *spec,
                                               const struct mdbus_layout *layout, uint64_t seed, char *err,
                                               size_t errlen);

/* The source has sent p: keep its messages.  0 or -ENOMEM. */
int mdbus_feed_serve_keep(struct mdbus_feed_serve *s, const struct mdbus_feed_packet *p);

/* Take the requests that have come and send the answers that are due at now_ns of CLOCK_MONOTONIC. */
void mdbus_feed_serve_poll(struct mdbus_feed_serve *s, uint64_t now_ns);

/* Sleep until a request comes, an answer is due, or wait_ns have passed. */
void mdbus_feed_serve_wait(const struct mdbus_feed_serve *s, uint64_t wait_ns);

const struct mdbus_feed_serve_stats *mdbus_feed_serve_stats(const struct mdbus_feed_serve *s);

void mdbus_feed_serve_close(struct mdbus_feed_serve *s);

#endif
