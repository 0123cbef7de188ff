/* SPDX-License-Identifier: Apache-2.0
 *
 * dpdk_load.h - the dpdk backend, loaded when a line asks for it.
 *
 * DPDK is a hundred libraries whose constructors run before main; a line on another backend shall not pay for them, nor need
 * them installed.  So the backend is a shared object beside the programs, ../lib/mdbus/dpdk.so from where the program is.
 */
#ifndef MDBUS_INGEST_DPDK_LOAD_H
#define MDBUS_INGEST_DPDK_LOAD_H

#include <stddef.h>
#include "backend.h"
#include "feed_tx.h"

/* Load it, once a process, and for good.  NULL with a reason in err if it was not built or does not fit this program. */
const struct mdbus_backend_ops *mdbus_dpdk_load(char *err, size_t errlen);
/* The same for the feeder's way of sending with DPDK. */
const struct mdbus_feed_tx_ops *mdbus_dpdk_load_feed(char *err, size_t errlen);

#endif
