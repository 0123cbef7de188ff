/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_verify.c - the verifier must pass a faultless run and fail every kind of fault.
 *
 * A run is made up: a log of two lines with losses, five epochs (one lost whole), numbers the source jumped over,
 * repetitions, and a time when line B was down; and the records that a perfect bus delivers for it.  Then faults are put into
 * it, one kind at a time, at many places, and each must be found, and found as what it is.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../subscribers/verify.h"

#define EPOCHS   5u
#define LOST_EPOCH 3u
#define MESSAGES 400u  /* in an epoch */
#define LOG_MAX  (2u * EPOCHS * MESSAGES)
#define DOWN_T0  UINT64_C(300000)
#define DOWN_T1  UINT64_C(600000)
#define ATTACH   UINT64_C(500)
#define SEEDS    40u

static int failures;

#define CHECK(cond, ...)                                                  \
	do {                                                              \
		if (!(cond)) {                                            \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                     \
			fputc('\n', stderr);                              \
			failures++;                                       \
		}                                                         \
	} while (0)

enum event_kind { DATA, GAP, RESET, OVERRUN };

struct event {
	enum event_kind kind;
	uint64_t epoch, seq, count; /* RESET: count is the first number */
	uint64_t hash;
	uint32_t len;
};

struct run {
	struct mdbus_feedlog_record log[LOG_MAX];
	uint32_t nlog;
	struct event event[LOG_MAX];
	uint32_t nevent;
	uint64_t rng;
	bool unordered, allow_overruns, no_down;
	uint64_t attach_ns;
};

static uint32_t rnd(struct run *r, uint32_t n)
{
	r->rng = r->rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(r->rng >> 33) % n;
}

/* ---- a faultless run ------------------------------------------------------------------------------------------- */

static void add_log(struct run *r, uint32_t epoch, uint64_t seq, uint64_t time_ns, uint8_t mask, uint8_t flags)
{
	const uint8_t bytes[3] = { (uint8_t)epoch, (uint8_t)(seq >> 8), (uint8_t)seq };

	r->log[r->nlog++] = (struct mdbus_feedlog_record){
		.seq = seq,
		.hash = mdbus_feedlog_hash(bytes, sizeof(bytes)),
		.time_ns = time_ns,
		.session_no = epoch,
		.len = 20u + (uint32_t)(seq % 50u),
		.line_mask = mask,
		.flags = flags,
		.epoch = epoch,
	};
}

static void add_event(struct run *r, enum event_kind kind, uint64_t epoch, uint64_t seq, uint64_t count)
{
	struct event *last = r->nevent ? &r->event[r->nevent - 1u] : NULL;

	/* gaps come one number at a time or merged; both are right */
	if (kind == GAP && last && last->kind == GAP && last->epoch == epoch && rnd(r, 2)) {
		last->count += count;
		return;
	}
	r->event[r->nevent++] = (struct event){ .kind = kind, .epoch = epoch, .seq = seq, .count = count };
}

static bool carried(const struct mdbus_feedlog_record *l)
{
	uint32_t mask = l->flags & MDBUS_FEEDLOG_REPEAT ? 0 : l->line_mask;

	if (l->time_ns >= DOWN_T0 && l->time_ns <= DOWN_T1)
		mask &= 1u;
	return mask != 0;
}

/* The log: 10 % loss a line, a jump of 1 to 20 numbers now and then, 5 % repetitions. */
static void make_log(struct run *r)
{
	uint64_t now = 1000;

	for (uint32_t e = 1; e <= EPOCHS; e++) {
		uint64_t seq = e == 4 ? 1000 : 1;

		for (uint32_t i = 0; i < MESSAGES; i++, seq++, now += 1000) {
			uint32_t mask = (rnd(r, 10) ? 1u : 0u) | (rnd(r, 10) ? 2u : 0u);

			if (i > 0 && rnd(r, 100) == 0)
				seq += 1u + rnd(r, 20);
			if (i == 0 || i == MESSAGES - 1u)
				mask = 3;
			add_log(r, e, seq, now, (uint8_t)(e == LOST_EPOCH ? 0 : mask), 0);
			if (i > 0 && rnd(r, 20) == 0) {
				struct mdbus_feedlog_record again = r->log[r->nlog - 1u];

				again.flags = MDBUS_FEEDLOG_REPEAT;
				again.line_mask = 2;
				r->log[r->nlog++] = again;
			}
		}
	}
	add_log(r, EPOCHS, 0, now, 3, MDBUS_FEEDLOG_UNSEQ);
}

