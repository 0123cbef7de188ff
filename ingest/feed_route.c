/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_route.c - streams to destinations, for one line.
 *
 * Without picks a line carries every stream to its `to`, or to where the capture had it.  With picks (or maps) it carries
 * only those, and a pick that names nothing in the capture is an error: a line silently without packets would look like a loss.
 */
#include "feed_route.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same(const struct mdbus_feed_dest *a, const struct mdbus_feed_dest *b)
{
	return a->addr == b->addr && a->port == b->port;
}

static uint32_t add_dest(struct mdbus_feed_route *route, const struct mdbus_feed_dest *d)
{
	for (uint32_t i = 0; i < route->ndest; i++)
		if (same(&route->dest[i], d))
			return i;
	route->dest[route->ndest] = *d;
	return route->ndest++;
}

static int no_such_pick(const struct mdbus_feed_source *source, const struct mdbus_feed_line_spec *spec, uint32_t pick,
                        char *err, size_t errlen)
{
	struct in_addr in = { spec->pick[pick].addr };
	size_t n;

	n = (size_t)snprintf(err, errlen, "line %s: nothing in the source goes to %s:%u; there is", spec->name,
	                     inet_ntoa(in), spec->pick[pick].port);
	for (uint32_t s = 0; s < source->nstream && n < errlen; s++)
		n += (size_t)snprintf(err + n, errlen - n, "%s %s", s ? "," : "", source->stream_name(source, s));
	return -EINVAL;
}

static bool picks_all_found(const struct mdbus_feed_source *source, const struct mdbus_feed_line_spec *spec,
                            uint32_t *missing)
{
	for (uint32_t i = 0; i < spec->npick; i++) {
		bool found = false;

		for (uint32_t s = 0; s < source->nstream && !found; s++) {
			struct mdbus_feed_dest d;

			found = source->stream_addr(source, s, &d.addr, &d.port) && same(&d, &spec->pick[i]);
		}
		if (!found) {
			*missing = i;
			return false;
		}
	}
	return true;
}

/* Where the line sends a stream. False: it does not carry it. *d without a port: nobody said where to. */
static bool route_stream(const struct mdbus_feed_source *source, const struct mdbus_feed_line_spec *spec, uint32_t s,
                         struct mdbus_feed_dest *d)
{
	struct mdbus_feed_dest original = { 0 }, to = { 0 };
	bool carried = spec->npick == 0;

	(void)source->stream_addr(source, s, &original.addr, &original.port);
	for (uint32_t i = 0; i < spec->npick; i++) {
		if (!same(&original, &spec->pick[i]))
			continue;
		carried = true;
		to = spec->pick_to[i];
	}
	*d = to.port ? to : spec->to.port ? spec->to : original;
	return carried;
}

int mdbus_feed_route_open(struct mdbus_feed_route *route, const struct mdbus_feed_source *source,
                          const struct mdbus_feed_line_spec *spec, char *err, size_t errlen)
{
	uint32_t missing;

	if (!picks_all_found(source, spec, &missing))
		return no_such_pick(source, spec, missing, err, errlen);
	route->ndest = 0;
	route->dest = calloc(source->nstream, sizeof(*route->dest));
	route->of = calloc(source->nstream, sizeof(*route->of));
	if (!route->dest || !route->of) {
		mdbus_feed_route_close(route);
		snprintf(err, errlen, "out of memory");
		return -ENOMEM;
	}
	for (uint32_t s = 0; s < source->nstream; s++) {
		struct mdbus_feed_dest d;

		if (!route_stream(source, spec, s, &d)) {
			route->of[s] = MDBUS_FEED_NONE;
		} else if (!d.port) {
			snprintf(err, errlen, "line %s: say where to send, to=ADDR:PORT", spec->name);
			mdbus_feed_route_close(route);
			return -EINVAL;
		} else {
			route->of[s] = add_dest(route, &d);
		}
	}
	return 0;
}

void mdbus_feed_route_close(struct mdbus_feed_route *route)
{
	free(route->dest);
	free(route->of);
	memset(route, 0, sizeof(*route));
}
