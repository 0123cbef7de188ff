/* SPDX-License-Identifier: Apache-2.0
 *
 * clients.c - connections and their bounds; see clients.h.
 */
#include "clients.h"
#include "text.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int open_socket(int type, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

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

/* Three roles may knock, and a file has one group: with different groups everybody may, and is asked inside. */
static int set_access(const struct mdbus_daemon *d, const char *path)
{
	const int group[] = { d->config.subscriber_gid, d->config.ingest_gid, d->config.admin_gid };
	mode_t mode = 0600;
	int gid = -1;

	for (size_t i = 0; i < sizeof(group) / sizeof(group[0]); i++) {
		if (group[i] >= 0) {
			mode = gid < 0 || (gid == group[i] && mode == 0660) ? 0660 : 0666;
			gid = group[i];
		}
	}
	if (mode == 0660 && chown(path, (uid_t)-1, (gid_t)gid) < 0)
		return -errno;
	return chmod(path, mode) < 0 ? -errno : 0;
}

int mdbus_clients_listen(struct mdbus_daemon *d, struct mdbus_source *s, int type, const char *name,
                         void (*ready)(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events))
{
	char path[MDBUS_RUN_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", d->run, name);
	int fd = open_socket(type, path), rc = fd < 0 ? fd : set_access(d, path);

	*s = (struct mdbus_source){ fd < 0 ? -1 : fd, ready };
	if (rc == 0)
		rc = mdbus_loop_add(d, s, EPOLLIN);
	if (rc < 0)
		mdbus_say("%s: %s%s", path, strerror(-rc), mdbus_text_mend(rc));
	return rc;
}

int mdbus_clients_accept(struct mdbus_daemon *d, struct mdbus_source *listener, uid_t *uid)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			mdbus_loop_change(d, listener, 0);
		return -1;
	}
#ifdef MDBUS_MUTANT_wait_for_clients
	(void)poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 100);
#endif
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	*uid = peer.uid;
	return fd;
}

void mdbus_clients_listen_again(struct mdbus_daemon *d, struct mdbus_source *listener)
{
	mdbus_loop_change(d, listener, EPOLLIN);
}

struct mdbus_client *mdbus_clients_displaced(const struct mdbus_clients *l, uid_t uid)
{
	struct mdbus_client *own = NULL, *last = NULL;
	uint32_t n = 0;

#ifdef MDBUS_MUTANT_clients_without_bound
	return NULL;
#endif
	for (struct mdbus_client *c = l->first; c; c = c->next) {
		last = c;
		if (c->uid == uid) {
			own = c;
			n++;
		}
	}
	if (n >= MDBUS_CLIENTS_SHARE)
		return own;
	return l->count >= MDBUS_CLIENTS_MAX ? last : NULL;
}

static void put_first(struct mdbus_clients *l, struct mdbus_client *c)
{
	c->active_ns = mdbus_clock_ns();
	c->prev = NULL;
	c->next = l->first;
	if (c->next)
		c->next->prev = c;
	else
		l->last = c;
	l->first = c;
}

static void take_out(struct mdbus_clients *l, struct mdbus_client *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		l->first = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		l->last = c->prev;
	c->next = c->prev = NULL;
}

void mdbus_clients_add(struct mdbus_clients *l, struct mdbus_client *c)
{
	put_first(l, c);
	l->count++;
}

void mdbus_clients_remove(struct mdbus_clients *l, struct mdbus_client *c)
{
	take_out(l, c);
	l->count--;
}

void mdbus_clients_active(struct mdbus_clients *l, struct mdbus_client *c)
{
	take_out(l, c);
	put_first(l, c);
}
