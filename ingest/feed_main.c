/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus-feed - the transmit side of lines: an exchange in a box.
 *
 * Sends one feed, captured or made up, onto several lines at once, each with its own faults, and keeps exact account of
 * what went out where.  SIGINT or SIGTERM ends the run in order, with the account complete; a second one ends it now.
 */
#include "dpdk_load.h"
#include "feed_report.h"
#include "feed_run.h"
#include "feed_spec.h"
#include "refuse.h"
#include <errno.h>
#include <mdbus/feedlog.h>
#include <popt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_LINE = 1, OPT_MAP, OPT_SERVE, OPT_VERSION };

struct args {
	char *pcap, *layout, *generate, *session, *restart, *log, *transport, *end, *print_log;
	long long count, restart_every, seed, loops;
	int size, pack, linger_ms, heartbeat_ms, idle_max_ms, first, last, cpu, json;
	double rate, timing, burst;
	struct mdbus_feed_line_spec spec[MDBUS_FEED_LINES_MAX];
	uint32_t nline;
	struct mdbus_feed_serve_spec serve; /* port 0: none */
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = stop + 1;
}

static int add_line(struct args *a, const char *text)
{
	char err[512];

	if (a->nline == MDBUS_FEED_LINES_MAX)
		return mdbus_refuse("at most %u lines", MDBUS_FEED_LINES_MAX);
	if (mdbus_feed_spec_parse(text, &a->spec[a->nline], err, sizeof(err)))
		return mdbus_refuse("%s", err);
	for (uint32_t i = 0; i < a->nline; i++)
		if (strcmp(a->spec[i].name, a->spec[a->nline].name) == 0)
			return mdbus_refuse("two lines are called %s", a->spec[i].name);
	a->nline++;
	return 0;
}

static int add_map(struct args *a, const char *text)
{
	char err[512];

	if (a->nline == 0)
		return mdbus_refuse("--map %s: belongs to the --line before it, and there is none", text);
	if (mdbus_feed_spec_map(text, &a->spec[a->nline - 1], err, sizeof(err)))
		return mdbus_refuse("%s", err);
	return 0;
}

static int add_serve(struct args *a, const char *text)
{
	char err[512];

	if (a->serve.at.port)
		return mdbus_refuse("--serve %s: one is enough", text);
	return mdbus_feed_spec_serve(text, &a->serve, err, sizeof(err)) ? mdbus_refuse("%s", err) : 0;
}

