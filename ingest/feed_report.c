/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_report.c - what was sent, in one line.
 */
#include "feed_report.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

static double rate(const struct mdbus_feed_result *r)
{
	return r->duration_ns ? (double)r->log.messages * 1e9 / (double)r->duration_ns : 0;
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *line_json(const struct mdbus_feed_line_spec *spec, const struct mdbus_feed_line_stats *s)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", spec->name, "packets", number(s->packets),
	                 "messages", number(s->messages), "lost_packets", number(s->lost_packets), "lost_messages",
	                 number(s->lost_messages), "duplicated", number(s->duplicated), "reordered", number(s->reordered),
	                 "heartbeats", number(s->made_heartbeats), "bytes", number(s->bytes));
}

static json_t *serve_json(const struct mdbus_feed_serve_stats *s)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "requests", number(s->requests), "malformed",
	                 number(s->malformed), "answers", number(s->answers), "messages", number(s->messages), "heartbeats",
	                 number(s->heartbeats), "lost", number(s->lost), "unknown", number(s->unknown), "overflow",
	                 number(s->overflow));
}

static int report_json(FILE *out, const struct mdbus_feed_run_config *c, const struct mdbus_feed_result *r,
                       uint64_t malformed)
{
	json_t *lines = json_array(), *streams = json_array(), *all;
	int rc;

	for (uint32_t i = 0; i < c->nline; i++)
		json_array_append_new(lines, line_json(&c->spec[i], &r->line[i]));
	for (uint32_t i = 0; i < c->source->nstream; i++)
		json_array_append_new(streams, json_string(c->source->stream_name(c->source, i)));
	all = json_pack("{s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:s, s:o, s:o}", "messages", number(r->log.messages),
	                "packets", number(r->source_packets), "lost_all", number(r->log.lost_all), "cut",
	                number(r->log.cut), "malformed", number(malformed), "duration_s", (double)r->duration_ns * 1e-9,
	                "rate", rate(r), "transport", c->ops->name, "lines", lines, "streams", streams);
	if (all && c->serve)
		json_object_set_new(all, "served", serve_json(&r->serve));
	rc = all ? json_dumpf(all, out, JSON_COMPACT | JSON_REAL_PRECISION(9)) : -1;
	json_decref(all);
	return rc || fputc('\n', out) == EOF ? -EIO : 0;
}

int mdbus_feed_report(FILE *out, const struct mdbus_feed_run_config *config, const struct mdbus_feed_result *result,
                      uint64_t malformed, bool json)
{
	if (json)
		return report_json(out, config, result, malformed) || fflush(out) ? -EIO : 0;
	fprintf(out, "sent %" PRIu64 " messages in %.3f s, %.0f/s, %" PRIu64 " lost on all lines", result->log.messages,
	        (double)result->duration_ns * 1e-9, rate(result), result->log.lost_all);
	if (result->log.cut)
		fprintf(out, ", %" PRIu64 " cut off", result->log.cut);
	if (malformed)
		fprintf(out, ", %" PRIu64 " source packets malformed", malformed);
	for (uint32_t i = 0; i < config->nline; i++)
		fprintf(out, "; %s: %" PRIu64 " packets, %" PRIu64 " lost", config->spec[i].name, result->line[i].packets,
		        result->line[i].lost_packets);
	if (config->serve)
		fprintf(out, "; %" PRIu64 " requests, %" PRIu64 " answers, %" PRIu64 " messages in them", result->serve.requests,
		        result->serve.answers, result->serve.messages);
	fputc('\n', out);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
