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
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
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

/* Two descriptors for each process that is watched: as many as the host allows. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void say_ready(const struct mdbus_daemon *d, int ready_fd)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "mdbusd: ready pid=%d run_dir=%s buses=%u\n", (int)getpid(), d->run, d->nbus);

	fputs(text, stdout);
	fflush(stdout);
	if (ready_fd >= 0) {
		if (write(ready_fd, text, (size_t)n) < 0)
			mdbus_say("--ready-fd %d: %s", ready_fd, strerror(errno));
		close(ready_fd);
	}
}

static int run(struct mdbus_daemon *d, int ready_fd)
{
	int rc = mdbus_ctl_open(d);

	if (rc == 0) {
		mdbus_event(d, "daemon_start", NULL, "{s:i, s:s, s:s}", "pid", (int)getpid(), "version", MDBUS_VERSION, "config",
		            d->config.path);
		rc = mdbus_buses_open(d);
	}
	if (rc == 0)
		rc = mdbus_lease_server_open(d);
	if (rc == 0) {
		say_ready(d, ready_fd);
		mdbus_loop_run(d);
		mdbus_event(d, "daemon_stop", NULL, NULL);
	}
	mdbus_lease_server_close(d);
	mdbus_ctl_close(d);
	mdbus_buses_close(d);
	return rc;
}

static int serve(struct mdbus_daemon *d, const struct options *o)
{
	umask(077);
	raise_limits();
	d->start_ns = mdbus_clock_ns();
	d->force_new = o->force_new != 0;
	int rc = mdbus_loop_open(d);

	if (rc == 0)
		rc = mdbus_rundir_open(d);
	if (rc == 0)
		rc = o->purge ? mdbus_buses_purge(d) : run(d, o->ready_fd);
	mdbus_events_close(d);
	mdbus_loop_close(d);
	return rc;
}

int main(int argc, const char **argv)
{
	static struct mdbus_daemon d = {
		.lock_fd = -1,
		.epoll_fd = -1,
		.signals.fd = -1,
		.timer.fd = -1,
		.listener.fd = -1,
		.ctl.fd = -1,
		.ctl_socket = -1,
		.event_socket = -1,
	};
	struct options o = { .config = CONFIG_DEFAULT, .ready_fd = -1 };
	int rc = 0;

	if (parse(argc, argv, &o) < 0)
		return 2;
	if (o.version) {
		puts("mdbusd " MDBUS_VERSION);
		return 0;
	}
	if (!o.purge)
		rc = mdbus_config_load(o.config, &d.config, stderr);
	else
		d.config.subscriber_gid = d.config.ingest_gid = d.config.admin_gid = -1;
	if (rc == 0)
		rc = o.check ? check(&d) : serve(&d, &o);
	mdbus_config_free(&d.config);
	return rc == 0 ? 0 : 1;
}
