/* SPDX-License-Identifier: Apache-2.0
 *
 * process.c - identity from the kernel, never from a message; see process.h.
 *
 * A start time read from /proc belongs to the process of a pidfd if the pidfd has not ended after the reading: until then
 * its pid cannot have been given to anybody else.
 */
#include "process.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "text.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define PF_EXITING 0x4u /* include/linux/sched.h; field 9 of /proc/PID/stat shows it */

int mdbus_process_start(pid_t pid, uint64_t *start, bool *exiting)
{
	char path[32], text[1024];
	uint64_t flags = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (!mdbus_text_read(path, text, sizeof(text)))
		return -ESRCH;
	const char *at = strrchr(text, ')'); /* the name before it may hold anything */

	if (!at || at[1] != ' ')
		return -ESRCH;
	at += 2;
	char state = *at;

	for (int field = 3; field < 22; field++) {
		const char *word = at;

		if (!mdbus_text_skip_word(&at) || (field == 9 && !mdbus_text_number(&word, &flags)))
			return -ESRCH;
	}
	*exiting = state == 'Z' || state == 'X' || (flags & PF_EXITING) != 0;
	return mdbus_text_number(&at, start) ? 0 : -ESRCH;
}

static uint64_t namespace_number(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

uint32_t mdbus_process_namespaces(void)
{
	uint64_t mix = namespace_number("/proc/self/ns/pid") * 31u + namespace_number("/proc/self/ns/time");

	return (uint32_t)mix != 0 ? (uint32_t)mix : 1u;
}

bool mdbus_process_proc_usable(void)
{
	char text[16] = "";
	uint64_t pid = 0;
	const char *at = text;

	return readlink("/proc/self", text, sizeof(text) - 1u) > 0 && mdbus_text_number(&at, &pid) && pid == (uint64_t)getpid();
}

bool mdbus_process_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int mdbus_process_open(pid_t pid, uint64_t start)
{
	bool exiting;
	uint64_t now;
	int fd = pidfd_of(pid);

	if (fd < 0)
		return fd;
#ifdef MDBUS_MUTANT_trust_pid_alone
	start = mdbus_process_start(pid, &now, &exiting) < 0 ? start : now;
#endif
	if (mdbus_process_start(pid, &now, &exiting) < 0 || now != start || mdbus_process_ended(fd)) {
		close(fd);
		return -ESRCH;
	}
	return fd;
}

static void peer_groups(int sock, gid_t primary, struct mdbus_process *p)
{
	socklen_t len = (socklen_t)((MDBUS_PROCESS_GROUPS - 1u) * sizeof(gid_t));

	p->group[0] = primary;
	p->ngroup = 1;
#ifdef SO_PEERGROUPS
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, &p->group[1], &len) == 0)
		p->ngroup += (uint32_t)(len / sizeof(gid_t));
#endif
}

int mdbus_process_peer_user(int sock, struct mdbus_process *p)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	p->pidfd = -1;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	p->pid = cred.pid;
	p->uid = cred.uid;
	peer_groups(sock, cred.gid, p);
	return 0;
}

/* The accepted socket of a connection is one of the namespace of whoever connected. */
uint64_t mdbus_process_netns(int sock)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

int mdbus_process_peer(int sock, struct mdbus_process *p)
{
	socklen_t fdlen = sizeof(p->pidfd);
	bool exiting;
	int rc = mdbus_process_peer_user(sock, p);

	if (rc < 0)
		return rc;
	p->sock = sock;
	p->netns = mdbus_process_netns(sock);
	if (p->pid <= 0)
		return -EPERM;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &p->pidfd, &fdlen) < 0) {
		if (errno != ENOPROTOOPT)
			return errno == EINVAL || errno == ENODATA ? -ESRCH : -errno;
		p->pidfd = pidfd_of(p->pid); /* kernels before 6.5 */
		if (p->pidfd < 0)
			return p->pidfd;
	}
	if (mdbus_process_start(p->pid, &p->start, &exiting) < 0 || mdbus_process_ended(p->pidfd)) {
		close(p->pidfd);
		p->pidfd = -1;
		return -ESRCH;
	}
	return 0;
}
