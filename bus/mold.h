/* SPDX-License-Identifier: Apache-2.0
 *
 * mold.h - MoldUDP64's requests: 20 bytes that look like the header of the answer.
 *
 *	0  session, 10 bytes as the feed has it    10  number of the first message, u64    18  messages, u16
 *
 * Numbers are big-endian.
 *
 * The answer is an ordinary packet of that session with as many of the messages as the server cares to put into one.
 * Pure functions on private memory; any process.
 */
#ifndef MDBUS_MOLD_H
#define MDBUS_MOLD_H

#include <mdbus/layout.h>
#include <stdbool.h>

#define MDBUS_MOLD_SESSION   10u
#define MDBUS_MOLD_HEADER    20u
#define MDBUS_MOLD_COUNT_MAX 0xfffeu /* messages that a packet can count; 0xffff is the end of a session */

struct mdbus_mold_request {
	uint8_t session[MDBUS_MOLD_SESSION];
	uint64_t first;
	uint16_t count;
};

/* True if packets of this layout have MoldUDP64's header and messages: a request server can answer with them. */
bool mdbus_mold_layout(const struct mdbus_layout *l);

/* Write a request, or the header of a packet: both are the same. */
void mdbus_mold_put(uint8_t out[MDBUS_MOLD_HEADER], const struct mdbus_mold_request *r);

/* Read one. False: len is not that of a request. */
bool mdbus_mold_get(const uint8_t *bytes, uint32_t len, struct mdbus_mold_request *r);

#endif
