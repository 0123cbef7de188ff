/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_kernel_uring.c - the io_uring engine: multishot receive into frames of the arena.
 *
 * Every socket has one request that stays, and the kernel takes a frame for each datagram from one ring of provided
 * buffers.  So at full rate there is one system call for many datagrams, and none when there are none: with
 * DEFER_TASKRUN the kernel raises a flag when it has something to hand over, and polling reads that flag.
 *
 * A provided buffer is named by a 16-bit id; ids are lent together with frames and come back with completions, so
 * frame_of[] is the list of what the kernel holds.  A request ends (no F_MORE) when it finds no buffer, which under
 * load is normal: the datagrams wait in the socket, and the request is made again once there are frames.
 */
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend_kernel.h"

#define BUFFER_GROUP     0
#define BUFFERS_MAX      32768u
#define BUFFERS_DEFAULT  4096u
#define NOT_LENT         UINT32_MAX
#define COMPLETIONS      64u
#define REGISTER_NAPI    27 /* IORING_REGISTER_NAPI; liburing 2.3 does not know it */

struct uring {
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	uint32_t entries;    /* of `buffers`, a power of two */
	uint32_t *frame_of;  /* by buffer id; NOT_LENT */
	uint16_t *free_id;   /* stack of ids not lent */
	uint32_t nfree_id;
	bool *armed;         /* by socket: its request is with the kernel */
	uint32_t unarmed;    /* sockets that are not */
	struct msghdr msg;   /* tells the kernel for what to keep room before a datagram: names, if senders are wanted */
};

/* ---- lending --------------------------------------------------------------------------------------------------- */

static void lend_frames(struct kernel_line *k, struct uring *u)
{
	int mask = io_uring_buf_ring_mask(u->entries), n = 0;
	uint32_t frame;

	while (u->nfree_id && mdbus_frames_get(k->pool, &frame)) {
		uint16_t id = u->free_id[--u->nfree_id];

		u->frame_of[id] = frame;
		io_uring_buf_ring_add(u->buffers, kernel_frame(k, frame) + MDBUS_FRAME_META,
		                      k->frame_size - MDBUS_FRAME_META, id, mask, n++);
	}
	if (n)
		io_uring_buf_ring_advance(u->buffers, n);
}

/* Returns 0 or -errno of the submission. */
static int arm_sockets(struct kernel_line *k, struct uring *u)
{
	int rc = 0;

	for (uint32_t i = 0; i < k->nsocket && u->unarmed; i++) {
		struct io_uring_sqe *sqe;

		if (u->armed[i])
			continue;
		sqe = io_uring_get_sqe(&u->ring);
		if (!sqe) {
			rc = io_uring_submit(&u->ring);
			sqe = io_uring_get_sqe(&u->ring);
		}
		if (!sqe)
			break;
		io_uring_prep_recvmsg_multishot(sqe, k->sockets[i].fd, &u->msg, MSG_TRUNC);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = BUFFER_GROUP;
		io_uring_sqe_set_data64(sqe, i);
		u->armed[i] = true;
		u->unarmed--;
	}
	rc = rc < 0 ? rc : io_uring_submit(&u->ring);
	return rc < 0 ? rc : 0;
}

/* Sockets wait for a request, or requests for a submission that failed. */
static inline bool has_unarmed(const struct uring *u)
{
	return u->unarmed || io_uring_sq_ready(&u->ring);
}

/* The system call that a request costs is paid only if there is a frame to receive into. */
static uint32_t uring_waiting(struct kernel_line *k)
{
	const struct uring *u = k->state;

	return io_uring_cq_ready(&u->ring);
}

