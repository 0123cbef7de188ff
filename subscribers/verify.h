/* SPDX-License-Identifier: Apache-2.0
 *
 * verify.h - what was delivered, held against what was sent.
 *
 * The verifier is a subscriber with a memory.  While the bus runs, a *track* per channel checks that each record
 * stands exactly where the one before it says (previous number + 1, or the gap, reset or overrun announced), and keeps what
 * came: spans of consecutive numbers, and for each message its hash and length (12 bytes a message).  Afterwards the
 * feeder's *log* says what was sent, and on which lines; *judging* walks track and log side by side, so that every number
 * of either is accounted for exactly once, as one of the rows of the verdict.
 *
 * Nothing here knows where records come from: unit tests drive a track with recorded runs and faults put into them.
 * All of it is private memory of one thread.
 */
#ifndef MDBUS_SUBSCRIBERS_VERIFY_H
#define MDBUS_SUBSCRIBERS_VERIFY_H

#include <mdbus/feedlog.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- faults: the first few are kept to be shown ---------------------------------------------------------------- */

enum mdbus_fault_kind {
	MDBUS_FAULT_DUPLICATE = 0, /* a number delivered before */
	MDBUS_FAULT_DISORDER,      /* a record that is not the next one, or a hole nobody announced */
	MDBUS_FAULT_TORN,          /* other bytes than were sent under this number */
	MDBUS_FAULT_UNSENT,        /* delivered, though according to the log no line ever sent it */
	MDBUS_FAULT_LOST,          /* carried by a line that was up, yet not delivered */
	MDBUS_FAULT_OVERRUN_COUNT, /* an overrun whose count is not the numbers it spans */
	MDBUS_FAULT_RESETS,        /* more or fewer resets than the log has */
	MDBUS_FAULT_KINDS,
};

struct mdbus_fault {
	enum mdbus_fault_kind kind;
	uint64_t epoch, seq, count; /* `count` numbers from seq on */
	uint64_t line_mask, time_ns; /* LOST: of the first of them, from the log */
	uint64_t due_epoch, due_seq; /* DISORDER: where the record should have stood */
};

#define MDBUS_FAULTS_KEPT 12u

struct mdbus_faults {
	struct mdbus_fault kept[MDBUS_FAULTS_KEPT];
	uint32_t n;
};

/* Keep a fault, or let the last one kept grow by it when it continues that. */
void mdbus_faults_add(struct mdbus_faults *f, enum mdbus_fault_kind kind, uint64_t epoch, uint64_t seq, uint64_t count);
const char *mdbus_fault_name(enum mdbus_fault_kind kind);

/* ---- track: one channel as it was delivered -------------------------------------------------------------------- */

enum mdbus_span_kind { MDBUS_SPAN_DATA = 0, MDBUS_SPAN_GAP, MDBUS_SPAN_OVERRUN };

#define MDBUS_SPAN_OPEN UINT64_MAX /* OVERRUN: end unknown, to the end of the epoch */

/* Numbers [seq, end) of one epoch; spans of a track are in order and do not overlap. */
struct mdbus_span {
	uint64_t epoch, seq, end;
	uint64_t first;    /* DATA: index of the first message in the track's store */
	uint64_t claimed;  /* OVERRUN: records its record claimed lost; 0: the claim stands in another span */
	uint32_t kind;     /* enum mdbus_span_kind */
};

struct mdbus_track {
	struct mdbus_span *span;
	size_t nspan, cap_span;
	struct mdbus_chunk **chunk; /* messages in order of delivery */
	size_t nchunk, cap_chunk;
	uint64_t nmessage;

	bool started;          /* epoch and next are known */
	bool entered;          /* a reset was the last record: the first number of an epoch entered midstream, or its end, may be later */
	bool overrun_pending;  /* an overrun was told; the next record says how far it went */
	uint64_t overrun_claimed;
	uint64_t epoch, next;  /* where the next record must stand */

	uint64_t gap_records, gaps; /* GAP records, and the numbers in them */
	uint64_t resets;            /* RESET records */
	uint64_t overruns;          /* records lost to this reader */
	uint64_t duplicates, disorders;
	bool no_memory;             /* something was not kept: no verdict is possible */
	struct mdbus_faults faults;
};

/* One call per record, in order of delivery. A zeroed track is an empty one. */
void mdbus_track_message(struct mdbus_track *t, uint64_t epoch, uint64_t seq, uint64_t hash, uint32_t len);
void mdbus_track_gap(struct mdbus_track *t, uint64_t epoch, uint64_t seq, uint64_t count);
void mdbus_track_reset(struct mdbus_track *t, uint64_t epoch, uint64_t seq, uint64_t first);
void mdbus_track_overrun(struct mdbus_track *t, uint64_t count);
/* Call once after the last record, before judging. */
void mdbus_track_finish(struct mdbus_track *t);
void mdbus_track_free(struct mdbus_track *t);

