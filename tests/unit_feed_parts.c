/* SPDX-License-Identifier: Apache-2.0
 *
 * unit_feed_parts.c - the feeder's parts by themselves: the numbering of captures, the schedule, heartbeats, the log, the
 * text of --line and --map, and what a capture becomes as a source.
 */
#include "../ingest/feed_repack.h"
#include "../ingest/feed_route.h"
#include "../ingest/feed_track.h"
#include "feed_bed.h"
#include <errno.h>

/* ---- numbering -------------------------------------------------------------------------------------------------- */

static struct mdbus_feed_track track;

static void step(enum mdbus_feed_step want, uint32_t epoch, uint64_t session, uint64_t first, uint64_t next, uint64_t hash)
{
	CHECK_U64(mdbus_feed_track_step(&track, session, first, next, hash), want);
	CHECK_U64(track.epoch, epoch);
}

static void test_track(void)
{
	const enum mdbus_feed_step ON = MDBUS_FEED_STEP_ON, RESTART = MDBUS_FEED_STEP_RESTART,
	                           REPEAT = MDBUS_FEED_STEP_REPEAT;

	step(RESTART, 1, 5, 1, 1, 0);    /* a heartbeat first */
	step(ON, 1, 5, 1, 4, 11);
	step(ON, 1, 5, 4, 5, 12);
	step(REPEAT, 1, 5, 1, 4, 11);    /* seen: the first packet again */
	step(REPEAT, 1, 5, 4, 5, 12);
	step(ON, 1, 5, 10, 12, 13);      /* over a gap */
	step(REPEAT, 1, 5, 7, 8, 14);    /* late, out of the gap */
	step(REPEAT, 1, 5, 9, 9, 0);     /* a late heartbeat */
	CHECK_U64(track.next, 12);
	step(ON, 1, 5, 12, 12, 0);
	step(RESTART, 2, 5, 10, 12, 99); /* other bytes under a number that was seen */
	step(ON, 2, 5, 12, 2000, 15);
	step(RESTART, 3, 5, 500, 501, 16); /* too far back to be late */
	step(RESTART, 4, 5, 1, 2, 17);     /* from the start */
	step(RESTART, 5, 5, 1, 1, 0);      /* a heartbeat says so */
	CHECK_U64(track.session_no, 1);
	step(RESTART, 6, 6, 1, 2, 18);     /* a new session may go on ... */
	CHECK_U64(track.session_no, 2);
	step(ON, 6, 6, UINT32_MAX, 1, 19); /* the greatest number, and the one after it */
	step(RESTART, 7, 6, 1, 2, 20);
	step(ON, 7, 6, 2, 3, 21);
	step(RESTART, 8, 7, 3, 4, 22);     /* ... with any number */
	CHECK_U64(track.session_no, 3);
}

/* ---- the schedule ----------------------------------------------------------------------------------------------- */

static uint64_t due(const struct mdbus_feed_pace *p, uint64_t message)
{
	return mdbus_feed_pace_due(p, &(struct mdbus_feed_when){ .message = message, .ts_ns = message * 1000 });
}

static void test_pace(void)
{
	struct mdbus_feed_pace p = { .pacing = MDBUS_FEED_RATE, .rate = 3 };
	uint64_t last = 0, at_once = 0, elapsed, stalled;

	CHECK_U64(due(&p, 3000000000u), 1000000000000000000u); /* no drift, however long */
	p = (struct mdbus_feed_pace){ .pacing = MDBUS_FEED_FILE, .speed = 4 };
	CHECK_U64(due(&p, 8), 2000);
	p = (struct mdbus_feed_pace){ .pacing = MDBUS_FEED_BURST, .rate = 100000, .burst = 10 };
	for (uint64_t i = 0; i < 100000; i++) {
		uint64_t at = due(&p, i);

		CHECK(at >= last && at < 1000000000);
		at_once += at % 100000000 == 0;
		last = at;
	}
	CHECK_U64(at_once, 10 * 1000);
	CHECK(due(&p, 99999) > 999000000);

	/* After a stall of 50 ms: steps of no more than 300 us, until the schedule is back on the clock. */
	p = (struct mdbus_feed_pace){ .pacing = MDBUS_FEED_RATE, .rate = 1000000 };
	for (elapsed = 0; elapsed < 1000000; elapsed += 1000)
		CHECK_U64(mdbus_feed_pace_now(&p, elapsed, elapsed), elapsed);
	last = mdbus_feed_pace_now(&p, elapsed, elapsed);
	stalled = elapsed + 50000000;
	for (elapsed = stalled; elapsed < stalled + 300000000; elapsed += 10000) {
		uint64_t now = mdbus_feed_pace_now(&p, elapsed, last);

		CHECK(now > last && now <= elapsed && now - last <= MDBUS_FEED_CATCHUP_NS);
		last = now;
	}
	CHECK_U64(last, elapsed - 10000);
	/* A pause in the source is no stall. */
	CHECK_U64(mdbus_feed_pace_now(&p, elapsed + 5000000000, elapsed + 5000000000), elapsed + 5000000000);
}