/* What a perfect bus delivers: an epoch that nobody saw leaves no reset; numbers of the bus start at epoch 7. */
static void make_events(struct run *r)
{
	uint64_t epoch = 7, next = 0;
	uint32_t was = 0;

	for (uint32_t i = 0; i < r->nlog; i++) {
		const struct mdbus_feedlog_record *l = &r->log[i];

		if (!carried(l))
			continue;
		if (l->flags & MDBUS_FEEDLOG_UNSEQ)
			break;
		if (was != 0 && l->epoch != was)
			add_event(r, RESET, ++epoch, next, l->seq);
		else if (was != 0)
			for (; next < l->seq; next++)
				add_event(r, GAP, epoch, next, 1);
		add_event(r, DATA, epoch, l->seq, 1);
		r->event[r->nevent - 1u].hash = l->hash;
		r->event[r->nevent - 1u].len = l->len;
		next = l->seq + 1u;
		was = l->epoch;
	}
}

static void make_run(struct run *r, uint64_t seed)
{
	memset(r, 0, sizeof(*r));
	r->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1u;
	r->attach_ns = ATTACH;
	make_log(r);
	make_events(r);
}

/* ---- judging it ------------------------------------------------------------------------------------------------ */

static void play(const struct run *r, struct mdbus_track *t)
{
	memset(t, 0, sizeof(*t));
	for (uint32_t i = 0; i < r->nevent; i++) {
		const struct event *e = &r->event[i];

		if (e->kind == DATA)
			mdbus_track_message(t, e->epoch, e->seq, e->hash, e->len);
		else if (e->kind == GAP)
			mdbus_track_gap(t, e->epoch, e->seq, e->count);
		else if (e->kind == RESET)
			mdbus_track_reset(t, e->epoch, e->seq, e->count);
		else
			mdbus_track_overrun(t, e->count);
	}
	mdbus_track_finish(t);
}

static struct mdbus_verdict judge(const struct run *r)
{
	const struct mdbus_down down = { .line = 1, .t0_ns = DOWN_T0, .t1_ns = DOWN_T1 };
	struct mdbus_log log = { .record = r->log, .n = r->nlog, .nlines = 2, .nstreams = 1 };
	struct mdbus_judge j = {
		.log = &log, .down = &down, .ndown = r->no_down ? 0 : 1, .attach_ns = r->attach_ns,
		.allow_overruns = r->allow_overruns,
	};
	const uint32_t part_of = 0;
	struct mdbus_verdict v = { 0 };
	struct mdbus_track t;
	int rc;

	play(r, &t);
	CHECK(mdbus_log_index(&log, &part_of, 1) == 0, "index");
	rc = (r->unordered ? mdbus_judge_unordered : mdbus_judge_channel)(&j, &t, &log.part[0], &v);
	CHECK(rc == 0, "judge: %d", rc);
	mdbus_log_close(&log);
	mdbus_track_free(&t);
	return v;
}

/* Every number of the log is accounted for once. */
static void check_sum(const struct mdbus_verdict *v, const char *name)
{
	uint64_t sum = v->matched + v->torn + v->gap_lost + v->gap_down + v->gap_carried + v->edge_lost + v->edge_down +
	               v->edge_carried + v->unproven;

	CHECK(sum == v->sent, "%s: %llu of %llu accounted for", name, (unsigned long long)sum,
	      (unsigned long long)v->sent);
}

/* ---- faults ---------------------------------------------------------------------------------------------------- */

