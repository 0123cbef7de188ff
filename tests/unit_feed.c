/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_feed.c - the feeder from source to wire: messages survive any packing, faults repeat by seed and keep to their
 * bounds, the end of every epoch is known on every line, and the log says exactly what went out on which line.
 * timeout: 240
 */
#include "feed_bed.h"

static const struct mdbus_feed_pace asap;

/* ---- what went over a wire, message by message ------------------------------------------------------------------ */

struct heard {
	uint64_t seq, hash;
	uint32_t epoch;
};

struct heard_list {
	struct heard *m;
	size_t n, cap;
	size_t packets; /* with messages */
	uint32_t most;  /* messages in one */
};

/* A reader as simple as can be: numbers going far back begin an epoch. */
static struct heard_list listen_to(const struct mdbus_layout *l, const struct wire *w)
{
	static struct mdbus_message msg[65536];
	struct heard_list h = { 0 };
	uint64_t high = 0;
	uint32_t epoch = 1;

	for (size_t i = 0; i < w->n; i++) {
		const struct sent *s = &w->packet[i];
		struct mdbus_packet p;
		uint32_t n;

		CHECK_U64(mdbus_layout_decode(l, s->data, s->len, &p), MDBUS_DECODE_OK);
		CHECK_U64(mdbus_layout_messages(l, s->data, s->len, &p, msg, 65536, &n), MDBUS_DECODE_OK);
		CHECK_U64(n, p.count);
		if (n == 0) {
			CHECK_U64(p.event, MDBUS_EVENT_HEARTBEAT);
			continue;
		}
		CHECK_U64(p.event, MDBUS_EVENT_NONE);
		h.packets++;
		h.most = n > h.most ? n : h.most;
		if (msg[0].seq + 500 < high) {
			epoch++;
			high = 0;
		}
		if (h.n + n > h.cap) {
			h.cap = h.cap * 2 + n + 1024;
			h.m = realloc(h.m, h.cap * sizeof(*h.m));
			CHECK(h.m);
		}
		for (uint32_t k = 0; k < n; k++)
			h.m[h.n++] = (struct heard){ msg[k].seq, mdbus_feedlog_hash(s->data + msg[k].off, msg[k].len), epoch };
		high = msg[n - 1].seq > high ? msg[n - 1].seq : high;
	}
	return h;
}

static int by_number(const void *x, const void *y)
{
	const struct heard *a = x, *b = y;

	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Every message of the log with the line's bit is on the wire, no other is; `times` 2: perhaps twice. */
static void check_log(const struct mdbus_feedlog_record *r, size_t n, unsigned line, struct heard_list *h, size_t times)
{
	size_t at = 0;

	CHECK(h->n > 0);
	qsort(h->m, h->n, sizeof(*h->m), by_number);
	for (size_t i = 0; i < n; i++) {
		size_t copies = 0;

		if (!(r[i].line_mask >> line & 1))
			continue;
		for (; at < h->n && h->m[at].seq == r[i].seq && h->m[at].epoch == r[i].epoch; at++, copies++)
			CHECK_U64(h->m[at].hash, r[i].hash);
		CHECK(copies >= 1 && copies <= times);
	}
	CHECK_U64(at, h->n);
}

static uint64_t count_lost_all(const struct mdbus_feedlog_record *r, size_t n)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < n; i++)
		lost += r[i].line_mask == 0;
	return lost;
}

/* ---- packing ---------------------------------------------------------------------------------------------------- */

/* 60 packets of 1 to 9 messages, numbers restarting in the middle and a gap in the source; returns the messages. */
static size_t capture_layout(struct capture *c, const struct mdbus_layout *l)
{
	static uint8_t packet[4096];
	uint64_t seq = 1;
	size_t messages = 0;

	capture_begin(c);
	for (uint32_t i = 0; i < 400; i++) {
		uint32_t count = 1 + i * 5 % 9;

		if (i == 250)
			seq = 1;
		if (i == 100)
			seq += 3;
		capture_add(c, "239.9.9.9", 5000, packet, make_packet(l, seq, count, packet));
		seq += count;
		messages += count;
	}
	capture_end(c);
	return messages;
}

