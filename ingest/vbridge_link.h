/* SPDX-License-Identifier: Apache-2.0
 *
 * vbridge_link.h - one queue of a port of the virtual bridge: a socket to connect to, and two rings of frames.
 *
 * This is the server's side of memif, the packet interface over shared memory that DPDK's net_memif speaks (and VPP's).
 * A client connects, hands over memory with two rings in it, one for each direction, and eventfds to wake by; from
 * then on frames go without a system call.  DPDK's own server does not serve here: it believes every offset that a client
 * writes, and a client's death unmaps its memory in one thread while another may be copying from it.  This one believes
 * nothing, works in its one thread, and takes out what a dead client had sent before it forgets that client.
 *
 * Who may connect is who may write to the socket's directory entry.  One client at a time; a second one is told so, and
 * when the first one has died the next takes its place.  Not for several threads.
 */
#ifndef MDBUS_INGEST_VBRIDGE_LINK_H
#define MDBUS_INGEST_VBRIDGE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MDBUS_LINK_REGIONS 4u
#define MDBUS_LINK_FRAME   2048u /* bytes of the largest frame: one buffer of a client's */
#define MDBUS_LINK_FDS     3u    /* that a link may want to be polled */

struct mdbus_link_region {
	uint8_t *base;
	uint64_t size;
};

struct mdbus_link_ring {
	struct memif_ring *shared; /* NULL: the client has none in this direction */
	uint16_t mask;
	uint16_t mine; /* my end: of the ring to me the next to take, of the one from me the next to fill */
	int wake;      /* eventfd, -1 */
};

struct mdbus_link_counters {
	uint64_t rx_frames, rx_bytes, rx_bad;
	uint64_t tx_frames, tx_bytes;
	uint64_t tx_full;   /* dropped: the client does not take them out */
	uint64_t tx_down;   /* dropped: there is no client */
	uint64_t connects, refused, broken; /* broken: thrown out for what it wrote */
};

struct mdbus_link {
	char path[108];
	int listener, conn; /* -1: none */
	bool up;            /* frames may go */
	bool broke;         /* the client has written what cannot be */
	bool filled;        /* frames have been put in since the last flush */
	uint32_t nregion;
	struct mdbus_link_region region[MDBUS_LINK_REGIONS];
	struct mdbus_link_ring in, out;
	struct mdbus_link_counters count;
};

/* Listen on path.  0, or -errno: -EADDRINUSE if somebody is listening there already. */
int mdbus_link_open(struct mdbus_link *l, const char *path);

/* Say goodbye, remove the socket. */
void mdbus_link_close(struct mdbus_link *l);

/* Fill in descriptors to poll for input; returns how many. */
uint32_t mdbus_link_fds(const struct mdbus_link *l, int *fds);

/*
 * Look after the socket: take a client in, let one go, answer it.  Returns true if the client has gone: what is still in
 * its ring is to be received, then mdbus_link_forget is to be called.
 */
bool mdbus_link_control(struct mdbus_link *l);
void mdbus_link_forget(struct mdbus_link *l);

/* Is there something to receive? */
bool mdbus_link_waiting(const struct mdbus_link *l);

/* One frame into buf (MDBUS_LINK_FRAME bytes): its length; 0: none. */
uint32_t mdbus_link_receive(struct mdbus_link *l, uint8_t *buf);

/* Frames received so far may be overwritten by the client. After each run of mdbus_link_receive. */
void mdbus_link_release(struct mdbus_link *l);

/* Put a frame in, to be seen after the next flush; or drop and count it. */
void mdbus_link_send(struct mdbus_link *l, const uint8_t *frame, uint32_t len);
void mdbus_link_flush(struct mdbus_link *l);

/* The client shall wake me through mdbus_link_fds (or need not).  Ask again for frames after switching it on. */
void mdbus_link_want_wake(struct mdbus_link *l, bool want);

#endif
