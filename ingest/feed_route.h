/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_route.h - which line sends which stream of the source, and where to.
 */
#ifndef MDBUS_INGEST_FEED_ROUTE_H
#define MDBUS_INGEST_FEED_ROUTE_H

#include "feed_line.h"

struct mdbus_feed_route {
	uint32_t ndest;
	struct mdbus_feed_dest *dest; /* [ndest], each once */
	uint32_t *of;                 /* [nstream]: index into dest, or MDBUS_FEED_NONE */
};

/* Work out a line's routes. 0, or -errno with a reason in err and nothing allocated. */
int mdbus_feed_route_open(struct mdbus_feed_route *route, const struct mdbus_feed_source *source,
                          const struct mdbus_feed_line_spec *spec, char *err, size_t errlen);

/* Harmless on a zeroed one. */
void mdbus_feed_route_close(struct mdbus_feed_route *route);

#endif
