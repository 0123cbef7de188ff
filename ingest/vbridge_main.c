/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbus-vbridge PORT... - a virtual Ethernet bridge for virtual NICs (user-veth), so that DPDK lines and a feeder can be
 * joined on a host without cards or privilege.
 *
 * Ports are sockets in a directory; a line's interface, or the feeder's dev=, is user-veth:PORT.  Frames are moved while there
 * are any; when there have been none for a while it sleeps until a client wakes it.  SIGTERM or SIGINT ends it in order,
 * SIGUSR1 prints the counters.
 */
#include <errno.h>
#include <jansson.h>
#include <mdbus/atomics.h>
#include <mdbus/lease.h>
#include <popt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "refuse.h"
#include "vbridge.h"

#define IDLE_SPINS   200
#define WAIT_MS      2   /* a wake-up may be missed: client and bridge pass each other without a fence */
#define LOOK_SOCKETS 256 /* rounds that found frames, in a row */

enum { OPT_VERSION = 1 };

struct args {
	char *dir;
	int idle_spins, interval, json;
	char place[MDBUS_USER_VETH_PATH_MAX];
};

static volatile sig_atomic_t stop, report_now;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		report_now = 1;
	else
		stop = 1;
}

/* ---- counters -------------------------------------------------------------------------------------------------- */

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *queue_json(const struct mdbus_link *l)
{
	const struct mdbus_link_counters *c = &l->count;

	return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "up", (int)l->up, "rx_frames",
	                 number(c->rx_frames), "rx_bytes", number(c->rx_bytes), "rx_bad", number(c->rx_bad), "tx_frames",
	                 number(c->tx_frames), "tx_bytes", number(c->tx_bytes), "tx_full", number(c->tx_full), "tx_down",
	                 number(c->tx_down), "connects", number(c->connects), "refused", number(c->refused), "broken",
	                 number(c->broken));
}

static json_t *port_json(const struct mdbus_vport *p)
{
	json_t *queues = json_array();

	for (uint32_t q = 0; q < p->nqueue; q++)
		json_array_append_new(queues, queue_json(&p->queue[q]));
	return json_pack("{s:s, s:o, s:o, s:o, s:o}", "port", p->name, "flooded", number(p->count.flooded), "filtered",
	                 number(p->count.filtered), "malformed", number(p->count.malformed), "queues", queues);
}

