/* SPDX-License-Identifier: Apache-2.0 */
#include "vbridge_flow.h"
#include <netinet/in.h>
#include <rte_thash.h>
#include <string.h>
#include "rss.h"

#define ETHER     14u
#define TYPE_IPV4 0x0800u
#define TYPE_VLAN 0x8100u
#define TYPE_QINQ 0x88a8u
#define FRAGMENT  0x3fffu /* offset, or more to come */

static uint32_t read16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t read32(const uint8_t *p)
{
	return read16(p) << 16 | read16(p + 2);
}

static uint64_t read_mac(const uint8_t *p)
{
	return (uint64_t)read16(p) << 32 | read32(p + 2);
}

static void read_ipv4(const uint8_t *ip, uint32_t len, struct mdbus_vflow *f)
{
	uint32_t header = (ip[0] & 15u) * 4u, tuple[3], words = 2;

	if (ip[0] >> 4 != 4 || header < 20u || len < header)
		return;
	tuple[0] = read32(ip + 12);
	tuple[1] = read32(ip + 16);
	if (tuple[1] >> 28 == 14)
		f->group = tuple[1];
	if ((ip[9] == IPPROTO_UDP || ip[9] == IPPROTO_TCP) && !(read16(ip + 6) & FRAGMENT) && len >= header + 4u)
		tuple[words++] = read32(ip + header); /* both ports */
	f->hash = rte_softrss(tuple, words, mdbus_rss_key);
}

bool mdbus_vflow_read(const uint8_t *frame, uint32_t len, struct mdbus_vflow *f)
{
	uint32_t at = ETHER, type;

	if (len < ETHER)
		return false;
	*f = (struct mdbus_vflow){ .to = read_mac(frame), .from = read_mac(frame + 6) };
	type = read16(frame + 12);
	for (int tags = 0; tags < 2 && (type == TYPE_VLAN || type == TYPE_QINQ) && len >= at + 4u; tags++, at += 4u)
		type = read16(frame + at + 2);
	if (type == TYPE_IPV4 && len >= at + 20u)
		read_ipv4(frame + at, len - at, f);
	return true;
}
