/* SPDX-License-Identifier: Apache-2.0
 *
 * ctl.c - mdbusd's side of nanomsg's protocol: ctl.ipc answers questions (REP), events.ipc publishes events (PUB).
 *
 * Clients use nanomsg.  mdbusd speaks its protocol (SP over AF_UNIX) without it: the library ends the whole process at a
 * wrong byte from a client, sets no bound to how many connect, and cannot tell who they are.  The protocol is small:
 *
 *	greeting   0 'S' 'P' 0, kind of socket (16 bits), 0 0        both sides, at once
 *	message    1, length (64 bits), body                         then any number of these; numbers are big-endian
 *	body       of a question and its answer: words of 32 bits, the last one with its highest bit set, which come back as they
 *	           are; then the text.  Of an event: the text.
 *
 * A client costs one request and one answer, or some events, at most: as long as it has not taken an answer nothing more is
 * read from it, and events that a follower has no room for are dropped, which it sees by their numbers.  Whoever breaks the
 * protocol is closed.  These sockets only answer questions; whatever changes something goes through the lease socket.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "clients.h"
#include "lease_request.h"

#define SP_REQ          0x30u
#define SP_REP          0x31u
#define SP_PUB          0x20u
#define SP_SUB          0x21u
#define GREETING        8u
#define HEAD            9u    /* of a message */
#define WORDS_MAX       32u   /* bytes of words before a question */
#define REQUEST_MAX     4096u /* bytes of a body */
#define EVENTS_MAX      65536u /* bytes kept for a slow follower */
#define UNSENT_MAX      (UINT64_C(64) << 20)
#define GREETING_NS     UINT64_C(5000000000)

struct connection {
	struct mdbus_client client;
	bool follower;  /* of events */
	bool greeted, allowed;
	uint32_t have;  /* bytes of in[] */
	uint8_t *out;   /* not taken yet: out[sent..size) */
	size_t sent, size;
	uint8_t in[HEAD + WORDS_MAX + REQUEST_MAX];
};

static struct mdbus_clients *list_of(struct mdbus_daemon *d, const struct connection *c)
{
	return c->follower ? &d->follower_clients : &d->question_clients;
}

static void close_connection(struct mdbus_daemon *d, struct connection *c)
{
	d->unsent -= c->size - c->sent;
	mdbus_clients_remove(list_of(d, c), &c->client);
	mdbus_loop_remove(d, &c->client.source);
	free(c->out);
	free(c);
}

static bool greeting(const struct connection *c)
{
	const uint8_t want[GREETING] = { 0, 'S', 'P', 0, 0, (uint8_t)(c->follower ? SP_SUB : SP_REQ), 0, 0 };

	return memcmp(c->in, want, GREETING) == 0;
}

/* How many bytes the message is that in[] begins with; 0: not all of it is there yet, -1: it breaks the protocol. */
static ssize_t whole(const struct connection *c)
{
	uint64_t len;

	if (!c->greeted)
		return c->have < GREETING ? 0 : greeting(c) ? (ssize_t)GREETING : -1;
	if (c->have > 0 && (c->follower || c->in[0] != 1)) /* followers have nothing to say */
		return -1;
	if (c->have < HEAD)
		return 0;
	memcpy(&len, c->in + 1, sizeof(len));
	len = be64toh(len);
	if (len > sizeof(c->in) - HEAD)
		return -1;
	return c->have < HEAD + len ? 0 : (ssize_t)(HEAD + len);
}

/* ---- out ----------------------------------------------------------------------------------------------------- */