static void repack_one(const struct mdbus_layout *l, uint32_t want)
{
	char spec[64];
	const char *const lines[] = { "A", spec, NULL };
	struct mdbus_feed_source *source;
	struct mdbus_feedlog_record *r;
	struct mdbus_feed_result result;
	struct heard_list a, b;
	struct capture c;
	size_t n, messages = capture_layout(&c, l);

	snprintf(spec, sizeof(spec), "B,to=239.1.1.1:1,repack=%u", want);
	wire_reset(false);
	source = open_capture(&c, l);
	r = run_feed(source, lines, asap, 1, &result, &n);
	a = listen_to(l, &wire[0]);
	b = listen_to(l, &wire[1]);
	CHECK_U64(n, messages);
	CHECK_U64(a.n, messages);
	CHECK_U64(b.n, messages);
	for (size_t i = 0; i < n; i++) {
		CHECK(a.m[i].seq == b.m[i].seq && a.m[i].hash == b.m[i].hash && a.m[i].epoch == b.m[i].epoch);
		CHECK(r[i].seq == a.m[i].seq && r[i].hash == a.m[i].hash && r[i].epoch == a.m[i].epoch);
		CHECK_U64(r[i].line_mask, 3);
	}
	CHECK_U64(r[n - 1].epoch, 2);
	CHECK(b.most <= want);
	if (want <= 20) { /* full but for the ends: two epochs and the gap, and packets that have no room */
		CHECK_U64(b.most, want);
		CHECK(b.packets <= messages / want + 3);
	}
	CHECK(b.packets != a.packets);
	free(a.m);
	free(b.m);
	free(r);
	source->close(source);
	unlink(c.path);
}

static void test_repack(void)
{
	const struct mdbus_layout *l;
	unsigned layouts = 0;

	for (size_t i = 0; (l = mdbus_layout_builtin_at(i)); i++) {
		if (l->unit != MDBUS_UNIT_MESSAGE)
			continue;
		repack_one(l, 1);
		repack_one(l, 3);
		repack_one(l, 20);
		repack_one(l, 1000); /* as many as fit a frame */
		layouts++;
	}
	CHECK(layouts >= 8);
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

#define FAULTY_A "A,to=239.1.1.1:1,loss=20%"
#define FAULTY_B "B,to=239.1.1.2:1,loss=30%,repack=4"

static struct mdbus_feedlog_record *run_capture(const struct capture *c, const struct mdbus_layout *l, const char *a,
                                                const char *b, uint64_t seed, bool lazy,
                                                struct mdbus_feed_result *result, size_t *n)
{
	const char *const lines[] = { a, b, NULL };
	struct mdbus_feed_source *source = open_capture(c, l);
	struct mdbus_feedlog_record *r;

	wire_reset(lazy);
	r = run_feed(source, lines, asap, seed, result, n);
	source->close(source);
	return r;
}

static bool same_masks(const struct mdbus_feedlog_record *a, const struct mdbus_feedlog_record *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i].line_mask != b[i].line_mask)
			return false;
	return true;
}

static void test_seed(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("iex_tp");
	const char *const b = FAULTY_B ",reorder=20%:8,dup=10%";
	struct mdbus_feedlog_record *first, *again, *other, *plain;
	struct mdbus_feed_result result, result2;
	struct wire kept[2];
	struct capture c;
	size_t n, n2;

	capture_layout(&c, l);
	first = run_capture(&c, l, FAULTY_A, b, 7, false, &result, &n);
	kept[0] = wire_take(0);
	kept[1] = wire_take(1);
	again = run_capture(&c, l, FAULTY_A, b, 7, true, &result2, &n2);
	CHECK(n == n2 && same_masks(first, again, n));
	CHECK(wires_equal(&kept[0], &wire[0]) && wires_equal(&kept[1], &wire[1]));
	CHECK(memcmp(result.line, result2.line, sizeof(result.line)) == 0);
	other = run_capture(&c, l, FAULTY_A, b, 8, false, &result, &n2);
	CHECK(n == n2 && !same_masks(first, other, n));
	CHECK(!wires_equal(&kept[0], &wire[0]) && !wires_equal(&kept[1], &wire[1]));
	/* Doubles and reordering are drawn apart from loss. */
	plain = run_capture(&c, l, FAULTY_A, FAULTY_B, 7, false, &result, &n2);
	CHECK(n == n2 && same_masks(first, plain, n));
	free(first);
	free(again);
	free(other);
	free(plain);
	wire_free(&kept[0]);
	wire_free(&kept[1]);
	unlink(c.path);
}

