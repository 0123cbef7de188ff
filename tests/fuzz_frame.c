/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_frame.c - any frame: what is said to be a UDP payload lies inside it, and a plainer reading of the headers agrees.
 */
#include "../ingest/frame_parse.h"
#include "fuzz.h"

/* Where the IPv4 header starts behind at most two tags; 0: not there. */
static uint32_t ip_at(const uint8_t *f, uint32_t len)
{
	uint32_t off = 12;

	for (unsigned tags = 0; tags < 3 && off + 2 <= len; tags++, off += 4) {
		unsigned type = f[off] * 256u + f[off + 1];

		if (type == 0x0800)
			return off + 2;
		if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
			break;
	}
	return 0;
}

/* True if the frame holds a whole, unfragmented UDP datagram; *off, *n: its payload. */
static bool plainly(const uint8_t *f, uint32_t len, uint32_t *off, uint32_t *n)
{
	uint32_t ip = ip_at(f, len), ihl, total, udp;

	if (ip == 0 || ip + 20 > len || (f[ip] & 0xf0) != 0x40 || f[ip + 9] != 17)
		return false;
	ihl = (f[ip] & 15u) * 4;
	total = f[ip + 2] * 256u + f[ip + 3];
	if (ihl < 20 || total < ihl + 8 || ip + total > len)
		return false;
	if ((f[ip + 6] & 0x3f) || f[ip + 7]) /* but for "don't fragment" and the reserved bit */
		return false;
	udp = f[ip + ihl + 4] * 256u + f[ip + ihl + 5];
	*off = ip + ihl + 8;
	*n = udp - 8;
	return udp >= 8 && udp <= total - ihl;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t len = (uint32_t)(size > 65535 ? 65535 : size), off, n;
	uint8_t *frame = malloc(len ? len : 1);
	struct mdbus_udp udp = { 0 };
	enum mdbus_frame_verdict v;

	memcpy(frame, data, len);
	v = mdbus_frame_parse(frame, len, &udp);
	FUZZ_CHECK((v == MDBUS_FRAME_UDP) == plainly(frame, len, &off, &n));
	if (v == MDBUS_FRAME_UDP) {
		FUZZ_CHECK(udp.off == off && udp.len == n && udp.off + udp.len <= len);
		FUZZ_CHECK(udp.nvlan <= MDBUS_VLAN_MAX);
		FUZZ_CHECK(udp.dst_port == frame[off - 6] * 256u + frame[off - 5]);
	}
	free(frame);
	return 0;
}
