/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_early_drop - what the XDP program drops before it reaches a line's process, asked of the kernel by BPF_PROG_TEST_RUN.
 *
 * The program alone, told by hand what is in the ring: verdicts at every boundary, and for every layout that has such verdicts
 * at all compared with what the decoder says of the same packet.
 *
 * timeout: 60
 */
#ifndef MDBUS_HAVE_XDP
#include <stdio.h>
int main(void)
{
	printf("built without AF_XDP\n");
	return 77;
}
#else
#include "early_bed.h"

#define FROM 5000u
#define TO   6000u

static void rig_tell(struct rig *r, const struct mdbus_layout *l, const uint8_t *session)
{
	const char *why;

	memset(r->at, 0, sizeof(*r->at));
	CHECK(mdbus_fixed_find(l, &r->at->fixed, &why) == 0);
	mdbus_fixed_session(l, &r->at->fixed, session);
	r->at->from = FROM;
	r->at->to = TO;
}

/* Let through, and nothing is dropped any more until the process has armed it again. */
static void expect_strange(struct rig *r, const char *session, uint64_t seq, uint32_t count)
{
	uint64_t before = r->at->strange;

	CHECK(mold(&r->prog, S1, FROM, 1) == XDP_DROP);
	CHECK(mold(&r->prog, session, seq, count) == XDP_REDIRECT);
	CHECK(r->at->strange == before + 1);
	CHECK(mold(&r->prog, S1, FROM, 1) == XDP_REDIRECT);
	r->at->armed = r->at->strange;
	r->at->seen = 0;
	CHECK(mold(&r->prog, S1, FROM, 1) == XDP_DROP);
}

static void test_boundaries(struct rig *r)
{
	CHECK(mold(&r->prog, S1, FROM, 1) == XDP_DROP);
	CHECK(mold(&r->prog, S1, TO - 1, 1) == XDP_DROP);
	CHECK(mold(&r->prog, S1, TO - 10, 10) == XDP_DROP);
	CHECK(mold(&r->prog, S1, TO - 10, 11) == XDP_REDIRECT);
	CHECK(mold(&r->prog, S1, TO - 1, 2) == XDP_REDIRECT);
	CHECK(mold(&r->prog, S1, TO, 1) == XDP_REDIRECT);
	CHECK(mold(&r->prog, S1, TO + 1, 1) == XDP_REDIRECT);
	CHECK(mold(&r->prog, S1, UINT64_MAX, 1) == XDP_REDIRECT); /* one past it is 0 */
	CHECK(mold(&r->prog, S1, UINT64_MAX - 1, 3) == XDP_REDIRECT);
	CHECK(mold(&r->prog, S1, FROM, 0) == XDP_REDIRECT);       /* a heartbeat */
	CHECK(mold(&r->prog, S2, TO, 1) == XDP_REDIRECT);
	CHECK(r->at->strange == 0);
	CHECK(r->at->packets == 3 && r->at->messages == 12 && r->at->nrun == 3);
	CHECK(r->at->run[2].first == TO - 10 && r->at->run[2].next == TO && r->at->run[2].packets == 1);
	r->at->to = TO + 2;
	CHECK(mold(&r->prog, S1, TO, 2) == XDP_DROP);
	CHECK(r->at->nrun == 3 && r->at->run[2].next == TO + 2 && r->at->run[2].packets == 2);
	r->at->to = TO;
	expect_strange(r, S1, FROM - 1, 1);
	expect_strange(r, S1, 1, 1);
	expect_strange(r, S1, FROM - 1, 2);
	expect_strange(r, S2, FROM, 1);
	expect_strange(r, "SESSION00\x01", FROM, 1);
	expect_strange(r, "sESSION001", FROM, 1);
	expect_strange(r, S1, FROM, 0xffff); /* the end of the session */
}

