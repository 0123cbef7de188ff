/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_kernel_mmsg.c - the recvmmsg engine: for kernels where io_uring is missing, too old or forbidden.
 *
 * A stack of frames is kept ready in message headers.  Each call fills the first few of them with the datagrams of one
 * socket; those frames are handed over and their places filled from the pool.  Which sockets have datagrams is asked
 * of epoll, once per round; with one socket it is not asked at all.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "backend_kernel.h"

#define READY 64u /* frames in message headers, and sockets per question to epoll */

struct mmsg {
	struct mmsghdr msgs[READY];
	struct iovec iov[READY];
	struct sockaddr_in from[READY]; /* if senders are wanted */
	uint32_t frame[READY];
	uint32_t nframe; /* the first so many have a frame */
	int epoll;
	struct epoll_event events[READY];
	uint32_t nevent, next; /* sockets of this round, and which is read next */
};

static void place(struct kernel_line *k, struct mmsg *m, uint32_t at, uint32_t frame)
{
	m->frame[at] = frame;
	m->iov[at].iov_base = kernel_frame(k, frame) + MDBUS_FRAME_META;
}

static void mmsg_refill(struct kernel_line *k)
{
	struct mmsg *m = k->state;
	uint32_t frame;

	while (m->nframe < READY && mdbus_frames_get(k->pool, &frame))
		place(k, m, m->nframe++, frame);
}

/* The first n headers have been used: put new frames there, or those of the last headers. */
static void replace_used(struct kernel_line *k, struct mmsg *m, uint32_t n)
{
	uint32_t frame, at = 0;

	while (at < n && mdbus_frames_get(k->pool, &frame))
		place(k, m, at++, frame);
	for (; at < n && m->nframe > n; at++)
		place(k, m, at, m->frame[--m->nframe]);
	if (at < n)
		m->nframe = at;
}

/* Datagrams of one socket. Returns how many were taken, whole ones in *rx. */
static uint32_t read_socket(struct kernel_line *k, struct mmsg *m, uint32_t socket, struct mdbus_rx *rx, uint32_t max,
                            uint32_t *got)
{
	uint32_t want = max < m->nframe ? max : m->nframe;
	int n = want ? recvmmsg(k->sockets[socket].fd, m->msgs, want, MSG_DONTWAIT | MSG_TRUNC, NULL) : 0;
	uint32_t whole = 0, cut = 0, cut_frame[READY];

	if (n < 0 && (errno == EBADF || errno == ENOTSOCK || errno == EFAULT || errno == EINVAL))
		k->broken = -errno;
	if (n <= 0)
		return 0;
	for (uint32_t i = 0; i < (uint32_t)n; i++) {
		if (m->msgs[i].msg_hdr.msg_flags & MSG_TRUNC) {
			cut_frame[cut++] = m->frame[i];
			continue;
		}
		rx[whole++] = (struct mdbus_rx){
			.frame = m->frame[i],
			.off = MDBUS_FRAME_META,
			.len = m->msgs[i].msg_len,
			.flow = k->sockets[socket].flow,
			.src = m->from[i].sin_addr.s_addr,
			.src_port = ntohs(m->from[i].sin_port),
		};
	}
	mdbus_count(&k->arena->count.bad_length, cut);
	while (cut)
		mdbus_frames_put(k->pool, cut_frame[--cut]);
	replace_used(k, m, (uint32_t)n);
	*got += whole;
	return (uint32_t)n;
}

static void ask_epoll(struct kernel_line *k, struct mmsg *m)
{
	int n;

	m->next = 0;
	if (k->nsocket == 1) {
		m->events[0].data.u32 = 0;
		m->nevent = 1;
		return;
	}
	n = epoll_wait(m->epoll, m->events, (int)READY, 0);
	m->nevent = n > 0 ? (uint32_t)n : 0;
}

/* Each socket that is ready is read once a round, so a busy one cannot starve the others. */
static int mmsg_poll(struct kernel_line *k, struct mdbus_rx *rx, uint32_t max)
{
	struct mmsg *m = k->state;
	uint32_t got = 0;

	if (m->nframe == 0)
		mmsg_refill(k);
	if (m->next == m->nevent)
		ask_epoll(k, m);
	while (m->next < m->nevent && got < max && m->nframe)
		(void)read_socket(k, m, m->events[m->next++].data.u32, rx + got, max - got, &got);
	return got ? (int)got : k->broken;
}

static void mmsg_wait(struct kernel_line *k, uint32_t timeout_us)
{
	struct mmsg *m = k->state;
	struct timespec timeout = { .tv_sec = timeout_us / 1000000, .tv_nsec = (long)(timeout_us % 1000000) * 1000 };
	struct pollfd p = { .fd = m->epoll, .events = POLLIN };

	(void)ppoll(&p, 1, &timeout, NULL);
}

static void mmsg_stop(struct kernel_line *k)
{
	struct mmsg *m = k->state;

	while (m->nframe)
		mdbus_frames_put(k->pool, m->frame[--m->nframe]);
	if (m->epoll >= 0)
		close(m->epoll);
	free(m);
	k->state = NULL;
}

static int watch_sockets(struct kernel_line *k, struct mmsg *m)
{
	m->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (m->epoll < 0)
		return -errno;
	for (uint32_t i = 0; i < k->nsocket; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		if (epoll_ctl(m->epoll, EPOLL_CTL_ADD, k->sockets[i].fd, &event) != 0)
			return -errno;
	}
	return 0;
}

static int mmsg_start(struct kernel_line *k)
{
	struct mmsg *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return -ENOMEM;
	k->state = m;
	for (uint32_t i = 0; i < READY; i++) {
		m->iov[i].iov_len = k->frame_size - MDBUS_FRAME_META;
		m->msgs[i].msg_hdr.msg_iov = &m->iov[i];
		m->msgs[i].msg_hdr.msg_iovlen = 1;
		if (!k->senders)
			continue;
		m->msgs[i].msg_hdr.msg_name = &m->from[i];
		m->msgs[i].msg_hdr.msg_namelen = sizeof(m->from[i]);
	}
	rc = watch_sockets(k, m);
	if (rc)
		mmsg_stop(k);
	else
		mmsg_refill(k);
	return rc;
}

const struct kernel_engine mdbus_kernel_mmsg = {
	.name = "recvmmsg",
	.start = mmsg_start,
	.poll = mmsg_poll,
	.refill = mmsg_refill,
	.wait = mmsg_wait,
	.stop = mmsg_stop,
};
