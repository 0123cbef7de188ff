/* SPDX-License-Identifier: Apache-2.0
 *
 * verify_track.c - one channel as it was delivered, checked while it comes.
 *
 * The check needs one word of memory: where the next record must stand.  A record that stands elsewhere is a fault and
 * is counted as what it is: a duplicate if its number was delivered before, disorder otherwise.  One that goes back is
 * not kept (its number has had its record); one that leaps ahead is, so that judging can name what lies in the hole.
 */
#include "verify.h"
#include <stdlib.h>
#include <string.h>

#define CHUNK_MESSAGES 65536u
#define EPOCHS_SKIPPED 65536u /* more epochs than this in one overrun: a broken record, not a busy session */

struct mdbus_chunk {
	uint64_t hash[CHUNK_MESSAGES];
	uint32_t len[CHUNK_MESSAGES];
};

/* ---- faults ---------------------------------------------------------------------------------------------------- */

const char *mdbus_fault_name(enum mdbus_fault_kind kind)
{
	static const char *const name[MDBUS_FAULT_KINDS] = {
		[MDBUS_FAULT_DUPLICATE] = "delivered twice",
		[MDBUS_FAULT_DISORDER] = "out of order",
		[MDBUS_FAULT_TORN] = "torn or corrupt",
		[MDBUS_FAULT_UNSENT] = "delivered though never sent",
		[MDBUS_FAULT_LOST] = "lost though carried",
		[MDBUS_FAULT_OVERRUN_COUNT] = "wrong overrun count",
		[MDBUS_FAULT_RESETS] = "wrong number of resets",
	};

	return kind < MDBUS_FAULT_KINDS ? name[kind] : "?";
}

void mdbus_faults_add(struct mdbus_faults *f, enum mdbus_fault_kind kind, uint64_t epoch, uint64_t seq, uint64_t count)
{
	struct mdbus_fault *last = f->n > 0 ? &f->kept[f->n - 1u] : NULL;

	if (last != NULL && last->kind == kind && last->epoch == epoch && last->seq + last->count == seq)
		last->count += count;
	else if (f->n < MDBUS_FAULTS_KEPT)
		f->kept[f->n++] = (struct mdbus_fault){ .kind = kind, .epoch = epoch, .seq = seq, .count = count };
}

/* ---- store ----------------------------------------------------------------------------------------------------- */

/* Room for one more element in a growing array of pointers or structs; NULL: none to be had. */
static void *grown(void *array, size_t n, size_t *cap, size_t size)
{
	size_t want = *cap ? 2u * *cap : 16u;

	if (n < *cap)
		return array;
	array = realloc(array, want * size);
	if (array != NULL)
		*cap = want;
	return array;
}

static void store(struct mdbus_track *t, uint64_t hash, uint32_t len)
{
	uint64_t chunk = t->nmessage / CHUNK_MESSAGES, at = t->nmessage % CHUNK_MESSAGES;

	if (chunk == t->nchunk) {
		struct mdbus_chunk **list = grown(t->chunk, t->nchunk, &t->cap_chunk, sizeof(struct mdbus_chunk *));

		if (list != NULL)
			t->chunk = list;
		if (list == NULL || (list[t->nchunk] = malloc(sizeof(struct mdbus_chunk))) == NULL) {
			t->no_memory = true;
			return;
		}
		t->nchunk++;
	}
	t->chunk[chunk]->hash[at] = hash;
	t->chunk[chunk]->len[at] = len;
	t->nmessage++;
}

uint64_t mdbus_track_hash(const struct mdbus_track *t, uint64_t i)
{
	return t->chunk[i / CHUNK_MESSAGES]->hash[i % CHUNK_MESSAGES];
}

uint32_t mdbus_track_len(const struct mdbus_track *t, uint64_t i)
{
	return t->chunk[i / CHUNK_MESSAGES]->len[i % CHUNK_MESSAGES];
}

/* Numbers [seq, end) follow what is kept: a new span, or the last one grows. */
static void span_add(struct mdbus_track *t, enum mdbus_span_kind kind, uint64_t epoch, uint64_t seq, uint64_t end,
                     uint64_t claimed)
{
	struct mdbus_span *last = t->nspan > 0 ? &t->span[t->nspan - 1u] : NULL, *list;

	if (last != NULL && kind != MDBUS_SPAN_OVERRUN && last->kind == kind && last->epoch == epoch && last->end == seq) {
		last->end = end;
		return;
	}
	list = grown(t->span, t->nspan, &t->cap_span, sizeof(*list));
	if (list == NULL) {
		t->no_memory = true;
		return;
	}
	t->span = list;
	list[t->nspan++] = (struct mdbus_span){
		.epoch = epoch, .seq = seq, .end = end, .first = t->nmessage, .claimed = claimed, .kind = kind,
	};
}

/* ---- order ----------------------------------------------------------------------------------------------------- */

/* True if (epoch, seq) was delivered as a message. Spans are in order, so by halves. */
static bool delivered(const struct mdbus_track *t, uint64_t epoch, uint64_t seq)
{
	size_t lo = 0, hi = t->nspan;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2u;
		const struct mdbus_span *s = &t->span[mid];

		if (s->epoch > epoch || (s->epoch == epoch && s->seq > seq))
			hi = mid;
		else if (s->epoch < epoch || s->end <= seq)
			lo = mid + 1u;
		else
			return s->kind == MDBUS_SPAN_DATA;
	}
	return false;
}

