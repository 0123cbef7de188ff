/* SPDX-License-Identifier: Apache-2.0
 *
 * ctl_client.h - asking mdbusd.
 */
#ifndef MDBUS_MGMT_CTL_CLIENT_H
#define MDBUS_MGMT_CTL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

/* The answer to {"op": op, "bus": bus, "detail": detail}, or NULL after saying on stderr what is wrong and what to do. */
json_t *mdbus_ctl_ask(const char *op, const char *bus, bool detail);

/*
 * Call each(event, arg) for every event that mdbusd publishes from now on, until it returns false.  Survives mdbusd's
 * restart.  -errno after saying what is wrong.
 */
int mdbus_ctl_follow(bool (*each)(const json_t *event, void *arg), void *arg);

#endif
