/* SPDX-License-Identifier: Apache-2.0
 *
 * memif_bed.h - a client of memif in a few lines, for tests of the virtual bridge in one process.
 *
 * It does what it is told, wrong things too.  The bridge is called between its steps, so there is no time in a test.
 */
#ifndef MDBUS_TESTS_MEMIF_BED_H
#define MDBUS_TESTS_MEMIF_BED_H

#include <errno.h>
#include <fcntl.h>
#include <mdbus/atomics.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../ingest/memif.h"
#include "../ingest/vbridge.h"

#define CLIENT_LOG2   6u
#define CLIENT_SLOTS  (1u << CLIENT_LOG2)
#define CLIENT_BUFFER 2048u
#define CLIENT_RING   (sizeof(struct memif_ring) + CLIENT_SLOTS * sizeof(struct memif_desc))
#define CLIENT_BYTES  (2u * CLIENT_RING + 2u * CLIENT_SLOTS * CLIENT_BUFFER)

struct client {
	int sock, memfd, wake_bridge, wake_me;
	uint8_t *mem;
	struct memif_ring *tx, *rx;
	uint16_t taken; /* of rx */
	char refusal[96];
};

static inline void client_say(const struct client *c, const struct memif_msg *m, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)m, sizeof(*m) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control);
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	(void)!sendmsg(c->sock, &mh, MSG_NOSIGNAL);
}

/* Everything that the bridge has said; true if the last of it is `type`. */
static inline bool client_heard(struct client *c, uint16_t type)
{
	struct memif_msg m;
	uint16_t last = MEMIF_NONE;
	ssize_t n;

	/* a bridge that has hung up on unread messages is told of first, and then what it had said */
	while ((n = recv(c->sock, &m, sizeof(m), MSG_DONTWAIT)) == (ssize_t)sizeof(m) || (n < 0 && errno == ECONNRESET)) {
		if (n < 0)
			continue;
		last = m.type;
		if (m.type == MEMIF_DISCONNECT)
			snprintf(c->refusal, sizeof(c->refusal), "%.95s", m.disconnect.text);
	}
	return last == type;
}

static inline bool client_dial(struct client *c, const char *dir, const char *port)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memset(c, 0, sizeof(*c));
	c->memfd = c->wake_bridge = c->wake_me = -1;
	c->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%.60s/%.40s", dir, port);
	return connect(c->sock, (const struct sockaddr *)&at, sizeof(at)) == 0;
}

static inline void client_memory(struct client *c, bool sealed)
{
	c->memfd = memfd_create("client", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (c->memfd < 0 || ftruncate(c->memfd, CLIENT_BYTES) < 0 || (sealed && fcntl(c->memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0))
		abort();
	c->mem = mmap(NULL, CLIENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->memfd, 0);
	if (c->mem == MAP_FAILED)
		abort();
	c->tx = (struct memif_ring *)(void *)c->mem;
	c->rx = (struct memif_ring *)(void *)(c->mem + CLIENT_RING);
	c->tx->cookie = c->rx->cookie = MEMIF_COOKIE;
	for (uint32_t i = 0; i < 2u * CLIENT_SLOTS; i++) {
		struct memif_desc *d = i < CLIENT_SLOTS ? &c->tx->desc[i] : &c->rx->desc[i - CLIENT_SLOTS];

		*d = (struct memif_desc){ .len = CLIENT_BUFFER, .offset = (uint32_t)(2u * CLIENT_RING + i * CLIENT_BUFFER) };
	}
	c->wake_bridge = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	c->wake_me = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static inline void client_offer_region(const struct client *c, uint64_t size)
{
	struct memif_msg m = { .type = MEMIF_ADD_REGION };

	m.add_region.size = size;
	client_say(c, &m, c->memfd);
}

static inline void client_offer_ring(const struct client *c, bool to_bridge, uint32_t offset, uint8_t log2)
{
	struct memif_msg m = { .type = MEMIF_ADD_RING };

	m.add_ring.flags = to_bridge ? MEMIF_C2S : 0;
	m.add_ring.offset = offset;
	m.add_ring.log2 = log2;
	client_say(c, &m, to_bridge ? c->wake_bridge : c->wake_me);
}

static inline void client_hello(const struct client *c)
{
	struct memif_msg m = { .type = MEMIF_INIT };

	m.init.version = MEMIF_VERSION;
	client_say(c, &m, -1);
}

/* What the receiver of its ring does: lend all buffers. */
static inline void client_lend(struct client *c)
{
	uint16_t head = mdbus_load_relaxed(&c->rx->head);

	while ((uint16_t)(head - c->taken) < CLIENT_SLOTS)
		c->rx->desc[head++ & (CLIENT_SLOTS - 1u)].len = CLIENT_BUFFER;
	mdbus_store_release(&c->rx->head, head);
}

/* The whole ceremony; false with c->refusal if the bridge does not take it. */
static inline bool client_open(struct client *c, struct mdbus_vbridge *b, const char *port)
{
	const struct memif_msg connect_me = { .type = MEMIF_CONNECT };

	if (!client_dial(c, b->dir, port))
		return false;
	mdbus_vbridge_control(b, mdbus_clock_ns());
	if (!client_heard(c, MEMIF_HELLO))
		return false;
	client_memory(c, true);
	client_hello(c);
	client_offer_region(c, CLIENT_BYTES);
	client_offer_ring(c, true, 0, CLIENT_LOG2);
	client_offer_ring(c, false, CLIENT_RING, CLIENT_LOG2);
	client_say(c, &connect_me, -1);
	mdbus_vbridge_control(b, mdbus_clock_ns());
	if (!client_heard(c, MEMIF_CONNECTED))
		return false;
	client_lend(c);
	return true;
}

/* As the kernel does for one that was killed. */
static inline void client_die(struct client *c)
{
	const int fds[] = { c->sock, c->memfd, c->wake_bridge, c->wake_me };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (c->mem)
		munmap(c->mem, CLIENT_BYTES);
	memset(c, 0, sizeof(*c));
	c->sock = c->memfd = c->wake_bridge = c->wake_me = -1;
}

/* False: the ring is full. */
static inline bool client_send(struct client *c, const void *frame, uint32_t len)
{
	uint16_t head = mdbus_load_relaxed(&c->tx->head);
	struct memif_desc *d = &c->tx->desc[head & (CLIENT_SLOTS - 1u)];

	if ((uint16_t)(head - mdbus_load_acquire(&c->tx->tail)) == CLIENT_SLOTS)
		return false;
	memcpy(c->mem + d->offset, frame, len);
	d->len = len;
	mdbus_store_release(&c->tx->head, (uint16_t)(head + 1u));
	if (!(c->tx->flags & MEMIF_NO_WAKE))
		(void)!write(c->wake_bridge, &(uint64_t){ 1 }, sizeof(uint64_t));
	return true;
}

/* Its length, 0: none. */
static inline uint32_t client_receive(struct client *c, void *frame)
{
	const struct memif_desc *d = &c->rx->desc[c->taken & (CLIENT_SLOTS - 1u)];
	uint32_t len = 0;

	if (mdbus_load_acquire(&c->rx->tail) != c->taken) {
		len = d->len;
		memcpy(frame, c->mem + d->offset, len);
		c->taken++;
	}
	client_lend(c);
	return len;
}

#endif