/* A random event of this kind that is not among the first or last 50. */
static uint32_t pick(struct run *r, enum event_kind kind)
{
	for (uint32_t tries = 0; tries < 100000u; tries++) {
		uint32_t i = 50u + rnd(r, r->nevent - 100u);

		if (r->event[i].kind == kind)
			return i;
	}
	fprintf(stderr, "no event of kind %d\n", (int)kind);
	exit(1);
}

/* A message followed directly by a message. */
static uint32_t pick_pair(struct run *r)
{
	uint32_t i = pick(r, DATA);

	while (r->event[i + 1u].kind != DATA)
		i = pick(r, DATA);
	return i;
}

static void cut(struct run *r, uint32_t i, uint32_t n)
{
	memmove(&r->event[i], &r->event[i + n], (r->nevent - i - n) * sizeof(r->event[0]));
	r->nevent -= n;
}

static void put(struct run *r, uint32_t i, struct event e)
{
	memmove(&r->event[i + 1u], &r->event[i], (r->nevent - i) * sizeof(r->event[0]));
	r->event[i] = e;
	r->nevent++;
}

static void swap(struct run *r, uint32_t i)
{
	struct event e = r->event[i];

	r->event[i] = r->event[i + 1u];
	r->event[i + 1u] = e;
}

static void f_none(struct run *r) { (void)r; }
static void f_twice_now(struct run *r) { uint32_t i = pick(r, DATA); put(r, i + 1u, r->event[i]); }
static void f_twice_later(struct run *r) { uint32_t i = pick(r, DATA); put(r, i + 20u, r->event[i]); }
static void f_twice_at_end(struct run *r) { put(r, r->nevent, r->event[pick(r, DATA)]); }
static void f_swapped(struct run *r) { swap(r, pick_pair(r)); }
static void f_hash(struct run *r) { r->event[pick(r, DATA)].hash ^= UINT64_C(1) << rnd(r, 64); }
static void f_len(struct run *r) { r->event[pick(r, DATA)].len++; }
static void f_first_hash(struct run *r) { r->event[0].hash ^= 1u; }
static void f_silent_loss(struct run *r) { cut(r, pick(r, DATA), 1); }
static void f_gap_for_message(struct run *r) { r->event[pick(r, DATA)].kind = GAP; }
static void f_gap_not_told(struct run *r) { cut(r, pick(r, GAP), 1); }
static void f_gap_too_long(struct run *r) { r->event[pick(r, GAP)].count++; }
static void f_gap_empty(struct run *r) { r->event[pick(r, GAP)].count = 0; }
static void f_reset_not_told(struct run *r) { cut(r, pick(r, RESET), 1); }
static void f_reset_twice(struct run *r) { uint32_t i = pick(r, RESET); put(r, i, r->event[i]); }
static void f_tail_lost(struct run *r) { r->nevent -= 1u + rnd(r, 5); }
static void f_head_lost(struct run *r) { cut(r, 0, 1u + rnd(r, 5)); }
static void f_nothing(struct run *r) { r->nevent = 0; }

/* The bytes of two messages under each other's numbers: order is right, content is not. */
static void f_exchanged(struct run *r)
{
	uint32_t i = pick_pair(r);

	swap(r, i);
	r->event[i].seq--;
	r->event[i + 1u].seq++;
}

/* A message that comes after its gap was declared. */
static void f_late(struct run *r)
{
	uint32_t i = pick(r, DATA);
	struct event e = r->event[i];

	r->event[i].kind = GAP;
	put(r, i + 3u, e);
}

/* A reset into an epoch that the source never began. */
static void f_reset_invented(struct run *r)
{
	uint32_t i = pick_pair(r);
	uint64_t epoch = r->event[i].epoch;

	for (uint32_t k = i + 1u; k < r->nevent; k++)
		r->event[k].epoch++;
	put(r, i + 1u, (struct event){ .kind = RESET, .epoch = epoch + 1u, .seq = r->event[i].seq + 1u,
	                               .count = r->event[i + 1u].seq });
}

