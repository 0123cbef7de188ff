/* SPDX-License-Identifier: Apache-2.0
 *
 * ctl.c - mdbusd's two nanomsg sockets: ctl.ipc answers questions, events.ipc publishes events.
 *
 * nanomsg hands messages over through a descriptor that epoll can wait for; its own threads do the socket work.  A
 * request may be garbage of any kind: the answer is then an error, and nanomsg itself drops what is too large.  nanomsg
 * knows no peers, so these sockets only ever answer questions; whatever changes something goes through the lease
 * socket.  Who may connect is a matter of the files' modes.  No process is ever forked.
 */
#include <errno.h>
#include <nanomsg/nn.h>
#include <nanomsg/pubsub.h>
#include <nanomsg/reqrep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon.h"

#define REQUEST_MAX 65536 /* bytes */

static void reply(struct mdbus_daemon *d, const char *text, size_t len)
{
	json_t *a = mdbus_query_answer(d, text, len);
	char *out = a ? json_dumps(a, JSON_COMPACT) : NULL;

	/* never blocks: a client that does not read loses its answer */
	(void)nn_send(d->ctl_socket, out ? out : "{\"ok\":false}", out ? strlen(out) : 12u, NN_DONTWAIT);
	free(out);
	json_decref(a);
}

static void ctl_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	char *text = NULL;

	(void)s;
	(void)events;
	int n = nn_recv(d->ctl_socket, &text, NN_MSG, NN_DONTWAIT);

	if (n < 0)
		return;
	reply(d, text, (size_t)n);
	nn_freemsg(text);
}

/* The file has one group: the subscribers', who are more; an admin who is not one of them is root or joins them. */
static int set_access(const struct mdbus_daemon *d, const char *path)
{
	int gid = d->config.subscriber_gid >= 0 ? d->config.subscriber_gid : d->config.admin_gid;

	if (gid >= 0 && chown(path, (uid_t)-1, (gid_t)gid) < 0)
		return -errno;
	return chmod(path, gid >= 0 ? 0660 : 0600) < 0 ? -errno : 0;
}

static int open_one(struct mdbus_daemon *d, int protocol, const char *name, int *sock)
{
	char url[MDBUS_RUN_PATH_MAX + 32];

	snprintf(url, sizeof(url), "ipc://%s/%s", d->run, name);
	unlink(url + 6);
	*sock = nn_socket(AF_SP, protocol);
	if (*sock < 0)
		return -nn_errno();
	mode_t mask = umask(0177);
	int rc = nn_bind(*sock, url) < 0 ? -nn_errno() : 0;

	umask(mask);
	if (rc == 0)
		rc = set_access(d, url + 6);
	if (rc < 0)
		mdbus_say("%s: %s", url, nn_strerror(-rc));
	return rc;
}

int mdbus_ctl_open(struct mdbus_daemon *d)
{
	int max = REQUEST_MAX, fd;
	size_t size = sizeof(fd);
	int rc = open_one(d, NN_PUB, "events.ipc", &d->event_socket);

	if (rc == 0)
		rc = open_one(d, NN_REP, "ctl.ipc", &d->ctl_socket);
	if (rc == 0 && (nn_setsockopt(d->ctl_socket, NN_SOL_SOCKET, NN_RCVMAXSIZE, &max, sizeof(max)) < 0 ||
	                nn_getsockopt(d->ctl_socket, NN_SOL_SOCKET, NN_RCVFD, &fd, &size) < 0))
		rc = -nn_errno();
	if (rc < 0)
		return rc;
	d->ctl = (struct mdbus_source){ fd, ctl_ready };
	return mdbus_loop_add(d, &d->ctl, EPOLLIN);
}

void mdbus_ctl_publish(struct mdbus_daemon *d, const char *text, size_t len)
{
	if (d->event_socket >= 0)
		(void)nn_send(d->event_socket, text, len, NN_DONTWAIT);
}

void mdbus_ctl_close(struct mdbus_daemon *d)
{
	d->ctl.fd = -1; /* nanomsg's descriptor, closed by it */
	if (d->ctl_socket >= 0)
		nn_close(d->ctl_socket);
	if (d->event_socket >= 0)
		nn_close(d->event_socket);
	d->ctl_socket = d->event_socket = -1;
}
