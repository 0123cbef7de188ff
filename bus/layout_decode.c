/* SPDX-License-Identifier: Apache-2.0
 *
 * layout_decode.c - one decoder for every feed.
 *
 * A layout is data, so nothing here knows an exchange.  Two rules keep the reads inside the payload.  Header fields
 * were checked against the header size when the layout was made (mdbus_layout_check), so one comparison of the
 * payload's length with that size covers them all.  Fields within messages were summed up into msg_min then, so one
 * comparison a message covers those; the walk goes on only by lengths that it has compared with the packet's end.
 *
 * It runs once a packet and once a message on the hot path.  What a layout's form decides for every packet was therefore
 * derived from it beforehand: fields of the header are one load and two shifts each, rules are mostly passed over by
 * their first conditions, and the walk is compiled once for each common form from one body that the compiler specialises.
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <mdbus/layout.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE uint64_t load(const uint8_t *p, unsigned width, bool big)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64 = 0;

	switch (width) {
	case 1:
		return p[0];
	case 2:
		memcpy(&v16, p, sizeof(v16));
		return big ? be16toh(v16) : le16toh(v16);
	case 4:
		memcpy(&v32, p, sizeof(v32));
		return big ? be32toh(v32) : le32toh(v32);
	case 8:
		memcpy(&v64, p, sizeof(v64));
		return big ? be64toh(v64) : le64toh(v64);
	default:
		for (unsigned i = 0; i < width; i++)
			v64 = v64 << 8 | p[big ? i : width - 1 - i];
		return v64;
	}
}

static uint64_t load_header(const struct mdbus_layout *l, const uint8_t *payload,
                                          const struct mdbus_layout_field *f)
{
	return load(payload + f->offset, f->width, l->big_endian);
}

/* A field of a header that has 8 bytes, and so some 8 bytes around the field. */
static ALWAYS_INLINE uint64_t load_word(const uint8_t *payload, struct mdbus_layout_word w, bool big)
{
	return load(payload + w.at, 8, big) << w.left >> w.right;
}

/* seq + n, in the layout's idea of what follows its greatest number. */
static inline uint64_t seq_add(const struct mdbus_layout *l, uint64_t seq, uint64_t n)
{
	uint64_t max;

	if (l->wrap != MDBUS_WRAP_MAX_TO_1)
		return seq + n;
	max = l->seq.width >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * l->seq.width)) - 1;
	return n > max - seq ? n - (max - seq) : seq + n;
}

/* ---- sessions ---- */

