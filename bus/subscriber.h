/* SPDX-License-Identifier: Apache-2.0
 *
 * subscriber.h - a subscription over a bus that is mapped already.
 *
 * What mdbus_sub_open does after the lease; for processes that have the bus mapped for another reason (tests).
 */
#ifndef MDBUS_BUS_SUBSCRIBER_H
#define MDBUS_BUS_SUBSCRIBER_H

#include <mdbus/lease.h>
#include <mdbus/subscriber.h>

/*
 * Read `bus`, which stays the caller's, at seat bus->index.  options->wait_ms is not used.  NULL: out of memory, or no such
 * channel.
 */
struct mdbus_sub *mdbus_sub_over(const struct mdbus_bus *bus, const struct mdbus_sub_options *options);

#endif
