/* SPDX-License-Identifier: Apache-2.0
 *
 * line_program.c - the process of one line: receives, arbitrates, publishes.
 *
 * Everything it needs to know comes from mdbusd with the lease; the command line only says which line it is.
 */
#include "line_program.h"
#include <errno.h>
#include <popt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../bus/segment.h"
#include "line.h"

#define DRAIN_NS UINT64_C(2000000000)

static const char *program;
static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	(void)sig;
	stopped = 1;
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = stop };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static int usage(poptContext ctx, const char *what)
{
	fprintf(stderr, "%s: %s\n", program, what);
	poptPrintUsage(ctx, stderr, 0);
	poptFreeContext(ctx);
	return 2;
}

static bool drops_early(const struct mdbus_line *l)
{
	return strncmp(l->desc.backend, "af_xdp", sizeof(l->desc.backend)) == 0 && l->desc.to_mask == 0;
}

static void announce(const struct mdbus_line *l, const char *where)
{
	printf("%s: %s: %s, %u channels, %u frames of %u bytes (%s pages), %u recovered, core %d, pid %d\n", program,
	       where, l->arena->backend, l->nmine, l->arena->nframes, l->arena->frame_size,
	       mdbus_page_kind_name(l->arena->segment.page_kind), l->stock.held, l->desc.cpu, (int)getpid());
	for (uint32_t i = 0; i < l->nmine && !drops_early(l); i++)
		if (l->channel[l->mine[i]].desc.early_drop)
			printf("%s: %s: early_drop of channel %.31s does nothing on backend %.16s%s\n", program, where,
			       l->channel[l->mine[i]].desc.name, l->desc.backend,
			       l->desc.to_mask ? ", as it hands packets over" : "");
	fflush(stdout);
}

static int run(struct mdbus_line *l, const char *where)
{
	while (!stopped) {
		int n = mdbus_line_round(l);

		if (n == -ENODATA) {
			mdbus_line_drain(l, DRAIN_NS);
			printf("%s: %s: end of file\n", program, where);
			return 0;
		}
		if (n < 0) {
			fprintf(stderr, "%s: %s: the queue failed: %s\n", program, where, strerror(-n));
			return 1;
		}
	}
	return 0;
}

/* Each program has its kind of line, so that what runs is what its name says. */
static int open_line(struct mdbus_line *l, const char *bus, const char *name, bool recovery)
{
	int rc = mdbus_line_open(l, bus, name);

	if (rc == 0 && (l->desc.recovery != 0) != recovery) {
		mdbus_line_close(l);
		snprintf(l->error, sizeof(l->error), "its backend is \"%.16s\"; run %s for it", l->desc.backend,
		         recovery ? "mdbus-ingest" : "mdbus-recover");
		rc = -EINVAL;
	}
	return rc;
}

int mdbus_line_program(const char *name, bool recovery, int argc, const char **argv)
{
	static struct mdbus_line line;
	char bus[MDBUS_NAME_MAX] = "";
	int version = 0, rc;
	const struct poptOption options[] = {
		{ "version", 'V', POPT_ARG_NONE, &version, 0, "print the version and exit", NULL },
		POPT_AUTOHELP POPT_TABLEEND
	};
	poptContext ctx = poptGetContext(name, argc, argv, options, 0);

	program = name;
	poptSetOtherOptionHelp(ctx, "BUS/LINE");
	rc = poptGetNextOpt(ctx);
	if (rc < -1)
		return usage(ctx, poptStrerror(rc));
	if (version) {
		printf("%s %s\n", program, MDBUS_VERSION);
		poptFreeContext(ctx);
		return 0;
	}
	const char *where = poptGetArg(ctx), *slash = where ? strchr(where, '/') : NULL;

	if (slash == NULL || slash == where || slash[1] == '\0' || slash - where >= (ptrdiff_t)sizeof(bus) ||
	    poptPeekArg(ctx) != NULL)
		return usage(ctx, "name one line as BUS/LINE, e.g. nasdaq/A");
	memcpy(bus, where, (size_t)(slash - where));
	catch_signals();
	rc = open_line(&line, bus, slash + 1, recovery);
	if (rc != 0) {
		fprintf(stderr, "%s: %s: %s\n", program, where, line.error);
		poptFreeContext(ctx);
		return 1;
	}
	announce(&line, where);
	rc = run(&line, where);
	mdbus_line_close(&line);
	poptFreeContext(ctx);
	return rc;
}
