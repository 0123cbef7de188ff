/* SPDX-License-Identifier: Apache-2.0
 *
 * lease_request.h - one request: may this process have it, and what does it get?
 */
#ifndef MDBUS_MGMT_LEASE_REQUEST_H
#define MDBUS_MGMT_LEASE_REQUEST_H

#include "daemon.h"
#include "process.h"

/*
 * Do what q asks for process p.  The holder that was granted, whose segments are then to be sent; NULL: nothing to send but
 * *r, which says what was wrong (status 0: a lease was given back).  Killed inside: see mdbus_lease_grant.
 */
struct mdbus_holder *mdbus_lease_serve(struct mdbus_daemon *d, const struct mdbus_lease_request *q,
                                       struct mdbus_process *p, struct mdbus_lease_reply *r);

/* True if p's role lets it do op.  To ask questions is allowed to whoever may have a seat. */
bool mdbus_lease_allowed(const struct mdbus_daemon *d, const struct mdbus_process *p, uint32_t op);

/* Put a refusal into *r and count it. */
void mdbus_lease_refuse(struct mdbus_daemon *d, struct mdbus_lease_reply *r, int status, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The segments lent to h: how many, and a descriptor of the i-th with its access (-errno). */
uint32_t mdbus_lent_count(const struct mdbus_holder *h);
int mdbus_lent_open(const struct mdbus_holder *h, uint32_t i, struct mdbus_lease_fd *id);

#endif
