/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_hostile.c - a subscriber that tries to do harm: prog_hostile BUS WHAT.  See t_hostile_reader.sh.
 *
 *   write ring|arena|bus   store one byte into that mapping; to end by SIGSEGV
 *   protect                ask for write access to what is mapped, and for writable mappings of it
 *   reopen                 open what was lent anew for writing, through every name it has, and change the files
 *   spoil                  fill its own seat with garbage, cut it to nothing, and wait to be killed
 *
 * protect and reopen end with 0 if everything was refused, else say what was not.
 */
#include <errno.h>
#include <fcntl.h>
#include <mdbus/lease.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int failures;

static void must_fail(bool succeeded, const char *what, uint32_t kind, uint32_t index)
{
	if (!succeeded)
		return;
	printf("%s of segment %u.%u was allowed\n", what, kind, index);
	failures++;
}

/* ---- with the bus as the library maps it ---- */

static struct mdbus_bus bus;

static void attach(const char *name)
{
	if (mdbus_bus_attach(&bus, name, MDBUS_LEASE_SEAT, "hostile", 5000) != 0) {
		fprintf(stderr, "prog_hostile: %s\n", bus.error);
		exit(2);
	}
	puts("attached");
	fflush(stdout);
}

static int write_to(const char *what)
{
	struct mdbus_region *r = strcmp(what, "ring") == 0 ? &bus.ring[0] :
	                         strcmp(what, "arena") == 0 ? &bus.arena[0] : &bus.dir_region;
	volatile uint8_t *byte = (volatile uint8_t *)r->base + r->size / 2;

	*byte = (uint8_t)(*byte + 1);
	printf("a store into the %s was allowed\n", what);
	return 1;
}

static void protect(const struct mdbus_region *r, uint32_t kind)
{
	must_fail(mprotect(r->base, r->size, PROT_READ | PROT_WRITE) == 0, "mprotect", kind, 0);
	must_fail(mremap(r->base, 0, r->size, MREMAP_MAYMOVE) != MAP_FAILED &&
	          mprotect(r->base, r->size, PROT_WRITE) == 0, "mremap and mprotect", kind, 0);
}

static int protect_all(void)
{
	protect(&bus.dir_region, MDBUS_SEGMENT_BUS);
	protect(&bus.ring[0], MDBUS_SEGMENT_RING);
	protect(&bus.arena[0], MDBUS_SEGMENT_ARENA);
	/* the same calls do succeed where they may */
	if (mprotect(bus.seat[bus.index].base, bus.seat[bus.index].size, PROT_READ) != 0 ||
	    mprotect(bus.seat[bus.index].base, bus.seat[bus.index].size, PROT_READ | PROT_WRITE) != 0) {
		puts("mprotect of its own seat was refused");
		failures++;
	}
	return failures != 0;
}

/* ---- with the descriptors themselves ---- */

static void reopen(int fd, const struct mdbus_lease_fd *id)
{
	char name[64], path[4096];
	struct stat st;
	ssize_t n;
	int again;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	again = open(name, O_RDWR | O_CLOEXEC);
	must_fail(again >= 0, "opening /proc/self/fd", id->kind, id->index);
	n = readlink(name, path, sizeof(path) - 1);
	if (n > 0) {
		path[n] = '\0';
		must_fail(open(path, O_RDWR | O_CLOEXEC) >= 0, "opening the file", id->kind, id->index);
		must_fail(unlink(path) == 0, "removing the file", id->kind, id->index);
		must_fail(chmod(path, 0666) == 0, "chmod", id->kind, id->index);
	}
	must_fail(fchmod(fd, 0666) == 0, "fchmod", id->kind, id->index);
	if (id->kind == MDBUS_SEGMENT_SEAT)
		return;
	must_fail(fstat(fd, &st) != 0, "fstat", id->kind, id->index);
	must_fail(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED, "a writable mapping", id->kind,
	          id->index);
	must_fail(ftruncate(fd, 0) == 0, "ftruncate", id->kind, id->index);
	must_fail(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0, "punching a hole", id->kind,
	          id->index);
	must_fail(pwrite(fd, "x", 1, st.st_size / 2) == 1, "pwrite", id->kind, id->index);
	must_fail(fcntl(fd, F_SETFL, O_RDWR) == 0 && pwrite(fd, "x", 1, 0) == 1, "F_SETFL and pwrite", id->kind, id->index);
}

static int dial(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s/mdbusd.sock", mdbus_run_dir());
	if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof(to)) != 0) {
		fprintf(stderr, "prog_hostile: %s: %s\n", to.sun_path, strerror(errno));
		exit(2);
	}
	return sock;
}

static int reopen_all(const char *name)
{
	struct mdbus_lease_request q = { .magic = MDBUS_LEASE_MAGIC, .version = MDBUS_LEASE_VERSION, .op = MDBUS_LEASE_SEAT };
	struct mdbus_lease_reply r = { .left = 1 };
	int sock = dial(), seen = 0;

	snprintf(q.bus, sizeof(q.bus), "%s", name);
	snprintf(q.name, sizeof(q.name), "hostile");
	if (send(sock, &q, sizeof(q), 0) != (ssize_t)sizeof(q))
		return 2;
	while (r.left > 0) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(MDBUS_LEASE_FDS * sizeof(int))];
		} control;
		struct iovec iov = { &r, sizeof(r) };
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
		};
		int fd[MDBUS_LEASE_FDS];

		if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(r) || r.status != 0 || CMSG_FIRSTHDR(&msg) == NULL) {
			fprintf(stderr, "prog_hostile: no lease: %s\n", r.error);
			return 2;
		}
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), r.nfd * sizeof(int));
		for (uint32_t i = 0; i < r.nfd; i++, seen++)
			reopen(fd[i], &r.fd[i]);
	}
	printf("%d segments\n", seen);
	return failures != 0 || seen < 4;
}

/* Its own seat is its own: it may spoil that, and nobody else may care. */
static void __attribute__((noreturn)) spoil(const char *name)
{
	struct mdbus_region *r;
	char path[4096];

	attach(name);
	r = &bus.seat[bus.index];
	memset(r->base, 0xff, r->size);
	snprintf(path, sizeof(path), "%s/bus.%s/seat.%u", mdbus_run_dir(), name, bus.index);
	if (truncate(path, 0) != 0)
		fprintf(stderr, "prog_hostile: %s: %s\n", path, strerror(errno));
	puts("spoiled");
	fflush(stdout);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";

	if (strcmp(what, "reopen") == 0)
		return reopen_all(argv[1]);
	if (strcmp(what, "spoil") == 0)
		spoil(argv[1]);
	if (argc < 3 || (strcmp(what, "protect") != 0 && (strcmp(what, "write") != 0 || argc < 4))) {
		fputs("prog_hostile BUS write ring|arena|bus, protect, reopen or spoil\n", stderr);
		return 2;
	}
	attach(argv[1]);
	return strcmp(what, "protect") == 0 ? protect_all() : write_to(argv[3]);
}