static void test_conditions(struct rig *r)
{
	struct bed_mold m = { .session = "SESSION001", .seq = FROM, .count = 1 };
	struct frame f;

	r->at->version = 1;
	CHECK(mold(&r->prog, S1, FROM, 1) == XDP_REDIRECT);
	CHECK(mold(&r->prog, S2, FROM, 1) == XDP_REDIRECT && r->at->strange == r->at->armed);
	r->at->version = 2;
	r->at->seen = 0;
	CHECK(mold(&r->prog, S1, FROM, 1) == XDP_DROP);
	f.len = bed_mold_build(&m, f.bytes + HEADERS, sizeof(f.bytes) - HEADERS);
	wrap(&f);
	put16(f.bytes + 38, 8 + 19); /* UDP says that the header is cut short, whatever follows it */
	CHECK(verdict(&r->prog, &f) == XDP_REDIRECT);
	f.len = 19;
	wrap(&f);
	CHECK(verdict(&r->prog, &f) == XDP_REDIRECT);
	f.len = 3;
	wrap(&f);
	put16(f.bytes + 38, 200);
	CHECK(verdict(&r->prog, &f) == XDP_REDIRECT);
}

/* One in so many is let through, and counted as neither dropped nor strange. */
static void test_samples(struct rig *r)
{
	uint32_t through = 0;
	uint64_t packets = r->at->packets;

	r->at->seen = 0;
	for (uint32_t i = 0; i < 10 * LINE_XDP_SAMPLE; i++)
		through += mold(&r->prog, S1, FROM + i, 1) == XDP_REDIRECT;
	CHECK(through == 10);
	CHECK(r->at->packets - packets == 10 * LINE_XDP_SAMPLE - 10);
}

/* Without the process's socket nothing is dropped, and nothing once its memory is gone. */
static void test_death(void)
{
	struct rig r;

	rig_load(&r);
	rig_share(&r);
	rig_tell(&r, mdbus_layout_builtin("moldudp64"), (const uint8_t *)S1);
	rig_start(&r);
	CHECK(mold(&r.prog, S1, FROM, 1) == XDP_DROP);
	close(r.xsk);
	usleep(1000);
	CHECK(mold(&r.prog, S1, FROM, 1) == XDP_PASS);
	r.xsk = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	CHECK(mdbus_xdp_prog_early(&r.prog, 0, -1) == 0);
	rig_start(&r);
	CHECK(mold(&r.prog, S1, FROM, 1) == XDP_REDIRECT);
	rig_close(&r);
}

static void test_alone(void)
{
	struct rig r;

	rig_load(&r);
	rig_share(&r);
	rig_tell(&r, mdbus_layout_builtin("moldudp64"), (const uint8_t *)S1);
	rig_start(&r);
	test_boundaries(&r);
	test_conditions(&r);
	test_samples(&r);
	rig_close(&r);
	test_death();
}

/* ---- every layout ---------------------------------------------------------------------------------------------- */

static void put_field(const struct mdbus_layout *l, uint8_t *payload, const struct mdbus_layout_field *f, uint64_t v)
{
	for (unsigned i = 0; i < f->width && !f->in_message; i++)
		payload[f->offset + (l->big_endian ? f->width - 1u - i : i)] = (uint8_t)(v >> 8 * i);
}

/* A header that is nearly an ordinary one, of the session that `like` has or nearly. */
static void make_header(const struct mdbus_layout *l, const uint8_t *like, uint8_t *payload)
{
	memcpy(payload, like, l->hdr);
	put_field(l, payload, &l->seq, rnd(8) ? FROM - 20 + rnd(TO - FROM + 40) : rnd(UINT32_MAX));
	put_field(l, payload, &l->count, rnd(8));
	for (unsigned i = 0; i < l->nrule; i++) {
		const struct mdbus_layout_cond *c = &l->rule[i].cond[rnd(l->rule[i].ncond)];

		if (rnd(6) == 0)
			put_field(l, payload, &c->field, c->value[rnd(c->nvalue)]);
	}
	if (rnd(8) == 0)
		payload[rnd(l->hdr)] ^= (uint8_t)(1u << rnd(8));
	put_field(l, payload, &l->pktlen, (uint64_t)(300 - l->pktlen.bias));
}