static void test_log(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	struct mdbus_feed_result result;
	struct capture c;

	capture_layout(&c, l);
	for (uint64_t seed = 1; seed <= 10; seed++) {
		const char *const b = FAULTY_B ",dup=50%";
		struct mdbus_feedlog_record *r;
		struct heard_list heard;
		size_t n;

		r = run_capture(&c, l, FAULTY_A, b, seed, seed % 2, &result, &n);
		for (unsigned line = 0; line < 2; line++) {
			uint64_t with = 0;

			heard = listen_to(l, &wire[line]);
			check_log(r, n, line, &heard, 1 + line);
			for (size_t i = 0; i < n; i++)
				with += r[i].line_mask >> line & 1;
			CHECK_U64(with, result.line[line].messages);
			CHECK_U64(with + result.line[line].lost_messages, n);
			CHECK_U64(result.line[line].packets + result.line[line].duplicated, wire[line].n);
			CHECK(result.line[line].lost_messages > n / 10 && result.line[line].lost_messages < n / 2);
			free(heard.m);
		}
		/* Half of those not lost: were it not drawn apart from loss, it would be fewer or more. */
		CHECK(result.line[1].duplicated > result.line[1].packets * 2 / 5 &&
		      result.line[1].duplicated < result.line[1].packets * 3 / 5);
		CHECK_U64(result.line[0].duplicated, 0);
		CHECK_U64(result.log.lost_all, count_lost_all(r, n));
		CHECK(result.log.lost_all > 0 && result.log.cut == 0);
		for (size_t i = 0; i < n; i++)
			CHECK(r[i].time_ns != 0 && r[i].pad == 0);
		free(r);
	}
	unlink(c.path);
}

/* No packet is overtaken by more than `depth` others, and some are. */
static void test_reorder(void)
{
	const char *const lines[] = { "A,to=1.1.1.1:1,reorder=30%:6", NULL };
	const struct mdbus_feed_gen_options o = { .kind = "optiq", .count = 5000, .pack = 1 };
	struct mdbus_feed_result result;
	struct mdbus_feedlog_record *r;
	struct mdbus_feed_source *s;
	struct heard_list h;
	uint64_t overtaken = 0;
	char err[256];
	size_t n;

	wire_reset(true);
	s = mdbus_feed_gen_open(&o, err, sizeof(err));
	CHECK(s);
	r = run_feed(s, lines, asap, 3, &result, &n);
	h = listen_to(s->layout, &wire[0]);
	CHECK_U64(h.n, 5000);
	for (size_t i = 0; i < h.n; i++) {
		uint32_t later = 0;

		for (size_t k = i > 100 ? i - 100 : 0; k < i; k++)
			later += h.m[k].seq > h.m[i].seq;
		CHECK(later <= 6);
		overtaken += later > 0;
	}
	CHECK(overtaken > 1000 && overtaken <= result.line[0].reordered);
	CHECK_U64(h.m[4999].seq, 5000); /* the last one reveals a lost tail: it is not held back */
	check_log(r, n, 0, &h, 1);
	free(h.m);
	free(r);
	s->close(s);
}

static void test_skew(void)
{
	const char *const lines[] = { "A,to=1.1.1.1:1", "B,to=1.1.1.2:1,skew-us=30000", NULL };
	const struct mdbus_feed_gen_options o = { .kind = "moldudp64", .count = 100, .pack = 1 };
	struct mdbus_feed_result result;
	struct mdbus_feedlog_record *r;
	struct mdbus_feed_source *s;
	char err[256];
	size_t n;

	wire_reset(false);
	s = mdbus_feed_gen_open(&o, err, sizeof(err));
	CHECK(s);
	r = run_feed(s, lines, (struct mdbus_feed_pace){ .pacing = MDBUS_FEED_RATE, .rate = 100000 }, 1, &result, &n);
	CHECK(wire[0].n >= 100 && wire[1].n == wire[0].n);
	CHECK(wire[0].packet[99].order < wire[1].packet[0].order);
	for (size_t i = 0; i < wire[1].n; i++) /* the same bytes, send time and all */
		CHECK(memcmp(wire[0].packet[i].data, wire[1].packet[i].data, wire[0].packet[i].len) == 0);
	for (size_t i = 0; i < n; i++)
		CHECK_U64(r[i].line_mask, 3);
	free(r);
	s->close(s);
}

/* ---- ends ------------------------------------------------------------------------------------------------------- */

