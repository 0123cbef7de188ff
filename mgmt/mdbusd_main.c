/* SPDX-License-Identifier: Apache-2.0
 *
 * mdbusd - the one process of a host that owns what the buses are made of.
 *
 * It makes the segments, lends lines and seats to processes, sees their deaths, takes back what they held and
 * answers questions.  It is in nobody's way: no message passes through it, and when it dies everything goes on; the
 * next mdbusd adopts what runs.  Started in the foreground, by systemd or by hand.
 */
#include <errno.h>
#include <popt.h>
#include <stdio.h>
#include "daemon.h"

#define CONFIG_DEFAULT "/etc/mdbus/mdbus.conf"

struct options {
	const char *config;
	int check, purge, force_new, foreground, version;
	int ready_fd;
};

static int parse(int argc, const char **argv, struct options *o)
{
	const struct poptOption table[] = {
		{ "config", 'c', POPT_ARG_STRING | POPT_ARGFLAG_SHOW_DEFAULT, &o->config, 0, "the configuration", "FILE" },
		{ "check", 0, POPT_ARG_NONE, &o->check, 0, "check the configuration, naming every mistake by file:line, and exit",
		  NULL },
		{ "force-new", 0, POPT_ARG_NONE, &o->force_new, 0,
		  "make buses anew whose configuration has changed, even while they are in use", NULL },
		{ "purge", 0, POPT_ARG_NONE, &o->purge, 0, "remove every bus, mount and file of the run directory, and exit",
		  NULL },
		{ "foreground", 'f', POPT_ARG_NONE, &o->foreground, 0, "stay in the foreground (always so)", NULL },
		{ "ready-fd", 0, POPT_ARG_INT, &o->ready_fd, 0, "write a line to this descriptor when ready, and close it", "N" },
		{ "version", 'V', POPT_ARG_NONE, &o->version, 0, "print the version and exit", NULL },
		POPT_AUTOHELP POPT_TABLEEND
	};
	poptContext ctx = poptGetContext("mdbusd", argc, argv, table, 0);
	int rc = poptGetNextOpt(ctx);

	if (rc < -1)
		fprintf(stderr, "mdbusd: %s: %s (see mdbusd --help)\n", poptBadOption(ctx, POPT_BADOPTION_NOALIAS),
		        poptStrerror(rc));
	else if (poptPeekArg(ctx))
		fprintf(stderr, "mdbusd: %s: takes no arguments (see mdbusd --help)\n", poptPeekArg(ctx));
	else
		rc = 0;
	poptFreeContext(ctx);
	return rc == 0 ? 0 : -EINVAL;
}

static int check(struct mdbus_daemon *d)
{
	const struct mdbus_config *c = &d->config;

	printf("%s: no mistakes\n", c->path);
	for (uint32_t i = 0; i < c->nbus; i++)
		printf("  bus %s: %u lines, %u channels, %u seats\n", c->bus[i].name, c->bus[i].nline, c->bus[i].nchannel,
		       c->bus[i].nseat);
	return 0;
}

int main(int argc, const char **argv)
{
	static struct mdbus_daemon d;
	struct options o = { .config = CONFIG_DEFAULT, .ready_fd = -1 };
	int rc = 0;

	if (parse(argc, argv, &o) < 0)
		return 2;
	if (o.version) {
		puts("mdbusd " MDBUS_VERSION);
		return 0;
	}
	mdbus_daemon_init(&d);
	d.force_new = o.force_new != 0;
	d.ready_fd = o.ready_fd;
	if (!o.purge)
		rc = mdbus_config_load(o.config, &d.config, stderr);
	if (rc == 0)
		rc = o.check ? check(&d) : o.purge ? mdbus_daemon_purge(&d) : mdbus_daemon_serve(&d);
	mdbus_config_free(&d.config);
	return rc == 0 ? 0 : 1;
}
