/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_recover.c - the answers of MoldUDP64 request servers as a line.
 *
 * What other lines receive from the feed, this one receives by asking.  It looks at the rings for holes that are
 * worth asking for (mdbus_resolver_wanted), asks for them (recover_ask.h), and hands the answers over like any
 * packets; what they fill and what comes too late is decided by the ring, as ever.
 *
 * Each channel has a socket of its own, connected to the server it asks, so the kernel keeps everybody else's packets
 * away.  Of the server's it believes those of the session asked for, within the numbers asked for.  The session's
 * bytes come from the lines that receive it, and are believed if their hash is that of the ring's generation.  A
 * session that has started its numbers again cannot be recovered: an answer would not say which of two messages of
 * one number it holds.
 *
 * None of this is hot: it runs some thousand times a second, and whenever an answer comes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "../bus/channel.h"
#include "../bus/mold.h"
#include "backend.h"
#include "recover_ask.h"

#define LOOK_NS    200000u  /* between two looks for holes */
#define SCAN_MAX   8192u    /* positions looked at, at most, of one channel */
#define HOLES_MAX  64u
#define EVENTS_MAX 64
#define RCVBUF     (1 << 20)

struct recover_line;

struct recover_channel {
	struct recover_line *line;
	struct mdbus_channel *channel;
	int32_t flow;
	int fd;
	uint32_t connected; /* server that fd is connected to, UINT32_MAX: none */
	uint64_t gen;       /* that `ask` is about, 0: none */
	bool named;         /* `session` is that generation's */
	bool ambiguous;     /* it had the same numbers before, or has them again */
	uint8_t session[MDBUS_MOLD_SESSION];
	struct mdbus_ask ask;
};

struct recover_line {
	struct mdbus_backend_env env; /* a copy; error unused */
	struct mdbus_ask_limits limits;
	struct mdbus_ask_counts counts;
	uint32_t nserver;
	struct mdbus_server_desc server[MDBUS_SERVERS_MAX];
	int epoll;
	uint32_t n, turn;
	uint64_t look_ns;
	struct recover_channel *channel;
};

/* ---- asking ------------------------------------------------------------------------------------------------ */

