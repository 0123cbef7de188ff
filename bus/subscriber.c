/* SPDX-License-Identifier: Apache-2.0
 *
 * subscriber.c - the reader's side of a bus.
 *
 * A reader is a position and a generation per channel.  It looks at slot[pos]; what it finds there is the record, nothing
 * yet, or something newer, and then it has been lapped.  A lapped reader goes on an eighth of the ring above the oldest slot,
 * so that it is not lapped again at once, and learns the number of records between by subtraction: positions count
 * records, except those between two generations, whose sum each generation knows (`skipped`).
 */
#include <mdbus/subscriber.h>

#include <errno.h>
#include <linux/futex.h>
#include <mdbus/hook.h>
#include <mdbus/lease.h>
#include <mdbus/ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "generation.h"
#include "shape.h"
#include "subscriber.h"

#define BURST          64u                      /* records of one channel before the next one has its turn */
#define SLEEP_MAX_NS   UINT64_C(10000000)       /* a missed doorbell costs no more than this */
#define WAIT_MS        5000
#define HEARTBEAT_MASK 1023u
#define AHEAD_HOLES    64u                      /* unpublished slots looked over for one record beyond a hole */

struct reader {
	struct mdbus_ring ring;
	struct mdbus_gen gen; /* with skipped and epoch; gen.gen 0: nothing published yet */
	uint64_t pos;
	uint32_t channel;
	uint64_t *ahead; /* unordered view: a bit per slot, set for records delivered before their turn; else NULL */
	uint64_t scan;   /* where to look for the next of those */
};

struct mdbus_sub {
	struct mdbus_bus bus;
	struct mdbus_seat_hdr *seat;
	struct reader *reader;
	uint32_t nreader;
	uint32_t turn;  /* reader whose turn it is */
	uint32_t burst; /* records it still may deliver */
	uint64_t polls;
	struct mdbus_rest rest;
	bool bulk;
	bool borrowed; /* the bus is the caller's: not to be detached */
};

static uint32_t room_after_lap(const struct mdbus_ring *r)
{
	return (uint32_t)((r->mask + 1u) / 8u);
}

/* Put the reader at position pos, or at the first one after it that belongs to a generation. */
static bool place(struct reader *d, uint64_t pos)
{
	struct mdbus_gen g, next;
	uint64_t end;

	if (!mdbus_gen_find(d->ring.hdr, pos, &g))
		return false;
	if (mdbus_gen_end(d->ring.hdr, g.gen, &end) && pos > end && mdbus_gen_get(d->ring.hdr, g.gen + 1, &next)) {
		g = next;
		pos = g.base;
	}
	if (!mdbus_gen_account(d->ring.hdr, &g))
		return false;
	d->gen = g;
	d->pos = pos;
	return true;
}

/* The oldest position that a reader can hope to keep up from when the ring has got as far as newest. */
static uint64_t oldest_of(const struct reader *d, uint64_t newest)
{
	uint64_t depth = d->ring.mask + 1u, oldest = newest - depth + room_after_lap(&d->ring);
	struct mdbus_gen first;

	if (newest < depth + room_after_lap(&d->ring))
		return depth;
	if (mdbus_gen_get(d->ring.hdr, 1, &first) && oldest < first.base)
		return first.base;
	return oldest;
}

static void start(const struct mdbus_sub *s, struct reader *d, enum mdbus_sub_start where)
{
	uint64_t head = mdbus_bus_newest_head(&s->bus, d->channel);

	if (head == 0)
		return; /* nothing published yet: the first generation will be read from its start */
	place(d, where == MDBUS_START_OLDEST ? oldest_of(d, head) : head);
}

static uint64_t seq_at(const struct reader *d)
{
	return d->gen.first_seq + (d->pos - d->gen.base);
}

static bool give(const struct reader *d, struct mdbus_record *r, enum mdbus_record_kind kind, uint64_t count)
{
	*r = (struct mdbus_record){
		.kind = kind,
		.channel = d->channel,
		.epoch = d->gen.epoch,
		.seq = seq_at(d),
		.count = count,
	};
	return true;
}

static bool is_ahead(const struct reader *d, uint64_t pos)
{
	uint64_t i = pos & d->ring.mask;

	return d->ahead != NULL && (d->ahead[i / 64u] >> (i % 64u) & 1u) != 0;
}

static void set_ahead(struct reader *d, uint64_t pos, bool on)
{
	uint64_t i = pos & d->ring.mask, bit = UINT64_C(1) << (i % 64u);

	d->ahead[i / 64u] = on ? d->ahead[i / 64u] | bit : d->ahead[i / 64u] & ~bit;
}