/* The tail of an old session after the new one has begun. */
static void f_reset_ahead(struct run *r) { r->event[pick(r, RESET)].seq++; }

/* Of the epoch that was lost whole the bus had seen the name, somewhere in its midst, and nothing else. */
static void entered_and_left(struct run *r, uint64_t first, uint64_t left)
{
	uint32_t i = 0;

	while (r->event[i].kind != RESET || r->event[i].count != 1000)
		i++;
	for (uint32_t k = i; k < r->nevent; k++)
		r->event[k].epoch++;
	put(r, i, r->event[i]);
	r->event[i].epoch--;
	r->event[i].count = first;
	r->event[i + 1u].seq = left;
}

static void f_entered_and_left(struct run *r) { entered_and_left(r, 236, 300); }
static void f_entered_and_back(struct run *r) { entered_and_left(r, 236, 235); }

static void f_old_epoch(struct run *r)
{
	uint32_t i = pick(r, RESET);

	while (r->event[i - 1u].kind != DATA || r->event[i + 1u].kind != DATA)
		i = pick(r, RESET);
	struct event e = r->event[i - 1u];

	cut(r, i - 1u, 1);
	r->event[i - 1u].seq--;
	put(r, i + 3u, e);
}

/* Delivered, though both lines lost it: bytes from nowhere, right as they may look. */
static void f_from_nowhere(struct run *r)
{
	for (uint32_t i = pick(r, GAP);; i = pick(r, GAP)) {
		struct event *e = &r->event[i];

		for (uint32_t k = 0; k < r->nlog && e->count == 1; k++) {
			const struct mdbus_feedlog_record *l = &r->log[k];
			uint64_t epoch = 6u + l->epoch - (l->epoch > LOST_EPOCH);
			bool again = k + 1u < r->nlog && r->log[k + 1u].seq == l->seq;

			if (l->line_mask != 0 || l->seq != e->seq || epoch != e->epoch || l->epoch == LOST_EPOCH || again)
				continue;
			*e = (struct event){ .kind = DATA, .epoch = e->epoch, .seq = e->seq, .hash = l->hash, .len = l->len };
			return;
		}
	}
}

/* A number that was never sent. */
static void f_invented(struct run *r)
{
	struct event last = r->event[r->nevent - 1u];

	last.seq++;
	put(r, r->nevent, last);
}

/* All of one epoch gone, its reset too. */
static void f_epoch_lost(struct run *r)
{
	uint32_t i = 0, n = 1;

	while (r->event[i].kind != RESET)
		i++;
	while (r->event[i + n].kind != RESET)
		n++;
	cut(r, i, n);
	r->event[i].seq = r->event[i - 1u].seq + 1u;
	for (uint32_t k = i; k < r->nevent; k++)
		r->event[k].epoch--;
}

/* 10 to 40 records lost to a slow reader; the count is off by some, or only 1 (a jump counts as one record). */
static void overrun(struct run *r, uint64_t off, bool one)
{
	uint32_t n = 10u + rnd(r, 30), i, k;
	uint64_t records = 0;

	do {
		i = pick(r, DATA);
		for (k = i, records = 0; k < i + n && r->event[k].kind != RESET; k++)
			records += r->event[k].count;
	} while (k < i + n);
	cut(r, i, n);
	put(r, i, (struct event){ .kind = OVERRUN, .count = one ? 1 : records + off });
}

static void f_overrun(struct run *r) { overrun(r, 0, false); }
static void f_overrun_allowed(struct run *r) { r->allow_overruns = true; overrun(r, 0, false); }
static void f_overrun_long(struct run *r) { r->allow_overruns = true; overrun(r, 1, false); }
static void f_overrun_short(struct run *r) { r->allow_overruns = true; overrun(r, 0, true); }

static void f_overrun_reset(struct run *r)
{
	uint32_t i = pick(r, RESET), n = 20u + rnd(r, 100);

	r->allow_overruns = true;
	cut(r, i - 10u, n);
	put(r, i - 10u, (struct event){ .kind = OVERRUN, .count = n });
}

