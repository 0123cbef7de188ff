/* SPDX-License-Identifier: Apache-2.0
 *
 * vbridge_link.c - the server's side of memif; see vbridge_link.h and memif.h.
 *
 * All that a client can write - messages, heads, tails, descriptors - is read once into private memory and checked before
 * it is used.  Its memory must be sealed against shrinking, since a page that is gone would kill whoever touches it.
 */
#include "vbridge_link.h"
#include <errno.h>
#include <fcntl.h>
#include <mdbus/atomics.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "memif.h"

#define REGION_MAX (UINT64_C(1) << 30)
#define BACKLOG    4

/* ---- the socket ------------------------------------------------------------------------------------------------ */

static int listen_on(const char *path, const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 || errno == EAGAIN)
		rc = -EADDRINUSE; /* somebody listens */
	else if (errno == ECONNREFUSED)
		(void)unlink(path); /* nobody does any more */
	if (rc == 0 && (bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, BACKLOG) < 0))
		rc = -errno;
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

int mdbus_link_open(struct mdbus_link *l, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd;

	memset(l, 0, sizeof(*l));
	l->listener = l->conn = l->in.wake = l->out.wake = -1;
	if (strlen(path) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	fd = listen_on(path, &at);
	if (fd < 0)
		return fd;
	memcpy(l->path, at.sun_path, sizeof(l->path));
	l->listener = fd;
	return 0;
}

static bool say(int fd, const struct memif_msg *m)
{
	return send(fd, m, sizeof(*m), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(*m);
}

static void dismiss(int fd, const char *why)
{
	struct memif_msg m = { .type = MEMIF_DISCONNECT };

	snprintf(m.disconnect.text, sizeof(m.disconnect.text), "%s", why);
	(void)say(fd, &m);
}

static bool greet(int fd)
{
	struct memif_msg m = { .type = MEMIF_HELLO };

	snprintf(m.hello.name, sizeof(m.hello.name), "mdbus-vbridge");
	m.hello.version_min = m.hello.version_max = MEMIF_VERSION;
	m.hello.region_max = MDBUS_LINK_REGIONS - 1u;
	m.hello.log2_max = MEMIF_LOG2_MAX;
	return say(fd, &m); /* the last ring has number 0 in either direction */
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void mdbus_link_forget(struct mdbus_link *l)
{
	l->up = l->broke = l->filled = false;
	for (uint32_t i = 0; i < l->nregion; i++)
		munmap(l->region[i].base, l->region[i].size);
	l->nregion = 0;
	l->in.shared = l->out.shared = NULL;
	drop(&l->in.wake);
	drop(&l->out.wake);
	drop(&l->conn);
}

void mdbus_link_close(struct mdbus_link *l)
{
	if (l->conn >= 0)
		dismiss(l->conn, "the bridge ends");
	mdbus_link_forget(l);
	if (l->listener >= 0)
		(void)unlink(l->path);
	drop(&l->listener);
}

uint32_t mdbus_link_fds(const struct mdbus_link *l, int *fds)
{
	uint32_t n = 0;

	fds[n++] = l->listener;
	if (l->conn >= 0)
		fds[n++] = l->conn;
	if (l->up && l->in.wake >= 0)
		fds[n++] = l->in.wake;
	return n;
}

/* ---- a client introduces itself -------------------------------------------------------------------------------- */

static const char *add_region(struct mdbus_link *l, const struct memif_msg *m, int fd)
{
	uint64_t size = m->add_region.size;
	struct stat st;
	int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
	void *base;

	if (l->up || m->add_region.index != l->nregion || l->nregion == MDBUS_LINK_REGIONS)
		return "a region out of turn";
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return "a region must be a memfd sealed against shrinking (zero-copy=no)";
	if (size == 0 || size > REGION_MAX || fstat(fd, &st) < 0 || (uint64_t)st.st_size < size)
		return "a region is not as large as it says";
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return "a region cannot be mapped";
	l->region[l->nregion++] = (struct mdbus_link_region){ .base = base, .size = size };
	return NULL;
}

/* The descriptor becomes the ring's. */
static const char *add_ring(struct mdbus_link *l, const struct memif_msg *m, int *fd)
{
	struct mdbus_link_ring *r = m->add_ring.flags & MEMIF_C2S ? &l->in : &l->out;
	uint32_t log2 = m->add_ring.log2, at = m->add_ring.offset, index = m->add_ring.region;
	uint64_t bytes = sizeof(struct memif_ring) + (sizeof(struct memif_desc) << (log2 & 31u));

	if (l->up || r->shared || m->add_ring.index != 0 || index >= l->nregion)
		return "a ring out of turn, or more than one in a direction";
	if (log2 > MEMIF_LOG2_MAX || at % sizeof(struct memif_desc) || at > l->region[index].size ||
	    bytes > l->region[index].size - at)
		return "a ring beyond its region";
	r->shared = (struct memif_ring *)(void *)(l->region[index].base + at);
	r->mask = (uint16_t)((1u << log2) - 1u);
	r->wake = *fd;
	if (*fd >= 0)
		(void)fcntl(*fd, F_SETFL, O_NONBLOCK);
	*fd = -1;
	return NULL;
}

static void start_ring(struct mdbus_link_ring *r)
{
	if (r->shared == NULL)
		return;
	r->mine = 0;
	mdbus_store_relaxed(&r->shared->head, (uint16_t)0);
	mdbus_store_release(&r->shared->tail, (uint16_t)0);
}

static const char *connect_client(struct mdbus_link *l)
{
	if (l->up || (!l->in.shared && !l->out.shared))
		return "connected without a ring";
	if ((l->in.shared && l->in.shared->cookie != MEMIF_COOKIE) || (l->out.shared && l->out.shared->cookie != MEMIF_COOKIE))
		return "a ring without its cookie";
	start_ring(&l->in);
	start_ring(&l->out);
	l->up = true;
	mdbus_link_want_wake(l, false);
	l->count.connects++;
	return NULL;
}

/* Act on one message and answer it; an fd that is not taken stays the caller's. NULL, or why not. */
static const char *answer(struct mdbus_link *l, const struct memif_msg *m, int *fd)
{
	struct memif_msg reply = { .type = MEMIF_ACK };
	const char *why = NULL;

	switch (m->type) {
	case MEMIF_INIT:
		if (m->init.version != MEMIF_VERSION || m->init.mode != MEMIF_ETHERNET)
			why = "memif 2.0 in Ethernet mode is spoken here";
		break;
	case MEMIF_ADD_REGION:
		why = add_region(l, m, *fd);
		break;
	case MEMIF_ADD_RING:
		why = add_ring(l, m, fd);
		break;
	case MEMIF_CONNECT:
		why = connect_client(l);
		reply.type = MEMIF_CONNECTED;
		snprintf(reply.connect.name, sizeof(reply.connect.name), "mdbus-vbridge");
		break;
	default:
		why = "not a message to a server";
	}
	if (!why && !say(l->conn, &reply))
		why = "does not take answers";
	return why;
}

/* One message, with the first descriptor that came with it. 0: none; -1: the client is gone. */
static int hear(int conn, struct memif_msg *m, int *fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(conn, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	for (struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL; c; c = CMSG_NXTHDR(&mh, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		for (size_t i = 0; c->cmsg_type == SCM_RIGHTS && i + sizeof(int) <= bytes; i += sizeof(int)) {
			drop(fd);
			memcpy(fd, CMSG_DATA(c) + i, sizeof(int));
		}
	}
	if (n == (ssize_t)sizeof(*m) && m->type != MEMIF_DISCONNECT)
		return 1;
	drop(fd);
	return -1;
}

/* True if the client has gone, or must. */
static bool converse(struct mdbus_link *l)
{
	struct memif_msg m;
	const char *why;
	int fd, rc;

	while ((rc = hear(l->conn, &m, &fd)) > 0) {
		why = m.type == MEMIF_ACK ? NULL : answer(l, &m, &fd);
		drop(&fd);
		if (why) {
			dismiss(l->conn, why);
			l->count.broken++;
			return true;
		}
	}
	return rc < 0;
}

bool mdbus_link_control(struct mdbus_link *l)
{
	int fd;

	if (l->broke) {
		dismiss(l->conn, "what is in the rings cannot be");
		l->count.broken++;
		l->broke = l->up = false;
		return true;
	}
	if (l->conn >= 0 && converse(l))
		return true;
	while ((fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (l->conn < 0 && greet(fd)) {
			l->conn = fd;
			continue;
		}
		if (l->conn >= 0) {
			dismiss(fd, "another process has this queue");
			l->count.refused++;
		}
		close(fd);
	}
	return false;
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

/* The buffer of a descriptor that has been read, or NULL if it is not in the client's memory. */
static uint8_t *buffer(const struct mdbus_link *l, const struct memif_desc *d)
{
	if (d->region >= l->nregion || d->len > l->region[d->region].size || d->offset > l->region[d->region].size - d->len)
		return NULL;
	return l->region[d->region].base + d->offset;
}

static struct memif_desc read_desc(const struct memif_desc *shared)
{
	return (struct memif_desc){
		.flags = mdbus_load_relaxed(&shared->flags),
		.region = mdbus_load_relaxed(&shared->region),
		.len = mdbus_load_relaxed(&shared->len),
		.offset = mdbus_load_relaxed(&shared->offset),
	};
}

bool mdbus_link_waiting(const struct mdbus_link *l)
{
	return l->up && l->in.shared && !l->broke && mdbus_load_acquire(&l->in.shared->head) != l->in.mine;
}

uint32_t mdbus_link_receive(struct mdbus_link *l, uint8_t *buf)
{
	struct mdbus_link_ring *r = &l->in;
	bool inside = false; /* a frame of several buffers, which is not taken */

	if (!l->up || !r->shared || l->broke)
		return 0;
	uint16_t n = (uint16_t)(mdbus_load_acquire(&r->shared->head) - r->mine);

	if (n > r->mask + 1u) {
		l->broke = true;
		return 0;
	}
	while (n--) {
		struct memif_desc d = read_desc(&r->shared->desc[r->mine++ & r->mask]);
		const uint8_t *from = buffer(l, &d);
		bool more = d.flags & MEMIF_NEXT;

		if (from && !inside && !more && d.len > 0 && d.len <= MDBUS_LINK_FRAME) {
			memcpy(buf, from, d.len);
			l->count.rx_frames++;
			l->count.rx_bytes += d.len;
			return d.len;
		}
		l->count.rx_bad += !more;
		inside = more;
	}
	return 0;
}

void mdbus_link_release(struct mdbus_link *l)
{
	if (l->up && l->in.shared)
		mdbus_store_release(&l->in.shared->tail, l->in.mine);
}

void mdbus_link_send(struct mdbus_link *l, const uint8_t *frame, uint32_t len)
{
	struct mdbus_link_ring *r = &l->out;

	if (!l->up || l->broke) {
		l->count.tx_down++;
		return;
	}
	if (!r->shared)
		return; /* it only sends */
	uint16_t n = (uint16_t)(mdbus_load_acquire(&r->shared->head) - r->mine);
	struct memif_desc *at = &r->shared->desc[r->mine & r->mask], d = read_desc(at);
	uint8_t *to = buffer(l, &d);

	if (n == 0) {
		l->count.tx_full++;
		return;
	}
	if (n > r->mask + 1u || !to || d.len < len) {
		l->broke = true;
		l->count.tx_down++;
		return;
	}
	memcpy(to, frame, len);
	mdbus_store_relaxed(&at->len, len);
	mdbus_store_relaxed(&at->flags, (uint16_t)0);
	r->mine++;
	l->filled = true;
	l->count.tx_frames++;
	l->count.tx_bytes += len;
}

static void wake_client(const struct mdbus_link_ring *r)
{
	uint64_t one = 1;

	if (r->wake >= 0 && !(mdbus_load_relaxed(&r->shared->flags) & MEMIF_NO_WAKE) && write(r->wake, &one, sizeof(one)) < 0)
		return; /* full, so it is awake; or it is gone, which the socket tells */
}

void mdbus_link_flush(struct mdbus_link *l)
{
	if (!l->filled)
		return;
	l->filled = false;
	mdbus_store_release(&l->out.shared->tail, l->out.mine);
	wake_client(&l->out);
}

void mdbus_link_want_wake(struct mdbus_link *l, bool want)
{
	uint64_t unused;

	if (!l->up || !l->in.shared)
		return;
	mdbus_store_relaxed(&l->in.shared->flags, (uint16_t)(want ? 0 : MEMIF_NO_WAKE));
	if (want)
		__atomic_thread_fence(__ATOMIC_SEQ_CST); /* before the caller looks for frames once more */
	else if (l->in.wake >= 0 && read(l->in.wake, &unused, sizeof(unused)) < 0)
		return; /* nobody has woken me */
}
