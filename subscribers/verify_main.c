/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_main.c - mdbus-verify: read a bus like any subscriber, then hold what came against what the feeder sent.
 *
 * While it reads it only hashes and counts (verify_track.c), so that it keeps up; the log is read when the reading has
 * ended.  A reader that was lapped cannot vouch for what it missed, so an overrun fails the run unless it is allowed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mdbus/atomics.h>
#include "tool.h"
#include "verify.h"
#include "verify_args.h"

#define DOWNS_MAX    4096u
#define LINES        8u
#define WAIT_NS      10000000u
#define DRAIN_NS     UINT64_C(500000000) /* after a signal: quiet for so long is the end */

static const struct mdbus_tool tool = {
	.name = "mdbus-verify",
	.synopsis = "BUS[/CHANNEL] --log FILE",
	.about = "Reads the bus until it is idle or a signal comes (then what is there to the end, until half a second of\n"
		 "silence; a second signal ends it without a verdict), then reads the log that mdbus-feed --log wrote and says\n"
		 "whether every message was delivered once, in order and whole, or announced as a gap that the log explains.\n"
		 "Prints \"mdbus-verify: attached\" when it is ready (to stderr with --json). Start the feeder after that.\n"
		 "A gap is explained if the number was lost on all lines, was never sent by the source, or was carried only by\n"
		 "lines that were down when it was sent (--down, --downs; LINE is a name, or the position among the feeder's\n"
		 "--line; line names stand for positions in the configuration, so give both in the same order).\n"
		 "The streams of the log belong to the channels in order, unless --streams says otherwise; a capture of both\n"
		 "lines has two streams for one channel: --streams itch=0+1.\n"
		 "Exit status: 0 all holds, 1 something does not, 2 wrong arguments.\n",
};

static struct {
	int json, spin, until_idle_ms, allow_overruns;
	char *log, *downs, *from, *streams, *unordered;
	char **down;
} opt;

static const struct poptOption options[] = {
	{ "log", 'l', POPT_ARG_STRING, &opt.log, 0, "What the feeder sent", "FILE" },
	{ "until-idle-ms", 0, POPT_ARG_INT, &opt.until_idle_ms, 0,
	  "Judge when no record came for N ms, the first one excepted", "N" },
	{ "from", 'f', POPT_ARG_STRING, &opt.from, 0, "Start at new records (head) or the oldest still there", "head|oldest" },
	{ "down", 0, POPT_ARG_ARGV, &opt.down, 0, "LINE was down from T0 to T1 (CLOCK_MONOTONIC), may be repeated",
	  "LINE:T0_NS:T1_NS" },
	{ "downs", 0, POPT_ARG_STRING, &opt.downs, 0, "A file of such intervals, one a line, read when the reading has ended",
	  "FILE" },
	{ "streams", 0, POPT_ARG_STRING, &opt.streams, 0, "Streams of the log by channel", "CH=IDX[+IDX],..." },
	{ "unordered", 0, POPT_ARG_STRING, &opt.unordered, 0, "Channels in arrival order: matched by content", "CH,..." },
	{ "allow-overruns", 0, POPT_ARG_NONE, &opt.allow_overruns, 0, "Do not fail for what this reader was too slow for", NULL },
	{ "json", 'j', POPT_ARG_NONE, &opt.json, 0, "The verdict as one JSON object", NULL },
	{ "spin", 0, POPT_ARG_NONE, &opt.spin, 0, "Never sleep: for a core of its own", NULL },
	POPT_TABLEEND
};

struct verify {
	struct mdbus_sub *sub;
	uint32_t nchannel;
	uint32_t only; /* BUS/CHANNEL: its index; else UINT32_MAX */
	struct mdbus_track *track; /* [nchannel] */
	struct mdbus_verdict *verdict;
	struct mdbus_report_row *row;
	bool *unordered;
	uint32_t *part_of; /* by stream of the log */
	struct mdbus_log log;
	struct mdbus_down down[DOWNS_MAX];
	uint32_t ndown;
	uint64_t attach_ns;
};

/* ---- reading --------------------------------------------------------------------------------------------------- */

static void take(struct verify *v, struct mdbus_record *r)
{
	struct mdbus_track *t = &v->track[r->channel < v->nchannel ? r->channel : 0];
	uint64_t hash;

	switch (r->kind) {
	case MDBUS_RECORD_DATA:
		hash = mdbus_feedlog_hash(r->data, r->len);
		if (mdbus_sub_valid(v->sub, r)) /* else it, or an overrun, comes next */
			mdbus_track_message(t, r->epoch, r->seq, hash, r->len);
		break;
	case MDBUS_RECORD_GAP:
		mdbus_track_gap(t, r->epoch, r->seq, r->count);
		break;
	case MDBUS_RECORD_RESET:
		mdbus_track_reset(t, r->epoch, r->seq, r->count);
		break;
	default:
		mdbus_track_overrun(t, r->count);
	}
}