/* No record was delivered before its turn. */
static void forget_ahead(struct reader *d)
{
	for (uint64_t i = 0; d->ahead != NULL && i <= d->ring.mask / 64u; i++)
		d->ahead[i] = 0;
}

/*
 * The reader has gone on from `old` to where it is now.  How many of the records between had been delivered before their turn; what
 * was delivered from further on still is.
 */
static uint64_t pass_ahead(struct reader *d, const struct reader *old)
{
	uint64_t n = 0, to = d->pos, end;

	if (d->ahead == NULL)
		return 0;
	if (d->gen.gen != old->gen.gen && mdbus_gen_end(d->ring.hdr, old->gen.gen, &end) && end < to)
		to = end; /* what came from beyond it is not between */
	for (uint64_t pos = old->pos; pos < to && pos - old->pos <= d->ring.mask; pos++) {
		n += is_ahead(d, pos);
		set_ahead(d, pos, false);
	}
	if (d->gen.gen != old->gen.gen)
		forget_ahead(d);
	return n;
}

/* Lapped: say what was lost and go on at the oldest there is. `seen` is a position that is surely published. */
static bool overrun(struct mdbus_sub *s, struct reader *d, struct mdbus_record *r, uint64_t seen)
{
	uint64_t head = mdbus_bus_newest_head(&s->bus, d->channel), records = d->pos - d->gen.skipped;
	struct reader old = *d;

	if (!place(d, oldest_of(d, head > seen ? head : seen)))
		return false; /* a generation is just being closed; look again */
	if (d->pos <= old.pos) {
		*d = old;
		return false;
	}
	give(&old, r, MDBUS_RECORD_OVERRUN, d->pos - d->gen.skipped - records - pass_ahead(d, &old));
#ifdef MDBUS_MUTANT_overrun_one_short
	r->count--;
#endif
	mdbus_count(&s->seat->count.overruns, 1u);
	mdbus_count(&s->seat->count.overrun_lost, r->count);
	mdbus_count(&s->seat->channel[d->channel].overrun, r->count);
	return true;
}

/* One record that cannot be delivered any more: its frame was taken back, or its slot is damaged. */
static bool lost_one(struct mdbus_sub *s, struct reader *d, struct mdbus_record *r)
{
	give(d, r, MDBUS_RECORD_OVERRUN, 1);
	d->pos++;
	mdbus_count(&s->seat->count.overruns, 1u);
	mdbus_count(&s->seat->count.overrun_lost, 1u);
	mdbus_count(&s->seat->channel[d->channel].overrun, 1u);
	return true;
}

/* A generation ends here: go over to the next.  False: without a record. */
static bool cross(struct reader *d, struct mdbus_record *r, enum mdbus_kind kind, uint64_t value, struct mdbus_gen next)
{
	next.skipped = d->gen.skipped + next.base - d->pos - 1u;
	next.epoch = d->gen.epoch + (kind == MDBUS_KIND_RESET);
	if (kind == MDBUS_KIND_RESET) {
		give(d, r, MDBUS_RECORD_RESET, next.first_seq);
		r->epoch = next.epoch;
	} else {
		give(d, r, MDBUS_RECORD_GAP, value);
	}
	forget_ahead(d); /* what came ahead from beyond the end stays delivered; its places are others' now */
	d->gen = next;
	d->pos = next.base;
	return kind == MDBUS_KIND_RESET || value != 0;
}

/* The message at position pos.  False: it changed while it was looked at. */
static inline bool deliver(struct mdbus_sub *s, const struct reader *d, struct mdbus_record *r, uint64_t pos,
                           uint64_t stamp, uint64_t ref)
{
	const struct mdbus_slot *slot = mdbus_ring_slot(&d->ring, pos);
	const struct mdbus_region *a = &s->bus.arena[mdbus_ref_line(ref)];
	const uint8_t *bytes = mdbus_ring_bytes(&d->ring, slot, stamp, ref, a->base, a->size);

	if (bytes == NULL)
		return false;
	r->kind = MDBUS_RECORD_DATA;
	r->channel = d->channel;
	r->epoch = d->gen.epoch;
	r->seq = d->gen.first_seq + (pos - d->gen.base);
	r->count = 1;
	r->data = bytes;
	r->len = mdbus_ref_len(ref);
	r->line = mdbus_ref_line(ref);
	r->retrans = mdbus_ref_flags(ref) & MDBUS_REF_RETRANS;
	r->slot = slot;
	r->stamp = stamp;
	r->ahead = 0;
	r->rx_ns = mdbus_ring_arrival(&d->ring, slot, stamp, ref, a->base, a->size);
	return true;
}

