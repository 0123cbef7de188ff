/* SPDX-License-Identifier: Apache-2.0
 *
 * lease_server.c - the lease socket: requests in, descriptors out.
 *
 * Nothing a client does, or fails to do, makes mdbusd wait: sockets never block, a connection has one fixed-size request
 * and at most one reply message in hand, silent ones are closed after five seconds, and when there are too many one
 * of them goes (clients.h).  Whoever cannot be understood is told once and closed.
 *
 * Killed inside: clients see their connection closed and ask the next mdbusd; what was granted is in the bus directory.
 */
#include <errno.h>
#include <mdbus/hook.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "clients.h"
#include "lease_request.h"
#include "text.h"

#define SILENCE_NS UINT64_C(5000000000)

/* One client.  Sending is set while the descriptors of a granted lease are on their way. */
struct mdbus_lease_connection {
	struct mdbus_client client;
	struct mdbus_holder *sending;
	uint32_t lease_id;
	uint32_t sent; /* segments of it */
	bool paused;   /* too many descriptors in flight: tried again at the next tick */
};

/* ---- connections ---------------------------------------------------------------------------------------------- */

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

	mdbus_clients_remove(&d->lease_clients, &c->client);
	(void)shutdown(c->client.source.fd, SHUT_RDWR); /* for the other side to see, although queues.c may have it open */
	mdbus_loop_remove(d, &c->client.source);
	free(c);
	if (h)
		mdbus_reclaim(d, h, "it did not take what it was lent");
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
	MDBUS_HOOK("lease.send.before");
	if (rc >= 0)
		rc = send_reply(c->client.source.fd, &r, fd, n);
	MDBUS_HOOK("lease.send.after");
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
	       q->op >= MDBUS_LEASE_LINE && q->op <= MDBUS_LEASE_SHUTDOWN && clean_text(q->bus, sizeof(q->bus)) &&
	       clean_text(q->name, sizeof(q->name));
}

static void cannot_lend(struct mdbus_daemon *d, const struct mdbus_lease_connection *c, int rc)
{
	struct mdbus_lease_reply r = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION };
	const char *mend = rc == -EMFILE ? ": raise the limit of descriptors of mdbusd (ulimit -n)" : mdbus_text_mend(rc);

	mdbus_lease_refuse(d, &r, rc, "bus %s: %s cannot be lent: %s%s", c->sending->bus->config->name,
	                   mdbus_holder_name(c->sending), strerror(-rc), mend);
	mdbus_say("%s", r.error);
	(void)send_reply(c->client.source.fd, &r, NULL, 0); /* whoever has died does not hear it */
}

/* Go on sending what was granted, as far as the client takes it.  May close the connection. */
static void go_on(struct mdbus_daemon *d, struct mdbus_lease_connection *c)
{
	while (c->sending) {
		int rc = still_held(c) ? send_some(c) : -ESRCH;

		if (rc == -EAGAIN || rc == -ETOOMANYREFS) {
			c->paused = rc == -ETOOMANYREFS; /* no event says when that is over */
			mdbus_loop_change(d, &c->client.source, c->paused ? 0 : EPOLLOUT);
			return;
		}
		if (rc < 0) {
			cannot_lend(d, c, rc);
			close_connection(d, c);
			return;
		}
		mdbus_clients_active(&d->lease_clients, &c->client);
		if (c->sent == mdbus_lent_count(c->sending)) {
			c->sending = NULL;
			mdbus_loop_change(d, &c->client.source, EPOLLIN);
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
	ssize_t len = recv(c->client.source.fd, &in, sizeof(in), MSG_DONTWAIT); /* no room for descriptors: none are taken */

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0) {
		close_connection(d, c);
		return;
	}
	bool sense = understood(&in.q, len);
	int rc = sense ? mdbus_process_peer(c->client.source.fd, &p) : 0;
#ifdef MDBUS_MUTANT_trust_message_pid
	p.pid = in.q.id != 0 && in.q.id != MDBUS_LEASE_AGAIN ? (pid_t)in.q.id : p.pid;
#endif
	struct mdbus_holder *h = NULL;

	if (!sense)
		mdbus_lease_refuse(d, &r, -EPROTO, "request not understood: install one version of mdbus");
	else if (rc < 0)
		mdbus_lease_refuse(d, &r, rc, "who asks cannot be told (%s): run in mdbusd's pid namespace", strerror(-rc));
	else
		h = mdbus_lease_serve(d, &in.q, &p, &r);
	if (p.pidfd >= 0)
		close(p.pidfd);
	mdbus_clients_active(&d->lease_clients, &c->client);
	if (h) {
		c->sending = h;
		c->sent = 0;
		c->lease_id = mdbus_holder_lease(h)->id;
		go_on(d, c);
		return;
	}
	rc = send_reply(c->client.source.fd, &r, NULL, 0);
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
	uid_t uid;
	int fd = mdbus_clients_accept(d, s, &uid);

	if (fd < 0)
		return;
	struct mdbus_client *displaced = mdbus_clients_displaced(&d->lease_clients, uid);

	if (displaced)
		close_connection(d, (struct mdbus_lease_connection *)displaced);
	struct mdbus_lease_connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->client.source = (struct mdbus_source){ fd, connection_ready };
	c->client.uid = uid;
	mdbus_clients_add(&d->lease_clients, &c->client);
	if (mdbus_loop_add(d, &c->client.source, EPOLLIN) < 0)
		close_connection(d, c);
}

void mdbus_lease_server_tick(struct mdbus_daemon *d, uint64_t now_ns)
{
	struct mdbus_client *c, *next;

	while ((c = d->lease_clients.last) && now_ns > c->active_ns && now_ns - c->active_ns > SILENCE_NS)
		close_connection(d, (struct mdbus_lease_connection *)c);
	for (c = d->lease_clients.first; c; c = next) {
		struct mdbus_lease_connection *lease = (struct mdbus_lease_connection *)c;

		next = c->next;
		if (lease->paused) {
			lease->paused = false;
			go_on(d, lease);
		}
	}
	mdbus_clients_listen_again(d, &d->listener);
}

int mdbus_lease_server_open(struct mdbus_daemon *d)
{
	return mdbus_clients_listen(d, &d->listener, SOCK_SEQPACKET, "mdbusd.sock", listener_ready);
}

void mdbus_lease_server_close(struct mdbus_daemon *d)
{
	mdbus_loop_remove(d, &d->listener);
	while (d->lease_clients.first)
		close_connection(d, (struct mdbus_lease_connection *)d->lease_clients.first);
}
