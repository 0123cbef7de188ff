/* SPDX-License-Identifier: Apache-2.0
 *
 * latency_main.c - mdbus-latency: how long a message takes to reach a subscriber.
 *
 * Two spans end when this process holds the message: publish-to-read begins when ingest took the packet from its queue,
 * wire-to-read when the sender stamped the message.  Both clocks are CLOCK_MONOTONIC of this host, so sender, ingest
 * and reader must run on it.  The clock is read after the payload was (if it is looked at) and before the
 * validity check, so a span includes the cache misses of getting the bytes, and a message that was not whole counts nowhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mdbus/atomics.h>
#include <mdbus/histogram.h>
#include "tool.h"

#define WAIT_NS   100000000u
#define STAMP_MAX UINT64_C(3600000000000) /* an older stamp is no stamp: another offset or another clock */
#define CLOCK_EVERY 1024u                 /* empty polls between looks at the clock */

static const struct mdbus_tool tool = {
	.name = "mdbus-latency",
	.synopsis = "BUS[/CHANNEL]",
	.about = "publish-to-read: from the moment ingest took the packet from its queue (the record's rx_ns) until this\n"
		 "  process holds the message.  Ingest's parsing and arbitration are inside it, the NIC queue is not.\n"
		 "  Channels that are not timed have no rx_ns when a message is inline: those messages are counted as untimed.\n"
		 "wire-to-read: from the sender's stamp, 8 bytes little-endian, ns of CLOCK_MONOTONIC of this host, at\n"
		 "  --stamp-offset in the message as delivered.  mdbus-feed --generate writes such stamps:\n"
		 "    moldudp64   offset 2  (behind the 2-byte length)\n"
		 "    optiq       offset 12 (the timestamp field)\n"
		 "Spins by default and needs a core of its own for honest figures; a shared core adds up to a scheduler tick.\n"
		 "Ends after --seconds, or on SIGINT or SIGTERM.\n",
};

static struct {
	int json, sleep;
	double seconds, every;
	int stamp_offset;
} opt = { .stamp_offset = -1 };

static const struct poptOption options[] = {
	{ "seconds", 's', POPT_ARG_DOUBLE, &opt.seconds, 0, "End after N seconds", "N" },
	{ "stamp-offset", 'o', POPT_ARG_INT, &opt.stamp_offset, 0, "Where a message holds the sender's stamp", "BYTES" },
	{ "every", 'e', POPT_ARG_DOUBLE, &opt.every, 0, "Also report every S seconds", "S" },
	{ "json", 'j', POPT_ARG_NONE, &opt.json, 0, "One JSON object per report", NULL },
	{ "sleep", 0, POPT_ARG_NONE, &opt.sleep, 0, "Sleep when there is nothing to read, instead of spinning", NULL },
	POPT_TABLEEND
};

static const struct quantile {
	const char *name;
	uint32_t permyriad;
} quantiles[] = { { "p50", 5000 }, { "p90", 9000 }, { "p99", 9900 }, { "p99.9", 9990 } };

#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

/* What one span of time has seen; `hist` of an interval is folded into that of the whole run. */
struct figures {
	struct mdbus_hist publish, wire;
	uint64_t messages, gaps, resets, overruns;
	uint64_t untimed; /* messages without rx_ns */
	uint64_t unstamped; /* messages too short for the stamp, or whose stamp cannot be one */
};

struct latency {
	struct mdbus_sub *sub;
	const char *bus;
	struct figures now, whole;
	uint64_t start_ns;
};

static void fold_hist(struct mdbus_hist *into, const struct mdbus_hist *h)
{
	for (uint32_t i = 0; i < MDBUS_HIST_BUCKETS; i++)
		into->bucket[i] += h->bucket[i];
	if (h->max > into->max)
		into->max = h->max;
}

static void fold(struct latency *l)
{
	fold_hist(&l->whole.publish, &l->now.publish);
	fold_hist(&l->whole.wire, &l->now.wire);
	l->whole.messages += l->now.messages;
	l->whole.gaps += l->now.gaps;
	l->whole.resets += l->now.resets;
	l->whole.overruns += l->now.overruns;
	l->whole.untimed += l->now.untimed;
	l->whole.unstamped += l->now.unstamped;
	memset(&l->now, 0, sizeof(l->now));
}

static uint64_t le64(const uint8_t *p)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < 8; i++)
		v |= (uint64_t)p[i] << (8u * i);
	return v;
}

static void message(struct latency *l, struct mdbus_record *r)
{
	struct figures *f = &l->now;
	bool looks = opt.stamp_offset >= 0, long_enough = looks && r->len >= (uint32_t)opt.stamp_offset + 8u;
	uint64_t stamp = long_enough ? le64(r->data + opt.stamp_offset) : 0, now = mdbus_clock_ns();

	if (!mdbus_sub_valid(l->sub, r))
		return; /* it, or an overrun, comes next */
	f->messages++;
	if (r->rx_ns != 0)
		mdbus_hist_add(&f->publish, now > r->rx_ns ? now - r->rx_ns : 0);
	else
		f->untimed++;
	if (!looks)
		return;
	if (long_enough && stamp <= now && now - stamp < STAMP_MAX)
		mdbus_hist_add(&f->wire, now - stamp);
	else
		f->unstamped++;
}

static void record(struct latency *l, struct mdbus_record *r)
{
	if (r->kind == MDBUS_RECORD_DATA)
		message(l, r);
	else if (r->kind == MDBUS_RECORD_GAP)
		l->now.gaps += r->count;
	else if (r->kind == MDBUS_RECORD_RESET)
		l->now.resets++;
	else
		l->now.overruns += r->count;
}

