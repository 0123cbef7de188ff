/* SPDX-License-Identifier: Apache-2.0 */
#include "feed_frame.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <string.h>

/* Sum of 16-bit words in memory order; the order of bytes does not matter to a one's-complement sum. */
static uint32_t sum16(const uint8_t *p, uint32_t len, uint32_t sum)
{
	uint64_t wide = sum;

	for (; len >= 4; p += 4, len -= 4) {
		uint32_t word;

		memcpy(&word, p, 4);
		wide += word;
	}
	if (len >= 2) {
		uint16_t half;

		memcpy(&half, p, 2);
		wide += half;
		p += 2;
		len -= 2;
	}
	if (len) {
		uint8_t last[2] = { *p, 0 };
		uint16_t half;

		memcpy(&half, last, 2);
		wide += half;
	}
	wide = (wide & 0xffffffff) + (wide >> 32);
	wide = (wide & 0xffff) + (wide >> 16 & 0xffff) + (wide >> 32);
	return (uint32_t)wide;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

bool mdbus_feed_frame_mac(const struct mdbus_feed_tx_config *c, uint32_t addr, uint8_t *mac)
{
	static const uint8_t none[6];
	const uint8_t *ip = (const uint8_t *)&addr;

	if (IN_MULTICAST(ntohl(addr))) {
		const uint8_t group[6] = { 0x01, 0x00, 0x5e, ip[1] & 0x7f, ip[2], ip[3] };

		memcpy(mac, group, 6);
		return true;
	}
	memcpy(mac, c->mac, 6);
	return memcmp(mac, none, 6) != 0;
}

void mdbus_feed_frame_prepare(struct mdbus_feed_frame *d, const uint8_t *from_mac, const uint8_t *to_mac, uint32_t from,
                              const struct mdbus_feed_dest *to)
{
	struct ethhdr eth = { .h_proto = htons(ETH_P_IP) };
	struct iphdr ip = { .version = 4, .ihl = 5, .protocol = IPPROTO_UDP, .saddr = from, .daddr = to->addr };
	struct udphdr udp = { .source = htons(to->port), .dest = htons(to->port) };
	uint8_t pseudo[12] = { 0 };

	memcpy(eth.h_source, from_mac, 6);
	memcpy(eth.h_dest, to_mac, 6);
	ip.frag_off = htons(0x4000);
	ip.ttl = IN_MULTICAST(ntohl(to->addr)) ? 1 : 64;
	memcpy(d->headers, &eth, sizeof(eth));
	memcpy(d->headers + 14, &ip, sizeof(ip));
	memcpy(d->headers + 34, &udp, sizeof(udp));
	memcpy(pseudo, &from, 4);
	memcpy(pseudo + 4, &to->addr, 4);
	pseudo[9] = IPPROTO_UDP;
	d->ip_sum = sum16(d->headers + 14, 20, 0);
	d->udp_sum = sum16(pseudo, 12, sum16(d->headers + 34, 4, 0));
}

uint32_t mdbus_feed_frame_build(const struct mdbus_feed_frame *d, uint8_t *frame, const struct mdbus_feed_tx_packet *p,
                                uint16_t ip_id)
{
	uint16_t total = htons((uint16_t)(28 + p->len)), udp_len = htons((uint16_t)(8 + p->len));
	uint16_t id = htons(ip_id), sum;

	memcpy(frame, d->headers, MDBUS_FEED_HEADERS);
	memcpy(frame + MDBUS_FEED_HEADERS, p->data, p->len);
	memcpy(frame + 16, &total, 2);
	memcpy(frame + 18, &id, 2);
	sum = fold(d->ip_sum + total + id);
	memcpy(frame + 24, &sum, 2);
	memcpy(frame + 38, &udp_len, 2);
	sum = fold(sum16(frame + MDBUS_FEED_HEADERS, p->len, d->udp_sum) + udp_len + udp_len);
	sum = sum ? sum : 0xffff;
	memcpy(frame + 40, &sum, 2);
	return MDBUS_FEED_HEADERS + p->len;
}
