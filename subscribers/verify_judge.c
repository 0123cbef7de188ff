/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_judge.c - a channel's track held against its part of the log.
 *
 * Within an epoch both are in order of number, so one walk meets every number of either side once: numbers of the log are
 * covered by a span (delivered, gap, overrun) or by none; numbers of a span that the log lacks were never sent.
 * Records of one number in the log (a capture of both lines, or a repetition by the source) form a group.
 */
#include "verify_epochs.h"
#include <errno.h>
#include <string.h>

struct group {
	uint64_t seq;
	uint32_t first, end; /* in the part's index */
	bool sent;     /* some line sent it, in its turn or as a repetition, or a request server had it */
	bool carried;  /* a line that was up carried it in its turn: it must be delivered */
	bool on_line;  /* some line carried it in its turn */
	bool early;    /* sent before the reader attached */
	uint64_t line_mask, time_ns; /* of the first record */
};

enum where { IN_GAP, IN_HOLE, AT_EDGE, BEFORE_FIRST };

struct walk {
	const struct mdbus_judge *j;
	const struct mdbus_track *t;
	const struct mdbus_log_part *sent;
	struct mdbus_verdict *v;
	uint64_t hole_uncarried; /* numbers that should have been announced as a gap */
};

static const struct mdbus_feedlog_record *record_at(const struct walk *w, uint32_t i)
{
	return &w->j->log->record[w->sent->index[i]];
}

bool mdbus_judge_carried(const struct mdbus_judge *j, const struct mdbus_feedlog_record *r)
{
	uint32_t mask = r->flags & MDBUS_FEEDLOG_REPEAT ? 0 : r->line_mask;

	for (uint32_t i = 0; i < j->ndown; i++)
		if (j->down[i].line < 8u && r->time_ns >= j->down[i].t0_ns && r->time_ns <= j->down[i].t1_ns)
			mask &= ~(1u << j->down[i].line);
	return mask != 0;
}

/* The group that begins at index i of an epoch that ends at `end`. */
static struct group group_at(const struct walk *w, uint32_t i, uint32_t end)
{
	const struct mdbus_feedlog_record *r = record_at(w, i);
	struct group g = { .seq = r->seq, .first = i, .early = true, .line_mask = r->line_mask, .time_ns = r->time_ns };

	for (; i < end && (r = record_at(w, i))->seq == g.seq; i++) {
		g.sent |= r->line_mask != 0 || (r->flags & MDBUS_FEEDLOG_SERVED) != 0;
		g.on_line |= r->line_mask != 0 && !(r->flags & MDBUS_FEEDLOG_REPEAT);
		g.carried |= mdbus_judge_carried(w->j, r);
		g.early &= r->time_ns < w->j->attach_ns;
	}
	g.end = i;
	return g;
}

static void fault(struct walk *w, enum mdbus_fault_kind kind, uint64_t epoch, uint64_t seq, uint64_t count)
{
	mdbus_faults_add(&w->v->faults, kind, epoch, seq, count);
}

static void fault_lost(struct walk *w, uint64_t epoch, const struct group *g)
{
	struct mdbus_faults *f = &w->v->faults;
	uint32_t before = f->n;

	mdbus_faults_add(f, MDBUS_FAULT_LOST, epoch, g->seq, 1);
	if (f->n > before) {
		f->kept[before].line_mask = g->line_mask;
		f->kept[before].time_ns = g->time_ns;
	}
}

/* A number of the log that was not delivered, and not in an overrun. */
static void missing(struct walk *w, uint64_t epoch, const struct group *g, enum where where)
{
	struct mdbus_verdict *v = w->v;

	if (where == BEFORE_FIRST && g->early) {
		v->before++;
		return;
	}
	v->sent++;
	if (g->carried) {
		fault_lost(w, epoch, g);
		*(where == IN_GAP ? &v->gap_carried : &v->edge_carried) += 1u;
		return;
	}
	if (where == IN_HOLE)
		w->hole_uncarried++;
	if (g->on_line)
		*(where == IN_GAP ? &v->gap_down : &v->edge_down) += 1u;
	else
		*(where == IN_GAP ? &v->gap_lost : &v->edge_lost) += 1u;
}

static void delivered(struct walk *w, const struct mdbus_span *span, const struct group *g)
{
	uint64_t at = span->first + (g->seq - span->seq), hash = mdbus_track_hash(w->t, at);
	uint32_t len = mdbus_track_len(w->t, at);
	bool same = false;

	w->v->sent++;
	for (uint32_t i = g->first; i < g->end; i++)
		same |= record_at(w, i)->hash == hash && record_at(w, i)->len == len;
	if (!same) {
		w->v->torn++;
		fault(w, MDBUS_FAULT_TORN, span->epoch, g->seq, 1);
		return;
	}
	w->v->matched++;
	if (!g->sent) {
		w->v->unsent++;
		fault(w, MDBUS_FAULT_UNSENT, span->epoch, g->seq, 1);
	}
}

