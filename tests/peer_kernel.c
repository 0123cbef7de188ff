/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_kernel - what every program has without any library: a pipe, and a UNIX datagram socket.
 *
 * One system call sends one message; the receiver takes as many as are there in one call, up to 32.  Neither ever sleeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include "peer.h"

#define BATCH 32u
#define ROOM  (1 << 20) /* bytes asked for between the two */

static int pipes[2][2], sockets[2]; /* of the pipes, [side] is the one it writes to */
static int from, to;
static uint8_t outgoing[PEER_LEN_MAX] __attribute__((aligned(64)));
static uint8_t incoming[BATCH * PEER_LEN_MAX] __attribute__((aligned(64)));
static uint32_t have, next; /* messages in incoming, and the first that is not taken yet */

static inline uint8_t *claim(uint32_t len)
{
	(void)len;
	return outgoing;
}

static inline void rest(void)
{
	mdbus_pause();
}

/* ---- pipe -------------------------------------------------------------------------------------------------------- */

static void pipe_prepare(uint32_t len)
{
	(void)len;
	for (unsigned i = 0; i < 2; i++) {
		BED_CHECK(pipe2(pipes[i], O_NONBLOCK) == 0, "no pipe: %s", strerror(errno));
		(void)fcntl(pipes[i][1], F_SETPIPE_SZ, ROOM);
	}
}

static void pipe_open(unsigned side, uint32_t len)
{
	(void)len;
	to = pipes[side][1];
	from = pipes[side ^ 1u][0];
	have = next = 0;
}

static void pipe_drop(void)
{
	for (unsigned i = 0; i < 4; i++)
		close(pipes[i / 2u][i % 2u]);
}

/* Up to PIPE_BUF bytes go whole or not at all. */
static inline bool pipe_commit(uint8_t *at, uint32_t len)
{
	return write(to, at, len) == (ssize_t)len;
}

static inline const uint8_t *pipe_take(uint32_t len)
{
	if (next == have) {
		ssize_t n = read(from, incoming, (size_t)BATCH * len);

		if (n <= 0)
			return NULL;
		have = (uint32_t)n / len;
		next = 0;
	}
	return incoming + (size_t)next++ * len;
}

static const struct peer_ops pipe_ops = { claim, pipe_commit, pipe_take, rest, NULL, NULL, NULL };
PEER_LOOPS(pipe_ops)

const struct peer peer_pipe = { .name = "pipe", .prepare = pipe_prepare, .open = pipe_open, .drop = pipe_drop,
	                        PEER_RUNS(pipe_ops) };

/* ---- UNIX datagram socket ---------------------------------------------------------------------------------------- */

static void unix_prepare(uint32_t len)
{
	int room = ROOM;

	(void)len;
	BED_CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sockets) == 0, "no socket: %s", strerror(errno));
	for (unsigned i = 0; i < 2; i++)
		(void)setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

static void unix_open(unsigned side, uint32_t len)
{
	(void)len;
	to = from = sockets[side];
	have = next = 0;
}

static void unix_drop(void)
{
	close(sockets[0]);
	close(sockets[1]);
}

static inline bool unix_commit(uint8_t *at, uint32_t len)
{
	return send(to, at, len, 0) == (ssize_t)len;
}

static inline const uint8_t *unix_take(uint32_t len)
{
	static struct mmsghdr message[BATCH];
	static struct iovec place[BATCH];

	if (next == have) {
		for (uint32_t i = 0; i < BATCH && place[i].iov_len != len; i++) {
			place[i] = (struct iovec){ incoming + (size_t)i * PEER_LEN_MAX, len };
			message[i].msg_hdr = (struct msghdr){ .msg_iov = &place[i], .msg_iovlen = 1 };
		}
		int n = recvmmsg(from, message, BATCH, MSG_DONTWAIT, NULL);

		if (n <= 0)
			return NULL;
		have = (uint32_t)n;
		next = 0;
	}
	return incoming + (size_t)next++ * PEER_LEN_MAX;
}

static const struct peer_ops unix_ops = { claim, unix_commit, unix_take, rest, NULL, NULL, NULL };
PEER_LOOPS(unix_ops)

const struct peer peer_unix = { .name = "UNIX datagram", .prepare = unix_prepare, .open = unix_open, .drop = unix_drop,
	                        PEER_RUNS(unix_ops) };