static void send_request(void *arg, uint32_t server, uint64_t first, uint16_t count)
{
	struct recover_channel *rc = arg;
	const struct mdbus_server_desc *s = &rc->line->server[server];
	struct mdbus_mold_request r = { .first = first, .count = count };
	uint8_t bytes[MDBUS_MOLD_HEADER];

	if (rc->connected != server) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = s->addr, .sin_port = htons(s->port) };

		rc->connected = connect(rc->fd, (struct sockaddr *)&to, sizeof(to)) == 0 ? server : UINT32_MAX;
	}
	memcpy(r.session, rc->session, sizeof(r.session));
	mdbus_mold_put(bytes, &r);
	/* a server that is not there is as good as silent: the retry comes to the next one */
	(void)send(rc->fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The session bytes of a line are those of generation g. */
static bool is_session_of(const struct mdbus_layout *l, const uint8_t *session, const struct mdbus_gen *g)
{
	struct mdbus_mold_request r = { .first = 1 };
	struct mdbus_packet d;
	uint8_t header[MDBUS_MOLD_HEADER];

	memcpy(r.session, session, sizeof(r.session));
	mdbus_mold_put(header, &r); /* without messages: a heartbeat */
	return mdbus_layout_decode(l, header, sizeof(header), &d) == MDBUS_DECODE_OK &&
	       mdbus_gen_session(d.session) == g->session;
}

/* Learn the session's bytes from the lines that have received it. */
static bool learn_session(struct recover_channel *rc)
{
	const struct mdbus_bus *bus = rc->line->env.bus;
	const struct mdbus_resolver *v = &rc->channel->resolver;

	for (uint32_t k = 0; k < MDBUS_LINES_MAX && !rc->named; k++) {
		const struct mdbus_line_channel *lc = mdbus_bus_line_channel(bus, k, rc->channel->index);

		if (!(v->line_mask >> k & 1u) || lc == NULL)
			continue;

		memcpy(rc->session, lc->session[v->gen.gen % 4u], sizeof(rc->session));
		rc->named = is_session_of(&rc->channel->desc.layout, rc->session, &v->gen);
	}
	return rc->named;
}

/* The numbers of generation g stood, or stand, in another generation of the same session too. */
static bool is_ambiguous(const struct mdbus_ring_hdr *ring, const struct mdbus_gen *g)
{
	uint64_t newest = mdbus_gen_newest(ring), from = newest > MDBUS_GENERATIONS / 2u ? newest - MDBUS_GENERATIONS / 2u : 1;
	uint32_t restarts = 0;
	bool mine = false;

	/* a jump goes on in its generation's session with higher numbers; anything else in the same session starts again */
	for (uint64_t i = from; i <= newest; i++) {
		struct mdbus_gen o;

		if (!mdbus_gen_get(ring, i, &o) || o.session != g->session)
			continue;
		restarts += i == from || !(o.flags & MDBUS_GEN_JUMPED);
		mine |= i == g->gen;
	}
	return !mine || restarts > 1;
}

/* The holes of a channel below position `end`, as numbers. */
static uint32_t find_holes(const struct mdbus_resolver *v, uint64_t end, struct mdbus_hole *holes)
{
	uint32_t n = 0;

	if (end - v->head > SCAN_MAX)
		end = v->head + SCAN_MAX;
	for (uint64_t pos = v->head; pos < end; pos++) {
		uint64_t stamp = mdbus_load_acquire(&mdbus_ring_slot(&v->ring, pos)->head.lo);

		if (mdbus_stamp_is(stamp, pos, v->gen.gen) || mdbus_stamp_pos(stamp) > pos)
			continue;
		if (!mdbus_hole_add(holes, &n, HOLES_MAX, v->gen.first_seq + (pos - v->gen.base)))
			break;
	}
	return n;
}

static void look_at_channel(struct recover_channel *rc, uint64_t now)
{
	struct mdbus_resolver *v = &rc->channel->resolver;
	uint64_t end = mdbus_resolver_wanted(v, now);
	struct mdbus_hole holes[HOLES_MAX];
	uint32_t n = 0;

	if (v->gen.gen != rc->gen) {
		rc->gen = v->gen.gen;
		rc->named = false;
		mdbus_ask_forget(&rc->ask);
	}
	if (end > v->head && (rc->named || learn_session(rc)) && !is_ambiguous(v->ring.hdr, &v->gen))
		n = find_holes(v, end, holes);
	mdbus_ask_tick(&rc->ask, holes, n, now);
}

static void publish_counts(const struct recover_line *l)
{
	mdbus_store_relaxed(&l->env.arena->count.requests, l->counts.sent);
	mdbus_store_relaxed(&l->env.arena->count.requests_repeated, l->counts.repeated);
	mdbus_store_relaxed(&l->env.arena->count.answers, l->counts.answers);
	mdbus_store_relaxed(&l->env.arena->count.answers_refused, l->counts.refused);
}

/* After each batch, when what has come is in the rings: ask for what is still missing. */
static void recover_refill(void *self)
{
	struct recover_line *l = self;
	uint64_t now = mdbus_clock_ns();

	if (now - l->look_ns < LOOK_NS)
		return;
	l->look_ns = now;
	l->turn++; /* no channel has the first call on the rate */
	for (uint32_t i = 0; i < l->n; i++)
		look_at_channel(&l->channel[(l->turn + i) % l->n], now);
	publish_counts(l);
}

/* ---- answers ----------------------------------------------------------------------------------------------- */

/* True if these bytes are an answer to what this channel has asked for, and hold all messages that they count. */
static bool is_answer(struct recover_channel *rc, const uint8_t *bytes, uint32_t len, uint64_t now)
{
	static struct mdbus_message m[MDBUS_MESSAGES_MAX];
	const struct mdbus_layout *l = &rc->channel->desc.layout;
	struct mdbus_packet d;
	uint32_t n;

	if (!rc->named || mdbus_layout_decode(l, bytes, len, &d) != MDBUS_DECODE_OK ||
	    memcmp(bytes, rc->session, sizeof(rc->session)) != 0 ||
	    mdbus_layout_messages(l, bytes, len, &d, m, MDBUS_MESSAGES_MAX, &n) != MDBUS_DECODE_OK || n != d.count) {
		rc->ask.counts->refused++;
		return false;
	}
	/* a heartbeat says that the server has no more; whoever knows better will ask again */
	return !d.no_messages && mdbus_ask_answer(&rc->ask, d.seq, d.count, now);
}

/* Take what has come for one channel; at most max packets. */
static uint32_t receive(struct recover_line *l, struct recover_channel *rc, struct mdbus_rx *rx, uint32_t max)
{
	uint32_t room = l->env.arena->frame_size - MDBUS_FRAME_META, got = 0, frame;
	uint64_t now = mdbus_clock_ns();

	while (got < max && mdbus_frames_get(l->env.pool, &frame)) {
		uint8_t *to = l->env.frames + (uint64_t)frame * l->env.arena->frame_size + MDBUS_FRAME_META;
		ssize_t n = recv(rc->fd, to, room, MSG_DONTWAIT | MSG_TRUNC);

		if (n >= 0 && (uint64_t)n <= room && is_answer(rc, to, (uint32_t)n, now)) {
			rx[got++] = (struct mdbus_rx){
				.frame = frame, .off = MDBUS_FRAME_META, .len = (uint32_t)n, .flow = rc->flow,
			};
			continue;
		}
		mdbus_frames_put(l->env.pool, frame);
		if (n < 0 && errno != ECONNREFUSED) /* that one is about a request, and is taken off by being read */
			break;
		if (n > (ssize_t)room)
			mdbus_count(&l->env.arena->count.bad_length, 1u);
	}
	if (got > 0)
		l->look_ns = 0; /* the rest of a truncated answer is asked for at once */
	return got;
}

static int recover_poll(void *self, struct mdbus_rx *rx, uint32_t max)
{
	struct recover_line *l = self;
	struct epoll_event event[EVENTS_MAX];
	int n = epoll_wait(l->epoll, event, EVENTS_MAX, 0);
	uint32_t got = 0;

	for (int i = 0; i < n && got < max; i++)
		got += receive(l, event[i].data.ptr, rx + got, max - got);
	return (int)got;
}

static void recover_wait(void *self, uint32_t timeout_us)
{
	const struct recover_line *l = self;
	struct pollfd fd = { .fd = l->epoll, .events = POLLIN };
	struct timespec t = { .tv_sec = timeout_us / 1000000u, .tv_nsec = (long)(timeout_us % 1000000u) * 1000 };

	(void)ppoll(&fd, 1, &t, NULL);
}

static void recover_stats(void *self)
{
	publish_counts(self);
}

/* ---- open and close ---------------------------------------------------------------------------------------- */

static void recover_close(void *self)
{
	struct recover_line *l = self;

	for (uint32_t i = 0; i < l->n; i++)
		if (l->channel[i].fd >= 0)
			close(l->channel[i].fd);
	if (l->epoll >= 0)
		close(l->epoll);
	free(l->channel);
	free(l);
}

static int open_channel(struct recover_line *l, int32_t flow, uint32_t number)
{
	struct recover_channel *rc = &l->channel[l->n];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = rc };
	int size = RCVBUF;

	*rc = (struct recover_channel){
		.line = l,
		.channel = &l->env.channel[number],
		.flow = flow,
		.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
		.connected = UINT32_MAX,
		.ask = { .limits = &l->limits, .counts = &l->counts, .send = send_request, .arg = rc },
	};
	l->n++;
	if (rc->fd < 0)
		return -errno;
	(void)setsockopt(rc->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, rc->fd, &event) == 0 ? 0 : -errno;
}

