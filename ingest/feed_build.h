/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_build.h - packets made from a layout, the decoder turned round.
 *
 * A layout says where the fields of a packet are; these functions write them.  Fields that no layout names (flags,
 * times) are taken from a packet of the same stream.  Private memory only; nothing here is on the hot path of a line.
 */
#ifndef MDBUS_INGEST_FEED_BUILD_H
#define MDBUS_INGEST_FEED_BUILD_H

#include <mdbus/layout.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MDBUS_FEED_PAYLOAD 1472u /* UDP payload of an Ethernet frame */

/* Write value to field f, counted from base; the low bytes of it if it is wider. base has room for the field. */
void mdbus_feed_put(const struct mdbus_layout *l, const struct mdbus_layout_field *f, uint8_t *base, uint64_t value);

/* Read field f, counted from base. */
uint64_t mdbus_feed_get(const struct mdbus_layout *l, const struct mdbus_layout_field *f, const uint8_t *base);

/* Set sequence (of the first message), count and packet length in a finished packet. */
void mdbus_feed_finish(const struct mdbus_layout *l, uint8_t *packet, uint32_t len, uint64_t seq, uint32_t count);

/*
 * Make a heartbeat that says the stream has reached `next`, from a header of the same stream.  Returns its length, or 0
 * if the layout has no heartbeat that says so.  What it returns has been read back with mdbus_layout_decode.
 */
uint32_t mdbus_feed_heartbeat(const struct mdbus_layout *l, const uint8_t *header, uint64_t next, uint8_t *out,
                              uint32_t cap);

/* As mdbus_feed_heartbeat, but the end of the session. */
uint32_t mdbus_feed_end_of_session(const struct mdbus_layout *l, const uint8_t *header, uint64_t next, uint8_t *out,
                                   uint32_t cap);

/* True if a packet of this header that starts with this message would be an event (heartbeat, reset, ...). */
bool mdbus_feed_starts_event(const struct mdbus_layout *l, const uint8_t *header, const uint8_t *msg, uint32_t len);

#endif
