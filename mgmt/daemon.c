/* SPDX-License-Identifier: Apache-2.0
 *
 * daemon.c - mdbusd's life from the first to the last step.
 *
 * Order matters: nobody is let in before every bus is whole and privileges are dropped.  The way down is the way up, backwards.
 */
#include "daemon.h"
#include "process.h"
#include <errno.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

void mdbus_daemon_init(struct mdbus_daemon *d)
{
	memset(d, 0, sizeof(*d));
	d->lock_fd = d->epoll_fd = d->ready_fd = -1;
	d->signals.fd = d->timer.fd = d->listener.fd = d->questions.fd = d->followers.fd = -1;
	d->config.subscriber_gid = d->config.ingest_gid = d->config.admin_gid = -1;
}

/*
 * Two descriptors for each process that is watched: as many as the host allows.  And a place before ordinary work, since
 * lines may spin on every core and others wait for what mdbusd takes back.  Refused: so be it.
 */
static void raise_limits(void)
{
	struct rlimit limit;

	(void)setpriority(PRIO_PROCESS, 0, -10);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void say_ready(const struct mdbus_daemon *d)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "mdbusd: ready pid=%d run_dir=%s buses=%u\n", (int)getpid(), d->run, d->nbus);

	fputs(text, stdout);
	fflush(stdout);
	if (d->ready_fd >= 0) {
		if (write(d->ready_fd, text, (size_t)n) < 0)
			mdbus_say("--ready-fd %d: %s", d->ready_fd, strerror(errno));
		close(d->ready_fd);
	}
}

static int run(struct mdbus_daemon *d)
{
	mdbus_event(d, "daemon_start", NULL, "{s:i, s:s, s:s}", "pid", (int)getpid(), "version", MDBUS_VERSION, "config",
	            d->config.path);
	int rc = mdbus_buses_open(d);

	if (rc == 0)
		mdbus_privilege_drop(d);
	if (rc == 0)
		rc = mdbus_ctl_open(d);
	MDBUS_HOOK("daemon.ctl");
	if (rc == 0)
		rc = mdbus_lease_server_open(d);
	MDBUS_HOOK("daemon.listens");
	if (rc == 0) {
		say_ready(d);
		mdbus_loop_run(d);
		mdbus_event(d, "daemon_stop", NULL, NULL);
	}
	MDBUS_HOOK("daemon.ends");
	mdbus_lease_server_close(d);
	mdbus_ctl_close(d);
	mdbus_buses_close(d);
	return rc;
}

static int within(struct mdbus_daemon *d, int (*what)(struct mdbus_daemon *d))
{
	umask(077);
	raise_limits();
	d->start_ns = mdbus_clock_ns();
	int rc = mdbus_process_proc_usable() ? mdbus_loop_open(d) : -ESRCH;

	if (rc == -ESRCH)
		mdbus_say("/proc is not that of this pid namespace: mount it (unshare --mount-proc)");
	if (rc == 0)
		rc = mdbus_rundir_open(d);
	if (rc == 0)
		rc = what(d);
	mdbus_events_close(d);
	mdbus_loop_close(d);
	return rc;
}

int mdbus_daemon_serve(struct mdbus_daemon *d)
{
	return within(d, run);
}

int mdbus_daemon_purge(struct mdbus_daemon *d)
{
	return within(d, mdbus_buses_purge);
}
