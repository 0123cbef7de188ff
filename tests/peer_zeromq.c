/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_zeromq - two PAIR sockets of ZeroMQ over ipc.
 *
 * Its I/O thread shares the core with the program, as there are only two.  For the hop the program gives the core away
 * after each look that finds nothing, which halves it.  For the rate it sleeps inside ZeroMQ, which lets the thread carry
 * more at once and is up to eight times faster, but not where messages are long.
 */
#include <errno.h>
#include "peer.h"

#define NAME "ZeroMQ ipc"

#ifdef PEER_HAVE_ZEROMQ
#include <zmq.h>

#define WAIT_MAX 256u /* bytes */

static char directory[64], address[96];
static void *context, *sock;
static int waiting; /* or ZMQ_DONTWAIT */
static uint8_t outgoing[PEER_LEN_MAX] __attribute__((aligned(64))), incoming[PEER_LEN_MAX] __attribute__((aligned(64)));

static void prepare(uint32_t len)
{
	(void)len;
	snprintf(directory, sizeof(directory), "/tmp/mdbus-zmq.XXXXXX");
	BED_CHECK(mkdtemp(directory) != NULL, "ZeroMQ: %s: %s", directory, strerror(errno));
	snprintf(address, sizeof(address), "ipc://%s/pair", directory);
}

static void drop(void)
{
	unlink(address + strlen("ipc://"));
	rmdir(directory);
}

static void open_side(unsigned side, uint32_t len)
{
	int linger = 0;

	(void)len;
	context = zmq_ctx_new();
	sock = zmq_socket(context, ZMQ_PAIR);
	zmq_setsockopt(sock, ZMQ_LINGER, &linger, sizeof(linger));
	BED_CHECK((side == 0 ? zmq_bind : zmq_connect)(sock, address) == 0, "ZeroMQ: %s: %s", address, zmq_strerror(errno));
}

static void close_side(void)
{
	zmq_close(sock);
	zmq_ctx_term(context);
}

static inline uint8_t *claim(uint32_t len)
{
	(void)len;
	return outgoing;
}

static inline bool commit(uint8_t *at, uint32_t len)
{
	return zmq_send(sock, at, len, waiting) == (int)len;
}

static inline const uint8_t *take(uint32_t len)
{
	return zmq_recv(sock, incoming, sizeof(incoming), waiting) == (int)len ? incoming : NULL;
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

static void produce(uint32_t len, uint64_t base, uint64_t n)
{
	waiting = len > WAIT_MAX ? ZMQ_DONTWAIT : 0;
	peer_produce(&ops, len, base, n);
}

static uint64_t consume(uint32_t len, uint64_t base, uint64_t n)
{
	waiting = len > WAIT_MAX ? ZMQ_DONTWAIT : 0;
	return peer_consume(&ops, len, base, n);
}

static uint64_t hop(unsigned side, uint32_t len, uint64_t base, uint64_t n, uint64_t pace, double *ticks)
{
	waiting = ZMQ_DONTWAIT;
	return peer_hop(&ops, side, len, base, n, pace, ticks);
}

const struct peer peer_zeromq = { .name = NAME, .threads = true, .prepare = prepare, .open = open_side, .close = close_side,
	                          .drop = drop, .produce = produce, .consume = consume, .hop = hop };
#else
const struct peer peer_zeromq = { .name = NAME, .absent = "built without ZeroMQ (libzmq3-dev)" };
#endif
