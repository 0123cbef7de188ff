/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.c - one epoll loop, one event at a time.
 *
 * Taking a single event per epoll_wait means that a handler may close and free anything, its own source included:
 * no event of a freed source can be waiting in a batch.  The kernel hands ready sources out in turn, so a flood on one of
 * them delays the others by one handler each, not more.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "daemon.h"
#include "text.h"

void mdbus_say(const char *format, ...)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (poll(&out, 1, 0) == 0) /* nobody reads it: nothing here waits, not for that either */
		return;
	fprintf(stderr, "mdbusd: %s\n", text);
}

int mdbus_loop_add(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	return epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0 ? -errno : 0;
}

void mdbus_loop_change(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	(void)epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
}

void mdbus_loop_remove(struct mdbus_daemon *d, struct mdbus_source *s)
{
	if (s->fd < 0)
		return;
	(void)epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	close(s->fd);
	s->fd = -1;
}

static void signal_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	if (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		d->stopping = true;
}

static void timer_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	uint64_t expired;

	(void)events;
	if (read(s->fd, &expired, sizeof(expired)) < 0)
		return;
	uint64_t now = mdbus_clock_ns();

#ifdef MDBUS_MUTANT_wall_clock
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall); /* mutant of t_clock */
	now = (uint64_t)wall.tv_sec * 1000000000u;
#endif
	mdbus_scan_tick(d, now);
	mdbus_lease_server_tick(d, now);
	mdbus_ctl_tick(d, now);
}

static int open_signals(struct mdbus_daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	d->signals = (struct mdbus_source){ signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), signal_ready };
	return d->signals.fd < 0 ? -errno : mdbus_loop_add(d, &d->signals, EPOLLIN);
}

static int open_timer(struct mdbus_daemon *d)
{
	struct timespec each = { 0, (long)MDBUS_TICK_NS };
	struct itimerspec when = { each, each };

	d->timer = (struct mdbus_source){ timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), timer_ready };
	if (d->timer.fd < 0 || timerfd_settime(d->timer.fd, 0, &when, NULL) < 0)
		return -errno;
	return mdbus_loop_add(d, &d->timer, EPOLLIN);
}

int mdbus_loop_open(struct mdbus_daemon *d)
{
	d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int rc = d->epoll_fd < 0 ? -errno : open_signals(d);

	if (rc == 0)
		rc = open_timer(d);
	if (rc < 0)
		mdbus_say("event loop: %s%s", strerror(-rc), mdbus_text_mend(rc));
	return rc;
}

void mdbus_loop_run(struct mdbus_daemon *d)
{
	while (!d->stopping) {
		struct epoll_event e;
		int n = epoll_wait(d->epoll_fd, &e, 1, -1);

		if (n == 1) {
			struct mdbus_source *s = e.data.ptr;

			s->ready(d, s, e.events);
		} else if (n < 0 && errno != EINTR) {
			mdbus_say("event loop: %s", strerror(errno));
			return;
		}
	}
}

void mdbus_loop_close(struct mdbus_daemon *d)
{
	mdbus_loop_remove(d, &d->signals);
	mdbus_loop_remove(d, &d->timer);
	if (d->epoll_fd >= 0)
		close(d->epoll_fd);
	d->epoll_fd = -1;
}
