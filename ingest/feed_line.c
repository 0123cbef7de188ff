/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_line.c - what happens to packets on one line.
 *
 * A packet is copied into a slot, because lines keep it for different times.  From then on the slot is in one of: `held`
 * (let others pass first), the queue to the transport, or the free list.  Everything that time triggers is worked off in
 * the order of its schedule time, so the result does not depend on how often `advance` is called.
 */
#include "feed_line.h"
#include "feed_build.h"
#include "feed_repack.h"
#include <errno.h>
#include <mdbus/atomics.h>
#include <stdlib.h>
#include <string.h>

enum draw { DRAW_LOSS, DRAW_DUP, DRAW_REORDER, DRAW_DEPTH, DRAWS };

struct slot {
	struct slot *next;
	uint64_t due;        /* schedule time, without skew */
	uint32_t len, dest;
	uint32_t left;       /* packets still to pass while held */
	uint32_t nmsg, nrun;
	bool twice, copy, made;
	struct mdbus_feed_run *run; /* behind data */
	uint8_t data[];
};

struct queue {
	struct slot *first, *last;
};

struct mdbus_feed_line {
	struct mdbus_feed_line_config c;
	struct mdbus_feed_line_spec spec;
	uint32_t *dest;
	struct mdbus_feed_repack *repack; /* one a stream, or NULL */
	uint32_t gathering;               /* of them not empty */
	uint32_t payload_cap, run_cap;
	uint64_t packet_no;
	uint64_t last_due;
	struct queue out, held;
	struct slot *free;
	struct mdbus_feed_line_stats stats;
};

static void queue_put(struct queue *q, struct slot *s)
{
	s->next = NULL;
	if (q->last)
		q->last->next = s;
	else
		q->first = s;
	q->last = s;
}

static struct slot *queue_get(struct queue *q)
{
	struct slot *s = q->first;

	q->first = s->next;
	if (!q->first)
		q->last = NULL;
	return s;
}

static struct slot *slot_get(struct mdbus_feed_line *line)
{
	size_t data = (line->payload_cap + 7u) & ~7u;
	struct slot *s = line->free;

	if (s) {
		line->free = s->next;
	} else {
		s = malloc(sizeof(*s) + data + line->run_cap * sizeof(*s->run));
		if (!s)
			return NULL;
		s->run = (struct mdbus_feed_run *)(void *)(s->data + data);
	}
	s->nmsg = s->nrun = s->left = 0;
	s->twice = s->copy = s->made = false;
	return s;
}

static void slot_put(struct mdbus_feed_line *line, struct slot *s)
{
	s->next = line->free;
	line->free = s;
}

static void queue_free(struct queue *q)
{
	while (q->first)
		free(queue_get(q));
}

static int open_repack(struct mdbus_feed_line *line)
{
	line->repack = calloc(line->c.nstream, sizeof(*line->repack));
	if (!line->repack)
		return -ENOMEM;
	for (uint32_t i = 0; i < line->c.nstream; i++)
		if (mdbus_feed_repack_open(&line->repack[i], line->c.layout, line->spec.repack, line->payload_cap))
			return -ENOMEM;
	return 0;
}

struct mdbus_feed_line *mdbus_feed_line_open(const struct mdbus_feed_line_config *config)
{
	struct mdbus_feed_line *line = calloc(1, sizeof(*line));

	if (!line)
		return NULL;
	line->c = *config;
	line->spec = *config->spec;
	line->payload_cap = config->max_payload > MDBUS_FEED_PAYLOAD ? config->max_payload : MDBUS_FEED_PAYLOAD;
	line->run_cap = line->spec.repack ? MDBUS_FEED_REPACK_RUNS : 1;
	line->dest = malloc(config->nstream * sizeof(*line->dest));
	if (!line->dest || (line->spec.repack && open_repack(line))) {
		mdbus_feed_line_close(line);
		return NULL;
	}
	memcpy(line->dest, config->dest, config->nstream * sizeof(*line->dest));
	return line;
}

void mdbus_feed_line_close(struct mdbus_feed_line *line)
{
	struct queue unused = { line->free, NULL };

	queue_free(&line->out);
	queue_free(&line->held);
	queue_free(&unused);
	for (uint32_t i = 0; line->repack && i < line->c.nstream; i++)
		mdbus_feed_repack_close(&line->repack[i]);
	free(line->repack);
	free(line->dest);
	free(line);
}

bool mdbus_feed_line_carries(const struct mdbus_feed_line *line, uint32_t stream)
{
	return line->dest[stream] != MDBUS_FEED_NONE;
}

/* A number that depends on nothing but the seed, the line, its n-th packet and what is to be decided. */
static uint64_t draw(const struct mdbus_feed_line *line, uint64_t n, enum draw what)
{
	uint64_t z = line->c.seed * UINT64_C(0x9e3779b97f4a7c15) + (line->c.index + 1) * UINT64_C(0xd6e8feb86659fd93) +
	             (n * DRAWS + what) * UINT64_C(0xa0761d6478bd642f);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	z = (z ^ (z >> 31)) * UINT64_C(0x9fb21c651e98df25);
	return z ^ (z >> 28);
}

