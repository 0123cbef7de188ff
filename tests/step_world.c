/* SPDX-License-Identifier: Apache-2.0
 *
 * step_world.c - see step_world.h.
 *
 * The judgement knows the script and the layout of the slots, and nothing of how the bus works: it recomputes every
 * byte from (session, number).  All of it is deterministic, time included.
 */
#include "step_world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "../bus/arena.h"

#define SAY_MAX   10u  /* violations told in full */
#define FIFO_MAX  256u
#define LONGER    130u /* bytes of a keyed message that goes by reference */
#define REGIONS   (4u + WORLD_LINES)

struct world_saved {
	uint8_t *memory; /* all regions, one behind the other */
	struct bed_line line[WORLD_LINES];
	uint16_t refs[WORLD_LINES][WORLD_FRAMES];
	struct mdbus_hold fifo[WORLD_LINES][FIFO_MAX];
	uint64_t was[WORLD_DEPTH];
	uint64_t now;
	uint32_t at;
};

static void __attribute__((format(printf, 2, 3))) violation(struct world *w, const char *format, ...)
{
	va_list ap;

	if (w->violations++ >= SAY_MAX)
		return;
	printf("%s, after instruction %" PRIu64 ": ", w->name, w->step);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

/* ---- messages and packets ------------------------------------------------------------------------------------ */

static uint32_t message(const struct world *w, uint32_t session, uint64_t seq, uint8_t *out)
{
	uint32_t key = (uint32_t)seq, len = key % 3u == 0 ? LONGER : 36u;

	if (!w->keyed)
		return bed_mold_message(seq, session, out);
	memset(out, 0, len);
	out[0] = 1;
	out[1] = 36;
	memcpy(out + 4, &key, 4);
	for (uint32_t i = 8; i < len; i++)
		out[i] = (uint8_t)(key * 31u + i);
	return len;
}

static uint32_t build(const struct world *w, const struct world_packet *p, uint8_t *out, uint32_t cap)
{
	struct bed_mold m = { .seq = p->seq, .count = p->count, .salt = p->session };

	if (w->keyed)
		return message(w, p->session, p->seq, out);
	snprintf(m.session, sizeof(m.session), "SESSION%03u", p->session % 1000u);
	return bed_mold_build(&m, out, cap);
}

void world_add(struct world *w, uint32_t session, uint64_t seq, uint32_t count)
{
	if (w->npacket == WORLD_PACKETS)
		exit(99);
	w->packet[w->npacket++] = (struct world_packet){ session, seq, count };
}

void world_offer(struct world *w, uint32_t line, uint32_t i)
{
	uint8_t bytes[2048];

	w->now += 1000;
	bed_packet(&w->bed, line, bytes, build(w, &w->packet[i], bytes, 1700), w->now);
}

void world_history(struct world *w, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		world_offer(w, i & 1u, i);
		world_offer(w, (i & 1u) ^ 1u, i);
	}
}

void world_receive(struct world *w, uint32_t line)
{
	struct bed_line *l = &w->bed.line[line];
	struct mdbus_arena_hdr *a = w->bed.bus.arena[line].base;

	while (l->holds.refs[l->next_frame % a->nframes] != 0)
		l->next_frame++;
	uint64_t off = a->frames_off + (uint64_t)(l->next_frame % a->nframes) * a->frame_size;
	uint8_t *frame = (uint8_t *)a + off;
	struct mdbus_frame_meta meta = { .rx_ns = w->now };

	memcpy(frame, &meta, sizeof(meta));
	w->chunk = (struct mdbus_chunk){ off + 256u, frame + 256u, 0, w->now };
	w->chunk.len = build(w, &w->packet[w->at], frame + 256u, 1700);
}

/* ---- the world ------------------------------------------------------------------------------------------------- */

void world_open(struct world *w, const char *name, uint32_t nline, bool keyed)
{
	struct mdbus_channel_desc d = bed_channel_default(keyed ? "optiq_key" : "moldudp64", nline);

	memset(w, 0, sizeof(*w));
	w->name = name;
	w->nline = nline;
	w->keyed = keyed;
	w->now = 1000000000;
	d.ordered = !keyed;
	d.depth = WORLD_DEPTH;
	d.window = WORLD_DEPTH / 2u;
	d.reorder_window = 4;
	d.gap_timeout_ns = WORLD_GAP_NS;
	d.key_window = 128;
	d.key_age_ns = WORLD_KEY_AGE_NS;
	bed_open(&w->bed, &d, nline, WORLD_FRAMES);
}

