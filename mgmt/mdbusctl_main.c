/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbusctl - what is going on: asks mdbusd and prints the answer, as tables for people or as JSON for programs.
 *
 * It only asks, but for two commands of an admin: `end` has the process of a line or seat end or be killed, `shutdown` stops
 * mdbusd.  Questions go to ctl.ipc in nanomsg's protocol; these go to mdbusd.sock, like everything that changes something.
 *
 * Tables show the columns that say whether things are well; --all shows every counter with its meaning;
 * --json shows everything.
 */
#include <popt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <mdbus/lease.h>
#include "ctl_client.h"
#include "show.h"

struct options {
	const char *bus;
	int json, all, follow, kill, version;
};

static const struct {
	const char *op;
	void (*show)(const json_t *answer, bool all);
} commands[] = {
	{ "status", mdbus_show_status },           { "lines", mdbus_show_lines },   { "channels", mdbus_show_channels },
	{ "subscribers", mdbus_show_subscribers }, { "leases", mdbus_show_leases }, { "events", mdbus_show_events },
	{ "queues", mdbus_show_queues },           { "rules", mdbus_show_rules },
	{ "memory", mdbus_show_memory },
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static void dump(const json_t *v, size_t flags)
{
	json_dumpf(v, stdout, flags);
	putchar('\n');
}

static bool wanted(const json_t *event, const char *bus)
{
	const char *of = json_string_value(json_object_get(event, "bus"));

	return !bus || !of || strcmp(of, bus) == 0;
}

static bool print_event(const json_t *event, void *arg)
{
	const struct options *o = arg;

	if (wanted(event, o->bus) && o->json)
		dump(event, JSON_COMPACT);
	else if (wanted(event, o->bus))
		mdbus_show_event(event);
	fflush(stdout);
	return !ferror(stdout);
}

static int ask(size_t c, const struct options *o)
{
	bool events = strcmp(commands[c].op, "events") == 0;
	json_t *a = mdbus_ctl_ask(commands[c].op, o->bus, o->json || o->all), *e;
	size_t i;

	if (!a)
		return 1;
	if (o->json && events) {
		json_array_foreach(json_object_get(a, "events"), i, e) {
			dump(e, JSON_COMPACT);
		}
	} else if (o->json) {
		dump(a, JSON_INDENT(2));
	} else {
		commands[c].show(a, o->all);
	}
	json_decref(a);
	if (events && o->follow)
		return mdbus_ctl_follow(print_event, (void *)(uintptr_t)o) < 0 ? 1 : 0;
	return 0;
}

static int admin(enum mdbus_lease_op op, const char *bus, const char *name)
{
	char said[512];
	int rc = mdbus_admin_ask(op, bus, name, said, sizeof(said));

	fprintf(rc < 0 ? stderr : stdout, "mdbusctl: %s\n", said);
	return rc < 0 ? 1 : 0;
}

/* BUS/NAME: the holder of a line, or of a seat as "seat.3". */
static int end(const char *what, const struct options *o)
{
	char bus[MDBUS_NAME_MAX];
	const char *slash = what ? strchr(what, '/') : NULL;

	if (!slash || (size_t)(slash - what) >= sizeof(bus)) {
		fputs("mdbusctl: end: whom?  BUS/LINE or BUS/seat.N, see mdbusctl leases\n", stderr);
		return 2;
	}
	snprintf(bus, sizeof(bus), "%.*s", (int)(slash - what), what);
	return admin(o->kill ? MDBUS_LEASE_KILL : MDBUS_LEASE_END, bus, slash + 1);
}

static int run(poptContext ctx, const struct options *o)
{
	const char *command = poptGetArg(ctx);
	size_t c = 0;

	if (o->version) {
		puts("mdbusctl " MDBUS_VERSION);
		return 0;
	}
	if (!command) {
		poptPrintUsage(ctx, stderr, 0);
		return 2;
	}
	if (o->kill && strcmp(command, "end") != 0) {
		fputs("mdbusctl: --kill: only with end\n", stderr);
		return 2;
	}
	if (strcmp(command, "end") == 0)
		return end(poptGetArg(ctx), o);
	if (strcmp(command, "shutdown") == 0 && !poptPeekArg(ctx))
		return admin(MDBUS_LEASE_SHUTDOWN, "", "");
	while (c < NCOMMANDS && strcmp(commands[c].op, command) != 0)
		c++;
	if (c == NCOMMANDS || poptPeekArg(ctx)) {
		fprintf(stderr, "mdbusctl: %s: not a command; there are status, lines, channels, subscribers, leases, queues, rules, "
		        "memory, events, end, shutdown\n", c == NCOMMANDS ? command : poptPeekArg(ctx));
		return 2;
	}
	if (o->follow && strcmp(command, "events") != 0) {
		fprintf(stderr, "mdbusctl: --follow: only with events\n");
		return 2;
	}
	return ask(c, o);
}

int main(int argc, const char **argv)
{
	struct options o = { 0 };
	const struct poptOption table[] = {
		{ "bus", 'b', POPT_ARG_STRING, &o.bus, 0, "only this bus", "NAME" },
		{ "json", 'j', POPT_ARG_NONE, &o.json, 0, "JSON for programs; events: one object a line", NULL },
		{ "all", 'a', POPT_ARG_NONE, &o.all, 0, "every counter, with its meaning", NULL },
		{ "follow", 'f', POPT_ARG_NONE, &o.follow, 0, "events: go on with those to come", NULL },
		{ "kill", 0, POPT_ARG_NONE, &o.kill, 0, "end: kill the process instead of telling it to end", NULL },
		{ "version", 'V', POPT_ARG_NONE, &o.version, 0, "print the version and exit", NULL },
		POPT_AUTOHELP POPT_TABLEEND
	};
	poptContext ctx = poptGetContext("mdbusctl", argc, argv, table, 0);

	poptSetOtherOptionHelp(ctx, "[OPTION...] status|lines|channels|subscribers|leases|queues|rules|memory|events\n"
	                            "       mdbusctl [--kill] end BUS/LINE|BUS/seat.N\n       mdbusctl shutdown");
	int rc = poptGetNextOpt(ctx);

	if (rc < -1) {
		fprintf(stderr, "mdbusctl: %s: %s (see mdbusctl --help)\n", poptBadOption(ctx, POPT_BADOPTION_NOALIAS),
		        poptStrerror(rc));
		rc = 2;
	} else {
		rc = run(ctx, &o);
	}
	poptFreeContext(ctx);
	return rc;
}