static bool chance(const struct mdbus_feed_line *line, uint64_t n, enum draw what, double p)
{
	return (double)(draw(line, n, what) >> 11) * 0x1p-53 < p;
}

static void resolve(struct mdbus_feed_line *line, const struct slot *s, bool sent, uint64_t now)
{
	for (uint32_t i = 0; i < s->nrun; i++)
		mdbus_feed_log_resolve(line->c.log, s->run[i].first, s->run[i].n, line->c.index, sent, now);
}

/* To the transport's queue, with a copy behind it if it is to go twice. */
static int emit(struct mdbus_feed_line *line, struct slot *s, uint64_t due)
{
	struct slot *copy;

	line->last_due = due > line->last_due ? due : line->last_due;
	s->due = line->last_due;
	queue_put(&line->out, s);
	for (struct slot *h = line->held.first; h; h = h->next)
		h->left -= h->left > 0;
	if (!s->twice)
		return 0;
	copy = slot_get(line);
	if (!copy)
		return -ENOMEM;
	copy->copy = true;
	copy->len = s->len;
	copy->dest = s->dest;
	copy->due = s->due;
	memcpy(copy->data, s->data, s->len);
	queue_put(&line->out, copy);
	return 0;
}

static int release_all(struct mdbus_feed_line *line, uint64_t due)
{
	int rc = 0;

	while (!rc && line->held.first)
		rc = emit(line, queue_get(&line->held), due);
	return rc;
}

/* A packet has gone by: those held back that have let enough others pass follow, and may set others free. */
static int release_passed(struct mdbus_feed_line *line, uint64_t due)
{
	for (;;) {
		struct slot **link = &line->held.first, *s, *before = NULL;
		int rc;

		while ((s = *link) && s->left) {
			before = s;
			link = &s->next;
		}
		if (!s)
			return 0;
		*link = s->next;
		if (line->held.last == s)
			line->held.last = before;
		rc = emit(line, s, due);
		if (rc)
			return rc;
	}
}

/* The slot is the line's n-th packet: decide what becomes of it. */
static int dispatch(struct mdbus_feed_line *line, struct slot *s, uint8_t flags, uint64_t due)
{
	uint64_t n = line->packet_no++;
	bool safe = flags & MDBUS_FEED_PROTECT;
	int rc = flags & MDBUS_FEED_BARRIER ? release_all(line, due) : 0;

	s->due = due;
	s->made = flags & MDBUS_FEED_MADE;
	if (!safe && chance(line, n, DRAW_LOSS, line->spec.loss)) {
		resolve(line, s, false, mdbus_clock_ns());
		line->stats.lost_packets++;
		line->stats.lost_messages += s->nmsg;
		slot_put(line, s);
		return rc;
	}
	s->twice = !safe && chance(line, n, DRAW_DUP, line->spec.dup);
	if (!safe && chance(line, n, DRAW_REORDER, line->spec.reorder)) {
		s->left = 1 + (uint32_t)(draw(line, n, DRAW_DEPTH) % line->spec.reorder_depth);
		queue_put(&line->held, s);
		line->stats.reordered++;
		return rc;
	}
	if (!rc)
		rc = emit(line, s, due);
	return rc ? rc : release_passed(line, due);
}

static int flush_group(struct mdbus_feed_line *line, uint32_t stream, uint64_t due)
{
	struct mdbus_feed_repack *r = &line->repack[stream];
	struct slot *s;
	uint8_t flags = r->flags;

	if (r->count == 0)
		return 0;
	s = slot_get(line);
	if (!s)
		return -ENOMEM;
	mdbus_feed_repack_finish(r);
	memcpy(s->data, r->data, r->len);
	memcpy(s->run, r->run, r->nrun * sizeof(*r->run));
	s->len = r->len;
	s->nmsg = r->count;
	s->nrun = r->nrun;
	s->dest = line->dest[stream];
	mdbus_feed_repack_reset(r);
	line->gathering--;
	return dispatch(line, s, flags, due);
}

static int gather(struct mdbus_feed_line *line, const struct mdbus_feed_packet *p, uint64_t first, uint64_t due)
{
	struct mdbus_feed_repack *r = &line->repack[p->stream];
	int rc = 0;

	for (uint32_t i = 0; !rc && i < p->nmsg; i++) {
		if (mdbus_feed_repack_full(r, p, i))
			rc = flush_group(line, p->stream, due);
		if (rc)
			break;
		line->gathering += r->count == 0;
		mdbus_feed_repack_add(r, p, i, first + i, due);
		if (mdbus_feed_repack_done(r, p, i))
			rc = flush_group(line, p->stream, due);
	}
	if (!rc && p->flags & (MDBUS_FEED_EPOCH_END | MDBUS_FEED_BARRIER))
		rc = flush_group(line, p->stream, due);
	return rc;
}

