/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_run.h - the feeder's one loop: a source, up to eight lines, a log.
 *
 * One thread does everything, so that what happened is what the log says: it takes what is due from the source, gives it
 * to each line that carries its stream, lets the lines send, and sleeps or spins until the next thing is due.
 *
 * The end of every epoch of every stream is made known on every line, so a loss there is a gap and not a secret: by a heartbeat
 * that no line may lose, or, if the layout has none, by protecting the epoch's last packet.
 */
#ifndef MDBUS_INGEST_FEED_RUN_H
#define MDBUS_INGEST_FEED_RUN_H

#include "feed_line.h"
#include "feed_pace.h"
#include "feed_serve.h"
#include <signal.h>

#define MDBUS_FEED_LINES_MAX 8u

struct mdbus_feed_run_config {
	struct mdbus_feed_source *source;
	const struct mdbus_feed_line_spec *spec;
	uint32_t nline;
	const struct mdbus_feed_tx_ops *ops;
	struct mdbus_feed_pace pace;
	uint64_t seed;
	const char *log_path;  /* NULL: none */
	uint64_t linger_ns;    /* after the last message, with heartbeats */
	uint64_t heartbeat_ns; /* a generated stream that is silent for so long sends one; 0: never */
	bool end_session;      /* close with an end of session, if the layout has one */
	const struct mdbus_feed_serve_spec *serve; /* be a request server too; NULL: no */
	const volatile sig_atomic_t *stop; /* 1: end the run in order; 2: now */
};

struct mdbus_feed_result {
	struct mdbus_feed_log_totals log;
	struct mdbus_feed_line_stats line[MDBUS_FEED_LINES_MAX];
	struct mdbus_feed_serve_stats serve;
	uint64_t source_packets;
	uint64_t duration_ns; /* first to last message, without the linger */
};

/*
 * Check everything, open transports and log, run, close; a request server answers until the linger is over.  Returns 0,
 * or -errno with a reason in err; after a failure before the run no log is left behind.  The source stays the caller's.
 */
int mdbus_feed_run(const struct mdbus_feed_run_config *config, struct mdbus_feed_result *result, char *err,
                   size_t errlen);

#endif