/* A line that loses everything still says how far each epoch went, and where it cannot, keeps the last packet. */
static void test_ends(void)
{
	const struct mdbus_layout *l;
	unsigned with_heartbeat = 0;

	for (size_t i = 0; (l = mdbus_layout_builtin_at(i)); i++) {
		const char *const lines[] = { "A,to=1.1.1.1:1,loss=1,reorder=1:5,dup=1", NULL };
		struct mdbus_feed_source *source;
		struct mdbus_feed_result result;
		struct mdbus_feedlog_record *r;
		uint64_t next[8], ends[2];
		unsigned beats = 0, kept = 0;
		struct capture c;
		size_t n, middle;

		if (l->unit == MDBUS_UNIT_ARRIVAL)
			continue;
		capture_layout(&c, l);
		wire_reset(false);
		source = open_capture(&c, l);
		r = run_feed(source, lines, asap, 1, &result, &n);
		for (middle = 0; r[middle].epoch == 1; middle++)
			;
		ends[0] = r[middle - 1].seq + 1;
		ends[1] = r[n - 1].seq + 1;
		for (size_t k = 0; k < wire[0].n; k++) {
			struct mdbus_packet p;

			CHECK(mdbus_layout_decode(l, wire[0].packet[k].data, wire[0].packet[k].len, &p) == MDBUS_DECODE_OK);
			CHECK(p.has_next);
			kept += p.count;
			CHECK(beats < 8);
			next[beats++] = p.next_seq;
		}
		CHECK(beats >= 2 && next[0] == ends[0] && next[beats - 1] == ends[1]);
		CHECK_U64(result.line[0].messages, kept);
		with_heartbeat += kept == 0;
		if (kept) {
			CHECK(r[middle - 1].line_mask == 1 && r[n - 1].line_mask == 1);
			CHECK_U64(beats, 2);
		}
		CHECK_U64(kept + result.log.lost_all, n);
		free(r);
		source->close(source);
		unlink(c.path);
	}
	CHECK(with_heartbeat >= 8); /* MoldUDP64, IEX-TP, ICE, PITCH, NYSE, Memoir, CTA, UMDF */
}

static void test_protect(void)
{
	const char *const lines[] = { "A,to=1.1.1.1:1,loss=1", NULL };
	const struct mdbus_feed_gen_options gen = {
		.kind = "moldudp64", .count = 1000, .restart_every = 300, .pack = 2, .protect_first = 3, .protect_last = 2,
	};
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	struct mdbus_feed_pcap_options pcap = { .layout = l, .loops = 1, .protect_first = 3, .protect_last = 2 };
	struct mdbus_feed_result result;
	struct capture c;
	char err[256];

	capture_layout(&c, l);
	pcap.path = c.path;
	for (int generated = 0; generated < 2; generated++) {
		uint64_t malformed;
		struct mdbus_feed_source *s = generated ? mdbus_feed_gen_open(&gen, err, sizeof(err)) :
		                              mdbus_feed_pcap_open(&pcap, &malformed, err, sizeof(err));
		struct mdbus_feedlog_record *r;
		size_t n;

		CHECK(s);
		wire_reset(false);
		r = run_feed(s, lines, asap, 1, &result, &n);
		/* 5 packets of each epoch, and their heartbeats. */
		CHECK_U64(result.line[0].packets - result.line[0].made_heartbeats, generated ? 20 : 10);
		CHECK(r[0].line_mask == 1 && r[20].line_mask == 0 && r[n - 1].line_mask == 1);
		free(r);
		s->close(s);
	}
	unlink(c.path);
}

/* ---- made streams ----------------------------------------------------------------------------------------------- */

static void check_body(const struct mdbus_feedlog_record *r, const uint8_t *m, uint32_t len, bool mold)
{
	uint32_t from = mold ? MDBUS_FEED_MOLD_FILLER : MDBUS_FEED_OPTIQ_PRICE;
	uint64_t time, seq = 0;

	CHECK_U64(mdbus_feedlog_hash(m, len), r->hash);
	memcpy(&time, m + (mold ? MDBUS_FEED_MOLD_TIME : MDBUS_FEED_OPTIQ_TIME), 8);
	memcpy(&seq, m + (mold ? MDBUS_FEED_MOLD_SEQ : MDBUS_FEED_OPTIQ_SEQ), mold ? 8 : 4);
	CHECK(time != 0 && time <= r->time_ns);
	CHECK_U64(seq, r->seq);
	for (uint32_t i = from; i < len; i++)
		CHECK(m[i] == mdbus_feedlog_filler(r->seq, r->epoch, i));
}

