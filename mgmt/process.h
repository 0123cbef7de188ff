/* SPDX-License-Identifier: Apache-2.0
 *
 * process.h - who a process is, for good.
 *
 * A pid is reused, (pid, start time) is not; a pidfd is one process whatever its number.  All functions only look.
 */
#ifndef MDBUS_MGMT_PROCESS_H
#define MDBUS_MGMT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MDBUS_PROCESS_GROUPS 64u

struct mdbus_process {
	pid_t pid;
	uint64_t start; /* field 22 of /proc/PID/stat: clock ticks since boot */
	uid_t uid;
	gid_t group[MDBUS_PROCESS_GROUPS]; /* primary and supplementary, as of its connect(); further ones are not seen */
	uint32_t ngroup;
	uint64_t netns; /* cookie of its network namespace as of its connect(); 0: the kernel does not tell */
	int sock;       /* the connection, which is a socket of that namespace; whoever accepted it owns it */
	int pidfd; /* becomes readable when it ends; owned by whoever has the structure */
};

/* Start time of pid; *exiting: it is on its way out or a zombie.  0 or -ESRCH. */
int mdbus_process_start(pid_t pid, uint64_t *start, bool *exiting);

/*
 * The pid and time namespace of this process, mixed to one number that is never 0: a pid and a start time noted in others mean
 * nothing here.
 */
uint32_t mdbus_process_namespaces(void);

/* False: /proc is not there, or shows another pid namespace than this process's. */
bool mdbus_process_proc_usable(void);

/* True if the process behind pidfd has ended (a zombie has). */
bool mdbus_process_ended(int pidfd);

/* A pidfd of the process (pid, start), or -ESRCH if it has ended (its pid may be another's by now), or -errno. */
int mdbus_process_open(pid_t pid, uint64_t start);

/* Only the user and groups at the other end of an AF_UNIX connection, whose process may have ended.  0 or -errno. */
int mdbus_process_peer_user(int sock, struct mdbus_process *p);

/* The network namespace that a socket is of, as the kernel numbers them; 0: it does not tell.  Numbers last until the host boots. */
uint64_t mdbus_process_netns(int sock);

/*
 * Who is at the other end of an AF_UNIX connection, from the kernel: SO_PEERCRED, SO_PEERPIDFD, SO_PEERGROUPS.  0 and p->pidfd
 * open, -ESRCH it has ended already, -EPERM it is in a pid namespace that this one cannot see, or -errno.
 */
int mdbus_process_peer(int sock, struct mdbus_process *p);

#endif
