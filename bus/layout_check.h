/* SPDX-License-Identifier: Apache-2.0
 *
 * layout_check.h - what a layout must satisfy for the decoder to trust it.
 */
#ifndef MDBUS_LAYOUT_CHECK_H
#define MDBUS_LAYOUT_CHECK_H

#include <mdbus/layout.h>

/* The first thing wrong with a layout; text NULL: nothing. */
struct mdbus_layout_flaw {
	const char *member; /* of the text form */
	int index;          /* element of a list, or -1 */
	const char *text;   /* what must hold */
};

/* The decoder's assumptions, one by one. Pure; never reads outside *l, whatever is in it. */
struct mdbus_layout_flaw mdbus_layout_find_flaw(const struct mdbus_layout *l);

/* What msg_min has to be: the end of the last field that every message must have. */
uint32_t mdbus_layout_msg_min(const struct mdbus_layout *l);

#endif