/* ---- reports --------------------------------------------------------------------------------------------------- */

static void hist_json(const char *name, const struct mdbus_hist *h)
{
	printf(",\"%s\":{\"count\":%llu", name, (unsigned long long)mdbus_hist_total(h));
	for (size_t i = 0; i < QUANTILES; i++)
		printf(",\"%s\":%llu", quantiles[i].name,
		       (unsigned long long)mdbus_hist_quantile(h, quantiles[i].permyriad));
	printf(",\"max\":%llu}", (unsigned long long)h->max);
}

static void hist_text(const char *name, const struct mdbus_hist *h)
{
	printf("  %-16s", name);
	for (size_t i = 0; i < QUANTILES; i++)
		printf("  %s %9.3f", quantiles[i].name, (double)mdbus_hist_quantile(h, quantiles[i].permyriad) / 1e3);
	printf("  max %9.3f us  (%llu)\n", (double)h->max / 1e3, (unsigned long long)mdbus_hist_total(h));
}

static void report_json(const struct latency *l, const struct figures *f, double seconds, bool final)
{
	char name[6 * 128 + 3], bus[128];

	snprintf(bus, sizeof(bus), "%s", l->bus);
	*mdbus_put_json_string(name, bus) = 0;
	printf("{\"bus\":%s,\"final\":%s,\"seconds\":%.3f,\"count\":%llu,\"gaps\":%llu,\"resets\":%llu,\"overruns\":%llu,"
	       "\"untimed\":%llu,\"unstamped\":%llu,\"spinning\":%s",
	       name, final ? "true" : "false", seconds, (unsigned long long)f->messages, (unsigned long long)f->gaps,
	       (unsigned long long)f->resets, (unsigned long long)f->overruns, (unsigned long long)f->untimed,
	       (unsigned long long)f->unstamped, opt.sleep ? "false" : "true");
	hist_json("publish_to_read_ns", &f->publish);
	if (opt.stamp_offset >= 0)
		hist_json("wire_to_read_ns", &f->wire);
	printf("}\n");
}

static void report_text(const struct latency *l, const struct figures *f, double seconds, bool final)
{
	printf("%s%s: %llu messages in %.1f s (%.0f/s), %llu lost on all lines, %llu resets, %llu overrun\n", l->bus,
	       final ? ", whole run" : "", (unsigned long long)f->messages, seconds,
	       seconds > 0 ? (double)f->messages / seconds : 0.0, (unsigned long long)f->gaps,
	       (unsigned long long)f->resets, (unsigned long long)f->overruns);
	hist_text("publish-to-read", &f->publish);
	if (f->untimed > 0)
		printf("  %llu messages carried no receive time: set timed = true for the channel\n",
		       (unsigned long long)f->untimed);
	if (opt.stamp_offset >= 0)
		hist_text("wire-to-read", &f->wire);
	if (f->unstamped > 0)
		printf("  %llu messages hold no stamp of this host's clock at offset %d: check --stamp-offset\n",
		       (unsigned long long)f->unstamped, opt.stamp_offset);
}

static void report(const struct latency *l, const struct figures *f, uint64_t from_ns, uint64_t to_ns, bool final)
{
	double seconds = (double)(to_ns - from_ns) / 1e9;

	if (opt.json)
		report_json(l, f, seconds, final);
	else
		report_text(l, f, seconds, final);
	fflush(stdout);
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

/* Reports and folds what is due. False: the run is over, or nobody reads the reports. */
static bool clock_work(struct latency *l, uint64_t *interval_ns)
{
	uint64_t now = mdbus_clock_ns();

	if (opt.every > 0 && (double)(now - *interval_ns) >= opt.every * 1e9) {
		report(l, &l->now, *interval_ns, now, false);
		fold(l);
		*interval_ns = now;
	}
	return !ferror(stdout) && (opt.seconds <= 0 || (double)(now - l->start_ns) < opt.seconds * 1e9);
}

static void run(struct latency *l)
{
	uint64_t interval_ns = l->start_ns = mdbus_clock_ns();
	struct mdbus_record r;

	for (uint32_t polls = 1; !mdbus_tool_stopped(); polls++) {
		bool any = mdbus_sub_next(l->sub, &r);

		if (any)
			record(l, &r);
		else if (opt.sleep)
			mdbus_sub_wait(l->sub, WAIT_NS);
		if ((opt.sleep && !any) || polls % CLOCK_EVERY == 0) {
			if (!clock_work(l, &interval_ns))
				break;
		}
	}
	fold(l);
	report(l, &l->whole, l->start_ns, mdbus_clock_ns(), true);
}

int main(int argc, char **argv)
{
	static struct latency l;
	char *bus;
	int status;

	if (!mdbus_tool_parse(&tool, argc, argv, options, &bus, &status))
		return status;
	if (opt.seconds < 0 || opt.every < 0 || opt.stamp_offset < -1 || opt.stamp_offset > 65535) {
		mdbus_tool_error(&tool, "--seconds and --every take positive numbers, --stamp-offset 0 to 65535");
		return MDBUS_TOOL_USAGE;
	}
	mdbus_tool_signals();
	l.bus = bus;
	l.sub = mdbus_tool_open(&tool, bus, NULL, false);
	if (l.sub == NULL) {
		free(bus);
		return MDBUS_TOOL_FAIL;
	}
	run(&l);
	mdbus_sub_close(l.sub);
	free(bus);
	return MDBUS_TOOL_OK;
}
