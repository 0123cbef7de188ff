/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_run.c - the loop.
 *
 * Time in here is schedule time (feed_pace.h), ns after the start.  The three kinds of things that can be due are
 * the source's next packet, a heartbeat of the feeder's own, and something on a line; whatever is earliest goes first.
 * A line whose transport is busy stops the source, not the other lines.
 */
#include "feed_run.h"
#include "feed_build.h"
#include "feed_repack.h"
#include "feed_route.h"
#include <errno.h>
#include <mdbus/atomics.h>
#include <mdbus/lease.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define PUSH_MAX  32u        /* source packets between two looks at the lines */
#define SPIN_NS   60000u     /* shorter waits are spun: a sleep ends that much late */
#define SLEEP_MAX 100000000u /* look at the stop flag from time to time */
#define TAIL      4u         /* heartbeats at the end: at once, and after each third of the linger */

/* What is known of a stream: enough to say by a heartbeat how far it has come. */
struct stream {
	bool begun;
	uint64_t next;
	uint32_t lines; /* that carry it */
	uint8_t *header;
};

struct run {
	const struct mdbus_feed_run_config *c;
	struct mdbus_feed_pace pace;
	struct mdbus_feed_route route[MDBUS_FEED_LINES_MAX];
	void *tx[MDBUS_FEED_LINES_MAX];
	struct mdbus_feed_line *line[MDBUS_FEED_LINES_MAX];
	struct mdbus_feed_log *log;
	struct mdbus_feed_serve *serve; /* NULL: none */
	struct stream *stream;
	struct mdbus_feed_result *result;
	uint64_t start;
	uint64_t due;       /* of the source's next packet, UINT64_MAX: none */
	uint64_t beat_at;   /* of the next heartbeat of its own, UINT64_MAX: none */
	uint64_t last_due;
	uint32_t tail;      /* heartbeats at the end still to come */
	bool ended;         /* the source is, and the lines were told */
	bool busy;          /* a transport would not take what is due */
	uint32_t turn;      /* line that goes first */
	char *err;
	size_t errlen;
};

static int fail(struct run *r, int rc, uint32_t line, const char *what)
{
	snprintf(r->err, r->errlen, "line %s: %s: %s", r->c->spec[line].name, what, strerror(-rc));
	return rc;
}

/* ---- before and after ---- */

static int open_tx(struct run *r, uint32_t i)
{
	const struct mdbus_feed_line_spec *spec = &r->c->spec[i];
	uint32_t max = r->c->source->max_payload;
	struct mdbus_feed_tx_config tx = {
		.line = spec->name,
		.dev = *spec->dev ? spec->dev : NULL,
		.run_dir = mdbus_run_dir(),
		.from = spec->from,
		.queue = spec->queue,
		.ndest = r->route[i].ndest,
		.dest = r->route[i].dest,
		.max_payload = spec->repack && max < MDBUS_FEED_PAYLOAD ? MDBUS_FEED_PAYLOAD : max,
	};

	memcpy(tx.mac, spec->mac, sizeof(tx.mac));
	r->tx[i] = r->c->ops->open(&tx, r->err, r->errlen);
	return r->tx[i] ? 0 : -EIO;
}

static int open_line(struct run *r, uint32_t i)
{
	const struct mdbus_feed_run_config *c = r->c;
	struct mdbus_feed_line_config line = {
		.spec = &c->spec[i],
		.index = i,
		.seed = c->seed,
		.timed = c->pace.pacing != MDBUS_FEED_ASAP,
		.layout = c->source->layout,
		.nstream = c->source->nstream,
		.dest = r->route[i].of,
		.max_payload = c->source->max_payload,
		.log = r->log,
		.ops = c->ops,
		.tx = r->tx[i],
	};

	r->line[i] = mdbus_feed_line_open(&line);
	return r->line[i] ? 0 : fail(r, -ENOMEM, i, "open");
}