/* Counters go on where the last process of this line left them. */
static void take_counts(struct recover_line *l)
{
	l->counts = (struct mdbus_ask_counts){
		.sent = mdbus_load_relaxed(&l->env.arena->count.requests),
		.repeated = mdbus_load_relaxed(&l->env.arena->count.requests_repeated),
		.answers = mdbus_load_relaxed(&l->env.arena->count.answers),
		.refused = mdbus_load_relaxed(&l->env.arena->count.answers_refused),
	};
}

/* Read the line's description; shared memory may hold anything. */
static bool take_limits(struct recover_line *l, const struct mdbus_line_desc *d)
{
	l->nserver = d->nserver < MDBUS_SERVERS_MAX ? d->nserver : MDBUS_SERVERS_MAX;
	memcpy(l->server, d->server, sizeof(l->server));
	l->limits = (struct mdbus_ask_limits){
		.rate = d->request_rate,
		.max = d->request_max < MDBUS_MOLD_COUNT_MAX ? d->request_max : MDBUS_MOLD_COUNT_MAX,
		.retry_ns = (uint64_t)d->retry_ms * 1000000u,
		.backoff_max_ns = (uint64_t)d->backoff_max_ms * 1000000u,
		.nserver = l->nserver,
	};
	return l->nserver > 0 && l->limits.rate > 0 && l->limits.max > 0 && l->limits.retry_ns > 0;
}

static int open_all(struct recover_line *l, struct mdbus_backend_env *env)
{
	int rc = 0;

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0)
		rc = -errno;
	l->channel = calloc(env->nflow, sizeof(*l->channel));
	if (l->channel == NULL)
		rc = -ENOMEM;
	for (uint32_t f = 0; rc == 0 && f < env->nflow; f++) {
		uint32_t number = env->flows[f].port - 1u;

		if (env->bus == NULL || number >= env->bus->dir->nchannel ||
		    !(env->bus->dir->channel[number].line_mask >> env->arena->line & 1u) ||
		    !mdbus_mold_layout(&env->channel[number].desc.layout)) {
			snprintf(env->error, sizeof(env->error), "the bus directory says nothing of use about channel %u", number);
			return -EBADMSG;
		}
		rc = open_channel(l, (int32_t)f, number);
	}
	if (rc != 0)
		snprintf(env->error, sizeof(env->error), "cannot open a socket for each of %u channels: %s", env->nflow,
		         strerror(-rc));
	return rc;
}

static void *recover_open(struct mdbus_backend_env *env)
{
	struct recover_line *l = calloc(1, sizeof(*l));

	env->error[0] = '\0';
	if (l == NULL) {
		snprintf(env->error, sizeof(env->error), "out of memory");
		return NULL;
	}
	l->env = *env;
	take_counts(l);
	l->epoll = -1;
	if (!take_limits(l, env->line))
		snprintf(env->error, sizeof(env->error), "line %s: backend recover needs servers and limits of requests",
		         env->line->name);
	else if (open_all(l, env) == 0) {
		snprintf(env->arena->backend, sizeof(env->arena->backend), "recover, %u server%s", l->nserver,
		         l->nserver == 1 ? "" : "s");
		return l;
	}
	recover_close(l);
	return NULL;
}

const struct mdbus_backend_ops mdbus_backend_recover = {
	.name = "recover",
	.open = recover_open,
	.poll = recover_poll,
	.refill = recover_refill,
	.wait = recover_wait,
	.stats = recover_stats,
	.close = recover_close,
};
