/* SPDX-License-Identifier: Apache-2.0
 *
 * recover_ask.c - see recover_ask.h.
 *
 * The open requests of a channel never overlap, so each number is in one of them or in none: that says whether it has
 * been asked for, when, and how often.
 */
#include "recover_ask.h"

#include <stddef.h>

bool mdbus_hole_add(struct mdbus_hole *holes, uint32_t *n, uint32_t max, uint64_t seq)
{
	if (*n > 0 && seq - holes[*n - 1u].next <= MDBUS_HOLE_APART) {
		holes[*n - 1u].next = seq + 1u;
		return true;
	}
	if (*n == max)
		return false;
	holes[(*n)++] = (struct mdbus_hole){ seq, seq + 1u };
	return true;
}

static bool is_wanted(const struct mdbus_ask_open *o, const struct mdbus_hole *holes, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (o->first < holes[i].next && holes[i].first < o->next)
			return true;
	return false;
}

/* What was asked for and is no longer missing, whoever brought it. */
static void prune(struct mdbus_ask *a, const struct mdbus_hole *holes, uint32_t n)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < a->nopen; i++)
		if (is_wanted(&a->open[i], holes, n))
			a->open[kept++] = a->open[i];
	a->nopen = kept;
}

/* The open request that number seq is in, or NULL; then *until is where the next one begins. */
static struct mdbus_ask_open *find(struct mdbus_ask *a, uint64_t seq, uint64_t *until)
{
	*until = UINT64_MAX;
	for (uint32_t i = 0; i < a->nopen; i++) {
		if (a->open[i].first <= seq && seq < a->open[i].next)
			return &a->open[i];
		if (a->open[i].first > seq && a->open[i].first < *until)
			*until = a->open[i].first;
	}
	return NULL;
}

static bool rate_allows(struct mdbus_ask_limits *l, uint64_t now)
{
	uint64_t each = UINT64_C(1000000000) / l->rate;
	uint64_t ahead = each < MDBUS_ASK_BURST_NS ? MDBUS_ASK_BURST_NS - each : 0;

	if (l->due_ns > now + ahead)
		return false;
	l->due_ns = (l->due_ns > now ? l->due_ns : now) + each;
	return true;
}

static uint64_t patience(const struct mdbus_ask_limits *l, uint32_t tries)
{
	uint32_t rounds = tries / l->nserver; /* each server of the list gets its chance before it takes longer */
	uint64_t wait = l->retry_ns << (rounds < 20u ? rounds : 20u);

	return wait < l->backoff_max_ns ? wait : l->backoff_max_ns;
}

/* Send request o, for the first time, for its rest, or because nothing came. */
static void ask(struct mdbus_ask *a, struct mdbus_ask_open *o, bool repeated, uint64_t now)
{
	if (repeated) {
		a->counts->repeated++;
		o->tries++;
		if (a->heard_ns < o->sent_ns && a->server_ns <= o->sent_ns) {
			a->server = (a->server + 1u) % a->limits->nserver;
			a->server_ns = now;
		}
	}
	o->rest = false;
	o->sent_ns = now;
	o->again_ns = now + patience(a->limits, o->tries);
	a->counts->sent++;
	a->send(a->arg, a->server, o->first, (uint16_t)(o->next - o->first));
}

/* Send what is due of the numbers from `at` on, up to `end`.  Returns where to go on; `at`: not now. */
static uint64_t ask_from(struct mdbus_ask *a, uint64_t at, uint64_t end, uint64_t now)
{
	uint64_t until;
	struct mdbus_ask_open *o = find(a, at, &until);
	bool repeated = o != NULL && !o->rest;

#ifdef MDBUS_MUTANT_recover_no_retry
	if (repeated)
		return o->next;
#endif
	if (o != NULL && now < o->again_ns)
		return o->next;
	if ((o == NULL && a->nopen == MDBUS_ASK_OPEN_MAX) || !rate_allows(a->limits, now))
		return at;
	if (o == NULL) {
		o = &a->open[a->nopen++];
		*o = (struct mdbus_ask_open){ .next = until - at > a->limits->max ? at + a->limits->max : until };
	}
	o->first = at;
	if (o->next > end)
		o->next = end;
	ask(a, o, repeated, now);
	return o->next;
}

void mdbus_ask_tick(struct mdbus_ask *a, const struct mdbus_hole *holes, uint32_t n, uint64_t now_ns)
{
	prune(a, holes, n);
	for (uint32_t i = 0; i < n; i++) {
		for (uint64_t at = holes[i].first, next; at < holes[i].next; at = next) {
			next = ask_from(a, at, holes[i].next, now_ns);
			if (next == at)
				return;
		}
	}
}

bool mdbus_ask_answer(struct mdbus_ask *a, uint64_t first, uint32_t count, uint64_t now_ns)
{
	uint64_t until;
	struct mdbus_ask_open *o = count > 0 ? find(a, first, &until) : NULL;

	if (o == NULL || count > o->next - first) {
		a->counts->refused++;
		return false;
	}
	a->counts->answers++;
	a->heard_ns = now_ns;
	if (first != o->first)
		return true; /* what it left out comes, or is asked for again in its time */
	o->first += count;
	o->again_ns = now_ns;
	o->tries = 0;
	o->rest = true;
	if (o->first == o->next)
		*o = a->open[--a->nopen];
	return true;
}

void mdbus_ask_forget(struct mdbus_ask *a)
{
	a->nopen = 0;
}