static void check_layout(struct rig *r, const struct mdbus_layout *l)
{
	uint32_t drops = 0, needless = 0;
	uint8_t like[MDBUS_FIXED_HDR_MAX] = { 0 }, session[MDBUS_SESSION_MAX];
	struct mdbus_packet ours, p;
	struct frame f = { .len = 300 };

	for (unsigned i = 0; i < l->hdr; i++)
		like[i] = (uint8_t)(1 + rnd(250));
	for (unsigned i = 0; i < l->nrule; i++) /* no kind but the ordinary one */
		for (unsigned k = 0; k < l->rule[i].ncond; k++)
			put_field(l, like, &l->rule[i].cond[k].field, 0x50);
	put_field(l, like, &l->count, 1);
	put_field(l, like, &l->pktlen, (uint64_t)(300 - l->pktlen.bias));
	CHECK(mdbus_layout_session(l, like, l->hdr, session) >= 0);
	memset(f.bytes + HEADERS, 0, 300);
	memcpy(f.bytes + HEADERS, like, l->hdr);
	CHECK(l->hdr < 300 && mdbus_layout_decode(l, f.bytes + HEADERS, 300, &ours) != MDBUS_DECODE_BAD_HEADER);
	rig_tell(r, l, session);
	for (uint32_t i = 0; i < 3000; i++) {
		make_header(l, like, f.bytes + HEADERS);
		wrap(&f);
		r->at->armed = r->at->strange;
		r->at->seen = 0;
		uint32_t got = verdict(&r->prog, &f);

		if (mdbus_layout_decode(l, f.bytes + HEADERS, 300, &p) != MDBUS_DECODE_OK)
			continue;
		bool counts = p.event == MDBUS_EVENT_HEARTBEAT && p.event_seq == MDBUS_EVENT_SEQ_COUNTS;
		bool ordinary = (p.event == MDBUS_EVENT_NONE || counts) && !p.retrans && p.has_seq && p.count > 0;
		bool known = p.session == ours.session && p.seq >= FROM && p.seq < TO && p.count <= TO - p.seq;

		CHECK(got == XDP_DROP || got == XDP_REDIRECT);
		CHECK(got == XDP_REDIRECT || (ordinary && known));
		drops += got == XDP_DROP;
		needless += got == XDP_REDIRECT && ordinary && known;
	}
	if (drops < 100 || needless > drops / 4)
		printf("%s: %u dropped, %u more could have been\n", l->name, drops, needless);
	CHECK(drops >= 100 && needless <= drops / 4);
}

static void test_layouts(void)
{
	struct mdbus_fixed fixed;
	uint32_t able = 0;
	struct rig r;

	rig_load(&r);
	rig_share(&r);
	rig_start(&r);
	for (size_t i = 0; mdbus_layout_builtin_at(i); i++) {
		const struct mdbus_layout *l = mdbus_layout_builtin_at(i);
		const char *why;
		int rc = mdbus_fixed_find(l, &fixed, &why);

		CHECK((rc == 0) == (why == NULL));
		if (rc != 0)
			continue;
		able++;
		check_layout(&r, l);
	}
	CHECK(able >= 10);
	CHECK(mdbus_fixed_find(mdbus_layout_builtin("otc_link"), &fixed, &(const char *){ NULL }) == -ENOTSUP);
	CHECK(mdbus_fixed_find(mdbus_layout_builtin("optiq_key"), &fixed, &(const char *){ NULL }) == -ENOTSUP);
	CHECK(mdbus_fixed_find(mdbus_layout_builtin("siac_cta"), &fixed, &(const char *){ NULL }) == -ENOTSUP);
	rig_close(&r);
}

int main(void)
{
	test_alone();
	test_layouts();
	return 0;
}
#endif
