/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_spec.h - the text of --line, --map and --serve.
 *
 *	--line NAME,to=ADDR:PORT[,dev=IFACE][,from=ADDR][,mac=XX:..][,queue=N][,pick=ADDR:PORT]...
 *	            [,loss=P][,dup=P][,reorder=P:DEPTH][,skew-us=N][,repack=N]
 *	--map OLDADDR:PORT=NEWADDR:PORT
 *	--serve ADDR:PORT[,truncate=N][,loss=P][,delay-us=N]
 *
 * P is a probability ("0.01" or "1%").  Errors name the word that is wrong and what was expected in its place.
 */
#ifndef MDBUS_INGEST_FEED_SPEC_H
#define MDBUS_INGEST_FEED_SPEC_H

#include "feed_line.h"
#include "feed_serve.h"

/* 0, or -EINVAL with a reason in err. */
int mdbus_feed_spec_parse(const char *text, struct mdbus_feed_line_spec *out, char *err, size_t errlen);

/* Add a --map to a line: it carries OLD, and sends it to NEW. */
int mdbus_feed_spec_map(const char *text, struct mdbus_feed_line_spec *line, char *err, size_t errlen);

/* A --serve. */
int mdbus_feed_spec_serve(const char *text, struct mdbus_feed_serve_spec *out, char *err, size_t errlen);

#endif