static int open_streams(struct run *r)
{
	struct mdbus_feed_source *s = r->c->source;
	uint32_t width = s->layout->hdr ? s->layout->hdr : 1;

	r->stream = calloc(s->nstream, sizeof(*r->stream));
	for (uint32_t i = 0; r->stream && i < s->nstream; i++) {
		r->stream[i].header = calloc(1, width);
		if (!r->stream[i].header)
			return fail(r, -ENOMEM, 0, "open");
		for (uint32_t k = 0; k < r->c->nline; k++)
			r->stream[i].lines += r->route[k].of[i] != MDBUS_FEED_NONE;
		if (r->stream[i].lines == 0 && s->drop)
			s->drop(s, i);
	}
	return r->stream ? 0 : fail(r, -ENOMEM, 0, "open");
}

static int open_all(struct run *r)
{
	const struct mdbus_feed_run_config *c = r->c;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < c->nline; i++) {
		if (c->spec[i].repack && !mdbus_feed_repack_can(c->source->layout)) {
			snprintf(r->err, r->errlen, "line %s: repack= needs a feed that numbers messages; %s does not",
			         c->spec[i].name, c->source->layout->name);
			return -EINVAL;
		}
		rc = mdbus_feed_route_open(&r->route[i], c->source, &c->spec[i], r->err, r->errlen);
	}
	if (!rc)
		rc = open_streams(r);
	for (uint32_t i = 0; !rc && i < c->nline; i++)
		rc = open_tx(r, i);
	if (!rc && c->serve) {
		r->serve = mdbus_feed_serve_open(c->serve, c->source->layout, c->seed, r->err, r->errlen);
		rc = r->serve ? 0 : -EIO;
	}
	if (rc)
		return rc;
	/* Last of what may fail for a reason outside, so that a failure leaves no file. */
	r->log = mdbus_feed_log_open(c->log_path, c->nline, c->source->nstream, r->err, r->errlen);
	rc = r->log ? 0 : -EIO;
	for (uint32_t i = 0; !rc && i < c->nline; i++)
		rc = open_line(r, i);
	return rc;
}

static void close_all(struct run *r)
{
	for (uint32_t i = 0; i < r->c->nline; i++) {
		if (r->line[i]) {
			r->result->line[i] = *mdbus_feed_line_stats(r->line[i]);
			mdbus_feed_line_close(r->line[i]);
		}
		if (r->tx[i])
			r->c->ops->close(r->tx[i]);
		mdbus_feed_route_close(&r->route[i]);
	}
	if (r->serve)
		r->result->serve = *mdbus_feed_serve_stats(r->serve);
	mdbus_feed_serve_close(r->serve);
	for (uint32_t i = 0; r->stream && i < r->c->source->nstream; i++)
		free(r->stream[i].header);
	free(r->stream);
}

/* ---- packets ---- */

static int push(struct run *r, const struct mdbus_feed_packet *p, uint64_t first, uint64_t due)
{
	r->last_due = due > r->last_due ? due : r->last_due;
	for (uint32_t i = 0; i < r->c->nline; i++) {
		int rc = mdbus_feed_line_carries(r->line[i], p->stream) ?
		         mdbus_feed_line_push(r->line[i], p, first, r->last_due) : 0;

		if (rc)
			return fail(r, rc, i, "queue");
	}
	return 0;
}

/* Say on each line how far the stream has come. False in *said: the layout has no heartbeat for that. */
static int beat(struct run *r, uint32_t stream, uint8_t flags, bool end_session, uint64_t due)
{
	const struct mdbus_layout *l = r->c->source->layout;
	const struct stream *s = &r->stream[stream];
	uint8_t data[MDBUS_FEED_PAYLOAD];
	struct mdbus_feed_packet p = {
		.data = data,
		.stream = (uint16_t)stream,
		.flags = (uint8_t)(flags | MDBUS_FEED_WHOLE | MDBUS_FEED_MADE),
	};

	if (!s->begun || !s->lines)
		return 0;
	if (end_session)
		p.len = mdbus_feed_end_of_session(l, s->header, s->next, data, sizeof(data));
	if (!p.len)
		p.len = mdbus_feed_heartbeat(l, s->header, s->next, data, sizeof(data));
	return p.len ? push(r, &p, 0, due) : 0;
}