/* Send what there is, as far as it is taken.  False: closed. */
static bool push(struct mdbus_daemon *d, struct connection *c)
{
	while (c->sent < c->size) {
		ssize_t n = send(c->client.source.fd, c->out + c->sent, c->size - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			mdbus_loop_change(d, &c->client.source, EPOLLOUT);
			return true;
		}
		if (n <= 0) {
			close_connection(d, c);
			return false;
		}
		c->sent += (size_t)n;
		d->unsent -= (size_t)n;
		mdbus_clients_active(list_of(d, c), &c->client);
	}
	free(c->out);
	c->out = NULL;
	c->sent = c->size = 0;
	/* a question that is here already gets its turn like everybody's */
	mdbus_loop_change(d, &c->client.source, whole(c) != 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
	return true;
}

static bool append(struct mdbus_daemon *d, struct connection *c, const void *bytes, size_t n)
{
	size_t left = c->size - c->sent;
	uint8_t *out = malloc(left + n);

	if (!out || d->unsent + n > UNSENT_MAX) {
		free(out);
		return false;
	}
	if (left > 0)
		memcpy(out, c->out + c->sent, left);
	memcpy(out + left, bytes, n);
	free(c->out);
	c->out = out;
	c->sent = 0;
	c->size = left + n;
	d->unsent += n;
	return true;
}

/* A message: head, words, text.  False: no room for all of it, and nothing was added. */
static bool append_message(struct mdbus_daemon *d, struct connection *c, const void *words, size_t nwords, const char *text,
                           size_t len)
{
	uint64_t size = htobe64(nwords + len);
	uint8_t *m = malloc(HEAD + nwords + len);
	bool ok = m != NULL;

	if (ok) {
		m[0] = 1;
		memcpy(m + 1, &size, sizeof(size));
		if (nwords > 0)
			memcpy(m + HEAD, words, nwords);
		memcpy(m + HEAD + nwords, text, len);
		ok = append(d, c, m, HEAD + nwords + len);
	}
	free(m);
	return ok;
}

/* ---- in ------------------------------------------------------------------------------------------------------ */

static json_t *answer(struct mdbus_daemon *d, const struct connection *c, const char *text, size_t len)
{
	if (c->allowed)
		return mdbus_query_answer(d, text, len);
	return json_pack("{s:b, s:s}", "ok", 0, "error",
	                 "permission denied: join one of the groups that mdbusd's configuration names");
}

/* One question: body[0..len).  False: it breaks the protocol. */
static bool question(struct mdbus_daemon *d, struct connection *c, const uint8_t *body, size_t len)
{
	size_t words = 0;
	bool last = false;

	while (!last && words + 4u <= len && words < WORDS_MAX) {
		last = (body[words] & 0x80u) != 0;
		words += 4u;
	}
	if (!last)
		return false;
	json_t *a = answer(d, c, (const char *)body + words, len - words);
	char *out = a ? json_dumps(a, JSON_COMPACT) : NULL;
	bool ok = out && append_message(d, c, body, words, out, strlen(out));

	free(out);
	json_decref(a);
	return ok;
}

/* False: closed. */
static bool take_in(struct mdbus_daemon *d, struct connection *c)
{
	ssize_t n = recv(c->client.source.fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		close_connection(d, c);
		return false;
	}
	c->have += (uint32_t)n;
	mdbus_clients_active(list_of(d, c), &c->client);
	return true;
}

/* The greeting or one question; more of them have to wait for their turn.  False: closed. */
static bool digest(struct mdbus_daemon *d, struct connection *c)
{
	ssize_t n = whole(c);

	if (n < 0 || (n > 0 && c->greeted && !question(d, c, c->in + HEAD, (size_t)n - HEAD))) {
		close_connection(d, c);
		return false;
	}
	c->greeted = c->greeted || n > 0;
	c->have -= (uint32_t)n;
	memmove(c->in, c->in + n, c->have);
	return true;
}

static void connection_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	struct connection *c = (struct connection *)s;

	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
		close_connection(d, c);
		return;
	}
	if (events & EPOLLIN && whole(c) == 0 && !take_in(d, c))
		return;
	if ((c->size > 0 && !c->follower) || digest(d, c))
		(void)push(d, c);
}

static void accept_one(struct mdbus_daemon *d, struct mdbus_source *listener, bool follower)
{
	struct mdbus_clients *list = follower ? &d->follower_clients : &d->question_clients;
	const uint8_t hello[GREETING] = { 0, 'S', 'P', 0, 0, (uint8_t)(follower ? SP_PUB : SP_REP), 0, 0 };
	struct mdbus_process p;
	uid_t uid;
	int fd = mdbus_clients_accept(d, listener, &uid);

	if (fd < 0)
		return;
	struct mdbus_client *displaced = mdbus_clients_displaced(list, uid);

	if (displaced)
		close_connection(d, (struct connection *)displaced);
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->client.source = (struct mdbus_source){ fd, connection_ready };
	c->client.uid = uid;
	c->follower = follower;
	c->allowed = mdbus_process_peer_user(fd, &p) == 0 && mdbus_lease_allowed(d, &p, MDBUS_LEASE_SEAT);
	mdbus_clients_add(list, &c->client);
	if (mdbus_loop_add(d, &c->client.source, EPOLLIN) < 0 || !append(d, c, hello, sizeof(hello)))
		close_connection(d, c);
	else
		(void)push(d, c);
}

static void questions_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	(void)events;
	accept_one(d, s, false);
}

static void followers_ready(struct mdbus_daemon *d, struct mdbus_source *s, uint32_t events)
{
	(void)events;
	accept_one(d, s, true);
}

/* ---- for the rest of mdbusd ---------------------------------------------------------------------------------- */

void mdbus_ctl_publish(struct mdbus_daemon *d, const char *text, size_t len)
{
	struct mdbus_client *next;

	for (struct mdbus_client *client = d->follower_clients.first; client; client = next) {
		struct connection *c = (struct connection *)client;

		next = client->next;
		if (c->allowed && c->greeted && c->size - c->sent < EVENTS_MAX && append_message(d, c, NULL, 0, text, len))
			(void)push(d, c);
	}
}

static void tick(struct mdbus_daemon *d, const struct mdbus_clients *list, uint64_t now_ns)
{
	struct mdbus_client *prev;

	for (struct mdbus_client *client = list->last; client; client = prev) {
		struct connection *c = (struct connection *)client;

		prev = client->prev;
		if (!c->greeted && now_ns > client->active_ns && now_ns - client->active_ns > GREETING_NS)
			close_connection(d, c);
	}
}

void mdbus_ctl_tick(struct mdbus_daemon *d, uint64_t now_ns)
{
	tick(d, &d->question_clients, now_ns);
	tick(d, &d->follower_clients, now_ns);
	mdbus_clients_listen_again(d, &d->questions);
	mdbus_clients_listen_again(d, &d->followers);
}

int mdbus_ctl_open(struct mdbus_daemon *d)
{
	int rc = mdbus_clients_listen(d, &d->followers, SOCK_STREAM, "events.ipc", followers_ready);

	return rc < 0 ? rc : mdbus_clients_listen(d, &d->questions, SOCK_STREAM, "ctl.ipc", questions_ready);
}

void mdbus_ctl_close(struct mdbus_daemon *d)
{
	mdbus_loop_remove(d, &d->questions);
	mdbus_loop_remove(d, &d->followers);
	while (d->question_clients.first)
		close_connection(d, (struct connection *)d->question_clients.first);
	while (d->follower_clients.first)
		close_connection(d, (struct connection *)d->follower_clients.first);
}
