/* SPDX-License-Identifier: Apache-2.0
 *
 * lease_server.c - the lease socket: requests in, descriptors out.
 *
 * Nothing a client does, or fails to do, makes mdbusd wait: sockets never block, a connection has one fixed-size request
 * and at most one reply message in hand, silent ones are closed after five seconds, and when there are too many the one
 * silent for longest goes.  Whoever cannot be understood is told once and closed.
 *
 * Killed inside: clients see their connection closed and ask the next mdbusd; what was granted is in the bus directory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "lease_request.h"

#define SILENCE_NS UINT64_C(5000000000)

/* One client.  Sending is set while the descriptors of a granted lease are on their way. */
struct mdbus_lease_connection {
	struct mdbus_source source;
	struct mdbus_lease_connection *next, *prev; /* by activity */
	uint64_t active_ns;
	struct mdbus_holder *sending;
	uint32_t lease_id;
	uint32_t sent; /* segments of it */
	bool paused;   /* too many descriptors in flight: tried again at the next tick */
};

/* ---- connections, by activity -------------------------------------------------------------------------------- */

static void unlink_connection(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		d->connections = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next = c->prev = NULL;
}

static void to_front(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	c->active_ns = mdbus_clock_ns();
	c->prev = NULL;
	c->next = d->connections;
	if (c->next)
		c->next->prev = c;
	d->connections = c;
}

static void active(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	unlink_connection(d, c);
	to_front(d, c);
}

/* True while the lease being sent is still the one that was granted: its holder may have died meanwhile. */
static bool still_held(const struct mdbus_lease_connection *c)
{
	const struct mdbus_lease *l = c->sending ? mdbus_holder_lease(c->sending) : NULL;

	return l && l->state == MDBUS_LEASE_HELD && l->id == c->lease_id;
}

/* A lease whose descriptors did not all get away is of no use to its holder. */
static void close_connection(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	struct mdbus_holder *h = still_held(c) ? c->sending : NULL;

	unlink_connection(d, c);
	d->nconnection--;
	mdbus_loop_remove(d, &c->source);
	free(c);
	if (h)
		mdbus_reclaim(d, h, "it did not take what it was lent");
}

static struct mdbus_lease_connection *oldest(const struct mdbus_daemon *d)
{
	struct mdbus_lease_connection *c = d->connections;

	while (c && c->next)
		c = c->next;
	return c;
}

/* ---- replies ---------------------------------------------------------------------------------------------------- */

static int send_reply(int sock, const struct mdbus_lease_reply *r, const int *fd, uint32_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MDBUS_LEASE_FDS * sizeof(int))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)r, sizeof(*r) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fd, n * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* One reply message with the next descriptors. 0, -EAGAIN: the client must read first, or -errno. */
static int send_some(struct mdbus_lease_connection *c)
{
	struct mdbus_lease_reply r = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION, .id = c->lease_id };
	uint32_t total = mdbus_lent_count(c->sending), n = 0;
	int fd[MDBUS_LEASE_FDS], rc = 0;

	while (n < MDBUS_LEASE_FDS && c->sent + n < total) {
		rc = mdbus_lent_open(c->sending, c->sent + n, &r.fd[n]);
		if (rc < 0)
			break;
		fd[n++] = rc;
	}
	r.index = c->sending->index;
	r.nfd = n;
	r.left = total - c->sent - n;
	if (rc >= 0)
		rc = send_reply(c->source.fd, &r, fd, n);
	for (uint32_t i = 0; i < n; i++)
		close(fd[i]);
	if (rc == 0)
		c->sent += n;
	return rc;
}

/* ---- requests ------------------------------------------------------------------------------------------------ */

/* Texts from outside: an end, and nothing that would spoil a log or a JSON document. */
static bool clean_text(char *s, size_t size)
{
	if (!memchr(s, '\0', size))
		return false;
	for (; *s; s++) {
		if (*s < ' ' || *s > '~' || *s == '"' || *s == '\\')
			*s = '?';
	}
	return true;
}

static bool understood(struct mdbus_lease_request *q, ssize_t len)
{
	return len == (ssize_t)sizeof(*q) && q->magic == MDBUS_LEASE_MAGIC && q->version == MDBUS_LEASE_VERSION &&
	       q->op >= MDBUS_LEASE_LINE && q->op <= MDBUS_LEASE_RELEASE && clean_text(q->bus, sizeof(q->bus)) &&
	       clean_text(q->name, sizeof(q->name));
}

