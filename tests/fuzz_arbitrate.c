/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_arbitrate.c - any packets on one to three lines, in any order and at any time: what may a subscriber see?
 *
 * Input: six bytes of set-up (choose()), then steps, one byte each with arguments behind it (step()): packets of a
 * stream or nearly so, heartbeats, forgeries, noise, time passing, lines that die and come back, a reader that sleeps.
 * Every packet's messages are noted as the decoder gives them.  Then, whatever was sent:
 *
 *   each number of an epoch is seen once, as a message or in a gap, in order, without one left out
 *   the bytes of a message are those of one that was sent with that number
 *   all messages of an epoch are of one session
 *   when time has passed and nothing more comes, no hole stays open
 */
#include "bus_bed.h"
#include "fuzz.h"

#define PACKET_MAX   1024u
#define SENT_MAX     16384u
#define SESSIONS_MAX 64u
#define BUCKETS      1024u
#define TIMEOUT_NS   UINT64_C(1000000)
#define AHEAD_MAX    4096u

struct sent {
	uint64_t seq, hash;
	uint32_t session, next; /* next: of the bucket, 1 + index */
};

static struct sent sent[SENT_MAX];
static uint32_t nsent, bucket[BUCKETS];
static uint64_t sessions[SESSIONS_MAX];
static uint32_t nsessions;

static struct bed bed;
static struct mdbus_channel_desc desc;
static struct mdbus_sub *sub;
static uint64_t now;
static bool lazy, say;

/* Where the sender of each line is in each session. */
static uint64_t next_seq[3][4];
static uint8_t packet[PACKET_MAX];
static uint32_t packet_len;

/* What the reader has seen. */
static struct {
	bool any, leading; /* leading: nothing of this epoch yet, which may start later than said (joined midstream) */
	bool lost;         /* an overrun: the next record may be any later one */
	uint64_t epoch, expect, sessions;
	uint64_t ahead[AHEAD_MAX];
	uint32_t nahead;
} seen;

/* ---- what was sent ---- */