static void f_overrun_at_end(struct run *r)
{
	r->allow_overruns = true;
	r->nevent = r->nevent / 2u;
	put(r, r->nevent, (struct event){ .kind = OVERRUN, .count = 100 });
}

static void f_overrun_and_loss(struct run *r)
{
	f_overrun_allowed(r);
	f_gap_for_message(r);
}

static void f_line_not_down(struct run *r) { r->no_down = true; }

/* Attached in the middle of the run: what went before is nobody's loss ... */
static void f_joined(struct run *r)
{
	uint32_t i = pick_pair(r);

	cut(r, 0, i);
	for (uint32_t k = 0; k < r->nlog; k++)
		if (r->log[k].hash == r->event[0].hash && !(r->log[k].flags & MDBUS_FEEDLOG_REPEAT))
			r->attach_ns = r->log[k].time_ns;
}

/* ... but what was sent after that is. */
static void f_joined_and_lost(struct run *r)
{
	f_joined(r);
	cut(r, 0, 1);
}

#define FIELD(name) offsetof(struct mdbus_verdict, name)

/* What must be found, and whether the run passes all the same. */
static const struct fault {
	const char *name;
	void (*inject)(struct run *r);
	size_t field; /* must not be 0 */
	bool pass;
} faults[] = {
	{ "no fault", f_none, FIELD(matched), true },
	{ "no fault, a line down", f_none, FIELD(gap_down), true },
	{ "no fault, numbers never sent", f_none, FIELD(gap_never_sent), true },
	{ "no fault, lost on all lines", f_none, FIELD(gap_lost), true },
	{ "no fault, resets", f_none, FIELD(resets_expected), true },
	{ "no fault, an epoch lost whole", f_none, FIELD(edge_lost), true },
	{ "an epoch entered midstream, and nothing of it", f_entered_and_left, FIELD(edge_lost), true },
	{ "joined midway", f_joined, FIELD(before), true },
	{ "overrun allowed", f_overrun_allowed, FIELD(unproven), true },
	{ "overrun over a reset, allowed", f_overrun_reset, FIELD(unproven), true },
	{ "overrun at the end, allowed", f_overrun_at_end, FIELD(unproven), true },
	{ "twice in a row", f_twice_now, FIELD(duplicates), false },
	{ "twice, later", f_twice_later, FIELD(duplicates), false },
	{ "twice, at the end", f_twice_at_end, FIELD(duplicates), false },
	{ "swapped", f_swapped, FIELD(disorders), false },
	{ "corrupt", f_hash, FIELD(torn), false },
	{ "other length", f_len, FIELD(torn), false },
	{ "first one corrupt", f_first_hash, FIELD(torn), false },
	{ "contents exchanged", f_exchanged, FIELD(torn), false },
	{ "lost silently", f_silent_loss, FIELD(disorders), false },
	{ "lost silently, carried", f_silent_loss, FIELD(edge_carried), false },
	{ "gap over a carried message", f_gap_for_message, FIELD(gap_carried), false },
	{ "gap not told", f_gap_not_told, FIELD(disorders), false },
	{ "gap too long", f_gap_too_long, FIELD(disorders), false },
	{ "empty gap", f_gap_empty, FIELD(disorders), false },
	{ "late after its gap", f_late, FIELD(disorders), false },
	{ "late, carried", f_late, FIELD(gap_carried), false },
	{ "reset not told", f_reset_not_told, FIELD(disorders), false },
	{ "reset told twice", f_reset_twice, FIELD(disorders), false },
	{ "reset ahead of its place", f_reset_ahead, FIELD(disorders), false },
	{ "an epoch left before its start", f_entered_and_back, FIELD(disorders), false },
	{ "reset invented", f_reset_invented, FIELD(resets_actual), false },
	{ "old epoch in the new one", f_old_epoch, FIELD(disorders), false },
	{ "epoch lost", f_epoch_lost, FIELD(edge_carried), false },
	{ "tail lost", f_tail_lost, FIELD(edge_carried), false },
	{ "head lost", f_head_lost, FIELD(edge_carried), false },
	{ "nothing delivered", f_nothing, FIELD(edge_carried), false },
	{ "delivered though lost on all lines", f_from_nowhere, FIELD(unsent), false },
	{ "a number never sent", f_invented, FIELD(unsent), false },
	{ "overrun", f_overrun, FIELD(overruns), false },
	{ "overrun counted too long", f_overrun_long, FIELD(overrun_inexact), false },
	{ "overrun counted too short", f_overrun_short, FIELD(overrun_inexact), false },
	{ "a loss beside an overrun", f_overrun_and_loss, FIELD(gap_carried), false },
	{ "line was not down", f_line_not_down, FIELD(gap_carried), false },
	{ "joined midway and lost the next", f_joined_and_lost, FIELD(edge_carried), false },
};

