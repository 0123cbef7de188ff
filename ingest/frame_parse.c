/* SPDX-License-Identifier: Apache-2.0
 *
 * frame_parse.c - names of the verdicts; the parser itself is inline in the header.
 */
#include "frame_parse.h"

const char *mdbus_frame_verdict_name(enum mdbus_frame_verdict verdict)
{
	switch (verdict) {
	case MDBUS_FRAME_UDP:
		return "udp";
	case MDBUS_FRAME_NOT_FEED:
		return "not a feed's";
	case MDBUS_FRAME_BAD:
		return "bad frame";
	case MDBUS_FRAME_FRAGMENT:
		return "IP fragment";
	}
	return "unknown";
}