/* An overrun was told; the record at (epoch, seq) is the first after it. */
static void resolve_overrun(struct mdbus_track *t, uint64_t epoch, uint64_t seq)
{
	uint64_t claimed = t->overrun_claimed;

	t->overrun_pending = false;
	t->overrun_claimed = 0;
	if (!t->started) {
		span_add(t, MDBUS_SPAN_OVERRUN, epoch, 0, seq, 0);
	} else if (epoch == t->epoch && seq >= t->next) {
		span_add(t, MDBUS_SPAN_OVERRUN, epoch, t->next, seq, claimed);
	} else if (epoch > t->epoch && epoch - t->epoch < EPOCHS_SKIPPED) {
		span_add(t, MDBUS_SPAN_OVERRUN, t->epoch, t->next, MDBUS_SPAN_OPEN, 0);
		for (uint64_t e = t->epoch + 1u; e < epoch; e++)
			span_add(t, MDBUS_SPAN_OVERRUN, e, 0, MDBUS_SPAN_OPEN, 0);
		span_add(t, MDBUS_SPAN_OVERRUN, epoch, 0, seq, 0);
	} else {
		return; /* backwards: the check that follows says so */
	}
	t->started = true;
	t->epoch = epoch;
	t->next = seq;
}

static void disorder(struct mdbus_track *t, uint64_t epoch, uint64_t seq)
{
	uint32_t before = t->faults.n;

	t->disorders++;
	mdbus_faults_add(&t->faults, MDBUS_FAULT_DISORDER, epoch, seq, 1);
	if (t->faults.n > before) {
		t->faults.kept[before].due_epoch = t->epoch;
		t->faults.kept[before].due_seq = t->next;
	}
}

/* The record of [seq, seq + count) has come. True: it is to be kept, and stands at t->next now. */
static bool place(struct mdbus_track *t, uint64_t epoch, uint64_t seq, bool message)
{
	bool entered = t->entered;

	t->entered = false;
	if (t->overrun_pending)
		resolve_overrun(t, epoch, seq);
	if (!t->started) {
		t->started = true;
		t->epoch = epoch;
		t->next = seq;
	}
	if (epoch == t->epoch && seq == t->next)
		return true;
	if (epoch < t->epoch || (epoch == t->epoch && seq < t->next)) {
		if (message && delivered(t, epoch, seq)) {
			t->duplicates++;
			mdbus_faults_add(&t->faults, MDBUS_FAULT_DUPLICATE, epoch, seq, 1);
		} else {
			disorder(t, epoch, seq);
		}
		return false;
	}
	if (!entered || epoch != t->epoch)
		disorder(t, epoch, seq);
	t->epoch = epoch;
	t->next = seq;
	return true;
}

void mdbus_track_message(struct mdbus_track *t, uint64_t epoch, uint64_t seq, uint64_t hash, uint32_t len)
{
	if (!place(t, epoch, seq, true))
		return;
	span_add(t, MDBUS_SPAN_DATA, epoch, seq, seq + 1u, 0);
	store(t, hash, len);
	t->next = seq + 1u;
}

void mdbus_track_gap(struct mdbus_track *t, uint64_t epoch, uint64_t seq, uint64_t count)
{
	if (!place(t, epoch, seq, false))
		return;
	if (count == 0 || seq + count < seq) {
		disorder(t, epoch, seq);
		return;
	}
	t->gap_records++;
	t->gaps += count;
	span_add(t, MDBUS_SPAN_GAP, epoch, seq, seq + count, 0);
	t->next = seq + count;
}

void mdbus_track_reset(struct mdbus_track *t, uint64_t epoch, uint64_t seq, uint64_t first)
{
	bool entered = t->entered;

	if (t->overrun_pending)
		resolve_overrun(t, epoch - 1u, seq);
	/* an epoch may end with nothing of it delivered: who entered it midstream died before the first message was published */
	if (t->started && (epoch != t->epoch + 1u || (entered ? seq < t->next : seq != t->next)))
		disorder(t, epoch, first);
	if (t->started && epoch <= t->epoch)
		return;
	t->resets++;
	t->started = t->entered = true;
	t->epoch = epoch;
	t->next = first;
}

void mdbus_track_overrun(struct mdbus_track *t, uint64_t count)
{
	t->overruns += count;
	t->overrun_claimed += count;
	t->overrun_pending = true;
}

void mdbus_track_finish(struct mdbus_track *t)
{
	if (t->overrun_pending && t->started)
		span_add(t, MDBUS_SPAN_OVERRUN, t->epoch, t->next, MDBUS_SPAN_OPEN, 0);
	t->overrun_pending = false;
}

void mdbus_track_free(struct mdbus_track *t)
{
	for (size_t i = 0; i < t->nchunk; i++)
		free(t->chunk[i]);
	free(t->chunk);
	free(t->span);
	memset(t, 0, sizeof(*t));
}
