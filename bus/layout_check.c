/* SPDX-License-Identifier: Apache-2.0
 *
 * layout_check.c - the assumptions under which layout_decode.c reads without looking twice.
 *
 * The parser asks for the flaw in words; a process that finds a layout in shared memory asks only whether there is
 * one. One list serves both, so that no layout can be accepted from a file that would be refused from memory.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "layout_check.h"

#define MESSAGE_FIELD_END_MAX 1024u  /* a field that starts further into a message is a slip, not a feed */
#define BIAS_MAX              65535

static struct mdbus_layout_flaw flaw(const char *member, int index, const char *text)
{
	return (struct mdbus_layout_flaw){ member, index, text };
}

static const char *flaw_of_field(const struct mdbus_layout *l, const struct mdbus_layout_field *f, unsigned width_max)
{
	uint32_t end = (uint32_t)f->offset + f->width;

	if (f->in_message > 1 || f->width == 0 || f->width > width_max)
		return width_max == 4 ? "a length or count has 1 to 4 bytes"
		       : width_max == 8 ? "a number has 1 to 8 bytes" : "has 1 to 32 bytes";
	if (f->bias < -BIAS_MAX || f->bias > BIAS_MAX)
		return "the bias must lie within -65535 and 65535";
	if (!f->in_message)
		return end > l->hdr ? "reaches beyond the header (\"hdr\")" : NULL;
	if (l->msglen.width == 0)
		return "lies within a message, but there is no \"msglen\"";
	return end > MESSAGE_FIELD_END_MAX ? "reaches too far into a message (1024 bytes)" : NULL;
}

static const char *flaw_of_header_field(const struct mdbus_layout *l, const struct mdbus_layout_field *f,
                                        unsigned width_max)
{
	if (f->width == 0)
		return NULL;
	if (f->in_message)
		return "must be a field of the header (\"h\")";
	return flaw_of_field(l, f, width_max);
}

/* Of a key or session: where others have a bias, it may have a mask. */
static const char *flaw_of_masked_field(const struct mdbus_layout *l, const struct mdbus_layout_field *f)
{
	struct mdbus_layout_field plain = *f;

	if (f->mask && f->width > 4)
		return "a field with a mask has 1 to 4 bytes";
	if (f->mask && f->width < 4 && f->mask >> 8 * f->width)
		return "the mask has bits that the field has not";
	plain.mask = 0;
	return flaw_of_header_field(l, &plain, MDBUS_SESSION_MAX);
}

static struct mdbus_layout_flaw flaw_of_list(const struct mdbus_layout *l, const char *member,
                                             const struct mdbus_layout_field *f, unsigned n, unsigned total)
{
	unsigned sum = 0;

	if (n > MDBUS_LAYOUT_KEYS_MAX)
		return flaw(member, -1, "has at most 4 fields");
	for (unsigned i = 0; i < n; i++) {
		const char *text = "has 1 to 32 bytes";

		if (f[i].width)
			text = flaw_of_masked_field(l, &f[i]);
		if (text)
			return flaw(member, (int)i, text);
		sum += f[i].width;
	}
	if (sum > MDBUS_SESSION_MAX || sum != total)
		return flaw(member, -1, "its fields together have at most 32 bytes");
	return flaw(NULL, -1, NULL);
}

static const char *flaw_of_rule(const struct mdbus_layout *l, const struct mdbus_layout_rule *r)
{
	if (r->ncond == 0 || r->ncond > MDBUS_LAYOUT_CONDS_MAX)
		return "\"if\" has 1 to 4 conditions";
	for (unsigned i = 0; i < r->ncond; i++) {
		const struct mdbus_layout_cond *c = &r->cond[i];
		const char *text = flaw_of_field(l, &c->field, 8);

		if (text)
			return text;
		if (c->op > MDBUS_OP_ANY_BIT || c->nvalue == 0 || c->nvalue > MDBUS_LAYOUT_VALUES_MAX)
			return "\"in\" takes 1 to 16 values";
	}
	if (r->event > MDBUS_EVENT_IGNORE || r->event_seq > MDBUS_EVENT_SEQ_UNKNOWN || r->retrans > 1 || r->nomsg > 1 ||
	    r->opaque > 1)
		return "no such event";
	if (r->opaque && l->unit == MDBUS_UNIT_MESSAGE)
		return "\"opaque\" needs \"unit\" \"pkt\" or \"arrival\": what cannot be looked into has no messages";
	if (r->event == MDBUS_EVENT_NONE && !r->retrans && !r->opaque)
		return "\"act\" must say what the rule is for";
	if (r->event_seq == MDBUS_EVENT_SEQ_FIELD && r->field.width == 0)
		return "\"seq\": \"field\" needs \"field\"";
	return r->field.width ? flaw_of_field(l, &r->field, 8) : NULL;
}