void world_close(struct world *w)
{
	for (uint32_t i = 0; i < WORLD_LEVELS; i++) {
		if (w->saved[i])
			free(w->saved[i]->memory);
		free(w->saved[i]);
	}
	bed_close(&w->bed);
}

static uint32_t regions(const struct world *w, const struct mdbus_region *r[REGIONS])
{
	const struct mdbus_bus *b = &w->bed.bus;
	uint32_t n = 0;

	r[n++] = &b->dir_region;
	r[n++] = &b->ring[0];
	r[n++] = &b->seat[0];
	if (b->keys[0].base)
		r[n++] = &b->keys[0];
	for (uint32_t k = 0; k < w->nline; k++)
		r[n++] = &b->arena[k];
	return n;
}

void world_note(struct world *w)
{
	for (uint64_t i = 0; i < WORLD_DEPTH; i++)
		w->was[i] = mdbus_ring_slot(&w->bed.line[0].channel.ring, i)->head.lo;
}

static struct world_saved *saved_new(const struct world *w)
{
	const struct mdbus_region *r[REGIONS];
	struct world_saved *s = calloc(1, sizeof(*s));
	size_t size = 1;

	for (uint32_t i = regions(w, r); i-- > 0;)
		size += r[i]->size;
	if (!s || !(s->memory = malloc(size)))
		exit(99);
	return s;
}

void world_save(struct world *w, uint32_t level)
{
	const struct mdbus_region *r[REGIONS];
	uint32_t n = regions(w, r);

	if (!w->saved[level])
		w->saved[level] = saved_new(w);
	struct world_saved *s = w->saved[level];
	uint8_t *to = s->memory;

	for (uint32_t i = 0; i < n; to += r[i++]->size)
		memcpy(to, r[i]->base, r[i]->size);
	for (uint32_t k = 0; k < w->nline; k++) {
		const struct bed_line *l = &w->bed.line[k];

		if (l->holds.head > FIFO_MAX)
			exit(99);
		memcpy(&s->line[k].holds, &l->holds, sizeof(*l) - offsetof(struct bed_line, holds));
		memcpy(s->refs[k], l->holds.refs, sizeof(s->refs[k]));
		memcpy(s->fifo[k], l->holds.fifo, l->holds.head * sizeof(s->fifo[k][0]));
	}
	memcpy(s->was, w->was, sizeof(w->was));
	s->now = w->now;
	s->at = w->at;
}

void world_load(struct world *w, uint32_t level)
{
	const struct mdbus_region *r[REGIONS];
	const struct world_saved *s = w->saved[level];
	const uint8_t *from = s->memory;
	uint32_t n = regions(w, r);

	for (uint32_t i = 0; i < n; from += r[i++]->size)
		memcpy(r[i]->base, from, r[i]->size);
	for (uint32_t k = 0; k < w->nline; k++) {
		struct bed_line *l = &w->bed.line[k];

		if (l->holds.refs != s->line[k].holds.refs)
			mdbus_holds_free(&l->holds); /* of a process that was started since */
		memcpy(&l->holds, &s->line[k].holds, sizeof(*l) - offsetof(struct bed_line, holds));
		memcpy(l->holds.refs, s->refs[k], sizeof(s->refs[k]));
		memcpy(l->holds.fifo, s->fifo[k], l->holds.head * sizeof(s->fifo[k][0]));
	}
	memcpy(w->was, s->was, sizeof(w->was));
	w->now = s->now;
	w->at = s->at;
}

bool world_same(const struct world *w, uint32_t level)
{
	const struct mdbus_region *r[REGIONS];
	const uint8_t *with = w->saved[level]->memory;
	uint32_t n = regions(w, r);

	for (uint32_t i = 0; i < n; with += r[i++]->size)
		if (memcmp(with, r[i]->base, r[i]->size) != 0)
			return false;
	return true;
}

uint64_t world_position(const struct world *w, uint64_t seq, struct mdbus_gen *g)
{
	const struct mdbus_ring_hdr *r = w->bed.bus.ring[0].base;

	if (!mdbus_gen_get(r, mdbus_gen_newest(r), g))
		exit(99);
	return g->base + (seq - g->first_seq);
}

/* ---- what must be read ------------------------------------------------------------------------------------------- */

