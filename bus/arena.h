/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.h - recovering a line's arena from the rings.
 *
 * The rings are the only truth about frames: a frame is in use if and only if some slot still refers to it.  So nothing
 * has to be written down while a line runs, and whatever a killed process held privately is found again by looking.
 */
#ifndef MDBUS_ARENA_H
#define MDBUS_ARENA_H

#include <mdbus/lease.h>
#include "holds.h"

/*
 * Find every record that refers to line's arena and add it to h, oldest first within each channel.  A reference out of
 * bounds (damaged memory) is skipped.  Returns how many were found.  Called by the line's new process before it lends a
 * frame to anybody.  Writes only private memory.
 */
uint64_t mdbus_arena_scan(const struct mdbus_bus *bus, uint32_t line, struct mdbus_holds *h);

/*
 * Take the marks of a dead line off every ring it wrote: REF|W becomes REF (its inline copy will never be finished), T is
 * cleared (it can no longer scribble).  Called by mdbusd after the process is gone and before the line is lent again.
 * Idempotent.  Killed inside: some marks are left; done again by the next mdbusd.  Returns how many marks were taken off.
 */
uint64_t mdbus_line_reclaim(const struct mdbus_bus *bus, uint32_t line);

#endif