static void uring_refill(struct kernel_line *k)
{
	struct uring *u = k->state;

	lend_frames(k, u);
	if (has_unarmed(u) && u->nfree_id < u->entries)
		(void)arm_sockets(k, u);
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

/* Passing troubles of one request; anything else means that the line cannot receive. */
static bool is_passing(int res)
{
	switch (-res) {
	case ENOBUFS:
	case EAGAIN:
	case EINTR:
	case ENOMEM:
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
		return true;
	default:
		return false;
	}
}

/* The frame that the kernel has filled, or NOT_LENT. */
static uint32_t take_back(struct uring *u, const struct io_uring_cqe *cqe)
{
	uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	uint32_t frame;

	if (!(cqe->flags & IORING_CQE_F_BUFFER) || id >= u->entries)
		return NOT_LENT;
	frame = u->frame_of[id];
	if (frame == NOT_LENT)
		return NOT_LENT;
	u->frame_of[id] = NOT_LENT;
	u->free_id[u->nfree_id++] = (uint16_t)id;
	return frame;
}

static void take_sender(struct io_uring_recvmsg_out *out, struct mdbus_rx *rx)
{
	struct sockaddr_in from = { 0 };

	if (out->namelen >= sizeof(from))
		memcpy(&from, io_uring_recvmsg_name(out), sizeof(from));
	rx->src = from.sin_addr.s_addr;
	rx->src_port = ntohs(from.sin_port);
}

/* True if the completion is a whole datagram, described in *rx. */
static bool take_datagram(struct kernel_line *k, struct uring *u, const struct io_uring_cqe *cqe, struct mdbus_rx *rx)
{
	uint32_t frame = take_back(u, cqe);
	uint64_t socket = cqe->user_data;
	struct io_uring_recvmsg_out *out;
	uint8_t *base;

	if (!(cqe->flags & IORING_CQE_F_MORE) && u->armed[socket]) {
		u->armed[socket] = false;
		u->unarmed++;
	}
	if (cqe->res == -ENOBUFS)
		mdbus_count(&k->arena->count.fill_empty, 1);
	else if (cqe->res < 0 && !is_passing(cqe->res))
		k->broken = cqe->res;
	if (frame == NOT_LENT)
		return false;
	base = kernel_frame(k, frame);
	out = io_uring_recvmsg_validate(base + MDBUS_FRAME_META, cqe->res, &u->msg);
	if (!out || out->flags & MSG_TRUNC) {
		if (out)
			mdbus_count(&k->arena->count.bad_length, 1);
		mdbus_frames_put(k->pool, frame);
		return false;
	}
	*rx = (struct mdbus_rx){
		.frame = frame,
		.off = (uint32_t)((uint8_t *)io_uring_recvmsg_payload(out, &u->msg) - base),
		.len = io_uring_recvmsg_payload_length(out, cqe->res, &u->msg),
		.flow = k->sockets[socket].flow,
	};
	if (k->senders)
		take_sender(out, rx);
	return true;
}

static int uring_poll(struct kernel_line *k, struct mdbus_rx *rx, uint32_t max)
{
	struct uring *u = k->state;
	struct io_uring_cqe *cqes[COMPLETIONS];
	uint32_t got = 0, n = io_uring_peek_batch_cqe(&u->ring, cqes, max < COMPLETIONS ? max : COMPLETIONS);

	for (uint32_t i = 0; i < n; i++)
		got += take_datagram(k, u, cqes[i], &rx[got]);
	if (n)
		io_uring_cq_advance(&u->ring, n);
	if (has_unarmed(u) || (n == 0 && u->nfree_id && k->pool->nfree))
		uring_refill(k);
	return got ? (int)got : k->broken;
}

static void uring_wait(struct kernel_line *k, uint32_t timeout_us)
{
	struct uring *u = k->state;
	struct __kernel_timespec timeout = {
		.tv_sec = timeout_us / 1000000,
		.tv_nsec = (long long)(timeout_us % 1000000) * 1000,
	};
	struct io_uring_cqe *cqe;

	(void)io_uring_wait_cqe_timeout(&u->ring, &cqe, &timeout);
}

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

static uint32_t power_of_two(uint32_t least)
{
	uint32_t n = 1;

	while (n < least)
		n *= 2;
	return n;
}

/* The best this kernel knows, down to plain. */
static int make_ring(struct uring *u, uint32_t nsocket)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int rc = -EINVAL;

	for (uint32_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = 2 * power_of_two(u->entries + nsocket),
		};

		rc = io_uring_queue_init_params(power_of_two(nsocket), &u->ring, &params);
		if (rc != -EINVAL)
			return rc;
	}
	return rc;
}

static size_t buffers_size(const struct uring *u)
{
	return u->entries * sizeof(struct io_uring_buf);
}