/* Go on sending what was granted, as far as the client takes it.  May close the connection. */
static void go_on(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	while (c->sending) {
		int rc = still_held(c) ? send_some(c) : -ESRCH;

		if (rc == -EAGAIN || rc == -ETOOMANYREFS) {
			c->paused = rc == -ETOOMANYREFS; /* no event says when that is over */
			mdbus_loop_change(d, &c->source, c->paused ? 0 : EPOLLOUT);
			return;
		}
		if (rc < 0) {
			mdbus_say("bus %s: %s cannot be lent: %s", c->sending->bus->config->name, mdbus_holder_name(c->sending),
			          strerror(-rc));
			close_connection(d, c);
			return;
		}
		active(d, c);
		if (c->sent == mdbus_lent_count(c->sending)) {
			c->sending = NULL;
			mdbus_loop_change(d, &c->source, EPOLLIN);
		}
	}
}

static void request(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	struct mdbus_lease_reply r = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION };
	struct mdbus_process p = { .pidfd = -1 };
	struct {
		struct mdbus_lease_request q;
		char beyond;
	} in;
	ssize_t len = recv(c->source.fd, &in, sizeof(in), MSG_DONTWAIT); /* no room for descriptors: none are taken */

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0) {
		close_connection(d, c);
		return;
	}
	bool sense = understood(&in.q, len);
	int rc = sense ? mdbus_process_peer(c->source.fd, &p) : 0;
	struct mdbus_holder *h = NULL;

	if (!sense)
		mdbus_lease_refuse(d, &r, -EPROTO, "request not understood: install one version of mdbus");
	else if (rc < 0)
		mdbus_lease_refuse(d, &r, rc, "who asks cannot be told (%s): run in mdbusd's pid namespace", strerror(-rc));
	else
		h = mdbus_lease_serve(d, &in.q, &p, &r);
	if (p.pidfd >= 0)
		close(p.pidfd);
	active(d, c);
	if (h) {
		c->sending = h;
		c->sent = 0;
		c->lease_id = mdbus_holder_lease(h)->id;
		go_on(d, c);
		return;
	}
	rc = send_reply(c->source.fd, &r, NULL, 0);
	if (rc < 0 || !sense)
		close_connection(d, c);
}

static void connection_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	struct mdbus_lease_connection *c = (struct mdbus_lease_connection *)s;

	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN))
		close_connection(d, c);
	else if (c->sending)
		go_on(d, c);
	else
		request(d, c);
}

static void listener_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	(void)events;
	int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			mdbus_loop_change(d, s, 0); /* no descriptors: until the next tick */
		return;
	}
	if (d->nconnection >= MDBUS_LEASE_CONNECTIONS)
		close_connection(d, oldest(d));
	struct mdbus_lease_connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->source = (struct mdbus_source){ fd, connection_ready };
	to_front(d, c);
	d->nconnection++;
	if (mdbus_loop_add(d, &c->source, EPOLLIN) < 0)
		close_connection(d, c);
}

void mdbus_lease_server_tick(struct mdbus_daemon *d, uint64_t now_ns)
{
	struct mdbus_lease_connection *c, *next;

	while ((c = oldest(d)) && now_ns > c->active_ns && now_ns - c->active_ns > SILENCE_NS)
		close_connection(d, c);
	for (c = d->connections; c; c = next) {
		next = c->next;
		if (c->paused) {
			c->paused = false;
			go_on(d, c);
		}
	}
	mdbus_loop_change(d, &d->listener, EPOLLIN);
}

static int open_socket(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(at.sun_path, path, strnlen(path, sizeof(at.sun_path) - 1u));
	unlink(path); /* the lock says that nobody listens there */
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 128) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

/* Two roles may knock, and a file has one group: with two different groups everybody may, and is asked inside. */
static int set_access(const struct mdbus_daemon *d, const char *path)
{
	int a = d->config.subscriber_gid, b = d->config.ingest_gid;
	int gid = a < 0 ? b : a;
	mode_t mode = gid < 0 ? 0600 : a == b || a < 0 || b < 0 ? 0660 : 0666;

	if (mode == 0660 && chown(path, (uid_t)-1, (gid_t)gid) < 0)
		return -errno;
	return chmod(path, mode) < 0 ? -errno : 0;
}

int mdbus_lease_server_open(struct mdbus_daemon *d)
{
	char path[MDBUS_RUN_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/mdbusd.sock", d->run);
	int fd = open_socket(path), rc = fd < 0 ? fd : set_access(d, path);

	d->listener = (struct mdbus_source){ fd < 0 ? -1 : fd, listener_ready };
	if (rc == 0)
		rc = mdbus_loop_add(d, &d->listener, EPOLLIN);
	if (rc < 0)
		mdbus_say("%s: %s", path, strerror(-rc));
	return rc;
}

void mdbus_lease_server_close(struct mdbus_daemon *d)
{
	mdbus_loop_remove(d, &d->listener);
	while (d->connections)
		close_connection(d, d->connections);
}
