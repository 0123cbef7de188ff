/* SPDX-License-Identifier: Apache-2.0
 *
 * lease_client.c - a process's side of a lease: ask mdbusd, check and map what it lends.
 *
 * One connection a lease: request, replies with descriptors, close.  Nothing of the connection is needed afterwards,
 * so mdbusd may die and come back without this process noticing.  Everything received is checked before it is
 * used: the reply by its numbers, each segment by mdbus_segment_attach, and the segments against one another.
 */
#include <errno.h>
#include <mdbus/hook.h>
#include <mdbus/lease.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "segment.h"

#define ANSWER_NS  UINT64_C(1000000000) /* what an mdbusd that is there gets to answer */
#define RETRY_MIN  UINT64_C(1000000)
#define RETRY_MAX  UINT64_C(50000000)

const char *mdbus_run_dir(void)
{
	static char dir[128];
	const char *env = getenv("MDBUS_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");

	if (dir[0])
		return dir;
	if (env && env[0])
		snprintf(dir, sizeof(dir), "%s", env);
	else if (geteuid() == 0)
		snprintf(dir, sizeof(dir), "/run/mdbus");
	else if (xdg && xdg[0])
		snprintf(dir, sizeof(dir), "%s/mdbus", xdg);
	else
		snprintf(dir, sizeof(dir), "/tmp/mdbus-%u", (unsigned)geteuid());
	return dir;
}

static int __attribute__((format(printf, 3, 4))) fail(struct mdbus_bus *bus, int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(bus->error, sizeof(bus->error), format, ap);
	va_end(ap);
	return rc;
}

static void unmap_all(struct mdbus_bus *bus)
{
	struct mdbus_region *const table[] = { bus->ring, bus->keys, bus->arena, bus->seat, &bus->dir_region };
	const uint32_t n[] = { MDBUS_CHANNELS_MAX, MDBUS_CHANNELS_MAX, MDBUS_LINES_MAX, MDBUS_SEATS_MAX, 1u };

	for (size_t t = 0; t < sizeof(n) / sizeof(n[0]); t++) {
		for (uint32_t i = 0; i < n[t]; i++) {
			if (table[t][i].base)
				munmap(table[t][i].base, table[t][i].size);
			table[t][i] = (struct mdbus_region){ 0 };
		}
	}
	bus->dir = NULL;
}

static void set_timeout(int sock, uint64_t ns)
{
	struct timeval tv = { (time_t)(ns / 1000000000u), (suseconds_t)(ns % 1000000000u / 1000u) };

	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

/* In a directory that anybody may have made (below /tmp), believe only root and ourselves. */
static bool peer_trusted(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getenv("MDBUS_RUN_DIR"))
		return true;
	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static int dial(struct mdbus_bus *bus)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int n = snprintf(to.sun_path, sizeof(to.sun_path), "%s/mdbusd.sock", mdbus_run_dir());

	if (n < 0 || (size_t)n >= sizeof(to.sun_path))
		return fail(bus, -ENAMETOOLONG, "MDBUS_RUN_DIR %s: too long for a socket's name", mdbus_run_dir());
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return fail(bus, -errno, "socket: %s", strerror(errno));
	set_timeout(sock, ANSWER_NS);
	if (connect(sock, (const struct sockaddr *)&to, sizeof(to)) < 0) {
		int rc = errno == EACCES ? -EACCES : -ECONNREFUSED;

		if (rc == -EACCES)
			fail(bus, rc, "%s: permission denied: join the group that mdbusd's configuration names for this role",
			     to.sun_path);
		else
			fail(bus, rc, "no mdbusd at %s (%s): start mdbusd, or set MDBUS_RUN_DIR to its run directory",
			     to.sun_path, strerror(errno));
		close(sock);
		return rc;
	}
	if (!peer_trusted(sock)) {
		close(sock);
		return fail(bus, -EACCES, "%s belongs to another user: set MDBUS_RUN_DIR if that is meant", to.sun_path);
	}
	return sock;
}