static void test_faults(void)
{
	static struct run r;

	for (size_t f = 0; f < sizeof(faults) / sizeof(faults[0]); f++) {
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			make_run(&r, seed);
			faults[f].inject(&r);
			struct mdbus_verdict v = judge(&r);
			uint64_t found;

			memcpy(&found, (const char *)&v + faults[f].field, sizeof(found));
			CHECK(found > 0, "%s, seed %llu: not found", faults[f].name, (unsigned long long)seed);
			CHECK(v.pass == faults[f].pass, "%s, seed %llu: %s", faults[f].name, (unsigned long long)seed,
			      v.pass ? "passed" : "failed");
			CHECK(faults[f].pass || v.faults.n > 0 || v.overruns > 0, "%s: nothing to show", faults[f].name);
			check_sum(&v, faults[f].name);
			if (failures > 20)
				exit(1);
		}
	}
}

/* ---- channels in arrival order --------------------------------------------------------------------------------- */

static void make_unordered(struct run *r, uint64_t seed)
{
	uint64_t seq = 1;

	make_run(r, seed);
	r->unordered = true;
	for (uint32_t i = 0; i < r->nevent;) {
		if (r->event[i].kind == DATA)
			i++;
		else
			cut(r, i, 1);
	}
	for (uint32_t i = 0; i + 8u < r->nevent; i += 1u + rnd(r, 8)) {
		uint32_t k = i + rnd(r, 8);
		struct event e = r->event[i];

		r->event[i] = r->event[k];
		r->event[k] = e;
	}
	for (uint32_t i = 0; i < r->nevent; i++) {
		r->event[i].epoch = 1;
		r->event[i].seq = seq++;
	}
}

static void renumber(struct run *r)
{
	for (uint32_t i = 0; i < r->nevent; i++)
		r->event[i].seq = i + 1u;
}

static void test_unordered(void)
{
	static struct run r;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		make_unordered(&r, seed);
		CHECK(judge(&r).pass, "unordered, seed %llu", (unsigned long long)seed);
		for (uint32_t i = pick(&r, DATA); ; i = pick(&r, DATA)) { /* one that the source did not repeat */
			uint32_t n = 0;

			for (uint32_t k = 0; k < r.nlog; k++)
				n += r.log[k].hash == r.event[i].hash;
			put(&r, i, r.event[i]);
			if (n == 1)
				break;
			cut(&r, i, 1);
		}
		renumber(&r);
		CHECK(judge(&r).duplicates == 1 && !judge(&r).pass, "unordered, twice");
		make_unordered(&r, seed);
		cut(&r, pick(&r, DATA), 1);
		renumber(&r);
		CHECK(judge(&r).edge_carried == 1 && !judge(&r).pass, "unordered, lost");
		make_unordered(&r, seed);
		f_hash(&r);
		CHECK(judge(&r).torn == 1 && judge(&r).edge_carried == 1 && !judge(&r).pass, "unordered, corrupt");
		make_unordered(&r, seed);
		swap(&r, pick(&r, DATA));
		CHECK(judge(&r).disorders > 0 && !judge(&r).pass, "unordered, numbers out of order");
	}
}

int main(void)
{
	test_faults();
	test_unordered();
	return failures != 0;
}
