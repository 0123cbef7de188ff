/* SPDX-License-Identifier: Apache-2.0
 *
 * feed_serve.c - see feed_serve.h.
 *
 * A session's messages lie one after another in a ring of bytes, and a second ring says for each number where: so a
 * request finds its first message by its number, and the memory of each is bounded whatever the feed does.  Both
 * rings are mapped whole and touched only as far as they are used.
 */
#include "feed_serve.h"
#include "../bus/mold.h"
#include <arpa/inet.h>
#include <errno.h>
#include <mdbus/atomics.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SESSIONS   8u         /* kept; the one not touched for longest goes first */
#define NUMBERS    (1u << 18) /* messages of a session */
#define BYTES      (1u << 24) /* of its messages */
#define ANSWER_MAX 1400u      /* bytes of an answer, unless its first message alone is longer */
#define MESSAGE_MAX 65537u
#define WAITING    4096u      /* requests whose answers are not yet due */

struct place {
	uint64_t at; /* bytes written before it, ever */
	uint32_t len; /* 0: never sent */
};

struct session {
	uint8_t name[MDBUS_MOLD_SESSION];
	uint16_t stream;
	uint32_t epoch;
	uint64_t first, next; /* numbers kept, some of them perhaps overwritten */
	uint64_t written;     /* bytes, ever */
	uint64_t used;        /* when it last grew, in packets */
	struct place *place;  /* [NUMBERS], NULL: not in use */
	uint8_t *bytes;       /* [BYTES] */
};

struct waiting {
	uint64_t due_ns;
	struct sockaddr_in from;
	struct mdbus_mold_request request;
};

struct mdbus_feed_serve {
	struct mdbus_feed_serve_spec spec;
	int fd;
	uint64_t seed, draws, packets;
	uint32_t first, nwaiting;
	struct mdbus_feed_serve_stats stats;
	struct session session[SESSIONS];
	struct waiting waiting[WAITING];
	uint8_t answer[MDBUS_MOLD_HEADER + MESSAGE_MAX];
};

/* ---- what was sent ------------------------------------------------------------------------------------------ */

static void *ring_map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void session_free(struct session *k)
{
	if (k->place != NULL)
		munmap(k->place, NUMBERS * sizeof(*k->place));
	if (k->bytes != NULL)
		munmap(k->bytes, BYTES);
	memset(k, 0, sizeof(*k));
}

static struct session *session_new(struct mdbus_feed_serve *s, const struct mdbus_feed_packet *p)
{
	struct session *k = &s->session[0];

	for (uint32_t i = 1; i < SESSIONS; i++)
		if (s->session[i].used < k->used)
			k = &s->session[i];
	session_free(k);
	k->place = ring_map(NUMBERS * sizeof(*k->place));
	k->bytes = ring_map(BYTES);
	if (k->place == NULL || k->bytes == NULL) {
		session_free(k);
		return NULL;
	}
	memcpy(k->name, p->data, sizeof(k->name));
	k->stream = p->stream;
	return k;
}

/* Of a stream, or of whichever stream has it (UINT32_MAX). */
static struct session *session_find(struct mdbus_feed_serve *s, const uint8_t *name, uint32_t stream)
{
	for (uint32_t i = 0; i < SESSIONS; i++) {
		struct session *k = &s->session[i];

		if (k->place != NULL && (stream == UINT32_MAX || stream == k->stream) &&
		    memcmp(k->name, name, sizeof(k->name)) == 0)
			return k;
	}
	return NULL;
}

static void message_keep(struct session *k, uint64_t seq, const uint8_t *bytes, uint32_t len)
{
	uint64_t at = k->written;

	if (seq < k->next || len == 0 || len > MESSAGE_MAX)
		return; /* a repetition */
	if (k->next == 0 || seq - k->next >= NUMBERS)
		k->first = k->next = seq;
	for (; k->next < seq; k->next++)
		k->place[k->next % NUMBERS].len = 0;
	k->place[seq % NUMBERS] = (struct place){ at, len };
	for (uint32_t i = 0; i < len; i++)
		k->bytes[(at + i) % BYTES] = bytes[i];
	k->written += len;
	k->next = seq + 1;
	if (k->next - k->first > NUMBERS)
		k->first = k->next - NUMBERS;
}

int mdbus_feed_serve_keep(struct mdbus_feed_serve *s, const struct mdbus_feed_packet *p)
{
	struct session *k;

	s->packets++;
	if (p->nmsg == 0 || p->len < MDBUS_MOLD_HEADER)
		return 0;
	k = session_find(s, p->data, p->stream);
	if (k == NULL)
		k = session_new(s, p);
	if (k == NULL)
		return -ENOMEM;
	if (k->epoch != p->epoch)
		k->first = k->next = 0; /* its numbers start again */
	k->epoch = p->epoch;
	k->used = s->packets;
	for (uint32_t i = 0; i < p->nmsg; i++)
		message_keep(k, p->msg[i].seq, p->data + p->msg[i].off, p->msg[i].len);
	return 0;
}

/* ---- answers ------------------------------------------------------------------------------------------------ */

static bool is_kept(const struct session *k, uint64_t seq)
{
	const struct place *p = &k->place[seq % NUMBERS];

	return seq >= k->first && seq < k->next && p->len > 0 && k->written - p->at <= BYTES;
}

