/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_nanomsg - two PAIR sockets of nanomsg over ipc.
 *
 * Its worker thread shares the core with the program, as there are only two: so the program gives the core away after each
 * look that finds nothing.
 */
#include <errno.h>
#include <nanomsg/nn.h>
#include <nanomsg/pair.h>
#include "peer.h"

#define ROOM (1 << 20) /* bytes held by each side */

static char directory[64], address[96];
static int sock;
static uint8_t outgoing[PEER_LEN_MAX] __attribute__((aligned(64))), incoming[PEER_LEN_MAX] __attribute__((aligned(64)));

static void prepare(uint32_t len)
{
	(void)len;
	snprintf(directory, sizeof(directory), "/tmp/mdbus-nanomsg.XXXXXX");
	BED_CHECK(mkdtemp(directory) != NULL, "nanomsg: %s: %s", directory, strerror(errno));
	snprintf(address, sizeof(address), "ipc://%s/pair", directory);
}

static void drop(void)
{
	unlink(address + strlen("ipc://"));
	rmdir(directory);
}

static void open_side(unsigned side, uint32_t len)
{
	int room = ROOM;

	(void)len;
	sock = nn_socket(AF_SP, NN_PAIR);
	nn_setsockopt(sock, NN_SOL_SOCKET, NN_SNDBUF, &room, sizeof(room));
	nn_setsockopt(sock, NN_SOL_SOCKET, NN_RCVBUF, &room, sizeof(room));
	BED_CHECK((side == 0 ? nn_bind : nn_connect)(sock, address) >= 0, "nanomsg: %s: %s", address, nn_strerror(errno));
}

static void close_side(void)
{
	nn_close(sock);
}

static inline uint8_t *claim(uint32_t len)
{
	(void)len;
	return outgoing;
}

static inline bool commit(uint8_t *at, uint32_t len)
{
	return nn_send(sock, at, len, NN_DONTWAIT) == (int)len;
}

static inline const uint8_t *take(uint32_t len)
{
	return nn_recv(sock, incoming, sizeof(incoming), NN_DONTWAIT) == (int)len ? incoming : NULL;
}

static inline void rest(void)
{
	sched_yield();
}

static void full(void)
{
	sched_yield();
}

static const struct peer_ops ops = { claim, commit, take, rest, full, NULL, NULL };
PEER_LOOPS(ops)

const struct peer peer_nanomsg = { .name = "nanomsg ipc", .threads = true, .prepare = prepare, .open = open_side,
	                           .close = close_side, .drop = drop, PEER_RUNS(ops) };