/* Numbers of each session from 1 to the last one; a session that comes again under its number is none of ours. */
void world_expect(struct world *w)
{
	uint64_t last[3] = { 0 };
	bool carried[3][WORLD_RECORDS] = { { 0 } };

	for (uint32_t i = 0; i < w->npacket; i++) {
		const struct world_packet *p = &w->packet[i];

		for (uint64_t seq = p->seq; seq < p->seq + p->count; seq++)
			carried[p->session][seq] = true;
		if (p->count && p->seq + p->count - 1u > last[p->session])
			last[p->session] = p->seq + p->count - 1u;
	}
	w->nwant = 0;
	for (uint32_t s = 1; s <= 2 && last[s] != 0; s++) {
		if (s > 1)
			w->want[w->nwant++] = (struct world_record){ .epoch = s, .reset = true };
		for (uint64_t seq = 1; seq <= last[s] && w->nwant < WORLD_RECORDS; seq++)
			w->want[w->nwant++] = (struct world_record){ .epoch = s, .seq = seq, .data = carried[s][seq],
				                                     .gap = !carried[s][seq] };
	}
}

struct world_record *world_record(struct world *w, uint64_t epoch, uint64_t seq)
{
	for (uint32_t i = 0; i < w->nwant; i++)
		if (!w->want[i].reset && w->want[i].epoch == epoch && w->want[i].seq == seq)
			return &w->want[i];
	exit(99);
}

/* One reader's way through the script. */
struct reading {
	struct mdbus_sub *sub;
	bool begun;
	uint32_t first, next; /* of w->want */
	uint8_t seen[WORLD_RECORDS]; /* keyed: how often each came */
};

static void read_begin(struct world *w, struct reading *r)
{
	struct mdbus_sub_options o = { .start = MDBUS_START_OLDEST };

	*r = (struct reading){ .sub = mdbus_sub_over(&w->bed.bus, &o) };
	if (!r->sub)
		exit(99);
}

static bool is_message(const struct world *w, uint32_t session, uint64_t seq, const uint8_t *bytes, uint32_t len)
{
	uint8_t right[512];

	return message(w, session, seq, right) == len && memcmp(right, bytes, len) == 0;
}

static void keyed_record(struct world *w, struct reading *r, const struct mdbus_record *m)
{
	uint32_t key = 0;

	if (m->kind != MDBUS_RECORD_DATA || m->len < 36) {
		violation(w, "record of kind %u, %u bytes", m->kind, m->len);
		return;
	}
	memcpy(&key, m->data + 4, 4);
	if (key >= WORLD_RECORDS || !is_message(w, 1, key, m->data, m->len))
		violation(w, "a torn message, key %u", key);
	else if (r->seen[key]++)
		violation(w, "key %u came twice", key);
}

static bool begins(const struct world_record *want, const struct mdbus_record *m)
{
	return want->reset ? m->kind == MDBUS_RECORD_RESET : want->epoch == m->epoch && want->seq == m->seq;
}

/* One record, which may stand for several numbers. */
static void record(struct world *w, struct reading *r, const struct mdbus_record *m)
{
	uint64_t n = m->kind == MDBUS_RECORD_GAP || m->kind == MDBUS_RECORD_OVERRUN ? m->count : 1;

	if (!r->begun && m->kind == MDBUS_RECORD_OVERRUN)
		return; /* the oldest record that it meant to begin with is gone */
	for (uint32_t i = 0; i < w->nwant && !r->begun; i++) {
		if (begins(&w->want[i], m)) {
			r->first = r->next = i;
			r->begun = true;
		}
	}
	for (uint64_t i = 0; i < n; i++) {
		const struct world_record *want = &w->want[r->next];
		bool ok = r->begun && r->next < w->nwant && (i > 0 || begins(want, m));

		switch (m->kind) {
		case MDBUS_RECORD_DATA:
			ok = ok && want->data && is_message(w, (uint32_t)want->epoch, want->seq, m->data, m->len);
			break;
		case MDBUS_RECORD_GAP:
			ok = ok && want->gap;
			break;
		case MDBUS_RECORD_OVERRUN:
			ok = ok && want->lost;
			break;
		default:
			ok = ok && want->reset && m->epoch == want->epoch;
		}
		if (!ok) {
			violation(w, "read %s of epoch %" PRIu64 ", number %" PRIu64 ", %u bytes; epoch %" PRIu64 ", number %" PRIu64
			          " must be next", m->kind == MDBUS_RECORD_DATA ? "a message" : m->kind == MDBUS_RECORD_GAP ? "a gap" :
			          m->kind == MDBUS_RECORD_RESET ? "a reset" : "a loss", m->epoch, m->seq, m->len,
			          r->next < w->nwant ? want->epoch : 0, r->next < w->nwant ? want->seq : 0);
			return;
		}
		r->next++;
	}
}