static int parse(struct args *a, int argc, const char **argv)
{
	struct poptOption options[] = {
		{ "pcap", 0, POPT_ARG_STRING, &a->pcap, 0, "send the UDP payloads of this capture", "FILE" },
		{ "layout", 0, POPT_ARG_STRING, &a->layout, 0, "its packet layout", "NAME|FILE|FILE:NAME" },
		{ "loop", 0, POPT_ARG_LONGLONG, &a->loops, 0, "play it N times; the numbers start again each time", "N" },
		{ "idle-max-ms", 0, POPT_ARG_INT, &a->idle_max_ms, 0, "with --timing: cut longer pauses to this", "N" },
		{ "generate", 0, POPT_ARG_STRING, &a->generate, 0, "make packets up", "moldudp64|optiq" },
		{ "count", 0, POPT_ARG_LONGLONG, &a->count, 0, "messages to make, 0: until interrupted", "N" },
		{ "size", 0, POPT_ARG_INT, &a->size, 0, "bytes of a message as delivered, length prefix included", "BYTES" },
		{ "pack", 0, POPT_ARG_INT, &a->pack, 0, "messages to a packet (1)", "N" },
		{ "session", 0, POPT_ARG_STRING, &a->session, 0, "name of the first MoldUDP64 session", "NAME" },
		{ "restart-every", 0, POPT_ARG_LONGLONG, &a->restart_every, 0, "start numbers again after N messages", "N" },
		{ "restart", 0, POPT_ARG_STRING, &a->restart, 0, "in a new session, or only in seq", "session|seq" },
		{ "line", 0, POPT_ARG_STRING, NULL, OPT_LINE,
		  "NAME,to=ADDR:PORT[,dev=IFACE][,from=ADDR][,mac=MAC][,queue=N][,pick=ADDR:PORT][,loss=P][,dup=P]"
		  "[,reorder=P:DEPTH][,skew-us=N][,repack=N]; up to 8", "SPEC" },
		{ "map", 0, POPT_ARG_STRING, NULL, OPT_MAP,
		  "the line before carries what the capture sends to OLD, and sends it to NEW", "OLD=NEW" },
		{ "serve", 0, POPT_ARG_STRING, NULL, OPT_SERVE,
		  "answer MoldUDP64 requests for what was sent: ADDR:PORT[,truncate=N][,loss=P][,delay-us=N]", "SPEC" },
		{ "rate", 0, POPT_ARG_DOUBLE, &a->rate, 0, "messages a second, 0: as fast as possible (the default)", "N" },
		{ "burst", 0, POPT_ARG_DOUBLE, &a->burst, 0,
		  "with --rate as the mean: at each 100 ms, what N times the rate gives in 1 ms, at once", "N" },
		{ "timing", 0, POPT_ARG_DOUBLE, &a->timing, 0, "the capture's own timing, N times as fast", "N" },
		{ "seed", 0, POPT_ARG_LONGLONG, &a->seed, 0, "of loss, doubles and reordering (1)", "N" },
		{ "no-loss-first", 0, POPT_ARG_INT, &a->first, 0, "packets at each start of the numbers kept from faults", "N" },
		{ "no-loss-last", 0, POPT_ARG_INT, &a->last, 0, "packets at each end of the numbers kept from faults", "N" },
		{ "heartbeat-ms", 0, POPT_ARG_INT, &a->heartbeat_ms, 0, "--generate: heartbeat after so much silence (1000)",
		  "N" },
		{ "linger-ms", 0, POPT_ARG_INT, &a->linger_ms, 0, "go on with heartbeats at the end (100)", "N" },
		{ "end", 0, POPT_ARG_STRING, &a->end, 0, "last packet (heartbeat)", "heartbeat|eos" },
		{ "transport", 0, POPT_ARG_STRING, &a->transport, 0, "how to send (socket)", "socket|af_xdp|dpdk" },
		{ "cpu", 0, POPT_ARG_INT, &a->cpu, 0, "run on this CPU", "N" },
		{ "log", 0, POPT_ARG_STRING, &a->log, 0, "write what was sent on which line, see mdbus/feedlog.h", "FILE" },
		{ "print-log", 0, POPT_ARG_STRING, &a->print_log, 0, "print such a log as text, and nothing else", "FILE" },
		{ "json", 0, POPT_ARG_NONE, &a->json, 0, "summary as one JSON object", NULL },
		{ "version", 0, POPT_ARG_NONE, NULL, OPT_VERSION, "print the version", NULL },
		POPT_AUTOHELP POPT_TABLEEND
	};
	poptContext pc = poptGetContext("mdbus-feed", argc, argv, options, 0);
	int opt, rc = 0;

	poptSetOtherOptionHelp(pc, "(--pcap FILE --layout NAME | --generate KIND) --line SPEC [--line SPEC]... [OPTION]...");
	while (!rc && (opt = poptGetNextOpt(pc)) > 0) {
		char *text = poptGetOptArg(pc);

		if (opt == OPT_VERSION) {
			puts("mdbus-feed " MDBUS_VERSION);
			exit(0);
		}
		rc = opt == OPT_LINE ? add_line(a, text) : opt == OPT_MAP ? add_map(a, text) : add_serve(a, text);
		free(text);
	}
	if (!rc && opt < -1)
		rc = mdbus_refuse("%s: %s; see --help", poptBadOption(pc, POPT_BADOPTION_NOALIAS), poptStrerror(opt));
	else if (!rc && poptPeekArg(pc))
		rc = mdbus_refuse("'%s' is not an option; see --help", poptPeekArg(pc));
	poptFreeContext(pc);
	return rc;
}