/* There is nothing at pos yet: the next message beyond it, if this reader takes them out of turn. */
static bool deliver_ahead(struct mdbus_sub *s, struct reader *d, struct mdbus_record *r)
{
	uint64_t stamp, ref, last = d->pos + d->ring.mask / 2u;

	if (d->scan <= d->pos)
		d->scan = d->pos + 1u;
	for (uint64_t pos = d->scan; pos < d->scan + AHEAD_HOLES && pos < last; pos++) {
		if (mdbus_ring_look(&d->ring, pos, d->gen.gen, &stamp, &ref) != MDBUS_LOOK_RECORD)
			continue;
		enum mdbus_kind kind = mdbus_stamp_kind(stamp);

		d->scan = pos + 1u;
		if ((kind != MDBUS_KIND_REF && kind != MDBUS_KIND_INLINE) || is_ahead(d, pos) ||
		    !deliver(s, d, r, pos, stamp, ref))
			return false;
		r->ahead = 1;
		set_ahead(d, pos, true);
		return true;
	}
	return false;
}

/* The next record of one channel. */
static inline bool reader_next(struct mdbus_sub *s, struct reader *d, struct mdbus_record *r)
{
	uint64_t stamp, ref;
	struct mdbus_gen next;

	if (d->gen.gen == 0) {
		if (mdbus_load_relaxed(&d->ring.hdr->gen) == 0 || !mdbus_gen_get(d->ring.hdr, 1, &d->gen))
			return false;
		mdbus_gen_account(d->ring.hdr, &d->gen);
		d->pos = d->gen.base;
	}
	for (;;) {
		switch (mdbus_ring_look(&d->ring, d->pos, d->gen.gen, &stamp, &ref)) {
		case MDBUS_LOOK_NONE:
			return d->ahead != NULL && deliver_ahead(s, d, r);
		case MDBUS_LOOK_LAPPED:
			return overrun(s, d, r,
			               mdbus_stamp_pos(mdbus_load_relaxed(&mdbus_ring_slot(&d->ring, d->pos)->head.lo)));
		case MDBUS_LOOK_RECORD:
			break;
		}
		if (is_ahead(d, d->pos)) {
			set_ahead(d, d->pos++, false);
			continue;
		}
		switch (mdbus_stamp_kind(stamp)) {
		case MDBUS_KIND_REF:
		case MDBUS_KIND_INLINE:
			if (deliver(s, d, r, d->pos, stamp, ref)) {
				d->pos++;
				return true;
			}
			if (mdbus_ring_still(mdbus_ring_slot(&d->ring, d->pos), stamp))
				return lost_one(s, d, r);
			continue;
		case MDBUS_KIND_GAP:
			give(d, r, MDBUS_RECORD_GAP, 1);
			d->pos++;
			return true;
		case MDBUS_KIND_RESET:
		case MDBUS_KIND_JUMP:
			if (!mdbus_gen_get(d->ring.hdr, d->gen.gen + 1, &next))
				return overrun(s, d, r, d->pos);
			if (cross(d, r, mdbus_stamp_kind(stamp), ref, next))
				return true;
			continue;
		case MDBUS_KIND_EXPIRED:
			return lost_one(s, d, r);
		case MDBUS_KIND_SKIP:
		case MDBUS_KIND_EMPTY:
			d->pos++;
		}
	}
}

static inline void account(struct mdbus_sub *s, const struct mdbus_record *r)
{
	mdbus_count(&s->seat->count.records, 1u);
	if (r->kind == MDBUS_RECORD_DATA) {
		mdbus_count(&s->seat->count.messages, 1u);
		mdbus_count(&s->seat->count.bytes, r->len);
	} else if (r->kind == MDBUS_RECORD_GAP) {
		mdbus_count(&s->seat->count.gaps, r->count);
	} else if (r->kind == MDBUS_RECORD_RESET) {
		mdbus_count(&s->seat->count.resets, 1u);
	}
}

static void note_position(struct mdbus_sub *s, const struct reader *d)
{
	mdbus_store_relaxed(&s->seat->channel[d->channel].pos, d->pos);
	MDBUS_HOOK("sub.position");
}

