/* SPDX-License-Identifier: Apache-2.0
 *
 * frame_parse.h - from a received frame to its UDP payload, or to the reason why there is none.
 *
 * Each header is read only after its bytes were compared with what is left, and each length that the packet states is
 * compared with what is really there, so nothing outside [frame, frame + len) is ever read.  What follows the UDP
 * payload (Ethernet's pad to 60 bytes, a trailer that a switch added) is outside the IP total length and ignored.
 * Three answers that are not a payload must not be mixed up: NOT_FEED belongs to somebody else, BAD is broken,
 * FRAGMENT may be of a feed (its addresses say so) but is not a packet: ports and payload of a later fragment are not
 * where they seem to be.
 *
 * Checksums are left to the NIC and the sender: a feed may send UDP checksum 0, and veth pairs deliver unfinished
 * ones. Pure functions, inline because they run once a packet; called by the ingest process, the feeder and
 * mdbus-decode.
 */
#ifndef MDBUS_INGEST_FRAME_PARSE_H
#define MDBUS_INGEST_FRAME_PARSE_H

#include <stdint.h>
#include <string.h>

#define MDBUS_VLAN_MAX 2

enum mdbus_frame_verdict {
	MDBUS_FRAME_UDP = 0,  /* *out is whole */
	MDBUS_FRAME_NOT_FEED, /* not IPv4, not UDP, or more than two VLAN tags */
	MDBUS_FRAME_BAD,      /* a header cut short, or lengths that contradict each other */
	MDBUS_FRAME_FRAGMENT, /* of an IPv4 UDP datagram: addresses are set, ports 0 unless this fragment shows them */
};

struct mdbus_udp {
	uint32_t off; /* of the UDP payload, bytes from the start of the frame */
	uint32_t len; /* of the UDP payload, from the UDP header */
	uint32_t src; /* network byte order */
	uint32_t dst; /* network byte order */
	uint16_t src_port; /* host byte order */
	uint16_t dst_port; /* host byte order */
	uint16_t vlan[MDBUS_VLAN_MAX]; /* ids, outermost first */
	uint8_t nvlan;
};

static inline uint32_t mdbus_frame_be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* The UDP header at off; `left` bytes of the IP payload. */
static inline enum mdbus_frame_verdict mdbus_frame_parse_udp(const uint8_t *frame, uint32_t off, uint32_t left,
                                                             struct mdbus_udp *out)
{
	uint32_t udp_len;

	if (left < 8)
		return MDBUS_FRAME_BAD;
	udp_len = mdbus_frame_be16(frame + off + 4);
	if (udp_len < 8 || udp_len > left)
		return MDBUS_FRAME_BAD;
	out->src_port = (uint16_t)mdbus_frame_be16(frame + off);
	out->dst_port = (uint16_t)mdbus_frame_be16(frame + off + 2);
	out->off = off + 8;
	out->len = udp_len - 8;
	return MDBUS_FRAME_UDP;
}

/* The IPv4 header at off <= len. Leaves out->vlan alone. */
static inline enum mdbus_frame_verdict mdbus_frame_parse_ipv4(const uint8_t *frame, uint32_t len, uint32_t off,
                                                              struct mdbus_udp *out)
{
	const uint8_t *ip = frame + off;
	uint32_t header, total, fragment;

	if (len - off < 20 || ip[0] >> 4 != 4)
		return MDBUS_FRAME_BAD;
	header = (ip[0] & 15u) * 4;
	total = mdbus_frame_be16(ip + 2);
	if (header < 20 || total < header || total > len - off)
		return MDBUS_FRAME_BAD;
	if (ip[9] != 17)
		return MDBUS_FRAME_NOT_FEED;
	memcpy(&out->src, ip + 12, 4);
	memcpy(&out->dst, ip + 16, 4);
	fragment = mdbus_frame_be16(ip + 6);
	if (fragment & 0x3fff) { /* more fragments, or an offset */
		out->src_port = out->dst_port = 0;
		if (!(fragment & 0x1fff) && total - header >= 4) {
			out->src_port = (uint16_t)mdbus_frame_be16(ip + header);
			out->dst_port = (uint16_t)mdbus_frame_be16(ip + header + 2);
		}
		return MDBUS_FRAME_FRAGMENT;
	}
	return mdbus_frame_parse_udp(frame, off + header, total - header, out);
}

/* What follows an EtherType at off <= len: up to two VLAN tags (802.1Q, 802.1ad, QinQ's older 0x9100), then IPv4. */
static inline enum mdbus_frame_verdict mdbus_frame_parse_ethertype(const uint8_t *frame, uint32_t len, uint32_t off,
                                                                   uint32_t type, struct mdbus_udp *out)
{
	out->nvlan = 0;
	while (type == 0x8100 || type == 0x88a8 || type == 0x9100) {
		if (out->nvlan == MDBUS_VLAN_MAX)
			return MDBUS_FRAME_NOT_FEED;
		if (len - off < 4)
			return MDBUS_FRAME_BAD;
		out->vlan[out->nvlan++] = mdbus_frame_be16(frame + off) & 0x0fff;
		type = mdbus_frame_be16(frame + off + 2);
		off += 4;
	}
	if (type != 0x0800)
		return MDBUS_FRAME_NOT_FEED;
	return mdbus_frame_parse_ipv4(frame, len, off, out);
}

/* An Ethernet frame without its FCS. *out is written in part whatever the verdict. */
static inline enum mdbus_frame_verdict mdbus_frame_parse(const uint8_t *frame, uint32_t len, struct mdbus_udp *out)
{
	if (len < 14)
		return MDBUS_FRAME_BAD;
	return mdbus_frame_parse_ethertype(frame, len, 14, mdbus_frame_be16(frame + 12), out);
}

/* "udp", "not a feed's", "bad frame", "IP fragment" */
const char *mdbus_frame_verdict_name(enum mdbus_frame_verdict verdict);

#endif