static int pass_whole(struct mdbus_feed_line *line, const struct mdbus_feed_packet *p, uint64_t first, uint64_t due)
{
	struct slot *s;
	int rc = line->repack ? flush_group(line, p->stream, due) : 0;

	if (rc)
		return rc;
	s = slot_get(line);
	if (!s)
		return -ENOMEM;
	memcpy(s->data, p->data, p->len);
	s->len = p->len;
	s->dest = line->dest[p->stream];
	s->nmsg = p->nmsg;
	if (p->nmsg)
		s->run[s->nrun++] = (struct mdbus_feed_run){ first, p->nmsg };
	if (line->repack)
		mdbus_feed_repack_pass(&line->repack[p->stream], p, s->data);
	return dispatch(line, s, p->flags, due);
}

int mdbus_feed_line_push(struct mdbus_feed_line *line, const struct mdbus_feed_packet *p, uint64_t first,
                         uint64_t due_ns)
{
	int rc = mdbus_feed_line_advance(line, due_ns);

	if (rc)
		return rc;
	if (p->len > line->payload_cap)
		return -EMSGSIZE;
	if (line->repack && p->nmsg && !(p->flags & MDBUS_FEED_WHOLE))
		return gather(line, p, first, due_ns);
	return pass_whole(line, p, first, due_ns);
}

/* The earliest thing that time triggers: a stream's half-full packet, or (MDBUS_FEED_NONE) the first one held back. */
static uint64_t first_deadline(const struct mdbus_feed_line *line, uint32_t *stream)
{
	uint64_t at = UINT64_MAX;

	*stream = MDBUS_FEED_NONE;
	if (!line->c.timed)
		return at;
	if (line->held.first)
		at = line->held.first->due + MDBUS_FEED_HOLD_NS;
	for (uint32_t i = 0; line->gathering && i < line->c.nstream; i++) {
		const struct mdbus_feed_repack *r = &line->repack[i];

		if (r->count && r->since_ns + MDBUS_FEED_HOLD_NS < at) {
			at = r->since_ns + MDBUS_FEED_HOLD_NS;
			*stream = i;
		}
	}
	return at;
}

int mdbus_feed_line_advance(struct mdbus_feed_line *line, uint64_t now_ns)
{
	for (;;) {
		uint32_t stream;
		uint64_t at = first_deadline(line, &stream);
		int rc;

		if (at > now_ns || at == UINT64_MAX)
			return 0;
		rc = stream == MDBUS_FEED_NONE ? emit(line, queue_get(&line->held), at) : flush_group(line, stream, at);
		if (rc)
			return rc;
	}
}

int mdbus_feed_line_finish(struct mdbus_feed_line *line, uint64_t now_ns)
{
	int rc = mdbus_feed_line_advance(line, now_ns);

	for (uint32_t i = 0; !rc && line->repack && i < line->c.nstream; i++)
		rc = flush_group(line, i, now_ns);
	return rc ? rc : release_all(line, now_ns);
}

static void sent(struct mdbus_feed_line *line, struct slot *s, uint64_t now)
{
	resolve(line, s, true, now);
	line->stats.packets += !s->copy;
	line->stats.duplicated += s->copy;
	line->stats.messages += s->nmsg;
	line->stats.bytes += s->len;
	line->stats.made_heartbeats += s->made;
	slot_put(line, s);
}

int mdbus_feed_line_send(struct mdbus_feed_line *line, uint64_t now_ns, bool *busy)
{
	struct mdbus_feed_tx_packet batch[MDBUS_FEED_BATCH];
	uint64_t skew = line->spec.skew_ns, clock;
	const struct slot *s = line->out.first;
	uint32_t n = 0;
	int taken;

	*busy = false;
	for (; s && n < MDBUS_FEED_BATCH && s->due + skew <= now_ns; s = s->next)
		batch[n++] = (struct mdbus_feed_tx_packet){ s->data, s->len, s->dest };
	if (n == 0)
		return 0;
	clock = mdbus_clock_ns();
	taken = line->c.ops->send(line->c.tx, batch, n);
	if (taken < 0)
		return taken;
	for (int i = 0; i < taken; i++)
		sent(line, queue_get(&line->out), clock);
	*busy = line->out.first && line->out.first->due + skew <= now_ns;
	return taken;
}

uint64_t mdbus_feed_line_next(const struct mdbus_feed_line *line)
{
	uint32_t stream;
	uint64_t at = first_deadline(line, &stream);

	if (line->out.first && line->out.first->due + line->spec.skew_ns < at)
		at = line->out.first->due + line->spec.skew_ns;
	return at;
}

const struct mdbus_feed_line_stats *mdbus_feed_line_stats(const struct mdbus_feed_line *line)
{
	return &line->stats;
}
