/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames of every shape the parser knows, built from the standards, each cut short at every length and each with
 * every length field forged.  The bytes end where memory ends.
 */
#include "../ingest/frame_parse.h"
#include "guard.h"

#include <arpa/inet.h>

struct shape {
	uint16_t tags[4]; /* TCI of each VLAN tag */
	uint16_t tpid[4];
	unsigned ntag;
	unsigned ihl;      /* 32-bit words */
	unsigned protocol;
	unsigned fragment; /* flags and offset */
	unsigned payload;  /* bytes */
	unsigned trailer;  /* bytes after the IP packet */
};

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned ip_at(const struct shape *s)
{
	return 14 + 4 * s->ntag;
}

static unsigned udp_at(const struct shape *s)
{
	return ip_at(s) + 4 * s->ihl;
}

static unsigned packet_end(const struct shape *s)
{
	return udp_at(s) + 8 + s->payload;
}

static unsigned build(const struct shape *s, uint8_t *f)
{
	static const uint8_t src[] = { 10, 1, 2, 3 }, dst[] = { 233, 54, 12, 111 };
	unsigned ip = ip_at(s), udp = udp_at(s);

	memset(f, 0xa5, packet_end(s) + s->trailer);
	for (unsigned i = 0; i < s->ntag; i++) {
		put16(f + 12 + 4 * i, s->tpid[i]);
		put16(f + 14 + 4 * i, s->tags[i]);
	}
	put16(f + ip - 2, 0x0800);
	f[ip] = (uint8_t)(0x40 | s->ihl);
	put16(f + ip + 2, 4 * s->ihl + 8 + s->payload);
	put16(f + ip + 6, s->fragment);
	f[ip + 9] = (uint8_t)s->protocol;
	memcpy(f + ip + 12, src, sizeof(src));
	memcpy(f + ip + 16, dst, sizeof(dst));
	put16(f + udp, 5555);
	put16(f + udp + 2, 26477);
	put16(f + udp + 4, 8 + s->payload);
	return packet_end(s) + s->trailer;
}

static enum mdbus_frame_verdict parse(const uint8_t *f, unsigned len, struct mdbus_udp *out)
{
	memset(out, 0xee, sizeof(*out));
	return mdbus_frame_parse(guard_put(f, len), len, out);
}

static void check_udp(const struct shape *s, const struct mdbus_udp *u)
{
	CHECK_U64(u->off, udp_at(s) + 8);
	CHECK_U64(u->len, s->payload);
	CHECK(u->src == inet_addr("10.1.2.3") && u->dst == inet_addr("233.54.12.111"));
	CHECK_U64(u->src_port, 5555);
	CHECK_U64(u->dst_port, 26477);
	CHECK_U64(u->nvlan, s->ntag);
	for (unsigned i = 0; i < s->ntag; i++)
		CHECK_U64(u->vlan[i], s->tags[i] & 0xfff);
}

/* Whole it is UDP; cut anywhere before its end it is BAD, and never NOT_FEED or UDP. */
static void check_shape(const struct shape *s)
{
	uint8_t f[512];
	struct mdbus_udp u;
	unsigned len = build(s, f);

	CHECK_U64(parse(f, len, &u), MDBUS_FRAME_UDP);
	check_udp(s, &u);
	for (unsigned n = 0; n < packet_end(s); n++)
		CHECK_U64(parse(f, n, &u), MDBUS_FRAME_BAD);
	for (unsigned n = packet_end(s); n <= len; n++)
		CHECK_U64(parse(f, n, &u), MDBUS_FRAME_UDP);
}

static void good_shapes(void)
{
	static const uint16_t tpids[] = { 0x8100, 0x88a8, 0x9100 };

	for (unsigned ihl = 5; ihl <= 15; ihl++)
		for (unsigned ntag = 0; ntag <= 2; ntag++)
			for (unsigned payload = 0; payload <= 64; payload += 13)
				check_shape(&(struct shape){
					.ihl = ihl, .ntag = ntag, .tpid = { tpids[ihl % 3], 0x8100 }, .tags = { 0xe755, 1 },
					.protocol = 17, .payload = payload, .trailer = payload % 7,
				});
}