static void read_on(struct world *w, struct reading *r)
{
	struct mdbus_record m;
	uint8_t bytes[512];

	for (uint32_t n = 0; n < WORLD_RECORDS && mdbus_sub_read(r->sub, &m, bytes, sizeof(bytes)); n++) {
		if (w->keyed)
			keyed_record(w, r, &m);
		else
			record(w, r, &m);
	}
}

/* Everything has come that will.  In arrival order, only who was there all the time must have got everything. */
static void read_end(struct world *w, struct reading *r, bool always_there)
{
	if (w->keyed) {
		for (uint32_t i = 0; i < w->npacket && always_there; i++)
			if (r->seen[w->packet[i].seq] == 0)
				violation(w, "key %" PRIu64 " is lost", w->packet[i].seq);
	} else if (!r->begun || r->next != w->nwant) {
		violation(w, "%u of %u records, then nothing", r->next, w->nwant);
	} else if (r->first != 0 && w->nwant - r->first < WORLD_DEPTH / 2u) {
		violation(w, "only the last %u records can be read", w->nwant - r->first);
	}
	mdbus_sub_close(r->sub);
}

/* ---- the ring ------------------------------------------------------------------------------------------------------ */

static bool is_data(uint64_t stamp)
{
	return mdbus_stamp_kind(stamp) == MDBUS_KIND_REF || mdbus_stamp_kind(stamp) == MDBUS_KIND_INLINE;
}

/* The bytes that a reader who gets as far as this slot would take are those of its position. */
static void look_at(struct world *w, const struct mdbus_slot *slot)
{
	const struct mdbus_ring *ring = &w->bed.line[0].channel.ring;
	uint64_t stamp = slot->head.lo, ref = slot->head.hi, pos = mdbus_stamp_pos(stamp);
	const struct mdbus_region *a = &w->bed.bus.arena[mdbus_ref_line(ref)];
	const uint8_t *bytes = mdbus_ring_bytes(ring, slot, stamp, ref, a->base, a->size);
	struct mdbus_gen g, first;
	uint32_t key = 0;

	if (!mdbus_gen_get(ring->hdr, mdbus_stamp_gen(stamp), &g) || g.base > pos || !mdbus_gen_get(ring->hdr, 1, &first)) {
		violation(w, "position %" PRIu64 " lies in no generation", pos);
		return;
	}
	if (bytes == NULL) {
		violation(w, "position %" PRIu64 " refers to nothing", pos);
		return;
	}
	memcpy(&key, bytes + 4, 4);
	if (!is_message(w, g.session == first.session ? 1 : 2, w->keyed ? key : g.first_seq + (pos - g.base), bytes,
	                mdbus_ref_len(ref)))
		violation(w, "position %" PRIu64 ": torn, or another message (stamp %#" PRIx64 ")", pos, stamp);
}

/* What stood here must stand here still. */
static void still_there(struct world *w, uint64_t was, uint64_t stamp)
{
	bool same = was >> MDBUS_STAMP_GEN_SHIFT == stamp >> MDBUS_STAMP_GEN_SHIFT;
	bool kept = is_data(was) ? is_data(stamp) : mdbus_stamp_kind(was) == mdbus_stamp_kind(stamp);

	if (mdbus_stamp_kind(was) == MDBUS_KIND_EMPTY || mdbus_stamp_pos(stamp) > mdbus_stamp_pos(was) || (same && kept))
		return;
	if (same && mdbus_stamp_kind(stamp) == MDBUS_KIND_EXPIRED) {
		const struct mdbus_ring_hdr *r = w->bed.bus.ring[0].base;
		struct mdbus_gen g;

		if (mdbus_gen_get(r, mdbus_stamp_gen(stamp), &g) &&
		    world_record(w, g.gen, g.first_seq + (mdbus_stamp_pos(stamp) - g.base))->lost)
			return;
	}
	violation(w, "position %" PRIu64 " is gone: stamp %#" PRIx64 ", was %#" PRIx64, mdbus_stamp_pos(was), stamp, was);
}