static uint64_t hash_bytes(const uint8_t *p, uint32_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ n;

	for (uint32_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Sessions that the bus keeps apart: it folds them (generation.h). */
static uint32_t session_index(uint64_t session)
{
	uint64_t folded = mdbus_gen_session(session);
	uint32_t i = 0;

	while (i < nsessions && sessions[i] != folded)
		i++;
	if (i == nsessions && nsessions < SESSIONS_MAX)
		sessions[nsessions++] = folded;
	return i;
}

/* False: there is no more room to remember. */
static bool note_packet(void)
{
	static struct mdbus_message m[MDBUS_MESSAGES_MAX];
	struct mdbus_packet p;
	uint32_t n = 0;

	if (mdbus_layout_decode(&desc.layout, packet, packet_len, &p) || p.no_messages)
		return true;
	mdbus_layout_messages(&desc.layout, packet, packet_len, &p, m, MDBUS_MESSAGES_MAX, &n);
	if (nsent + n > SENT_MAX || session_index(p.session) == SESSIONS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t *head = &bucket[m[i].seq % BUCKETS];

		sent[nsent] = (struct sent){ m[i].seq, hash_bytes(packet + m[i].off, m[i].len), session_index(p.session), *head };
		*head = ++nsent;
	}
	return true;
}

/* The sessions in which these bytes were sent with this number. */
static uint64_t sessions_of(uint64_t seq, const uint8_t *bytes, uint32_t len)
{
	uint64_t hash = hash_bytes(bytes, len), set = 0;

	for (uint32_t i = bucket[seq % BUCKETS]; i; i = sent[i - 1].next)
		if (sent[i - 1].seq == seq && sent[i - 1].hash == hash)
			set |= UINT64_C(1) << sent[i - 1].session;
	return set;
}

/* ---- what is seen ---- */

static bool was_ahead(uint64_t seq)
{
	for (uint32_t i = 0; i < seen.nahead; i++)
		if (seen.ahead[i] == seq) {
			seen.ahead[i] = seen.ahead[--seen.nahead];
			return true;
		}
	return false;
}

/* The reader has lost what is before seq. */
static void forget_before(uint64_t seq)
{
	for (uint32_t i = seen.nahead; i-- > 0;)
		if (seen.ahead[i] < seq)
			seen.ahead[i] = seen.ahead[--seen.nahead];
}

static void new_epoch(uint64_t epoch, uint64_t first)
{
	seen.epoch = epoch;
	seen.expect = first;
	seen.leading = true;
	seen.sessions = UINT64_MAX;
	seen.nahead = 0;
}

static void see_message(const struct mdbus_record *r)
{
	seen.sessions &= sessions_of(r->seq, r->data, r->len);
	FUZZ_CHECK(seen.sessions != 0);
}

static void see_ahead(const struct mdbus_record *r)
{
	FUZZ_CHECK(r->epoch == seen.epoch && (r->seq > seen.expect || seen.leading));
	for (uint32_t i = 0; i < seen.nahead; i++)
		FUZZ_CHECK(seen.ahead[i] != r->seq);
	FUZZ_CHECK(seen.nahead < AHEAD_MAX);
	seen.ahead[seen.nahead++] = r->seq;
	see_message(r);
}

/* With MDBUS_FUZZ_SAY set: what happens, for whoever looks into an input. */
static void say_record(const struct mdbus_record *r)
{
	static const char *const kinds[] = { "data", "gap", "reset", "overrun" };

	if (say)
		fprintf(stderr, "  %s %llu epoch %llu count %llu%s\n", r->kind < 4 ? kinds[r->kind] : "?",
		        (unsigned long long)r->seq, (unsigned long long)r->epoch, (unsigned long long)r->count,
		        r->kind == MDBUS_RECORD_DATA && r->ahead ? " ahead" : "");
}

static void say_packet(uint32_t line)
{
	struct mdbus_packet p;

	if (!say)
		return;
	if (mdbus_layout_decode(&desc.layout, packet, packet_len, &p))
		fprintf(stderr, "line %u: malformed\n", line);
	else
		fprintf(stderr, "line %u: session %x seq %llu count %u %s\n", line, mdbus_gen_session(p.session),
		        (unsigned long long)p.seq, p.count, mdbus_event_name(p.event));
}

static void see(const struct mdbus_record *r)
{
	say_record(r);
	if (!seen.any || (seen.lost && r->epoch > seen.epoch)) {
		seen.any = true;
		new_epoch(r->epoch - (r->kind == MDBUS_RECORD_RESET), 0);
	}
	if (r->kind == MDBUS_RECORD_DATA && r->ahead) {
		see_ahead(r);
		return;
	}
	if (seen.lost)
		forget_before(r->seq);
	while (!seen.lost && r->seq != seen.expect && was_ahead(seen.expect))
		seen.expect++;
	FUZZ_CHECK(r->epoch == seen.epoch + (r->kind == MDBUS_RECORD_RESET));
	FUZZ_CHECK(r->seq == seen.expect || (r->seq > seen.expect && (seen.lost || seen.leading)));
	FUZZ_CHECK(r->kind == MDBUS_RECORD_OVERRUN || !was_ahead(r->seq));
	seen.leading = false;
	seen.lost = false;
	seen.expect = r->seq + r->count;
	switch (r->kind) {
	case MDBUS_RECORD_DATA:
		FUZZ_CHECK(r->count == 1);
		see_message(r);
		break;
	case MDBUS_RECORD_RESET:
		new_epoch(r->epoch, r->count);
		break;
	case MDBUS_RECORD_OVERRUN:
		/* also a reader that never sleeps: many restarts can become true, and lap it, by one packet */
		FUZZ_CHECK(r->count >= 1);
		seen.lost = true;
		seen.expect = r->seq + 1;
		break;
	default:
		FUZZ_CHECK(r->kind == MDBUS_RECORD_GAP && r->count >= 1);
	}
}

static void drain(uint32_t max)
{
	static uint8_t buf[65536];
	struct mdbus_record r;

	for (uint32_t i = 0; i < max && mdbus_sub_read(sub, &r, buf, sizeof(buf)); i++)
		see(&r);
}

/* ---- packets ---- */

static void put(unsigned width, uint64_t value, bool big)
{
	for (unsigned i = 0; i < width; i++)
		packet[packet_len + (big ? width - 1 - i : i)] = (uint8_t)(value >> 8 * i);
	packet_len += width;
}

/* A header of the family in use. */
static void put_header(uint32_t session, uint64_t seq, uint32_t count, uint32_t bytes)
{
	packet_len = 0;
	switch (desc.layout.hdr) {
	case 20: /* MoldUDP64 */
		memcpy(packet, "SESSION--", 9);
		packet_len = 9;
		put(1, 'A' + session, true);
		put(8, seq, true);
		put(2, count, true);
		break;
	case 8: /* PITCH has no session: another unit is another stream */
		put(2, 8 + bytes, false);
		put(1, count, false);
		put(1, 1, false);
		put(4, seq, false);
		break;
	default: /* IEX-TP */
		put(4, 0x80040001, false);
		put(4, 1, false);
		put(4, session, false);
		put(2, bytes, false);
		put(2, count, false);
		put(8, 0, false);
		put(8, seq, false);
		put(8, 0, false);
	}
}

/* Messages say who they are; every third is too long for a slot. */
static void build(uint32_t session, uint64_t seq, uint32_t count, uint32_t variant)
{
	const uint32_t prefix = desc.layout.msglen.width, bias = (uint32_t)desc.layout.msglen.bias;
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += prefix + 10u + ((seq + i) % 3 == 0 ? 120u : 0);
	put_header(session, seq, count, bytes);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t body = 10u + ((seq + i) % 3 == 0 ? 120u : 0);

		put(prefix, prefix + body - bias, desc.layout.big_endian);
		put(8, seq + i, false);
		put(1, session, false);
		put(1, variant, false);
		memset(packet + packet_len, (int)(seq + i), body - 10u);
		packet_len += body - 10u;
	}
}

static bool send_on(uint32_t line)
{
	now += 1000;
	if (packet_len == 0 || bed.bus.dir->line_state[line] != MDBUS_LINE_UP)
		return true;
	say_packet(line);
	if (!note_packet())
		return false;
	bed_packet(&bed, line, packet, packet_len, now);
	return true;
}

/* ---- steps ---- */

static bool step_stream(struct fuzz_in *in, uint32_t line, uint32_t session)
{
	uint8_t how = fuzz_u8(in);
	int8_t delta = how & 0x80 ? (int8_t)fuzz_u8(in) : 0;
	uint32_t count = 1u + (how & 3u);
	uint64_t seq = next_seq[line][session] + (uint64_t)(int64_t)delta;

	build(session, seq, count, how >> 2 & 1u);
	if (delta >= 0)
		next_seq[line][session] = seq + count;
	return send_on(line);
}

static bool step_forged(struct fuzz_in *in, uint32_t line, uint32_t session)
{
	static const uint64_t edge[] = { 0, 1, 2, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 48,
		                         UINT64_C(1) << 44, (UINT64_C(1) << 44) - 3, 0xffffffff, 0xfffffffd, UINT64_C(1) << 32 };
	uint8_t how = fuzz_u8(in);
	uint64_t seq = how & 0x80 ? edge[(how & 0x7f) % (sizeof(edge) / sizeof(edge[0]))]
	                          : next_seq[line][session] + fuzz_u16(in);

	build(session, seq, how >> 5 & 3u, 0);
	if (how & 0x10) /* stay there */
		next_seq[line][session] = seq + (how >> 5 & 3u);
	return send_on(line);
}

static bool step_damaged(struct fuzz_in *in, uint32_t line)
{
	uint32_t n = fuzz_u8(in) % 4u + 1u;

	for (uint32_t i = 0; i < n && packet_len; i++) {
		uint32_t at = fuzz_u8(in) % packet_len;

		packet[at] = fuzz_u8(in);
	}
	return send_on(line);
}

static bool step_noise(struct fuzz_in *in, uint32_t line)
{
	packet_len = fuzz_u8(in);
	for (uint32_t i = 0; i < packet_len; i++)
		packet[i] = fuzz_u8(in);
	return send_on(line);
}

static void tick(uint32_t lines)
{
	for (uint32_t k = 0; k < bed.nline; k++)
		if (lines >> k & 1u && bed.bus.dir->line_state[k] == MDBUS_LINE_UP)
			mdbus_channel_tick(&bed.line[k].channel, now);
}

static void step_line(struct fuzz_in *in, uint32_t line)
{
	struct bed_line *l = &bed.line[line];

	switch (fuzz_u8(in) % 3u) {
	case 0:
		bed.bus.dir->line_state[line] = MDBUS_LINE_DOWN;
		break;
	case 1: /* another process takes over; it holds what the ring still refers to */
		bed.bus.dir->line_state[line] = MDBUS_LINE_UP;
		for (uint32_t i = 0; i < l->channel.candidate.held; i++)
			l->holds.refs[mdbus_holds_frame(&l->holds, l->channel.candidate.chunk[i].off)]--;
		FUZZ_CHECK(mdbus_channel_init(&l->channel, &l->bus, 0, line, &l->holds) == 0);
		break;
	case 2:
		mdbus_channel_flush(&l->channel, now);
		break;
	}
}

static bool step(struct fuzz_in *in)
{
	uint8_t op = fuzz_u8(in), arg;
	uint32_t line = (op >> 3 & 3u) % bed.nline, session = op >> 5 & 3u;
	bool more = true;

	switch (op & 7u) {
	case 0:
	case 1:
		more = step_stream(in, line, session);
		break;
	case 2:
		build(session, next_seq[line][session] + (fuzz_u8(in) & 15u), 0, 0);
		more = send_on(line);
		break;
	case 3:
		more = step_forged(in, line, session);
		break;
	case 4:
		more = step_damaged(in, line);
		break;
	case 5:
		arg = fuzz_u8(in);
		now += (uint64_t)(arg >> 3) * (TIMEOUT_NS / 8u);
		tick(arg & 7u);
		break;
	case 6:
		if (op & 0x80)
			more = step_noise(in, line);
		else
			step_line(in, line);
		break;
	case 7:
		drain(fuzz_u8(in));
		break;
	}
	if (!lazy)
		drain(UINT32_MAX);
	return more;
}

static bool settled(void)
{
	bool open = mdbus_sub_lag(sub) != 0;

	for (uint32_t k = 0; k < bed.nline; k++)
		open = open || bed.line[k].channel.resolver.open;
	return !open;
}

/* Time passes and nothing comes: every hole must close, and the reader get to where the lines are. */
static void settle(void)
{
	for (uint32_t k = 0; k < bed.nline; k++)
		bed.bus.dir->line_state[k] = MDBUS_LINE_UP;
	for (uint32_t i = 0; i < 4 || (i < 200 && !settled()); i++) {
		now += TIMEOUT_NS;
		tick(UINT32_MAX);
		drain(UINT32_MAX);
	}
	FUZZ_CHECK(settled());
}

static void choose(struct fuzz_in *in)
{
	static const char *const layouts[] = { "moldudp64", "cboe_pitch", "iex_tp" };
	static const uint32_t windows[] = { 0, 1, 8, 32 };
	uint32_t layout = fuzz_u8(in) % 3u, nline = 1u + fuzz_u8(in) % 3u;
	uint8_t flags = fuzz_u8(in);

	desc = bed_channel_default(layouts[layout], nline);
	desc.depth = 256;
	desc.window = 128;
	desc.gap_timeout_ns = TIMEOUT_NS;
	desc.timed = flags & 1u;
	desc.slot_size = flags & 2u ? 64 : 128;
	desc.agree_packets = 1u + fuzz_u8(in) % 4u;
	desc.reorder_window = windows[fuzz_u8(in) % 4u];
	bed_open(&bed, &desc, nline, 256);
	lazy = flags & 8u;
	sub = mdbus_sub_over(&bed.bus, &(struct mdbus_sub_options){ .unordered = flags & 4u });
	FUZZ_CHECK(sub != NULL);
	for (uint32_t i = 0; i < 12; i++)
		next_seq[i / 4][i % 4] = flags & 0x10 ? 1000 : flags & 0x20 ? 0xffffffe0 : 1;
	fuzz_u8(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };

	say = getenv("MDBUS_FUZZ_SAY") != NULL;
	nsent = nsessions = packet_len = 0;
	memset(bucket, 0, sizeof(bucket));
	memset(&seen, 0, sizeof(seen));
	now = 1000000000;
	choose(&in);
	while (fuzz_left(&in) && step(&in))
		;
	settle();
	mdbus_sub_close(sub);
	bed_close(&bed);
	return 0;
}