static const char *flaw_of_seq(const struct mdbus_layout *l)
{
	if (l->seq.width == 0)
		return l->unit == MDBUS_UNIT_ARRIVAL ? NULL : "is needed, unless \"unit\" is \"arrival\"";
	if (l->seq.in_message && l->unit != MDBUS_UNIT_MESSAGE)
		return "can stand within a message only if \"unit\" is \"msg\"";
	return flaw_of_field(l, &l->seq, 8);
}

static const char *flaw_of_msglen(const struct mdbus_layout *l)
{
	const struct mdbus_layout_field *f = &l->msglen;

	if (f->width == 0 && l->unit == MDBUS_UNIT_MESSAGE)
		return "is needed if \"unit\" is \"msg\" (one message a packet is \"pkt\")";
	if (f->width == 0)
		return NULL;
	if (!f->in_message)
		return "is counted from a message's first byte";
	return flaw_of_field(l, f, 4);
}

/* The bytes of a value as a field of that width holds them, and zeros, as a word in memory order. */
static uint64_t raw_word(const struct mdbus_layout *l, uint64_t value, unsigned width, unsigned skip)
{
	uint8_t bytes[8] = { 0 };
	uint64_t raw;

	for (unsigned i = 0; i < width; i++)
		bytes[skip + (l->big_endian ? width - 1 - i : i)] = (uint8_t)(value >> 8 * i);
	memcpy(&raw, bytes, sizeof(raw));
	return raw;
}

/* A field of the header lies within some eight bytes of it, if the header has eight. */
static void derive_cond(const struct mdbus_layout *l, struct mdbus_layout_cond *c)
{
	const unsigned width = c->field.width, end = (unsigned)c->field.offset + width;
	const uint64_t greatest = width >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * width) - 1;
	unsigned skip;

	c->quick = MDBUS_QUICK_NOT;
	c->at = 0;
	c->mask = c->want = 0;
	if (c->op == MDBUS_OP_IN || c->field.in_message || l->hdr < 8 || width == 0 || width > 8 || end > l->hdr ||
	    c->value[0] > greatest)
		return;
	c->at = end < 8 ? 0 : (uint16_t)(end - 8);
	skip = c->field.offset - c->at;
	c->quick = c->op == MDBUS_OP_EQ ? MDBUS_QUICK_EQUAL : MDBUS_QUICK_DIFFER;
	if (c->op == MDBUS_OP_ANY_BIT) {
		c->mask = raw_word(l, c->value[0], width, skip);
	} else {
		c->mask = raw_word(l, UINT64_MAX, width, skip);
		c->want = raw_word(l, c->value[0], width, skip);
	}
}

static struct mdbus_layout_word derive_word(const struct mdbus_layout *l, const struct mdbus_layout_field *f)
{
	const unsigned width = f->width, end = (unsigned)f->offset + width;
	struct mdbus_layout_word w = { 0 };

	if (l->hdr < 8 || f->in_message || width == 0 || width > 8 || end > l->hdr)
		return w;
	w.at = end < 8 ? 0 : (uint16_t)(end - 8);
	w.left = (uint8_t)(8u * (l->big_endian ? (unsigned)f->offset - w.at : w.at + 8u - end));
	w.right = (uint8_t)(64u - 8u * width);
	return w;
}

static struct mdbus_layout_first derive_first(const struct mdbus_layout *l, const struct mdbus_layout_rule *r)
{
	const struct mdbus_layout_cond *c = &r->cond[0];

	if (r->ncond == 0 || l->hdr < 8)
		return (struct mdbus_layout_first){ .quick = MDBUS_QUICK_NOT };
	return (struct mdbus_layout_first){ .mask = c->mask, .want = c->want, .at = c->at, .quick = c->quick };
}

static uint8_t derive_walk(const struct mdbus_layout *l)
{
	bool counted = l->end_count && !l->seq.in_message && l->wrap != MDBUS_WRAP_MAX_TO_1;

	if (l->msglen.width == 1)
		return MDBUS_WALK_1;
	if (l->msglen.width != 2)
		return MDBUS_WALK_ANY;
	if (counted)
		return l->big_endian ? MDBUS_WALK_COUNTED_BE : MDBUS_WALK_COUNTED_LE;
	return l->big_endian ? MDBUS_WALK_2_BE : MDBUS_WALK_2_LE;
}