/* Numbers [from, to) of a span are not in the log. */
static void absent(struct walk *w, const struct mdbus_span *span, uint64_t from, uint64_t to)
{
	if (from >= to)
		return;
	if (span->kind == MDBUS_SPAN_DATA) {
		w->v->unsent += to - from;
		fault(w, MDBUS_FAULT_UNSENT, span->epoch, from, to - from);
	} else if (span->kind == MDBUS_SPAN_GAP) {
		w->v->gap_never_sent += to - from;
	}
}

/*
 * An overrun's count must be the numbers it spans.  Numbers that the source jumped over may count as one record (a
 * jump) or one each (a gap), so there the count may be less, by so many.
 */
static void overrun_exact(struct walk *w, const struct mdbus_span *span, uint64_t in_log)
{
	uint64_t n = span->end - span->seq, jumped = n - in_log;

	if (span->kind != MDBUS_SPAN_OVERRUN || span->claimed == 0 || span->end == MDBUS_SPAN_OPEN)
		return;
	if (span->claimed <= n && span->claimed >= in_log + (jumped ? 1u : 0u))
		return;
	w->v->overrun_inexact++;
	fault(w, MDBUS_FAULT_OVERRUN_COUNT, span->epoch, span->seq, span->claimed);
}

/* One epoch of the log against the spans [s, end) of the delivered epoch that it is; s == end: nothing was delivered. */
static void walk_epoch(struct walk *w, uint32_t log_epoch, const struct mdbus_epoch_pair *p, bool first)
{
	const struct mdbus_log_epoch *e = &w->sent->epoch[log_epoch];
	size_t s = p ? p->first : 0, begin = s, end = p ? p->end : 0;
	const struct mdbus_span *span = w->t->span;
	uint64_t cursor = 0, in_log = 0, epoch = p ? p->epoch : e->epoch;
	struct group g;

	for (uint32_t i = e->first; i < e->first + e->n; i = g.end) {
		g = group_at(w, i, e->first + e->n);
		for (; s < end && span[s].end <= g.seq; s++, in_log = 0) {
			absent(w, &span[s], cursor > span[s].seq ? cursor : span[s].seq, span[s].end);
			overrun_exact(w, &span[s], in_log);
		}
		if (s == end || span[s].seq > g.seq) {
			missing(w, epoch, &g, s == begin ? (first ? BEFORE_FIRST : AT_EDGE) : s == end ? AT_EDGE : IN_HOLE);
			continue;
		}
		absent(w, &span[s], cursor > span[s].seq ? cursor : span[s].seq, g.seq);
		cursor = g.seq + 1u;
		in_log++;
		if (span[s].kind == MDBUS_SPAN_DATA) {
			delivered(w, &span[s], &g);
		} else if (span[s].kind == MDBUS_SPAN_GAP) {
			missing(w, epoch, &g, IN_GAP);
		} else {
			w->v->sent++;
			w->v->unproven++;
		}
	}
	for (; s < end; s++, in_log = 0) {
		absent(w, &span[s], cursor > span[s].seq ? cursor : span[s].seq, span[s].end);
		overrun_exact(w, &span[s], in_log);
	}
}

/* An epoch of the log that lies behind the end of the track, which was an overrun: nothing is known about it. */
static void walk_unproven(struct walk *w, uint32_t log_epoch)
{
	const struct mdbus_log_epoch *e = &w->sent->epoch[log_epoch];
	struct group g;

	for (uint32_t i = e->first; i < e->first + e->n; i = g.end) {
		g = group_at(w, i, e->first + e->n);
		w->v->sent++;
		w->v->unproven++;
	}
}

/* True if the track ends in an overrun that no record followed. */
static bool ends_open(const struct mdbus_track *t)
{
	return t->nspan > 0 && t->span[t->nspan - 1u].end == MDBUS_SPAN_OPEN;
}

/* Every epoch of the log, with the delivered epoch that it is. */
static void walk_log(struct walk *w, const struct mdbus_epoch_map *m)
{
	uint32_t last = m->n > 0 ? m->pair[m->n - 1u].log : MDBUS_EPOCH_NONE;
	bool first = true;

	for (uint32_t e = 0; e < w->sent->nepoch; e++) {
		uint32_t pair = m->pair_of[e];

		if (ends_open(w->t) && last != MDBUS_EPOCH_NONE && e > last)
			walk_unproven(w, e);
		else
			walk_epoch(w, e, pair != MDBUS_EPOCH_NONE ? &m->pair[pair] : NULL, first);
		first = first && pair == MDBUS_EPOCH_NONE;
	}
}