static int make_buffers(struct uring *u)
{
	struct io_uring_buf_reg reg = { .ring_entries = u->entries, .bgid = BUFFER_GROUP };
	int rc;

	u->buffers = mmap(NULL, buffers_size(u), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
	                  0);
	if (u->buffers == MAP_FAILED) {
		u->buffers = NULL;
		return -ENOMEM;
	}
	io_uring_buf_ring_init(u->buffers);
	reg.ring_addr = (uintptr_t)u->buffers;
	rc = io_uring_register_buf_ring(&u->ring, &reg, 0);
	return rc < 0 ? rc : 0;
}

/* Let waiting poll the NIC's queue for a while before it sleeps. Newer kernels only; without it, it sleeps at once. */
static void set_busy_poll(struct uring *u, uint32_t busy_poll_us)
{
	struct {
		uint32_t busy_poll_us;
		uint8_t prefer, pad[3];
		uint64_t reserved;
	} napi = { .busy_poll_us = busy_poll_us };

	if (busy_poll_us)
		(void)syscall(SYS_io_uring_register, u->ring.ring_fd, REGISTER_NAPI, &napi, 1);
}

/* A kernel without multishot receive says so at once, in the completion. */
static int refused(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned int head;

	(void)io_uring_get_events(&u->ring);
	io_uring_for_each_cqe(&u->ring, head, cqe) {
		if (cqe->res < 0 && !is_passing(cqe->res))
			return cqe->res;
	}
	return 0;
}

/* The buffers are withdrawn first: after that the kernel cannot fill a frame that is back in the pool. */
static void uring_stop(struct kernel_line *k)
{
	struct uring *u = k->state;

	if (u->buffers)
		(void)io_uring_unregister_buf_ring(&u->ring, BUFFER_GROUP);
	if (u->ring.ring_fd >= 0)
		io_uring_queue_exit(&u->ring);
	if (u->buffers)
		munmap(u->buffers, buffers_size(u));
	for (uint32_t id = 0; u->frame_of && id < u->entries; id++) {
		if (u->frame_of[id] != NOT_LENT)
			mdbus_frames_put(k->pool, u->frame_of[id]);
	}
	free(u->frame_of);
	free(u->free_id);
	free(u->armed);
	free(u);
	k->state = NULL;
}

static int make_lists(struct uring *u, uint32_t nsocket)
{
	u->frame_of = malloc(u->entries * sizeof(*u->frame_of));
	u->free_id = malloc(u->entries * sizeof(*u->free_id));
	u->armed = calloc(nsocket, sizeof(*u->armed));
	if (u->frame_of)
		memset(u->frame_of, 0xff, u->entries * sizeof(*u->frame_of));
	if (!u->frame_of || !u->free_id || !u->armed)
		return -ENOMEM;
	while (u->nfree_id < u->entries) {
		u->free_id[u->nfree_id] = (uint16_t)u->nfree_id;
		u->nfree_id++;
	}
	u->unarmed = nsocket;
	return 0;
}

static int uring_start(struct kernel_line *k)
{
	uint32_t want = k->line->fill_ring ? k->line->fill_ring : BUFFERS_DEFAULT;
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	k->state = u;
	u->ring.ring_fd = -1;
	if (k->senders)
		u->msg.msg_namelen = sizeof(struct sockaddr_in);
	u->entries = power_of_two(want < BUFFERS_MAX ? want : BUFFERS_MAX);
	rc = make_lists(u, k->nsocket);
	if (rc == 0) {
		rc = make_ring(u, k->nsocket);
		if (rc)
			u->ring.ring_fd = -1;
	}
	if (rc == 0)
		rc = make_buffers(u);
	if (rc == 0) {
		set_busy_poll(u, k->line->busy_poll_us);
		lend_frames(k, u);
		rc = arm_sockets(k, u);
	}
	if (rc == 0)
		rc = refused(u);
	if (rc)
		uring_stop(k);
	return rc;
}

const struct kernel_engine mdbus_kernel_uring = {
	.name = "io_uring",
	.start = uring_start,
	.poll = uring_poll,
	.waiting = uring_waiting,
	.refill = uring_refill,
	.wait = uring_wait,
	.stop = uring_stop,
};
