/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_log.h - the feeder's account of what it sent, message by message.
 *
 * A record is opened when the source gives the message and completed when each line that carries its stream has sent
 * or lost it, which for a line with skew is later.  Completed records go to the file in the order of the source; the
 * rest wait in memory, so memory grows with the skew, not with the run.  Without a file the account is kept all the
 * same, for the totals.
 */
#ifndef MDBUS_INGEST_FEED_LOG_H
#define MDBUS_INGEST_FEED_LOG_H

#include <mdbus/feedlog.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct mdbus_feed_log;

/* path NULL: totals only.  Returns NULL with a reason in err. */
struct mdbus_feed_log *mdbus_feed_log_open(const char *path, uint32_t nlines, uint32_t nstreams, char *err,
                                           size_t errlen);

/*
 * Open a record for a message that `lines` lines carry (at least 1).  Returns its number: 0, 1, ...  time_ns, line_mask and
 * pad of *r are set here.  After an error (mdbus_feed_log_error) it is UINT64_MAX, which resolve ignores.
 */
uint64_t mdbus_feed_log_add(struct mdbus_feed_log *log, const struct mdbus_feedlog_record *r, uint32_t lines);

/* Line `line` is done with records [first, first + n): it sent them, or lost them.  Once for each line and record. */
void mdbus_feed_log_resolve(struct mdbus_feed_log *log, uint64_t first, uint64_t n, uint32_t line, bool sent,
                            uint64_t now_ns);

/* 0, or the -errno that stopped the log (disk full, no memory). */
int mdbus_feed_log_error(const struct mdbus_feed_log *log);

struct mdbus_feed_log_totals {
	uint64_t messages;
	uint64_t lost_all; /* on every line */
	uint64_t cut;      /* still open when the log was closed */
};

/* What can be done about such an error, to be appended to its text. */
const char *mdbus_feed_log_mend(int rc);

/* Close the records still open as CUT, write everything, close the file, free.  Returns 0 or -errno. */
int mdbus_feed_log_close(struct mdbus_feed_log *log, struct mdbus_feed_log_totals *totals);

/* Write a log as text. Returns 0, or -errno with a reason in err; a file that ends early is read as far as it goes. */
int mdbus_feed_log_print(const char *path, FILE *out, char *err, size_t errlen);

#endif
