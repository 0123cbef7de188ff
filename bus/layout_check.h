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

/* Fill in what follows from the other members (those that layout.h calls derived).  After parsing, before the check. */
void mdbus_layout_derive(struct mdbus_layout *l);

#endif