static void bad_ip(void)
{
	struct shape s = { .ihl = 6, .protocol = 17, .payload = 20 };
	uint8_t f[512];
	struct mdbus_udp u;
	unsigned len = build(&s, f);

	for (unsigned v = 0; v < 256; v++) { /* version and IHL: only behind 6 words there is a UDP header */
		f[14] = (uint8_t)v;
		if (v >> 4 != 4 || (v & 15) < 5)
			CHECK_U64(parse(f, len, &u), MDBUS_FRAME_BAD);
		else if ((v & 15) == 6)
			CHECK_U64(parse(f, len, &u), MDBUS_FRAME_UDP);
		else
			parse(f, len, &u);
	}
	build(&s, f);
	for (unsigned total = 0; total < 65536; total++) { /* the UDP length needs all of them, the frame has no more */
		put16(f + 16, total);
		CHECK_U64(parse(f, len, &u), total == len - 14 ? MDBUS_FRAME_UDP : MDBUS_FRAME_BAD);
	}
	build(&s, f);
	for (unsigned udp_len = 0; udp_len < 65536; udp_len++) { /* it may be shorter than the IP packet's room */
		put16(f + udp_at(&s) + 4, udp_len);
		CHECK_U64(parse(f, len, &u), udp_len >= 8 && udp_len <= 28 ? MDBUS_FRAME_UDP : MDBUS_FRAME_BAD);
		if (udp_len >= 8 && udp_len <= 28)
			CHECK_U64(u.len, udp_len - 8);
	}
}

static void other_protocols(void)
{
	struct shape s = { .ihl = 5, .payload = 20 };
	uint8_t f[512];
	struct mdbus_udp u;
	unsigned len;

	for (s.protocol = 0; s.protocol < 256; s.protocol++) {
		len = build(&s, f);
		CHECK_U64(parse(f, len, &u), s.protocol == 17 ? MDBUS_FRAME_UDP : MDBUS_FRAME_NOT_FEED);
	}
	s.protocol = 17;
	len = build(&s, f);
	for (unsigned type = 0; type < 65536; type++) {
		if (type == 0x0800 || type == 0x8100 || type == 0x88a8 || type == 0x9100)
			continue;
		put16(f + 12, type); /* IPv6, ARP, 802.3 lengths, whatever */
		CHECK_U64(parse(f, len, &u), MDBUS_FRAME_NOT_FEED);
	}
	s = (struct shape){ .ihl = 5, .protocol = 17, .ntag = 3, .tpid = { 0x8100, 0x8100, 0x8100 }, .payload = 20 };
	len = build(&s, f);
	CHECK_U64(parse(f, len, &u), MDBUS_FRAME_NOT_FEED); /* three tags */
	put16(f + 16, 0x86dd);
	CHECK_U64(parse(f, len, &u), MDBUS_FRAME_NOT_FEED); /* IPv6 behind one */
}

/* More fragments or an offset make a fragment, don't-fragment does not.  Ports only where they really stand. */
static void fragments(void)
{
	struct shape s = { .ihl = 7, .protocol = 17, .ntag = 1, .tpid = { 0x8100 }, .tags = { 7 }, .payload = 24 };
	uint8_t f[512];
	struct mdbus_udp u;

	for (unsigned fragment = 0; fragment < 65536; fragment++) {
		unsigned len;

		s.fragment = fragment;
		len = build(&s, f);
		if (!(fragment & 0x3fff)) {
			CHECK_U64(parse(f, len, &u), MDBUS_FRAME_UDP);
			continue;
		}
		put16(f + udp_at(&s) + 4, 9999); /* the whole datagram's length */
		CHECK_U64(parse(f, len, &u), MDBUS_FRAME_FRAGMENT);
		CHECK(u.dst == inet_addr("233.54.12.111"));
		CHECK_U64(u.dst_port, fragment & 0x1fff ? 0 : 26477);
	}
	s.fragment = 0x2000; /* a first fragment too short for the ports */
	build(&s, f);
	put16(f + ip_at(&s) + 2, 4 * s.ihl + 3);
	CHECK_U64(parse(f, udp_at(&s) + 3, &u), MDBUS_FRAME_FRAGMENT);
	CHECK_U64(u.dst_port, 0);
	s.protocol = 6;
	CHECK_U64(parse(f, build(&s, f), &u), MDBUS_FRAME_NOT_FEED); /* of TCP: nobody's business */
}

/* 0 to 64 bytes of anything: an answer, and a payload inside the frame. */
static void noise(void)
{
	uint64_t x = 88172645463325252u;
	struct mdbus_udp u;
	uint8_t f[64];

	for (unsigned round = 0; round < 200000; round++) {
		unsigned len = round % 65;

		for (unsigned i = 0; i < len; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			f[i] = (uint8_t)x;
		}
		if (len > 14 && round % 3)
			put16(f + 12, round % 2 ? 0x0800 : 0x8100);
		if (len > 23 && round % 2)
			f[14] = 0x45, f[16] = 0, f[17] = (uint8_t)(x % 64), f[20] = f[21] = 0, f[23] = 17;
		if (parse(f, len, &u) == MDBUS_FRAME_UDP)
			CHECK(u.off <= len && u.len <= len - u.off && u.nvlan <= MDBUS_VLAN_MAX);
	}
}

int main(void)
{
	good_shapes();
	bad_ip();
	other_protocols();
	fragments();
	noise();
	for (unsigned v = 0; v < 5; v++)
		CHECK(mdbus_frame_verdict_name((enum mdbus_frame_verdict)v)[0]);
	return 0;
}