void world_look(struct world *w)
{
	for (uint64_t i = 0; i < WORLD_DEPTH; i++) {
		const struct mdbus_slot *slot = mdbus_ring_slot(&w->bed.line[0].channel.ring, i);

		still_there(w, w->was[i], slot->head.lo);
		if (is_data(slot->head.lo))
			look_at(w, slot);
	}
}

/* ---- after a death ------------------------------------------------------------------------------------------------- */

static void reclaim(struct world *w)
{
	mdbus_store_release(&w->bed.bus.dir->line_state[0], MDBUS_LINE_DOWN);
	mdbus_line_reclaim(&w->bed.bus, 0);
	if (mdbus_line_reclaim(&w->bed.bus, 0) != 0)
		violation(w, "a second reclaim found marks that the first one left");
	for (uint64_t i = 0; i < WORLD_DEPTH; i++) {
		uint64_t stamp = mdbus_ring_slot(&w->bed.line[0].channel.ring, i)->head.lo;

		if (stamp & (MDBUS_STAMP_WRITING | MDBUS_STAMP_TAINTED) && mdbus_stamp_line(stamp) == 0)
			violation(w, "position %" PRIu64 ": a mark is left", mdbus_stamp_pos(stamp));
	}
}

/* The new process holds what the ring refers to and has the rest free; its queue receives into those. */
static void conserve(struct world *w, struct bed_line *l)
{
	struct mdbus_arena_hdr *a = w->bed.bus.arena[0].base;
	uint32_t refs[WORLD_FRAMES] = { 0 };

	for (uint64_t i = 0; i < WORLD_DEPTH; i++) {
		const struct mdbus_slot *slot = mdbus_ring_slot(&l->channel.ring, i);

		if (mdbus_stamp_kind(slot->head.lo) == MDBUS_KIND_REF && mdbus_ref_line(slot->head.hi) == 0)
			refs[(mdbus_ref_off(slot->head.hi) - a->frames_off) / a->frame_size % WORLD_FRAMES]++;
	}
	for (uint32_t f = 0; f < WORLD_FRAMES; f++) {
		if (refs[f] != l->holds.refs[f])
			violation(w, "frame %u: the ring refers to it %u times, the new process holds it %u times", f, refs[f],
			          l->holds.refs[f]);
		if (l->holds.refs[f] == 0)
			memset((uint8_t *)a + a->frames_off + (uint64_t)f * a->frame_size, 0xee, a->frame_size);
	}
}

void world_restart(struct world *w)
{
	struct bed_line *l = &w->bed.line[0];

	if (mdbus_holds_init(&l->holds, w->bed.bus.arena[0].base, 1024) != 0)
		exit(99);
	mdbus_arena_scan(&l->bus, 0, &l->holds);
	if (mdbus_channel_init(&l->channel, &l->bus, 0, 0, &l->holds) != 0)
		exit(99);
}

static void restart(struct world *w)
{
	struct bed_line *l = &w->bed.line[0];

	mdbus_store_release(&w->bed.bus.dir->line_state[0], MDBUS_LINE_UP);
	if (l->holds.refs != w->saved[0]->line[0].holds.refs)
		mdbus_holds_free(&l->holds);
	world_restart(w);
	conserve(w, l);
	world_look(w);
}

void world_tick(struct world *w, uint32_t line, uint64_t ns)
{
	w->now += ns;
	mdbus_channel_tick(&w->bed.line[line].channel, w->now);
}

static void carry(struct world *w, uint32_t line, struct reading *r)
{
	for (uint32_t i = w->at; i < w->npacket; i++)
		world_offer(w, line, i);
	read_on(w, r);
}

void world_aftermath(struct world *w, bool other_first, void (*late)(struct world *))
{
	struct reading there, later;
	bool other = w->nline > 1;

	w->judged++;
	read_begin(w, &there);
	read_on(w, &there);
	world_look(w);
	reclaim(w);
	world_look(w);
	if (other && other_first)
		carry(w, 1, &there);
	restart(w);
	carry(w, 0, &there);
	if (other && !other_first)
		carry(w, 1, &there);
	for (uint32_t i = 0; i < 4; i++)
		for (uint32_t k = 0; k < w->nline && k < 2; k++)
			world_tick(w, k, WORLD_GAP_NS);
	read_on(w, &there);
	if (late)
		late(w);
	world_look(w);
	read_on(w, &there);
	read_begin(w, &later);
	read_on(w, &later);
	read_end(w, &there, true);
	read_end(w, &later, false);
}