/*
 * True when the reading is over: no record for long enough, the newest one having come at `last`.  After a signal (which
 * came at `signal`; 0: none) everything that is there is read first, however long that takes: what this process has not
 * got round to is not lost.
 */
static bool over(uint64_t now, uint64_t last, uint64_t signal, bool any)
{
	if (signal != 0)
		return now - (last > signal ? last : signal) >= DRAIN_NS;
	return any && opt.until_idle_ms > 0 && now - last >= (uint64_t)opt.until_idle_ms * 1000000u;
}

/* False: a second signal ended it before everything there had been read. */
static bool read_bus(struct verify *v)
{
	uint64_t last = mdbus_clock_ns(), signal = 0;
	uint32_t misses = 0;
	struct mdbus_record r;
	bool any = false;

	while (mdbus_tool_stopped() < 2) {
		if (mdbus_sub_next(v->sub, &r)) {
			take(v, &r);
			any = true;
			misses = 0;
			continue;
		}
		uint64_t now = mdbus_clock_ns();

		if (misses == 0)
			last = now;
		if (signal == 0 && mdbus_tool_stopped())
			signal = now;
		if (over(now, last, signal, any))
			return true;
		mdbus_tool_idle(v->sub, misses++, opt.spin, WAIT_NS);
	}
	return false;
}

/* ---- arguments ------------------------------------------------------------------------------------------------- */

static uint32_t find_channel(const void *of, const char *name, size_t len)
{
	const struct verify *v = of;

	for (uint32_t i = 0; i < v->nchannel; i++) {
		const char *n = mdbus_sub_channel_name(v->sub, i);

		if (n != NULL && strlen(n) == len && memcmp(n, name, len) == 0)
			return i;
	}
	return UINT32_MAX;
}

static uint32_t find_line(const void *of, const char *name, size_t len)
{
	const struct verify *v = of;

	for (uint32_t i = 0; i < LINES; i++) {
		const char *n = mdbus_sub_line_name(v->sub, i);

		if (n != NULL && strlen(n) == len && memcmp(n, name, len) == 0)
			return i;
	}
	return UINT32_MAX;
}

static bool add_down(struct verify *v, const char *text, char *err, size_t errlen)
{
	if (v->ndown == DOWNS_MAX) {
		snprintf(err, errlen, "more than %u --down", DOWNS_MAX);
		return false;
	}
	return mdbus_args_down(text, find_line, v, &v->down[v->ndown++], err, errlen);
}

/* Everything that can be said about the arguments before the run, so that a mistake does not cost one. */
static bool check_arguments(struct verify *v, const char *bus)
{
	const char *slash = strchr(bus, '/');
	char err[256];

	v->only = slash ? find_channel(v, slash + 1, strlen(slash + 1)) : UINT32_MAX;
	for (char **d = opt.down; d != NULL && *d != NULL; d++)
		if (!add_down(v, *d, err, sizeof(err)))
			goto wrong;
	if (opt.unordered && !mdbus_args_channels(opt.unordered, find_channel, v, v->unordered, err, sizeof(err)))
		goto wrong;
	return true;
wrong:
	mdbus_tool_error(&tool, "%s", err);
	return false;
}

/* The intervals that were not known yet when the reading began. */
static bool read_downs(struct verify *v, char *err, size_t errlen)
{
	FILE *f = opt.downs ? fopen(opt.downs, "r") : NULL;
	char line[128];
	bool ok = true;

	if (f == NULL) {
		if (opt.downs)
			snprintf(err, errlen, "%s: %s", opt.downs, strerror(errno));
		return opt.downs == NULL;
	}
	while (ok && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		ok = line[0] == '\0' || add_down(v, line, err, errlen);
	}
	fclose(f);
	return ok;
}

/* Streams to channels: as told, or in order. */
static bool assign_streams(struct verify *v, char *err, size_t errlen)
{
	v->part_of = calloc(v->log.nstreams ? v->log.nstreams : 1u, sizeof(*v->part_of));
	if (v->part_of == NULL) {
		snprintf(err, errlen, "out of memory");
		return false;
	}
	if (opt.streams)
		return mdbus_args_streams(opt.streams, find_channel, v, v->part_of, v->log.nstreams, err, errlen);
	if (v->log.nstreams > v->nchannel) {
		snprintf(err, errlen, "the log has %u streams and the bus %u channels: say --streams CH=IDX[+IDX],...",
		         v->log.nstreams, v->nchannel);
		return false;
	}
	for (uint32_t s = 0; s < v->log.nstreams; s++)
		v->part_of[s] = s;
	return true;
}