static int beat_all(struct run *r, uint8_t flags, bool end_session, uint64_t due)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < r->c->source->nstream; i++)
		rc = beat(r, i, flags, end_session, due);
	return rc;
}

static void remember(struct run *r, const struct mdbus_feed_packet *p)
{
	struct stream *s = &r->stream[p->stream];

	if (!(p->flags & MDBUS_FEED_NUMBERED))
		return;
	s->begun = true;
	s->next = p->next;
	memcpy(s->header, p->data, r->c->source->layout->hdr);
}

static uint64_t record(struct run *r, const struct mdbus_feed_packet *p)
{
	uint64_t first = UINT64_MAX;

	for (uint32_t i = 0; i < p->nmsg; i++) {
		const struct mdbus_message *m = &p->msg[i];
		struct mdbus_feedlog_record rec = {
			.seq = m->seq,
			.hash = r->c->log_path ? mdbus_feedlog_hash(p->data + m->off, m->len) : 0,
			.session_no = p->session_no,
			.len = m->len,
			.stream = p->stream,
			.flags = (uint8_t)(p->log_flags | (r->serve ? MDBUS_FEEDLOG_SERVED : 0)),
			.epoch = p->epoch,
		};
		uint64_t n = mdbus_feed_log_add(r->log, &rec, r->stream[p->stream].lines);

		first = i ? first : n;
	}
	return first;
}

static int push_source(struct run *r, uint64_t due)
{
	const struct mdbus_layout *l = r->c->source->layout;
	uint8_t trial[MDBUS_FEED_PAYLOAD];
	struct mdbus_feed_packet p;
	uint64_t first;
	bool end;
	int rc;

	r->c->source->take(r->c->source, &p);
	r->result->source_packets++;
	remember(r, &p);
	end = p.flags & MDBUS_FEED_EPOCH_END;
	if (end && !mdbus_feed_heartbeat(l, p.data, p.next, trial, sizeof(trial)))
		p.flags |= MDBUS_FEED_PROTECT | MDBUS_FEED_BARRIER;
	first = record(r, &p);
	rc = r->serve ? mdbus_feed_serve_keep(r->serve, &p) : 0;
	if (rc)
		return fail(r, rc, 0, "keep for the request server");
	rc = push(r, &p, first, due);
	if (!rc && end)
		rc = beat(r, p.stream, MDBUS_FEED_PROTECT | MDBUS_FEED_BARRIER, false, due);
	return rc;
}

/* ---- the schedule ---- */

static void look_ahead(struct run *r)
{
	struct mdbus_feed_when when;
	bool more = !r->ended && !*r->c->stop && r->c->source->peek(r->c->source, &when);

	r->due = more ? mdbus_feed_pace_due(&r->pace, &when) : UINT64_MAX;
	if (r->c->pace.pacing == MDBUS_FEED_ASAP || r->ended)
		return;
	r->beat_at = more && r->c->source->idle_heartbeats && r->c->heartbeat_ns ? r->last_due + r->c->heartbeat_ns :
	                                                                            UINT64_MAX;
}

/* The source has no more: what the lines hold back goes out, then heartbeats follow. */
static int end_source(struct run *r, uint64_t now)
{
	r->ended = true;
	r->last_due = now > r->last_due ? now : r->last_due;
	for (uint32_t i = 0; i < r->c->nline; i++) {
		int rc = mdbus_feed_line_finish(r->line[i], r->last_due);

		if (rc)
			return fail(r, rc, i, "queue");
	}
	r->result->duration_ns = mdbus_clock_ns() - r->start;
	r->tail = r->c->linger_ns && !*r->c->stop ? TAIL : 1;
	r->beat_at = r->last_due;
	return 0;
}

static int beat_due(struct run *r)
{
	uint64_t at = r->beat_at;

	if (!r->ended)
		return beat_all(r, 0, false, at);
	r->tail = *r->c->stop ? 0 : r->tail - 1;
	r->beat_at = r->tail ? at + r->c->linger_ns / (TAIL - 1) : UINT64_MAX;
	return beat_all(r, MDBUS_FEED_PROTECT, r->c->end_session && !r->tail, at);
}