static bool is(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

/* What popt cannot see. */
static int check(const struct args *a)
{
	if (!a->pcap == !a->generate)
		return mdbus_refuse("give one source: --pcap FILE with --layout NAME, or --generate moldudp64|optiq");
	if (a->pcap && !a->layout)
		return mdbus_refuse("--pcap needs --layout: a built-in name (see mdbus-decode --list), FILE or FILE:NAME");
	if (a->generate && (a->layout || a->timing > 0 || a->loops != 1))
		return mdbus_refuse("--layout, --timing and --loop are for --pcap");
	if (a->pcap && (a->count || a->size || a->session || a->restart_every || a->restart || a->pack != 1))
		return mdbus_refuse("--count, --size, --pack, --session and --restart-every are for --generate");
	if (a->nline == 0)
		return mdbus_refuse("no line to send to: --line A,to=239.1.1.1:26400");
	if (!(a->rate >= 0) || !(a->timing >= 0) || !(a->burst >= 0) || (a->rate > 0 && a->timing > 0))
		return mdbus_refuse("--rate or --timing, a positive number");
	if (a->burst > 0 && a->rate < 10)
		return mdbus_refuse("--burst needs --rate of 10 or more, which is the mean");
	if (a->count < 0 || a->restart_every < 0 || a->loops < 1 || a->size < 0 || a->pack < 1 || a->linger_ms < 0 ||
	    a->heartbeat_ms < 0 || a->idle_max_ms < 0 || a->first < 0 || a->last < 0)
		return mdbus_refuse("a number that counts something cannot be negative (nor --loop and --pack 0)");
	if (a->restart && !is(a->restart, "session") && !is(a->restart, "seq"))
		return mdbus_refuse("--restart %s: session or seq", a->restart);
	if (a->end && !is(a->end, "heartbeat") && !is(a->end, "eos"))
		return mdbus_refuse("--end %s: heartbeat or eos", a->end);
	if (a->transport && !is(a->transport, "socket") && !is(a->transport, "af_xdp") && !is(a->transport, "dpdk"))
		return mdbus_refuse("--transport %s: socket, af_xdp or dpdk", a->transport);
#ifndef MDBUS_HAVE_XDP
	if (is(a->transport, "af_xdp"))
		return mdbus_refuse("built without AF_XDP; run scripts/deps and make again, or use --transport socket");
#endif
	return 0;
}

static int find_layout(const char *name, struct mdbus_layout *out)
{
	const struct mdbus_layout *builtin = mdbus_layout_builtin(name);
	const char *colon = strrchr(name, ':');
	char file[4096], err[512];
	int rc;

	if (builtin) {
		*out = *builtin;
		return 0;
	}
	if (colon && access(name, F_OK) != 0) {
		snprintf(file, sizeof(file), "%.*s", (int)(colon - name), name);
		rc = mdbus_layout_load(file, colon + 1, out, err, sizeof(err));
	} else {
		rc = mdbus_layout_load(name, NULL, out, err, sizeof(err));
	}
	return rc ? mdbus_refuse("--layout %s: neither built in (see mdbus-decode --list) nor readable: %s", name, err) : 0;
}

static struct mdbus_feed_source *open_source(const struct args *a, const struct mdbus_layout *layout,
                                             uint64_t *malformed)
{
	const struct mdbus_feed_pcap_options pcap = {
		.path = a->pcap,
		.layout = layout,
		.idle_max_ns = (uint64_t)a->idle_max_ms * 1000000u,
		.loops = (uint32_t)a->loops,
		.protect_first = (uint32_t)a->first,
		.protect_last = (uint32_t)a->last,
	};
	const struct mdbus_feed_gen_options gen = {
		.kind = a->generate,
		.session = a->session,
		.count = (uint64_t)a->count,
		.restart_every = (uint64_t)a->restart_every,
		.restart = is(a->restart, "seq") ? MDBUS_FEED_RESTART_SEQ : MDBUS_FEED_RESTART_SESSION,
		.size = (uint32_t)a->size,
		.pack = (uint32_t)a->pack,
		.protect_first = (uint32_t)a->first,
		.protect_last = (uint32_t)a->last,
	};
	struct mdbus_feed_source *s;
	char err[512];

	s = a->pcap ? mdbus_feed_pcap_open(&pcap, malformed, err, sizeof(err)) :
	              mdbus_feed_gen_open(&gen, err, sizeof(err));
	if (!s)
		mdbus_refuse("%s", err);
	return s;
}

static enum mdbus_feed_pacing pacing(const struct args *a)
{
	if (a->timing > 0)
		return MDBUS_FEED_FILE;
	if (!(a->rate > 0))
		return MDBUS_FEED_ASAP;
	return a->burst > 0 ? MDBUS_FEED_BURST : MDBUS_FEED_RATE;
}

static int set_up_process(const struct args *a)
{
	struct sigaction act = { .sa_handler = on_signal };
	cpu_set_t set;

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	if (a->cpu < 0)
		return 0;
	CPU_ZERO(&set);
	if (a->cpu < CPU_SETSIZE)
		CPU_SET((size_t)a->cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : mdbus_refuse("--cpu %d: %s", a->cpu, strerror(errno));
}

/* NULL: said why not. */
static const struct mdbus_feed_tx_ops *transport(const struct args *a)
{
	const struct mdbus_feed_tx_ops *ops = &mdbus_feed_tx_socket;
	char err[512];

#ifdef MDBUS_HAVE_XDP
	if (is(a->transport, "af_xdp"))
		ops = &mdbus_feed_tx_xdp;
#endif
	if (is(a->transport, "dpdk"))
		ops = mdbus_dpdk_load_feed(err, sizeof(err));
	if (!ops)
		mdbus_refuse("%s", err);
	return ops;
}

static int feed(const struct args *a, struct mdbus_feed_source *source, uint64_t malformed)
{
	const struct mdbus_feed_run_config config = {
		.source = source,
		.spec = a->spec,
		.nline = a->nline,
		.ops = transport(a),
		.pace = { .pacing = pacing(a), .rate = a->rate, .burst = a->burst, .speed = a->timing },
		.seed = (uint64_t)a->seed,
		.log_path = a->log,
		.linger_ns = (uint64_t)a->linger_ms * 1000000u,
		.heartbeat_ns = (uint64_t)a->heartbeat_ms * 1000000u,
		.end_session = is(a->end, "eos"),
		.serve = a->serve.at.port ? &a->serve : NULL,
		.stop = &stop,
	};
	struct mdbus_feed_result result;
	char err[1024];
	int rc;

	if (!config.ops)
		return 1;
	rc = mdbus_feed_run(&config, &result, err, sizeof(err));
	if (rc) {
		mdbus_refuse("%s", err);
		return 1;
	}
	return mdbus_feed_report(stdout, &config, &result, malformed, a->json) ? 1 : 0;
}

static int run(const struct args *a)
{
	static struct mdbus_layout layout;
	struct mdbus_feed_source *source;
	uint64_t malformed = 0;
	char err[512];
	int rc;

	if (a->print_log) {
		rc = mdbus_feed_log_print(a->print_log, stdout, err, sizeof(err));
		return rc ? mdbus_refuse("%s", err) : 0;
	}
	rc = check(a);
	if (!rc && a->pcap)
		rc = find_layout(a->layout, &layout);
	if (!rc)
		rc = set_up_process(a);
	if (rc)
		return rc;
	source = open_source(a, &layout, &malformed);
	if (!source)
		return MDBUS_EXIT_USAGE;
	rc = feed(a, source, malformed);
	source->close(source);
	return rc;
}

int main(int argc, char **argv)
{
	static struct args a = { .seed = 1, .pack = 1, .loops = 1, .linger_ms = 100, .heartbeat_ms = 1000, .cpu = -1 };
	int rc = parse(&a, argc, (const char **)argv);

	if (!rc)
		rc = run(&a);
	free(a.pcap);
	free(a.layout);
	free(a.generate);
	free(a.session);
	free(a.restart);
	free(a.log);
	free(a.transport);
	free(a.end);
	free(a.print_log);
	return rc;
}