/* ---- judging --------------------------------------------------------------------------------------------------- */

/* True if this channel's records are to be held against the log: it was read, and streams (or records) are there. */
static bool concerns(const struct verify *v, uint32_t channel)
{
	bool told = false;

	if (v->only != UINT32_MAX && channel != v->only)
		return false;
	for (uint32_t s = 0; s < v->log.nstreams; s++)
		told |= v->part_of[s] == channel;
	return told || !opt.streams;
}

static int judge(struct verify *v)
{
	struct mdbus_judge j = {
		.log = &v->log,
		.down = v->down,
		.ndown = v->ndown,
		.attach_ns = v->attach_ns,
		.allow_overruns = opt.allow_overruns,
	};
	struct mdbus_verdict sum = { .pass = true };
	uint32_t nrow = 0;

	for (uint32_t c = 0; c < v->nchannel; c++) {
		struct mdbus_verdict *row = &v->verdict[nrow];
		int rc;

		if (!concerns(v, c))
			continue;
		mdbus_track_finish(&v->track[c]);
		rc = (v->unordered[c] ? mdbus_judge_unordered : mdbus_judge_channel)(&j, &v->track[c], &v->log.part[c], row);
		if (rc < 0)
			return rc;
		mdbus_verdict_add(&sum, row);
		v->row[nrow++] = (struct mdbus_report_row){ mdbus_sub_channel_name(v->sub, c), row };
	}
	sum.pass = sum.pass && sum.matched > 0;
	if (opt.json)
		mdbus_report_json(stdout, v->row, nrow, &sum);
	else
		mdbus_report_text(stdout, v->row, nrow, &sum, opt.allow_overruns);
	return sum.pass ? MDBUS_TOOL_OK : MDBUS_TOOL_FAIL;
}

static int verdict(struct verify *v)
{
	char err[512] = "";
	int rc = mdbus_log_open(&v->log, opt.log, err, sizeof(err));

	if (rc == 0 && (!read_downs(v, err, sizeof(err)) || !assign_streams(v, err, sizeof(err))))
		rc = -1;
	if (rc == 0) {
		rc = mdbus_log_index(&v->log, v->part_of, v->nchannel);
		if (rc == 0 && (rc = judge(v)) >= 0)
			return rc;
		snprintf(err, sizeof(err), "%s: %s", opt.log, strerror(-rc));
	}
	mdbus_tool_error(&tool, "%s", err);
	return MDBUS_TOOL_FAIL;
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

static bool setup(struct verify *v)
{
	size_t n;

	v->nchannel = mdbus_sub_channels(v->sub);
	n = v->nchannel ? v->nchannel : 1u;
	v->track = calloc(n, sizeof(*v->track));
	v->verdict = calloc(n, sizeof(*v->verdict));
	v->row = calloc(n, sizeof(*v->row));
	v->unordered = calloc(n, sizeof(*v->unordered));
	return v->track && v->verdict && v->row && v->unordered;
}

static void teardown(struct verify *v)
{
	for (uint32_t c = 0; v->track != NULL && c < v->nchannel; c++)
		mdbus_track_free(&v->track[c]);
	mdbus_log_close(&v->log);
	mdbus_sub_close(v->sub);
	free(v->track);
	free(v->verdict);
	free(v->row);
	free(v->unordered);
	free(v->part_of);
}

static int run(struct verify *v, const char *bus)
{
	v->sub = mdbus_tool_open(&tool, bus, opt.from, false);
	if (v->sub == NULL)
		return MDBUS_TOOL_FAIL;
	v->attach_ns = mdbus_clock_ns(); /* after the positions are taken: what is sent from now on must come */
	if (!setup(v)) {
		mdbus_tool_error(&tool, "out of memory");
		return MDBUS_TOOL_FAIL;
	}
	if (!check_arguments(v, bus))
		return MDBUS_TOOL_USAGE;
	fprintf(opt.json ? stderr : stdout, "%s: attached\n", tool.name);
	fflush(NULL);
	if (read_bus(v))
		return verdict(v);
	mdbus_tool_error(&tool, "ended by a second signal before everything was read: no verdict");
	return MDBUS_TOOL_FAIL;
}

int main(int argc, char **argv)
{
	static struct verify v;
	char *bus;
	int status;

	if (!mdbus_tool_parse(&tool, argc, argv, options, &bus, &status))
		return status;
	if (opt.log == NULL || opt.until_idle_ms < 0) {
		mdbus_tool_error(&tool, opt.log ? "--until-idle-ms takes a positive number"
		                                : "say --log FILE: what mdbus-feed --log wrote");
		free(bus);
		return MDBUS_TOOL_USAGE;
	}
	mdbus_tool_signals();
	status = run(&v, bus);
	teardown(&v);
	free(bus);
	return status;
}
