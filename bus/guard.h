/* SPDX-License-Identifier: Apache-2.0
 *
 * guard.h - going on when somebody cuts a shared file short.
 *
 * Whoever has a segment open for writing can truncate it, and the next access of everybody else to what is gone is a SIGBUS.
 * No check on attach helps against that.  So programs that must not die of others (lines, mdbusd) guard their mappings:
 * at the fault, the missing page is replaced by zeroes of their own, and they go on with a segment that reads as empty.
 * A fault anywhere else ends the process as ever.
 */
#ifndef MDBUS_GUARD_H
#define MDBUS_GUARD_H

#include <mdbus/lease.h>

#define MDBUS_GUARDED_MAX 32u

/*
 * Guard all mappings of a bus, those to come included, until mdbus_guard_remove.  Installs a handler for SIGBUS: for
 * programs, not for libraries.  0, or -ENOSPC when MDBUS_GUARDED_MAX are guarded.  Not from several threads at once.
 */
int mdbus_guard_add(const struct mdbus_bus *bus);

/* Before the structure goes away. */
void mdbus_guard_remove(const struct mdbus_bus *bus);

/* Pages that had to be replaced so far. */
uint64_t mdbus_guard_count(void);

#endif