static bool derive_plain(const struct mdbus_layout *l)
{
	for (unsigned i = 0; i < l->nrule && i < MDBUS_LAYOUT_RULES_MAX; i++)
		if (l->first[i].quick == MDBUS_QUICK_NOT)
			return false;
	/* a count of fewer than 4 bytes is never MDBUS_FRAMES_TO_END */
	return l->words && l->unit == MDBUS_UNIT_MESSAGE && l->count.width != 0 && l->count.width < 4 && l->seq.width != 0 &&
	       !l->seq.in_message && l->pktseq.width == 0 && l->wrap != MDBUS_WRAP_MAX_TO_1;
}

void mdbus_layout_derive(struct mdbus_layout *l)
{
	uint32_t min = l->msglen.width ? (uint32_t)l->msglen.offset + l->msglen.width : 0;

	if (l->seq.in_message && (uint32_t)l->seq.offset + l->seq.width > min)
		min = (uint32_t)l->seq.offset + l->seq.width;
	l->msg_min = (uint16_t)min;
	for (unsigned i = 0; i < MDBUS_LAYOUT_RULES_MAX; i++)
		for (unsigned k = 0; k < MDBUS_LAYOUT_CONDS_MAX; k++)
			derive_cond(l, &l->rule[i].cond[k]);
	for (unsigned i = 0; i < MDBUS_LAYOUT_RULES_MAX; i++)
		l->first[i] = derive_first(l, &l->rule[i]);
	l->words = l->hdr >= 8;
	l->walk = derive_walk(l);
	l->plain = derive_plain(l);
	l->seq_word = derive_word(l, &l->seq);
	l->count_word = derive_word(l, &l->count);
	l->pktlen_word = derive_word(l, &l->pktlen);
	l->time_word = derive_word(l, &l->time);
	l->pktseq_word = derive_word(l, &l->pktseq);
}

static bool derived_agrees(const struct mdbus_layout *l)
{
	struct mdbus_layout copy = *l;

	mdbus_layout_derive(&copy);
	return memcmp(&copy, l, sizeof(copy)) == 0;
}

static struct mdbus_layout_flaw flaw_of_form(const struct mdbus_layout *l)
{
	if (memchr(l->name, 0, sizeof(l->name)) == NULL || l->name[0] == 0)
		return flaw("name", -1, "has 1 to 31 bytes");
	if (l->big_endian > 1)
		return flaw("e", -1, "is \"le\" or \"be\"");
	if (l->unit > MDBUS_UNIT_ARRIVAL)
		return flaw("unit", -1, "is \"msg\", \"pkt\" or \"arrival\"");
	if (l->unit == MDBUS_UNIT_ARRIVAL && l->nkey == 0)
		return flaw("key", -1,
		            "is needed if \"unit\" is \"arrival\": nothing else tells a copy from a new packet");
	if (l->end_count > 1 || (l->end_count && l->count.width == 0))
		return flaw("end", -1, "\"count\" needs a \"count\" field");
	if (l->wrap > MDBUS_WRAP_RESET)
		return flaw("wrap", -1, "is null, \"max->1\" or \"reset\"");
	if (l->nrule > MDBUS_LAYOUT_RULES_MAX)
		return flaw("rules", -1, "has at most 8 rules");
	if (!derived_agrees(l))
		return flaw("name", -1, "what was derived from the members disagrees with them");
	return flaw(NULL, -1, NULL);
}

struct mdbus_layout_flaw mdbus_layout_find_flaw(const struct mdbus_layout *l)
{
	const struct {
		const char *member;
		const char *text;
	} fields[] = {
		{ "msglen", flaw_of_msglen(l) },
		{ "seq", flaw_of_seq(l) },
		{ "count", flaw_of_header_field(l, &l->count, 4) },
		{ "pktlen", flaw_of_header_field(l, &l->pktlen, 4) },
		{ "time", flaw_of_header_field(l, &l->time, 8) },
		{ "pktseq", flaw_of_header_field(l, &l->pktseq, 8) },
	};
	struct mdbus_layout_flaw found;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].text)
			return flaw(fields[i].member, -1, fields[i].text);
	found = flaw_of_form(l);
	if (!found.text)
		found = flaw_of_list(l, "key", l->key, l->nkey, l->key_bytes);
	if (!found.text)
		found = flaw_of_list(l, "session", l->session, l->nsession, l->session_bytes);
	for (unsigned i = 0; !found.text && i < l->nrule; i++)
		found = flaw("rules", (int)i, flaw_of_rule(l, &l->rule[i]));
	return found;
}

int mdbus_layout_check(const struct mdbus_layout *l)
{
	return mdbus_layout_find_flaw(l).text ? -EINVAL : 0;
}