bool mdbus_sub_next(struct mdbus_sub *s, struct mdbus_record *r)
{
	if ((s->polls++ & HEARTBEAT_MASK) == 0)
		mdbus_store_relaxed(&s->seat->count.heartbeat_ns, mdbus_clock_ns());
	for (uint32_t i = 0; i <= s->nreader; i++) {
		struct reader *d = &s->reader[s->turn];

		if (s->burst != 0 && reader_next(s, d, r)) {
			s->burst--;
			s->rest.found += s->bulk;
			account(s, r);
			return true;
		}
		if (s->seat->channel[d->channel].pos != d->pos)
			note_position(s, d);
		s->turn = s->turn + 1u < s->nreader ? s->turn + 1u : 0;
		s->burst = BURST;
	}
	/* a caller that looks again at once would take the slot's line away while it is being written */
	mdbus_rest_take(&s->rest);
	return false;
}

bool mdbus_sub_valid(struct mdbus_sub *s, struct mdbus_record *r)
{
	if (r->kind != MDBUS_RECORD_DATA || mdbus_ring_still(r->slot, r->stamp))
		return true;
	for (uint32_t i = 0; i < s->nreader; i++) {
		struct reader *d = &s->reader[i];
		uint64_t pos = mdbus_stamp_pos(r->stamp);

		/* the last record of its channel: step back, so that it, or the overrun, comes next */
		if (d->channel == r->channel && (r->ahead ? is_ahead(d, pos) : d->pos == pos + 1u)) {
			if (r->ahead)
				set_ahead(d, pos, false);
			else
				d->pos--;
			mdbus_count(&s->seat->count.records, (uint64_t)-1);
			mdbus_count(&s->seat->count.messages, (uint64_t)-1);
			mdbus_count(&s->seat->count.bytes, (uint64_t)0 - r->len);
		}
	}
	return false;
}

bool mdbus_sub_read(struct mdbus_sub *s, struct mdbus_record *r, void *buf, size_t cap)
{
	while (mdbus_sub_next(s, r)) {
		if (r->kind != MDBUS_RECORD_DATA)
			return true;
		memcpy(buf, r->data, r->len < cap ? r->len : cap);
		if (mdbus_sub_valid(s, r)) {
			r->data = buf;
			return true;
		}
	}
	return false;
}

/* True if some channel has something to read. */
static bool anything(const struct mdbus_sub *s)
{
	for (uint32_t i = 0; i < s->nreader; i++) {
		const struct reader *d = &s->reader[i];
		uint64_t stamp = mdbus_load_acquire(&mdbus_ring_slot(&d->ring, d->pos)->head.lo);

		if (d->gen.gen == 0 ? mdbus_load_relaxed(&d->ring.hdr->gen) != 0
		                    : mdbus_stamp_pos(stamp) > d->pos || mdbus_stamp_is(stamp, d->pos, d->gen.gen))
			return true;
	}
	return false;
}

void mdbus_sub_wait(struct mdbus_sub *s, uint64_t timeout_ns)
{
	uint32_t *bell = &mdbus_bus_ring(&s->bus, 0)->doorbell;
	uint32_t heard = mdbus_load_acquire(bell);
	struct timespec ts = { .tv_nsec = (long)(timeout_ns < SLEEP_MAX_NS ? timeout_ns : SLEEP_MAX_NS) };

	for (uint32_t i = 0; i < s->nreader; i++)
		note_position(s, &s->reader[i]);
	mdbus_store_relaxed(&s->seat->sleeping, 1);
	MDBUS_HOOK("sub.sleeps");
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!anything(s)) {
		mdbus_count(&s->seat->count.sleeps, 1u);
		syscall(SYS_futex, bell, FUTEX_WAIT, heard, &ts, NULL, 0);
	}
	MDBUS_HOOK("sub.woken");
	mdbus_store_relaxed(&s->seat->sleeping, 0);
	mdbus_store_relaxed(&s->seat->count.heartbeat_ns, mdbus_clock_ns());
}

static struct mdbus_sub *refuse(struct mdbus_sub *s, int error, char *err, size_t errlen, const char *why)
{
	if (err != NULL && errlen != 0)
		snprintf(err, errlen, "%s", why);
	mdbus_sub_close(s);
	errno = error;
	return NULL;
}

/* "BUS/CHANNEL" or "BUS": the parts, cut to what names may be. */
static void split(const char *spec, char *bus, const char **channel)
{
	const char *slash = strchr(spec, '/');
	size_t n = slash ? (size_t)(slash - spec) : strlen(spec);

	if (n >= MDBUS_NAME_MAX)
		n = MDBUS_NAME_MAX - 1u;
	memcpy(bus, spec, n);
	bus[n] = '\0';
	if (slash != NULL)
		*channel = slash + 1;
}