/* A delivered epoch that the log does not have: nothing in it was sent. */
static void walk_unknown(struct walk *w, const struct mdbus_epoch_pair *p)
{
	for (size_t s = p->first; s < p->end; s++) {
		const struct mdbus_span *span = &w->t->span[s];

		absent(w, span, span->seq, span->end);
		overrun_exact(w, span, 0);
	}
}

/*
 * Resets: one for each epoch of the log after the first one seen.  An epoch that was lost whole may have been noticed by
 * a heartbeat, or not.
 */
static void count_resets(struct walk *w, const struct mdbus_epoch_map *m)
{
	const struct mdbus_epoch_pair *first = NULL, *last = NULL;
	uint64_t least = 0, most = 0, actual;

	for (size_t k = 0; k < m->n; k++) {
		if (first == NULL && m->pair[k].log != MDBUS_EPOCH_NONE)
			first = &m->pair[k];
		last = &m->pair[k];
	}
	if (first == NULL)
		return;
	actual = (w->t->epoch > last->epoch ? w->t->epoch : last->epoch) - first->epoch;
	for (uint32_t e = first->log + 1u; e < w->sent->nepoch; e++, most++)
		least += m->pair_of[e] != MDBUS_EPOCH_NONE || (!ends_open(w->t) && mdbus_epoch_carried(w->j, w->sent, e));
	w->v->resets_actual = actual;
	w->v->resets_expected = actual < least ? least : actual > most ? most : actual;
	if (w->v->resets_expected != actual)
		fault(w, MDBUS_FAULT_RESETS, first->epoch, 0, actual);
}

void mdbus_judge_conclude(const struct mdbus_judge *j, struct mdbus_verdict *v)
{
	v->pass = v->duplicates == 0 && v->disorders == 0 && v->torn == 0 && v->unsent == 0 && v->gap_carried == 0 &&
	          v->edge_carried == 0 && v->gap_expected == v->gap_actual && v->resets_expected == v->resets_actual &&
	          v->overrun_inexact == 0 && (v->overruns == 0 || j->allow_overruns);
}

int mdbus_judge_channel(const struct mdbus_judge *j, const struct mdbus_track *t, const struct mdbus_log_part *sent,
                        struct mdbus_verdict *v)
{
	static const struct mdbus_log_part nothing;
	struct walk w = { .j = j, .t = t, .sent = sent ? sent : &nothing, .v = v };
	struct mdbus_epoch_map m;

	memset(v, 0, sizeof(*v));
	if (t->no_memory || mdbus_epochs_map(&m, j, t, w.sent) != 0)
		return -ENOMEM;
	v->faults = t->faults;
	v->delivered = t->nmessage;
	v->duplicates = t->duplicates;
	v->disorders = t->disorders;
	v->overruns = t->overruns;
	v->gap_actual = t->gaps;
	walk_log(&w, &m);
	for (size_t k = 0; k < m.n; k++)
		if (m.pair[k].log == MDBUS_EPOCH_NONE)
			walk_unknown(&w, &m.pair[k]);
	count_resets(&w, &m);
	v->gap_expected = v->gap_lost + v->gap_down + v->gap_never_sent + w.hole_uncarried;
	mdbus_judge_conclude(j, v);
	mdbus_epochs_free(&m);
	return 0;
}

void mdbus_verdict_add(struct mdbus_verdict *sum, const struct mdbus_verdict *v)
{
	const struct mdbus_verdict was = *sum;

	*sum = (struct mdbus_verdict){
		.sent = was.sent + v->sent,
		.before = was.before + v->before,
		.delivered = was.delivered + v->delivered,
		.matched = was.matched + v->matched,
		.duplicates = was.duplicates + v->duplicates,
		.disorders = was.disorders + v->disorders,
		.torn = was.torn + v->torn,
		.unsent = was.unsent + v->unsent,
		.gap_expected = was.gap_expected + v->gap_expected,
		.gap_actual = was.gap_actual + v->gap_actual,
		.gap_lost = was.gap_lost + v->gap_lost,
		.gap_down = was.gap_down + v->gap_down,
		.gap_carried = was.gap_carried + v->gap_carried,
		.gap_never_sent = was.gap_never_sent + v->gap_never_sent,
		.edge_lost = was.edge_lost + v->edge_lost,
		.edge_down = was.edge_down + v->edge_down,
		.edge_carried = was.edge_carried + v->edge_carried,
		.resets_expected = was.resets_expected + v->resets_expected,
		.resets_actual = was.resets_actual + v->resets_actual,
		.overruns = was.overruns + v->overruns,
		.unproven = was.unproven + v->unproven,
		.overrun_inexact = was.overrun_inexact + v->overrun_inexact,
		.pass = was.pass && v->pass,
		.faults = was.faults,
	};
}
