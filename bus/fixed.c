/* SPDX-License-Identifier: Apache-2.0 */
#include "fixed.h"

#include <errno.h>
#include <mdbus/layout.h>
#include <stdbool.h>
#include <string.h>

/* Where eight bytes of the header begin that hold the byte at `offset` and the n - 1 after it. */
static __u16 word_at(unsigned offset, unsigned n)
{
	return (__u16)(offset + n < 8u ? 0 : offset + n - 8u);
}

static struct mdbus_fixed_field field_of(const struct mdbus_layout *l, const struct mdbus_layout_field *f)
{
	unsigned at = word_at(f->offset, f->width), skip = f->offset - at;

	return (struct mdbus_fixed_field){
		.at = (__u16)at,
		.shift = (__u8)(8u * (l->big_endian ? 8u - skip - f->width : skip)),
		.swap = l->big_endian,
		.mask = f->width >= 8u ? ~(__u64)0 : ((__u64)1 << 8u * f->width) - 1u,
	};
}

static bool add_test(struct mdbus_fixed *f, __u16 at, __u64 mask, __u64 want, unsigned how)
{
	unsigned n = (unsigned)f->nsession + f->ntest;

	if (n == MDBUS_FIXED_TESTS)
		return false;
	f->test[n] = (struct mdbus_fixed_test){ .mask = mask, .want = want, .at = at, .how = (__u8)how };
	f->ntest++;
	return true;
}

/* ---- the session ----------------------------------------------------------------------------------------------- */

/* The mask of byte i of a session field. */
static unsigned char mask_of_byte(const struct mdbus_layout *l, const struct mdbus_layout_field *f, unsigned i)
{
	return f->mask ? (unsigned char)(f->mask >> 8u * (l->big_endian ? f->width - 1u - i : i)) : 0xff;
}

/* One test for each eight bytes of each field.  session NULL: only the places.  False: too many. */
static bool session_tests(const struct mdbus_layout *l, struct mdbus_fixed *f, const unsigned char *session)
{
	unsigned n = 0, total = 0;

	for (unsigned i = 0; i < l->nsession; i++) {
		const struct mdbus_layout_field *s = &l->session[i];

		for (unsigned from = 0; from < s->width; from += 8u, n++) {
			unsigned k = s->width - from < 8u ? s->width - from : 8u;
			__u16 at = word_at(s->offset + from, k);
			unsigned skip = s->offset + from - at;
			unsigned char mask[8] = { 0 }, want[8] = { 0 };

			if (n == MDBUS_FIXED_TESTS)
				return false;
			for (unsigned b = 0; b < k; b++) {
				mask[skip + b] = mask_of_byte(l, s, from + b);
				if (session)
					want[skip + b] = session[total + from + b] & mask[skip + b];
			}
			memcpy(&f->test[n].mask, mask, sizeof(mask));
			memcpy(&f->test[n].want, want, sizeof(want));
			f->test[n].at = at;
			f->test[n].how = 0;
		}
		total += s->width;
	}
	f->nsession = (__u8)n;
	return true;
}

void mdbus_fixed_session(const struct mdbus_layout *l, struct mdbus_fixed *f, const unsigned char *session)
{
	(void)session_tests(l, f, session);
}

/* ---- the kinds of packets -------------------------------------------------------------------------------------- */

/* A packet that counts no messages is never dropped, so a rule for those need not be looked at. */
static bool needs_count_zero(const struct mdbus_layout *l, const struct mdbus_layout_rule *r)
{
	for (unsigned i = 0; i < r->ncond; i++) {
		const struct mdbus_layout_cond *c = &r->cond[i];

		if (l->count.width && !c->field.in_message && c->field.offset == l->count.offset &&
		    c->field.width == l->count.width && c->op == MDBUS_OP_EQ && c->value[0] == 0)
			return true;
	}
	return false;
}

static unsigned turn(const struct mdbus_layout_rule *r)
{
	bool turns = r->event == MDBUS_EVENT_RESET || r->event == MDBUS_EVENT_SOS || r->event == MDBUS_EVENT_EOS;

	return turns ? MDBUS_FIXED_TURN : 0;
}

