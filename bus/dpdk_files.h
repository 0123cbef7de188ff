/* SPDX-License-Identifier: Apache-2.0
 *
 * dpdk_files.h - what DPDK takes of the host besides a line's arena: files, and memory.
 *
 * A DPDK line's EAL gets the run directory for a place of its own, RUN/dpdk/PREFIX, so nothing of it lies in /var/run/dpdk
 * and two run directories never meet.  It keeps no state there (it is told to share none), and its hugepages have no names,
 * so the line removes the place as soon as EAL runs.  A line killed within those 200 ms leaves it to mdbusd, which
 * reclaims, and to the line's next process.
 */
#ifndef MDBUS_DPDK_FILES_H
#define MDBUS_DPDK_FILES_H

#include <mdbus/abi.h>
#include <stddef.h>

#define MDBUS_DPDK_PREFIX_MAX (2u * MDBUS_NAME_MAX + 8u)

/* Memory that a line's EAL needs for descriptors and the heads of its buffers; from hugepages if so many are free. */
static inline uint64_t mdbus_dpdk_own_bytes(uint32_t frames)
{
	return (UINT64_C(32) << 20) + frames * UINT64_C(512);
}

/* "mdbus-BUS-LINE": the EAL's --file-prefix. Returns buf. */
const char *mdbus_dpdk_prefix(char *buf, size_t len, const char *bus, const char *line);

/*
 * Remove RUN/dpdk/PREFIX and what is in it (NULL: of every prefix), and RUN/dpdk if that is then empty.  Follows no
 * links.  Returns how many files and directories of prefixes went.  Killed inside: some are left; call it again.  Called by
 * mdbusd and by the line's own process; the owner of the prefix must be dead, or be the caller.
 */
uint32_t mdbus_dpdk_files_remove(const char *run, const char *prefix);

#endif