/* Put messages from r->first on into the answer; r->count becomes how many.  Returns the answer's length. */
static uint32_t fill(struct mdbus_feed_serve *s, const struct session *k, struct mdbus_mold_request *r)
{
	uint32_t most = s->spec.truncate > 0 && s->spec.truncate < r->count ? s->spec.truncate : r->count;
	uint32_t len = MDBUS_MOLD_HEADER, n = 0;

	for (; n < most && is_kept(k, r->first + n); n++) {
		const struct place *p = &k->place[(r->first + n) % NUMBERS];

		if (n > 0 && len + p->len > ANSWER_MAX)
			break;
		for (uint32_t i = 0; i < p->len; i++)
			s->answer[len + i] = k->bytes[(p->at + i) % BYTES];
		len += p->len;
	}
	r->count = (uint16_t)n;
	return len;
}

/* Pseudo-random and uniform in [0, 1): a function of the seed and how many were drawn. */
static double draw(struct mdbus_feed_serve *s)
{
	uint64_t x = (s->seed ^ UINT64_C(0x5e7e5e7e5e7e5e7e)) + ++s->draws * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

static void answer(struct mdbus_feed_serve *s, const struct waiting *w)
{
	const struct session *k = session_find(s, w->request.session, UINT32_MAX);
	struct mdbus_mold_request r = w->request;
	uint32_t len;

	if (k == NULL || (r.first < k->next && !is_kept(k, r.first)) || r.count == 0) {
		s->stats.unknown++;
		return;
	}
	if (r.first > k->next)
		r.first = k->next; /* a heartbeat: this number comes next */
	len = fill(s, k, &r);
	if (draw(s) < s->spec.loss) {
		s->stats.lost++;
		return;
	}
	mdbus_mold_put(s->answer, &r);
	if (sendto(s->fd, s->answer, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&w->from, sizeof(w->from)) < 0)
		return;
	s->stats.answers++;
	s->stats.messages += r.count;
	s->stats.heartbeats += r.count == 0;
}

/* ---- requests ----------------------------------------------------------------------------------------------- */

static void take_requests(struct mdbus_feed_serve *s, uint64_t now)
{
	for (uint32_t i = 0; i < WAITING; i++) {
		uint8_t bytes[MDBUS_MOLD_HEADER + 1];
		struct waiting w = { .due_ns = now + s->spec.delay_ns };
		socklen_t size = sizeof(w.from);
		ssize_t n = recvfrom(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT, (struct sockaddr *)&w.from, &size);

		if (n < 0 && errno != ECONNREFUSED)
			return;
		if (n < 0)
			continue;
		s->stats.requests++;
		if (!mdbus_mold_get(bytes, (uint32_t)n, &w.request))
			s->stats.malformed++;
		else if (s->spec.delay_ns == 0)
			answer(s, &w);
		else if (s->nwaiting == WAITING)
			s->stats.overflow++;
		else
			s->waiting[(s->first + s->nwaiting++) % WAITING] = w;
	}
}

void mdbus_feed_serve_poll(struct mdbus_feed_serve *s, uint64_t now_ns)
{
	take_requests(s, now_ns);
	while (s->nwaiting > 0 && s->waiting[s->first].due_ns <= now_ns) {
		answer(s, &s->waiting[s->first]);
		s->first = (s->first + 1) % WAITING;
		s->nwaiting--;
	}
}

void mdbus_feed_serve_wait(const struct mdbus_feed_serve *s, uint64_t wait_ns)
{
	struct pollfd fd = { .fd = s->fd, .events = POLLIN };
	struct timespec t;

	if (s->nwaiting > 0) {
		uint64_t due = s->waiting[s->first].due_ns, now = mdbus_clock_ns(), left = due > now ? due - now : 0;

		wait_ns = left < wait_ns ? left : wait_ns;
	}
	t = (struct timespec){ .tv_sec = (time_t)(wait_ns / 1000000000u), .tv_nsec = (long)(wait_ns % 1000000000u) };
	(void)ppoll(&fd, 1, &t, NULL);
}

/* ---- open and close ----------------------------------------------------------------------------------------- */

static int listen_at(struct mdbus_feed_serve *s)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_addr.s_addr = s->spec.at.addr, .sin_port = htons(s->spec.at.port),
	};

	s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return s->fd >= 0 && bind(s->fd, (const struct sockaddr *)&at, sizeof(at)) == 0 ? 0 : -errno;
}

struct mdbus_feed_serve *mdbus_feed_serve_open(const struct mdbus_feed_serve_spec *spec,
                                               const struct mdbus_layout *layout, uint64_t seed, char *err,
                                               size_t errlen)
{
	struct mdbus_feed_serve *s;
	char at[INET_ADDRSTRLEN];
	int rc;

	if (!mdbus_mold_layout(layout)) {
		snprintf(err, errlen, "--serve: requests and answers are MoldUDP64's; layout %s is not that", layout->name);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		snprintf(err, errlen, "out of memory");
		return NULL;
	}
	s->spec = *spec;
	s->seed = seed;
	rc = listen_at(s);
	if (rc == 0)
		return s;
	inet_ntop(AF_INET, &spec->at.addr, at, sizeof(at));
	snprintf(err, errlen, "--serve %s:%u: cannot bind: %s", at, spec->at.port, strerror(-rc));
	mdbus_feed_serve_close(s);
	return NULL;
}

const struct mdbus_feed_serve_stats *mdbus_feed_serve_stats(const struct mdbus_feed_serve *s)
{
	return &s->stats;
}

void mdbus_feed_serve_close(struct mdbus_feed_serve *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; i < SESSIONS; i++)
		session_free(&s->session[i]);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}