/* ---- heartbeats ------------------------------------------------------------------------------------------------- */

static void test_heartbeats(void)
{
	static const char *const with[] = { "moldudp64", "iex_tp", "ice_impact", "cboe_pitch", "nyse_xdp", "memoir_udp",
		"siac_cta", "b3_umdf" };
	static const char *const without[] = { "optiq", "optiq_key", "cme_mdp3", "cme_mdp3_xilinx", "eurex_eobi", "otc_link" };
	uint8_t packet[2048], beat[MDBUS_FEED_PAYLOAD];
	const struct mdbus_layout *l;
	struct mdbus_packet p;
	uint32_t len;

	for (size_t i = 0; (l = mdbus_layout_builtin_at(i)); i++) {
		bool must = false, must_not = false;

		for (size_t k = 0; k < sizeof(with) / sizeof(*with); k++)
			must |= strcmp(l->name, with[k]) == 0;
		for (size_t k = 0; k < sizeof(without) / sizeof(*without); k++)
			must_not |= strcmp(l->name, without[k]) == 0;
		make_packet(l, 70, 3, packet);
		len = mdbus_feed_heartbeat(l, packet, 73, beat, sizeof(beat));
		CHECK(len == 0 ? !must : !must_not);
		if (len == 0)
			continue;
		CHECK(len >= l->hdr && mdbus_layout_decode(l, beat, len, &p) == MDBUS_DECODE_OK);
		CHECK(p.event == MDBUS_EVENT_HEARTBEAT && p.has_next && p.next_seq == 73 && p.no_messages);
		CHECK_U64(mdbus_feed_heartbeat(l, packet, 73, beat, len - 1), 0);
	}
	l = mdbus_layout_builtin("moldudp64");
	make_packet(l, 70, 3, packet);
	len = mdbus_feed_end_of_session(l, packet, 73, beat, sizeof(beat));
	CHECK(len == 20 && memcmp(beat, packet, 10) == 0 && beat[17] == 73 && beat[18] == 0xff && beat[19] == 0xff);
}

/* A group ends where the session does, though the numbers go on. */
static void test_repack_session(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("moldudp64");
	const struct mdbus_message msg = { .off = 20, .len = 10, .seq = 1 }, next = { .off = 20, .len = 10, .seq = 2 };
	uint8_t data[64] = { 0 };
	struct mdbus_feed_packet p = { .data = data, .len = 30, .nmsg = 1, .session = 1, .msg = &msg };
	struct mdbus_feed_repack r;

	CHECK(mdbus_feed_repack_open(&r, l, 10, 1472) == 0);
	CHECK(!mdbus_feed_repack_full(&r, &p, 0));
	mdbus_feed_repack_add(&r, &p, 0, 0, 0);
	CHECK(!mdbus_feed_repack_done(&r, &p, 0));
	p.msg = &next;
	CHECK(!mdbus_feed_repack_full(&r, &p, 0));
	p.session = 2;
	CHECK(mdbus_feed_repack_full(&r, &p, 0));
	mdbus_feed_repack_close(&r);
}

/* ---- captures --------------------------------------------------------------------------------------------------- */

struct seen {
	uint32_t packets, messages, first_epoch, last_epoch, ends;
	uint64_t last_ts;
};

