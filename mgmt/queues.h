/* SPDX-License-Identifier: Apache-2.0
 *
 * queues.h - which queue of which card is lent to whom.
 *
 * A line whose backend takes a queue for itself (AF_XDP, a card under DPDK) borrows it together with its lease.  No table is
 * kept: who has a queue is who holds a line of it, on whatever bus, as the bus directories say.
 */
#ifndef MDBUS_MGMT_QUEUES_H
#define MDBUS_MGMT_QUEUES_H

#include "daemon.h"

struct mdbus_process;

/*
 * queue_alloc: may line h be lent to p, as far as its queue goes?  NULL, or who has the queue.  A holder that has ended, though
 * nobody has noticed yet, is reclaimed from first.
 */
struct mdbus_holder *mdbus_queue_holder(struct mdbus_daemon *d, struct mdbus_holder *h, const struct mdbus_process *p);

/* Line h was lent to p: say so, and keep a way into its network namespace until mdbus_queue_free or _close. */
void mdbus_queue_lent(struct mdbus_daemon *d, struct mdbus_holder *h, const struct mdbus_process *p);

/* Its process is gone: the queue is free.  Idempotent.  Where its interface was is remembered if `rules` are left there. */
void mdbus_queue_free(struct mdbus_holder *h, uint32_t rules);

/* mdbusd goes: close what it has open, and change nothing. */
void mdbus_queue_close(struct mdbus_holder *h);

/* A socket of a network namespace (0: mdbusd's own), to be closed; -1: none can be had, as nobody there holds a line. */
int mdbus_queue_socket(const struct mdbus_daemon *d, uint64_t netns);

/* The device of a line and true, or false if its backend takes no queue for itself. */
bool mdbus_queue_device(const struct mdbus_line_desc *l, char *device, size_t size);

/* Every queue of every card that a line of the bus (NULL: of any) names, with its holder. */
json_t *mdbus_queues_json(const struct mdbus_daemon *d, const char *bus);

#endif
