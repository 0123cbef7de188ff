/* SPDX-License-Identifier: Apache-2.0
 *
 * backend_xdp_early.h - early drop, the process's side: tells the XDP program what the ring has, and the channels what the
 * program has dropped because of it.
 *
 * The program of a queue drops duplicates of what any line has published, so that a line that is behind spends nothing on
 * them (line_xdp.h).  Only this process writes what its queue may drop, from the heads that all lines note in shared memory, once
 * a round; so it is never ahead of the ring, and if the process stops, what it has said stays true.  If it dies, its
 * socket is gone, without which the program drops nothing.
 *
 * A channel without an order has no head.  There the process reads what other lines have published, record by record, and notes its
 * keys for the program.  It asks for nothing of the table of keys that the lines share, where a key is before its message is.
 *
 * What was dropped is told to the channel in the order of the numbers: before a packet that came through, everything below it.
 * What no such packet asks for is told a little later, as a packet may still be on its way from the program to the socket.
 */
#ifndef MDBUS_INGEST_BACKEND_XDP_EARLY_H
#define MDBUS_INGEST_BACKEND_XDP_EARLY_H

#include "backend_xdp_prog.h"

struct mdbus_xdp_early;

/*
 * Set up early drop for those of the line's flows that want it, before mdbus_xdp_prog_start.  *early NULL: none does.  0, or -errno
 * with env->error set; the queue then drops nothing.  env->bus and env->channel outlive *early.
 */
int mdbus_xdp_early_open(struct mdbus_xdp_early **early, const struct mdbus_xdp_prog *prog, struct mdbus_backend_env *env);

/* Once a round, after n packets were taken from a ring of `ring` places and published. */
void mdbus_xdp_early_round(struct mdbus_xdp_early *early, uint32_t n, uint32_t ring);

/* After the program has been let go of.  NULL is fine. */
void mdbus_xdp_early_close(struct mdbus_xdp_early *early);

#endif
