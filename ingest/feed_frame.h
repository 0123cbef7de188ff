/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_frame.h - Ethernet frames for transports that are below the kernel's UDP: headers and checksums.
 */
#ifndef MDBUS_INGEST_FEED_FRAME_H
#define MDBUS_INGEST_FEED_FRAME_H

#include "feed_tx.h"
#include <stdbool.h>

#define MDBUS_FEED_HEADERS 42u /* Ethernet, IPv4, UDP */

/* Everything of one destination's headers that does not change from packet to packet. */
struct mdbus_feed_frame {
	uint8_t headers[MDBUS_FEED_HEADERS]; /* lengths, id and checksums still 0 */
	uint32_t ip_sum, udp_sum;            /* of the header and pseudo-header so far */
};

/* The MAC address of a group, or the one that the line was given for all else. False: neither. */
bool mdbus_feed_frame_mac(const struct mdbus_feed_tx_config *c, uint32_t addr, uint8_t *mac);

/* from: network byte order. The source port is the destination's. */
void mdbus_feed_frame_prepare(struct mdbus_feed_frame *d, const uint8_t *from_mac, const uint8_t *to_mac, uint32_t from,
                              const struct mdbus_feed_dest *to);

/* Write the frame of a packet; returns its length, MDBUS_FEED_HEADERS and the payload. */
uint32_t mdbus_feed_frame_build(const struct mdbus_feed_frame *d, uint8_t *frame, const struct mdbus_feed_tx_packet *p,
                                uint16_t ip_id);

#endif
