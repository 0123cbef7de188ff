/* SPDX-License-Identifier: Apache-2.0 */
#include "verify_epochs.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE 64u /* messages looked at to recognise an epoch: a few torn ones do not hide it */

/* First index of this epoch of the log whose number is at least seq. */
static uint32_t lower_bound(const struct mdbus_judge *j, const struct mdbus_log_part *sent,
                            const struct mdbus_log_epoch *e, uint64_t seq)
{
	uint32_t lo = e->first, hi = e->first + e->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2u;

		if (j->log->record[sent->index[mid]].seq < seq)
			lo = mid + 1u;
		else
			hi = mid;
	}
	return lo;
}

static bool in_epoch(const struct mdbus_judge *j, const struct mdbus_log_part *sent, const struct mdbus_log_epoch *e,
                     uint64_t seq, uint64_t hash)
{
	for (uint32_t i = lower_bound(j, sent, e, seq); i < e->first + e->n; i++) {
		const struct mdbus_feedlog_record *r = &j->log->record[sent->index[i]];

		if (r->seq != seq)
			return false;
		if (r->hash == hash)
			return true;
	}
	return false;
}

/* How many of the first messages of a delivered epoch are in an epoch of the log. */
static uint32_t likeness(const struct mdbus_judge *j, const struct mdbus_track *t, const struct mdbus_epoch_pair *p,
                         const struct mdbus_log_part *sent, uint32_t epoch)
{
	uint32_t looked = 0, same = 0;

	for (size_t s = p->first; s < p->end; s++) {
		const struct mdbus_span *span = &t->span[s];

		if (span->kind != MDBUS_SPAN_DATA)
			continue;
		for (uint64_t q = span->seq; q < span->end && looked < SAMPLE; q++, looked++)
			same += in_epoch(j, sent, &sent->epoch[epoch], q, mdbus_track_hash(t, span->first + (q - span->seq)));
	}
	return same;
}

static bool has_messages(const struct mdbus_track *t, const struct mdbus_epoch_pair *p)
{
	for (size_t s = p->first; s < p->end; s++)
		if (t->span[s].kind == MDBUS_SPAN_DATA)
			return true;
	return false;
}

bool mdbus_epoch_carried(const struct mdbus_judge *j, const struct mdbus_log_part *sent, uint32_t epoch)
{
	const struct mdbus_log_epoch *e = &sent->epoch[epoch];

	for (uint32_t i = e->first; i < e->first + e->n; i++)
		if (mdbus_judge_carried(j, &j->log->record[sent->index[i]]))
			return true;
	return false;
}

static int list_pairs(struct mdbus_epoch_map *m, const struct mdbus_track *t)
{
	size_t n = 0;

	for (size_t s = 0; s < t->nspan; s++)
		n += s == 0 || t->span[s].epoch != t->span[s - 1u].epoch;
	m->pair = calloc(n ? n : 1u, sizeof(*m->pair));
	if (m->pair == NULL)
		return -ENOMEM;
	for (size_t s = 0; s < t->nspan; s++) {
		if (s == 0 || t->span[s].epoch != t->span[s - 1u].epoch)
			m->pair[m->n++] = (struct mdbus_epoch_pair){
				.epoch = t->span[s].epoch, .first = s, .log = MDBUS_EPOCH_NONE,
			};
		m->pair[m->n - 1u].end = s + 1u;
	}
	return 0;
}

/* The epoch of the log that looks most like p; the first one if none does. */
static uint32_t anchor(const struct mdbus_judge *j, const struct mdbus_track *t, const struct mdbus_epoch_pair *p,
                       const struct mdbus_log_part *sent)
{
	uint32_t best = 0, most = 0;

	for (uint32_t e = 0; e < sent->nepoch; e++) {
		uint32_t same = likeness(j, t, p, sent, e);

		if (same > most) {
			most = same;
			best = e;
		}
	}
	return best;
}

/* The epoch of the log for p, which comes at `from` or, if that one was lost whole, later. */
static uint32_t follow(const struct mdbus_judge *j, const struct mdbus_track *t, const struct mdbus_epoch_pair *p,
                       const struct mdbus_log_part *sent, uint64_t from)
{
	if (from >= sent->nepoch)
		return MDBUS_EPOCH_NONE;
	for (uint32_t e = (uint32_t)from; has_messages(t, p) && e < sent->nepoch; e++) {
		if (likeness(j, t, p, sent, e) > 0)
			return e;
		if (mdbus_epoch_carried(j, sent, e))
			break;
	}
	return (uint32_t)from;
}

static void assign(struct mdbus_epoch_map *m, const struct mdbus_judge *j, const struct mdbus_track *t,
                   const struct mdbus_log_part *sent)
{
	size_t first = 0;

	while (first < m->n && !has_messages(t, &m->pair[first]))
		first++;
	if (first == m->n || sent->nepoch == 0)
		return;
	m->pair[first].log = anchor(j, t, &m->pair[first], sent);
	for (size_t k = first; k-- > 0;) {
		uint64_t back = m->pair[first].epoch - m->pair[k].epoch;

		if (back <= m->pair[first].log)
			m->pair[k].log = m->pair[first].log - (uint32_t)back;
	}
	for (size_t k = first + 1u; k < m->n && m->pair[k - 1u].log != MDBUS_EPOCH_NONE; k++)
		m->pair[k].log = follow(j, t, &m->pair[k], sent,
		                        m->pair[k - 1u].log + (m->pair[k].epoch - m->pair[k - 1u].epoch));
}

int mdbus_epochs_map(struct mdbus_epoch_map *m, const struct mdbus_judge *j, const struct mdbus_track *t,
                     const struct mdbus_log_part *sent)
{
	memset(m, 0, sizeof(*m));
	m->pair_of = calloc(sent->nepoch ? sent->nepoch : 1u, sizeof(*m->pair_of));
	if (m->pair_of == NULL || list_pairs(m, t) != 0) {
		mdbus_epochs_free(m);
		return -ENOMEM;
	}
	assign(m, j, t, sent);
	for (uint32_t e = 0; e < sent->nepoch; e++)
		m->pair_of[e] = MDBUS_EPOCH_NONE;
	for (size_t k = 0; k < m->n; k++)
		if (m->pair[k].log != MDBUS_EPOCH_NONE)
			m->pair_of[m->pair[k].log] = (uint32_t)k;
	return 0;
}

void mdbus_epochs_free(struct mdbus_epoch_map *m)
{
	free(m->pair);
	free(m->pair_of);
	memset(m, 0, sizeof(*m));
}