/* One reply with its descriptors.  fd[] gets nfd of them on success; on failure none stay open. */
static int receive(struct mdbus_bus *bus, int sock, struct mdbus_lease_reply *r, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MDBUS_LEASE_FDS * sizeof(int))];
	} control;
	struct iovec iov = { r, sizeof(*r) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	uint32_t n = 0;
	ssize_t got;

	do {
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got <= 0)
		return fail(bus, -ECONNREFUSED, "mdbusd at %s went away or did not answer (%s)", mdbus_run_dir(),
		            got == 0 ? "connection closed" : strerror(errno));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		uint32_t k = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		for (uint32_t i = 0; i < k && n < MDBUS_LEASE_FDS; i++)
			memcpy(&fd[n++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	bool whole = (size_t)got == sizeof(*r) && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
	             r->magic == MDBUS_LEASE_MAGIC && r->version == MDBUS_LEASE_VERSION && r->nfd == n;

	if (whole)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		close(fd[i]);
	if (msg.msg_flags & MSG_CTRUNC)
		return fail(bus, -EMFILE, "no descriptors left for the segments of the bus: raise the limit (ulimit -n)");
	return fail(bus, -EPROTO, "mdbusd's answer is not understood: install one version of mdbus");
}

static int send_request(struct mdbus_bus *bus, int sock, const struct mdbus_lease_request *q)
{
	if (send(sock, q, sizeof(*q), MSG_NOSIGNAL) == (ssize_t)sizeof(*q))
		return 0;
	return fail(bus, -ECONNREFUSED, "mdbusd at %s does not take requests: %s", mdbus_run_dir(), strerror(errno));
}

/* Where segment (kind, index) is to be kept in this process, and whether it may be written.  NULL: not for this role. */
static struct mdbus_region *region_for(struct mdbus_bus *bus, const struct mdbus_lease_fd *s, bool *writable)
{
	bool line = bus->role == MDBUS_LEASE_LINE, own = s->index == bus->index;

	switch (s->kind) {
	case MDBUS_SEGMENT_BUS:
		*writable = false;
		return s->index == 0 ? &bus->dir_region : NULL;
	case MDBUS_SEGMENT_RING:
		*writable = line;
		return s->index < MDBUS_CHANNELS_MAX ? &bus->ring[s->index] : NULL;
	case MDBUS_SEGMENT_KEYS:
		*writable = true;
		return line && s->index < MDBUS_CHANNELS_MAX ? &bus->keys[s->index] : NULL;
	case MDBUS_SEGMENT_ARENA:
		*writable = line && own;
		return s->index < MDBUS_LINES_MAX ? &bus->arena[s->index] : NULL;
	case MDBUS_SEGMENT_SEAT:
		*writable = !line && own;
		return s->index < MDBUS_SEATS_MAX && (line || own) ? &bus->seat[s->index] : NULL;
	default:
		return NULL;
	}
}

/*
 * A line looks at one word of other people's seats, and maps them whatever they hold: a subscriber that fills its own
 * seat with garbage must not keep a line from starting.
 */
static int take_foreign_seat(struct mdbus_region *r, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct mdbus_seat_hdr))
		return 0;
	void *base = mmap(NULL, sizeof(struct mdbus_seat_hdr), PROT_READ, MAP_SHARED, fd, 0);

	if (base != MAP_FAILED)
		*r = (struct mdbus_region){ base, sizeof(struct mdbus_seat_hdr) };
	return 0;
}

static int take(struct mdbus_bus *bus, const struct mdbus_lease_fd *s, int fd)
{
	struct mdbus_mapping map;
	bool writable;
	char why[256];
	struct mdbus_region *r = region_for(bus, s, &writable);

	if (!r || r->base)
		return fail(bus, -EPROTO, "mdbusd sent segment %u.%u, which is unexpected", s->kind, s->index);
	if (s->kind == MDBUS_SEGMENT_SEAT && !writable)
		return take_foreign_seat(r, fd);
	int rc = mdbus_segment_attach(fd, s->kind, writable, &map, why, sizeof(why));

	if (rc < 0)
		return fail(bus, rc, "segment %u.%u: %s", s->kind, s->index, why);
	const struct mdbus_segment_hdr *h = map.base;

	*r = (struct mdbus_region){ map.base, map.size };
	if (h->index != s->index)
		return fail(bus, -EBADMSG, "segment %u.%u says that it is number %u", s->kind, s->index, h->index);
	if (s->kind == MDBUS_SEGMENT_BUS)
		bus->dir = map.base;
	return 0;
}

/* All there and of one bus, what was asked for included. */
static int check_together(struct mdbus_bus *bus, const char *name)
{
	const struct mdbus_bus_hdr *d = bus->dir;

	if (!d || strcmp(d->segment.bus, name) != 0)
		return fail(bus, -EPROTO, "mdbusd did not send the directory of bus %s", name);
	int rc = mdbus_segment_check_bus(bus, bus->error, sizeof(bus->error));

	if (rc < 0)
		return rc;
	bool own = bus->role == MDBUS_LEASE_LINE ? bus->index < d->nline
	                                         : bus->index < d->nseat && bus->seat[bus->index].base;

	return own ? 0 : fail(bus, -EPROTO, "mdbusd did not send what was asked for on bus %s", name);
}

static int receive_all(struct mdbus_bus *bus, int sock, const char *name)
{
	struct mdbus_lease_reply r = { 0 };
	int fd[MDBUS_LEASE_FDS] = { 0 }, rc;

	do {
		rc = receive(bus, sock, &r, fd);
		if (rc < 0)
			return rc;
		if (r.status < 0) {
			r.error[sizeof(r.error) - 1u] = '\0';
			rc = fail(bus, r.status, "%s", r.error);
		} else {
			bus->lease_id = r.id;
			bus->index = r.index;
		}
		for (uint32_t i = 0; i < r.nfd; i++) {
			if (rc == 0)
				rc = take(bus, &r.fd[i], fd[i]);
			MDBUS_HOOK("attach.taken");
			close(fd[i]);
		}
	} while (rc == 0 && r.left > 0 && r.nfd > 0);
	return rc < 0 ? rc : check_together(bus, name);
}

