/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_unordered.c - judging a channel in arrival order.
 *
 * Its numbers only count arrivals, so messages are matched by content: both sides are sorted by hash and length and walked
 * together.  A content that was sent n times (by the source, not by its lines) may be delivered 1 to n times.
 */
#include "verify.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct item {
	uint64_t hash;
	uint32_t len;
	uint32_t record; /* of the log; messages delivered: their place, for a fault to be named */
};

static int compare(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return (x->record > y->record) - (x->record < y->record);
}

static bool same(const struct item *x, const struct item *y)
{
	return x->hash == y->hash && x->len == y->len;
}

static uint64_t run_length(const struct item *item, uint64_t i, uint64_t n)
{
	uint64_t k = i;

	while (k < n && same(&item[k], &item[i]))
		k++;
	return k - i;
}

/* One content of the log: n records, delivered `got` times. */
static void judge_content(const struct mdbus_judge *j, const struct item *item, uint64_t n, uint64_t got,
                          struct mdbus_verdict *v)
{
	bool carried = false, on_line = false, early = true;
	const struct mdbus_feedlog_record *r = &j->log->record[item->record];

	for (uint64_t i = 0; i < n; i++) {
		const struct mdbus_feedlog_record *q = &j->log->record[item[i].record];

		carried |= mdbus_judge_carried(j, q);
		on_line |= q->line_mask != 0;
		early &= q->time_ns < j->attach_ns;
	}
	if (got == 0 && early) {
		v->before++;
		return;
	}
	v->sent++;
	if (got > n) {
		v->duplicates += got - n;
		mdbus_faults_add(&v->faults, MDBUS_FAULT_DUPLICATE, r->epoch, r->seq, 1);
	}
	if (got > 0 && on_line) {
		v->matched++;
	} else if (got > 0) {
		v->unsent++;
		mdbus_faults_add(&v->faults, MDBUS_FAULT_UNSENT, r->epoch, r->seq, 1);
	} else if (carried && v->unproven < v->overruns) {
		v->unproven++;
	} else if (carried) {
		v->edge_carried++;
		mdbus_faults_add(&v->faults, MDBUS_FAULT_LOST, r->epoch, r->seq, 1);
	} else {
		*(on_line ? &v->edge_down : &v->edge_lost) += 1u;
	}
}

static void walk(const struct mdbus_judge *j, const struct item *sent, uint64_t nsent, const struct item *got,
                 uint64_t ngot, struct mdbus_verdict *v)
{
	for (uint64_t s = 0, g = 0; s < nsent || g < ngot;) {
		uint64_t ns = s < nsent ? run_length(sent, s, nsent) : 0, ng = g < ngot ? run_length(got, g, ngot) : 0;
		bool ahead = ng > 0 && ns > 0 && !same(&got[g], &sent[s]);
		bool got_first = ng > 0 && (ns == 0 || (ahead && compare(&got[g], &sent[s]) < 0));

		if (got_first) {
			v->torn += ng;
			mdbus_faults_add(&v->faults, MDBUS_FAULT_TORN, 1, (uint64_t)got[g].record + 1u, 1);
			g += ng;
			continue;
		}
		judge_content(j, &sent[s], ns, ahead ? 0 : ng, v);
		g += ahead ? 0 : ng;
		s += ns;
	}
}

int mdbus_judge_unordered(const struct mdbus_judge *j, const struct mdbus_track *t, const struct mdbus_log_part *sent,
                          struct mdbus_verdict *v)
{
	uint64_t nsent = sent ? sent->n : 0, ngot = t->nmessage;
	struct item *list;

	memset(v, 0, sizeof(*v));
	if (t->no_memory || ngot > UINT32_MAX)
		return -ENOMEM;
	list = calloc(nsent + ngot + 1u, sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i < nsent; i++) {
		const struct mdbus_feedlog_record *r = &j->log->record[sent->index[i]];

		list[i] = (struct item){ r->hash, r->len, sent->index[i] };
	}
	for (uint64_t i = 0; i < ngot; i++)
		list[nsent + i] = (struct item){ mdbus_track_hash(t, i), mdbus_track_len(t, i), (uint32_t)i };
	qsort(list, nsent, sizeof(*list), compare);
	qsort(list + nsent, ngot, sizeof(*list), compare);
	v->faults = t->faults;
	v->delivered = ngot;
	v->duplicates = t->duplicates;
	v->disorders = t->disorders;
	v->overruns = t->overruns;
	v->gap_actual = v->gap_expected = t->gaps;
	v->resets_actual = v->resets_expected = t->resets;
	walk(j, list, nsent, list + nsent, ngot, v);
	mdbus_judge_conclude(j, v);
	free(list);
	return 0;
}