static inline uint64_t mix(uint64_t h, uint64_t v)
{
	__uint128_t m = (__uint128_t)(h ^ v) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* 64 bits of the session fields' bytes; not 0.  Byte order does not matter: equal bytes, equal hash. */
static inline uint64_t session_hash(const struct mdbus_layout *l, const uint8_t *payload)
{
	uint64_t h = UINT64_C(0x6d64627573736573) + l->session_bytes;

	for (unsigned i = 0; i < l->nsession; i++) {
		const uint8_t *p = payload + l->session[i].offset;
		const unsigned n = l->session[i].width;

		if (l->session[i].mask) {
			h = mix(h, load_header(l, payload, &l->session[i]) & l->session[i].mask);
			continue;
		}
		if (n < 8) {
			h = mix(h, load(p, n, false));
			continue;
		}
		for (const uint8_t *last = p + n - 8; p < last; p += 8)
			h = mix(h, load(p, 8, false));
		h = mix(h, load(payload + l->session[i].offset + n - 8, 8, false));
	}
	return h ? h : 1;
}

static int copy_fields(const struct mdbus_layout *l, const struct mdbus_layout_field *f, unsigned n,
                       const uint8_t *payload, uint32_t len, uint8_t *out)
{
	int total = 0;

	if (len < l->hdr)
		return -EBADMSG;
	for (unsigned i = 0; i < n; i++) {
		const unsigned width = f[i].width;

		memcpy(out + total, payload + f[i].offset, width);
		for (unsigned k = 0; f[i].mask && k < width; k++)
			out[total + (int)k] &= (uint8_t)(f[i].mask >> 8 * (l->big_endian ? width - 1 - k : k));
		total += (int)width;
	}
	return total;
}

int mdbus_layout_key(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len, uint8_t *out)
{
	return copy_fields(l, l->key, l->nkey, payload, len, out);
}

int mdbus_layout_session(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len, uint8_t *out)
{
	return copy_fields(l, l->session, l->nsession, payload, len, out);
}

/* ---- the walk ---- */

/* What a walk found besides how many messages: the numbers that stand in the first and the last. */
struct tally {
	uint64_t first_seq, last_seq;
};

/*
 * What the walk needs of the layout and packet, in locals: its stores could be to the layout, for all the compiler
 * knows. From one message to the next it depends on one load and one addition.
 */
static ALWAYS_INLINE enum mdbus_decode_error walk_form(const struct mdbus_layout *l, const uint8_t *payload,
                                                       const struct mdbus_packet *p, struct mdbus_message *out,
                                                       uint32_t max, uint32_t *walked, struct tally *t, unsigned width,
                                                       bool big, bool counted)
{
	const int64_t end = p->msgs_end, min = l->msg_min, bias = l->msglen.bias;
	const uint8_t *const length_at = payload + l->msglen.offset;
	const bool by_count = counted || l->end_count, own_seq = !counted && l->seq.in_message;
	const bool wraps = !counted && l->wrap == MDBUS_WRAP_MAX_TO_1;
	const uint32_t want = by_count ? p->frames : UINT32_MAX;
	const int64_t least = l->align > 1 ? l->align : 1; /* fewer bytes at the end are pad, or nothing */
	const struct mdbus_layout_field seq_at = l->seq;
	const bool seq_big = l->big_endian;
	uint64_t seq = p->seq;
	int64_t off = p->msgs_off;
	uint32_t n = 0;
	enum mdbus_decode_error error = MDBUS_DECODE_OK;

	for (; n < want; n++) {
		int64_t next;

		if (!by_count && end - off < least)
			break;
		if (n == max) {
			*walked = n;
			return MDBUS_DECODE_OK;
		}
		if (end - off < min) {
			error = off == end ? MDBUS_DECODE_BAD_COUNT : MDBUS_DECODE_BAD_LENGTH;
			break;
		}
		next = off + bias + (int64_t)load(length_at + off, width, big);
#ifdef MDBUS_MUTANT_message_unbounded
		if (next < off + min) {
#else
		if (next < off + min || next > end) {
#endif
			error = MDBUS_DECODE_BAD_LENGTH;
			break;
		}
		if (own_seq)
			seq = load(payload + off + seq_at.offset, seq_at.width, seq_big);
		if (out)
			out[n] = (struct mdbus_message){ (uint32_t)off, (uint32_t)(next - off), seq };
		if (t && n == 0)
			t->first_seq = seq;
		if (t)
			t->last_seq = seq;
		seq = wraps ? seq_add(l, seq, 1) : seq + 1;
		off = next;
	}
	if (!error && !by_count && p->frames != MDBUS_FRAMES_TO_END && n != p->frames)
		error = MDBUS_DECODE_BAD_COUNT;
	*walked = n;
	return error;
}

static ALWAYS_INLINE enum mdbus_decode_error walk(const struct mdbus_layout *l, const uint8_t *payload,
                                                  const struct mdbus_packet *p, struct mdbus_message *out, uint32_t max,
                                                  uint32_t *walked, struct tally *t)
{
	switch (l->walk) {
	case MDBUS_WALK_1:
		return walk_form(l, payload, p, out, max, walked, t, 1, false, false);
	case MDBUS_WALK_2_LE:
		return walk_form(l, payload, p, out, max, walked, t, 2, false, false);
	case MDBUS_WALK_2_BE:
		return walk_form(l, payload, p, out, max, walked, t, 2, true, false);
	case MDBUS_WALK_COUNTED_LE:
		return walk_form(l, payload, p, out, max, walked, t, 2, false, true);
	case MDBUS_WALK_COUNTED_BE:
		return walk_form(l, payload, p, out, max, walked, t, 2, true, true);
	default:
		return walk_form(l, payload, p, out, max, walked, t, l->msglen.width, l->big_endian, false);
	}
}

enum mdbus_decode_error mdbus_layout_frames(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                            const struct mdbus_packet *p, struct mdbus_message *out, uint32_t max,
                                            uint32_t *walked)
{
	*walked = 0;
	if (p->frames == 0)
		return MDBUS_DECODE_OK;
	if (p->msgs_end > len || p->msgs_off > p->msgs_end)
		return MDBUS_DECODE_BAD_LENGTH;
	if (l->msglen.width == 0) {
		if (max == 0)
			return MDBUS_DECODE_OK;
		out[0] = (struct mdbus_message){ .off = 0, .len = p->msgs_end, .seq = p->seq };
		*walked = 1;
		return MDBUS_DECODE_OK;
	}
	return walk(l, payload, p, out, max, walked, NULL);
}

enum mdbus_decode_error mdbus_layout_messages(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                              const struct mdbus_packet *p, struct mdbus_message *out, uint32_t max,
                                              uint32_t *walked)
{
	if (l->unit == MDBUS_UNIT_MESSAGE && !p->no_messages)
		return mdbus_layout_frames(l, payload, len, p, out, max, walked);
	*walked = 0;
	if (p->no_messages || max == 0)
		return MDBUS_DECODE_OK;
	out[0] = (struct mdbus_message){ .off = 0, .len = p->msgs_end, .seq = p->seq };
	*walked = 1;
	return MDBUS_DECODE_OK;
}

/* ---- events ---- */

/* A field of the first message.  False: there is no first message, or it ends before the field does. */
static bool load_first_message(const struct mdbus_layout *l, const uint8_t *payload, const struct mdbus_packet *p,
                               const struct mdbus_layout_field *f, uint64_t *out)
{
	const uint8_t *first = payload + p->msgs_off;
	int64_t room = (int64_t)p->msgs_end - p->msgs_off, len;

	if (p->frames == 0 || room < l->msg_min)
		return false;
	len = (int64_t)load(first + l->msglen.offset, l->msglen.width, l->big_endian) + l->msglen.bias;
	if (len > room || (int64_t)f->offset + f->width > len)
		return false;
	*out = load(first + f->offset, f->width, l->big_endian);
	return true;
}

static ALWAYS_INLINE bool load_rule_field(const struct mdbus_layout *l, const uint8_t *payload,
                                          const struct mdbus_packet *p, const struct mdbus_layout_field *f,
                                          uint64_t *out)
{
	if (f->in_message)
		return load_first_message(l, payload, p, f, out);
	*out = load_header(l, payload, f);
	return true;
}

/* A condition in the form that takes a conversion, a bound or a list. */
static bool cond_holds_slowly(const struct mdbus_layout *l, const uint8_t *payload, const struct mdbus_packet *p,
                              const struct mdbus_layout_cond *c)
{
	uint64_t v;

	if (!load_rule_field(l, payload, p, &c->field, &v))
		return false;
	switch (c->op) {
	case MDBUS_OP_EQ:
		return v == c->value[0];
	case MDBUS_OP_NE:
		return v != c->value[0];
	case MDBUS_OP_ANY_BIT:
		return (v & c->value[0]) != 0;
	default:
		for (unsigned i = 0; i < c->nvalue; i++)
			if (v == c->value[i])
				return true;
		return false;
	}
}

/* Most conditions are one comparison of eight bytes of the header, masked, as they lie there (mdbus_layout_derive). */
static ALWAYS_INLINE bool quick_holds(const uint8_t *payload, uint16_t at, uint64_t mask, uint64_t want, uint8_t quick)
{
	uint64_t raw;

	memcpy(&raw, payload + at, sizeof(raw));
	return ((raw & mask) == want) == (quick == MDBUS_QUICK_EQUAL);
}

static ALWAYS_INLINE bool cond_holds(const struct mdbus_layout *l, const uint8_t *payload,
                                     const struct mdbus_packet *p, const struct mdbus_layout_cond *c)
{
	if (c->quick == MDBUS_QUICK_NOT)
		return cond_holds_slowly(l, payload, p, c);
	return quick_holds(payload, c->at, c->mask, c->want, c->quick);
}

/* The rule that gives the packet its event, or NULL.  Marks retransmissions and what is opaque on the way. */
static ALWAYS_INLINE const struct mdbus_layout_rule *find_rule(const struct mdbus_layout *l, const uint8_t *payload,
                                                               struct mdbus_packet *p, bool plain)
{
	for (unsigned i = 0; i < l->nrule; i++) {
		const struct mdbus_layout_first *first = &l->first[i];
		const struct mdbus_layout_rule *r = &l->rule[i];
		unsigned c = 0;

		if ((plain || first->quick != MDBUS_QUICK_NOT) &&
		    !quick_holds(payload, first->at, first->mask, first->want, first->quick))
			continue;

		while (c < r->ncond && cond_holds(l, payload, p, &r->cond[c]))
			c++;
		if (c < r->ncond)
			continue;
		if (r->event != MDBUS_EVENT_NONE)
			return r;
		p->retrans |= r->retrans;
		if (r->opaque)
			p->frames = 0; /* nothing to walk, and no first message for the rules that follow */
	}
	return NULL;
}

/* ---- numbers ---- */

static inline void set_next(struct mdbus_packet *p, uint64_t next)
{
	p->next_seq = next;
	p->has_next = 1;
}

/* What an event that takes no number itself says about the numbering. */
static void number_event(const struct mdbus_layout *l, const uint8_t *payload, const struct mdbus_layout_rule *r,
                         struct mdbus_packet *p)
{
	uint64_t next;

	p->count = 0;
	p->has_seq = 0;
	switch (p->event_seq) {
	case MDBUS_EVENT_SEQ_NEXT:
		p->has_seq = 1;
		set_next(p, p->seq);
		break;
	case MDBUS_EVENT_SEQ_LAST:
		p->has_seq = 1;
#ifdef MDBUS_MUTANT_last_as_next
		set_next(p, p->seq);
#else
		set_next(p, seq_add(l, p->seq, 1));
#endif
		break;
	case MDBUS_EVENT_SEQ_ZERO:
		if (p->event == MDBUS_EVENT_RESET || p->event == MDBUS_EVENT_SOS)
			set_next(p, 1);
		break;
	case MDBUS_EVENT_SEQ_FIELD:
		if (load_rule_field(l, payload, p, &r->field, &next))
			set_next(p, next);
		break;
	default:
		break;
	}
}

/*
 * seq and count of a layout that keeps them in its messages, or nowhere: found by walking.  A malformed message is
 * reported here if it is the first, else by whoever walks next: the ones before it are valid.
 */
static enum mdbus_decode_error number_by_walk(const struct mdbus_layout *l, const uint8_t *payload,
                                              struct mdbus_packet *p)
{
	struct tally t = { 0 };
	enum mdbus_decode_error error = MDBUS_DECODE_OK;
	uint32_t n = 0;

	if (p->frames)
		error = walk(l, payload, p, NULL, UINT32_MAX, &n, &t);
	if (error && n == 0)
		return error;
	p->count = n;
	if (!l->seq.in_message) {
		p->has_seq = 1;
		set_next(p, seq_add(l, p->seq, n));
	} else if (n) {
		p->seq = t.first_seq;
		p->has_seq = 1;
		set_next(p, seq_add(l, t.last_seq, 1));
	} else {
		p->seq = p->pktseq;
	}
	return MDBUS_DECODE_OK;
}

static ALWAYS_INLINE enum mdbus_decode_error number_messages(const struct mdbus_layout *l, const uint8_t *payload,
                                                             struct mdbus_packet *p, bool plain)
{
	if (!plain && l->unit == MDBUS_UNIT_PACKET) {
		p->count = 1;
		p->has_seq = 1;
		set_next(p, seq_add(l, p->seq, 1));
	} else if (!plain && l->unit == MDBUS_UNIT_ARRIVAL) {
		p->count = 1;
	} else if (!plain && (l->seq.in_message || p->frames == MDBUS_FRAMES_TO_END)) {
		return number_by_walk(l, payload, p);
	} else {
		p->count = p->frames;
		p->has_seq = 1;
		set_next(p, seq_add(l, p->seq, p->frames));
	}
	return MDBUS_DECODE_OK;
}

/* ---- a packet ---- */

static ALWAYS_INLINE uint64_t load_field(const struct mdbus_layout *l, const uint8_t *payload,
                                         const struct mdbus_layout_field *f, struct mdbus_layout_word w, bool big, bool plain)
{
	return plain || l->words ? load_word(payload, w, big) : load_header(l, payload, f);
}

static ALWAYS_INLINE enum mdbus_decode_error read_header(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                                         struct mdbus_packet *p, bool big, bool plain)
{
	if (len < l->hdr)
		return MDBUS_DECODE_BAD_HEADER;
	p->msgs_off = l->hdr;
	p->msgs_end = len;
	if (l->pktlen.width) {
		int64_t n = (int64_t)load_field(l, payload, &l->pktlen, l->pktlen_word, big, plain) + l->pktlen.bias;

		if (n < l->hdr || n > (int64_t)len)
			return MDBUS_DECODE_BAD_LENGTH;
		p->msgs_end = (uint32_t)n;
	}
	if (plain || l->count.width)
		p->frames = (uint32_t)load_field(l, payload, &l->count, l->count_word, big, plain);
	else
		p->frames = l->msglen.width ? MDBUS_FRAMES_TO_END : 1;
	if (l->time.width)
		p->time_ns = load_field(l, payload, &l->time, l->time_word, big, plain);
	if (!plain && l->pktseq.width)
		p->pktseq = load_field(l, payload, &l->pktseq, l->pktseq_word, big, plain);
	if (plain || l->seq.width)
		p->seq = !plain && l->seq.in_message ? p->pktseq : load_field(l, payload, &l->seq, l->seq_word, big, plain);
	if (l->nsession)
		p->session = session_hash(l, payload);
	return MDBUS_DECODE_OK;
}

static ALWAYS_INLINE enum mdbus_decode_error decode_form(const struct mdbus_layout *l, const uint8_t *payload, uint32_t len,
                                                         struct mdbus_packet *out, bool big, bool plain)
{
	const struct mdbus_layout_rule *r;
	enum mdbus_decode_error error;

	*out = (struct mdbus_packet){ 0 };
	error = read_header(l, payload, len, out, big, plain);
	if (error)
		return error;
	r = find_rule(l, payload, out, plain);
	if (r) {
		out->event = r->event;
		out->event_seq = r->event_seq;
		if (r->nomsg)
			out->frames = 0;
	}
	/* A forged count must not move the numbering: there has to be room for the messages, whatever they are. */
#ifndef MDBUS_MUTANT_count_believed
	if (l->end_count && (uint64_t)out->frames * l->msg_min > out->msgs_end - out->msgs_off)
		return MDBUS_DECODE_BAD_COUNT;
#endif
	if (!r || r->event == MDBUS_EVENT_UNSEQ || r->event_seq == MDBUS_EVENT_SEQ_COUNTS) {
		error = number_messages(l, payload, out, plain);
		if (out->event == MDBUS_EVENT_UNSEQ)
			out->has_seq = out->has_next = 0;
	} else {
		number_event(l, payload, r, out);
	}
	out->no_messages = out->count == 0;
	return error;
}

enum mdbus_decode_error mdbus_layout_decode(const struct mdbus_layout *restrict l, const uint8_t *restrict payload,
                                            uint32_t len, struct mdbus_packet *restrict out)
{
	if (l->plain)
		return l->big_endian ? decode_form(l, payload, len, out, true, true) : decode_form(l, payload, len, out, false, true);
	return l->big_endian ? decode_form(l, payload, len, out, true, false) : decode_form(l, payload, len, out, false, false);
}

/* ---- names ---- */

const char *mdbus_decode_error_name(enum mdbus_decode_error error)
{
	static const char *const names[] = { "", "bad header", "bad length", "bad count" };

	return (unsigned)error < 4 ? names[error] : "unknown";
}

const char *mdbus_event_name(unsigned event)
{
	static const char *const names[] = { "", "heartbeat", "eos", "sos", "reset", "unseq", "ignore" };

	return event < 7 ? names[event] : "unknown";
}

const char *mdbus_event_seq_name(unsigned event_seq)
{
	static const char *const names[] = { "", "next", "last", "counts", "zero", "field", "pktnext", "unknown" };

	return event_seq < 8 ? names[event_seq] : "unknown";
}