static void give_back(const char *bus_name, uint32_t id)
{
	struct mdbus_lease_request q = {
		.magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION, .op = MDBUS_LEASE_RELEASE, .id = id
	};
	struct mdbus_lease_reply r = { 0 };
	struct mdbus_bus scratch = { 0 };
	int fd[MDBUS_LEASE_FDS] = { 0 };
	int sock = dial(&scratch);

	if (sock < 0)
		return; /* the next mdbusd sees that this process is gone */
	snprintf(q.bus, sizeof(q.bus), "%s", bus_name);
	MDBUS_HOOK("detach.dialled");
	if (send_request(&scratch, sock, &q) == 0 && receive(&scratch, sock, &r, fd) == 0) {
		for (uint32_t i = 0; i < r.nfd; i++)
			close(fd[i]);
	}
	close(sock);
}

static int attempt(struct mdbus_bus *bus, const struct mdbus_lease_request *q)
{
	memset(bus, 0, sizeof(*bus));
	bus->role = q->op;
	bus->index = UINT32_MAX;
	int sock = dial(bus);

	if (sock < 0)
		return sock;
	int rc = send_request(bus, sock, q);

	MDBUS_HOOK("attach.asked");
	if (rc == 0)
		rc = receive_all(bus, sock, q->bus);
	close(sock);
	if (rc < 0) {
		unmap_all(bus);
		if (bus->lease_id)
			give_back(q->bus, bus->lease_id);
		bus->lease_id = 0;
	}
	return rc;
}

int mdbus_bus_attach(struct mdbus_bus *bus, const char *bus_name, enum mdbus_lease_op role, const char *name,
                     int wait_ms)
{
	struct mdbus_lease_request q = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION, .op = role };
	uint64_t end = mdbus_clock_ns() + (wait_ms > 0 ? (uint64_t)wait_ms * 1000000u : 0u), pause = RETRY_MIN;

	if (strlen(bus_name) >= sizeof(q.bus) || strlen(name) >= sizeof(q.name)) {
		memset(bus, 0, sizeof(*bus));
		return fail(bus, -EINVAL, "%s/%s: names have at most %u bytes", bus_name, name, MDBUS_NAME_MAX - 1u);
	}
	memcpy(q.bus, bus_name, strlen(bus_name));
	memcpy(q.name, name, strlen(name));
	for (;;) {
		int rc = attempt(bus, &q);
		uint64_t now = mdbus_clock_ns();

		if (rc != -ECONNREFUSED && rc != -EAGAIN)
			return rc;
		if (now >= end)
			return rc == -EAGAIN ? -EBUSY : rc;
		if (role == MDBUS_LEASE_LINE)
			q.id = MDBUS_LEASE_AGAIN;
		uint64_t ns = pause < end - now ? pause : end - now;

		nanosleep(&(struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) }, NULL);
		pause = pause * 2u < RETRY_MAX ? pause * 2u : RETRY_MAX;
	}
}

int mdbus_admin_ask(enum mdbus_lease_op command, const char *bus_name, const char *name, char *said, size_t size)
{
	struct mdbus_lease_request q = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION, .op = command };
	struct mdbus_lease_reply r = { 0 };
	struct mdbus_bus scratch = { 0 };
	int fd[MDBUS_LEASE_FDS] = { 0 };
	int rc = strlen(bus_name) < sizeof(q.bus) && strlen(name) < sizeof(q.name) ? 0 : -EINVAL;

	if (rc < 0)
		fail(&scratch, rc, "%s/%s: names have at most %u bytes", bus_name, name, MDBUS_NAME_MAX - 1u);
	int sock = rc < 0 ? rc : dial(&scratch);

	if (sock >= 0) {
		memcpy(q.bus, bus_name, strlen(bus_name));
		memcpy(q.name, name, strlen(name));
		rc = send_request(&scratch, sock, &q);
		if (rc == 0)
			rc = receive(&scratch, sock, &r, fd);
		for (uint32_t i = 0; rc == 0 && i < r.nfd; i++)
			close(fd[i]);
		close(sock);
	} else {
		rc = sock;
	}
	r.error[sizeof(r.error) - 1u] = '\0';
	snprintf(said, size, "%s", rc < 0 ? scratch.error : r.error);
	return rc < 0 ? rc : r.status;
}

void mdbus_bus_detach(struct mdbus_bus *bus)
{
	char name[MDBUS_NAME_MAX] = "";
	uint32_t id = bus->lease_id;

	if (bus->dir)
		snprintf(name, sizeof(name), "%s", bus->dir->segment.bus);
	bus->lease_id = 0;
	unmap_all(bus);
	MDBUS_HOOK("detach.unmapped");
	if (id != 0 && name[0])
		give_back(name, id);
}
