/* SPDX-License-Identifier: Apache-2.0
 *
 * ctl_client.c - asking mdbusd; see ctl_client.h.
 *
 * nanomsg connects in the background and would wait for a daemon that is not there; an ordinary connect() first tells
 * at once whether somebody listens.
 */
#include "ctl_client.h"
#include <errno.h>
#include <mdbus/lease.h>
#include <nanomsg/nn.h>
#include <nanomsg/pubsub.h>
#include <nanomsg/reqrep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS 5000

static int somebody_listens(const char *name)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int n = snprintf(to.sun_path, sizeof(to.sun_path), "%s/%s", mdbus_run_dir(), name);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (n < 0 || (size_t)n >= sizeof(to.sun_path) || sock < 0) {
		fprintf(stderr, "mdbusctl: run directory %s: path too long for a socket\n", mdbus_run_dir());
		if (sock >= 0)
			close(sock);
		return -ENAMETOOLONG;
	}
	int rc = connect(sock, (const struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;

	close(sock);
	if (rc == -EACCES)
		fprintf(stderr, "mdbusctl: %s: permission denied: be root or in the group that mdbusd's configuration names\n",
		        to.sun_path);
	else if (rc < 0)
		fprintf(stderr, "mdbusctl: no mdbusd in %s (%s): start mdbusd, or set MDBUS_RUN_DIR to its run directory\n",
		        mdbus_run_dir(), strerror(-rc));
	return rc;
}

static int open_socket(int protocol, const char *name)
{
	char url[256];
	int max = -1, rc = somebody_listens(name);

	if (rc < 0)
		return rc;
	snprintf(url, sizeof(url), "ipc://%s/%s", mdbus_run_dir(), name);
	int sock = nn_socket(AF_SP, protocol);

	if (sock < 0 || nn_setsockopt(sock, NN_SOL_SOCKET, NN_RCVMAXSIZE, &max, sizeof(max)) < 0 ||
	    nn_connect(sock, url) < 0) {
		rc = -nn_errno();
		fprintf(stderr, "mdbusctl: %s: %s\n", url, nn_strerror(-rc));
		return rc;
	}
	return sock;
}

static json_t *exchange(int sock, const char *request)
{
	int ms = ANSWER_MS;
	char *text = NULL;
	json_error_t error;

	nn_setsockopt(sock, NN_SOL_SOCKET, NN_RCVTIMEO, &ms, sizeof(ms));
	nn_setsockopt(sock, NN_SOL_SOCKET, NN_SNDTIMEO, &ms, sizeof(ms));
	if (nn_send(sock, request, strlen(request), 0) < 0) {
		fprintf(stderr, "mdbusctl: mdbusd in %s does not take questions: %s\n", mdbus_run_dir(), nn_strerror(nn_errno()));
		return NULL;
	}
	int n = nn_recv(sock, &text, NN_MSG, 0);

	if (n < 0) {
		fprintf(stderr, "mdbusctl: mdbusd in %s does not answer: %s\n", mdbus_run_dir(), nn_strerror(nn_errno()));
		return NULL;
	}
	json_t *a = json_loadb(text, (size_t)n, 0, &error);

	nn_freemsg(text);
	if (!a)
		fprintf(stderr, "mdbusctl: mdbusd's answer is not JSON: %s\n", error.text);
	return a;
}

json_t *mdbus_ctl_ask(const char *op, const char *bus, bool detail)
{
	int sock = open_socket(NN_REQ, "ctl.ipc");

	if (sock < 0)
		return NULL;
	json_t *q = json_pack("{s:s, s:b}", "op", op, "detail", (int)detail);

	if (bus)
		json_object_set_new(q, "bus", json_string(bus));
	char *text = json_dumps(q, JSON_COMPACT);
	json_t *a = text ? exchange(sock, text) : NULL;

	free(text);
	json_decref(q);
	nn_close(sock);
	if (a && !json_is_true(json_object_get(a, "ok"))) {
		const char *error = json_string_value(json_object_get(a, "error"));

		fprintf(stderr, "mdbusctl: %s\n", error ? error : "mdbusd could not answer");
		json_decref(a);
		return NULL;
	}
	return a;
}

int mdbus_ctl_follow(bool (*each)(const json_t *event, void *arg), void *arg)
{
	int sock = open_socket(NN_SUB, "events.ipc"), rc = 0;
	bool more = true;

	if (sock < 0)
		return sock;
	nn_setsockopt(sock, NN_SUB, NN_SUB_SUBSCRIBE, "", 0);
	while (more && rc == 0) {
		char *text = NULL;
		int n = nn_recv(sock, &text, NN_MSG, 0);

		if (n < 0) {
			rc = nn_errno() == EINTR ? 0 : -nn_errno();
			continue;
		}
		json_t *e = json_loadb(text, (size_t)n, 0, NULL);

		nn_freemsg(text);
		if (e)
			more = each(e, arg);
		json_decref(e);
	}
	nn_close(sock);
	return rc;
}