static struct mdbus_feed_source *play(const struct mdbus_feed_pcap_options *o, struct seen *seen, uint64_t *malformed)
{
	struct mdbus_feed_source *s;
	struct mdbus_feed_packet p;
	struct mdbus_feed_when when;
	char err[512];

	memset(seen, 0, 4 * sizeof(*seen));
	s = mdbus_feed_pcap_open(o, malformed, err, sizeof(err));
	if (!s)
		printf("%s\n", err), exit(1);
	CHECK(s->nstream <= 4);
	while (s->peek(s, &when)) {
		struct seen *x;

		s->take(s, &p);
		CHECK(p.stream < s->nstream && p.len <= s->max_payload);
		x = &seen[p.stream];
		x->packets++;
		x->messages += p.nmsg;
		x->first_epoch = x->first_epoch ? x->first_epoch : p.epoch;
		x->last_epoch = p.epoch;
		x->ends += !!(p.flags & MDBUS_FEED_EPOCH_END);
		CHECK(when.ts_ns >= x->last_ts);
		x->last_ts = when.ts_ns;
	}
	CHECK(!s->peek(s, &when));
	return s;
}

/* Two PITCH units on one port, one elsewhere; a cut packet and another protocol's among them. */
static void test_pcap(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("cboe_pitch");
	struct mdbus_feed_pcap_options o = { .layout = l, .loops = 1 };
	struct mdbus_feed_source *s;
	struct seen seen[4];
	struct capture c;
	uint8_t packet[512];
	uint64_t malformed;

	capture_begin(&c);
	for (uint32_t i = 0; i < 30; i++) {
		uint32_t len = make_packet(l, 1 + i / 3, 1, packet);

		packet[3] = (uint8_t)(i % 3 == 1 ? 2 : 1);
		capture_add(&c, i % 3 == 2 ? "224.0.0.9" : "224.0.0.8", 7000, packet, i == 27 ? len - 1 : len);
		c.ns += i == 10 ? 1000000000 : 0;
	}
	capture_end(&c);
	o.path = c.path;
	s = play(&o, seen, &malformed);
	CHECK_U64(s->nstream, 3);
	CHECK(strcmp(s->stream_name(s, 0), "224.0.0.8:7000|01") == 0);
	CHECK(strcmp(s->stream_name(s, 1), "224.0.0.8:7000|02") == 0);
	CHECK(strcmp(s->stream_name(s, 2), "224.0.0.9:7000|01") == 0);
	CHECK(malformed == 1 && seen[0].packets == 10 && seen[0].messages == 9 && seen[1].messages == 10);
	for (unsigned i = 0; i < 3; i++)
		CHECK(seen[i].last_epoch == 1 && seen[i].ends == 1);
	CHECK_U64(seen[2].last_ts, 1000029000);
	s->close(s);

	o.loops = 3;
	o.idle_max_ns = 5000000;
	s = play(&o, seen, &malformed);
	for (unsigned i = 0; i < 3; i++)
		CHECK(seen[i].packets == 30 && seen[i].first_epoch == 1 && seen[i].last_epoch == 3 && seen[i].ends == 3);
	CHECK_U64(seen[2].last_ts, 2 * (5028000 + 1000000) + 5028000);
	s->close(s);
	unlink(c.path);
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static void route(struct mdbus_feed_source *s, const char *line, const char *map, int want, const char *say)
{
	struct mdbus_feed_line_spec spec;
	struct mdbus_feed_route r = { 0 };
	char err[512] = "", got[128] = "";
	int rc = mdbus_feed_spec_parse(line, &spec, err, sizeof(err));

	if (!rc && map)
		rc = mdbus_feed_spec_map(map, &spec, err, sizeof(err));
	if (!rc)
		rc = mdbus_feed_route_open(&r, s, &spec, err, sizeof(err));
	if (rc != want || (rc && !strstr(err, say)))
		printf("%s %s: %d %s\n", line, map ? map : "", rc, err), exit(1);
	for (uint32_t i = 0; !rc && i < s->nstream; i++) {
		const struct mdbus_feed_dest *d = r.of[i] == MDBUS_FEED_NONE ? NULL : &r.dest[r.of[i]];
		struct in_addr in = { d ? d->addr : 0 };

		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s:%u ", inet_ntoa(in), d ? d->port : 0);
	}
	if (!rc && strcmp(got, say) != 0)
		printf("%s %s: routes %s, not %s\n", line, map ? map : "", got, say), exit(1);
	mdbus_feed_route_close(&r);
}

static void test_routes(void)
{
	const struct mdbus_layout *l = mdbus_layout_builtin("cme_mdp3_xilinx");
	struct mdbus_feed_source *s;
	uint8_t packet[512];
	struct capture c;

	capture_begin(&c);
	capture_add(&c, "224.0.31.9", 14318, packet, make_packet(l, 1, 1, packet));
	capture_add(&c, "224.0.32.9", 15318, packet, make_packet(l, 1, 1, packet));
	capture_end(&c);
	s = open_capture(&c, l);
	route(s, "A", NULL, 0, "224.0.31.9:14318 224.0.32.9:15318 ");
	route(s, "A,to=1.2.3.4:5", NULL, 0, "1.2.3.4:5 1.2.3.4:5 ");
	route(s, "A,to=1.2.3.4:5,pick=224.0.32.9:15318", NULL, 0, "0.0.0.0:0 1.2.3.4:5 ");
	route(s, "A,pick=224.0.32.9:15318", NULL, 0, "0.0.0.0:0 224.0.32.9:15318 ");
	route(s, "A,pick=224.0.32.9:15318", "224.0.31.9:14318=9.9.9.9:9", 0, "9.9.9.9:9 224.0.32.9:15318 ");
	route(s, "A,pick=224.0.32.9:1", NULL, -EINVAL, "there is 224.0.31.9:14318, 224.0.32.9:15318");
	route(s, "A", "224.0.31.9=9.9.9.9:9", -EINVAL, "OLDADDR:PORT=NEWADDR:PORT");
	s->close(s);
	unlink(c.path);
}

static void bad_spec(const char *text, const char *say)
{
	struct mdbus_feed_line_spec spec;
	char err[512] = "";

	if (mdbus_feed_spec_parse(text, &spec, err, sizeof(err)) != -EINVAL || !strstr(err, say))
		printf("--line %s: '%s' does not say '%s'\n", text, err, say), exit(1);
}

static void test_spec(void)
{
	static const uint8_t mac[6] = { 1, 2, 3, 0xaa, 0xbb, 0xcc };
	struct mdbus_feed_line_spec s;
	char err[256];

	CHECK(mdbus_feed_spec_parse("Line1,to=239.1.2.3:26477,dev=mda0,from=10.0.0.1,mac=01:02:03:aa:bb:cc,queue=2,"
	                            "loss=1.5%,dup=0.25,reorder=0.01:64,skew-us=250,repack=8", &s, err, sizeof(err)) == 0);
	CHECK(strcmp(s.name, "Line1") == 0 && strcmp(s.dev, "mda0") == 0 && memcmp(s.mac, mac, 6) == 0 && s.queue == 2);
	CHECK(s.to.addr == inet_addr("239.1.2.3") && s.to.port == 26477 && s.from == inet_addr("10.0.0.1"));
	CHECK(s.loss > 0.0149 && s.loss < 0.0151 && s.dup > 0.249 && s.dup < 0.251 && s.reorder > 0.009);
	CHECK(s.reorder_depth == 64 && s.skew_ns == 250000 && s.repack == 8 && s.npick == 0);
	bad_spec("", "starts with the line's name");
	bad_spec("to=1.2.3.4:5", "starts with the line's name");
	bad_spec("A,to", "'to' is not KEY=VALUE");
	bad_spec("A,lost=1", "unknown 'lost'");
	bad_spec("A,to=1.2.3.4", "to=1.2.3.4: expected ADDR:PORT");
	bad_spec("A,to=1.2.3.4:65536", "expected ADDR:PORT");
	bad_spec("A,loss=1.1", "expected a probability");
	bad_spec("A,loss=-1%", "expected a probability");
	bad_spec("A,loss=nan", "expected a probability");
	bad_spec("A,dup=5x", "expected a probability");
	bad_spec("A,reorder=5%", "PROBABILITY:DEPTH");
	bad_spec("A,reorder=5%:0", "PROBABILITY:DEPTH");
	bad_spec("A,skew-us=-1", "expected a number");
	bad_spec("A,repack=0", "a number of messages");
	bad_spec("A,from=10.0.0", "an IPv4 address");
	bad_spec("A,mac=1:2:3", "a MAC address");
	bad_spec("A,dev=a-name-that-is-far-too-long", "name of an interface");
}

/* ---- the log ---------------------------------------------------------------------------------------------------- */

static void test_log(void)
{
	struct mdbus_feed_log_totals t;
	struct mdbus_feedlog_record r = { .pad = 77, .line_mask = 77 }, back[10000];
	char path[] = "/tmp/mdbus-feedlog-XXXXXX", err[256], text[256];
	struct mdbus_feed_log *log;
	struct mdbus_feedlog_hdr hdr;
	int fd = mkstemp(path);
	FILE *f, *out;

	/* Line 0 is at once, line 1 all behind (more than the log first has room for) and loses each third. */
	log = mdbus_feed_log_open(path, 2, 1, err, sizeof(err));
	CHECK(log);
	for (uint64_t i = 0; i < 10000; i++) {
		r.seq = i + 1;
		CHECK_U64(mdbus_feed_log_add(log, &r, 2), i);
		mdbus_feed_log_resolve(log, i, 1, 0, i % 2, 100 + i);
	}
	for (uint64_t i = 0; i < 9990; i += 3) {
		mdbus_feed_log_resolve(log, i, 1, 1, false, 50);
		mdbus_feed_log_resolve(log, i + 1, 2, 1, true, 50);
	}
	CHECK(lseek(fd, 0, SEEK_END) > 9 * 1024 * 48); /* what is complete does not wait for the end */
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK(mdbus_feed_log_close(log, &t) == 0);
	CHECK(t.messages == 10000 && t.cut == 10);
	CHECK_U64(t.lost_all, 1665 + 5);
	f = fdopen(fd, "r");
	CHECK(f && fread(&hdr, sizeof(hdr), 1, f) == 1 && fread(back, sizeof(back[0]), 10001, f) == 10000);
	for (uint64_t i = 0; i < 10000; i++) {
		CHECK(back[i].seq == i + 1 && back[i].pad == 0 && back[i].time_ns == 100 + i);
		CHECK_U64(back[i].line_mask, i % 2 | (i < 9990 && i % 3 ? 2 : 0));
		CHECK_U64(back[i].flags, i < 9990 ? 0 : MDBUS_FEEDLOG_CUT);
	}
	/* As text; and a file that ends inside a record. */
	CHECK(truncate(path, 16 + 2 * 48 + 7) == 0);
	out = fmemopen(text, sizeof(text), "w");
	CHECK(mdbus_feed_log_print(path, out, err, sizeof(err)) == 0);
	fclose(out);
	CHECK(strstr(text, "\n0 0 0 1 0 -- . 0000000000000000 100\n0 0 0 2 0 AB . "));
	CHECK(strstr(text, "ends inside a record"));
	CHECK(truncate(path, 3) == 0);
	CHECK(mdbus_feed_log_print(path, stdout, err, sizeof(err)) == -EPROTO && strstr(err, "not a feeder log"));
	fclose(f);
	unlink(path);
	CHECK(mdbus_feed_log_print(path, stdout, err, sizeof(err)) == -ENOENT);
	CHECK(!mdbus_feed_log_open("/nonexistent/log", 1, 1, err, sizeof(err)) && strstr(err, "/nonexistent/log"));
	CHECK(!mdbus_feed_log_open("/dev/full", 1, 1, err, sizeof(err)) && strstr(err, "No space left"));
	CHECK(access("/dev/full", W_OK) == 0); /* what it could not write is removed only if it is a file */
}

int main(void)
{
	test_track();
	test_pace();
	test_heartbeats();
	test_repack_session();
	test_pcap();
	test_routes();
	test_spec();
	test_log();
	return 0;
}