static void print_json(const struct mdbus_vbridge *b, uint64_t now_ns)
{
	json_t *ports = json_array(), *all;

	for (uint32_t i = 0; i < b->nport; i++)
		json_array_append_new(ports, port_json(&b->port[i]));
	all = json_pack("{s:o, s:o}", "stations", number(mdbus_vtable_count(&b->table, now_ns)), "ports", ports);
	if (all)
		json_dumpf(all, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(all);
}

static void print_text(const struct mdbus_vbridge *b, uint64_t now_ns)
{
	printf("%-20s %-5s %12s %12s %10s %10s %8s\n", "port", "link", "in", "out", "slow", "unplugged", "clients");
	for (uint32_t i = 0; i < b->nport; i++) {
		for (uint32_t q = 0; q < b->port[i].nqueue; q++) {
			const struct mdbus_link *l = &b->port[i].queue[q];
			const struct mdbus_link_counters *c = &l->count;
			char name[48];

			snprintf(name, sizeof(name), q ? "%s.%u" : "%s", b->port[i].name, q);
			printf("%-20s %-5s %12ju %12ju %10ju %10ju %8ju\n", name, l->up ? "up" : "down", (uintmax_t)c->rx_frames,
			       (uintmax_t)c->tx_frames, (uintmax_t)c->tx_full, (uintmax_t)c->tx_down, (uintmax_t)c->connects);
		}
	}
	printf("%u stations known\n", mdbus_vtable_count(&b->table, now_ns));
}

static void print_counters(const struct args *a, const struct mdbus_vbridge *b)
{
	(a->json ? print_json : print_text)(b, mdbus_clock_ns());
	fflush(stdout);
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

/* Report when asked, and every --interval seconds. */
static void report(const struct args *a, const struct mdbus_vbridge *b, uint64_t now_ns)
{
	static uint64_t next_ns;

	if (next_ns == 0)
		next_ns = now_ns + (uint64_t)a->interval * 1000000000u;
	if (!report_now && (a->interval == 0 || now_ns < next_ns))
		return;
	if (now_ns >= next_ns)
		next_ns = now_ns + (uint64_t)a->interval * 1000000000u;
	report_now = 0;
	print_counters(a, b);
}

static void serve(const struct args *a, struct mdbus_vbridge *b)
{
	int idle = 0, busy = 0;

	while (!stop) {
		uint64_t now_ns = mdbus_clock_ns();

		if (mdbus_vbridge_forward(b, now_ns)) {
			idle = 0;
			if (++busy < LOOK_SOCKETS)
				continue;
		} else if (a->idle_spins && ++idle >= a->idle_spins) {
			/* woken by nobody, it goes back to sleep at once */
			idle = mdbus_vbridge_wait(b, WAIT_MS) ? 0 : a->idle_spins;
		} else if (++busy < LOOK_SOCKETS) {
			continue;
		}
		busy = 0;
		mdbus_vbridge_control(b, now_ns);
		report(a, b, now_ns);
	}
}

/* ---- start ----------------------------------------------------------------------------------------------------- */

static int read_ports(poptContext pc, struct mdbus_vbridge *b)
{
	const char *spec;
	char err[512];

	while ((spec = poptGetArg(pc)) != NULL)
		if (mdbus_vbridge_add(b, spec, err, sizeof(err)))
			return mdbus_refuse("%s", err);
	return b->nport > 0 ? 0 : mdbus_refuse("no port: mdbus-vbridge feed a,queues=2");
}

static int parse(struct args *a, struct mdbus_vbridge *b, int argc, const char **argv)
{
	struct poptOption options[] = {
		{ "dir", 'd', POPT_ARG_STRING, &a->dir, 0, "where the ports' sockets are (veth in the run directory)", "DIR" },
		{ "idle-spins", 0, POPT_ARG_INT, &a->idle_spins, 0, "empty rounds before it sleeps (200), 0: never", "N" },
		{ "interval", 'i', POPT_ARG_INT, &a->interval, 0, "print the counters every N seconds too", "N" },
		{ "json", 0, POPT_ARG_NONE, &a->json, 0, "counters as JSON, one object a line", NULL },
		{ "version", 0, POPT_ARG_NONE, NULL, OPT_VERSION, "print the version", NULL },
		POPT_AUTOHELP POPT_TABLEEND
	};
	poptContext pc = poptGetContext("mdbus-vbridge", argc, argv, options, 0);
	int opt, rc = 0;

	poptSetOtherOptionHelp(pc, "PORT[,net=NAME][,queues=N][,group=ADDR]... [OPTION]...\n"
	                           "A line's interface, or mdbus-feed's dev=, is then user-veth:PORT.");
	opt = poptGetNextOpt(pc);
	if (opt == OPT_VERSION) {
		puts("mdbus-vbridge " MDBUS_VERSION);
		exit(0);
	}
	if (opt < -1)
		rc = mdbus_refuse("%s: %s; see --help", poptBadOption(pc, POPT_BADOPTION_NOALIAS), poptStrerror(opt));
	else if (a->idle_spins < 0 || a->interval < 0)
		rc = mdbus_refuse("--idle-spins and --interval cannot be negative");
	else
		rc = read_ports(pc, b);
	poptFreeContext(pc);
	return rc;
}

/* The place that clients know without being told. */
static int default_place(struct args *a)
{
	const char *run = mdbus_run_dir();

	if (mkdir(run, 0755) < 0 && errno != EEXIST)
		return mdbus_refuse("%s: cannot be made: %s; choose another place with --dir", run, strerror(errno));
	if ((size_t)snprintf(a->place, sizeof(a->place), "%s/veth", run) >= sizeof(a->place))
		return mdbus_refuse("%s: longer than the name of a socket may be; choose another place with --dir", run);
	return 0;
}

static void catch_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGUSR1, &act, NULL);
}

static int run(struct args *a, struct mdbus_vbridge *b)
{
	char err[512];
	int rc = a->dir ? 0 : default_place(a);

	if (rc)
		return rc;
	catch_signals();
	if (mdbus_vbridge_open(b, a->dir ? a->dir : a->place, err, sizeof(err)))
		return mdbus_refuse("%s", err) - 1;
	fprintf(stderr, "mdbus-vbridge: ready in %s\n", b->dir);
	serve(a, b);
	print_counters(a, b);
	mdbus_vbridge_close(b);
	if (!a->dir)
		(void)rmdir(mdbus_run_dir()); /* unless mdbusd, or anything else, is there */
	return 0;
}

int main(int argc, char **argv)
{
	static struct mdbus_vbridge bridge = { .dir_fd = -1 };
	static struct args a = { .idle_spins = IDLE_SPINS };
	int rc = parse(&a, &bridge, argc, (const char **)argv);

	if (rc == 0)
		rc = run(&a, &bridge);
	free(a.dir);
	return rc;
}