static int push_due(struct run *r, uint64_t now)
{
	int rc = 0;

	for (uint32_t n = 0; !rc && n < PUSH_MAX; n++) {
		look_ahead(r);
		if (r->due == UINT64_MAX && !r->ended)
			rc = end_source(r, now);
		else if (r->due <= now && r->due <= r->beat_at)
			rc = push_source(r, r->c->pace.pacing == MDBUS_FEED_ASAP ? now : r->due);
		else if (r->beat_at <= now || (r->tail && *r->c->stop))
			rc = beat_due(r);
		else
			break;
	}
	return rc;
}

static int send_lines(struct run *r, uint64_t now)
{
	uint32_t nline = r->c->nline;

	r->busy = false;
	r->turn++;
	for (uint32_t k = 0; k < nline; k++) {
		uint32_t i = (r->turn + k) % nline;
		bool busy;
		int rc = mdbus_feed_line_advance(r->line[i], now);

		if (rc >= 0)
			rc = mdbus_feed_line_send(r->line[i], now, &busy);
		if (rc < 0)
			return fail(r, rc, i, "send");
		r->busy |= busy;
	}
	return 0;
}

static uint64_t next_event(const struct run *r)
{
	uint64_t at = r->due < r->beat_at ? r->due : r->beat_at;

	for (uint32_t i = 0; i < r->c->nline; i++) {
		uint64_t line = mdbus_feed_line_next(r->line[i]);

		at = line < at ? line : at;
	}
	return at;
}

static void wait_until(const struct run *r, uint64_t at)
{
	uint64_t elapsed = mdbus_clock_ns() - r->start, wait = at > elapsed ? at - elapsed : 0;

	if (wait < 2 * SPIN_NS) {
		mdbus_pause();
		return;
	}
	wait = wait - SPIN_NS < SLEEP_MAX ? wait - SPIN_NS : SLEEP_MAX;
	if (r->serve)
		mdbus_feed_serve_wait(r->serve, wait);
	else
		nanosleep(&(struct timespec){ .tv_nsec = (long)wait }, NULL);
}

static int loop(struct run *r)
{
	int rc = 0;

	r->start = mdbus_clock_ns();
	while (!rc && *r->c->stop < 2) {
		uint64_t now = mdbus_clock_ns() - r->start, at;

		look_ahead(r);
		at = next_event(r);
		if (r->c->pace.pacing != MDBUS_FEED_ASAP)
			now = mdbus_feed_pace_now(&r->pace, now, at);
		if (!r->busy)
			rc = push_due(r, now);
		if (!rc)
			rc = send_lines(r, now);
		if (!rc && r->serve)
			mdbus_feed_serve_poll(r->serve, mdbus_clock_ns());
		if (!rc)
			rc = mdbus_feed_log_error(r->log);
		at = next_event(r);
		if (at == UINT64_MAX && r->ended)
			break;
		if (!rc && !r->busy)
			wait_until(r, at);
	}
	return rc;
}

int mdbus_feed_run(const struct mdbus_feed_run_config *config, struct mdbus_feed_result *result, char *err,
                   size_t errlen)
{
	struct run r = {
		.c = config,
		.pace = config->pace,
		.result = result,
		.beat_at = UINT64_MAX,
		.err = err,
		.errlen = errlen,
	};
	int rc, log_rc;

	memset(result, 0, sizeof(*result));
	*err = '\0';
	(void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	rc = open_all(&r);
	if (!rc)
		rc = loop(&r);
	close_all(&r);
	if (!r.log)
		return rc;
	log_rc = mdbus_feed_log_close(r.log, &result->log);
	if (log_rc && !*err)
		snprintf(err, errlen, "log %s: %s%s", config->log_path ? config->log_path : "(memory)", strerror(-log_rc),
		         mdbus_feed_log_mend(log_rc));
	return rc ? rc : log_rc;
}