uint64_t mdbus_track_hash(const struct mdbus_track *t, uint64_t i);
uint32_t mdbus_track_len(const struct mdbus_track *t, uint64_t i);

/* ---- log: what the feeder sent --------------------------------------------------------------------------------- */

/* One epoch of a channel's numbers: index[first .. first + n) in order of seq. */
struct mdbus_log_epoch {
	uint32_t epoch;
	uint32_t first, n;
};

/* What was sent for one channel: one stream of the log, or several (a capture has each line's copy as a stream). */
struct mdbus_log_part {
	uint32_t *index; /* record numbers, by (epoch, seq); messages without a number are left out */
	uint32_t n;
	struct mdbus_log_epoch *epoch;
	uint32_t nepoch;
};

struct mdbus_log {
	const struct mdbus_feedlog_record *record;
	uint64_t n;
	uint32_t nlines, nstreams;
	struct mdbus_log_part *part;
	uint32_t npart;
	void *map; /* the file; NULL: the records are the caller's */
	size_t map_size;
};

#define MDBUS_LOG_NO_PART UINT32_MAX

/*
 * Map a log file and check its header.  0 or -errno with a reason in err.  mdbus_log_close afterwards in either case;
 * a zeroed log is a closed one.
 */
int mdbus_log_open(struct mdbus_log *log, const char *path, char *err, size_t errlen);

/*
 * Sort the records into `npart` parts: stream s belongs to part_of[s], or to none.  0, -EBADMSG (a record names a stream
 * that the header does not have), -ENOMEM.
 */
int mdbus_log_index(struct mdbus_log *log, const uint32_t *part_of, uint32_t npart);
void mdbus_log_close(struct mdbus_log *log);

/* ---- judging --------------------------------------------------------------------------------------------------- */

/* Line `line` (position among the feeder's --line) was down from t0 to t1, ns of CLOCK_MONOTONIC. */
struct mdbus_down {
	uint32_t line;
	uint64_t t0_ns, t1_ns;
};

struct mdbus_judge {
	const struct mdbus_log *log;
	const struct mdbus_down *down;
	uint32_t ndown;
	uint64_t attach_ns; /* a message sent earlier may have gone before the first record read */
	bool allow_overruns;
};

/*
 * One channel's rows.  Every message of the log is in exactly one of: matched, torn, gap_lost, gap_down, gap_carried,
 * edge_lost, edge_down, edge_carried, unproven, before.
 */
struct mdbus_verdict {
	uint64_t sent;        /* numbers in the log, without `before` */
	uint64_t before;      /* sent before this reader attached and never seen: not judged */
	uint64_t delivered;   /* messages delivered, duplicates left out */
	uint64_t matched;     /* of those, the ones whose bytes are as sent */
	uint64_t duplicates, disorders, torn, unsent;
	uint64_t gap_expected, gap_actual; /* numbers: what the log says must be a gap, and what was announced as one */
	uint64_t gap_lost;       /* in a gap, and lost on all lines */
	uint64_t gap_down;       /* in a gap, and carried only by a line that was down */
	uint64_t gap_carried;    /* in a gap, though a line that was up carried it */
	uint64_t gap_never_sent; /* in a gap, and the source never sent the number */
	uint64_t edge_lost;    /* lost on all lines where nothing later shows it: ends of epochs and of the run */
	uint64_t edge_down;
	uint64_t edge_carried; /* carried, and neither delivered nor in a gap */
	uint64_t resets_expected, resets_actual;
	uint64_t overruns, unproven; /* records lost to this reader; messages of the log in those */
	uint64_t overrun_inexact;
	bool pass;
	struct mdbus_faults faults;
};

/* Judge a track against what was sent for its channel (NULL: nothing). 0 or -ENOMEM. */
int mdbus_judge_channel(const struct mdbus_judge *j, const struct mdbus_track *t,
                        const struct mdbus_log_part *sent, struct mdbus_verdict *v);
/* As above for a channel in arrival order: each message carried must be there, in any order, no oftener than it was sent. */
int mdbus_judge_unordered(const struct mdbus_judge *j, const struct mdbus_track *t,
                          const struct mdbus_log_part *sent, struct mdbus_verdict *v);
/* The sums of two verdicts; passes if both do. */
void mdbus_verdict_add(struct mdbus_verdict *sum, const struct mdbus_verdict *v);

/* One row of a report: a channel and its verdict. */
struct mdbus_report_row {
	const char *channel;
	const struct mdbus_verdict *verdict;
};

/* Shared by both ways of judging. */
bool mdbus_judge_carried(const struct mdbus_judge *j, const struct mdbus_feedlog_record *r);
void mdbus_judge_conclude(const struct mdbus_judge *j, struct mdbus_verdict *v);

void mdbus_report_text(FILE *f, const struct mdbus_report_row *row, uint32_t nrow, const struct mdbus_verdict *sum,
                       bool allow_overruns);
void mdbus_report_json(FILE *f, const struct mdbus_report_row *row, uint32_t nrow, const struct mdbus_verdict *sum);

#endif