static void generate(const struct mdbus_feed_gen_options *o, bool new_session)
{
	static struct mdbus_message msg[4096];
	const char *const lines[] = { "A,to=1.1.1.1:1", NULL };
	bool mold = strcmp(o->kind, "moldudp64") == 0;
	uint64_t sessions[8] = { 0 };
	struct mdbus_feed_result result;
	struct mdbus_feedlog_record *r;
	struct mdbus_feed_source *s;
	char err[256];
	size_t n, at = 0;

	wire_reset(false);
	s = mdbus_feed_gen_open(o, err, sizeof(err));
	if (!s)
		printf("%s\n", err), exit(1);
	r = run_feed(s, lines, asap, 1, &result, &n);
	CHECK_U64(n, o->count);
	for (size_t i = 0; i < wire[0].n; i++) {
		const struct sent *p = &wire[0].packet[i];
		struct mdbus_packet d;
		uint32_t got;

		CHECK(mdbus_layout_decode(s->layout, p->data, p->len, &d) == MDBUS_DECODE_OK);
		CHECK(mdbus_layout_messages(s->layout, p->data, p->len, &d, msg, 4096, &got) == MDBUS_DECODE_OK);
		CHECK(got <= o->pack);
		for (uint32_t k = 0; k < got; k++, at++) {
			uint64_t every = o->restart_every ? o->restart_every : o->count;

			CHECK(at < n && r[at].seq == at % every + 1 && r[at].epoch == at / every + 1);
			CHECK_U64(msg[k].seq, r[at].seq);
			CHECK_U64(msg[k].len, o->size);
			CHECK_U64(r[at].session_no, new_session ? r[at].epoch : 1);
			check_body(&r[at], p->data + msg[k].off, msg[k].len, mold);
			CHECK(sessions[r[at].session_no] == 0 || sessions[r[at].session_no] == d.session);
			sessions[r[at].session_no] = d.session;
		}
	}
	CHECK_U64(at, n);
	CHECK(!new_session || (sessions[1] != sessions[2] && sessions[2] != sessions[3]));
	free(r);
	s->close(s);
}

static void test_generate(void)
{
	struct mdbus_feed_gen_options o = { .kind = "moldudp64", .count = 1000, .size = 22, .pack = 1 };

	generate(&o, false);
	o.pack = 7;
	o.size = 61;
	o.restart_every = 300;
	generate(&o, true);
	o.restart = MDBUS_FEED_RESTART_SEQ;
	o.session = "S";
	generate(&o, false);
	o = (struct mdbus_feed_gen_options){ .kind = "optiq", .count = 1000, .size = 36, .pack = 1, .restart_every = 400 };
	generate(&o, false);
	o.size = 255;
	generate(&o, false);
}

/* Heartbeats fill the pauses of a made stream by its schedule, follow its end, and the last one ends the session. */
static void test_silence(void)
{
	const char *const lines[] = { "A,to=1.1.1.1:1", "B,to=1.1.1.2:1,repack=3,skew-us=5000", NULL };
	const struct mdbus_feed_gen_options o = { .kind = "moldudp64", .count = 5, .pack = 1 };
	struct mdbus_feed_result result;
	struct mdbus_feed_source *s;
	char err[256];
	size_t n;

	wire_reset(false);
	bed_linger_ns = 9000000;
	bed_heartbeat_ns = 2000000;
	bed_end_session = true;
	s = mdbus_feed_gen_open(&o, err, sizeof(err));
	CHECK(s);
	free(run_feed(s, lines, (struct mdbus_feed_pace){ .pacing = MDBUS_FEED_RATE, .rate = 100 }, 1, &result, &n));
	bed_linger_ns = bed_heartbeat_ns = 0;
	bed_end_session = false;
	for (size_t line = 0; line < 2; line++) {
		uint64_t next = 1;

		/* 4 in each pause of 10 ms, 1 at the end of the epoch, 4 in the linger. */
		CHECK_U64(result.line[line].made_heartbeats, 4 * 4 + 1 + 4);
		CHECK_U64(wire[line].n, 4 * 4 + 1 + 4 + 5);
		for (size_t i = 0; i < wire[line].n; i++) {
			struct mdbus_packet p;

			CHECK(mdbus_layout_decode(s->layout, wire[line].packet[i].data, wire[line].packet[i].len, &p) == 0);
			CHECK(p.seq == next && p.next_seq == next + p.count);
			next = p.next_seq;
			CHECK_U64(p.event, i + 1 == wire[line].n ? MDBUS_EVENT_EOS :
			                   p.count ? MDBUS_EVENT_NONE : MDBUS_EVENT_HEARTBEAT);
		}
		CHECK_U64(next, 6);
	}
	s->close(s);
}

int main(void)
{
	test_silence();
	test_repack();
	test_seed();
	test_log();
	test_reorder();
	test_skew();
	test_ends();
	test_protect();
	test_generate();
	wire_reset(false);
	for (size_t i = 0; i < MDBUS_FEED_LINES_MAX; i++)
		wire_free(&wire[i]);
	return 0;
}
