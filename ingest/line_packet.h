/* SPDX-License-Identifier: Apache-2.0
 *
 * line_packet.h - one packet of a batch: whose it is, and its way into its channel.
 *
 * Inline, since this runs once a packet; for line.c, and for balance.c, which comes between the two where packets are handed
 * over.
 */
#ifndef MDBUS_INGEST_LINE_PACKET_H
#define MDBUS_INGEST_LINE_PACKET_H

#include <mdbus/hook.h>
#include "frame_parse.h"
#include "line.h"

/* Find the UDP payload of an Ethernet frame and its flow, or count why there is none.  *udp is written for a frame of the feed. */
static inline int32_t mdbus_line_find_payload(struct mdbus_line *l, struct mdbus_rx *rx, struct mdbus_udp *udp)
{
	int32_t flow;

	switch (mdbus_frame_parse(l->frames + (uint64_t)rx->frame * l->arena->frame_size + rx->off, rx->len, udp)) {
	case MDBUS_FRAME_UDP:
		flow = mdbus_flow_map_find(&l->map, udp->dst, udp->dst_port);
		if (flow < 0 || (l->map.flow[flow].source != 0 && l->map.flow[flow].source != udp->src))
			break;
		rx->off += udp->off;
		rx->len = udp->len;
		return flow;
	case MDBUS_FRAME_FRAGMENT:
		if (!mdbus_flow_map_has_addr(&l->map, udp->dst))
			break;
		mdbus_count(&l->arena->count.bad_fragment, 1u);
		return MDBUS_NO_FLOW;
	case MDBUS_FRAME_BAD:
		mdbus_count(&l->arena->count.bad_frame, 1u);
		return MDBUS_NO_FLOW;
	case MDBUS_FRAME_NOT_FEED:
		break;
	}
	mdbus_count(&l->arena->count.not_feed, 1u);
	return MDBUS_NO_FLOW;
}

/* The channel of a packet, which rx then is the payload of, or MDBUS_NO_CHANNEL. */
static inline uint32_t mdbus_line_find_channel(struct mdbus_line *l, struct mdbus_rx *rx, struct mdbus_udp *udp, int32_t *flow)
{
	*flow = rx->flow >= 0 ? rx->flow : mdbus_line_find_payload(l, rx, udp);
	if (*flow < 0)
		return MDBUS_NO_CHANNEL;
	uint32_t c = mdbus_flow_map_channel(&l->map, *flow, l->frames + (uint64_t)rx->frame * l->arena->frame_size + rx->off,
	                                    rx->len);

	if (c == MDBUS_NO_CHANNEL)
		mdbus_count(&l->arena->count.key_unknown, 1u);
	else
		mdbus_count(&l->arena->count.feed_packets, 1u);
	return c;
}

static inline void mdbus_line_count_malformed(struct mdbus_line *l, enum mdbus_decode_error err)
{
	switch (err) {
	case MDBUS_DECODE_OK:
		break;
	case MDBUS_DECODE_BAD_HEADER:
		mdbus_count(&l->arena->count.bad_header, 1u);
		break;
	case MDBUS_DECODE_BAD_LENGTH:
		mdbus_count(&l->arena->count.bad_length, 1u);
		break;
	case MDBUS_DECODE_BAD_COUNT:
		mdbus_count(&l->arena->count.bad_count, 1u);
		break;
	}
}

static inline void mdbus_line_note_open(struct mdbus_line *l, uint32_t c)
{
	if (l->is_open[c])
		return;
	l->is_open[c] = true;
	l->open[l->nopen++] = c;
}

/* Have channel c take the payload at `off` of a frame.  rx_ns: when it was taken from its queue. */
static inline void mdbus_line_take(struct mdbus_line *l, uint32_t c, const struct mdbus_rx *rx, uint64_t now, uint64_t rx_ns)
{
	uint64_t start = (uint64_t)rx->frame * l->arena->frame_size;
	struct mdbus_frame_meta meta = { .rx_ns = rx_ns, .wire_ns = rx->wire_ns };

	__builtin_memcpy(l->frames + start, &meta, sizeof(meta));
	MDBUS_HOOK("line.stamped");
	struct mdbus_chunk chunk = {
		.off = l->arena->frames_off + start + rx->off,
		.bytes = l->frames + start + rx->off,
		.len = rx->len,
		.rx_ns = rx_ns,
	};

	mdbus_line_count_malformed(l, mdbus_channel_packet(&l->channel[c], &chunk, now));
	l->last = c;
	if (l->channel[c].resolver.open)
		mdbus_line_note_open(l, c);
}

/* While packet i of n is looked at, the next one comes into the cache. */
static inline void mdbus_line_prefetch(const struct mdbus_line *l, uint32_t i, uint32_t n)
{
	if (i + 1u < n)
		__builtin_prefetch(l->frames + (uint64_t)l->rx[i + 1u].frame * l->arena->frame_size + l->rx[i + 1u].off);
}

#endif