/* A list of values of one field: a test for each. */
static bool list_tests(const struct mdbus_layout *l, const struct mdbus_layout_rule *r, struct mdbus_fixed *f)
{
	const struct mdbus_layout_cond *c = &r->cond[0];
	struct mdbus_fixed_field at = field_of(l, &c->field);
	__u64 mask = at.mask << at.shift;

	for (unsigned i = 0; i < c->nvalue; i++) {
		__u64 want = (c->value[i] & at.mask) << at.shift;

		if (!add_test(f, at.at, at.swap ? __builtin_bswap64(mask) : mask, at.swap ? __builtin_bswap64(want) : want,
		              turn(r)))
			return false;
	}
	return true;
}

/* Those conditions of a rule that the header decides.  *any: there is one. */
static bool header_tests(const struct mdbus_layout_rule *r, struct mdbus_fixed *f, bool *any)
{
	*any = false;
	for (unsigned i = 0; i < r->ncond; i++) {
		const struct mdbus_layout_cond *c = &r->cond[i];

		if (c->quick == MDBUS_QUICK_NOT)
			continue;
		*any = true;
		if (!add_test(f, c->at, c->mask, c->want,
		              MDBUS_FIXED_AND | turn(r) | (c->quick == MDBUS_QUICK_DIFFER ? MDBUS_FIXED_DIFFER : 0)))
			return false;
	}
	if (*any)
		f->test[f->nsession + f->ntest - 1].how &= (__u8)~MDBUS_FIXED_AND;
	return true;
}

static const char *rule_tests(const struct mdbus_layout *l, const struct mdbus_layout_rule *r, struct mdbus_fixed *f)
{
	static const char too_many[] = "it has more kinds of packets than the XDP program tells apart";
	bool any;

	if (needs_count_zero(l, r))
		return NULL;
	if (r->ncond == 1 && r->cond[0].op == MDBUS_OP_IN && !r->cond[0].field.in_message)
		return list_tests(l, r, f) ? NULL : too_many;
	if (!header_tests(r, f, &any))
		return too_many;
	if (any || (r->event == MDBUS_EVENT_HEARTBEAT && r->event_seq == MDBUS_EVENT_SEQ_COUNTS))
		return NULL;
	return "resets, sessions or unnumbered messages are told by what is in its messages";
}

static const char *header_size(const struct mdbus_layout *l)
{
	return l->hdr < 8u || l->hdr > MDBUS_FIXED_HDR_MAX ? "its header is shorter than 8 bytes or longer than 256" : NULL;
}

int mdbus_fixed_find_key(const struct mdbus_layout *l, struct mdbus_fixed *out, const char **why)
{
	*out = (struct mdbus_fixed){ .hdr = l->hdr };
	*why = header_size(l);
	if (l->nkey != 1)
		*why = "its key has more than one part";
	else if (l->key[0].width > 8u)
		*why = "its key is longer than 8 bytes";
	if (*why)
		return -ENOTSUP;
	out->seq = field_of(l, &l->key[0]);
	if (l->key[0].mask)
		out->seq.mask &= l->key[0].mask;
	for (unsigned i = 0; i < l->nrule && !*why; i++)
		*why = rule_tests(l, &l->rule[i], out);
	return *why ? -ENOTSUP : 0;
}

int mdbus_fixed_value(const struct mdbus_fixed_field *f, const unsigned char *packet, unsigned n, __u64 *value)
{
	__u64 word;

	if (n < f->at + sizeof(word))
		return -EBADMSG;
	memcpy(&word, packet + f->at, sizeof(word));
	*value = mdbus_fixed_of(f, word);
	return 0;
}

int mdbus_fixed_find(const struct mdbus_layout *l, struct mdbus_fixed *out, const char **why)
{
	*out = (struct mdbus_fixed){ .hdr = l->hdr };
	*why = header_size(l);
	if (l->unit == MDBUS_UNIT_ARRIVAL || l->seq.width == 0)
		*why = "it has no sequence numbers";
	else if (l->seq.in_message)
		*why = "its sequence numbers stand in the messages";
	else if (l->unit == MDBUS_UNIT_MESSAGE && l->count.width == 0)
		*why = "it does not say how many messages a packet has";
	else if (!*why && !session_tests(l, out, NULL))
		*why = "its session has too many parts";
	if (*why)
		return -ENOTSUP;
	out->seq = field_of(l, &l->seq);
	if (l->unit == MDBUS_UNIT_MESSAGE)
		out->count = field_of(l, &l->count);
	else
		out->count.add = 1;
	for (unsigned i = 0; i < l->nrule && !*why; i++)
		*why = rule_tests(l, &l->rule[i], out);
	return *why ? -ENOTSUP : 0;
}