/* Readers for the channels asked for, each at its start. */
static struct mdbus_sub *set_up(struct mdbus_sub *s, const struct mdbus_sub_options *o, char *err, size_t errlen)
{
	char why[256];

	s->seat = s->bus.seat[s->bus.index].base;
	s->burst = BURST;
	s->bulk = o->bulk;
	s->reader = calloc(s->bus.dir->nchannel, sizeof(*s->reader));
	if (s->reader == NULL)
		return refuse(s, ENOMEM, err, errlen, "out of memory");
	for (uint32_t c = 0; c < s->bus.dir->nchannel; c++) {
		struct reader *d = &s->reader[s->nreader];

		if (o->channel && strncmp(o->channel, s->bus.dir->channel[c].name, MDBUS_NAME_MAX) != 0)
			continue;
		*d = (struct reader){ .ring = mdbus_shape_ring_view(&s->bus, c, MDBUS_LINES_MAX), .channel = c };
		if (o->unordered) {
			d->ahead = calloc((d->ring.mask + 64u) / 64u, sizeof(*d->ahead));
			if (d->ahead == NULL)
				return refuse(s, ENOMEM, err, errlen, "out of memory");
		}
		start(s, d, o->start);
		note_position(s, d);
		s->nreader++;
	}
	if (s->nreader == 0) {
		snprintf(why, sizeof(why), "bus %s has no channel %s; mdbusctl channels lists them", s->bus.dir->segment.bus,
		         o->channel ? o->channel : "at all");
		return refuse(s, ENOENT, err, errlen, why);
	}
	return s;
}

struct mdbus_sub *mdbus_sub_over(const struct mdbus_bus *bus, const struct mdbus_sub_options *options)
{
	struct mdbus_sub_options o = options ? *options : (struct mdbus_sub_options){ 0 };
	struct mdbus_sub *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->bus = *bus;
	s->borrowed = true;
	return set_up(s, &o, NULL, 0);
}

struct mdbus_sub *mdbus_sub_open(const char *bus, const struct mdbus_sub_options *options, char *err, size_t errlen)
{
	struct mdbus_sub_options o = options ? *options : (struct mdbus_sub_options){ 0 };
	char name[MDBUS_NAME_MAX];
	struct mdbus_sub *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return refuse(NULL, ENOMEM, err, errlen, "out of memory");
	split(bus, name, &o.channel);
	rc = mdbus_bus_attach(&s->bus, name, MDBUS_LEASE_SEAT, o.name ? o.name : program_invocation_short_name,
	                      o.wait_ms ? o.wait_ms : WAIT_MS);
	if (rc != 0) {
		s->borrowed = true; /* nothing was lent */
		return refuse(s, -rc, err, errlen, s->bus.error);
	}
	return set_up(s, &o, err, errlen);
}

void mdbus_sub_close(struct mdbus_sub *s)
{
	if (s == NULL)
		return;
	MDBUS_HOOK("sub.close");
	if (!s->borrowed)
		mdbus_bus_detach(&s->bus);
	for (uint32_t i = 0; s->reader != NULL && i < s->nreader; i++)
		free(s->reader[i].ahead);
	free(s->reader);
	free(s);
}

uint32_t mdbus_sub_channels(const struct mdbus_sub *s)
{
	return s->bus.dir->nchannel;
}

const char *mdbus_sub_channel_name(const struct mdbus_sub *s, uint32_t channel)
{
	return channel < s->bus.dir->nchannel ? s->bus.dir->channel[channel].name : NULL;
}

const char *mdbus_sub_line_name(const struct mdbus_sub *s, uint32_t line)
{
	return line < s->bus.dir->nline ? s->bus.dir->line[line].name : NULL;
}

uint64_t mdbus_sub_wall_offset(const struct mdbus_sub *s)
{
	return s->bus.dir->wall_offset_ns;
}

uint64_t mdbus_sub_lag(const struct mdbus_sub *s)
{
	uint64_t lag = 0;

	for (uint32_t i = 0; i < s->nreader; i++) {
		uint64_t head = mdbus_bus_newest_head(&s->bus, s->reader[i].channel);

		if (head > s->reader[i].pos)
			lag += head - s->reader[i].pos;
	}
	return lag;
}

uint64_t mdbus_sub_overruns(const struct mdbus_sub *s)
{
	return s->seat->count.overrun_lost;
}
